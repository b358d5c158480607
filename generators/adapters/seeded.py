"""Run a module of an outside model with its random numbers seeded, where its own command has no option for that.

Run as a file by the *model's* interpreter, with the standard library alone: ``python seeded.py SEED MODULE ARGUMENTS``
does what ``python -m MODULE ARGUMENTS`` does, after seeding ``random``, and numpy and torch if that environment has
them. On a GPU torch does not promise the same numbers twice (pytorch.org/docs/stable/notes/randomness.html).
"""

from __future__ import annotations

import importlib
import random
import runpy
import sys


def seed_everything(seed: int) -> None:
    """Seed ``random``, numpy's global generator (which takes 32 bits) and torch on all devices."""
    random.seed(seed)
    for name, setter, value in (("numpy.random", "seed", seed % 2**32), ("torch", "manual_seed", seed)):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        getattr(module, setter)(value)


def main(argv: list[str]) -> None:
    """Seed, then run the module as ``__main__``."""
    seed, module = int(argv[0]), argv[1]
    # The folder of this file must not shadow modules of the model's environment.
    sys.path.pop(0)
    seed_everything(seed)
    sys.argv = [module, *argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
