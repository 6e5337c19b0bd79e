#!/bin/sh
# Makes what `make lint` and `make test` need of AWS's tools, in the top folder of the repository:
# `.venv-cloud` with SAM and cfn-lint, `.venv-checkov` with checkov (its boto3 is not SAM's).
# Versions are those of infra/aws/sam.txt and infra/aws/checkov.txt. Usage: setup.sh
set -eu
cd "$(dirname "$0")/../.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

python=
for candidate in .venv/bin/python python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "setup: Python 3.11 or newer is needed" >&2; exit 1; }

# install VENV VERSIONS: anew when the versions have changed.
install() {
    if cmp -s "$2" "$1/.setup"; then return; fi
    say "installing $2 into $1 (a minute the first time)"
    rm -rf "$1"
    "$python" -m venv "$1"
    "$1/bin/pip" install -q --disable-pip-version-check --no-deps -r "$2"
    cp "$2" "$1/.setup"
}

install .venv-cloud infra/aws/sam.txt
install .venv-checkov infra/aws/checkov.txt
