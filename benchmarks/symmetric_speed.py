"""The generator ``symmetric``: training step and forecast against the plain network, and the rate of sampling.

Same weights and crystals, one process and one thread, in one run. The plain network (``benchmarks/plain_forecast.py``)
loops over crystals and pairs of atoms. Sampling is for Mg-Al-Si-N-O with up to three elements, the table of rows made
before the clock starts; its cost, once a process and condition, is printed apart.

    python -m benchmarks.symmetric_speed [--batch 64]
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from benchmarks.plain_forecast import predict
from generators.base import Bounds, Condition
from generators.data.dataset import shipped
from generators.symmetric import Symmetric
from generators.symmetric.forecast import ForecastNetwork, pack_structures

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1, 64, 1024)
PLAIN_CRYSTALS = 8
"""The plain network is timed on so many crystals."""


def timed(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of one run, the least of some."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    batch = parser.parse_args().batch
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = ForecastNetwork(2)
    structures = [e.structure for e in shipped().entries[300 : 300 + batch]]
    few = structures[:PLAIN_CRYSTALS]

    def batched(train: bool) -> None:
        answer = network(pack_structures(structures))
        if train:
            answer.square().mean().backward()

    def plain(train: bool) -> None:
        for structure in few:
            answer = predict(network, structure)
            if train:
                answer.square().mean().backward()

    for name, train in (("forecast", False), ("training step", True)):
        with torch.set_grad_enabled(train):
            fast, slow = timed(lambda t=train: batched(t), 5) / batch, timed(lambda t=train: plain(t), 3) / len(few)
        print(
            f"{name}: {1e3 * fast:.2f} ms a crystal in batches of {batch}, {slow / fast:.0f} times faster than plainly"
        )

    systems = tuple(combinations(("Al", "Mg", "N", "O", "Si"), 3))
    condition = Condition(systems, properties={"bulk_modulus": Bounds(120.0, None, "GPa")})
    generator = Symmetric()
    begin = time.process_time()
    next(iter(generator.sample(1, condition, 0)))
    print(f"table of rows and first sample: {time.process_time() - begin:.1f} CPU-s, once a process and condition")
    for n in SIZES:
        begin = time.process_time()
        list(generator.sample(n, condition, 1))
        print(f"sampling {n}: {n / (time.process_time() - begin):.1f} crystals a CPU-second")


if __name__ == "__main__":
    main()
