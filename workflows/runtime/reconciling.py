"""The database brought in line with the world, pass after pass: with what schedulers say and which pids live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflows.runtime.liveness import Fate, Liveness
from workflows.runtime.pilot_records import Refreshed, refresh
from workflows.runtime.repair import GRACE_S, Repair, Repairer, until_certain
from workflows.runtime.scheduler.inquiry import Inquiry
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workflows.runtime.launchpad import CampaignLaunchPad
    from workflows.runtime.scheduler.base import Scheduler


@dataclass
class Reconciled:
    """What passes found.

    Parameters
    ----------
    repairs : list of Repair
        In the order they were done.
    pilots : Refreshed
        Of the last pass; ``changed`` of all.
    unknown : dict of str to Fate
        Processes that hold something, by name, of which the last pass could not tell whether they live.
    """

    repairs: list[Repair] = field(default_factory=list)
    pilots: Refreshed = field(default_factory=Refreshed)
    unknown: dict[str, Fate] = field(default_factory=dict)


class Reconciler:
    """Makes passes over pilots' records and over what dead processes have left.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
        Signed by this process, which must not be in the middle of a launch.
    schedulers : mapping of str to Scheduler
        By the cluster's name; without any, only this host's processes are known.
    grace_s, extra, campaign, dry_run
        As those of :class:`workflows.runtime.repair.Repairer`.
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        schedulers: Mapping[str, Scheduler] | None = None,
        *,
        grace_s: float = GRACE_S,
        extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
        campaign: str | None = None,
        dry_run: bool = False,
    ) -> None:
        self.launchpad = launchpad
        self.campaign = campaign
        self.dry_run = dry_run
        self.inquiry = Inquiry(schedulers or {})
        self.watch = Watch()
        self.repairer = Repairer(
            launchpad,
            grace_s=grace_s,
            extra=extra,
            campaign=campaign,
            dry_run=dry_run,
            liveness=Liveness(launchpad.db, self.inquiry),
        )

    def run(self) -> Reconciled:
        """Make one pass; cheap enough for every quarter of a minute."""
        self.watch.forget_others()
        pilots = refresh(
            self.launchpad.db, self.inquiry, campaign=self.campaign, watch=self.watch, dry_run=self.dry_run
        )
        repairs = self.repairer.run()
        return Reconciled(repairs, pilots, self.repairer.unknown)

    def forget(self) -> None:
        """Start all waits anew, after the database was away: nobody could have given a sign of life."""
        self.watch.clear()
        self.repairer.forget()

    def run_until_certain(self) -> Reconciled:
        """Make passes until no wait for anybody's sign of life is left, or about two minutes have passed."""
        *earlier, last = until_certain(self.repairer, self.run)
        if not self.dry_run:
            last.repairs[:0] = [repair for found in earlier for repair in found.repairs]
            changes = {change.pilot: change for found in (*earlier, last) for change in found.pilots.changed}
            last.pilots.changed = list(changes.values())
        return last
