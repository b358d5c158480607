"""What a UPF file says of itself: element, valence, functional, and whether it is whole.

Both forms in use are read: version 2, whose ``PP_HEADER`` is a tag with attributes, and version 1, whose header is
lines of text. Neither is handed to an XML parser: files come from strangers, version 1 is no XML at all, and only the
header matters here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 64 * 1024**2
"""A larger file is no pseudopotential: the largest in common use (PAW with GIPAW data) are below 20 MB."""

_HEADER_V2 = re.compile(rb"""<PP_HEADER((?:\s+[A-Za-z_]\w*\s*=\s*(?:"[^"]*"|'[^']*'))+)\s*/?>""")
_ATTRIBUTE = re.compile(r"""([A-Za-z_]\w*)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_LAST_SECTION = re.compile(rb"</PP_\w+>\Z")
_ELEMENT = re.compile(r"[A-Z][a-z]?\Z")

# Labels of Quantum ESPRESSO's Modules/funct.f90: the four words are exchange, correlation, and their gradient parts.
# Older files write PBE twice where newer ones write PBX PBC; pw.x takes both for the same functional.
_FUNCTIONALS: dict[tuple[str, ...], str] = {
    ("PBE",): "PBE",
    ("SLA", "PW", "PBE", "PBE"): "PBE",
    ("SLA", "PW", "PBX", "PBC"): "PBE",
    ("PBESOL",): "PBEsol",
    ("SLA", "PW", "PSX", "PSC"): "PBEsol",
    ("PZ",): "LDA",
    ("LDA",): "LDA",
    ("SLA", "PZ", "NOGX", "NOGC"): "LDA",
    ("PW",): "LDA-PW",
    ("SLA", "PW", "NOGX", "NOGC"): "LDA-PW",
}


class UpfError(ValueError):
    """A file that is no UPF, or not all of one.

    The message says what is wrong, without the path.
    """


@dataclass(frozen=True)
class UpfHeader:
    """Header of a UPF file.

    Parameters
    ----------
    element : str
        Symbol.
    z_valence : float
        Valence electrons that it brings.
    functional : str
        ``PBE``, ``PBEsol``, ``LDA``, ``LDA-PW``, or the file's own words where it is none of these.
    relativistic : str
        ``scalar``, ``full`` or ``no``.
    pseudo_type : str
        ``NC``, ``US`` or ``PAW`` (``SL`` and ``1/r`` are passed on as they are).
    core_correction : bool
        Whether it has a non-linear core correction.
    n_projectors : int
    n_wavefunctions : int
        Atomic wavefunctions it carries for the starting guess; 0 makes pw.x start from random ones.
    wfc_cutoff_ry, rho_cutoff_ry : float or None
        The file's own recommendation (Ry); ``None`` where it makes none. ONCVPSP writes its radial grid's end into
        ``rho_cutoff`` and no ``wfc_cutoff``; such a value is no recommendation and is not given.
    """

    element: str
    z_valence: float
    functional: str
    relativistic: str
    pseudo_type: str
    core_correction: bool
    n_projectors: int
    n_wavefunctions: int
    wfc_cutoff_ry: float | None
    rho_cutoff_ry: float | None


def read_header(path: Path) -> UpfHeader:
    """Read a file's header and check that the file is whole.

    Raises
    ------
    UpfError
        If it is no UPF, or ends before its end.
    OSError
        If it can't be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UpfError(f"it has more than {MAX_BYTES // 1024**2} MB, which no UPF has")
    return parse_header(path.read_bytes())


def parse_header(content: bytes) -> UpfHeader:
    """Read the header from a file's content, as :func:`read_header` does.

    Raises
    ------
    UpfError
        If it is no UPF, or ends before its end.
    """
    # what a person wrote about the file comes first and may look like anything
    start = max(content.find(b"</PP_INFO>"), 0)
    if found := _HEADER_V2.search(content, start):
        if not content.rstrip().endswith(b"</UPF>"):
            raise UpfError("it is cut short: its last line is not </UPF>")
        return _version_2(found.group(1).decode("utf-8", "replace"))
    begin = content.find(b"<PP_HEADER>", start)
    end = content.find(b"</PP_HEADER>", begin)
    if 0 <= begin < end:
        if content.find(b"<PP_RHOATOM>", end) < 0 or not _LAST_SECTION.search(content.rstrip()[-80:]):
            raise UpfError("it is cut short: its last section has no end")
        # spin-orbit data are a section of their own in this version
        relativistic = "full" if content.find(b"<PP_ADDINFO>", end) > 0 else "scalar"
        return _version_1(content[begin + len(b"<PP_HEADER>") : end].decode("utf-8", "replace"), relativistic)
    raise UpfError("it is no UPF file: it has no PP_HEADER that can be read")


def functional_name(words: str) -> str:
    """Give the common name of a functional that a UPF header names in its own way.

    Examples
    --------
    >>> functional_name(" SLA  PW   PBX  PBC")
    'PBE'
    >>> functional_name("pbesol")
    'PBEsol'
    """
    key = tuple(re.split(r"[\s+-]+", words.strip().upper()))
    return _FUNCTIONALS.get(key, " ".join(words.split()))


def _version_2(text: str) -> UpfHeader:
    values = {name: (double or single).strip() for name, double, single in _ATTRIBUTE.findall(text)}
    wfc = _positive(values.get("wfc_cutoff"))
    return _checked(
        UpfHeader(
            element=_need(values, "element").capitalize(),
            z_valence=_number(_need(values, "z_valence"), "z_valence"),
            functional=functional_name(_need(values, "functional")),
            relativistic=values.get("relativistic", "scalar").lower(),
            pseudo_type=values.get("pseudo_type", "NC").upper().replace("USPP", "US"),
            core_correction=values.get("core_correction", "F").upper().strip(".").startswith("T"),
            n_projectors=int(_number(values.get("number_of_proj", "0"), "number_of_proj")),
            n_wavefunctions=int(_number(values.get("number_of_wfc", "0"), "number_of_wfc")),
            wfc_cutoff_ry=wfc,
            # Without the other it is not a recommendation (see UpfHeader).
            rho_cutoff_ry=_positive(values.get("rho_cutoff")) if wfc else None,
        )
    )


def _version_1(text: str, relativistic: str) -> UpfHeader:
    """Read a header of lines, in the order that Quantum ESPRESSO's read_pseudo_header reads them."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 11:
        raise UpfError(f"its header has {len(lines)} lines instead of 11 or more")
    # version, element, type, core correction, functional, z, total energy, cutoffs, lmax, mesh, numbers
    cutoffs = lines[7].split()
    wfc = _positive(cutoffs[0]) if cutoffs else None
    counts = lines[10].split()
    return _checked(
        UpfHeader(
            element=lines[1].split()[0].capitalize() if lines[1] else "",
            z_valence=_number(lines[5].split()[0] if lines[5] else "", "z_valence"),
            functional=functional_name(" ".join(lines[4].split()[:4])),
            relativistic=relativistic,
            pseudo_type=lines[2].split()[0].upper() if lines[2] else "NC",
            core_correction=lines[3].upper().strip(".").startswith("T"),
            n_projectors=int(_number(counts[1] if len(counts) > 1 else "", "number of projectors")),
            n_wavefunctions=int(_number(counts[0] if counts else "", "number of wavefunctions")),
            wfc_cutoff_ry=wfc,
            rho_cutoff_ry=_positive(cutoffs[1]) if wfc and len(cutoffs) > 1 else None,
        )
    )


def _checked(header: UpfHeader) -> UpfHeader:
    if not _ELEMENT.match(header.element):
        raise UpfError(f"its header names no element: {header.element[:20]!r}")
    if not 0 < header.z_valence < 120:
        raise UpfError(f"its header gives {header.z_valence} valence electrons")
    return header


def _need(values: dict[str, str], name: str) -> str:
    if not values.get(name):
        raise UpfError(f"its header has no {name}")
    return values[name]


def _number(text: str, name: str) -> float:
    try:
        return float(text.replace("D", "E").replace("d", "e"))
    except ValueError as error:
        raise UpfError(f"its header has {text[:20]!r} for {name}") from error


def _positive(text: str | None) -> float | None:
    value = _number(text, "a cutoff") if text else 0.0
    return value if value > 0 else None
