"""POTCAR files for tests: pymatgen and custodian read them, no potential is in them."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VALENCE = {
    "H": 1, "Li": 3, "Be": 4, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Na": 7, "Mg": 8, "Al": 3, "Si": 4, "P": 5,
    "S": 6, "Cl": 7, "K": 9, "Ca": 10, "Ti": 10, "Fe": 14, "Cu": 17, "Zn": 12,
}  # fmt: skip
"""Electrons per atom, as the names (``_sv``, ``_pv``) suggest; only their sum matters to the stand-in."""


def symbols_of(input_set: str) -> dict[str, str]:
    """Give element to POTCAR symbol, as pymatgen's input set of that name wants them."""
    text = files("pymatgen.io.vasp").joinpath(f"{input_set}.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    if "POTCAR" in config:
        return dict(config["POTCAR"])
    return symbols_of(config["PARENT"])


def potcar_text(symbol: str, element: str, functional: str = "PBE", *, lexch: str = "PE") -> str:
    """Write a POTCAR that holds no potential."""
    return (
        f"  PAW_{functional.split('_', maxsplit=1)[0]} {symbol} 01Jan2026\n"
        f"   {VALENCE[element]:.3f}\n"
        " parameters from PSCTR are:\n"
        f"   VRHFIN ={element}: STAND-IN FOR TESTS: no potential in this file\n"
        f"   LEXCH  = {lexch}\n"
        "   EATOM  =     1.0000 eV,    1.0000 Ry\n\n"
        f"   TITEL  = PAW_{functional.split('_', maxsplit=1)[0]} {symbol} 01Jan2026\n"
        "   LULTRA =        F    use ultrasoft PP ?\n"
        "   IUNSCR =        0    unscreen: 0-lin 1-nonlin 2-no\n"
        "   RPACOR =     .000    partial core radius\n"
        f"   POMASS =   10.000; ZVAL   =  {VALENCE[element]:8.3f}    mass and valenz\n"
        "   RCORE  =    1.500    outmost cutoff radius\n"
        "   RWIGS  =    1.500; RWIGS  =    0.794    wigner-seitz radius (au A)\n"
        "   ENMAX  =  400.000; ENMIN  =  300.000 eV\n"
        "   LCOR   =        T    correct aug charges\n"
        "   LPAW   =        T    paw PP\n"
        "   EAUG   =  500.000\n"
        "   RMAX   =    1.500    core radius for proj-oper\n"
        "   RAUG   =    1.300    factor for augmentation sphere\n"
        "   RDEP   =    1.500    radius for radial grids\n"
        "   QCUT   =   -5.500; QGAM   =   11.000    optimization parameters\n\n"
        "END of PSCTR-controll parameters\n"
        " local part\n"
        "   0.0 1.0 2.0\n"
        " End of Dataset\n"
    )


def make_library(directory: Path, elements: Iterable[str]) -> Path:
    """Make a directory as ``PMG_VASP_PSP_DIR`` wants it, for the input sets of our protocols."""
    for functional, folder, input_set in (
        ("PBE", "POT_GGA_PAW_PBE", "MPRelaxSet"),
        ("PBE_64", "POT_PAW_PBE_64", "PBE64Base"),
    ):
        symbols = symbols_of(input_set)
        for element in elements:
            place = directory / folder / symbols[element]
            place.mkdir(parents=True, exist_ok=True)
            (place / "POTCAR").write_text(potcar_text(symbols[element], element, functional), encoding="utf-8")
    return directory
