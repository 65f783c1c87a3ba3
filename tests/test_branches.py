"""Figures of two branches: they draw the numbers of the rows, say them, and are empty with a reason before any."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from figure_laws import says_its_numbers

from minipolycom.ssl.compare import over_seeds
from minipolycom.viz import branches
from minipolycom.viz.figures import alt, fold, static, table
from minipolycom.viz.svg import LETTER

SVG = "{http://www.w3.org/2000/svg}"


def ranks(top: float = 30.0) -> list[dict]:
    return [
        {"step": step, "erank_online": top / 2 - step / 10, "erank_target": top - step / 10, "rank_difference": top / 2}
        for step in (10, 20, 30)
    ]


def spectra() -> list[dict]:
    online, target = [8.0, 1.0, 1.0, 0.0], [4.0, 3.0, 2.0, 1.0]
    return [{"step": step, "online": online, "target": target, "gain": [1.0, 0.5, step / 100]} for step in (10, 20)]


def outcomes(source: str = "digits") -> list[dict]:
    """Rows of a comparison: two seeds of three methods, the last of which collapses, with one accuracy missing."""
    known = {"simsiam": (0.9, 0.8), "barlow_twins": (0.7, 0.7), "no_predictor": (0.3, 0.1)}
    return [
        {
            "source": source,
            "method": method,
            "seed": seed,
            "collapse": "dimensional" if method == "no_predictor" else "",
            "knn_augmented": accuracies[seed],
            "r2": None if method == "barlow_twins" else 0.5,
            "rank_difference": 1e-15 * (seed - 1),
        }
        | dict.fromkeys(
            ("erank_online", "erank_target", "erank_projected", "feature_std", "knn_clean", "knn_backbone_augmented",
             "probe", "probe_augmented", "r2_nuisance", "seconds"), 1.0,
        )
        for method, accuracies in known.items()
        for seed in (0, 1)
    ]  # fmt: skip


POINTS = np.array([[0.5, 0.1 * n] for n in range(10)])
NAMES = [str(n) for n in range(10)]
THREE_MODES = np.array([[4.0, 2.0, 1.0], [1.0, 0.5, 0.1], [0.1, -0.1, -0.2]])
"""Eigenvalues, gains and growth rates."""

FIGURES = {
    "ranks": lambda: branches.rank_through_training(ranks(), {"wrong": ranks(8)}, end=100),
    "spectra": lambda: branches.branch_spectra(spectra()),
    "embedding": lambda: branches.embedding(POINTS, np.arange(10), NAMES, "Outputs"),
    "filter": lambda: branches.filter_action(*THREE_MODES, np.array([6.0, 0.9, 0.0]), "online"),
    "filter, later unknown": lambda: branches.filter_action(*THREE_MODES, None, "target"),
    "methods": lambda: branches.methods_compared(over_seeds(outcomes()), "knn_augmented", "accuracy"),
}
EMPTY = {
    "ranks": lambda: branches.rank_through_training([], end=100),
    "spectra": lambda: branches.branch_spectra([]),
    "embedding": lambda: branches.embedding(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), [], "Outputs"),
}


def drawn(figure, shape: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(static(figure)).iter(f"{SVG}{shape}"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name):
    says_its_numbers(FIGURES[name]())


@pytest.mark.parametrize("name", EMPTY)
def test_before_the_first_measurement_a_figure_says_so(name):
    figure = EMPTY[name]()
    assert alt(figure) == "Nothing recorded yet."
    assert "nothing recorded yet" in static(figure)


def test_ranks_are_those_of_the_rows_and_of_others_the_target_s():
    figure = branches.rank_through_training(ranks(), {"wrong": ranks(8)}, end=100)
    curves = {trace.name: list(trace.y) for trace in figure.data}
    assert curves == {"online": [14, 13, 12], "target": [29, 28, 27], "wrong, target": [7, 6, 5]}
    assert "at step 30 online 12.0, target 27.0, a difference of +15.0; wrong, target 5.0 at step 30" in alt(figure)
    assert tuple(figure.layout.xaxis.range) == (0, 100)


def test_other_runs_are_seen_also_before_the_first_row_of_this_one():
    figure = branches.rank_through_training([], {"wrong": ranks(8)})
    assert "wrong, target 5.0 at step 30" in alt(figure)


def test_the_rank_difference_is_shaded_in_the_static_picture_too():
    (area,) = drawn(branches.rank_through_training(ranks()), "polygon")
    points = [tuple(map(float, point.split(","))) for point in area.get("points").split()]
    upper, lower = points[:3], points[:2:-1]
    assert [x for x, _ in upper] == [x for x, _ in lower]
    heights = [below - above for (_, above), (_, below) in zip(upper, lower, strict=True)]
    assert heights == pytest.approx([heights[0]] * 3, abs=0.2)  # coordinates are written to a tenth of a pixel
    assert heights[0] > 0


def test_spectra_are_shares_of_their_sum_and_those_of_the_asked_step():
    figure = branches.branch_spectra(spectra(), step=15)
    online, target, gain = (np.array(trace.y) for trace in figure.data)
    np.testing.assert_allclose(online, [0.8, 0.1, 0.1, np.nan])  # a logarithmic axis has no zero
    np.testing.assert_allclose(target, [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(gain, [1.0, 0.5, 0.1])
    assert "step 10: the largest eigenvalue has 80% of the online and 40% of the target energy" in alt(figure)


def test_a_branch_without_any_output_is_drawn_without_a_division_by_zero():
    dead = {"step": 10, "online": [0.0, 0.0], "target": [0.0, 0.0], "gain": []}
    assert "0% of the online" in alt(branches.branch_spectra([dead]))


def test_no_two_of_ten_classes_share_both_colour_and_mark():
    looks = [(t.marker.color, t.marker.symbol) for t in branches.embedding(POINTS, np.arange(10), NAMES, "T").data]
    assert len(set(looks)) == 10


def test_points_lie_where_they_are_and_the_axes_span_the_unit_circle():
    figure = branches.embedding(POINTS, np.array([3] * 10), NAMES, "Outputs")
    (trace,) = figure.data
    assert trace.name == "3"
    np.testing.assert_array_equal(np.stack([trace.x, trace.y], axis=1), POINTS)
    assert tuple(figure.layout.xaxis.range) == tuple(figure.layout.yaxis.range) == (-1.05, 1.05)
    assert "10 images, standard deviation 0.00 across and 0.29 upwards" in alt(figure)


def test_of_many_images_the_first_are_shown():
    points = torch.rand(1000, 2)
    figure = branches.embedding(points, torch.zeros(1000, dtype=torch.int64), ["a"], "Outputs")
    assert len(figure.data[0].x) == branches.MOST_POINTS


def test_a_filter_s_action_shows_both_branches_the_growing_modes_and_the_later_spectrum():
    figure = FIGURES["filter"]()
    curves = {trace.name: np.array(trace.y) for trace in figure.data}
    np.testing.assert_allclose(curves["target, as it is"], np.array([4, 2, 1]) / 7)
    np.testing.assert_allclose(curves["online, filtered"], np.array([4, 0.5, 0.01]) / 4.51)
    np.testing.assert_allclose(curves["growth rate"], [0.1, -0.1, -0.2])
    np.testing.assert_allclose(curves["later"], [6 / 6.9, 0.9 / 6.9, np.nan])
    assert alt(figure).startswith(
        "Growing modes: 1 of 3. The largest eigenvalue has 57% of the energy now, and later: 87%"
    )
    assert "later: not known" in alt(FIGURES["filter, later unknown"]())


def test_methods_stand_in_the_order_of_their_means_with_their_ranges():
    figure = FIGURES["methods"]()
    numbers = table(figure)
    assert list(numbers.index) == ["no_predictor", "barlow_twins", "simsiam"]
    np.testing.assert_allclose(numbers["mean"], [0.2, 0.7, 0.85])
    np.testing.assert_allclose(numbers["lowest"], [0.1, 0.7, 0.8])
    np.testing.assert_allclose(numbers["highest"], [0.3, 0.7, 0.9])
    assert list(numbers[""]) == ["collapses", "trains", "trains"]
    assert "no_predictor 0.2; barlow_twins 0.7; simsiam 0.85" in alt(figure)
    assert "0.85" in fold(figure)


def test_the_static_comparison_names_every_method_and_draws_mean_and_range():
    figure = FIGURES["methods"]()
    texts = [text.text for text in drawn(figure, "text")]
    assert {"no_predictor", "barlow_twins", "simsiam", "trains", "collapses"} <= set(texts)
    dots = [(float(dot.get("cx")), float(dot.get("cy")), dot.get("fill")) for dot in drawn(figure, "circle")]
    legend, points = dots[-2:], sorted(dots[:-2])
    assert [fill for *_, fill in points] == [legend[1][2], legend[0][2], legend[0][2]]
    assert points[0][1] > points[1][1] > points[2][1]  # the best stands on top
    ranges = [e for e in drawn(figure, "line") if e.get("stroke-width") == "2"]
    for x, y, _ in points:
        (own,) = (e for e in ranges if float(e.get("y1")) == pytest.approx(y, abs=0.1))
        assert float(own.get("x1")) <= x <= float(own.get("x2"))
        assert float(own.get("x1")) + float(own.get("x2")) == pytest.approx(2 * x, abs=0.2)  # here the mean is midway


def test_the_static_comparison_of_many_methods_names_them_all_without_cutting_long_names_off():
    rows = [
        row | {"method": f"rdm_simsiam_online@log1p_squared:online:{n}"} for n in range(28) for row in outcomes()[:1]
    ]
    figure = branches.methods_compared(over_seeds(rows), "knn_augmented", "accuracy")
    names = [text for text in drawn(figure, "text") if text.text.startswith("rdm_")]
    assert len(names) == 28
    assert all(float(name.get("x")) >= LETTER * len(name.text) for name in names)


def test_rounding_errors_are_said_to_be_zero_and_missing_measures_are_left_out():
    assert "simsiam 0;" in alt(branches.methods_compared(over_seeds(outcomes()), "rank_difference", "rank difference"))
    assert "barlow_twins" not in alt(branches.methods_compared(over_seeds(outcomes()), "r2", "r2"))


@pytest.mark.parametrize(
    ("frame", "measure", "said"),
    [
        (lambda: over_seeds(outcomes()), "nose", "unknown measure 'nose'; known: erank_online, erank_target"),
        (lambda: pd.concat([over_seeds(outcomes()), over_seeds(outcomes("latents"))]), "knn_augmented",
         "a figure compares methods on one source; got digits, latents: take frame"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(frame, measure, said):
    with pytest.raises(ValueError, match=said):
        branches.methods_compared(frame(), measure, "a measure")
