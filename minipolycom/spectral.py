"""Spectra, and the numbers made of them: how many dimensions a matrix really uses, and whose directions they are.

Every measure here starts from a spectrum, the singular values s_1 >= s_2 >= ... of a matrix of N rows and D columns,
or the eigenvalues s^2 / N of its correlation matrix. The field calls several different numbers "the effective rank".
For s_i = 1 / i with D = 64, a matrix that uses some of all its directions:

    effective_rank(s)         29.1    entropy of the singular values: PolyCom's rank of weights, RankMe
    effective_rank(s**2)      4.67    entropy of the eigenvalues: RDM's rank of features, `erank_correlation`
    participation_ratio(s)    2.45    one over the sum of squares of the eigenvalues' shares
    stable_rank(s)            1.63    energy of all directions in units of the first one's
    decay_exponent(s, ...)    1.00    slope of ln s against ln i; 2.00 for s**2

The first four are 1 for a matrix of rank one and R for R equal singular values. In between they are exponentials of
entropies, each of which weighs small directions less than the one above, so that their order is the same for every
matrix: state which one a plot shows. Whether the mean was taken off first (`centre`), whether rows were set
to length one (`normalise`) and what was added to the shares (`eps`) stands in each call, as results depend on it.

Everything is computed in fp64, on any device and from any dtype, after division by the largest entry: neither scale nor
dtype can overflow it. Singular values of entries in fp32 or narrower come from the smaller Gram matrix, exact to
sqrt(2^-52 max(N, D)) of the largest one, which is where the rounding of such entries already stands; those of fp64
entries, and all that a gradient is asked of, come from the decomposition itself. What lies below rounding is zero, so
a constant matrix that has been centred has the spectrum 0 and the rank 0.

Functions of a matrix raise ValueError for one without rows or columns, or with an entry that is NaN or infinite;
functions of a spectrum also for a negative value. Unless it says otherwise, a function is differentiable.

Letters: N samples (rows), D columns, R singular values, L layers.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from minipolycom.checking import check_kind, check_seed
from minipolycom.model import GPT

ROUNDING = torch.finfo(torch.float64).eps

# ---------------------------------------------------------------------------------------------------------------------
# From a matrix to a spectrum
# ---------------------------------------------------------------------------------------------------------------------


def singular_values(x_ND: Float[Tensor, "*batch N D"], *, centre: bool) -> Float[Tensor, "*batch R"]:
    """The singular values of a matrix, or of each of a stack of them, largest first; R = min(N, D).

    With `centre` the mean row is taken off first, as for a covariance.
    """
    x_ND = _matrix(x_ND)
    return _singular_values(x_ND.double(), centre, by_gram=_gram_is_exact(x_ND))


def _singular_values(x_ND: Tensor, centre: bool, by_gram: bool) -> Tensor:
    scale = _nonzero(x_ND.detach().abs().amax((-2, -1), keepdim=True))
    x_ND = x_ND / scale
    if centre:
        x_ND = x_ND - x_ND.mean(-2, keepdim=True)
    noise = ROUNDING * max(x_ND.shape[-2:])
    if by_gram:
        tall = x_ND if x_ND.shape[-2] >= x_ND.shape[-1] else x_ND.mT
        s_R = torch.linalg.eigvalsh(tall.mT @ tall).flip(-1).clamp(min=0).sqrt()
        floor = (math.sqrt(noise) * s_R[..., :1]).clamp(min=4 * noise)
    else:
        s_R = torch.linalg.svdvals(x_ND)
        floor = 4 * noise  # the mean's rounding error and the decomposition's; the largest entry is 1 here
    return torch.where(s_R > floor, s_R, 0) * scale[..., 0]


def _gram_is_exact(x: Tensor) -> bool:
    """Whether entries are so coarse that squaring them in fp64 loses nothing; a root of 0 would spoil a gradient."""
    return x.dtype != torch.float64 and not (x.requires_grad and torch.is_grad_enabled())


def correlation(x_ND: Float[Tensor, "N D"], *, normalise: bool, centre: bool) -> Float[Tensor, "D D"]:
    """The correlation matrix C = E[x x^T] = X^T X / N of rows x, RDM's name for the matrix of second moments.

    With `normalise` each row is divided by its length, as by losses of cosines (a row of zeros stays); with `centre`
    the mean row is then taken off.
    """
    x_ND = _rows(x_ND, normalise)
    if centre:
        x_ND = x_ND - x_ND.mean(0)
    return x_ND.mT @ x_ND / len(x_ND)


def correlation_eigenvalues(x_ND: Float[Tensor, "N D"], *, normalise: bool, centre: bool) -> Float[Tensor, " R"]:
    """The R = min(N, D) largest eigenvalues of the correlation matrix, s^2 / N, largest first; the others are 0."""
    s_R = _singular_values(_rows(x_ND, normalise), centre, by_gram=_gram_is_exact(x_ND))
    return s_R.square() / len(x_ND)


# ---------------------------------------------------------------------------------------------------------------------
# From a spectrum to a number
# ---------------------------------------------------------------------------------------------------------------------


def effective_rank(spectrum_R: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch"]:
    """The number of equal values that would have the entropy of these: exp(-sum_i p_i ln p_i), p = spectrum / its sum.

    From 1 to the number of values that are not zero, and 0 where all are. The spectrum may be of singular values or of
    eigenvalues, which give different numbers. Zeros are taken as constants by the gradient, whose limit there is
    infinite. Source: Roy and Vetterli, "The effective rank", 2007, for singular values.
    """
    p_R = _shares(spectrum_R)
    entropy = torch.special.entr(torch.where(p_R > 0, p_R, 1)).sum(-1)
    return torch.where((p_R > 0).any(-1), entropy.exp(), 0)


def stable_rank(s_R: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch"]:
    """The energy of all directions in units of the largest one's: sum_i s_i^2 / s_1^2, of singular values.

    From 1 to the rank, and 0 for a spectrum of zeros; the exponential of the eigenvalues' entropy of infinite order.
    Source: Rudelson and Vershynin, "Sampling from large matrices", 2007.
    """
    energy_R = _over_largest(s_R).square()
    return energy_R.sum(-1) / _nonzero(energy_R.amax(-1))  # which is 1, but not to the gradient


def participation_ratio(s_R: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch"]:
    """One over the sum of the squared shares of energy: (sum_i s_i^2)^2 / sum_i s_i^4, of singular values.

    From 1 to the rank, and 0 for a spectrum of zeros; the exponential of the eigenvalues' Rényi entropy of order 2,
    as `effective_rank(s**2)` is of order 1.
    Source: Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", 2017.
    """
    energy_R = _over_largest(s_R).square()
    return energy_R.sum(-1).square() / _nonzero(energy_R.square().sum(-1))


def decay_exponent(spectrum_R: Float[Tensor, "*batch R"], *, first: int, last: int) -> Float[Tensor, "*batch"]:
    """The exponent a of a power law i^-a, fitted by least squares of ln spectrum_i on ln i for first <= i <= last.

    Indices count from 1, at the largest value. Of the eigenvalues of a covariance matrix this is alpha-ReQ; of its
    singular values, half of that. The result depends on the range, which is why it has no default.

    Raises ValueError for a range of fewer than two indices, one outside of the spectrum, or one with a zero in it.
    Source: Agrawal et al., "alpha-ReQ: assessing representation quality by measuring eigenspectrum decay", 2022.
    """
    over_R = _over_largest(spectrum_R).sort(-1, descending=True).values
    for name, value in (("first", first), ("last", last)):
        check_kind(name, value, int)
    if not 1 <= first < last <= over_R.shape[-1]:
        raise ValueError(
            f"the fit goes over at least two of the {over_R.shape[-1]} values, counted from 1; "
            f"got first={first}, last={last}"
        )
    over = over_R[..., first - 1 : last]
    if (over == 0).any():
        raise ValueError(f"a power law has no zeros: the values {first} to {last} hold one; choose a smaller last")
    position = torch.arange(first, last + 1, dtype=over.dtype, device=over.device).log()
    position = position - position.mean()
    return -(over.log() * position).sum(-1) / position.square().sum()


# ---------------------------------------------------------------------------------------------------------------------
# Two published recipes for features
# ---------------------------------------------------------------------------------------------------------------------


def erank_correlation(x_ND: Float[Tensor, "N D"], *, normalise: bool, centre: bool = False) -> Float[Tensor, ""]:
    """RDM's effective rank of features: that of the eigenvalues of their correlation matrix, which is not centred.

    Source: Zhuo et al., arXiv 2303.02387; that it takes eigenvalues is said by Huang et al., "LDReg", 2024. Whether
    rows are normalised first is left open there; the losses do it.
    """
    return effective_rank(correlation_eigenvalues(x_ND, normalise=normalise, centre=centre))


def rankme(x_ND: Float[Tensor, "N D"], eps: float) -> Float[Tensor, ""]:
    """RankMe of features: exp(-sum_i p_i ln p_i) with p_i = s_i / sum_j s_j + eps, of the singular values, not centred.

    The authors take eps = 1e-7 in fp32. A matrix of zeros has p_i = eps, and so a RankMe of about 1.

    Raises ValueError for an eps that is not positive.
    Source: Garrido et al., "RankMe: assessing the downstream performance of pretrained self-supervised
    representations by their rank", 2023.
    """
    check_kind("eps", eps, float)
    if eps <= 0:
        raise ValueError(f"eps is positive, as 1e-7 is; got {eps}: without one, take effective_rank")
    return torch.special.entr(_shares(singular_values(x_ND, centre=False)) + eps).sum().exp()


# ---------------------------------------------------------------------------------------------------------------------
# Two matrices, two layers
# ---------------------------------------------------------------------------------------------------------------------


def eigenspace_alignment(c_DD: Float[Tensor, "D D"], reference_DD: Float[Tensor, "D D"]) -> Float[Tensor, " D"]:
    """How nearly each eigenvector of a reference is one of C too: cos(C v_i, v_i), largest eigenvalue first.

    1 where v_i is an eigenvector of C with a positive eigenvalue, 0 where C v_i = 0. A positive semi-definite C turns
    no direction by more than 90 degrees, so that any direction scores above 0: compare with `random_alignment`. The
    v_i of equal eigenvalues are arbitrary within their space. Differentiable in C only.

    Raises ValueError for matrices that are not symmetric or not of the same size.
    Source: Zhuo et al., arXiv 2303.02387, who average it.
    """
    c_DD, reference_DD = _symmetric(c_DD), _symmetric(reference_DD)
    if c_DD.shape != reference_DD.shape:
        raise ValueError(
            f"alignment compares matrices of one size; got {tuple(c_DD.shape)} and {tuple(reference_DD.shape)}"
        )
    v_DD = torch.linalg.eigh(reference_DD.detach()).eigenvectors.flip(1)
    return _cosine(v_DD.mT @ c_DD, v_DD.mT)


def random_alignment(c_DD: Float[Tensor, "D D"], n_directions: int = 1000, seed: int = 0) -> Float[Tensor, ""]:
    """The baseline of `eigenspace_alignment`: the mean of cos(C v, v) over random directions v.

    Near sqrt(participation ratio of C / D) where many directions count: one with a flat spectrum is aligned with all.

    Raises ValueError for a matrix that is not symmetric and for fewer than one direction.
    """
    c_DD = _symmetric(c_DD)
    check_kind("n_directions", n_directions, int)
    if n_directions < 1:
        raise ValueError(f"n_directions is at least 1; got {n_directions}")
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    v_ND = torch.randn(n_directions, len(c_DD), dtype=torch.float64, generator=generator).to(c_DD.device)
    return _cosine(v_ND @ c_DD, v_ND).mean()


class Similarity(NamedTuple):
    """What `layer_similarity` gives: two symmetric matrices, a row and a column for each layer."""

    cosine: Float[Tensor, "L L"]
    cka: Float[Tensor, "L L"]


def layer_similarity(hidden: Sequence[Float[Tensor, "N D"]]) -> Similarity:
    """How alike the hidden states of layers are, for the same N tokens in each.

        cosine_lm = mean over tokens n of cos(x_ln, x_mn)
        cka_lm    = |Y_l^T Y_m|^2 / (|Y_l^T Y_l| |Y_m^T Y_m|),   Y = X without its mean row, Frobenius norms

    Cosine asks whether the numbers are the same, CKA whether they are up to rotation, shift and scale. Both are 1 on
    the diagonal, 0 where a layer does not vary or is zero.

    Raises ValueError for no layers, and for layers of different shapes.
    Sources: the figure of PolyCom, arXiv 2411.03884, for cosine; Kornblith et al., "Similarity of neural network
    representations revisited", 2019, for CKA.
    """
    shapes = [tuple(x_ND.shape) for x_ND in hidden]
    if len(set(shapes)) != 1:
        raise ValueError(f"layers are compared on the same tokens and width: one shape; got {shapes}")
    directions = [_rows(x_ND, normalise=True) for x_ND in hidden]
    varying = [_varying(x_ND) for x_ND in hidden]
    L = len(hidden)
    cosine_LL, overlap_LL = (torch.zeros(L, L, dtype=torch.float64, device=hidden[0].device) for _ in range(2))
    for i in range(L):
        for j in range(i + 1):
            cosine_LL[i, j] = cosine_LL[j, i] = (directions[i] * directions[j]).sum(1).mean()
            overlap_LL[i, j] = overlap_LL[j, i] = (varying[i].mT @ varying[j]).square().sum()
    own_L = overlap_LL.diagonal().sqrt()
    return Similarity(cosine_LL, overlap_LL / _nonzero(own_L[:, None] * own_L))


# ---------------------------------------------------------------------------------------------------------------------
# The matrices of a model, and a check of the measures
# ---------------------------------------------------------------------------------------------------------------------


def spectrum_row(s_R: Float[Tensor, " R"]) -> dict:
    """Three measures of singular values as a row: effective_rank, stable_rank, participation_ratio."""
    measures = (effective_rank, stable_rank, participation_ratio)
    return {measure.__name__: measure(s_R).item() for measure in measures}


@torch.no_grad()
def weight_spectra(model: GPT) -> list[dict]:
    """Rows {layer, expert, tensor, effective_rank, stable_rank, participation_ratio, singular_values} of the weights.

    One for each matrix ("up", "gate", "down") of each feed-forward, and of each expert; expert is -1 for a dense or
    shared one. Not centred; the effective rank is that of the singular values, as in PolyCom's figure of ranks.
    """
    rows = []
    for layer, expert, tensor, weight in feed_forward_matrices(model):
        s_R = singular_values(weight, centre=False)
        labels = {"layer": layer, "expert": expert, "tensor": tensor}
        rows.append({**labels, **spectrum_row(s_R), "singular_values": s_R.tolist()})
    return rows


def feed_forward_matrices(model: GPT) -> Iterator[tuple[int, int, str, Tensor]]:
    """Layer, expert (-1: dense or shared), name and value of each matrix of the feed-forwards."""
    for layer, block in enumerate(model.blocks):
        for name, weight in block.feed_forward.named_parameters():
            part = name.removeprefix("shared.").removesuffix(".weight")
            if part not in ("up", "gate", "down"):
                continue
            if weight.ndim == 2:
                yield layer, -1, part, weight
            else:
                yield from ((layer, expert, part, matrix) for expert, matrix in enumerate(weight))


def known_rank_table(
    ranks: Iterable[int], noise: float, seed: int, n_samples: int = 1024, width: int = 64
) -> list[dict]:
    """What each measure says of data whose rank is known: rows {rank, noise, and an estimate by each measure}.

        x = V z + noise g,   z standard normal with `rank` entries, V orthonormal columns, g standard normal

    So `rank` directions have the standard deviation sqrt(1 + noise^2) and the other width - rank have `noise`. Columns:
    effective_rank, stable_rank and participation_ratio of the centred singular values, and erank_correlation (rows
    normalised) and rankme (eps 1e-7) of the data.

    Raises ValueError for a rank outside 1..min(n_samples, width) and for a negative noise.
    """
    check_kind("noise", noise, float)
    if noise < 0:
        raise ValueError(f"noise is a standard deviation, not negative; got {noise}")
    check_seed(seed)
    rows = []
    for rank in ranks:
        check_kind("rank", rank, int)
        if not 1 <= rank <= min(n_samples, width):
            raise ValueError(f"a rank lies between 1 and min(n_samples, width) = {min(n_samples, width)}; got {rank}")
        generator = torch.Generator().manual_seed(seed)
        z_NR, g_ND, basis_DR = (
            torch.randn(*shape, dtype=torch.float64, generator=generator)
            for shape in ((n_samples, rank), (n_samples, width), (width, rank))
        )
        x_ND = z_NR @ torch.linalg.qr(basis_DR).Q.mT + noise * g_ND
        rows.append(
            {
                "rank": rank,
                "noise": noise,
                **spectrum_row(singular_values(x_ND, centre=True)),
                "erank_correlation": float(erank_correlation(x_ND, normalise=True)),
                "rankme": float(rankme(x_ND, eps=1e-7)),
            }
        )
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# What goes in
# ---------------------------------------------------------------------------------------------------------------------


def _matrix(x: Tensor) -> Tensor:
    if x.ndim < 2 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(f"a matrix has rows, columns and real entries; got {x.dtype} of the shape {tuple(x.shape)}")
    return _finite("a matrix", x)


def _finite(what: str, x: Tensor) -> Tensor:
    if not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise ValueError(f"{what} of finite numbers has a spectrum; {bad} of {x.numel()} entries are NaN or infinite")
    return x


def _symmetric(c_DD: Tensor) -> Tensor:
    c_DD = _matrix(c_DD).double()
    largest = c_DD.detach().abs().max()
    if c_DD.ndim != 2 or c_DD.shape[0] != c_DD.shape[1] or (c_DD - c_DD.mT).abs().max() > 1e-4 * largest:
        raise ValueError(
            f"eigenspaces are compared of symmetric matrices; got a matrix of the shape {tuple(c_DD.shape)} that is "
            "not: make one with correlation()"
        )
    return (c_DD + c_DD.mT) / 2 / _nonzero(largest)


def _over_largest(spectrum_R: Tensor) -> Tensor:
    """A spectrum in units of its largest value, a constant to the gradient, in fp64; zeros if that is zero."""
    if spectrum_R.ndim < 1 or spectrum_R.numel() == 0 or not spectrum_R.is_floating_point():
        raise ValueError(
            f"a spectrum is at least one real number; got {spectrum_R.dtype} of the shape {tuple(spectrum_R.shape)}"
        )
    spectrum_R = _finite("a spectrum", spectrum_R).double()
    largest = spectrum_R.detach().amax(-1, keepdim=True)
    if (spectrum_R < -1e-5 * largest.abs()).any():
        raise ValueError(
            f"a spectrum is of singular values, or of eigenvalues that are not negative; its least is "
            f"{float(spectrum_R.min()):.3g}, its largest {float(spectrum_R.max()):.3g}"
        )
    return spectrum_R.clamp(min=0) / _nonzero(largest)  # an eigenvalue 0 may be computed as a little less


def _shares(spectrum_R: Tensor) -> Tensor:
    over_R = _over_largest(spectrum_R)
    return over_R / _nonzero(over_R.sum(-1, keepdim=True))


def _rows(x_ND: Tensor, normalise: bool) -> Tensor:
    """Rows in fp64, of length one if `normalise`, but for rows of zeros."""
    x_ND = _matrix(x_ND).double()
    if not normalise:
        return x_ND
    x_ND = x_ND / _nonzero(x_ND.detach().abs().amax(-1, keepdim=True))
    return x_ND / _nonzero(x_ND.square().sum(-1, keepdim=True)).sqrt()


def _varying(x_ND: Tensor) -> Tensor:
    """What is left of rows without their mean, in fp64 and at a scale that its square does not leave; 0 if rounding."""
    x_ND = _matrix(x_ND).double()
    x_ND = x_ND / _nonzero(x_ND.detach().abs().max())
    y_ND = x_ND - x_ND.mean(0)
    largest = y_ND.detach().abs().max()
    return y_ND / largest if largest > 4 * ROUNDING * len(x_ND) else torch.zeros_like(y_ND)


def _cosine(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    return (_rows(a_ND, normalise=True) * _rows(b_ND, normalise=True)).sum(-1)


def _nonzero(x: Tensor) -> Tensor:
    """A divisor: 1 in place of 0, where what is divided is 0 too."""
    return torch.where(x > 0, x, 1)
