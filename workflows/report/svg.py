"""A small drawing board: SVG elements, linear axes, markers. Colours are CSS classes, so plots follow light and dark.

SVG by hand instead of matplotlib: sharp at any size, a tooltip on every point, text that stays text, a few kB a plot,
and ElementTree escapes whatever the data brings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # only builds documents here, parses none

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Svg:
    """One drawing.

    Parameters
    ----------
    width, height : float
        Size of the view box, px at natural size.
    title : str
        What screen readers say.
    css : str, optional
        Extra classes of the root element.
    """

    def __init__(self, width: float, height: float, title: str, css: str = "") -> None:
        self.width, self.height = width, height
        self.root = ET.Element(
            "svg",
            {
                "viewBox": f"0 0 {width:g} {height:g}",
                "role": "img",
                "class": f"plot {css}".strip(),
                "style": f"max-width:{width:g}px",
                "aria-label": title,
            },
        )

    def add(
        self,
        tag: str,
        text: str | None = None,
        parent: ET.Element | None = None,
        css: str | None = None,
        tip: str | None = None,
        **attributes: float | str,
    ) -> ET.Element:
        """Add an element; underscores in attribute names become dashes; ``tip`` shows on hover."""
        named = {k.replace("_", "-"): f"{v:.2f}" if isinstance(v, float) else str(v) for k, v in attributes.items()}
        if css:
            named["class"] = css
        element = ET.SubElement(self.root if parent is None else parent, tag, named)
        if text is not None:
            element.text = text
        if tip:
            ET.SubElement(element, "title").text = tip
        return element

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", css: str = "", *, turned: bool = False
    ) -> None:
        """Write text with its baseline at ``y``; ``turned`` reads upwards."""
        element = self.add("text", text, x=float(x), y=float(y), text_anchor=anchor, css=css or None)
        if turned:
            element.set("transform", f"rotate(-90 {x:.1f} {y:.1f})")

    def line(self, x1: float, y1: float, x2: float, y2: float, *, css: str, tip: str | None = None) -> None:
        """Draw a straight line."""
        self.add("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), css=css, tip=tip)

    def path(self, points: Iterable[tuple[float, float]], css: str, close: bool = False) -> None:
        """Draw straight lines through points."""
        steps = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
        if steps:
            self.add("path", d=steps + ("Z" if close else ""), css=css)

    def marker(self, x: float, y: float, kind: str, tip: str, size: float = 5.0) -> None:
        """Draw a marker: ``hit`` a star, ``stable`` a disc, ``verified`` a diamond, ``known`` a ring, else a cross."""
        if kind in {"stable", "known", "known-above"}:
            self.add("circle", cx=float(x), cy=float(y), r=float(size), css=f"m {kind}", tip=tip)
            return
        if kind == "hit":
            radii = (1.75 * size, 0.75 * size)
            points = [
                (x + radii[i % 2] * math.sin(i * math.pi / 5), y - radii[i % 2] * math.cos(i * math.pi / 5))
                for i in range(10)
            ]
        elif kind == "verified":
            r = 1.2 * size
            points = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
        else:
            r, t = size, size * 0.35
            points = [(-t, 0), (-r, -r + t), (-r + t, -r), (0, -t), (r - t, -r), (r, -r + t)]
            points = [(x + a, y + b) for a, b in [*points, *((-a, -b) for a, b in points)]]
        steps = " ".join(f"{'L' if i else 'M'}{a:.1f} {b:.1f}" for i, (a, b) in enumerate(points))
        self.add("path", d=steps + "Z", css=f"m {kind}", tip=tip)

    def markup(self) -> Markup:
        """Give the drawing as markup that is safe inside a page."""
        return Markup(ET.tostring(self.root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped all text


class Labels:
    """Places short labels beside points so that they cover neither each other nor points.

    Parameters
    ----------
    svg : Svg
        Where labels are written.
    points : iterable of (float, float)
        Centres of markers to keep free, px.
    """

    HEIGHT = 13.0
    CHARACTER = 6.6

    def __init__(self, svg: Svg, points: Iterable[tuple[float, float]]) -> None:
        self._svg = svg
        self._taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]

    def place(self, x: float, y: float, text: str, css: str = "note", gap: float = 9.0) -> bool:
        """Write a label where there is room, ``gap`` px from a point; tell whether there was."""
        width = self.CHARACTER * len(text)
        for dx, dy, anchor in (
            (gap, 4, "start"),
            (-gap, 4, "end"),
            (0, -gap - 1, "middle"),
            (0, gap + 10, "middle"),
            (gap - 1, 2 - gap, "start"),
            (1 - gap, 2 - gap, "end"),
            (gap - 1, gap + 6, "start"),
            (1 - gap, gap + 6, "end"),
        ):
            left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (left, y + dy - 10, left + width, y + dy - 10 + self.HEIGHT)
            inside = box[0] >= 2 and box[1] >= 2 and box[2] <= self._svg.width - 2 and box[3] <= self._svg.height - 2
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                self._svg.text(x + dx, y + dy, text, anchor, css)
                return True
        return False


def _overlap(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Choose round numbers inside an interval, about so many.

    Examples
    --------
    >>> ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Frame:
    """The data area of a plot and its linear scales.

    Parameters
    ----------
    left, top, width, height : float
        Pixels.
    x0, x1, y0, y1 : float
        Data limits; ``y0`` is at the bottom.
    """

    left: float
    top: float
    width: float
    height: float
    x0: float
    x1: float
    y0: float
    y1: float

    @property
    def right(self) -> float:
        """Pixels."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Pixels."""
        return self.top + self.height

    def x(self, value: float) -> float:
        """Scale to pixels."""
        return self.left + (value - self.x0) / ((self.x1 - self.x0) or 1) * self.width

    def y(self, value: float) -> float:
        """Scale to pixels."""
        return self.bottom - (value - self.y0) / ((self.y1 - self.y0) or 1) * self.height

    def axes(
        self,
        svg: Svg,
        xlabel: str,
        ylabel: str,
        xticks: Sequence[float] | None = None,
        yticks: Sequence[float] | None = None,
    ) -> None:
        """Draw grid, tick labels and axis labels."""
        for value in ticks(self.x0, self.x1) if xticks is None else xticks:
            svg.line(self.x(value), self.top, self.x(value), self.bottom, css="grid")
            svg.text(self.x(value), self.bottom + 16, tick_label(value), "middle", "tick")
        for value in ticks(self.y0, self.y1) if yticks is None else yticks:
            svg.line(self.left, self.y(value), self.right, self.y(value), css="grid")
            svg.text(self.left - 7, self.y(value) + 4, tick_label(value), "end", "tick")
        svg.add(
            "rect", x=float(self.left), y=float(self.top), width=float(self.width), height=float(self.height), css="box"
        )
        if xlabel:
            svg.text(self.left + self.width / 2, self.bottom + 36, xlabel, "middle", "label")
        if ylabel:
            x, y = self.left - 46, self.top + self.height / 2
            svg.text(x, y, ylabel, "middle", "label", turned=True)


def tick_label(value: float) -> str:
    """Write a tick without trailing zeros."""
    return f"{0.0 if abs(value) < 1e-12 else value:g}".replace("-", "−")


def padded(values: Iterable[float], share: float = 0.08, at_least: float = 0.0) -> tuple[float, float]:
    """Give limits around values with some air; (0, 1) around none."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    air = max((high - low) * share, at_least, 1e-6 if high > low else max(abs(high) * 0.1, 1e-3))
    return low - air, high + air
