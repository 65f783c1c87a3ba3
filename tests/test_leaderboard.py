"""A leaderboard: what has entered is not trained again, a changed gain is, and seeds are paired with recorded ones."""

import shutil
from pathlib import Path

import pytest
import torch

from minipolycom.ssl import filters
from minipolycom.studies import leaderboard
from minipolycom.studies.leaderboard import enter, entered, filter_of, fingerprint, label, paired, scores

SOFT = "rdm_simsiam_target@soft:target:-1.0"


def soft(s: torch.Tensor) -> torch.Tensor:
    return (s.square() + 0.25).sqrt()


@pytest.fixture
def gains(monkeypatch) -> dict:
    """The dict of gains, with one more that is gone after the test."""
    monkeypatch.setitem(filters.GAINS, "soft", soft)
    return filters.GAINS


def test_an_entry_is_trained_once_and_read_afterwards(gains, tmp_path: Path) -> None:
    rows = enter("soft, mine", SOFT, steps=2, seeds=(0, 1), out=tmp_path)
    assert [(row["entry"], row["seed"], row["steps"]) for row in rows] == [("soft, mine", 0, 2), ("soft, mine", 1, 2)]
    assert entered(tmp_path) == rows
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)  # without the trainings there is nothing to read but the board's own file
    seen = []
    assert enter("soft, mine", SOFT, steps=2, seeds=(1,), out=tmp_path, on_row=seen.append) == rows[1:] == seen
    assert [path.name for path in tmp_path.iterdir()] == ["soft_mine.json"]


def test_a_gain_that_was_changed_under_its_name_takes_the_place_of_the_old_one(gains, tmp_path: Path) -> None:
    (old,) = enter("soft", SOFT, steps=2, seeds=(0,), out=tmp_path)
    gains["soft"] = torch.log1p
    (new,) = enter("soft", SOFT, steps=2, seeds=(0,), out=tmp_path)
    assert new["fingerprint"] != old["fingerprint"]
    assert new["loss"] != old["loss"]
    assert entered(tmp_path) == [new]


def test_a_fingerprint_is_that_of_what_the_gain_does(gains) -> None:
    code = fingerprint(SOFT, 300)
    assert fingerprint(SOFT, 299) != code
    gains["soft"] = lambda s: (s**2 + 1 / 4) ** 0.5
    assert fingerprint(SOFT, 300) == code
    gains["soft"] = lambda s: (s**2 + 1 / 3) ** 0.5
    assert fingerprint(SOFT, 300) != code
    assert fingerprint("simsiam", 300) != fingerprint("byol", 300)


def test_an_unknown_gain_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown kind of filter 'soft'"):
        enter("soft", SOFT, steps=2, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_entry_keeps_what_was_finished_and_says_how_to_go_on(gains, tmp_path, monkeypatch) -> None:
    enter("soft", SOFT, steps=2, seeds=(0,), out=tmp_path)
    monkeypatch.setattr(leaderboard, "compare", lambda *_, **__: [])  # what a comparison returns when it was stopped
    with pytest.raises(KeyboardInterrupt, match="soft was interrupted at seed 1; run this again"):
        enter("soft", SOFT, steps=2, out=tmp_path)
    assert [row["seed"] for row in entered(tmp_path)] == [0]


def test_the_protocol_is_that_of_the_recorded_studies() -> None:
    tier = leaderboard.recorded("sigma").settings
    ours = leaderboard.trained(300, "auto")
    how = ("accelerator", "keep_checkpoints")
    assert {key: value for key, value in ours.items() if key not in how} == {
        key: value for key, value in tier["train"].items() if key not in how
    }
    assert (tier["source"], tier["batch_size"], tier["network"]) == ("digits", leaderboard.SSL["batch_size"], {})
    assert tuple(leaderboard.recorded("sigma").seeds) == leaderboard.SEEDS


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("simsiam", "SimSiam"),
        ("rdm_simsiam_target", "target −0.5"),
        ("rdm_simsiam_online@log1p:online:1.0", "online log1p +1"),
        ("wrong_filter_target", "target +1 (wrong sign)"),
        ("rdm_byol_target", "BYOL, target −0.5"),
    ],
)
def test_a_method_has_a_name_for_figures(method: str, said: str) -> None:
    assert label(method) == said


def test_the_filter_of_a_method_is_the_given_one_or_the_recipe_s() -> None:
    assert filter_of("rdm_simsiam_online").sigma == 1.0
    assert filter_of("rdm_simsiam_online@power:online:0.5").sigma == 0.5
    assert filter_of("simsiam") is None


def test_recorded_scores_hold_every_method_with_three_seeds_and_all_measures() -> None:
    board = leaderboard.recorded_scores()
    assert len(board) == 20
    for by_seed in board.values():
        assert sorted(by_seed) == [0, 1, 2]
        assert all(own.keys() == leaderboard.MEASURES.keys() for own in by_seed.values())
    assert min(own["erank_projected"] for own in board["target −2"].values()) > 50


def test_scores_leave_out_what_was_not_measured_and_pairs_are_of_common_seeds() -> None:
    row = {"entry": "a", "seed": 1, "probe": 0.9, "erank_projected": None, "loss": 3.0}
    board = scores([row, {"entry": "a", "seed": 0, "probe": 0.8}, {"entry": "b", "seed": 1, "probe": 0.7}])
    assert board == {"a": {1: {"probe": 0.9}, 0: {"probe": 0.8}}, "b": {1: {"probe": 0.7}}}
    assert leaderboard.by_measure(board)["a"][leaderboard.MEASURES["probe"]] == [0.9, 0.8]
    assert leaderboard.by_measure(board)["a"][leaderboard.MEASURES["erank_projected"]] == []
    assert paired(board["a"], board["b"], "probe") == ([0.9], [0.7])
    assert paired(board["a"], board["b"], "erank_projected") == ([], [])
