"""The stand-in for a group's MongoDB: a server process of its own that can be killed and comes back as it was.

It is the embedded server's process (SecantusDB over WiredTiger, synced on commit, retryable writes kept on disk as
MongoDB keeps them), run here without its supervisor, so that nobody but the fault decides when it lives.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pymongo

from benchmarks.faults.proxy import free_port

if TYPE_CHECKING:
    from pathlib import Path

USERNAME = "ada"


class Database:
    """A server with one user.

    Parameters
    ----------
    directory : pathlib.Path
        Its own; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.password = secrets.token_hex(16)
        directory.mkdir(parents=True)
        file = self.password_file
        file.touch(mode=0o600)
        file.write_text(self.password)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1

    @property
    def password_file(self) -> Path:
        """Where the password is, for a profile."""
        return self.directory / "password"

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises
        ------
        RuntimeError
            With its log, if it does not.
        """
        report_read, report_write = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        command = [sys.executable, "-m", "workflows.runtime.embedded_server", str(self.directory)]
        command += ["--port", str(self.port), "--username", USERNAME, "--idle-seconds", "1e7", "--cache", "128M"]
        command += ["--report-fd", str(report_write), "--lifeline-fd", str(lifeline_read)]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[report_write, lifeline_read]
            )
        os.close(report_write)
        os.close(lifeline_read)
        with os.fdopen(report_read) as report:
            said = report.readline()
        if "ready" not in said:
            raise RuntimeError(f"the database does not start: {said}\n{(self.directory / 'server.log').read_text()}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._lifeline)
            self._process = None

    def client(self, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        """Connect past the proxy: whoever judges must see while the nodes do not."""
        return pymongo.MongoClient(
            "127.0.0.1",
            self.port,
            username=USERNAME,
            password=self.password,
            directConnection=True,
            **{"serverSelectionTimeoutMS": 800, "timeoutMS": 3000, **options},
        )
