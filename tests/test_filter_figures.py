"""Figures of spectral filters: they draw the numbers they are given, say them, and keep them in a table."""

from xml.etree import ElementTree

import numpy as np
import pytest
from figure_laws import looks_apart, says_its_numbers

from minipolycom.viz import branches, filters
from minipolycom.viz.figures import alt, static, table

SVG = "{http://www.w3.org/2000/svg}"
CLOUD = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # eigenvalues 2 and 1/2 along the columns
TIMES = np.array([0.0, 1.0, 2.0])
MODES = np.array([[4.0, 2.0, 2.0], [6.0, 2.0, 0.0], [9.0, 1.0, 0.0]])
RHO = np.array([0.9, 0.5, 0.3])
SUMS = np.array([[0.8, 0.9, 1.0], [0.5, 0.8, 1.0], [0.4, 0.7, 1.0]])
LAW, FOUND = {"σ = 1": RHO**2, "σ = 2": RHO}, {"σ = 1": RHO**2 + [0.0, -0.04, 0.01], "σ = 2": RHO - [0.0, 0.0, 0.3]}


def alignment_and_gain():
    return filters.alignment_and_gain(
        {"linear": np.array([1.0, 0.8, 0.3, 0.1, 0.1]), "mlp": np.array([0.9, 0.2, 0.2, 0.2, 0.2])},
        {"linear": 0.25, "mlp": 0.4},
        {"linear": np.array([1.0, 0.5, 0.25, 0.2, 0.1]), "mlp": np.array([1.0, 2.0, 3.0])},
        {"linear": 2, "mlp": 1},
    )


FIGURES = {
    "clouds": lambda: filters.clouds({"as it is": CLOUD, "wide": 2 * CLOUD}, "A cloud"),
    "concentration": lambda: filters.concentration(*SUMS, "Three spectra"),
    "alignment": alignment_and_gain,
    "modes": lambda: filters.modes_through_time(TIMES, {"none": MODES, "online": MODES[::-1]}, "Three modes"),
    "law": lambda: filters.law_and_measurement(RHO, LAW, FOUND),
    "ranks": lambda: filters.predicted_and_measured({"a": 9.0, "b": 1.0}, {"a": 9.5, "b": 2.0}, 10.0),
}


def curves(figure) -> dict[str, np.ndarray]:
    return {trace.name: np.array(trace.y, dtype=float) for trace in figure.data}


def drawn(figure, shape: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(static(figure)).iter(f"{SVG}{shape}"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "modes"])  # modes are told by their order
def test_no_two_curves_of_a_figure_look_alike(name: str) -> None:
    looks_apart(FIGURES[name]())


def test_axes_of_a_cloud_are_those_of_its_second_moments_twice_as_long_as_its_spread() -> None:
    figure = FIGURES["clouds"]()
    points, first, second = figure.data[:3]
    np.testing.assert_array_equal(np.stack([points.x, points.y], axis=1), CLOUD)
    np.testing.assert_allclose(np.abs([first.x, first.y]), [[2 * 2**0.5] * 2, [0, 0]], atol=1e-12)
    np.testing.assert_allclose(np.abs([second.x, second.y]), [[0, 0], [2 * 0.5**0.5] * 2], atol=1e-12)
    assert "as it is: eigenvalues 2 and 0.5; wide: eigenvalues 8 and 2" in alt(figure)


def test_clouds_share_one_scale_in_which_a_circle_is_round() -> None:
    figure = FIGURES["clouds"]()
    ranges = {tuple(axis.range) for axis in (*figure.select_xaxes(), *figure.select_yaxes())}
    assert ranges == {(-4.2, 4.2)}
    assert [axis.scaleanchor for axis in figure.select_yaxes()] == ["x", "x2"]


def test_concentration_begins_at_nothing_in_the_colours_of_the_branches() -> None:
    figure = FIGURES["concentration"]()
    assert {name: list(sums) for name, sums in curves(figure).items()} == {
        "online": [0, 0.8, 0.9, 1],
        "features": [0, 0.5, 0.8, 1],
        "target": [0, 0.4, 0.7, 1],
        "all alike": [0, 1 / 3, 2 / 3, 1],
    }
    ranks = branches.rank_through_training([{"step": 1, "erank_online": 1, "erank_target": 2, "rank_difference": 1}])
    colours = {trace.name: trace.line.color for trace in figure.data}
    assert all(colours[trace.name] == trace.line.color for trace in ranks.data)
    assert "Share that the 2 largest of 3 modes hold: online 90%, features 80%, target 70%, all alike 67%" in alt(
        figure
    )


def test_leading_directions_are_strong_the_rest_faint_and_chance_a_line_across() -> None:
    figure = FIGURES["alignment"]()
    aligned = [trace for trace in figure.data if trace.name.startswith("linear") and trace.xaxis == "x"]
    rest, strong, chance = aligned
    assert list(strong.x) == [1, 2]
    assert list(strong.y) == [1.0, 0.8]
    assert list(rest.y) == [0.8, 0.3, 0.1]  # begins where the strong line ends; twice the leading ones are shown
    assert rest.line.width < strong.line.width
    assert list(chance.y) == [0.25, 0.25]
    gain = next(trace for trace in figure.data if trace.name == "mlp" and trace.xaxis == "x2")
    assert list(gain.y) == [1.0]
    assert "linear: alignment 0.90 over 2 leading directions, 0.25 of random ones, gain 0.50 at the last" in alt(figure)


def test_modes_are_shares_of_the_energy_at_each_time() -> None:
    figure = FIGURES["modes"]()
    first = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.name for trace in first] == ["mode 1", "mode 2", "mode 3"]
    np.testing.assert_allclose(first[0].y, [0.5, 0.75, 0.9])
    np.testing.assert_allclose(first[2].y, [0.25, np.nan, np.nan])  # a logarithmic axis has no zero
    assert len({trace.line.color for trace in first}) == 3
    assert "none: at the end mode 1 holds 90%, the least 0.0%; online: at the end mode 1 holds 50%" in alt(figure)


def test_of_many_modes_the_legend_names_a_few_once() -> None:
    figure = filters.modes_through_time(TIMES, {"a": np.ones((3, 16)), "b": np.ones((3, 16))}, "Sixteen")
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["mode 1", "mode 5", "mode 9", "mode 12", "mode 16"]


def test_a_law_is_a_line_and_its_measurement_marks_of_the_same_colour() -> None:
    figure = FIGURES["law"]()
    np.testing.assert_allclose(curves(figure)["σ = 1, law"], RHO**2)
    np.testing.assert_allclose(curves(figure)["σ = 2, measured"], [0.9, 0.5, np.nan])
    law, found = figure.data[:2]
    assert (law.mode, found.mode) == ("lines", "markers")
    assert law.line.color == found.marker.color
    assert "σ = 1: off by at most 0.040 of the energy" in alt(figure)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_ranks_stand_over_the_names_of_their_runs() -> None:
    figure = FIGURES["ranks"]()
    numbers = table(figure)
    assert list(numbers.index) == ["a", "b"]
    assert list(numbers["predicted"]) == [9.0, 1.0]
    assert list(numbers["measured"]) == [9.5, 2.0]
    assert list(numbers["at the start"]) == [10.0, 10.0]
    assert "10.0 at the start. a: predicted 9.0, measured 9.5; b: predicted 1.0, measured 2.0." in alt(figure)
    assert {"a", "b"} <= {text.text for text in drawn(figure, "text")}
