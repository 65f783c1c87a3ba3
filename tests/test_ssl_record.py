"""The recorded comparison of methods says what the theory of the rank difference predicts, over all of its seeds."""

from itertools import pairwise
from pathlib import Path

import pytest

from minipolycom.ssl.compare import ALL, over_seeds, read_record, write_record
from minipolycom.ssl.methods import CONTROLS, METHODS
from minipolycom.viz.branches import methods_compared
from minipolycom.viz.figures import alt, static

FILE = Path(__file__).parents[1] / "course" / "reference" / "ssl-methods.json"
SOURCES = ("digits", "latents")
SYMMETRIC = ("symsimsiam", "simclr", "barlow_twins", "vicreg", "no_predictor", "no_asymmetry")
"""Methods whose branches are alike."""


@pytest.fixture(scope="module")
def rows():
    return read_record(FILE)


def of(rows: list[dict], source: str, method: str, measure: str) -> list[float]:
    found = [row[measure] for row in rows if (row["source"], row["method"]) == (source, method)]
    assert len(found) >= 3, (source, method)
    return found


def test_every_method_control_and_filter_has_three_seeds_on_both_sources(rows):
    for source in SOURCES:
        for method in ALL:
            seeds = {row["seed"] for row in rows if (row["source"], row["method"]) == (source, method)}
            assert {0, 1, 2} <= seeds, (source, method)
    assert all(row["status"] == "finished" for row in rows)


@pytest.mark.parametrize("source", SOURCES)
def test_where_the_target_has_the_higher_rank_the_branches_differ(rows, source):
    for method in METHODS:
        differences = of(rows, source, method, "rank_difference")
        if method in SYMMETRIC:
            assert max(map(abs, differences)) < 1e-3, method
        elif method not in CONTROLS:
            assert min(differences) > 1, method


@pytest.mark.parametrize("source", SOURCES)
def test_filters_of_the_wrong_sign_and_what_lacks_a_part_end_below_everything_that_trains(rows, source):
    collapsed = ("wrong_filter_online", "wrong_filter_target", "no_stop_gradient", "no_asymmetry", "byol_no_predictor")
    trained = ("simsiam", "byol", "swav", "dino", "rdm_simsiam_online", "rdm_simsiam_target", "rdm_byol_online")
    highest = max(rank for method in collapsed for rank in of(rows, source, method, "erank_projected"))
    lowest = min(rank for method in trained for rank in of(rows, source, method, "erank_projected"))
    assert highest < 3 < lowest


@pytest.mark.parametrize("source", SOURCES)
def test_the_target_ranks_of_the_simsiam_family_are_in_one_order_in_every_seed(rows, source):
    family = ("wrong_filter_target", "symsimsiam", "simsiam", "rdm_simsiam_online", "rdm_simsiam_target")
    ranks = [of(rows, source, method, "erank_target") for method in family]
    assert all(max(lower) < min(higher) for lower, higher in pairwise(ranks))


def test_the_recorded_comparison_is_drawn(rows):
    frame = over_seeds([row for row in rows if row["source"] == "digits"])
    figure = methods_compared(frame, "erank_target", "effective rank of the target")
    assert "wrong_filter_target" in alt(figure)
    assert static(figure).startswith("<svg")


def test_a_record_is_read_as_it_was_written_and_another_file_is_refused(tmp_path):
    write_record([{"method": "a"}], tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == [{"method": "a"}]
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no comparison of methods"):
        read_record(tmp_path / "other.json")
