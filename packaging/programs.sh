# Sourced by packaging/images and packaging/deb: the programs that were built, made
# small, and what they say of themselves.

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Where `cargo build --release` has put the programs (.cargo/config.toml names the target).
programs_folder() {
  printf '%s/target/%s/release\n' "$PWD" "$(rustc -vV | sed -n 's/^host: //p')"
}

# program FOLDER NAME: the program, or the end.
program() {
  [ -x "$1/$2" ] || die "$1/$2 is missing: run cargo build --release --workspace"
  printf '%s/%s\n' "$1" "$2"
}

# Release and commit as the program itself says them, so that a package never says other.
program_version() { "$1" -V | sed -n 's/^[^ ]* \([^ ]*\) (.*)$/\1/p'; }
program_commit() { "$1" -V | sed -n 's/^[^ ]* [^ ]* (\(.*\))$/\1/p'; }

# program_place FROM TO: without its line tables, which are most of it; the names of
# functions stay, so that a panic's backtrace can be read.
program_place() {
  mkdir -p "$(dirname "$2")"
  objcopy --strip-debug "$1" "$2"
  chmod 755 "$2"
}

# program_place_bare FROM TO: without the names of functions too, for an image that customers
# pull. A panic says its file and line by itself; the file of program_debug has all the rest.
program_place_bare() {
  mkdir -p "$(dirname "$2")"
  objcopy --strip-all "$1" "$2"
  chmod 755 "$2"
}

# program_debug FROM TO: the line tables alone, for gdb and addr2line.
program_debug() {
  mkdir -p "$(dirname "$2")"
  objcopy --only-keep-debug --compress-debug-sections "$1" "$2"
  chmod 644 "$2"
}

# probe_place FOLDER TO: the probe's program beside the relay's own, from where the relay hands
# it out (/probe). A relay without it says so on its page, so that it is no reason to stop.
probe_place() {
  if [ -x "$1/sternline-probe" ]; then
    program_place_bare "$1/sternline-probe" "$2"
  else
    printf '%s: %s is missing, and so the relay will hand out none\n' \
      "${0##*/}" "$1/sternline-probe" >&2
  fi
}

# The time of the sources: the same sources give the same packages.
program_time() {
  if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
    printf '%s\n' "$SOURCE_DATE_EPOCH"
  else
    git log -1 --format=%ct 2>/dev/null || date +%s
  fi
}
