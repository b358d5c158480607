"""How many pilots: never more than the work there is, never above a limit."""

from __future__ import annotations

import random

import pytest

from workflows.runtime.cluster import Limits, Needs, PilotKind
from workflows.runtime.planning import Berth, Demand, Room, plan, tasks_in

CPU = PilotKind(
    categories=("cpu",), cores=4, memory_gb=8.0, minutes=60, max_jobs=3, task=Needs(cores=1, memory_gb=2.0, minutes=30)
)
ANY = PilotKind(categories=("cpu", "light"), cores=2, memory_gb=4.0, minutes=60, max_jobs=5)
GPU = PilotKind(categories=("gpu", "light"), cores=2, memory_gb=4.0, gpus=1, minutes=60, max_jobs=2)


def relax(count, category="cpu", **resources):
    return Demand(category, "relax", resources, count)


def room(kinds, limits=None, *, jobs=None, cores=0, core_hours=None):
    return Room.within(limits or Limits(), kinds, jobs=jobs or {}, cores=cores, core_hours=core_hours)


def planned(demands, berths=(), kinds=None, limits=None, **options):
    kinds = kinds or {"cpu": CPU}
    free = room(
        kinds, limits, **{name: options.pop(name) for name in ("jobs", "cores", "core_hours") if name in options}
    )
    return plan(demands, berths, kinds, free, **options)


def names(made):
    return [new.kind for new in made.submit]


def test_no_work_no_pilots():
    made = planned([])
    assert (made.submit, made.surplus, made.held, made.unfit) == ([], [], {}, {})


def test_as_many_as_the_work_fills_side_by_side():
    assert names(planned([relax(1)])) == ["cpu"]
    assert names(planned([relax(4)])) == ["cpu"]
    assert names(planned([relax(5)])) == ["cpu", "cpu"]


def test_short_tasks_share_a_job_one_after_another():
    assert names(planned([relax(40, minutes=0.5)])) == ["cpu"]
    assert names(planned([relax(41, minutes=0.5)])) == ["cpu", "cpu"]


def test_what_the_queue_will_take_is_not_submitted_again():
    queued = Berth("p", CPU, queued=True, minutes=60)
    assert names(planned([relax(4)], [queued], jobs={"cpu": 1})) == []
    assert names(planned([relax(5)], [queued], jobs={"cpu": 1})) == ["cpu"]
    full = Berth("p", CPU, queued=False, minutes=50, busy=(relax(4),))
    assert names(planned([relax(1)], [full], jobs={"cpu": 1})) == ["cpu"]
    half = Berth("p", CPU, queued=False, minutes=50, busy=(relax(2),))
    assert names(planned([relax(2)], [half], jobs={"cpu": 1})) == []


def test_a_job_near_its_end_is_not_counted_on_except_for_what_can_go_on():
    ending = Berth("p", CPU, queued=False, minutes=20)
    assert names(planned([relax(1)], [ending], jobs={"cpu": 1})) == ["cpu"]
    assert names(planned([relax(1, resumable=True)], [ending], jobs={"cpu": 1})) == []


def test_pilots_of_another_cluster_count():
    there = Berth("jura-1", ANY, queued=True, minutes=60)
    assert names(planned([relax(2)], [there], elsewhere=[ANY])) == []


@pytest.mark.parametrize(
    ("limits", "options", "number", "why"),
    [
        (None, {}, 3, "max_jobs"),
        (Limits(jobs=2), {}, 2, "limits.jobs"),
        (Limits(jobs=2), {"jobs": {"gone": 1}}, 1, "limits.jobs"),
        (Limits(cores=9), {}, 2, "limits.cores"),
        (Limits(cores=9), {"cores": 4}, 1, "limits.cores"),
        (None, {"core_hours": 8.0}, 2, "core-hours"),
        (None, {"core_hours": 0.0}, 0, "core-hours"),
    ],
)
def test_no_limit_is_passed_and_the_plan_says_which(limits, options, number, why):
    made = planned([relax(100)], limits=limits, **options)
    assert len(made.submit) == number
    assert why in made.held["100 relax (cpu)"]


def test_a_job_may_be_shortened_to_what_the_core_hours_allow():
    made = planned([relax(100)], core_hours=7.0)
    assert [new.minutes for new in made.submit] == [60, 45]
    assert not planned([relax(1)], core_hours=2.0).submit, "30 min of four cores leave no time for a task of 30 min"


def test_light_work_fills_what_is_there_before_it_gets_a_job_of_its_own():
    kinds = {"cpu": ANY, "gpu": GPU}
    light = Demand("light", "screen", {}, 1)
    made = planned([light, relax(1)], kinds=kinds)
    assert names(made) == ["cpu"]
    assert names(planned([light], kinds=kinds)) == ["cpu"], "not on a GPU"
    assert names(planned([light, Demand("gpu", "sample", {}, 1)], kinds={"gpu": GPU})) == ["gpu"]


def test_one_gpu_one_sampler_at_a_time():
    assert names(planned([Demand("gpu", "sample", {}, 2)], kinds={"gpu": GPU})) == ["gpu", "gpu"]


def test_a_partition_is_kept_to():
    there = CPU.model_copy(update={"partition": "big"})
    assert names(planned([relax(1, partition="big")], kinds={"cpu": CPU, "there": there})) == ["there"]
    made = planned([relax(1, partition="huge")], kinds={"cpu": CPU, "there": there})
    assert "partition huge" in made.unfit["1 relax (cpu; partition huge)"]


def test_a_task_over_several_nodes_has_its_job_alone():
    wide = PilotKind(categories=("cpu",), cores=8, nodes=2, memory_gb=4.0)
    assert tasks_in(wide, relax(1, cores=8, memory_gb=8.0)) == 1
    assert tasks_in(wide, relax(1, cores=8, memory_gb=9.0)) == 0
    assert tasks_in(wide, relax(1, cores=4, memory_gb=4.0)) == 1, "tasks are started on the first node"


@pytest.mark.parametrize("asked", [{"cores": 5}, {"memory_gb": 9.0}, {"minutes": 59}])
def test_what_fits_nowhere_is_said(asked):
    made = planned([relax(1, **asked)])
    assert not made.submit
    (why,) = made.unfit.values()
    assert "--reserve" in why


def test_queued_jobs_go_when_no_work_is_left_and_stay_while_some_may_come():
    queued = [Berth(f"p{n}", CPU, queued=True, minutes=60) for n in range(3)]
    assert planned([], queued, jobs={"cpu": 3}).surplus == ["p0", "p1", "p2"]
    assert planned([], queued, jobs={"cpu": 3}, later=2).surplus == ["p2"]
    assert planned([relax(4)], queued, jobs={"cpu": 3}, later=1).surplus == ["p2"]
    running = Berth("r", CPU, queued=False, minutes=60)
    assert planned([], [running], jobs={"cpu": 1}).surplus == [], "it ends by itself"


def a_kind(rng):
    cores = rng.choice([1, 2, 4, 8])
    return PilotKind(
        categories=tuple(rng.sample(["gpu", "cpu", "light"], rng.randint(1, 3))),
        cores=cores,
        gpus=rng.choice([0, 0, 1]),
        memory_gb=rng.choice([2.0, 8.0]),
        minutes=rng.choice([10, 60, 600]),
        max_jobs=rng.randint(1, 6),
        partition=rng.choice([None, "a", "b"]),
        task=Needs(cores=rng.randint(1, cores), memory_gb=rng.choice([0.5, 2.0]), minutes=rng.choice([0.1, 5.0, 30.0])),
    )


def some_demand(rng):
    said = {}
    if rng.random() < 0.5:
        said = {"cores": rng.choice([1, 2, 16]), "minutes": rng.choice([0.5, 20, 700])}
    if rng.random() < 0.3:
        said["resumable"] = True
    if rng.random() < 0.2:
        said["partition"] = rng.choice(["a", "b", "c"])
    return Demand(rng.choice(["gpu", "cpu", "light", None]), "relax", said, rng.randint(1, 60))


@pytest.mark.parametrize("seed", range(300))
def test_whatever_there_is_no_limit_is_passed_and_no_job_is_without_work(seed):
    rng = random.Random(seed)
    kinds = {f"k{n}": a_kind(rng) for n in range(rng.randint(1, 4))}
    berths, jobs, cores = [], {}, 0
    for n in range(rng.randint(0, 5)):
        name = rng.choice(list(kinds))
        berths.append(
            Berth(f"p{n}", kinds[name], queued=rng.random() < 0.5, minutes=rng.uniform(0, kinds[name].minutes))
        )
        jobs[name] = jobs.get(name, 0) + 1
        cores += kinds[name].cores
    limits = Limits(jobs=rng.choice([None, 3, 8]), cores=rng.choice([None, 8, 40]))
    hours = rng.choice([None, 0.0, 1.0, 50.0])
    demands = [some_demand(rng) for _ in range(rng.randint(0, 6))]
    made = plan(demands, berths, kinds, room(kinds, limits, jobs=jobs, cores=cores, core_hours=hours))

    new = names(made)
    for name, kind in kinds.items():
        assert new.count(name) <= max(0, kind.max_jobs - jobs.get(name, 0))
    if limits.jobs is not None:
        assert len(new) <= max(0, limits.jobs - len(berths))
    if limits.cores is not None:
        assert sum(kinds[name].cores for name in new) <= max(0, limits.cores - cores)
    if hours is not None:
        assert sum(kinds[n.kind].cores * n.minutes / 60 for n in made.submit) <= hours + 1e-6
    fitting = [d for d in demands if any(tasks_in(kind, d) for kind in kinds.values())]
    assert len(new) <= sum(d.count for d in fitting)
    for one in made.submit:
        assert one.minutes <= kinds[one.kind].minutes
        assert any(tasks_in(kinds[one.kind], d, one.minutes) for d in demands)
    assert all(name in {b.pilot for b in berths if b.queued} for name in made.surplus)
    # planned again with what was submitted, nothing more is
    again = [
        *berths,
        *(Berth(f"n{i}", kinds[n.kind], queued=True, minutes=n.minutes) for i, n in enumerate(made.submit)),
    ]
    counted = {name: jobs.get(name, 0) + new.count(name) for name in kinds}
    spare = None if hours is None else hours - sum(kinds[n.kind].cores * n.minutes / 60 for n in made.submit)
    used = cores + sum(kinds[name].cores for name in new)
    assert not plan(demands, again, kinds, room(kinds, limits, jobs=counted, cores=used, core_hours=spare)).submit
