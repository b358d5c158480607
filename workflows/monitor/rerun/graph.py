"""A workflow as a re-run sees it: what depends on a job, what of it runs now, and how each firework stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.runtime.firetask import PRODUCER
from workflows.runtime.settle import span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

BUSY = frozenset({"RESERVED", "RUNNING"})
"""States in which somebody has a firework in hand."""

_NODE = {
    "_id": 0, "fw_id": 1, "name": 1, "state": 1, "launches": 1, "spec.nucleate": 1,
    "spec.resources": 1, "spec._exception_details": 1, f"spec.{PRODUCER}": 1, "spec._tasks.job.uuid": 1,
    "spec._tasks.job.index": 1, "spec._tasks.job.function.@callable": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A firework without what it computes.

    Parameters
    ----------
    fw_id : int
    name : str
    state : str
    block : dict
        ``spec.nucleate``.
    job : tuple of (str, int)
        uuid and index of its jobflow job.
    function : str
        What it calls: ``measure_volumes``, or ``PwRelaxMaker.make``.
    producer : str
        ``<uuid>:<index>`` of the job that added it at run time; empty if none did.
    resources : dict or None
    details : any
        ``spec._exception_details``, which FireWorks writes when it re-runs what failed.
    launches : tuple of int
    """

    fw_id: int
    name: str
    state: str
    block: dict[str, Any]
    job: tuple[str, int]
    function: str
    producer: str
    resources: dict[str, Any] | None
    details: Any
    launches: tuple[int, ...]

    @property
    def stage(self) -> str:
        """Its stage."""
        return str(self.block.get("stage") or "?")

    @property
    def candidate(self) -> str | None:
        """Its candidate; ``None`` for a job of the round."""
        return self.block.get("candidate")


@dataclass
class Graph:
    """One workflow."""

    nodes: dict[int, Node]
    children: dict[int, list[int]]
    parents: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, database: Database[Any], fw_id: int) -> Graph | None:
        """Read the workflow of a firework; ``None`` if it has none."""
        found = database.workflows.find_one({"nodes": fw_id}, {"_id": 0, "nodes": 1, "links": 1})
        if found is None:
            return None
        ids = set(found["nodes"])
        nodes = {
            fw["fw_id"]: _node(fw) for fw in database.fireworks.find(span(found["nodes"]), _NODE) if fw["fw_id"] in ids
        }
        children = _children(found)
        graph = cls(nodes, children)
        for parent, linked in children.items():
            for child in linked:
                graph.parents.setdefault(child, []).append(parent)
        return graph

    def after(self, fw_id: int) -> list[int]:
        """List what depends on a firework, in the order of ids."""
        return [other for other in _reach(fw_id, self.children) if other in self.nodes]

    def before(self, fw_id: int) -> list[int]:
        """List what a firework depends on, in the order of ids."""
        return [other for other in _reach(fw_id, self.parents) if other in self.nodes]

    def parents_in(self, fw_id: int, stage: str) -> list[Node]:
        """List the parents of a firework that are of a stage."""
        found = (self.nodes[parent] for parent in sorted(self.parents.get(fw_id, [])) if parent in self.nodes)
        return [node for node in found if node.stage == stage]

    def of_stage(self, candidate: str | None, stage: str) -> list[Node]:
        """List a candidate's jobs of a stage, in the order of ids."""
        found = (self.nodes[fw_id] for fw_id in sorted(self.nodes))
        return [node for node in found if node.candidate == candidate and node.stage == stage]

    def made_by(self, fw_id: int) -> list[int]:
        """List what a job has added at run time, and what that has added, in the order of ids."""
        added: dict[str, list[int]] = {}
        for node in self.nodes.values():
            if node.producer:
                added.setdefault(node.producer, []).append(node.fw_id)
        made: set[int] = set()
        left = [fw_id]
        while left:
            uuid, index = self.nodes[left.pop()].job
            fresh = [child for child in added.get(f"{uuid}:{index}", []) if child not in made]
            made.update(fresh)
            left += fresh
        return sorted(made)

    def busy(self, fw_ids: Iterable[int]) -> list[Node]:
        """List those that somebody has in hand."""
        return [self.nodes[fw_id] for fw_id in fw_ids if self.nodes[fw_id].state in BUSY]


def dependents(database: Database[Any], fw_id: int) -> list[int]:
    """List what depends on a firework, as :meth:`Graph.after`, from the links alone; none if it has no workflow."""
    found = database.workflows.find_one({"nodes": fw_id}, {"_id": 0, "links": 1})
    return [] if found is None else _reach(fw_id, _children(found))


def _children(workflow: dict[str, Any]) -> dict[int, list[int]]:
    return {int(parent): list(linked) for parent, linked in workflow["links"].items()}


def _reach(fw_id: int, links: dict[int, list[int]]) -> list[int]:
    seen: set[int] = set()
    left = [fw_id]
    while left:
        for other in links.get(left.pop(), []):
            if other not in seen:
                seen.add(other)
                left.append(other)
    return sorted(seen)


def _node(fw: dict[str, Any]) -> Node:
    spec = fw.get("spec", {})
    tasks = spec.get("_tasks") or [{}]
    job = tasks[0].get("job") or {}
    return Node(
        fw_id=fw["fw_id"],
        name=fw.get("name", ""),
        state=fw["state"],
        block=spec.get("nucleate") or {},
        job=(job.get("uuid", ""), job.get("index", 1)),
        function=(job.get("function") or {}).get("@callable", ""),
        producer=spec.get(PRODUCER, ""),
        resources=spec.get("resources"),
        details=spec.get("_exception_details"),
        launches=tuple(fw.get("launches") or ()),
    )
