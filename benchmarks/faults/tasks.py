"""Tasks of the fault matrix: stand-ins that sleep in the shape of a relaxation, coarse ones of pw.x, and a judge.

What stand-ins compute is decided by their input alone and is spoilt by a step that is lost or done twice. Imported by
workers, which find this package through PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobflow import Maker, job
from pymatgen.core import Structure

from dft_inputs.walltime import seconds_left
from workflows.causes import CausedError
from workflows.engines.espresso.makers import PwRelaxMaker
from workflows.records import Verdict
from workflows.runtime import attempts
from workflows.runtime.context import current_task
from workflows.stages.judge import store_verdict

CHECKPOINT = "checkpoint.json"
DENSITY = "density.bin"
DENSITY_BYTES = 2_000_000
"""Written anew by each step, as a DFT code writes its density: what a full scratch hits."""

EAT = "eat-memory"
"""File in the directory of wishes: whoever takes it away first takes as many MB of memory as it says."""

_TAIL_S = 3.0
"""s of wall-time that are left unused, for the records to be written."""


def energy_of(trace: str) -> float:
    """Give an energy that a chain of hashes decides, eV/atom."""
    return -4.0 - int(trace[:6], 16) / 2**24


def advance(trace: str, step: int) -> str:
    """Do one step: every one of them counts, once and in its order."""
    return hashlib.sha256(f"{trace}:{step}".encode()).hexdigest()


@dataclass
class StandInRelaxMaker(Maker):  # type: ignore[misc]  # jobflow is untyped
    """Sleep step by step, each in a process of its own, with a checkpoint after each; go on from an earlier one.

    Parameters
    ----------
    steps : int
    seconds : float
        Of a step, on average.
    wishes : str
        Directory in which a fault leaves what a task shall do to itself.
    """

    name: str = "relax"
    steps: int = 10
    seconds: float = 0.6
    wishes: str = ""

    def resume(self, directories: list[Path]) -> dict[str, Any]:
        """Go on from the newest attempt that left a checkpoint."""
        newest = next((d for d in directories if (d / CHECKPOINT).exists()), None)
        return {} if newest is None else {"prev_dir": str(newest)}

    def last_geometry(self, directory: Path) -> Structure | None:
        """Give the crystal of the checkpoint, moved a little with each step, so that one sees how far it got."""
        file = directory / CHECKPOINT
        if not file.exists():
            return None
        state = json.loads(file.read_text())
        found: Structure = Structure.from_dict(state["structure"])
        found.scale_lattice(found.volume * (1 - 1e-4 * state["step"]))
        return found

    @job
    def make(self, structure: Structure, prev_dir: str | None = None) -> dict[str, Any]:
        """Relax, so to say.

        Returns
        -------
        dict
            ``energy_ev_per_atom``, ``structure``, ``steps`` that this attempt did.

        Raises
        ------
        CausedError
            101 if the wall-time is over, 106 if the process of a step was killed.
        OSError
            If the checkpoint can't be written.
        """
        crystal = f"{structure.formula} {structure.lattice.matrix.round(4).tolist()}"
        state: dict[str, Any] = {"step": 0, "trace": advance(crystal, 0), "structure": structure.as_dict()}
        if prev_dir is not None:
            with suppress(FileNotFoundError, ValueError):
                state = json.loads((Path(prev_dir) / CHECKPOINT).read_text())
        begun = state["step"]
        for step in range(begun, self.steps):
            # steps differ in length, by the crystal and the step
            seconds = self.seconds * (0.5 + int(advance(state["trace"], step)[-2:], 16) / 255)
            left = seconds_left()
            if left is not None and left < seconds + _TAIL_S:
                raise CausedError(101, f"{left:.0f} s of wall-time left before step {step} of {self.steps}")
            self._take_memory()
            code = subprocess.run(["/usr/bin/env", "sleep", f"{seconds:.3f}"], check=False).returncode
            if code != 0:
                raise CausedError(106, f"step {step} of {self.steps} was killed by signal {-code}")
            state = {**state, "step": step + 1, "trace": advance(state["trace"], step)}
            _write(Path.cwd(), state)
        return {
            "energy_ev_per_atom": energy_of(state["trace"]),
            "structure": structure,
            "steps": self.steps - begun,
        }

    def _take_memory(self) -> None:
        wish = Path(self.wishes) / EAT
        taken = wish.with_name(f"{EAT}.{os.getpid()}")
        try:
            wish.rename(taken)
        except FileNotFoundError:
            return
        wanted = int(taken.read_text())
        hoard = []
        for _ in range(wanted // 16):
            hoard.append(b"\1" * (16 * 2**20))
            time.sleep(0.02)
        time.sleep(2.0)


def _write(directory: Path, state: dict[str, Any]) -> None:
    """Write the density and then the checkpoint, whole or not at all."""
    (directory / DENSITY).write_bytes(state["trace"].encode() * (DENSITY_BYTES // 64))
    new = directory / f".{CHECKPOINT}"
    new.write_text(json.dumps(state))
    new.replace(directory / CHECKPOINT)


@dataclass
class CoarsePwRelaxMaker(PwRelaxMaker):
    """Relax with the real pw.x, in seconds: few k-points and plane waves, or the matrix would take days.

    All but these settings is :class:`~workflows.engines.espresso.makers.PwRelaxMaker`'s own: how a run goes on from an
    earlier attempt, and what it leaves.

    Parameters
    ----------
    divisions : int
        Of the k-mesh, in each direction.
    cutoff_ry : float
    """

    divisions: int = 3
    cutoff_ry: float = 20.0

    @job
    def make(self, structure: Structure, prev_dir: str | None = None) -> dict[str, Any]:
        """Relax; the result has the names of the stand-in's.

        Raises
        ------
        DftError
            With the cause.
        """
        from dft_inputs.espresso.relax import relax
        from workflows.engines.espresso.machine import machine

        here = machine(self.protocol)
        done = relax(
            structure,
            here.protocol,
            here.family,
            Path.cwd(),
            here.command,
            prev_dir=None if prev_dir is None else Path(prev_dir),
            overrides=self.pw,
            mesh=(self.divisions,) * 3,
            ecutwfc_ry=self.cutoff_ry,
        )
        if done.output.energy_ev is None:
            raise CausedError(999, "pw.x has printed no energy")
        return {
            "energy_ev_per_atom": done.output.energy_ev / len(structure),
            "structure": done.structure,
            "steps": done.n_ionic_steps,
        }


@job
def stand_in_judge(
    campaign: str, number: int, candidate: str, relaxed: dict[str, Any] | None, engine: str
) -> dict[str, Any]:
    """Write the verdict of a candidate, as judge does: once, whatever became of the relaxation.

    Parameters
    ----------
    relaxed : dict or None
        What the relaxation gave.
    engine : str
    """
    database = current_task().database
    causes = attempts.root_cause(database, campaign, number, candidate)
    energy, formula = None, "?"
    if relaxed is not None and "relax" not in causes:
        energy = relaxed["energy_ev_per_atom"]
        formula = relaxed["structure"].composition.reduced_formula
    verdict = Verdict(
        candidate=candidate,
        campaign=campaign,
        round=number,
        formula=formula,
        energy_ev_per_atom=energy,
        verified=energy is not None,
        stable=energy is not None and energy < -4.5,
        hit=False,
        cause=causes.get("relax"),
        engine=engine,
        protocol="fast",
    )
    store_verdict(database, verdict)
    return {"candidate": candidate, "verified": verdict.verified}
