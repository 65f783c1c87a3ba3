"""The Triton kernels: their numbers on a GPU where there is one, in Triton's interpreter elsewhere; their machine code.

The interpreter has to be chosen before triton is imported, so this file runs itself as a script and reads its report.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
from reference import norm, polynorm, polynorm_of_order, polyrelu_of_order

pytest.importorskip("triton", reason="the kernels are written in Triton, which has no build for this machine")
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
CASES = [  # rows, width, order; then the size of a tile and the longest row held in one
    (1, 1, 3, 8192, 16384), (5, 7, 1, 8192, 16384), (3, 513, 3, 8192, 16384), (0, 5, 3, 8192, 16384),
    (3, 64, 3, 64, 128), (70, 3, 8, 64, 128), (2, 200, 3, 64, 128), (1, 13824, 3, 4096, 8192),
]  # fmt: skip
"""Small tiles take the same rows through several tiles, and the wide ones through chunks."""
TOLERANCE = {"float32": 2e-5, "float16": 2e-3}
"""Of the largest entry. fp32: sums of thousands of terms; fp16: roundings of 2^-11. The interpreter has no bf16."""


def formula(kind: str, x, up, weight, bias):
    if weight.ndim == 2:  # coefficients of rows
        terms = [weight[:, p, None] * norm(x ** (weight.shape[1] - p)) for p in range(weight.shape[1])]
        return sum(terms) + bias
    y = polyrelu_of_order(x, weight, bias) if kind == "relu" else polynorm_of_order(x, weight, bias)
    return y * up if kind == "gated" else y


def kernel(kind: str, x, up, weight, bias):
    from minipolycom import fused

    if kind == "relu":
        return fused.polyrelu(x, weight, bias, backend="triton")
    if kind == "gated":
        return fused.gated_polynorm(x, up, weight, bias, backend="triton")
    return fused.polynorm(x, weight, bias, backend="triton", safe=kind == "safe")


def errors(kind: str, shape: tuple[int, int], order: int, dtype: torch.dtype, scale: float = 1.0) -> dict[str, float]:
    """How far y and each gradient are from the formula in fp64, in units of the formula's largest entry."""
    generator = torch.Generator().manual_seed(0)
    x, up, g = (torch.randn(shape, generator=generator) for _ in range(3))
    rows = (shape[0],) if kind == "rows" else ()
    weight, bias = torch.randn((*rows, order), generator=generator), torch.randn((*rows, 1), generator=generator)
    inputs = [(scale * x).to(dtype), up.to(dtype), weight, bias]
    ours = [t.to(DEVICE).requires_grad_() for t in inputs]
    exact = [t.double().requires_grad_() for t in inputs]
    y, truth = kernel(kind, *ours), formula(kind, *exact)
    used = [i for i in range(4) if i != 1 or kind == "gated"]
    gradients = torch.autograd.grad(y, [ours[i] for i in used], g.to(DEVICE, dtype))
    true_gradients = torch.autograd.grad(truth, [exact[i] for i in used], g.to(dtype).double())
    names = ["y", *(("dx", "d_up", "dw", "db")[i] for i in used)]
    report = {}
    for name, one, other in zip(names, (y, *gradients), (truth, *true_gradients), strict=True):
        size = other.abs().max().item() if other.numel() else 0.0
        if name == "dx":  # a row of one entry has no gradient but eps: measured against what it is a difference of
            size = max(size, g.abs().max().item() / scale if other.numel() else 0.0)
        difference = (one.double().cpu() - other).abs()
        report[name] = (difference.max().item() if other.numel() else 0.0) / max(size, 1e-30)
    return report


def measure() -> dict:
    from minipolycom import fused, triton_kernels

    report = {}
    for rows, width, order, tile, longest in CASES:
        triton_kernels.TILE, triton_kernels.LONGEST_TILE = tile, longest
        for kind in ("relu", "norm", "safe", "gated", "rows"):
            for name in TOLERANCE:
                key = f"{kind} {rows}x{width} order {order} {name} tile {tile}"
                report[key] = errors(kind, (rows, width), order, getattr(torch, name))
    triton_kernels.TILE, triton_kernels.LONGEST_TILE = 8192, 16384
    report["fp32 3e5"] = errors("norm", (2, 256), 3, torch.float32, 6e4)
    report["fp32 1e20 safe"] = errors("safe", (2, 256), 3, torch.float32, 2e19)
    report["fp32 1e-8 safe"] = errors("safe", (2, 256), 1, torch.float32, 1e-8)
    report["fp16 65504"] = errors("norm", (2, 256), 3, torch.float16, 15000.0)
    report["feed_forward"] = feed_forward_error()
    report["rows apart"] = rows_apart()
    report["failures"] = dict(fused._broken)
    return report


def feed_forward_error() -> dict[str, float]:
    from minipolycom import fused

    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 16), (24, 16), (3,), (1,), (16, 24), (24, 16)]
    inputs = [torch.randn(shape, generator=generator).to(DEVICE).requires_grad_() for shape in shapes]

    def layer(x, w_up, weight, bias, w_down, w_gate, backend):
        return fused.feed_forward(x, w_up, weight, bias, w_down, w_gate=w_gate, backend=backend)

    results = [torch.autograd.grad(layer(*inputs, backend).sum(), inputs) for backend in ("triton", "plain")]
    worst = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results, strict=True)]
    return dict(zip(("dx", "d_w_up", "dw", "db", "d_w_down", "d_w_gate"), worst, strict=True))


def rows_apart() -> dict[str, bool]:
    """NaN and inf stay in their row; nothing is written over the upstream gradient; twice gives the same bits."""
    from minipolycom import fused

    x, g = torch.randn(4, 9, device=DEVICE), torch.randn(4, 9, device=DEVICE)
    weight, bias = torch.full((3,), 1 / 3, device=DEVICE), torch.zeros((), device=DEVICE)
    report, upstream = {}, g.clone()
    for kind, function in (("relu", fused.polyrelu), ("norm", fused.polynorm)):
        clean, dirty = x.clone().requires_grad_(), x.clone()
        dirty[1, 2], dirty[2, 3] = torch.nan, torch.inf
        dirty.requires_grad_()
        results = []
        for rows in (clean, dirty, clean):
            y = function(rows, weight, bias, backend="triton")
            results.append((y.detach(), *torch.autograd.grad(y, rows, g)))
        report[f"{kind} others untouched"] = all(
            torch.equal(a[[0, 3]], b[[0, 3]]) for a, b in zip(results[0], results[1], strict=True)
        )
        report[f"{kind} nan stays"] = bool(results[1][0][1].isnan().any())
        report[f"{kind} same bits"] = all(torch.equal(a, b) for a, b in zip(results[0], results[2], strict=True))
    report["gradient untouched"] = torch.equal(g, upstream)
    return report


@pytest.fixture(scope="module")
def report() -> dict:
    environment = os.environ | ({} if ON_GPU else {"TRITON_INTERPRET": "1"})
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["relu", "norm", "safe", "gated", "rows"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_kernels_compute_the_formula_and_its_gradients(report, kind, dtype) -> None:
    found = {key: value for key, value in report.items() if key.startswith(f"{kind} ") and dtype in key}
    assert len(found) == len(CASES)
    wrong = {key: value for key, value in found.items() if max(value.values()) > TOLERANCE[dtype]}
    assert not wrong


@pytest.mark.parametrize("case", ["fp32 3e5", "fp32 1e20 safe", "fp32 1e-8 safe", "fp16 65504"])
def test_the_kernels_hold_over_the_range(report, case) -> None:
    dtype = "float16" if "fp16" in case else "float32"
    assert max(report[case].values()) < TOLERANCE[dtype]


def test_the_feed_forward(report) -> None:
    assert max(report["feed_forward"].values()) < TOLERANCE["float32"]


def test_rows_do_not_touch_each_other(report) -> None:
    assert report["rows apart"] == dict.fromkeys(report["rows apart"], True)


def test_nothing_fell_back_to_another_backend(report) -> None:
    assert report["failures"] == {}


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize(("dtype", "kind", "gated", "chunked"), [
    ("fp16", "norm", False, False), ("fp16", "norm", True, True), ("bf16", "norm", False, False),
    ("bf16", "norm", False, True), ("bf16", "safe", False, False), ("fp32", "relu", False, False),
])  # fmt: skip
def test_the_kernels_compile_to_machine_code(capability, dtype, kind, gated, chunked) -> None:
    """For a T4, an A100 and an H100, no GPU needed; a T4 has no bf16, so there it is not asked for."""
    if capability == 75 and dtype == "bf16":
        dtype = "fp16"
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from minipolycom import triton_kernels

    sizes = {"ORDER": 3, "KIND": kind, "GATED": gated, "ROWS": 1, "BLOCK": 8192, "CHUNKED": chunked, "MASKED": False}
    tensors = ["X", *(["UP", "DUP"] if gated else []), "Y", "G", "DX"]
    for kernel, own in (
        (triton_kernels._forward_kernel, {"EPS": 1e-6}),
        (triton_kernels._backward_kernel, {"RECOMPUTE": True}),
    ):
        signature, constants = {}, {}
        for name in kernel.arg_names:
            if name in sizes | own:
                constants[name], signature[name] = (sizes | own)[name], "constexpr"
            elif name in ("UP", "DUP") and not gated:
                constants[name], signature[name] = None, "constexpr"
            else:
                signature[name] = f"*{dtype}" if name in tensors else "*fp32" if name.isupper() else "i32"
        made = compile(
            ASTSource(kernel, signature, constants),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": 8},
        )
        assert made.asm["cubin"]


def test_the_formula_used_here_is_the_authors() -> None:
    x, weight, bias = torch.randn(3, 5), torch.randn(3), torch.randn(1)
    torch.testing.assert_close(formula("norm", x, None, weight, bias), polynorm(x, weight, bias))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the interpreter's many tiny operations only wait for a second thread
    print(json.dumps(measure()))
