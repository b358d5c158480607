"""Generator states as content-addressed files: any worker can load them, any round can be replayed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.registry import load_generator, make_generator

if TYPE_CHECKING:
    from generators.base import Generator
    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec


def initial_generator(spec: CampaignSpec) -> Generator:
    """Make the generator that samples round 1: the one that the spec names, or the mix with its shares."""
    if len(spec.generator) == 1:
        only = spec.generator[0]
        return make_generator(only.name, **only.options)
    members = [(part.name, part.share, part.options) for part in spec.generator]
    return make_generator("mixture", members=members)


def updates_of(generator: Generator) -> list[dict[str, Any]]:
    """Give what the last update of a generator, or of each member of a mix, did; baselines have nothing to tell.

    Returns
    -------
    list of dict
        ``generator`` and what its ``last_update`` says.
    """
    members = getattr(generator, "members", (generator,))
    told = [(member.name, getattr(member, "last_update", None)) for member in members]
    return [{"generator": name, **what} for name, what in told if what]


def save_state(files: Blobs, generator: Generator) -> str:
    """Store a generator's state; the same state has the same hash.

    Returns
    -------
    str
        sha256 in hexadecimal.
    """
    with tempfile.TemporaryDirectory(prefix="nucleate-state-") as directory:
        generator.save(Path(directory))
        return files.put_directory(Path(directory))


def load_state(files: Blobs, sha256: str) -> Generator:
    """Load a generator's state by its hash."""
    with tempfile.TemporaryDirectory(prefix="nucleate-state-") as directory:
        target = Path(directory) / "state"
        files.get_directory(sha256, target)
        return load_generator(target)
