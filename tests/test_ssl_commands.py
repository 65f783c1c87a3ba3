"""`minipolycom ssl`: what the three commands print, refuse and leave behind, each run as a learner runs it."""

import json

import pytest

from minipolycom.cli import main
from minipolycom.ssl.runs import SSLRun

QUICK = ["--steps", "4", "--batch-size", "32"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_says_what_came_of_it_and_goes_on_where_it_stopped(here, capsys):
    command = ["ssl", "train", "--method", "rdm_simsiam_target", "--source", "latents", "--width", "4", *QUICK]
    main(command)
    said = capsys.readouterr().out
    folder = "runs/ssl-latents-rdm_simsiam_target-seed0"
    assert "latents, images made from 16 factors" in said
    assert "rdm_simsiam_target: finished at step 4" in said
    assert "erank_online " in said
    assert f"written to {folder}; ask its features: minipolycom ssl probe {folder}" in said
    before = SSLRun.load(here / folder)
    assert before.network.width == 4
    main(command)
    assert SSLRun.load(here / folder).table("losses") == before.table("losses")


def test_a_probe_prints_a_table_or_json(here, capsys):
    main(["ssl", "train", "--source", "latents", "--out", "run", *QUICK])
    capsys.readouterr()
    main(["ssl", "probe", "run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["space", "images", "knn", "linear"]
    assert lines[8].split() == ["space", "images", "factor", "correlation", "r2"]
    main(["ssl", "probe", "run", "--source", "digits", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows["classes"]) == 4
    assert rows["factors"] == []
    with pytest.raises(SystemExit, match="2"):
        main(["ssl", "probe", "run", "--source", "shapes"])
    assert "run was trained on images of 1 channels, and shapes has 3" in capsys.readouterr().err


def test_a_comparison_gives_a_row_for_each_training(here, capsys):
    command = [
        "ssl",
        "compare",
        "--method",
        "simsiam",
        "--method",
        "byol",
        "--seeds",
        "2",
        "--source",
        "latents",
        *QUICK,
    ]
    main([*command, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["seed"]) for row in rows] == [("simsiam", 0), ("byol", 0), ("simsiam", 1), ("byol", 1)]
    for row in rows:
        assert {"erank_online", "erank_target", "knn_augmented", "probe", "seconds"} <= row.keys()
    main([*command, "--record", "compared.json"])
    kept = json.loads((here / "compared.json").read_text())
    assert kept["rows"] == rows
    assert {"recorded", "commit", "environment"} <= kept.keys()
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3
    assert table[1].startswith("latents  simsiam  2")
    assert len(list((here / "runs" / "ssl-compare").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--method", "simsam"], "unknown method 'simsam'; known: symsimsiam, simsiam"),
        (["train", "--metod", "simsiam"], "unknown option --metod (did you mean --method?)"),
        (["train", "--source", "nowhere"], "unknown source 'nowhere'; known: digits, latents"),
        (["compare", "--seeds", "0"], "seeds counts the seeds of each method: it is at least 1; got 0"),
        (["probe", "nowhere"], "nowhere holds no run (no config.json)"),
        (["dance"], "unknown command 'ssl dance'; known: ssl train, ssl compare, ssl probe"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["ssl", *arguments])
    said = capsys.readouterr().err
    assert said.startswith(f"minipolycom: {message}")
    assert len(said.splitlines()) == 1


def test_a_training_that_diverges_exits_with_one_line(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["ssl", "train", "--method", "simclr", "--source", "latents", "--learning-rate", "1e30",
              "--warmup-steps", "0", *QUICK])  # fmt: skip
    assert "training stopped because it diverged" in capsys.readouterr().err
