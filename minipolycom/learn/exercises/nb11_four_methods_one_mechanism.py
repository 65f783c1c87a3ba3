"""Exercises of 11_four_methods_one_mechanism: the rank difference, and the piece of each method that makes it."""

import torch
import torch.nn.functional as F

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.spectral import erank_correlation

# -- rank_difference --------------------------------------------------------------------------------------------------


def rank_difference(online: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The effective rank of the target branch minus that of the online branch.

    online, target: what the loss compares, shape (N, Z), a row for each image. Rows are set to length one; p_k are the
    eigenvalues of C = rows^T rows / N, no mean taken off, and the effective rank is exp(-sum_k p_k ln p_k).
    Returns one number, shape ().
    """
    ranks = []
    for rows in (online, target):
        unit = rows / rows.norm(dim=1, keepdim=True)
        p = torch.linalg.svdvals(unit).square() / len(unit)  # eigenvalues of C; they sum to 1
        ranks.append(torch.exp(torch.special.entr(p).sum()))
    return ranks[1] - ranks[0]


def _branches(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    n, width = shape
    steep, flat = (1 + torch.arange(width)) ** -1.5, (1 + torch.arange(width)) ** -0.5
    noises = torch.randn(2, n, width, generator=generator)
    sizes = 0.5 + 2 * torch.rand(2, n, 1, generator=generator)  # rows of other lengths in each branch
    mixing = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return (sizes[0] * (steep * noises[0] + 0.2)) @ mixing, (sizes[1] * (flat * noises[1] + 0.2)) @ mixing


def _unit(rows, dim=1):
    return rows / rows.norm(dim=dim, keepdim=True)


def _entropy_rank(energies):
    return torch.special.entr(energies / energies.sum()).sum().exp()


def _rank(rows):
    return _entropy_rank(torch.linalg.svdvals(rows).square())


def _unit_in_place(online, target):
    online /= online.norm(dim=1, keepdim=True)
    return rank_difference(online, target)


def _by_eigenvalues(online, target):
    spectra = (torch.linalg.eigvalsh(_unit(rows).T @ _unit(rows) / len(rows)) for rows in (online, target))
    one, other = (_entropy_rank(spectrum.clamp_min(0)) for spectrum in spectra)
    return other - one


def _turned_against_itself() -> tuple[torch.Tensor, torch.Tensor]:
    rows, _ = _branches((12, 4), torch.Generator().manual_seed(3))
    return rows, 3 * rows.flip(1)


# -- simsiam_loss -----------------------------------------------------------------------------------------------------


def simsiam_loss(z_1: torch.Tensor, z_2: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """SimSiam's loss with a predictor that is one matrix, p = z w.

    z_1, z_2: outputs for two views, shape (N, Z), row n of both from the same image; w: shape (Z, Z).
    Returns D(p_1, sg(z_2)) / 2 + D(p_2, sg(z_1)) / 2, shape (): D is minus the mean cosine of matching rows, and
    through sg no gradient flows.
    """

    def d(p, z):
        return -torch.nn.functional.cosine_similarity(p, z.detach(), dim=1).mean()

    return d(z_1 @ w, z_2) / 2 + d(z_2 @ w, z_1) / 2


def _views_and_predictor(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    n, width = shape
    z_1 = torch.randn(n, width, generator=generator)
    z_2 = z_1 + 0.7 * torch.randn(n, width, generator=generator)
    w = torch.eye(width) + 0.6 * torch.randn(width, width, generator=generator)
    return z_1, z_2 * (0.5 + torch.rand(n, 1, generator=generator)), w


def _d(p, z):
    return -F.cosine_similarity(p, z, dim=1).mean()


def _product(p, z):
    return (p * z.detach()).sum(dim=1).mean()


def _both_halves(first, second):
    return (first + second) / 2


def _by_products(z_1, z_2, w):
    with torch.no_grad():
        targets = _unit(z_1), _unit(z_2)
    return -((_unit(z_1 @ w) * targets[1]).sum() + (_unit(z_2 @ w) * targets[0]).sum()) / (2 * len(z_1))


# -- momentum_update --------------------------------------------------------------------------------------------------


def momentum_update(slow: torch.Tensor, fast: torch.Tensor, m: float) -> torch.Tensor:
    """A weight of the momentum network after a step: m parts of what it was, 1 - m parts of the trained one.

    slow, fast: the same weight of the momentum network and of the trained network, of any shape; m: from 0 to 1.
    Returns the new weight of the momentum network; both arguments stay as they are.
    """
    return m * slow + (1 - m) * fast


def _two_weights(shape: tuple, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    *size, m = shape
    slow, fast = (torch.randn(size, generator=generator) for _ in range(2))
    return slow, fast, m


def _moved_in_place(slow, fast, m):
    return slow.lerp_(fast, 1 - m)


# -- sinkhorn_codes ---------------------------------------------------------------------------------------------------


def sinkhorn_codes(scores: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """SwAV's codes: Q = exp(scores / temperature), then in turns columns and rows divided by their sums.

    scores: shape (N, K), the cosine of each of N images with each of K prototypes. In every iteration first each
    column is divided by its sum over images, then each row by its sum over prototypes. Returns Q, shape (N, K).
    """
    q = torch.exp(scores / temperature)
    for _ in range(iterations):
        q = q / q.sum(dim=0, keepdim=True)
        q = q / q.sum(dim=1, keepdim=True)
    return q


def _scores(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, float, int]:
    n, k, iterations = shape
    favoured = torch.rand(k, generator=generator)  # a few prototypes are near to everything
    return (favoured + 0.5 * torch.randn(n, k, generator=generator)).clamp(-1, 1), 0.4, iterations


def _turns(scores, iterations, dims):
    for _ in range(iterations):
        for dim in dims:
            scores = scores / scores.sum(dim=dim, keepdim=True)
    return scores


def _cooled_in_place(scores, temperature, iterations):
    scores /= temperature
    return _turns(scores.exp(), iterations, (0, 1))


def _on_logarithms(scores, temperature, iterations):
    logarithms = scores / temperature
    for _ in range(iterations):
        logarithms = F.log_softmax(F.log_softmax(logarithms, dim=0), dim=1)
    return logarithms.exp()


def _columns_of_equal_mass(scores, temperature, iterations):
    q = (scores / temperature).exp()
    for _ in range(iterations):
        q = q * (len(q) / q.shape[1]) / q.sum(dim=0)  # a column's share of N images, by which the rows then divide
        q = q / q.sum(dim=1, keepdim=True)
    return q


def _one_prototype_for_all() -> tuple[torch.Tensor, float, int]:
    scores = torch.full((6, 3), -0.5)
    scores[:, 1] = 0.9
    return scores + 0.1 * torch.eye(6, 3), 0.1, 200


# -- dino_codes -------------------------------------------------------------------------------------------------------


def dino_codes(scores: torch.Tensor, centre: torch.Tensor, temperature: float) -> torch.Tensor:
    """DINO's codes: scores without their centre, divided by a low temperature, as shares: softmax((s - c) / T).

    scores: shape (N, K), the cosine of each of N images with each of K prototypes; centre: shape (K,), a moving
    average of scores. Returns shape (N, K); every row sums to 1.
    """
    return torch.softmax((scores - centre) / temperature, dim=1)


def _scores_and_centre(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    n, k = shape
    mean = 0.5 * torch.randn(k, generator=generator)
    scores = mean + 0.3 * torch.randn(n, k, generator=generator)
    return scores, mean + 0.2 * torch.randn(k, generator=generator), 0.3


def _centred_in_place(scores, centre, temperature):
    scores -= centre
    return torch.softmax(scores / temperature, dim=1)


def _by_exponentials(scores, centre, temperature):
    q = torch.exp(scores / temperature) * torch.exp(-centre / temperature)
    return q / q.sum(dim=-1, keepdim=True)


EXERCISES = (
    Exercise(
        name="rank_difference",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            Both branches end in rows of numbers, one row for each image. Set each row to length one and let $p_k$ be
            the eigenvalues of $C = \tfrac1N \sum_n z_n z_n^\top$. They sum to 1, and the **effective rank** is

            $$\operatorname{erank} = \exp\Bigl(-\sum_k p_k \ln p_k\Bigr).$$

            Write the **rank difference**: the target's effective rank minus that of the online branch.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=rank_difference,
        cases=grid(_branches, shapes=((9, 4), (30, 6)), word="shape (images, outputs)"),
        ladder=ladder(
            Values(rtol=1e-3, atol=1e-3, because="a difference of two ranks in float32, whose logarithms round"),
            Property(
                promise="branches that differ by size and by the order of columns have the same rank",
                cases=(Case(label="a branch, flipped and three times as large", make=_turned_against_itself),),
                holds=lambda results: close(torch.tensor(0.0), results[0], rtol=0, atol=1e-3),
            ),
        ),
        hints=(
            """
            The singular values $s_k$ of the matrix of unit rows give the eigenvalues without forming $C$: they are
            $s_k^2 / N$. `torch.linalg.svdvals(unit)` returns them.
            """,
            """
            `torch.special.entr(p)` is $-p \\ln p$, and 0 where $p = 0$. So a rank is `torch.exp(torch.special.entr(p)
            .sum())`. Do it for both branches and subtract.
            """,
        ),
        explanation=r"""
            The eigenvalues of $C$ are $s_k^2 / N$, because $C = V \operatorname{diag}(s^2) V^\top / N$. Unit rows make
            their sum 1 without dividing. No mean is taken off: what all images share counts as a direction, too.
            """,
        bank=(
            WrongAnswer(
                answer=lambda online, target: rank_difference(target, online),
                misconception="online minus target",
                says="This is exactly the online rank minus the target's. The difference is the target's minus online.",
            ),
            WrongAnswer(
                answer=lambda online, target: _rank(target) - _rank(online),
                misconception="rows not set to length one",
                says="This is exactly the difference without setting rows to length one. The loss compares directions.",
            ),
            WrongAnswer(
                answer=lambda online, target: _rank(_unit(target, 0)) - _rank(_unit(online, 0)),
                misconception="columns set to length one",
                says=(
                    "This is exactly what columns of length one give. An image is a row, and the loss divides each row "
                    "by its length: `dim=1`."
                ),
            ),
            WrongAnswer(
                answer=lambda online, target: (
                    _entropy_rank(torch.linalg.svdvals(_unit(target)))
                    - _entropy_rank(torch.linalg.svdvals(_unit(online)))
                ),
                misconception="singular values for eigenvalues",
                says=(
                    "This is exactly the difference in RankMe, whose shares are those of singular values. The "
                    "eigenvalues of C are their squares, divided by N."
                ),
            ),
            WrongAnswer(
                answer=lambda online, target: (
                    _rank(_unit(target) - _unit(target).mean(dim=0)) - _rank(_unit(online) - _unit(online).mean(dim=0))
                ),
                misconception="mean taken off",
                says="This is exactly the difference with the mean taken off. Here no mean is taken off.",
            ),
            WrongAnswer(
                answer=lambda online, target: _rank(_unit(target)).log() - _rank(_unit(online)).log(),
                misconception="entropies for ranks",
                says="This is exactly the difference of the two entropies. A rank is the exponential of an entropy.",
            ),
            WrongAnswer(
                answer=lambda online, target: _rank(_unit(target)) / _rank(_unit(online)),
                misconception="quotient for difference",
                says="This is exactly the quotient of the two ranks. It says the same; asked for is the difference.",
            ),
            WrongAnswer(
                answer=lambda online, target: torch.stack([_rank(_unit(online)), _rank(_unit(target))]),
                misconception="two ranks",
                says="These are exactly the two ranks, online first. Subtract them.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_unit_in_place,
                misconception="divided in place",
                says=(
                    "The number is right, and the caller's online rows now have length one, as `/=` leaves them. Put "
                    "the result of the division into something new."
                ),
                fails="inputs kept",
            ),
        ),
        right=(
            _by_eigenvalues,
            lambda online, target: (
                erank_correlation(target, normalise=True).to(target.dtype)
                - erank_correlation(online, normalise=True).to(online.dtype)
            ),
        ),
    ),
    Exercise(
        name="simsiam_loss",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            Two views of the same images have gone through one network, giving $z_1$ and $z_2$. On the **online** branch
            a predictor follows, here a single matrix, $p = z\,w$. The **target** branch is the other view as it is, and
            no gradient flows through it. With $D$ for minus the mean cosine of matching rows,

            $$L = \tfrac12 D\bigl(p_1, \mathrm{sg}(z_2)\bigr) + \tfrac12 D\bigl(p_2, \mathrm{sg}(z_1)\bigr).$$

            The check looks at the gradients as well: those of `w`, and those of `z_1` and `z_2`, which are both online
            and target.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=simsiam_loss,
        cases=grid(_views_and_predictor, shapes=((5, 3), (4, 6)), word="shape (images, outputs)"),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="a mean of a few cosines in float32 is right to six digits"),
            Gradients(rtol=1e-4, atol=1e-5, because="dividing by lengths costs a digit more on the way back"),
        ),
        hints=(
            """
            `torch.nn.functional.cosine_similarity(p, z, dim=1)` gives the cosine of each row of `p` with the same row
            of `z`. `z.detach()` has the same values as `z` and passes no gradient on.
            """,
            """
            Write `D(p, z)` as a small function that detaches `z` itself. Then the loss is one line, and each view is
            once the one that predicts and once the one that is predicted.
            """,
        ),
        explanation="""
            The stop-gradient is one word, `detach()`, and the predictor one product. What matters is where they stand:
            both on *different* branches. `z_1` gets its gradient through `p_1` alone, never through `D(p_2, z_1)`.
            """,
        bank=(
            WrongAnswer(
                answer=lambda z_1, z_2, w: _both_halves(_d(z_1 @ w, z_2), _d(z_2 @ w, z_1)),
                misconception="no stop-gradient",
                says=(
                    "The value is right, and these are exactly the gradients without sg: the targets are pulled "
                    "towards the predictions as well. `z.detach()` stops that."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: _both_halves(_d((z_1 @ w).detach(), z_2), _d((z_2 @ w).detach(), z_1)),
                misconception="stop-gradient on the predictions",
                says=(
                    "The value is right, and these are exactly the gradients with the *predictions* detached, which "
                    "puts the predictor on the target branch: it learns nothing. sg belongs around z."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: simsiam_loss(z_1.detach(), z_2.detach(), w),
                misconception="stop-gradient on everything but the predictor",
                says=(
                    "The value is right, and these are exactly the gradients with z detached before the predictor: "
                    "only w learns, the network behind z gets nothing."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: _both_halves(_d(z_1 @ w, z_1.detach()), _d(z_2 @ w, z_2.detach())),
                misconception="a view with itself",
                says=(
                    "This is exactly the loss of predicting each view from itself. A prediction from one view is "
                    "compared with the *other* one."
                ),
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: simsiam_loss(z_1 @ w, z_2 @ w, torch.eye(len(w))),
                misconception="predictor on both",
                says="This is exactly the loss with the predictor on both branches. The target is z as it is.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: simsiam_loss(z_1, z_2, torch.eye(len(w))),
                misconception="no predictor",
                says="This is exactly the loss without a predictor, a method that collapses: `w` does not enter it.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: simsiam_loss(z_1, z_2, w.T),
                misconception="w transposed",
                says="This is exactly the loss for p = z wᵀ. Here p = z w: rows times the matrix as it stands.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: _d(z_1 @ w, z_2.detach()),
                misconception="one direction",
                says="This is exactly D(p₁, sg(z₂)). The other half, in which view 2 predicts view 1, is missing.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: 2 * simsiam_loss(z_1, z_2, w),
                misconception="sum of both halves",
                says="This is exactly twice the loss: each of the two terms counts one half.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: -simsiam_loss(z_1, z_2, w),
                misconception="agreement for loss",
                says="This is exactly the mean cosine. A loss is made small, so agreement enters with a minus.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: (
                    -_both_halves(
                        ((z_1 @ w) * z_2.detach()).sum(dim=1).mean(), ((z_2 @ w) * z_1.detach()).sum(1).mean()
                    )
                ),
                misconception="products for cosines",
                says="This is exactly the loss of products p · z. A cosine divides each by the lengths of two rows.",
            ),
            WrongAnswer(
                answer=lambda z_1, z_2, w: (
                    -_both_halves(
                        F.cosine_similarity(z_1 @ w, z_2.detach(), dim=1),
                        F.cosine_similarity(z_2 @ w, z_1.detach(), dim=1),
                    )
                ),
                misconception="one loss per image",
                says="These are exactly the losses image by image. Take their mean.",
                fails="shape",
            ),
        ),
        right=(
            _by_products,
            lambda z_1, z_2, w: (
                -F.cosine_similarity(torch.cat([z_1, z_2]) @ w, torch.cat([z_2, z_1]).detach(), dim=1).mean()
            ),
        ),
    ),
    Exercise(
        name="momentum_update",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            BYOL's target is a second network, of the same shape, that is never trained. After each optimizer step each
            of its weights moves a little towards the trained one,

            $$w' \leftarrow m\,w' + (1 - m)\,w, \qquad m = 0.99 \text{ at first.}$$

            Write it for one weight tensor, `slow` for $w'$ and `fast` for $w$. Return the new one and leave both as
            they are.
            """,
        difficulty=1,
        importance=3,
        minutes=3,
        reference=momentum_update,
        cases=grid(_two_weights, shapes=((3, 0.9), (2, 4, 0.75)), word="shape and m"),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="two products and a sum in float32 are right to six digits"),
            Property(
                promise="with m = 1 the momentum network does not move",
                cases=(Case(label="m = 1", make=lambda: (torch.tensor([2.0, -1.0]), torch.tensor([5.0, 7.0]), 1.0)),),
                holds=lambda results: close(torch.tensor([2.0, -1.0]), results[0], rtol=0, atol=1e-6),
            ),
        ),
        hints=(
            "With m = 0.99 the new value is 99 parts of `slow` and one part of `fast`.",
            "Two products and a sum. `torch.lerp(slow, fast, 1 - m)` does the same in one call.",
        ),
        explanation="""
            A weighted mean, 99 to 1. The package does it for all weights at once, in place, with `lerp_`; and it lets m
            rise towards 1 through training, as the paper does.
            """,
        bank=(
            WrongAnswer(
                answer=lambda slow, fast, m: m * fast + (1 - m) * slow,
                misconception="fast for slow",
                says=(
                    "This is exactly m parts of the trained weight. With m = 0.99 the target would be nearly the "
                    "trained network itself; m belongs to the slow one."
                ),
            ),
            WrongAnswer(
                answer=lambda slow, fast, m: m * slow + fast,
                misconception="without 1 - m",
                says="This is exactly m slow + fast. The two parts have to make one whole: 1 - m of the trained one.",
            ),
            WrongAnswer(
                answer=lambda slow, fast, m: (slow + fast) / 2,
                misconception="plain mean",
                says="This is exactly the mean of both, whatever m is.",
            ),
            WrongAnswer(
                answer=lambda slow, fast, m: m * slow + (m - 1) * fast,
                misconception="sign of the second part",
                says="This is exactly m slow - (1 - m) fast: away from the trained weight. The second part is added.",
            ),
            WrongAnswer(
                answer=lambda slow, fast, m: m * slow,
                misconception="decay alone",
                says="This is exactly m slow: the momentum network shrinks to nothing and learns nothing.",
            ),
            WrongAnswer(
                answer=_moved_in_place,
                misconception="moved in place",
                says=(
                    "The value is right, and `slow` itself has been changed, as functions that end in _ do. That is "
                    "what a training wants; here, return something new."
                ),
                fails="inputs kept",
            ),
        ),
        right=(
            lambda slow, fast, m: torch.lerp(slow, fast, 1 - m),
            lambda slow, fast, m: slow + (1 - m) * (fast - slow),
        ),
    ),
    Exercise(
        name="target_age",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            Written out, the momentum network is a weighted mean of all networks that the training has gone through:
            that of $k$ steps ago has the weight $(1 - m)\,m^k$. With $m = 0.99$ fixed, **how many steps old** is it on
            average?
            """,
        difficulty=2,
        importance=3,
        minutes=5,
        reference=99.0,
        ladder=value_ladder(Values(rtol=0.02, atol=0.0, because="the count may begin with 0 or with 1")),
        imports="",
        solution="target_age = 0.99 / (1 - 0.99)",
        hints=(
            r"The mean age is $\sum_k k\,(1 - m)\,m^k$. Let the machine sum it, or go on to the second hint.",
            r"$\sum_k k\,m^k = m / (1 - m)^2$: the derivative of the geometric series, times $m$.",
        ),
        explanation=r"""
            $\sum_k k\,(1-m)\,m^k = m/(1-m) = 99$. BYOL's target is the online network of about a hundred steps ago,
            a third of the training in this notebook. Keep that in mind when you see its rank.
            """,
        bank=(
            WrongAnswer(
                answer=69.0,
                misconception="half-life",
                says="69 steps is how long it takes until half of it is new: ln 0.5 / ln 0.99. The mean is older.",
            ),
            WrongAnswer(
                answer=1.0,
                misconception="one step",
                says="1 would be a target that is the network before the last step; that one has a weight of 0.01.",
            ),
            WrongAnswer(
                answer=9900.0,
                misconception="weights that do not sum to one",
                says="9900 is the sum of k m^k. The weights are (1 - m) m^k, a hundredth of that.",
            ),
            WrongAnswer(
                answer=199.0,
                misconception="length of a plain mean",
                says="199 is how many networks a *plain* mean takes to be as old. The age itself is half of it.",
            ),
            WrongAnswer(
                answer=0.01,
                misconception="a weight for an age",
                says="0.01 is the weight of the newest network, 1 - m.",
            ),
        ),
        right=(99, 100.0, 0.99 / 0.01),
    ),
    Exercise(
        name="sinkhorn_codes",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            SwAV compares an output with $K$ learned **prototypes**. The cosines are scores $s_{nk}$, and they are
            turned into a **code**: shares $q_{nk}$ that sum to 1 for each image. On the target branch this is done so
            that all prototypes are used alike (the algorithm is Sinkhorn's and Knopp's): start with $Q = e^{s / T}$ and
            repeat

            1. divide each *column* by its sum, so that every prototype has the same mass,
            2. divide each *row* by its sum, so that every image's shares sum to 1.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=sinkhorn_codes,
        cases=grid(_scores, shapes=((6, 3, 2), (5, 8, 3)), word="images, prototypes, iterations"),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-6, because="exponentials and divisions in float32 are right to five digits"),
            Property(
                promise="after many iterations every prototype has the same mass, whichever one is near to all images",
                cases=(Case(label="one prototype near to all, 200 iterations", make=_one_prototype_for_all),),
                holds=lambda results: close(torch.full((3,), 2.0), results[0].sum(dim=0), rtol=1e-3, atol=0),
            ),
        ),
        hints=(
            """
            A column's sum runs over images: `q.sum(dim=0, keepdim=True)`. A row's runs over prototypes: `q.sum(dim=1,
            keepdim=True)`.
            """,
            """
            `q = torch.exp(scores / temperature)`, then a loop with two lines: columns first, rows second. Write `q = q
            / ...`, not `q /= ...`.
            """,
        ),
        explanation="""
            Each of the two divisions undoes a little of the other; after a few turns both hold nearly. The last one is
            that of the rows, so a row sums to 1 exactly. Whatever all images have in common, a prototype that is near
            to all of them, is divided away by its column. Remember that when you look at the spectrum. (The package
            works on logarithms, so that no exponential overflows.)
            """,
        bank=(
            WrongAnswer(
                answer=lambda scores, temperature, iterations: _turns((scores / temperature).exp(), iterations, (1, 0)),
                misconception="rows first",
                says=(
                    "This is exactly what rows first, columns second gives. It ends with columns that sum to 1, and an "
                    "image's shares do not; the rows come last."
                ),
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: torch.softmax(scores / temperature, dim=1),
                misconception="rows alone",
                says=(
                    "This is exactly softmax over prototypes: rows alone. Nothing keeps one prototype from taking "
                    "every image; divide the columns, too."
                ),
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: torch.softmax(scores / temperature, dim=0),
                misconception="columns alone",
                says="This is exactly softmax over images: columns alone. In a code every row has to sum to 1.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: sinkhorn_codes(scores, temperature, 1),
                misconception="one turn",
                says="This is exactly the result of a single iteration. The two divisions belong inside the loop.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: sinkhorn_codes(scores, 1.0, iterations),
                misconception="no temperature",
                says="This is exactly what exp(s) gives, without the temperature. Scores are divided by it first.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: sinkhorn_codes(scores, 1 / temperature, iterations),
                misconception="times the temperature",
                says="This is exactly exp(s T). The scores are divided by T; a low temperature makes codes decide.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: sinkhorn_codes(scores, temperature, iterations + 1),
                misconception="a turn too many",
                says="This is exactly the result of one iteration more than asked for.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: (
                    (q := sinkhorn_codes(scores, temperature, iterations)) / q.sum(dim=0, keepdim=True)
                ),
                misconception="columns last",
                says="This is exactly the right result with its columns divided once more. The rows come last.",
            ),
            WrongAnswer(
                answer=lambda scores, temperature, iterations: (
                    (q := (scores / temperature).exp()) / q.sum(dim=0) / q.sum(dim=1, keepdim=True)
                ),
                misconception="sums taken before the loop",
                says=(
                    "This is exactly Q divided by the sums that its columns and rows had at the start. Each division "
                    "changes the other's sums: take them anew every time."
                ),
            ),
            WrongAnswer(
                answer=_cooled_in_place,
                misconception="divided in place",
                says=(
                    "The codes are right, and the caller's scores are divided by T now, as `/=` leaves them. "
                    "`scores / temperature` makes a new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_on_logarithms, _columns_of_equal_mass),
    ),
    Exercise(
        name="collapsed_codes",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            Suppose that the network has collapsed completely: **every image has the same scores**. Sinkhorn's algorithm
            still gives all 64 prototypes the same mass. What is the effective rank of its codes?
            """,
        difficulty=2,
        importance=4,
        minutes=4,
        reference=1.0,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="it is a whole number")),
        imports="",
        solution="collapsed_codes = 1.0",
        hints=(
            "If two rows of scores are equal, can their codes differ? Look at both divisions.",
            "Every row becomes (1/64, ..., 1/64). How many directions do N equal rows have?",
        ),
        explanation="""
            Dividing columns and rows treats equal rows equally, so all codes are the same row, and one row many times
            over has the rank 1. A target filter enlarges the differences between images that it finds. It makes none.
            """,
        bank=(
            WrongAnswer(
                answer=64.0,
                misconception="mass for directions",
                says=(
                    "64 prototypes have the same mass, in every image. But all images have the *same* code, and equal "
                    "rows span one direction."
                ),
            ),
            WrongAnswer(
                answer=0.0,
                misconception="nothing is left",
                says="0 would be a matrix of zeros, and no matrix of unit rows has it: the mean is a direction, too.",
            ),
            WrongAnswer(
                answer=2.0,
                misconception="two directions",
                says="2 would need images with two kinds of codes. All of them have the same.",
            ),
            WrongAnswer(
                answer=63.0,
                misconception="one constraint",
                says="63 would be 64 prototypes less one constraint. Count directions among the rows, not prototypes.",
            ),
        ),
        right=(1, torch.tensor(1.0)),
    ),
    Exercise(
        name="dino_codes",
        notebook="11_four_methods_one_mechanism",
        statement=r"""
            DINO has no Sinkhorn and no predictor. Its target does two things with the scores $s_{nk}$ of a momentum
            network: **centring** takes off what images have in common, a moving average $c_k$ of scores, and
            **sharpening** divides by a temperature $T$ that is lower than the online branch's:

            $$q_{nk} = \operatorname{softmax}_k\bigl((s_{nk} - c_k) / T\bigr).$$
            """,
        difficulty=1,
        importance=4,
        minutes=4,
        reference=dino_codes,
        cases=grid(_scores_and_centre, shapes=((4, 3), (5, 7)), word="images, prototypes"),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-6, because="exponentials in float32 are right to five digits"),
            Property(
                promise="an image whose scores are the centre has equal shares",
                cases=(
                    Case(
                        label="scores = centre",
                        make=lambda: (torch.tensor([[0.5, -0.2, 0.1, 0.9]]), torch.tensor([0.5, -0.2, 0.1, 0.9]), 0.04),
                    ),
                ),
                holds=lambda results: close(torch.full((1, 4), 0.25), results[0], rtol=1e-5, atol=0),
            ),
        ),
        hints=(
            "The centre has one number for each prototype, so `scores - centre` takes it off every row.",
            "`torch.softmax(x, dim=1)` makes shares of every row. Only `x` is left to write.",
        ),
        explanation="""
            One line, in this order: centre, sharpen, share. The centre itself moves like the weights of BYOL's target:
            m parts of what it was, 1 - m parts of the mean of this batch's scores, with m = 0.9.
            """,
        bank=(
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax(scores / temperature, dim=1),
                misconception="no centring",
                says="This is exactly the code without centring: `centre` does not enter it.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax(scores - centre, dim=1),
                misconception="no sharpening",
                says="This is exactly the code without sharpening, with a temperature of 1.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax(scores / temperature - centre, dim=1),
                misconception="sharpened before centring",
                says=(
                    "This is exactly softmax(s/T - c): the centre is taken off scores that are 1/T times as large. "
                    "Take it off first, then divide both."
                ),
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax((scores + centre) / temperature, dim=1),
                misconception="centre added",
                says="This is exactly softmax((s + c)/T), which doubles what images have in common. It is taken off.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax((scores - centre) * temperature, dim=1),
                misconception="times the temperature",
                says="This is exactly softmax((s - c) T), nearly equal shares. Divide by a low temperature to sharpen.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: torch.softmax((scores - centre) / temperature, dim=0),
                misconception="shares over images",
                says="This is exactly softmax over images. A code is an image's shares of the prototypes: `dim=1`.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: dino_codes(scores, scores.mean(dim=0), temperature),
                misconception="the batch's own mean",
                says="This is exactly the code with this batch's mean as centre. The given centre averages many.",
            ),
            WrongAnswer(
                answer=lambda scores, centre, temperature: dino_codes(scores, centre, temperature).log(),
                misconception="logarithms",
                says="These are exactly the logarithms of the codes. The loss takes those of online shares alone.",
            ),
            WrongAnswer(
                answer=_centred_in_place,
                misconception="centred in place",
                says=(
                    "The codes are right, and the caller's scores have lost their centre, as `-=` leaves them. "
                    "`scores - centre` makes a new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(
            _by_exponentials,
            lambda scores, centre, temperature: F.softmax((scores - centre[None]) / temperature, -1),
        ),
    ),
)
