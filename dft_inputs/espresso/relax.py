"""Relax a crystal with a variable cell until its plane waves fit to the cell it ended with.

pw.x chooses plane waves for the cell that it was given and keeps them while the cell changes. When it says that it has
converged, it has so for the wrong set of plane waves; the final scf, with a right one, shows how wrong, as pressure. So
``vc-relax`` is repeated, ``relax-01/``, ``relax-02/``, ..., until that pressure is inside the protocol's tolerance.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dft_inputs.causes import SUCCESS, DftError
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.geometry import last_geometry
from dft_inputs.espresso.handlers import handlers_for
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import INPUT, OUTPUT, RunRecord
from dft_inputs.espresso.run import PwRun, finished, run_pw
from dft_inputs.files import NoRunError
from dft_inputs.texts import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pymatgen.core import Structure

    from dft_inputs.espresso.command import PwCommand
    from dft_inputs.espresso.outputs import PwOutput
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.espresso.record import Correction
    from dft_inputs.pseudos import Family

_NOT_CONSISTENT = 610

_OVER = (SUCCESS, _NOT_CONSISTENT)
"""Codes of a ``vc-relax`` that has ended of itself."""

_SAME_CELL = 1e-3
"""Å; cells closer than this share their charge density."""

_PHYSICS = (
    *("system." + key for key in ("ecutwfc", "ecutrho", "nspin", "noncolin", "input_dft", "vdw_corr", "tot_charge")),
    *("system." + key for key in ("occupations", "smearing", "degauss")),
    *("electrons.conv_thr", "control.forc_conv_thr", "control.etot_conv_thr", "cell.press_conv_thr"),
)
"""What must be the same for an interrupted run to be gone on with as it was."""


@dataclass(frozen=True)
class Relaxation:
    """A relaxed crystal.

    Parameters
    ----------
    final : PwRun
        The run whose plane waves fit to its relaxed cell.
    repeats : int
        How often ``vc-relax`` was begun, those of earlier attempts included.
    n_ionic_steps : int
        Finished ones, of all repeats and corrected attempts that are in this directory.
    corrections : tuple of Correction
        Of all of them, and of the attempt that they went on from.
    """

    final: PwRun
    repeats: int
    n_ionic_steps: int
    corrections: tuple[Correction, ...]

    @property
    def output(self) -> PwOutput:
        """What the final scf, at the relaxed cell, gave."""
        return self.final.output

    @property
    def structure(self) -> Structure:
        """The relaxed crystal."""
        return self.output.structure

    @property
    def comparable(self) -> bool:
        """Whether the energy belongs with those of the protocol's undisturbed runs."""
        return all(correction.comparable for correction in self.corrections)


def relax(
    structure: Structure,
    protocol: PwProtocol,
    family: Family,
    directory: Path,
    command: PwCommand,
    *,
    prev_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    max_corrections: int = 8,
    **options: Any,
) -> Relaxation:
    """Relax cell and positions; go on where an earlier attempt ended.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    protocol : PwProtocol
        Its pressure tolerance and largest number of repeats decide when this is done.
    family : Family
    directory : pathlib.Path
        Holds ``relax-01/``, ... afterwards.
    command : PwCommand
    prev_dir : pathlib.Path, optional
        ``directory`` of an earlier attempt. Repeats that were done are not done again, their number counts, and the one
        that was interrupted goes on from its last finished ionic step.
    overrides : mapping of str to Any, optional
        Values by ``"namelist.key"`` that this attempt shall have, e.g. ``{"electrons.mixing_beta": 0.2}``.
    max_corrections : int
        Of all repeats together.
    **options
        To :func:`~dft_inputs.espresso.inputs.make_input`.

    Returns
    -------
    Relaxation

    Raises
    ------
    DftError
        As :func:`~dft_inputs.espresso.run.run_pw`; 610 if the pressure stays outside after the last repeat.
    """
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    number, earlier = _where_it_ended(prev_dir.absolute()) if prev_dir is not None else (1, None)
    geometry = structure
    if earlier is not None and _code(earlier) == _NOT_CONSISTENT and (ended := last_geometry(earlier)) is not None:
        geometry, number, earlier = ended, number + 1, None  # to be repeated, and with what is asked now
    first = number
    budget = max_corrections
    # Repeating is done here, in directories of their own: the handler that does it within one has nothing to do.
    elements = {site.specie.symbol for site in structure}
    handlers = [one for one in handlers_for(protocol, elements) if one.code != _NOT_CONSISTENT]
    while True:
        here = directory / f"relax-{number:02d}"
        if earlier is not None and _code(earlier) in _OVER:
            _adopt(earlier, here)
        else:
            inp = make_input(geometry, protocol, family, "vc-relax", **options)
            before = directory / f"relax-{number - 1:02d}"
            if earlier is not None:
                inp = _as_it_was(earlier, inp)
            elif before.is_dir() and _same_cell(inp, before):
                earlier = before  # for its charge density
            inp = inp.changed(overrides or {})
            with contextlib.suppress(_NotConsistent):
                _run(
                    inp,
                    here,
                    command,
                    handlers=handlers,
                    restart_from=earlier,
                    learn_from=before if (before / INPUT).is_file() else None,
                    max_corrections=budget,
                    pressure_tolerance_kbar=protocol.final_pressure_kbar,
                    family=family,
                )
            record = RunRecord.read(here)
            budget = (record.max_corrections or 0) - len(record.corrections)
        earlier = None
        if _code(here) == SUCCESS:
            return Relaxation(finished(here), number, count_ionic_steps(directory), _corrections(directory))
        relaxed = last_geometry(here)
        if number - first + 1 >= protocol.max_relaxations or relaxed is None:
            raise DftError(_NOT_CONSISTENT, f"{here}: {_evidence(here)}; vc-relax was repeated {number} times")
        geometry = relaxed
        number += 1


class _NotConsistent(Exception):  # noqa: N818  # no error: it asks for another turn
    """A finished ``vc-relax`` whose final pressure is outside."""


def _run(inp: PwInput, here: Path, command: PwCommand, **options: Any) -> None:
    try:
        run_pw(inp, here, command, **options)
    except DftError as why:
        if why.code == _NOT_CONSISTENT:
            raise _NotConsistent from why
        raise


def _where_it_ended(prev_dir: Path) -> tuple[int, Path | None]:
    """Give the number and directory of the last repeat that an attempt began; (1, None) if it began none."""
    begun = [path for path in sorted(prev_dir.glob("relax-[0-9][0-9]")) if (path / INPUT).is_file()]
    return (int(begun[-1].name.removeprefix("relax-")), begun[-1]) if begun else (1, None)


def _code(directory: Path) -> int | None:
    """Give the cause that a directory shows; ``None`` if nothing ran there."""
    try:
        return diagnose_pw(directory, pressure_tolerance_kbar=RunRecord.read(directory).pressure_tolerance_kbar).code
    except NoRunError:
        return None


def _evidence(directory: Path) -> str:
    shown = diagnose_pw(directory, pressure_tolerance_kbar=RunRecord.read(directory).pressure_tolerance_kbar).evidence
    return "; ".join(map(str, shown))


def _adopt(earlier: Path, here: Path) -> None:
    """Take over a repeat that was done: a copy, the charge density left behind."""
    if earlier != here:
        shutil.copytree(earlier, here, ignore=shutil.ignore_patterns("out"), dirs_exist_ok=True)


def _as_it_was(earlier: Path, inp: PwInput) -> PwInput:
    """Give the input of an interrupted run, corrections and all, unless something else is wanted of it now.

    Raises
    ------
    ValueError
        If the earlier attempt was of another crystal.
    """
    was = PwInput.read(earlier / INPUT)
    if [site.specie.symbol for site in was.structure] != [site.specie.symbol for site in inp.structure]:
        raise ValueError(f"{earlier}: of another crystal ({was.structure.formula}) than {inp.structure.formula}")
    asked = {key for one in RunRecord.read(earlier).corrections for key in one.after}
    same = all(was.get(key) == inp.get(key) for key in _PHYSICS if key not in asked) and was.species == inp.species
    return was if same else inp.changed(structure=was.structure)


def _same_cell(inp: PwInput, before: Path) -> bool:
    """Whether a repeat begins in the frame in which the one before ended, so that its charge density is of use."""
    ended = last_geometry(before)
    return ended is not None and bool(
        np.allclose(ended.lattice.matrix, inp.structure.lattice.matrix, atol=_SAME_CELL)
        and ended.species == inp.structure.species
        and np.allclose(ended.frac_coords, inp.structure.frac_coords, atol=_SAME_CELL)
    )


def _corrections(directory: Path) -> tuple[Correction, ...]:
    """Give all corrections; a repeat that went on from another begins with that one's."""
    every: list[Correction] = []
    for path in sorted(directory.glob("relax-[0-9][0-9]")):
        every += [one for one in RunRecord.read(path).corrections if one not in every]
    return tuple(every)


def count_ionic_steps(directory: Path) -> int:
    """Count the finished ionic steps below a directory: of all repeats, and of the attempts that were corrected."""
    count = 0
    for path in sorted({*directory.rglob(OUTPUT), *directory.rglob(f"{OUTPUT}.gz")}):
        text = read_text(path)
        count += len(re.findall(r"^!\s+total energy", text, re.MULTILINE)) - text.count("Final scf calculation at")
    return count
