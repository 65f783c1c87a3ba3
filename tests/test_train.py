"""Training: the schedule, the groups, `fit` in its three places, stopping, going on, diverging."""

import errno
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.checkpoints import checkpoint_file, checkpoints
from minipolycom.control import Control, Diverged, stop_on_interrupt
from minipolycom.model import GPT, GPTConfig
from minipolycom.runs import Run
from minipolycom.text import TokenData
from minipolycom.train import (
    PRESET_TRAINING,
    LanguageModel,
    TrainConfig,
    fit,
    learning_rate,
    parameter_groups,
)

SHAPE = {"n_layers": 1, "n_heads": 2, "d_model": 16, "context": 16}
QUICK = {"steps": 24, "log_every": 4, "eval_every": 8, "eval_batches": 2, "checkpoint_every": 5, "warmup_steps": 4}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    words = np.random.default_rng(0).choice(["sum", "product", "power", "row", "mean", "root", "of", "the"], 8000)
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text(" ".join(words))
    return file


@pytest.fixture
def data(text, tmp_path):
    return TokenData(f"files:{text}", context=16, batch_size=4, cache_dir=tmp_path / "cache")


def train(data, out=None, activation="polynorm", **more):
    options = {key: more.pop(key) for key in ("control", "on_row", "name") if key in more}
    return fit(
        data,
        GPTConfig(**SHAPE, activation=activation),
        TrainConfig(**QUICK | more),
        out=out,
        progress=False,
        **options,
    )


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def same_weights(one: Run, two: Run) -> bool:
    first, second = one.model().state_dict(), two.model().state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


# -- the pieces ------------------------------------------------------------------------------------------------------


def test_the_learning_rate_warms_up_linearly_and_falls_by_a_cosine():
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=1.0, min_learning_rate_ratio=0.1)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[60] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[110] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("tied", [False, True])
def test_only_matrices_decay(tied):
    gpt = GPT(GPTConfig(**SHAPE, tied=tied))
    decayed, kept = parameter_groups(gpt, 0.1)
    names = {id(p): name for name, p in gpt.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in decayed["params"]} == {"qkv", "out", "up", "down"} | (
        set() if tied else {"head"}
    )
    assert {names[id(p)].split(".")[-2] for p in kept["params"]} == {
        "embedding", "attention_norm", "feed_forward_norm", "norm", "activation",
    }  # fmt: skip
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(kept["params"]) == len(list(gpt.parameters()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": -1e-3}, "learning_rate is positive; got -0.001"),
        ({"learning_rate": math.nan}, "learning_rate is a finite number; got nan"),
        ({"learning_rate": "3e-4"}, "learning_rate is a finite number; got '3e-4'"),
        ({"weight_decay": math.nan}, "weight_decay is a finite number"),
        ({"steps": 2.5}, "steps is a whole number; got 2.5"),
        ({"steps": True}, "steps is a whole number; got True"),
        ({"warmup_steps": math.inf}, "warmup_steps is a whole number; got inf"),
        ({"seed": 1.5}, "seed is a whole number; got 1.5"),
        ({"seed": 2**70}, "seed is a whole number from 0 to 2"),
        ({"seed": -1}, "seed is a whole number from 0 to 2"),
        ({"steps": 0}, "steps is at least 1"),
        ({"beta2": 1.0}, "beta2 lies in"),
        ({"weight_decay": -1.0}, "weight_decay is not negative"),
        ({"min_learning_rate_ratio": 2.0}, "min_learning_rate_ratio lies in"),
        ({"precision": "half"}, "unknown precision 'half'; known: auto, 32-true"),
        ({"accelerator": "tpu"}, "unknown accelerator 'tpu'; known: auto, cpu, cuda"),
        ({"strategy": "zero"}, "unknown strategy 'zero'; known: auto, ddp, fsdp"),
        ({"strategy": "fsdp", "precision": "16-mixed"}, "fsdp goes with precision 32-true or bf16-mixed; got 16-mixed"),
        ({"accumulate": 0}, "accumulate is at least 1; got 0"),
        ({"devices": 0}, "devices is at least 1; got 0"),
        ({"num_nodes": 0}, "num_nodes is at least 1; got 0"),
        ({"patience": -1}, "patience is not negative; got -1"),
        ({"keep_checkpoints": -1}, "keep_checkpoints is not negative; got -1"),
        ({"compile": 1}, "compile is True or False; got 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


def test_every_preset_has_valid_training():
    for values in PRESET_TRAINING.values():
        TrainConfig(**{key: value for key, value in values.items() if key != "batch_size"})


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_each_activation_learns(data, activation):
    run = train(data, activation=activation, steps=40, learning_rate=1e-2)
    assert run.finished
    assert run.losses("val")[-1] < run.losses("val")[0] - 0.5
    assert run.losses("val")[0] == pytest.approx(math.log(256), abs=0.5)


def test_rows_say_what_was_measured_and_when(data):
    heard = []
    run = train(data, on_row=heard.append, name="mine")
    assert heard == run.rows
    assert [row["step"] for row in run.rows if row["split"] == "val"] == [0, 8, 16, 24]
    assert [row["step"] for row in run.rows if row["split"] == "train"] == [4, 8, 12, 16, 20, 24]
    row = run.rows[-1]
    assert row["run"] == "mine"
    assert row["activation"] == "polynorm"
    assert row["tokens"] == 24 * 4 * 16
    assert row["learning_rate"] == pytest.approx(learning_rate(23, run.train_config))
    assert all(row["gradient_norm"] > 0 for row in run.rows if row["split"] == "train")
    seconds = [row["seconds"] for row in run.rows]
    assert seconds == sorted(seconds)


def test_the_train_rows_hold_the_mean_over_their_interval(data):
    every = train(data, log_every=1).losses("train")
    fourth = train(data, log_every=4).losses("train")
    assert fourth == pytest.approx(np.reshape(every, (6, 4)).mean(axis=1).tolist(), rel=1e-6)


def test_the_same_settings_give_the_same_numbers(data):
    first, again = train(data), train(data)
    assert without_time(first.rows) == without_time(again.rows)
    assert same_weights(first, again)


def test_a_run_on_disk_can_be_loaded(data, tmp_path):
    run = train(data, tmp_path / "run")
    loaded = Run.load(tmp_path / "run")
    assert loaded.finished
    assert loaded.rows == run.rows
    assert loaded.model_config == run.model_config
    assert loaded.train_config == run.train_config
    assert same_weights(loaded, run)
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("né")) == "né"
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json", "rows", "journal.jsonl", "status.json", "environment.json", "tokenizer.json",
        "model.safetensors", "checkpoints", ".lock",
    }  # fmt: skip


def test_a_finished_run_is_returned_at_once(data, tmp_path):
    first = train(data, tmp_path / "run")
    again = train(data, tmp_path / "run", on_row=lambda row: pytest.fail("it trained again"))
    assert again.rows == first.rows


def test_training_works_in_a_background_thread(data):
    found = []
    thread = threading.Thread(target=lambda: found.append(train(data)))
    thread.start()
    thread.join(60)
    assert found[0].finished
    assert without_time(found[0].rows) == without_time(train(data).rows)


# -- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop_at", "precision"), [*((at, "32-true") for at in (1, 5, 8, 11, 23)), (11, "64-true")])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(data, tmp_path, stop_at, precision):
    how = {"log_every": 1, "precision": precision}
    whole = train(data, **how)
    control = Control()
    stopped = train(
        data, tmp_path / "run", control=control, on_row=lambda row: control.stop() if row["step"] == stop_at else None,
        **how,
    )  # fmt: skip
    assert (stopped.status, stopped.step) == ("stopped", stop_at)
    resumed = train(data, tmp_path / "run", **how)
    assert resumed.finished
    assert without_time(resumed.rows) == without_time(whole.rows)
    assert without_time(Run.load(tmp_path / "run").rows) == without_time(whole.rows)
    assert same_weights(resumed, whole)


def test_a_crash_between_two_checkpoints_loses_only_what_came_after_the_last(data, tmp_path):
    whole = train(data)

    def crash(row):
        if row["step"] == 16:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(data, tmp_path / "run", on_row=crash)
    resumed = train(data, tmp_path / "run")
    assert without_time(resumed.rows) == without_time(whole.rows)
    assert same_weights(resumed, whole)


def test_an_interrupt_stops_after_the_step_and_the_old_handler_comes_back(data, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run = train(
        data, tmp_path / "run",
        on_row=lambda row: os.kill(os.getpid(), signal.SIGINT) if row["step"] == 4 else None,
    )  # fmt: skip
    assert (run.status, run.step) == ("stopped", 4)
    assert signal.getsignal(signal.SIGINT) is before
    assert train(data, tmp_path / "run").finished


def test_a_request_to_end_is_as_good_as_an_interrupt(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run = train(
        data, tmp_path / "run",
        on_row=lambda row: os.kill(os.getpid(), signal.SIGTERM) if row["step"] == 4 else None,
    )  # fmt: skip
    assert (run.status, run.step, run.saved_step) == ("stopped", 4, 4)
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_has_lost_a_process_is_not_ended_before_it_can_say_so():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(ChildProcessError), stop_on_interrupt(Control()):
            raise ChildProcessError("another process is gone")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


KILLED = """
import os, random, signal, sys, threading
import torch
sys.path.insert(0, sys.argv[1])
from test_train import LONG, TokenData, checkpoints, train
from pathlib import Path

torch.set_num_threads(1)  # or what is forked would wait for threads that it does not have
random, out = random.Random(0), Path(sys.argv[4])
for _ in range(20):
    steps, seconds = random.randrange(12), random.uniform(0, 0.03)
    child = os.fork()
    if child == 0:
        data = TokenData("files:" + sys.argv[2], context=16, batch_size=4, cache_dir=sys.argv[3])
        until = max(checkpoints(out), default=0) + steps
        kill = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        train(data, out, on_row=lambda row: kill.start() if row["step"] == until and not kill.ident else None, **LONG)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, max(checkpoints(out), default=0))
"""
LONG = {"steps": 600, "log_every": 1, "eval_every": 7, "checkpoint_every": 3, "accumulate": 2, "record_every": 0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Python starts twenty times as slowly without fork")
def test_twenty_kills_at_random_moments_change_no_number(data, text, tmp_path):
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, here, text, tmp_path / "cache", tmp_path / "run"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed, saved = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert killed == ("True",) * 20
    steps = [int(step) for step in saved]
    assert steps == sorted(steps)
    assert 30 < steps[-1] < 600, "each goes on from where the one before was"
    run, whole = train(data, tmp_path / "run", **LONG), train(data, **LONG)
    assert without_time(run.rows) == without_time(whole.rows)
    assert same_weights(run, whole)


def test_a_second_interrupt_ends_at_once_and_the_old_handler_comes_back(data, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def twice(row):
        if row["step"] == 8:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", on_row=twice)
    assert signal.getsignal(signal.SIGINT) is before
    assert train(data, tmp_path / "run").finished


def test_pause_holds_training_and_resume_lets_it_go_on(data):
    control, rows = Control(), []

    def pause_at_eight(row):
        rows.append(row)
        if row["step"] == 8 and row["split"] == "val":
            control.pause()

    thread = threading.Thread(target=train, args=(data,), kwargs={"control": control, "on_row": pause_at_eight})
    thread.start()
    while not control.paused:
        time.sleep(0.01)
    time.sleep(0.5)
    assert rows[-1]["step"] == 8, "it went on while paused"
    control.resume()
    thread.join(60)
    assert rows[-1]["step"] == 24


def test_stop_ends_a_paused_training(data):
    control = Control()
    control.pause()
    found = []
    thread = threading.Thread(target=lambda: found.append(train(data, control=control)))
    thread.start()
    time.sleep(0.2)
    control.stop()
    thread.join(60)
    assert found[0].status == "stopped"


HOLDER = """
import sys, time
from minipolycom.runs import alone_in
from pathlib import Path
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_training_into_a_folder_is_refused_until_the_first_is_gone_or_killed(data, tmp_path):
    out = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=r"another process is training into .*run; wait for it, or choose another"):
            train(data, out)
        assert not (out / "config.json").exists()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert train(data, out, steps=4).finished


def test_a_second_training_from_the_same_process_is_refused_too(data, tmp_path):
    def again(row):
        with pytest.raises(ValueError, match="another process is training into"):
            train(data, tmp_path / "run")

    assert train(data, tmp_path / "run", steps=4, on_row=again).finished


def cut(file):
    file.write_bytes(file.read_bytes()[:1000])


def change_one_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, change_one_byte])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_goes_on(data, tmp_path, damage):
    whole = train(data)
    control = Control()
    train(data, tmp_path / "run", control=control, on_row=lambda row: control.stop() if row["step"] == 12 else None)
    assert list(checkpoints(tmp_path / "run")) == [10, 12]
    damage(checkpoint_file(tmp_path / "run", 12))
    with pytest.warns(UserWarning, match=r"step-00000012.ckpt is damaged \(.+\); training goes on from step 10"):
        resumed = train(data, tmp_path / "run")
    assert without_time(resumed.rows) == without_time(whole.rows)
    assert same_weights(resumed, whole)


@pytest.fixture
def largest_file():
    """Sets how large a file may grow, as a full disk would, and takes it back in the end."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_training_in_one_line_and_leaves_what_was_saved(data, tmp_path, largest_file):
    whole = train(data)
    with pytest.raises(
        ValueError,
        match=r"cannot write to .*run \(File too large\): training ends after step 10, the checkpoint of step 5 is "
        "whole; make room, then run this again to go on",
    ):
        train(data, tmp_path / "run", on_row=lambda row: largest_file(20_000) if row["step"] == 8 else None)
    largest_file(10_000_000)
    assert list(checkpoints(tmp_path / "run")) == [5]
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert Run.load(tmp_path / "run").status == "stopped"
    resumed = train(data, tmp_path / "run")
    assert without_time(resumed.rows) == without_time(whole.rows)
    assert same_weights(resumed, whole)


def test_a_disk_without_room_for_a_row_ends_training_in_one_line(data, tmp_path, monkeypatch):
    def full(self, row, table="losses"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Run, "append", full)
    with pytest.raises(
        ValueError, match=r"cannot write to .*\(No space left on device\): .* there is no checkpoint yet"
    ):
        train(data, tmp_path / "run")


def test_a_damaged_table_is_named_once_and_training_goes_on_with_what_is_whole(data, tmp_path):
    whole, control = train(data), Control()
    train(data, tmp_path / "run", control=control, on_row=lambda row: control.stop() if row["step"] == 12 else None)
    file = tmp_path / "run" / "rows" / "losses.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r"lost from .*: rows/losses.parquet cannot be read .* to step 8 are"):
        resumed = train(data, tmp_path / "run")
    assert resumed.finished
    assert without_time(resumed.rows) == [row for row in without_time(whole.rows) if row["step"] > 12]
    assert same_weights(resumed, whole)
    assert Run.load(tmp_path / "run").lost == ""


def test_where_all_checkpoints_are_damaged_the_newest_is_named(data, tmp_path):
    control = Control()
    train(data, tmp_path / "run", control=control, on_row=lambda row: control.stop() if row["step"] == 8 else None)
    for file in checkpoints(tmp_path / "run").values():
        cut(file)
    with pytest.raises(
        ValueError, match=r"is damaged: checkpoints/step-00000008.ckpt \(.*\); restore that file, or delete the folder"
    ):
        train(data, tmp_path / "run")


@pytest.mark.parametrize(("keep", "kept"), [(0, [5, 10, 15, 20, 24]), (1, [24]), (3, [15, 20, 24])])
def test_the_newest_checkpoints_are_kept(data, tmp_path, keep, kept):
    train(data, tmp_path / "run", keep_checkpoints=keep)
    assert list(checkpoints(tmp_path / "run")) == kept


def test_a_folder_with_another_run_is_refused_with_the_differences(data, tmp_path):
    train(data, tmp_path / "run", steps=4)
    with pytest.raises(ValueError, match=r"holds another run \(train.learning_rate: 0.004 there, 0.1 here\)"):
        train(data, tmp_path / "run", steps=4, learning_rate=0.1)


def test_a_file_in_the_place_of_the_folder_is_refused(data, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="is a file: give a folder"):
        train(data, tmp_path / "run")


# -- ending early ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [None, 12])
def test_training_ends_when_the_validation_loss_no_longer_falls(data, tmp_path, stop_at, capsys):
    # Updates so small that no weight changes.
    still = {"learning_rate": 1e-30, "patience": 2, "weight_decay": 0.0}
    control = Control()
    if stop_at:
        train(
            data, tmp_path / "run", control=control,
            on_row=lambda row: control.stop() if row["step"] == stop_at else None, **still,
        )  # fmt: skip
    run = train(data, tmp_path / "run", **still)
    assert run.finished
    assert run.step == 16
    assert run.message.startswith("the validation loss was lowest at step 0 (")
    assert run.message.endswith("2 measurements ago")
    assert Run.load(tmp_path / "run").message == run.message
    assert train(data, tmp_path / "run", on_row=lambda row: pytest.fail("it trained again"), **still).step == 16


# -- what cannot be trained ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_checkpoint(data, tmp_path, monkeypatch):
    good = train(data, tmp_path / "good", steps=24)
    calls = itertools.count(1)
    from minipolycom import train as module

    plain = module.next_token_loss

    def poisoned(logits, targets):
        loss = plain(logits, targets)
        return loss * math.nan if logits.requires_grad and next(calls) == 12 else loss

    monkeypatch.setattr(module, "next_token_loss", poisoned)
    with pytest.warns(UserWarning, match=r"diverged: loss nan.* at step 12 \(the checkpoint of step 10 is kept\)"):
        run = train(data, tmp_path / "run")
    assert run.status == "diverged"
    assert run.step == 11
    assert Run.load(tmp_path / "run").status == "diverged"
    monkeypatch.undo()
    resumed = train(data, tmp_path / "run")  # the poison is gone: from the kept checkpoint the run is the good one
    assert without_time(resumed.rows) == without_time(good.rows)


def module_without_trainer(monkeypatch, precision, scaler=None, world_size=1):
    module = LanguageModel(GPT(GPTConfig(**SHAPE)), TrainConfig())
    trainer = SimpleNamespace(
        precision=precision, precision_plugin=SimpleNamespace(scaler=scaler), world_size=world_size,
        strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor),
    )  # fmt: skip
    monkeypatch.setattr(LanguageModel, "trainer", property(lambda self: trainer))
    monkeypatch.setattr(LanguageModel, "global_step", 0)
    return module, torch.optim.AdamW(module.gpt.parameters(), fused=True)


def test_with_loss_scaling_the_gradient_itself_is_clipped_and_may_overflow(monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    module, optimizer = module_without_trainer(monkeypatch, "16-mixed", scaler)
    scaler.scale(torch.ones(()))
    norms = []
    for value in (1.0, math.inf):
        for parameter in module.gpt.parameters():
            parameter.grad = torch.full_like(parameter, 1024.0 * value)
        module.look_after(module.clip_gradients_of(optimizer))
        norms.append(float(module.gradient_norm))
        scaler.update()
    assert norms[0] == norms[1] == pytest.approx(math.sqrt(module.gpt.n_parameters))


def test_without_loss_scaling_an_overflow_is_divergence_and_the_gradient_is_clipped_before(monkeypatch):
    module, optimizer = module_without_trainer(monkeypatch, "32-true")
    for parameter in module.gpt.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.clip_gradients_of(optimizer)
    gradients = torch.cat([parameter.grad.flatten() for parameter in module.gpt.parameters()])
    assert float(gradients.norm()) == pytest.approx(1.0, abs=1e-4)  # fp32 sums of 10 thousand squares
    with pytest.raises(Diverged, match="at step 1"):
        module.look_after(torch.tensor(math.inf))


def test_where_looking_would_cost_time_the_first_bad_step_is_remembered(monkeypatch):
    module, _ = module_without_trainer(monkeypatch, "32-true", world_size=2)
    for step, norm in enumerate([1.0, math.nan, 1.0, math.inf]):
        monkeypatch.setattr(LanguageModel, "global_step", step)
        module.look_after(torch.tensor(norm))
    with pytest.raises(Diverged, match="at step 2"):
        module.check_finite()


@pytest.mark.compile
def test_a_compiled_model_gives_the_same_losses(data):
    plain, compiled = (train(data, steps=4, compile=compile).losses("train") for compile in (False, True))
    assert compiled == pytest.approx(plain, rel=1e-5)  # sums in another order, in fp32, four steps long


def all_finite(model):
    return all(torch.isfinite(weight).all() for weight in model.parameters())


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("activation", ["polynorm", "polyrelu"])
def test_what_a_diverged_run_keeps_is_good_or_nothing(data, tmp_path, on_disk, activation):
    out = tmp_path / "run" if on_disk else None
    with pytest.warns(UserWarning, match="diverged"):
        run = train(data, out, activation=activation, learning_rate=1e30, checkpoint_every=1, gradient_clip=1e9)
    runs = [run, Run.load(out)] if on_disk else [run]
    for held in runs:
        assert held.status == "diverged"
        assert all(math.isfinite(row["loss"]) for row in held.rows)
        assert held.saved_step == 0, "an update of this size leaves no good weights"
        with pytest.raises(ValueError, match="has no weights yet"):
            held.model()
    if on_disk:
        assert not list(out.glob("*.safetensors"))
        assert not checkpoints(out)


def test_the_last_good_weights_of_a_run_in_memory_stay(data, monkeypatch):
    good = train(data, steps=24, checkpoint_every=6)
    from minipolycom import train as module

    def blow_up(step, config):
        return learning_rate(step, config) if step < 8 else 1e30

    monkeypatch.setattr(module, "learning_rate", blow_up)
    with pytest.warns(UserWarning, match=r"diverged: .*\(the checkpoint of step 6 is kept\)"):
        run = train(data, checkpoint_every=6)
    assert run.saved_step == 6
    assert all_finite(run.model())
    assert without_time(run.rows)[:2] == without_time(good.rows)[:2]


def test_a_validation_loss_that_is_not_finite_ends_training_before_it_is_written(data, tmp_path, monkeypatch):
    from minipolycom import train as module

    plain = module.next_token_loss
    monkeypatch.setattr(
        module, "next_token_loss",
        lambda logits, targets: plain(logits, targets) * (1 if logits.requires_grad else math.inf),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="diverged: validation loss inf at step 0"):
        run = train(data, tmp_path / "run")
    assert run.rows == Run.load(tmp_path / "run").rows == []


@pytest.mark.parametrize("d_model", [10_000_000, 10**20])
def test_a_model_larger_than_the_memory_is_refused_in_one_line(data, tmp_path, d_model):
    shape = GPTConfig(**SHAPE | {"d_model": d_model})
    with pytest.raises(ValueError, match=f"training a model of {shape.n_parameters:,} parameters takes more memory"):
        fit(data, shape, TrainConfig(**QUICK), out=tmp_path / "run", progress=False)
    assert train(data, tmp_path / "run", steps=4).finished, "the folder was taken by a run that never began"


def test_what_the_machine_lacks_is_refused_before_training_but_a_config_may_ask_for_it(data, monkeypatch):
    with pytest.raises(ValueError, match="fp16 training needs a GPU"):
        train(data, precision="16-mixed", accelerator="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device on this machine"):
        train(data, accelerator="cuda")


def test_data_that_does_not_fit_the_model_is_refused(text, tmp_path):
    long = TokenData(f"files:{text}", context=32, batch_size=4, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="context of 32 tokens is longer than the model's, 16"):
        fit(long, GPTConfig(**SHAPE), TrainConfig(**QUICK))
    data = TokenData(f"files:{text}", context=16, batch_size=4, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="256 tokens, the model only 100: make it with vocab_size=256"):
        fit(data, GPTConfig(**SHAPE, vocab_size=100), TrainConfig(**QUICK))
