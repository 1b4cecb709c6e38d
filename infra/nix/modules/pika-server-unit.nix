# How the service runs and what it may do: the same words as packaging/systemd/pika-server.service, which a test compares.
{
  Type = "notify";
  WatchdogSec = "60";
  User = "pika-server";
  StateDirectory = "pika-server";
  StateDirectoryMode = "0700";
  UMask = "0077";
  Restart = "on-failure";
  RestartSec = "2";
  TimeoutStopSec = "30";
  KillMode = "mixed";

  NoNewPrivileges = "yes";
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  ProtectSystem = "strict";
  ProtectHome = "yes";
  PrivateTmp = "yes";
  PrivateDevices = "yes";
  ProtectClock = "yes";
  ProtectControlGroups = "yes";
  ProtectHostname = "yes";
  ProtectKernelLogs = "yes";
  ProtectKernelModules = "yes";
  ProtectKernelTunables = "yes";
  ProtectProc = "invisible";
  ProcSubset = "pid";
  LockPersonality = "yes";
  MemoryDenyWriteExecute = "yes";
  RemoveIPC = "yes";
  RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6";
  RestrictNamespaces = "yes";
  RestrictRealtime = "yes";
  RestrictSUIDSGID = "yes";
  SystemCallArchitectures = "native";
  SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
  SystemCallErrorNumber = "EPERM";
}
