"""What a re-run would do: which jobs, why, what is changed, what it may cost, and what is left out and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import CauseInfo
from workflows.causes import CAUSES
from workflows.engines.eos_flow import measure_volumes
from workflows.engines.phonon_flow import phonon_supercell
from workflows.monitor.rerun.arguments import named_numbers
from workflows.monitor.rerun.costs import Costs, typical_hours
from workflows.monitor.rerun.graph import BUSY
from workflows.monitor.rerun.remedies import Case, Remedy, remedy_for
from workflows.monitor.rerun.selection import roots
from workflows.monitor.rerun.settings import Settings, applied
from workflows.runtime.settle import DONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Node
    from workflows.monitor.rerun.selection import Root
    from workflows.monitor.selector import Selector

_FUNCTIONS = {"measure_volumes": measure_volumes, "phonon_supercell": phonon_supercell}
"""Plain functions that remedies change arguments of."""
_JOB = {"spec._tasks.job.function": 1, "spec._tasks.job.function_args": 1, "spec._tasks.job.function_kwargs": 1}


@dataclass(frozen=True)
class Item:
    """One job that is to run again.

    Parameters
    ----------
    fw_id : int
    job : tuple of (str, int)
        uuid and index; an empty uuid: what is changed is for all jobs of the stage.
    campaign : str
    round : int
    candidate : str or None
    stage : str
        The job's own.
    blamed : str
        The stage that the cause is of.
    engine : str or None
    name : str
    code : int or None
    evidence : str
    words : str
        What is changed.
    overrides : dict
        As the attempts record holds them.
    resources : dict
        The job's whole ``spec.resources`` from now on.
    start : dict
        ``directory`` and ``last_geometry`` that it starts from; empty: from the beginning.
    after : tuple of int
        Fireworks that run again because they depend on it.
    replaced : tuple of int
        Fireworks that make room for new ones, because the job, or one after it, adds its children anew.
    after_launch : int or None
        Its last launch.
    core_hours : float
        Of it and those after it: from earlier attempts, or from what the same stage took of other candidates. What
        depends on several jobs is counted with the first.
    tries : int
        Re-runs for this cause before.
    retries : int
        How many of them it is worth.
    """

    fw_id: int
    job: tuple[str, int]
    campaign: str
    round: int
    candidate: str | None
    stage: str
    blamed: str
    engine: str | None
    name: str
    code: int | None
    evidence: str
    words: str
    overrides: dict[str, Any]
    resources: dict[str, Any]
    start: dict[str, Any] = field(repr=False)
    after: tuple[int, ...]
    replaced: tuple[int, ...]
    after_launch: int | None
    core_hours: float
    tries: int
    retries: int

    def as_dict(self) -> dict[str, Any]:
        """Give a JSON-compatible form, without the geometry."""
        return {**asdict(self), "start": self.start.get("directory") or bool(self.start)}


@dataclass(frozen=True)
class Skipped:
    """One job that is not run again, and why."""

    fw_id: int | None
    round: int
    candidate: str | None
    stage: str
    code: int | None
    why: str


@dataclass(frozen=True)
class Plan:
    """What a re-run would do."""

    campaign: str
    items: list[Item]
    skipped: list[Skipped]

    @property
    def core_hours(self) -> float:
        """What it may cost."""
        return sum(item.core_hours for item in self.items)

    def as_dict(self) -> dict[str, Any]:
        """Give a JSON-compatible form."""
        return {
            "campaign": self.campaign,
            "core_hours": round(self.core_hours, 4),
            "items": [item.as_dict() for item in self.items],
            "skipped": [asdict(one) for one in self.skipped],
        }


def plan_rerun(
    database: Database[Any], selector: Selector, settings: Settings | None = None, *, over_budget: bool = False
) -> Plan:
    """Find out what a re-run would do; nothing is written.

    Parameters
    ----------
    database : pymongo.database.Database
    selector : Selector
    settings : Settings, optional
        What is changed besides.
    over_budget : bool
        Run again also what was run again often enough, and what a re-run is unlikely to help.
    """
    found = roots(database, selector)
    chosen = {(root.round, root.node.fw_id) for root in found if root.node is not None}
    items: dict[int, Item] = {}
    skipped: list[Skipped] = []
    costs = Costs(typical_hours(database, selector.campaign) if found else {})
    for root in found:
        why = _refusal(root, chosen, over_budget=over_budget)
        if why or root.node is None:
            fw_id = root.node.fw_id if root.node is not None else None
            skipped.append(Skipped(fw_id, root.round, root.candidate, root.stage, root.code, why))
        elif root.node.fw_id not in items:
            item = _item(database, selector.campaign, root, root.node, settings or Settings())
            items[item.fw_id] = replace(item, core_hours=costs.of(root.history, root.graph, item))
    return Plan(selector.campaign, [items[fw_id] for fw_id in sorted(items)], skipped)


def _refusal(root: Root, chosen: set[tuple[int, int]], *, over_budget: bool) -> str:
    """Say why a job is not run again; empty if it is."""
    node, graph = root.node, root.graph
    if node is None or graph is None:
        return "its job isn't in the database any more"
    if node.state in BUSY:
        return "it runs now"
    if node.state not in DONE:
        if node.state in {"PAUSED", "DEFUSED", "ARCHIVED"}:
            return f"somebody has set it to {node.state}: lpad {_FREE.get(node.state, 'get_fws')} -i {node.fw_id}"
        return "it is to run again already"
    above = next((job for job in graph.before(node.fw_id) if (root.round, job) in chosen), None)
    if above is not None:
        return f"it runs again after {graph.nodes[above].name}"
    busy = graph.busy(graph.after(node.fw_id))
    if busy:
        return f"{busy[0].name} depends on it and runs now: try again when that has ended"
    info = info_of(root.code)
    if root.code is None or over_budget:
        return ""
    if not info.recoverable:
        return "a re-run can't help (--over-budget runs it all the same)"
    tries = root.history.tries(root.stage, root.code)
    if tries >= info.retries and not _unfinished(root):
        return f"re-run {tries} of {info.retries} times for this cause (--over-budget runs it again)"
    return ""


_FREE = {"PAUSED": "resume_fws", "DEFUSED": "reignite_fws"}


def info_of(code: int | None) -> CauseInfo:
    """Give the row of a cause; one for causes that this version doesn't know."""
    known = CAUSES.get(code) if code is not None else None
    return known or CauseInfo(code or 0, "unlisted", "written by another version", True, "nothing")


def _unfinished(root: Root) -> dict[str, Any] | None:
    """Give the re-run that was written down before a crash, and not carried out."""
    node = root.node
    if node is None:
        return None
    plans = root.history.plans_of(node.fw_id)
    last = node.launches[-1] if node.launches else None
    if plans and plans[-1]["state"] == "planned" and (plans[-1].get("rerun") or {}).get("after_launch") == last:
        return plans[-1]
    return None


def _resources_before(root: Root, node: Node) -> dict[str, Any]:
    """Give what the job said of itself, not what a re-run that a crash ended has made of it."""
    left = _unfinished(root)
    before = left["rerun"]["before"] if left else []
    own = next((one["resources"] for one in before if one["fw_id"] == node.fw_id), node.resources)
    return dict(own or {})


def _item(database: Database[Any], campaign: str, root: Root, node: Node, settings: Settings) -> Item:
    graph = root.graph
    assert graph is not None  # noqa: S101 - the caller has asked
    job = _stored_job(database, node.fw_id)
    maker = (job.get("function") or {}).get("@bound") or {}
    launched = root.history.of_job(node.fw_id)
    last = launched[-1] if launched else None
    geometry = _geometry(database, last)
    function = _FUNCTIONS.get(node.function)
    said = _resources_before(root, node)
    case = Case(
        code=root.code or 0,
        evidence=root.evidence,
        maker=maker,
        arguments=named_numbers(function, job) if function is not None else {},
        resources={**((last or {}).get("took") or {}), **said},
        minutes=max((a["seconds"] or 0.0 for a in launched), default=0.0) / 60,
        resumable=bool((node.resources or {}).get("resumable")),
        has_geometry=geometry is not None,
        tries=root.history.tries(root.stage, root.code) if root.code else 0,
        earlier=last["overrides"] if last is not None else {},
    )
    remedy = remedy_for(case) if root.code is not None else Remedy("nothing")
    remedy, resources = applied(settings, case, remedy)
    overrides = _overrides(case, remedy)
    after = graph.after(node.fw_id)
    replaced = _replaced(root, node, bool(remedy.arguments))
    start: dict[str, Any] = {}
    if remedy.start and geometry is not None:
        overrides["restart"] = True
        there = last["directory"] if last is not None and remedy.start == "where it ended" else None
        start = {"last_geometry": geometry, "directory": there}
    return Item(
        fw_id=node.fw_id,
        job=node.job if maker or overrides else ("", 1),
        campaign=campaign,
        round=root.round,
        candidate=root.candidate,
        stage=node.stage,
        blamed=root.stage,
        engine=node.block.get("engine"),
        name=node.name,
        code=root.code,
        evidence=root.evidence,
        words=remedy.words,
        overrides=overrides,
        resources={**said, **remedy.resources, **resources},
        start=start,
        after=tuple(fw_id for fw_id in after if fw_id not in replaced),
        replaced=replaced,
        after_launch=node.launches[-1] if node.launches else None,
        core_hours=0.0,
        tries=case.tries,
        retries=info_of(root.code).retries,
    )


def _stored_job(database: Database[Any], fw_id: int) -> dict[str, Any]:
    found = database.fireworks.find_one({"fw_id": fw_id}, _JOB) or {}
    tasks = found.get("spec", {}).get("_tasks") or [{}]
    job: dict[str, Any] = tasks[0].get("job") or {}
    return job


def _geometry(database: Database[Any], last: dict[str, Any] | None) -> dict[str, Any] | None:
    """Read the geometry that the last launch left; a document may be large, so it is read for what is re-run only."""
    if last is None:
        return None
    found = database.attempts.find_one({"attempt": last["attempt"]}, {"last_geometry": 1})
    return found["last_geometry"] if found else None


def _overrides(case: Case, remedy: Remedy) -> dict[str, Any]:
    """Put a remedy on top of what earlier re-runs asked: what helped then is not taken back."""
    earlier: Mapping[str, Any] = {} if remedy.afresh else case.earlier
    maker = dict(earlier.get("maker") or {})
    inside = {"pw": "pw", "vasp": "incar"}.get(case.engine)
    if remedy.tags and inside is not None:
        maker[inside] = {**(case.maker.get(inside) or {}), **(maker.get(inside) or {}), **remedy.tags}
    elif remedy.tags:
        maker.update(remedy.tags)
    maker.update(remedy.fields)
    kwargs = {**(earlier.get("kwargs") or {}), **remedy.arguments}
    return {name: value for name, value in (("maker", maker), ("kwargs", kwargs)) if value}


def _replaced(root: Root, node: Node, own: bool) -> tuple[int, ...]:
    """List the children that would run again as they were, though what they were made from has changed."""
    graph = root.graph
    if graph is None or node.candidate is None:
        return ()  # a round's job adds what candidates are verified by, which stays
    producers = [*([node.fw_id] if own else []), *graph.after(node.fw_id)]
    made = {child for fw_id in producers if graph.nodes[fw_id].candidate for child in graph.made_by(fw_id)}
    return tuple(sorted(made - {node.fw_id}))
