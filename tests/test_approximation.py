"""The theory: exact gadgets, the sawtooth and its lower bound, measured rates, and fits at equal size."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from minipolycom import approximation as theory
from minipolycom.activations import PolyReLU
from minipolycom.approximation import SHARED, pure

WAVE = lambda x: torch.sin(2 * math.pi * x[:, 0]) + 0.5 * torch.cos(5 * x[:, 0])  # noqa: E731
RIPPLE = lambda x: torch.sin(2 * x[:, 0] + x[:, 1]) + 0.5 * torch.cos(3 * x[:, 0] * x[:, 1])  # noqa: E731
TARGETS = {1: WAVE, 2: RIPPLE}


def line(lower: float = -1, upper: float = 1, n: int = 1001) -> torch.Tensor:
    return torch.linspace(lower, upper, n, dtype=torch.float64)[:, None]


def scattered(n: int, dimension: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distance(network: nn.Sequential, x: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((network(x)[:, 0] - wanted).abs().max())


# 1. Exact gadgets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", range(1, 9))
def test_two_neurons_make_any_power(power):
    network, x = theory.monomial(power, pure(power)), line()
    assert theory.network_size(network).neurons == 2
    assert distance(network, x, x[:, 0] ** power) < 1e-14


@pytest.mark.parametrize("power", [1, 2, 3])
def test_six_neurons_with_the_shared_vector_make_any_power(power):
    network, x = theory.monomial(power, SHARED), line()
    assert theory.network_size(network) == theory.Size(depth=1, neurons=6, parameters=6 + 6 + 4 + 6 + 1)
    assert isinstance(network[1], PolyReLU)
    assert network[1].weight.tolist() == [1 / 3] * 3
    assert distance(network, x, x[:, 0] ** power) < 1e-12


@pytest.mark.parametrize("weight", [(0.5, -2.0), (1.0, 0.0, 3.0), (0.2, 0.3, -0.1, 0.4), (1 / 5,) * 5])
def test_any_vector_makes_the_powers_it_holds(weight):
    x = line()
    for power in range(1, len(weight) + 1):
        if weight[-power] == 0:
            continue
        network = theory.monomial(power, weight)
        assert theory.network_size(network).neurons == 2 * sum(a != 0 for a in weight)
        # Rounding errors grow by the factor that `cancellation` states; a few operations each make some.
        assert distance(network, x, x[:, 0] ** power) < 20 * 2.0**-52 * theory.cancellation(power, weight)


def test_the_shared_combinations_are_these_whole_numbers():
    for power, factors in {1: (1, -12, 32), 2: (-6, 60, -96), 3: (8, -48, 64)}.items():
        scales, found = theory.power_combination(power, SHARED)
        assert scales.tolist() == [1, 0.5, 0.25]
        assert found.tolist() == pytest.approx(factors, rel=1e-13)


def test_sharing_costs_digits():
    assert [theory.cancellation(p, pure(p)) for p in (1, 2, 3)] == [1, 1, 1]
    assert [theory.cancellation(p, SHARED) for p in (1, 2, 3)] == pytest.approx([8, 34, 29], rel=1e-12)
    costs = [theory.cancellation(2, (1 / r,) * r) for r in range(2, 9)]
    assert costs == sorted(costs)


@pytest.mark.parametrize(("weight", "neurons"), [((1.0,), 1), (SHARED, 3)])
def test_the_rectifier_is_a_polyrelu_network(weight, neurons):
    network, x = theory.rectified_power(1, weight), line()
    assert theory.network_size(network).neurons == neurons
    assert distance(network, x, torch.relu(x[:, 0])) < 1e-13
    assert (network(x[x[:, 0] <= 0]) == 0).all()


@pytest.mark.parametrize(
    ("n_factors", "weight", "neurons"),
    [(2, pure(2), 4), (3, pure(3), 8), (4, pure(4), 16), (2, SHARED, 12), (3, SHARED, 24)],
)
def test_products_are_exact(n_factors, weight, neurons):
    network, x = theory.product(n_factors, weight), 2 * scattered(500, n_factors) - 1
    assert theory.network_size(network).neurons == neurons
    assert distance(network, x, x.prod(dim=1)) < 1e-12


def test_constructions_are_frozen_double_and_thaw():
    network = theory.monomial(2, SHARED)
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in network.parameters())
    network.requires_grad_()
    network(line()).sum().backward()
    assert network[0].weight.grad.abs().max() > 0


# 2. What ReLU must pay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(1, 11))
def test_the_sawtooth_has_its_error_its_neurons_and_its_pieces(m):
    network = theory.sawtooth(m)
    x = line(0, 1, 2 ** (m + 2) + 1)  # holds the middles of all pieces, where the error is largest
    assert distance(network, x, x[:, 0] ** 2) == 2.0 ** (-2 * m - 2)
    meets = line(0, 1, 2**m + 1)
    assert torch.equal(network(meets), meets**2)
    size = theory.network_size(network)
    assert (size.depth, size.neurons) == (m, 3 * m - 1)
    assert not any(isinstance(module, PolyReLU) for module in network)
    assert theory.count_pieces(network) == 2**m


@pytest.mark.parametrize("m", [1, 4, 7])
def test_the_lowered_sawtooth_attains_the_least_error(m):
    network, x = theory.sawtooth(m), line(0, 1, 2 ** (m + 2) + 1)
    assert distance(network, x, x[:, 0] ** 2) == 2 * theory.least_error(2**m)
    network[-1].bias -= 2.0 ** (-2 * m - 3)
    assert distance(network, x, x[:, 0] ** 2) == theory.least_error(2**m)


def test_the_best_line_misses_a_square_by_an_eighth():
    x = line(0, 1, 2001)[:, 0]
    lines = [(slope, shift) for slope in torch.linspace(0.9, 1.1, 21) for shift in torch.linspace(-0.2, 0, 41)]
    best = min(float((x**2 - slope * x - shift).abs().max()) for slope, shift in lines)
    assert best == pytest.approx(theory.least_error(1), abs=1e-6)


@pytest.mark.parametrize("widths", [(5,), (9,), (4, 6), (8, 8), (3, 4, 5)])
def test_pieces_are_counted_and_bounded(widths):
    for seed in range(4):
        torch.manual_seed(seed)
        sizes = [1, *widths]
        modules = [m for a, b in zip(sizes, widths, strict=False) for m in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(*modules, nn.Linear(widths[-1], 1)).double()
        with torch.no_grad():
            network[0].weight *= 4  # bends inside the interval
        found = theory.count_pieces(network, -1.0, 1.0)
        # The same by brute force: how often the slope changes along many points.
        x = line(-1, 1, 200_001).requires_grad_()
        (slopes,) = torch.autograd.grad(network(x).sum(), x)
        assert found == 1 + int((slopes.diff(dim=0).abs() > 1e-9).sum())
        assert 1 < found <= theory.most_pieces(widths) <= (2 * max(widths)) ** len(widths)


def test_one_layer_attains_the_most_pieces():
    first, last = nn.Linear(1, 3), nn.Linear(3, 1)
    with torch.no_grad():
        first.weight.fill_(1)
        first.bias.copy_(torch.tensor([-0.25, -0.5, -0.75]))
        last.weight.fill_(1)
    network = nn.Sequential(first, nn.ReLU(), last)
    assert theory.count_pieces(network) == theory.most_pieces((3,)) == 4
    assert theory.count_pieces(network, 0.3, 0.6) == 2
    with torch.no_grad():
        last.weight.zero_()
    assert theory.count_pieces(network) == 1


def test_bends_that_cancel_do_not_count():
    first, last = nn.Linear(1, 2), nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.fill_(1)
        first.bias.fill_(-0.5)
        last.weight.copy_(torch.tensor([[1.0, -1.0]]))
    assert theory.count_pieces(nn.Sequential(first, nn.ReLU(), last)) == 1


@pytest.mark.parametrize("m", [1, 5, 12])
def test_the_lower_bounds_hold_for_the_sawtooth(m):
    error = 2.0 ** (-2 * m - 2)
    neurons = theory.network_size(theory.sawtooth(m)).neurons
    assert neurons == pytest.approx(3 * theory.least_neurons(error) + 0.5)
    assert theory.least_width(error, depth=m) <= 3
    assert theory.least_width(error, depth=1) == pytest.approx(2 ** (m - 0.5) / 2)


def test_bounds_at_known_values():
    assert theory.least_error(4) == 1 / 128
    assert theory.least_width(2.0**-9, depth=1) == pytest.approx(4)
    assert theory.least_width(2.0**-9, depth=3) == pytest.approx(1)
    assert theory.least_neurons(2.0**-23) == 10
    assert theory.least_neurons(1.0) == 0


# 3. A rate, measured -------------------------------------------------------------------------------------------------


def plain_approximant(target, x, *, dimension, smoothness, cells):
    """The formula itself: bumps times Taylor polynomials, added up."""
    centres = theory.unit_grid(dimension, cells + 1)
    taylor = theory.taylor_coefficients(target, centres, smoothness - 1)
    h = x[:, None, :] - centres
    bumps = theory.trapezoid(3 * cells * h).prod(dim=-1)
    total = torch.zeros_like(bumps)
    for column, index in enumerate(theory.multi_indices(dimension, smoothness - 1)):
        total += taylor[:, column] * (h ** torch.tensor(index)).prod(dim=-1)
    return (bumps * total).sum(dim=1)


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("smoothness", [1, 2, 3, 4])
@pytest.mark.parametrize("weight", [SHARED, (0.5, -0.3, 1.5), (0.3, 0.2, 0.1, 0.4)])
def test_the_network_is_the_formula(dimension, smoothness, weight):
    target, x = TARGETS[dimension], scattered(200, dimension)
    problem = {"dimension": dimension, "smoothness": smoothness, "cells": 5}
    network = theory.partition_network(target, weight=weight, **problem)
    # Taylor coefficients up to 50 and cancellations up to 200 take 2e-16 to about 2e-12.
    assert distance(network, x, plain_approximant(target, x, **problem)) < 1e-10


@pytest.mark.parametrize(
    ("dimension", "smoothness", "first", "second"),
    [(1, 1, 12, 12), (1, 2, 18, 12), (1, 4, 18, 12), (2, 1, 24, 24), (2, 2, 36, 24), (2, 3, 42, 24), (2, 4, 48, 24)],
)
@pytest.mark.parametrize("cells", [2, 5])
def test_a_patch_has_the_same_size_on_every_mesh(dimension, smoothness, first, second, cells):
    network = theory.partition_network(TARGETS[dimension], dimension=dimension, smoothness=smoothness, cells=cells)
    patches = (cells + 1) ** dimension
    per_patch = first * (dimension + 1) + second * (first + 1) + second
    assert theory.network_size(network) == theory.Size(
        depth=2, neurons=patches * (first + second), parameters=patches * per_patch + 1 + 2 * 4
    )
    assert [m.weight.tolist() for m in network if isinstance(m, PolyReLU)] == [list(SHARED)] * 2


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("smoothness", [1, 2, 3, 4])
def test_polynomials_below_the_smoothness_come_out_exactly(dimension, smoothness):
    x = scattered(300, dimension)
    ridge = lambda x, power: (x[:, 0] - 2 * x[:, -1] + 0.5) ** power + 0 * x[:, 0]  # noqa: E731
    for power, low, high in ((smoothness - 1, 0, 1e-11), (smoothness, 1e-4, math.inf)):
        network = theory.partition_network(
            lambda x, power=power: ridge(x, power), dimension=dimension, smoothness=smoothness, cells=3
        )
        assert low <= distance(network, x, ridge(x, power)) < high


def test_bumps_add_up_to_one():
    x = line(0, 1, 997)
    for cells in (1, 3, 8):
        bumps = theory.trapezoid(3 * cells * (x - line(0, 1, cells + 1)[:, 0]))
        torch.testing.assert_close(bumps.sum(dim=1), torch.ones(997, dtype=torch.float64), rtol=0, atol=1e-13)
        assert bumps.min() > -1e-13
        assert ((bumps > 1e-13).sum(dim=1) <= 2).all()
    t = torch.tensor([-2.0, -1.5, -1, 0, 1, 1.25, 2, 9])
    assert theory.trapezoid(t).tolist() == [0, 0.5, 1, 1, 1, 0.75, 0, 0]


def test_taylor_coefficients_of_known_functions():
    assert theory.multi_indices(2, 2) == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
    z = scattered(7, 2)
    found = theory.taylor_coefficients(lambda x: torch.exp(x[:, 0] + 2 * x[:, 1]), z, 2)
    expected = torch.exp(z[:, 0] + 2 * z[:, 1])[:, None] * torch.tensor([1, 2, 1, 2, 2, 0.5])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    # A derivative that has become constant, then zero.
    found = theory.taylor_coefficients(lambda x: 3 * x[:, 0], z[:, :1], 3)
    assert torch.equal(found, torch.stack([3 * z[:, 0], *torch.tensor([[3.0], [0], [0]]).expand(3, 7).double()], dim=1))


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("smoothness", [1, 2, 3, 4])
def test_the_error_stays_under_its_bound(dimension, smoothness):
    target = lambda x: torch.sin(x.sum(dim=1))  # noqa: E731 - every partial derivative is at most 1
    for cells in (2, 5):
        problem = {"dimension": dimension, "smoothness": smoothness, "cells": cells}
        network = theory.partition_network(target, **problem)
        error = theory.largest_error(network, target, theory.unit_grid(dimension, 12 * cells + 1))
        bound = theory.taylor_bound(1.0, **problem)
        assert bound / 20 < error < bound


@pytest.mark.parametrize("smoothness", [1, 2, 3, 4])
def test_the_rate_on_the_line_is_the_smoothness(smoothness):
    rows = theory.approximation_rows(WAVE, dimension=1, smoothness=smoothness, cells=(16, 32, 64))
    rate = theory.fit_rate([row["parameters"] for row in rows], [row["error"] for row in rows])
    # cells + 1 patches rather than cells: measured slopes are steeper by about 1/cells of themselves.
    assert rate.slope == pytest.approx(-smoothness, rel=0.05)
    assert rate.standard_error < 0.05
    assert math.log2(rows[1]["error"] / rows[2]["error"]) == pytest.approx(smoothness, abs=0.05)


@pytest.mark.parametrize("smoothness", [1, 2, 3, 4])
def test_the_rate_on_the_square_is_half_the_smoothness(smoothness):
    rows = theory.approximation_rows(RIPPLE, dimension=2, smoothness=smoothness, cells=(4, 6, 9, 12), points_per_cell=6)
    rate = theory.fit_rate([row["parameters"] for row in rows], [row["error"] for row in rows])
    # (cells + 1)^2 patches make slopes steeper, by about 1/8 of themselves on meshes as coarse as these.
    assert -smoothness / 2 * 1.2 < rate.slope < -smoothness / 2 * 0.98
    assert rate.standard_error < 0.1
    assert math.log2(rows[1]["error"] / rows[3]["error"]) == pytest.approx(smoothness, rel=0.1)


def test_a_target_with_a_corner_has_no_fast_rate():
    corner = lambda x: (x[:, 0] - 1 / math.pi).abs()  # noqa: E731
    rows = theory.approximation_rows(corner, dimension=1, smoothness=4, cells=(8, 16, 32, 64))
    assert theory.fit_rate([row["parameters"] for row in rows], [row["error"] for row in rows]).slope > -1.5


def test_slopes_and_their_uncertainty():
    sizes = [10, 20, 50, 100, 400]
    exact = theory.fit_rate(sizes, [3 * size**-1.5 for size in sizes])
    assert (exact.slope, exact.n_points) == (pytest.approx(-1.5), 5)
    assert exact.standard_error < 1e-12
    errors = [0.3, 0.11, 0.05, 0.014, 0.004]
    (slope, _), covariance = np.polyfit(np.log(sizes), np.log(errors), 1, cov=True)
    noisy = theory.fit_rate(sizes, errors)
    assert noisy.slope == pytest.approx(slope)
    assert noisy.standard_error == pytest.approx(math.sqrt(covariance[0, 0]))


def test_largest_error_takes_points_in_parts():
    network, x = theory.sawtooth(1), line(0, 1, 400_001)  # more points than are taken at once
    assert theory.largest_error(network, lambda x: x[:, 0] ** 2, x) == 1 / 16


# 4. What training finds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gelu", "polyrelu", "polynorm"])
@pytest.mark.parametrize(("dimension", "depth"), [(1, 1), (1, 2), (2, 3)])
def test_the_budget_is_filled_and_kept(activation, dimension, depth):
    width = theory.matched_width(activation, 150, dimension=dimension, depth=depth)
    costs = [
        theory.network_size(theory.plain_network(activation, dimension=dimension, width=w, depth=depth)).parameters
        for w in (width, width + 1)
    ]
    assert costs[0] <= 150 < costs[1]


def test_a_network_starts_as_torch_would_on_the_symmetric_cube():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    network = theory.plain_network("relu", dimension=2, width=6, depth=2, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    x = scattered(20, 2)
    torch.testing.assert_close(network(x), plain(2 * x - 1), rtol=1e-12, atol=1e-14)


def test_seeds_train_side_by_side_yet_apart():
    setting = {"n_parameters": 60, "learning_rate": 0.03, "steps": 40, "n_points": 32}
    together = theory.fit_networks(WAVE, "polynorm", seeds=(0, 1), **setting)
    (alone,) = theory.fit_networks(WAVE, "polynorm", seeds=(1,), **setting)
    x = line(0, 1, 50)
    # The order of sums inside batched products may differ: 40 steps make rounding errors of about 1e-13 from it.
    torch.testing.assert_close(together[1](x), alone(x), rtol=0, atol=1e-9)
    assert (together[0](x) - together[1](x)).abs().max() > 1e-3


def test_the_comparison_is_rows_at_equal_size():
    activations, rates, seeds = ("relu", "polyrelu", "polynorm"), (0.003, 0.03), (0, 1, 2)
    rows = theory.compare_fits(
        WAVE, activations, n_parameters=120, learning_rates=rates, seeds=seeds, steps=150, n_points=64
    )
    assert len(rows) == 3 * 2 * 3
    assert all(100 < row["parameters"] <= 120 for row in rows)
    for activation in activations:
        own = [row for row in rows if row["activation"] == activation]
        medians = {r: np.median([row["train_error"] for row in own if row["learning_rate"] == r]) for r in rates}
        chosen = [row for row in own if row["chosen"]]
        assert {row["learning_rate"] for row in chosen} == {min(medians, key=medians.get)}
        assert [row["seed"] for row in chosen] == list(seeds)
        # Training has learned something: a constant leaves an error of 0.7.
        assert all(0 < row["error"] <= row["largest_error"] for row in own)
        assert np.median([row["error"] for row in chosen]) < 0.35
    again = theory.compare_fits(WAVE, ("relu",), n_parameters=120, learning_rates=rates, steps=150, n_points=64)
    assert again == rows[:6]


def test_fits_in_the_plane():
    rows = theory.compare_fits(
        RIPPLE, ("polyrelu",), n_parameters=100, learning_rates=(0.01,), dimension=2, steps=200, n_points=81
    )
    assert [row["dimension"] for row in rows] == [2, 2, 2]
    # A constant leaves an error of 0.37.
    assert np.median([row["error"] for row in rows]) < 0.2


def test_divergence_is_an_infinite_error_and_never_chosen():
    setting = {"n_parameters": 60, "steps": 30, "n_points": 32, "seeds": (0,)}
    rows = theory.compare_fits(WAVE, ("polyrelu",), learning_rates=(1e200, 0.01), **setting)
    assert [(math.isinf(row["error"]), row["chosen"]) for row in rows] == [(True, False), (False, True)]
    with pytest.raises(ValueError, match=r"polyrelu diverged at every learning rate of \(1e\+200,\): add smaller ones"):
        theory.compare_fits(WAVE, ("polyrelu",), learning_rates=(1e200,), **setting)


# Refusals ------------------------------------------------------------------------------------------------------------


def build(**changes):
    return theory.partition_network(**({"target": WAVE, "dimension": 1, "smoothness": 2, "cells": 3} | changes))


def fit(**changes):
    defaults = {"target": WAVE, "activation": "relu", "n_parameters": 60, "learning_rate": 0.01, "steps": 1}
    return theory.fit_networks(**(defaults | changes))


LINE = torch.zeros(0, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pure(9), r"power has to be a whole number, from 1 to 8; got 9"),
        (lambda: pure(True), r"power has to be a whole number, from 1 to 8; got True"),
        (lambda: theory.monomial(2, ()), r"1 to 8 finite coefficients, highest power first; got \(\): try SHARED"),
        (lambda: theory.monomial(2, (1.0, math.nan)), r"finite coefficients, highest power first; got \(1.0, nan\)"),
        (lambda: theory.monomial(3, pure(2)), r"no term of power 3.*holds the powers \[2\]: give power 3 a non-zero"),
        (lambda: theory.cancellation(1, pure(2)), r"no term of power 1"),
        (lambda: theory.product(1, pure(2)), r"n_factors has to be a whole number, from 2 to 8; got 1"),
        (lambda: theory.product(4, SHARED), r"no term of power 4.*as pure\(4\) does"),
        (lambda: theory.sawtooth(0), r"m has to be a whole number, from 1 to 24; got 0"),
        (lambda: theory.least_error(0), r"n_pieces has to be a whole number, 1 or more; got 0"),
        (lambda: theory.most_pieces(()), r"widths lists the neurons of each hidden layer; got none"),
        (lambda: theory.most_pieces((4, 0)), r"each width has to be a whole number, 1 or more; got 0"),
        (lambda: theory.least_neurons(0.0), r"error has to be a finite number above 0; got 0.0"),
        (lambda: theory.least_width(0.1, 0), r"depth has to be a whole number, 1 or more; got 0"),
        (lambda: theory.count_pieces(theory.monomial(2, SHARED)), r"Linear and ReLU modules; got PolyReLU too: use"),
        (lambda: theory.count_pieces(nn.Sequential(nn.Linear(2, 1))), r"one input and one output"),
        (lambda: theory.count_pieces(theory.sawtooth(1), 1.0, 1.0), r"lower < upper; got lower=1.0, upper=1.0"),
        (lambda: theory.multi_indices(0, 1), r"dimension has to be a whole number, 1 or more; got 0"),
        (lambda: theory.unit_grid(1, 1), r"points_per_axis has to be a whole number, 2 or more; got 1"),
        (lambda: build(dimension=3), r"built for dimension 1 and 2; got 3"),
        (lambda: build(smoothness=5), r"smoothness has to be a whole number, from 1 to 4; got 5"),
        (lambda: build(cells=0), r"cells has to be a whole number, 1 or more; got 0"),
        (lambda: build(weight=pure(2)), r"no term of power 1"),
        (lambda: build(smoothness=4, weight=(1.0, 1.0)), r"no term of power 3"),
        (lambda: build(target=lambda x: x), r"one value per point, a tensor of shape \(4,\); got \(4, 1\): for one"),
        (lambda: build(target=lambda x: 1.0), r"a tensor of shape \(4,\); got float"),
        (lambda: build(target=lambda x: 1 / x[:, 0]), r"the target is not finite at \[0.0\]: choose one"),
        (lambda: build(target=lambda x: torch.ones(4)), r"write it with torch operations"),
        (lambda: build(target=lambda x: x[:, 0].sqrt()), r"derivative of order \(1,\) is not finite.*at most 1"),
        (lambda: theory.taylor_bound(-1.0, dimension=1, smoothness=1, cells=1), r"not negative; got -1.0"),
        (lambda: theory.largest_error(theory.sawtooth(1), WAVE, LINE), r"the grid is empty: give at least one point"),
        (
            lambda: theory.approximation_rows(WAVE, dimension=1, smoothness=1, cells=()),
            r"cells lists the meshes to measure; got none",
        ),
        (lambda: theory.fit_rate([1, 2], [1.0, 2.0]), r"at least three sizes and as many errors; got 2 sizes and 2"),
        (lambda: theory.fit_rate([1, 2, 3], [1.0, 2.0, 0.0]), r"each error has to be a finite number above 0; got 0.0"),
        (lambda: theory.fit_rate([5, 5, 5], [1.0, 2.0, 3.0]), r"a slope needs different sizes; got 5 each time"),
        (lambda: fit(activation="swiglu"), r"unknown activation 'swiglu'; known: relu, squared_relu, gelu"),
        (lambda: fit(n_parameters=5), r"5 parameters are too few: one neuron per layer already takes 6 with depth 2"),
        (lambda: fit(seeds=()), r"seeds lists one number per repetition; got none"),
        (lambda: fit(steps=0), r"steps has to be a whole number, 1 or more; got 0"),
        (lambda: fit(learning_rate=math.inf), r"learning_rate has to be a finite number above 0; got inf"),
        (lambda: fit(dimension=2, n_points=3), r"n_points has to be a whole number, 4 or more; got 3"),
        (lambda: fit(target=lambda x: x[:, 0].log()), r"the target is not finite at \[0.0\]"),
        (lambda: theory.compare_fits(WAVE, (), n_parameters=60), r"activations lists what to compare; got none"),
        (
            lambda: theory.compare_fits(WAVE, n_parameters=60, learning_rates=()),
            r"learning_rates lists what to compare; got none",
        ),
    ],
)
def test_refusals_name_the_rule_and_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call()
