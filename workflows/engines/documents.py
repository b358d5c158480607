"""Reading job outputs that arrive as pydantic documents or as plain dictionaries, as a JobStore hands them over."""

from __future__ import annotations

from typing import Any


def get(document: Any, *path: str) -> Any:
    """Follow a path of keys or attributes; ``None`` where it ends early.

    Examples
    --------
    >>> get({"output": {"energy": -1.5}}, "output", "energy")
    -1.5
    >>> get({"output": None}, "output", "energy") is None
    True
    """
    for key in path:
        if document is None:
            return None
        document = document.get(key) if isinstance(document, dict) else getattr(document, key, None)
    return document


def as_structure(value: Any) -> Any:
    """Give a pymatgen ``Structure`` from itself or from its dictionary; ``None`` stays."""
    from pymatgen.core import Structure

    return Structure.from_dict(value) if isinstance(value, dict) else value
