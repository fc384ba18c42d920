-- Stacks: what shall run where. Times are milliseconds since 1970 (UTC). What is called
-- `sealed` is AES-256-GCM under the relay's `seal.key`.

-- Files of releases, by the digest of what is in them.
CREATE TABLE blob (
    customer    TEXT NOT NULL REFERENCES customer (id),
    digest      TEXT NOT NULL,
    size        INTEGER NOT NULL,
    sealed      BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (customer, digest)
) STRICT;

-- Never changed once written, and the same content is the same release.
CREATE TABLE release (
    customer    TEXT NOT NULL REFERENCES customer (id),
    stack       TEXT NOT NULL,
    number      INTEGER NOT NULL,
    digest      TEXT NOT NULL,
    manifest    TEXT NOT NULL,
    author      TEXT NOT NULL,
    note        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (customer, stack, number),
    UNIQUE (customer, stack, digest)
) STRICT, WITHOUT ROWID;

-- What image references of a release stand for: the first that was found stays.
CREATE TABLE release_pin (
    customer    TEXT NOT NULL,
    stack       TEXT NOT NULL,
    number      INTEGER NOT NULL,
    image       TEXT NOT NULL,
    digest      TEXT NOT NULL,
    PRIMARY KEY (customer, stack, number, image),
    FOREIGN KEY (customer, stack, number) REFERENCES release (customer, stack, number)
) STRICT, WITHOUT ROWID;

-- What an environment shall run of a stack: the highest number counts, the others are
-- its history. Content is kept for that one alone.
CREATE TABLE assignment (
    environment TEXT NOT NULL REFERENCES environment (id) ON DELETE CASCADE,
    stack       TEXT NOT NULL,
    number      INTEGER NOT NULL,
    -- None: nothing shall run.
    release     INTEGER,
    fingerprint TEXT NOT NULL,
    sealed      BLOB,
    author      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    deadline_seconds INTEGER NOT NULL,
    -- What became of it, once that is known.
    phase       TEXT,
    cause       TEXT,
    settled_at  INTEGER,
    PRIMARY KEY (environment, stack, number)
) STRICT;

-- Values for Compose files: of all stacks, of an environment's, of one stack.
CREATE TABLE variable (
    customer    TEXT NOT NULL REFERENCES customer (id),
    -- Empty, or whose it is.
    environment TEXT REFERENCES environment (id) ON DELETE CASCADE,
    stack       TEXT,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    is_secret   INTEGER NOT NULL,
    is_required INTEGER NOT NULL,
    sealed      BLOB,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX variable_place
    ON variable (customer, ifnull(environment, ''), ifnull(stack, ''), name);

CREATE TABLE registry_login (
    customer    TEXT NOT NULL REFERENCES customer (id),
    host        TEXT NOT NULL,
    account     TEXT NOT NULL,
    sealed      BLOB NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (customer, host)
) STRICT, WITHOUT ROWID;

-- Commands that were done, by the key their asker gave them: asked again, they answer again.
CREATE TABLE done_command (
    customer    TEXT NOT NULL REFERENCES customer (id),
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer      TEXT NOT NULL,
    done_at     INTEGER NOT NULL,
    PRIMARY KEY (customer, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX done_command_age ON done_command (done_at);
