#!/usr/bin/env bash
# Create the virtual environment with pinned dependencies; run by the Makefile.
#   VENV        where (default .venv)
#   TORCH_ARGS  extra arguments for pip when it installs torch, e.g. an index of CPU builds
set -euo pipefail
venv=${VENV:-.venv}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }

python=""
for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    die "Python 3.11 or newer is needed and none was found; on Debian/Ubuntu: apt-get install python3 python3-venv"
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Python's venv module is missing: installing it with apt-get"
        apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv
    else
        die "Python's venv module is missing; as root: apt-get install python3-venv"
    fi
fi

say "Setting up $venv (once; about 4 minutes and 2 GB)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
# torch first, by its exact version: asked for by a range it resolves to the newest build and what that drags in
# shellcheck disable=SC2086 # TORCH_ARGS is a list of arguments
pip install ${TORCH_ARGS:-} "$(grep -E '^torch==' constraints.txt)"
pip install --constraint constraints.txt --editable '.[embedded,dev]'
"$venv/bin/python" -m pip --disable-pip-version-check check
