"""The benchmark of experts: its rows, what is compared with what, and the ratios that must not be lost."""

import json
import math

import pytest
import torch

from minipolycom.bench import table
from minipolycom.bench.moe import PEERS, PLAIN, bench_moe, olmoe_block
from minipolycom.model import GPTConfig, MoE

FIELDS = {
    "variant", "device", "dtype", "shape", "ms_both", "baseline", "ratio", "ratio_low", "ratio_high", "threads",
    "settings",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return bench_moe([(32, 4, 2, 64), (32, 8, 4, 64)], device="cpu", rounds=2)


def test_every_row_says_what_was_measured_and_how(rows) -> None:
    assert all(set(row) == FIELDS for row in rows)
    assert {row["shape"] for row in rows} == {
        "64 tokens, 32 wide, 2 of 4 experts",
        "64 tokens, 32 wide, 4 of 8 experts",
    }
    assert all(0 < row["ms_both"] < math.inf for row in rows)
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert all(row["ratio"] == 1 for row in rows if row["variant"] == row["baseline"])
    assert json.loads(json.dumps(rows)) == rows
    assert all(row["variant"] in table(rows) for row in rows)


def test_what_is_compared_with_what(rows) -> None:
    pairs = {(row["variant"], row["baseline"]) for row in rows}
    assert {("ours, gelu", "dense, gelu"), ("ours, swiglu", "dense, swiglu"), ("ours, gelu", PLAIN)} <= pairs
    assert {(peer, "ours, swiglu") for peer in PEERS.values()} <= pairs


@pytest.mark.parametrize("how", PEERS)
def test_the_peer_computes_what_ours_does(how) -> None:
    """Up to the weights of the experts, which OLMoE does not make sum to 1."""
    ours = MoE(GPTConfig(d_model=16, activation="swiglu", n_experts=4, experts_per_token=2))
    torch.manual_seed(0)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    peer = olmoe_block(16, ours.up.shape[1], 4, 2, how)
    with torch.no_grad():
        peer.gate.weight.copy_(ours.router.weight)
        peer.experts.gate_up_proj.copy_(torch.cat([ours.gate, ours.up], dim=1))
        peer.experts.down_proj.copy_(ours.down)
        peer.gate.norm_topk_prob = True
        x = torch.randn(2, 5, 16)
        torch.testing.assert_close(peer(x), ours(x), rtol=1e-4, atol=1e-5)  # fp32, sums in another order


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="a spread needs at least two rounds; got 1"):
        bench_moe(rounds=1)
    with pytest.raises(ValueError, match="unknown device 'tpu'; known: auto, cpu, cuda"):
        bench_moe(device="tpu")


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    bench_moe([(8, 2, 1, 4)], device="cpu", rounds=2)
    assert torch.get_num_threads() == before


@pytest.mark.timing
def test_experts_stay_ahead_of_the_library() -> None:
    """Where there are many, its block alone takes twice as long as ours; half of the lead is left to a busy machine."""
    rows = bench_moe([(256, 64, 8, 1024)], device="cpu", rounds=5)
    (block,) = (row for row in rows if (row["variant"], row["baseline"]) == (PEERS["eager"], "ours, swiglu"))
    assert block["ratio"] > 1.5
