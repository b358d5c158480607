"""What the user asks for: ``campaign.yaml`` parsed into a strict :class:`CampaignSpec`.

Every field has a unit and a description; unknown keys are refused, and a number is a number (no ``"64"``, no ``yes``).
Checks sit on fields, not on whole models, wherever they can: pydantic skips a model's own check as soon as one of its
fields is wrong, and then a file's problems could not be listed all at once (see :mod:`workflows.spec_file`).
"""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from itertools import combinations
from math import comb
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pymatgen.core import Element

from generators.base import Bounds, Condition

MAX_CHEMICAL_SYSTEMS = 50_000
"""A reference set is completed for each of them, so more is a mistake."""

MAX_KNOWN = 10_000
"""Crystals of the user's own; they are kept whole in the store."""

MAX_CANDIDATES = 1_000_000
"""Candidates of a whole campaign (rounds x samples)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, regex_engine="python-re")


def _element(symbol: str) -> str:
    if not Element.is_valid_symbol(symbol):
        close = get_close_matches(symbol.capitalize(), [element.symbol for element in Element], n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "use symbols such as Mg, Al, O"
        raise ValueError(f"{symbol!r} is no element; {hint}")
    return symbol


def _system(system: str) -> str:
    for symbol in system.split("-"):
        _element(symbol)
    return "-".join(sorted(set(system.split("-"))))


ElementSymbol = Annotated[str, AfterValidator(_element)]
ChemicalSystem = Annotated[str, AfterValidator(_system)]


class Chemistry(_Part):
    """Which elements may meet, and in how large a cell.

    Either ``systems`` or ``allowed`` (with ``forbidden`` and ``max_elements``) is given.
    """

    systems: tuple[ChemicalSystem, ...] = Field(
        (),
        max_length=1000,
        description="chemical systems; subsets of each are allowed",
        examples=[["Mg-Al-O", "Mg-Si-N"]],
    )
    allowed: tuple[ElementSymbol, ...] = Field(
        (),
        validate_default=True,
        description="allowed elements, instead of systems",
        examples=[["Mg", "Al", "O"]],
    )
    forbidden: tuple[ElementSymbol, ...] = Field((), description="elements that may not occur", examples=[["Pb", "Cd"]])
    min_elements: int = Field(2, ge=1, le=8, strict=True, description="fewest distinct elements in a crystal")
    max_elements: int = Field(
        3, ge=1, le=8, strict=True, validate_default=True, description="most distinct elements in a crystal"
    )
    max_atoms: int = Field(8, ge=1, le=64, strict=True, description="most atoms in the primitive cell")
    neutrality: Literal["strict", "permissive", "off"] = Field(
        "strict",
        description="charge neutrality: strict (common oxidation states must balance), permissive (any known state; "
        "alloys pass), off. A choice, not a law: strict refuses alloys and most borides and carbides",
    )

    @field_validator("allowed", "forbidden")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @field_validator("allowed")
    @classmethod
    def _one_way_of_saying_it(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "systems" in info.data and bool(info.data["systems"]) == bool(value):
            raise ValueError(
                "give either systems (e.g. [Mg-Al-O]) or allowed elements (e.g. [Mg, Al, O]), one of the two"
            )
        return value

    @field_validator("max_elements")
    @classmethod
    def _something_is_left(cls, value: int, info: ValidationInfo) -> int:
        if "min_elements" in info.data and info.data["min_elements"] > value:
            raise ValueError(f"min_elements {info.data['min_elements']} is above max_elements {value}")
        if {"systems", "allowed", "forbidden", "min_elements"} <= info.data.keys():
            pools = _pools(info.data["systems"], info.data["allowed"], info.data["forbidden"])
            count = sum(comb(len(pool), min(value, len(pool))) for pool in pools)
            if count > MAX_CHEMICAL_SYSTEMS:
                raise ValueError(
                    f"these elements make {count:,} chemical systems of up to {value} elements, at most "
                    f"{MAX_CHEMICAL_SYSTEMS:,} can be searched; name systems, or allow fewer elements"
                )
            if not any(len(pool) >= info.data["min_elements"] for pool in pools):
                raise ValueError(
                    f"no chemical system with at least {info.data['min_elements']} elements (min_elements) is left; "
                    "allow more elements or forbid fewer"
                )
        return value

    def chemical_systems(self) -> tuple[tuple[str, ...], ...]:
        """List the largest allowed chemical systems, sorted, none inside another."""
        pools = [pool for pool in _pools(self.systems, self.allowed, self.forbidden) if len(pool) >= self.min_elements]
        large = {
            group
            for pool in pools
            # A pool no larger than max_elements stays whole, and then it may lie inside another.
            if len(pool) >= self.max_elements or not any(set(pool) < set(other) for other in pools)
            for group in combinations(pool, min(self.max_elements, len(pool)))
        }
        return tuple(sorted(large))


def _pools(systems: tuple[str, ...], allowed: tuple[str, ...], forbidden: tuple[str, ...]) -> list[tuple[str, ...]]:
    """List the sets of elements that may meet, whatever their size."""
    groups = [system.split("-") for system in systems] or [list(allowed)]
    return sorted({tuple(sorted(set(group) - set(forbidden))) for group in groups})


class Range(_Part):
    """A wanted interval of a property, with its unit."""

    min: float | None = Field(None, strict=True, description="lower limit, in unit")
    max: float | None = Field(None, strict=True, validate_default=True, description="upper limit, in unit")
    unit: str = Field(..., description="eV/atom, GPa, eV, ...")

    @field_validator("max")
    @classmethod
    def _is_an_interval(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "min" in info.data:
            low = info.data["min"]
            if low is None and value is None:
                raise ValueError("give min, max or both")
            if low is not None and value is not None and low > value:
                raise ValueError(f"min {low:g} is above max {value:g}: nothing can lie between")
        return value

    def holds(self, value: float) -> bool:
        """Tell whether a value lies inside, limits included."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class HullCut(Range):
    """Energy above hull; a max is needed, it is the hull cut."""

    min: float | None = Field(None, strict=True, ge=-10, le=10, description="lower limit, eV/atom")
    max: float = Field(..., strict=True, ge=-10, le=10, description="the hull cut, eV/atom")
    unit: Literal["eV/atom"]


class Modulus(Range):
    """An elastic modulus; the stiffest solids known stay under 500 GPa."""

    min: float | None = Field(None, strict=True, ge=0, le=1000, description="lower limit, GPa")
    max: float | None = Field(None, strict=True, ge=0, le=1000, validate_default=True, description="upper limit, GPa")
    unit: Literal["GPa"]


class Gap(Range):
    """A band gap; the widest known is about 14 eV (LiF)."""

    min: float | None = Field(None, strict=True, ge=0, le=30, description="lower limit, eV")
    max: float | None = Field(None, strict=True, ge=0, le=30, validate_default=True, description="upper limit, eV")
    unit: Literal["eV"]


TARGET_UNITS = {"energy_above_hull": "eV/atom", "bulk_modulus": "GPa", "band_gap": "eV"}
"""Properties a target may name, and the one unit each is written in."""


class Targets(_Part):
    """What a hit must meet; an unmeasured property is not a hit."""

    energy_above_hull: HullCut = Field(HullCut(min=None, max=0.1, unit="eV/atom"), description="the hull cut, eV/atom")
    phonons: Literal["stable", "any"] = Field("any", description="stable: lowest frequency above the tolerance")
    phonon_tolerance: float = Field(
        -0.3,
        strict=True,
        ge=-100,
        le=0,
        description="THz; lowest frequency away from Γ that still counts as stable (imaginary is negative)",
    )
    bulk_modulus: Modulus | None = Field(None, description="GPa")
    band_gap: Gap | None = Field(None, description="eV; DFT engines only")

    @field_validator(*TARGET_UNITS, mode="before")
    @classmethod
    def _from_a_plain_range(cls, value: Any) -> Any:
        return value.model_dump() if isinstance(value, Range) else value

    @property
    def properties(self) -> dict[str, Range]:
        """Property targets beside the hull and phonons."""
        return {
            name: r for name in TARGET_UNITS if name != "energy_above_hull" and (r := getattr(self, name)) is not None
        }

    def met_by(self, measured: dict[str, float]) -> bool:
        """Tell whether every property target is met by what was measured, in the targets' units."""
        return all(name in measured and wanted.holds(measured[name]) for name, wanted in self.properties.items())


class GeneratorShare(_Part):
    """One generator of a mix."""

    name: str = Field(..., description="a registered generator: symmetric, ion_exchange, random, ...")
    share: float = Field(1.0, gt=0, le=1e6, strict=True, description="relative share of the samples")
    options: dict[str, Any] = Field(
        default_factory=dict, description="passed to the generator; paths in them are relative to this file"
    )


class Budget(_Part):
    """What a round may spend."""

    verifications: int = Field(8, ge=1, le=10_000, strict=True, description="candidates verified a round")
    hours: float | None = Field(
        None, gt=0, le=1e9, strict=True, description="core-hours of the whole campaign; no round is opened beyond it"
    )


class CampaignSpec(_Part):
    """A whole campaign."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}\Z")] = Field(
        ..., description="unique in its store; lower-case letters, digits, - and _"
    )
    description: str = Field("", max_length=2000, description="for people")
    chemistry: Chemistry
    targets: Targets = Field(Targets(), description="what a hit must meet")
    generator: tuple[GeneratorShare, ...] = Field(
        (GeneratorShare(name="symmetric", share=0.7), GeneratorShare(name="ion_exchange", share=0.3)),
        max_length=20,
        description="one generator, or a mix with shares",
    )
    known: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = Field(
        (),
        max_length=MAX_KNOWN,
        description="crystals of your own that do not count as novel: CIF, POSCAR or extxyz files, or folders of them; "
        "paths relative to this file",
        examples=[["ours", "measured/MgO.cif"]],
    )
    engine: Literal["mlip", "vasp", "espresso"] = Field("mlip", description="what verifies")
    protocol: Literal["fast", "balanced", "stringent"] = Field("fast", description="named precision of the engine")
    rounds: int = Field(2, ge=1, le=1000, strict=True, description="turns of the loop")
    samples: int = Field(64, ge=1, le=100_000, strict=True, description="crystals proposed a round")
    control: int = Field(
        16,
        ge=0,
        le=100_000,
        strict=True,
        description="control samples a round (from round 2): the previous generator, the same seeds",
    )
    batch: int = Field(16, ge=1, le=4096, strict=True, description="candidates in one pre-relaxation job")
    budget: Budget = Field(Budget(), description="what a round may spend")
    seed: int = Field(0, ge=0, lt=2**31, strict=True, description="everything random derives from it")
    store: str = Field(
        "embedded",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z",
        description="a store profile: embedded, or a name from the configuration",
    )

    @field_validator("generator", mode="before")
    @classmethod
    def _one_or_a_mix(cls, value: Any) -> Any:
        """Accept ``ion_exchange``, ``{ion_exchange: 0.6, random: 0.4}`` and the full list."""
        if not value:
            raise ValueError("is empty; name a generator, such as ion_exchange")
        if isinstance(value, str):
            return ({"name": value},)
        if isinstance(value, dict) and "name" not in value:
            return tuple({"name": name, "share": share} for name, share in value.items())
        if isinstance(value, dict):
            return (value,)
        return value

    @field_validator("samples")
    @classmethod
    def _a_size_that_can_be_stored(cls, value: int, info: ValidationInfo) -> int:
        if value * info.data.get("rounds", 1) > MAX_CANDIDATES:
            raise ValueError(
                f"{info.data['rounds']:,} rounds of {value:,} samples are {value * info.data['rounds']:,} candidates; "
                f"at most {MAX_CANDIDATES:,} fit in a campaign"
            )
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
        """Hash what decides results; ``store`` and ``description`` do not.

        Of ``known``, and of options that name files, the paths count as they are written; what is in the files of
        ``known`` is hashed by :mod:`workflows.known_files`, so that the hash is the same wherever the campaign lies.
        """
        content = self.model_dump(mode="json", exclude={"store", "description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
