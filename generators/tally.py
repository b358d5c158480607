"""What a baseline remembers of its verdicts: Beta counts with a cap, so that feedback steers and never collapses.

Rewarding every stable crystal makes a generator repeat what it knows; the reward here is *stable and novel*, an update
may move a key only so far, and a weight stays within a fixed factor of its prior.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from generators.base import Labelled

PRIOR_GOOD, PRIOR_BAD = 1.0, 2.0
"""Pseudo-counts of a key never seen: a third of proposals hold, worth three observations."""
LIMIT = 4.0
"""A weight stays between ``1 / LIMIT`` and ``LIMIT`` times that of a key never seen."""
STEP = 4.0
"""Most evidence, good or bad, that one update may add to a key."""
TOTAL = 32.0
"""Most evidence kept for a key; older evidence fades in proportion, so that a late turn can still be learned."""
HULL_SCALE_EV_PER_ATOM = 0.4
"""Energy above hull at which a crystal counts as wholly bad."""
NEAR_HULL_EV_PER_ATOM = 0.1
"""Up to here a crystal whose stability was not judged counts as half good."""


@dataclass(frozen=True)
class Evidence:
    """What one verdict says about the choices that made the crystal; both are multiples of 1/16.

    Parameters
    ----------
    good, bad : float
    seen : bool
        Whether the proposal counts as tried. A scheduler's or machine's fault does not.
    """

    good: float = 0.0
    bad: float = 0.0
    seen: bool = True


def evidence(label: Labelled) -> Evidence:
    """Weigh one verdict.

    Parameters
    ----------
    label : Labelled
        One without energy and without cause counts as proposed and never verified: tried, and no evidence.

    Returns
    -------
    Evidence
        Good only for *stable and novel* (1, or 1.5 for a hit; 0.5 where novelty is unknown); stable and known says
        nothing; unstable is bad by its energy above hull; a failure of the crystal's own (causes 3xx-6xx) is mildly
        bad; causes of the scheduler, the environment and the unknown (1xx, 2xx, 9xx) say nothing at all.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from generators.base import Labelled
    >>> crystal = Structure(Lattice.cubic(3), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> evidence(Labelled("a", crystal, "ion_exchange", {}, 0.0, stable=True, novel=True))
    Evidence(good=1.0, bad=0.0, seen=True)
    """
    energy = label.energy_above_hull_ev_per_atom
    if energy is None:
        if label.cause is None:
            return Evidence()
        return Evidence(bad=0.25) if 300 <= label.cause < 700 else Evidence(seen=False)
    if label.stable:
        if label.novel is None:
            return Evidence(good=0.5)
        if not label.novel:
            return Evidence()
        return Evidence(good=1.5 if label.hit else 1.0)
    if label.stable is None and energy <= NEAR_HULL_EV_PER_ATOM:
        return Evidence() if label.novel is False else Evidence(good=0.5)
    # Sixteenths add up exactly in floating point: the sum does not depend on the order.
    return Evidence(bad=max(4, min(16, round(16 * energy / HULL_SCALE_EV_PER_ATOM))) / 16)


@dataclass(frozen=True)
class Tally:
    """Good and bad counts by key; immutable.

    Parameters
    ----------
    counts : mapping of str to (float, float)
        Good and bad evidence.
    """

    counts: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def weight(self, key: str) -> float:
        """Posterior mean of a Beta distribution over that of its prior, within [1/LIMIT, LIMIT]; 1 if never seen."""
        good, bad = self.counts.get(key, (0.0, 0.0))
        posterior = (PRIOR_GOOD + good) / (PRIOR_GOOD + PRIOR_BAD + good + bad)
        return min(LIMIT, max(1 / LIMIT, posterior * (PRIOR_GOOD + PRIOR_BAD) / PRIOR_GOOD))

    def learn(self, observed: Iterable[tuple[str, Evidence]]) -> Tally:
        """Return a tally with the evidence added: at most STEP each way a key and update, at most TOTAL a key."""
        gained: dict[str, tuple[float, float]] = {}
        for key, what in observed:
            good, bad = gained.get(key, (0.0, 0.0))
            gained[key] = (good + what.good, bad + what.bad)
        counts = dict(self.counts)
        for key in sorted(gained):
            good = counts.get(key, (0.0, 0.0))[0] + min(STEP, gained[key][0])
            bad = counts.get(key, (0.0, 0.0))[1] + min(STEP, gained[key][1])
            if good + bad > 0:
                fade = min(1.0, TOTAL / (good + bad))
                counts[key] = (round(good * fade, 6), round(bad * fade, 6))
        return Tally(counts)

    def as_dict(self) -> dict[str, list[float]]:
        """Return a JSON-compatible form, keys sorted."""
        return {key: list(self.counts[key]) for key in sorted(self.counts)}

    @classmethod
    def from_dict(cls, data: Mapping[str, list[float]]) -> Tally:
        """Read what :meth:`as_dict` wrote."""
        return cls({key: (float(good), float(bad)) for key, (good, bad) in data.items()})
