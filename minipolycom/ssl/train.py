"""Training without labels: `fit_ssl` takes images and two configurations and gives a run.

It works in a script, in a notebook cell and in a background thread, in one process or several. A run that is
interrupted ends with a checkpoint after the current step; called again with the same `out`, `fit_ssl` goes on from
there, with the same batches, the same views and the same numbers as if nothing had happened.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from minipolycom.checking import check_kinds, check_known, check_seed
from minipolycom.control import Control, Diverged, writing
from minipolycom.distributed import check_processes, is_first, make_strategy
from minipolycom.hardware import ACCELERATORS, PRECISIONS, pick_accelerator, pick_precision
from minipolycom.lifecycle import opened, train_until_it_ends
from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.filters import Filter
from minipolycom.ssl.images import ViewBatch, ViewData
from minipolycom.ssl.measures import COLLAPSES, rank_row, spectrum_row
from minipolycom.ssl.methods import METHODS, Outputs
from minipolycom.ssl.probes import factor_rows, probe_rows
from minipolycom.ssl.processes import gathered, train_as_one
from minipolycom.ssl.runs import SSLRun
from minipolycom.train import learning_rate

COLLAPSE_PATIENCE = 5
"""Measurements in a row that must show a collapse before a training stops: early in training, ranks dip and recover."""


@dataclass(frozen=True, kw_only=True)
class SSLConfig:
    """How a method is trained. Raises ValueError, when it is made, for a setting that cannot work."""

    HOW: ClassVar[tuple[str, ...]] = ("accelerator", "devices", "keep_checkpoints")
    """Settings that say how a run is computed, not what: it may go on with others, up to rounding with the same
    numbers."""

    method: str = "simsiam"
    """Name of the recipe, such as simsiam, byol, swav, dino, rdm_simsiam_target; those with a filter take another one
    where it is given as @KIND:LOCATION:SIGMA, as in rdm_simsiam_target@power:target:-0.7."""
    final_norm: bool = True
    """Whether a batch normalisation ends the projector, in methods of the SimSiam family; without it a collapse is
    complete."""
    steps: int = 300
    """Optimizer steps in all; 300 batches of 256 are sixty epochs of the digits."""
    learning_rate: float = 0.05
    """Peak learning rate of SGD, reached after the warm-up."""
    min_learning_rate_ratio: float = 0.0
    """Learning rate at the last step, as a fraction of the peak."""
    warmup_steps: int = 30
    """Steps in which the learning rate grows linearly to its peak."""
    momentum: float = 0.9
    """SGD's memory of the gradient."""
    weight_decay: float = 5e-4
    """Decay of all weights."""
    log_every: int = 10
    """Steps between two rows of the loss."""
    measure_every: int = 10
    """Steps between two measurements of ranks and spectra."""
    probe_every: int = 100
    """Steps between two probes with labels; the last step is always probed."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept; 0 keeps all."""
    stop_on_collapse: bool = False
    """Whether to stop when several measurements in a row show a collapse."""
    seed: int = 0
    """Seed of the initial weights."""
    precision: str = "auto"
    """auto, 32-true, bf16-mixed, 16-mixed or 64-true."""
    accelerator: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """Processes, each with its device, that share every batch."""

    def __post_init__(self):
        check_kinds(self)
        check_seed(self.seed)
        check_known("precision", self.precision, PRECISIONS)
        check_known("accelerator", self.accelerator, ACCELERATORS)
        for name in ("steps", "log_every", "measure_every", "probe_every", "checkpoint_every", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1; got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "keep_checkpoints"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative; got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is positive; got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum lies in [0, 1); got {self.momentum}")
        if not 0 <= self.min_learning_rate_ratio <= 1:
            raise ValueError(f"min_learning_rate_ratio lies in [0, 1]; got {self.min_learning_rate_ratio}")
        self.recipe()

    def recipe(self) -> tuple[Callable[..., nn.Module], dict]:
        """The recipe and the settings that replace its own."""
        name, at, filtered = self.method.partition("@")
        check_known("method", name, METHODS)
        takes = signature(METHODS[name]).parameters
        settings = {}
        if at:
            if "filter" not in takes:
                with_filter = [known for known in METHODS if "filter" in signature(METHODS[known]).parameters]
                raise ValueError(f"{name} has no filter to replace; these do: {', '.join(with_filter)}")
            settings["filter"] = parse_filter(filtered)
        if not self.final_norm:
            if "final_norm" not in takes:
                raise ValueError(f"the projector of {name} ends without normalisation: leave final_norm as it is")
            settings["final_norm"] = False
        return METHODS[name], settings

    def make(self, network: NetworkConfig) -> nn.Module:
        """The method, with initial weights that follow from the seed; torch's random state stays as it was."""
        recipe, settings = self.recipe()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return recipe(network, **settings)


def parse_filter(text: str) -> Filter:
    """A filter from KIND:LOCATION:SIGMA. Raises ValueError for anything else."""
    kind, _, rest = text.partition(":")
    location, _, sigma = rest.partition(":")
    try:
        value = float(sigma)
    except ValueError:
        raise ValueError(f"a filter is KIND:LOCATION:SIGMA, as in power:target:-0.5; got {text!r}") from None
    return Filter(kind, location, value)


class Learner(L.LightningModule):
    """The training step of a method: its loss, SGD with a learning rate per step, its momentum network."""

    def __init__(self, method: nn.Module, config: SSLConfig):
        super().__init__()
        self.method = method
        self.config = config
        self.outputs: Outputs | None = None
        self.first_step = True

    def configure_optimizers(self):
        config = self.config
        optimizer = torch.optim.SGD(
            [weight for weight in self.method.parameters() if weight.requires_grad],
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, config) / config.learning_rate
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        views = [view.to(self.dtype) for view in batch.views]
        try:
            self.outputs = self.method(views)
        except ValueError as error:  # of views that do not fit the method; later, of numbers that are not finite
            if self.first_step:
                raise
            raise Diverged(f"{error} (step {self.global_step + 1})") from None
        self.first_step = False
        return self.outputs.loss

    def optimizer_step(self, *arguments, **named) -> None:
        super().optimizer_step(*arguments, **named)
        if hasattr(self.method, "after_step"):
            self.method.after_step((self.global_step + 1) / self.config.steps)

    def check(self, batch: ViewBatch) -> None:
        """Raise Diverged unless the weights are finite."""
        if not all(weight.isfinite().all() for weight in self.method.state_dict().values()):
            raise Diverged(f"weights are no longer finite after step {self.global_step}")

    def all_outputs(self) -> Outputs:
        """The outputs of the last step, with the rows of all processes."""
        if self.trainer.world_size == 1:
            return self.outputs
        loss = gathered(self.outputs.loss.detach()[None]).mean()
        names = ("online_NZ", "target_NZ", "projected_NZ", "features_ND")
        return Outputs(loss, *(gathered(getattr(self.outputs, name)) for name in names))


class Meter(L.Callback):
    """Measures a training and writes its rows; of several processes, the first one alone probes."""

    def __init__(self, config: SSLConfig, data: ViewData, write: Callable[[str, dict], None]):
        self.config, self.data, self.write = config, data, write
        self.seconds = 0.0
        self.summed_loss, self.summed_steps = 0.0, 0
        self.collapsed_rows = 0

    def state_dict(self) -> dict:
        names = ("seconds", "summed_loss", "summed_steps", "collapsed_rows")
        return {name: getattr(self, name) for name in names} | {"summed_loss": float(self.summed_loss)}

    def load_state_dict(self, state: dict) -> None:
        self.__dict__.update(state)

    def on_train_start(self, *_) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: Learner, *_) -> None:
        step, last = trainer.global_step, trainer.global_step == self.config.steps
        self.summed_loss = self.summed_loss + module.outputs.loss.detach().double()
        self.summed_steps += 1
        due = step % self.config.log_every == 0 or last
        mean = self.mean_loss(trainer) if due else 0.0  # reading it waits for the GPU, so it comes before the clock
        self.seconds += time.perf_counter() - self.started
        if due:
            rate = learning_rate(step - 1, self.config)
            self.row(trainer, "losses", {"loss": mean, "learning_rate": rate, "seconds": round(self.seconds, 4)})
            self.summed_loss, self.summed_steps = 0.0, 0
        if step % self.config.measure_every == 0 or last:
            self.measure(trainer, module)
        if step % self.config.probe_every == 0 or last:
            self.probe(trainer, module)
        self.started = time.perf_counter()

    @property
    def ended(self) -> bool:
        """Whether a training that should stop at a collapse has shown one for long enough."""
        return self.config.stop_on_collapse and self.collapsed_rows >= COLLAPSE_PATIENCE

    def message(self, run: SSLRun) -> str:
        return describe_collapse(run.table("ranks")[-1], run.network) if self.collapsed_rows else ""

    def progress(self, run: SSLRun) -> str:
        losses, ranks = (run.table(name)[-1:] for name in ("losses", "ranks"))
        if not (losses and ranks):
            return ""
        said = f"loss {losses[0]['loss']:.3f}, rank {ranks[0]['erank_online']:.1f} online"
        collapse = f", {ranks[0]['collapse']} collapse" if ranks[0]["collapse"] else ""
        return f"{said}, {ranks[0]['erank_target']:.1f} target{collapse}"

    def mean_loss(self, trainer: L.Trainer) -> float:
        summed = torch.as_tensor(self.summed_loss)
        return float(trainer.strategy.reduce(summed, reduce_op="mean")) / self.summed_steps

    def measure(self, trainer: L.Trainer, module: Learner) -> None:
        outputs = module.all_outputs()
        ranks = rank_row(outputs)
        self.collapsed_rows = self.collapsed_rows + 1 if ranks["collapse"] else 0
        self.row(trainer, "ranks", ranks)
        self.row(trainer, "spectra", spectrum_row(outputs))
        if self.ended:
            trainer.should_stop = True

    def probe(self, trainer: L.Trainer, module: Learner) -> None:
        if trainer.is_global_zero:
            for table, rows in (("probes", probe_rows), ("factors", factor_rows)):
                for row in rows(module.method, self.data):
                    self.row(trainer, table, row)

    def row(self, trainer: L.Trainer, table: str, values: dict) -> None:
        self.write(table, {"step": trainer.global_step, **values})


def fit_ssl(
    data: ViewData,
    train: SSLConfig | None = None,
    network: NetworkConfig | None = None,
    *,
    out: Path | str | None = None,
    name: str | None = None,
    control: Control | None = None,
    on_row: Callable[[str, dict], None] | None = None,
    progress: bool = True,
) -> SSLRun:
    """Train a method on views of images and return the run.

    `network` is the shape of the networks; its channels and size are set to those of the images. `out` is the run's
    folder; without one the run lives in memory. Called again with the same `out` and the same settings, it goes on
    from the last checkpoint, or returns the finished run at once. `on_row(table, row)` is called with each row as it
    is measured. Interrupting the main thread or `control.stop()` ends training after the current step, with a
    checkpoint. A loss or weights that are no longer finite end it too, with a warning; the last checkpoint stays.
    A collapse is written to the rows and named in the run's message; with `stop_on_collapse` it ends the training.

    With several devices a script runs in as many processes, from its first line to its last: the first one writes the
    run and calls `on_row`; what the others get has the same losses and ranks, in memory.

    Raises ValueError for images that do not fit the method, for a batch that cannot be divided among the processes, for
    an `out` that holds a run with other settings or a damaged one, that another process is training into, or on a disk
    that is full, and for a machine that lacks the wanted accelerator, devices or precision. Raises ChildProcessError
    where another process of the same training is lost.
    """
    train = train or SSLConfig()
    control = control or Control()
    if data.batch_size % train.devices:
        raise ValueError(f"batch_size={data.batch_size} cannot be divided among {train.devices} processes (devices)")
    accelerator = pick_accelerator(train.accelerator)
    precision = pick_precision(train.precision, accelerator)
    check_processes(train.devices, 1, accelerator)
    data.setup()
    channels, size, _ = data.shape
    folder = Path(out) if out else None
    run = SSLRun(
        name=name or train.method,
        network=replace(network or NetworkConfig(), channels=channels, size=size),
        train_config=train,
        data={**data.settings, "content": data.key},
        path=folder if is_first(train.devices) else None,
    )
    with opened(run, folder) as (run, checkpoint):
        if not run.finished:
            train_run(run, folder, checkpoint, data, accelerator, precision, control, on_row, progress)
    return run


def train_run(
    run: SSLRun,
    folder: Path | None,
    checkpoint: Path | None,
    data: ViewData,
    accelerator: str,
    precision: str,
    control: Control,
    on_row: Callable[[str, dict], None] | None,
    progress: bool,
) -> None:
    """Train a run from a checkpoint, or from the beginning, until it ends in one of its ways."""
    train = run.train_config
    first = is_first(train.devices)
    data.start_step = run.step
    method = train.make(run.network)
    if precision == "64-true":
        method.double()  # Lightning would do so after it has restored a checkpoint into narrower weights
    if train.devices > 1:
        train_as_one(method)
    if run.path and not checkpoint:
        with writing(run):
            run.create()

    def write(table: str, row: dict) -> None:
        with writing(run):
            run.append(row, table)
        if on_row is not None and first:
            on_row(table, row)

    train_until_it_ends(
        run,
        folder,
        checkpoint,
        Learner(method, train),
        data,
        Meter(train, data, write),
        control,
        first=first,
        progress=progress,
        n_processes=train.devices,
        accelerator=accelerator,
        devices=train.devices,
        strategy=make_strategy("ddp", train.devices),
        precision=precision,
    )


def describe_collapse(row: dict, network: NetworkConfig) -> str:
    """What the collapse monitor sees, in one line."""
    return (
        f"{COLLAPSES[row['collapse']]} (feature std {row['feature_std']:.2f}, "
        f"effective rank {row['erank_projected']:.1f} of {network.projection})"
    )
