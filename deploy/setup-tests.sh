#!/usr/bin/env bash
# Install what only tests need, where it is missing; run by the Makefile (`make test`).
# Where it can't be installed this says so and ends well: the tests that want it are skipped, with a reason.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=deploy/apt.sh disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/apt.sh"

declare -A packages=([sshd]=openssh-server [ssh]=openssh-client [ip]=iproute2 [shellcheck]=shellcheck [node]=nodejs
    [openssl]=openssl [setpriv]=util-linux [systemd-analyze]=systemd [cc]="gcc libc6-dev")
missing=() wanted=()
for program in "${!packages[@]}"; do
    # shellcheck disable=SC2206 # a program may take several packages
    command -v "$program" >/dev/null || { missing+=("$program"); wanted+=(${packages[$program]}); }
done
[ ${#missing[@]} -gt 0 ] || exit 0

if can_install; then
    say "${missing[*]} missing: installing ${wanted[*]} with apt-get (once)"
    apt_install "${wanted[@]}"
else
    warn "${missing[*]}: missing, and can't be installed here; the tests that want them are skipped."
fi
