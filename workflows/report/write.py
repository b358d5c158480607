"""A report's directory: ``index.html``, ``report.json`` and ``hits/*.cif``, all new or all as before."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.report.collect import ReportData, ReportError, collect
from workflows.report.export import verdict_cif
from workflows.report.html import render
from workflows.report.json_report import report_json
from workflows.runtime.modes import as_asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from workflows.report.hulls import HullEntry

OURS = frozenset({"index.html", "report.json", "hits"})
"""What a report's directory holds; one that holds anything else is not overwritten."""


def write_report(
    database: Database[dict[str, Any]],
    campaign: str,
    directory: Path,
    reference: Sequence[HullEntry] | None = None,
) -> Path:
    """Write the report of a campaign as it stands.

    Everything is built in a directory beside the target and then moved there, so a crash leaves the old report or the
    new one, never a mixture; a report that is already there is replaced.

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str
    directory : pathlib.Path
        Made if missing. Must be empty or hold an earlier report.
    reference : sequence of HullEntry, optional
        The reference set, for the hull diagrams; without it distances to the hull are shown alone.

    Returns
    -------
    pathlib.Path
        The page, ``<directory>/index.html``.

    Raises
    ------
    ReportError
        If there is no such campaign, or the directory holds something that is not a report's.
    OSError
        If it can't be written.
    """
    return write_data(collect(database, campaign), directory, reference)


def write_data(data: ReportData, directory: Path, reference: Sequence[HullEntry] | None = None) -> Path:
    """Write the report of collected data; see :func:`write_report`."""
    target = directory.expanduser().resolve()
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.new."))
    try:
        files = {}
        (building / "hits").mkdir()
        for verdict in data.of("hits"):
            if verdict.structure:
                files[verdict.candidate] = f"hits/{verdict.candidate}.cif"
                (building / files[verdict.candidate]).write_text(verdict_cif(verdict), encoding="utf-8")
        (building / "report.json").write_text(report_json(data, files), encoding="utf-8")
        (building / "index.html").write_text(render(data, reference), encoding="utf-8")
        building.chmod(as_asked(0o777))
        _swap(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target / "index.html"


def _check_target(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ReportError(f"{target} is a file; name a directory for the report")
    if foreign := sorted(p.name for p in target.iterdir() if p.name not in OURS):
        raise ReportError(
            f"{target} holds something that is not a report's ({', '.join(foreign[:3])}); "
            "name an empty or new directory"
        )
    if Path.cwd().is_relative_to(target):
        raise ReportError(f"{target} is the directory you are in and would be replaced; name another")


def _swap(building: Path, target: Path) -> None:
    """Put the new directory in place of the old one; puts the old one back if that fails."""
    if not target.exists():
        building.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    target.rename(old / "report")
    try:
        building.rename(target)
    except BaseException:
        (old / "report").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
