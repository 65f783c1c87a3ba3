"""How fast a training step is, against a plain GPT in the manner of nanoGPT that runs as its author ships it.

Each variant is a process of its own, because the settings of the allocator and of OpenMP belong to a process; they take
turns, and only one works at a time. On a CPU: one thread, and the time the process was running. With `busy`: all
cores, another busy process beside it, and the time that passed, which is what the settings are for.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from minipolycom.bench.plain import find_peer
from minipolycom.bench.timing import check_rounds, pick_device, spread, take_turns
from minipolycom.hardware import cpu_has_bf16
from minipolycom.model import GPTConfig

CPU_SHAPES = ((4, 128, 4, 128, 16), (6, 384, 6, 256, 4))
"""Layers, width, heads, context and batch on a CPU: nanoGPT's two small models."""

GPU_SHAPES = ((12, 768, 12, 1024, 16),)
"""The same on a GPU: GPT-2 with 124 M parameters."""

BASELINE = "plain GPT, gelu, as shipped"

NOT_INHERITED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MINIPOLYCOM_TUNE", "MINIPOLYCOM_BACKEND")
"""Settings of this process that would decide for the variants."""

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L4": 121, "T4": 65}
"""What a GPU multiplies in bf16 (a T4: fp16) without sparsity, from NVIDIA's data sheets; matched by its name."""


def bench_model(
    shapes: Iterable[tuple[int, int, int, int, int]] | None = None,
    device: str = "auto",
    rounds: int = 15,
    steps: int = 2,
    compiler: bool = True,
    busy: bool = False,
    peer: Path | str | None = None,
) -> list[dict]:
    """Time whole training steps: forward, backward, clipping, optimizer, on a batch of random tokens.

    A row holds: variant, device, dtype, shape; tokens_per_s; baseline; ratio, its tokens per second over the
    baseline's, median over the rounds, with its quartiles ratio_low and ratio_high; busy, threads and settings. On a
    GPU also tflops, what the model's arithmetic makes per second, and mfu, its share of what the GPU can, where that is
    known. `shapes` are layers, width, heads, context and batch; a turn is `steps` steps. `compiler` adds what needs
    torch.compile; bf16 is added where the chip has it; `busy` keeps another process busy meanwhile; `peer` adds nanoGPT
    itself, from a checkout. Without `shapes`, on a CPU that is not kept busy, the rows of `bench_lightning` follow.
    Raises ValueError for an unknown device, fewer than two rounds, and a peer that is not nanoGPT.
    """
    device = pick_device(device)
    check_rounds(rounds)
    variants = _on_cpu(compiler) if device == "cpu" else _on_gpu()
    if peer is not None:
        variants["nanoGPT, gelu, as shipped"] = variants[BASELINE] | {"model": "peer", "file": find_peer(peer)}
    rows = []
    for shape in shapes or (CPU_SHAPES if device == "cpu" else GPU_SHAPES):
        layers, width, heads, context, batch = shape
        size = {"n_layers": layers, "d_model": width, "n_heads": heads, "context": context}
        size["vocab_size"] = 65 if device == "cpu" else 50304  # nanoGPT's: letters of Shakespeare, and GPT-2 padded
        where = {"size": size, "batch": batch, "device": device, "all_cores": busy}
        with ExitStack() as stack:
            if busy:
                stack.enter_context(_busy_process())
            workers = {name: stack.enter_context(Worker(job | where, steps)) for name, job in variants.items()}
            seconds = take_turns(workers, rounds, warm_up=2)
        for name, job in variants.items():
            rate = steps * batch * context / statistics.median(seconds[name])
            rows.append(
                {
                    "variant": name,
                    "device": device,
                    "dtype": "bfloat16" if job["bf16"] else "float32",
                    "shape": f"{layers} layers, {width} wide, {batch} x {context} tokens",
                    "tokens_per_s": rate,
                    "baseline": BASELINE,
                    **spread(seconds[BASELINE], seconds[name]),
                    "busy": busy,
                    **(_arithmetic(rate, size) if device == "cuda" else {}),
                    **workers[name].about,
                }
            )
    if shapes is None and device == "cpu" and not busy:
        from minipolycom.bench.lightning import bench_lightning

        rows += bench_lightning(rounds)
    return rows


def _arithmetic(tokens_per_s: float, size: dict) -> dict[str, float]:
    done = 1e-12 * tokens_per_s * GPTConfig(**size).flops_per_token
    peak = next((peak for name, peak in PEAK_TFLOPS.items() if name in torch.cuda.get_device_name()), None)
    return {"tflops": done} | ({"mfu": done / peak} if peak else {})


def _on_cpu(compiler: bool) -> dict[str, dict]:
    ours = {"model": "ours", "activation": "gelu", "bf16": False, "compiled": False, "tuned": True, "backend": "eager"}
    polynorm = ours | {"activation": "polynorm"}
    compiled = polynorm | {"backend": "compiled"}
    variants = {
        BASELINE: ours | {"model": "plain", "tuned": False},
        "plain GPT, gelu, our CPU settings": ours | {"model": "plain"},
        "ours, gelu": ours,
        "ours, polynorm": polynorm,
    }
    if compiler:
        variants["ours, polynorm compiled"] = compiled
    if cpu_has_bf16():
        variants["ours, gelu, bf16"] = ours | {"bf16": True}
        variants["ours, polynorm, bf16"] = polynorm | {"bf16": True}
        if compiler:
            variants["ours, polynorm compiled, bf16"] = compiled | {"bf16": True}
    return variants


def _on_gpu() -> dict[str, dict]:
    ours = {"model": "ours", "activation": "gelu", "bf16": True, "compiled": True, "tuned": True, "backend": "auto"}
    return {
        BASELINE: ours | {"model": "plain", "tuned": False},
        "ours, gelu": ours,
        "ours, polynorm": ours | {"activation": "polynorm"},
    }


class Worker:
    """A variant in a process of its own: each call takes some steps and returns the seconds that they took."""

    def __init__(self, job: dict, steps: int):
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        environment["MINIPOLYCOM_BACKEND"] = job["backend"]
        if job["tuned"]:
            environment["OMP_WAIT_POLICY"] = "passive"
        self.steps = steps
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minipolycom.bench.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.about = self._answer()

    def __call__(self) -> float:
        print(self.steps, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a variant of the benchmark ended with exit code {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def _busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
