"""The relay and what jobs make of it: real connections, a real database, real signals."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pymongo
import pytest
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from benchmarks.faults.proxy import free_port
from workflows.runtime import embedded
from workflows.runtime.address import Address, address_in, address_of, split_host_port, write_files
from workflows.runtime.cluster import Through
from workflows.runtime.relay import Relay, Upstream, networks, warnings_of
from workflows.runtime.settings import StoreError, load_settings
from workflows.runtime.store import open_store, open_store_from_files
from workflows.runtime.through import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60.0
OPENSSL = shutil.which("openssl")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def address(uri: str, username: str | None = "ada") -> Address:
    return Address("group", uri, 27017, "nucleate", username, SecretStr("s3cret"), "admin", "gridfs", 5000)


class Started:
    """A ``nucleate relay`` that can be killed and started again on the same port."""

    def __init__(self, log: Path, *options: str, port: int | None = None) -> None:
        self.log, self.options, self.port = log, options, port or free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "workflows.cli", "relay", "--listen", f"127.0.0.1:{self.port}", *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(lambda: listens(self.port) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def start(*options: str, **more: int) -> Started:
        made.append(Started(tmp_path / "relay.log", *options, **more))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()


def test_jobs_ride_through_the_relay_s_death_and_the_campaign_s_own_files_stay(uri_profile, started, tmp_path):
    with open_store(uri_profile) as store:
        store.write_configs(tmp_path / "campaign")
    before = (tmp_path / "campaign/my_launchpad.yaml").read_text()
    relay = started("--store", uri_profile)
    with reached(tmp_path / "campaign", Through(relay=f"127.0.0.1:{relay.port}"), tmp_path / "job") as there:
        assert {path.name: path.stat().st_mode & 0o777 for path in there.iterdir()} == {
            "my_launchpad.yaml": 0o600,
            "jobflow.yaml": 0o600,
        }
        assert there.stat().st_mode & 0o777 == 0o700
        with open_store_from_files(there) as store:
            assert f":{relay.port}/" in store.address.host
            store.database.notes.insert_one({"_id": 1})
            relay.end(signal.SIGKILL)
            threading.Timer(1.5, relay.start).start()
            store.database.notes.insert_one({"_id": 2})  # waits, and is done once
            # what the JobStore and its additional store use goes the same way
            store.jobstore.update([{"uuid": "u", "index": 1, "output": 5}])
            assert store.jobstore.get_output("u") == 5
    assert (tmp_path / "campaign/my_launchpad.yaml").read_text() == before
    assert list((tmp_path / "job").iterdir()) == []  # no copies of the password stay behind
    with open_store(uri_profile) as store:
        assert store.database.notes.count_documents({}) == 2
    assert relay.end() == 0
    told = relay.log.read_text()
    assert "stopped; " in told
    assert "s3cret" not in told
    assert address_of(uri_profile, load_settings())._password() not in told


class Echo:
    """A server that says its name and then what it hears; it stands for a member of a replica set."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    async def __aenter__(self) -> tuple[str, int]:
        self.server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.name)
        while heard := await reader.read(100_000):
            writer.write(heard)
            await writer.drain()
        writer.close()


class Pointed(Upstream):
    """Points where the test says."""

    def __init__(self, where: tuple[str, int] | None) -> None:
        super().__init__(address("mongodb://127.0.0.1:1/"))
        self.pointed = where

    def watch(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    @property
    def where(self) -> tuple[str, int] | None:
        return self.pointed

    def move(self, where: tuple[str, int]) -> None:
        self.pointed = where
        self._on_change()


def with_a_relay(use, *, allow=()):
    """Run ``use(port, upstream, relay)`` beside a relay in one event loop."""

    async def run() -> None:
        upstream = Pointed(None)
        relay = Relay(upstream, networks(allow))
        stop, listening, port = asyncio.Event(), asyncio.Event(), free_port()
        serving = asyncio.create_task(relay.serve("127.0.0.1", port, stop, listening.set))
        await asyncio.wait_for(listening.wait(), 10)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await use(port, upstream, relay)
        finally:
            stop.set()
            await serving

    asyncio.run(run())


def test_the_relay_follows_the_primary_and_lets_nobody_talk_to_one_that_was():
    async def use(port, upstream, relay):
        async with Echo(b"A") as a, Echo(b"B") as b:
            upstream.pointed = a
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(1) == b"A"
            upstream.move(b)
            assert await reader.read() == b""  # closed at once: the driver dials again
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(1) == b"B"
            upstream.move(b)  # told again: nothing happens
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.close()

    with_a_relay(use)


def test_what_goes_through_is_what_was_sent_however_large_and_from_many_at_once():
    sent = bytes(range(256)) * 12_000

    async def use(port, upstream, relay):
        async with Echo(b"A") as a:
            upstream.pointed = a

            async def one():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.readexactly(1) == b"A"
                writer.write(sent)
                assert await reader.readexactly(len(sent)) == sent
                writer.close()

            await asyncio.gather(*(one() for _ in range(20)))
            assert relay.tally.opened == 20

    with_a_relay(use)


def test_nobody_answers_and_connections_are_closed_rather_than_kept_waiting():
    async def use(port, upstream, relay):
        for where in (None, ("127.0.0.1", free_port())):  # no primary known; nobody there
            upstream.pointed = where
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert (relay.tally.opened, relay.tally.unanswered) == (0, 2)

    with_a_relay(use)


def test_allow_closes_the_door_to_everybody_else():
    async def use(port, upstream, relay):
        async with Echo(b"A") as a:
            upstream.pointed = a
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            assert (relay.tally.refused, relay.tally.opened) == (1, 0)

    with_a_relay(use, allow=["10.1.0.0/16"])

    async def welcome(port, upstream, relay):
        async with Echo(b"A") as a:
            upstream.pointed = a
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(1) == b"A"

    with_a_relay(welcome, allow=["10.1.0.0/16", "127.0.0.0/8"])


def test_listening_beyond_loopback_is_said_and_a_store_without_user_is_refused():
    tls = address("mongodb://db.example.org/?tls=true")
    assert warnings_of(tls, "127.0.0.1", 27117, []) == warnings_of(tls, "::1", 27117, []) == []
    told = warnings_of(tls, "0.0.0.0", 27117, [])  # noqa: S104 - what is warned of
    assert "every host that reaches this one can try to log in" in told[0]
    assert "--allow" in told[1]
    (told,) = warnings_of(tls, "0.0.0.0", 27117, networks(["10.1.0.0/16"]))  # noqa: S104
    assert "10.1.0.0/16 can try" in told
    assert "no TLS" in warnings_of(address("mongodb://db.example.org/"), "0.0.0.0", 27117, [])[-1]  # noqa: S104
    with pytest.raises(StoreError, match="has no user"):
        warnings_of(address("mongodb://db.example.org/", username=None), "0.0.0.0", 27117, [])  # noqa: S104


def test_addresses_through_a_relay_name_one_host_and_keep_what_matters():
    through = address("mongodb://a:1,b:2/?replicaSet=rs0&tls=true&tlsCAFile=%2Fca.pem&directConnection=false")
    assert through.by_way_of("login1", 27117).host == (
        "mongodb://login1:27117/?replicaSet=rs0&tls=true&tlsCAFile=%2Fca.pem&directConnection=true"
    )
    srv = address("mongodb+srv://cluster.example.org/?retryWrites=true").by_way_of("::1", 5, any_certificate_name=True)
    assert srv.host == (
        "mongodb://[::1]:5/?retryWrites=true&tls=true&directConnection=true&tlsAllowInvalidHostnames=true"
    )
    pymongo.MongoClient(srv.host, connect=False).close()  # drivers read it
    for wrong in ("login1", "login1:", ":27117", "login1:0", "login1:65536", "login1:x", "a@b:1"):
        with pytest.raises(StoreError, match="no HOST:PORT"):
            split_host_port(wrong)


def test_a_tunnel_is_started_again_when_it_dies_and_ended_with_the_job(uri_profile, tmp_path):
    # The command that carries the port is our own relay; with ssh it is tried in tests/integration.
    command = (sys.executable, "-m", "workflows.cli", "relay", "--store", uri_profile, "--listen", "127.0.0.1:{port}")
    with open_store(uri_profile) as store:
        store.write_configs(tmp_path / "campaign")
    with reached(tmp_path / "campaign", Through(tunnel=command), tmp_path / "job") as there:
        assert (there / "tunnel.log").stat().st_mode & 0o777 == 0o600
        port = address_in(there).port
        (tunnel,) = processes_with(f"127.0.0.1:{port}")
        with open_store_from_files(there) as store:
            store.database.notes.insert_one({"_id": 1})
            tunnel.kill()
            store.database.notes.insert_one({"_id": 2})
            assert store.database.notes.count_documents({}) == 2
        (second,) = processes_with(f"127.0.0.1:{port}")
        assert second.pid != tunnel.pid
    assert not second.is_running() or second.status() == "zombie"
    assert not listens(port)


def processes_with(word: str):
    return [p for p in psutil.process_iter(["cmdline"]) if word in (p.info["cmdline"] or [])]


@pytest.mark.parametrize(
    ("command", "uri", "told"),
    [
        (("no-such-command", "{port}"), "mongodb://h:1/", "can't be started: No such file"),
        (("sh", "-c", "echo Permission denied >&2"), "mongodb://h:1/", "ends with: Permission denied"),
        (("ssh", "-L", "{port}:{host}:{host_port}"), "mongodb://a:1,b:2/", "names several hosts"),
        (("ssh", "{prot}"), "mongodb://h:1/", "{prot} is none of {port}, {host}, {host_port}"),
    ],
)
def test_a_tunnel_that_does_not_come_up_says_why(command, uri, told, tmp_path):
    write_files(address(uri), tmp_path)
    with pytest.raises(StoreError) as caught, reached(tmp_path, Through(tunnel=command), tmp_path / "job"):
        pass
    assert told in str(caught.value)
    assert not (tmp_path / "job/my_launchpad.yaml").exists()


def test_the_embedded_store_is_for_one_host(store, tmp_path):
    store.write_configs(tmp_path)
    with pytest.raises(StoreError, match="for one host"), reached(tmp_path, Through(relay="a:1"), tmp_path / "job"):
        pass


@pytest.mark.skipif(OPENSSL is None, reason="makes its certificates with openssl, which is not there")
def test_tls_stays_between_job_and_database_and_its_name_is_checked(started, monkeypatch, tmp_path):
    certify(tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "secantus", "--port", str(port), "--storage-path", str(tmp_path / "db")]
    command += ["--tls-cert-file", str(tmp_path / "db.crt"), "--tls-key-file", str(tmp_path / "db.key")]
    with (tmp_path / "db.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: listens(port))
        uri = f"mongodb://localhost:{port}/?tls=true&tlsCAFile={tmp_path / 'ca.crt'}"
        (tmp_path / "config.yaml").write_text(f"stores: {{tls: {{uri: '{uri}'}}}}\n")
        monkeypatch.setenv("NUCLEATE_CONFIG", str(tmp_path / "config.yaml"))
        monkeypatch.setenv("NUCLEATE_STORE_TIMEOUT_SECONDS", "3")
        direct = address_of("tls", load_settings())
        relay = started("--store", "tls")
        # The certificate is made out to localhost; the relay is dialled by its number.
        for any_name, works in ((False, False), (True, True)):
            host = direct.by_way_of("127.0.0.1", relay.port, any_certificate_name=any_name).host
            with pymongo.MongoClient(host, serverSelectionTimeoutMS=3000) as client:
                if works:
                    assert client.admin.command("ping")["ok"] == 1
                else:
                    with pytest.raises(PyMongoError, match="certificate"):
                        client.admin.command("ping")
        named = direct.by_way_of("localhost", relay.port).host  # or the relay's name is in the certificate
        with pymongo.MongoClient(named, serverSelectionTimeoutMS=3000) as client:
            assert client.admin.command("ping")["ok"] == 1
    finally:
        server.kill()  # it may take longer to end by itself than anybody waits
        server.wait()


def certify(directory: Path) -> None:
    """Make an authority and a certificate of ``localhost``."""

    def openssl(*words: str) -> None:
        subprocess.run([OPENSSL, *words], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl(*new, "ca.key", "-x509", "-days", "2", "-out", "ca.crt", "-subj", "/CN=authority")
    openssl(*new, "db.key", "-out", "db.csr", "-subj", "/CN=localhost")
    (directory / "names").write_text("subjectAltName=DNS:localhost")
    signed = ("x509", "-req", "-in", "db.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(*signed, "-out", "db.crt", "-extfile", "names")


def test_many_workers_are_no_matter_of_the_shell_s_limit_of_open_files(uri_profile, started):
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
    try:
        relay = started("--store", uri_profile)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
    opened = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(80)]
    time.sleep(1.0)
    for connection in opened:
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):  # open: nobody speaks before the driver does
            connection.recv(1)
        connection.close()


def test_a_database_that_is_killed_is_found_again(embedded_data_dir, started, monkeypatch, tmp_path):
    info = embedded.ensure_running(embedded_data_dir)
    config = f"stores: {{group: {{uri: 'mongodb://127.0.0.1:{info.port}/', username: {info.username}"
    (tmp_path / "config.yaml").write_text(f"{config}, password_env: GROUP_PASSWORD, database: test_relay}}}}\n")
    monkeypatch.setenv("NUCLEATE_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("GROUP_PASSWORD", info.password.get_secret_value())
    with open_store("group") as store:
        store.write_configs(tmp_path / "campaign")
    relay = started("--store", "group")
    through = Through(relay=f"127.0.0.1:{relay.port}")
    with reached(tmp_path / "campaign", through, tmp_path / "job") as there, open_store_from_files(there) as store:
        for number in range(40):
            if number == 20:
                os.kill(embedded.status(embedded_data_dir).server, signal.SIGKILL)
            store.database.notes.insert_one({"_id": number})
        assert store.database.notes.count_documents({}) == 40
