"""What a terminal shows of a planned re-run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from workflows.causes import CAUSES
from workflows.cli.tables import hours, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from workflows.monitor.rerun.plan import Item, Plan, Skipped

_MOST = 30


def plan_view(plan: Plan) -> RenderableType:
    """Lay out what would run again, what is changed, what it may cost, and what is left out and why."""
    none = "Nothing to run again." if plan.skipped else "Nothing to run again: nothing that was selected has failed."
    parts: list[RenderableType] = [_items(plan)] if plan.items else [Text(none)]
    if plan.skipped:
        parts.append(_skipped(plan.skipped))
    return Group(*parts)


def _items(plan: Plan) -> Table:
    shown = table("To be run again", "cause", "job", "n", "what is changed", "core-h")
    shown.columns[2].justify = shown.columns[4].justify = "right"
    shown.columns[0].overflow = shown.columns[1].overflow = "fold"
    shown.columns[0].max_width = 24
    groups: dict[tuple[int | None, str, str], list[Item]] = defaultdict(list)
    for item in plan.items:
        groups[item.code, item.stage, item.words].append(item)
    for (code, stage, words), items in list(groups.items())[:_MOST]:
        shown.add_row(
            _cause(code), _whose(stage, items), str(len(items)), words, hours(sum(i.core_hours for i in items))
        )
    if len(groups) > _MOST:
        shown.add_row(f"... and {len(groups) - _MOST} more")
    if len(groups) > 1:
        shown.add_section()
        shown.add_row("all", "", str(len(plan.items)), "", hours(plan.core_hours), style="bold")
    return shown


def _skipped(skipped: list[Skipped]) -> Table:
    shown = table("Left out", "cause", "job", "n", "why")
    shown.columns[2].justify = "right"
    shown.columns[0].overflow = shown.columns[1].overflow = "fold"
    shown.columns[0].max_width = 24
    groups: dict[tuple[int | None, str, str], list[Skipped]] = defaultdict(list)
    for one in skipped:
        groups[one.code, one.stage, one.why].append(one)
    for (code, stage, why), members in list(groups.items())[:_MOST]:
        shown.add_row(_cause(code), _whose(stage, members), str(len(members)), why)
    if len(groups) > _MOST:
        shown.add_row(f"... and {len(groups) - _MOST} more")
    return shown


def _cause(code: int | None) -> str:
    if code is None:
        return "none"
    return f"{code} {CAUSES[code].name}" if code in CAUSES else str(code)


def _whose(stage: str, members: list[Item] | list[Skipped]) -> str:
    first = members[0].candidate or f"round {members[0].round}"
    return f"{stage} of {first}" + (" ..." if len({member.candidate for member in members}) > 1 else "")
