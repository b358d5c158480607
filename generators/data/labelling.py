"""Labels of many crystals, made in processes and kept as they come: a run that was interrupted goes on.

A log holds a line for each label, in JSON. A line that a kill cut off is left out, and its label made again.
"""

from __future__ import annotations

import warnings
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from generators import json_lines
from generators.data.labels import Label, label_all
from generators.processes import worker_pool
from generators.relaxer import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pymatgen.core import Structure

CHUNK = 32
"""Crystals that a process takes at a time."""


def labelled(
    wanted: Mapping[str, Structure],
    log: Path,
    *,
    processes: int = 1,
    model: str = DEFAULT_MODEL,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Label]:
    """Label what the log does not hold yet.

    Parameters
    ----------
    wanted : mapping of str to pymatgen.core.Structure
        By a name that is this crystal's alone, whatever else is asked for.
    log : pathlib.Path
        Made if missing.
    processes : int
    model : str
        A name in :data:`generators.relaxer.MODELS`; one log belongs to one model.
    on_progress : callable, optional
        Called with the number done and the number wanted, once before the first and after each label.

    Returns
    -------
    dict of str to Label
        In the order of ``wanted``.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        If a process died, for want of memory most likely; what was done is kept.
    """
    json_lines.mend(log)
    done = {label.label: label for label in read_labels(log) if label.label in wanted}
    missing = {name: structure for name, structure in wanted.items() if name not in done}
    if on_progress is not None:
        on_progress(len(done), len(wanted))
    for label in _made(missing, processes, model):
        done[label.label] = label
        json_lines.append(log, label.as_dict())
        if on_progress is not None:
            on_progress(len(done), len(wanted))
    return {name: done[name] for name in wanted}


def read_labels(log: Path) -> Iterator[Label]:
    """Read a log; a line that is no label is left out."""
    for record in json_lines.read(log):
        with suppress(TypeError):
            yield Label(**record)


def _made(missing: Mapping[str, Structure], processes: int, model: str) -> Iterator[Label]:
    names = list(missing)
    chunks = [{name: missing[name] for name in names[i : i + CHUNK]} for i in range(0, len(names), CHUNK)]
    if processes == 1:
        for chunk in chunks:
            yield from _chunk(chunk, model)
        return
    with worker_pool(processes) as pool:
        waiting: set[Future[list[Label]]] = set()
        queue = deque(chunks)
        while True:
            while queue and len(waiting) < 2 * processes:
                waiting.add(pool.submit(_chunk, queue.popleft(), model))
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield from future.result()


def _chunk(wanted: dict[str, Structure], model: str) -> list[Label]:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    return label_all(list(wanted), list(wanted.values()), model=model)
