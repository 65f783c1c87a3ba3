"""Figures as pure functions: data in, `go.Figure` out. Nothing here reads a trainer, a folder or a model.

Each figure carries a sentence that says what it shows with its numbers (`alt`), gives the numbers themselves (`table`),
and a picture that needs no script (`static`). `show` displays all of that.
"""

import html
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from statistics import NormalDist

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.basedatatypes import BaseFigure
from plotly.subplots import make_subplots
from torch import Tensor

from minipolycom.activations import ACTIVATION_NAMES, ACTIVATIONS, GATED, polynorm, polyrelu
from minipolycom.viz.drawing import blank, capital, curve, describe, footnote, head_panels, panel
from minipolycom.viz.svg import svg
from minipolycom.viz.theme import NEUTRAL, PAGE_CSS, PALETTE, STYLE, faint, styles

ROW_WIDTH = 256
STANDARD_ROW: Float[Tensor, " F"] = torch.tensor(
    [NormalDist().inv_cdf((i + 0.5) / (ROW_WIDTH - 1)) for i in range(ROW_WIDTH - 1)]
)
"""The 255 entries beside the one that a curve follows: quantiles of the standard normal distribution."""

ROW_NOTE = f"one entry of a row of {ROW_WIDTH}; the others stay at standard normal quantiles"
GATE_NOTE = "drawn for value = gate = x"
AXES = {"step": "optimizer steps", "tokens": "tokens read", "seconds": "seconds of training"}
LOSS = "loss, nats per token"
MOST_TICKS = 12
"""More places on a logarithmic axis are not named one by one, more bars get shorter numbers."""

CONFIG = {"displaylogo": False, "displayModeBar": False, "responsive": True}
"""Plotly's settings of the page: no tool bar, width that follows the window."""


# -- what every figure carries -------------------------------------------------------------------------------------


def alt(figure: BaseFigure) -> str:
    """The sentence that says what a figure shows. Raises ValueError for a figure that carries none."""
    meta = figure.layout.meta
    if not isinstance(meta, Mapping) or not meta.get("alt"):
        raise ValueError("this figure carries no alt text: make it with a function of minipolycom.viz.figures")
    return meta["alt"]


def table(figure: BaseFigure) -> pd.DataFrame:
    """The numbers of a figure: one column per curve or row of bars, the horizontal axis as index.

    Curves that were measured at different places share the index; where one has no value it says NaN. Where names
    stand along the vertical axis, they are the index; the ends of error bars are columns of their own. A figure whose
    curves are not what one would read in a table brings its own along, as `layout.meta["numbers"]`.
    """
    if figure.layout.meta and "numbers" in figure.layout.meta:
        return pd.DataFrame.from_dict(figure.layout.meta["numbers"], orient="tight")
    if figure.layout.yaxis.categoryarray is not None:
        return _table_of_names(figure)
    columns = []
    for trace in figure.data:
        if trace.type == "heatmap":
            return pd.DataFrame(np.array(trace.z), index=list(trace.y), columns=list(trace.x))
        x = pd.Index(np.array(trace.x))
        # A place measured twice (a run that was taken up again) keeps its last value.
        columns.append(pd.Series(np.array(trace.y), index=x, name=trace.name)[~x.duplicated(keep="last")])
    if not columns:
        return pd.DataFrame()
    same = all(len(c) == len(columns[0]) and (c.index == columns[0].index).all() for c in columns)
    numbers = pd.concat(columns, axis=1) if same else pd.concat(columns, axis=1).sort_index()
    return numbers.rename_axis(figure.layout.xaxis.title.text or "x")


def _table_of_names(figure: BaseFigure) -> pd.DataFrame:
    parts = []
    for trace in figure.data:
        middle, less, more = (np.array(v) for v in (trace.x, trace.error_x.arrayminus, trace.error_x.array))
        columns = {"mean": middle, "lowest": middle - less, "highest": middle + more, "": trace.name}
        parts.append(pd.DataFrame(columns, index=list(trace.y)))
    return pd.concat(parts).reindex(figure.layout.yaxis.categoryarray)


def static(figure: BaseFigure, width: int = 860) -> str:
    """A figure as an SVG picture with its alt text inside: for pages that run no script."""
    return svg(figure, description=alt(figure), width=width)


def show(figure: BaseFigure) -> None:
    """Display a figure in a notebook, and under it, folded, its description and its numbers.

    Pages that cannot run plotly (GitHub, exported HTML) show the static picture.
    """
    from IPython.display import HTML, display

    if in_colab():
        picture = {"text/html": figure.to_html(include_plotlyjs="cdn", full_html=False, config=CONFIG)}
    else:
        interactive = {**json.loads(figure.to_json()), "config": CONFIG}
        picture = {"application/vnd.plotly.v1+json": interactive, "image/svg+xml": static(figure)}
    display({**picture, "text/plain": alt(figure)}, raw=True)
    unseen = f'<div role="img" aria-label="{html.escape(alt(figure))}"></div>'  # for screen readers
    display(HTML(f"<style>{PAGE_CSS}</style>{unseen}{fold(figure)}"))


def fold(figure: BaseFigure, most_rows: int = 24) -> str:
    """HTML: the description and the numbers of a figure, folded; a long table is thinned out evenly."""
    return folded(alt(figure), table(figure), most_rows)


def folded(sentence: str, numbers: pd.DataFrame, most_rows: int = 24) -> str:
    """`fold` of a description and a table."""
    stride = max(1, -(-len(numbers) // most_rows))
    thinned = "" if stride == 1 else f"<p>Every {stride}th of {len(numbers)} rows.</p>"
    body = numbers.iloc[::stride].to_html(border=0, float_format=lambda v: f"{v:.4g}", na_rep="")
    summary = "<summary>Description and numbers</summary>"
    return f"<details>{summary}<p>{html.escape(sentence)}</p>{thinned}{body}</details>"


def in_colab() -> bool:
    """Whether this process serves a Google Colab notebook."""
    return "COLAB_RELEASE_TAG" in os.environ


# -- general figures -----------------------------------------------------------------------------------------------


def lines(
    series: Mapping[str, ArrayLike],
    x: ArrayLike,
    xlabel: str,
    ylabel: str,
    title: str,
    alt: str | None = None,
    log: str = "",
    markers: bool = False,
) -> go.Figure:
    """One line per entry of `series` over the shared places `x`; `log` names the logarithmic axes: "", "x", "y", "xy".

    A name that is an activation's has that activation's colour and dash. Without `alt`, the description is computed.
    Raises ValueError for a series whose length is not that of `x`.
    """
    places, look = np.array(x), styles(series)
    figure = blank(title, xlabel, ylabel)
    for name, values in series.items():
        values = np.array(values, dtype=float)
        if values.shape != places.shape:
            raise ValueError(f"series {name!r} has {values.size} values for {places.size} places on the x axis")
        colour, dash = look[name]
        figure.add_scatter(
            x=places, y=values, name=name, mode="lines+markers" if markers else "lines",
            line=dict(color=colour, dash=dash, width=2.5), marker=dict(size=7, color=colour),
        )  # fmt: skip
    if "x" in log:
        figure.update_xaxes(type="log", exponentformat="power")
        if len(places) <= MOST_TICKS:
            figure.update_xaxes(tickvals=places, ticktext=[f"{place:g}" for place in places])
    if "y" in log:
        figure.update_yaxes(type="log", exponentformat="power")
    told = "; ".join(_told(trace) for trace in figure.data)
    return describe(figure, alt or f"{title}. {capital(ylabel)} over {xlabel}: {told}.")


def bars(
    values: Mapping[str, Real], xlabel: str, ylabel: str, title: str, alt: str | None = None, log: bool = False
) -> go.Figure:
    """One bar per entry of `values` with its number above it.

    Where an activation is among the names, each bar has the colour of its name; otherwise all are blue.
    """
    names, heights = list(values), [float(v) for v in values.values()]
    look, digits = styles(names), 3 if len(values) <= MOST_TICKS else 2
    by_name = any(name in STYLE for name in names)
    figure = blank(title, xlabel, ylabel)
    figure.add_bar(
        x=names, y=heights, name=ylabel, showlegend=False, cliponaxis=False,
        marker=dict(color=[look[name][0] if by_name else PALETTE["blue"] for name in names]),
        text=[f"{v:.{digits}g}" for v in heights], textposition="outside", textfont=dict(size=11), textangle=0,
        constraintext="none",
    )  # fmt: skip
    figure.update_xaxes(type="category", tickmode="linear", dtick=1)  # every bar is named
    figure.update_layout(bargap=0.45)
    if log:
        figure.update_yaxes(type="log", exponentformat="power")
    told = ", ".join(f"{name} {v:.3g}" for name, v in zip(names, heights, strict=True))
    return describe(figure, alt or f"{title}. {capital(ylabel)}: {told}.")


def heat(
    matrix: ArrayLike,
    x: Sequence,
    y: Sequence,
    xlabel: str,
    ylabel: str,
    title: str,
    alt: str | None = None,
    value: str = "value",
) -> go.Figure:
    """A matrix as colours: one row per entry of `y`, one column per entry of `x`; `value` names what is coloured.

    Raises ValueError for a matrix whose shape is not (len(y), len(x)).
    """
    z = np.array(matrix, dtype=float)
    if z.shape != (len(y), len(x)):
        raise ValueError(f"the matrix has shape {z.shape}, its labels ask for ({len(y)}, {len(x)})")
    figure = blank(title, xlabel, ylabel)
    figure.add_heatmap(z=z, x=list(x), y=list(y), name=value, colorscale="Cividis", colorbar=dict(title=value))
    figure.update_layout(margin=dict(t=56))
    (low_y, low_x), (high_y, high_x) = (np.unravel_index(f(z), z.shape) for f in (np.nanargmin, np.nanargmax))
    told = (
        f"from {z[low_y, low_x]:.3g} ({xlabel} {x[low_x]}, {ylabel} {y[low_y]}) "
        f"to {z[high_y, high_x]:.3g} ({xlabel} {x[high_x]}, {ylabel} {y[high_y]})"
    )
    return describe(figure, alt or f"{title}. {capital(value)} over {xlabel} and {ylabel}, {told}.")


# -- activations ---------------------------------------------------------------------------------------------------


def activation_curves(
    activations: Iterable[str | Callable] | Mapping[str, Callable],
    x_range: tuple[Real, Real] = (-3, 3),
    derivative: bool = True,
) -> go.Figure:
    """Activations and, beside them, their slopes by automatic differentiation.

    `activations` holds names, functions or modules; a mapping gives functions the name they are drawn under.
    Each is fed rows of 256 entries and one entry is followed, because PolyNorm has no curve of its own: it depends on
    the whole row. The other 255 entries are `STANDARD_ROW`. A gated activation, a product of two inputs, is drawn for
    equal inputs. The figure says so where either applies.

    Raises ValueError for an unknown name, an empty range, and a function that changes the shape of its input.
    """
    if x_range[0] >= x_range[1]:
        raise ValueError(f"x_range goes from its smaller to its larger end; got {x_range}")
    x = torch.linspace(*x_range, 301)
    figure = (
        make_subplots(cols=2, subplot_titles=("activation", "slope"), horizontal_spacing=0.09) if derivative else None
    )
    figure = blank("Activations and their slopes" if derivative else "Activations", "x", "f(x)", figure)
    notes, told = {}, []
    for name, function in _named(activations).items():
        y, slope = follow(function, x, name=name)
        curve(figure, name, x, y, of=name)
        if derivative:
            curve(figure, f"{name}, slope", x, slope, of=name, column=2, legend=False)
        if name in GATED:
            notes.setdefault(GATE_NOTE, []).append(name)
        elif not torch.allclose(y, follow(function, x, row=3 * STANDARD_ROW)[0], rtol=1e-3, atol=1e-4):
            notes.setdefault(ROW_NOTE, []).append(name)
        told.append(
            f"{name} goes from {y[0]:.2f} over {y[150]:.2f} to {y[-1]:.2f}, "
            f"its slope from {slope[0]:.2f} to {slope[-1]:.2f}"
        )
    figure.update_xaxes(title="x", zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4))
    figure.update_yaxes(zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4))
    noted = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
    if derivative:
        figure.update_layout(yaxis2=dict(title="f′(x)"))
        head_panels(figure)
    footnote(figure, noted)
    middle = (x_range[0] + x_range[1]) / 2
    sentence = f"Activation curves over x from {x_range[0]:g} over {middle:g} to {x_range[1]:g}: {'; '.join(told)}."
    return describe(figure, sentence + (f" In it, {'; '.join(noted)}." if noted else ""))


def activation_panels(
    name: str,
    weight: Sequence[Real] = (1 / 3, 1 / 3, 1 / 3),
    bias: Real = 0.0,
    scale: Real = 1.0,
    outlier: Real = 0.0,
) -> go.Figure:
    """One activation in three panels: its curve, its slope, and PolyNorm and PolyReLU in a row that has one outlier.

    `weight` (highest power first) and `bias` are the coefficients of the two polynomials; the baselines have none.
    `scale` multiplies the whole row. `outlier` is the value of one other entry of the row in the third panel; at 0 the
    row is as in the first. The faint line in each panel is what it would show with everything at its start value.

    Raises ValueError for an unknown name.
    """
    w, b = torch.tensor(weight, dtype=torch.float32), torch.tensor([bias], dtype=torch.float32)
    start_w, start_b = torch.full((len(w),), 1 / len(w)), torch.zeros(1)
    made = {"polynorm": lambda r: polynorm(r, w, b), "polyrelu": lambda r: polyrelu(r, w, b)}
    start = {"polynorm": lambda r: polynorm(r, start_w, start_b), "polyrelu": lambda r: polyrelu(r, start_w, start_b)}
    function = made.get(name) or _named([name])[name]
    first = start.get(name, function)
    x = torch.linspace(-3, 3, 181)
    row = STANDARD_ROW.clone()
    if outlier:
        row[ROW_WIDTH // 2 - 1] = outlier  # in place of the entry at the median, which is 0
    (y, slope), (y0, slope0) = follow(function, x, scale=scale), follow(first, x)
    beside = {n: follow(made[n], x, row=row, scale=scale)[0] for n in made}
    alone = {n: follow(made[n], x, scale=scale)[0] for n in made}

    titles = ("activation f(x)", "slope f′(x)", f"f(x), one other entry at {outlier:g}")
    figure = make_subplots(cols=3, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    figure = blank("", "x", "", figure, height=360)
    for column, ghost in enumerate((y0, slope0, alone["polynorm"]), start=1):
        label = ("at the start", "at the start, slope", "polynorm, that entry at 0")[column - 1]
        figure.add_scatter(
            x=x.numpy(), y=ghost.numpy(), name=label, mode="lines", showlegend=column == 1, hoverinfo="skip",
            line=dict(color=faint(NEUTRAL, 0.3), width=6, simplify=False), **panel(column),
        )  # fmt: skip
    curve(figure, f"{name}, f(x)", x, y, of=name, legend=name not in made)
    curve(figure, f"{name}, slope", x, slope, of=name, column=2, legend=False)
    for other, values in beside.items():
        curve(figure, other, x, values, of=other, column=3)
    figure.update_xaxes(title="x", zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4), nticks=7)
    figure.update_yaxes(zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4), range=[-3.2, 8.2])
    head_panels(figure)
    at = 150  # x = 2
    moved = {n: float(beside[n][at] - alone[n][at]) for n in made}
    return describe(
        figure,
        f"At x = 2, {name} is {y[at]:.2f} and its slope {slope[at]:.2f}. With one other entry of the row at "
        f"{outlier:g}, polynorm is {beside['polynorm'][at]:.2f} there ({moved['polynorm']:+.2f}) "
        f"and polyrelu {beside['polyrelu'][at]:.2f} ({moved['polyrelu']:+.2f}).",
    )


def follow(
    function: Callable[[Tensor], Tensor],
    x: Float[Tensor, " N"],
    row: Float[Tensor, " F"] = STANDARD_ROW,
    scale: Real = 1.0,
    name: str = "the function",
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """One entry of a row through an activation: its values at `x` and their slopes with respect to `x`.

    The row is (x, row_1, row_2, ...), all of it multiplied by `scale`. Raises ValueError for a function that does not
    keep the shape of its input.
    """
    entry = x.clone().requires_grad_()
    rows = torch.cat([entry[:, None], row.expand(len(x), -1)], dim=1) * scale
    y = function(rows)
    if not isinstance(y, Tensor) or y.shape != rows.shape:
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(f"an activation keeps the shape of its input; {name} made {got} of shape {tuple(rows.shape)}")
    followed = y[:, 0]
    if not followed.requires_grad:  # a constant
        return followed, torch.zeros_like(x)
    (slope,) = torch.autograd.grad(followed.sum(), entry)
    return followed.detach(), slope


# -- training ------------------------------------------------------------------------------------------------------


def training_curves(
    rows: Iterable[Mapping],
    x: str = "step",
    floor: Real | tuple[str, Real] | None = None,
    end: Real | None = None,
) -> go.Figure:
    """Loss curves of any number of runs: validation bold with dots, training thin and faint, nothing smoothed.

    `rows` are a run's measurements (see `minipolycom.runs`), those of several runs one after the other. `x` is "step",
    "tokens" or "seconds"; `end`, where that axis ends, is the last measurement unless given. `floor`, a value or
    (name, value), is drawn as a horizontal line to measure by. A run is named after its activation and drawn in that
    style; runs that share an activation go by their own names, each in its own style.

    Raises ValueError for an unknown `x`.
    """
    if x not in AXES:
        raise ValueError(f"unknown x {x!r}; known: {', '.join(AXES)}")
    runs: dict[str, list[Mapping]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    activations = [own[0]["activation"] for own in runs.values()]
    labels = [a if activations.count(a) == 1 else run for run, a in zip(runs, activations, strict=True)]
    figure, look = blank("Validation loss (dots) and training loss (thin)", AXES[x], LOSS), styles(labels)
    told = []
    for label, own in zip(labels, runs.values(), strict=True):
        train, val = ([row for row in own if row["split"] == split] for split in ("train", "val"))
        told.append(_add_run(figure, label, look[label], x, train, val))
    if floor is not None:
        name, value = floor if isinstance(floor, tuple) else ("floor", floor)
        last = end or max((row[x] for own in runs.values() for row in own), default=0) or 1
        _floor(figure, name, float(value), last)
        told.append(f"{name} {value:.3f}")
    if end is not None:
        figure.update_xaxes(range=[0, end])
    if not runs:
        figure.add_annotation(text="no measurements yet", x=0.5, y=0.5, xref="paper", yref="paper")
    return describe(figure, f"{capital(LOSS)}, over {AXES[x]}. {'; '.join(told) or 'No measurements yet'}.")


def _add_run(figure: go.Figure, label: str, look: tuple[str, str], x: str, train: list, val: list) -> str:
    colour, dash = look
    figure.add_scatter(
        x=[row[x] for row in train], y=[row["loss"] for row in train], name=f"{label}, training", mode="lines",
        line=dict(color=faint(colour, 0.55), width=1.3), legendgroup=label, showlegend=False,
    )  # fmt: skip
    figure.add_scatter(
        x=[row[x] for row in val], y=[row["loss"] for row in val], name=label, mode="lines+markers",
        line=dict(color=colour, dash=dash, width=2.5), marker=dict(size=8, color=colour), legendgroup=label,
    )  # fmt: skip
    if not val:
        return f"{label}: not yet measured"
    return f"{label}: validation loss {val[-1]['loss']:.3f} after {val[-1]['step']} steps, from {val[0]['loss']:.3f}"


def _floor(figure: go.Figure, name: str, value: Real, right: Real) -> None:
    figure.add_scatter(
        x=[0, right], y=[value, value], name=name, mode="lines", line=dict(color=NEUTRAL, width=1.5, dash="3px,3px")
    )


# -- shared pieces -------------------------------------------------------------------------------------------------


def _named(activations: Iterable[str | Callable] | Mapping[str, Callable]) -> dict[str, Callable]:
    if isinstance(activations, Mapping):
        return dict(activations)
    named: dict[str, Callable] = {}
    for one in [activations] if isinstance(activations, str) or callable(activations) else activations:
        if not isinstance(one, str):
            named[getattr(one, "__name__", type(one).__name__)] = one
        elif one in ACTIVATIONS:
            named[one] = ACTIVATIONS[one]()
        elif one in GATED:
            named[one] = _gated(ACTIVATIONS[GATED[one]]())
        else:
            raise ValueError(f"unknown activation {one!r}; known: {', '.join(ACTIVATION_NAMES)}")
    return named


def _gated(gate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: gate(x) * x


def _told(trace: go.Scatter) -> str:
    y = np.asarray(trace.y, dtype=float)
    finite = y[np.isfinite(y)]
    if not finite.size:
        return f"{trace.name} without a finite value"
    beyond = "" if np.isfinite(y[-1]) else ", then beyond any number"
    return f"{trace.name} from {finite[0]:.3g} to {finite[-1]:.3g}{beyond}"
