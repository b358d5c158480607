"""Atomic Rydberg units, which pw.x speaks, against eV and Å, which everything else here speaks.

CODATA 2018 (Tiesinga, Mohr, Newell and Taylor, Rev. Mod. Phys. 93, 025010 (2021)). Written out, not taken from a
package whose next release may know better: the same protocol must make the same input for years.
"""

from __future__ import annotations

RY_EV = 13.605693122994
"""eV."""

BOHR_ANG = 0.529177210903
"""Å."""

RY_BOHR_EV_ANG = RY_EV / BOHR_ANG
"""Ry/bohr in eV/Å."""
