"""Activations: the polynomial compositions of PolyCom and the baselines they are compared with.

One formula holds the whole family. With three functions to choose, each the identity unless named,

    compose:   y = b + last( sum_{p=1..P} a_p outer( inner(x)^p ) )

    type I     inner = rho    the function first, then the powers      PolyReLU: rho = relu
    type II    outer = rho    the powers first, then the function      PolyNorm: rho = rms_norm

The arithmetic stands in functions; the modules under them hold the learnable coefficients and nothing else.
Coefficients are stored from the highest power down, under the names `weight` and `bias`, so that state dicts of the
authors' code load unchanged. What is written here is the plain form; `fused` computes the same numbers faster.

Source: Zhuo et al., "Polynomial Composition Activations", ICLR 2025, arXiv 2411.03884.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

MAX_ORDER = 8


def identity(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """x itself."""
    return x


def rms_norm(x: Float[Tensor, "*batch F"], eps: float = 1e-6) -> Float[Tensor, "*batch F"]:
    """x divided by its root mean square over the last axis, x / sqrt(mean(x^2) + eps)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)


def prelu(x: Float[Tensor, "*batch"], slope: Float[Tensor, ""]) -> Float[Tensor, "*batch"]:
    """x where it is positive, slope * x elsewhere (He et al., "Delving deep into rectifiers", 2015)."""
    return torch.where(x > 0, x, slope * x)


INNER: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": identity,
    "relu": torch.relu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "rms_norm": rms_norm,
}
"""The functions a composition is made of, by name. `prelu` is one more: it needs a slope, which `PolyCom` learns."""


def compose(
    x: Float[Tensor, "*batch"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    inner: Callable[[Tensor], Tensor] = identity,
    outer: Callable[[Tensor], Tensor] = identity,
    last: Callable[[Tensor], Tensor] = identity,
) -> Float[Tensor, "*batch"]:
    """The polynomial composition every member of the family is a case of.

    y = b + last( sum_{p=1..P} a_p outer( inner(x)^p ) ),   with a_p = weight[P - p]: the highest power comes first.

    y has x's shape and dtype. With all three functions the identity it is the bare polynomial. The powers are formed
    in fp32 or better, because the cube of a half-precision number leaves its range from |x| = 40 on. Leading axes of
    `weight` and `bias`, if any, give each row of x coefficients of its own, as experts have.

    Raises ValueError for integer input, coefficients of the wrong shape, and an empty row under a normalisation.
    Source: arXiv 2411.03884; type I has `inner` alone, type II `outer` alone.
    """
    check_input(x, weight, bias)
    u = inner(_at_least_fp32(x))
    power, terms = u, []
    for coefficient in _columns(weight.flip(-1)):
        terms.append(coefficient * outer(power))
        power = power * u
    (offset,) = _columns(bias.reshape(*weight.shape[:-1], 1))
    return (last(sum(terms)) + offset).to(x.dtype)


def polyrelu(
    x: Float[Tensor, "*batch"], weight: Float[Tensor, "*rows P"], bias: Float[Tensor, "..."]
) -> Float[Tensor, "*batch"]:
    """PolyReLU: a polynomial of the rectified input.

    y = b + sum_{p=1..P} a_p max(x, 0)^p,   with a_p = weight[P - p]: the highest power comes first.

    x has any shape; y has its shape and dtype. Raises what `compose` raises.
    Source: arXiv 2411.03884, type I composition with rho = ReLU.
    """
    return compose(x, weight, bias, inner=torch.relu)


def polynorm(
    x: Float[Tensor, "*batch F"], weight: Float[Tensor, "*rows P"], bias: Float[Tensor, "..."], eps: float = 1e-6
) -> Float[Tensor, "*batch F"]:
    """PolyNorm: a sum of powers, each divided by its own root mean square over the row.

    y = b + sum_{p=1..P} a_p x^p / sqrt(mean(x^2p) + eps),   with a_p = weight[P - p]: the highest power comes first.

    A row is the last axis (F, the feed-forward width); the mean runs over it. y has x's shape and dtype.
    The paper's formula divides by the L2 norm, its code by the root mean square, which is sqrt(F) times smaller;
    this follows the code. In half precision x^6 overflows from |x| = 6.35 on and the cubic term would vanish without
    a warning: statistics are therefore computed in fp32 or better, where the same happens from |x| = 2.6e6 on
    (`fused.polynorm(safe=True)` goes on to 1e20). Raises what `compose` raises.
    Source: arXiv 2411.03884, type II composition with rho = normalisation.
    """
    check_row(x)
    return compose(x, weight, bias, outer=partial(rms_norm, eps=eps))


def polyprelu(
    x: Float[Tensor, "*batch"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    slope: Float[Tensor, ""],
) -> Float[Tensor, "*batch"]:
    """PolyPReLU: a polynomial of max(x, 0) + slope min(x, 0) (arXiv 2411.03884, ablation of compositions)."""
    return compose(x, weight, bias, inner=partial(prelu, slope=slope))


def polyrelunorm(
    x: Float[Tensor, "*batch F"], weight: Float[Tensor, "*rows P"], bias: Float[Tensor, "..."], eps: float = 1e-6
) -> Float[Tensor, "*batch F"]:
    """PolyReLUNorm: PolyNorm of the rectified input, powers of max(x, 0) each normalised (arXiv 2411.03884)."""
    return polynorm(torch.relu(x), weight, bias, eps)


def sumnorm(
    x: Float[Tensor, "*batch F"], weight: Float[Tensor, "*rows P"], bias: Float[Tensor, "..."], eps: float = 1e-6
) -> Float[Tensor, "*batch F"]:
    """Sum, then norm: y = b + s / sqrt(mean(s^2) + eps) with s = sum a_p x^p. The control for a norm of each power."""
    check_row(x)
    return compose(x, weight, bias, last=partial(rms_norm, eps=eps))


def gated_polynorm(
    gate: Float[Tensor, "*batch F"],
    up: Float[Tensor, "*batch F"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    eps: float = 1e-6,
) -> Float[Tensor, "*batch F"]:
    """PolyNorm(gate) * up, the gated form that Motif trains; multiplied in fp32 or better, rounded once at the end.

    Raises what `polynorm` raises. Source: Motif 2.6B technical report, arXiv 2508.09148.
    """
    return (polynorm(_at_least_fp32(gate), weight, bias, eps) * up).to(gate.dtype)


def squared_relu(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The square of the rectifier, max(x, 0)^2 (So et al., "Primer", 2021)."""
    return torch.relu(x).square()


def _uniform(order: int, function: Callable) -> Tensor:
    return torch.full((order,), 1 / order)


def _linear(order: int, function: Callable) -> Tensor:
    return F.one_hot(torch.tensor(order - 1), order).float()


def _variance(order: int, function: Callable) -> Tensor:
    # 2^16 evenly spaced quantiles stand for a standard normal row, so that no random number is drawn
    probability = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    row = torch.special.ndtri(probability)
    weight = _uniform(order, function).double()
    return (weight / function(row, weight, torch.zeros(1).double()).square().mean().sqrt()).float()


START: dict[str, Callable[[int, Callable], Tensor]] = {"uniform": _uniform, "variance": _variance, "linear": _linear}
"""Where the coefficients start: all 1/order, as the authors do; the same scaled so that a standard normal row keeps a
mean square of 1 (PolyNorm of order 3: times 1.41); only the first power, so that training starts from rho itself."""


class SquaredReLU(nn.Module):
    """`squared_relu` as a module, without parameters."""

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return squared_relu(x)


class PolyReLU(nn.Module):
    """`polyrelu` with its learnable coefficients.

    `weight` has `order` entries, highest power first, and `bias` one, which starts at 0; `start` is a key of START.
    With `experts` given, each expert has its own, and forward takes the index of the expert of each row.
    `backend` chooses how it is computed (see `fused`); "plain" is the formula above, step by step.
    Raises ValueError for an order outside 1..8 and an unknown start. Source: arXiv 2411.03884.
    """

    def __init__(self, order: int = 3, *, start: str = "uniform", experts: int | None = None, backend: str = "auto"):
        super().__init__()
        self.backend = backend
        self.weight, self.bias = _coefficients(order, start, experts, polyrelu)
        self.register_load_state_dict_pre_hook(_accept_scalar_bias)

    def forward(
        self, x: Float[Tensor, "*batch"], expert: Int[Tensor, "*rows"] | None = None
    ) -> Float[Tensor, "*batch"]:
        from minipolycom import fused  # fused imports the plain functions above

        weight, bias = _of_rows(self.weight, self.bias, expert)
        return fused.polyrelu(x, weight, bias, backend=self.backend)

    def extra_repr(self) -> str:
        return f"order={self.weight.shape[-1]}"


class PolyNorm(nn.Module):
    """`polynorm` with its learnable coefficients.

    `weight` has `order` entries, highest power first, and `bias` one, which starts at 0; `start` is a key of START.
    `eps` is added to the mean square of each power, as in the authors' code.
    With `experts` given, each expert has its own, and forward takes the index of the expert of each row.
    `backend` chooses how it is computed (see `fused`); "plain" is the formula above, step by step.
    Raises ValueError for an order outside 1..8 and an unknown start. Source: arXiv 2411.03884.
    """

    def __init__(
        self,
        order: int = 3,
        eps: float = 1e-6,
        *,
        start: str = "uniform",
        experts: int | None = None,
        backend: str = "auto",
    ):
        super().__init__()
        self.eps = eps
        self.backend = backend
        self.weight, self.bias = _coefficients(order, start, experts, polynorm)
        self.register_load_state_dict_pre_hook(_accept_scalar_bias)

    def forward(
        self, x: Float[Tensor, "*batch F"], expert: Int[Tensor, "*rows"] | None = None
    ) -> Float[Tensor, "*batch F"]:
        from minipolycom import fused  # fused imports the plain functions above

        weight, bias = _of_rows(self.weight, self.bias, expert)
        return fused.polynorm(x, weight, bias, self.eps, backend=self.backend)

    def extra_repr(self) -> str:
        return f"order={self.weight.shape[-1]}, eps={self.eps}"


class PolyCom(nn.Module):
    """`compose` with its learnable coefficients: any member of the family, its functions given by name.

    `inner`, `outer` and `last` are keys of INNER, or "prelu", whose slope is learnt and starts at 0.25.
    PolyCom(inner="relu") is PolyReLU and PolyCom(outer="rms_norm") is PolyNorm, both in the plain form.
    Raises ValueError for an order outside 1..8, an unknown function and an unknown start. Source: arXiv 2411.03884.
    """

    def __init__(
        self,
        order: int = 3,
        *,
        inner: str = "identity",
        outer: str = "identity",
        last: str = "identity",
        start: str = "uniform",
        experts: int | None = None,
    ):
        super().__init__()
        self.names = {"inner": inner, "outer": outer, "last": last}
        for name in self.names.values():
            _known(name, (*INNER, "prelu"), "inner function")
        self.slope = nn.Parameter(torch.tensor(0.25)) if "prelu" in self.names.values() else None
        self.weight, self.bias = _coefficients(order, start, experts, self._compose)
        self.register_load_state_dict_pre_hook(_accept_scalar_bias)

    def forward(
        self, x: Float[Tensor, "*batch"], expert: Int[Tensor, "*rows"] | None = None
    ) -> Float[Tensor, "*batch"]:
        return self._compose(x, *_of_rows(self.weight, self.bias, expert))

    def _compose(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if "rms_norm" in self.names.values():
            check_row(x)
        functions = INNER | {"prelu": partial(prelu, slope=self.slope)}
        return compose(x, weight, bias, **{place: functions[name] for place, name in self.names.items()})

    def extra_repr(self) -> str:
        chosen = ", ".join(f"{place}={name}" for place, name in self.names.items() if name != "identity")
        return f"order={self.weight.shape[-1]}" + (f", {chosen}" if chosen else "")


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
"""Gated feed-forwards by name, with their gate's activation (Shazeer, "GLU variants improve transformer", 2020)."""

ACTIVATION_NAMES: tuple[str, ...] = (*ACTIVATIONS, *GATED)
"""Every value that the setting `activation` of a model accepts."""

COMPOSITIONS: dict[str, Callable[..., nn.Module]] = {
    "polynomial": PolyCom,
    "polyrelu": PolyReLU,
    "polyprelu": partial(PolyCom, inner="prelu"),
    "polynorm": PolyNorm,
    "polyrelunorm": partial(PolyCom, inner="relu", outer="rms_norm"),
    "sumnorm": partial(PolyCom, last="rms_norm"),
}
"""The named members of the family, for ablations; a call with `order`, `start`, `experts` makes the module."""


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.is_floating_point() else x


def _columns(coefficients: Tensor) -> list[Tensor]:
    """The entries along the last axis: scalars, or one column over the rows where each row has its own."""
    columns = coefficients.unbind(-1)
    return list(columns) if coefficients.ndim == 1 else [column[..., None] for column in columns]


def _coefficients(order: int, start: str, experts: int | None, function: Callable) -> tuple[nn.Parameter, nn.Parameter]:
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"the order is the highest power, from 1 to {MAX_ORDER}; got {order}")
    _known(start, START, "start")
    with torch.no_grad():
        weight, bias = START[start](order, function), torch.zeros(1)
        if experts is not None:
            weight, bias = weight.repeat(experts, 1), bias.repeat(experts, 1)
    return nn.Parameter(weight), nn.Parameter(bias)


def _of_rows(weight: Tensor, bias: Tensor, expert: Tensor | None) -> tuple[Tensor, Tensor]:
    """The coefficients that each row uses: the shared ones, or those of its expert."""
    if (weight.ndim == 2) != (expert is not None):
        raise ValueError(
            "coefficients per expert and the index of each row's expert belong together: "
            f"this module holds {f'{len(weight)} sets' if weight.ndim == 2 else 'one shared set'} of coefficients, "
            f"the call {'names no' if expert is None else 'names an'} expert"
        )
    return (weight, bias) if expert is None else (F.embedding(expert, weight), F.embedding(expert, bias))


def _accept_scalar_bias(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Liger stores the bias without an axis; every other implementation, and we, with one of length 1."""
    bias = state_dict.get(f"{prefix}bias")
    if bias is not None and bias.ndim == 0:
        state_dict[f"{prefix}bias"] = bias.reshape(1)


def _known(name: str, choices, what: str) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(choices)}")


def check_row(x: Tensor) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"a normalisation runs over the last axis, which needs at least one entry; got shape {tuple(x.shape)}"
        )


def check_input(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"activations need floating-point input; got {x.dtype}: convert it with x.float()")
    if weight.ndim == 0 or not 1 <= weight.shape[-1] <= MAX_ORDER:
        raise ValueError(
            f"weight holds one coefficient per power, highest first: shape (order,) with order 1 to {MAX_ORDER}; "
            f"got shape {tuple(weight.shape)}"
        )
    rows = weight.shape[:-1]
    if bias.numel() != rows.numel() or (rows and bias.shape != (*rows, 1)):
        raise ValueError(
            f"bias holds one entry for each set of coefficients, here shape {(*rows, 1)}; got shape {tuple(bias.shape)}"
        )
    fit = len(rows) < x.ndim and all(r in (1, n) for r, n in zip(rows[::-1], x.shape[-2::-1], strict=False))
    if rows and not fit:
        raise ValueError(
            f"coefficients per row have the leading axes of x, or 1 in their place; got weight {tuple(weight.shape)} "
            f"for x of shape {tuple(x.shape)}"
        )
