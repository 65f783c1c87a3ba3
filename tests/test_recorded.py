"""Figures of recorded tables: they draw the rows of the asked step, say so, and are empty with a reason before any."""

import numpy as np
import pytest
import torch

from minipolycom import polynorm
from minipolycom.viz import recorded
from minipolycom.viz.figures import alt, follow, static, table

STEPS, LAYERS, WIDTH = (0, 50, 100), (0, 1, 2), 32


def spectra(decay: float = 1.0) -> list[dict]:
    return [
        {
            "step": step,
            "layer": layer,
            "tensor": tensor,
            "singular_values": [2.0 * (i + 1) ** -(decay * (1 + 0.1 * layer)) for i in range(WIDTH)],
            "effective_rank": 10.0 + layer + step / 100,
            "stable_rank": 3.0 + layer,
            "participation_ratio": 4.0 + layer,
        }
        for step in STEPS
        for layer in LAYERS
        for tensor in ("up", "hidden")
    ]


def coefficients(experts: tuple[int, ...] = (-1,)) -> list[dict]:
    return [
        {"step": s, "layer": n, "expert": e, "a0": s / 100, "a1": 1 / 3, "a2": 1 / 3 + n / 10, "a3": 1 / 3 + e / 50}
        for s in STEPS
        for n in LAYERS
        for e in experts
    ]


def norms() -> list[dict]:
    keys = dict.fromkeys(recorded.NORMS, 1.0)
    return [{"step": step, "layer": layer, **keys, "weight_norm": 5.0 + step} for step in STEPS for layer in LAYERS]


def similarity() -> list[dict]:
    pairs = [(a, b) for a in LAYERS for b in LAYERS if a < b]
    return [
        {"step": s, "layer": a, "other": b, "cosine": 1 - 0.1 * (b - a), "cka": 0.5} for s in STEPS for a, b in pairs
    ]


def routers() -> list[dict]:
    return [
        {"step": step, "layer": layer, "load": [0.5, 0.25, 0.25, 0.0], "entropy": 1.0, "dead": 1}
        for step in STEPS
        for layer in LAYERS
    ]


FIGURES = {
    "spectrum": lambda step=None: recorded.spectrum(spectra(), "up", step),
    "rank_over_steps": lambda step=None: recorded.rank_over_steps(spectra(), "hidden", step=step),
    "rank_profile": lambda step=None: recorded.rank_profile({"a": spectra(), "b": spectra(2)}, {"a": step, "b": 50}),
    "side_by_side": lambda step=None: recorded.spectra_side_by_side({"a": spectra(), "b": spectra(2)}, {"a": step}),
    "coefficients": lambda step=None: recorded.coefficients(coefficients(), 1, step),
    "experts' coefficients": lambda step=None: recorded.coefficients(coefficients((0, 1, 2)), 1, step),
    "shapes": lambda step=None: recorded.activation_shapes(coefficients(), "polynorm", step),
    "norms": lambda step=None: recorded.norms(norms(), "weight_norm", step),
    "similarity": lambda step=None: recorded.similarity({"a": similarity(), "b": similarity()}, {"a": step}),
    "load": lambda step=None: recorded.expert_load(routers(), 1),
}
EMPTY = {
    "spectrum": lambda: recorded.spectrum([]),
    "rank_over_steps": lambda: recorded.rank_over_steps([]),
    "rank_profile": lambda: recorded.rank_profile({"a": []}, {}),
    "side_by_side": lambda: recorded.spectra_side_by_side({"a": []}, {}),
    "coefficients": lambda: recorded.coefficients([]),
    "shapes": lambda: recorded.activation_shapes([], "polynorm"),
    "norms": lambda: recorded.norms([]),
    "similarity": lambda: recorded.similarity({"a": []}, {}),
    "load": lambda: recorded.expert_load([]),
}


def test_the_gradient_s_curve_begins_with_the_first_gradient():
    rows = [{k: v for k, v in row.items() if k != "gradient_norm" or row["step"] > 0} for row in norms()]
    figure = recorded.norms(rows, "gradient_norm")
    assert [list(trace.x) for trace in figure.data] == [[50, 100]] * len(LAYERS)
    assert [list(trace.x) for trace in recorded.norms(rows, "weight_norm").data] == [[0, 50, 100]] * len(LAYERS)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name):
    figure = FIGURES[name](50)
    assert any(digit.isdigit() for digit in alt(figure))
    assert len(table(figure))
    assert static(figure).startswith("<svg")


@pytest.mark.parametrize("name", EMPTY)
def test_before_the_first_recording_a_figure_says_so(name):
    figure = EMPTY[name]()
    assert "no" in alt(figure).lower()
    assert static(figure).startswith("<svg")


def test_a_step_is_the_last_recording_up_to_it():
    rows = spectra()
    assert {row["step"] for row in recorded.at_step(rows, 99)} == {50}
    assert {row["step"] for row in recorded.at_step(rows)} == {100}
    assert recorded.at_step(rows, -1) == []
    assert recorded.steps_of(rows) == list(STEPS)


def test_equal_loss_is_the_first_step_that_reaches_it():
    rows = [{"step": s, "split": split, "loss": loss} for s, split, loss in
            ((0, "val", 3.0), (10, "train", 1.0), (20, "val", 2.0), (30, "val", 1.5), (40, "val", 1.9))]  # fmt: skip
    assert recorded.step_at_loss(rows, 2.0) == 20
    assert recorded.step_at_loss(rows, 1.0) is None


def test_spectra_are_relative_to_the_largest_and_zeros_are_left_out():
    rows = spectra()
    for row in rows:
        row["singular_values"] = [4.0, 2.0, 0.0]
    drawn = recorded.spectrum(rows, "up").data[-1]
    np.testing.assert_allclose(drawn.y, [1.0, 0.5, np.nan])


def test_the_shape_is_that_of_the_recorded_coefficients():
    rows = coefficients()
    figure = recorded.activation_shapes(rows, "polynorm", 50)
    (drawn,) = (trace for trace in figure.data if trace.name == "layer 2")
    row = next(row for row in rows if row["step"] == 50 and row["layer"] == 2)
    weight = torch.tensor([row["a3"], row["a2"], row["a1"]])
    x = torch.tensor(drawn.x, dtype=torch.float32)
    expected, _ = follow(lambda entry: polynorm(entry, weight, torch.tensor([row["a0"]])), x)
    np.testing.assert_allclose(drawn.y, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_an_activation_without_coefficients_has_one_shape():
    assert "no coefficients" in alt(recorded.activation_shapes([], "swiglu"))


def test_similarity_is_symmetric_with_ones_on_the_diagonal():
    z = np.array(recorded.similarity({"a": similarity()}, {}).data[0].z)
    np.testing.assert_array_equal(z, z.T)
    np.testing.assert_array_equal(np.diag(z), 1)
    assert z[0, 2] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: recorded.spectrum(spectra(), "nose"), "unknown tensor 'nose'; known: up, gate, down"),
        (lambda: recorded.rank_over_steps(spectra(), measure="nose"), "unknown measure 'nose'; known: effective_rank"),
        (lambda: recorded.norms(norms(), "nose"), "unknown quantity 'nose'; known: gradient_norm"),
        (lambda: recorded.similarity({}, {}, "nose"), "unknown measure 'nose'; known: cosine, cka"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()


def test_the_static_picture_shows_the_marked_step_too():
    marked, plain = (static(recorded.rank_over_steps(spectra(), step=step)) for step in (50, None))
    assert marked.count('stroke-dasharray="3 3"') == plain.count('stroke-dasharray="3 3"') + 1
