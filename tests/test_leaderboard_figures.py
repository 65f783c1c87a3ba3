"""Figures of a leaderboard: they draw the numbers they are given, say them, and keep them in a table."""

import numpy as np
import pytest
from figure_laws import looks_apart, says_its_numbers, shown

from minipolycom.viz import leaderboard
from minipolycom.viz.figures import alt, table

RANK, VOTE = "effective rank", "neighbours"
ENTRIES = {
    "SimSiam": {RANK: [10.0, 12.0, 11.0], VOTE: [0.75, 0.77, 0.79]},
    "mine": {RANK: [20.0, 22.0], VOTE: [0.9, 0.8]},
    "diverged": {RANK: [], VOTE: []},
    "no vote": {RANK: [1.0], VOTE: []},
}
INTERVALS = {"above": (0.5, 1.5), "below": (-3.0, -1.0), "around": (-1.0, 1.2)}
STRENGTH = np.array([0.5, 1.0, 2.0])
LAW = {"online": ([0.1, 0.2, 0.3], [0.0, 0.1, 0.2]), "target": ([0.1, 0.2, 0.3], [0.1, 0.2, -0.1])}
RECORDED = {
    "online": {0.5: ([0.1, 0.2], [0.0, 0.1])},
    "target": {2.0: ([0.8, 0.9], [-0.1, 0.0]), 0.5: ([0.2], [0.3])},
}
TRUE = np.array([1.0, 0.1, 0.01])


def board():
    return leaderboard.board(ENTRIES, [RANK, VOTE], "A board", own=["mine"], reference="SimSiam")


FIGURES = {
    "board": board,
    "differences": lambda: leaderboard.differences(INTERVALS, "SimSiam", "Neighbours", own=["below"]),
    "strengths": lambda: leaderboard.strengths(STRENGTH, LAW, RECORDED),
    "floors": lambda: leaderboard.floors(
        TRUE, {"float16": TRUE * [1, 1, 3], "float64": TRUE}, {"float16": 0.03, "float64": 1e-8}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_curves_of_a_legend_look_alike(name: str) -> None:
    looks_apart(FIGURES[name]())


def test_a_board_is_sorted_by_its_first_measure_and_shows_every_seed_and_the_mean() -> None:
    figure = board()
    assert list(figure.layout.yaxis.categoryarray) == ["no vote", "SimSiam", "mine"]
    assert shown(figure, "recorded, mean of the seeds") == [([1.0, 11.0], ["no vote", "SimSiam"])]
    assert shown(figure, "yours, mean of the seeds") == [([21.0], ["mine"])]
    assert shown(figure, "recorded, each seed") == [([1.0, 10.0, 12.0, 11.0], ["no vote", *["SimSiam"] * 3])]
    assert shown(figure, "recorded, mean of the seeds", "x2") == [([pytest.approx(0.77)], ["SimSiam"])]
    assert "3 entries, by effective rank from mine down to no vote" in alt(figure)


def test_a_board_has_the_reference_as_a_line_in_every_panel() -> None:
    assert [(shape.xref, shape.x0) for shape in board().layout.shapes] == [("x", 11.0), ("x2", pytest.approx(0.77))]
    assert not leaderboard.board(ENTRIES, [RANK], "A board").layout.shapes


def test_a_board_keeps_its_numbers_as_a_table_the_best_first() -> None:
    numbers = table(board())
    assert list(numbers.index) == ["mine", "SimSiam", "no vote"]
    assert list(numbers.loc["SimSiam"]) == pytest.approx([11.0, 10.0, 12.0, 0.77, 0.75, 0.79])
    assert numbers.loc["no vote"].isna().sum() == 3


def test_a_board_without_the_measure_it_is_sorted_by_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry has the measure 'speed'"):
        leaderboard.board(ENTRIES, ["speed"], "A board")


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.1, 2.0), "higher"), ((-2.0, -0.1), "lower"), ((-0.1, 2.0), "not told apart"), ((0.0, 1.0), "not told apart")],
)
def test_an_interval_is_judged_by_where_zero_lies(interval: tuple[float, float], said: str) -> None:
    assert leaderboard.judged(*interval) == said


def test_differences_stand_in_the_order_of_their_middles_under_their_verdicts() -> None:
    figure = FIGURES["differences"]()
    assert list(figure.layout.yaxis.categoryarray) == ["<b>below</b>", "around", "above"]
    by_verdict = {trace.name: trace for trace in figure.data}
    assert (list(by_verdict["higher"].x), list(by_verdict["higher"].y)) == ([1.0], ["above"])
    assert (list(by_verdict["lower"].x), list(by_verdict["lower"].error_x.array)) == ([-2.0], [1.0])
    assert list(by_verdict["not told apart"].x) == pytest.approx([0.1])
    assert "above +0.5 to +1.5, higher" in alt(figure)


def test_strengths_have_the_law_and_the_recorded_means_in_order() -> None:
    figure = FIGURES["strengths"]()
    assert shown(figure, "target, recorded") == [([0.5, 2.0], [pytest.approx(0.2), pytest.approx(0.85)])]
    assert shown(figure, "target, recorded", "x2") == [([0.5, 2.0], [pytest.approx(0.3), pytest.approx(-0.05)])]
    assert shown(figure, "online, law", "x2") == [([0.5, 1.0, 2.0], [0.0, 0.1, 0.2])]
    assert "target, rank difference: 0.30 at 0.5, -0.05 at 2" in alt(figure)


def test_floors_say_from_where_down_sizes_are_wrong_and_mark_what_is_lost() -> None:
    figure = FIGURES["floors"]()
    assert "float16: off by over 10 % from 0.01 down; float64: right throughout" in alt(figure)
    assert [shape.x0 for shape in figure.layout.shapes] == [0.03]  # that of float64 lies below every size
    assert shown(figure, "right") == [([1.0, 0.1, 0.01], [1.0, 0.1, 0.01])]
