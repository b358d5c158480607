"""How pw.x is started on this machine."""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monty.json import MSONable

from dft_inputs.causes import DftError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PwCommand(MSONable):  # type: ignore[misc]  # monty carries no types
    """How pw.x is started.

    Parameters
    ----------
    executable : str
        Name on ``PATH``, or a path.
    launcher : tuple of str
        What stands before it, e.g. ``("mpirun", "-np", "8")``.
    pools : int
        Groups of processes that share the k-points out (``-nk``); never more than processes or k-points.
    memory_gb : float or None
        What the run may use on this machine; an input that is estimated above it is refused (304).
    scratch : str or None
        Directory for pw.x's own files, e.g. a node's local disk; ``None`` keeps them in the run's directory (``out/``).
    environment : dict of str to str
        Added to the process' environment, e.g. ``{"OMPI_ALLOW_RUN_AS_ROOT": "1"}``. ``OMP_NUM_THREADS`` is 1 unless
        given here or there already.
    """

    executable: str = "pw.x"
    launcher: tuple[str, ...] = ()
    pools: int = 1
    memory_gb: float | None = None
    scratch: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "launcher", tuple(self.launcher))  # read back from JSON it is a list
        object.__setattr__(self, "scratch", None if self.scratch is None else str(self.scratch))
        if self.pools < 1:
            raise ValueError(f"pools is {self.pools}: at least 1 is wanted")

    @property
    def processes(self) -> int:
        """MPI processes that the launcher is told to start; 1 if it is not told in a way known here."""
        for word, value in itertools.pairwise(self.launcher):
            if word in {"-n", "-np", "--np", "--ntasks"} and value.isdigit():
                return int(value)
        told = [word.partition("=")[2] for word in self.launcher if word.startswith(("--ntasks=", "--np="))]
        return int(told[-1]) if told and told[-1].isdigit() else 1

    def argv(self, pools: int | None = None) -> list[str]:
        """Give the words of the command; input and output files are the job's affair.

        ``setpriv`` (util-linux), where there is one, stands in front: should whoever started pw.x be killed, the
        kernel ends it too, so that nothing keeps writing to a directory that somebody else has gone on from.

        Parameters
        ----------
        pools : int, optional
            In place of :attr:`pools`.
        """
        leash = shutil.which("setpriv")
        pools = self.pools if pools is None else pools
        return [
            *([leash, "--pdeathsig", "TERM"] if leash else []),
            *self.launcher,
            self.executable,
            *(["-nk", str(pools)] if pools > 1 else []),
        ]

    def require(self) -> None:
        """Refuse a command that can't be started.

        Raises
        ------
        DftError
            203 if the launcher or the executable is nowhere, or is no executable file.
        """
        for program in (*self.launcher[:1], self.executable):
            if shutil.which(program, path=self.variables().get("PATH")) is None:
                raise DftError(203, f"{program}: no such executable on PATH of this machine")

    def variables(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give the environment of the process."""
        return {"OMP_NUM_THREADS": "1", **(os.environ if environ is None else environ), **self.environment}
