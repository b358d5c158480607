"""What verdicts taught a latent model: rows that were tried, and tallies of skeletons and chemical systems.

Its networks stay what they are. A row that was tried is not proposed again while there are others; skeletons and
chemical systems gain or lose within the limits of :mod:`generators.tally`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from generators.symmetric.memory import lesson_of
from generators.symmetric.skeletons import Skeleton
from generators.tally import Tally, evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from generators.base import Labelled
    from generators.symmetric.assignments import Row


@dataclass(frozen=True)
class Memory:
    """Immutable.

    Parameters
    ----------
    tried : frozenset of str
        Keys of rows that were proposed, by whichever generator.
    skeletons, systems : Tally
    updates : int
    """

    tried: frozenset[str] = frozenset()
    skeletons: Tally = field(default_factory=Tally)
    systems: Tally = field(default_factory=Tally)
    updates: int = 0

    def weight(self, row: Row) -> float:
        """Weight of a row's chemical system."""
        return self.systems.weight(_system(row.elements))

    def learn(self, labelled: Iterable[Labelled]) -> tuple[Memory, dict[str, Any]]:
        """Return a memory that knows these verdicts, and what was learned; the order of the verdicts is irrelevant."""
        seen = sorted(labelled, key=lambda label: label.candidate)
        tried, skeletons, systems = set(self.tried), [], []
        told = 0
        for label in seen:
            lesson = lesson_of(label)
            if lesson is None:
                continue
            tried.add(lesson.row)
            what = evidence(label)
            told += bool(what.good or what.bad)
            skeletons.append((Skeleton(lesson.number, lesson.letters).key, what))
            systems.append((_system(lesson.elements), what))
        new = Memory(
            frozenset(tried), self.skeletons.learn(skeletons), self.systems.learn(systems), self.updates + 1
        )  # fmt: skip
        why = (
            "verdicts moved the weights of skeletons and chemical systems"
            if told
            else "no verdict said anything for or against a crystal; what was tried is remembered"
        )
        return new, {
            "taken": told > 0,
            "why": why,
            "lessons": len(skeletons),
            "good": sum(bool(x.stable and x.novel) for x in seen),
            "bad": sum(x.stable is False or (x.cause is not None and 300 <= x.cause < 700) for x in seen),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {
            "tried": sorted(self.tried),
            "skeletons": self.skeletons.as_dict(),
            "systems": self.systems.as_dict(),
            "updates": self.updates,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Memory:
        """Read what :meth:`as_dict` wrote."""
        return cls(
            frozenset(data["tried"]),
            Tally.from_dict(data["skeletons"]),
            Tally.from_dict(data["systems"]),
            int(data["updates"]),
        )


def _system(elements: Iterable[str]) -> str:
    return "-".join(sorted(set(elements)))
