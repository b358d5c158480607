"""Duplicate search: how fast, and does it say what StructureMatcher says.

Candidates are decorated prototypes (each substitution once) with random volumes, strains and displacements; some are
planted again as copies: permuted, translated, rotated, in another cell, as a supercell, or all of these at once. Timed:
grouping all of them. Then checked: every copy is in the group of its original, and every pair called duplicate passes
``StructureMatcher.fit`` on the structures as they came, or (counted apart) on their exact primitive cells: its own
reduction makes it refuse a rare supercell. On the most crowded compositions the groups are compared with
``StructureMatcher.group_structures``, both on one core, in seconds of CPU time.

Run ``python benchmarks/duplicates.py`` (100,000 candidates), or ``--n 2000 --compare 300`` for a short one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the processes share the cores

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from generators.crystals.duplicates import DEFAULT_TOLERANCES, exact_primitive, group
from generators.data import Prototype, prototypes
from generators.processes import worker_pool

ELEMENTS = [Element.from_Z(z).symbol for z in range(3, 50) if not Element.from_Z(z).is_noble_gas and z not in (43, 44)]
SHARES = {2: 0.6, 3: 0.35, 4: 0.05}  # of candidates with so many elements
KINDS = ("permuted", "translated", "rotated", "other cell", "supercell", "all at once")


def decorate(prototype: Prototype, elements: list[str], rng: np.random.Generator) -> Structure:
    """Put elements on a prototype; in two of three cases strain it and displace the atoms a little."""
    old = sorted(prototype.structure.symbol_set)
    species = [elements[old.index(site.specie.symbol)] for site in prototype.structure]
    volume = sum(4 / 3 * np.pi * Element(symbol).atomic_radius ** 3 for symbol in species) * rng.uniform(1.2, 1.8)
    matrix, frac = prototype.structure.lattice.matrix, prototype.structure.frac_coords
    distortion = rng.choice([0.0, 0.02, 0.05])
    strain = rng.normal(0, distortion, (3, 3))
    matrix = matrix @ (np.eye(3) + (strain + strain.T) / 2)
    matrix *= (volume / abs(np.linalg.det(matrix))) ** (1 / 3)
    frac = frac + rng.normal(0, distortion, frac.shape) @ np.linalg.inv(matrix)
    return Structure(Lattice(matrix), species, frac)


def candidates(n: int, elements: list[str], rng: np.random.Generator) -> list[Structure]:
    """Make decorated prototypes, no substitution into one prototype twice."""
    made: list[Structure] = []
    seen: set[tuple[str, ...]] = set()
    pools = {k: prototypes(8, k) for k in SHARES}
    while len(made) < n:
        pool = pools[int(rng.choice(list(SHARES), p=list(SHARES.values())))]
        prototype = pool[rng.integers(len(pool))]
        chosen = [str(e) for e in rng.choice(elements, prototype.n_elements, replace=False)]
        if (key := (prototype.tag, *chosen)) not in seen:
            seen.add(key)
            made.append(decorate(prototype, chosen, rng))
    return made


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Give a random rotation: the orthogonal factor of a random matrix, with determinant one."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q *= np.sign(np.linalg.det(q))
    return q


def unimodular(rng: np.random.Generator) -> np.ndarray:
    """Give a random integer matrix of determinant one: a product of shears."""
    matrix = np.eye(3, dtype=int)
    for _ in range(3):
        i, j = rng.permutation(3)[:2]
        shear = np.eye(3, dtype=int)
        shear[i, j] = rng.choice([-2, -1, 1, 2])
        matrix = shear @ matrix
    return matrix


def copy_of(structure: Structure, kind: str, rng: np.random.Generator) -> Structure:
    """Describe the same crystal in another way."""
    copy = structure.copy()
    if kind in ("supercell", "all at once"):
        copy.make_supercell(rng.permutation([2, 1, 1 if len(copy) > 4 else 2]).tolist(), to_unit_cell=False)
    matrix, frac, species = copy.lattice.matrix, copy.frac_coords, copy.species
    if kind in ("other cell", "all at once"):
        change = unimodular(rng)
        matrix, frac = change @ matrix, frac @ np.linalg.inv(change)
    if kind in ("rotated", "all at once"):
        matrix = matrix @ random_rotation(rng).T
    if kind in ("translated", "all at once"):
        frac = frac + rng.random(3)
    if kind in ("permuted", "all at once"):
        order = rng.permutation(len(species))
        frac, species = frac[order], [species[i] for i in order]
    return Structure(Lattice(matrix), species, frac, to_unit_cell=True)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def fits(pair: tuple[Structure, Structure]) -> str:
    """Ask StructureMatcher alone, at the tolerances that the search states; if it refuses, with supercells undone."""
    matcher = DEFAULT_TOLERANCES.matcher()
    if matcher.fit(*pair):
        return "as they came"
    return "in primitive cells" if matcher.fit(*map(exact_primitive, pair)) else "no"


def crowded(structures: list[Structure], n: int) -> list[Structure]:
    """Pick whole compositions, the most crowded first, up to n structures."""
    buckets: dict[str, list[int]] = defaultdict(list)
    for i, structure in enumerate(structures):
        buckets[structure.composition.reduced_formula].append(i)
    chosen: list[int] = []
    for bucket in sorted(buckets.values(), key=lambda b: (-len(b), b)):
        chosen += bucket[: n - len(chosen)]
    return [structures[i] for i in sorted(chosen)]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; exit 1 if a copy was missed, a duplicate invented, or groups differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000, help="candidates, planted copies included")
    parser.add_argument("--planted", type=float, default=0.05, help="share of planted copies")
    parser.add_argument("--compare", type=int, default=2000, help="candidates also grouped by group_structures")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--elements", nargs="*", default=ELEMENTS, help="fewer elements: more candidates a composition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(args.seed)
    n_copies = int(args.n * args.planted)
    base = candidates(args.n - n_copies, args.elements, rng)
    originals = rng.choice(len(base), n_copies, replace=False)
    kinds = [KINDS[i % len(KINDS)] for i in range(n_copies)]
    mixed = base + [copy_of(base[o], kind, rng) for o, kind in zip(originals, kinds, strict=True)]
    order = rng.permutation(len(mixed))
    structures = [mixed[i] for i in order]
    place = {int(old): new for new, old in enumerate(order)}

    start, cpu_start = time.perf_counter(), cpu_seconds()
    groups = group(structures, processes=args.processes)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start

    leader = {member: members[0] for members in groups for member in members}
    pairs = [(members[0], member) for members in groups for member in members[1:]]
    missed = [
        kind
        for number, (original, kind) in enumerate(zip(originals, kinds, strict=True))
        if leader[place[int(original)]] != leader[place[len(base) + number]]
    ]
    with worker_pool(args.processes) as pool:
        verdicts = list(pool.map(fits, [(structures[a], structures[b]) for a, b in pairs], chunksize=100))

    sample = crowded(structures, args.compare)
    start = time.process_time()
    ours = group(sample)
    ours_seconds = time.process_time() - start
    matcher = DEFAULT_TOLERANCES.matcher()
    start = time.process_time()
    theirs = matcher.group_structures(sample)
    theirs_seconds = time.process_time() - start
    number = {id(structure): i for i, structure in enumerate(sample)}
    theirs_sorted = sorted(sorted(number[id(s)] for s in members) for members in theirs)

    result = {
        "candidates": len(structures),
        "planted": n_copies,
        "compositions": len({s.composition.reduced_formula for s in structures}),
        "processes": args.processes,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "groups": len(groups),
        "pairs_called_duplicate": len(pairs),
        "missed": len(missed),
        "missed_kinds": sorted(missed),
        "pass_in_primitive_cells_only": verdicts.count("in primitive cells"),
        "invented": verdicts.count("no"),
        "compared": len(sample),
        "compared_groups": len(ours),
        "group_structures_groups": len(theirs_sorted),
        "same_groups": ours == theirs_sorted,
        "compared_cpu_seconds": round(ours_seconds, 2),
        "group_structures_cpu_seconds": round(theirs_seconds, 2),
        "times_faster": round(theirs_seconds / ours_seconds, 1),
    }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:30} {value}")
    return 0 if not missed and not result["invented"] and result["same_groups"] else 1


if __name__ == "__main__":
    sys.exit(main())
