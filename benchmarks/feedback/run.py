"""Campaigns side by side, each with a result of its own; in a module that worker processes can import."""

from __future__ import annotations

import json
import sys
import warnings
from concurrent.futures import as_completed
from pathlib import Path

from benchmarks.feedback.arms import ARMS, spec_of
from generators.processes import worker_pool


def result_path(system: str, arm: str, seed: int, rounds: int, samples: int, budget: int, place: str) -> Path:
    """Name the file of one campaign's result."""
    name = f"{system.replace(' ', '-')}_{arm.replace(' ', '-').replace('+', 'and')}_{rounds}x{samples}x{budget}_{seed}"
    return Path(place) / "results" / f"{name}.json"


def run(wanted: list[tuple[str, str, int, int, int, int, str]], processes: int) -> None:
    """Play campaigns, side by side."""
    with worker_pool(processes) as pool:
        futures = {pool.submit(campaign, *one): one for one in wanted}
        for done, future in enumerate(as_completed(futures), start=1):
            hits = future.result()
            system, arm, seed, *_ = futures[future]
            print(f"{done}/{len(wanted)}  {system}  {arm}  seed {seed}: {hits} hits", file=sys.stderr, flush=True)


def campaign(system: str, arm: str, seed: int, rounds: int, samples: int, budget: int, place: str) -> int:
    """Play one campaign and keep its result."""
    import torch

    from benchmarks.feedback.play import Site, play

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    spec = spec_of(system, rounds, samples, budget, seed)
    chosen = next(a for a in ARMS if a.name == arm)
    result = {"system": system, "samples": samples, **play(chosen, spec, Site(spec, Path(place)))}
    for verdict in result["verdicts"]:
        verdict.pop("structure", None)  # in the cache
    path = result_path(system, arm, seed, rounds, samples, budget, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1))
    part.replace(path)
    return sum(v["hit"] for v in result["verdicts"])
