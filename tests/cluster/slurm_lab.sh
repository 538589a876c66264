#!/usr/bin/env bash
# A real SLURM of two emulated nodes on this machine, for the cluster tests:
#   slurm_lab.sh up FOLDER      prints the path of its slurm.conf; needs slurmctld, slurmd, munged and root
#   slurm_lab.sh down FOLDER    stops what `up` started
# Everything it writes is under FOLDER. Both nodes are this host, on ports of their own, and may claim
# more cores than there are. Two partitions: `main`, and `hi`, which preempts it.
set -euo pipefail
action=$1 base=$2
export SLURM_CONF="$base/slurm.conf"
running() { [ -s "$base/$1.pid" ] && kill -0 "$(cat "$base/$1.pid")" 2>/dev/null; }

configure() {
    local host cores=4 memory=12000 port=${SLURM_LAB_PORT:-16810}
    host=$(hostname -s)
    cat <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$base/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool.%n
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd.%n.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
DefMemPerCPU=1000
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=20
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$cores RealMemory=$memory
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$cores RealMemory=$memory
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=10 GraceTime=60
PartitionName=hi Nodes=node[1-2] MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF
CONF
}

up() {
    mkdir -p "$base"/{state,spool.node1,spool.node2}
    chmod 755 "$base"
    [ -s "$base/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$base/munge.key")
    running munged || munged --force --key-file="$base/munge.key" --socket="$base/munge.socket" \
        --pid-file="$base/munged.pid" --log-file="$base/munged.log" --seed-file="$base/munge.seed" 2>/dev/null
    configure >"$SLURM_CONF"
    running slurmctld || slurmctld
    for node in node1 node2; do running "slurmd.$node" || slurmd -N "$node"; done
    for _ in $(seq 600); do
        if [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -cE '^(idle|mixed|allocated|completing)$')" = 2 ]; then echo "$SLURM_CONF" && return; fi
        sleep 0.1
    done
    sinfo -N -l >&2 || true
    tail -n 5 "$base"/*.log >&2
    return 1
}

down() {
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for daemon in slurmd.node1 slurmd.node2 slurmctld munged; do
        running "$daemon" || continue
        local pid
        pid=$(cat "$base/$daemon.pid")
        kill "$pid"
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

"$action"
