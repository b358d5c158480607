"""A whole small campaign for the tests of the graph: real generators, models and database, small cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jobflow
import pytest

from workflows.campaign import launch
from workflows.rounds import repair_claims
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.worker_process import JobRunner
from workflows.spec import CampaignSpec

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.runtime.store import Store


class SmallCampaign:
    """A campaign in a store, run job by job in this process."""

    def __init__(self, store: Store, directory: Path, **changes) -> None:
        self.store = store
        self.directory = directory
        asked = {
            "name": "small",
            "chemistry": {"systems": ["Mg-O", "Al-N"], "max_atoms": 6},
            "targets": {"phonons": "any"},
            "samples": 10,
            "control": 4,
            "batch": 4,
            "rounds": 2,
            "budget": {"verifications": 2},
            "seed": 3,
        }
        self.spec = CampaignSpec.model_validate({**asked, **changes})
        self.launched = launch(self.spec, directory, store=store)
        launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
        self.runner = JobRunner(launchpad, directory / "launches", campaign=self.spec.name)
        self.launchpad = launchpad

    @property
    def database(self):
        return self.store.database

    def run(self, limit: int | None = None) -> int:
        done = self.runner.run_all(limit)
        repair_claims(self.launchpad)
        return done

    def run_until(self, stage: str, number: int = 1) -> None:
        """Run until a job of a stage has completed."""
        query = {"spec.nucleate.stage": stage, "spec.nucleate.round": number, "state": "COMPLETED"}
        while not self.launchpad.fireworks.count_documents(query):
            assert self.runner.run_all(1) == 1, f"{stage} of round {number} was never reached"

    def fw_ids(self, **block) -> list[int]:
        query = {f"spec.nucleate.{key}": value for key, value in block.items()}
        return sorted(fw["fw_id"] for fw in self.launchpad.fireworks.find(query, {"fw_id": 1}))

    def states(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for fw in self.launchpad.fireworks.find({}, {"state": 1}):
            found[fw["state"]] = found.get(fw["state"], 0) + 1
        return found

    def facts(self) -> dict[str, tuple]:
        """What an interrupted campaign must end with too: flags and causes by candidate."""
        return {
            v["candidate"]: (v["verified"], v["stable"], v["hit"], (v["cause"] or {}).get("code"))
            for v in self.database.verdicts.find({})
        }


@pytest.fixture
def small(store, tmp_path, monkeypatch):
    """Launch a small campaign; keyword arguments change its spec."""
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store.jobstore)

    def make(**changes):
        return SmallCampaign(store, tmp_path / "small", **changes)

    return make
