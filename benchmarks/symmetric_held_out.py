"""How well the shipped ``symmetric`` model forecasts crystals of prototypes that no network was shown.

    python -m benchmarks.symmetric_held_out

The test part of the shipped data set (by prototype), each crystal disturbed as proposals are (volume by 6 %, atoms by
2 % of the cell): mean and median absolute error, by kind of crystal, and the spread of the errors in units of the
stated uncertainty (1 if it is right). The bulk modulus is compared in logarithms.
"""

from __future__ import annotations

import numpy as np
import torch

from generators.data.dataset import shipped
from generators.symmetric import Symmetric
from generators.symmetric.fitting import disturbed, rows_of


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    model = Symmetric().model
    rows = rows_of(shipped().split("prototype").test)
    shown = disturbed(rows, model.properties, model.scale, seed=0, looks=1)
    found = model.forecast(shown.packed)
    kinds = np.array([entry.source.partition(" ")[0] for entry, _ in rows])
    for k, name in enumerate(model.properties):
        truth = shown.targets[:, k].double().numpy() * model.scale.spread[k] + model.scale.centre[k]
        there = np.isfinite(truth)
        off = found.mean[there, k] - truth[there]
        spread = float(np.std(off / found.std[there, k]))
        print(
            f"{name}: n {len(off)}, mean {np.abs(off).mean():.3f}, median {np.median(np.abs(off)):.3f}, z {spread:.2f}"
        )
        for kind in sorted(set(kinds[there])):
            mine = np.abs(off[kinds[there] == kind])
            print(f"  {kind}: n {len(mine)}, mean {mine.mean():.3f}")


if __name__ == "__main__":
    main()
