"""The command line: what it prints, what it writes, and how it refuses."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from minipolycom.cli import BENCHMARKS, COMMANDS, Group, difference, main
from minipolycom.model import PRESETS
from minipolycom.runs import Run
from minipolycom.text import TokenData
from minipolycom.text.grammar import LANGUAGE
from minipolycom.text.sources import Generated
from minipolycom.train import PRESET_TRAINING

SHAPE = ["--n-layers", "1", "--n_heads=2", "--d-model", "16", "--context", "32"]
QUICK = ["--steps=60", "--batch-size", "8", "--eval-every", "30", "--eval-batches", "4", "--learning-rate", "1e-2"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(Generated, "N_TRAIN", 2000)
    monkeypatch.setattr(Generated, "N_VAL", 500)


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("activation", ["polynorm", "swiglu"])
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
    file = tmp_path / "diary.txt"
    file.write_text("".join(f"On day {day} I trained {day % 7} models and {day % 3} failed.\n" for day in range(400)))
    text = ["--source", f"files:{file}", "--tokenizer", "bpe:270"]
    main(["train", *text, "--out", str(tmp_path / "run"), *SHAPE, *QUICK])
    assert Run.load(tmp_path / "run").model_config.vocab_size == 270
    assert "per byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--activation", "swish"], "unknown activation 'swish'; known: relu, squared_relu, gelu, silu"),
        (["train", "--preset", "huge"], f"unknown preset 'huge'; known: {', '.join(PRESETS)}"),
        (["train", "--source", "moon"], "moon"),
        (["train", "--tokenizer", "morse"], "morse"),
        (["train", "--learning-rate", "-1"], "learning_rate is positive; got -1.0"),
        (["train", "--d-model", "30", "--n-heads", "4"], "30 is not divisible by n_heads=4"),
        (["train", "--sead", "1"], r"unknown option --sead \(did you mean --seed\?\); known: .*--activation"),
        (["train", "--steps", "many"], "many"),
        (["sample", "nowhere"], "holds no run"),
        (["sample"], "run"),
        (["compare"], "the following arguments are required: runs"),
        (["compare", "nowhere"], "holds no run"),
        (["eval", "nowhere"], "holds no run"),
        (["export", "nowhere", "out"], "holds no run"),
        (["rerun", "nowhere"], "holds no run"),
        (["bench", "models"], f"unknown benchmark 'models'; known: {', '.join(BENCHMARKS)}"),
        (["bench", "activations", "--peer", "x"], r"bench activations has no --peer"),
        (["bench", "model", "--peer", "nowhere", "--rounds", "2"], "nowhere"),
        (["fly"], f"unknown command 'fly'; known: {', '.join(COMMANDS)}"),
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


def commands(group: Group, *before: str):
    """Every command, by its full name."""
    for name, entry in group.items():
        if isinstance(entry, Group):
            yield from commands(entry, *before, name)
        else:
            yield (*before, name)


def test_the_overview_and_every_help_text(capsys):
    main([])
    overview = capsys.readouterr().out
    assert all(name in overview for name in COMMANDS)
    for words in commands(COMMANDS):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
        assert re.match(rf"usage: minipolycom {' '.join(words)}\s", capsys.readouterr().out)


def test_commands_in_a_group_go_by_both_names(monkeypatch, capsys):
    def greet(name: str, *, loud: bool = False) -> None:
        """Say hello.

        Args:
            name: Whom to greet.
            loud: Whether to shout.
        """
        print(f"Hello {name.upper() if loud else name}")

    monkeypatch.setitem(COMMANDS, "say", Group("Say something.", {"hello": greet}))
    main(["say", "hello", "you", "--loud"])
    assert capsys.readouterr().out == "Hello YOU\n"
    main([])
    assert re.search(r"^  say +Say something\.$", capsys.readouterr().out, re.MULTILINE)
    for arguments in (["say"], ["say", "--help"]):
        main(arguments)
        assert re.search(
            r"^usage: minipolycom say COMMAND.*^  hello +Say hello\.$", capsys.readouterr().out, re.M | re.S
        )
    assert refused(capsys, "say", "bye") == "minipolycom: unknown command 'say bye'; known: say hello\n"
    assert "unknown option --lod (did you mean --loud?)" in refused(capsys, "say", "hello", "you", "--lod")
    with pytest.raises(SystemExit):
        main(["say", "hello", "--help"])
    assert "usage: minipolycom say hello" in capsys.readouterr().out


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
        (["compare", "--jsn"], "unknown option --jsn (did you mean --json?); known: --help, --json, --target"),
        (
            ["eval", "--al"],
            "unknown option --al; known: --choices, --help, --json, --limit, --pairs, --source, --windows",
        ),
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


# -- runs that are there ----------------------------------------------------------------------------------------------


def test_a_run_is_made_again_from_its_folder(trained, tmp_path, capsys):
    main(["rerun", str(trained), "--out", str(tmp_path / "again")])
    assert "the same 3 losses as in the first run, to the last digit" in capsys.readouterr().out
    old, new = Run.load(trained), Run.load(tmp_path / "again")
    assert new.config() == old.config()
    timeless = [[{**row, "seconds": 0} for row in run.rows] for run in (old, new)]
    assert timeless[0] == timeless[1]
    weights = [(path / "model.safetensors").read_bytes() for path in (trained, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_a_run_is_made_again_with_one_thing_changed(trained, tmp_path, capsys):
    main(["rerun", str(trained), "--out", str(tmp_path / "wider"), "--d-model", "24", "--seed", "3"])
    assert "to the last digit" not in capsys.readouterr().out
    old, new = Run.load(trained), Run.load(tmp_path / "wider")
    assert (new.model_config.d_model, new.train_config.seed, new.data["seed"]) == (24, 3, 3)
    assert new.config()["train"] == old.config()["train"] | {"seed": 3}
    assert new.data["content"] == old.data["content"]


def test_a_text_that_is_no_longer_there_is_not_replaced_by_another(tmp_path, capsys):
    file, out = tmp_path / "diary.txt", tmp_path / "run"
    file.write_text("a line of it\n" * 400)
    main(["train", "--source", f"files:{file}", "--out", str(out), *SHAPE, *QUICK, "--steps=1"])
    file.write_text("quite another line\n" * 400)
    capsys.readouterr()
    error = refused(capsys, "rerun", str(out), "--out", str(tmp_path / "again"))
    assert f"the text of files:{file} is no longer the one that {out} was trained on" in error
    assert not (tmp_path / "again").exists()


def test_a_branch_is_not_trained_from_its_beginning(trained, tmp_path, capsys):
    run = tmp_path / "branch"
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"parent": {"name": "first", "step": 1, "changed": {}}}))
    error = refused(capsys, "rerun", str(run), "--out", str(tmp_path / "again"))
    assert f"{run} is a branch of the run 'first': rerun that one, and branch it again" in error


def test_where_two_trainings_part_is_told():
    rows = [{"step": step, "split": "train", "loss": 1.0 / (1 + step)} for step in range(3)]
    assert difference(rows, rows) == "the same 3 losses as in the first run, to the last digit"
    assert "differ from those of the first run from step 1 on" in difference(rows, [rows[0], rows[1] | {"loss": 9.0}])


def test_runs_are_compared_by_folder(trained, tmp_path, capsys):
    other = tmp_path / "other"
    main(["rerun", str(trained), "--out", str(other), "--activation", "gelu"])
    capsys.readouterr()
    main(["compare", str(trained), str(other)])
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert rows["activation"][1:] == ["polynorm", "gelu"]
    assert rows["folder"][1:] == [str(trained), str(other)]
    assert "target: validation loss" in shown
    main(["compare", str(trained), str(other), "--target", "0.5", "--json"])
    lines = json.loads(capsys.readouterr().out)
    assert [line["folder"] for line in lines] == [str(trained), str(other)]
    assert [line["best validation loss"] for line in lines] == pytest.approx(
        [min(Run.load(path).losses()) for path in (trained, other)]
    )
    assert [line["steps to target"] for line in lines] == [None, None]


def test_a_run_is_measured_on_its_own_text_and_on_others(trained, tmp_path, capsys):
    file = tmp_path / "notes.txt"
    file.write_text("Some notes, all of them alike.\n" * 90)
    main(["eval", str(trained), "--windows", "4", "--json"])
    [own] = json.loads(capsys.readouterr().out)["texts"]
    assert "standard library" in own["source"]
    assert own["tokens"] == 4 * 32
    main(["eval", str(trained), "--source", "stdlib", "--source", f"files:{file}", "--windows=4", "--json"])
    texts = json.loads(capsys.readouterr().out)["texts"]
    assert texts[0] == own
    assert str(file) in texts[1]["source"]
    main(["eval", str(trained), "--windows", "4"])
    assert f"loss {own['loss']:.4f} nats per token over 128 tokens" in capsys.readouterr().out


def test_questions_and_pairs_from_files(trained, tmp_path, capsys):
    questions, pairs = tmp_path / "questions.jsonl", tmp_path / "pairs.jsonl"
    questions.write_text(json.dumps({"question": "Who?", "choices": ["me", "you"], "answer": "A"}) + "\n")
    pairs.write_text(json.dumps({"sentence_good": "she has", "sentence_bad": "she have"}) + "\n")
    main(["eval", str(trained), "--choices", str(questions), "--pairs", str(pairs), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == []
    assert found["choices"][0] | {"accuracy": 0, "accuracy_per_byte": 0} == {
        "source": str(questions), "questions": 1, "accuracy": 0, "accuracy_per_byte": 0, "chance": 0.5
    }  # fmt: skip
    assert found["pairs"][0]["pairs"] == 1
    main(["eval", str(trained), "--choices", str(questions), "--pairs", str(pairs)])
    shown = capsys.readouterr().out
    assert "1 questions, accuracy" in shown
    assert "1 minimal pairs; chance is 0.5" in shown


def test_of_a_known_language_each_kind_and_minimal_pairs(tmp_path, capsys):
    out = str(tmp_path / "run")
    shape = [*SHAPE[:-2], "--context", "128"]
    main(["train", "--source", "grammar", "--tokenizer", "words", "--out", out, *shape, *QUICK, "--steps=2"])
    capsys.readouterr()
    main(["eval", out, "--windows", "8"])
    shown = capsys.readouterr().out
    for kind in LANGUAGE.counts:
        assert re.search(rf"^  {kind} +[\d,]+( +-?\d+\.\d{{4}}){{4}}$", shown, re.MULTILINE)
    assert "grammar: 500 minimal pairs; chance is 0.5" in shown
    assert re.search(r"^  all +0\.\d+$", shown, re.MULTILINE)
    refusal = refused(capsys, "eval", out, "--source", "stdlib")
    assert "words of this tokenizer" in refusal


@pytest.mark.parametrize("kind", ["safetensors", "transformers"])
def test_a_model_is_written_for_other_programs(trained, tmp_path, capsys, kind):
    main(["export", str(trained), str(tmp_path / "out"), "--kind", kind])
    shown = capsys.readouterr().out
    assert shown.startswith(f"written to {tmp_path / 'out'}; load it with\n    ")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in (tmp_path / "out").iterdir()}
    assert "is there already" in refused(capsys, "export", str(trained), str(tmp_path / "out"), "--kind", kind)


def test_files_of_another_model_are_one_line_and_stay(trained, tmp_path, capsys):
    run = tmp_path / "run"
    for command in ("sample", "eval", "export"):
        arguments = [command, str(run), *([str(tmp_path / "out")] if command == "export" else [])]
        for name, content, message in (
            ("tokenizer.json", '{"name": "words", "words": ["a"]}', "its tokenizer.json is words: restore that file"),
            ("tokenizer.json", "{", "tokenizer.json"),
            ("model.safetensors", "cut off", "model.safetensors"),
            ("config.json", "{}", "config.json"),
        ):
            shutil.copytree(trained, run, dirs_exist_ok=True)
            (run / name).write_text(content)
            error = refused(capsys, *arguments)
            assert message in error
            assert (run / name).read_text() == content
            assert not (tmp_path / "out").exists()


def test_what_a_folder_has_lost_is_told_and_the_rest_is_used(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "status.json").write_text("{")
    main(["sample", str(run), "--prompt", "x", "--tokens", "0"])
    printed = capsys.readouterr()
    assert printed.out == "x\n"
    assert re.fullmatch(rf"minipolycom: {run}: status\.json .*\n", printed.err)
    main(["compare", str(run)])
    assert capsys.readouterr().err == printed.err


def test_likely_tokens_only(trained, capsys):
    """With next to no probability to choose from, the likeliest token is drawn at any temperature."""
    greedy, narrow = ["--temperature", "0"], ["--top-p", "1e-9", "--temperature", "1", "--top-k", "0"]
    texts = []
    for how in (greedy, narrow):
        main(["sample", str(trained), "--prompt", "def ", "--tokens", "30", *how])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_benchmarks_print_rows_as_json_or_a_table(monkeypatch, capsys):
    from minipolycom.bench import model

    row = {
        "variant": "plain", "device": "cpu", "dtype": "float32", "shape": "small", "tokens_per_s": 5.0, "ratio": 1.0,
        "ratio_low": 0.9, "ratio_high": 1.1, "baseline": "plain", "threads": 1, "settings": "none",
    }  # fmt: skip
    asked = {}

    def measure(device, rounds, compiler, busy, peer):
        asked.update(locals())
        return [row]

    monkeypatch.setattr(model, "bench_model", measure)
    main(["bench", "model", "--json", "--rounds", "3", "--peer", "nanoGPT", "--no-compiler"])
    assert json.loads(capsys.readouterr().out) == [row]
    assert (asked["rounds"], str(asked["peer"]), asked["compiler"]) == (3, "nanoGPT", False)
    main(["bench", "model"])
    assert "plain" in capsys.readouterr().out


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
    TokenData("stdlib").prepare_data()  # the text is larger than any file may be then
    done = subprocess.run(
        [sys.executable, "-m", "minipolycom.cli", "train", "--out", str(out), *SHAPE, *QUICK, "--steps=2"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"minipolycom: cannot write to {out} (File too large): training ends after step " in done.stderr
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
    assert "the 124 M parameters of gpt2 hold with a vocabulary of 50,304" in words
    assert {"options:", "Model:", "Training:"} <= set(told.splitlines())
    table = [line.split() for line in told.split("\n\n")[-1].splitlines()]
    assert table[0] == ["preset", "n_layers", "n_heads", "d_model", "context", "batch_size", "learning_rate", "steps"]
    assert ["gpt2", "12", "12", "768", "1024", "32", "0.0006", "20000"] in table
    assert [row[0] for row in table[1:]] == [name for name in PRESETS if name in PRESET_TRAINING]


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


@pytest.mark.parametrize("what", BENCHMARKS)
def test_every_benchmark_is_there(capsys, what):
    """One round is too few for a spread, which each says before it measures anything."""
    assert "two rounds" in refused(capsys, "bench", what, "--rounds", "1")
