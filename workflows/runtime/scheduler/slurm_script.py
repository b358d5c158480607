"""A request for a job in SLURM's words: options of sbatch, the batch script, and the job's first environment."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from workflows.runtime.scheduler.base import SchedulerError
from workflows.runtime.scheduler.slurm_tables import STAND_IN

if TYPE_CHECKING:
    from workflows.runtime.scheduler.base import JobRequest

_OF_THE_USER = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "LC_CTYPE")
"""What a job has of its submitter's environment. Anything else of a terminal (agents, displays, temporary directories,
passwords) is wrong or has no business on a node."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHANGED = re.compile(r'["\\]')
"""What accounting writes as something else, so that a job would not be found again by its name."""


def options(request: JobRequest) -> list[str]:
    """Give sbatch's options; they stand on its command line, so nothing of the environment is among them.

    Raises
    ------
    SchedulerError
        If a word could not reach SLURM as it is.
    """
    _refuse_odd_words(request)
    tasks = -(-request.cores // request.nodes)
    words = [
        f"--job-name={request.name}",
        f"--chdir={request.directory}",
        f"--output={_literal(str(request.output))}",
        "--open-mode=append",  # a job that is put back into the queue keeps what its earlier run said
        f"--nodes={request.nodes}",
        # one task a core, so that mpirun finds its slots
        f"--ntasks={request.cores}",
        f"--ntasks-per-node={tasks}",
        f"--mem={max(1, round(request.memory_gb * 1024))}M",
        f"--time={request.minutes}",
        "--requeue" if request.requeue else "--no-requeue",
        "--export=ALL",  # of the environment that we give it, not of a terminal's
        "--propagate=NONE",  # login nodes limit processes and memory more than jobs bear
    ]
    if request.warn_s:
        words.append(f"--signal=B:TERM@{request.warn_s}")  # slurmctld looks every 30 s: it may come that much earlier
    if request.gpus:
        words.append(f"--gres=gpu:{-(-request.gpus // request.nodes)}")
    named = ("partition", "account", "qos", "reservation", "constraint")
    words += [f"--{name}={value}" for name in named if (value := getattr(request, name))]
    if request.exclude:
        words.append(f"--exclude={','.join(request.exclude)}")
    return [*words, *request.extra]


def script(request: JobRequest) -> str:
    """Give the batch script.

    The machine's profile is read, so that ``module`` is there. The user's own is not: what it does for a terminal
    (pyenv, conda) takes seconds on a shared file system, and where many jobs begin at once, they wait for one another's
    locks. What the request's environment says goes before what the profile says; the values themselves are not in the
    script, which whoever sees the job may read.
    """
    kept = sorted(request.environment)
    lines = [
        "#!/bin/bash",
        *(f"nucleate_kept_{number}=${{{name}}}" for number, name in enumerate(kept)),
        "[ -r /etc/profile ] && . /etc/profile",
        *(f"export {name}=$nucleate_kept_{number}" for number, name in enumerate(kept)),
        "unset ${!nucleate_*}",
        *request.setup,
        f"exec {shlex.join(request.command)}",  # signals reach the command, and its exit code is the job's
    ]
    return "\n".join(lines) + "\n"


def environment(request: JobRequest) -> dict[str, str]:
    """Give the environment that sbatch is run with, and that the job begins with."""
    own = {name: os.environ[name] for name in _OF_THE_USER if name in os.environ}
    defaults = {name: os.environ[name] for name in os.environ if name in {"SBATCH_ACCOUNT", "SBATCH_QOS"}}
    return {"PATH": os.defpath, **own, **defaults, **request.environment}


def _literal(path: str) -> str:
    """Keep SLURM from reading ``%j`` and the like in a path."""
    return path.replace("%", "%%")


def _refuse_odd_words(request: JobRequest) -> None:
    for what, text in (("name", request.name), ("directory", str(request.directory)), ("output", str(request.output))):
        if _CONTROL.search(text) or not text:
            raise SchedulerError(f"{what} {text!r} of a job: empty, or with control characters in it")
    if _CHANGED.search(request.name) or request.name == STAND_IN:
        raise SchedulerError(f'name {request.name!r} of a job: neither " nor \\ may be in it, nor may it be {STAND_IN}')
    for what, path in (("directory", request.directory), ("output", request.output)):
        if not path.is_absolute():
            raise SchedulerError(f"{what} {path} of job {request.name}: an absolute path is wanted")
    for name, value in request.environment.items():
        if not _NAME.fullmatch(name):
            raise SchedulerError(f"environment of job {request.name}: {name!r} is no name of a variable")
        if "\0" in value:
            raise SchedulerError(f"environment of job {request.name}: {name} has a zero byte in it")
    if not request.command:
        raise SchedulerError(f"job {request.name}: no command")
