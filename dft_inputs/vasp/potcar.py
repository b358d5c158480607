"""POTCARs: which file an element gets, whether it is what it says it is, and where pymatgen looks for it.

VASP's licence lets nobody hand POTCARs on: a user keeps them in a directory as pymatgen's
``PMG_VASP_PSP_DIR`` wants it (``pmg config -p``), on the machines that run VASP.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monty.io import zopen
from monty.os.path import zpath
from pymatgen.core import SETTINGS
from pymatgen.io.vasp.inputs import POTCAR_FUNCTIONAL_MAP, PotcarSingle, UnknownPotcarWarning

from dft_inputs.causes import DftError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY_KEY = "PMG_VASP_PSP_DIR"
"""pymatgen's setting, from the environment or ``~/.config/.pmgrc.yaml``."""

LEXCH = {"PBE": "PE", "LDA": "CA", "PW91": "91"}
"""POTCAR's LEXCH by the first word of pymatgen's functional (``PBE_64`` is ``PBE``)."""


@dataclass(frozen=True)
class PotcarFile:
    """One POTCAR that was found and is what was asked.

    Parameters
    ----------
    element : str
    symbol : str
        Its name in the library, such as ``Mg_pv``.
    functional : str
        pymatgen's name of the library: ``PBE``, ``PBE_54``, ``PBE_64``, ...
    path : pathlib.Path
    title : str
        TITEL.
    valence : float
        Electrons.
    enmax_ev : float
        Its recommended cutoff.
    sha256 : str
        Of the text, decompressed.
    known : bool
        Whether pymatgen knows its statistics as those of a POTCAR that VASP distributes.
    """

    element: str
    symbol: str
    functional: str
    path: Path
    title: str
    valence: float
    enmax_ev: float
    sha256: str
    known: bool


def potcar_directory(given: Path | None = None) -> Path | None:
    """Give the POTCAR directory: the given one, or pymatgen's own setting; ``None`` where neither is set."""
    if given is not None:
        return given.expanduser()
    found = os.environ.get(DIRECTORY_KEY) or SETTINGS.get(DIRECTORY_KEY)
    return Path(found).expanduser() if found else None


@contextmanager
def potcars_in(directory: Path | None) -> Iterator[None]:
    """Let pymatgen find POTCARs in a directory for the duration of a block; ``None`` leaves its setting alone.

    pymatgen's input sets take the directory from its global settings and from nowhere else.
    """
    before = SETTINGS.get(DIRECTORY_KEY)
    try:
        if directory is not None:
            SETTINGS[DIRECTORY_KEY] = str(directory)
        yield
    finally:
        SETTINGS[DIRECTORY_KEY] = before
        if before is None:
            del SETTINGS[DIRECTORY_KEY]


def find_potcar(element: str, symbol: str, functional: str, directory: Path | None = None) -> PotcarFile:
    """Find a POTCAR and check that it is what was asked.

    Parameters
    ----------
    element : str
    symbol : str
        As an input set maps the element, such as ``Mg_pv``.
    functional : str
        A key of pymatgen's ``POTCAR_FUNCTIONAL_MAP``.
    directory : pathlib.Path, optional
        Instead of pymatgen's own setting.

    Raises
    ------
    DftError
        201 if there is no directory, no such library or no such POTCAR; 206 if it can't be read; 207 if it is of
        another element, symbol or functional; 208 if it can't be read as a POTCAR.
    """
    place = potcar_directory(directory)
    if place is None:
        raise DftError(
            201, f"no POTCAR directory: set {DIRECTORY_KEY}, or 'pseudos' under 'vasp' in Nucleate's settings"
        )
    if not place.is_dir():
        raise DftError(201, f"the POTCAR directory {place} does not exist")
    names = SETTINGS.get("PMG_VASP_PSP_SUB_DIRS") or {}
    library = place / names.get(functional, POTCAR_FUNCTIONAL_MAP[functional])
    tried = [library / f"POTCAR.{symbol}", library / symbol / "POTCAR"]
    path = next((found for name in tried if (found := Path(zpath(str(name)))).is_file()), None)
    if path is None:
        raise DftError(201, f"no POTCAR {symbol} of {functional} in {library}")
    return _read(path, element, symbol, functional)


def _read(path: Path, element: str, symbol: str, functional: str) -> PotcarFile:
    try:
        with zopen(str(path), mode="rb") as stream:
            content = stream.read()
        raw = content if isinstance(content, bytes) else content.encode()
    except PermissionError as error:
        raise DftError(206, f"{path}: {error.strerror}") from error
    except (OSError, EOFError) as error:  # gzip's own errors are among these
        raise DftError(208, f"{path} can't be read: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownPotcarWarning)
            potcar = PotcarSingle(raw.decode("utf-8", errors="ignore"), symbol=symbol)
        title, found, lexch = str(potcar.TITEL), potcar.element, str(potcar.LEXCH)
        valence, enmax = float(potcar.ZVAL), float(potcar.ENMAX)
        libraries = set(potcar.identify_potcar(mode="file")[0])
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise DftError(208, f"{path} is no POTCAR, or cut short: {error!r}") from error
    if "End of Dataset" not in raw.decode("utf-8", errors="ignore"):
        raise DftError(208, f"{path} is cut short: no 'End of Dataset'")
    if found != element:
        raise DftError(207, f"{path} is of {found}, not of {element}")
    words = title.split()
    if len(words) > 1 and words[1] != symbol:
        raise DftError(207, f"{path} says that it is {words[1]}, not {symbol}")
    if libraries and not libraries & {functional, f"{functional}_W_HASH"}:
        raise DftError(207, f"{path} is of {', '.join(sorted(libraries))}, not of {functional}")
    wanted = LEXCH.get(functional.split("_", maxsplit=1)[0])
    # a few of VASP's own PBE potentials say LEXCH = CA; those that pymatgen knows are what they are
    if wanted is not None and lexch.upper() != wanted and not libraries:
        raise DftError(207, f"{path} was made with LEXCH = {lexch}, not {wanted} ({functional})")
    return PotcarFile(
        element=element,
        symbol=symbol,
        functional=functional,
        path=path,
        title=title,
        valence=valence,
        enmax_ev=enmax,
        sha256=hashlib.sha256(raw).hexdigest(),
        known=bool(libraries),
    )
