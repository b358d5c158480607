"""What the commands of nucleate take, for what is written about them."""

from __future__ import annotations

import typer

from workflows.cli.main import app


def options_of(name: str) -> set[str]:
    """Give the options of a command (``reference build`` is one), those that switch something off among them."""
    known = typer.main.get_command(app)
    for part in name.split():
        known = known.commands.get(part)  # type: ignore[attr-defined]
        assert known is not None, name
    return {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
