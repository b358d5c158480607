"""The table that all result files make together."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.faults.strikes import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

HEAD = (
    "fault",
    "tasks",
    "runs",
    "as undisturbed",
    "causes found",
    "untrue for, s (median, most)",
    "longer, s (median)",
    "re-run by cause",
)


def read_results(place: Path) -> list[dict[str, Any]]:
    """Read all result files."""
    return [json.loads(path.read_text()) for path in sorted(place.glob("*.json")) if "undisturbed" not in path.name]


def rows(results: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Make a row of each fault and kind of task."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        groups[result["fault"], result["kind"]].append(result)
    found = []
    for fault in FAULTS.values():
        for kind in fault.kinds:
            if not (group := groups.get((fault.name, kind))):
                continue
            good = sum(not result["problems"] for result in group)
            codes = sorted({line.split(", ")[1].split(" ")[0] for result in group for line in result["causes"]})
            untrue = [f["seconds"] for result in group for f in result["falsehoods"]]
            most = max((result["truth_max_s"] for result in group), default=0.0)
            longer = statistics.median(result["longer_s"] for result in group)
            found.append(
                (
                    fault.title,
                    "stand-in" if kind == "fast" else "pw.x",
                    str(len(group)),
                    str(good),
                    ", ".join(codes) or "none",
                    f"{statistics.median(untrue):.0f}, {most:.0f}" if untrue else "never",
                    f"{longer:.0f}",
                    str(sum(result["reruns"] > 0 for result in group)) if fault.rerun else "",
                )
            )
    return found


BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def write_into(page: Path, results: list[dict[str, Any]]) -> None:
    """Put the table into a page, between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    seeds = ", ".join(sorted({str(result["seed"]) for result in results}))
    wrong = [r for r in results if r["problems"]]
    lines = [f"{len(results)} runs, seed {seeds}.\n", markdown(results)]
    if wrong:
        lines.append("Runs that were not as they should be:\n")
        lines += [f"- {r['fault']}, {r['kind']}, run {r['number']}: {r['problems'][0][:300]}" for r in wrong]
        lines.append("")
    page.write_text(f"{before}{BEGIN}{chr(10).join(lines)}{END}{after}")


def markdown(results: list[dict[str, Any]]) -> str:
    """Write the table as it stands in the docs."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
