"""A real SLURM on this host, of its own: munged, slurmctld and two slurmd in a temporary folder, as whoever runs it.

Nothing outside that folder is touched, and what is started here is ended by its number.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
STARTED = ("slurmstepd", "srun", "slurm_script", "bash")  # by a job
NODES = ("node1", "node2")
CONF = """
ClusterName=cdner
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
SlurmdParameters=config_overrides
ReturnToService=2
DebugFlags=NO_CONF_HASH
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=3
MessageTimeout=5
MinJobAge={min_job_age}
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=16000 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""  # eight cores a node are lent, whatever the host has: tests that wait for each other must not starve


def lacking() -> str | None:
    """Return what is missing for a SLURM of one's own."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"no {', '.join(missing)} here (apt-get install slurm-wlm munge)" if missing else None


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on now."""
    held = [socket.socket() for _ in range(number)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Slurm:
    """A cluster of two nodes."""

    def __init__(self, min_job_age: int = 300):
        os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets want a short path
        self.root.chmod(0o755)
        self.daemons: dict[str, subprocess.Popen] = {}
        host = socket.gethostname().partition(".")[0]
        (self.root / "state").mkdir()
        for node in NODES:
            (self.root / f"spool-{node}").mkdir()
        self.conf = self.root / "slurm.conf"
        self.conf.write_text(
            CONF.format(host=host, ports=free_ports(3), root=self.root, user=getpass.getuser(), min_job_age=min_job_age)
        )
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start all daemons, and wait until both nodes are idle."""
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "--foreground", "--num-threads=2", f"--key-file={key}", f"--socket={self.root}/munge.sock",
            f"--pid-file={self.root}/munged.pid", f"--log-file={self.root}/munged.log",
            f"--seed-file={self.root}/munge.seed",
        )  # fmt: skip
        self.wait_for(lambda: (self.root / "munge.sock").exists(), "munged does not listen")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_for(self.idle, "the nodes do not come up")

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-D")

    def start_node(self, node: str) -> None:
        self._daemon(node, "-D", "-N", node, program="slurmd")

    def _daemon(self, name: str, *arguments: str, program: str | None = None) -> None:
        with (self.root / f"{name}.out").open("a") as out:
            self.daemons[name] = subprocess.Popen(
                [program or name, *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                env=self.environment, cwd=self.root, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """Kill a daemon: no last word, no clean end."""
        self.daemons[name].kill()
        self.daemons.pop(name).wait()

    def idle(self) -> bool:
        told = self.command("sinfo", "-h", "-N", "-o", "%T", check=False)
        return told.split() == ["idle"] * len(NODES)

    def answers(self) -> bool:
        return "UP" in self.command("scontrol", "ping", check=False)

    def command(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False, timeout=60)
        assert not (check and done.returncode), f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the state of every job that is not forgotten."""
        lines = self.command("squeue", "-h", "-a", "-t", "all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_for(self, what, complaint: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{complaint}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        found = [f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.root.glob("*.[lo][ou][gt]"))]
        asked = [["sinfo", "-N", "-o", "%N %T %E"], ["squeue", "-a", "-t", "all", "-o", "%i %T %r %N %j"]]
        return "\n".join([*found, *(self.command(*command, check=False) for command in asked)])

    def stop(self) -> None:
        """End all jobs, then all daemons, by their numbers."""
        if "slurmctld" in self.daemons:
            self.command("scancel", f"--user={getpass.getuser()}", check=False)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and set(self.jobs().values()) & {"RUNNING", "COMPLETING", "PENDING"}:
                time.sleep(0.2)
        for name in reversed(self.daemons):
            self.daemons[name].terminate()
        for process in self.daemons.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self.left():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def left(self) -> list[psutil.Process]:
        """Return what the daemons have started and still lives: it works in our folder, or knows our configuration."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("SLURM_CONF") == str(self.conf) or process.cwd() == str(self.root)
                if ours and process.pid != os.getpid() and process.name() in STARTED:
                    found.append(process)
        return found
