"""Leases: one holder at a time, and none that is dead or stuck."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from workflows.runtime.identity import ProcessName
from workflows.runtime.lease import Lease, LeaseError
from workflows.runtime.watch import Watch

ELSEWHERE = "nucleate-elsewhere-4711-1790000000"


def lease(store, owner=None, stale_s=60.0):
    return Lease(store.database, "submit to alps", owner or str(ProcessName.own()), stale_s)


def test_one_at_a_time(store):
    inside, most = [], []

    def hold():
        for _ in range(5):
            with lease(store).held(60.0):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_who_waits_in_vain_is_told_for_whom(store):
    with lease(store, ELSEWHERE).held(1.0), pytest.raises(LeaseError, match="elsewhere"), lease(store).held(0.3):
        pass


def test_another_name_is_another_lease(store):
    with lease(store).held(1.0), Lease(store.database, "submit to jura", ELSEWHERE).held(1.0):
        pass


def test_a_dead_holder_of_this_host_loses_it_at_once(store):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = str(ProcessName.of(child.pid))
    lease(store, name)._take(Watch())
    child.kill()
    child.wait()
    with lease(store).held(5.0):
        pass


def test_a_holder_that_does_not_move_loses_it_and_notices(store):
    stuck = lease(store, ELSEWHERE)
    with stuck.held(1.0), lease(store, stale_s=0.5).held(10.0), pytest.raises(LeaseError, match="took over"):
        stuck.renew()
    with lease(store).held(1.0):
        pass


def test_a_holder_that_moves_keeps_it(store):
    busy = lease(store, ELSEWHERE)
    over = threading.Event()

    def move():
        while not over.wait(0.1):
            busy.renew()

    with busy.held(1.0):
        mover = threading.Thread(target=move)
        mover.start()
        with pytest.raises(LeaseError), lease(store, stale_s=0.7).held(2.0):
            pass
        over.set()
        mover.join()
