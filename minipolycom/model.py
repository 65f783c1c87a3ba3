"""The whole transformer in one file: configuration, attention, feed-forward, block, GPT, presets.

A pre-norm decoder without biases: RMSNorm, rotary positions, causal attention, and a feed-forward whose activation is
the thing under study. Two models that differ only in `activation` have the same number of parameters, up to the
rounding of a gated width to a multiple of 8 and four coefficients per layer.

The laws of the initial weights, chosen so that the activation's input has the same scale at any width:

    every matrix                          N(0, 2 / (5 D)), as in the dense runs of PolyCom's code
    the two that write to the residual    the same, divided by sqrt(2 L), as in GPT-2, so that the variance of the
                                          residual stream does not grow with L
    embedding                             N(0, 1 / D), so that its rows have length one
    norms                                 1

With unit-RMS input to the feed-forward, pre-activations then have a standard deviation of sqrt(2/5) = 0.632.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NoReturn

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minipolycom import fused
from minipolycom.activations import ACTIVATIONS, GATED, PolyNorm, PolyReLU
from minipolycom.checking import check_kind, check_kinds, check_known, check_seed
from minipolycom.grouped import expert_linear
from minipolycom.linear import Linear, linear

WIDTH_MULTIPLE = 8
"""The width of a gated feed-forward, and that of an expert, is rounded to the nearest multiple of this."""

COEFFICIENTS = ("shared", "per_expert")
"""Whose the activation coefficients of a layer with experts are."""

EXPLICIT_UP_TO = 1024
"""Positions up to which a CPU writes attention out in bf16; the weights that this keeps grow with their square."""

FUSED = {PolyNorm: "polynorm", PolyReLU: "polyrelu"}
"""Activations whose feed-forward has a fused form, and its name there."""

PRESETS: dict[str, dict] = {
    "tiny": {"n_layers": 2, "n_heads": 4, "d_model": 128, "context": 128},
    "nano": {"n_layers": 4, "n_heads": 4, "d_model": 192, "context": 256},
    "small": {"n_layers": 8, "n_heads": 8, "d_model": 512, "context": 512},
    "gpt2": {"n_layers": 12, "n_heads": 12, "d_model": 768, "context": 1024, "vocab_size": 50304, "tied": True},
    "tiny-moe": {"n_layers": 2, "n_heads": 4, "d_model": 128, "context": 128, "n_experts": 8},
    "nano-moe": {"n_layers": 4, "n_heads": 4, "d_model": 192, "context": 256, "n_experts": 8},
    "small-moe": {"n_layers": 8, "n_heads": 8, "d_model": 512, "context": 512, "n_experts": 16},
    "olmoe-1b-7b": {
        "n_layers": 16, "n_heads": 16, "d_model": 2048, "context": 4096, "vocab_size": 50304, "expansion": 6.0,
        "n_experts": 64, "experts_per_token": 8,
    },
}  # fmt: skip
"""Sizes by name. `tiny` trains in under a minute on two cores, `nano` in minutes; `small` (25 M parameters) in minutes
on a GPU; `gpt2` has the shape of GPT-2 with 124 M parameters. With `-moe` the feed-forward is shared out among experts,
2 of which serve each token; `olmoe-1b-7b` has the shape of PolyCom's experiments with OLMoE, 1.3 of 6.9 billion
parameters active."""


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a transformer. Raises ValueError, when it is made, for a shape that cannot work."""

    vocab_size: int = 256
    """Number of distinct tokens (V)."""
    context: int = 128
    """Longest sequence the model is trained on, in tokens (T)."""
    n_layers: int = 2
    """Number of blocks (L)."""
    n_heads: int = 4
    """Attention heads per block (H)."""
    d_model: int = 128
    """Width of the residual stream (D)."""
    activation: str = "polynorm"
    """Activation of the feed-forward: relu, squared_relu, gelu, silu, polyrelu, polynorm, swiglu or geglu."""
    tied: bool = False
    """Whether the output head shares the embedding's matrix."""
    rope_base: float = 10_000.0
    """Base of the rotary frequencies."""
    expansion: float = 4.0
    """Width of a feed-forward without a gate, in units of d_model; one with a gate has two thirds of it."""
    n_experts: int = 0
    """Experts that share out each feed-forward (E); 0 for one dense feed-forward."""
    experts_per_token: int = 2
    """Experts that serve each token (S), chosen by the router."""
    n_shared_experts: int = 0
    """Experts that serve every token, beside the chosen ones."""
    coefficients: str = "shared"
    """Whether the experts of a layer have one set of activation coefficients (shared) or one each (per_expert)."""

    def __post_init__(self):
        check_kinds(self)
        for field in ("vocab_size", "context", "n_layers", "n_heads", "d_model"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} counts something: it is at least 1; got {getattr(self, field)}")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model is divided among the heads: {self.d_model} is not divisible by n_heads={self.n_heads}"
            )
        if (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"rotary positions turn pairs of entries, so d_model / n_heads must be even; "
                f"got {self.d_model} / {self.n_heads} = {self.d_model // self.n_heads}"
            )
        check_known("activation", self.activation, (*ACTIVATIONS, *GATED))  # as they are now: a learner may add one
        if self.rope_base <= 1:
            raise ValueError(f"rope_base is greater than 1; got {self.rope_base}")
        if self.expansion * self.d_model < 1:
            raise ValueError(f"expansion times d_model is the feed-forward's width, at least 1; got {self.expansion}")
        check_known("coefficients", self.coefficients, COEFFICIENTS)
        self._check_experts()

    def _check_experts(self) -> None:
        for field in ("n_experts", "n_shared_experts"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is not negative; got {getattr(self, field)}")
        if self.n_experts == 0:
            for field, dense in (("n_shared_experts", 0), ("coefficients", "shared")):
                if getattr(self, field) != dense:
                    raise ValueError(
                        f"{field}={getattr(self, field)!r} is about experts, and n_experts=0 means that there are "
                        "none: give n_experts"
                    )
            return
        if not 1 <= self.experts_per_token <= self.n_experts:
            raise ValueError(
                f"the router chooses experts_per_token among n_experts={self.n_experts}: from 1 to {self.n_experts}; "
                f"got {self.experts_per_token}"
            )
        if self.coefficients == "per_expert" and self.activation not in ("polyrelu", "polynorm"):
            raise ValueError(
                f"{self.activation} has no coefficients, so experts cannot have their own: "
                "set coefficients='shared', or activation to polyrelu or polynorm"
            )
        active = self.experts_per_token + self.n_shared_experts
        if self.d_ff < active * WIDTH_MULTIPLE:
            raise ValueError(
                f"{active} active experts share out the width {self.d_ff} of a dense feed-forward, and each is at "
                f"least {WIDTH_MULTIPLE} wide: widen d_model or take fewer experts_per_token"
            )

    @classmethod
    def preset(cls, name: str, **overrides) -> "GPTConfig":
        """The configuration of that name in PRESETS, with some fields replaced. Raises ValueError for unknown names."""
        check_known("preset", name, PRESETS)
        for key in overrides:
            check_known("field", key, [field.name for field in fields(cls)])
        return cls(**{**PRESETS[name], **overrides})

    @property
    def d_ff(self) -> int:
        """Width of a dense feed-forward (F), matched in parameters: expansion D, with a gate 2/3 of it rounded to 8."""
        if self.activation not in GATED:
            return round(self.expansion * self.d_model)
        return max(WIDTH_MULTIPLE, WIDTH_MULTIPLE * round(2 * self.expansion * self.d_model / 3 / WIDTH_MULTIPLE))

    @property
    def d_expert(self) -> int:
        """Width of one expert: those that serve a token are together as wide as d_ff, up to rounding each to 8."""
        return WIDTH_MULTIPLE * round(self.d_ff / (self.experts_per_token + self.n_shared_experts) / WIDTH_MULTIPLE)

    @property
    def n_parameters(self) -> int:
        """Learnable numbers of the model of this shape, a tied head counted once; known without making it."""
        return self._count_parameters(self.n_experts)

    @property
    def n_active_parameters(self) -> int:
        """Those of them that serve one token: of the routed experts only the chosen ones."""
        return self._count_parameters(self.experts_per_token if self.n_experts else 0)

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token: 6 N + 12 L D T.

        N are the active parameters that multiply (all but the embedding's rows and the vectors), 2 operations each
        forward and 4 backward; 12 L D T are the scores and mixtures of attention over the whole context, as if it were
        not causal. Source: Chowdhery et al., "PaLM", 2022, appendix B.
        """
        matrices = self.n_layers * self._matrices(self.experts_per_token) + self.vocab_size * self.d_model
        return 6 * matrices + 12 * self.n_layers * self.d_model * self.context

    def _matrices(self, routed: int) -> int:
        """Entries of one block's matrices, with so many of the routed experts counted."""
        per_unit = (3 if self.activation in GATED else 2) * self.d_model
        if not self.n_experts:
            return 4 * self.d_model**2 + per_unit * self.d_ff
        experts = (routed + self.n_shared_experts) * per_unit * self.d_expert
        return 4 * self.d_model**2 + experts + self.n_experts * self.d_model

    def _count_parameters(self, routed: int) -> int:
        one_set = sum(p.numel() for p in ACTIVATIONS[GATED.get(self.activation, self.activation)]().parameters())
        sets = (routed if self.coefficients == "per_expert" else 1) + (self.n_shared_experts > 0)
        block = self._matrices(routed) + 2 * self.d_model + sets * one_set
        return (1 if self.tied else 2) * self.vocab_size * self.d_model + self.n_layers * block + self.d_model


class LayerCache:
    """Keys and values of one layer at the positions read so far; the first ones fix the batch, dtype and device."""

    def __init__(self, context: int):
        self.context = context
        self.length = 0
        """Positions read so far."""
        self.kept: Tensor | None = None

    def extend(
        self, k_BHTK: Float[Tensor, "B H T K"], v_BHTK: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B H past K"], Float[Tensor, "B H past K"]]:
        """Keep the keys and values of the next T positions; give those of all positions so far."""
        B, H, T, K = k_BHTK.shape
        if self.kept is None:
            self.kept = k_BHTK.new_empty(2, B, H, self.context, K)
        start, self.length = self.length, self.length + T
        self.kept[0, :, :, start : self.length] = k_BHTK
        self.kept[1, :, :, start : self.length] = v_BHTK
        return self.kept[0, :, :, : self.length], self.kept[1, :, :, : self.length]


class KVCache:
    """The keys and values of every layer of a model, so that a further token costs one position and not all.

    Made empty, with room for the context; each call of `GPT.forward` with it reads on from where the last one ended.
    """

    def __init__(self, config: GPTConfig):
        self.layers = [LayerCache(config.context) for _ in range(config.n_layers)]

    @property
    def length(self) -> int:
        """Positions read so far."""
        return self.layers[0].length

    @property
    def batch(self) -> int:
        """Texts that it holds."""
        return 0 if self.layers[0].kept is None else self.layers[0].kept.shape[1]


class Rotary(nn.Module):
    """Rotary position embedding: entries (i, i + K/2) of a head turn by the angle t / base^(2i/K) at position t.

    Source: Su et al., "RoFormer", 2021.
    """

    def __init__(self, d_head: int, context: int, base: float):
        super().__init__()
        frequency_K = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angle_TK = torch.arange(context, dtype=torch.float64)[:, None] * frequency_K
        # Angles are formed in fp64: at position 1000 an fp32 product has already lost three digits of the turn.
        cos, sin = angle_TK.cos().float(), angle_TK.sin().float()
        self.register_buffer("cos", torch.cat([cos, cos], dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat([-sin, sin], dim=-1), persistent=False)

    def forward(self, x_BHTK: Float[Tensor, "B H T K"], start: int = 0) -> Float[Tensor, "B H T K"]:
        here = slice(start, start + x_BHTK.shape[-2])
        cos_TK, sin_TK = self.cos[here].to(x_BHTK.dtype), self.sin[here].to(x_BHTK.dtype)
        other_BHTK = x_BHTK.roll(x_BHTK.shape[-1] // 2, dims=-1)  # the other entry of each pair, in its place
        return torch.addcmul(x_BHTK * cos_TK, other_BHTK, sin_TK)


class Attention(nn.Module):
    """Causal self-attention: softmax(q k^T / sqrt(K)) v over earlier positions, H heads side by side."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = Linear(config.d_model, 3 * config.d_model)
        self.out = Linear(config.d_model, config.d_model)
        self.rotary = Rotary(config.d_model // config.n_heads, config.context, config.rope_base)

    def forward(self, x_BTD: Float[Tensor, "B T D"], cache: LayerCache | None = None) -> Float[Tensor, "B T D"]:
        q, k, v = rearrange(self.qkv(x_BTD), "B T (three H K) -> three B H T K", three=3, H=self.n_heads)
        start = cache.length if cache else 0
        q, k = self.rotary(q, start), self.rotary(k, start)
        if cache:
            k, v = cache.extend(k, v)
        mixed_BHTK = explicit_attention(q, k, v) if explicit_is_faster(q, k) else causal_attention(q, k, v)
        return self.out(rearrange(mixed_BHTK, "B H T K -> B T (H K)"))


def causal_attention(
    q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H S K"], v: Float[Tensor, "B H S K"]
) -> Float[Tensor, "B H T K"]:
    """softmax(q k^T / sqrt(K)) v, where each of the last T of the S positions looks back to the first."""
    T, S = q.shape[-2], k.shape[-2]
    if T == S or T == 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    seen_TS = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen_TS)


def explicit_attention(
    q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H T K"], v: Float[Tensor, "B H T K"]
) -> Float[Tensor, "B H T K"]:
    """`causal_attention` of T positions to themselves, written out: it keeps the T x T weights for backward."""
    T, K = q.shape[-2:]
    future_TT = q.new_full((T, T), -math.inf).triu(1)
    scores_BHTT = (q * K**-0.5) @ k.transpose(-2, -1) + future_TT
    return scores_BHTT.softmax(-1) @ v


def explicit_is_faster(q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H S K"]) -> bool:
    """Whether a CPU is training in bf16 on sequences that are not long: its own attention is slow in that precision.

    Forward and backward took 0.17 to 0.55 of the time, at 128 to 1024 positions, and more than it in fp32.
    """
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape == k.shape and q.shape[-2] <= EXPLICIT_UP_TO


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) for a gated activation (SwiGLU, GeGLU).

    A gateless PolyNorm or PolyReLU goes through `fused.feed_forward`, which keeps half as much for backward, unless a
    hook waits on one of the three modules or another kind of layer stands in its place.
    """

    def __init__(self, config: GPTConfig, width: int | None = None):
        super().__init__()
        width, gated = width or config.d_ff, config.activation in GATED
        self.up = Linear(config.d_model, width)
        self.gate = Linear(config.d_model, width) if gated else None
        self.activation = ACTIVATIONS[GATED.get(config.activation, config.activation)]()
        self.down = Linear(width, config.d_model)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if self.gate is not None:
            return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))
        if not self._can_fuse():
            return self.down(self.activation(self.up(x_BTD)))
        return fused.feed_forward(
            x_BTD,
            self.up.weight,
            self.activation.weight,
            self.activation.bias,
            self.down.weight,
            activation=FUSED[type(self.activation)],
            eps=getattr(self.activation, "eps", 0.0),
            backend=self.activation.backend,
        )

    def _can_fuse(self) -> bool:
        known = type(self.activation) in FUSED and type(self.up) is type(self.down) is Linear
        return known and not any(map(has_hooks, (self.up, self.activation, self.down)))


def has_hooks(module: nn.Module) -> bool:
    """Whether something waits for this module to be called."""
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


class Router(nn.Linear):
    """The experts' logits, W x, in fp32 or better even under autocast: a rounding must not decide who is chosen."""

    def forward(self, x_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N E"]:
        wide = torch.promote_types(x_ND.dtype, torch.float32)
        with torch.autocast(x_ND.device.type, enabled=False):
            return linear(x_ND.to(wide), self.weight.to(wide))


class MoE(nn.Module):
    """A mixture of experts: each token goes through S of E small feed-forwards, and through the shared one if any.

        y = sum over the S largest logits e of  p_e down_e(activation(up_e(x)))   + shared(x)
        p = softmax over the chosen logits,   logits = router(x)

    A gated activation has a third matrix per expert, as in FeedForward. No token is dropped: each expert takes all that
    choose it. After a forward the layer holds, for the N = B T tokens it has just seen,

        load_E           share of the N S slots that each expert got; sums to 1
        balance_loss     E sum_e load_e P_e with P_e the mean over tokens of softmax(logits)_e: 1 when all are alike
        z_loss           mean over tokens of logsumexp(logits)^2
        router_entropy   mean over tokens of the entropy of softmax(logits), in nats
        chosen_BTS       the experts of each token, likeliest first

    and None in their place while a forward is under way or has failed.

    Sources: Fedus et al., "Switch transformers", 2021 (balance loss; for S > 1 as in Muennighoff et al., "OLMoE", 2024,
    up to its factor S); Zoph et al., "ST-MoE", 2022 (z-loss); DeepSeek-AI, "DeepSeekMoE", 2024 (shared experts).
    """

    STATISTICS = ("load_E", "balance_loss", "z_loss", "router_entropy", "chosen_BTS")

    def __init__(self, config: GPTConfig):
        super().__init__()
        E, D, width, gated = config.n_experts, config.d_model, config.d_expert, config.activation in GATED
        self.per_token = config.experts_per_token
        self.router = Router(D, E, bias=False)
        self.up = nn.Parameter(torch.empty(E, width, D))
        self.gate = nn.Parameter(torch.empty(E, width, D)) if gated else None
        self.down = nn.Parameter(torch.empty(E, D, width))
        name = GATED.get(config.activation, config.activation)
        self.per_expert = config.coefficients == "per_expert"
        self.activation = ACTIVATIONS[name](**({"experts": E} if self.per_expert else {}))
        self.shared = FeedForward(config, config.n_shared_experts * width) if config.n_shared_experts else None
        self._forget()

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        self._forget()
        x_ND = rearrange(x_BTD, "B T D -> (B T) D")
        logits_NE = self.router(x_ND)
        chosen_logits_NS, chosen_NS = logits_NE.topk(self.per_token)
        expert_M, order_M, place_NS, count_E = sort_by_expert(chosen_NS, logits_NE.shape[1])
        x_MD = Dispatch.apply(as_autocast(x_ND), order_M, place_NS)
        y_MD = self.experts(x_MD, expert_M, count_E)
        y_ND = Combine.apply(y_MD, chosen_logits_NS.softmax(-1).to(y_MD.dtype), order_M, place_NS)
        self._remember(logits_NE, chosen_NS, count_E, x_BTD.shape[:2])
        y_BTD = y_ND.view(x_BTD.shape)
        return y_BTD if self.shared is None else y_BTD + self.shared(x_BTD)

    def experts(
        self, x_MD: Float[Tensor, "M D"], expert_M: Int[Tensor, " M"], count_E: Int[Tensor, " E"]
    ) -> Float[Tensor, "M D"]:
        """Each row through its expert; rows are sorted by expert, count_E of them each."""
        of_rows = (expert_M,) if self.per_expert else ()
        up_MF = expert_linear(x_MD, self.up, count_E)
        if self.gate is None:
            return expert_linear(self.activation(up_MF, *of_rows), self.down, count_E)
        gate_MF = expert_linear(x_MD, self.gate, count_E)
        return expert_linear(self.activation(gate_MF) * up_MF, self.down, count_E)

    def _forget(self) -> None:
        for name in self.STATISTICS:
            setattr(self, name, None)

    def _remember(self, logits_NE: Tensor, chosen_NS: Tensor, count_E: Tensor, leading: torch.Size) -> None:
        lse_N = logits_NE.logsumexp(-1)
        probability_NE = (logits_NE - lse_N[:, None]).exp()
        self.load_E = count_E / count_E.sum()
        self.balance_loss = len(count_E) * (self.load_E * probability_NE.mean(0)).sum()
        self.z_loss = lse_N.square().mean()
        self.router_entropy = (lse_N - (probability_NE * logits_NE).sum(-1)).mean().detach()
        self.chosen_BTS = chosen_NS.view(*leading, -1)

    def __getstate__(self) -> dict:
        """What a copy takes over: not the statistics, which hang on the graph of the last forward."""
        return {**self.__dict__, **dict.fromkeys(self.STATISTICS)}


def sort_by_expert(
    chosen_NS: Int[Tensor, "N S"], n_experts: int
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Int[Tensor, "N S"], Int[Tensor, " E"]]:
    """The M = N S slots in the order of their experts: the expert and the slot at each place, the place of each slot,
    and how many slots each expert got."""
    expert_M, order_M = chosen_NS.flatten().sort(stable=True)
    here_M = torch.arange(len(order_M), device=order_M.device)
    place_NS = torch.empty_like(order_M).scatter_(0, order_M, here_M).view_as(chosen_NS)
    # not bincount, whose result has a size that a GPU must be waited for
    end_E = torch.searchsorted(expert_M, torch.arange(n_experts, device=order_M.device), right=True)
    return expert_M, order_M, place_NS, end_E.diff(prepend=end_E.new_zeros(1))


class Dispatch(torch.autograd.Function):
    """A row of x for each slot, sorted by expert: x[order // S].

    Backward sums the S rows of each token where they stand; autograd, which cannot know where, would add row by row.
    """

    @staticmethod
    def forward(ctx, x_ND: Tensor, order_M: Tensor, place_NS: Tensor) -> Tensor:
        ctx.save_for_backward(place_NS)
        return x_ND.index_select(0, order_M // place_NS.shape[1])

    @staticmethod
    def backward(ctx, g_MD: Tensor) -> tuple[Tensor, None, None]:
        (place_NS,) = ctx.saved_tensors
        return F.embedding_bag(place_NS, g_MD, mode="sum"), None, None


class Combine(torch.autograd.Function):
    """What each token gets from its slots: sum over s of weight_s y[place_s], without y in the order of tokens."""

    @staticmethod
    def forward(ctx, y_MD: Tensor, weight_NS: Tensor, order_M: Tensor, place_NS: Tensor) -> Tensor:
        ctx.save_for_backward(y_MD, weight_NS, order_M, place_NS)
        return F.embedding_bag(place_NS, y_MD, mode="sum", per_sample_weights=weight_NS)

    @staticmethod
    def backward(ctx, g_ND: Tensor) -> tuple[Tensor, Tensor, None, None]:
        y_MD, weight_NS, order_M, place_NS = ctx.saved_tensors
        g_MD = g_ND.index_select(0, order_M // place_NS.shape[1])
        d_weight_NS = torch.linalg.vecdot(y_MD, g_MD)[place_NS]
        return g_MD * weight_NS.flatten()[order_M, None], d_weight_NS, None, None


def as_autocast(x: Tensor) -> Tensor:
    """x in the dtype that autocast, where it is on, gives to a matrix product: grouped ones it does not know."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.feed_forward = MoE(config) if config.n_experts else FeedForward(config)

    def forward(self, x_BTD: Float[Tensor, "B T D"], cache: LayerCache | None = None) -> Float[Tensor, "B T D"]:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cache)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class GPT(nn.Module):
    """A decoder-only language model: embedding, L blocks, norm, head.

    `seed` fixes the initial weights, whatever the state of torch's global generator; two models of one seed that
    differ only in a gateless activation start from the same matrices.
    """

    def __init__(self, config: GPTConfig, seed: int = 0):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.head = Linear(config.d_model, config.vocab_size)
        self._initialise(seed)
        if config.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        std = math.sqrt(2 / (5 * self.config.d_model))
        shrunk = 1 / math.sqrt(2 * self.config.n_layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5, generator=generator)
            elif isinstance(module, nn.Linear):
                to_residual = name.endswith(("attention.out", ".down"))
                nn.init.normal_(module.weight, std=std * shrunk if to_residual else std, generator=generator)
            elif isinstance(module, MoE):
                for weight in (module.up, module.gate):
                    if weight is not None:
                        nn.init.normal_(weight, std=std, generator=generator)
                nn.init.normal_(module.down, std=std * shrunk, generator=generator)

    def forward(self, tokens_BT: Int[Tensor, "B T"], cache: KVCache | None = None) -> Float[Tensor, "B T V"]:
        """Logits of the next token at each position. With a cache, the tokens go on from those that it has read.

        Raises ValueError for what is not a batch of sequences of whole numbers, for a sequence longer than the context,
        for a cache of another batch, and, on a CPU, for a token outside the vocabulary; a GPU finds that one too, with
        an error of its own.
        """
        if tokens_BT.ndim != 2 or tokens_BT.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"tokens are int64 or int32 of the shape (batch, time); got {tokens_BT.dtype} of the shape "
                f"{tuple(tokens_BT.shape)}"
            )
        length = tokens_BT.shape[1] + (cache.length if cache else 0)
        if length > self.config.context:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the model's context of {self.config.context}"
            )
        if cache and cache.length and cache.batch != len(tokens_BT):
            raise ValueError(
                f"the cache holds a batch of {cache.batch} texts, the tokens are of {len(tokens_BT)}: "
                "make a new KVCache"
            )
        try:
            x_BTD = self.embedding(tokens_BT)
        except IndexError:  # asking beforehand would make a GPU wait at each step
            outside = tokens_BT[(tokens_BT < 0) | (tokens_BT >= self.config.vocab_size)]
            self._refuse_token(int(outside[0]))
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, cache.layers[layer] if cache else None)
        return self.head(self.norm(x_BTD))

    @property
    def n_parameters(self) -> int:
        """Number of learnable numbers, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def balance_loss(self) -> Float[Tensor, ""] | float:
        """Mean of the load-balance losses that the MoE layers hold from the last forward; 0 without such layers."""
        return self._mean_of_layers("balance_loss")

    def z_loss(self) -> Float[Tensor, ""] | float:
        """Mean of the z-losses that the MoE layers hold from the last forward; 0 without such layers."""
        return self._mean_of_layers("z_loss")

    def _mean_of_layers(self, name: str) -> Tensor | float:
        losses = [getattr(block.feed_forward, name) for block in self.blocks if isinstance(block.feed_forward, MoE)]
        if None in losses:
            raise ValueError(f"the {name} of experts is known after a forward: call the model on tokens first")
        return sum(losses) / max(1, len(losses))

    def _refuse_token(self, token: int) -> NoReturn:
        raise ValueError(f"token {token} is outside the vocabulary of {self.config.vocab_size}")

    def stream(
        self,
        tokens: list[int],
        n_new: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[int]:
        """Yield `n_new` tokens one by one, each drawn from softmax(logits / temperature) and appended to the input.

        temperature 0 takes the likeliest token; top_k > 0 draws among the top_k likeliest only, top_p < 1 among the
        fewest likeliest that have that probability together. Keys and values are kept from token to token; once the
        text is longer than the context the window slides, and is read anew for each token.

        Raises ValueError at once for an empty prompt, a token outside the vocabulary, a negative temperature, top_k or
        n_new, a top_p outside (0, 1], and for a seed that torch does not take.
        Source of top_p: Holtzman et al., "The curious case of neural text degeneration", 2019.
        """
        if not tokens:
            raise ValueError("generation continues a text: give at least one token")
        outside = [token for token in tokens if not 0 <= token < self.config.vocab_size]
        if outside:
            self._refuse_token(outside[0])
        check_seed(seed)
        for name, value, kind in (("temperature", temperature, float), ("top_k", top_k, int), ("n_new", n_new, int)):
            check_kind(name, value, kind)
            if value < 0:
                raise ValueError(f"{name} is not negative; got {value}")
        check_kind("top_p", top_p, float)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p is a probability greater than 0 and at most 1; got {top_p}")
        return self._draw(tokens, n_new, temperature, top_k, top_p, seed)

    @torch.no_grad()
    def _draw(
        self, tokens: list[int], n_new: int, temperature: float, top_k: int, top_p: float, seed: int
    ) -> Iterator[int]:
        device = self.embedding.weight.device
        generator = torch.Generator(device).manual_seed(seed)
        text, cache = list(tokens), KVCache(self.config)
        for _ in range(n_new):
            if len(text) > self.config.context:  # every position of the window has changed, so nothing can be kept
                cache = KVCache(self.config)
            unread = text[-self.config.context :][cache.length :]
            logits_V = self(torch.tensor([unread], device=device), cache)[0, -1].float()
            if temperature == 0:
                token = int(logits_V.argmax())
            else:
                probability_V = likeliest(logits_V / temperature, top_k, top_p).softmax(-1)
                token = int(torch.multinomial(probability_V, 1, generator=generator))
            text.append(token)
            yield token

    def generate(
        self,
        tokens: list[int],
        n_new: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[int]:
        """The prompt and the `n_new` tokens of `stream`, as one list."""
        return [*tokens, *self.stream(tokens, n_new, temperature, top_k, top_p, seed)]


def likeliest(logits_V: Float[Tensor, " V"], top_k: int, top_p: float) -> Float[Tensor, " V"]:
    """The logits, -inf in place of all but the top_k largest (0: all), and of those that the others outweigh by top_p.

    A token stays when those likelier than it have less than top_p of the probability; the likeliest always does.
    """
    if 0 < top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(top_k).values[-1], -math.inf)
    if top_p < 1:
        sorted_V, order_V = logits_V.sort(descending=True)
        probability_V = sorted_V.softmax(-1)
        likelier_V = probability_V.cumsum(-1) - probability_V
        logits_V = logits_V.index_fill(0, order_V[likelier_V >= top_p], -math.inf)
    return logits_V


def next_token_loss(logits_BTV: Float[Tensor, "B T V"], targets_BT: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the next token, in nats per token; formed in fp32 whatever the logits' dtype."""
    return F.cross_entropy(
        rearrange(logits_BTV, "B T V -> (B T) V").float(), rearrange(targets_BT, "B T -> (B T)").long()
    )
