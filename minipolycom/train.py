"""Training: `fit` takes tokens and two configurations and gives a run.

It works in a script, in a notebook cell and in a background thread. A run that is interrupted ends with a checkpoint
after the current step; one that is killed has its last checkpoint. Called again with the same `out`, `fit` goes on from
there, with the same batches and the same numbers as if nothing had happened.
"""

import contextlib
import logging
import math
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minipolycom.activations import PolyNorm, PolyReLU
from minipolycom.checking import check_kinds, check_known, check_seed
from minipolycom.checkpoints import checkpoint_file, keep_newest, newest_whole
from minipolycom.hardware import ACCELERATORS, PRECISIONS, pick_accelerator, pick_precision
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.runs import Run, alone_in, differing_fields, replacing
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
    seed: int = 0
    """Seed of the initial weights."""
    precision: str = "auto"
    """auto, 32-true, bf16-mixed, 16-mixed or 64-true."""
    accelerator: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self):
        check_kinds(self)
        check_seed(self.seed)
        check_known("precision", self.precision, PRECISIONS)
        check_known("accelerator", self.accelerator, ACCELERATORS)
        for name in ("steps", "log_every", "eval_every", "eval_batches", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is positive; got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "balance_weight", "z_weight", "keep_checkpoints"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative; got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} lies in [0, 1); got {getattr(self, name)}")
        if not 0 <= self.min_learning_rate_ratio <= 1:
            raise ValueError(f"min_learning_rate_ratio lies in [0, 1]; got {self.min_learning_rate_ratio}")


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


class Control:
    """Pause, resume and stop a training from outside, from any thread; honoured between two steps."""

    def __init__(self):
        self._running = threading.Event()
        self._running.set()
        self._stopped = threading.Event()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._stopped.set()
        self._running.set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def wait_while_paused(self) -> None:
        self._running.wait()


class Diverged(RuntimeError):
    """The loss, the gradient or the weights are no longer finite numbers."""


class LanguageModel(L.LightningModule):
    """The training step of a GPT: next-token loss, AdamW, a learning rate per step, and clipping."""

    def __init__(self, gpt: GPT, config: TrainConfig):
        super().__init__()
        self.gpt = gpt
        self.config = config
        self.loss: Tensor = torch.tensor(0.0)
        self.gradient_norm: Tensor = torch.tensor(0.0)

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
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss = next_token_loss(self.gpt(batch.inputs), batch.targets)
        self.loss = loss.detach()
        if self.gpt.config.n_experts:
            loss = loss + self.config.balance_weight * self.gpt.balance_loss()
            loss = loss + self.config.z_weight * self.gpt.z_loss()
        return loss

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        norm = nn.utils.clip_grad_norm_(self.gpt.parameters(), self.config.gradient_clip)
        # With loss scaling a gradient overflows now and then, by design: that step is skipped, the loss stays finite.
        watched = self.loss if self.trainer.precision == "16-mixed" else self.loss + norm
        if not torch.isfinite(watched):
            raise Diverged(
                f"loss {float(self.loss):.4g}, gradient norm {float(norm):.4g} at step {self.global_step + 1}"
            )
        self.gradient_norm = torch.where(norm.isfinite(), norm, self.gradient_norm.to(norm.device))

    @torch.no_grad()
    def check(self, batch: TokenBatch) -> None:
        """Raise Diverged unless the weights, and the loss that they give on a batch, are finite."""
        with self.trainer.precision_plugin.forward_context():
            loss = next_token_loss(self.gpt(batch.inputs), batch.targets)
        finite = [loss.isfinite(), *(weight.isfinite().all() for weight in self.gpt.parameters())]
        if not torch.stack(finite).all():
            raise Diverged(f"weights or loss no longer finite after step {self.global_step}")


class Meter(L.Callback):
    """Measures a training and writes its rows: the training loss as it goes, the validation loss now and then."""

    def __init__(self, config: TrainConfig, write: Callable[[dict], None]):
        self.config, self.write = config, write
        self.seconds = 0.0
        self.summed_loss, self.summed_steps = 0.0, 0

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "summed_loss": float(self.summed_loss), "summed_steps": self.summed_steps}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self.summed_loss = state["seconds"], state["summed_loss"]
        self.summed_steps = state["summed_steps"]

    def on_train_start(self, trainer: L.Trainer, module: LanguageModel) -> None:
        if trainer.global_step == 0:
            self.row(trainer, "val", self.evaluate(trainer, module))

    def on_train_batch_start(self, *_) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: LanguageModel, *_) -> None:
        step, last = trainer.global_step, trainer.global_step == self.config.steps
        self.summed_loss = self.summed_loss + module.loss.double()
        self.summed_steps += 1
        due = step % self.config.log_every == 0 or last
        # Reading the loss waits for the GPU, so it comes before the clock is read.
        loss = float(self.summed_loss) / self.summed_steps if due else None
        self.seconds += time.perf_counter() - self.started
        if due:
            self.row(trainer, "train", loss, gradient_norm=float(module.gradient_norm))
            self.summed_loss, self.summed_steps = 0.0, 0
        if step % self.config.eval_every == 0 or last:
            self.row(trainer, "val", self.evaluate(trainer, module))

    @torch.no_grad()
    def evaluate(self, trainer: L.Trainer, module: LanguageModel) -> float:
        """Mean loss over the first `eval_batches` validation batches, in nats per token."""
        module.eval()
        total, count = 0.0, 0
        for batch in islice(trainer.datamodule.val_dataloader(), self.config.eval_batches):
            inputs, targets = batch.inputs.to(module.device), batch.targets.to(module.device)
            with trainer.precision_plugin.forward_context():
                total += float(next_token_loss(module.gpt(inputs), targets)) * targets.numel()
            count += targets.numel()
        module.train()
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


class Keeper(L.Callback):
    """Between two steps, after the rows are written: save what is due, wait while paused, stop when told to."""

    def __init__(self, run: Run, control: Control, bar: tqdm | None):
        self.run, self.control, self.bar = run, control, bar

    def on_train_batch_end(
        self, trainer: L.Trainer, module: LanguageModel, outputs: object, batch: TokenBatch, batch_idx: int
    ) -> None:
        step, last = trainer.global_step, trainer.global_step == module.config.steps
        self.run.step = step
        if self.bar is not None:
            self.show(last)
        if self.control.paused:
            self.save(trainer, module, batch)  # whatever happens during a long pause, nothing is lost
            self.control.wait_while_paused()
        if self.control.stopped and not last:
            trainer.should_stop = True
        if trainer.should_stop or last or step % module.config.checkpoint_every == 0:
            self.save(trainer, module, batch)

    def save(self, trainer: L.Trainer, module: LanguageModel, batch: TokenBatch) -> None:
        module.check(batch)  # what is kept is good: training can go on from it
        if self.run.path:
            file = checkpoint_file(self.run.path, self.run.step)
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as partial:
                trainer.save_checkpoint(partial)
            keep_newest(self.run.path, module.config.keep_checkpoints)
        self.run.folder.rows.compact()
        self.run.keep(module.gpt.state_dict())
        self.run.saved_step = self.run.step
        self.run.write_status()

    def show(self, last: bool) -> None:
        trained = [row for row in self.run.rows if row["split"] == "train"][-2:]
        if trained and (trained[-1]["step"] == self.run.step or last):
            tokens, seconds = (
                trained[-1][key] - (trained[0][key] if trained[1:] else 0) for key in ("tokens", "seconds")
            )
            train, val = trained[-1]["loss"], self.run.losses("val")[-1]
            self.bar.set_postfix_str(
                f"loss {train:.3f}, val {val:.3f}, {tokens / seconds:,.0f} tokens/s", refresh=False
            )
        self.bar.update(self.run.step - self.bar.n)


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

    Raises ValueError for data whose context or vocabulary does not fit the model, for an `out` that holds a run with
    other settings or a damaged one, or into which another process is training, for a machine that lacks the wanted
    accelerator or precision, and for a model that needs more memory than there is.
    """
    train = train or TrainConfig()
    control = control or Control()
    accelerator = pick_accelerator(train.accelerator)
    precision = pick_precision(train.precision, accelerator)
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
        path=Path(out) if out else None,
    )
    with alone_in(run.path), enough_memory(model):
        run, checkpoint = open_run(run)
        if not run.finished:
            train_run(run, checkpoint, data, accelerator, precision, control, on_row, progress)
    return run


def train_run(
    run: Run,
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
    module = LanguageModel(GPT(run.model_config, seed=train.seed), train)
    if run.path and not checkpoint:
        run.create()

    def write(row: dict) -> None:
        row = {"run": run.name, "activation": run.model_config.activation, **row}
        run.append(row)
        if on_row is not None:
            on_row(row)

    data.start_step = run.step
    bar = tqdm(total=train.steps, initial=run.step, desc=run.name, unit="step", mininterval=0.3) if progress else None
    quiet_lightning()
    with stop_on_interrupt(control), bar or contextlib.nullcontext():
        trainer = L.Trainer(
            max_steps=train.steps,
            min_epochs=0,  # a stop may come at any step
            accelerator=accelerator,
            devices=1,
            precision=precision,
            callbacks=[Meter(train, write), Keeper(run, control, bar)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            run.status = "finished" if run.step == train.steps else "stopped"
        except SystemExit:  # what Lightning makes of a second interrupt would end a notebook's kernel
            raise KeyboardInterrupt from None
        except Diverged as error:
            kept = f" (the checkpoint of step {run.saved_step} is kept)" if run.saved_step else ""
            run.status = "diverged"
            run.message = f"training stopped because it diverged: {error}{kept}; lower the learning rate"
            warnings.warn(f"{run.name}: {run.message}", stacklevel=2)
    run.write_status()
    if run.status == "stopped" and progress:
        way_on = "run this again to go on" if run.path else "without `out` nothing was saved"
        print(f"{run.name}: stopped after step {run.step} of {train.steps}; {way_on}")


@contextlib.contextmanager
def enough_memory(model: GPTConfig) -> Iterator[None]:
    """Say in one line, as a ValueError, that a model takes more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:  # on a CPU torch has no type of its own for it
        if not (isinstance(error, MemoryError) or re.search("out of memory|allocate memory|[Oo]verflow", str(error))):
            raise
        raise ValueError(
            f"training a model of {model.n_parameters:,} parameters takes more memory than there is: "
            "choose a smaller model, context or batch_size"
        ) from error


def open_run(run: Run) -> tuple[Run, Path | None]:
    """The run that is in this one's folder, cut back to its last checkpoint, and that checkpoint; else `run`, None.

    Raises ValueError for a run with other settings, and for a damaged one.
    """
    if run.path is None or not (run.path / "config.json").is_file():
        return run, None
    held = Run.load(run.path)
    different = differing_fields(run.config(), held.config())
    if different:
        raise ValueError(
            f"{run.path} holds another run ({'; '.join(different)}): choose another folder, or delete that one"
        )
    if held.finished:
        return held, None
    found = newest_whole(held.path)
    if found.file is None:
        return run, None
    for file in found.damaged:
        file.unlink()  # or it would count among the newest
    if found.damaged:
        lost = f"{found.damaged[0].name} is damaged ({found.reason})"
        warnings.warn(f"{held.name}: {lost}; training goes on from step {found.step}", stacklevel=3)
    if held.lost:
        warnings.warn(f"{held.name}: lost from {held.path}: {held.lost}", stacklevel=3)
    held.step = held.saved_step = found.step
    held.folder.rows.cut(held.step)
    held.status, held.message = "running", ""
    held.write_status()
    return held, found.file


@contextlib.contextmanager
def stop_on_interrupt(control: Control) -> Iterator[None]:
    """In the main thread, turn the first interrupt into `control.stop()`; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        if control.stopped:
            raise KeyboardInterrupt
        control.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def quiet_lightning() -> None:
    """Leave out Lightning's lines about hardware, loaders and its own products: the bar says what a learner needs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch")
