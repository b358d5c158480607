"""The numbers of a round, counted from its candidates and verdicts; stored when the round closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows.records import RoundSummary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

    from workflows.spec import CampaignSpec

_FIELDS = {
    "control": 1,
    "screen.valid": 1,
    "screen.unique": 1,
    "prerelax.energy_ev_per_atom": 1,
    "select.unique": 1,
    "select.novel": 1,
    "select.novelty": 1,
    "select.screening_e_hull_ev_per_atom": 1,
}


def summarise(database: Database[Any], spec: CampaignSpec, number: int, late: int = 0) -> RoundSummary:
    """Count one round.

    Parameters
    ----------
    late : int
        Late verdicts of earlier rounds that this round's feedback learned from.
    """
    documents = list(database.candidates.find({"campaign": spec.name, "round": number}, _FIELDS))
    verdicts = list(
        database.verdicts.find(
            {"campaign": spec.name, "round": number}, {"verified": 1, "stable": 1, "hit": 1, "cause.code": 1}
        )
    )
    cut = spec.targets.energy_above_hull.max
    counted = funnel((d for d in documents if not d["control"]), cut)
    controls = [d for d in documents if d["control"]]
    return RoundSummary(
        number=number,
        **counted,
        selected=selected_in(database, spec.name, number),
        verified=sum(v["verified"] for v in verdicts),
        stable=sum(v["stable"] for v in verdicts),
        hits=sum(v["hit"] for v in verdicts),
        failures=sum(not v["verified"] for v in verdicts),
        late=late,
        control=funnel(controls, cut) if controls else None,
    )


def selected_in(database: Database[Any], campaign: str, number: int) -> int:
    """Count the candidates that a round's budget verifies; some were proposed in earlier rounds."""
    own = {"round": number, "select.round": None}  # of campaigns from before candidates could wait
    return database.candidates.count_documents(
        {"campaign": campaign, "select.selected": True, "$or": [{"select.round": number}, own]}
    )


def funnel(documents: Iterable[dict[str, Any]], cut_ev_per_atom: float | None) -> dict[str, int]:
    """Count the sieve's part of the funnel, for a round's candidates or for its controls.

    ``unique`` and ``novel`` are as found after pre-relaxation; ``promising`` is novel and inside the hull cut by the
    screening model.
    """
    counts = dict.fromkeys(
        (
            "sampled",
            "valid",
            "unique",
            "prerelaxed",
            "novel",
            "novel_composition",
            "novel_prototype",
            "novel_skeleton",
            "promising",
        ),
        0,
    )
    for document in documents:
        screened = document.get("screen") or {}
        relaxed = document.get("prerelax") or {}
        selected = document.get("select") or {}
        novelty = selected.get("novelty") or {}
        novel = bool(selected.get("novel"))
        above_hull = selected.get("screening_e_hull_ev_per_atom")
        counts["sampled"] += 1
        counts["valid"] += bool(screened.get("valid"))
        counts["unique"] += bool(screened.get("unique")) and selected.get("unique", True)
        counts["prerelaxed"] += relaxed.get("energy_ev_per_atom") is not None
        counts["novel"] += novel
        for level in ("composition", "prototype", "skeleton"):
            counts[f"novel_{level}"] += novel and bool(novelty.get(level))
        counts["promising"] += (
            novel and above_hull is not None and (cut_ev_per_atom is None or above_hull <= cut_ev_per_atom)
        )
    return counts
