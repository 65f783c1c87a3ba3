"""Activations: the two polynomial compositions of PolyCom and the baselines they are compared with.

The arithmetic stands in functions; the modules under them hold the learnable coefficients and nothing else.
Coefficients are stored from the highest power down, under the names `weight` and `bias`, so that state dicts of the
authors' code load unchanged.

Source: Zhuo et al., "Polynomial Composition Activations", ICLR 2025, arXiv 2411.03884.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

MAX_ORDER = 8


def squared_relu(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The square of the rectifier, max(x, 0)^2 (So et al., "Primer", 2021)."""
    return torch.relu(x).square()


def polyrelu(
    x: Float[Tensor, "*batch"], weight: Float[Tensor, " P"], bias: Float[Tensor, " 1"]
) -> Float[Tensor, "*batch"]:
    """PolyReLU: a polynomial of the rectified input.

    y = b + sum_{p=1..P} a_p max(x, 0)^p,   with a_p = weight[P - p]: the highest power comes first.

    x has any shape; y has its shape and dtype. The sum is formed in fp32 or better, because the cube of a
    half-precision number leaves its range from |x| = 40 on.

    Raises ValueError for integer input and for coefficients of the wrong shape.
    Source: arXiv 2411.03884, type I composition with rho = ReLU.
    """
    _check(x, weight, bias)
    positive = torch.relu(_at_least_fp32(x))
    y = weight[0] * positive
    for coefficient in weight[1:]:
        y = (y + coefficient) * positive  # Horner: one product and one sum per power
    return (y + bias).to(x.dtype)


def polynorm(
    x: Float[Tensor, "*batch F"], weight: Float[Tensor, " P"], bias: Float[Tensor, " 1"], eps: float = 1e-6
) -> Float[Tensor, "*batch F"]:
    """PolyNorm: a sum of powers, each divided by its own root mean square over the row.

    y = b + sum_{p=1..P} a_p x^p / sqrt(mean(x^2p) + eps),   with a_p = weight[P - p]: the highest power comes first.

    A row is the last axis (F, the feed-forward width); the mean runs over it. y has x's shape and dtype.
    The paper's formula divides by the L2 norm, its code by the root mean square, which is sqrt(F) times smaller;
    this follows the code. Statistics are computed in fp32 or better: x^6 leaves half precision from |x| = 6.35 on,
    and the cubic term would vanish without a warning.

    Raises ValueError for integer input, an empty row, and coefficients of the wrong shape.
    Source: arXiv 2411.03884, type II composition with rho = normalisation.
    """
    _check(x, weight, bias)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"polynorm normalises over the last axis, which must not be empty; got shape {tuple(x.shape)}")
    wide = _at_least_fp32(x)
    order = len(weight)
    y = bias.to(wide.dtype)
    for p in range(1, order + 1):
        power = wide**p
        rms = torch.sqrt(power.square().mean(dim=-1, keepdim=True) + eps)
        y = y + weight[order - p] * (power / rms)
    return y.to(x.dtype)


class SquaredReLU(nn.Module):
    """`squared_relu` as a module, without parameters."""

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return squared_relu(x)


class PolyReLU(nn.Module):
    """`polyrelu` with its learnable coefficients.

    `weight` has `order` entries, highest power first, and starts at 1/order; `bias` has one entry and starts at 0.
    Raises ValueError for an order outside 1..8. Source: arXiv 2411.03884.
    """

    def __init__(self, order: int = 3):
        super().__init__()
        _check_order(order)
        self.weight = nn.Parameter(torch.full((order,), 1 / order))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return polyrelu(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"order={len(self.weight)}"


class PolyNorm(nn.Module):
    """`polynorm` with its learnable coefficients.

    `weight` has `order` entries, highest power first, and starts at 1/order; `bias` has one entry and starts at 0.
    `eps` is added to the mean square of each power, as in the authors' code.
    Raises ValueError for an order outside 1..8. Source: arXiv 2411.03884.
    """

    def __init__(self, order: int = 3, eps: float = 1e-6):
        super().__init__()
        _check_order(order)
        self.eps = eps
        self.weight = nn.Parameter(torch.full((order,), 1 / order))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch F"]:
        return polynorm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"order={len(self.weight)}, eps={self.eps}"


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "squared_relu": SquaredReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "polyrelu": PolyReLU,
    "polynorm": PolyNorm,
}
"""Each activation by its name; a call makes the module."""

GATED: dict[str, str] = {"swiglu": "silu", "geglu": "gelu"}
"""Gated feed-forwards by name, with the activation of their gate (Shazeer, "GLU variants", 2020)."""

ACTIVATION_NAMES: tuple[str, ...] = (*ACTIVATIONS, *GATED)
"""Every value that the setting `activation` of a model accepts."""


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_order(order: int) -> None:
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"the order is the highest power, from 1 to {MAX_ORDER}; got {order}")


def _check(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"activations need floating-point input; got {x.dtype}: convert it with x.float()")
    if weight.ndim != 1 or not 1 <= len(weight) <= MAX_ORDER:
        raise ValueError(
            f"weight holds one coefficient per power, highest first: shape (order,) with order 1 to {MAX_ORDER}; "
            f"got shape {tuple(weight.shape)}"
        )
    if bias.numel() != 1:
        raise ValueError(f"bias holds one entry; got shape {tuple(bias.shape)}")
