"""How figures look: one palette, one line style per activation, one template for light pages and one for dark.

Importing this module registers the templates "minipolycom" and "minipolycom_dark" with plotly. The first is made to be
read on both kinds of page: backgrounds are transparent, its greys lie between black and white. Where the page says
which theme it has (JupyterLab, VS Code, Colab), `PAGE_CSS` sharpens the text to match, also when the reader switches.
"""

import re
import zlib
from collections.abc import Collection
from numbers import Real

import plotly.graph_objects as go
import plotly.io as pio

PALETTE: dict[str, str] = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "grey": "#8A939D",
    "amber": "#E2A113",
    "forest": "#055D33",
    "sky": "#30A3EB",
    "plum": "#A43E78",
    "mint": "#16CC91",
}
"""Eight colours that stay apart for colour-blind readers and can be seen on white and on black.

Blue and vermillion are those of Okabe and Ito, "Color universal design", 2008; the others were searched for around
theirs. The smallest distance between two (OKLab, times 100) is 10 or more as protanopes and deuteranopes see them, and
6 or more for tritanopes; a distance of 2 is just noticeable.
"""

STYLE: dict[str, tuple[str, str]] = {
    "polynorm": (PALETTE["vermillion"], "solid"),
    "polyrelu": (PALETTE["blue"], "9px,3px"),
    "relu": (PALETTE["grey"], "2px,2px"),
    "squared_relu": (PALETTE["amber"], "7px,2px,2px,2px"),
    "gelu": (PALETTE["forest"], "5px,3px"),
    "silu": (PALETTE["sky"], "14px,3px"),
    "swiglu": (PALETTE["plum"], "12px,3px,3px,3px"),
    "geglu": (PALETTE["mint"], "8px,2px,2px,2px,2px,2px"),
}
"""Colour and dash of each activation, the same in every figure: no two share a colour, no two share a dash."""

OTHER_DASHES = ["4px,2px", "10px,2px,4px,2px", "3px,4px", "16px,4px,2px,4px", "6px,6px"]

NEUTRAL = "#717983"
"""A grey that can be read on white (4.4 to 1) and on JupyterLab's dark page (4.3 to 1)."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_LIGHT = ('[data-jp-theme-light="true"]', "body.vscode-light", 'html[theme="light"]')
_DARK = ('[data-jp-theme-light="false"]', "body.vscode-dark", 'html[theme="dark"]')


def _rule(pages: tuple[str, ...], parts: tuple[str, ...], declaration: str) -> str:
    return ", ".join(f"{page} .js-plotly-plot {part}" for page in pages for part in parts) + f" {{ {declaration} }}"


RESTING = "minipolycom-resting"
"""The class of a button that does nothing just now."""

PAGE_CSS = "\n".join(
    [
        _rule(_LIGHT, (".main-svg text",), "fill: #3a4048 !important;"),
        _rule(_DARK, (".main-svg text",), "fill: #d5dae0 !important;"),
        # Forest and blue are the darkest of the palette; on a black page every curve is lifted alike.
        _rule(_DARK, (".scatterlayer", ".barlayer", ".legend .layers"), "filter: brightness(1.25);"),
        f".{RESTING} {{ opacity: 0.5; }}",
    ]
)
"""The page's own theme for the text and curves of figures; sent along with each one that is displayed."""


def style(name: str) -> tuple[str, str]:
    """Colour and dash of a name: the activation's own, or for any other name a pair that depends on the name alone."""
    if name in STYLE:
        return STYLE[name]
    code = zlib.crc32(name.encode())  # not hash(): that one changes from process to process
    return list(PALETTE.values())[code % len(PALETTE)], OTHER_DASHES[code // len(PALETTE) % len(OTHER_DASHES)]


def styles(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """The style of each name in one figure: activations keep theirs, other names step aside for them and each other.

    A name that begins with an activation's, as "relu, gain 2" does, has that activation's style if no other name has.
    Two lines share a colour or a dash only when there are more names than colours or dashes.
    """
    chosen = {name: STYLE[name] for name in names if name in STYLE}
    for name in names:
        of = re.match(r"\w*", name)[0]
        if of in STYLE and STYLE[of] not in chosen.values():
            chosen[name] = STYLE[of]
    for name in names:
        if name not in chosen:
            colour, dash = style(name)
            taken = list(chosen.values())
            chosen[name] = (
                _least_used(list(PALETTE.values()), colour, [c for c, _ in taken]),
                _least_used(OTHER_DASHES, dash, [d for _, d in taken]),
            )
    return {name: chosen[name] for name in names}


def _least_used(options: list[str], wish: str, taken: list[str]) -> str:
    """The option used least so far; among several, the first from `wish` on."""
    start = options.index(wish)
    return min(options[start:] + options[:start], key=taken.count)


def faint(colour: str, opacity: Real) -> str:
    """A palette colour with that opacity, as plotly writes it: rgba(r, g, b, opacity)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def _template(text: str, grid: str, axis: str, hover: str) -> go.layout.Template:
    one_axis = dict(
        gridcolor=grid, zeroline=False, linecolor=axis, showline=True, ticks="outside", tickcolor=axis, ticklen=4,
        title=dict(standoff=8, font=dict(size=13)), automargin=True, nticks=7,
    )  # fmt: skip
    return go.layout.Template(
        layout=dict(
            font=dict(family=FONT, size=13, color=text),
            title=dict(x=0, xref="paper", xanchor="left", y=0.98, yref="container", yanchor="top", font=dict(size=16)),
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorway=list(PALETTE.values()),
            colorscale=dict(sequential="Cividis", diverging="PuOr"),
            xaxis=dict(one_axis, showgrid=False),
            yaxis=dict(one_axis),
            legend=dict(orientation="h", x=0, xanchor="left", y=1.02, yanchor="bottom", itemwidth=44),
            margin=dict(l=56, r=16, t=64, b=48),
            hoverlabel=dict(bgcolor=hover, bordercolor=axis, font=dict(family=FONT, size=12, color=text)),
            annotationdefaults=dict(showarrow=False, font=dict(color=text)),
        )
    )


pio.templates["minipolycom"] = _template(NEUTRAL, "rgba(127,135,145,0.18)", "rgba(127,135,145,0.7)", "#ffffff")
pio.templates["minipolycom_dark"] = _template("#d5dae0", "rgba(200,210,220,0.14)", "rgba(200,210,220,0.6)", "#20242a")
