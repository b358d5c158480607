"""What of this machine a pw.x run needs: command, pseudopotentials, and the protocol with the user's own physics.

Read by the worker when a job runs, never stored in a job.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.estimate import choose_pools, estimate
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.pseudos import load_family
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.espresso.pw_input import PwInput
    from dft_inputs.pseudos import Family


@dataclass(frozen=True)
class Machine:
    """How pw.x runs here.

    Parameters
    ----------
    protocol : PwProtocol
    family : Family
    command : PwCommand
    processes : int
        How many the command's launcher starts.
    pools : int or None
        ``None``: chosen for each input.
    """

    protocol: PwProtocol
    family: Family
    command: PwCommand
    processes: int = 1
    pools: int | None = None

    def command_for(self, inp: PwInput) -> PwCommand:
        """Give the command for an input: its k-points are shared out over the processes there are."""
        if self.pools is not None or self.processes == 1:
            return self.command
        n_k_points = estimate(inp, self.family).n_k_points
        return replace(self.command, pools=choose_pools(n_k_points, self.processes))


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
    family = load_family(protocol.family, settings.pseudos)
    return Machine(protocol, family, command, settings.processes, settings.pools)
