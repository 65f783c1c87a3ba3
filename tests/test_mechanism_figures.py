"""Figures of two branches kept apart: they draw the numbers they are given, say them, and keep them in a table."""

import numpy as np
import pytest
from figure_laws import says_its_numbers

from minipolycom.studies.records import recorded
from minipolycom.viz import mechanism
from minipolycom.viz.branches import ONLINE, TARGET
from minipolycom.viz.figures import alt, table

STEPS = (10, 20)


def rows(*online: float, times: float = 2.0) -> list[dict]:
    """Ranks of as many seeds as numbers, at two steps: the numbers, then one more; the target's are larger."""
    return [
        {"step": step, "seed": seed, "erank_online": rank + later, "erank_target": times * (rank + later)}
        for seed, rank in enumerate(online)
        for later, step in enumerate(STEPS)
    ]


CODES = np.array([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]])
ALIKE = np.array([[0.9, 0.1, 0.0]] * 4)
WAYS = {"SimSiam": {"prediction": 3.0, "predictor off": 9.0}, "BYOL": {"prediction": 4.0, "off": 8.0, "past": 12.0}}

FIGURES = {
    "one row of panels": lambda: mechanism.rank_panels({"a": rows(3, 5), "b": rows(4)}, {"a": rows(4)}, "Ranks"),
    "two rows of panels": lambda: mechanism.rank_panels(dict.fromkeys("abcde", rows(3, 5)), {}, "Ranks"),
    "codes": lambda: mechanism.codes({"alike": ALIKE, "told apart": CODES}, "Codes"),
    "ways": lambda: mechanism.ways(WAYS, "Ways"),
}


def curves(figure, axis: str = "x") -> dict[str, list[float]]:
    return {trace.name: list(trace.y) for trace in figure.data if trace.xaxis == axis}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


def test_a_band_is_the_range_over_seeds_its_line_the_mean_and_marks_are_ones_own_run() -> None:
    figure = FIGURES["one row of panels"]()
    first = [trace for trace in figure.data if trace.xaxis == "x" and trace.line.color == ONLINE[1]]
    assert [list(trace.y) for trace in first] == [[5, 6], [3, 4], [4, 5]]  # the upper edge, the lower edge, the mean
    assert [trace.fill for trace in first] == [None, "tonexty", None]
    assert curves(figure)["target, recorded"] == [8, 10]
    assert curves(figure)["online, yours"] == [4, 5]
    assert curves(figure)["target, yours"] == [8, 10]
    assert not any("yours" in name for name in curves(figure, "x2"))
    assert "a online 4.0 to 6.0, target 8.0 to 12.0, yours 5.0 and 10.0; b online 5.0 to 5.0" in alt(figure)
    assert list(table(figure).loc["a"]) == [4, 6, 8, 12, 5, 10]
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert sorted(named) == ["online, recorded", "online, yours", "target, recorded", "target, yours"]


def test_a_run_of_ones_own_without_a_record_has_a_panel_of_marks() -> None:
    figure = mechanism.rank_panels({"a": rows(3)}, {"a": rows(4), "control": rows(1)}, "Ranks")
    assert curves(figure, "x2") == {"online, yours": [1, 2], "target, yours": [2, 4]}
    assert [note.text for note in figure.layout.annotations] == ["a", "control"]
    assert "; control yours 2.0 and 4.0." in alt(figure)
    assert tuple(figure.layout.xaxis2.range) == (0, 20.4)


def test_ones_own_run_is_named_where_its_panel_is_not_the_first() -> None:
    figure = mechanism.rank_panels({"a": rows(3), "b": rows(4)}, {"b": rows(5)}, "Ranks")
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert sorted(named) == ["online, recorded", "online, yours", "target, recorded", "target, yours"]


def test_panels_have_the_same_axes_and_stand_in_rows_under_their_titles() -> None:
    figure = FIGURES["two rows of panels"]()
    assert {tuple(axis.range) for axis in figure.select_xaxes()} == {(0, 20.4)}
    assert len({(axis.type, tuple(axis.range)) for axis in figure.select_yaxes()}) == 1
    tops = {note.text: (note.x, note.y) for note in figure.layout.annotations}
    axes = {
        name: (figure.layout[f"xaxis{n}"], figure.layout[f"yaxis{n}"])
        for name, n in zip("abcde", ["", *"2345"], strict=True)
    }
    for name, (x_axis, y_axis) in axes.items():
        assert tops[name] == pytest.approx((x_axis.domain[0], y_axis.domain[1])), name
    assert axes["a"][1].domain[0] > axes["d"][1].domain[1]  # the second row stands below the first


def test_images_stand_in_the_same_order_in_all_maps_sorted_by_the_last() -> None:
    figure = FIGURES["codes"]()
    alike, apart = (np.array(trace.z) for trace in figure.data)
    np.testing.assert_array_equal(alike, ALIKE)
    np.testing.assert_array_equal(apart[::-1], CODES[[1, 3, 0, 2]])  # from the top: by the prototype with most of them
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(0, 1)}
    assert "alike: one prototype has 90% of everything, 1 of 3 come first for some image" in alt(figure)
    numbers = table(figure)["told apart"]
    assert numbers.tolist() == pytest.approx([0.4, 0.675, 3])


def test_a_way_begins_at_the_online_branch_and_ends_at_the_target() -> None:
    figure = FIGURES["ways"]()
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    looks = {trace.name: (trace.marker.color, trace.marker.symbol) for trace in marks}
    assert looks["online"] == (ONLINE[1], "circle")
    assert looks["target"] == (TARGET[1], "diamond")
    assert [(trace.name, list(trace.x)) for trace in marks] == [
        ("online", [3]), ("target", [9]), ("online", [4]), ("on the way", [8]), ("target", [12]),
    ]  # fmt: skip
    assert [trace.name for trace in figure.data if trace.showlegend is not False and trace.mode == "markers"] == [
        "online", "target", "on the way",
    ]  # fmt: skip
    assert list(figure.layout.yaxis.categoryarray)[-1] == "SimSiam: prediction"  # a category axis grows upwards
    assert "BYOL: prediction 4.0, off 8.0, past 12.0" in alt(figure)
    assert table(figure)["effective rank"].tolist() == [3, 9, 4, 8, 12]


def test_the_recorded_ranks_are_drawn() -> None:
    record = recorded("ssl-methods")
    drawn = mechanism.rank_panels({"SwAV": [row for row in record.table("ranks") if row["arm"] == "swav"]}, {}, "SwAV")
    assert len(curves(drawn)["online, recorded"]) == 30
