"""Figures of collapse: pairs of views, and what aligning them makes of outputs, in two dimensions and in many.

Arrays and the rows of a run's tables in, figures out; nothing here reads a run or a network.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from einops import rearrange
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.viz.drawing import blank, bring_table, describe, head_panels, panel
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

SNAPSHOTS = (
    (faint(NEUTRAL, 0.45), "circle"),
    (PALETTE["sky"], "square"),
    (PALETTE["vermillion"], "diamond"),
)
"""Colour and mark of the first, the second and the third moment of a cloud."""

PROFILES = 12
"""Outputs that `output_profiles` draws in a panel; of more, the first ones."""

MONITORS = {"loss": "loss", "feature_std": "feature std · √Z", "erank_projected": "effective rank"}
"""The columns of a run's rows that `monitors` draws, a panel each, with what its panel is called."""


def view_pairs(first_NYX: Float[ArrayLike, "N Y X"], second_NYX: Float[ArrayLike, "N Y X"], title: str) -> go.Figure:
    """Two views of each of N images, one above the other, bright where there is ink."""
    first, second = np.asarray(first_NYX, dtype=float), np.asarray(second_NYX, dtype=float)
    framed = np.pad(np.stack([first, second]), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    sheet = rearrange(framed, "v n y x -> (v y) (n x)")[-2::-1, :-1]  # the frame's last lines off; y grows upwards
    figure = blank(title, "above one view, below another view of the same image", "", height=300)
    figure.add_heatmap(
        z=sheet, x=list(range(sheet.shape[1])), y=list(range(sheet.shape[0])), name="ink", colorscale="Cividis",
        showscale=False,
    )  # fmt: skip
    figure.update_xaxes(showticklabels=False, ticks="", showline=False)
    figure.update_yaxes(showticklabels=False, ticks="", showline=False)
    figure.update_layout(hovermode=False)
    apart = np.abs(first - second).mean(axis=(1, 2))
    describe(
        figure,
        f"{title}: {len(first)} pairs of views of {first.shape[1]} by {first.shape[2]} pixels; the two of a pair "
        f"differ by {apart.mean():.2f} on average, where ink is 1 and paper 0.",
    )
    pairs = pd.Index(range(1, len(first) + 1), name="pair")
    numbers = pd.DataFrame({"mean difference of a pixel": apart}, index=pairs)
    bring_table(figure, numbers)
    return figure


def clouds(
    panels: Mapping[str, Mapping[str, Float[ArrayLike, "N 2"]]], xlabel: str, ylabel: str, title: str
) -> go.Figure:
    """Outputs in two dimensions, a panel for each entry, in it the same images at up to three moments.

    All panels have the same axes, as long one way as the other, around the origin. The table is of the clouds' standard
    deviations.
    Raises ValueError for more moments than three.
    """
    most = max(len(moments) for moments in panels.values())
    if most > len(SNAPSHOTS):
        raise ValueError(f"a panel shows up to {len(SNAPSHOTS)} moments; got {most}")
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), horizontal_spacing=0.05)
    figure = blank(title, "", "", figure, height=340)
    spreads, reach = {}, 0.0
    for column, (name, moments) in enumerate(panels.items(), start=1):
        for (moment, points), (colour, symbol) in zip(moments.items(), SNAPSHOTS, strict=False):
            points = np.asarray(points, dtype=float)
            reach = max(reach, np.abs(points).max())
            figure.add_scatter(
                x=points[:, 0], y=points[:, 1], name=moment, legendgroup=moment, showlegend=column == 1, mode="markers",
                marker=dict(size=5, color=colour, symbol=symbol), **panel(column),
            )  # fmt: skip
            spreads[f"{name}, {moment}"] = dict(zip(("across", "upwards"), points.std(axis=0).tolist(), strict=True))
    figure.update_xaxes(range=[-1.05 * reach, 1.05 * reach], title=xlabel, nticks=5, constrain="domain")
    figure.update_yaxes(range=[-1.05 * reach, 1.05 * reach], nticks=5, constrain="domain")
    for column in range(1, len(panels) + 1):
        axes = panel(column)
        figure.layout[f"yaxis{axes['yaxis'][1:]}"].update(scaleanchor=axes["xaxis"], showticklabels=column == 1)
    figure.update_layout(yaxis_title=ylabel, hovermode="closest")
    head_panels(figure)
    told = "; ".join(
        f"{name} {own['across']:.2f} across, {own['upwards']:.2f} upwards" for name, own in spreads.items()
    )
    describe(figure, f"{title}, standard deviations: {told}.")
    bring_table(figure, pd.DataFrame(spreads).T)
    return figure


def output_profiles(panels: Mapping[str, Float[ArrayLike, "N Z"]], title: str) -> go.Figure:
    """Outputs in many dimensions: a line for each image, its Z numbers side by side; a panel for each entry.

    Rows are set to length sqrt(Z), so that an entry has the size 1. Columns stand in the order of their part in the
    leading direction of their panel: where a single direction is left, every line is one rising curve or its mirror
    image.
    """
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.03)
    figure = blank(title, "", "", figure, height=340)
    colours, told, reach = list(PALETTE.values()), [], 0.0
    for column, (name, rows) in enumerate(panels.items(), start=1):
        rows = np.asarray(rows, dtype=float)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        _, singular, directions = np.linalg.svd(unit, full_matrices=False)
        order = np.argsort(directions[0] * np.sign(unit[0] @ directions[0]))  # so that the first line rises
        lines = unit[:PROFILES, order] * np.sqrt(unit.shape[1])
        reach = max(reach, np.abs(lines).max())
        for image, line in enumerate(lines):
            figure.add_scatter(
                x=np.arange(1, len(line) + 1), y=line, name=f"{name}, image {image + 1}", mode="lines",
                showlegend=False, line=dict(color=colours[image % len(colours)], width=1.5), **panel(column),
            )  # fmt: skip
        told.append(f"{name}: {singular[0] ** 2 / (singular**2).sum():.0%} of the energy in the leading direction")
    figure.update_xaxes(title="output, sorted")
    figure.update_yaxes(range=[-1.05 * reach, 1.05 * reach], zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4))
    figure.update_layout(yaxis_title="value", hovermode="closest")
    head_panels(figure)
    return describe(figure, f"{title}. {'; '.join(told)}.")


def monitors(runs: Mapping[str, Mapping[str, Iterable[Mapping]]], title: str) -> go.Figure:
    """What may be watched while a method trains: the loss, the feature std and the effective rank, a panel each.

    `runs` holds for each name the run's tables "losses" and "ranks", or the rows of it so far.
    """
    figure = make_subplots(cols=len(MONITORS), subplot_titles=list(MONITORS.values()), horizontal_spacing=0.08)
    figure = blank(title, "", "", figure, height=340)
    look, told = styles(runs), []
    for name, tables in runs.items():
        colour, dash = look[name]
        last = []
        for column, (measure, label) in enumerate(MONITORS.items(), start=1):
            rows = list(tables["losses" if measure == "loss" else "ranks"])
            figure.add_scatter(
                x=[row["step"] for row in rows], y=[row[measure] for row in rows], mode="lines",
                name=name if column == 1 else f"{name}, {label}", legendgroup=name, showlegend=column == 1,
                line=dict(color=colour, dash=dash, width=2.5), **panel(column),
            )  # fmt: skip
            last += [f"{label} {row[measure]:.2f}" for row in rows[-1:]]
        told.append(f"{name} ends at {', '.join(last) or 'nothing yet'}")
    figure.update_xaxes(title="optimizer steps", rangemode="tozero")
    figure.update_layout(yaxis2=dict(rangemode="tozero"), yaxis3=dict(rangemode="tozero"))
    head_panels(figure)
    return describe(figure, f"{title}. {'; '.join(told)}.")
