"""The transformer taken apart: its block and its matrices as drawings, rotary turns, attention patterns, powers.

Drawings are SVG with a description and a table of their own; the others are figures as in `figures`.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from minipolycom.activations import ACTIVATIONS, GATED
from minipolycom.model import GPTConfig
from minipolycom.viz.drawing import blank, bring_table, describe, head_panels, panel
from minipolycom.viz.figures import folded
from minipolycom.viz.theme import FONT, NEUTRAL, PALETTE, faint, style

WIDTH = 860
"""Width of a drawing in the units of its SVG; on the page it shrinks with its column."""

POWERS = {"a₁ relu(x)": 1, "a₂ relu(x)²": 2, "a₃ relu(x)³": 3}
"""The three terms of PolyReLU of order 3, by name."""


# -- drawings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """A picture as SVG, the sentence that a screen reader says in its place, and its numbers; notebooks show it."""

    svg: str
    alt: str
    numbers: pd.DataFrame

    def _repr_html_(self) -> str:
        return self.svg + folded(self.alt, self.numbers)

    def __repr__(self) -> str:
        return self.alt


def block_diagram(config: GPTConfig) -> Drawing:
    """The block of a transformer: the residual stream, and what reads from it and writes to it, with the shapes.

    The numbers are the entries of each part's weights. Raises ValueError for a block with experts.
    """
    if config.n_experts:
        raise ValueError("the drawing is of a dense block; make the configuration with n_experts=0")
    D, H, K = config.d_model, config.n_heads, config.d_model // config.n_heads
    attention = [
        ("norm", "D"),
        ("q, k, v", "3 H K × D"),
        ("rotate", "q and k"),
        ("attend", "s ≤ t"),
        ("out", "D × H K"),
    ]
    gated = config.activation in GATED
    function = GATED.get(config.activation, config.activation)
    coefficients = sum(parameter.numel() for parameter in ACTIVATIONS[function]().parameters())
    up = ("gate, up", "2 F × D") if gated else ("up", "F × D")
    feed_forward = [("norm", "D"), up, (function, "· up" if gated else "F → F"), ("down", "D × F")]

    stream, top, box, gap, x = 150, 46, 70, 8, 20
    parts = [_line(12, stream, WIDTH - 20, stream, PALETTE["blue"], 5)]
    parts += [_text(12, stream + 28, "the residual stream, B T D", "start")]
    for name, inside, boxes in (("attention", "B H T K", attention), ("feed-forward", "B T F", feed_forward)):
        begin = x
        x += 24
        parts += [_arrow(begin, stream, begin, top + 23, x, top + 23)]
        for label, shape in boxes:
            marked = label == function and name == "feed-forward"
            parts += _box(x, top, box, label, shape, style(config.activation)[0] if marked else NEUTRAL, bold=marked)
            x += box + gap
            if (label, shape) != boxes[-1]:
                parts += [_line(x - gap, top + 23, x, top + 23, NEUTRAL, 1.5)]
        end = x + 14
        parts += [_line(x - gap, top + 23, end, top + 23, NEUTRAL, 1.5)]
        parts += [_arrow(end, top + 23, end, stream - 13, end, stream - 13), _plus(end, stream)]
        parts += [_text((begin + end) / 2, top - 22, f"{name} ({inside} inside)", "middle", bold=True)]
        x = end + 26
    numbers = pd.DataFrame(
        {
            "part": ["norm", "q, k, v", "out", "norm", up[0], config.activation, "down"],
            "reads": ["B T D", "B T D", "B T H K", "B T D", "B T D", "B T F", "B T F"],
            "parameters": [
                D,
                3 * D * D,
                D * D,
                D,
                (1 + gated) * config.d_ff * D,
                coefficients,
                D * config.d_ff,
            ],
        }
    ).set_index("part")
    told = ", ".join(f"{part} {count:,}" for part, count in numbers["parameters"].items())
    return _drawing(
        parts, 188, numbers,
        f"A transformer block with {function}: the residual stream runs from left to right; attention (norm, q k v, "
        f"rotate, attend, out) reads from it and adds to it, then the feed-forward (norm, {up[0]}, {function}, down) "
        f"does. D = {D}, H = {H}, K = {K}, F = {config.d_ff}. Parameters: {told}.",
    )  # fmt: skip


def matrices_to_scale(configs: Iterable[GPTConfig]) -> Drawing:
    """The matrices of each configuration's feed-forward as rectangles of D by F, all to one scale: area is parameters.

    Raises ValueError where there is no configuration.
    """
    rows = [(config, ["up", "down", "gate"][: 3 if config.activation in GATED else 2]) for config in configs]
    if not rows:
        raise ValueError("there is nothing to draw: give at least one configuration")
    widest = max(len(matrices) * config.d_ff + 40 * len(matrices) for config, matrices in rows)
    scale = (WIDTH - 150) / widest
    parts, y, counts = [], 34.0, []
    for config, matrices in rows:
        colour, x = style(config.activation)[0], 130.0
        high, wide = scale * config.d_model, scale * config.d_ff
        parts += [_text(8, y + high / 2 + 5, config.activation, "start", bold=True)]
        for matrix in matrices:
            parts += [_rect(x, y, wide, high, colour, faint(colour, 0.25))]
            parts += [_text(x + wide / 2, y - 8, f"{matrix}: {config.d_model} × {config.d_ff}", "middle")]
            x += wide + 14
        counts.append(len(matrices) * config.d_model * config.d_ff)
        y += high + 48
    numbers = pd.DataFrame(
        {
            "matrices": [len(matrices) for _, matrices in rows],
            "F": [config.d_ff for config, _ in rows],
            "parameters": counts,
        },
        index=[config.activation for config, _ in rows],
    )
    told = "; ".join(
        f"{config.activation}: {len(matrices)} matrices of {config.d_model} × {config.d_ff}, {count:,} parameters"
        for (config, matrices), count in zip(rows, counts, strict=True)
    )
    return _drawing(parts, y - 24, numbers, f"The matrices of feed-forwards, drawn to one scale. {told}.")


def _drawing(parts: Sequence[str], height: Real, numbers: pd.DataFrame, sentence: str) -> Drawing:
    label = html.escape(sentence)
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="100%" '
        f'style="max-width:{WIDTH}px" role="img" aria-label="{label}" font-family="{html.escape(FONT)}" font-size="13">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )
    return Drawing(picture, sentence, numbers)


def _box(x: Real, y: Real, width: Real, label: str, below: str, colour: str, bold: bool) -> list[str]:
    return [
        _rect(x, y, width, 46, colour, faint(colour, 0.25 if bold else 0.08)),
        _text(x + width / 2, y + 20, label, "middle", size=13 if len(label) < 8 else 11, bold=bold),
        _text(x + width / 2, y + 37, below, "middle", size=11),
    ]


def _rect(x: Real, y: Real, width: Real, height: Real, edge: str, fill: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} rx="3" fill="{fill}" stroke="{edge}" stroke-width="1.5"/>'


def _line(x0: Real, y0: Real, x1: Real, y1: Real, colour: str, width: Real) -> str:
    ends = f'x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'


def _arrow(x0: Real, y0: Real, x1: Real, y1: Real, x2: Real, y2: Real) -> str:
    """A path of up to two straight pieces, with a head at its end."""
    across, down = (6, 0) if x2 > x1 else (0, 6)
    head = (
        f"{x2},{y2} {x2 - across - down / 2},{y2 - down - across / 2} {x2 - across + down / 2},{y2 - down + across / 2}"
    )
    path = f'<polyline points="{x0},{y0} {x1},{y1} {x2},{y2}" fill="none" stroke="{NEUTRAL}" stroke-width="1.5"/>'
    return f'{path}<polygon points="{head}" fill="{NEUTRAL}"/>'


def _plus(x: Real, y: Real) -> str:
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="12" fill="#ffffff" stroke="{PALETTE["blue"]}" stroke-width="2"/>'
    bars = (_line(x - 6, y, x + 6, y, PALETTE["blue"], 2), _line(x, y - 6, x, y + 6, PALETTE["blue"], 2))
    return ring + "".join(bars)


def _text(x: Real, y: Real, text: str, anchor: str, size: int = 13, bold: bool = False) -> str:
    """Text in the colour of the page's own."""
    strong = ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="currentColor"{strong}'
    return f"<text {place}>{html.escape(text, quote=False)}</text>"


# -- figures -------------------------------------------------------------------------------------------------------


def rotary_turns(turned_TK: Float[Tensor, "T K"], pairs: Sequence[int]) -> go.Figure:
    """Where some pairs (i, i + K/2) of a vector stand at each position, one panel per pair; a ring marks position 0.

    Raises ValueError for a pair that is not one of the K/2.
    """
    x_TK, half = turned_TK.detach().cpu().numpy(), turned_TK.shape[1] // 2
    unknown = [pair for pair in pairs if not 0 <= pair < half]
    if unknown:
        raise ValueError(f"a vector of {2 * half} entries has the pairs 0 to {half - 1}; got {unknown[0]}")
    figure = make_subplots(cols=len(pairs), subplot_titles=[f"pair {pair}" for pair in pairs], horizontal_spacing=0.04)
    figure = blank("", "", "", figure, height=290)
    positions, angles = np.arange(len(x_TK)), {}
    for column, pair in enumerate(pairs, start=1):
        first, second = x_TK[:, pair], x_TK[:, pair + half]
        angles[f"pair {pair}"] = np.unwrap(np.arctan2(second, first))
        reach = 1.2 * float(np.hypot(first, second).max())
        look = dict(showlegend=False, **panel(column))
        figure.add_scatter(
            x=first, y=second, name=f"pair {pair}", mode="lines+markers", text=[f"position {t}" for t in positions],
            hovertemplate="%{text}<extra></extra>", line=dict(color=faint(PALETTE["blue"], 0.35), width=1),
            marker=dict(size=7, color=PALETTE["blue"]), **look,
        )  # fmt: skip
        start = dict(size=15, color="rgba(0, 0, 0, 0)", line=dict(color=PALETTE["vermillion"], width=2.5))
        figure.add_scatter(x=first[:1], y=second[:1], name="position 0", mode="markers", marker=start, **look)
        number = "" if column == 1 else str(column)
        figure.update_layout(
            {
                f"xaxis{number}": dict(range=[-reach, reach], constrain="domain", zeroline=True, nticks=5),
                f"yaxis{number}": dict(range=[-reach, reach], scaleanchor=f"x{number}", zeroline=True, nticks=5),
            }
        )
    figure.update_layout(hovermode="closest", xaxis=dict(title="first entry"), yaxis=dict(title="second entry"))
    head_panels(figure)
    turns = ", ".join(f"{name} by {(angle[-1] - angle[0]) / (2 * np.pi):.2f}" for name, angle in angles.items())
    sentence = f"Pairs of entries on their circles at positions 0 to {len(x_TK) - 1}. In whole turns: {turns}."
    return _with_numbers(describe(figure, sentence), pd.DataFrame(angles, index=positions), "position")


def attention_maps(
    maps: Mapping[str, Float[Tensor, "T S"]], labels: Sequence[str] | None = None, value: str = "weight"
) -> go.Figure:
    """Who looks at whom, one panel per map: a row for each position that looks, from the top, a column for each seen.

    `labels` names the positions (their numbers without it); `value` is what is coloured, on one scale for all panels.
    Raises ValueError for maps of different sizes and for labels that do not fit them.
    """
    sizes = {tuple(one.shape) for one in maps.values()}
    if len(sizes) != 1:
        raise ValueError(f"maps that stand side by side have one size; got {sorted(sizes)}")
    ((n_rows, n_columns),) = sizes
    names = [str(i) for i in range(max(n_rows, n_columns))]
    if labels is not None:
        if len(labels) != len(names):
            raise ValueError(f"one label for each of {len(names)} positions; got {len(labels)}")
        names = [f"{label} {i}" for i, label in enumerate(labels)]  # a name that came twice would be one place
    z = {name: one.detach().cpu().double().numpy() for name, one in maps.items()}
    low, high = min(float(one.min()) for one in z.values()), max(float(one.max()) for one in z.values())
    figure = make_subplots(cols=len(z), subplot_titles=list(z), horizontal_spacing=0.08)
    figure = blank("", "position that is looked at", "position that looks", figure, height=430)
    for column, one in enumerate(z.values(), start=1):
        figure.add_heatmap(
            z=one[::-1], x=names[:n_columns], y=names[:n_rows][::-1], name=value, zmin=low, zmax=high,
            colorscale="Cividis", showscale=column == len(z), colorbar=dict(title=value), **panel(column),
        )  # fmt: skip
    ticks = dict(type="category") if labels is None else dict(type="category", tickvals=names, ticktext=list(labels))
    figure.update_xaxes(title="position that is looked at", **ticks)
    figure.update_yaxes(**ticks)
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    told = "; ".join(
        f"{name}: {value} {one.min():.3g} to {one.max():.3g}, "
        f"mean on the diagonal {np.diag(one).mean():.3g}, after it {_mean_after(one):.3g}"
        for name, one in z.items()
    )
    numbers = pd.concat({name: pd.DataFrame(one, columns=names[:n_columns]) for name, one in z.items()})
    numbers.index = [f"{name}: {names[row]}" for name, row in numbers.index]
    return _with_numbers(describe(figure, f"Maps of {value}, row looks at column. {told}."), numbers, "")


def _mean_after(one: np.ndarray) -> float:
    after = one[np.triu_indices(len(one), 1, one.shape[1])]
    return float(after.mean()) if after.size else 0.0


def powers_at_scales(scales: Sequence[Real]) -> go.Figure:
    """PolyReLU's three terms where its input is normal with standard deviation s, one panel per s of `scales`.

    Each panel reaches from -3 s to 3 s; behind the terms lies the density of the inputs. With a_p = 1/3, and
    E[relu(x)^2p] = (2p - 1)!! s^2p / 2, the numbers are each term's root mean square.

    Raises ValueError for a scale that is not positive.
    """
    if not all(scale > 0 for scale in scales):
        raise ValueError(f"a standard deviation is positive; got {list(scales)}")
    figure = make_subplots(cols=len(scales), subplot_titles=[f"s = {s:.3g}" for s in scales], horizontal_spacing=0.07)
    figure = blank("PolyReLU's terms, and where its inputs lie", "x", "term", figure, height=360)
    colours = (PALETTE["blue"], PALETTE["amber"], PALETTE["vermillion"])
    sizes = {}
    for column, scale in enumerate(scales, start=1):
        x = torch.linspace(-3 * scale, 3 * scale, 121)
        highest = max((3 * scale) ** power / 3 for power in POWERS.values())
        density = 0.8 * highest * (-(x**2) / (2 * scale**2)).exp()
        ground = dict(x=x.numpy(), mode="lines", hoverinfo="skip", line=dict(color=faint(NEUTRAL, 0.3), width=1))
        figure.add_scatter(y=torch.zeros_like(x).numpy(), name="ground", showlegend=False, **ground, **panel(column))
        figure.add_scatter(
            y=density.numpy(), name="density of x", showlegend=column == 1, fill="tonexty",
            fillcolor=faint(NEUTRAL, 0.18), **ground, **panel(column),
        )  # fmt: skip
        for (name, power), colour, dash in zip(POWERS.items(), colours, ("12px,3px", "3px,3px", "solid"), strict=True):
            figure.add_scatter(
                x=x.numpy(), y=(x.relu() ** power / 3).numpy(), name=name, mode="lines", showlegend=column == 1,
                legendgroup=name, line=dict(color=colour, dash=dash, width=2.5), **panel(column),
            )  # fmt: skip
        sizes[f"s = {scale:.3g}"] = [
            scale**power * float(np.prod(np.arange(1, 2 * power, 2)) / 2) ** 0.5 / 3 for power in POWERS.values()
        ]
    figure.update_xaxes(title="x", nticks=5)
    head_panels(figure)
    told = "; ".join(f"at {name} {', '.join(f'{size:.3g}' for size in row)}" for name, row in sizes.items())
    sentence = f"Root mean square of PolyReLU's linear, square and cubic term for normal inputs: {told}."
    return _with_numbers(describe(figure, sentence), pd.DataFrame(sizes, index=list(POWERS)), "term")


def _with_numbers(figure: go.Figure, numbers: pd.DataFrame, index: str) -> go.Figure:
    """A figure that brings its own table, because its curves are not what one would read there."""
    bring_table(figure, numbers.rename_axis(index or None))
    return figure
