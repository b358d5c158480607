"""What verifying one candidate costs with engine ``mlip``, and what keeping the calculator loaded saves.

    python benchmarks/verification.py [--n 6] [--protocol fast] [--seed 1]

Candidates are drawn from the baselines over Mg, Al, Si, O, N (at most 8 atoms) and pre-relaxed with CHGNet, as in a
campaign. Prints CPU seconds of relaxation, phonons and bulk modulus for each, in one process, one thread; then the
ratio of atomate2's own Maker (a calculator a job) to ours on the same relaxation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from itertools import combinations

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    """Read the options and measure in a directory of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        measure(arguments.n, arguments.protocol, arguments.seed, directory)


def measure(n: int, protocol: str, seed: int, directory: str) -> None:
    """Draw, pre-relax and verify ``n`` candidates; print a line for each."""
    import torch
    from jobflow import Flow, JobStore, run_locally
    from maggma.stores import MemoryStore

    from generators.base import Condition
    from generators.ion_exchange import IonExchange
    from generators.random_symmetric import RandomSymmetric
    from generators.relaxer import relax
    from workflows.causes import CausedError
    from workflows.engines.registry import make_engine

    torch.set_num_threads(1)
    engine = make_engine("mlip", protocol)
    condition = Condition(chemical_systems=tuple(combinations(("Al", "Mg", "N", "O", "Si"), 3)))
    half = n // 2
    samples = [*IonExchange().sample(n - half, condition, seed), *RandomSymmetric().sample(half, condition, seed)]
    candidates = [r.structure for r in relax([s.structure for s in samples]) if r.structure is not None]

    def run(flow):  # noqa: ANN001, ANN202
        store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        store.connect()
        begin = time.process_time()
        run_locally(flow, store=store, log=False, ensure_success=True, create_folders=True, root_dir=directory)
        seconds = time.process_time() - begin
        return store.get_output(flow.output.uuid if isinstance(flow, Flow) else flow.uuid, load=True), seconds

    engine.relax_now(candidates[0])  # imports and weights
    print(
        f"{'formula':<14}{'atoms':>6}{'relax/s':>9}{'phonon/s':>10}{'supercell':>10}{'judgement':>15}{'bulk/s':>8}{'GPa':>7}"
    )
    for structure in candidates:
        words = f"{structure.composition.reduced_formula:<14}{len(structure):>6}"
        try:
            document, relaxing = run(engine.relax_maker().make(structure))
            relaxed = engine.read(document).structure
            document, phonons = run(engine.phonon_maker().make(relaxed))
            phonon = engine.read_phonons(document, -0.3)
            document, bulk = run(engine.property_maker("bulk_modulus").make(relaxed))
            modulus = engine.read_property("bulk_modulus", document).value
        except (CausedError, RuntimeError) as error:
            print(f"{words}  {error}", flush=True)
            continue
        print(
            f"{words}{relaxing:>9.1f}{phonons:>10.1f}{phonon.n_supercell_atoms:>10}{phonon.judgement:>15}{bulk:>8.1f}"
            f"{modulus:>7.0f}",
            flush=True,
        )
    compare(candidates[0], run, engine)


def compare(structure, run, engine) -> None:  # noqa: ANN001
    """Print the ratio of atomate2's Maker to ours, the same model, optimiser and structure, five times each."""
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker

    options = engine.options
    theirs = ForceFieldRelaxMaker(
        force_field_name="SevenNet",
        calculator_kwargs={"model": "7net-0"},
        optimizer_kwargs={"optimizer": "BFGS"},
        relax_kwargs={"fmax": options.fmax},
        steps=options.steps,
    )
    cold = sum(run(theirs.make(structure))[1] for _ in range(5))
    warm = sum(run(engine.relax_maker().make(structure))[1] for _ in range(5))
    print(f"atomate2's Maker (a calculator a job) / ours: {cold / warm:.1f} ({cold:.1f} s / {warm:.1f} s for 5 jobs)")


if __name__ == "__main__":
    main()
