"""Options as they come from a campaign file: checked when a generator is made, each message names the option."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _refuse(owner: str, option: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"{owner}: the option {option} must be {wanted}, not {value!r}")


def text(owner: str, option: str, value: Any) -> str:
    """Check a string that is not empty."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _refuse(owner, option, value, "a text")
    return value


def flag(owner: str, option: str, value: Any) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise _refuse(owner, option, value, "true or false")
    return value


def whole(owner: str, option: str, value: Any, least: int = 1) -> int:
    """Check a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _refuse(owner, option, value, f"a whole number of at least {least}")
    return value


def number(owner: str, option: str, value: Any, least: float = -math.inf) -> float:
    """Check a finite number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        wanted = "a finite number" + (f" of at least {least:g}" if math.isfinite(least) else "")
        raise _refuse(owner, option, value, wanted)
    return float(value)


def seconds(owner: str, option: str, value: Any) -> float:
    """Check a time above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise _refuse(owner, option, value, "a number of seconds above 0")
    return float(value)


def texts(owner: str, option: str, value: Any, *, least: int = 0) -> tuple[str, ...]:
    """Check a list of strings."""
    if not isinstance(value, (list, tuple)) or len(value) < least:
        raise _refuse(owner, option, value, "a list of texts" + (f", at least {least}" if least else ""))
    for item in value:
        if not isinstance(item, str) or not item or "\0" in item:
            raise _refuse(owner, option, value, "a list of texts")
    return tuple(value)


def choice(owner: str, option: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Check a string that is one of a few."""
    if value not in allowed or not isinstance(value, str):
        raise _refuse(owner, option, value, f"one of {', '.join(allowed)}")
    return value


def path(owner: str, option: str, value: Any) -> str:
    """Check a path; a relative one is taken from the working directory now. Links stay: an environment's python is one.

    A generator may be sampled on another machine, whose working directory is not ours.
    """
    if isinstance(value, Path):
        value = str(value)
    return str(Path(text(owner, option, value)).expanduser().absolute())


def program(owner: str, option: str, value: Any) -> str:
    """Check a program: a bare name is looked up on the PATH when it is run, anything else is a path."""
    if isinstance(value, str) and value and "/" not in value and "\0" not in value and not value.startswith("~"):
        return value
    return path(owner, option, value)


def anchored_word(value: str, base: Path | None = None) -> str:
    """Make a relative path of a file that is there absolute, of all words of a command: runs have another directory.

    Parameters
    ----------
    value : str
        A word of a command. What is an option, has a placeholder, or is no path of a file stays as it is.
    base : pathlib.Path, optional
        Where relative paths start (default: the working directory).
    """
    if PLACEHOLDER.search(value) or value.startswith("-") or len(value) > 4000:
        return value
    found = (base or Path()) / _at_home(value)
    return str(found.absolute()) if ("/" in value or value.endswith(".py")) and found.is_file() else value


def anchored(option: str, value: Any, base: Path) -> Any:
    """Take a relative path from a folder instead of the working directory.

    Parameters
    ----------
    option : str
        Its name: a ``python`` without a slash is looked up on the PATH, a ``command`` has words of all sorts.
    value : Any
        What is no text is left to the check of the option.
    base : pathlib.Path
    """
    if option == "command" and isinstance(value, (list, tuple)):
        return [anchored_word(one, base) if isinstance(one, str) else one for one in value]
    if not isinstance(value, str) or not value.strip() or (option == "python" and "/" not in value):
        return value
    return str(base / _at_home(value))


def _at_home(value: str) -> Path:
    with suppress(RuntimeError):  # there is no user of that name
        return Path(value).expanduser()
    return Path(value)


@dataclass(frozen=True)
class Running:
    """How a model is run; the options that all adapters to processes share.

    Parameters
    ----------
    batch : int
        Crystals asked for in one run of the model.
    timeout_s : float
        Longest silence allowed, s: between start, batches and end of a run.
    environment : tuple of str
        Names of variables that the model may see beside the few of :data:`generators.adapters.process.PASSED`; their
        values are ours when it is run.
    cache : str or None
        Folder that keeps finished runs, so that they are never run twice; None: a temporary one.
    max_failures : int
        Runs lost in a row after which sampling stops.
    tries : int
        Runs, at most, that one batch of indices may take to fill.
    grace_s : float
        Between SIGTERM and SIGKILL, s.
    """

    batch: int
    timeout_s: float
    environment: tuple[str, ...]
    cache: str | None
    max_failures: int
    tries: int
    grace_s: float

    @classmethod
    def checked(
        cls,
        owner: str,
        *,
        batch: Any,
        timeout_s: Any,
        environment: Any,
        cache: Any,
        max_failures: Any,
        tries: Any,
        grace_s: Any,
    ) -> Running:
        """Check what a user gave.

        Raises
        ------
        ValueError
            It names the option.
        """
        names = texts(owner, "environment", environment)
        for name in names:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(
                    f"{owner}: the option environment takes names of variables, not {name.partition('=')[0]!r} with "
                    "a value: values are taken from our own environment when the model is run"
                )
        return cls(
            whole(owner, "batch", batch),
            seconds(owner, "timeout_s", timeout_s),
            names,
            None if cache is None else path(owner, "cache", cache),
            whole(owner, "max_failures", max_failures),
            whole(owner, "tries", tries),
            seconds(owner, "grace_s", grace_s),
        )

    def as_options(self) -> dict[str, Any]:
        """Return the options as they are stored."""
        return {
            "batch": self.batch,
            "timeout_s": self.timeout_s,
            "environment": list(self.environment),
            "cache": self.cache,
            "max_failures": self.max_failures,
            "tries": self.tries,
            "grace_s": self.grace_s,
        }
