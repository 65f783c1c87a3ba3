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

from minipolycom.activations import ACTIVATION_NAMES, ACTIVATIONS, GATED
from minipolycom.checking import check_kind, check_kinds, check_known, check_seed

WIDTH_MULTIPLE = 8
"""A gated feed-forward's width 8 D / 3 is rounded to the nearest multiple of this."""

PRESETS: dict[str, dict] = {
    "tiny": {"n_layers": 2, "n_heads": 4, "d_model": 128, "context": 128},
    "nano": {"n_layers": 4, "n_heads": 4, "d_model": 192, "context": 256},
    "small": {"n_layers": 8, "n_heads": 8, "d_model": 512, "context": 512},
    "gpt2": {"n_layers": 12, "n_heads": 12, "d_model": 768, "context": 1024, "vocab_size": 50304, "tied": True},
}
"""Sizes by name. `tiny` trains in under a minute on two cores, `nano` in minutes; `small` (25 M parameters) in minutes
on a GPU; `gpt2` has the shape of GPT-2 with 124 M parameters."""


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
        check_known("activation", self.activation, ACTIVATION_NAMES)
        if self.rope_base <= 1:
            raise ValueError(f"rope_base is greater than 1; got {self.rope_base}")

    @classmethod
    def preset(cls, name: str, **overrides) -> "GPTConfig":
        """The configuration of that name in PRESETS, with some fields replaced. Raises ValueError for unknown names."""
        check_known("preset", name, PRESETS)
        for key in overrides:
            check_known("field", key, [field.name for field in fields(cls)])
        return cls(**{**PRESETS[name], **overrides})

    @property
    def d_ff(self) -> int:
        """Feed-forward width (F), matched in parameters: 4 D without a gate, 8 D / 3 (rounded to 8) with one."""
        if self.activation not in GATED:
            return 4 * self.d_model
        return max(WIDTH_MULTIPLE, WIDTH_MULTIPLE * round(8 * self.d_model / 3 / WIDTH_MULTIPLE))

    @property
    def n_parameters(self) -> int:
        """Learnable numbers of the model of this shape, a tied head counted once; known without making it."""
        gated = self.activation in GATED
        coefficients = ACTIVATIONS[GATED.get(self.activation, self.activation)]().parameters()
        matrices = 4 * self.d_model**2 + (3 if gated else 2) * self.d_model * self.d_ff
        block = matrices + 2 * self.d_model + sum(coefficient.numel() for coefficient in coefficients)
        return (1 if self.tied else 2) * self.vocab_size * self.d_model + self.n_layers * block + self.d_model


class Rotary(nn.Module):
    """Rotary position embedding: entries (i, i + K/2) of a head turn by the angle t / base^(2i/K) at position t.

    Source: Su et al., "RoFormer", 2021.
    """

    def __init__(self, d_head: int, context: int, base: float):
        super().__init__()
        frequency_K = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angle_TK = torch.arange(context, dtype=torch.float64)[:, None] * frequency_K
        # Angles are formed in fp64: at position 1000 an fp32 product has already lost three digits of the turn.
        self.register_buffer("cos", angle_TK.cos().float(), persistent=False)
        self.register_buffer("sin", angle_TK.sin().float(), persistent=False)

    def forward(self, x_BHTK: Float[Tensor, "B H T K"]) -> Float[Tensor, "B H T K"]:
        T = x_BHTK.shape[-2]
        cos, sin = self.cos[:T].to(x_BHTK.dtype), self.sin[:T].to(x_BHTK.dtype)
        first, second = x_BHTK.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention: softmax(q k^T / sqrt(K)) v over earlier positions, H heads side by side."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.rotary = Rotary(config.d_model // config.n_heads, config.context, config.rope_base)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q, k, v = rearrange(self.qkv(x_BTD), "B T (three H K) -> three B H T K", three=3, H=self.n_heads)
        mixed_BHTK = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v, is_causal=True)
        return self.out(rearrange(mixed_BHTK, "B H T K -> B T (H K)"))


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) for a gated activation (SwiGLU, GeGLU)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        gated = config.activation in GATED
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if gated else None
        self.activation = ACTIVATIONS[GATED.get(config.activation, config.activation)]()
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if self.gate is None:
            return self.down(self.activation(self.up(x_BTD)))
        return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.feed_forward = FeedForward(config)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
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
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._initialise(seed)
        if config.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        std = math.sqrt(2 / (5 * self.config.d_model))
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5, generator=generator)
            elif isinstance(module, nn.Linear):
                to_residual = name.endswith(("attention.out", "feed_forward.down"))
                scale = 1 / math.sqrt(2 * self.config.n_layers) if to_residual else 1.0
                nn.init.normal_(module.weight, std=std * scale, generator=generator)

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits of the next token at each position.

        Raises ValueError for what is not a batch of sequences of whole numbers, for a sequence longer than the context
        and, on a CPU, for a token outside the vocabulary; a GPU finds that one too, with an error of its own.
        """
        if tokens_BT.ndim != 2 or tokens_BT.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"tokens are int64 or int32 of the shape (batch, time); got {tokens_BT.dtype} of the shape "
                f"{tuple(tokens_BT.shape)}"
            )
        if tokens_BT.shape[1] > self.config.context:
            raise ValueError(
                f"a sequence of {tokens_BT.shape[1]} tokens is longer than the model's context of {self.config.context}"
            )
        try:
            x_BTD = self.embedding(tokens_BT)
        except IndexError:  # asking beforehand would make a GPU wait at each step
            outside = tokens_BT[(tokens_BT < 0) | (tokens_BT >= self.config.vocab_size)]
            self._refuse_token(int(outside[0]))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))

    @property
    def n_parameters(self) -> int:
        """Number of learnable numbers, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _refuse_token(self, token: int) -> NoReturn:
        raise ValueError(f"token {token} is outside the vocabulary of {self.config.vocab_size}")

    def stream(
        self, tokens: list[int], n_new: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
    ) -> Iterator[int]:
        """Yield `n_new` tokens one by one, each drawn from softmax(logits / temperature) and appended to the input.

        temperature 0 takes the likeliest token; top_k > 0 draws among the top_k likeliest only. The window slides
        once the text is longer than the context.

        Raises ValueError at once for an empty prompt, a token outside the vocabulary, a negative temperature, top_k or
        n_new, and for a seed that torch does not take.
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
        return self._draw(tokens, n_new, temperature, top_k, seed)

    @torch.no_grad()
    def _draw(self, tokens: list[int], n_new: int, temperature: float, top_k: int, seed: int) -> Iterator[int]:
        device = self.embedding.weight.device
        generator = torch.Generator(device).manual_seed(seed)
        text = list(tokens)
        for _ in range(n_new):
            window = torch.tensor([text[-self.config.context :]], device=device)
            logits_V = self(window)[0, -1].float()
            if 0 < top_k < len(logits_V):
                logits_V[logits_V < logits_V.topk(top_k).values[-1]] = -math.inf
            if temperature == 0:
                token = int(logits_V.argmax())
            else:
                probability_V = (logits_V / temperature).softmax(-1)
                token = int(torch.multinomial(probability_V, 1, generator=generator))
            text.append(token)
            yield token

    def generate(
        self, tokens: list[int], n_new: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0
    ) -> list[int]:
        """The prompt and the `n_new` tokens of `stream`, as one list."""
        return [*tokens, *self.stream(tokens, n_new, temperature, top_k, seed)]


def next_token_loss(logits_BTV: Float[Tensor, "B T V"], targets_BT: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the next token, in nats per token; formed in fp32 whatever the logits' dtype."""
    return F.cross_entropy(
        rearrange(logits_BTV, "B T V -> (B T) V").float(), rearrange(targets_BT, "B T -> (B T)").long()
    )
