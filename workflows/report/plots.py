"""Plots of a campaign: funnel with control, property against target, phonon bands and density of states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows.report.collect import CONTROL_STAGES, FUNNEL, RoundData, finite
from workflows.report.hulls import kind_of, tip_of
from workflows.report.svg import Frame, Svg, padded, ticks
from workflows.report.words import number, percent, property_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from workflows.records import PhononResult, Verdict
    from workflows.spec import Range


def funnel(data: RoundData) -> Markup:
    """Draw a round's funnel as shares of what was sampled, the control's shares below its own bars."""
    summary, control = data.summary, data.summary.control or {}
    # With a control every row holds two bars and two lines of numbers.
    left, width, step, top = 76.0, 440.0, 34.0 if control.get("sampled") else 24.0, 4.0
    bar = width - left - 96
    # "promising" (novel, and inside the cut by the screening model) is as far as a control can be compared.
    stages = (*FUNNEL[:4], "promising", *FUNNEL[4:])
    svg = Svg(width, top + step * len(stages) + 4, f"Funnel of round {data.number}")
    for i, name in enumerate(stages):
        y, count = top + i * step, getattr(summary, name)
        svg.text(left - 10, y + 15, name, "end", "tick strong")
        svg.add("rect", x=left, y=y + 2, width=bar, height=14.0, rx=2.0, css="track")
        share = count / summary.sampled if summary.sampled else 0.0
        tip = f"{name}: {count} of {summary.sampled} sampled"
        css = "bar hits" if name == "hits" else "bar"
        svg.add("rect", x=left, y=y + 2, width=bar * min(share, 1), height=14.0, rx=2.0, css=css, tip=tip)
        svg.text(left + bar + 8, y + 14, f"{count}", css="strong value")
        svg.text(width - 2, y + 14, percent(count, summary.sampled), "end", "tick")
        if name in CONTROL_STAGES and control.get("sampled"):
            drawn, of = int(control.get(name, 0)), int(control["sampled"])
            svg.add(
                "rect",
                x=left,
                y=y + 18,
                width=bar * min(drawn / of, 1),
                height=6.0,
                rx=2.0,
                css="control",
                tip=f"control, {name}: {drawn} of {of}",
            )
            svg.text(left + bar + 8, y + 27, f"{drawn}", css="tick")
            svg.text(width - 2, y + 27, percent(drawn, of), "end", "tick")
    return svg.markup()


def shares_by_round(rounds: Sequence[RoundData]) -> Markup | None:
    """Draw valid, novel, stable and hit shares over rounds; ``None`` for fewer than three rounds."""
    shown = [r for r in rounds if r.summary.sampled]
    if len(shown) < 3:
        return None
    frame = Frame(62, 14, 820, 240, shown[0].number - 0.3, shown[-1].number + 0.3, 0, 100)
    svg = Svg(1000, 300, "Shares of what was sampled, by round", "wide")
    step = max(1, round(len(shown) / 10))
    frame.axes(svg, "round", "share of samples (%)", xticks=[r.number for r in shown][::step])
    ends: list[tuple[float, str]] = []
    for name in ("valid", "unique", "novel", "verified", "stable", "hits"):
        points = [(frame.x(r.number), frame.y(100 * getattr(r.summary, name) / r.summary.sampled)) for r in shown]
        svg.path(points, f"series s-{name}")
        for (x, y), r in zip(points, shown, strict=True):
            tip = f"round {r.number}: {getattr(r.summary, name)} {name} of {r.summary.sampled}"
            svg.add("circle", cx=x, cy=y, r=3.5, css=f"dot s-{name}", tip=tip)
        ends.append((points[-1][1], name))
    lowest = frame.bottom + 13
    for y, name in sorted(ends, reverse=True):  # names keep the order of their lines, a line of text apart
        lowest = min(y, lowest - 13)
        svg.text(frame.right + 10, lowest + 4, name, css=f"note s-{name}")
    return svg.markup()


def property_plot(verdicts: Iterable[Verdict], name: str, wanted: Range | None, cut_ev: float) -> Markup | None:
    """Draw a property against energy above hull, the region that meets both targets shaded.

    Parameters
    ----------
    verdicts : iterable of Verdict
    name : str
        Property, as in ``Verdict.properties``.
    wanted : Range or None
        The target, in the property's unit.
    cut_ev : float
        Hull cut, eV/atom.

    Returns
    -------
    Markup or None
        ``None`` if no verdict has both.
    """
    points = [
        (1000 * energy, value, v)
        for v in verdicts
        if name in v.properties
        and (energy := finite(v.energy_above_hull_ev_per_atom)) is not None
        and (value := finite(v.properties[name].value)) is not None
    ]
    if not points:
        return None
    unit = wanted.unit if wanted else points[0][2].properties[name].unit
    cut = 1000 * cut_ev
    borders = [b for b in (wanted.min, wanted.max) if b is not None] if wanted else []
    x0, x1 = padded([0.0, cut * 1.15, *(x for x, _, _ in points)], share=0.04)
    y0, y1 = padded([*borders, *(y for _, y, _ in points)], share=0.12)
    if min([*borders, *(y for _, y, _ in points)]) >= 0:
        y0 = max(y0, 0.0)
    frame = Frame(66, 26, 914, 330, x0, x1, y0, y1)
    svg = Svg(1000, 404, f"{property_name(name)} against energy above hull", "wide")
    if wanted:
        low = y0 if wanted.min is None else wanted.min
        high = y1 if wanted.max is None else wanted.max
        svg.add(
            "rect",
            x=frame.left,
            y=frame.y(high),
            width=frame.x(cut) - frame.left,
            height=frame.y(low) - frame.y(high),
            css="target",
        )
        svg.text(frame.x(0) + 12, frame.y(high) + 16, "target", css="note target-name")
    frame.axes(svg, "energy above hull (meV/atom)", f"{property_name(name)} ({unit})")
    svg.line(frame.x(cut), frame.top, frame.x(cut), frame.bottom, css="cut")
    svg.text(frame.x(cut), frame.top - 8, f"hull cut {cut:g}", "middle", "note")
    for border in borders:
        svg.line(frame.left, frame.y(border), frame.right, frame.y(border), css="cut")
        svg.text(frame.right - 4, frame.y(border) - 5, f"{border:g} {unit}", "end", "note")
    svg.line(frame.x(0), frame.top, frame.x(0), frame.bottom, css="zero")
    for x, y, verdict in sorted(points, key=lambda p: p[2].hit):
        tip = f"{tip_of(verdict)}\n{property_name(name)} {number(y)} {unit}"
        svg.marker(frame.x(x), frame.y(y), kind_of(verdict), tip, 5.5)
    return svg.markup()


def phonon_plot(phonon: PhononResult, title: str) -> Markup | None:
    """Draw phonon bands with the density of states beside them and the tolerance line; ``None`` if there are no bands.

    Parameters
    ----------
    phonon : PhononResult
        ``bands``: distances (n points), frequencies_thz (branches x n points), labels (distance, label), segments
        (first and past-the-last point of each piece); ``dos``: frequencies_thz, densities.
    title : str
        What screen readers say.
    """
    bands = phonon.bands or {}
    distances = [float(d) for d in bands.get("distances") or []]
    branches = [list(map(float, b)) for b in bands.get("frequencies_thz") or []]
    if not distances or not branches or any(len(b) != len(distances) for b in branches):
        return None
    dos = phonon.dos or {}
    energies, densities = list(dos.get("frequencies_thz") or []), list(dos.get("densities") or [])
    has_dos = bool(energies) and len(energies) == len(densities) and max(densities) > 0
    lowest = min(min(b) for b in branches)
    highest = max(max(b) for b in branches)
    y0, y1 = padded([min(lowest, 1.6 * phonon.tolerance_thz, -0.02 * highest), highest], share=0.05)
    frame = Frame(58, 10, 330 if has_dos else 440, 260, distances[0], distances[-1], y0, y1)
    svg = Svg(510, 300, title)
    frame.axes(svg, "", "frequency (THz)", xticks=[])
    if y0 < phonon.tolerance_thz:
        svg.add(
            "rect",
            x=frame.left,
            y=frame.y(phonon.tolerance_thz),
            width=frame.width,
            height=frame.bottom - frame.y(phonon.tolerance_thz),
            css="forbidden",
        )
    free = frame.left - 20
    for where, label in _labels(bands.get("labels")):
        svg.line(frame.x(where), frame.top, frame.x(where), frame.bottom, css="grid dark")
        x, half = frame.x(where), 3.6 * len(label) + 1
        low = x - half < free  # no room beside the one before: a line lower
        free = free if low else x + half
        svg.text(x, frame.bottom + (29 if low else 17), label, "middle", "tick strong")
    svg.line(frame.left, frame.y(0), frame.right, frame.y(0), css="zero")
    svg.line(frame.left, frame.y(phonon.tolerance_thz), frame.right, frame.y(phonon.tolerance_thz), css="cut")
    # A path through reciprocal space has gaps (U|K): lines are drawn piece by piece.
    pieces = bands.get("segments") or [[0, len(distances)]]
    for branch in branches:
        points = [(frame.x(d), frame.y(f)) for d, f in zip(distances, branch, strict=True)]
        for first, past in pieces:
            svg.path(points[first:past], "band")
    note = f"tolerance {phonon.tolerance_thz:g} THz".replace("-", "−")
    if has_dos:
        side = Frame(frame.right + 12, frame.top, 100, frame.height, 0, 1.08 * max(densities), y0, y1)
        side.axes(svg, "", "", xticks=[], yticks=[])
        for value in ticks(y0, y1):
            svg.line(side.left, side.y(value), side.right, side.y(value), css="grid")
        inside = [(e, d) for e, d in zip(energies, densities, strict=True) if y0 <= e <= y1]
        outline = [(side.x(max(d, 0.0)), side.y(e)) for e, d in inside]
        if outline:
            svg.path([(side.left, outline[0][1]), *outline, (side.left, outline[-1][1])], "dos", close=True)
        svg.line(side.left, side.y(0), side.right, side.y(0), css="zero")
        svg.line(side.left, side.y(phonon.tolerance_thz), side.right, side.y(phonon.tolerance_thz), css="cut")
        svg.text(side.left + side.width / 2, side.bottom + 18, "density of states", "middle", "tick")
    svg.text(frame.right - 6, frame.y(phonon.tolerance_thz) + 13, note, "end", "note")
    return svg.markup()


def _labels(labels: Any) -> list[tuple[float, str]]:
    """Read the ticks of a band structure: ``[{"distance": 1/Å, "label": "GAMMA"}, ...]``."""
    return [(float(tick["distance"]), "|".join(map(_greek, str(tick["label"]).split("|")))) for tick in labels or []]


def _greek(label: str) -> str:
    """Write Γ for GAMMA or a TeX Gamma, and subscripts for _1."""
    plain = label.replace("$", "").replace("\\Gamma", "Γ").replace("GAMMA", "Γ").replace("\\Sigma", "Σ")
    plain = plain.replace("SIGMA", "Σ").replace("DELTA", "Δ").replace("LAMBDA", "Λ").replace("\\mathrm", "")
    for digit, low in zip("0123456789", "₀₁₂₃₄₅₆₇₈₉", strict=True):
        plain = plain.replace(f"_{{{digit}}}", low).replace(f"_{digit}", low)
    return plain.strip("{}")
