"""``generator train``: a training that prints its losses, draws them, and goes on where it was killed."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pymatgen.core import Element

from generators.data.dataset import PROPERTY_UNITS
from generators.evaluation.metrics import training_minutes
from generators.registry import abilities_of
from workflows.cli import output
from workflows.cli.errors import RefusedError
from workflows.cli.generating_parts import dataset_of, refuse_file, split_by_of, trainable
from workflows.cli.generating_samples import noting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from generators.base import FitReport

ASKED, LOCK = "training-asked.json", "training.lock"
EXAMPLE = ("Mg", "Al", "O")
BARS = "▁▂▃▄▅▆▇█"
LINE_EVERY_S = 15.0
WORDS = {
    "finished": "all epochs done",
    "early": "stopped early: the held-out loss fell no more",
    "diverged": "the loss was no number any more; the best weights before that are kept",
    "interrupted": "interrupted; the best weights so far are kept",
}


Point = tuple[int, float, float]
"""Number of the epoch, training loss, held-out loss."""


class Part(NamedTuple):
    """The curve of one network: name, epochs, the epoch whose weights are kept (0: none), how it ended."""

    name: str
    points: list[Point]
    best: int
    ending: str


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
    refuse_file(wanted.folder)
    dataset = dataset_of(wanted.data)
    place = wanted.folder / "training"
    options = {key: value for key, value in wanted.options.items() if value is not None}
    with _alone(place), output.resumable():
        if not wanted.resume:
            forget(place)
        if _goes_on(place, {"generator": wanted.name, "data": wanted.data, **options}):
            output.say(f"going on with the training in {place}; --fresh starts over")
        output.say(f"{wanted.name}: {len(dataset)} crystals of data set {dataset.name}; describing them first")
        model = found.blank()
        losses = Losses()
        try:
            with noting(model):
                report = model.fit(dataset, **options, folder=place, on_epoch=losses)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        model.save(wanted.folder)
    _tell_end(wanted, model, report, losses)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep a training's folder to one process; a folder that was not there and got nothing is taken away again."""
    made = [folder for folder in (place, place.parent) if not folder.exists()]
    place.mkdir(parents=True, exist_ok=True)
    lock = place / LOCK
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(
                f"another training is running in {place}; wait for it, or name another directory"
            ) from error
        try:
            yield
        except BaseException:
            lock.unlink(missing_ok=True)
            for folder in made:
                if not any(p for p in folder.rglob("*") if p.name != ASKED and p != place):
                    shutil.rmtree(folder, ignore_errors=True)
            raise
        lock.unlink(missing_ok=True)


def _goes_on(place: Path, asked: dict[str, Any]) -> bool:
    """Look whether a training goes on, and note what it was asked for.

    Raises
    ------
    RefusedError
        If it was asked for something else.
    """
    asked = json.loads(json.dumps(asked))  # as it is read back
    note, begun = place / ASKED, any(place.rglob("training.json"))
    if begun and note.exists():
        before = json.loads(note.read_text(encoding="utf-8"))
        differing = sorted(key for key in before.keys() | asked.keys() if before.get(key) != asked.get(key))
        if differing:
            told = ", ".join(f"{key} was {_word(before.get(key))}, now {_word(asked.get(key))}" for key in differing)
            raise RefusedError(
                f"{place} holds another training ({told}); --fresh starts over, or name another directory"
            )
    note.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    return begun


def _word(value: Any) -> str:
    return "the model's own" if value is None else str(value)


def forget(place: Path) -> None:
    """Remove what a training kept in its folder but its lock; a folder that holds anything else is refused.

    Raises
    ------
    RefusedError
        If the folder holds something that is not a training's.
    """
    foreign = sorted(p.name for p in place.rglob("*") if p.is_file() and not p.name.startswith("training"))
    if foreign:
        raise RefusedError(f"{place} holds something that is not a training's ({foreign[0]}); name another directory")
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


class Losses:
    """Takes each epoch as it ends; prints it, on a terminal always and elsewhere now and then.

    A model of several networks trains them one after another; each counts its epochs from where it begins.
    """

    def __init__(self) -> None:
        self.parts: list[list[Point]] = []
        self._said = 0.0
        self._best = float("inf")

    def __call__(self, epoch: Any) -> None:
        """Note an epoch."""
        point = (int(epoch.number), float(epoch.training), float(epoch.validation))
        if not self.parts or point[0] <= self.parts[-1][-1][0]:
            self.parts.append([])
            self._said, self._best = 0.0, float("inf")
        self.parts[-1].append(point)
        mark = "  lowest so far" if point[2] < self._best else ""
        self._best = min(self._best, point[2])
        now = time.monotonic()
        if sys.stdout.isatty() or len(self.parts[-1]) == 1 or now - self._said > LINE_EVERY_S:
            self._said = now
            which = f"network {len(self.parts)}  " if len(self.parts) > 1 else ""
            output.say(
                f"{which}epoch {point[0]:>4}  training {point[1]:.4f}  held out {point[2]:.4f}  "
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


def draw_losses(parts: Sequence[Part], title: str, path: Path) -> None:
    """Draw training and held-out loss over epochs, a panel for each network.

    Parameters
    ----------
    parts : sequence of Part
    title : str
    path : pathlib.Path
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(parts))
    lines = -(-len(parts) // columns)
    size = (7, 4) if len(parts) == 1 else (4 * columns, 3 * lines + 0.4)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for number, part in enumerate(parts, start=1):
        axes = figure.add_subplot(lines, columns, number)
        numbers = [point[0] for point in part.points]
        marker = "o" if len(numbers) < 3 else None
        axes.plot(numbers, [point[1] for point in part.points], color="#5d6872", label="training", marker=marker)
        axes.plot(numbers, [point[2] for point in part.points], color="#1d5c86", label="held out", marker=marker)
        if part.best:
            axes.axvline(part.best, color="#0a7f5b", linestyle="--", linewidth=1, label=f"kept: epoch {part.best}")
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.set_title(part.name)
        axes.grid(color="#e9ebe9")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path)


def parts_of(training: Any, losses: Losses) -> list[Part]:
    """Give each network's curve by the model's own account, which knows the epochs before a resume, else as seen.

    Parameters
    ----------
    training : any
        The model's ``training``: a curve (``Curves.as_dict``), or ``curves`` that are one or hold one a network.
    losses : Losses
    """
    account: Mapping[str, Any] = training if isinstance(training, dict) else {}
    curves = account.get("curves") or account
    if "epochs" in curves:  # of one network
        curves = {"": curves}
    found = [
        Part(
            name.replace("_", " "),
            [(int(e[0]), float(e[1]), float(e[2])) for e in curve["epochs"]],
            int(curve["best"]),
            str(curve["ending"]),
        )
        for name, curve in curves.items()
        if isinstance(curve, dict) and curve.get("epochs")
    ]
    if found:
        return found
    return [Part("", points, min(points, key=lambda point: point[2])[0], "") for points in losses.parts]


def _tell_end(wanted: Wanted, model: Any, report: FitReport, losses: Losses) -> None:
    training = getattr(model, "training", None)
    parts = parts_of(training, losses)
    if parts:
        draw_losses(parts, f"{wanted.name}: losses", wanted.folder / "losses.png")
    for part in parts:
        held_out = [point[2] for point in part.points]
        kept = f"epoch {part.best} of {len(part.points)} kept" if part.best else "no epoch was good"
        name = f"{part.name}: " if part.name else ""
        ending = f"; {WORDS[part.ending]}" if part.ending in WORDS else ""
        output.say(f"{name}held-out loss {held_out[0]:.4f} to {min(held_out):.4f}  {chart(held_out)}  {kept}{ending}")
    minutes, whole = training_minutes(model), report.seconds / 60
    apart = f" ({minutes:.1f} of them in the networks)" if minutes else ""
    output.say(f"trained {wanted.name} in {whole:.1f} minutes{apart}; saved in {wanted.folder}")
    output.say(f"next: nucleate generator compare {wanted.folder} {_example(wanted)} --output comparison")


def _example(wanted: Wanted) -> str:
    """Give options that ask for elements which the model was shown."""
    shown = abilities_of(wanted.name, str(wanted.folder))
    if shown is None or not shown.missing(EXAMPLE):
        return f"--elements {','.join(EXAMPLE)}"
    elements = shown.elements[: len(EXAMPLE)]
    options = f"--elements {','.join(elements)}"
    return f"{options} --neutrality off" if all(Element(symbol).is_metal for symbol in elements) else options
