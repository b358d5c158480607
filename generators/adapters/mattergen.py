"""MatterGen (Zeni et al., Nature 639, 624 (2025), doi 10.1038/s41586-025-08628-5) as a generator.

Written after github.com/microsoft/mattergen, version 1.0.3 (commit ac9ddd4): the options of ``mattergen-generate`` are
the arguments of ``main`` in ``mattergen/scripts/generate.py``, read by python-fire; names of models are in
``mattergen/common/utils/data_classes.py`` (PRETRAINED_MODEL_NAME), those of properties in
``mattergen/common/utils/globals.py`` (PROPERTY_SOURCE_IDS); what each model was conditioned on is in
``checkpoints/<name>/config.yaml``. The crystals are read from ``generated_crystals.extxyz`` (``save_structures`` in
``mattergen/common/utils/eval_utils.py``), not from the ZIP of CIF files beside it: that goes through fixed names in
/tmp, where two runs on one machine mix their crystals.

``mattergen-generate`` has no option for a seed; so the same module is run by :mod:`generators.adapters.seeded`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from generators.adapters import seeded
from generators.adapters.options import Running, choice, number, program, text, texts
from generators.adapters.options import path as checked_path
from generators.adapters.process import EnvironmentProblem
from generators.adapters.reading import NoCrystalsError, read_extxyz
from generators.adapters.runs import FailedRun, Part, sha256_of
from generators.adapters.stream import OutsideGenerator
from generators.compositions import complexity_shares, element_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from generators.adapters.runs import Run
    from generators.base import Bounds, Condition

TRAINED_ON: dict[str, tuple[str, ...]] = {
    "mattergen_base": (),
    "mp_20_base": (),
    "chemical_system": ("chemical_system",),
    "space_group": ("space_group",),
    "dft_mag_density": ("dft_mag_density",),
    "dft_band_gap": ("dft_band_gap",),
    "ml_bulk_modulus": ("ml_bulk_modulus",),
    "dft_mag_density_hhi_score": ("dft_mag_density", "hhi_score"),
    "chemical_system_energy_above_hull": ("chemical_system", "energy_above_hull"),
}
"""Upstream's models and the properties that each was conditioned on."""
PROPERTIES = (
    "dft_mag_density",
    "dft_bulk_modulus",
    "dft_shear_modulus",
    "energy_above_hull",
    "formation_energy_per_atom",
    "space_group",
    "hhi_score",
    "ml_bulk_modulus",
    "chemical_system",
    "dft_band_gap",
)
"""All that a model of MatterGen can be conditioned on, in upstream's names."""
OURS = {
    "energy_above_hull": ("energy_above_hull", "eV/atom"),
    "dft_band_gap": ("band_gap", "eV"),
    "ml_bulk_modulus": ("bulk_modulus", "GPa"),
    "dft_bulk_modulus": ("bulk_modulus", "GPa"),
}
"""Upstream's properties that a condition can hold: our name and unit."""
UNKNOWN_ELEMENTS = frozenset({"He", "Ne", "Ar", "Kr", "Xe", "Tc", "Pm"})
HEAVIEST = 83
"""SELECTED_ATOMIC_NUMBERS in ``mattergen/common/utils/globals.py``: up to Bi without these."""
CRYSTALS = "generated_crystals.extxyz"


class MatterGen(OutsideGenerator):
    """Crystals of MatterGen, one run of ``mattergen-generate`` a batch.

    A model that knows chemical systems is asked, run by run, for one element set that the condition allows (half of
    the time one of the largest, see :data:`generators.compositions.COMPLEX_SHARE`); other models propose any elements,
    and what does not fit is passed over.

    Parameters
    ----------
    python : str
        Interpreter of the environment into which MatterGen was installed (``pip install -e``, as upstream says).
    pretrained_name : str or None
        One of upstream's models; fetched by upstream from Hugging Face when first used.
    model_path : str or None
        Folder of a model of one's own, instead.
    trained_on : sequence of str
        Upstream's names of the properties that the model of ``model_path`` was conditioned on.
    guidance : float
        ``--diffusion_guidance_factor``; 0: unconditional.
    properties : mapping of str to (float, int or str)
        Values, in upstream's names and units, that go before those of the condition.
    energy_above_hull : float
        Wanted if the model knows it, eV/atom; brought into the condition's bounds where it has some.
    arguments : sequence of str
        Further arguments of ``mattergen-generate``, as ``--sampling_config_path=/...``.
    batch, timeout_s, environment, cache, max_failures, tries, grace_s
        As :class:`generators.adapters.script.OutsideModel`; ``batch`` is ``--batch_size``.

    Raises
    ------
    ValueError
        If an option has a wrong type or value; the message names it.
    """

    name = "mattergen"
    package = "mattergen"

    def __init__(
        self,
        python: str,
        pretrained_name: str | None = None,
        model_path: str | None = None,
        trained_on: Sequence[str] = (),
        guidance: float = 2.0,
        properties: Mapping[str, float | str] | None = None,
        energy_above_hull: float = 0.0,
        arguments: Sequence[str] = (),
        batch: int = 16,
        timeout_s: float = 7200.0,
        environment: Sequence[str] = (),
        cache: str | None = None,
        max_failures: int = 3,
        tries: int = 20,
        grace_s: float = 10.0,
    ) -> None:
        running = Running.checked(
            self.name,
            batch=batch,
            timeout_s=timeout_s,
            environment=environment,
            cache=cache,
            max_failures=max_failures,
            tries=tries,
            grace_s=grace_s,
        )
        super().__init__(running, program(self.name, "python", python), ("mattergen", "fire", "torch"))
        if (pretrained_name is None) == (model_path is None):
            raise ValueError(f"{self.name}: give one of the options pretrained_name and model_path")
        self.pretrained_name: str | None = None
        self.model_path: str | None = None
        if model_path is not None:
            self.model_path = checked_path(self.name, "model_path", model_path)
            self.trained_on = texts(self.name, "trained_on", trained_on)
            for known in self.trained_on:
                choice(self.name, "trained_on", known, PROPERTIES)
        else:
            self.pretrained_name = choice(self.name, "pretrained_name", pretrained_name, tuple(TRAINED_ON))
            self.trained_on = TRAINED_ON[self.pretrained_name]
            if trained_on and texts(self.name, "trained_on", trained_on) != self.trained_on:
                raise ValueError(f"{self.name}: the option trained_on is for model_path; {pretrained_name} has its own")
        self.guidance = number(self.name, "guidance", guidance, least=0.0)
        self.energy_above_hull = number(self.name, "energy_above_hull", energy_above_hull)
        self.arguments = texts(self.name, "arguments", arguments)
        self.properties = self._checked_properties(properties or {})

    def _checked_properties(self, properties: Any) -> dict[str, float | str]:
        if not hasattr(properties, "items"):
            raise ValueError(f"{self.name}: the option properties must be a mapping of names to values")
        checked: dict[str, float | str] = {}
        for key, value in properties.items():
            if key not in self.trained_on:
                known = ", ".join(self.trained_on) or "nothing"
                raise ValueError(f"{self.name}: the option properties has {key!r}; this model was trained on {known}")
            if key == "chemical_system":
                text(self.name, f"properties.{key}", value)
            elif key == "space_group" and isinstance(value, int):
                pass
            else:
                number(self.name, f"properties.{key}", value)
            checked[key] = value
        return checked

    @property
    def conditions_on(self) -> frozenset[str]:  # type: ignore[override]
        """Properties of a condition that this model is really asked for."""
        if self.guidance == 0:
            return frozenset()
        return frozenset(OURS[key][0] for key in self.trained_on if key in OURS and key not in self.properties)

    def options(self) -> dict[str, Any]:
        """Return the options that make an equal generator."""
        return {
            "python": self.python,
            "pretrained_name": self.pretrained_name,
            "model_path": self.model_path,
            "trained_on": list(self.trained_on) if self.model_path else [],
            "guidance": self.guidance,
            "properties": self.properties,
            "energy_above_hull": self.energy_above_hull,
            "arguments": list(self.arguments),
            **self.running.as_options(),
        }

    def _asks_for_elements(self) -> bool:
        return "chemical_system" in self.trained_on and "chemical_system" not in self.properties and self.guidance > 0

    def _refuse(self, condition: Condition) -> None:
        if self._asks_for_elements() and not known_sets(condition):
            raise ValueError(
                f"mattergen: no element set of {['-'.join(s) for s in condition.chemical_systems]} with "
                f"{condition.min_elements} to {condition.max_elements} elements is known to MatterGen, which has the "
                f"elements up to Bi without {', '.join(sorted(UNKNOWN_ELEMENTS))}"
            )
        for key in self.trained_on:
            if key in OURS and key not in self.properties:
                name, unit = OURS[key]
                bounds = condition.properties.get(name)
                if bounds is not None and bounds.unit not in {"", unit}:
                    raise ValueError(f"mattergen: {name} is asked for in {bounds.unit}; {unit} is needed")

    def asked(self, condition: Condition, seed: int) -> dict[str, float | str]:
        """Return what one run is conditioned on, in upstream's names.

        Parameters
        ----------
        condition : Condition
        seed : int
            Of the run: it decides the element set.

        Returns
        -------
        dict
            Properties that the condition leaves open are not in it; upstream then samples them unconditionally.
        """
        asked: dict[str, float | str] = {}
        for key in self.trained_on if self.guidance > 0 else ():
            bounds = condition.properties.get(OURS[key][0]) if key in OURS else None
            if key in self.properties:
                asked[key] = self.properties[key]
            elif key == "chemical_system":
                asked[key] = "-".join(draw_elements(known_sets(condition), seed))
            elif key == "energy_above_hull":
                asked[key] = self.energy_above_hull if bounds is None else _clipped(self.energy_above_hull, bounds)
            elif bounds is not None and (value := _middle(bounds)) is not None:
                asked[key] = value
        return asked

    def _command(self, run: Run, output: Path, condition_file: Path) -> tuple[list[str], dict[str, Any]]:
        del condition_file
        asked = self.asked(run.condition, run.seed)
        command = [str(self.python), seeded.__file__, str(run.seed), "mattergen.scripts.generate", str(output)]
        if self.model_path is None:
            command.append(f"--pretrained_name={self.pretrained_name}")
        else:
            command.append(f"--model_path={self.model_path}")
        command += [f"--batch_size={run.n}", "--num_batches=1", "--record_trajectories=False"]
        if asked:
            # A Python literal without blanks, as upstream's docstring asks.
            literal = ",".join(f"{key!r}:{value!r}" for key, value in asked.items())
            command += [f"--properties_to_condition_on={{{literal}}}", f"--diffusion_guidance_factor={self.guidance}"]
        return [*command, *self.arguments], asked

    def _parts(self, folder: Path, seen: int, code: int | None) -> Iterator[Part]:
        if code != 0 or seen:
            return
        path = folder / CRYSTALS
        if not path.is_file():  # upstream prints an I/O error and ends as if all were well
            raise FailedRun(f"it ended without an error, but wrote no {CRYSTALS}")
        try:
            crystals = read_extxyz(path)
        except NoCrystalsError as error:
            raise FailedRun(str(error)) from error
        yield Part(crystals, f"mattergen {self.pretrained_name or self.model_path}", "", sha256_of(path))

    def _check(self, environment: Mapping[str, str]) -> None:
        del environment
        if self.model_path is not None and not Path(self.model_path).is_dir():
            raise EnvironmentProblem(
                f"{self.name}: {self.model_path} (option model_path) is not there; give the folder that holds the "
                "model's config.yaml and checkpoints"
            )


def known_sets(condition: Condition) -> dict[int, list[tuple[str, ...]]]:
    """List the element sets of a condition that MatterGen knows, by size."""
    found: dict[int, list[tuple[str, ...]]] = {}
    for size, members in element_sets(condition).items():
        known = [members_ for members_ in members if all(map(_is_known, members_))]
        if known:
            found[size] = known
    return found


def draw_elements(sets: dict[int, list[tuple[str, ...]]], seed: int) -> tuple[str, ...]:
    """Draw one element set: its size first, then evenly among those of that size."""
    rng = np.random.default_rng(seed)
    shares = complexity_shares(list(sets))
    members = sets[int(rng.choice(list(shares), p=list(shares.values())))]
    return members[int(rng.integers(len(members)))]


def _is_known(symbol: str) -> bool:
    return symbol not in UNKNOWN_ELEMENTS and atomic_numbers[symbol] <= HEAVIEST


def _middle(bounds: Bounds) -> float | None:
    """Turn bounds into the one value that a model can be asked for: their middle, or the one that is there."""
    ends = [end for end in (bounds.minimum, bounds.maximum) if end is not None]
    return float(sum(ends) / len(ends)) if ends else None


def _clipped(value: float, bounds: Bounds) -> float:
    if bounds.minimum is not None:
        value = max(value, bounds.minimum)
    return value if bounds.maximum is None else min(value, bounds.maximum)
