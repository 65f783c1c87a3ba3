"""Two processes train as one: the same batches, ranks, weights and momentum networks as a single process has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.images import ViewData
from minipolycom.ssl.processes import GlobalBatchNorm, train_as_one
from minipolycom.ssl.runs import SSLRun
from minipolycom.ssl.train import SSLConfig, fit_ssl

# In fp64 what is left is the order of sums; in fp32 a rounding error, once in a batch normalisation, doubles every
# few steps and says nothing about the gathering.
EXACT = {"precision": "64-true", "accelerator": "cpu"}
QUICK = {
    "steps": 6, "warmup_steps": 1, "log_every": 1, "measure_every": 2, "probe_every": 6, "checkpoint_every": 3,
}  # fmt: skip
NETWORK = {"width": 4, "projector_width": 32, "projection": 16, "predictor_width": 8}
METHODS = (
    "symsimsiam", "simsiam", "byol", "swav", "dino", "rdm_simsiam_online", "rdm_simsiam_target", "simclr",
    "barlow_twins", "vicreg",
)  # fmt: skip

PROGRAM = """
import json, sys
from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.images import ViewData
from minipolycom.ssl.train import SSLConfig, fit_ssl
from minipolycom.control import Control

given = json.loads(sys.argv[1])
for method in given["methods"]:
    control = Control()
    def on_row(table, row):
        if row["step"] == given.get("stop_at"):
            control.stop()
    data = ViewData(given["source"], batch_size=16)
    fit_ssl(data, SSLConfig(method=method, **given["config"]), NetworkConfig(**given["network"]),
            out=given["out"] + "/" + method, control=control, on_row=on_row, progress=False)
"""


def in_two_processes(tmp_path: Path, methods: tuple[str, ...], source: str = "digits", **more) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    given = {
        "methods": methods, "source": source, "network": NETWORK, "out": str(tmp_path),
        "config": QUICK | EXACT | {"devices": 2}, **more,
    }  # fmt: skip
    # Each process has one thread, as their sums would else be divided differently.
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, program, json.dumps(given)], capture_output=True, text=True, env=surroundings, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def alone(method: str, source: str = "digits") -> SSLRun:
    data = ViewData(source, batch_size=16)
    return fit_ssl(data, SSLConfig(method=method, **QUICK, **EXACT), NetworkConfig(**NETWORK), progress=False)


def assert_same(one: SSLRun, two: SSLRun) -> None:
    """To the ninth digit, in fp64: six steps of rounding that differs in the sixteenth leave more than that."""
    for table, columns in (("losses", ["loss"]), ("ranks", ["erank_online", "erank_target", "feature_std"])):
        assert len(one.table(table)) == len(two.table(table)) > 0
        for ours, theirs in zip(one.table(table), two.table(table), strict=True):
            assert ours["step"] == theirs["step"]
            for column in columns:
                assert ours[column] == pytest.approx(theirs[column], rel=1e-9, abs=1e-9), (table, column, ours["step"])
    first, second = one.folder.weights(), two.folder.weights()
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-8, atol=1e-9, msg=name)


@pytest.fixture(scope="module")
def runs_of_two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(folder, METHODS)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(runs_of_two, method):
    run = SSLRun.load(runs_of_two / method)
    assert run.finished
    assert_same(run, alone(method))
    assert len(run.table("probes")) == 4  # the first process alone probes


def test_two_processes_stop_and_go_on_as_one(tmp_path):
    in_two_processes(tmp_path, ("rdm_simsiam_target",), "latents", stop_at=4)
    assert (run := SSLRun.load(tmp_path / "rdm_simsiam_target")).status == "stopped"
    assert run.step == 4
    in_two_processes(tmp_path, ("rdm_simsiam_target",), "latents")
    run = SSLRun.load(tmp_path / "rdm_simsiam_target")
    assert run.finished
    assert_same(run, alone("rdm_simsiam_target", "latents"))


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=15 cannot be divided among 2 processes \(devices\)"):
        fit_ssl(ViewData("latents", batch_size=15), SSLConfig(devices=2, **EXACT), progress=False)


def test_every_batch_normalisation_becomes_a_global_one_and_weights_keep_their_names():
    method = SSLConfig(method="byol").make(NetworkConfig(**NETWORK))
    before = method.state_dict()
    train_as_one(method)
    norms = [module for module in method.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 2 * (3 + 2) + 1  # encoder and projector, twice, and the predictor
    assert all(isinstance(norm, GlobalBatchNorm) for norm in norms)
    assert not any(weight.requires_grad for weight in method.momentum_projector.parameters())
    after = method.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_in_one_process_the_global_batch_normalisation_is_torchs(tmp_path):
    """Values, gradients and running statistics, for images, in training and in use."""
    generator = torch.Generator().manual_seed(0)
    x, direction = (torch.randn(8, 3, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    theirs = nn.BatchNorm2d(3).double()
    nn.init.normal_(theirs.weight, generator=generator)
    ours = GlobalBatchNorm(3).double()
    ours.load_state_dict(theirs.state_dict())
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        results = []
        for norm in (theirs, ours):
            given = x.clone().requires_grad_()
            y = norm(given)
            (y * direction).sum().backward()
            in_use = norm.eval()(x)
            results.append((y, given.grad, norm.weight.grad, norm.bias.grad, *norm.buffers(), in_use))
    finally:
        torch.distributed.destroy_process_group()
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other)
