#!/usr/bin/env bash
# Install SLURM with its accounting where it is missing; run by the Makefile (`make slurm`). Nothing is started here: up.sh does that.
# Where it can't be installed this says what will not run and ends well: campaigns on one host need none of it.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=deploy/apt.sh disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/../apt.sh"

missing=()
for program in munged mariadbd mariadb-install-db slurmctld slurmd slurmdbd sbatch squeue sacct; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if can_install; then
    say "${missing[*]} missing: installing SLURM with apt-get (once; about a minute and 400 MB)"
    apt_install slurm-wlm slurm-client slurmdbd munge mariadb-server
else
    warn "${missing[*]}: missing, and can't be installed here (that takes root and apt-get)."
    warn "Without a local SLURM: no local cluster (deploy/slurm/up.sh); the tests that need one fail where apt-get exists, else are skipped."
    warn "Debian and Ubuntu: sudo apt-get install --no-install-recommends slurm-wlm slurm-client slurmdbd munge mariadb-server"
    warn "Nothing of this is needed to use a cluster that has SLURM already: nucleate wants sbatch, squeue, sacct, scontrol and scancel there."
fi
