"""One HTML file that opens offline: styles, scripts, plots, viewer and CIFs all inside."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from workflows.lessons import update_in_words
from workflows.records import now
from workflows.report import words
from workflows.report.answer import answer
from workflows.report.crystal import model_of, picture, structure_of
from workflows.report.export import verdict_cif
from workflows.report.hulls import distance_strip, hull_diagrams, kind_of
from workflows.report.json_report import jsonable
from workflows.report.plots import funnel, phonon_plot, property_plot, shares_by_round
from workflows.report.protocols import failure_lines, protocol_lines, reference_rows
from workflows.report.provenance import provenance_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.records import Verdict
    from workflows.report.collect import ReportData
    from workflows.report.hulls import HullEntry

MAX_MODELS = 200
"""Crystals that the page carries as models to look at; the rest are in ``report.json``."""

MAX_PICTURES = 60
"""Still pictures in the page."""


@dataclass(frozen=True)
class Row:
    """A verdict as the page shows it."""

    verdict: Verdict
    kind: str
    formula: str
    cif_uri: str | None
    picture: Markup | None
    provenance: list[tuple[str, Any]]
    launches: list[dict[str, Any]]
    command: str


def render(data: ReportData, reference: Sequence[HullEntry] | None = None) -> str:
    """Write the page.

    Parameters
    ----------
    data : ReportData
    reference : sequence of HullEntry, optional
        The reference set, for the hull diagrams.

    Returns
    -------
    str
        A whole HTML document. It fetches nothing, and its content security policy forbids it to.
    """
    rows = [_row(data, v, i) for i, v in enumerate(data.verdicts)]
    models = {
        row.verdict.candidate: {**model_of(structure), "formula": row.formula}
        for row in rows[:MAX_MODELS]
        if (structure := structure_of(row.verdict.structure)) is not None
    }
    scripts = [asset("static", "report.js")]
    if models:
        scripts.insert(0, asset("static", "3Dmol-min.js"))
    targets = data.spec.targets
    cut = targets.energy_above_hull.max or 0.0
    names = sorted({n for v in data.verdicts for n in v.properties} | set(targets.properties))
    template = environment().get_template("index.html")
    return template.render(
        data=data,
        spec=data.spec,
        question=words.question(data.spec),
        answer=answer(data),
        totals=data.totals,
        rows=rows,
        hits=[r for r in rows if r.verdict.hit],
        gallery=_gallery(rows),
        models=Markup(_script_json(models)),  # noqa: S704 - every < of it is escaped
        funnels=[(r, funnel(r)) for r in data.rounds],
        trend=shares_by_round(data.rounds),
        strip=distance_strip(data.verdicts, cut),
        diagrams=hull_diagrams(data.verdicts, reference or ()),
        has_reference=bool(reference),
        properties=[
            (n, words.property_name(n), property_plot(data.verdicts, n, targets.properties.get(n), cut)) for n in names
        ],
        units={
            n: targets.properties[n].unit
            if n in targets.properties
            else next(v.properties[n].unit for v in data.verdicts if n in v.properties)
            for n in names
        },
        phonons=_phonons(data),
        failures=failure_lines(data),
        protocols=protocol_lines(data),
        references=reference_rows(data),
        made_at=now(),
        version=package_version(),
        style=Markup(asset("static", "report.css")),  # noqa: S704 - our own file
        scripts=[Markup(s) for s in scripts],  # noqa: S704 - our own and a vendored file
        script_hashes=[_csp_hash(s) for s in scripts],
    )


def environment() -> Environment:
    """Make the jinja environment of all pages: everything escaped, an unknown name is an error."""
    made = Environment(
        loader=FunctionLoader(partial(asset, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        told=update_in_words,
        formula=words.pretty_formula,
        spacegroup_parts=words.spacegroup_parts,
        number=words.number,
        thz=words.thz,
        mev=words.mev,
        percent=words.percent,
        plural=words.plural,
        limits=words.limits,
        property_name=words.property_name,
    )
    return made


def asset(folder: str, name: str) -> str:
    """Read a file of this package."""
    return (files("workflows.report") / folder / name).read_text(encoding="utf-8")


def _script_json(value: Any) -> str:
    """Write JSON that may stand inside a script element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def package_version() -> str:
    """Give the installed version."""
    try:
        return version("nucleate")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


def _row(data: ReportData, verdict: Verdict, index: int) -> Row:
    structure = structure_of(verdict.structure)
    provenance = dict(provenance_of(data, verdict))
    launches, command = provenance.pop("launches", []), str(provenance.pop("reproduce", ""))
    if launches:
        provenance.pop("parent_jobs", None)  # the launches name the same jobs, with more beside them
    uri = None
    if structure is not None and index < MAX_MODELS:
        encoded = base64.b64encode(verdict_cif(verdict).encode()).decode()
        uri = f"data:chemical/x-cif;base64,{encoded}"
    return Row(
        verdict=verdict,
        kind=kind_of(verdict),
        formula=words.pretty_formula(verdict.formula),
        cif_uri=uri,
        picture=picture(structure) if structure is not None and index < MAX_PICTURES else None,
        provenance=[(key, _flat(value)) for key, value in provenance.items()],
        launches=launches,
        command=command,
    )


def _flat(value: Any) -> Any:
    """Keep flat mappings for a small table; write anything deeper as JSON."""
    plain = jsonable(value)
    if isinstance(plain, dict):
        return {
            k: v if isinstance(v, (str, int, float)) else json.dumps(v, ensure_ascii=False) for k, v in plain.items()
        }
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list) else plain


def _gallery(rows: Sequence[Row]) -> list[Row]:
    """Choose what is shown as cards: the hits, else what came nearest."""
    shown = [r for r in rows if r.verdict.hit] or [r for r in rows if r.verdict.verified][:3]
    return [r for r in shown if r.picture is not None][:24]


def _phonons(data: ReportData, most: int = 4) -> list[tuple[Verdict, Markup]]:
    """Draw the phonons of the best verdicts that have bands."""
    drawn: list[tuple[Verdict, Markup]] = []
    for verdict in data.verdicts:
        title = f"Phonon bands of {verdict.formula}, {verdict.candidate}"
        if len(drawn) < most and (plot := phonon_plot(verdict.phonon, title)) is not None:
            drawn.append((verdict, plot))
    return drawn
