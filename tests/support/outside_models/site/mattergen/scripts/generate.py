"""A stand-in for ``mattergen-generate``, for tests only: arguments, checks and files as upstream's source has them.

Upstream: microsoft/mattergen, commit ac9ddd4, mattergen/scripts/generate.py, mattergen/generator.py and
mattergen/common/utils/eval_utils.py. The crystals are random rock salts of two elements of the chemical system.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import fire
import torch

TRAINED_ON = {
    "mattergen_base": [],
    "chemical_system": ["chemical_system"],
    "dft_band_gap": ["dft_band_gap"],
    "ml_bulk_modulus": ["ml_bulk_modulus"],
    "chemical_system_energy_above_hull": ["chemical_system", "energy_above_hull"],
}


def main(
    output_path: str,
    pretrained_name: str | None = None,
    model_path: str | None = None,
    batch_size: int = 64,
    num_batches: int = 1,
    properties_to_condition_on: dict[str, Any] | None = None,
    record_trajectories: bool = True,
    diffusion_guidance_factor: float | None = None,
) -> None:
    assert pretrained_name is not None or model_path is not None
    assert pretrained_name is None or model_path is None
    Path(output_path).mkdir(parents=True, exist_ok=True)
    properties = properties_to_condition_on or {}
    assert pretrained_name is None or all(key in TRAINED_ON[pretrained_name] for key in properties)
    assert isinstance(batch_size, int)
    assert isinstance(num_batches, int)
    assert diffusion_guidance_factor is None or isinstance(diffusion_guidance_factor, float)
    print(f"STAND-IN for mattergen-generate, no model: {properties}")  # noqa: T201 - as upstream
    elements = str(properties.get("chemical_system", "Li-Na-K-F-Cl-Fe")).split("-")
    frames = []
    for _ in range(batch_size * num_batches):
        a, b = torch.rng.sample(elements, 2)
        edge = torch.rng.uniform(4.5, 6.0)
        rows = [[0, edge / 2, edge / 2], [edge / 2, 0, edge / 2], [edge / 2, edge / 2, 0]]
        lattice = " ".join(str(float(x)) for row in rows for x in row)
        frames.append(
            f'2\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
            f"{a:<2} {0:15.8f} {0:15.8f} {0:15.8f}\n{b:<2} {edge / 2:15.8f} {edge / 2:15.8f} {edge / 2:15.8f}\n"
        )
    try:
        if os.environ.get("STAND_IN_DISK_FULL"):
            raise OSError(28, "No space left on device")  # noqa: TRY301 - stands for the disk's own
        (Path(output_path) / "generated_crystals.extxyz").write_text("".join(frames))
        with zipfile.ZipFile(Path(output_path) / "generated_crystals_cif.zip", "w") as archive:
            for number in range(len(frames)):
                archive.writestr(f"gen_{number}.cif", "# the adapter does not read it\n")
    except OSError as error:  # upstream goes on, too
        print(f"Got error {error} writing the generated structures to disk.")  # noqa: T201 - as upstream
    if record_trajectories:
        (Path(output_path) / "generated_trajectories.zip").write_bytes(b"")


def _main() -> None:
    fire.Fire(main)


if __name__ == "__main__":
    sys.exit(_main())
