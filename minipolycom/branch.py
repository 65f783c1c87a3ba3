"""Branches: a run taken up again from any of its steps, with one thing changed; both curves are kept.

The folder of a branch is that of a run. In its config.json, `parent` names the run that it leaves, the step, and what
was changed; `start.ckpt` is the checkpoint that it began with.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from minipolycom.control import Control
from minipolycom.hardware import pick_accelerator, pick_precision
from minipolycom.lifecycle import open_run
from minipolycom.model import GPT
from minipolycom.runs import Run, alone_in, differing_fields, reading
from minipolycom.text import TokenData
from minipolycom.train import LanguageModel, TrainConfig, numbered_as_in_model, train_run
from minipolycom.train import learning_rate as scheduled

START = "start.ckpt"
ONE_PROCESS = {"devices": 1, "num_nodes": 1, "strategy": "auto"}


def branch(
    data: TokenData,
    run: Run,
    step: int,
    *,
    out: Path | str,
    name: str | None = None,
    activation: str | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    on_row: Callable[[dict], None] | None = None,
    control: Control | None = None,
    progress: bool = True,
) -> Run:
    """A new run in the folder `out` that has `run`'s rows up to `step` and goes on from there, with changes or without.

    With nothing changed, rows and weights are those of `run` to the last bit on a CPU, but for what clocks say. What
    can change:

    activation      of the feed-forward. A tensor of the new model whose name and shape the old one has is carried over
                    with its optimizer state; any other starts as in a new model of the run's seed, without a history.
    learning_rate   the peak; the schedule keeps its shape, and goes on at `step`.
    seed            what is drawn from now on: the batches, and the tensors that start anew.

    Where `step` has no checkpoint, the run is first trained again from the nearest one before it, or from its
    beginning, with its own settings. A branch from step 0 is a new run with the changed settings. `data` give the text
    that `run` was trained on; the seed of the batches is the run's. `on_row` is called with each row that is measured
    anew, under the name of the branch. Called again with the same `out`, an interrupted branch goes on. It runs in one
    process, whatever `run` ran in.

    Raises ValueError for a run in memory, a step that the run has not reached or at which it ends, a step of a branch
    before it began, other data, an `out` that holds another run, and where no checkpoint to begin with is left.
    """
    check_step(run, step)
    check_data(run, data)
    new = changed_run(run, step, Path(out), name, activation, learning_rate, seed)
    if new.path.resolve() == run.path.resolve():
        raise ValueError(f"{out} holds the run to branch from, which is kept: give the branch a folder of its own")
    machine = machine_of(new.train_config)
    control = control or Control()
    with alone_in(new.path):
        new, checkpoint = open_run(new)
        if new.finished:
            return new
        if checkpoint is None and step:
            checkpoint = begin(new, run, step, data, control, progress)
        if checkpoint is not None or not step:
            batches = seeded(data, new.data["seed"])
            train_run(new, new.path, checkpoint, batches, *machine, control, on_row, progress)
    return new


def check_step(run: Run, step: int) -> None:
    """Raise ValueError unless a branch may leave the run at this step."""
    if run.path is None:
        raise ValueError(
            f"run {run.name!r} lives in memory and has no checkpoints to branch from: train it with out=FOLDER"
        )
    last = max([run.step, *(row["step"] for row in run.rows)])
    if not 0 <= step <= last:
        raise ValueError(f"step {step} is not among those of run {run.name!r}: it has come from 0 to {last}")
    if step == run.train_config.steps:
        raise ValueError(f"run {run.name!r} ends at step {step}, and nothing follows: branch from an earlier step")
    if run.parent and step < run.parent["step"]:
        raise ValueError(
            f"run {run.name!r} began at step {run.parent['step']} as a branch of {run.parent['name']!r}: "
            f"for step {step}, branch from that one"
        )


def check_data(run: Run, data: TokenData) -> None:
    """Raise ValueError unless these are the run's data, up to the seed of the batches, and prepare them."""
    data.prepare_data()
    data.setup("fit")
    ours, theirs = ({**held, "seed": None} for held in ({**data.settings, "content": data.key}, run.data))
    if different := differing_fields(ours, theirs):
        raise ValueError(
            f"run {run.name!r} was trained on other data ({'; '.join(different)}): give those it was trained on"
        )


def seeded(data: TokenData, seed: int) -> TokenData:
    """The same text, in the batches of this seed."""
    data = copy.copy(data)
    data.seed = seed
    return data


def machine_of(train: TrainConfig) -> tuple[str, str]:
    """The accelerator and the precision that a training gets here."""
    accelerator = pick_accelerator(train.accelerator)
    return accelerator, pick_precision(train.precision, accelerator)


def changed_run(
    run: Run,
    step: int,
    out: Path,
    name: str | None,
    activation: str | None,
    learning_rate: float | None,
    seed: int | None,
) -> Run:
    """The run that a branch is, before it has any rows."""
    was = {
        "activation": run.model_config.activation,
        "learning_rate": run.train_config.learning_rate,
        "seed": run.train_config.seed,
    }
    given = {"activation": activation, "learning_rate": learning_rate, "seed": seed}
    changed = {key: {"from": was[key], "to": value} for key, value in given.items() if value not in (None, was[key])}
    told = [f"{key.replace('_', ' ')} {value['to']}" for key, value in changed.items()]
    train, tokens = replace(run.train_config, **ONE_PROCESS), run.data
    if learning_rate is not None:
        train = replace(train, learning_rate=learning_rate)
    if seed is not None:
        train, tokens = replace(train, seed=seed), {**tokens, "seed": seed}
    return Run(
        name=name or ", ".join([f"{run.name} from step {step}", *told]),
        model_config=replace(run.model_config, activation=activation or run.model_config.activation),
        train_config=train,
        data=tokens,
        tokenizer=run.tokenizer,
        parent={"name": run.name, "step": step, "changed": changed},
        path=out,
    )


def begin(new: Run, run: Run, step: int, data: TokenData, control: Control, progress: bool) -> Path | None:
    """Write the folder of a branch up to the step at which it begins, and return the checkpoint that it begins with.

    None where `control` stopped it before.
    """
    start, replay = new.path / START, new.path / ".replay"
    shutil.rmtree(replay, ignore_errors=True)  # of an earlier attempt that was killed
    replay.mkdir(parents=True)
    try:
        if not start.is_file():
            file = run_again(run, step, replay, data, control, progress)
            if file is None:
                new.status, new.message = "stopped", f"stopped before step {step}, where it begins"
                return None
            with reading(file):
                held = torch.load(file, weights_only=True, map_location="cpu")
            torch.save(carried_over(held, run, new, step), replay / START)
        new.create()  # its settings stand in the folder before the checkpoint that belongs to them
        if not start.is_file():
            (replay / START).replace(start)
    finally:
        shutil.rmtree(replay, ignore_errors=True)
    for table in run.tables:
        for row in run.table(table):
            if row["step"] <= step:
                new.append(row | ({"run": new.name} if "run" in row else {}), table)
    new.folder.rows.compact()
    new.step = new.saved_step = step
    new.write_status()
    return start


class Until(Control):
    """Stops a run after a step, and before it when another control says so; it pauses as that one does."""

    def __init__(self, run: Run, step: int, control: Control):
        self.run, self.step, self.control = run, step, control
        self.stop, self.wait_while_paused = control.stop, control.wait_while_paused

    @property
    def paused(self) -> bool:
        return self.control.paused

    @property
    def stopped(self) -> bool:
        return self.control.stopped or self.run.step >= self.step


def run_again(run: Run, step: int, folder: Path, data: TokenData, control: Control, progress: bool) -> Path | None:
    """A checkpoint of a run at a step: the one that it kept, or one made by training again from the nearest before.

    None where `control` stopped that training. Raises ValueError where there is none to begin with.
    """
    kept = run.checkpoints()
    if run.parent and (run.path / START).is_file():
        kept[run.parent["step"]] = run.path / START
    nearest = max((at for at in kept if at <= step), default=0)
    if nearest == step:
        return kept[step]
    if not nearest and run.parent and run.parent["step"]:
        raise ValueError(
            f"run {run.name!r} has no checkpoint left at or before step {step}: "
            "train with keep_checkpoints=0, which keeps all"
        )
    again = Run(
        name=run.name,
        model_config=run.model_config,
        train_config=replace(run.train_config, keep_checkpoints=1, **ONE_PROCESS),
        data=run.data,
        tokenizer=run.tokenizer,
        step=nearest,
        path=folder,
    )
    if progress:
        print(f"{run.name}: step {step} has no checkpoint; training again from step {nearest} to there")
    batches = seeded(data, run.data["seed"])
    until = Until(again, step, control)
    train_run(again, folder, kept.get(nearest), batches, *machine_of(again.train_config), until, None, False)
    if again.status == "diverged":
        raise ValueError(f"run {run.name!r}, trained again up to step {step}, diverged as it had not: {again.message}")
    return again.checkpoints()[step] if again.step == step else None


def carried_over(checkpoint: dict, run: Run, new: Run, step: int) -> dict:
    """The checkpoint of a run at a step, as that of a new run: see `branch` for what is carried over.

    Raises ValueError for a checkpoint of other settings than the run's.
    """
    before = LanguageModel(GPT(run.model_config), run.train_config)
    after = LanguageModel(GPT(new.model_config, seed=new.train_config.seed), new.train_config)
    before.on_load_checkpoint(checkpoint)
    old, fresh = checkpoint["state_dict"], after.state_dict()
    carried = {name for name in fresh if name in old and old[name].shape == fresh[name].shape}
    made = after.configure_optimizers()["optimizer"]
    order_before, order_after = ([name for name, _ in module.named_parameters()] for module in (before, after))
    (held,), (schedule,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    states = {name: held["state"][i] for i, name in enumerate(order_before) if i in held["state"]}
    # The product that LambdaLR forms: another order of the factors could round to another number.
    peak = new.train_config.learning_rate
    rate = peak * (scheduled(step, new.train_config) / peak)
    groups = numbered_as_in_model(made.state_dict(), made, after.gpt)["param_groups"]
    # The clock goes on where the last row left it: training again may have taken more or less time.
    seconds = max((row["seconds"] for row in run.rows if row["step"] <= step), default=0.0)
    meter = checkpoint["callbacks"]["Meter"]
    return checkpoint | {
        "config": after.settings,
        "state_dict": fresh | {name: old[name] for name in carried},
        "optimizer_states": [
            {
                "state": {i: states[name] for i, name in enumerate(order_after) if name in carried & states.keys()},
                "param_groups": [group | {"lr": rate} for group in groups],
            }
        ],
        "lr_schedulers": [schedule | {"base_lrs": [peak] * len(groups), "_last_lr": [rate] * len(groups)}],
        "callbacks": checkpoint["callbacks"] | {"Meter": meter | {"seconds": max(seconds, meter["seconds"])}},
    }
