"""A throw-away Slurm cluster on this machine: two nodes, each with a made-up GPU.

It lives in one folder and on the loopback device, and needs root and Debian's slurmctld, slurmd and
slurm-client. /dev/null and /dev/zero serve as GPUs: Slurm wants device files, no job opens them.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

TOOLS = ["sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sshare"]
NODES = ["n1", "n2"]
CONFIGURATION = """
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/spool/controller
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
KillWait=2
SlurmdTimeout=20
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000 Gres=gpu:1
PartitionName=cpu Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=gpu Nodes=ALL MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=9
"""
GPUS = """
NodeName=n1 Name=gpu File=/dev/null Flags=nvidia_gpu_env
NodeName=n2 Name=gpu File=/dev/zero Flags=nvidia_gpu_env
"""


def missing() -> str:
    """Return why no cluster can be started here, or nothing."""
    absent = [t for t in ("slurmctld", "slurmd", "sbatch") if not shutil.which(t)]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurmctld slurmd slurm-client)"
    return "" if os.getuid() == 0 else "starting Slurm's daemons needs root"


class Cluster:
    """A running cluster; ``stop`` ends it."""

    def __init__(self, folder: Path):
        """Start the daemons below ``folder`` and wait until all nodes are idle."""
        self.folder = folder
        for name in (
            "bin",
            "etc",
            "log",
            "run",
            "spool/controller",
            *(f"spool/{n}" for n in NODES),
        ):
            (folder / name).mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(folder=folder, host=host, ports=_free_ports(3))
        (folder / "etc/slurm.conf").write_text(text)
        (folder / "etc/gres.conf").write_text(GPUS)
        configuration = f"SLURM_CONF={folder}/etc/slurm.conf"
        # Inside a job the plugin drops SLURM_CONF, so that the tools must know their cluster.
        for tool in TOOLS:
            script = folder / "bin" / tool
            script.write_text(f'#!/bin/sh\n{configuration} exec {shutil.which(tool)} "$@"\n')
            script.chmod(0o755)
        self.environment = os.environ | {
            "MASKALIGN_DEVICE": "cpu",  # the cluster's GPUs are made up
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_CONF": f"{folder}/etc/slurm.conf",
        }
        self._daemon("slurmctld", "-i")
        _wait(lambda: not self._call("scontrol", "ping").returncode, "the controller", self.log)
        for node in NODES:
            self.start_node(node)
        _wait(lambda: set(self.states().values()) == {"idle"}, "the nodes", self.log)

    def tool(self, *command: str) -> str:
        """Return what a Slurm command prints."""
        done = self._call(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return the state of each node."""
        lines = self._call("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> list[dict[str, str]]:
        """Return Slurm's own record of every job, by the names that ``scontrol`` gives."""
        records = self.tool("scontrol", "-o", "show", "job").splitlines()
        found = [
            dict(field.split("=", 1) for field in record.split(" ") if "=" in field)
            for record in records
            if record.startswith("JobId=")
        ]
        for job, record in zip(found, records, strict=False):
            job["Comment"] = record.partition(" Comment=")[2].partition(" StdErr=")[0]
        return found

    def running(self) -> list[str]:
        """Return the ids of running jobs."""
        return self.tool("squeue", "-h", "-t", "R", "-o", "%A").split()

    def node_of(self, job: str) -> str:
        """Return the node on which a job runs, or ran last."""
        return self.tool("scontrol", "-o", "show", "job", job).partition(" NodeList=")[2].split()[0]

    def start_again(self, job: str) -> None:
        """Let a requeued job start at once; Slurm would wait for two minutes."""
        _wait(
            lambda: job in self.tool("squeue", "-h", "-t", "PD", "-o", "%A").split(), job, self.log
        )
        self.tool("scontrol", "update", f"JobId={job}", "StartTime=now")

    def _queued(self) -> list[str]:
        return self.tool("squeue", "-h", "-t", "PD", "-o", "%A").split()

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._daemon("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill the daemon of a node; what its jobs started lives on."""
        pid = int((self.folder / f"run/slurmd.{node}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        _wait(lambda: not _alive(pid), f"the end of {node}", self.log)

    def log(self) -> str:
        """Return the end of the controller's log."""
        return (self.folder / "log/slurmctld.log").read_text()[-2000:]

    def stop(self) -> None:
        """Cancel all jobs and end all daemons."""
        jobs = self._call("squeue", "-h", "-o", "%A").stdout.split()
        if jobs:
            self._call("scancel", *jobs)
            _wait(lambda: not self._call("squeue", "-h").stdout, "the end of the jobs", self.log)
        for file in (self.folder / "run").glob("*.pid"):
            pid = int(file.read_text())
            if _alive(pid):
                os.kill(pid, signal.SIGTERM)
                _wait(lambda pid=pid: not _alive(pid), f"the end of {file.stem}", self.log)

    def _call(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )

    def _daemon(self, *command: str) -> None:
        done = self._call(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _wait(happened, what: str, log, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}:\n{log()}"
        time.sleep(0.2)
