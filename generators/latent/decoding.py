"""From what a network made to a crystal: elements that keep the condition exactly, then coordinates and cell."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from generators.base import derive_seed
from generators.crystals.validity import check_structure
from generators.symmetric.assignments import Row, assignments
from generators.symmetric.conditions import from_key
from generators.symmetric.drawing import bare_description
from generators.symmetric.tables import conventional_volume
from generators.symmetric.wyckoff import Description, build, free_columns
from generators.volume import crowding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from generators.base import Condition
    from generators.latent.networks import Decoded
    from generators.latent.space import Space
    from generators.symmetric.skeletons import Skeleton

    Floats = NDArray[np.float64]

LIMIT = 3000
"""Most assignments of one skeleton that are compared."""
EXPANSION = (-1.0, 1.5)
"""Limits of ln of the volume over the additive estimate."""


class Choices(NamedTuple):
    """Assignments that a skeleton has under a condition, and their elements' places in a space, shape (n, orbits)."""

    rows: tuple[Row, ...]
    places: NDArray[np.int64]


@lru_cache(maxsize=20_000)
def choices_of(skeleton: Skeleton, condition_key: str, elements: tuple[str, ...]) -> Choices:
    """List the assignments of a skeleton; see :func:`generators.symmetric.conditions.key_of`.

    Equal crystals stand there under each of their names: a latent vector means one of them.
    """
    rows = tuple(assignments(skeleton, from_key(condition_key), LIMIT, distinct=False))
    place = {symbol: i for i, symbol in enumerate(elements)}
    places = np.array([[place[e] for e in row.elements] for row in rows], dtype=np.int64)
    return Choices(rows, places.reshape(len(rows), len(skeleton.letters)))


def score(choices: Choices, element: Floats) -> Floats:
    """Log score of every assignment, shape (n,), from those of elements on orbits, shape (MAX_ORBITS, n_elements)."""
    found: Floats = element[np.arange(choices.places.shape[1]), choices.places].sum(axis=1)
    return found


def wanted_values(space: Space, condition: Condition, rng: np.random.Generator) -> Mapping[str, float]:
    """Draw a value inside every learned target, as far as training has such values.

    An open side ends where the training set does; a target that lies beyond gives its nearer limit.
    """
    values = {}
    for name, bounds in sorted(condition.properties.items()):
        if name not in space.properties:
            continue
        low, high = space.ranges[name]
        low = low if bounds.minimum is None else max(bounds.minimum, low)
        high = high if bounds.maximum is None else min(bounds.maximum, high)
        share = float(rng.random())
        if low > high:
            values[name] = bounds.minimum if bounds.minimum is not None and bounds.minimum > high else high
        else:
            values[name] = low + share * (high - low)
    return values


def description_of(row: Row, decoded: Decoded, k: int, space: Space) -> Description:
    """Describe the crystal of row ``k`` of what was decoded, with the elements of an assignment."""
    bare = bare_description(row)
    free = decoded.free[k].double().numpy()
    orbits = tuple(
        orbit._replace(free=tuple(float(free[i, c]) for c in free_columns(bare.number, orbit.letter)))
        for i, orbit in enumerate(bare.orbits)
    )
    scale = np.array(space.shape_scale)
    shape = decoded.shape[k].double().numpy() * scale[:, 1] + scale[:, 0]
    expansion = float(decoded.expansion[k]) * space.expansion_scale[1] + space.expansion_scale[0]
    volume = conventional_volume(bare) * float(np.exp(np.clip(expansion, *EXPANSION)))
    return Description(bare.number, orbits, tuple(float(np.clip(x, -3.0, 3.0)) for x in shape), volume)


class Made(NamedTuple):
    """A crystal with how bad it is: (0, 0) if it is valid, else larger the more crowded."""

    structure: Structure
    badness: tuple[int, float]


def try_to_build(description: Description) -> Made | None:
    """Build and check; None where cell or orbits make no sense."""
    try:
        structure = build(description)
    except ValueError:
        return None
    return Made(structure, (0, 0.0) if not check_structure(structure) else (1, crowding(structure)))


def upright(row: Row, seed: int) -> Structure:
    """Make a crystal of a row whose drawn cells were all impossible: right angles, equal edges, random coordinates."""
    rng = np.random.default_rng(derive_seed(seed, "upright"))
    bare = bare_description(row)
    orbits = tuple(o._replace(free=tuple(float(x) for x in rng.random(len(o.free)))) for o in bare.orbits)
    return build(replace(bare, orbits=orbits, volume=conventional_volume(bare)))
