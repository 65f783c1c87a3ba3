"""A row through a polynomial: the parts are those of the activations, and the figure draws and says them."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from minipolycom.activations import compose, polynorm, rms_norm, sumnorm
from minipolycom.viz import compositions
from minipolycom.viz.compositions import PARTS, PLACES, a_row, row_panels
from minipolycom.viz.figures import ROW_WIDTH, alt, fold, static, table

NOWHERE, BEFORE, EACH, PRINTED, AFTER = PLACES
THIRDS, ZERO = torch.full((3,), 1 / 3), torch.zeros(1)
WHOLE = {
    NOWHERE: lambda x: compose(x, THIRDS, ZERO),
    BEFORE: lambda x: compose(x, THIRDS, ZERO, inner=rms_norm),
    EACH: lambda x: polynorm(x, THIRDS, ZERO),
    PRINTED: lambda x: polynorm(x, THIRDS, ZERO) / ROW_WIDTH**0.5,
    AFTER: lambda x: sumnorm(x, THIRDS, ZERO),
}
"""What the parts of each place add up to, by functions that are tested elsewhere."""


def sizes(place: str, scale: float = 1.0, outlier: float = 0.0) -> np.ndarray:
    return np.array(trace(row_panels(place, scale, outlier), "sizes, this row").y)


def trace(figure, name: str):
    (found,) = (one for one in figure.data if one.name == name)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_the_parts_add_up_to_the_activation(place):
    row = a_row(2.0, 5.0)
    # eps of 1e-6, which the printed formula lacks, beside mean squares of 1 and more
    torch.testing.assert_close(PLACES[place](row).sum(dim=0), WHOLE[place](row), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("place", "moves"), [(NOWHERE, True), (BEFORE, False), (EACH, False), (PRINTED, False)])
def test_a_division_by_a_size_of_the_row_takes_its_scale_out(place, moves):
    assert np.allclose(sizes(place), sizes(place, 100), rtol=1e-3) is not moves  # the smallest mean square is 0.99


def test_only_a_division_of_each_power_keeps_the_parts_alike():
    for scale in (0.3, 1.0, 100.0):
        np.testing.assert_allclose(sizes(EACH, scale)[:3], 1 / 3, rtol=1e-2)  # eps beside 15 * 0.3^6 = 0.01
    assert sizes(AFTER, 0.1)[2] < 0.05 * sizes(AFTER, 0.1)[0]
    assert sizes(AFTER, 10)[0] < 0.05 * sizes(AFTER, 10)[2]
    assert sizes(AFTER, 10)[3] == pytest.approx(1, rel=1e-3)


def test_one_entry_runs_away_only_where_the_powers_come_after_the_division():
    largest = {place: float(PLACES[place](a_row(1, 40)).sum(dim=0).abs().max()) for place in PLACES}
    assert largest[BEFORE] > 1000
    assert largest[EACH] <= ROW_WIDTH**0.5
    assert "The largest entry comes out as 15.6." in alt(row_panels(EACH, 1, 40))


def test_the_row_stands_in_units_of_its_scale_and_the_start_stays_in_sight():
    figure = row_panels(NOWHERE, 10, 2.5)
    entries, start = trace(figure, "this row"), trace(figure, "at scale 1, without an outlier")
    np.testing.assert_allclose(np.array(entries.x), a_row(1, 2.5))
    np.testing.assert_allclose(np.array(entries.y), WHOLE[NOWHERE](a_row(10, 2.5)), rtol=1e-5)
    np.testing.assert_allclose(np.array(start.y), WHOLE[NOWHERE](a_row()), rtol=1e-5)
    np.testing.assert_allclose(np.array(trace(figure, "sizes, at scale 1, without an outlier").y), sizes(NOWHERE))


@pytest.mark.parametrize("place", PLACES)
def test_the_figure_says_its_numbers_has_a_table_and_a_static_twin(place):
    figure = row_panels(place, 0.01, 40)
    assert f"Divided: {place}. Row at scale 0.01, one entry at 40 times the scale." in alt(figure)
    for part, size in zip(PARTS, sizes(place, 0.01, 40), strict=True):
        assert f"{part} {size:.3g}" in alt(figure)
    assert list(table(figure)["sizes, this row"].loc[[1, 2, 3, 4]]) == list(trace(figure, "sizes, this row").y)
    assert "<details>" in fold(figure)
    picture = ElementTree.fromstring(static(figure))
    assert picture.get("aria-label") == alt(figure)
    numbers = [float(v) for e in picture.iter() for key in ("x", "y", "cx", "cy") if (v := e.get(key))]
    assert np.isfinite(numbers).all()
    assert set(PARTS) <= {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}


def test_an_unknown_place_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown place 'inside'; known: nowhere, before the powers, each"):
        compositions.row_panels("inside")
