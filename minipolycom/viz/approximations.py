"""Figures of approximations: how a network adds up to a function, and how its error falls as it grows."""

import math
import statistics
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.approximation import fit_rate
from minipolycom.viz.drawing import blank, describe, head_panels, panel
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

PARAMETERS = "parameters"
ERROR = "largest error"
ROUNDING = 1e-9
"""A bump is 0 from its end on; what the sum of its rectifiers leaves there is smaller than this."""


def contributions(parts: Mapping[str, ArrayLike], x: ArrayLike, title: str, xlabel: str = "x") -> go.Figure:
    """What each neuron adds to a function of one variable (thin), and their sum (bold), at the places `x`.

    Raises ValueError for no parts and for a part whose length is not that of `x`.
    """
    if not parts:
        raise ValueError("a sum needs parts; got none: name at least one neuron with its values")
    places, look = np.asarray(x, dtype=float), styles(parts)
    values = {name: np.asarray(part, dtype=float) for name, part in parts.items()}
    for name, part in values.items():
        if part.shape != places.shape:
            raise ValueError(f"part {name!r} has {part.size} values for {places.size} places on the x axis")
    total = sum(values.values())
    figure = blank(title, xlabel, "value")
    wide = dict(color=faint(NEUTRAL, 0.4), width=9)
    figure.add_scatter(x=places, y=total, name="sum", mode="lines", line=wide)
    for name, part in values.items():
        colour, dash = look[name]
        figure.add_scatter(x=places, y=part, name=name, mode="lines", line=dict(color=colour, dash=dash, width=2))
    figure.update_yaxes(zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4))
    largest = max(float(np.abs(part).max()) for part in values.values())
    return describe(
        figure,
        f"{title}. {len(values)} parts, at most {largest:.3g} in size, add up to a curve from {total[0]:.3g} "
        f"to {total[-1]:.3g}, at most {np.abs(total).max():.3g} in size.",
    )


def patches(
    x: ArrayLike, target: ArrayLike, bumps: ArrayLike, polynomials: ArrayLike, title: str = "Bumps and patches"
) -> go.Figure:
    """The bumps of a partition of unity and their sum; beside them the target, one polynomial per bump and the blend.

    `bumps` and `polynomials` have one row per centre and one column per place `x`; a polynomial is drawn where its bump
    is not zero, the blend is sum_m bumps[m] * polynomials[m]. Raises ValueError for arrays whose shapes do not fit.
    """
    places, wanted, weights, local = (np.asarray(array, dtype=float) for array in (x, target, bumps, polynomials))
    if weights.shape != local.shape or weights.shape[1:] != places.shape or wanted.shape != places.shape:
        raise ValueError(
            f"bumps and polynomials have one row per centre and a column for each of the {places.size} places; "
            f"got shapes {weights.shape} and {local.shape}, and a target of shape {wanted.shape}"
        )
    blend = (weights * local).sum(axis=0)
    titles = ("bumps, and their sum", "a polynomial per patch, blended")
    figure = blank(title, "x", "", make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.09))
    colours = list(PALETTE.values())
    for m, (weight, polynomial) in enumerate(zip(weights, local, strict=True)):
        line = dict(color=colours[m % len(colours)], width=2)
        name, shown = f"patch {m}", weight > ROUNDING
        figure.add_scatter(
            x=places, y=weight, name=f"{name}, bump", mode="lines", line=line, showlegend=False, **panel(1)
        )
        figure.add_scatter(
            x=places, y=np.where(shown, polynomial, np.nan), name=name, mode="lines", line=line, showlegend=False,
            **panel(2),
        )  # fmt: skip
    grey = dict(color=NEUTRAL, width=2.5, dash="6px,4px")
    total = weights.sum(axis=0)
    figure.add_scatter(x=places, y=total, name="sum of the bumps", mode="lines", line=grey, **panel(1))
    wide = dict(color=faint(NEUTRAL, 0.35), width=7)
    figure.add_scatter(x=places, y=wanted, name="target", mode="lines", line=wide, **panel(2))
    figure.add_scatter(x=places, y=blend, name="blend", mode="lines", line=grey, **panel(2))
    figure.update_xaxes(title="x")
    head_panels(figure)
    off = np.abs(blend - wanted).max()
    return describe(
        figure,
        f"{title}. {len(weights)} bumps add up to between {total.min():.3g} and {total.max():.3g}; the blend of their "
        f"polynomials is off the target by at most {off:.3g}.",
    )


def errors_over_size(
    curves: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    title: str,
    xlabel: str = PARAMETERS,
    ylabel: str = ERROR,
    log: str = "xy",
) -> go.Figure:
    """One line per entry: (sizes, errors), each measured at its own sizes; `log` names the logarithmic axes.

    Raises ValueError for a curve without one error for each size.
    """
    figure, look, told = blank(title, xlabel, ylabel), styles(curves), []
    for name, (sizes, errors) in curves.items():
        _check_pairs(name, sizes, errors)
        colour, dash = look[name]
        figure.add_scatter(
            x=list(sizes), y=list(errors), name=name, mode="lines+markers",
            line=dict(color=colour, dash=dash, width=2.5), marker=dict(size=7, color=colour),
        )  # fmt: skip
        told.append(f"{name} from {errors[0]:.3g} at {sizes[0]:g} to {errors[-1]:.3g} at {sizes[-1]:g}")
    _logarithmic(figure, log)
    return describe(figure, f"{title}. {ylabel.capitalize()} over {xlabel}: {'; '.join(told)}.")


def rates(curves: Mapping[str, Sequence[Mapping]], title: str) -> go.Figure:
    """Measured errors over the number of parameters (marks) with the power law fitted to each curve (line).

    A curve is a list of rows of `approximation.approximation_rows`; its slope and the slope's standard error stand in
    the legend. Raises ValueError as `approximation.fit_rate` does.
    """
    figure, look, told = blank(title, PARAMETERS, ERROR), styles(curves), []
    for name, rows in curves.items():
        sizes, errors = _columns(rows)
        rate = fit_rate(sizes, errors)
        along = np.log(sizes) - np.log(sizes).mean()
        law = np.exp(np.log(errors).mean() + rate.slope * along)
        colour, dash = look[name]
        figure.add_scatter(
            x=sizes, y=errors, name=f"{name}, measured", mode="markers", marker=dict(size=8, color=colour),
            legendgroup=name, showlegend=False,
        )  # fmt: skip
        said = f"{name}: slope {rate.slope:.2f} ± {rate.standard_error:.2f}"
        figure.add_scatter(
            x=sizes, y=law, name=said, mode="lines", line=dict(color=colour, dash=dash, width=2), legendgroup=name
        )
        told.append(said)
    _logarithmic(figure, "xy")
    return describe(figure, f"{title}. {ERROR.capitalize()} over {PARAMETERS}, power laws fitted: {'; '.join(told)}.")


def fits(
    rows: Sequence[Mapping], construction: Sequence[Mapping], title: str, measure: str = "largest_error"
) -> go.Figure:
    """What training reached: a mark for each network, a line through the medians of each activation, beside the
    construction's errors at its sizes.

    `rows` are those of `approximation.compare_fits`, of which the ones with their activation's chosen learning rate are
    drawn; `construction` those of `approximation.approximation_rows`. Raises ValueError for no chosen rows.
    """
    chosen = [row for row in rows if row["chosen"]]
    if not chosen:
        raise ValueError("there is no row with a chosen learning rate: take the rows as compare_fits returns them")
    by_activation: dict[str, dict[int, list[float]]] = {}
    for row in chosen:
        by_activation.setdefault(row["activation"], {}).setdefault(row["parameters"], []).append(row[measure])
    figure, look, told = blank(title, PARAMETERS, measure.replace("_", " ")), styles(by_activation), []
    for name, by_size in by_activation.items():
        colour, dash = look[name]
        figure.add_scatter(
            x=[size for size, errors in by_size.items() for _ in errors],
            y=[error for errors in by_size.values() for error in errors],
            name=f"{name}, each seed", mode="markers", marker=dict(size=6, color=faint(colour, 0.6)), legendgroup=name,
            showlegend=False,
        )  # fmt: skip
        medians = [statistics.median(errors) for errors in by_size.values()]
        figure.add_scatter(
            x=list(by_size), y=medians, name=name, mode="lines", line=dict(color=colour, dash=dash, width=2.5),
            legendgroup=name,
        )  # fmt: skip
        told.append(f"{name} from {medians[0]:.3g} at {min(by_size)} to {medians[-1]:.3g} at {max(by_size)}")
    sizes, errors = _columns(construction)
    figure.add_scatter(
        x=sizes, y=errors, name="construction", mode="lines+markers", line=dict(color=NEUTRAL, width=2.5),
        marker=dict(size=8, color=NEUTRAL),
    )  # fmt: skip
    told.append(f"the construction from {errors[0]:.3g} at {sizes[0]} to {errors[-1]:.3g} at {sizes[-1]}")
    _logarithmic(figure, "xy")
    return describe(figure, f"{title}. Over {PARAMETERS}, medians over seeds: {'; '.join(told)}.")


def _columns(rows: Sequence[Mapping]) -> tuple[list[int], list[float]]:
    return [row["parameters"] for row in rows], [row["error"] for row in rows]


def _check_pairs(name: str, sizes: Sequence[Real], errors: Sequence[Real]) -> None:
    if len(sizes) != len(errors) or not len(sizes):
        raise ValueError(f"curve {name!r} needs one error for each size; got {len(sizes)} sizes, {len(errors)} errors")


def _logarithmic(figure: go.Figure, log: str) -> None:
    """Logarithmic axes; along the horizontal one, which may be shorter than a power of ten, 1, 2 and 5 are named."""
    if "x" in log:
        sizes = np.concatenate([np.asarray(trace.x, dtype=float) for trace in figure.data])
        powers = range(math.floor(math.log10(sizes.min())), math.ceil(math.log10(sizes.max())) + 1)
        ticks = [digit * 10**power for power in powers for digit in (1, 2, 5)]
        named = [tick for tick in ticks if sizes.min() <= tick <= sizes.max()]
        figure.update_xaxes(type="log", tickvals=named, ticktext=[f"{tick:,}" for tick in named])
    if "y" in log:
        figure.update_yaxes(type="log", exponentformat="power")
