#!/usr/bin/env bash
# The demo's campaign on a local SLURM: pilots on two nodes do what `nucleate demo` does in one process.
#   usage: demo.sh DIR      (make slurm-demo)      called again, it goes on where it was
#   VENV   the virtual environment that has nucleate (default .venv)
set -euo pipefail
dir=${1:?demo.sh wants a directory}
here=$(cd "$(dirname "$0")" && pwd)
venv=$(cd "${VENV:-.venv}" && pwd)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

trap '"$here/down.sh" "$dir/slurm" >&2' EXIT
"$here/up.sh" "$dir/slurm" >&2
export SLURM_CONF=$dir/slurm/slurm.conf
[ -e "$dir/clusters.yaml" ] || cp "$here/local-cluster.yaml" "$dir/clusters.yaml"
[ -e "$dir/slurm-demo/campaign.yaml" ] || "$venv/bin/nucleate" init "$dir/slurm-demo"
"$venv/bin/nucleate" launch "$dir/slurm-demo/campaign.yaml"
"$venv/bin/nucleate" submit --cluster local --clusters "$dir/clusters.yaml" -C "$dir/slurm-demo" --watch
sacct --allocations --starttime=today --format=JobID,JobName%40,NodeList,State,Elapsed,NCPUS
"$venv/bin/nucleate" report -C "$dir/slurm-demo" -o "$dir/report"
