"""custodian's VaspJob that never starts a relaxation over: after a correction it goes on from the last geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custodian.vasp.jobs import VaspJob
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Poscar

from dft_inputs.vasp.geometry import last_geometry

if TYPE_CHECKING:
    from subprocess import Popen

VOLUME_RANGE = (0.5, 2.0)
"""V / V_start within which a geometry is one to go on from; VASP's own tables don't reach further."""

MIN_DISTANCE = 0.5
"""Å; atoms closer than this are on their way into each other."""


class RestartingVaspJob(VaspJob):  # type: ignore[misc] # custodian is untyped
    """Run VASP; a second and later run starts where the one before it was.

    Many of custodian's corrections change INCAR alone and would relax from the beginning again. A correction that
    rewrote POSCAR itself is left to its own plan.
    """

    def __init__(self, vasp_cmd: list[str], **options: Any) -> None:
        super().__init__(vasp_cmd, **options)
        self._started_from: bytes | None = None

    def run(self, directory: str = "./") -> Popen[bytes]:
        """Start VASP in the directory."""
        place = Path(directory)
        poscar = place / "POSCAR"
        now = poscar.read_bytes()
        if self._started_from == now and _relaxes(place):
            geometry = usable_geometry(place)
            if geometry is not None:
                Poscar(geometry, sort_structure=False).write_file(str(poscar), significant_figures=16)
        self._started_from = poscar.read_bytes()
        process: Popen[bytes] = super().run(directory=directory)
        return process

    def terminate(self, directory: str = "./") -> None:
        """End VASP and all its processes, if it was started at all."""
        if getattr(self, "_vasp_process", None) is not None:
            super().terminate(directory)


def usable_geometry(directory: Path, start: Structure | None = None) -> Structure | None:
    """Give the last complete geometry of a run that is one to go on from.

    Parameters
    ----------
    directory : pathlib.Path
    start : pymatgen.core.Structure, optional
        What the run began with; read from its POSCAR if not given.

    Returns
    -------
    pymatgen.core.Structure or None
        ``None`` if no ionic step was finished, or if the geometry has left the sane range.
    """
    geometry = last_geometry(directory)
    if geometry is None:
        return None
    if start is None:
        poscar = directory / "POSCAR"
        start = Structure.from_str(poscar.read_text(encoding="utf-8"), fmt="poscar") if poscar.is_file() else geometry
    ratio = geometry.volume / start.volume
    if geometry.composition != start.composition or not VOLUME_RANGE[0] <= ratio <= VOLUME_RANGE[1]:
        return None
    if len(geometry) > 1 and geometry.distance_matrix[np.triu_indices(len(geometry), 1)].min() < MIN_DISTANCE:
        return None
    return geometry


def _relaxes(directory: Path) -> bool:
    incar = Incar.from_file(str(directory / "INCAR"))
    return int(incar.get("NSW", 0)) > 0 and int(incar.get("IBRION", -1)) in {1, 2, 3}
