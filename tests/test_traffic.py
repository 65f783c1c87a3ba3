"""What a function moves: passes counted by hand, tensors kept, times compared."""

import time

import pytest
import torch
import torch.nn.functional as F

from minipolycom.bench.activations import authors_polynorm, authors_polyrelu
from minipolycom.bench.traffic import compare_times, kept_tensors, operations, passes

X = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))
WEIGHT, BIAS = torch.full((3,), 1 / 3), torch.zeros(1)
SMALL = 0.05  # numbers per row and single numbers, which a count by hand leaves out


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w, b: torch.relu(x), 2),
        (lambda x, w, b: F.gelu(x), 2),
        (lambda x, w, b: torch.relu(x).square(), 4),
        (lambda x, w, b: x + x, 3),
        (lambda x, w, b: x.T.reshape(-1)[::2], 2),  # reshape copies here, the views around it move nothing
        (lambda x, w, b: x.view(-1)[None, 5:], 0),
        (lambda x, w, b: x.mean(dim=-1), 1),
        (lambda x, w, b: b.expand(x.shape) + 1, 1),  # of an expanded number one number is read
        (lambda x, w, b: torch.empty_like(x), 0),
        (lambda x, w, b: torch.mul(x, 2, out=torch.empty_like(x)), 2),
        (lambda x, w, b: x.clone().add_(1), 4),
        (authors_polyrelu, 20),
        (authors_polynorm, 33),
    ],
)
def test_passes_are_those_counted_by_hand(function, expected: float) -> None:
    assert passes(function, X, WEIGHT, BIAS) == pytest.approx(expected, abs=SMALL)


def test_a_pass_is_measured_in_bytes_of_the_input() -> None:
    """16-bit x computed in fp32: the conversion writes two passes, each operation after it counts twice."""
    assert passes(lambda x: x.float() * 2, X.half()) == pytest.approx(1 + 2 + 2 + 2)


def test_operations_come_in_order_with_what_they_read_and_write() -> None:
    rows = operations(lambda x: (x * x).sum(dim=-1), X)
    assert [row["operation"] for row in rows] == ["mul", "sum"]
    assert [(row["read"], round(row["written"], 2)) for row in rows] == [(2, 1), (1, 0)]


def test_kept_tensors_hold_every_repetition_and_six_tensors_of_polynorm() -> None:
    leaves = [leaf.clone().requires_grad_() for leaf in (X, WEIGHT, BIAS)]
    kept = [tensor for tensor in kept_tensors(authors_polynorm, *leaves) if tensor.shape == X.shape]
    assert len({tensor.data_ptr() for tensor in kept}) == 6
    assert len(kept) > 6
    assert kept_tensors(torch.relu, X) == []  # nothing asks for a gradient


def test_times_are_ratios_to_the_baseline_and_the_threads_stay() -> None:
    threads = torch.get_num_threads()

    def wait(seconds: float):
        def busy() -> None:
            until = time.thread_time() + seconds
            while time.thread_time() < until:
                pass

        return busy

    found = compare_times({"one": wait(2e-3), "three": wait(6e-3)}, "one", rounds=3)
    assert torch.get_num_threads() == threads
    assert found["one"]["ratio"] == 1
    assert found["three"]["ratio"] == pytest.approx(3, rel=0.2)  # a clock of CPU time may tick in steps of 0.1 ms
    assert found["three"]["ratio_low"] <= found["three"]["ratio"] <= found["three"]["ratio_high"]
    assert found["three"]["ms"] == pytest.approx(6, rel=0.2)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="the baseline 'two' is not among the functions: one"):
        compare_times({"one": X.sum}, "two", rounds=2)
    with pytest.raises(ValueError, match="a spread needs at least two rounds; got 1"):
        compare_times({"one": X.sum}, "one", rounds=1)
