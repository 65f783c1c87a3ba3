"""Figures of what an activation costs: arithmetic against time, time over passes, time over memory, the roofline.

Plain numbers in, `go.Figure` out; nothing here measures.
"""

import math
from collections.abc import Collection, Mapping
from itertools import cycle
from numbers import Real

import pandas as pd
import plotly.graph_objects as go

from minipolycom.viz.drawing import blank, bring_table, describe
from minipolycom.viz.svg import CORNERS
from minipolycom.viz.theme import NEUTRAL, PALETTE, styles

ROOFS = ("solid", "9px,3px", "3px,3px", "12px,3px,3px,3px")
"""Dashes of the machines in a roofline."""

TICKS, FINE_TICKS = (1, 2, 5), (1, 1.2, 1.5, 2, 3, 4, 5, 7)
"""Named places of a decade on a logarithmic axis, and on one shorter than a decade."""


def work_and_time(work: Mapping[str, Real], time: Mapping[str, Real], unit: str) -> go.Figure:
    """Of each name the arithmetic and the time, both relative to those of `unit`, as two marks of one row.

    Where the two marks lie apart, time does not follow arithmetic.
    Raises ValueError where the names differ or the unit is not among them.
    """
    _check_names(work, time)
    _check_unit(unit, work)
    names = sorted(work, key=work.get)
    columns = {
        "operations": [work[name] / work[unit] for name in names],
        "time": [time[name] / time[unit] for name in names],
    }
    figure = blank("What it computes, and how long it takes", f"relative to: {unit}", "", height=150 + 36 * len(names))
    for name, *ends in zip(names, *columns.values(), strict=True):
        figure.add_scatter(
            x=ends, y=[name, name], mode="lines", name=name, showlegend=False, hoverinfo="skip",
            line=dict(color=NEUTRAL, width=1.5, dash="2px,3px"),
        )  # fmt: skip
    looks = ((PALETTE["blue"], "circle"), (PALETTE["vermillion"], "diamond"))
    for (label, values), (colour, symbol) in zip(columns.items(), looks, strict=True):
        figure.add_scatter(
            x=values, y=names, mode="markers", name=label, marker=dict(size=12, color=colour, symbol=symbol)
        )
    figure.update_xaxes(type="log", range=_around([*columns["operations"], *columns["time"]]), exponentformat="power")
    figure.update_yaxes(categoryorder="array", categoryarray=names, dtick=1)
    figure.update_layout(hovermode="closest")
    told = "; ".join(f"{name} {w:.2g} and {t:.2g}" for name, w, t in zip(names, *columns.values(), strict=True))
    return _told(figure, f"Operations and time, relative to: {unit}. {told}.", columns, names)


def time_over_passes(passes: Mapping[str, Real], times: Mapping[str, Real], one_pass: Real) -> go.Figure:
    """Time of each name over its passes over memory; on the line a pass takes `one_pass`, the unit of time.

    Raises ValueError where the names differ or one_pass is not positive.
    """
    _check_names(passes, times)
    if not one_pass > 0:
        raise ValueError(f"a pass takes some time; got {one_pass}")
    units = {name: time / one_pass for name, time in times.items()}
    figure = blank("Time against passes over memory", "passes over memory", "time, in passes of a ReLU", height=440)
    along, up = _around(passes.values()), _around([*units.values(), *passes.values()])
    ends = [10 ** along[0], 10 ** along[1]]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="time follows passes", line=dict(color=NEUTRAL, width=2, dash="9px,4px")
    )
    _add_points(figure, passes, units)
    figure.update_xaxes(type="log", range=along, **_named_places(along))
    figure.update_yaxes(type="log", range=up, **_named_places(up))
    told = "; ".join(f"{name} {passes[name]:.3g} and {units[name]:.3g}" for name in passes)
    columns = {"passes": list(passes.values()), "time": list(units.values())}
    return _told(figure, f"Passes over memory, and time in passes of a ReLU. {told}.", columns, passes)


def time_over_memory(
    kept: Mapping[str, Real], times: Mapping[str, Real], unit: str, memory: str = "tensors of the size of x"
) -> go.Figure:
    """Time relative to that of `unit` over what is kept for backward: the nearer to the lower left, the better.

    `memory` says in what `kept` is counted.
    Raises ValueError where the names differ or the unit is not among them.
    """
    _check_names(kept, times)
    _check_unit(unit, kept)
    relative = {name: time / times[unit] for name, time in times.items()}
    xlabel, ylabel = f"kept for backward, {memory}", f"time, relative to: {unit}"
    figure = blank("Time against memory, forward and backward", xlabel, ylabel, height=440)
    _add_points(figure, kept, relative)
    up = _around(relative.values())
    figure.update_xaxes(range=[0, 1.08 * max(kept.values())])
    figure.update_yaxes(type="log", range=up, **_named_places(up))
    told = "; ".join(f"{name} {kept[name]:.3g} and {relative[name]:.3g}" for name in kept)
    columns = {"kept": list(kept.values()), "time": list(relative.values())}
    return _told(figure, f"Kept for backward, {memory}, and time relative to: {unit}. {told}.", columns, kept)


def roofline(points: Mapping[str, tuple[Real, Real]], machines: Mapping[str, tuple[Real, Real]]) -> go.Figure:
    """Jobs under the roofs of machines, min(peak, intensity x bandwidth), on logarithmic axes.

    points: of each job operations per byte, and 10^9 operations per second; machines: of each peak in 10^9 operations
    and bandwidth in 10^9 bytes per second. Raises ValueError for none or more than four machines.
    """
    if not 1 <= len(machines) <= len(ROOFS):
        raise ValueError(f"a roofline shows 1 to {len(ROOFS)} machines; got {len(machines)}")
    figure = blank("The roofline", "operations per byte", "10⁹ operations per second", height=460)
    ridges = {name: peak / bandwidth for name, (peak, bandwidth) in machines.items()}
    along = _around([intensity for intensity, _ in points.values()] + list(ridges.values()))
    for (name, (peak, bandwidth)), dash in zip(machines.items(), ROOFS, strict=False):
        x = [10 ** along[0], ridges[name], 10 ** along[1]]
        figure.add_scatter(
            x=x, y=[x[0] * bandwidth, peak, peak], mode="lines", name=name,
            line=dict(color=NEUTRAL, width=2, dash=dash),
        )  # fmt: skip
    _add_points(
        figure, {name: place for name, (place, _) in points.items()}, {name: rate for name, (_, rate) in points.items()}
    )
    figure.update_xaxes(type="log", range=along, exponentformat="power")
    figure.update_yaxes(type="log", exponentformat="power")
    roofs = "; ".join(
        f"{name}: peak {peak:.3g}, bandwidth {bandwidth:.3g}, ridge at {ridges[name]:.3g} operations per byte"
        for name, (peak, bandwidth) in machines.items()
    )
    told = "; ".join(f"{name} {place:.3g} and {rate:.3g}" for name, (place, rate) in points.items())
    columns = {
        "operations per byte": [place for place, _ in points.values()],
        "10⁹ operations per second": [rate for _, rate in points.values()],
    }
    sentence = f"The roofline, in 10⁹ per second. {roofs}. Jobs, operations per byte and rate: {told}."
    return _told(figure, sentence, columns, points)


def _check_names(one: Mapping[str, Real], other: Mapping[str, Real]) -> None:
    if one.keys() != other.keys():
        raise ValueError(f"both need the same names; got {', '.join(one)} and {', '.join(other)}")


def _check_unit(unit: str, known: Mapping[str, Real]) -> None:
    if unit not in known:
        raise ValueError(f"the unit {unit!r} is not among the names: {', '.join(known)}")


def _add_points(figure: go.Figure, x: Mapping[str, Real], y: Mapping[str, Real]) -> None:
    """A mark for each name, told apart by colour and by shape."""
    for (name, (colour, _)), symbol in zip(styles(list(x)).items(), cycle(("circle", *CORNERS)), strict=False):
        figure.add_scatter(
            x=[x[name]], y=[y[name]], mode="markers", name=name, marker=dict(size=13, color=colour, symbol=symbol)
        )
    figure.update_layout(hovermode="closest")


def _around(values: Collection[Real]) -> list[float]:
    """Ends of a logarithmic axis, as logarithms, with room around the values."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.15, 0.08 * (high - low))
    return [low - room, high + room]


def _named_places(ends: list[float]) -> dict[str, list]:
    """Ticks between two ends given as logarithms."""
    decades, ticks = range(math.floor(ends[0]), math.ceil(ends[1]) + 1), TICKS if ends[1] - ends[0] > 1 else FINE_TICKS
    places = [tick * 10.0**decade for decade in decades for tick in ticks]
    inside = [place for place in places if ends[0] <= math.log10(place) <= ends[1]]
    return {"tickvals": inside, "ticktext": [f"{place:g}" for place in inside]}


def _told(figure: go.Figure, sentence: str, columns: Mapping[str, list], names: Collection[str]) -> go.Figure:
    describe(figure, sentence)
    numbers = pd.DataFrame(columns, index=list(names)).rename_axis("name")
    bring_table(figure, numbers)
    return figure
