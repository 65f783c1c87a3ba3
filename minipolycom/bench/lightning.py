"""What Lightning, and what we hang on it, adds to a training step: `fit` against our own plain loop.

Both train the same small model at the defaults of TrainConfig and read their batches from the same text, through the
same loader; after each ten steps of `fit`, where it writes a row, the plain loop takes its ten.

Counted is what `fit` does at each of these steps: Lightning's loop with its hooks and callbacks, the callback that
records included, the bar, the sums for the rows, a look at Control. In neither are the row itself, evaluations,
checkpoints and recordings, work of their own that is due now and then; of recording, `bench recording` tells. Loss,
clipping, the check that all is finite, AdamW and its schedule are in both.

The clock is the time that this thread was running on one core, not the time that passed, so that other processes
on the machine count little; what they still do, by the caches that are shared, meets both loops of a turn alike. Each
round gives one difference; the row holds their median and quartiles.
"""

import contextlib
import io
import statistics
import tempfile
import time

import torch

from minipolycom.bench.timing import check_rounds, spread
from minipolycom.bench.worker import our_step
from minipolycom.hardware import tune_cpu
from minipolycom.model import GPT, GPTConfig
from minipolycom.text import TokenData
from minipolycom.train import TrainConfig, fit

SIZE, BATCH = {"vocab_size": 256, "n_layers": 1, "n_heads": 2, "d_model": 32, "context": 32}, 16
"""A model and a batch whose own step is short, so that what is added to it is seen."""

PERIOD, WARM_UP = TrainConfig().log_every, 3
"""Steps in a turn, and turns that are not counted, the last of them the one that fit ends with."""

PLAIN = "our own plain loop"


def bench_lightning(rounds: int = 15) -> list[dict]:
    """Time steps of `fit` and of the plain loop in turns, on a CPU.

    A row holds: variant, device, dtype, shape; tokens_per_s, ms_step, and ms_added, what a step takes longer than the
    plain loop's, with its quartiles ms_added_low and ms_added_high; baseline; ratio, its tokens per second over the
    plain loop's, with its quartiles ratio_low and ratio_high; threads and settings.
    Raises ValueError for fewer than two rounds.
    """
    check_rounds(rounds)
    settings, threads = tune_cpu(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            plain, lightning = _measure(GPTConfig(**SIZE), folder, rounds)
    finally:
        torch.set_num_threads(threads)
    added = [ours - theirs for ours, theirs in zip(lightning, plain, strict=True)]
    rows = []
    for name, seconds, more in ((PLAIN, plain, [0.0] * rounds), ("fit, by Lightning", lightning, added)):
        low, middle, high = (1e3 * value for value in statistics.quantiles(more, n=4))
        rows.append(
            {
                "variant": name,
                "device": "cpu",
                "dtype": "float32",
                "shape": f"{SIZE['n_layers']} layer, {SIZE['d_model']} wide, {BATCH} x {SIZE['context']} tokens",
                "tokens_per_s": BATCH * SIZE["context"] / statistics.median(seconds),
                "ms_step": 1e3 * statistics.median(seconds),
                "ms_added": middle,
                "ms_added_low": low,
                "ms_added_high": high,
                "baseline": PLAIN,
                **spread(plain, seconds),
                "threads": 1,
                "settings": settings,
            }
        )
    return rows


def _measure(config: GPTConfig, folder: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per step, in each round, of the plain loop and of `fit`."""
    never = 1_000_000
    train = TrainConfig(
        steps=PERIOD * (rounds + WARM_UP),
        log_every=PERIOD,
        eval_every=never,
        eval_batches=1,
        checkpoint_every=never,
        record_every=never,
        accelerator="cpu",
    )
    data = TokenData("grammar", context=config.context, batch_size=BATCH, cache_dir=folder)
    data.prepare_data()
    data.setup("fit")
    batches, step = iter(data.train_dataloader()), our_step(GPT(config), compiled=False, bf16=False)
    plain, lightning, started = [], [], []

    def take_turns(row: dict) -> None:
        if row["split"] != "train":
            return
        now = time.thread_time()
        if started:
            lightning.append((now - started.pop()) / PERIOD)
            for _ in range(PERIOD):
                batch = next(batches)
                step(batch.inputs, batch.targets)
            plain.append((time.thread_time() - now) / PERIOD)
        started.append(time.thread_time())

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # where the bar goes
        fit(data, config, train, on_row=take_turns)
    return plain[-rounds - 1 : -1], lightning[-rounds - 1 : -1]
