"""What a trained model says of property targets that it can't meet as asked."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generators.base import Condition


def warn_of_targets(name: str, ranges: Mapping[str, tuple[float, float]], condition: Condition) -> None:
    """Warn of property targets that were not learned, or that no training crystal meets.

    The warning points at whoever called the ``sample`` that asks, by way of one method of the generator's own.

    Parameters
    ----------
    name : str
        Of the generator.
    ranges : mapping of str to (float, float)
        Smallest and largest value of each learned property in training.
    condition : Condition
    """
    for target, bounds in sorted(condition.properties.items()):
        if target not in ranges:
            warnings.warn(f"{name} was not trained on {target}: this target does not steer it", stacklevel=4)
            continue
        low, high = ranges[target]
        if (bounds.minimum is not None and bounds.minimum > high) or (
            bounds.maximum is not None and bounds.maximum < low
        ):
            warnings.warn(
                f"{name}: no training crystal has {target} in the target; they lie between {low:.4g} and {high:.4g} "
                f"{bounds.unit}: what it proposes is extrapolated",
                stacklevel=4,
            )
