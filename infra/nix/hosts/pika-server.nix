# An example host: Incus, the server of managed agents beside it, and a proxy that ends TLS.
{ config, pika-cloud, ... }:
{
  imports = [ ../modules/pika-server.nix ../modules/pika-builder.nix ];

  virtualisation.incus.enable = true;
  networking.nftables.enable = true;
  networking.firewall.allowedTCPPorts = [ 80 443 ];

  services.pika-server = {
    enable = true;
    package = pika-cloud.pika-server;
    # The image's alias follows from it.
    incusGuestRole = "managed-openclaw";
    # Made by sops-nix or agenix, for root alone; systemd reads it:
    #   PIKA_SERVER_DATABASE=postgres://pika:…@db.internal/pika
    environmentFile = "/run/secrets/pika-server.env";
    settings = {
      server = {
        listen = "127.0.0.1:8787";
        metrics_listen = "127.0.0.1:9787";
        external_url = "https://agents.example";
        log_json = true;
      };
      snapshots = { schedule = "@daily"; expiry = "7d"; };
    };
  };

  services.pika-builder.enable = true;

  security.acme = { acceptTerms = true; defaults.email = "operator@agents.example"; };
  services.nginx = {
    enable = true;
    virtualHosts."agents.example" = {
      forceSSL = true;
      enableACME = true;
      locations."/" = {
        proxyPass = "http://${config.services.pika-server.settings.server.listen}";
        # Commands in guests and streams of events.
        proxyWebsockets = true;
        extraConfig = "proxy_buffering off; proxy_read_timeout 1h;";
      };
    };
  };

  system.stateVersion = "25.11";
}
