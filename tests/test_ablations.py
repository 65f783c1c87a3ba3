"""Ablations: three verdicts of paired runs, an own activation under the protocol, and what it does untrained."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from minipolycom import activations
from minipolycom.activations import polynorm
from minipolycom.control import Control
from minipolycom.studies import ablations
from minipolycom.studies.ablations import (
    ORDERS,
    Learnt,
    apart,
    drawable,
    enter,
    entered,
    fingerprint,
    ladder,
    losses_by_width,
    losses_of,
    recorded_losses,
    says,
    start_of,
)
from minipolycom.studies.catalogue import ALIKE, TIERS, changed, training
from minipolycom.studies.pieces import KINDS


def mine(x, weight, bias):
    return polynorm(3 * x, weight, bias)


@pytest.fixture
def known(monkeypatch) -> dict:
    """The dict of activations, with one more that is gone after the test."""
    monkeypatch.setitem(activations.ACTIVATIONS, "mine", partial(Learnt, mine, (0.2, 0.3, 0.5)))
    return activations.ACTIVATIONS


# -- an activation of one's own ------------------------------------------------------------------------------------


def test_a_learnt_module_has_its_function_s_values_and_learns_its_coefficients() -> None:
    module, x = Learnt(mine, (0.2, 0.3, 0.5)), torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        module(x), polynorm(x, torch.tensor([0.2, 0.3, 0.5]), torch.zeros(1)), rtol=1e-4, atol=1e-5
    )
    module(x).square().sum().backward()
    assert {name: p.grad is not None for name, p in module.named_parameters()} == {"weight": True, "bias": True}


def test_an_entry_gets_a_rate_and_a_row_for_each_seed_and_is_trained_once(known, tmp_path: Path) -> None:
    seen = []
    rows = enter("mine", "smoke", seeds=2, out=tmp_path, on_row=seen.append)
    assert [row["phase"] for row in seen] == ["rate"] * len(TIERS["smoke"]["rates"]) + ["main", "main"]
    assert seen[-2:] == rows == entered(tmp_path)
    tried = {row["learning_rate"]: row["loss"] for row in seen if row["phase"] == "rate"}
    assert {row["learning_rate"] for row in rows} == {min(tried, key=tried.get)}
    assert [(row["arm"], row["seed"]) for row in rows] == [("mine", 0), ("mine", 1)]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / fingerprint("mine", "smoke")).glob("*.json")}
    assert enter("mine", "smoke", seeds=2, out=tmp_path) == rows
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_given_rate_is_not_looked_for_and_a_changed_function_takes_the_old_one_s_place(known, tmp_path: Path) -> None:
    old = enter("mine", "smoke", seeds=2, rate=0.002, out=tmp_path)
    assert {row["learning_rate"] for row in old} == {0.002}
    known["mine"] = partial(Learnt, polynorm, (0.9, 0.3, 0.5))
    new = enter("mine", "smoke", seeds=2, rate=0.002, out=tmp_path)
    assert [row["loss"] for row in new] != [row["loss"] for row in old]
    assert entered(tmp_path) == new


def test_a_fingerprint_sees_values_starts_and_gradients(known) -> None:
    code = fingerprint("mine", "smoke")
    assert code == fingerprint("mine", "smoke") != fingerprint("mine", "cpu")
    known["mine"] = partial(Learnt, mine, (0.2, 0.3, 0.6))
    assert fingerprint("mine", "smoke") != code
    known["mine"] = partial(Learnt, lambda x, w, b: mine(x.detach(), w, b) + 0 * x, (0.2, 0.3, 0.5))
    assert fingerprint("mine", "smoke") != code  # the same values, another gradient
    known["mine"] = partial(Learnt, lambda x, w, b: mine(x, w, b), (0.2, 0.3, 0.5))
    assert fingerprint("mine", "smoke") == code


@pytest.mark.parametrize(
    ("name", "tier", "seeds", "said"),
    [
        ("nobody", "smoke", 2, "unknown activation 'nobody'"),
        ("relu", "tiny", 2, "unknown tier 'tiny'"),
        ("relu", "smoke", 1, "seeds"),
    ],
)
def test_what_cannot_enter_is_refused_before_anything_is_trained(name, tier, seeds, said, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        enter(name, tier, seeds=seeds, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_entry_says_how_to_go_on(known, tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_):
        raise ablations.Interrupted("before piece 1 of 1")

    monkeypatch.setattr(ablations.Worker, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt, match="mine was interrupted at seed 1000; run this again"):
        enter("mine", "smoke", out=tmp_path)


def test_the_protocol_is_that_of_the_recorded_studies() -> None:
    ours, record = ablations.protocol("cpu"), ablations.recorded("order")
    how = ("accelerator", "record_every", "eval_every", "keep_checkpoints")
    shared = [key for key in record.settings if key not in ("train", "scale")]
    assert {key: ours[key] for key in shared} == {key: record.settings[key] for key in shared}
    assert {key: value for key, value in ours["train"].items() if key not in how} == {
        key: value for key, value in record.settings["train"].items() if key not in how
    }


def test_measuring_at_the_end_alone_changes_no_step(tmp_path: Path) -> None:
    def loss(settings: dict, folder: str) -> float:
        (piece,) = training({"relu": {"activation": "relu"}})(settings, [0], {"relu, grammar": 0.002})
        return KINDS["language"](piece, tmp_path / folder, Control())[0]["loss"]

    often, once = TIERS["smoke"], changed(ablations.protocol("smoke"), {"accelerator": "cpu"})
    assert often["train"]["eval_every"] < once["train"]["eval_every"]
    assert loss(often, "often") == loss(once, "once")


# -- what was recorded ---------------------------------------------------------------------------------------------


def test_losses_are_those_of_compared_runs_on_one_text_that_ended() -> None:
    row = {"table": "end", "phase": "main", "arm": "a", "seed": 0, "source": "stdlib", "loss": 1.5}
    others = [{"table": "curve"}, {"phase": "rate"}, {"source": "grammar", "seed": 1}, {"seed": 2, "loss": None}]
    rows = [row, *(row | other for other in others)]
    assert losses_of(rows, "stdlib") == {"a": {0: 1.5}}
    assert losses_of(rows) == {"a": {0: 1.5, 1: 1.5}}


def test_losses_by_width_keep_widths_apart() -> None:
    row = {"table": "end", "phase": "main", "arm": "a", "seed": 0, "source": "grammar"}
    rows = [row | {"width": 80, "loss": 1.0}, row | {"width": 48, "loss": 2.0}, {"table": "curve", "loss": 9.0}]
    assert list(losses_by_width(rows).items()) == [(48, {"a": {0: 2.0}}), (80, {"a": {0: 1.0}})]


def test_a_ladder_has_the_seeds_that_ended_at_every_size() -> None:
    row = {"table": "end", "phase": "main", "arm": "a"}
    ends = [(0, 900, 0.1), (0, 300, 0.4), (1, 300, 0.5), (1, 900, None), (2, 300, 0.6), (2, 900, 0.3)]
    rows = [row | dict(zip(("seed", "parameters", "above_floor"), end, strict=True)) for end in ends]
    rows += [rows[0] | {"arm": "b", "parameters": 50}, rows[0] | {"phase": "rate", "parameters": 60}]
    sizes, above = ladder(replace(ablations.recorded("order"), rows=rows), "a")
    assert sizes.tolist() == [300, 900]
    torch.testing.assert_close(above, torch.tensor([[0.4, 0.1], [0.6, 0.3]], dtype=torch.float64))


def test_every_order_is_an_arm_of_the_record() -> None:
    assert set(ORDERS.values()) == set(losses_of(ablations.recorded("order").rows))
    assert ORDERS["order 3"] == "polynorm"


def test_recorded_losses_hold_the_arms_of_every_record_with_the_seeds_of_all() -> None:
    losses = recorded_losses()
    assert {"polynorm", "swiglu", "polynorm, order 5", "polyrelu, linear start"} <= set(losses)
    seeds = set.intersection(*(set(ablations.recorded(study).seeds) for study in ablations.STUDIES))
    of_dense = losses_of(ablations.recorded("dense").rows, "stdlib")["polynorm"]
    assert losses["polynorm"] == {seed: of_dense[seed] for seed in seeds}
    assert {tuple(by_seed) for by_seed in losses.values()} == {tuple(seeds)}


def test_pairs_are_of_the_seeds_that_both_have() -> None:
    assert apart({"a": {0: 1.0, 2: 3.0, 1: 5.0}, "b": {2: 1.0, 1: 1.0, 7: 0.0}}, "a", "b") == [4.0, 2.0]


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.1, 0.101, 0.099], "different"),
        ([0.0001, -0.0001, 0.0], "alike"),
        ([0.0051, 0.0049, 0.005], "alike"),  # different from 0, and within the margin
        ([0.004, -0.003, 0.012], "undecided"),
    ],
)
def test_runs_say_different_alike_or_undecided(differences: list[float], word: str) -> None:
    assert says({"one": differences}) == {"one": word}


def test_asking_more_questions_makes_each_verdict_harder() -> None:
    differences = [0.08, 0.1, 0.12]
    assert says({"one": differences})["one"] == "different"
    others = {str(number): [0.02, -0.02, 0.05] for number in range(40)}
    assert says({"one": differences} | others)["one"] == "undecided"


def test_likeness_needs_the_margin() -> None:
    differences = {"one": [0.004, 0.006, 0.005]}
    assert says(differences, margin=ALIKE) == {"one": "alike"}
    assert says(differences, margin=0.004) == {"one": "different"}


# -- before training -----------------------------------------------------------------------------------------------


def test_an_activation_before_training_is_that_of_the_package_on_a_normal_row() -> None:
    row, after = start_of("polynorm", sigma=2.0)
    assert float(row.std()) == pytest.approx(2.0, rel=1e-2)  # 4096 quantiles miss the outermost tails
    torch.testing.assert_close(after, polynorm(row, torch.full((3,), 1 / 3).double(), torch.zeros(1).double()))
    line, same = start_of("polynorm, order 1")
    torch.testing.assert_close(same / line, torch.full_like(line, float(same[0] / line[0])))
    with pytest.raises(ValueError, match="unknown activation 'swiglu'"):
        start_of("swiglu")
    assert "polynorm, order 1" not in activations.ACTIVATIONS


def test_what_can_be_drawn_is_every_activation_that_takes_one_row(known) -> None:
    assert all(map(drawable, ("relu", "mine", "polynorm, linear start", "sumnorm")))
    assert not drawable("swiglu")
