"""Crystals of the user's own that count as known: read from files, refused all at once, kept as one stored file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from generators.crystals.validity import check_structure, read_structures
from workflows.problems import Problem
from workflows.spec import MAX_KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflows.spec import CampaignSpec

    Known = list[tuple[str, Structure]]

_ENDINGS = (".cif", ".vasp", ".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")


class KnownFilesError(Exception):
    """Files of known crystals that can't be taken, with all that is wrong with them.

    Parameters
    ----------
    problems : sequence of Problem
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def read_known(spec: CampaignSpec, base: Path) -> Known:
    """Read the crystals that a campaign names as known.

    Parameters
    ----------
    spec : CampaignSpec
    base : pathlib.Path
        Directory of the campaign's file; relative paths start there.

    Returns
    -------
    list of (str, pymatgen.core.Structure)
        The file as the campaign names it (with ``#2`` for its second crystal), and an ordered structure with plain
        elements, in the order of the campaign; a folder's files by name.

    Raises
    ------
    KnownFilesError
        With everything that is wrong with any of the files.
    """
    known: Known = []
    problems = []
    for index, entry in enumerate(spec.known):
        key = f"known[{index}]"
        try:
            files = list(_files(entry, base))
        except OSError as error:
            problems.append(Problem(key, f"can't be read: {error.strerror}", value=entry))
            continue
        except ValueError as error:
            problems.append(Problem(key, str(error), value=entry))
            continue
        for label, path in files:
            try:
                known += _crystals(label, path)
            except (ValueError, OSError) as error:
                problems.append(Problem(key, str(error).removeprefix(f"{path}: "), value=label))
    if not problems and len(known) > MAX_KNOWN:
        problems.append(Problem("known", f"names {len(known):,} crystals; at most {MAX_KNOWN:,} can be kept"))
    if problems:
        raise KnownFilesError(problems)
    return known


def check_known(spec: CampaignSpec, base: Path) -> list[Problem]:
    """List what is wrong with the files of known crystals; see :func:`read_known`."""
    try:
        read_known(spec, base)
    except KnownFilesError as error:
        return error.problems
    return []


def to_bytes(known: Known) -> bytes:
    """Write known crystals as JSON: the same crystals give the same bytes, on any machine."""
    content = [{"label": label, "structure": _plain(structure)} for label, structure in known]
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def from_bytes(data: bytes) -> Known:
    """Read what :func:`to_bytes` wrote."""
    return [(entry["label"], Structure.from_dict(entry["structure"])) for entry in json.loads(data)]


def _files(entry: str, base: Path) -> Iterator[tuple[str, Path]]:
    path = base / Path(entry).expanduser()
    if not path.exists():
        raise ValueError(f"there is no such file or folder; paths start at {base.resolve()}")
    if not path.is_dir():
        yield entry, path
        return
    inside = sorted(file for file in path.iterdir() if _is_crystal_file(file))
    if not inside:
        raise ValueError("has no crystal files in it; it needs .cif, .vasp, .extxyz, .extxyz.gz or POSCAR files")
    for file in inside:
        yield f"{entry.rstrip('/')}/{file.name}", file


def _is_crystal_file(path: Path) -> bool:
    name = path.name.lower()
    named = name.endswith(_ENDINGS) or "poscar" in name or "contcar" in name
    return named and not name.startswith(".") and path.is_file()


def _crystals(label: str, path: Path) -> Known:
    found: Known = []
    for number, read in enumerate(read_structures(path), start=1):
        # Oxidation states, magnetic moments and the like do not tell crystals apart here.
        structure = Structure(read.lattice.matrix, [site.specie.symbol for site in read], read.frac_coords)
        label_ = label if number == 1 else f"{label}#{number}"
        if reasons := check_structure(structure):
            which = f"crystal {number}: " if number > 1 else ""
            raise ValueError(f"{which}{'; '.join(reasons)}")
        found.append((label_, structure))
    return found


def _plain(structure: Structure) -> dict[str, object]:
    # pymatgen's version would make another hash of the same crystals
    return {name: value for name, value in structure.as_dict(verbosity=0).items() if name != "@version"}
