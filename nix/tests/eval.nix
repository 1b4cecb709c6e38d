# Everything that can be said about the flake without nixpkgs, as one value. Evaluated by the tests of pika-image:
#   nix-instantiate --eval --strict --json nix/tests/eval.nix
let
  nixpkgs = import ./stub.nix;
  outputs = (import ../../flake.nix).outputs {
    self = { rev = "0123"; outPath = toString ../..; };
    inherit nixpkgs;
  };
  packages = outputs.packages.x86_64-linux;
  describe = name:
    let package = packages.${name};
    in {
      inherit (package) name;
      metadata = builtins.fromJSON package.env.metadata;
      disk = { inherit (package.env.passthru.disk) name format diskSize; };
      inherit (package.env) readme;
      inherit (package) script;
      config = package.env.passthru.imageSystem.config;
    };
  images = builtins.filter (name: ! builtins.elem name [ "pika-guest" "pika-server" ]) (builtins.attrNames packages);
in
{
  roles = builtins.mapAttrs (_: role: removeAttrs role [ "modules" "guest" ]) (import ../incus/roles.nix);
  packages = builtins.attrNames packages;
  modules = builtins.mapAttrs (_: builtins.pathExists) outputs.nixosModules;
  images = builtins.listToAttrs (map (name: { inherit name; value = describe name; }) images);
}
