"""Figures of what keeps two branches apart: their ranks through training, codes, the way from one branch to the other.

Rows, arrays and numbers in, `go.Figure` out; nothing here reads a network, a run or a record.
"""

from collections.abc import Iterable, Mapping
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike
from pandas.api.typing import DataFrameGroupBy
from plotly.subplots import make_subplots

from minipolycom.viz.branches import ONLINE, TARGET
from minipolycom.viz.drawing import blank, bring_table, describe, head_panels, panel
from minipolycom.viz.theme import NEUTRAL, faint

MARKS = {"online": "circle", "target": "diamond"}
"""The mark of each branch, where it is drawn by marks."""

COLUMNS = 3
"""Panels beside each other; further ones stand below."""

RANKS = (1, 2, 5, 10, 20, 50)
"""Ticks of an axis of ranks."""


def rank_panels(
    recorded: Mapping[str, Iterable[Mapping]], own: Mapping[str, Iterable[Mapping]], title: str
) -> go.Figure:
    """Effective ranks of both branches over the steps, a panel for each name in `recorded` or `own`.

    `recorded` holds the rows of several seeds (step, erank_online, erank_target): the range over seeds as a band, the
    mean as a line. `own` holds the rows of one run for each name: marks. All panels have the same axes; that of ranks
    is logarithmic.
    """
    names = list(dict.fromkeys([*recorded, *own]))
    below = -(-len(names) // COLUMNS)
    figure = make_subplots(
        rows=below, cols=min(COLUMNS, len(names)), subplot_titles=names, horizontal_spacing=0.05,
        vertical_spacing=0.2 if below > 1 else 0.0,
    )  # fmt: skip
    figure = blank(title, "", "", figure, height=120 + 240 * below)
    last, numbers, told = 0, {}, []
    for number, name in enumerate(names, start=1):
        numbers[name], said = {}, []
        if name in recorded:
            seeds = pd.DataFrame(list(recorded[name])).groupby("step")[["erank_online", "erank_target"]]
            _add_band(figure, seeds, number, legend=name == next(iter(recorded)))
            last = max(last, *seeds.groups)
            for branch in MARKS:
                low, high = seeds.min().iloc[-1][f"erank_{branch}"], seeds.max().iloc[-1][f"erank_{branch}"]
                numbers[name] |= {f"{branch}, lowest": low, f"{branch}, highest": high}
                said.append(f"{branch} {low:.1f} to {high:.1f}")
        if name in own:
            mine = pd.DataFrame(list(own[name]))
            _add_marks(figure, mine, number, legend=name == next(iter(own)))
            last = max(last, mine["step"].iloc[-1])
            ends = {f"{branch}, yours": mine[f"erank_{branch}"].iloc[-1] for branch in MARKS}
            numbers[name] |= ends
            said.append(f"yours {' and '.join(f'{end:.1f}' for end in ends.values())}")
        told.append(f"{name} {', '.join(said)}")
    figure.update_xaxes(title="optimizer steps", range=[0, 1.02 * last])
    figure.update_yaxes(type="log", range=[-0.05, 1.75], tickvals=list(RANKS), ticktext=[f"{rank}" for rank in RANKS])
    figure.update_layout(yaxis_title="effective rank", hovermode="closest")
    head_panels(figure, top=0.92 if below == 1 else 0.95)
    describe(figure, f"{title}. Effective ranks at the end: {'; '.join(told)}.")
    bring_table(figure, pd.DataFrame(numbers).T)
    return figure


def codes(panels: Mapping[str, Float[ArrayLike, "N K"]], title: str) -> go.Figure:
    """Shares of K prototypes in the codes of N images, a map for each entry: a line for each image, bright what it has.

    Images stand in all maps in the order of the prototype that has most of them in the last map.
    """
    shares = {name: np.asarray(values, dtype=float) for name, values in panels.items()}
    order = np.argsort(list(shares.values())[-1].argmax(axis=1), kind="stable")[::-1]  # from the top downwards
    figure = make_subplots(cols=len(shares), subplot_titles=list(shares), horizontal_spacing=0.04)
    figure = blank(title, "", "", figure, height=360)
    numbers = {}
    for column, (name, values) in enumerate(shares.items(), start=1):
        figure.add_heatmap(
            z=values[order], x=list(range(1, values.shape[1] + 1)), y=list(range(1, len(values) + 1)), name="share",
            colorscale="Cividis", zmin=0, zmax=1, showscale=column == len(shares), colorbar=dict(title="share"),
            **panel(column),
        )  # fmt: skip
        mass = values.mean(axis=0)
        numbers[name] = {
            "largest share of a prototype in all images": mass.max(),
            "mean of an image's largest share": values.max(axis=1).mean(),
            "prototypes that some image has most of": len(set(values.argmax(axis=1))),
        }
    figure.update_xaxes(title="prototype", nticks=5)
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_layout(yaxis_title="image", hovermode="closest")
    head_panels(figure)
    told = "; ".join(
        f"{name}: one prototype has {own['largest share of a prototype in all images']:.0%} of everything, "
        f"{own['prototypes that some image has most of']} of {values.shape[1]} come first for some image"
        for name, own in numbers.items()
    )
    describe(figure, f"{title}, {len(order)} images. {told}.")
    bring_table(figure, pd.DataFrame(numbers))
    return figure


def ways(methods: Mapping[str, Mapping[str, Real]], title: str) -> go.Figure:
    """From the online branch to the target by one change at a time: for each method the rank after each, top to bottom.

    The first entry of a method is its online branch, the last its target.
    """
    figure = blank(title, "effective rank", "", height=150 + 26 * sum(map(len, methods.values())))
    names, told, named = [], [], set()
    for method, ranks in methods.items():
        places = [f"{method}: {step}" for step in ranks]
        names += places
        values = list(ranks.values())
        figure.add_scatter(
            x=values, y=places, name=method, mode="lines", showlegend=False, hoverinfo="skip",
            line=dict(color=NEUTRAL, dash="2px,3px", width=1.5),
        )  # fmt: skip
        (online, blue, _), (target, vermillion, _) = ONLINE, TARGET
        parts = (
            (online, slice(0, 1), blue, MARKS["online"], 11),
            ("on the way", slice(1, -1), NEUTRAL, "square", 8),
            (target, slice(-1, None), vermillion, MARKS["target"], 11),
        )
        for part, which, colour, symbol, size in parts:
            if values[which]:
                figure.add_scatter(
                    x=values[which], y=places[which], name=part, mode="markers", legendgroup=part,
                    showlegend=part not in named, marker=dict(size=size, color=colour, symbol=symbol),
                )  # fmt: skip
                named.add(part)
        told.append(f"{method}: {', '.join(f'{step} {rank:.1f}' for step, rank in ranks.items())}")
    figure.update_xaxes(type="log", range=[-0.05, 1.85], tickvals=list(RANKS), ticktext=[f"{rank}" for rank in RANKS])
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], dtick=1, nticks=len(names))
    figure.update_layout(hovermode="closest")
    describe(figure, f"{title}. {'; '.join(told)}.")
    ranks = [rank for own in methods.values() for rank in own.values()]
    numbers = pd.DataFrame({"effective rank": ranks}, index=pd.Index(names, name="step"))
    bring_table(figure, numbers)
    return figure


def _add_band(figure: go.Figure, seeds: DataFrameGroupBy, number: int, legend: bool) -> None:
    low, mean, high = seeds.min(), seeds.mean(), seeds.max()
    for branch, colour, dash in (ONLINE, TARGET):
        measure = f"erank_{branch}"
        for edge, fill in ((high, None), (low, "tonexty")):
            figure.add_scatter(
                x=mean.index, y=edge[measure], name=f"{branch}, range", mode="lines", showlegend=False,
                line=dict(color=colour, width=0), fill=fill, fillcolor=faint(colour, 0.25), hoverinfo="skip",
                **panel(number),
            )  # fmt: skip
        figure.add_scatter(
            x=mean.index, y=mean[measure], name=f"{branch}, recorded", mode="lines", showlegend=legend,
            legendgroup=branch, line=dict(color=colour, dash=dash, width=2), **panel(number),
        )  # fmt: skip


def _add_marks(figure: go.Figure, rows: pd.DataFrame, number: int, legend: bool) -> None:
    for branch, colour, _ in (ONLINE, TARGET):
        figure.add_scatter(
            x=rows["step"], y=rows[f"erank_{branch}"], name=f"{branch}, yours", mode="markers", showlegend=legend,
            legendgroup=f"{branch}, yours", marker=dict(size=6, color=colour, symbol=MARKS[branch]), **panel(number),
        )  # fmt: skip
