"""``status`` and ``failures``: how a campaign stands, and what went wrong."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.cli import options, output
from workflows.cli.context import naming, open_campaign
from workflows.cli.errors import LEFT

if TYPE_CHECKING:
    from workflows.cli.context import Opened
    from workflows.monitor.status import Status


def status(
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until the campaign ends (Ctrl-C stops).")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=3600)] = 3.0,
    as_json: options.AsJson = False,
) -> None:
    """Show rounds, stages and states, the funnel, the pace, and what is stuck and why."""
    with open_campaign(directory, campaign, store) as opened:
        from workflows.monitor.status import campaign_status

        found = campaign_status(opened.store.database, opened.name)
        if as_json:
            output.print_json(found.as_dict())
        elif not watch:
            from workflows.cli.tables import status_view

            output.console().print(status_view(found, there=naming(opened)))
        else:
            found = _watch(opened, found, every)
    if found.needs_somebody:
        raise typer.Exit(LEFT)


def _watch(opened: Opened, found: Status, every: float) -> Status:
    from rich.live import Live

    from workflows.cli.tables import status_view
    from workflows.monitor.status import campaign_status

    console = output.console()
    # What is higher than the screen would be cut at its end, where the newest is.
    rounds, there = max(2, (console.height - 28) // 2), naming(opened)
    with Live(status_view(found, rounds, there), console=console, auto_refresh=False) as live:
        while found.state not in {"finished", "stopped"}:
            time.sleep(every)
            found = campaign_status(opened.store.database, found.campaign)
            live.update(status_view(found, rounds, there), refresh=True)
        live.update(status_view(found, there=there), refresh=False)  # Live ends by showing the last one in full
    if not live.console.is_terminal:
        output.say("")  # rich ends what is no terminal without one
    return found


def failures(
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    rounds: options.Rounds = None,
    stages: options.Stages = None,
    candidates: options.Candidates = None,
    states: options.States = None,
    causes: options.Causes = None,
    query: options.Query = None,
    as_json: options.AsJson = False,
) -> None:
    """List what failed, grouped by cause, with an example and what a re-run would change."""
    from workflows.monitor.presence import refuse_unknown
    from workflows.monitor.triage import failures as find_failures

    # What was typed is judged before any store is opened.
    typed = options.selector("", rounds, stages, candidates, states, causes, query)
    with open_campaign(directory, campaign, store) as opened:
        chosen = replace(typed, campaign=opened.name)
        refuse_unknown(opened.store.database, chosen)
        groups = find_failures(opened.store.database, chosen)
    if as_json:
        output.print_json([group.as_dict() for group in groups])
        return
    from workflows.cli.tables import failures_view

    output.console().print(failures_view(groups))
