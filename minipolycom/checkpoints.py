"""The checkpoints of a run, from which training goes on: files checkpoints/step-00000050.ckpt in its folder."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

FOLDER = "checkpoints"


def checkpoint_file(run: Path, step: int) -> Path:
    """Where the checkpoint of a step belongs."""
    return run / FOLDER / f"step-{step:08}.ckpt"


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints in a run's folder by their step, from the first to the last."""
    named = {file: re.fullmatch(r"step-(\d+)\.ckpt", file.name) for file in (run / FOLDER).glob("step-*.ckpt")}
    return dict(sorted((int(match[1]), file) for file, match in named.items() if match))


def keep_newest(run: Path, n: int) -> None:
    """Delete all checkpoints but the newest `n`; 0 keeps them all."""
    for file in list(checkpoints(run).values())[:-n] if n else []:
        file.unlink()


@dataclass(frozen=True)
class Found:
    """Where training can go on: at `step`, from `file`; 0 and None where a run has no checkpoint."""

    step: int = 0
    file: Path | None = None
    damaged: tuple[Path, ...] = ()
    """Newer ones, which cannot be read."""
    reason: str = ""
    """What is wrong with the newest of those."""


def newest_whole(run: Path) -> Found:
    """The newest checkpoint that can be read to its last byte. Raises ValueError where there are some, all damaged."""
    damaged, reason = [], ""
    for step, file in reversed(checkpoints(run).items()):
        try:
            check_whole(file, step)
        except Exception as error:  # a file that was cut, changed or swapped fails in any of a dozen ways
            damaged.append(file)
            reason = reason or f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        return Found(step, file, tuple(damaged), reason)
    if damaged:
        raise ValueError(
            f"the run in {run} is damaged: {FOLDER}/{damaged[0].name} ({reason}); "
            "restore that file, or delete the folder"
        )
    return Found()


def check_whole(file: Path, step: int) -> None:
    """Raise an error unless the file is a checkpoint of that step, with each byte as it was written."""
    with zipfile.ZipFile(file) as archive:  # which is what torch writes, with a sum over each entry
        changed = archive.testzip()
    if changed:
        raise ValueError(f"{changed} was changed")
    held = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    if held["global_step"] != step:
        raise ValueError(f"it is of step {held['global_step']!r}")
