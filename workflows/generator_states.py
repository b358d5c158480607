"""Generator states as content-addressed files: any worker can load them, any round can be replayed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.registry import anchored, load_generator, make_generator

if TYPE_CHECKING:
    from generators.base import Generator
    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec, GeneratorShare


def shares_of(spec: CampaignSpec, base: Path | None) -> tuple[GeneratorShare, ...]:
    """Give the generators of a campaign with the paths in their options taken from the directory of its file.

    The spec keeps them as they are written, as it does those of ``known``: its hash is the same wherever it lies.

    Parameters
    ----------
    spec : CampaignSpec
    base : pathlib.Path or None
        None: they start in the working directory.
    """
    if base is None:
        return spec.generator
    start = base.resolve()
    return tuple(
        share.model_copy(update={"options": anchored(share.name, share.options, start)}) for share in spec.generator
    )


def initial_generator(spec: CampaignSpec, base: Path | None = None) -> Generator:
    """Make the generator that samples round 1: the one that the spec names, or the mix with its shares.

    Parameters
    ----------
    spec : CampaignSpec
    base : pathlib.Path, optional
        Directory of the campaign's file, where relative paths in options start.
    """
    shares = shares_of(spec, base)
    if len(shares) == 1:
        return make_generator(shares[0].name, **shares[0].options)
    return make_generator("mixture", members=[(share.name, share.share, share.options) for share in shares])


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
