"""Samples of one generator, drawn once and kept, and the sieve that all generators have to pass."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from generators.base import derive_seed
from generators.crystals.neutrality import neutral
from generators.crystals.validity import check_structure
from generators.evaluation.store import compact, expanded

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

    from generators.base import Condition, Generator
    from generators.evaluation.store import Store


@dataclass(frozen=True)
class Drawn:
    """One sample and what it cost.

    Parameters
    ----------
    index : int
    structure : pymatgen.core.Structure
    wall_s, cpu_s : float
        Time to draw it.
    """

    index: int
    structure: Structure
    wall_s: float
    cpu_s: float


def digest_of(generator: Generator) -> str:
    """Name a generator by its name, version and all that ``save`` writes: two states never share samples."""
    parts = hashlib.sha256(f"{generator.name}\x1f{generator.version}".encode())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator.save(folder)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            parts.update(str(path.relative_to(folder)).encode() + b"\x1f" + path.read_bytes())
    return parts.hexdigest()[:16]


@dataclass(frozen=True)
class Stream:
    """The samples of one seed.

    Parameters
    ----------
    drawn : tuple of Drawn
    start_s : float or None
        Time that a generator takes before it samples, once a process: libraries, tables, weights. Measured with the
        first sample of another seed, which is thrown away.
    """

    drawn: tuple[Drawn, ...]
    start_s: float | None


def draw(
    generator: Generator,
    n: int,
    condition: Condition,
    seed: int,
    store: Store,
    digest: str | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Stream:
    """Draw ``n`` samples, going on after those that the store holds.

    Parameters
    ----------
    generator : Generator
    n : int
    condition : Condition
    seed : int
    store : Store
    digest : str, optional
        As :func:`digest_of` gives it, if it is known already.
    told : callable, optional
        ``told(done, of)``.

    Returns
    -------
    Stream
        Of fewer than ``n`` samples only if the generator's stream ends early.

    Raises
    ------
    ValueError
        If the generator can't meet the condition.
    """
    asked = hashlib.sha256(json.dumps(asdict(condition), sort_keys=True).encode()).hexdigest()[:16]
    prefix = f"sample/{digest or digest_of(generator)}/{asked}/{seed}"
    drawn: list[Drawn] = []
    while len(drawn) < n and (kept := store.get(f"{prefix}/{len(drawn)}")) is not None:
        drawn.append(Drawn(len(drawn), expanded(kept["structure"]), kept["wall_s"], kept["cpu_s"]))
    if len(drawn) == n:
        return Stream(tuple(drawn), (store.get(f"{prefix}/start") or {}).get("wall_s"))
    begin = time.perf_counter()
    next(iter(generator.sample(1, condition, derive_seed(seed, "start"))), None)
    if store.get(f"{prefix}/start") is None:
        store.put(f"{prefix}/start", {"wall_s": round(time.perf_counter() - begin, 5)})
    wall, cpu = time.perf_counter(), time.process_time()
    for sample in generator.sample(n, condition, seed, start=len(drawn)):
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        document = compact(sample.structure, 8)
        store.put(
            f"{prefix}/{sample.index}",
            {"structure": document, "wall_s": round(wall_s, 5), "cpu_s": round(cpu_s, 5)},
        )
        # As a resumed run will read it: the same digits, so the same keys.
        drawn.append(Drawn(sample.index, expanded(document), wall_s, cpu_s))
        if told is not None:
            told(len(drawn), n)
        wall, cpu = time.perf_counter(), time.process_time()
    return Stream(tuple(drawn), (store.get(f"{prefix}/start") or {}).get("wall_s"))


def refusals(structure: Structure, condition: Condition) -> list[str]:
    """List why a proposal is refused: geometry, cell, size, chemistry, neutrality; empty if it passes.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    condition : Condition
    """
    reasons = check_structure(structure, max_atoms=condition.max_atoms)
    if reasons and not structure.is_ordered:
        return reasons
    elements = sorted(element.symbol for element in structure.composition.elements)
    if not condition.allows(elements):
        reasons.append(f"{'-'.join(elements)} is outside the chemical systems that were asked for")
    if not neutral(structure.composition, condition.neutrality):
        reasons.append(f"{structure.composition.reduced_formula} is not neutral ({condition.neutrality} rule)")
    return reasons
