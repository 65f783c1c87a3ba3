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

from minipolycom.linear import linear, takes_onednn, weight_gradient

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
        ctx.save_for_backward(x_MI, weight_EOI)
        ctx.counts = count_E.tolist()
        return _products(x_MI, weight_EOI, ctx.counts)

    @staticmethod
    def backward(ctx, g_MO: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x_MI, weight_EOI = ctx.saved_tensors
        dx_MI = _products(g_MO, weight_EOI.transpose(1, 2), ctx.counts) if ctx.needs_input_grad[0] else None
        d_weight_EOI = torch.zeros_like(weight_EOI)
        for expert, rows, window in _windows(ctx.counts):
            own_g = torch.zeros_like(g_MO[window])  # what the window holds beyond the expert's rows adds nothing
            own_g[rows.start - window.start : rows.stop - window.start] = g_MO[rows]
            d_weight_EOI[expert] = weight_gradient(own_g, x_MI[window])
        return dx_MI, d_weight_EOI, None


def _products(x_MI: Tensor, weight_EOI: Tensor, counts: list[int]) -> Tensor:
    y_MO = x_MI.new_empty(len(x_MI), weight_EOI.shape[1])
    for expert, rows, window in _windows(counts):
        y_MO[rows] = linear(x_MI[window], weight_EOI[expert])[rows.start - window.start : rows.stop - window.start]
    return y_MO


def _windows(counts: list[int]) -> Iterator[tuple[int, slice, slice]]:
    """Each expert that has rows, these rows, and a window around them whose length is one of a few."""
    total, start = sum(counts), 0
    for expert, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        step = max(1, (1 << count.bit_length()) // (2 * STEPS_PER_OCTAVE))
        length = min(total, -(-count // step) * step)
        first = min(rows.start, total - length)
        if count:
            yield expert, rows, slice(first, first + length)
