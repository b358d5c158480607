"""Compare generators: the ones that are asked about, and always the baselines that a trained model has to beat."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.evaluation import SHARES, Contender, evaluate
from generators.evaluation.judge import AT_HULL_EV_PER_ATOM
from generators.evaluation.opinion import WARNING
from generators.registry import ENTRIES, class_of, load_generator, make_generator, options_of
from generators.state_file import STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from generators.evaluation import Evaluation, Second, Store, Task, Told

BASELINES = ("random", "ion_exchange")
"""Rows of every comparison: no structure of the data, and no model of it."""
UNTRAINED = "symmetric, untrained"
"""A row of every comparison: skeletons and machinery of ``symmetric``, its networks as they were initialised."""
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})
"""Endings of files that hold code beside numbers; only words for whoever names one, none is ever opened."""


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Parameters
    ----------
    task : Task
    evaluation : Evaluation
    """

    task: Task
    evaluation: Evaluation

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form, with what every number depends on."""
        task, evaluation = self.task, self.evaluation
        return {
            "condition": asdict(task.condition),
            "n": task.n,
            "seeds": list(task.seeds),
            "cut_ev_per_atom": task.cut_ev_per_atom,
            "at_hull_ev_per_atom": AT_HULL_EV_PER_ATOM,
            "relaxer": task.protocol.key,
            "hull": {"competitors": len(evaluation.hull.phases)},
            "known": evaluation.known,
            "matcher": "pymatgen StructureMatcher, ltol 0.2, stol 0.3, angle_tol 5",
            "shares": SHARES,
            "errors": "low and high are Wilson's interval, 95 %, standard errors half of that for one standard "
            "deviation; with several seeds, n is divided by the design effect",
            "rows": [
                {
                    **row.as_dict(),
                    "second_opinion": opinion.as_dict() if (opinion := evaluation.opinions.get(row.label)) else None,
                }
                for row in evaluation.rows
            ],
            "second_opinion": WARNING if evaluation.opinions else None,
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_dict` to a file, all of it or nothing."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)


def compare(
    contenders: Sequence[Contender],
    task: Task,
    store: Store,
    *,
    second: Second | None = None,
    told: Callable[[Told], None] | None = None,
) -> Comparison:
    """Evaluate generators together with the baselines, which are added where they are missing.

    Parameters
    ----------
    contenders : sequence of Contender
    task : Task
    store : Store
    second : Second, optional
    told : callable, optional
    """
    return Comparison(task, evaluate(with_baselines(contenders), task, store, second=second, told=told))


def with_baselines(contenders: Sequence[Contender], *, untrained: bool = True) -> list[Contender]:
    """Put the baselines and the untrained model behind the contenders unless they are among them."""
    labels = {contender.label for contender in contenders}
    made = [*contenders, *(Contender(name, make_generator(name)) for name in BASELINES if name not in labels)]
    if untrained and UNTRAINED not in labels:
        made.append(Contender(UNTRAINED, class_of("symmetric").untrained()))
    return made


def contender(name_or_directory: str) -> Contender:
    """Make a contender of a registered name or of a folder that holds a saved state.

    Raises
    ------
    ValueError
        If it is neither, or a generator that is nothing without options; the message says what would be right.
    """
    names = [entry.name for entry in ENTRIES]
    if name_or_directory in names:
        _refuse_without_options(name_or_directory)
        made = Contender(name_or_directory, make_generator(name_or_directory))
        _ = made.generator.version  # a model without weights says so here, not in the middle of a comparison
        return made
    folder = Path(name_or_directory)
    if (folder / STATE).is_file():
        return Contender(name_or_directory.rstrip("/"), load_generator(folder))
    if folder.is_file():
        never = "; pickles are never read" if folder.suffix.lower() in PICKLES else ""
        raise ValueError(
            f"{folder} is a file; name the folder that `nucleate generator train` wrote ({STATE} and "
            f"weights.safetensors){never}"
        )
    if (folder / "training").is_dir():
        raise ValueError(
            f"{folder} has no {STATE}: its training is not finished; the same `nucleate generator train` command goes "
            "on"
        )
    where = f"is a folder without {STATE}" if folder.is_dir() else "is neither a folder nor a name"
    raise ValueError(f"{name_or_directory} {where}; generators are {', '.join(names)}, or a folder of a saved one")


def _refuse_without_options(name: str) -> None:
    """Refuse what can't be made by its name alone: nobody can give options on a command line."""
    needed = [key for key, default in options_of(name).items() if default is Parameter.empty]
    if not needed:
        return
    example = f"{{name: {name}, options: {{{', '.join(f'{key}: ...' for key in needed)}}}}}"
    if name == "mixture":  # a campaign writes its members as they are
        example = "{name: symmetric, share: 0.7}, {name: random, share: 0.3}"
    raise ValueError(
        f"{name} needs the option {', '.join(needed)}, which can be given only in campaign.yaml: generator: [{example}]"
    )
