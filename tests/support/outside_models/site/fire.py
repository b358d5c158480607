"""A stand-in for python-fire, for tests only: ``--name=value`` with values as Python literals, bare words as texts."""

from __future__ import annotations

import ast
import inspect
import sys
from typing import Any


def parse(text: str) -> Any:
    try:
        return literal(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return text


def literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, (ast.Tuple, ast.List)):
        return type({"Tuple": (), "List": []}[type(node).__name__])(map(literal, node.elts))
    if isinstance(node, ast.Dict):
        return {literal(k): literal(v) for k, v in zip(node.keys, node.values) if k is not None}  # noqa: B905
    return ast.literal_eval(node)


def Fire(function: Any) -> Any:  # noqa: N802 - upstream's name
    given: dict[str, Any] = {}
    places = list(inspect.signature(function).parameters)
    for word in sys.argv[1:]:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            assert equals, f"the stand-in for fire takes --name=value alone, not {word}"
            given[name.replace("-", "_")] = parse(value)
        else:
            given[next(place for place in places if place not in given)] = parse(word)
    return function(**given)
