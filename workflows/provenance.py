"""What software and which settings a number came from."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "nucleate",
    "ase",
    "atomate2",
    "chgnet",
    "fireworks",
    "jobflow",
    "numpy",
    "phonopy",
    "pymatgen",
    "sevenn",
    "spglib",
    "torch",
)


def software_versions() -> dict[str, str]:
    """Give the versions of Python and of every package that numbers depend on; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def settings_hash(settings: dict[str, Any]) -> str:
    """Hash settings, whatever the order of their keys (sha256, hexadecimal).

    Examples
    --------
    >>> settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
