"""``generator evaluate`` and ``generator compare``: progress, the table, the JSON file and the page."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from generators.comparison import Comparison, compare
from generators.evaluation import Contender, Protocol, Reach, Second, Store, Task, Told, evaluate, shipped_if_there
from workflows.cli import output
from workflows.cli.errors import LEFT, RefusedError
from workflows.cli.generating_parts import dataset_of, refuse_file, split_by_of
from workflows.cli.generating_samples import noting
from workflows.reference_proposals import literature, polymorphs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from generators.base import Condition, Generator
    from generators.data.dataset import Dataset

LINE_EVERY_S = 10.0
MEASURED = ("bulk_modulus",)


@dataclass(frozen=True)
class Judging:
    """How generators are judged, as the options say it."""

    into: Path
    n: int
    seed: int
    seeds: int
    cut: float
    max_steps: int
    competitors: int
    data: str | None
    split_by: str
    cache: Path | None
    second_opinion: bool


def run_comparison(
    chosen: Sequence[tuple[str, Generator]], condition: Condition, judging: Judging, *, baselines: bool, as_json: bool
) -> None:
    """Evaluate, print, write ``comparison.json`` and ``index.html``.

    Raises
    ------
    RefusedError
        If the directory can't be used, or the data can't be read.
    """
    contenders = [Contender(label, generator) for label, generator in chosen]
    refuse_file(judging.into)
    split_by = split_by_of(judging.split_by)
    whole = shipped_if_there() if judging.data is None else dataset_of(judging.data)
    training: Dataset | None = whole
    held_out: Dataset | None = None
    if whole is not None:
        parts = whole.split(split_by)
        training = type(whole)(whole.name, (*parts.training.entries, *parts.validation.entries))
        held_out = parts.test
    task = Task(
        condition=condition,
        n=judging.n,
        seeds=tuple(range(judging.seed, judging.seed + judging.seeds)),
        cut_ev_per_atom=judging.cut,
        protocol=Protocol(max_steps=judging.max_steps),
        reach=Reach(
            atoms=max(8, condition.max_atoms),
            per_composition=min(Reach().per_composition, judging.competitors),
            own=judging.competitors,
        ),
        training=training,
        more_known=(*literature(), *polymorphs()),
        held_out=held_out,
    )
    _refuse_another(judging.into, condition)
    _refuse_or_note(contenders, condition, judging.seed)
    second = _sevennet() if judging.second_opinion else None
    judging.into.mkdir(parents=True, exist_ok=True)
    store = Store(judging.cache or judging.into / "cache")
    teller = Teller()
    with output.resumable():
        if baselines:
            comparison = compare(contenders, task, store, second=second, told=teller)
        else:
            comparison = Comparison(task, evaluate(contenders, task, store, second=second, told=teller))
    document = comparison.as_dict()
    _write(comparison, document, judging.into)
    if as_json:
        output.print_json(document)
    else:
        _print(document, judging.into)
    wanted = {contender.label for contender in contenders} or {row["label"] for row in document["rows"]}
    if any(row["error"] is not None for row in document["rows"] if row["label"] in wanted):
        import typer

        raise typer.Exit(LEFT)


def _refuse_another(into: Path, condition: Condition) -> None:
    """Refuse to write over what another condition gave; more generators, samples or seeds are welcome."""
    path = into / "comparison.json"
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["condition"]
    except (ValueError, KeyError, TypeError):
        raise RefusedError(f"{path} is no comparison; name another directory") from None
    if before != json.loads(json.dumps(asdict(condition))):
        raise RefusedError(f"{into} holds a comparison on another condition; name another directory")


def _refuse_or_note(contenders: Sequence[Contender], condition: Condition, seed: int) -> None:
    """Ask trained models before the long work whether they can do it at all, and say what they warn of."""
    refused = []
    for contender in contenders:
        generator = contender.generator
        if not callable(getattr(generator, "blank", None)):  # asking an outside model starts it
            continue
        try:
            with noting(generator):
                generator.sample(1, condition, seed)
        except ValueError as error:
            refused.append(str(error))
    if contenders and len(refused) == len(contenders):
        raise RefusedError("\n".join(refused))


class Teller:
    """Says on stderr what an evaluation does: each new step, and how far a long one is."""

    def __init__(self) -> None:
        self._step: tuple[str, str] = ("", "")
        self._said = 0.0

    def __call__(self, told: Told) -> None:
        """Take in where it stands."""
        step, now = (told.step, told.who), time.monotonic()
        if step != self._step or now - self._said > LINE_EVERY_S or told.done == told.of:
            self._step, self._said = step, now
            done = f", {told.done} of {told.of}" if told.step in {"sample", "relax", "competitors"} else ""
            output.console(stderr=True).print(f"{told.step}: {told.who}{done}", markup=False)


def cells(row: dict[str, Any]) -> list[str]:
    """Write a row's numbers as the table shows them.

    Parameters
    ----------
    row : dict
        A row of ``comparison.json``.
    """
    if row["error"] is not None:
        return [row["label"], f"no samples: {row['error']}"]
    shares = row["shares"]
    names = ("valid", "unique", "novel", "new_prototype", "stable", "sun", "hits")
    told = [row["label"], str(row["asked"])]
    for name in names:
        found = shares.get(name)
        told.append("–" if found is None else f"{100 * found['share']:.0f} ± {100 * found['standard_error']:.0f}")
    costs, moved, opinion = row["costs"], row["means"]["moved_angstrom"]["mean"], row["second_opinion"]
    each = costs["cpu_s_per_stable_novel"]
    told.append("–" if moved is None else f"{moved:.2f}")
    told.append("–" if costs["samples_per_s"] is None else f"{costs['samples_per_s']:.3g}")
    told.append(f"{costs['training_minutes']:.1f}")
    told.append("none found" if each is None else f"{each:.3g} ± {costs['cpu_s_per_stable_novel_error']:.2g}")
    agrees = opinion["agrees"] if opinion else None
    told.append("–" if agrees is None or not agrees["n"] else f"{agrees['count']} of {agrees['n']}")
    held_out = row["held_out"]
    told.append("–" if held_out is None else f"{held_out['recovered']} of {held_out['prototypes']}")
    return told


HEADINGS = (
    "generator", "n", "valid %", "unique %", "novel %", "new prototype %", "stable %", "S.U.N. %", "target met %",
    "moved Å", "samples/s", "training min", "CPU-s a stable novel one", "2nd model agrees", "held out, recovered",
)  # fmt: skip


def _print(document: dict[str, Any], into: Path) -> None:
    from rich.table import Table

    rows = [cells(row) for row in document["rows"] if row["error"] is None]
    # A column that says nothing of any row only makes the table too wide to read.
    kept = [i for i in range(len(HEADINGS)) if i < 2 or any(row[i] != "–" for row in rows)]
    table = Table(box=None, pad_edge=False)
    for i in kept:
        table.add_column(HEADINGS[i], justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    output.console().print(table)
    for row in document["rows"]:
        if row["error"] is not None:
            output.say(f"{row['label']}: no samples: {row['error']}")
    cut = 1000 * document["cut_ev_per_atom"]
    output.say(
        f"shares of all samples with standard errors; stable: within {cut:g} meV/atom of a hull of "
        f"{document['hull']['competitors']} phases, by {document['relaxer']}"
    )
    if document["second_opinion"]:
        output.say(f"second model: {document['second_opinion']}")
    unmeasured = sorted(set(document["condition"]["properties"]) - set(MEASURED))
    if unmeasured:
        output.say(f"targets not met are not counted: {', '.join(unmeasured)} can't be measured here")
    output.say(f"{into / 'index.html'}")


def _write(comparison: Comparison, document: dict[str, Any], into: Path) -> None:
    from workflows.report.comparison_page import comparison_page

    comparison.write_json(into / "comparison.json")
    part = into / "index.html.part"
    part.write_text(comparison_page(document, _crystals(comparison)), encoding="utf-8")
    part.replace(into / "index.html")


def _crystals(comparison: Comparison) -> dict[str, list[tuple[Structure, float]]]:
    """Give the stable, unique and novel crystals of each generator, the lowest first."""
    cut = comparison.task.cut_ev_per_atom
    found: dict[str, list[tuple[Structure, float]]] = {}
    for label, judged in comparison.evaluation.structures.items():
        chosen = [
            (j.relaxed, j.above_hull_ev_per_atom)
            for j in judged
            if j.sun(cut) and j.relaxed is not None and j.above_hull_ev_per_atom is not None
        ]
        found[label] = sorted(chosen, key=lambda pair: pair[1])
    return found


def _sevennet() -> Second:
    from generators.relaxer.sevennet import sevennet_energies, sevennet_version

    return Second(sevennet_version(), sevennet_energies)
