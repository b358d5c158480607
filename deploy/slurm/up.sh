#!/usr/bin/env bash
# Starts a real SLURM on this machine: two nodes, accounting, no systemd. For development, tests and demos.
# What runs already is left alone, so it may be called again, also to bring back what has died.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: up.sh DIR [--base-port N|auto]

DIR holds everything: configuration, state, logs, sockets, the accounts' database. down.sh DIR stops it; rm -r DIR removes it.
Several clusters may run side by side, each with a directory and ports of its own.

Ports N to N+5, on the loopback address: slurmctld, slurmdbd, MariaDB, (one in reserve), two slurmd. Default: those that DIR had
before, else 26900; `auto` looks for free ones.

Environment, each optional; it is read when DIR is used for the first time or its slurm.conf was removed:
  ACCOUNTING=0     no accounts (no slurmdbd, no MariaDB, so no sacct), as on many small clusters
  CG=1             memory limits by cgroup v1 (needs root): a job that takes too much ends as OUT_OF_MEMORY. Without it SLURM
                   can only watch, and such a job ends as FAILED or CANCELLED
  NODE_CPUS=2      of each node; may be more than this machine has
  NODE_MEMORY=4000 of each node, MB
  NODE_GPU=1       whether each node has a GPU; it is none: a job's CUDA_VISIBLE_DEVICES is set and that is all
  NODE_PREFIX=c    nodes are c1 and c2. With another port than 26900 the default is c<port>n, for two clusters with cgroups
                   on one machine must not share a node's name
  MINJOBAGE=300    s for which squeue and scontrol remember a job that ended
  SLURMD_TIMEOUT=30  s of silence after which a node is down
  ENFORCE=NO       EnforcePartLimits: ALL refuses at once what no partition can ever run
Partitions: debug (both nodes, default, an hour at most), short (second node, 2 minutes at most), urgent (both nodes; its
jobs preempt those of the others: these are put back into the queue, or cancelled if they were submitted with --no-requeue).
USAGE
}

say() { printf '%s\n' "$*" >&2; }
die() { say "up.sh: $*"; exit 1; }

DIR= PORT=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --base-port) PORT=${2:?--base-port wants a number or auto}; shift 2 ;;
    --base-port=*) PORT=${1#*=}; shift ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$DIR" ] || { usage >&2; exit 2; }; DIR=$1; shift ;;
  esac
done
[ -n "$DIR" ] || { usage >&2; exit 2; }

export PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sinfo; do
  command -v "$program" >/dev/null || die "$program is missing: deploy/slurm/setup.sh installs it (as root)"
done

umask 077
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
case $DIR in *[[:space:]\"\'\\%,=#]*) die "$DIR: SLURM's configuration takes no path with such characters" ;; esac
[ ${#DIR} -le 80 ] || die "$DIR: too long for sockets in it; 80 characters at most"
mkdir -p "$DIR"/{state,log,run,db}
chmod 755 "$DIR" "$DIR/run"  # so that other users' jobs and commands reach the configuration and munge

HOST=$(hostname -s)
# Daemons bind to what the host's name stands for; where that is no loopback address they would be open to the network.
ADDRESS=$(getent ahostsv4 "$HOST" 2>/dev/null | awk '{ print $1; exit }') || true
BIND=CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
case $ADDRESS in
  127.*) ;;
  *) ADDRESS=127.0.0.1 BIND=''
    say "up.sh: $HOST is not a loopback address in /etc/hosts, so SLURM's daemons listen on all interfaces (munge guards them)" ;;
esac
USER_NAME=$(id -un)
MUNGE=$DIR/run/munge.sock
MYSQL=$DIR/run/mariadb.sock

# Whether the daemon of a pid file runs. The command line is looked at too: pids are used again.
alive() {
  local pid
  pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && grep -qa "${1%%.*}" "/proc/$pid/cmdline" 2>/dev/null
}

wait_for() {  # wait_for SECONDS WHAT COMMAND...
  local tries=$(($1 * 10)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || die "$what doesn't come up; see $DIR/log"
    sleep 0.1
  done
}

# ------------------------------------------------------------------------------------------------------------- ports

open_port() { (exec 3<>"/dev/tcp/$ADDRESS/$1") 2>/dev/null; }
all_free() { local p; for p in 0 1 2 4 5; do ! open_port $(($1 + p)) || return 1; done; }

if [ -s "$DIR/base-port" ]; then
  kept=$(cat "$DIR/base-port")
  case $PORT in '' | auto | "$kept") PORT=$kept ;; *) die "$DIR has base port $kept; another one wants another directory" ;; esac
else
  case ${PORT:=26900} in
    auto)
      for _ in $(seq 100); do
        PORT=$((20000 + (RANDOM % 1200) * 10))  # below those that the kernel hands out
        all_free "$PORT" && break
      done
      ;;
    *[!0-9]*) die "--base-port $PORT: a number or auto is wanted" ;;
  esac
  all_free "$PORT" || die "one of the ports $PORT to $((PORT + 5)) is taken; --base-port auto looks for free ones"
  echo "$PORT" >"$DIR/base-port"
fi

# ----------------------------------------------------------------------------------------------------- configuration

secret() { [ -s "$1" ] || head -c 1024 /dev/urandom | if [ "${2:-}" = text ]; then sha256sum | cut -c1-48; else cat; fi >"$1"; }
secret "$DIR/munge.key"
secret "$DIR/db.password" text

accounts_of() {  # the lines of slurm.conf that say where accounts are kept
  if [ "${ACCOUNTING:-1}" = 0 ]; then
    echo AccountingStorageType=accounting_storage/none
  else
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd "AccountingStorageHost=$ADDRESS" \
      "AccountingStoragePort=$((PORT + 1))" "AccountingStoragePass=$MUNGE"
  fi
}

write_configuration() {
  local prefix=${NODE_PREFIX:-} cpus=${NODE_CPUS:-2} track gres= node_gres=
  [ -n "$prefix" ] || { [ "$PORT" = 26900 ] && prefix=c || prefix=c${PORT}n; }
  if [ "${CG:-0}" = 1 ]; then
    [ "$(id -u)" = 0 ] || die "CG=1 needs root"
    for controller in memory freezer; do
      [ -d "/sys/fs/cgroup/$controller" ] || die "CG=1: no cgroup v1 controller $controller is mounted here"
    done
    track="ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup"
    printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=/sys/fs/cgroup ConstrainRAMSpace=yes ConstrainSwapSpace=no \
      ConstrainCores=no ConstrainDevices=no AllowedRAMSpace=100 MinRAMSpace=30 >"$DIR/cgroup.conf"
    chmod 644 "$DIR/cgroup.conf"
  else
    track="ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill"
    rm -f "$DIR/cgroup.conf"
  fi
  if [ "${NODE_GPU:-1}" = 1 ]; then
    gres="GresTypes=gpu" node_gres="Gres=gpu:1"
    echo "NodeName=${prefix}[1-2] Name=gpu File=/dev/null" >"$DIR/gres.conf"
    chmod 644 "$DIR/gres.conf"
  fi
  cat >"$DIR/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$MUNGE
DbdHost=$HOST
DbdAddr=$ADDRESS
DbdPort=$((PORT + 1))
SlurmUser=$USER_NAME
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 2))
StorageUser=slurm
StoragePass=$(cat "$DIR/db.password")
StorageLoc=slurm_acct
LogFile=$DIR/log/slurmdbd.log
PidFile=$DIR/run/slurmdbd.pid
CommitDelay=1
$BIND
CONF
  cat >"$DIR/slurm.conf.new" <<CONF
# Written by up.sh. After a change: scontrol reconfigure.
ClusterName=local$PORT
SlurmctldHost=$HOST($ADDRESS)
SlurmctldPort=$PORT
$BIND
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$MUNGE
SlurmUser=$USER_NAME
SlurmdUser=$USER_NAME
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool.%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd.%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
$track
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=${ENFORCE:-NO}
$(accounts_of)
JobRequeue=1
MinJobAge=${MINJOBAGE:-300}
KillWait=2
SlurmctldTimeout=30
SlurmdTimeout=${SLURMD_TIMEOUT:-30}
DefMemPerCPU=500
SlurmdParameters=config_overrides
$gres
NodeName=DEFAULT CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=${NODE_MEMORY:-4000} $node_gres State=UNKNOWN
NodeName=${prefix}1 NodeHostname=$HOST NodeAddr=$ADDRESS Port=$((PORT + 4))
NodeName=${prefix}2 NodeHostname=$HOST NodeAddr=$ADDRESS Port=$((PORT + 5))
PartitionName=debug Nodes=${prefix}[1-2] Default=YES MaxTime=60 PriorityTier=1 State=UP
PartitionName=short Nodes=${prefix}2 MaxTime=2 PriorityTier=1 State=UP
PartitionName=urgent Nodes=${prefix}[1-2] MaxTime=60 PriorityTier=10 State=UP
CONF
  chmod 600 "$DIR/slurmdbd.conf"
  chmod 644 "$DIR/slurm.conf.new"
  mv "$DIR/slurm.conf.new" "$DIR/slurm.conf"
}

[ -s "$DIR/slurm.conf" ] || write_configuration
export SLURM_CONF=$DIR/slurm.conf
NODES=$(sed -n 's/^NodeName=\([^ ]*\) NodeHostname.*/\1/p' "$SLURM_CONF")
accounting=$(grep -c '^AccountingStorageType=accounting_storage/slurmdbd' "$SLURM_CONF" || true)
if [ "$accounting" = 1 ]; then
  for program in mariadbd mariadb slurmdbd sacctmgr; do
    command -v "$program" >/dev/null || die "$program is missing: deploy/slurm/setup.sh installs it (as root)"
  done
fi

# ------------------------------------------------------------------------------------------------------------ daemons

if ! alive munged; then
  chmod 400 "$DIR/munge.key"
  munged --force --key-file="$DIR/munge.key" --socket="$MUNGE" --pid-file="$DIR/run/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munge.seed"
fi

sql() { mariadb --no-defaults --socket="$MYSQL" --user=root --batch --skip-column-names -e "$1"; }

# Without native I/O: several servers side by side use up what a kernel allows of it. With a place of its own for temporary
# tables: a server that starts removes those of others that share one.
if [ "$accounting" = 1 ] && ! alive mariadbd; then
  [ -e "$DIR/db/ready" ] || rm -rf "$DIR/db"
  mkdir -p "$DIR/db/tmp"  # what an earlier up.sh made has none
  if [ ! -e "$DIR/db/ready" ]; then
    mariadb-install-db --no-defaults --user="$USER_NAME" --datadir="$DIR/db/data" --skip-test-db \
      --auth-root-authentication-method=normal --innodb-log-file-size=8M --innodb-use-native-aio=0 --tmpdir="$DIR/db/tmp" \
      >"$DIR/log/mariadb-install.log" 2>&1 \
      || die "MariaDB can't be set up; $DIR/log/mariadb-install.log ends with: $(tail -n 12 "$DIR/log/mariadb-install.log")"
  fi
  setsid mariadbd --no-defaults --user="$USER_NAME" --datadir="$DIR/db/data" --socket="$MYSQL" --port=$((PORT + 2)) \
    --bind-address=127.0.0.1 --pid-file="$DIR/run/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-log-file-size=8M \
    --innodb-use-native-aio=0 --tmpdir="$DIR/db/tmp" --innodb-lock-wait-timeout=900 --performance-schema=off >>"$DIR/log/mariadbd.log" 2>&1 </dev/null &
  wait_for 60 MariaDB sql "select 1"
  if [ ! -e "$DIR/db/ready" ]; then
    password=$(cat "$DIR/db.password")
    sql "create database if not exists slurm_acct; create or replace user slurm@127.0.0.1 identified by '$password';
      create or replace user slurm@localhost identified by '$password'; grant all on slurm_acct.* to slurm@127.0.0.1;
      grant all on slurm_acct.* to slurm@localhost; flush privileges"
    touch "$DIR/db/ready"
  fi
fi

if [ "$accounting" = 1 ] && ! alive slurmdbd; then
  slurmdbd
  wait_for 60 slurmdbd sacctmgr --noheader --immediate list cluster
fi

if ! alive slurmctld; then
  cluster=$(sed -n 's/^ClusterName=//p' "$SLURM_CONF")
  # it is there from the second time on
  [ "$accounting" = 0 ] || sacctmgr --noheader --immediate add cluster "$cluster" >/dev/null 2>&1 || true
  slurmctld -f "$SLURM_CONF"
fi
wait_for 30 slurmctld scontrol ping
for node in $NODES; do
  alive "slurmd.$node" || slurmd -N "$node" -f "$SLURM_CONF"
done

nodes_ready() { [ "$(sinfo --noheader --Node --partition=debug --format=%T | grep -cE '^(idle|mixed|allocated)$')" = 2 ]; }
if ! { for _ in $(seq 100); do nodes_ready && break; sleep 0.1; done; nodes_ready; }; then
  # Where a node was set down by hand or by a fault that was played, it has to be told.
  for node in $NODES; do scontrol update NodeName="$node" State=RESUME >/dev/null 2>&1 || true; done
  wait_for 30 "a node" nodes_ready
fi

cat <<DONE
SLURM $(sinfo --version | cut -d' ' -f2) is up on nodes $(echo $NODES), ports $PORT to $((PORT + 5)). To use it:
  export SLURM_CONF=$SLURM_CONF
  sbatch --wrap 'hostname; sleep 10' && squeue && sacct
It is stopped with: $(dirname "${BASH_SOURCE[0]}")/down.sh $DIR
DONE
