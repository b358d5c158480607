"""The report in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from workflows.report.answer import answer
from workflows.report.collect import CONTROL_STAGES, FUNNEL
from workflows.report.words import limits, mev, number, pretty_formula, pretty_spacegroup, property_name, thz

if TYPE_CHECKING:
    from rich.console import RenderableType

    from workflows.report.collect import ReportData


def summary_table(data: ReportData, best: int = 10) -> RenderableType:
    """Give rounds, the best verdicts and the answer for a rich console.

    Parameters
    ----------
    data : ReportData
    best : int
        Verdicts shown at most.

    Returns
    -------
    rich renderable
    """
    parts: list[RenderableType] = [_rounds(data), Text("")]
    if data.of("verified"):
        parts.append(_best(data, best))
    told = answer(data)
    parts.append(Text.assemble((told.headline, "bold"), " ", told.detail))
    return Group(*parts)


def _rounds(data: ReportData) -> Table:
    # no edge, narrow padding and a short last heading: it fits into 80 columns
    table = Table(
        title=f"Campaign {data.campaign}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("round", *FUNNEL, "failed"):
        table.add_column(name, justify="right")
    for r in data.rounds:
        label = f"{r.number}" if r.state == "closed" else f"{r.number} {r.state}"
        table.add_row(label, *(str(getattr(r.summary, name)) for name in (*FUNNEL, "failures")))
        if control := r.summary.control:
            cells = [str(control.get(n, "–")) if n in CONTROL_STAGES else "" for n in (*FUNNEL, "failures")]
            table.add_row("control", *cells, style="dim")
    return table


def _best(data: ReportData, best: int) -> Table:
    targets = data.spec.targets
    names = sorted({name for v in data.verdicts for name in v.properties} | set(targets.properties))
    table = Table(title="Best verdicts", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("candidate", "formula", "space group"):
        table.add_column(heading, no_wrap=True)
    table.add_column(f"E above hull\n({limits(targets.energy_above_hull, 1000, 'meV/atom')})", justify="right")
    table.add_column(f"lowest phonon\n(≥ {number(targets.phonon_tolerance, 1)} THz)", justify="right")
    for name in names:
        wanted = targets.properties.get(name)
        unit = (
            limits(wanted) if wanted else next(v.properties[name].unit for v in data.verdicts if name in v.properties)
        )
        table.add_column(f"{property_name(name)}\n({unit})", justify="right")
    table.add_column("")
    for v in data.of("verified")[:best]:
        table.add_row(
            v.candidate,
            pretty_formula(v.formula),
            pretty_spacegroup(v.spacegroup),
            mev(v.energy_above_hull_ev_per_atom),
            thz(v.phonon.min_thz),
            *(number(v.properties[name].value) if name in v.properties else "–" for name in names),
            "★ hit" if v.hit else "stable" if v.stable else "",
        )
    return table
