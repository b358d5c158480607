"""Where one run takes place: its own database, proxy and campaign, and ``nucleate submit`` at work on a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pymongo.errors import PyMongoError

from benchmarks.faults.campaign import NAME, PROFILE
from benchmarks.faults.database import USERNAME, Database
from benchmarks.faults.proxy import Proxy
from benchmarks.faults.slurm import ROOT, Slurm, foreign_python
from benchmarks.faults.watch import Truth
from dft_inputs.pseudos.family import default_root
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

NUCLEATE = str(Path(sys.executable).parent / "nucleate")
CLUSTER = "local"
FREE = ("READY", "RESERVED", "RUNNING", "WAITING")


@dataclass(frozen=True)
class Conditions:
    """What is special about the runs of a fault.

    Parameters
    ----------
    size : {"usual", "long", "cut"}
        How much there is to do.
    minutes : int
        Wall-time of a pilot.
    pilot : dict
        Further fields of the kind of pilot.
    skew_s : int
        By how much the clock of the second node is ahead, as far as a pilot and what it starts can see, s.
    scratch_mb : int
        Size of a file system of its own for the launches; 0: none.
    """

    size: Literal["usual", "long", "cut"] = "usual"
    minutes: int = 10
    pilot: dict[str, Any] = field(default_factory=dict)
    skew_s: int = 0
    scratch_mb: int = 0


@dataclass
class Scene:
    """A run: everything that a fault can strike, and what it takes to watch it.

    Parameters
    ----------
    directory : pathlib.Path
    slurm : Slurm
    conditions : Conditions
    chance : random.Random
        Of the round's seed.
    put_up : callable
        Puts the campaign into the store that the settings name, and into its directory.
    """

    directory: Path
    slurm: Slurm
    conditions: Conditions
    chance: random.Random
    put_up: Callable[[Scene], None]
    database: Database = field(init=False)
    proxy: Proxy = field(init=False)
    truth: Truth = field(init=False)
    _submit: subprocess.Popen[bytes] | None = None

    @property
    def campaign(self) -> Path:
        """The campaign's directory."""
        return self.directory / "campaign"

    @property
    def launches(self) -> Path:
        """Where tasks run."""
        return self.campaign / "launches"

    @property
    def wishes(self) -> Path:
        """Where a fault leaves what a task shall do to itself."""
        return self.directory / "wishes"

    @property
    def environment(self) -> dict[str, str]:
        """What our commands are given."""
        return {
            **self.slurm.environment,
            "NUCLEATE_CONFIG": str(self.directory / "config.yaml"),
            "NUCLEATE_CLUSTERS": str(self.directory / "clusters.yaml"),
            "NUCLEATE_PSEUDOS": str(_pseudos()),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Put everything up, and take it down whatever happened."""
        self.wishes.mkdir(parents=True)
        self.database = Database(self.directory / "database")
        self.proxy = Proxy(self.database.port)
        self.database.start()
        self.proxy.start()
        try:
            self._configure()
            client = self.database.client()
            self.truth = Truth(client[NAME])
            yield
        finally:
            self.stop()
            if os.path.ismount(self.launches):
                subprocess.run(["umount", "-l", str(self.launches)], check=False)
            self.proxy.stop()
            self.database.kill()

    def _configure(self) -> None:
        profile = {
            "uri": f"mongodb://127.0.0.1:{self.database.port}/?directConnection=true",
            "database": NAME,
            "username": USERNAME,
            "password_file": str(self.database.password_file),
        }
        (self.directory / "config.yaml").write_text(yaml.safe_dump({"stores": {PROFILE: profile}}))
        pilot = {
            "categories": ["cpu", "light"],
            "cores": 2,
            "memory_gb": 1.8,
            "minutes": self.conditions.minutes,
            "max_jobs": 2,
            "drain_s": 12,
            "idle_s": 20,
            "task": {"cores": 1, "memory_gb": 0.8, "minutes": 4.0},  # so long that two pilots are wanted
            "stages": {"judge": {"cores": 1, "memory_gb": 0.4, "minutes": 0.2}},
            **self.conditions.pilot,
        }
        cluster = {
            "slurm_conf": str(self.slurm.conf),
            "python": str(foreign_python(self.directory / "python")),
            "setup": self._skewed(),
            "environment": {
                **{k: v for k, v in self.environment.items() if k.startswith(("NUCLEATE_", "PYTHON"))},
                "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            },
            # only the nodes' way to the database can be cut
            "database": {"relay": f"127.0.0.1:{self.proxy.port}"},
            "pilots": {"cpu": pilot},
        }
        (self.directory / "clusters.yaml").write_text(yaml.safe_dump({"clusters": {CLUSTER: cluster}}))
        if self.conditions.scratch_mb:
            self.launches.mkdir(parents=True)
            size = f"size={self.conditions.scratch_mb}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.launches)], check=True)
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            self.put_up(self)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _skewed(self) -> list[str]:
        """Give the lines of shell that set the clock of second nodes ahead."""
        if not self.conditions.skew_s:
            return []
        library = self.directory / "clock.so"
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-O2",
            "-o",
            str(library),
            str(Path(__file__).with_name("clock.c")),
            "-ldl",
        ]
        subprocess.run(command, check=True)
        ahead = f"export LD_PRELOAD={library} SKEW_S={self.conditions.skew_s}"
        return [f'case "$SLURMD_NODENAME" in *2) {ahead} ;; esac']

    # -- our own commands ---------------------------------------------------------------------------------------------

    def submit(self, *options: str) -> None:
        """Start ``nucleate submit --watch`` as a process of its own."""
        command = [NUCLEATE, "submit", "--cluster", CLUSTER, "--watch", "--every", "5", "-C", str(self.campaign)]
        command += options
        with (self.directory / "submit.log").open("ab") as log:
            self._submit = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True
            )

    def submit_lives(self) -> bool:
        """Tell whether it is still there; it may end when there is no work."""
        return self._submit is not None and self._submit.poll() is None

    def nucleate(self, *arguments: str) -> str:
        """Run another command of ours on the campaign."""
        done = subprocess.run(
            [NUCLEATE, *arguments, "-C", str(self.campaign)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return f"$ nucleate {' '.join(arguments)}\n{done.stdout}{done.stderr}"

    def stop(self) -> None:
        """End submit and all jobs."""
        if self._submit is not None and self._submit.poll() is None:
            self._submit.send_signal(signal.SIGTERM)
            try:
                self._submit.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._submit.kill()
                self._submit.wait()
        self._submit = None
        self.slurm.cancel_all()

    # -- what is going on ---------------------------------------------------------------------------------------------

    def left(self) -> int:
        """Count fireworks that are not over."""
        return int(self.truth.database.fireworks.count_documents({"state": {"$in": list(FREE)}}))

    def is_busy(self) -> bool:
        """Tell whether any firework is not over; where the database does not say, that one is."""
        try:
            return self.truth.database.fireworks.find_one({"state": {"$in": list(FREE)}}, {"_id": 1}) is not None
        except PyMongoError:
            return True

    def relaxed(self) -> int:
        """Count relaxations that are over; none while the database is not to be asked."""
        with contextlib.suppress(PyMongoError):
            return int(self.truth.database.attempts.count_documents({"stage": "relax", "state": "completed"}))
        return 0

    def victims(self) -> list[dict[str, Any]]:
        """List relaxations that are running in fact, each with its pilot's record, in a fixed order."""
        pilots = {p["pilot"]: p for p in self.truth.database.pilots.find({}, {"_id": 0})}
        found = [{**a, "of": pilots[a["pilot"]]} for a in self.truth.running() if a["pilot"] in pilots]
        return sorted(found, key=lambda a: a["launch_id"])

    def wait_for_victims(self, count: int = 1, patience_s: float = 180.0) -> list[dict[str, Any]]:
        """Wait until tasks run.

        Raises
        ------
        TimeoutError
            If they don't, with what submit has said.
        """
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            self.truth.look()
            with contextlib.suppress(Exception):
                if len(found := self.victims()) >= count:
                    return found
            time.sleep(0.5)
        raise TimeoutError(f"no task runs; submit says:\n{(self.directory / 'submit.log').read_text()[-2000:]}")


def _pseudos() -> Path:
    """Give where pseudopotentials are installed: a run's own settings must not hide them."""
    return load_settings().espresso.pseudos or default_root()
