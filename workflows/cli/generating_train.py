"""``generator train``: a training that prints its losses, draws them, and goes on where it was killed."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from generators.data.dataset import PROPERTY_UNITS
from workflows.cli import output
from workflows.cli.errors import RefusedError
from workflows.cli.generating_parts import dataset_of, split_by_of, trainable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from generators.base import FitReport

BARS = "▁▂▃▄▅▆▇█"
LINE_EVERY_S = 15.0
WORDS = {
    "finished": "all epochs done",
    "early": "stopped early: the held-out loss fell no more",
    "diverged": "the loss was no number any more; the best weights before that are kept",
    "interrupted": "interrupted; the best weights so far are kept",
}


@dataclass(frozen=True)
class Wanted:
    """What a training was asked for.

    Parameters
    ----------
    name, data : str
    folder : pathlib.Path
    options : mapping
        For ``fit``; ``None`` leaves the model's own default.
    resume : bool
    """

    name: str
    data: str
    folder: Path
    options: Mapping[str, Any]
    resume: bool


def run_training(wanted: Wanted) -> None:
    """Train, print the losses, save the state and the picture of the losses.

    Raises
    ------
    RefusedError
        If the generator is a baseline, the data can't be read, or an option does not fit.
    """
    found = trainable(wanted.name)
    split_by_of(wanted.options["split_by"])
    unknown = sorted(set(wanted.options["properties"] or ()) - set(PROPERTY_UNITS))
    if unknown:
        raise RefusedError(f"--property: {', '.join(unknown)} is unknown; known are {', '.join(PROPERTY_UNITS)}")
    dataset = dataset_of(wanted.data)
    place = wanted.folder / "training"
    if not wanted.resume and place.exists():
        forget(place)
    if wanted.resume and (place / "training.json").exists():
        output.say(f"going on with the training in {place}; --fresh starts over")
    output.say(f"{wanted.name}: {len(dataset)} crystals of data set {dataset.name}")
    model = found.blank()
    losses = Losses()
    options = {key: value for key, value in wanted.options.items() if value is not None}
    try:
        report = model.fit(dataset, **options, folder=place, on_epoch=losses)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    model.save(wanted.folder)
    _tell_end(wanted, model, report, losses)


def forget(place: Path) -> None:
    """Remove what a training kept in its folder; a folder that holds anything else is refused.

    Raises
    ------
    RefusedError
        If the folder holds something that is not a training's.
    """
    foreign = [p.name for p in place.iterdir() if not p.name.startswith("training")]
    if foreign:
        raise RefusedError(f"{place} holds something that is not a training's ({foreign[0]}); name another directory")
    shutil.rmtree(place)


class Losses:
    """Takes each epoch as it ends; prints it, on a terminal always and elsewhere now and then."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, float, float]] = []
        self._said = 0.0
        self._best = float("inf")

    def __call__(self, epoch: Any) -> None:
        """Note an epoch."""
        self.epochs.append((int(epoch.number), float(epoch.training), float(epoch.validation)))
        better = float(epoch.validation) < self._best
        self._best = min(self._best, float(epoch.validation))
        now = time.monotonic()
        if sys.stdout.isatty() or len(self.epochs) == 1 or now - self._said > LINE_EVERY_S:
            self._said = now
            mark = "  lowest so far" if better else ""
            output.say(
                f"epoch {epoch.number:>4}  training {epoch.training:.4f}  held out {epoch.validation:.4f}  "
                f"{epoch.seconds:.1f} s{mark}"
            )


def chart(values: Sequence[float], width: int = 60) -> str:
    """Draw numbers as one line of blocks, the highest full; more numbers than ``width`` are averaged.

    Examples
    --------
    >>> chart([4.0, 3.0, 2.0, 1.0])
    '█▆▃▁'
    """
    if not values:
        return ""
    n = min(width, len(values))
    edges = [round(i * len(values) / n) for i in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(BARS[round((len(BARS) - 1) * (value - low) / span)] for value in means)


def draw_losses(epochs: Sequence[tuple[int, float, float]], best: int, title: str, path: Path) -> None:
    """Draw training and held-out loss over epochs.

    Parameters
    ----------
    epochs : sequence of (int, float, float)
        Number, training loss, held-out loss.
    best : int
        Number of the epoch whose weights are kept; 0 marks none.
    title : str
    path : pathlib.Path
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers = [number for number, _, _ in epochs]
    marker = "o" if len(epochs) < 3 else None
    axes.plot(numbers, [loss for _, loss, _ in epochs], color="#5d6872", label="training", marker=marker)
    axes.plot(numbers, [loss for _, _, loss in epochs], color="#1d5c86", label="held out", marker=marker)
    if best:
        axes.axvline(best, color="#0a7f5b", linestyle="--", linewidth=1, label=f"kept: epoch {best}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(color="#e9ebe9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def _tell_end(wanted: Wanted, model: Any, report: FitReport, losses: Losses) -> None:
    """Say how it ended, by the model's own account, which knows the epochs before a resume, else by what was seen."""
    training = getattr(model, "training", None)
    account: Mapping[str, Any] = training if isinstance(training, dict) else {}
    epochs = [(int(e[0]), float(e[1]), float(e[2])) for e in account.get("epochs", [])] or losses.epochs
    held_out = [loss for _, _, loss in epochs]
    best = int(account.get("best") or (epochs[held_out.index(min(held_out))][0] if epochs else 0))
    if epochs:
        draw_losses(epochs, best, f"{wanted.name}: losses", wanted.folder / "losses.png")
        output.say(f"held-out loss  {chart(held_out)}  {held_out[0]:.4f} to {min(held_out):.4f}")
    seconds = float(account.get("seconds") or report.seconds)
    ending = WORDS.get(str(account.get("ending", "")), "done")
    kept = f", epoch {best} kept" if best else ""
    output.say(
        f"trained {wanted.name} for {len(epochs)} epochs in {seconds / 60:.1f} minutes ({ending}{kept}); "
        f"saved in {wanted.folder}"
    )
    output.say(f"next: nucleate generator compare {wanted.folder} --elements Mg,Al,O --output comparison")
