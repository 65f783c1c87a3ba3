"""Exercises of 14_bridge: a correlation and its chance, where rank comes from, changing it, and a rule to decide by."""

import itertools

import torch
from scipy.stats import spearmanr

from minipolycom.learn.checks import Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.reshaping import absorbed as package_absorbed
from minipolycom.reshaping import matrix_of

# -- a correlation, and what chance makes of it --------------------------------------------------------------------


def spearman(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Spearman's correlation: how nearly the order of x is the order of y.

    x, y: shape (N,), without ties. Returns one number, as a tensor of shape () and of the dtype of x.
    """
    places_x, places_y = (values.argsort().argsort().to(x.dtype) for values in (x, y))
    return torch.corrcoef(torch.stack([places_x, places_y]))[0, 1]


def _two_columns(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x, noise = torch.randn(2, n, dtype=torch.float64, generator=generator)
    return x.exp(), (x + noise).exp()


def _places(values: torch.Tensor) -> torch.Tensor:
    return values.argsort().argsort().double()


def _pearson(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.corrcoef(torch.stack([x, y]))[0, 1]


def _concordant(x, y):
    pairs = torch.tensor(list(itertools.combinations(range(len(x)), 2))).T
    return ((x[pairs[0]] - x[pairs[1]]) * (y[pairs[0]] - y[pairs[1]])).sign().mean()


def _by_squares(x, y):
    n = len(x)
    return 1 - 6 * (_places(x) - _places(y)).square().sum() / (n * (n**2 - 1))


def _by_scipy(x, y):
    return torch.tensor(float(spearmanr(x.numpy(), y.numpy()).statistic), dtype=x.dtype)


def shuffled_interval(x: torch.Tensor, y: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """Between which bounds Spearman's correlation lies when chance alone decides which y belongs to which x.

    x, y: shape (N,), without ties. orders: P ways to put the indices 0 to N - 1, shape (P, N).
    Returns shape (2,): of the P correlations of x with y[order], the 2.5 % and the 97.5 % quantile.
    """
    places_x, places_y = (values.argsort().argsort().to(x.dtype) for values in (x, y))
    places_x, places_y = ((places - places.mean()) / places.std(correction=0) for places in (places_x, places_y))
    correlations = (places_y[orders] * places_x).mean(dim=1)
    return correlations.quantile(torch.tensor([0.025, 0.975], dtype=x.dtype))


def _columns_and_orders(
    shape: tuple[int, int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, p = shape
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(p)])
    return (*_two_columns(n, generator), orders)


def _dealt(x: torch.Tensor, y: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """All shuffled correlations."""
    return torch.stack([spearman(x, y[order]) for order in orders])


def _quantiles(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return values.quantile(torch.tensor([low, high], dtype=values.dtype))


def _both_shuffled(x, y, orders):
    return _quantiles(torch.stack([spearman(x[order], y[order]) for order in orders]), 0.025, 0.975)


def _two_errors(x, y, orders):
    values = _dealt(x, y, orders)
    return torch.stack([values.mean() - 2 * values.std(), values.mean() + 2 * values.std()])


def _of_the_values(x, y, orders):
    return _quantiles(torch.stack([_pearson(x, y[order]) for order in orders]), 0.025, 0.975)


def _around_the_observed(x, y, orders):
    return shuffled_interval(x, y, orders) + spearman(x, y)


# -- where rank comes from -----------------------------------------------------------------------------------------


def hidden_covariance(rho: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """The covariance of hidden units that apply a1 x + a2 x² + a3 x³ to normal inputs.

    rho: correlations of the inputs, each of mean 0 and variance 1, shape (F, F). coefficients: (a1, a2, a3).
    Returns shape (F, F).
    """
    a1, a2, a3 = coefficients
    return (a1 + 3 * a3) ** 2 * rho + 2 * a2**2 * rho**2 + 6 * a3**2 * rho**3


def _correlations(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    width, r = shape
    rows = torch.nn.functional.normalize(torch.randn(width, r, dtype=torch.float64, generator=generator), dim=1)
    return rows @ rows.T, 0.5 + torch.rand(3, dtype=torch.float64, generator=generator)


def _kernel(e1, e2, e3, e0=None):
    """The sum of e_k rho^k, each e_k a function of the coefficients."""

    def answer(rho, coefficients):
        a = tuple(coefficients)
        constant = torch.zeros_like(rho) if e0 is None else e0(*a) * torch.ones_like(rho)
        return constant + e1(*a) * rho + e2(*a) * rho**2 + e3(*a) * rho**3

    return answer


def _matrix_powers(rho, coefficients):
    a1, a2, a3 = coefficients
    return (a1 + 3 * a3) ** 2 * rho + 2 * a2**2 * rho @ rho + 6 * a3**2 * rho @ rho @ rho


def _by_moments(rho, coefficients):
    # Isserlis: E[x³y] = 3 rho, E[x²y²] - 1 = 2 rho², E[x³y³] = 9 rho + 6 rho³
    a1, a2, a3 = coefficients
    odd = a1 * a1 * rho + 2 * a1 * a3 * 3 * rho + a3 * a3 * (9 * rho + 6 * rho**3)
    return odd + a2 * a2 * 2 * rho**2


# -- changing it ---------------------------------------------------------------------------------------------------


def reshaping_matrix(covariance: torch.Tensor, sigma: float) -> torch.Tensor:
    """The symmetric matrix W that raises or lowers the rank of hidden rows h W, and can be taken back.

    covariance: of the rows h, shape (F, F). sigma: the exponent; below 0 raises the rank.
    Returns W = c V diag(s^sigma) V^T, shape (F, F): V are the eigenvectors of the covariance, s the roots of its
    eigenvalues, those under 1e-3 times the largest raised to that, and c is such that h W has the total variance of h.
    """
    eigenvalues, axes = torch.linalg.eigh(covariance)
    s = eigenvalues.clamp_min(1e-6 * eigenvalues[-1]).sqrt()
    w = axes @ torch.diag(s**sigma) @ axes.T
    return w * (covariance.trace() / (w @ covariance @ w).trace()).sqrt()


def _covariance(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    width, sigma = shape
    rows = torch.randn(3 * width, width - 1, dtype=torch.float64, generator=generator)
    mixing = torch.randn(width - 1, width, dtype=torch.float64, generator=generator)  # one direction holds nothing
    return torch.cov(3 * (rows @ mixing).T).clone(), sigma


def _raised_sizes(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    eigenvalues, axes = torch.linalg.eigh(covariance)
    return eigenvalues.clamp_min(1e-6 * eigenvalues[-1]).sqrt(), axes


def _unscaled(covariance, sigma):
    s, axes = _raised_sizes(covariance)
    return axes @ torch.diag(s**sigma) @ axes.T


def _scaled(w: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    return w * (covariance.trace() / (w @ covariance @ w).trace()).sqrt()


def _of_eigenvalues(covariance, sigma):
    return reshaping_matrix(covariance, 2 * sigma)


def _floor_on_eigenvalues(covariance, sigma):
    eigenvalues, axes = torch.linalg.eigh(covariance)
    s = eigenvalues.clamp_min(1e-3 * eigenvalues[-1]).sqrt()
    return _scaled(axes @ torch.diag(s**sigma) @ axes.T, covariance)


def _axes_as_rows(covariance, sigma):
    s, axes = _raised_sizes(covariance)
    return _scaled(axes.T @ torch.diag(s**sigma) @ axes, covariance)


def _scale_not_rooted(covariance, sigma):
    w = _unscaled(covariance, sigma)
    return w * covariance.trace() / (w @ covariance @ w).trace()


def _not_turned_back(covariance, sigma):
    s, axes = _raised_sizes(covariance)
    w = axes @ torch.diag(s**sigma)
    return w * (covariance.trace() / (w.T @ covariance @ w).trace()).sqrt()


def _new_covariance(covariance, sigma):
    w = reshaping_matrix(covariance, sigma)
    return w @ covariance @ w


def absorbed(down: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The matrix that takes the place of `down` once the hidden rows h have become h W, so that nothing changes.

    down: shape (D, F); it is applied as h @ down.T. w: shape (F, F), invertible, not always symmetric.
    Returns shape (D, F).
    """
    return down @ torch.linalg.inv(w).T


def _down_and_matrix(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    d, width = shape
    w = torch.eye(width, dtype=torch.float64) + 0.3 * torch.randn(
        width, width, dtype=torch.float64, generator=generator
    )
    return torch.randn(d, width, dtype=torch.float64, generator=generator), w


# -- a rule to decide by -------------------------------------------------------------------------------------------


def decide(raised: torch.Tensor, lowered: torch.Tensor) -> torch.Tensor:
    """The verdict of N experiments on "a higher rank trains to a lower loss, and a lower rank to a higher one".

    raised, lowered: intervals (low, high) of the loss with a raised and with a lowered rank, minus that of each of C
    controls, shape (N, C, 2). Returns shape (N,), of the same dtype:
    1 if, against every control, raised lies wholly below 0 and lowered wholly above 0;
    -1 if, against every control, raised lies wholly above 0, or against every control lowered wholly below 0;
    0, undecided, in all other cases.
    """
    holds = (raised[..., 1] < 0).all(-1) & (lowered[..., 0] > 0).all(-1)
    refuted = (raised[..., 0] > 0).all(-1) | (lowered[..., 1] < 0).all(-1)
    return holds.to(raised.dtype) - refuted.to(raised.dtype)


def _experiments(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Every combination of where two intervals lie against two controls, and some more, in random order."""
    sides = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)), dtype=torch.float64)
    chosen = torch.cat([sides, sides[torch.randint(len(sides), (n,), generator=generator)]])
    chosen = chosen[torch.randperm(len(chosen), generator=generator)]
    middle = chosen * (2 + torch.rand(chosen.shape, dtype=torch.float64, generator=generator))
    middle = middle + 0.4 * (torch.rand(chosen.shape, dtype=torch.float64, generator=generator) - 0.5)
    intervals = torch.stack([middle - 1, middle + 1], dim=-1)
    return intervals[:, :2].clone(), intervals[:, 2:].clone()


def _rule(holds, refuted):
    """A rule by two conditions on (raised, lowered), N answers each."""

    def answer(raised, lowered):
        return holds(raised, lowered).to(raised.dtype) - refuted(raised, lowered).to(raised.dtype)

    return answer


def _holds(raised, lowered):
    return (raised[..., 1] < 0).all(-1) & (lowered[..., 0] > 0).all(-1)


def _refuted(raised, lowered):
    return (raised[..., 0] > 0).all(-1) | (lowered[..., 1] < 0).all(-1)


def _one_by_one(raised, lowered):
    verdicts = []
    for up, down in zip(raised, lowered, strict=True):
        if all(high < 0 for _, high in up) and all(low > 0 for low, _ in down):
            verdicts.append(1.0)
        elif all(low > 0 for low, _ in up) or all(high < 0 for _, high in down):
            verdicts.append(-1.0)
        else:
            verdicts.append(0.0)
    return torch.tensor(verdicts, dtype=raised.dtype)


EXERCISES = (
    Exercise(
        name="spearman",
        notebook="14_bridge",
        statement=r"""
            Do two numbers go together over the eight activations? With so few, and scales that mean nothing, only the
            order counts. Replace each value by its **place** in the sorted column, 0 for the smallest, and take the
            ordinary correlation of the places: that is **Spearman's correlation**. 1: the same order; −1: the opposite
            one.
            """,
        difficulty=2,
        importance=4,
        minutes=6,
        reference=spearman,
        cases=grid(_two_columns, shapes=(5, 9), word="N ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-9, because="places are small whole numbers, and all arithmetic is float64"),
        ),
        hints=(
            "`x.argsort()` says which entry comes at each place. What you need is the place of each entry: sort again.",
            "`x.argsort().argsort()`, then `torch.corrcoef(torch.stack([...]))[0, 1]`. Mind the dtype.",
        ),
        explanation="""
            `argsort` of a permutation is its inverse: it turns "who stands at place k" into "where does k stand".
            Without ties there is a closed form, 1 − 6 Σ d² / (N (N² − 1)), with d the differences of places.
            """,
        bank=(
            WrongAnswer(
                answer=_pearson,
                misconception="values for places",
                says="This is exactly Pearson's correlation, of the values themselves. Take their places first.",
            ),
            WrongAnswer(
                answer=lambda x, y: _pearson(x.argsort().double(), y.argsort().double()),
                misconception="one argsort",
                says=(
                    "This is exactly the correlation of x.argsort() and y.argsort(), the indices of the sorted "
                    "entries. The place of each entry is the argsort of that."
                ),
            ),
            WrongAnswer(
                answer=lambda x, y: -spearman(x, y),
                misconception="one order upside down",
                says="This is exactly the right number with its sign turned: one of the two columns counts downwards.",
            ),
            WrongAnswer(
                answer=_concordant,
                misconception="Kendall's correlation",
                says="This is exactly Kendall's correlation, of the signs over all pairs. Spearman's is of the places.",
            ),
            WrongAnswer(
                answer=lambda x, y: spearman(x, y).square(),
                misconception="squared",
                says="This is exactly the square, a share of variance. Asked for is the correlation with its sign.",
            ),
            WrongAnswer(
                answer=lambda x, y: torch.corrcoef(torch.stack([_places(x), _places(y)])),
                misconception="the whole matrix",
                says="This is exactly the 2 × 2 matrix of correlations. Asked for is the entry off its diagonal.",
                fails="shape",
            ),
        ),
        right=(_by_squares, _by_scipy),
    ),
    Exercise(
        name="shuffled_interval",
        notebook="14_bridge",
        statement=r"""
            Eight activations are eight points. How strong must a correlation of eight be before it says anything?
            Suppose that rank and loss have nothing to do with each other. Then any activation might as well have had
            any other's loss. So deal the losses out in other orders, take Spearman's correlation each time, and see
            between which bounds 95 % of the correlations lie. (Notebook 07 asks how often luck is as strong as what was
            found. This asks what could have been found at all.)
            """,
        difficulty=3,
        importance=5,
        minutes=10,
        reference=shuffled_interval,
        cases=grid(_columns_and_orders, shapes=((6, 90), (9, 150)), word="N, P ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-8, because="quantiles of float64 correlations lose nothing"),
        ),
        hints=(
            "`y[orders]` has shape (P, N): every order at once. The correlation of the places is needed row by row.",
            """
            Set the places of both columns to mean 0 and standard deviation 1 (`std(correction=0)`). Their correlation
            is then the mean of the products, and `.quantile(...)` takes a tensor of two probabilities.
            """,
        ),
        explanation=r"""
            No normal distribution and no degrees of freedom were needed: the orders themselves are the null hypothesis.
            For eight there are $8! = 40320$, so the notebook takes *all*, and nothing is left to luck. The interval is
            about $\pm 0.7$: among eight names, chance alone makes correlations that one would call strong.
            """,
        bank=(
            WrongAnswer(
                answer=_both_shuffled,
                misconception="both columns shuffled",
                says="This is exactly what comes of giving x and y the same order: the pairs stay.",
            ),
            WrongAnswer(
                answer=lambda x, y, orders: _quantiles(_dealt(x, y, orders), 0.05, 0.95),
                misconception="90 %",
                says="These are exactly the 5 % and 95 % quantiles, which hold 90 %. 95 % leave 2.5 % on each side.",
            ),
            WrongAnswer(
                answer=lambda x, y, orders: torch.stack(_dealt(x, y, orders).aminmax()),
                misconception="range for interval",
                says="These are exactly the lowest and the highest of all. Asked for is where 95 % of them lie.",
            ),
            WrongAnswer(
                answer=_two_errors,
                misconception="normal bounds",
                says="This is exactly mean ∓ two standard deviations. Take the quantiles: this is no bell curve.",
            ),
            WrongAnswer(
                answer=_of_the_values,
                misconception="values for places",
                says="These are exactly the bounds of Pearson's correlation. Shuffle the places, not the values.",
            ),
            WrongAnswer(
                answer=_around_the_observed,
                misconception="around the observed one",
                says=(
                    "This is exactly the interval, moved to the observed correlation. It says what chance makes, so it "
                    "lies around 0; the observed one is compared with it."
                ),
            ),
            WrongAnswer(
                answer=lambda x, y, orders: shuffled_interval(x, y, orders).flip(0),
                misconception="upper end first",
                says="These are exactly the right ends in the opposite order: the lower one comes first.",
            ),
            WrongAnswer(
                answer=_dealt,
                misconception="all correlations",
                says="These are exactly the P correlations. Asked for are two of their quantiles.",
                fails="shape",
            ),
        ),
        right=(lambda x, y, orders: _quantiles(_dealt(x, y, orders), 0.025, 0.975),),
    ),
    Exercise(
        name="rank_after",
        notebook="14_bridge",
        statement=r"""
            Inputs with 8 free directions $z$, and hidden units $f(x)$ with $f(x) = x + x^2 + x^3$ and $x = a \cdot z$,
            each unit with weights $a$ of its own. A unit's value is a polynomial in $z_1, \dots, z_8$. So the matrix of
            hidden values, many tokens by many units, has no more linearly independent columns than there are different
            monomials: the 8 of degree 1, the $z_i z_j$, and the $z_i z_j z_k$. How many are these together?
            """,
        difficulty=2,
        importance=4,
        minutes=5,
        imports="",
        reference=164,
        ladder=value_ladder(Values(rtol=0.001, atol=0, because="it is a whole number")),
        hints=(
            r"$z_1 z_2$ and $z_2 z_1$ are one monomial, and $z_1^2$ is one, too: choose with repetition.",
            r"Of degree $p$ in $r$ variables there are $\binom{r+p-1}{p}$. Add those for $p = 1, 2, 3$.",
        ),
        explanation=r"""
            $8 + 36 + 120 = 164$. So a nonlinearity makes rank out of nothing but products of what is there: $r$ of
            degree 1, about $r^2/2$ of degree 2 and $r^3/6$ of degree 3. PolyNorm divides each power by a number of the
            *row*, which scales rows and makes no new columns. ReLU is no polynomial, and has no such ceiling.
            """,
        bank=(
            WrongAnswer(
                answer=584,
                misconception="order counted",
                says="This is exactly 8 + 64 + 512, with z₁z₂ and z₂z₁ counted as two.",
            ),
            WrongAnswer(
                answer=92,
                misconception="distinct factors only",
                says="This is exactly 8 + 28 + 56, without squares such as z₁² and z₁²z₂.",
            ),
            WrongAnswer(
                answer=24,
                misconception="powers of the variables only",
                says="This is exactly three powers of eight variables. (a · z)² has the products zᵢzⱼ in it, too.",
            ),
            WrongAnswer(
                answer=120,
                misconception="the highest power alone",
                says="This is exactly the number of monomials of degree 3. Those of degree 1 and 2 are there as well.",
            ),
            WrongAnswer(
                answer=165,
                misconception="the constant counted",
                says="This is exactly one more: f has no constant term.",
            ),
            WrongAnswer(
                answer=44,
                misconception="the cube left out",
                says="This is exactly degree 1 and 2 together. The cube adds the products of three.",
            ),
        ),
        right=(164.0,),
    ),
    Exercise(
        name="hidden_covariance",
        notebook="14_bridge",
        statement=r"""
            Counting says which directions exist, not how large they are. For normal inputs that can be computed. Let
            $x, y$ be the inputs of two units, of variance 1 and correlation $\rho$. Three facts about such a pair
            (Hermite polynomials in disguise): $x$, $x^2 - 1$ and $x^3 - 3x$ are uncorrelated with each other, also
            across the two units, and

            $$E[x\,y] = \rho, \qquad E[(x^2-1)(y^2-1)] = 2\rho^2, \qquad E[(x^3-3x)(y^3-3y)] = 6\rho^3.$$

            Write the covariance of $f(x)$ and $f(y)$ for $f(x) = a_1 x + a_2 x^2 + a_3 x^3$, for all pairs of $F$ units
            at once.
            """,
        difficulty=3,
        importance=5,
        minutes=12,
        reference=hidden_covariance,
        cases=grid(_correlations, shapes=((4, 2), (6, 3)), word="F, r ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-8, because="a polynomial of float64 numbers"),
        ),
        hints=(
            r"Write $f$ in the three: $x^3 = (x^3 - 3x) + 3x$ and $x^2 = (x^2 - 1) + 1$. What stands before $x$ then?",
            r"$f = (a_1 + 3a_3)\,x + a_2 (x^2-1) + a_3 (x^3 - 3x) + a_2$. A constant has no covariance; all powers of "
            r"$\rho$ are taken entry by entry.",
        ),
        explanation=r"""
            $(a_1 + 3a_3)^2 \rho + 2a_2^2 \rho^2 + 6a_3^2 \rho^3$. Look at the cube alone, $a_3 = 1$: $9\rho + 6\rho^3$.
            **Three fifths of a cube are linear**, and lie in the directions that were there before. The square has
            no linear part at all. That a power makes new directions is one thing; how much of it goes there is another.
            """,
        bank=(
            WrongAnswer(
                answer=_kernel(lambda a, b, c: a**2, lambda a, b, c: 2 * b**2, lambda a, b, c: 6 * c**2),
                misconception="the cube's linear part forgotten",
                says="This is exactly a₁²ρ + 2a₂²ρ² + 6a₃²ρ³. x³ is not x³ − 3x: it has 3x in it.",
            ),
            WrongAnswer(
                answer=_kernel(lambda a, b, c: a**2 + 9 * c**2, lambda a, b, c: 2 * b**2, lambda a, b, c: 6 * c**2),
                misconception="the mixed term forgotten",
                says="This is exactly (a₁² + 9a₃²)ρ + …. The two linear parts add up first, and then are squared.",
            ),
            WrongAnswer(
                answer=_kernel(lambda a, b, c: (a + 3 * c) ** 2, lambda a, b, c: b**2, lambda a, b, c: c**2),
                misconception="without 2 and 6",
                says="This is exactly the sum without the factors 2 and 6, the variances of x² − 1 and x³ − 3x.",
            ),
            WrongAnswer(
                answer=_kernel(
                    lambda a, b, c: (a + 3 * c) ** 2,
                    lambda a, b, c: 2 * b**2,
                    lambda a, b, c: 6 * c**2,
                    e0=lambda a, b, c: b**2,
                ),
                misconception="the mean not taken off",
                says="This is exactly E[f(x) f(y)], with a₂² in every entry. A covariance is without the means.",
            ),
            WrongAnswer(
                answer=_matrix_powers,
                misconception="matrix powers",
                says="This is exactly the sum with matrix products ρ@ρ. The powers are of each entry by itself.",
            ),
            WrongAnswer(
                answer=_kernel(lambda a, b, c: a + 3 * c, lambda a, b, c: 2 * b, lambda a, b, c: 6 * c),
                misconception="coefficients not squared",
                says="This is exactly the sum with the coefficients unsquared. Each stands once in f(x), once in f(y).",
            ),
            WrongAnswer(
                answer=lambda rho, coefficients: hidden_covariance(rho, coefficients.flip(0)),
                misconception="highest power first",
                says="This is exactly the covariance for coefficients in the opposite order. Here a₁ comes first.",
            ),
        ),
        right=(_by_moments,),
    ),
    Exercise(
        name="reshaping_matrix",
        notebook="14_bridge",
        statement=r"""
            Now change a rank and *nothing else*. Hidden rows $h$ get a matrix behind them, $h \mapsto hW$, which
            stretches each of their own axes by a power of its size. It is the filter of notebook 12 with two
            differences. It must not lose anything: directions smaller than a thousandth of the largest count as that
            thousandth, so that $W$ has an inverse. And it must not change the size: the trace of the covariance $WCW$
            is that of $C$.
            """,
        difficulty=3,
        importance=5,
        minutes=12,
        reference=reshaping_matrix,
        cases=grid(_covariance, shapes=((4, -0.5), (6, 0.7)), word="F, sigma ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-8, because="the axes of float64 matrices, whose sizes lie far apart"),
            Property(
                promise="an exponent of 0 changes nothing",
                cases=(
                    Case(
                        label="sigma = 0",
                        make=lambda: _covariance((4, 0.0), torch.Generator().manual_seed(2)),
                    ),
                ),
                holds=lambda results: close(torch.eye(4).double(), results[0], rtol=0, atol=1e-9),
            ),
        ),
        hints=(
            "`torch.linalg.eigh` gives eigenvalues in rising order. A thousandth in size is a millionth in eigenvalue.",
            "Make W without c first; then `w @ covariance @ w` is the new covariance. c multiplies W once, it twice.",
        ),
        explanation=r"""
            $W = c\,V \mathrm{diag}(s^\sigma) V^\top$. The eigenvalues become $s^{2 + 2\sigma}$ up to a factor: at
            $\sigma = -1$ all that are not under the floor are equal, the highest rank that there is.
            """,
        bank=(
            WrongAnswer(
                answer=_unscaled,
                misconception="total variance not kept",
                says="This is exactly W without c: the rows change their size together with their rank.",
            ),
            WrongAnswer(
                answer=_of_eigenvalues,
                misconception="eigenvalues for sizes",
                says="This is exactly the power of the eigenvalues s². The size of a direction is their root.",
            ),
            WrongAnswer(
                answer=lambda covariance, sigma: reshaping_matrix(covariance, -sigma),
                misconception="sign of the exponent",
                says="This is exactly W with the exponent −sigma.",
            ),
            WrongAnswer(
                answer=_floor_on_eigenvalues,
                misconception="floor on the eigenvalues",
                says="This is exactly the floor at a thousandth of the largest eigenvalue. For sizes, it is 1e-6.",
            ),
            WrongAnswer(
                answer=_axes_as_rows,
                misconception="axes taken as rows",
                says="This is exactly V^T diag V. `eigh` gives the eigenvectors as columns: V diag V^T.",
            ),
            WrongAnswer(
                answer=_scale_not_rooted,
                misconception="scale without a root",
                says="This is exactly W times the quotient of the traces. W stands twice in W C W: take the root.",
            ),
            WrongAnswer(
                answer=_not_turned_back,
                misconception="not turned back",
                says="This is exactly c V diag: the rows in the coordinates of their axes. V^T turns them back.",
            ),
            WrongAnswer(
                answer=_new_covariance,
                misconception="the covariance that comes out",
                says="This is exactly W C W, the covariance behind the filter. Asked for is W.",
            ),
        ),
        right=(matrix_of,),
    ),
    Exercise(
        name="absorbed",
        notebook="14_bridge",
        statement=r"""
            Behind the activation stands another matrix, $h \mapsto h\,D^\top$ (`down`, $D \times F$; as in every
            `nn.Linear`, rows are multiplied by its transpose). Now rows are $hW$. Which matrix in the place of `down`
            makes the layer give *exactly what it gave before*, for every $h$?
            """,
        difficulty=2,
        importance=5,
        minutes=6,
        reference=absorbed,
        cases=grid(_down_and_matrix, shapes=((2, 4), (3, 6)), word="D, F ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-8, because="the inverse of a small float64 matrix keeps ten digits"),
        ),
        hints=(
            r"Look for $D'$ with $h W D'^\top = h D^\top$, so $W D'^\top = D^\top$.",
            r"$D'^\top = W^{-1} D^\top$. Transpose both sides.",
        ),
        explanation=r"""
            $D' = D\,W^{-\top}$. It always exists. So every rank that a filter can give to a hidden layer is to be had
            *without changing one prediction*, and the effective rank of a hidden layer is not a property of what the
            network computes.
            """,
        bank=(
            WrongAnswer(
                answer=lambda down, w: down @ torch.linalg.inv(w),
                misconception="transpose forgotten",
                says="This is exactly D W⁻¹. The rows meet D transposed, so W⁻¹ comes out transposed, too.",
            ),
            WrongAnswer(
                answer=lambda down, w: down @ w.T,
                misconception="W a second time",
                says="This is exactly D Wᵀ, which applies W once more. It has to be taken back.",
            ),
            WrongAnswer(
                answer=lambda down, w: down @ w,
                misconception="W for its inverse transposed",
                says="This is exactly D W. It would be right for an orthogonal W, whose inverse is its transpose.",
            ),
            WrongAnswer(
                answer=lambda down, w: down,
                misconception="unchanged",
                says="This is exactly down as it was: then W changes what the layer gives.",
            ),
            WrongAnswer(
                answer=lambda down, w: (down @ torch.linalg.inv(w).T).T,
                misconception="result transposed",
                says="This is exactly the right matrix, transposed. `down` has the shape (D, F).",
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda down, w: down / w.diagonal(),
                misconception="diagonal alone",
                says="This is exactly down over the diagonal of W, as if W did not mix the units.",
            ),
        ),
        right=(package_absorbed, lambda down, w: torch.linalg.lstsq(w, down.T).solution.T),
    ),
    Exercise(
        name="decide",
        notebook="14_bridge",
        statement=r"""
            The hypothesis: *a higher rank of the hidden rows trains to a lower loss, a lower rank to a higher one, and
            it is the rank that does it*. The experiment gives intervals of differences in loss, with a raised rank and
            with a lowered one, each against **two controls**: nothing behind the activation, and a map that mixes the
            units and leaves every rank as it is. Write down, before anything has run, what will count as what.
            """,
        difficulty=2,
        importance=5,
        minutes=6,
        reference=decide,
        cases=grid(_experiments, shapes=(3, 9), word="more experiments:"),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-6, because="a verdict is 1, 0 or -1"),
        ),
        hints=(
            "An interval lies wholly below 0 if its upper end does: `raised[..., 1] < 0`, of shape (N, C).",
            "`.all(-1)` asks all controls. Then `holds.to(raised.dtype) - refuted.to(raised.dtype)`.",
        ),
        explanation="""
            Both predictions must come true for the hypothesis to hold, one failure is enough to refute it, and whatever
            a map without any effect on rank brings about as well is not the rank's doing. Most small experiments end
            at 0, and that is what they are then allowed to say.
            """,
        bank=(
            WrongAnswer(
                answer=lambda raised, lowered: decide(lowered, raised),
                misconception="raised and lowered exchanged",
                says="This is exactly the verdict with the two exchanged. A lower loss is a difference below 0.",
            ),
            WrongAnswer(
                answer=lambda raised, lowered: decide(raised[:, :1], lowered[:, :1]),
                misconception="the second control ignored",
                says="This is exactly the verdict against the first control alone. It must be so against every one.",
            ),
            WrongAnswer(
                answer=lambda raised, lowered: decide(
                    raised.mean(-1, keepdim=True).expand_as(raised), lowered.mean(-1, keepdim=True).expand_as(lowered)
                ),
                misconception="means for intervals",
                says="This is exactly the verdict by the middles of the intervals, as if seeds had no spread.",
            ),
            WrongAnswer(
                answer=_rule(lambda up, down: (up[..., 1] < 0).all(-1), _refuted),
                misconception="one prediction is enough",
                says="This is exactly the verdict that holds as soon as raised is below 0. Both predictions must hold.",
            ),
            WrongAnswer(
                answer=_rule(_holds, lambda up, down: (up[..., 0] > 0).all(-1) & (down[..., 1] < 0).all(-1)),
                misconception="both must fail",
                says="This is exactly the verdict that is refuted only if both predictions fail. One is enough.",
            ),
            WrongAnswer(
                answer=_rule(_holds, lambda up, down: ~_holds(up, down)),
                misconception="undecided counted as refuted",
                says="This is exactly the verdict without 0: an interval that holds zero refutes nothing.",
            ),
            WrongAnswer(
                answer=_rule(
                    lambda up, down: (up[..., 1] < 0).any(-1) & (down[..., 0] > 0).any(-1),
                    lambda up, down: (
                        ((up[..., 0] > 0).any(-1) | (down[..., 1] < 0).any(-1))
                        & ~((up[..., 1] < 0).any(-1) & (down[..., 0] > 0).any(-1))
                    ),
                ),
                misconception="any control for every control",
                says="This is exactly `any` where `all` belongs: one control that agrees would be enough.",
            ),
            WrongAnswer(
                answer=lambda raised, lowered: decide(raised, lowered)[:, None].expand(-1, raised.shape[1]),
                misconception="a verdict for each control",
                says="This is exactly the verdict, once for each control. Asked for is one for each experiment.",
                fails="shape",
            ),
        ),
        right=(_one_by_one,),
    ),
)
