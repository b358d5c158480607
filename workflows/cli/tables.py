"""What a terminal shows of a campaign: rich renderables made of plain results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

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


def status_view(status: Status, most_rounds: int | None = None) -> RenderableType:
    """Lay out a status: headline, funnel (of the last rounds, if there are more), open rounds, what runs, is stuck."""
    why = f" ({status.why})" if status.why else ""
    head = Text.assemble(
        ("Campaign ", "bold"),
        (status.campaign, "bold"),
        "  ",
        (_MEANING[status.state] + why, _COLOURS[status.state]),
        f"  round {len(status.rounds)} of {status.rounds_wanted}  {status.engine}/{status.protocol}",
    )
    parts: list[RenderableType] = [head, _funnel(status, most_rounds), Text("")]
    parts += [_stages(opened) for opened in status.rounds if opened.state != "closed"]
    parts.append(_pace(status))
    if status.running:
        parts.append(_running(status))
    if status.stuck:
        parts.append(_stuck(status))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in columns:
        table.add_column(column)
    return table


def _funnel(status: Status, most_rounds: int | None) -> Table:
    table = _table("Funnel", "round")
    table.show_edge = False
    for name in _FUNNEL:
        table.add_column(_SHORTER.get(name, name), justify="right")
    hidden = max(0, len(status.rounds) - most_rounds) if most_rounds else 0
    if hidden:
        table.add_row(f"1-{hidden}", *["..."] * len(_FUNNEL), style="dim")
    for r in status.rounds[hidden:]:
        label = str(r.number) if r.state == "closed" else f"{r.number} {r.state}"
        table.add_row(label, *(str(getattr(r.summary, name)) for name in _FUNNEL))
        if control := r.summary.control:
            table.add_row("control", *(str(control.get(name, "")) for name in _FUNNEL), style="dim")
    if len(status.rounds) > 1:
        table.add_section()
        table.add_row("all", *(str(status.totals[name]) for name in _FUNNEL), style="bold")
    return table


def _stages(opened: RoundStatus) -> Table:
    present = [state for state in _STATES if any(state in counts for counts in opened.stages.values())]
    table = _table(f"Jobs of round {opened.number}", "stage")
    for state in present:
        table.add_column(state.lower(), justify="right", style="red" if state == "FIZZLED" else None)
    table.add_column("candidates", justify="right")
    for stage, counts in opened.stages.items():
        # the jobs of a reference set are no candidates, and a verdict is what judge makes of one
        progress = opened.progress.get({"judge": "verify", "reference": ""}.get(stage, stage))
        told = "" if progress is None else f"{progress.done} of {progress.wanted}"
        table.add_row(stage, *(str(counts.get(state, "")) for state in present), told)
    return table


def _pace(status: Status) -> Text:
    parts = []
    if status.candidates_per_hour:
        parts.append(f"{status.candidates_per_hour:.0f} samples/h")
    if status.verdicts_per_hour:
        parts.append(f"{status.verdicts_per_hour:.1f} verified/h")
    if status.expected_end:
        parts.append(f"expected to end about {status.expected_end.astimezone():%a %H:%M}")
    return Text("Pace: " + ", ".join(parts) if parts else "")


def _running(status: Status, most: int = 12) -> Table:
    table = _table("Running", "stage", "candidate", "worker", "for")
    for task in status.running[:most]:
        worker = f"{task.pid}@{task.host}" + ("" if task.alive is not False else " (gone)")
        table.add_row(task.stage, task.candidate or "the round", worker, _span(task.seconds))
    if len(status.running) > most:
        table.add_row(f"... and {len(status.running) - most} more")
    return table


def _stuck(status: Status, most: int = 12) -> Table:
    table = _table("Stuck", "what", "why", "what to do")
    for item in status.stuck[:most]:
        table.add_row(item.what, item.why, item.remedy, style="red" if item.needs_somebody else "yellow")
    if len(status.stuck) > most:
        table.add_row(f"... and {len(status.stuck) - most} more")
    return table


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def failures_view(groups: Sequence[FailureGroup]) -> RenderableType:
    """Lay out failures by cause."""
    if not groups:
        return Text("Nothing failed.")
    table = _table("Failures by cause", "cause", "n", "stages", "rounds", "example", "a re-run")
    for group in groups:
        example = group.example
        shown = Text(f"{example.candidate or 'the round'}: {example.evidence}")
        if example.directory:
            shown.append(f"\n{example.directory}", style="dim")
        again = f"changes: {group.rerun_changes}" if group.recoverable else "can't help"
        table.add_row(
            f"{group.code} {group.name}",
            str(group.count),
            ", ".join(f"{stage} {n}" for stage, n in group.stages.items()),
            ", ".join(map(str, group.rounds)),
            shown,
            again,
        )
    return table
