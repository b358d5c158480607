"""The ``nucleate`` command: what there is, in the order in which people need it."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
import warnings
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

import typer

from workflows.cli import (
    data_sets,
    diagnose,
    generating,
    pseudos,
    reference,
    relaying,
    rerunning,
    results,
    server,
    starting,
    submitting,
    watching,
    working,
)
from workflows.cli.errors import INTERRUPTED, REFUSED, explain

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = """Verified crystals seed the next generation.

Nucleate searches for crystals that meet a target, in rounds. A generator
proposes crystals; cheap checks throw most of them away; an engine verifies
the most promising (energy above hull, phonons, properties); and what was
verified, good and bad, teaches the generator before the next round:

  propose > screen > pre-relax > select > verify > learn > next round

A first campaign of your own:

  nucleate init oxides                   # then edit oxides/campaign.yaml
  nucleate launch oxides/campaign.yaml
  nucleate work -C oxides
  nucleate status -C oxides --watch      # in another terminal
  nucleate report -C oxides

On a cluster, `nucleate submit --cluster NAME --watch` takes the place of work.
"""

START, RUN, WATCH, RESULTS, AROUND = "Start", "Run", "Watch", "Results", "Around it"

app = typer.Typer(
    help=_ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`nucleate COMMAND --help` tells more. Exit code: 0 done, 1 work is left that needs somebody, 2 refused.",
)
app.command(rich_help_panel=START)(starting.init)
app.command(rich_help_panel=START)(starting.check)
app.command(rich_help_panel=START)(starting.launch)
app.command(rich_help_panel=START)(working.demo)
app.command(rich_help_panel=RUN)(working.work)
app.command(rich_help_panel=RUN)(submitting.submit)
app.command(rich_help_panel=RUN)(rerunning.rerun)
app.command(rich_help_panel=RUN)(working.reconcile)
app.command(rich_help_panel=WATCH)(watching.status)
app.command(rich_help_panel=WATCH)(watching.failures)
app.command(rich_help_panel=WATCH)(diagnose.diagnose)
app.command(rich_help_panel=RESULTS)(results.report)
app.command(rich_help_panel=RESULTS)(results.export)
app.command(rich_help_panel=RESULTS)(working.reproduce)
app.add_typer(generating.app, name="generator", rich_help_panel=AROUND)
app.add_typer(reference.app, name="reference", rich_help_panel=AROUND)
app.add_typer(data_sets.app, name="data", rich_help_panel=AROUND)
app.add_typer(pseudos.app, name="pseudos", rich_help_panel=AROUND)
app.add_typer(server.app, name="server", rich_help_panel=AROUND)
app.command(rich_help_panel=AROUND)(relaying.relay)


@app.command(rich_help_panel=AROUND)
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"nucleate {installed_version('nucleate')}\n")


def _let_lines_flow(commands: typer.Typer) -> None:
    """Let the lines of docstrings flow: typer keeps those after the first paragraph as they stand in the source."""
    for command in commands.registered_commands:
        paragraphs = inspect.cleandoc((command.callback and command.callback.__doc__) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.splitlines()) for paragraph in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _let_lines_flow(group.typer_instance)


_let_lines_flow(app)


def run(arguments: Sequence[str]) -> int:
    """Run a command line.

    Returns
    -------
    int
        Its exit code; every error has become a message on stderr.
    """
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="nucleate", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        _usage(error)
        return REFUSED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us (head, less) has seen enough; Python must not complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the one place where errors become messages
        from workflows.cli.output import complain

        complain(explain(error))
        return REFUSED
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> None:
    from workflows.cli.output import complain

    context = getattr(error, "ctx", None)
    # With no arguments the message is the help itself.
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.format_message()}\n")
        return
    hint = f"\n`{context.command_path} --help` tells what it takes" if context is not None else ""
    complain(f"{error.format_message()}{hint}")


def _keep_private() -> None:
    """Keep what this process and its children write from everybody else, whatever the shell's umask.

    Campaigns lie on login nodes with many users; NUCLEATE_UMASK (octal, 027 lets the group read) says otherwise.
    """
    wanted = os.environ.get("NUCLEATE_UMASK", "077")
    if not re.fullmatch("0?[0-7]{3}", wanted):
        sys.stderr.write(f"nucleate: NUCLEATE_UMASK is {wanted!r} and must be three octal digits such as 027\n")
        sys.exit(REFUSED)
    os.umask(int(wanted, 8))


def main() -> None:
    """Run the command line of this process and exit."""
    _keep_private()
    if not sys.warnoptions:
        # What libraries warn their programmers of is nothing that a user could act on; `python -W` still shows it.
        warnings.simplefilter("ignore")
    code = run(sys.argv[1:])
    # All is said: a Ctrl-C now could only make libraries complain while they close their connections.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
