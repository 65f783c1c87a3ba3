"""What happens inside a model: any tensor by its name, and the rows that a training writes about it.

`record` is for one look, in a notebook; `measure` makes rows of numbers of a model and a few tokens; `Recorder` has
`measure` done now and then while a model is trained, and adds them to the run's tables:

    spectra        step, layer, tensor, effective_rank, stable_rank, participation_ratio, singular_values
    coefficients   step, layer, expert, a0 (the constant), a1, a2, ... (of the powers); only where there are any
    norms          step, layer, gradient_norm, weight_norm, preactivation_rms, hidden_rms, residual_rms
    routers        step, layer, load, entropy, dead; only with experts
    similarity     step, layer, other, cosine, cka; one row for each pair layer < other
    speed          step, tokens_per_second, memory_bytes

A layer counts from 0. The tensors of a spectrum are the matrices "up", "gate" and "down" of the feed-forward, not
centred, and "preactivation" and "hidden", the activation's input and output, rows of tokens with their mean taken off;
`spectral` says what the measures are, all of singular values. With experts, a spectrum of a matrix is the mean over the
experts, and preactivation and hidden are those of all of them together; what is shared by all tokens is left out.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from itertools import combinations
from pathlib import Path

import lightning as L
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minipolycom.model import GPT, MoE
from minipolycom.runs import Run
from minipolycom.spectral import feed_forward_matrices, layer_similarity, singular_values, spectrum_row
from minipolycom.text import TokenData

TOKENS_PER_WIDTH, ROWS_PER_WIDTH = 8, 2
"""A measurement takes as many whole windows as hold 8 D tokens; spectra of activations are of 2 D of these, as the time
that they take grows with the cube of the rows. No rank of activations can be seen that is larger than that."""

LARGEST_VALUES = 256
"""Singular values that a row holds, the largest ones; the measures beside them are of all."""

HIDDEN = "feed_forward.activation"
PREACTIVATION = f"{HIDDEN}.input"

CONTAINERS = nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict


@contextlib.contextmanager
def record(model: nn.Module, names: str | Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Keep tensors of a model by name: a dict name -> tensor, filled anew at each forward within the `with` block.

        with record(model, "blocks.*.feed_forward.activation") as tensors:
            model(tokens)
        tensors["blocks.0.feed_forward.activation"]

    The name of a module stands for its output, NAME.input for its input, and that of a parameter for the parameter. A *
    stands for anything between two dots. Tensors are detached, and not copied.

    Raises ValueError, which lists the names that exist, for one that matches none; and, in the forward, for a module
    whose input or output is no tensor.
    """
    tensors: dict[str, Tensor] = {}
    passing, parameters = passing_tensors(model), dict(model.named_parameters())
    with contextlib.ExitStack() as stack:
        for name in matching(names, [*passing, *parameters]):
            if name in parameters:
                tensors[name] = parameters[name].detach()
            else:
                module, which = passing[name]
                hook = partial(_keep, tensors, name, which)
                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield tensors


def passing_tensors(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """What goes into and out of the modules of a model, by name: the module, and "input" or "output"."""
    modules = {name: module for name, module in model.named_modules() if name and not isinstance(module, CONTAINERS)}
    inputs = {f"{name}.input": (module, "input") for name, module in modules.items()}
    return inputs | {name: (module, "output") for name, module in modules.items()}


def matching(patterns: str | Iterable[str], known: Iterable[str]) -> list[str]:
    """The names that match a pattern, part by part between the dots. Raises ValueError for a pattern without any."""
    patterns, known = [patterns] if isinstance(patterns, str) else list(patterns), list(known)
    found = {}
    for pattern in patterns:
        parts = pattern.split(".")
        same_length = [name for name in known if name.count(".") == pattern.count(".")]
        matched = [name for name in same_length if all(map(fnmatchcase, name.split("."), parts))]
        if not matched:
            starred = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in known)
            raise ValueError(f"no tensor is called {pattern!r}; known: {', '.join(starred)}")
        found |= dict.fromkeys(matched)
    return list(found)


def _keep(
    tensors: dict[str, Tensor], name: str, which: str, module: nn.Module, args: tuple, kwargs: dict, output: object
) -> None:
    value = output if which == "output" else next(iter((*args, *kwargs.values())), None)
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is no tensor but a {type(value).__name__}: record the modules inside it")
    tensors[name] = value.detach()


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(
    model: GPT,
    tokens_BT: Int[Tensor, "B T"],
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> dict[str, list[dict]]:
    """The tables spectra, coefficients, norms, routers and similarity of a model on these tokens, without a step.

    Blocks are run one after the other, each in a `context` (that of a training's precision), so that the tensors of one
    block alone are in memory, and of the others the residual stream. Neither weights nor random states change.

    Raises ValueError where a weight or an activation is not finite.
    """
    rows: dict[str, list[dict]] = {"spectra": weight_rows(model)}
    training, residuals = model.training, []
    model.eval()
    try:
        x_BTD = model.embedding(tokens_BT)
        for layer, block in enumerate(model.blocks):
            with record(block, (HIDDEN, PREACTIVATION)) as tensors, context():
                x_BTD = block(x_BTD)
            residuals.append(rearrange(x_BTD, "B T D -> (B T) D"))
            preactivation, hidden = (rearrange(tensors[name], "... F -> (...) F") for name in (PREACTIVATION, HIDDEN))
            n_rows = ROWS_PER_WIDTH * model.config.d_model
            for tensor, x_NF in (("preactivation", preactivation), ("hidden", hidden)):
                s_R = singular_values(evenly(x_NF, n_rows), centre=True)
                rows["spectra"].append({"layer": layer, "tensor": tensor, **_spectrum(s_R)})
            rows.setdefault("norms", []).append(
                {
                    "layer": layer,
                    "weight_norm": _digits(nn.utils.get_total_norm(block.parameters())),
                    "preactivation_rms": rms(preactivation),
                    "hidden_rms": rms(hidden),
                    "residual_rms": rms(x_BTD),
                }
            )
            rows.setdefault("coefficients", []).extend({"layer": layer, **row} for row in coefficient_rows(block))
            if isinstance(block.feed_forward, MoE):
                rows.setdefault("routers", []).append({"layer": layer, **router_row(block.feed_forward)})
    finally:
        model.train(training)
    cosine_LL, cka_LL = layer_similarity(residuals)
    rows["similarity"] = [
        {"layer": i, "other": j, "cosine": _digits(cosine_LL[i, j]), "cka": _digits(cka_LL[i, j])}
        for i, j in combinations(range(len(residuals)), 2)
    ]
    return rows


def weight_rows(model: GPT) -> list[dict]:
    """The spectra of each layer's matrices; where there are experts, the mean over them of each number."""
    spectra: dict[tuple[int, str], list[Tensor]] = {}
    for layer, expert, tensor, weight in feed_forward_matrices(model):
        if (expert >= 0) == (model.config.n_experts > 0):
            spectra.setdefault((layer, tensor), []).append(singular_values(weight, centre=False))
    return [{"layer": layer, "tensor": tensor, **_spectrum(*s)} for (layer, tensor), s in spectra.items()]


def coefficient_rows(block: nn.Module) -> list[dict]:
    """The activation's coefficients in ascending powers, by expert; expert is -1 where there is one set for all."""
    activation = block.feed_forward.activation
    if not hasattr(activation, "weight"):
        return []
    ascending = torch.cat([activation.bias, activation.weight.flip(-1)], -1)
    names = [f"a{power}" for power in range(ascending.shape[-1])]
    sets = [(-1, ascending)] if ascending.ndim == 1 else enumerate(ascending)
    return [{"expert": expert, **dict(zip(names, map(_digits, values), strict=True))} for expert, values in sets]


def router_row(experts: MoE) -> dict:
    """What the router of a layer did in the last forward: each expert's share of slots, entropy in nats, experts
    without any."""
    load = experts.load_E.tolist()
    return {
        "load": [_digits(share) for share in load],
        "entropy": _digits(experts.router_entropy),
        "dead": load.count(0),
    }


def rms(x: Float[Tensor, "*batch"]) -> float:
    """Root mean square, in fp32 or better."""
    return _digits(x.to(torch.promote_types(x.dtype, torch.float32)).square().mean().sqrt())


def evenly(x_NF: Float[Tensor, "N F"], n_rows: int) -> Float[Tensor, "rows F"]:
    """At most so many rows, evenly spread."""
    return x_NF[:: max(1, len(x_NF) // n_rows)][:n_rows]


def _spectrum(*spectra: Tensor) -> dict:
    """The row of a spectrum, or of several, of which the mean is taken number by number."""
    measured = [spectrum_row(s_R) for s_R in spectra]
    means = {name: _digits(sum(row[name] for row in measured) / len(measured)) for name in measured[0]}
    return {**means, "singular_values": [_digits(s) for s in sum(spectra)[:LARGEST_VALUES] / len(spectra)]}


def _digits(value: Tensor | float) -> float:
    """Five digits: more than a figure shows, and half of the space."""
    return float(f"{float(value):.5g}")


# ---------------------------------------------------------------------------------------------------------------------
# During training
# ---------------------------------------------------------------------------------------------------------------------


class Recorder(L.Callback):
    """Adds rows to the run's tables before the first step, after each `every`-th and after the last one.

    Always on the same validation windows. The training goes on as if nothing had been measured. Of several processes
    the first one measures; nothing is recorded where the weights are divided among them (fsdp).
    """

    def __init__(self, run: Run, every: int, meter: L.Callback):
        self.run, self.every, self.meter = run, every, meter
        self.gradient_norms: list[float] = []  # of the blocks, none before the first step

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.tokens_BT = fixed_tokens(trainer.datamodule, module.gpt.config.d_model).to(module.device)
        self.since = trainer.global_step, self.meter.seconds
        if trainer.global_step == 0:
            self.write(trainer, module)

    def due(self, trainer: L.Trainer, step: int) -> bool:
        return step % self.every == 0 or step == trainer.max_steps

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: object) -> None:
        if self.due(trainer, trainer.global_step + 1):
            # By now the gradient has been clipped; what was divided out is known.
            clipped = max(1.0, float(module.gradient_norm) / module.config.gradient_clip)
            self.gradient_norms = [
                clipped * float(nn.utils.get_total_norm([p.grad for p in block.parameters() if p.grad is not None]))
                for block in module.gpt.blocks
            ]

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_) -> None:
        if self.due(trainer, trainer.global_step):
            self.write(trainer, module)

    def write(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        step = trainer.global_step
        try:
            tables = measure(module.gpt, self.tokens_BT, trainer.precision_plugin.forward_context)
        except ValueError:  # of what is not finite there is nothing to record; the training itself says so, and ends
            return
        for row, norm in zip(tables["norms"], self.gradient_norms, strict=False):
            if math.isfinite(norm):  # with the loss scaling of fp16 a gradient overflows now and then
                row["gradient_norm"] = _digits(norm)
        if step > self.since[0]:
            tables["speed"] = [self.speed(trainer, module.device)]
        for table, rows in tables.items():
            for row in rows:
                self.run.append({"step": step, **row}, table=table)

    def speed(self, trainer: L.Trainer, device: torch.device) -> dict:
        """Tokens per second of training steps since the last row, and the most memory that the process has had."""
        data, (step, seconds) = trainer.datamodule, self.since
        self.since = trainer.global_step, self.meter.seconds
        tokens = (self.since[0] - step) * data.batch_size * data.context
        return {"tokens_per_second": _digits(tokens / (self.since[1] - seconds)), "memory_bytes": peak_memory(device)}


def fixed_tokens(data: TokenData, width: int) -> Int[Tensor, "B T"]:
    """The first validation windows, as many as hold 8 D tokens; they are spread over the whole validation text."""
    starts = data.val_dataloader().dataset.starts[: -(-TOKENS_PER_WIDTH * width // data.context)]
    return torch.from_numpy(data.val_tokens[starts[:, None] + np.arange(data.context)].astype(np.int64))


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held at once, on a GPU there; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
