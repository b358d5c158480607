"""Reads the cluster file: where it is, and everything that is wrong with it at once, each with its line."""

from __future__ import annotations

import hashlib
import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from workflows.problems import Problem
from workflows.runtime.cluster import ClusterFile
from workflows.runtime.settings import config_path
from workflows.yaml_problems import UnreadableError, of_duplicates, of_no_mapping, of_pydantic, of_yaml, read_text
from workflows.yaml_strict import find, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.runtime.cluster import Cluster

CLUSTERS = "NUCLEATE_CLUSTERS"
"""Environment variable: path of the cluster file."""


class ClusterFileError(Exception):
    """A cluster file that can't be used, with all that is wrong with it.

    Parameters
    ----------
    problems : sequence of Problem
    source : str
        The file.
    """

    def __init__(self, problems: Sequence[Problem], source: str) -> None:
        self.problems = list(problems)
        self.source = source
        if len(problems) == 1 and not problems[0].key and problems[0].line is None:
            super().__init__(f"{source} {problems[0].message}")
            return
        head = f"{source}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}; nothing was submitted"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in problems)]))


def clusters_path(named: Path | None = None) -> Path:
    """Tell where the cluster file is: as named, ``NUCLEATE_CLUSTERS``, or ``clusters.yaml`` beside the config file."""
    if named is not None:
        return named.expanduser()
    by_environment = os.environ.get(CLUSTERS)
    return Path(by_environment).expanduser() if by_environment else config_path().with_name("clusters.yaml")


def load_clusters(path: Path) -> ClusterFile:
    """Read a cluster file.

    Raises
    ------
    ClusterFileError
        With everything that is wrong with it.
    """
    absent = "does not exist; write one (see docs/clusters.md), or name it with --clusters FILE or NUCLEATE_CLUSTERS"
    try:
        text = read_text(path, what="a cluster", absent=absent)
        data, root = parse(text)
    except UnreadableError as error:
        raise ClusterFileError([error.problem], str(path)) from error
    except yaml.YAMLError as error:
        raise ClusterFileError([of_yaml(error, text)], str(path)) from error
    except RecursionError as error:
        raise ClusterFileError([Problem("", "is nested too deeply to be a cluster file")], str(path)) from error
    if not isinstance(data, dict):
        problem = of_no_mapping(data, keys="clusters:", empty="see docs/clusters.md for one to start from")
        raise ClusterFileError([problem], str(path))
    problems = of_duplicates(root)
    found: ClusterFile | None = None
    try:
        found = ClusterFile.model_validate(data)
    except ValidationError as error:
        problems += [of_pydantic(fault, root, ClusterFile) for fault in error.errors(include_url=False)]
    else:
        problems += _without_time(found, root)
    problems = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line or 0, problem.key))
    if found is None or problems:
        raise ClusterFileError(problems, str(path))
    return found


def cluster_named(clusters: ClusterFile, name: str, source: Path) -> Cluster:
    """Find a cluster by name.

    Raises
    ------
    ClusterFileError
        If there is none by that name; the message lists those that there are.
    """
    if name not in clusters.clusters:
        close = get_close_matches(name, clusters.clusters, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        known = ", ".join(clusters.clusters)
        raise ClusterFileError([Problem("", f"has no cluster {name!r}; {meant}clusters in it: {known}")], str(source))
    return clusters.clusters[name]


def fingerprint(cluster: Cluster, kind_name: str) -> str:
    """Hash what a cluster file says of one kind of pilot: who was refused asks for the same until that changes."""
    said = cluster.model_dump_json(exclude={"pilots", "limits"}) + cluster.pilots[kind_name].model_dump_json()
    return hashlib.sha256(said.encode()).hexdigest()


def _without_time(clusters: ClusterFile, root: yaml.Node | None) -> list[Problem]:
    """Find kinds whose drain, which nobody spelled out, takes the whole wall-time."""
    problems = []
    for name, cluster in clusters.clusters.items():
        for kind_name, kind in cluster.pilots.items():
            if kind.usable_minutes <= 0:
                line, _ = find(root, ("clusters", name, "pilots", kind_name, "minutes"))
                message = f"leaves nothing after drain_s ({kind.drain_s} s); give more minutes or a shorter drain"
                problems.append(Problem(f"clusters.{name}.pilots.{kind_name}.minutes", message, line=line))
    return problems
