"""A run's folder: whole after a cut, plain to read, and refused with a reason when it is not one."""

import errno
import json
import math

import pytest
import torch

from minipolycom.model import GPT, GPTConfig
from minipolycom.runs import Run, differing_fields, read_rows, replacing
from minipolycom.text.tokenizers import ByteTokenizer
from minipolycom.train import TrainConfig

CONFIG = GPTConfig(n_layers=1, n_heads=1, d_model=8, context=4, vocab_size=256, tied=True)


@pytest.fixture
def run(tmp_path):
    run = Run(
        name="a",
        model_config=CONFIG,
        train_config=TrainConfig(steps=7),
        data={"source": "stdlib"},
        tokenizer=ByteTokenizer(),
        path=tmp_path / "a",
    )
    run.create()
    return run


def test_rows_are_on_disk_as_soon_as_they_are_measured(run):
    for step in range(3):
        run.append({"step": step, "split": "val", "loss": 1.0 / (step + 1)})
        assert Run.load(run.path).rows == run.rows
    assert run.losses() == [1.0, 0.5, 1 / 3]


def test_a_row_cut_off_in_the_middle_is_left_out(run):
    run.append({"step": 1, "split": "val", "loss": 2.0})
    with (run.path / "rows.jsonl").open("a") as file:
        file.write('{"step": 2, "spl')
    assert read_rows(run.path / "rows.jsonl") == [{"step": 1, "split": "val", "loss": 2.0}]


def test_weights_come_back_bit_for_bit_and_a_tied_head_stays_tied(run):
    gpt = GPT(CONFIG, seed=3)
    run.keep(gpt.state_dict())
    loaded = Run.load(run.path).model()
    assert loaded.head.weight is loaded.embedding.weight
    assert torch.equal(loaded.embedding.weight, gpt.embedding.weight)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_and_no_part(run):
    before = (run.path / "status.json").read_text()
    with pytest.raises(OSError, match="No space left"), replacing(run.path / "status.json") as partial:  # noqa: PT012
        partial.write_text('{"status": ')
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (run.path / "status.json").read_text() == before
    assert not list(run.path.glob("*.partial"))


def test_rows_are_json_that_any_program_reads(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append({"step": 1, "split": "val", "loss": math.nan})
    assert "NaN" not in (run.path / "rows.jsonl").read_text()


def test_a_run_without_weights_says_so(run):
    with pytest.raises(ValueError, match="has no weights yet"):
        run.model()


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run \(no config.json\)"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"name": '),
        ("config.json", "[]"),
        ("config.json", '{"name": "a", "model": [], "train": {}, "data": {}}'),
        ("config.json", '{"name": "a", "model": {"n_layers": "2"}, "train": {}, "data": {}}'),
        ("config.json", '{"name": 5, "model": {}, "train": {}, "data": {}}'),
        ("status.json", '{"status": '),
        ("status.json", "[]"),
        ("status.json", '{"status": "lost", "step": 1, "saved_step": 1, "message": ""}'),
        ("status.json", '{"status": "stopped", "step": "1", "saved_step": 1, "message": ""}'),
        ("tokenizer.json", '{"name": '),
        ("tokenizer.json", '{"model": {"type": "BPE"}}'),
        ("rows.jsonl", "5\n"),
        ("rows.jsonl", '{"step": 1}\n'),
        ("rows.jsonl", '{"step": 1, "spl\n{"step": 2, "split": "val", "loss": 2.0}\n'),
        ("rows.jsonl", '{"step": 1, "split": "val", "loss": NaN}\n'),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(run, name, content):
    (run.path / name).write_text(content)
    with pytest.raises(
        ValueError, match=rf"the run in .* is damaged: {name} \(.*\); restore that file, or delete"
    ) as told:
        Run.load(run.path)
    assert "\n" not in str(told.value)


def test_rows_that_end_before_the_checkpoint_are_damaged(run):
    run.saved_step = run.step = 7
    run.write_status()
    with pytest.raises(ValueError, match=r"rows.jsonl \(ValueError: the validation loss of step 0 is missing\)"):
        Run.load(run.path)


def test_weights_that_are_cut_off_or_of_another_model_are_damaged(run):
    run.keep(GPT(CONFIG).state_dict())
    file = run.path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is damaged: model.safetensors \(.*\); restore"):
        Run.load(run.path).model()
    file.write_bytes(whole)
    config = json.loads((run.path / "config.json").read_text())
    config["model"]["activation"] = "relu"
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is damaged: model.safetensors \(.*\); restore"):
        Run.load(run.path).model()


def test_a_setting_of_another_version_is_named(run):
    config = json.loads((run.path / "config.json").read_text())
    config["model"]["dropout"] = 0.1
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="GPTConfig has no dropout: the run was written by another version"):
        Run.load(run.path)


def test_the_environment_is_recorded(run):
    recorded = json.loads((run.path / "environment.json").read_text())
    assert recorded["versions"]["torch"] == torch.__version__
    assert recorded["cores"] >= 1


def test_differences_are_named_with_both_values():
    ours, theirs = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 3}}
    assert differing_fields(ours, theirs) == ["b.c: 5 there, 2 here"]
