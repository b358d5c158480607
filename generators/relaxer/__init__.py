"""Batched force-field relaxation of positions and cell with CHGNet, whose weights ship in its wheel."""

from generators.relaxer.batched import Relaxed, SinglePoint, evaluate, relax
from generators.relaxer.forcefield import DEFAULT_MODEL, MODELS, Evaluation, load_model, relaxer_version

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "Evaluation",
    "Relaxed",
    "SinglePoint",
    "evaluate",
    "load_model",
    "relax",
    "relaxer_version",
]
