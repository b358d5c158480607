"""How SLURM's commands are run: never longer than allowed, and in surroundings that don't change what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.runtime.scheduler.base import SchedulerAwayError, SchedulerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_AWAY = re.compile(
    r"unable to contact slurm controller|unable to connect|connection (refused|failure|timed out|reset)"
    r"|connect failure|timed out on send/recv|zero bytes were transmitted|unexpected eof|connection to slurmdbd"
    r"|failed to open persistent connection|problem talking to the database|unable to process configuration file"
    r"|could not establish a configuration source|standby mode|temporarily un|system too busy"
    r"|munge.{0,40}(failed|expired|rewound|can't|cannot)|authentication (error|credential)",
    re.IGNORECASE,
)
"""What SLURM says where one of its daemons does not answer, answers half, or trusts nobody."""

_OURS = ("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_QOS")
"""What counts of a user's own settings for SLURM's commands; others change what is printed or what is submitted."""

_THEIRS = re.compile(r"(SLURM|SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SACCTMGR|SCANCEL|SINFO|SCONTROL)_")


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The complaint in one line, without the names of programs."""
        lines = [re.sub(r"^(\w+: )?(error|fatal): ", "", line.strip()) for line in self.stderr.splitlines()]
        return "; ".join(dict.fromkeys(line for line in lines if line)) or f"exit code {self.code}"


@dataclass(frozen=True)
class SlurmCommands:
    """SLURM's commands, of one cluster.

    Parameters
    ----------
    slurm_conf : pathlib.Path or None
        SLURM_CONF, where it is not the default one.
    timeout_s : float
        s after which a command that has not answered is given up.
    """

    slurm_conf: Path | None = None
    timeout_s: float = 20.0

    def run(
        self, program: str, *words: str, script: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run a command to its end.

        Parameters
        ----------
        program : str
        *words : str
        script : str, optional
            Given to it on its standard input.
        environment : mapping of str to str, optional
            Instead of this process' own environment.

        Raises
        ------
        SchedulerAwayError
            If it is not installed, does not come to an end in time, or a daemon of SLURM does not answer it.
        """
        path = shutil.which(program)
        if path is None:
            raise SchedulerAwayError(
                f"no {program} on the PATH: is this a login node of the cluster, and SLURM's module loaded?"
            )
        if self.slurm_conf is not None and not self.slurm_conf.is_file():
            raise SchedulerAwayError(f"slurm_conf: there is no file {self.slurm_conf}")
        try:
            done = subprocess.run(  # noqa: S603  # a list of words, no shell
                [path, *words],
                input=script,
                stdin=subprocess.DEVNULL if script is None else None,
                env=self._surroundings(environment),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SchedulerAwayError(f"{program} gave no answer within {self.timeout_s:g} s") from None
        except OSError as error:
            raise SchedulerAwayError(f"{program}: {error}") from error
        answer = Answer(done.returncode, done.stdout, done.stderr)
        if answer.code and _AWAY.search(answer.stderr):
            raise SchedulerAwayError(f"{program}: {answer.complaint}")
        return answer

    def ask(self, program: str, *words: str) -> str:
        """Run a command that only tells something; whatever goes wrong, nothing may be concluded from it.

        Raises
        ------
        SchedulerAwayError
        """
        answer = self.run(program, *words)
        if answer.code:
            raise SchedulerAwayError(f"{program}: {answer.complaint}")
        return answer.stdout

    def order(
        self, program: str, *words: str, script: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run a command that does something.

        Raises
        ------
        SchedulerError
            If it is refused.
        SchedulerAwayError
            If nobody answers; it may have been done all the same.
        """
        answer = self.run(program, *words, script=script, environment=environment)
        if answer.code:
            raise SchedulerError(f"{program}: {answer.complaint}")
        return answer

    def _surroundings(self, environment: Mapping[str, str] | None) -> dict[str, str]:
        given = os.environ if environment is None else environment
        kept = {name: value for name, value in given.items() if name in _OURS or not _THEIRS.match(name)}
        if environment is None:
            kept |= {"SLURM_TIME_FORMAT": "%s", "TZ": "UTC", "LC_ALL": "C.UTF-8"}  # SLURM prints local times otherwise
        conf = os.environ.get("SLURM_CONF") if self.slurm_conf is None else str(self.slurm_conf)
        return {**kept, "SLURM_CONF": conf} if conf else kept
