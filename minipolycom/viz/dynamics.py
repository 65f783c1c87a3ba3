"""Figures of trainings compared: their losses, learning rates, differences over seeds, and the time to a loss."""

from collections.abc import Mapping, Sequence
from numbers import Real
from statistics import fmean

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minipolycom.studies.records import Record
from minipolycom.studies.statistics import Interval, Reached
from minipolycom.viz.drawing import blank, capital, describe, head_panels, panel
from minipolycom.viz.figures import LOSS
from minipolycom.viz.theme import NEUTRAL, faint, styles

Runs = Mapping[str, Mapping[int, Mapping[Real, Real]]]
"""Losses by name, then by seed, then by place along the training, such as the step."""

APART = "difference, nats per token"


def runs_of(record: Record, source: str) -> dict[str, dict[int, dict[int, float]]]:
    """The validation losses of a study's compared runs on one of its texts: {arm: {seed: {step: loss}}}."""
    runs: dict[str, dict[int, dict[int, float]]] = {}
    for row in record.table("curve"):
        if row["source"] == source:
            runs.setdefault(row["arm"], {}).setdefault(row["seed"], {})[row["step"]] = row["loss"]
    return runs


def losses(runs: Runs, xlabel: str, title: str) -> go.Figure:
    """Loss curves by name: the mean over seeds, and their range as a band where there are several."""
    figure = blank(title, xlabel, LOSS)
    told = _bands(figure, {name: _through_seeds(seeds) for name, seeds in runs.items()}, 1)
    return describe(figure, f"{title}. {capital(LOSS)}, over {xlabel}: {'; '.join(told)}.")


def differences(panels: Mapping[str, Runs], baseline: str, xlabels: Sequence[str], title: str) -> go.Figure:
    """Losses minus those of the baseline with the same seed at the same place, a panel for each entry of `panels`, all
    on one scale: the mean over seeds, and their range as a band.

    Raises ValueError for a panel without the baseline.
    """
    figure = make_subplots(
        cols=len(panels), subplot_titles=list(panels) if len(panels) > 1 else None, shared_yaxes=True,
        horizontal_spacing=0.04,
    )  # fmt: skip
    figure = blank(title, "", APART, figure, height=400)
    told = []
    for column, ((name, runs), xlabel) in enumerate(zip(panels.items(), xlabels, strict=True), start=1):
        if baseline not in runs:
            raise ValueError(f"{name!r} has no runs of {baseline!r} to compare with; it has {', '.join(runs)}")
        apart = {arm: _through_seeds(minus(seeds, runs[baseline])) for arm, seeds in runs.items()}
        own = _bands(figure, apart, column)
        told.append(f"{capital(f'{name}, over' if name else 'over')} {xlabel}: {'; '.join(own)}")
        figure.update_layout({f"xaxis{'' if column == 1 else column}_title": xlabel})
    if len(panels) > 1:
        head_panels(figure)
    return describe(figure, f"{title}. Loss minus that of {baseline}. {'. '.join(told)}.")


def minus(
    runs: Mapping[int, Mapping[Real, Real]], others: Mapping[int, Mapping[Real, Real]]
) -> dict[int, dict[Real, Real]]:
    """The differences of losses, by seed and place, wherever both were measured."""
    return {
        seed: {place: loss - others[seed][place] for place, loss in curve.items() if place in others[seed]}
        for seed, curve in runs.items()
        if seed in others
    }


def rates(panels: Mapping[str, Mapping[str, Mapping[Real, Real | None]]], title: str) -> go.Figure:
    """Losses over the learning rate, by name, a panel for each text; the lowest loss of each name is ringed.

    A loss that is None, of a run that diverged, is left out.
    """
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), horizontal_spacing=0.08)
    figure = blank(title, "", "", figure, height=440)
    look, told = styles({name: None for sweeps in panels.values() for name in sweeps}), []
    for column, (text, sweeps) in enumerate(panels.items(), start=1):
        best = {}
        for name, sweep in sweeps.items():
            measured = {rate: loss for rate, loss in sorted(sweep.items()) if loss is not None}
            colour, dash = look[name]
            figure.add_scatter(
                x=list(measured), y=list(measured.values()), name=name, mode="lines+markers", legendgroup=name,
                showlegend=column == 1, line=dict(color=colour, dash=dash, width=2), marker=dict(size=5, color=colour),
                **panel(column),
            )  # fmt: skip
            rate = min(measured, key=measured.__getitem__)
            best[name] = f"{name} {measured[rate]:.3f} at {rate:g}"
            figure.add_scatter(
                x=[rate], y=[measured[rate]], name=f"{name}, lowest", mode="markers", showlegend=False,
                legendgroup=name, hoverinfo="skip", **panel(column),
                marker=dict(size=13, color="rgba(0,0,0,0)", line=dict(color=colour, width=2)),
            )  # fmt: skip
        told.append(f"{text}: lowest {', '.join(best.values())}")
        places = sorted({rate for sweep in sweeps.values() for rate in sweep})
        figure.update_layout(
            {
                f"xaxis{'' if column == 1 else column}": dict(
                    title="learning rate", type="log", tickvals=places, ticktext=[f"{place:g}" for place in places]
                )
            }
        )
    figure.update_layout(yaxis=dict(title=LOSS), hovermode="closest")
    head_panels(figure)
    return describe(figure, f"{title}. {'. '.join(told)}.")


def intervals(panels: Mapping[str, Mapping[str, Interval]], xlabel: str, title: str) -> go.Figure:
    """Means with their intervals, a line for each name, a panel for each way to compute them, all on one scale."""
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.05)
    figure = blank(title, "", "", figure, height=170 + 34 * len(names))
    look, numbers = styles(names), {}
    for column, (kind, lines) in enumerate(panels.items(), start=1):
        for name, found in lines.items():
            colour, _ = look[name]
            figure.add_scatter(
                x=[found.estimate], y=[name], name=f"{name}, {kind}", mode="markers", showlegend=False, **panel(column),
                marker=dict(size=9, color=colour, symbol="circle" if found.low > 0 or found.high < 0 else "diamond"),
                error_x=dict(
                    type="data", symmetric=False, thickness=2, width=5, color=colour,
                    array=[found.high - found.estimate], arrayminus=[found.estimate - found.low],
                ),
            )  # fmt: skip
            numbers[kind, name] = [found.estimate, found.low, found.high]
        figure.add_vline(x=0, line=dict(color=NEUTRAL, width=1, dash="dot"), col=column, row=1)
    ends = [0.0, *(end for found in numbers.values() for end in found)]
    margin = 0.06 * (max(ends) - min(ends))
    figure.update_xaxes(title=xlabel, range=[min(ends) - margin, max(ends) + margin])
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], dtick=1)
    figure.update_layout(hovermode="closest")
    head_panels(figure)
    told = [
        f"{name}, {kind}: {mid:.3g} ({low:.3g} to {high:.3g})" for (kind, name), (mid, low, high) in numbers.items()
    ]
    return _with_numbers(describe(figure, f"{title}. {'; '.join(told)}."), numbers, ["mean", "lowest", "highest"])


def times(panels: Mapping[str, Mapping[str, Sequence[Reached]]], title: str) -> go.Figure:
    """How long each run took to a loss, a mark for each seed, a panel for each clock.

    A run that never got there stands as a triangle at its last measurement: later than that.
    """
    names = list(dict.fromkeys(name for runs in panels.values() for name in runs))
    figure = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.05)
    figure = blank(title, "", "", figure, height=170 + 34 * len(names))
    look, numbers, told = styles(names), {}, []
    for column, (clock, runs) in enumerate(panels.items(), start=1):
        for name, reached in runs.items():
            colour, _ = look[name]
            for censored, symbol in ((False, "circle"), (True, "triangle-up")):
                own = [run.step for run in reached if run.censored == censored]
                figure.add_scatter(
                    x=own, y=[name] * len(own), name=f"{name}, {'never' if censored else 'reached'}", mode="markers",
                    showlegend=False, marker=dict(size=11, color=faint(colour, 0.75), symbol=symbol), **panel(column),
                )  # fmt: skip
            numbers[clock, name] = [", ".join(f"{'> ' * run.censored}{run.step:.4g}" for run in reached)]
            told.append(f"{name}: {numbers[clock, name][0]} {clock}")
        figure.update_layout({f"xaxis{'' if column == 1 else column}_title": clock})
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], dtick=1)
    figure.update_layout(hovermode="closest")
    return _with_numbers(describe(figure, f"{title}. {'; '.join(told)}."), numbers, ["runs"])


def _through_seeds(seeds: Mapping[int, Mapping[Real, Real]]) -> dict[Real, list[Real]]:
    """At each place that all seeds have, the values of all."""
    curves = list(seeds.values())
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {place: [curve[place] for curve in curves] for place in sorted(shared)}


def _bands(figure: go.Figure, curves: Mapping[str, Mapping[Real, Sequence[Real]]], column: int) -> list[str]:
    """Add each curve's mean and band to a panel; say where each begins and ends."""
    look, told = styles(curves), []
    for name, values in curves.items():
        colour, dash = look[name]
        places, means = list(values), [fmean(own) for own in values.values()]
        shared = dict(mode="lines", legendgroup=name, **panel(column))
        if any(len(own) > 1 for own in values.values()):
            for edge, of in (("lowest", min), ("highest", max)):
                figure.add_scatter(
                    x=places, y=[of(own) for own in values.values()], name=f"{name}, {edge}", showlegend=False,
                    line=dict(width=0, color=colour), hoverinfo="skip", fillcolor=faint(colour, 0.15),
                    fill="tonexty" if edge == "highest" else None, **shared,
                )  # fmt: skip
        figure.add_scatter(
            x=places,
            y=means,
            name=name,
            showlegend=column == 1,
            line=dict(color=colour, dash=dash, width=2.5),
            **shared,
        )
        told.append(f"{name} from {means[0]:.3f} to {means[-1]:.3f}" if means else f"{name} not measured")
    return told


def _with_numbers(figure: go.Figure, numbers: Mapping[tuple[str, str], list], columns: list[str]) -> go.Figure:
    """Give a figure its own table: a row for each panel and name."""
    rows = pd.DataFrame(list(numbers.values()), columns=columns)
    rows.insert(0, "panel", [kind for kind, _ in numbers])
    rows.index = pd.Index([name for _, name in numbers], name="name")
    return figure.update_layout(meta={**figure.layout.meta, "numbers": rows.to_dict(orient="tight")})
