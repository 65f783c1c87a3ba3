"""What a function moves: how often its operations pass over memory, what autograd keeps of it, how its time compares.

A pass is one reading or one writing of as many bytes as the function's first input has.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minipolycom.bench.timing import check_rounds, spread, take_turns


class _Listener(TorchDispatchMode):
    """Writes down every operation that moves something."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        read = _tensors((args, {name: value for name, value in kwargs.items() if name != "out"}))
        written = _tensors(result)
        # a view is a new name for the same bytes; what is written in place or into `out` is known by the schema
        moves = function._schema.is_mutable or not _storages(written) <= _storages(read)
        name = function._schema.name.removeprefix("aten::").strip("_")
        if written and moves and "empty" not in name:
            self.seen.append((name, sum(map(_bytes, read)), sum(map(_bytes, written))))
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storages(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _bytes(tensor: Tensor) -> int:
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())  # of an expanded tensor only what there is


def operations(function: Callable[..., object], *inputs: Tensor) -> list[dict]:
    """Each operation of `function(*inputs)` that moves data, in order: its name, and the passes it reads and writes.

    Operations that only make a view are left out. What one operation reads twice is counted twice.
    """
    unit = inputs[0].nbytes
    with _Listener() as listener:
        function(*inputs)
    return [{"operation": name, "read": r / unit, "written": w / unit} for name, r, w in listener.seen]


def passes(function: Callable[..., object], *inputs: Tensor) -> float:
    """All passes over memory of `function(*inputs)`, read and written."""
    return sum(row["read"] + row["written"] for row in operations(function, *inputs))


def kept_tensors(function: Callable[..., object], *inputs: Tensor) -> list[Tensor]:
    """What autograd keeps of `function(*inputs)` for the backward pass, in order, with every repetition."""
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function(*inputs)
    return kept


def compare_times(
    functions: Mapping[str, Callable[[], object]], baseline: str, rounds: int
) -> dict[str, dict[str, float]]:
    """Time functions against each other on one core: for each ms, ratio, and the ratio's quartiles.

    They take turns in every round, and what is measured is the time the thread ran, so that a busy machine slows all
    alike; ms is the median, ratio the median over the rounds of a function's time over the baseline's.
    Raises ValueError for a baseline that is not among the functions and for fewer than two rounds.
    """
    check_rounds(rounds)
    if baseline not in functions:
        raise ValueError(f"the baseline {baseline!r} is not among the functions: {', '.join(functions)}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = take_turns({name: _timed(function) for name, function in functions.items()}, rounds)
    finally:
        torch.set_num_threads(threads)
    return {name: {"ms": statistics.median(ms), **spread(ms, times[baseline])} for name, ms in times.items()}


def _timed(function: Callable[[], object]) -> Callable[[], float]:
    def milliseconds() -> float:
        began = time.thread_time()
        result = function()
        ended = time.thread_time()
        del result  # only now, so that giving memory back is not timed
        return 1e3 * (ended - began)

    return milliseconds
