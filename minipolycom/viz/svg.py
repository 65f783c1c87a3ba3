"""Figures as static SVG pictures, without a browser: for GitHub, exported pages, and Colab while something is running.

It draws what the figures here are made of, and no more of plotly than that: lines with dots and the area between two
of them, marks with error bars, bars with their numbers, heat maps, panels side by side, axes of numbers, of logarithms
and of names, titles, annotations, the legend.
"""

import html
import math
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from numbers import Real

import numpy as np
from plotly.basedatatypes import BaseFigure

from minipolycom.viz.theme import FONT, NEUTRAL

GRID = "rgba(127,135,145,0.18)"
AXIS = "rgba(127,135,145,0.7)"
COLD, WARM = (0, 34, 78), (254, 232, 56)  # the two ends of the colour scale Cividis
LETTER, LEGEND_ROW = 6.6, 20  # mean width of a letter at 13 px, height of a line of the legend
PLUS = (  # a third of the width of the square it stands in, all around
    (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
    (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
)  # fmt: skip
CORNERS = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "triangle-up": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "triangle-down": ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    "cross": PLUS,
    "x": tuple((math.sqrt(0.5) * (a - b), math.sqrt(0.5) * (a + b)) for a, b in PLUS),
}
"""Corners of the marks that are no circles, for a mark that reaches one to each side; downwards is positive."""
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def svg(figure: BaseFigure, description: str, width: int = 860) -> str:
    """A figure as one `<svg>` element of that width; `description` is what a screen reader says in its place."""
    height = figure.layout.height or 400
    margin = figure.layout.template.layout.margin
    own = figure.layout.margin
    left, right, top, bottom = (
        getattr(own, side) if getattr(own, side) is not None else getattr(margin, side) for side in "lrtb"
    )
    left += 8  # room for the longest tick labels, which plotly makes by itself
    left = max([left, *(20 + LETTER * len(name) for trace in figure.data for name in _names(trace.y))])
    legend = _legend_rows(figure, width - left)
    top += LEGEND_ROW * len(legend)
    page = (left, top, width - left - right, height - top - bottom)
    parts = [_title(figure, left)]
    places = {}
    for x_id, y_id in dict.fromkeys((t.xaxis or "x", t.yaxis or "y") for t in figure.data) or {("x", "y"): None}:
        traces = [t for t in figure.data if (t.xaxis or "x", t.yaxis or "y") == (x_id, y_id)]
        x_axis, y_axis = _axis(figure, x_id), _axis(figure, y_id)
        panel = _Panel(x_axis, y_axis, traces, page, _range(figure, y_axis, "y", traces))
        places[x_id] = panel
        parts += [*panel.frame(), *(mark for trace in traces for mark in panel.marks(trace))]
    parts += [_upright(shape, places[shape.xref]) for shape in figure.layout.shapes]
    parts += [_annotation(a, page, places) for a in figure.layout.annotations]
    parts += _legend(legend, left, top - 14)
    label = html.escape(description)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" '
        f'style="max-width:{width}px" role="img" aria-label="{label}" '
        f'font-family="{html.escape(FONT)}" font-size="13" fill="{NEUTRAL}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


class _Panel:
    """One pair of axes: where numbers lie on the page, and the marks of the traces drawn there."""

    def __init__(self, x_axis, y_axis, traces, page, y_range):
        left, top, width, height = page
        (x0, x1), (y0, y1) = x_axis.domain or (0, 1), y_axis.domain or (0, 1)
        self.left, self.right = left + x0 * width, left + x1 * width
        self.top, self.bottom = top + (1 - y1) * height, top + (1 - y0) * height
        self.x_axis, self.y_axis, self.traces = x_axis, y_axis, traces
        values = [v for t in traces for v in (t.x if t.x is not None else ())]
        heat = any(t.type == "heatmap" for t in traces)
        self.x_names = [str(v) for v in traces[0].x] if heat else _all_names(x_axis, [t.x for t in traces])
        self.y_names = [str(v) for v in traces[0].y] if heat else _all_names(y_axis, [t.y for t in traces])
        self.x_range = (-0.5, len(self.x_names) - 0.5) if self.x_names else _extent(x_axis, values, pad=0.0)
        self.y_range = (-0.5, len(self.y_names) - 0.5) if self.y_names else y_range

    def x(self, value) -> Real:
        if self.x_names and not isinstance(value, float):
            value = self.x_names.index(str(value))
        return self.left + (self.right - self.left) * _share(self.x_axis, self.x_range, value)

    def y(self, value) -> Real:
        if isinstance(value, str):
            value = self.y_names.index(value)
        return self.bottom - (self.bottom - self.top) * _share(self.y_axis, self.y_range, value)

    def frame(self) -> Iterator[str]:
        """Grid, axes, ticks and their labels."""
        middle = (self.left + self.right) / 2
        labelled = self.y_axis.showticklabels is not False
        for value, text in _ticks(self.y_axis, self.y_range, self.y_names):
            y = self.y(value)
            yield _line(self.left, y, self.right, y, GRID)
            if labelled:
                yield _text(self.left - 8, y + 4, text, anchor="end", size=12)
        for value, text in _ticks(self.x_axis, self.x_range, self.x_names):
            x = self.x(float(value))
            yield _line(x, self.bottom, x, self.bottom + 4, AXIS)
            if self.x_axis.showticklabels is not False:
                yield _text(x, self.bottom + 18, text, "middle", 12)
        yield _line(self.left, self.bottom, self.right, self.bottom, AXIS)
        yield _line(self.left, self.top, self.left, self.bottom, AXIS)
        for axis, at_zero in ((self.x_axis, self.x), (self.y_axis, self.y)):
            low, high = self.x_range if axis is self.x_axis else self.y_range
            if axis.zeroline and axis.type != "log" and low < 0 < high:
                zero = at_zero(0.0)
                ends = (
                    (zero, self.top, zero, self.bottom) if axis is self.x_axis else (self.left, zero, self.right, zero)
                )
                yield _line(*ends, "rgba(127,135,145,0.4)")
        yield _text(middle, self.bottom + 38, self.x_axis.title.text or "", anchor="middle")
        if self.y_axis.title.text:
            turn = f'transform="translate({self.left - 46:.1f} {(self.top + self.bottom) / 2:.1f}) rotate(-90)"'
            yield f"<g {turn}>{_text(0, 0, self.y_axis.title.text, anchor='middle')}</g>"

    def marks(self, trace) -> Iterator[str]:
        """The lines, dots, bars or cells of one trace."""
        if trace.type == "heatmap":
            yield from self._cells(np.array(trace.z, dtype=float), trace)
        elif trace.type == "bar":
            yield from self._bars(trace)
        else:
            yield from self._line_and_dots(trace)

    def _points(self, trace) -> list[tuple[Real, Real]]:
        """Where the points of a trace lie on the page, those that the axes can show."""
        return [
            (self.x(x if isinstance(x, str) else float(x)), self.y(y if isinstance(y, str) else float(y)))
            for x, y in zip(trace.x, trace.y, strict=True)
            if _can_show(self.x_axis, x) and _can_show(self.y_axis, y)
        ]

    def _line_and_dots(self, trace) -> Iterator[str]:
        points = self._points(trace)
        # Named after its corners: two pictures on one page may share the name only where they share the shape.
        clip = f"clip-{self.left:.0f}-{self.top:.0f}-{self.right:.0f}-{self.bottom:.0f}"
        box = _rect(self.left, self.top, self.right - self.left, self.bottom - self.top)
        yield f'<clipPath id="{clip}">{box}</clipPath>'
        opacity = f' opacity="{trace.opacity}"' if trace.opacity is not None else ""
        if trace.fill == "tonexty":
            (before,) = (other for other, own in pairwise(self.traces) if own is trace)
            corners = _corners([*points, *reversed(self._points(before))])
            yield f'<polygon points="{corners}" fill="{trace.fillcolor}" clip-path="url(#{clip})"/>'
        if "lines" in trace.mode and len(points) > 1:
            path = _corners(points)
            dash = f' stroke-dasharray="{_dashes(trace.line.dash)}"' if _dashes(trace.line.dash) else ""
            yield (
                f'<polyline points="{path}" fill="none" stroke="{trace.line.color}" stroke-width="{trace.line.width}"'
                f'{dash}{opacity} stroke-linejoin="round" clip-path="url(#{clip})"/>'
            )
        if trace.error_x.array is not None:
            yield from self._error_bars(trace)
        if "markers" in trace.mode:
            yield "".join(_mark(trace.marker, x, y) for x, y in points)

    def _error_bars(self, trace) -> Iterator[str]:
        bars = trace.error_x
        for x, name, less, more in zip(trace.x, trace.y, bars.arrayminus, bars.array, strict=True):
            if np.isfinite([x, less, more]).all():
                y = self.y(name)
                yield _line(self.x(x - less), y, self.x(x + more), y, bars.color, width=bars.thickness)

    def _bars(self, trace) -> Iterator[str]:
        half = 0.275 * (self.right - self.left) / len(trace.x)
        base = self.y(max(0.0, self.y_range[0])) if self.y_axis.type != "log" else self.bottom
        texts = trace.text if trace.text is not None else [""] * len(trace.x)
        for name, value, text, colour in zip(trace.x, trace.y, texts, trace.marker.color, strict=True):
            x, y = self.x(name), self.y(float(value))
            yield _rect(x - half, min(y, base), 2 * half, abs(base - y), colour)
            if text:
                yield _text(x, min(y, base) - 6, text, "middle", 12)

    def _cells(self, z, trace) -> Iterator[str]:
        low = np.nanmin(z) if trace.zmin is None else trace.zmin
        high = np.nanmax(z) if trace.zmax is None else trace.zmax
        yield _text(self.right, self.top - 8, f"{trace.name}: dark {low:.4g}, bright {high:.4g}", anchor="end", size=12)
        width, height = (self.right - self.left) / z.shape[1], (self.bottom - self.top) / z.shape[0]
        for (i, j), value in np.ndenumerate(z):
            if np.isfinite(value):
                share = (value - low) / (high - low) if high > low else 0.5
                colour = ",".join(f"{a + (b - a) * share:.0f}" for a, b in zip(COLD, WARM, strict=True))
                x, y = self.left + j * width, self.bottom - (i + 1) * height
                yield _rect(x, y, width + 0.3, height + 0.3, f"rgb({colour})", title=f"{value:.4g}")


# -- axes ----------------------------------------------------------------------------------------------------------


def _axis(figure: BaseFigure, axis_id: str):
    return figure.layout[f"{axis_id[0]}axis{axis_id[1:]}"]


def _names(values) -> list[str]:
    """Those of a trace's places that are names."""
    return [value for value in (values if values is not None else ()) if isinstance(value, str)]


def _all_names(axis, places) -> list[str] | None:
    """The names along an axis, in its own order or that of their appearance; None along an axis of numbers."""
    known = list(axis.categoryarray) if axis.categoryarray is not None else []
    return list(dict.fromkeys([*known, *(name for values in places for name in _names(values))])) or None


def _can_show(axis, value) -> bool:
    return isinstance(value, str) or (bool(np.isfinite(float(value))) and not (axis.type == "log" and value <= 0))


def _range(figure: BaseFigure, axis, letter: str, traces) -> tuple[Real, Real]:
    if axis.matches:  # shared with another panel
        axis = _axis(figure, axis.matches)
    bar = any(t.type == "bar" for t in traces)
    values = [v for t in traces for v in (t[letter] if t[letter] is not None else ()) if not isinstance(v, str)]
    return _extent(axis, [0.0, *values] if bar and axis.type != "log" else values, pad=0.06)


def _extent(axis, values, pad: Real) -> tuple[Real, Real]:
    """The ends of an axis, as logarithms on a logarithmic one: those asked for, or those of the data and a margin."""
    if axis.range is not None:
        return tuple(float(v) for v in axis.range)
    numbers = np.array([float(v) for v in values], dtype=float)
    numbers = numbers[np.isfinite(numbers) & ((numbers > 0) | (axis.type != "log"))]
    if numbers.size == 0:
        return (0.0, 1.0)
    if axis.type == "log":
        numbers = np.log10(numbers)
    low, high = float(numbers.min()), float(numbers.max())
    to_zero = axis.rangemode == "tozero" and axis.type != "log"
    if to_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    margin = pad * (high - low)
    return low - (0 if to_zero and low == 0 else margin), high + (0 if to_zero and high == 0 else margin)


def _share(axis, ends: tuple[Real, Real], value: Real) -> Real:
    value = math.log10(value) if axis.type == "log" else value
    return (value - ends[0]) / (ends[1] - ends[0])


def _ticks(axis, ends: tuple[Real, Real], names: list[str] | None) -> list[tuple[Real, str]]:
    if names:
        stride = max(1, len(names) // (axis.nticks or 12))
        shown = dict(zip(axis.tickvals or names, axis.ticktext or names, strict=True))
        return [(i, shown[name]) for i, name in enumerate(names) if i % stride == 0]
    if axis.tickvals is not None:
        return [(float(value), text) for value, text in zip(axis.tickvals, axis.ticktext, strict=True)]
    low, high = ends
    if axis.type == "log":
        stride = max(1, math.ceil((high - low) / 7))
        powers = range(math.ceil(low), math.floor(high) + 1, stride)
        return [(10.0**p, f"{10.0**p:g}" if -3 <= p <= 4 else f"10{str(p).translate(SUPERSCRIPT)}") for p in powers]
    raw = (high - low) / 6
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= raw)
    counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(k * step, f"{k * step:,.10g}".replace("-", "−")) for k in counts]


# -- text, lines, legend -------------------------------------------------------------------------------------------


def _line(x0: Real, y0: Real, x1: Real, y1: Real, colour: str, dashes: str = "", width: Real = 1) -> str:
    look = (f' stroke-width="{width:g}"' if width != 1 else "") + (f' stroke-dasharray="{dashes}"' if dashes else "")
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}"{look}/>'


def _corners(points: Iterable[tuple[Real, Real]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _mark(marker, x: Real, y: Real) -> str:
    """One mark of a trace, with its edge if it has one."""
    radius, look = marker.size / 2, f'fill="{marker.color}"'
    if marker.opacity is not None:
        look += f' opacity="{marker.opacity}"'
    if marker.line.width:
        look += f' stroke="{marker.line.color}" stroke-width="{marker.line.width}"'
    if marker.symbol in CORNERS:
        corners = _corners((x + radius * a, y + radius * b) for a, b in CORNERS[marker.symbol])
        return f'<polygon points="{corners}" {look}/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>'


def _rect(x: Real, y: Real, width: Real, height: Real, colour: str = "", title: str = "") -> str:
    fill, inside = f' fill="{colour}"' if colour else "", f"<title>{title}</title>" if title else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{fill}>{inside}</rect>'


def _text(x: Real, y: Real, text: str, anchor: str = "start", size: int = 13, weight: int = 400) -> str:
    plain = html.escape(re.sub(r"<[^>]*>", "", text), quote=False)
    strong = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{strong}>{plain}</text>'


def _title(figure: BaseFigure, left: Real) -> str:
    rows = (figure.layout.title.text or "").split("<br>")
    return "".join(_text(left, 24 + 18 * i, row, size=16 if i == 0 else 12) for i, row in enumerate(rows) if row)


def _upright(shape, panel: _Panel) -> str:
    """The line that `add_vline` draws over the whole height of a panel."""
    x = panel.x(float(shape.x0))
    return _line(x, panel.bottom, x, panel.top, shape.line.color, _dashes(shape.line.dash))


def _annotation(note, page, panels) -> str:
    left, top, width, height = page
    x = left + note.x * width if note.xref in (None, "paper") else panels[note.xref].x(float(note.x))
    y = top + (1 - note.y) * height - (note.yshift or 0)
    anchor = {"left": "start", "right": "end"}.get(note.xanchor, "middle")
    first = y + 12 if note.yanchor == "top" else y - 4
    size = int(note.font.size or 13)
    return "".join(_text(x, first + 16 * i, row, anchor, size) for i, row in enumerate(note.text.split("<br>")))


def _dashes(dash: str | None) -> str:
    named = {"dash": "9 9", "dot": "3 3", "dashdot": "9 3 3 3", "longdash": "15 15", "longdashdot": "15 5 3 5"}
    return named.get(dash or "", "" if dash in (None, "solid") else dash.replace("px", "").replace(",", " "))


def _legend_rows(figure: BaseFigure, width: Real) -> list[list[tuple[Real, object]]]:
    """The traces that the legend names, with their places from the left, broken into rows of that width.

    A single trace needs no legend, which then has no row.
    """
    shown = [t for t in figure.data if t.type == "scatter" and t.showlegend is not False]
    rows, x = [], 0.0
    for trace in shown if len(shown) > 1 and figure.layout.showlegend is not False else ():
        needed = 42 + LETTER * len(trace.name) + 24
        if not rows or x + needed > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, trace))
        x += needed
    return rows


def _legend(rows: list[list[tuple[Real, object]]], left: Real, lowest: Real) -> Iterator[str]:
    """Entries above the panels, each with its own piece of line."""
    for i, row in enumerate(reversed(rows)):
        y = lowest - LEGEND_ROW * i
        for x, trace in row:
            if trace.mode == "markers":
                yield _mark(trace.marker, left + x + 18, y)
            else:
                yield _line(left + x, y, left + x + 36, y, trace.line.color, _dashes(trace.line.dash), trace.line.width)
            yield _text(left + x + 42, y + 4, trace.name)
