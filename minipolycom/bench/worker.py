"""One variant of the training benchmark, in a process of its own: allocator and OpenMP settings belong to a process.

`python -m minipolycom.bench.worker JOB` builds what the job (a JSON object) describes, prints a line about itself, and
then answers each line on its standard input, a number of steps, with the seconds they took.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from minipolycom.bench.plain import CLIP, Peer, PlainGPT
from minipolycom.hardware import tune_cpu
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.train import LanguageModel, TrainConfig


def plain_step(model: PlainGPT | Peer, tokens: torch.Tensor, compiled: bool) -> Callable[[], None]:
    """nanoGPT's training step; `compiled` compiles the model, and runs it in bf16, as it does on a GPU."""
    optimizer = model.optimizer()
    loss_of = torch.compile(model) if compiled else model
    lower = torch.autocast(tokens.device.type, torch.bfloat16) if compiled else contextlib.nullcontext()

    def step() -> None:
        with lower:
            loss = loss_of(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(gpt: GPT, tokens: torch.Tensor, bf16: bool, compiled: bool) -> Callable[[], None]:
    """Our training step without Lightning: its optimizer, schedule, clipping and check that all is finite."""
    settings = LanguageModel(gpt, TrainConfig()).configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    logits_of = torch.compile(gpt) if compiled else gpt
    lower = torch.autocast(tokens.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def step() -> None:
        with lower:
            loss = next_token_loss(logits_of(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        norm = nn.utils.clip_grad_norm_(gpt.parameters(), CLIP)
        torch.isfinite(loss.detach() + norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def build(job: dict) -> Callable[[], None]:
    """The step that a job describes, on a batch of random tokens."""
    device, size = job["device"], job["size"]
    torch.manual_seed(0)
    tokens = torch.randint(size["vocab_size"], (job["batch"], size["context"] + 1), device=device)
    if job["model"] == "ours":
        gpt = GPT(GPTConfig(**size, activation=job["activation"], tied=True)).to(device)
        return our_step(gpt, tokens, job["bf16"], job["compiled"])
    model = Peer(job["file"], **size) if job["model"] == "peer" else PlainGPT(**size)
    return plain_step(model.to(device), tokens, job["compiled"])


def main(job: dict) -> None:
    settings = tune_cpu(job["tuned"])
    clock = time.perf_counter
    if job["device"] == "cpu" and not job["all_cores"]:
        torch.set_num_threads(1)
        clock = time.process_time
    step = build(job)
    print(json.dumps({"settings": settings, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        start = clock()
        for _ in range(int(line)):
            step()
        if job["device"] == "cuda":
            torch.cuda.synchronize()
        print(json.dumps(clock() - start), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
