-- Times are milliseconds since 1970 (UTC). Ids are the text that people see.
-- Secrets are kept as SHA-256 only.

CREATE TABLE relay (
    -- One row: how often this relay has started; the upper half of every epoch.
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    generation  INTEGER NOT NULL
) STRICT;

INSERT INTO relay (id, generation) VALUES (1, 0);

CREATE TABLE customer (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

INSERT INTO customer (id, name, created_at) VALUES ('default', 'default', 0);

CREATE TABLE environment (
    id          TEXT PRIMARY KEY,
    customer    TEXT NOT NULL REFERENCES customer (id),
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (customer, name)
) STRICT;

CREATE TABLE environment_tag (
    environment TEXT NOT NULL REFERENCES environment (id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (environment, key)
) STRICT, WITHOUT ROWID;

-- One agent an environment: enrolling again replaces it.
CREATE TABLE agent (
    id            TEXT PRIMARY KEY,
    environment   TEXT NOT NULL UNIQUE REFERENCES environment (id) ON DELETE CASCADE,
    public_key    BLOB NOT NULL CHECK (length(public_key) = 32),
    enrolled_at   INTEGER NOT NULL,
    -- The highest start counter seen and the instance that showed it; an agent
    -- released from a hold has neither, and the next one to come is believed.
    start_counter INTEGER NOT NULL,
    instance      BLOB CHECK (instance IS NULL OR length(instance) = 16),
    copied_since  INTEGER
) STRICT;

CREATE TABLE enrolment_token (
    hash        BLOB PRIMARY KEY CHECK (length(hash) = 32),
    environment TEXT NOT NULL REFERENCES environment (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    used_at     INTEGER,
    -- Who used it; no reference, so that a replaced agent's token stays used.
    agent       TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX enrolment_token_environment ON enrolment_token (environment);

CREATE TABLE api_token (
    hash        BLOB PRIMARY KEY CHECK (length(hash) = 32),
    customer    TEXT NOT NULL REFERENCES customer (id),
    name        TEXT NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE exposure (
    id          TEXT PRIMARY KEY,
    environment TEXT NOT NULL REFERENCES environment (id) ON DELETE CASCADE,
    target      TEXT NOT NULL,
    listen      TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX exposure_environment ON exposure (environment);
