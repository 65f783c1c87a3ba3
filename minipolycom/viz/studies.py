"""Figures and tables of studies, from their records alone (see `minipolycom.studies.records`)."""

import math
import statistics
from collections.abc import Iterable

import pandas as pd
import plotly.graph_objects as go

from minipolycom.studies.records import Record
from minipolycom.studies.statistics import fit_power_law
from minipolycom.studies.study import LEVEL
from minipolycom.viz.drawing import blank, capital, finish
from minipolycom.viz.figures import AXES
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

LOOK = {"holds": PALETTE["forest"], "fails": PALETTE["vermillion"], "undecided": NEUTRAL}
"""Colour of each verdict; the mark differs, too."""
MARK = {"holds": "circle", "fails": "x", "undecided": "circle-open"}


def comparisons(record: Record) -> pd.DataFrame:
    """The table of a study: each comparison with its range, mean, interval, seeds, adjusted p-value and verdict."""
    return pd.DataFrame(
        [
            {
                "comparison": line["title"],
                "claimed": claimed(line),
                "ours": line.get("estimate", math.nan),
                "low": line.get("low", math.nan),
                "high": line.get("high", math.nan),
                "seeds": line.get("n", len(line["differences"])),
                "p, adjusted": line.get("p_adjusted", math.nan),
                "verdict": line["verdict"],
            }
            for statement in record.statements
            for line in statement["comparisons"]
        ]
    )


def claimed(line: dict) -> str:
    """The range that a comparison claims, in signs."""
    low, high = line["claimed"]
    if low is None:
        return f"< {high:g}"
    return f"> {low:g}" if high is None else f"{low:g} to {high:g}"


def intervals(record: Record, statement: int | None = None) -> go.Figure:
    """The figure of a study: each comparison's mean with its interval, and the verdict; all, or those of one statement.

    Comparisons of different measures stand in different units, so that one statement at a time is often clearer.
    """
    chosen = record.statements if statement is None else [record.statements[statement]]
    lines = [line for each in chosen for line in each["comparisons"] if "estimate" in line]
    title = f"{capital(record.study)}, {record.tier} tier, {len(record.seeds)} seeds"
    figure = blank(title, f"difference, with its {LEVEL:.0%} interval over seeds", "", height=150 + 26 * len(lines))
    for verdict, colour in LOOK.items():
        own = [line for line in lines if line["verdict"] == verdict]
        figure.add_scatter(
            x=[line["estimate"] for line in own], y=[line["title"] for line in own], name=verdict, mode="markers",
            marker=dict(size=9, color=colour, symbol=MARK[verdict]),
            error_x=dict(
                type="data", symmetric=False, thickness=2, width=4, color=colour,
                array=[line["high"] - line["estimate"] for line in own],
                arrayminus=[line["estimate"] - line["low"] for line in own],
            ),
        )  # fmt: skip
    for bound in sorted({bound for line in lines for bound in line["claimed"] if bound is not None}):
        figure.add_vline(x=bound, line=dict(color=NEUTRAL, width=1, dash="dot"))
    ends = [0.0, *(line[end] for line in lines for end in ("low", "high"))]
    margin = 0.05 * (max(ends) - min(ends))
    figure.update_xaxes(range=[min(ends) - margin, max(ends) + margin])
    figure.update_yaxes(categoryorder="array", categoryarray=[line["title"] for line in lines][::-1], dtick=1)
    figure.update_layout(hovermode="closest", showlegend=True)
    told = "; ".join(
        f"{line['title']} {line['estimate']:.3g} ({line['low']:.3g} to {line['high']:.3g}), {line['verdict']}"
        for line in lines
    )
    return finish(figure, lines, f"{capital(record.question)} {told}.")


def differences_to_baseline(record: Record, source: str | None = None, others: Iterable[dict] = ()) -> go.Figure:
    """Validation losses of each arm minus those of the baseline with the same seed, over the steps: the mean, and the
    range over seeds as a band.

    `source` is one of the record's texts, its first where not given. `others` are rows of the table of losses of a run
    of the reader's own, drawn against the baseline's mean. Raises ValueError for a record without curves.
    """
    rows = record.table("curve")
    if not rows:
        raise ValueError(f"the study {record.study} has no curves to draw: its runs are measured at their end")
    source = source or rows[0]["source"]
    curves: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        if row["source"] == source:
            curves.setdefault(row["arm"], {}).setdefault(row["step"], {})[row["seed"]] = row["loss"]
    base = curves[record.baseline]
    figure = blank(f"Loss minus that of {record.baseline}, {source}", AXES["step"], "difference, nats per token")
    look, told = styles([*curves, "yours"]), []
    for arm, curve in curves.items():
        paired = {
            step: [losses[seed] - base[step][seed] for seed in losses if seed in base.get(step, ())]
            for step, losses in curve.items()
        }
        steps = [step for step, found in paired.items() if found]
        colour, dash = look[arm]
        band = [max(paired[step]) for step in steps] + [min(paired[step]) for step in reversed(steps)]
        figure.add_scatter(
            x=[*steps, *reversed(steps)], y=band, name=f"{arm}, range", mode="lines", line=dict(width=0), fill="toself",
            fillcolor=faint(colour, 0.08), hoverinfo="skip", showlegend=False, legendgroup=arm,
        )  # fmt: skip
        means = [statistics.fmean(paired[step]) for step in steps]
        figure.add_scatter(
            x=steps, y=means, name=arm, mode="lines", line=dict(color=colour, dash=dash, width=2.5), legendgroup=arm
        )
        told.append(f"{arm} {means[-1]:+.3f}" if means else f"{arm} not measured")
    own = [row for row in others if row["split"] == "val" and row["step"] in base]
    if own:
        figure.add_scatter(
            x=[row["step"] for row in own],
            y=[row["loss"] - statistics.fmean(base[row["step"]].values()) for row in own],
            name="yours", mode="lines+markers", line=dict(color=look["yours"][0], width=2.5),
        )  # fmt: skip
    return finish(figure, told, f"Validation loss minus that of {record.baseline}, at the end: {', '.join(told)}.")


def scaling(record: Record) -> go.Figure:
    """Losses above the floor over the number of parameters: the mean over seeds with their range, and the fitted power
    law, its exponent with its interval in the legend.

    Raises ValueError for a record without losses above a floor at three sizes.
    """
    losses: dict[str, dict[int, dict[int, float]]] = {}
    for row in record.table("end"):
        if row["phase"] == "main" and "above_floor" in row:
            losses.setdefault(row["arm"], {}).setdefault(row["parameters"], {})[row["seed"]] = row["above_floor"]
    if not losses or min(map(len, losses.values())) < 3:
        raise ValueError(f"the study {record.study} has no losses above a floor at three sizes or more")
    figure = blank(f"Loss above the floor, {record.tier} tier", "parameters", "nats per token above the floor")
    look, told = styles(losses), []
    for arm, by_size in losses.items():
        seeds = set.intersection(*(set(of_size) for of_size in by_size.values()))  # those that no size lacks
        values = {size: [of_size[seed] for seed in sorted(seeds)] for size, of_size in sorted(by_size.items())}
        law = fit_power_law(values, floor=0.0)
        sizes, means = list(values), [statistics.fmean(own) for own in values.values()]
        colour, dash = look[arm]
        figure.add_scatter(
            x=sizes, y=means, name=arm, mode="markers", marker=dict(size=8, color=colour), showlegend=False,
            error_y=dict(
                type="data", symmetric=False, thickness=2, color=colour,
                array=[max(own) - mean for own, mean in zip(values.values(), means, strict=True)],
                arrayminus=[mean - min(own) for own, mean in zip(values.values(), means, strict=True)],
            ),
        )  # fmt: skip
        exponent = f"{arm}: exponent {law.exponent:.3f} ({law.low:.3f} to {law.high:.3f})"
        figure.add_scatter(
            x=sizes, y=[law(size) for size in sizes], name=exponent, mode="lines",
            line=dict(color=colour, dash=dash, width=2),
        )  # fmt: skip
        told.append(exponent)
    figure.update_layout(xaxis=dict(type="log"), yaxis=dict(type="log"))
    return finish(figure, told, f"Loss above the floor falls with the parameters as a power law. {'; '.join(told)}.")
