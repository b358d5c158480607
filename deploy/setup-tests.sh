#!/usr/bin/env bash
# Install what only tests need, where it is missing; run by the Makefile (`make test`).
# Where it can't be installed this says so and ends well: the tests that want it are skipped, with a reason.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

declare -A packages=([sshd]=openssh-server [ssh]=openssh-client [ip]=iproute2 [shellcheck]=shellcheck [node]=nodejs
    [openssl]=openssl [setpriv]=util-linux [systemd-analyze]=systemd [cc]="gcc libc6-dev")
missing=() wanted=()
for program in "${!packages[@]}"; do
    # shellcheck disable=SC2206 # a program may take several packages
    command -v "$program" >/dev/null || { missing+=("$program"); wanted+=(${packages[$program]}); }
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    printf '\033[1m%s\033[0m\n' "${missing[*]} missing: installing ${wanted[*]} with apt-get (once)" >&2
    export DEBIAN_FRONTEND=noninteractive
    # Packages would start daemons (sshd), which nobody asked for.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -q >&2
    apt-get install -y -q --no-install-recommends "${wanted[@]}" >&2
else
    printf 'setup: %s\n' "${missing[*]}: missing, and can't be installed here; the tests that want them are skipped." >&2
fi
