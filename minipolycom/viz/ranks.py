"""Figures of ranks beside what else they depend on: training, the shape of a matrix, a loss, luck."""

from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from statistics import fmean

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minipolycom.viz.drawing import blank, bring_table, describe, head_panels, panel
from minipolycom.viz.figures import LOSS
from minipolycom.viz.svg import CORNERS
from minipolycom.viz.theme import NEUTRAL, PALETTE, STYLE, faint, styles

RANK = "effective rank"
SYMBOLS = ("circle", *CORNERS)
"""Marks of names. Colours are not enough for every reader: a name is known by its colour and its mark together."""


def through_training(runs: Mapping[str, Mapping[int, Mapping[Real, Real]]], title: str) -> go.Figure:
    """Effective ranks over steps, {name: {seed: {step: rank}}}: the mean over seeds, and their range as a band."""
    figure = blank(title, "optimizer steps", RANK)
    look, told = styles(runs), []
    for name, seeds in runs.items():
        colour, dash = look[name]
        steps = sorted(set.intersection(*(set(curve) for curve in seeds.values())))
        values = [[curve[step] for curve in seeds.values()] for step in steps]
        for edge, of in (("lowest", min), ("highest", max)):
            figure.add_scatter(
                x=steps, y=[of(own) for own in values], name=f"{name}, {edge}", mode="lines", showlegend=False,
                legendgroup=name, line=dict(width=0, color=colour), hoverinfo="skip", fillcolor=faint(colour, 0.15),
                fill="tonexty" if edge == "highest" else None,
            )  # fmt: skip
        means = [fmean(own) for own in values]
        figure.add_scatter(
            x=steps, y=means, name=name, mode="lines", legendgroup=name, line=dict(color=colour, dash=dash, width=2.5)
        )
        told.append(f"{name} from {means[0]:.1f} to {means[-1]:.1f}")
    return describe(figure, f"{title}. Effective rank over optimizer steps: {'; '.join(told)}.")


def chance_law(
    ratios: Sequence[Real], shares: Sequence[Real], matrices: Mapping[str, tuple[Real, Real]], title: str
) -> go.Figure:
    """The effective rank of chance over the shape of a matrix, and matrices at (columns / rows, rank / columns)."""
    figure = blank(title, "columns / rows", "effective rank / columns")
    figure.add_scatter(
        x=list(ratios), y=list(shares), name="law of chance", mode="lines", line=dict(color=NEUTRAL, width=2.5)
    )
    colours = list(PALETTE.values())
    for place, (name, (ratio, share)) in enumerate(matrices.items()):
        figure.add_scatter(
            x=[ratio], y=[share], name=name, mode="markers",
            marker=dict(size=11, symbol=SYMBOLS[place % len(SYMBOLS)], color=colours[place % len(colours)]),
        )  # fmt: skip
    figure.update_layout(hovermode="closest")
    numbers = pd.DataFrame.from_dict(matrices, orient="index", columns=["columns / rows", "rank / columns"])
    numbers["law of chance"] = np.interp(numbers["columns / rows"], ratios, shares)
    told = "; ".join(f"{name}: {share:.3f} at {ratio:.2f}" for name, (ratio, share) in matrices.items())
    describe(figure, f"{title}. The law falls from {shares[0]:.3f} at {ratios[0]:.2f} to {shares[-1]:.3f}. {told}.")
    bring_table(figure, numbers.rename_axis("matrix"))
    return figure


def plane(
    panels: Mapping[str, Mapping[str, Sequence[tuple[Real, Real]]]],
    xlabels: Sequence[str],
    title: str,
    joined: Collection[str] = (),
) -> go.Figure:
    """Losses over ranks, a mark for each (rank, loss), a panel for each entry, in `joined` ones a line for a name."""
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.05)
    figure = blank(title, "", LOSS, figure, height=420)
    look, rows, legend = styles({name: None for marks in panels.values() for name in marks}), [], set()
    for column, ((kind, marks), xlabel) in enumerate(zip(panels.items(), xlabels, strict=True), start=1):
        for name, pairs in marks.items():
            colour, dash = look[name]
            figure.add_scatter(
                x=[rank for rank, _ in pairs], y=[loss for _, loss in pairs], name=name, legendgroup=name,
                mode="lines+markers" if kind in joined else "markers", showlegend=name not in legend,
                line=dict(color=colour, dash=dash, width=2), **panel(column),
                marker=dict(size=10, color=colour, symbol=_symbol(name, list(look).index(name))),
            )  # fmt: skip
            legend.add(name)
            rows += [(name, kind, rank, loss) for rank, loss in pairs]
        figure.update_layout({f"xaxis{'' if column == 1 else column}_title": xlabel})
    losses = [loss for *_, loss in rows]
    margin = 0.06 * (max(losses) - min(losses))
    figure.update_yaxes(range=[min(losses) - margin, max(losses) + margin])
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    numbers = pd.DataFrame(rows, columns=["name", "panel", "rank", "loss"]).set_index("name")
    means = numbers.groupby(["panel", "name"], sort=False).mean()
    told = "; ".join(f"{name}, {kind}: {own['rank']:.4g}, {own['loss']:.3f}" for (kind, name), own in means.iterrows())
    describe(figure, f"{title}. Mean rank and loss: {told}.")
    bring_table(figure, numbers)
    return figure


def _symbol(name: str, place: int) -> str:
    """An activation has the same mark in every figure, another name that of its place."""
    place = list(STYLE).index(name) if name in STYLE else place
    return SYMBOLS[place % len(SYMBOLS)]


def shuffled(panels: Mapping[str, tuple[Real, Sequence[Real]]], title: str) -> go.Figure:
    """How often shuffles have which correlation, as bars, and the one that was found, as a line; a panel for each."""
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.05)
    figure = blank(title, "", "share of shuffles", figure, height=360)
    edges, rows, told = np.linspace(-1, 1, 41), [], []
    bars = {name: np.histogram(drawn, edges)[0] / len(drawn) for name, (_, drawn) in panels.items()}
    top = 1.08 * max(float(shares.max()) for shares in bars.values())
    for column, (name, (found, correlations)) in enumerate(panels.items(), start=1):
        shares = bars[name]
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2, y=shares, name="shuffled",
            marker=dict(color=[NEUTRAL] * len(shares)), showlegend=column == 1, **panel(column),
        )  # fmt: skip
        figure.add_scatter(
            x=[found, found], y=[0, top], name="found", mode="lines", showlegend=column == 1,
            line=dict(color=PALETTE["vermillion"], width=3), **panel(column),
        )  # fmt: skip
        low, high = np.quantile(correlations, [0.025, 0.975])
        rows.append((name, found, low, high))
        told.append(f"{name}: found {found:.2f}, 95 % of the shuffles between {low:.2f} and {high:.2f}")
    figure.update_layout(bargap=0.05, hovermode="closest")
    figure.update_xaxes(title="correlation", range=[-1, 1])
    figure.update_yaxes(range=[0, top])  # said, since the static picture would scale each panel by itself
    head_panels(figure)
    numbers = pd.DataFrame(rows, columns=["panel", "found", "lowest 2.5 %", "highest 2.5 %"]).set_index("panel")
    describe(figure, f"{title}. {'; '.join(told)}.")
    bring_table(figure, numbers)
    return figure
