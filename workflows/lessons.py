"""What an update taught a generator, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def update_in_words(update: Mapping[str, Any], number: int) -> str:
    """Say what the feedback of a round did to a generator.

    Parameters
    ----------
    update : mapping
        As :func:`workflows.generator_states.updates_of` gives it; what a generator does not tell is left out.
    number : int
        Of the round.

    Examples
    --------
    >>> update_in_words({"generator": "flow", "taken": True, "lessons": 9, "good": 3, "bad": 5, "trust": 0.7}, 1)
    'round 1 taught flow: 9 crystals (3 stable and novel, 5 bad), taken at 70 %'
    """
    verdicts = f" ({update['good']} stable and novel, {update['bad']} bad)" if {"good", "bad"} <= update.keys() else ""
    count = update.get("lessons")
    lessons = f": {count} crystal{'' if count == 1 else 's'}{verdicts}" if count is not None else ""
    if not update.get("taken"):
        return f"round {number} did not move {update.get('generator')}{lessons}, {update.get('why', 'refused')}"
    taught = f"round {number} taught {update.get('generator')}{lessons}, taken"
    if "trust" not in update:
        return taught
    trust = float(update["trust"])
    why = f" ({update['why']})" if trust < 1 and update.get("why") else ""
    return f"{taught} at {100 * trust:.0f} %{why}"
