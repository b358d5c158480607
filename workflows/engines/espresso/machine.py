"""What of this machine a pw.x run needs: command, pseudopotentials, and the protocol with the user's own physics.

Read by the worker when a job runs, never stored in a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.pseudos import load_family
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.pseudos import Family


@dataclass(frozen=True)
class Machine:
    """How pw.x runs here.

    Parameters
    ----------
    protocol : PwProtocol
    family : Family
    command : PwCommand
    """

    protocol: PwProtocol
    family: Family
    command: PwCommand


def protocol_here(name: str) -> PwProtocol:
    """Load a protocol with what the settings of this machine say about physics (family, DFT+U).

    Raises
    ------
    ValueError
        If there is no protocol of that name.
    """
    settings = load_settings().espresso
    changes = {"family": settings.family, "hubbard_u_ev": settings.hubbard_u_ev}
    return load_protocol(name).model_copy(update={key: value for key, value in changes.items() if value})


def machine(name: str) -> Machine:
    """Gather what runs of a protocol need on this machine.

    Raises
    ------
    DftError
        201 if the protocol's family is not installed.
    ValueError
        If there is no protocol of that name.
    """
    settings = load_settings().espresso
    protocol = protocol_here(name)
    command = PwCommand(
        executable=settings.command,
        launcher=settings.launcher,
        pools=settings.pools or 1,
        memory_gb=settings.memory_gb,
        scratch=None if settings.scratch is None else str(settings.scratch),
        environment=dict(settings.environment),
    )
    return Machine(protocol, load_family(protocol.family, settings.pseudos), command)
