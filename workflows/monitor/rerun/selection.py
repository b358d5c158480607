"""Which jobs a re-run is about: the roots of what failed, and of what else was named, never what failed after them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workflows.monitor.rerun.graph import Graph
from workflows.monitor.rerun.history import History
from workflows.monitor.triage import find_failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Node
    from workflows.monitor.selector import Selector


@dataclass(frozen=True)
class Root:
    """A job to be run again, and why.

    Parameters
    ----------
    candidate : str or None
        ``None``: a job of the round.
    round : int
    stage : str
        The stage that is to blame.
    code : int or None
        Cause; ``None`` if nothing failed and somebody wants it again all the same.
    evidence : str
    node : Node or None
        ``None`` if its firework is gone.
    graph : Graph or None
    history : History
    """

    candidate: str | None
    round: int
    stage: str
    code: int | None
    evidence: str
    node: Node | None
    graph: Graph | None
    history: History


_SHAPED_BY = {603: "measure_volumes", 604: "phonon_supercell"}
"""By cause, the function that decides what is computed after it."""


def roots(database: Database[Any], selector: Selector) -> list[Root]:
    """List the jobs that a selector means, sorted by round and candidate.

    What failed, always. What did not fail too, if a stage is named, and candidates in one way or another.
    """
    named: dict[tuple[int, str | None], set[tuple[int, str | None, str]]] = defaultdict(set)
    for failure in find_failures(database, selector):
        named[failure.round, failure.candidate].add((failure.code, failure.stage, failure.evidence))
    well = selector.stages and (selector.candidates or selector.states or selector.query) and not selector.causes
    if well:
        wanted = replace(selector, stages=()).verdicts()
        for verdict in database.verdicts.find(wanted, {"candidate": 1, "round": 1}):
            named.setdefault((verdict["round"], verdict["candidate"]), set())
    graphs: dict[int, Graph | None] = {}
    found: list[Root] = []
    for (number, candidate), failures in sorted(named.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        history = History.of(database, selector.campaign, number, candidate)
        if number not in graphs:
            graphs[number] = _graph(database, selector.campaign, number)
        mine = list(_failed(selector, number, candidate, history, graphs[number]))
        seen = {root.code for root in mine}
        for code, stage, evidence in sorted(failures, key=str):
            if code not in seen and stage is not None:
                node = _judged(code, graphs[number], candidate, stage)
                mine.append(Root(candidate, number, stage, code, evidence, node, graphs[number], history))
        graph = graphs[number]
        if not mine and graph is not None:
            mine += [
                Root(candidate, number, stage, None, "nothing failed", node, graph, history)
                for stage in selector.stages
                for node in graph.of_stage(candidate, stage)[:1]
            ]
        found += mine
    return found


def _graph(database: Database[Any], campaign: str, number: int) -> Graph | None:
    query = {"spec.nucleate.campaign": campaign, "spec.nucleate.round": number, "state": {"$ne": "ARCHIVED"}}
    firework = database.fireworks.find_one(query, {"fw_id": 1})
    return Graph.of(database, firework["fw_id"]) if firework else None


def _failed(
    selector: Selector, number: int, candidate: str | None, history: History, graph: Graph | None
) -> Iterator[Root]:
    """Give the jobs of a candidate, or of the round, whose last launch failed for a reason of its own."""
    done: set[int] = set()
    for attempt in history.failed():
        cause = attempt["cause"]
        code, stage = cause["code"], cause["stage"] or attempt["stage"]
        if selector.causes and not any(low <= code <= high for low, high in selector.causes):
            continue
        if selector.stages and not {stage, attempt["stage"]} & set(selector.stages):
            continue
        node = _to_blame(attempt, code, stage, graph)
        if node is None or node.fw_id not in done:
            yield Root(candidate, number, stage, code, cause["evidence"], node, graph, history)
        if node is not None:
            done.add(node.fw_id)


def _to_blame(attempt: dict[str, Any], code: int, stage: str, graph: Graph | None) -> Node | None:
    """Find the job whose change can mend it: not always the one that noticed."""
    node = graph.nodes.get(attempt["fw_id"]) if graph is not None else None
    if graph is None or node is None:
        return None
    if code in _SHAPED_BY:
        return _shaping(code, graph, node.candidate, stage) or node
    if stage != attempt["stage"]:
        # gate reads what relax wrote: the last job of relax, which is the one that gate depends on
        blamed = graph.parents_in(node.fw_id, stage)
        return blamed[-1] if blamed else node
    return node


def _judged(code: int, graph: Graph | None, candidate: str | None, stage: str) -> Node | None:
    """Find where to begin again what ran without a failure and was refused by the judge."""
    if graph is None:
        return None
    jobs = graph.of_stage(candidate, stage)
    if code == 502:
        # forces were left over: the tight relaxation is the first of the flow that has a Maker
        jobs = [job for job in jobs if "Maker." in job.function] or jobs
    return _shaping(code, graph, candidate, stage) or (jobs[0] if jobs else None)


def _shaping(code: int, graph: Graph, candidate: str | None, stage: str) -> Node | None:
    wanted = _SHAPED_BY.get(code)
    return next((job for job in graph.of_stage(candidate, stage) if job.function == wanted), None)
