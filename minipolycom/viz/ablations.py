"""Figures of ablations: losses by arm, differences beside a margin, pairs, starts, and promises of power laws.

Plain numbers in, `go.Figure` out; nothing here reads a run or a record.
"""

from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike

from minipolycom.viz.drawing import blank, bring_table, capital, describe
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

LOSS = "loss, nats per token"

RECORDED, YOURS = ("recorded", PALETTE["blue"], "circle"), ("yours", PALETTE["vermillion"], "diamond")
"""Name, colour and mark of recorded arms and of the reader's own."""

VERDICTS = {
    "different": (PALETTE["vermillion"], "diamond"),
    "alike": (PALETTE["forest"], "square"),
    "undecided": (NEUTRAL, "circle"),
}
"""Colour and mark of what paired runs say of two arms."""

GROUPS = ((PALETTE["vermillion"], "diamond"), (PALETTE["blue"], "circle"), (PALETTE["amber"], "square"))
"""Colours and marks of groups of arms, in their order."""


def arms(
    losses: Mapping[str, Mapping[int, Real]],
    title: str,
    baseline: str = "",
    margin: Real = 0.0,
    own: Collection[str] = (),
) -> go.Figure:
    """A line for each arm, in the given order: the loss of each seed, and their mean as a larger mark.

    Two lines stand `margin` to either side of the mean of the baseline, if it is among the arms. `own` are the reader's
    arms. Raises ValueError where there is no arm.
    """
    if not losses:
        raise ValueError("no arm to draw: give each one's losses by seed")
    names = list(losses)
    figure = blank(title, LOSS, "", height=150 + 30 * max(len(names), 3))
    means = {name: float(np.mean(list(by_seed.values()))) for name, by_seed in losses.items()}
    ends = [float(loss) for by_seed in losses.values() for loss in by_seed.values()]
    if baseline in means:
        ends += _band(figure, means[baseline], margin)
    for kind, colour, symbol in (RECORDED, YOURS):
        shown = [name for name in names if (name in own) == (kind == "yours")]
        seeds = [(name, float(loss)) for name in shown for loss in losses[name].values()]
        figure.add_scatter(
            x=[loss for _, loss in seeds], y=[name for name, _ in seeds], name=f"{kind}, each seed", mode="markers",
            marker=dict(size=6, color=colour, symbol=symbol, opacity=0.5), showlegend=bool(shown),
        )  # fmt: skip
        figure.add_scatter(
            x=[means[name] for name in shown], y=shown, name=f"{kind}, mean", mode="markers", showlegend=bool(shown),
            marker=dict(size=12, color=colour, symbol=symbol),
        )  # fmt: skip
    _names_down(figure, names)
    _room(figure, ends)
    told = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    numbers = pd.DataFrame(
        [
            [means[name], *(float(end(losses[name].values())) for end in (min, max)), len(losses[name])]
            for name in names
        ],
        columns=["mean", "lowest", "highest", "seeds"],
        index=names,
    )
    bring_table(describe(figure, f"{title}. Mean losses: {told}."), numbers)
    return figure


def margins(
    intervals: Mapping[str, tuple[Real, Real, Real]],
    said: Mapping[str, str],
    margin: Real,
    title: str,
    xlabel: str,
    own: Collection[str] = (),
) -> go.Figure:
    """Differences with their intervals, (mean, low, high); two lines stand at the margin in which they count as alike.

    `said` is what the runs say of each, a key of VERDICTS. The reader's own names are bold.
    """
    shown = {name: f"<b>{name}</b>" if name in own else name for name in intervals}
    figure = blank(title, xlabel, "", height=170 + 30 * max(len(shown), 3))
    ends = [*_band(figure, 0.0, margin), *(float(end) for interval in intervals.values() for end in interval)]
    for verdict, (colour, symbol) in VERDICTS.items():
        names = [name for name in intervals if said[name] == verdict]
        middle, low, high = (np.array([float(intervals[name][i]) for name in names]) for i in range(3))
        figure.add_scatter(
            x=middle, y=[shown[name] for name in names], name=verdict, mode="markers",
            marker=dict(size=9, color=colour, symbol=symbol),
            error_x=dict(
                type="data", symmetric=False, array=high - middle, arrayminus=middle - low, thickness=2, width=4,
                color=colour,
            ),
        )  # fmt: skip
    _names_down(figure, list(shown.values()))
    _room(figure, ends)
    figure.update_layout(showlegend=True)
    told = "; ".join(
        f"{name} {middle:+.3f} ({low:+.3f} to {high:+.3f}), {said[name]}"
        for name, (middle, low, high) in intervals.items()
    )
    numbers = pd.DataFrame(
        [[*map(float, interval), said[name]] for name, interval in intervals.items()],
        columns=["mean", "low", "high", "the runs say"],
        index=list(intervals),
    )
    bring_table(describe(figure, f"{title}; the margin is {margin:g}. {told}."), numbers)
    return figure


def pairs(said: Mapping[tuple[str, str], str], names: Sequence[str], title: str) -> go.Figure:
    """What runs say of every two of some arms: a mark for each pair, the first name across, the second down."""
    figure = blank(title, "", "", height=170 + 40 * len(names))
    for verdict, (colour, symbol) in VERDICTS.items():
        chosen = [pair for pair, word in said.items() if word == verdict]
        figure.add_scatter(
            x=[first for first, _ in chosen], y=[second for _, second in chosen], name=verdict, mode="markers",
            marker=dict(size=22, color=colour, symbol=symbol), hovertemplate="%{x} and %{y}",
        )  # fmt: skip
    _names_down(figure, names)
    figure.update_xaxes(categoryorder="array", categoryarray=list(names), range=[-0.7, len(names) - 0.3], dtick=1)
    figure.update_layout(showlegend=True)
    count = ", ".join(f"{sum(word == each for word in said.values())} {each}" for each in VERDICTS)
    told = ", ".join(f"{first} and {second} {word}" for (first, second), word in said.items())
    numbers = pd.DataFrame(
        {"the runs say": list(said.values())}, index=[f"{first}, {second}" for first, second in said]
    )
    bring_table(describe(figure, f"{title}: {count}. {told}."), numbers)
    return figure


def against_loss(groups: Mapping[str, Mapping[str, tuple[Real, Real]]], xlabel: str, title: str) -> go.Figure:
    """A mark for each arm of up to three groups: something that is known before training, and the loss after it."""
    figure = blank(title, xlabel, LOSS, height=420)
    for (group, points), (colour, symbol) in zip(groups.items(), GROUPS, strict=False):
        figure.add_scatter(
            x=[float(x) for x, _ in points.values()], y=[float(loss) for _, loss in points.values()], name=group,
            mode="markers", marker=dict(size=11, color=colour, symbol=symbol), hovertext=list(points),
        )  # fmt: skip
    everything = {name: point for points in groups.values() for name, point in points.items()}
    _room(figure, [float(x) for x, _ in everything.values()])
    figure.update_layout(hovermode="closest", showlegend=True)
    told = "; ".join(
        f"{group}: " + ", ".join(f"{name} {x:.2f} and {loss:.3f}" for name, (x, loss) in points.items())
        for group, points in groups.items()
    )
    numbers = pd.DataFrame(
        [[group, float(x), float(loss)] for group, points in groups.items() for x, loss in points.values()],
        columns=["group", xlabel, LOSS],
        index=list(everything),
    )
    bring_table(describe(figure, f"{title}. {capital(xlabel)} and loss. {told}."), numbers)
    return figure


def promises(
    sizes: Float[ArrayLike, " N"],
    losses: Float[ArrayLike, "S N"],
    beyond: Float[ArrayLike, " M"],
    laws: Mapping[str, Float[ArrayLike, " M"]],
    title: str,
    bands: Mapping[str, tuple[Float[ArrayLike, " M"], Float[ArrayLike, " M"]]],
    log: str = "x",
) -> go.Figure:
    """Losses of every seed at the sizes that were trained, and what laws say at other ones.

    `bands` gives the intervals of some of the laws, low and high. A vertical line stands at the largest size that was
    trained. `log` names the logarithmic axes: "x" or "xy".
    """
    trained, measured, places = (np.asarray(values, dtype=float) for values in (sizes, losses, beyond))
    look, numbers, told = styles(laws), pd.DataFrame(index=pd.Index(places, name="size")), []
    figure = blank(title, "parameters", LOSS, height=430)
    for name, values in laws.items():
        (colour, dash), curve = look[name], np.asarray(values, dtype=float)
        for end, edge in zip(("low", "high"), bands.get(name, ()), strict=False):
            numbers[f"{name}, {end}"] = np.asarray(edge, dtype=float)
            figure.add_scatter(
                x=places, y=numbers[f"{name}, {end}"], name=f"{name}, {end}", mode="lines", showlegend=False,
                line=dict(width=0, color=colour), hoverinfo="skip", fillcolor=faint(colour, 0.2),
                fill="tonexty" if end == "high" else None,
            )  # fmt: skip
        numbers[name] = curve
        figure.add_scatter(
            x=places, y=curve, name=name, mode="lines", line=dict(color=colour, dash=dash, width=2.5)
        )  # fmt: skip
        told.append(f"{name} {curve[-1]:.3f}")
    figure.add_scatter(
        x=np.tile(trained, len(measured)), y=measured.ravel(), name="trained, each seed", mode="markers",
        marker=dict(size=7, color=NEUTRAL, symbol="circle"),
    )  # fmt: skip
    figure.add_vline(x=trained.max(), line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"))
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_layout(legend_traceorder="normal")  # filled bands would turn it round
    if "y" in log:
        figure.update_yaxes(type="log")
    sentence = f"{title}. Trained up to {trained.max():.3g} parameters. At {places[-1]:.3g}: {', '.join(told)}."
    bring_table(describe(figure, sentence), numbers)
    return figure


def _band(figure: go.Figure, middle: Real, margin: Real) -> list[float]:
    """Two vertical lines, a margin to either side of the middle, and where they stand."""
    places = [float(middle - margin), float(middle + margin)] if margin else []
    for place in places:
        figure.add_vline(x=place, line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"))
    return places


def _names_down(figure: go.Figure, names: Sequence[str]) -> None:
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(names)[::-1], range=[-0.7, len(names) - 0.3], tickmode="linear",
        dtick=1, nticks=len(names),
    )  # fmt: skip
    figure.update_layout(hovermode="closest")


def _room(figure: go.Figure, places: Sequence[float]) -> None:
    """A horizontal axis that ends a little beyond the places."""
    room = 0.06 * (max(places) - min(places)) or 0.01
    figure.update_xaxes(range=[min(places) - room, max(places) + room])
