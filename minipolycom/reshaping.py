"""What passes an activation, given another spectrum: the rank of a hidden layer changed, and nothing else.

    h -> h W,   W = c V diag(g) V^T,   cov(h) = V diag(s^2) V^T,   g = (s / rms(s))^sigma

W is symmetric and can be inverted, so the matrix that comes after it can take it back: `absorbed`. What the layer can
compute is therefore what it could compute before, whatever became of the rank of its hidden rows.

    matrix_of          W of a covariance
    absorbed           the next matrix, such that the two together do what it did alone
    Then, Reshaped     modules: an activation and a fixed matrix; an activation and a filter that follows its spectrum
    inserted, folded   a model with a fixed matrix after each activation; one whose matrices are taken into the next
    hidden_rows, hidden_ranks

The filters are those of the rank differential mechanism (Zhuo et al., "Towards a unified theoretical understanding of
non-contrastive learning via rank differential mechanism", ICLR 2023); here they stand in a language model.
"""

import copy
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minipolycom.checking import check_at_least
from minipolycom.model import GPT
from minipolycom.record import HIDDEN, record
from minipolycom.spectral import effective_rank, singular_values
from minipolycom.ssl.filters import Filter

FLOOR = 1e-3
"""Directions smaller than this fraction of the largest are filtered as if they had that size, so that W keeps an
inverse whose rounding errors stay small."""


@torch.no_grad()
def matrix_of(covariance_FF: Float[Tensor, "F F"], sigma: float) -> Float[Tensor, "F F"]:
    """The symmetric matrix W of a power filter, scaled so that rows of this covariance keep their mean square.

    sigma > 0 favours large directions and lowers the rank, sigma < 0 raises it (-1 makes all directions that are not
    under the floor equal), 0 is the identity. In fp64. Raises ValueError for a covariance of zeros.
    """
    c_FF = covariance_FF.double()
    eigenvalues, axes = torch.linalg.eigh(c_FF)
    if eigenvalues[-1] <= 0:
        raise ValueError("rows that do not vary have no spectrum to reshape: their covariance is 0")
    sizes = eigenvalues.clamp_min(FLOOR**2 * eigenvalues[-1]).sqrt()
    w_FF = (axes * Filter("power", "online", sigma).gain(sizes)) @ axes.mT
    return w_FF * (c_FF.trace() / (w_FF @ c_FF @ w_FF).trace()).sqrt()


def absorbed(down_DF: Float[Tensor, "D F"], w_FF: Float[Tensor, "F F"]) -> Float[Tensor, "D F"]:
    """The matrix with h W absorbed^T = h down^T for every h, in fp64: down W^-T. Raises torch's error where W has no
    inverse."""
    return torch.linalg.solve(w_FF.double(), down_DF.double().mT).mT


class Then(nn.Module):
    """A copy of an activation, and a fixed matrix after it."""

    def __init__(self, activation: nn.Module, matrix_FF: Float[Tensor, "F F"]):
        super().__init__()
        self.activation = copy.deepcopy(activation)  # layers made from one must not share it: they would be one layer
        self.register_buffer("matrix", matrix_FF.contiguous())  # as a file of weights needs it

    def forward(self, x: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch F"]:
        return self.activation(x) @ self.matrix


class Reshaped(nn.Module):
    """A copy of an activation, and after it a power filter that follows the spectrum of what passes during training.

    Mean and covariance of the hidden rows are averaged over batches, with `memory` as the weight of what was there, and
    W is made anew after every `every`-th one. A batch goes through the W of those *before* it: within its own, what is
    still to come in a text would reach back. Outside of training nothing changes. W is a constant of the step.
    """

    def __init__(self, activation: nn.Module, width: int, sigma: float, *, memory: float = 0.9, every: int = 5):
        super().__init__()
        check_at_least("every", every, 1)
        self.activation = copy.deepcopy(activation)
        self.sigma, self.memory, self.every = sigma, memory, every
        self.register_buffer("matrix", torch.eye(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("covariance", torch.zeros(width, width))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, x: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch F"]:
        hidden = self.activation(x)
        reshaped = hidden @ self.matrix
        if self.training:
            self._follow(hidden.detach())
        return reshaped

    @torch.no_grad()
    def _follow(self, hidden: Tensor) -> None:
        rows_NF = rearrange(hidden, "... F -> (...) F").to(self.mean)
        kept = min(self.memory, float(self.batches / (self.batches + 1)))  # the first batches weigh alike
        self.mean.lerp_(rows_NF.mean(0), 1 - kept)
        apart_NF = rows_NF - self.mean
        self.covariance.lerp_(apart_NF.mT @ apart_NF / len(rows_NF), 1 - kept)
        if self.batches % self.every == 0:
            # A new tensor: the backward pass of this step still needs the W that it went through.
            self.matrix = matrix_of(self.covariance, self.sigma).to(self.matrix).contiguous()
        self.batches += 1

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"


def inserted(model: GPT, matrices: Sequence[Float[Tensor, "F F"]], *, absorb: bool) -> GPT:
    """A copy of a model, in fp64, with a matrix after the activation of each layer; with `absorb`, the matrix behind it
    takes it back, so that the copy computes what the model does.

    Raises ValueError for another number of matrices than of layers.
    """
    if len(matrices) != len(model.blocks):
        raise ValueError(f"one matrix for each layer: the model has {len(model.blocks)}; got {len(matrices)}")
    changed = copy.deepcopy(model).double()
    for block, w_FF in zip(changed.blocks, matrices, strict=True):
        layer = block.feed_forward
        layer.activation = Then(layer.activation, w_FF.double())
        if absorb:
            layer.down.weight.data = absorbed(layer.down.weight.data, w_FF)
    return changed


def folded(model: GPT) -> GPT:
    """A copy of a model, in fp64, in which the matrix after each activation has become part of the one behind it: it
    computes the same, and its hidden rows are those of the bare activations."""
    changed = copy.deepcopy(model).double()
    for layer in (block.feed_forward for block in changed.blocks):
        if isinstance(layer.activation, Then | Reshaped):
            layer.down.weight.data = layer.down.weight.data @ layer.activation.matrix.mT
            layer.activation = layer.activation.activation
    return changed


@torch.no_grad()
def hidden_rows(model: GPT, tokens_BT: Int[Tensor, "B T"]) -> list[Float[Tensor, "N F"]]:
    """What comes out of the activation of each layer, a row for each token."""
    with record(model, f"blocks.*.{HIDDEN}") as tensors:
        model(tokens_BT)
    return [rearrange(x_BTF, "B T F -> (B T) F") for x_BTF in tensors.values()]


def hidden_ranks(model: GPT, tokens_BT: Int[Tensor, "B T"]) -> list[float]:
    """Of each layer the effective rank of its hidden rows, of their centred singular values."""
    return [float(effective_rank(singular_values(x_NF, centre=True))) for x_NF in hidden_rows(model, tokens_BT)]
