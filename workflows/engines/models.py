"""Force-field models that verify: what they know, where their weights lie, and one loaded calculator per process.

Light to import: torch and the model packages are loaded by :func:`get_calculator` alone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

_MPTRJ_ABSENT = frozenset({"Po", "At", "Rn", "Fr", "Ra"})
"""Elements up to Pu that the Materials Project trajectories do not hold (Deng et al., Nat. Mach. Intell. 5, 1031)."""


@dataclass(frozen=True)
class Model:
    """A pretrained force field.

    Parameters
    ----------
    name : str
        Ours; part of every reference key.
    force_field : str
        atomate2's name of the family.
    calculator_kwargs : tuple of (str, Any)
        What atomate2 hands to the ASE calculator.
    package : str
        Distribution that ships code and weights.
    weights : str
        Path of the weights inside the package.
    cutoff : float
        Å; an atom without a neighbour inside it is invisible to the model.
    trained_on, source : str
        Training data, and where the model is described.
    """

    name: str
    force_field: str
    calculator_kwargs: tuple[tuple[str, Any], ...]
    package: str
    weights: str
    cutoff: float
    trained_on: str
    source: str

    @property
    def family(self) -> str:
        """Package name; a model may not judge what a model of its own family screened."""
        return self.package

    @property
    def version(self) -> str:
        """Version of the package that runs it."""
        return version(self.package)

    def knows(self, symbol: str) -> bool:
        """Tell whether an element was in the training data (all of H-Pu but Po, At, Rn, Fr, Ra)."""
        from pymatgen.core import Element

        return Element(symbol).Z <= 94 and symbol not in _MPTRJ_ABSENT

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file: the model's identity, whatever the package's version.

        Raises
        ------
        ModuleNotFoundError
            If the package is not installed.
        """
        return _file_sha256(self.package, self.weights)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "7net-0",
            "SevenNet",
            (("model", "7net-0"),),
            "sevenn",
            "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
            5.0,
            "Materials Project trajectories (MPtrj), PBE and PBE+U",
            "Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        ),
        Model(
            "chgnet-0.3.0",
            "CHGNet",
            (("stress_unit", "eV/A3"),),
            "chgnet",
            "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
            6.0,
            "Materials Project trajectories (MPtrj), PBE and PBE+U",
            "Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        ),
    )
}
"""Models by name; their weights ship in the wheels."""

SCREENING_FAMILY = "chgnet"
"""What screens and pre-relaxes: no model of this family may verify."""


def get_model(name: str) -> Model:
    """Look a model up.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: known are {', '.join(MODELS)}")
    return MODELS[name]


@lru_cache(maxsize=4)
def get_calculator(name: str) -> Calculator:
    """Give this process's one calculator of a model; loading takes seconds, so a worker keeps it alive.

    Threads follow ``OMP_NUM_THREADS`` and are one if it is not set: oversubscription is the worst slowdown.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    import torch
    from atomate2.forcefields.utils import ase_calculator

    model = get_model(name)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    return ase_calculator(model.force_field, **dict(model.calculator_kwargs))


@lru_cache(maxsize=16)
def _file_sha256(package: str, relative: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {package!r} is not installed; it ships the weights", name=package)
    return hashlib.sha256((Path(spec.origin).parent / relative).read_bytes()).hexdigest()
