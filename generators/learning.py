"""One training loop for every model: progress, loss curves, resuming, early stop, and the bad days.

A loss that is not a number ends the training with the best weights so far; a batch that does not fit into memory is
halved and the training goes on; a run that was killed goes on from its last whole epoch.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    Loss = Callable[[np.ndarray[Any, np.dtype[np.int64]], np.random.Generator], Tensor]

Ending = Literal["finished", "early", "diverged", "interrupted"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Parameters
    ----------
    epochs : int
        At most.
    batch_size : int
        Halved as often as memory asks.
    learning_rate : float
        Peak; a cosine brings it down to a fiftieth over all epochs, after WARM_UP steps.
    weight_decay : float
    patience : int
        Epochs without a lower validation loss after which it stops.
    clip : float
        Largest norm of the gradient.
    seed : int
    """

    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    patience: int = 30
    clip: float = 1.0
    seed: int = 0

    def changed(self, epochs: int | None, batch_size: int | None, learning_rate: float | None, seed: int) -> Recipe:
        """Change what is given; None leaves it as it is."""
        return replace(
            self,
            epochs=self.epochs if epochs is None else epochs,
            batch_size=batch_size or self.batch_size,
            learning_rate=learning_rate or self.learning_rate,
            seed=seed,
        )


class Epoch(NamedTuple):
    """Losses of one epoch."""

    number: int
    training: float
    validation: float
    seconds: float
    batch_size: int


@dataclass(frozen=True)
class Curves:
    """What a training did.

    Parameters
    ----------
    epochs : tuple of Epoch
    best : int
        Number of the epoch whose weights the module has now (counted from 1; 0: none was good).
    ending : {"finished", "early", "diverged", "interrupted"}
    seconds : float
        Over all runs, if it was resumed.
    """

    epochs: tuple[Epoch, ...] = ()
    best: int = 0
    ending: Ending = "finished"
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {
            "epochs": [list(e) for e in self.epochs],
            "best": self.best,
            "ending": self.ending,
            "seconds": round(self.seconds, 1),
        }


WARM_UP = 50
FLOOR = 0.02
MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass
class _Standing:
    """What a training run carries from epoch to epoch."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_loss: float = math.inf
    batch_size: int = 0
    seconds: float = 0.0
    steps: int = 0


def train(
    module: nn.Module,
    loss: Loss,
    validate: Callable[[], float],
    n: int,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Curves:
    """Train a module in place; it ends with the weights of the lowest validation loss.

    Parameters
    ----------
    module : torch.nn.Module
    loss : callable
        ``loss(indices, rng)``: scalar tensor, the mean over a batch of training rows.
    validate : callable
        The held-out loss, the same number for the same weights.
    n : int
        Training rows.
    recipe : Recipe
    folder : pathlib.Path, optional
        Keeps ``training.json`` and ``training.safetensors`` after every epoch; a run that finds them goes on from them.
    on_epoch : callable, optional

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        If there are no rows, the folder holds another training, or the loss was no number before any epoch was good.
    """
    if n < 1:
        raise ValueError("there is nothing to train on: the training part is empty")
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    standing = _Standing(batch_size=recipe.batch_size)
    best = _weights(module)
    if folder is not None and (resumed := _resume(folder, module, optimizer, recipe, n)) is not None:
        standing, best = resumed
    total = recipe.epochs * math.ceil(n / recipe.batch_size)
    ending: Ending = "finished"
    for number in range(len(standing.epochs) + 1, recipe.epochs + 1):
        if number - standing.best > recipe.patience and standing.epochs:
            ending = "early"
            break
        begin = time.perf_counter()
        rng = np.random.default_rng([recipe.seed, number])
        torch.manual_seed(recipe.seed * 100_003 + number)
        module.train()
        training = _epoch(module, loss, optimizer, rng, n, recipe, standing, total)
        module.eval()
        with torch.no_grad():
            held_out = validate() if math.isfinite(training) else math.nan
        seconds = time.perf_counter() - begin
        standing.seconds += seconds
        if not math.isfinite(held_out):
            if not standing.best:
                raise ValueError(
                    f"the loss was no number in epoch {number}, before any epoch was good: nothing was learned; "
                    f"try a lower learning rate than {recipe.learning_rate:g}, or look for absurd values in the data"
                )
            ending = "diverged"
            break
        epoch = Epoch(number, round(training, 6), round(held_out, 6), round(seconds, 2), standing.batch_size)
        standing.epochs.append(epoch)
        if held_out < standing.best_loss:
            standing.best, standing.best_loss, best = number, held_out, _weights(module)
        if folder is not None:
            _keep(folder, module, optimizer, recipe, n, standing, best)
        if on_epoch is not None:
            on_epoch(epoch)
    module.load_state_dict(best)
    module.eval()
    return Curves(tuple(standing.epochs), standing.best, ending, standing.seconds)


def _epoch(
    module: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    n: int,
    recipe: Recipe,
    standing: _Standing,
    total: int,
) -> float:
    """One pass over the rows; gives the mean loss, NaN as soon as a step is not finite."""
    order = rng.permutation(n)
    losses, place = [], 0
    while place < n:
        rows = order[place : place + standing.batch_size]
        try:
            optimizer.zero_grad()
            value = loss(rows, rng)
            value.backward()
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error) or standing.batch_size == 1:
                raise
            standing.batch_size = max(1, standing.batch_size // 2)
            continue
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
        if not (torch.isfinite(value) and torch.isfinite(norm)):
            return math.nan
        standing.steps += 1
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(standing.steps, total)
        optimizer.step()
        losses.append((float(value.detach()), len(rows)))
        place += len(rows)
    return sum(value * size for value, size in losses) / n


def _schedule(step: int, total: int) -> float:
    warm = min(1.0, step / WARM_UP)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))
    return warm * (FLOOR + (1 - FLOOR) * cosine)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        sign in str(error).lower() for sign in MEMORY_SIGNS
    )


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({key: value.detach() for key, value in module.state_dict().items()})


def _mark(module: nn.Module, recipe: Recipe, n: int) -> str:
    """Name a training by its recipe, rows and shapes: another one must not be resumed by mistake."""
    shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
    text = json.dumps([asdict(recipe), n, shapes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    n: int,
    standing: _Standing,
    best: dict[str, Tensor],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"now.{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
    tensors |= {f"best.{k}": v.contiguous() for k, v in best.items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": torch.as_tensor(v).detach().contiguous().clone() for k, v in moments.items()}
    data = safetensors.torch.save(tensors)
    document = {
        "mark": _mark(module, recipe, n),
        "epochs": [list(e) for e in standing.epochs],
        "best": standing.best,
        "best_loss": standing.best_loss,
        "batch_size": standing.batch_size,
        "seconds": standing.seconds,
        "steps": standing.steps,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    # The tensors have a name of their own epoch until the JSON names them: a kill leaves the pair before.
    target = folder / f"training-{standing.epochs[-1].number}.safetensors"
    target.write_bytes(data)
    part = folder / "training.json.part"
    part.write_text(json.dumps({**document, "tensors": target.name}))
    part.replace(folder / "training.json")
    for other in folder.glob("training-*.safetensors"):
        if other.name != target.name:
            other.unlink()


def _resume(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, n: int
) -> tuple[_Standing, dict[str, Tensor]] | None:
    path = folder / "training.json"
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        mark, weights, sha256 = stored["mark"], folder / stored["tensors"], stored["sha256"]
        data = weights.read_bytes()
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{path} is damaged; remove {folder} to start over") from error
    if mark != _mark(module, recipe, n):
        raise ValueError(
            f"{folder} holds another training (recipe, data or model differ); start over, or choose another folder"
        )
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{weights} is damaged; remove {folder} to start over")
    tensors = safetensors.torch.load(data)
    module.load_state_dict({k.removeprefix("now."): v for k, v in tensors.items() if k.startswith("now.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".", 2)
            state.setdefault(int(i), {})[name] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    standing = _Standing(
        epochs=[Epoch(*e) for e in stored["epochs"]],
        best=stored["best"],
        best_loss=stored["best_loss"],
        batch_size=stored["batch_size"],
        seconds=stored["seconds"],
        steps=stored["steps"],
    )
    return standing, {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
