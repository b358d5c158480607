"""Samples on their way: skeleton, vector, elements, geometry; drawn again until valid, or until tries are spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from generators.latent.decoding import choices_of, description_of, score, try_to_build, upright, wanted_values

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pymatgen.core import Structure
    from torch import Tensor

    from generators.base import Condition
    from generators.latent.decoding import Made
    from generators.latent.memory import Memory
    from generators.latent.networks import Decoded, Family
    from generators.latent.space import Space
    from generators.symmetric.assignments import Row
    from generators.symmetric.skeletons import Skeleton

TRIES, TRIES_A_SKELETON = 24, 6
"""Most draws for one sample, and those after which another skeleton is drawn."""


class Parts(NamedTuple):
    """A trained model: space, network, and latent vector and skeleton of every training crystal.

    Parameters
    ----------
    space : Space
    network : Family
    latent : Tensor, shape (n, d)
    skeleton : Tensor of int, shape (n,)
        Position among the sorted skeletons of the space.
    """

    space: Space
    network: Family
    latent: Tensor
    skeleton: Tensor


@dataclass
class Draft:
    """One sample while it is drawn.

    Parameters
    ----------
    rng : numpy.random.Generator
        Its own.
    order : list of Skeleton
        In the order in which they are tried: drawn without replacement.
    wanted : mapping of str to float
        Values of learned properties that it is conditioned on.
    """

    rng: np.random.Generator
    order: list[Skeleton]
    wanted: Mapping[str, float]
    place: int = -1
    tries: int = 0
    here: int = 0
    relaxed: bool = False
    row: Row | None = None
    made: Made | None = field(default=None)

    @property
    def done(self) -> bool:
        """Whether it has a valid crystal."""
        return self.made is not None and self.made.badness[0] == 0

    @property
    def skeleton(self) -> Skeleton:
        """The one that is tried now."""
        return self.order[self.place]

    def advance(self, key: str, elements: tuple[str, ...], without: Collection[str]) -> None:
        """Go on to the next skeleton that has a row to give, if this one had its tries or has none left.

        Once no skeleton has, rows that were left out may come again.
        """
        if self.place >= 0 and self.here < TRIES_A_SKELETON and self._open(key, elements, without):
            return
        self.here = 0
        for _ in range(2):
            for place in range(self.place + 1, len(self.order)):
                self.place = place
                if self._open(key, elements, without):
                    return
            self.place, self.relaxed = -1, True
        # every skeleton was passed twice: who made the draft has seen that one of them has rows
        self.place = next(i for i, s in enumerate(self.order) if choices_of(s, key, elements).rows)

    def _open(self, key: str, elements: tuple[str, ...], without: Collection[str]) -> bool:
        rows = choices_of(self.skeleton, key, elements).rows
        return bool(rows) if self.relaxed else any(row.key not in without for row in rows)

    def take(self, row: Row, made: Made | None) -> None:
        """Keep what was drawn if it is better than what there was."""
        if self.row is None or (made is not None and (self.made is None or made.badness < self.made.badness)):
            self.row, self.made = row, made

    def outcome(self, seed: int) -> tuple[Row, Structure]:
        """Give the best that was drawn."""
        if self.row is None:  # pragma: no cover - every draft that was drawn has one
            raise ValueError("nothing was drawn")
        return self.row, self.made.structure if self.made is not None else upright(self.row, seed)


def begin(model: Parts, memory: Memory, skeletons: Sequence[Skeleton], condition: Condition, seed: int) -> Draft:
    """Begin a sample: its targets, and its skeletons by the evidence for them and what verdicts said of them."""
    rng = np.random.default_rng(seed)
    wanted = wanted_values(model.space, condition, rng)
    weights = [model.space.skeletons[s] * memory.skeletons.weight(s.key) for s in skeletons]
    # adding Gumbel noise to log weights and sorting draws without replacement
    order = np.argsort(-(np.log(weights) + rng.gumbel(size=len(skeletons))), kind="stable")
    return Draft(rng, [skeletons[i] for i in order], wanted)


def draw(model: Parts, memory: Memory, drafts: Sequence[Draft], key: str, temperature: float) -> None:
    """Draw until every draft has a valid crystal, or its tries are spent; no two take the same row without need."""
    space, network = model.space, model.network
    without = set(memory.tried)
    for _ in range(TRIES):
        still = [draft for draft in drafts if not draft.done]
        if not still:
            return
        for draft in still:
            draft.advance(key, space.elements, without)
        frame = space.frame([draft.skeleton for draft in still], [draft.wanted for draft in still])
        noise = np.array([draft.rng.standard_normal(network.latent_size) for draft in still])
        with torch.no_grad():
            decoded = network.decode(torch.from_numpy(noise * temperature).float(), frame)
        for k, draft in enumerate(still):
            draft.tries += 1
            draft.here += 1
            row = nearest(model, memory, decoded, k, draft.skeleton, key, () if draft.relaxed else without)
            if row is not None:  # else another sample of the block has just taken the last one
                draft.take(row, try_to_build(description_of(row, decoded, k, space)))
                if draft.done:
                    without.add(row.key)


def nearest(
    model: Parts, memory: Memory, decoded: Decoded, k: int, skeleton: Skeleton, key: str, without: Collection[str]
) -> Row | None:
    """Give the assignment that the decoded elements score best, some left out; None if all are.

    Verdicts on chemical systems count as log weights beside the scores.
    """
    choices = choices_of(skeleton, key, model.space.elements)
    scores = score(choices, decoded.element[k].double().numpy())
    scores = scores + np.log([memory.weight(row) for row in choices.rows])
    order = np.argsort(-scores, kind="stable")
    return next((choices.rows[i] for i in order if choices.rows[i].key not in without), None)
