"""Figures of spectral filters: a cloud and its axes, alignment and gain between branches, modes that grow, and rest.

Plain numbers in, `go.Figure` out; nothing here reads a network or a run.
"""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from minipolycom.viz.branches import LEAST_SHARE, ONLINE, SYMBOLS, TARGET
from minipolycom.viz.drawing import blank, describe, head_panels, panel
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

AXES = (("first axis", PALETTE["forest"], "solid"), ("second axis", PALETTE["plum"], "9px,3px"))
"""Name, colour and dash of the axes of a cloud in the plane."""

COLOURS = tuple(PALETTE[name] for name in ("forest", "plum", "amber", "sky", "mint"))
"""Colours of curves beside each other that belong to neither branch."""

DASHES = ("solid", "9px,3px", "4px,2px", "10px,2px,4px,2px", "3px,4px")

LEGEND_MODES = 5
"""How many of the modes the legend names."""


def clouds(points: Mapping[str, Float[ArrayLike, "N 2"]], title: str) -> go.Figure:
    """Clouds of points in the plane, a panel each, with the axes of their second moments.

    An axis reaches from the origin to both sides by twice the root mean square along it. All panels have one scale.
    """
    panels = {name: np.asarray(cloud, dtype=float) for name, cloud in points.items()}
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), horizontal_spacing=0.06)
    figure = blank(title, "", "", figure, height=400 if len(panels) < 3 else 320)
    reach = 1.05 * max(float(np.abs(cloud).max()) for cloud in panels.values())
    told = []
    for column, (name, cloud) in enumerate(panels.items(), start=1):
        figure.add_scatter(
            x=cloud[:, 0], y=cloud[:, 1], name="a row of the batch", mode="markers", showlegend=column == 1,
            marker=dict(size=5, color=NEUTRAL, opacity=0.45), **panel(column),
        )  # fmt: skip
        eigenvalues, axes = np.linalg.eigh(cloud.T @ cloud / len(cloud))
        for (axis, colour, dash), energy, direction in zip(AXES, eigenvalues[::-1], axes.T[::-1], strict=True):
            ends = np.outer([-2, 2], direction) * np.sqrt(energy)
            figure.add_scatter(
                x=ends[:, 0], y=ends[:, 1], name=axis, mode="lines", showlegend=column == 1,
                line=dict(color=colour, dash=dash, width=3.5), **panel(column),
            )  # fmt: skip
        told.append(f"{name}: eigenvalues {eigenvalues[1]:.2g} and {eigenvalues[0]:.2g}")
        figure.layout[panel(column)["yaxis"].replace("y", "yaxis")].update(
            scaleanchor=panel(column)["xaxis"], constrain="domain", constraintoward="top"
        )
    figure.update_xaxes(range=[-reach, reach], constrain="domain", zeroline=True, zerolinecolor=faint(NEUTRAL, 0.5))
    figure.update_yaxes(range=[-reach, reach], zeroline=True, zerolinecolor=faint(NEUTRAL, 0.5))
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    for note, axis in zip(
        figure.layout.annotations, figure.select_xaxes(), strict=True
    ):  # a panel shrinks to its middle
        note.update(x=sum(axis.domain) / 2, xanchor="center")
    return describe(figure, f"{title}. {'; '.join(told)}.")


def concentration(
    online_R: Float[ArrayLike, " R"],
    features_R: Float[ArrayLike, " R"],
    target_R: Float[ArrayLike, " R"],
    title: str,
) -> go.Figure:
    """The shares of energy that the k largest modes of three spectra hold together, from none to all of them.

    Given are the partial sums for k = 1..R; a straight line, grey, is that of a spectrum whose modes are all alike.
    """
    places = np.arange(len(np.asarray(features_R)) + 1)
    figure = blank(title, "k, largest first", "share of the k largest", height=380)
    (online, blue, solid), (target, vermillion, dashed) = ONLINE, TARGET
    look = (
        (online, online_R, blue, solid, 2.5),
        ("features", features_R, PALETTE["forest"], "4px,2px", 2.5),
        (target, target_R, vermillion, dashed, 2.5),
        ("all alike", places[1:] / places[-1], NEUTRAL, "2px,3px", 1.5),
    )
    for name, sums, colour, dash, width in look:
        figure.add_scatter(
            x=places, y=[0.0, *np.asarray(sums, dtype=float)], name=name, mode="lines",
            line=dict(color=colour, dash=dash, width=width),
        )  # fmt: skip
    half = len(places) // 2
    told = ", ".join(f"{trace.name} {trace.y[half]:.0%}" for trace in figure.data)
    return describe(figure, f"{title}. Share that the {half} largest of {places[-1]} modes hold: {told}.")


def alignment_and_gain(
    alignments: Mapping[str, Float[ArrayLike, " D"]],
    random: Mapping[str, Real],
    gains: Mapping[str, Float[ArrayLike, " _"]],
    leading: Mapping[str, int],
) -> go.Figure:
    """Along the target's directions, the largest first: how nearly they are the online branch's too, and its gain.

    `random` is the alignment of random directions, dotted; of each pair of branches the first `leading` directions,
    those with nearly all of the energy, are drawn strong, the others faint.
    """
    titles = ("alignment; dotted: of random directions", "gain, target to online")
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.09)
    figure = blank("Is it a filter?", "", "", figure, height=400)
    shown, told = 2 * max(leading.values()), []
    for name, colour, symbol in zip(alignments, COLOURS, SYMBOLS, strict=False):
        strong = leading[name]
        for column, values in enumerate((alignments[name], gains[name]), start=1):
            values = np.asarray(values, dtype=float)[:shown]
            index = np.arange(1, len(values) + 1)
            figure.add_scatter(
                x=index[strong - 1 :], y=values[strong - 1 :], name=f"{name}, the rest", mode="lines", showlegend=False,
                line=dict(color=faint(colour, 0.35), width=1.5), hoverinfo="skip", **panel(column),
            )  # fmt: skip
            figure.add_scatter(
                x=index[:strong], y=values[:strong], name=name, mode="lines+markers", showlegend=column == 1,
                line=dict(color=colour, width=2.5), marker=dict(size=7, color=colour, symbol=symbol), **panel(column),
            )  # fmt: skip
        figure.add_scatter(
            x=[1, shown], y=[random[name]] * 2, name=f"{name}, random", mode="lines", showlegend=False,
            line=dict(color=colour, dash="2px,3px", width=1.5), **panel(1),
        )  # fmt: skip
        of_leading = np.asarray(alignments[name], dtype=float)[:strong].mean()
        told.append(
            f"{name}: alignment {of_leading:.2f} over {strong} leading directions, {random[name]:.2f} of random ones, "
            f"gain {np.asarray(gains[name])[min(strong, len(gains[name])) - 1]:.2f} at the last of them"
        )
    figure.update_xaxes(title="direction of the target, largest first", range=[0.5, shown + 0.5])
    figure.update_layout(yaxis=dict(range=[0, 1.05]), yaxis2=dict(rangemode="tozero"))
    head_panels(figure)
    return describe(figure, f"Is it a filter? {'; '.join(told)}.")


def modes_through_time(
    times_T: Float[ArrayLike, " T"], eigenvalues: Mapping[str, Float[ArrayLike, "T R"]], title: str
) -> go.Figure:
    """Each mode's share of the energy over time, a panel for each flow; dark modes are the first, bright the last."""
    times = np.asarray(times_T, dtype=float)
    figure = make_subplots(cols=len(eigenvalues), subplot_titles=list(eigenvalues), horizontal_spacing=0.06)
    figure = blank(title, "", "", figure, height=380)
    told = []
    for column, (name, energies_TR) in enumerate(eigenvalues.items(), start=1):
        energies_TR = np.asarray(energies_TR, dtype=float)
        shares_TR = energies_TR / energies_TR.sum(axis=1, keepdims=True)
        n_modes = shares_TR.shape[1]
        colours = sample_colorscale("Plasma", np.linspace(0.35, 0.75, n_modes))  # readable on white and on black
        named = set(np.linspace(0, n_modes - 1, min(LEGEND_MODES, n_modes)).round().astype(int))
        for mode, (shares_T, colour) in enumerate(zip(shares_TR.T, colours, strict=True)):
            figure.add_scatter(
                x=times, y=np.where(shares_T > LEAST_SHARE, shares_T, np.nan), name=f"mode {mode + 1}", mode="lines",
                line=dict(color=colour, width=2), showlegend=column == 1 and mode in named, **panel(column),
            )  # fmt: skip
        last = shares_TR[-1]
        told.append(f"{name}: at the end mode {last.argmax() + 1} holds {last.max():.0%}, the least {last.min():.1%}")
    figure.update_xaxes(title="time", range=[float(times[0]), float(times[-1])])
    figure.update_yaxes(type="log", exponentformat="power", range=[-4, 0.1], dtick=1)
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    return describe(figure, f"{title}. {'; '.join(told)}.")


def law_and_measurement(
    rho_R: Float[ArrayLike, " R"],
    predicted: Mapping[str, Float[ArrayLike, " R"]],
    measured: Mapping[str, Float[ArrayLike, " R"]],
) -> go.Figure:
    """Shares of energy over the modes' correlation between views: lines as predicted, marks as measured.

    Both axes are logarithmic, so that a power law is a straight line and its exponent the slope.
    """
    rho = np.asarray(rho_R, dtype=float)
    figure = blank("Energy of each mode at rest", "correlation between views, ρ", "share of the energy", height=420)
    told = []
    for name, colour, dash, symbol in zip(predicted, COLOURS, DASHES, SYMBOLS, strict=False):
        law, found = (np.asarray(values[name], dtype=float) for values in (predicted, measured))
        figure.add_scatter(
            x=rho, y=law, name=f"{name}, law", mode="lines", line=dict(color=colour, dash=dash, width=2.5)
        )
        figure.add_scatter(
            x=rho, y=np.where(found > LEAST_SHARE, found, np.nan), name=f"{name}, measured", mode="markers",
            marker=dict(size=8, color=colour, symbol=symbol),
        )  # fmt: skip
        told.append(f"{name}: off by at most {np.abs(found - law).max():.3f} of the energy")
    places = [place for place in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) if rho.min() <= place <= rho.max()]
    figure.update_xaxes(type="log", tickvals=places, ticktext=[f"{place:g}" for place in places])
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return describe(figure, f"Energy of each mode at rest, law and measurement. {'; '.join(told)}.")


def predicted_and_measured(predicted: Mapping[str, Real], measured: Mapping[str, Real], start: Real) -> go.Figure:
    """Effective ranks at the end, a column for each run: rings predicted, diamonds measured, a line at `start`."""
    names = list(predicted)
    figure = blank("Effective rank at the end", "", "effective rank", height=400)
    look = styles(["start"])["start"]
    figure.add_scatter(
        x=names, y=[start] * len(names), name="at the start", mode="lines",
        line=dict(color=NEUTRAL, dash=look[1], width=1.5),
    )  # fmt: skip
    figure.add_scatter(
        x=names, y=[predicted[name] for name in names], name="predicted", mode="markers",
        marker=dict(size=16, color="rgba(0,0,0,0)", line=dict(color=PALETTE["plum"], width=2.5)),
    )  # fmt: skip
    figure.add_scatter(
        x=names, y=[measured[name] for name in names], name="measured", mode="markers",
        marker=dict(size=9, color=PALETTE["forest"], symbol="diamond"),
    )  # fmt: skip
    figure.update_xaxes(type="category", tickmode="linear", dtick=1)
    figure.update_yaxes(rangemode="tozero")
    told = "; ".join(f"{name}: predicted {predicted[name]:.1f}, measured {measured[name]:.1f}" for name in names)
    return describe(figure, f"Effective rank at the end, {start:.1f} at the start. {told}.")
