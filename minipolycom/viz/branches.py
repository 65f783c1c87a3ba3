"""Figures of two branches: their ranks through training, their spectra, what a filter makes of a spectrum, embeddings.

Rows are those of a self-supervised run's tables (see `minipolycom.ssl.runs`); nothing here reads a run or a network.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.viz.drawing import blank, capital, describe, finish, head_panels, panel
from minipolycom.viz.recorded import at_step
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

ONLINE, TARGET = ("online", PALETTE["blue"], "solid"), ("target", PALETTE["vermillion"], "9px,3px")
"""Name, colour and dash of the two branches, the same in every figure."""

MOST_POINTS = 400


def rank_through_training(rows: Iterable[Mapping], others: Mapping[str, Iterable[Mapping]] | None = None) -> go.Figure:
    """Effective ranks of the online and the target branch over the steps; between them, shaded, the rank difference.

    `rows` are those of the table of ranks; `others`, of runs to compare with, are drawn thin by their target rank.
    """
    rows = list(rows)
    figure = blank("Effective rank of the two branches", "optimizer steps", "effective rank", height=360)
    for name, own in (others or {}).items():
        own = list(own)
        colour, dash = styles(list(others))[name]
        figure.add_scatter(
            x=[row["step"] for row in own], y=[row["erank_target"] for row in own], name=f"{name}, target",
            mode="lines", line=dict(color=colour, dash=dash, width=1.3),
        )  # fmt: skip
    steps = [row["step"] for row in rows]
    for name, colour, dash in (ONLINE, TARGET):
        figure.add_scatter(
            x=steps, y=[row[f"erank_{name}"] for row in rows], name=name, mode="lines",
            line=dict(color=colour, dash=dash, width=2.5), fillcolor=faint(NEUTRAL, 0.18),
            fill="tonexty" if name == "target" else None,
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    told = ""
    if rows:
        last = rows[-1]
        told = (
            f"at step {last['step']} online {last['erank_online']:.1f}, target {last['erank_target']:.1f}, "
            f"a difference of {last['rank_difference']:+.1f}"
        )
    return finish(figure, rows, f"Effective rank of the two branches over optimizer steps: {told}.")


def branch_spectra(rows: Iterable[Mapping], step: int | None = None) -> go.Figure:
    """Eigenvalues of both branches' correlation matrices, and beside them the filter between the branches.

    `rows` are those of the table of spectra. The filter is sqrt of the online over the target energy along the
    target's directions, divided by its first value.
    """
    now = at_step(rows, step)
    figure = make_subplots(cols=2, subplot_titles=("eigenvalue / sum", "online gain along the target's directions"))
    figure = blank("", "index, largest first", "", figure, height=360)
    told = ""
    for row in now[-1:]:
        for name, colour, dash in (ONLINE, TARGET):
            shares = np.array(row[name]) / max(sum(row[name]), 1e-30)
            figure.add_scatter(
                x=np.arange(1, len(shares) + 1), y=np.where(shares > 1e-9, shares, np.nan), name=name, mode="lines",
                line=dict(color=colour, dash=dash, width=2.5), **panel(1),
            )  # fmt: skip
        gain = row["gain"]
        figure.add_scatter(
            x=np.arange(1, len(gain) + 1), y=gain, name="gain", mode="lines+markers", showlegend=False,
            line=dict(color=PALETTE["forest"], width=2), marker=dict(size=4, color=PALETTE["forest"]), **panel(2),
        )  # fmt: skip
        told = (
            f"the largest eigenvalue has {max(row['online']) / max(sum(row['online']), 1e-30):.0%} of the online and "
            f"{max(row['target']) / max(sum(row['target']), 1e-30):.0%} of the target energy; the gain goes from 1 to "
            f"{gain[-1] if gain else 1:.2f}"
        )
    figure.update_xaxes(title="index, largest first")
    figure.update_layout(yaxis=dict(type="log", exponentformat="power"), yaxis2=dict(rangemode="tozero"))
    head_panels(figure)
    return finish(figure, now, f"Spectra of the two branches at step {now[-1]['step'] if now else 0}: {told}.")


def embedding(
    points_N2: Float[ArrayLike, "N 2"], labels_N: Int[ArrayLike, " N"], names: Sequence[str], title: str
) -> go.Figure:
    """Outputs of length one in their two leading directions, a mark per image, a colour per class.

    The axes always span the unit circle: where everything is sent to one point, one point is seen, and where a single
    direction is left, a line.
    """
    points, labels = np.asarray(points_N2)[:MOST_POINTS], np.asarray(labels_N)[:MOST_POINTS]
    figure = blank(title, "first direction", "second direction", height=360)
    shown, look = sorted(set(labels.tolist())), styles(list(names))
    for label in shown:
        own = points[labels == label]
        figure.add_scatter(
            x=own[:, 0], y=own[:, 1], name=names[label], mode="markers",
            marker=dict(size=6, color=look[names[label]][0], symbol=label % 8, opacity=0.8),
        )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(range=[-1.05, 1.05])
    figure.update_yaxes(range=[-1.05, 1.05])
    spread = points.std(axis=0) if len(points) else (0, 0)
    sentence = f"{title}: {len(points)} images, standard deviation {spread[0]:.2f} along the first direction"
    return finish(figure, shown, f"{sentence} and {spread[1]:.2f} along the second.")


def filter_action(
    eigenvalues_R: Float[ArrayLike, " R"],
    gain_R: Float[ArrayLike, " R"],
    rates_R: Float[ArrayLike, " R"],
    later_R: Float[ArrayLike, " R"],
    location: str,
) -> go.Figure:
    """What a filter does: a spectrum and the same behind the filter; which modes grow; where the spectrum goes.

    `rates_R` are the growth rates d log l / dt of the modes, `later_R` the eigenvalues later on.
    """
    before, gain, rates, later = (np.asarray(v, dtype=float) for v in (eigenvalues_R, gain_R, rates_R, later_R))
    titles = ("a branch before and behind its filter", "growth of each mode", "the spectrum later")
    figure = make_subplots(cols=3, subplot_titles=titles, horizontal_spacing=0.07)
    figure = blank("", "mode", "", figure, height=360)
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
    for name, values, width, colour in (
        ("now", before, 6, faint(NEUTRAL, 0.35)),
        ("later", later, 2.5, PALETTE["plum"]),
    ):
        figure.add_scatter(
            x=index, y=values / values.sum(), name=name, mode="lines", line=dict(color=colour, width=width), **panel(3)
        )
    figure.update_xaxes(title="mode")
    for axis in ("yaxis", "yaxis3"):
        figure.layout[axis].update(type="log", exponentformat="power", range=[-4, 0])
    figure.update_layout(yaxis2=dict(zeroline=True, zerolinecolor=NEUTRAL))
    head_panels(figure)
    growing = [str(i) for i, rate in zip(index, rates, strict=True) if rate > 0]
    return describe(
        figure,
        f"Growing modes: {', '.join(growing) or 'none'} of {len(before)}. The largest eigenvalue has "
        f"{before.max() / before.sum():.0%} of the energy now and {later.max() / later.sum():.0%} later.",
    )


def methods_compared(frame: pd.DataFrame, measure: str, label: str) -> go.Figure:
    """One measure of every method: the mean over seeds as a dot, the smallest and the largest as the ends of a line.

    `frame` is `ssl.compare.over_seeds`' table of one source; collapsed methods are hollow.
    Raises ValueError for a measure that it does not have.
    """
    if measure not in frame:
        raise ValueError(f"unknown measure {measure!r}; known: {', '.join(c for c in frame if f'{c}_min' in frame)}")
    frame = frame.sort_values(measure)
    figure = blank(f"{capital(label)}, mean and range over seeds", label, "", height=110 + 22 * len(frame))
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
    figure.update_yaxes(categoryorder="array", categoryarray=list(frame["method"]), nticks=len(frame))
    figure.update_layout(hovermode="closest")
    told = "; ".join(f"{row['method']} {row[measure]:.3g}" for _, row in frame.iterrows())
    return describe(figure, f"{capital(label)} of each method, mean over seeds: {told}.")
