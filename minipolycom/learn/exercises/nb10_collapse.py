"""Exercises of 10_collapse: aligning positive pairs alone, and the numbers that do or do not see what it destroys."""

import math

import torch
import torch.nn.functional as F

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid

# -- alignment_loss ---------------------------------------------------------------------------------------------------


def alignment_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Minus the mean cosine of the outputs for two views of the same images.

    first, second: shape (N, Z), row n of each for a view of image n. Returns one number, shape (): -1 where the two
    outputs of every image point the same way.
    """
    first = first / first.norm(dim=1, keepdim=True)
    second = second / second.norm(dim=1, keepdim=True)
    return -(first * second).sum(dim=1).mean()


def _two_views(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    first = torch.randn(shape, generator=generator)
    second = first + 0.7 * torch.randn(shape, generator=generator)
    sizes = 0.5 + 2 * torch.rand(2, shape[0], 1, generator=generator)  # rows of other lengths in each view
    return first * sizes[0], second * sizes[1]


def _unit(rows, dim=1):
    return rows / rows.norm(dim=dim, keepdim=True)


def _aligned_in_place(first, second):
    first /= first.norm(dim=1, keepdim=True)
    return -(first * _unit(second)).sum(dim=1).mean()


def _by_distance(first, second):
    return (_unit(first) - _unit(second)).square().sum(dim=1).mean() / 2 - 1


# -- surviving_modes --------------------------------------------------------------------------------------------------


def surviving_modes(eigenvalues: torch.Tensor, rho: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What gradient flow on the squared distance of two views has made of each mode's eigenvalue at time t.

    eigenvalues: l_k = w_k^2 at time 0, shape (R,); rho: correlation of mode k between two views, shape (R,); t: time,
    shape (). Returns the eigenvalues at time t, shape (R,).
    """
    return eigenvalues * torch.exp(-4 * (1 - rho) * t)


def _modes(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    eigenvalues, rho = 0.3 + torch.rand(n, generator=generator), torch.rand(n, generator=generator)
    return eigenvalues, rho, 0.2 + 0.5 * torch.rand((), generator=generator)


def _shrunk_in_place(eigenvalues, rho, t):
    return eigenvalues.mul_(torch.exp(-4 * (1 - rho) * t))


def _weights_squared(eigenvalues, rho, t):
    weights = eigenvalues.sqrt() * torch.exp(-2 * (1 - rho) * t)
    return weights * weights


def _as_a_power(eigenvalues, rho, t):
    return eigenvalues * math.e ** (4 * t * (rho - 1))


# -- rank_by_hand and effective_rank ----------------------------------------------------------------------------------


def effective_rank(eigenvalues: torch.Tensor) -> torch.Tensor:
    """The number of equal eigenvalues that would have the entropy of these: exp(-sum_k p_k ln p_k).

    eigenvalues: shape (R,), none negative, some perhaps 0; p_k is the share of eigenvalue k in their sum. Returns one
    number, shape ().
    """
    p = eigenvalues / eigenvalues.sum()
    p = p[p > 0]  # 0 ln 0 counts as 0: a direction without energy does not count
    return torch.exp(-(p * torch.log(p)).sum())


def _spectrum(n: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (3 * torch.rand(n, generator=generator) ** 3 + 0.01,)


def _with_entr(eigenvalues):
    return torch.special.entr(eigenvalues / eigenvalues.sum()).sum().exp()


def _as_a_product(eigenvalues):
    p = eigenvalues / eigenvalues.sum()
    return (p**-p).prod()


def _in_bits(eigenvalues):
    p = eigenvalues / eigenvalues.sum()
    return 2 ** -(p * p.clamp_min(1e-30).log2()).sum()


def _entropy(p):
    return torch.special.entr(p).sum()


def _shares(values):
    return values / values.sum()


def _nan_at_zero(eigenvalues):
    p = _shares(eigenvalues)
    return torch.exp(-(p * torch.log(p)).sum())


def _divided_in_place(eigenvalues):
    eigenvalues /= eigenvalues.sum()
    return _entropy(eigenvalues).exp()


# -- feature_std ------------------------------------------------------------------------------------------------------


def feature_std(outputs: torch.Tensor) -> torch.Tensor:
    """The mean over columns of the standard deviation of outputs of length one, times sqrt(Z).

    outputs: shape (N, Z), one row for each image; each row is divided by its length first. The standard deviation is
    taken over the N images and divides by N. Returns one number, shape ().
    """
    unit = outputs / outputs.norm(dim=1, keepdim=True)
    return unit.std(dim=0, correction=0).mean() * outputs.shape[1] ** 0.5


def _outputs(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    sizes = 0.2 + 3 * torch.rand(shape[0], 1, generator=generator)
    spread = 0.1 + torch.rand(shape[1], generator=generator)  # columns that vary by different amounts
    return (sizes * (1 + spread * torch.randn(shape, generator=generator)),)


def _by_moments(outputs):
    unit = F.normalize(outputs, dim=1)
    variance = unit.square().mean(dim=0) - unit.mean(dim=0).square()
    return math.sqrt(outputs.shape[1]) * variance.sqrt().mean()


def _spread_of_lengthened(outputs):
    return F.normalize(outputs, dim=1).mul(outputs.shape[1] ** 0.5).std(dim=0, correction=0).mean()


def _unit_in_place(outputs):
    outputs /= outputs.norm(dim=1, keepdim=True)
    return outputs.std(dim=0, correction=0).mean() * outputs.shape[1] ** 0.5


EXERCISES = (
    Exercise(
        name="alignment_loss",
        notebook="10_collapse",
        statement=r"""
            Two views of each of $N$ images have gone through the network. Row $n$ of `first` and row $n$ of `second`
            belong to the same image: they are a **positive pair**. Write the loss that pulls them together and asks
            for nothing else,

            $$L = -\frac1N \sum_n \frac{z_n \cdot z'_n}{|z_n|\,|z'_n|}.$$

            It sees directions alone: how long an output is makes no difference.
            """,
        difficulty=1,
        importance=5,
        minutes=8,
        reference=alignment_loss,
        cases=grid(_two_views, shapes=((5, 3), (4, 7)), word="shape (images, outputs)"),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="a mean of a few cosines in float32 is right to six digits"),
            Gradients(rtol=1e-4, atol=1e-5, because="dividing by lengths costs a digit more on the way back"),
        ),
        hints=(
            """
            First make every row of both inputs a row of length one. `norm(dim=1, keepdim=True)` gives the lengths as
            a column, so that rows can be divided by them.
            """,
            """
            The cosine of two rows of length one is the sum of their products: `(first * second).sum(dim=1)`. That is
            one number per image; the loss is minus their mean.
            """,
        ),
        explanation="""
            Lengths run over the outputs of one image, `dim=1`; `keepdim=True` keeps them a column. The same in one
            line: `-torch.nn.functional.cosine_similarity(first, second, dim=1).mean()`, which is what SimSiam uses.

            Nothing in it compares an image with *another* image. Keep that in mind.
            """,
        bank=(
            WrongAnswer(
                answer=lambda first, second: -(first * second).sum(dim=1).mean(),
                misconception="rows not divided by their lengths",
                says=(
                    "This is exactly minus the mean of the products z · z'. A cosine divides each by the lengths of "
                    "its two rows; without that, the loss falls without end as outputs grow."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: -(_unit(first, 0) * _unit(second, 0)).sum(dim=0).mean(),
                misconception="columns for rows",
                says=(
                    "This is exactly minus the mean cosine of matching columns. An image is a row: lengths and sums "
                    "run over `dim=1`."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: -(first * second).sum() / (first.norm() * second.norm()),
                misconception="one cosine of everything",
                says=(
                    "This is exactly the cosine of the two whole matrices, laid out as one long vector each. Every "
                    "image has a cosine of its own; the loss is their mean."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: -(_unit(first) @ _unit(second).T).mean(),
                misconception="every image with every other",
                says=(
                    "This is exactly the mean over all N x N cosines. A positive pair is row n of one view with row n "
                    "of the other; the other pairs are of different images."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: -(_unit(first) * _unit(second)).sum(dim=1).sum(),
                misconception="sum for mean",
                says="This is exactly N times the loss: the sum over images. The mean does not depend on the batch.",
            ),
            WrongAnswer(
                answer=lambda first, second: -(_unit(first) * _unit(second)).mean(),
                misconception="mean over outputs",
                says=(
                    "This is exactly the loss divided by Z: `.mean()` runs over the outputs too. A cosine is the sum "
                    "over outputs; only images are averaged."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: (_unit(first) * _unit(second)).sum(dim=1).mean(),
                misconception="agreement for loss",
                says="This is exactly the mean cosine. A loss is made small, so agreement enters with a minus.",
            ),
            WrongAnswer(
                answer=lambda first, second: 1 - (_unit(first) * _unit(second)).sum(dim=1).mean(),
                misconception="one minus the cosine",
                says=(
                    "This is exactly 1 minus the mean cosine. It has the same gradient; asked for is the loss whose "
                    "least value is -1."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: (_unit(first) - _unit(second)).square().sum(dim=1).mean(),
                misconception="squared distance",
                says=(
                    "This is exactly the squared distance of rows of length one, 2 - 2 cos, which is BYOL's loss. It "
                    "pulls the same way; asked for is minus the cosine."
                ),
            ),
            WrongAnswer(
                answer=lambda first, second: -(_unit(first) * _unit(second)).sum(dim=1),
                misconception="one loss per image",
                says="These are exactly minus the cosines, image by image. The loss is their mean, one number.",
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda first, second: alignment_loss(first, second.detach()),
                misconception="second view detached",
                says=(
                    "This is exactly what a stop-gradient on the second view gives. It comes later in this notebook; "
                    "here both views move."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=_aligned_in_place,
                misconception="divided in place",
                says=(
                    "The loss is right, and the caller's outputs now have length one, as `/=` leaves them. "
                    "`first = first / ...` makes a new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(
            lambda first, second: -F.cosine_similarity(first, second, dim=1).mean(),
            lambda first, second: -torch.einsum("nz,nz->n", _unit(first), _unit(second)).mean(),
            _by_distance,
        ),
    ),
    Exercise(
        name="surviving_modes",
        notebook="10_collapse",
        statement=r"""
            The simplest encoder there is: one weight per mode, $z_k = w_k x_k$. Each $x_k$ has variance 1, and between
            two views the correlation $\rho_k = E\,x_k x'_k$. Its outputs are uncorrelated, so the eigenvalues of their
            covariance are their variances, $l_k = w_k^2$. Pull two views together by half their squared distance,

            $$L = \tfrac12 E\,|z - z'|^2 = \tfrac12 \sum_k w_k^2\, E (x_k - x'_k)^2,$$

            and let every weight run downhill, $\dfrac{dw_k}{dt} = -\dfrac{\partial L}{\partial w_k}$. What has become
            of $l_k$ at time $t$?
            """,
        difficulty=3,
        importance=5,
        minutes=12,
        reference=surviving_modes,
        cases=grid(_modes, shapes=(3, 5), word="number of modes"),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-7, because="float32 carries seven digits, and an exponential loses at most one"),
            Property(
                promise="a mode that two views share entirely, rho = 1, keeps its eigenvalue for ever",
                cases=(
                    Case(
                        label="rho = 1, t = 1000",
                        make=lambda: (torch.tensor([2.0, 0.5]), torch.ones(2), torch.tensor(1000.0)),
                    ),
                ),
                holds=lambda results: close(torch.tensor([2.0, 0.5]), results[0], rtol=1e-6, atol=0),
            ),
        ),
        hints=(
            r"""
            Multiply out $E (x_k - x'_k)^2 = E\,x_k^2 - 2 E\,x_k x'_k + E\,x_k'^2$. The two squares are 1 each. What is
            the middle term?
            """,
            r"""
            $L = \sum_k (1 - \rho_k)\, w_k^2$, so $dw_k/dt = -2 (1 - \rho_k)\, w_k$. Now go from $w$ to $l = w^2$:
            $dl_k/dt = 2 w_k\, dw_k/dt$. A quantity whose rate is $c$ times itself grows like $e^{ct}$.
            """,
        ),
        explanation=r"""
            $E (x_k - x'_k)^2 = 2 - 2 \rho_k$, so $L = \sum_k (1 - \rho_k) w_k^2$ and $dw_k/dt = -2 (1 - \rho_k) w_k$.
            Then $dl_k/dt = 2 w_k\,dw_k/dt = -4 (1 - \rho_k)\, l_k$, which is solved by

            $$l_k(t) = l_k(0)\, e^{-4 (1 - \rho_k) t}.$$

            Every mode that augmentation touches at all dies. The unsteady ones die first.
            """,
        bank=(
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(-2 * (1 - rho) * t),
                misconception="the rate of the weights",
                says=(
                    "This is exactly l exp(-2 (1 - ρ) t), the rate of w. The eigenvalue is w², and a square dies "
                    "twice as fast."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues.sqrt() * torch.exp(-2 * (1 - rho) * t),
                misconception="weights for eigenvalues",
                says="These are exactly the weights, sqrt(l) exp(-2 (1 - ρ) t). Asked for are their squares.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(4 * (1 - rho) * t),
                misconception="uphill",
                says="This is exactly l exp(+4 (1 - ρ) t). Downhill is against the gradient: the exponent is negative.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(-4 * rho * t),
                misconception="ρ for 1 - ρ",
                says=(
                    "This is exactly l exp(-4 ρ t): steady modes would die first. Two views differ in a mode by "
                    "E (x - x')² = 2 - 2ρ, which is 0 where ρ = 1."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(-4 * t),
                misconception="the product of two views left out",
                says=(
                    "This is exactly l exp(-4 t), the same for all modes. (x - x')² has a middle term, and its mean "
                    "is -2ρ."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(-4 * (1 - rho**2) * t),
                misconception="unexplained variance for distance",
                says=(
                    "This is exactly l exp(-4 (1 - ρ²) t). 1 - ρ² is what is left of a view when it is predicted from "
                    "the other; the distance of the two is 2 - 2ρ."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * torch.exp(-8 * (1 - rho) * t),
                misconception="without the half",
                says="This is exactly l exp(-8 (1 - ρ) t). The loss has a factor ½ in front, which halves every rate.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: eigenvalues * (1 - 4 * (1 - rho) * t),
                misconception="one straight step",
                says=(
                    "This is exactly l (1 - 4 (1 - ρ) t): one step of gradient descent of size t. The slope gets "
                    "smaller on the way, so that the eigenvalue never falls below 0."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: torch.exp(-4 * (1 - rho) * t),
                misconception="without the start",
                says="This is exactly exp(-4 (1 - ρ) t), what is left of an eigenvalue 1. Multiply by where it began.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues, rho, t: _shares(surviving_modes(eigenvalues, rho, t)),
                misconception="shares for eigenvalues",
                says=(
                    "These are exactly the eigenvalues divided by their sum. Their sum shrinks as well, and that is "
                    "half of the story."
                ),
            ),
            WrongAnswer(
                answer=_shrunk_in_place,
                misconception="multiplied in place",
                says=(
                    "The eigenvalues are right, and the caller's are gone, as `*=` and `mul_` leave them. `*` makes a "
                    "new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_weights_squared, _as_a_power),
    ),
    Exercise(
        name="rank_by_hand",
        notebook="10_collapse",
        statement=r"""
            By hand: the eigenvalues are 2, 1 and 1, so their shares are $p = (\tfrac12, \tfrac14, \tfrac14)$, with the
            entropy $H = -\sum_k p_k \ln p_k$. How many *equal* eigenvalues have the same entropy? Give it to three
            digits or as a formula.
            """,
        difficulty=1,
        importance=4,
        minutes=5,
        reference=2 * math.sqrt(2),
        ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
        solution="rank_by_hand = 2**1.5",
        imports="",
        hints=(
            r"""
            $n$ equal eigenvalues have the shares $1/n$ each. What is their entropy? It is short.
            """,
            r"""
            $n$ equal shares have the entropy $\ln n$, so the answer is $n = e^H$. With logarithms of base 2 the sum is
            easy: $\tfrac12 \cdot 1 + \tfrac14 \cdot 2 + \tfrac14 \cdot 2$. Then it is $2^H$.
            """,
        ),
        explanation=r"""
            $n$ equal shares have the entropy $-n \cdot \tfrac1n \ln \tfrac1n = \ln n$. In bits the entropy of
            $(\tfrac12, \tfrac14, \tfrac14)$ is $1.5$, so the answer is $2^{1.5} = 2\sqrt2 \approx 2.83$: three
            directions, not quite equally used.
            """,
        bank=(
            WrongAnswer(
                answer=3.0,
                misconception="counting",
                says="3 is how many eigenvalues are not zero. They are not equal, so they count for a little less.",
            ),
            WrongAnswer(
                answer=2.0,
                misconception="the first one only",
                says=(
                    "2 is the sum of all eigenvalues in units of the largest, 1 / p₁, which asks the largest share "
                    "alone. The entropy asks all of them."
                ),
            ),
            WrongAnswer(
                answer=16 / 6,
                misconception="participation ratio",
                says=(
                    "2.667 is 1 / Σ p², the participation ratio. It is a relative, with squares in the place of the "
                    "entropy."
                ),
            ),
            WrongAnswer(
                answer=1.5 * math.log(2),
                misconception="entropy in nats",
                says="1.040 is the entropy itself, in nats. n equal shares have the entropy ln n: solve for n.",
            ),
            WrongAnswer(
                answer=1.5,
                misconception="entropy in bits",
                says="1.5 is the entropy itself, in bits. n equal shares have log₂ n bits: solve for n.",
            ),
            WrongAnswer(
                answer=math.exp(1.5),
                misconception="bits in a natural exponential",
                says="4.482 is e to the power of the entropy in bits. Base and exponential belong together: 2 to it.",
            ),
            WrongAnswer(
                answer=2 ** (1.5 * math.log(2)),
                misconception="nats in a power of two",
                says="2.056 is 2 to the power of the entropy in nats. Base and exponential belong together: e to it.",
            ),
            WrongAnswer(
                answer=2**-1.5,
                misconception="sign of the entropy",
                says="0.354 is one over it: the minus in front of the sum is missing.",
            ),
        ),
        right=(torch.tensor(8.0).sqrt(), 2.83),
    ),
    Exercise(
        name="effective_rank",
        notebook="10_collapse",
        statement=r"""
            The same for any spectrum: how many equal eigenvalues have the entropy of these?

            $$\mathrm{erank} = \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \qquad p_k = \frac{l_k}{\sum_j l_j}.$$

            Some eigenvalues may be exactly 0. They count for nothing: $p \ln p$ goes to 0 with $p$.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=effective_rank,
        cases=(
            *grid(_spectrum, shapes=(5, 12), word="number of eigenvalues"),
            Case(label="two eigenvalues of 0", make=lambda: (torch.tensor([3.0, 1.0, 0.5, 0.0, 0.0]),)),
        ),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="a sum of a few logarithms in float32 is right to six digits"),
            Property(
                promise="R equal eigenvalues, however small, have the effective rank R",
                cases=(Case(label="seven eigenvalues of 0.001", make=lambda: (torch.full((7,), 1e-3),)),),
                holds=lambda results: close(torch.tensor(7.0), results[0], rtol=1e-5, atol=0),
            ),
        ),
        hints=(
            """
            First the shares: divide by the sum. Then the entropy, as in notebook 00. Then undo the logarithm.
            """,
            """
            `torch.log(0)` is minus infinity, and 0 times that is NaN. Leave the zeros out (`p = p[p > 0]`), or take
            `torch.special.entr(p)`, which is -p ln p with 0 at 0.
            """,
        ),
        explanation=r"""
            It is the perplexity of notebook 00, asked of directions instead of bytes: 1 if all energy lies in one
            direction, $R$ if it is spread evenly over $R$, and a direction with little energy counts for little
            (Roy and Vetterli, 2007). Scale drops out with the division. `minipolycom.spectral.effective_rank` is the
            same.
            """,
        bank=(
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(_shares(eigenvalues)),
                misconception="entropy without its exponential",
                says="This is exactly the entropy. The number of directions is e to that power.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(_shares(eigenvalues)).neg().exp(),
                misconception="sign of the entropy",
                says="This is exactly one over the effective rank: the minus in front of the sum is missing.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(eigenvalues).exp(),
                misconception="eigenvalues not divided by their sum",
                says=(
                    "This is exactly exp(-Σ l ln l). Entropy is one of shares; divide by the sum first, or the result "
                    "depends on the scale of the outputs."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues: (_entropy(_shares(eigenvalues)) / math.log(2)).exp(),
                misconception="bits in a natural exponential",
                says=(
                    "This is exactly e to the power of the entropy in bits. Take log and exp, or log2 and 2 ** ...; "
                    "not one of each."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(_shares(eigenvalues.sqrt())).exp(),
                misconception="singular values for eigenvalues",
                says=(
                    "This is exactly the effective rank of the roots of the eigenvalues, the singular values. RankMe "
                    "takes these; small directions count for more in it."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(_shares(eigenvalues.square())).exp(),
                misconception="eigenvalues squared once more",
                says="This is exactly the effective rank of the squares. Eigenvalues are energies already.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: 1 / _shares(eigenvalues).square().sum(),
                misconception="participation ratio",
                says=(
                    "This is exactly the participation ratio, 1 / Σ p². It is a measure of its own; small directions "
                    "count for less in it."
                ),
            ),
            WrongAnswer(
                answer=lambda eigenvalues: (eigenvalues > 0).sum().to(eigenvalues.dtype),
                misconception="counting",
                says="This is exactly the number of eigenvalues above 0, the rank, which a trace of noise fills up.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: 1 / _shares(eigenvalues).max(),
                misconception="the first one only",
                says="This is exactly the sum of eigenvalues in units of the largest. The entropy asks all of them.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: torch.special.entr(_shares(eigenvalues)).mean().exp(),
                misconception="mean for sum",
                says="This is exactly what comes out with the mean of -p ln p. The entropy is the sum.",
            ),
            WrongAnswer(
                answer=lambda eigenvalues: _entropy(eigenvalues.softmax(dim=0)).exp(),
                misconception="softmax for shares",
                says=(
                    "This is exactly what shares made by softmax give. Eigenvalues are positive already: dividing by "
                    "their sum makes shares of them."
                ),
            ),
            WrongAnswer(
                answer=_nan_at_zero,
                misconception="0 times the logarithm of 0",
                says=(
                    "This is exactly the formula as it stands, and it is right but for a spectrum with a 0 in it: "
                    "there 0 · ln 0 is NaN on a computer. Leave zeros out."
                ),
            ),
            WrongAnswer(
                answer=_divided_in_place,
                misconception="divided in place",
                says=(
                    "The rank is right, and the caller's eigenvalues have become shares, as `/=` leaves them. "
                    "`p = eigenvalues / eigenvalues.sum()` makes a new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_with_entr, _as_a_product, _in_bits),
    ),
    Exercise(
        name="feature_std",
        notebook="10_collapse",
        statement=r"""
            The usual alarm (Chen and He, 2021): divide every output by its length, take the standard deviation of each
            column over the images, and average over the columns. Times $\sqrt Z$ it is about 1 for outputs that are
            spread evenly over all $Z$ directions, and 0 where all images give the same output.

            Divide by $N$ in the variance (`correction=0`).
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=feature_std,
        cases=grid(_outputs, shapes=((6, 4), (9, 5)), word="shape (images, outputs)"),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-6, because="a variance that is a small difference of squares loses two digits"),
        ),
        hints=(
            """
            Two axes, two jobs: lengths run over the outputs of one image (`dim=1`), standard deviations over the images
            in one column (`dim=0`).
            """,
            """
            `unit = outputs / outputs.norm(dim=1, keepdim=True)`, then `unit.std(dim=0, correction=0)` is one number per
            column. Take the mean and multiply by the root of the number of columns.
            """,
        ),
        explanation=r"""
            A row of length one in $Z$ dimensions has entries of size about $1/\sqrt Z$; hence the factor. It asks each
            column whether images differ *there*. It does not ask whether two columns say the same thing.
            """,
        bank=(
            WrongAnswer(
                answer=lambda outputs: outputs.std(dim=0, correction=0).mean() * outputs.shape[1] ** 0.5,
                misconception="rows not divided by their lengths",
                says=(
                    "This is exactly what outputs of their own length give. The loss sees directions alone; divide "
                    "each row by its length first."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs, 0).std(dim=0, correction=0).mean() * outputs.shape[1] ** 0.5,
                misconception="columns divided by their lengths",
                says="This is exactly what columns of length one give. An output is a row: lengths run over `dim=1`.",
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=1, correction=0).mean() * outputs.shape[1] ** 0.5,
                misconception="spread within an output",
                says=(
                    "This is exactly the spread of the entries within each output. Asked for is how much images "
                    "differ: the standard deviation runs over `dim=0`."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=0, correction=0).mean(),
                misconception="without the root of Z",
                says="This is exactly the mean standard deviation. Times sqrt(Z) it no longer depends on the width.",
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=0, correction=0).mean() * outputs.shape[1],
                misconception="Z for its root",
                says="This is exactly the mean standard deviation times Z. The factor is the root of Z.",
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=0, correction=0).mean() * len(outputs) ** 0.5,
                misconception="images for outputs",
                says=(
                    "This is exactly the mean standard deviation times the root of the number of images. The factor "
                    "is the root of the number of columns."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=0).mean() * outputs.shape[1] ** 0.5,
                misconception="variance divided by N - 1",
                says="This is exactly what `std` gives by default, which divides by N - 1. Here it is N: correction=0.",
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(correction=0) * outputs.shape[1] ** 0.5,
                misconception="one standard deviation of everything",
                says=(
                    "This is exactly the standard deviation of all entries together. Columns that differ from each "
                    "other raise it even if all images are the same; take it column by column."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).square().mean(dim=0).sqrt().mean() * outputs.shape[1] ** 0.5,
                misconception="size for spread",
                says=(
                    "This is exactly the root of the mean square. Without taking the mean off first, outputs that are "
                    "all the same get a large value, and the alarm never rings."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).var(dim=0, correction=0).mean().sqrt() * outputs.shape[1] ** 0.5,
                misconception="root of the mean variance",
                says=(
                    "This is exactly the root of the mean variance. Asked for is the mean of the roots, which depends "
                    "on how the columns share the spread."
                ),
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).var(dim=0, correction=0).mean() * outputs.shape[1],
                misconception="variance for standard deviation",
                says="This is exactly the mean variance times Z. Take the root of each column's variance first.",
            ),
            WrongAnswer(
                answer=lambda outputs: _unit(outputs).std(dim=0, correction=0) * outputs.shape[1] ** 0.5,
                misconception="one value per column",
                says="These are exactly the values column by column. The measure is their mean.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_unit_in_place,
                misconception="divided in place",
                says=(
                    "The number is right, and the caller's outputs now have length one, as `/=` leaves them. Put the "
                    "result of the division into something new."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_by_moments, _spread_of_lengthened),
    ),
    Exercise(
        name="stop_gradient",
        notebook="10_collapse",
        statement=r"""
            Write $D(z_1, z_2)$ for minus the cosine, as in `alignment_loss`; $D$ is the same in both orders. Compare
            two losses for a network that makes both views,

            $$L_{\text{both}} = \tfrac12 D(z_1, z_2) + \tfrac12 D(z_2, z_1), \qquad
            L_{\text{stop}} = \tfrac12 D(z_1, \mathrm{sg}(z_2)) + \tfrac12 D(z_2, \mathrm{sg}(z_1)),$$

            where $\mathrm{sg}$ lets the value through and no gradient. There is no predictor. The gradient of
            $L_{\text{stop}}$ with respect to the weights is a number times that of $L_{\text{both}}$: which number?
            """,
        difficulty=3,
        importance=5,
        minutes=8,
        reference=0.5,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="it is a simple number")),
        solution="stop_gradient = 0.5",
        imports="",
        hints=(
            r"""
            Ask for the gradient with respect to $z_1$ alone. In which of the two terms of $L_{\text{stop}}$ does $z_1$
            still move? In which of $L_{\text{both}}$?
            """,
            r"""
            $L_{\text{both}}$ is just $D(z_1, z_2)$, because $D$ is symmetric, so its gradient with respect to $z_1$ is
            $\partial_1 D$. $L_{\text{stop}}$ has $z_1$ in its first term only, which carries a factor $\tfrac12$.
            """,
        ),
        explanation=r"""
            With respect to $z_1$: $L_{\text{both}} = D(z_1, z_2)$ gives $\partial_1 D(z_1, z_2)$. Of $L_{\text{stop}}$
            only the first term moves, and gives $\tfrac12 \partial_1 D(z_1, z_2)$. The same for $z_2$. From there on
            the chain rule is the same for both, so **every** weight has half the gradient, in the same direction, at
            every moment. Half the gradient is half the learning rate, and Adam, which divides by the gradient's size,
            does not even notice that.
            """,
        bank=(
            WrongAnswer(
                answer=1.0,
                misconception="no difference at all",
                says=(
                    "1 would mean that nothing changes. The *values* of the two losses are equal; but z₁ still moves "
                    "in one of the two terms only."
                ),
            ),
            WrongAnswer(
                answer=0.0,
                misconception="nothing flows",
                says="0 would mean that nothing is learnt. Each view still gets a gradient from the term it predicts.",
            ),
            WrongAnswer(
                answer=2.0,
                misconception="the other way round",
                says="2 is how much larger the gradient is *without* the stop.",
            ),
            WrongAnswer(
                answer=0.25,
                misconception="a half for each view",
                says=(
                    "0.25 is a half for each of the two views. They are two paths to the same weights, and along each "
                    "of them the gradient is halved once: the sum is too."
                ),
            ),
            WrongAnswer(
                answer=-0.5,
                misconception="sign",
                says="-0.5 has the right size. But what is left of the gradient is the same pull, not a push.",
            ),
        ),
        right=(1 / 2, torch.tensor(0.5)),
    ),
)
