"""What a training will take, before it begins: memory, so that none is started that cannot end, and time."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from minipolycom.hardware import free_memory, pick_accelerator, pick_precision
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.text import TokenBatch, TokenData

if TYPE_CHECKING:
    from minipolycom.train import TrainConfig

NUMBERS_PER_WEIGHT = 4
"""The weight, its gradient, and AdamW's two moments."""
LONG_ENOUGH = 0.5
"""Seconds of timed steps after which the estimate is made."""
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Estimate:
    """What a training takes on one device: `seconds` of time, and `bytes` of memory at the peak of a step.

    The bytes are those that must be kept; what a step needs for moments comes on top, up to as much again.
    """

    seconds: float
    bytes: int

    def __str__(self) -> str:
        return f"about {in_words(self.seconds)} and at least {self.bytes / 1e9:.2g} GB of memory"


def estimate(data: TokenData, model: GPTConfig, train: "TrainConfig") -> Estimate:
    """Measure a few real steps on a copy of the model that is thrown away.

    The time is that of a step, times the steps, and of the evaluations at a third of a step per batch, which is the
    forward pass; without the talk between devices. Raises ValueError where there is not enough memory.
    """
    check_weights(model, train)
    gpt = GPT(model, seed=train.seed)
    needed = check_batch(gpt, data, train)
    device, dtype = device_and_dtype(train)
    gpt.to(device, dtype)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=0.0, fused=True)
    batch = TokenBatch(*(tokens.to(device) for tokens in first_part(data, train)))
    times: list[float] = []
    while len(times) < 2 or (sum(times) < LONG_ENOUGH and len(times) < 5):  # the first one warms up
        began = time.perf_counter()
        for _ in range(train.accumulate):
            loss_of(gpt, batch, train).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        if times[0] > LONG_ENOUGH:
            break
    evaluations = 1 + train.steps // train.eval_every
    return Estimate(min(times) * (train.steps + evaluations * train.eval_batches / 3), needed)


def check_weights(model: GPTConfig, train: "TrainConfig") -> None:
    """Raise ValueError where a model of this size, its gradient and AdamW's moments take more memory than is free."""
    free = free_memory(pick_accelerator(train.accelerator))
    if free is not None and state_bytes(model, train) > free:
        wanted = f"about {state_bytes(model, train) / 1e9:,.3g} GB, and {free / 1e9:.3g} GB are free"
        raise ValueError(too_large(model, wanted))


def check_batch(gpt: GPT, data: TokenData, train: "TrainConfig") -> int:
    """The bytes at the peak of a training step: those of `check_weights`, what the forward pass keeps for the backward
    pass (counted in a forward pass of one window), and the gradient of the logits.

    Raises ValueError where that is more than is free.
    """
    batch = first_part(data, train)
    # a copy: a slice keeps the whole batch in memory, which would be counted for each of its windows
    kept = kept_bytes(gpt, TokenBatch(*(tokens[:1].clone() for tokens in batch)), train)
    logits = batch.targets[0].numel() * gpt.config.vocab_size * torch.float32.itemsize
    needed = state_bytes(gpt.config, train) + len(batch.inputs) * (kept + logits)
    free = free_memory(pick_accelerator(train.accelerator))
    if free is not None and needed > free:
        raise ValueError(
            f"{len(batch.inputs)} windows at once take at least {needed / 1e9:,.3g} GB, and {free / 1e9:.3g} GB are "
            "free: choose a smaller batch_size, or the same batch in more parts, with a larger accumulate"
        )
    return needed


def state_bytes(model: GPTConfig, train: "TrainConfig") -> int:
    _, dtype = device_and_dtype(train)
    shards = train.devices * train.num_nodes if train.strategy == "fsdp" else 1
    return NUMBERS_PER_WEIGHT * dtype.itemsize * model.n_parameters // shards


def kept_bytes(gpt: GPT, batch: TokenBatch, train: "TrainConfig") -> int:
    """Bytes that a forward pass keeps for the backward pass, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in gpt.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # or an address could be used twice

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss_of(gpt, batch, train)
    return sum(kept.values())


def first_part(data: TokenData, train: "TrainConfig") -> TokenBatch:
    """What one process takes at once of its first batch."""
    batch = next(iter(data.train_dataloader()))
    n_windows = max(1, data.batch_size // (train.devices * train.num_nodes * train.accumulate))
    return TokenBatch(*(tokens[:n_windows] for tokens in batch))


def device_and_dtype(train: "TrainConfig") -> tuple[str, torch.dtype]:
    return pick_accelerator(train.accelerator), torch.float64 if train.precision == "64-true" else torch.float32


def loss_of(gpt: GPT, batch: TokenBatch, train: "TrainConfig") -> torch.Tensor:
    """The loss of a batch, in the precision of the training."""
    lower = AUTOCAST.get(pick_precision(train.precision, pick_accelerator(train.accelerator)))
    with torch.autocast(batch.inputs.device.type, dtype=lower, enabled=lower is not None):
        return next_token_loss(gpt(batch.inputs), batch.targets)


def too_large(model: GPTConfig, more: str) -> str:
    return (
        f"training a model of {model.n_parameters:,} parameters takes more memory than there is ({more}): "
        "choose a smaller model, context or batch_size, or the same batch in more parts, with a larger accumulate"
    )


@contextlib.contextmanager
def enough_memory(model: GPTConfig) -> Iterator[None]:
    """Say in one line, as a ValueError, that memory has run out."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:  # on a CPU torch has no type of its own for it
        if not (isinstance(error, MemoryError) or re.search("out of memory|allocate memory|[Oo]verflow", str(error))):
            raise
        raise ValueError(too_large(model, "it ran out")) from error


def in_words(seconds: float) -> str:
    """A time as a person would say it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
