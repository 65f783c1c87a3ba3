"""A whole row through a polynomial: what becomes of its entries, by where in the formula a size is divided by."""

from collections.abc import Callable
from numbers import Real

import plotly.graph_objects as go
import torch
import torch.nn.functional as F
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from minipolycom.activations import rms_norm
from minipolycom.checking import check_known
from minipolycom.viz.drawing import blank, describe, head_panels, panel
from minipolycom.viz.figures import STANDARD_ROW
from minipolycom.viz.theme import NEUTRAL, STYLE, faint

ORDER = 3
PARTS = ("of x", "of x²", "of x³", "the sum")
"""What is measured on a row: the parts of the polynomial, the lowest power first, and their sum."""


def _each_power(x: Tensor, divided: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([divided(x**p) for p in range(1, ORDER + 1)]) / ORDER


def _undivided(x: Tensor) -> Tensor:
    return _each_power(x, lambda power: power)


def _after_the_sum(x: Tensor) -> Tensor:
    parts = _undivided(x)
    return parts / (parts.sum(dim=0).square().mean() + 1e-6).sqrt()


PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "nowhere": _undivided,
    "before the powers": lambda x: _undivided(rms_norm(x)),
    "each power: PolyNorm": lambda x: _each_power(x, rms_norm),
    "each power, by the L2 norm": lambda x: _each_power(x, lambda power: F.normalize(power, dim=-1)),
    "the whole sum": _after_the_sum,
}
"""Where a polynomial of order 3, all coefficients 1/3, may divide by a size of the row, its root mean square unless the
name says otherwise; each gives the parts of the sum."""


def a_row(scale: Real = 1.0, outlier: Real = 0.0) -> Float[Tensor, " F"]:
    """255 entries at standard normal quantiles and `outlier` in order of size, all of them times `scale`."""
    return scale * torch.cat([STANDARD_ROW, torch.tensor([float(outlier)])]).sort().values


def row_panels(place: str, scale: Real = 1.0, outlier: Real = 0.0) -> go.Figure:
    """A row through a polynomial in two panels: what becomes of each entry, and how large each part of the sum is.

    `place`, a key of PLACES, says where the polynomial divides by a size. The row is `a_row(scale, outlier)`. On the
    left its entries stand in units of `scale`, so that only a change of the function moves the curve; on the right is
    the root mean square over the row of each part, and of their sum. Faint is the row at scale 1 without an outlier.

    Raises ValueError for an unknown place.
    """
    check_known("place", place, PLACES)
    figure = make_subplots(
        cols=2, subplot_titles=("the row, entry by entry", "size of each part"), column_widths=[0.58, 0.42],
        horizontal_spacing=0.12,
    )  # fmt: skip
    figure = blank("", "entry of the row, in units of its scale", "what becomes of it", figure, height=380)
    now, start = PLACES[place](a_row(scale, outlier)), PLACES[place](a_row())
    colour, faded = STYLE["polynorm"][0], faint(NEUTRAL, 0.45)
    thick = dict(mode="lines", line=dict(color=faded, width=6, simplify=False))
    dots = dict(mode="markers", marker=dict(color=colour, size=5))
    _add(figure, "at scale 1, without an outlier", a_row(), start, thick, dict(color=faded, size=16))
    _add(figure, "this row", a_row(1.0, outlier), now, dots, dict(color=colour, size=9))
    zero = dict(zeroline=True, zerolinecolor=faint(NEUTRAL, 0.4))
    figure.update_layout(
        hovermode="closest",
        xaxis=dict(range=[-3.4, 3.4], **zero),
        yaxis=dict(range=[-3.2, 6.2], **zero),
        xaxis2=dict(title="part", range=[0.5, len(PARTS) + 0.5], tickvals=[1, 2, 3, 4], ticktext=PARTS),
        yaxis2=dict(title="root mean square over the row", type="log", range=[-7, 10], exponentformat="power"),
    )
    head_panels(figure)
    return describe(
        figure,
        f"Divided: {place}. Row at scale {scale:.3g}, one entry at {outlier:g} times the scale. {_told(now)}",
    )


def _add(figure: go.Figure, name: str, row: Tensor, parts: Tensor, entries: dict, sizes: dict) -> None:
    """A row in both panels; `entries` and `sizes` say how it looks there."""
    figure.add_scatter(x=row.numpy(), y=parts.sum(dim=0).numpy(), name=name, **entries)
    places = list(range(1, len(PARTS) + 1))
    figure.add_scatter(
        x=places, y=_sizes(parts), name=f"sizes, {name}", mode="markers", marker=sizes, showlegend=False, **panel(2)
    )


def _sizes(parts: Float[Tensor, "P F"]) -> list[float]:
    """The root mean square over the row of each part, and of their sum."""
    return torch.cat([parts, parts.sum(dim=0, keepdim=True)]).square().mean(dim=-1).sqrt().tolist()


def _told(parts: Float[Tensor, "P F"]) -> str:
    sizes, largest = _sizes(parts), float(parts.sum(dim=0).abs().max())
    energies = [size**2 for size in sizes[:ORDER]]
    named = ", ".join(f"{part} {size:.3g}" for part, size in zip(PARTS, sizes, strict=True))
    shares = ", ".join(f"{energy / sum(energies):.0%}" for energy in energies)
    return (
        f"Sizes: {named}; the three parts hold {shares} of their energy. The largest entry comes out as {largest:.3g}."
    )
