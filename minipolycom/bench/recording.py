"""What it costs to record a training, as a share of the training's own time.

One real run per preset, into a folder, in which a few steps with a recording and a few without take turns. On a CPU:
one thread, and the time this thread was running.
"""

import statistics
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise

import torch

from minipolycom.bench.timing import check_rounds, pick_device
from minipolycom.hardware import pick_precision, tune_cpu
from minipolycom.model import GPTConfig
from minipolycom.text import TokenData
from minipolycom.train import PRESET_TRAINING, TrainConfig, fit

PERIOD = 6
"""Steps in a round: the one that a recording follows and the one after it, and four without."""

DTYPES = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""What Lightning's precisions are called in the rows of all benchmarks."""


def bench_recording(
    presets: Iterable[str] = ("tiny", "nano"),
    activation: str = "polynorm",
    device: str = "auto",
    rounds: int = 15,
    every: int = TrainConfig().record_every,
) -> list[dict]:
    """Time a training that is recorded every so many steps, against one that is not.

    A row holds: variant, device, dtype, shape; ms_step and ms_added (medians); baseline; ratio, the time of a
    training with over that of one without, 1 + ms_added / (every ms_step), median over the rounds, with its
    quartiles ratio_low and ratio_high; threads and settings. A recording's time is what the two steps around it take
    longer than two of the others in its round, so that whatever it does to caches is in it. Evaluations, checkpoints
    and the recording before the first step are in neither.

    Raises ValueError for an unknown preset, activation or device, fewer than two rounds, and a cadence below 1.
    """
    device = pick_device(device)
    check_rounds(rounds)
    if every < 1:
        raise ValueError(f"every is a number of steps, at least 1; got {every}")
    presets = {name: GPTConfig.preset(name, activation=activation) for name in presets}
    settings, threads = tune_cpu(), torch.get_num_threads()
    rows = []
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        for name, config in presets.items():
            steps, recordings = _measure(config, PRESET_TRAINING[name]["batch_size"], device, rounds)
            ratios = [1 + recording / (every * step) for step, recording in zip(steps, recordings, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append(
                {
                    "variant": f"{activation}, recorded every {every} steps",
                    "device": device,
                    "dtype": DTYPES[pick_precision("auto", device)],
                    "shape": name,
                    "ms_step": 1e3 * statistics.median(steps),
                    "ms_added": 1e3 * statistics.median(recordings),
                    "baseline": "nothing recorded",
                    "ratio": middle,
                    "ratio_low": low,
                    "ratio_high": high,
                    "threads": torch.get_num_threads(),
                    "settings": settings,
                }
            )
    finally:
        torch.set_num_threads(threads)
    return rows


def _measure(config: GPTConfig, batch_size: int, device: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a step and of a recording, of each round."""
    clock = time.thread_time if device == "cpu" else time.perf_counter  # a GPU has finished when a row is written
    moments: dict[int, float] = {}

    def note(row: dict) -> None:
        if row["split"] == "train":
            moments[row["step"]] = clock()

    n_steps = PERIOD * (rounds + 1) + 2
    train = TrainConfig(
        steps=n_steps,
        log_every=1,
        eval_every=n_steps + 1,
        eval_batches=1,
        checkpoint_every=n_steps + 1,
        record_every=PERIOD,
        accelerator=device,
    )
    with tempfile.TemporaryDirectory() as folder:
        data = TokenData("grammar", context=config.context, batch_size=batch_size, cache_dir=f"{folder}/text")
        fit(data, config, train, out=f"{folder}/run", on_row=note, progress=False)
    # Row k is written before recording k, so what lies between two rows is the recording of the first, if any, and the
    # step of the second, which if due also measures its gradient.
    took = {step: moments[step] - moments[before] for before, step in pairwise(sorted(moments))}
    steps, recordings = [], []
    for recorded in range(2 * PERIOD, n_steps, PERIOD):  # the first round is to warm up
        without = [took[step] for step in range(recorded - PERIOD + 2, recorded)]
        steps.append(statistics.median(without))
        recordings.append(took[recorded] + took[recorded + 1] - 2 * steps[-1])
    return steps[:rounds], recordings[:rounds]
