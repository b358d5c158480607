"""Whether a model's environment has what the model needs, asked of its own interpreter before anything is run."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from generators.adapters.process import EnvironmentProblem, find_program, redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROBE = """
import importlib.util, json, sys
try:
    from importlib.metadata import version
except ImportError:
    version = None
found = {}
for name in sys.argv[1:]:
    try:
        there = importlib.util.find_spec(name) is not None
    except ImportError:
        there = False
    found[name] = None
    if there:
        found[name] = ""
        try:
            found[name] = version(name.partition(".")[0])
        except Exception:
            pass
print("\\n" + json.dumps({"python": sys.version.split()[0], "modules": found}))
"""
"""Runs in the foreign interpreter; any Python 3."""
PROBE_TIMEOUT_S = 120.0
"""A cold interpreter on a network file system takes its time."""


class Python(NamedTuple):
    """What an interpreter is and has: its version, and for each module that of its package (empty if it tells none)."""

    version: str
    modules: dict[str, str]


def probe(owner: str, python: str, needs: Sequence[str], environment: Mapping[str, str]) -> Python:
    """Ask an interpreter for modules.

    Parameters
    ----------
    owner : str
        Generator, for the message.
    python : str
        Path or name of the interpreter.
    needs : sequence of str
        Names of modules; a module in a package has its package imported.
    environment : mapping of str to str
        As the model will see it.

    Raises
    ------
    EnvironmentProblem
        If the interpreter is not there, does not run, or lacks a module.
    """
    wanted = "give the path of bin/python in the model's own environment"
    program = find_program(owner, "python", python, environment, wanted)
    with tempfile.TemporaryDirectory(prefix="nucleate-probe-") as empty:
        try:
            done = subprocess.run(  # noqa: S603 - a list, no shell
                [program, "-c", PROBE, *needs],
                env=dict(environment),
                cwd=empty,  # no module of ours must be found here
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROBE_TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise EnvironmentProblem(f"{owner}: {program} (option python) does not run: {reason}; {wanted}") from error
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"{owner}: {program} (option python) did not answer in {PROBE_TIMEOUT_S:g} s; {wanted}"
            ) from error
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        version, modules = str(answer["python"]), dict(answer["modules"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        last = (redacted(done.stderr, environment).strip().splitlines() or ["nothing"])[-1]
        raise EnvironmentProblem(
            f"{owner}: {program} (option python) is no Python that works, it said: {last}; {wanted}"
        ) from error
    missing = [name for name in needs if modules.get(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"{owner}: {program} (Python {version}) has no module {', '.join(missing)}; install it there "
            f"({program} -m pip install ...) or let the option python name the environment that has it"
        )
    return Python(version, {name: str(value) for name, value in modules.items()})
