"""What a run of pw.x will need, counted from its input before it runs: k-points, plane waves, bands, memory, pools.

Memory is the sum of the arrays that pw.x itself adds up in its report (``PW/src/memory_report.f90`` of 6.7), so that
both can be compared; tests do. Plane waves fill a sphere: ``volume * ecutwfc^(3/2) / (6 π²)`` in atomic units.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from dft_inputs.espresso.kpoints import irreducible_k_points
from dft_inputs.espresso.units import BOHR_ANG

if TYPE_CHECKING:
    from dft_inputs.espresso.pw_input import PwInput
    from dft_inputs.pseudos import Family

COMPLEX, REAL = 16, 8
"""Bytes of a number."""

PROGRAM_BYTES = 60 * 2**20
"""What a process holds before it allocates anything: program and libraries (pw.x 6.7 of Debian: 50 to 60 MB)."""

_MIXING_HISTORY = 8
"""pw.x's ``mixing_ndim``."""

_DAVIDSON = 2
"""pw.x's ``diago_david_ndim``."""

_BYTES_PER_G = 68
"""Indices, moduli and components of one G-vector."""

_GRID_COPIES = 8
"""Real-space arrays besides the density: potentials, core charge, work space; fitted to pw.x's own sum."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Parameters
    ----------
    n_k_points : int
        Left by symmetry; counted once for each spin.
    n_plane_waves : int
        At each k-point, on average.
    n_bands : int
    n_grid : int
        Points of the dense FFT grid.
    n_projectors : int
        Of all atoms, counted with their magnetic quantum numbers.
    memory_bytes : int
        Of all processes together, program included; the largest that is held at one time.
    operations : float
        Floating-point operations of applying the Hamiltonian once to all bands and orthonormalising them: what a
        self-consistent step costs a handful of times. To compare runs, not to foretell seconds.
    """

    n_k_points: int
    n_plane_waves: int
    n_bands: int
    n_grid: int
    n_projectors: int
    memory_bytes: int
    operations: float

    @property
    def memory_gb(self) -> float:
        """GB of 1e9 bytes."""
        return self.memory_bytes / 1e9


def estimate(inp: PwInput, family: Family, *, processes: int = 1, pools: int = 1) -> Estimate:
    """Count what a run will need.

    Parameters
    ----------
    inp : PwInput
    family : Family
        That it was made with.
    processes : int
        MPI processes.
    pools : int
        Groups of them, each with its own k-points; divides ``processes``.

    Raises
    ------
    ValueError
        If ``pools`` does not divide ``processes``.
    DftError
        201 if an element has no pseudopotential.
    """
    if pools < 1 or processes % pools:
        raise ValueError(f"{processes} processes can't be divided into {pools} pools of one size")
    wave, density = float(inp.get("system.ecutwfc")), float(inp.get("system.ecutrho", 4 * inp.get("system.ecutwfc")))
    spins = 2 if inp.get("system.nspin", 1) == 2 else 1
    gamma = inp.mesh == (1, 1, 1) and inp.shift == (0, 0, 0)
    n_k = spins * irreducible_k_points(inp.structure, inp.mesh, inp.shift, kinds=inp.site_labels)
    volume = inp.structure.volume / BOHR_ANG**3
    half = 2 if gamma else 1  # at Γ alone a plane wave stands for its opposite as well
    n_waves = ceil(volume * wave**1.5 / (6 * pi**2) / half)
    n_g = ceil(volume * density**1.5 / (6 * pi**2) / half)
    n_grid = _grid_points(inp, density)
    n_bands = _bands(inp, family)
    n_beta = sum(_with_m(family.pseudo(site.specie.symbol).n_projectors) for site in inp.structure)

    in_pool = processes // pools
    k_in_pool = ceil(n_k / pools)
    waves = n_waves * n_bands * COMPLEX
    kept = waves * (k_in_pool + 1 if k_in_pool > 1 and inp.get("control.disk_io", "low") in {"low", "none"} else 1)
    density_bytes = spins * (n_grid * REAL + n_g * COMPLEX)
    pool = (
        kept
        + 2 * _DAVIDSON * waves  # trial vectors and the Hamiltonian on them
        + (n_waves + n_bands) * n_beta * COMPLEX
        + 4 * density_bytes  # density, potential, new potential, density that went in
        + spins * 2 * _MIXING_HISTORY * n_g * COMPLEX
        + n_g * (len(inp.species) * COMPLEX + _BYTES_PER_G)
        + _GRID_COPIES * n_grid * REAL
    )
    # subspace matrices are held by every process
    every = PROGRAM_BYTES + 3 * (_DAVIDSON * n_bands) ** 2 * COMPLEX
    fft = 5 * n_grid * np.log2(n_grid)  # usual count of a complex transform; there and back
    return Estimate(
        n_k_points=n_k,
        n_plane_waves=n_waves * half,
        n_bands=n_bands,
        n_grid=n_grid,
        n_projectors=n_beta,
        memory_bytes=pools * (pool + in_pool * every),
        operations=float(n_k * n_bands * (2 * fft / half + 8 * n_waves * (2 * n_beta + 2 * n_bands))),
    )


def choose_pools(n_k_points: int, processes: int) -> int:
    """Choose how many pools to make of some processes.

    Pools do not talk to one another, processes inside a pool do at every transform: a pool of n processes is taken to
    be √n times as fast as one. What counts is when the last pool is done; of equals the larger number wins.

    Parameters
    ----------
    n_k_points : int
        As :class:`Estimate` counts them.
    processes : int

    Returns
    -------
    int
        Divides ``processes``, and is at most ``n_k_points``.

    Examples
    --------
    >>> choose_pools(10, 4), choose_pools(1, 16), choose_pools(6, 6)
    (4, 1, 6)
    """
    if n_k_points < 1 or processes < 1:
        raise ValueError(f"{n_k_points} k-points on {processes} processes: both must be at least 1")
    possible = [n for n in range(1, min(n_k_points, processes) + 1) if processes % n == 0]
    return min(possible, key=lambda pools: (ceil(n_k_points / pools) / sqrt(processes // pools), -pools))


def _bands(inp: PwInput, family: Family) -> int:
    """Count bands as pw.x does if it is not told."""
    if (told := inp.get("system.nbnd")) is not None:
        return int(told)
    electrons = family.valence_electrons(inp.structure.composition.get_el_amt_dict())
    if inp.get("system.occupations", "fixed") == "fixed":
        return ceil(electrons / 2)
    return int(max(floor(1.2 * electrons / 2 + 0.5), floor(electrons / 2 + 0.5) + 4))


def _grid_points(inp: PwInput, density_ry: float) -> int:
    """Count the FFT grid that holds a sphere of radius sqrt(density_ry) 1/bohr."""
    lengths = np.array(inp.structure.lattice.abc) / BOHR_ANG
    return int(np.prod([_fft_size(2 * floor(sqrt(density_ry) * length / (2 * pi)) + 1) for length in lengths]))


def _fft_size(least: int) -> int:
    """Give the next number with no prime factor but 2, 3 and 5."""
    size = least
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _with_m(n_projectors: int) -> int:
    """Count projectors with their magnetic quantum numbers: as families are made, two for s, two for p, two for d..."""
    return sum(2 * (index // 2) + 1 for index in range(n_projectors))
