# Shared by the scripts beside it: what the machine needs, and where builds go.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: containers, network and mounts need it.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages COMMAND_OR_FILE=PACKAGE...: installs the packages whose command or file is missing.
need_packages() {
    local pair thing package missing=()
    for pair in "$@"; do
        thing=${pair%%=*} package=${pair#*=}
        case $thing in
            /*) [ -e "$thing" ] || missing+=("$package") ;;
            *) command -v "$thing" >/dev/null 2>&1 || missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    say "Installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

need_rust() {
    command -v cargo >/dev/null 2>&1 && return
    need_packages rustup=rustup
    rustup default stable
}

# What building takes.
need_build() {
    need_packages cc=gcc pkg-config=pkg-config protoc=protobuf-compiler \
        "/usr/include/seccomp.h=libseccomp-dev" "/usr/include/google/protobuf/any.proto=libprotobuf-dev"
    need_rust
}
