#!/bin/sh
# Makes what the tests in tests/aws need, in the top folder of the repository: LocalStack in a
# virtual environment of its own (it pins what the project has newer, and takes Python 3.11), and
# AWS's runtime interface client for Lambda in a folder. Usage: setup.sh PYTHON, the interpreter
# that runs the tests.
set -eu
cd "$(dirname "$0")/../.."

tests_python=${1:-.venv/bin/python}
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
is_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

python=
for candidate in python3.11 "$tests_python" python3; do
    if command -v "$candidate" >/dev/null && is_311 "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    say "no Python 3.11 here: the tests on LocalStack will be skipped (install it and try again)"
    exit 0
fi

done_file=.venv-localstack/.setup
if ! cmp -s tests/aws/localstack.txt "$done_file"; then
    say "installing LocalStack into .venv-localstack (a minute the first time)"
    rm -rf .venv-localstack
    "$python" -m venv .venv-localstack
    .venv-localstack/bin/pip install -q --disable-pip-version-check --no-deps \
        -r tests/aws/localstack.txt ./tests/aws/localstack_plugin
    rm -rf tests/aws/localstack_plugin/build tests/aws/localstack_plugin/*.egg-info
    cp tests/aws/localstack.txt "$done_file"
fi

done_file=.lambda-runtime/.setup
if ! cmp -s tests/aws/lambda-runtime.txt "$done_file"; then
    say "installing awslambdaric into .lambda-runtime"
    rm -rf .lambda-runtime
    "$tests_python" -m pip install -q --disable-pip-version-check --no-deps \
        --target .lambda-runtime -r tests/aws/lambda-runtime.txt
    cp tests/aws/lambda-runtime.txt "$done_file"
fi
