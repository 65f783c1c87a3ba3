"""Self-supervised methods: which branch sees what, and where gradients stop. One class each, all of one signature.

    method = METHODS["rdm_simsiam_target"](NetworkConfig())    a recipe by name; keywords replace its settings
    outputs = method(views)                                    a list of (B C Y X), two views of the same images
    outputs.loss.backward(); optimizer.step()
    method.after_step(progress)                                where a momentum network is: BYOL, DINO, RDMBYOL

Every method takes two views and treats them alike; SwAV and DINO take any number of smaller crops after these two.
Each has `encoder` and `projector`, and an attribute `gather`, a function from the rows of one process to the rows of
all in the order of their rank, through which gradients flow: with it, what is computed from a batch (a spectrum, codes,
a centre, a correlation) is computed from the batch of all processes. `processes.train_as_one` sets it.

Classes share functions and no base class: what a method does stands in its `forward`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, distributed, nn

from minipolycom.checking import check_known
from minipolycom.ssl.encoders import (
    ENCODERS,
    PREDICTORS,
    NetworkConfig,
    Projector,
    Prototypes,
    frozen_copy,
)
from minipolycom.ssl.filters import Filter, identity
from minipolycom.ssl.losses import (
    barlow_twins_loss,
    byol_loss,
    centred_alignment_loss,
    centred_codes,
    contrastive_loss,
    cosine_loss,
    momentum_at,
    move_towards,
    moved_centre,
    multi_crop_loss,
    sinkhorn,
    vicreg_loss,
)

Views = Sequence[Float[Tensor, "B C _ _"]]


@dataclass(frozen=True)
class Outputs:
    """What a method makes of a batch. All but the loss are detached, for measuring.

    N = 2 B rows: the images of the first view, then of the second. A row of `target_NZ` is what the same row of
    `online_NZ` is pulled towards, so it comes from the other view.
    """

    loss: Float[Tensor, ""]
    """The loss, with gradient."""
    online_NZ: Float[Tensor, "N Z"]
    """The online branch as the loss sees it: predictions, filtered projections, or probabilities of prototypes."""
    target_NZ: Float[Tensor, "N Z"]
    """The target branch as the loss sees it: projections, filtered projections, or codes over prototypes."""
    projected_NZ: Float[Tensor, "N _"]
    """The online projector's output."""
    features_ND: Float[Tensor, "N D"]
    """The online encoder's output."""


# Two branches pulled together -----------------------------------------------------------------------------------------


class SymSimSiam(nn.Module):
    """The symmetric baseline: centred outputs of both views pulled together, gradients through both.

    Keeps clear of complete collapse, not of dimensional collapse. Source: arXiv 2303.02387.
    """

    def __init__(self, config: NetworkConfig, final_norm: bool = True):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config, final_norm)
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        loss = centred_alignment_loss(self.gather(z[0]), self.gather(z[1]))
        return _outputs(loss, z, z, z, h)


class SimSiam(nn.Module):
    """A predictor on one branch, no gradient through the other, the same network on both.

    L = D(p_1, sg(z_2)) / 2 + D(p_2, sg(z_1)) / 2,   p = predictor(z),   D the negative cosine, sg: no gradient.

    The predictor is mlp, linear or none; without it, or without `stop_gradient`, this is a control that collapses.
    With `final_norm` off a collapse is complete, with it dimensional.
    Source: Chen and He, CVPR 2021, arXiv 2011.10566.
    """

    def __init__(
        self, config: NetworkConfig, predictor: str = "mlp", stop_gradient: bool = True, final_norm: bool = True
    ):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config, final_norm)
        self.predictor = _predictor(predictor, config)
        self.stop_gradient = stop_gradient
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        p = [self.predictor(x) for x in z]
        t = [x.detach() for x in z] if self.stop_gradient else z
        loss = (cosine_loss(p[0], t[1]) + cosine_loss(p[1], t[0])) / 2
        return _outputs(loss, p, t, z, h)


class BYOL(nn.Module):
    """A predictor on the online network, a slowly moving average of that network as target.

    L = |p_1 - z'_2|^2 + |p_2 - z'_1|^2,   p = predictor(z), z' of the momentum network, rows of length one.

    Source: Grill et al., NeurIPS 2020, arXiv 2006.07733.
    """

    def __init__(self, config: NetworkConfig, predictor: str = "mlp", momentum: float = 0.99):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.predictor = _predictor(predictor, config)
        self.momentum_encoder = frozen_copy(self.encoder)
        self.momentum_projector = frozen_copy(self.projector)
        self.momentum = momentum
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        p = [self.predictor(x) for x in z]
        with torch.no_grad():
            t = [self.momentum_projector(self.momentum_encoder(view)) for view in views]
        loss = byol_loss(p[0], t[1]) + byol_loss(p[1], t[0])
        return _outputs(loss, p, t, z, h)

    def after_step(self, progress: float) -> None:
        """Move the momentum network towards the online one; `progress` is the part of the training that is done."""
        momentum = momentum_at(progress, self.momentum)
        move_towards(self.momentum_encoder, self.encoder, momentum)
        move_towards(self.momentum_projector, self.projector, momentum)


# The rank difference made by a filter ---------------------------------------------------------------------------------


class RDMSimSiam(nn.Module):
    """SimSiam with a spectral filter on one branch in the place of the predictor.

    L = D(p_1, sg(t_2)) / 2 + D(p_2, sg(t_1)) / 2,   p = z W (filter online) or z,   t = z W (filter on the target) or z

    Source: Zhuo et al., ICLR 2023, arXiv 2303.02387.
    """

    def __init__(self, config: NetworkConfig, filter: Filter, final_norm: bool = True):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config, final_norm)
        self.filter = filter
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        p = [self.filter.on("online", x, self.gather) for x in z]
        t = [self.filter.on("target", x.detach(), self.gather) for x in z]
        loss = (cosine_loss(p[0], t[1]) + cosine_loss(p[1], t[0])) / 2
        return _outputs(loss, p, t, z, h)


class RDMBYOL(nn.Module):
    """BYOL with a spectral filter on one branch in the place of the predictor.

    L = |p_1 - t_2|^2 + |p_2 - t_1|^2, rows of length one; p from the online network, t from the momentum network,
    one of them filtered.

    Source: Zhuo et al., ICLR 2023, arXiv 2303.02387.
    """

    def __init__(self, config: NetworkConfig, filter: Filter, momentum: float = 0.99):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.momentum_encoder = frozen_copy(self.encoder)
        self.momentum_projector = frozen_copy(self.projector)
        self.filter = filter
        self.momentum = momentum
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        p = [self.filter.on("online", x, self.gather) for x in z]
        with torch.no_grad():
            t = [self.momentum_projector(self.momentum_encoder(view)) for view in views]
            t = [self.filter.on("target", x, self.gather) for x in t]
        loss = byol_loss(p[0], t[1]) + byol_loss(p[1], t[0])
        return _outputs(loss, p, t, z, h)

    def after_step(self, progress: float) -> None:
        """Move the momentum network towards the online one; `progress` is the part of the training that is done."""
        momentum = momentum_at(progress, self.momentum)
        move_towards(self.momentum_encoder, self.encoder, momentum)
        move_towards(self.momentum_projector, self.projector, momentum)


# Codes over prototypes ------------------------------------------------------------------------------------------------


class SwAV(nn.Module):
    """Each view predicts the code of the others; codes share the prototypes out equally among the batch.

    L = mean over i in the first two views, j != i, of  H( sinkhorn(s_i), softmax(s_j / T) ),   s = cos(z, prototypes)

    Takes more than two views: the rest, small crops, predict and are not predicted. Prototypes have length one where
    they are used, instead of being shortened after each step. With no iteration of Sinkhorn's algorithm a code is
    softmax(s_i / T'), and this is a control that collapses.
    Source: Caron et al., NeurIPS 2020, arXiv 2006.09882.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_prototypes: int = 64,
        temperature: float = 0.1,
        code_temperature: float = 0.05,
        iterations: int = 3,
    ):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.prototypes = Prototypes(config, n_prototypes)
        self.temperature, self.code_temperature, self.iterations = temperature, code_temperature, iterations
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views, crops=True)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        s = [self.prototypes(x) for x in z]
        share_out = partial(sinkhorn, temperature=self.code_temperature, iterations=self.iterations)
        codes = [_own(share_out(self.gather(x.detach())), x) for x in s[:2]]
        loss = multi_crop_loss(codes, s, self.temperature)
        return _outputs(loss, [_probabilities(x, self.temperature) for x in s], codes, z, h)


class DINO(nn.Module):
    """Each view predicts the codes that a momentum network gives the others, centred and sharpened.

    L = mean over i in the first two views, j != i, of  H( softmax((s'_i - c) / T'), softmax(s_j / T) )

    s = cos(z, prototypes), s' the same of the momentum network, c a moving average of s'. With a centre_momentum of 1
    the centre stays at zero, with code_temperature = temperature nothing is sharpened: either control collapses.
    Takes more than two views: the rest, small crops, predict and are not predicted.
    Source: Caron et al., ICCV 2021, arXiv 2104.14294.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_prototypes: int = 64,
        temperature: float = 0.1,
        code_temperature: float = 0.04,
        centre_momentum: float = 0.9,
        momentum: float = 0.99,
    ):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.prototypes = Prototypes(config, n_prototypes)
        self.momentum_encoder = frozen_copy(self.encoder)
        self.momentum_projector = frozen_copy(self.projector)
        self.momentum_prototypes = frozen_copy(self.prototypes)
        self.register_buffer("centre_K", torch.zeros(n_prototypes))
        self.temperature, self.code_temperature = temperature, code_temperature
        self.centre_momentum, self.momentum = centre_momentum, momentum
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views, crops=True)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        s = [self.prototypes(x) for x in z]
        with torch.no_grad():
            t = [self.momentum_projector(self.momentum_encoder(view)) for view in views[:2]]
            t = [self.momentum_prototypes(x) for x in t]
        codes = [centred_codes(x, self.centre_K, temperature=self.code_temperature) for x in t]
        loss = multi_crop_loss(codes, s, self.temperature)
        if self.training:
            self.centre_K = moved_centre(self.centre_K, self.gather(torch.cat(t)), self.centre_momentum)
        return _outputs(loss, [_probabilities(x, self.temperature) for x in s], codes, z, h)

    def after_step(self, progress: float) -> None:
        """Move the momentum network towards the online one; `progress` is the part of the training that is done."""
        momentum = momentum_at(progress, self.momentum)
        move_towards(self.momentum_encoder, self.encoder, momentum)
        move_towards(self.momentum_projector, self.projector, momentum)
        move_towards(self.momentum_prototypes, self.prototypes, momentum)


# Contrast: other images, or other dimensions, pushed away -------------------------------------------------------------


class SimCLR(nn.Module):
    """Both views pulled together, all other images of the batch pushed away.

    Its branches are alike, so their ranks do not differ: it keeps its rank by other means.
    Source: Chen et al., ICML 2020, arXiv 2002.05709.
    """

    def __init__(self, config: NetworkConfig, temperature: float = 0.5):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.temperature = temperature
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        loss = contrastive_loss(self.gather(z[0]), self.gather(z[1]), temperature=self.temperature)
        return _outputs(loss, z, z, z, h)


class BarlowTwins(nn.Module):
    """Columns of both views correlated with themselves and with no other. Its branches are alike, as SimCLR's.

    Source: Zbontar et al., ICML 2021, arXiv 2103.03230.
    """

    def __init__(self, config: NetworkConfig, redundancy_weight: float = 5e-3):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.redundancy_weight = redundancy_weight
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        loss = barlow_twins_loss(self.gather(z[0]), self.gather(z[1]), redundancy_weight=self.redundancy_weight)
        return _outputs(loss, z, z, z, h)


class VICReg(nn.Module):
    """Both views pulled together, columns kept varying and uncorrelated. Its branches are alike, as SimCLR's.

    Source: Bardes et al., ICLR 2022, arXiv 2105.04906.
    """

    def __init__(
        self,
        config: NetworkConfig,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
    ):
        super().__init__()
        self.encoder = _encoder(config)
        self.projector = Projector(config)
        self.weights = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
        }
        self.gather = identity

    def forward(self, views: Views) -> Outputs:
        _check_views(views)
        h = [self.encoder(view) for view in views]
        z = [self.projector(x) for x in h]
        loss = vicreg_loss(self.gather(z[0]), self.gather(z[1]), **self.weights)
        return _outputs(loss, z, z, z, h)


CONTROLS: dict[str, Callable[..., nn.Module]] = {
    "no_stop_gradient": partial(SimSiam, stop_gradient=False),
    "no_predictor": partial(SimSiam, predictor="none"),
    "no_asymmetry": partial(SimSiam, predictor="none", stop_gradient=False),
    "byol_no_predictor": partial(BYOL, predictor="none"),
    "wrong_filter_online": partial(RDMSimSiam, filter=Filter("power", "online", -0.5)),
    "wrong_filter_target": partial(RDMSimSiam, filter=Filter("power", "target", 1.0)),
}
"""What should collapse, by name: something is left out, or a filter has the wrong sign."""

METHODS: dict[str, Callable[..., nn.Module]] = {
    "symsimsiam": SymSimSiam,
    "simsiam": SimSiam,
    "simsiam_linear": partial(SimSiam, predictor="linear"),
    "byol": BYOL,
    "swav": SwAV,
    "dino": DINO,
    "rdm_simsiam_online": partial(RDMSimSiam, filter=Filter("power", "online", 1.0)),
    "rdm_simsiam_target": partial(RDMSimSiam, filter=Filter("power", "target", -0.5)),
    "rdm_byol_online": partial(RDMBYOL, filter=Filter("power", "online", 1.0)),
    "rdm_byol_target": partial(RDMBYOL, filter=Filter("power", "target", -0.5)),
    "simclr": SimCLR,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    **CONTROLS,
}
"""Each recipe by its name, the controls included. A call with a NetworkConfig makes the module; keywords replace the
recipe's settings: METHODS["rdm_simsiam_online"](config, filter=Filter("log1p", "online", 1.0))."""


def _encoder(config: NetworkConfig) -> nn.Module:
    return ENCODERS[config.encoder](config)


def _predictor(name: str, config: NetworkConfig) -> nn.Module:
    check_known("predictor", name, PREDICTORS)
    return PREDICTORS[name](config)


def _own(gathered: Tensor, rows: Tensor) -> Tensor:
    """This process's part of what was computed from the rows of all: processes stand in the order of their rank."""
    first = distributed.get_rank() * len(rows) if len(gathered) > len(rows) and distributed.is_initialized() else 0
    return gathered[first : first + len(rows)]


@torch.no_grad()
def _probabilities(scores_BK: Tensor, temperature: float) -> Tensor:
    return F.softmax(scores_BK.float() / temperature, dim=-1)


def _check_views(views: Views, crops: bool = False) -> None:
    if len(views) < 2 or (len(views) > 2 and not crops):
        rule = "two views, then any number of small crops" if crops else "two views: SwAV and DINO take more"
        raise ValueError(f"this method compares {rule}; got {len(views)}")
    sizes = [len(view) for view in views]
    if len(set(sizes)) > 1 or sizes[0] < 2:
        raise ValueError(f"views are of the same images, at least 2 of them; got views of {sizes} images")
    for view in views:
        if not view.isfinite().all():
            bad = int((~view.flatten(1).isfinite()).any(dim=1).sum())
            raise ValueError(f"images hold finite numbers; {bad} of {len(view)} hold NaN or infinity")


def _outputs(
    loss: Tensor, online: Sequence[Tensor], target: Sequence[Tensor], projected: Sequence[Tensor], features: list
) -> Outputs:
    """Rows of the first two views one after the other, those of the target from the view opposite."""
    if not loss.isfinite():
        raise ValueError("the loss of finite images is not finite: training has diverged; lower the learning rate")
    return Outputs(
        loss,
        torch.cat(list(online[:2])).detach(),
        torch.cat([target[1], target[0]]).detach(),
        torch.cat(list(projected[:2])).detach(),
        torch.cat(list(features[:2])).detach(),
    )
