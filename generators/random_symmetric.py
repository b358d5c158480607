"""Random symmetric crystals: the baseline that knows nothing but symmetry, charge balance and the size of atoms.

A composition, a space group, Wyckoff positions for every element, then a lattice and free coordinates, all at random.
Space groups, Wyckoff positions and lattices are pyxtal's (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021));
occupying the positions, judging distances and growing the cell until something fits are ours: faster, and no
composition can block the stream.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import spglib
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from pymatgen.core import Element, Lattice, Structure
from pyxtal.lattice import Lattice as CellSampler
from pyxtal.msg import VolumeError
from pyxtal.symmetry import Group

from generators.base import FitReport, Sample, derive_seed, untrained
from generators.compositions import anonymous, asked, complexity_shares, element_sets, neutral_stoichiometries
from generators.crystals.spglib_calls import found_or_none
from generators.state_file import read_own, understood, write_own
from generators.tally import Tally, evidence
from generators.volume import additive_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from generators.base import Condition, Labelled

UNLIKE_FACTOR, LIKE_FACTOR = 0.8, 1.0
"""Least distance in units of the sum of covalent radii, for pairs of opposite and of the same sign of charge."""
LIKE_FLOOR_ANGSTROM = 2.1
"""Least distance between atoms of the same sign of charge: covalent radii of anions are far below their ionic ones."""
ATTEMPTS, ATTEMPTS_A_COMPOSITION = 4000, 200
"""Hard bound on attempts for one sample, and how many go to one composition before another is drawn."""
TRIES_A_SKELETON, TRIES_AN_ORBIT = 5, 10
"""Lattices tried for one choice of space group and Wyckoff positions; coordinates tried for one orbit."""
GROWTH = 1.004
"""Volume grows by this factor with every attempt: dense first, and no composition can block the stream for ever."""
LARGEST_GROWTH = 2.5
VOLUME_SPREAD = (0.9, 1.3)
"""The first attempts' volumes, in units of the additive estimate."""
FORMAT = 1
"""Of a saved state."""

IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
HOME = 13
"""Neighbouring cells of a reduced lattice, and the index of the cell itself among them."""


class WyckoffSite(NamedTuple):
    """One Wyckoff position: label, atoms per conventional cell, free parameters, its operations (m, 4, 4)."""

    letter: str
    multiplicity: int
    freedom: int
    operations: NDArray[np.float64]


class SpaceGroup(NamedTuple):
    """A space group: number, lattice type, lattice points a conventional cell, Wyckoff positions."""

    number: int
    lattice_type: str
    centring: int
    sites: tuple[WyckoffSite, ...]


@lru_cache(maxsize=230)
def space_group(number: int) -> SpaceGroup:
    """Read a space group from pyxtal's tables (standard setting, hexagonal axes for R)."""
    group = Group(number)
    sites = tuple(
        WyckoffSite(
            f"{position.multiplicity}{position.letter}",
            int(position.multiplicity),
            int(position.get_dof()),
            np.array([op.affine_matrix for op in position.ops], dtype=float),
        )
        for position in group
    )
    return SpaceGroup(number, str(group.lattice_type), int(group.cellsize()), sites)


class RandomSymmetric:
    """Random symmetric structures that keep a condition, learning gently which groups and stoichiometries hold.

    Parameters
    ----------
    exploration : float
        Share of the choice that ignores everything learned, 0 to 1.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    name = "random"
    conditions_on: frozenset[str] = frozenset()

    def __init__(self, exploration: float = 0.3) -> None:
        if not 0 <= exploration <= 1:
            raise ValueError(f"random: exploration {exploration} must lie between 0 and 1")
        self.exploration = float(exploration)
        self._groups = Tally()
        self._stoichiometries = Tally()
        self._updates = 0

    @property
    def version(self) -> str:
        """Version of the method, then the number of updates learned from."""
        return f"1+{self._updates}"

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Count the structures; there is nothing to train.

        Raises
        ------
        ValueError
            If an option is given.
        """
        return untrained(self.name, dataset, options)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        Raises
        ------
        ValueError
            At once, if no composition meets the condition.
        """
        sets = {
            size: members
            for size, members in element_sets(condition).items()
            if any(neutral_stoichiometries(s, condition.max_atoms, condition.neutrality) for s in members)
        }
        if not sets:
            raise ValueError(f"random: no composition of {asked(condition)}")
        groups = self._group_shares()
        return (self._one(index, condition, sets, groups, derive_seed(seed, index)) for index in range(start, n))

    def _one(
        self,
        index: int,
        condition: Condition,
        sets: dict[int, list[tuple[str, ...]]],
        groups: NDArray[np.float64],
        seed: int,
    ) -> Sample:
        rng = np.random.default_rng(seed)
        shares = complexity_shares(list(sets))
        # Drawn once: a redraw after every failure would leave only the simple compositions, which fail least.
        size = int(rng.choice(list(shares), p=list(shares.values())))
        elements: tuple[str, ...] = ()
        counts: tuple[int, ...] = ()
        attempts = 0
        while attempts < ATTEMPTS:
            if attempts % ATTEMPTS_A_COMPOSITION == 0:
                elements, counts = self._choose_composition(sets[size], condition, rng)
            attempts += 1
            group = space_group(int(rng.choice(230, p=groups)) + 1)
            skeleton = occupy(group, counts, rng)
            if skeleton is None:
                continue
            growth = min(LARGEST_GROWTH, GROWTH**attempts)
            for _ in range(TRIES_A_SKELETON):
                structure = realise(group, elements, skeleton, growth, rng)
                if structure is None:
                    continue
                info = {
                    "spacegroup": group.number,
                    "stoichiometry": anonymous(counts),
                    "wyckoff": {
                        element: sorted(site.letter for site in sites)
                        for element, sites in zip(elements, skeleton, strict=True)
                    },
                    "attempts": attempts,
                }
                return Sample(index, structure, seed, self.name, self.version, info)
        raise RuntimeError(f"random: no crystal in {ATTEMPTS} attempts for sample {index}, seed {seed}")

    def _group_shares(self) -> NDArray[np.float64]:
        return _mix(np.array([self._groups.weight(str(number)) for number in range(1, 231)]), self.exploration)

    def _choose_composition(
        self, sets: list[tuple[str, ...]], condition: Condition, rng: np.random.Generator
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Choose elements that have a stoichiometry, one of these, and how many formula units the cell takes."""
        for place in rng.permutation(len(sets)):
            elements = sets[place]
            options = neutral_stoichiometries(elements, condition.max_atoms, condition.neutrality)
            if options:
                break
        learned = np.array([self._stoichiometries.weight(anonymous(counts)) for counts in options])
        unit = options[int(rng.choice(len(options), p=_mix(learned, self.exploration)))]
        units = int(rng.integers(1, condition.max_atoms // sum(unit) + 1))
        return elements, tuple(units * count for count in unit)

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that has learned from its own proposals among ``labelled``."""
        seen = [(evidence(label), label.info) for label in labelled if label.generator == self.name]
        new = type(self)(exploration=self.exploration)
        new._groups = self._groups.learn(  # noqa: SLF001 (our own class)
            (str(info["spacegroup"]), what) for what, info in seen if "spacegroup" in info
        )
        new._stoichiometries = self._stoichiometries.learn(  # noqa: SLF001
            (str(info["stoichiometry"]), what) for what, info in seen if "stoichiometry" in info
        )
        new._updates = self._updates + 1  # noqa: SLF001
        return new

    def save(self, directory: Path) -> None:
        """Write ``generator.json``."""
        state = {
            "options": {"exploration": self.exploration},
            "updates": self._updates,
            "spacegroups": self._groups.as_dict(),
            "stoichiometries": self._stoichiometries.as_dict(),
        }
        write_own(directory, self.name, FORMAT, state)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If it is damaged, of another generator, or of another format.
        """
        state = read_own(directory, cls.name, FORMAT)
        with understood(directory):
            generator = cls(**state["options"])
            generator._groups = Tally.from_dict(state["spacegroups"])
            generator._stoichiometries = Tally.from_dict(state["stoichiometries"])
            generator._updates = int(state["updates"])
        return generator


def _mix(learned: NDArray[np.float64], exploration: float) -> NDArray[np.float64]:
    """Turn weights into probabilities with a uniform floor of ``exploration``."""
    shares = (1 - exploration) * learned / learned.sum() + exploration / len(learned)
    result: NDArray[np.float64] = shares / shares.sum()
    return result


def occupy(group: SpaceGroup, counts: tuple[int, ...], rng: np.random.Generator) -> list[list[WyckoffSite]] | None:
    """Place atoms on Wyckoff positions at random, a position without freedom at most once.

    Parameters
    ----------
    group : SpaceGroup
    counts : tuple of int
        Atoms of each element in the primitive cell.
    rng : numpy.random.Generator

    Returns
    -------
    list of list of WyckoffSite or None
        Sites of each element, in the order of ``counts``; None if the draw ended where nothing fits.
    """
    chosen: list[list[WyckoffSite]] = [[] for _ in counts]
    used: set[str] = set()
    for species in rng.permutation(len(counts)):
        left = counts[species] * group.centring
        while left:
            options = [s for s in group.sites if s.multiplicity <= left and s.letter not in used]
            if not options:
                return None
            site = options[rng.integers(len(options))]
            chosen[species].append(site)
            left -= site.multiplicity
            if site.freedom == 0:
                used.add(site.letter)
    return chosen


def realise(
    group: SpaceGroup,
    elements: tuple[str, ...],
    skeleton: list[list[WyckoffSite]],
    growth: float,
    rng: np.random.Generator,
) -> Structure | None:
    """Draw a lattice and the free coordinates of a skeleton.

    Parameters
    ----------
    group : SpaceGroup
    elements : tuple of str
    skeleton : list of list of WyckoffSite
        Sites of each element.
    growth : float
        Factor on the additive estimate of the volume.
    rng : numpy.random.Generator

    Returns
    -------
    pymatgen.core.Structure or None
        The primitive cell; None if atoms came too close or the lattice could not be drawn.
    """
    orbits = [(element, site) for element, sites in zip(elements, skeleton, strict=True) for site in sites]
    orbits.sort(key=lambda orbit: orbit[1].freedom)  # what can't move goes first: the others have to give way to it
    symbols = [element for element, site in orbits for _ in range(site.multiplicity)]
    volume = additive_volume(symbols) * growth * float(rng.uniform(*VOLUME_SPREAD))
    cell_seed = int(rng.integers(2**31))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyxtal warns of every lattice that it draws again
            matrix = np.asarray(CellSampler(group.lattice_type, volume, random_state=cell_seed).matrix, dtype=float)
    except (VolumeError, ValueError, TypeError):  # what pyxtal raises when no lattice of this volume is sane
        return None
    reduced = Lattice(matrix).get_lll_reduced_lattice().matrix
    to_reduced = matrix @ np.linalg.inv(reduced)
    limits = least_distances(tuple(symbols))
    points = np.empty((0, 3))
    for _, site in orbits:
        here, end = len(points), len(points) + site.multiplicity
        for _ in range(1 if site.freedom == 0 else TRIES_AN_ORBIT):
            orbit = (site.operations @ np.append(rng.random(3), 1.0))[:, :3] % 1.0
            candidate = np.concatenate([points, orbit])
            if clear(candidate @ to_reduced, reduced, here, limits[here, :end]):
                points = candidate
                break
        else:
            return None
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    cell = (matrix, points, numbers)
    primitive = found_or_none(spglib.standardize_cell, cell, to_primitive=True, no_idealize=True, symprec=1e-3)
    if primitive is None:
        return None
    order = np.argsort(primitive[2], kind="stable")
    species = [chemical_symbols[int(primitive[2][i])] for i in order]
    return Structure(Lattice(primitive[0]), species, np.asarray(primitive[1])[order], to_unit_cell=True)


def clear(points: NDArray[np.float64], reduced: NDArray[np.float64], atom: int, limits: NDArray[np.float64]) -> bool:
    """Tell whether an atom keeps its distance from all others, images (its own too) included.

    One atom of an orbit is enough: symmetry repeats its distances for the others.

    Parameters
    ----------
    points : numpy.ndarray
        (n, 3) fractional coordinates in the reduced cell.
    reduced : numpy.ndarray
        (3, 3) LLL-reduced lattice vectors in rows, Å: there the 27 nearest images hold the shortest distance.
    atom : int
        Which one.
    limits : numpy.ndarray
        (n,) least distances, Å.
    """
    between = points[atom] - points
    between -= np.round(between)
    vectors = (between[:, None, :] + IMAGES) @ reduced
    squares = np.einsum("ijk,ijk->ij", vectors, vectors)
    squares[atom, HOME] = np.inf
    return bool((squares.min(axis=1) >= limits**2).all())


@lru_cache(maxsize=10_000)
def least_distances(symbols: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the least distances allowed between atoms, (n, n), Å.

    Radii: Cordero et al., Dalton Trans. 2832 (2008). Atoms more electronegative (Pauling) than the mean of the cell
    count as anions.
    """
    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols])
    pull = np.array([Element(symbol).X for symbol in symbols])
    anion = pull > pull.mean()
    sums = radii[:, None] + radii[None, :]
    alike = anion[:, None] == anion[None, :]
    limits: NDArray[np.float64] = np.where(
        alike, np.maximum(LIKE_FACTOR * sums, LIKE_FLOOR_ANGSTROM), UNLIKE_FACTOR * sums
    )
    return limits
