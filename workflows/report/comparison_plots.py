"""Plots of a comparison of generators: shares with intervals, distances to the hull, what moved, symmetry, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generators.crystals.symmetry import CRYSTAL_SYSTEMS, crystal_system
from workflows.report.svg import Frame, Svg, ticks
from workflows.report.words import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

LEFT, WIDTH, STEP = 150.0, 1000.0, 26.0


def share_panel(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> Markup:
    """Draw one share of every generator: a dot at the share, a bar over Wilson's interval.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of ``comparison.json`` without errors.
    key : str
        In ``rows[i]["shares"]``.
    title : str
        What screen readers say.
    """
    left, right, width = 150.0, 70.0, 480.0
    frame = Frame(left, 4, width - left - right, STEP * len(rows), 0, 1, 0, len(rows))
    svg = Svg(width, frame.bottom + 22, title)
    for value in (0, 0.25, 0.5, 0.75, 1):
        svg.line(frame.x(value), frame.top, frame.x(value), frame.bottom, css="grid")
        svg.text(frame.x(value), frame.bottom + 15, f"{100 * value:g} %", "middle", "tick")
    for i, row in enumerate(rows):
        y = frame.top + (i + 0.5) * STEP
        svg.text(left - 10, y + 4, shortened(row["label"], 21), "end", "tick strong")
        found = row["shares"].get(key)
        if found is None or found["share"] is None:
            svg.text(frame.left + 4, y + 4, "not measured", css="note")
            continue
        tip = (
            f"{row['label']}: {found['count']} of {found['n']}, standard error "
            f"{100 * found['standard_error']:.0f} %, "
            f"95 % between {100 * found['low']:.0f} and {100 * found['high']:.0f} %"
        )
        svg.line(frame.x(found["low"]), y, frame.x(found["high"]), y, css="interval", tip=tip)
        svg.add("circle", cx=frame.x(found["share"]), cy=y, r=4.5, css="estimate", tip=tip)
        error = f" ± {100 * found['standard_error']:.0f}"
        svg.text(width - 2, y + 4, f"{100 * found['share']:.0f}{error} %", "end", "tick")
    return svg.markup()


def strip(
    rows: Sequence[Mapping[str, Any]], field: str, label: str, *, cut: float | None = None, scale: float = 1.0
) -> Markup | None:
    """Draw a number of every relaxed sample, a line a generator; ``None`` if there is none.

    Parameters
    ----------
    rows : sequence of mapping
    field : str
        In ``rows[i]["samples"][j]``.
    label : str
        Of the axis, with the unit.
    cut : float, optional
        Marked, with everything up to it shaded; in the axis' unit.
    scale : float
        Axis' unit over the field's.
    """
    values = {row["label"]: [s for s in row["samples"] if s.get(field) is not None] for row in rows}
    numbers = sorted(scale * s[field] for samples in values.values() for s in samples)
    if not numbers:
        return None
    # Far outliers would squeeze everything that matters: they are drawn at the border, their numbers in the tooltip.
    typical = numbers[int(0.9 * (len(numbers) - 1))]
    high = max(1.15 * typical, 1.4 * cut if cut else 0.0, 1e-6)
    high = min(high, max(1.06 * numbers[-1], 1.4 * cut if cut else 1e-6))
    low = min(0.0, 1.1 * numbers[0])
    top = 22.0 if cut is not None else 6.0
    frame = Frame(LEFT, top, WIDTH - LEFT - 70, 30.0 * len(rows), low, high, 0, len(rows))
    svg = Svg(WIDTH, frame.bottom + 44, label, "wide")
    if cut is not None:
        width = frame.x(cut) - frame.x(low)
        svg.add("rect", x=frame.x(low), y=frame.top, width=width, height=frame.height, css="target")
    frame.axes(svg, label, "", yticks=[])
    if cut is not None:
        svg.line(frame.x(cut), frame.top, frame.x(cut), frame.bottom, css="cut")
        svg.text(frame.x(cut), frame.top - 7, f"cut {cut:g}", "middle", "note")
    for i, row in enumerate(rows):
        y = frame.top + (i + 0.5) * 30.0
        svg.text(LEFT - 10, y + 4, shortened(row["label"], 21), "end", "tick strong")
        if i:
            svg.line(frame.left, y - 15, frame.right, y - 15, css="grid")
        samples = values[row["label"]]
        for j, sample in enumerate(sorted(samples, key=lambda s: (s["seed"], s["index"]))):
            value = scale * sample[field]
            tip = f"{sample['formula']}, seed {sample['seed']}, sample {sample['index']}: {number(value)}"
            beyond = value > high
            # A small shift up and down keeps equal values apart; it has no meaning.
            svg.add(
                "circle",
                cx=frame.x(min(value, high)),
                cy=y + (j % 5 - 2) * 3.4,
                r=4.0,
                css="dot-beyond" if beyond else "dot-one",
                tip=f"{tip} (beyond the axis)" if beyond else tip,
            )
        svg.text(WIDTH - 2, y + 4, f"n = {len(samples)}", "end", "tick")
    return svg.markup()


def crystal_systems(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw the shares of crystal systems among the relaxed samples of each generator; ``None`` if none relaxed."""
    shown = [row for row in rows if row["spacegroups"]]
    if not shown:
        return None
    step, left = 30.0, LEFT
    frame = Frame(left, 4, WIDTH - left - 70, step * len(shown), 0, 1, 0, len(shown))
    svg = Svg(WIDTH, frame.bottom + 24, "Crystal systems of relaxed samples", "wide")
    for value in ticks(0, 1, 4):
        svg.text(frame.x(value), frame.bottom + 16, f"{100 * value:g} %", "middle", "tick")
    for i, row in enumerate(shown):
        y = frame.top + i * step
        svg.text(left - 10, y + 19, shortened(row["label"], 21), "end", "tick strong")
        counts = {name: 0 for name, _ in CRYSTAL_SYSTEMS}
        for group, count in row["spacegroups"].items():
            counts[crystal_system(int(group))] += count
        total, done = sum(counts.values()), 0
        for j, (name, _) in enumerate(CRYSTAL_SYSTEMS):
            if counts[name]:
                x, width = frame.x(done / total), frame.x(counts[name] / total) - frame.left
                tip = f"{row['label']}: {counts[name]} of {total} {name}"
                svg.add("rect", x=x, y=y + 5, width=max(width - 1, 1.0), height=step - 10, css=f"system-{j}", tip=tip)
                if width > 24:
                    svg.text(x + width / 2, y + 19, str(counts[name]), "middle", f"on-{j}")
                done += counts[name]
        svg.text(WIDTH - 2, y + 19, f"n = {total}", "end", "tick")
    return svg.markup()


def scatter(
    points: Sequence[tuple[float, float]],
    values: Sequence[float | None],
    tips: Sequence[str],
    labels: tuple[str, str],
    title: str,
) -> Markup:
    """Draw points coloured by a value in five classes of equal numbers; grey where there is no value.

    Parameters
    ----------
    points : sequence of (float, float)
    values : sequence of float or None
    tips : sequence of str
    labels : (str, str)
        Of the axes.
    title : str
        What screen readers say.
    """
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    air = 0.05 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    frame = Frame(70, 8, 900, 460, min(xs) - air, max(xs) + air, min(ys) - air, max(ys) + air)
    svg = Svg(1000, 520, title, "wide")
    frame.axes(svg, labels[0], labels[1])
    edges = classes([v for v in values if v is not None])
    for (x, y), value, tip in zip(points, values, tips, strict=True):
        css = "class-none" if value is None else f"class-{sum(value > edge for edge in edges)}"
        svg.add("circle", cx=frame.x(x), cy=frame.y(y), r=4.0, css=css, tip=tip)
    return svg.markup()


def classes(values: Sequence[float], n: int = 5) -> list[float]:
    """Give the inner limits of classes that hold equally many values.

    Examples
    --------
    >>> classes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    [2, 4, 6, 8]
    """
    ordered = sorted(values)
    return [ordered[len(ordered) * i // n - 1] for i in range(1, n) if len(ordered) * i // n >= 1]


def shortened(text: str, most: int) -> str:
    """Cut a label that would run into the plot; paths keep their end, which tells them apart."""
    return text if len(text) <= most else "…" + text[-most + 1 :]
