"""Which families there are: those that are installed and those that can be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import DftError
from dft_inputs.pseudos.family import installed_names, load_family
from dft_inputs.pseudos.manifest import (
    MANIFEST,
    FolderSource,
    Manifest,
    ManifestError,
    read_manifest,
    shipped_manifests,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A family in the list.

    Parameters
    ----------
    name, functional, relativistic, version, title, licence, cutoffs_from : str
        See :class:`~dft_inputs.pseudos.manifest.Manifest`.
    state : {"installed", "available", "damaged"}
    elements : tuple of str
        Sorted; empty if only its source can say.
    without_cutoff : tuple of str
        Elements for which nobody recommends a cutoff.
    origin : str
        Where it is from.
    citation : tuple of str
    """

    name: str
    state: str
    functional: str
    relativistic: str
    version: str
    elements: tuple[str, ...]
    without_cutoff: tuple[str, ...]
    origin: str
    title: str
    licence: str
    citation: tuple[str, ...]
    cutoffs_from: str

    def has(self, elements: Iterable[str]) -> bool:
        """Tell whether it has all of these elements, or may have them."""
        return not self.elements or set(elements) <= set(self.elements)

    def as_dict(self) -> dict[str, Any]:
        """Give it for JSON."""
        return asdict(self)


def catalogue(root: Path) -> list[Row]:
    """List installed and available families, by name.

    Raises
    ------
    DftError
        206 if the root may not be read.
    """
    known = shipped_manifests()
    rows = {name: _row(manifest, "available") for name, manifest in known.items()}
    for name in installed_names(root):
        try:
            load_family(name, root)
            manifest = read_manifest(root / name / MANIFEST)
        except (DftError, ManifestError, OSError):
            rows[name] = Row(name, "damaged", "?", "?", "?", (), (), "?", "", "", (), "")
            continue
        ours = known.get(name)
        rows[name] = _row(ours if ours is not None and ours.files else manifest, "installed")
    return [rows[name] for name in sorted(rows)]


def _row(manifest: Manifest, state: str) -> Row:
    return Row(
        name=manifest.name,
        state=state,
        functional=manifest.functional,
        relativistic=manifest.relativistic,
        version=manifest.version,
        elements=tuple(sorted(manifest.files)),
        without_cutoff=tuple(sorted(e for e, entry in manifest.files.items() if not entry.ecutwfc_ry)),
        origin=", ".join(
            source.path if isinstance(source, FolderSource) else "web" if source.kind != "wheel" else "wheel"
            for source in manifest.sources
        ),
        title=manifest.title,
        licence=manifest.licence,
        citation=manifest.citation,
        cutoffs_from=manifest.cutoffs_from,
    )
