"""What is compared: generators with and without feedback, and the chemical systems they search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generators.base import Generator
    from workflows.spec import CampaignSpec


@dataclass(frozen=True)
class Arm:
    """One way to run a campaign.

    Parameters
    ----------
    name : str
    generator : str
        Registry name.
    feedback : bool
        Whether verdicts teach the generator and the surrogate behind the selection.
    options : dict
        Of the generator.
    """

    name: str
    generator: str
    feedback: bool
    options: dict[str, Any]

    def make(self) -> Generator:
        """Make its generator, which has learned nothing yet."""
        from generators.registry import make_generator

        return make_generator(self.generator, **self.options)


ARMS = (
    Arm("learned + feedback", "symmetric", feedback=True, options={}),
    Arm("learned", "symmetric", feedback=False, options={}),
    Arm("diffusion + feedback", "diffusion", feedback=True, options={}),
    Arm("diffusion", "diffusion", feedback=False, options={}),
    Arm("ion exchange + feedback", "ion_exchange", feedback=True, options={}),
    Arm("ion exchange", "ion_exchange", feedback=False, options={}),
    Arm("random", "random", feedback=False, options={}),
)

SYSTEMS: dict[str, dict[str, Any]] = {
    "Mg-Al-Si-N-O": {
        "chemistry": {"allowed": ["Mg", "Al", "Si", "N", "O"], "max_elements": 3},
        "targets": {"bulk_modulus": {"min": 120.0, "unit": "GPa"}},
    },
    "Mg-Ti-Zr-O": {
        "chemistry": {"allowed": ["Mg", "Ti", "Zr", "O"], "min_elements": 2, "max_elements": 3},
        "targets": {"bulk_modulus": {"min": 150.0, "unit": "GPa"}},
    },
    "Al-Ni-Cu-Zr": {
        "chemistry": {
            "allowed": ["Al", "Ni", "Cu", "Zr"], "min_elements": 2, "max_elements": 3, "neutrality": "off"
        },
        "targets": {"bulk_modulus": {"min": 140.0, "unit": "GPa"}},
    },
    "Al-Ni-Cu-Zr window": {
        "chemistry": {
            "allowed": ["Al", "Ni", "Cu", "Zr"], "min_elements": 2, "max_elements": 3, "neutrality": "off"
        },
        "targets": {"bulk_modulus": {"min": 105.0, "max": 115.0, "unit": "GPa"}},
    },
    "Ti-Zr-Nb-C-N": {
        "chemistry": {
            "allowed": ["Ti", "Zr", "Nb", "C", "N"], "min_elements": 2, "max_elements": 3, "neutrality": "off"
        },
        "targets": {"bulk_modulus": {"min": 230.0, "unit": "GPa"}},
    },
}  # fmt: skip
"""Stiff oxynitrides (a handful of polymorphs is all there is to find), oxides, intermetallics that are stiff or within
ten GPa of a wanted bulk modulus, hard carbonitrides. The hull cut is 0.1 eV/atom."""


def spec_of(system: str, rounds: int, samples: int, budget: int, seed: int) -> CampaignSpec:
    """Write the campaign of a system."""
    from workflows.spec import CampaignSpec

    return CampaignSpec.model_validate(
        {
            "name": f"feedback-{seed}",
            **SYSTEMS[system],
            "generator": "symmetric",
            "rounds": rounds,
            "samples": samples,
            "control": 0,
            "budget": {"verifications": budget},
            "seed": seed,
        }
    )
