"""What a terminal shows of a campaign: rich renderables made of plain results."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from workflows.lessons import update_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from workflows.monitor.status import RoundStatus, Status
    from workflows.monitor.triage import FailureGroup

_SHORTER = {"failures": "failed"}
"""So that the funnel fits into 80 columns."""
_FUNNEL = ("sampled", "valid", "unique", "novel", "selected", "verified", "stable", "hits", "failures")
_STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "COMPLETED", "FIZZLED", "PAUSED", "DEFUSED", "ARCHIVED")
_COLOURS = {"running": "green", "finished": "green", "stopped": "yellow", "idle": "yellow", "stuck": "red"}
_MEANING = {
    "running": "running",
    "idle": "waiting: no worker is on it",
    "stuck": "stuck",
    "finished": "finished",
    "stopped": "stopped",
}


_COMMAND = re.compile(r"\bnucleate (?:failures|reconcile|rerun|submit|work)\b")
"""Ours that take ``-C``."""


def status_view(status: Status, most_rounds: int | None = None, there: str = "") -> RenderableType:
    """Lay out a status: headline, funnel (of the last rounds, if there are more), open rounds, what runs, is stuck.

    Parameters
    ----------
    status : Status
    most_rounds : int, optional
    there : str
        What names the campaign in a command, see :func:`workflows.cli.context.naming`.
    """
    meaning, colour = _headline(status)
    why = f" ({status.why})" if status.why else ""
    head = Text.assemble(
        ("Campaign ", "bold"),
        (status.campaign, "bold"),
        "  ",
        (meaning + why, colour),
        f"  round {len(status.rounds)} of {status.rounds_wanted}  {status.engine}/{status.protocol}",
    )
    parts: list[RenderableType] = [head, _funnel(status, most_rounds)]
    parts += [
        Text(update_in_words(update, r.number), style="dim")
        for r in status.rounds[-(most_rounds or len(status.rounds)) :]
        for update in r.updates
    ]
    parts.append(Text(""))
    parts += [_stages(opened) for opened in status.rounds if opened.state != "closed"]
    parts.append(_pace(status))
    if status.pilots:
        parts.append(_pilots(status))
    if status.running:
        parts.append(_running(status))
    if status.stuck:
        parts.append(_stuck(status, there))
    return Group(*parts)


def _headline(status: Status) -> tuple[str, str]:
    """Say in words, and by a colour, how a campaign stands; a batch job between two tasks is at it."""
    if status.state != "idle" or not status.pilots:
        return _MEANING[status.state], _COLOURS[status.state]
    jobs: dict[str, Counter[str]] = defaultdict(Counter)
    for kind in status.pilots:
        jobs[kind.cluster] += Counter(running=kind.running, queued=kind.queued)
    told = "; ".join(
        f"{cluster}: {', '.join(f'{n} {state}' for state, n in counts.items())}" for cluster, counts in jobs.items()
    )
    if any(counts["running"] for counts in jobs.values()):
        return f"between tasks ({told})", _COLOURS["running"]
    return f"waiting for batch jobs ({told})", _COLOURS["idle"]


def table(title: str, *columns: str) -> Table:
    """Make an empty table in the look of all of them."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in columns:
        made.add_column(column)
    return made


def _funnel(status: Status, most_rounds: int | None) -> Table:
    shown = table("Funnel", "round")
    shown.show_edge = False
    for name in _FUNNEL:
        shown.add_column(_SHORTER.get(name, name), justify="right")
    hidden = max(0, len(status.rounds) - most_rounds) if most_rounds else 0
    if hidden:
        shown.add_row(f"1-{hidden}", *["..."] * len(_FUNNEL), style="dim")
    for r in status.rounds[hidden:]:
        label = str(r.number) if r.state == "closed" else f"{r.number} {r.state}"
        shown.add_row(label, *(str(getattr(r.summary, name)) for name in _FUNNEL))
        if control := r.summary.control:
            shown.add_row("control", *(str(control.get(name, "")) for name in _FUNNEL), style="dim")
    if len(status.rounds) > 1:
        shown.add_section()
        shown.add_row("all", *(str(status.totals[name]) for name in _FUNNEL), style="bold")
    return shown


def _stages(opened: RoundStatus) -> Table:
    present = [state for state in _STATES if any(state in counts for counts in opened.stages.values())]
    shown = table(f"Jobs of round {opened.number}", "stage")
    for state in present:
        shown.add_column(state.lower(), justify="right", style="red" if state == "FIZZLED" else None)
    shown.add_column("candidates", justify="right")
    for stage, counts in opened.stages.items():
        # the jobs of a reference set are no candidates, and a verdict is what judge makes of one
        progress = opened.progress.get({"judge": "verify", "reference": ""}.get(stage, stage))
        told = "" if progress is None else f"{progress.done} of {progress.wanted}"
        shown.add_row(stage, *(str(counts.get(state, "")) for state in present), told)
    return shown


def _pace(status: Status) -> Text:
    parts = []
    if status.candidates_per_hour:
        parts.append(f"{status.candidates_per_hour:.0f} samples/h")
    if status.verdicts_per_hour:
        parts.append(f"{status.verdicts_per_hour:.1f} verified/h")
    if status.expected_end:
        parts.append(f"expected to end about {status.expected_end.astimezone():%a %H:%M}")
    lines = ["Pace: " + ", ".join(parts)] if parts else []
    if status.core_hours_spent or status.budget_hours is not None:
        lines.append(_spent(status))
    return Text("\n".join(lines))


def _spent(status: Status) -> str:
    told = f"Spent: {hours(status.core_hours_spent, none='0')} core-h"
    if status.budget_hours is not None:
        left = max(0.0, status.budget_hours - status.core_hours_spent)
        told += f" of {status.budget_hours:g}, {hours(left, none='0')} left"
    if len(status.core_hours) > 1 or "outside" not in status.core_hours:
        shares = [f"{name} {hours(spent, none='0')}" for name, spent in status.core_hours.items()]
        told += f" ({', '.join(shares)})"
    return told


def hours(value: float, none: str = "-") -> str:
    """Give core-hours for people; ``none`` stands for zero.

    Examples
    --------
    >>> hours(0.0), hours(0.0004), hours(1.26), hours(340.2)
    ('-', '<0.01', '1.26', '340')
    """
    if value <= 0:
        return none
    if value < 0.01:
        return "<0.01"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _pilots(status: Status) -> Table:
    says_why = any(kind.waits for kind in status.pilots)
    shown = table("Batch jobs", "cluster", "kind", "running", "cores", "queued", "tasks done")
    if says_why:
        shown.add_column("why they wait", overflow="fold")
    for column in shown.columns[2:6]:
        column.justify = "right"
    for kind in status.pilots:
        numbers = (kind.running, kind.cores, kind.queued, kind.tasks)
        shown.add_row(kind.cluster, kind.kind, *map(str, numbers), *([kind.waits] if says_why else []))
    return shown


def _running(status: Status, most: int = 12) -> Table:
    shown = table("Running", "stage", "candidate", "worker", "for")
    for task in status.running[:most]:
        where = f"{task.cluster}:{task.job} {task.host}" if task.job and task.cluster else f"{task.pid}@{task.host}"
        worker = where + ("" if task.alive is not False else " (gone)")
        shown.add_row(task.stage, task.candidate or "the round", worker, _span(task.seconds))
    if len(status.running) > most:
        shown.add_row(f"... and {len(status.running) - most} more")
    return shown


def _stuck(status: Status, there: str, most: int = 12) -> Table:
    shown = table("Stuck", "what", "why", "what to do")
    for column in shown.columns:
        column.overflow = "fold"  # a path or a command that is cut is of no use
    for item in status.stuck[:most]:
        told = (_COMMAND.sub(lambda found: found[0] + there, text) for text in (item.why, item.remedy))
        shown.add_row(item.what, *told, style="red" if item.needs_somebody else "yellow")
    if len(status.stuck) > most:
        shown.add_row(f"... and {len(status.stuck) - most} more")
    return shown


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def failures_view(groups: Sequence[FailureGroup]) -> RenderableType:
    """Lay out failures by cause, with an example of each; and what a re-run of them would change."""
    if not groups:
        return Text("Nothing failed.")
    shown = table("Failures by cause", "cause", "n", "stages", "rounds", "example")
    shown.columns[1].justify = "right"
    shown.columns[4].overflow = "fold"
    again = table("A re-run", "cause", "n", "changes", "command")
    again.columns[1].justify = "right"
    again.columns[3].no_wrap = True
    for group in groups:
        example = group.example
        told = Text(f"{example.candidate or 'the round'}: {example.evidence}")
        if example.directory:
            told.append(f"\n{example.directory}", style="dim")
        stages = ", ".join(f"{stage} {n}" for stage, n in group.stages.items())
        shown.add_row(f"{group.code} {group.name}", str(group.count), stages, _spans(group.rounds), told)
        if not group.recoverable:
            again.add_row(str(group.code), "-", "nothing helps but another structure or input", "")
            continue
        left = group.count - group.exhausted
        changes = group.rerun_changes
        if group.exhausted:
            changes += f" ({group.exhausted} have had their {group.retries} re-runs)"
        again.add_row(str(group.code), str(left), changes, group.command)
    return Group(shown, again)


def _spans(numbers: Sequence[int]) -> str:
    """Write numbers as spans.

    Examples
    --------
    >>> _spans((1, 2, 3, 7))
    '1-3, 7'
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
