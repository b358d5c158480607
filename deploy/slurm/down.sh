#!/usr/bin/env bash
# Stops the SLURM that up.sh started in DIR: its own daemons by their pid files, and the jobs that run there.
# usage: down.sh DIR
set -euo pipefail

[ $# = 1 ] && [ -d "$1" ] || { echo "usage: down.sh DIR  (the directory given to up.sh)" >&2; exit 2; }
DIR=$(cd "$1" && pwd)
[ -s "$DIR/slurm.conf" ] || { echo "down.sh: $DIR is none that up.sh made" >&2; exit 2; }
export SLURM_CONF=$DIR/slurm.conf PATH=$PATH:/usr/sbin:/sbin

pid_of() {  # the pid of a daemon that runs; pids are used again, so its command line is looked at
  local pid
  pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && grep -qa "${1%%.*}" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

stop() {  # stop NAME SECONDS: ask, wait, then kill
  local pid
  pid=$(pid_of "$1") || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq $(($2 * 10))); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

# Jobs outlive slurmd: they are cancelled while slurmctld still answers, and what is left of them is ended after it.
if pid_of slurmctld >/dev/null; then
  jobs=$(timeout 10 squeue --noheader --format=%A 2>/dev/null || true)
  [ -z "$jobs" ] || timeout 10 scancel --quiet $jobs 2>/dev/null || true
  for _ in $(seq 50); do [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break; sleep 0.1; done
fi
for node in $(sed -n 's/^NodeName=\([^ ]*\) NodeHostname.*/\1/p' "$SLURM_CONF"); do
  stop "slurmd.$node" 5
done
cluster=$(sed -n 's/^ClusterName=//p' "$SLURM_CONF")
for process in /proc/[0-9]*; do
  # Processes of its jobs have the cluster's name in their environment, a slurmstepd writes to the log of its slurmd.
  if grep -qzax "SLURM_CLUSTER_NAME=$cluster" "$process/environ" 2>/dev/null \
    || { grep -qa '^slurmstepd' "$process/cmdline" 2>/dev/null && ls -l "$process/fd" 2>/dev/null | grep -qF "$DIR/log/slurmd."; }; then
    kill -9 "${process#/proc/}" 2>/dev/null || true
  fi
done
stop slurmctld 10
stop slurmdbd 10
stop mariadbd 30
stop munged 5
# Its nodes' cgroups stay behind otherwise, empty; one that is in use can't be removed.
for node in $(sed -n 's/^NodeName=\([^ ]*\) NodeHostname.*/\1/p' "$SLURM_CONF"); do
  find /sys/fs/cgroup/*/"slurm_$node" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
