# ruff: noqa: B007, RUF005, SIM108   (Triton's language knows neither a star in a tuple nor a branch in an expression)
"""The Triton kernels of `fused`: one forward, one backward, for CUDA devices of compute capability 7.0 and newer.

Both are bound by memory, so that everything serves the bytes in flight. A tile holds several short rows or one long
row, in its own 16 or 32 bits until it is used; programs walk over the tiles with the stride of the grid, so that the
next tile's loads overlap with this tile's sums; masks are compiled away where sizes are multiples of the tile. A row
too long for the registers is walked over twice in chunks, the second time out of the cache. Each row's sums are written
to a table of their own and added up afterwards: no atomics, hence the same result in every run. Nothing is
written over an input.

The arithmetic is fp32 and the same as in `fused`, which documents it. `w` and `b` hold one row of coefficients, highest
power first, or one for each row of x.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = triton.knobs.runtime.interpret
"""Whether TRITON_INTERPRET=1 was set when this module was imported: the kernels then run on a CPU, slowly."""

TILE = 8192
"""Entries of a tile of short rows: with 32 entries per thread, four tiles per multiprocessor are in flight."""

LONGEST_TILE = 16384
"""Entries of a row that is still held in registers; a longer one is read twice, in chunks of TILE."""


@no_type_check
@triton.jit
def _load(pointer, offsets, mask, MASKED: tl.constexpr):
    if MASKED:
        return tl.load(pointer + offsets, mask=mask, other=0.0).to(tl.float32)
    return tl.load(pointer + offsets).to(tl.float32)


@no_type_check
@triton.jit
def _store(pointer, offsets, values, mask, MASKED: tl.constexpr):
    if MASKED:
        tl.store(pointer + offsets, values, mask=mask)
    else:
        tl.store(pointer + offsets, values)


@no_type_check
@triton.jit
def _unfold(x, scale, KIND: tl.constexpr):
    if KIND == "relu":
        return tl.where(x <= 0, 0.0, x)  # keeps NaN, which tl.maximum would drop
    if KIND == "safe":
        return x * scale
    return x


@no_type_check
@triton.jit
def _scale(largest):
    """The inverse of the power of two under each row's largest magnitude; 1 at 0, inf and NaN."""
    power = (largest.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    usable = (power > 0) & (power < float("inf"))
    return tl.where(usable, 1 / tl.where(usable, power, 1.0), 1.0)


@no_type_check
@triton.jit
def _horner(a, u, ORDER: tl.constexpr):
    """a_1 + a_2 u + ... + a_P u^(P-1), a tuple of one column for each coefficient."""
    total = a[ORDER - 1]
    for i in tl.static_range(ORDER - 1):
        total = total * u + a[ORDER - 2 - i]
    return total


@no_type_check
@triton.jit
def _forward_kernel(
    X, UP, W, B, Y, STATS, n_rows, width, w_stride, b_stride,
    EPS: tl.constexpr, KIND: tl.constexpr, ORDER: tl.constexpr, GATED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, CHUNKED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)[None, :]
    n_stats: tl.constexpr = ORDER + (1 if KIND == "safe" else 0)
    for tile in range(tl.program_id(0), tl.cdiv(n_rows, ROWS), tl.num_programs(0)):
        rows = (tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        is_row = rows < n_rows
        offsets = rows * width + columns
        mask = is_row & (columns < width)
        x = _load(X, offsets, mask, MASKED)
        scale = tl.full([ROWS, 1], 1.0, tl.float32)
        if KIND == "safe":
            largest = tl.max(tl.abs(x), axis=1, keep_dims=True)
            if CHUNKED:
                for start in range(BLOCK, width, BLOCK):
                    chunk = _load(X, offsets + start, is_row & (columns + start < width), MASKED)
                    largest = tl.maximum(largest, tl.max(tl.abs(chunk), axis=1, keep_dims=True))
            scale = _scale(largest)
            tl.store(STATS + rows * n_stats + ORDER, scale, mask=is_row)
        u = _unfold(x, scale, KIND)
        a = ()
        power = u
        sums = ()
        if KIND != "relu":
            for p in tl.static_range(ORDER):
                sums = sums + (power * power,)
                power = power * u
            if CHUNKED:
                for start in range(BLOCK, width, BLOCK):
                    chunk = _load(X, offsets + start, is_row & (columns + start < width), MASKED)
                    v = _unfold(chunk, scale, KIND)
                    power = v
                    added = ()
                    for p in tl.static_range(ORDER):
                        added = added + (sums[p] + power * power,)
                        power = power * v
                    sums = added
        floor = tl.full([ROWS, 1], EPS, tl.float32)
        for p in tl.static_range(ORDER):
            w = tl.load(W + rows * w_stride + ORDER - 1 - p, mask=is_row, other=0.0)
            if KIND == "relu":
                a = a + (w,)
            else:
                floor = floor * scale * scale
                r = tl.rsqrt(tl.sum(sums[p], axis=1, keep_dims=True) / width + floor)
                tl.store(STATS + rows * n_stats + p, r, mask=is_row)
                a = a + (w * r,)
        b = tl.load(B + rows * b_stride, mask=is_row, other=0.0)
        for start in range(0, width if CHUNKED else 1, BLOCK):
            if CHUNKED:
                mask = is_row & (columns + start < width)
                u = _unfold(_load(X, offsets + start, mask, MASKED), scale, KIND)
            y = _horner(a, u, ORDER) * u + b
            if GATED:
                y = y * _load(UP, offsets + start, mask, MASKED)
            _store(Y, offsets + start, y, mask, MASKED)


@no_type_check
@triton.jit
def _backward_kernel(
    G, X, UP, W, B, STATS, DX, DUP, SUMS, Y, n_rows, width, w_stride, b_stride,
    KIND: tl.constexpr, ORDER: tl.constexpr, GATED: tl.constexpr, RECOMPUTE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, CHUNKED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)[None, :]
    n_stats: tl.constexpr = ORDER + (1 if KIND == "safe" else 0)
    for tile in range(tl.program_id(0), tl.cdiv(n_rows, ROWS), tl.num_programs(0)):
        rows = (tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        is_row = rows < n_rows
        offsets = rows * width + columns
        mask = is_row & (columns < width)
        scale = tl.full([ROWS, 1], 1.0, tl.float32)
        if KIND == "safe":
            scale = tl.load(STATS + rows * n_stats + ORDER, mask=is_row, other=1.0)
        u = _unfold(_load(X, offsets, mask, MASKED), scale, KIND)
        g = _load(G, offsets, mask, MASKED)
        h = g  # the gradient of the polynomial: g, or g times the gate's partner
        if GATED:
            h = g * _load(UP, offsets, mask, MASKED)
        g_sum = h
        power = h
        sums = ()
        for p in tl.static_range(ORDER):
            power = power * u
            sums = sums + (power,)
        if CHUNKED:
            for start in range(BLOCK, width, BLOCK):
                inside = is_row & (columns + start < width)
                v = _unfold(_load(X, offsets + start, inside, MASKED), scale, KIND)
                power = _load(G, offsets + start, inside, MASKED)
                if GATED:
                    power = power * _load(UP, offsets + start, inside, MASKED)
                g_sum = g_sum + power
                added = ()
                for p in tl.static_range(ORDER):
                    power = power * v
                    added = added + (sums[p] + power,)
                sums = added
        tl.store(SUMS + rows * (ORDER + 1) + ORDER, tl.sum(g_sum, axis=1, keep_dims=True), mask=is_row)
        a = ()
        slopes = ()
        c = ()
        for p in tl.static_range(ORDER):
            w = tl.load(W + rows * w_stride + ORDER - 1 - p, mask=is_row, other=0.0)
            t = tl.sum(sums[p], axis=1, keep_dims=True)
            if KIND == "relu":
                a = a + (w,)
                slopes = slopes + ((p + 1) * w,)
            else:
                r = tl.load(STATS + rows * n_stats + p, mask=is_row, other=0.0)
                t = r * t
                a = a + (w * r,)
                slopes = slopes + ((p + 1) * (w * r),)
                c = c + ((p + 1) * (w * r) * (r * t / width),)
            tl.store(SUMS + rows * (ORDER + 1) + ORDER - 1 - p, t, mask=is_row)
        b = tl.load(B + rows * b_stride, mask=is_row, other=0.0)
        for start in range(0, width if CHUNKED else 1, BLOCK):
            if CHUNKED:
                mask = is_row & (columns + start < width)
                u = _unfold(_load(X, offsets + start, mask, MASKED), scale, KIND)
                g = _load(G, offsets + start, mask, MASKED)
                h = g
            y = _horner(a, u, ORDER) * u + b
            if GATED:
                up = _load(UP, offsets + start, mask, MASKED)
                _store(DUP, offsets + start, g * y, mask, MASKED)
                y = y * up
                h = g * up
            if RECOMPUTE:
                _store(Y, offsets + start, y, mask, MASKED)
            dx = h * _horner(slopes, u, ORDER)
            if KIND == "relu":
                dx = tl.where(u <= 0, 0.0, dx)
            else:
                dx = (dx - u * _horner(c, u * u, ORDER)) * scale
            _store(DX, offsets + start, dx, mask, MASKED)


def forward(x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, eps: float, kind: str) -> tuple[Tensor, Tensor]:
    """y, and the table of row statistics."""
    order = w.shape[-1]
    y = torch.empty_like(x)
    stats = w.new_empty(len(x), {"relu": 0, "norm": order, "safe": order + 1}[kind])
    grid, sizes = _plan(x)
    _forward_kernel[grid](
        x, up, w, b, y, stats, *x.shape, *_strides(w, b),
        EPS=eps, KIND=kind, ORDER=order, GATED=up is not None, **sizes,
    )  # fmt: skip
    return y, stats


def backward(
    g: Tensor, x: Tensor, up: Tensor | None, w: Tensor, b: Tensor, stats: Tensor, kind: str, recompute: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """dx, d_up, what each row adds to the gradients of the coefficients and the bias, and y again if asked for."""
    order = w.shape[-1]
    dx, sums = torch.empty_like(x), w.new_empty(len(x), order + 1)
    d_up = None if up is None else torch.empty_like(up)
    y = torch.empty_like(x) if recompute else None
    grid, sizes = _plan(x)
    _backward_kernel[grid](
        g, x, up, w, b, stats, dx, d_up, sums, y, *x.shape, *_strides(w, b),
        KIND=kind, ORDER=order, GATED=up is not None, RECOMPUTE=recompute, **sizes,
    )  # fmt: skip
    return dx, d_up, sums, y


def _plan(x: Tensor) -> tuple[tuple[int], dict[str, int | bool]]:
    """The grid, and how rows are laid out in tiles."""
    n_rows, width = x.shape
    block = triton.next_power_of_2(width)
    chunked = block > LONGEST_TILE
    block = TILE if chunked else block
    rows = min(max(1, TILE // block), triton.next_power_of_2(n_rows))
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1
    sizes = {
        "ROWS": rows,
        "BLOCK": block,
        "CHUNKED": chunked,
        "MASKED": width % block != 0 or n_rows % rows != 0,
        "num_warps": min(16, max(1, rows * block // 1024)),
    }
    return (min(triton.cdiv(n_rows, rows), 8 * processors),), sizes


def _strides(w: Tensor, b: Tensor) -> tuple[int, int]:
    """From one row's coefficients to the next one's: 0 where all rows share them."""
    return (0 if len(w) == 1 else w.shape[1]), (0 if len(b) == 1 else 1)
