# The CI runner: nothing runs until the host starts a job through pikaci-incus-run.
{ lib, ... }:
{
  # A job is one program in a throw-away guest; no log-ins, no timers.
  services.openssh.enable = lib.mkForce false;
  systemd.timers = {
    fstrim.enable = lib.mkDefault false;
    systemd-tmpfiles-clean.enable = lib.mkDefault false;
  };
}
