"""Spectral filters: what they do to a spectrum, where gradients go, and what becomes of difficult batches."""

import math

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minipolycom.spectral import effective_rank, erank_correlation
from minipolycom.ssl.filters import GAINS, LOCATIONS, RELATIVE_CUTOFF, Filter

PLAIN = {
    "power": lambda s: s,
    "log": torch.log,
    "log1p": lambda s: torch.log(1 + s),
    "log1p_squared": lambda s: torch.log(1 + s * s),
}
"""The gains of arXiv 2303.02387 and its code, typed again."""

FILTERS = [
    *[Filter("power", "online", sigma) for sigma in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)],
    *[Filter("log1p", "target", sigma) for sigma in (-1.0, 0.5, 1.0)],
    *[Filter("log1p_squared", "online", sigma) for sigma in (-1.0, 1.0)],
    Filter("log", "online", 1.0),
]


def batch(n: int = 40, width: int = 12, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, dtype=dtype, generator=generator) * torch.logspace(0, -1, width, dtype=dtype)


# The matrix -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", FILTERS, ids=str)
@pytest.mark.parametrize(("n", "width"), [(40, 12), (12, 12), (7, 12), (1, 5), (9, 1)])
def test_the_matrix_is_that_of_the_singular_value_decomposition(filter, n, width) -> None:
    z = batch(n, width)
    expected = reference.spectral_filter(z, PLAIN[filter.kind], filter.sigma)
    # fp64; the Gram matrix squares the condition, 10 here, and negative powers magnify what that leaves
    torch.testing.assert_close(filter.matrix(z), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(filter(z), z @ expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("filter", [f for f in FILTERS if f.kind != "log"], ids=str)
def test_the_matrix_is_symmetric_and_positive_where_the_gain_is(filter) -> None:
    matrix = filter.matrix(batch())
    torch.testing.assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix).min() > 0


def test_sigma_zero_is_the_identity_on_the_span() -> None:
    for kind in GAINS:
        filter = Filter(kind, "online", 0.0)
        torch.testing.assert_close(filter(batch()), batch())
        low = batch(width=3) @ batch(3, 12, seed=1)  # rank 3 in 12 dimensions
        torch.testing.assert_close(filter(low), low)
        assert torch.linalg.matrix_rank(filter.matrix(low)) == 3


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_what_does_not_matter(filter) -> None:
    """Scale, the order of rows, their signs; and a rotation of the batch rotates the outcome."""
    z, matrix = batch(), filter.matrix(batch())
    shuffled = z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))]
    for same in (1e-3 * z, 1e150 * z, 1e-150 * z, -z, shuffled, torch.cat([z, z])):
        torch.testing.assert_close(filter.matrix(same), matrix, rtol=1e-8, atol=1e-8)
    turn = torch.linalg.qr(batch(12, 12, seed=2))[0]
    torch.testing.assert_close(filter(z @ turn), filter(z) @ turn, rtol=1e-8, atol=1e-8)


def test_equal_singular_values_are_no_difficulty() -> None:
    basis = torch.linalg.qr(batch(40, 12))[0]
    for filter in FILTERS:
        gain = float(filter.gain(torch.ones(1, dtype=torch.float64)))
        torch.testing.assert_close(filter(basis), gain * basis)


@pytest.mark.parametrize("sigma", [-2.0, -1.0, -0.5, 0.5, 1.0])
def test_a_power_filter_raises_eigenvalues_to_one_plus_sigma(sigma) -> None:
    z = batch()
    before, after = torch.linalg.svdvals(z) ** 2, torch.linalg.svdvals(Filter("power", "target", sigma)(z)) ** 2
    expected = (before ** (1 + sigma)).sort(descending=True).values
    torch.testing.assert_close(after / after[0], expected / expected[0])


def test_whitening_gives_the_rank_as_effective_rank() -> None:
    whitened = Filter("power", "target", -1.0)(batch())
    assert float(erank_correlation(whitened, normalise=False)) == pytest.approx(12)
    low = batch(width=3) @ batch(3, 12, seed=1)
    assert float(erank_correlation(Filter("power", "target", -1.0)(low), normalise=False)) == pytest.approx(3)


def test_over_whitening_turns_the_spectrum_upside_down() -> None:
    """The least singular value becomes the largest: one that is far below the others lowers the rank."""
    z = torch.linalg.qr(batch(40, 4))[0] * torch.tensor([1.0, 1.0, 1.0, 0.01])
    over = Filter("power", "target", -2.0)(z)
    assert over[:, 3].norm() > 90 * over[:, 0].norm()
    assert erank_correlation(over, normalise=False) < 1.1 < 2.9 < erank_correlation(z, normalise=False)


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 60), st.integers(1, 30), st.floats(0.1, 3), st.sampled_from(["power", "log1p", "log1p_squared"]))
def test_an_increasing_gain_lowers_the_rank_of_any_batch(n, width, sigma, kind) -> None:
    z = batch(n, width, seed=n * width)
    filtered = Filter(kind, "online", sigma)(z)
    ranks = [float(effective_rank(torch.linalg.svdvals(x) ** 2)) for x in (filtered, z)]
    assert ranks[0] <= ranks[1] * (1 + 1e-9)


def test_the_gain_is_relative_to_the_root_mean_square() -> None:
    s = torch.tensor([[7.0, 1.0], [70.0, 10.0]], dtype=torch.float64)  # rms 5 and 50
    expected = torch.tensor([[1.4, 0.2], [1.4, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(Filter("power", "online", 1.0).gain(s), expected)
    torch.testing.assert_close(Filter("power", "target", -0.5).gain(s), expected**-0.5)
    torch.testing.assert_close(Filter("log1p", "online", 2.0).gain(s), torch.log(1 + expected) ** 2)
    torch.testing.assert_close(Filter("log1p_squared", "online", 1.0).gain(s), torch.log(1 + expected**2))
    assert (Filter("log", "online", 1.0).gain(s)[:, 1] < 0).all()


# Where gradients go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_gradients_flow_as_if_the_matrix_were_frozen(filter) -> None:
    z, weight = batch().requires_grad_(), batch(seed=3)
    ours = torch.autograd.grad((filter(z) * weight).sum(), z)[0]
    frozen = filter.matrix(z).detach()
    assert not filter.matrix(z).requires_grad
    torch.testing.assert_close(ours, torch.autograd.grad((z @ frozen * weight).sum(), z)[0])


def test_a_repeated_singular_value_gives_finite_gradients() -> None:
    z = torch.eye(6, dtype=torch.float64, requires_grad=True)  # the gradient of its decomposition is NaN
    Filter("power", "online", 1.0)(z).square().sum().backward()
    assert z.grad.isfinite().all()


def test_a_filter_acts_on_its_own_branch() -> None:
    for location in LOCATIONS:
        filter = Filter("power", location, 1.0)
        for branch in LOCATIONS:
            expected = filter(batch()) if branch == location else batch()
            torch.testing.assert_close(filter.on(branch, batch()), expected)


def test_the_spectrum_is_that_of_the_rows_of_all_processes() -> None:
    """Two halves that gather give the rows of the whole."""
    whole, filter = batch(), Filter("power", "online", 1.0)
    halves = [filter(half, gather=lambda rows: whole) for half in whole.split(20)]
    torch.testing.assert_close(torch.cat(halves), filter(whole))
    assert not torch.allclose(filter(whole[:20]), filter(whole)[:20])


# Difficult batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_difficult_batches_give_finite_rows(filter) -> None:
    batches = {
        "fewer rows than columns": batch(5, 12),
        "one row": batch(1, 12),
        "zeros": torch.zeros(8, 12, dtype=torch.float64),
        "rank 2": batch(40, 2) @ batch(2, 12, seed=1),
        "all rows alike": torch.ones(8, 12, dtype=torch.float64),
        "tiny": 1e-300 * batch(),
        "one huge entry": batch().index_fill(0, torch.tensor([0]), 1e30),
    }
    for what, z in batches.items():
        for dtype in (torch.float64, torch.float32):
            if dtype == torch.float32 and what in ("tiny", "one huge entry"):
                continue  # they leave fp32 before any filter sees them, or their product with a gain does
            rows = z.to(dtype, copy=True).requires_grad_()
            filtered = filter(rows)
            filtered.sum().backward()
            assert filtered.dtype == dtype, what
            assert filtered.isfinite().all(), what
            assert rows.grad.isfinite().all(), what


def test_zeros_stay_zeros() -> None:
    for filter in FILTERS:
        assert (filter(torch.zeros(8, 12)) == 0).all()


def test_rounding_errors_get_no_gain() -> None:
    """In fp32 a batch of rank 8 has singular values of rounding errors; whitening would make them directions."""
    z = (batch(64, 8) @ batch(8, 32, seed=1)).float()
    whitened = Filter("power", "target", -1.0)(z)
    shares = torch.linalg.svdvals(whitened).square()
    assert shares[8:].sum() / shares.sum() < 1e-6
    noise = 1e-6 * z.abs().max() * torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    cosine = torch.nn.functional.cosine_similarity(whitened, Filter("power", "target", -1.0)(z + noise))
    assert cosine.min() > 0.999


def test_the_cutoff_lies_where_it_is_said_to() -> None:
    for factor, rank in ((0.5, 1), (2.0, 2)):
        z = torch.diag(torch.tensor([1.0, factor * RELATIVE_CUTOFF], dtype=torch.float64))
        assert torch.linalg.matrix_rank(Filter("power", "online", 0.0).matrix(z)) == rank


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_in_and_comes_out(dtype) -> None:
    z = batch(64, 8).to(dtype)
    for filter in (Filter("power", "online", 1.0), Filter("power", "target", -1.0), Filter("log1p", "online", 1.0)):
        filtered = filter(z)
        assert filtered.dtype == dtype
        # One rounding of the outcome; its matrix is that of the rounded rows in fp64.
        torch.testing.assert_close(filtered, filter(z.double()).to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_a_batch_that_fits_is_not_lost_to_half_precision() -> None:
    """With raw singular values a collapsed batch of this size overflows fp16 at sigma = 2."""
    z = (torch.ones(256, 1) @ batch(1, 512, dtype=torch.float32)).half()
    assert (z.float() @ reference_power(z.float(), 2.0)).abs().max() > torch.finfo(torch.float16).max
    assert Filter("power", "online", 2.0)(z).isfinite().all()


def reference_power(z: torch.Tensor, sigma: float) -> torch.Tensor:
    """V diag(s^sigma) V^T with singular values as they are."""
    _, s, vh = torch.linalg.svd(z, full_matrices=False)
    kept = s > RELATIVE_CUTOFF * s[0]
    return (vh[kept].mT * s[kept] ** sigma) @ vh[kept]


def test_under_autocast_the_filter_computes_as_without() -> None:
    z, filter = batch(dtype=torch.float32), Filter("power", "target", -1.0)
    with torch.autocast("cpu", torch.bfloat16):
        filtered = filter(z)
    torch.testing.assert_close(filtered, filter(z), rtol=0, atol=0)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_numbers_are_counted_and_refused(bad) -> None:
    z = batch()
    z[3, 1] = z[3, 2] = z[7, 0] = bad
    with pytest.raises(ValueError, match="a filter needs finite outputs; 2 of 40 rows hold NaN or infinity"):
        Filter("power", "online", 1.0)(z)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a filter needs a batch; got no rows"):
        Filter("power", "online", 1.0)(torch.zeros(0, 4))


def test_a_filter_that_leaves_the_dtype_says_so() -> None:
    z = torch.diag(torch.tensor([1.0, 1.0, 2e-3])).half()
    with pytest.raises(ValueError, match=r"sigma=-4.0\) leaves the range of torch.float16: take a sigma nearer to 0"):
        Filter("power", "target", -4.0)(z)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of filter 'cube'; known: power, log, log1p, log1p_squared"):
        Filter("cube", "online", 1.0)
    with pytest.raises(ValueError, match="unknown location of a filter 'both'; known: online, target"):
        Filter("power", "both", 1.0)
    with pytest.raises(ValueError, match="sigma is a finite number; got nan"):
        Filter("power", "online", math.nan)
    with pytest.raises(ValueError, match=r"sigma is 0 or 1 with kind log; got 0\.5: log1p takes any sigma"):
        Filter("log", "online", 0.5)
