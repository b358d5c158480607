"""The space that latent models live in: crystals as fixed-length tables, given their skeleton.

A crystal is a skeleton (space group, Wyckoff letters), an element and free coordinates for each orbit, the shape of the
cell and its volume: the same description as :mod:`generators.symmetric.wyckoff`. The skeleton is what a model is
conditioned on (:class:`Frame`), the rest is what it makes (:class:`Content`). Elements are points in a space of few
dimensions: the principal components of :func:`generators.crystals.elements.element_features`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from generators.abilities import Abilities
from generators.crystals.elements import element_features
from generators.symmetric.assignments import Row, row_of
from generators.symmetric.crystals import evidence_of
from generators.symmetric.drawing import bare_description
from generators.symmetric.forecast import LOGARITHMIC
from generators.symmetric.skeletons import Skeleton
from generators.symmetric.tables import tabulate
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from generators.symmetric.crystals import Rows
    from generators.symmetric.wyckoff import Description

ELEMENT_SIZE = 6
"""Numbers an element is described by; the first six principal components hold most of what differs between elements."""
BINS = 20
"""Of the histogram in whose emptiest bin the circle of coordinates is cut open."""


class Frame(NamedTuple):
    """What n crystals are conditioned on.

    Parameters
    ----------
    group : Tensor of int, shape (n,)
        Space group, 1-230.
    site : Tensor, shape (n, MAX_ORBITS, SITE_SIZE)
        From :func:`generators.symmetric.tables.site_features`.
    present : Tensor of bool, shape (n, MAX_ORBITS)
        Whether there is such an orbit.
    is_free : Tensor of bool, shape (n, MAX_ORBITS, 3)
        Free coordinates.
    shape_free : Tensor of bool, shape (n, SHAPE_SIZE)
    target : Tensor, shape (n, p)
        Standardised properties; 0 where unknown.
    known : Tensor of bool, shape (n, p)
    """

    group: Tensor
    site: Tensor
    present: Tensor
    is_free: Tensor
    shape_free: Tensor
    target: Tensor
    known: Tensor

    def rows(self, index: NDArray[np.int64] | Tensor) -> Frame:
        """Take some rows."""
        where = torch.as_tensor(index)
        return Frame(*(column[where] for column in self))

    def without_targets(self, drop: Tensor | None = None) -> Frame:
        """Forget properties: all of them, or those of the rows where ``drop`` (n,) is true."""
        keep = torch.zeros_like(self.known) if drop is None else self.known & ~drop[:, None]
        return self._replace(target=torch.where(keep, self.target, 0.0), known=keep)


class Content(NamedTuple):
    """What is made of n crystals.

    Parameters
    ----------
    element : Tensor of int, shape (n, MAX_ORBITS)
        Position in :attr:`Space.elements`; 0 where there is no orbit.
    free : Tensor, shape (n, MAX_ORBITS, 3)
        Free coordinates in [0, 1), 0 where fixed.
    shape : Tensor, shape (n, SHAPE_SIZE)
        Standardised; 0 where fixed.
    expansion : Tensor, shape (n,)
        ln of the volume over the additive estimate, standardised.
    """

    element: Tensor
    free: Tensor
    shape: Tensor
    expansion: Tensor

    def rows(self, index: NDArray[np.int64] | Tensor) -> Content:
        """Take some rows."""
        where = torch.as_tensor(index)
        return Content(*(column[where] for column in self))


@dataclass(frozen=True)
class Space:
    """Scales, elements and skeletons of a training set.

    Parameters
    ----------
    elements : tuple of str
        Elements of the training crystals, sorted.
    properties : tuple of str
        What a model is conditioned on, in order.
    scale : tuple of (float, float)
        Mean and standard deviation of each property (of its logarithm for ``bulk_modulus``).
    ranges : mapping of str to (float, float)
        Smallest and largest value in training, in the units of the data set.
    shape_scale : tuple of (float, float)
        Mean and standard deviation of each entry of a shape.
    expansion_scale : tuple of (float, float)
    cut : float
        Coordinate at which the circle is cut open where a model needs a line: where training has fewest.
    skeletons : mapping of Skeleton to float
        All training skeletons and the evidence for each (:attr:`generators.data.dataset.Entry.evidence`); those
        without any are trained on, never drawn.
    known_rows : frozenset of str
        Keys of the training crystals.
    """

    elements: tuple[str, ...]
    properties: tuple[str, ...]
    scale: tuple[tuple[float, float], ...]
    ranges: Mapping[str, tuple[float, float]]
    shape_scale: tuple[tuple[float, float], ...]
    expansion_scale: tuple[float, float]
    cut: float
    skeletons: Mapping[Skeleton, float]
    known_rows: frozenset[str]

    def to_scale(self, name: str, value: float) -> float:
        """Standardise a property's value."""
        mean, std = self.scale[self.properties.index(name)]
        return (_linear(name, value) - mean) / std

    def from_scale(self, name: str, value: float) -> float:
        """Undo :meth:`to_scale`."""
        mean, std = self.scale[self.properties.index(name)]
        linear = value * std + mean
        return math.exp(linear) if name in LOGARITHMIC else linear

    def frame(self, skeletons: Sequence[Skeleton], targets: Sequence[Mapping[str, float]] | None = None) -> Frame:
        """Put skeletons, and what is wanted of each (units of the data set), into arrays."""
        table = tabulate([bare_description(Row(s, ("H",) * len(s.letters))) for s in skeletons])
        wanted = np.zeros((len(skeletons), len(self.properties)), dtype=np.float32)
        known = np.zeros(wanted.shape, dtype=bool)
        for k, values in enumerate(targets or ()):
            for j, name in enumerate(self.properties):
                if name in values:
                    wanted[k, j], known[k, j] = self.to_scale(name, values[name]), True
        return Frame(
            table.group,
            table.site,
            table.elements > 0,
            table.is_free,
            table.shape_free,
            torch.from_numpy(wanted),
            torch.from_numpy(known),
        )

    def content(self, descriptions: Sequence[Description]) -> Content:
        """Put crystals into arrays.

        Raises
        ------
        ValueError
            If one has an element that no training crystal has, or too many orbits.
        """
        if missing := sorted({o.element for d in descriptions for o in d.orbits} - set(self.elements)):
            raise ValueError(f"{', '.join(missing)}: no training crystal has it; known are {', '.join(self.elements)}")
        table = tabulate(descriptions)
        place = torch.zeros(max(atomic_numbers.values()) + 1, dtype=torch.long)
        for i, symbol in enumerate(self.elements):
            place[atomic_numbers[symbol]] = i
        mean, std = (torch.tensor(column) for column in zip(*self.shape_scale, strict=True))
        shape = torch.where(table.shape_free, (table.shape - mean) / std, 0.0)
        expansion = (table.expansion - self.expansion_scale[0]) / self.expansion_scale[1]
        return Content(place[table.elements], table.free, shape, expansion)

    @property
    def abilities(self) -> Abilities:
        """What models of this space were shown."""
        largest = max((skeleton.atoms for skeleton in self.skeletons), default=None)
        return Abilities(self.elements, self.properties, self.ranges, largest)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {
            **self.abilities.as_dict(),
            "scale": [list(pair) for pair in self.scale],
            "shape_scale": [list(pair) for pair in self.shape_scale],
            "expansion_scale": list(self.expansion_scale),
            "cut": self.cut,
            "skeletons": {s.text: round(n, 5) for s, n in sorted(self.skeletons.items())},
            "known_rows": sorted(self.known_rows),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Read what :meth:`as_dict` wrote."""
        low, high = data["expansion_scale"]
        return cls(
            elements=tuple(data["elements"]),
            properties=tuple(data["properties"]),
            scale=tuple((float(a), float(b)) for a, b in data["scale"]),
            ranges={name: (float(a), float(b)) for name, (a, b) in data["ranges"].items()},
            shape_scale=tuple((float(a), float(b)) for a, b in data["shape_scale"]),
            expansion_scale=(float(low), float(high)),
            cut=float(data["cut"]),
            skeletons={Skeleton.read(text): float(weight) for text, weight in data["skeletons"].items()},
            known_rows=frozenset(data["known_rows"]),
        )


def space_of(rows: Rows, properties: Sequence[str]) -> Space:
    """Measure the space of training rows.

    Raises
    ------
    ValueError
        If a property is in less than two crystals.
    """
    scale, ranges = [], {}
    for name in properties:
        values = [entry.properties[name] for entry, _ in rows if name in entry.properties]
        if len(values) < 2:
            raise ValueError(f"{len(values)} training crystals have {name}; at least two are needed to learn it")
        ranges[name] = (min(values), max(values))
        linear = [_linear(name, value) for value in values]
        scale.append((float(np.mean(linear)), max(float(np.std(linear)), 1e-6)))
    table = tabulate([description for _, description in rows])
    shapes = []
    for i in range(SHAPE_SIZE):
        column = table.shape[table.shape_free[:, i], i].double().numpy()
        shapes.append((float(column.mean()), max(float(column.std()), 0.02)) if len(column) > 1 else (0.0, 1.0))
    expansion = table.expansion.double().numpy()
    counted, edges = np.histogram(table.free[table.is_free].numpy(), bins=BINS, range=(0.0, 1.0))
    return Space(
        elements=tuple(sorted({orbit.element for _, description in rows for orbit in description.orbits})),
        properties=tuple(properties),
        scale=tuple(scale),
        ranges=ranges,
        shape_scale=tuple(shapes),
        expansion_scale=(float(expansion.mean()), max(float(expansion.std()), 0.02)),
        cut=float(edges[int(counted.argmin())] + 0.5 / BINS),
        skeletons=evidence_of(rows),
        known_rows=frozenset(row_of(description).key for _, description in rows),
    )


def element_vectors(elements: Sequence[str]) -> Tensor:
    """Principal components of the elements' features, each of unit variance over these elements.

    Returns
    -------
    Tensor, shape (len(elements), ELEMENT_SIZE)
        Components that these elements do not differ in are zero.
    """
    features = np.asarray(element_features(), dtype=float)[[atomic_numbers[e] for e in elements]]
    centred = features - features.mean(axis=0)
    _, strength, axes = np.linalg.svd(centred, full_matrices=False)
    vectors = np.zeros((len(elements), ELEMENT_SIZE))
    used = [i for i in range(min(ELEMENT_SIZE, len(strength))) if strength[i] > 1e-6 * max(float(strength[0]), 1e-9)]
    # the sign of a component is arbitrary: its largest entry is made positive, so that every machine has the same
    for i in used:
        axis = axes[i] * np.sign(axes[i][np.abs(axes[i]).argmax()])
        vectors[:, i] = centred @ axis * math.sqrt(len(elements)) / strength[i]
    return torch.from_numpy(vectors.astype(np.float32))


def _linear(name: str, value: float) -> float:
    return math.log(max(value, 1e-3)) if name in LOGARITHMIC else value
