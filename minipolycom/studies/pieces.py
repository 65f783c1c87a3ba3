"""What computes a piece: one function for each kind, from its configuration to plain rows.

A row says in `table` what it is about: "end", one row with all measures of a run; "curve", its validation losses;
"ranks", the ranks through it. The columns in CLOCKS depend on the machine's mood, all others on the piece alone.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from minipolycom.activations import polynorm, polyrelu
from minipolycom.control import Control
from minipolycom.estimate import kept_bytes, loss_of
from minipolycom.evaluate import evaluate
from minipolycom.hardware import pick_accelerator
from minipolycom.model import GPT, GPTConfig
from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.images import ViewData
from minipolycom.ssl.train import SSLConfig, fit_ssl
from minipolycom.studies.study import Piece
from minipolycom.studies.variants import known_to_models
from minipolycom.text import TokenBatch, TokenData
from minipolycom.train import TrainConfig, fit

CLOCKS = ("seconds", "milliseconds", "time_ratio")
"""Columns that no second run repeats to the last digit."""

RANKS = {"weight_rank": ("up", "down"), "rank_in": ("preactivation",), "rank_out": ("hidden",)}
"""By column, the tensors whose ranks are averaged: the weights of the paper's figure, what the activation takes, and
what it gives."""


class Interrupted(Exception):
    """A piece was stopped from outside; its folder holds what is needed to go on."""


@known_to_models()
def language(piece: Piece, folder: Path, control: Control) -> list[dict]:
    """Train a language model. Settings: source, tokenizer, batch_size, windows (of the last evaluation), model, train.

    A piece that chooses a learning rate gives its end alone. A run that diverges ends without a loss.
    """
    settings = piece.settings
    shape, training = settings["model"], settings["train"]
    data = TokenData(
        settings["source"], context=shape["context"], batch_size=settings["batch_size"],
        tokenizer=settings["tokenizer"], seed=piece.seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged")  # the row says so
        model = GPTConfig(**shape, vocab_size=data.tokenizer.vocab_size)
        train = TrainConfig(**training, seed=piece.seed)
        run = fit(data, model, train, out=folder, name=piece.arm, control=control, progress=False)
        if run.status == "stopped":
            raise Interrupted(run.message)
        measured = {}
        if run.finished:
            found = evaluate(run.model(), data, windows=settings["windows"], progress=False)
            measured = {name: found[name] for name in ("loss", "above_floor", "kl") if found[name] is not None}
    end = {
        "table": "end",
        **piece.label,
        "source": settings["source"],
        "learning_rate": train.learning_rate,
        "status": run.status,
        "steps": run.step,
        "parameters": model.n_parameters,
        "active_parameters": model.n_active_parameters,
        "width": model.d_model,
        "precision": train.precision,
        "seconds": run.rows[-1]["seconds"] if run.rows else 0.0,
        **measured,
    }
    if piece.phase == "rate":
        return [end]
    curve = [
        {"table": "curve", **piece.label, "source": settings["source"]}
        | {name: row[name] for name in ("step", "tokens", "seconds", "loss")}
        for row in run.rows
        if row["split"] == "val"
    ]
    return [end, *curve, *({"table": "ranks", **piece.label, **row} for row in ranks(run))]


def ranks(run) -> list[dict]:
    """By step, the mean over layers of the effective ranks of the feed-forward's matrices and of what enters and leaves
    the activation, and of the cosine similarity between layers; where the run recorded them."""
    rows: dict[int, dict] = {}
    spectra, similarity = run.table("spectra"), run.table("similarity")
    for step in sorted({row["step"] for row in spectra}):
        now = [row for row in spectra if row["step"] == step]
        rows[step] = {"step": step}
        for name, tensors in RANKS.items():
            rows[step][name] = statistics.fmean(row["effective_rank"] for row in now if row["tensor"] in tensors)
        cosines = [row["cosine"] for row in similarity if row["step"] == step]
        if cosines:
            rows[step]["similarity"] = statistics.fmean(cosines)
    return list(rows.values())


def ssl(piece: Piece, folder: Path, control: Control) -> list[dict]:
    """Train a method without labels. Settings: source, batch_size, network, train; the arm is the method."""
    settings = piece.settings
    data = ViewData(settings["source"], batch_size=settings["batch_size"], seed=piece.seed)
    config = SSLConfig(method=piece.arm, seed=piece.seed, **settings["train"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged")
        run = fit_ssl(
            data, config, NetworkConfig(**settings["network"]), out=folder, control=control, progress=False
        )  # fmt: skip
    if run.status == "stopped" and control.stopped:
        raise Interrupted(run.message)
    summary = {name: value for name, value in run.summary().items() if value is not None and name != "method"}
    names = ("step", "erank_online", "erank_target", "erank_projected", "rank_difference")
    through = [{name: row[name] for name in names} for row in run.table("ranks")]
    return [
        {"table": "end", **piece.label, **summary, **piece.settings.get("columns", {})},
        *({"table": "ranks", **piece.label, **row} for row in through),
    ]


def overhead(piece: Piece, folder: Path, control: Control) -> list[dict]:
    """Time training steps of several activations, which take turns, so that a busy machine slows them alike.

    Settings: arms, baseline, rounds, batch_size, model, train. An arm's milliseconds are the median of a forward and
    backward pass, its time_ratio the median over rounds against the baseline, its kept_ratio the same of the bytes that
    a forward pass keeps for the backward pass.
    """
    settings = piece.settings
    train = TrainConfig(**settings["train"])
    device = pick_accelerator(train.accelerator)
    random = torch.Generator().manual_seed(piece.seed)
    configs = {arm: GPTConfig(**settings["model"], activation=arm) for arm in settings["arms"]}
    shape = (2, settings["batch_size"], settings["model"]["context"])
    batch = TokenBatch(*torch.randint(256, shape, generator=random).to(device))
    models = {arm: GPT(config, seed=piece.seed).to(device) for arm, config in configs.items()}
    kept = {arm: kept_bytes(model, batch, train) for arm, model in models.items()}
    times: dict[str, list[float]] = {arm: [] for arm in models}
    for turn in range(-2, settings["rounds"]):  # the first two warm up
        for arm, model in models.items():
            if control.stopped:
                raise Interrupted("between two rounds")
            began = time.perf_counter()
            loss_of(model, batch, train).backward()
            model.zero_grad()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                times[arm].append(1e3 * (time.perf_counter() - began))
    base = settings["baseline"]
    return [
        {
            "table": "end",
            **piece.label,
            "arm": arm,
            "group": arm,
            "parameters": configs[arm].n_parameters,
            "milliseconds": statistics.median(times[arm]),
            "time_ratio": statistics.median(a / b for a, b in zip(times[arm], times[base], strict=True)),
            "kept_ratio": kept[arm] / kept[base],
        }
        for arm in models
    ]


def precision(piece: Piece, folder: Path, control: Control) -> list[dict]:
    """The error of an activation in an arithmetic against fp64, on normal rows of several scales.

    Settings: dtype, inside ("same", the formula in that dtype throughout, or "fp32", as in `activations`), function,
    scales, shape. error is the RMS of the difference over the RMS of the truth, at each scale.
    """
    settings = piece.settings
    dtype = getattr(torch, settings["dtype"])
    function = {"polynorm": polynorm, "polyrelu": polyrelu}[settings["function"]]
    row = torch.randn(settings["shape"], generator=torch.Generator().manual_seed(piece.seed), dtype=torch.float64)
    weight, bias = torch.full((3,), 1 / 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    rows = []
    for scale in settings["scales"]:
        x = (scale * row).to(dtype)
        truth = function(x.double(), weight, bias)
        if settings["inside"] == "fp32":
            found = function(x, weight.float(), bias.float())
        else:
            found = _throughout(settings["function"], x, weight.to(dtype), bias.to(dtype))
        error = (found.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt()
        finite = bool(error.isfinite())
        rows.append(
            {"table": "end", **piece.label, "scale": scale, "finite": finite, "error": float(error) if finite else None}
        )
    return rows


def _throughout(name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """PolyNorm or PolyReLU of order 3 with every intermediate result in the dtype of x."""
    u = torch.relu(x) if name == "polyrelu" else x

    def term(power: Tensor) -> Tensor:
        return power if name == "polyrelu" else power * torch.rsqrt(power.square().mean(-1, keepdim=True) + 1e-6)

    return weight[0] * term(u**3) + weight[1] * term(u**2) + weight[2] * term(u) + bias


KINDS: dict[str, Callable[[Piece, Path, Control], list[dict]]] = {
    "language": language,
    "ssl": ssl,
    "overhead": overhead,
    "precision": precision,
}
"""Each kind of piece by its name: a function of the piece, a folder of its own, and what can stop it."""


def repeatable(rows: list[dict]) -> list[dict]:
    """Rows without what clocks say."""
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]
