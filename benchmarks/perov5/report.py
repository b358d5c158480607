"""Results as Markdown: our rows beside the published ones, with what differs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.perov5.coverage import COMPOSITION_CUTOFF, STRUCTURE_CUTOFF
from benchmarks.perov5.generation import ITSELF
from benchmarks.perov5.published import DIFFERENCES, ROWS, SOURCES, THEIR_SAMPLES, THEIR_TRAINING

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS = ("structures", "compositions", "coverage_recall", "coverage_precision")
WEAK = 0.7
"""A surrogate whose error is above this share of guessing's is called weak."""
DISTANCES = ("density", "energy", "elements")


def markdown(results: dict[str, Any]) -> str:
    """Write the page of results.

    Parameters
    ----------
    results : dict
        As ``results.json`` holds them.
    """
    parts = ["# Perov-5", "", *_intro(results), "", *_generation(results["generation"]), "", *_judge(results), ""]
    if results.get("targets"):
        parts += [*_targets(results["targets"]), ""]
    return "\n".join(parts)


def _intro(results: dict[str, Any]) -> Iterable[str]:
    sets, versions = results["sets"], results["versions"]
    against = "the published test set" if sets["reference_is_the_test_set"] else "a part kept from the generators"
    yield (
        f"Trained on {sets['training']} crystals of {sets['systems']} chemical systems, {sets['elements']} elements; "
        f"compared with {sets['reference']} of {against}. Written by `python -m benchmarks.perov5`; fingerprints: "
        f"{', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}."
    )


def _generation(found: dict[str, dict[str, Any]]) -> Iterable[str]:
    yield "## Generation"
    yield ""
    yield "| | trained on | samples | valid structures % | valid compositions % | COV-R % | COV-P % | d density | d energy | d elements | unique % | in the training set % |"  # noqa: E501 - a row of a table
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for name, row in found.items():
        numbers = [_percent(row.get(key)) for key in NUMBERS]
        apart = [_distance(row.get(key)) for key in DISTANCES]
        label = f"{name} (as if it were samples)" if name == ITSELF else name
        same = [_percent(row.get("unique")), _percent(row.get("known"))]
        yield f"| {' | '.join([label, str(row['trained_on'] or '-'), str(row['n']), *numbers, *apart, *same])} |"
    for published in ROWS:
        name, *numbers = published
        shares, apart = numbers[:4], numbers[4:]
        cells = [f"{name} (published)", str(THEIR_TRAINING), str(THEIR_SAMPLES), *(f"{x:.2f}" for x in shares)]
        yield f"| {' | '.join([*cells, *(f'{x:g}' for x in apart), '-', '-'])} |"
    yield ""
    yield (
        f"Distances are Wasserstein's (g/cm³, eV/atom, elements); coverage with cutoffs {STRUCTURE_CUTOFF:g} "
        f"(structure) and {COMPOSITION_CUTOFF:g} (composition)."
    )
    yield ""
    yield f"Published rows: {'; '.join(SOURCES)}. What differs:"
    yield ""
    for difference in DIFFERENCES:
        yield f"- {difference}"


def _judge(results: dict[str, Any]) -> Iterable[str]:
    yield "## The surrogate that judges properties"
    yield ""
    yield (
        f"Gradient boosting on composition and site features, trained on {results['sets']['judging']} crystals that no "
        "generator saw; errors on crystals that neither saw:"
    )
    yield ""
    yield "| property | MAE | MAE of always guessing the median | crystals | MAE where it is above zero | crystals |"
    yield "|---|---|---|---|---|---|"
    for name, e in results["surrogate"].items():
        yield (
            f"| {name} | {_distance(e['mae'])} | {_distance(e['mae_of_the_median'])} | {e['crystals']} | "
            f"{_distance(e['mae_above_zero'])} | {e['above_zero']} |"
        )
    weak = [name for name, e in results["surrogate"].items() if _weak(e)]
    if weak:
        yield ""
        yield (
            f"Of {' and '.join(weak)} it knows little more than guessing does: what it says of targets for that is "
            "worth as little."
        )


def _weak(errors: dict[str, Any]) -> bool:
    return errors["mae"] is None or errors["mae"] > WEAK * errors["mae_of_the_median"]


def _targets(found: dict[str, dict[str, Any]]) -> Iterable[str]:
    yield "## Asked for a property"
    yield ""
    yield (
        "Mean absolute difference between what was asked for and what the surrogate predicts of the samples; in "
        "brackets the share of samples inside the window."
    )
    for name, properties in found.items():
        for property_name, of in properties.items():
            yield ""
            known = "" if of["conditions_on"] else " (it was not trained on it)"
            yield f"### {name}: {property_name}{known}, window ± {of['half_width']:g} {of['unit']}"
            yield ""
            yield "| asked | not asked | conditioned | best of 16 |"
            yield "|---|---|---|---|"
            for row in of["targets"]:
                yield f"| {row['asked']:g} | {' | '.join(_met(row.get(way)) for way in _WAYS)} |"
            yield f"| mean | {' | '.join(_met(of['mean'].get(way)) for way in _WAYS)} |"


_WAYS = ("free", "conditioned", "best_of_16")


def _met(of: dict[str, float | None] | None) -> str:
    if of is None or of["mae"] is None or of["hit"] is None:
        return "-"
    return f"{of['mae']:.3f} ({100 * of['hit']:.0f} %)"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
