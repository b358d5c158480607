"""Worker processes that end with whoever started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Make a pool of fresh processes (spawned: forked ones hang with torch's threads).

    A worker of the standard library's pool waits for ever for work of a parent that was killed: each holds the writing
    end of the queue that all read from. These look after their parent and end when it is gone.

    Parameters
    ----------
    processes : int
    """
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    threading.Thread(target=_wait_for_its_end, name="parent-watch", daemon=True).start()


def _wait_for_its_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
