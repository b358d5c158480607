"""Too few bands, and a metal with fixed occupations."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import DENSITY, GEOMETRY, HISTORY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure

_LEAST_MORE = 4


class BandsHandler(PwHandler):
    """More bands: first pw.x's own number, if another was given, then a fifth more each time.

    An energy that has all its occupied bands does not depend on how many empty ones stand beside them.
    """

    code = 305
    priority = 20

    def change(self, failure: Failure) -> Change | None:
        """Give more bands, three times."""
        done = len(failure.earlier(type(self).__name__))
        given = failure.inp.get("system.nbnd")
        if done >= 3:
            return None
        known = re.findall(r"number of Kohn-Sham states=\s+(\d+)", failure.text())
        if not known:
            if given is None:
                return None
            return Change((f"pw.x's own number of bands instead of {given}",), {"system.nbnd": None})
        now = int(known[-1])
        more = now + max(_LEAST_MORE, math.ceil(0.2 * now))
        return Change(
            (f"{more} bands instead of {now}",),
            {"system.nbnd": more},
            keep=frozenset({GEOMETRY, DENSITY, HISTORY}),
        )


class SmearingHandler(PwHandler):
    """Let occupations be smeared.

    Parameters
    ----------
    smearing : str
        As pw.x calls it.
    degauss_ry : float
        Ry.
    comparable : bool
        Whether these are the protocol's smearing and width: then the energy belongs with its others. ``fixed`` for a
        metal gave no energy at all, so no other of the protocol can have been computed so.
    """

    code = 306
    priority = 21

    def __init__(self, smearing: str = "cold", degauss_ry: float = 0.01, comparable: bool = False) -> None:
        self.smearing = smearing
        self.degauss_ry = degauss_ry
        self.comparable = comparable

    def change(self, failure: Failure) -> Change | None:
        """Give smearing if there is none."""
        now = failure.inp.get("system.occupations", "fixed")
        if now == "smearing":
            return None
        return Change(
            (f"occupations smeared ({self.smearing}, {self.degauss_ry:g} Ry) instead of {now}",),
            {
                "system.occupations": "smearing",
                "system.smearing": self.smearing,
                "system.degauss": self.degauss_ry,
                "system.nbnd": None,
            },
            keep=frozenset({GEOMETRY}),
            comparable=self.comparable,
        )
