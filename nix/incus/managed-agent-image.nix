# The managed agent: no log-in and no way to become root. Its service is started through the guest contract once the
# volume at the agent's state path is there.
{ lib, ... }:
{
  services.openssh.enable = lib.mkForce false;
  security.sudo.enable = lib.mkForce false;
}
