"""One row of a comparison: what a generator's samples amount to, with sizes and uncertainties beside every number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from generators.evaluation.judge import AT_HULL_EV_PER_ATOM, MEASURED, Judged, hit
from generators.evaluation.statistics import Mean, Share, mean, share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from generators.base import Condition

SHARES: dict[str, str] = {
    "valid": "geometry, neutrality, inside the condition",
    "unique": "valid and unique, as proposed",
    "relaxed": "valid, and a crystal after relaxation",
    "novel": "relaxed, and equal to no known crystal",
    "new_composition": "relaxed, composition new",
    "new_prototype": "relaxed, decorated prototype new",
    "new_skeleton": "relaxed, space group with Wyckoff letters new",
    "stable": "relaxed, within the cut of the hull",
    "at_hull": "relaxed, at the hull or below",
    "sun": "S.U.N., all three after relaxation",
    "hits": "stable, and every target met",
    "symmetric": "relaxed, space group above 2",
}
"""Shares of all samples that were asked for; the key is the field of the table."""


@dataclass(frozen=True)
class Row:
    """What a comparison says of one generator.

    Parameters
    ----------
    label : str
        As it was asked for.
    name, version, digest : str
        Of the generator and of its state.
    asked : int
        Samples asked for, over all seeds: what shares are counted of. A stream that ended early lacks the rest.
    seeds : tuple of int
    shares : dict of str to Share
        As in :data:`SHARES`; ``hits`` only if the condition has targets and all of them can be measured.
    means : dict of str to Mean
        ``moved_angstrom``, ``volume_change``, ``above_hull_ev_per_atom`` of the relaxed; ``relaxation_steps``.
    costs : dict of str to float or None
        ``samples_per_s`` (by the clock: low on a busy machine), ``samples_per_cpu_s``, ``start_s`` (once a process:
        libraries, tables, weights), ``training_minutes``, ``cpu_s`` (sampling, sieve, relaxation; no start),
        ``cpu_s_per_stable_novel`` and its ``cpu_s_per_stable_novel_error``.
    held_out : dict of str to int, or None
        ``prototypes`` that were held out and fit the condition, and how many were ``recovered``.
    spacegroups : dict of str to int
        Of the relaxed crystals, by number.
    samples : list of dict
    error : str or None
        Why there are no samples.
    """

    label: str
    name: str
    version: str
    digest: str
    asked: int
    seeds: tuple[int, ...]
    shares: dict[str, Share] = field(default_factory=dict)
    means: dict[str, Mean] = field(default_factory=dict)
    costs: dict[str, float | None] = field(default_factory=dict)
    held_out: dict[str, int] | None = None
    spacegroups: dict[str, int] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return {
            **vars(self),
            "seeds": list(self.seeds),
            "shares": {key: value._asdict() for key, value in self.shares.items()},
            "means": {key: value._asdict() for key, value in self.means.items()},
        }


def shares_of(
    judged: Sequence[Judged], n: int, seeds: Sequence[int], condition: Condition, cut: float
) -> dict[str, Share]:
    """Count what :data:`SHARES` names, a cluster a seed.

    Parameters
    ----------
    judged : sequence of Judged
        Of all seeds.
    n : int
        Samples asked for with each seed.
    seeds : sequence of int
    condition : Condition
    cut : float
        eV/atom.
    """
    tests: dict[str, Callable[[Judged], bool]] = {
        "valid": lambda j: j.valid,
        "unique": lambda j: j.unique,
        "relaxed": lambda j: j.relaxed is not None,
        "novel": lambda j: j.new_crystal,
        "new_composition": lambda j: j.new_composition,
        "new_prototype": lambda j: j.new_prototype,
        "new_skeleton": lambda j: j.new_skeleton,
        "stable": lambda j: j.stable(cut),
        "at_hull": lambda j: j.stable(AT_HULL_EV_PER_ATOM),
        "sun": lambda j: j.sun(cut),
        "symmetric": lambda j: (j.spacegroup or 0) > 2,
    }
    if condition.properties and set(condition.properties) <= MEASURED:
        tests["hits"] = lambda j: hit(j, condition, cut)
    return {
        name: share([(sum(test(j) for j in judged if j.seed == seed), n) for seed in seeds])
        for name, test in tests.items()
    }


def means_of(judged: Sequence[Judged]) -> dict[str, Mean]:
    """Average what relaxation did."""
    relaxed = [j for j in judged if j.relaxed is not None]
    fields = ("moved_angstrom", "volume_change", "above_hull_ev_per_atom")
    means = {name: mean([v for j in relaxed if (v := getattr(j, name)) is not None]) for name in fields}
    return {**means, "relaxation_steps": mean([float(j.steps) for j in relaxed])}


def costs_of(
    judged: Sequence[Judged],
    walls: Sequence[float],
    start_s: float | None,
    sampling_cpu_s: float,
    sieve_cpu_s: float,
    stable_novel: Share,
    training_minutes: float,
) -> dict[str, float | None]:
    """Reckon what a stable novel crystal costs; competitors of the hull are nobody's cost.

    Parameters
    ----------
    judged : sequence of Judged
    walls : sequence of float
        Seconds that each sample took.
    start_s : float or None
        Seconds before the first.
    sampling_cpu_s, sieve_cpu_s : float
        Processor seconds.
    stable_novel : Share
        S.U.N.; the error of the cost is its relative error (first-order propagation for c / p).
    training_minutes : float
    """
    cpu = sampling_cpu_s + sieve_cpu_s + sum(j.cpu_s for j in judged)
    found = stable_novel.count
    each = cpu / found if found else None
    error = None
    if each is not None and stable_novel.share and stable_novel.standard_error is not None:
        error = each * stable_novel.standard_error / stable_novel.share
    total = sum(walls)
    return {
        "samples_per_s": len(walls) / total if total > 0 else None,
        "samples_per_cpu_s": len(walls) / sampling_cpu_s if sampling_cpu_s > 0 else None,
        "start_s": start_s,
        "training_minutes": training_minutes,
        "cpu_s": cpu,
        "cpu_s_per_stable_novel": each,
        "cpu_s_per_stable_novel_error": error,
    }


def spacegroups_of(judged: Sequence[Judged]) -> dict[str, int]:
    """Count space groups of the relaxed crystals, most frequent first."""
    return {str(k): v for k, v in Counter(j.spacegroup for j in judged if j.spacegroup is not None).most_common()}


def recovered(judged: Sequence[Judged], held_out: frozenset[str]) -> dict[str, int]:
    """Count the held-out prototypes that came back."""
    found = {j.prototype for j in judged if j.prototype is not None}
    return {"prototypes": len(held_out), "recovered": len(found & held_out)}


def training_minutes(generator: Any) -> float:
    """Read the minutes of training from a generator's ``training``; 0 where there is none.

    Parameters
    ----------
    generator : any
        Its ``training`` is a mapping or an object with ``seconds``, or a mapping whose ``curves`` have them.
    """
    training = getattr(generator, "training", None)
    if isinstance(training, dict) and "seconds" not in training:
        training = training.get("curves")
    seconds: Any = training.get("seconds") if isinstance(training, dict) else getattr(training, "seconds", None)
    return float(seconds) / 60 if isinstance(seconds, (int, float)) else 0.0
