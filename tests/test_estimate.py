"""What a training takes: memory refused in one line before it begins, time of the order that it then takes."""

import time
from copy import copy

import numpy as np
import pytest

from minipolycom import estimate as module
from minipolycom.estimate import Estimate, check_batch, estimate, state_bytes
from minipolycom.model import GPT, GPTConfig
from minipolycom.text import TokenData
from minipolycom.train import TrainConfig, fit

SHAPE = GPTConfig(n_layers=2, n_heads=4, d_model=64, context=64)
QUICK = TrainConfig(steps=20, eval_every=10, eval_batches=3, record_every=0, accelerator="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words = np.random.default_rng(0).choice(["sum", "product", "power", "row", "mean", "root", "of", "the"], 8000)
    (folder / "words.txt").write_text(" ".join(words))
    return TokenData(f"files:{folder / 'words.txt'}", context=64, batch_size=8, cache_dir=folder / "cache")


@pytest.mark.timing
def test_an_estimate_is_of_the_order_of_what_it_takes(data):
    fit(data, SHAPE, QUICK, progress=False)  # what is slow once only
    expected = estimate(data, SHAPE, QUICK)
    began = time.perf_counter()
    fit(data, SHAPE, QUICK, progress=False)
    taken = time.perf_counter() - began
    # Half of it for Lightning's start, and twice that for a machine whose load changes.
    assert expected.seconds < 4 * taken
    assert expected.seconds > taken / 20


def test_the_memory_is_that_of_the_weights_and_of_what_each_window_keeps(data):
    gpt = GPT(SHAPE)
    assert state_bytes(SHAPE, QUICK) == 16 * SHAPE.n_parameters
    parts = {n: check_batch(gpt, data, TrainConfig(accelerator="cpu", accumulate=n)) for n in (1, 2, 8)}
    per_window = (parts[1] - parts[2]) / 4
    assert parts[8] == pytest.approx(state_bytes(SHAPE, QUICK) + per_window)
    # At the least: each norm's input (fp32), the feed-forward's two and the attention's four, and the logits twice.
    at_least = 4 * 64 * (SHAPE.n_layers * (2 * 64 + 256 + 4 * 64) + 2 * SHAPE.vocab_size)
    assert at_least < per_window < 6 * at_least
    large = copy(data)
    large.batch_size = 512
    # A window takes the same in any batch.
    assert check_batch(gpt, large, QUICK) == state_bytes(SHAPE, QUICK) + 512 * per_window


def test_divided_weights_take_a_share_each():
    shared = TrainConfig(devices=4, strategy="fsdp", accelerator="cpu")
    assert state_bytes(SHAPE, shared) == 4 * SHAPE.n_parameters
    assert state_bytes(SHAPE, TrainConfig(precision="64-true", accelerator="cpu")) == 32 * SHAPE.n_parameters


def test_a_batch_that_does_not_fit_is_refused_with_the_way_out(data, tmp_path, monkeypatch):
    needed = {n: check_batch(GPT(SHAPE), data, TrainConfig(accelerator="cpu", accumulate=n)) for n in (1, 2)}
    monkeypatch.setattr(module, "free_memory", lambda accelerator: sum(needed.values()) // 2)
    with pytest.raises(
        ValueError, match=r"8 windows at once take at least .* GB, and .* GB are free: .* with a larger accumulate"
    ):
        fit(data, SHAPE, QUICK, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.json").exists()
    in_parts = TrainConfig(steps=2, accumulate=2, record_every=0, accelerator="cpu")
    assert fit(data, SHAPE, in_parts, out=tmp_path / "run", progress=False).finished


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(data, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda accelerator: 10**6)
    monkeypatch.setattr("minipolycom.train.GPT", lambda *_, **__: pytest.fail("it was made"))
    with pytest.raises(ValueError, match=r"takes more memory than there is \(about .* GB, and 0.001 GB are free\)"):
        fit(data, SHAPE, QUICK, progress=False)


def test_where_the_system_does_not_say_what_is_free_training_begins(data, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda accelerator: None)
    assert fit(data, SHAPE, TrainConfig(steps=2, record_every=0, accelerator="cpu"), progress=False).finished


def test_an_estimate_changes_no_number(data):
    config = TrainConfig(steps=5, log_every=1, record_every=0, accelerator="cpu")
    with_it, without = (fit(data, SHAPE, config, progress=progress) for progress in (True, False))
    assert with_it.losses("train") == without.losses("train")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (600, "10 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_an_estimate_is_said_in_words(seconds, words):
    assert str(Estimate(seconds, 1_500_000_000)) == f"about {words} and at least 1.5 GB of memory"


def test_training_with_progress_begins_with_the_estimate(data, capsys):
    fit(data, SHAPE, TrainConfig(steps=2, record_every=0, accelerator="cpu"))
    assert capsys.readouterr().out.startswith("polynorm: 2 steps take about ")
