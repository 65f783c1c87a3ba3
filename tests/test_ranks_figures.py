"""Figures of ranks: they draw the numbers they are given, say them, and keep them in a table."""

import pytest
from figure_laws import says_its_numbers, trace

from minipolycom.viz import ranks
from minipolycom.viz.figures import alt, table
from minipolycom.viz.theme import STYLE

RUNS = {
    "relu": {0: {0: 124.0, 50: 120.0, 100: 110.0}, 1: {0: 123.0, 50: 121.0}},
    "swiglu": {0: {0: 121.0, 50: 118.0}},
}
PAIRS = {"relu": [(109.0, 1.5), (110.0, 1.25)], "swiglu": [(108.0, 1.0)]}
FOUND = {"rank": (-0.5, [-0.6, -0.2, 0.11, 0.12]), "share": (0.9, [0.0, 0.3, 0.31, 0.32])}

FIGURES = {
    "through_training": lambda: ranks.through_training(RUNS, "Ranks"),
    "chance_law": lambda: ranks.chance_law([0.1, 0.5, 0.9], [0.98, 0.9, 0.8], {"one": (0.25, 0.96)}, "Chance"),
    "plane": lambda: ranks.plane({"as it is": PAIRS, "of chance": PAIRS}, ["rank", "share"], "Plane"),
    "shuffled": lambda: ranks.shuffled(FOUND, "Shuffled"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


def test_ranks_through_training_are_means_where_all_seeds_were_measured() -> None:
    figure = FIGURES["through_training"]()
    assert list(trace(figure, "relu").x) == [0, 50]
    assert list(trace(figure, "relu").y) == [123.5, 120.5]
    assert list(trace(figure, "relu, lowest").y) == [123.0, 120.0]
    assert list(trace(figure, "relu, highest").y) == [124.0, 121.0]
    assert [one.name for one in figure.data if one.showlegend is not False] == ["relu", "swiglu"]
    assert "relu from 123.5 to 120.5; swiglu from 121.0 to 118.0" in alt(figure)


def test_matrices_stand_beside_the_law() -> None:
    figure = FIGURES["chance_law"]()
    assert list(trace(figure, "law of chance").y) == [0.98, 0.9, 0.8]
    assert (list(trace(figure, "one").x), list(trace(figure, "one").y)) == ([0.25], [0.96])
    assert "The law falls from 0.980 at 0.10 to 0.800. one: 0.960 at 0.25." in alt(figure)
    assert table(figure).loc["one"].tolist() == pytest.approx([0.25, 0.96, 0.95])


def test_each_run_is_a_mark_in_the_colour_of_its_activation() -> None:
    panels = {"a": PAIRS, "b": {**PAIRS, "gelu": [(1.0, 2.0)]}}
    figure = ranks.plane(panels, ["rank", "share"], "Plane", joined=["b"])
    relu = trace(figure, "relu", "x2")
    assert (list(relu.x), list(relu.y)) == ([109.0, 110.0], [1.5, 1.25])
    assert (trace(figure, "relu").mode, relu.mode) == ("markers", "lines+markers")
    assert relu.line.color == STYLE["relu"][0]
    assert [(one.name, one.xaxis) for one in figure.data if one.showlegend] == [
        ("relu", "x"),
        ("swiglu", "x"),
        ("gelu", "x2"),
    ]
    assert (figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text) == ("rank", "share")
    assert figure.layout.yaxis.range == figure.layout.yaxis2.range
    assert len({one.marker.symbol for one in figure.data}) == 3  # not by colour alone
    (alone,) = ranks.plane({"a": {"gelu": [(1.0, 2.0)]}}, ["rank"], "Plane").data
    assert alone.marker.symbol == trace(figure, "gelu", "x2").marker.symbol
    assert ranks.plane({"a": {"mine": [(1.0, 2.0)]}}, ["rank"], "Plane").data[0].marker.symbol == "circle"
    assert table(figure).loc["swiglu"].to_numpy().tolist() == [["a", 108.0, 1.0], ["b", 108.0, 1.0]]
    assert "relu, a: 109.5, 1.375" in alt(figure)


def test_what_was_found_stands_among_the_shuffles() -> None:
    figure = FIGURES["shuffled"]()
    bars = trace(figure, "shuffled")
    assert sum(bars.y) == pytest.approx(1)
    assert max(bars.y) == 0.5  # two of the four lie in one bar
    assert list(trace(figure, "found", "x2").x) == [0.9, 0.9]
    lowest, highest = figure.layout.yaxis.range
    assert (lowest, highest) == figure.layout.yaxis2.range  # said for both: the static picture scales by what is said
    assert highest > 0.5
    assert table(figure)["found"].to_dict() == {"rank": -0.5, "share": 0.9}
    assert "rank: found -0.50, 95 % of the shuffles between" in alt(figure)
