"""The arithmetic of self-supervised methods: losses, codes and momentum, as functions of projections.

Letters: N pairs of views, Z width of a projection, K prototypes. A loss is computed in fp32 or better, also under
autocast, and is a mean over pairs. Where the authors' code does something else than their formula, the docstring says.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def full_precision(function: Callable) -> Callable:
    """Let a function compute without autocast, its half-precision arguments widened to fp32."""

    def widen(value: object) -> object:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(torch.promote_types(value.dtype, torch.float32))
        return value

    @functools.wraps(function)
    def wide(first: Tensor, *rest, **settings):
        with torch.autocast(first.device.type, enabled=False):
            return function(widen(first), *map(widen, rest), **settings)

    return wide


# Pulling two views together -------------------------------------------------------------------------------------------


@full_precision
def cosine_loss(online_NZ: Float[Tensor, "N Z"], target_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, ""]:
    """SimSiam's loss, the negative cosine of matching rows.

    L = -mean_n p_n . z_n / (|p_n| |z_n|)

    Whether gradients flow into the target is the caller's choice: SimSiam detaches it.
    Source: Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, arXiv 2011.10566, eq. 1.
    """
    return -F.cosine_similarity(online_NZ, target_NZ, dim=-1).mean()


def byol_loss(online_NZ: Float[Tensor, "N Z"], target_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, ""]:
    """BYOL's loss, the squared distance of matching rows of length one.

    L = mean_n | p_n / |p_n| - z_n / |z_n| |^2 = 2 - 2 mean_n cos(p_n, z_n)

    Source: Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv 2006.07733, eq. 2.
    """
    return 2 + 2 * cosine_loss(online_NZ, target_NZ)


@full_precision
def centred_alignment_loss(first_NZ: Float[Tensor, "N Z"], second_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, ""]:
    """The loss of SymSimSiam, alignment of rows of length one after their mean is taken away.

    L = -mean_n (f_n - m) . (f'_n - m),   f = z / |z|,   m the mean of f over both views.

    A constant output has loss 0, the largest for views in perfect agreement, so complete collapse does not pay;
    a single dimension can reach the least loss, -1, so dimensional collapse does.
    Source: the symmetric baseline of arXiv 2303.02387, with the mean taken over the batch.
    """
    first_NZ, second_NZ = F.normalize(first_NZ, dim=-1), F.normalize(second_NZ, dim=-1)
    mean_Z = (first_NZ.mean(dim=0) + second_NZ.mean(dim=0)) / 2
    return -((first_NZ - mean_Z) * (second_NZ - mean_Z)).sum(dim=-1).mean()


# Pushing different images, or different dimensions, apart -------------------------------------------------------------


@full_precision
def contrastive_loss(
    first_NZ: Float[Tensor, "N Z"], second_NZ: Float[Tensor, "N Z"], temperature: float = 0.5
) -> Float[Tensor, ""]:
    """SimCLR's loss (NT-Xent): to find a view's partner among all other views of the batch, by its cosine.

    L = -mean_i log( exp(c_{i,j(i)} / T) / sum_{k != i} exp(c_{ik} / T) ),   i, k over all 2 N views, j(i) i's partner.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020,
    arXiv 2002.05709, eq. 1.
    """
    n = len(first_NZ)
    views = F.normalize(torch.cat([first_NZ, second_NZ]), dim=-1)
    cosines = (views @ views.mT / temperature).fill_diagonal_(-math.inf)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(cosines, partner)


@full_precision
def barlow_twins_loss(
    first_NZ: Float[Tensor, "N Z"], second_NZ: Float[Tensor, "N Z"], redundancy_weight: float = 5e-3, eps: float = 1e-5
) -> Float[Tensor, ""]:
    """Barlow Twins' loss: the cross-correlation of the two views should be the identity.

    L = sum_i (1 - C_ii)^2 + w sum_{i != j} C_ij^2,   C_ij = mean_n u_ni u'_nj
    u = (z - mean) / sqrt(var + eps), column by column

    Variances are divided by N, as in batch normalisation, so a constant column gives zeros and no NaN.
    Source: Zbontar et al., "Barlow Twins", ICML 2021, arXiv 2103.03230, eq. 1 and 2.
    """
    first_NZ, second_NZ = _standardised(first_NZ, eps), _standardised(second_NZ, eps)
    correlation_ZZ = first_NZ.mT @ second_NZ / len(first_NZ)
    diagonal_Z = correlation_ZZ.diagonal()
    off_diagonal = correlation_ZZ.square().sum() - diagonal_Z.square().sum()
    return (1 - diagonal_Z).square().sum() + redundancy_weight * off_diagonal


@full_precision
def vicreg_loss(
    first_NZ: Float[Tensor, "N Z"],
    second_NZ: Float[Tensor, "N Z"],
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    eps: float = 1e-4,
) -> Float[Tensor, ""]:
    """VICReg's loss: views agree (invariance), columns vary (variance), columns are uncorrelated (covariance).

    L = a mean_n |z_n - z'_n|^2 / Z + b (v(z) + v(z')) / 2 + c (k(z) + k(z'))
    v(z) = mean_i max(0, 1 - sqrt(var_i + eps)),   k(z) = sum_{i != j} cov_ij^2 / Z,   var and cov divided by N - 1.

    The factors 1 / Z in the first term and 1 / 2 in the second are those of the authors' code, not of the paper.
    Raises ValueError for a single pair, which has no variance.
    Source: Bardes et al., "VICReg", ICLR 2022, arXiv 2105.04906, eq. 1 to 6.
    """
    if len(first_NZ) < 2:
        raise ValueError(f"a variance needs at least 2 pairs of views; got {len(first_NZ)}")
    invariance = F.mse_loss(first_NZ, second_NZ)
    variance = covariance = 0.0
    for views_NZ in (first_NZ, second_NZ):
        centred_NZ = views_NZ - views_NZ.mean(dim=0)
        covariance_ZZ = centred_NZ.mT @ centred_NZ / (len(centred_NZ) - 1)
        variances_Z = covariance_ZZ.diagonal()
        variance += torch.relu(1 - (variances_Z + eps).sqrt()).mean() / 2
        covariance += (covariance_ZZ.square().sum() - variances_Z.square().sum()) / views_NZ.shape[1]
    return invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance


# Codes over prototypes ------------------------------------------------------------------------------------------------


@full_precision
def code_cross_entropy(
    codes_NK: Float[Tensor, "N K"], scores_NK: Float[Tensor, "N K"], temperature: float
) -> Float[Tensor, ""]:
    """How badly a view's scores predict the code of another view of the same image.

    L = -mean_n sum_k q_nk log softmax(s_n / T)_k

    Source: SwAV (arXiv 2006.09882, eq. 2) and DINO (arXiv 2104.14294, eq. 2).
    """
    return -(codes_NK * F.log_softmax(scores_NK / temperature, dim=-1)).sum(dim=-1).mean()


def multi_crop_loss(
    codes: Sequence[Float[Tensor, "N K"]], scores: Sequence[Float[Tensor, "N K"]], temperature: float
) -> Float[Tensor, ""]:
    """The mean cross-entropy over all pairs of a code and the scores of a *different* view.

    Codes come from the first views alone, the large ones; scores from all. Source: as `code_cross_entropy`.
    """
    return torch.stack(
        [
            code_cross_entropy(code, score, temperature)
            for i, code in enumerate(codes)
            for j, score in enumerate(scores)
            if i != j
        ]
    ).mean()


@torch.no_grad()
@full_precision
def sinkhorn(scores_NK: Float[Tensor, "N K"], temperature: float = 0.05, iterations: int = 3) -> Float[Tensor, "N K"]:
    """SwAV's codes: soft assignments in which every prototype gets the same mass (Sinkhorn and Knopp's algorithm).

    Q = exp(s / T), then in turns   Q_nk <- Q_nk / sum_n Q_nk   (prototypes share alike)
                                    Q_nk <- Q_nk / sum_k Q_nk   (rows sum to 1, as they do at the end)

    Without an iteration rows alone are divided: softmax(s / T), which shares nothing out. Carried out on logarithms,
    so that no exponential overflows.
    Source: Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", NeurIPS 2020,
    arXiv 2006.09882, section 3.1 and its appendix's listing.
    """
    logarithms = scores_NK / temperature
    for _ in range(iterations):
        logarithms = F.log_softmax(logarithms, dim=0)
        logarithms = F.log_softmax(logarithms, dim=1)
    return logarithms.exp() if iterations else F.softmax(logarithms, dim=1)


@torch.no_grad()
@full_precision
def centred_codes(
    scores_NK: Float[Tensor, "N K"], centre_K: Float[Tensor, " K"], temperature: float = 0.04
) -> Float[Tensor, "N K"]:
    """DINO's codes: centring, which spreads mass over prototypes, then sharpening, which makes each code decide.

    q_n = softmax((s_n - c) / T)

    Source: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021, arXiv 2104.14294.
    """
    return F.softmax((scores_NK - centre_K) / temperature, dim=-1)


@torch.no_grad()
def moved_centre(
    centre_K: Float[Tensor, " K"], scores_NK: Float[Tensor, "N K"], momentum: float
) -> Float[Tensor, " K"]:
    """DINO's centre after a batch: c <- m c + (1 - m) mean_n s_n (arXiv 2104.14294, eq. 4)."""
    return momentum * centre_K + (1 - momentum) * scores_NK.to(centre_K.dtype).mean(dim=0)


# Momentum networks ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def move_towards(momentum_network: nn.Module, network: nn.Module, momentum: float) -> None:
    """One step of a momentum network: each parameter w <- m w + (1 - m) w_online, in place.

    Running statistics of normalisations are not touched: the momentum network gathers its own.
    Source: He et al., "Momentum contrast", arXiv 1911.05722, eq. 2; in BYOL and DINO as well.
    """
    for slow, fast in zip(momentum_network.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)


def momentum_at(progress: float, start: float) -> float:
    """BYOL's momentum at a fraction of the training: 1 - (1 - start) (1 + cos(pi progress)) / 2, rising to 1.

    Raises ValueError for a fraction outside [0, 1]. Source: arXiv 2006.07733, section 3.2.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is the part of the training that is done, from 0 to 1; got {progress}")
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


def _standardised(x_NZ: Tensor, eps: float) -> Tensor:
    variance_Z, mean_Z = torch.var_mean(x_NZ, dim=0, correction=0)
    return (x_NZ - mean_Z) * torch.rsqrt(variance_Z + eps)
