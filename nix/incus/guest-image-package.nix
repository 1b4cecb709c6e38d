# A function from a role to a package with metadata.tar.xz, disk.qcow2 and README.txt: what `incus image import` takes
# for a virtual machine. nixpkgs is the flake's input (its `outPath` holds the library for disk images).
{ nixpkgs, pkgs, guestBinaries, sourceRevision, contractVersion ? "2" }:
role:
let
  imageSystem = nixpkgs.lib.nixosSystem {
    inherit (role) system;
    inherit (role) modules;
    specialArgs = {
      guestRole = role;
      inherit guestBinaries;
    };
  };
  disk = import (nixpkgs + "/nixos/lib/make-disk-image.nix") {
    inherit pkgs;
    inherit (nixpkgs) lib;
    inherit (imageSystem) config;
    name = "${role.id}-disk";
    format = "qcow2-compressed";
    partitionTableType = "efi";
    diskSize = role.diskSizeMiB;
    copyChannel = false;
  };
  metadata = builtins.toJSON {
    architecture = "x86_64";
    creation_date = 1;
    properties = {
      inherit (role) description;
      os = "nixos";
      "pika.kind" = "image";
      "pika.guest_role" = role.id;
      "pika.contract_version" = contractVersion;
      "pika.source_revision" = sourceRevision;
    };
  };
  readme = ''
    ${role.description}

    Image of the guest role ${role.id} for virtual machines. Import it without touching the alias that is in
    use, look at it, then switch the alias:

      incus image import metadata.tar.xz disk.qcow2
      incus image alias create ${role.alias} FINGERPRINT

    Never import with --reuse: it deletes the image that the alias points at now.
  '';
in
pkgs.runCommand role.packageAttr
{
  inherit metadata readme;
  passAsFile = [ "metadata" "readme" ];
  passthru = { inherit role imageSystem disk; };
} ''
  mkdir -p $out stage
  # JSON is YAML.
  cp $metadataPath stage/metadata.yaml
  tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -C stage -cJf $out/metadata.tar.xz metadata.yaml
  ln -s ${disk}/nixos.qcow2 $out/disk.qcow2
  cp $readmePath $out/README.txt
''
