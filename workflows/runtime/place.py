"""Where, and by what, jobs of a campaign run on a cluster; and what can be refused before any is submitted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from workflows.runtime.identity import CLUSTER, PILOT
from workflows.runtime.order import PILOTS
from workflows.runtime.scheduler.base import JobRequest, SchedulerAwayError, SchedulerError

if TYPE_CHECKING:
    from workflows.runtime.cluster import Cluster, ClusterFile, PilotKind
    from workflows.runtime.scheduler.base import Scheduler

_VERSION = "import importlib.metadata as m, sys; sys.stdout.write(m.version('nucleate'))"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where, and by what, jobs of a campaign run on a cluster.

    Parameters
    ----------
    name : str
        The cluster's.
    clusters : ClusterFile
    home : pathlib.Path
        The campaign's directory there, absolute.
    kinds : tuple of str
        Of pilots that may be submitted; empty: all.
    """

    name: str
    clusters: ClusterFile
    home: Path
    kinds: tuple[str, ...] = ()

    @property
    def cluster(self) -> Cluster:
        """The cluster as the file has it."""
        return self.clusters.clusters[self.name]

    @property
    def chosen(self) -> dict[str, PilotKind]:
        """The kinds that may be submitted."""
        return {name: kind for name, kind in self.cluster.pilots.items() if not self.kinds or name in self.kinds}

    def request(self, pilot: str, kind: PilotKind, exclude: tuple[str, ...] = ()) -> JobRequest:
        """Give the job of a pilot."""
        cluster = self.cluster
        python = cluster.python.expanduser() if cluster.python is not None else sys.executable
        command = [str(python), "-m", "workflows.runtime.pilot"]
        return JobRequest(
            name=pilot,
            command=(*command, "--directory", str(self.home), "--pilot", pilot),
            directory=self.home,
            output=self.home / PILOTS / pilot / "job.log",
            cores=kind.cores,
            nodes=kind.nodes,
            gpus=kind.gpus,
            memory_gb=kind.memory_gb,
            minutes=kind.minutes,
            partition=kind.partition,
            account=kind.account or cluster.account,
            qos=kind.qos,
            reservation=kind.reservation,
            constraint=kind.constraint,
            exclude=exclude,
            setup=cluster.setup,
            environment={**cluster.environment, CLUSTER: self.name, PILOT: pilot},
            warn_s=kind.drain_s,
            requeue=True,
            extra=kind.extra,
        )


def problems_of(place: Place, scheduler: Scheduler) -> list[str]:
    """Find what can be refused before anything is submitted.

    Parameters
    ----------
    place : Place
    scheduler : Scheduler

    Returns
    -------
    list of str
        Everything that is wrong, one sentence each.

    Raises
    ------
    SchedulerAwayError
        If the scheduler does not answer.
    """
    problems = []
    unknown = [name for name in place.kinds if name not in place.cluster.pilots]
    if unknown:
        known = ", ".join(place.cluster.pilots)
        problems.append(f"cluster {place.name} has no kind of pilot {', '.join(unknown)}; there are: {known}")
    if wrong := _wrong_python(place.cluster.python):
        problems.append(f"clusters.{place.name}.python: {wrong}")
    for name, kind in place.chosen.items():
        try:
            scheduler.check(place.request(f"check-{place.name}-{name}", kind))
        except SchedulerAwayError:
            raise
        except SchedulerError as error:
            problems.append(f"clusters.{place.name}.pilots.{name}: {error}")
    return problems


def _wrong_python(python: Path | None) -> str:
    """Say what is wrong with the interpreter of a cluster; it is on a file system that this host sees."""
    if python is None or python.expanduser() == Path(sys.executable):
        return ""
    python = python.expanduser()
    try:
        done = subprocess.run(  # noqa: S603 - the user's own interpreter
            [str(python), "-c", _VERSION], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except OSError as error:
        return f"{python} can't be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{python} does not answer"
    ours = version("nucleate")
    if done.returncode or not done.stdout:
        return f"{python} has no nucleate: install it there, or name the python of another environment"
    return "" if done.stdout == ours else f"{python} has nucleate {done.stdout}, and this is {ours}"
