"""Symmetric by design: space group, Wyckoff letters and species first, then free parameters and the lattice."""

from generators.symmetric.generator import Symmetric

__all__ = ["Symmetric"]
