"""The product of layers against F.linear, its plain twin: values, gradients, and who is taken when."""

import pytest
import torch
import torch.nn.functional as F

from minipolycom import linear as module
from minipolycom.linear import Linear, linear, onednn_is_faster, weight_gradient


@pytest.fixture
def onednn(monkeypatch) -> None:
    """oneDNN's products on any chip and of any size: they exist everywhere, they are only not faster everywhere."""
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(module, "WORTH_IT", 1)


def products(monkeypatch) -> list[tuple]:
    """The shapes that oneDNN multiplies from now on."""
    seen, product = [], torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn,
        "_linear_pointwise",
        lambda x, w, *others: seen.append(tuple(x.shape)) or product(x, w, *others),
    )
    return seen


@pytest.mark.parametrize("shape", [(64,), (3, 33), (2, 5, 7)])
@pytest.mark.parametrize(("D", "F_"), [(24, 40), (40, 24), (7, 1), (1, 7), (13, 13)])
def test_equals_its_twin(onednn, shape, D, F_) -> None:
    """Sums of 40 and of 99 products in another order: a few roundings of fp32, against values of order one."""
    x, w = torch.randn(*shape, D, requires_grad=True), torch.randn(F_, D, requires_grad=True)
    g = torch.randn(*shape, F_)
    ours, twin = linear(x, w), F.linear(x, w)
    torch.testing.assert_close(ours, twin, rtol=1e-5, atol=1e-5)
    for one, other in zip(torch.autograd.grad(ours, (x, w), g), torch.autograd.grad(twin, (x, w), g), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


def test_takes_tensors_that_are_not_in_one_piece(onednn, monkeypatch) -> None:
    seen = products(monkeypatch)
    x = torch.randn(8, 80).t()
    for w in (torch.randn(8, 12).t(), torch.randn(24, 16)[::2, ::2], torch.randn(8).expand(12, 8)):
        torch.testing.assert_close(linear(x, w), F.linear(x, w), rtol=1e-5, atol=1e-5)
    w = torch.randn(12, 8, requires_grad=True)
    linear(x, w).sum().backward()  # a gradient whose entries are all one number in memory
    torch.testing.assert_close(w.grad, x.sum(0).expand(12, 8), rtol=1e-5, atol=2e-5)
    assert len(seen) == 5


def test_second_derivatives(onednn, monkeypatch) -> None:
    seen = products(monkeypatch)
    x, w = torch.randn(40, 6, requires_grad=True), torch.randn(36, 6, requires_grad=True)

    def penalty(product) -> torch.Tensor:
        (dx,) = torch.autograd.grad(product(x, w).pow(2).sum(), x, create_graph=True)
        return dx.pow(2).sum()

    ours = torch.autograd.grad(penalty(linear), (x, w))
    assert len(seen) > 2
    for one, other in zip(ours, torch.autograd.grad(penalty(F.linear), (x, w)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))  # sums of sums


def test_who_is_taken_when(onednn, monkeypatch) -> None:
    monkeypatch.setattr(module, "WORTH_IT", 10 * 8 * 4)
    seen = products(monkeypatch)
    x, w = torch.randn(10, 8), torch.randn(4, 8)
    linear(x, w)
    assert seen == [(10, 8)]
    linear(x[1:], w), linear(x[:0], w), linear(x.double(), w.double()), linear(x.bfloat16(), w.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, w).dtype == torch.bfloat16
    torch.func.vmap(lambda row: linear(row, w))(x.expand(2, 10, 8))
    assert len(seen) == 1


def test_the_layer_is_an_nn_linear(onednn) -> None:
    layer = Linear(8, 4)
    assert isinstance(layer, torch.nn.Linear)
    assert list(layer.state_dict()) == ["weight"]
    x = torch.randn(50, 8)
    torch.testing.assert_close(layer(x), torch.nn.Linear.forward(layer, x), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_weight() -> None:
    g, x = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(weight_gradient(g, x), torch.einsum("btf,btd->fd", g, x))


@pytest.mark.parametrize(
    ("capability", "tune", "faster"), [("AVX512", "1", True), ("AVX512", "0", False), ("AVX2", "1", False)]
)
def test_the_choice_is_the_chips(monkeypatch, capability, tune, faster) -> None:
    monkeypatch.setattr(module.Path, "read_text", lambda path: "vendor_id : AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setenv("MINIPOLYCOM_TUNE", tune)
    assert onednn_is_faster.__wrapped__() == faster
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "mkldnn", None)  # a torch that comes without, as for macOS
        assert not onednn_is_faster.__wrapped__()
    monkeypatch.setattr(module.Path, "read_text", lambda path: "vendor_id : GenuineIntel")
    assert not onednn_is_faster.__wrapped__()


@pytest.mark.timing
@pytest.mark.skipif(not onednn_is_faster(), reason="MKL does not hold this chip back")
def test_it_is_faster_where_it_is_taken() -> None:
    """Measured: 2.2 times; half of the lead is left to a busy machine."""
    from minipolycom.bench.timing import milliseconds, now, spread, take_turns

    x, w = torch.randn(1024, 128), torch.randn(512, 128)

    def timed(product) -> float:
        start = now(x)
        product(x, w)
        return milliseconds(start, now(x))

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = take_turns({"twin": lambda: timed(F.linear), "ours": lambda: timed(linear)}, rounds=25)
    finally:
        torch.set_num_threads(before)
    assert spread(times["twin"], times["ours"])["ratio"] > 1.5
