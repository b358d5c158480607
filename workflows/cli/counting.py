"""A count that goes up, with the time that is left: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from workflows.cli import output

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress

LINE_S = 15.0


class Counting:
    """Shows how many of how many are done, on stderr, so that what a command prints can be piped.

    Parameters
    ----------
    verb : str
        What was done to what is counted.
    """

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self._screen = output.console(stderr=True)
        self._bars: Progress | None = None
        self._first: tuple[int, float] | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Begin; nothing is shown before there is something to count."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was, also when the command fails."""
        if self._bars is not None:
            self._bars.stop()

    def show(self, done: int, total: int | None = None) -> None:
        """Show a count.

        Parameters
        ----------
        done : int
            What was there before this run included.
        total : int, optional
            Unknown if ``None``.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
        if self._screen.is_terminal:
            self._bar(done, total)
        elif now - self._told >= LINE_S:
            self._told = now
            self._screen.print(f"{self.verb}: {in_words(done, total, self._left(done, total, now))}")

    def _left(self, done: int, total: int | None, now: float) -> float | None:
        """Estimate the seconds left from what this run has done; what it found done says nothing of its pace."""
        if total is None or self._first is None or done <= self._first[0]:
            return None
        return (now - self._first[1]) / (done - self._first[0]) * (total - done)

    def _bar(self, done: int, total: int | None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        now = time.monotonic()
        told = in_words(done, total, self._left(done, total, now))
        if self._bars is None:
            columns = (TextColumn(self.verb), BarColumn(24), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
            self._bars = Progress(*columns, console=self._screen, transient=True)
            self._bars.add_task(self.verb, total=total, told=told)
            self._bars.start()
        self._bars.update(self._bars.task_ids[0], completed=done, total=total, told=told)


def in_words(done: int, total: int | None, left_s: float | None) -> str:
    """Say how far it is.

    Examples
    --------
    >>> in_words(120, 480, 5400.0)
    '120 of 480, about 1 h 30 min left'
    """
    if total is None:
        return str(done)
    if left_s is None or done >= total:
        return f"{done} of {total}"
    minutes = max(1, round(left_s / 60))
    left = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{done} of {total}, about {left} left"
