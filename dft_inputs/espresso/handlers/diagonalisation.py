"""The eigensolver broke down: another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import DENSITY, GEOMETRY, HISTORY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure

SOLVERS = ("david", "paro", "cg")
"""In the order in which they are tried. Davidson is the fastest, conjugate gradients the slowest and the most robust.

pw.x 6.7 also has ``ppcg``: by design nearest to Davidson, and so likeliest to break where that did."""


class DiagonalisationHandler(PwHandler):
    """Go through the eigensolvers that have not failed yet; the energy does not depend on which it was."""

    code = 401
    priority = 30

    def change(self, failure: Failure) -> Change | None:
        """Give the next eigensolver."""
        now = str(failure.inp.get("electrons.diagonalization", SOLVERS[0]))
        failed = {now, *(one.before["electrons.diagonalization"] for one in failure.earlier(type(self).__name__))}
        left = [one for one in SOLVERS if one not in failed and not (one == SOLVERS[0] and None in failed)]
        if not left:
            return None
        return Change(
            (f"diagonalise with {left[0]} instead of {now}",),
            {"electrons.diagonalization": left[0]},
            # the density of the last finished step is sound; one that a broken solver made is not written
            keep=frozenset({GEOMETRY, DENSITY, HISTORY}),
        )
