"""The cell left what grids and tables were made for, or plane waves no longer fit to the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import DENSITY, GEOMETRY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure

_DEFAULT_CELL_FACTOR = 2.0
_MOST_CELL_FACTOR = 4.0
_CUTOFF_STEP = 1.25


class CellHandler(PwHandler):
    """Go on from the last geometry, so that tables are made for it; then larger tables and shorter steps.

    ``cell_factor`` is the size of a table; the energy does not depend on it.
    """

    code = 511
    priority = 62

    def change(self, failure: Failure) -> Change | None:
        """Give the next measure."""
        done = len(failure.earlier(type(self).__name__))
        keep = frozenset({GEOMETRY})
        if done >= 3:
            return None
        if done == 0 or failure.inp.calculation != "vc-relax":
            return Change(("make grids and tables anew", "begin a fresh minimiser"), keep=keep)
        now = float(failure.inp.get("cell.cell_factor", _DEFAULT_CELL_FACTOR))
        larger = max(now, min(1.5 * max(now, _DEFAULT_CELL_FACTOR), _MOST_CELL_FACTOR))
        return Change(
            (f"cell_factor {larger:g} instead of {now:g}", "steps of at most 0.3 bohr"),
            {"cell.cell_factor": larger, "ions.trust_radius_max": 0.3, "ions.trust_radius_ini": 0.2},
            keep=keep,
        )


class BasisHandler(PwHandler):
    """Relax again from where it ended, with plane waves chosen for that cell; if that doesn't help, with more of them.

    More plane waves are another precision than the protocol's, so the energy no longer belongs with its others.
    """

    code = 610
    priority = 70

    def change(self, failure: Failure) -> Change | None:
        """Give two repeats, then two higher cutoffs."""
        done = len(failure.earlier(type(self).__name__))
        keep = frozenset({GEOMETRY, DENSITY})
        if done < 2:
            return Change(("repeat the relaxation with plane waves for the relaxed cell",), keep=keep)
        if done >= 4:
            return None
        now = float(failure.inp.get("system.ecutwfc"))
        density = float(failure.inp.get("system.ecutrho", 4.0 * now))
        return Change(
            (f"ecutwfc {_CUTOFF_STEP * now:g} Ry instead of {now:g}",),
            {"system.ecutwfc": _CUTOFF_STEP * now, "system.ecutrho": _CUTOFF_STEP * density},
            keep=frozenset({GEOMETRY}),
            comparable=False,
        )
