"""Studies: statistics on known answers, the rule of the verdicts, pieces that are taken up again, records, figures."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minipolycom.cli import main
from minipolycom.control import Control
from minipolycom.learn.paper_map import STATUSES, Claim, paper_map, read_claims
from minipolycom.learn.tiers import TIERS
from minipolycom.model import GPTConfig
from minipolycom.studies import running
from minipolycom.studies.catalogue import STUDIES, exponents, ranks_bridged, ranks_compared, speed
from minipolycom.studies.pieces import KINDS, Interrupted, repeatable
from minipolycom.studies.records import Record, largest, read_records, recorded
from minipolycom.studies.results import figure, judged_again, recorded_claims, results, verdict_of
from minipolycom.studies.running import again, difference, run_study
from minipolycom.studies.statistics import (
    Reached,
    bootstrap_interval,
    crossing,
    fit_power_law,
    holm,
    mean_interval,
    median_steps,
    p_value,
    paired,
    steps_to_target,
    student_interval,
)
from minipolycom.studies.study import TUNING_SEED, Comparison, Piece, Statement, chosen_rates, judge
from minipolycom.studies.variants import VARIANTS, known_to_models
from minipolycom.viz.figures import alt, static
from minipolycom.viz.figures import table as numbers
from minipolycom.viz.studies import comparisons, differences_to_baseline, intervals, scaling

COURSE = Path(__file__).parents[1] / "course"
NAMES = list(STUDIES)
RATE = 1e-3


def pieces_of(name: str, tier: str = "smoke") -> list[Piece]:
    """The pieces of a study: those that choose rates, and those that are compared, as if all had chosen the same."""
    study, settings = STUDIES[name], STUDIES[name].tiers[tier]
    tuned = study.tune(settings) if study.tune else []
    rates = {piece.group: RATE for piece in tuned}
    return [*study.make(settings, [0, 1], rates), *tuned]


# -- statistics ------------------------------------------------------------------------------------------------------


def test_pairs_are_seeds_that_both_have():
    assert paired({2: 5.0, 0: 1.0, 7: 3.0}, {0: 0.5, 2: 1.0}) == [0.5, 4.0]


def test_students_interval_is_the_textbooks():
    found = student_interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t of 2 degrees of freedom at 97.5 %; the standard deviation is 1
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert (found.estimate, found.n, found.method) == (2.0, 3, "Student")


@pytest.mark.parametrize("n", [3, 5, 24])
def test_an_interval_holds_the_truth_as_often_as_it_says(n):
    random, times = np.random.default_rng(n), 300
    found = [mean_interval(random.normal(0.3, 2.0, n).tolist()) for _ in range(times)]
    held = sum(each.low <= 0.3 <= each.high for each in found) / times
    # 300 draws of a chance of 0.95 scatter by 0.013; a bootstrap of 24 is known to hold a little less, about 0.93.
    assert 0.95 - 4.5 * 0.013 < held <= 1.0
    assert {each.method for each in found} == {"BCa" if n == 24 else "Student"}


def test_a_bootstrap_of_three_would_promise_too_much():
    random = np.random.default_rng(0)
    found = [bootstrap_interval(random.normal(0.3, 2.0, 3).tolist()) for _ in range(150)]
    assert sum(each.low <= 0.3 <= each.high for each in found) / 150 < 0.87


def test_a_bootstrap_without_spread_is_a_point():
    found = bootstrap_interval([2.0] * 25)
    assert (found.low, found.estimate, found.high) == (2.0, 2.0, 2.0)


def test_holm_on_the_textbooks_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_p_value_is_that_of_the_paired_test():
    p, inside = p_value([-0.10, -0.11, -0.09], high=0.0)
    assert inside
    assert p == pytest.approx(0.003317, abs=1e-5)  # scipy.stats.ttest_1samp of the three
    assert p_value([0.10, 0.11, 0.09], high=0.0) == (pytest.approx(0.003317, abs=1e-5), False)


def test_a_p_value_agrees_with_the_interval():
    random = np.random.default_rng(1)
    for _ in range(100):
        values = random.normal(0.1, 0.1, 4).tolist()
        found, (p, inside) = student_interval(values), p_value(values, -0.2, 0.2)
        assert (p < 0.05 and inside) == (found.low > -0.2 and found.high < 0.2)


def test_values_without_spread_have_a_certain_p_value():
    assert p_value([1.0, 1.0], low=0.0) == (0.0, True)
    assert p_value([-1.0, -1.0], low=0.0) == (0.0, False)


@pytest.mark.parametrize("function", [student_interval, bootstrap_interval, mean_interval, p_value])
def test_one_seed_has_no_spread(function):
    with pytest.raises(ValueError, match="one seed has no spread: give at least two; got 1"):
        function([1.0])


def test_steps_to_a_loss():
    curve = [(0, 5.0), (50, 2.0), (100, 1.5), (150, 1.6)]
    assert steps_to_target(curve, 2.0) == Reached(50)
    assert steps_to_target(curve, 1.0) == Reached(150, censored=True)
    assert str(steps_to_target(curve, 1.0)) == "> 150"
    with pytest.raises(ValueError, match="a curve without a measurement reaches nothing"):
        steps_to_target([], 1.0)


def test_a_curve_crosses_between_two_evaluations():
    curve = [(0, 3.0), (10, 2.0), (20, 1.0), (30, 1.5)]
    assert crossing(curve, 1.25) == pytest.approx(17.5)
    assert [crossing(curve, target) for target in (3.5, 1.0, 0.5)] == [0, 20, None]


def test_the_median_counts_runs_that_never_arrived():
    assert median_steps([Reached(10), Reached(20), Reached(30)]) == Reached(20)
    assert median_steps([Reached(10), Reached(50, True), Reached(20)]) == Reached(20)
    assert median_steps([Reached(10), Reached(50, True), Reached(50, True)]) == Reached(50, True)
    with pytest.raises(ValueError, match="the number of runs is at least 1; got 0"):
        median_steps([])


def law(size: float) -> float:
    return 1.0 + 3.0 * size**-0.3


@pytest.mark.parametrize("floor", [None, 1.0])
def test_a_power_law_is_found_again(floor):
    losses = {size: [law(size) + shift for shift in (0.001, -0.001, 0.0)] for size in (10, 100, 1000, 10_000)}
    found = fit_power_law(losses, floor=floor)
    # The search for a floor ends within 1e-5 of it, on a logarithmic scale.
    assert (found.floor, found.exponent) == (pytest.approx(1.0, abs=1e-4), pytest.approx(0.3, abs=1e-4))
    assert found.low <= found.exponent <= found.high
    assert found(500) == pytest.approx(law(500), abs=1e-3)


def test_the_interval_of_an_exponent_grows_with_the_noise():
    random, sizes = np.random.default_rng(0), (10, 100, 1000, 10_000)
    spans = []
    for noise in (0.001, 0.01):
        found = fit_power_law({size: (law(size) + random.normal(0, noise, 5)).tolist() for size in sizes}, floor=1.0)
        spans.append(found.high - found.low)
    assert spans[1] > 3 * spans[0] > 0


@pytest.mark.parametrize(
    ("losses", "floor", "message"),
    [
        ({10: [2.0], 20: [1.5]}, 1.0, "needs at least 3 sizes here, or it fits anything; got 2"),
        ({10: [2.0], 20: [1.5], 30: [1.2]}, None, "needs at least 4 sizes"),
        ({10: [2.0], 20: [1.5, 1.4], 30: [1.2]}, 1.0, "give each size one loss per seed"),
        ({10: [2.0], 20: [1.5], 30: [0.9]}, 1.0, "at or under the floor of 1.0000 leaves nothing to fit: 0.9000"),
    ],
)
def test_what_is_no_power_law_is_refused(losses, floor, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(losses, floor=floor)


# -- the rule --------------------------------------------------------------------------------------------------------


def ends(**arms: list[float]) -> list[dict]:
    return [
        {"table": "end", "phase": "main", "arm": arm, "group": arm, "seed": seed, "source": "text", "loss": value}
        for arm, values in arms.items()
        for seed, value in enumerate(values)
        if value is not None
    ]


LESS = Comparison(measure="loss", first="a", second="b", high=0.0)
ALIKE = Comparison(measure="loss", first="a", second="b", low=-0.1, high=0.1)
CLEAR, NOISE = [1.0, 2.0, 3.0], [0.001, -0.001, 0.0]


def shifted(by: float) -> list[float]:
    return [value + by + noise for value, noise in zip(CLEAR, NOISE, strict=True)]


@pytest.mark.parametrize(
    ("comparison", "a", "verdict", "status"),
    [
        (LESS, shifted(-0.5), "holds", "scaled down"),
        (LESS, shifted(0.5), "fails", "contradicted"),
        (LESS, [0.0, 2.5, 2.9], "undecided", "undecided"),
        (LESS, [0.5, None, None], "undecided", "undecided"),  # one seed alone decides nothing
        (ALIKE, shifted(0.01), "holds", "scaled down"),
        (ALIKE, shifted(0.5), "fails", "contradicted"),
        (ALIKE, [1.3, 1.9, 2.8], "undecided", "undecided"),  # a difference that was not seen is not shown to be small
    ],
)
def test_a_verdict_follows_from_the_interval(comparison, a, verdict, status):
    statement = Statement(text="it is so", claim="a-claim", comparisons=(comparison,))
    (judged,) = judge([statement], ends(a=a, b=CLEAR), scale="small")
    assert (judged["verdict"], judged["status"]) == (verdict, status)
    assert judge([statement], ends(a=a, b=CLEAR), scale="")[0]["status"] == status.replace("scaled down", "reproduced")
    assert status in STATUSES


def test_a_statement_of_our_own_has_no_status():
    (judged,) = judge([Statement(text="so", comparisons=(LESS,))], ends(a=shifted(-1), b=CLEAR), scale="")
    assert (judged["verdict"], judged["status"]) == ("holds", "")


def test_one_comparison_that_fails_contradicts_and_one_undecided_leaves_open():
    rows = ends(a=shifted(-0.5), b=CLEAR, c=shifted(-1.0), d=[0.2, 2.4, 2.3])
    lower = {name: Comparison(measure="loss", first="a", second=name, high=0.0) for name in "bcd"}
    for names, verdict in (("b", "holds"), ("bd", "undecided"), ("bc", "fails"), ("bcd", "fails")):
        statement = Statement(text="", comparisons=tuple(lower[name] for name in names))
        assert judge([statement], rows, "")[0]["verdict"] == verdict


def test_many_comparisons_need_more_than_one_does():
    a = [value - 0.5 + noise for value, noise in zip(CLEAR, (0.1, -0.15, 0.05), strict=True)]
    one = judge([Statement(text="", comparisons=(LESS,))], ends(a=a, b=CLEAR), "")
    many = judge([Statement(text="", comparisons=(LESS,) * 10)], ends(a=a, b=CLEAR), "")
    assert (one[0]["verdict"], many[0]["verdict"]) == ("holds", "undecided")
    assert many[0]["comparisons"][0]["p_adjusted"] == pytest.approx(10 * one[0]["comparisons"][0]["p"])


def test_only_rows_of_the_compared_runs_count():
    rows = ends(a=shifted(-0.5), b=CLEAR)
    others = [row | {"phase": "rate", "loss": 99.0} for row in rows] + [
        row | {"table": "curve", "loss": 99.0} for row in rows
    ]
    statement = Statement(text="", comparisons=(replace(LESS, where={"source": "text"}),))
    assert judge([statement], others + rows, "")[0]["verdict"] == "holds"
    elsewhere = Statement(text="", comparisons=(replace(LESS, where={"source": "elsewhere"}),))
    assert judge([elsewhere], rows, "")[0]["comparisons"][0]["differences"] == []


def tuned(losses: dict[float, list[float | None]]) -> list[dict]:
    return [
        {"table": "end", "phase": "rate", "group": "g", "learning_rate": rate}
        | ({} if loss is None else {"loss": loss})
        for rate, of_rate in losses.items()
        for loss in of_rate
    ]


def test_a_rate_is_the_best_mean_of_those_that_did_not_diverge():
    found = chosen_rates(tuned({1e-3: [2.0, 2.2], 2e-3: [1.0, 1.2], 4e-3: [0.1, None]}))["g"]
    assert (found["rate"], found["edge"]) == (2e-3, False)
    assert found["losses"]["0.004"] is None
    assert chosen_rates(tuned({1e-3: [2.0], 2e-3: [1.0]}))["g"]["edge"]
    with pytest.raises(ValueError, match=r"g diverged at every learning rate of the grid \(0.001\)"):
        chosen_rates(tuned({1e-3: [None]}))


# -- the studies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_every_tier_and_declared_claims(name):
    study = STUDIES[name]
    assert study.name == name
    assert set(study.tiers) == set(TIERS)
    assert study.question.endswith("?")
    declared = read_claims(COURSE / "source" / "claims.toml")
    assert {each.claim for each in study.statements} <= {"", *declared}


@pytest.mark.parametrize("tier", list(TIERS))
@pytest.mark.parametrize("name", NAMES)
def test_the_pieces_of_a_study_can_be_made(name, tier):
    pieces = pieces_of(name, tier)
    assert len({piece.key for piece in pieces}) == len(pieces)
    assert all(json.loads(json.dumps(piece.settings)) == piece.settings for piece in pieces)
    arms = {piece.arm for piece in pieces} | set(STUDIES[name].tiers[tier].get("arms", ()))
    compared = {
        arm for each in STUDIES[name].statements for line in each.comparisons for arm in (line.first, line.second)
    }
    assert compared <= {"", *arms} | ({"all"} if name == "bridge" else set())  # what is measured over all arms at once
    assert {piece.seed >= TUNING_SEED for piece in pieces if piece.phase == "main"} == {False}
    assert {piece.seed >= TUNING_SEED for piece in pieces if piece.phase == "rate"} <= {True}


@pytest.mark.parametrize("name", [name for name in NAMES if STUDIES[name].tune])
def test_what_is_compared_has_equally_many_parameters(name):
    with known_to_models():
        for tier in ("cpu", "gpu"):
            sizes: dict[int, list[int]] = {}
            for piece in pieces_of(name, tier):
                config = GPTConfig(**piece.settings["model"])
                sizes.setdefault(config.d_model, []).append(config.n_active_parameters)
            # A gated width is rounded to 8 and an expert's, too: most where the model is narrowest.
            assert all(max(found) / min(found) < 1.02 for found in sizes.values())


def test_variants_are_known_to_models_only_while_a_study_trains():
    name = next(iter(VARIANTS))
    with known_to_models():
        assert GPTConfig(activation=name).activation == name
    with pytest.raises(ValueError, match="unknown activation"):
        GPTConfig(activation=name)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_piece_of_a_study_gives_the_same_rows_again(name, tmp_path):
    piece = pieces_of(name)[0]
    first, second = (repeatable(KINDS[piece.kind](piece, tmp_path / folder, Control())) for folder in ("one", "two"))
    assert first == second
    assert all(row.items() >= {"phase": "main", "seed": 0}.items() for row in first)
    assert first[0]["table"] == "end"


def test_a_run_that_diverges_ends_without_a_loss(tmp_path):
    piece = pieces_of("dense")[0]
    wild = replace(piece, settings=piece.settings | {"train": piece.settings["train"] | {"learning_rate": 1e30}})
    end = KINDS["language"](wild, tmp_path / "run", Control())[0]
    assert end["status"] == "diverged"
    assert "loss" not in end


def curve(arm: str, seed: int, losses: list[float], **more) -> list[dict]:
    label = {"arm": arm, "group": arm, "phase": "main", "seed": seed, "source": "text"}
    rows = [{"table": "curve", **label, "step": 10 * step, "loss": loss} for step, loss in enumerate(losses)]
    return [{"table": "end", **label, "loss": losses[-1], **more}, *rows]


def test_steps_to_the_baselines_loss():
    rows = [
        *curve("swiglu", 0, [3.0, 2.0, 1.0]),
        *curve("gelu", 0, [3.0, 2.5, 2.0]),
        *curve("relu", 0, [3.0, 0.9, 0.8]),
    ]
    found = {row["arm"]: row for row in speed(rows)}
    assert (found["swiglu"]["steps_to_swiglu"], found["relu"]["steps_to_swiglu"]) == (20, 10)
    assert found["gelu"]["at_least"] == 20
    assert "steps_to_swiglu" not in found["gelu"]
    saved = {arm: row["saved"] for arm, row in found.items()}
    assert saved == pytest.approx({"swiglu": 0.0, "relu": 1 - (2.0 / 2.1) / 2, "gelu": 0.0})


def test_ranks_at_equal_loss_are_those_of_the_step_that_reaches_it():
    rows = [*curve("relu", 0, [3.0, 2.0, 1.5]), *curve("gelu", 0, [3.0, 1.4, 1.0])]
    rows += [
        {"table": "ranks", "arm": arm, "group": arm, "phase": "main", "seed": 0, "step": 10 * step, "weight_rank": rank}
        for arm, ranks in {"relu": [9, 8, 7], "gelu": [9, 6, 5]}.items()
        for step, rank in enumerate(ranks)
    ]
    found = {row["arm"]: row for row in ranks_compared(rows)}
    assert {row["target"] for row in found.values()} == {1.5}  # the worse of the best losses
    assert (found["relu"]["weight_rank"], found["relu"]["weight_rank_at_loss"]) == (7, 7)
    assert (found["gelu"]["weight_rank"], found["gelu"]["weight_rank_at_loss"]) == (5, 6)


def test_the_rank_that_an_activation_adds_is_held_against_the_loss():
    gains, losses = {"a": 3.0, "b": 1.0, "c": -2.0, "diverged": 5.0}, {"a": 1.0, "b": 1.5, "c": 2.0, "diverged": None}
    rows = [
        {"table": table, "arm": arm, "group": arm, "phase": "main", "seed": 0, **columns}
        for arm in gains
        for table, columns in (
            ("end", {"loss": losses[arm]}),
            ("ranks", {"step": 0, "rank_in": 0.0, "rank_out": 9.0}),
            ("ranks", {"step": 1, "rank_in": 10.0, "rank_out": 10.0 + gains[arm]}),
        )
    ]
    found = ranks_bridged(rows)
    assert {row["arm"]: row["rank_gain"] for row in found if "rank_gain" in row} == gains
    assert [row["gain_with_loss"] for row in found if row["arm"] == "all"] == [-1.0]
    for row in rows:
        row["rank_out"] = row.get("rank_in", 0.0)  # no gain anywhere: nothing goes with anything
    with pytest.warns(RuntimeWarning, match="constant"):
        assert not [row for row in ranks_bridged(rows) if row["arm"] == "all"]


def sizes_that_follow_a_law() -> list[dict]:
    return [
        {"table": "end", "phase": "main", "arm": arm, "group": "", "seed": seed, "width": width, "parameters": width**2,
         "above_floor": (1 + seed / 10) * width ** (-2 * exponent)}
        for arm, exponent in {"swiglu": 0.2, "polynorm": 0.3}.items()
        for seed in range(2)
        for width in (10, 20, 40, 80)
    ]  # fmt: skip


def test_exponents_of_losses_that_follow_a_law():
    rows = sizes_that_follow_a_law()
    found = {(row["arm"], row["seed"]): row for row in exponents(rows)}
    assert found["swiglu", 1]["exponent"] == pytest.approx(0.2)
    assert found["polynorm", 0]["exponent"] == pytest.approx(0.3)
    lead = [width**-0.4 - width**-0.6 for width in (10, 80)]
    assert found["polynorm", 0]["lead_gained"] == pytest.approx(lead[1] - lead[0])
    assert len(exponents([row for row in rows if row["width"] != 80 or row["arm"] != "swiglu"])) == 2  # swiglu alone


# -- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> tuple[Record, Path]:
    """The dense study at the smoke tier, interrupted in the middle, and gone on with."""
    folder = tmp_path_factory.mktemp("dense")
    control, computed = Control(), []

    def stop_at_the_fifth(piece, number, of):
        computed.append(piece.key)
        if len(computed) == 5:
            control.stop()

    settings = {"reference": folder / "reference", "work": folder / "work"}
    with pytest.raises(Interrupted):
        run_study(STUDIES["dense"], "smoke", 2, control=control, on_piece=stop_at_the_fifth, **settings)
    assert len(list((folder / "work").glob("*.json"))) == 4
    assert not (folder / "reference").exists()
    more: list[str] = []
    record = run_study(STUDIES["dense"], "smoke", 2, on_piece=lambda piece, *_: more.append(piece.key), **settings)
    assert more[0] == computed[-1]  # the one that was under way comes first, and none before it again
    assert not {*more} & {*computed[:-1]}
    return record, folder


def test_a_record_says_what_was_computed_where_and_when(dense):
    record, folder = dense
    assert Record.read(folder / "reference" / "dense-smoke.json") == record
    assert len(record.pieces) == 8 * 2 + 8 * 2  # two rates on one seed, then two seeds
    for piece in record.pieces:
        assert piece["environment"]["versions"]["torch"]
        assert {"seconds", "date", "commit", "load_average"} <= piece.keys()
    assert record.seconds > 0
    assert {row["arm"] for row in record.table("end")} == {row["arm"] for row in record.table("curve")}
    assert set(record.rates) == {f"{row['arm']}, grammar" for row in record.table("end")}
    for row in record.table("end"):
        if row["phase"] == "main":
            assert row["learning_rate"] == record.rates[row["group"]]["rate"]
    assert sum(file.stat().st_size for file in (folder / "reference").iterdir()) < 300_000


def test_the_first_piece_of_a_record_is_computed_again(dense):
    record, _ = dense
    assert again(record) == "the same 7 rows as recorded, to the last digit"
    changed = replace(record, rows=[record.rows[0] | {"loss": 0.0}, *record.rows[1:]])
    assert "the rows differ from the recorded ones from row 1 on" in again(changed)
    assert "from row 2 on" in difference([{"a": 1}], [{"a": 1}, {"a": 2}])


def test_finished_pieces_are_not_computed_again(dense, monkeypatch):
    record, folder = dense
    monkeypatch.setattr(running, "finished", None)
    repeated = run_study(STUDIES["dense"], "smoke", 2, reference=folder / "reference", work=folder / "work")
    assert replace(repeated, recorded="") == replace(record, recorded="")


def test_studies_share_the_pieces_that_they_have_in_common():
    names = ("dense", "rank", "bridge", "composition", "order", "start")
    keys = {name: {piece.key for piece in pieces_of(name, "cpu")} for name in names}
    assert keys["rank"] < keys["bridge"] < keys["dense"]
    shared = {name: len(keys[name] & keys["dense"]) for name in ("composition", "order", "start")}
    each = 3 + 2  # three rates and two seeds
    assert shared == {"composition": 3 * each, "order": each, "start": 2 * each}


def test_pieces_are_shared_among_processes(tmp_path, monkeypatch):
    computed = []

    def slow(piece, folder, control):
        computed.append(piece.key)
        time.sleep(0.05)
        return {"rows": [], "piece": piece.key}

    monkeypatch.setattr(running, "finished", slow)
    pieces = [Piece(kind="precision", arm="a", group="a", seed=seed) for seed in range(12)]
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(running.Worker(tmp_path, Control(), None)(pieces)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == sorted(piece.key for piece in pieces)  # each once
    assert [[each["piece"] for each in found] for found in results] == [[piece.key for piece in pieces]] * 3


def test_processes_that_end_together_write_the_record_one_after_the_other(tmp_path, monkeypatch):
    whole, writing, collided = Record.write, threading.Lock(), []

    def slowly(record, folder):
        collided.append(not writing.acquire(blocking=False))
        time.sleep(0.05)
        whole(record, folder)
        if not collided[-1]:
            writing.release()

    monkeypatch.setattr(Record, "write", slowly)
    threads = [
        threading.Thread(
            target=run_study,
            args=(STUDIES["precision"], "smoke", 2),
            kwargs={"reference": tmp_path / "reference", "work": tmp_path / "work"},
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collided == [False] * 3
    assert len(read_records(tmp_path / "reference")) == 1


def test_a_record_that_does_not_come_with_the_course_is_named():
    assert recorded("ssl-methods").name == "ssl-methods-cpu"
    with pytest.raises(ValueError, match=r"no record elephants-cpu\.json in .*studies or "):
        recorded("elephants")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_study_goes_on(tmp_path):
    arguments = ["reproduce", "precision", "--tier", "smoke", "--seeds", "2", "--work", str(tmp_path / "work")]
    arguments += ["--reference", str(tmp_path / "reference")]
    code = f"""if True:
        import os, signal
        from minipolycom.studies import running
        whole, count = running.finished, 0
        def finished(*arguments):
            global count
            count += 1
            if count == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*arguments)
        running.finished = finished
        from minipolycom.cli import main
        main({arguments!r})
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((tmp_path / "work").glob("*.json"))) == 3
    main(arguments)
    (record,) = read_records(tmp_path / "reference")
    assert len(record.pieces) == 20
    assert largest([record]) == []  # the smoke tier means nothing


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_lists_runs_and_repeats(tmp_path, capsys):
    main(["reproduce"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    places = ["--work", str(tmp_path / "work"), "--reference", str(tmp_path / "reference")]
    main(["reproduce", "precision", "--tier", "smoke", "--seeds", "2", *places])
    shown = capsys.readouterr().out
    assert "main 1 of 20: polynorm, float16, same inside, seed 0" in shown
    assert "holds: With fp32 inside, PolyNorm of fp16 rows with standard deviation 2 is wrong by less than" in shown
    main(["reproduce", "precision", "--tier", "smoke", "--again", *places[2:]])
    assert "the same 6 rows as recorded, to the last digit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown study 'nothing'; known: dense, moe"),
        (["dense", "--tier", "huge"], "unknown tier 'huge'; known: smoke, cpu, gpu"),
        (["dense", "--tier", "smoke", "--seeds", "1"], "the number of seeds is at least 2; got 1"),
        (["dense", "--again", "--reference", "nowhere"], "dense-cpu.json is no record of a study (FileNotFoundError"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# -- what is made of records -----------------------------------------------------------------------------------------


def as_if_at(tier: str, record: Record, **more) -> Record:
    scale = record.settings | {"scale": "small"}
    return replace(record, tier=tier, settings=scale, **more)


def test_the_table_and_the_figures_come_from_the_record_alone(dense):
    record = Record.read(dense[1] / "reference" / "dense-smoke.json")
    table = comparisons(record)
    assert list(table["comparison"])[-1] == "loss of polyrelu - squared_relu, stdlib"
    assert set(table["claimed"]) == {"< 0", "> 0"}
    figure = intervals(record)
    assert "loss of polynorm - swiglu, grammar" in alt(figure)
    assert static(figure).startswith("<svg")
    assert re.search("holds|undecided|fails", alt(intervals(record, 2)))  # that of the text that this tier has
    curves = differences_to_baseline(record)
    assert "polynorm" in alt(curves)
    assert np.allclose(numbers(curves)["swiglu"].dropna(), 0)  # the baseline minus itself
    own = [{"split": "val", "step": row["step"], "loss": row["loss"]} for row in record.table("curve")[:3]]
    assert "yours" in [trace.name for trace in differences_to_baseline(record, others=own).data]


def test_the_figure_of_scaling_shows_the_fitted_laws(dense):
    figure = scaling(replace(dense[0], rows=sizes_that_follow_a_law()))
    assert "swiglu: exponent 0.200 (0.200 to 0.200); polynorm: exponent 0.300 (0.300 to 0.300)" in alt(figure)
    assert static(figure).startswith("<svg")
    with pytest.raises(ValueError, match="the study dense has no losses above a floor at three sizes or more"):
        scaling(dense[0])


def test_a_record_without_curves_says_so(dense):
    record = replace(dense[0], rows=[row for row in dense[0].rows if row["table"] != "curve"])
    with pytest.raises(ValueError, match="the study dense has no curves to draw"):
        differences_to_baseline(record)


def test_results_are_a_page_of_the_largest_tiers(dense):
    record = dense[0]
    with pytest.raises(ValueError, match="there is no record to report: run a study with `minipolycom reproduce"):
        results([record])
    page = results([record, as_if_at("cpu", record)])
    assert page.count("## dense") == 1
    assert "`minipolycom reproduce dense --tier cpu --seeds 2`" in page
    assert "too few runs finished" in page  # of the text that the smoke tier does not have
    for statement in record.statements:
        assert f"| {statement['text']}" in page
    steps = [row for row in record.table("derived") if row["arm"] == "gelu"]
    late = [{name: row[name] for name in row if name != "steps_to_swiglu"} | {"at_least": 6} for row in steps]
    others = [row for row in record.rows if row not in steps]
    assert "GELU > 6" in results([as_if_at("cpu", record, rows=others + late)])


LINE = {"measure": "loss", "first": "polynorm", "second": "swiglu", "where": {"source": "stdlib"}}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            dict(estimate=-0.00823, low=-0.0198, high=0.00334),
            "loss, PolyNorm minus SwiGLU, Python's library: -0.008 (-0.020 to 0.003)",
        ),
        (
            dict(estimate=97.6, low=89.3, high=106.0, second="", measure="rank_gain", where={}),
            "effective rank that it adds, PolyNorm: 98 (89 to 106)",
        ),
        (
            dict(estimate=2.067e-4, low=2.066e-4, high=2.068e-4, second=""),
            "loss, PolyNorm, Python's library: 0.000207 (0.000207 to 0.000207)",
        ),
        (
            dict(estimate=0.0, low=0.0, high=0.0, first="polynorm, order 4"),
            "loss, PolyNorm, order 4, minus SwiGLU, Python's library: 0 (0 to 0)",
        ),
        (
            dict(first="polynorm, float16, same inside", second="", where={"scale": 2.0}),
            "loss, PolyNorm, float16 throughout, standard deviation 2: too few runs finished",
        ),
        (
            dict(first="rdm_simsiam_online@power:online:2.0", second="simsiam", where={}),
            "loss, online filter +2 minus SimSiam: too few runs finished",
        ),
    ],
)
def test_a_figure_is_told_in_words_with_the_digits_that_its_interval_leaves(more, told):
    assert figure(LINE | more) == told


def test_an_undecided_statement_says_what_its_comparisons_would_say_alone():
    lines = [{"verdict": "undecided", "p": p, "inside": inside} for p, inside in ((0.04, True), (0.01, False))]
    many = {"verdict": "undecided", "comparisons": [*lines, {"verdict": "undecided", "p": None}]}
    assert verdict_of(many) == "**undecided**, 0 of 3 hold; alone 1 for, 1 against"
    assert verdict_of(many | {"comparisons": [lines[0] | {"p": 0.06}]}) == "**undecided**"
    assert verdict_of(many | {"verdict": "fails", "comparisons": lines[1:]}) == "**fails**"


@pytest.mark.parametrize("record", read_records(COURSE / "reference" / "studies"), ids=lambda record: record.name)
def test_a_recorded_verdict_is_what_its_rows_give_today(record):
    """The page judges records again, so that words and claims may change; what was found may not."""
    today = judged_again(record)
    found = [[(line["title"], line["verdict"]) for line in each["comparisons"]] for each in record.statements]
    assert found == [[(line["title"], line["verdict"]) for line in each["comparisons"]] for each in today.statements]


def test_statuses_of_the_paper_map_follow_from_records(dense):
    claims = {"dense-loss": Claim(claim="It | wins", paper="a paper", status="not attempted")}
    statements = [dense[0].statements[0] | {"status": "contradicted", "claim": "dense-loss"}]
    tested = recorded_claims([dense[0], as_if_at("cpu", dense[0], statements=statements)], claims)
    assert (tested["dense-loss"].status, tested["dense-loss"].scale) == ("contradicted", "small")
    asked = tested["dense-loss"].tolerance
    assert asked == f"“{statements[0]['text']}”, by 95% intervals over 2 seeds; 0 of 7 comparisons hold"
    row = paper_map(claims | tested, {}, tested).splitlines()[-1]
    assert f"| **contradicted** | [results](RESULTS.md) | small | {asked} |" in row
    assert recorded_claims([dense[0]], claims) == {}
    with pytest.raises(ValueError, match=r"tests the claim 'dense-loss', which claims\.toml does not declare"):
        recorded_claims([as_if_at("cpu", dense[0], statements=statements)], {})
