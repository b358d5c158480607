"""The diffusion model as a generator: options, streams in fixed blocks, learning from verdicts, checkpoints."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import spglib
import torch
from ase.data import atomic_numbers
from pymatgen.core import Lattice, Structure

from generators.base import FitReport, Sample, derive_seed
from generators.checkpoint import none_ships
from generators.compositions import is_neutral
from generators.crystals.elements import MAX_Z, symbol_of
from generators.crystals.spglib_calls import found_or_none
from generators.crystals.validity import check_structure
from generators.data.dataset import Dataset
from generators.diffusion import fitting, lattices, updates
from generators.diffusion.conditions import usable_sets
from generators.diffusion.graph import Graph
from generators.diffusion.model import NAME, Model
from generators.diffusion.noise import MASKED
from generators.diffusion.sampler import Noise, draw, guided
from generators.state_file import understood

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from generators.base import Bounds, Condition, Labelled

BLOCK = 32
"""Samples ``32 k`` to ``32 k + 31`` of a stream are drawn together, whichever of them are asked for: a batch's size
changes the last bits of a sum, and a hundred steps may make them visible."""
PRIMITIVE_ANGSTROM = 0.05
"""Atoms this close to a smaller cell's make that the sample."""


class Diffusion:
    """Joint diffusion of lattice, coordinates and species in P1, with classifier-free guidance on properties.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a saved state; None takes the one that ships.
    guidance : float
        Weight of the wanted properties: 0 ignores them, 1 is the model's own conditional distribution, more leans
        further. It costs a second evaluation unless it is 0 or 1.
    steps : int
        Noise levels from pure noise to a crystal.
    composition : {"neutral", "free"}
        Whether a composition that keeps the condition is drawn first, or species diffuse within one of its chemical
        systems; then neither neutrality nor the number of elements is certain, ``info`` says what came.
    tries : int
        How often a sample is drawn at most until its structure passes
        :func:`generators.crystals.validity.check_structure`; the last one is given whatever it is.

    Raises
    ------
    ValueError
        If an option is out of range, or the checkpoint can't be used.
    """

    name = NAME

    def __init__(
        self,
        checkpoint: str | None = None,
        guidance: float = 2.0,
        steps: int = 100,
        composition: str = "neutral",
        tries: int = 3,
    ) -> None:
        if not 0 <= guidance <= 20:
            raise ValueError(f"diffusion: guidance {guidance} must lie between 0 and 20")
        if not 2 <= steps <= 10_000:
            raise ValueError(f"diffusion: steps {steps} must lie between 2 and 10000")
        if composition not in {"neutral", "free"}:
            raise ValueError(f"diffusion: composition must be neutral or free, not {composition!r}")
        if not 1 <= tries <= 100:
            raise ValueError(f"diffusion: tries {tries} must lie between 1 and 100")
        self.guidance, self.steps, self.tries = float(guidance), int(steps), int(tries)
        self.composition = composition
        self._model = None if checkpoint is None else Model.load(Path(checkpoint))[0]

    @classmethod
    def blank(cls, **options: Any) -> Self:
        """Make one to be fitted; nothing is read."""
        return cls(**options)

    @property
    def training(self) -> dict[str, Any]:
        """How the model was trained: data set, sizes, recipe, loss curve with its seconds."""
        return dict(self.model.card)

    @property
    def model(self) -> Model:
        """What was trained or loaded; the shipped one is read when it is first needed.

        Raises
        ------
        ValueError
            If none was given and none ships.
        """
        if self._model is None:
            folder = Path(str(files("generators.diffusion").joinpath("checkpoint")))
            if not folder.is_dir():
                raise none_ships(self.name)
            self._model = Model.load(folder)[0]
        return self._model

    @property
    def options(self) -> dict[str, Any]:
        """The options it was made with, the checkpoint apart."""
        return {
            "guidance": self.guidance,
            "steps": self.steps,
            "composition": self.composition,
            "tries": self.tries,
        }

    @property
    def version(self) -> str:
        """Version of the method, name of the weights, number of updates learned from."""
        return f"1-{self.model.digest}+{self.model.updates}"

    @property
    def conditions_on(self) -> frozenset[str]:
        """Properties that the checkpoint was trained with."""
        return frozenset(scale.name for scale in self.model.scales)

    @property
    def last_update(self) -> dict[str, Any]:
        """What became of the last update: ``taken``, ``why``, ``kl_nats``, ``good``, ``bad``, losses; or empty."""
        return dict(self.model.last_update)

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Train from scratch.

        Parameters
        ----------
        dataset : Dataset or iterable of Structure
            Bare structures have no properties: then give ``properties=()``.
        **options : Any
            See :class:`generators.diffusion.fitting.Training`.

        Raises
        ------
        ValueError
            If an option is unknown, the training part is empty, or too few crystals have a property.
        """
        begin = time.perf_counter()
        training = fitting.Training.of(options)
        data = Dataset.of(dataset)
        self._model, _, metrics = fitting.fit(data, training)
        return FitReport(self.name, len(data), time.perf_counter() - begin, metrics)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        Raises
        ------
        ValueError
            At once, if an element was in no training crystal, or no composition meets the condition.

        Warns
        -----
        UserWarning
            If a property target was not learned, or it or the size lies beyond what the training crystals have.
        """
        self.model.abilities.heed(self.name, condition)
        sets = usable_sets(condition, free=self.composition == "free")
        targets = self._targets(condition.properties)
        return self._stream(n, start, condition, sets, targets, seed)

    def _targets(self, properties: Mapping[str, Bounds]) -> dict[str, float]:
        """Standardised values of the properties that are both wanted and known."""
        known = {scale.name: scale for scale in self.model.scales}
        return {
            name: known[name].target(bounds)
            for name, bounds in properties.items()
            if name in known and (bounds.minimum is not None or bounds.maximum is not None)
        }

    def _stream(
        self,
        n: int,
        start: int,
        condition: Condition,
        sets: dict[int, list[tuple[str, ...]]],
        targets: dict[str, float],
        seed: int,
    ) -> Iterator[Sample]:
        for block in range(start // BLOCK, -(-n // BLOCK)):
            indices = range(block * BLOCK, (block + 1) * BLOCK)
            for sample in self._block(indices, condition, sets, targets, seed):
                if start <= sample.index < n:
                    yield sample

    def _block(
        self,
        indices: Sequence[int],
        condition: Condition,
        sets: dict[int, list[tuple[str, ...]]],
        targets: dict[str, float],
        seed: int,
    ) -> list[Sample]:
        seeds = [derive_seed(seed, index) for index in indices]
        species, allowed = [], []
        for one in seeds:
            rng = np.random.default_rng(derive_seed(one, "composition"))
            numbers, elements = self._choose(condition, sets, rng)
            species.append(numbers)
            allowed.append(elements)
        done: dict[int, tuple[Structure, list[str], int]] = {}
        waiting = list(range(len(seeds)))
        for attempt in range(self.tries):
            drawn = self._draw(
                [species[i] for i in waiting],
                [allowed[i] for i in waiting],
                [derive_seed(seeds[i], "noise", attempt) for i in waiting],
                targets,
            )
            for i, structure in zip(waiting, drawn, strict=True):
                done[i] = (structure, check_structure(structure, condition.max_atoms), attempt + 1)
            waiting = [i for i in waiting if done[i][1]]
            if not waiting:
                break
        return [
            Sample(index, done[i][0], seeds[i], self.name, self.version, self._info(*done[i], condition, targets))
            for i, index in enumerate(indices)
        ]

    def _choose(
        self, condition: Condition, sets: dict[int, list[tuple[str, ...]]], rng: np.random.Generator
    ) -> tuple[list[int], tuple[int, ...]]:
        """Choose a cell's species, MASKED where they diffuse, and the atomic numbers that they may become."""
        if self.composition == "neutral":
            symbols = self.model.compositions.draw(sets, condition, rng)
            numbers = [int(atomic_numbers[symbol]) for symbol in symbols]
            return numbers, tuple(sorted(set(numbers)))
        elements, count = self.model.compositions.draw_size(sets, condition, rng)
        return [MASKED] * count, tuple(int(atomic_numbers[symbol]) for symbol in elements)

    def _draw(
        self,
        species: Sequence[Sequence[int]],
        allowed: Sequence[tuple[int, ...]],
        seeds: Sequence[int],
        targets: dict[str, float],
    ) -> list[Structure]:
        model = self.model
        counts = [len(numbers) for numbers in species]
        graph = Graph.of(torch.tensor(counts))
        may = torch.zeros((len(counts), MAX_Z + 1), dtype=torch.bool)
        for row, numbers in enumerate(allowed):
            may[row, list(numbers)] = True
        wanted = torch.tensor([[targets.get(scale.name, torch.nan) for scale in model.scales]] * len(counts))
        drawn = draw(
            guided(model.network, wanted.reshape(len(counts), -1), self.guidance),
            graph,
            torch.tensor([z for numbers in species for z in numbers]),
            Noise.of(seeds, counts, self.steps),
            may[graph.crystal],
        )
        cells = lattices.cells(model.network.decode(drawn.lattice, graph.counts)).numpy()
        fracs = np.split(drawn.frac.double().numpy(), np.cumsum(counts)[:-1])
        numbers_of = np.split(drawn.species.numpy(), np.cumsum(counts)[:-1])
        return [primitive(cell, frac, z) for cell, frac, z in zip(cells, fracs, numbers_of, strict=True)]

    def _info(
        self, structure: Structure, problems: list[str], attempts: int, condition: Condition, targets: dict[str, float]
    ) -> dict[str, Any]:
        amounts = structure.composition.get_el_amt_dict()
        elements = tuple(sorted(amounts))
        counts = tuple(int(amounts[symbol]) for symbol in elements)
        info: dict[str, Any] = {
            "composition": self.composition,
            "attempts": attempts,
            "fits": condition.allows(elements),
            "neutral": is_neutral(elements, counts, condition.neutrality),
        }
        if targets:
            values = {scale.name: scale for scale in self.model.scales}
            info["guidance"] = self.guidance
            info["asked"] = {name: round(values[name].value(target), 6) for name, target in targets.items()}
        if problems:
            info["problems"] = problems
        return info

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that has learned from verdicts; see :mod:`generators.diffusion.updates`."""
        return self._with(updates.learn(self.model, labelled))

    def _with(self, model: Model) -> Self:
        new = type(self)(**self.options)
        new._model = model  # noqa: SLF001 (our own class)
        return new

    def save(self, directory: Path) -> None:
        """Write ``generator.json`` and ``weights.safetensors``."""
        self.model.save(directory, self.options)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        generators.checkpoint.CheckpointError
            If it is damaged, of another generator, or of another format.
        """
        model, options = Model.load(directory)
        with understood(directory):
            return cls(**options)._with(model)  # noqa: SLF001 (our own class)


def primitive(cell: NDArray[np.float64], frac: NDArray[np.float64], numbers: NDArray[np.int64]) -> Structure:
    """Make the primitive cell of what was drawn; atoms are ordered by atomic number."""
    found = found_or_none(spglib.find_primitive, (cell, frac, numbers), symprec=PRIMITIVE_ANGSTROM)
    if found is not None and len(found[2]) < len(numbers):
        cell, frac, numbers = found
    order = np.argsort(numbers, kind="stable")
    return Structure(Lattice(cell), [symbol_of(int(numbers[i])) for i in order], frac[order], to_unit_cell=True)
