"""Compare generators: the ones that are asked about, and always the baselines that a trained model has to beat."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from generators.evaluation import SHARES, Contender, evaluate
from generators.evaluation.judge import AT_HULL_EV_PER_ATOM
from generators.evaluation.opinion import WARNING
from generators.registry import class_of, make_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from generators.evaluation import Evaluation, Second, Store, Task, Told

BASELINES = ("random", "ion_exchange")
"""Rows of every comparison: no structure of the data, and no model of it."""
UNTRAINED = "symmetric, untrained"
"""A row of every comparison: skeletons and machinery of ``symmetric``, its networks as they were initialised."""


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
