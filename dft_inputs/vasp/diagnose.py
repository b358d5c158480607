"""Why a VASP run ended as it did: small rules in the order of their priority, each with the words it looks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dft_inputs.causes import SUCCESS
from dft_inputs.diagnosis import Diagnosis, Evidence
from dft_inputs.files import NoRunError, find_files
from dft_inputs.logs import trouble_in
from dft_inputs.vasp.errors import ERROR_RULES, SUGGESTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dft_inputs.files import RunFiles
    from dft_inputs.texts import Text

OUTPUTS = ("outcar", "vasprun", "oszicar", "vasp.out", "xdatcar")

_RELAXES = {1, 2, 3}
"""IBRION of the minimisers."""

_OUTCAR_DATE = re.compile(r"executed on +\S* *date +(\S+ +\S+)")
_XML_DATE = re.compile(r'name="date"[^>]*>\s*([\d ]+?)\s*</i>\s*<i name="time"[^>]*>\s*([\d: ]+?)\s*</i>')
_STEP = re.compile(r"^-+ Iteration +(\d+)\( *(\d+)\)", re.MULTILINE)
_ENERGY = re.compile(r"free  energy   TOTEN  = *(\S+)")
_EDIFF_REACHED = "aborting loop because EDIFF is reached"
_IONS_CONVERGED = "reached required accuracy - stopping structural energy minimisation"
_STOPPED = re.compile(r"(soft|hard) stop encountered")
_OUTCAR_END = "General timing and accounting informations for this job"
_XML_END = "</modeling>"


@dataclass(frozen=True)
class Fault:
    """One answer.

    Parameters
    ----------
    code : int
    evidence : tuple of Evidence
    suggestion : str
        In place of the one for the code.
    """

    code: int
    evidence: tuple[Evidence, ...] = ()
    suggestion: str = ""


@dataclass(frozen=True)
class VaspRunFiles:
    """What a VASP run left, read.

    Parameters
    ----------
    outcar, vasprun, oszicar : Text or None
        Of the run that was begun last.
    stdout : tuple of Text
        Standard output and error, scheduler's logs; the newest first.
    has_contcar : bool
        Whether there is a geometry that is not the input's.
    told_to_stop_in_time : bool
        Whether custodian's record says that it wrote STOPCAR for want of wall-time.
    """

    outcar: Text | None
    vasprun: Text | None
    oszicar: Text | None
    stdout: tuple[Text, ...]
    has_contcar: bool
    told_to_stop_in_time: bool

    @cached_property
    def nsw(self) -> int:
        """Ionic steps allowed."""
        return self._parameter("NSW", 0)

    @cached_property
    def nelm(self) -> int:
        """Electronic steps allowed."""
        return self._parameter("NELM", 60)

    @cached_property
    def relaxes(self) -> bool:
        """Whether ions are moved by a minimiser."""
        return self.nsw > 0 and self._parameter("IBRION", -1 if self.nsw in {0, 1} else 0) in _RELAXES

    def _parameter(self, name: str, default: int) -> int:
        if self.outcar is not None and (found := self._in_outcar(self.outcar, name)):
            return int(found.group(1))
        if self.vasprun is not None:
            values = re.findall(rf'<i type="int" name="{name}">\s*(-?\d+)\s*</i>', self.vasprun.content)
            if values:
                return int(values[-1])
        return default

    @staticmethod
    def _in_outcar(outcar: Text, name: str) -> re.Match[str] | None:
        return re.search(rf"^ +{name} += +(-?\d+)", outcar.content, re.MULTILINE)

    @cached_property
    def said(self) -> tuple[Text, ...]:
        """Where VASP speaks of what breaks."""
        return (*self.stdout, *(text for text in (self.outcar,) if text is not None))


def diagnose_vasp(directory: Path) -> Diagnosis:
    """Explain a run directory of VASP.

    Parameters
    ----------
    directory : pathlib.Path
        Files are found by content, whatever they are called; of several runs the last counts.

    Returns
    -------
    Diagnosis

    Raises
    ------
    NoRunError
        If VASP has left nothing there.
    """
    return diagnose_vasp_files(find_files(directory))


def diagnose_vasp_files(files: RunFiles) -> Diagnosis:
    """Explain a run directory of VASP whose files have been looked at; see :func:`diagnose_vasp`."""
    left = read_files(files)
    fault = next(fault for rule in _RULES if (fault := rule(left)) is not None)
    return Diagnosis("vasp", fault.code, fault.evidence, fault.suggestion or SUGGESTIONS.get(fault.code, ""))


def read_files(files: RunFiles) -> VaspRunFiles:
    """Read what counts of a run directory.

    Raises
    ------
    NoRunError
        If VASP has left nothing there.
    """
    is_input = files.has("incar") and files.has("poscar")
    if not files.has(*OUTPUTS) and not (is_input and files.has("log", "empty")):
        raise NoRunError(
            files.directory,
            "holds inputs of VASP, and nothing that a run has written" if is_input else "holds no output of VASP",
        )
    return VaspRunFiles(
        outcar=_latest(files.texts("outcar"), _OUTCAR_DATE),
        vasprun=_latest(files.texts("vasprun"), _XML_DATE),
        oszicar=next(iter(files.texts("oszicar")), None),
        stdout=(*files.texts("vasp.out")[:1], *files.texts("log")),
        has_contcar=sum(one.kind == "poscar" for one in files.files) > 1
        or any("contcar" in one.path.name.lower() for one in files.of("poscar")),
        told_to_stop_in_time=any("WalltimeHandler" in text for text in files.texts("other")),
    )


def _latest(texts: tuple[Text, ...], date: re.Pattern[str]) -> Text | None:
    """Choose by the date inside; of equal or missing ones the file that was changed last."""

    def when(text: Text) -> str:
        found = date.search(text.content[:4000])
        # 2015.03.18 12:12:14 and 2015 03 18, 12:12:14 sort as they are
        return " ".join(found.groups()) if found else ""

    return max(texts, key=when, default=None)


def _cut_off(left: VaspRunFiles) -> Evidence | None:
    """Give the place where the output ends before its time; ``None`` if it does not."""
    if left.outcar is not None and _OUTCAR_END not in left.outcar:
        end = left.outcar.end()
        return Evidence(end.file, end.line, f"the output ends here, without its timing: {end.text}")
    if left.vasprun is not None and _XML_END not in left.vasprun.content[-200:]:
        end = left.vasprun.end()
        return Evidence(end.file, end.line, f"the file ends here, without `{_XML_END}`: {end.text}")
    if left.outcar is None and left.vasprun is None:
        where = left.oszicar or next(iter(left.stdout), None)
        return Evidence(where.file if where else "OUTCAR", None, "there is no OUTCAR and no vasprun.xml")
    return None


def _stopped_by_stopcar(left: VaspRunFiles) -> Fault | None:
    for text in left.said:
        seen = text.first(_STOPPED)
        if seen is not None and not _says_converged(left):
            return Fault(101 if left.told_to_stop_in_time else 105, (seen,))
    return None


def _says_converged(left: VaspRunFiles) -> bool:
    return any(_IONS_CONVERGED in text for text in left.said)


def _success(left: VaspRunFiles) -> Fault | None:
    """Everything is there and converged; warnings on the way do not matter any more."""
    if _cut_off(left) is not None or any(check(left) is not None for check in _RESULT_CHECKS):
        return None
    seen = []
    if left.outcar is not None:
        marks = ("free  energy   TOTEN", _IONS_CONVERGED, _EDIFF_REACHED, _OUTCAR_END)
        seen = [line for line in map(left.outcar.last, marks) if line is not None]
    elif left.vasprun is not None:
        seen = [line for line in (left.vasprun.last('name="e_0_energy"'), left.vasprun.end()) if line is not None]
    return Fault(SUCCESS, tuple(seen))


def _stopped_from_outside(left: VaspRunFiles) -> Fault | None:
    """Put what stopped a process from outside before what VASP complained of on its way."""
    seen = trouble_in(left.stdout, frozenset({101, 102, 105, 202})) if _cut_off(left) else None
    return Fault(seen[0], (seen[1],)) if seen else None


def _said_by_vasp(left: VaspRunFiles) -> Fault | None:
    for rule in ERROR_RULES:
        for text in left.said:
            seen = text.first(rule.pattern)
            if seen is not None:
                return Fault(rule.code, (seen,), rule.suggestion)
    return None


def _scf_not_converged(left: VaspRunFiles) -> Fault | None:
    """Judge the last electronic cycle: a minimiser may pass through geometries that are hard."""
    if left.outcar is not None:
        steps = list(_STEP.finditer(left.outcar.content))
        if not steps or left.outcar.content.find(_EDIFF_REACHED, steps[-1].start()) >= 0:
            return None
        if int(steps[-1].group(2)) < left.nelm and _cut_off(left):
            return None
        return Fault(410, (left.outcar.at(steps[-1].start()), Evidence(left.outcar.file, None, f"NELM = {left.nelm}")))
    if left.vasprun is not None:
        begin = left.vasprun.content.rfind("<calculation>")
        taken = left.vasprun.content.count("<scstep>", begin) if begin >= 0 else 0
        if taken >= left.nelm > 1:
            text = f"{taken} electronic steps in the last calculation, NELM = {left.nelm}"
            return Fault(410, (Evidence(left.vasprun.file, None, text),))
    return None


def _steps_exhausted(left: VaspRunFiles) -> Fault | None:
    if not left.relaxes or _says_converged(left):
        return None
    if left.outcar is not None:
        steps = list(_STEP.finditer(left.outcar.content))
        if steps and int(steps[-1].group(1)) >= left.nsw and not _cut_off(left):
            text = f"ionic step {steps[-1].group(1)} of NSW = {left.nsw}, and the accuracy is not reached"
            line = left.outcar.at(steps[-1].start())
            return Fault(501, (line, Evidence(left.outcar.file, None, text)))
    elif left.vasprun is not None:
        taken = left.vasprun.content.count("<calculation>")
        if taken >= left.nsw:
            return Fault(501, (Evidence(left.vasprun.file, None, f"{taken} ionic steps of NSW = {left.nsw}"),))
    return None


def _told_by_logs(left: VaspRunFiles) -> Fault | None:
    cut = _cut_off(left)
    seen = trouble_in(left.stdout) if cut else None
    return Fault(seen[0], (seen[1], cut)) if seen and cut else None


def _killed(left: VaspRunFiles) -> Fault | None:
    cut = _cut_off(left)
    return Fault(106, (cut,)) if cut else None


def _not_finite(left: VaspRunFiles) -> Fault | None:
    for text, pattern in ((left.outcar, _ENERGY), (left.vasprun, _XML_ENERGY)):
        if text is None:
            continue
        for found in pattern.finditer(text.content):
            if "nan" in found.group(1).lower() or "inf" in found.group(1).lower():
                return Fault(602, (text.at(found.start()),))
            if "*" in found.group(1):
                return Fault(611, (text.at(found.start()),))
    return None


_XML_ENERGY = re.compile(r'<i name="e_(?:fr|wo|0)_\w+">\s*(\S+)\s*</i>')


def _no_energy(left: VaspRunFiles) -> Fault | None:
    if left.outcar is not None and not _ENERGY.search(left.outcar.content):
        return Fault(611, (Evidence(left.outcar.file, None, "no total energy"),))
    if left.outcar is None and left.vasprun is not None and not _XML_ENERGY.search(left.vasprun.content):
        return Fault(611, (Evidence(left.vasprun.file, None, "no total energy"),))
    return None


def _ions_not_converged(left: VaspRunFiles) -> Fault | None:
    if not left.relaxes or _says_converged(left) or left.outcar is None:
        return None
    text = f"ended before NSW = {left.nsw} without a word on the accuracy of the relaxation"
    return Fault(611, (Evidence(left.outcar.file, None, text),))


def _no_contcar(left: VaspRunFiles) -> Fault | None:
    if not left.relaxes or left.has_contcar:
        return None
    return Fault(611, (Evidence("CONTCAR", None, "a finished relaxation without its CONTCAR"),))


def _nothing_known(left: VaspRunFiles) -> Fault:
    where = left.outcar or left.vasprun
    return Fault(611, (where.end(),) if where else ())


_RESULT_CHECKS: tuple[Callable[[VaspRunFiles], Fault | None], ...] = (
    _scf_not_converged,
    _steps_exhausted,
    _not_finite,
    _no_energy,
    _ions_not_converged,
    _no_contcar,
)
"""What makes a result of a run that came to its end."""

_RULES: tuple[Callable[[VaspRunFiles], Fault | None], ...] = (
    _stopped_by_stopcar,
    _success,
    _stopped_from_outside,
    _said_by_vasp,
    *_RESULT_CHECKS[:3],
    _told_by_logs,
    _killed,
    *_RESULT_CHECKS[3:],
    _nothing_known,
)
"""In the order in which they are tried."""
