-- What the newest run of the probe with an environment's token found. Times are milliseconds
-- since 1970 (UTC).
CREATE TABLE probe_report (
    environment TEXT PRIMARY KEY REFERENCES environment (id) ON DELETE CASCADE,
    received_at INTEGER NOT NULL,
    -- JSON: verdict, and verdict and causes of each flow.
    summary     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
