"""The records of a campaign, the collections they live in and the keys that make each write happen once.

Who writes what: ``campaigns`` and ``rounds`` by launch and feedback; ``candidates`` by sample, then by screen, prerelax
and select each in its own block; ``attempts`` by the task that runs and by rerun; ``verdicts`` by judge alone;
``pilots`` by submit, by the batch job itself, and by reconcile.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STAGES = (
    "reference",
    "sample",
    "screen",
    "prerelax",
    "select",
    "relax",
    "gate",
    "phonon",
    "properties",
    "judge",
    "feedback",
)
"""Stages in the order of the picture; ``reference`` runs before round 1 only."""


UNIQUE_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "campaigns": (("name",),),
    "rounds": (("campaign", "round"),),
    "candidates": (("candidate",),),
    "attempts": (("attempt",),),
    "verdicts": (("candidate",),),
    "pilots": (("pilot",),),
}
"""Unique indexes of each collection."""

QUERY_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "candidates": (("campaign", "round", "index"),),
    "attempts": (
        ("campaign", "round", "candidate", "stage"),
        ("campaign", "state"),
        ("campaign", "cause.code"),
        ("fw_id",),
        ("job_uuid",),
        ("campaign", "launch_id"),
    ),
    "verdicts": (("campaign", "round"), ("campaign", "counted_in"), ("campaign", "cause.code")),
    "pilots": (("campaign", "state"), ("cluster", "job_id")),
    # One compound index: the embedded server scans everything when two fields have an index each.
    "fireworks": (("spec.nucleate.campaign", "spec.nucleate.round"),),
}
"""Further indexes, for the queries that status, failures and judge make."""

USER_INDICES = ("spec.nucleate.campaign", "spec.nucleate.round", "spec.nucleate.stage", "spec.nucleate.candidate")
"""What ``LaunchPad(user_indices=...)`` is given."""

PhononJudgement = Literal["stable", "unstable", "not_converged", "not_measured"]


def now() -> datetime:
    """Give the time in UTC, timezone-aware."""
    return datetime.now(UTC)


def candidate_id(campaign: str, round_number: int, index: int, control: bool = False) -> str:
    """Name a candidate from its round and index, never from a uuid.

    Examples
    --------
    >>> candidate_id("oxides", 1, 7)
    'oxides-r01-0007'
    >>> candidate_id("oxides", 2, 7, control=True)
    'oxides-r02-c0007'
    """
    return f"{campaign}-r{round_number:02d}-{'c' if control else ''}{index:04d}"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cause(_Record):
    """Why there is no trustworthy result: a numbered code, its name and the evidence."""

    code: int
    name: str
    evidence: str = Field("", description="the line or number that shows it")
    stage: str | None = None


class Screened(_Record):
    """What ``screen`` found, before any relaxation."""

    valid: bool
    reasons: list[str] = Field(default_factory=list, description="why it is not valid; empty if valid")
    unique: bool = Field(description="not a duplicate of this round or an earlier one; false if not valid")
    duplicate_of: str | None = Field(None, description="id of the first candidate that it equals")
    known_as: str | None = Field(None, description="label of the known structure that it equals as proposed")
    passed: bool = Field(description="valid and unique: goes on to prerelax")


class Prerelaxed(_Record):
    """What the batched force field made of it."""

    model: str
    batch: int
    converged: bool
    steps: int
    energy_ev_per_atom: float | None = None
    structure: dict[str, Any] | None = Field(None, description="pymatgen Structure.as_dict() after relaxation")
    max_force_ev_per_angstrom: float | None = None
    max_stress_gpa: float | None = None
    volume_change: float | None = Field(None, description="V_relaxed / V_proposed - 1")
    error: str | None = Field(None, description="why there is no energy (exploded, not finite, ...)")


class Novelty(_Record):
    """The three levels of novelty, counted after pre-relaxation."""

    composition: bool = Field(description="no known structure has this reduced composition")
    prototype: bool = Field(description="matches no known prototype with anonymous species")
    skeleton: bool = Field(description="space group and Wyckoff letters occur in no known structure")


class Selected(_Record):
    """What ``select`` decided, after pre-relaxation."""

    unique: bool
    novel: bool = Field(description="not in the known structures nor in earlier rounds")
    novelty: Novelty | None = None
    duplicate_of: str | None = None
    known_as: str | None = None
    spacegroup: str | None = None
    screening_e_hull_ev_per_atom: float | None = Field(None, description="by the screening model, for ranking only")
    score: float | None = Field(None, description="acquisition; higher is verified first")
    score_parts: dict[str, float] = Field(default_factory=dict)
    selected: bool
    round: int | None = Field(
        None, description="whose budget verifies it: its own round's, or a later one's if others were better then"
    )
    reason: str = Field("", description="why it was, or was not, selected")


class Candidate(_Record):
    """One proposed crystal."""

    candidate: str
    campaign: str
    round: int
    index: int
    control: bool = False
    generator: str
    generator_version: str
    generator_state: str = Field(description="sha256 of the state that proposed it")
    seed: int
    condition: dict[str, Any]
    info: dict[str, Any] = Field(default_factory=dict)
    structure: dict[str, Any] = Field(description="pymatgen Structure.as_dict() as proposed")
    formula: str
    n_atoms: int
    created_at: datetime = Field(default_factory=now)
    screen: Screened | None = None
    prerelax: Prerelaxed | None = None
    select: Selected | None = None


class Before(_Record):
    """How a firework was before a re-run reset it."""

    fw_id: int
    state: str
    launches: list[int] = Field(default_factory=list)
    resources: dict[str, Any] | None = Field(None, description="its spec.resources")
    details: dict[str, Any] | None = Field(None, description="its spec._exception_details, which FireWorks rewrites")


class Rerun(_Record):
    """What a re-run does beside overrides, and how things were before: it can be undone until a task has begun."""

    after_launch: int | None = Field(None, description="the job's last launch when the re-run was asked for")
    resources: dict[str, Any] | None = Field(None, description="the spec.resources that the job gets")
    before: list[Before] = Field(default_factory=list, description="every firework that was reset")
    replaced: dict[str, Any] | None = Field(
        None, description="part of the workflow document that made room: children that the job adds anew"
    )


class Attempt(_Record):
    """One launch of a stage for a candidate (candidate ``None``: for the round). History is never overwritten.

    ``state`` is ``planned`` for what rerun asked and no task has begun yet. Such a record carries the overrides; its
    ``job_uuid`` names the job that they are for (empty: all jobs of the stage), its ``cause`` what they answer, its
    ``directory`` and ``last_geometry`` where the job starts, if not from the beginning.
    """

    attempt: str = Field(description="'fw<fw_id>-l<launch_id>'; planned ones '<campaign>-...-p<n>'")
    campaign: str
    round: int
    candidate: str | None
    stage: str
    engine: str | None = None
    name: str = Field("", description="name of the job")
    job_uuid: str = ""
    job_index: int = 1
    fw_id: int | None = None
    launch_id: int | None = None
    state: Literal["planned", "begun", "running", "completed", "failed", "lost"] = "running"
    directory: str | None = None
    host: str | None = None
    pid: int | None = None
    process_started: float | None = Field(None, description="epoch s; tells a reused pid from the process meant")
    scheduler_job: str | None = None
    cluster: str | None = Field(None, description="name in the cluster file; None outside of any")
    pilot: str | None = Field(None, description="the batch job that ran it")
    took: dict[str, float] | None = Field(None, description="cores, memory_gb and minutes that a batch job had for it")
    started_at: datetime | None = None
    ended_at: datetime | None = None
    planned_at: datetime | None = Field(None, description="when rerun asked for it; only planned ones have it")
    rerun: Rerun | None = Field(None, description="only planned ones have it")
    seconds: float | None = None
    cause: Cause | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    last_geometry: dict[str, Any] | None = None
    set_aside: bool = Field(
        False, description="the node was to blame, not the task: counts against no budget of re-runs"
    )
    replaced: bool = Field(False, description="a re-run had the job made anew: this one says nothing any more")
    asked: str | None = Field(None, description="sha256 of what a resumable job was asked: its Maker and arguments")


ACTIVE = ("submitting", "queued", "running")
"""States of pilots that are, or may be, in a queue."""


class Pilot(_Record):
    """One batch job that runs tasks of a campaign on a cluster.

    Written by ``submit`` before the scheduler is asked, so that no job is ever unknown; then by the job itself (who it
    is, that it lives), and by reconcile (what the scheduler says became of it).
    """

    pilot: str = Field(description="'<campaign>-<cluster>-<kind>-<6 hex>'; also the job's name")
    campaign: str
    cluster: str
    kind: str = Field(description="which of the cluster's kinds of pilot")
    state: Literal["submitting", "queued", "running", "ended", "refused"] = "submitting"
    job_id: str | None = None
    fw_id: int | None = Field(None, description="the one firework that it was submitted for, in reservation mode")
    nodes: int = 1
    cores: int = 1
    gpus: int = 0
    memory_gb: float = 1.0
    minutes: int = 60
    submitted_at: datetime = Field(default_factory=now)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    host: str | None = None
    node: str | None = Field(None, description="its first node, as the scheduler calls it")
    process: str | None = Field(None, description="name of the process that runs it, see runtime.identity")
    beat: int = Field(0, description="counted up by the job while it lives; clocks of hosts need not agree")
    tasks: int = Field(0, description="tasks that it has ended")
    reason: str = Field("", description="why it ended, in the words of the job itself")
    scheduler_state: str = Field("", description="in the scheduler's own word")
    settled: bool = Field(False, description="whether the scheduler has said what became of it, or has forgotten it")
    restarts: int = Field(0, description="how often the scheduler had put it back into the queue, when last asked")
    core_seconds: float | None = Field(None, description="allocated, from accounting where there is any")
    cause: Cause | None = Field(None, description="why it did not end well")
    message: str = Field("", description="what the scheduler said when it refused, or why the job waits")
    asked: str = Field("", description="sha256 of what the cluster file said of its kind when it was asked for")


class HullReference(_Record):
    """Which hull an energy above hull was measured against."""

    key: str = Field(description="reference_key of the engine: engine, protocol, model or functional")
    chemical_system: str
    sha256: str = Field(description="of the entries that made the hull")
    n_entries: int
    covers: str = Field(description="in words: prototypes, substitutions, size limits")


class PhononResult(_Record):
    """Lowest phonon frequency and how it was judged."""

    judgement: PhononJudgement = "not_measured"
    min_thz: float | None = Field(
        None, description="lowest frequency on the mesh away from the acoustic Γ point; imaginary is negative"
    )
    tolerance_thz: float = -0.3
    how: str = Field("", description="mesh, supercell, sum rule, in words")
    mesh: list[int] | None = None
    n_supercell_atoms: int | None = None
    bands: dict[str, Any] | None = Field(None, description="distances, frequencies_thz (branches x points), labels")
    dos: dict[str, Any] | None = Field(None, description="frequencies_thz, densities")


class PropertyResult(_Record):
    """A measured property."""

    value: float
    unit: str
    how: str = ""
    detail: dict[str, Any] = Field(default_factory=dict)


class Verdict(_Record):
    """What verification found of a selected candidate."""

    candidate: str
    campaign: str
    round: int
    formula: str
    spacegroup: str | None = None
    structure: dict[str, Any] | None = Field(None, description="relaxed; pymatgen Structure.as_dict()")
    energy_ev_per_atom: float | None = None
    energy_above_hull_ev_per_atom: float | None = None
    reference_set: HullReference | None = None
    phonon: PhononResult = Field(default_factory=PhononResult)
    properties: dict[str, PropertyResult] = Field(default_factory=dict)
    verified: bool
    stable: bool
    hit: bool
    known_as: str | None = Field(
        None, description="known crystal that it became when verified, sought inside the hull cut; such a one is no hit"
    )
    cause: Cause | None = None
    engine: str
    protocol: str
    provenance: dict[str, Any] = Field(default_factory=dict)
    late: bool = Field(False, description="not in, or different from, what its closed round counted")
    counted_in: int | None = Field(None, description="round whose feedback learned from it")
    judged_at: datetime = Field(default_factory=now)


class RoundSummary(_Record):
    """The numbers of one round, stored when it closes."""

    number: int
    sampled: int = 0
    valid: int = 0
    unique: int = 0
    novel: int = 0
    novel_composition: int = 0
    novel_prototype: int = 0
    novel_skeleton: int = 0
    prerelaxed: int = 0
    promising: int = Field(0, description="novel and inside the hull cut by the screening model")
    selected: int = 0
    verified: int = 0
    stable: int = 0
    hits: int = 0
    failures: int = 0
    late: int = Field(0, description="late verdicts of earlier rounds that this round's feedback learned from")
    control: dict[str, Any] | None = Field(None, description="sampled, valid, unique, novel, ... of the control draw")


class Round(_Record):
    """One turn of the loop."""

    campaign: str
    round: int
    state: Literal["claimed", "open", "closed"] = "claimed"
    generator_state: str = Field(description="sha256 of the state that samples this round")
    control_state: str | None = Field(None, description="sha256 of the previous round's state, for the control draw")
    workflow_fw_id: int | None = Field(None, description="a firework of the round's workflow, once added")
    builder_until: datetime | None = Field(None, description="until when one process has the right to add the workflow")
    claimed_at: datetime = Field(default_factory=now)
    closed_at: datetime | None = None
    summary: RoundSummary | None = None
    learned: dict[str, Any] = Field(default_factory=dict, description="what feedback taught the generator")
