"""The theory of the rank difference: four statements on thousands of random spectra, the flow, the linear network."""

import pytest
import torch

from minipolycom.spectral import effective_rank
from minipolycom.ssl.dynamics import (
    DEMONSTRATED,
    INVARIANCE,
    agreement,
    best_linear_predictor,
    demonstration,
    equilibrium,
    filter_gains,
    filtered,
    flow,
    growth_rates,
    majorises,
    predictor_gains,
    train_linear,
    unfiltered,
    wiener_gain,
)
from minipolycom.ssl.filters import Filter

MANY, MODES = 20_000, 16
RHO = torch.tensor(INVARIANCE, dtype=torch.float64)
START = torch.logspace(0, -1, MODES, dtype=torch.float64)
LATE = torch.tensor([0.0, 1e5], dtype=torch.float64)


@pytest.fixture(autouse=True)
def one_thread():
    """Matrices of 16 by 16 are no work for two threads, which would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def falling(seed: int, n: int = MANY) -> torch.Tensor:
    """Random positive numbers over some six decades, each row from its largest to its smallest."""
    generator = torch.Generator().manual_seed(seed)
    spread = 3 * torch.rand(n, 1, dtype=torch.float64, generator=generator)
    values = (spread * torch.randn(n, MODES, dtype=torch.float64, generator=generator)).exp()
    return values.sort(dim=-1, descending=True).values


def uniform(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# A. Filters order the ranks -------------------------------------------------------------------------------------------


def test_an_increasing_gain_lowers_the_rank_of_every_spectrum() -> None:
    spectra, gains = falling(0), falling(1)
    sharper = filtered(spectra, gains)
    assert majorises(sharper, spectra).all()
    assert (effective_rank(sharper) < effective_rank(spectra)).all()  # strictly: no gain here is constant
    assert not majorises(spectra, sharper).any()


def test_a_constant_gain_changes_no_rank() -> None:
    spectra = falling(0)
    torch.testing.assert_close(
        effective_rank(filtered(spectra, torch.full_like(spectra, 0.3))), effective_rank(spectra)
    )


@pytest.mark.parametrize("kind", ["power", "log1p", "log1p_squared"])
def test_the_filters_of_the_package_order_the_ranks(kind) -> None:
    spectra = falling(2)
    for sigma in (0.1, 0.5, 1.0, 2.0):
        gains = Filter(kind, "online", sigma).gain(spectra.sqrt())
        assert (effective_rank(filtered(spectra, gains)) <= effective_rank(spectra)).all()
    for sigma in (-0.1, -0.5, -1.0):  # log1p(s^2) / s falls and rises, so the order of h^2 l may change above 1
        gains = Filter(kind, "target", sigma).gain(spectra.sqrt())
        if kind != "log1p_squared" or sigma > -0.6:
            assert (effective_rank(filtered(spectra, gains)) >= effective_rank(spectra) * (1 - 1e-12)).all()


def test_a_falling_gain_that_keeps_the_order_raises_the_rank() -> None:
    spectra = falling(3)
    gains = spectra ** (-uniform(4, MANY, 1) / 2)  # h^2 l = l^(1 - c) with c in [0, 1)
    flatter = filtered(spectra, gains)
    assert majorises(spectra, flatter).all()
    assert (effective_rank(flatter) >= effective_rank(spectra)).all()


def test_the_mirror_needs_the_order() -> None:
    """Over-whitening, h^2 l = l^(1 - c) with c from 1 to 3: in a good part of the spectra the rank falls instead."""
    spectra = falling(3)
    over = filtered(spectra, spectra ** (-0.5 - uniform(4, MANY, 1)))
    lower = (effective_rank(over) < effective_rank(spectra)).double().mean()
    assert 0.2 < lower < 0.8
    any_falling = filtered(spectra, falling(5).flip(-1))
    assert (effective_rank(any_falling) < effective_rank(spectra)).double().mean() > 0.01


def test_majorising_is_more_than_a_lower_rank() -> None:
    a = torch.tensor([0.60, 0.20, 0.20])
    b = torch.tensor([0.55, 0.40, 0.05])
    assert effective_rank(b) < effective_rank(a)
    assert not majorises(b, a)
    assert not majorises(a, b)
    assert majorises(a, a)
    assert majorises(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))  # in any order, of any sum


# B. Which modes grow --------------------------------------------------------------------------------------------------


def test_growth_is_the_gradient_of_the_cosine_loss() -> None:
    """Against autograd, with gains and target frozen, for a thousand spectra and gains."""
    spectra, rho, online, target = falling(6, 1000), uniform(7, 1000, MODES), falling(8, 1000), falling(9, 1000)
    for eigenvalues, r, g, h in zip(spectra, rho, online, target, strict=True):
        z = eigenvalues.sqrt().requires_grad_()
        t = eigenvalues.sqrt()
        loss = -(g * z * h * r * t).sum() / ((g * z).norm() * (h * t).norm())
        (gradient,) = torch.autograd.grad(loss, z)
        # d log l / dt = 2 dz/dt / z; the bracket is a difference, which loses digits where a mode is at its threshold
        rates = growth_rates(eigenvalues, r, g, h)
        torch.testing.assert_close(rates, -2 * gradient / z.detach(), rtol=1e-7, atol=1e-9 * float(rates.abs().max()))
        torch.testing.assert_close(agreement(eigenvalues, r, g, h), -loss.detach())


def test_a_mode_grows_where_its_ratio_is_above_the_common_threshold() -> None:
    for seed in range(1000):
        eigenvalues, g, h = (falling(seed + shift, 1)[0] for shift in (0, 1, 2))
        rho = uniform(seed, MODES)
        threshold = (g * h * rho * eigenvalues).sum() / filtered(eigenvalues, g).sum()
        torch.testing.assert_close(growth_rates(eigenvalues, rho, g, h) > 0, rho * h / g > threshold)


def test_growth_moves_energy_and_makes_none() -> None:
    for seed in range(1000):
        eigenvalues, g, h = (falling(seed + shift, 1)[0] for shift in (0, 1, 2))
        moved = eigenvalues * growth_rates(eigenvalues, uniform(seed, MODES), g, h)
        assert abs(float(moved.sum())) < 1e-9 * float(moved.abs().sum())


@pytest.mark.parametrize(
    ("filter", "rises"),
    [
        (Filter("power", "online", 0.5), True),
        (Filter("power", "online", 2.0), True),
        (Filter("log1p", "online", 1.0), True),
        (Filter("log1p_squared", "online", 1.0), True),
        (Filter("power", "target", -0.5), True),
        (Filter("power", "target", -1.0), True),
        (Filter("power", "online", -0.5), False),
        (Filter("power", "target", 0.5), False),
        (Filter("power", "target", 1.0), False),
    ],
    ids=str,
)
def test_between_equal_views_the_sign_of_the_filter_decides(filter, rises) -> None:
    """With rho = 1 everywhere the rank goes up to the number of modes, or down to 1."""
    rank = effective_rank(flow(START, torch.ones(MODES).double(), filter_gains(filter), LATE))
    assert float(rank[-1]) == pytest.approx(MODES if rises else 1, rel=1e-6)


def test_without_a_filter_one_mode_is_left() -> None:
    """The replicator equation on rho: the symmetric baseline's dimensional collapse."""
    times = torch.tensor([0.0, 1.0, 10.0, 100.0, 1e4]).double()
    spectra = flow(START.flip(0), RHO, unfiltered, times)
    assert int(spectra[-1].argmax()) == 0  # the most invariant mode, which began as the weakest
    assert float(effective_rank(spectra[-1])) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(spectra.sum(-1), spectra[0].sum().expand(5), rtol=1e-6, atol=0)


def test_along_the_flow_the_branches_agree_ever_more() -> None:
    """Without a filter the flow climbs the agreement; with one the gains move too and it need not."""
    spectra = flow(START, RHO, unfiltered, torch.logspace(-1, 3, 50).double())
    values = torch.stack([agreement(spectrum, RHO, *unfiltered(spectrum)) for spectrum in spectra])
    assert (values.diff() > -1e-7).all()
    assert float(values[-1]) == pytest.approx(float(RHO.max()), rel=1e-6)


# C. Where training ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["online", "target"])
@pytest.mark.parametrize("size", [0.5, 0.8, 1.0, 1.5, 2.0, 3.0])
def test_the_flow_of_a_power_filter_ends_at_the_predicted_spectrum(location, size) -> None:
    filter = Filter("power", location, size if location == "online" else -size)
    for seed in range(5):
        start, rho = falling(seed, 1)[0].clamp(0.1, 1), 0.3 + 0.65 * uniform(seed, MODES)
        end = flow(start, rho, filter_gains(filter), LATE)[-1]
        # Integrated to 1e-8 per step, long enough for the slowest mode: the weakest, under an online gain.
        torch.testing.assert_close(end / end.sum(), equilibrium(rho, filter), rtol=1e-5, atol=1e-8)


def test_nothing_moves_at_the_predicted_spectrum() -> None:
    for filter in DEMONSTRATED:
        for seed in range(300):
            rho = 0.05 + 0.95 * uniform(seed, MODES)
            eigenvalues = equilibrium(rho, filter)
            if eigenvalues.min() < 1e-7 * eigenvalues.max():
                continue  # under the filter's cutoff, where it has no gain
            assert growth_rates(eigenvalues, rho, *filter_gains(filter)(eigenvalues)).abs().max() < 1e-9


def test_a_stronger_filter_ends_flatter() -> None:
    ranks = [float(effective_rank(equilibrium(RHO, Filter("power", "target", -s)))) for s in (0.1, 0.3, 0.5, 1.0, 9.0)]
    assert ranks == sorted(ranks)
    assert ranks[0] < 3
    assert ranks[-1] > 15.9


@pytest.mark.parametrize(
    "filter",
    [
        Filter("power", "online", -0.5),
        Filter("power", "target", 1.0),
        Filter("power", "online", 0.0),
        Filter("log1p", "online", 1.0),
    ],
    ids=str,
)
def test_other_filters_have_no_predicted_spectrum(filter) -> None:
    with pytest.raises(ValueError, match=r"spectra settle under a power filter .* got Filter.* followed with flow\(\)"):
        equilibrium(RHO, filter)


# D. What a predictor learns -------------------------------------------------------------------------------------------


def test_at_the_gain_of_the_best_predictor_every_spectrum_is_frozen() -> None:
    for seed in range(1000):
        eigenvalues, rho = falling(seed, 1)[0], uniform(seed, MODES)
        rates = growth_rates(eigenvalues, rho, *predictor_gains(rho)(eigenvalues))
        assert rates.abs().max() < 1e-9 / float(eigenvalues.sum())
    spectra = flow(START, RHO, predictor_gains(RHO), LATE)
    torch.testing.assert_close(spectra[1], spectra[0])


def test_a_filter_steeper_than_the_best_predictor_raises_the_rank_and_a_flatter_one_lowers_it() -> None:
    start = equilibrium(RHO, Filter("power", "online", 1.0))  # l = rho^2, where a gain of l^a is one of rho^(2 a)
    times = torch.tensor([0.0, 1.0]).double()
    for exponent, rises in ((0.5, False), (0.9, False), (1.1, True), (2.0, True)):
        spectra = flow(start, RHO, lambda _, e=exponent: (RHO**e, torch.ones_like(RHO)), times)
        assert (effective_rank(spectra[1]) > effective_rank(spectra[0])) == rises


def test_the_best_linear_predictor_has_the_wiener_gain() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.tensor([4.0, 1.0, 0.25, 0.25]).double()
    noise = torch.tensor([0.5, 0.5, 0.5, 2.0]).double()
    shared, first, second = torch.randn(3, 200_000, 4, dtype=torch.float64, generator=generator)
    views = [shared * signal.sqrt() + own * noise.sqrt() for own in (first, second)]
    rho = wiener_gain(signal, noise)
    assert rho.tolist() == pytest.approx([8 / 9, 2 / 3, 1 / 3, 1 / 9])
    # A regression on 200,000 rows; the largest ratio of standard deviations is 3, so an entry's is 3 / 447 = .007.
    torch.testing.assert_close(best_linear_predictor(*views), torch.diag(rho), rtol=0, atol=0.03)


def test_the_best_linear_predictor_of_a_rank_deficient_batch_is_finite() -> None:
    z = torch.zeros(5, 3)
    z[:, 0] = torch.arange(5)
    torch.testing.assert_close(best_linear_predictor(z, 2 * z), torch.diag(torch.tensor([2.0, 0.0, 0.0])))


# What is refused ------------------------------------------------------------------------------------------------------


def test_flows_that_cannot_be_followed_are_refused() -> None:
    with pytest.raises(ValueError, match="starts from positive eigenvalues: a mode without energy never gets any"):
        flow(torch.tensor([1.0, 0.0]).double(), RHO[:2], unfiltered, LATE)
    for times in ([1.0, 1.0], [-1.0, 1.0], []):
        with pytest.raises(ValueError, match="times increase, from 0 or later; got"):
            flow(START, RHO, unfiltered, torch.tensor(times).double())


def test_a_filter_and_a_predictor_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="a branch has a filter or a predictor; got both, Filter"):
        train_linear(DEMONSTRATED[0], predictor=True)


# The linear network ---------------------------------------------------------------------------------------------------


def test_measured_ranks_are_within_five_per_cent_of_the_predicted() -> None:
    rows = demonstration()
    assert [(row["location"], row["sigma"]) for row in rows] == [(f.location, f.sigma) for f in DEMONSTRATED]
    for row in rows:
        assert abs(row["error"]) < 0.05, row
        assert row["error"] == pytest.approx(row["measured"] / row["predicted"] - 1)
    predicted = {(row["location"], row["sigma"]): row["predicted"] for row in rows}
    assert predicted["online", 1.0] == predicted["target", -1.0] == pytest.approx(13.4, abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_wrong_sign_and_no_filter_lose_modes_a_predictor_and_the_right_sign_do_not(seed) -> None:
    def ranks(**settings) -> list[float]:
        return [row["effective_rank"] for row in train_linear(steps=300, seed=seed, rows_every=300, **settings)]

    (start, wrong) = ranks(filter=Filter("power", "target", 1.0))
    assert start > 10
    assert wrong < 1.5
    assert ranks()[-1] < 4
    assert ranks(filter=Filter("power", "target", -1.0))[-1] > 12.5
    assert ranks(predictor=True)[-1] == pytest.approx(start, rel=0.15)  # near to frozen: it learns as the rank moves


def test_the_energies_of_modes_follow_the_law() -> None:
    rows = train_linear(Filter("power", "online", 1.0), rows_every=500)
    assert [row["step"] for row in rows] == [0, 500, 1000]
    law = equilibrium(RHO, Filter("power", "online", 1.0))
    # Shares from .11 to .01; at the end, one run's shares stray from the law by what its batches of 1024 leave in them.
    torch.testing.assert_close(torch.tensor(rows[-1]["energies"]).double(), law, rtol=0, atol=0.01)
    assert train_linear(steps=3, seed=5) == train_linear(steps=3, seed=5)
