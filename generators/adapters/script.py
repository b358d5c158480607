"""A model of one's own as a generator: any program that keeps the contract of :mod:`generators.adapters.outside`."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.adapters import manifest
from generators.adapters.options import PLACEHOLDER, Running, anchored_word, program, texts
from generators.adapters.process import EnvironmentProblem, find_program
from generators.adapters.stream import OutsideGenerator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from generators.adapters.runs import Part, Run

PLACEHOLDERS = ("python", "output", "n", "seed", "start", "condition")
NEEDED = ("output", "n", "seed")
"""Without them a run would write nowhere, or each run would bring the same crystals."""
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class OutsideModel(OutsideGenerator):
    """A program of one's own, in an environment of its own.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell reads them. ``{python}``, ``{output}`` (folder to write into), ``{n}``,
        ``{seed}``, ``{start}`` and ``{condition}`` (JSON file) are replaced; ``{output}``, ``{n}`` and ``{seed}`` are
        needed. A relative path of a file that is there is taken from the working directory now.
    python : str or None
        Interpreter of the model's environment.
    needs : sequence of str
        Modules that this interpreter must have.
    batch : int
        Crystals asked for in one run.
    timeout_s : float
        Longest silence of the model, s: between start, batches and end.
    environment : sequence of str
        Names of variables that the model may see beside PATH, HOME, LANG, CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS.
    cache : str or None
        Folder that keeps finished runs.
    max_failures : int
        Runs lost in a row after which sampling stops.
    tries : int
        Runs, at most, to fill one batch of indices.
    grace_s : float
        Between SIGTERM and SIGKILL, s.

    Raises
    ------
    ValueError
        If an option has a wrong type or value; the message names it.
    """

    name = "script"

    def __init__(
        self,
        command: Sequence[str],
        python: str | None = None,
        needs: Sequence[str] = (),
        batch: int = 32,
        timeout_s: float = 3600.0,
        environment: Sequence[str] = (),
        cache: str | None = None,
        max_failures: int = 3,
        tries: int = 20,
        grace_s: float = 10.0,
    ) -> None:
        running = Running.checked(
            self.name,
            batch=batch,
            timeout_s=timeout_s,
            environment=environment,
            cache=cache,
            max_failures=max_failures,
            tries=tries,
            grace_s=grace_s,
        )
        python = None if python is None else program(self.name, "python", python)
        modules = texts(self.name, "needs", needs)
        for module in modules:
            if not _MODULE.fullmatch(module) or any(keyword.iskeyword(part) for part in module.split(".")):
                raise ValueError(f"{self.name}: the option needs takes names of modules, not {module!r}")
        if modules and python is None:
            raise ValueError(f"{self.name}: the option needs asks for the option python, whose modules are looked at")
        self.command = tuple(anchored_word(one) for one in texts(self.name, "command", command, least=1))
        used = {found for word in self.command for found in PLACEHOLDER.findall(word)}
        if unknown := sorted(used - set(PLACEHOLDERS)):
            known = ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
            raise ValueError(f"{self.name}: the option command has {{{unknown[0]}}}; it may have {known}")
        if missing := [p for p in NEEDED if p not in used]:
            raise ValueError(f"{self.name}: the option command needs {', '.join(f'{{{p}}}' for p in missing)}")
        if "python" in used and python is None:
            raise ValueError(f"{self.name}: the option command has {{python}}, so the option python has to be given")
        super().__init__(running, python, modules)

    def options(self) -> dict[str, Any]:
        """Return the options that make an equal generator."""
        return {
            "command": list(self.command),
            "python": self.python,
            "needs": list(self.needs),
            **self.running.as_options(),
        }

    def _command(self, run: Run, output: Path, condition_file: Path) -> tuple[list[str], dict[str, Any]]:
        values = {
            "python": self.python or "",
            "output": str(output),
            "n": str(run.n),
            "seed": str(run.seed),
            "start": str(run.start),
            "condition": str(condition_file),
        }
        return [PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in self.command], {}

    def _parts(self, folder: Path, seen: int, code: int | None) -> Iterator[Part]:
        return manifest.parts(folder, seen, code)

    def _files(self) -> tuple[str, ...]:
        return tuple(word for word in self.command if Path(word).is_absolute() and Path(word).is_file())

    def _check(self, environment: Mapping[str, str]) -> None:
        first = self.command[0]
        if first != "{python}":
            find_program(self.name, "command", first, environment, "give the path of the program")
        for word in self.command[1:]:
            if word.endswith(".py") and not PLACEHOLDER.search(word) and not Path(word).is_file():
                raise EnvironmentProblem(
                    f"{self.name}: {word} (option command) is not there; give its full path, as it is where sampling "
                    "runs"
                )
