"""Exercises of 09_ablations_and_scaling: what bends, what is alike, a start, power laws, an activation of one's own."""

import math
from collections.abc import Callable

import torch
from scipy import stats

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.studies.statistics import p_value, student_interval

# -- what bends ----------------------------------------------------------------------------------------------------


def bend(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The share of y's variance that the best straight line a x + b leaves over: 0 for a line.

    x, y: entries of one row before and after an activation, shape (F,).
    Returns one number, as a tensor of shape ().
    """
    x, y = x - x.mean(), y - y.mean()
    left = y - (x * y).sum() / x.square().sum() * x
    return left.square().sum() / y.square().sum()


def _before_and_after(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.5 + torch.randn(n, dtype=torch.float64, generator=generator)
    return x, 1 + 0.8 * x + 0.3 * x**2 + 0.2 * torch.relu(x)


def _line_through_zero(x, y):
    left = y - (x * y).sum() / x.square().sum() * x
    return left.square().sum() / (y - y.mean()).square().sum()


def _with_the_mean(x, y):
    return bend(x, y) * (y - y.mean()).square().sum() / y.square().sum()


def _by_correlation(x, y):
    return 1 - torch.corrcoef(torch.stack([x, y]))[0, 1] ** 2


def _by_least_squares(x, y):
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    left = y - design @ torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    return left.var() / y.var()


# -- what is alike -------------------------------------------------------------------------------------------------


def tost(differences: torch.Tensor, margin: float) -> torch.Tensor:
    """p-value of "the true mean lies outside (-margin, margin)": small where two arms are shown to be alike.

    differences: losses of one arm minus another's, one per seed, shape (S,). margin: what counts as alike, positive.
    Returns one number, as a tensor of shape (): the larger p-value of the two one-sided tests.
    """
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std()) / n**0.5
    too_low = stats.t.sf((mean + margin) / error, n - 1)  # of "the mean is -margin or less"
    too_high = stats.t.cdf((mean - margin) / error, n - 1)  # of "the mean is margin or more"
    return torch.tensor(max(too_low, too_high), dtype=differences.dtype)


def _some_differences(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    n, mean = shape
    return mean + 0.004 * torch.randn(n, dtype=torch.float64, generator=generator), 0.01


def _one_sided(differences, margin, error=None, law=None):
    """Both one-sided p-values, with another standard error or another law."""
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std()) / n**0.5 if error is None else float(error)
    law = stats.t(n - 1) if law is None else law
    return law.sf((mean + margin) / error), law.cdf((mean - margin) / error)


def _worse(differences, p):
    return torch.tensor(max(p), dtype=differences.dtype)


def _test_against_zero(differences, margin):
    return torch.tensor(stats.ttest_1samp(differences.numpy(), 0).pvalue, dtype=differences.dtype)


def _by_scipy(differences, margin):
    low = stats.ttest_1samp(differences.numpy(), -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(differences.numpy(), margin, alternative="less").pvalue
    return torch.tensor(max(low, high), dtype=differences.dtype)


def _by_the_package(differences, margin):
    p, inside = p_value(differences.tolist(), -margin, margin)  # two-sided: the larger of the two one-sided ones, twice
    return torch.tensor(p / 2, dtype=differences.dtype) if inside else _by_scipy(differences, margin)


# -- a start -------------------------------------------------------------------------------------------------------


def start_factor(weight: torch.Tensor) -> torch.Tensor:
    """By what to multiply PolyNorm's coefficients, so that a standard normal row keeps a mean square of 1.

    weight: coefficients, the highest power first, shape (P,); the bias is 0 and the row as wide as one likes.
    Returns one number, as a tensor of shape ().
    """
    powers = range(len(weight), 0, -1)
    size = {p: math.prod(range(1, 2 * p, 2)) ** 0.5 for p in powers}  # the RMS of x^p: sqrt(1 3 5 ... (2p - 1))
    mean_square = sum(
        weight[i] * weight[j] * math.prod(range(1, p + q, 2)) / (size[p] * size[q])
        for i, p in enumerate(powers)
        for j, q in enumerate(powers)
        if (p + q) % 2 == 0  # the mean of an odd power is 0
    )
    return mean_square**-0.5


def _coefficients(n: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (0.2 + torch.rand(n, dtype=torch.float64, generator=generator),)


def _terms(weight: torch.Tensor) -> torch.Tensor:
    """The powers of a standard normal row, each divided by its size, the highest first."""
    probability = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    x = torch.special.ndtri(probability)
    powers = torch.stack([x**p for p in range(len(weight), 0, -1)])
    return powers / powers.square().mean(dim=1, keepdim=True).sqrt()


def _by_quantiles(weight):
    return (weight @ _terms(weight)).square().mean() ** -0.5


def _bare_powers(weight):
    probability = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    x = torch.special.ndtri(probability)
    powers = torch.stack([x**p for p in range(len(weight), 0, -1)])
    return (weight @ powers).square().mean() ** -0.5


# -- power laws ----------------------------------------------------------------------------------------------------


def power_law(sizes: torch.Tensor, losses: torch.Tensor, floors: torch.Tensor) -> torch.Tensor:
    """The law floor + scale (size / smallest size)^-exponent nearest to some losses, by least squares of logarithms.

    sizes: ascending, shape (N,). losses: shape (N,). floors: the floors to try, all under every loss, shape (G,).
    Returns shape (3,): floor, scale, exponent. Of all floors that one whose straight line through
    log(loss - floor) over log(size / smallest size) leaves the smallest sum of squares.
    """
    x = (sizes / sizes[0]).log()
    design = torch.stack([torch.ones_like(x), x], dim=1)
    y = (losses - floors[:, None]).log().T  # a column for each floor
    lines = torch.linalg.lstsq(design, y).solution
    best = (y - design @ lines).square().sum(dim=0).argmin()
    intercept, slope = lines[:, best]
    return torch.stack([floors[best], intercept.exp(), -slope])


def _a_ladder(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sizes = torch.logspace(5, 7, n, dtype=torch.float64)
    noise = 1 + 0.02 * torch.randn(n, dtype=torch.float64, generator=generator)
    losses = 1.2 + 0.8 * (sizes / sizes[0]) ** -0.35 * noise
    return sizes, losses, torch.linspace(0.6, float(losses.min()) - 0.02, 24, dtype=torch.float64)


def _law_at(sizes, losses, floor):
    return power_law(sizes, losses, torch.as_tensor(floor, dtype=losses.dtype)[None])


def _law(then):
    """The right law, and then something done to it."""

    def answer(sizes, losses, floors):
        return then(power_law(sizes, losses, floors), sizes)

    return answer


def _least_squares_of_losses(sizes, losses, floors):
    def left(floor):
        own, scale, exponent = _law_at(sizes, losses, floor)
        return (losses - own - scale * (sizes / sizes[0]) ** -exponent).square().sum()

    return _law_at(sizes, losses, floors[torch.stack([left(floor) for floor in floors]).argmin()])


def _floor_by_floor(sizes, losses, floors):
    x, found = (sizes / sizes[0]).log(), []
    for floor in floors:
        y = (losses - floor).log()
        slope = ((x - x.mean()) * y).sum() / (x - x.mean()).square().sum()
        intercept = y.mean() - slope * x.mean()
        found.append(((y - intercept - slope * x).square().sum(), floor, intercept.exp(), -slope))
    return torch.stack(min(found, key=lambda each: float(each[0]))[1:])


def promise(sizes: torch.Tensor, losses: torch.Tensor, floor: float, size: float) -> torch.Tensor:
    """What a power law with a known floor says of the loss at another size, with the 95 % interval over seeds.

    sizes: shape (N,). losses: of S seeds at each size, shape (S, N). Each seed gets a straight line of its own through
    log(loss - floor) over log(size), and each line is followed to `size`. Student's interval is that of the S
    logarithms found there. Returns shape (3,), as losses: middle, lower end, upper end.
    """
    x, y = sizes.log(), (losses - floor).log()
    slopes = ((y - y.mean(dim=1, keepdim=True)) * (x - x.mean())).sum(dim=1) / (x - x.mean()).square().sum()
    reached = y.mean(dim=1) + slopes * (math.log(size) - x.mean())
    n = len(reached)
    half = reached.std() * float(stats.t.ppf(0.975, n - 1)) / n**0.5
    middle = reached.mean()
    return floor + torch.stack([middle, middle - half, middle + half]).exp()


def _ladders(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    n_seeds, n_sizes = shape
    sizes = torch.logspace(5, 6.5, n_sizes, dtype=torch.float64)
    noise = (0.1 * torch.randn(n_seeds, n_sizes, dtype=torch.float64, generator=generator)).exp()
    return sizes, 1.2 + 0.8 * (sizes / sizes[0]) ** -0.35 * noise, 1.2, 3e7


def _followed(sizes, y, size):
    """Each row's straight line over log(size), followed to a size."""
    x = sizes.log()
    slopes = ((y - y.mean(dim=1, keepdim=True)) * (x - x.mean())).sum(dim=1) / (x - x.mean()).square().sum()
    return y.mean(dim=1) + slopes * (math.log(size) - x.mean())


def _interval(values, quantile=None, error=None):
    n = len(values)
    quantile = float(stats.t.ppf(0.975, n - 1)) if quantile is None else quantile
    half = quantile * (values.std() / n**0.5 if error is None else error)
    return torch.stack([values.mean(), values.mean() - half, values.mean() + half])


def _promise(**changed):
    """The promise with another quantile or another error, both functions of the logarithms that were reached."""

    def answer(sizes, losses, floor, size):
        reached = _followed(sizes, (losses - floor).log(), size)
        return floor + _interval(reached, **{name: of(reached) for name, of in changed.items()}).exp()

    return answer


def _interval_of_losses(sizes, losses, floor, size):
    return floor + _interval(_followed(sizes, (losses - floor).log(), size).exp())


def _on_plain_axes(sizes, losses, floor, size):
    units = 1e7  # exp() undoes the logarithm of the helper, and takes no more than a few units
    return _interval(_followed((sizes / units).exp(), losses, math.exp(size / units)))


def _promise_by_the_package(sizes, losses, floor, size):
    reached = []
    for own in losses:
        _, scale, exponent = _law_at(sizes, own, floor)
        reached.append(float((scale * (size / sizes[0]) ** -exponent).log()))
    found = student_interval(reached)
    return floor + torch.tensor([found.estimate, found.low, found.high], dtype=losses.dtype).exp()


# -- an activation of one's own ------------------------------------------------------------------------------------


def hermite_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Three terms that have nothing in common on a normal row: Hermite's polynomials of the normalised row.

    u = x / sqrt(mean(x^2) + 1e-6) over the last axis;
    y = weight[0] (u^3 - 3 u) / sqrt(6) + weight[1] (u^2 - 1) / sqrt(2) + weight[2] u + bias.

    x: shape (..., F). weight: shape (3,). bias: shape (1,). Returns the shape of x.
    """
    u = x * (x.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt()
    return weight[0] * (u**3 - 3 * u) / 6**0.5 + weight[1] * (u**2 - 1) / 2**0.5 + weight[2] * u + bias


def _rows(shape: tuple[int, ...], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
    return x, torch.tensor([0.3, 0.5, 0.9], dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)


def _long_row() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    probability = (torch.arange(2**14, dtype=torch.float64) + 0.5) / 2**14
    return 5 * torch.special.ndtri(probability), torch.tensor([0.6, 0.0, 0.8]).double(), torch.zeros(1).double()


def _of_unit(u, weight, bias, parts=(6**-0.5, 2**-0.5)):
    return weight[0] * parts[0] * (u**3 - 3 * u) + weight[1] * parts[1] * (u**2 - 1) + weight[2] * u + bias


def _size(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    return (x.square().mean(dim=dim, keepdim=True) + 1e-6).sqrt()


def _terms_normalised(x, weight, bias):
    u = x / _size(x)
    terms = u**3 - 3 * u, u**2 - 1, u
    return sum(w * term / _size(term) for w, term in zip(weight, terms, strict=True)) + bias


def _by_horner(x, weight, bias):
    u = x / _size(x)
    a, b, c = weight[0] / 6**0.5, weight[1] / 2**0.5, weight[2]
    return ((a * u + b) * u + (c - 3 * a)) * u - b + bias


def gradient_error(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, v: torch.Tensor, step: float):
    """How wrong the gradient of f is along a direction: |automatic - by differences| / |by differences|.

    f: a function of x that returns one number, shape (). x, v: a place and a direction, of one shape, float64.
    By differences: (f(x + step v) - f(x - step v)) / (2 step). Returns a tensor of shape (), without gradient.
    """
    place = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(f(place), place)
    with torch.no_grad():
        slope = (f(x + step * v) - f(x - step * v)) / (2 * step)
        return ((gradient * v).sum() - slope).abs() / slope.abs()


def _smooth(x: torch.Tensor) -> torch.Tensor:
    return x.exp().sum() + x.prod()


def _held_size(x: torch.Tensor) -> torch.Tensor:
    """A normalised cube whose size is taken for a constant by its gradient, as a forgotten .detach() would."""
    return -((x / x.square().mean().sqrt().detach()) ** 3).sum() - x.square().sum()


def _half_held(x: torch.Tensor) -> torch.Tensor:
    """A product of which the gradient sees one factor only."""
    return (x.exp() * x.detach()).sum()


FUNCTIONS = {"whose size is held constant": _held_size, "whose factor is held constant": _half_held}


def _place(name: str, generator: torch.Generator) -> tuple[Callable, torch.Tensor, torch.Tensor, float]:
    x, v = (0.5 + torch.rand(4, dtype=torch.float64, generator=generator) for _ in range(2))
    return FUNCTIONS[name], x, v, 1e-3


def _smooth_place() -> tuple[Callable, torch.Tensor, torch.Tensor, float]:
    return _smooth, torch.tensor([0.5, 1.0, 1.5]).double(), torch.tensor([1.0, -0.5, 2.0]).double(), 1e-3


def _slopes(f, x, v, step):
    """Along the direction: by automatic differentiation, and by differences from both sides."""
    place = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(f(place), place)
    with torch.no_grad():
        return (gradient * v).sum(), (f(x + step * v) - f(x - step * v)) / (2 * step)


def _error_of(change):
    """The error with something else in place of one of its parts: change(automatic, differences, f, x, v, step)."""
    return lambda f, x, v, step: change(*_slopes(f, x, v, step), f, x, v, step)


def _forward_difference(automatic, differences, f, x, v, step):
    with torch.no_grad():
        ahead = (f(x + step * v) - f(x)) / step
    return (automatic - ahead).abs() / ahead.abs()


def _of_norms(automatic, differences, f, x, v, step):
    place = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(f(place), place)
    return (gradient.norm() - differences).abs() / differences.abs()


def _by_forward_mode(f, x, v, step):
    place = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        f(place).backward()
    with torch.no_grad():
        slope = (f(x + step * v) - f(x - step * v)) / step / 2
        return (torch.dot(place.grad, v) / slope - 1).abs()


EXERCISES = (
    Exercise(
        name="bend",
        notebook="09_ablations_and_scaling",
        statement=r"""
            How far is an activation from a straight line, *within one row*? Fit the best line $a x + b$ to the row's
            entries after the activation, $y$, over those before it, $x$. Return the share of $y$'s variance that the
            line leaves over:

            $$\text{bend} = \frac{\sum_i (y_i - a x_i - b)^2}{\sum_i (y_i - \bar y)^2}, \qquad
            a = \frac{\sum_i (x_i - \bar x)(y_i - \bar y)}{\sum_i (x_i - \bar x)^2}.$$
            """,
        difficulty=2,
        importance=4,
        minutes=6,
        reference=bend,
        cases=grid(_before_and_after, shapes=(9, 20), word="F ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-7, because="sums over a few float64 numbers keep ten digits"),
            Property(
                promise="a line has no bend, whatever its slope and height",
                cases=(Case(label="y = 3 - 2 x", make=lambda: (torch.arange(5.0), 3 - 2 * torch.arange(5.0))),),
                holds=lambda results: close(torch.tensor(0.0), results[0], rtol=0, atol=1e-6),
            ),
        ),
        hints=(
            "Take the means off both first: then the line goes through zero, and b has gone.",
            "`x, y = x - x.mean(), y - y.mean()`, then the slope `(x * y).sum() / x.square().sum()`.",
        ),
        explanation=r"""
            It is $1 - r^2$, with $r$ the correlation of $x$ and $y$. A matrix, an activation without a bend and another
            matrix are one matrix (and a bias): what notebook 01 showed of depth.
            """,
        bank=(
            WrongAnswer(
                answer=lambda x, y: 1 - bend(x, y),
                misconception="what the line explains",
                says="This is exactly the share that the line explains. Asked for is what it leaves over.",
            ),
            WrongAnswer(
                answer=_line_through_zero,
                misconception="a line through zero",
                says="This is exactly what the best line through zero leaves over. The line has a height b as well.",
            ),
            WrongAnswer(
                answer=_with_the_mean,
                misconception="energy for variance",
                says="This is exactly the rest as a share of the sum of y². Take y's variance, without its mean.",
            ),
            WrongAnswer(
                answer=lambda x, y: bend(x, y).sqrt(),
                misconception="root of the share",
                says="This is exactly the root: the size of the rest beside the size of y. Asked for are squares.",
            ),
            WrongAnswer(
                answer=lambda x, y: bend(x, y) * y.var(correction=0),
                misconception="not divided by the variance",
                says="This is exactly the mean square of the rest, which grows with y. Divide by the variance of y.",
            ),
            WrongAnswer(
                answer=lambda x, y: 1 - torch.corrcoef(torch.stack([x, y]))[0, 1],
                misconception="correlation not squared",
                says="This is exactly 1 - r. The share of the variance is 1 - r².",
            ),
            WrongAnswer(
                answer=lambda x, y: (y - x).var() / y.var(),
                misconception="the line y = x",
                says="This is exactly what the line y = x leaves over. Its slope has to be fitted.",
            ),
        ),
        right=(_by_correlation, _by_least_squares),
    ),
    Exercise(
        name="tost",
        notebook="09_ablations_and_scaling",
        statement=r"""
            "Not significantly different" may mean *alike* or *nobody knows*. To show that two arms are alike, one must
            say how far apart alike may be, the margin $m$, and then refute **both** ways of being further apart. With
            $N$ paired differences of mean $\bar d$ and standard error $e = \operatorname{std}(d)/\sqrt N$:

            - $p_1$, against "the true mean is $-m$ or less": the chance that Student's $t$ with $N-1$ degrees of
              freedom is above $(\bar d + m) / e$,
            - $p_2$, against "it is $m$ or more": the chance that it is below $(\bar d - m) / e$.

            The p-value of *two one-sided tests* is the larger of the two. `stats.t.sf(value, freedom)` is the chance
            above a value, `stats.t.cdf` that below.
            """,
        difficulty=3,
        importance=5,
        minutes=10,
        imports="import torch\nfrom scipy import stats",
        reference=tost,
        cases=grid(_some_differences, shapes=((3, 0.004), (5, -0.007), (4, 0.013)), word="N, mean ="),
        ladder=ladder(Values(rtol=1e-4, atol=1e-7, because="float64 arithmetic and SciPy's own t agree to ten digits")),
        hints=(
            "Mean, standard error, two calls of SciPy, and `max`. `differences.std()` divides by N - 1 already.",
            "`stats.t.sf((mean + margin) / error, n - 1)` and `stats.t.cdf((mean - margin) / error, n - 1)`.",
        ),
        explanation=r"""
            The burden of proof is turned round: without data $p$ is large, and *alike* has to be earned. The same is
            seen in an interval: $p < 5\,\%$ where the 90 % interval lies within $\pm m$.
            """,
        bank=(
            WrongAnswer(
                answer=_test_against_zero,
                misconception="a test against zero",
                says=(
                    "This is exactly the p-value of the usual test, of a mean of zero. A large one is no proof of "
                    "likeness: it may come from few seeds."
                ),
            ),
            WrongAnswer(
                answer=lambda d, margin: 1 - _test_against_zero(d, margin),
                misconception="one minus the test against zero",
                says="This is exactly 1 - p of the usual test. No proof of a difference is no proof of likeness.",
            ),
            WrongAnswer(
                answer=lambda d, margin: torch.tensor(min(_one_sided(d, margin)), dtype=d.dtype),
                misconception="the smaller of the two",
                says="This is exactly the smaller p-value. Both ways of being apart must be refuted: take the larger.",
            ),
            WrongAnswer(
                answer=lambda d, margin: torch.tensor(sum(_one_sided(d, margin)), dtype=d.dtype),
                misconception="the sum of the two",
                says="This is exactly the sum of both p-values. The true mean is on one side only: take the larger.",
            ),
            WrongAnswer(
                answer=lambda d, margin: 2 * tost(d, margin),
                misconception="doubled",
                says="This is exactly twice the right value. Each test is one-sided; the larger p counts as it is.",
            ),
            WrongAnswer(
                answer=lambda d, margin: _worse(d, _one_sided(d, margin, error=d.std())),
                misconception="spread of single seeds",
                says="This is exactly with std(d) as the error. The mean of N seeds scatters √N times less.",
            ),
            WrongAnswer(
                answer=lambda d, margin: _worse(d, _one_sided(d, margin, error=d.std(correction=0) / len(d) ** 0.5)),
                misconception="biased standard deviation",
                says="This is exactly with the standard deviation that divides by N. Divide by N - 1.",
            ),
            WrongAnswer(
                answer=lambda d, margin: _worse(d, _one_sided(d, margin, law=stats.norm())),
                misconception="normal for Student",
                says="This is exactly with a normal law, right for hundreds of seeds. Take Student's with N - 1.",
            ),
            WrongAnswer(
                answer=lambda d, margin: _worse(d, _one_sided(d, margin, law=stats.t(len(d)))),
                misconception="N degrees of freedom",
                says="This is exactly with N degrees of freedom. One is spent on the mean: N - 1.",
            ),
            WrongAnswer(
                answer=lambda d, margin: 1 - tost(d, margin),
                misconception="the other tail",
                says="This is exactly 1 - p: the tails are exchanged. p is small where the mean lies well inside.",
            ),
        ),
        right=(_by_scipy, _by_the_package),
    ),
    Exercise(
        name="start_factor",
        notebook="09_ablations_and_scaling",
        statement=r"""
            PolyNorm starts with all coefficients $1/3$. By which factor must coefficients $a_p$ be multiplied, so that
            a standard normal row leaves PolyNorm with a mean square of 1, as it came? (Coefficients are stored from the
            highest power down; the bias is 0.)

            What is needed of a very wide normal row are its moments: the mean of $x^{2m}$ is
            $1 \cdot 3 \cdot 5 \cdots (2m-1)$, the mean of an odd power is 0. So $N(x^p) = x^p / \sqrt{1 \cdot 3 \cdots
            (2p-1)}$, and the mean square of $\sum_p a_p N(x^p)$ has a term for each *pair* of powers.
            """,
        difficulty=3,
        importance=3,
        minutes=10,
        imports="import math\n\nimport torch",
        reference=start_factor,
        cases=grid(_coefficients, shapes=(2, 3), word="P ="),
        ladder=ladder(
            Values(rtol=1e-3, atol=0, because="a mean over 65,536 quantiles will do for the moments"),
        ),
        hints=(
            "The mean square is Σ over p, q of a_p a_q E[x^(p+q)] / (size_p size_q). Which pairs have an even sum?",
            r"$E[x^4] = 3$, so $N(x)$ and $N(x^3)$ have the mean product $3 / \sqrt{15} = 0.775$: they are related.",
        ),
        explanation=r"""
            For three coefficients of $1/3$ the mean square is $(3 + 2 \cdot 0.775) / 9 = 0.505$: less than 1, since
            three terms are averaged, and more than $1/3$, since two are related. The factor is $1/0.711 = 1.41$.
            """,
        bank=(
            WrongAnswer(
                answer=lambda weight: weight.square().sum() ** -0.5,
                misconception="no pairs",
                says="This is exactly what unrelated terms would need. N(x) and N(x³) have a mean product of 0.775.",
            ),
            WrongAnswer(
                answer=lambda weight: 1 / start_factor(weight),
                misconception="upside down",
                says="This is exactly the size that the row leaves with. Asked for is the factor that makes it 1.",
            ),
            WrongAnswer(
                answer=lambda weight: start_factor(weight).square(),
                misconception="no root",
                says="This is exactly one over the mean square. A factor of the coefficients counts in it squared.",
            ),
            WrongAnswer(
                answer=lambda weight: (weight @ _terms(weight)).std() ** -1,
                misconception="variance for mean square",
                says="This is exactly what keeps the variance. Even powers have a mean, and the mean square counts it.",
            ),
            WrongAnswer(
                answer=_bare_powers,
                misconception="powers without a norm",
                says="This is exactly the factor for bare powers. Each power is divided by its size first.",
            ),
            WrongAnswer(
                answer=lambda weight: 1 / weight.sum(),
                misconception="coefficients that sum to 1",
                says="This is exactly 1 / Σ a: as if all terms were the same number. They are only partly related.",
            ),
        ),
        right=(_by_quantiles,),
    ),
    Exercise(
        name="power_law",
        notebook="09_ablations_and_scaling",
        statement=r"""
            Losses of several sizes often lie near a power law above a floor,

            $$L(s) = L_\infty + A\,(s / s_0)^{-\alpha},$$

            $s_0$ the smallest size. For a *given* floor, $\log(L - L_\infty)$ over $\log(s/s_0)$ is a straight line:
            $\log A$ is its height at $s_0$, $-\alpha$ its slope. So try every floor of a list, fit the line by least
            squares, and keep the floor whose line leaves the smallest sum of squares (of logarithms).
            """,
        difficulty=3,
        importance=4,
        minutes=12,
        reference=power_law,
        cases=grid(_a_ladder, shapes=(5, 7), word="N ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-7, because="one floor of the list is the best; the rest is a straight line"),
        ),
        hints=(
            "Write the line for one floor first. Then a loop over floors, or one column for each floor.",
            """
            `design = torch.stack([torch.ones_like(x), x], dim=1)` and `torch.linalg.lstsq(design, y[:, None]).solution`
            give height and slope of the line through y over x.
            """,
        ),
        explanation=r"""
            Three numbers from a handful of sizes. Floor and exponent help each other out: a higher floor takes a
            steeper law, and the sum of squares hardly changes. The next figure shows by how much.
            """,
        bank=(
            WrongAnswer(
                answer=lambda sizes, losses, floors: _law_at(sizes, losses, 0.0),
                misconception="no floor",
                says="This is exactly the law with a floor of 0. Try the floors of the list.",
            ),
            WrongAnswer(
                answer=lambda sizes, losses, floors: _law_at(sizes, losses, floors.max()),
                misconception="the highest floor",
                says="This is exactly the law with the highest floor. Which one leaves the smallest rest?",
            ),
            WrongAnswer(
                answer=lambda sizes, losses, floors: _law_at(sizes, losses, floors.min()),
                misconception="the lowest floor",
                says="This is exactly the law with the lowest floor. Which one leaves the smallest rest?",
            ),
            WrongAnswer(
                answer=_law(lambda law, sizes: law * torch.tensor([1.0, 1.0, -1.0]).double()),
                misconception="slope for exponent",
                says="This is exactly the slope in the place of the exponent. The law has it with a minus sign.",
            ),
            WrongAnswer(
                answer=_law(lambda law, sizes: torch.stack([law[0], law[1] * sizes[0] ** law[2], law[2]])),
                misconception="scale at size 1",
                says="This is exactly the scale at a size of 1. Sizes are counted in units of the smallest.",
            ),
            WrongAnswer(
                answer=_law(lambda law, sizes: torch.stack([law[0], law[1].log(), law[2]])),
                misconception="logarithm of the scale",
                says="This is exactly the law with log A for A. Undo the logarithm.",
            ),
            WrongAnswer(
                answer=_law(lambda law, sizes: law.flip(0)),
                misconception="exponent first",
                says="These are exactly the right numbers in the opposite order: floor, scale, exponent.",
            ),
            WrongAnswer(
                answer=_law(
                    lambda law, sizes: torch.stack([law[0], law[1] * (sizes[-1] / sizes[0]) ** -law[2], law[2]])
                ),
                misconception="scale at the largest size",
                says="This is exactly the scale at the largest size. It is asked for at the smallest.",
            ),
        ),
        right=(_floor_by_floor,),
    ),
    Exercise(
        name="promise",
        notebook="09_ablations_and_scaling",
        statement=r"""
            A fitted law says something of sizes that nobody trained: a promise. Where the floor is known (as is the
            entropy of the course's language), give it an interval: fit each **seed** by itself, a straight line through
            $\log(L - L_\infty)$ over $\log s$, follow each line to the wanted size, and take Student's 95 % interval of
            the $S$ *logarithms* found there. Turn the three numbers, middle, lower and upper end, back into losses.
            """,
        difficulty=3,
        importance=4,
        minutes=12,
        imports="import math\n\nimport torch\nfrom scipy import stats",
        reference=promise,
        cases=grid(_ladders, shapes=((3, 4), (5, 6)), word="S, N ="),
        ladder=ladder(Values(rtol=1e-5, atol=1e-8, because="straight lines through a few float64 numbers")),
        hints=(
            "The slope of each seed: Σ (y - mean)(x - mean) / Σ (x - mean)²; its line goes through the means.",
            r"`reached = y.mean(dim=1) + slopes * (math.log(size) - x.mean())`, then the interval as in notebook 05.",
        ),
        explanation=r"""
            The interval grows with the distance from the sizes that were trained. And it holds only the error of the
            *seeds*. That the law goes on, and what its floor is, are assumptions, and no interval says how far
            off these are.
            """,
        bank=(
            WrongAnswer(
                answer=lambda sizes, losses, floor, size: promise(sizes, losses, floor, size) - floor,
                misconception="above the floor",
                says="This is exactly the promise above the floor. Asked for are losses: add the floor.",
            ),
            WrongAnswer(
                answer=lambda sizes, losses, floor, size: promise(sizes, losses, 0.0, size),
                misconception="no floor",
                says="This is exactly the promise of a law that falls to 0. Take the floor off before the logarithm.",
            ),
            WrongAnswer(
                answer=_promise(error=torch.std),
                misconception="spread of single seeds",
                says="This is exactly without the division by √S: where one seed will be, not where the mean will.",
            ),
            WrongAnswer(
                answer=_promise(quantile=lambda reached: 1.96),
                misconception="normal for Student",
                says="This is exactly the interval with 1.96. With a few seeds take Student's t with S - 1.",
            ),
            WrongAnswer(
                answer=_promise(quantile=lambda reached: float(stats.t.ppf(0.95, len(reached) - 1))),
                misconception="one-sided point",
                says="This is exactly the interval with the 95 % point, which leaves 5 % outside on each side.",
            ),
            WrongAnswer(
                answer=_interval_of_losses,
                misconception="interval of losses",
                says="This is exactly the interval of the losses. Take it of the logarithms, and turn its ends back.",
            ),
            WrongAnswer(
                answer=_on_plain_axes,
                misconception="a line on plain axes",
                says="This is exactly a straight line of losses over sizes. The law is straight on logarithmic axes.",
            ),
            WrongAnswer(
                answer=lambda sizes, losses, floor, size: promise(sizes, losses, floor, float(sizes[-1])),
                misconception="the largest trained size",
                says="This is exactly the law at the largest size that was trained. Follow it to the wanted one.",
            ),
            WrongAnswer(
                answer=lambda sizes, losses, floor, size: promise(sizes, losses, floor, size)[[1, 0, 2]],
                misconception="lower end first",
                says="These are exactly the right numbers in another order: middle, lower end, upper end.",
            ),
        ),
        right=(_promise_by_the_package,),
    ),
    Exercise(
        name="hermite_norm",
        notebook="09_ablations_and_scaling",
        statement=r"""
            An idea from `start_factor`: PolyNorm's first and third term are related, by $0.775$. The polynomials of
            Hermite are not related, on a normal row, to any other. So normalise the row *once*,
            $u = x / \sqrt{\operatorname{mean}(x^2) + 10^{-6}}$ over the last axis, and take

            $$y = a_3 \frac{u^3 - 3u}{\sqrt 6} + a_2 \frac{u^2 - 1}{\sqrt 2} + a_1 u + b.$$

            Coefficients come as everywhere here, the highest power first: `weight[0]` is $a_3$.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=hermite_norm,
        cases=grid(_rows, shapes=((2, 9), (3, 2, 5))),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-7, because="a cubic of float64 numbers of size 1"),
            Gradients(rtol=1e-4, atol=1e-6, because="the derivative of a float64 cubic keeps ten digits"),
            Property(
                promise="a wide normal row leaves with the mean square of the coefficients, Σ a²",
                cases=(Case(label="a row of size 5", make=_long_row),),
                holds=lambda results: close(1.0, float(results[0].square().mean()), rtol=0, atol=0.01),
            ),
        ),
        hints=(
            "`x.square().mean(dim=-1, keepdim=True)` is the mean square of each row.",
            "Let the gradient flow through the root mean square, too: no `.detach()`.",
        ),
        explanation=r"""
            The powers of PolyNorm of order 3, so hardly another *function*: other coefficients, and the constant
            that goes with the square. What changes is what a step of the optimizer does, since each coefficient now
            has a job of its own. Start each at $1/\sqrt3$, and the mean square of a normal row is 1 without a factor.
            """,
        bank=(
            WrongAnswer(
                answer=_of_unit,
                misconception="row not normalised",
                says="This is exactly Hermite's polynomials of x itself. Divide the row by its root mean square first.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: hermite_norm(x, weight.flip(0), bias),
                misconception="lowest power first",
                says="This is exactly with the coefficients from the lowest power up. weight[0] is that of the cubic.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: _of_unit(x / _size(x), weight, bias, parts=(1.0, 1.0)),
                misconception="sizes of the polynomials left out",
                says="This is exactly without √6 and √2, the sizes of the two polynomials on a normal row.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: _of_unit(x / _size(x), weight, bias, parts=(1 / 6, 1 / 2)),
                misconception="no roots",
                says="This is exactly with 6 and 2 in the place of √6 and √2.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: _of_unit(x / x.norm(dim=-1, keepdim=True), weight, bias),
                misconception="L2 for RMS",
                says="This is exactly what the L2 norm would give, which is √F times larger than the RMS.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: _of_unit(x / _size(x, dim=0), weight, bias),
                misconception="wrong axis",
                says="This is exactly with the mean over the first axis. A row is the last one.",
            ),
            WrongAnswer(
                answer=_terms_normalised,
                misconception="each polynomial normalised",
                says="This is exactly with each polynomial divided by its own size. Normalise once, before.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: hermite_norm(x, weight, 0 * bias),
                misconception="bias left out",
                says="This is exactly without the bias.",
            ),
            WrongAnswer(
                answer=lambda x, weight, bias: _of_unit(x / _size(x).detach(), weight, bias),
                misconception="size taken for a constant",
                says="These are exactly the gradients with the root mean square held constant. Let it flow through.",
                fails="gradients",
            ),
        ),
        right=(_by_horner,),
    ),
    Exercise(
        name="gradient_error",
        notebook="09_ablations_and_scaling",
        statement=r"""
            Before an activation of one's own trains for minutes, check its gradient in a second. For a function
            $f$ of a tensor that returns one number, a place $x$ and a direction $v$ of the same shape, compare

            $$\langle \nabla f(x), v \rangle \quad\text{with}\quad \frac{f(x + h v) - f(x - h v)}{2 h},$$

            the first by automatic differentiation. Return the size of their difference divided by that of the second.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        imports="from collections.abc import Callable\n\nimport torch",
        reference=gradient_error,
        cases=grid(_place, shapes=tuple(FUNCTIONS), word="a function"),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-8, because="both slopes are float64; a step of 1e-3 costs three of its digits"),
            Property(
                promise="a right gradient has an error of the order of the step's square, here under 1e-5",
                cases=(Case(label="exp and a product", make=_smooth_place),),
                holds=lambda results: float(results[0]) < 1e-5,
            ),
        ),
        hints=(
            "`place = x.detach().clone().requires_grad_()`, then `torch.autograd.grad(f(place), place)`.",
            "Along a direction: `(gradient * v).sum()`. The other slope needs two calls of f, and no gradient.",
        ),
        explanation=r"""
            The two sides cancel the error of first order, so $h$ need not be tiny. In float32 this would compare
            rounding: gradient checks are made in float64. One random direction finds nearly every mistake.
            """,
        bank=(
            WrongAnswer(
                answer=_error_of(_forward_difference),
                misconception="from one side",
                says="This is exactly with the difference ahead, f(x + h v) - f(x). From both sides it is far better.",
            ),
            WrongAnswer(
                answer=_error_of(lambda a, d, *_: (a - 2 * d).abs() / (2 * d).abs()),
                misconception="divided by one step",
                says="This is exactly with h where 2 h belongs: the two places are two steps apart.",
            ),
            WrongAnswer(
                answer=_error_of(_of_norms),
                misconception="norm for slope",
                says="This is exactly with the gradient's norm. Its slope along v is the inner product with v.",
            ),
            WrongAnswer(
                answer=_error_of(lambda a, d, *_: (a - d).abs()),
                misconception="not relative",
                says="This is exactly the difference itself, which grows with f. Divide by the slope by differences.",
            ),
            WrongAnswer(
                answer=_error_of(lambda a, d, *_: (a - d) / d.abs()),
                misconception="sign kept",
                says="This is exactly the relative difference with its sign. Asked for is its size.",
            ),
            WrongAnswer(
                answer=_error_of(lambda a, d, *_: (a - d).abs() / a.abs()),
                misconception="relative to automatic differentiation",
                says="This is exactly relative to the gradient that is in doubt. Divide by the slope by differences.",
            ),
            WrongAnswer(
                answer=_error_of(lambda a, d, f, x, v, step: (a / v.norm() - d).abs() / d.abs()),
                misconception="direction made a unit",
                says="This is exactly with v divided by its length on one side only.",
            ),
        ),
        right=(_by_forward_mode,),
    ),
)
