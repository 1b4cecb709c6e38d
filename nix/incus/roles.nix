# The guest roles as Nix sees them: one attribute set for each table of images/roles.toml. Needs no nixpkgs, so that
# it can be evaluated and tested anywhere.
let
  registry = builtins.fromTOML (builtins.readFile ../../images/roles.toml);
  modules = {
    managed-openclaw = [ ./base-image.nix ./managed-agent-image.nix ];
    pikaci-runner = [ ./base-image.nix ./pikaci-image.nix ];
    pi-sandbox = [ ./base-image.nix ./pi-sandbox-image.nix ];
  };
  moduleOf = id:
    modules.${id} or (throw "images/roles.toml has the role ${id}, nix/incus/roles.nix has no modules for it");
  mkRole = id: role: {
    inherit id;
    inherit (role) alias description hostname user home binaries managed;
    inherit (registry) guest;
    system = "x86_64-linux";
    packageAttr = role.package_attr;
    legacyPackageAttrs = role.legacy_package_attrs;
    nixPackages = role.nix_packages;
    diskSizeMiB = role.disk_size_gib * 1024;
    modules = moduleOf id;
  };
in
builtins.mapAttrs mkRole registry.roles
