"""Figures of ablations: they draw the numbers they are given, say them, and keep them in a table."""

import numpy as np
import pytest
from figure_laws import says_its_numbers

from minipolycom.viz import ablations
from minipolycom.viz.figures import alt, table

LOSSES = {"old": {0: 1.5, 1: 1.6}, "new": {0: 1.4, 1: 1.45, 2: 1.5}, "mine": {0: 1.7, 1: 1.9}}
INTERVALS = {"a": (0.2, 0.1, 0.3), "b": (0.001, -0.002, 0.004), "mine": (-0.01, -0.05, 0.03)}
SAID = {"a": "different", "b": "alike", "mine": "undecided"}
PAIRS = {("x", "y"): "different", ("x", "z"): "undecided", ("y", "z"): "alike"}
GROUPS = {"lines": {"order 1": (0.0, 1.76)}, "bent": {"relu": (0.27, 1.53), "gelu": (0.2, 1.52)}}
SIZES, BEYOND = np.array([1e5, 1e6]), np.array([1e5, 1e6, 1e7])
MEASURED = np.array([[1.5, 1.3], [1.52, 1.28]])
LAWS = {"truth": np.array([1.5, 1.3, 1.2]), "fitted": np.array([1.5, 1.3, 1.1])}
BANDS = {"fitted": (np.array([1.4, 1.2, 0.9]), np.array([1.6, 1.4, 1.3]))}

FIGURES = {
    "arms": lambda: ablations.arms(LOSSES, "Arms", baseline="old", margin=0.1, own=["mine"]),
    "margins": lambda: ablations.margins(INTERVALS, SAID, 0.01, "Differences", "difference", own=["mine"]),
    "pairs": lambda: ablations.pairs(PAIRS, ["x", "y", "z"], "Pairs"),
    "against_loss": lambda: ablations.against_loss(GROUPS, "bend", "Bend and loss"),
    "promises": lambda: ablations.promises(SIZES, MEASURED, BEYOND, LAWS, "Promises", BANDS),
}


def traces(figure) -> dict[str, tuple[list, list]]:
    return {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_entries_of_a_legend_look_alike(name: str) -> None:
    named = [trace for trace in FIGURES[name]().data if trace.showlegend is not False]
    looks = [(trace.line.color, trace.line.dash, str(trace.marker), trace.mode) for trace in named]
    assert len(set(looks)) == len(looks) > 1


def test_arms_show_every_seed_and_the_mean_beside_the_margin_of_the_baseline() -> None:
    figure = FIGURES["arms"]()
    shown = traces(figure)
    assert shown["recorded, mean"] == ([pytest.approx(1.55), pytest.approx(1.45)], ["old", "new"])
    assert shown["recorded, each seed"] == ([1.5, 1.6, 1.4, 1.45, 1.5], ["old", "old", "new", "new", "new"])
    assert shown["yours, mean"] == ([pytest.approx(1.8)], ["mine"])
    assert [shape.x0 for shape in figure.layout.shapes] == [pytest.approx(1.45), pytest.approx(1.65)]
    assert list(figure.layout.yaxis.categoryarray) == ["mine", "new", "old"]
    assert list(table(figure).loc["old"]) == pytest.approx([1.55, 1.5, 1.6, 2])
    low, high = figure.layout.xaxis.range
    assert low < 1.4 < 1.9 < high


def test_arms_without_a_baseline_have_no_margin_and_without_arms_are_refused() -> None:
    assert not ablations.arms(LOSSES, "Arms", baseline="other", margin=0.1).layout.shapes
    assert not ablations.arms(LOSSES, "Arms", baseline="old").layout.shapes
    with pytest.raises(ValueError, match="no arm to draw"):
        ablations.arms({}, "Arms")


def test_margins_put_each_difference_under_its_verdict() -> None:
    figure = FIGURES["margins"]()
    by_verdict = {trace.name: trace for trace in figure.data}
    assert (list(by_verdict["different"].x), list(by_verdict["different"].y)) == ([0.2], ["a"])
    assert list(by_verdict["different"].error_x.array) == pytest.approx([0.1])
    assert list(by_verdict["alike"].error_x.arrayminus) == pytest.approx([0.003])
    assert list(by_verdict["undecided"].y) == ["<b>mine</b>"]
    assert [shape.x0 for shape in figure.layout.shapes] == [-0.01, 0.01]
    assert "b +0.001 (-0.002 to +0.004), alike" in alt(figure)
    assert table(figure).loc["mine", "the runs say"] == "undecided"


def test_pairs_have_a_mark_for_each_with_the_first_name_across() -> None:
    figure = FIGURES["pairs"]()
    assert traces(figure) == {"different": (["x"], ["y"]), "alike": (["y"], ["z"]), "undecided": (["x"], ["z"])}
    assert "1 different, 1 alike, 1 undecided" in alt(figure)
    assert table(figure).loc["x, y", "the runs say"] == "different"


def test_arms_against_their_loss_stand_in_their_groups() -> None:
    figure = FIGURES["against_loss"]()
    assert traces(figure) == {"lines": ([0.0], [1.76]), "bent": ([0.27, 0.2], [1.53, 1.52])}
    assert list(figure.data[1].hovertext) == ["relu", "gelu"]
    assert list(table(figure).loc["gelu"]) == ["bent", 0.2, 1.52]


def test_promises_have_every_seed_the_laws_their_bands_and_the_end_of_what_was_trained() -> None:
    figure = FIGURES["promises"]()
    shown = traces(figure)
    assert shown["trained, each seed"] == ([1e5, 1e6, 1e5, 1e6], [1.5, 1.3, 1.52, 1.28])
    assert shown["fitted"][1] == [1.5, 1.3, 1.1]
    assert (shown["fitted, low"][1], shown["fitted, high"][1]) == ([1.4, 1.2, 0.9], [1.6, 1.4, 1.3])
    assert [trace.name for trace in figure.data if trace.fill == "tonexty"] == ["fitted, high"]
    assert [shape.x0 for shape in figure.layout.shapes] == [1e6]
    assert "At 1e+07: truth 1.200, fitted 1.100" in alt(figure)
    assert figure.layout.yaxis.type != "log"
    assert ablations.promises(SIZES, MEASURED, BEYOND, LAWS, "P", {}, log="xy").layout.yaxis.type == "log"
