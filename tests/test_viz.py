"""The look: styles that stay apart, figures that say and give their numbers, pictures that need no script."""

import math
import xml.etree.ElementTree as ElementTree
from copy import deepcopy
from itertools import combinations

import numpy as np
import plotly.io as pio
import pytest
import torch

from minipolycom.activations import ACTIVATION_NAMES, PolyNorm, polyrelu
from minipolycom.viz import figures
from minipolycom.viz.svg import CORNERS
from minipolycom.viz.theme import NEUTRAL, PALETTE, STYLE, faint, style, styles

# -- styles --------------------------------------------------------------------------------------------------------

# Linear RGB as a dichromat sees it: Machado, Oliveira and Fernandes, 2009, severity 1.
DICHROMATS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear_rgb(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(linear: np.ndarray) -> np.ndarray:
    """Björn Ottosson's perceptual space; 100 times a distance of 0.02 is just noticeable."""
    cone = np.cbrt(
        np.array([[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]])
        @ np.clip(linear, 0, 1)
    )
    mix = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    return 100 * np.array(mix) @ cone


def smallest_distance(colours, seen_by: str) -> float:
    seen = [oklab(np.array(DICHROMATS[seen_by]) @ linear_rgb(colour)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of luminances."""
    high, low = sorted((float(linear_rgb(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("seen_by", "least"), [("normal", 12), ("protanopia", 10), ("deuteranopia", 10), ("tritanopia", 6)]
)
def test_no_two_colours_look_alike(seen_by, least):
    assert smallest_distance(PALETTE.values(), seen_by) >= least


def test_the_measure_of_distance_sees_a_palette_that_fails():
    red_and_green = ["#D55E00", "#117A3A"]
    assert smallest_distance(red_and_green, "normal") > 20
    assert smallest_distance(red_and_green, "protanopia") < 5


def test_colours_and_text_stand_out_on_both_pages():
    for colour in PALETTE.values():
        assert contrast(colour, "#ffffff") > 2, colour
        assert contrast(colour, "#111111") > 2.3, colour
    assert contrast(NEUTRAL, "#ffffff") > 4
    assert contrast(NEUTRAL, "#111111") > 4


def test_every_activation_has_a_colour_and_a_dash_of_its_own():
    assert STYLE.keys() == set(ACTIVATION_NAMES)
    assert len({colour for colour, _ in STYLE.values()}) == len(STYLE)
    assert len({dash for _, dash in STYLE.values()}) == len(STYLE)


def test_other_names_get_a_style_that_does_not_change():
    assert style("relu") == STYLE["relu"]
    assert style("simsiam") == ("#0072B2", "3px,4px")  # a second process, another day: the same
    assert style("simsiam")[0] in PALETTE.values()


def test_names_in_one_figure_step_aside_for_each_other():
    names = ["relu", "polynorm", "a", "b", "c", "d"]
    chosen = styles(names)
    assert list(chosen) == names
    assert chosen["relu"] == STYLE["relu"]
    assert len({colour for colour, _ in chosen.values()}) == len(names)
    assert len({dash for _, dash in chosen.values()}) == len(names)


def test_a_name_that_begins_with_an_activation_has_its_style_unless_another_has():
    chosen = styles(["relu, gain 1", "relu: no gain", "tanh, gain 1", "polynorm", "polynorm, gain 2", "reluctant"])
    assert chosen["relu, gain 1"] == STYLE["relu"]
    assert chosen["polynorm"] == STYLE["polynorm"]
    assert len({colour for colour, _ in chosen.values()}) == len({dash for _, dash in chosen.values()}) == 6


def test_faint_keeps_the_colour():
    assert faint("#D55E00", 0.5) == "rgba(213, 94, 0, 0.5)"


@pytest.mark.parametrize("name", ["minipolycom", "minipolycom_dark"])
def test_the_templates_leave_the_page_its_background(name):
    assert pio.templates[name].layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert pio.templates[name].layout.plot_bgcolor == "rgba(0,0,0,0)"


# -- activation curves ---------------------------------------------------------------------------------------------


def curve(figure, name):
    (trace,) = [t for t in figure.data if t.name == name]
    return np.array(trace.x), np.array(trace.y)


def test_curves_and_slopes_are_those_of_the_activation():
    figure = figures.activation_curves(["relu", "silu", "polyrelu"], x_range=(-2, 2))
    x, relu = curve(figure, "relu")
    assert np.array_equal(relu, np.maximum(x, 0))
    _, slope = curve(figure, "silu, slope")
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(slope, sigmoid * (1 + x * (1 - sigmoid)), atol=1e-6)  # fp32 on values below 1.1
    _, cubic = curve(figure, "polyrelu")
    np.testing.assert_allclose(cubic, (np.maximum(x, 0) ** 3 + np.maximum(x, 0) ** 2 + np.maximum(x, 0)) / 3, atol=1e-5)


def test_polynorm_is_drawn_as_one_entry_of_the_stated_row_and_says_so():
    module = PolyNorm()
    figure = figures.activation_curves({"mine": module}, derivative=False)
    x, y = curve(figure, "mine")
    row = torch.cat([torch.tensor([float(x[40])]), figures.STANDARD_ROW])
    assert y[40] == pytest.approx(float(module(row)[0].detach()), abs=1e-5)
    assert "one entry of a row of 256" in figures.alt(figure)
    assert any("one entry of a row of 256" in note.text for note in figure.layout.annotations)
    assert "row of 256" not in figures.alt(figures.activation_curves(["relu", "polyrelu"]))
    assert module.weight.tolist() == pytest.approx([1 / 3] * 3)
    assert module.weight.grad is None


def test_the_standard_row_has_the_moments_of_the_standard_normal():
    row = figures.STANDARD_ROW
    assert len(row) == 255
    assert float(row.mean()) == pytest.approx(0, abs=1e-6)
    assert float(row.square().mean()) == pytest.approx(1, abs=0.02)  # the tails beyond the last quantile are missing


def test_gated_activations_are_drawn_for_equal_inputs_and_say_so():
    figure = figures.activation_curves(["swiglu"], derivative=False)
    x, y = curve(figure, "swiglu")
    np.testing.assert_allclose(y, x * x / (1 + np.exp(-x)), atol=1e-5)
    assert "value = gate = x" in figures.alt(figure)


def test_functions_are_drawn_under_their_own_name():
    def step(x):
        return (x > 0).float()

    figure = figures.activation_curves([step, torch.tanh])
    assert curve(figure, "step, slope")[1].tolist() == [0.0] * 301  # a constant almost everywhere: no gradient
    assert curve(figure, "tanh")[1][-1] == pytest.approx(math.tanh(3), abs=1e-6)


def test_activation_curves_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match=r"unknown activation 'rleu'; known: relu, squared_relu, .*geglu"):
        figures.activation_curves(["rleu"])
    with pytest.raises(ValueError, match="from its smaller to its larger end; got"):
        figures.activation_curves(["relu"], x_range=(3, -3))
    with pytest.raises(ValueError, match=r"keeps the shape of its input; total made shape \(301,\) of shape"):
        figures.activation_curves({"total": lambda x: x.sum(-1)})


def test_the_alt_text_of_curves_holds_their_numbers():
    figure = figures.activation_curves(["relu"], x_range=(-1, 2))
    assert "from -1 over 0.5 to 2" in figures.alt(figure)
    assert "relu goes from 0.00 over 0.50 to 2.00, its slope from 0.00 to 1.00" in figures.alt(figure)


def test_an_outlier_bends_polynorm_and_leaves_polyrelu():
    calm, loud = (figures.activation_panels("gelu", outlier=outlier) for outlier in (0, 30))
    assert np.array_equal(curve(calm, "polyrelu")[1], curve(loud, "polyrelu")[1])
    assert np.array_equal(curve(calm, "gelu, f(x)")[1], curve(loud, "gelu, f(x)")[1])
    shrunk = np.abs(curve(loud, "polynorm")[1]) < np.abs(curve(calm, "polynorm")[1])
    assert shrunk[np.abs(curve(calm, "polynorm")[0]) > 0.5].all()
    assert "polyrelu 4.67 (+0.00)" in figures.alt(loud)


def test_scaling_the_whole_row_leaves_polynorm_where_it_is():
    for name, moves in (("polynorm", False), ("polyrelu", True)):
        once, twice = (curve(figures.activation_panels(name, scale=s), f"{name}, f(x)")[1] for s in (1, 2))
        assert np.allclose(once, twice, atol=1e-4) is not moves  # eps of 1e-6 beside a mean square of 1


def test_the_panels_use_the_coefficients_they_are_given():
    figure = figures.activation_panels("polyrelu", weight=(0.5, -0.25, 1.0), bias=0.1)
    x, y = curve(figure, "polyrelu, f(x)")
    expected = polyrelu(torch.tensor(x), torch.tensor([0.5, -0.25, 1.0]), torch.tensor([0.1]))
    np.testing.assert_allclose(y, expected.numpy(), atol=1e-6)


# -- training curves -----------------------------------------------------------------------------------------------


def rows_of(run, activation, losses, steps_per_row=10):
    return [
        {
            "run": run, "activation": activation, "step": i * steps_per_row, "tokens": i * 1000, "seconds": i * 0.5,
            "split": split, "loss": loss + (0.1 if split == "train" else 0), "learning_rate": 1e-3,
        }
        for i, loss in enumerate(losses)
        for split in ("train", "val")
    ]  # fmt: skip


ROWS = rows_of("a", "relu", [5.5, 3.0, 2.5]) + rows_of("b", "polynorm", [5.4, 2.9, 2.375])


@pytest.mark.parametrize(("x", "last"), [("step", 20), ("tokens", 2000), ("seconds", 1.0)])
def test_training_curves_show_the_rows(x, last):
    figure = figures.training_curves(ROWS, x=x)
    assert curve(figure, "polynorm")[0].tolist()[-1] == last
    assert curve(figure, "polynorm")[1].tolist() == [5.4, 2.9, 2.375]
    assert curve(figure, "relu, training")[1].tolist() == [5.6, 3.1, 2.6]
    assert figure.layout.xaxis.title.text == figures.AXES[x]


def test_training_curves_say_what_was_measured():
    said = figures.alt(figures.training_curves(ROWS, floor=("entropy of single bytes", 3.1234)))
    assert "polynorm: validation loss 2.375 after 20 steps, from 5.400" in said
    assert "relu: validation loss 2.500 after 20 steps" in said
    assert "entropy of single bytes 3.123" in said


def test_training_curves_keep_the_style_of_the_activation():
    figure = figures.training_curves(ROWS)
    by_name = {trace.name: trace for trace in figure.data}
    assert (by_name["polynorm"].line.color, by_name["polynorm"].line.dash) == STYLE["polynorm"]
    assert by_name["polynorm, training"].line.color == faint(STYLE["polynorm"][0], 0.55)
    assert by_name["polynorm, training"].line.width < by_name["polynorm"].line.width


def test_runs_of_one_activation_go_by_their_own_names():
    figure = figures.training_curves(rows_of("seed 0", "relu", [5, 4]) + rows_of("seed 1", "relu", [5, 3]))
    assert [t.name for t in figure.data if t.showlegend is not False] == ["seed 0", "seed 1"]


@pytest.mark.parametrize("names", [("seed 0", "seed 1"), ("real text", "shuffled text"), ("relu, long", "relu, short")])
def test_runs_of_one_activation_can_be_told_apart(names):
    rows = [row for name in names for row in rows_of(name, "relu", [5, 4])]
    bold, thin = ([t for t in figures.training_curves(rows).data if t.showlegend is own] for own in (None, False))
    assert [(t.line.color, t.line.dash) for t in bold] == list(styles(names).values())
    assert [t.line.color for t in thin] == [faint(t.line.color, 0.55) for t in bold]
    assert len({t.line.color for t in bold}) == len({t.line.dash for t in bold}) == 2


def test_the_floor_runs_to_the_end_of_the_axis():
    figure = figures.training_curves(ROWS, floor=3.0, end=100)
    assert curve(figure, "floor")[0].tolist() == [0, 100]
    assert curve(figure, "floor")[1].tolist() == [3.0, 3.0]
    assert tuple(figure.layout.xaxis.range) == (0, 100)


def test_training_curves_of_nothing_yet():
    figure = figures.training_curves([])
    assert "No measurements yet" in figures.alt(figure)
    started = figures.training_curves([row for row in ROWS[:3] if row["split"] == "train"])
    assert "relu: not yet measured" in figures.alt(started)
    figures.static(started)


def test_training_curves_know_their_axes():
    with pytest.raises(ValueError, match="unknown x 'epoch'; known: step, tokens, seconds"):
        figures.training_curves(ROWS, x="epoch")


# -- any figure ----------------------------------------------------------------------------------------------------


def test_lines_show_each_series_and_say_where_it_goes():
    figure = figures.lines(
        {"relu": [1.0, 0.1, 0.01], "cubic": [1.0, 1e30, math.inf]}, [1, 2, 3], "layer", "size", "Depth", log="y"
    )
    assert figure.layout.yaxis.type == "log"
    assert figures.alt(figure) == (
        "Depth. Size over layer: relu from 1 to 0.01; cubic from 1 to 1e+30, then beyond any number."
    )
    with pytest.raises(ValueError, match="series 'relu' has 2 values for 3 places"):
        figures.lines({"relu": [1, 2]}, [1, 2, 3], "x", "y", "t")


def test_bars_and_heat_say_their_numbers():
    bars = figures.bars({"relu": 2.5, "polynorm": 2.375}, "activation", "loss", "Where they end")
    assert figures.alt(bars) == "Where they end. Loss: relu 2.5, polynorm 2.38."
    assert list(bars.data[0].marker.color) == [STYLE["relu"][0], STYLE["polynorm"][0]]
    beside = figures.bars({"identity": 1, "relu": 2}, "activation", "loss", "T").data[0].marker.color
    assert list(beside) == [styles(["identity", "relu"])["identity"][0], STYLE["relu"][0]]
    heat = figures.heat([[1.0, 2.0], [3.0, 9.0]], ["p", "q"], ["r", "s"], "column", "row", "Four", value="count")
    assert "from 1 (column p, row r) to 9 (column q, row s)" in figures.alt(heat)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), its labels ask for \(2, 2\)"):
        figures.heat([[1.0, 2.0]], ["p", "q"], ["r", "s"], "column", "row", "Four")


def test_bars_of_other_things_are_alike_each_with_its_name_and_a_number_of_one_size():
    figure = figures.bars({str(i): 1 / (i + 7) for i in range(16)}, "byte", "share", "T")
    (trace,) = figure.data
    assert set(trace.marker.color) == {PALETTE["blue"]}
    assert trace.textfont.size == 11
    assert (trace.constraintext, trace.textangle) == ("none", 0)  # else plotly shrinks and turns some of them
    assert trace.text[:2] == ("0.14", "0.12")
    assert (figure.layout.xaxis.type, figure.layout.xaxis.dtick) == ("category", 1)
    assert figures.bars({"few": 1 / 7}, "x", "y", "T").data[0].text == ("0.143",)


def test_places_on_a_logarithmic_axis_are_named_where_they_are_few():
    figure = figures.lines({"a": [3, 2, 1]}, [1, 16, 256], "units", "error", "T", log="x")
    assert figure.layout.xaxis.ticktext == ("1", "16", "256")
    assert ">16<" in figures.static(figure)
    many = figures.lines({"a": range(1, 51)}, range(1, 51), "units", "error", "T", log="x")
    assert many.layout.xaxis.tickvals is None


EVERY_FIGURE = {
    "curves": lambda: figures.activation_curves(["relu", "polynorm", "swiglu"]),
    "panels": lambda: figures.activation_panels("polynorm", outlier=10),
    "training": lambda: figures.training_curves(ROWS, floor=("line", 3.0)),
    "lines": lambda: figures.lines({"a": [1, 10, 1000.0], "b": [2, 3, math.nan]}, [1, 2, 4], "x", "y", "T", log="xy"),
    "bars": lambda: figures.bars({"relu": -1.0, "polynorm": 2.0}, "x", "y", "T"),
    "heat": lambda: figures.heat([[1.0, 2.0, math.nan]], [1, 2, 3], ["r"], "x", "y", "T"),
}


@pytest.fixture(params=EVERY_FIGURE)
def figure(request):
    return EVERY_FIGURE[request.param]()


def test_the_table_holds_the_numbers_of_the_traces(figure):
    numbers = figures.table(figure)
    for trace in figure.data:
        if trace.type == "heatmap":
            np.testing.assert_array_equal(numbers.to_numpy(), np.array(trace.z, dtype=float))
        else:
            np.testing.assert_array_equal(numbers[trace.name].loc[list(trace.x)], np.array(trace.y))


def test_the_table_keeps_the_last_value_of_a_place_measured_twice():
    again = [*ROWS[:6], ROWS[5] | {"loss": 2.25}]
    assert figures.table(figures.training_curves(again))["relu"].loc[20] == 2.25


def test_the_static_picture_is_whole_and_says_what_it_shows(figure):
    root = ElementTree.fromstring(figures.static(figure))
    inside = "{http://www.w3.org/2000/svg}"
    assert root.get("aria-label") == figures.alt(figure)
    texts = [element.text for element in root.iter(f"{inside}text")]
    legend = [t.name for t in figure.data if t.type == "scatter" and t.showlegend is not False]
    if len(legend) > 1:
        assert set(legend) <= set(texts)
    if figure.layout.title.text:
        assert figure.layout.title.text in texts
    coordinates = [float(v) for e in root.iter() for key in ("x", "y", "cx", "cy") if (v := e.get(key))]
    assert np.isfinite(coordinates).all()
    drawn = [e for name in ("polyline", "circle", "rect") for e in root.iter(f"{inside}{name}")]
    assert len(drawn) >= len(figure.data)


def test_the_static_picture_puts_points_where_they_belong():
    figure = figures.lines({"a": [0.0, 5.0, 10.0]}, [0, 1, 2], "x", "y", "T", markers=True)
    circles = list(ElementTree.fromstring(figures.static(figure)).iter("{http://www.w3.org/2000/svg}circle"))
    x, y = ([float(c.get(key)) for c in circles] for key in ("cx", "cy"))
    assert x[1] == pytest.approx((x[0] + x[2]) / 2, abs=0.1)
    assert y[0] > y[1] > y[2]
    assert y[1] == pytest.approx((y[0] + y[2]) / 2, abs=0.1)


def test_each_mark_has_a_shape_of_its_own_in_the_static_picture():
    shapes = set()
    for symbol in CORNERS:
        figure = figures.lines({"a": [1.0]}, [0], "x", "y", "T")
        figure.update_traces(mode="markers", marker_symbol=symbol)
        (mark,) = ElementTree.fromstring(figures.static(figure)).iter("{http://www.w3.org/2000/svg}polygon")
        shapes.add(mark.get("points"))
    assert len(shapes) == len(CORNERS) > 5


def test_what_a_figure_is_made_from_stays_as_it_was():
    rows, before = deepcopy(ROWS), deepcopy(ROWS)
    figures.training_curves(rows, floor=3.0)
    assert rows == before
    series, x = {"a": [1.0, 2.0]}, [0, 1]
    figures.lines(series, x, "x", "y", "T", log="y")
    assert (series, x) == ({"a": [1.0, 2.0]}, [0, 1])
    matrix = np.arange(4.0).reshape(2, 2)
    figures.heat(matrix, [0, 1], [0, 1], "x", "y", "T")
    assert matrix.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    row = figures.STANDARD_ROW.clone()
    figures.activation_panels("polynorm", outlier=30)
    assert torch.equal(row, figures.STANDARD_ROW)


def test_a_figure_from_elsewhere_has_no_alt_text():
    import plotly.graph_objects as go

    with pytest.raises(ValueError, match="carries no alt text"):
        figures.alt(go.Figure())


# -- in a notebook -------------------------------------------------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda what, raw=False: shown.append(what))
    return shown


def test_show_gives_the_figure_its_static_twin_and_its_numbers(displayed):
    figures.show(figures.training_curves(ROWS))
    picture, below = displayed
    assert picture["application/vnd.plotly.v1+json"]["data"]
    assert picture["image/svg+xml"].startswith("<svg")
    assert picture["text/plain"] == figures.alt(figures.training_curves(ROWS))
    assert 'role="img" aria-label="Loss, nats per token' in below.data
    assert "<details><summary>Description and numbers</summary>" in below.data
    assert "2.375" in below.data


def test_show_in_colab_sends_a_page_of_its_own(displayed, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    figures.show(figures.training_curves(ROWS))
    assert displayed[0].keys() == {"text/html", "text/plain"}


def test_a_long_table_is_thinned_out_and_says_so():
    folded = figures.fold(figures.activation_curves(["relu"]))
    assert "Every 13th of 301 rows." in folded
    assert folded.count("<tr") < 30
