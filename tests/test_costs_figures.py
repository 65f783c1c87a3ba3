"""Figures of costs: they draw the numbers they are given, say them, and keep them in a table."""

from xml.etree import ElementTree

import numpy as np
import pytest

from minipolycom.viz import costs
from minipolycom.viz.figures import alt, fold, static, table

WORK = {"relu": 1.0, "polynorm, as written": 18.0, "the product": 1024.0}
TIME = {"relu": 1.0, "polynorm, as written": 20.0, "the product": 40.0}
PASSES = {"relu": 2.0, "polynorm, as written": 33.0, "the product": 2.5}
KEPT = {"relu": 1.0, "polynorm, as written": 6.0, "polynorm, fused": 1.0}
MACHINES = {"here": (80.0, 10.0), "a GPU": (60_000.0, 4_300.0)}
JOBS = {"relu": (0.125, 1.0), "the product": (100.0, 70.0)}

FIGURES = {
    "work": lambda: costs.work_and_time(WORK, TIME, unit="the product"),
    "passes": lambda: costs.time_over_passes(PASSES, TIME, one_pass=0.5),
    "memory": lambda: costs.time_over_memory(KEPT, {**KEPT, "relu": 2.0}, unit="relu"),
    "roofline": lambda: costs.roofline(JOBS, MACHINES),
}


def traces(figure) -> dict:
    return {trace.name: trace for trace in figure.data if trace.showlegend is not False}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    figure = FIGURES[name]()
    assert any(digit.isdigit() for digit in alt(figure))
    assert len(table(figure)) >= 2
    assert table(figure).index.name == "name"
    assert alt(figure)[:40] in fold(figure)
    picture = ElementTree.fromstring(static(figure))
    numbers = [float(v) for e in picture.iter() for key in ("x", "y", "x1", "x2", "cx", "cy") if (v := e.get(key))]
    assert np.isfinite(numbers).all()
    assert "None" not in static(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_entries_of_a_legend_look_alike(name: str) -> None:
    looks = [
        (trace.line.color, trace.line.dash, trace.marker.color, trace.marker.symbol)
        for trace in traces(FIGURES[name]()).values()
    ]
    assert len(looks) > 1
    assert len(set(looks)) == len(looks)


def test_work_and_time_are_shares_of_the_unit_in_rows_from_little_work_to_much() -> None:
    figure = FIGURES["work"]()
    drawn = traces(figure)
    assert list(drawn["operations"].y) == ["relu", "polynorm, as written", "the product"]
    np.testing.assert_allclose(drawn["operations"].x, [1 / 1024, 18 / 1024, 1])
    np.testing.assert_allclose(drawn["time"].x, [1 / 40, 0.5, 1])
    low, high = figure.layout.xaxis.range
    assert low < np.log10(1 / 1024)
    assert high > 0
    assert "polynorm, as written 0.018 and 0.5" in alt(figure)


def test_the_line_of_passes_has_one_unit_for_each() -> None:
    drawn = traces(FIGURES["passes"]())
    np.testing.assert_array_equal(drawn["time follows passes"].x, drawn["time follows passes"].y)
    assert (drawn["relu"].x[0], drawn["relu"].y[0]) == (2, 2)
    assert (drawn["the product"].x[0], drawn["the product"].y[0]) == (2.5, 80)
    assert table(FIGURES["passes"]()).loc["polynorm, as written"].to_dict() == {"passes": 33, "time": 40}


def test_time_over_memory_is_relative_to_the_unit() -> None:
    drawn = traces(FIGURES["memory"]())
    assert (drawn["relu"].x[0], drawn["relu"].y[0]) == (1, 1)
    assert (drawn["polynorm, as written"].x[0], drawn["polynorm, as written"].y[0]) == (6, 3)


def test_a_roof_rises_to_its_ridge_and_is_flat_from_there() -> None:
    drawn = traces(FIGURES["roofline"]())
    x, y = np.array(drawn["here"].x), np.array(drawn["here"].y)
    assert (x[1], y[1], y[2]) == (8, 80, 80)
    assert y[0] == pytest.approx(10 * x[0])
    assert x[0] < 0.125
    assert x[2] > 100
    assert (drawn["the product"].x[0], drawn["the product"].y[0]) == (100, 70)
    assert "a GPU: peak 6e+04, bandwidth 4.3e+03, ridge at 14 operations per byte" in alt(FIGURES["roofline"]())


def test_ticks_of_a_logarithmic_axis_lie_within_it() -> None:
    axis = FIGURES["passes"]().layout.xaxis
    assert list(axis.ticktext) == ["2", "5", "10", "20"]
    assert list(axis.tickvals) == [2, 5, 10, 20]
    narrow = costs.time_over_memory({"a": 1, "b": 2}, {"a": 1, "b": 1.4}, unit="a").layout.yaxis
    assert list(narrow.ticktext) == ["1", "1.2", "1.5"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: costs.work_and_time(WORK, KEPT, "relu"), "both need the same names; got relu, polynorm"),
        (lambda: costs.work_and_time(WORK, TIME, "gelu"), "the unit 'gelu' is not among the names: relu"),
        (lambda: costs.time_over_passes(PASSES, TIME, 0.0), "a pass takes some time; got 0.0"),
        (lambda: costs.time_over_passes(PASSES, KEPT, 1.0), "both need the same names"),
        (lambda: costs.time_over_memory(KEPT, TIME, "relu"), "both need the same names"),
        (lambda: costs.time_over_memory(KEPT, KEPT, "gelu"), "the unit 'gelu' is not among the names"),
        (lambda: costs.roofline(JOBS, {}), "a roofline shows 1 to 4 machines; got 0"),
        (lambda: costs.roofline(JOBS, dict.fromkeys("abcde", (1.0, 1.0))), "a roofline shows 1 to 4 machines; got 5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
