"""What a training set is made of: known crystals, substitutions into prototypes, and crystals that ought not to hold.

A model that saw only what chemistry finds plausible can't tell a bad proposal from a good one, so a part of the
proposals puts any elements on any sites, and a part is random. The list is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pymatgen.core import Element

from generators.base import Condition, derive_seed
from generators.compositions import is_neutral
from generators.data.library import element_ground_states, known_structures
from generators.exchanges import Decoration, Exchange, decorations, plausibility, splits
from generators.random_symmetric import RandomSymmetric
from generators.volume import additive_volume, crowding, rescaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

Kind = Literal["known", "exchange", "alloy", "blind", "blind_alloy", "random", "random_alloy"]

MAX_ATOMS = 8
NOBLE_GASES = frozenset({"He", "Ne", "Ar", "Kr", "Xe", "Rn"})
LANTHANIDES = ("La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb")
"""Besides Lu, which the ground states hold; CHGNet was trained on them."""
CROWDED = 1.6
"""Most volume the closest atoms may ask for in units of the additive estimate, for substitutions: beyond it a prototype
holds molecules that other elements don't form. Blind proposals may go up to BLIND_CROWDED."""
BLIND_CROWDED = 2.5
SLOT_FACTORS = {2: 1, 3: 3, 4: 2}
"""Proposals for a decoration by its slots: binaries saturate, crystals of three and four elements teach more."""
ANIONS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I")
"""Elements one of which a charge-balanced crystal nearly always holds."""
TWICE_SPLIT = 3
"""Second splits taken of each ternary that a split made."""
TEMPERATURE = 0.7
"""Softens the choice by plausibility (mean weight function lambda), so that unusual pairs occur, too."""


@dataclass(frozen=True)
class Amounts:
    """How many proposals of each kind; ``known`` takes all there are.

    Parameters
    ----------
    exchange : int
        Charge-balanced substitutions a decoration of a prototype, times SLOT_FACTORS.
    alloy : int
        Substitutions of metals a decoration, without charge balance, times SLOT_FACTORS.
    blind : int
        Substitutions of any elements whose charges can balance, on whatever sites, a decoration, times SLOT_FACTORS.
    blind_alloy : int
        Substitutions of any metals, likely or not, a decoration, times SLOT_FACTORS.
    random : int
        Random symmetric crystals with one or two of the elements that balance charges, in all.
    random_alloy : int
        Random symmetric crystals of metals, in all.
    """

    exchange: int = 5
    alloy: int = 3
    blind: int = 2
    blind_alloy: int = 3
    random: int = 450
    random_alloy: int = 250


@dataclass(frozen=True)
class Proposal:
    """A crystal to be relaxed and labelled.

    Parameters
    ----------
    label : str
        Unique, says what it is.
    kind : {"known", "exchange", "alloy", "blind", "blind_alloy", "random", "random_alloy"}
    structure : pymatgen.core.Structure
        At its expected volume.
    """

    label: str
    kind: Kind
    structure: Structure


@lru_cache(maxsize=1)
def elements() -> tuple[str, ...]:
    """List the elements that proposals are made of, sorted: ground states known, no noble gases, and lanthanides."""
    return tuple(sorted((set(element_ground_states()) - NOBLE_GASES) | set(LANTHANIDES)))


def proposals(amounts: Amounts, seed: int = 0) -> Iterator[Proposal]:
    """Yield all proposals, labels unique, always in the same order."""
    allowed = set(elements())
    for known in known_structures():
        symbols = {e.symbol for e in known.structure.composition.elements}
        if len(known.structure) <= MAX_ATOMS and symbols <= allowed:
            yield Proposal(f"known {known.label}", "known", known.structure)
    seen: set[str] = set()
    for decoration in _decorations():
        key = (decoration.tag, decoration.label)
        many = SLOT_FACTORS.get(len(decoration.slots), 2)
        wanted: tuple[tuple[Kind, int], ...] = (
            ("exchange", many * amounts.exchange),
            ("alloy", many * amounts.alloy),
            ("blind", many * amounts.blind),
            ("blind_alloy", many * amounts.blind_alloy),
        )
        for kind, n in wanted:
            rng = np.random.default_rng(derive_seed(seed, kind, *key))
            for exchange in _draw(decoration, kind, n, rng):
                label = f"{kind} {exchange.key}"
                if label not in seen:
                    seen.add(label)
                    yield Proposal(label, kind, rescaled(decoration.decorated(exchange.new)))
    yield from _random("random", amounts.random, seed)
    yield from _random("random_alloy", amounts.random_alloy, seed)


def _decorations() -> Iterator[Decoration]:
    """Yield the decorations of two and more slots, and those with a second slot split: few prototypes have four."""
    for decoration in decorations(MAX_ATOMS).values():
        if len(decoration.slots) < 2:
            continue
        yield decoration
        if decoration.label and len(decoration.slots) == 3:
            twice = sorted(splits(decoration), key=lambda d: derive_seed(d.tag, d.label))
            yield from twice[:TWICE_SPLIT]


def _draw(decoration: Decoration, kind: Kind, n: int, rng: np.random.Generator) -> Iterator[Exchange]:
    """Draw substitutions: the likeliest of several for plausible kinds, the first that fits for blind ones."""
    metals = [e for e in elements() if Element(e).is_metal]
    cations = [e for e in elements() if e not in ANIONS]
    n_slots = len(decoration.slots)
    blind, alloy = kind in {"blind", "blind_alloy"}, kind in {"alloy", "blind_alloy"}
    limit = BLIND_CROWDED if blind else CROWDED
    for _ in range(n):
        fitting: list[tuple[float, Exchange]] = []
        for _ in range(150):
            if alloy:
                new = tuple(str(e) for e in rng.choice(metals, n_slots, replace=False))
            else:
                n_anions = 1 + int(n_slots > 2 and rng.random() < 0.3)
                chosen = [*rng.choice(ANIONS, n_anions, replace=False), *rng.choice(cations, n_slots - n_anions, False)]
                new = tuple(str(e) for e in rng.permutation(chosen))
            if not alloy and not is_neutral(new, decoration.counts, "strict"):
                continue
            structure = decoration.decorated(new)
            if crowding(structure) > limit or additive_volume(s.specie.symbol for s in structure) <= 0:
                continue
            exchange = Exchange(decoration.tag, decoration.label, decoration.slots, new)
            noise = float(rng.gumbel()) * TEMPERATURE
            fitting.append((0.0 if blind else plausibility(exchange, decoration.counts) + noise, exchange))
            if len(fitting) >= (1 if blind else 6):
                break
        if fitting:
            yield max(fitting, key=lambda one: (one[0], one[1].key))[1]


def _random(kind: Kind, n: int, seed: int) -> Iterator[Proposal]:
    rng = np.random.default_rng(derive_seed(seed, kind))
    made = 0
    while made < n:
        condition = _random_condition(kind, made, rng)
        try:
            sample = next(iter(RandomSymmetric().sample(1, condition, derive_seed(seed, kind, made))))
        except (ValueError, RuntimeError):  # no neutral composition, or none that fits
            continue
        yield Proposal(f"{kind} {made:04d}", kind, sample.structure)
        made += 1


def _random_condition(kind: Kind, number: int, rng: np.random.Generator) -> Condition:
    metals = [e for e in elements() if Element(e).is_metal]
    if kind == "random_alloy":
        chosen = {str(e) for e in rng.choice(metals, 2 + number % 3, replace=False)}
    else:
        cations = rng.choice(metals, 2, replace=False)
        chosen = {str(e) for e in (*cations, *rng.choice(ANIONS, 1 + number % 2, replace=False))}
    return Condition(
        (tuple(sorted(chosen)),),
        min_elements=2,
        max_elements=4,
        max_atoms=MAX_ATOMS,
        neutrality="off" if kind == "random_alloy" else "strict",
    )
