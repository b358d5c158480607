"""Custodian handlers for pw.x: one cause and one stated change each.

They belong into any Custodian around :class:`dft_inputs.espresso.job.PwJob`, and
:func:`dft_inputs.espresso.run.run_pw` puts them there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.espresso.handlers.base import PwHandler
from dft_inputs.espresso.handlers.cell import BasisHandler, CellHandler
from dft_inputs.espresso.handlers.diagonalisation import DiagonalisationHandler
from dft_inputs.espresso.handlers.electrons import BandsHandler, SmearingHandler
from dft_inputs.espresso.handlers.ionic import IonicStepsHandler, MinimiserHandler
from dft_inputs.espresso.handlers.machine import (
    CrashHandler,
    IncompleteHandler,
    InterruptedHandler,
    MemoryHandler,
    PoolsHandler,
    ScratchHandler,
)
from dft_inputs.espresso.handlers.mixing import ChargeMixingHandler, ScfHandler
from dft_inputs.espresso.handlers.validator import PwValidator
from dft_inputs.espresso.handlers.walltime import WalltimeMonitor
from dft_inputs.espresso.units import RY_EV

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dft_inputs.espresso.protocols import PwProtocol

__all__ = [
    "BandsHandler",
    "BasisHandler",
    "CellHandler",
    "ChargeMixingHandler",
    "CrashHandler",
    "DiagonalisationHandler",
    "IncompleteHandler",
    "InterruptedHandler",
    "IonicStepsHandler",
    "MemoryHandler",
    "MinimiserHandler",
    "PoolsHandler",
    "PwHandler",
    "PwValidator",
    "ScfHandler",
    "ScratchHandler",
    "SmearingHandler",
    "WalltimeMonitor",
    "default_handlers",
    "handlers_for",
]


def default_handlers(smearing: tuple[str, float] | None = None) -> list[PwHandler]:
    """Give a new one of each handler, in order of priority.

    Parameters
    ----------
    smearing : tuple of str and float, optional
        The protocol's kind and width (Ry), for a metal that was tried with fixed occupations.
    """
    smear = SmearingHandler(*smearing, comparable=True) if smearing else SmearingHandler()
    handlers: list[PwHandler] = [
        PoolsHandler(),
        MemoryHandler(),
        BandsHandler(),
        smear,
        DiagonalisationHandler(),
        ScfHandler(),
        ChargeMixingHandler(),
        InterruptedHandler(),
        CrashHandler(),
        ScratchHandler(),
        IncompleteHandler(),
        IonicStepsHandler(),
        MinimiserHandler(),
        CellHandler(),
        BasisHandler(),
    ]
    return sorted(handlers, key=lambda handler: handler.priority)


def handlers_for(protocol: PwProtocol, elements: Iterable[str]) -> list[PwHandler]:
    """Give :func:`default_handlers` with the smearing that a protocol has for a crystal of these elements."""
    kind, width_ev = protocol.smearing_for(elements)
    return default_handlers((kind, width_ev / RY_EV))
