"""How fast the activations are, and how much they keep, against whatever else computes them on this machine.

All variants are timed in one process. On a CPU: one thread, and the time this thread was running, not the time that
passed. The ratio says how many times faster than the authors' formula a variant is.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from minipolycom import fused
from minipolycom.bench.timing import check_rounds, milliseconds, now, pick_device, spread, take_turns
from minipolycom.bench.traffic import kept_tensors
from minipolycom.hardware import tune_cpu
from minipolycom.linear import linear

SHAPES = ((4096, 2048), (4096, 512))
"""Tokens and feed-forward width."""

LAYERS = ((2048, 128, 512), (2048, 384, 1536))
"""Tokens, model width and feed-forward width."""


def bench_activations(
    shapes: Iterable[tuple[int, int]] = SHAPES,
    layers: Iterable[tuple[int, int, int]] = LAYERS,
    dtypes: Iterable[str] = ("float32", "bfloat16"),
    device: str = "auto",
    rounds: int = 15,
    compiler: bool = True,
    tune: bool = True,
) -> list[dict]:
    """Time forward and forward plus backward of every variant, and count what it keeps for backward.

    A row holds: variant, device, dtype, shape; ms_forward, ms_both (medians); saved_units, the bytes kept for backward
    in units of the hidden tensor; baseline, the variant it is compared with; speedup = the baseline's time over this
    one's, forward plus backward, median over the rounds, with its quartiles speedup_low and speedup_high; threads and
    settings. `layers` are whole feed-forwards, whose input and parameters are not counted. `compiler` adds what needs
    torch.compile. `tune` sets the allocator as the course does, for all variants alike: eager ones gain most by it.
    Raises ValueError for an unknown device or dtype and for fewer than two rounds.
    """
    device = pick_device(device)
    for name in dtypes:
        if name not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"unknown dtype {name!r}; known: float32, bfloat16, float16")
    check_rounds(rounds)
    settings, threads, rows = tune_cpu(tune), torch.get_num_threads(), []
    try:
        torch.set_num_threads(1)
        for name in dtypes:
            for tokens, width in shapes:
                inputs, variants = _activations(tokens, width, getattr(torch, name), device, compiler)
                label = {"device": device, "dtype": name, "shape": f"{tokens}x{width}"}
                rows += [label | row for row in _measure(inputs, variants, tokens * width, rounds)]
            for tokens, d_model, width in layers:
                inputs, variants = _layers(tokens, d_model, width, getattr(torch, name), device, compiler)
                label = {"device": device, "dtype": name, "shape": f"{tokens}x{d_model}x{width}"}
                rows += [label | row for row in _measure(inputs, variants, tokens * width, rounds)]
    finally:
        torch.set_num_threads(threads)
    return [row | {"threads": 1, "settings": settings} for row in rows]


# The authors' formulas, as plainly as they write them, but with fp32 inside whatever the input


def _norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def authors_polynorm(
    x: Float[Tensor, "*batch F"], weight: Float[Tensor, " P"], bias: Float[Tensor, "1"]
) -> Float[Tensor, "*batch F"]:
    """PolyNorm of order 3 as its authors write it, one operation after the other; fp32 inside."""
    u = x.float()
    y = weight[0] * _norm(u**3) + weight[1] * _norm(u**2) + weight[2] * _norm(u) + bias
    return y.to(x.dtype)


def authors_polyrelu(
    x: Float[Tensor, "*batch"], weight: Float[Tensor, " P"], bias: Float[Tensor, "1"]
) -> Float[Tensor, "*batch"]:
    """PolyReLU of order 3 as its authors write it, one operation after the other; fp32 inside."""
    u = torch.relu(x.float())
    return (weight[0] * u**3 + weight[1] * u**2 + weight[2] * u + bias).to(x.dtype)


def _checkpointed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.utils.checkpoint.checkpoint(authors_polynorm, x, weight, bias, use_reentrant=False)


def _activations(tokens: int, width: int, dtype: torch.dtype, device: str, compiler: bool) -> tuple[list, dict]:
    """The inputs x, weight, bias, and every variant as a function of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=generator).to(device, dtype)
    weight, bias = torch.full((3,), 1 / 3, device=device), torch.zeros(1, device=device)
    variants: dict[str, Callable] = {
        "polynorm: authors": authors_polynorm,
        "polynorm: authors, checkpointed": _checkpointed,
        "polynorm: ours, eager": lambda x, w, b: fused.polynorm(x, w, b, backend="eager"),
        "polynorm: ours, eager, safe": lambda x, w, b: fused.polynorm(x, w, b, backend="eager", safe=True),
        "polyrelu: authors": authors_polyrelu,
        "polyrelu: ours, eager": lambda x, w, b: fused.polyrelu(x, w, b, backend="eager"),
        "relu": lambda x, w, b: torch.relu(x),
        "gelu": lambda x, w, b: F.gelu(x),
        "silu": lambda x, w, b: F.silu(x),
    }
    if compiler:
        variants |= {
            "polynorm: authors, compiled": torch.compile(authors_polynorm, dynamic=False),
            "polynorm: ours, compiled": lambda x, w, b: fused.polynorm(x, w, b, backend="compiled"),
            "polynorm: ours, compiled, safe": lambda x, w, b: fused.polynorm(x, w, b, backend="compiled", safe=True),
            "polyrelu: authors, compiled": torch.compile(authors_polyrelu, dynamic=False),
            "polyrelu: ours, compiled": lambda x, w, b: fused.polyrelu(x, w, b, backend="compiled"),
        }
    if device == "cuda":
        variants |= {
            "copy": lambda x, w, b: x.clone(),  # what the memory can do: one read and one write
            "polynorm: ours, triton": lambda x, w, b: fused.polynorm(x, w, b, backend="triton"),
            "polynorm: ours, triton, safe": lambda x, w, b: fused.polynorm(x, w, b, backend="triton", safe=True),
            "polyrelu: ours, triton": lambda x, w, b: fused.polyrelu(x, w, b, backend="triton"),
        }
        if importlib.util.find_spec("liger_kernel"):
            from liger_kernel.ops.poly_norm import LigerPolyNormFunction

            variants["polynorm: Liger"] = lambda x, w, b: LigerPolyNormFunction.apply(x, w, b[0], 1e-6, False)
    variants = dict(sorted(variants.items(), key=lambda item: _baseline(item[0])))  # what is compared stands together
    return [t.requires_grad_() for t in (x, weight, bias)], variants


def _layers(
    tokens: int, d_model: int, width: int, dtype: torch.dtype, device: str, compiler: bool
) -> tuple[list, dict]:
    """The inputs of a feed-forward, x, w_up, weight, bias, w_down, and every variant as a function of them."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((tokens, d_model), (width, d_model), (d_model, width))
    x, w_up, w_down = (torch.randn(s, generator=generator).div(s[1] ** 0.5).to(device, dtype) for s in shapes)
    weight, bias = torch.full((3,), 1 / 3, device=device), torch.zeros(1, device=device)

    def layer(activation: Callable) -> Callable:
        return lambda x, w_up, w, b, w_down: linear(activation(linear(x, w_up), w, b), w_down)

    def whole(backend: str) -> Callable:
        return lambda *inputs: fused.feed_forward(*inputs, backend=backend)

    variants = {
        "layer, gelu": layer(lambda x, w, b: F.gelu(x)),
        "layer, polynorm: authors": layer(authors_polynorm),
        "layer, polynorm: ours, eager": layer(lambda x, w, b: fused.polynorm(x, w, b, backend="eager")),
        "layer fused, polynorm: eager": whole("eager"),
    }
    if compiler:
        variants["layer, polynorm: ours, compiled"] = layer(lambda x, w, b: fused.polynorm(x, w, b, backend="compiled"))
        variants["layer fused, polynorm: compiled"] = whole("compiled")
    if device == "cuda":
        variants["layer fused, polynorm: triton"] = whole("triton")
    return [t.requires_grad_() for t in (x, w_up, weight, bias, w_down)], variants


def _measure(inputs: list[Tensor], variants: dict[str, Callable], hidden: int, rounds: int) -> list[dict]:
    x = inputs[0]
    first = variants[next(iter(variants))](*inputs)
    g = torch.randn(first.shape, generator=torch.Generator().manual_seed(1)).to(first)
    saved = {name: _saved_bytes(function, inputs) / (hidden * x.element_size()) for name, function in variants.items()}

    def timed(function: Callable) -> Callable[[], tuple[float, float]]:
        def forward_and_backward() -> tuple[float, float]:
            start = now(x)
            y = function(*inputs)
            middle = now(x)
            gradients = torch.autograd.grad(y, inputs, g, allow_unused=True)
            end = now(x)
            del y, gradients  # only now, so that giving memory back is not timed
            return milliseconds(start, middle), milliseconds(start, end)

        return forward_and_backward

    times = take_turns({name: timed(function) for name, function in variants.items()}, rounds)
    both = {name: [total for _, total in times[name]] for name in variants}
    return [
        {
            "variant": name,
            "ms_forward": statistics.median(forward for forward, _ in times[name]),
            "ms_both": statistics.median(both[name]),
            "saved_units": saved[name],
            "baseline": _baseline(name),
            **spread(both[_baseline(name)], both[name], "speedup"),
        }
        for name in variants
    ]


def _baseline(name: str) -> str:
    """A whole layer is compared with GELU's, PolyReLU with the authors' own, everything else with their PolyNorm."""
    if name.startswith("layer"):
        return "layer, gelu"
    return "polyrelu: authors" if name.startswith("polyrelu") else "polynorm: authors"


def _saved_bytes(function: Callable, inputs: list[Tensor]) -> int:
    """Bytes that autograd keeps: each storage once; of the inputs x alone, and for a layer not even x."""
    own = {t.untyped_storage().data_ptr() for t in (inputs[1:] if len(inputs) == 3 else inputs)}
    function(*inputs)  # compiled, if need be, without the hooks in its way
    storages = [tensor.untyped_storage() for tensor in kept_tensors(function, *inputs)]
    kept = {storage.data_ptr(): storage.nbytes() for storage in storages if storage.data_ptr() not in own}
    return sum(kept.values())
