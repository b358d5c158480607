"""Why a run of pw.x ended as it did: small rules in the order of their priority, each with the words it looks for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import SUCCESS
from dft_inputs.diagnosis import Diagnosis, Evidence
from dft_inputs.espresso.errors import SUGGESTIONS, code_of
from dft_inputs.espresso.pwtext import JOB_DONE, crash_entry, latest_run
from dft_inputs.espresso.success import Asked, Fault, find_fault
from dft_inputs.files import RECORD, NoRunError, find_files
from dft_inputs.logs import trouble_in
from dft_inputs.texts import Text, read_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dft_inputs.espresso.pwtext import PwText
    from dft_inputs.files import RunFiles


@dataclass(frozen=True)
class PwRunFiles:
    """What a run of pw.x left, read.

    Parameters
    ----------
    run : PwText or None
        Output of the run that was begun last; ``None`` if there is none.
    earlier : tuple of PwText
        Other runs in the same directory.
    crash : Text or None
    logs : tuple of Text
        Standard error, scheduler's logs; the newest first.
    inputs : tuple of Text
    record : dict
        ``nucleate.json``; empty if there is none.
    """

    run: PwText | None
    earlier: tuple[PwText, ...]
    crash: Text | None
    logs: tuple[Text, ...]
    inputs: tuple[Text, ...]
    record: dict[str, Any]

    @property
    def job_done(self) -> bool:
        """Whether pw.x itself says that it came to its end."""
        return self.run is not None and self.run.job_done


def diagnose_pw(directory: Path, *, pressure_tolerance_kbar: float | None = None) -> Diagnosis:
    """Explain a run directory of pw.x.

    Parameters
    ----------
    directory : pathlib.Path
        Files are found by content, whatever they are called; of several runs the last counts.
    pressure_tolerance_kbar : float, optional
        Largest pressure of a relaxed cell's final scf, off the wanted one, that counts as success. By default what
        ``nucleate.json`` says, else twice ``press_conv_thr`` and 1 kbar.

    Returns
    -------
    Diagnosis

    Raises
    ------
    NoRunError
        If pw.x has left nothing there.
    """
    return diagnose_pw_files(find_files(directory), pressure_tolerance_kbar=pressure_tolerance_kbar)


def diagnose_pw_files(files: RunFiles, *, pressure_tolerance_kbar: float | None = None) -> Diagnosis:
    """Explain a run directory of pw.x whose files have been looked at; see :func:`diagnose_pw`."""
    left = read_files(files)
    asked = what_was_asked(left, pressure_tolerance_kbar)
    fault = next(fault for rule in _RULES if (fault := rule(left, asked)) is not None)
    return Diagnosis("espresso", fault.code, fault.evidence, fault.suggestion or SUGGESTIONS.get(fault.code, ""))


def read_files(files: RunFiles) -> PwRunFiles:
    """Read what counts of a run directory.

    Raises
    ------
    NoRunError
        If pw.x has left nothing there.
    """
    record = _read_record(files)
    if not files.has("pw.out", "pw.in", "crash"):
        raise NoRunError(files.directory, "holds no input or output of pw.x")
    if not files.has("pw.out", "crash", "log", "empty") and "returncode" not in record:
        raise NoRunError(files.directory, "holds an input of pw.x, and nothing that a run has written")
    found = latest_run(files.texts("pw.out"))
    run, earlier = found or (None, [])
    crashes = files.texts("crash")
    return PwRunFiles(
        run=run,
        earlier=tuple(earlier),
        crash=crashes[0] if crashes else None,
        logs=files.texts("log"),
        inputs=files.texts("pw.in"),
        record=record,
    )


def _read_record(files: RunFiles) -> dict[str, Any]:
    try:
        record = json.loads(read_text(files.directory / RECORD))
    except (OSError, json.JSONDecodeError):
        return {}
    return record if isinstance(record, dict) else {}


def what_was_asked(left: PwRunFiles, pressure_tolerance_kbar: float | None) -> Asked:
    """Read from the input what the output must hold."""
    if pressure_tolerance_kbar is None:
        stored = left.record.get("pressure_tolerance_kbar")
        pressure_tolerance_kbar = float(stored) if isinstance(stored, (int, float)) else None
    if not left.inputs:
        return Asked(tolerance_kbar=pressure_tolerance_kbar)
    text = left.inputs[0].content
    pressure = _value(text, "press")
    return Asked(
        forces=_is_true(_value(text, "tprnfor")),
        stress=_is_true(_value(text, "tstress")),
        pressure_kbar=_number(pressure),
        cell_free=_value(text, "cell_dofree").strip("'\"").lower() in {"", "all", "ibrav"},
        tolerance_kbar=pressure_tolerance_kbar,
    )


def _value(text: str, key: str) -> str:
    """Give the value of a namelist's key as written; empty if it is not there."""
    found = re.search(rf"(?im)^[^!\n]*?(?<![\w(]){key}\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,!/]+)", text)
    return found.group(1) if found else ""


def _is_true(value: str) -> bool:
    return value.strip(".").lower().startswith("t")


def _number(value: str) -> float:
    try:
        return float(value.lower().replace("d", "e"))
    except ValueError:
        return 0.0


def _stopped_by_itself(left: PwRunFiles, _: Asked) -> Fault | None:
    seen = left.run.text.last("Maximum CPU time exceeded") if left.run else None
    return Fault(101, (seen,)) if seen else None


def _told_to_stop(left: PwRunFiles, _: Asked) -> Fault | None:
    if left.run is None:
        return None
    seen = left.run.text.last("Program stopped by user request") or left.run.text.last("Signal Received, stopping")
    return Fault(105, (seen,)) if seen else None


def _error_block(left: PwRunFiles, _: Asked) -> Fault | None:
    """Judge the first error by its text; a full disk, seen elsewhere, explains what else failed."""
    blocks = left.run.blocks() if left.run else []
    if not blocks:
        return None
    return _of_block(left, blocks[0].routine, blocks[0].message, blocks[0].evidence)


def _of_block(left: PwRunFiles, routine: str, message: str, evidence: Evidence) -> Fault:
    code = code_of(routine, message)
    shown = Evidence(evidence.file, evidence.line, f"{routine}: {message}" if message else routine)
    if code in {202, 206, 210, 211} and (seen := trouble_in(left.logs, frozenset({102, 202, 206}))):
        return Fault(seen[0], (shown, seen[1]))
    return Fault(code, (shown,))


def _error_without_block(left: PwRunFiles, _: Asked) -> Fault | None:
    if left.run is None or left.run.job_done:
        return None
    seen = left.run.text.first(_BARE_DIAGONALISATION)
    return Fault(401, (seen,)) if seen else None


_BARE_DIAGONALISATION = re.compile(r"\[Q, R\] = qr\(X, 0\) failed|zhegvd? failed")


def _stopped_from_outside(left: PwRunFiles, _: Asked) -> Fault | None:
    """Put what a scheduler or a full disk did before a CRASH file, which an earlier run may have left."""
    return _told_by(left, frozenset({101, 102, 105, 202}))


def _killed_for_memory(left: PwRunFiles, _: Asked) -> Fault | None:
    """Believe the kernel's count before the shell's "Killed": a process that is killed for memory can't say so."""
    if left.job_done or left.record.get("out_of_memory") is not True:
        return None
    said = "the kernel ended a process of this batch job for want of memory"
    where = (left.run.text.end(),) if left.run else ()
    return Fault(102, (Evidence(RECORD, None, said), *where))


def _crash_file(left: PwRunFiles, _: Asked) -> Fault | None:
    """Only a process that is not the first can crash without words in the output; an old CRASH is no news."""
    if left.crash is None or left.job_done:
        return None
    entry = crash_entry(left.crash)
    if entry is None:
        return None
    told_before = {(block.routine, block.message) for run in left.earlier for block in run.blocks()}
    if (entry.routine, entry.message) in told_before:
        return None
    return _of_block(left, entry.routine, entry.message, entry.evidence)


def _scf_not_converged(left: PwRunFiles, _: Asked) -> Fault | None:
    seen = left.run.text.last("convergence NOT achieved") if left.run else None
    return Fault(410, (seen,)) if seen else None


def _pseudopotential_unreadable(left: PwRunFiles, _: Asked) -> Fault | None:
    """Fortran's own reader stops at a file that is cut off, while the output is still before its first number."""
    if left.run is None or left.run.job_done or "bravais-lattice index" in left.run.text:
        return None
    for log in left.logs:
        where = log.first(_READING_PSEUDO)
        said = log.first(_FORTRAN_ERROR)
        if where is not None and said is not None:
            return Fault(208, (said, where))
    return None


_READING_PSEUDO = re.compile(r"At line \d+ of file (xmltools|read_upf\w*|upf\w*|read_pseudo\w*|read_ps\w*)\.f90")
_FORTRAN_ERROR = re.compile(r"Fortran runtime error|forrtl: severe")


def _told_by_logs(left: PwRunFiles, _: Asked) -> Fault | None:
    return _told_by(left, frozenset({101, 102, 105, 106, 202, 203, 206, 209}))


def _told_by(left: PwRunFiles, codes: frozenset[int]) -> Fault | None:
    """Ask the logs; pw.x's output comes last, for a batch system's log may be one and the same file."""
    if left.job_done:
        return None
    own = (left.run.text,) if left.run else ()
    seen = trouble_in((*left.logs, *own), codes)
    if seen is None:
        return None
    where = (left.run.text.end(),) if left.run and seen[1].file != left.run.text.file else ()
    return Fault(seen[0], (seen[1], *where))


def _stopped_by_us(left: PwRunFiles, _: Asked) -> Fault | None:
    if left.job_done or left.record.get("stopped") != "walltime":
        return None
    return Fault(101, (Evidence(RECORD, None, "stopped before the allocation ended"),))


def _crashed_silently(left: PwRunFiles, _: Asked) -> Fault | None:
    return _told_by(left, frozenset({210}))


def _cut_off(left: PwRunFiles, _: Asked) -> Fault | None:
    if left.run is None:
        name = left.inputs[0].file if left.inputs else (left.crash.file if left.crash else RECORD)
        return Fault(106, (Evidence(name, None, "there is no output of pw.x beside it"),))
    if left.run.job_done:
        return None
    end = left.run.text.end()
    return Fault(106, (Evidence(end.file, end.line, f"the output ends here, without `{JOB_DONE}`: {end.text}"),))


def _result_faulty(left: PwRunFiles, asked: Asked) -> Fault | None:
    return find_fault(left.run, asked) if left.run else None


def _success(left: PwRunFiles, _: Asked) -> Fault | None:
    assert left.run is not None  # noqa: S101 - _cut_off has answered
    lines = [
        left.run.text.last(words) for words in ("!    total energy", "bfgs converged in", "(kbar)     P=", JOB_DONE)
    ]
    return Fault(SUCCESS, tuple(line for line in lines if line is not None))


_RULES: tuple[Callable[[PwRunFiles, Asked], Fault | None], ...] = (
    _stopped_by_itself,
    _told_to_stop,
    _error_block,
    _error_without_block,
    _stopped_from_outside,
    _killed_for_memory,
    _crash_file,
    _scf_not_converged,
    _pseudopotential_unreadable,
    _told_by_logs,
    _stopped_by_us,
    _crashed_silently,
    _cut_off,
    _result_faulty,
    _success,
)
"""In the order in which they are tried: what pw.x says itself, what others say of it, what is missing, success."""
