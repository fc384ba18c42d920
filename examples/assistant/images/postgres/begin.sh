#!/bin/sh
# Makes the cluster where there is none, and becomes what was asked for. A cluster gets its name
# once it is whole, so that an end in between leaves none.
set -eu
if [ "$1" = postgres ] && [ ! -e "$PGDATA/PG_VERSION" ]; then
  made=$PGDATA.new
  rm -rf "$made"
  initdb --pgdata="$made" --username="$POSTGRES_USER" --pwfile=/run/secrets/db-password \
    --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C >/dev/null
  echo "host all all all scram-sha-256" >>"$made/pg_hba.conf"
  printf "listen_addresses = '*'\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n" \
    >>"$made/postgresql.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\";" |
    postgres --single -j -D "$made" postgres >/dev/null
  mv "$made" "$PGDATA"
fi
exec "$@"
