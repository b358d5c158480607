"""What a campaign's batch jobs do, as its status tells: how many queue and run, and why work for them is stuck."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from workflows.monitor.standing import PilotStatus, Stuck
from workflows.nodes import bad_nodes
from workflows.records import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymongo.database import Database

_RECENT = 50
_PILOT = {
    "_id": 0, "pilot": 1, "cluster": 1, "kind": 1, "state": 1, "cores": 1, "memory_gb": 1, "minutes": 1, "tasks": 1,
    "message": 1, "reason": 1, "cause": 1, "host": 1, "node": 1, "submitted_at": 1, "started_at": 1, "ended_at": 1,
}  # fmt: skip
_ASKED = (("cores", "cores", ""), ("memory_gb", "GB", "of memory "), ("minutes", "min", ""))


def pilots_of(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Read the records that matter: of jobs in the queues, and the last that ended or were refused, newest first."""
    active = list(database.pilots.find({"campaign": campaign, "state": {"$in": list(ACTIVE)}}, _PILOT))
    over = {"campaign": campaign, "state": {"$in": ["ended", "refused"]}}
    ended = list(database.pilots.find(over, _PILOT).sort("submitted_at", -1).limit(_RECENT))
    return sorted([*active, *ended], key=lambda p: p["submitted_at"], reverse=True)


def pilot_status(pilots: Iterable[dict[str, Any]]) -> list[PilotStatus]:
    """Count the jobs in the queues by cluster and kind, with what the schedulers say of those that wait."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for pilot in pilots:
        if pilot["state"] in ACTIVE:
            groups.setdefault((pilot["cluster"], pilot["kind"]), []).append(pilot)
    found = []
    for (cluster, kind), members in sorted(groups.items()):
        waiting = [p for p in members if p["state"] != "running"]
        reasons = Counter(p["message"] for p in waiting if p["message"])
        found.append(
            PilotStatus(
                cluster=cluster,
                kind=kind,
                running=len(members) - len(waiting),
                queued=len(waiting),
                cores=sum(p["cores"] for p in members if p["state"] == "running"),
                tasks=sum(p["tasks"] for p in members),
                waits=", ".join(f"{reason} ({n})" if n > 1 else reason for reason, n in reasons.most_common(2)),
            )
        )
    return found


def stuck_pilots(pilots: Sequence[dict[str, Any]], *, work_is_ready: bool) -> list[Stuck]:
    """Tell of kinds of jobs whose newest was refused, and of nodes that are left out because everything failed there.

    Parameters
    ----------
    pilots : sequence of dict
        From :func:`pilots_of`, newest first.
    work_is_ready : bool
        A refusal matters while there is something to do.
    """
    found = []
    told: set[tuple[str, str]] = set()
    for pilot in pilots:
        kind = (pilot["cluster"], pilot["kind"])
        if kind in told:
            continue
        told.add(kind)
        what = f"jobs on {pilot['cluster']} ({pilot['kind']})"
        if pilot["state"] == "refused" and work_is_ready:
            mended = f"mend its kind in the cluster file, then: nucleate submit --cluster {pilot['cluster']}"
            found.append(Stuck(what, f"the scheduler refused: {pilot['message']}", mended, needs_somebody=True))
    for (cluster, node), last in sorted(bad_nodes(pilots).items()):
        cause = last["cause"]
        why = f"set aside: {cause['evidence'] if cause else 'the workers of a job there died again and again'}"
        remedy = f"mend it; then: nucleate submit --cluster {cluster} --retry"
        if cause:
            remedy += f", and nucleate rerun --cause {cause['code']}"
        found.append(Stuck(f"node {node} of {cluster}", why, remedy, needs_somebody=work_is_ready))
    return found


def unfit(pilots: Sequence[dict[str, Any]], ready: Iterable[dict[str, Any]]) -> list[Stuck]:
    """Tell of jobs that ask for more than any batch job in the queues has.

    Parameters
    ----------
    pilots : sequence of dict
        From :func:`pilots_of`.
    ready : iterable of dict
        READY fireworks with their ``spec.resources``.
    """
    active = [p for p in pilots if p["state"] in ACTIVE]
    if not active:
        return []
    stages: dict[tuple[str, float, float], Counter[str]] = {}
    for firework in ready:
        spec = firework.get("spec", {})
        asked = spec.get("resources") or {}
        for name, *_ in _ASKED:
            most = max(p[name] for p in active)
            if (asked.get(name) or 0) > most and not (name == "minutes" and asked.get("resumable")):
                stage = spec.get("nucleate", {}).get("stage") or "?"
                stages.setdefault((name, asked[name], most), Counter())[stage] += 1
                break
    found = []
    for (name, wanted, most), counts in sorted(stages.items()):
        unit, of = next((unit, of) for key, unit, of in _ASKED if key == name)
        jobs = ", ".join(f"{stage} {n}" for stage, n in sorted(counts.items()))
        why = f"they need {wanted:g} {unit} {of}each, and no job in the queues has more than {most:g}"
        cluster = active[0]["cluster"]
        remedy = f"a larger kind of pilot in the cluster file, or nucleate submit --cluster {cluster} --reserve"
        found.append(Stuck(f"jobs that are ready: {jobs}", why, remedy, needs_somebody=True))
    return found
