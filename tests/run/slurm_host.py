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
ACCOUNTING = ("mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "sacctmgr", "sacct")
STARTED = ("slurmstepd", "srun", "slurm_script", "bash")  # by a job
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server-core mariadb-client-core"
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
"""
DATABASE = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={root}/munge.sock
"""
DAEMON = """
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=accounting
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
"""
# eight cores a node are lent, whatever the host has: tests that wait for each other must not starve


def lacking(programs: tuple[str, ...] = PROGRAMS, packages: str = PACKAGES) -> str | None:
    """Return what is missing for a SLURM of one's own."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    return f"no {', '.join(missing)} here (apt-get install {packages})" if missing else None


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
    """A cluster of two nodes.

    min_job_age   seconds after which the controller forgets a job
    accounting    whether there is an accounting database: a MariaDB and a slurmdbd of its own
    """

    def __init__(self, min_job_age: int = 300, accounting: bool = False):
        self.accounting = accounting
        os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets want a short path
        self.root.chmod(0o755)
        self.daemons: dict[str, subprocess.Popen] = {}
        host = socket.gethostname().partition(".")[0]
        (self.root / "state").mkdir()
        for node in NODES:
            (self.root / f"spool-{node}").mkdir()
        self.conf = self.root / "slurm.conf"
        ports, user = free_ports(4), getpass.getuser()
        told = CONF.format(host=host, ports=ports, root=self.root, user=user, min_job_age=min_job_age)
        if accounting:
            told += DATABASE.format(port=ports[3], root=self.root)
            daemon = self.root / "slurmdbd.conf"  # slurmdbd looks for it beside slurm.conf
            daemon.write_text(DAEMON.format(host=host, port=ports[3], root=self.root, user=user))
            daemon.chmod(0o600)
        self.conf.write_text(told)
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": f"{self.root}/mariadb.sock"}

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
        if self.accounting:
            self.start_database(getpass.getuser())
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_for(self.idle, "the nodes do not come up")

    def start_database(self, user: str) -> None:
        """Start a MariaDB and slurmdbd, and let the cluster be known to them."""
        data, socket_ = self.root / "database", self.environment["MYSQL_UNIX_PORT"]
        made = [f"--datadir={data}", f"--user={user}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        self.command("mariadb-install-db", "--no-defaults", *made)
        self._daemon(
            "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket_}", "--skip-networking",
            f"--user={user}", f"--pid-file={self.root}/mariadb.pid", "--innodb-buffer-pool-size=64M",
        )  # fmt: skip
        client = ("mariadb", "--no-defaults", f"--socket={socket_}", "--user=root", "-e")
        self.wait_for(lambda: "1" in self.command(*client, "select 1", check=False), "mariadbd does not answer")
        self._daemon("slurmdbd", "-D")
        self.wait_for(
            lambda: "Cluster" in self.command("sacctmgr", "show", "cluster", check=False), "slurmdbd does not answer"
        )
        self.command("sacctmgr", "-i", "add", "cluster", "cdner")

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
