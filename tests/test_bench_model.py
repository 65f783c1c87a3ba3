"""The benchmark of training steps: its rows, its processes, the plain GPT it compares with, and a peer's checkout."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from minipolycom.bench import model as bench
from minipolycom.bench import table, worker
from minipolycom.bench.lightning import bench_lightning
from minipolycom.bench.model import BASELINE, Worker, bench_model
from minipolycom.bench.plain import Peer, PlainGPT, find_peer

SIZE = {"vocab_size": 11, "n_layers": 2, "n_heads": 2, "d_model": 16, "context": 8}

FIELDS = {
    "variant", "device", "dtype", "shape", "tokens_per_s", "baseline", "ratio", "ratio_low", "ratio_high", "busy",
    "threads", "settings",
}  # fmt: skip

PEER = """
from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        print("number of parameters: a line that is no answer")
        self.embedding = torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def forward(self, tokens, targets):
        logits = self.embedding(tokens)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(PEER)
    return tmp_path


def test_the_rows_of_a_run_with_processes_of_their_own(monkeypatch, checkout) -> None:
    every = bench._on_cpu(compiler=False)
    monkeypatch.setattr(bench, "_on_cpu", lambda compiler: {name: every[name] for name in (BASELINE, "ours, polynorm")})
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    rows = bench_model([(1, 16, 2, 8, 2)], device="cpu", rounds=2, steps=1, busy=True, peer=checkout)
    assert [row["variant"] for row in rows] == [BASELINE, "ours, polynorm", "nanoGPT, gelu, as shipped"]
    assert all(set(row) == FIELDS for row in rows)
    assert {row["shape"] for row in rows} == {"1 layers, 16 wide, 2 x 8 tokens"}
    assert all(0 < row["tokens_per_s"] < math.inf and row["busy"] for row in rows)
    assert all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert rows[0]["ratio"] == 1
    shipped, ours, peer = (row["settings"] for row in rows)
    assert shipped == peer == "CPU settings: left alone"
    assert "OpenMP threads wait passively" in ours
    assert all(row["threads"] != 7 for row in rows)  # no setting of this process decides
    assert json.loads(json.dumps(rows)) == rows
    assert all(row["variant"] in table(rows) and row["settings"] in table(rows) for row in rows)


def test_the_variants_on_a_cpu(monkeypatch) -> None:
    monkeypatch.setattr(bench, "cpu_has_bf16", lambda: False)
    few = bench._on_cpu(compiler=False)
    assert not any(job["bf16"] or job["backend"] == "compiled" for job in few.values())
    monkeypatch.setattr(bench, "cpu_has_bf16", lambda: True)
    many = bench._on_cpu(compiler=True)
    assert few.items() <= many.items()
    assert sum(job["bf16"] for job in many.values()) == 3
    assert [name for name, job in many.items() if not job["tuned"]] == [BASELINE]


@pytest.mark.parametrize(
    "job",
    [
        {"model": "plain"},
        {"model": "ours", "activation": "gelu"},
        {"model": "ours", "activation": "polynorm", "bf16": True},
        {"model": "peer"},
    ],
)
def test_a_step_trains(job, checkout) -> None:
    """On one batch again and again the loss falls."""
    job = {
        "device": "cpu",
        "size": SIZE,
        "batch": 4,
        "bf16": False,
        "compiled": False,
        "file": find_peer(checkout),
    } | job
    losses, entropy = [], F.cross_entropy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "cross_entropy", lambda *a, **k: losses.append(entropy(*a, **k)) or losses[-1])
        step = worker.build(job)
        for _ in range(30):
            step()
    assert losses[-1] < losses[0]


def test_the_plain_gpt_equals_its_definition() -> None:
    torch.manual_seed(0)
    model = PlainGPT(**SIZE)
    tokens = torch.randint(11, (3, 9))
    x = model.tokens.weight[tokens[:, :-1]] + model.positions.weight
    for block in model.blocks:
        q, k, v = (
            part.reshape(3, 8, 2, 8).transpose(1, 2)
            for part in block.qkv(F.layer_norm(x, (16,), block.norm_1.weight)).chunk(3, dim=-1)
        )
        scores = (q @ k.mT / 8**0.5).masked_fill(torch.ones(8, 8).triu(1).bool(), -torch.inf)
        x = x + block.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(3, 8, 16))
        x = x + block.down(F.gelu(block.up(F.layer_norm(x, (16,), block.norm_2.weight))))
    logits = F.layer_norm(x, (16,), model.norm.weight) @ model.tokens.weight.T
    expected = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(model(tokens[:, :-1], tokens[:, 1:]), expected)
    assert sum(p.numel() for p in model.parameters()) == 11 * 16 + 8 * 16 + 2 * (12 * 16 * 16 + 2 * 16) + 16
    decays = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in model.optimizer().param_groups}
    assert decays == {0.1: {2}, 0.0: {1}}


def test_a_process_that_ends_early_is_an_error() -> None:
    worker = Worker.__new__(Worker)
    worker.process = subprocess.Popen([sys.executable, "-c", "exit(1)"], stdout=subprocess.PIPE, text=True)
    with pytest.raises(RuntimeError, match="a variant of the benchmark ended with exit code 1"):
        worker._answer()


def test_what_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="a spread needs at least two rounds; got 1"):
        bench_model(rounds=1)
    with pytest.raises(ValueError, match="unknown device 'tpu'; known: auto, cpu, cuda"):
        bench_model(device="tpu")
    with pytest.raises(ValueError, match=f"a checkout of nanoGPT, which has a model.py; {tmp_path} has none"):
        bench_model(peer=tmp_path)
    with pytest.raises(ValueError, match="a spread needs at least two rounds; got 0"):
        bench_lightning(rounds=0)


def test_what_lightning_adds() -> None:
    plain, lightning = rows = bench_lightning(rounds=3)
    assert plain["ratio"] == 1
    assert plain["ms_added"] == 0
    assert all(0 < row["ms_step"] < math.inf for row in rows)
    assert lightning["ms_added_low"] <= lightning["ms_added"] <= lightning["ms_added_high"]
    assert plain["tokens_per_s"] == pytest.approx(16 * 32 / (1e-3 * plain["ms_step"]))
    assert lightning["variant"] in table(rows)


def test_the_share_of_a_gpu_that_is_used(monkeypatch) -> None:
    """GPT-2 on an H200: 6 x 124 M and 12 L D T = 113 M operations make 0.86 GFLOP per token."""
    size = {"vocab_size": 50304, "n_layers": 12, "n_heads": 12, "d_model": 768, "context": 1024}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    used = bench._arithmetic(400_000, size)
    assert used["tflops"] == pytest.approx(342, rel=0.01)
    assert used["mfu"] == pytest.approx(342 / 989, rel=0.01)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another")
    assert set(bench._arithmetic(400_000, size)) == {"tflops"}


def test_the_peer_gives_its_loss(checkout) -> None:
    peer = Peer(find_peer(checkout), **SIZE)
    tokens = torch.zeros(2, 8, dtype=torch.long)
    assert peer(tokens, tokens).ndim == 0
    assert isinstance(peer.optimizer(), torch.optim.AdamW)
