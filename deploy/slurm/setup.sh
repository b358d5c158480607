#!/usr/bin/env bash
# Install SLURM with its accounting where it is missing; run by the Makefile (`make slurm`). Nothing is started here: up.sh does that.
# Where it can't be installed this says what will not run and ends well: campaigns on one host need none of it.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
warn() { printf 'setup: %s\n' "$*" >&2; }

missing=()
for program in munged mariadbd mariadb-install-db slurmctld slurmd slurmdbd sbatch squeue sacct; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "${missing[*]} missing: installing SLURM with apt-get (once; about a minute and 400 MB)"
    export DEBIAN_FRONTEND=noninteractive
    # Packages would start daemons with a configuration that isn't there; where init is no systemd nothing can be started anyway.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get update -q >&2
    apt-get install -y -q --no-install-recommends slurm-wlm slurm-client slurmdbd munge mariadb-server >&2
else
    warn "${missing[*]}: missing, and can't be installed here (that takes root and apt-get)."
    warn "Without a local SLURM: no local cluster (deploy/slurm/up.sh); the tests that need one fail where apt-get exists, else are skipped."
    warn "Debian and Ubuntu: sudo apt-get install --no-install-recommends slurm-wlm slurm-client slurmdbd munge mariadb-server"
    warn "Nothing of this is needed to use a cluster that has SLURM already: nucleate wants sbatch, squeue, sacct, scontrol and scancel there."
fi
