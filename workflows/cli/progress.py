"""How far a campaign is, while workers are at it: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from workflows.cli import output
from workflows.monitor.status import campaign_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database
    from rich.progress import TaskID

    from workflows.monitor.status import RoundStatus, Status

    Show = Callable[[dict[str, Any]], None]

_LOOK_S = 2.0
_LINE_S = 15.0
_STEPS = {
    "reference": "reference set",
    "sample": "sample",
    "screen": "screen",
    "prerelax": "pre-relax",
    "verify": "verify",
}


@contextmanager
def watching(database: Database[Any], campaign: str) -> Iterator[Show]:
    """Give what :func:`workflows.runtime.worker.work` calls with its events; it shows them and the campaign's progress.

    Asking the database costs time, so that is done at most every two seconds.
    """
    screen = output.console()
    if screen.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=screen,
        ) as bars:
            view = _Watch(database, campaign, _Bars(bars).show, bars.console.print, _LOOK_S)
            yield view.event
            view.look()
    else:
        view = _Watch(database, campaign, _Lines().show, output.say, _LINE_S)
        yield view.event
        view.look()


class _Watch:
    """Looks at the campaign now and then, and says at once what somebody should know."""

    def __init__(
        self,
        database: Database[Any],
        campaign: str,
        show: Callable[[Status], None],
        say: Callable[[str], None],
        every_s: float,
    ) -> None:
        self.database = database
        self.campaign = campaign
        self.show = show
        self.say = say
        self.every_s = every_s
        self.looked = 0.0

    def event(self, event: dict[str, Any]) -> None:
        """Take in one event of the workers."""
        told = _in_words(event)
        if told:
            self.say(told)
        if time.monotonic() - self.looked >= self.every_s:
            self.look()

    def look(self) -> None:
        """Show how far the campaign is."""
        self.looked = time.monotonic()
        try:
            self.show(campaign_status(self.database, self.campaign))
        except PyMongoError as error:
            # The workers ride through it; a missing bar is no reason to stop them.
            self.say(f"progress is not known right now: {type(error).__name__}")


def _in_words(event: dict[str, Any]) -> str | None:
    kind = event["event"]
    if kind == "end" and event["state"] == "FIZZLED":
        who = event.get("candidate") or f"round {event.get('round')}"
        return f"failed: {event.get('stage')} of {who} (job {event['fw_id']})"
    if kind == "died":
        return f"worker {event['slot']} ended with {event['code']}; its job is given back and it is started again"
    if kind == "repaired":
        return f"repaired: {event['done']}"
    if kind == "away":
        return "the database is away; waiting for it"
    if kind == "back":
        return "the database is back"
    if kind == "stopping":
        return "stopping as soon as running jobs have ended; once more to give them back at once"
    return None


class _Bars:
    """A bar for each step of the open rounds, and a line for each round that has closed.

    So the newest stays in sight, however many rounds there are.
    """

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[tuple[int, str], TaskID] = {}
        self.told: set[int] = set()

    def show(self, status: Status) -> None:
        """Set the bars to a status."""
        for opened in status.rounds:
            if opened.state == "closed":
                self._close(opened, status.rounds_wanted)
                continue
            for step, progress in opened.progress.items():
                key = (opened.number, step)
                if key not in self.tasks:
                    title = f"round {opened.number} of {status.rounds_wanted}  {_STEPS[step]:<13}"
                    self.tasks[key] = self.bars.add_task(title, total=None, told="")
                told = f"{progress.done}/{progress.wanted}"
                self.bars.update(self.tasks[key], completed=progress.done, total=progress.total, told=told)
                if progress.total is not None and progress.done >= progress.total:
                    self.bars.stop_task(self.tasks[key])

    def _close(self, closed: RoundStatus, wanted: int) -> None:
        if closed.number in self.told:
            return
        self.told.add(closed.number)
        self.bars.console.print(f"round {closed.number} of {wanted}: {_closed(closed)}")
        for key in [key for key in self.tasks if key[0] == closed.number]:
            self.bars.remove_task(self.tasks.pop(key))


def _closed(of: RoundStatus) -> str:
    s = of.summary
    hits = "1 hit" if s.hits == 1 else f"{s.hits} hits"
    return (
        f"{s.sampled} sampled, {s.novel} novel, {s.verified} verified, {s.stable} stable, {hits}, {s.failures} failed"
    )


class _Lines:
    """A line for each change that matters, for logs and pipes."""

    def __init__(self) -> None:
        self.last: dict[int, str] = {}

    def show(self, status: Status) -> None:
        """Print what has changed."""
        for opened in status.rounds:
            if opened.state == "closed":
                line = _closed(opened)
            else:
                steps = [(name, p) for name, p in opened.progress.items() if p.done or p.total]
                line = ", ".join(f"{_STEPS[name]} {p.done}/{p.wanted}" for name, p in steps)
            if self.last.get(opened.number) != line:
                self.last[opened.number] = line
                output.say(f"round {opened.number} of {status.rounds_wanted}: {line}")
