"""What goes wrong with the machine and not with the physics: nothing here changes an energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import GEOMETRY, Change, PwHandler

if TYPE_CHECKING:
    from dft_inputs.espresso.handlers.base import Failure


class PoolsHandler(PwHandler):
    """Half as many pools; more of them where processes have no plane waves left."""

    code = 209
    priority = 10

    def change(self, failure: Failure) -> Change | None:
        """Give another number of pools."""
        now = failure.record.pools or 1
        tried = {now, *(one.before.get("pools") for one in failure.earlier(type(self).__name__))}
        said = failure.text().lower()
        crowded = "plane waves found" in said or "g-vectors" in said
        other = 2 * now if crowded else now // 2
        if other < 1 or other in tried:
            return None
        return Change((f"{other} pools instead of {now}",), pools=other)


class InterruptedHandler(PwHandler):
    """Go on after a kill, from the last finished ionic step; the second time with less memory.

    A process that was killed says nothing. What it had written is used only as far as it is whole.
    """

    code = 106
    priority = 50

    def change(self, failure: Failure) -> Change | None:
        """Give the same again, then less memory."""
        done = len(failure.earlier(type(self).__name__))
        if done == 0:
            return Change(("the same again",))
        if done == 1:
            return Change(("the same again with less memory, in case that was it", *_LESS[0]), dict(_LESS[1]))
        return None


class MemoryHandler(PwHandler):
    """Smaller work spaces, then an eigensolver that wants none."""

    code = 102
    priority = 11

    def change(self, failure: Failure) -> Change | None:
        """Give the next measure."""
        done = len(failure.earlier(type(self).__name__))
        pools = 1 if (failure.record.pools or 1) > 1 else None
        if done == 0:
            return Change(_LESS[0], dict(_LESS[1]), pools=pools)
        if done == 1:
            return Change(("diagonalise with cg, which needs least memory",), {"electrons.diagonalization": "cg"})
        return None


_LESS = (
    ("a Davidson space of 2 vectors a band", "a mixing history of 4"),
    {"electrons.diago_david_ndim": 2, "electrons.mixing_ndim": 4},
)


class CrashHandler(PwHandler):
    """Once more from the last geometry, with nothing that the crashed process wrote but that."""

    code = 210
    priority = 51

    def change(self, failure: Failure) -> Change | None:
        """Give one more try."""
        if failure.earlier(type(self).__name__):
            return None
        return Change(("the same again, with nothing of the crashed run but its geometry",), keep=frozenset({GEOMETRY}))


class ScratchHandler(CrashHandler):
    """The same for files of an earlier run that can't be read."""

    code = 211
    priority = 52


class IncompleteHandler(CrashHandler):
    """The same for a run that said it was done and left part of its result out."""

    code = 611
    priority = 53
