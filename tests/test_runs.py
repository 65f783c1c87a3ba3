"""A run's folder: rows that survive, whole after a cut, plain to read, loaded as far as it is whole; runs compared."""

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minipolycom.model import GPT, GPTConfig
from minipolycom.runs import Rows, Run, RunFolder, alone_in, compare, differing_fields, replacing
from minipolycom.text.tokenizers import ByteTokenizer, tokenizer_trainer
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


def loss_row(step, loss=2.0, split="val", **more):
    return {"step": step, "split": split, "loss": loss, **more}


# -- rows ------------------------------------------------------------------------------------------------------------


def test_weights_know_the_tokenizer_that_they_were_trained_with(run):
    train_bpe = tokenizer_trainer("bpe:260")
    run.tokenizer = train_bpe(["abcabcabc"])
    run.create()
    run.keep(GPT(CONFIG).state_dict())
    assert Run.load(run.path).model()
    (run.path / "tokenizer.json").write_text(train_bpe(["xyzxyzxyz"]).to_json())
    with pytest.raises(ValueError, match=r"tokenizer.json is not the tokenizer that the weights beside it"):
        Run.load(run.path).model()


@pytest.mark.parametrize("compact_after", [0, 1, 2, 3])
def test_rows_come_back_from_the_journal_the_tables_and_both(tmp_path, compact_after):
    rows = Rows(tmp_path)
    for step in range(3):
        if step == compact_after:
            rows.compact()
        rows.append("losses", {"step": step, "loss": 1 / (step + 1)})
        rows.append("spectra", {"step": step, "layer": 0, "singular_values": [0.1 * step, 1e-300, 3.0]})
        assert Rows.load(tmp_path).table("losses") == rows.table("losses")
    if compact_after == 3:
        rows.compact()
        assert (tmp_path / "journal.jsonl").read_text() == ""
    loaded = Rows.load(tmp_path)
    assert sorted(loaded.tables) == ["losses", "spectra"]
    assert [loaded.table(name) for name in rows.tables] == [rows.table(name) for name in rows.tables]
    assert loaded.lost == ""


def test_a_table_is_a_parquet_file_that_any_program_reads(tmp_path):
    rows = Rows(tmp_path)
    rows.append("spectra", {"step": 5, "layer": 1, "tensor": "up", "singular_values": [2.0, 1.0]})
    rows.compact()
    (read,) = pd.read_parquet(tmp_path / "rows" / "spectra.parquet").to_dict("records")
    assert {name: read[name] for name in ("step", "layer", "tensor")} == {"step": 5, "layer": 1, "tensor": "up"}
    assert list(read["singular_values"]) == [2.0, 1.0]


NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=4)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
ROWS = st.lists(
    st.fixed_dictionaries({"step": st.integers(0, 9)}, optional=dict.fromkeys(("a", "b", "c"), VALUES)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, compactions=st.sets(st.integers(0, 7)))
def test_any_plain_values_survive_exactly_in_columns_that_come_and_change(tmp_path_factory, rows, compactions):
    path = tmp_path_factory.mktemp("rows")
    kept = Rows(path)
    for i, row in enumerate(rows):
        kept.append("mixed", row)
        if i in compactions:
            kept.compact()
            if i % 2:
                kept = Rows.load(path)
    # The texts tell 1 from 1.0 and from True, and 0.0 from -0.0; the order of a row's keys is no part of it.
    texts = [json.dumps(row, sort_keys=True) for row in rows]
    assert [json.dumps(row, sort_keys=True) for row in kept.table("mixed")] == texts
    assert [json.dumps(row, sort_keys=True) for row in Rows.load(path).table("mixed")] == texts


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan], torch.ones(1), (1, 2), {1: 2}, b"a"])
def test_what_could_not_be_read_back_as_it_is_is_refused_and_leaves_no_trace(tmp_path, value):
    rows = Rows(tmp_path)
    with pytest.raises(ValueError, match=r"a row holds finite numbers, texts, .* got 'x': .* in the table t$"):
        rows.append("t", {"step": 1, "x": value})
    assert rows.tables == []
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_row_has_a_step_and_a_table_a_plain_name(tmp_path):
    rows = Rows()
    with pytest.raises(ValueError, match="the step of a row in the table t is a whole number; got None"):
        rows.append("t", {"x": 1.0})
    with pytest.raises(ValueError, match=r"a table's name is of small letters, digits and _; got '\.\./t'"):
        rows.append("../t", {"step": 1})


def test_cut_leaves_out_what_came_later_from_every_table_wherever_it_is(tmp_path):
    rows = Rows(tmp_path)
    for step in range(6):
        rows.append("losses", {"step": step, "loss": float(step)})
        if step > 3:
            rows.append("late", {"step": step})
        if step == 2:
            rows.compact()
    loaded = Rows.load(tmp_path)
    loaded.cut(3)
    for seen in (loaded, Rows.load(tmp_path)):
        assert seen.tables == ["losses"]
        assert [row["step"] for row in seen.table("losses")] == [0, 1, 2, 3]
    loaded.append("late", {"step": 4, "x": 1})
    loaded.compact()
    assert Rows.load(tmp_path).table("late") == [{"step": 4, "x": 1}]


@pytest.mark.parametrize("name", ["losses", "spectra", None])
def test_a_kill_within_compaction_neither_loses_nor_doubles_rows(tmp_path, monkeypatch, name):
    """Killed after the first table's file, after the second's, and before the journal is emptied."""
    rows = Rows(tmp_path)
    for step in range(5):
        rows.append("losses", {"step": step})
        rows.append("spectra", {"step": step, "singular_values": [1.0]})
        if step == 1:
            rows.compact()
    plain = Rows._write_table

    def killed(self, written, table):
        plain(self, written, table)
        if written == name:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rows, "_write_table", killed)
    monkeypatch.setattr(Rows, "_empty_the_journal", lambda self: None)
    try:
        rows.compact()
    except KeyboardInterrupt:
        assert name
    monkeypatch.undo()
    again = Rows.load(tmp_path)
    assert [len(again.table(table)) for table in ("losses", "spectra")] == [5, 5]
    again.append("losses", {"step": 5})
    again.compact()
    assert [row["step"] for row in Rows.load(tmp_path).table("losses")] == list(range(6))


def test_a_disk_that_is_full_for_a_while_leaves_no_part_of_a_row(tmp_path, monkeypatch):
    rows = Rows(tmp_path)
    rows.append("t", {"step": 1})

    def full(self, mode):
        with open(self, mode) as file:  # noqa: PTH123
            file.write(b'{"index": 1, "ta')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):  # noqa: PT012
        patched.setattr(Path, "open", full)
        rows.append("t", {"step": 2})
    rows.append("t", {"step": 3})
    loaded = Rows.load(tmp_path)
    assert loaded.table("t") == rows.table("t") == [{"step": 1}, {"step": 3}]
    assert loaded.lost == ""


def test_rows_are_not_mixed_with_those_that_a_folder_holds(tmp_path):
    Rows(tmp_path).append("losses", {"step": 1})
    other = Rows(tmp_path)
    with pytest.raises(ValueError, match=r"holds rows already: go on with Rows.load, or clear\(\) them first"):
        other.append("losses", {"step": 2})
    other.clear()
    other.append("losses", {"step": 2})
    assert Rows.load(tmp_path).table("losses") == [{"step": 2}]


@pytest.mark.parametrize(("where", "what"), [(Path, "open"), (pq, "ParquetFile")])
def test_a_reader_sees_one_moment_also_where_the_tables_are_replaced_at_each_file_it_takes(
    tmp_path, monkeypatch, where, what
):
    rows, done = Rows(tmp_path), 0
    as_it_was = getattr(where, what)

    def write() -> None:
        nonlocal done
        rows.append("losses", {"step": done, "loss": 1 / (done + 1)})
        rows.append("spectra", {"step": done, "singular_values": [done + 0.5] * 300})
        rows.compact()
        done += 1

    def after_a_write(*arguments, **options):
        if done < 50:
            with monkeypatch.context() as context:
                context.setattr(where, what, as_it_was)  # the writer opens files too
                write()
        return as_it_was(*arguments, **options)

    write()
    monkeypatch.setattr(where, what, after_a_write)
    assert whole(tmp_path) >= 1
    assert done > 1


WRITERS = """
import os, sys
from minipolycom.runs import Rows
path, said = sys.argv[1:]
for line in sys.stdin:  # each line asks for a new writer; forked, it need not import torch again
    pid = os.fork()
    if pid == 0:
        rows = Rows.load(path)
        with open(said, "ab", buffering=0) as acknowledged:
            for step in range(len(rows.table("spectra")), 10**9):
                if step == len(rows.table("losses")):
                    rows.append("losses", {"step": step, "loss": 1 / (step + 1)})
                rows.append("spectra", {"step": step, "singular_values": [step + 0.5] * 300})
                acknowledged.write(b"%d\\n" % step)
                if step % 7 == 0:
                    rows.compact()
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


def whole(path: Path) -> int:
    """How many rows of each table a folder gives, all of which are right."""
    loaded = Rows.load(path)
    losses, spectra = loaded.table("losses"), loaded.table("spectra")
    assert losses == [{"step": step, "loss": 1 / (step + 1)} for step in range(len(losses))]
    assert spectra == [{"step": step, "singular_values": [step + 0.5] * 300} for step in range(len(spectra))]
    assert len(losses) - len(spectra) in (0, 1)
    assert loaded.lost in ("", "journal.jsonl: its last row, which is unfinished")
    return len(spectra)


def test_killed_at_twenty_random_moments_a_writer_loses_no_row_that_it_had_written(tmp_path):
    """Each writer goes on from what the one before left; meanwhile we read, and never see a gap or a torn row."""
    chance, folder, said = random.Random(0), tmp_path / "run", tmp_path / "said"
    command = [sys.executable, "-c", WRITERS, str(folder), str(said)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writers:
        for _ in range(20):
            before = said.read_text().count("\n") if said.exists() else 0
            print("write", file=writers.stdin, flush=True)
            pid = int(writers.stdout.readline())
            while not said.exists() or said.read_text().count("\n") <= before:
                time.sleep(0.001)
            try:
                until = time.monotonic() + chance.uniform(0, 0.1)
                while time.monotonic() < until:
                    whole(folder)
            finally:
                os.kill(pid, signal.SIGKILL)
            assert writers.stdout.readline() == "gone\n"
            acknowledged = [int(line) for line in said.read_text().splitlines()]
            assert acknowledged[-1] + 1 <= whole(folder) <= acknowledged[-1] + 2
        writers.stdin.close()
    assert acknowledged[-1] > 100, "the writers hardly wrote: such kills prove nothing"


# -- a run -----------------------------------------------------------------------------------------------------------


def test_rows_are_on_disk_as_soon_as_they_are_measured(run):
    for step in range(3):
        run.append(loss_row(step, 1.0 / (step + 1)))
        run.append({"step": step, "load": [0.5, 0.5]}, table="routers")
        loaded = Run.load(run.path)
        assert loaded.rows == loaded.table("losses") == run.rows
        assert loaded.table("routers") == run.table("routers")
    assert run.losses() == [1.0, 0.5, 1 / 3]


def test_a_table_that_nobody_wrote_is_empty_and_an_unknown_one_is_refused(run):
    run.append(loss_row(0))
    assert run.table("spectra") == []
    with pytest.raises(ValueError, match="unknown table 'spectrum'; known: losses, spectra"):
        run.table("spectrum")


def test_a_run_in_memory_has_all_but_the_folder():
    run = Run(name="a", model_config=CONFIG, train_config=TrainConfig(), data={}, tokenizer=ByteTokenizer())
    run.create()
    run.append(loss_row(1))
    gpt = GPT(CONFIG, seed=3)
    run.keep(gpt.state_dict())
    assert run.rows == [loss_row(1)]
    assert torch.equal(run.model().embedding.weight, gpt.embedding.weight)
    assert run.checkpoints() == {}


def test_weights_come_back_bit_for_bit_and_a_tied_head_stays_tied(run):
    gpt = GPT(CONFIG, seed=3)
    run.keep(gpt.state_dict())
    loaded = Run.load(run.path).model()
    assert loaded.head.weight is loaded.embedding.weight
    assert torch.equal(loaded.embedding.weight, gpt.embedding.weight)


def test_checkpoints_are_found_by_their_steps_in_order(run):
    (run.path / "checkpoints").mkdir()
    for name in ("step-00000100.ckpt", "step-00000050.ckpt", ".step-00000150.ckpt.partial", "notes.txt"):
        (run.path / "checkpoints" / name).touch()
    assert [(step, file.name) for step, file in Run.load(run.path).checkpoints().items()] == [
        (50, "step-00000050.ckpt"),
        (100, "step-00000100.ckpt"),
    ]


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_and_no_part(run):
    before = (run.path / "status.json").read_text()
    with pytest.raises(OSError, match="No space left"), replacing(run.path / "status.json") as partial:  # noqa: PT012
        partial.write_text('{"status": ')
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (run.path / "status.json").read_text() == before
    assert not list(run.path.glob("*.partial"))


def test_a_run_without_weights_says_so(run):
    with pytest.raises(ValueError, match="has no weights yet"):
        run.model()


def test_the_environment_is_recorded(run):
    recorded = json.loads((run.path / "environment.json").read_text())
    assert recorded["versions"]["torch"] == torch.__version__
    assert recorded["cores"] >= 1


def test_a_run_of_another_kind_has_the_same_folder(tmp_path):
    folder = RunFolder(tmp_path / "images")
    with alone_in(folder.path), pytest.raises(ValueError, match=r"another process is training into .*images"):  # noqa: PT012
        folder.create({"method": "byol"})
        folder.write_status({"status": "running", "step": 3})
        folder.rows.append("ranks", {"step": 3, "rank": 5.5})
        folder.keep({"weight": torch.arange(3.0)})
        with alone_in(folder.path):
            pass
    loaded = RunFolder.load(tmp_path / "images")
    assert (loaded.config, loaded.status) == ({"method": "byol"}, {"status": "running", "step": 3})
    assert loaded.rows.table("ranks") == [{"step": 3, "rank": 5.5}]
    assert torch.equal(loaded.weights()["weight"], torch.arange(3.0))
    assert loaded.lost == ""


# -- what is damaged -------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run \(no config.json\)"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"name": ',
        "[]",
        '{"name": "a", "model": [], "train": {}, "data": {}}',
        '{"name": "a", "model": {"n_layers": "2"}, "train": {}, "data": {}}',
        '{"name": 5, "model": {}, "train": {}, "data": {}}',
    ],
)
def test_without_a_configuration_nothing_can_be_read(run, content):
    (run.path / "config.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"the run in .* is damaged: config.json \(.*\); restore that file, or delete"
    ) as told:
        Run.load(run.path)
    assert "\n" not in str(told.value)


def test_a_row_cut_off_in_the_middle_is_left_out_and_the_next_one_begins_a_line(run):
    run.append(loss_row(1))
    with (run.path / "journal.jsonl").open("a") as file:
        file.write('{"index": 1, "table": "losses", "row": {"st')
    loaded = Run.load(run.path)
    assert loaded.rows == [loss_row(1)]
    assert loaded.lost == "journal.jsonl: its last row, which is unfinished"
    loaded.append(loss_row(2))
    again = Run.load(run.path)
    assert (again.rows, again.lost) == ([loss_row(1), loss_row(2)], "")


@pytest.mark.parametrize(
    "line",
    ["5", "", "{", '{"index": 1, "table": "losses", "row": {"loss": 2.0}}', '{"index": 1, "row": {"step": 1}}',
     '{"index": 1, "table": "losses", "row": {"step": 1, "loss": NaN}}', '{"index": 1, "table": "losses", "row": 5}'],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_counted(run, line):
    for step in range(3):
        run.append(loss_row(step))
    lines = (run.path / "journal.jsonl").read_text().splitlines()
    (run.path / "journal.jsonl").write_text("\n".join([lines[0], line, lines[2], ""]))
    loaded = Run.load(run.path)
    assert loaded.rows == [loss_row(0), loss_row(2)]
    assert loaded.lost == "journal.jsonl: 1 of 3 lines, the first is line 2"


def test_a_damaged_table_is_named_and_put_aside_when_the_next_is_written(run):
    for step in range(4):
        run.append(loss_row(step))
        run.append({"step": step, "layer": 0}, table="norms")
        if step == 2:
            run.folder.rows.compact()
    file = run.path / "rows" / "losses.parquet"
    content = file.read_bytes()[:-20]
    file.write_bytes(content)
    loaded = Run.load(run.path)
    assert loaded.rows == [loss_row(3)]
    assert len(loaded.table("norms")) == 4
    assert loaded.lost.startswith("rows/losses.parquet cannot be read (ArrowInvalid: ")
    assert "\n" not in loaded.lost
    loaded.folder.rows.compact()
    assert (run.path / "rows" / "losses.parquet.damaged").read_bytes() == content
    again = Run.load(run.path)
    assert (again.rows, again.lost) == ([loss_row(3)], "")


@pytest.mark.parametrize(
    "content",
    [
        '{"status": ', "[]", '{"status": "lost", "step": 1, "saved_step": 1, "message": ""}',
        '{"status": "stopped", "step": "1", "saved_step": 1, "message": ""}', '{"status": "finished"}',
    ],
)  # fmt: skip
def test_without_a_status_the_rows_and_checkpoints_say_how_far_a_run_came(run, content):
    run.append(loss_row(7))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "step-00000005.ckpt").touch()
    (run.path / "status.json").write_text(content)
    loaded = Run.load(run.path)
    assert (loaded.status, loaded.step, loaded.saved_step) == ("stopped", 7, 5)
    assert loaded.lost.startswith("status.json cannot be read (")


@pytest.mark.parametrize("content", ['{"name": ', '{"model": {"type": "BPE"}}', None])
def test_without_a_tokenizer_all_else_can_be_read(run, content):
    run.append(loss_row(0))
    file = run.path / "tokenizer.json"
    file.write_text(content) if content else file.unlink()
    loaded = Run.load(run.path)
    assert loaded.rows == [loss_row(0)]
    assert loaded.lost.startswith("tokenizer.json cannot be read (")
    with pytest.raises(ValueError, match=r"the tokenizer.json in .* is damaged: restore that file"):
        loaded.tokenizer.encode("a")


def test_rows_that_end_before_the_checkpoint_are_missed(run):
    run.saved_step = run.step = 7
    run.write_status()
    assert Run.load(run.path).lost == "the validation losses up to step 0 are missing"


def test_weights_that_are_cut_off_or_of_another_model_are_damaged(run):
    run.keep(GPT(CONFIG).state_dict())
    file = run.path / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"is damaged: model.safetensors \(.*\); restore"):
        Run.load(run.path).model()
    file.write_bytes(content)
    config = json.loads((run.path / "config.json").read_text())
    config["model"]["activation"] = "relu"
    (run.path / "config.json").write_text(json.dumps(config))
    too_many = r"Unexpected key\(s\) in state_dict: \"blocks.0.feed_forward.activation.bias\""
    with pytest.raises(ValueError, match=rf"is damaged: model.safetensors \(.*{too_many}.*\); restore") as error:
        Run.load(run.path).model()
    assert "\n" not in str(error.value)


def test_a_setting_of_another_version_is_named(run):
    config = json.loads((run.path / "config.json").read_text())
    config["model"]["n_wings"] = 8
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="GPTConfig has no n_wings: the run was written by another version"):
        Run.load(run.path)


def test_differences_are_named_with_both_values():
    ours, theirs = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 3}}
    assert differing_fields(ours, theirs) == ["b.c: 5 there, 2 here"]


# -- runs compared ---------------------------------------------------------------------------------------------------


def finished(name, losses, seconds=10.0, data_seed=0, activation="polynorm", **train):
    """A run with a validation loss every 5 steps of 100 tokens."""
    run = Run(
        name=name, model_config=GPTConfig(activation=activation), train_config=TrainConfig(**train),
        data={"source": "stdlib", "seed": data_seed}, tokenizer=ByteTokenizer(), status="finished",
        step=5 * (len(losses) - 1),
    )  # fmt: skip
    for i, loss in enumerate(losses):
        run.append(loss_row(5 * i, loss, tokens=500 * i, seconds=seconds * i))
    return run


def test_runs_are_compared_in_what_differs_and_in_what_came_out():
    fast, slow = finished("a", [5.0, 3.0, 2.0, 2.1]), finished("b", [5.0, 4.0, 3.0, 2.5], 20.0, activation="relu")
    table = compare([fast, slow])
    assert table.attrs["target"] == 2.5  # the worst of the best
    assert table.to_dict("index") == {
        "a": {
            "activation": "polynorm", "status": "finished", "steps": 15, "validation loss": 2.1,
            "best validation loss": 2.0, "seconds": 30.0, "tokens per second": 50.0,
            "steps to target": 10, "seconds to target": 20.0,
        },
        "b": {
            "activation": "relu", "status": "finished", "steps": 15, "validation loss": 2.5,
            "best validation loss": 2.5, "seconds": 60.0, "tokens per second": 25.0,
            "steps to target": 15, "seconds to target": 60.0,
        },
    }  # fmt: skip


def test_a_target_that_a_run_has_not_reached_is_missing_there():
    table = compare([finished("a", [5.0, 3.0, 2.0]), finished("b", [5.0, 4.0])], target=3.5)
    assert table["steps to target"].tolist()[0] == 5
    assert table.loc["b", ["steps to target", "seconds to target"]].isna().all()


def test_settings_of_one_name_are_told_apart_by_their_section():
    table = compare([finished("a", [2.0]), finished("b", [2.0], data_seed=1, seed=2)])
    assert list(table.columns[:2]) == ["train.seed", "data.seed"]
    assert table["train.seed"].tolist() == [0, 2]
    assert table["data.seed"].tolist() == [0, 1]


def test_a_run_without_measurements_is_compared_too():
    table = compare([finished("a", []), finished("b", [2.0])])
    assert math.isnan(table.loc["a", "validation loss"])
    assert table.loc["b", "steps to target"] == 0


def test_nothing_cannot_be_compared():
    with pytest.raises(ValueError, match="there is no run to compare: give at least one"):
        compare([])
