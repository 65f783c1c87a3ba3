"""The command line: what it prints, what it writes, and how it refuses."""

import json
import re
import subprocess
import sys

import pytest

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.cli import COMMANDS, main
from minipolycom.runs import Run

SHAPE = ["--n-layers", "1", "--n_heads=2", "--d-model", "16", "--context", "32"]
QUICK = ["--steps=60", "--batch-size", "8", "--eval-every", "30", "--eval-batches", "4", "--learning-rate", "1e-2"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_train_then_sample(tmp_path, capsys, activation):
    out = tmp_path / "run"
    main(["train", "--activation", activation, "--source", "stdlib", "--out", str(out), *SHAPE, *QUICK])
    printed = capsys.readouterr().out
    loss = float(re.search(r"validation loss ([\d.]+)", printed)[1])
    entropy = float(re.search(r"unigram entropy of the same text ([\d.]+)", printed)[1])
    assert loss < entropy  # a model of 20 thousand parameters, after 60 steps: already better than letter frequencies
    assert {"config.json", "rows.jsonl", "checkpoint.ckpt", "model.safetensors"} <= {f.name for f in out.iterdir()}
    main(["sample", str(out), "--prompt", "def ", "--tokens", "20"])
    text = capsys.readouterr().out
    assert text.startswith("def ")
    assert len(text.encode()) >= 20
    main(["sample", str(out), "--prompt", "def ", "--tokens", "20"])
    assert capsys.readouterr().out == text


def test_train_on_the_learners_own_file(tmp_path, capsys):
    file = tmp_path / "diary.txt"
    file.write_text("".join(f"On day {day} I trained {day % 7} models and {day % 3} failed.\n" for day in range(400)))
    main(["train", "--source", f"files:{file}", "--out", str(tmp_path / "run"), *SHAPE, *QUICK])
    assert "diary.txt" in capsys.readouterr().out
    assert Run.load(tmp_path / "run").finished


def test_the_same_command_again_trains_nothing(tmp_path, capsys):
    command = ["train", "--out", str(tmp_path / "run"), *SHAPE, *QUICK]
    main(command)
    rows = Run.load(tmp_path / "run").rows
    main(command)
    assert Run.load(tmp_path / "run").rows == rows
    assert "finished at step 60" in capsys.readouterr().out


def test_a_byte_pair_encoding_sets_the_vocabulary(tmp_path, capsys):
    main(["train", "--tokenizer", "bpe:512", "--out", str(tmp_path / "run"), *SHAPE, *QUICK])
    assert Run.load(tmp_path / "run").model_config.vocab_size == 512
    assert "per byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--activation", "swish"], "unknown activation 'swish'; known: relu, squared_relu, gelu, silu"),
        (["train", "--preset", "huge"], "unknown preset 'huge'; known: tiny, nano, small, gpt2"),
        (["train", "--source", "moon"], "moon"),
        (["train", "--tokenizer", "morse"], "morse"),
        (["train", "--learning-rate", "-1"], "learning_rate is positive and finite; got -1.0"),
        (["train", "--d-model", "30", "--n-heads", "4"], "30 is not divisible by n_heads=4"),
        (["train", "--sead", "1"], r"unknown option --sead \(did you mean --seed\?\); known: .*--activation"),
        (["train", "--steps", "many"], "many"),
        (["sample", "nowhere"], "holds no run"),
        (["sample"], "run"),
        (["bench", "models"], "unknown benchmark 'models'; known: activations"),
        (["fly"], "unknown command 'fly'; known: lab, train, sample, bench, doctor, exercises"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(capsys, arguments, message):
    assert re.search(message, refused(capsys, *arguments))


@pytest.mark.parametrize("content", [b"", b"too short", b"\x00\xff\xfe\x01" * 500])
def test_a_text_that_cannot_be_read_is_named(capsys, tmp_path, content):
    file = tmp_path / "odd.txt"
    file.write_bytes(content)
    assert "odd.txt" in refused(capsys, "train", "--source", f"files:{file}", "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_overview_and_every_help_text(capsys):
    main([])
    overview = capsys.readouterr().out
    for name in COMMANDS:
        assert name in overview
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: minipolycom {name}")


def test_help_explains_each_setting_by_the_sentence_under_its_field(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "Peak learning rate, reached after the warm-up." in words
    assert "Width of the residual stream (D)." in words


def test_exercises_are_listed_as_json(capsys):
    main(["exercises", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "notebook", "difficulty", "importance", "minutes", "wrong_answers"} <= rows[0].keys()


def test_interrupting_the_command_leaves_a_run_that_goes_on(tmp_path):
    out = tmp_path / "run"
    program = (
        "import os, signal, threading, time\n"
        "from minipolycom.cli import main\n"
        "def interrupt():\n"
        f"    while not os.path.exists({str(out / 'checkpoint.ckpt')!r}): time.sleep(0.02)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        f"main({['train', '--out', str(out), *SHAPE, '--steps', '100000', '--checkpoint-every', '10']!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert Run.load(out).status == "stopped"
