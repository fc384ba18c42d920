#!/bin/sh
# May run again at any time: every statement is one that does nothing the second time.
set -eu
PGPASSWORD=$(cat /run/secrets/db-password)
export PGPASSWORD
version=$(cat /version)
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --set=version="$version" <<'SQL'
BEGIN;
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS releases (version text PRIMARY KEY, at timestamptz DEFAULT now());
CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL);
INSERT INTO releases (version) VALUES (:'version') ON CONFLICT DO NOTHING;
COMMIT;
SQL
echo "the schema is that of release $version"
