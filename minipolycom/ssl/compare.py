"""Methods side by side: each trained with several seeds, measured the same way, one row per training.

Interrupted and called again, a comparison goes on where it stopped: finished trainings are read, not repeated.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from minipolycom.control import Control
from minipolycom.runs import commit, environment, write_json
from minipolycom.ssl.images import ViewData
from minipolycom.ssl.methods import METHODS
from minipolycom.ssl.runs import SSLRun
from minipolycom.ssl.train import SSLConfig, fit_ssl

FILTERED = (
    *(f"rdm_simsiam_online@{kind}:online:{sigma}" for kind, sigma in (("power", 0.5), ("power", 2.0))),
    *(f"rdm_simsiam_online@{kind}:online:1.0" for kind in ("log1p", "log1p_squared")),
    *(f"rdm_simsiam_target@power:target:{sigma}" for sigma in (-0.3, -0.7, -1.0, -2.0)),
    "wrong_filter_target@power:target:0.5",
)
"""Other filters than those of the recipes: kinds, strengths, and one more of the wrong sign."""

ALL = (*METHODS, *FILTERED)
"""Every recipe, control and filter: what a full comparison trains."""

MEASURES = (
    "erank_online", "erank_target", "rank_difference", "erank_projected", "feature_std",
    "knn_clean", "knn_augmented", "knn_backbone_augmented", "probe", "probe_augmented", "r2", "r2_nuisance", "seconds",
)  # fmt: skip
"""The columns of a comparison that are averaged over seeds."""


def compare(
    methods: Iterable[str] = ALL,
    source: str = "digits",
    seeds: Iterable[int] = (0, 1, 2),
    *,
    out: Path | str | None = None,
    batch_size: int = 256,
    control: Control | None = None,
    on_run: Callable[[SSLRun], None] | None = None,
    progress: bool = True,
    **settings,
) -> list[dict]:
    """Train each method with each seed and return a row of each run: see `SSLRun.summary`.

    A seed decides the initial weights, the order of the images and their views, the same for all methods. `out` is a
    folder of run folders; with the same one, a comparison goes on where it stopped, and may be given more methods and
    seeds. `settings` are fields of SSLConfig. After `control.stop()` the rows of finished runs are returned.

    Raises ValueError for settings that cannot work, before the first training.
    """
    control = control or Control()
    configs = [SSLConfig(method=method, seed=seed, **settings) for seed in seeds for method in methods]
    rows = []
    for config in configs:
        data = ViewData(source, batch_size=batch_size, seed=config.seed)
        run_out = Path(out) / run_folder(source, config) if out else None
        run = fit_ssl(data, config, out=run_out, control=control, progress=progress)
        if run.status == "stopped" and control.stopped:
            break
        rows.append(run.summary())
        if on_run is not None:
            on_run(run)
    return rows


def run_folder(source: str, config: SSLConfig) -> str:
    """The name of a training's folder, without characters that a file system may refuse."""
    return "-".join(re.sub(r"[^\w.-]+", "_", part) for part in (source, config.method, f"seed{config.seed}"))


def write_record(rows: list[dict], file: Path | str) -> None:
    """Keep a comparison in a file, with where, when and from which code it comes."""
    when = datetime.now(UTC).isoformat("T", "seconds")
    write_json(Path(file), {"recorded": when, "commit": commit(), "environment": environment(), "rows": rows})


def read_record(file: Path | str) -> list[dict]:
    """The rows of a comparison that `write_record` kept. Raises ValueError for a file that holds none."""
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{file} holds no comparison of methods ({type(error).__name__}: {error}); "
            "make one with minipolycom ssl compare --record FILE"
        ) from error


def over_seeds(rows: list[dict]) -> pd.DataFrame:
    """One line per source and method: mean, smallest and largest of each measure over the seeds, and their number."""
    frame = pd.DataFrame(rows)
    frame["collapsed"] = frame["collapse"] != ""
    groups = frame.groupby(["source", "method"], sort=False)
    measured = [name for name in MEASURES if frame[name].notna().any()]
    spread = groups[measured].agg(["mean", "min", "max"])
    spread.columns = [name if kind == "mean" else f"{name}_{kind}" for name, kind in spread.columns]
    return groups.agg(seeds=("seed", "nunique"), collapsed=("collapsed", "sum")).join(spread).reset_index()


def table(rows: list[dict]) -> str:
    """A comparison as lines of text: mean over seeds, and in brackets the smallest and the largest."""
    frame = over_seeds(rows)
    shown = [
        name for name in ("erank_online", "erank_target", "rank_difference", "knn_augmented", "probe", "r2", "seconds")
        if name in frame
    ]  # fmt: skip
    lines = [["source", "method", "seeds", "collapsed", *shown]]
    for line in frame.to_dict("records"):
        cells = [
            f"{line[name]:.{digits}f} ({line[f'{name}_min']:.{digits}f}-{line[f'{name}_max']:.{digits}f})"
            for name in shown
            for digits in [3 if name in ("knn_augmented", "probe", "r2") else 1]
        ]
        collapsed = f"{line['collapsed']} of {line['seeds']}" if line["collapsed"] else ""
        lines.append([line["source"], line["method"], str(line["seeds"]), collapsed, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
