"""A leaderboard: variants of a reader's own under the protocol of the recorded studies, beside what these recorded.

    GAINS["soft"] = soft                                                       a gain of one's own, by one line
    enter("soft", "rdm_simsiam_target@soft:target:-1.0", steps=300)            a row for each seed
    board = recorded_scores() | scores(entered())                              everything side by side
    viz.leaderboard.board(by_measure(board), list(MEASURES.values()), "Leaderboard")

The protocol is that of the studies ssl-methods and sigma: their images, batches, network, learning rate and seeds. A
seed decides the initial weights, the order of the images and their views, for every entry alike, so that entries are
compared seed by seed.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from minipolycom.ssl.compare import compare
from minipolycom.ssl.filters import Filter
from minipolycom.ssl.train import SSLConfig
from minipolycom.studies.catalogue import SSL, trained
from minipolycom.studies.entries import code_of, read_all, read_rows, write_rows
from minipolycom.studies.records import recorded

SEEDS = (0, 1, 2)
FOLDER = "runs/leaderboard"

MEASURES = {
    "erank_projected": "effective rank",
    "knn_augmented": "neighbours, altered images",
    "probe": "linear probe, images as they are",
}
"""What a board shows: the rank of the projections, their neighbours' vote on altered images, and the linear probe of
the backbone; see `ssl.runs.SSLRun.summary`."""

NAMES = {
    "symsimsiam": "SymSimSiam", "simsiam": "SimSiam", "byol": "BYOL", "swav": "SwAV", "dino": "DINO",
    "simclr": "SimCLR",
}  # fmt: skip
"""How papers write the methods."""

Scores = dict[str, dict[int, dict[str, float]]]
"""Of each entry, by seed, its measures by name."""


def enter(
    name: str,
    method: str,
    *,
    steps: int,
    seeds: Iterable[int] = SEEDS,
    out: Path | str = FOLDER,
    on_row: Callable[[dict], None] | None = None,
) -> list[dict]:
    """Train a variant under the protocol, with each seed, and return a row for each: its entry, and its run's summary.

    What is finished is read and not trained again, what was interrupted goes on. A gain that was changed under its old
    name is another variant: it is trained, and takes the old one's place on the board. `on_row` is called with each
    row.

    Raises ValueError for an unknown method, before anything is trained, and KeyboardInterrupt where training was
    interrupted.
    """
    code = fingerprint(method, steps)
    rows = {row["seed"]: row for row in read_rows(out, name) if row["fingerprint"] == code}
    for seed in seeds:
        if seed not in rows:
            found = compare(
                [method], SSL["source"], [seed], out=Path(out) / code, batch_size=SSL["batch_size"], progress=False,
                **trained(steps, "auto"),
            )  # fmt: skip
            if not found:
                raise KeyboardInterrupt(f"{name} was interrupted at seed {seed}; run this again to go on from there")
            rows[seed] = {"entry": name, "fingerprint": code, **found[0]}
            write_rows(out, name, rows.values())
        if on_row is not None:
            on_row(rows[seed])
    return [rows[seed] for seed in seeds]


def entered(out: Path | str = FOLDER) -> list[dict]:
    """The rows of everything that has entered so far, in the order of the entries' names."""
    return read_all(out)


def fingerprint(method: str, steps: int) -> str:
    """Twelve characters that change with the method, the steps, and what the filter's gain does to a spectrum.

    Raises ValueError for an unknown method.
    """
    filter = filter_of(method)
    gain = filter.gain(torch.logspace(-3, 1, 33, dtype=torch.float64)).tolist() if filter else []
    return code_of([method, steps], gain)


def scores(rows: Iterable[Mapping]) -> Scores:
    """The measures of rows by entry and seed; what a training that diverged does not have is left out."""
    found: Scores = {}
    for row in rows:
        own = {measure: row[measure] for measure in MEASURES if row.get(measure) is not None}
        found.setdefault(row["entry"], {})[row["seed"]] = own
    return found


def by_measure(board: Scores) -> dict[str, dict[str, list[float]]]:
    """The scores as figures take them: of each entry, for each measure under its label, a number for each seed."""
    return {
        name: {
            label: [own[measure] for own in by_seed.values() if measure in own] for measure, label in MEASURES.items()
        }
        for name, by_seed in board.items()
    }


def recorded_scores() -> Scores:
    """The scores of the recorded methods and filters, three seeds each, under names as a figure writes them."""
    rows = (row for study in ("ssl-methods", "sigma") for row in recorded(study).table("end"))
    return scores({"entry": label(row["arm"]), **row} for row in rows)


def label(method: str) -> str:
    """A method's name as a figure writes it: SimSiam, online +1, target +1 (wrong sign)."""
    filter = filter_of(method)
    if filter is None:
        return NAMES.get(method, method)
    family = "BYOL, " if method.startswith("rdm_byol") else ""
    kind = "" if filter.kind == "power" else f"{filter.kind} "
    wrong = (filter.sigma > 0) != (filter.location == "online")
    sigma = f"{filter.sigma:+g}".replace("-", "−")
    return f"{family}{filter.location} {kind}{sigma}{' (wrong sign)' if wrong else ''}"


def filter_of(method: str) -> Filter | None:
    """The spectral filter of a method, None where it has none. Raises ValueError for an unknown method."""
    recipe, settings = SSLConfig(method=method).recipe()
    return {**getattr(recipe, "keywords", {}), **settings}.get("filter")


def paired(
    first: Mapping[int, Mapping], second: Mapping[int, Mapping], measure: str
) -> tuple[list[float], list[float]]:
    """One measure of two entries, for the seeds that both have, in their order."""
    seeds = [
        seed for seed in sorted(first.keys() & second.keys()) if measure in first[seed] and measure in second[seed]
    ]
    return [first[seed][measure] for seed in seeds], [second[seed][measure] for seed in seeds]
