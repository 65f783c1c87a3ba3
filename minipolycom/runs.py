"""A run: what was trained, with which settings, and every number it wrote; in memory or as a folder on disk.

    config.json         the model, the training, the data, as plain values
    rows.jsonl          one measurement per line, appended as training goes
    status.json         running, stopped, diverged or finished; the last step; a sentence where there is one to say
    environment.json    versions and machine
    tokenizer.json      so that text can be sampled without the data
    model.safetensors   the weights
    checkpoint.ckpt     weights, optimizer and loop state, from which training goes on

Each file is replaced in one step or only appended to, so a run that is killed is whole up to its last row, and can be
read while it is being written.
"""

import json
import os
import platform
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from minipolycom.model import GPT, GPTConfig
from minipolycom.text import load_tokenizer

STATUSES = ("running", "stopped", "diverged", "finished")


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
    """Step of the last checkpoint; 0 before the first."""
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
        """The network with the last weights that were saved. Raises ValueError where none were."""
        weights = self.weights or (load_weights(self.path) if self.path else {})
        if not weights:
            raise ValueError(f"run {self.name!r} has no weights yet: it saves them at its first checkpoint")
        model = GPT(self.model_config)
        model.load_state_dict(weights)
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
            with (self.path / "rows.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def write_status(self) -> None:
        if self.path:
            names = ("status", "step", "saved_step", "message")
            write_json(self.path / "status.json", {name: getattr(self, name) for name in names})

    @classmethod
    def load(cls, path: Path | str) -> "Run":
        """Read a run's folder; a half-written last row is left out.

        Raises ValueError for a folder that is missing or holds no run, naming what is not there or cannot be read.
        """
        from minipolycom.train import TrainConfig

        path = Path(path)
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no run (no config.json): give a folder that `minipolycom train` wrote")
        try:
            config = json.loads((path / "config.json").read_text())
            status = json.loads((path / "status.json").read_text())
            tokenizer = load_tokenizer((path / "tokenizer.json").read_text())
            name, model, train, data = (config[key] for key in ("name", "model", "train", "data"))
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"the run in {path} is damaged: {type(error).__name__}: {error}") from None
        return cls(
            name=name,
            model_config=GPTConfig(**known_fields(GPTConfig, model)),
            train_config=TrainConfig(**known_fields(TrainConfig, train)),
            data=data,
            tokenizer=tokenizer,
            rows=read_rows(path),
            path=path,
            **known_fields(cls, status),
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


def load_weights(path: Path) -> dict[str, Tensor]:
    """The saved weights of a run's folder, on the CPU; empty where none were saved yet."""
    file = path / "model.safetensors"
    return load_file(file) if file.is_file() else {}


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    # safetensors refuses shared memory, which a tied head is: each tensor gets its own copy.
    write_atomically(path / "model.safetensors", save({k: v.detach().cpu().clone() for k, v in weights.items()}))


def read_rows(path: Path) -> list[dict]:
    """The rows of a run's folder, without a last line that was cut off while it was written."""
    rows = []
    file = path / "rows.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    write_atomically(path / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def write_json(path: Path, value: dict) -> None:
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


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
