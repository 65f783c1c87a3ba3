"""What our transformer is measured against: a plain GPT of GPT-2's shape, trained as nanoGPT trains.

LayerNorm without bias, learned positions, torch's scaled_dot_product_attention, GELU, a tied head, AdamW that decays
matrices only and is not fused on a CPU, gradients clipped at norm 1. Typed anew for this benchmark, with nothing clever
in it. Source: Karpathy, nanoGPT, 2022-2025, model.py and train.py.
"""

import importlib.util
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

LEARNING_RATE, WEIGHT_DECAY, BETAS, CLIP = 6e-4, 0.1, (0.9, 0.95), 1.0


class PlainNorm(nn.Module):
    """LayerNorm without a bias."""

    def __init__(self, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return F.layer_norm(x_BTD, self.weight.shape, self.weight, None, 1e-5)


class PlainBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, n_heads: int, d_model: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm_1, self.norm_2 = PlainNorm(d_model), PlainNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        B, T, D = x_BTD.shape
        q, k, v = (
            part.view(B, T, self.n_heads, D // self.n_heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x_BTD)).split(D, dim=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).contiguous().view(B, T, D))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD))))


class PlainGPT(nn.Module):
    """Tokens and the tokens that follow them in, mean cross-entropy out."""

    def __init__(self, vocab_size: int, context: int, n_layers: int, n_heads: int, d_model: int):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(context, d_model)
        self.blocks = nn.ModuleList(PlainBlock(n_heads, d_model) for _ in range(n_layers))
        self.norm = PlainNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        self.tokens.weight = self.head.weight

    def forward(self, tokens_BT: Int[Tensor, "B T"], targets_BT: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        positions = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        x_BTD = self.tokens(tokens_BT) + self.positions(positions)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = self.head(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())

    def optimizer(self) -> torch.optim.Optimizer:
        return adamw(self, fused=self.head.weight.is_cuda)


def adamw(model: nn.Module, fused: bool) -> torch.optim.Optimizer:
    """AdamW that decays the matrices only; `fused` makes one pass of what are a dozen operations per parameter."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=fused)


class Peer(nn.Module):
    """nanoGPT's own model, from the `model.py` of a checkout."""

    def __init__(self, file: str, vocab_size: int, context: int, n_layers: int, n_heads: int, d_model: int):
        super().__init__()
        specification = importlib.util.spec_from_file_location("peer_model", file)
        module = importlib.util.module_from_spec(specification)
        sys.modules["peer_model"] = module  # its dataclass looks itself up there
        specification.loader.exec_module(module)
        config = module.GPTConfig(
            block_size=context,
            vocab_size=vocab_size,
            n_layer=n_layers,
            n_head=n_heads,
            n_embd=d_model,
            dropout=0.0,
            bias=False,
        )
        self.gpt = module.GPT(config)

    def forward(self, tokens_BT: Int[Tensor, "B T"], targets_BT: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        return self.gpt(tokens_BT, targets_BT)[1]

    def optimizer(self) -> torch.optim.Optimizer:
        device = next(self.parameters()).device.type
        return self.gpt.configure_optimizers(WEIGHT_DECAY, LEARNING_RATE, BETAS, device)


def find_peer(checkout: Path | str) -> str:
    """The model.py of a checkout of nanoGPT. Raises ValueError for a folder without one."""
    file = Path(checkout) / "model.py"
    if not file.is_file():
        raise ValueError(f"the peer is a checkout of nanoGPT, which has a model.py; {checkout} has none")
    return str(file)
