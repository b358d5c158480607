"""``nucleate reconcile``: find what dead processes left in the database, mend it, and say what became of them.

FireWorks' documents are held against pids on this host, and against the schedulers of the clusters that the cluster
file names. What can't be judged is listed with the reason; it is never called dead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.causes import CAUSES
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.reconciling import Reconciler
from workflows.runtime.repair import GRACE_S, Repair
from workflows.runtime.scheduler.base import SchedulerAwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workflows.runtime.pilot_records import PilotChange
    from workflows.runtime.reconciling import Reconciled
    from workflows.runtime.scheduler.base import Scheduler
    from workflows.runtime.store import Store


@dataclass(frozen=True)
class ClusterReport:
    """How well one cluster can be known.

    Parameters
    ----------
    name : str
    accounting : bool or None
        Whether its scheduler keeps accounts of jobs that have ended; ``None`` if it never said.
    away : str
        What is the matter, if it does not answer; else empty.
    """

    name: str
    accounting: bool | None
    away: str = ""

    def __str__(self) -> str:
        if self.away:
            return f"{self.name} does not answer, so nothing there is called dead: {self.away}"
        if self.accounting:
            return f"{self.name}: by its queue and its accounts"
        return (
            f"{self.name} keeps no accounts: why a job ended is what its controller still knows, some minutes long; "
            "out of memory and killed can't be told apart there, and core-hours are by the clock"
        )


@dataclass(frozen=True)
class Report:
    """What ``reconcile`` found.

    Parameters
    ----------
    repairs : list of Repair
        What was mended, or would be.
    dry_run : bool
        Whether nothing was changed.
    pilots : list of PilotChange
        Batch jobs whose records were brought up to date, or would be.
    unknown : dict of str to str
        Processes and batch jobs of which nobody can tell whether they live, and why.
    clusters : list of ClusterReport
        Those that had to be asked.
    """

    repairs: list[Repair]
    dry_run: bool
    pilots: list[PilotChange] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    clusters: list[ClusterReport] = field(default_factory=list)

    @property
    def causes(self) -> dict[str, int]:
        """How many launches ended of what, by the cause's name."""
        return dict(Counter(CAUSES[r.code].name for r in self.repairs if r.code is not None).most_common())

    @property
    def silent(self) -> list[str]:
        """The clusters whose scheduler does not answer."""
        return [cluster.name for cluster in self.clusters if cluster.away]

    def as_dict(self) -> dict[str, Any]:
        """Give it for ``--json``."""
        return asdict(self) | {"causes": self.causes}

    def lines(self) -> list[str]:
        """Give it for people: clusters, repairs by kind, what is unknown, and one line that sums up."""
        order = {kind: n for n, kind in enumerate(dict.fromkeys(r.kind for r in self.repairs))}
        listed = [
            f"{r.kind:<10} fw {r.fw_id if r.fw_id is not None else '-'}: {r.done}"
            for r in sorted(self.repairs, key=lambda r: order[r.kind])
        ]
        listed += [f"pilot      {change}" for change in self.pilots]
        unknown = [f"unknown    {name}: {why}" for name, why in self.unknown.items()]
        lines = [*(f"cluster {cluster}" for cluster in self.clusters), *listed, *unknown]
        if not listed:
            left = [f"{len(unknown)} unknown"] if unknown else []
            left += [f"what runs on {name} could not be judged" for name in self.silent]
            return [*lines, "; ".join(["nothing found to mend" if self.silent else "nothing to mend", *left])]
        verb = "would be mended" if self.dry_run else "mended"
        causes = ", ".join(f"{count} {name}" for name, count in self.causes.items())
        summed = f"{len(listed)} {verb}{f' ({causes})' if causes else ''}"
        return [*lines, f"{summed}{f'; {len(unknown)} unknown' if unknown else ''}"]


def reconcile(
    store: Store,
    campaign: str | None = None,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
    schedulers: Mapping[str, Scheduler] | None = None,
) -> Report:
    """Mend what dead processes have left, and what nobody signed.

    It waits when it finds something unsigned, to see whether somebody is still at it (``grace_s``), and for a job's
    sign of life where the scheduler's word alone is no proof (a minute); what the living hold is left alone.

    Parameters
    ----------
    store : Store
    campaign : str, optional
        Mend only what belongs to it.
    dry_run : bool
        Only say what would be done.
    grace_s : float
        See :data:`workflows.runtime.repair.GRACE_S`.
    extra : sequence of callables
        Further repairs, see :class:`workflows.runtime.repair.Repairer`.
    schedulers : mapping of str to Scheduler, optional
        By the cluster's name; without any, what ran on other hosts is left alone.
    """
    launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
    reconciler = Reconciler(launchpad, schedulers, grace_s=grace_s, extra=extra, campaign=campaign, dry_run=dry_run)
    return report(reconciler, reconciler.run_until_certain())


def report(reconciler: Reconciler, found: Reconciled) -> Report:
    """Put what passes found into words."""
    unknown = {name: fate.evidence for name, fate in sorted(found.unknown.items())} | found.pilots.unknown
    away = reconciler.repairer.liveness.away | found.pilots.away
    clusters = []
    for name in sorted(reconciler.inquiry.asked):
        try:
            clusters.append(ClusterReport(name, reconciler.inquiry.accounting(name), away.get(name, "")))
        except SchedulerAwayError as error:
            clusters.append(ClusterReport(name, None, str(error)))
    return Report(found.repairs, reconciler.dry_run, found.pilots.changed, unknown, clusters)
