"""Worker processes as their supervisor sees them: started, listened to, buried."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from workflows.runtime.binding import THREADS
from workflows.runtime.identity import ProcessName
from workflows.runtime.store import JOBFLOW_FILE

if TYPE_CHECKING:
    from pathlib import Path

STARTED_BY = "NUCLEATE_WORKER"
"""Environment variable by which everything that a worker has started is found."""


@dataclass(frozen=True)
class Post:
    """A place in the crew: what the worker that fills it is told.

    Parameters
    ----------
    directory : pathlib.Path
        Of the campaign, absolute.
    campaign : str or None
        Take only jobs of this one.
    categories : tuple of str
        Take only jobs of these; empty takes everything.
    threads : int
    store : pathlib.Path or None
        Where the store's files are, if not with the campaign.
    ledger : pathlib.Path or None
        The books of the batch job that it works in.
    environment : dict
    """

    directory: Path
    campaign: str | None = None
    categories: tuple[str, ...] = ()
    threads: int = 1
    store: Path | None = None
    ledger: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """Give the worker's command line."""
        given = ["--directory", str(self.directory)]
        given += ["--campaign", self.campaign] if self.campaign else []
        for category in self.categories:
            given += ["--category", category]
        given += ["--store", str(self.store)] if self.store else []
        given += ["--ledger", str(self.ledger)] if self.ledger else []
        return given

    def variables(self) -> dict[str, str]:
        """Give the worker's environment."""
        own = dict.fromkeys(THREADS, str(self.threads))
        own["JOBFLOW_CONFIG_FILE"] = str((self.store or self.directory) / JOBFLOW_FILE)
        return {**os.environ, **own, **self.environment}


@dataclass
class Worker:
    """One worker process."""

    slot: int
    process: subprocess.Popen[bytes]
    events: int
    name: str
    since: float
    job: dict[str, Any] | None = None
    begun: float = 0.0
    token: str = ""
    greeted: bool = False
    unread: bytes = b""

    @classmethod
    def start(cls, slot: int, post: Post) -> Worker:
        """Start one; its output goes to ``logs/`` of the campaign."""
        reading, writing = os.pipe()
        token = secrets.token_hex(8)
        command = [sys.executable, "-m", "workflows.runtime.worker_process", *post.arguments()]
        command += ["--events", str(writing), "--parent", str(os.getpid())]
        logs = post.directory / "logs"
        logs.mkdir(exist_ok=True)
        pilot = f"{post.ledger.name}-" if post.ledger else ""
        with (logs / f"{pilot}worker-{slot}.log").open("ab") as log:
            # a session of its own: Ctrl-C reaches only the supervisor, and a kill reaches what a job has started
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**post.variables(), STARTED_BY: token},
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        os.set_blocking(reading, False)
        name = str(ProcessName.of(process.pid))
        return cls(slot, process, reading, name, time.monotonic(), token=token)

    def read(self) -> list[dict[str, Any]]:
        """Read what it has reported since the last time."""
        with suppress(BlockingIOError):
            while chunk := os.read(self.events, 65536):
                self.unread += chunk
        *lines, self.unread = self.unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        """End it and whatever it started, in sessions of their own too: those inherit the environment."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        kill_started(self.token)


def kill_started(token: str) -> None:
    """Kill all other processes that a worker has started, by the mark that they inherit."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone, or somebody else's
            if process.pid != os.getpid() and process.environ().get(STARTED_BY) == token:
                process.kill()
