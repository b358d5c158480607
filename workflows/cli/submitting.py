"""``submit``: batch jobs for a campaign, as many as there is work, limits and budget for."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.cli import options, output
from workflows.cli.context import campaign_directory, open_campaign
from workflows.cli.errors import LEFT, RefusedError
from workflows.cli.submit_words import dict_of, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflows.cli.context import Opened
    from workflows.runtime.pilots import Turn

_CLOSING_S = 60.0
"""s that a watch with nothing left to do waits for the last accounts."""


def submit(
    cluster: Annotated[
        str, typer.Option("--cluster", help="A cluster, by its name in the cluster file.", metavar="NAME")
    ],
    directory: options.Directory = None,
    campaign: options.CampaignName = None,
    store: options.StoreName = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only pilots of this kind; may be repeated.", metavar="KIND"),
    ] = None,
    reserve: Annotated[
        bool, typer.Option("--reserve", help="One job for each task that is ready, sized for it, instead of pilots.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until the campaign is done or its budget is spent.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two turns of --watch.", min=1, max=3600)] = 15.0,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take queued jobs back, and let running ones end their tasks.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="With --cancel: end running jobs at once.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try kinds of jobs, and nodes, again that were set aside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be submitted.")] = False,
    clusters: options.Clusters = None,
    as_json: options.AsJson = False,
) -> None:
    """Put batch jobs (pilots) into a cluster's queue, as many as there is work, limits and budget for.

    A pilot takes task after task until its wall-time ends or no work is left. Once, or for as long as the campaign
    lasts: --watch also mends what dead jobs left behind. Ctrl-C stops the watch; jobs in the queue stay.
    """
    if now and not cancel:
        raise RefusedError("--now goes with --cancel")
    if cancel and (watch or reserve or dry_run):
        raise RefusedError("--cancel goes alone: nothing is submitted in the same breath")
    found = campaign_directory(directory) if campaign is None else None
    from workflows.runtime.cluster_file import cluster_named, clusters_path, load_clusters

    path = clusters_path(clusters)
    known = load_clusters(path)
    if not cluster_named(known, cluster, path).same_host:
        _refuse_embedded(found, store, cluster)
    with open_campaign(directory, campaign, store) as opened:
        session = _Session(opened, cluster, path, tuple(kinds or ()), reserve=reserve)
        session.settle_in(known)
        if cancel:
            _cancel(session, now_too=now, as_json=as_json)
        elif watch:
            _watch(session, every, retry=retry, as_json=as_json)
        else:
            _once(session, retry=retry, dry_run=dry_run, as_json=as_json)


def _refuse_embedded(directory: Path | None, store: str | None, cluster: str) -> None:
    """Refuse a store that only this host reaches, before it is even opened."""
    from workflows.runtime.address import address_in
    from workflows.runtime.settings import EMBEDDED

    profile = address_in(directory).profile if directory is not None else store or EMBEDDED
    if profile == EMBEDDED:
        raise RefusedError(
            "this campaign's store is the embedded one, for one host: nodes of a cluster can't reach it. Launch "
            "it with a MongoDB (store: in campaign.yaml; docs/clusters.md tells how), or run it here: `nucleate work`. "
            f"If the nodes of {cluster} are this very host, say so in the cluster file: same_host: true"
        )


class _Session:
    """One campaign on one cluster, for as long as the command runs."""

    def __init__(self, opened: Opened, cluster: str, path: Path, kinds: tuple[str, ...], *, reserve: bool) -> None:
        self.opened = opened
        self.cluster = cluster
        self.path = path
        self.kinds = kinds
        self.reserve = reserve
        self.read: str = ""
        self.checked = False

    def settle_in(self, known: Any) -> None:
        """Take over what the cluster file says."""
        from workflows.rounds import repair_claims
        from workflows.runtime.cluster_file import cluster_named
        from workflows.runtime.identity import ProcessName
        from workflows.runtime.launchpad import CampaignLaunchPad
        from workflows.runtime.lease import Lease
        from workflows.runtime.pilots import Submitter
        from workflows.runtime.place import Place
        from workflows.runtime.reconciling import Reconciler
        from workflows.runtime.reservation import repair_reservations
        from workflows.runtime.scheduler.known import schedulers_of

        here = cluster_named(known, self.cluster, self.path)
        owner = str(ProcessName.own())
        store, name = self.opened.store, self.opened.name
        if here.directory is not None:
            home = (here.directory.expanduser() / name).absolute()
            _make_home(store, home)
        elif self.opened.directory is not None:
            home = self.opened.directory.resolve()
        else:
            raise RefusedError(
                f"the directory that {name} was launched from is not on this host: submit where it is, or say in the "
                f"cluster file where campaigns live on {self.cluster} (directory:)"
            )
        schedulers = schedulers_of(known)
        self.place = Place(self.cluster, known, home, self.kinds)
        self.scheduler = schedulers[self.cluster]
        self.reconciler = Reconciler(
            CampaignLaunchPad.signed(store.launchpad, owner),
            schedulers,
            campaign=name,
            extra=[repair_claims, repair_reservations],
        )
        self.submitter = Submitter(
            store.database,
            name,
            self.place,
            self.scheduler,
            Lease(store.database, f"submit to {self.cluster}", owner),
            self.reconciler.inquiry,
        )
        self.read = _text(self.path)

    def check(self) -> None:
        """Refuse what can be refused before anything is submitted, with everything that is wrong.

        Raises
        ------
        RefusedError
        SchedulerAwayError
            If the scheduler does not answer.
        """
        from workflows.runtime.place import problems_of

        problems = problems_of(self.place, self.scheduler)
        if problems:
            raise RefusedError("\n".join(["nothing was submitted:", *(f"  {problem}" for problem in problems)]))
        self.checked = True

    def reload(self) -> str:
        """Read the cluster file again if it has changed; gives what to say about that."""
        from workflows.runtime.cluster_file import ClusterFileError, load_clusters

        try:
            if _text(self.path) == self.read:
                return ""
            self.settle_in(load_clusters(self.path))
        except (ClusterFileError, OSError) as error:
            self.read = _text(self.path)
            return f"the cluster file has changed and can't be used, so what it said before holds: {error}"
        self.checked = False
        return "the cluster file has changed: read again"

    def as_dict(self, made: Turn, *, dry_run: bool = False) -> dict[str, Any]:
        """Give a turn for ``--json``."""
        whose = {"campaign": self.opened.name, "state": self.state, "cluster": self.cluster}
        return {**whose, "dry_run": dry_run, **dict_of(made)}

    @property
    def is_unsettled(self) -> bool:
        """Whether the scheduler has yet to say what became of a job that has ended."""
        open_ones = {"campaign": self.opened.name, "state": "ended", "settled": {"$ne": True}}
        return self.opened.store.database.pilots.find_one(open_ones, {"_id": 1}) is not None

    @property
    def state(self) -> str:
        """The campaign's state."""
        found = self.opened.store.database.campaigns.find_one({"name": self.opened.name}, {"state": 1})
        return str((found or {}).get("state", "running"))


def _make_home(store: Any, home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.write_configs(home)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _once(session: _Session, *, retry: bool, dry_run: bool, as_json: bool) -> None:
    session.check()
    made = session.submitter.turn(dry_run=dry_run, retry=retry, reserve=session.reserve)
    if as_json:
        output.print_json(session.as_dict(made, dry_run=dry_run))
    else:
        for line in lines_of(made, session.place, reserve=session.reserve, dry_run=dry_run):
            output.say(line)
        if made.active and not dry_run and not made.away and session.state == "running":
            output.say("next: this command again when more is ready, or with --watch until the campaign is done")
    if made.needs_somebody or made.away:
        raise typer.Exit(LEFT)


def _cancel(session: _Session, *, now_too: bool, as_json: bool) -> None:
    ended, asked = session.submitter.cancel(now_too=now_too)
    if as_json:
        output.print_json({"campaign": session.opened.name, "cancelled": ended, "draining": asked})
        return
    for pilot in ended:
        output.say(f"cancelled  {pilot}")
    for pilot in asked:
        output.say(f"draining   {pilot}: ends with its tasks")
    if not ended and not asked:
        output.say(f"campaign {session.opened.name} has no jobs in the queue of {session.cluster}")


# --- watching ---------------------------------------------------------------------------------------------------------


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end the watch after the turn that is under way: what is half submitted gets its record."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    in_main = threading.current_thread() is threading.main_thread()
    for number in before if in_main else ():
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items() if in_main else ():
            signal.signal(number, handler)


def _watch(session: _Session, every: float, *, retry: bool, as_json: bool) -> None:
    from pymongo.errors import ConnectionFailure

    from workflows.runtime.launchpad import DatabaseAway
    from workflows.runtime.lease import LeaseError
    from workflows.runtime.scheduler.base import SchedulerAwayError

    said = ""
    closing: float | None = None
    told = _Teller(as_json=as_json)
    _first_check(session)
    with _asked_to_stop() as stop:
        while not stop.is_set():
            try:
                if news := session.reload():
                    told.note(news)
                if not session.checked:
                    session.check()
                for repair in session.reconciler.run().repairs:
                    told.note(f"mended: fw {repair.fw_id}: {repair.done}")
                made = session.submitter.turn(retry=retry, reserve=session.reserve)
                retry = False
                said = told.turn(session, made, said)
                why = _over(session, made)
                if why and closing is None:
                    closing = time.monotonic()
                if why and session.is_unsettled and time.monotonic() - (closing or 0.0) < _CLOSING_S:
                    why = ""  # the scheduler is about to say what became of the last jobs
            except RefusedError as error:  # the changed file is wrong: what is in the queue goes on
                told.note(str(error))
                why = ""
            except (SchedulerAwayError, LeaseError) as error:
                told.note(str(error))
                why = ""
            except (ConnectionFailure, DatabaseAway) as error:
                told.note(f"the store does not answer: {str(error).split(', Timeout')[0]}")
                session.reconciler.forget()
                why = ""
            if why:
                told.note(why)
                if session.state == "running":
                    raise typer.Exit(LEFT)
                return
            stop.wait(every)
        told.note("stopped as asked; jobs in the queue stay, and the same command goes on")


def _first_check(session: _Session) -> None:
    """Refuse what is wrong from the start; a controller that is silent is waited for, where there is one at all."""
    from workflows.runtime.scheduler.base import SchedulerAwayError

    try:
        session.check()
    except SchedulerAwayError as error:
        if "PATH" in str(error) or "slurm_conf" in str(error):
            raise


def _over(session: _Session, made: Turn) -> str:
    """Say why the watch has nothing left to do; empty if it has."""
    if made.active or made.away:
        return ""
    state = session.state
    if state != "running":
        return f"the campaign is {state}"
    if made.spending.is_over:
        return f"the budget is spent: {sum(made.spending.spent.values()):.2f} of {made.spending.budget:g} core-hours"
    if made.is_out_of_hours:
        return f"no job may be submitted any more: {next(iter(made.plan.held.values()))}"
    if made.queues.ready and made.aside and set(made.aside) >= set(session.place.chosen):
        return "every kind of pilot is set aside; the same command with --retry tries again"
    return ""


class _Teller:
    """Tells what happens, once."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.last = ""

    def note(self, message: str) -> None:
        """Tell something for people, unless it was just told."""
        if message == self.last:
            return
        self.last = message
        if self.as_json:
            self._line({"event": "note", "message": message})
        else:
            output.say(f"{_clock()} {message}")
        sys.stdout.flush()

    def turn(self, session: _Session, made: Turn, before: str) -> str:
        """Tell what a turn did, if anything is new."""
        line = "; ".join(lines_of(made, session.place, reserve=session.reserve))
        if line != before:
            if self.as_json:
                self._line({"event": "turn", **session.as_dict(made)})
            else:
                output.say(f"{_clock()} {line}")
            sys.stdout.flush()
            self.last = ""
        return line

    def _line(self, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")


def _clock() -> str:
    from datetime import datetime

    return f"{datetime.now().astimezone():%H:%M:%S}"
