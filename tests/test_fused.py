"""The fast twins: the same values and gradients as the plain functions, in every backend, where others go wrong."""

import inspect
import itertools
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import polynorm as reference_polynorm
from reference import polynorm_of_order
from reference import polyrelu as reference_polyrelu

from minipolycom import activations, fused
from minipolycom.activations import PolyNorm, PolyReLU

SHAPES = [(1,), (7,), (3, 1), (5, 7), (2, 3, 513), (2, 13824), (0, 5), (3, 0, 4)]
ORDERS = [1, 2, 3, 8]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a test's few rows fill several blocks, the last of them partly."""
    monkeypatch.setattr(fused, "BLOCK", 1000)
    monkeypatch.delenv("MINIPOLYCOM_BACKEND", raising=False)


def tensors(*shape: int, order: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0):
    """x, weight, bias and an upstream gradient."""
    generator = torch.Generator().manual_seed(seed)
    x, g = (torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype) for _ in range(2))
    weight = torch.randn(order, dtype=torch.float64, generator=generator)
    bias = torch.randn(1, dtype=torch.float64, generator=generator)
    wide = torch.promote_types(dtype, torch.float32)
    return x.requires_grad_(), weight.to(wide).requires_grad_(), bias.to(wide).requires_grad_(), g


FUNCTIONS = {
    "polyrelu": (fused.polyrelu, activations.polyrelu),
    "polynorm": (fused.polynorm, activations.polynorm),
    "safe": (lambda *a, **k: fused.polynorm(*a, safe=True, **k), activations.polynorm),
    "gated": (
        lambda x, w, b, **k: fused.gated_polynorm(x, x.flip(-1), w, b, **k),
        lambda x, w, b: activations.gated_polynorm(x, x.flip(-1), w, b),
    ),
}


def values_and_gradients(function, inputs, g):
    y = function(*inputs)
    return y, *torch.autograd.grad(y, inputs, g)


# The twins, backend by backend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_eager_equals_its_plain_twin(name, order, shape) -> None:
    """In fp64, where only the order of operations differs: torch's default tolerance, 1e-7, is far above that."""
    fast, plain = FUNCTIONS[name]
    *inputs, g = tensors(*shape, order=order)
    ours = values_and_gradients(lambda *a: fast(*a, backend="eager"), inputs, g)
    theirs = values_and_gradients(plain, inputs, g)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_eager_equals_its_plain_twin_in_every_dtype(name, dtype) -> None:
    """Within one rounding of the dtype on values; gradients of plain functions round more often, hence three."""
    fast, plain = FUNCTIONS[name]
    *inputs, g = tensors(9, 257, dtype=dtype)
    ours = values_and_gradients(lambda *a: fast(*a, backend="eager"), inputs, g)
    exact = values_and_gradients(plain, [t.detach().double().requires_grad_() for t in inputs], g.double())
    for one, other, like in zip(ours, exact, (inputs[0], *inputs), strict=True):
        assert one.dtype == like.dtype
        rounding = max(torch.finfo(like.dtype).eps, 1e-6)
        torch.testing.assert_close(one.double(), other, rtol=3 * rounding, atol=3 * rounding * other.abs().max().item())


def test_the_authors_formulas_and_their_gradients() -> None:
    *inputs, g = tensors(4, 33)
    for fast, reference in ((fused.polynorm, reference_polynorm), (fused.polyrelu, reference_polyrelu)):
        for one, other in zip(
            values_and_gradients(fast, inputs, g), values_and_gradients(reference, inputs, g), strict=True
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_once_and_twice(name) -> None:
    fast, _ = FUNCTIONS[name]
    *inputs, _ = tensors(3, 5)
    assert torch.autograd.gradcheck(fast, inputs)
    assert torch.autograd.gradgradcheck(fast, inputs)


@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_any_small_shape_and_order(rows, width, order, seed) -> None:
    *inputs, g = tensors(rows, width, order=order, seed=seed)
    ours = values_and_gradients(lambda *a: fused.polynorm(*a, backend="eager"), inputs, g)
    for one, other in zip(ours, values_and_gradients(polynorm_of_order, inputs, g), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9 * (1 + other.abs().max().item()))


@given(st.integers(-20, 20), st.integers(1, 8))
@settings(deadline=None)
def test_safe_mode_is_exactly_invariant_to_powers_of_two(exponent, order) -> None:
    """With eps = 0 the scale of a row changes not one bit, in the output nor in the coefficients' gradients."""
    x, weight, bias, g = tensors(3, 17, order=order, dtype=torch.float32)
    one = values_and_gradients(lambda *a: fused.polynorm(*a, 0.0, safe=True), (x, weight, bias), g)
    scaled = (x * 2.0**exponent).detach().requires_grad_()
    other = values_and_gradients(lambda *a: fused.polynorm(*a, 0.0, safe=True), (scaled, weight, bias), g)
    for here, there, factor in zip(one, other, (1, 2.0**exponent, 1, 1), strict=True):
        assert torch.equal(here, there * factor)


def test_saved_for_backward() -> None:
    """x itself and three fp32 numbers per row: 1 + 12/(4 F) units."""
    kept = {}
    x, weight, bias, _ = tensors(64, 1024, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        fused.polynorm(x, weight, bias, backend="eager")
    assert sum(t.nbytes for t in kept.values()) <= 1.01 * x.nbytes


def test_a_module_keeps_one_copy_and_its_plain_form_keeps_seven() -> None:
    def units(module):
        kept = {}
        x = torch.randn(64, 1024, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
            module(x)
        return sum(t.nbytes for t in kept.values()) / x.nbytes

    assert units(PolyNorm()) <= 1.01
    assert units(PolyReLU()) <= 1.01
    assert units(PolyNorm(backend="plain")) > 5


def test_the_same_call_gives_the_same_bits() -> None:
    *inputs, g = tensors(64, 129, dtype=torch.float32)
    one, other = (values_and_gradients(fused.polynorm, inputs, g) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_coefficients_per_expert_in_a_module() -> None:
    module = PolyNorm(experts=4).double()
    torch.nn.init.normal_(module.weight)
    x, _, _, g = tensors(6, 5)
    expert = torch.tensor([0, 3, 3, 1, 0, 3])
    ours = values_and_gradients(lambda x, w, b: module(x, expert), (x, module.weight, module.bias), g)
    module.backend = "plain"
    theirs = values_and_gradients(lambda x, w, b: module(x, expert), (x, module.weight, module.bias), g)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_vmap_and_forward_mode_take_the_formula() -> None:
    x, weight, bias, _ = tensors(4, 5)
    batched = torch.vmap(lambda row: fused.polynorm(row, weight, bias))(x)
    torch.testing.assert_close(batched, fused.polynorm(x, weight, bias))
    _, tangent = torch.func.jvp(lambda x: fused.polynorm(x, weight, bias), (x.detach(),), (torch.ones_like(x),))
    assert tangent.isfinite().all()


# The feed-forward ----------------------------------------------------------------------------------------------------


def layer(gated: bool, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 6, 8), (20, 8), (3,), (1,), (8, 20), *[(20, 8)][: int(gated)]]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def feed_forward(x, w_up, weight, bias, w_down, w_gate=None, **choices):
    return fused.feed_forward(x, w_up, weight, bias, w_down, w_gate=w_gate, **choices)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["polynorm", "polyrelu"])
def test_the_feed_forward_equals_its_plain_twin(activation, gated) -> None:
    inputs = layer(gated)
    g = torch.randn(4, 6, 8, dtype=torch.float64)
    results = [
        values_and_gradients(lambda *a, b=backend: feed_forward(*a, activation=activation, backend=b), inputs, g)
        for backend in ("eager", "plain")
    ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("gated", [False, True])
def test_the_feed_forward_is_differentiable_twice(gated) -> None:
    inputs = [t.detach()[..., :2, :] if t.ndim == 3 else t.detach() for t in layer(gated)]
    assert torch.autograd.gradgradcheck(feed_forward, [t.requires_grad_() for t in inputs], atol=1e-4)


def test_the_feed_forward_keeps_one_hidden_tensor() -> None:
    """Beside its input and its parameters; checkpointing the activation, or Liger, keeps two."""
    x, w_up, w_down = torch.randn(256, 64), torch.randn(512, 64), torch.randn(64, 512)
    weight, bias = torch.full((3,), 1 / 3), torch.zeros(1)
    inputs = [t.requires_grad_() for t in (x, w_up, weight, bias, w_down)]
    own = {t.untyped_storage().data_ptr() for t in inputs}

    def units(function):
        kept = {}

        def keep(t):
            if t.untyped_storage().data_ptr() not in own:
                kept[t.untyped_storage().data_ptr()] = t
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            function(*inputs)
        return sum(t.nbytes for t in kept.values()) / (256 * 512 * 4)

    assert units(fused.feed_forward) <= 1.02
    assert 1.9 < units(lambda x, u, w, b, d: F.linear(fused.polynorm(F.linear(x, u), w, b), d)) <= 2.02
    assert units(lambda *a: fused.feed_forward(*a, backend="plain")) > 6


def test_the_feed_forward_under_autocast() -> None:
    """Autocast runs both projections in bf16; the sums over a row stay in fp32. Tolerance: three roundings of bf16."""
    inputs = layer(gated=False, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fused.feed_forward(*inputs, backend="eager")
    assert y.dtype == torch.bfloat16
    gradients = torch.autograd.grad(y.float().sum(), inputs)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    exact = fused.feed_forward(*inputs, backend="plain")
    torch.testing.assert_close(y.float(), exact, rtol=0, atol=3 * 2**-8 * exact.abs().max().item())


# What others get wrong -----------------------------------------------------------------------------------------------


def test_a_residual_branch_gets_its_own_gradient() -> None:
    """A kernel that writes dx over the upstream gradient corrupts whoever else reads that tensor."""
    z, weight, bias, _ = tensors(5, 7)
    h = 2 * z
    (residual,) = torch.autograd.grad((fused.polynorm(h, weight, bias, backend="eager") + h).sum(), z)
    (expected,) = torch.autograd.grad((reference_polynorm(h := 2 * z, weight, bias) + h).sum(), z)
    torch.testing.assert_close(residual, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_written_over_the_upstream_gradient_nor_the_input(name) -> None:
    *inputs, g = tensors(5, 7)
    before = [t.detach().clone() for t in (*inputs, g)]
    values_and_gradients(lambda *a: FUNCTIONS[name][0](*a, backend="eager"), inputs, g)
    assert all(torch.equal(t, old) for t, old in zip((*inputs, g), before, strict=True))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_bias_with_and_without_an_axis(shape) -> None:
    x, weight, bias, g = tensors(5, 7)
    bias = bias.detach().reshape(shape).requires_grad_()
    for function in (fused.polynorm, fused.polyrelu):
        (gradient,) = torch.autograd.grad(function(x, weight, bias), bias, g)
        assert gradient.shape == shape
        torch.testing.assert_close(gradient.reshape(()), g.sum())


@pytest.mark.parametrize("module", [PolyNorm, PolyReLU])
def test_the_bias_starts_at_zero_and_has_the_authors_shape(module) -> None:
    assert module().bias.tolist() == [0.0]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 8.0, 1e3, 65504.0])
@pytest.mark.parametrize("width", [64, 8192])
def test_half_precision_over_its_whole_range(scale, width) -> None:
    """Powers taken in fp16 leave its range from 6.35 on, and their sums over a long row at once: the cubic term
    vanishes, or NaN appears. The bound on y is the rounding of an fp16 output, 2^-11."""
    x, weight, bias, g = tensors(4, width, dtype=torch.float16)
    x = (x.detach() / x.detach().abs().max() * scale).requires_grad_()
    y, dx, dw, _ = values_and_gradients(fused.polynorm, (x, weight, bias), g)
    exact = values_and_gradients(
        reference_polynorm, [t.detach().double().requires_grad_() for t in (x, weight, bias)], g.double()
    )
    assert (y.double() - exact[0]).norm() < 2**-11 * exact[0].norm()
    torch.testing.assert_close(dw.double(), exact[2], rtol=1e-4, atol=1e-4 * exact[2].abs().max().item())
    # dx falls like 1/scale, below fp16's smallest number in the end: half of that is the absolute error
    assert ((dx.double() - exact[1]).abs() <= 2**-10 * exact[1].abs() + 2**-10 * exact[1].abs().max() + 2**-25).all()


def relative_error_of_dx(scale: float, **choices) -> float:
    x, weight, bias, g = tensors(4, 2048, dtype=torch.float32)
    x = (x.detach() / x.detach().abs().max() * scale).requires_grad_()
    _, dx, *_ = values_and_gradients(lambda *a: fused.polynorm(*a, **choices), (x, weight, bias), g)
    exact = values_and_gradients(
        reference_polynorm, [t.detach().double().requires_grad_() for t in (x, weight, bias)], g.double()
    )[1]
    return ((dx.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("scale", [1e-2, 1.0, 3e4, 1e5, 3e5])
def test_the_gradient_in_single_precision_up_to_three_hundred_thousand(scale) -> None:
    """Where the cube of 1/rms, in which autograd and others write it, underflows from 3e4 on: 5 % off at 1e5."""
    assert relative_error_of_dx(scale, backend="eager") < 1e-5


def test_autograd_through_the_formula_does_lose_it() -> None:
    assert relative_error_of_dx(3e5, backend="plain") > 1e-2


@pytest.mark.parametrize("scale", [1e-8, 1.0, 3e5, 1e10, 1e20])
def test_safe_mode_from_tiny_to_huge(scale) -> None:
    assert relative_error_of_dx(scale, backend="eager", safe=True) < 1e-5


def test_nan_and_inf_stay_in_their_row() -> None:
    for fast in (fused.polynorm, fused.polyrelu, lambda *a: fused.polynorm(*a, safe=True)):
        x, weight, bias, g = tensors(4, 6)
        clean = values_and_gradients(fast, (x, weight, bias), g)
        dirty = x.detach().clone()
        dirty[1, 2], dirty[2, 3] = torch.nan, torch.inf
        y, dx, *_ = values_and_gradients(fast, (dirty.requires_grad_(), weight, bias), g)
        for result, expected in ((y, clean[0]), (dx, clean[1])):
            torch.testing.assert_close(result[[0, 3]], expected[[0, 3]])
        assert y[1].isnan().any()
        assert not y[2].isfinite().all()


def test_strided_inputs_and_gradients() -> None:
    x, weight, bias, g = tensors(6, 7, 8)
    for view in (lambda t: t.transpose(0, 2), lambda t: t[::2, :, 1::3], lambda t: t[:, :1].expand(6, 5, 8)):
        inputs = (view(x).detach().requires_grad_(), weight, bias)
        ours = values_and_gradients(lambda *a: fused.polynorm(*a, backend="eager"), inputs, view(g))
        for one, other in zip(ours, values_and_gradients(reference_polynorm, inputs, view(g)), strict=True):
            torch.testing.assert_close(one, other)


def test_what_is_refused() -> None:
    x, weight, bias, _ = tensors(3, 5)
    for function in (fused.polynorm, fused.polyrelu):
        with pytest.raises(ValueError, match=r"shape \(order,\) with order 1 to 8; got shape \(9,\)"):
            function(x, torch.ones(9), bias)
        with pytest.raises(ValueError, match="unknown backend 'cuda'; known: auto, triton, compiled, eager, plain"):
            function(x, weight, bias, backend="cuda")
    with pytest.raises(ValueError, match=r"needs at least one entry; got shape \(3, 0\)"):
        fused.polynorm(torch.ones(3, 0), weight, bias)
    with pytest.raises(
        ValueError, match="unknown activation 'gelu' for a fused feed-forward; known: polynorm, polyrelu"
    ):
        fused.feed_forward(*layer(gated=False), activation="gelu")


# Which backend -------------------------------------------------------------------------------------------------------


def test_auto_compiles_large_tensors_alone() -> None:
    assert fused.choose_backend(torch.empty(fused.COMPILE_FROM - 1)) == "eager"
    assert fused.choose_backend(torch.empty(fused.COMPILE_FROM)) == "compiled"
    assert fused.choose_backend(torch.empty(fused.COMPILE_FROM, dtype=torch.float64)) == "eager"


def test_the_environment_overrides_auto_and_an_argument_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("MINIPOLYCOM_BACKEND", "eager")
    assert fused.choose_backend(torch.empty(fused.COMPILE_FROM)) == "eager"
    assert fused.choose_backend(torch.empty(8), "compiled") == "compiled"
    monkeypatch.setenv("MINIPOLYCOM_BACKEND", "fast")
    with pytest.raises(ValueError, match="unknown backend 'fast'; known: auto, triton, compiled, eager, plain"):
        fused.choose_backend(torch.empty(8))


@pytest.fixture
def forgetful():
    """What was found out about this machine is forgotten before and after."""

    def forget():
        fused._obstacle.cache_clear()
        fused._say_once.cache_clear()
        fused._broken.clear()

    forget()
    yield
    forget()


def test_without_a_compiler_the_next_backend_is_taken_and_that_is_said_once(monkeypatch, forgetful) -> None:
    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    x, weight, bias, _ = tensors(3, 5, dtype=torch.float32)
    with pytest.warns(UserWarning, match=r"the compiled backend is not available \(no C\+\+ compiler was found\)"):
        fused.polynorm(x, weight, bias, backend="compiled")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = fused.polynorm(x, weight, bias, backend="compiled")
    torch.testing.assert_close(y, reference_polynorm(x, weight, bias))


def test_a_compiler_that_fails_leads_to_the_next_backend(monkeypatch, forgetful) -> None:
    def fails(*args):
        raise RuntimeError("ld returned 1")

    monkeypatch.setitem(fused._FORWARD, "compiled", fails)
    x, weight, bias, g = tensors(3, 5, dtype=torch.float32)
    with pytest.warns(UserWarning, match=r"the compiled backend failed; taking the next one \(ld returned 1\)"):
        y, *_ = values_and_gradients(lambda *a: fused.polynorm(*a, backend="compiled"), (x, weight, bias), g)
    torch.testing.assert_close(y, reference_polynorm(x, weight, bias))


def test_triton_without_a_gpu_gives_way(forgetful) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    x = torch.randn(3, 5)
    with pytest.warns(UserWarning, match="the triton backend is not available"):
        assert fused.choose_backend(x, "triton") in ("compiled", "eager")


def test_importing_the_twins_imports_no_compiler() -> None:
    code = (
        "import sys, minipolycom.fused; print([m for m in ('triton', 'torch._inductor.codecache') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_twins_have_the_same_signature() -> None:
    for name in ("polyrelu", "polynorm", "gated_polynorm"):
        fast, plain = (list(inspect.signature(getattr(m, name)).parameters) for m in (fused, activations))
        assert fast[: len(plain)] == plain


# torch.compile: run without jaxtyping's hook, see the Makefile -------------------------------------------------------


@pytest.mark.compile
@pytest.mark.parametrize("module", [PolyNorm, PolyReLU])
def test_torch_compile_takes_a_module_whole(module) -> None:
    """aot_eager traces forward and backward as Inductor does, without a C++ compiler's minutes."""
    torch._dynamo.reset()
    plain, compiled = module(), module()
    x = torch.randn(5, 7)
    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph

    torch.compile(compiled, fullgraph=True, backend=count)(x)
    assert any("minipolycom.activate" in str(node.target) for node in graphs[0].graph.nodes)
    one, other = (t.clone().requires_grad_() for t in (x, x))
    torch.compile(compiled, fullgraph=True, backend="aot_eager", dynamic=True)(one).square().sum().backward()
    plain(other).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(compiled.weight.grad, plain.weight.grad)


@pytest.mark.compile
@pytest.mark.parametrize("gated", [False, True])
def test_torch_compile_takes_the_feed_forward_whole(gated) -> None:
    torch._dynamo.reset()
    inputs, g = layer(gated), torch.randn(4, 6, 8, dtype=torch.float64)
    whole = torch.compile(feed_forward, fullgraph=True, backend="aot_eager")
    for one, other in zip(
        values_and_gradients(whole, inputs, g), values_and_gradients(feed_forward, inputs, g), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.compile
def test_the_operators_are_registered_as_torch_wants_them() -> None:
    x, weight, bias, _ = tensors(3, 5)
    up = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    for kind in ("relu", "norm", "safe"):
        for partner in (None, up):
            torch.library.opcheck(
                fused._activate_op, (x, partner, weight, bias, 1e-6, kind, "eager"), test_utils=checks
            )
    w_down = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(fused._project_op, (x, up, weight, bias, w_down, 1e-6, "norm", "eager"), test_utils=checks)


@pytest.mark.compile
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_compiled_backend_equals_its_plain_twin(name, forgetful) -> None:
    """In fp32, with sums of a few hundred terms: 1e-5 of the largest entry."""
    fast, plain = FUNCTIONS[name]
    for shape, order in (((6, 33), 3), ((3, 4, 16), 3)):
        *inputs, g = tensors(*shape, order=order, dtype=torch.float32)
        ours = values_and_gradients(lambda *a: fast(*a, backend="compiled"), inputs, g)
        assert not fused._broken
        for one, other in zip(ours, values_and_gradients(plain, inputs, g), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


@pytest.mark.compile
def test_the_compiled_backend_takes_any_mixture_of_calls(forgetful) -> None:
    """torch.compile gives up on a function after eight versions of it: sizes become variables long before."""
    for width, of_rows, differentiated, eps in itertools.product((16, 33), (False, True), (True, False), (1e-6, 1e-5)):
        x, weight, bias, g = tensors(5, width, dtype=torch.float32)
        x = x.detach().requires_grad_(differentiated)
        if of_rows:
            weight, bias = (t.detach().expand(5, -1).clone().requires_grad_() for t in (weight, bias))
        y = fused.polynorm(x, weight, bias, eps, backend="compiled")
        torch.testing.assert_close(y, activations.polynorm(x, weight, bias, eps))
        torch.autograd.grad(y, weight, g)
    assert not fused._broken


@pytest.mark.compile
def test_the_compiled_feed_forward_equals_its_plain_twin(forgetful) -> None:
    inputs, g = layer(False, torch.float32), torch.randn(4, 6, 8)
    ours = values_and_gradients(lambda *a: feed_forward(*a, backend="compiled"), inputs, g)
    assert not fused._broken
    for one, other in zip(
        ours, values_and_gradients(lambda *a: feed_forward(*a, backend="plain"), inputs, g), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


@pytest.mark.compile
def test_safe_mode_and_the_range_of_single_precision_when_compiled(forgetful) -> None:
    assert relative_error_of_dx(3e5, backend="compiled") < 1e-5
    assert relative_error_of_dx(1e20, backend="compiled", safe=True) < 1e-5
    assert not fused._broken
