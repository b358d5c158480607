"""The small process that keeps one embedded server alive; it outlives the command that started it.

Only the standard library is imported here: the process stays small, and nothing of it can break with a dependency.
Files in its directory: ``server.lock`` (held while supervisor or server live), ``state.json`` (who runs, or why nobody
does), ``server.log``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

IDLE_EXIT = 64
CANNOT_START_EXIT = 65
LOCK_PATIENCE_SECONDS = 20.0
"""An orphaned server needs a moment to notice and close; until then it holds the lock."""
STARTS_BEFORE_GIVING_UP = 5
START_PATIENCE_SECONDS = 60.0
LOG_LIMIT_BYTES = 10_000_000


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all.

    Raises
    ------
    OSError
        If the directory can't be written or the disk is full; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def acquire(path: Path, patience_seconds: float) -> int | None:
    """Take an exclusive lock on a file.

    Returns
    -------
    int or None
        The open descriptor, which is the lock; ``None`` if somebody else kept it for the whole time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            return descriptor


class Supervisor:
    """Starts the server, starts it again when it dies, stops when it is told to or when nobody needs it.

    Parameters
    ----------
    directory : pathlib.Path
        The embedded server's own.
    port : int
        Where the server listens, on 127.0.0.1.
    username : str
        The one user that the server knows.
    idle_seconds : float
        Time without a client after which the server stops.
    cache : str
        The database's cache, for example ``512M``.
    token : str
        Echoed in ``state.json``, so that the starter knows its own start.
    """

    def __init__(
        self, *, directory: Path, port: int, username: str, idle_seconds: float, cache: str, token: str
    ) -> None:
        self.directory = directory
        self.port = port
        self.username = username
        self.idle_seconds = idle_seconds
        self.cache = cache
        self.token = token
        self.stopping = False
        self.server: subprocess.Popen[bytes] | None = None

    def record(self, state: str, **facts: Any) -> None:
        """Write ``state.json``; a full disk must not take a healthy server down, so errors are only logged."""
        facts |= {"state": state, "supervisor": os.getpid(), "port": self.port, "token": self.token}
        facts["server"] = self.server.pid if self.server and state == "running" else None
        facts["at"] = time.time()
        try:
            write_private(self.directory / "state.json", json.dumps(facts))
        except OSError as error:
            print(f"state.json can't be written: {error}", file=sys.stderr, flush=True)  # noqa: T201 - into the log

    def on_signal(self, *_: Any) -> None:
        """Pass a request to stop on to the server."""
        self.stopping = True
        if self.server:
            with contextlib.suppress(ProcessLookupError):
                self.server.terminate()

    def start(self, lock: int, lifeline: int) -> str | None:
        """Start the server and wait until it listens.

        Returns
        -------
        str or None
            Why it didn't start; ``None`` if it listens.
        """
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "workflows.runtime.embedded_server", str(self.directory)]
        command += ["--port", str(self.port), "--username", self.username, "--cache", self.cache]
        command += ["--idle-seconds", str(self.idle_seconds)]
        command += ["--report-fd", str(writing), "--lifeline-fd", str(lifeline)]
        try:
            # The lock goes along: it stays taken until the last of the two processes is gone.
            self.server = subprocess.Popen(command, pass_fds=(writing, lifeline, lock))  # noqa: S603 - our own module
        finally:
            os.close(writing)
        with os.fdopen(reading, "r", encoding="utf-8") as pipe:
            ready, _, _ = select.select([pipe], [], [], START_PATIENCE_SECONDS)
            line = pipe.readline() if ready else ""
        if not line:
            if not ready:
                self.server.kill()
            self.server.wait()
            return "it died while starting"
        facts = json.loads(line)
        return str(facts["error"]) if "error" in facts else None

    def run(self, lock: int) -> int:
        """Keep the server alive.

        Returns
        -------
        int
            0 if stopped on purpose, 1 if the server can't be kept alive.
        """
        # The server holds the reading end and sees the end of file when we are gone, however we died.
        lifeline, _held = os.pipe()
        failures = 0
        while not self.stopping:
            self.record("starting")
            reason = self.start(lock, lifeline)
            if reason is None:
                failures = 0
                self.record("running")
            assert self.server is not None  # noqa: S101 - for the type checker: start() made it
            code = self.server.wait()
            if code == IDLE_EXIT or self.stopping:
                break
            failures += 1
            if code == CANNOT_START_EXIT or failures >= STARTS_BEFORE_GIVING_UP:
                self.record("failed", error=reason or f"it keeps dying (exit code {code})")
                return 1
            print(f"the server died (exit code {code}); starting it again", file=sys.stderr, flush=True)  # noqa: T201
            time.sleep(0.1 * failures)
        # Who was stopped on purpose is not brought back by a worker that still runs.
        self.record("stopped" if self.stopping else "idle")
        return 0


def main() -> int:
    """Detach, take the lock and supervise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--idle-seconds", type=float, required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--token", required=True)
    options = parser.parse_args()
    if os.fork():
        return 0  # whoever started us reaps this one at once; the supervisor belongs to init
    os.umask(0o077)  # the database's own files too, whatever the shell says
    log_path = options.directory / "server.log"
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    supervisor = Supervisor(**vars(options))
    signal.signal(signal.SIGTERM, supervisor.on_signal)
    signal.signal(signal.SIGINT, supervisor.on_signal)
    lock = acquire(options.directory / "server.lock", LOCK_PATIENCE_SECONDS)
    if lock is None:
        supervisor.record("failed", error="another server holds the lock and doesn't answer")
        return 1
    return supervisor.run(lock)


if __name__ == "__main__":
    sys.exit(main())
