"""The life of a run, whatever it trains: begun or taken up again, kept between two steps, ended in one of its ways."""

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import lightning as L
from lightning.pytorch.profilers import PassThroughProfiler
from tqdm.auto import tqdm

from minipolycom.checkpoints import checkpoint_file, keep_newest, newest_whole
from minipolycom.control import Control, Diverged, Unwritable, quiet_lightning, stop_on_interrupt, way_on, writing
from minipolycom.distributed import Workers, full_weights, is_severed
from minipolycom.runs import BaseRun, alone_in, differing_fields, replacing, write_json


class Measuring(Protocol):
    """What a callback that measures a training tells the others."""

    @property
    def ended(self) -> bool:
        """Whether the training is over, though steps are left."""

    def message(self, run: BaseRun) -> str:
        """What is to be said of the run at its end; empty where nothing is."""

    def progress(self, run: BaseRun) -> str:
        """What the progress bar says beside the step; empty where nothing new is known."""


@contextlib.contextmanager
def opened(run: BaseRun, folder: Path | None) -> Iterator[tuple[BaseRun, Path | None]]:
    """The run that `folder` holds, or `run` itself, and the checkpoint from which it goes on; nobody else trains it.

    `run` has the folder as its path in the process that writes; the others follow it.
    """
    with alone_in(run.path):
        yield open_run(run) if run.path else join_run(run, folder)


def open_run(run: BaseRun) -> tuple[BaseRun, Path | None]:
    """The run that is in this one's folder, cut back to its last checkpoint, and that checkpoint; else `run`, None.

    Raises ValueError for a run with other settings, and for a damaged one.
    """
    if not (run.path / "config.json").is_file():
        return run, None
    held = type(run).load(run.path)
    different = differing_fields(what_it_computes(run), what_it_computes(held))
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
        warnings.warn(f"{held.name}: {lost}; training goes on from step {found.step}", stacklevel=5)
    if held.lost:
        warnings.warn(f"{held.name}: lost from {held.path}: {held.lost}", stacklevel=5)
    held.step = held.saved_step = found.step
    held.folder.rows.cut(held.step)
    held.status, held.message, held.train_config = "running", "", run.train_config
    write_json(held.path / "config.json", held.config())
    held.write_status()
    return held, found.file


def join_run(run: BaseRun, folder: Path | None) -> tuple[BaseRun, Path | None]:
    """What a process that does not write takes from the folder where the first one opens the run."""
    if folder is None or not (folder / "status.json").is_file():
        return run, None
    held = type(run).load(folder)
    if held.finished:
        return held, None
    found = newest_whole(folder)
    run.step = run.saved_step = found.step
    return run, found.file


def what_it_computes(run: BaseRun) -> dict:
    """The settings of a run but for those that only say how it is computed."""
    config = run.config()
    return config | {"train": what_counts(config["train"], run.train_config.HOW)}


def what_counts(train: dict, how: Sequence[str]) -> dict:
    """The settings of a training but for those named in `how`."""
    return {name: value for name, value in train.items() if name not in how}


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's own, which makes a context anew for each of the twenty hooks of a step."""

    nothing = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.AbstractContextManager:
        return self.nothing


class Keeper(L.Callback):
    """Between two steps, after the rows are written: save what is due, wait while paused, stop when told to.

    `folder` is where checkpoints go, the same in all processes; `run` has it as its path in the one that writes.
    """

    def __init__(self, run: BaseRun, folder: Path | None, control: Control, meter: Measuring, bar: tqdm | None):
        self.run, self.folder, self.control, self.meter, self.bar = run, folder, control, meter, bar

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.strategy.broadcast(trainer.global_step) != trainer.global_step:
            raise ValueError(f"the processes see different checkpoints in {self.folder}: put it on a disk they share")
        if threading.current_thread() is threading.main_thread():
            # Lightning has put its own way before ours, which saves nothing and talks to processes that may be gone.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        step, config = trainer.global_step, self.run.train_config
        last, row_due = step == config.steps, step % config.log_every == 0
        self.run.step = step
        if self.bar is not None:
            self.show(row_due or last)
        if self.control.paused and trainer.world_size == 1:
            self.save(trainer, module, batch)  # whatever happens during a long pause, nothing is lost
            self.control.wait_while_paused()
        if self.told_to_stop(trainer, row_due) and not last:
            trainer.should_stop = True
        if trainer.should_stop or last or step % config.checkpoint_every == 0:
            self.save(trainer, module, batch)

    def told_to_stop(self, trainer: L.Trainer, row_due: bool) -> bool:
        """Whether the control of any process says so; several ask each other only when a row is due."""
        if trainer.world_size == 1:
            return self.control.stopped
        return row_due and trainer.strategy.reduce_boolean_decision(self.control.stopped, all=False)

    def save(self, trainer: L.Trainer, module: L.LightningModule, batch: object) -> None:
        module.check(batch)  # what is kept is good: training can go on from it
        weights = full_weights(trainer)
        with writing(self.run):
            if self.folder:
                file = checkpoint_file(self.folder, self.run.step)
                with replacing(file) if self.run.path else contextlib.nullcontext(file) as partial:
                    trainer.save_checkpoint(partial)  # in which all processes take part, and one writes
            self.run.folder.rows.compact()
            self.run.keep(weights)
            self.run.saved_step = self.run.step
            self.run.write_status()
            if self.run.path:
                keep_newest(self.run.path, self.run.train_config.keep_checkpoints)

    def show(self, news: bool) -> None:
        if news and (said := self.meter.progress(self.run)):
            self.bar.set_postfix_str(said, refresh=False)
        self.bar.update(self.run.step - self.bar.n)


def train_until_it_ends(
    run: BaseRun,
    folder: Path | None,
    checkpoint: Path | None,
    module: L.LightningModule,
    data: L.LightningDataModule,
    meter: Measuring,
    control: Control,
    *,
    first: bool,
    progress: bool,
    n_processes: int,
    recorders: Sequence[L.Callback] = (),
    **machine: object,
) -> None:
    """Train from a checkpoint, or from the beginning, until the run ends in one of its ways, and say which.

    `first` says whether this process is the one that writes and speaks. `machine` is what the Trainer is told of
    accelerator, devices, strategy and precision.
    """
    steps, shown = run.train_config.steps, progress and first
    bar = tqdm(total=steps, initial=run.step, desc=run.name, unit="step", mininterval=0.3) if shown else None
    workers = Workers()
    watchers = [workers] if n_processes > 1 else []  # a callback costs time at each step
    quiet_lightning()
    with stop_on_interrupt(control), bar or contextlib.nullcontext():
        trainer = L.Trainer(
            max_steps=steps,
            min_epochs=0,  # a stop may come at any step
            callbacks=[meter, *recorders, Keeper(run, folder, control, meter, bar), *watchers],
            profiler=NoProfiler(),
            use_distributed_sampler=False,  # the data know their share
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **machine,
        )
        with ending(run, workers, first):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            run.status = "finished" if run.step == steps or meter.ended else "stopped"
            run.message = meter.message(run)
    with writing(run):
        run.write_status()
    if shown and run.step < steps and run.status != "diverged":
        print(f"{run.name}: {run.status} after step {run.step} of {steps}; {run.message or way_on(run)}")


@contextlib.contextmanager
def ending(run: BaseRun, workers: Workers, first: bool) -> Iterator[None]:
    """Give a run that does not come to its end the status and the message of what ended it.

    A run that diverged is a result, and told in a warning; a full disk and a lost process raise an error.
    """
    try:
        yield
    except SystemExit:  # what Lightning makes of a second interrupt would end a notebook's kernel
        raise KeyboardInterrupt from None
    except Diverged as error:
        kept = f" (the checkpoint of step {run.saved_step} is kept)" if run.saved_step else ""
        run.status = "diverged"
        run.message = f"training stopped because it diverged: {error}{kept}; lower the learning rate"
        if first:
            warnings.warn(f"{run.name}: {run.message}", stacklevel=5)
    except Unwritable as error:
        workers.end_others()
        run.status, run.message = "stopped", str(error)
        with contextlib.suppress(OSError):
            run.write_status()
        raise
    except BaseException as error:
        if is_severed(error):
            workers.wait_for_news()
        workers.end_others()
        if not (workers.lost or is_severed(error)):
            raise
        run.status = "stopped"
        run.message = f"{workers.lost or 'another process of this training is gone'}, after step {run.step}"
        run.write_status()
        raise ChildProcessError(
            f"{run.name}: {run.message}; run this again to go on from step {run.saved_step}"
        ) from error
    finally:
        workers.over.set()
