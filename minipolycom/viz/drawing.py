"""The pieces that figures are drawn with: an empty one in the course's look, its description, its panels."""

from collections.abc import Sequence
from numbers import Real

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from minipolycom.viz.theme import style


def blank(title: str, xlabel: str, ylabel: str, figure: go.Figure | None = None, height: int = 400) -> go.Figure:
    figure = figure or go.Figure()
    above = 26 if title else 0  # pixels for the title; below it the legend, which takes room from the plot as it grows
    figure.update_layout(
        template="minipolycom", title=title or None, height=height, autosize=True,
        xaxis=dict(title=xlabel), yaxis=dict(title=ylabel), hovermode="x unified",
        legend=dict(yref="container", y=1 - above / height, yanchor="top"), margin=dict(t=above + 16),
    )  # fmt: skip
    return figure


def describe(figure: go.Figure, sentence: str) -> go.Figure:
    figure.update_layout(meta={"alt": sentence})
    return figure


def bring_table(figure: go.Figure, numbers: pd.DataFrame) -> None:
    """Give a described figure a table of its own, where its curves are not what one would read in one."""
    figure.layout.meta = {**figure.layout.meta, "numbers": numbers.to_dict("tight")}


def curve(figure: go.Figure, name: str, x: Tensor, y: Tensor, of: str, column: int = 1, legend: bool = True) -> None:
    """Add a curve of the activation `of`, in its style, to the panel in that column."""
    colour, dash = style(of)
    figure.add_scatter(
        x=x.numpy(), y=y.numpy(), name=name, mode="lines", legendgroup=of, showlegend=legend, **panel(column),
        line=dict(color=colour, dash=dash, width=2.5, simplify=False),
    )  # fmt: skip


def panel(column: int) -> dict[str, str]:
    number = "" if column == 1 else str(column)
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def head_panels(figure: go.Figure, top: Real = 0.92) -> None:
    """Panel titles at the left of their panels, in the room between these, which end at `top`, and the legend."""
    for note in figure.layout.annotations:
        axis = next(a for a in figure.select_xaxes() if abs(sum(a.domain) / 2 - note.x) < 1e-6)
        note.update(x=axis.domain[0], y=top * note.y, xanchor="left", yshift=2, font=dict(size=13))
    figure.for_each_yaxis(lambda axis: axis.update(domain=[top * end for end in axis.domain]))


def footnote(figure: go.Figure, lines: Sequence[str]) -> None:
    if lines:
        figure.add_annotation(
            text="<br>".join(lines), x=0, y=0, yshift=-50, xref="paper", yref="paper", xanchor="left", yanchor="top",
            align="left", font=dict(size=11),
        )  # fmt: skip
        figure.update_layout(margin=dict(b=56 + 16 * len(lines)))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def finish(figure: go.Figure, shown: Sequence, sentence: str, nothing: str = "nothing recorded yet") -> go.Figure:
    """Describe a figure; where there was nothing to show, empty it and say so in its middle."""
    if shown:
        return describe(figure, sentence)
    figure.data = ()
    figure.layout.shapes = ()
    figure.update_xaxes(range=[0, 1], showticklabels=False)
    figure.update_yaxes(range=[0, 1], showticklabels=False, type="linear")
    figure.add_annotation(text=nothing, x=0.5, y=0.5, xref="paper", yref="paper")
    return describe(figure, f"{capital(nothing)}.")
