"""One run of an outside model: started, read while it works, ended in time, kept when it is done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from generators.adapters.process import Process, tail_of, what_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from generators.adapters.reading import Found
    from generators.base import Condition

OUTPUT, LOG, RECORD, CONDITION = "out", "output.log", "run.json", "condition.json"
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.01, 0.25
"""Between looks at a model at work: short at first, for tiny models and tests."""


@dataclass(frozen=True)
class Run:
    """What one run of a model is asked for.

    Parameters
    ----------
    batch : int
        Number of the batch of indices that it fills.
    number : int
        0 for the first run for that batch; later ones fill what the earlier left open.
    n : int
        Crystals.
    seed : int
    start : int
        Index of the first crystal of the batch in the stream.
    condition : Condition
    """

    batch: int
    number: int
    n: int
    seed: int
    start: int
    condition: Condition

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"batch-{self.batch:05d}-run-{self.number:02d}"


class Part(NamedTuple):
    """Crystals that a model finished together: a batch of its manifest, or all that it wrote."""

    crystals: list[Found]
    model: str
    version: str
    sha256: str


class FailedRun(RuntimeError):  # noqa: N818 - what it is called in docs and messages
    """A run that went wrong; the same run may go well the next time.

    Parameters
    ----------
    reason : str
    tail : str
        Of the model's log.
    """

    def __init__(self, reason: str, tail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.tail = reason, tail


def work(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    reader: Callable[[Path, int, int | None], Iterator[Part]],
    *,
    timeout_s: float,
    grace_s: float,
    done: Callable[[list[str]], None],
    enough: Callable[[], bool],
) -> Generator[Part, None, None]:
    """Run a model and yield each part as soon as it is finished; the process is gone when this ends, however it ends.

    Parameters
    ----------
    command : sequence of str
    folder : pathlib.Path
        Its working directory; it writes into ``out`` in it.
    environment : mapping of str to str
    reader : callable
        ``reader(folder, seen, code)`` yields the finished parts from number ``seen`` on; ``code`` is None while the
        model works.
    timeout_s, grace_s : float
        Longest silence; between SIGTERM and SIGKILL.
    done : callable
        Called with the hashes of all parts when the run went well, before the last of them are yielded.
    enough : callable
        True when nothing more is needed: the model then has the grace time to end by itself, so that the run is done.

    Raises
    ------
    FailedRun
        After the parts that were finished were yielded.
    """
    output, log = folder / OUTPUT, folder / LOG
    process = Process(command, folder, log, environment, grace_s)
    hashes: list[str] = []
    crystals = 0
    settled: float | None = None
    try:
        since, wait = time.monotonic(), SHORTEST_WAIT_S
        while True:
            code = process.close() if process.ended() else None
            fresh, failure = [], None
            try:
                for part in reader(output, len(hashes), code):
                    fresh.append(part)
                    hashes.append(part.sha256)
                    crystals += len(part.crystals)
            except FailedRun as error:
                failure = error
            if failure is None and code is not None:
                if code != 0:
                    failure = FailedRun(what_ended(code))
                elif crystals == 0:
                    failure = FailedRun("it ended without an error, but wrote no crystals")
                else:
                    done(hashes)
            yield from fresh
            if failure is not None:
                process.stop()
                raise FailedRun(failure.reason, tail_of(log, environment))
            if code is not None:
                return
            if enough():
                settled = settled or time.monotonic()
                if time.monotonic() - settled > grace_s:
                    return
            if fresh:  # whoever takes the crystals may be slow; that is not the model's silence
                since, wait = time.monotonic(), SHORTEST_WAIT_S
            elif time.monotonic() - since > timeout_s:
                process.stop()
                raise FailedRun(f"it wrote nothing for {timeout_s:g} s (option timeout_s)", tail_of(log, environment))
            time.sleep(min(wait, timeout_s))
            wait = min(LONGEST_WAIT_S, 1.2 * wait)
    finally:
        process.stop()


class Store:
    """Folder of finished runs; what is not finished lies apart, under the number of the process that works on it.

    Parameters
    ----------
    root : pathlib.Path
        Of one stream: the same model, condition and seed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._places: list[Path] = []
        self._sweep()

    def workplace(self, run: Run, condition: Mapping[str, Any]) -> Path:
        """Make an empty place for a run, with its condition."""
        prefix = f"work-{os.uname().nodename}-{os.getpid()}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=f"-{run.name}", dir=self.root))
        self._places.append(folder)
        (folder / OUTPUT).mkdir()
        (folder / CONDITION).write_text(json.dumps(condition, sort_keys=True))
        return folder

    def keep(
        self, folder: Path, run: Run, hashes: Sequence[str], *, version: str | None = None, lost: str | None = None
    ) -> None:
        """Keep a run: its record is written, then its folder gets its own name, in one step.

        Parameters
        ----------
        folder : pathlib.Path
            As ``workplace`` gave it.
        run : Run
        hashes : sequence of str
            Of its parts.
        version : str, optional
            Of the model, where its parts do not tell it.
        lost : str, optional
            Why it brought no more than these.
        """
        record = {"n": run.n, "seed": run.seed, "parts": list(hashes), "version": version, "lost": lost}
        (folder / RECORD).write_text(json.dumps(record) + "\n")
        # If another process was faster, its folder stays: the same run, the same crystals.
        with suppress(OSError):
            folder.rename(self.root / run.name)

    def kept(
        self, run: Run, reader: Callable[[Path, int, int | None], Iterator[Part]]
    ) -> tuple[list[Part], str | None] | None:
        """Read a run that was kept; None if it was not, or is damaged (it is removed then).

        Returns
        -------
        parts : list of Part
        lost : str or None
            Why there are no more.
        """
        folder = self.root / run.name
        if not folder.is_dir():
            return None
        try:
            record = json.loads((folder / RECORD).read_text())
            hashes = list(record["parts"])
            if (record["n"], record["seed"]) != (run.n, run.seed):
                raise ValueError("another run")  # noqa: TRY301 - one way out for all that is wrong with it
            parts: list[Part] = []
            if hashes:
                for part in reader(folder / OUTPUT, 0, 0):
                    version = record["version"]
                    parts.append(part if version is None else part._replace(version=str(version)))
                    if len(parts) == len(hashes):
                        break
            if [part.sha256 for part in parts] != hashes:
                raise ValueError("changed")  # noqa: TRY301 - as above
        except (OSError, ValueError, KeyError, TypeError, FailedRun):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        lost = record.get("lost")
        return parts, None if lost is None else str(lost)

    def clear(self) -> None:
        """Remove the workplaces whose runs were not kept."""
        for folder in self._places:
            shutil.rmtree(folder, ignore_errors=True)
        self._places.clear()

    def _sweep(self) -> None:
        """Remove what processes of this machine left that are no more."""
        mine = f"work-{os.uname().nodename}-"
        for folder in self.root.glob("work-*"):
            number = folder.name.removeprefix(mine).partition("-")[0]
            if folder.name.startswith(mine) and number.isdigit() and not _alive(int(number)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
