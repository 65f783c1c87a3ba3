"""A run: what was trained, with which settings, and every number it wrote; in memory or as a folder on disk.

    config.json         the model, the training, the data, as plain values
    rows/NAME.parquet   the tables: every measurement up to the last checkpoint
    journal.jsonl       the measurements since, one per line, appended as training goes
    status.json         running, stopped, diverged or finished; the last step; a sentence where there is one to say
    environment.json    versions and machine
    tokenizer.json      so that text can be sampled without the data
    model.safetensors   the weights
    checkpoints/        step-00000050.ckpt and so on: weights, optimizer and loop state, from which training goes on
    .lock               held by the process that trains into the folder

Each file is replaced in one step or only appended to, so a run that is killed is whole up to its last row, and can be
read while it is being written.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import reprlib
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from minipolycom.checking import check_kind, check_known
from minipolycom.checkpoints import checkpoints
from minipolycom.model import GPT, GPTConfig
from minipolycom.text import load_tokenizer

if TYPE_CHECKING:
    import pandas as pd

STATUSES = ("running", "stopped", "diverged", "finished")
STATUS_FIELDS = {"status": str, "step": int, "saved_step": int, "message": str}
LOSSES = "losses"
"""The table of the losses, which every run of a language model has."""
TABLES = (LOSSES, "spectra", "coefficients", "norms", "routers", "similarity", "speed")
"""The tables of a language model's run; what is in those beside the losses stands in `minipolycom.record`."""
MOST_OPENINGS = 1000
"""How often the files of a run are opened at most until none is replaced meanwhile."""
END = b"minipolycom.end"
"""Under this key a table's file has the number of the first row that may not be in it."""


class Rows:
    """Tables of plain rows, in memory or in a folder; a row is a dict with a whole "step".

    On disk a row is a line of `journal.jsonl` as soon as it is appended; `compact` moves what the journal holds into
    one `rows/NAME.parquet` per table. Rows are numbered and a table's file says up to which number it goes: killed
    between the two files, or in the middle of a line, a process loses no row that `append` had returned from and
    doubles none. One process writes; any number may read meanwhile.
    """

    def __init__(self, path: Path | str | None = None):
        self.path = Path(path) if path is not None else None
        self._lost: list[str] = []
        self._rows: dict[str, list[dict]] = {}
        self._filed: dict[str, pa.Table] = {}  # what the table's file holds: the first of its rows
        self._next_index = 0
        self._loaded = self._writing = False

    @property
    def tables(self) -> list[str]:
        """The names of the tables that have rows."""
        return [name for name, rows in list(self._rows.items()) if rows]

    @property
    def lost(self) -> str:
        """One line that says what could not be read; empty where all could."""
        return "; ".join(self._lost)

    def table(self, name: str) -> list[dict]:
        """The rows of a table, first to last; none where nothing was written."""
        return list(self._rows.get(name, ()))

    def append(self, table: str, row: dict) -> None:
        """Add a row. Raises ValueError for one that could not be read back as it is: see `row_as_text`."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", table):
            raise ValueError(f"a table's name is of small letters, digits and _; got {table!r}")
        text = row_as_text(row, table)
        if self.path:
            self._begin_to_write()
            try:
                with self._journal.open("ab") as file:  # closed, it is with the system: a kill cannot take it back
                    file.write(f'{{"index": {self._next_index}, "table": "{table}", "row": {text}}}\n'.encode())
            except OSError:
                self._writing = False  # a part of the line may stand there
                raise
        self._next_index += 1
        self._rows.setdefault(table, []).append(json.loads(text))

    def compact(self) -> None:
        """Move the rows of the journal into the files of the tables; they are safely on the disk when it returns."""
        if self.path is None:
            return
        self._begin_to_write()
        for name, rows in self._rows.items():
            filed = self._filed.get(name)
            fresh = rows[filed.num_rows if filed else 0 :]
            if fresh:
                self._write_table(name, joined(filed, as_table(fresh)) or as_table(rows))
        self._empty_the_journal()

    def cut(self, step: int) -> None:
        """Leave out every row after `step`."""
        self._rows = {name: [row for row in rows if row["step"] <= step] for name, rows in self._rows.items()}
        if self.path:
            self._begin_to_write()
            for name, rows in self._rows.items():  # every one: only then are the rows cut that the journal still holds
                self._write_table(name, as_table(rows))
            self._empty_the_journal()

    def clear(self) -> None:
        """Begin anew, without the rows that the folder holds."""
        self._rows, self._filed, self._lost, self._next_index = {}, {}, [], 0
        if self.path:
            self.path.mkdir(parents=True, exist_ok=True)
            self._empty_the_journal()
            for file in self._folder.glob("*.parquet"):
                file.unlink()
            self._loaded = self._writing = True

    @classmethod
    def load(cls, path: Path | str) -> "Rows":
        """The rows of a folder, all that can be read; `lost` says what cannot."""
        loaded = cls(path)
        with contextlib.ExitStack() as opened:
            files = loaded._open(opened)
            lines = loaded._read_journal(files.pop(loaded._journal, None))
            ends = {}
            for file, content in files.items():
                try:
                    with pq.ParquetFile(content) as parquet:
                        table = parquet.read()
                    end, rows = int(table.schema.metadata[END]), as_rows(table)
                except Exception as error:  # a damaged file fails in many ways
                    loaded._lost.append(f"rows/{file.name} cannot be read ({in_one_line(error)})")
                else:
                    loaded._filed[file.stem], loaded._rows[file.stem], ends[file.stem] = table, rows, end
        for line in lines:
            if line["index"] >= ends.get(line["table"], 0):
                loaded._rows.setdefault(line["table"], []).append(line["row"])
        loaded._next_index = max([0, *ends.values(), *(line["index"] + 1 for line in lines)])
        loaded._loaded = True
        return loaded

    # -- the files ----------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def _folder(self) -> Path:
        return self.path / "rows"

    def _begin_to_write(self) -> None:
        """Before the first write: end the journal with a whole line.

        Raises ValueError where that would mix these rows with others.
        """
        if self._writing:
            return
        held = self._journal.read_bytes() if self._journal.is_file() else b""
        if not self._loaded and (held or any(self._folder.glob("*.parquet"))):
            raise ValueError(f"{self.path} holds rows already: go on with Rows.load, or clear() them first")
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self._journal, held[: held.rfind(b"\n") + 1])
        self._loaded = self._writing = True

    def _open(self, opened: contextlib.ExitStack) -> dict[Path, BinaryIO]:
        """The journal and the files of the tables, all as they stood at one moment.

        A file that is replaced stays as it was for whoever has opened it. So what was opened is of one moment if
        afterwards the folder still holds these very files, however long the reading takes and whoever writes meanwhile.
        """
        for _ in range(MOST_OPENINGS):
            opened.close()
            files = {}
            for path in self._files():
                with contextlib.suppress(FileNotFoundError):
                    files[path] = opened.enter_context(path.open("rb"))
            if list(files) == self._files() and all(_leads_to(path, file) for path, file in files.items()):
                break
        return files

    def _files(self) -> list[Path]:
        return [*self.path.glob(self._journal.name), *sorted(self._folder.glob("*.parquet"))]

    def _read_journal(self, journal: BinaryIO | None) -> list[dict]:
        if journal is None:
            return []
        *lines, rest = journal.read().split(b"\n")
        read, damaged = [], []
        for number, line in enumerate(lines, start=1):
            try:
                read.append(journal_line(line))
            except (ValueError, TypeError, KeyError, AttributeError):  # no JSON, or other JSON
                damaged.append(number)
        if damaged:
            self._lost.append(f"journal.jsonl: {len(damaged)} of {len(lines)} lines, the first is line {damaged[0]}")
        if rest:
            self._lost.append("journal.jsonl: its last row, which is unfinished")
        return read

    def _write_table(self, name: str, table: pa.Table) -> None:
        self._folder.mkdir(exist_ok=True)
        file = self._folder / f"{name}.parquet"
        if name not in self._filed and file.is_file():  # it could not be read: perhaps somebody else can
            file.replace(file.with_suffix(".parquet.damaged"))
        with replacing(file) as partial:
            pq.write_table(table.replace_schema_metadata({END: str(self._next_index)}), partial)
            safely_on_disk(partial)
        safely_on_disk(self._folder)
        self._filed[name] = table

    def _empty_the_journal(self) -> None:
        write_atomically(self._journal, b"")


def row_as_text(row: dict, table: str) -> str:
    """A row as JSON, from which it will be read back as it is.

    Raises ValueError for a step that is not a whole number, and for a value other than a finite number, a text, True,
    False, None or a list of these.
    """
    check_kind(f"the step of a row in the table {table}", row.get("step"), int)
    if (text := exact_json(row)) is None:
        name, value = next((name, value) for name, value in row.items() if exact_json({name: value}) is None)
        raise ValueError(
            f"a row holds finite numbers, texts, True, False, None and lists of these under their names; "
            f"got {name!r}: {reprlib.repr(value)} in the table {table}"
        )
    return text


def exact_json(value: dict) -> str | None:
    """A value as JSON; None where another one would be read back."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        text = json.dumps(value, allow_nan=False)
        if json.loads(text) == value:
            return text
    return None


def journal_line(line: bytes) -> dict:
    """A line of the journal. Raises ValueError, TypeError, KeyError or AttributeError for one that is damaged."""
    entry = json.loads(line)
    check_kind("index", entry["index"], int)
    check_kind("table", entry["table"], str)
    row_as_text(entry["row"], entry["table"])
    return entry


def as_table(rows: list[dict]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: as_column(rows, name) for name in names})


def as_column(rows: list[dict], name: str) -> pa.Array:
    """One value of each row as a column, null where a row has none.

    Where the values have no type in common that keeps each as it is (1 and 1.5; 2 and "two"; None), they are kept as
    JSON, in bytes.
    """
    values = [row.get(name) for row in rows]
    if all(row.get(name, ...) is not None for row in rows):
        with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeError):
            column = pa.array(values)
            if json.dumps(column.to_pylist()) == json.dumps(values):
                return column
    return pa.array([json.dumps(row[name]).encode() if name in row else None for row in rows], type=pa.binary())


def as_rows(table: pa.Table) -> list[dict]:
    """The rows that `as_table` made a table of."""
    in_json = {column.name for column in table.schema if pa.types.is_binary(column.type)}
    return [
        {name: json.loads(value) if name in in_json else value for name, value in row.items() if value is not None}
        for row in table.to_pylist()
    ]


def joined(first: pa.Table | None, then: pa.Table) -> pa.Table | None:
    """Two tables one after the other, a column that one lacks filled with nulls; None where their types differ."""
    if first is None:
        return then
    try:
        return pa.concat_tables([first, then], promote_options="default")
    except pa.ArrowException:
        return None


def _leads_to(path: Path, file: BinaryIO) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


class RunFolder:
    """The files that every run has, whatever it trains: configuration, status, rows, weights; without a path in memory.

    `config` and `status` are plain dicts that JSON can hold.
    """

    def __init__(self, path: Path | str | None = None):
        self.path = Path(path) if path is not None else None
        self.config: dict = {}
        self.status: dict = {}
        self.rows = Rows(self.path)
        self._weights: dict[str, Tensor] = {}
        self._lost: list[str] = []

    def create(self, config: dict) -> None:
        """Make the folder and write what is known before the first step; the rows of an earlier run are gone."""
        self.config = config
        if self.path:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "config.json", config)
            write_json(self.path / "environment.json", environment())
        self.rows.clear()

    def write_status(self, status: dict) -> None:
        self.status = status
        if self.path:
            write_json(self.path / "status.json", status)

    def keep(self, weights: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
        """Copy these weights, into memory and onto disk, there together with what is said `about` them."""
        # safetensors refuses shared memory, which a tied head is: each tensor gets its own.
        self._weights = {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
        if self.path:
            write_atomically(self.path / "model.safetensors", save(self._weights, about))

    def about_weights(self) -> dict[str, str]:
        """What was said about the weights on disk; nothing where there are none."""
        file = self.path / "model.safetensors" if self.path else None
        if not file or not file.is_file():
            return {}
        with reading(file), safe_open(file, "pt") as opened:
            return opened.metadata() or {}

    def weights(self) -> dict[str, Tensor]:
        """The last weights that were kept; none before the first. Raises ValueError for a file that is damaged."""
        file = self.path / "model.safetensors" if self.path else None
        if not self._weights and file and file.is_file():
            with reading(file):
                return load_file(file)
        return self._weights

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints in the folder by their steps, first to last; none in memory."""
        return checkpoints(self.path) if self.path else {}

    @property
    def lost(self) -> str:
        """One line that says what could not be read; empty where all could."""
        return "; ".join(filter(None, [self.rows.lost, *self._lost]))

    def lose(self, what: str) -> None:
        """Add a phrase to what is lost."""
        self._lost.append(what)

    @contextlib.contextmanager
    def unless_damaged(self, name: str) -> Iterator[None]:
        """Go on without this file where something is wrong with it, and say so in `lost`."""
        try:
            yield
        except Exception as error:  # each library that reads has its own
            self.lose(f"{name} cannot be read ({in_one_line(error)})")

    @classmethod
    def load(cls, path: Path | str) -> "RunFolder":
        """Read a run's folder, all that can be read.

        Raises ValueError for a folder that holds no run, and for a config.json that cannot be read: without it nothing
        can be made of the rest.
        """
        loaded = cls(path)
        if not (loaded.path / "config.json").is_file():
            raise ValueError(f"{path} holds no run (no config.json): give a folder that a run was written to")
        with reading(loaded.path / "config.json") as file:
            loaded.config = read_json(file)
        with loaded.unless_damaged("status.json"):  # before the rows: these may grow meanwhile, and never fall short
            loaded.status = read_json(loaded.path / "status.json")
        loaded.rows = Rows.load(loaded.path)
        return loaded


class Unreadable:
    """Stands for a part of a run that is damaged: whoever uses it is told so."""

    def __init__(self, message: str):
        self._message = message

    def __getattr__(self, name: str):
        raise ValueError(self._message)


@dataclass(kw_only=True)
class BaseRun:
    """What every run has, whatever it trains: a name, how far it has come, its tables, and a folder.

    A kind of run adds what it trains, `config` and `load`. Its `train_config` has `steps`, `log_every`,
    `checkpoint_every` and `keep_checkpoints`, and names in HOW the settings with other values of which a run may go on.
    """

    TABLES: ClassVar[tuple[str, ...]] = (LOSSES,)

    name: str
    train_config: object
    data: dict
    """The settings of the data, and a key of their content: a run does not go on with changed ones."""
    status: str = "running"
    step: int = 0
    saved_step: int = 0
    """Step of the last checkpoint, or in memory of the last weights kept; 0 before the first."""
    message: str = ""
    path: Path | None = None
    folder: RunFolder = field(default=None, repr=False)

    def __post_init__(self):
        self.folder = self.folder or RunFolder(self.path)

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    def table(self, name: str) -> list[dict]:
        """The rows of a table, first to last; none where the run wrote none. Raises ValueError for an unknown name."""
        check_known("table", name, self.TABLES)
        return self.folder.rows.table(name)

    @property
    def tables(self) -> list[str]:
        """The names of the tables that have rows."""
        return self.folder.rows.tables

    @property
    def lost(self) -> str:
        """Of a run that was loaded: one line that says what its folder no longer gives; empty where all is there."""
        return self.folder.lost

    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints in the folder by their steps, first to last; none of a run in memory."""
        return self.folder.checkpoints()

    def weights(self) -> dict[str, Tensor]:
        """The last weights that were saved. Raises ValueError where none were, and for a file that is damaged."""
        weights = self.folder.weights()
        if not weights:
            raise ValueError(f"run {self.name!r} has no weights yet: it saves them at its first checkpoint")
        return weights

    # -- while it is trained ------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the folder and write what is known before the first step."""
        self.folder.create(self.config())
        self.write_status()

    def append(self, row: dict, table: str = LOSSES) -> None:
        self.folder.rows.append(table, row)

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Copy these weights, into memory and onto disk."""
        self.folder.keep(weights)

    def write_status(self) -> None:
        self.folder.write_status({name: getattr(self, name) for name in STATUS_FIELDS})


def status_in(folder: RunFolder) -> dict:
    """How far the run in a folder has come; where its status.json is damaged, as far as rows and checkpoints say."""
    status = {
        "status": "stopped",
        "step": max((row["step"] for row in folder.rows.table(LOSSES)), default=0),
        "saved_step": max(folder.checkpoints(), default=0),
        "message": "",
    }
    if folder.status:
        with folder.unless_damaged("status.json"):
            read = {name: folder.status[name] for name in STATUS_FIELDS}
            check_fields(read, STATUS_FIELDS)
            check_known("status", read["status"], STATUSES)
            return read
    return status


@dataclass(kw_only=True)
class Run(BaseRun):
    """One training of a language model. `rows` are the losses as plain dicts, in the order of their measurement:

    run, activation, step, tokens (seen so far), seconds (spent in training steps), split ("train" or "val"),
    loss (nats per token; of a train row, the mean since the one before), learning_rate; of a train row also
    gradient_norm (before clipping).

    `table(name)` gives the rows of the other tables, where a training recorded more.
    """

    TABLES: ClassVar[tuple[str, ...]] = TABLES

    model_config: GPTConfig
    tokenizer: object
    parent: dict | None = None
    """Of a branch: the name of the run it leaves, the step, and what was changed."""

    @property
    def rows(self) -> list[dict]:
        return self.table(LOSSES)

    def losses(self, split: str = "val") -> list[float]:
        """The losses of one split ("train" or "val"), first to last, in nats per token."""
        return [row["loss"] for row in self.rows if row["split"] == split]

    def model(self) -> GPT:
        """The network with the last weights that were saved.

        Raises ValueError where none were, for weights that cannot be read or are those of another model, and for those
        that were trained with another tokenizer than the folder has.
        """
        model, weights = GPT(self.model_config), self.weights()
        trained_with = self.folder.about_weights().get("tokenizer")
        if not isinstance(self.tokenizer, Unreadable) and trained_with not in (None, digest(self.tokenizer)):
            raise ValueError(
                f"{self.path / 'tokenizer.json'} is not the tokenizer that the weights beside it were trained with: "
                "what they predict would be read as other text; restore that file, or delete the folder"
            )
        with reading(self.path / "model.safetensors") if self.path else contextlib.nullcontext():
            model.load_state_dict(weights)
        return model.eval()

    # -- while it is trained ------------------------------------------------------------------------------------

    def config(self) -> dict:
        """Everything that decides what this run computes, as plain values."""
        config = {
            "name": self.name,
            "model": asdict(self.model_config),
            "train": asdict(self.train_config),
            "data": self.data,
        }
        return config | ({"parent": self.parent} if self.parent else {})

    def create(self) -> None:
        """Make the folder and write what is known before the first step."""
        self.folder.create(self.config())
        if self.path:
            write_atomically(self.path / "tokenizer.json", self.tokenizer.to_json().encode())
        self.write_status()

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Copy these weights, into memory and onto disk."""
        self.folder.keep(weights, {"tokenizer": digest(self.tokenizer)})

    @classmethod
    def load(cls, path: Path | str) -> "Run":
        """Read a run's folder, all that can be read; `lost` says what cannot.

        Raises ValueError for a folder that is missing or holds no run, and for a config.json that cannot be read.
        """
        from minipolycom.train import TrainConfig

        folder = RunFolder.load(path)
        with reading(folder.path / "config.json"):
            config = folder.config
            check_kind("name", config["name"], str)
            model = GPTConfig(**known_fields(GPTConfig, config["model"]))
            train = TrainConfig(**known_fields(TrainConfig, config["train"]))
            data, parent = dict(config["data"]), config.get("parent")
        status = status_in(folder)
        tokenizer = Unreadable(
            f"the tokenizer.json in {folder.path} is damaged: restore that file to read or make text"
        )
        with folder.unless_damaged("tokenizer.json"):
            tokenizer = load_tokenizer((folder.path / "tokenizer.json").read_text(encoding="utf-8"))
        measured = max((row["step"] for row in folder.rows.table(LOSSES) if row["split"] == "val"), default=-1)
        due = status["saved_step"] - status["saved_step"] % train.eval_every
        if status["saved_step"] and measured < due:
            folder.lose(f"the validation losses up to step {due} are missing")
        return cls(
            name=config["name"], model_config=model, train_config=train, data=data, tokenizer=tokenizer, parent=parent,
            path=folder.path, folder=folder, **status,
        )  # fmt: skip


def compare(runs: Iterable[Run], target: float | None = None) -> "pd.DataFrame":
    """One line per run: the settings in which they differ, how each ended, and how soon each was good.

    "steps to target" and "seconds to target" are those of the first validation loss at or under `target`, in nats per
    token; without one it is the worst of the runs' best losses, which all have reached. They are missing where a run
    has never reached it. The target is in the table's `attrs`. A setting goes by its own name, or with its section
    (train.seed, data.seed) where two of the name differ.

    Raises ValueError where there is no run.
    """
    import pandas as pd  # takes half a second, which training has no use for

    runs = list(runs)
    if not runs:
        raise ValueError("there is no run to compare: give at least one")
    settings = [flat({key: value for key, value in run.config().items() if key != "name"}) for run in runs]
    differing = [
        key for key in dict.fromkeys(chain(*settings)) if any(own.get(key) != settings[0].get(key) for own in settings)
    ]
    own_names = [key.rpartition(".")[2] for key in differing]
    titles = [own if own_names.count(own) == 1 else key for key, own in zip(differing, own_names, strict=True)]
    best = [min(run.losses(), default=math.nan) for run in runs]
    if target is None:
        target = max((loss for loss in best if not math.isnan(loss)), default=math.nan)
    lines = []
    for run, own, lowest in zip(runs, settings, best, strict=True):
        measured = [row for row in run.rows if row["split"] == "val"]
        reached = next((row for row in measured if row["loss"] <= target), {})
        last = run.rows[-1] if run.rows else {}
        lines.append(
            {title: own.get(key) for title, key in zip(titles, differing, strict=True)}
            | {
                "status": run.status,
                "steps": run.step,
                "validation loss": measured[-1]["loss"] if measured else math.nan,
                "best validation loss": lowest,
                "seconds": last.get("seconds", math.nan),
                "tokens per second": last["tokens"] / last["seconds"] if last.get("seconds") else math.nan,
                "steps to target": reached.get("step"),
                "seconds to target": reached.get("seconds", math.nan),
            }
        )
    table = pd.DataFrame(lines, index=pd.Index([run.name for run in runs], name="run"))
    table["steps to target"] = table["steps to target"].astype("Int64")  # whole numbers, some of which may be missing
    table.attrs["target"] = target
    return table


def flat(config: dict, prefix: str = "") -> dict:
    """Nested settings as one dict: {"train": {"seed": 0}} is {"train.seed": 0}."""
    found = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def digest(tokenizer) -> str:
    """A name for a tokenizer that changes with what it does."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def differing_fields(ours: dict, theirs: dict, prefix: str = "") -> list[str]:
    """The names and both values of the settings in which two nested configurations differ."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differing_fields(mine, other, f"{prefix}{key}.")
        elif mine != other:
            found.append(f"{prefix}{key}: {other!r} there, {mine!r} here")
    return found


def known_fields(kind: type, values: dict) -> dict:
    """`values`, checked against a dataclass. Raises ValueError that names the entries it does not have."""
    unknown = sorted(values.keys() - {f.name for f in fields(kind)})
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no {', '.join(unknown)}: the run was written by another version of minipolycom"
        )
    return values


def check_fields(values: dict, kinds: dict[str, type]) -> None:
    for name, kind in kinds.items():
        check_kind(name, values[name], kind)


@contextlib.contextmanager
def reading(file: Path) -> Iterator[Path]:
    """Turn whatever goes wrong with a file of a run into a ValueError that names it and the way out."""
    try:
        yield file
    except Exception as error:  # each library that reads has its own
        raise ValueError(
            f"the run in {file.parent} is damaged: {file.name} ({in_one_line(error)}); "
            "restore that file, or delete the folder"
        ) from error


def in_one_line(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)


@contextlib.contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Make a run's folder and hold it for one training. The system lets go of it with the process, even a killed one.

    Raises ValueError for a folder that is held already, and for a file in its place.
    """
    if folder is None:
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder to write the run to")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is training into {folder}; wait for it, or choose another folder") from None
    try:
        yield
    finally:
        lock.release()


def read_json(file: Path) -> dict:
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"names and values are expected in braces; got {reprlib.repr(value)}")
    return value


def write_json(path: Path, value: dict) -> None:
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A place to write to, which takes that of `file` once all is written: a reader sees the old content or the new,
    never a part, and where writing fails no part is left."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)


def safely_on_disk(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, would survive a power cut."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders, and keeps their lists by itself
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def environment() -> dict:
    """Versions and machine, for the record."""
    versions = {}
    for package in ("minipolycom", "torch", "lightning", "datasets", "tokenizers", "numpy", "pyarrow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """The commit of this package's code, with + where it has been changed since; unknown without git."""
    here = Path(__file__).parent
    if shutil.which("git") is None:
        return "unknown"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else ""
    return (git("rev-parse", "HEAD") or "unknown") + changed
