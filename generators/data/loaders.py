"""Read crystals of one's own: folders of CIFs, extended XYZ, and tables laid out as the public CDVAE sets are.

A loader gives entries and, for every row that can't become one, a reason: a bad row never stops the others. What it
gives has not passed the gate yet: :func:`generators.data.gate.sift` judges values, sizes and duplicates.

Columns of Perov-5 and MP-20: T. Xie et al., arXiv:2110.06197, https://github.com/txie-93/cdvae (``data/``). Perov-5 is
of I. E. Castelli et al., Energy Environ. Sci. 5, 5814 and 9034 (2012); its ``heat_ref`` is kept as
``heat_of_formation``, the smaller of its two gaps (``ind_gap``) as ``band_gap``; ``heat_all`` (against all phases of
that work's pool instead of its reference phases) is not read.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ase.io import read as ase_read
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from generators.crystals.duplicates import exact_primitive
from generators.crystals.symmetry import prototype_key
from generators.crystals.validity import check_structure, read_cif_text, read_structures
from generators.data.dataset import PROPERTY_UNITS, Entry
from generators.data.gate import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

COLUMNS = {
    **{name: name for name in PROPERTY_UNITS},
    "formation_energy_per_atom": "formation_energy",
    "e_above_hull": "energy_above_hull",
    "heat_ref": "heat_of_formation",
    "ind_gap": "band_gap",
    "dir_gap": "direct_band_gap",
}
"""Column (or key) that a property is read from; values must be in the units of PROPERTY_UNITS. Others are not read."""
ENERGY_COLUMN = "energy_per_atom"
"""eV/atom; ``energy`` in extended XYZ is that of the whole cell."""
LABEL_COLUMNS = ("label", "material_id", "id", "name")
FILE_COLUMNS = ("file", "filename", "cif", "name", "label", "material_id", "id")
_OTHER_COLUMN = re.compile(
    r"(unnamed0|index|number|(pretty)?formula|composition|n?elements|n(sites|atoms)|spacegroup(number|symbol)?(conv)?|"
    r"crystalsystem|heatall|a|b|c|alpha|beta|gamma|volume|density|split|fold|(mp|icsd|cod|oqmd|jarvis|task|entry)ids?)?"
)
"""Letters and digits of columns that hold no property of ours: those of the public tables and what crystals tell."""


class Loaded(NamedTuple):
    """What a source held."""

    entries: list[Entry]
    rejected: list[Rejected]


@dataclass
class _Collector:
    """Turns rows into entries or reasons."""

    source: str
    on_row: Callable[[int], None] | None = None
    on_note: Callable[[str], None] | None = None
    entries: list[Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, label: str, structure: Structure, values: Mapping[str, object], energy: object = None) -> None:
        """Take one crystal with its properties as they were read, or say why not."""
        try:
            properties = _properties(values)
            per_atom = None if _empty(energy) else _number(ENERGY_COLUMN, energy)
            if reasons := check_structure(structure):
                raise ValueError("; ".join(reasons))  # noqa: TRY301 - one way out for all that keeps a row out
            bare = Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)
            primitive = exact_primitive(bare)
            key = prototype_key(primitive)
        except ValueError as error:
            self.refuse(label, str(error))
            return
        self.entries.append(Entry(label, primitive, key, self.source, per_atom, properties))
        self._count()

    def refuse(self, label: str, reason: str) -> None:
        """Note why a row can't become an entry."""
        self.rejected.append(Rejected(label, reason))
        self._count()

    def note(self, text: str) -> None:
        """Tell what a user should know of the source as a whole."""
        if self.on_note is not None:
            self.on_note(text)

    def _count(self) -> None:
        if self.on_row is not None:
            self.on_row(len(self.entries) + len(self.rejected))

    def result(self) -> Loaded:
        """Give what was read."""
        return Loaded(self.entries, self.rejected)


def load(
    source: Path,
    table: Path | None = None,
    on_row: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Loaded:
    """Read crystals by the kind of the source: a folder of CIFs, ``.csv[.gz]``, ``.extxyz[.gz]``, or one crystal file.

    Parameters
    ----------
    source : pathlib.Path
    table : pathlib.Path, optional
        Properties of a folder's CIFs, by file name.
    on_row : callable, optional
        Called with the number of rows read so far.
    on_note : callable, optional
        Called with what is worth knowing though no row is refused for it: columns of a table that look like properties
        and are none that is understood, crystals of a folder that a table has no row for.

    Raises
    ------
    ValueError, FileNotFoundError
        If the source as a whole can't be read; the message says what would be right.
    """
    name = source.name.lower().removesuffix(".gz")
    if table is not None and not source.is_dir():
        raise ValueError(f"{source}: a table of properties by file name belongs to a folder of CIFs")
    if source.is_dir():
        return load_cifs(source, table, on_row, on_note)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if name.endswith(".csv"):
        return load_table(source, on_row, on_note)
    if name.endswith((".extxyz", ".xyz")):
        return load_extxyz(source, on_row)
    rows = _Collector(source.name, on_row)
    _add_file(rows, source, {})
    return rows.result()


def load_cifs(
    folder: Path,
    table: Path | None = None,
    on_row: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Loaded:
    """Read the CIFs of a folder.

    Parameters
    ----------
    folder : pathlib.Path
    table : pathlib.Path, optional
        CSV with a column of file names (with or without ``.cif``; ``file``, ``filename``, ``name``, ...) and columns of
        properties. A file that it does not name has none.
    on_row, on_note : callable, optional
        As for :func:`load`.

    Raises
    ------
    ValueError, FileNotFoundError
        If the folder holds no CIF, or the table is not there or has no column of file names.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".cif")
    if not paths:
        raise ValueError(f"{folder}: there is no .cif file in it")
    rows = _Collector(folder.name, on_row, on_note)
    values = {} if table is None else _by_file(table, {p.stem for p in paths}, rows)
    lacking = 0
    for path in paths:
        before = len(rows.entries)
        _add_file(rows, path, values.get(path.stem, {}))
        lacking += 0 if path.stem in values else len(rows.entries) - before
    if table is not None and lacking:
        have = "has" if lacking == 1 else "have"
        rows.note(f"{lacking} of the {len(rows.entries)} crystals of {folder} {have} no row in {table}")
    return rows.result()


def load_table(
    path: Path, on_row: Callable[[int], None] | None = None, on_note: Callable[[str], None] | None = None
) -> Loaded:
    """Read a CSV with a column ``cif`` that holds the text of a CIF, as Perov-5 and MP-20 are laid out.

    Parameters
    ----------
    path : pathlib.Path
        May be gzipped. Properties come from the columns in :data:`COLUMNS`, labels from ``material_id``.
    on_row, on_note : callable, optional
        As for :func:`load`.

    Raises
    ------
    ValueError
        If it is no CSV or has no column ``cif``.
    """
    rows = _Collector(path.name.partition(".")[0], on_row, on_note)
    for number, row in _rows(path, ("cif",), rows):
        label = _label(row, rows.source, number)
        if None in row or None in row.values():
            rows.refuse(label, f"row {number} has not as many cells as the header has columns")
            continue
        try:
            structure = read_cif_text(row["cif"])
        except ValueError as error:
            rows.refuse(label, str(error))
            continue
        rows.add(label, structure, row, row.get(ENERGY_COLUMN))
    return rows.result()


def load_extxyz(path: Path, on_row: Callable[[int], None] | None = None) -> Loaded:
    """Read extended XYZ; properties are read from keys of the comment line.

    Parameters
    ----------
    path : pathlib.Path
        May be gzipped. ``energy`` is taken to be that of the cell in eV, ``energy_per_atom`` in eV/atom.
    on_row : callable, optional

    Raises
    ------
    ValueError
        If it is no text, or no frame begins anywhere.
    """
    rows = _Collector(path.name.partition(".")[0], on_row)
    number = 0
    for number, (line, frame) in enumerate(_frames(_text(path)), start=1):
        label = f"{rows.source}-{number:05d}"
        if frame is None:
            rows.refuse(
                label, f"frame {number} (line {line}) can't be read: its number of atoms is not that of its lines"
            )
            continue
        try:
            atoms = ase_read(io.StringIO(frame), index=0, format="extxyz")
        except Exception as error:  # noqa: BLE001 - whatever a reader makes of a broken frame, the others go on
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            rows.refuse(label, f"frame {number} (line {line}) can't be read: {why}")
            continue
        label = _label(atoms.info, rows.source, number)
        if atoms.cell.rank != 3:
            rows.refuse(label, 'it has no cell (Lattice="..." in the comment line), so it is a molecule')
            continue
        energy = atoms.info.get(ENERGY_COLUMN)
        if energy is None and atoms.calc is not None and "energy" in atoms.calc.results:
            energy = float(atoms.calc.results["energy"]) / len(atoms)
        rows.add(label, AseAtomsAdaptor.get_structure(atoms), atoms.info, energy)
    if number == 0:
        raise ValueError(f"{path}: no frame begins in it: a line with the number of atoms, then one with Lattice=")
    return rows.result()


def _add_file(rows: _Collector, path: Path, values: Mapping[str, object]) -> None:
    label = _label({"label": path.stem}, rows.source, 0)
    try:
        structures = read_structures(path)
    except ValueError as error:
        rows.refuse(label, str(error).removeprefix(f"{path}: "))
        return
    for number, structure in enumerate(structures, start=1):
        rows.add(label if len(structures) == 1 else f"{label}/{number}", structure, values, values.get(ENERGY_COLUMN))


def _by_file(table: Path, stems: set[str], rows: _Collector) -> dict[str, dict[str, str]]:
    """Read a table of properties; a row that names no file of the folder is reported."""
    if not table.is_file():
        wrong = "is no file" if table.exists() else "is not there"
        raise FileNotFoundError(f"the table {table} {wrong}; it should be a CSV with a column of file names")
    values: dict[str, dict[str, str]] = {}
    for number, row in _rows(table, FILE_COLUMNS, rows):
        column = next(name for name in FILE_COLUMNS if name in row)
        if None in row or None in row.values():
            rows.refuse(f"{table.name} row {number}", f"row {number} has not as many cells as the header has columns")
            continue
        stem = re.sub(r"\.cif$", "", row[column].strip(), flags=re.IGNORECASE)
        if stem not in stems:
            rows.refuse(
                f"{table.name} row {number}", f"row {number} names {row[column]!r}, which is no CIF of the folder"
            )
        elif stem in values:
            rows.refuse(f"{table.name} row {number}", f"row {number} names {row[column]!r} a second time")
        else:
            values[stem] = row
    return values


class _Unread:
    """Finds the columns of a table that look like properties, for they hold numbers, but are not understood."""

    def __init__(self, header: Sequence[str]) -> None:
        self._numbers_seen = dict.fromkeys((name for name in header if not _is_known(name)), False)

    def see(self, row: Mapping[str, str | None]) -> None:
        """Look at a row: a column with anything but numbers in it is no property."""
        for name in [*self._numbers_seen]:
            cell = (row[name] or "").strip()
            if re.match(r"[-+]?\.?\d", cell):
                self._numbers_seen[name] = True
            elif cell.lower() not in {"", "nan", "none", "null", "na", "n/a", "-"}:
                del self._numbers_seen[name]

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return [name for name, seen in self._numbers_seen.items() if seen]


def _is_known(column: str) -> bool:
    used = {*COLUMNS, ENERGY_COLUMN, *FILE_COLUMNS, *LABEL_COLUMNS}
    return column in used or _OTHER_COLUMN.fullmatch(re.sub(r"[^a-z0-9]", "", column.lower())) is not None


def _rows(path: Path, one_of: tuple[str, ...], told: _Collector) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a table by number; note at its end which columns were not understood."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        header = reader.fieldnames or []
        if not set(one_of) & set(header):
            found = ", ".join(name or "(no name)" for name in header)
            raise ValueError(f"{path}: it has no column {' or '.join(one_of)}; its columns are: {found or 'none'}")
        unread = _Unread(header)
        for number, row in enumerate(reader, start=1):
            unread.see(row)
            yield number, row
    except csv.Error as error:
        raise ValueError(f"{path}: can't be read as CSV near line {reader.line_num}: {error}") from error
    if unread.columns:
        verb = "is" if len(unread.columns) == 1 else "are"
        known = ", ".join(f"{name} ({unit})" for name, unit in (*PROPERTY_UNITS.items(), (ENERGY_COLUMN, "eV/atom")))
        told.note(f"{', '.join(unread.columns)} of {path} {verb} not understood and left out; these are read: {known}")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: can't be read as {'gzipped ' if path.suffix == '.gz' else ''}text: {error}"
        ) from error


def _frames(text: str) -> Iterator[tuple[int, str | None]]:
    """Part extended XYZ into frames with the line each begins at; ``None`` for one with too few or too many lines.

    A frame begins where a line holds one integer alone and the next one is a comment; the next frame is looked for
    anew, so that a wrong count costs its own frame only.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    begins = [i for i in range(len(lines) - 1) if lines[i].strip().isdigit() and not _is_atom(lines[i + 1])]
    if not begins:
        return
    if any(line.strip() for line in lines[: begins[0]]):
        yield 1, None
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        frame = lines[begin:end]
        while frame and not frame[-1].strip():
            frame.pop()
        whole = len(frame) == int(frame[0]) + 2
        yield begin + 1, "\n".join(frame) + "\n" if whole else None


def _is_atom(line: str) -> bool:
    return re.match(r"\s*[A-Z][a-z]?(\s+[-+.\deE]+){3}", line) is not None


def _label(row: Mapping[str, object], stem: str, number: int) -> str:
    """Name a row by its own label; a bare number gets the source before it, so that two sources don't collide."""
    for column in LABEL_COLUMNS:
        text = str(row.get(column) or "").strip()
        if text:
            return f"{stem}-{text}" if text.isdigit() else text
    return f"{stem}-{number:05d}"


def _properties(values: Mapping[str, object]) -> dict[str, float]:
    found: dict[str, float] = {}
    for column, name in COLUMNS.items():
        if column in values and not _empty(values[column]):
            found[name] = _number(column, values[column])
    return found


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _number(column: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(
            f"its {column} {str(value)[:40]!r} is no number; leave it empty where it is not known"
        ) from None
