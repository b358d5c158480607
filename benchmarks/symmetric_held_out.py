"""How well the shipped ``symmetric`` model forecasts crystals of prototypes that no network was shown.

    python -m benchmarks.symmetric_held_out

The test part of the shipped data set (by prototype), each crystal's geometry drawn from its row as a proposal's is:
mean and median absolute error, by kind of crystal, and the spread of the errors in units of the stated uncertainty (1
if it is right). The bulk modulus is compared in logarithms; so is the volume, as drawn and as forecast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from generators.data.dataset import shipped
from generators.symmetric import Symmetric
from generators.symmetric.arena import judge
from generators.symmetric.assignments import row_of
from generators.symmetric.crystals import rows_of
from generators.symmetric.examples import Looker, scaled

if TYPE_CHECKING:
    from generators.data.dataset import Entry
    from generators.symmetric.wyckoff import Atoms


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    model = Symmetric().model
    rows = rows_of(shipped().split("prototype").test)
    bare = [row_of(description) for _, description in rows]
    (drawn,) = Looker(model.geometry, model.properties, model.scale, seed=0).drawn(rows, 1)
    settled, found = judge(model, bare, drawn)
    kinds = np.array([entry.source.partition(" ")[0] for entry, _ in rows])
    for name, one in (("volume as drawn", drawn), ("volume as forecast", settled)):
        off = np.array([_log_volume_off(entry, atoms) for (entry, _), atoms in zip(rows, one.atoms, strict=True)])
        print(f"{name}: mean error of ln V {np.nanmean(off):.3f}, mean absolute {np.nanmean(np.abs(off)):.3f}")
    for k, name in enumerate(model.properties):
        truth = np.array([scaled(name, entry.properties.get(name, np.nan)) for entry, _ in rows])
        there = np.isfinite(truth) & np.isfinite(found.mean[:, k])
        off = found.mean[there, k] - truth[there]
        spread = float(np.std(off / found.std[there, k]))
        print(
            f"{name}: n {len(off)}, mean {np.abs(off).mean():.3f}, median {np.median(np.abs(off)):.3f}, z {spread:.2f}"
        )
        for kind in sorted(set(kinds[there])):
            mine = np.abs(off[kinds[there] == kind])
            print(f"  {kind}: n {len(mine)}, mean {mine.mean():.3f}")


def _log_volume_off(entry: Entry, atoms: Atoms | None) -> float:
    if atoms is None:
        return float("nan")
    drawn = abs(float(np.linalg.det(atoms.lattice))) / len(atoms.places)
    return float(np.log(drawn * len(entry.structure) / entry.structure.volume))


if __name__ == "__main__":
    main()
