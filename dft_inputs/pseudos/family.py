"""Families of pseudopotentials that are installed on this machine."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import DftError
from dft_inputs.pseudos.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    ManifestError,
    check_name,
    read_manifest,
    shipped_manifests,
)
from dft_inputs.pseudos.upf import UpfError, UpfHeader, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dft_inputs.pseudos.manifest import Hint

_MISSING, _NO_PERMISSION, _WRONG, _DAMAGED = 201, 206, 207, 208
_DEPTH = 8


@dataclass(frozen=True)
class Cutoffs:
    """Kinetic-energy cutoffs (Ry) of the wavefunctions and of the charge density."""

    ecutwfc_ry: float
    ecutrho_ry: float


@dataclass(frozen=True)
class PseudoFile:
    """One pseudopotential of an installed family.

    Parameters
    ----------
    element : str
        Symbol.
    path : pathlib.Path
    sha256 : str
        What the file must have; :meth:`Family.require` compares.
    z_valence : float
        Valence electrons.
    ecutwfc_ry : mapping of {"low", "normal", "high"} to float
        Recommended cutoff of the wavefunctions (Ry). Empty if the family's authors gave none.
    dual : float
        Cutoff of the density over that of the wavefunctions: 4 for norm-conserving ones.
    n_projectors : int
        Non-local projectors, each counted once (not per m).
    pseudo_type : str
        ``NC``, ``US`` or ``PAW``.
    """

    element: str
    path: Path
    sha256: str
    z_valence: float
    ecutwfc_ry: Mapping[Hint, float]
    dual: float
    n_projectors: int
    pseudo_type: str


@dataclass(frozen=True)
class Family:
    """An installed family.

    Parameters
    ----------
    name, version, functional, relativistic : str
        The functional as in ``PBE``, ``PBEsol``, ``LDA``; relativistic is ``scalar``, ``full`` or ``no``.
    directory : pathlib.Path
        Where its files lie: pw.x's ``pseudo_dir``.
    files : mapping of str to PseudoFile
        By element.
    citation : tuple of str
        What to cite.
    cutoffs_from : str
        Where the recommended cutoffs come from.
    """

    name: str
    version: str
    functional: str
    relativistic: str
    directory: Path
    files: Mapping[str, PseudoFile]
    citation: tuple[str, ...] = ()
    cutoffs_from: str = ""

    def require(self, elements: Iterable[str], *, functional: str | None = None) -> None:
        """Check that each element has its pseudopotential, unharmed and of the family's functional.

        Every file is read and hashed anew (a millisecond each), so a file that changed since the last call is seen.

        Parameters
        ----------
        elements : iterable of str
            Symbols; repeats cost nothing.
        functional : str, optional
            What the calculation is to use; another one than the family's is refused.

        Raises
        ------
        DftError
            201 if an element has no pseudopotential, 206 if it may not be read, 207 if it is of another functional or
            element, 208 if its sha256 is not what the family says. Names the element, the family and what to do.
        """
        if functional is not None and functional != self.functional:
            raise DftError(
                _WRONG,
                f"family {self.name} is made for {self.functional}, and {functional} is asked: choose a family "
                f"of that functional (`nucleate pseudos list`)",
            )
        for element in sorted(set(elements)):
            _check_file(self, self.pseudo(element))

    def pseudo(self, element: str) -> PseudoFile:
        """Give an element's pseudopotential, without looking at its file.

        Raises
        ------
        DftError
            201 if the family has none.
        """
        found = self.files.get(element)
        if found is None:
            raise DftError(
                _MISSING,
                f"family {self.name} has no pseudopotential for {element}; choose a family that has one "
                f"(`nucleate pseudos list --element {element}`) or leave {element} out",
            )
        return found

    def cutoffs(self, elements: Iterable[str], hint: Hint = "normal") -> Cutoffs:
        """Give the recommended cutoffs of a compound: those of its hardest element.

        Parameters
        ----------
        elements : iterable of str
        hint : {"low", "normal", "high"}
            A family that gives one recommendation only (SSSP) gives the same for all three.

        Raises
        ------
        DftError
            201 if an element has no pseudopotential, or its authors recommend no cutoff.
        """
        wave, density = [], []
        for element in sorted(set(elements)):
            pseudo = self.pseudo(element)
            value = pseudo.ecutwfc_ry.get(hint)
            if value is None:
                raise DftError(
                    _MISSING,
                    f"{pseudo.path.name} of family {self.name} comes without a recommended cutoff ({hint}) for "
                    f"{element}: add it to the family's cutoffs.json (`nucleate pseudos install --help`) or choose "
                    f"another family",
                )
            wave.append(value)
            density.append(value * pseudo.dual)
        if not wave:
            raise ValueError("cutoffs of no element at all were asked")
        return Cutoffs(max(wave), max(*density, 4 * max(wave)))

    def valence_electrons(self, composition: Mapping[str, float]) -> float:
        """Count the valence electrons of a composition (atoms by element)."""
        return math.fsum(count * self.pseudo(element).z_valence for element, count in sorted(composition.items()))

    def provenance(self, elements: Iterable[str]) -> dict[str, Any]:
        """Give what a verdict says of its pseudopotentials: family, version, functional and each file's sha256."""
        chosen = [self.pseudo(element) for element in sorted(set(elements))]
        return {
            "family": self.name,
            "version": self.version,
            "functional": self.functional,
            "relativistic": self.relativistic,
            "files": {item.element: {"file": item.path.name, "sha256": item.sha256} for item in chosen},
            "citation": list(self.citation),
        }

    @property
    def sha256(self) -> str:
        """Identity of the whole family: a hash of name, functional and every file's hash."""
        lines = [self.name, self.functional, *(f"{e} {self.files[e].sha256}" for e in sorted(self.files))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def default_root() -> Path:
    """Where families are installed: ``NUCLEATE_PSEUDOS``, else ``nucleate/pseudos`` in the user's data directory."""
    if chosen := os.environ.get("NUCLEATE_PSEUDOS"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "nucleate" / "pseudos"


def load_family(name: str, root: Path | None = None) -> Family:
    """Load an installed family.

    Parameters
    ----------
    name : str
        Such as ``PseudoDojo/0.4/PBE/SR/standard``.
    root : pathlib.Path, optional
        Default: :func:`default_root`.

    Raises
    ------
    DftError
        201 if it is not installed, 206 if it may not be read, 208 if its manifest is damaged.
    """
    # pw.x is told where they are from a directory of its own
    place = (root or default_root()).absolute()
    try:
        directory = place / check_name(name)
        installed = read_manifest(directory / MANIFEST)
    except FileNotFoundError as error:
        raise DftError(
            _MISSING, f"family {name} is not installed in {place}: `nucleate pseudos install {name}` does it"
        ) from error
    except PermissionError as error:
        raise DftError(_NO_PERMISSION, f"family {name} can't be read: {error}") from error
    except NotADirectoryError as error:
        raise DftError(_MISSING, f"{place} is not a folder where families can be: {error}") from error
    except ManifestError as error:
        if not str(error).startswith(str(place)):
            raise DftError(_MISSING, str(error)) from error
        raise DftError(
            _DAMAGED, f"family {name}: {error}: `nucleate pseudos install --force {name}` mends it"
        ) from error
    if installed.name != name:
        raise DftError(_WRONG, f"{directory / MANIFEST} is the manifest of {installed.name}, not of {name}")
    return _family(_authoritative(installed), directory)


def list_families(root: Path | None = None) -> list[Family]:
    """Give the families that are installed below a root, by name; damaged ones are left to :func:`verify_family`."""
    place = root or default_root()
    found = []
    for name in installed_names(place):
        try:
            found.append(load_family(name, place))
        except DftError:
            continue
    return found


def installed_names(root: Path) -> list[str]:
    """Give the names of all folders below a root that hold a manifest, damaged or not.

    Raises
    ------
    DftError
        206 if a folder may not be read.
    """
    names = []
    try:
        for directory, folders, files in os.walk(root, onerror=_refuse):
            here = Path(directory).relative_to(root)
            # names that begin with a dot are installations under way
            folders[:] = [] if len(here.parts) >= _DEPTH else sorted(f for f in folders if not f.startswith("."))
            if MANIFEST in files:
                names.append(here.as_posix())
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise DftError(_NO_PERMISSION, f"the families in {root} can't be read: {error}") from error
    except NotADirectoryError as error:
        raise DftError(_MISSING, f"{root} is not a folder where families can be") from error
    return sorted(names)


def verify_family(name: str, root: Path | None = None) -> list[DftError]:
    """Read and hash every file of an installed family.

    Returns
    -------
    list of DftError
        What is wrong, by element; empty if nothing is.

    Raises
    ------
    DftError
        As :func:`load_family`, if there is no such family.
    """
    family = load_family(name, root)
    problems = []
    for element in sorted(family.files):
        try:
            family.require([element])
        except DftError as error:
            problems.append(error)
    return problems


def _refuse(error: OSError) -> None:
    raise error


def _authoritative(installed: Manifest) -> Manifest:
    """Prefer the manifest that ships with us: a hash beside the file that it protects protects nothing."""
    ours = shipped_manifests().get(installed.name)
    if ours is None or not ours.files:
        return installed
    return ours


def _family(manifest: Manifest, directory: Path) -> Family:
    return Family(
        name=manifest.name,
        version=manifest.version,
        functional=manifest.functional,
        relativistic=manifest.relativistic,
        directory=directory,
        files={element: _pseudo(element, entry, directory) for element, entry in sorted(manifest.files.items())},
        citation=manifest.citation,
        cutoffs_from=manifest.cutoffs_from,
    )


def _pseudo(element: str, entry: FileEntry, directory: Path) -> PseudoFile:
    return PseudoFile(
        element=element,
        path=directory / entry.file,
        # a manifest without a hash can't be met by any file
        sha256=entry.sha256 or "",
        z_valence=entry.z_valence,
        ecutwfc_ry=dict(entry.ecutwfc_ry),
        dual=entry.dual,
        n_projectors=entry.n_projectors,
        pseudo_type=entry.pseudo_type,
    )


def _check_file(family: Family, pseudo: PseudoFile) -> None:
    again = f"`nucleate pseudos install --force {family.name}` mends it"
    try:
        content = pseudo.path.read_bytes()
    except FileNotFoundError as error:
        raise DftError(
            _MISSING, f"{pseudo.path}, the pseudopotential of {pseudo.element} in {family.name}, is gone: {again}"
        ) from error
    except OSError as error:
        raise DftError(_NO_PERMISSION, f"the pseudopotential of {pseudo.element} can't be read: {error}") from error
    same = hashlib.sha256(content).hexdigest() == pseudo.sha256
    try:
        header = parse_header(content)
    except UpfError as error:
        raise DftError(_DAMAGED, f"{pseudo.path} ({pseudo.element} of {family.name}): {error}; {again}") from error
    if wrong := mismatch(header, pseudo.element, family.functional):
        raise DftError(_WRONG, f"{pseudo.path} of family {family.name} {wrong}; {again}")
    if not same:
        raise DftError(
            _DAMAGED,
            f"{pseudo.path} ({pseudo.element} of {family.name}) is not the file it was: its sha256 differs; {again}",
        )


def mismatch(header: UpfHeader, element: str, functional: str) -> str:
    """Say in what a file is not what it should be; empty if it is."""
    if header.element != element:
        return f"is a pseudopotential of {header.element}, not of {element}"
    if header.functional != functional:
        return f"is made for {header.functional}, not for {functional}"
    return ""
