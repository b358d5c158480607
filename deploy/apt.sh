# shellcheck shell=bash
# What the set-up scripts share: installing with apt-get, and what they say meanwhile. Sourced by them, never run.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
warn() { printf 'setup: %s\n' "$*" >&2; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: to be called as a plain command, for `set -e` is off within a condition.
apt_install() (  # a subshell: its trap and its settings are its own
    export DEBIAN_FRONTEND=noninteractive
    # Packages would start daemons, which nobody asked for and which have no configuration yet.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -q >&2
    apt-get install -y -q --no-install-recommends "$@" >&2
)
