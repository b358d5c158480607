"""Our Firetask: jobflow's, with a guard against doubled children, attempts and overrides; dynamic children inherit it.

jobflow converts a job into ``JobFiretask`` and, at run time, the jobs that it returns likewise. We convert both ways
ourselves, so that atomate2's own Makers get the guard and the overrides without knowing of them.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import FWAction, explicit_serialize
from jobflow import SETTINGS, Maker, Response, initialize_logger
from jobflow.core.reference import OnMissing
from jobflow.managers.fireworks import JobFiretask, flow_to_workflow

from dft_inputs.memory import killed_since, oom_kills
from workflows.causes import CAUSES, UPSTREAM, CausedError, cause_of
from workflows.records import Cause
from workflows.runtime import attempts
from workflows.runtime.context import TaskContext, task_context
from workflows.runtime.launchpad import GOES_ON

if TYPE_CHECKING:
    from fireworks import Firework, LaunchPad, Workflow
    from jobflow import Flow, Job
    from pymatgen.core import Structure

LOGGER = logging.getLogger(__name__)

PRODUCER = "_nucleate_producer"
"""Spec key of a dynamic child: ``<uuid>:<index>`` of the job that produced it."""

RESOURCES = "resources"
"""Spec key: what a firework takes (cores, memory_gb, minutes, partition) and whether it is resumable; all optional."""


def to_workflow(flow: Flow | Job, *, name: str | None = None, metadata: dict[str, Any] | None = None) -> Workflow:
    """Convert a flow as jobflow does, with our Firetask and without a store.

    Without a store the worker takes the JobStore from its own jobflow settings: a store passed in would be written into
    every firework, credentials and all.

    Parameters
    ----------
    flow : Flow or Job
    name : str, optional
        Name of the workflow.
    metadata : dict, optional
        Metadata of the workflow document.
    """
    options: dict[str, Any] = {"metadata": metadata or {}}
    if name is not None:
        options["name"] = name
    workflow = flow_to_workflow(flow, None, allow_external_references=True, **options)
    for firework in workflow.fws:
        firework.tasks = [CampaignFiretask(job=task["job"], store=None) for task in firework.tasks]
        _mark_resumable(firework)
    return workflow


def _mark_resumable(firework: Firework) -> None:
    """Say of a firework that whatever ends its run early costs little: it may be begun near the end of an allocation.

    Jobs of a round store what they have as they go; some Makers go on from the last geometry.
    """
    block = firework.spec.get("nucleate")
    of_round = block is not None and block.get("candidate") is None
    if of_round or any(hasattr(task["job"].maker, "resume") for task in firework.tasks):
        firework.spec[RESOURCES] = {**(firework.spec.get(RESOURCES) or {}), "resumable": True}


def _stamp_child(firework: Firework, parent_spec: dict[str, Any], producer: str) -> None:
    """Give a dynamic child what it inherits: its producer, our block, category, resources, name, a cascade of failures.

    Resources go to children of the same stage and candidate only: what ``select`` takes says nothing of a relaxation.
    """
    spec = firework.spec
    spec[PRODUCER] = producer
    parent = parent_spec["nucleate"]
    block = spec.setdefault("nucleate", parent)
    same = all(block.get(name) == parent.get(name) for name in ("stage", "candidate"))
    # jobflow hands a manager_config on, so a child may come with its parent's already
    taken = {**((parent_spec.get(RESOURCES) if same else None) or {}), **(spec.pop(RESOURCES, None) or {})}
    taken.pop("resumable", None)
    if taken:
        spec[RESOURCES] = taken
    _mark_resumable(firework)
    if "_category" in parent_spec:
        spec.setdefault("_category", parent_spec["_category"])
    if block.get("candidate"):
        # one candidate's failure never stops a round: children of a failed job fizzle at once, down to judge
        spec["_allow_fizzled_parents"] = True
    prefix = firework_name(block)
    if not firework.name.startswith(prefix):
        firework.name = f"{prefix} {firework.name}"


def firework_name(block: dict[str, Any]) -> str:
    """Name a firework so that plain ``lpad get_fws`` reads well.

    Examples
    --------
    >>> firework_name({"campaign": "oxides", "round": 1, "stage": "relax", "candidate": "oxides-r01-0007"})
    'oxides/r01/relax/oxides-r01-0007'
    """
    name = f"{block['campaign']}/r{block['round']:02d}/{block['stage']}"
    return f"{name}/{block['candidate']}" if block.get("candidate") else name


_STOPPED = frozenset({101, 105})
"""Causes of runs that stopped because they were told to, not because anything is wrong with them."""


_MAYBE_MEMORY = frozenset({106, 210, 999})
"""Causes of runs that ended without a word of their own."""


class GoesOnError(CausedError):
    """A run stopped before its allocation ended; its firework runs again and goes on from the last geometry.

    Our LaunchPad gives such a launch back (see :func:`workflows.runtime.launchpad.goes_on`); with a plain one the
    firework fizzles, as any does.
    """

    def to_dict(self) -> dict[str, Any]:
        """Give what FireWorks keeps as the exception's details."""
        return {GOES_ON: True, "code": self.code, "evidence": self.evidence}


@explicit_serialize
class CampaignFiretask(JobFiretask):  # type: ignore[misc]  # FireWorks ships no types
    """Run a job of a campaign; any other jobflow job too, then without records.

    Before the job runs: if its children already exist in its workflow, nothing runs and nothing is added (a plain
    ``lpad rerun_fws`` re-runs the children as FireWorks does); if a parent failed and the job can't do without its
    output, it fails at once with cause 901.

    A Maker that can go on where an earlier attempt at the same job stopped has two methods: ``resume(directories)``
    takes the earlier attempts' directories, newest first, and gives keyword arguments for ``make``;
    ``last_geometry(directory)`` gives the newest whole geometry in a directory, or ``None``. With them a run that its
    wall-time stopped goes on in the next launch instead of failing, as long as it gets anywhere.
    """

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Run the job and turn its response into an action; errors are recorded with their cause and raised on."""
        job: Job = self.get("job")
        store = SETTINGS.JOB_STORE
        store.connect()
        initialize_logger()
        block = fw_spec.get("nucleate")
        launchpad = getattr(self, "launchpad", None)
        if block is None or launchpad is None:
            return self._action(job, job.run(store=store), fw_spec)

        database = launchpad.db
        fw_id: int = self.fw_id
        job.metadata.update({"fw_id": fw_id})
        launch_id = launchpad.fireworks.find_one({"fw_id": fw_id}, {"launches": 1})["launches"][-1]
        wanted = attempts.wanted_of(database, block, job)
        attempt = attempts.begin(database, block, job, fw_id, launch_id, wanted.overrides)
        kills = oom_kills()
        try:
            if children_exist(launchpad, fw_id, job):
                LOGGER.info("%s has its children already: nothing to do", job.name)
                action = FWAction()
            else:
                refuse_failed_parents(launchpad, fw_id, job)
                self._apply(job, wanted)
                if (resume := getattr(job.maker, "resume", None)) is not None:
                    asked = attempts.fingerprint(job, store)
                    earlier = attempts.earlier_directories(database, job, attempt, asked)
                    self._give(job, resume(earlier) if earlier else {})
                context = TaskContext(launchpad, store, block, fw_id, attempt, wanted.overrides)
                with task_context(context):
                    response = job.run(store=store)
                action = self._action(job, response, fw_spec)
        except BaseException as error:  # recorded and raised on, whatever it is
            code, evidence = out_of_memory_if(kills, *cause_of(error))
            stage = getattr(error, "stage", None) or block["stage"]
            cause = Cause(code=code, name=CAUSES[code].name, evidence=evidence, stage=stage)
            geometry = left_geometry(job)
            checkpoints = block["candidate"] is None  # jobs of a round store what they have as they go
            if code in _STOPPED and (geometry or checkpoints) and attempts.may_go_on(database, job, geometry):
                attempts.finish(database, attempt, cause, geometry=geometry, state="lost")
                raise GoesOnError(code, evidence) from error
            attempts.finish(database, attempt, cause, geometry=geometry)
            raise
        attempts.finish(database, attempt)
        return action

    @staticmethod
    def _apply(job: Job, wanted: attempts.Wanted) -> None:
        """Change what a re-run asked: fields of the Makers, arguments, or where the job starts."""
        asked = wanted.overrides
        if asked.get("maker") and job.maker is not None:
            # rebound to the changed Maker; jobs that it adds read the same overrides when they run
            job.function = getattr(changed_maker(job.maker, asked["maker"]), job.function.__name__)
        if asked.get("kwargs"):
            CampaignFiretask._give(job, asked["kwargs"])
        if wanted.geometry is not None:
            from pymatgen.core import Structure  # noqa: PLC0415 - keeps `lpad` light

            CampaignFiretask._give(job, {"structure": Structure.from_dict(wanted.geometry)})
        if wanted.directory is not None and (resume := getattr(job.maker, "resume", None)) is not None:
            CampaignFiretask._give(job, resume([wanted.directory]))

    @staticmethod
    def _give(job: Job, arguments: dict[str, Any]) -> None:
        """Replace arguments of a job by name, also those that were given by position."""
        by_position = list(signature(job.function).parameters)[: len(job.function_args)]
        args = list(job.function_args)
        for name, value in arguments.items():
            if name in by_position:
                args[by_position.index(name)] = value
            else:
                job.function_kwargs[name] = value
        job.function_args = tuple(args)

    @staticmethod
    def _action(job: Job, response: Response, fw_spec: dict[str, Any]) -> FWAction:
        """Turn a jobflow response into a FireWorks action whose new fireworks are ours."""
        producer = f"{job.uuid}:{job.index}"

        def convert(flow: Flow | None) -> list[Workflow]:
            if flow is None:
                return []
            workflow = to_workflow(flow)
            if "nucleate" in fw_spec:
                for firework in workflow.fws:
                    _stamp_child(firework, fw_spec, producer)
            return [workflow]

        return FWAction(
            stored_data=response.stored_data,
            detours=convert(response.replace) + convert(response.detour),
            additions=convert(response.addition),
            defuse_workflow=response.stop_jobflow,
            defuse_children=response.stop_children,
        )


def out_of_memory_if(kills_before: int | None, code: int, evidence: str) -> tuple[int, str]:
    """Correct the cause of a run that broke off while the kernel killed a process of this job for its memory.

    The run itself sees no more than a signal, if that.

    Examples
    --------
    >>> out_of_memory_if(None, 106, "the output ends here")
    (106, 'the output ends here')
    """
    if code not in _MAYBE_MEMORY or not killed_since(kills_before):
        return code, evidence
    return 102, f"the kernel killed a process of this batch job for its memory meanwhile; {evidence}"


def left_geometry(job: Job) -> Structure | None:
    """Read what geometry a failed job left here; a directory that can't be read must not hide why the job failed."""
    read = getattr(job.maker, "last_geometry", None)
    if read is None:
        return None
    try:
        geometry: Structure | None = read(Path.cwd())
    except Exception:
        LOGGER.exception("the last geometry of %s can't be read", job.name)
        return None
    return geometry


def changed_maker(maker: Maker, wanted: dict[str, Any]) -> Maker:
    """Copy a Maker with other values for those of its fields, and of its nested Makers' fields, that are named.

    Names that it does not have are passed over: a stage's overrides meet all of the stage's Makers.
    """
    changes: dict[str, Any] = {}
    for field in fields(maker):
        value = getattr(maker, field.name)
        if field.name in wanted:
            changes[field.name] = wanted[field.name]
        elif isinstance(value, Maker):
            changes[field.name] = changed_maker(value, wanted)
    return replace(maker, **changes)


def children_exist(launchpad: LaunchPad, fw_id: int, job: Job) -> bool:
    """Tell whether the job's dynamic children are in its workflow already."""
    producer = f"{job.uuid}:{job.index}"
    made = [fw["fw_id"] for fw in launchpad.fireworks.find({f"spec.{PRODUCER}": producer}, {"fw_id": 1})]
    # a crash between the insertion of children and that of their links leaves orphans, which repair removes
    linked = {"$and": [{"nodes": fw_id}, {"nodes": {"$in": made}}]}
    return bool(made) and launchpad.workflows.find_one(linked, {"_id": 1}) is not None


def refuse_failed_parents(launchpad: LaunchPad, fw_id: int, job: Job) -> None:
    """Raise cause 901 if a parent has failed and the job can't do without its output.

    The parents' states are read anew: ``_fizzled_parents`` of the spec is never cleared by a re-run.

    Raises
    ------
    CausedError
        901, with the names of the failed parents.
    """
    if job.config.on_missing_references != OnMissing.ERROR:
        return
    workflow = launchpad.workflows.find_one({"nodes": fw_id}, {f"parent_links.{fw_id}": 1}) or {}
    parents = workflow.get("parent_links", {}).get(str(fw_id), [])
    if not parents:
        return
    failed = launchpad.fireworks.find({"fw_id": {"$in": parents}, "state": "FIZZLED"}, {"name": 1})
    names = sorted(fw["name"] for fw in failed)
    if names:
        raise CausedError(UPSTREAM, f"failed before it: {', '.join(names)}")
