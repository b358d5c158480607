"""What the commands of ``generator`` share: conditions, contenders, data sets, written samples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from generators.base import Bounds, Condition
from generators.data.dataset import PROPERTY_UNITS, Dataset, shipped
from generators.registry import abilities_of, class_of, describe, is_trained, named
from workflows.cli.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generators.base import Generator, NeutralityRule
    from generators.data.dataset import SplitBy

SPLITS = ("prototype", "chemistry")
RULES = ("strict", "permissive", "off")
MOST_BY_DEFAULT = 3
_TARGET = re.compile(r"\s*([a-z_]+)\s*(>=|<=)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


def condition_of(
    elements: str | None,
    systems: Sequence[str] | None,
    properties: Sequence[str] | None,
    min_elements: int,
    max_elements: int | None,
    max_atoms: int,
    neutrality: str,
) -> Condition:
    """Make a condition of what the shared options say.

    Raises
    ------
    RefusedError
        If they contradict each other or can't be understood.
    """
    from pymatgen.core import Element

    if (elements is None) == (not systems):
        raise RefusedError("give --elements such as Mg,Al,O, or --systems such as Mg-Al-O: one of the two")
    if commas := [word for word in systems or [] if "," in word]:
        raise RefusedError(
            f"--systems {commas[0]!r}: one chemical system each, so repeat it: --systems Mg-O --systems Al-O"
        )
    words = [elements.replace(",", "-").replace(" ", "-")] if elements is not None else list(systems or [])
    found: list[tuple[str, ...]] = []
    for word in words:
        symbols = sorted({part for part in word.split("-") if part})
        unknown = [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]
        if unknown or not symbols:
            are = "are no elements" if len(unknown) > 1 else "is no element"
            raise RefusedError(f"{word!r}: {', '.join(unknown) or 'nothing'} {are}; write symbols such as Mg")
        found.append(tuple(symbols))
    largest = max(map(len, found))
    most = max_elements if max_elements is not None else max(min_elements, min(MOST_BY_DEFAULT, largest))
    if not min_elements <= min(most, largest):
        raise RefusedError(
            f"crystals of {min_elements} to {most} elements can't be made of {', '.join('-'.join(s) for s in found)}; "
            "change --min-elements or --max-elements, or allow more elements"
        )
    if neutrality not in RULES:
        raise RefusedError(f"--neutrality is {', '.join(RULES)}, not {neutrality!r}")
    return Condition(
        chemical_systems=tuple(dict.fromkeys(found)),
        min_elements=min_elements,
        max_elements=most,
        max_atoms=max_atoms,
        neutrality=cast("NeutralityRule", neutrality),
        properties=targets_of(properties or []),
    )


def targets_of(texts: Sequence[str]) -> dict[str, Bounds]:
    """Read targets such as ``bulk_modulus>=120``, in the property's one unit; two of a property make an interval.

    Raises
    ------
    RefusedError
        If one can't be understood, or the property is unknown.
    """
    found: dict[str, Bounds] = {}
    for text in texts:
        match = _TARGET.fullmatch(text)
        try:
            name, sign, value = (match[1], match[2], float(match[3])) if match else ("", "", 0.0)
        except ValueError:  # 1.2.3
            match = None
        if match is None:
            raise RefusedError(
                f"--property {text!r} is no target; write one such as 'bulk_modulus>=120': >= or <=, a number, no unit"
            )
        if name not in PROPERTY_UNITS:
            raise RefusedError(f"--property: {name} is unknown; known are {', '.join(PROPERTY_UNITS)}")
        before = found.get(name, Bounds(unit=PROPERTY_UNITS[name]))
        low, high = (value, before.maximum) if sign == ">=" else (before.minimum, value)
        if low is not None and high is not None and low > high:
            raise RefusedError(f"--property: {name} can't be above {low:g} and below {high:g}")
        found[name] = Bounds(low, high, PROPERTY_UNITS[name])
    return found


def named_of(name: str) -> tuple[str, Generator]:
    """Give a generator by name or folder, and its label.

    Raises
    ------
    RefusedError
        If there is none, or its state can't be used.
    """
    try:
        return named(name)
    except (ValueError, OSError) as error:
        raise RefusedError(str(error)) from error


def refuse_file(directory: Path) -> None:
    """Refuse a directory to write into that is a file.

    Raises
    ------
    RefusedError
        If it is one.
    """
    if directory.exists() and not directory.is_dir():
        raise RefusedError(f"{directory} is a file; name a directory")


def dataset_of(name: str) -> Dataset:
    """Read a data set: the one that ships, or a file.

    Raises
    ------
    RefusedError
        If there is none or it can't be read.
    """
    try:
        return shipped() if name == "shipped" else Dataset.read(Path(name))
    except FileNotFoundError as error:
        what = "this version ships no data set" if name == "shipped" else f"{name}: no such file"
        raise RefusedError(f"{what}; --data takes a file that a data build wrote") from error
    except (ValueError, OSError) as error:
        raise RefusedError(str(error)) from error


def split_by_of(word: str) -> SplitBy:
    """Check a word that says how to split.

    Raises
    ------
    RefusedError
        If it is unknown.
    """
    if word not in SPLITS:
        raise RefusedError(f"--split-by is {' or '.join(SPLITS)}, not {word!r}")
    return cast("SplitBy", word)


def trainable(name: str) -> Any:
    """Give the class of a generator that learns from data.

    Raises
    ------
    RefusedError
        If the name is unknown, or it is a baseline.
    """
    try:
        found = class_of(name)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    if not is_trained(name):
        able = [row["name"] for row in describe() if is_trained(row["name"])]
        raise RefusedError(f"{name} is not trained here; these are: {', '.join(able)}")
    return found


def listed() -> list[dict[str, Any]]:
    """List the generators: name, summary, what they condition on, and ``trained``.

    ``trained`` is ``yes`` (weights ship), ``no`` (it has to be trained first), ``outside`` (a model of somebody else's,
    in an environment of its own, or crystals from files), or ``baseline`` (nothing to train).
    """
    rows = []
    for entry in describe():
        shown = abilities_of(entry["name"])
        if is_trained(entry["name"]):
            trained = "no" if shown is None else "yes"
        else:
            trained = "outside" if entry["target"].startswith("generators.adapters.") else "baseline"
        rows.append(
            {
                "name": entry["name"],
                "summary": entry["summary"],
                "trained": trained,
                "conditions_on": [] if shown is None else sorted(shown.properties),
            }
        )
    return rows
