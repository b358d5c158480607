"""``data``: the crystals that generators learn from; building, looking at and adding to data sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from generators.data.dataset import Dataset, Entry
    from generators.data.gate import Rejected
    from generators.data.labels import Label
    from generators.data.proposals import Amounts
    from workflows.cli.counting import Counting

app = typer.Typer(help="Data sets: the crystals that generators learn from.", no_args_is_help=True)

SHIPPED = "shipped"

DIED = "a process died, probably for want of memory; the same command with fewer --processes goes on where it was"


@app.command()
def build(
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the build; made if missing.", metavar="DIR")
    ],
    processes: Annotated[int, typer.Option("--processes", "-p", help="Relaxations side by side.", min=1, max=512)] = 1,
    scale: Annotated[
        float,
        typer.Option("--scale", help="Factor on how many crystals of each kind are proposed.", min=0.0, max=100.0),
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.", min=0)] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Take only the first N proposals: for a trial.", metavar="N", min=1)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Build a training set: propose crystals, relax and label them with CHGNet, keep what passes the gate.

    An interrupted build goes on where it was: run the same command again. The whole set takes hours on a few cores;
    the first minutes only make the proposals.
    """
    from concurrent.futures.process import BrokenProcessPool

    from generators.data.build import build as make
    from workflows.cli.counting import Counting

    with output.resumable(), Counting("labelled") as counting:
        try:
            dataset, rejected = make(
                folder,
                _amounts(scale),
                seed=seed,
                processes=processes,
                limit=limit,
                on_progress=lambda p: counting.show(p.labelled, p.total),
            )
        except BrokenProcessPool as error:
            raise RefusedError(DIED) from error
        except ValueError as error:
            raise RefusedError(str(error)) from error
    path = folder / "crystals.extxyz.gz"
    if as_json:
        output.print_json({"file": str(path), **_outcome(dataset, rejected)})
        return
    output.say(f"{len(dataset)} crystals in {path}")
    _say_rejected(rejected)


@app.command()
def show(
    file: Annotated[
        Path | None, typer.Argument(help="A data set (default: the one that ships).", metavar="[FILE]")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what a data set holds: elements, prototypes, properties with units and ranges, splits, known failings."""
    from generators.data.summary import summary

    dataset, card = _read(file)
    found = {**summary(dataset), "card": card}
    if as_json:
        output.print_json(found)
        return
    _print_summary(found)


@app.command()
def add(
    sources: Annotated[
        list[Path],
        typer.Argument(help="A folder of CIFs, .extxyz, .csv with a column cif, .cif, POSCAR.", metavar="SOURCE..."),
    ],
    into: Annotated[
        Path, typer.Option("--output", "-o", help="The data set to write, .extxyz or .extxyz.gz.", metavar="FILE")
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="A data set to add to, or the word shipped; its crystals come first.", metavar="FILE"
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="CSV with properties of a folder's CIFs, by file name.", metavar="FILE"),
    ] = None,
    relax: Annotated[
        bool, typer.Option("--relax", help="Relax with CHGNet; energy and bulk modulus are then CHGNet's, too.")
    ] = False,
    processes: Annotated[int, typer.Option("--processes", "-p", help="Relaxations side by side.", min=1, max=512)] = 1,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write every rejected row with its reason, .csv or .json.", metavar="FILE"),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Read crystals of your own, check each, and write a data set; a bad row never stops the others.

    Properties are taken from columns (or keys) of these names, in these units: formation_energy, energy_above_hull,
    heat_of_formation and energy_per_atom in eV/atom, band_gap and direct_band_gap in eV, bulk_modulus in GPa; the names
    in the public Perov-5 and MP-20 tables are understood as well.

    With --relax, properties other than formation energy and bulk modulus stay those that were read. What was relaxed is
    kept beside FILE until that is written: after an interruption run the same command again.
    """
    from generators.data.gate import MAX_ATOMS, sift

    _check_output(into, to)
    if report is not None and report.suffix not in {".csv", ".json"}:
        raise RefusedError(f"--report {report}: its name must end in .csv or .json")
    base = _base(to)
    entries, rejected, notes = _load(sources, table)
    read = entries
    log = into.with_name(f".{into.name}.labels.jsonl")
    if relax and entries:
        fit, unfit = sift(entries, "read", MAX_ATOMS)
        entries, failed = _relaxed(fit, log, processes)
        rejected += unfit + failed
    merged, more = sift([*base, *entries], into.name.partition(".")[0], MAX_ATOMS)
    rejected += more
    taken = len(merged) - len(base)
    notes += _renamed(merged, {entry.label for entry in [*base, *read]})
    if report is not None:
        _write_report(report, rejected)
    if taken < 1:
        hint = f"; see {report}" if report is not None else "; --report FILE tells of each row"
        raise RefusedError(f"nothing was taken of {_words(rejected) or 'what was read'}{hint}")
    merged.write(into)
    log.unlink(missing_ok=True)
    notes += _notes(base, entries, relax)
    if as_json:
        output.print_json({"file": str(into), "taken": taken, **_outcome(merged, rejected), "notes": notes})
        return
    output.say(f"{taken} taken, {len(rejected)} rejected; {into} holds {len(merged)} crystals")
    _say_rejected(rejected)
    for note in notes:
        output.say(f"note: {note}")
    if rejected and report is None:
        output.say("--report FILE lists every rejected row")


def _amounts(scale: float) -> Amounts:
    from dataclasses import asdict

    from generators.data.proposals import Amounts

    return Amounts(**{kind: round(scale * many) for kind, many in asdict(Amounts()).items()})


def _read(file: Path | None) -> tuple[Dataset, dict[str, Any] | None]:
    from generators.data.dataset import Dataset, shipped, shipped_card
    from generators.data.summary import card_beside

    if file is None:
        try:
            return shipped(), shipped_card()
        except FileNotFoundError:
            raise RefusedError(
                "no data set ships with this installation; `nucleate data build --output DIR` makes one, and "
                "`nucleate data show FILE` shows a file"
            ) from None
    try:
        return Dataset.read(file), card_beside(file)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _base(to: Path | None) -> list[Entry]:
    if to is None:
        return []
    dataset, _ = _read(None if str(to) == SHIPPED and not to.exists() else to)
    return list(dataset.entries)


def _check_output(into: Path, to: Path | None) -> None:
    if not into.name.endswith((".extxyz", ".extxyz.gz")):
        raise RefusedError(f"--output {into}: its name must end in .extxyz or .extxyz.gz")
    if not into.parent.is_dir():
        raise RefusedError(f"--output {into}: there is no folder {into.parent}")
    if into.exists() and (to is None or not to.exists() or not into.samefile(to)):
        raise RefusedError(f"{into} exists; add to it with --to {into}, or choose another name")


def _load(sources: Sequence[Path], table: Path | None) -> tuple[list[Entry], list[Rejected], list[str]]:
    from generators.data.loaders import load
    from workflows.cli.counting import Counting

    entries: list[Entry] = []
    rejected: list[Rejected] = []
    notes: list[str] = []
    with Counting("read") as counting:
        for source in sources:
            before = len(entries) + len(rejected)
            try:
                loaded = load(source, table, partial(_show_more, counting, before), notes.append)
            except (ValueError, FileNotFoundError) as error:
                raise RefusedError(str(error)) from error
            entries += loaded.entries
            rejected += loaded.rejected
    return entries, rejected, list(dict.fromkeys(notes))


def _show_more(counting: Counting, before: int, n: int) -> None:
    counting.show(before + n)


def _relaxed(dataset: Dataset, log: Path, processes: int) -> tuple[list[Entry], list[Rejected]]:
    """Relax and label what was read; what does not hold is rejected."""
    from dataclasses import replace

    from generators.data.build import entry_of
    from generators.data.dataset import Entry
    from generators.data.gate import Rejected
    from generators.data.labels import element_energies
    from generators.evaluation.store import content_key

    # by content: a file that was changed since an interruption is another crystal
    wanted = {content_key(entry.structure): entry for entry in dataset.entries}
    labels = _labelled({key: entry.structure for key, entry in wanted.items()}, log, processes)
    held = {
        e.symbol
        for key, entry in wanted.items()
        if labels[key].error is None
        for e in entry.structure.composition.elements
    }
    energies = element_energies(sorted(held))
    made = [
        entry_of(replace(labels[key], label=entry.label), entry.source, energies, entry.properties)
        for key, entry in wanted.items()
    ]
    return [m for m in made if isinstance(m, Entry)], [m for m in made if isinstance(m, Rejected)]


def _labelled(wanted: dict[str, Structure], log: Path, processes: int) -> dict[str, Label]:
    from concurrent.futures.process import BrokenProcessPool

    from generators.data.labelling import labelled
    from workflows.cli.counting import Counting

    with output.resumable(), Counting("relaxed") as counting:
        try:
            return labelled(wanted, log, processes=processes, on_progress=counting.show)
        except BrokenProcessPool as error:
            raise RefusedError(DIED) from error


def _renamed(merged: Dataset, given: set[str]) -> list[str]:
    """Say which crystals have another label than they came with, because another crystal has that one."""
    labels = [entry.label for entry in merged.entries if entry.label not in given]
    if not labels:
        return []
    shown = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
    many = "1 label was" if len(labels) == 1 else f"{len(labels)} labels were"
    return [f"{many} another crystal's already and got a number: {shown}"]


def _notes(base: Sequence[Entry], entries: Sequence[Entry], relax: bool) -> list[str]:
    """Say what a user should know of a mixed set."""
    labelled = ("formation_energy", "bulk_modulus")
    if relax or not base:
        return []
    shared = [
        name
        for name in labelled
        if any(name in e.properties for e in base) and any(name in e.properties for e in entries)
    ]
    if not shared:
        return []
    return [f"{' and '.join(shared)} of both sets are kept as they are: only --relax makes them of one model"]


def _outcome(dataset: Dataset, rejected: Sequence[Rejected]) -> dict[str, Any]:
    from generators.data.gate import rejection_rows, tally

    return {"crystals": len(dataset), "rejected": tally(rejected), "rows": rejection_rows(rejected)}


def _words(rejected: Sequence[Rejected]) -> str:
    from generators.data.gate import tally

    if not rejected:
        return ""
    rows = "1 row" if len(rejected) == 1 else f"{len(rejected)} rows"
    return f"{rows} ({', '.join(f'{sort} {count}' for sort, count in tally(rejected).items())})"


def _say_rejected(rejected: Sequence[Rejected]) -> None:
    """Print how many rows were rejected for which sort of reason, with the first of each sort."""
    from generators.data.gate import sort_of, tally

    for sort, count in tally(rejected).items():
        first = next(r for r in rejected if sort_of(r.reason) == sort)
        output.say(f"  {sort}: {count}, e.g. {first.label}: {first.reason}")


def _write_report(path: Path, rejected: Sequence[Rejected]) -> None:
    import csv
    import io
    import json

    from generators.data.gate import rejection_rows

    rows = rejection_rows(rejected)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ("label", "sort", "reason"))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def _print_summary(found: dict[str, Any]) -> None:
    from rich.table import Table

    output.say(
        f"{found['name']}: {found['crystals']} crystals, {found['compositions']} compositions in "
        f"{found['chemical_systems']} chemical systems, {found['prototypes']} prototypes, "
        f"{found['with_energy']} with an energy"
    )
    for heading, key in (("elements a crystal", "by_elements"), ("atoms a cell", "by_atoms")):
        output.say(f"{heading}: {', '.join(f'{number}: {count}' for number, count in found[key].items())}")
    often = sorted(found["elements"].items(), key=lambda item: (-item[1], item[0]))
    output.say(f"{len(often)} elements: {', '.join(f'{symbol} {count}' for symbol, count in often)}")
    if found["properties"]:
        table = Table(box=None, pad_edge=False)
        for heading in ("property", "unit", "crystals", "minimum", "median", "maximum"):
            table.add_column(heading, justify="left" if heading in {"property", "unit"} else "right")
        for name, held in found["properties"].items():
            numbers = (f"{held[key]:.3f}" for key in ("minimum", "median", "maximum"))
            table.add_row(name, held["unit"], str(held["crystals"]), *numbers)
        output.console().print(table)
    for by, parts in found["splits"].items():
        told = ", ".join(f"{name} {part['crystals']} ({part['groups']} groups)" for name, part in parts.items())
        output.say(f"split by {by}: {told}")
    card = found["card"]
    if card is not None:
        if "relaxer" in card:
            output.say(f"relaxed and labelled with {card['relaxer']}")
        for failing in card.get("known_failings", ()):
            output.say(f"known failing: {failing}")
