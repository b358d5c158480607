"""pw.x as a custodian job: no shell, no change of directory, and always told how long it may take."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custodian.custodian import Job

from dft_inputs import memory
from dft_inputs.causes import SUCCESS, DftError
from dft_inputs.espresso.continuation import outdir_of, remove
from dft_inputs.espresso.density import density_of
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import CRASH, ERRORS, FAILED, INPUT, OUTPUT, RunRecord
from dft_inputs.walltime import seconds_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dft_inputs.espresso.command import PwCommand

GRACE = 10.0
"""s between the request to end and the signal that can't be refused."""

LEAST_SECONDS = 1.0
"""s that must be left to pw.x for a start to make sense."""

_GZIP_ABOVE = 1_000_000
"""Bytes; smaller files are not worth it."""


class PwProcess(subprocess.Popen):  # type: ignore[type-arg]  # custodian tests for Popen itself
    """A process of pw.x that leaves in the directory's record how it ended, and whether memory was what it lacked."""

    def __init__(self, argv: list[str], directory: Path, **kwargs: Any) -> None:
        self._directory = directory
        self._written = False
        self._oom_kills = memory.oom_kills()
        super().__init__(argv, cwd=directory, **kwargs)

    def poll(self) -> int | None:
        """As of Popen."""
        return self._note(super().poll())

    def wait(self, timeout: float | None = None) -> int:
        """As of Popen."""
        code = super().wait(timeout)
        self._note(code)
        return code

    def _note(self, code: int | None) -> int | None:
        if code is not None and not self._written:
            self._written = True
            killed = bool(code) and memory.killed_since(self._oom_kills)
            record = replace(RunRecord.read(self._directory), returncode=code, out_of_memory=killed or None)
            record.write(self._directory)
        return code


class PwJob(Job):  # type: ignore[misc]  # custodian carries no types
    """Run pw.x in a directory that holds ``pw.in``.

    Usable in anybody's Custodian, with ``terminate_on_nonzero_returncode=False`` (pw.x's exit status is no judge: see
    :mod:`dft_inputs.espresso.handlers`) and :class:`dft_inputs.espresso.handlers.PwValidator` as the judge.

    Parameters
    ----------
    command : PwCommand
    keep_density : bool
        Whether the charge density outlives a successful run; wave functions never do.
    """

    def __init__(self, command: PwCommand, keep_density: bool = True) -> None:
        self.command = command
        self.keep_density = keep_density
        self._process: PwProcess | None = None

    def setup(self, directory: str | Path = "./") -> None:
        """Refuse what can't be started here.

        Raises
        ------
        DftError
            202 no space, 203 no executable, 206 pw.x's own directory can't be written.
        """
        directory = Path(directory).absolute()
        self.command.require()
        inp = PwInput.read(directory / INPUT)
        if self.command.scratch is not None:
            inp = inp.changed({"control.outdir": str(_scratch_of(directory, self.command.scratch))})
            inp.write(directory / INPUT)
        outdir = outdir_of(inp, directory)
        _probe(outdir)
        outside = str(outdir) if not outdir.is_relative_to(directory) else None
        replace(RunRecord.read(directory), outdir=outside, calculation=inp.calculation).write(directory)

    def run(self, directory: str | Path = "./") -> PwProcess:
        """Start pw.x, with ``max_seconds`` from the wall-time that is left at this moment.

        Raises
        ------
        DftError
            101 if there is no time left to begin; 203 if the executable can't be run.
        """
        directory = Path(directory).absolute()
        record = RunRecord.read(directory)
        inp = PwInput.read(directory / INPUT)
        left = seconds_left()
        allowed = None if left is None else left - reserve(left, longest_iteration(directory, record))
        if allowed is not None and allowed < LEAST_SECONDS:
            raise DftError(101, f"{left:.0f} s of wall-time are left: too little to start pw.x")
        inp.changed({"control.max_seconds": None if allowed is None else round(allowed, 1)}).write(directory / INPUT)
        pools = record.pools or self.command.pools
        replace(record.before_a_run(), pools=pools, max_seconds=allowed).write(directory)
        (directory / CRASH).unlink(missing_ok=True)
        argv = [*self.command.argv(pools), "-in", INPUT]
        try:
            with (directory / OUTPUT).open("wb") as output, (directory / ERRORS).open("wb") as errors:
                self._process = PwProcess(
                    argv,
                    directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    env=self.command.variables(),
                    start_new_session=True,
                )
        except OSError as why:
            raise DftError(206 if why.errno == errno.EACCES else 203, f"{argv[0]}: {why.strerror}") from why
        return self._process

    def terminate(self, directory: str | Path = "./") -> None:  # noqa: ARG002  # custodian's signature
        """End the whole process group: launchers and their ranks too."""
        if self._process is None or self._process.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
                return

    def postprocess(self, directory: str | Path = "./") -> None:
        """Clean up after success; what failed keeps all that a later run can go on from.

        Raises
        ------
        DftError
            202 if the charge density was not written to its end: pw.x does not always notice.
        """
        directory = Path(directory).absolute()
        if diagnose_pw(directory).code != SUCCESS:
            return
        inp = PwInput.read(directory / INPUT)
        save = outdir_of(inp, directory) / f"{inp.get('control.prefix', 'pw')}.save"
        if (save / "charge-density.dat").exists() and density_of(save) is None:
            bring_home(directory)
            raise DftError(202, f"{save}: the charge density was not written to its end, though pw.x says JOB DONE")
        clean_up(directory, keep_density=self.keep_density)


def clean_up(directory: Path, *, keep_density: bool) -> None:
    """Remove what only a running pw.x needs; compress what is large and worth keeping.

    The charge density (with occupations and the XML summary) comes home to ``out/`` from a scratch elsewhere.
    """
    outdir = bring_home(directory)
    prefix = str(PwInput.read(directory / INPUT).get("control.prefix", "pw"))
    save = outdir / f"{prefix}.save"
    kept = {"charge-density.dat", "data-file-schema.xml", "occup.txt", "paw.txt"} if keep_density else set()
    if save.is_dir():
        for path in save.iterdir():
            if path.name not in kept:
                path.unlink()
    remove(outdir, prefix, keep=save if keep_density else None)
    for path in (directory / OUTPUT, save / "data-file-schema.xml"):
        if path.is_file() and path.stat().st_size > _GZIP_ABOVE:
            with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb", compresslevel=6) as packed:
                shutil.copyfileobj(plain, packed)
            path.unlink()


def bring_home(directory: Path) -> Path:
    """Bring what a later run can use from a scratch elsewhere to ``out/``, and remove the scratch.

    Returns
    -------
    pathlib.Path
        pw.x's own directory as it now is.
    """
    record = RunRecord.read(directory)
    inp = PwInput.read(directory / INPUT)
    if record.outdir is None:
        return outdir_of(inp, directory)
    scratch, home = Path(record.outdir), directory / "out"
    prefix = str(inp.get("control.prefix", "pw"))
    for name in (
        *(f"{prefix}.save/{one}" for one in ("charge-density.dat", "occup.txt", "paw.txt", "data-file-schema.xml")),
        f"{prefix}.bfgs",
    ):
        if (scratch / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(scratch / name, home / name)
    remove(scratch, prefix)
    inp.changed({"control.outdir": "./out"}).write(directory / INPUT)
    replace(record, outdir=None).write(directory)
    return home


def reserve(left: float, iteration: float) -> float:
    """Give the part of the wall-time that pw.x must leave, to stop in good order.

    pw.x looks at its clock between iterations only; then it writes, and so do we.

    Parameters
    ----------
    left : float
        s.
    iteration : float
        s, the longest iteration of a similar run known; 0 if none is.

    Returns
    -------
    float
        s; at most half of what is left, or short jobs would never begin.
    """
    return min(max(10.0, 0.03 * left, 2.0 * iteration), 0.5 * left)


def longest_iteration(directory: Path, record: RunRecord) -> float:
    """Give the longest time between two looks at the clock in earlier outputs of this work: s, 0 if there are none."""
    outputs = [*directory.glob(f"{FAILED}*/{OUTPUT}")]
    if record.continued_from:
        outputs += [Path(record.continued_from) / OUTPUT]
    longest = 0.0
    for path in outputs:
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            clock = [0.0, *map(float, re.findall(r"total cpu time spent up to now is\s+([\d.]+) secs", text))]
            longest = max([longest, *(after - before for before, after in itertools.pairwise(clock))])
    return longest


def _scratch_of(directory: Path, scratch: str) -> Path:
    """Give this directory's own place below a scratch: the same again if asked again."""
    return Path(scratch) / f"pw-{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"


def _probe(outdir: Path) -> None:
    with storage_errors(outdir, every=True):
        outdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outdir) as file:
            file.write(b"\0" * 4096)


@contextlib.contextmanager
def storage_errors(where: Path, *, every: bool = False) -> Iterator[None]:
    """Give a full disk (202) and refused access (206) as causes.

    Parameters
    ----------
    where : pathlib.Path
        What is being written to.
    every : bool
        Whether every other failure of the system is one to write there (206), or none of this (passed on).
    """
    try:
        yield
    except OSError as why:
        if why.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DftError(202, f"{where}: {why.strerror}") from why
        if every or why.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise DftError(206, f"{where}: can't be written: {why.strerror}") from why
        raise
