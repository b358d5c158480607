"""A bounded part of the fault matrix: a real SLURM, stand-in tasks, one round of what is quick to play.

All of it is ``make faults`` (``benchmarks/faults``), whose table stands in ``docs/faults.md``.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from contextlib import suppress

import psutil
import pytest
from slurm_fixtures import require_slurm

from benchmarks.faults import slurm
from benchmarks.faults.__main__ import main
from benchmarks.faults.campaign import differences
from benchmarks.faults.proxy import Proxy
from benchmarks.faults.strikes import FAULTS
from benchmarks.faults.watch import Truth
from workflows.records import Attempt

PLAYED = ("worker", "scancel", "database")


@pytest.mark.xdist_group("slurm")
def test_a_campaign_ends_as_an_undisturbed_one_whatever_is_done_to_it(tmp_path, capsys):
    require_slurm()
    seed = int(time.time())
    chosen = ["--only", ",".join(PLAYED), "--kinds", "fast", "--rounds", "1"]
    code = main([*chosen, "--seed", str(seed), "--place", str(tmp_path)])
    said = capsys.readouterr().out
    assert code == 0, said
    assert f"seed {seed}" in said
    for name in PLAYED:
        outcome = json.loads((tmp_path / f"{name}-fast-01.json").read_text())
        assert outcome["struck"], name
        assert outcome["problems"] == []
        assert outcome["truth_max_s"] <= 120
        assert FAULTS[name].title in said

    # a second run finds everything done
    begun = time.monotonic()
    assert main([*chosen, "--seed", str(seed), "--place", str(tmp_path)]) == 0
    assert time.monotonic() - begun < 5


def test_memory_is_limited_where_all_that_up_sh_wants_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "MEMORY_CGROUP", tmp_path / "memory")
    monkeypatch.setattr(slurm.os, "geteuid", lambda: 0)
    (tmp_path / "memory").mkdir()
    assert not slurm.memory_limits()
    (tmp_path / "freezer").mkdir()
    assert slurm.memory_limits()
    monkeypatch.setattr(slurm.os, "geteuid", lambda: 1000)
    assert not slurm.memory_limits()


VERDICT = {"verified": True, "stable": False, "hit": False, "cause": None, "energy_ev_per_atom": -4.2}


@pytest.mark.parametrize(
    ("verdicts", "fireworks", "told"),
    [
        ({"a": VERDICT}, {"relax COMPLETED": 1}, ""),
        ({"a": {**VERDICT, "energy_ev_per_atom": -4.2004}}, {"relax COMPLETED": 1}, ""),
        ({"a": {**VERDICT, "energy_ev_per_atom": -4.202}}, {"relax COMPLETED": 1}, "energy of a"),
        ({}, {"relax COMPLETED": 1}, "verdict of a: lost"),
        ({"a": VERDICT, "b": VERDICT}, {"relax COMPLETED": 1}, "verdict of b: not in the undisturbed run"),
        ({"a": {**VERDICT, "verified": False, "cause": 106}}, {"relax COMPLETED": 1}, "verdict of a"),
        ({"a": VERDICT}, {"relax COMPLETED": 2}, "firework relax COMPLETED: 2 times"),
        ({"a": VERDICT}, {"relax FIZZLED": 1}, "firework relax"),
    ],
)
def test_what_differs_from_the_undisturbed_run_is_told(verdicts, fireworks, told):
    calm = {"verdicts": {"a": VERDICT}, "fireworks": {"relax COMPLETED": 1}}
    found = differences(calm, {"verdicts": verdicts, "fireworks": fireworks})
    assert bool(found) == bool(told)
    assert told in "\n".join(found)


@pytest.fixture
def sleeper(tmp_path):
    """Run a process that works in a directory of its own."""
    process = subprocess.Popen(["/usr/bin/env", "sleep", "60"], cwd=tmp_path)
    yield process
    process.kill()
    process.wait()


def attempt(process, directory, state):
    return Attempt(
        attempt=f"fw1-l{process.pid}",
        campaign="faults",
        round=1,
        candidate=None,
        stage="relax",
        launch_id=process.pid,
        state=state,
        directory=str(directory),
        pid=process.pid,
        process_started=psutil.Process(process.pid).create_time(),
    ).model_dump()


def test_an_attempt_without_a_process_is_untrue_and_for_how_long(store, sleeper, tmp_path):
    store.attempts.insert_one(attempt(sleeper, tmp_path, "running"))
    truth = Truth(store.database)
    assert truth.look()
    assert [a["launch_id"] for a in truth.running()] == [sleeper.pid]
    assert truth.all() == []

    sleeper.kill()
    sleeper.wait()
    truth.look()
    assert truth.running() == []
    time.sleep(0.3)
    truth.look()
    (lasting,) = truth.all()
    assert "no process is at it" in lasting.what
    assert lasting.seconds >= 0.3

    store.attempts.update_one({}, {"$set": {"state": "lost"}})
    truth.look()
    assert not truth.lasting()
    assert [f.what for f in truth.all()] == [lasting.what]


def test_a_live_task_that_is_called_lost_is_untrue(store, sleeper, tmp_path):
    store.attempts.insert_one(attempt(sleeper, tmp_path, "lost"))
    truth = Truth(store.database)
    truth.look()
    assert ["its process is at it" in f.what for f in truth.all()] == [True]


def test_a_worker_that_does_something_else_is_not_at_it(store, sleeper, tmp_path):
    store.attempts.insert_one(attempt(sleeper, tmp_path / "another", "running"))
    truth = Truth(store.database)
    truth.look()
    assert ["no process is at it" in f.what for f in truth.all()] == [True]


def talk(port, timeout):
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(b"ping")
        return connection.recv(16)


def test_a_network_that_is_cut_and_mended():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo():
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(connection.recv(16))

        threading.Thread(target=echo, daemon=True).start()
        proxy = Proxy(server.getsockname()[1])
        proxy.start()
        try:
            assert talk(proxy.port, 5) == b"ping"
            proxy.cut("reset")
            with pytest.raises(OSError, match=r"reset|closed|Broken") as broken:
                assert talk(proxy.port, 5) == b"ping"
            assert not isinstance(broken.value, TimeoutError)
            proxy.cut("silence")
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.5) as connection:
                connection.sendall(b"ping")
                with pytest.raises(TimeoutError):
                    connection.recv(16)
                proxy.mend()
                connection.settimeout(5)
                assert connection.recv(16) == b"ping"
        finally:
            proxy.stop()
