"""Measures: what a batch of outputs says about rank, and whether a training is collapsing.

Outputs are taken as the loss sees them, rows normalised to length one, second moments not centred: C = E[x x^T].
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from minipolycom.spectral import (
    correlation,
    correlation_eigenvalues,
    effective_rank,
    eigenspace_alignment,
    random_alignment,
)
from minipolycom.ssl.methods import Outputs

ENERGY = 0.9
"""Alignment is averaged over the leading directions that hold this share of the target's energy: below, it is noise."""

COMPLETE_STD = 0.2
"""Feature std times sqrt(d) under which all outputs point the same way."""
DIMENSIONAL_RANK = 3.0
"""Effective rank of the projections under which they use hardly any of their dimensions."""

COLLAPSES = {
    "complete": "complete collapse: every image is sent to almost the same point",
    "dimensional": "dimensional collapse: images differ, but in hardly any direction",
}


@torch.no_grad()
def rank_row(outputs: Outputs) -> dict[str, float | str]:
    """The ranks of one batch as a row.

    erank_online, erank_target, erank_projected: effective ranks of the correlation matrices' eigenvalues;
    rank_difference: target minus online; feature_std: see there, of the projections;
    alignment: mean cos(C_online v, v) over leading eigenvectors v of C_target; alignment_random: the same of random v;
    collapse: "", "complete" or "dimensional".
    """
    online, target, projected = (
        correlation_eigenvalues(rows, normalise=True, centre=False)
        for rows in (outputs.online_NZ, outputs.target_NZ, outputs.projected_NZ)
    )
    eranks = {
        name: float(effective_rank(spectrum))
        for name, spectrum in (("online", online), ("target", target), ("projected", projected))
    }
    c_online, c_target = (correlation(rows, normalise=True, centre=False) for rows in _branches(outputs))
    leading = int((target.cumsum(0) < ENERGY * target.sum()).sum()) + 1
    row = {
        "erank_online": eranks["online"],
        "erank_target": eranks["target"],
        "erank_projected": eranks["projected"],
        "rank_difference": eranks["target"] - eranks["online"],
        "feature_std": float(feature_std(outputs.projected_NZ)),
        "alignment": float(eigenspace_alignment(c_online, c_target)[:leading].mean()),
        "alignment_random": float(random_alignment(c_online)),
    }
    return row | {"collapse": collapse_seen(row["feature_std"], row["erank_projected"])}


@torch.no_grad()
def spectrum_row(outputs: Outputs) -> dict[str, list[float]]:
    """The spectra of one batch as a row: eigenvalues of online, target and projections, and the filter between them."""
    named = zip(("online", "target"), _branches(outputs), strict=True)
    spectra = {
        name: correlation_eigenvalues(rows, normalise=True, centre=False).tolist()
        for name, rows in (*named, ("projected", outputs.projected_NZ))
    }
    return spectra | {"gain": filter_curve(*_branches(outputs)).tolist()}


@torch.no_grad()
def filter_curve(online_NZ: Float[Tensor, "N Z"], target_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, " R"]:
    """The empirical spectral filter from target to online outputs, along the target's directions, the largest first.

    gain_k = sqrt( v_k^T C_online v_k / v_k^T C_target v_k ), divided by the first,  v_k eigenvectors of C_target

    It falls with k where the online branch favours the large directions: then its rank is the smaller one. Only the
    directions above the resolution of the target's spectrum have a gain, so R may be less than Z.
    """
    c_online, c_target = (correlation(rows, normalise=True, centre=False) for rows in (online_NZ, target_NZ))
    eigenvalues, vectors = torch.linalg.eigh(c_target)
    kept = eigenvalues > 1e-6 * eigenvalues[-1]
    eigenvalues, vectors = eigenvalues[kept].flip(0), vectors[:, kept].flip(1)
    energy = torch.einsum("zr,zy,yr->r", vectors, c_online, vectors).clamp(min=0)
    gain = (energy / eigenvalues).sqrt()
    return gain / gain[:1].clamp(min=torch.finfo(gain.dtype).tiny)


def feature_std(rows_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, ""]:
    """The mean standard deviation of normalised outputs, times sqrt(Z): 0 where all are the same, 1 where they are
    spread evenly. It does not see dimensional collapse. Source: Chen and He, CVPR 2021, figure 2."""
    unit_NZ = F.normalize(rows_NZ.float(), dim=1)
    return unit_NZ.std(dim=0, correction=0).mean() * unit_NZ.shape[1] ** 0.5


def collapse_seen(feature_std: float, erank_projected: float) -> str:
    """ "complete", "dimensional", or "" where neither is to be seen."""
    if feature_std < COMPLETE_STD:
        return "complete"
    if erank_projected < DIMENSIONAL_RANK:
        return "dimensional"
    return ""


def _branches(outputs: Outputs) -> tuple[Tensor, Tensor]:
    return outputs.online_NZ, outputs.target_NZ
