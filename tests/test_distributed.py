"""One training in two processes: the same numbers as in one, whoever starts them, and an end when one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minipolycom.control import Control
from minipolycom.distributed import check_processes
from minipolycom.model import GPTConfig
from minipolycom.runs import Run
from minipolycom.text import TokenData
from minipolycom.train import TrainConfig, fit

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 16, "context": 16}
EXPERTS = {"n_experts": 4, "experts_per_token": 2}
QUICK = {"steps": 16, "log_every": 1, "eval_every": 8, "eval_batches": 5, "checkpoint_every": 5, "warmup_steps": 4}
# Without the losses of the router, which each process forms over its own part of the batch.
DENSE, MOE = ({}, {}), (EXPERTS, {"balance_weight": 0.0, "z_weight": 0.0})
SHARED = {
    "ddp": (*DENSE, {"strategy": "ddp"}),
    "fsdp": (*DENSE, {"strategy": "fsdp"}),
    "ddp in parts": (*DENSE, {"strategy": "ddp", "accumulate": 2}),
    "fsdp in parts": (*DENSE, {"strategy": "fsdp", "accumulate": 2}),
    "experts": (*MOE, {"strategy": "fsdp"}),
    "tied": ({"tied": True}, {}, {"strategy": "fsdp"}),
}

PROGRAM = """
import os, signal, sys, threading, time
from minipolycom import lifecycle
from minipolycom.checkpoints import checkpoints
sys.path.insert(0, {tests!r})
from test_distributed import QUICK, SHAPE, SHARED, Control, GPTConfig, TokenData, TrainConfig, fit
from pathlib import Path

def train(out, shape={{}}, control=None, on_row=None, **settings):
    data = TokenData("files:" + sys.argv[2], context=16, batch_size=8, cache_dir=sys.argv[1] + "/cache")
    settings = TrainConfig(**QUICK | {{"devices": 2}} | settings)
    model = GPTConfig(**SHAPE | shape)
    return fit(data, model, settings, out=Path(sys.argv[1], out), control=control, on_row=on_row, progress=False)

if __name__ == "__main__":
    {main}
"""

TRAIN_ALL = """
    for name, (shape, losses, how) in SHARED.items():
        train(name, shape, **losses, **how)
    for strategy in ("ddp", "fsdp"):
        control = Control()
        stop = lambda row: control.stop() if row["step"] == 8 else None
        assert train("first " + strategy, control=control, on_row=stop, strategy=strategy).status == "stopped"
    train("first ddp", strategy="fsdp")
"""

DIE = """
    def die():
        while max(checkpoints(Path(sys.argv[1], "killed")), default=0) < 10:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("LOCAL_RANK") == "1":
        threading.Thread(target=die, daemon=True).start()
    is_severed = lifecycle.is_severed
    # torchrun asks the one that is left to end, too: here it comes between noticing and saying so
    lifecycle.is_severed = lambda error: os.kill(os.getpid(), signal.SIGTERM) or is_severed(error)
    train("killed", steps=3000)
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    words = np.random.default_rng(0).choice(["sum", "product", "power", "row", "mean", "root", "of", "the"], 8000)
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text(" ".join(words))
    return file


def launch(folder, text, main, by="torchrun"):
    program = folder / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent), main=main.strip()))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if by == "torchrun" else []
    return subprocess.run(
        [sys.executable, *launcher, program, folder, text],
        capture_output=True, text=True, timeout=150, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = launch(folder, text, TRAIN_ALL)
    assert done.returncode == 0, done.stderr
    return folder


def train_alone(text, folder, out=None, shape=(), **settings):
    data = TokenData(f"files:{text}", context=16, batch_size=8, cache_dir=folder / "cache")
    return fit(data, GPTConfig(**SHAPE | dict(shape)), TrainConfig(**QUICK | settings), out=out, progress=False)


def losses(run):
    return [row["loss"] for row in run.rows]


def assert_same(run, alone):
    # The same sums in another order, in fp32: 16 steps make of 1e-7 some 1e-6.
    assert [(row["step"], row["split"]) for row in run.rows] == [(row["step"], row["split"]) for row in alone.rows]
    assert losses(run) == pytest.approx(losses(alone), rel=2e-5)
    ours, theirs = run.model().state_dict(), alone.model().state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_give_what_one_gives_with_the_same_batch(runs, text, tmp_path, name):
    shape, weights_of_losses, _ = SHARED[name]
    run = Run.load(runs / name)
    assert run.finished
    assert_same(run, train_alone(text, tmp_path, shape=shape, **weights_of_losses))


def test_a_run_that_began_with_whole_models_goes_on_with_divided_ones(runs, text, tmp_path):
    run = Run.load(runs / "first ddp")
    assert run.train_config.strategy == "fsdp"
    assert_same(run, train_alone(text, tmp_path))


def test_a_run_that_began_in_two_processes_goes_on_in_one(runs, text, tmp_path):
    assert Run.load(runs / "first fsdp").step == 8
    assert_same(train_alone(text, runs, runs / "first fsdp"), train_alone(text, tmp_path))


def test_parts_of_a_batch_give_what_the_whole_gives(text, tmp_path):
    assert_same(train_alone(text, tmp_path, accumulate=4), train_alone(text, tmp_path))


@pytest.mark.parametrize("by", ["torchrun", "the program itself"])
def test_a_killed_process_ends_the_run_with_a_message_and_it_goes_on(text, tmp_path, by):
    began = time.monotonic()
    done = launch(tmp_path, text, DIE, by)
    assert done.returncode not in (0, -signal.SIGKILL)
    assert "run this again to go on from step" in done.stderr
    assert "process 1 was killed by signal 9" in done.stderr or by == "torchrun"
    assert time.monotonic() - began < 100, "two starts of Python, twenty steps, and no waiting for each other"
    killed = Run.load(tmp_path / "killed")
    assert killed.status == "stopped"
    assert killed.saved_step >= 10
    control = Control()
    data = TokenData(f"files:{text}", context=16, batch_size=8, cache_dir=tmp_path / "cache")
    settings = TrainConfig(**QUICK | {"steps": 3000})
    run = fit(
        data, GPTConfig(**SHAPE), settings, out=tmp_path / "killed", control=control,
        on_row=lambda row: control.stop(), progress=False,
    )  # fmt: skip
    assert run.step == killed.saved_step + 1


STUCK = """
import subprocess, sys, time
from types import SimpleNamespace
from minipolycom import distributed
distributed.GRACE = 0.5
workers, other = distributed.Workers(), subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
launcher = SimpleNamespace(procs=[subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(7)"]), other])
workers.setup(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher)), None, "fit")
time.sleep(60)  # as a GPU's talk would, for half an hour
"""


def test_a_process_that_waits_for_a_lost_one_is_ended():
    # It returns when the last of the three has closed the output: none is left.
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "minipolycom: process 1 ended with code 7, and the others wait for it: training ends" in done.stderr


# -- what cannot be started ------------------------------------------------------------------------------------------


def test_in_a_notebook_several_devices_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    with pytest.raises(ValueError, match=r"a notebook is not a program: .* minipolycom train --devices 2"):
        check_processes(2, 1, "cpu")
    check_processes(1, 1, "cpu")


def test_more_devices_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="devices=4, and this machine has 1 GPUs"):
        check_processes(4, 1, "cuda")


def test_many_machines_need_somebody_who_starts_them():
    with pytest.raises(ValueError, match="started by torchrun or SLURM, for example torchrun --nnodes 2"):
        check_processes(8, 2, "cpu")


def test_what_torchrun_started_and_what_is_wanted_must_agree(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    with pytest.raises(ValueError, match=r"torchrun started 4 processes, and devices \* num_nodes is 2 \* 1"):
        check_processes(2, 1, "cpu")
    check_processes(2, 2, "cpu")


def test_a_batch_that_cannot_be_divided_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match=r"times 3 \(accumulate\) equal parts: batch_size=8 is not divisible by 3"):
        train_alone(text, tmp_path, accumulate=3)
    data = TokenData(f"files:{text}", context=16, batch_size=8, cache_dir=tmp_path)
    data.trainer = SimpleNamespace(global_rank=0, world_size=3)
    with pytest.raises(ValueError, match="batch_size=8 is not divisible among 3 processes"):
        data.setup("fit")


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_shares_of_the_processes_are_the_batch(text, tmp_path, split):
    def batches(rank, n_processes):
        data = TokenData(f"files:{text}", context=16, batch_size=8, cache_dir=tmp_path)
        data.rank, data.n_processes = rank, n_processes
        loader = data.train_dataloader() if split == "train" else data.val_dataloader()
        return [batch for batch, _ in zip(loader, range(40), strict=False)]

    whole = batches(0, 1)
    for batch, *shares in zip(whole, *(batches(rank, 4) for rank in range(4)), strict=True):
        for tokens, parts in zip(batch, zip(*shares, strict=True), strict=True):
            assert torch.equal(torch.cat(parts), tokens)
    assert {len(batch.inputs) for batch in whole} == ({8} if split == "train" else {8, len(whole[-1].inputs)})


def test_the_settings_of_the_processes_are_in_the_folder(runs):
    assert json.loads((runs / "fsdp" / "config.json").read_text())["train"]["devices"] == 2
