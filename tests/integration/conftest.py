"""A whole small campaign for the tests of the graph: real generators, models and database, small cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jobflow
import pytest
from rerun_state import states

from workflows.campaign import launch
from workflows.records import Attempt, now
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
            "generator": "ion_exchange",
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
        return states(self.database)

    def selected(self, number: int = 1) -> list[str]:
        query = {"select.selected": True, "round": number}
        return sorted(c["candidate"] for c in self.database.candidates.find(query, {"candidate": 1}))

    def verdict(self, candidate: str) -> dict[str, Any] | None:
        return self.database.verdicts.find_one({"candidate": candidate}, {"_id": 0})

    def ask(self, candidate: str, wanted: dict[str, Any], stage: str = "relax") -> None:
        """Ask a stage of a candidate to run otherwise; not as a re-run does, so that it counts as none."""
        self.store.attempts.insert_one(
            Attempt(
                attempt=f"{candidate}-{stage}-asked-{self.store.attempts.count_documents({})}",
                campaign=self.spec.name,
                round=1,
                candidate=candidate,
                stage=stage,
                state="planned",
                planned_at=now(),
                overrides=wanted,
            ).model_dump()
        )

    def spoil(self, candidate: str) -> None:
        """Ask that a candidate's relaxation fails."""
        self.ask(candidate, {"maker": {"steps": 2, "relax_kwargs": {"fmax": 1e-12}, "unconverged_cause": 501}})

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
