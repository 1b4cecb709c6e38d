# An operator's own machine: SSH with keys only, no product daemon.
{ guestRole, ... }:
{
  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      PermitRootLogin = "no";
    };
  };
  users.users.${guestRole.user}.extraGroups = [ "wheel" ];
  security.sudo.wheelNeedsPassword = false;
}
