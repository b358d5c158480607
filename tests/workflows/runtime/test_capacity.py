"""The books of a batch job: nothing is given twice, whoever asks at the same time and whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import combinations

import pytest

from workflows.runtime.capacity import Books, Capacity, Ledger, Looks

USER = """
import random, sys, time
from pathlib import Path
from workflows.runtime.capacity import Ledger
ledger, seed, log = Ledger(Path(sys.argv[1])), int(sys.argv[2]), open(sys.argv[3], "ab", buffering=0)
rng = random.Random(seed)
until = time.monotonic() + float(sys.argv[4])
n = 0
while time.monotonic() < until:
    grant = ledger.take(f"w{seed}", n, rng.randint(1, 5), rng.choice([0.5, 1.0, 2.5]))
    if grant is None:
        time.sleep(0.0005)
        continue
    n += 1
    # written while it is held: whoever holds the same at the same time shows
    log.write(f"+ w{seed} {','.join(map(str, grant.cores))} {grant.memory_gb}\\n".encode())
    time.sleep(rng.random() * 0.002)
    log.write(f"- w{seed}\\n".encode())
    ledger.give_back(f"w{seed}")
"""


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open_new(tmp_path, Capacity((0, 1, 2, 3), 4.0, nodes=2, all_cores=8))


def check(ledger, books):
    """Check what must hold at any time."""
    for one, other in combinations(books.grants, 2):
        assert not set(one.cores) & set(other.cores)
        assert one.owner != other.owner
    assert sum(grant.memory_gb for grant in books.grants) <= ledger.capacity.memory_gb + 1e-6
    held = sum(len(grant.cores) for grant in books.grants)
    assert len(ledger.free_cores(books)) == len(ledger.capacity.cores) - held


def test_takes_and_gives_back(ledger):
    grant = ledger.take("a", 1, cores=3, memory_gb=2.5)
    assert (grant.cores, grant.memory_gb, grant.whole) == ((0, 1, 2), 2.5, False)
    assert ledger.take("b", 2, cores=2, memory_gb=0.1) is None, "no cores"
    assert ledger.take("b", 2, cores=1, memory_gb=1.6) is None, "no memory"
    assert ledger.take("b", 2, cores=1, memory_gb=1.5).cores == (3,)
    assert ledger.give_back("a")
    assert not ledger.give_back("a")
    books = ledger.books()
    assert (ledger.free_cores(books), ledger.free_memory_gb(books)) == ((0, 1, 2), 2.5)


def test_more_cores_than_the_node_has_mean_the_whole_job(ledger):
    assert ledger.take("a", 1, cores=9, memory_gb=1.0) is None, "more than all nodes have"
    assert ledger.take("a", 1, cores=8, memory_gb=9.0) is None, "more memory than all nodes have"
    small = ledger.take("a", 1, cores=1, memory_gb=0.1)
    assert small is not None
    assert ledger.take("b", 2, cores=8, memory_gb=8.0) is None
    ledger.give_back("a")
    whole = ledger.take("b", 2, cores=8, memory_gb=8.0)
    assert (whole.cores, whole.whole) == ((0, 1, 2, 3), True)
    assert ledger.take("a", 1, cores=1, memory_gb=0.0) is None
    assert ledger.take_all("c", 3) is None


@pytest.mark.parametrize("wrong", [{"owner": "a", "cores": 1}, {"owner": "b", "cores": 0}])
def test_refuses_what_makes_no_sense(ledger, wrong):
    ledger.take("a", 1, 1, 0.1)
    with pytest.raises(ValueError, match=r"holds something already|one core at least"):
        ledger.take(fw_id=2, memory_gb=0.1, **wrong)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_takes_and_returns_keeps_the_books_right(ledger, seed):
    rng = random.Random(seed)
    holders: dict[str, tuple[int, float]] = {}
    for step in range(60):
        if holders and rng.random() < 0.45:
            gone = rng.choice(sorted(holders))
            assert ledger.give_back(gone)
            del holders[gone]
        else:
            owner, cores, memory_gb = f"w{step}", rng.randint(1, 4), rng.choice([0.1, 0.7, 1.3, 4.0])
            room = cores <= 4 - sum(c for c, _ in holders.values())
            room = room and memory_gb <= 4.0 - sum(m for _, m in holders.values()) + 1e-9
            grant = ledger.take(owner, step, cores, memory_gb)
            assert (grant is not None) == room
            if grant is not None:
                holders[owner] = cores, memory_gb
        check(ledger, ledger.books())
        assert {grant.owner for grant in ledger.books().grants} == set(holders)


def test_processes_that_take_at_the_same_time_never_share(ledger, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", USER, str(tmp_path)]
    users = [subprocess.Popen([*command, str(seed), str(log), "1.0"]) for seed in range(4)]
    books_read = 0
    while any(user.poll() is None for user in users):
        check(ledger, ledger.books())  # whole at any time, without a lock
        books_read += 1
    assert all(user.returncode == 0 for user in users)
    assert books_read > 10
    held: dict[str, tuple[set[str], float]] = {}
    lines = log.read_text().splitlines()
    for sign, owner, *what in map(str.split, lines):
        if sign == "-":
            del held[owner]
            continue
        cores, memory_gb = set(what[0].split(",")), float(what[1])
        assert not any(cores & other for other, _ in held.values())
        held[owner] = cores, memory_gb
        assert sum(m for _, m in held.values()) <= 4.0 + 1e-6
    assert len(lines) > 100
    assert ledger.books().grants == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_process_leaves_whole_books_and_no_lock(ledger, tmp_path, seed):
    rng = random.Random(seed)
    user = subprocess.Popen([sys.executable, "-c", USER, str(tmp_path), "7", str(tmp_path / "log"), "60"])
    while not ledger.books().releases:
        time.sleep(0.01)
    time.sleep(rng.random() * 0.02)
    os.kill(user.pid, signal.SIGKILL)
    user.wait()
    check(ledger, ledger.books())
    with ledger.looking() as alone:
        assert alone
    ledger.give_back("w7")  # as its supervisor does
    assert ledger.books().grants == ()
    assert ledger.take("other", 1, 4, 4.0) is not None


def test_only_one_looks_at_a_time(ledger):
    other = Ledger(ledger.directory)
    with ledger.looking() as mine:
        assert mine
        with other.looking() as theirs:
            assert not theirs
        assert other.take("b", 1, 1, 1.0), "who has ended does not wait for who looks"
    with other.looking() as theirs:
        assert theirs


def test_nobody_asks_again_for_a_while_after_a_look_for_nothing_until_something_is_given_back(ledger):
    looks, others, elsewhere = Looks(ledger, "cpu"), Looks(Ledger(ledger.directory), "cpu"), Looks(ledger, "gpu")
    assert looks.are_due()
    ledger.take("a", 1, 1, 1.0)
    looks.found_nothing(ledger.books())
    assert not others.are_due()
    assert elsewhere.are_due(), "who looks for something else"
    time.sleep(Looks.SHORTEST_S + 0.01)
    assert others.are_due()
    looks.found_nothing(ledger.books())
    assert ledger.books().notes["nothing for cpu"]["pause"] == pytest.approx(1.5 * Looks.SHORTEST_S)
    ledger.give_back("a")
    assert others.are_due()
    assert ledger.take("a", 1, 4, 1.0)
    assert not others.are_due(), "no core is free"


def test_notes_outlive_takes_and_can_be_removed(ledger):
    ledger.note("awaited", {"fw_id": 7})
    ledger.take("a", 1, 1, 1.0)
    assert ledger.books().notes == {"awaited": {"fw_id": 7}}
    ledger.note("awaited", None)
    ledger.give_back("a")
    assert ledger.books() == Books(releases=1)
