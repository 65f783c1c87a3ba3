"""Exercises of 05_training_dynamics: time to a loss, distance to the floor, a learning rate, intervals over seeds."""

import math

import torch
import torch.nn.functional as F
from scipy import stats

from minipolycom.learn.checks import Property, Values, ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid
from minipolycom.studies.statistics import student_interval

# -- time to a loss ------------------------------------------------------------------------------------------------


def steps_to_target(steps: torch.Tensor, losses: torch.Tensor, target: float) -> torch.Tensor:
    """The step at which each run first has a loss at or under the target.

    steps: where losses were measured, ascending, shape (T,). losses: of S runs at these steps, shape (S, T).
    Returns shape (S,); infinity for a run that never gets there.
    """
    reached = losses <= target
    first = steps[reached.int().argmax(dim=1)]
    return first.masked_fill(~reached.any(dim=1), torch.inf)


def _noisy_curves(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    n_runs, n_times = shape
    steps = (10 + 90 * torch.rand(n_times, generator=generator)).round().cumsum(0)
    noise = torch.rand(n_runs, n_times, generator=generator) - 0.5
    noise[:, -1] = 0.0  # every run of these cases gets there
    return steps, torch.linspace(3.0, 1.6, n_times) + 0.8 * noise, 2.1


def _one_never_arrives() -> tuple[torch.Tensor, torch.Tensor, float]:
    losses = torch.tensor([[3.0, 2.0, 1.5, 1.75], [3.0, 2.75, 2.5, 2.25], [3.0, 2.5, 1.9, 1.5]])
    return torch.tensor([0.0, 100.0, 300.0, 400.0]), losses, 2.0


NEVER = Case(label="the second of three runs never gets there", make=_one_never_arrives)


def _as_index(steps, losses, target):
    return (losses <= target).int().argmax(dim=1).float()


def _for_good(steps, losses, target):
    above = losses > target
    last_above = above.shape[1] - 1 - above.flip(1).int().argmax(dim=1)
    return steps[(last_above + 1).clamp(max=len(steps) - 1)]


def _at_the_lowest(steps, losses, target):
    return steps[losses.argmin(dim=1)]


def _at_the_nearest(steps, losses, target):
    return steps[(losses - target).abs().argmin(dim=1)]


def _one_too_early(steps, losses, target):
    return steps[((losses <= target).int().argmax(dim=1) - 1).clamp(min=0)]


def _interpolated(steps, losses, target):
    found = []
    for curve in losses:
        at = int((curve <= target).int().argmax())
        if at == 0:
            found.append(steps[0])
            continue
        share = (curve[at - 1] - target) / (curve[at - 1] - curve[at])
        found.append(steps[at - 1] + share * (steps[at] - steps[at - 1]))
    return torch.stack(found)


def _never_is_the_end(steps, losses, target):
    return steps_to_target(steps, losses, target).clamp(max=steps[-1])


def _never_is_the_start(steps, losses, target):
    return steps[(losses <= target).int().argmax(dim=1)]


def _never_is_nan(steps, losses, target):
    first = steps_to_target(steps, losses, target)
    return first.masked_fill(first.isinf(), torch.nan)


def _strictly_under(steps, losses, target):
    reached = losses < target
    return steps[reached.int().argmax(dim=1)].masked_fill(~reached.any(dim=1), torch.inf)


def _of_the_mean_curve(steps, losses, target):
    return steps_to_target(steps, losses.mean(dim=0, keepdim=True), target)


def _by_a_minimum(steps, losses, target):
    return torch.where(losses <= target, steps, torch.inf).amin(dim=1)


def _in_a_loop(steps, losses, target):
    found = []
    for curve in losses:
        own = [float(step) for step, loss in zip(steps, curve, strict=True) if loss <= target]
        found.append(own[0] if own else math.inf)
    return torch.tensor(found)


# -- distance to the floor -----------------------------------------------------------------------------------------


def above_floor(log_q: torch.Tensor, log_p: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """How far a model's loss is above the loss of the true law on the same tokens, in nats per token.

    log_q: the model's log-probabilities, log_p: those of the law, shape (N, V). tokens: those that came, shape (N,).
    Returns a scalar tensor, shape ().
    """
    came = tokens[:, None]
    return (log_p.gather(1, came) - log_q.gather(1, came)).mean()


def _two_laws(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    n, vocabulary = shape
    log_p = torch.randn(n, vocabulary, generator=generator).mul(1.5).log_softmax(dim=1)
    log_q = (log_p + 0.7 * torch.randn(n, vocabulary, generator=generator)).log_softmax(dim=1)
    return log_q, log_p, torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]


def _loss(log_q: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return -log_q[torch.arange(len(tokens)), tokens].mean()


def _above_the_entropy(log_q, log_p, tokens):
    return _loss(log_q, tokens) + (log_p.exp() * log_p).sum(dim=1).mean()


def _divergence(log_q, log_p, tokens):
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def _above_the_best_guess(log_q, log_p, tokens):
    return _loss(log_q, tokens) + log_p.max(dim=1).values.mean()


def _cross_entropies(log_q, log_p, tokens):
    return F.cross_entropy(log_q, tokens) - F.cross_entropy(log_p, tokens)


# -- a learning rate -----------------------------------------------------------------------------------------------


def chosen_rate(rates: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """The learning rate whose loss, averaged over seeds, is lowest.

    rates: shape (R,). losses: of S seeds at each rate, shape (S, R), infinite where a run diverged: a rate at which
    any run did is not chosen. Returns a scalar tensor, shape ().
    """
    return rates[losses.mean(dim=0).argmin()]  # infinite wherever one of the seeds is


def _a_sweep(n_rates: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rates among which every mistake of the bank chooses another one."""
    rates = torch.rand(n_rates, generator=generator).mul(5).sub(9).exp().sort().values
    columns = torch.tensor(
        [
            [1.42, 1.40, 1.41],  # the right one
            [torch.inf, 1.30, 1.31],  # two good runs, one that diverged
            [1.90, 1.92, 1.95],
            [1.95, 1.10, 1.90],  # one lucky run
            [1.37, 2.20, 1.36],  # a good median
            [2.10, 2.30, 2.40],
        ]
    ).T
    more = 1.6 + 0.2 * torch.rand(3, n_rates - 6, generator=generator)
    return rates, torch.cat([columns, more], dim=1)[:, torch.randperm(n_rates, generator=generator)]


def _means_without_failures(rates, losses):
    return rates[losses.where(losses.isfinite(), torch.nan).nanmean(dim=0).argmin()]


def _luckiest_run(rates, losses):
    return rates[losses.min(dim=0).values.argmin()]


def _by_the_median(rates, losses):
    return rates[losses.where(losses.isfinite().all(dim=0), torch.inf).median(dim=0).values.argmin()]


def _place_of_the_rate(rates, losses):
    return losses.mean(dim=0).argmin().float()


def _loss_of_the_rate(rates, losses):
    return losses.mean(dim=0).min()


def _one_for_each_seed(rates, losses):
    return rates[losses.argmin(dim=1)]


def _by_sorting(rates, losses):
    finished = losses.isfinite().all(dim=0)
    return rates[finished][losses[:, finished].sum(dim=0).argsort()[0]]


# -- intervals over seeds ------------------------------------------------------------------------------------------


def paired_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The mean of the differences first - second over seeds, and its 95 % interval after Student.

    first, second: losses of two arms, entry i of both with seed i; shape (S,). Returns shape (3,): mean, low, high.
    """
    differences = first - second
    n = len(differences)
    half = stats.t.ppf(0.975, n - 1) * differences.std() / n**0.5
    mean = differences.mean()
    return torch.stack([mean, mean - half, mean + half])


def _two_arms(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    batches, own, other = torch.randn(3, n, dtype=torch.float64, generator=generator)
    return 1.52 + 0.02 * batches + 0.006 * own, 1.49 + 0.02 * batches + 0.006 * other


def _around(mean: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    return torch.stack([mean, mean - half, mean + half])


def _with_error(quantile, error):
    def interval(first, second):
        d = first - second
        return _around(d.mean(), quantile(len(d)) * error(d))

    return interval


def _student(n: int) -> float:
    return float(stats.t.ppf(0.975, n - 1))


def _error(d: torch.Tensor) -> torch.Tensor:
    return d.std() / len(d) ** 0.5


def _not_paired(first, second):
    n = len(first)
    error = ((first.var() + second.var()) / n).sqrt()
    return _around(first.mean() - second.mean(), stats.t.ppf(0.975, 2 * n - 2) * error)


def _paired_by_rank(first, second):
    return paired_difference(first.sort().values, second.sort().values)


def _ends_first(first, second):
    mean, low, high = paired_difference(first, second)
    return torch.stack([low, mean, high])


def _by_scipy(first, second):
    ends = stats.ttest_rel(first.numpy(), second.numpy()).confidence_interval(0.95)
    return torch.tensor([float((first - second).mean()), ends.low, ends.high], dtype=first.dtype)


def _by_the_package(first, second):
    found = student_interval((first - second).tolist())
    return torch.tensor([found.estimate, found.low, found.high], dtype=first.dtype)


# -- how many seeds ------------------------------------------------------------------------------------------------


def seeds_needed(differences: torch.Tensor) -> torch.Tensor:
    """How many seeds it takes for the 95 % interval to leave zero out, if mean and scatter stay what they are.

    differences: one per seed so far, shape (S,). Returns a scalar tensor, shape (), of their dtype: the smallest n from
    2 on for which the half-width t(0.975, n - 1) s / sqrt(n) is smaller than |mean|.
    """
    mean, s = differences.mean().abs(), differences.std()
    n = 2
    while stats.t.ppf(0.975, n - 1) * s / n**0.5 >= mean:
        n += 1
    return torch.tensor(n, dtype=differences.dtype)


def _some_differences(shape: tuple[int, float], generator: torch.Generator) -> tuple[torch.Tensor]:
    n, ratio = shape
    noise = torch.randn(n, dtype=torch.float64, generator=generator)
    noise = (noise - noise.mean()) / noise.std()
    stretch = 1 + 0.5 * generator.initial_seed()  # so that each seed needs another number
    return (0.01 * (-1 + ratio * stretch * noise),)


def _until(half):
    def needed(differences):
        mean, n = differences.mean().abs(), 2
        while half(differences, n) >= mean:
            n += 1
        return torch.tensor(n, dtype=differences.dtype)

    return needed


def _by_the_normal_law(differences):
    ratio = 1.96 * differences.std() / differences.mean().abs()
    return ratio.square().ceil().clamp(min=2)


def _one_error(differences):
    return (differences.std() / differences.mean()).square().ceil().clamp(min=2)


def _the_next_multiple(differences):
    n = seeds_needed(differences)
    return torch.tensor(
        next(k for k in range(2, 10_000) if _student(k) / k**0.5 < differences.mean().abs() / differences.std()),
        dtype=n.dtype,
    )


EXERCISES = (
    Exercise(
        name="steps_to_target",
        notebook="05_training_dynamics",
        statement=r"""
            Write the clock of this notebook: the first measurement at which each run's loss is **at or under** a
            target. A run that never gets there is **censored**: all that is known is that it takes longer than we
            looked. Infinity says so, and a median over runs can live with it.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=steps_to_target,
        cases=grid(_noisy_curves, shapes=((3, 9), (5, 14)), word="S, T ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-6, because="a step is looked up, not computed"),
            Property(
                promise="at 100, never, and at 300: reaching the target exactly is reaching it, and never is infinity",
                cases=(NEVER,),
                holds=lambda results: results[0].tolist() == [100.0, math.inf, 300.0],
            ),
        ),
        hints=(
            "`losses <= target` is a table of True and False. In each row you look for the first True.",
            """
            `argmax` of a row of zeros and ones is the place of its first one (`.int()` makes them of True and False).
            In a row without a one it is 0, so ask `.any(dim=1)` which rows have one, and `masked_fill` the others.
            """,
        ),
        explanation=r"""
            The *first* measurement under a target is an optimistic clock: on a noisy curve it is a lucky dip as often
            as it is progress. It is optimistic for both sides of a comparison, though not equally if one curve has more
            measurements or more noise.
            """,
        bank=(
            WrongAnswer(
                answer=_as_index,
                misconception="index for step",
                says="These are exactly the places in the row. Look up in `steps` which step each of them was.",
            ),
            WrongAnswer(
                answer=_for_good,
                misconception="for good instead of first",
                says="This is exactly the step from which each run *stays* there. Asked for is the first time.",
            ),
            WrongAnswer(
                answer=_at_the_lowest,
                misconception="lowest loss",
                says="This is exactly the step of each run's lowest loss. The target plays no part in it.",
            ),
            WrongAnswer(
                answer=_at_the_nearest,
                misconception="nearest to the target",
                says="This is exactly the step whose loss is nearest to the target, from above or below.",
            ),
            WrongAnswer(
                answer=_one_too_early,
                misconception="one measurement too early",
                says="This is exactly the measurement before the first one at or under the target: the last one above.",
            ),
            WrongAnswer(
                answer=_interpolated,
                misconception="between two measurements",
                says=(
                    "This is exactly where the straight line between two measurements crosses the target. Nothing was "
                    "measured there; asked for is the first measurement."
                ),
            ),
            WrongAnswer(
                answer=_of_the_mean_curve,
                misconception="one curve for all runs",
                says="This is exactly the clock of the mean curve. Each run has its own.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_never_is_the_end,
                misconception="never counted as the end",
                says=(
                    "A run that never gets there has exactly its last step here. So the slowest runs are told to have "
                    "arrived at the end of training."
                ),
                fails="property",
            ),
            WrongAnswer(
                answer=_never_is_the_start,
                misconception="never counted as the start",
                says=(
                    "A run that never gets there has exactly its first step here: `argmax` of a row without a True is "
                    "0. The slowest run has become the fastest."
                ),
                fails="property",
            ),
            WrongAnswer(
                answer=_never_is_nan,
                misconception="never is not a number",
                says=(
                    "A run that never gets there is NaN here. That says that nothing is known; but it is known that it "
                    "takes longer than all the others, and infinity says so."
                ),
                fails="property",
            ),
            WrongAnswer(
                answer=_strictly_under,
                misconception="strictly under",
                says="This counts a loss only when it is under the target. One that equals it has reached it, too.",
                fails="property",
            ),
        ),
        right=(_by_a_minimum, _in_a_loop),
    ),
    Exercise(
        name="above_floor",
        notebook="05_training_dynamics",
        statement=r"""
            The law of the language gives each next token a probability $p$; a model gives it a probability $q$. Write
            how far the model is from the best that can be done **on the tokens that came**, $y_1, \dots, y_N$:

            $$\frac1N \sum_n \bigl(-\ln q_n(y_n)\bigr) \;-\; \frac1N \sum_n \bigl(-\ln p_n(y_n)\bigr).$$

            The first sum is the loss as always. The second is the loss of somebody who knows the law: the **floor**.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=above_floor,
        cases=grid(_two_laws, shapes=((6, 4), (15, 9)), word="N, V ="),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-6, because="a mean of a few float32 numbers of size one"),
        ),
        hints=(
            "`log_q[torch.arange(N), tokens]` picks from each row the entry of the token that came.",
            "Both sums go over the same tokens, so one mean of `log_p - log_q` at these tokens does it.",
        ),
        explanation=r"""
            Sentences are easy or hard by luck, and that luck is in both sums: it cancels. Taking off the *entropy* of
            the law instead would leave it in. In expectation all three are the same number, the Kullback–Leibler
            divergence $\operatorname{KL}(p \,\|\, q)$, and only this one and the divergence itself are the same in
            practice. You will meet this trick again, with seeds in place of sentences.
            """,
        bank=(
            WrongAnswer(
                answer=_above_the_entropy,
                misconception="entropy for the floor",
                says=(
                    "This is exactly the loss minus the mean entropy of the law. That is right on average over texts, "
                    "but it leaves in the luck of these tokens; the law's own loss on them takes it out."
                ),
            ),
            WrongAnswer(
                answer=_divergence,
                misconception="divergence over all tokens",
                says=(
                    "This is exactly the mean of KL(p ‖ q), an average over all tokens that could have come. Asked for "
                    "is the estimate from those that came."
                ),
            ),
            WrongAnswer(
                answer=_above_the_best_guess,
                misconception="likeliest token for the floor",
                says=(
                    "This is exactly the loss minus that of a text in which the likeliest token always comes. The "
                    "floor is the law's loss on the tokens that did come."
                ),
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: _loss(log_q, tokens),
                misconception="no floor",
                says="This is exactly the model's loss. The law's loss on the same tokens is still to be taken off.",
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: -above_floor(log_q, log_p, tokens),
                misconception="sign",
                says="This is exactly minus the distance. The model's loss is the larger of the two.",
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: len(tokens) * above_floor(log_q, log_p, tokens),
                misconception="sum for mean",
                says="This is exactly the sum over tokens. Per token means: divide by N.",
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: above_floor(log_q, log_p, tokens) / math.log(2),
                misconception="bits for nats",
                says="This is exactly the distance in bits. Nats are asked for: the natural logarithm, without log 2.",
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: above_floor(log_q, log_p, tokens).exp(),
                misconception="ratio of perplexities",
                says="This is exactly the ratio of the two perplexities. The distance in nats is its logarithm.",
            ),
            WrongAnswer(
                answer=lambda log_q, log_p, tokens: (log_p - log_q)[torch.arange(len(tokens)), tokens],
                misconception="one number for each token",
                says="These are exactly the distances token by token. Their mean is asked for.",
                fails="shape",
            ),
        ),
        right=(_cross_entropies, lambda log_q, log_p, tokens: _loss(log_q, tokens) - _loss(log_p, tokens)),
    ),
    Exercise(
        name="chosen_rate",
        notebook="05_training_dynamics",
        statement=r"""
            Write the rule by which a learning rate is chosen from a sweep: lowest mean over seeds, and a rate at which
            any run diverged is out, however good the others were. The loss of a run that diverged is infinite.
            """,
        difficulty=1,
        importance=4,
        minutes=5,
        reference=chosen_rate,
        cases=grid(_a_sweep, shapes=(6, 9), word="R ="),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-9, because="a rate is looked up, not computed"),
        ),
        hints=(
            "Which axis is that of the seeds? Averaged over it, one number is left for each rate.",
            "A mean with an infinite number in it is infinite, which is just what the rule needs; then `argmin`.",
        ),
        explanation=r"""
            Two more rules are not in the function. The seeds on which a rate is chosen are not those on which arms are
            compared, or the chosen rate carries its luck along. And a best rate at the edge of the grid has not been
            found: the grid has to grow.
            """,
        bank=(
            WrongAnswer(
                answer=_means_without_failures,
                misconception="failures left out of the mean",
                says=(
                    "This is exactly the rate with the lowest mean over the runs that finished. A rate that fails once "
                    "in three times cannot be used."
                ),
            ),
            WrongAnswer(
                answer=_luckiest_run,
                misconception="luckiest run",
                says="This is exactly the rate of the single lowest loss. One lucky seed decides; average over seeds.",
            ),
            WrongAnswer(
                answer=_by_the_median,
                misconception="median over seeds",
                says=(
                    "This is exactly the rate with the lowest median, which does not see that one seed in three went "
                    "wrong."
                ),
            ),
            WrongAnswer(
                answer=_place_of_the_rate,
                misconception="place for rate",
                says="This is exactly the place of the rate in the grid. Look it up in `rates`.",
            ),
            WrongAnswer(
                answer=_loss_of_the_rate,
                misconception="loss for rate",
                says="This is exactly the lowest mean loss. Asked for is the rate that has it.",
            ),
            WrongAnswer(
                answer=_one_for_each_seed,
                misconception="a rate for each seed",
                says="This is exactly the best rate of each seed. One rate is chosen, by the mean over seeds.",
                fails="shape",
            ),
        ),
        right=(_by_sorting,),
    ),
    Exercise(
        name="paired_difference",
        notebook="05_training_dynamics",
        statement=r"""
            Entry $i$ of both tensors is a loss with seed $i$, and runs with one seed read the same batches in the same
            order. So compare run by run: with $d_i = a_i - b_i$, the 95 % interval of the mean difference is

            $$\bar d \;\mp\; t_{0.975,\,n-1} \frac{s}{\sqrt n}, \qquad s^2 = \frac1{n-1} \sum_i (d_i - \bar d)^2.$$

            `stats.t.ppf(0.975, n - 1)` is the quantile of Student's law with $n - 1$ degrees of freedom: 4.30 for three
            seeds, where the normal law has 1.96.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        imports="import torch\nfrom scipy import stats",
        reference=paired_difference,
        cases=grid(_two_arms, shapes=(3, 7), word="S ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-9, because="a mean and a root of a few float64 numbers"),
        ),
        hints=(
            "Take the difference first and everything else of the differences. `d.std()` divides by n - 1 already.",
            "`torch.stack([mean, mean - half, mean + half])` makes one tensor of three scalars.",
        ),
        explanation=r"""
            The batches make both losses better or worse together, and the difference does not see it: the variance of
            $a - b$ is $\sigma_a^2 + \sigma_b^2 - 2 \operatorname{cov}(a, b)$. Without pairs the covariance is lost. And
            three numbers do not know their own scatter well, which is what the 4.30 pays for.
            """,
        bank=(
            WrongAnswer(
                answer=_not_paired,
                misconception="not paired",
                says=(
                    "This is exactly the interval for two independent groups: the variances of both arms added up. The "
                    "runs come in pairs; take the differences first."
                ),
            ),
            WrongAnswer(
                answer=_with_error(_student, torch.std),
                misconception="standard deviation for standard error",
                says="This is exactly t times the standard deviation. The mean of n numbers scatters √n times less.",
            ),
            WrongAnswer(
                answer=_with_error(lambda n: 1.96, _error),
                misconception="normal for Student",
                says=(
                    "This is exactly the interval with 1.96, for a scatter that is known. Here it is estimated from "
                    "the same few seeds, so the quantile is Student's."
                ),
            ),
            WrongAnswer(
                answer=_with_error(_student, lambda d: d.std(correction=0) / len(d) ** 0.5),
                misconception="n for n - 1",
                says="This is exactly the interval with a variance divided by n. Divide by n - 1: the mean was fitted.",
            ),
            WrongAnswer(
                answer=_with_error(lambda n: float(stats.t.ppf(0.95, n - 1)), _error),
                misconception="one side only",
                says="This is exactly the 90 % interval: 0.95 leaves out 5 % on each side. Take 0.975.",
            ),
            WrongAnswer(
                answer=_with_error(lambda n: float(stats.t.ppf(0.975, n)), _error),
                misconception="n degrees of freedom",
                says="This is exactly the interval with n degrees of freedom. There are n - 1: the mean took one.",
            ),
            WrongAnswer(
                answer=lambda first, second: paired_difference(second, first),
                misconception="second minus first",
                says="This is exactly the interval of second - first. Asked for is first - second.",
            ),
            WrongAnswer(
                answer=_paired_by_rank,
                misconception="paired by size",
                says=(
                    "This is exactly what sorting both arms gives before the difference is taken. The pairs are made "
                    "by the seed, not by the result: sorting makes scatter disappear that is there."
                ),
            ),
            WrongAnswer(
                answer=_ends_first,
                misconception="order of the three",
                says="These are exactly low, mean, high. Asked for is mean, low, high.",
            ),
        ),
        right=(_by_scipy, _by_the_package),
    ),
    Exercise(
        name="seeds_needed",
        notebook="05_training_dynamics",
        statement=r"""
            An interval holds zero, and you may buy more seeds. How many in all? Suppose that the mean and the scatter
            $s$ of the differences stay as they are, and find the smallest $n \ge 2$ with

            $$t_{0.975,\,n-1} \frac{s}{\sqrt n} < |\bar d|.$$

            The quantile depends on $n$ too, so there is no formula to solve. Count up.
            """,
        difficulty=3,
        importance=3,
        minutes=8,
        imports="import torch\nfrom scipy import stats",
        reference=seeds_needed,
        cases=grid(_some_differences, shapes=((3, 1.2), (4, 2.0), (5, 3.0)), word="S, scatter ="),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-6, because="a whole number"),
        ),
        hints=(
            "Mean and standard deviation come from the differences at hand and stay; only n changes in the loop.",
            "`while stats.t.ppf(0.975, n - 1) * s / n**0.5 >= mean: n += 1`, from n = 2 on.",
        ),
        explanation=r"""
            Twice the scatter, or half the difference, takes four times the seeds. It is a plan, not a promise: the mean
            that it starts from is itself uncertain, most of all where it is small.
            """,
        bank=(
            WrongAnswer(
                answer=_by_the_normal_law,
                misconception="normal for Student",
                says="This is exactly (1.96 s / mean)², rounded up. With few seeds Student's quantile is larger.",
            ),
            WrongAnswer(
                answer=_one_error,
                misconception="one standard error",
                says="This is exactly (s / mean)², rounded up: the quantile is missing.",
            ),
            WrongAnswer(
                answer=_until(lambda d, n: _student(len(d)) * d.std() / n**0.5),
                misconception="quantile of the seeds at hand",
                says=(
                    "This is exactly what the quantile for the seeds at hand gives. With more seeds it falls, and "
                    "fewer are needed: it belongs into the loop."
                ),
            ),
            WrongAnswer(
                answer=_until(lambda d, n: _student(n) * d.std(correction=0) / n**0.5),
                misconception="n for n - 1",
                says="This is exactly the count for a variance divided by n. Divide by n - 1.",
            ),
            WrongAnswer(
                answer=_until(lambda d, n: _student(n) * d.std() / n),
                misconception="n for its root",
                says="This is exactly the count for an error of s / n. The error of a mean is s / √n.",
            ),
            WrongAnswer(
                answer=_until(lambda d, n: float(stats.t.ppf(0.95, n - 1)) * d.std() / n**0.5),
                misconception="one side only",
                says="This is exactly the count for a 90 % interval: 0.95 leaves out 5 % on each side. Take 0.975.",
            ),
            WrongAnswer(
                answer=lambda differences: seeds_needed(differences) - len(differences),
                misconception="additional seeds only",
                says="These are exactly the seeds still to buy. Asked for are those in all.",
            ),
        ),
        right=(_the_next_multiple,),
    ),
)
