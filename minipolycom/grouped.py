"""Matrix products of experts: rows sorted by expert, each times the matrix of its own.

`plain_expert_linear` says what is computed; `expert_linear` takes the fastest way that there is:

    oneDNN       expert after expert, fp32 on a CPU whose MKL is held back (see `linear`)
    grouped      torch's grouped product: CPU in fp32, bf16 and fp16; GPUs from compute capability 8.0 on in bf16
    plain        everything else: fp64, older GPUs, sizes that are no multiple of 16 bytes, fp32 under torch.compile
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from minipolycom.linear import by_onednn, takes_onednn, transposed_product

STEPS_PER_OCTAVE = 16
"""oneDNN writes a program for each new number of rows (0.6 ms), so these are rounded up, by 3 % on average."""


def expert_linear(
    x_MI: Float[Tensor, "M I"], weight_EOI: Float[Tensor, "E O I"], count_E: Int[Tensor, " E"]
) -> Float[Tensor, "M O"]:
    """Each row times its expert's matrix, W_e x; rows are sorted by expert, count_E of them each."""
    weight_EOI = weight_EOI.to(x_MI.dtype)
    if takes_onednn(x_MI[: len(x_MI) // len(weight_EOI)], weight_EOI[0]):  # as large as it is for an average expert
        return _ByOneDNN.apply(x_MI, weight_EOI, count_E)
    if can_group(x_MI, weight_EOI):
        return F.grouped_mm(x_MI, weight_EOI.transpose(1, 2), offs=count_E.cumsum(0, dtype=torch.int32))
    return plain_expert_linear(x_MI, weight_EOI, count_E)


def plain_expert_linear(
    x_MI: Float[Tensor, "M I"], weight_EOI: Float[Tensor, "E O I"], count_E: Int[Tensor, " E"]
) -> Float[Tensor, "M O"]:
    """`expert_linear`, one expert after another."""
    # unbind, and not weight[e]: the gradient of an index is a zero tensor as large as all experts, for each expert
    pieces = zip(x_MI.split(count_E.tolist()), weight_EOI.unbind(0), strict=True)
    return torch.cat([F.linear(x, weight) for x, weight in pieces])


def can_group(x_MI: Float[Tensor, "M I"], weight_EOI: Float[Tensor, "E O I"]) -> bool:
    """Whether torch's grouped product takes these: its dtypes, rows that start at multiples of 16 bytes."""
    if x_MI.device.type == "cuda":
        takes = x_MI.dtype == torch.bfloat16 and torch.cuda.get_device_capability(x_MI.device) >= (8, 0)
    else:
        takes = x_MI.device.type == "cpu" and x_MI.dtype in (torch.float32, torch.bfloat16, torch.float16)
    if torch.compiler.is_compiling():
        takes = takes and x_MI.dtype == torch.bfloat16
    aligned = all(size * x_MI.element_size() % 16 == 0 for size in weight_EOI.shape[1:])
    return takes and aligned and len(x_MI) > 0


class _ByOneDNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_MI: Tensor, weight_EOI: Tensor, count_E: Tensor) -> Tensor:
        ctx.save_for_backward(x_MI, weight_EOI, count_E)
        ctx.counts = count_E.tolist()
        return _products(x_MI, weight_EOI, ctx.counts)

    @staticmethod
    def backward(ctx, g_MO: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x_MI, weight_EOI, count_E = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients will be differentiated in turn
            pairs = zip(g_MO.split(ctx.counts), x_MI.split(ctx.counts), strict=True)
            dx_MI = plain_expert_linear(g_MO, weight_EOI.transpose(1, 2), count_E)
            return dx_MI, torch.stack([g.t() @ x for g, x in pairs]), None
        dx_MI = _products(g_MO, weight_EOI.transpose(1, 2), ctx.counts) if ctx.needs_input_grad[0] else None
        return dx_MI, _weight_gradients(g_MO, x_MI, ctx.counts), None


def _products(x_MI: Tensor, weight_EOI: Tensor, counts: list[int]) -> Tensor:
    y_MO = x_MI.new_empty(len(x_MI), weight_EOI.shape[1])
    for weight_OI, own_MO, (first, length, skip) in zip(
        weight_EOI.unbind(0), y_MO.split(counts), _windows(counts), strict=True
    ):
        if length:
            window_MO = by_onednn(x_MI.narrow(0, first, length), weight_OI)
            own_MO.copy_(window_MO.narrow(0, skip, len(own_MO)))
    return y_MO


def _weight_gradients(g_MO: Tensor, x_MI: Tensor, counts: list[int]) -> Tensor:
    """g^T x of each expert's rows: by oneDNN a number of them that is one of a few, by MKL the rest."""
    d_weight_EOI = x_MI.new_empty(len(counts), g_MO.shape[1], x_MI.shape[1])
    for d_weight_OI, g, x in zip(d_weight_EOI.unbind(0), g_MO.split(counts), x_MI.split(counts), strict=True):
        if len(g):
            many = len(g) - len(g) % _step(len(g))
            by_many_OI = transposed_product(g[:many], x[:many], by_onednn)
            torch.addmm(by_many_OI, g[many:].t(), x[many:], out=d_weight_OI)
        else:
            d_weight_OI.zero_()
    return d_weight_EOI


def _step(count: int) -> int:
    """What the number of rows handed to oneDNN is a multiple of, so that each octave has few."""
    return max(1, (1 << count.bit_length()) // (2 * STEPS_PER_OCTAVE))


def _windows(counts: list[int]) -> Iterator[tuple[int, int, int]]:
    """Around each expert's rows a window whose length is one of a few: its first row, its length (0 for an expert
    without rows), and how many of its rows come before the expert's own."""
    total, start = sum(counts), 0
    for count in counts:
        length = min(total, -(-count // _step(count)) * _step(count))
        first = min(start, total - length)
        yield first, length, start - first
        start += count
