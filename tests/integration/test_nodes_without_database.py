"""A compute node that can't reach the database: a network namespace with one cable, whose other end is the login node.

Real worker processes run in it. What leads to the database, the database itself and both are killed meanwhile; in the
end every job has run once and the store says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from fireworks import Workflow

from benchmarks.faults.proxy import free_port
from workflows.runtime import embedded
from workflows.runtime.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUPPORT = Path(__file__).parents[1] / "support"
PATIENCE_S = 400.0
IP, SSH, SSHD, KEYGEN = (shutil.which(name) for name in ("ip", "ssh", "sshd", "ssh-keygen"))
SSHD = SSHD or shutil.which("sshd", path="/usr/sbin")
JOBS = 60

ON_THE_NODE = """
import json, sys
from pathlib import Path
from workflows.runtime.cluster import Through
from workflows.runtime.through import reached
from workflows.runtime.worker import work
campaign, place, through = Path(sys.argv[1]), Path(sys.argv[2]), Through.model_validate_json(sys.argv[3])
with reached(campaign, through, place) as there:
    result = work(there, processes=2, repair_grace_s=1.0)
print(json.dumps([result.reason, result.completed, result.failed]))
"""


def why_not() -> str | None:
    """Say what is missing for a node of our own making."""
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    if IP is None:
        return "needs `ip` of iproute2"
    name = f"nucleate-probe-{os.getpid()}"
    for words in (["netns", "add", name], ["link", "add", "ncp0", "type", "veth", "peer", "name", "ncp1"]):
        done = subprocess.run([IP, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            subprocess.run([IP, "netns", "del", name], capture_output=True, check=False)
            return f"no network namespaces here: {done.stderr.strip()}"
    subprocess.run([IP, "link", "del", "ncp0"], capture_output=True, check=False)
    subprocess.run([IP, "netns", "del", name], capture_output=True, check=False)
    return None


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@dataclass(frozen=True)
class Node:
    """A network namespace and the address of the login node as seen from it."""

    name: str
    login: str

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen([IP, "netns", "exec", self.name, *words], text=True, **options)  # type: ignore[call-overload,no-any-return]

    def reaches(self, host: str, port: int) -> bool:
        probe = f"import socket; socket.create_connection(({host!r}, {port}), timeout=3)"
        return self.start(sys.executable, "-c", probe, stderr=subprocess.DEVNULL).wait() == 0


@pytest.fixture
def node() -> Iterator[Node]:
    tag = secrets.token_hex(3)
    # 198.18.0.0/15 is for tests of networks; four addresses of it
    base = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(63)}"
    prefix, last = base.rpartition(".")[0], int(base.rpartition(".")[2])
    here, there = f"{prefix}.{last + 1}", f"{prefix}.{last + 2}"
    name = f"nucleate-{tag}"

    def ip(*words: str) -> None:
        subprocess.run([IP, *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", f"nc{tag}a", "type", "veth", "peer", "name", f"nc{tag}b", "netns", name)
        ip("addr", "add", f"{here}/30", "dev", f"nc{tag}a")
        ip("link", "set", f"nc{tag}a", "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", f"nc{tag}b")
        ip("-n", name, "link", "set", f"nc{tag}b", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield Node(name, here)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", f"nc{tag}a")
        ip("netns", "del", name)


@dataclass
class Site:
    """A database on the loopback of the login node, with a campaign's worth of jobs."""

    store: Store
    data_dir: Path
    port: int
    directory: Path
    notes: Path

    def kill_database(self) -> None:
        """Kill -9; its supervisor brings it back."""
        server = embedded.status(self.data_dir).server
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)

    def noted(self) -> int:
        return len(self.notes.read_text().splitlines())

    def until(self, jobs: int) -> None:
        eventually(lambda: self.noted() >= jobs)


@pytest.fixture
def site(embedded_data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """Give the embedded server, which does what a replica set does after kill -9, the look of somebody's MongoDB."""
    from sample_jobs import act

    info = embedded.ensure_running(embedded_data_dir)
    place = f"uri: 'mongodb://127.0.0.1:{info.port}/', username: {info.username}, password_env: GROUP_PASSWORD"
    (tmp_path / "config.yaml").write_text(f"stores: {{group: {{{place}, database: test_{secrets.token_hex(6)}}}}}\n")
    monkeypatch.setenv("NUCLEATE_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("GROUP_PASSWORD", info.password.get_secret_value())
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    notes = tmp_path / "notes"
    notes.write_text("")
    with open_store("group") as store:
        store.write_configs(tmp_path / "campaign")
        store.launchpad.bulk_add_wfs([Workflow([act(f"job{i}", str(notes), seconds=0.2)]) for i in range(JOBS)])
        yield Site(store, embedded_data_dir, info.port, tmp_path / "campaign", notes)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def run_on_the_node(node: Node, site: Site, through: str, meanwhile: Callable[[], None]) -> None:
    """Run all jobs on the node; nothing lost, nothing twice, and the store says the same."""
    place = site.directory.parent / "job"
    # What a node has of its own: no word of where the database is beyond the campaign's files.
    environment = {k: v for k, v in os.environ.items() if k not in {"NUCLEATE_CONFIG", "GROUP_PASSWORD"}}
    command = [sys.executable, "-c", ON_THE_NODE, str(site.directory), str(place), through]
    worker = node.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    trouble = threading.Thread(target=meanwhile)
    trouble.start()
    try:
        out, err = worker.communicate(timeout=PATIENCE_S)
    finally:
        worker.kill()
        trouble.join(PATIENCE_S)
    assert worker.returncode == 0, err
    assert '"drained"' in out, (out, err[-2000:])
    ran = Counter(site.notes.read_text().splitlines())
    assert len(ran) == JOBS
    assert {tag: n for tag, n in ran.items() if n > 1} == {}
    fireworks = Counter(fw["state"] for fw in site.store.database.fireworks.find({}, {"state": 1}))
    assert fireworks == {"COMPLETED": JOBS}
    launches = Counter(launch["state"] for launch in site.store.database.launches.find({}, {"state": 1}))
    assert launches["COMPLETED"] == JOBS
    assert set(launches) == {"COMPLETED"}


def test_a_worker_runs_through_a_relay_while_relay_and_database_are_killed(node, site, tmp_path):
    assert not node.reaches("127.0.0.1", site.port)
    assert not node.reaches(node.login, site.port)
    port = free_port(node.login)
    command = [sys.executable, "-m", "workflows.cli", "relay", "--store", "group", "--allow", "198.18.0.0/15"]
    command += ["--listen", f"{node.login}:{port}"]
    log = (tmp_path / "relay.log").open("wb")

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(lambda: listens(node.login, port) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "relay.log").read_text()
        return process

    relays = [start()]

    def meanwhile() -> None:
        site.until(10)
        site.kill_database()
        site.until(25)
        relays[-1].kill()
        relays[-1].wait()
        time.sleep(2.0)
        relays.append(start())
        site.until(40)
        relays[-1].kill()  # and both at once
        relays[-1].wait()
        site.kill_database()
        relays.append(start())

    try:
        assert node.reaches(node.login, port)
        run_on_the_node(node, site, f'{{"relay": "{node.login}:{port}"}}', meanwhile)
    finally:
        for relay in relays:
            relay.terminate()
            relay.wait(30)
        log.close()
    told = (tmp_path / "relay.log").read_text()
    assert "is not loopback: 198.18.0.0/15 can try" in " ".join(told.split())
    assert os.environ["GROUP_PASSWORD"] not in told
    assert relays[-1].returncode == 0


@pytest.fixture
def sshd(node: Node, tmp_path: Path) -> Iterator[list[str]]:
    """Run an sshd on the login node's side of the cable; gives ssh's options."""
    if SSHD is None or SSH is None or KEYGEN is None:
        pytest.skip("needs openssh-server: sshd is not there")
    ssh = tmp_path / "ssh"
    ssh.mkdir(mode=0o700)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd leaves its privileges; its package makes it at boot
    for key in ("host", "user"):
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(ssh / key)], check=True)
    shutil.copy(ssh / "user.pub", ssh / "authorized")
    port = free_port(node.login)
    (ssh / "config").write_text(
        f"ListenAddress {node.login}:{port}\nHostKey {ssh}/host\nAuthorizedKeysFile {ssh}/authorized\nPidFile none\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\n"
    )
    with (ssh / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(ssh / "config")], stdout=log, stderr=log)
    eventually(lambda: listens(node.login, port) or server.poll() is not None)
    assert server.poll() is None, (ssh / "log").read_text()
    (ssh / "known").write_text(f"[{node.login}]:{port} {(ssh / 'host.pub').read_text()}")
    options = ["-F", "none", "-i", str(ssh / "user"), "-p", str(port), "-o", f"UserKnownHostsFile={ssh}/known"]
    options += ["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5"]
    yield options
    server.terminate()
    server.wait(30)


def test_a_worker_runs_through_ssh_while_the_tunnel_and_the_database_are_killed(node, site, sshd):
    forward = "{port}:{host}:{host_port}"
    through = {"tunnel": [SSH, "-N", *sshd, "-L", forward, f"root@{node.login}"]}

    def tunnels() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-1:] == [f"root@{node.login}"]]

    def meanwhile() -> None:
        site.until(10)
        site.kill_database()
        site.until(25)
        for tunnel in tunnels():
            tunnel.kill()
        site.until(40)
        for tunnel in tunnels():
            tunnel.kill()
        site.kill_database()

    run_on_the_node(node, site, json.dumps(through), meanwhile)
    assert tunnels() == []
