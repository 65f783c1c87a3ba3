"""The fast twins of `activations`: the same functions, with a backward in closed form.

Autograd keeps every intermediate power of x; the closed form keeps x and a few numbers per row. For one row of n
entries and its upstream gradient g, with u = x for PolyNorm and u = max(x, 0) for PolyReLU,

    r_p  = (mean(u^2p) + eps)^(-1/2)   (PolyReLU: 1)          a_p = w_p r_p
    y    = b + sum_p a_p u^p
    t_p  = r_p sum_i g_i u_i^p                                c_p = p a_p (r_p t_p / n)   (PolyReLU: 0)
    dx   = sum_p u^(p-1) (p a_p g - c_p u^p),    dw_p = sum over rows of t_p,    db = sum of g

c_p is multiplied in that order: the cube of r_p, which the derivative of a square root suggests, leaves fp32 from
|x| = 3e4 on. Everything between reading x and writing y is done in fp32 (fp64 for fp64 input).

Three backends compute this, the first that the machine allows:

    triton     kernels for CUDA
    compiled   the formulas below, compiled by torch.compile: CUDA, or a CPU with a C++ compiler
    eager      the same in plain torch, in blocks of rows that stay in the cache: always works

`backend="auto"` takes triton on CUDA, and on a CPU eager up to 2^21 entries and compiled from there on, where the few
seconds that compiling takes are paid back. An argument overrides it, and the variable MINIPOLYCOM_BACKEND overrides
"auto". Where a backend is missing, the next one is taken, and that is said once. "plain" is the formula in
`activations`, which torch.func's transforms (vmap, jvp) always take.

Three kinds of row: "relu" (PolyReLU), "norm" (PolyNorm) and "safe" (PolyNorm with u = x / 2^k, 2^k the power of two
under the row's largest magnitude; a power of two rounds nothing, so only overflow and underflow go away).
"""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from minipolycom import activations
from minipolycom.linear import linear, weight_gradient

BACKENDS = ("triton", "compiled", "eager", "plain")
"""In the order in which they are tried."""

COMPILE_FROM = 2**21
"""Entries from which "auto" compiles on a CPU: below, a call gains a few milliseconds over eager at most."""

BLOCK = 2**18
"""Entries per block of rows in the eager backend: the intermediate powers of a block stay in the last-level cache,
and the cost of starting some thirty operations per block is spread over enough entries."""


def polyrelu(
    x: Float[Tensor, "*batch"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    *,
    backend: str = "auto",
) -> Float[Tensor, "*batch"]:
    """`activations.polyrelu`, keeping only x for backward.

    Raises what its twin raises, and ValueError for an unknown backend.
    """
    if _is_plain(backend):
        return activations.polyrelu(x, weight, bias)
    activations.check_input(x, weight, bias)
    if x.ndim == 0:
        return polyrelu(x[None], weight, bias, backend=backend)[0]
    return _activate(x, None, *_by_rows(x, weight, bias), 0.0, "relu", backend)


def polynorm(
    x: Float[Tensor, "*batch F"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    eps: float = 1e-6,
    *,
    backend: str = "auto",
    safe: bool = False,
) -> Float[Tensor, "*batch F"]:
    """`activations.polynorm`, keeping only x and its row statistics (one fp32 number per power) for backward.

    Order 3 in fp32 is exact to rounding, gradient included, up to |x| = 3e5. `safe` divides each row by a power of two
    first, which reaches 1e20 and costs one more pass over the row.
    Raises what its twin raises, and ValueError for an unknown backend.
    """
    if _is_plain(backend):
        return activations.polynorm(x, weight, bias, eps)
    activations.check_input(x, weight, bias)
    activations.check_row(x)
    return _activate(x, None, *_by_rows(x, weight, bias), eps, "safe" if safe else "norm", backend)


def gated_polynorm(
    gate: Float[Tensor, "*batch F"],
    up: Float[Tensor, "*batch F"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    eps: float = 1e-6,
    *,
    backend: str = "auto",
    safe: bool = False,
) -> Float[Tensor, "*batch F"]:
    """`activations.gated_polynorm`, keeping gate, up and the gate's row statistics for backward.

    Raises what its twin raises, and ValueError for an unknown backend.
    """
    if _is_plain(backend):
        return activations.gated_polynorm(gate, up, weight, bias, eps)
    activations.check_input(gate, weight, bias)
    activations.check_row(gate)
    kind = "safe" if safe else "norm"
    return _activate(gate, up.to(gate.dtype), *_by_rows(gate, weight, bias), eps, kind, backend)


def feed_forward(
    x: Float[Tensor, "*batch D"],
    w_up: Float[Tensor, "F D"],
    weight: Float[Tensor, "*rows P"],
    bias: Float[Tensor, "..."],
    w_down: Float[Tensor, "D_out F"],
    *,
    w_gate: Float[Tensor, "F D"] | None = None,
    activation: str = "polynorm",
    eps: float = 1e-6,
    backend: str = "auto",
) -> Float[Tensor, "*batch D_out"]:
    """A feed-forward layer, w_down act(w_up x), that keeps one tensor of tokens x F for backward instead of two.

    The down-projection's gradient needs the activation's output; it is computed again from the pre-activation, which
    the activation's own gradient reads anyway. `activation` is "polynorm" or "polyrelu". With `w_gate` the layer is
    gated, w_down (act(w_gate x) * w_up x), and keeps two tensors instead of four.
    Raises what the activation's twin raises, and ValueError for an unknown activation or backend.
    """
    if activation not in ("polynorm", "polyrelu"):
        raise ValueError(f"unknown activation {activation!r} for a fused feed-forward; known: polynorm, polyrelu")
    hidden = linear(x, w_up)
    gate = hidden if w_gate is None else linear(x, w_gate)
    up = None if w_gate is None else hidden
    if _is_plain(backend):
        plain = activations.polyrelu(gate, weight, bias) if activation == "polyrelu" else None
        y = activations.polynorm(gate, weight, bias, eps) if plain is None else plain
        return linear(y if up is None else y * up, w_down)
    activations.check_input(gate, weight, bias)
    activations.check_row(gate)
    # the projection stands inside an operator that autocast cannot see into
    w_down = w_down.to(gate.dtype)
    kind = "norm" if activation == "polynorm" else "relu"
    return _project(gate, up, *_by_rows(gate, weight, bias), w_down, eps, kind, backend)


# Which backend -------------------------------------------------------------------------------------------------------


def choose_backend(x: Float[Tensor, "*batch"], backend: str = "auto") -> str:
    """The backend that a call on x takes: the wanted one, or the next one that this machine has, which is said once.

    Raises ValueError for a name that is neither "auto" nor in BACKENDS.
    """
    wanted = "eager" if x.numel() == 0 else _wanted(backend)
    if wanted == "auto":
        on_gpu = x.device.type == "cuda"
        wanted = (
            "triton" if on_gpu else "compiled" if x.numel() >= COMPILE_FROM and x.dtype != torch.float64 else "eager"
        )
    for name in BACKENDS[BACKENDS.index(wanted) :]:
        obstacle = _obstacle(name, x.device, x.dtype)
        if obstacle is None:
            return name
        _say_once(f"minipolycom: the {name} backend is not available ({obstacle}); taking the next one")
    raise AssertionError("the eager backend has no obstacle")


def _wanted(backend: str) -> str:
    wanted = os.environ.get("MINIPOLYCOM_BACKEND", "auto") if backend == "auto" else backend
    if wanted not in ("auto", *BACKENDS):
        raise ValueError(f"unknown backend {wanted!r}; known: auto, {', '.join(BACKENDS)}")
    return wanted


def _is_plain(backend: str) -> bool:
    # torch.func's transforms (vmap, jvp, ...) go through the formula: they differentiate and batch it by themselves
    return _wanted(backend) == "plain" or torch._C._are_functorch_transforms_active()


@cache
def _obstacle(backend: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a backend cannot serve tensors of this kind, or None."""
    if backend == "triton":
        if dtype == torch.float64:
            return "its kernels compute in fp32"
        try:
            from minipolycom import triton_kernels
        except ImportError:
            return "triton is not installed"
        if device.type != "cuda" and not triton_kernels.INTERPRETED:
            return "it needs a CUDA device"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
            return "it needs a GPU of compute capability 7.0 or newer"
    if backend == "compiled" and device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
        return "no C++ compiler was found"
    return None


@cache
def _say_once(text: str) -> None:
    warnings.warn(text, stacklevel=2)


# Compiled: the formulas as torch.compile reads them ------------------------------------------------------------------


def _unfold(x: Tensor, kind: str) -> tuple[Tensor, Tensor | None]:
    """u of each row in fp32 or better, and in safe mode the factor it was multiplied by."""
    u = x.to(torch.promote_types(x.dtype, torch.float32))
    if kind == "relu":
        return torch.relu(u), None
    if kind == "norm":
        return u, None
    scale = _row_scale(u)
    return u * scale, scale


def _row_scale(u: Tensor) -> Tensor:
    """The inverse of the power of two under each row's largest magnitude, its exponent bits; 1 at 0, inf and NaN."""
    bits, exponent = (torch.int64, 0x7FF << 52) if u.dtype == torch.float64 else (torch.int32, 0xFF << 23)
    largest = u.detach().abs().amax(dim=-1, keepdim=True)
    power = (largest.view(bits) & exponent).view(u.dtype)
    return torch.where((power > 0) & (power < torch.inf), 1 / power, 1.0)


def _eps_of(eps: float, scale: Tensor | None, order: int) -> list[float] | list[Tensor]:
    """What is added to the mean square of each power: eps, brought to the scale of the row."""
    if scale is None:
        return [eps] * order
    floors = [eps * scale * scale]
    for _ in range(order - 1):
        floors.append(floors[-1] * scale * scale)  # not a power of the scale, which overflows: an eps of 0 stays 0
    return floors


def _forward(x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, eps: float, kind: str) -> tuple[Tensor, list[Tensor]]:
    """y, and what backward needs of each row, a column each: r_1..r_P, and in safe mode the scale."""
    u, scale = _unfold(x, kind)
    a, columns, power = _ascending(w), [], u
    if kind != "relu":
        for e in _eps_of(eps, scale, len(a)):
            columns.append(torch.rsqrt(power.square().mean(dim=-1, keepdim=True) + e))
            power = power * u
        a = [coefficient * r for coefficient, r in zip(a, columns, strict=True)]
    y = _horner(a, u) * u + b
    if scale is not None:
        columns.append(scale)
    return (y if up is None else y * up).to(x.dtype), columns


def _backward(
    g: Tensor, x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, stats: Tensor, kind: str, recompute: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """dx, d_up, the gradients of the coefficients and the bias in one table, and y again if asked for."""
    u, _ = _unfold(x, kind)
    g, y, d_up = g.to(u.dtype), None, None
    a, r = _ascending(w), stats.split(1, dim=-1)
    if kind != "relu":
        a = [coefficient * column for coefficient, column in zip(a, r, strict=False)]
    if recompute or up is not None:
        y = _horner(a, u) * u + b
    if up is not None:
        d_up, y, g = (g * y).to(x.dtype), y * up, g * up
    t, power = [], g
    for _ in a:
        power = power * u
        t.append(power.sum(dim=-1, keepdim=True))
    slopes = [p * coefficient for p, coefficient in enumerate(a, start=1)]
    dx = g * _horner(slopes, u)
    if kind == "relu":
        dx = torch.where(u <= 0, 0.0, dx)
    else:
        t = [column * total for column, total in zip(r, t, strict=False)]
        c = [slope * (column * total / x.shape[-1]) for slope, column, total in zip(slopes, r, t, strict=False)]
        dx = dx - u * _horner(c, u * u)
    if kind == "safe":
        dx = dx * r[-1]
    y = y.to(x.dtype) if recompute else None
    sums = torch.cat([*reversed(t), g.sum(dim=-1, keepdim=True)], dim=1)
    return dx.to(x.dtype), d_up, _of_coefficients(sums, w), y


def _of_coefficients(sums: Tensor, w: Tensor) -> Tensor:
    """What each row adds to the gradients, or, for coefficients that all rows share, the total."""
    if len(w) != 1:
        return sums
    # many terms that nearly cancel
    wide = torch.float32 if w.device.type == "mps" else torch.float64
    return sums.sum(dim=0, keepdim=True, dtype=wide).to(w.dtype)


def _ascending(w: Tensor) -> list[Tensor]:
    """The columns of coefficients, first power first."""
    return list(reversed(w.split(1, dim=-1)))


def _horner(a: Sequence[Tensor], u: Tensor) -> Tensor:
    """a_1 + a_2 u + ... + a_P u^(P-1)."""
    *lower, total = a
    for coefficient in reversed(lower):
        total = total * u + coefficient
    return total


def _compiled_forward(x, up, w, b, eps, kind):
    y, columns = _compile(_forward, _variant(x, up, w, kind))(x, up, w, b, eps, kind)
    # put together outside the compiled code: while each column is an output of its own, Inductor computes it once per
    # row and finishes the row before it turns to the next one
    return y, torch.cat(columns, dim=1) if columns else w.new_empty(len(x), 0)


def _compiled_backward(g, x, up, w, b, stats, kind, recompute):
    return _compile(_backward, (*_variant(x, up, w, kind), recompute))(g, x, up, w, b, stats, kind, recompute)


def _variant(x: Tensor, up: Tensor | None, w: Tensor, kind: str) -> tuple:
    """What Dynamo compiles anew for, beside sizes: those are constants at first, and variables once they change."""
    return kind, w.shape[-1], len(w) == 1, x.dtype, x.requires_grad, len(x) == 1, up is None


@cache
def _compile(function: FunctionType, variant: tuple) -> Callable:
    # Dynamo allows a code object few specialisations, so each variant is compiled from a copy of the code
    code = function.__code__.replace(co_name="_".join(map(str, (function.__name__, *variant))))
    return torch.compile(FunctionType(code, function.__globals__), fullgraph=True)


# Eager: the same, block by block, into buffers that stay in the cache ------------------------------------------------


def _eager_forward(x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, eps: float, kind: str) -> tuple[Tensor, Tensor]:
    order = w.shape[-1]
    y = torch.empty_like(x)
    stats = w.new_empty(len(x), {"relu": 0, "norm": order, "safe": order + 1}[kind])
    a, scratch = w.flip(-1), _scratch(x, w, order)
    for rows in _blocks(x):
        u, scale = _unfold(x[rows], kind)
        powers, a_block, b_block = _powers(u, scratch[1:]), _of_block(a, rows), _of_block(b, rows)
        if kind != "relu":
            length = torch.stack([torch.linalg.vector_norm(power, dim=-1) for power in powers], dim=1)
            floor = w.new_tensor(eps) if scale is None else torch.cat(_eps_of(eps, scale, order), dim=1)
            r = torch.addcmul(floor, length, length, value=1 / x.shape[-1]).rsqrt_()
            stats[rows] = r if scale is None else torch.cat([r, scale], dim=1)
            a_block = a_block * r
        direct = y.dtype == u.dtype  # then the result is formed where it belongs, and not copied there
        y_block = _polynomial(powers, a_block, b_block, out=y[rows] if direct else scratch[0][: len(u)])
        if up is not None:
            y_block.mul_(up[rows])
        if not direct:
            y[rows] = y_block
    return y, stats


def _eager_backward(
    g: Tensor, x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, stats: Tensor, kind: str, recompute: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    order, width = w.shape[-1], x.shape[-1]
    dx, sums = torch.empty_like(x), w.new_empty(len(x), order + 1)
    y, d_up = torch.empty_like(x) if recompute else None, None if up is None else torch.empty_like(x)
    a, scratch = w.flip(-1), _scratch(x, w, order)
    exponents = torch.arange(1, order + 1, device=x.device)
    for rows in _blocks(x):
        u, _ = _unfold(x[rows], kind)
        powers, spare, g_block = _powers(u, scratch[1:]), scratch[0][: len(u)], g[rows].to(u.dtype)
        r = stats[rows, :order]
        a_block = _of_block(a, rows) if kind == "relu" else _of_block(a, rows) * r
        if recompute or up is not None:
            y_block = _polynomial(powers, a_block, _of_block(b, rows), out=spare)
            if up is not None:
                torch.mul(g_block, y_block, out=d_up[rows])
                y_block, g_block = y_block.mul_(up[rows]), g_block * up[rows]
            if recompute:
                y[rows] = y_block
        t = torch.stack([torch.mul(g_block, power, out=spare).sum(dim=-1) for power in powers], dim=1)
        slopes = a_block * exponents
        c = None
        if kind != "relu":
            t.mul_(r)
            c = (slopes * (r * t / width)).neg_().split(1, dim=1)
        torch.cat([t.flip(-1), g_block.sum(dim=-1, keepdim=True)], dim=1, out=sums[rows])
        slopes = slopes.split(1, dim=1)
        direct = dx.dtype == u.dtype
        d = torch.mul(g_block, slopes[-1], out=dx[rows] if direct else spare)
        for i in reversed(range(order)):
            if i < order - 1:
                d.mul_(u).addcmul_(g_block, slopes[i])
            if c is not None:
                d.addcmul_(powers[i], c[i])
        if kind == "relu":
            d.mul_(u.sign())  # 0 or 1; twice as fast as a comparison, whose booleans would have to be converted
        if kind == "safe":
            d.mul_(stats[rows, order:])
        if not direct:
            dx[rows] = d
    return dx, d_up, _of_coefficients(sums, w), y


def _blocks(x: Tensor) -> list[slice]:
    step = max(1, BLOCK // max(1, x.shape[-1]))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _of_block(coefficients: Tensor, rows: slice) -> Tensor:
    """Those of the block's rows, or the only ones: a single number broadcasts faster than a column of equal ones."""
    return coefficients if len(coefficients) == 1 else coefficients[rows]


def _scratch(x: Tensor, w: Tensor, count: int) -> list[Tensor]:
    rows = min(len(x), max(1, BLOCK // max(1, x.shape[-1])))
    return [w.new_empty(rows, x.shape[-1]) for _ in range(count)]


def _powers(u: Tensor, buffers: list[Tensor]) -> list[Tensor]:
    powers = [u]
    for buffer in buffers:
        powers.append(torch.mul(powers[-1], u, out=buffer[: len(u)]))
    return powers


def _polynomial(powers: list[Tensor], a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    first, *others = a.split(1, dim=1)
    torch.mul(powers[0], first, out=out)
    for power, coefficient in zip(powers[1:], others, strict=True):
        out.addcmul_(power, coefficient)
    return out.add_(b)


# Triton: the kernels are in a module of their own, imported where there is a GPU -------------------------------------


def _triton_forward(*args) -> tuple[Tensor, Tensor]:
    from minipolycom import triton_kernels

    return triton_kernels.forward(*args)


def _triton_backward(*args) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    from minipolycom import triton_kernels

    dx, d_up, sums, y = triton_kernels.backward(*args)
    return dx, d_up, _of_coefficients(sums, args[3]), y


# The differentiable functions, whatever the backend ------------------------------------------------------------------

_FORWARD = {"triton": _triton_forward, "compiled": _compiled_forward, "eager": _eager_forward}
_BACKWARD = {"triton": _triton_backward, "compiled": _compiled_backward, "eager": _eager_backward}


def _activate_forward(
    x: Tensor, up: Tensor | None, weight: Tensor, bias: Tensor, eps: float, kind: str, backend: str
) -> tuple[Tensor, Tensor]:
    """y, and the table of row statistics."""
    args = (_as_rows(x), _as_rows(up), *_coefficients(x, weight, bias), eps, kind)
    y, stats = _first_that_works(_FORWARD, x, backend, args)
    return y.view(x.shape), stats


def _activate_backward(
    g: Tensor,
    x: Tensor,
    up: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    stats: Tensor,
    kind: str,
    backend: str,
    recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, d_up, dw, db and, if asked for, y in rows. An operator returns no None: what does not apply is empty."""
    args = (_as_rows(g), _as_rows(x), _as_rows(up), *_coefficients(x, weight, bias), stats, kind, recompute)
    dx, d_up, sums, y = _first_that_works(_BACKWARD, x, backend, args)
    # copies: the outputs of an operator share no memory
    dw, db = sums[:, :-1].to(weight.dtype, copy=True), sums[:, -1:].to(bias.dtype, copy=True)
    d_up = x.new_empty(0) if d_up is None else d_up.view(x.shape)
    return dx.view(x.shape), d_up, dw.view(weight.shape), db.view(bias.shape), x.new_empty(0) if y is None else y


def _project_forward(
    x: Tensor, up: Tensor | None, weight: Tensor, bias: Tensor, w_down: Tensor, eps: float, kind: str, backend: str
) -> tuple[Tensor, Tensor]:
    """w_down y, and the table of row statistics."""
    y, stats = _activate_forward(x, up, weight, bias, eps, kind, backend)
    return linear(y, w_down), stats


def _project_backward(
    g: Tensor,
    x: Tensor,
    up: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    w_down: Tensor,
    stats: Tensor,
    kind: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, d_up, dw, db and the gradient of w_down, for which y is computed again."""
    *gradients, y = _activate_backward(linear(g, w_down.t()), x, up, weight, bias, stats, kind, backend, recompute=True)
    return *gradients, weight_gradient(g, y)


def _as_rows(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.reshape(-1, x.shape[-1]).contiguous()


def _coefficients(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One row of coefficients, or one for each row of x, and the bias likewise, in the precision computed in."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return weight.reshape(-1, weight.shape[-1]).to(wide), bias.reshape(-1, 1).to(wide)


def _by_rows(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Shared coefficients as they are; coefficients of rows spread over all leading axes of x."""
    if weight.ndim == 1:
        return weight, bias
    rows = x.shape[:-1]
    return weight.expand(*rows, -1).reshape(-1, weight.shape[-1]), bias.expand(*rows, -1).reshape(-1, 1)


_broken: dict[str, str] = {}


def _first_that_works(pieces: dict[str, Callable], x: Tensor, backend: str, args: tuple) -> tuple:
    """The piece of the wanted backend, or the next one's if it fails: a compiler may be found and still not work."""
    name = choose_backend(x, backend)
    for candidate in BACKENDS[BACKENDS.index(name) : -1]:
        if candidate in _broken or _obstacle(candidate, x.device, x.dtype):
            continue
        try:
            return pieces[candidate](*args)
        except Exception as error:  # whatever a compiler raises; the input was checked before, and eager runs last
            if candidate == "eager":
                raise
            _broken[candidate] = str(error)
            _say_once(f"minipolycom: the {candidate} backend failed; taking the next one ({error})")
    raise AssertionError("the eager backend is always tried last")


def _keep(ctx, inputs: tuple, stats: Tensor) -> None:
    *tensors, ctx.eps, ctx.kind, ctx.backend = inputs
    ctx.save_for_backward(*tensors, stats)
    ctx.set_materialize_grads(False)


def _gradients(ctx, g: Tensor | None, backward: Callable) -> tuple[Tensor | None, ...]:
    *inputs, stats = ctx.saved_tensors
    if g is None:
        return (None,) * (len(inputs) + 3)
    if torch.is_grad_enabled():  # these gradients will be differentiated in turn
        return *_plain_gradients(ctx, g, inputs), None, None, None
    dx, d_up, dw, db, d_down = backward(g, *inputs, stats, ctx.kind, ctx.backend)
    return dx, None if inputs[1] is None else d_up, dw, db, *[d_down][: len(inputs) - 4], None, None, None


def _plain_gradients(ctx, g: Tensor, inputs: list[Tensor | None]) -> list[Tensor | None]:
    """The gradients by autograd through the formula, so that they can be differentiated again."""
    x, up, weight, bias, *w_down = inputs
    rows = None if up is None else up.reshape(-1, x.shape[-1])
    y, _ = _forward(x.reshape(-1, x.shape[-1]), rows, *_coefficients(x, weight, bias), ctx.eps, ctx.kind)
    y = y.view(x.shape)
    if w_down:
        y = F.linear(y, *w_down)
    wanted = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    gradients = iter(torch.autograd.grad(y, wanted, g, create_graph=True))
    return [next(gradients) if tensor is not None and tensor.requires_grad else None for tensor in inputs]


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        y, stats = _activate_forward(*inputs)
        _keep(ctx, inputs, stats)
        return y

    @staticmethod
    def backward(ctx, g):
        return _gradients(ctx, g, _activate_backward)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        y, stats = _project_forward(*inputs)
        _keep(ctx, inputs, stats)
        return y

    @staticmethod
    def backward(ctx, g):
        return _gradients(ctx, g, _project_backward)


# The same as operators, which torch.compile, export and CUDA graphs take whole. A direct call costs less.


def _operator(function: Callable) -> torch.library.CustomOpDef:
    return torch.library.custom_op(
        f"minipolycom::{function.__name__.strip('_')}", torch.no_grad()(function), mutates_args=()
    )


_activate_op, _activate_backward_op = _operator(_activate_forward), _operator(_activate_backward)
_project_op, _project_backward_op = _operator(_project_forward), _operator(_project_backward)


def _shapes_of_stats(x: Tensor, weight: Tensor, kind: str) -> Tensor:
    columns = {"relu": 0, "norm": weight.shape[-1], "safe": weight.shape[-1] + 1}[kind]
    return x.new_empty(x.shape[:-1].numel(), columns, dtype=torch.promote_types(x.dtype, torch.float32))


def _shapes_of_gradients(x: Tensor, up: Tensor | None, *others: Tensor) -> tuple[Tensor, ...]:
    empty = x.new_empty(0) if up is None else torch.empty_like(up, memory_format=torch.contiguous_format)
    return x.new_empty(x.shape), empty, *(tensor.new_empty(tensor.shape) for tensor in others)


@_activate_op.register_fake
def _(x, up, weight, bias, eps, kind, backend):
    return x.new_empty(x.shape), _shapes_of_stats(x, weight, kind)


@_activate_backward_op.register_fake
def _(g, x, up, weight, bias, stats, kind, backend, recompute=False):
    return *_shapes_of_gradients(x, up, weight, bias), x.new_empty(0)


@_project_op.register_fake
def _(x, up, weight, bias, w_down, eps, kind, backend):
    return x.new_empty(*x.shape[:-1], len(w_down)), _shapes_of_stats(x, weight, kind)


@_project_backward_op.register_fake
def _(g, x, up, weight, bias, w_down, stats, kind, backend):
    return _shapes_of_gradients(x, up, weight, bias, w_down)


def _keep_for_operator(ctx, inputs, output):
    ctx.mark_non_differentiable(output[1])
    _keep(ctx, inputs, output[1])


_activate_op.register_autograd(
    lambda ctx, g, _: _gradients(ctx, g, _activate_backward_op), setup_context=_keep_for_operator
)
_project_op.register_autograd(
    lambda ctx, g, _: _gradients(ctx, g, _project_backward_op), setup_context=_keep_for_operator
)


def _activate(*inputs) -> Tensor:
    return _activate_op(*inputs)[0] if torch.compiler.is_compiling() else _Activate.apply(*inputs)


def _project(*inputs) -> Tensor:
    return _project_op(*inputs)[0] if torch.compiler.is_compiling() else _Project.apply(*inputs)
