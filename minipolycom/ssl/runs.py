"""A self-supervised run: what was trained, with which settings, and every number it wrote; in memory or in a folder.

The folder is that of every run (see `minipolycom.runs`). Its tables:

    losses    step, loss (mean since the row before), learning_rate, seconds (spent in training)
    ranks     step, and what `measures.rank_row` says of the batch of that step
    spectra   step, and what `measures.spectrum_row` says of it
    probes    step, and a row of `probes.probe_rows`
    factors   step, and a row of `probes.factor_rows`, for images made from known factors
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from minipolycom.runs import BaseRun, RunFolder, known_fields, reading, status_in
from minipolycom.ssl.encoders import NetworkConfig

TABLES = ("losses", "ranks", "spectra", "probes", "factors")
LAST_ROWS = 5
"""The ranks of a run are the means of this many last measurements: one batch is a noisy witness."""


@dataclass(kw_only=True)
class SSLRun(BaseRun):
    """One training without labels. `table(name)` gives its rows as plain dicts, in the order of their measurement."""

    TABLES: ClassVar[tuple[str, ...]] = TABLES

    network: NetworkConfig

    def method(self) -> nn.Module:
        """The method with the last weights that were saved, in evaluation mode.

        Raises ValueError where none were, and for weights that cannot be read or are those of another method.
        """
        method = self.train_config.make(self.network)
        method.load_state_dict(self.weights())
        return method.eval()

    def summary(self) -> dict:
        """The run in one row: its method, seed and images, ranks at the end, accuracies of the last probes, seconds.

        knn_* are on the projector's outputs, where collapse is worst, knn_backbone_* and probe on the backbone's;
        probe is the linear probe on images as they are; r2 the mean over factors that two views share, r2_nuisance
        over those that they do not. An accuracy or r2 is None where nothing is known to compare with.
        """
        ranks = self.table("ranks")[-LAST_ROWS:]
        mean = {
            key: sum(row[key] for row in ranks) / len(ranks) if ranks else None
            for key in (
                "erank_online",
                "erank_target",
                "erank_projected",
                "rank_difference",
                "feature_std",
                "alignment",
            )
        }
        seen = [row["collapse"] for row in ranks]
        losses = self.table("losses")
        return {
            "method": self.train_config.method,
            "seed": self.train_config.seed,
            "source": self.data["source"],
            "steps": self.step,
            "status": self.status,
            **mean,
            "collapse": max(set(seen), key=seen.count) if seen else "",
            "knn_clean": self._last("probes", "knn", space="projector", images="clean"),
            "knn_augmented": self._last("probes", "knn", space="projector", images="augmented"),
            "knn_backbone_clean": self._last("probes", "knn", space="backbone", images="clean"),
            "knn_backbone_augmented": self._last("probes", "knn", space="backbone", images="augmented"),
            "probe": self._last("probes", "linear", space="backbone", images="clean"),
            "probe_augmented": self._last("probes", "linear", space="backbone", images="augmented"),
            "r2": self._r2(nuisance=False),
            "r2_nuisance": self._r2(nuisance=True),
            "loss": losses[-1]["loss"] if losses else None,
            "seconds": losses[-1]["seconds"] if losses else None,
        }

    def _last(self, table: str, value: str, **where: str) -> float | None:
        """The value in the table's last row in which these columns have these values."""
        rows = [row for row in self.table(table) if all(row[key] == wanted for key, wanted in where.items())]
        return rows[-1][value] if rows else None

    def _r2(self, nuisance: bool) -> float | None:
        """Mean r2 of clean images' factors at the projector, at the last probe."""
        rows = self.table("factors")
        last = [
            row["r2"]
            for row in rows
            if row["step"] == rows[-1]["step"]
            and (row["space"], row["images"]) == ("projector", "clean")
            and (row["correlation"] == 0) == nuisance
        ]
        return sum(last) / len(last) if last else None

    # -- on disk ------------------------------------------------------------------------------------------------

    def config(self) -> dict:
        """Everything that decides what this run computes, as plain values."""
        return {
            "name": self.name,
            "network": asdict(self.network),
            "train": asdict(self.train_config),
            "data": self.data,
        }

    @classmethod
    def load(cls, path: Path | str) -> "SSLRun":
        """Read a run's folder, all that can be read.

        Raises ValueError for a folder that is missing or holds no such run, and for a config.json that is damaged.
        """
        from minipolycom.ssl.train import SSLConfig

        folder = RunFolder.load(path)
        if "network" not in folder.config:
            raise ValueError(f"{path} holds a run of another kind: give a folder that `minipolycom ssl train` wrote")
        with reading(folder.path / "config.json"):
            config = folder.config
            network = NetworkConfig(**known_fields(NetworkConfig, config["network"]))
            train = SSLConfig(**known_fields(SSLConfig, config["train"]))
            data = dict(config["data"])
        return cls(
            name=config["name"],
            network=network,
            train_config=train,
            data=data,
            path=folder.path,
            folder=folder,
            **status_in(folder),
        )
