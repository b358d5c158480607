"""Relaxation of many crystals side by side: finished ones leave the batch, waiting ones take their places."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Lattice, Structure

from generators.relaxer.forcefield import (
    DEFAULT_MODEL,
    Evaluation,
    Geometry,
    UnfitGeometryError,
    evaluate_geometries,
    geometry_of,
)
from generators.relaxer.walker import Walker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Relaxed:
    """What became of one structure.

    Parameters
    ----------
    index : int
        Position in the input.
    structure : pymatgen.core.Structure or None
        Relaxed, sites in the order of the input; ``None`` with an error.
    energy_ev_per_atom : float or None
    max_force_ev_per_angstrom : float or None
        Largest generalised force, as ASE's stopping rule on a FrechetCellFilter takes it: atoms, and the gradient with
        respect to the log deformation divided by the number of atoms.
    max_stress_gpa : float or None
        Largest stress component.
    steps : int
        Evaluations after the first.
    converged : bool
        Below the tolerances within ``max_steps``.
    volume_change : float or None
        V_relaxed / V_given - 1.
    error : str or None
        Why there is no energy.
    """

    index: int
    structure: Structure | None
    energy_ev_per_atom: float | None
    max_force_ev_per_angstrom: float | None
    max_stress_gpa: float | None
    steps: int
    converged: bool
    volume_change: float | None
    error: str | None = None


@dataclass(frozen=True)
class SinglePoint:
    """Energy, forces and stress of a structure as given.

    Parameters
    ----------
    index : int
        Position in the input.
    evaluation : Evaluation or None
    error : str or None
        Why there is no energy.
    """

    index: int
    evaluation: Evaluation | None
    error: str | None = None


def relax(
    structures: Sequence[Structure],
    *,
    model: str = DEFAULT_MODEL,
    fmax_ev_per_angstrom: float = 0.05,
    max_stress_gpa: float | None = None,
    max_steps: int = 300,
    batch_size: int = 16,
    on_result: Callable[[int, Relaxed], None] | None = None,
) -> list[Relaxed]:
    """Relax positions and cell of many structures together.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
        Any mix of sizes and compositions.
    model : str
        A name in ``MODELS``.
    fmax_ev_per_angstrom : float
        A structure is done when the largest generalised force (ASE's rule on a FrechetCellFilter) is below.
    max_stress_gpa : float or None
        Besides, the largest stress component must be below. ASE's rule alone leaves about
        ``fmax * 160 / (volume per atom)`` GPa: 0.7 GPa at 0.05 eV/Å and 12 Å³.
    max_steps : int
        Evaluations of one structure, the first included not.
    batch_size : int
        Structures in one forward pass.
    on_result : callable, optional
        ``on_result(index, relaxed)`` as soon as each structure is finished, in order of finishing.

    Returns
    -------
    list of Relaxed
        In the order of the input. A structure that explodes, collapses or can't be described gives an error; the
        others never notice.

    Raises
    ------
    ValueError
        If the model is unknown or a limit makes no sense.
    """
    if batch_size < 1 or max_steps < 0 or fmax_ev_per_angstrom <= 0:
        raise ValueError("batch_size must be at least 1, max_steps at least 0 and fmax above 0")
    results: dict[int, Relaxed] = {}

    def finish(result: Relaxed) -> None:
        results[result.index] = result
        if on_result is not None:
            on_result(result.index, result)

    waiting = deque(range(len(structures)))
    active: dict[int, Walker] = {}
    while waiting or active:
        while waiting and len(active) < batch_size:
            index = waiting.popleft()
            try:
                active[index] = Walker(geometry_of(structures[index]))
            except UnfitGeometryError as error:
                finish(_failed(index, 0, str(error)))
        if not active:
            continue
        answers = evaluate_geometries([walker.trial for walker in active.values()], model)
        for (index, walker), answer in zip(list(active.items()), answers, strict=True):
            if isinstance(answer, UnfitGeometryError):
                del active[index]
                finish(_failed(index, walker.evaluations, str(answer)))
                continue
            walker.tell(answer)
            converged = walker.max_force_ev_per_angstrom < fmax_ev_per_angstrom and (
                max_stress_gpa is None or walker.max_stress_gpa < max_stress_gpa
            )
            if converged or walker.stuck or walker.evaluations > max_steps:
                del active[index]
                finish(_finished(index, structures[index], walker, converged=converged))
    return [results[index] for index in range(len(structures))]


def evaluate(structures: Sequence[Structure], *, model: str = DEFAULT_MODEL, batch_size: int = 32) -> list[SinglePoint]:
    """Compute energy, forces and stress of structures as they are, batch by batch.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
    model : str
        A name in ``MODELS``.
    batch_size : int
        Structures in one forward pass.

    Returns
    -------
    list of SinglePoint
        In the order of the input.
    """
    points: list[SinglePoint] = []
    for start in range(0, len(structures), batch_size):
        geometries: dict[int, Geometry] = {}
        errors: dict[int, str] = {}
        chunk = range(start, min(start + batch_size, len(structures)))
        for index in chunk:
            try:
                geometries[index] = geometry_of(structures[index])
            except UnfitGeometryError as error:
                errors[index] = str(error)
        answers = dict(zip(geometries, evaluate_geometries(list(geometries.values()), model), strict=True))
        for index in chunk:
            answer = answers.get(index)
            if isinstance(answer, Evaluation):
                points.append(SinglePoint(index, answer))
            else:
                points.append(SinglePoint(index, None, errors.get(index, str(answer))))
    return points


def _failed(index: int, steps: int, error: str) -> Relaxed:
    return Relaxed(index, None, None, None, None, steps, converged=False, volume_change=None, error=error)


def _finished(index: int, given: Structure, walker: Walker, *, converged: bool) -> Relaxed:
    best = walker.best
    structure = Structure(
        Lattice(best.lattice), given.species, best.positions @ np.linalg.inv(best.lattice), to_unit_cell=True
    )
    return Relaxed(
        index=index,
        structure=structure,
        energy_ev_per_atom=walker.evaluation.energy_ev_per_atom,
        max_force_ev_per_angstrom=walker.max_force_ev_per_angstrom,
        max_stress_gpa=walker.max_stress_gpa,
        steps=walker.evaluations - 1,
        converged=converged,
        volume_change=best.volume / given.volume - 1.0,
    )
