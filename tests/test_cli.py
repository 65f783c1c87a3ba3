"""The command line: what it prints, what it writes, and how it refuses."""

import json
import re
import subprocess
import sys

import pytest

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.cli import COMMANDS, main
from minipolycom.runs import Run
from minipolycom.text.grammar import LANGUAGE

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
    assert {"config.json", "rows", "checkpoints", "model.safetensors"} <= {f.name for f in out.iterdir()}
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


def test_a_language_whose_floor_is_known_and_a_new_document_from_it(tmp_path, capsys):
    command = ["train", "--source", "grammar", "--tokenizer", "words", "--out", str(tmp_path / "run"), *SHAPE, *QUICK]
    main(command)
    printed = capsys.readouterr().out
    loss, floor = (float(re.search(rf"{what} ([\d.]+)", printed)[1]) for what in ("validation loss", "lowest possible"))
    assert floor < loss
    main(["sample", str(tmp_path / "run"), "--tokens", "9"])
    written = capsys.readouterr().out
    assert "\0" not in written
    assert set(written.split()) <= set(LANGUAGE.words)


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
        (["train", "--learning-rate", "-1"], "learning_rate is positive; got -1.0"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--steps", "abc"], "--steps: Expected a int. Got value: abc (minipolycom train --help says more)"),
        (["train", "--steps"], "--steps needs a value"),
        (["train", "--tied=maybe"], "--tied: Expected a bool. Got value: maybe (minipolycom train --help says more)"),
        (["sample"], "the following arguments are required: run (minipolycom sample --help says more)"),
        (["exercises", "more"], "unrecognized arguments: more (minipolycom exercises --help says more)"),
    ],
)
def test_what_the_parser_refuses_is_one_line(capsys, arguments, message):
    assert refused(capsys, *arguments) == f"minipolycom: {message}\n"


@pytest.mark.parametrize(("flag", "tied"), [("--tied", True), ("--no-tied", False), ("--tied=true", True)])
def test_a_setting_that_is_on_or_off_is_a_flag(tmp_path, flag, tied):
    main(["train", flag, "--out", str(tmp_path / "run"), *SHAPE, *QUICK, "--steps=2"])
    assert Run.load(tmp_path / "run").model_config.tied is tied


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIPOLYCOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        main(["train", "--out", str(out), *SHAPE, *QUICK, "--steps=2"])
    return out


@pytest.mark.parametrize("prompt", ["--help me", "--prompt", "-1", "a=b", "null", "123"])
def test_a_prompt_is_taken_as_it_is(capsys, trained, prompt):
    main(["sample", str(trained), "--prompt", prompt, "--tokens", "0"])
    assert capsys.readouterr().out == f"{prompt}\n"


@pytest.mark.parametrize("wrong", [["--tokens", "-1"], ["--temperature", "nan"], ["--top-k", "-2"], ["--seed", "-1"]])
def test_nothing_is_sampled_before_everything_is_checked(capsys, trained, wrong):
    with pytest.raises(SystemExit):
        main(["sample", str(trained), "--prompt", "def ", *wrong])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


def test_a_reader_who_has_seen_enough_hears_no_complaint(trained):
    command = [sys.executable, "-m", "minipolycom.cli", "sample", str(trained), "--tokens", "100000"]
    sampling = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert sampling.stdout.read(1), sampling.stderr.read().decode()
    sampling.stdout.close()
    assert sampling.stderr.read() == b""
    assert sampling.wait(60) == 141
    sampling.stderr.close()


def test_a_divergence_is_told_once_and_offers_nothing_to_sample(tmp_path, capsys, recwarn):
    wild = ["--learning-rate", "1e30", "--gradient-clip", "1e9", "--checkpoint-every", "1"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--out", str(tmp_path / "run"), *SHAPE, "--steps=60", *wild])
    assert stop.value.code == 1
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if "diverged" in line]
    assert len(told) == 1
    assert told[0].startswith("minipolycom: training stopped because it diverged: ")
    assert told[0].endswith("; lower the learning rate")
    assert "sample" not in printed.out
    assert not [warning for warning in recwarn if "diverged" in str(warning.message)]


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    error = refused(capsys, "train", "--out", str(out), *SHAPE, *QUICK)
    assert error == f"minipolycom: cannot write to {out} (Not a directory): choose another folder with --out\n"


def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path):
    resource = pytest.importorskip("resource", reason="file size limits are those of Unix")
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "minipolycom.cli", "train", "--out", str(out), *SHAPE, *QUICK, "--steps=2"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"minipolycom: cannot write to {out} (File too large): choose another folder with --out\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.glob("*.partial"))


def test_a_model_that_no_memory_holds_is_one_line(tmp_path, capsys):
    error = refused(capsys, "train", "--out", str(tmp_path / "run"), "--d-model", "100000000")
    assert "training a model of 240,000,051,700,000,008 parameters takes more memory than there is" in error


@pytest.mark.parametrize(("state", "code"), [("ok", None), ("problem", 1)])
def test_the_doctors_exit_code_says_whether_all_is_well(monkeypatch, capsys, state, code):
    from minipolycom.learn.doctor import Finding, Report

    module = sys.modules["minipolycom.learn.doctor"]
    monkeypatch.setattr(module, "doctor", lambda: Report((Finding(topic="disk", state=state, found="here"),)))
    if code is None:
        main(["doctor"])
    else:
        with pytest.raises(SystemExit) as stop:
            main(["doctor"])
        assert stop.value.code == code
    assert "disk" in capsys.readouterr().out


def test_help_says_what_the_preset_decides(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    words = " ".join(told.split())
    assert "Optimizer steps in all. (type: int, default: by preset)" in words
    assert "Sequences per optimizer step. (type: int, default: by preset)" in words
    assert "Number of distinct tokens (V). (type: int, default: by tokenizer)" in words
    assert "Seed of the initial weights and of the batches." in words
    assert "124 M parameters hold with a vocabulary of 50,304" in words
    assert {"options:", "Model:", "Training:"} <= set(told.splitlines())
    table = [line.split() for line in told.split("\n\n")[-1].splitlines()]
    assert table[0] == ["preset", "n_layers", "n_heads", "d_model", "context", "batch_size", "learning_rate", "steps"]
    assert ["gpt2", "12", "12", "768", "1024", "32", "0.0006", "20000"] in table
    assert len(table) == 5


def test_interrupting_the_command_leaves_a_run_that_goes_on(tmp_path):
    out = tmp_path / "run"
    program = (
        "import os, signal, threading, time\n"
        "from minipolycom.cli import main\n"
        "def interrupt():\n"
        f"    while not os.path.exists({str(out / 'checkpoints' / 'step-00000010.ckpt')!r}): time.sleep(0.02)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        f"main({['train', '--out', str(out), *SHAPE, '--steps', '100000', '--checkpoint-every', '10']!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert Run.load(out).status == "stopped"
