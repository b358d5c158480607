"""Reads ``campaign.yaml``: every problem of a file at once, each with its line, its value and what would be right."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from workflows.problems import Problem
from workflows.spec import CampaignSpec
from workflows.yaml_problems import (
    UnreadableError,
    dotted,
    of_duplicates,
    of_no_mapping,
    of_pydantic,
    of_yaml,
    read_text,
    shown,
    text_of,
)
from workflows.yaml_strict import KeyPath, find, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

    Check = Callable[[CampaignSpec], list[Problem]]

_STAND_IN: dict[str, Any] = {"name": "stand-in", "chemistry": {"allowed": ["Mg", "O"]}}
"""Takes the place of broken required sections while the rest of a file is checked; what is said of it is dropped."""


class SpecError(Exception):
    """A campaign file that can't be accepted, with all that is wrong with it.

    Parameters
    ----------
    problems : sequence of Problem
        Errors, and warnings that were found beside them.
    source : str
        The file.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Checked:
    """A campaign file that was accepted, and what its checks warned about."""

    spec: CampaignSpec
    warnings: tuple[Problem, ...] = ()


def load_spec(path: Path, checks: Sequence[Check] = ()) -> CampaignSpec:
    """Read a campaign file, or refuse it with everything that is wrong with it.

    Parameters
    ----------
    path : Path
        The YAML file.
    checks : sequence of callables
        Further checks of the parsed spec (an engine's, a generator's). They are also asked about what can be read of
        a file with errors, so that theirs appear in the same list.

    Raises
    ------
    SpecError
        The file can't be read or parsed, or something in it is wrong.
    """
    return check_file(path, checks).spec


def check_file(path: Path, checks: Sequence[Check] = ()) -> Checked:
    """Read a campaign file as :func:`load_spec` does and keep the warnings of its checks."""
    return check_text(_read(path), checks, source=str(path))


def check_text(text: str, checks: Sequence[Check] = (), source: str = "") -> Checked:
    """Check the text of a campaign file; see :func:`load_spec`."""
    try:
        data, root = parse(text)
    except yaml.YAMLError as error:
        raise SpecError([of_yaml(error, text)], source) from error
    except RecursionError as error:
        raise SpecError([Problem("", "is nested too deeply to be a campaign")], source) from error
    if not isinstance(data, dict):
        empty = "`nucleate init DIR` writes one to start from"
        raise SpecError([of_no_mapping(data, keys="name: and chemistry:", empty=empty)], source)
    problems = of_duplicates(root)
    spec = None
    try:
        spec = CampaignSpec.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        problems += [of_pydantic(fault, root, CampaignSpec, _in_our_words) for fault in faults]
        found = _check_the_rest(data, [fault["loc"] for fault in faults], checks)
    else:
        found = [problem for check in checks for problem in check(spec)]
    problems += [_located(problem, root) for problem in found]
    problems = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line or 0, problem.key))
    if spec is None or any(problem.level == "error" for problem in problems):
        raise SpecError(problems, source)
    return Checked(spec, tuple(problems))


def template(name: str, example: str = "demo") -> str:
    """Give a commented campaign file to start from.

    Parameters
    ----------
    name : str
        Name of the new campaign.
    example : str
        Which example it is made from; there is ``demo``.

    Raises
    ------
    SpecError
        The name can't be a campaign's.
    """
    text = files("workflows").joinpath(f"{example}.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^name: \S+", lambda _: f"name: {name}", text, count=1, flags=re.MULTILINE)
    check_text(text, source=name)
    return text


def _read(path: Path) -> str:
    try:
        return read_text(
            path, what="a campaign", absent="there is no such file; `nucleate init DIR` writes one to start from"
        )
    except UnreadableError as error:
        problem = error.problem
        if path.is_dir() and (path / "campaign.yaml").exists():
            problem = replace(problem, message=f"{problem.message} (there is a campaign.yaml in it: name that)")
        raise SpecError([problem], str(path)) from error


_ENGINES_AFFAIR = {"targets", "chemistry"}
"""Keys that engines, and nobody else, speak of."""


def _check_the_rest(data: dict[str, Any], faults: Iterable[KeyPath], checks: Sequence[Check]) -> list[Problem]:
    """Ask the checks about what is right in a file with errors; what they say of its broken parts is dropped."""
    for depth in (2, 1):
        dropped = {fault[: 1 if fault[0] in _STAND_IN else depth] for fault in faults}
        rest = copy.deepcopy(data)
        for path in dropped:
            _drop(rest, path)
        try:
            spec = CampaignSpec.model_validate(_STAND_IN | rest)
        except ValidationError:
            continue
        absent = {dotted(path) for path in dropped} | (_STAND_IN.keys() - rest.keys())
        if "engine" in absent:
            absent |= _ENGINES_AFFAIR  # whoever is asked now is not the engine that was meant
        found = [problem for check in checks for problem in check(spec)]
        return [p for p in found if not any(p.key == key or p.key.startswith((f"{key}.", f"{key}[")) for key in absent)]
    return []


def _drop(data: dict[Any, Any], path: KeyPath) -> None:
    inner = data.get(path[0]) if len(path) > 1 else None
    if isinstance(inner, dict) and path[1] in inner:
        del inner[path[1]]
    else:
        data.pop(path[0], None)


def _located(problem: Problem, root: yaml.Node | None) -> Problem:
    if not problem.key or problem.line is not None:
        return problem
    path: KeyPath = tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", problem.key))
    line, node = find(root, path)
    value = problem.value if node is None or problem.value is not None else shown(text_of(node))
    return replace(problem, line=line, value=value or None)


def _in_our_words(fault: ErrorDetails) -> str | None:
    path = fault["loc"]
    if fault["type"] == "literal_error" and path[-1] == "unit":
        known = re.findall(r"'([^']*)'", str(fault.get("ctx", {})["expected"]))
        return f"is not understood; convert it and write it in {known[0]}"
    if fault["type"] == "string_pattern_mismatch" and path == ("store",):
        return (
            "is not a profile's name; a campaign names a store profile (embedded, or one from "
            "~/.config/nucleate/config.yaml), and its URI and password stay there or in the environment"
        )
    return None
