"""Figures of two branches: their ranks through training, their spectra, what a filter makes of a spectrum, embeddings.

Rows are those of a self-supervised run's tables (see `minipolycom.ssl.runs`); nothing here reads a run or a network.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.checking import check_known
from minipolycom.viz.drawing import blank, capital, describe, finish, head_panels, panel
from minipolycom.viz.recorded import at_step
from minipolycom.viz.svg import CORNERS
from minipolycom.viz.theme import NEUTRAL, OTHER_DASHES, PALETTE, faint

ONLINE, TARGET = ("online", PALETTE["blue"], "solid"), ("target", PALETTE["vermillion"], "9px,3px")
"""Name, colour and dash of the two branches, the same in every figure."""

COLOURS = tuple(colour for name, colour in PALETTE.items() if name not in ("blue", "vermillion"))
"""What is left for curves that are neither branch's."""

SYMBOLS = ("circle", *CORNERS)
"""Marks of the classes. There are fewer colours than digits: a class is known by its colour and its mark together."""

MOST_POINTS = 400

LEAST_SHARE = 1e-6
"""The smallest share of all energy that a spectrum is drawn down to."""


def rank_through_training(
    rows: Iterable[Mapping], others: Mapping[str, Iterable[Mapping]] | None = None, end: Real | None = None
) -> go.Figure:
    """Effective ranks of the online and the target branch over the steps; between them, shaded, the rank difference.

    `rows` are those of the table of ranks; `others`, of runs to compare with, are drawn thin by their target rank.
    `end`, where the steps end, is the last measurement unless given.
    """
    rows, others = list(rows), {name: list(own) for name, own in (others or {}).items()}
    figure = blank("Effective rank of the two branches", "optimizer steps", "effective rank", height=360)
    for number, (name, own) in enumerate(others.items()):
        figure.add_scatter(
            x=[row["step"] for row in own], y=[row["erank_target"] for row in own], name=f"{name}, target",
            mode="lines", line=dict(
                color=COLOURS[number % len(COLOURS)], dash=OTHER_DASHES[number % len(OTHER_DASHES)], width=1.5,
            ),
        )  # fmt: skip
    steps = [row["step"] for row in rows]
    for name, colour, dash in (ONLINE, TARGET):
        figure.add_scatter(
            x=steps, y=[row[f"erank_{name}"] for row in rows], name=name, mode="lines",
            line=dict(color=colour, dash=dash, width=2.5), fillcolor=faint(NEUTRAL, 0.18),
            fill="tonexty" if name == "target" else None,
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    if end is not None:
        figure.update_xaxes(range=[0, end])
    told = [
        f"at step {last['step']} online {last['erank_online']:.1f}, target {last['erank_target']:.1f}, "
        f"a difference of {last['rank_difference']:+.1f}"
        for last in rows[-1:]
    ]
    told += [f"{name}, target {own[-1]['erank_target']:.1f} at step {own[-1]['step']}" for name, own in others.items()]
    return finish(figure, told, f"Effective rank of the two branches over optimizer steps: {'; '.join(told)}.")


def branch_spectra(rows: Iterable[Mapping], step: int | None = None) -> go.Figure:
    """Eigenvalues of both branches' correlation matrices, and beside them the filter between the branches.

    `rows` are those of the table of spectra. The filter is sqrt of the online over the target energy along the
    target's directions, divided by its first value.
    """
    now = at_step(rows, step)
    titles = ("eigenvalue / sum of all", "gain, target to online")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    when = f", step {now[0]['step']}" if now else ""
    figure = blank(f"Spectra of the two branches{when}", "", "", figure, height=360)
    told = ""
    for row in now:
        shares = {name: np.array(row[name]) / max(sum(row[name]), 1e-30) for name in ("online", "target")}
        for name, colour, dash in (ONLINE, TARGET):
            own = shares[name]
            figure.add_scatter(
                x=np.arange(1, len(own) + 1), y=np.where(own > LEAST_SHARE, own, np.nan), name=name, mode="lines",
                line=dict(color=colour, dash=dash, width=2.5), **panel(1),
            )  # fmt: skip
        gain = row["gain"]
        figure.add_scatter(
            x=np.arange(1, len(gain) + 1), y=gain, name="gain", mode="lines+markers", showlegend=False,
            line=dict(color=PALETTE["forest"], width=2), marker=dict(size=4, color=PALETTE["forest"]), **panel(2),
        )  # fmt: skip
        told = (
            f"the largest eigenvalue has {shares['online'].max():.0%} of the online and {shares['target'].max():.0%} "
            f"of the target energy; the gain goes from 1 to {gain[-1] if gain else 1:.2f}"
        )
    figure.update_xaxes(title="index, largest first")
    bottom = float(np.log10(LEAST_SHARE))
    figure.update_layout(
        yaxis=dict(type="log", exponentformat="power", range=[bottom, 0]), yaxis2=dict(rangemode="tozero")
    )
    head_panels(figure)
    return finish(figure, now, f"Spectra of the two branches{when}: {told}.")


def embedding(
    points_N2: Float[ArrayLike, "N 2"], labels_N: Int[ArrayLike, " N"], names: Sequence[str], title: str
) -> go.Figure:
    """Outputs of length one in two directions, a mark per image; colour and mark tell the class, named in `names`.

    The axes always span the unit circle: where everything is sent to one point, one point is seen, and where a single
    direction is left, a line. Of more than MOST_POINTS images the first ones are shown.
    """
    points, labels = np.asarray(points_N2)[:MOST_POINTS], np.asarray(labels_N)[:MOST_POINTS]
    figure = blank(title, "", "", height=360)
    shown, colours = sorted(set(labels.tolist())), tuple(PALETTE.values())
    for label in shown:
        own = points[labels == label]
        figure.add_scatter(
            x=own[:, 0], y=own[:, 1], name=names[label], mode="markers",
            marker=dict(size=6, color=colours[label % len(colours)], symbol=SYMBOLS[label % len(SYMBOLS)], opacity=0.8),
        )  # fmt: skip
    figure.update_layout(hovermode="closest", legend=dict(itemwidth=30))
    figure.update_xaxes(range=[-1.05, 1.05])
    figure.update_yaxes(range=[-1.05, 1.05])
    spread = points.std(axis=0) if len(points) else (0, 0)
    sentence = f"{title}: {len(points)} images, standard deviation {spread[0]:.2f} across and {spread[1]:.2f} upwards."
    return finish(figure, shown, sentence)


def filter_action(
    eigenvalues_R: Float[ArrayLike, " R"],
    gain_R: Float[ArrayLike, " R"],
    rates_R: Float[ArrayLike, " R"],
    later_R: Float[ArrayLike, " R"] | None,
    location: str,
) -> go.Figure:
    """What a filter does: a spectrum and the same behind the filter; which modes grow; where the spectrum goes.

    `rates_R` are the growth rates d log l / dt of the modes, `later_R` the eigenvalues later on, None where nobody
    knows them.
    """
    before, gain, rates = (np.asarray(v, dtype=float) for v in (eigenvalues_R, gain_R, rates_R))
    titles = ("both branches", "growth rate", "now and later")
    figure = make_subplots(cols=3, subplot_titles=titles, horizontal_spacing=0.11)
    figure = blank("", "", "", figure, height=360)
    index = np.arange(1, len(before) + 1)
    other, filtered = (TARGET, ONLINE) if location == "online" else (ONLINE, TARGET)
    branches = ((other, before, "as it is"), (filtered, gain**2 * before, "filtered"))
    for (name, colour, dash), values, how in branches:
        figure.add_scatter(
            x=index, y=values / values.sum(), name=f"{name}, {how}", mode="lines+markers",
            line=dict(color=colour, dash=dash, width=2.5), marker=dict(size=5, color=colour), **panel(1),
        )  # fmt: skip
    colours = [PALETTE["forest"] if rate > 0 else PALETTE["amber"] for rate in rates]
    figure.add_bar(x=index, y=rates, name="growth rate", showlegend=False, marker=dict(color=colours), **panel(2))
    later = np.full(len(before), np.nan) if later_R is None else np.asarray(later_R, dtype=float)
    for name, values, mode, width, colour in (
        ("now", before, "lines", 6, faint(NEUTRAL, 0.35)),
        ("later", later, "lines+markers", 2.5, PALETTE["plum"]),  # a mode that is left alone has no line to be seen by
    ):
        shares = values / values.sum()
        figure.add_scatter(
            x=index, y=np.where(shares > LEAST_SHARE, shares, np.nan), name=name, mode=mode,
            line=dict(color=colour, width=width), marker=dict(size=5, color=colour), **panel(3),
        )  # fmt: skip
    figure.update_xaxes(title="mode", range=[0.4, len(before) + 0.6])
    for axis in ("yaxis", "yaxis3"):
        figure.layout[axis].update(type="log", exponentformat="power", range=[-4, 0.1], dtick=1)
    figure.update_layout(yaxis2=dict(zeroline=True, zerolinecolor=NEUTRAL))
    head_panels(figure)
    growing = [str(i) for i, rate in zip(index, rates, strict=True) if rate > 0]
    goes = "not known" if later_R is None else f"{later.max() / later.sum():.0%}"
    return describe(
        figure,
        f"Growing modes: {', '.join(growing) or 'none'} of {len(before)}. The largest eigenvalue has "
        f"{before.max() / before.sum():.0%} of the energy now, and later: {goes}.",
    )


def methods_compared(frame: pd.DataFrame, measure: str, label: str) -> go.Figure:
    """One measure of every method: the mean over seeds as a dot, the smallest and the largest as the ends of a line.

    `frame` is `ssl.compare.over_seeds`' table of one source; methods that collapse with most seeds are hollow.
    Raises ValueError for a measure that it does not have, and for a table of several sources.
    """
    check_known("measure", measure, [name for name in frame if f"{name}_min" in frame])
    if frame["source"].nunique() > 1:
        known = ", ".join(frame["source"].unique())
        raise ValueError(f"a figure compares methods on one source; got {known}: take frame[frame.source == ...]")
    frame = frame.dropna(subset=[measure]).sort_values(measure)
    shown = frame[measure].round(6) + 0.0  # branches that are alike differ by rounding errors
    title = f"{capital(label)}, {', '.join(frame['source'].unique())}"
    figure = blank(title, "mean and range over seeds", "", height=140 + 22 * max(4, len(frame)))
    for collapsed, name, fill in ((False, "trains", PALETTE["blue"]), (True, "collapses", "rgba(0,0,0,0)")):
        own = frame[(frame["collapsed"] * 2 > frame["seeds"]) == collapsed]
        figure.add_scatter(
            x=own[measure], y=own["method"], name=name, mode="markers",
            error_x=dict(
                type="data", symmetric=False, array=own[f"{measure}_max"] - own[measure],
                arrayminus=own[measure] - own[f"{measure}_min"], thickness=2, width=3, color=PALETTE["blue"],
            ),
            marker=dict(size=9, color=fill, line=dict(color=PALETTE["blue"], width=2)),
        )  # fmt: skip
    low, high = frame[f"{measure}_min"].min(), frame[f"{measure}_max"].max()
    margin = 0.03 * (high - low) or 0.5
    figure.update_xaxes(range=[low - margin, high + margin])
    figure.update_yaxes(categoryorder="array", categoryarray=list(frame["method"]), dtick=1, nticks=len(frame))
    figure.update_layout(hovermode="closest")
    told = "; ".join(f"{method} {mean:.3g}" for method, mean in zip(frame["method"], shown, strict=True))
    return describe(figure, f"{title}, mean over seeds: {told}.")
