"""The process of an outside model: what it may see, how it ends, what its log may show."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from generators.adapters import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PASSED = ("PATH", "HOME", "LANG", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
"""The variables of ours that every model sees; the database's address and password must not be among them."""
TAIL_BYTES = 4000
LOG_BYTES = 256_000
"""How much of a log an error shows, and how much of it is kept."""
_CREDENTIALS = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
SHORTEST_SECRET = 6
"""Shorter values (``1``, ``cuda``) are no secrets, and blotting them out would make a log unreadable."""


class EnvironmentProblem(RuntimeError):  # noqa: N818 - what it is called in docs and messages
    """The model's environment lacks something; trying again would not help."""


def child_environment(owner: str, names: Sequence[str], python: str | None = None) -> dict[str, str]:
    """Collect what a model may see.

    Parameters
    ----------
    owner : str
        Generator, for the message.
    names : sequence of str
        Variables beside :data:`PASSED`.
    python : str or None
        The model's interpreter; its folder comes first on the PATH, as when its environment is active.

    Raises
    ------
    EnvironmentProblem
        If a named variable is not set.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise EnvironmentProblem(
            f"{owner}: {', '.join(missing)}, which the option environment names, is not set where sampling runs; set "
            "it in the worker's environment or take it out of the option"
        )
    found = {name: os.environ[name] for name in (*PASSED, *names) if name in os.environ}
    if python is not None and "/" in python:
        found["PATH"] = os.pathsep.join([str(Path(python).parent), found.get("PATH", os.defpath)])
    return found


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Blot out the values of variables that were passed on by name, and passwords in addresses."""
    for name, value in environment.items():
        if name not in PASSED and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return _CREDENTIALS.sub(r"\1***@", text)


def tail_of(log: Path, environment: Mapping[str, str]) -> str:
    """Return the last lines of a log, redacted."""
    if not log.is_file():
        return ""
    text = redacted(_last_bytes(log, LOG_BYTES), environment)
    return text[-TAIL_BYTES:].strip()


def _last_bytes(path: Path, most: int) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - most))
        return stream.read().decode(errors="replace")


class Process:
    """A model at work, in a process group of its own behind :mod:`generators.adapters.guard`.

    Parameters
    ----------
    command : sequence of str
        No shell reads it.
    folder : pathlib.Path
        Its working directory.
    log : pathlib.Path
        Takes its standard output and error.
    environment : mapping of str to str
        All that it sees.
    grace_s : float
        Between SIGTERM and SIGKILL, s.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str], grace_s: float
    ) -> None:
        self._log, self._environment, self._grace_s = log, environment, grace_s
        line = [sys.executable, "-I", "-S", guard.__file__, str(grace_s), *command]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a list, no shell
                line,
                stdin=subprocess.PIPE,  # its end tells the guard that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )
        self.code: int | None = None

    def ended(self) -> bool:
        """Tell whether it has ended; its number stays taken until :meth:`close`."""
        if self.code is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def stop(self) -> None:
        """End the whole group: SIGTERM, then SIGKILL after the grace time; without effect on one that has ended."""
        if not self.ended():
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + self._grace_s
            while not self.ended() and time.monotonic() < deadline:
                time.sleep(0.01)
        self.close()

    def close(self) -> int:
        """Kill whatever of its group is left, reap it, keep the end of its log; return its exit code.

        The group is killed before the leader is reaped: until then nobody else can have its number.
        """
        if self.code is None:
            self._signal(signal.SIGKILL)
            self.code = self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._log.write_text(redacted(_last_bytes(self._log, LOG_BYTES), self._environment))
        return self.code

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group that is a zombie
            os.killpg(self._process.pid, number)


def what_ended(code: int) -> str:
    """Say in words how a process ended."""
    if code == guard.NOT_STARTED:
        return "could not be started (127)"
    if code > 128 or code < 0:
        number = code - 128 if code > 128 else -code
        try:
            name = signal.Signals(number).name
        except ValueError:
            return f"ended with exit code {code}"
        return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def find_program(owner: str, option: str, program: str, environment: Mapping[str, str], wanted: str) -> str:
    """Find a program as the model's environment would.

    Raises
    ------
    EnvironmentProblem
        If there is none; the message says what would be right.
    """
    found = shutil.which(program, path=environment.get("PATH", os.defpath))
    if found is None:
        problem = "is not executable" if Path(program).is_file() else "is not there"
        raise EnvironmentProblem(f"{owner}: {program} (option {option}) {problem}; {wanted}")
    return found
