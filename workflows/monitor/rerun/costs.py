"""What a re-run may cost, core-hours: from what the same jobs took before, or the same stages of other candidates."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from workflows.causes import UPSTREAM

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Graph, Node
    from workflows.monitor.rerun.history import History
    from workflows.monitor.rerun.plan import Item

_SAMPLE = 20


def typical_hours(database: Database[Any], campaign: str) -> dict[str, float]:
    """Give what each stage of a verified candidate took, core-hours: the median of some."""
    verified = database.verdicts.find({"campaign": campaign, "verified": True}, {"candidate": 1, "round": 1})
    totals: dict[str, list[float]] = defaultdict(list)
    for verdict in verified.limit(_SAMPLE):
        mine = {"campaign": campaign, "round": verdict["round"], "candidate": verdict["candidate"]}
        sums: dict[str, float] = defaultdict(float)
        for attempt in database.attempts.find({**mine, "state": "completed"}, {"stage": 1, "seconds": 1, "took": 1}):
            sums[attempt["stage"]] += _hours(attempt, {})
        for stage, hours in sums.items():
            totals[stage].append(hours)
    return {stage: median(found) for stage, found in totals.items()}


@dataclass
class Costs:
    """Adds up, each job once.

    Parameters
    ----------
    typical : dict of str to float
        By stage, of candidates that went through it, core-hours.
    """

    typical: dict[str, float]
    counted: set[tuple[int, str | None, str]] = field(default_factory=set)
    jobs: set[int] = field(default_factory=set)

    def of(self, history: History, graph: Graph | None, item: Item) -> float:
        """Estimate what an item costs, what runs after it included, core-hours."""
        if graph is None:
            return 0.0
        total = 0.0
        for node in (graph.nodes[fw_id] for fw_id in (item.fw_id, *item.after, *item.replaced)):
            if node.fw_id in self.jobs:
                continue
            self.jobs.add(node.fw_id)
            own = _took(history, node)
            stage = (item.round, node.candidate, node.stage)
            if own is not None:
                total += own
            elif node.candidate is not None and stage not in self.counted:
                self.counted.add(stage)
                total += self.typical.get(node.stage, 0.0)
        return total


def _took(history: History, node: Node) -> float | None:
    """Give the most that a job took, core-hours; ``None`` if nothing came of it but the failure before."""
    mine = [a for a in history.of_job(node.fw_id) if (a["cause"] or {}).get("code") != UPSTREAM]
    return max((_hours(a, node.resources or {}) for a in mine if a["seconds"] is not None), default=None)


def _hours(attempt: dict[str, Any], resources: dict[str, Any]) -> float:
    """Give the core-hours of an attempt; where no batch job ran it, by the cores that its job asks for."""
    cores: float = (attempt.get("took") or {}).get("cores") or resources.get("cores") or 1
    return float(attempt["seconds"] or 0.0) * cores / 3600
