"""What was tried so far for a candidate (or a round's own jobs): launches, re-runs asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.causes import UPSTREAM

if TYPE_CHECKING:
    from pymongo.database import Database

_FIELDS = {
    "_id": 0, "attempt": 1, "stage": 1, "job_uuid": 1, "job_index": 1, "fw_id": 1, "launch_id": 1, "state": 1,
    "cause": 1, "seconds": 1, "directory": 1, "planned_at": 1, "started_at": 1, "set_aside": 1, "replaced": 1,
    "took": 1, "overrides": 1, "rerun.after_launch": 1, "rerun.before": 1,
}  # fmt: skip


@dataclass
class History:
    """Attempts of one candidate in a round, or of the round's own jobs.

    Parameters
    ----------
    launched : list of dict
        Attempts that were launches, oldest first.
    planned : list of dict
        Re-runs that were asked for, oldest first.
    """

    launched: list[dict[str, Any]] = field(default_factory=list)
    planned: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, database: Database[Any], campaign: str, number: int, candidate: str | None) -> History:
        """Read it."""
        found = list(database.attempts.find({"campaign": campaign, "round": number, "candidate": candidate}, _FIELDS))
        return cls(
            sorted((a for a in found if a["launch_id"] is not None), key=lambda a: int(a["launch_id"])),
            sorted((a for a in found if a["planned_at"] is not None), key=lambda a: (a["planned_at"], a["attempt"])),
        )

    def newest(self) -> list[dict[str, Any]]:
        """List the last launch of each job, but of those that were made anew."""
        last = {(a["job_uuid"], a["job_index"]): a for a in self.launched if not a.get("replaced")}
        return list(last.values())

    def failed(self) -> list[dict[str, Any]]:
        """List the last launches of the jobs that failed for a reason of their own."""
        return [a for a in self.newest() if a["state"] == "failed" and a["cause"] and a["cause"]["code"] != UPSTREAM]

    def of_job(self, fw_id: int) -> list[dict[str, Any]]:
        """List the launches of a job, oldest first."""
        return [a for a in self.launched if a["fw_id"] == fw_id]

    def plans_of(self, fw_id: int) -> list[dict[str, Any]]:
        """List the re-runs asked for of a job, oldest first."""
        return [a for a in self.planned if a["fw_id"] == fw_id]

    def tries(self, stage: str, code: int) -> int:
        """Count the re-runs of a stage for a cause; one whose launches say nothing of the job doesn't count.

        Several jobs of a stage that are re-run at once are one re-run.
        """
        counted = [
            plan
            for plan in self.planned
            if plan["cause"] and (plan["cause"]["stage"] or plan["stage"]) == stage and plan["cause"]["code"] == code
        ]
        return len({plan["planned_at"] for plan in counted if not self._was_set_aside(plan)})

    def _was_set_aside(self, plan: dict[str, Any]) -> bool:
        after = (plan.get("rerun") or {}).get("after_launch") or 0
        later = [p["rerun"]["after_launch"] or 0 for p in self.plans_of(plan["fw_id"]) if p.get("rerun")]
        until = min((launch for launch in later if launch > after), default=float("inf"))
        mine = [a for a in self.of_job(plan["fw_id"]) if after < a["launch_id"] <= until]
        return bool(mine) and all(a.get("set_aside") for a in mine)
