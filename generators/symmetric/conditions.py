"""A condition in few words, kept with every sample, so that an update knows what its proposals were chosen from."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

from generators.base import Bounds, Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SYSTEMS = 60
"""More chemical systems than these are kept as their elements and size, where they are all there are of these."""


def compact(condition: Condition) -> dict[str, Any]:
    """Put a condition into a small JSON-compatible form."""
    systems = condition.chemical_systems
    small: dict[str, Any] = {"systems": ["-".join(system) for system in systems]}
    if len(systems) > MAX_SYSTEMS:
        elements, size = sorted({e for system in systems for e in system}), max(len(system) for system in systems)
        whole = comb(len(elements), size) == len(set(systems)) and all(len(system) == size for system in systems)
        small = {"elements": elements, "size": size} if whole else small
    return {
        **small,
        "min_elements": condition.min_elements,
        "max_elements": condition.max_elements,
        "max_atoms": condition.max_atoms,
        "neutrality": condition.neutrality,
        "stable": condition.stable,
        "properties": {
            name: [bounds.minimum, bounds.maximum, bounds.unit] for name, bounds in sorted(condition.properties.items())
        },
    }


def expand(small: Mapping[str, Any]) -> Condition:
    """Read what :func:`compact` made."""
    if "systems" in small:
        systems = tuple(tuple(system.split("-")) for system in small["systems"])
    else:
        systems = tuple(combinations(small["elements"], small["size"]))
    return Condition(
        chemical_systems=systems,
        min_elements=small["min_elements"],
        max_elements=small["max_elements"],
        max_atoms=small["max_atoms"],
        neutrality=small["neutrality"],
        stable=small.get("stable", True),
        properties={name: Bounds(*limits) for name, limits in small.get("properties", {}).items()},
    )


def key_of(condition: Condition) -> str:
    """Name what decides which rows there are: property targets do not."""
    small = compact(condition)
    return json.dumps({k: v for k, v in small.items() if k != "properties"}, sort_keys=True)


def from_key(key: str) -> Condition:
    """Read what :func:`key_of` made."""
    return expand(json.loads(key))
