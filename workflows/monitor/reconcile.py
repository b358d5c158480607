"""``nucleate reconcile``: find what crashes left in the database, mend it, and say what was done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.repair import GRACE_S, Repair, repair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workflows.runtime.store import Store


@dataclass(frozen=True)
class Report:
    """What ``reconcile`` found.

    Parameters
    ----------
    repairs : list of Repair
        What was mended, or would be.
    dry_run : bool
        Whether nothing was changed.
    """

    repairs: list[Repair]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """Give it for ``--json``."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Give it for people, one line a repair, and one that sums up."""
        listed = [f"{r.kind:<10} fw {r.fw_id if r.fw_id is not None else '-'}: {r.done}" for r in self.repairs]
        if not listed:
            return ["nothing to mend"]
        verb = "would be mended" if self.dry_run else "mended"
        return [*listed, f"{len(listed)} {verb}"]


def reconcile(
    store: Store,
    campaign: str | None = None,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
) -> Report:
    """Mend what crashes have left of this host's processes, and what nobody signed.

    It waits ``grace_s`` when it finds something unsigned, to see whether somebody is still at it; what live workers and
    those of other hosts hold is left alone.

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
    """
    launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
    found = repair(launchpad, grace_s=grace_s, extra=extra, campaign=campaign, dry_run=dry_run)
    return Report(found, dry_run)
