"""What verdicts taught: one lesson a crystal, in the order of their names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from generators.symmetric.assignments import row_of
from generators.symmetric.wyckoff import describe
from generators.tally import evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from generators.base import Labelled

WORST_EV_PER_ATOM = 0.6
"""Cap of the negative: a crystal further above the hull teaches no more than this."""
FAILED_EV_PER_ATOM = 0.3
"""What a crystal that failed by its own fault (causes 3xx-6xx) counts as."""


@dataclass(frozen=True)
class Lesson:
    """What became of one row.

    Parameters
    ----------
    row : str
        Key of the row (:attr:`generators.symmetric.assignments.Row.key`).
    number : int
        Space group.
    letters, elements : tuple of str
        The row itself.
    above_hull_ev_per_atom : float or None
        Verified, or by the screening model; capped at WORST_EV_PER_ATOM.
    at_least : bool
        Whether it is only known to lie no lower (capped, or a failure): then it never makes a forecast better.
    verified : bool
        Whether it is a verdict's, not the screening model's.
    novel : bool or None
    properties : dict of str to float
        Measured, in the units of the data set.
    update : int
        Number of the update that brought it, from 0.
    """

    row: str
    number: int
    letters: tuple[str, ...]
    elements: tuple[str, ...]
    above_hull_ev_per_atom: float | None = None
    at_least: bool = False
    verified: bool = False
    novel: bool | None = None
    properties: dict[str, float] = field(default_factory=dict)
    update: int = 0


@dataclass(frozen=True)
class Memory:
    """Lessons by row, and how far each update went with them.

    Parameters
    ----------
    lessons : tuple of Lesson
        Sorted by row; one a row.
    steps : tuple of float
        For each update how far it went from the choice before it (0: refused) to that with all lessons (1).
    """

    lessons: tuple[Lesson, ...] = ()
    steps: tuple[float, ...] = ()

    @property
    def believed(self) -> tuple[Lesson, ...]:
        """Lessons up to the last update that was taken."""
        taken = [k for k, step in enumerate(self.steps) if step > 0]
        return tuple(one for one in self.lessons if taken and one.update <= taken[-1])

    def learn(self, lessons: Iterable[Lesson]) -> Memory:
        """Return a memory with more lessons: a verdict outweighs screening, and a later verdict an earlier one."""
        kept = {lesson.row: lesson for lesson in self.lessons}
        for lesson in lessons:
            old = kept.get(lesson.row)
            if old is None or lesson.verified or not old.verified:
                kept[lesson.row] = replace(lesson, update=len(self.steps))
        return replace(self, lessons=tuple(kept[row] for row in sorted(kept)))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {"steps": list(self.steps), "lessons": [asdict(one) for one in self.lessons]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Memory:
        """Read what :meth:`as_dict` wrote."""
        lessons = tuple(
            Lesson(**{**one, "letters": tuple(one["letters"]), "elements": tuple(one["elements"])})
            for one in data["lessons"]
        )
        return cls(lessons, tuple(float(step) for step in data["steps"]))


def lesson_of(label: Labelled) -> Lesson | None:
    """Turn a verdict into a lesson; None if it says nothing or can't be described.

    A crystal of another generator teaches as well: its row is found from its structure. Failures of the scheduler or
    the machine say nothing.
    """
    what = evidence(label)
    if not what.seen:
        return None
    info = label.info
    if {"spacegroup", "wyckoff_letters", "wyckoff_elements", "row"} <= info.keys():
        row = str(info["row"])
        number = int(info["spacegroup"])
        letters = tuple(str(x) for x in info["wyckoff_letters"])
        elements = tuple(str(x) for x in info["wyckoff_elements"])
    else:
        try:
            described = row_of(describe(label.structure, symprec=0.1))
        except ValueError:
            return None
        row, number = described.key, described.skeleton.number
        letters, elements = described.skeleton.letters, described.elements
    energy, verified, failed = label.energy_above_hull_ev_per_atom, True, False
    if energy is None and label.cause is not None:
        energy, failed = FAILED_EV_PER_ATOM, True
    elif energy is None:
        energy, verified = label.screened_above_hull_ev_per_atom, False
    return Lesson(
        row=row,
        number=number,
        letters=letters,
        elements=elements,
        above_hull_ev_per_atom=None if energy is None else round(min(energy, WORST_EV_PER_ATOM), 6),
        at_least=failed or (energy is not None and energy > WORST_EV_PER_ATOM),
        verified=verified,
        novel=label.novel,
        properties={name: round(value, 6) for name, value in sorted(label.properties.items())},
    )
