# What every guest image has: a boot under Incus, network by DHCP, the guest's user, mount points and programs.
# /run/current-system/sw/bin is NixOS's own; nothing needs to be made at boot for it.
{ lib, pkgs, modulesPath, guestRole, guestBinaries, ... }:
let
  inherit (guestRole) guest;
  ownedByUser = [ guest.cargo_home guest.cargo_target_dir guest.agent_state_path ];
  ownedByRoot = [ guest.workspace_deps_path guest.workspace_build_path ];
  # Two programs can make the state directory; each role has one of them.
  stateDirPrograms =
    builtins.filter (name: builtins.elem name [ "pikaci-incus-run" "pika-cloud-lifecycle" ]) guestRole.binaries;
  directory = owner: path: "d ${path} 0755 ${owner} ${owner} -";
  # Made where it is missing, and otherwise left as it is: an overlay that the job owns may lie over it by then.
  directoryIfMissing = path: "d ${path} - - - -";
in
{
  imports = [ "${modulesPath}/virtualisation/incus-virtual-machine.nix" ];

  networking = {
    hostName = lib.mkDefault guestRole.hostname;
    useDHCP = lib.mkDefault true;
    useNetworkd = true;
    firewall.enable = lib.mkDefault false;
  };
  systemd.network.wait-online.enable = false;
  services.journald.storage = "volatile";

  users.groups.${guestRole.user}.gid = guest.gid;
  users.users.${guestRole.user} = {
    isNormalUser = true;
    inherit (guest) uid;
    group = guestRole.user;
    home = guestRole.home;
  };

  environment.systemPackages =
    [ guestBinaries ] ++ map (name: pkgs.${name}) guestRole.nixPackages;

  systemd.tmpfiles.rules =
    [ (directoryIfMissing guest.snapshot_path) ]
    ++ map (directory "root") ownedByRoot
    ++ map (directory (toString guest.uid)) ownedByUser;

  # The bind of this boot's directory on the root disk; programs make it themselves when they come first.
  systemd.services.pika-state-dir = lib.mkIf (stateDirPrograms != [ ]) {
    description = "State directory of the guest contract";
    wantedBy = [ "sysinit.target" ];
    before = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${guestBinaries}/bin/${builtins.head stateDirPrograms} state-dir --prune";
    };
  };

  documentation.enable = false;
  nix.enable = false;
  system.stateVersion = "25.11";
}
