"""Matrix products of layers, by the faster of the two libraries that torch brings along.

On a CPU torch gives products in fp32 to MKL. On AMD's chips with AVX-512, MKL keeps to instructions of half the width;
oneDNN, to which torch gives convolutions and products in bf16, uses the whole width. Measured on one core of a Zen 5,
(2048, 128) times (128, 512): 92 against 221 GFLOP/s. A training step is two thirds such products.

`F.linear` is the plain twin, and is taken everywhere else: on other chips and devices, in other precisions, under
autocast, inside torch.compile and torch.func, and for small products, which starting costs more than multiplying.
"""

import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WORTH_IT = 2**20
"""Multiplications from which oneDNN is taken: it starts 10 microseconds later than MKL, and has made up for it here."""


def linear(x: Float[Tensor, "*batch D"], w: Float[Tensor, "F D"]) -> Float[Tensor, "*batch F"]:
    """x w^T, as F.linear; differentiable any number of times."""
    return _Linear.apply(x, w) if takes_onednn(x, w) else F.linear(x, w)


class Linear(nn.Linear):
    """nn.Linear without a bias, by `linear`."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch F"]:
        return linear(x, self.weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return by_onednn(x, w)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        dx = linear(g, w.t()) if ctx.needs_input_grad[0] else None
        return dx, weight_gradient(g, x) if ctx.needs_input_grad[1] else None


def weight_gradient(g: Float[Tensor, "*rows F"], x: Float[Tensor, "*same_rows D"]) -> Float[Tensor, "F D"]:
    """g^T x, the gradient of w in x w^T."""
    g_NF, x_ND = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    return transposed_product(g_NF, x_ND, linear).contiguous()


def transposed_product(
    g_NF: Float[Tensor, "N F"], x_ND: Float[Tensor, "N D"], product: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "F D"]:
    """g^T x by `product`, which is `linear` or its like; the result's columns may be what is in one piece."""
    # oneDNN copies a left factor whose rows are not in one piece: the smaller one stands there
    if g_NF.shape[1] <= x_ND.shape[1]:
        return product(g_NF.t(), x_ND.t())
    return product(x_ND.t(), g_NF.t()).t()


def by_onednn(x: Float[Tensor, "*batch D"], w: Float[Tensor, "F D"]) -> Float[Tensor, "*batch F"]:
    """x w^T by oneDNN, whoever is faster; autograd does not know it."""
    if not (w.is_contiguous() or w.t().is_contiguous()):
        w = w.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")


def takes_onednn(x: Float[Tensor, "*batch D"], w: Float[Tensor, "F D"]) -> bool:
    """Whether `linear` gives this product to oneDNN."""
    return (
        not torch.compiler.is_compiling()  # first: torch.compile cannot trace the question what chip this is
        and x.dtype == w.dtype == torch.float32
        and x.device.type == w.device.type == "cpu"
        and onednn_is_faster()
        and x.numel() * len(w) >= WORTH_IT
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


@cache
def onednn_is_faster() -> bool:
    """Whether this is a chip that MKL holds back. MINIPOLYCOM_TUNE=0 leaves the choice to torch."""
    if os.environ.get("MINIPOLYCOM_TUNE") == "0" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        chip = Path("/proc/cpuinfo").read_text()
    except OSError:
        chip = platform.processor()
    return "AuthenticAMD" in chip and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
