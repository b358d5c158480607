"""Calls of spglib that find nothing: it returns None, or raises once phonopy was imported; here it is always None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import spglib

if TYPE_CHECKING:
    from collections.abc import Callable


def found_or_none(ask: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call one of spglib's functions.

    ``spglib.error.OLD_ERROR_HANDLING``, which phonopy sets for the whole process, decides whether it raises.

    Parameters
    ----------
    ask : callable
        A function of spglib's.
    *args, **options : Any
        Its arguments.

    Returns
    -------
    Any
        What it returns; None where it finds nothing.
    """
    try:
        return ask(*args, **options)
    except spglib.SpglibError:
        return None
