"""What ``submit`` says of a turn, to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.runtime.pilots import Turn
    from workflows.runtime.place import Place


def lines_of(made: Turn, place: Place, *, reserve: bool = False, dry_run: bool = False) -> list[str]:
    """Say what a turn found and did."""
    queues = made.queues
    noun = "job" if reserve else "pilot"
    lines = [f"tasks: {queues.ready} ready, {queues.running} running, {queues.later - queues.running} waiting"]
    lines.append(_queue_line(place, made))
    if dry_run:
        counts = _counts([new.kind for new in made.plan.submit], noun)
        lines.append(f"would submit {counts or 'nothing'}")
        lines += [f"would cancel {pilot}: no work for it" for pilot in made.plan.surplus]
    elif made.submitted:
        lines.append(f"submitted {_counts(list(made.submitted.values()), noun)}")
    elif not made.away:
        lines.append(f"no new {noun}s")
    lines += [f"cancelled {pilot}: no work for it" for pilot in made.cancelled]
    lines += [f"{kind}: refused: {said}" for kind, said in made.refused.items()]
    lines += [f"{kind}: set aside, {said}; --retry tries again" for kind, said in made.aside.items()]
    lines += [f"waits: {what}: {why}" for what, why in _few(made.plan.held)]
    lines += [f"fits nowhere: {what}: {why}" for what, why in _few(made.plan.unfit)]
    lines += [f"given up: {what}: {why}; --retry tries again" for what, why in _few(made.plan.given_up)]
    if made.away:
        lines.append(f"the scheduler does not answer, so nothing was submitted: {made.away}")
    spent = sum(made.spending.spent.values())
    if made.spending.budget is not None:
        lines.append(f"{spent:.2f} of {made.spending.budget:g} core-hours spent")
    elif spent:
        lines.append(f"{spent:.2f} core-hours spent")
    return lines


def _queue_line(place: Place, made: Turn) -> str:
    here = [pilot for pilot in made.queues.pilots if pilot["cluster"] == place.name]
    running = sum(pilot["state"] == "running" for pilot in here)
    kinds = _counts([pilot["kind"] for pilot in here])
    return f"jobs on {place.name}: {running} running, {len(here) - running} queued{f' ({kinds})' if kinds else ''}"


def _counts(names: Sequence[str], noun: str = "") -> str:
    """Count by name.

    Examples
    --------
    >>> _counts(["dft", "gpu", "dft"], "pilot")
    '2 dft pilots, 1 gpu pilot'
    """
    counts = {name: names.count(name) for name in names}
    return ", ".join(
        f"{n} {name}{f' {noun}' if noun else ''}{'s' if noun and n > 1 else ''}" for name, n in counts.items()
    )


def _few(items: dict[str, str], most: int = 5) -> list[tuple[str, str]]:
    shown = list(items.items())[:most]
    return [*shown, ("and", f"{len(items) - most} more")] if len(items) > most else shown


def dict_of(made: Turn) -> dict[str, Any]:
    """Give what a turn found and did for ``--json``."""
    return {
        "ready": made.queues.ready,
        "later": made.queues.later,
        "running": made.queues.running,
        "pilots": [
            {name: pilot[name] for name in ("pilot", "cluster", "kind", "state", "job_id")}
            for pilot in made.queues.pilots
        ],
        "plan": [vars(new) for new in made.plan.submit],
        "submitted": made.submitted,
        "cancelled": made.cancelled,
        "refused": made.refused,
        "set_aside": made.aside,
        "held": made.plan.held,
        "unfit": made.plan.unfit,
        "given_up": made.plan.given_up,
        "core_hours": {"spent": made.spending.spent, "budget": made.spending.budget, "left": made.spending.left},
        "scheduler": made.away or "answers",
    }
