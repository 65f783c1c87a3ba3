"""A run: what was trained, with which settings, and every number it wrote; in memory or as a folder on disk.

    config.json         the model, the training, the data, as plain values
    rows.jsonl          one measurement per line, appended as training goes
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
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from minipolycom.checking import check_kind, check_known
from minipolycom.model import GPT, GPTConfig
from minipolycom.text import load_tokenizer

STATUSES = ("running", "stopped", "diverged", "finished")
STATUS_FIELDS = {"status": str, "step": int, "saved_step": int, "message": str}
ROW_FIELDS = {"step": int, "split": str, "loss": float}
"""What every row has; most have more."""


@dataclass(kw_only=True)
class Run:
    """One training run. `rows` are plain dicts, in the order in which they were measured:

    run, activation, step, tokens (seen so far), seconds (spent in training steps), split ("train" or "val"),
    loss (nats per token; of a train row, the mean since the one before), learning_rate; of a train row also
    gradient_norm (before clipping).
    """

    name: str
    model_config: GPTConfig
    train_config: object
    data: dict
    """The settings of the tokens, and a key of the text itself: a run does not go on with a changed text."""
    tokenizer: object
    rows: list[dict] = field(default_factory=list)
    status: str = "running"
    step: int = 0
    saved_step: int = 0
    """Step of the last checkpoint, or in memory of the last weights kept; 0 before the first."""
    message: str = ""
    path: Path | None = None
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    def losses(self, split: str = "val") -> list[float]:
        """The losses of one split ("train" or "val"), first to last, in nats per token."""
        return [row["loss"] for row in self.rows if row["split"] == split]

    def model(self) -> GPT:
        """The network with the last weights that were saved.

        Raises ValueError where none were, and for weights that cannot be read or are those of another model.
        """
        file = self.path / "model.safetensors" if self.path else None
        model = GPT(self.model_config)
        if self.weights:
            model.load_state_dict(self.weights)
        elif file and file.is_file():
            with reading(file):
                model.load_state_dict(load_file(file))
        else:
            raise ValueError(f"run {self.name!r} has no weights yet: it saves them at its first checkpoint")
        return model.eval()

    # -- on disk ------------------------------------------------------------------------------------------------

    def config(self) -> dict:
        """Everything that decides what this run computes, as plain values."""
        return {
            "name": self.name,
            "model": asdict(self.model_config),
            "train": asdict(self.train_config),
            "data": self.data,
        }

    def create(self) -> None:
        """Make the folder and write what is known before the first step."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", self.config())
        write_json(self.path / "environment.json", environment())
        write_atomically(self.path / "tokenizer.json", self.tokenizer.to_json().encode())
        write_rows(self.path, self.rows)
        self.write_status()

    def append(self, row: dict) -> None:
        self.rows.append(row)
        if self.path:
            with (self.path / "rows.jsonl").open("a", encoding="utf-8") as file:
                file.write(row_line(row))

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Copy these weights, into memory and onto disk."""
        # safetensors refuses shared memory, which a tied head is: each tensor gets its own.
        self.weights = {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
        if self.path:
            write_atomically(self.path / "model.safetensors", save(self.weights))

    def write_status(self) -> None:
        if self.path:
            write_json(self.path / "status.json", {name: getattr(self, name) for name in STATUS_FIELDS})

    @classmethod
    def load(cls, path: Path | str) -> "Run":
        """Read a run's folder; a half-written last row is left out.

        Raises ValueError for a folder that is missing or holds no run, and for a damaged file, which is named.
        """
        from minipolycom.train import TrainConfig

        path = Path(path)
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no run (no config.json): give a folder that `minipolycom train` wrote")
        with reading(path / "config.json") as file:
            config = json.loads(file.read_text(encoding="utf-8"))
            check_kind("name", config["name"], str)
            model = GPTConfig(**known_fields(GPTConfig, config["model"]))
            train = TrainConfig(**known_fields(TrainConfig, config["train"]))
            data = dict(config["data"])
        with reading(path / "status.json") as file:
            read = json.loads(file.read_text(encoding="utf-8"))
            status = {name: read[name] for name in STATUS_FIELDS}
            check_fields(status, STATUS_FIELDS)
            check_known("status", status["status"], STATUSES)
        with reading(path / "tokenizer.json") as file:
            tokenizer = load_tokenizer(file.read_text(encoding="utf-8"))
        with reading(path / "rows.jsonl") as file:
            rows = read_rows(file)
            measured = max((row["step"] for row in rows if row["split"] == "val"), default=0)
            due = status["saved_step"] - status["saved_step"] % train.eval_every
            if measured < due or (status["saved_step"] and not rows):
                raise ValueError(f"the validation loss of step {due} is missing")
        return cls(
            name=config["name"],
            model_config=model,
            train_config=train,
            data=data,
            tokenizer=tokenizer,
            rows=rows,
            path=path,
            **status,
        )


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
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"the run in {file.parent} is damaged: {file.name} ({reason}); restore that file, or delete the folder"
        ) from error


def read_rows(file: Path) -> list[dict]:
    """The rows of a run, without a last line that was cut off while it was written."""
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines]
    for row in rows:
        check_fields(row, ROW_FIELDS)
    return rows


def row_line(row: dict) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def write_rows(path: Path, rows: list[dict]) -> None:
    write_atomically(path / "rows.jsonl", "".join(map(row_line, rows)).encode())


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


def environment() -> dict:
    """Versions and machine, for the record."""
    versions = {}
    for package in ("minipolycom", "torch", "lightning", "datasets", "tokenizers", "numpy"):
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
