"""What a few seeds can say: intervals on paired differences, several comparisons at once, steps to a loss, power laws.

Every function is pure: numbers in, numbers out, and the same numbers each time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from minipolycom.checking import check_at_least

BOOTSTRAP_FROM = 20
"""Seeds from which an interval is bootstrapped. With 3 a bootstrap of the mean is hardly more than the range of the
three, which holds the truth three times in four where 19 in 20 are promised; Student's t holds what it promises."""

RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """A mean with the interval that holds the true one at the stated level."""

    estimate: float
    low: float
    high: float
    level: float
    n: int
    """Seeds."""
    method: str
    """Student or BCa."""


def paired(first: dict[int, float], second: dict[int, float]) -> list[float]:
    """first - second of each seed that both have, in the order of the seeds.

    Runs of one seed see the same batches in the same order, so that what these add to both cancels.
    """
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of values, one per seed, and its interval: Student's with a few seeds, a bootstrap's with many.

    Raises ValueError for fewer than two values.
    """
    method = student_interval if len(values) < BOOTSTRAP_FROM else bootstrap_interval
    return method(values, level)


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """mean -+ t s / sqrt(n), with t of n - 1 degrees of freedom and s the standard deviation of the n values.

    It assumes that seeds scatter normally. Raises ValueError for fewer than two values.
    """
    mean, error = _mean_and_error(values)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return Interval(mean, mean - half, mean + half, level, len(values), "Student")


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean, and the bootstrap's interval, corrected for bias and skewness (BCa), always from the same draws.

    Raises ValueError for fewer than two values. Source: Efron, "Better bootstrap confidence intervals", 1987.
    """
    mean, error = _mean_and_error(values)
    if error == 0:  # no resample differs from another, and the correction divides by their spread
        return Interval(mean, mean, mean, level, len(values), "BCa")
    found = stats.bootstrap(
        (np.asarray(values, dtype=float),), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(mean, float(found.low), float(found.high), level, len(values), "BCa")


def p_value(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> tuple[float, bool]:
    """How surprising these values would be if their true mean did not lie on the side where they put it: a two-sided
    p-value, and whether that side is inside the range from low to high.

    With one bound infinite this is Student's paired test; with two finite ones two one-sided tests, by which alone a
    difference can be shown to be small. Raises ValueError for fewer than two values.
    Source of the second: Schuirmann, "A comparison of the two one-sided tests procedure", 1987.
    """
    mean, error = _mean_and_error(values)

    def above(bound: float) -> float:  # p of "the true mean is not above the bound"
        if math.isinf(bound):
            return float(bound > 0)
        if error == 0:
            return float(mean <= bound)
        return float(stats.t.sf((mean - bound) / error, len(values) - 1))

    def below(bound: float) -> float:
        if math.isinf(bound):
            return float(bound < 0)
        return float(mean >= bound) if error == 0 else float(stats.t.cdf((mean - bound) / error, len(values) - 1))

    inside, outside = max(above(low), below(high)), min(below(low), above(high))
    return min(1.0, 2 * min(inside, outside)), inside < outside


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several: under a level, they are wrong about any of them no oftener than that.

    The k-th smallest of m is multiplied by m - k + 1, and none becomes smaller than the one before it.
    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Reached:
    """The step at which a run reached a loss; where it never did (`censored`), its last step, which is too small."""

    step: int
    censored: bool = False

    def __str__(self) -> str:
        return f"{'> ' if self.censored else ''}{self.step}"


def steps_to_target(curve: Sequence[tuple[int, float]], target: float) -> Reached:
    """The step of the first loss at or under the target, of a curve of (step, loss) in the order of the steps.

    Raises ValueError for an empty curve.
    """
    if not curve:
        raise ValueError("a curve without a measurement reaches nothing: give at least one (step, loss)")
    return next((Reached(step) for step, loss in curve if loss <= target), Reached(curve[-1][0], censored=True))


def crossing(curve: Sequence[tuple[int, float]], target: float) -> float | None:
    """Where the broken line through a curve of (step, loss) first is at or under the target; None where it never is.

    Raises ValueError for an empty curve.
    """
    reached = steps_to_target(curve, target)
    if reached.censored:
        return None
    place = [step for step, _ in curve].index(reached.step)
    (before, above), (after, under) = curve[max(place - 1, 0)], curve[place]
    return after if place == 0 else before + (after - before) * (above - target) / (above - under)


def median_steps(runs: Sequence[Reached]) -> Reached:
    """The median over runs, those that never reached the target counted as later than their last step.

    By the estimate of Kaplan and Meier; censored where half of the runs never got there.
    """
    check_at_least("the number of runs", len(runs), 1)
    reached = [run.step for run in runs if not run.censored]
    never = [run.step for run in runs if run.censored]
    survival = stats.ecdf(stats.CensoredData(uncensored=reached, right=never)).sf
    past = survival.probabilities <= 0.5
    if not past.any():
        return Reached(max(never), censored=True)
    return Reached(int(survival.quantiles[past][0]))


@dataclass(frozen=True)
class PowerLaw:
    """loss = floor + scale (size / first size)^-exponent, with the interval of the exponent over the seeds."""

    floor: float
    scale: float
    first_size: float
    exponent: float
    low: float
    high: float
    level: float

    def __call__(self, size: float) -> float:
        return self.floor + self.scale * (size / self.first_size) ** -self.exponent


def fit_power_law(
    losses: dict[int, Sequence[float]], floor: float | None = None, level: float = 0.95, resamples: int = 200
) -> PowerLaw:
    """The power law nearest to the losses of several sizes, each a list with one loss per seed.

    Least squares of the means' logarithms above the floor. A `floor` that is None is fitted too. The exponent's
    interval is the percentiles' over resampled seeds, the same seeds of every size, since runs of one seed are paired.

    Raises ValueError for fewer than three sizes (four where the floor is fitted), for sizes with different numbers of
    seeds, and for a loss at or under the floor.
    """
    sizes = np.array(sorted(losses), dtype=float)
    needed = 3 if floor is not None else 4
    if len(sizes) < needed:
        raise ValueError(f"a power law needs at least {needed} sizes here, or it fits anything; got {len(sizes)}")
    if len({len(of_size) for of_size in losses.values()}) != 1:
        raise ValueError("runs of one seed are resampled together: give each size one loss per seed")
    values = np.array([losses[int(size)] for size in sizes], dtype=float)
    if floor is not None and values.mean(1).min() <= floor:
        raise ValueError(
            f"a loss at or under the floor of {floor:.4f} leaves nothing to fit: {values.mean(1).min():.4f}"
        )
    best_floor, scale, exponent = _fit(sizes, values.mean(1), floor)
    random, n = np.random.default_rng(0), values.shape[1]
    drawn = [_fit(sizes, values[:, random.integers(n, size=n)].mean(1), floor)[2] for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return PowerLaw(best_floor, scale, float(sizes[0]), exponent, float(low), float(high), level)


def _fit(sizes: np.ndarray, means: np.ndarray, floor: float | None) -> tuple[float, float, float]:
    """Floor, scale and exponent."""
    relative = np.log(sizes / sizes[0])

    def line(at: float) -> tuple[float, float, float]:  # slope, intercept, and what is left over
        slope, intercept = np.polyfit(relative, np.log(means - at), 1)
        return slope, intercept, float(np.square(np.log(means - at) - slope * relative - intercept).sum())

    if floor is None:  # given the floor the rest is a straight line, so that one number is left to be searched for
        gap = optimize.minimize_scalar(
            lambda log_gap: line(means.min() - math.exp(log_gap))[2],
            bounds=(-8, math.log(means.min())),
            method="bounded",
        )
        floor = float(means.min() - math.exp(gap.x))
    slope, intercept, _ = line(floor)
    return floor, float(math.exp(intercept)), float(-slope)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error. Raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError(f"one seed has no spread: give at least two; got {len(values)}")
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
