#!/usr/bin/env bash
# Builds the images of the example and pushes them: build.sh REGISTRY [TAG ...]
#
# REGISTRY is HOST:PORT or a host with a path; where it asks for a login, `docker login` it
# first. TAG is a release of the product, 1 where none is given; one that ends in `bad` has an
# app that never gets healthy, one that ends in `crash` an app that does not start.
#
# Needs Debian's busybox-static, nginx-light and postgresql-15; as root, what is missing is
# installed. Engines without a bridge will do: nothing is run while an image is built.
set -euo pipefail
cd "$(dirname "$0")"

[ $# -ge 1 ] || {
  echo "usage: build.sh REGISTRY [TAG ...]" >&2
  exit 2
}
REGISTRY=$1
shift
[ $# -gt 0 ] || set -- 1
PG=/usr/lib/postgresql/15
WORK=$(mktemp -d "${TMPDIR:-/tmp}/assistant-images.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
# The builder that every engine has.
export DOCKER_BUILDKIT=0

packages() {
  local missing="" policy=/usr/sbin/policy-rc.d ours=""
  command -v busybox >/dev/null || missing+=" busybox-static"
  [ -x /usr/sbin/nginx ] || missing+=" nginx-light"
  [ -x "$PG/bin/postgres" ] || missing+=" postgresql-15"
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "build.sh: install$missing first" >&2
    exit 1
  fi
  # Their services are not wanted.
  if [ ! -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  # shellcheck disable=SC2086 # one package a word
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing \
    >"$WORK/apt.log" 2>&1 || {
    tail -n 5 "$WORK/apt.log" >&2
    exit 1
  }
  [ -z "$ours" ] || rm -f "$policy"
}

# A folder with a shell in it.
rootfs() {
  local root=$1 name
  mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/run"
  chmod 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for name in $(busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "$root/bin/$name"
  done
  printf 'root:x:0:0::/:/bin/sh\npostgres:x:70:70::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' \
    >"$root/etc/passwd"
  printf 'root:x:0:\npostgres:x:70:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# Programs with the libraries that they name: with_libraries ROOT PROGRAM ...
with_libraries() {
  local root=$1 library
  shift
  for library in $(ldd "$@" | grep -o '/[^ :]*\.so[^ :]*' | sort -u); do
    mkdir -p "$root$(dirname "$library")"
    cp -Ln "$library" "$root$library"
  done
}

publish() {
  local folder=$1 image=$REGISTRY/assistant/$2
  shift 2
  docker build --tag "$image" "$@" "$folder" >"$WORK/log" 2>&1 &&
    docker push --quiet "$image" 2>>"$WORK/log" && return 0
  tail -n 5 "$WORK/log" >&2
  echo "build.sh: $image is not built or not pushed: see above" >&2
  exit 1
}

nginx_image() {
  local at=$WORK/nginx
  cp -r nginx "$at"
  rootfs "$at/rootfs"
  mkdir -p "$at"/rootfs/{usr/sbin,etc/nginx/conf.d,var/log/nginx,var/lib/nginx,usr/share/nginx}
  cp /usr/sbin/nginx "$at/rootfs/usr/sbin/"
  cp /etc/nginx/mime.types "$at/rootfs/etc/nginx/"
  with_libraries "$at/rootfs" /usr/sbin/nginx
  publish "$at" nginx:1
}

postgres_image() {
  local at=$WORK/postgres root=$WORK/postgres/rootfs programs
  cp -r postgres "$at"
  rootfs "$root"
  mkdir -p "$at/empty" "$root$PG" "$root/usr/share/postgresql" "$root/usr/share/zoneinfo"
  programs=$(printf "$PG/bin/%s " initdb postgres pg_ctl pg_isready psql)
  mkdir -p "$root$PG/bin" "$root$PG/lib"
  # shellcheck disable=SC2086 # one program a word
  cp $programs "$root$PG/bin/"
  # Without the compiler to machine code, which would be a hundred megabytes more.
  cp "$PG"/lib/{plpgsql,dict_snowball}.so "$root$PG/lib/"
  cp -r /usr/share/postgresql/15 "$root/usr/share/postgresql/"
  cp -L /usr/share/zoneinfo/UTC "$root/usr/share/zoneinfo/UTC"
  ln -s 15/bin "$root/usr/lib/postgresql/bin"
  # shellcheck disable=SC2086
  with_libraries "$root" $programs "$PG"/lib/{plpgsql,dict_snowball}.so
  publish "$at" postgres:15
}

migrate_image() {
  local tag=$1 at=$WORK/migrate-$1
  cp -r migrate "$at"
  rootfs "$at/rootfs"
  mkdir -p "$at/rootfs$PG/bin"
  cp "$PG/bin/psql" "$at/rootfs$PG/bin/"
  ln -s 15/bin "$at/rootfs/usr/lib/postgresql/bin"
  with_libraries "$at/rootfs" "$PG/bin/psql"
  echo "$tag" >"$at/version"
  publish "$at" "migrate:$tag"
}

# stand_in NAME TAG PORT [STORAGE]
stand_in() {
  local at=$WORK/$1-$2
  cp -r stand-in "$at"
  rootfs "$at/rootfs"
  echo "$2" >"$at/version"
  publish "$at" "$1:$2" --build-arg "NAME=$1" --build-arg "PORT=$3" --build-arg "STORAGE=${4:-}"
}

packages
nginx_image
postgres_image
stand_in qdrant 1 6333 /qdrant/storage
stand_in qdrant 2 6333 /qdrant/storage
stand_in n8n 1 5678 /home/node/.n8n
for tag in "$@"; do
  migrate_image "$tag"
  stand_in app "$tag" 8080
  stand_in worker "$tag" 8081
done
