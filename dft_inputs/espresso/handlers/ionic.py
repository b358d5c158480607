"""The relaxation came to its limit of steps, or the minimiser lost its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import DENSITY, GEOMETRY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure

_DEFAULT_STEPS = 50
_MOST_STEPS = 400
_DEFAULT_CONV_THR = 1e-6
_LEAST_CONV_THR = 1e-13


class IonicStepsHandler(PwHandler):
    """Go on where it stopped, with more steps allowed."""

    code = 501
    priority = 60

    def change(self, failure: Failure) -> Change | None:
        """Give twice the steps, three times."""
        now = int(failure.inp.get("control.nstep", _DEFAULT_STEPS))
        more = min(max(2 * now, _DEFAULT_STEPS), _MOST_STEPS)
        if len(failure.earlier(type(self).__name__)) >= 3:
            return None
        return Change((f"{more} more ionic steps instead of {now}",), {"control.nstep": more})


class MinimiserHandler(PwHandler):
    """A fresh BFGS on quieter forces; then, twice, finer steps and quieter forces still.

    Near the minimum BFGS fails of forces that are noise. A tighter scf quietens them, and is no other physics. Damped
    dynamics of the cell (``damp-w``) are no way out: silicon pulled out of shape wanted more than 200 steps of it.
    """

    code = 510
    priority = 61

    def change(self, failure: Failure) -> Change | None:
        """Give the next measure."""
        done = len(failure.earlier(type(self).__name__))
        keep = frozenset({GEOMETRY, DENSITY})
        now = float(failure.inp.get("electrons.conv_thr", _DEFAULT_CONV_THR))
        if done == 0:
            tighter = max(now / 10.0, _LEAST_CONV_THR)
            return Change(
                ("begin a fresh minimiser", f"conv_thr {tighter:g} Ry instead of {now:g}"),
                {"electrons.conv_thr": tighter},
                keep=keep,
            )
        if done == 1:
            tighter = max(now / 100.0, _LEAST_CONV_THR)
            return Change(
                (f"conv_thr {tighter:g} Ry instead of {now:g}", "trust radius from 0.1 bohr, down to 1e-5"),
                {
                    "electrons.conv_thr": tighter,
                    "ions.trust_radius_ini": 0.1,
                    "ions.trust_radius_max": 0.4,
                    "ions.trust_radius_min": 1e-5,
                },
                keep=keep,
            )
        if done == 2:
            tighter = max(now / 10.0, _LEAST_CONV_THR)
            return Change(
                (f"conv_thr {tighter:g} Ry instead of {now:g}", "steps of at most 0.1 bohr"),
                {"electrons.conv_thr": tighter, "ions.trust_radius_ini": 0.02, "ions.trust_radius_max": 0.1},
                keep=keep,
            )
        return None
