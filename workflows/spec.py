"""What the user asks for: ``campaign.yaml`` parsed into a strict :class:`CampaignSpec`.

Every field has a unit and a description; unknown keys are refused. A file's problems are listed all at once.
"""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pymatgen.core import Element

from generators.base import Bounds, Condition


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Chemistry(_Part):
    """Which elements may meet, and in how large a cell.

    Either ``systems`` or ``allowed`` (with ``forbidden`` and ``max_elements``) is given.
    """

    systems: tuple[str, ...] = Field(
        (), description="chemical systems, e.g. [Mg-Al-O, Mg-Si-N]; subsets of each are allowed"
    )
    allowed: tuple[str, ...] = Field((), description="allowed elements, instead of systems")
    forbidden: tuple[str, ...] = Field((), description="elements that may not occur")
    min_elements: int = Field(2, ge=1, le=8, description="fewest distinct elements in a crystal")
    max_elements: int = Field(3, ge=1, le=8, description="most distinct elements in a crystal")
    max_atoms: int = Field(8, ge=1, le=64, description="most atoms in the primitive cell")
    neutrality: Literal["strict", "permissive", "off"] = Field(
        "strict",
        description="charge neutrality: strict (common oxidation states must balance), permissive (any known state; "
        "alloys pass), off. A choice, not a law: strict refuses alloys and most borides and carbides",
    )

    @field_validator("systems")
    @classmethod
    def _systems_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for system in value:
            for symbol in system.split("-"):
                _check_element(symbol, f"in system {system!r}")
        return tuple("-".join(sorted(set(system.split("-")))) for system in value)

    @field_validator("allowed", "forbidden")
    @classmethod
    def _elements_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in value:
            _check_element(symbol, "")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _one_way_of_saying_it(self) -> Chemistry:
        if bool(self.systems) == bool(self.allowed):
            raise ValueError(
                "give either systems (e.g. [Mg-Al-O]) or allowed elements (e.g. [Mg, Al, O]), one of the two"
            )
        if self.min_elements > self.max_elements:
            raise ValueError(f"min_elements {self.min_elements} is above max_elements {self.max_elements}")
        if not self.chemical_systems():
            raise ValueError("no chemical system is left: forbidden elements or the element counts exclude everything")
        return self

    def chemical_systems(self) -> tuple[tuple[str, ...], ...]:
        """List the largest allowed chemical systems, sorted, none inside another."""
        if self.systems:
            groups = [tuple(sorted(set(system.split("-")) - set(self.forbidden))) for system in self.systems]
            large: set[tuple[str, ...]] = set()
            for group in groups:
                size = min(self.max_elements, len(group))
                large.update(combinations(group, size))
        else:
            elements = sorted(set(self.allowed) - set(self.forbidden))
            large = set(combinations(elements, min(self.max_elements, len(elements))))
        large = {group for group in large if len(group) >= self.min_elements}
        return tuple(sorted(g for g in large if not any(set(g) < set(other) for other in large)))


def _check_element(symbol: str, where: str) -> None:
    if not Element.is_valid_symbol(symbol):
        raise ValueError(f"{symbol!r} {where} is no element; use symbols such as Mg, Al, O".replace("  ", " "))


class Range(_Part):
    """A wanted interval of a property, with its unit."""

    min: float | None = Field(None, description="lower limit, in unit")
    max: float | None = Field(None, description="upper limit, in unit")
    unit: str = Field(..., description="eV/atom, GPa, eV, ...")

    @model_validator(mode="after")
    def _is_an_interval(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def holds(self, value: float) -> bool:
        """Tell whether a value lies inside, limits included."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


TARGET_UNITS = {"energy_above_hull": "eV/atom", "bulk_modulus": "GPa", "band_gap": "eV"}
"""Properties a target may name, and the one unit each is written in."""


class Targets(_Part):
    """What a hit must meet; an unmeasured property is not a hit."""

    energy_above_hull: Range = Field(
        default_factory=lambda: Range(min=None, max=0.1, unit="eV/atom"), description="the hull cut, eV/atom"
    )
    phonons: Literal["stable", "any"] = Field("any", description="stable: lowest frequency above the tolerance")
    phonon_tolerance: Annotated[float, Field(le=0)] = Field(
        -0.3, description="THz; lowest frequency away from Γ that still counts as stable (imaginary is negative)"
    )
    bulk_modulus: Range | None = Field(None, description="GPa")
    band_gap: Range | None = Field(None, description="eV; DFT engines only")

    @model_validator(mode="after")
    def _units_are_ours(self) -> Targets:
        for name, unit in TARGET_UNITS.items():
            wanted = getattr(self, name)
            if wanted is not None and wanted.unit != unit:
                raise ValueError(f"{name}: unit {wanted.unit!r} is not understood; write it in {unit}")
        if self.energy_above_hull.max is None:
            raise ValueError("energy_above_hull needs a max: it is the hull cut")
        return self

    @property
    def properties(self) -> dict[str, Range]:
        """Property targets beside the hull and phonons."""
        return {
            name: r for name in TARGET_UNITS if name != "energy_above_hull" and (r := getattr(self, name)) is not None
        }


class GeneratorShare(_Part):
    """One generator of a mix."""

    name: str = Field(..., description="a registered generator: ion_exchange, random, ...")
    share: float = Field(1.0, gt=0, description="relative share of the samples")
    options: dict[str, Any] = Field(default_factory=dict, description="passed to the generator")


class Budget(_Part):
    """What a round may spend."""

    verifications: int = Field(8, ge=1, le=10_000, description="candidates verified a round")
    hours: float | None = Field(None, gt=0, description="core-hours of the whole campaign; none is opened beyond it")


class CampaignSpec(_Part):
    """A whole campaign."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")] = Field(
        ..., description="unique in its store; lower-case letters, digits, - and _"
    )
    description: str = Field("", description="for people")
    chemistry: Chemistry
    targets: Targets = Field(default_factory=Targets)
    generator: tuple[GeneratorShare, ...] = Field(
        (GeneratorShare(name="ion_exchange", share=0.6), GeneratorShare(name="random", share=0.4)),
        description="one generator, or a mix with shares",
    )
    engine: Literal["mlip", "vasp", "espresso"] = Field("mlip", description="what verifies")
    protocol: Literal["fast", "balanced", "stringent"] = Field("fast", description="named precision of the engine")
    rounds: int = Field(2, ge=1, le=1000, description="turns of the loop")
    samples: int = Field(64, ge=1, le=100_000, description="crystals proposed a round")
    control: int = Field(
        16,
        ge=0,
        le=100_000,
        description="control samples a round (from round 2): the previous generator, the same seeds",
    )
    batch: int = Field(16, ge=1, le=4096, description="candidates in one pre-relaxation job")
    budget: Budget = Field(default_factory=Budget)
    seed: int = Field(0, ge=0, lt=2**31, description="everything random derives from it")
    store: str = Field("embedded", description="a store profile: embedded, or a name from the configuration")

    @field_validator("generator", mode="before")
    @classmethod
    def _one_or_a_mix(cls, value: Any) -> Any:
        """Accept ``ion_exchange``, ``{ion_exchange: 0.6, random: 0.4}`` and the full list."""
        if isinstance(value, str):
            return ({"name": value},)
        if isinstance(value, dict) and "name" not in value:
            return tuple({"name": name, "share": share} for name, share in value.items())
        if isinstance(value, dict):
            return (value,)
        return value

    def condition(self) -> Condition:
        """Give the target as a generator sees it."""
        return Condition(
            chemical_systems=self.chemistry.chemical_systems(),
            min_elements=self.chemistry.min_elements,
            max_elements=self.chemistry.max_elements,
            max_atoms=self.chemistry.max_atoms,
            neutrality=self.chemistry.neutrality,
            properties={n: Bounds(r.min, r.max, r.unit) for n, r in self.targets.properties.items()},
            stable=True,
        )

    def sha256(self) -> str:
        """Hash what decides results; ``store`` and ``description`` do not."""
        content = self.model_dump(mode="json", exclude={"store", "description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
