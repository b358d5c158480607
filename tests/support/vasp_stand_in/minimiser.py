"""BFGS as Nocedal and Wright have it (Numerical Optimization, ch. 6), on positions and cell; nothing slow to import."""

from __future__ import annotations

from typing import Any

import numpy as np

STIFFNESS = 70.0
"""eV/Å²; first guess of the Hessian's diagonal."""

MAX_STEP = 0.1
"""Å; longest way of an atom (or of the cell's rows) in one step."""


class Minimiser:
    """Moves atoms, or a filter on atoms and cell, one step at a time."""

    def __init__(self, moving: Any) -> None:
        self.moving = moving
        size = 3 * len(moving)
        self.hessian = STIFFNESS * np.eye(size)
        self.before: tuple[Any, Any] | None = None

    def step(self) -> None:
        place, forces = self.moving.get_positions().ravel(), self.moving.get_forces().ravel()
        if self.before is not None:
            moved, change = place - self.before[0], self.before[1] - forces
            curvature = moved @ change
            if curvature > 1e-12:  # else the surface bends the wrong way here and teaches nothing
                seen = self.hessian @ moved
                self.hessian += np.outer(change, change) / curvature - np.outer(seen, seen) / (moved @ seen)
        self.before = (place, forces)
        way = np.linalg.solve(self.hessian, forces).reshape(-1, 3)
        longest = np.linalg.norm(way, axis=1).max()
        way *= min(1.0, MAX_STEP / longest) if longest > 0 else 1.0
        self.moving.set_positions(place.reshape(-1, 3) + way)
