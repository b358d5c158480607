"""A stand-in for torch, for tests only: a generator of random numbers that can be seeded."""

import random

rng = random.Random()


def manual_seed(seed: int) -> None:
    rng.seed(seed)
