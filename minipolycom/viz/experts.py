"""Figures of experts: who takes which token, and how the work is shared out through training.

Plain numbers in, `go.Figure` out; nothing here reads a model or a run.
"""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from minipolycom.viz.drawing import blank, bring_table, capital, describe, head_panels, panel
from minipolycom.viz.theme import NEUTRAL

UNDER = "of an even share"


def gates(weight_NE: Float[ArrayLike, "N E"], tokens: Sequence[str], title: str) -> go.Figure:
    """What each expert's answer counts for each token: tokens across, experts down; empty where one is not asked.

    Raises ValueError where there is not one token for each row.
    """
    weight = np.asarray(weight_NE, dtype=float)
    if len(tokens) != len(weight):
        raise ValueError(f"a token for each row: {len(weight)} rows and {len(tokens)} tokens")
    n_experts = weight.shape[1]
    figure = blank(title, "tokens, in their order", "expert", height=150 + 26 * n_experts)
    places = [str(place) for place in range(len(tokens))]  # a token may come twice, its place may not
    figure.add_heatmap(
        z=np.where(weight > 0, weight, np.nan).T, x=places, y=list(range(n_experts)), name="weight",
        colorscale="Cividis", zmin=0, zmax=1, xgap=1, ygap=1, hoverongaps=False, colorbar=dict(title="weight"),
    )  # fmt: skip
    figure.update_xaxes(
        type="category", tickmode="array", tickvals=places, ticktext=list(tokens), tickangle=0, nticks=len(tokens)
    )
    figure.update_yaxes(dtick=1, autorange="reversed")
    figure.update_layout(margin=dict(t=48), hovermode="closest")
    asked = (weight > 0).sum(0)
    told = (
        f"{len(weight)} tokens, {n_experts} experts, {(weight > 0).sum() / len(weight):.3g} for each token; "
        f"the busiest expert is asked by {asked.max()} of them, the least busy by {asked.min()}"
    )
    described = describe(figure, f"{title}: {told}.")
    rows = [f"{place} {token}" for place, token in enumerate(tokens)]
    bring_table(described, pd.DataFrame(weight, index=rows, columns=[f"expert {e}" for e in range(n_experts)]))
    return described


def loads(panels: Mapping[str, Mapping[int, Sequence[Real]]], title: str) -> go.Figure:
    """Shares of the work by expert, through training, a panel for each entry of `panels`, all on one scale of colours.

    An entry holds {step: the share of each expert}. Shares are given in units of an even one, 1 / E.
    Raises ValueError where there is nothing to draw.
    """
    if not panels:
        raise ValueError("no loads to draw: give each run's shares by step")
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.04)
    figure = blank(title, "", "expert", figure, height=380)
    shares = {name: np.array([by_step[step] for step in by_step], dtype=float) for name, by_step in panels.items()}
    relative = {name: own * own.shape[1] for name, own in shares.items()}
    top = max(float(own.max()) for own in relative.values())
    numbers, told = {}, []
    for column, (name, own) in enumerate(relative.items(), start=1):
        steps, experts = list(panels[name]), list(range(own.shape[1]))
        figure.add_heatmap(
            z=own.T, x=steps, y=experts, name=name, colorscale="Cividis", zmin=0, zmax=top, **panel(column),
            showscale=column == len(relative), colorbar=dict(title=UNDER, tickformat=".2g"),
        )  # fmt: skip
        idle = [(step, expert) for step, row in zip(steps, own, strict=True) for expert in experts if row[expert] == 0]
        figure.add_scatter(
            x=[step for step, _ in idle], y=[expert for _, expert in idle], name=f"{name}, not one token",
            mode="markers", showlegend=False, marker=dict(size=9, symbol="x", color=NEUTRAL), **panel(column),
        )  # fmt: skip
        for expert in experts:
            numbers[name, expert] = [own[0, expert], own[-1, expert]]
        told.append(
            f"{name}: at step {steps[-1]} from {own[-1].min():.2g} to {own[-1].max():.2g} {UNDER}, "
            f"an expert without a token {len(idle)} times"
        )
    figure.update_xaxes(title="optimizer steps")
    figure.update_yaxes(dtick=1)
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    rows = pd.DataFrame(list(numbers.values()), columns=["first", "last"])
    rows.insert(0, "expert", [expert for _, expert in numbers])
    rows.index = pd.Index([name for name, _ in numbers], name="run")
    described = describe(figure, f"{capital(title)}: {'; '.join(told)}.")
    bring_table(described, rows)
    return described
