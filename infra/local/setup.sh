#!/bin/sh
# Installs what the stack needs on one machine: Debian packages where they are missing, and a
# virtual environment. Usage: setup.sh VENV EXTRAS [TORCH_INDEX]
set -eu

venv=$1
extras=$2
torch_index=${3:-}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else fail "this needs root: run \`$*\` as root, then try again"
    fi
}

apt_install() {
    command -v apt-get >/dev/null || fail "install $* with this system's package manager, then try again"
    say "installing $* (apt-get)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        >/dev/null
}

apt_update() {
    command -v apt-get >/dev/null || return 0
    [ -n "${apt_updated:-}" ] || as_root apt-get update -qq
    apt_updated=1
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
}

has_postgis() {
    [ -n "${MLOPS_DATABASE_URL:-}" ] && return
    [ -n "${MLOPS_PG_BIN:-}" ] && return
    for binaries in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin; do
        [ -x "$binaries/initdb" ] || continue
        version=$(basename "$(dirname "$binaries")")
        for share in "/usr/share/postgresql/$version" \
            "$("$binaries/pg_config" --sharedir 2>/dev/null || true)"; do
            [ -f "$share/extension/postgis.control" ] && return
        done
    done
    return 1
}

python=$(find_python)
if [ -z "$python" ]; then
    apt_update
    apt_install python3
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or newer is needed; this system's python3 is older"
fi

if ! has_postgis; then
    apt_update
    if command -v apt-cache >/dev/null; then
        package=$(apt-cache search --names-only '^postgresql-[0-9]+-postgis-3$' |
            sed 's/ .*//' | sort -t- -k2 -n | tail -n 1)
        [ -n "$package" ] || fail "no PostGIS package was found; set MLOPS_DATABASE_URL instead"
        apt_install "${package%-postgis-3}" "$package"
    else
        fail "PostgreSQL with PostGIS is needed: \`brew install postgresql postgis\` on macOS"
    fi
fi

if [ ! -x "$venv/bin/pip" ]; then
    say "making $venv with $($python --version)"
    if ! "$python" -m venv "$venv" 2>/dev/null || [ ! -x "$venv/bin/pip" ]; then
        rm -rf "$venv"
        apt_update
        apt_install "$(basename "$(readlink -f "$(command -v "$python")")")-venv"
        "$python" -m venv "$venv"
    fi
fi

if [ -n "$torch_index" ]; then
    say "installing PyTorch from $torch_index"
    "$venv/bin/pip" install -q --disable-pip-version-check -c constraints.txt torch \
        --index-url "$torch_index"
fi
say "installing stac-mlops[$extras] (a few minutes the first time)"
"$venv/bin/pip" install -q --disable-pip-version-check -c constraints.txt -e ".[$extras]"
