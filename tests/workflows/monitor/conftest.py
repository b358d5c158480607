"""A campaign as the stages leave it in the database, written by hand so that every number is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from workflows.causes import CAUSES
from workflows.records import Attempt, Candidate, Cause, Rerun, Round, RoundSummary, Verdict, candidate_id, now
from workflows.spec import CampaignSpec

if TYPE_CHECKING:
    from workflows.runtime.store import Store


@dataclass
class Scene:
    """Writes what stages would have written."""

    database: Any
    name: str = "oxides"
    jobs: int = 0

    def campaign(self, *, state: str = "running", why: str = "", **spec: Any) -> None:
        content = {"name": self.name, "chemistry": {"allowed": ["Mg", "O"]}, "samples": 4, "control": 2} | spec
        parsed = CampaignSpec.model_validate(content)
        self.database.campaigns.insert_one(
            {
                "name": self.name,
                "spec": parsed.model_dump(mode="json"),
                "spec_sha256": parsed.sha256(),
                "state": state,
                "why": why,
                "directory": "/nowhere",
            }
        )

    def round(self, number: int, state: str = "open", *, hours_ago: float = 1.0, **summary: int) -> None:
        record = Round(campaign=self.name, round=number, state=state, generator_state="0" * 64)
        record.control_state = "1" * 64 if number > 1 else None
        record.claimed_at = now() - timedelta(hours=hours_ago)
        if state == "closed":
            record.closed_at = record.claimed_at + timedelta(hours=0.5)
            record.summary = RoundSummary(number=number, **summary)
        self.database.rounds.insert_one(record.model_dump())

    def candidate(self, number: int, index: int, *, control: bool = False, **blocks: Any) -> str:
        name = candidate_id(self.name, number, index, control)
        record = Candidate(
            candidate=name,
            campaign=self.name,
            round=number,
            index=index,
            control=control,
            generator="random",
            generator_version="1",
            generator_state="0" * 64,
            seed=index,
            condition={},
            structure={"large": "x" * 2000},
            formula="MgO",
            n_atoms=2,
        )
        self.database.candidates.insert_one(record.model_dump() | blocks)
        return name

    def firework(self, number: int, stage: str, state: str, candidate: str | None = None) -> int:
        self.jobs += 1
        block = {"campaign": self.name, "round": number, "stage": stage, "candidate": candidate, "engine": "mlip"}
        self.database.fireworks.insert_one(
            {"fw_id": self.jobs, "state": state, "spec": {"nucleate": block, "_tasks": []}}
        )
        return self.jobs

    def attempt(
        self,
        number: int,
        stage: str,
        candidate: str | None = None,
        *,
        state: str = "running",
        cause: int | None = None,
        evidence: str = "seen",
        fw_id: int | None = None,
        **more: Any,
    ) -> int:
        self.jobs += 1
        fw_id = fw_id or self.jobs
        record = Attempt(
            attempt=f"fw{fw_id}-l{self.jobs}",
            campaign=self.name,
            round=number,
            candidate=candidate,
            stage=stage,
            job_uuid=f"uuid-{fw_id}",
            fw_id=fw_id,
            launch_id=self.jobs,
            state=state,
            directory=f"/launches/{self.jobs}",
            started_at=now() - timedelta(seconds=30),
            cause=Cause(code=cause, name=CAUSES[cause].name, evidence=evidence, stage=stage) if cause else None,
            **more,
        )
        self.database.attempts.insert_one(record.model_dump())
        return fw_id

    def rerun(self, number: int, stage: str, candidate: str, *, cause: int, fw_id: int) -> None:
        """Ask for a job again, after its last launch so far."""
        record = Attempt(
            attempt=f"{candidate}-{stage}-fw{fw_id}-after{self.jobs}",
            campaign=self.name,
            round=number,
            candidate=candidate,
            stage=stage,
            fw_id=fw_id,
            state="begun",
            planned_at=now() + timedelta(seconds=self.jobs),
            cause=Cause(code=cause, name=CAUSES[cause].name, evidence="seen", stage=stage),
            rerun=Rerun(after_launch=self.jobs),
        )
        self.database.attempts.insert_one(record.model_dump())

    def verdict(
        self, number: int, candidate: str, *, cause: int | None = None, stage: str = "relax", **more: Any
    ) -> None:
        record = Verdict(
            **{
                "candidate": candidate,
                "campaign": self.name,
                "round": number,
                "formula": "MgO",
                "verified": cause is None,
                "stable": cause is None,
                "hit": False,
                "engine": "mlip",
                "protocol": "fast",
                "cause": Cause(code=cause, name=CAUSES[cause].name, evidence="judged", stage=stage) if cause else None,
            }
            | more
        )
        self.database.verdicts.insert_one(record.model_dump())


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store.database)
