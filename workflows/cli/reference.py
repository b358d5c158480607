"""``reference``: the competing phases that hulls are made of, once per engine and protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.reference import ReferenceSet

app = typer.Typer(help="Reference sets: the competing phases that hulls are made of.", no_args_is_help=True)

Systems = Annotated[
    list[str], typer.Argument(help="Chemical systems such as Mg-Al-O, or a campaign file.", metavar="SYSTEM...")
]
EngineName = Annotated[str, typer.Option("--engine", help="mlip, vasp or espresso.")]
ProtocolName = Annotated[str, typer.Option("--protocol", help="fast, balanced or stringent.")]
Into = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where the set is kept (default: your data directory).", metavar="DIR"),
]


@app.command()
def build(
    systems: Systems,
    engine: EngineName = "mlip",
    protocol: ProtocolName = "fast",
    processes: Annotated[int, typer.Option("--processes", "-p", help="Subsystems side by side.", min=1, max=512)] = 1,
    max_atoms: Annotated[
        int | None,
        typer.Option(
            "--max-atoms", help="Leave out phases with larger primitive cells; the set says so.", min=1, max=200
        ),
    ] = None,
    into: Into = None,
) -> None:
    """Compute what is missing of the set for these chemical systems; an interrupted build goes on where it was."""
    from workflows.reference_build import build as complete
    from workflows.reference_proposals import Limits
    from workflows.reference_store import user_directory

    made = _engine(engine, protocol)
    wanted = _systems(systems)
    place = into or user_directory()

    def told(what: str, done: int, total: int) -> None:
        output.console(stderr=True).print(f"{what}: {done} of {total}")

    limits = Limits(**made.reference_limits).up_to(max_atoms)
    found = complete(made, wanted, place, processes=processes, limits=limits, progress=told)
    output.say(f"{found.key}: {len(found.subsystems)} subsystems in {place}")


@app.command()
def show(
    systems: Annotated[
        list[str] | None,
        typer.Argument(help="Chemical systems, or a campaign file (default: all).", metavar="[SYSTEM...]"),
    ] = None,
    engine: EngineName = "mlip",
    protocol: ProtocolName = "fast",
    as_json: options.AsJson = False,
) -> None:
    """Show what the set holds, what it covers, and what chemical systems still miss."""
    from workflows.reference import load_reference
    from workflows.reference_store import user_directory

    key = _engine(engine, protocol).reference_key
    found = load_reference(key, [user_directory()])
    wanted = _systems(systems) if systems else []
    rows = [
        _row(found, name) for name in sorted(found.subsystems, key=lambda n: (n.count("-"), n)) if _inside(name, wanted)
    ]
    missing = ["-".join(part) for part in found.missing(wanted)]
    if as_json:
        output.print_json({"key": key, "subsystems": rows, "missing": missing})
        return
    from rich.table import Table

    table = Table(title=key, title_justify="left", box=None, pad_edge=False)
    for heading in ("subsystem", "entries", "relaxed", "proposed", "failed"):
        table.add_column(heading, justify="left" if heading == "subsystem" else "right")
    for row in rows:
        table.add_row(row["subsystem"], *(str(row[name]) for name in ("entries", "relaxed", "proposed", "failed")))
    output.console().print(table)
    for text in sorted({row["covers"] for row in rows}):
        output.say(f"covers: {text}")
    if missing:
        output.say(f"missing: {', '.join(missing)}")


def _row(found: ReferenceSet, name: str) -> dict[str, Any]:
    part = found.subsystems[name]
    return {
        "subsystem": name,
        "entries": len(part.entries),
        "relaxed": part.relaxed,
        "proposed": part.enumerated,
        "failed": len(part.failures),
        "covers": part.covers,
    }


def _inside(name: str, wanted: Sequence[Sequence[str]]) -> bool:
    return not wanted or any(set(name.split("-")) <= set(system) for system in wanted)


def _engine(name: str, protocol: str) -> Any:
    from workflows.engines.registry import make_engine

    try:
        return make_engine(name, protocol)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _systems(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Read chemical systems, and campaign files for theirs."""
    from pydantic import ValidationError

    from workflows.spec import Chemistry
    from workflows.spec_file import load_spec

    found: list[tuple[str, ...]] = []
    for word in words:
        if word.endswith((".yaml", ".yml")):
            found += load_spec(Path(word)).chemistry.chemical_systems()
            continue
        try:
            count = len(set(word.split("-")))
            chemistry = Chemistry.model_validate(
                {"systems": [word], "min_elements": 1, "max_elements": max(1, min(8, count))}
            )
        except ValidationError as error:
            raise RefusedError(f"{word}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        found += chemistry.chemical_systems()
    return found
