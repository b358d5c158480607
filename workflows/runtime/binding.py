"""Binding this process, and whatever it starts, to cores for the time of a task."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_INHERIT = {
    # Open MPI binds ranks by its own count, from the machine's first core on: two runs side by side would share that
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@contextmanager
def bound(cores: Sequence[int], threads: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Bind this process to cores and change its environment, for the duration of a block.

    Parameters
    ----------
    cores : sequence of int
        Empty: it stays where it is.
    threads : int
        Threads that numerical libraries may use.
    environment : mapping of str to str
        Further variables.
    """
    wanted = {**dict.fromkeys(THREADS, str(threads)), **environment}
    if cores:
        wanted |= {name: value for name, value in _INHERIT.items() if name not in os.environ}
    before = {name: os.environ.get(name) for name in wanted}
    allowed = os.sched_getaffinity(0)
    os.environ.update(wanted)
    _use_threads(threads)
    if cores:
        _bind(cores)
    try:
        yield
    finally:
        if cores:
            _bind(allowed)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _bind(cores: Sequence[int] | set[int]) -> None:
    """Bind all threads there are; those to come, and child processes, inherit it."""
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - names are wanted
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)


def _use_threads(threads: int) -> None:
    """Tell torch, which reads the environment only when it is first loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
