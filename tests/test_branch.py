"""Branches: exact when nothing changes, from any step; what is carried over when something does; what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from minipolycom.branch import branch
from minipolycom.control import Control
from minipolycom.model import GPT, GPTConfig
from minipolycom.runs import Run, differing_fields
from minipolycom.text import TokenData
from minipolycom.train import TrainConfig, fit, learning_rate

SHAPE = {"n_layers": 1, "n_heads": 2, "d_model": 16, "context": 16}
QUICK = {
    "steps": 24, "log_every": 4, "eval_every": 8, "eval_batches": 2, "checkpoint_every": 5, "warmup_steps": 4,
    "keep_checkpoints": 0, "record_every": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    words = np.random.default_rng(0).choice(["sum", "product", "power", "row", "mean", "root", "of", "the"], 8000)
    folder = tmp_path_factory.mktemp("text")
    (folder / "words.txt").write_text(" ".join(words))
    return TokenData(f"files:{folder / 'words.txt'}", context=16, batch_size=4, cache_dir=folder / "cache")


def train(data, out=None, activation="relu", n_experts=0, **more):
    config = GPTConfig(**SHAPE, activation=activation, n_experts=n_experts)
    return fit(data, config, TrainConfig(**QUICK | more), out=out, name="first", progress=False)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("runs") / "first")


def off(data, run, step, out, **changed):
    return branch(data, run, step, out=out, progress=False, **changed)


TIMES = {"seconds", "tokens_per_second", "memory_bytes"}


def tables(run):
    """Every row that a run wrote, but for its name and what clocks and the system say."""
    return {
        name: [{key: value for key, value in row.items() if key not in TIMES | {"run"}} for row in run.table(name)]
        for name in run.tables
    }


def same_weights(one, two):
    first, second = one.model().state_dict(), two.model().state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


# -- nothing changed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 5, 8, 13, 20, 23])
def test_without_a_change_a_branch_is_the_original_to_the_last_bit(data, run, tmp_path, step):
    """From the beginning, from checkpoints (5, 20), from steps with rows (8, 20) and from others (1, 13, 23)."""
    again = off(data, run, step, tmp_path / "again")
    assert again.finished
    assert tables(again) == tables(run)
    assert tables(Run.load(tmp_path / "again")) == tables(run)
    assert same_weights(again, run)
    seconds = [row["seconds"] for row in again.rows]
    assert seconds == sorted(seconds)
    assert not (tmp_path / "again" / ".replay").exists()


@pytest.mark.parametrize(
    "more", [{"activation": "polynorm"}, {"activation": "swiglu"}, {"activation": "polyrelu", "n_experts": 4}], ids=str
)
def test_it_is_exact_with_coefficients_gates_and_experts_and_few_checkpoints_left(data, tmp_path, more):
    first = train(data, tmp_path / "first", seed=3, keep_checkpoints=2, **more)
    assert min(first.checkpoints()) > 7
    again = off(data, first, 7, tmp_path / "again")
    assert "spectra" in first.tables
    assert tables(again) == tables(first)
    assert same_weights(again, first)


def test_the_run_that_is_left_stays_as_it_is(data, run, tmp_path):
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    off(data, run, 13, tmp_path / "other", activation="polynorm")
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_an_interrupted_branch_goes_on_as_if_nothing_had_happened(data, run, tmp_path):
    whole = off(data, run, 8, tmp_path / "whole", activation="polynorm")
    for stop_at in (12, 20):
        out, control = tmp_path / f"stopped{stop_at}", Control()

        def stop(row, control=control, stop_at=stop_at):
            if row["step"] >= stop_at:
                control.stop()

        stopped = off(data, run, 8, out, activation="polynorm", control=control, on_row=stop)
        assert stopped.status == "stopped"
        resumed = off(data, run, 8, out, activation="polynorm")
        assert tables(resumed) == tables(Run.load(out)) == tables(whole)
        assert same_weights(resumed, whole)


KILLS = {
    "while the run is trained again": (8, "minipolycom.runs.Run.append"),
    "after that": (8, "minipolycom.branch.carried_over"),
    "while rows are copied": (5, "minipolycom.runs.Run.append"),
    "before the first step of its own": (5, "minipolycom.branch.train_run"),
    "before the first checkpoint of its own": (5, "minipolycom.lifecycle.Keeper.save"),
}


@pytest.mark.parametrize("when", KILLS)
def test_a_branch_that_was_killed_while_it_began_begins_again(data, run, tmp_path, monkeypatch, when):
    def kill(*_, **__):
        raise KeyboardInterrupt

    step, place = KILLS[when]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(place, kill)
        off(data, run, step, tmp_path / "killed")
    again = off(data, run, step, tmp_path / "killed")
    assert tables(again) == tables(run)
    assert same_weights(again, run)


def test_a_stop_while_the_run_is_trained_again_leaves_no_half_a_branch(data, run, tmp_path):
    control = Control()
    control.stop()
    stopped = off(data, run, 13, tmp_path / "later", control=control)
    assert (stopped.status, stopped.message) == ("stopped", "stopped before step 13, where it begins")
    assert not (tmp_path / "later" / "config.json").exists()
    assert tables(off(data, run, 13, tmp_path / "later")) == tables(run)


# -- something changed -----------------------------------------------------------------------------------------------


def test_both_curves_are_kept_under_their_names_and_the_branch_knows_where_it_left(data, run, tmp_path):
    other = off(data, run, 8, tmp_path / "other", activation="polynorm", learning_rate=1e-3, seed=7)
    assert other.name == "first from step 8, activation polynorm, learning rate 0.001, seed 7"
    assert {row["run"] for row in other.rows} == {other.name}
    common, before = ([row for row in r.rows if row["step"] <= 8] for r in (other, run))
    assert [row | {"run": "first"} for row in common] == before
    assert [row["activation"] for row in other.rows] == ["relu"] * len(common) + ["polynorm"] * 6
    assert [row["step"] for row in other.rows] == [row["step"] for row in run.rows]
    assert json.loads((tmp_path / "other" / "config.json").read_text())["parent"] == {
        "name": "first",
        "step": 8,
        "changed": {
            "activation": {"from": "relu", "to": "polynorm"},
            "learning_rate": {"from": 4e-3, "to": 1e-3},
            "seed": {"from": 0, "to": 7},
        },
    }
    assert differing_fields(run.config(), other.config()) == [
        "data.seed: 7 there, 0 here", "model.activation: 'polynorm' there, 'relu' here",
        f"name: {other.name!r} there, 'first' here", f"parent: {other.parent!r} there, None here",
        "train.learning_rate: 0.001 there, 0.004 here", "train.seed: 7 there, 0 here",
    ]  # fmt: skip
    assert not same_weights(off(data, run, 8, tmp_path / "seed", seed=7), run)


def test_the_learning_rate_changes_its_peak_and_keeps_its_schedule(data, run, tmp_path):
    other = off(data, run, 5, tmp_path / "other", learning_rate=8e-3)
    after = [row for row in other.rows if row["step"] > 5]
    assert [row["learning_rate"] for row in after] == [
        2 * row["learning_rate"] for row in run.rows if row["step"] > 5
    ]  # doubling is exact
    held = torch.load(other.checkpoints()[10], weights_only=True)
    rate = learning_rate(10, other.train_config)
    assert [group["lr"] for group in held["optimizer_states"][0]["param_groups"]] == pytest.approx([rate, rate])


def checkpoint_of(run, step):
    return torch.load(run.checkpoints()[step], weights_only=True)


def states(checkpoint, run):
    """What the optimizer remembers, by the names of the parameters."""
    order = [f"gpt.{name}" for name, _ in GPT(run.model_config).named_parameters()]
    return {order[i]: state for i, state in checkpoint["optimizer_states"][0]["state"].items()}


@pytest.mark.parametrize(
    ("activation", "new"),
    [
        ("polynorm", {"activation.weight", "activation.bias"}),
        ("gelu", set()),
        ("swiglu", {"up.weight", "gate.weight", "down.weight"}),
    ],
)
def test_same_name_and_shape_is_carried_over_with_its_history_and_all_else_begins(data, run, tmp_path, activation, new):
    other = off(data, run, 10, tmp_path / "other", activation=activation, seed=4)
    was, started = checkpoint_of(run, 10), torch.load(tmp_path / "other" / "start.ckpt", weights_only=True)
    fresh = GPT(GPTConfig(**SHAPE, activation=activation), seed=4).state_dict()
    new = {f"gpt.blocks.0.feed_forward.{name}" for name in new}
    if activation == "swiglu":  # whatever a gated feed-forward calls its matrices: those of another shape
        new = {
            f"gpt.{n}" for n, w in fresh.items() if w.shape != getattr(was["state_dict"].get(f"gpt.{n}"), "shape", 0)
        }
        assert new
    assert started["state_dict"].keys() == {f"gpt.{name}" for name in fresh}
    for name, tensor in started["state_dict"].items():
        source = fresh[name.removeprefix("gpt.")] if name in new else was["state_dict"][name]
        assert torch.equal(tensor, source), name
    before, after = states(was, run), states(started, other)
    assert after.keys() == started["state_dict"].keys() - new
    for name, state in after.items():
        assert all(torch.equal(state[key], before[name][key]) for key in state), name
    assert other.finished
    assert states(checkpoint_of(other, 24), other).keys() == started["state_dict"].keys()


def test_a_branch_of_a_branch_is_exact_too_even_where_no_checkpoint_but_the_first_is_left(data, run, tmp_path):
    child = off(data, run, 6, tmp_path / "child", activation="polynorm", seed=2)
    for file in child.checkpoints().values():
        file.unlink()
    for step in (6, 9):
        grandchild = off(data, child, step, tmp_path / f"grandchild{step}")
        assert tables(grandchild) == tables(child)
        assert same_weights(grandchild, child)
    assert grandchild.parent == {"name": child.name, "step": 9, "changed": {}}
    with pytest.raises(ValueError, match=r"began at step 6 as a branch of 'first': for step 5, branch from that one"):
        off(data, child, 5, tmp_path / "x")
    (child.path / "start.ckpt").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint left at or before step 9: train with keep_checkpoints=0"):
        off(data, child, 9, tmp_path / "x")


def test_a_branch_from_the_beginning_is_a_new_run_with_the_changed_settings(data, run, tmp_path):
    other = off(data, run, 0, tmp_path / "other", activation="polynorm")
    assert tables(other) == tables(train(data, activation="polynorm"))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_run_in_memory_has_nothing_to_branch_from(data, tmp_path):
    with pytest.raises(
        ValueError, match=r"run 'first' lives in memory and has no checkpoints to branch from: train it"
    ):
        off(data, train(data, steps=4), 2, tmp_path / "x")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (25, r"step 25 is not among those of run 'first': it has come from 0 to 24"),
        (-1, r"step -1 is not among those of run 'first'"),
        (24, r"run 'first' ends at step 24, and nothing follows: branch from an earlier step"),
    ],
)
def test_a_step_with_nothing_after_it_is_refused(data, run, tmp_path, step, message):
    with pytest.raises(ValueError, match=message):
        off(data, run, step, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_another_text_is_refused(data, run, tmp_path):
    (tmp_path / "other.txt").write_text("another text " * 500)
    other = TokenData(f"files:{tmp_path / 'other.txt'}", context=16, batch_size=4, cache_dir=tmp_path / "cache")
    with pytest.raises(
        ValueError, match=r"run 'first' was trained on other data \(content: .* there, .* here; source: "
    ):
        off(other, run, 5, tmp_path / "x")


def test_a_folder_that_is_taken_is_refused(data, run, tmp_path):
    with pytest.raises(
        ValueError, match="holds the run to branch from, which is kept: give the branch a folder of its"
    ):
        off(data, run, 5, run.path)
    off(data, run, 20, tmp_path / "x", activation="gelu")
    with pytest.raises(ValueError, match=r"x holds another run \(.*model.activation: 'gelu' there, 'relu' here"):
        off(data, run, 20, tmp_path / "x")


def test_what_cannot_be_changed_to_is_refused_before_anything_is_trained(data, run, tmp_path):
    for changed, message in (
        ({"activation": "rleu"}, "unknown activation 'rleu'; known: relu"),
        ({"learning_rate": 0.0}, "learning_rate is positive"),
        ({"seed": -1}, "seed is a whole number from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            off(data, run, 13, tmp_path / "x", **changed)
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_of_another_run_is_refused_with_the_fields_that_differ(data, run, tmp_path):
    shutil.copytree(run.path, tmp_path / "first")
    stray = train(data, tmp_path / "stray", activation="polynorm", learning_rate=1e-3)
    moved = Run.load(tmp_path / "first")
    shutil.copy(stray.checkpoints()[10], moved.checkpoints()[10])
    with pytest.raises(
        ValueError,
        match=r"the checkpoint of step 10 is of another run \(model.activation: 'polynorm' there, 'relu' here; "
        r"train.learning_rate: 0.001 there, 0.004 here\): put back the one of this run, or delete it",
    ):
        off(data, moved, 10, tmp_path / "x")
    with pytest.raises(ValueError, match="the checkpoint of step 10 is of another run"):
        off(data, moved, 12, tmp_path / "x")
    assert not (tmp_path / "x" / "config.json").exists()
