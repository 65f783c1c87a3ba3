"""Exercises of 12_spectral_filters: a filter, its axes, whose rank it lowers, which modes it grows, where that ends."""

import torch
import torch.nn.functional as F

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.spectral import effective_rank, eigenspace_alignment
from minipolycom.ssl.dynamics import INVARIANCE, growth_rates
from minipolycom.ssl.filters import Filter

# -- a filter ------------------------------------------------------------------------------------------------------


def filtered_rows(z: torch.Tensor, sigma: float) -> torch.Tensor:
    """Rows through a power filter that acts along their own axes.

    z: outputs of a branch, shape (N, D): N rows, D columns, N > D. sigma: the exponent of the gain.
    Returns z W of shape (N, D), with W = V diag(g) V^T: the columns of V are the eigenvectors of C = z^T z / N,
    l its eigenvalues, s = sqrt(l), and g = (s / rms(s))^sigma. W is a constant: gradients flow through z alone.
    """
    eigenvalues, axes = torch.linalg.eigh(z.detach().T @ z.detach() / len(z))
    s = eigenvalues.sqrt()
    gain = (s / s.square().mean().sqrt()) ** sigma
    return z @ axes @ torch.diag(gain) @ axes.T


def _rows(shape: tuple[int, int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    n, width, sigma = shape
    mixing = torch.randn(width, width, generator=generator) / width**0.5 + torch.eye(width)
    return torch.randn(n, width, generator=generator) @ mixing + 0.5, sigma


def _spectrum(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = z.detach()
    eigenvalues, axes = torch.linalg.eigh(z.T @ z / len(z))
    return eigenvalues.sqrt(), axes


def _relative(s: torch.Tensor) -> torch.Tensor:
    return s / s.square().mean().sqrt()


def _turned_there_not_back(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes * _relative(s) ** sigma


def _axes_as_rows(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes.T @ torch.diag(_relative(s) ** sigma) @ axes


def _gain_of_the_eigenvalues(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes @ torch.diag((s.square() / s.square().mean()) ** sigma) @ axes.T


def _gain_of_the_absolute_size(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes @ torch.diag(s**sigma) @ axes.T


def _relative_to_the_largest(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes @ torch.diag((s / s.max()) ** sigma) @ axes.T


def _relative_to_the_mean(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes @ torch.diag((s / s.mean()) ** sigma) @ axes.T


def _centred_first(z, sigma):
    s, axes = _spectrum(z - z.mean(dim=0))
    return z @ axes @ torch.diag(_relative(s) ** sigma) @ axes.T


def _column_by_column(z, sigma):
    return z * _relative(z.detach().square().mean(dim=0).sqrt()) ** sigma


def _gain_in_place_of_the_size(z, sigma):
    s, axes = _spectrum(z)
    return z @ axes @ torch.diag(_relative(s) ** sigma / s) @ axes.T


def _the_matrix_alone(z, sigma):
    s, axes = _spectrum(z)
    return axes @ torch.diag(_relative(s) ** sigma) @ axes.T


def _through_the_decomposition(z, sigma):
    eigenvalues, axes = torch.linalg.eigh(z.T @ z / len(z))
    return z @ axes @ torch.diag(_relative(eigenvalues.sqrt()) ** sigma) @ axes.T


def _by_singular_values(z, sigma):
    with torch.no_grad():
        _, s, rows = torch.linalg.svd(z, full_matrices=False)
    return torch.einsum("nd,kd,k,ke->ne", z, rows, _relative(s) ** sigma, rows)


# -- its axes ------------------------------------------------------------------------------------------------------


def axis_alignment(c_online: torch.Tensor, c_target: torch.Tensor) -> torch.Tensor:
    """How nearly each eigenvector of the target's matrix is an eigenvector of the online branch's too.

    c_online, c_target: correlation matrices, symmetric, shape (D, D).
    Returns shape (D,): the cosine of the angle between c_online v_i and v_i, v_i the eigenvectors of c_target, that
    of its largest eigenvalue first.
    """
    axes = torch.linalg.eigh(c_target).eigenvectors.flip(1)
    return torch.nn.functional.cosine_similarity(c_online @ axes, axes, dim=0)


def _two_correlations(width: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    first, own = torch.randn(2, 3 * width, width, generator=generator)
    second = first @ torch.randn(width, width, generator=generator) + 0.3 * own
    return tuple(x.T @ x / len(x) for x in (first, second))


def _shared_axes() -> tuple[torch.Tensor, torch.Tensor]:
    axes = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5))).Q
    return tuple(axes @ torch.diag(torch.tensor(own)) @ axes.T for own in ([1.0, 3.0, 2.0, 5.0], [4.0, 1.0, 3.0, 2.0]))


def _axes_of(c: torch.Tensor) -> torch.Tensor:
    return torch.linalg.eigh(c).eigenvectors.flip(1)


def _eigenvectors_as_rows(c_online, c_target):
    axes = _axes_of(c_target).T
    return F.cosine_similarity(c_online @ axes, axes, dim=0)


def _axes_of_the_wrong_matrix(c_online, c_target):
    return axis_alignment(c_target, c_online)


def _pairs_of_eigenvectors(c_online, c_target):
    return (_axes_of(c_online) * _axes_of(c_target)).sum(dim=0).abs()


def _without_dividing(c_online, c_target):
    return (c_online @ _axes_of(c_target) * _axes_of(c_target)).sum(dim=0)


def _by_one_product(c_online, c_target):
    axes = _axes_of(c_target)
    turned = c_online @ axes
    return (axes * turned).sum(dim=0) / turned.norm(dim=0)


# -- whose rank it lowers ------------------------------------------------------------------------------------------


def partial_sums(eigenvalues: torch.Tensor) -> torch.Tensor:
    """The share of the energy that the k largest eigenvalues hold together, for k = 1, ..., R.

    eigenvalues: positive, in any order, shape (R,). Returns shape (R,), from the largest share to 1.
    """
    sorted_shares = eigenvalues.sort(descending=True).values / eigenvalues.sum()
    return sorted_shares.cumsum(dim=0)


def _some_spectrum(n: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randn(n, generator=generator).exp(),)


def _sorted_in_place(eigenvalues):
    eigenvalues.copy_(eigenvalues.sort(descending=True).values)
    return eigenvalues.cumsum(dim=0) / eigenvalues.sum()


def _by_a_triangle(eigenvalues):
    ordered = eigenvalues.sort().values.flip(0)
    return torch.ones(len(ordered), len(ordered)).tril() @ ordered / ordered.sum()


# -- which modes it grows ------------------------------------------------------------------------------------------


def mode_growth(eigenvalues: torch.Tensor, rho: torch.Tensor, g: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The growth rate d log l_k / dt of every eigenvalue under gradient descent on the cosine loss.

    eigenvalues: l_k, rho: correlations between views, g, h: gains of the online and the target branch; shape (R,).
    Returns shape (R,): positive where the mode grows.
    """
    shared = (g * h * rho * eigenvalues).sum()
    online = (g**2 * eigenvalues).sum()
    target = (h**2 * eigenvalues).sum()
    return 2 * g / (online * target).sqrt() * (rho * h - g * shared / online)


def _modes(n: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return tuple(0.2 + torch.rand(n, generator=generator) for _ in range(4))


def _sums(eigenvalues, rho, g, h):
    return (g * h * rho * eigenvalues).sum(), (g**2 * eigenvalues).sum(), (h**2 * eigenvalues).sum()


def _rate_of_the_amplitude(eigenvalues, rho, g, h):
    return mode_growth(eigenvalues, rho, g, h) / 2


def _rate_of_the_eigenvalue_itself(eigenvalues, rho, g, h):
    return eigenvalues * mode_growth(eigenvalues, rho, g, h)


def _without_the_length(eigenvalues, rho, g, h):
    _, online, target = _sums(eigenvalues, rho, g, h)
    return 2 * g * rho * h / (online * target).sqrt()


def _without_the_stop_gradient(eigenvalues, rho, g, h):
    shared, online, target = _sums(eigenvalues, rho, g, h)
    return 2 / (online * target).sqrt() * (2 * g * h * rho - shared * (g**2 / online + h**2 / target))


def _equal_views(eigenvalues, rho, g, h):
    return mode_growth(eigenvalues, torch.ones_like(rho), g, h)


def _noise_in_the_threshold_only(eigenvalues, rho, g, h):
    shared, online, target = _sums(eigenvalues, rho, g, h)
    return 2 * g / (online * target).sqrt() * (h - g * shared / online)


def _without_the_factor_of_the_gain(eigenvalues, rho, g, h):
    return mode_growth(eigenvalues, rho, g, h) / g


def _uphill(eigenvalues, rho, g, h):
    return -mode_growth(eigenvalues, rho, g, h)


def _branches_exchanged(eigenvalues, rho, g, h):
    return mode_growth(eigenvalues, rho, h, g)


def _threshold_with_the_target_s_energy(eigenvalues, rho, g, h):
    shared, online, target = _sums(eigenvalues, rho, g, h)
    return 2 * g / (online * target).sqrt() * (rho * h - g * shared / target)


def _without_the_outer_division(eigenvalues, rho, g, h):
    shared, online, _ = _sums(eigenvalues, rho, g, h)
    return 2 * g * (rho * h - g * shared / online)


def _by_autograd(eigenvalues, rho, g, h):
    with torch.enable_grad():
        z = eigenvalues.detach().sqrt().requires_grad_()
        online, target = g * z, h * eigenvalues.detach().sqrt()
        loss = -(rho * online * target).sum() / (online.norm() * target.norm())
        (slope,) = torch.autograd.grad(loss, z)
    return -2 * slope / z.detach()


# -- where that ends -----------------------------------------------------------------------------------------------


def resting_shares(rho: torch.Tensor, sigma: float) -> torch.Tensor:
    """The shares of energy at which no mode grows or shrinks, under a power filter of the right sign.

    rho: correlations between views, shape (R,). sigma: the filter's exponent, positive for one on the online branch,
    negative for one on the target. Returns shape (R,), with the sum 1.
    """
    eigenvalues = rho ** (2 / abs(sigma))
    return eigenvalues / eigenvalues.sum()


def _invariance(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    n, sigma = shape
    return 0.2 + 0.75 * torch.rand(n, generator=generator), sigma


def _shares_of(eigenvalues: torch.Tensor) -> torch.Tensor:
    return eigenvalues / eigenvalues.sum()


def _by_logarithms(rho, sigma):
    return (2 / abs(sigma) * rho.log()).softmax(dim=0)


def _break_even(exponent: float = 2.0, of_singular_values: bool = False) -> float:
    """The strength at which the law rho^(exponent / strength) gives the rank of the spectrum 1 / k."""
    rho = torch.tensor(INVARIANCE, dtype=torch.float64)
    power = 0.5 if of_singular_values else 1.0
    start = effective_rank((1 / torch.arange(1, 17, dtype=torch.float64)) ** power)
    low, high = 0.05, 5.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if effective_rank(rho ** (power * exponent / middle)) < start else (low, middle)
    return low


# -- what a predictor learns ---------------------------------------------------------------------------------------


def best_gain(z_1: torch.Tensor, z_2: torch.Tensor) -> torch.Tensor:
    """For each mode the number that predicts the second view best from the first, by least squares.

    z_1, z_2: coordinates of two views along the modes, shape (N, R): row n of both comes from the same image.
    Returns shape (R,): the g_k with the smallest mean of (g_k z_1k - z_2k)^2.
    """
    return (z_1 * z_2).mean(dim=0) / z_1.square().mean(dim=0)


def _two_views(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    n, width = shape
    shared, first, second = torch.randn(3, n, width, generator=generator)
    size = 0.5 + torch.arange(width)
    return size * (shared + 0.6 * first) + 0.3, size * (0.8 * shared + 0.3 * second) + 0.3


def _centred_both(z_1, z_2):
    return best_gain(z_1 - z_1.mean(dim=0), z_2 - z_2.mean(dim=0))


def _by_lstsq(z_1, z_2):
    return torch.stack(
        [torch.linalg.lstsq(a[:, None], b[:, None]).solution[0, 0] for a, b in zip(z_1.T, z_2.T, strict=True)]
    )


EXERCISES = (
    Exercise(
        name="filtered_rows",
        notebook="12_spectral_filters",
        statement=r"""
            Write the filter. It finds the axes of a batch, stretches each by a gain that depends on how much of the
            batch lies along it, and turns back:

            $$C = \tfrac1N Z^\top Z = V \,\mathrm{diag}(\lambda)\, V^\top, \qquad s = \sqrt\lambda, \qquad
            g = \left(\frac{s}{\mathrm{rms}(s)}\right)^{\sigma}, \qquad
            Z \mapsto Z\, V \,\mathrm{diag}(g)\, V^\top.$$

            Dividing by $\mathrm{rms}(s) = \sqrt{\overline{s^2}}$ makes the gain independent of the scale of the
            features. The mean of the rows is *not* taken off. And the filter is a **constant of the step**: gradients
            flow through the $Z$ in front, not through $V$ and $g$.
            """,
        difficulty=3,
        importance=5,
        minutes=12,
        reference=filtered_rows,
        cases=grid(_rows, shapes=((12, 3, 1.0), (40, 5, -0.5)), word="N, D, sigma ="),
        ladder=ladder(
            Values(rtol=1e-3, atol=1e-4, because="squaring the batch in float32 costs half of its seven digits"),
            Gradients(rtol=1e-3, atol=1e-4, because="a gradient is a row of W, as exact as the values"),
        ),
        hints=(
            """
            `torch.linalg.eigh` of a symmetric matrix gives the eigenvalues and a matrix whose *columns* are the
            eigenvectors. `z @ axes` are the coordinates of the rows along them.
            """,
            """
            Multiplying the columns of `z @ axes` by `gain` stretches; `@ axes.T` afterwards turns back. Use
            `z.detach()` for everything that goes into `axes` and `gain`, and `z` itself for the rows.
            """,
        ),
        explanation=r"""
            In the coordinates $ZV$ the second moments are diagonal, so a gain per column is all there is to do, and
            $V^\top$ turns back. The new correlation matrix is $V \mathrm{diag}(g^2 \lambda) V^\top$: **other
            eigenvalues, the same axes**. With the power filter, $\lambda \mapsto \lambda^{1+\sigma}$ up to a common
            factor.

            Why constant? The derivative of an eigenvector has $1/(\lambda_i - \lambda_j)$ in it, which is infinite for
            equal eigenvalues, and the paper's code takes none. The package's `Filter` does the same in float64 and
            gives no gain to directions that hold nothing but rounding errors.
            """,
        bank=(
            WrongAnswer(
                answer=_turned_there_not_back,
                misconception="not turned back",
                says=(
                    "These are exactly the stretched coordinates along the axes, z V diag(g). The last factor, Vᵀ, "
                    "turns them back to the columns they came from."
                ),
            ),
            WrongAnswer(
                answer=_axes_as_rows,
                misconception="eigenvectors as rows",
                says=(
                    "This is exactly z Vᵀ diag(g) V. `eigh` puts the eigenvectors into the columns of V, so the "
                    "coordinates along them are z V."
                ),
            ),
            WrongAnswer(
                answer=_gain_of_the_eigenvalues,
                misconception="gain of the eigenvalue",
                says=(
                    "This is exactly the gain (λ / mean λ)^sigma, of eigenvalues. The filter takes s = √λ, so this one "
                    "is twice as strong."
                ),
            ),
            WrongAnswer(
                answer=_gain_of_the_absolute_size,
                misconception="size not relative",
                says=(
                    "This is exactly the gain s^sigma. Divide s by its root mean square first, or the result depends "
                    "on the scale of the features."
                ),
            ),
            WrongAnswer(
                answer=_relative_to_the_largest,
                misconception="relative to the largest",
                says="This is exactly the gain (s / max s)^sigma. Asked for is s relative to its root mean square.",
            ),
            WrongAnswer(
                answer=_relative_to_the_mean,
                misconception="relative to the mean",
                says=(
                    "This is exactly the gain (s / mean s)^sigma. Asked for is the root mean square, √(mean of s²), "
                    "which is larger than the mean."
                ),
            ),
            WrongAnswer(
                answer=_centred_first,
                misconception="mean taken off",
                says=(
                    "This is exactly the filter made of the covariance, with the mean row taken off. The correlation "
                    "matrix here is not centred: C = zᵀz / N."
                ),
            ),
            WrongAnswer(
                answer=_column_by_column,
                misconception="columns for axes",
                says=(
                    "This is exactly a gain for each column of z. The columns are correlated; the filter acts along "
                    "the axes of the batch, in which they are not."
                ),
            ),
            WrongAnswer(
                answer=_gain_in_place_of_the_size,
                misconception="size replaced by the gain",
                says=(
                    "This batch has exactly the singular values g where it should have g s: the gain multiplies what "
                    "is there, it does not replace it."
                ),
            ),
            WrongAnswer(
                answer=lambda z, sigma: filtered_rows(z, -sigma),
                misconception="sign of the exponent",
                says="This is exactly the filter with the exponent -sigma. Above 0 it favours the large axes.",
            ),
            WrongAnswer(
                answer=_the_matrix_alone,
                misconception="the matrix for the rows",
                says="This is exactly the matrix W = V diag(g) Vᵀ. Asked for are the filtered rows, z W.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_through_the_decomposition,
                misconception="gradient through the decomposition",
                says=(
                    "The values are right, and this gradient is exactly the one that flows through the eigenvectors "
                    "and gains too. They are constants of the step: make them from `z.detach()`."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=lambda z, sigma: filtered_rows(z.detach(), sigma),
                misconception="no gradient at all",
                says=(
                    "This is what `.detach()` or `torch.no_grad()` around the whole filter gives: nothing flows back. "
                    "Only V and g are constants; the rows z are not."
                ),
                fails="gradients",
            ),
        ),
        right=(_by_singular_values, lambda z, sigma: Filter("power", "online", sigma)(z)),
    ),
    Exercise(
        name="axis_alignment",
        notebook="12_spectral_filters",
        statement=r"""
            A filter changes eigenvalues and keeps axes. Is what happens between the branches of a trained network a
            filter? Then the axes of the target's correlation matrix have to be axes of the online branch's too. For a
            direction $v$ that is an eigenvector of $C$, $Cv$ points where $v$ does. So measure, with the $C$ of the
            online branch and every eigenvector $v_i$ of the target's matrix,

            $$a_i = \cos\angle(C v_i,\, v_i) = \frac{v_i^\top C v_i}{\lVert C v_i \rVert},
            \qquad \lVert v_i \rVert = 1,$$

            the one of the largest eigenvalue first. (According to the code of a third party, which computes it too, the
            paper reports the mean of these.)
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=axis_alignment,
        cases=grid(_two_correlations, shapes=(4, 6), word="D ="),
        ladder=ladder(
            Values(rtol=1e-3, atol=1e-4, because="eigenvectors in float32 are good to about four digits"),
            Property(
                promise="between matrices that share their axes every alignment is 1",
                cases=(Case(label="shared axes", make=_shared_axes),),
                holds=lambda results: close(torch.ones(4), results[0], rtol=0, atol=1e-4),
            ),
        ),
        hints=(
            """
            `torch.linalg.eigh(c_target).eigenvectors` has the eigenvectors in its columns, that of the smallest
            eigenvalue first: `.flip(1)` turns the order of the columns around.
            """,
            """
            `c_online @ axes` does all directions at once, a column each. With `dim=0`,
            `torch.nn.functional.cosine_similarity` compares column by column.
            """,
        ),
        explanation=r"""
            $C v_i$ has length at most 1 times the largest eigenvalue, so the division by it matters; $v_i$ has length 1
            already. Comparing eigenvector $i$ of one matrix with eigenvector $i$ of the other instead would depend on
            both being sorted alike, and a filter may change the order.
            """,
        bank=(
            WrongAnswer(
                answer=_eigenvectors_as_rows,
                misconception="eigenvectors as rows",
                says="These are exactly the cosines for the rows of V. `eigh` puts the eigenvectors into its columns.",
            ),
            WrongAnswer(
                answer=lambda c_online, c_target: axis_alignment(c_online, c_target).flip(0),
                misconception="smallest first",
                says=(
                    "These are exactly the right numbers in the opposite order. `eigh` sorts from the smallest "
                    "eigenvalue up: flip the columns."
                ),
            ),
            WrongAnswer(
                answer=_axes_of_the_wrong_matrix,
                misconception="the other matrix's axes",
                says="This is exactly the alignment of c_online's eigenvectors with c_target: the roles are exchanged.",
            ),
            WrongAnswer(
                answer=_pairs_of_eigenvectors,
                misconception="eigenvector by eigenvector",
                says=(
                    "These are exactly the cosines between the i-th eigenvectors of both matrices. They fall to 0 "
                    "when two eigenvalues change places, although the axes are shared. Compare C v with v."
                ),
            ),
            WrongAnswer(
                answer=_without_dividing,
                misconception="length not divided out",
                says="These are exactly vᵀ C v, the energy along each axis. A cosine divides by the length of C v too.",
            ),
            WrongAnswer(
                answer=lambda c_online, c_target: axis_alignment(c_online, c_target).square(),
                misconception="squared",
                says="These are exactly the squared cosines.",
            ),
            WrongAnswer(
                answer=lambda c_online, c_target: axis_alignment(c_online, c_target).mean(),
                misconception="mean for each",
                says="This is exactly the mean over the axes. Asked for is one number for each.",
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda c_online, c_target: F.cosine_similarity(
                    c_online @ _axes_of(c_target), _axes_of(c_target), dim=1
                ),
                misconception="cosines of rows",
                says="These are exactly the cosines row by row. Each eigenvector is a column: `dim=0`.",
            ),
        ),
        right=(_by_one_product, lambda c_online, c_target: eigenspace_alignment(c_online, c_target).float()),
    ),
    Exercise(
        name="partial_sums",
        notebook="12_spectral_filters",
        statement=r"""
            One number, the effective rank, can hide which of two spectra is flatter. A curve cannot: sort the
            eigenvalues from the largest, take each as a share of their sum, and add up,

            $$P_k = \frac{\lambda_{(1)} + \dots + \lambda_{(k)}}{\sum_j \lambda_j}, \qquad k = 1, \dots, R.$$

            $P_1$ is what the largest alone holds, and $P_R = 1$. A flat spectrum gives a straight line.
            """,
        difficulty=1,
        importance=4,
        minutes=6,
        reference=partial_sums,
        cases=grid(_some_spectrum, shapes=(5, 9), word="R ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="a sum of nine positive float32 numbers loses one digit at most"),
        ),
        hints=(
            "Three steps: sort from the largest, divide by the sum, add up from the left.",
            "`eigenvalues.sort(descending=True).values`, then `/ eigenvalues.sum()`, then `.cumsum(dim=0)`.",
        ),
        explanation=r"""
            If one curve is nowhere below another, its spectrum is said to **majorise** the other: it is more
            concentrated in every sense. Entropy cannot be larger for it, and so neither can the effective rank. (That
            is what *Schur-concave* says of entropy.) The converse fails: curves may cross.
            """,
        bank=(
            WrongAnswer(
                answer=lambda eigenvalues: eigenvalues.cumsum(dim=0) / eigenvalues.sum(),
                misconception="not sorted",
                says="These are exactly the sums in the order given. Sort from the largest first.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: eigenvalues.sort().values.cumsum(dim=0) / eigenvalues.sum(),
                misconception="smallest first",
                says="These are exactly the sums of the k smallest. Asked for are the k largest.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: eigenvalues.sort(descending=True).values.cumsum(dim=0),
                misconception="no shares",
                says="These are exactly the sums themselves. As shares of the whole, the last one is 1.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: eigenvalues.sort(descending=True).values / eigenvalues.sum(),
                misconception="not added up",
                says="These are exactly the sorted shares. Add them up: `cumsum`.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: eigenvalues.sort(descending=True).values.cumsum(dim=0) / eigenvalues.max(),
                misconception="divided by the largest",
                says="These are exactly the sums in units of the largest eigenvalue. Divide by the sum of all.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: partial_sums(eigenvalues.square()),
                misconception="eigenvalues squared",
                says=(
                    "These are exactly the shares of squared values. That is for singular values; eigenvalues are "
                    "energies already."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues: 1 - partial_sums(eigenvalues),
                misconception="the rest for the sum",
                says="These are exactly the shares that are left beside the k largest.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: F.pad(partial_sums(eigenvalues), (1, 0)),
                misconception="starts at k = 0",
                says="This is exactly the right curve with a 0 in front. It starts at k = 1.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_sorted_in_place,
                misconception="sorts what it was given",
                says=(
                    "The curve is right, and the caller's eigenvalues are sorted now. `sort` makes a new tensor: keep "
                    "that one."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_by_a_triangle,),
    ),
    Exercise(
        name="mode_growth",
        notebook="12_spectral_filters",
        statement=r"""
            Put the outputs in the coordinates of their axes: mode $k$ has the amplitude $z_k = \sqrt{\lambda_k}$, the
            online branch makes $g_k z_k$ of it, the target $h_k z_k$, and $\rho_k$ is its correlation between two
            views. The cosine loss is then

            $$L = -\frac{\sum_k \rho_k\, (g_k z_k)(h_k \bar z_k)}{|p|\,|t|}, \qquad |p|^2 = \sum_k g_k^2 z_k^2, \qquad
            |t|^2 = \sum_k h_k^2 \bar z_k^2,$$

            where $\bar z_k$ has the value of $z_k$ and is a constant (the stop-gradient), and so are the gains. Let
            $z$ follow $\dot z_k = -\partial L/\partial z_k$. What is the growth rate of the eigenvalue, $\frac{d}{dt}
            \log \lambda_k$? With $S = \sum_j g_j h_j \rho_j \lambda_j$ it fits on one line. Do it on paper; the loss is
            a quotient, and $|p|$ depends on $z_k$ too.
            """,
        difficulty=4,
        importance=5,
        minutes=15,
        reference=mode_growth,
        cases=grid(_modes, shapes=(3, 6), word="R ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="a difference of two float32 numbers of size 1 keeps five digits"),
        ),
        hints=(
            r"""
            $\partial |p| / \partial z_k = g_k^2 z_k / |p|$. By the quotient rule $-\partial L/\partial z_k$ has two
            terms: what the numerator gains, minus what the length costs.
            """,
            r"""
            $\dot z_k = \dfrac{g_k z_k}{|p||t|}\left(\rho_k h_k - g_k \dfrac{S}{|p|^2}\right)$. And $\frac{d}{dt} \log
            \lambda_k = \frac{d}{dt} \log z_k^2 = 2\, \dot z_k / z_k$.
            """,
        ),
        explanation=r"""
            $$\frac{d}{dt}\log\lambda_k = \frac{2 g_k}{|p|\,|t|}\left(\rho_k h_k - g_k\,\frac{S}{|p|^2}\right).$$

            The factor in front is positive. So mode $k$ grows exactly where $\rho_k h_k / g_k > S / |p|^2$: **the left
            side belongs to the mode, the right side is the same for all.** Multiply by $\lambda_k$ and add up: the sum
            is 0. A loss that does not see length moves energy from mode to mode and makes none.
            """,
        bank=(
            WrongAnswer(
                answer=_rate_of_the_amplitude,
                misconception="rate of the amplitude",
                says="This is exactly the rate of z, half of what is asked for: λ = z², so log λ = 2 log z.",
            ),
            WrongAnswer(
                answer=_rate_of_the_eigenvalue_itself,
                misconception="growth instead of growth rate",
                says="This is exactly dλ/dt. The rate d log λ / dt is that divided by λ.",
            ),
            WrongAnswer(
                answer=_without_the_length,
                misconception="length taken as a constant",
                says=(
                    "This is exactly what the numerator alone gives: every mode grows. But |p| depends on z too, and "
                    "growing costs length: that is the second term of the quotient rule."
                ),
            ),
            WrongAnswer(
                answer=_without_the_stop_gradient,
                misconception="no stop-gradient",
                says=(
                    "This is exactly the rate when gradients flow through the target too. z̄ and |t| are constants "
                    "here: only the online branch is differentiated."
                ),
            ),
            WrongAnswer(
                answer=_equal_views,
                misconception="correlation left out",
                says="This is exactly the rate for rho = 1, between equal views. rho stands in S and in the bracket.",
            ),
            WrongAnswer(
                answer=_noise_in_the_threshold_only,
                misconception="correlation in the sum only",
                says="This is exactly the rate with h in the bracket. There it is rho h: noise weakens the pull.",
            ),
            WrongAnswer(
                answer=_without_the_factor_of_the_gain,
                misconception="outer gain left out",
                says=(
                    "This is exactly the rate without the g in front of the bracket. The gradient reaches z through "
                    "p = g z, which multiplies it by g."
                ),
            ),
            WrongAnswer(
                answer=_uphill,
                misconception="sign of the descent",
                says="This is exactly minus the rate: z goes against the gradient of L, and L has a minus.",
            ),
            WrongAnswer(
                answer=_branches_exchanged,
                misconception="branches exchanged",
                says="This is exactly the rate with g and h exchanged. Gradients flow through the online branch, g.",
            ),
            WrongAnswer(
                answer=_threshold_with_the_target_s_energy,
                misconception="the target's length in the threshold",
                says=(
                    "This is exactly the rate with S / |t|² for the threshold. It comes from differentiating |p|, so "
                    "|p|² stands below S."
                ),
            ),
            WrongAnswer(
                answer=_without_the_outer_division,
                misconception="lengths left out",
                says="This is exactly the rate times |p| |t|. The cosine divides by both lengths.",
            ),
        ),
        right=(
            _by_autograd,
            lambda eigenvalues, rho, g, h: growth_rates(eigenvalues, rho, g, h),
        ),
    ),
    Exercise(
        name="resting_shares",
        notebook="12_spectral_filters",
        statement=r"""
            A mode grows where $\rho_k h_k / g_k$ is above the common threshold and shrinks where it is below. With a
            power filter of the right sign the gain depends on the eigenvalue itself, $g_k = s_k^{\sigma}$ with
            $\sigma > 0$ online (and $h = 1$), or $h_k = s_k^{\sigma}$ with $\sigma < 0$ on the target (and $g = 1$).
            When does nothing move any more? Find the eigenvalues $\lambda_k = s_k^2$ and give them as shares of
            their sum. One formula serves both branches. (Factors common to all modes do not matter: leave the RMS out.)
            """,
        difficulty=3,
        importance=5,
        minutes=8,
        reference=resting_shares,
        cases=grid(_invariance, shapes=((4, 1.0), (6, -0.5)), word="R, sigma ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-6, because="powers up to 4 of float32 numbers keep six digits"),
        ),
        hints=(
            r"""
            At rest $\rho_k h_k / g_k$ is the same for all modes. Online: $\rho_k\, s_k^{-\sigma} = \text{const}$. Solve
            for $s_k$. Then the target.
            """,
            r"""
            In both cases $s_k^{|\sigma|} \propto \rho_k$, so $s_k \propto \rho_k^{1/|\sigma|}$. And $\lambda_k =
            s_k^2$.
            """,
        ),
        explanation=r"""
            $$\lambda_k \;\propto\; \rho_k^{\,2/|\sigma|}.$$

            The filter decides how much invariance counts. For $|\sigma| \to 0$ the exponent is infinite and only the
            most invariant mode survives; for large $|\sigma|$ all are alike. It is a *rest*, too, not only a balance: a
            mode above its place has a smaller ratio $\rho_k / s_k^{|\sigma|}$ and shrinks.
            """,
        bank=(
            WrongAnswer(
                answer=lambda rho, sigma: _shares_of(rho ** (1 / abs(sigma))),
                misconception="singular values for eigenvalues",
                says="These are exactly the shares of s, rho^(1/|sigma|). Eigenvalues are their squares.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: _shares_of(rho ** (2 / sigma)),
                misconception="sign kept in the exponent",
                says=(
                    "This is exactly rho^(2/sigma). It is right online; on the target sigma is negative and it stands "
                    "the spectrum on its head."
                ),
            ),
            WrongAnswer(
                answer=lambda rho, sigma: _shares_of(rho ** (abs(sigma) / 2)),
                misconception="exponent upside down",
                says="This is exactly rho^(|sigma|/2). Solving s^|sigma| ∝ rho for s takes the root, not the power.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: _shares_of(rho ** (2 * abs(sigma))),
                misconception="power for root",
                says="This is exactly rho^(2|sigma|). Solving s^|sigma| ∝ rho for s takes the root, 1/|sigma|.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: rho ** (2 / abs(sigma)),
                misconception="no shares",
                says="This is exactly rho^(2/|sigma|). Divide by the sum, so that the shares add up to 1.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: rho ** (2 / abs(sigma)) / (rho ** (2 / abs(sigma))).max(),
                misconception="relative to the largest",
                says="This is exactly rho^(2/|sigma|) in units of its largest. Divide by the sum.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: _shares_of(rho ** (-2 / abs(sigma))),
                misconception="noisy modes favoured",
                says=(
                    "This is exactly rho^(-2/|sigma|): the noisiest mode holds the most. At rest it is s^|sigma| that "
                    "is proportional to rho."
                ),
            ),
            WrongAnswer(
                answer=lambda rho, sigma: torch.full_like(rho, 1 / len(rho)),
                misconception="all alike",
                says=(
                    "These are exactly equal shares, the rest between equal views, where every rho is 1. Noise "
                    "makes a difference."
                ),
            ),
        ),
        right=(_by_logarithms,),
    ),
    Exercise(
        name="break_even",
        notebook="12_spectral_filters",
        statement=r"""
            A right sign alone does not raise the rank. Take the spectrum that the playground starts with, $\lambda_k =
            1/k$ for $k = 1, \dots, 16$, and its sixteen correlations, `INVARIANCE`. For which strength $|\sigma|$ is
            the effective rank at rest **exactly the one at the start**? Below it the rank falls, above it rises.

            There is no formula for it; let the machine look for it. Give it to two digits.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=_break_even(),
        ladder=value_ladder(Values(rtol=0.02, atol=0.0, because="two digits are asked for")),
        imports=(
            "import torch\n\nfrom minipolycom.learn import reference\nfrom minipolycom.spectral import effective_rank\n"
            "from minipolycom.ssl.dynamics import INVARIANCE"
        ),
        solution=(
            "rho = torch.tensor(INVARIANCE, dtype=torch.float64)\n"
            "start = effective_rank(1 / torch.arange(1, 17, dtype=torch.float64))\n"
            "low, high = 0.1, 2.0  # the rank at rest grows with the strength: halve the interval\n"
            "while high - low > 1e-4:\n"
            "    middle = (low + high) / 2\n"
            '    rises = effective_rank(reference("resting_shares")(rho, middle)) > start\n'
            "    low, high = (low, middle) if rises else (middle, high)\n"
            "break_even = low"
        ),
        hints=(
            """
            `effective_rank(reference("resting_shares")(rho, strength))` is the rank at rest. It grows with the
            strength. Try 0.3 and 1 first: one is below the rank at the start, one above.
            """,
            """
            Halve the interval: at the middle of 0.3 and 1, is the rank at rest above that of `1 /
            torch.arange(1, 17)`? Keep the half in which the answer changes. A loop over
            `torch.linspace(0.3, 1, 200)` does as well.
            """,
        ),
        explanation=r"""
            About 0.56. A filter with $|\sigma| = 0.5$ on the right branch makes the target's rank larger than that of
            the online branch, from the first step on, and yet the rank *falls*, to where the law says. The filter does
            not push the rank up. It chooses the place that the spectrum goes to, and whether the way there is up or
            down depends on where it starts.
            """,
        bank=(
            WrongAnswer(
                answer=_break_even(exponent=1.0),
                misconception="singular values for eigenvalues at rest",
                says=(
                    "This is exactly what rho^(1/|sigma|) gives. That is the law of the singular values; the spectrum "
                    "1/k is one of eigenvalues, at rest rho^(2/|sigma|)."
                ),
            ),
            WrongAnswer(
                answer=_break_even(of_singular_values=True),
                misconception="rank of the singular values",
                says=(
                    "This is exactly where the effective ranks of the *singular values* are equal. Here it is that of "
                    "the eigenvalues, as everywhere in this notebook."
                ),
            ),
            WrongAnswer(
                answer=0.5,
                misconception="the round number below",
                says=(
                    "At 0.5 the effective rank at rest is 9.9, and the one at the start is 10.6. A little stronger it "
                    "has to be."
                ),
            ),
            WrongAnswer(
                answer=0.6,
                misconception="the round number above",
                says=(
                    "At 0.6 the effective rank at rest is 10.9, and the one at the start is 10.6. A little weaker it "
                    "has to be."
                ),
            ),
            WrongAnswer(
                answer=-_break_even(),
                misconception="sign given too",
                says="This is exactly minus the strength. Asked for is |sigma|, the same on both branches.",
            ),
            WrongAnswer(
                answer=1 / _break_even(),
                misconception="the exponent's inverse",
                says="This is exactly one over the strength.",
            ),
            WrongAnswer(
                answer=2 / _break_even(),
                misconception="the exponent for the strength",
                says="This is exactly the exponent of rho at the break-even, 2/|sigma|. Asked for is |sigma|.",
            ),
        ),
        right=(torch.tensor(_break_even()), round(_break_even(), 2)),
    ),
    Exercise(
        name="best_gain",
        notebook="12_spectral_filters",
        statement=r"""
            SimSiam has no filter. It has a predictor, which is trained to guess the other view. Suppose it is linear,
            and as good as a linear one can be. In the coordinates of the modes it then has a gain for each of them:

            $$g_k = \arg\min_g\; \overline{(g\, z_{1k} - z_{2k})^2},$$

            the mean over all rows, of `z_1` and `z_2` that belong together. Compute it from the samples.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=best_gain,
        cases=grid(_two_views, shapes=((20, 3), (50, 5)), word="N, R ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="means of fifty float32 products keep six digits"),
        ),
        hints=(
            r"""
            Differentiate $\overline{(g z_1 - z_2)^2}$ by $g$ and set it to 0. No mean is taken off: the line goes
            through the origin.
            """,
            r"$g \,\overline{z_1^2} = \overline{z_1 z_2}$, for each column on its own: `dim=0`.",
        ),
        explanation=r"""
            $g_k = \overline{z_1 z_2} / \overline{z_1^2}$. If both views are a shared signal plus noise of their own,
            $\overline{z_1 z_2}$ is the signal's energy and $\overline{z_1^2}$ signal plus noise, so

            $$g_k = \frac{\text{signal}_k}{\text{signal}_k + \text{noise}_k} = \rho_k.$$

            That is Wiener's filter: trust a mode as far as it is clean. Where the large modes are the clean ones, it is
            low-pass.
            """,
        bank=(
            WrongAnswer(
                answer=lambda z_1, z_2: (z_1 * z_2).mean(dim=0) / z_2.square().mean(dim=0),
                misconception="the other view's energy below",
                says="This is exactly the gain that predicts z_1 from z_2. The view that g multiplies stands below.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: F.cosine_similarity(z_1, z_2, dim=0),
                misconception="cosine for gain",
                says=(
                    "This is exactly the cosine of the columns, which divides by both lengths. It is the same only if "
                    "both views are equally large; least squares divides by z_1's energy."
                ),
            ),
            WrongAnswer(
                answer=_centred_both,
                misconception="means taken off",
                says="This is exactly the slope after taking both means off. Here the line goes through the origin.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: (z_2 / z_1).mean(dim=0),
                misconception="mean of quotients",
                says=(
                    "This is exactly the mean of z_2 / z_1. Rows with a z_1 near 0 rule that mean; least squares "
                    "weighs them by z_1²."
                ),
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: (z_2.square().mean(dim=0) / z_1.square().mean(dim=0)).sqrt(),
                misconception="quotient of sizes",
                says="This is exactly the quotient of the sizes. It does not ask whether the views agree.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: 1 - best_gain(z_1, z_2),
                misconception="the noise's share",
                says="This is exactly 1 - g, what is not to be trusted.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: (z_1 * z_2).mean(dim=0),
                misconception="not divided",
                says="This is exactly the mean of the product. Divide by the energy of z_1.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: ((z_1 * z_2).mean() / z_1.square().mean()).expand(z_1.shape[1]),
                misconception="one gain for all modes",
                says="This is exactly the best gain if all modes had to share one. Each has its own: `dim=0`.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: torch.linalg.lstsq(z_1, z_2).solution,
                misconception="a matrix for a gain per mode",
                says=(
                    "This is exactly the best matrix, which may mix modes. Asked for is one number for each mode on "
                    "its own."
                ),
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2: (z_1 * z_2).mean(dim=1) / z_1.square().mean(dim=1),
                misconception="wrong axis",
                says="This is exactly one gain for each row. Rows are images; modes are columns: `dim=0`.",
                fails="shape",
            ),
        ),
        right=(_by_lstsq,),
    ),
)
