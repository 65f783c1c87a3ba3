"""Exercises of 07_rank_lens: three ranks of a matrix, the rank of chance, equal loss, correlations, similar layers."""

import math

import torch

from minipolycom.learn.checks import Property, Values, ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.spectral import effective_rank, layer_similarity, participation_ratio, singular_values, stable_rank

# -- three ranks of a matrix -----------------------------------------------------------------------------------------


def three_ranks(weight: torch.Tensor) -> torch.Tensor:
    """Effective rank, participation ratio and stable rank of a matrix, in this order.

    weight: shape (N, D). With singular values s: exp of the entropy of s / sum(s); sum(s^2)^2 / sum(s^4);
    sum(s^2) / max(s^2). Nothing is centred. Returns shape (3,).
    """
    s = torch.linalg.svdvals(weight)
    share = s / s.sum()
    effective = torch.special.entr(share).sum().exp()
    energy = s.square()
    return torch.stack([effective, energy.sum() ** 2 / energy.square().sum(), energy.sum() / energy.max()])


def _steep_matrix(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    entries = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return ((entries + 0.4) / torch.arange(1, shape[1] + 1, dtype=torch.float64).sqrt(),)


def _three(spectrum: torch.Tensor, energy: torch.Tensor | None = None) -> torch.Tensor:
    """The three, with the entropy of one spectrum and the other two of another's energy."""
    energy = spectrum.square() if energy is None else energy
    effective = torch.special.entr(spectrum / spectrum.sum()).sum().exp()
    return torch.stack([effective, energy.sum() ** 2 / energy.square().sum(), energy.sum() / energy.max()])


def _entropy_of_energies(weight):
    s = torch.linalg.svdvals(weight)
    return _three(s.square(), s.square())


def _without_squares(weight):
    s = torch.linalg.svdvals(weight)
    return _three(s, s)


def _bits_in_e(weight):
    found = three_ranks(weight)
    return torch.cat([(found[:1].log() / math.log(2)).exp(), found[1:]])


def _entropy_itself(weight):
    found = three_ranks(weight)
    return torch.cat([found[:1].log(), found[1:]])


def _root_of_the_last(weight):
    found = three_ranks(weight)
    return torch.cat([found[:2], found[2:].sqrt()])


def _by_the_package(weight):
    s = singular_values(weight, centre=False)
    return torch.stack([effective_rank(s), participation_ratio(s), stable_rank(s)])


def _by_norms(weight):
    gram = weight.T @ weight if weight.shape[0] >= weight.shape[1] else weight @ weight.T
    energy = torch.linalg.eigvalsh(gram).clamp(min=0)
    p = energy.sqrt() / energy.sqrt().sum()
    frobenius = weight.square().sum()
    effective = torch.exp(-(p * p.clamp(min=1e-300).log()).sum())
    return torch.stack([effective, frobenius**2 / gram.square().sum(), frobenius / energy[-1]])


# -- the rank of chance ----------------------------------------------------------------------------------------------


def chance_rank(ratios: torch.Tensor) -> torch.Tensor:
    """Effective rank of a large matrix of independent entries, as a share of its columns.

    ratios: columns / rows of K matrices, shape (K,), each between 0 and 1. By the law of Marchenko and Pastur the
    squared singular values are l = 1 + q + 2 sqrt(q) cos(angle), with a density over 0 < angle < pi in proportion to
    sin(angle)^2 / l. Returns shape (K,).
    """
    q = ratios[:, None]
    angle = torch.linspace(0, math.pi, 2001, dtype=ratios.dtype)
    energy = 1 + q + 2 * q.sqrt() * angle.cos()
    weight = angle.sin().square() / energy
    weight = weight / weight.sum(dim=1, keepdim=True)
    s = energy.sqrt()
    mean = (weight * s).sum(dim=1)
    return mean * torch.exp(-(weight * s * s.log()).sum(dim=1) / mean)


def _some_ratios(n: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (0.15 + 0.7 * torch.rand(n, dtype=torch.float64, generator=generator),)


def _law(ratios: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and their weights."""
    q = ratios[:, None]
    angle = torch.linspace(0, math.pi, 2001, dtype=ratios.dtype)
    energy = 1 + q + 2 * q.sqrt() * angle.cos()
    weight = angle.sin().square() / energy
    return energy, weight / weight.sum(dim=1, keepdim=True)


def _share(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    mean = (weight * values).sum(dim=1)
    return mean * torch.exp(-(weight * values * values.log()).sum(dim=1) / mean)


def _rank_of_energies(ratios):
    return _share(*_law(ratios))


def _flat_angles(ratios):
    energy, weight = _law(ratios)
    return _share(energy.sqrt(), torch.full_like(weight, 1 / weight.shape[1]))


def _without_the_energy(ratios):
    energy, weight = _law(ratios)
    weight = weight * energy
    return _share(energy.sqrt(), weight / weight.sum(dim=1, keepdim=True))


def _without_the_root(ratios):
    return chance_rank(ratios.square())


def _chance_participation(ratios):
    energy, weight = _law(ratios)
    return 1 / (weight * energy.square()).sum(dim=1)


def _chance_stable(ratios):
    return 1 / (1 + ratios.sqrt()).square()


def _entropy_of_the_law(ratios):
    return chance_rank(ratios).log()


def _mean_left_out(ratios):
    energy, weight = _law(ratios)
    s = energy.sqrt()
    return torch.exp(-(weight * s * s.log()).sum(dim=1))


def _by_many_values(ratios):
    shares = []
    for q in ratios.tolist():
        low, high = (1 - q**0.5) ** 2, (1 + q**0.5) ** 2
        edges = torch.linspace(low, high, 20_001, dtype=ratios.dtype)
        energy = (edges[1:] + edges[:-1]) / 2
        density = ((high - energy) * (energy - low)).sqrt() / energy
        p = density / density.sum()
        mean = (p * energy.sqrt()).sum()
        shares.append(mean * torch.exp(-(p * energy.sqrt() * energy.log() / 2).sum() / mean))
    return torch.stack(shares)


# -- equal loss ------------------------------------------------------------------------------------------------------


def rank_at_loss(losses: torch.Tensor, ranks: torch.Tensor, target: float) -> torch.Tensor:
    """The rank of each run where its loss is first at or under a target.

    losses, ranks: of S runs at T moments, shape (S, T). Returns shape (S,); NaN for a run that never gets there.
    """
    reached = losses <= target
    first = reached.int().argmax(dim=1, keepdim=True)
    found = ranks.gather(1, first)[:, 0]
    return found.masked_fill(~reached.any(dim=1), torch.nan)


def _runs_that_arrive(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    n_runs, n_times = shape
    noise = torch.rand(n_runs, n_times, generator=generator) - 0.5
    noise[:, -1] = 0.0  # every run of these cases gets there
    losses = torch.linspace(3.0, 1.5, n_times) + 0.8 * noise
    ranks = torch.linspace(124.0, 109.0, n_times) + 3 * torch.rand(n_runs, n_times, generator=generator)
    return losses, ranks, 2.1


def _one_never_arrives() -> tuple[torch.Tensor, torch.Tensor, float]:
    losses = torch.tensor([[3.0, 2.0, 1.5], [3.0, 2.5, 2.25], [3.0, 2.25, 1.75]])
    return losses, torch.tensor([[124.0, 116.0, 110.0], [123.0, 120.0, 118.0], [122.0, 117.0, 112.0]]), 2.0


def _last_rank(losses, ranks, target):
    return ranks[:, -1]


def _at_the_lowest_loss(losses, ranks, target):
    return ranks.gather(1, losses.argmin(dim=1, keepdim=True))[:, 0]


def _nearest_loss(losses, ranks, target):
    return ranks.gather(1, (losses - target).abs().argmin(dim=1, keepdim=True))[:, 0]


def _one_moment_before(losses, ranks, target):
    first = (losses <= target).int().argmax(dim=1, keepdim=True)
    return ranks.gather(1, (first - 1).clamp(min=0))[:, 0]


def _lowest_rank_under(losses, ranks, target):
    return torch.where(losses <= target, ranks, torch.inf).amin(dim=1)


def _moment_for_rank(losses, ranks, target):
    return (losses <= target).int().argmax(dim=1).float()


def _loss_for_rank(losses, ranks, target):
    return losses.gather(1, (losses <= target).int().argmax(dim=1, keepdim=True))[:, 0]


def _never_is_the_start(losses, ranks, target):
    return ranks.gather(1, (losses <= target).int().argmax(dim=1, keepdim=True))[:, 0]


def _strictly_under(losses, ranks, target):
    reached = losses < target
    found = ranks.gather(1, reached.int().argmax(dim=1, keepdim=True))[:, 0]
    return found.masked_fill(~reached.any(dim=1), torch.nan)


def _run_by_run(losses, ranks, target):
    found = []
    for curve, own in zip(losses, ranks, strict=True):
        there = own[curve <= target]
        found.append(there[0] if len(there) else torch.tensor(torch.nan))
    return torch.stack(found)


# -- a correlation within seeds --------------------------------------------------------------------------------------


def within_seed_correlation(ranks: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of ranks and losses, after each seed's mean is taken off both.

    ranks, losses: of A activations with S seeds, shape (S, A). Returns a scalar tensor, shape ().
    """
    x = ranks - ranks.mean(dim=1, keepdim=True)
    y = losses - losses.mean(dim=1, keepdim=True)
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def _ranks_and_losses(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    n_seeds, n_arms = shape
    seed, other = torch.randn(2, n_seeds, 1, dtype=torch.float64, generator=generator)
    arm, second = torch.randn(2, 1, n_arms, dtype=torch.float64, generator=generator)
    noise, more = torch.randn(2, n_seeds, n_arms, dtype=torch.float64, generator=generator)
    ranks = 110 + 2 * seed + arm + 0.8 * noise
    return ranks, 1.5 + 0.03 * (seed + 0.5 * other) - 0.012 * arm + 0.012 * second + 0.01 * more


def _correlation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def _seeds_ignored(ranks, losses):
    return _correlation(ranks, losses)


def _centred_by_arm(ranks, losses):
    return _correlation(ranks - ranks.mean(dim=0), losses - losses.mean(dim=0))


def _mean_of_correlations(ranks, losses):
    return torch.stack([_correlation(x, y) for x, y in zip(ranks, losses, strict=True)]).mean()


def _one_for_each_seed(ranks, losses):
    return torch.stack([_correlation(x, y) for x, y in zip(ranks, losses, strict=True)])


def _of_the_means(ranks, losses):
    return _correlation(ranks.mean(dim=0), losses.mean(dim=0))


def _only_one_centred(ranks, losses):
    return _correlation(ranks - ranks.mean(dim=1, keepdim=True), losses)


def _slope(ranks, losses):
    x = ranks - ranks.mean(dim=1, keepdim=True)
    return (x * losses).sum() / x.square().sum()


def _by_corrcoef(ranks, losses):
    rows = torch.stack([(part - part.mean(dim=1, keepdim=True)).flatten() for part in (ranks, losses)])
    return torch.corrcoef(rows)[0, 1]


# -- a partial correlation -------------------------------------------------------------------------------------------


def partial_correlation(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The correlation of what is left of x and of y when a straight line in z is taken off each.

    x, y, z: shape (N,). Lines have a slope and a height. Returns a scalar tensor, shape ().
    """
    x, y, z = (values - values.mean() for values in (x, y, z))
    x = x - z * (x @ z) / (z @ z)
    y = y - z * (y @ z) / (z @ z)
    return x @ y / ((x @ x) * (y @ y)).sqrt()


def _three_things(n: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    z, x, y = torch.randn(3, n, dtype=torch.float64, generator=generator)
    return 5 + x + 1.5 * z, 2 + y - z + 0.4 * x, 3 + z


def _residual(values: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    values, z = values - values.mean(), z - z.mean()
    return values - z * (values @ z) / (z @ z)


def _not_partial(x, y, z):
    return _correlation(x, y)


def _only_from_x(x, y, z):
    return _correlation(_residual(x, z), y)


def _only_from_y(x, y, z):
    return _correlation(x, _residual(y, z))


def _lines_without_height(x, y, z):
    return _correlation(x - z * (x @ z) / (z @ z), y - z * (y @ z) / (z @ z))


def _differences(x, y, z):
    return _correlation(x - z, y - z)


def _quotients(x, y, z):
    return _correlation(x / z, y / z)


def _not_divided(x, y, z):
    return _correlation(x, y) - _correlation(x, z) * _correlation(y, z)


def _by_three_correlations(x, y, z):
    rest = (1 - _correlation(x, z) ** 2) * (1 - _correlation(y, z) ** 2)
    return _not_divided(x, y, z) / rest.sqrt()


def _by_least_squares(x, y, z):
    design = torch.stack([torch.ones_like(z), z], dim=1)
    left = [values - design @ torch.linalg.lstsq(design, values[:, None]).solution[:, 0] for values in (x, y)]
    return torch.corrcoef(torch.stack(left))[0, 1]


# -- similar layers --------------------------------------------------------------------------------------------------


def two_similarities(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cosine similarity and linear CKA of two layers, in this order.

    x, y: what both hold for the same N tokens, shape (N, D). Cosine: of the two rows of a token, averaged over tokens.
    CKA: |Y^T X|^2 / (|X^T X| |Y^T Y|) with Frobenius norms, after the mean row is taken off each. Returns shape (2,).
    """
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=1).mean()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    cka = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return torch.stack([cosine, cka])


def _two_layers(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    n, width = shape
    first, step = torch.randn(2, n, width, dtype=torch.float64, generator=generator)
    scales = torch.linspace(0.3, 2.0, n, dtype=torch.float64)[:, None]
    # The width gets a mean of its own, so that centring shows.
    return scales * first + 0.7, 0.8 * scales * first + step + 1.2 + 0.3 * generator.initial_seed()


def _rotated() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q
    return x, 3 * x @ rotation + 2


def _centred_cosine(x, y):
    centred = torch.nn.functional.cosine_similarity(x - x.mean(dim=0), y - y.mean(dim=0), dim=1).mean()
    return torch.stack([centred, two_similarities(x, y)[1]])


def _one_long_vector(x, y):
    flat = torch.nn.functional.cosine_similarity(x.flatten(), y.flatten(), dim=0)
    return torch.stack([flat, two_similarities(x, y)[1]])


def _cosine_of_columns(x, y):
    columns = torch.nn.functional.cosine_similarity(x, y, dim=0).mean()
    return torch.stack([columns, two_similarities(x, y)[1]])


def _not_centred(x, y):
    cka = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return torch.stack([two_similarities(x, y)[0], cka])


def _cka_without_square(x, y):
    found = two_similarities(x, y)
    return torch.stack([found[0], found[1].sqrt()])


def _centred_rows(x, y):
    x_, y_ = (part - part.mean(dim=1, keepdim=True) for part in (x, y))
    cka = (y_.T @ x_).square().sum() / ((x_.T @ x_).norm() * (y_.T @ y_).norm())
    return torch.stack([two_similarities(x, y)[0], cka])


def _by_tokens(x, y):
    cosine = ((x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))).mean()
    k, m = ((part - part.mean(dim=0)) @ (part - part.mean(dim=0)).T for part in (x, y))
    return torch.stack([cosine, (k * m).sum() / (k.norm() * m.norm())])


def _by_layer_similarity(x, y):
    return torch.stack([matrix[0, 1] for matrix in layer_similarity([x, y])])


EXERCISES = (
    Exercise(
        name="three_ranks",
        notebook="07_rank_lens",
        statement=r"""
            Three numbers are all called the rank of a matrix that has noise in it. With its singular values $s_1 \ge
            s_2 \ge \dots$, write them in this order:

            $$\exp\Big(-\sum_i p_i \ln p_i\Big) \text{ with } p_i = \frac{s_i}{\sum_j s_j}, \qquad
            \frac{\big(\sum_i s_i^2\big)^2}{\sum_i s_i^4}, \qquad \frac{\sum_i s_i^2}{s_1^2}.$$

            They are the **effective rank**, the **participation ratio** and the **stable rank**. Nothing is centred: a
            weight matrix is no cloud of points.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=three_ranks,
        cases=grid(_steep_matrix, shapes=((9, 5), (6, 8)), word="shape"),
        ladder=ladder(Values(rtol=1e-8, atol=1e-10, because="a decomposition of a small float64 matrix")),
        hints=(
            "`torch.linalg.svdvals(weight)` gives the singular values. The first number takes them as they are, the "
            "other two take their squares.",
            "`torch.special.entr(p)` is -p ln p. Sum it, take `exp()`; `torch.stack([...])` makes one tensor of three.",
        ),
        explanation=r"""
            All three are 1 for a matrix of rank one and $R$ for $R$ equal singular values. Between these ends they
            differ in how much the small values count: the first counts them most, the last asks the largest alone.
            In the package: `effective_rank`, `participation_ratio` and `stable_rank` of `minipolycom.spectral`.
            """,
        bank=(
            WrongAnswer(
                answer=_entropy_of_energies,
                misconception="entropy of the squares",
                says="The first is exactly the effective rank of s², as for features. For weights it is that of s.",
            ),
            WrongAnswer(
                answer=_without_squares,
                misconception="squares left out",
                says="The last two are exactly what s gives in the place of s². They are made of energies.",
            ),
            WrongAnswer(
                answer=lambda weight: three_ranks(weight - weight.mean(dim=0)),
                misconception="centred",
                says="These are exactly the three of the matrix without its mean row. Nothing is centred here.",
            ),
            WrongAnswer(
                answer=lambda weight: three_ranks(weight).flip(0),
                misconception="order reversed",
                says="These are exactly the three from the last to the first.",
            ),
            WrongAnswer(
                answer=_entropy_itself,
                misconception="entropy for its exponential",
                says="The first is exactly the entropy. Its exponential is a number of directions.",
            ),
            WrongAnswer(
                answer=_bits_in_e,
                misconception="bits under exp",
                says="The first is exactly exp of an entropy in bits. Either ln with exp, or log2 with a power of 2.",
            ),
            WrongAnswer(
                answer=_root_of_the_last,
                misconception="norms not squared",
                says="The last is exactly the root of the stable rank: both norms in it are squared.",
            ),
            WrongAnswer(
                answer=lambda weight: three_ranks(weight)[0],
                misconception="the first alone",
                says="This is exactly the effective rank. Three numbers are asked for.",
                fails="shape",
            ),
        ),
        right=(_by_the_package, _by_norms),
    ),
    Exercise(
        name="chance_rank",
        notebook="07_rank_lens",
        statement=r"""
            What effective rank has a matrix that has learnt nothing? For independent entries and many rows and columns
            the answer depends on the shape alone, on $q$ = columns / rows. In units of the number of rows and of the
            entries' variance, the squared singular values follow the law of **Marchenko and Pastur**: with an angle
            $0 < \varphi < \pi$,

            $$\lambda = 1 + q + 2 \sqrt q \cos\varphi, \qquad \text{density} \propto \frac{\sin^2 \varphi}{\lambda}.$$

            With $s = \sqrt\lambda$ and means $\langle \cdot \rangle$ over that law, the effective rank of $D$ values is
            $D$ times a share. Put $p_i = s_i / (D \langle s \rangle)$ into $\exp(-\sum_i p_i \ln p_i)$ and you have

            $$\text{share} = \langle s \rangle \, \exp\Big(-\frac{\langle s \ln s \rangle}{\langle s \rangle}\Big).$$

            Write the share for each $q$, with sums over a few thousand angles in the place of integrals.
            """,
        difficulty=4,
        importance=5,
        minutes=15,
        imports="import math\n\nimport torch",
        reference=chance_rank,
        cases=grid(_some_ratios, shapes=(3, 5), word="K ="),
        ladder=ladder(Values(rtol=3e-5, atol=1e-7, because="a sum over a thousand angles is right to five digits")),
        hints=(
            "Make `q = ratios[:, None]` a column and the angles a row; then everything is a table of K rows, and a "
            "mean is a weighted sum along each.",
            "`angle = torch.linspace(0, math.pi, 2001, dtype=ratios.dtype)`; `weight = sin² / energy`, divided by its "
            "sum along each row. Then `(weight * s).sum(dim=1)` is ⟨s⟩.",
        ),
        explanation=r"""
            At $q \to 0$ (far more rows than columns) all singular values become equal and the share is 1; a square
            matrix has the least. Entries need not be normal, only independent and of one variance. In 128 columns the
            law, which is one of infinite size, is right to a few hundredths of a direction.
            """,
        bank=(
            WrongAnswer(
                answer=_rank_of_energies,
                misconception="of λ for s",
                says="This is exactly the share for λ itself. The rank of weights is that of s, its root.",
            ),
            WrongAnswer(
                answer=_flat_angles,
                misconception="no density",
                says="This is exactly the share with all angles equally likely. Weigh them with sin²φ / λ.",
            ),
            WrongAnswer(
                answer=_without_the_energy,
                misconception="density without 1 / λ",
                says="This is exactly the share for the density sin²φ. It is still to be divided by λ.",
            ),
            WrongAnswer(
                answer=_without_the_root,
                misconception="q for its root",
                says="This is exactly the share at q². Under the cosine stands the root of q.",
            ),
            WrongAnswer(
                answer=_chance_participation,
                misconception="participation ratio",
                says="This is exactly the participation ratio of chance, ⟨λ⟩² / ⟨λ²⟩ = 1 / (1 + q).",
            ),
            WrongAnswer(
                answer=_chance_stable,
                misconception="stable rank",
                says="This is exactly the stable rank of chance, 1 / (1 + √q)². Asked for is the effective rank.",
            ),
            WrongAnswer(
                answer=_entropy_of_the_law,
                misconception="logarithm of the share",
                says="This is exactly the logarithm of the share.",
            ),
            WrongAnswer(
                answer=_mean_left_out,
                misconception="s not divided by its mean",
                says="This is exactly exp(-⟨s ln s⟩). Shares of s add up to 1 only after division by its mean.",
            ),
        ),
        right=(_by_many_values, lambda ratios: torch.cat([chance_rank(one[None]) for one in ratios])),
    ),
    Exercise(
        name="rank_at_loss",
        notebook="07_rank_lens",
        statement=r"""
            A run that learns faster has another rank at the same step for that reason alone. So compare at equal loss:
            the rank of each run at the first moment at which its loss is **at or under** a target. Losses are not
            monotone. A run that never gets there has no such rank, and NaN says so.
            """,
        difficulty=2,
        importance=3,
        minutes=6,
        reference=rank_at_loss,
        cases=grid(_runs_that_arrive, shapes=((3, 9), (5, 14)), word="S, T ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-6, because="a rank is looked up, not computed"),
            Property(
                promise="the first run has the rank 116, the second none, the third 112",
                cases=(Case(label="one of three runs never gets there", make=_one_never_arrives),),
                holds=lambda results: results[0][[0, 2]].tolist() == [116.0, 112.0] and bool(results[0][1].isnan()),
            ),
        ),
        hints=(
            "`losses <= target` is a table of True and False. In each row you look for its first True, and then for "
            "the rank at that place.",
            "`argmax` of zeros and ones is the place of the first one; `ranks.gather(1, place[:, None])` looks it up; "
            "`masked_fill` writes NaN where `.any(dim=1)` says that there is none.",
        ),
        explanation=r"""
            The first crossing belongs to a moment at which the learning rate was still high. Two runs at equal loss
            need not be at equal rest.
            """,
        bank=(
            WrongAnswer(
                answer=_last_rank,
                misconception="equal step",
                says="These are exactly the ranks at the end of each run: equal step, not equal loss.",
            ),
            WrongAnswer(
                answer=_at_the_lowest_loss,
                misconception="lowest loss",
                says="These are exactly the ranks at each run's own lowest loss. The target plays no part in it.",
            ),
            WrongAnswer(
                answer=_nearest_loss,
                misconception="nearest to the target",
                says="These are exactly the ranks where the loss is nearest to the target, from above or below.",
            ),
            WrongAnswer(
                answer=_one_moment_before,
                misconception="one moment too early",
                says="These are exactly the ranks one moment before, where the loss is last above the target.",
            ),
            WrongAnswer(
                answer=_lowest_rank_under,
                misconception="lowest rank under the target",
                says=(
                    "These are exactly the lowest ranks at any moment under the target. Asked for is the first moment."
                ),
            ),
            WrongAnswer(
                answer=_moment_for_rank,
                misconception="place for rank",
                says="These are exactly the places in the row. Look up which rank each run has there.",
            ),
            WrongAnswer(
                answer=_loss_for_rank,
                misconception="loss for rank",
                says="These are exactly the losses at that moment. Asked for are the ranks.",
            ),
            WrongAnswer(
                answer=_never_is_the_start,
                misconception="never taken for the start",
                says="This gives a run that never arrives the rank it started with: argmax of a row without True is 0.",
                fails="property",
            ),
            WrongAnswer(
                answer=_strictly_under,
                misconception="under, not at",
                says="This looks for a loss strictly under the target. Reaching it exactly counts.",
                fails="property",
            ),
        ),
        right=(_run_by_run,),
    ),
    Exercise(
        name="within_seed_correlation",
        notebook="07_rank_lens",
        statement=r"""
            Does a higher rank go along with a lower loss? A seed decides the batches and moves all losses together, so
            take each seed's mean over the activations off both, and correlate what is left, all runs in one:

            $$r = \frac{\sum_{sa} x_{sa}\, y_{sa}}{\sqrt{\sum_{sa} x_{sa}^2 \, \sum_{sa} y_{sa}^2}}, \qquad
            x_{sa} = \text{rank}_{sa} - \overline{\text{rank}}_s, \quad
            y_{sa} = \text{loss}_{sa} - \overline{\text{loss}}_s .$$
            """,
        difficulty=2,
        importance=4,
        minutes=7,
        reference=within_seed_correlation,
        cases=grid(_ranks_and_losses, shapes=((3, 8), (4, 6)), word="S, A ="),
        ladder=ladder(Values(rtol=1e-7, atol=1e-9, because="sums of a few float64 numbers")),
        hints=(
            "Which axis is that of the activations? The mean over it is one number for each seed; `keepdim=True` "
            "keeps it a column.",
            "`x = ranks - ranks.mean(dim=1, keepdim=True)`, the same for y; then sums over all entries.",
        ),
        explanation=r"""
            It is the analogue of a paired difference: what a seed does to all activations alike cannot make a
            correlation, nor hide one.
            """,
        bank=(
            WrongAnswer(
                answer=_seeds_ignored,
                misconception="seeds ignored",
                says="This is exactly the correlation over all runs, with what the seeds have done still in it.",
            ),
            WrongAnswer(
                answer=_centred_by_arm,
                misconception="the wrong mean",
                says=(
                    "This is exactly what is left when each activation's mean is taken off: how one activation's seeds "
                    "differ. Asked for is how activations differ within a seed."
                ),
            ),
            WrongAnswer(
                answer=_mean_of_correlations,
                misconception="mean of correlations",
                says="This is exactly the mean of the seeds' own correlations. All runs go into one.",
            ),
            WrongAnswer(
                answer=_of_the_means,
                misconception="correlation of means",
                says="This is exactly the correlation of the means over seeds, which hides what the runs scatter.",
            ),
            WrongAnswer(
                answer=_only_one_centred,
                misconception="one of the two not centred",
                says="This is exactly what comes out if the losses keep their seeds' means.",
            ),
            WrongAnswer(
                answer=lambda ranks, losses: within_seed_correlation(ranks, losses).square(),
                misconception="squared",
                says="This is exactly r². Its sign is the question.",
            ),
            WrongAnswer(
                answer=lambda ranks, losses: -within_seed_correlation(ranks, losses),
                misconception="sign",
                says="This is exactly minus the correlation. A lower loss is better; r says what is, not what is good.",
            ),
            WrongAnswer(
                answer=_slope,
                misconception="slope for correlation",
                says="This is exactly the slope of the losses over the ranks. A correlation has no unit.",
            ),
            WrongAnswer(
                answer=_one_for_each_seed,
                misconception="one number for each seed",
                says="These are exactly the correlations seed by seed. One number for all is asked for.",
                fails="shape",
            ),
        ),
        right=(_by_corrcoef,),
    ),
    Exercise(
        name="partial_correlation",
        notebook="07_rank_lens",
        statement=r"""
            Two things may go together because both follow a third. Take the third one out: subtract from $x$ the
            straight line in $z$ that fits it best, slope and height, from $y$ likewise, and correlate the rests.
            """,
        difficulty=3,
        importance=4,
        minutes=8,
        reference=partial_correlation,
        cases=grid(_three_things, shapes=(9, 16), word="N ="),
        ladder=ladder(Values(rtol=1e-7, atol=1e-9, because="sums of a few float64 numbers")),
        hints=(
            "With the means taken off x, y and z, the height of each line is gone and its slope is (x · z) / (z · z).",
            "`x - z * (x @ z) / (z @ z)` is what is left of x. It has no correlation with z.",
        ),
        explanation=r"""
            It equals $(r_{xy} - r_{xz} r_{yz}) / \sqrt{(1 - r_{xz}^2)(1 - r_{yz}^2)}$. It takes out a straight line in
            what was measured, and nothing else: a third thing that nobody wrote down stays in.
            """,
        bank=(
            WrongAnswer(
                answer=_not_partial,
                misconception="z ignored",
                says="This is exactly the plain correlation of x and y.",
            ),
            WrongAnswer(
                answer=_only_from_x,
                misconception="z taken from x alone",
                says="This is exactly what comes out with z taken off x and not off y: the semipartial correlation.",
            ),
            WrongAnswer(
                answer=_only_from_y,
                misconception="z taken from y alone",
                says="This is exactly what comes out with z taken off y and not off x: the semipartial correlation.",
            ),
            WrongAnswer(
                answer=_lines_without_height,
                misconception="lines through the origin",
                says="This is exactly the result with lines through the origin. They have a height, too.",
            ),
            WrongAnswer(
                answer=_differences,
                misconception="z subtracted as it is",
                says="This is exactly the correlation of x - z and y - z. Each has a slope of its own to z.",
            ),
            WrongAnswer(
                answer=_quotients,
                misconception="divided by z",
                says=(
                    "This is exactly the correlation of x / z and y / z, which have z in common where x and y had not."
                ),
            ),
            WrongAnswer(
                answer=_not_divided,
                misconception="what is left not divided",
                says="This is exactly r_xy - r_xz r_yz, still to be divided by the sizes of the rests.",
            ),
        ),
        right=(_by_three_correlations, _by_least_squares),
    ),
    Exercise(
        name="two_similarities",
        notebook="07_rank_lens",
        statement=r"""
            How alike are two layers? For the same $N$ tokens let the rows of $X$ and $Y$ be what each layer holds.
            Write two answers, in this order: the mean over tokens of the cosine of the two rows, and **linear CKA**,

            $$\frac{\lVert Y^\top X \rVert^2}{\lVert X^\top X \rVert \, \lVert Y^\top Y \rVert},$$

            with Frobenius norms, after the mean row has been taken off each matrix.
            """,
        difficulty=3,
        importance=4,
        minutes=8,
        reference=two_similarities,
        cases=grid(_two_layers, shapes=((9, 4), (7, 6)), word="shape"),
        ladder=ladder(
            Values(rtol=1e-8, atol=1e-10, because="sums of a few float64 numbers"),
            Property(
                promise="a rotation, a factor and a shift do not change the second answer from 1",
                cases=(Case(label="a layer and its rotation", make=_rotated),),
                holds=lambda results: abs(float(results[0][1]) - 1) < 1e-9,
            ),
        ),
        hints=(
            "`torch.nn.functional.cosine_similarity(x, y, dim=1)` is one number for each token. It is taken before "
            "anything is centred.",
            "`x - x.mean(dim=0)` takes the mean row off. `(y.T @ x).square().sum()` is a Frobenius norm squared, "
            "`(x.T @ x).norm()` one that is not.",
        ),
        explanation=r"""
            Cosine asks whether two layers hold the same numbers in the same places, CKA whether they hold the same up
            to rotation, shift and scale. In a residual stream places mean the same in every layer, so cosine is a fair
            question there; and it sees what all tokens share, which CKA takes off. In the package: `layer_similarity`.
            """,
        bank=(
            WrongAnswer(
                answer=_centred_cosine,
                misconception="centred before the cosine",
                says="The first is exactly the cosine after centring. Only CKA is centred.",
            ),
            WrongAnswer(
                answer=_one_long_vector,
                misconception="one cosine for all",
                says="The first is exactly the cosine of both matrices as long vectors. Long rows count more there.",
            ),
            WrongAnswer(
                answer=_cosine_of_columns,
                misconception="cosine of columns",
                says="The first is exactly the mean cosine of columns. Tokens are rows.",
            ),
            WrongAnswer(
                answer=_not_centred,
                misconception="CKA not centred",
                says="The second is exactly what comes out with the mean rows left in.",
            ),
            WrongAnswer(
                answer=_centred_rows,
                misconception="each row centred",
                says=(
                    "The second is exactly what comes out when each row's own mean is taken off. Take off the mean row."
                ),
            ),
            WrongAnswer(
                answer=_cka_without_square,
                misconception="numerator not squared",
                says="The second is exactly the root of CKA: the norm above is squared.",
            ),
            WrongAnswer(
                answer=lambda x, y: two_similarities(x, y).flip(0),
                misconception="order",
                says="These are exactly CKA, then cosine. Cosine comes first.",
            ),
        ),
        right=(_by_tokens, _by_layer_similarity),
    ),
)
