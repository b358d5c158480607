"""Fixtures that every test may use: a database of its own, over TCP.

Those of Quantum ESPRESSO, SLURM and the stand-in for VASP lie in ``tests/support``.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pymongo
import pytest
from pymongo.errors import PyMongoError

from benchmarks.faults.proxy import free_port
from workflows.runtime import embedded
from workflows.runtime.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ("espresso_fixtures", "slurm_fixtures", "vasp_stand_in.fixtures")
"""In ``tests/support``, which pytest puts on the path."""


@pytest.fixture(scope="session")
def embedded_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data directory of this session's embedded server, which starts with its first use and stops with the session."""
    directory = tmp_path_factory.mktemp("data")
    yield directory
    embedded.stop(directory)


@pytest.fixture(autouse=True)
def _own_surroundings(
    embedded_data_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep every test away from the user's own settings, data and server."""
    for name in [n for n in os.environ if n.startswith(("NUCLEATE_", "JOBFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(embedded_data_dir))
    monkeypatch.setenv("NUCLEATE_EMBEDDED_IDLE_SECONDS", "120")  # if the session dies, its server soon follows
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Open store ``embedded`` with a fresh database.

    The environment names it too, so that ``open_store("embedded")`` and sub-processes find the same one.
    """
    database = f"test_{secrets.token_hex(6)}"
    monkeypatch.setenv("NUCLEATE_EMBEDDED_DATABASE", database)
    opened = open_store("embedded")
    yield opened  # the database goes with the session's server; dropping it would cost every test 0.3 s
    opened.close()


@dataclass(frozen=True)
class Daemon:
    """A SecantusDB daemon that demands authentication, reached like any MongoDB: by URI, user and password."""

    port: int
    username: str
    password: str
    directory: Path

    @property
    def uri(self) -> str:
        """Without credentials."""
        return f"mongodb://127.0.0.1:{self.port}/"


def _serve(directory: Path, port: int, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "secantus", "--port", str(port), "--storage-path", str(directory / "db"), *flags]
    log = (directory / "daemon.log").open("ab")
    with log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5):
                return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError((directory / "daemon.log").read_text())


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Run the stand-in for somebody else's MongoDB: the user is made first, then it is served with ``--auth``."""
    directory = tmp_path_factory.mktemp("daemon")
    port = free_port()
    made = Daemon(port, "ada", f"pw-{secrets.token_hex(8)}", directory)
    process = _serve(directory, port)
    with pymongo.MongoClient(made.uri) as client:  # type: ignore[var-annotated]
        client.admin.command("createUser", made.username, pwd=made.password, roles=["root"])
    process.terminate()
    process.wait(timeout=30)
    process = _serve(directory, port, "--auth", "--sync-on-commit")
    try:
        yield made
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def uri_profile(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Configure a profile ``cluster`` for the daemon, with a fresh database; gives the profile's name."""
    database = f"test_{secrets.token_hex(6)}"
    config = tmp_path / "config.yaml"
    config.write_text(
        "stores:\n"
        "  cluster:\n"
        f"    uri: {daemon.uri}\n"
        f"    database: {database}\n"
        f"    username: {daemon.username}\n"
        "    password_env: CLUSTER_PASSWORD\n"
    )
    monkeypatch.setenv("NUCLEATE_CONFIG", str(config))
    monkeypatch.setenv("CLUSTER_PASSWORD", daemon.password)
    yield "cluster"
    with pymongo.MongoClient(daemon.uri, username=daemon.username, password=daemon.password) as client:  # type: ignore[var-annotated]
        try:
            client.drop_database(database)
        except PyMongoError as error:
            pytest.fail(f"the daemon is gone: {error}")
