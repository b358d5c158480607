"""YAML as people expect it, with the line of everything.

Scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema) on top of PyYAML's safe loader,
because YAML 1.1 has traps for chemists: ``off`` (a neutrality rule) and ``No`` (nobelium) would be booleans, and
``1e-3`` a string. Duplicate keys are found (PyYAML lets the last one win), and aliases are refused (a few lines of them
can grow without bound).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath = tuple[int | str, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema, and without aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not understood here", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", [*"-+0123456789"]),
    ("float", _FLOAT, [*"-+.0123456789"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})\Z"), _first)


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """Parse one YAML document into plain Python values and its tree of nodes, which know their lines.

    Raises
    ------
    yaml.YAMLError
        Not YAML, more than one document, a tag or an alias.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        return (None if root is None else loader.construct_document(root)), root
    finally:
        loader.dispose()


def duplicates(node: yaml.Node | None, path: KeyPath = ()) -> Iterator[tuple[KeyPath, int, int]]:
    """Yield ``(path, line, line of the first)`` of each key that is given again in the same mapping."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from duplicates(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                yield (*path, name), line, first[name]
            first.setdefault(name, line)
            yield from duplicates(value, (*path, name))


def find(root: yaml.Node | None, path: KeyPath) -> tuple[int | None, yaml.Node | None]:
    """Find the line of a key (or of the nearest key above it that is there) and the node of its value, if it is there.

    An index into a mapping means its n-th value, or the mapping itself where it has a ``name`` (the short ways of
    writing a list of named things).
    """
    node = root
    line = None if root is None else root.start_mark.line + 1
    for part in path:
        step = _step(node, part)
        if step is None:
            return line, None
        line, node = step
    return line, node


def _step(node: yaml.Node | None, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        if isinstance(part, int) and "name" in names:
            return node.start_mark.line + 1, node
        index = part if isinstance(part, int) else names.index(part) if part in names else None
        if index is not None and index < len(node.value):
            key, value = node.value[index]
            return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    return None
