"""``report`` and ``export``: what came out of a campaign."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.cli import options, output
from workflows.cli.context import open_campaign
from workflows.cli.errors import RefusedError

if TYPE_CHECKING:
    from workflows.cli.context import Opened
    from workflows.report.collect import ReportData


class Format(StrEnum):
    """What an export is written as."""

    cif = "cif"
    extxyz = "extxyz"
    json = "json"


class Which(StrEnum):
    """Which verdicts are exported."""

    hits = "hits"
    stable = "stable"
    verified = "verified"


def report(
    into: Annotated[Path, typer.Option("--output", "-o", help="Directory of the report.", metavar="DIR")] = Path(
        "report"
    ),
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the report: index.html (opens offline), report.json and a CIF of each hit."""
    with open_campaign(directory, campaign, store) as opened:
        page, data = write(opened, into)
    if as_json:
        from workflows.report.json_report import report_dict

        output.print_json(report_dict(data))
        return
    from workflows.report.terminal import summary_table

    output.console().print(summary_table(data))
    output.say(f"wrote {page}")


def write(opened: Opened, into: Path) -> tuple[Path, ReportData]:
    """Write a campaign's report with its reference set; give the page and what it was made of."""
    from workflows.reference_store import campaign_reference
    from workflows.report.collect import collect
    from workflows.report.hulls import reference_entries
    from workflows.report.write import write_data

    database = opened.store.database
    data = collect(database, opened.name)
    reference = campaign_reference(database, opened.store.files, opened.name)
    return write_data(data, into, reference_entries(reference)), data


def export(
    format: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = Format.cif,  # noqa: A002
    into: Annotated[
        Path | None, typer.Option("--output", "-o", help="A directory for cif, a file for the others.", metavar="PATH")
    ] = None,
    which: Annotated[Which, typer.Option(help="Which verdicts.")] = Which.hits,
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    rounds: options.Rounds = None,
    candidates: options.Candidates = None,
    query: options.Query = None,
    as_json: options.AsJson = False,
) -> None:
    """Write crystals as CIF, extended XYZ or JSON."""
    # What was typed is judged before any store is opened.
    typed = options.selector("", rounds, candidates=candidates, states=[which.value.removesuffix("s")], query=query)
    target = into
    with open_campaign(directory, campaign, store) as opened:
        from workflows.report.export import export as write_crystals

        database = opened.store.database
        target = into or Path(f"{opened.name}-{which.value}{'' if format is Format.cif else '.' + format.value}")
        chosen = tuple(candidates or ())
        if rounds or query:
            wanted = replace(typed, campaign=opened.name)
            chosen = tuple(sorted(v["candidate"] for v in database.verdicts.find(wanted.verdicts(), {"candidate": 1})))
            if not chosen:
                raise RefusedError(f"none of the {which.value} of {opened.name} fits; nothing was written")
        written = write_crystals(database, opened.name, format.value, target, which.value, candidates=chosen)
    if as_json:
        output.print_json({"path": str(target), "format": format.value, "candidates": written})
        return
    output.say(f"wrote {len(written)} {'crystal' if len(written) == 1 else 'crystals'} to {target}")
