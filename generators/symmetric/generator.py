"""The generator: skeleton and elements first, exact in system and neutrality, then geometry; it learns of verdicts."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from generators.base import FitReport, Sample, derive_seed
from generators.data.dataset import Dataset
from generators.saved import Saved
from generators.symmetric.arena import Arena, make_arena
from generators.symmetric.choice import Outlook, Wishes, outlook_of, probabilities, weights
from generators.symmetric.conditions import compact, expand, from_key, key_of
from generators.symmetric.fitting import Recipes, fit_model
from generators.symmetric.forecast import ForecastNetwork
from generators.symmetric.geometry import GeometryNetwork
from generators.symmetric.guard import Update, settle
from generators.symmetric.memory import Lesson, Memory, lesson_of
from generators.symmetric.model import ENERGY, Model
from generators.symmetric.order import Turns, order_of
from generators.symmetric.realise import realise
from generators.symmetric.skeletons import LetterNetwork
from generators.symmetric.storage import from_parts, to_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pymatgen.core import Structure

    from generators.base import Condition, Labelled
    from generators.data.dataset import SplitBy
    from generators.learning import Epoch

BLOCK = 32
"""Samples made together, fixed by index: a resumed stream makes the same blocks."""
TARGETINGS = ("conditioning", "best_of_k", "off")
PROPERTIES = (ENERGY, "bulk_modulus")


class Symmetric(Saved):
    """Trained generator that is symmetric by design.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a trained model; None takes the one that ships.
    unseen : float
        Share of the proposals from skeletons that no training crystal has, 0 to 1.
    sharpness : float
        Power of the forecast probability of a hit in the choice of rows; 0 ignores it.
    targeting : {"conditioning", "best_of_k", "off"}
        How property targets are met: by the choice of rows; by the best of ``k`` rows drawn without them; not at all.
    k : int
        Rows drawn for ``best_of_k``.

    Raises
    ------
    ValueError
        If an option is out of range, or the checkpoint can't be used.
    """

    name: ClassVar[str] = "symmetric"
    format: ClassVar[int] = 2
    _memory: Memory

    def __init__(
        self,
        checkpoint: str | None = None,
        unseen: float = 0.1,
        sharpness: float = 6.0,
        targeting: str = "conditioning",
        k: int = 8,
    ) -> None:
        self._set_options(checkpoint, unseen, sharpness, targeting, k)
        self._read_model(Path(checkpoint) if checkpoint is not None else shipped_checkpoint())
        self._memory, self.last_update = Memory(), None

    def _set_options(self, checkpoint: str | None, unseen: float, sharpness: float, targeting: str, k: int) -> None:
        if not 0 <= unseen <= 1:
            raise ValueError(f"symmetric: unseen {unseen} must lie between 0 and 1")
        if not 0 <= sharpness <= 20:
            raise ValueError(f"symmetric: sharpness {sharpness} must lie between 0 and 20")
        if targeting not in TARGETINGS:
            raise ValueError(f"symmetric: targeting {targeting!r} must be one of {', '.join(TARGETINGS)}")
        if not 1 <= k <= 1000:
            raise ValueError(f"symmetric: k {k} must lie between 1 and 1000")
        self._options = {
            "checkpoint": checkpoint, "unseen": unseen, "sharpness": sharpness, "targeting": targeting, "k": k
        }  # fmt: skip

    def _assemble(self) -> None:
        self._model: Model | None = from_parts(self._state, self._tensors, str(self._state["weights_sha256"]))

    @classmethod
    def blank(cls, **options: Any) -> Self:
        """Make one without a trained model, to be fitted."""
        made = cls.__new__(cls)
        defaults = {"checkpoint": None, "unseen": 0.1, "sharpness": 6.0, "targeting": "conditioning", "k": 8}
        made._set_options(**{**defaults, **options})  # noqa: SLF001 - our own class
        made._state, made._tensors, made._model = {}, {}, None  # noqa: SLF001
        made._memory, made.last_update = Memory(), None  # noqa: SLF001
        return made

    @classmethod
    def untrained(cls, seed: int = 0, **options: Any) -> Self:
        """Make a control: the tables of the shipped model, its networks as they were before any training.

        Skeletons are equally likely, forecasts say the same of nearly everything, geometries are drawn from the initial
        densities.
        """
        trained = cls(**options)
        torch.manual_seed(seed)
        skeletons = trained.model.log_skeletons
        model = replace(
            trained.model,
            letters=LetterNetwork(),
            geometry=GeometryNetwork().eval(),
            networks=tuple(ForecastNetwork(len(trained.model.properties)).eval() for _ in trained.model.networks),
            log_skeletons=dict.fromkeys(skeletons, -float(np.log(len(skeletons)))),
            fingerprint="",
        )
        made = cls.blank(**options)
        state, tensors = to_parts(model)
        made._take({**state, "training": {"dataset": "none", "seconds": 0.0}}, tensors)  # noqa: SLF001 - our own class
        return made

    @property
    def version(self) -> str:
        """Format, then the first digits of the weights' hash, then the number of updates learned from."""
        return f"{self.weights_id}+{len(self._memory.steps)}"

    @property
    def conditions_on(self) -> frozenset[str]:
        """Properties that the choice of rows is conditioned on."""
        if self._model is None or self._options["targeting"] == "off":
            return frozenset()
        return frozenset(self._model.properties)

    @property
    def training(self) -> dict[str, Any]:
        """How the model was trained: data set, recipes, sizes, errors on held-out prototypes, loss curves, seconds."""
        return dict(self._state.get("training", {}))

    @property
    def model(self) -> Model:
        """The trained model.

        Raises
        ------
        ValueError
            If it was not trained yet.
        """
        if self._model is None:
            raise ValueError("symmetric: it is not trained yet; call fit, or load a checkpoint")
        return self._model

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
        """Train letters, geometry and forecast networks from nothing.

        Parameters
        ----------
        dataset : Dataset or iterable of pymatgen.core.Structure
            Its test part (see :meth:`generators.data.dataset.Dataset.split`) is shown to no network.
        epochs : int, optional
            Of geometry and forecasts, at most; as the other options, None takes the recipes' own.
        batch_size : int, optional
        learning_rate : float, optional
        seed : int
        split_by : {"prototype", "chemistry"}
        properties : sequence of str, optional
            To forecast; by default formation energy and bulk modulus where the data set has them.
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

        Warns
        -----
        UserWarning
            If the formation energy is not among the properties.
        """
        data = Dataset.of(dataset)
        begin = time.perf_counter()
        if properties is None:
            present = {name for entry in data.entries for name in entry.properties}
            properties = [name for name in PROPERTIES if name in present]
        if ENERGY not in properties:
            warnings.warn(
                f"{self.name}: without {ENERGY} it learns shapes and which elements go where, not what is stable "
                "(nucleate data add --relax labels crystals)",
                stacklevel=2,
            )
        recipes = Recipes.usual().with_options(epochs, batch_size, learning_rate, seed)
        trained = fit_model(
            data, properties=properties, split_by=split_by, recipes=recipes, seed=seed, folder=folder, on_epoch=on_epoch
        )
        seconds = time.perf_counter() - begin
        training = {
            "dataset": data.name,
            "crystals": len(data),
            "split_by": split_by,
            "seed": seed,
            "sizes": trained.sizes,
            "errors": trained.errors,
            "recipes": asdict(recipes),
            "curves": {name: curves.as_dict() for name, curves in trained.curves.items()},
            "seconds": round(sum(c.seconds for c in trained.curves.values()), 1),
        }
        state, tensors = to_parts(trained.model)
        self._take({**state, "training": training}, tensors)
        self._memory, self.last_update = Memory(), None
        metrics = {name: min(e.validation for e in c.epochs) for name, c in trained.curves.items() if c.epochs}
        return FitReport(self.name, len(data), seconds, {**metrics, **trained.errors})

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        No row comes twice in a stream as long as there are others.

        Raises
        ------
        ValueError
            At once, if an element was in no training crystal, or nothing meets the condition.

        Warns
        -----
        UserWarning
            If a property target was not learned, or it or the size lies beyond what the training crystals have.
        """
        self.model.abilities.heed(self.name, condition)
        arena = _arena(self.model, condition)
        log_weights = weights(self.model, arena, self._memory, condition, self._wishes())
        outlook = outlook_of(self.model, arena, self._memory.believed)
        order = order_of(arena, log_weights, outlook, condition, self._turns(), n, seed)
        return self._stream(arena, log_weights, outlook, order, condition, n, seed, start)

    def _stream(
        self,
        arena: Arena,
        log_weights: np.ndarray,
        outlook: Outlook,
        order: list[int],
        condition: Condition,
        n: int,
        seed: int,
        start: int,
    ) -> Iterator[Sample]:
        shares = probabilities(log_weights)
        for block in range(start // BLOCK, -(-n // BLOCK)):
            indices = range(block * BLOCK, min(n, (block + 1) * BLOCK))
            rows = [arena.rows[order[i]] for i in indices]
            structures = realise(self.model, rows, [derive_seed(seed, i) for i in indices])
            for index, row, structure in zip(indices, rows, structures, strict=True):
                if index < start:
                    continue
                k = order[index]
                info = {
                    "row": row.key,
                    "spacegroup": row.skeleton.number,
                    "wyckoff_letters": list(row.skeleton.letters),
                    "wyckoff_elements": list(row.elements),
                    "unseen_skeleton": bool(arena.unseen[k]),
                    "probability": float(f"{shares[k]:.4g}"),
                    "forecast": {
                        "above_hull_ev_per_atom": _rounded(outlook.above_hull[k]),
                        "above_hull_std_ev_per_atom": _rounded(outlook.above_hull_std[k]),
                    },
                    "condition": compact(condition),
                }
                yield Sample(index, structure, derive_seed(seed, index), self.name, self.version, info)

    def _turns(self) -> Turns:
        return Turns(self._options["unseen"], self._options["k"] if self._options["targeting"] == "best_of_k" else 1)

    def _wishes(self) -> Wishes:
        return Wishes(self._options["sharpness"], self._options["targeting"])

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that has learned from verdicts, within limits; what was done is in ``last_update``.

        See :mod:`generators.symmetric.choice` for how lessons correct forecasts and :mod:`generators.symmetric.guard`
        for the limits. Crystals of other generators teach, too.
        """
        seen = sorted(labelled, key=lambda label: label.candidate)
        lessons = [lesson for label in seen if (lesson := lesson_of(label)) is not None]
        new = self._copy()
        grown = self._memory.learn(lessons)
        condition = next((expand(x.info["condition"]) for x in seen if "condition" in x.info), None)
        good = sum(bool(x.stable and x.novel) for x in seen)
        bad = sum(x.stable is False or (x.cause is not None and 300 <= x.cause < 700) for x in seen)
        what: dict[str, Any]
        if condition is None or self._model is None:
            what = {"taken": False, "why": "nothing of its own was among the verdicts", "trust": 0.0,
                    "divergence_nats": 0.0, "before": {}, "after": {}}  # fmt: skip
            new._memory = replace(grown, steps=(*grown.steps, 0.0))  # noqa: SLF001 - our own class
        else:
            arena = _arena(self._model, condition)
            new._memory, what = settle(self._model, arena, self._memory, grown, condition, self._wishes())  # noqa: SLF001
        new.last_update = Update(lessons=len(lessons), good=good, bad=bad, **what).as_dict()
        return new

    def _copy(self) -> Self:
        new = type(self).blank(**self._options)
        new._state, new._tensors, new._model = self._state, self._tensors, self._model  # noqa: SLF001 - our own class
        return new

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """What it has learned from so far."""
        return self._memory.lessons


def shipped_checkpoint() -> Path:
    """Folder of the model that ships with this package."""
    return Path(str(files("generators.symmetric").joinpath("checkpoint")))


@lru_cache(maxsize=4)
def _arena_of(model: Model, key: str) -> Arena:
    return make_arena(model, from_key(key))


def _arena(model: Model, condition: Condition) -> Arena:
    """Make the arena of a condition, or take it from this process's last ones."""
    return _arena_of(model, key_of(condition))


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
