"""What the benchmarks share: turns, clocks, ratios with their spread, and the table of any benchmark's rows."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def check_rounds(rounds: int) -> None:
    """Raises ValueError for fewer rounds than have a spread."""
    if rounds < 2:
        raise ValueError(f"a spread needs at least two rounds; got {rounds}")


def pick_device(device: str) -> str:
    """ "cpu" or "cuda": the wish, or for "auto" the best there is. Raises ValueError for another, or a missing one."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}; known: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device on this machine: use device='cpu', or 'auto'")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def take_turns(variants: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list]:
    """What each variant returns, once per round, one variant after the other; the rounds of warm-up are not counted."""
    measured = {name: [] for name in variants}
    for round_ in range(-warm_up, rounds):
        for name, variant in variants.items():
            value = variant()
            if round_ >= 0:
                measured[name].append(value)
    return measured


def now(x: Tensor):
    """A moment on the device of x: on a CPU the time this thread has been running, not the time that passed."""
    if x.is_cuda:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
    return time.thread_time()


def milliseconds(start, end) -> float:
    """The time between two moments of `now`."""
    if isinstance(start, float):
        return 1e3 * (end - start)
    end.synchronize()
    return start.elapsed_time(end)


def spread(above: list[float], below: list[float], name: str = "ratio") -> dict[str, float]:
    """The median over the rounds of above / below, and its quartiles as NAME_low and NAME_high."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


COLUMNS = {
    "tokens_per_s": ("tokens/s", ",.0f"),
    "mfu": ("MFU", ".3f"),
    "ms_forward": ("forward ms", ".2f"),
    "ms_both": ("both ms", ".2f"),
    "ms_step": ("step ms", ".2f"),
    "ms_added": ("added ms", ".2f"),
    "speedup": ("speed-up", ".2f"),
    "ratio": ("ratio", ".3f"),
    "saved_units": ("saved", ".2f"),
}
"""What a row may hold beside its names, its column's title and how the figure is written."""


def table(rows: list[dict]) -> str:
    """The rows of a benchmark as text, one block for each shape, dtype, device and baseline."""
    if not rows:
        return ""
    first = rows[0]
    same = all(row["settings"] == first["settings"] for row in rows)
    threads = f"{first['threads']} thread{'s' if first['threads'] != 1 else ''}"
    lines = [f"{threads}. {first['settings'] + '. ' if same else ''}Medians, and the quartiles of the ratio."]
    heading = None
    for row in rows:
        columns = {key: column for key, column in COLUMNS.items() if key in row}
        compared = "speedup" if "speedup" in row else "ratio"
        if heading != (heading := (row["device"], row["dtype"], row["shape"], row["baseline"])):
            title = COLUMNS[compared][0]
            lines += ["", f"{row['shape']} {row['dtype']} on {row['device']}, {title} over: {row['baseline']}"]
            titles = "".join(f"{name:>11}" for name, _ in columns.values())
            lines += [f"{'variant':34}{titles}{'quartiles':>15}"]
        figures = "".join(f"{format(row[key], style):>11}" for key, (_, style) in columns.items())
        quartiles = f"{row[f'{compared}_low']:.2f} - {row[f'{compared}_high']:.2f}"
        lines.append(f"{row['variant']:34}{figures}{quartiles:>15}{'' if same else '  ' + row['settings']}")
    return "\n".join(lines)
