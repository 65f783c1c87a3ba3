"""Figures of experts: they draw the shares they are given, say them, and mark who gets nothing."""

import math

import numpy as np
import pytest
from figure_laws import says_its_numbers

from minipolycom.viz import experts
from minipolycom.viz.figures import alt, table

WEIGHT = np.array([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.875, 0.125, 0.0], [1.0, 0.0, 0.0]])
LOADS = {
    "even": {0: [0.25, 0.25, 0.5], 10: [0.375, 0.375, 0.25]},
    "uneven": {0: [0.25, 0.25, 0.5], 10: [0.0, 0.25, 0.75], 20: [0.0, 0.125, 0.875]},
}

FIGURES = {
    "gates": lambda: experts.gates(WEIGHT, ["a", "b", "a", "↵"], "Four tokens"),
    "loads": lambda: experts.loads(LOADS, "shares of the work"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


def test_gates_leave_a_place_empty_where_an_expert_is_not_asked() -> None:
    figure = FIGURES["gates"]()
    (map_,) = figure.data
    assert [[None if math.isnan(v) else v for v in row] for row in map_.z] == [
        [0.75, None, 0.875, 1.0],
        [0.25, 0.5, 0.125, None],
        [None, 0.5, None, None],
    ]
    assert list(figure.layout.xaxis.ticktext) == ["a", "b", "a", "↵"]  # a token may come twice
    assert "the busiest expert is asked by 3 of them, the least busy by 1" in alt(figure)
    assert list(table(figure).loc["2 a"]) == [0.875, 0.125, 0.0]


def test_gates_ask_for_a_token_for_each_row() -> None:
    with pytest.raises(ValueError, match="4 rows and 2 tokens"):
        experts.gates(WEIGHT, ["a", "b"], "Four tokens")


def test_loads_stand_in_units_of_an_even_share_on_one_scale() -> None:
    figure = FIGURES["loads"]()
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert np.array(maps[0].z).tolist() == [[0.75, 1.125], [0.75, 1.125], [1.5, 0.75]]
    assert [(one.zmin, one.zmax) for one in maps] == [(0, 2.625)] * 2
    assert [one.showscale for one in maps] == [False, True]
    assert "even: at step 10 from 0.75 to 1.1 of an even share" in alt(figure)
    last = table(figure)
    assert list(last.loc["uneven", "last"]) == [0.0, 0.375, 2.625]


def test_loads_mark_each_time_that_an_expert_got_nothing() -> None:
    marks = {trace.name: trace for trace in FIGURES["loads"]().data if trace.type == "scatter"}
    assert list(marks["even, not one token"].x) == []
    assert (list(marks["uneven, not one token"].x), list(marks["uneven, not one token"].y)) == ([10, 20], [0, 0])
    assert "uneven: at step 20 from 0 to 2.6 of an even share, an expert without a token 2 times" in alt(
        FIGURES["loads"]()
    )


def test_loads_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no loads to draw"):
        experts.loads({}, "shares of the work")
