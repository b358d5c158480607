"""Engines by name, each imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.engines.base import Engine

ENGINES = ("mlip", "vasp", "espresso")
"""Names a campaign may give."""


def make_engine(name: str, protocol: str) -> Engine:
    """Make an engine.

    Parameters
    ----------
    name : str
        One of :data:`ENGINES`.
    protocol : {"fast", "balanced", "stringent"}

    Raises
    ------
    ValueError
        If name or protocol is unknown.
    """
    if name == "mlip":
        from workflows.engines.mlip import MlipEngine

        return MlipEngine(protocol)
    if name == "espresso":
        from workflows.engines.espresso.engine import EspressoEngine

        return EspressoEngine(protocol)
    if name == "vasp":
        from workflows.engines.vasp import VaspEngine

        return VaspEngine(protocol)
    raise ValueError(f"unknown engine {name!r}: known are {', '.join(ENGINES)}")
