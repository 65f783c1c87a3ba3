"""Figures of ranks: they draw the numbers they are given, say them, and keep them in a table."""

import numpy as np
import pytest
from figure_laws import looks_apart, says_its_numbers, shown

from minipolycom.viz import bridge
from minipolycom.viz.figures import alt, table

RANKS = {"relu": [(50.0, 150.0), (52.0, 148.0)], "polynorm": [(60.0, 140.0), (62.0, 142.0)]}
LOSSES = {"relu": [1.6, 1.5], "polynorm": [1.4, 1.5]}
CHANCE = np.array([-0.8, -0.4, 0.0, 0.0, 0.0, 0.2, 0.4, 0.9])
PREDICTED = {"x": [2.0, 4.0], "polynorm": [5.0, 20.0]}
MEASURED = {"x": [2.0, 4.0], "polynorm": [5.0, 19.0], "relu": [8.0, 43.0]}
GROUPS = {
    "filter": [("σ = 1", 24.0, 2.8), ("σ = -1", 177.0, 3.2)],
    "taken back": [("σ = 1", 27.0, 2.4), ("as it was", 24.0, 2.8)],
}
TRAINED = {
    "gelu": [(112.0, 112.0), (110.0, 110.0)],
    "raised": [(205.0, 120.0), (203.0, 118.0)],
    "lowered": [(39.0, 90.0), (41.0, 92.0)],
}

FIGURES = {
    "beside_loss": lambda: bridge.beside_loss(RANKS, LOSSES, "Two activations"),
    "arrows": lambda: bridge.arrows({"rotation": (16.0, 16.0), "cube": (16.0, 190.0), "loud": (14.0, 4.0)}, "Ranks"),
    "shuffled": lambda: bridge.shuffled(CHANCE, 0.4, (-0.7, 0.7)),
    "growth": lambda: bridge.growth((2, 4), PREDICTED, MEASURED),
    "plane": lambda: bridge.plane(GROUPS, "One model", "rank of a layer"),
    "trained": lambda: bridge.trained(TRAINED, {"raised": (-0.1, -0.02), "lowered": (-0.1, 0.3)}, "gelu"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


@pytest.mark.parametrize("name", ["growth", "plane", "trained"])
def test_no_two_curves_of_a_legend_look_alike(name: str) -> None:
    looks_apart(FIGURES[name](), by_colour_of_marks=True)


def test_the_lowest_loss_is_on_top_with_its_ranks_and_what_was_added() -> None:
    figure = FIGURES["beside_loss"]()
    assert list(figure.layout.yaxis.categoryarray) == ["relu", "polynorm"]
    assert shown(figure, "polynorm") == [([61.0, 141.0], ["polynorm", "polynorm"])]
    assert shown(figure, "polynorm", "x2") == [([80.0], [pytest.approx(1.45)])]
    assert shown(figure, "relu, each seed", "x2") == [([100.0, 96.0], [1.6, 1.5])]
    assert list(table(figure).index) == ["polynorm", "relu"]
    assert list(table(figure).loc["relu"]) == pytest.approx([51.0, 149.0, 98.0, 1.55])
    assert "relu 51 to 149, loss 1.550; polynorm 61 to 141, loss 1.450" in alt(figure)


def test_maps_stand_in_the_given_order_with_both_ends() -> None:
    figure = FIGURES["arrows"]()
    assert list(figure.layout.yaxis.categoryarray) == ["loud", "cube", "rotation"]
    assert shown(figure, "loud") == [([14.0, 4.0], ["loud", "loud"])]
    assert shown(figure, "loud, behind") == [([4.0], ["loud"])]
    assert list(table(figure).loc["cube"]) == [16.0, 190.0]


def test_shuffled_correlations_are_shares_and_what_lies_outside_has_another_colour() -> None:
    figure = FIGURES["shuffled"]()
    (bars,) = figure.data
    assert sum(bars.y) == pytest.approx(100)
    by_place = dict(zip(np.round(bars.x, 3), bars.marker.color, strict=True))
    assert by_place[-0.8] == by_place[0.9] != by_place[0.0] == by_place[0.4]
    assert dict(zip(np.round(bars.x, 3), bars.y, strict=True))[0.0] == pytest.approx(100 * 3 / 8)
    assert [shape.x0 for shape in figure.layout.shapes] == [-0.7, 0.7, 0.4]
    assert "95 % lie from -0.70 to +0.70, the recorded one is +0.40; 50 % are at least as far from 0" in alt(figure)


def test_growth_has_predictions_as_lines_and_measurements_as_marks() -> None:
    figure = FIGURES["growth"]()
    modes = {trace.name: trace.mode for trace in figure.data}
    assert modes == {
        "x, predicted": "lines", "x, measured": "markers", "polynorm, predicted": "lines",
        "polynorm, measured": "markers", "relu, measured": "markers",
    }  # fmt: skip
    assert shown(figure, "polynorm, measured") == [([2, 4], [5.0, 19.0])]
    assert "relu from 8 to 43" in alt(figure)


def test_a_plane_has_each_group_as_a_line_with_the_names_of_its_points() -> None:
    figure = FIGURES["plane"]()
    assert shown(figure, "filter") == [([24.0, 177.0], [2.8, 3.2])]
    assert list(figure.data[0].text) == ["σ = 1", "σ = -1"]
    assert list(figure.data[1].text) == ["σ = 1", ""]  # one name in one place
    assert list(table(figure).loc["taken back: σ = 1"]) == [27.0, 2.4]


def test_trained_arms_have_both_ranks_of_each_seed_and_a_verdict_but_for_the_control() -> None:
    figure = FIGURES["trained"]()
    assert list(figure.layout.yaxis.categoryarray) == ["lowered", "raised", "gelu"]
    assert shown(figure, "seen by the next matrix") == [
        ([39.0, 41.0, 205.0, 203.0, 112.0, 110.0], ["lowered"] * 2 + ["raised"] * 2 + ["gelu"] * 2)
    ]
    assert shown(figure, "lower", "x2") == [([pytest.approx(-0.06)], ["raised"])]
    assert shown(figure, "not told apart", "x2") == [([pytest.approx(0.1)], ["lowered"])]
    assert "raised rank 204, folded 119, loss -0.100 to -0.020, lower" in alt(figure)
    assert table(figure).loc["gelu"].isna().sum() == 2
