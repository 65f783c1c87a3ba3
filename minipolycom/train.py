"""Training: `fit` takes tokens and two configurations and gives a run.

It works in a script, in a notebook cell and in a background thread; on one device, or on many. A run that is
interrupted ends with a checkpoint after the current step; one that is killed has its last checkpoint. Called again with
the same `out`, `fit` goes on from there, with the same batches and the same numbers as if nothing had happened.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import lightning as L
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import Tensor, nn

from minipolycom.activations import PolyNorm, PolyReLU
from minipolycom.checking import check_at_least, check_kinds, check_known, check_seed
from minipolycom.control import Control, Diverged, writing
from minipolycom.distributed import (
    STRATEGIES,
    check_processes,
    here,
    is_first,
    make_strategy,
    shard,
    whole,
)
from minipolycom.estimate import check_batch, check_weights, enough_memory, estimate
from minipolycom.hardware import ACCELERATORS, PRECISIONS, pick_accelerator, pick_precision
from minipolycom.lifecycle import opened, train_until_it_ends, what_counts
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.record import Recorder
from minipolycom.runs import Run, differing_fields
from minipolycom.text import TokenBatch, TokenData

PRESET_TRAINING: dict[str, dict] = {
    "tiny": {"batch_size": 16, "learning_rate": 4e-3, "steps": 300},
    "nano": {"batch_size": 16, "learning_rate": 3e-3, "steps": 1000},
    "small": {"batch_size": 32, "learning_rate": 1e-3, "steps": 3000},
    "gpt2": {"batch_size": 32, "learning_rate": 6e-4, "steps": 20_000},
    "tiny-moe": {"batch_size": 16, "learning_rate": 4e-3, "steps": 300},
    "nano-moe": {"batch_size": 16, "learning_rate": 3e-3, "steps": 1000},
    "small-moe": {"batch_size": 32, "learning_rate": 1e-3, "steps": 3000},
    "olmoe-1b-7b": {"batch_size": 1024, "learning_rate": 4e-4, "steps": 47_684},
}
"""Batch size, peak learning rate and steps that suit each preset of the model."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Raises ValueError, when it is made, for a setting that cannot work."""

    HOW: ClassVar[tuple[str, ...]] = (
        "accumulate", "compile", "accelerator", "devices", "num_nodes", "strategy", "keep_checkpoints", "record_every",
    )  # fmt: skip
    """Settings that say how a run is computed, not what: it may go on with others, up to rounding with the same
    numbers."""

    steps: int = 300
    """Optimizer steps in all."""
    learning_rate: float = 4e-3
    """Peak learning rate, reached after the warm-up."""
    min_learning_rate_ratio: float = 0.1
    """Learning rate at the last step, as a fraction of the peak."""
    warmup_steps: int = 20
    """Steps in which the learning rate grows linearly to its peak."""
    weight_decay: float = 0.1
    """AdamW's decay of the matrices; embeddings, norms and activation coefficients are never decayed."""
    beta1: float = 0.9
    """AdamW's memory of the gradient."""
    beta2: float = 0.95
    """AdamW's memory of the squared gradient."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient; a longer one is scaled down to it."""
    balance_weight: float = 1e-2
    """Weight of the load-balance loss of experts in the loss that is minimised; the rows hold the plain loss."""
    z_weight: float = 1e-3
    """Weight of the z-loss, which keeps the logits of the experts' router small."""
    log_every: int = 10
    """Steps between two rows of the training loss."""
    eval_every: int = 50
    """Steps between two measurements of the validation loss."""
    eval_batches: int = 8
    """Validation batches per measurement, always the same ones."""
    checkpoint_every: int = 50
    """Steps between two checkpoints."""
    keep_checkpoints: int = 2
    """How many checkpoints are kept, the newest ones; 0 keeps all."""
    patience: int = 0
    """Measurements of the validation loss without a new lowest one after which training ends; 0 never ends it early."""
    accumulate: int = 1
    """Parts in which a batch goes through the model, so that a large one fits in memory; the gradient is the same."""
    compile: bool = False
    """Whether torch.compile translates the model first, which takes minutes and makes each step faster on a GPU."""
    record_every: int = 50
    """Steps between two recordings of spectra, coefficients, norms, routers and similarities; 0 records nothing."""
    seed: int = 0
    """Seed of the initial weights."""
    precision: str = "auto"
    """auto, 32-true, bf16-mixed, 16-mixed or 64-true."""
    accelerator: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """GPUs (on a CPU, processes) per machine that share out each batch."""
    num_nodes: int = 1
    """Machines; more than one are started by torchrun or SLURM."""
    strategy: str = "auto"
    """How devices share the work: ddp, each with the whole model; fsdp, weights divided among them; auto is ddp."""

    def __post_init__(self):
        check_kinds(self)
        check_seed(self.seed)
        check_known("precision", self.precision, PRECISIONS)
        check_known("accelerator", self.accelerator, ACCELERATORS)
        check_known("strategy", self.strategy, STRATEGIES)
        counts = ("steps", "log_every", "eval_every", "eval_batches", "checkpoint_every", "accumulate", "devices")
        for name in (*counts, "num_nodes"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "gradient_clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is positive; got {getattr(self, name)}")
        weights = ("weight_decay", "balance_weight", "z_weight")
        for name in (*weights, "warmup_steps", "keep_checkpoints", "patience", "record_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative; got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} lies in [0, 1); got {getattr(self, name)}")
        if not 0 <= self.min_learning_rate_ratio <= 1:
            raise ValueError(f"min_learning_rate_ratio lies in [0, 1]; got {self.min_learning_rate_ratio}")
        if self.strategy == "fsdp" and self.precision not in ("auto", "32-true", "bf16-mixed"):
            raise ValueError(f"fsdp goes with precision 32-true or bf16-mixed; got {self.precision}")

    @property
    def n_processes(self) -> int:
        """Processes that share out each batch."""
        return self.devices * self.num_nodes


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of optimizer step `step` (from 0): linear warm-up, then half a cosine down to the minimum."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    floor = config.min_learning_rate_ratio
    return config.learning_rate * (floor + (1 - floor) * cosine)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: matrices, which decay; and embeddings, norms and activation coefficients, which do not.

    The coefficients set the shape of a function, not the size of a map: PolyCom's code excludes them too.
    """
    kept = {id(p) for m in model.modules() if isinstance(m, nn.Embedding | PolyNorm | PolyReLU) for p in m.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in kept]
    chosen = {id(p) for p in decayed}
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
    ]


NEVER = 2**62
"""Stands for the step at which a training that is well has diverged."""


class LanguageModel(L.LightningModule):
    """One optimizer step of a GPT: forward and backward of each part of the batch, clipping, AdamW, learning rate."""

    def __init__(self, gpt: GPT, config: TrainConfig):
        super().__init__()
        self.automatic_optimization = False  # the step is written out below, and costs half of what Lightning's does
        self.gpt = gpt
        self.config = config
        self.loss: Tensor = torch.tensor(0.0)
        self.gradient_norm: Tensor = torch.tensor(0.0)
        self.diverged_at: Tensor = torch.tensor(NEVER)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_current_fx_name":  # some twenty times a step; torch would look whether it is a weight each time
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_model(self) -> None:
        divided = self.device_mesh is not None  # by strategy="fsdp"
        if self.config.compile:
            for module in self.gpt.blocks if divided else [self.gpt]:
                module.compile(dynamic=False)
        if divided:
            shard(self.gpt, self.device_mesh["data_parallel"])

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            parameter_groups(self.gpt, self.config.weight_decay),
            lr=self.config.learning_rate,
            betas=(self.config.beta1, self.config.beta2),
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, self.config) / self.config.learning_rate
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    @property
    def settings(self) -> dict:
        """What decides the numbers of this training, but for the data, as plain values."""
        return {"model": asdict(self.gpt.config), "train": what_counts(asdict(self.config), self.config.HOW)}

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["config"] = self.settings
        if self.device_mesh is None:  # else it is numbered in this way already
            (held,) = checkpoint["optimizer_states"]
            checkpoint["optimizer_states"] = [numbered_as_in_model(held, self.optimizers().optimizer, self.gpt)]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raise ValueError for a checkpoint of a training with other settings."""
        different = differing_fields(self.settings, checkpoint["config"])
        if different:
            raise ValueError(
                f"the checkpoint of step {checkpoint['global_step']} is of another run ({'; '.join(different)}): "
                "put back the one of this run, or delete it"
            )

    def on_train_start(self) -> None:
        self.diverged_at = torch.tensor(NEVER, device=self.device)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> None:
        optimizer, losses = self.optimizers(), []
        parts = parts_of(batch, self.config.accumulate)
        for number, part in enumerate(parts, start=1):
            with self.gradients_exchanged(number == len(parts)):
                loss = next_token_loss(self.gpt(part.inputs), part.targets)
                losses.append(loss.detach())
                self.backward_of(self.with_expert_losses(loss), len(parts))
        self.loss = torch.stack(losses).mean() if len(losses) > 1 else losses[0]
        norm = self.clip_gradients_of(optimizer.optimizer)
        self.look_after(norm)
        optimizer.step()
        optimizer.optimizer.zero_grad()
        self.lr_schedulers().step()

    def backward_of(self, loss: Tensor, n_parts: int) -> None:
        """Add the gradient of a part's loss, a share of the batch's."""
        if n_parts > 1:
            loss = loss / n_parts
        with torch.autocast(self.device.type, enabled=False):  # backward takes the dtypes of forward
            if self.trainer.world_size == 1 and self.scaler is None:
                loss.backward()  # all that manual_backward would do here, without its hooks, which nothing waits for
            else:
                self.manual_backward(loss)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What multiplies the loss in fp16, so that small gradients are not lost; None in other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def gradients_exchanged(self, wanted: bool) -> contextlib.AbstractContextManager:
        """Where processes have whole models (ddp), let only the last part of a batch exchange gradients."""
        strategy = self.trainer.strategy
        return contextlib.nullcontext() if wanted or self.trainer.world_size == 1 else strategy.block_backward_sync()

    def with_expert_losses(self, loss: Tensor) -> Tensor:
        if not self.gpt.config.n_experts:
            return loss
        loss = loss + self.config.balance_weight * self.gpt.balance_loss()
        return loss + self.config.z_weight * self.gpt.z_loss()

    def clip_gradients_of(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Scale a gradient that is too long down, and give the norm that it had."""
        if self.scaler is not None:  # what it multiplied the loss with is no part of the gradient
            self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = whole(nn.utils.get_total_norm([p.grad for p in parameters]))
        nn.utils.clip_grads_with_norm_(parameters, self.config.gradient_clip, norm)
        return norm

    def look_after(self, norm: Tensor) -> None:
        """Note the first step whose loss or gradient is not finite, without making a GPU wait."""
        at_once = self.device.type == "cpu" and self.trainer.world_size == 1  # where to look costs nothing
        if at_once and math.isfinite(self.loss + norm):
            self.gradient_norm = norm
            return
        # With loss scaling a gradient overflows now and then, by design: that step is skipped, the loss stays finite.
        watched = self.loss if self.trainer.precision == "16-mixed" else self.loss + norm
        finite = watched.isfinite()
        self.diverged_at = torch.where(finite, self.diverged_at, self.diverged_at.clamp(max=self.global_step + 1))
        self.gradient_norm = torch.where(norm.isfinite(), norm, self.gradient_norm.to(norm.device))
        if at_once:
            self.check_finite()

    def check_finite(self) -> None:
        """Raise Diverged, in all processes, once a step was not finite in one."""
        at = int(self.trainer.strategy.reduce(self.diverged_at.clone(), reduce_op="min"))
        if at != NEVER:
            raise Diverged(f"loss {float(self.loss):.4g}, gradient norm {float(self.gradient_norm):.4g} at step {at}")

    @torch.no_grad()
    def check(self, batch: TokenBatch) -> None:
        """Raise Diverged, in all processes, unless the weights, and the loss that they give on a batch, are finite."""
        part = parts_of(batch, self.config.accumulate)[0]
        with self.trainer.precision_plugin.forward_context():
            loss = next_token_loss(self.gpt(part.inputs), part.targets)
        finite = torch.stack([loss.isfinite(), *(here(weight).isfinite().all() for weight in self.gpt.parameters())])
        if not self.trainer.strategy.reduce_boolean_decision(bool(finite.all())):
            raise Diverged(f"weights or loss no longer finite after step {self.global_step}")


def numbered_as_in_model(state: dict, optimizer: torch.optim.Optimizer, model: nn.Module) -> dict:
    """An optimizer's state with the parameters numbered in the order of the model, not of the optimizer's groups.

    A single optimizer reads either, one that is divided among processes only this; so a run can go on in any way.
    """
    number_of = {id(parameter): number for number, parameter in enumerate(model.parameters())}
    numbers = [number_of[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    return {
        "state": {numbers[index]: held for index, held in state["state"].items()},
        "param_groups": [
            group | {"params": [numbers[index] for index in group["params"]]} for group in state["param_groups"]
        ],
    }


def parts_of(batch: TokenBatch, n_parts: int) -> list[TokenBatch]:
    """A batch in so many parts; of one that is smaller, some are empty."""
    if n_parts == 1:
        return [batch]
    return [TokenBatch(*part) for part in zip(*(tokens.tensor_split(n_parts) for tokens in batch), strict=True)]


class Meter(L.Callback):
    """Measures a training and writes its rows: the training loss as it goes, the validation loss now and then."""

    def __init__(self, config: TrainConfig, write: Callable[[dict], None]):
        self.config, self.write = config, write
        self.seconds = 0.0
        self.summed_loss, self.summed_steps = 0.0, 0
        self.lowest, self.lowest_at, self.waited = math.inf, 0, 0

    def state_dict(self) -> dict:
        names = ("seconds", "summed_steps", "lowest", "lowest_at", "waited")
        return {"summed_loss": float(self.summed_loss), **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)

    @property
    def ended(self) -> bool:
        """Whether the validation loss no longer falls."""
        return 0 < self.config.patience <= self.waited

    def message(self, run: Run) -> str:
        if not self.ended or run.step == self.config.steps:
            return ""
        return (
            f"the validation loss was lowest at step {self.lowest_at} ({self.lowest:.4f}), "
            f"{self.waited} measurements ago"
        )

    def progress(self, run: Run) -> str:
        trained = [row for row in run.rows if row["split"] == "train"][-2:]
        tokens, seconds = (trained[-1][key] - (trained[0][key] if trained[1:] else 0) for key in ("tokens", "seconds"))
        return f"loss {trained[-1]['loss']:.3f}, val {run.losses('val')[-1]:.3f}, {tokens / seconds:,.0f} tokens/s"

    def on_train_start(self, trainer: L.Trainer, module: LanguageModel) -> None:
        if trainer.global_step == 0:
            self.validate(trainer, module)

    def on_train_batch_start(self, *_) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: LanguageModel, *_) -> None:
        step, last = trainer.global_step, trainer.global_step == self.config.steps
        self.summed_loss = self.summed_loss + module.loss.double()
        self.summed_steps += 1
        due = step % self.config.log_every == 0 or last
        # Reading the loss waits for the GPU, so it comes before the clock is read.
        if due:
            module.check_finite()
            loss = float(trainer.strategy.reduce(self.summed_loss / self.summed_steps, reduce_op="mean"))
        self.seconds += time.perf_counter() - self.started
        if due:
            self.row(trainer, "train", loss, gradient_norm=float(module.gradient_norm))
            self.summed_loss, self.summed_steps = 0.0, 0
        if step % self.config.eval_every == 0 or last:
            self.validate(trainer, module)

    def validate(self, trainer: L.Trainer, module: LanguageModel) -> None:
        loss = self.evaluate(trainer, module)
        self.row(trainer, "val", loss)
        if loss < self.lowest:
            self.lowest, self.lowest_at, self.waited = loss, trainer.global_step, 0
        else:
            self.waited += 1
        if self.ended:
            trainer.should_stop = True

    @torch.no_grad()
    def evaluate(self, trainer: L.Trainer, module: LanguageModel) -> float:
        """Mean loss over the first `eval_batches` validation batches, in nats per token."""
        module.eval()
        total, count = torch.zeros(2, dtype=torch.float64, device=module.device)
        for batch in islice(trainer.datamodule.val_dataloader(), self.config.eval_batches):
            for part in parts_of(batch, self.config.accumulate):
                n_tokens = part.targets.numel()
                if n_tokens == 0:  # others have some, and where weights are divided they need us for their forward pass
                    part = TokenBatch(*(tokens.new_zeros(1, tokens.shape[1]) for tokens in batch))
                inputs, targets = part.inputs.to(module.device), part.targets.to(module.device)
                with trainer.precision_plugin.forward_context():
                    total += next_token_loss(module.gpt(inputs), targets).double() * n_tokens
                count += n_tokens
        module.train()
        total, count = trainer.strategy.reduce(torch.stack([total, count]), reduce_op="sum").tolist()
        if not math.isfinite(total):
            raise Diverged(f"validation loss {total / count:.4g} at step {trainer.global_step}")
        return total / count

    def row(self, trainer: L.Trainer, split: str, loss: float, **more: float) -> None:
        step, data = trainer.global_step, trainer.datamodule
        self.write(
            {
                "step": step,
                "tokens": step * data.batch_size * data.context,
                "seconds": round(self.seconds, 4),
                "split": split,
                "loss": loss,
                "learning_rate": learning_rate(max(0, step - 1), self.config),
                **more,
            }
        )


def fit(
    data: TokenData,
    model: GPTConfig,
    train: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    name: str | None = None,
    control: Control | None = None,
    on_row: Callable[[dict], None] | None = None,
    progress: bool = True,
) -> Run:
    """Train a model on tokens and return the run.

    `out` is the run's folder; without one the run lives in memory. Called again with the same `out` and the same
    settings, it goes on from the last checkpoint, or returns the finished run at once. `on_row` is called with each
    row as it is measured. Interrupting the main thread (Ctrl-C, or the notebook's stop button) or `control.stop()`
    ends training after the current step, with a checkpoint. Weights or a loss that are no longer finite end it
    too, with a warning that names the step; the last good checkpoint stays, and in memory the last good weights.

    With several devices a script runs in as many processes, from its first line to its last: the first one writes the
    run and calls `on_row`; what the others get has the same losses, in memory.

    Raises ValueError for data whose context or vocabulary does not fit the model, for a batch that cannot be divided
    among the processes and parts, for an `out` that holds a run with other settings or a damaged one, that another
    process is training into, or on a disk that is full, for a machine that lacks the wanted accelerator, devices or
    precision, and for a model or a batch that needs more memory than there is. Raises ChildProcessError where another
    process of the same training is lost.
    """
    train = train or TrainConfig()
    control = control or Control()
    accelerator = pick_accelerator(train.accelerator)
    precision = pick_precision(train.precision, accelerator)
    check_processes(train.devices, train.num_nodes, accelerator)
    n_parts = train.n_processes * train.accumulate
    if data.batch_size % n_parts:
        raise ValueError(
            f"a batch is divided into {train.n_processes} (devices * num_nodes) times {train.accumulate} (accumulate) "
            f"equal parts: batch_size={data.batch_size} is not divisible by {n_parts}"
        )
    data.prepare_data()
    data.setup("fit")
    if data.context > model.context:
        raise ValueError(f"the data's context of {data.context} tokens is longer than the model's, {model.context}")
    if data.tokenizer.vocab_size > model.vocab_size:
        raise ValueError(
            f"the tokenizer has {data.tokenizer.vocab_size} tokens, the model only {model.vocab_size}: "
            f"make it with vocab_size={data.tokenizer.vocab_size}"
        )
    run = Run(
        name=name or model.activation,
        model_config=model,
        train_config=train,
        data={**data.settings, "content": data.key},
        tokenizer=data.tokenizer,
        path=Path(out) if out and is_first(train.n_processes) else None,
    )
    folder = Path(out) if out else None
    with enough_memory(model), opened(run, folder) as (run, checkpoint):
        if not run.finished:
            train_run(run, folder, checkpoint, data, accelerator, precision, control, on_row, progress)
    return run


def train_run(
    run: Run,
    folder: Path | None,
    checkpoint: Path | None,
    data: TokenData,
    accelerator: str,
    precision: str,
    control: Control,
    on_row: Callable[[dict], None] | None,
    progress: bool,
) -> None:
    """Train a run from a checkpoint, or from the beginning, until it ends in one of its ways."""
    train = run.train_config
    first = is_first(train.n_processes)
    data.start_step = run.step
    if progress and first:
        print(f"{run.name}: {train.steps} steps take {estimate(data, run.model_config, train)}")
    check_weights(run.model_config, train)
    module = LanguageModel(GPT(run.model_config, seed=train.seed), train)
    if precision == "64-true":
        module.double()  # Lightning would do so after it has restored a checkpoint into narrower weights
    check_batch(module.gpt, data, train)
    if run.path and not checkpoint:
        with writing(run):
            run.create()

    def write(row: dict) -> None:
        row = {"run": run.name, "activation": run.model_config.activation, **row}
        with writing(run):
            run.append(row)
        if on_row is not None and first:
            on_row(row)

    meter = Meter(train, write)
    # Where weights are divided, no process has them.
    records = train.record_every and first and (train.strategy != "fsdp" or train.n_processes == 1)
    train_until_it_ends(
        run,
        folder,
        checkpoint,
        module,
        data,
        meter,
        control,
        first=first,
        progress=progress,
        n_processes=train.n_processes,
        recorders=[Recorder(run, train.record_every, meter)] if records else [],
        accelerator=accelerator,
        devices=train.devices,
        num_nodes=train.num_nodes,
        strategy=make_strategy(train.strategy, train.n_processes),
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
        precision=precision,
    )
