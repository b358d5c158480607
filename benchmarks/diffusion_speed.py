"""The diffusion model: training step and network evaluation against the plain model, and the rate of sampling.

Same weights, crystals and noise, one process and one thread, in one run. The plain model
(``benchmarks/plain_diffusion.py``) loops over crystals and pairs of atoms. Crystals are random ones of 2 to 8 atoms;
speed does not depend on what they are. Sampling takes 20 steps (the default is 100: a fifth of the rate), two network
evaluations each, without guidance (with it: half the rate).

    python -m benchmarks.diffusion_speed [--batch 64] [--steps 20]
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.plain_diffusion import predict
from generators.diffusion.graph import Crystals, Graph
from generators.diffusion.model import make_network
from generators.diffusion.network import Network, Prediction, Shape
from generators.diffusion.objective import Noisy, corrupt, losses
from generators.diffusion.sampler import Noise, draw, guided

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1, 64, 1024)
PLAIN_CRYSTALS = 4
"""The plain model is timed on that many crystals; its cost is proportional to their pairs."""


def crystals(n: int, seed: int) -> Crystals:
    """Make random crystals of 2 to 8 atoms."""
    rng = np.random.default_rng(seed)
    counts = torch.tensor(rng.integers(2, 9, n))
    atoms = int(counts.sum())
    size = (20.0 * counts.numpy()) ** (1 / 3)
    logarithm = rng.normal(0, 0.1, (n, 6)) + np.log(size)[:, None] * np.array([1, 1, 1, 0, 0, 0])
    return Crystals(
        counts,
        torch.tensor(rng.integers(1, 80, atoms)),
        torch.tensor(rng.random((atoms, 3)), dtype=torch.float32),
        torch.tensor(logarithm, dtype=torch.float32),
        torch.tensor(rng.normal(size=(n, 2)), dtype=torch.float32),
    )


def plainly(network: Network, noisy: Noisy) -> Prediction:
    """Ask the plain model about every crystal of a batch."""
    first, parts = 0, []
    for row, count in enumerate(noisy.graph.counts.tolist()):
        atoms = slice(first, first + count)
        parts.append(
            predict(
                network,
                noisy.species[atoms],
                noisy.frac[atoms],
                noisy.lattice[row],
                float(noisy.t[row]),
                noisy.wanted[row],
            )
        )
        first += count
    coordinates, lattice, logits = zip(*parts, strict=True)
    return Prediction(torch.cat(coordinates), torch.stack(lattice), torch.cat(logits))


def step(network: Network, noisy: Noisy, ask: Callable[[Network, Noisy], Prediction]) -> None:
    """Do what a training step does, the optimiser apart, which is the same for both."""
    network.zero_grad()
    losses(ask(network, noisy), noisy).mean().backward()


def timed(what: Callable[[], object], least: float = 1.0) -> float:
    """Give the CPU seconds of one call, averaged over at least ``least`` seconds after one to warm up."""
    what()
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < least:
        what()
        calls += 1
    return (time.process_time() - begin) / calls


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="crystals in a training step")
    parser.add_argument("--steps", type=int, default=20, help="noise levels when sampling")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="crystals sampled at once")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = make_network(Shape(properties=2), 0)
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, one thread, CPU seconds")

    batch = corrupt(network, crystals(arguments.batch, 0), np.random.default_rng(0))
    few = corrupt(network, crystals(PLAIN_CRYSTALS, 0), np.random.default_rng(0))
    # Pairs, not crystals, are what the plain model's time is proportional to.
    share = len(batch.graph.receivers) / len(few.graph.receivers)

    def batched(network: Network, noisy: Noisy) -> Prediction:
        return noisy.predict(network)

    def evaluated(noisy: Noisy, ask: Callable[[Network, Noisy], Prediction]) -> None:
        with torch.no_grad():
            ask(network, noisy)

    for name, ours, plain in (
        ("training step", lambda: step(network, batch, batched), lambda: step(network, few, plainly)),
        ("evaluation", lambda: evaluated(batch, batched), lambda: evaluated(few, plainly)),
    ):
        fast, slow = timed(ours), timed(plain) * share
        print(f"{name:14} of {arguments.batch} crystals: {fast:7.3f} s, plain {slow:7.2f} s, ratio {slow / fast:5.0f}")

    for size in arguments.sizes:
        asked = crystals(size, 1)
        graph = Graph.of(asked.counts)
        predictor = guided(network, torch.full((size, 2), torch.nan), 1.0)
        noise = Noise.of(range(size), asked.counts.tolist(), arguments.steps)
        begin = time.process_time()
        draw(predictor, graph, asked.species, noise)
        seconds = time.process_time() - begin
        print(f"sampling, batch {size:4}, {arguments.steps} steps: {size / seconds:7.2f} crystals/s")


if __name__ == "__main__":
    main()
