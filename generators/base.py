"""The contract every generator keeps: baselines, trained models and adapters to outside models alike.

A generator proposes crystals for a :class:`Condition`, streams them one by one, can resume at any index, reproduces
each sample from its seed, and learns from :class:`Labelled` crystals by returning a *new* generator: a state is never
mutated, so any round of a campaign can be replayed.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pymatgen.core import Structure

NeutralityRule = Literal["strict", "permissive", "off"]


@dataclass(frozen=True)
class Bounds:
    """An interval wanted for a property; ``None`` leaves a side open.

    Parameters
    ----------
    minimum, maximum : float or None
        In ``unit``.
    unit : str
        eV/atom, GPa, THz, eV, ...
    """

    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Condition:
    """The target as a generator sees it.

    Parameters
    ----------
    chemical_systems : tuple of tuple of str
        Each inner tuple is an allowed chemical system, sorted element symbols. A crystal fits when its elements are a
        subset of at least one system.
    min_elements, max_elements : int
        Number of distinct elements a crystal may have.
    max_atoms : int
        Atoms in the primitive cell.
    neutrality : {"strict", "permissive", "off"}
        Charge-neutrality rule that proposals should keep.
    properties : dict of str to Bounds
        Property targets (``bulk_modulus``: GPa, ``band_gap``: eV, ...). A generator that can't condition on one
        ignores it and says so in ``conditions_on``.
    stable : bool
        Whether stable crystals are wanted.
    """

    chemical_systems: tuple[tuple[str, ...], ...]
    min_elements: int = 2
    max_elements: int = 8
    max_atoms: int = 8
    neutrality: NeutralityRule = "strict"
    properties: dict[str, Bounds] = field(default_factory=dict)
    stable: bool = True

    def allows(self, elements: Iterable[str]) -> bool:
        """Tell whether a set of element symbols fits one of the chemical systems and the element count."""
        present = set(elements)
        return self.min_elements <= len(present) <= self.max_elements and any(
            present <= set(system) for system in self.chemical_systems
        )


@dataclass(frozen=True)
class Sample:
    """One proposed crystal.

    Parameters
    ----------
    index : int
        Position in the stream that was asked for, counted from 0 whatever ``start`` was.
    structure : pymatgen.core.Structure
        Ordered, primitive cell.
    seed : int
        ``derive_seed(stream_seed, index)``. The state, the condition, the *stream* seed and the index reproduce the
        sample; whether its own seed alone does is the generator's affair.
    generator, version : str
        Registry name and version of the generator that made it.
    info : dict
        JSON-compatible detail that ``update`` learns from (prototype, substitution, space group, ...).
    """

    index: int
    structure: Structure
    seed: int
    generator: str
    version: str
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labelled:
    """What became of one proposed crystal: what a generator learns from, failures included.

    Parameters
    ----------
    candidate : str
        Identifier; updates are applied in sorted order of it, so that they are reproducible.
    structure : pymatgen.core.Structure
        As verified (relaxed) where there is one, else as proposed.
    generator : str
        Name of the generator that proposed it.
    info : dict
        The ``Sample.info`` it was proposed with.
    energy_above_hull_ev_per_atom : float or None
        ``None`` if there is no trustworthy energy.
    stable, novel, hit : bool or None
        ``None`` if unknown.
    properties : dict of str to float
        Measured properties in the units of the campaign's targets.
    cause : int or None
        Numbered cause of a failure.
    screened_above_hull_ev_per_atom : float or None
        By the screening model, for what was pre-relaxed, verified or not.
    """

    candidate: str
    structure: Structure
    generator: str
    info: dict[str, Any]
    energy_above_hull_ev_per_atom: float | None = None
    stable: bool | None = None
    novel: bool | None = None
    hit: bool | None = None
    properties: dict[str, float] = field(default_factory=dict)
    cause: int | None = None
    screened_above_hull_ev_per_atom: float | None = None


@dataclass(frozen=True)
class FitReport:
    """What ``fit`` did: sizes and numbers worth printing."""

    generator: str
    n_structures: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Generator(Protocol):
    """Proposes crystals and learns from verdicts."""

    name: str
    version: str
    conditions_on: frozenset[str]
    """Property names (beside the chemical system) that ``sample`` really conditions on."""

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Train on structures; a baseline that needs no training says so in its report."""
        ...

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1`` of the stream that ``seed`` defines, each as soon as it exists."""
        ...

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that has learned from verdicts; never mutates, order of the input is irrelevant."""
        ...

    def save(self, directory: Path) -> None:
        """Write the state as ``generator.json`` (and safetensors beside it), never a pickle."""
        ...

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what ``save`` wrote."""
        ...


def untrained(name: str, dataset: Iterable[Structure], options: dict[str, Any]) -> FitReport:
    """Report the fit of a baseline that needs no training: it counts the structures.

    Raises
    ------
    ValueError
        If an option is given.
    """
    if options:
        raise ValueError(f"{name}: fit takes no options, got {sorted(options)}")
    begin = time.perf_counter()
    return FitReport(name, sum(1 for _ in dataset), time.perf_counter() - begin, {"trained": 0.0})


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from a tuple, the same on every machine and Python (hash() is not).

    Examples
    --------
    >>> derive_seed(42, 1, 7) == derive_seed(42, 1, 7)
    True
    >>> derive_seed(42, 1, 7) == derive_seed(42, 17)
    False
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
