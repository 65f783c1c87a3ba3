"""Figures of collapse: they draw the numbers they are given, say them, and have a static twin."""

import numpy as np
import pytest
from figure_laws import says_its_numbers

from minipolycom.viz import collapses
from minipolycom.viz.figures import alt, table

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, 4, 5))
POINTS = RANDOM.normal(size=(40, 2))
LINE = np.stack([POINTS[:, 0], 0 * POINTS[:, 1]], axis=1)
SPREAD = RANDOM.normal(size=(20, 8))
ONE_DIRECTION = np.outer(RANDOM.normal(size=20), RANDOM.normal(size=8))
TABLES = {
    "losses": [{"step": step, "loss": -step / 40} for step in (10, 20, 30)],
    "ranks": [{"step": step, "feature_std": 0.9, "erank_projected": 60 / step} for step in (15, 30)],
}

FIGURES = {
    "pairs": lambda: collapses.view_pairs(IMAGES, 1 - IMAGES, "Digits"),
    "clouds": lambda: collapses.clouds(
        {"free": {"before": POINTS, "after": LINE}, "normalised": {"before": POINTS}}, "first", "second", "Clouds"
    ),
    "profiles": lambda: collapses.output_profiles({"spread": SPREAD, "one": ONE_DIRECTION}, "Outputs"),
    "monitors": lambda: collapses.monitors({"free": TABLES, "nothing": {"losses": [], "ranks": []}}, "Alarms"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name):
    says_its_numbers(FIGURES[name]())


def test_the_first_view_stands_above_the_second_and_neither_is_turned():
    sheet = np.array(collapses.view_pairs(IMAGES, 1 - IMAGES, "Digits").data[0].z)
    assert sheet.shape == (2 * 4 + 1, 3 * 5 + 2)
    from_the_top = sheet[::-1]
    np.testing.assert_array_equal(from_the_top[:4, :5], IMAGES[0])
    np.testing.assert_array_equal(from_the_top[:4, 12:], IMAGES[2])
    np.testing.assert_array_equal(from_the_top[5:, 6:11], 1 - IMAGES[1])
    assert np.isnan(from_the_top[4]).all()
    assert np.isnan(from_the_top[:, 5]).all()
    differences = table(collapses.view_pairs(IMAGES, 1 - IMAGES, "Digits"))["mean difference of a pixel"]
    assert list(differences) == pytest.approx(np.abs(2 * IMAGES - 1).mean(axis=(1, 2)))


def test_clouds_lie_where_they_are_in_panels_with_the_same_axes():
    figure = FIGURES["clouds"]()
    drawn = {(trace.name, trace.xaxis): trace for trace in figure.data}
    assert list(drawn) == [("before", "x"), ("after", "x"), ("before", "x2")]
    np.testing.assert_array_equal(drawn["after", "x"].x, LINE[:, 0])
    np.testing.assert_array_equal(drawn["after", "x"].y, LINE[:, 1])
    reach = 1.05 * np.abs(POINTS).max()
    for axis in ("xaxis", "xaxis2", "yaxis", "yaxis2"):
        assert figure.layout[axis].range == pytest.approx((-reach, reach))
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis2.scaleanchor) == ("x", "x2")
    assert [trace.showlegend for trace in figure.data] == [True, True, False]  # each moment is named once
    assert f"free, after {LINE[:, 0].std():.2f} across, 0.00 upwards" in alt(figure)
    assert list(table(figure).loc["free, before"]) == pytest.approx(POINTS.std(axis=0))


def test_moments_differ_by_colour_and_by_mark():
    looks = collapses.SNAPSHOTS
    assert len({colour for colour, _ in looks}) == len({mark for _, mark in looks}) == 3
    with pytest.raises(ValueError, match="a panel shows up to 3 moments; got 4"):
        collapses.clouds({"a": dict.fromkeys("abcd", POINTS)}, "x", "y", "t")


def test_of_a_single_direction_every_profile_rises_or_falls_and_its_size_is_one():
    figure = FIGURES["profiles"]()
    one = [np.array(trace.y) for trace in figure.data if trace.name.startswith("one,")]
    assert len(one) == collapses.PROFILES
    for line in one:
        steps = np.diff(line)
        assert (steps >= 0).all() or (steps <= 0).all()
        np.testing.assert_allclose(np.square(line).mean(), 1)
    assert (np.diff(one[0]) >= 0).all()
    spread = [np.array(trace.y) for trace in figure.data if trace.name.startswith("spread,")]
    assert not any((np.diff(line) >= 0).all() or (np.diff(line) <= 0).all() for line in spread)
    assert "one: 100% of the energy in the leading direction" in alt(figure)


def test_monitors_are_those_of_the_rows_each_at_its_own_steps():
    figure = collapses.monitors({"free": TABLES}, "Alarms")
    assert [(list(trace.x), list(trace.y)) for trace in figure.data] == [
        ([10, 20, 30], [-0.25, -0.5, -0.75]),
        ([15, 30], [0.9, 0.9]),
        ([15, 30], [4.0, 2.0]),
    ]
    assert "free ends at loss -0.75, feature std · √Z 0.90, effective rank 2.00" in alt(figure)
    assert len({trace.line.color for trace in figure.data}) == 1


def test_runs_in_one_figure_differ_by_colour_and_dash():
    figure = collapses.monitors(dict.fromkeys("abcde", TABLES), "Alarms")
    assert len({trace.line.color for trace in figure.data}) == len({trace.line.dash for trace in figure.data}) == 5
