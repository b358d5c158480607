"""What a campaign's status is made of: plain results, for people and programs alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from workflows.records import RoundSummary

State = Literal["running", "idle", "stuck", "finished", "stopped"]


@dataclass(frozen=True)
class Progress:
    """How far one step of a round is.

    Parameters
    ----------
    done : int
    total : int or None
        ``None`` while nobody can know it.
    control : int
        How many of the total are control samples.
    """

    done: int
    total: int | None
    control: int = 0

    @property
    def wanted(self) -> str:
        """The total for people: ``80 (16 control)``, or ``?``."""
        if self.total is None:
            return "?"
        return f"{self.total} ({self.control} control)" if self.control else str(self.total)


@dataclass(frozen=True)
class RoundStatus:
    """One round.

    Parameters
    ----------
    number : int
    state : str
        ``claimed``, ``open`` or ``closed``.
    summary : RoundSummary
        Stored if the round is closed, else as it stands.
    stages : dict of str to dict of str to int
        Jobs by stage and FireWorks state; of open rounds only.
    progress : dict of str to Progress
        ``sample``, ``screen``, ``prerelax`` and ``verify``; of open rounds only.
    opened, closed : datetime or None
        In UTC.
    updates : list of dict
        What its feedback did to each generator that tells; of closed rounds.
    """

    number: int
    state: str
    summary: RoundSummary
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    opened: datetime | None = None
    closed: datetime | None = None
    updates: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Running:
    """A task that a worker has in hand."""

    fw_id: int | None
    round: int
    stage: str
    candidate: str | None
    host: str | None
    pid: int | None
    seconds: float
    alive: bool | None = None
    """Whether its process lives; ``None`` on another host."""
    cluster: str | None = None
    job: str | None = None
    """The scheduler's job that it runs in."""


@dataclass(frozen=True)
class PilotStatus:
    """Batch jobs of one kind on one cluster.

    Parameters
    ----------
    cluster, kind : str
    running, queued : int
    cores : int
        Of those that run.
    tasks : int
        That they have ended.
    waits : str
        Why the queued ones wait, in the scheduler's words.
    """

    cluster: str
    kind: str
    running: int
    queued: int
    cores: int
    tasks: int
    waits: str = ""


@dataclass(frozen=True)
class Stuck:
    """Something that does not go on, why, and what to do; ``needs_somebody`` if no worker will mend it."""

    what: str
    why: str
    remedy: str
    needs_somebody: bool


@dataclass(frozen=True)
class Status:
    """How a campaign stands; see :func:`campaign_status`."""

    campaign: str
    state: State
    why: str
    engine: str
    protocol: str
    rounds_wanted: int
    rounds: list[RoundStatus]
    totals: dict[str, int]
    running: list[Running]
    stuck: list[Stuck]
    verdicts_per_hour: float | None
    candidates_per_hour: float | None
    expected_end: datetime | None
    pilots: list[PilotStatus] = field(default_factory=list)
    core_hours: dict[str, float] = field(default_factory=dict)
    """Spent, by cluster; ``outside`` of any batch job."""
    budget_hours: float | None = None

    @property
    def core_hours_spent(self) -> float:
        """On all clusters, and outside."""
        return sum(self.core_hours.values())

    @property
    def needs_somebody(self) -> bool:
        """Whether work is left that no worker can go on with."""
        return any(item.needs_somebody for item in self.stuck)

    def as_dict(self) -> dict[str, Any]:
        """Give a JSON-compatible form; times are ISO 8601 in UTC."""
        plain: dict[str, Any] = _plain(
            {name: value for name, value in self.__dict__.items() if name != "rounds"}
            | {"rounds": [vars(r) | {"summary": r.summary.model_dump()} for r in self.rounds]}
        )
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return asdict(value) if isinstance(value, Progress | Running | Stuck | PilotStatus) else value
