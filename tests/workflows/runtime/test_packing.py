"""What a task takes and which tasks find room: the query on a real database against the rule in plain words."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from workflows.runtime.capacity import Capacity, Ledger
from workflows.runtime.cluster import Needs, PilotKind
from workflows.runtime.packing import LEAST_TRY_S, Room, fitting, needs, suiting

KIND = PilotKind(
    categories=("cpu",),
    nodes=2,
    cores=16,
    memory_gb=8.0,
    minutes=60,
    drain_s=60,
    task=Needs(cores=1, memory_gb=1.0, minutes=5),
    stages={"relax": Needs(cores=4, memory_gb=2.0, minutes=30), "phonon": Needs(cores=12, memory_gb=6.0, minutes=50)},
)
FULL = Capacity(tuple(range(8)), 8.0, nodes=2, all_cores=16)


def spec(stage=None, **said):
    return {"nucleate": {"stage": stage} if stage else None, "resources": said or None}


def test_what_a_firework_says_goes_before_its_stage_and_that_before_all():
    assert needs(KIND, {}) == KIND.task
    assert needs(KIND, spec("gate", cores=2)) == Needs(cores=2, memory_gb=1.0, minutes=5)
    assert needs(KIND, spec("relax")) == KIND.stages["relax"]
    asked = spec("relax", minutes=90, cores=None, resumable=True, partition="long")
    assert needs(KIND, asked) == Needs(cores=4, memory_gb=2.0, minutes=90)
    with pytest.raises(ValidationError):
        needs(KIND, spec("relax", cores=0))


def test_what_is_left_of_an_empty_job_is_all_its_nodes(tmp_path):
    ledger = Ledger.open_new(tmp_path, FULL)
    assert Room.left(ledger, ledger.books()) == Room(8, 8.0, 16, 16.0)
    ledger.take("a", 1, 3, 2.5)
    assert Room.left(ledger, ledger.books()) == Room(5, 5.5)


def finds_room(of: dict, room: Room, seconds: float, partition: str | None) -> bool:
    """Say it in plain words."""
    said = {name: value for name, value in (of.get("resources") or {}).items() if value is not None}
    wanted = needs(KIND, of)
    here = wanted.cores <= room.cores and wanted.memory_gb <= room.memory_gb
    several = room.cores < wanted.cores <= room.all_cores and wanted.memory_gb <= room.all_memory_gb
    stage = (of.get("nucleate") or {}).get("stage")
    usual = KIND.stages.get(stage, KIND.task)
    goes_on = said.get("resumable") is True and seconds >= min(LEAST_TRY_S, 60 * usual.minutes)
    in_time = wanted.minutes <= seconds / 60 or goes_on
    return (here or several) and in_time and said.get("partition") in {None, partition}


def test_the_query_finds_what_finds_room(store):
    rng = random.Random(7)
    specs = []
    for _ in range(80):
        said = {
            "cores": rng.choice([None, 1, 2, 4, 8, 9, 16, 17]),
            "memory_gb": rng.choice([None, 0.5, 2, 8.0, 9.5, 20]),
            "minutes": rng.choice([None, 1, 20, 45.5, 600]),
            "resumable": rng.choice([None, True, False]),
            "partition": rng.choice([None, None, "long", "short"]),
        }
        named = {name: value for name, value in said.items() if value is not None or rng.random() < 0.5}
        whole = rng.choice([spec("relax"), spec("phonon"), spec("gate"), spec()])
        specs.append({**whole, "resources": named} if rng.random() < 0.8 else whole)
    collection = store.database.fireworks
    collection.insert_many([{"fw_id": n, "state": "READY", "spec": one} for n, one in enumerate(specs)])
    found_any = False
    for _ in range(25):
        room = rng.choice([Room.of_empty(FULL), Room(8, 8.0), Room(3, 1.5), Room(1, 0.6), Room(5, 8.0)])
        seconds = rng.choice([30.0, 100.0, 1500.0, 3500.0])
        partition = rng.choice([None, "long"])
        query = fitting(KIND, room, seconds, partition)
        found = {fw["fw_id"] for fw in collection.find(query, {"fw_id": 1})}
        wanted = {n for n, one in enumerate(specs) if finds_room(one, room, seconds, partition)}
        assert found == wanted, (room, seconds, partition)
        found_any |= 0 < len(found) < len(specs)
    assert found_any


def test_a_new_pilot_suits_what_its_category_and_its_whole_job_allow(store):
    fireworks = {
        "fits": {"_category": "cpu", **spec("relax")},
        "wide": {"_category": "cpu", **spec("phonon")},
        "too wide": {"_category": "cpu", **spec("relax", cores=17)},
        "too long": {"_category": "cpu", **spec("relax", minutes=60)},
        "long, but goes on": {"_category": "cpu", **spec("relax", minutes=600, resumable=True)},
        "elsewhere": {"_category": "gpu", **spec("sample")},
    }
    store.database.fireworks.insert_many(
        [{"fw_id": n, "name": name, "spec": one} for n, (name, one) in enumerate(fireworks.items())]
    )
    found = {fw["name"] for fw in store.database.fireworks.find(suiting(KIND, FULL), {"name": 1})}
    assert found == {"fits", "wide", "long, but goes on"}
