"""Two users on one login node: what one of them has is not the other's to read, and nothing listens to the network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from modes import open_to_others

from benchmarks.faults.proxy import free_port
from workflows.runtime import embedded
from workflows.runtime.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

SETPRIV = shutil.which("setpriv")
SOMEBODY = 65534
"""The other user: nobody."""
PATIENCE_S = 90.0
SPEC = """\
name: oxides
chemistry: {systems: [Mg-O], max_elements: 2}
samples: 2
rounds: 1
budget: {verifications: 1}
targets: {phonons: any}
"""


class Login:
    """A user's corner of a login node that others may look into, as far as modes let them."""

    def __init__(self, directory: Path, umask: int) -> None:
        self.directory = directory
        self.umask = umask
        self.data = directory / "data"
        self.campaign = directory / "oxides"
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "NUCLEATE_DATA_DIR": str(self.data)}
        self.environment.pop("NUCLEATE_CONFIG", None)
        (directory / "oxides.yaml").write_text(SPEC)

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workflows.cli", *map(str, words)]
        with (self.directory / "said").open("ab") as said:
            process = subprocess.Popen(
                command, cwd=self.directory, env=self.environment, stdout=said, stderr=said, umask=self.umask
            )
        self.started.append(process)
        return process

    def nucleate(self, *words: object) -> None:
        assert self.start(*words).wait(PATIENCE_S) == 0, (self.directory / "said").read_text()

    def password(self) -> str:
        return (self.data / "embedded" / "password").read_text().strip()

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)
        embedded.stop(self.data)


@pytest.fixture
def login(request: pytest.FixtureRequest) -> Iterator[Login]:
    """Give a corner under a directory that everybody may enter; pytest's own are closed to others anyway."""
    with tempfile.TemporaryDirectory(prefix="nucleate-login-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        made = Login(directory, getattr(request, "param", 0o000))
        yield made
        made.close()


def holds(path: Path, secret: str) -> bool:
    return path.is_file() and secret.encode() in path.read_bytes()


@pytest.mark.parametrize("login", [0o000, 0o022], indirect=True, ids=["umask 000", "umask 022"])
def test_what_a_campaign_writes_is_its_owner_s_and_its_server_hears_this_host_only(login):
    login.nucleate("launch", login.directory / "oxides.yaml")
    worker = login.start("work", "-C", login.campaign, "--processes", 1, "--wait", "--grace", 1)
    log = login.campaign / "logs" / "worker-1.log"
    deadline = time.monotonic() + PATIENCE_S
    while not (log.exists() and list((login.campaign).glob("launches/*/*/*"))):
        assert time.monotonic() < deadline, (login.directory / "said").read_text()
        assert worker.poll() is None, (login.directory / "said").read_text()
        time.sleep(0.1)

    # modes
    assert open_to_others(login.data, login.campaign) == {}

    # nothing listens but the server, on loopback
    server = embedded.status(login.data)
    assert server.server is not None
    ours = [psutil.Process(server.server), psutil.Process(server.supervisor), psutil.Process(worker.pid)]
    ours += psutil.Process(worker.pid).children(recursive=True)
    assert len(ours) >= 4  # the worker process itself is among them
    listening = {
        (c.laddr.ip, c.laddr.port)
        for process in ours
        for c in process.net_connections()
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", server.port)}

    # the password: in its file and the two store files, and nowhere else
    password = login.password()
    seen = {path.name for path in login.directory.rglob("*") if holds(path, password)} - {"said"}
    assert {name for name in seen if not name.startswith("WiredTiger")} == {
        "password",
        "my_launchpad.yaml",
        "jobflow.yaml",
    }
    assert not holds(login.directory / "said", password)
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert any("worker_process" in line for line in lines)
    assert not [line for line in lines if password in line]
    for process in ours:
        assert password not in " ".join(process.environ().values())

    # a report is what others call a dashboard
    login.nucleate("report", "-C", login.campaign, "-o", login.directory / "report")
    assert open_to_others(login.directory / "report") == {}


@pytest.mark.skipif(os.geteuid() != 0 or SETPRIV is None, reason="needs root and setpriv, to be somebody else")
def test_somebody_else_on_the_host_gets_at_nothing(login):
    login.nucleate("launch", login.directory / "oxides.yaml")

    def somebody(*words: object) -> subprocess.CompletedProcess[str]:
        become = [SETPRIV, f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups", "--no-new-privs"]
        return subprocess.run([*become, *map(str, words)], capture_output=True, text=True, check=False)

    assert somebody("cat", login.directory / "oxides.yaml").stdout == SPEC  # the user's own file, under their own umask
    for path in (
        login.data / "embedded" / "password",
        login.data / "embedded" / "server.json",
        login.campaign / "my_launchpad.yaml",
        login.campaign / "jobflow.yaml",
        login.campaign / "campaign.yaml",
    ):
        assert path.exists()
        assert "Permission denied" in somebody("cat", path).stderr, path
    assert "Permission denied" in somebody("ls", login.campaign).stderr
    assert somebody("find", login.data, "-type", "f").stdout == ""
    assert "Permission denied" in somebody("touch", login.campaign / "mine").stderr
    server = embedded.status(login.data)
    assert "Permission denied" in somebody("cat", f"/proc/{server.server}/environ").stderr
    # The port is there for everybody on the host: who has no password gets nothing through it.
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    import pymongo

    with (
        pymongo.MongoClient("127.0.0.1", server.port) as client,
        pytest.raises(pymongo.errors.OperationFailure) as refused,
    ):
        client.nucleate.campaigns.find_one()
    assert refused.value.code == 13


def test_a_group_is_let_in_only_when_told_to(login):
    login.environment["NUCLEATE_UMASK"] = "027"
    login.nucleate("launch", login.directory / "oxides.yaml")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in login.campaign.iterdir()}
    assert modes == {"campaign.yaml": 0o640, "my_launchpad.yaml": 0o600, "jobflow.yaml": 0o600}
    assert open_to_others(login.data / "embedded") == {}
    login.environment["NUCLEATE_UMASK"] = "public"
    assert login.start("server", "status").wait(PATIENCE_S) == 2
    assert "three octal digits" in (login.directory / "said").read_text()


def test_a_relay_hears_this_host_only_and_its_words_hold_no_password(uri_profile, daemon, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "workflows.cli", "relay", "--store", uri_profile, "--listen", f"localhost:{port}"]
    with (tmp_path / "log").open("wb") as log:
        relay = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while b"relaying" not in (tmp_path / "log").read_bytes():
            assert time.monotonic() < deadline
            assert relay.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        process = psutil.Process(relay.pid)
        listening = {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening
        assert listening <= {"127.0.0.1", "::1"}
        assert daemon.password not in " ".join(process.cmdline())
    finally:
        relay.terminate()
        assert relay.wait(PATIENCE_S) == 0
    assert daemon.password not in (tmp_path / "log").read_text()


def test_no_document_of_a_store_holds_its_password(uri_profile, daemon, tmp_path):
    from workflows.campaign import launch
    from workflows.spec import CampaignSpec

    spec = CampaignSpec.model_validate(
        {"name": "oxides", "chemistry": {"systems": ["Mg-O"]}, "samples": 2, "rounds": 1, "store": uri_profile}
    )
    with open_store(uri_profile) as store:
        launch(spec, tmp_path / "oxides", store=store)
        names = store.database.list_collection_names()
        assert {"fireworks", "campaigns", "rounds"} <= set(names)
        for name in names:
            for document in store.database[name].find():
                assert daemon.password not in str(document), name
