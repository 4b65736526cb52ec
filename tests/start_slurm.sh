#!/bin/sh
# Starts a Slurm of one node on this machine, for tests/test_slurm.py: munged, slurmctld and slurmd, all in DIR.
#   start_slurm.sh DIR CONTROLLER_PORT NODE_PORT
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge. The processes' ids are left in DIR/*.pid.
set -eu
dir=$1
mkdir -p "$dir/state" "$dir/spool"
chmod 755 "$dir"
head -c 1024 /dev/urandom > "$dir/munge.key"
chmod 600 "$dir/munge.key"
cat > "$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$2
SlurmdPort=$3
SlurmUser=root
AuthInfo=socket=$dir/munge.socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN)
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
munged --force --key-file "$dir/munge.key" --socket "$dir/munge.socket" --pid-file "$dir/munged.pid" \
    --log-file "$dir/munged.log" --seed-file "$dir/munged.seed"
slurmctld -f "$dir/slurm.conf"
slurmd -f "$dir/slurm.conf"
