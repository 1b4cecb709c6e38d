# Stands in for nixpkgs, so that everything of ours can be evaluated without it: each function gives back what it was
# asked for.
rec {
  lib = rec {
    mkDefault = value: value;
    mkForce = value: value;
    mkIf = condition: value: if condition then value else { };
    nixosSystem = { system, modules, specialArgs }: {
      # The modules' own words, one set for each; imports of nixpkgs stay paths.
      config = map
        (module: import module (specialArgs // {
          inherit lib;
          config = { };
          pkgs = legacyPackages.${system};
          modulesPath = "/nixpkgs/nixos/modules";
        }))
        modules;
    };
  };
  legacyPackages.x86_64-linux = {
    runCommand = name: env: script: { type = "derivation"; inherit name env script; };
    rustPlatform.buildRustPackage = arguments: {
      type = "derivation";
      inherit (arguments) pname version cargoBuildFlags;
      outPath = "/nix/store/stub-${arguments.pname}";
    };
  } // builtins.listToAttrs (map
    (name: { inherit name; value = { type = "derivation"; inherit name; }; })
    (builtins.concatMap (role: role.nix_packages)
      (builtins.attrValues (builtins.fromTOML (builtins.readFile ../../images/roles.toml)).roles)));
  outPath = toString ./stub-nixpkgs;
}
