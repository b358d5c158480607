"""Tasks of the packing benchmark: each sleeps for as long as it was told, in a process of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from jobflow import Flow, job

from benchmarks.faults.campaign import NAME, PROFILE, register
from workflows.records import candidate_id
from workflows.rounds import workflow_key
from workflows.runtime.firetask import to_workflow
from workflows.runtime.store import open_store
from workflows.stages.dress import block_of, dress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@job
def sleeper(seconds: float) -> float:
    """Sleep.

    Parameters
    ----------
    seconds : float
    """
    subprocess.run(["/usr/bin/env", "sleep", f"{seconds:.3f}"], check=True)
    return seconds


def put_up_sleepers(directory: Path, durations: Sequence[float]) -> None:
    """Put a campaign of sleepers into the store that the settings name, a workflow each."""
    with open_store(PROFILE) as store:
        register(store, directory, "fast", len(durations), [])
        for index, seconds in enumerate(durations):
            block = block_of(NAME, 1, "relax", candidate_id(NAME, 1, index), "mlip")
            task = dress(sleeper(seconds), block, "cpu")
            store.launchpad.add_wf(to_workflow(Flow([task]), name=f"{workflow_key(NAME, 1)}/{index:04d}"))
