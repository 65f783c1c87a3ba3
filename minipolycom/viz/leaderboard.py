"""Figures of a leaderboard: every entry with every seed, differences with their intervals, and what a strength decides.

Plain numbers in, `go.Figure` out; nothing here reads a run or a record.
"""

from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.viz.branches import ONLINE, TARGET
from minipolycom.viz.drawing import blank, bring_table, describe, finish, head_panels, panel
from minipolycom.viz.theme import NEUTRAL, PALETTE

RECORDED, YOURS = (
    ("recorded", PALETTE["blue"], "circle"),
    ("yours", PALETTE["vermillion"], "diamond"),
)
"""Name, colour and mark of recorded entries and of the reader's own."""

VERDICTS = (
    ("higher", PALETTE["forest"], "triangle-up"),
    ("lower", PALETTE["vermillion"], "triangle-down"),
    ("not told apart", NEUTRAL, "circle"),
)
"""Name, colour and mark of what an interval says: it lies above 0, below 0, or holds 0."""


def board(
    entries: Mapping[str, Mapping[str, Sequence[Real]]],
    measures: Sequence[str],
    title: str,
    own: Collection[str] = (),
    reference: str = "",
) -> go.Figure:
    """A panel for each measure, a line for each entry, the best by the first measure on top.

    `entries` gives each entry's measures, a number for each seed: small marks, with their mean as a large one. `own`
    are the reader's entries. A vertical line stands at the means of the entry `reference`, if there is one.
    Raises ValueError where no entry has the first measure.
    """
    means = {
        name: {measure: float(np.mean(values)) for measure, values in of.items() if len(values)}
        for name, of in entries.items()
    }
    ranked = sorted((name for name in means if measures[0] in means[name]), key=lambda name: means[name][measures[0]])
    if not ranked:
        raise ValueError(f"no entry has the measure {measures[0]!r}, by which a board is sorted")
    figure = make_subplots(cols=len(measures), subplot_titles=list(measures), horizontal_spacing=0.04)
    figure = blank(title, "", "", figure, height=150 + 22 * max(len(ranked), 4))
    for column, measure in enumerate(measures, start=1):
        for kind, colour, symbol in (RECORDED, YOURS):
            shown = [name for name in ranked if (name in own) == (kind == "yours") and measure in means[name]]
            seeds = [(name, float(value)) for name in shown for value in entries[name][measure]]
            figure.add_scatter(
                x=[value for _, value in seeds], y=[name for name, _ in seeds], name=f"{kind}, each seed",
                mode="markers", showlegend=False, hoverinfo="skip",
                marker=dict(size=5, color=colour, symbol=symbol, opacity=0.5), **panel(column),
            )  # fmt: skip
            figure.add_scatter(
                x=[means[name][measure] for name in shown], y=shown, name=f"{kind}, mean of the seeds", mode="markers",
                marker=dict(size=11, color=colour, symbol=symbol), **panel(column),
                showlegend=column == 1 and bool(own),
            )  # fmt: skip
        if measure in means.get(reference, {}):
            figure.add_vline(
                x=means[reference][measure], line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"), row=1, col=column
            )
    figure.update_yaxes(categoryorder="array", categoryarray=ranked, range=[-0.7, len(ranked) - 0.3], dtick=1)
    figure.update_yaxes(tickmode="linear", nticks=len(ranked))
    for axis in list(figure.select_yaxes())[1:]:
        axis.showticklabels = False
    figure.update_xaxes(nticks=5)
    figure.update_layout(hovermode="closest")
    head_panels(figure, top=0.95)
    numbers = pd.DataFrame(
        {
            f"{measure}, {what}": [
                float(of(entries[name][measure])) if len(entries[name].get(measure, ())) else np.nan
                for name in ranked[::-1]
            ]
            for measure in measures
            for what, of in (("mean", np.mean), ("least", np.min), ("most", np.max))
        },
        index=ranked[::-1],
    )
    top, last = ranked[-1], ranked[0]
    told = "; ".join(
        f"{measure} from {numbers[f'{measure}, mean'].min():.3g} to {numbers[f'{measure}, mean'].max():.3g}"
        for measure in measures
    )
    figure = describe(
        figure, f"{title}. {len(ranked)} entries, by {measures[0]} from {top} down to {last}. Means: {told}."
    )
    bring_table(figure, numbers)
    return figure


def differences(
    intervals: Mapping[str, tuple[Real, Real]], reference: str, measure: str, own: Collection[str] = ()
) -> go.Figure:
    """The interval of each entry's difference to a reference, low and high, sorted by its middle.

    An entry is higher or lower if its interval does not hold 0, else it is not told apart. The reader's own names are
    bold.
    """
    middle = {name: (low + high) / 2 for name, (low, high) in intervals.items()}
    ranked = sorted(intervals, key=middle.__getitem__)
    shown = {name: f"<b>{name}</b>" if name in own else name for name in ranked}
    title = f"{measure}: difference to {reference}"
    figure = blank(title, "difference, with its 95 % interval over seeds", "", height=160 + 22 * max(len(ranked), 4))
    for verdict, colour, symbol in VERDICTS:
        names = [name for name in ranked if judged(*intervals[name]) == verdict]
        half = [(intervals[name][1] - intervals[name][0]) / 2 for name in names]
        figure.add_scatter(
            x=[middle[name] for name in names], y=[shown[name] for name in names], name=verdict, mode="markers",
            marker=dict(size=9, color=colour, symbol=symbol),
            error_x=dict(
                type="data", symmetric=False, array=half, arrayminus=half, thickness=2, width=4, color=colour
            ),
        )  # fmt: skip
    figure.add_vline(x=0, line=dict(color=NEUTRAL, width=1.5, dash="4px,3px"))
    ends = [0.0, *(end for interval in intervals.values() for end in interval)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.5
    figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_yaxes(
        categoryorder="array", categoryarray=[shown[name] for name in ranked], range=[-0.7, len(ranked) - 0.3],
        tickmode="linear", dtick=1, nticks=len(ranked),
    )  # fmt: skip
    figure.update_layout(hovermode="closest", showlegend=True)
    told = "; ".join(
        f"{name} {low:+.3g} to {high:+.3g}, {judged(low, high)}"
        for name, (low, high) in ((name, intervals[name]) for name in ranked[::-1])
    )
    return finish(figure, ranked, f"{title}: {told}.")


def judged(low: Real, high: Real) -> str:
    """What an interval says of a difference: higher, lower, or not told apart."""
    if low > 0:
        return "higher"
    return "lower" if high < 0 else "not told apart"


def strengths(
    strength: Float[ArrayLike, " S"],
    law: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    recorded: Mapping[str, Mapping[float, tuple[Sequence[Real], Sequence[Real]]]],
) -> go.Figure:
    """The rank that is kept and the rank difference over the strength of a filter, as shares of all directions.

    `law` gives for each branch both curves over `strength`, `recorded` for each strength both measures by seed; the
    branches are "online" and "target". Marks are the recorded means, joined by a thin line.
    """
    titles = ("effective rank that is kept", "rank difference, target minus online")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.08)
    figure = blank("What the strength of a filter decides", "", "", figure, height=400)
    places, told = np.asarray(strength, dtype=float), []
    for (branch, colour, dash), symbol in zip((ONLINE, TARGET), ("circle", "diamond"), strict=True):
        for column in (1, 2):
            figure.add_scatter(
                x=places, y=np.asarray(law[branch][column - 1], dtype=float), name=f"{branch}, law", mode="lines",
                line=dict(color=colour, dash=dash, width=2.5), showlegend=column == 1, **panel(column),
            )  # fmt: skip
            means = {at: float(np.mean(both[column - 1])) for at, both in sorted(recorded[branch].items())}
            figure.add_scatter(
                x=list(means), y=list(means.values()), name=f"{branch}, recorded", mode="lines+markers",
                line=dict(color=colour, width=1, dash="2px,3px"), marker=dict(size=9, color=colour, symbol=symbol),
                showlegend=column == 1, **panel(column),
            )  # fmt: skip
            what = titles[column - 1].split(",")[0]
            told.append(f"{branch}, {what}: " + ", ".join(f"{mean:.2f} at {at:g}" for at, mean in means.items()))
    figure.update_xaxes(title="strength of the filter, |σ|")
    figure.update_layout(hovermode="closest", yaxis=dict(title="share of all directions", rangemode="tozero"))
    figure.update_layout(yaxis2=dict(zeroline=True, zerolinecolor=NEUTRAL))
    head_panels(figure)
    return describe(figure, f"What the strength of a filter decides, recorded means: {'; '.join(told)}.")


def floors(
    true_R: Float[ArrayLike, " R"], seen: Mapping[str, Float[ArrayLike, " R"]], lost: Mapping[str, Real]
) -> go.Figure:
    """Sizes of directions as they come out of a rounded matrix, over what they truly are; on the diagonal where right.

    `lost` gives for each of `seen` the relative size up to which a direction is lost, drawn as a vertical line.
    """
    true = np.asarray(true_R, dtype=float)
    figure = blank(
        "Sizes of directions, through squares", "true size, the largest is 1", "size that comes out", height=430
    )
    figure.add_scatter(x=true, y=true, name="right", mode="lines", line=dict(color=NEUTRAL, dash="2px,3px", width=1.5))
    told, looks = (
        [],
        zip(("amber", "plum", "forest", "sky"), ("square", "diamond", "circle", "triangle-up"), strict=True),
    )
    for (name, sizes), (colour, symbol) in zip(seen.items(), looks, strict=False):
        sizes = np.asarray(sizes, dtype=float)
        figure.add_scatter(
            x=true, y=sizes, name=name, mode="lines+markers", line=dict(color=PALETTE[colour], width=2),
            marker=dict(size=7, color=PALETTE[colour], symbol=symbol),
        )  # fmt: skip
        if lost[name] > true.min():
            figure.add_vline(x=lost[name], line=dict(color=PALETTE[colour], width=1, dash="4px,3px"))
        wrong = true[np.abs(sizes / true - 1) > 0.1]
        told.append(
            f"{name}: " + (f"off by over 10 % from {wrong.max():.1g} down" if len(wrong) else "right throughout")
        )
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_layout(hovermode="closest")
    return describe(figure, f"Sizes of directions that come out of a matrix of their squares. {'; '.join(told)}.")
