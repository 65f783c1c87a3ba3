"""Spectra: known answers, what the mathematics promises, every dtype and scale, what is refused."""

import inspect
import math

import jaxtyping
import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minipolycom import spectral
from minipolycom.model import GPT, GPTConfig
from minipolycom.spectral import (
    correlation,
    correlation_eigenvalues,
    decay_exponent,
    effective_rank,
    eigenspace_alignment,
    erank_correlation,
    known_rank_table,
    layer_similarity,
    participation_ratio,
    random_alignment,
    rankme,
    singular_values,
    stable_rank,
    weight_spectra,
)

MEASURES = (effective_rank, stable_rank, participation_ratio)
NARROW = {torch.float16: 6e4, torch.bfloat16: 3e38, torch.float32: 3e38}
"""Dtypes whose singular values come from the Gram matrix, with nearly the largest number each can hold."""
HARMONIC = 1 / torch.arange(1, 65, dtype=torch.float64)


def matrix(n: int, d: int, seed: int = 0, rank: int | None = None) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(n, d, dtype=torch.float64, generator=random)
    left, right = (torch.randn(*size, dtype=torch.float64, generator=random) for size in ((n, rank), (rank, d)))
    return left @ right


def with_spectrum(values: torch.Tensor, n: int, seed: int = 0) -> torch.Tensor:
    """A matrix with these singular values and random singular vectors."""
    left, right = (torch.linalg.qr(matrix(size, len(values), seed + i)).Q for i, size in enumerate((n, len(values))))
    return (left * values) @ right.mT


def unchecked(function):
    """Without jaxtyping's hook, as a user meets it."""
    return inspect.unwrap(function)


# Known answers


def test_the_effective_ranks_of_one_spectrum_differ():
    # The table at the head of the module, to the digits that it prints.
    assert float(effective_rank(HARMONIC)) == pytest.approx(29.1, abs=0.05)
    assert float(effective_rank(HARMONIC**2)) == pytest.approx(4.67, abs=0.005)
    assert float(participation_ratio(HARMONIC)) == pytest.approx(2.45, abs=0.005)
    assert float(stable_rank(HARMONIC)) == pytest.approx(1.63, abs=0.005)
    for power in (1, 2):
        assert float(decay_exponent(HARMONIC**power, first=1, last=64)) == pytest.approx(power, abs=1e-12)
    x = with_spectrum(HARMONIC, 200)
    assert float(rankme(x, eps=1e-7)) == pytest.approx(29.1, abs=0.05)
    assert float(erank_correlation(x, normalise=False)) == pytest.approx(4.67, abs=0.005)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_values_count(rank):
    x = with_spectrum(torch.tensor([2.0] * rank + [0.0] * (8 - rank), dtype=torch.float64), 20)
    s = singular_values(x, centre=False)
    for measure in MEASURES:
        assert float(measure(s)) == pytest.approx(rank, abs=1e-9)  # rounding of s is near 1e-16
    assert float(effective_rank(s**2)) == pytest.approx(rank, abs=1e-9)


def test_measures_are_the_formulas_typed_again():
    x = matrix(30, 9)
    s = np.linalg.svd(x.numpy(), compute_uv=False)
    rounding = {"rel": 1e-10}  # both sides are fp64; sums of 9 terms
    assert float(effective_rank(singular_values(x, centre=False))) == pytest.approx(
        reference.entropy_rank(s), **rounding
    )
    assert float(rankme(x, 1e-3)) == pytest.approx(reference.rankme(x.numpy(), 1e-3), **rounding)
    for normalise in (False, True):
        expected = reference.erank_of_correlation(x.numpy(), normalise)
        assert float(erank_correlation(x, normalise=normalise)) == pytest.approx(expected, **rounding)
    assert float(stable_rank(torch.tensor(s))) == pytest.approx((s**2).sum() / s[0] ** 2, **rounding)
    assert float(participation_ratio(torch.tensor(s))) == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), **rounding)


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (1, 5), (5, 1), (1, 1)])
def test_singular_values_are_those_of_the_decomposition(shape):
    x = matrix(*shape)
    for centre in (False, True):
        taken = x - x.mean(0) if centre else x
        expected = torch.linalg.svdvals(taken)
        # Both paths, fp64's own and the Gram matrix of fp32 entries, which are x's up to their rounding of 2^-24.
        torch.testing.assert_close(singular_values(x, centre=centre), expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(singular_values(x.float(), centre=centre), expected, rtol=0, atol=1e-6)


def test_a_stack_of_matrices_has_a_spectrum_each():
    x = torch.stack([matrix(12, 5), 1e-30 * matrix(12, 5, seed=1), torch.zeros(12, 5)]).float()
    s = singular_values(x, centre=True)
    assert s.shape == (3, 5)
    for i in range(3):
        torch.testing.assert_close(s[i], singular_values(x[i], centre=True), rtol=1e-12, atol=0)
    for measure in MEASURES:
        assert measure(s).tolist() == pytest.approx([float(measure(row)) for row in s])


def test_the_eigenvalues_are_those_of_the_correlation_matrix():
    x = matrix(40, 6) + 3
    for normalise in (False, True):
        for centre in (False, True):
            c = correlation(x, normalise=normalise, centre=centre)
            found = correlation_eigenvalues(x, normalise=normalise, centre=centre)
            torch.testing.assert_close(found, torch.linalg.eigvalsh(c).flip(0), rtol=1e-9, atol=1e-12)
    assert float(correlation(x, normalise=True, centre=False).trace()) == pytest.approx(1)


def test_decay_is_fitted_in_the_stated_range_only():
    position = torch.arange(1, 101, dtype=torch.float64)
    bent = torch.where(position < 20, 20.0**-0.5 * position**-0.5, position**-1.0)  # -0.5 up to 20, then -1
    assert float(decay_exponent(bent, first=1, last=19)) == pytest.approx(0.5)
    assert float(decay_exponent(bent, first=20, last=100)) == pytest.approx(1.0)
    assert 0.5 < float(decay_exponent(bent, first=1, last=100)) < 1
    assert float(decay_exponent(bent.flip(0), first=20, last=100)) == pytest.approx(1.0)  # in any order


# What the mathematics promises

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=40)
@given(size=sizes, rank=st.integers(1, 12), seed=seeds)
def test_every_measure_lies_between_one_and_the_rank_in_the_stated_order(size, rank, seed):
    x = matrix(*size, seed=seed, rank=min(rank, *size))
    s = singular_values(x, centre=False)
    steps = [effective_rank(s), effective_rank(s**2), participation_ratio(s), stable_rank(s)]
    held = int(torch.linalg.matrix_rank(x))
    slack = 1e-9  # of rounding, where two are equal
    assert 1 - slack <= steps[-1] <= steps[-2] + slack <= steps[-3] + 2 * slack <= steps[-4] + 3 * slack <= held + 1e-6
    assert float(erank_correlation(x, normalise=False)) == pytest.approx(float(effective_rank(s**2)))


@settings(deadline=None, max_examples=40)
@given(size=sizes, seed=seeds, scale=st.floats(1e-30, 1e30), centre=st.booleans())
def test_neither_scale_nor_rotation_nor_order_matters(size, seed, scale, centre):
    x = matrix(*size, seed=seed)
    turn = torch.linalg.qr(matrix(size[1], size[1], seed=seed + 1)).Q
    s = singular_values(x, centre=centre)
    for other in (scale * x, x @ turn, x.flip(0), -x):
        changed = singular_values(other, centre=centre)
        for measure in MEASURES:
            assert float(measure(changed)) == pytest.approx(float(measure(s)), rel=1e-6)
        assert float(rankme(other, 1e-7)) == pytest.approx(float(rankme(x, 1e-7)), rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(size=st.tuples(st.integers(2, 12), st.integers(1, 12)), seed=seeds, scale=st.floats(1e-3, 1e3))
def test_cka_ignores_rotation_shift_and_scale_and_cosine_ignores_lengths(size, seed, scale):
    x, y = matrix(*size, seed=seed), matrix(*size, seed=seed + 1)
    turn = torch.linalg.qr(matrix(size[1], size[1], seed=seed + 2)).Q
    found = layer_similarity([x, scale * x @ turn + 1, y])
    assert float(found.cka[0, 1]) == pytest.approx(1, abs=1e-6)
    assert float(found.cka[0, 2]) == pytest.approx(reference.linear_cka(x.numpy(), y.numpy()), abs=1e-6)
    lengths = 1 + torch.rand(size[0], 1, dtype=torch.float64)
    assert float(layer_similarity([x, lengths * x]).cosine[0, 1]) == pytest.approx(1, abs=1e-9)
    for similarity in found:
        assert torch.equal(similarity, similarity.mT)
        torch.testing.assert_close(similarity.diagonal(), torch.ones(3, dtype=torch.float64))
        assert similarity.abs().max() <= 1 + 1e-9


def test_gradients_are_those_of_finite_differences():
    x = matrix(7, 5).requires_grad_()

    def measured(x):
        s = singular_values(x, centre=True)
        parts = [measure(s) for measure in MEASURES] + [decay_exponent(s, first=1, last=4), rankme(x, 1e-3)]
        cka = layer_similarity([x, x**2]).cka[0, 1]
        return torch.stack([*parts, erank_correlation(x, normalise=True), cka])

    assert torch.autograd.gradcheck(measured, x)
    reference_ = correlation(matrix(7, 5, seed=1), normalise=False, centre=False)
    aligned = lambda x: eigenspace_alignment(correlation(x, normalise=False, centre=False), reference_)  # noqa: E731
    assert torch.autograd.gradcheck(aligned, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_where_the_rank_is_deficient(dtype):
    half = matrix(9, 3).to(dtype).requires_grad_()
    x = torch.cat([half, half], 1)
    sum(measure(singular_values(x, centre=False)) for measure in MEASURES).backward()
    assert half.grad.isfinite().all()
    assert half.grad.abs().max() > 0


# Dtypes, scales, degenerate matrices


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("scale", [1.0, "huge", "tiny"])
def test_narrow_dtypes_agree_with_fp64(dtype, scale):
    unit = matrix(48, 20).clamp(-3, 3) / 4
    factor = {"huge": NARROW[dtype], "tiny": torch.finfo(dtype).tiny * 64}.get(scale, scale)
    x = (unit * factor).to(dtype)
    s, expected = singular_values(x, centre=True), singular_values(x.double(), centre=True)
    assert s.dtype == torch.float64
    tolerance = math.sqrt(torch.finfo(torch.float64).eps * 48)  # as the module states: of the Gram matrix
    assert float((s - expected).abs().max() / expected[0]) < tolerance
    for measure in MEASURES:
        assert float(measure(s)) == pytest.approx(float(measure(expected)), rel=10 * tolerance)
    for both in (x, x.double()):  # and all of it is finite
        assert math.isfinite(erank_correlation(both, normalise=True) + rankme(both, 1e-7))
        assert all(m.isfinite().all() for m in layer_similarity([both, both.flip(0)]))
        c = correlation(both, normalise=True, centre=False)
        assert eigenspace_alignment(c, c).isfinite().all()
        assert random_alignment(c).isfinite()


@pytest.mark.parametrize("dtype", [*NARROW, torch.float64])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_constant_matrix_has_rank_one_and_centred_rank_zero(dtype, scale):
    x = (torch.linspace(0.1, 0.7, 11) * scale).to(dtype).repeat(300, 1)
    for measure in MEASURES:
        assert float(measure(singular_values(x, centre=False))) == pytest.approx(1, abs=1e-9)
        assert float(measure(singular_values(x, centre=True))) == 0
    assert layer_similarity([x, x]).cka.tolist() == [[0, 0], [0, 0]]
    assert layer_similarity([x, -x]).cosine[0, 1] == pytest.approx(-1)


@pytest.mark.parametrize("dtype", [*NARROW, torch.float64])
def test_zeros_have_rank_zero(dtype):
    x = torch.zeros(6, 4, dtype=dtype)
    for measure in MEASURES:
        assert float(measure(singular_values(x, centre=False))) == 0
    assert float(erank_correlation(x, normalise=True)) == 0
    assert float(rankme(x, 1e-7)) == pytest.approx(1, abs=1e-4)  # four shares of 1e-7
    zero = correlation(x, normalise=True, centre=True)
    assert eigenspace_alignment(zero, zero).tolist() == [0] * 4
    assert all(m.tolist() == [[0, 0], [0, 0]] for m in layer_similarity([x, x]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_below_rounding_is_no_direction(dtype):
    x = matrix(200, 64, rank=5).to(dtype)
    s = singular_values(x, centre=False)
    # The rounding of fp32 entries is itself a spectrum of full rank, 2^-24 as high; fp64's is cut off.
    assert float(s[5] / s[0]) < 1e-6
    assert dtype == torch.float32 or s[5:].tolist() == [0] * 59
    assert float(effective_rank(s)) < 5.001


def test_measuring_needs_no_graph():
    x = matrix(9, 4).requires_grad_()
    with torch.no_grad():
        assert not effective_rank(singular_values(x, centre=True)).requires_grad
        # without a graph the faster path is taken, with the same result
        torch.testing.assert_close(
            singular_values(x.float(), centre=True), singular_values(x.double(), centre=True), rtol=1e-5, atol=0
        )


# Alignment and similarity


def test_alignment_is_one_for_shared_eigenvectors_and_random_directions_are_not_zero():
    vectors = torch.linalg.qr(matrix(16, 16)).Q
    values = 0.8 ** torch.arange(16, dtype=torch.float64)
    reference_, filtered = ((vectors * v) @ vectors.mT for v in (values, values**3))
    torch.testing.assert_close(eigenspace_alignment(filtered, reference_), torch.ones(16, dtype=torch.float64))
    baseline = float(random_alignment(filtered))
    assert 0.3 < baseline < 0.8
    other = torch.linalg.qr(matrix(16, 16, seed=1)).Q
    unrelated = eigenspace_alignment((other * values**3) @ other.mT, reference_)
    assert float(unrelated.mean()) == pytest.approx(baseline, abs=0.12)  # 16 directions against their expectation
    assert float(random_alignment(torch.eye(16))) == pytest.approx(1)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_the_random_baseline_is_about_the_root_of_the_participation_ratio(power):
    values = torch.arange(1, 129, dtype=torch.float64) ** -power
    ratio = math.sqrt(float(participation_ratio(values.sqrt())) / 128)
    assert float(random_alignment(values.diag())) == pytest.approx(
        ratio, rel=0.1
    )  # the nearer, the more directions count


def test_the_random_baseline_is_the_seed_s():
    c = correlation(matrix(30, 5), normalise=True, centre=False)
    assert random_alignment(c, seed=3) == random_alignment(c, seed=3) != random_alignment(c, seed=4)


# The matrices of a model


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"activation": "polynorm"}, {(-1, "up"), (-1, "down")}),
        ({"activation": "swiglu"}, {(-1, "up"), (-1, "gate"), (-1, "down")}),
        ({"n_experts": 3, "n_shared_experts": 1, "coefficients": "per_expert"},
         {(e, t) for e in (-1, 0, 1, 2) for t in ("up", "down")}),
        ({"activation": "geglu", "n_experts": 2}, {(e, t) for e in (0, 1) for t in ("up", "gate", "down")}),
    ],
)  # fmt: skip
def test_weight_spectra_have_a_row_for_each_matrix_of_each_layer(settings_, expected):
    model = GPT(GPTConfig(n_layers=2, n_heads=2, d_model=16, context=8, **settings_))
    rows = weight_spectra(model)
    assert len(rows) == 2 * len(expected)
    for layer in (0, 1):
        assert {(row["expert"], row["tensor"]) for row in rows if row["layer"] == layer} == expected
    for row in rows:
        assert len(row["singular_values"]) == 16
        assert row["effective_rank"] == pytest.approx(reference.entropy_rank(row["singular_values"]))
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_weight_spectra_are_of_the_weights():
    model = GPT(GPTConfig(n_layers=2, n_heads=2, d_model=16, context=8))
    with torch.no_grad():
        model.blocks[1].feed_forward.down.weight.copy_(matrix(16, 64, rank=1))
    ranks = {(row["layer"], row["tensor"]): row["effective_rank"] for row in weight_spectra(model)}
    assert ranks[1, "down"] == pytest.approx(1, abs=1e-4)
    assert min(rank for place, rank in ranks.items() if place != (1, "down")) > 8


# Data of known rank


def test_data_of_known_rank_without_noise_have_that_rank_by_every_measure():
    for row in known_rank_table([1, 2, 4, 8, 16], noise=0.0, seed=0):
        rank = row.pop("rank")
        assert row.pop("noise") == 0
        for name, estimate in row.items():
            # 1024 samples leave singular values of the latent uneven by (r / 1024)^(1/2), which stable_rank squares.
            low = 1 - (2.5 if name == "stable_rank" else 1) * math.sqrt(rank / 1024)
            assert low * rank <= estimate <= rank + 1e-2, (name, rank)


def test_noise_hides_the_rank_from_singular_values_first():
    rows = known_rank_table([1, 2, 4, 8, 16, 32], noise=0.1, seed=1)
    by_name = {name: [row[name] for row in rows] for name in rows[0]}
    # Energies: 64 directions of 0.01 beside rank of 1.01, so at rank 8 and more the estimate is near.
    for name in ("participation_ratio", "stable_rank"):
        assert by_name[name] == sorted(by_name[name])
        for rank, estimate in zip(by_name["rank"][2:], by_name[name][2:], strict=True):
            assert estimate == pytest.approx(rank, rel=0.35)
    # Lengths: 60 directions of 0.1 outweigh a few of 1, so these see a rank near 40 whatever it is, even a falling one.
    for name in ("effective_rank", "rankme"):
        assert min(by_name[name]) > 30
        assert by_name[name][0] > by_name[name][3]
    assert by_name["effective_rank"] > by_name["erank_correlation"] > by_name["participation_ratio"]
    assert known_rank_table([4], 0.1, 2) == known_rank_table([4], 0.1, 2) != known_rank_table([4], 0.1, 3)


def test_more_noise_never_means_a_smaller_estimate():
    estimates = [known_rank_table([4], noise, seed=0)[0] for noise in (0.0, 0.03, 0.1, 0.3, 1.0)]
    for name in ("effective_rank", "participation_ratio", "stable_rank", "rankme", "erank_correlation"):
        values = [row[name] for row in estimates]
        assert values == sorted(values), name


# What is refused


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0, 4), r"rows, columns and real entries; got torch.float32 of the shape \(0, 4\)"),
        (torch.zeros(4, 0), r"got torch.float32 of the shape \(4, 0\)"),
        (torch.zeros(4), r"got torch.float32 of the shape \(4,\)"),
        (torch.ones(4, 4, dtype=torch.int64), "got torch.int64"),
        (torch.ones(4, 4, dtype=torch.complex64), "got torch.complex64"),
        (torch.full((4, 3), math.nan), "12 of 12 entries are NaN or infinite"),
        (torch.tensor([[1.0, math.inf], [2.0, 3.0]]), "1 of 4 entries are NaN or infinite"),
        (torch.tensor([[1.0, math.inf], [2.0, 3.0]], dtype=torch.float16), "1 of 4 entries"),
        (torch.tensor([[1.0, -math.inf], [2.0, 3.0]], dtype=torch.bfloat16), "1 of 4 entries"),
    ],
)
def test_what_is_no_matrix_is_refused(bad, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    calls = [
        lambda: singular_values(bad, centre=True),
        lambda: correlation(bad, normalise=False, centre=True),
        lambda: correlation_eigenvalues(bad, normalise=True, centre=False),
        lambda: erank_correlation(bad, normalise=True),
        lambda: rankme(bad, 1e-7),
        lambda: layer_similarity([bad, bad]),
        lambda: eigenspace_alignment(bad, torch.eye(2)),
        lambda: random_alignment(bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0), r"at least one real number; got torch.float32 of the shape \(0,\)"),
        (torch.tensor(1.0), r"at least one real number; got torch.float32 of the shape \(\)"),
        (torch.tensor([3, 1]), "got torch.int64"),
        (torch.tensor([1.0, math.nan]), "a spectrum of finite numbers .*1 of 2 entries"),
        (torch.tensor([1.0, -0.5]), r"not negative; its least is -0.5, its largest 1"),
    ],
)
@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_spectrum_is_refused(measure, bad, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        measure(bad)


def test_an_eigenvalue_of_zero_may_be_computed_as_a_little_less():
    assert float(effective_rank(torch.tensor([1.0, -1e-8]))) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: decay_exponent(HARMONIC, first=0, last=9),
            "at least two of the 64 values, counted from 1; got first=0",
        ),
        (lambda: decay_exponent(HARMONIC, first=5, last=5), "got first=5, last=5"),
        (lambda: decay_exponent(HARMONIC, first=1, last=65), "got first=1, last=65"),
        (lambda: unchecked(decay_exponent)(HARMONIC, first=1, last=9.0), "last is a whole number; got 9.0"),
        (lambda: decay_exponent(torch.tensor([1.0, 0.5, 0.0]), first=1, last=3), "values 1 to 3 hold one; choose a sm"),
        (lambda: rankme(torch.eye(3), 0.0), "eps is positive, as 1e-7 is; got 0.0: without one, take effective_rank"),
        (lambda: rankme(torch.eye(3), math.nan), "eps is a finite number; got nan"),
        (lambda: layer_similarity([]), r"one shape; got \[\]"),
        (lambda: unchecked(layer_similarity)([torch.eye(2), torch.eye(3)]), r"got \[\(2, 2\), \(3, 3\)\]"),
        (lambda: unchecked(eigenspace_alignment)(torch.eye(2), torch.eye(3)), r"one size; got \(2, 2\) and \(3, 3\)"),
        (
            lambda: unchecked(random_alignment)(torch.ones(2, 3)),
            r"of the shape \(2, 3\) that is not: make one with corr",
        ),
        (lambda: random_alignment(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "symmetric matrices; got"),
        (lambda: random_alignment(torch.eye(2), n_directions=0), "n_directions is at least 1; got 0"),
        (lambda: random_alignment(torch.eye(2), seed=-1), "seed is a whole number from 0"),
        (lambda: known_rank_table([0], 0.1, 0), r"min\(n_samples, width\) = 64; got 0"),
        (lambda: known_rank_table([65], 0.1, 0), "got 65"),
        (lambda: known_rank_table([1], -0.1, 0), "noise is a standard deviation, not negative; got -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_s_letters_are_the_package_s():
    assert "R singular values" in inspect.getdoc(__import__("minipolycom"))
    assert "R singular values" in spectral.__doc__
