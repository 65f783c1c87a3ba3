"""record: tensors by name; the rows of a measurement, number by number; a training that does not notice it."""

import contextlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from minipolycom import record as record_module
from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.control import Control
from minipolycom.model import GPT, GPTConfig, next_token_loss
from minipolycom.record import LARGEST_VALUES, evenly, fixed_tokens, measure, peak_memory, record
from minipolycom.runs import Rows, Run
from minipolycom.spectral import effective_rank, layer_similarity, singular_values
from minipolycom.text import TokenData
from minipolycom.train import TrainConfig, fit

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 16, "context": 16}
QUICK = {"steps": 12, "log_every": 4, "eval_every": 8, "eval_batches": 1, "checkpoint_every": 5, "warmup_steps": 4}
EXPERTS = {"n_experts": 4, "experts_per_token": 2}
MODELS = {
    "dense": {},
    "gated": {"activation": "swiglu"},
    "experts": EXPERTS,
    "own coefficients": EXPERTS | {"coefficients": "per_expert", "n_shared_experts": 1, "activation": "polyrelu"},
    "gated experts": EXPERTS | {"activation": "geglu"},
}
TIMES = ("seconds", "tokens_per_second")
RECORDED = {"spectra", "norms", "similarity", "speed"}


def make(**more) -> GPT:
    return GPT(GPTConfig(**SHAPE | more))


def tokens(rows: int = 4) -> torch.Tensor:
    return torch.randint(256, (rows, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def data(tmp_path):
    words = np.random.default_rng(0).choice(["sum", "product", "power", "row", "mean", "root", "of", "the"], 8000)
    file = tmp_path / "words.txt"
    file.write_text(" ".join(words))
    return TokenData(f"files:{file}", context=16, batch_size=4, cache_dir=tmp_path / "cache")


def train(data, out=None, shape=None, **more):
    model = GPTConfig(**SHAPE | (shape or {}))
    return fit(data, model, TrainConfig(**QUICK | more), out=out, name="one", progress=False)


# Tensors by name


def test_an_output_an_input_and_a_parameter_by_name():
    model = make()
    with record(model, ["blocks.*.feed_forward.activation", "blocks.1.feed_forward.down.input", "head.weight"]) as kept:
        assert list(kept) == ["head.weight"]  # no forward yet
        logits = model(tokens())
    assert set(kept) == {
        "blocks.0.feed_forward.activation", "blocks.1.feed_forward.activation", "blocks.1.feed_forward.down.input",
        "head.weight",
    }  # fmt: skip
    assert torch.equal(kept["blocks.1.feed_forward.activation"], kept["blocks.1.feed_forward.down.input"])
    assert kept["head.weight"].data_ptr() == model.head.weight.data_ptr()
    assert not any(tensor.requires_grad for tensor in kept.values())
    assert logits.requires_grad


def test_what_is_kept_is_what_passes():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with record(model, ("0.input", "0", "1", "2", "0.bias")) as kept:
        model(torch.zeros(5, 3))
        y = model(x)  # filled anew by each forward
    assert torch.equal(kept["0.input"], x)
    assert torch.equal(kept["0"], model[0](x))
    assert torch.equal(kept["1"], model[0](x).relu())
    assert torch.equal(kept["2"], y)
    assert torch.equal(kept["0.bias"], model[0].bias)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_the_feed_forward_s_inside_is_seen_with_every_activation(activation):
    model, name = make(activation=activation), "blocks.0.feed_forward"
    with record(model, [f"{name}.*", f"{name}.*.input", name]) as kept:
        model(tokens())
    inside = model.blocks[0].feed_forward
    assert torch.equal(kept[f"{name}.activation.input"], kept[f"{name}.gate" if inside.gate else f"{name}.up"])
    torch.testing.assert_close(kept[f"{name}.up"], inside.up(kept[f"{name}.up.input"]))
    torch.testing.assert_close(inside.down(kept[f"{name}.down.input"]), kept[name])


def test_a_star_stops_at_a_dot():
    model = make()
    with record(model, "blocks.*") as kept:
        model(tokens())
    assert set(kept) == {"blocks.0", "blocks.1"}
    with record(model, "*.weight") as kept:
        pass
    assert set(kept) == {"embedding.weight", "norm.weight", "head.weight"}


def test_nothing_is_left_behind_even_by_an_error():
    model = make()
    with contextlib.suppress(KeyError), record(model, "blocks.*") as kept:
        model(tokens())
        raise KeyError
    before = kept["blocks.0"]
    model(tokens())
    assert kept["blocks.0"] is before
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_called_input_has_its_output_under_its_name():
    model = nn.Sequential()
    model.add_module("part", nn.Sequential())
    model.part.add_module("input", nn.ReLU())
    with record(model, ["part.input", "part.input.input"]) as kept:
        model(-torch.ones(2))
    assert kept["part.input"].tolist() == [0, 0]
    assert kept["part.input.input"].tolist() == [-1, -1]


def test_an_input_by_keyword_is_an_input():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x):
            return self.part(input=x)

    model = Named()
    with record(model, "part.input") as kept:
        model(torch.ones(2))
    assert kept["part.input"].tolist() == [1, 1]


def test_an_unknown_name_lists_the_names_that_exist():
    with (
        pytest.raises(ValueError, match=r"no tensor is called 'blocks\.0\.mlp'") as error,
        record(make(), ["head", "blocks.0.mlp"]),
    ):
        pass
    known = str(error.value).split("known: ")[1].split(", ")
    assert {"blocks.*.feed_forward.activation", "blocks.*.attention.input", "blocks.*.feed_forward.up.weight"} < set(
        known
    )
    assert len(known) == len(set(known))
    for name in known:  # and each of them works
        with record(make(), name):
            pass


def test_what_is_no_tensor_is_refused_by_name():
    with (
        pytest.raises(ValueError, match="0 is no tensor but a tuple: record the modules inside it"),
        record(model := nn.Sequential(nn.LSTM(3, 3)), "0"),
    ):
        model(torch.zeros(2, 3))
    with (
        pytest.raises(ValueError, match=r"part\.input is no tensor but a list"),
        record(model := nn.ModuleDict({"part": nn.Identity()}), "part.input"),
    ):
        model["part"]([1])


# One measurement


@pytest.mark.parametrize("name", MODELS)
def test_a_measurement_s_tables(name):
    model = make(**MODELS[name])
    tables = measure(model, tokens(8))
    matrices = {"up", "down"} | ({"gate"} if "gated" in name else set())
    for layer in (0, 1):
        spectra = [row for row in tables["spectra"] if row["layer"] == layer]
        assert sorted(row["tensor"] for row in spectra) == sorted(matrices | {"preactivation", "hidden"})
    n_coefficients = {"dense": 2, "experts": 2, "own coefficients": 8}.get(name, 0)
    assert len(tables.get("coefficients", [])) == n_coefficients
    assert len(tables.get("routers", [])) == (2 if "n_experts" in MODELS[name] else 0)
    assert [(row["layer"], row["other"]) for row in tables["similarity"]] == [(0, 1)]
    rows = Rows()  # takes only what survives on disk
    for table, measured in tables.items():
        for row in measured:
            rows.append(table, {"step": 0} | row)


def test_its_numbers_are_those_of_the_tensors():
    model, seen = make(), tokens(8)
    tables = measure(model, seen)
    with record(
        model, ["blocks.*.feed_forward.activation*", "blocks.*.feed_forward.activation.input", "blocks.*"]
    ) as k:
        model(seen)
    five = {"rel": 1e-4}  # rows are rounded to five digits; the fast path of a layer is off by less
    for row in tables["spectra"]:
        inside = model.blocks[row["layer"]].feed_forward
        name = f"blocks.{row['layer']}.feed_forward.activation"
        if row["tensor"] in ("up", "down"):
            s = singular_values(getattr(inside, row["tensor"]).weight.detach(), centre=False)
        else:
            x = k[name if row["tensor"] == "hidden" else f"{name}.input"]
            s = singular_values(x.reshape(-1, 64)[::4][:32], centre=True)
        assert row["effective_rank"] == pytest.approx(float(effective_rank(s)), **five)
        assert row["singular_values"] == pytest.approx(s.tolist(), **five, abs=1e-6)
    for layer, row in enumerate(tables["norms"]):
        name = f"blocks.{layer}.feed_forward.activation"
        for key, tensor in (("preactivation", f"{name}.input"), ("hidden", name), ("residual", f"blocks.{layer}")):
            assert row[f"{key}_rms"] == pytest.approx(float(k[tensor].square().mean().sqrt()), **five)
        squares = sum(float(p.detach().square().sum()) for p in model.blocks[layer].parameters())
        assert row["weight_norm"] == pytest.approx(math.sqrt(squares), **five)
    alike = layer_similarity([k[f"blocks.{layer}"].reshape(-1, 16) for layer in (0, 1)])
    (row,) = tables["similarity"]
    assert (row["cosine"], row["cka"]) == pytest.approx((float(alike.cosine[0, 1]), float(alike.cka[0, 1])), **five)


def test_coefficients_are_written_from_the_constant_upwards():
    model = make()
    with torch.no_grad():
        model.blocks[1].feed_forward.activation.weight.copy_(torch.tensor([3.0, 2.0, 1.0]))
        model.blocks[1].feed_forward.activation.bias.fill_(0.5)
    assert measure(model, tokens())["coefficients"][1] == {
        "layer": 1, "expert": -1, "a0": 0.5, "a1": 1, "a2": 2, "a3": 3,
    }  # fmt: skip
    own = make(**MODELS["own coefficients"])
    with torch.no_grad():
        own.blocks[0].feed_forward.activation.weight[2].copy_(torch.tensor([3.0, 2.0, 1.0]))
    rows = measure(own, tokens())["coefficients"]
    assert rows[2] == {"layer": 0, "expert": 2, "a0": 0, "a1": 1, "a2": 2, "a3": 3}
    assert [row["expert"] for row in rows] == [0, 1, 2, 3] * 2


def test_routers_are_those_of_the_last_forward():
    model = make(**EXPERTS)
    with torch.no_grad():  # the router of layer 1 sends everything to the experts 0 and 2
        model.blocks[1].feed_forward.router.weight.zero_()
    first, second = measure(model, tokens())["routers"]
    assert sum(first["load"]) == pytest.approx(1, abs=1e-4)
    assert sorted(second["load"]) == [0, 0, 0.5, 0.5]
    assert second["dead"] == 2
    assert second["entropy"] == pytest.approx(math.log(4), rel=1e-4)


def test_the_spectrum_of_experts_is_their_mean():
    model = make(**EXPERTS, n_shared_experts=1)
    row = next(row for row in measure(model, tokens())["spectra"] if (row["layer"], row["tensor"]) == (1, "up"))
    each = [singular_values(up, centre=False) for up in model.blocks[1].feed_forward.up.detach()]
    assert row["singular_values"] == pytest.approx((sum(each) / 4).tolist(), rel=1e-4)
    assert row["effective_rank"] == pytest.approx(sum(float(effective_rank(s)) for s in each) / 4, rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_measuring_changes_nothing(name, training):
    model = make(**MODELS[name]).train(training)
    next_token_loss(model(tokens()), tokens()).backward()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random = torch.get_rng_state()
    first = measure(model, tokens())
    assert measure(model, tokens()) == first
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    held = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(held, gradients, strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_mode_is_restored_by_an_error_too():
    model = make().train()
    with torch.no_grad():
        model.blocks[0].attention.out.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(model, tokens())
    assert model.training


def test_measuring_in_the_precision_of_the_training():
    model, contexts = make(), []

    def bf16():
        contexts.append(torch.autocast("cpu", torch.bfloat16))
        return contexts[-1]

    plain, rounded = measure(model, tokens(8)), measure(model, tokens(8), bf16)
    assert len(contexts) == 2  # one for each block, as one may serve only once
    for a, b in zip(plain["spectra"], rounded["spectra"], strict=True):
        assert b["effective_rank"] == pytest.approx(a["effective_rank"], rel=0.05)  # bf16 keeps two to three digits
    assert plain["norms"] != rounded["norms"]


def test_only_the_largest_values_are_kept_and_five_digits_of_them():
    model = GPT(GPTConfig(n_layers=1, n_heads=2, d_model=LARGEST_VALUES + 8, context=8))
    (up, *_) = measure(model, tokens()[:, :8])["spectra"]
    assert len(up["singular_values"]) == LARGEST_VALUES
    assert up["singular_values"] == sorted(up["singular_values"], reverse=True)
    assert all(len(f"{value:g}".replace(".", "").strip("0")) <= 6 for value in up["singular_values"])
    assert up["effective_rank"] > 0.9 * LARGEST_VALUES  # the measure is of all of them


def test_rows_are_taken_evenly():
    x = torch.arange(20.0)[:, None]
    assert evenly(x, 5)[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert evenly(x, 6)[:, 0].tolist() == [0, 3, 6, 9, 12, 15]
    assert torch.equal(evenly(x, 50), x)


# During training


@pytest.mark.parametrize("name", ["dense", "gated", "own coefficients"])
def test_training_does_not_notice(data, name):
    shape = MODELS[name]
    plain, recorded = train(data, shape=shape, record_every=0), train(data, shape=shape, record_every=3)
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in plain.rows]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in recorded.rows] == same
    for key, weight in plain.model().state_dict().items():
        assert torch.equal(weight, recorded.model().state_dict()[key])
    assert plain.folder.rows.tables == ["losses"]
    expected = (
        RECORDED
        | ({"routers"} if "n_experts" in shape else set())
        | ({"coefficients"} if shape.get("activation") not in ("swiglu", "geglu") else set())
    )
    assert set(recorded.folder.rows.tables) == expected | {"losses"}


def test_rows_are_written_at_the_start_then_as_often_as_asked_and_at_the_end(data):
    run = train(data, record_every=5)
    for table in RECORDED - {"speed"}:
        assert sorted({row["step"] for row in run.table(table)}) == [0, 5, 10, 12], table
    assert [row["step"] for row in run.table("speed")] == [5, 10, 12]
    for row in run.table("speed"):
        assert row["tokens_per_second"] > 0
        assert row["memory_bytes"] == pytest.approx(peak_memory(torch.device("cpu")), rel=0.5)
    last = measure(run.model(), fixed_tokens(data, 16))
    for table in ("spectra", "coefficients", "similarity"):  # the rows of the end are those of the final weights
        assert [row for row in run.table(table) if row["step"] == 12] == [{"step": 12} | row for row in last[table]]


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_gradient_s_norm_is_that_of_the_step_before_it_was_clipped(data, clip):
    run = train(data, record_every=1, steps=1, gradient_clip=clip)
    model = make()
    data.start_step = 0
    batch = next(iter(data.train_dataloader()))
    next_token_loss(model(batch.inputs), batch.targets).backward()
    rows = [row for row in run.table("norms") if row["step"] == 1]
    for row, block in zip(rows, model.blocks, strict=True):
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in block.parameters()))
        assert row["gradient_norm"] == pytest.approx(norm, rel=1e-4)  # five digits are kept
    assert not any("gradient_norm" in row for row in run.table("norms") if row["step"] == 0)


def test_a_run_that_goes_on_records_as_if_it_had_never_stopped(data, tmp_path):
    whole = train(data, record_every=3)
    control = Control()
    options = {"out": tmp_path / "run", "name": "one", "progress": False}
    configs = (GPTConfig(**SHAPE), TrainConfig(**QUICK | {"record_every": 3}))

    def stop_at_eight(row):
        if row["step"] == 8:
            control.stop()

    first = fit(data, *configs, **options, control=control, on_row=stop_at_eight)
    assert (first.status, first.step) == ("stopped", 8)
    second = fit(data, *configs, **options)
    for table in RECORDED - {"speed"}:
        assert second.table(table) == whole.table(table)
    assert [row["step"] for row in second.table("speed")] == [3, 6, 9, 12]


IN_TWO = """
import json, sys
from minipolycom import GPTConfig, TokenData, TrainConfig, fit

if __name__ == "__main__":
    text, cache, out, shape, quick = sys.argv[1:]
    data = TokenData(f"files:{text}", context=16, batch_size=4, cache_dir=cache)
    train = TrainConfig(**json.loads(quick), record_every=5, devices=2, accelerator="cpu")
    fit(data, GPTConfig(**json.loads(shape)), train, out=out, name="one", progress=False)
"""


def test_of_two_processes_one_records_what_one_alone_would(data, tmp_path):
    script = tmp_path / "in_two.py"
    script.write_text(IN_TWO)
    files = [tmp_path / name for name in ("words.txt", "cache", "run")]
    subprocess.run([sys.executable, script, *files, json.dumps(SHAPE), json.dumps(QUICK)], check=True, timeout=240)
    run = Run.load(tmp_path / "run")
    alone = train(data, record_every=5)
    assert set(run.tables) == set(alone.tables)
    for table in run.tables:
        for row, other in zip(run.table(table), alone.table(table), strict=True):
            # Two processes add up their gradients in another order; twelve steps let the last digit grow.
            assert row.keys() == other.keys()
            assert all(row[key] == other[key] for key in ("step", "layer", "tensor") if key in row)
            numbers = [key for key in row if isinstance(row[key], float) and key not in TIMES]
            assert [row[key] for key in numbers] == pytest.approx([other[key] for key in numbers], rel=5e-3, abs=1e-4)


def test_a_training_that_diverges_ends_as_one(data):
    with pytest.warns(UserWarning, match="diverged"):
        run = train(data, record_every=1, learning_rate=1e30, warmup_steps=0, shape={"activation": "polyrelu"})
    assert run.status == "diverged"
    assert run.table("spectra")


def test_what_is_measured_on_are_the_first_validation_windows(data):
    batches = iter(data.val_dataloader())
    expected = torch.cat([next(batches).inputs for _ in range(2)])
    assert torch.equal(fixed_tokens(data, 16), expected)  # 8 x 16 tokens are 8 windows of 16
    assert torch.equal(fixed_tokens(data, 15), expected)
    assert torch.equal(fixed_tokens(data, 14), expected[:7])
    assert len(fixed_tokens(data, 10**6)) == len(data.val_dataloader().dataset.starts)  # all there are


def test_a_negative_cadence_is_refused():
    with pytest.raises(ValueError, match="record_every is not negative; got -1"):
        TrainConfig(record_every=-1)


def test_a_run_of_a_thousand_steps_takes_less_than_5_mb(tmp_path):
    rows, config = Rows(tmp_path), GPTConfig.preset("nano")
    tables = measure(GPT(config), torch.randint(256, (6, config.context), generator=torch.Generator().manual_seed(0)))
    random = np.random.default_rng(0)
    for step in range(0, 1001, 50):  # values that no compression can guess
        for table, measured in tables.items():
            for row in measured:
                rows.append(table, {"step": step} | {k: _changed(v, random) for k, v in row.items()})
    journal = (tmp_path / "journal.jsonl").stat().st_size
    rows.compact()
    filed = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert max(journal, filed) < 5e6


def _changed(value, random):
    if isinstance(value, list):
        return [_changed(v, random) for v in value]
    return float(f"{value * random.uniform(0.5, 1):.5g}") if isinstance(value, float) else value


def test_the_peak_of_memory_is_known_on_linux_only(monkeypatch, tmp_path):
    before = peak_memory(torch.device("cpu"))
    assert before > 50e6  # torch alone takes more
    held = torch.ones(int(before / 4) + 10_000_000)
    assert peak_memory(torch.device("cpu")) > before + 20e6
    del held
    monkeypatch.setattr(record_module, "Path", lambda _: tmp_path / "missing")
    assert peak_memory(torch.device("cpu")) is None
