# The server's NixOS module and its example host, as values, without nixpkgs. Evaluated by the tests of pika-server:
#   nix-instantiate --eval --strict --json nix/tests/server.nix
# Stands in for the module system only as far as these modules use it: options give their defaults, nothing checks types.
let
  lib = rec {
    mkOption = option: option;
    mkEnableOption = _: { default = false; };
    mkIf = condition: value: if condition then value else { };
    filterAttrs = keep: set:
      removeAttrs set (builtins.filter (name: ! keep name set.${name}) (builtins.attrNames set));
    mapAttrsToList = function: set: map (name: function name set.${name}) (builtins.attrNames set);
    optionalAttrs = condition: set: if condition then set else { };
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    any = builtins.any;
    types = {
      nullOr = _: null;
      enum = _: null;
      listOf = _: null;
      str = null;
      package = null;
      ints.positive = null;
    };
  };
  pkgs = {
    git = "git";
    formats.toml = _: { type = null; generate = name: value: "/generated/${name}"; };
  };
  defaults = options: builtins.mapAttrs (_: option: option.default or null) options;

  # What the module makes of these settings.
  server = given:
    let
      call = config: import ../../infra/nix/modules/pika-server.nix { inherit config lib pkgs; };
      options = (call { services.pika-server = { }; }).options.services.pika-server;
      module = call { services.pika-server = defaults options // { enable = true; package = "/pika"; } // given; };
      service = module.config.systemd.services.pika-server;
    in
    {
      inherit (service) environment serviceConfig;
      inherit (module.config) users;
      refused = map (assertion: assertion.message)
        (builtins.filter (assertion: ! assertion.assertion) module.config.assertions);
    };

  host = import ../../infra/nix/hosts/pika-server.nix {
    config.services.pika-server.settings.server.listen = "127.0.0.1:8787";
    pika-cloud.pika-server = "/pika";
  };
  builder = import ../../infra/nix/modules/pika-builder.nix {
    inherit lib pkgs;
    config.services.pika-builder = { enable = true; authorizedKeys = [ "key" ]; maxJobs = 1; minFreeGiB = 1; };
  };
in
{
  plain = server { };
  role = server { incusGuestRole = "managed-openclaw"; };
  alias = server { incusImageAlias = "own/image"; };
  half = server { incusEndpoint = "https://incus.example:8443"; };
  whole = server {
    incusEndpoint = "https://incus.example:8443";
    incusProject = "agents";
    incusProfile = "agents";
    incusStoragePool = "default";
    openclawGuestIpv4Cidr = "10.1.0.0/16";
    openclawProxyHost = "proxy.example";
    incusClientCertFile = "/run/secrets/client.crt";
    incusClientKeyFile = "/run/secrets/client.key";
    environmentFile = "/run/secrets/pika-server.env";
  };
  inStore = server { environmentFile = "${builtins.storeDir}/0123-secret"; };
  halfAKeyPair = server { incusClientKeyFile = "/run/secrets/client.key"; };
  host = server host.services.pika-server;
  hostSettings = host.services.pika-server.settings;
  builder = builder.config.nix.settings;
}
