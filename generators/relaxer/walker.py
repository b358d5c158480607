"""One crystal on its way downhill: quasi-Newton over positions and cell with a trust radius.

Degrees of freedom: positions in the frame of the starting cell, and the symmetric logarithm ``U`` of the deformation
``F = exp(U)``, so that cell = cell0 F and positions = x F. This is ASE's FrechetCellFilter without its rotations; the
stopping rule is ASE's on that filter. The derivative of ``exp`` comes from divided differences (Daleckii and Krein;
N. Higham, Functions of Matrices, SIAM 2008, theorem 3.11). The Hessian is learned by damped BFGS and starts as an
isotropic crystal's, instead of ASE's 70 eV/Å² for everything, which is far too stiff for the cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from generators.relaxer.forcefield import EV_PER_CUBIC_ANGSTROM_IN_GPA, Evaluation, Geometry

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_STIFFNESS_EV_PER_ANGSTROM2 = 25.0
_CELL_STIFFNESS_GPA = 150.0
_SOFTEST_EV = 0.5
"""Least eigenvalue of the Hessian that a step believes in (eV/Å², or eV for strains)."""
_STRAIN_TO_ANGSTROM = 2.0
"""A strain of 0.1 counts as a move of 0.2 Å against the trust radius."""

_RADIUS_MAX_ANGSTROM, _RADIUS_START_ANGSTROM, _RADIUS_MIN_ANGSTROM = 0.3, 0.2, 1e-4
_NOISE_EV_PER_ATOM = 1e-8
"""Smaller rises of the energy are no reason to go back."""

_ROOT_HALF = math.sqrt(0.5)
_SYMMETRIC = np.zeros((6, 3, 3))
"""Orthonormal basis of symmetric matrices."""
for _k, (_a, _b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
    _SYMMETRIC[_k, _a, _b] = _SYMMETRIC[_k, _b, _a] = 1.0 if _a == _b else _ROOT_HALF


@dataclass(frozen=True)
class _Point:
    """A place on the energy surface: total energy in eV, gradient in eV/Å (positions) and eV (strain)."""

    q: Floats
    energy: float
    gradient: Floats
    evaluation: Evaluation


class Walker:
    """State of one relaxation; ``trial`` is what wants evaluating, ``tell`` takes the answer.

    Parameters
    ----------
    start : Geometry
    """

    def __init__(self, start: Geometry) -> None:
        self.numbers = start.numbers
        self._cell0 = start.lattice
        self._n = len(start.numbers)
        self._trial = np.concatenate([start.positions.ravel(), np.zeros(6)])
        self._best: _Point | None = None
        cell = start.volume * _CELL_STIFFNESS_GPA / EV_PER_CUBIC_ANGSTROM_IN_GPA
        self._hessian = np.diag(np.concatenate([np.full(3 * self._n, _STIFFNESS_EV_PER_ANGSTROM2), np.full(6, cell)]))
        self._stiffest = 10.0 * float(self._hessian.max())  # a kink of the surface must not freeze a direction for good
        self._radius = _RADIUS_START_ANGSTROM
        self._stuck = False
        self.evaluations = 0

    @property
    def trial(self) -> Geometry:
        """The geometry that wants evaluating."""
        return self._geometry(self._trial)

    @property
    def best(self) -> Geometry:
        """The geometry of the lowest energy accepted so far."""
        return self._geometry(self._point.q)

    @property
    def evaluation(self) -> Evaluation:
        """Energy, forces and stress at :attr:`best`."""
        return self._point.evaluation

    @property
    def stuck(self) -> bool:
        """Whether no step downhill can be found any more (the surface is not smooth there)."""
        return self._stuck

    @property
    def max_force_ev_per_angstrom(self) -> float:
        """Largest row norm of ASE's generalised forces at :attr:`best`: atoms, and cell gradient / number of atoms."""
        geometry, answer = self.best, self._point.evaluation
        deformation, log_gradient = self._cell_gradient(self._point.q, geometry, answer)
        atoms = np.linalg.norm(answer.forces_ev_per_angstrom @ deformation, axis=1).max()
        cell = np.linalg.norm(log_gradient, axis=1).max() / self._n
        return float(max(atoms, cell))

    @property
    def max_stress_gpa(self) -> float:
        """Largest component of the stress at :attr:`best`, GPa."""
        return float(np.abs(self._point.evaluation.stress_gpa).max())

    def tell(self, answer: Evaluation) -> None:
        """Take the evaluation of :attr:`trial` and choose the next one."""
        self.evaluations += 1
        point = self._point_at(self._trial, answer)
        if self._best is None:
            self._best = point
        else:
            self._learn(self._best, point)
        if not self._stuck:
            self._trial = self._best.q + self._step(self._best)

    @property
    def _point(self) -> _Point:
        if self._best is None:
            raise RuntimeError("nothing has been evaluated yet")
        return self._best

    def _geometry(self, q: Floats) -> Geometry:
        deformation = self._exp(q)[0]
        positions: Floats = q[:-6].reshape(-1, 3) @ deformation
        return Geometry(self.numbers, self._cell0 @ deformation, positions)

    @staticmethod
    def _exp(q: Floats) -> tuple[Floats, Floats, Floats]:
        """Exponentiate the log strain; gives the deformation with eigenvectors and eigenvalues of the log."""
        values, vectors = np.linalg.eigh(np.einsum("k,kab->ab", q[-6:], _SYMMETRIC))
        return (vectors * np.exp(values)) @ vectors.T, vectors, values

    def _cell_gradient(self, q: Floats, geometry: Geometry, answer: Evaluation) -> tuple[Floats, Floats]:
        """Give ``F`` and ``dE/dU`` (eV, 3 x 3): divided differences of exp on ``dE/dF = V σ F⁻¹``."""
        deformation, vectors, values = self._exp(q)
        stress = answer.stress_gpa / EV_PER_CUBIC_ANGSTROM_IN_GPA
        by_deformation = geometry.volume * stress @ np.linalg.inv(deformation)
        difference = values[:, None] - values[None, :]
        near = np.abs(difference) < 1e-7
        exps = np.exp(values)
        divided = np.where(
            near,
            np.exp((values[:, None] + values[None, :]) / 2),
            (exps[:, None] - exps[None, :]) / np.where(near, 1.0, difference),
        )
        return deformation, vectors @ (divided * (vectors.T @ by_deformation @ vectors)) @ vectors.T

    def _point_at(self, q: Floats, answer: Evaluation) -> _Point:
        deformation, log_gradient = self._cell_gradient(q, self._geometry(q), answer)
        by_positions = -answer.forces_ev_per_angstrom @ deformation
        by_strain = np.einsum("kab,ab->k", _SYMMETRIC, log_gradient)
        gradient = np.concatenate([by_positions.ravel(), by_strain])
        return _Point(q, answer.energy_ev_per_atom * self._n, gradient, answer)

    def _learn(self, old: _Point, new: _Point) -> None:
        step = new.q - old.q
        expected = float(old.gradient @ step + 0.5 * step @ self._hessian @ step)
        gained = new.energy - old.energy
        self._update_hessian(step, new.gradient - old.gradient)
        length = self._length(step)
        if gained > _NOISE_EV_PER_ATOM * self._n:  # uphill: stay, and look less far
            self._radius = 0.3 * length
            self._stuck = self._radius < _RADIUS_MIN_ANGSTROM
            return
        self._best = new
        quality = gained / expected if expected < 0 else 0.0
        if quality < 0.25:
            self._radius = max(0.5 * length, 10 * _RADIUS_MIN_ANGSTROM)
        elif quality > 0.7 and length > 0.8 * self._radius:
            self._radius = min(2.0 * self._radius, _RADIUS_MAX_ANGSTROM)

    def _update_hessian(self, step: Floats, change: Floats) -> None:
        """Powell's damped BFGS (J. Nocedal, S. Wright, Numerical Optimization, 2006, procedure 18.2).

        The plain update breaks down near saddles, where the curvature along a step is negative or nearly zero.
        """
        along = self._hessian @ step
        curvature, expected = float(step @ change), float(step @ along)
        if expected < 1e-12:
            return
        if curvature < 0.2 * expected:
            share = 0.8 * expected / (expected - curvature)
            change = share * change + (1.0 - share) * along
            curvature = 0.2 * expected
        self._hessian = self._hessian + np.outer(change, change) / curvature - np.outer(along, along) / expected

    def _step(self, point: _Point) -> Floats:
        values, vectors = np.linalg.eigh(self._hessian)
        step: Floats = -vectors @ (vectors.T @ point.gradient / np.clip(values, _SOFTEST_EV, self._stiffest))
        return step * min(1.0, self._radius / self._length(step))

    @staticmethod
    def _length(step: Floats) -> float:
        """Largest move of an atom, or of the cell in the same measure, Å."""
        atoms = np.linalg.norm(step[:-6].reshape(-1, 3), axis=1).max()
        return float(max(atoms, _STRAIN_TO_ANGSTROM * np.linalg.norm(step[-6:]), 1e-12))
