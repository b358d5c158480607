"""``--set KEY=VALUE``: what a user may change of a re-run, from lists of what changes no energy's meaning."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.monitor.rerun.remedies import Case, Remedy

RESOURCES: dict[str, type] = {"memory_gb": float, "minutes": float, "cores": int, "partition": str}
"""What a job takes."""

TAGS: dict[str, tuple[str, ...]] = {
    "pw": (
        "control.nstep", "system.nbnd", "system.nosym", "system.noinv", "electrons.mixing_beta",
        "electrons.mixing_mode", "electrons.mixing_ndim", "electrons.electron_maxstep", "electrons.diagonalization",
        "electrons.diago_david_ndim", "electrons.startingwfc", "electrons.startingpot", "ions.ion_dynamics",
        "ions.trust_radius_ini", "ions.trust_radius_max", "cell.cell_dynamics", "cell.cell_factor",
    ),
    "vasp": (
        "ALGO", "AMIN", "AMIX", "AMIX_MAG", "BMIX", "BMIX_MAG", "IBRION", "ISYM", "KPAR", "MAXMIX", "NBANDS", "NCORE",
        "NELM", "NELMDL", "NELMIN", "NSIM", "NSW", "POTIM", "SYMPREC", "TIME",
    ),
    "mlip": ("steps",),
}  # fmt: skip
"""Settings of each engine that decide how a result is found, not what it means."""


class SettingError(ValueError):
    """A setting that can't be understood; the message says what would be right."""


@dataclass(frozen=True)
class Settings:
    """What a user changes besides what the cause asks.

    Parameters
    ----------
    resources : dict
        Parts of ``spec.resources``.
    tags : dict of str to dict
        By engine.
    """

    resources: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, dict[str, Any]] = field(default_factory=dict)


def parse_settings(texts: Sequence[str]) -> Settings:
    """Read ``KEY=VALUE`` texts; a value is JSON, or plain text.

    Raises
    ------
    SettingError
        An unknown key, or a value that it can't have.

    Examples
    --------
    >>> parse_settings(["memory_gb=8", "electrons.mixing_beta=0.2"])
    Settings(resources={'memory_gb': 8.0}, tags={'pw': {'electrons.mixing_beta': 0.2}})
    """
    resources: dict[str, Any] = {}
    tags: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, given = text.partition("=")
        key = key.strip()
        if not equals or not given.strip():
            raise SettingError(f"--set {text!r}: write KEY=VALUE, such as memory_gb=8")
        value = _value(given.strip())
        if key in RESOURCES:
            resources[key] = _of_kind(key, value, RESOURCES[key])
            continue
        engine = next((name for name, known in TAGS.items() if key in known), None)
        if engine is None:
            every = [*RESOURCES, *(tag for known in TAGS.values() for tag in known)]
            close = get_close_matches(key, every, n=1)
            hint = f"did you mean {close[0]}?" if close else f"one of: {', '.join(every)}"
            raise SettingError(f"--set {key!r} can't be changed; {hint}")
        if isinstance(value, dict | list) or value is None:
            raise SettingError(f"--set {key}: a number, a text, true or false")
        tags.setdefault(engine, {})[key] = value
    return Settings(resources, tags)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _of_kind(key: str, value: Any, kind: type) -> Any:
    if kind is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 or value != kind(value):
        raise SettingError(f"--set {key}: a {'whole ' if kind is int else ''}number above 0, not {value!r}")
    return kind(value)


def applied(settings: Settings, case: Case, remedy: Remedy) -> tuple[Remedy, dict[str, Any]]:
    """Put what the user set on top of a remedy; tags of other engines are passed over.

    Returns
    -------
    Remedy
        With words for both.
    dict
        Parts of ``spec.resources``.
    """
    tags = settings.tags.get(case.engine, {})
    told = [f"{key} {value}" for key, value in {**settings.resources, **tags}.items()]
    if not told:
        return remedy, {}
    resources = {key: value for key, value in remedy.resources.items() if key not in settings.resources}
    words = ", ".join([*([] if remedy.words == "nothing" else [remedy.words]), *told])
    return replace(remedy, words=words, tags={**remedy.tags, **tags}, resources=resources), settings.resources
