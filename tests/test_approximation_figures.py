"""Figures of approximations: what is drawn is what was given, and each says it in numbers."""

import numpy as np
import pytest

from minipolycom.viz import approximations
from minipolycom.viz.figures import alt, static, table

X = np.linspace(-1, 1, 5)
HALVES = {"right": np.maximum(X, 0) ** 2, "left": np.maximum(-X, 0) ** 2}


def trace(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return np.array(found.x, dtype=float), np.array(found.y, dtype=float)


def power_law(exponent: float, start: float = 1.0) -> list[dict]:
    return [{"parameters": size, "error": start * size**exponent} for size in (10, 100, 1000)]


def fitted(activation: str, parameters: int, errors: list[float], chosen: bool = True) -> list[dict]:
    return [
        {"activation": activation, "parameters": parameters, "largest_error": error, "chosen": chosen, "seed": seed}
        for seed, error in enumerate(errors)
    ]


TRAINED = fitted("relu", 100, [0.3, 0.1, 0.2]) + fitted("relu", 1000, [0.02, 0.06, 0.04])
TRAINED += fitted("polyrelu", 90, [0.5]) + fitted("polyrelu", 90, [9.0], chosen=False)


def test_the_sum_of_the_parts_is_drawn():
    figure = approximations.contributions(HALVES, X, title="A parabola")
    np.testing.assert_array_equal(trace(figure, "sum")[1], X**2)
    np.testing.assert_array_equal(trace(figure, "right")[1], HALVES["right"])
    assert len({part.line.color for part in figure.data}) == 3
    assert len({part.line.dash for part in figure.data if part.name != "sum"}) == 2
    assert "2 parts, at most 1 in size, add up to a curve from 1 to 1, at most 1 in size" in alt(figure)
    assert list(table(figure).columns) == ["sum", "right", "left"]


def test_a_polynomial_is_drawn_where_its_bump_is():
    bumps = np.array([[1, 1, 0.5, 0, 0], [0, 1e-18, 0.5, 1, 1]])  # a rounding error is no bump
    polynomials = np.array([X, -X])
    figure = approximations.patches(X, np.abs(X), bumps, polynomials)
    np.testing.assert_array_equal(trace(figure, "patch 1")[1], [np.nan, np.nan, 0, -0.5, -1])
    np.testing.assert_array_equal(trace(figure, "patch 0, bump")[1], bumps[0])
    np.testing.assert_array_equal(trace(figure, "sum of the bumps")[1], np.ones(5))
    np.testing.assert_array_equal(trace(figure, "blend")[1], -np.abs(X))
    assert "2 bumps add up to between 1 and 1; the blend of their polynomials is off the target by at most 2" in alt(
        figure
    )


def test_each_curve_stands_at_its_own_sizes():
    curves = {"built": ([2, 5, 8], [0.1, 0.01, 0.001]), "bound": ([2, 4], [0.05, 0.02])}
    figure = approximations.errors_over_size(curves, title="Squares", xlabel="neurons", log="y")
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == (None, "log")
    np.testing.assert_array_equal(trace(figure, "bound"), curves["bound"])
    assert "built from 0.1 at 2 to 0.001 at 8; bound from 0.05 at 2 to 0.02 at 4" in alt(figure)
    assert table(figure)["bound"].isna().tolist() == [False, False, True, True]


def test_the_fitted_law_and_its_slope():
    figure = approximations.rates({"steep": power_law(-2), "flat": power_law(-0.5, 7)}, title="Rates")
    assert figure.layout.xaxis.ticktext == ("10", "20", "50", "100", "200", "500", "1,000")
    sizes, law = trace(figure, "steep: slope -2.00 ± 0.00")
    np.testing.assert_allclose(law, sizes**-2.0)  # the points lie on a power law: the line goes through them
    np.testing.assert_array_equal(trace(figure, "flat, measured")[1], [row["error"] for row in power_law(-0.5, 7)])
    assert "steep: slope -2.00 ± 0.00; flat: slope -0.50 ± 0.00" in alt(figure)


def test_medians_of_the_chosen_networks_and_the_construction():
    figure = approximations.fits(TRAINED, power_law(-1), title="Trained")
    np.testing.assert_array_equal(trace(figure, "relu"), [[100, 1000], [0.2, 0.04]])
    assert trace(figure, "relu, each seed")[1].tolist() == [0.3, 0.1, 0.2, 0.02, 0.06, 0.04]
    assert trace(figure, "polyrelu")[1].tolist() == [0.5]
    np.testing.assert_array_equal(trace(figure, "construction")[0], [10, 100, 1000])
    assert "relu from 0.2 at 100 to 0.04 at 1000; polyrelu from 0.5 at 90 to 0.5 at 90; the construction" in alt(figure)


@pytest.mark.parametrize(
    "figure",
    [
        approximations.contributions(HALVES, X, title="A parabola"),
        approximations.patches(X, X**2, np.ones((2, 5)) / 2, np.ones((2, 5))),
        approximations.errors_over_size({"one": ([1, 2], [0.5, 0.1])}, title="Errors"),
        approximations.rates({"one": power_law(-1)}, title="Rates"),
        approximations.fits(TRAINED, power_law(-1), title="Trained"),
    ],
)
def test_every_figure_has_a_static_picture_that_says_what_it_shows(figure):
    picture = static(figure)
    assert picture.startswith("<svg")
    assert "<path" in picture or "<polyline" in picture
    assert "nan" not in picture.split("</title>")[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: approximations.contributions({}, X, title=""), "a sum needs parts; got none"),
        (lambda: approximations.contributions({"a": X[1:]}, X, title=""), "part 'a' has 4 values for 5 places"),
        (
            lambda: approximations.patches(X, X, np.ones((2, 4)), np.ones((2, 4))),
            r"for each of the 5 places; got shapes",
        ),
        (lambda: approximations.patches(X, X[1:], np.ones((2, 5)), np.ones((2, 5))), r"a target of shape \(4,\)"),
        (
            lambda: approximations.errors_over_size({"a": ([1, 2], [1.0])}, title=""),
            "curve 'a' needs one error for each size; got 2 sizes, 1 errors",
        ),
        (lambda: approximations.errors_over_size({"a": ([], [])}, title=""), "got 0 sizes, 0 errors"),
        (lambda: approximations.rates({"a": power_law(-1)[:2]}, title=""), "at least three sizes"),
        (lambda: approximations.fits(TRAINED[-1:], [], title=""), "no row with a chosen learning rate"),
    ],
)
def test_refusals_name_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
