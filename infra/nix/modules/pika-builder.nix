# A machine that builds images of guests with Nix, for others too: flakes, space for disks, and a user whose key may build.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.pika-builder;
  inherit (lib) mkIf mkOption types;
in
{
  options.services.pika-builder = {
    enable = lib.mkEnableOption "building guest images of pika-cloud on this machine";
    authorizedKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "SSH keys (the public halves) that may build here.";
    };
    maxJobs = mkOption {
      type = types.ints.positive;
      default = 2;
      description = "Builds at a time: each image of a virtual machine takes a disk of 16 GiB and a core.";
    };
    minFreeGiB = mkOption {
      type = types.ints.positive;
      default = 20;
      description = "Free space, in GiB, below which old results are removed.";
    };
  };

  config = mkIf cfg.enable {
    nix.settings = {
      experimental-features = [ "nix-command" "flakes" ];
      max-jobs = cfg.maxJobs;
      trusted-users = [ "pika-builder" ];
      min-free = cfg.minFreeGiB * 1024 * 1024 * 1024;
      # Disks of virtual machines are made in one.
      system-features = [ "kvm" "nixos-test" "big-parallel" "benchmark" ];
    };
    users.users.pika-builder = {
      isNormalUser = true;
      group = "pika-builder";
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
      extraGroups = [ "kvm" ];
    };
    users.groups.pika-builder = { };
    services.openssh.enable = true;
    environment.systemPackages = [ pkgs.git ];
  };
}
