"""Figures of ranks in a language model: beside the loss, behind a nonlinearity, and under filters.

Plain numbers in, `go.Figure` out; nothing here reads a run or a record.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from statistics import fmean

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.viz.drawing import blank, bring_table, describe, head_panels, panel
from minipolycom.viz.figures import LOSS
from minipolycom.viz.leaderboard import VERDICTS, judged
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

RANK = "effective rank"

Pairs = Mapping[str, Sequence[tuple[Real, Real]]]
"""Ranks before and behind something, by name, a pair for each seed."""


def beside_loss(ranks: Pairs, losses: Mapping[str, Sequence[Real]], title: str) -> go.Figure:
    """On the left the ranks before and behind each activation, the lowest loss on top; on the right the loss over the
    rank that was added, a mark for each seed and the name at their mean."""
    ranked = sorted(ranks, key=lambda name: -fmean(losses[name]))
    titles = ("before → behind the activation", "loss, over the rank that was added")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    figure = blank(title, "", "", figure, height=430)
    look, numbers = styles(ranked), {}
    for name in ranked:
        colour, _ = look[name]
        before, behind = (fmean(pair[end] for pair in ranks[name]) for end in (0, 1))
        added = [last - first for first, last in ranks[name]]
        _arrow(figure, name, before, behind, colour)
        figure.add_scatter(
            x=added, y=list(losses[name]), name=f"{name}, each seed", mode="markers", showlegend=False,
            marker=dict(size=6, color=faint(colour, 0.6)), hoverinfo="skip", **panel(2),
        )  # fmt: skip
        figure.add_scatter(
            x=[fmean(added)], y=[fmean(losses[name])], name=name, mode="markers+text", text=[name], showlegend=False,
            textposition="top center", textfont=dict(size=11), marker=dict(size=11, color=colour), **panel(2),
        )  # fmt: skip
        numbers[name] = [before, behind, fmean(added), fmean(losses[name])]
    _names(figure, ranked)
    figure.update_layout(
        hovermode="closest", xaxis_title=RANK, xaxis2_title=f"{RANK} added", yaxis2_title=LOSS,
    )  # fmt: skip
    head_panels(figure)
    said = "; ".join(
        f"{name} {first:.0f} to {last:.0f}, loss {loss:.3f}" for name, (first, last, _, loss) in numbers.items()
    )
    describe(figure, f"{title}, from the highest loss to the lowest: {said}.")
    best_first = {name: numbers[name] for name in ranked[::-1]}
    return _with_numbers(figure, best_first, ["before", "behind", "added", "loss"])


def arrows(ranks: Mapping[str, tuple[Real, Real]], title: str) -> go.Figure:
    """The rank before (dot) and behind (diamond) each of several maps, in the given order."""
    figure = blank(title, RANK, "", height=150 + 34 * len(ranks))
    for name, (before, behind) in ranks.items():
        _arrow(figure, name, float(before), float(behind), PALETTE["blue"])
    _names(figure, list(ranks)[::-1])
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(rangemode="tozero")
    told = "; ".join(f"{name} {before:.1f} to {behind:.1f}" for name, (before, behind) in ranks.items())
    numbers = {name: [float(before), float(behind)] for name, (before, behind) in ranks.items()}
    return _with_numbers(describe(figure, f"{title}. {RANK}: {told}."), numbers, ["before", "behind"])


def shuffled(correlations: Float[ArrayLike, " N"], observed: Real, interval: tuple[Real, Real]) -> go.Figure:
    """How often each correlation comes out when the losses are dealt out, with the observed one and the interval that
    holds 95 % of those."""
    values = np.asarray(correlations, dtype=float)
    share, edges = np.histogram(
        values, bins=np.linspace(-1.025, 1.025, 42), weights=np.full(len(values), 100 / len(values))
    )
    middle, (low, high) = (edges[:-1] + edges[1:]) / 2, interval
    outside = (middle < low) | (middle > high)
    title = "Correlations when the losses are dealt out at random"
    figure = blank(title, "correlation of added rank with loss", "% of the ways to deal", height=360)
    colours = [PALETTE["vermillion"] if far else PALETTE["sky"] for far in outside]
    figure.add_bar(x=middle, y=share, name="% of the ways", marker=dict(color=colours), showlegend=False, width=0.045)
    for end in interval:
        figure.add_vline(x=end, line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"))
    figure.add_vline(x=observed, line=dict(color=NEUTRAL, width=2.5))
    figure.add_annotation(
        x=observed, y=1, yref="paper", text=f"recorded {observed:+.2f}", showarrow=False, xanchor="left", xshift=4,
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    beyond = 100 * np.mean(np.abs(values) >= abs(observed))
    sentence = f"{title}: 95 % lie from {low:+.2f} to {high:+.2f}, the recorded one is {observed:+.2f}"
    return describe(figure, f"{sentence}; {beyond:.0f} % are at least as far from 0.")


def growth(
    widths: Sequence[int], predicted: Mapping[str, Sequence[Real]], measured: Mapping[str, Sequence[Real]]
) -> go.Figure:
    """The rank behind each function over the rank before it: predictions as lines, measurements as marks."""
    figure = blank("Rank behind a function of a Gaussian", "directions of the input, r", RANK, height=430)
    names = list(dict.fromkeys([*predicted, *measured]))
    look, told = styles(names), []
    symbols = dict(zip(names, ("circle", "square", "diamond", "triangle-up", "cross", "x"), strict=False))
    for name in names:
        colour, dash = look[name]
        if name in predicted:
            figure.add_scatter(
                x=list(widths), y=[float(v) for v in predicted[name]], name=f"{name}, predicted", mode="lines",
                line=dict(color=colour, dash=dash, width=2),
            )  # fmt: skip
        if name in measured:
            values = [float(v) for v in measured[name]]
            figure.add_scatter(
                x=list(widths), y=values, name=f"{name}, measured", mode="markers",
                marker=dict(size=10, color=colour, symbol=symbols[name]),
            )  # fmt: skip
            told.append(f"{name} from {values[0]:.0f} to {values[-1]:.0f}")
    figure.update_xaxes(type="log", tickvals=list(widths), ticktext=[str(width) for width in widths])
    figure.update_layout(hovermode="closest")
    sentence = f"Measured {RANK} behind functions of a Gaussian with {widths[0]} to {widths[-1]} directions"
    return describe(figure, f"{sentence}: {'; '.join(told)}.")


def plane(groups: Mapping[str, Sequence[tuple[str, Real, Real]]], title: str, xlabel: str) -> go.Figure:
    """One model under several changes: the loss over the rank, a line for each group of changes in the given order.

    A group holds (name of the change, rank, loss). There are three groups at most. Of points in one place the first has
    its name beside it.
    """
    figure, told, numbers, taken = blank(title, xlabel, LOSS, height=430), [], {}, set()
    looks = (
        ("vermillion", "solid", "circle", "top center"),
        ("blue", "6px,3px", "diamond", "bottom center"),
        ("plum", "2px,3px", "square", "middle right"),
    )
    for (group, points), (colour, dash, symbol, beside) in zip(groups.items(), looks, strict=False):
        places = [(round(float(rank), 3), round(float(loss), 3)) for _, rank, loss in points]
        names = ["" if place in taken else name for (name, *_), place in zip(points, places, strict=True)]
        taken |= set(places)
        figure.add_scatter(
            x=[float(rank) for _, rank, _ in points], y=[float(loss) for *_, loss in points], name=group, text=names,
            mode="lines+markers+text", textposition=beside, textfont=dict(size=11),
            line=dict(color=PALETTE[colour], dash=dash, width=1.5),
            marker=dict(size=11, color=PALETTE[colour], symbol=symbol),
        )  # fmt: skip
        told.append(f"{group}: " + ", ".join(f"{n} rank {r:.0f}, loss {v:.3f}" for n, r, v in points))
        numbers |= {f"{group}: {n}": [float(r), float(v)] for n, r, v in points}
    figure.update_layout(hovermode="closest")
    return _with_numbers(describe(figure, f"{title}. {'; '.join(told)}."), numbers, ["rank", "loss"])


def trained(
    ranks: Mapping[str, Sequence[tuple[Real, Real]]], differences: Mapping[str, tuple[Real, Real]], control: str
) -> go.Figure:
    """Trainings with a map behind the activation: on the left, by seed, the rank that the next matrix sees and the one
    once the map is folded into it; on the right the interval of each loss minus the control's."""
    names = list(ranks)[::-1]
    titles = ("effective rank of the hidden rows", f"loss minus {control}'s, 95 % interval")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.06)
    figure = blank("Trained with a map behind the activation", "", "", figure, height=190 + 36 * len(names))
    empty = dict(size=12, color="rgba(0,0,0,0)", symbol="circle", line=dict(color=PALETTE["vermillion"], width=2))
    for place, what, look in (
        (0, "seen by the next matrix", dict(size=9, color=PALETTE["blue"], symbol="diamond")),
        (1, "once folded into it", empty),
    ):
        points = [(float(pair[place]), name) for name in names for pair in ranks[name]]
        figure.add_scatter(
            x=[rank for rank, _ in points], y=[name for _, name in points], name=what, mode="markers", marker=look
        )
    for verdict, colour, symbol in VERDICTS:
        own = [name for name in names if name in differences and judged(*differences[name]) == verdict]
        half = [(differences[name][1] - differences[name][0]) / 2 for name in own]
        figure.add_scatter(
            x=[sum(differences[name]) / 2 for name in own], y=own, name=verdict, mode="markers", **panel(2),
            marker=dict(size=9, color=colour, symbol=symbol),
            error_x=dict(type="data", symmetric=False, array=half, arrayminus=half, thickness=2, width=4, color=colour),
        )  # fmt: skip
    figure.add_vline(x=0, line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"), row=1, col=2)
    _names(figure, names)
    figure.update_yaxes(categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    figure.layout.yaxis2.showticklabels = False
    figure.update_layout(hovermode="closest", xaxis_title=RANK, xaxis2_title="nats per token")
    figure.update_yaxes(tickmode="linear", dtick=1, nticks=len(names))
    head_panels(figure)
    numbers = {
        name: [
            *(fmean(float(pair[place]) for pair in ranks[name]) for place in (0, 1)),
            *differences.get(name, (np.nan, np.nan)),
        ]
        for name in ranks
    }
    told = "; ".join(
        f"{name} rank {seen:.0f}, folded {bare:.0f}"
        + ("" if np.isnan(low) else f", loss {low:+.3f} to {high:+.3f}, {judged(low, high)}")
        for name, (seen, bare, low, high) in numbers.items()
    )
    figure = describe(figure, f"Trained with a map behind the activation, losses beside {control}: {told}.")
    return _with_numbers(figure, numbers, ["rank seen", "rank folded", "loss, lowest", "loss, highest"])


def _arrow(figure: go.Figure, name: str, before: float, behind: float, colour: str) -> None:
    look = dict(name=name, mode="lines+markers", showlegend=False, line=dict(color=colour, width=2.5))
    figure.add_scatter(x=[before, behind], y=[name, name], marker=dict(size=7, color=colour, symbol="circle"), **look)
    figure.add_scatter(
        x=[behind], y=[name], name=f"{name}, behind", mode="markers", showlegend=False,
        marker=dict(size=14, color=colour, symbol="diamond"),
    )  # fmt: skip


def _names(figure: go.Figure, names: Sequence[str]) -> None:
    """Names along the first vertical axis, the last on top."""
    shown = dict(categoryorder="array", categoryarray=list(names), range=[-0.6, len(names) - 0.4])
    figure.update_layout(yaxis=dict(**shown, tickmode="linear", dtick=1, nticks=len(names)))


def _with_numbers(figure: go.Figure, numbers: Mapping[str, Sequence[Real]], columns: Sequence[str]) -> go.Figure:
    bring_table(figure, pd.DataFrame.from_dict(dict(numbers), orient="index", columns=list(columns)))
    return figure
