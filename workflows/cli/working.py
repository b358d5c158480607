"""``work``, ``reconcile`` and ``demo``: what makes a campaign go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.context import CAMPAIGN_FILE, campaign_directory, open_campaign
from workflows.cli.errors import INTERRUPTED, LEFT, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.monitor.status import Status
    from workflows.runtime.scheduler.base import Scheduler
    from workflows.runtime.worker import WorkResult

Processes = Annotated[
    int, typer.Option("--processes", "-p", help="Workers side by side.", min=1, max=512, metavar="N", show_default=True)
]


def work(
    directory: options.Directory = None,
    processes: Processes = 1,
    threads: Annotated[int, typer.Option(help="Threads of each worker.", min=1, max=512, metavar="N")] = 1,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            "--category", help="Take only jobs of this kind (gpu, cpu, light); may be repeated.", metavar="KIND"
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for more when no work is left.")] = False,
    grace: Annotated[float, typer.Option(help="Seconds that jobs get to end after SIGTERM.", min=0)] = 30.0,
    as_json: options.AsJson = False,
) -> None:
    """Take job after job until the campaign is done. Ctrl-C lets current jobs end; twice gives them back.

    What an earlier crash left behind is mended first. Start it as often as you like, on as many machines as reach the
    store.
    """
    found = campaign_directory(directory)
    result, status = run_workers(
        found, processes, threads=threads, categories=categories or [], wait=wait, grace_s=grace, quiet=as_json
    )
    if as_json:
        output.print_json(vars(result) | {"state": status.state, "repairs": [vars(r) for r in result.repairs]})
    else:
        output.say(_told(result, status))
    if status.state not in {"finished", "stopped"}:
        raise typer.Exit(_code(result))


def _code(result: WorkResult) -> int:
    return INTERRUPTED if result.reason in {"stopped", "aborted"} else LEFT


def run_workers(
    directory: Path,
    processes: int,
    *,
    threads: int = 1,
    categories: Sequence[str] = (),
    wait: bool = False,
    grace_s: float = 30.0,
    quiet: bool = False,
) -> tuple[WorkResult, Status]:
    """Run workers in a campaign's directory with progress shown; tell how they ended and how the campaign stands."""
    from contextlib import nullcontext

    from workflows.cli.progress import watching
    from workflows.monitor.status import campaign_status
    from workflows.rounds import repair_claims
    from workflows.runtime.worker import work as run

    with open_campaign(directory, None, None) as opened:
        database = opened.store.database
        shown: Any = nullcontext(lambda _event: None) if quiet else watching(database, opened.name)
        with shown as progress:
            result = run(
                directory,
                processes=processes,
                campaign=opened.name,
                categories=categories,
                drain=not wait,
                threads=threads,
                grace_s=grace_s,
                progress=progress,
                extra=[repair_claims],
            )
        return result, campaign_status(database, opened.name)


def _told(result: WorkResult, status: Status) -> str:
    counts = f"{_counted(result.completed, 'job')} done, {result.failed} failed"
    if result.repairs:
        counts += f", {_counted(len(result.repairs), 'repair')}"
    ends = {
        "stopped": "stopped as asked; `nucleate work` goes on with it",
        "aborted": f"stopped at once, {_counted(result.given_back, 'job')} given back; `nucleate work` goes on with it",
        "workers_die": "the workers die again and again; see logs/worker-*.log",
        "out_of_time": "the allocation is over; `nucleate work` in the next one goes on with it",
        "database_lost": "the database did not come back; see `nucleate server status`",
    }
    if status.state in {"finished", "stopped"}:
        ending = f"the campaign is {status.state}{f': {status.why}' if status.why else ''}"
    elif result.reason in ends:
        ending = ends[result.reason]
    elif status.needs_somebody:
        ending = "the campaign is stuck; `nucleate status` tells on what"
    else:
        ending = "no work is left for this worker, but the campaign is not done; `nucleate status` tells more"
    return f"{counts}; {ending}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def reconcile(
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Ask only this cluster's scheduler (default: all in the cluster file).", metavar="NAME"),
    ] = None,
    clusters: options.Clusters = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be mended.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Find what dead processes left behind, mend it, and tell what became of them.

    Processes of this host are known by their pids, those of batch jobs by the schedulers in the cluster file. What
    can't be judged is listed and left alone. `nucleate submit --watch` does the same all the time; workers do it for
    their own host when they start.
    """
    with open_campaign(directory, campaign, store) as opened:
        from workflows.monitor.reconcile import reconcile as mend
        from workflows.rounds import repair_claims
        from workflows.runtime.reservation import repair_reservations

        hooks = [] if dry_run else [repair_claims, repair_reservations]
        schedulers = _schedulers(clusters, cluster)
        found = mend(opened.store, opened.name, dry_run=dry_run, extra=hooks, schedulers=schedulers)
    if as_json:
        output.print_json(found.as_dict())
        return
    for line in found.lines():
        output.say(line)


def _schedulers(path: Path | None, cluster: str | None) -> dict[str, Scheduler]:
    """Make the schedulers to ask; none where there is no cluster file and nobody has asked for one."""
    from workflows.runtime.cluster_file import CLUSTERS, cluster_named, clusters_path, load_clusters
    from workflows.runtime.scheduler.known import scheduler_of, schedulers_of

    found = clusters_path(path)
    if path is None and cluster is None and CLUSTERS not in os.environ and not found.exists():
        return {}
    known = load_clusters(found)
    return {cluster: scheduler_of(cluster_named(known, cluster, found))} if cluster else schedulers_of(known)


def demo(
    directory: Annotated[Path, typer.Argument(help="Where the campaign goes.", metavar="DIR")] = Path("demo"),
    into: Annotated[Path, typer.Option("--output", "-o", help="Directory of the report.", metavar="DIR")] = Path(
        "demo-report"
    ),
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-p", help="Workers side by side (default: one a core, at most 4).", min=1, max=64),
    ] = None,
) -> None:
    """Run a whole small campaign, from nothing to a report. A second run goes on where the first one was."""
    from workflows.checks import checks_for
    from workflows.cli.results import write
    from workflows.cli.starting import preview, put_up, write_template
    from workflows.report.terminal import summary_table
    from workflows.spec_file import load_spec

    workers = processes or max(1, min(4, len(os.sched_getaffinity(0))))
    path = directory / CAMPAIGN_FILE
    if not path.exists():
        write_template(directory, name="demo")
    spec = load_spec(path, checks_for(directory))
    output.say("A whole campaign on this machine; no database, DFT code or GPU is needed:\n")
    for line in preview(spec):
        output.say(f"  {line}")
    output.say(
        f"\nIt takes about {_minutes(spec.rounds * spec.samples, workers)} with {workers} "
        f"{'worker' if workers == 1 else 'workers'} and up to {1 + 0.75 * workers:.1f} GB of memory.\n"
        f"The campaign is kept in {directory}, the report goes to {into}.\nCtrl-C stops it; the same command goes on.\n"
    )
    result = put_up(spec, directory, base=directory)
    output.say(result.message)
    ended, status = run_workers(directory, workers)
    output.say(_told(ended, status))
    if status.state not in {"finished", "stopped"}:
        raise typer.Exit(_code(ended))
    with open_campaign(directory, None, None) as opened:
        page, data = write(opened, into)
    output.console().print(summary_table(data))
    output.say(f"open {page}")


def _minutes(samples: int, workers: int) -> str:
    """Estimate a campaign's time from what the demo took on a 2-core machine: about 2 s of one core a sample."""
    minutes = samples * 2.0 / 60 / workers + 1
    return f"{minutes:.0f} to {2 * minutes:.0f} minutes"


def reproduce(
    candidate: Annotated[str, typer.Argument(help="A candidate's id.", metavar="CANDIDATE")],
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    as_json: options.AsJson = False,
) -> None:
    """Make one crystal again from its generator's state and seed, and compare with what is stored."""
    with open_campaign(directory, campaign, store) as opened:
        from workflows.reproduce import reproduce as again

        try:
            steps = again(opened.store, candidate, progress=(lambda _: None) if as_json else output.say)
        except LookupError as error:
            raise RefusedError(str(error.args[0])) from error
    if as_json:
        output.print_json([vars(step) for step in steps])
    else:
        for step in steps:
            output.say(f"{step.name:<9} {'the same' if step.same else 'DIFFERENT'}: {step.detail}")
    if not all(step.same for step in steps):
        raise typer.Exit(LEFT)
