"""The generator around a latent model: fitting, sampling under a condition, learning from verdicts, latent vectors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from generators.base import Condition, FitReport, Sample, derive_seed
from generators.checkpoint import none_ships
from generators.compositions import asked
from generators.data.dataset import Dataset
from generators.latent.decoding import choices_of
from generators.latent.drafts import Parts, begin, draw
from generators.latent.fitting import Trainable, fit_family
from generators.latent.memory import Memory
from generators.latent.points import crystal_at, nearest_skeleton
from generators.latent.space import Space
from generators.saved import Saved
from generators.symmetric.assignments import row_of
from generators.symmetric.conditions import compact, key_of
from generators.symmetric.wyckoff import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from torch import Tensor

    from generators.base import Labelled
    from generators.data.dataset import SplitBy
    from generators.latent.networks import Family
    from generators.learning import Epoch
    from generators.symmetric.skeletons import Skeleton

BLOCK = 32
"""Samples made together, fixed by index: a resumed stream makes the same blocks."""
PROPERTIES = ("formation_energy", "bulk_modulus")


class LatentGenerator(Trainable, Saved):
    """What VAE, flow and GAN share.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a trained model; none ships with this package, so one is needed.
    temperature : float
        Standard deviation of the latent vectors that samples are made of; 1 is what the model was trained for, less
        stays nearer to its middle.

    Raises
    ------
    ValueError
        If there is no checkpoint, it can't be used, or the temperature is out of range.
    """

    format: ClassVar[int] = 1
    default_temperature: ClassVar[float] = 1.0
    _memory: Memory

    def __init__(self, checkpoint: str | None = None, temperature: float | None = None) -> None:
        self._set_options(checkpoint, temperature)
        if checkpoint is None:
            raise none_ships(self.name)
        self._read_model(Path(checkpoint))
        self._memory, self.last_update = Memory(), None

    def _set_options(self, checkpoint: str | None, temperature: float | None) -> None:
        temperature = self.default_temperature if temperature is None else temperature
        if not 0 < temperature <= 3:
            raise ValueError(f"{self.name}: temperature {temperature} must lie between 0 (not included) and 3")
        self._options = {"checkpoint": checkpoint, "temperature": temperature}

    @classmethod
    def blank(cls, **options: Any) -> Self:
        """Make one without a trained model, to be fitted."""
        made = cls.__new__(cls)
        made._set_options(**{"checkpoint": None, "temperature": None, **options})  # noqa: SLF001 - our own class
        made._state, made._tensors, made._parts = {}, {}, None  # noqa: SLF001 - our own class
        made._memory, made.last_update = Memory(), None  # noqa: SLF001 - our own class
        return made

    # the model

    def _assemble(self) -> None:
        self._parts: Parts | None = self._parts_of(self._state, self._tensors)

    @classmethod
    def _parts_of(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Parts:
        """Put a model together; whatever does not fit raises."""
        space = Space.from_dict(state)
        own = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        network = cls.network_of(space, own["vectors"])
        network.load_state_dict(own)
        network.eval()
        network.requires_grad_(requires_grad=False)
        parts = Parts(space, network, tensors["library.latent"], tensors["library.skeleton"])
        # the network takes any number of elements, and the library any crystals: another model's would fit
        if len(network.vectors) != len(space.elements) or int(parts.skeleton.max()) >= len(space.skeletons):
            raise ValueError("elements or skeletons are another model's")
        return parts

    @property
    def _model(self) -> Parts:
        if self._parts is None:
            raise ValueError(f"{self.name}: it is not trained yet; call fit, or load a checkpoint")
        return self._parts

    @property
    def space(self) -> Space:
        """Elements, scales and skeletons it was trained with."""
        return self._model.space

    @property
    def network(self) -> Family:
        """The trained network."""
        return self._model.network

    @property
    def version(self) -> str:
        """Format, then the first digits of the weights' hash, then the number of updates learned from."""
        return f"{self.weights_id}+{self._memory.updates}"

    @property
    def conditions_on(self) -> frozenset[str]:
        """Properties that samples are conditioned on."""
        return frozenset() if self._parts is None else frozenset(self._parts.space.properties)

    @property
    def training(self) -> dict[str, Any]:
        """How the model was trained: data set, recipe, sizes, numbers on held-out crystals, loss curves, seconds."""
        return dict(self._state.get("training", {}))

    def fit(
        self,
        dataset: Iterable[Structure],
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        seed: int = 0,
        split_by: SplitBy = "prototype",
        properties: Sequence[str] | None = None,
        folder: Path | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> FitReport:
        """Train from nothing.

        Parameters
        ----------
        dataset : Dataset or iterable of pymatgen.core.Structure
            Its test part (see :meth:`generators.data.dataset.Dataset.split`) is not shown.
        epochs : int, optional
            As the other options, None takes the recipe's own.
        batch_size : int, optional
        learning_rate : float, optional
        seed : int
        split_by : {"prototype", "chemistry"}
        properties : sequence of str, optional
            To condition on; by default formation energy and bulk modulus where the data set has them.
        folder : pathlib.Path, optional
            Keeps the training's standing, which a later call goes on from.
        on_epoch : callable, optional

        Returns
        -------
        FitReport

        Raises
        ------
        ValueError
            If nothing is left to train on or to hold out, or a property is in no crystal.
        """
        data = Dataset.of(dataset)
        begin = time.perf_counter()
        if properties is None:
            present = {name for entry in data.entries for name in entry.properties}
            properties = [name for name in PROPERTIES if name in present]
        recipe = self.usual_recipe().changed(epochs, batch_size, learning_rate, seed)
        state, tensors = fit_family(
            type(self), data, properties, split_by=split_by, recipe=recipe, folder=folder, on_epoch=on_epoch
        )
        self._take(state, tensors)
        self._memory, self.last_update = Memory(), None
        return FitReport(self.name, len(data), time.perf_counter() - begin, dict(state["training"]["errors"]))

    # sampling

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        No row comes twice in a block of samples, and none that was tried before, as long as there are others.

        Raises
        ------
        ValueError
            At once, if an element was in no training crystal, or nothing meets the condition.

        Warns
        -----
        UserWarning
            If a property target was not learned, or it or the size lies beyond what the training crystals have.
        """
        self._model.space.abilities.heed(self.name, condition)
        key = key_of(condition)
        space = self._model.space
        fitting = [s for s, weight in sorted(space.skeletons.items()) if weight > 0 and s.atoms <= condition.max_atoms]
        likely = sorted(fitting, key=lambda s: -space.skeletons[s])
        if not any(choices_of(s, key, space.elements).rows for s in likely):
            raise ValueError(f"{self.name}: no training skeleton takes a crystal of {asked(condition)}")
        return self._stream(fitting, key, condition, n, seed, start)

    def _refuse(self, elements: Iterable[str]) -> None:
        self._model.space.abilities.refuse_missing(self.name, elements)

    def _stream(
        self, skeletons: list[Skeleton], key: str, condition: Condition, n: int, seed: int, start: int
    ) -> Iterator[Sample]:
        told = compact(condition)
        for block in range(start // BLOCK, -(-n // BLOCK)):
            # always a whole block: what a sample is must not depend on how many were asked for
            indices = range(block * BLOCK, (block + 1) * BLOCK)
            seeds = [derive_seed(seed, index) for index in indices]
            drafts = [begin(self._model, self._memory, skeletons, condition, s) for s in seeds]
            draw(self._model, self._memory, drafts, key, self._options["temperature"])
            for index, own, draft in zip(indices, seeds, drafts, strict=True):
                if not start <= index < n:
                    continue
                row, structure = draft.outcome(own)
                info = {
                    "row": row.key,
                    "spacegroup": row.skeleton.number,
                    "wyckoff_letters": list(row.skeleton.letters),
                    "wyckoff_elements": list(row.elements),
                    "known_row": row.key in self._model.space.known_rows,
                    "tries": draft.tries,
                    "wanted": {name: round(value, 5) for name, value in sorted(draft.wanted.items())},
                    "condition": told,
                }
                yield Sample(index, structure, own, self.name, self.version, info)

    # latent vectors

    def latent(self, structures: Sequence[Structure]) -> NDArray[np.float64]:
        """Find the latent vectors of crystals, shape (n, d).

        Raises
        ------
        ValueError
            If one has no symmetry that can be described, too many atoms, or an element that was in no training crystal.
        """
        descriptions = [describe(structure) for structure in structures]
        self._refuse({o.element for d in descriptions for o in d.orbits})
        space = self._model.space
        with torch.no_grad():
            z = self._model.network.encode(
                space.content(descriptions), space.frame([row_of(d).skeleton for d in descriptions])
            )
        found: NDArray[np.float64] = z.double().numpy()
        return found

    def decode_latent(
        self,
        vectors: NDArray[np.float64],
        condition: Condition,
        seed: int,
        skeletons: Sequence[Skeleton] | None = None,
    ) -> list[Structure]:
        """Make crystals of given latent vectors.

        Parameters
        ----------
        vectors : ndarray, shape (n, d)
        condition : Condition
            Elements, size and neutrality are kept exactly; property targets are not looked at.
        seed : int
            Of the small moves that a vector without a valid crystal is tried again with.
        skeletons : sequence of Skeleton, optional
            One for each vector; by default that of the nearest training crystal which can meet the condition.

        Returns
        -------
        list of pymatgen.core.Structure

        Raises
        ------
        ValueError
            If no training skeleton, or not the given one, can meet the condition.
        """
        self._refuse({e for system in condition.chemical_systems for e in system})
        key = key_of(condition)
        found = []
        for k, vector in enumerate(np.atleast_2d(vectors)):
            skeleton = nearest_skeleton(self.name, self._model, vector, key) if skeletons is None else skeletons[k]
            if not choices_of(skeleton, key, self._model.space.elements).rows:
                raise ValueError(f"{self.name}: skeleton {skeleton.key} takes no crystal that meets the condition")
            found.append(crystal_at(self._model, vector, skeleton, key, derive_seed(seed, k)))
        return found

    # learning, storage

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that knows these verdicts; what was done is in ``last_update``.

        See :mod:`generators.latent.memory`. Crystals of other generators teach, too.
        """
        new = type(self).blank(**self._options)
        new._state, new._tensors, new._parts = self._state, self._tensors, self._parts  # noqa: SLF001 - our own class
        new._memory, new.last_update = self._memory.learn(labelled)  # noqa: SLF001 - our own class
        return new
