"""What is wrong with a YAML file, in words: with its line, its value and what would be right, all problems at once.

For files that are read strictly into a pydantic model: a campaign, the cluster file.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from workflows.problems import Problem
from workflows.yaml_strict import KeyPath, duplicates, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

MAX_BYTES = 1_000_000
"""A file that people write is a page of text; anything larger is some other file."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "path": "a path",
}
_LIMITS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}
_KEY = "[key]"
"""How pydantic says that not the value but the key of a mapping is wrong."""


class UnreadableError(Exception):
    """A file that is no text, or can't be read.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def read_text(path: Path, *, what: str, absent: str) -> str:
    """Read a file that people write.

    Parameters
    ----------
    path : pathlib.Path
    what : str
        What it should be, with its article: ``a campaign``.
    absent : str
        What to say if it is not there.

    Raises
    ------
    UnreadableError
        If it can't be read, is too large or is not UTF-8.
    """

    def refuse(message: str, line: int | None = None) -> UnreadableError:
        return UnreadableError(Problem("", message, line=line))

    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise refuse(absent) from error
    except IsADirectoryError as error:
        raise refuse(f"is a directory, not {what} file") from error
    except OSError as error:
        raise refuse(f"can't be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1000} kB; {what} is a page of text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse("is not UTF-8 text; save it as UTF-8", raw[: error.start].count(b"\n") + 1) from error


def of_yaml(error: yaml.YAMLError, text: str) -> Problem:
    """Say where a text is not YAML, and what it may be."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        line = (text.splitlines() + [""] * (mark.line + 1))[mark.line]
        message = f"is not YAML at column {mark.column + 1}: {error.problem}"
        if "\t" in line:
            message += "; indent with spaces, YAML has no tabs"
        elif "mapping values are not allowed" in str(error.problem):
            message += "; look for a second colon, or for an indentation that differs from the line above"
        return Problem("", message, line=mark.line + 1, value=shown(line.strip()) if line.strip() else None)
    if isinstance(error, yaml.reader.ReaderError):
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"holds a character that YAML does not allow (U+{code:04X})"
        return Problem("", message, line=text[: error.position].count("\n") + 1)
    return Problem("", f"is not YAML: {error}")


def of_no_mapping(data: Any, *, keys: str, empty: str) -> Problem:
    """Say that a document is not a mapping; ``keys`` names some that it should have."""
    if data is None:
        return Problem("", f"is empty; {empty}")
    kind = {"str": "text", "list": "a list"}.get(type(data).__name__, f"a {type(data).__name__}")
    return Problem("", f"is {kind}, not a mapping with keys such as {keys}", line=1)


def of_duplicates(root: yaml.Node | None) -> list[Problem]:
    """Find keys that are given again."""
    return [
        Problem(dotted(path), f"is given twice (first on line {first}); keep one", line=line)
        for path, line, first in duplicates(root)
    ]


def of_pydantic(
    fault: ErrorDetails,
    root: yaml.Node | None,
    model: type[BaseModel],
    special: Callable[[ErrorDetails], str | None] | None = None,
) -> Problem:
    """Say one of pydantic's errors in words.

    Parameters
    ----------
    fault : dict
        One of ``ValidationError.errors()``.
    root : yaml.Node or None
        Of the document.
    model : type
        What the document was to become.
    special : callable, optional
        Gives the words for what the model's own people say better, else ``None``.
    """
    path: KeyPath = fault["loc"]
    of_key = bool(path) and path[-1] == _KEY
    path = path[:-1] if of_key else path
    line, node = find(root, path)
    value = (shown(text_of(node)) or None) if node is not None else None
    if fault["type"] == "extra_forbidden" or of_key:
        value = None
    if fault["type"] == "missing" and len(path) == 1:
        line = None  # missing from the file as a whole
    message = (special(fault) if special is not None else None) or _in_words(fault, path, model, of_key=of_key)
    return Problem(dotted(path), message, line=line, value=value)


def _in_words(fault: ErrorDetails, path: KeyPath, root_model: type[BaseModel], *, of_key: bool) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    model, field = _described(root_model, path)
    about = f" ({field.description})" if field is not None and field.description else ""
    if kind == "missing":
        return f"is missing{about}"
    if kind == "extra_forbidden":
        known = list(model.model_fields)
        close = get_close_matches(str(path[-1]), known, n=1)
        return f"is not a key here; {_suggest(close)}keys here: {', '.join(known)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        close = get_close_matches(str(fault["input"]), known, n=1)
        return f"is not understood; {_suggest(close)}one of: {', '.join(known)}"
    if kind == "string_pattern_mismatch":
        return "can't be a name; use lower-case letters, digits and -" if of_key else f"is not understood{about}"
    if kind in _LIMITS:
        limit = next(iter(context.values()))
        return f"must be {_LIMITS[kind]} {limit:,g}{about}" if isinstance(limit, int | float) else fault["msg"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "finite_number":
        return f"must be a finite number{about}"
    if kind in {"model_type", "model_attributes_type"}:
        empty = "is empty; fill it in or remove the key. It" if fault["input"] is None else ""
        return f"{empty} must be a mapping with keys from: {', '.join(model.model_fields)}".strip()
    if kind.removesuffix("_type") in _KINDS:
        such = f", such as [{', '.join(field.examples[0])}]" if field is not None and field.examples else ""
        return f"must be {_KINDS[kind.removesuffix('_type')]}{such}{about}"
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}{about}"


def _suggest(close: list[str]) -> str:
    return f"did you mean {close[0]}? " if close else ""


def _described(root_model: type[BaseModel], path: KeyPath) -> tuple[type[BaseModel], FieldInfo | None]:
    """Find the model that a path leads into, and the field at its end if it is one.

    For a field that holds a model, that model; for a plain field or an unknown key, the model around it.
    """
    model = root_model
    field: FieldInfo | None = None
    here: Any = root_model
    for part in path:
        if isinstance(part, int):
            continue
        values = _values_of_mapping(here)
        if values is not None:
            here = values
            continue
        model = _model_in(here) or model
        field = model.model_fields.get(part)
        here = field.annotation if field is not None else None
    return _model_in(here) or model, field


def _values_of_mapping(annotation: Any) -> Any:
    """Give what the values of a mapping are; ``None`` for what is no mapping."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return arguments[1]
    if origin is Annotated:
        return _values_of_mapping(arguments[0])
    if origin in {Union, UnionType}:
        return next((values for part in arguments if (values := _values_of_mapping(part)) is not None), None)
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def dotted(path: KeyPath) -> str:
    """Write a path as people do: ``targets.band_gap.max``, ``generator[1].share``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def text_of(node: yaml.Node) -> str:
    """Write a value as it stands in the file; empty for a mapping."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return "" if isinstance(node, yaml.MappingNode) else f"[{', '.join(text_of(item) for item in node.value)}]"


def shown(value: str) -> str:
    """Shorten a value for a message; credentials in a URI are never shown."""
    value = re.sub(r"://[^/\s]*@", "://...@", value.replace("\n", " "))
    return value if len(value) <= 60 else f"{value[:57]}..."
