"""Figures of what a run recorded beside its loss: spectra, ranks, coefficients, similarities, experts.

Each takes the rows of one of the run's tables (see `minipolycom.record`) and draws them, so that a live run, a recorded
one and a test look alike. A `step` means the last recording up to it; none recorded yet gives an empty figure that
says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from minipolycom.activations import ACTIVATIONS, GATED, polynorm, polyrelu
from minipolycom.checking import check_known
from minipolycom.viz.drawing import blank, capital, describe, finish, head_panels, panel
from minipolycom.viz.figures import STANDARD_ROW, follow
from minipolycom.viz.theme import NEUTRAL, PALETTE, faint, styles

TENSORS = {
    "up": "the matrix up",
    "gate": "the matrix gate",
    "down": "the matrix down",
    "preactivation": "the activation's input",
    "hidden": "the activation's output",
}
"""What a spectrum is recorded of, in words."""

MEASURES = {
    "effective_rank": "effective rank",
    "stable_rank": "stable rank",
    "participation_ratio": "participation ratio",
}
SIMILARITIES = {"cosine": "cosine similarity", "cka": "linear CKA"}
NORMS = {
    "gradient_norm": "norm of the gradient",
    "weight_norm": "norm of the weights",
    "preactivation_rms": "RMS of the activation's input",
    "hidden_rms": "RMS of the activation's output",
    "residual_rms": "RMS of the residual stream",
}
POWERS = ("plum", "sky", "vermillion", "forest", "amber", "blue")
"""Colour of each coefficient, from that of the constant upwards."""


# -- which rows ----------------------------------------------------------------------------------------------------


def steps_of(rows: Iterable[Mapping]) -> list[int]:
    """The steps at which something was recorded, first to last."""
    return sorted({row["step"] for row in rows})


def at_step(rows: Iterable[Mapping], step: int | None = None) -> list[Mapping]:
    """The rows of the last recording up to `step`; of the very last one for None; none where nothing is that early."""
    rows = list(rows)
    steps = [known for known in steps_of(rows) if step is None or known <= step]
    return [row for row in rows if steps and row["step"] == steps[-1]]


def step_at_loss(rows: Iterable[Mapping], loss: Real) -> int | None:
    """The first step whose validation loss is at most `loss` nats per token; None where none is.

    Two runs are compared at equal loss by asking each for its own step.
    """
    return next((row["step"] for row in rows if row["split"] == "val" and row["loss"] <= loss), None)


# -- spectra -------------------------------------------------------------------------------------------------------


def spectrum(rows: Iterable[Mapping], tensor: str = "hidden", step: int | None = None) -> go.Figure:
    """Singular values of one tensor in every layer, each divided by the layer's largest; faint: the first recording.

    Raises ValueError for a tensor that is never recorded.
    """
    check_known("tensor", tensor, TENSORS)
    own = [row for row in rows if row["tensor"] == tensor]
    first, now = at_step(own, steps_of(own)[0] if own else None), at_step(own, step)
    figure = blank(f"Spectrum of {TENSORS[tensor]}{_when(now)}", "index", "singular value / largest", height=340)
    look = _layer_colours([row["layer"] for row in now])
    for start in first:
        figure.add_scatter(
            **_spectrum_curve(start), name=f"layer {start['layer']}, at the start", showlegend=False, hoverinfo="skip",
            line=dict(color=faint(NEUTRAL, 0.35), width=1.5),
        )  # fmt: skip
    for row in now:
        figure.add_scatter(
            **_spectrum_curve(row), name=f"layer {row['layer']}", line=dict(color=look[row["layer"]], width=2.5)
        )
    figure.update_yaxes(type="log", exponentformat="power")
    told = ", ".join(f"{row['effective_rank']:.1f} in layer {row['layer']}" for row in now)
    return finish(figure, now, f"Singular values of {TENSORS[tensor]}{_when(now)}; effective rank {told}.")


def rank_over_steps(
    rows: Iterable[Mapping], tensor: str = "hidden", measure: str = "effective_rank", step: int | None = None
) -> go.Figure:
    """One measure of rank of one tensor through training, a curve per layer; a line marks `step`.

    Raises ValueError for an unknown tensor or measure.
    """
    check_known("tensor", tensor, TENSORS)
    check_known("measure", measure, MEASURES)
    own = [row for row in rows if row["tensor"] == tensor]
    title = f"{capital(MEASURES[measure])} of {TENSORS[tensor]}"
    return _layers_over_steps(own, measure, title, MEASURES[measure], step)


def rank_profile(
    runs: Mapping[str, Iterable[Mapping]],
    steps: Mapping[str, int | None],
    tensor: str = "hidden",
    measure: str = "effective_rank",
) -> go.Figure:
    """One measure of rank over the layers, a curve per run, each run at its own step.

    Raises ValueError for an unknown tensor or measure.
    """
    check_known("tensor", tensor, TENSORS)
    check_known("measure", measure, MEASURES)
    figure = blank(f"{capital(MEASURES[measure])} of {TENSORS[tensor]}", "layer", MEASURES[measure], height=340)
    look, told, seen = styles(runs), [], []
    for name, rows in runs.items():
        now = at_step([row for row in rows if row["tensor"] == tensor], steps.get(name))
        seen += now
        colour, dash = look[name]
        figure.add_scatter(
            x=[row["layer"] for row in now], y=[row[measure] for row in now], name=f"{name}{_when(now)}",
            mode="lines+markers", line=dict(color=colour, dash=dash, width=2.5), marker=dict(size=8, color=colour),
        )  # fmt: skip
        told.append(f"{name}{_when(now)}: {', '.join(f'{row[measure]:.1f}' for row in now)}")
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, seen, f"{capital(MEASURES[measure])} of {TENSORS[tensor]}, by layer. {'; '.join(told)}.")


def spectra_side_by_side(
    runs: Mapping[str, Iterable[Mapping]], steps: Mapping[str, int | None], tensor: str = "hidden"
) -> go.Figure:
    """Singular values of one tensor, a panel per layer and a curve per run, each run at its own step.

    Raises ValueError for an unknown tensor.
    """
    check_known("tensor", tensor, TENSORS)
    now = {name: at_step([r for r in rows if r["tensor"] == tensor], steps.get(name)) for name, rows in runs.items()}
    layers = sorted({row["layer"] for rows in now.values() for row in rows})
    titles = [f"layer {layer}" for layer in layers]
    figure = make_subplots(cols=max(1, len(layers)), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles)
    figure = blank(f"Singular values of {TENSORS[tensor]}, divided by the largest", "", "", figure, height=340)
    look, told = styles(runs), []
    for name, rows in now.items():
        for row in rows:
            colour, dash = look[name]
            figure.add_scatter(
                **_spectrum_curve(row), name=f"{name}{_when(rows)}", legendgroup=name, showlegend=row is rows[0],
                line=dict(color=colour, dash=dash, width=2.5), **panel(layers.index(row["layer"]) + 1),
            )  # fmt: skip
            told.append(f"{name}, layer {row['layer']}: effective rank {row['effective_rank']:.1f}")
    figure.update_xaxes(title="index")
    figure.update_yaxes(type="log", exponentformat="power")
    if layers:
        head_panels(figure)
    return finish(figure, layers, f"Singular values of {TENSORS[tensor]} by layer and run. {'; '.join(told)}.")


# -- coefficients and the activation's shape -----------------------------------------------------------------------


def coefficients(rows: Iterable[Mapping], layer: int = 0, step: int | None = None) -> go.Figure:
    """The activation's coefficients in one layer through training, a curve per power; a line marks `step`.

    Experts with coefficients of their own are thin curves of the power's colour.
    """
    own = [row for row in rows if row["layer"] == layer]
    title = f"Coefficients of the activation in layer {layer}"
    figure = blank(title, "optimizer steps", "coefficient", height=340)
    experts = sorted({row["expert"] for row in own})
    told = []
    for power, name in enumerate(_coefficient_names(own)):
        for expert in experts:
            curve = [row for row in own if row["expert"] == expert]
            figure.add_scatter(
                x=[row["step"] for row in curve], y=[row[name] for row in curve], legendgroup=name,
                name=_of_power(power) + (f", expert {expert}" if expert >= 0 else ""), showlegend=expert == experts[0],
                mode="lines+markers" if len(experts) == 1 else "lines", marker=dict(size=5),
                line=dict(color=PALETTE[POWERS[power % len(POWERS)]], width=2.5 if len(experts) == 1 else 1),
            )  # fmt: skip
        last = at_step(own, step)
        if last:
            told.append(f"{_of_power(power)} {np.mean([row[name] for row in last]):.3f}")
    _mark(figure, step)
    nothing = "no coefficients: none recorded yet, or this activation has none"
    return finish(figure, own, f"{title}{_when(at_step(own, step))}: {', '.join(told)}.", nothing)


def activation_shapes(rows: Iterable[Mapping], activation: str, step: int | None = None) -> go.Figure:
    """The activation's curve in every layer, as its coefficients have it at `step`; faint: as it was at the start.

    PolyNorm is drawn as `figures.activation_curves` does: one entry of a row at standard normal quantiles.
    """
    rows, x = list(rows), torch.linspace(-3, 3, 121)
    now, start = at_step(rows, step), at_step(rows, steps_of(rows)[0] if rows else None)
    figure = blank(f"Shape of {activation}{_when(now)}", "x", "f(x)", height=340)
    names, function = _coefficient_names(rows), {"polynorm": polynorm, "polyrelu": polyrelu}.get(activation)
    if function is None:  # it has no coefficients: one curve for all layers and steps
        y, _ = follow(ACTIVATIONS[GATED.get(activation, activation)](), x)
        colour, dash = styles([activation])[activation]
        figure.add_scatter(x=x.numpy(), y=y.numpy(), name="every layer", line=dict(color=colour, dash=dash, width=2.5))
        return describe(figure, f"{activation} has no coefficients; its shape stays as it is.")

    def curve(row: Mapping) -> np.ndarray:
        values = torch.tensor([row[name] for name in names], dtype=torch.float32)
        return follow(lambda entry: function(entry, values[1:].flip(0), values[:1]), x, STANDARD_ROW)[0].numpy()

    for row in start[:1]:
        figure.add_scatter(
            x=x.numpy(), y=curve(row), name="at the start", mode="lines", hoverinfo="skip",
            line=dict(color=faint(NEUTRAL, 0.3), width=6),
        )  # fmt: skip
    look = _layer_colours([row["layer"] for row in now])
    told = []
    for row in now:
        y = curve(row)
        expert = f", expert {row['expert']}" if row["expert"] >= 0 else ""
        figure.add_scatter(
            x=x.numpy(), y=y, name=f"layer {row['layer']}{expert}", mode="lines", showlegend=row["expert"] <= 0,
            legendgroup=str(row["layer"]), line=dict(color=look[row["layer"]], width=1 if expert else 2.5),
        )  # fmt: skip
        told.append(f"layer {row['layer']}{expert} from {y[0]:.2f} over {y[60]:.2f} to {y[-1]:.2f}")
    return finish(figure, now, f"Shape of {activation}{_when(now)}, x from -3 over 0 to 3: {'; '.join(told)}.")


# -- layers and experts --------------------------------------------------------------------------------------------


def norms(rows: Iterable[Mapping], quantity: str = "gradient_norm", step: int | None = None) -> go.Figure:
    """One of the recorded norms through training, a curve per layer. Raises ValueError for an unknown quantity."""
    check_known("quantity", quantity, NORMS)
    return _layers_over_steps(list(rows), quantity, capital(NORMS[quantity]), NORMS[quantity], step, log=True)


def similarity(
    runs: Mapping[str, Iterable[Mapping]], steps: Mapping[str, int | None], measure: str = "cosine"
) -> go.Figure:
    """How alike the residual streams of two layers are: a map per run, each run at its own step.

    Raises ValueError for an unknown measure.
    """
    check_known("measure", measure, SIMILARITIES)
    now = {name: at_step(rows, steps.get(name)) for name, rows in runs.items()}
    titles = [f"{name}{_when(rows)}" for name, rows in now.items()]
    figure = make_subplots(cols=max(1, len(runs)), subplot_titles=titles, horizontal_spacing=0.12)
    title = f"{capital(SIMILARITIES[measure])} of layers"
    figure = blank(title, "layer", "layer", figure, height=380)
    told = []
    for column, (name, rows) in enumerate(now.items(), start=1):
        layers = sorted({row["layer"] for row in rows} | {row["other"] for row in rows})
        z = np.eye(len(layers))
        for row in rows:
            a, b = layers.index(row["layer"]), layers.index(row["other"])
            z[a, b] = z[b, a] = row[measure]
        figure.add_heatmap(
            z=z, x=layers, y=layers, name=name, zmin=0, zmax=1, colorscale="Cividis", showscale=column == len(runs),
            colorbar=dict(title=SIMILARITIES[measure]), **panel(column),
        )  # fmt: skip
        if len(layers) > 1:
            told.append(f"{name}{_when(rows)}: mean {z[~np.eye(len(layers), dtype=bool)].mean():.3f} between layers")
    figure.update_xaxes(title="layer", dtick=1)
    figure.update_yaxes(title="layer", dtick=1)
    if now:
        head_panels(figure)
    return finish(figure, told, f"{title}. {'; '.join(told)}.")


def expert_load(rows: Iterable[Mapping], layer: int = 0) -> go.Figure:
    """How large a share of its tokens' slots each expert of one layer takes, through training."""
    own = [row for row in rows if row["layer"] == layer]
    figure = blank(f"Load of the experts in layer {layer}", "optimizer steps", "expert", height=340)
    if own:
        z = np.array([row["load"] for row in own]).T
        figure.add_heatmap(
            z=z, x=[row["step"] for row in own], y=list(range(len(z))), name="share of slots", colorscale="Cividis",
            zmin=0, zmax=float(z.max()), colorbar=dict(title="share"),
        )  # fmt: skip
        figure.update_layout(margin=dict(t=56))
    told = (
        f"at step {own[-1]['step']} from {min(own[-1]['load']):.1%} to {max(own[-1]['load']):.1%}; an even load is "
        f"{1 / len(own[-1]['load']):.1%}; {own[-1]['dead']} experts get nothing"
        if own
        else ""
    )
    return finish(figure, own, f"Load of the experts in layer {layer}, {told}.", "no experts: this model is dense")


# -- shared pieces -------------------------------------------------------------------------------------------------


def _layers_over_steps(
    rows: Sequence[Mapping], key: str, title: str, ylabel: str, step: int | None, log: bool = False
) -> go.Figure:
    figure = blank(title, "optimizer steps", ylabel, height=340)
    rows = [row for row in rows if row.get(key) is not None]  # before the first step there is no gradient
    layers = sorted({row["layer"] for row in rows})
    look, told = _layer_colours(layers), []
    for layer in layers:
        own = [row for row in rows if row["layer"] == layer]
        figure.add_scatter(
            x=[row["step"] for row in own], y=[row[key] for row in own], name=f"layer {layer}", mode="lines+markers",
            line=dict(color=look[layer], width=2.5), marker=dict(size=5),
        )  # fmt: skip
        told.append(f"layer {layer} from {own[0][key]:.3g} to {own[-1][key]:.3g}")
    if log:
        figure.update_yaxes(type="log", exponentformat="power")
    _mark(figure, step)
    return finish(figure, rows, f"{title} over optimizer steps: {'; '.join(told)}.")


def _spectrum_curve(row: Mapping) -> dict:
    values = np.array(row["singular_values"], dtype=float)
    largest = values[0] if len(values) and values[0] > 0 else 1.0
    # A logarithmic axis cannot show the zeros of a deficient rank: what is below its range is left out.
    shown = values / largest
    return {"x": np.arange(1, len(values) + 1), "y": np.where(shown > 1e-8, shown, np.nan), "mode": "lines"}


def _layer_colours(layers: Iterable[int]) -> dict[int, str]:
    """A colour per layer, from dark at the input to bright at the output; readable on white and on black."""
    layers = sorted(set(layers))
    places = np.linspace(0.25, 0.85, len(layers)) if len(layers) != 1 else [0.55]
    return dict(zip(layers, sample_colorscale("Plasma", places), strict=True))


def _coefficient_names(rows: Sequence[Mapping]) -> list[str]:
    return sorted({key for row in rows for key in row if key[:1] == "a" and key[1:].isdigit()})


def _of_power(power: int) -> str:
    return ("a₀, constant", "a₁, of x", "a₂, of x²", "a₃, of x³")[power] if power < 4 else f"a{power}, of x^{power}"


def _when(rows: Sequence[Mapping]) -> str:
    return f", step {rows[0]['step']}" if rows else ""


def _mark(figure: go.Figure, step: int | None) -> None:
    if step is not None:
        figure.add_vline(x=step, line=dict(color=NEUTRAL, width=1.5, dash="3px,3px"))
