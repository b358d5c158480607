"""What an earlier run left that a later one can go on from: geometry, charge density, the minimiser's history.

pw.x's own ``restart_mode='restart'`` is not enough: after ``kill -9`` it silently starts over from the geometry of the
input. Tried with pw.x 6.7: given the last geometry in the input, ``ion_positions='from_input'``, and of ``outdir``
only the charge density and the file of the BFGS minimiser, it goes on step by step, after every kind of end. It needs
no wave functions, so none are kept, and grids and tables are made anew for the cell as it now is.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dft_inputs.causes import DftError
from dft_inputs.espresso.density import density_of
from dft_inputs.espresso.geometry import last_geometry
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import INPUT, RunRecord
from dft_inputs.espresso.units import BOHR_ANG

if TYPE_CHECKING:
    from pymatgen.core import Structure

_BESIDE_DENSITY = ("occup.txt", "paw.txt")
"""Part of the density with DFT+U and with PAW."""

_NO_STEP = 1e-7
"""Fractional, or bohr: below the digits that pw.x prints of a geometry."""

_ENERGY_LINE = 5
"""Of the minimiser's file: positions, gradient, three counters, then the energy (Ry) of the last step."""


@dataclass(frozen=True)
class Leftover:
    """What a directory offers to a later run.

    Parameters
    ----------
    directory : pathlib.Path
    structure : pymatgen.core.Structure or None
        Where the next ionic step was to begin; ``None`` if there is not even an input.
    density : pathlib.Path or None
        ``*.save`` directory with a complete charge density.
    minimiser : pathlib.Path or None
        File of the BFGS minimiser that belongs to :attr:`structure`.
    """

    directory: Path
    structure: Structure | None = None
    density: Path | None = None
    minimiser: Path | None = None


def outdir_of(inp: PwInput, directory: Path) -> Path:
    """Give pw.x's own directory of a run."""
    outdir = Path(str(inp.get("control.outdir", "./out")))
    return outdir if outdir.is_absolute() else directory / outdir


def remove(outdir: Path, prefix: str, *, keep: Path | None = None) -> None:
    """Remove what pw.x wrote under a prefix, and the directory if that was all there was in it.

    An ``outdir`` may be anybody's, ``/tmp`` for one: nothing else is touched.
    """
    for path in outdir.glob(f"{prefix}.*"):
        if path == keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if outdir.is_dir() and not any(outdir.iterdir()):
        outdir.rmdir()


def left_by(directory: Path, inp: PwInput) -> Leftover:
    """Look at what a run left.

    Parameters
    ----------
    directory : pathlib.Path
        Of the earlier run, however it ended.
    inp : PwInput
        What is to be run next: what does not fit to it (another number of spins) is not offered.
    """
    record = RunRecord.read(directory)
    outdir = Path(record.outdir) if record.outdir else outdir_of(inp, directory)
    prefix = str(inp.get("control.prefix", "pw"))
    structure = _geometry(directory)
    save = outdir / f"{prefix}.save"
    density = density_of(save)
    fits = density is not None and density.n_spins == _spins(inp)
    if any(one.hubbard_u_ev is not None for one in inp.species):
        fits = fits and (save / "occup.txt").is_file()
    minimiser = outdir / f"{prefix}.bfgs"
    return Leftover(
        directory=directory,
        structure=structure,
        density=save if fits else None,
        minimiser=minimiser if structure is not None and _belongs(minimiser, structure) else None,
    )


def continue_from(
    inp: PwInput, left: Leftover, directory: Path, *, history: bool = True
) -> tuple[PwInput, tuple[str, ...]]:
    """Prepare a run that goes on from what another left.

    Parameters
    ----------
    inp : PwInput
        Without geometry or restart of its own accord; both are set here.
    left : Leftover
    directory : pathlib.Path
        Of the new run. What its ``outdir`` holds of this prefix makes room for copies; it may be the same directory.
    history : bool
        Whether the minimiser's history is wanted: not if it is what failed.

    Returns
    -------
    PwInput
    tuple of str
        What was taken beside the geometry: ``charge density``, ``minimiser history``.
    """
    relaxes = inp.calculation in {"relax", "vc-relax"}
    if left.structure is not None and relaxes:
        inp = inp.changed(structure=left.structure)
    prefix = str(inp.get("control.prefix", "pw"))
    outdir = outdir_of(inp, directory)
    with_history = history and relaxes and left.minimiser is not None and left.density is not None
    taken: dict[str, bytes] = {}
    if left.density is not None:
        for name in ("charge-density.dat", *_BESIDE_DENSITY):
            if (left.density / name).is_file():
                taken[f"{prefix}.save/{name}"] = (left.density / name).read_bytes()
    if with_history and left.minimiser is not None:
        text = left.minimiser.read_text(encoding="utf-8")
        taken[f"{prefix}.bfgs"] = (_forget_energy(text) if inp.calculation == "vc-relax" else text).encode()
    remove(outdir, prefix)
    for name, data in taken.items():
        (outdir / name).parent.mkdir(parents=True, exist_ok=True)
        (outdir / name).write_bytes(data)
    inp = inp.changed(
        {
            "control.restart_mode": "restart" if with_history else "from_scratch",
            "electrons.startingpot": "file" if left.density is not None else None,
        }
    )
    if relaxes:
        inp = inp.changed({"ions.ion_positions": "from_input" if with_history else None})
    return inp, ("charge density",) * (left.density is not None) + ("minimiser history",) * with_history


def _geometry(directory: Path) -> Structure | None:
    """Give the geometry to go on from: that of the input if no step was finished."""
    structure = last_geometry(directory)
    if structure is not None:
        return structure
    with contextlib.suppress(DftError, FileNotFoundError):
        return PwInput.read(directory / INPUT).structure
    return None


def _spins(inp: PwInput) -> int:
    return 4 if inp.get("system.noncolin", False) else int(inp.get("system.nspin", 1))


def _belongs(path: Path, structure: Structure) -> bool:
    """Whether the file of the minimiser is whole and tells of the step before a structure.

    It holds positions (fractional, then the cell in bohr) and gradient, 3 N + 9 numbers each, three counters, the
    energy, the same two of the step before, the inverse Hessian, and two numbers about the trust radius. A history that
    ends at the very structure to go on from would make the minimiser divide by a step of no length.
    """
    try:
        numbers = [float(word) for word in path.read_text(encoding="utf-8").replace("D", "E").split()]
    except (OSError, UnicodeDecodeError, ValueError):
        return False
    degrees = 3 * len(structure) + 9
    if len(numbers) < 4 * degrees + degrees * degrees + 6 or not np.isfinite(numbers).all():
        return False
    coords = np.reshape(numbers[: degrees - 9], (-1, 3)) - structure.frac_coords
    cell = np.sort(numbers[degrees - 9 : degrees]) - np.sort(structure.lattice.matrix.ravel() / BOHR_ANG)
    step = max(np.abs(coords - np.round(coords)).max(), np.abs(cell).max())
    return bool(step > _NO_STEP)


def _forget_energy(text: str) -> str:
    """Raise the energy of the last step so that it can't veto the next.

    With a variable cell that energy belongs to plane waves chosen for another cell. The next one, with plane waves
    chosen anew, may lie above it though the step was good, and the minimiser would go back. Gradients, and the Hessian
    with them, hardly depend on the choice.
    """
    lines = text.splitlines()
    lines[_ENERGY_LINE] = f"  {float(lines[_ENERGY_LINE].replace('D', 'E')) + 1.0:.12f}"
    return "\n".join(lines) + "\n"
