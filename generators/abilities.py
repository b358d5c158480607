"""What a trained model was shown, and what it says of a condition that goes beyond it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from generators.base import Condition


@dataclass(frozen=True)
class Abilities:
    """What a trained model was shown.

    Parameters
    ----------
    elements : tuple of str
    properties : tuple of str
        What it can be asked for.
    ranges : mapping of str to (float, float)
        Smallest and largest value of each property in training, in the property's own unit; one that is not listed is
        of a state that was written before states said so.
    max_atoms : int or None
        Atoms of the largest primitive cell in training; None as above.
    """

    elements: tuple[str, ...]
    properties: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_atoms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the entries of a saved generator's state."""
        return {
            "elements": list(self.elements),
            "properties": list(self.properties),
            "ranges": {name: list(limits) for name, limits in sorted(self.ranges.items())},
            "max_atoms": self.max_atoms,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read a saved generator's state, whichever trained model's it is.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is no state of a trained model.
        """
        ranges = {name: (float(low), float(high)) for name, (low, high) in state.get("ranges", {}).items()}
        return cls(tuple(state["elements"]), tuple(state["properties"]), ranges, state.get("max_atoms"))

    def missing(self, elements: Iterable[str]) -> list[str]:
        """List the elements that were in no training crystal, sorted."""
        return sorted(set(elements) - set(self.elements))

    def refuse_missing(self, name: str, elements: Iterable[str]) -> None:
        """Refuse elements that a model never saw.

        Parameters
        ----------
        name : str
            Of the generator.
        elements : iterable of str

        Raises
        ------
        ValueError
            If there are any.
        """
        if missing := self.missing(elements):
            raise ValueError(
                f"{name}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} in no training crystal of "
                "this model; leave them out, or train it on crystals that have them (nucleate generator train)"
            )

    def doubts(self, condition: Condition) -> list[str]:
        """Say which parts of a condition the model can't be expected to meet, a clause each."""
        found = []
        for target, bounds in sorted(condition.properties.items()):
            if target not in self.properties:
                found.append(f"it was not trained on {target}: this target does not steer its proposals")
                continue
            low, high = self.ranges.get(target, (-float("inf"), float("inf")))
            if (bounds.minimum is not None and bounds.minimum > high) or (
                bounds.maximum is not None and bounds.maximum < low
            ):
                found.append(
                    f"no training crystal has {target} in the target, they lie between {low:.4g} and {high:.4g} "
                    f"{bounds.unit}: what it proposes is extrapolated"
                )
        if self.max_atoms is not None and condition.max_atoms > self.max_atoms:
            found.append(
                f"no training crystal has more than {self.max_atoms} atoms in its primitive cell, and "
                f"{condition.max_atoms} are allowed: it proposes larger ones rarely or never"
            )
        return found

    def heed(self, name: str, condition: Condition) -> None:
        """Refuse a condition on elements that the model never saw, and warn of what else it can't be expected to meet.

        The warnings point at whoever called the method of the generator's that asks.

        Parameters
        ----------
        name : str
            Of the generator.
        condition : Condition

        Raises
        ------
        ValueError
            If an element was in no training crystal.
        """
        self.refuse_missing(name, (e for system in condition.chemical_systems for e in system))
        for doubt in self.doubts(condition):
            warnings.warn(f"{name}: {doubt}", stacklevel=3)
