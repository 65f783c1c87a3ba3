"""The benchmark: what a row holds, that rounds are interleaved, and the ratios that must not be lost."""

import json
import math

import pytest
import torch

from minipolycom.bench import activations, bench_activations, table

FIELDS = {
    "variant", "device", "dtype", "shape", "ms_forward", "ms_both", "saved_units", "baseline",
    "speedup", "speedup_low", "speedup_high", "threads", "settings",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return bench_activations(((64, 256),), ((32, 16, 64),), rounds=3, device="cpu", compiler=False)


def test_every_row_says_what_was_measured_and_how(rows) -> None:
    assert all(set(row) == FIELDS for row in rows)
    assert {row["shape"] for row in rows} == {"64x256", "32x16x64"}
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    assert all(0 < row["ms_forward"] < row["ms_both"] < math.inf for row in rows)
    assert all(row["speedup_low"] <= row["speedup"] <= row["speedup_high"] for row in rows)
    assert all(row["speedup"] == 1 for row in rows if row["variant"] == row["baseline"])
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.parametrize(
    ("variant", "dtype", "lowest", "highest"),
    [
        ("polynorm: authors", "float32", 5.5, 7.1),  # six copies, seven with x
        ("polynorm: authors", "bfloat16", 11, 14),  # the same in fp32: twice the size
        ("polynorm: authors, checkpointed", "float32", 1.0, 1.01),
        ("polynorm: ours, eager", "float32", 1.0, 1.02),
        ("polynorm: ours, eager", "bfloat16", 1.0, 1.04),  # three fp32 numbers beside 256 of 16 bits
        ("polyrelu: ours, eager", "float32", 1.0, 1.001),
        ("relu", "float32", 1.0, 1.0),
        ("layer, gelu", "float32", 2.0, 2.0),
        ("layer, polynorm: ours, eager", "float32", 2.0, 2.06),
        ("layer fused, polynorm: eager", "float32", 1.0, 1.06),
    ],
)
def test_what_each_variant_keeps(rows, variant, dtype, lowest, highest) -> None:
    (units,) = (row["saved_units"] for row in rows if (row["variant"], row["dtype"]) == (variant, dtype))
    assert lowest <= units <= highest


def test_the_table_names_every_variant_and_the_settings(rows) -> None:
    text = table(rows)
    assert text.splitlines()[0].startswith("1 thread. CPU settings: ")
    for row in rows:
        assert row["variant"] in text
        assert f"{row['shape']} {row['dtype']} on cpu, speed-up over: {row['baseline']}" in text
    assert table([]) == ""


def test_variants_take_turns_in_every_round(monkeypatch) -> None:
    turns = []
    x = torch.randn(2, 3, requires_grad=True)
    variants = {name: lambda x, name=name: turns.append(name) or 2 * x for name in ("one", "two")}
    monkeypatch.setattr(activations, "_baseline", lambda name: "one")
    activations._measure([x], variants, 6, rounds=3)
    assert turns[-8:] == ["one", "two"] * 4


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    bench_activations(((4, 8),), (), ("float32",), rounds=2, device="cpu", compiler=False)
    assert torch.get_num_threads() == before


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'float8'; known: float32, bfloat16, float16"):
        bench_activations(dtypes=("float8",))
    with pytest.raises(ValueError, match="unknown device 'tpu'; known: auto, cpu, cuda"):
        bench_activations(device="tpu")
    with pytest.raises(ValueError, match="a spread needs at least two rounds; got 1"):
        bench_activations(rounds=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no CUDA device on this machine: use device='cpu', or 'auto'"):
        bench_activations(device="cuda")


def speedup(rows: list[dict], variant: str) -> float:
    (found,) = (row["speedup"] for row in rows if row["variant"] == variant)
    return found


def test_the_eager_twins_stay_ahead_of_the_authors_formula() -> None:
    """Measured: 4 times for PolyNorm, 1.7 for PolyReLU; half of the lead is left to a busy machine."""
    rows = bench_activations(((2048, 2048),), (), ("float32",), rounds=5, device="cpu", compiler=False)
    assert speedup(rows, "polynorm: ours, eager") > 2.5
    assert speedup(rows, "polyrelu: ours, eager") > 1.2


@pytest.mark.compile
def test_the_compiled_twins_stay_ahead() -> None:
    """Measured: 13 times the authors' formula, 1.4 times that formula compiled; the larger part of the lead is kept."""
    rows = bench_activations(((4096, 2048),), (), ("float32",), rounds=7, device="cpu")
    assert speedup(rows, "polynorm: ours, compiled") > 8
    assert speedup(rows, "polynorm: ours, compiled") > 1.1 * speedup(rows, "polynorm: authors, compiled")
    assert speedup(rows, "polynorm: ours, compiled") > speedup(rows, "gelu") / 1.15
