-- A row of each table as version 1 has them.
INSERT INTO owners VALUES ('o1', 'one', 'tenant', 2, 8, 8192, 64, 3, 1);
INSERT INTO allow_list VALUES ('o1', 'asked', 'boss', 2);
INSERT INTO tokens VALUES ('t1', 'o1', 'hash-of-t1', 'write', 'a laptop', 3, NULL, NULL, 4);
INSERT INTO sessions VALUES ('s1', 'o1', 't1', 'read', 'csrf', 5, 1000);
INSERT INTO seen_signatures VALUES ('e1', 1000);
INSERT INTO agents VALUES ('a1', 'o1', 1, '{{PARAMS}}', 'default', 'pool', 'pika-agent-a1', 'pika-agent-a1-state', 2, 1024,
    16, 'running', 1, 'ready', 'ready', NULL, NULL, 0, NULL, 12, 13, 4, 14, 10, NULL, NULL, NULL);
INSERT INTO operations VALUES ('p1', 'a1', 'o1', 'create', '{}', 'succeeded', 1, 'await_ready', '{"n":1}', 0, NULL, NULL,
    NULL, 1, 10, 'o1', 10, 11, 900, 13);
INSERT INTO operations VALUES ('p2', 'a1', 'o1', 'restart', '{}', 'running', 2, 'stop', '{}', 1, NULL, 'w1', 50, 3, 20, 'o1',
    20, 21, 900, NULL);
INSERT INTO operation_steps VALUES ('p1', 1, 'ensure_volume', 1, 'w1', 11, 12);
INSERT INTO idempotency_keys VALUES ('o1', 'k1', 'body', 'a1', 'p1', 10);
INSERT INTO events VALUES (1, 'a1', 'o1', 10, 'operation_requested', '{"operation_id":"p1"}');
INSERT INTO backups VALUES ('a1', 'b1', 'requested', 15);
INSERT INTO audit VALUES (1, 1, 'server', 'owner_created', 'o1', 'role tenant');
INSERT INTO leases VALUES ('look', 'server-1', 60, 2);
UPDATE counters SET value = 1 WHERE name IN ('events', 'audit');
UPDATE counters SET value = 2 WHERE name = 'operations';
