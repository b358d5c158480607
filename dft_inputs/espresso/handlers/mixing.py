"""The electronic cycle came to its limit, or the charge mixer broke down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dft_inputs.espresso.handlers.base import DENSITY, GEOMETRY, HISTORY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure

_DEFAULT_BETA = 0.7
_DEFAULT_MAXSTEP = 100
_LEAST_BETA = 0.08
_MOST_STEPS = 400

_CONVERGING = 0.1
"""Accuracy at the end against the middle of a cycle: below this it was on its way and only wanted more iterations."""

_SPOILED = 1e-2
"""Ry an electron; a density with a worse accuracy than this is no better start than the atoms'."""


class ScfHandler(PwHandler):
    """More iterations where the cycle was on its way; otherwise a smaller step, then a mixing that knows of surfaces.

    Mixing is the way to self-consistency and no part of it: the energy does not depend on it.
    """

    code = 410
    priority = 40

    def change(self, failure: Failure) -> Change | None:
        """Give the next measure."""
        inp = failure.inp
        beta = float(inp.get("electrons.mixing_beta", _DEFAULT_BETA))
        most = int(inp.get("electrons.electron_maxstep", _DEFAULT_MAXSTEP))
        trail = accuracies(failure.text())
        more = min(max(2 * most, _DEFAULT_MAXSTEP), _MOST_STEPS)
        values: dict[str, Any] = {"electrons.electron_maxstep": more} if more > most else {}
        actions = [f"{more} iterations instead of {most}"] if values else []
        keep = {GEOMETRY, HISTORY}
        if trail and trail[-1] < _SPOILED * sum(1 for _ in inp.structure):
            keep |= {DENSITY}
            actions.append("begin with the charge density that it came to")
        if values and is_converging(trail):
            return Change(tuple(actions), values, keep=frozenset(keep))
        smaller = beta / 2.0
        if smaller >= _LEAST_BETA:
            values["electrons.mixing_beta"] = smaller
            actions.append(f"mixing_beta {smaller:g} instead of {beta:g}")
            return Change(tuple(actions), values, keep=frozenset(keep))
        if inp.get("electrons.mixing_mode", "plain") != "local-TF":
            values |= {"electrons.mixing_mode": "local-TF", "electrons.mixing_beta": 0.2}
            actions.append("mixing local-TF with mixing_beta 0.2")
            return Change(tuple(actions), values, keep=frozenset(keep))
        return None


class ChargeMixingHandler(PwHandler):
    """Begin again with the atoms' density and mix more carefully."""

    code = 411
    priority = 41

    def change(self, failure: Failure) -> Change | None:
        """Give the next measure."""
        done = len(failure.earlier(type(self).__name__))
        if done >= 2:
            return None
        beta = (0.3, 0.1)[done]
        return Change(
            (f"mix plainly with mixing_beta {beta:g} and a history of 4", "begin with the atoms' charge density"),
            {"electrons.mixing_beta": beta, "electrons.mixing_mode": "plain", "electrons.mixing_ndim": 4},
            keep=frozenset({GEOMETRY}),
        )


def accuracies(text: str) -> list[float]:
    """Give the estimated accuracy (Ry) after each iteration of the last electronic cycle in an output."""
    cycle = text[text.rfind("Self-consistent Calculation") :]
    return [float(number) for number in re.findall(r"estimated scf accuracy\s+<\s+(\S+) Ry", cycle)]


def is_converging(trail: list[float]) -> bool:
    """Tell whether the second half of a cycle came closer by more than a factor of ten."""
    return len(trail) > 3 and trail[-1] < _CONVERGING * trail[len(trail) // 2]
