# pika-server on NixOS: the control plane of managed agents, beside Incus or with one elsewhere.
#
# Owns the unit, its user and its settings. Secrets are files that something else (sops-nix, agenix, systemd-creds) puts on
# the machine: their paths are options, their contents never are, since whatever an option holds is in the store, which
# everybody can read.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.pika-server;
  inherit (lib) mkIf mkOption types;

  settingsFormat = pkgs.formats.toml { };
  configFile = settingsFormat.generate "pika-server.toml" cfg.settings;

  optionalText = description: mkOption {
    type = types.nullOr types.str;
    default = null;
    inherit description;
  };
  secretFile = description: mkOption {
    type = types.nullOr types.str;
    default = null;
    example = "/run/secrets/pika";
    description = "${description} A path on the machine, outside the store.";
  };

  # All of them or none: half of a remote Incus is a mistake.
  remote = {
    inherit (cfg) incusEndpoint incusProject incusProfile incusStoragePool openclawGuestIpv4Cidr openclawProxyHost;
  };
  given = lib.filterAttrs (_: value: value != null) remote;

  # systemd hands these over, readable for the service alone.
  credentials = lib.filterAttrs (_: path: path != null) {
    "incus-client.crt" = cfg.incusClientCertFile;
    "incus-client.key" = cfg.incusClientKeyFile;
    "incus-server.crt" = cfg.incusServerCertFile;
  };
  credential = name: "/run/credentials/pika-server.service/${name}";

  environment = lib.filterAttrs (_: value: value != null) {
    PIKA_SERVER_CONFIG = "${configFile}";
    # The alias follows from the role, unless an image of another name is wanted.
    PIKA_AGENT_INCUS_GUEST_ROLE = cfg.incusGuestRole;
    PIKA_AGENT_INCUS_IMAGE_ALIAS = cfg.incusImageAlias;
    PIKA_AGENT_INCUS_ENDPOINT = cfg.incusEndpoint;
    PIKA_AGENT_INCUS_PROJECT = cfg.incusProject;
    PIKA_AGENT_INCUS_PROFILE = cfg.incusProfile;
    PIKA_AGENT_INCUS_STORAGE_POOL = cfg.incusStoragePool;
    PIKA_AGENT_INCUS_OPENCLAW_GUEST_IPV4_CIDR = cfg.openclawGuestIpv4Cidr;
    PIKA_AGENT_INCUS_OPENCLAW_PROXY_HOST = cfg.openclawProxyHost;
    PIKA_AGENT_INCUS_CLIENT_CERT_PATH = if credentials ? "incus-client.crt" then credential "incus-client.crt" else null;
    PIKA_AGENT_INCUS_CLIENT_KEY_PATH = if credentials ? "incus-client.key" then credential "incus-client.key" else null;
    PIKA_AGENT_INCUS_SERVER_CERT_PATH = if credentials ? "incus-server.crt" then credential "incus-server.crt" else null;
  };

  isSecretInStore = path: path != null && lib.hasPrefix builtins.storeDir (toString path);
  secretFiles = [ cfg.environmentFile cfg.incusClientKeyFile ];
in
{
  options.services.pika-server = {
    enable = lib.mkEnableOption "pika-server, the control plane of managed agents on Incus";

    package = mkOption {
      type = types.package;
      description = "The package with `bin/pika-server`.";
    };

    settings = mkOption {
      type = settingsFormat.type;
      default = { };
      example = { server.listen = "127.0.0.1:8787"; quotas.agents = 3; };
      description = "The server's TOML file, as docs/reference/server.md has it. It is in the store: no secrets.";
    };

    environmentFile = secretFile "Variables with secrets, such as PIKA_SERVER_DATABASE=postgres://….";

    incusGuestRole = mkOption {
      type = types.nullOr (types.enum [ "managed-openclaw" "pikaci-runner" "pi-sandbox" ]);
      default = null;
      description = "Role of the image that agents are made from. The server's own default where absent.";
    };
    incusImageAlias = optionalText "Alias of that image, where it is not the role's own.";
    incusEndpoint = optionalText "Address of an Incus elsewhere. The one of this machine where absent.";
    incusProject = optionalText "Project of agents on that Incus.";
    incusProfile = optionalText "Profile of agents on that Incus.";
    incusStoragePool = optionalText "Pool of agents' volumes on that Incus.";
    openclawGuestIpv4Cidr = optionalText "Network of the guests, as the proxy sees it.";
    openclawProxyHost = optionalText "Host through which guests are reached.";

    incusClientCertFile = secretFile "PEM of the client certificate for that Incus.";
    incusClientKeyFile = secretFile "PEM of that certificate's key.";
    incusServerCertFile = secretFile "PEM of the certificate that the Incus server must have.";
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = given == { } || given == remote;
        message = "services.pika-server: a remote Incus needs incusEndpoint, incusProject, incusProfile, incusStoragePool, "
          + "openclawGuestIpv4Cidr and openclawProxyHost together";
      }
      {
        assertion = (cfg.incusClientCertFile == null) == (cfg.incusClientKeyFile == null);
        message = "services.pika-server: incusClientCertFile and incusClientKeyFile go together";
      }
      {
        assertion = ! lib.any isSecretInStore secretFiles;
        message = "services.pika-server: a secret in the Nix store is everybody's to read; name a file outside it";
      }
    ];

    users.users.pika-server = {
      isSystemUser = true;
      group = "pika-server";
      # Who is in it has all of Incus: nothing else may run as this user.
      extraGroups = [ "incus-admin" ];
    };
    users.groups.pika-server = { };
    users.groups.incus-admin = { };

    systemd.services.pika-server = {
      description = "Control plane of managed agents on Incus";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # Without Incus it starts all the same, and says so at /readyz.
      after = [ "network-online.target" "incus.service" "postgresql.service" ];
      inherit environment;
      serviceConfig = {
        ExecStart = "${cfg.package}/bin/pika-server";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") credentials;
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = cfg.environmentFile;
      } // import ./pika-server-unit.nix;
    };
  };
}
