"""What a status says of batch jobs, from their records alone."""

from __future__ import annotations

from datetime import timedelta

from workflows.monitor.clusters import pilot_status, pilots_of, stuck_pilots, unfit
from workflows.monitor.standing import PilotStatus
from workflows.nodes import BAD_NODE_HOURS
from workflows.records import Cause, Pilot, now
from workflows.runtime.queues import bad_nodes, trust_nodes

BEGUN = now()


def pilot(state, minutes_ago=0, **fields):
    of = {"pilot": f"c-alps-dft-{minutes_ago}", "campaign": "c", "cluster": "alps", "kind": "dft", "memory_gb": 32.0}
    record = Pilot(**{**of, "state": state, "submitted_at": BEGUN - timedelta(minutes=minutes_ago), **fields})
    return record.model_dump()


def gave_up(minutes_ago, **fields):
    ended = BEGUN - timedelta(minutes=minutes_ago)
    return pilot("ended", minutes_ago, reason="bad_state", ended_at=ended, **fields)


def ready(stage, **resources):
    return {"spec": {"nucleate": {"stage": stage}, "resources": resources}}


def test_jobs_in_the_queues_are_counted_with_what_the_scheduler_says():
    found = pilot_status([
        pilot("queued", message="Priority"),
        pilot("submitting"),
        pilot("queued", 1, message="Priority"),
        pilot("running", 2, cores=8, tasks=5),
        pilot("ended", 3, cores=8, tasks=7),
    ])  # fmt: skip
    assert found == [PilotStatus("alps", "dft", running=1, queued=3, cores=8, tasks=5, waits="Priority (2)")]


def test_a_refusal_matters_while_it_is_the_newest_and_there_is_work():
    refused = pilot("refused", 1, message="Invalid qos specification")
    (stuck,) = stuck_pilots([refused, pilot("ended", 2)], work_is_ready=True)
    assert "Invalid qos" in stuck.why
    assert stuck.needs_somebody
    assert stuck_pilots([refused], work_is_ready=False) == []
    assert stuck_pilots([pilot("queued"), refused], work_is_ready=True) == []


def test_a_node_that_failed_everything_is_told_until_it_has_worked_again():
    cause = Cause(code=203, name="binary_missing", evidence="the last 3 tasks on n7 failed; pw.x is not on PATH")
    bad = gave_up(5, node="n7", host="n7.alps.org", cause=cause)
    (stuck,) = stuck_pilots([bad], work_is_ready=True)
    assert stuck.what == "node n7 of alps"
    assert "pw.x is not on PATH" in stuck.why
    assert "nucleate submit --cluster alps --retry" in stuck.remedy
    assert stuck.remedy.endswith("nucleate rerun --cause 203")
    since = BEGUN - timedelta(minutes=4)
    worked = pilot("ended", 1, node="n7", host="n7.alps.org", tasks=4, started_at=since, ended_at=BEGUN)
    assert stuck_pilots([worked, bad], work_is_ready=True) == []


def test_a_node_whose_workers_died_is_told_too():
    (stuck,) = stuck_pilots([gave_up(5, host="n7")], work_is_ready=False)
    assert (stuck.what, "died again and again" in stuck.why) == ("node n7 of alps", True)
    assert stuck.remedy.endswith("--retry")
    assert not stuck.needs_somebody


def test_what_is_told_of_nodes_is_what_submit_leaves_out(store):
    cause = Cause(code=203, name="binary_missing", evidence="pw.x is not on PATH")
    before, since = BEGUN - timedelta(minutes=8), BEGUN - timedelta(minutes=4)
    records = [
        gave_up(60 * BAD_NODE_HOURS + 1, node="long-ago", cause=cause),
        gave_up(5, node="bad", cause=cause),
        gave_up(6, node="workers-died"),
        gave_up(7, node="trusted", cause=cause) | {"reason": "bad_state, tried again since"},
        gave_up(7.5, node="works-again", cause=cause),
        pilot("ended", 3, node="works-again", tasks=3, started_at=since, ended_at=BEGUN),
        pilot("ended", 2, node="bad", tasks=3, started_at=before, ended_at=BEGUN),  # it began before
        pilot("ended", 1, node="bad", started_at=since, ended_at=BEGUN),  # it did nothing
        pilot("ended", 0, node="fine", tasks=9, cause=cause, started_at=since, ended_at=BEGUN),
    ]
    store.database.pilots.insert_many(records)
    for shown in (records, pilots_of(store.database, "c")):
        told = [stuck.what for stuck in stuck_pilots(shown, work_is_ready=True)]
        assert told == ["node bad of alps", "node workers-died of alps"]
    assert bad_nodes(store.database, "alps") == ("bad", "workers-died")
    trust_nodes(store.database, "alps")
    assert bad_nodes(store.database, "alps") == ()
    assert stuck_pilots(pilots_of(store.database, "c"), work_is_ready=True) == []


def test_work_that_no_job_in_the_queues_has_room_for():
    pilots = [pilot("running", cores=8, minutes=60)]
    fits = [ready("relax", memory_gb=32, cores=8), ready("relax", minutes=500, resumable=True), ready("gate")]
    assert unfit(pilots, fits) == []
    (stuck,) = unfit(pilots, [*fits, ready("relax", memory_gb=64), ready("phonon", memory_gb=64)])
    assert stuck.what == "jobs that are ready: phonon 1, relax 1"
    assert stuck.why == "they need 64 GB of memory each, and no job in the queues has more than 32"
    assert stuck.remedy.endswith("nucleate submit --cluster alps --reserve")
    assert unfit([], [ready("relax", memory_gb=64)]) == []
