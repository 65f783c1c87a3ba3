"""Exercises of 13_design_a_variant: how steep a gain is, where it ends, what rounding does, what a lead is worth."""

from collections.abc import Callable

import torch
from scipy.stats import t

from minipolycom.learn.checks import Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.spectral import effective_rank
from minipolycom.ssl.dynamics import equilibrium
from minipolycom.ssl.filters import Filter
from minipolycom.studies.statistics import student_interval

# -- how steep a gain is -------------------------------------------------------------------------------------------


def local_exponent(gain: Callable[[torch.Tensor], torch.Tensor], s: torch.Tensor) -> torch.Tensor:
    """The exponent of the power that a gain looks like at each size: d log|g| / d log s.

    gain: a function of a tensor, entry by entry. s: sizes of directions, positive, shape (R,).
    Returns shape (R,), without gradient.
    """
    s = s.detach().clone().requires_grad_()
    with torch.enable_grad():
        g = gain(s)
        (slope,) = torch.autograd.grad(g.sum(), s)
    return (s * slope / g).detach()


def _soft(s: torch.Tensor) -> torch.Tensor:
    return (s.square() + 0.25).sqrt()


def _log_of_the_square(s: torch.Tensor) -> torch.Tensor:
    return torch.log1p(s.square())


def _power(s: torch.Tensor) -> torch.Tensor:
    return 3 * s**0.7


GAINS = {"sqrt(s² + 1/4)": _soft, "log(1 + s²)": _log_of_the_square}


def _sizes(name: str, generator: torch.Generator) -> tuple[Callable, torch.Tensor]:
    return GAINS[name], torch.randn(5, dtype=torch.float64, generator=generator).exp()


def _slope(gain, s):
    s = s.detach().clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(gain(s).sum(), s)
    return slope.detach()


def _by_small_steps(gain, s, step=1e-6):
    up, down = (gain(s * factor).abs().log() for factor in (1 + step, 1 - step))
    return (up - down) / (2 * step)


# -- where it ends -------------------------------------------------------------------------------------------------


def rank_difference_at_rest(rho: torch.Tensor, sigma: float) -> torch.Tensor:
    """Effective rank of the target minus that of the online branch, where a power filter on the target comes to rest.

    rho: correlations between views, shape (R,). sigma: the exponent of the filter on the target, negative.
    Returns one number, as a tensor of shape ().
    """
    online = rho ** (2 / abs(sigma))
    target = online ** (1 + sigma)
    return effective_rank(target) - effective_rank(online)


def _invariance(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    n, sigma = shape
    return 0.2 + 0.75 * torch.rand(n, dtype=torch.float64, generator=generator), sigma


def _rest_by_the_package(rho, sigma):
    features = equilibrium(rho, Filter("power", "target", sigma))
    behind = features * Filter("power", "target", sigma).gain(features.sqrt()).square()
    return effective_rank(behind) - effective_rank(features)


# -- what rounding does to it --------------------------------------------------------------------------------------


def cut_gain(s: torch.Tensor, sigma: float) -> torch.Tensor:
    """The gain of a power filter that leaves alone what is nothing but rounding.

    s: singular values of a batch, shape (R,), in any order. sigma: the exponent.
    Returns shape (R,): 0 where s is at most 1e-4 times the largest; elsewhere (s / rms)^sigma, where rms is the root
    mean square of those that are kept.
    """
    kept = s > 1e-4 * s.max()
    gain = torch.zeros_like(s)
    gain[kept] = (s[kept] / s[kept].square().mean().sqrt()) ** sigma
    return gain


def _singular_values(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor, float]:
    n, sigma = shape
    sizes = 50 * (1 + torch.rand(n, generator=generator))
    sizes[1] = 1e-3 * sizes.max()  # small and real
    sizes[[2, -1]] = torch.tensor([4e-5, 1e-7]) * sizes.max()  # rounding
    return sizes, sigma


def _rms(s: torch.Tensor) -> torch.Tensor:
    return s.square().mean().sqrt()


def _kept(s: torch.Tensor) -> torch.Tensor:
    return s > 1e-4 * s.max()


def _one_for_the_lost(s, sigma):
    return torch.where(_kept(s), cut_gain(s, sigma), torch.ones_like(s))


def _raised_to_the_cutoff(s, sigma):
    raised = s.clamp_min(1e-4 * s.max())
    return (raised / _rms(s[_kept(s)])) ** sigma


def _size_of_all(s, sigma):
    return torch.where(_kept(s), (s / _rms(s)) ** sigma, torch.zeros_like(s))


def _absolute_cutoff(s, sigma):
    kept = s > 1e-4
    return torch.where(kept, (s / _rms(s[kept])) ** sigma, torch.zeros_like(s))


def _cutoff_of_squares(s, sigma):
    kept = s.square() > 1e-4 * s.square().max()
    return torch.where(kept, (s / _rms(s[kept])) ** sigma, torch.zeros_like(s))


def _relative_to_the_largest(s, sigma):
    return torch.where(_kept(s), (s / s.max()) ** sigma, torch.zeros_like(s))


def _kept_only(s, sigma):
    return cut_gain(s, sigma)[_kept(s)]


def _by_logarithms(s, sigma):
    kept = _kept(s)
    size = (s.square() * kept).sum() / kept.sum()
    return kept * (sigma * (s.clamp_min(1e-30).log() - size.log() / 2)).exp().where(kept, torch.zeros_like(s))


# -- what a lead is worth ------------------------------------------------------------------------------------------


def paired_interval(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The 95 % interval of the mean of first - second, entry n of both being of the same seed.

    first, second: a score for each seed, shape (N,). Returns shape (2,): the lower end, the upper end.
    """
    difference = first - second
    n = len(difference)
    half = difference.std() * float(t.ppf(0.975, n - 1)) / n**0.5
    return torch.stack([difference.mean() - half, difference.mean() + half])


def _two_scores(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    seed, first, second = torch.randn(3, n, dtype=torch.float64, generator=generator)
    return 0.9 + 0.03 * seed + 0.01 * first, 0.87 + 0.03 * seed + 0.01 * second


def _around(mean: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    return torch.stack([mean - half, mean + half])


def _quantile(probability: float, freedom: int) -> float:
    return float(t.ppf(probability, freedom))


def _unpaired(first, second):
    n = len(first)
    error = ((first.var() + second.var()) / n).sqrt()
    return _around(first.mean() - second.mean(), error * _quantile(0.975, n - 1))


def _with(spread, quantile):
    """The interval with another measure of spread or another quantile, both functions of the differences."""

    def answer(first, second):
        difference = first - second
        return _around(difference.mean(), spread(difference) * quantile(len(difference)))

    return answer


def _error(difference: torch.Tensor) -> torch.Tensor:
    return difference.std() / len(difference) ** 0.5


def _student(n: int) -> float:
    return _quantile(0.975, n - 1)


def _by_the_package(first, second):
    interval = student_interval((first - second).tolist())
    return torch.tensor([interval.low, interval.high], dtype=first.dtype)


def lucky_lead(scores: torch.Tensor) -> torch.Tensor:
    """How far ahead the best of several equal entries is, on the average over many boards.

    scores: of D boards with E entries and N seeds each, shape (D, E, N). An entry's place on its board is the mean of
    its seeds. Returns one number, as a tensor of shape (): the mean over boards of (the best entry's mean - the mean
    of all entries of that board).
    """
    entries = scores.mean(dim=2)
    return (entries.max(dim=1).values - entries.mean(dim=1)).mean()


def _boards(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randn(shape, generator=generator) + 5,)


def _over_the_second(scores):
    best = scores.mean(dim=2).topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]).mean()


def _board_by_board(scores):
    leads = [max(entry.mean() for entry in board) - board.mean() for board in scores]
    return torch.stack(leads).mean()


EXERCISES = (
    Exercise(
        name="local_exponent",
        notebook="13_design_a_variant",
        statement=r"""
            A power $s^\sigma$ has the same exponent everywhere. Another gain has one at each size: that of the power
            which touches it there, when both are drawn on logarithmic axes,

            $$\sigma(s) = \frac{d \log |g|}{d \log s}.$$

            Write it for any gain. Automatic differentiation gives $g'(s)$; how do you get from there to $\sigma(s)$?
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        imports="from collections.abc import Callable\n\nimport torch",
        reference=local_exponent,
        cases=grid(_sizes, shapes=tuple(GAINS), word="gain"),
        ladder=ladder(
            Values(
                rtol=1e-4, atol=1e-6, because="small steps in place of a derivative lose half of the sixteen digits"
            ),
            Property(
                promise="a power has its own exponent at every size, and a constant factor does not change it",
                cases=(Case(label="3 s^0.7", make=lambda: (_power, torch.tensor([0.2, 1.0, 5.0]).double())),),
                holds=lambda results: close(torch.full((3,), 0.7).double(), results[0], rtol=0, atol=1e-6),
            ),
        ),
        hints=(
            r"The chain rule: $d \log|g| = g'\,ds / g$ and $d \log s = ds / s$.",
            """
            `s = s.detach().clone().requires_grad_()`, then `g = gain(s)` and `torch.autograd.grad(g.sum(), s)`: each
            entry of g depends on its own s only, so the gradient of the sum is the derivative, entry by entry.
            """,
        ),
        explanation=r"""
            $\sigma(s) = s\, g'(s) / g(s)$. It is what economists call an elasticity: by how many per cent the gain
            changes when the size changes by one per cent. With it one picture holds powers and logarithms alike.
            """,
        bank=(
            WrongAnswer(
                answer=_slope,
                misconception="the slope itself",
                says="This is exactly the slope g'(s), on plain axes. Asked for is the slope on logarithmic ones.",
            ),
            WrongAnswer(
                answer=lambda gain, s: s * _slope(gain, s),
                misconception="not divided by the gain",
                says="This is exactly s g'(s), the slope over log s. The logarithm of g divides it by g, too.",
            ),
            WrongAnswer(
                answer=lambda gain, s: _slope(gain, s) / gain(s),
                misconception="not over the logarithm of the size",
                says="This is exactly g'(s) / g(s), the slope of log g over s. Over log s it is s times that.",
            ),
            WrongAnswer(
                answer=lambda gain, s: gain(s).log() / s.log(),
                misconception="a quotient of logarithms",
                says=(
                    "This is exactly log g / log s. It is the exponent only if g is s to that power with no factor in "
                    "front; asked for is the derivative of one logarithm by the other."
                ),
            ),
            WrongAnswer(
                answer=lambda gain, s: 2 * local_exponent(gain, s),
                misconception="exponent of the energy",
                says="This is exactly the exponent of g², which energies are multiplied by. Asked for is that of g.",
            ),
            WrongAnswer(
                answer=lambda gain, s: -local_exponent(gain, s),
                misconception="opposite sign",
                says="This is exactly the right exponent with its sign turned. A rising gain has a positive one.",
            ),
            WrongAnswer(
                answer=lambda gain, s: 1 / local_exponent(gain, s),
                misconception="upside down",
                says="This is exactly d log s / d log |g|, the reciprocal.",
            ),
        ),
        right=(_by_small_steps,),
    ),
    Exercise(
        name="rank_difference_at_rest",
        notebook="13_design_a_variant",
        statement=r"""
            Notebook 12 ended with a law: under a power filter $h = s^\sigma$ on the target, $\sigma < 0$, features come
            to rest at $\lambda_k \propto \rho_k^{2/|\sigma|}$, where $\rho_k$ is the correlation of mode $k$ between
            two views. The online branch *is* the features there. The target is the features behind the filter, whose
            eigenvalues are $h_k^2 \lambda_k$ with $s_k = \sqrt{\lambda_k}$. What is the **rank difference** at rest,
            effective rank of the target minus that of the online branch?
            """,
        difficulty=3,
        importance=5,
        minutes=10,
        imports="import torch\n\nfrom minipolycom.spectral import effective_rank",
        reference=rank_difference_at_rest,
        cases=grid(_invariance, shapes=((5, -0.5), (9, -1.6)), word="R, sigma ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="a difference of two float64 ranks keeps more than ten digits"),
        ),
        hints=(
            r"`effective_rank(eigenvalues)` takes any eigenvalues. Write $h_k^2 \lambda_k$ as a power of $\lambda_k$.",
            r"$h_k^2 \lambda_k = s_k^{2\sigma} \lambda_k = \lambda_k^{1+\sigma}$: one line for each branch.",
        ),
        explanation=r"""
            Online $\rho_k^{2/|\sigma|}$, target $\rho_k^{2/|\sigma| - 2}$: two powers of the same numbers. The first
            exponent is positive and falls to 0 as the filter gets stronger, so the rank that is kept grows without
            end. The second is smaller by 2. At $|\sigma| = 1$ it is 0, the target is flat; beyond, it is negative: the
            target is steep again, upside down. When both exponents are equally far from 0, at $1$ and $-1$, the
            ranks are about equal: $|\sigma| = 2$.
            """,
        bank=(
            WrongAnswer(
                answer=lambda rho, sigma: -rank_difference_at_rest(rho, sigma),
                misconception="online minus target",
                says="This is exactly online minus target. Asked for is target minus online.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: (
                    effective_rank(rho ** (2 / abs(sigma) * (1 + sigma / 2))) - effective_rank(rho ** (2 / abs(sigma)))
                ),
                misconception="the gain not squared",
                says="This is exactly what h λ gives in place of h² λ: the gain multiplies amplitudes, not energies.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: (
                    effective_rank(rho ** (2 / abs(sigma) * (1 + 2 * sigma))) - effective_rank(rho ** (2 / abs(sigma)))
                ),
                misconception="gain of the eigenvalue",
                says="This is exactly what h = λ^σ gives. The gain is a power of s = √λ, half as strong.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: (
                    effective_rank(rho ** (2 / abs(sigma) * sigma)) - effective_rank(rho ** (2 / abs(sigma)))
                ),
                misconception="the gain alone",
                says="This is exactly h² for the target. The gain multiplies what is there: h² λ.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: (
                    effective_rank(rho ** (1 / abs(sigma) * (1 + sigma))) - effective_rank(rho ** (1 / abs(sigma)))
                ),
                misconception="amplitudes at rest",
                says="This is exactly the difference for λ = ρ^(1/|σ|). Eigenvalues rest at ρ^(2/|σ|).",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: effective_rank(rho ** (2 / abs(sigma) * (1 + sigma))),
                misconception="the target's rank alone",
                says="This is exactly the rank of the target. The online branch's is still to be taken off.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: effective_rank(rho ** (2 / abs(sigma))),
                misconception="the online rank alone",
                says="This is exactly the rank of the online branch. Asked for is the target's minus this.",
            ),
            WrongAnswer(
                answer=lambda rho, sigma: effective_rank(rho ** (1 + sigma)) - effective_rank(rho),
                misconception="rest at the correlations",
                says="This is exactly the difference for features with eigenvalues ρ. They rest at ρ^(2/|σ|).",
            ),
        ),
        right=(_rest_by_the_package,),
    ),
    Exercise(
        name="cut_gain",
        notebook="13_design_a_variant",
        statement=r"""
            Mend the filter. What lies in a direction of a relative size under $10^{-4}$ is, in a batch of `float32`
            numbers, hardly more than rounding. Give such directions the gain **0**, and all others $(s /
            \mathrm{rms})^\sigma$, where rms is taken over the directions that are kept: what was dropped shall not
            change the rest.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=cut_gain,
        cases=grid(_singular_values, shapes=((6, -1.0), (9, -0.5)), word="R, sigma ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="a quotient of float32 numbers to a power keeps five digits"),
        ),
        hints=(
            "`kept = s > 1e-4 * s.max()` is a tensor of True and False; `s[kept]` are the sizes that count.",
            "Begin with `gain = torch.zeros_like(s)` and fill in: `gain[kept] = (s[kept] / rms) ** sigma`.",
        ),
        explanation=r"""
            A threshold on $s / s_{\max}$ does not depend on the scale of the features or the size of the batch. The
            package's `Filter` does the same. For a dtype coarser than $10^{-4}$ it takes that dtype's resolution for
            the threshold, and it computes the decomposition in float64, for a reason that comes next.
            """,
        bank=(
            WrongAnswer(
                answer=lambda s, sigma: (s / _rms(s)) ** sigma,
                misconception="no cutoff",
                says="This is exactly the plain gain: directions of rounding have the largest gain of all.",
            ),
            WrongAnswer(
                answer=_one_for_the_lost,
                misconception="gain 1 for what is lost",
                says="This is exactly right where s counts, and 1 where it does not. To drop a direction takes a 0.",
            ),
            WrongAnswer(
                answer=_raised_to_the_cutoff,
                misconception="raised to the cutoff",
                says=(
                    "This is exactly what `clamp` gives: small sizes are raised to the cutoff, and with a negative "
                    "power they still have a larger gain than everything that counts."
                ),
            ),
            WrongAnswer(
                answer=_size_of_all,
                misconception="rms of all",
                says="This is exactly the gain relative to the rms of all directions. Take it over the kept ones.",
            ),
            WrongAnswer(
                answer=_absolute_cutoff,
                misconception="cutoff not relative",
                says="This is exactly the cutoff s > 1e-4. Relative to the largest, it is s > 1e-4 times s.max().",
            ),
            WrongAnswer(
                answer=_cutoff_of_squares,
                misconception="cutoff of the squares",
                says="This is exactly s² > 1e-4 max s², which drops everything under a hundredth of the largest.",
            ),
            WrongAnswer(
                answer=_relative_to_the_largest,
                misconception="relative to the largest",
                says="This is exactly (s / max s)^sigma for what is kept. Asked for is s relative to the rms.",
            ),
            WrongAnswer(
                answer=lambda s, sigma: cut_gain(s, -sigma),
                misconception="sign of the exponent",
                says="This is exactly the gain with the exponent -sigma.",
            ),
            WrongAnswer(
                answer=lambda s, sigma: cut_gain(s, sigma) * s,
                misconception="sizes for gains",
                says="These are exactly the sizes behind the filter, gain times s. Asked for is the gain.",
            ),
            WrongAnswer(
                answer=_kept_only,
                misconception="dropped from the tensor",
                says="These are exactly the gains of what is kept. The others stay in the tensor, with the gain 0.",
                fails="shape",
            ),
        ),
        right=(_by_logarithms,),
    ),
    Exercise(
        name="half_floor",
        notebook="13_design_a_variant",
        statement=r"""
            A matrix of correlations holds the *squares* of the sizes. If its entries are rounded to a resolution of
            $\varepsilon$, its eigenvalues are off by up to about $\varepsilon\, \lambda_{\max}$. In half precision
            (`float16`), $\varepsilon = 2^{-10}$. Up to which relative size $s / s_{\max}$ is a direction lost in that
            error?
            """,
        difficulty=2,
        importance=4,
        minutes=4,
        imports="",
        reference=2**-5,
        ladder=value_ladder(Values(rtol=0.01, atol=0, because="it is a power of two; a rounded decimal will do")),
        hints=(
            r"It is lost if its eigenvalue is no larger than the error: $\lambda \le \varepsilon \lambda_{\max}$.",
            r"$s = \sqrt\lambda$, so $s / s_{\max} \le \sqrt\varepsilon$.",
        ),
        explanation=r"""
            $\sqrt{2^{-10}} = 2^{-5} = 1/32$: three per cent of the largest. What is smaller
            may be nothing but error. In `bfloat16` it is 9 %, in `float32` $3.5 \cdot 10^{-4}$, in `float64` $1.5 \cdot
            10^{-8}$: **squaring costs half of the digits.** A singular value decomposition of the batch itself would
            not square, and takes longer; the course's filter squares in float64.
            """,
        bank=(
            WrongAnswer(
                answer=2**-10,
                misconception="not taken for a square",
                says="This is exactly ε, the bound for eigenvalues. A size is the root of an eigenvalue.",
            ),
            WrongAnswer(
                answer=2**-20,
                misconception="squared for the root",
                says="This is exactly ε². The root goes the other way: s = √λ.",
            ),
            WrongAnswer(
                answer=2**5,
                misconception="upside down",
                says="This is exactly 1/√ε. Asked for is the lost direction in units of the largest.",
            ),
            WrongAnswer(
                answer=2**-11,
                misconception="half of the resolution",
                says="This is exactly ε/2, the error of rounding one number. A size is the root of an eigenvalue.",
            ),
            WrongAnswer(
                answer=6.1e-5,
                misconception="the smallest normal number",
                says="This is exactly the smallest normal float16. What counts is the resolution beside λ_max.",
            ),
        ),
        right=(1 / 32, 0.0312),
    ),
    Exercise(
        name="paired_interval",
        notebook="13_design_a_variant",
        statement=r"""
            Two methods, the same seeds. Seed $n$ gives both the same initial weights, the same images in the same
            order and the same views. So take the difference *seed by seed*, $d_n$, and ask between which bounds its
            true mean lies, with a confidence of 95 %. For $N$ differences that scatter normally,

            $$\bar d \mp t\, \frac{\operatorname{std}(d)}{\sqrt N},$$

            with the standard deviation that divides by $N - 1$, and $t$ the 97.5 % point of Student's distribution with
            $N - 1$ degrees of freedom: `t.ppf(0.975, N - 1)`. (It is `paired_difference` of notebook 05 without the
            mean. If you have written that, this takes a minute.)
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        imports="import torch\nfrom scipy.stats import t",
        reference=paired_interval,
        cases=grid(_two_scores, shapes=(3, 6), word="N ="),
        ladder=ladder(Values(rtol=1e-4, atol=1e-7, because="all of it is float64 arithmetic on a handful of numbers")),
        hints=(
            "One tensor first: `difference = first - second`. Everything else is made from it.",
            "`difference.std()` divides by N - 1 already. `torch.stack([mean - half, mean + half])` is the result.",
        ),
        explanation=r"""
            With three seeds $t = 4.3$, not 1.96: three numbers know little about their own spread, and an honest
            interval says so. What both methods owe to the seed has cancelled in $d_n$.
            """,
        bank=(
            WrongAnswer(
                answer=_unpaired,
                misconception="seeds not paired",
                says=(
                    "This is exactly the interval for two unrelated samples, from the variance of each. Here the seeds "
                    "are the same: take the spread of the differences."
                ),
            ),
            WrongAnswer(
                answer=_with(_error, lambda n: 1.96),
                misconception="normal for Student",
                says="This is exactly the interval with 1.96, right for hundreds of seeds. Take t.ppf(0.975, N - 1).",
            ),
            WrongAnswer(
                answer=_with(_error, lambda n: _quantile(0.975, n)),
                misconception="N degrees of freedom",
                says="This is exactly the interval with N degrees of freedom. One is spent on the mean: N - 1.",
            ),
            WrongAnswer(
                answer=_with(_error, lambda n: _quantile(0.95, n - 1)),
                misconception="one-sided point",
                says="This is exactly the interval with the 95 % point, which leaves 5 % outside on *each* side.",
            ),
            WrongAnswer(
                answer=_with(lambda d: d.std(correction=0) / len(d) ** 0.5, _student),
                misconception="biased standard deviation",
                says="This is exactly the interval with the standard deviation that divides by N. Divide by N - 1.",
            ),
            WrongAnswer(
                answer=_with(torch.std, _student),
                misconception="spread of single seeds",
                says="This is exactly without the division by √N: where a single seed lies, not where the mean does.",
            ),
            WrongAnswer(
                answer=_with(lambda d: d.std() / len(d), _student),
                misconception="divided by N",
                says="This is exactly with N where √N belongs.",
            ),
            WrongAnswer(
                answer=lambda first, second: paired_interval(second, first),
                misconception="second minus first",
                says="This is exactly the interval of second - first.",
            ),
            WrongAnswer(
                answer=lambda first, second: torch.stack((first - second).aminmax()),
                misconception="range for interval",
                says="These are exactly the smallest and the largest difference. A range is no 95 % interval.",
            ),
            WrongAnswer(
                answer=lambda first, second: paired_interval(first, second).flip(0),
                misconception="upper end first",
                says="These are exactly the right ends in the opposite order: the lower one comes first.",
            ),
        ),
        right=(_by_the_package,),
    ),
    Exercise(
        name="lucky_lead",
        notebook="13_design_a_variant",
        statement=r"""
            Now the control of every leaderboard: a board on which *all entries are equal* and only the seeds differ.
            Somebody still comes first. By how much? Given are the scores of many such boards. On each, an entry counts
            with the mean of its seeds; the lead is the best entry's mean minus the mean of all entries of that
            board. Return the average lead.
            """,
        difficulty=2,
        importance=4,
        minutes=6,
        reference=lucky_lead,
        cases=grid(_boards, shapes=((4, 3, 2), (5, 4, 3)), word="D, E, N ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="means of a few float32 numbers of size 5 keep five decimals"),
        ),
        hints=(
            "Three steps: mean over the seeds (the last axis), then the lead of each board, then the mean over boards.",
            "`entries = scores.mean(dim=2)` has shape (D, E); `entries.max(dim=1).values` is each board's best.",
        ),
        explanation=r"""
            The order of the operations is the point. The maximum comes *before* the mean over boards: taken after it,
            luck has averaged out and there is no lead. It is called the winner's curse, and it grows with the number of
            entries, however equal they are.
            """,
        bank=(
            WrongAnswer(
                answer=lambda scores: (scores.amax(dim=(1, 2)) - scores.mean(dim=(1, 2))).mean(),
                misconception="best single run",
                says="This is exactly the lead of the best single run. An entry counts with the mean of its seeds.",
            ),
            WrongAnswer(
                answer=lambda scores: scores.mean(dim=(0, 2)).max() - scores.mean(),
                misconception="boards averaged first",
                says=(
                    "This is exactly the lead after averaging over boards, where luck has cancelled. Take each board's "
                    "lead first."
                ),
            ),
            WrongAnswer(
                answer=lambda scores: scores.mean(dim=2).amax(dim=1).mean(),
                misconception="level for lead",
                says="This is exactly the mean score of the best. The lead is that minus the mean of the board.",
            ),
            WrongAnswer(
                answer=_over_the_second,
                misconception="lead over the second",
                says="This is exactly the lead over the second best. Asked for is the lead over the mean of all.",
            ),
            WrongAnswer(
                answer=lambda scores: (scores.mean(dim=2).amax(dim=1) - scores.mean(dim=2).amin(dim=1)).mean(),
                misconception="lead over the last",
                says="This is exactly best minus worst. Asked for is the lead over the mean of all.",
            ),
            WrongAnswer(
                answer=lambda scores: lucky_lead(scores.transpose(1, 2)),
                misconception="entries and seeds exchanged",
                says="This is exactly the lead of the luckiest seed: entries are axis 1, seeds axis 2.",
            ),
            WrongAnswer(
                answer=lambda scores: scores.mean(dim=2).amax(dim=1) - scores.mean(dim=(1, 2)),
                misconception="a lead for each board",
                says="These are exactly the leads, one for each board. Asked for is their average.",
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda scores: (scores.mean(dim=2).amax(dim=1) - scores.mean(dim=2).median(dim=1).values).mean(),
                misconception="lead over the median",
                says="This is exactly the lead over the median entry. Asked for is the lead over the mean of all.",
            ),
        ),
        right=(_board_by_board,),
    ),
)
