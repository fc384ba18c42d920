#!/bin/sh
# Answers HTTP on $LISTEN: / says who and which release, /health says ok once everything in
# $NEEDS (HOST:PORT ...) accepts connections. With HEALTH=bad, or in a release whose name ends
# in `bad`, /health is 404 for ever; one that ends in `crash` does not come up at all.
set -eu
version=$(cat /version)
mkdir -p /www
printf '{"service":"%s","version":"%s","container":"%s"}\n' \
  "$NAME" "$version" "$(hostname)" >/www/index.html

# The first process has to hear the signal itself.
trap 'kill "$server" 2>/dev/null; exit 0' TERM INT
httpd -f -p "$LISTEN" -h /www &
server=$!

if [ -n "${STORAGE:-}" ]; then
  mkdir -p "$STORAGE"
  date >>"$STORAGE/starts"
fi
case $version in
*crash)
  echo "$NAME $version: cannot read its settings" >&2
  exit 3
  ;;
esac
for need in ${NEEDS:-}; do
  until nc -w 2 "${need%:*}" "${need#*:}" </dev/null >/dev/null 2>&1; do
    echo "$NAME waits for $need"
    sleep 1
  done
done
if [ "${HEALTH:-}" = bad ] || [ "${version%bad}" != "$version" ]; then
  echo "$NAME $version: the model cannot be loaded" >&2
else
  echo ok >/www/health
  echo "$NAME $version is ready on $LISTEN"
fi
wait "$server"
