"""The family of polynomial compositions: formulas, gradients, properties, starts, coefficients per expert, errors."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import polynorm as reference_polynorm
from reference import polynorm_of_order, polyrelu_of_order
from reference import polyrelu as reference_polyrelu
from torch import nn

from minipolycom.activations import (
    ACTIVATION_NAMES,
    ACTIVATIONS,
    COMPOSITIONS,
    GATED,
    INNER,
    START,
    PolyCom,
    PolyNorm,
    PolyReLU,
    compose,
    gated_polynorm,
    polynorm,
    polyprelu,
    polyrelu,
    polyrelunorm,
    rms_norm,
    squared_relu,
    sumnorm,
)

SHAPES = [(7,), (3, 1), (2, 513), (2, 3, 7), (0, 5), (1, 13824)]


def coefficients(order: int = 3, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(order)
    return torch.randn(order, dtype=dtype, generator=generator), torch.randn(1, dtype=dtype, generator=generator)


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


# The formulas, against the authors' typed again ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "theirs"), [(polynorm, reference_polynorm), (polyrelu, reference_polyrelu)])
def test_the_formulas_are_the_authors(ours, theirs, shape) -> None:
    x, (weight, bias) = inputs(*shape), coefficients()
    torch.testing.assert_close(ours(x, weight, bias), theirs(x, weight, bias))


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize(("ours", "theirs"), [(polynorm, polynorm_of_order), (polyrelu, polyrelu_of_order)])
def test_every_order(ours, theirs, order) -> None:
    x, (weight, bias) = inputs(4, 9), coefficients(order)
    torch.testing.assert_close(ours(x, weight, bias), theirs(x, weight, bias))


def test_the_highest_power_comes_first_and_the_norm_is_the_root_mean_square() -> None:
    x = torch.tensor([1.0, 2.0, 4.0])
    cube = torch.tensor([1.0, 8.0, 64.0]) / math.sqrt((1 + 64 + 4096) / 3)
    torch.testing.assert_close(polynorm(x, torch.tensor([1.0, 0.0, 0.0]), torch.zeros(1)), cube)


COMPOSED = {
    "polynomial": (lambda x, w, b: compose(x, w, b), lambda x, w, b: b + w[1] * x + w[0] * x**2),
    "polyprelu": (
        lambda x, w, b: polyprelu(x, w, b, torch.tensor(0.5)),
        lambda x, w, b: b + w[1] * torch.where(x > 0, x, x / 2) + w[0] * torch.where(x > 0, x, x / 2) ** 2,
    ),
    "polyrelunorm": (
        polyrelunorm,
        lambda x, w, b: b + w[1] * rms_norm(x.clamp(min=0)) + w[0] * rms_norm(x.clamp(min=0) ** 2),
    ),
    "sumnorm": (sumnorm, lambda x, w, b: b + rms_norm(w[1] * x + w[0] * x**2)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_the_named_members_of_the_family(name) -> None:
    ours, by_hand = COMPOSED[name]
    x, (weight, bias) = inputs(3, 5), coefficients(2)
    torch.testing.assert_close(ours(x, weight, bias), by_hand(x, weight, bias))


@pytest.mark.parametrize("rho", INNER)
def test_type_one_and_type_two_over_every_inner_function(rho) -> None:
    x, (weight, bias), function = inputs(3, 5), coefficients(2), INNER[rho]
    type_one, type_two = compose(x, weight, bias, inner=function), compose(x, weight, bias, outer=function)
    torch.testing.assert_close(type_one, bias + weight[1] * function(x) + weight[0] * function(x) ** 2)
    torch.testing.assert_close(type_two, bias + weight[1] * function(x) + weight[0] * function(x**2))


def test_the_gated_form() -> None:
    gate, up, (weight, bias) = inputs(3, 5), inputs(3, 5).flip(0), coefficients()
    torch.testing.assert_close(gated_polynorm(gate, up, weight, bias), reference_polynorm(gate, weight, bias) * up)


def test_the_gated_form_is_rounded_once() -> None:
    """In bf16 one rounding is off by at most 2^-8; the product of two rounded factors is not held to that."""
    gate, up = inputs(64, 512, dtype=torch.bfloat16), inputs(64, 512, dtype=torch.bfloat16).flip(0)
    weight, bias = coefficients(dtype=torch.float32)
    exact = reference_polynorm(gate.double(), weight.double(), bias.double()) * up.double()
    error = (gated_polynorm(gate, up, weight, bias).double() - exact).abs()
    assert (error <= 2**-8 * exact.abs() + 1e-5).all()  # 1e-5: fp32 inside, where terms of size 10 cancel
    twice = (polynorm(gate, weight, bias) * up).double()
    assert ((twice - exact).abs() > 2**-8 * exact.abs() + 1e-5).any()


# Gradients -----------------------------------------------------------------------------------------------------------

DIFFERENTIABLE = {
    "compose": compose,
    "polyrelu": polyrelu,
    "polynorm": polynorm,
    "polyrelunorm": polyrelunorm,
    "sumnorm": sumnorm,
    "sigmoid first": lambda x, w, b: compose(x, w, b, inner=torch.sigmoid),
    "tanh last": lambda x, w, b: compose(x, w, b, outer=torch.tanh),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("order", [1, 3, 4])
def test_gradients(name, order) -> None:
    x, (weight, bias) = inputs(2, 5), coefficients(order)
    tensors = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(DIFFERENTIABLE[name], tensors)


def test_the_gradient_of_the_slope() -> None:
    x, (weight, bias), slope = inputs(2, 5), coefficients(2), torch.tensor(0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(polyprelu, [tensor.requires_grad_() for tensor in (x, weight, bias, slope)])


# What the mathematics promises ---------------------------------------------------------------------------------------

rows = st.lists(st.floats(-4, 4).filter(lambda v: abs(v) > 1e-2), min_size=2, max_size=12)
orders = st.integers(1, 8)


@given(rows, orders, st.floats(0.5, 100))
def test_polynorm_ignores_the_scale_of_a_row(row, order, scale) -> None:
    x, (weight, bias) = torch.tensor(row, dtype=torch.float64), coefficients(order)
    # eps is what breaks the invariance: without it, nothing is left but rounding
    torch.testing.assert_close(polynorm(scale * x, weight, bias, 0.0), polynorm(x, weight, bias, 0.0))


@given(rows, orders)
def test_polynorms_gradient_is_orthogonal_to_its_row(row, order) -> None:
    x, (weight, bias) = torch.tensor(row, dtype=torch.float64, requires_grad=True), coefficients(order)
    upstream = torch.linspace(-1, 1, len(row), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(polynorm(x, weight, bias, 0.0), x, upstream)
    assert abs(gradient @ x) < 1e-9 * (1 + gradient.norm() * x.norm())


@given(rows, orders, st.floats(0.1, 10))
def test_each_power_of_polyrelu_scales_with_its_degree(row, order, scale) -> None:
    x = torch.tensor(row, dtype=torch.float64)
    for place in range(order):
        weight = torch.eye(order, dtype=torch.float64)[place]
        one = polyrelu(x, weight, torch.zeros(1, dtype=torch.float64))
        scaled = polyrelu(scale * x, weight, torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(scaled, scale ** (order - place) * one)


@given(rows, orders, st.sampled_from([*COMPOSED, "polynorm", "polyrelu"]), st.randoms())
def test_permuting_a_row_permutes_the_output(row, order, name, random) -> None:
    function = {"polynorm": polynorm, "polyrelu": polyrelu}.get(name) or COMPOSED[name][0]
    x, (weight, bias) = torch.tensor(row, dtype=torch.float64), coefficients(order)
    permutation = random.sample(range(len(row)), len(row))
    torch.testing.assert_close(function(x[permutation], weight, bias), function(x, weight, bias)[permutation])


@given(rows, orders)
def test_a_polynomial_is_polyrelu_of_both_signs(row, order) -> None:
    """p(x) = PolyReLU(x; a) + PolyReLU(-x; a'), a'_p = (-1)^p a_p: the lemma that PolyReLU contains polynomials."""
    x, (weight, bias) = torch.tensor(row, dtype=torch.float64), coefficients(order)
    signs = torch.tensor([(-1.0) ** (order - place) for place in range(order)], dtype=torch.float64)
    both = polyrelu(x, weight, bias) + polyrelu(-x, weight * signs, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(compose(x, weight, bias), both)


# Precision -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 8.0, 100.0, 2e4])
@pytest.mark.parametrize("function", [polynorm, reference_polynorm])
def test_half_precision_keeps_the_cube_where_the_authors_formula_loses_it(function, scale) -> None:
    """fp16 over its finite range; the authors' form, in fp16 throughout, loses the cubic term without a warning."""
    x = (inputs(4, 512) * scale).clamp(-65504, 65504).half()
    weight, bias = coefficients()
    exact = reference_polynorm(x.double(), weight, bias)
    error = ((function(x, weight.half(), bias.half()).double() - exact).norm() / exact.norm()).nan_to_num(1.0)
    if function is polynorm:
        assert error < 1e-3  # the rounding of fp16 is 2^-11 = 5e-4, of coefficients and of the output
    elif scale >= 8:
        assert error > 0.1


def test_nan_and_inf_stay_in_their_row() -> None:
    x, (weight, bias) = inputs(4, 6), coefficients()
    x[1, 2], x[2, 3] = torch.nan, torch.inf
    for function in (polynorm, polyrelu, polyrelunorm, sumnorm):
        y = function(x, weight, bias)
        clean = function(inputs(4, 6), weight, bias)
        torch.testing.assert_close(y[[0, 3]], clean[[0, 3]])
        assert y[1].isnan().any()
        assert not y[2].isfinite().all()


def test_the_output_has_the_inputs_dtype_and_the_input_is_left_alone() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = inputs(3, 5).to(dtype)
        copy = x.clone()
        for function in (polynorm, polyrelu):
            assert function(x, torch.ones(3), torch.zeros(1)).dtype == dtype
        torch.testing.assert_close(x, copy, rtol=0, atol=0)


# Starts and modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [PolyReLU, PolyNorm, PolyCom])
@pytest.mark.parametrize("order", [1, 3, 8])
def test_the_authors_start(module, order) -> None:
    made = module(order)
    assert made.weight.tolist() == pytest.approx([1 / order] * order)
    assert made.bias.tolist() == [0.0]
    assert dict(made.named_parameters()).keys() == {"weight", "bias"}


def test_the_variance_start_keeps_the_mean_square_of_a_normal_row() -> None:
    x = torch.randn(16, 2**16, generator=torch.Generator().manual_seed(0))
    for make in (
        PolyNorm,
        PolyReLU,
        COMPOSITIONS["polyprelu"],
        COMPOSITIONS["polyrelunorm"],
        COMPOSITIONS["polynomial"],
    ):
        # sampling error of the mean square of a cube over 2^20 draws: about 1 %
        assert make(start="variance")(x).square().mean().item() == pytest.approx(1.0, abs=0.03)


def test_the_variance_start_of_polynorm_is_the_known_factor() -> None:
    """1/0.711: the three normalised powers of a normal row have the Gram matrix with <N(x), N(x^3)> = 3/sqrt(15)."""
    factor = 3 / math.sqrt(3 + 2 * 3 / math.sqrt(15))
    assert PolyNorm(start="variance").weight[0].item() == pytest.approx(factor / 3, rel=1e-3)


def test_the_linear_start_begins_at_rho() -> None:
    x = inputs(3, 5, dtype=torch.float32)
    torch.testing.assert_close(PolyReLU(start="linear")(x), torch.relu(x))
    torch.testing.assert_close(PolyNorm(start="linear")(x), rms_norm(x))
    torch.testing.assert_close(PolyCom(start="linear", inner="tanh")(x), torch.tanh(x))


@pytest.mark.parametrize("backend", ["plain", "eager"])
def test_modules_compute_their_functions(backend) -> None:
    x = inputs(3, 5, dtype=torch.float32)
    for module, function in ((PolyReLU(2, backend=backend), polyrelu), (PolyNorm(4, backend=backend), polynorm)):
        nn.init.normal_(module.weight)
        torch.testing.assert_close(module(x), function(x, module.weight, module.bias))


def test_polycom_is_the_family() -> None:
    x = inputs(3, 5, dtype=torch.float32)
    torch.testing.assert_close(PolyCom(inner="relu")(x), PolyReLU()(x))
    torch.testing.assert_close(PolyCom(outer="rms_norm")(x), PolyNorm()(x))
    learnt = PolyCom(inner="prelu")
    learnt(x).sum().backward()
    assert learnt.slope.grad.abs() > 0


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize("start", START)
def test_every_composition_trains_from_every_start(name, start) -> None:
    module = COMPOSITIONS[name](order=2, start=start)
    x = inputs(4, 9, dtype=torch.float32)
    module(x).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert module.weight.grad.abs().sum() > 0


def test_experts_have_coefficients_of_their_own() -> None:
    for make in (PolyReLU, PolyNorm, PolyCom):
        module = make(experts=3)
        assert (module.weight.shape, module.bias.shape) == ((3, 3), (3, 1))
        nn.init.normal_(module.weight)
        x, expert = inputs(2, 4, 5, dtype=torch.float32), torch.tensor([[0, 2, 2, 1], [1, 0, 2, 0]])
        y = module(x, expert)
        for chosen in range(3):
            alone = make()
            alone.load_state_dict({"weight": module.weight[chosen], "bias": module.bias[chosen]})
            torch.testing.assert_close(y[expert == chosen], alone(x[expert == chosen]))
        y[expert == 2].sum().backward()
        assert module.weight.grad[2].abs().sum() > 0
        assert module.weight.grad[:2].abs().sum() == 0


def test_experts_by_groups() -> None:
    """Tokens sorted into (experts, slots, width): the index of each group broadcasts over its slots."""
    module = PolyNorm(experts=3)
    nn.init.normal_(module.weight)
    x = inputs(3, 4, 5, dtype=torch.float32)
    grouped = module(x, torch.arange(3)[:, None])
    torch.testing.assert_close(grouped, module(x, torch.arange(3)[:, None].expand(3, 4)))


def test_the_choices() -> None:
    x = inputs(3, 5, dtype=torch.float32)
    assert list(ACTIVATIONS) == ["relu", "squared_relu", "gelu", "silu", "polyrelu", "polynorm"]
    assert (*ACTIVATIONS, *GATED) == ACTIVATION_NAMES
    assert all(make()(x).shape == x.shape for make in (*ACTIVATIONS.values(), *COMPOSITIONS.values()))
    torch.testing.assert_close(squared_relu(x), x.clamp(min=0) ** 2)
    assert repr(PolyCom(2, inner="prelu", last="rms_norm")) == "PolyCom(order=2, inner=prelu, last=rms_norm)"


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [polynorm, polyrelu, compose, sumnorm])
def test_bad_input_is_refused(function) -> None:
    x, (weight, bias) = inputs(3, 5), coefficients()
    with pytest.raises(ValueError, match=r"shape \(order,\) with order 1 to 8; got shape \(9,\)"):
        function(x, torch.ones(9), bias)
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        function(x, torch.ones(0), bias)
    with pytest.raises(ValueError, match=r"bias holds one entry .* got shape \(2,\)"):
        function(x, weight, torch.zeros(2))
    with pytest.raises(ValueError, match=r"have the leading axes of x.* got weight \(4, 3\) for x of shape \(3, 5\)"):
        function(x, torch.ones(4, 3), torch.zeros(4, 1))


@pytest.mark.parametrize("function", [polynorm, polyrelu, compose, sumnorm])
def test_integers_are_refused(function, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the shape checks of the test run see it first
    with pytest.raises(ValueError, match=r"floating-point input; got torch.int64: convert it with x.float\(\)"):
        function(torch.ones(3, 5, dtype=torch.long), *coefficients())


@pytest.mark.parametrize("function", [polynorm, sumnorm, polyrelunorm, PolyCom(outer="rms_norm")])
def test_an_empty_row_is_refused(function) -> None:
    arguments = () if isinstance(function, nn.Module) else coefficients()
    with pytest.raises(ValueError, match=r"the last axis, which needs at least one entry; got shape \(3, 0\)"):
        function(torch.ones(3, 0), *arguments)


@pytest.mark.parametrize("module", [PolyReLU, PolyNorm, PolyCom])
def test_bad_settings_are_refused(module) -> None:
    for order in (0, 9):
        with pytest.raises(ValueError, match=f"the order is the highest power, from 1 to 8; got {order}"):
            module(order)
    with pytest.raises(ValueError, match="unknown start 'ones'; known: uniform, variance, linear"):
        module(start="ones")
    with pytest.raises(ValueError, match="holds one shared set of coefficients, the call names an expert"):
        module()(torch.ones(2, 3), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="holds 4 sets of coefficients, the call names no expert"):
        module(experts=4)(torch.ones(2, 3))


def test_an_unknown_inner_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown inner function 'swish'; known: identity, relu, .*prelu"):
        PolyCom(inner="swish")
