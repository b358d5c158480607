"""What the command prints: results to stdout, everything about them to stderr, JSON where a program reads."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from workflows.problems import Problem


def console(*, stderr: bool = False) -> Console:
    """Give a console; rich itself honours NO_COLOR and what is no terminal.

    A pipe gets lines as long as they come, so that a table can be searched with grep.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(stderr=stderr, highlight=False, soft_wrap=not stream.isatty(), width=width)


def say(message: str) -> None:
    """Print one line for people, as it is."""
    sys.stdout.write(f"{message}\n")


def print_json(data: Any) -> None:
    """Print JSON, the same on a terminal and in a pipe."""
    sys.stdout.write(json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def complain(message: str) -> None:
    """Print an error to stderr."""
    from rich.text import Text

    out = console(stderr=True)
    first, *rest = message.split("\n")
    out.print(Text.assemble(("nucleate: ", "bold red"), first))
    for line in rest:
        out.print(Text(line))


def note(message: str) -> None:
    """Print to stderr what a user should know of a result that comes all the same."""
    from rich.text import Text

    console(stderr=True).print(Text.assemble(("note: ", "bold yellow"), message))


@contextmanager
def resumable() -> Iterator[None]:
    """Tell whoever interrupts a long work that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was done is kept, and the same command goes on\n")
        raise


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """List problems for people, errors marked apart from warnings."""
    return [f"  {'warning: ' if problem.level == 'warning' else ''}{problem}" for problem in problems]
