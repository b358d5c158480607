"""Arguments of a stored job by name."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def named_numbers(function: Callable[..., Any], job: dict[str, Any]) -> dict[str, float]:
    """Give those arguments that are numbers.

    Parameters
    ----------
    function : callable
    job : dict
        The jobflow job as FireWorks stores it.
    """
    by_position = zip(signature(function).parameters, job.get("function_args") or (), strict=False)
    given = {**dict(by_position), **(job.get("function_kwargs") or {})}
    return {name: value for name, value in given.items() if isinstance(value, int | float)}
