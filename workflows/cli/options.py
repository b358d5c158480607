"""Options that several commands share, so that the same word means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.monitor.selector import Selector

_WHERE = "Which campaign"
_WHAT = "Which part of it"

Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory", "-C", help="The campaign's directory (default: where you are).", rich_help_panel=_WHERE
    ),
]
CampaignName = Annotated[
    str | None,
    typer.Option("--campaign", help="A campaign by name, from anywhere.", metavar="NAME", rich_help_panel=_WHERE),
]
StoreName = Annotated[
    str | None,
    typer.Option(
        "--store", help="The store of --campaign (default: embedded).", metavar="PROFILE", rich_help_panel=_WHERE
    ),
]
Rounds = Annotated[
    list[str] | None,
    typer.Option(
        "--round", help="A round, or a range such as 2-4; may be repeated.", metavar="N", rich_help_panel=_WHAT
    ),
]
Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", help="relax, phonon, ...; may be repeated.", metavar="STAGE", rich_help_panel=_WHAT),
]
Candidates = Annotated[
    list[str] | None,
    typer.Option("--candidate", help="A candidate's id; may be repeated.", metavar="ID", rich_help_panel=_WHAT),
]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="verified, stable, hit, failed or late; may be repeated.",
        metavar="STATE",
        rich_help_panel=_WHAT,
    ),
]
Causes = Annotated[
    list[str] | None,
    typer.Option(
        "--cause", help="A code (501) or a band (5xx); may be repeated.", metavar="CODE", rich_help_panel=_WHAT
    ),
]
Query = Annotated[
    str | None,
    typer.Option(
        "--query",
        help="""A condition on verdicts in JSON, e.g. '{"energy_above_hull": {"$lt": 0.05}}'.""",
        metavar="JSON",
        rich_help_panel=_WHAT,
    ),
]
Clusters = Annotated[
    Path | None,
    typer.Option(
        "--clusters",
        help="The cluster file (default: NUCLEATE_CLUSTERS, or clusters.yaml beside the config file).",
        metavar="FILE",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def selector(
    campaign: str,
    rounds: list[str] | None = None,
    stages: list[str] | None = None,
    candidates: list[str] | None = None,
    states: list[str] | None = None,
    causes: list[str] | None = None,
    query: str | None = None,
) -> Selector:
    """Make a selector of what the shared options say.

    Raises
    ------
    SelectorError
        If one of them can't be understood.
    """
    from workflows.monitor.selector import Selector, parse_causes, parse_query, parse_rounds

    return Selector(
        campaign=campaign,
        rounds=parse_rounds(rounds or []),
        stages=tuple(stages or ()),
        candidates=tuple(candidates or ()),
        states=tuple(states or ()),
        causes=parse_causes(causes or []),
        query=parse_query(query) if query else {},
    )
