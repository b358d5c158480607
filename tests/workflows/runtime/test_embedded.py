from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError

import psutil
import pymongo
import pytest
from bson import decode
from pymongo.errors import OperationFailure

from workflows.runtime import embedded
from workflows.runtime.settings import StoreError
from workflows.runtime.store import open_store


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A data directory of the test's own, with the server that it may have started."""
    directory = tmp_path / "data"
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(directory))
    yield directory
    embedded.stop(directory)


def connect(info, **options):
    password = info.password.get_secret_value()
    return pymongo.MongoClient(info.host, info.port, username=info.username, password=password, **options)


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_processes_that_race_to_start_it_get_the_same_server(data_dir):
    code = "from workflows.runtime import embedded as e; print(e.ensure_running().port, e.status().server)"
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = {racer.communicate(timeout=120)[0].strip() for racer in racers}
    assert len(told) == 1
    state = embedded.status(data_dir)
    # All four commands are gone by now, and the server is still there.
    assert told == {f"{state.port} {state.server}"}
    with connect(embedded.ensure_running(data_dir)) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_nobody_gets_in_without_the_password(store):
    info = embedded.ensure_running()
    with pymongo.MongoClient(info.host, info.port) as client, pytest.raises(OperationFailure) as refused:
        client["nucleate"]["campaigns"].find_one()
    assert refused.value.code == 13
    wrong = pymongo.MongoClient(info.host, info.port, username=info.username, password="guess")
    with wrong as client, pytest.raises(OperationFailure) as refused:
        client["nucleate"]["campaigns"].find_one()
    assert refused.value.code == 18


def test_it_listens_on_loopback_only(store):
    state = embedded.status()
    listening = [c for c in psutil.Process(state.server).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", state.port)]


def test_the_password_is_nowhere_to_be_seen(store):
    info = embedded.ensure_running()
    password = info.password.get_secret_value()
    state = embedded.status()
    seen = [repr(info), str(info), repr(state), state.log.read_text(), (state.directory / "state.json").read_text()]
    for pid in (state.server, state.supervisor):
        process = psutil.Process(pid)
        seen += [*process.cmdline(), *process.environ().values()]
    assert len(password) > 40
    assert not [s for s in seen if password in s]


def test_its_files_are_private(store):
    home = embedded.status().directory
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("password", "server.json", "state.json", "server.log", "server.lock", "start.lock"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name


def test_the_gpl_stays_in_the_process_of_its_own():
    code = (
        "import sys, workflows.runtime.store, workflows.runtime.supervisor; "
        "sys.exit(any(m.split('.')[0] in {'secantus', 'wiredtiger'} for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "GPL-2.0" in embedded.label()
    assert "beta" in embedded.label()


def test_a_killed_server_comes_back_on_its_port_with_all_that_was_acknowledged(data_dir):
    info = embedded.ensure_running(data_dir)
    with connect(info) as client:
        for number in range(20):
            client.test.things.insert_one({"_id": number})
        killed = embedded.status(data_dir).server
        os.kill(killed, signal.SIGKILL)
        assert [d["_id"] for d in client.test.things.find()] == list(range(20))
        wait_until(lambda: embedded.status(data_dir).server not in {None, killed})
    assert embedded.status(data_dir).port == info.port


def test_an_open_store_brings_back_server_and_supervisor(data_dir):
    with open_store("embedded") as store:
        store.campaigns.insert_one({"name": "a"})
        state = embedded.status(data_dir)
        os.kill(state.supervisor, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.server, signal.SIGKILL)
        store.campaigns.insert_one({"name": "b"})
        assert sorted(store.campaigns.distinct("name")) == ["a", "b"]
        assert embedded.status(data_dir).supervisor != state.supervisor


def test_a_server_never_outlives_its_supervisor(data_dir):
    embedded.ensure_running(data_dir)
    state = embedded.status(data_dir)
    os.kill(state.supervisor, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(state.server))
    assert not embedded.status(data_dir).running


def test_stopped_on_purpose_it_stays_stopped_though_a_worker_still_runs(data_dir):
    with open_store("embedded") as store:
        assert embedded.stop(data_dir)
        embedded.revive(data_dir)  # what the worker's monitor does
        assert not embedded.status(data_dir).running
        embedded.ensure_running(data_dir)  # what a new command does
        assert store.campaigns.find_one() is None
    assert embedded.stop(data_dir)
    assert not embedded.stop(data_dir)


def test_it_stops_when_nobody_is_connected(data_dir, monkeypatch):
    monkeypatch.setenv("NUCLEATE_EMBEDDED_IDLE_SECONDS", "3")
    info = embedded.ensure_running(data_dir)
    with connect(info) as client:
        client.admin.command("ping")
        time.sleep(4.5)  # longer than the limit; a client is connected
        assert embedded.status(data_dir).running
    wait_until(lambda: not embedded.status(data_dir).running)
    assert embedded.ensure_running(data_dir).port == info.port


class SwallowingProxy(threading.Thread):
    """Passes everything on until a command of the given name is answered; swallows that answer and kills the server."""

    def __init__(self, port, command, kill):
        super().__init__(daemon=True)
        self.server_port, self.command, self.kill = port, command, kill
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.swallowed = 0

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def message(source):
        head = b""
        while len(head) < 4:
            part = source.recv(4 - len(head))
            if not part:
                return None
            head += part
        rest = int.from_bytes(head, "little") - 4
        while rest:
            part = source.recv(min(rest, 65536))
            if not part:
                return None
            head, rest = head + part, rest - len(part)
        return head

    def serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port))
        except OSError:
            client.close()
            return
        with client, server, contextlib.suppress(OSError):
            while (request := self.message(client)) is not None:
                server.sendall(request)
                op_msg = request[12:16] == (2013).to_bytes(4, "little")
                body = request[21 : 21 + int.from_bytes(request[21:25], "little")]
                if op_msg and not self.swallowed and next(iter(decode(body))) == self.command:
                    self.swallowed += 1
                    assert self.message(server) is not None  # the write is done and committed
                    self.kill()
                    return
                # The monitor's stream of hellos has more answers than requests; it asks for one at a time here.
                answer = self.message(server)
                if answer is None:
                    return
                client.sendall(answer)


@pytest.mark.parametrize("command", ["findAndModify", "insert", "update", "delete"])
def test_a_write_whose_acknowledgement_was_lost_is_done_once(data_dir, command):
    info = embedded.ensure_running(data_dir)
    with connect(info) as client:
        client.test.things.insert_many([{"_id": n, "n": 0} for n in range(3)])
    proxy = SwallowingProxy(info.port, command, lambda: os.kill(embedded.status(data_dir).server, signal.SIGKILL))
    proxy.start()
    through = connect(
        embedded.ConnectionInfo(info.host, proxy.port, info.username, info.password),
        directConnection=True,
        serverMonitoringMode="poll",
        timeoutMS=60000,
    )
    with through as client, connect(info) as direct:
        things, truth = client.test.things, direct.test.things
        if command == "findAndModify":
            assert things.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}) == {"_id": 1, "n": 0}
            assert truth.find_one({"_id": 1})["n"] == 1
        elif command == "insert":
            assert things.insert_many([{"_id": 7}, {"_id": 8}]).inserted_ids == [7, 8]
            assert truth.count_documents({}) == 5
        elif command == "update":
            assert things.update_one({"_id": 1}, {"$inc": {"n": 1}}).modified_count == 1
            assert truth.find_one({"_id": 1})["n"] == 1
        else:
            assert things.delete_one({"n": 0}).deleted_count == 1
            assert truth.count_documents({}) == 2
    proxy.listener.close()
    assert proxy.swallowed == 1


def test_counters_are_never_drawn_twice(store):
    drawn = []

    def draw():
        drawn.extend(store.launchpad.get_new_fw_id() for _ in range(25))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(drawn) == list(range(1, 201))


def refused(data_dir, **environment):
    code = "from workflows.runtime import embedded; embedded.ensure_running()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUCLEATE_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    return run.stderr.strip().splitlines()[-1].partition("StoreError: ")[2]


def test_a_port_in_use_is_one_clear_message(data_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(data_dir, NUCLEATE_EMBEDDED_PORT=str(port))
    assert f"port {port} on 127.0.0.1 can't be used" in message
    assert "NUCLEATE_EMBEDDED_PORT" in message
    assert not embedded.status(data_dir).running
    assert str(port) in (embedded.status(data_dir).error or "")


def test_a_directory_without_permission_is_one_clear_message():
    # Nobody can make a directory there, root included.
    assert refused("/sys/nucleate").startswith("no permission to write /sys/nucleate")


def test_a_file_in_the_way_is_one_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(tmp_path / "file")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "corrupt"),
        (lambda p: p.write_text(""), "empty"),
        (lambda p: p.chmod(0o644), "chmod 600"),
        (lambda p: p.unlink(), "missing"),
    ],
)
def test_a_spoilt_password_file_is_one_clear_message(data_dir, spoil, says):
    embedded.ensure_running(data_dir)
    embedded.stop(data_dir)
    password = data_dir / "embedded" / "password"
    kept = password.read_text()
    spoil(password)
    assert says in refused(data_dir)
    password.write_text(kept)
    password.chmod(0o600)


def test_a_broken_database_is_one_clear_message(data_dir):
    embedded.ensure_running(data_dir)
    embedded.stop(data_dir)
    (data_dir / "embedded" / "db" / "WiredTiger.turtle").write_text("nonsense")
    message = refused(data_dir)
    assert message.startswith("the embedded server can't start")
    assert "server.log" in message


def test_without_secantusdb_it_says_what_to_install(data_dir, monkeypatch):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(embedded, "version", missing)
    with pytest.raises(StoreError, match=r'pip install "nucleate\[embedded\]"'):
        embedded.ensure_running(data_dir)
    assert not data_dir.exists()


def on_small_disk(directory, megabytes, code):
    directory.mkdir()
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs {directory} && exec {sys.executable} -c "$CODE"'
    return subprocess.run(
        ["/usr/bin/unshare", "-rm", "sh", "-c", script],
        env={**os.environ, "NUCLEATE_DATA_DIR": str(directory), "CODE": code},
        capture_output=True,
        text=True,
        check=False,
    )


can_mount = (
    shutil.which("/usr/bin/unshare")
    and subprocess.run(["/usr/bin/unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.skipif(not can_mount, reason="needs a user namespace to mount a small disk")
def test_a_full_disk_is_one_clear_message(tmp_path):
    code = """
from workflows.runtime import embedded
embedded.ensure_running()
"""
    run = on_small_disk(tmp_path / "small", 8, code)
    assert "is full: 8 MiB are free and 64 needed" in run.stderr.splitlines()[-1]


@pytest.mark.skipif(not can_mount, reason="needs a user namespace to mount a small disk")
def test_a_disk_that_fills_up_refuses_writes_and_recovers(tmp_path):
    code = """
import os, shutil
from pathlib import Path
from workflows.runtime import embedded
from workflows.runtime.store import open_store, translated
balloon = Path(os.environ["NUCLEATE_DATA_DIR"]) / "balloon"
with open_store("embedded") as store:
    store.campaigns.insert_one({"name": "before"})
    balloon.write_bytes(bytes(shutil.disk_usage(balloon.parent).free - 16 * 2**20))
    try:
        translated(store.address, store.campaigns.insert_one)({"name": "refused"})
    except Exception as error:
        print(type(error).__name__, error)
    print(store.campaigns.distinct("name"))
    balloon.unlink()
    store.campaigns.insert_one({"name": "after"})
    print(sorted(store.campaigns.distinct("name")))
embedded.stop()
"""
    run = on_small_disk(tmp_path / "small", 120, code)
    lines = run.stdout.splitlines()
    assert lines[0].startswith("StoreError"), run.stderr
    assert lines[0].endswith("refuses writes: its disk is full")
    assert lines[1:] == ["['before']", "['after', 'before']"]
