"""Reads ``campaign.yaml``: every problem of a file at once, each with its line, its value and what would be right."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from workflows.problems import Problem
from workflows.spec import CampaignSpec
from workflows.yaml_strict import KeyPath, duplicates, find, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    Check = Callable[[CampaignSpec], list[Problem]]

MAX_BYTES = 1_000_000
"""A campaign file is a page of text; anything larger is some other file."""

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
        raise SpecError([_from_yaml(error, text)], source) from error
    except RecursionError as error:
        raise SpecError([Problem("", "is nested too deeply to be a campaign")], source) from error
    if not isinstance(data, dict):
        raise SpecError([_not_a_mapping(data)], source)
    problems = [
        Problem(_dotted(path), f"is given twice (first on line {first}); keep one", line=line)
        for path, line, first in duplicates(root)
    ]
    spec = None
    try:
        spec = CampaignSpec.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        problems += [_from_pydantic(fault, root) for fault in faults]
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
    def refuse(message: str, line: int | None = None) -> SpecError:
        return SpecError([Problem("", message, line=line)], str(path))

    try:
        if path.is_dir():
            inside = " (there is a campaign.yaml in it: name that)" if (path / "campaign.yaml").exists() else ""
            raise refuse(f"is a directory, not a campaign file{inside}")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise refuse("there is no such file; `nucleate init DIR` writes one to start from") from error
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1000} kB; a campaign is a page of text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise refuse("is not UTF-8 text; save it as UTF-8", line) from error


def _from_yaml(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        line = (text.splitlines() + [""] * (mark.line + 1))[mark.line]
        message = f"is not YAML at column {mark.column + 1}: {error.problem}"
        if "\t" in line:
            message += "; indent with spaces, YAML has no tabs"
        elif "mapping values are not allowed" in str(error.problem):
            message += "; look for a second colon, or for an indentation that differs from the line above"
        return Problem("", message, line=mark.line + 1, value=_shown(line.strip()) if line.strip() else None)
    if isinstance(error, yaml.reader.ReaderError):
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"holds a character that YAML does not allow (U+{code:04X})"
        return Problem("", message, line=text[: error.position].count("\n") + 1)
    return Problem("", f"is not YAML: {error}")


def _not_a_mapping(data: Any) -> Problem:
    if data is None:
        return Problem("", "is empty; `nucleate init DIR` writes one to start from")
    kind = {"str": "text", "list": "a list"}.get(type(data).__name__, f"a {type(data).__name__}")
    return Problem("", f"is {kind}, not a mapping with keys such as name: and chemistry:", line=1)


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
        absent = {_dotted(path) for path in dropped} | (_STAND_IN.keys() - rest.keys())
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
    value = problem.value if node is None or problem.value is not None else _shown(_text(node))
    return replace(problem, line=line, value=value or None)


# --- pydantic's errors in words ---------------------------------------------------------------------------------------

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list, such as [Mg, Al, O]",
    "dict": "a mapping of keys to values",
}
_LIMITS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}


def _from_pydantic(fault: ErrorDetails, root: yaml.Node | None) -> Problem:
    path: KeyPath = fault["loc"]
    line, node = find(root, path)
    value = (_shown(_text(node)) or None) if node is not None else None
    if fault["type"] == "extra_forbidden":
        value = None
    if fault["type"] == "missing" and len(path) == 1:
        line = None  # missing from the file as a whole
    return Problem(_dotted(path), _in_words(fault, path), line=line, value=value)


def _in_words(fault: ErrorDetails, path: KeyPath) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    model, field = _described(path)
    about = f" ({field.description})" if field is not None and field.description else ""
    if kind == "missing":
        return f"is missing{about}"
    if kind == "extra_forbidden":
        known = list(model.model_fields) if model is not None else []
        close = get_close_matches(str(path[-1]), known, n=1)
        return f"is not a key here; {_suggest(close)}keys here: {', '.join(known)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        if path[-1] == "unit":
            return f"is not understood; convert it and write it in {known[0]}"
        close = get_close_matches(str(fault["input"]), known, n=1)
        return f"is not understood; {_suggest(close)}one of: {', '.join(known)}"
    if kind == "string_pattern_mismatch":
        if path == ("store",):
            return (
                "is not a profile's name; a campaign names a store profile (embedded, or one from "
                "~/.config/nucleate/config.yaml), and its URI and password stay there or in the environment"
            )
        return f"is not understood{about}"
    if kind in _LIMITS:
        limit = next(iter(context.values()))
        return f"must be {_LIMITS[kind]} {limit:,g}{about}" if isinstance(limit, int | float) else fault["msg"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "finite_number":
        return f"must be a finite number{about}"
    if kind in {"model_type", "model_attributes_type"}:
        keys = ", ".join(model.model_fields) if model is not None else ""
        empty = "is empty; fill it in or remove the key. It" if fault["input"] is None else ""
        return f"{empty} must be a mapping with keys from: {keys}".strip()
    if kind.removesuffix("_type") in _KINDS:
        return f"must be {_KINDS[kind.removesuffix('_type')]}{about}"
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}{about}"


def _suggest(close: list[str]) -> str:
    return f"did you mean {close[0]}? " if close else ""


def _described(path: KeyPath) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """Find the model that a path leads into, and the field at its end if it is one.

    For a field that holds a model, that model; for a plain field or an unknown key, the model around it.
    """
    model: type[BaseModel] | None = CampaignSpec
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        model = (_model_in(field.annotation) if field is not None else None) or model
    return model, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _text(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return "" if isinstance(node, yaml.MappingNode) else f"[{', '.join(_text(item) for item in node.value)}]"


def _shown(value: str) -> str:
    """Shorten a value for a message; credentials in a URI are never shown."""
    value = re.sub(r"://[^/\s]*@", "://...@", value.replace("\n", " "))
    return value if len(value) <= 60 else f"{value[:57]}..."
