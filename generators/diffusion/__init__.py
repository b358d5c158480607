"""Joint diffusion of lattice, fractional coordinates and species in P1, with guidance on properties."""

from generators.diffusion.generator import Diffusion

__all__ = ["Diffusion"]
