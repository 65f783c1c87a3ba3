"""A study's pieces computed, one file each: stopped and started again, it goes on; several processes share the work.

    WORK/KEY.json    a finished piece: its configuration, rows, seconds, commit, date, machine
    WORK/KEY/        the run of one that is under way, with its checkpoints
    WORK/KEY.lock    held by the process that computes it

A piece that two studies have in common is computed once. Processes on other GPUs or machines that see the same folder
take the pieces that nobody has; where a phase needs all of the one before, they wait for each other.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from minipolycom.control import Control
from minipolycom.runs import commit, environment, write_json
from minipolycom.studies.pieces import KINDS, Interrupted, repeatable
from minipolycom.studies.records import Record
from minipolycom.studies.study import Piece, Study, chosen_rates, judge, seeds_of

THREADS = 1
"""Threads of torch that a piece is computed with: so a CPU's sums are the same on however many cores, and as many
processes as there are cores share the work without waiting for one another."""


def run_study(
    study: Study,
    tier: str,
    seeds: int = 3,
    *,
    reference: Path | str,
    work: Path | str = "runs/studies",
    control: Control | None = None,
    on_piece: Callable[[Piece, int, int], None] | None = None,
) -> Record:
    """Compute what is missing of a study at a tier, write its record into the folder `reference`, and return it.

    First the pieces that choose the learning rates, on seeds of their own, then those that are compared, one for each
    of `seeds`. Finished pieces are read from `work`, not repeated; `on_piece(piece, number, of)` is called before each
    that is computed. After `control.stop()` the piece under way keeps its last checkpoint, and Interrupted is raised.

    Raises ValueError for an unknown tier and fewer than two seeds.
    """
    settings, numbers = study.settings(tier), seeds_of(seeds)
    compute = Worker(Path(work), control or Control(), on_piece)
    tuned = compute(study.tune(settings)) if study.tune else []
    rates = chosen_rates(row for done in tuned for row in done["rows"])
    compared = compute(study.make(settings, numbers, {group: found["rate"] for group, found in rates.items()}))
    done = [*compared, *tuned]
    rows = [row for each in done for row in each["rows"]]
    if study.derive:
        rows += study.derive(rows)
    record = Record(
        study=study.name,
        question=study.question,
        tier=tier,
        seeds=numbers,
        settings=settings,
        baseline=study.baseline,
        rates=rates,
        statements=judge(study.statements, rows, settings["scale"]),
        pieces=[{name: value for name, value in each.items() if name != "rows"} for each in done],
        recorded=datetime.now(UTC).isoformat("T", "seconds"),
        rows=rows,
    )
    with FileLock(Path(work) / f"{record.name}.lock"):  # processes that shared the last pieces come here together
        record.write(reference)
    return record


class Worker:
    """Computes pieces, whichever nobody else has, until all of them are finished."""

    def __init__(self, folder: Path, control: Control, on_piece: Callable[[Piece, int, int], None] | None):
        self.folder, self.control, self.on_piece = folder, control, on_piece
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, pieces: Iterable[Piece]) -> list[dict]:
        """What the pieces gave, in their order."""
        pieces = list(pieces)
        for wait in (False, True):  # first what is free; then what others had begun, should they have been killed
            for number, piece in enumerate(pieces, start=1):
                if not self.file(piece).is_file():
                    self.compute(piece, number, len(pieces), wait)
        return [json.loads(self.file(piece).read_text(encoding="utf-8")) for piece in pieces]

    def file(self, piece: Piece) -> Path:
        return self.folder / f"{piece.key}.json"

    def compute(self, piece: Piece, number: int, of: int, wait: bool) -> None:
        try:
            with FileLock(self.folder / f"{piece.key}.lock", timeout=-1 if wait else 0):
                if self.file(piece).is_file():
                    return
                if self.control.stopped:
                    raise Interrupted(f"before piece {number} of {of}")
                if self.on_piece:
                    self.on_piece(piece, number, of)
                write_json(self.file(piece), finished(piece, self.folder / piece.key, self.control))
                shutil.rmtree(self.folder / piece.key, ignore_errors=True)
        except Timeout:
            pass


def finished(piece: Piece, folder: Path, control: Control) -> dict:
    """A piece with its rows, and where, when and from which code they come."""
    began = time.perf_counter()
    rows = rows_of(piece, folder, control)
    return {
        "piece": asdict(piece),
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.now(UTC).isoformat("T", "seconds"),
        "commit": commit(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "environment": environment() | {"threads": THREADS},
        "n_rows": len(rows),
        "rows": rows,
    }


def rows_of(piece: Piece, folder: Path, control: Control) -> list[dict]:
    """The rows of a piece, and torch left with as many threads as it had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return KINDS[piece.kind](piece, folder, control)
    finally:
        torch.set_num_threads(threads)


def again(record: Record) -> str:
    """Compute a record's first piece once more; one line that says whether its rows are the recorded ones."""
    piece = Piece(**record.pieces[0]["piece"])
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(piece, Path(folder) / "run", Control())
    recorded = record.rows[: record.pieces[0]["n_rows"]]
    return difference(repeatable(recorded), repeatable(rows))


def difference(recorded: list[dict], new: list[dict]) -> str:
    if recorded == new:
        return f"the same {len(new)} rows as recorded, to the last digit"
    place = next(
        (place for place, (one, two) in enumerate(zip(recorded, new, strict=False)) if one != two),
        min(len(recorded), len(new)),
    )
    return f"the rows differ from the recorded ones from row {place + 1} on: another machine or other versions?"
