# Sourced by ./test and ./demo: sees to it that a Docker Engine answers.
#
# An engine that already answers is used as it is, at DOCKER_HOST or at the usual
# socket. Otherwise, as root, one of our own is started in a folder of its own,
# without a bridge and without firewall rules, so that stopping it leaves nothing
# behind. Sets DOCKER_HOST for it; ENGINE_WHY says why there is none.

ENGINE_WHY=""
ENGINE_PID=""
ENGINE_DIR=""

# Packages of this Debian whose command is missing: command=package pairs.
packages_missing() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || [ -e "/usr/sbin/${pair%%=*}" ] || echo "${pair#*=}"
  done | sort -u
}

# Installs packages with apt; LOG gets apt's own words.
packages_install() {
  local log=$1
  shift
  export DEBIAN_FRONTEND=noninteractive
  # A package list that is there already is tried first: an update costs more
  # than the packages.
  apt-get install -qy --no-install-recommends "$@" >"$log" 2>&1 && return 0
  apt-get update -q >"$log" 2>&1 || return 1
  apt-get install -qy --no-install-recommends "$@" >>"$log" 2>&1
}

# The same, without starting services that the packages bring: Debian's invoke-rc.d
# asks policy-rc.d, where 101 is "no".
packages_install_quietly() {
  local policy=/usr/sbin/policy-rc.d ours="" status=0
  if [ ! -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  packages_install "$@" || status=$?
  [ -z "$ours" ] || rm -f "$policy"
  return "$status"
}

engine_answers() {
  command -v docker >/dev/null 2>&1 || return 1
  if timeout 20 docker version >/dev/null 2>&1; then
    return 0
  fi
  # A second engine would take the first one's bridge away, so the usual socket is
  # asked even where DOCKER_HOST leads elsewhere.
  if [ -n "${DOCKER_HOST:-}" ] && [ -S /var/run/docker.sock ] &&
    DOCKER_HOST=unix:///var/run/docker.sock timeout 20 docker version >/dev/null 2>&1; then
    export DOCKER_HOST=unix:///var/run/docker.sock
    return 0
  fi
  return 1
}

engine_packages() {
  packages_missing docker=docker.io dockerd=docker.io busybox=busybox-static
  # dockerd cannot start a container on an AppArmor kernel without the parser.
  if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
    packages_missing apparmor_parser=apparmor
  fi
}

# Starts an engine in folder $1 where none answers. The caller stops it with
# engine_stop.
engine_start() {
  local dir=$1 driver tries
  if engine_answers; then
    return 0
  fi
  if [ "$(id -u)" != 0 ]; then
    ENGINE_WHY="no Docker Engine answers, and only root may start one"
    return 1
  fi
  if [ ! -x "$(command -v dockerd || echo /usr/sbin/dockerd)" ]; then
    ENGINE_WHY="no Docker Engine answers, and dockerd is not installed"
    return 1
  fi
  ENGINE_DIR=$dir
  mkdir -p "$dir"
  for driver in overlay2 vfs; do
    PATH=$PATH:/usr/sbin:/sbin dockerd --data-root "$dir/data-$driver" --exec-root "$dir/exec" \
      --pidfile "$dir/pid" --host "unix://$dir/docker.sock" --storage-driver "$driver" \
      --bridge none --iptables=false --ip6tables=false >"$dir/dockerd.log" 2>&1 </dev/null &
    ENGINE_PID=$!
    for tries in $(seq 150); do
      if [ -S "$dir/docker.sock" ] &&
        DOCKER_HOST="unix://$dir/docker.sock" timeout 20 docker version >/dev/null 2>&1; then
        export DOCKER_HOST="unix://$dir/docker.sock"
        return 0
      fi
      kill -0 "$ENGINE_PID" 2>/dev/null || break
      sleep 0.2
    done
    engine_kill
  done
  ENGINE_WHY="dockerd does not start: $(tail -n 1 "$dir/dockerd.log" 2>/dev/null | cut -c 1-300)"
  return 1
}

engine_kill() {
  local tries
  [ -n "$ENGINE_PID" ] || return 0
  kill "$ENGINE_PID" 2>/dev/null || true
  for tries in $(seq 100); do
    kill -0 "$ENGINE_PID" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$ENGINE_PID" 2>/dev/null || true
  wait "$ENGINE_PID" 2>/dev/null || true
  ENGINE_PID=""
}

# Stops the engine that engine_start started, with its containers and files.
engine_stop() {
  local containers
  [ -n "$ENGINE_PID" ] || return 0
  containers=$(timeout 20 docker ps -aq 2>/dev/null || true)
  if [ -n "$containers" ]; then
    # shellcheck disable=SC2086 # one id a word
    timeout 60 docker rm -f $containers >/dev/null 2>&1 || true
  fi
  engine_kill
  # A mount left behind would keep the folder from being removed.
  awk -v dir="$ENGINE_DIR/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount -l "$mount" 2>/dev/null || true; done
  rm -rf "$ENGINE_DIR"
}
