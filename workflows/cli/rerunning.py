"""``rerun``: run again what failed, changed as its cause asks; a preview unless it is told to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.context import open_campaign
from workflows.cli.errors import LEFT, REFUSED

if TYPE_CHECKING:
    from workflows.monitor.rerun.carry_out import Outcome

_HOW = "How"


def rerun(
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    rounds: options.Rounds = None,
    stages: options.Stages = None,
    candidates: options.Candidates = None,
    states: options.States = None,
    causes: options.Causes = None,
    query: options.Query = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change this too: memory_gb, minutes, cores, partition, or a setting of the engine that changes no "
            "energy, such as electrons.mixing_beta, NELM or steps; may be repeated.",
            metavar="KEY=VALUE",
            rich_help_panel=_HOW,
        ),
    ] = None,
    over_budget: Annotated[
        bool,
        typer.Option(
            "--over-budget", help="Also what was run again often enough, or can't be helped.", rich_help_panel=_HOW
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it; else it is only shown.", rich_help_panel=_HOW)
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what no task has begun yet.", rich_help_panel=_HOW)
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Run again what failed, changed as its cause asks; shows what it would do, and does it with --yes.

    Only what failed for a reason of its own is run again; what depends on it follows. Every earlier launch is kept.
    With --stage, and candidates named by --candidate, --state or --query, also what did not fail.
    """
    from workflows.monitor.presence import refuse_unknown
    from workflows.monitor.rerun.settings import parse_settings

    # What was typed is judged before any store is opened.
    typed = options.selector("", rounds, stages, candidates, states, causes, query)
    wanted = parse_settings(settings or [])
    with open_campaign(directory, campaign, store) as opened:
        chosen = replace(typed, campaign=opened.name)
        refuse_unknown(opened.store.database, chosen)
        if undo:
            from workflows.monitor.rerun.undo import undo as take_back

            outcomes = take_back(opened.store.launchpad, chosen)
            _tell_undone(outcomes, as_json=as_json)
            return
        from workflows.monitor.rerun.plan import plan_rerun

        plan = plan_rerun(opened.store.database, chosen, wanted, over_budget=over_budget)
        told: dict[str, Any] = plan.as_dict()
        if not as_json:
            from workflows.cli.rerun_tables import plan_view

            output.console().print(plan_view(plan))
        outcomes = []
        if yes and plan.items:
            from workflows.monitor.rerun.carry_out import carry_out

            outcomes = carry_out(opened.store.launchpad, plan)
    if as_json:
        output.print_json(told | {"done": [vars(outcome) for outcome in outcomes]})
    elif yes:
        _tell_done(outcomes)
    elif plan.items:
        output.say("Nothing is changed yet: --yes does it.")
    if any(not outcome.done for outcome in outcomes):
        raise typer.Exit(LEFT)


def _tell_done(outcomes: list[Outcome]) -> None:
    done = sum(outcome.done for outcome in outcomes)
    if done:
        output.say(f"{_jobs(done)} again, and what depends on {'it' if done == 1 else 'them'}, when a worker runs.")
        output.say("Until a task has begun: nucleate rerun --undo")
    _tell_not_done(outcomes)


def _tell_undone(outcomes: list[Outcome], *, as_json: bool) -> None:
    done = sum(outcome.done for outcome in outcomes)
    if as_json:
        output.print_json({"done": [vars(outcome) for outcome in outcomes]})
    else:
        output.say(f"taken back: {done} {'re-run' if done == 1 else 're-runs'}" if done else "Nothing was taken back.")
        _tell_not_done(outcomes)
    if len(outcomes) > done:
        raise typer.Exit(LEFT if done else REFUSED)


def _tell_not_done(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.done:
            output.complain(f"{outcome.stage} of {outcome.candidate or 'the round'}: {outcome.why}")


def _jobs(count: int) -> str:
    return "1 job runs" if count == 1 else f"{count} jobs run"
