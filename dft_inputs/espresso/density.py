"""Whether a charge density of pw.x is whole, and what it belongs to.

A process that is killed in the middle of a write leaves a file that pw.x reads as far as it goes. The file is a Fortran
sequential one: each record stands between two copies of its length in bytes. Records: ``gamma_only, number of plane
waves, spins`` (4-byte integers); the reciprocal lattice (9 doubles); Miller indices; one record of complex amplitudes a
spin (``Modules/io_base.f90`` of Quantum ESPRESSO 6.7, ``write_rhog``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


@dataclass(frozen=True)
class Density:
    """Header of a complete charge density.

    Parameters
    ----------
    n_plane_waves : int
    n_spins : int
        1, 2, or 4 for noncollinear spins.
    """

    n_plane_waves: int
    n_spins: int


def density_of(save: Path) -> Density | None:
    """Look at the charge density in a ``*.save`` directory.

    Returns
    -------
    Density or None
        ``None`` if there is none, or not all of it.
    """
    path = save / "charge-density.dat"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _record(file, size)
            if header is None or len(header) != 12:
                return None
            _, n_plane_waves, n_spins = struct.unpack("<3i", header)
            wanted = [72, 12 * n_plane_waves, *[16 * n_plane_waves] * n_spins]
            if n_spins not in {1, 2, 4} or any(_skip(file) != length for length in wanted):
                return None
            return Density(n_plane_waves, n_spins) if file.tell() == size else None
    except OSError:
        return None


def _record(file: BinaryIO, size: int) -> bytes | None:
    length = _marker(file)
    if length is None or length > size:
        return None
    data = file.read(length)
    return data if _marker(file) == length else None


def _skip(file: BinaryIO) -> int | None:
    """Give the length of the next record, without reading it; ``None`` if it is not whole."""
    length = _marker(file)
    if length is None or length < 0:
        return None
    file.seek(length, 1)
    return length if _marker(file) == length else None


def _marker(file: BinaryIO) -> int | None:
    data = file.read(4)
    return int(struct.unpack("<i", data)[0]) if len(data) == 4 else None
