"""In which order rows are proposed: drawn by their weights without replacement, new skeletons at their share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from generators.base import derive_seed
from generators.symmetric.choice import target_log_probability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from generators.base import Condition
    from generators.symmetric.arena import Arena
    from generators.symmetric.choice import Outlook

    Floats = NDArray[np.float64]


class Turns(NamedTuple):
    """Who comes when.

    Parameters
    ----------
    unseen : float
        Share of the rows whose skeleton no training crystal has.
    k : int
        Of each k rows drawn in turn the one likeliest to meet the property targets comes first; 1 leaves them as drawn.
    """

    unseen: float
    k: int


def order_of(
    arena: Arena, log_weights: Floats, outlook: Outlook, condition: Condition, turns: Turns, n: int, seed: int
) -> list[int]:
    """Give the rows of the first n samples; none comes twice as long as there are others."""
    rng = np.random.default_rng(derive_seed(seed, "rows"))
    pools = {}
    for unseen in (False, True):
        mine = np.where(arena.unseen == unseen, log_weights, -np.inf)
        pools[unseen] = _queue(mine, outlook, condition, turns.k, rng)
    if not pools[False] or not pools[True]:
        only = pools[False] or pools[True]
        return [only[i % len(only)] for i in range(n)]
    order, taken = [], {False: 0, True: 0}
    for index in range(n):
        unseen = int((index + 1) * turns.unseen) > int(index * turns.unseen)
        queue = pools[unseen]
        order.append(queue[taken[unseen] % len(queue)])
        taken[unseen] += 1
    return order


def _queue(log_weights: Floats, outlook: Outlook, condition: Condition, k: int, rng: np.random.Generator) -> list[int]:
    """Draw all rows without replacement (the Gumbel trick); the best of each k first, where there are targets."""
    gumbel = rng.gumbel(size=len(log_weights))
    fit = np.flatnonzero(np.isfinite(log_weights))
    order = fit[np.argsort(-(log_weights + gumbel)[fit], kind="stable")]
    if k == 1 or not condition.properties:
        return [int(i) for i in order]
    # the others of each k wait for the end of the queue
    met = np.nan_to_num(target_log_probability(outlook, condition.properties), nan=-np.inf)
    groups = [order[i : i + k] for i in range(0, len(order), k)]
    ranked = [group[np.argsort(-met[group], kind="stable")] for group in groups]
    return [int(group[place]) for place in range(k) for group in ranked if place < len(group)]
