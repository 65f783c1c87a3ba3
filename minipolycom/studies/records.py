"""Records of studies: what was asked, computed and found, as two small files.

    NAME-TIER.json       question, settings, seeds, rates, pieces with their provenance, statements with their verdicts
    NAME-TIER.parquet    the rows of all pieces and what was derived from them

A record is all that figures, tables and pages read.
"""

import json
import sysconfig
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pyarrow.parquet as pq

from minipolycom.learn.tiers import TIERS
from minipolycom.runs import as_rows, as_table, replacing, write_json

HOMES = (
    Path(__file__).parents[2] / "course" / "reference" / "studies",
    Path(sysconfig.get_path("data")) / "share" / "minipolycom" / "studies",
)
"""Where records lie: in a checkout, and where a wheel installs them."""


@dataclass(kw_only=True)
class Record:
    """A study at a tier."""

    study: str
    question: str
    tier: str
    seeds: list[int]
    settings: dict
    baseline: str
    rates: dict
    """Of each group: the chosen learning rate, whether it lies at an edge of the grid, and the losses by rate."""
    statements: list[dict]
    """What `study.judge` made of the rows."""
    pieces: list[dict]
    """Each with its configuration, seconds, date, commit, load of the machine and environment; compared ones first."""
    recorded: str
    rows: list[dict] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.study}-{self.tier}"

    def table(self, name: str) -> list[dict]:
        """The rows of a table: end, curve, ranks or derived."""
        return [row for row in self.rows if row["table"] == name]

    @property
    def seconds(self) -> float:
        """Wall-clock time of all pieces together."""
        return sum(piece["seconds"] for piece in self.pieces)

    @property
    def commits(self) -> list[str]:
        """The commits whose code computed the pieces; more than one where it changed under way."""
        return list(dict.fromkeys(piece["commit"] for piece in self.pieces))

    def write(self, folder: Path | str) -> Path:
        """Write both files into a folder, each in one step, and return that of the rows' description."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{self.name}.parquet") as partial:
            pq.write_table(as_table(self.rows), partial, compression="zstd")
        about = asdict(self)
        del about["rows"]
        write_json(folder / f"{self.name}.json", about)
        return folder / f"{self.name}.json"

    @classmethod
    def read(cls, file: Path | str) -> "Record":
        """The record of which this is the .json file; the .parquet file lies beside it.

        Raises ValueError for files that are missing or hold something else.
        """
        file = Path(file)
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            rows = as_rows(pq.read_table(file.with_suffix(".parquet")))
            known = {f.name for f in fields(cls)} - {"rows"}
            if about.keys() != known:
                raise ValueError(f"its names are not {', '.join(sorted(known))}")
        except Exception as error:  # each library that reads has its own
            raise ValueError(f"{file} is no record of a study ({type(error).__name__}: {error})") from error
        return cls(**about, rows=rows)


def recorded(study: str, tier: str = "cpu") -> Record:
    """The record of a study that comes with the course. Raises ValueError where there is none."""
    for home in HOMES:
        if (home / f"{study}-{tier}.json").exists():
            return Record.read(home / f"{study}-{tier}.json")
    raise ValueError(f"no record {study}-{tier}.json in {' or '.join(map(str, HOMES))}")


def read_records(folder: Path | str) -> list[Record]:
    """All records of a folder, by study and tier; none where there is no such folder."""
    records = [Record.read(file) for file in sorted(Path(folder).glob("*.json"))]
    return sorted(records, key=lambda record: (record.study, list(TIERS).index(record.tier)))


def largest(records: Iterable[Record]) -> list[Record]:
    """Of each study the record of its largest tier, those of the smoke tier left out: their numbers mean nothing."""
    best = {record.study: record for record in records if record.tier != "smoke"}
    return list(best.values())
