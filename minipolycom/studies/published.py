"""Curves that papers have published, as files beside the records of our own runs; each says at its top where from."""

import csv
from pathlib import Path

from minipolycom.studies.records import HOMES


def published(name: str) -> dict[str, dict[float, float]]:
    """The curves of a published figure: of each activation, the loss in nats per token by billions of tokens.

    Raises ValueError for a figure that does not come with the course.
    """
    folders = [home.parent / "papers" for home in HOMES]
    file = next((folder / f"{name}.csv" for folder in folders if (folder / f"{name}.csv").is_file()), None)
    if file is None:
        raise ValueError(f"no curves {name}.csv in {' or '.join(map(str, folders))}")
    return read_curves(file)


def read_curves(file: Path) -> dict[str, dict[float, float]]:
    """As `published`, of a file with the columns activation, billions and loss; lines with a # in front are notes."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    curves: dict[str, dict[float, float]] = {}
    for row in csv.DictReader(lines):
        curves.setdefault(row["activation"], {})[float(row["billions"])] = float(row["loss"])
    return curves
