"""Run the benchmark, or go on with one that was interrupted."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.perov5.crystals import PROPERTIES, Sets, condition_of, load_sets
from benchmarks.perov5.environment import Fingerprints
from benchmarks.perov5.generation import ITSELF, copies, measured, sampled, trained
from benchmarks.perov5.report import markdown
from benchmarks.perov5.surrogate import Surrogate
from benchmarks.perov5.targets import targeted
from generators.base import derive_seed
from generators.registry import ENTRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINES = ("ion_exchange", "random")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, sample, measure; write ``results.json`` and ``results.md`` into the place after every generator."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore")
    place: Path = options.place
    sets = load_sets(options.data, options.test, place)
    _say(f"{sets.about}")
    fingerprints = Fingerprints(place, options.processes, options.python)
    surrogate = Surrogate(fingerprints, options.seed)
    surrogate.fit(sets.judging, PROPERTIES)
    path = place / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"generation": {}, "targets": {}}
    results |= {
        "sets": sets.about,
        "versions": fingerprints.versions(),
        "surrogate": surrogate.errors(sets.unseen, PROPERTIES),
    }
    _say(f"surrogate: {results['surrogate']}")
    for name in [ITSELF, *options.only]:
        begin = time.perf_counter()
        _one(name, sets, fingerprints, surrogate, options, results)
        part = path.with_name("results.json.part")
        part.write_text(json.dumps(results, indent=1) + "\n")
        part.replace(path)
        (place / "results.md").write_text(markdown(results))
        _say(f"{name}: {time.perf_counter() - begin:.0f} s; {results['generation'][name]}")
    if options.docs is not None:
        options.docs.write_text(markdown(results))


def _one(
    name: str,
    sets: Sets,
    fingerprints: Fingerprints,
    surrogate: Surrogate,
    options: argparse.Namespace,
    results: dict[str, Any],
) -> None:
    """Measure one generator; training and samples are kept, so that a second run only measures."""
    if name == ITSELF:
        samples, about = copies(sets.training, options.samples, options.seed), {}
    else:
        folder = options.place / name
        generator, about = trained(name, sets.training, folder, options.epochs, PROPERTIES)
        begin = time.process_time()
        own = derive_seed(options.seed, name)
        samples = sampled(generator, options.samples, condition_of(sets.training), own, folder / "samples.jsonl")
        about = {**about, "sampling_cpu_seconds_of_this_run": round(time.process_time() - begin, 1)}
    found = measured(samples, sets.reference, sets.training, fingerprints, surrogate, options.seed)
    results["generation"][name] = {
        **found,
        "trained_on": len(sets.training) if about.get("trained", True) else 0,
        "fit": about,
    }
    if name != ITSELF and "targets" not in options.without:
        results["targets"][name] = targeted(
            name, generator, samples, sets.training, surrogate, folder, options.target_samples, options.seed
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.perov5", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Perov-5's train.csv or val.csv, may be gzipped")
    parser.add_argument("--test", type=Path, help="its test.csv; without it a half of --data is kept from generators")
    parser.add_argument(
        "--place", type=Path, required=True, help="folder for the run; an interrupted one goes on there"
    )
    known = [entry.name for entry in ENTRIES if entry.trained or entry.name in BASELINES]
    parser.add_argument(
        "--only", nargs="+", choices=known, default=known, metavar="NAME", help=f"of {', '.join(known)}"
    )
    parser.add_argument("--epochs", type=int, help="of trained generators (default: their own)")
    parser.add_argument("--samples", type=int, default=1000, help="of each generator (default 1000; published: 10000)")
    parser.add_argument("--target-samples", type=int, default=64, help="for each property target (default 64)")
    parser.add_argument("--without", nargs="*", choices=["targets"], default=[], help="leave out a part")
    parser.add_argument("--processes", type=int, default=1, help="for fingerprints (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--python", type=Path, help="an interpreter that has matminer, instead of an environment of our own"
    )
    parser.add_argument("--docs", type=Path, help="write the page of results here, too")
    return parser


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
