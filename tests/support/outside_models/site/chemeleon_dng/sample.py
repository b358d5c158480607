"""A stand-in for Chemeleon-DNG's ``sample``, for tests only: arguments, checks and files as upstream's source has them.

Upstream: hspark1212/chemeleon-dng, commit 554caa9, chemeleon_dng/sample.py. Atoms are put on a line in a wide cubic
cell: crystals that pass as crystals and mean nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fire
import torch


def cif(symbols: list[str]) -> str:
    spacing = torch.rng.uniform(2.6, 3.0)
    edge = spacing * len(symbols)
    lines = ["data_image0"]
    lines += [f"_cell_length_{k} {x}" for k, x in zip("abc", (edge, 4.0, 4.0))]  # noqa: B905
    lines += [f"_cell_angle_{k} 90.0" for k in ("alpha", "beta", "gamma")]
    lines += [
        '_space_group_name_H-M_alt "P 1"',
        "_space_group_IT_number 1",
        "loop_",
        "  _space_group_symop_operation_xyz",
    ]
    lines += ["  'x, y, z'", "loop_", "  _atom_site_type_symbol", "  _atom_site_label"]
    lines += ["  _atom_site_symmetry_multiplicity", "  _atom_site_fract_x", "  _atom_site_fract_y"]
    lines += ["  _atom_site_fract_z", "  _atom_site_occupancy"]
    for k, symbol in enumerate(symbols):
        lines.append(f"  {symbol} {symbol}{k + 1} 1.0 {k / len(symbols)} 0.0 0.0 1.0000")
    return "\n".join(lines) + "\n"


def expand(formula: str) -> list[str]:
    return [s for s, count in re.findall(r"([A-Z][a-z]?)([0-9]*)", formula) for _ in range(int(count or 1))]


def sample(
    task: str,
    num_samples: int = 100,
    batch_size: int | None = None,
    formulas: Any = None,
    num_atom_distribution: Any = "mp-20",
    model_path: str | None = None,
    output_dir: str = "./results",
    device: str | None = None,
    save_json: bool = True,
) -> None:
    assert model_path is not None, "the stand-in downloads nothing"
    trained_for = Path(model_path).read_text().strip()
    assert trained_for == task.lower(), f"Checkpoint task does not match the provided task '{task}'."
    print(f"STAND-IN for Chemeleon-DNG, no model: {task} on {device}")  # noqa: T201 - as upstream
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    if task == "csp":
        assert formulas is not None, "Formulas must be provided for CSP task."
        if isinstance(formulas, str):
            formulas = tuple(formulas.split(","))
        cells = [expand(f.strip()) for f in formulas for _ in range(num_samples)]
    else:
        sizes = num_atom_distribution
        if isinstance(sizes, str):
            assert sizes == "mp-20"
            sizes = [torch.rng.choice([2, 4, 6, 8, 20]) for _ in range(num_samples)]
        assert len(sizes) == num_samples
        cells = [[torch.rng.choice(["Na", "Cl", "Fe"]) for _ in range(size)] for size in sizes]
    for number, symbols in enumerate(cells):
        formula = "".join(f"{s}{symbols.count(s)}" for s in sorted(set(symbols)))
        (output / f"sample_{number}_{formula}.cif").write_text(cif(symbols))
    assert not save_json, "the stand-in writes no JSON"


if __name__ == "__main__":
    fire.Fire(sample)
