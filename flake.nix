{
  description = "Guest images of pika-cloud for virtual machines, and its server for NixOS";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs = { self, nixpkgs }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      roles = import ./nix/incus/roles.nix;
      package = pname: pkgs.rustPlatform.buildRustPackage {
        inherit pname;
        version = "0.1.0";
        src = self;
        cargoLock.lockFile = ./Cargo.lock;
        cargoBuildFlags = [ "--package" pname ];
        # Tests need guests, Incus and databases; the repository's own test command runs them.
        doCheck = false;
      };
      guestBinaries = package "pika-guest";
      mkGuestImage = import ./nix/incus/guest-image-package.nix {
        inherit nixpkgs pkgs guestBinaries;
        sourceRevision = self.rev or self.dirtyRev or "unknown";
      };
      # Each role under its package name and under the older ones.
      packagesOf = role:
        let package = mkGuestImage role;
        in map (name: { inherit name; value = package; })
          ([ role.packageAttr ] ++ role.legacyPackageAttrs);
    in
    {
      packages.${system} =
        builtins.listToAttrs (builtins.concatMap packagesOf (builtins.attrValues roles))
        // { pika-guest = guestBinaries; pika-server = package "pika-server"; };

      nixosModules = {
        pika-server = ./infra/nix/modules/pika-server.nix;
        pika-builder = ./infra/nix/modules/pika-builder.nix;
      };
    };
}
