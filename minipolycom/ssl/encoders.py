"""The networks of self-supervised learning: an encoder of small images, a projector, a predictor, prototypes.

    images (B C Y X)  -> encoder -> features (B D)  -> projector -> projections (B Z)  -> predictor or prototypes

Losses act on projections or on what follows them; features are what is kept and probed.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minipolycom.checking import check_kinds, check_known


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shape of the networks. Raises ValueError, when it is made, for a shape that cannot work."""

    encoder: str = "conv"
    """conv takes images of any size from 4x4 on; mlp takes images of one size."""
    channels: int = 1
    """Channels of an image (C)."""
    size: int = 8
    """Rows and columns of an image (Y = X); the mlp is made for it, the conv encoder does not depend on it."""
    width: int = 16
    """Channels after the first convolution. Features (D) are 16 times as many."""
    projector_width: int = 256
    """Hidden units of the projector's two hidden layers."""
    projection: int = 64
    """Width of the projector's output (Z)."""
    predictor_width: int = 16
    """Hidden units of the predictor: a bottleneck in SimSiam and BYOL."""

    def __post_init__(self):
        check_kinds(self)
        check_known("encoder", self.encoder, ENCODERS)
        for name in ("channels", "size", "width", "projector_width", "projection", "predictor_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} counts something: it is at least 1; got {getattr(self, name)}")

    @property
    def features(self) -> int:
        """Width of the encoder's output (D)."""
        return 16 * self.width


class ConvEncoder(nn.Module):
    """Three 3x3 convolutions (strides 1, 2, 2; width, 2 width, 4 width channels), averaged over a 2x2 grid.

    Batch normalisation and ReLU follow each, as they do each hidden layer of the other networks.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        layers, before = [], config.channels
        for factor, stride in ((1, 1), (2, 2), (4, 2)):
            after = factor * config.width
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward(self, images_BCYX: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D"]:
        return self.layers(images_BCYX)


class MLPEncoder(nn.Module):
    """Two hidden layers over the pixels, each as wide as the features."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.pixels = (config.channels, config.size, config.size)
        self.layers = _mlp([math.prod(self.pixels), config.features, config.features])

    def forward(self, images_BCYX: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D"]:
        if images_BCYX.shape[1:] != self.pixels:
            raise ValueError(
                f"this mlp was made for images of {self.pixels} (channels, rows, columns); got "
                f'{tuple(images_BCYX.shape[1:])}: set channels and size, or take encoder="conv" for small crops'
            )
        return self.layers(images_BCYX.flatten(1))


ENCODERS: dict[str, Callable[[NetworkConfig], nn.Module]] = {"conv": ConvEncoder, "mlp": MLPEncoder}
"""Each encoder by its name; a call with a configuration makes the module."""


class Projector(nn.Module):
    """From features (D) to projections (Z) through two hidden layers.

    With `final_norm` a batch normalisation without scale and shift comes last, as in SimSiam: every output then has
    variance 1 over the batch, so the branch cannot become constant; it can still lose all dimensions but one.
    """

    def __init__(self, config: NetworkConfig, final_norm: bool = False):
        super().__init__()
        self.layers = _mlp([config.features, config.projector_width, config.projector_width])
        self.layers.append(nn.Linear(config.projector_width, config.projection, bias=not final_norm))
        if final_norm:
            self.layers.append(nn.BatchNorm1d(config.projection, affine=False))

    def forward(self, features_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B Z"]:
        return self.layers(features_BD)


class Predictor(nn.Module):
    """From the online projections to a guess at the target's, through one hidden layer."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.layers = _mlp([config.projection, config.predictor_width])
        self.layers.append(nn.Linear(config.predictor_width, config.projection))

    def forward(self, projected_BZ: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        return self.layers(projected_BZ)


def linear_predictor(config: NetworkConfig) -> nn.Module:
    """A predictor that is one matrix, without bias: the case that the theory in `dynamics` speaks of."""
    return nn.Linear(config.projection, config.projection, bias=False)


def no_predictor(config: NetworkConfig) -> nn.Module:
    """The identity in the place of a predictor."""
    return nn.Identity()


PREDICTORS: dict[str, Callable[[NetworkConfig], nn.Module]] = {
    "mlp": Predictor,
    "linear": linear_predictor,
    "none": no_predictor,
}
"""Each predictor by its name; a call with a configuration makes the module."""


class Prototypes(nn.Module):
    """Cosines of projections with learned prototypes, one prototype per row of `weight` (prototypes Z)."""

    def __init__(self, config: NetworkConfig, n_prototypes: int):
        super().__init__()
        if n_prototypes < 2:
            raise ValueError(f"with fewer than 2 prototypes every image has the same code; got {n_prototypes}")
        self.weight = nn.Parameter(torch.randn(n_prototypes, config.projection))

    def forward(self, projected_BZ: Float[Tensor, "B Z"]) -> Float[Tensor, "B K"]:
        return F.linear(F.normalize(projected_BZ, dim=-1), F.normalize(self.weight, dim=-1))


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy of the module whose parameters take no gradient: the start of a momentum network."""
    return copy.deepcopy(module).requires_grad_(False)


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Linear(before, after, bias=False),
            nn.BatchNorm1d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
