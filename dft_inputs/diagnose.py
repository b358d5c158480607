"""What became of any one run directory, whichever DFT code ran in it and whatever its files are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dft_inputs.files import NoRunError, find_files

if TYPE_CHECKING:
    from pathlib import Path

    from dft_inputs.diagnosis import Diagnosis

__all__ = ["NoRunError", "diagnose"]

_ESPRESSO = ("pw.out", "crash", "pw.in")
_VASP = ("outcar", "vasprun", "oszicar", "vasp.out", "xdatcar", "incar")


def diagnose(directory: Path) -> Diagnosis:
    """Explain a run directory of Quantum ESPRESSO's pw.x or of VASP; nothing is written, and no database is asked.

    Parameters
    ----------
    directory : pathlib.Path
        Directories in it are not entered. If both codes have left something, outputs count before inputs, and of
        those the newest.

    Returns
    -------
    Diagnosis

    Raises
    ------
    NoRunError
        If neither code has left anything there.
    """
    # Either code's rules are loaded only where it has run.
    files = find_files(directory)
    outputs = files.of("pw.out", "outcar", "vasprun", "oszicar", "vasp.out") or files.of(*_ESPRESSO, *_VASP)
    if not outputs:
        raise NoRunError(directory, "holds nothing of a run of pw.x or VASP")
    if outputs[0].kind in _ESPRESSO:
        from dft_inputs.espresso.diagnose import diagnose_pw_files  # noqa: PLC0415

        return diagnose_pw_files(files)
    from dft_inputs.vasp.diagnose import diagnose_vasp_files  # noqa: PLC0415

    return diagnose_vasp_files(files)
