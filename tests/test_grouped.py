"""Products of experts: every way gives the plain one's values and gradients, empty experts included."""

import itertools

import pytest
import torch

from minipolycom import grouped
from minipolycom.grouped import (
    STEPS_PER_OCTAVE,
    _ByOneDNN,
    _step,
    _windows,
    can_group,
    expert_linear,
    plain_expert_linear,
)
from minipolycom.linear import onednn_is_faster

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
COUNTS = [[5, 3, 4], [0, 12, 0], [0, 0, 12], [12, 0, 0], [1, 10, 1], [90, 0, 150]]


def rows(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_grouping(x: torch.Tensor, weight: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.grouped_mm(x, weight.mT, offs=count.cumsum(0, dtype=torch.int32))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(
    ("way", "dtype"),
    [*itertools.product([expert_linear, by_grouping], DTYPES), (_ByOneDNN.apply, torch.float32)],
)
def test_every_way_gives_the_values_and_gradients_of_the_plain_one(way, dtype, counts):
    total = sum(counts)
    x, weight = rows(total, 16, dtype=dtype).requires_grad_(), rows(3, 24, 16, dtype=dtype, seed=2).requires_grad_()
    count, g = torch.tensor(counts), rows(total, 24, dtype=dtype, seed=3)
    results = []
    for product in (way, plain_expert_linear):
        y = product(x, weight, count)
        results.append((y, *torch.autograd.grad(y, (x, weight), g)))
    # the same products, added up in another order: some ten roundings of sums of up to 150 terms of size 1
    tolerance = 20 * torch.finfo(dtype).eps
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=tolerance, atol=5 * tolerance)
    for expert, n in enumerate(counts):
        assert n or not results[0][2][expert].any()


@pytest.mark.skipif(not onednn_is_faster(), reason="on this chip products stay with MKL")
def test_large_products_go_to_onednn_and_small_ones_do_not(monkeypatch):
    taken = []

    class Spy:
        @staticmethod
        def apply(*args):
            taken.append(1)
            return plain_expert_linear(*args)

    monkeypatch.setattr(grouped, "_ByOneDNN", Spy)
    expert_linear(rows(600, 64), rows(3, 128, 64), torch.tensor([100, 300, 200]))
    assert taken
    expert_linear(rows(60, 64), rows(3, 128, 64), torch.tensor([10, 30, 20]))
    assert len(taken) == 1


def test_products_can_be_differentiated_twice(monkeypatch):
    monkeypatch.setattr(grouped, "by_onednn", torch.nn.functional.linear)  # oneDNN has no fp64
    x, weight = rows(7, 4, dtype=torch.float64).requires_grad_(), rows(3, 2, 4, dtype=torch.float64).requires_grad_()
    for product in (_ByOneDNN.apply, plain_expert_linear):
        torch.autograd.gradgradcheck(lambda x, w, f=product: f(x, w, torch.tensor([3, 0, 4])), (x, weight))


def test_a_window_covers_its_rows_stays_inside_and_has_one_of_a_few_lengths():
    lengths = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        counts, start = torch.randint(0, 500, (6,), generator=generator).tolist(), 0
        for count, (first, length, before) in zip(counts, _windows(counts), strict=True):
            assert first + before == start
            assert 0 <= first <= first + length <= sum(counts)
            assert before + count <= length <= count * (1 + 1 / STEPS_PER_OCTAVE) + 1
            assert length % _step(count) == 0 or length == sum(counts)
            assert (length == 0) == (count == 0)
            start += count
            if length < sum(counts):
                lengths.add(length)
        assert start == sum(counts)
    assert len(lengths) <= STEPS_PER_OCTAVE * 9


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (rows(4, 16, dtype=torch.float64), rows(2, 8, 16, dtype=torch.float64)),
        (rows(4, 6), rows(2, 8, 6)),  # rows of 24 bytes
        (rows(4, 16), rows(2, 5, 16)),
        (rows(0, 16), rows(2, 8, 16)),
        (rows(4, 20, dtype=torch.bfloat16), rows(2, 8, 20, dtype=torch.bfloat16)),
    ],
    ids=["fp64", "24 bytes", "20 bytes", "no rows", "40 bytes"],
)
def test_what_torch_cannot_group_goes_the_plain_way(x, weight):
    assert not can_group(x, weight)
    torch.testing.assert_close(expert_linear(x, weight, torch.tensor([len(x), 0])), x @ weight[0].T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_torch_can_group_is_known(dtype):
    assert can_group(rows(4, 16, dtype=dtype), rows(2, 8, 16, dtype=dtype))
