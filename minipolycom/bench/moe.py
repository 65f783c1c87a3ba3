"""How much longer a layer of experts takes than a dense feed-forward that computes as much for each token.

Forward and backward, router included, in one process; on a CPU one thread, and the time this thread was running. The
block of OLMoE in the transformers library, where that is installed, runs as it comes, at the same sizes; its experts
are gated, as ours are beside it, so that both multiply the same three matrices.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from minipolycom.bench.timing import check_rounds, milliseconds, now, pick_device, spread, take_turns
from minipolycom.hardware import tune_cpu
from minipolycom.model import FeedForward, GPTConfig, MoE

SHAPES = ((128, 8, 2, 2048), (256, 8, 2, 4096), (384, 8, 2, 2048), (256, 64, 8, 4096))
"""Width, experts, experts per token, tokens."""


def bench_moe(
    shapes: Iterable[tuple[int, int, int, int]] = SHAPES, device: str = "auto", rounds: int = 15
) -> list[dict]:
    """Time forward and backward of experts against a dense feed-forward of the same active width.

    A row holds: variant, device, dtype, shape; ms_both (median); baseline, the layer it is compared with; ratio, its
    time over the baseline's, median over the rounds, with its quartiles ratio_low and ratio_high; threads and settings.
    Some stand in more rows than one: our experts against our dense layer and against one of plain torch; the
    transformers library's block against the dense layer and against ours, how many times ours it takes.
    `shapes` are width, experts, experts per token and tokens. bf16 on a GPU, fp32 on a CPU.
    Raises ValueError for an unknown device, fewer than two rounds, and a shape that no model can have.
    """
    device = pick_device(device)
    check_rounds(rounds)
    settings, threads = tune_cpu(), torch.get_num_threads()
    rows = []
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        for width, experts, per_token, tokens in shapes:
            label = {
                "device": device,
                "dtype": "bfloat16" if device == "cuda" else "float32",
                "shape": f"{tokens} tokens, {width} wide, {per_token} of {experts} experts",
            }
            about = {"threads": torch.get_num_threads(), "settings": settings}
            measured = _measure(width, experts, per_token, tokens, device, rounds)
            rows += [label | row | about for row in measured]
    finally:
        torch.set_num_threads(threads)
    return rows


def _measure(width: int, experts: int, per_token: int, tokens: int, device: str, rounds: int) -> list[dict]:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    x = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(0)).to(device, dtype).requires_grad_()
    g = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    layers = _layers(width, experts, per_token)
    times = take_turns({name: _timed(layer.to(device, dtype), x, g) for name, layer in layers.items()}, rounds, 2)
    pairs = [(name, "dense, swiglu" if "swiglu" in name else "dense, gelu") for name in layers]
    pairs.append(("ours, gelu", PLAIN))
    pairs += [(name, "ours, swiglu") for name in PEERS.values() if name in layers]
    return [
        {
            "variant": name,
            "ms_both": statistics.median(times[name]),
            "baseline": baseline,
            **spread(times[name], times[baseline]),
        }
        for name, baseline in sorted(pairs, key=lambda pair: pair[1])
    ]


PLAIN = "dense, gelu, plain torch"
"""The dense feed-forward by nn.Linear, whose products may be the slower ones (see `linear`)."""

PEERS = {"eager": "transformers' OLMoE block, swiglu", "grouped_mm": "the same in a model, swiglu"}
"""The transformers library's ways to multiply experts: that of its block alone, and the one that its models choose."""


def _layers(width: int, experts: int, per_token: int) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    for activation in ("gelu", "swiglu"):
        shape = {"d_model": width, "activation": activation}
        layers[f"dense, {activation}"] = FeedForward(GPTConfig(**shape))
        layers[f"ours, {activation}"] = MoE(GPTConfig(**shape, n_experts=experts, experts_per_token=per_token))
    layers[PLAIN] = nn.Sequential(
        nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
    )
    if importlib.util.find_spec("transformers"):
        for how in PEERS:
            layers[PEERS[how]] = olmoe_block(width, layers["ours, swiglu"].up.shape[1], experts, per_token, how)
    for layer in layers.values():
        for parameter in layer.parameters():
            if parameter.ndim >= 2:
                nn.init.normal_(parameter, std=width**-0.5)
    return layers


def olmoe_block(width: int, d_expert: int, experts: int, per_token: int, how: str) -> nn.Module:
    """The feed-forward of an OLMoE layer by the transformers library; `how` is one of its ways to multiply experts."""
    from transformers import OlmoeConfig
    from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock

    config = OlmoeConfig(
        hidden_size=width,
        intermediate_size=d_expert,
        num_experts=experts,
        num_experts_per_tok=per_token,
        num_attention_heads=1,
        num_hidden_layers=1,
        experts_implementation=how,
    )
    return OlmoeSparseMoeBlock(config)


def _timed(layer: nn.Module, x: Tensor, g: Tensor) -> Callable[[], float]:
    wanted = [x, *layer.parameters()]

    def forward_and_backward() -> float:
        start = now(x)
        y = layer(x)
        gradients = torch.autograd.grad(y, wanted, g, allow_unused=True)
        end = now(x)
        del y, gradients
        return milliseconds(start, end)

    return forward_and_backward
