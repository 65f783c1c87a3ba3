"""Spectral filters: the rank difference, made by hand on one branch of a network without a predictor.

    Z = U diag(s) V^T  (N Z)      W = V diag(g(s / rms(s))) V^T      Z W = U diag(s g) V^T

A filter reshapes the spectrum of a batch and leaves its directions alone. On the online branch a gain that grows with
s makes the online rank smaller than the target's, on the target branch a falling gain makes the target's larger; both
make the target the branch of higher rank, and training then raises the rank of both. The opposite signs collapse.

Source: Zhuo et al., "Towards a unified theoretical understanding of non-contrastive learning via rank differential
mechanism", ICLR 2023, arXiv 2303.02387. What differs from the authors' code: the singular values are divided by
their root mean square, so that the gain does not depend on the size of the batch or the scale of the features, and
those under a relative cutoff get no gain, where a negative power would turn rounding errors into directions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from minipolycom.checking import check_kinds, check_known

GAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "power": lambda s: s,
    "log": torch.log,
    "log1p": torch.log1p,
    "log1p_squared": lambda s: torch.log1p(s.square()),
}
"""The function f of a gain f(s)^sigma, by name."""

LOCATIONS = ("online", "target")

RELATIVE_CUTOFF = 1e-4
"""Singular values up to this fraction of the largest count as zero, or up to the resolution of a coarser dtype."""


def identity(rows: Tensor) -> Tensor:
    """The rows of this process are all there are: the `gather` of a single process."""
    return rows


@dataclass(frozen=True)
class Filter:
    """A spectral filter: what it does to singular values, and on which branch.

    g(s) = f(s / rms(s))^sigma,   f(s) = s (power), log s (log), log(1 + s) (log1p), log(1 + s^2) (log1p_squared).

    On eigenvalues of the correlation matrix, l = s^2 / N, a power filter acts as l -> l^(1 + sigma). So on the target
    sigma = -1 whitens, and sigma < -1 over-whitens: the spectrum comes out upside down and its effective rank may be
    below that of the input. Such filters are allowed, because they train and show where the theory ends.
    Logarithms are negative below the root mean square and turn these directions around, which keeps the rank low;
    log1p does not.

    Raises ValueError for unknown kinds and locations, and for a power other than 0 or 1 of the logarithm, which has no
    real value where the logarithm is negative.
    """

    kind: str
    """power, log, log1p or log1p_squared."""
    location: str
    """The branch that is filtered: online or target."""
    sigma: float
    """The exponent: above 0 large singular values are favoured, below 0 small ones, 0 changes nothing."""

    def __post_init__(self):
        check_kinds(self)
        check_known("kind of filter", self.kind, GAINS)
        check_known("location of a filter", self.location, LOCATIONS)
        if self.kind == "log" and self.sigma not in (0, 1):
            raise ValueError(
                f"a logarithm is negative for small singular values, so sigma is 0 or 1 with kind log; "
                f"got {self.sigma}: log1p takes any sigma"
            )

    def gain(self, singular_values: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch R"]:
        """The factor on each of a spectrum's singular values (positive, in any order), taken relative to their RMS."""
        relative = singular_values / singular_values.square().mean(dim=-1, keepdim=True).sqrt()
        return GAINS[self.kind](relative) ** self.sigma

    def __call__(
        self, rows_NZ: Float[Tensor, "N Z"], gather: Callable[[Tensor], Tensor] = identity
    ) -> Float[Tensor, "N Z"]:
        """The filtered rows Z W, in their dtype; gradients flow through Z alone, W is a constant of the step.

        `gather` returns the rows of all processes, whose common spectrum is the one that is filtered.
        Raises ValueError as `filter_matrix` does, and where the result leaves the range of the dtype.
        """
        matrix_ZZ = self.matrix(gather(rows_NZ.detach()))
        with torch.autocast(rows_NZ.device.type, enabled=False):
            wide = torch.promote_types(rows_NZ.dtype, torch.float32)
            filtered_NZ = (rows_NZ.to(wide) @ matrix_ZZ.to(wide)).to(rows_NZ.dtype)
        if not filtered_NZ.isfinite().all():
            raise ValueError(f"{self} leaves the range of {rows_NZ.dtype}: take a sigma nearer to 0 or a wider dtype")
        return filtered_NZ

    def on(
        self, location: str, rows_NZ: Float[Tensor, "N Z"], gather: Callable[[Tensor], Tensor] = identity
    ) -> Float[Tensor, "N Z"]:
        """The rows of a branch: filtered if it is this filter's branch, else as they are."""
        return self(rows_NZ, gather) if location == self.location else rows_NZ

    @torch.no_grad()
    def matrix(self, rows_NZ: Float[Tensor, "N Z"]) -> Float[Tensor, "Z Z"]:
        """The matrix W = V diag(g) V^T of a batch, symmetric, in fp64; zero outside the span of the rows.

        W does not change with signs of singular vectors or rotations among equal ones. Differentiating the
        decomposition would: its gradient is not defined there, hence none is taken.
        The decomposition is that of the smaller Gram matrix, Z^T Z or Z Z^T; in fp64 its eigenvalues reach far below
        the cutoff's square, so nothing is lost against a singular value decomposition, which costs several times more.

        Raises ValueError for entries that are not finite, and for a batch without rows.
        """
        if len(rows_NZ) == 0:
            raise ValueError("a filter needs a batch; got no rows")
        if not rows_NZ.isfinite().all():
            bad = int((~rows_NZ.isfinite()).any(dim=-1).sum())
            raise ValueError(f"a filter needs finite outputs; {bad} of {len(rows_NZ)} rows hold NaN or infinity")
        with torch.autocast(rows_NZ.device.type, enabled=False):
            cutoff = max(RELATIVE_CUTOFF, torch.finfo(rows_NZ.dtype).eps)
            rows = rows_NZ.double()
            rows = rows / rows.abs().max().clamp_min(torch.finfo(rows.dtype).tiny)  # so that no square overflows
            wide = rows.shape[0] < rows.shape[1]
            squares, vectors = torch.linalg.eigh(rows @ rows.mT if wide else rows.mT @ rows)
            kept = squares > cutoff**2 * squares[-1]
            squares, vectors = squares[kept], vectors[:, kept]
            if wide:  # V = Z^T U / s
                vectors = rows.mT @ vectors / squares.sqrt()
            return (vectors * self.gain(squares.sqrt())) @ vectors.mT
