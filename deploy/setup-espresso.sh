#!/usr/bin/env bash
# Install Quantum ESPRESSO and its pseudopotentials where they are missing; run by the Makefile (`make espresso`).
#   VENV    the virtual environment that has nucleate (default .venv)
#   FAMILY  which pseudopotentials (default: what the protocols use)
# Where QE can't be installed this says what will not run and ends well: force fields and VASP need none of it.
set -euo pipefail
venv=${VENV:-.venv}
family=${FAMILY:-PseudoDojo/0.4/PBE/SR/standard}
cd "$(dirname "$0")/.."
# shellcheck source=deploy/apt.sh disable=SC1091
source deploy/apt.sh

if ! command -v pw.x >/dev/null; then
    if can_install; then
        say "pw.x is missing: installing Quantum ESPRESSO with apt-get (once; about a minute and 330 MB)"
        apt_install quantum-espresso openmpi-bin
    else
        warn "pw.x is missing and can't be installed here (that takes root and apt-get)."
        warn "Without it: no engine: espresso, and the tests that run pw.x fail where apt-get exists, else are skipped."
        warn "Debian and Ubuntu: sudo apt-get install quantum-espresso openmpi-bin; clusters: load a module that has pw.x."
    fi
fi

if ! "$venv/bin/python" -m workflows.cli pseudos install "$family"; then
    warn "the pseudopotentials of $family are not installed: engine: espresso can't run, nor can its tests."
    warn "With a copy of the wheel: nucleate pseudos install --wheel FILE; of your own files: nucleate pseudos install --from DIR"
    exit 2
fi
