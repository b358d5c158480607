"""Pre-relaxation: our batched relaxer against ASE's FIRE one by one, in one run.

Same structures, model, filter (FrechetCellFilter), stopping rule and cores (one thread a process). Candidates are
AFLOW prototypes with their elements replaced by others of the same common oxidation state, volumes guessed from atomic
radii and then perturbed: what a generator hands over. Warm-up is excluded from both.
Times are CPU seconds of the slowest process, which on idle cores are wall seconds and on busy ones still compare.

    python benchmarks/prerelax.py --n 32 [--processes 2]
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np

from generators.processes import worker_pool

GROUPS = (
    ("Li", "Na", "K"),
    ("Mg", "Ca", "Sr", "Zn"),
    ("Al", "Ga", "In", "Y", "Sc"),
    ("Si", "Ge", "Ti", "Zr", "Sn"),
    ("O", "S", "Se"),
    ("N", "P", "As"),
    ("F", "Cl", "Br"),
)


def candidates(n: int, seed: int) -> list:
    """Draw prototype x substitution, 4 to 8 atoms, volume within 15 % and positions within 0.05 Å of the guess."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.core import DummySpecies, Element

    rng = np.random.default_rng(seed)
    group_of = {symbol: group for group in GROUPS for symbol in group}
    pool = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        if not structure.is_ordered or any(isinstance(s, DummySpecies) for s in structure.species):
            continue
        symbols = {str(e) for e in structure.composition.elements}
        if 2 <= len(symbols) <= 4 and symbols <= set(group_of):
            primitive = structure.get_primitive_structure()
            if 4 <= len(primitive) <= 8:
                pool.append(primitive)
    chosen = []
    while len(chosen) < n:
        structure = pool[rng.integers(len(pool))].copy()
        symbols = sorted({str(e) for e in structure.composition.elements})
        to = {s: str(rng.choice(group_of[s])) for s in symbols}
        if len(set(to.values())) < len(to):
            continue
        old = sum(Element(s.specie.symbol).atomic_radius ** 3 for s in structure)
        structure.replace_species(to)
        new = sum(Element(s.specie.symbol).atomic_radius ** 3 for s in structure)
        structure.scale_lattice(structure.volume * (new / old) * (1 + rng.uniform(-0.15, 0.15)))
        structure.perturb(0.05, seed=int(rng.integers(2**31)))
        chosen.append(structure)
    return chosen


def one_by_one(structures: list, fmax: float, max_steps: int, optimiser: str) -> tuple[float, list]:
    """Relax with ASE; gives seconds and (structure, eV/atom, steps, converged) of each."""
    import torch
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS, FIRE
    from chgnet.model.dynamics import CHGNetCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="warn")
    warm = AseAtomsAdaptor.get_atoms(structures[0])
    warm.calc = calculator
    warm.get_stress()
    results = []
    start = time.process_time()
    for structure in structures:
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = calculator
        run = {"FIRE": FIRE, "BFGS": BFGS}[optimiser](FrechetCellFilter(atoms), logfile=None)
        try:
            converged = bool(run.run(fmax=fmax, steps=max_steps))
        except (ValueError, RuntimeError, np.linalg.LinAlgError):
            results.append((None, float("nan"), run.nsteps, False))
            continue
        energy = atoms.get_potential_energy() / len(atoms)
        results.append((AseAtomsAdaptor.get_structure(atoms), energy, run.nsteps, converged))
    return time.process_time() - start, results


def batched(structures: list, fmax: float, max_steps: int, batch_size: int) -> tuple[float, list]:
    """Relax with ours; the same shape of answer."""
    import torch

    from generators.relaxer import evaluate, relax

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    evaluate(structures[:4])
    start = time.process_time()
    done = relax(structures, fmax_ev_per_angstrom=fmax, max_steps=max_steps, batch_size=batch_size)
    seconds = time.process_time() - start
    return seconds, [
        (r.structure, r.energy_ev_per_atom if r.error is None else float("nan"), r.steps, r.converged) for r in done
    ]


def spread(function: object, structures: list, processes: int, *arguments: object) -> tuple[float, list]:
    """Deal structures out to fresh processes; seconds are CPU seconds of the slowest, without start and warm-up."""
    with worker_pool(processes) as pool:
        parts = [pool.submit(function, structures[k::processes], *arguments) for k in range(processes)]
        answers = [part.result() for part in parts]
    results = [None] * len(structures)
    for k, (_, part) in enumerate(answers):
        results[k::processes] = part
    return max(seconds for seconds, _ in answers), results


def main() -> None:
    """Print structures an hour of both, their ratio, and how far they agree."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=32, help="structures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fmax", type=float, default=0.05, help="eV/Å")
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--against", choices=["FIRE", "BFGS"], default="FIRE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    structures = candidates(options.n, options.seed)
    print(f"{options.n} candidates, {np.mean([len(s) for s in structures]):.1f} atoms on average; ", end="")
    print(f"fmax {options.fmax} eV/Å on a FrechetCellFilter, {options.processes} process(es) of one thread each")
    ours_s, ours = spread(batched, structures, options.processes, options.fmax, options.max_steps, options.batch_size)
    ase_s, theirs = spread(one_by_one, structures, options.processes, options.fmax, options.max_steps, options.against)
    for name, seconds, results in (("batched", ours_s, ours), (f"ASE {options.against}", ase_s, theirs)):
        steps = [steps for _, _, steps, _ in results]
        print(
            f"{name:>10}: {3600 * options.n / seconds:7.0f} structures/h ({seconds:.1f} s), steps median "
            f"{np.median(steps):.0f} mean {np.mean(steps):.1f}, converged {sum(c for *_, c in results)}/{options.n}"
        )
    print(f"     ratio: {ase_s / ours_s:.1f} x")
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a[3] and b[3]]
    # The basin is where a structure ends when it is followed further down: two crystals 0.1 eV/Å from a minimum, or
    # beside a saddle, can look alike and belong to different ones.
    _, down = spread(batched, [s for pair in both for s in (pair[0][0], pair[1][0])], 1, 0.003, 500, options.batch_size)
    matcher = StructureMatcher(ltol=0.03, stol=0.05, angle_tol=2, scale=False)
    alike = [StructureMatcher().fit(a[0], b[0]) for a, b in both]
    pairs = zip(both, down[::2], down[1::2], alike, strict=True)
    same = [(pair, a, b) for pair, a, b, like in pairs if like and matcher.fit(a[0], b[0])]
    gaps = np.array([abs(a[1] - b[1]) * 1000 for (a, b), _, _ in same] or [0.0])
    above = [[(pair[k][1] - ends[k][1]) * 1000 for pair, *ends in same] or [0.0] for k in (0, 1)]
    lower, higher = (sum(sign * (a[1] - b[1]) > 1e-3 for a, b in both) for sign in (-1, 1))
    print(
        f"both converged: {len(both)}; same prototype at the stop (StructureMatcher defaults): {sum(alike)}; ", end=""
    )
    print(f"besides equal to 3 %, 0.05, 2° when followed down to 0.003 eV/Å, the same basin: {len(same)}")
    print(f"|dE| in the same basin: max {gaps.max():.2f}, median {np.median(gaps):.2f} meV/atom; ", end="")
    print(f"over 1 meV/atom: {int((gaps > 1).sum())}")
    for name, heights in zip(("ours", "ASE's"), above, strict=True):
        print(f"height of {name} stop above that minimum: median {np.median(heights):.2f}, ", end="")
        print(f"max {max(heights):.2f} meV/atom")
    print(f"of all that both converged, ours is lower by more than 1 meV/atom in {lower}, higher in {higher}")


if __name__ == "__main__":
    main()
