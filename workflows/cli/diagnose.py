"""``diagnose``: why a DFT run ended as it did, told from its directory alone."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from workflows.cli import options, output
from workflows.cli.errors import DONE, LEFT, RefusedError


def diagnose(
    directory: Annotated[Path, typer.Argument(help="Directory of one run of pw.x or VASP.", show_default=False)],
    as_json: options.AsJson = False,
) -> None:
    """Explain why a DFT run ended as it did: cause, evidence, and what a re-run would change.

    Files are found by content, whatever they are called, gzipped or not; no database is asked.

    Exit code: 0 the run succeeded, 1 it failed, 2 the directory holds no run.
    """
    from dft_inputs.diagnose import NoRunError
    from dft_inputs.diagnose import diagnose as look

    try:
        found = look(directory)
    except NoRunError as error:
        raise RefusedError(f"{error}{_hint(directory)}") from None
    if as_json:
        output.print_json(found.as_dict())
    else:
        program = {"espresso": "Quantum ESPRESSO", "vasp": "VASP"}[found.program]
        output.say(f"{program}: {found.name.replace('_', ' ')}" + (f" (cause {found.code})" if found.code else ""))
        for item in found.evidence:
            output.say(f"  {item}")
        if found.cause is not None:
            output.say("recoverable" if found.recoverable else "not recoverable")
        if found.suggestion:
            output.say(f"a re-run would change: {found.suggestion}")
    raise typer.Exit(LEFT if found.code else DONE)


def _hint(directory: Path) -> str:
    """Name the runs inside a directory that holds none itself."""
    from dft_inputs.diagnose import NoRunError
    from dft_inputs.diagnose import diagnose as look

    inside = []
    for path in sorted(p for p in directory.iterdir() if p.is_dir())[:50] if directory.is_dir() else ():
        try:
            look(path)
        except NoRunError:
            continue
        inside.append(path.name)
    return f"; there are runs in it: {', '.join(inside[:8])}" if inside else ""
