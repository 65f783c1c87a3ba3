"""One variant of the training benchmark, in a process of its own: allocator and OpenMP settings belong to a process.

`python -m minipolycom.bench.worker JOB` builds what the job (a JSON object) describes, prints a line about itself, and
then answers each line on its standard input, a number of steps, with the seconds that they took.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from minipolycom.bench.plain import CLIP, Peer, PlainGPT, adamw
from minipolycom.hardware import tune_cpu
from minipolycom.model import GPT, GPTConfig, next_token_loss


def plain_step(model: PlainGPT | Peer, compiled: bool, bf16: bool) -> Callable[[Tensor, Tensor], None]:
    """The training step of nanoGPT."""
    optimizer = model.optimizer()
    loss_of = torch.compile(model) if compiled else model

    def step(inputs: Tensor, targets: Tensor) -> None:
        with in_bf16(bf16, inputs):
            loss = loss_of(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(gpt: GPT, compiled: bool, bf16: bool) -> Callable[[Tensor, Tensor], None]:
    """Our training step without Lightning: clipping, the check that all is finite, optimizer, a learning rate each."""
    optimizer = adamw(gpt, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 1000))
    logits_of = torch.compile(gpt) if compiled else gpt

    def step(inputs: Tensor, targets: Tensor) -> None:
        with in_bf16(bf16, inputs):
            loss = next_token_loss(logits_of(inputs), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(gpt.parameters(), CLIP)
        torch.isfinite(loss.detach() + norm)  # looked at now and then, so that a GPU need not wait
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    return step


def in_bf16(wanted: bool, x: Tensor) -> contextlib.AbstractContextManager:
    return torch.autocast(x.device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def build(job: dict) -> Callable[[], None]:
    """The step that a job describes, on a batch of random tokens."""
    device, size = job["device"], job["size"]
    torch.manual_seed(0)
    tokens = torch.randint(size["vocab_size"], (job["batch"], size["context"] + 1), device=device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    if job["model"] == "ours":
        gpt = GPT(GPTConfig(**size, activation=job["activation"], tied=True))
        step = our_step(gpt.to(device), job["compiled"], job["bf16"])
    else:
        model = Peer(job["file"], **size) if job["model"] == "peer" else PlainGPT(**size)
        step = plain_step(model.to(device), job["compiled"], job["bf16"])
    return lambda: step(inputs, targets)


def main(job: dict) -> None:
    settings, clock = tune_cpu(job["tuned"]), time.perf_counter
    if job["device"] == "cpu" and not job["all_cores"]:
        torch.set_num_threads(1)
        clock = time.process_time
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT prints what it makes
        step = build(job)
    print(json.dumps({"threads": torch.get_num_threads(), "settings": settings}), flush=True)
    for line in sys.stdin:
        start = clock()
        for _ in range(int(line)):
            step()
        if job["device"] == "cuda":
            torch.cuda.synchronize()
        print(json.dumps(clock() - start), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
