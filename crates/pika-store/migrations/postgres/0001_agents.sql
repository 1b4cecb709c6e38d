-- Times are milliseconds since 1970 UTC. Documents are JSON as text. A column that is NULL says "not yet" or "never".

-- Growing numbers that are given out in the order of commits.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('events', 0);

CREATE TABLE owners (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('tenant', 'operator')),
    agents_max BIGINT NOT NULL,
    vcpu_max BIGINT NOT NULL,
    memory_mib_max BIGINT NOT NULL,
    disk_gib_max BIGINT NOT NULL,
    backups_max BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Owners that may use the API at all; operators need no entry.
CREATE TABLE allow_list (
    owner_id TEXT PRIMARY KEY,
    note TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_at BIGINT NOT NULL
);

-- Bearer tokens, by the SHA-256 of the token.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES owners (id),
    secret_hash TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'operator')),
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);
CREATE INDEX tokens_by_owner ON tokens (owner_id, id);

-- Browser sessions, by the SHA-256 of the cookie.
CREATE TABLE sessions (
    secret_hash TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES owners (id),
    token_id TEXT REFERENCES tokens (id),
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'operator')),
    csrf_token TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Signed requests that were taken, until their time window is over.
CREATE TABLE seen_signatures (
    event_id TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX seen_signatures_by_expiry ON seen_signatures (expires_at);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES owners (id),
    is_default BIGINT NOT NULL CHECK (is_default IN (0, 1)),
    params TEXT NOT NULL,
    project TEXT NOT NULL,
    pool TEXT NOT NULL,
    instance_name TEXT NOT NULL UNIQUE,
    volume_name TEXT NOT NULL,
    vcpu BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    target TEXT NOT NULL CHECK (target IN ('running', 'stopped', 'deleted')),
    generation BIGINT NOT NULL,
    state TEXT NOT NULL,
    startup_phase TEXT NOT NULL,
    reason TEXT,
    stale_since BIGINT,
    restarts BIGINT NOT NULL,
    restart_after BIGINT,
    volume_made_at BIGINT,
    ready_at BIGINT,
    -- Grows with each change of the row.
    revision BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    purge_after BIGINT,
    purged_at BIGINT
);
CREATE UNIQUE INDEX agents_one_default ON agents (owner_id) WHERE is_default = 1 AND target <> 'deleted';
CREATE INDEX agents_by_owner ON agents (owner_id, id);
CREATE INDEX agents_live ON agents (id) WHERE purged_at IS NULL;

CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    owner_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed')),
    position BIGINT NOT NULL,
    step TEXT,
    notes TEXT NOT NULL,
    cancel_requested BIGINT NOT NULL CHECK (cancel_requested IN (0, 1)),
    error TEXT,
    worker TEXT,
    lease_until BIGINT,
    fence BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    requested_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    deadline_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE UNIQUE INDEX operations_one_running ON operations (agent_id) WHERE state = 'running';
CREATE INDEX operations_open ON operations (position) WHERE state IN ('pending', 'running');
CREATE INDEX operations_by_agent ON operations (agent_id, position);

-- What a worker did, a row for each step that was begun.
CREATE TABLE operation_steps (
    operation_id TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    step TEXT NOT NULL,
    fence BIGINT NOT NULL,
    worker TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    PRIMARY KEY (operation_id, ordinal)
);
CREATE UNIQUE INDEX operation_steps_done_once ON operation_steps (operation_id, step) WHERE finished_at IS NOT NULL;

-- What a key of a POST led to. A key belongs to one owner.
CREATE TABLE idempotency_keys (
    owner_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    agent_id TEXT,
    operation_id TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE events (
    id BIGINT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX events_by_agent ON events (agent_id, id);
CREATE INDEX events_by_owner ON events (owner_id, id);

CREATE TABLE backups (
    agent_id TEXT NOT NULL REFERENCES agents (id),
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (agent_id, name)
);

CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('audit', 0);
INSERT INTO counters (name, value) VALUES ('operations', 0);

-- Work that one server of several does at a time.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL,
    fence BIGINT NOT NULL
);
