"""Pseudopotential families: what is installed, what can be, and whether a file is what its family says it is.

Examples
--------
>>> from dft_inputs.pseudos import install_family, load_family
>>> install_family("PseudoDojo/0.4/PBE/SR/standard")  # doctest: +SKIP
>>> family = load_family("PseudoDojo/0.4/PBE/SR/standard")  # doctest: +SKIP
>>> family.require(["Mg", "O"])  # doctest: +SKIP
>>> family.cutoffs(["Mg", "O"], "normal")  # doctest: +SKIP
"""

from __future__ import annotations

from dft_inputs.pseudos.family import (
    Cutoffs,
    Family,
    PseudoFile,
    default_root,
    list_families,
    load_family,
    verify_family,
)
from dft_inputs.pseudos.install import InstallError, install_family, install_folder
from dft_inputs.pseudos.upf import UpfError, UpfHeader, read_header

__all__ = [
    "Cutoffs",
    "Family",
    "InstallError",
    "PseudoFile",
    "UpfError",
    "UpfHeader",
    "default_root",
    "install_family",
    "install_folder",
    "list_families",
    "load_family",
    "read_header",
    "verify_family",
]
