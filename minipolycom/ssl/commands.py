"""`minipolycom ssl`: the same functions as in a notebook, from the command line. Heavy packages wait for a command."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path


def train(
    *,
    source: str = "digits",
    out: Path | None = None,
    batch_size: int = 256,
    size: int = 32,
    local_views: int = 0,
    encoder: str = "conv",
    width: int = 16,
    projection: int = 64,
    **settings,
) -> None:
    """Train a method without labels and write the run to a folder; the same command again goes on where it stopped.

    Args:
        source: Where the images come from: digits; latents or shapes, made from known factors, also as
            latents:0.9,0.5,0 with the correlations of the factors between two views; hub:NAME, a data set of the Hub;
            or files:FOLDER, your own pictures.
        out: Folder of the run; without one, runs/ssl-SOURCE-METHOD-seedSEED.
        batch_size: Samples per optimizer step.
        size: Side, in pixels, to which pictures of hub: and files: are brought.
        local_views: Small views of small parts beside the two of the whole, for swav and dino.
        encoder: conv or mlp.
        width: Channels after the encoder's first convolution; it has 16 times as many features.
        projection: Width of what the loss compares.
    """
    from minipolycom.cli import INTERRUPTED
    from minipolycom.distributed import is_first
    from minipolycom.ssl.compare import run_folder
    from minipolycom.ssl.encoders import NetworkConfig
    from minipolycom.ssl.images import ViewData
    from minipolycom.ssl.train import SSLConfig, fit_ssl

    config = replace(SSLConfig(), **settings)
    network = NetworkConfig(encoder=encoder, width=width, projection=projection)
    data = ViewData(source, batch_size=batch_size, size=size, local_views=local_views, seed=config.seed)
    data.setup()
    out = out or Path("runs") / f"ssl-{run_folder(source, config)}"
    first = is_first(config.devices)  # of several processes one speaks
    if first:
        print(data.description)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged")  # said below
        run = fit_ssl(data, config, network, out=out)
    if not first:
        return
    if run.status == "diverged":
        print(f"minipolycom: {run.message}", file=sys.stderr)
        sys.exit(1)
    summary = run.summary()
    print(f"{run.name}: {run.status} at step {run.step}" + (f"; {run.message}" if run.message else ""))
    print(said(summary))
    print(f"written to {out}; ask its features: minipolycom ssl probe {out}")
    if run.status == "stopped":  # which `fit_ssl` has said, and how to go on
        sys.exit(INTERRUPTED)


def compare(
    *,
    method: list[str] | None = None,
    source: str = "digits",
    seeds: int = 3,
    steps: int = 300,
    batch_size: int = 256,
    learning_rate: float = 0.05,
    final_norm: bool = True,
    out: Path | None = None,
    record: Path | None = None,
    json: bool = False,
) -> None:
    """Train methods side by side, each with several seeds; the same command again goes on where it stopped.

    Args:
        method: A method, as in ssl train; give it several times for several. Without one, every method and control
            and the filters of the study.
        source: Where the images come from, as in ssl train.
        seeds: How many seeds, counted from 0.
        steps: Optimizer steps of each training.
        batch_size: Samples per optimizer step.
        learning_rate: Peak learning rate.
        final_norm: Whether a batch normalisation ends the projector, in methods of the SimSiam family.
        out: Folder of the runs; without one, runs/ssl-compare.
        record: File to keep the rows in, with where, when and from which code they come.
        json: Whether to print JSON, a row for each training, instead of a table over the seeds.
    """
    from minipolycom.cli import INTERRUPTED, print_json
    from minipolycom.control import Control
    from minipolycom.ssl import compare as comparison

    if seeds < 1:
        raise ValueError(f"seeds counts the seeds of each method: it is at least 1; got {seeds}")
    control = Control()
    rows = comparison.compare(
        method or comparison.ALL,
        source,
        range(seeds),
        out=out or Path("runs") / "ssl-compare",
        batch_size=batch_size,
        control=control,
        progress=not json or sys.stderr.isatty(),
        steps=steps,
        learning_rate=learning_rate,
        final_norm=final_norm,
    )
    if record:
        comparison.write_record(rows, record)
    if json:
        print_json(rows)
    elif rows:
        print(comparison.table(rows))
    if control.stopped:
        sys.exit(INTERRUPTED)


def probe(run: Path, *, source: str | None = None, json: bool = False) -> None:
    """Ask what the features of a trained run are good for: classes, and known factors where there are some.

    Args:
        run: Folder of the run.
        source: Other images to ask about, as in ssl train; without them, those of the run.
        json: Whether to print JSON instead of a table.
    """
    from minipolycom.cli import print_json
    from minipolycom.ssl.images import ViewData
    from minipolycom.ssl.probes import factor_rows, probe_rows
    from minipolycom.ssl.runs import SSLRun

    loaded = SSLRun.load(run)
    method = loaded.method()
    settings = {name: value for name, value in loaded.data.items() if name != "content"}
    data = ViewData(**settings | ({"source": source} if source else {}))
    channels = data.shape[0]
    if channels != loaded.network.channels:
        raise ValueError(
            f"{run} was trained on images of {loaded.network.channels} channels, and {source} has {channels}: "
            "choose images of the same kind"
        )
    classes, factors = probe_rows(method, data), factor_rows(method, data)
    if not classes and not factors:
        raise ValueError(f"{data.description}, without classes: there is nothing to ask about")
    if json:
        print_json({"classes": classes, "factors": factors})
        return
    print(data.description)
    for rows in filter(None, (classes, factors)):
        print("\n".join(["", *aligned(rows)]))


def said(summary: dict) -> str:
    """The measures of a run that are known, in one line."""
    names = ("erank_online", "erank_target", "rank_difference", "knn_augmented", "probe", "r2")
    return ", ".join(f"{name} {summary[name]:.3g}" for name in names if summary[name] is not None)


def aligned(rows: list[dict]) -> list[str]:
    """Rows as lines of text under their names."""
    cells = [list(rows[0]), *([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
