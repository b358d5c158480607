"""Modes of what is made aside and then put in place: temporary files are stricter than the user's umask asks for."""

from __future__ import annotations

import os


def as_asked(mode: int) -> int:
    """Give a mode as this process's umask leaves it; `nucleate` keeps all to its user unless told otherwise."""
    umask = os.umask(0o077)  # the only way to read it is to set it
    os.umask(umask)
    return mode & ~umask
