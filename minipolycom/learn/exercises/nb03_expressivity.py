"""Exercises of 03_expressivity: what networks can represent exactly, what ReLU has to pay, and at what rate."""

import itertools
import math

import torch

from minipolycom.learn.checks import Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid


def four_neurons(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The product of two numbers by one hidden layer of four squared-ReLU neurons.

    x: N pairs of numbers, shape (N, 2). The neurons look along (1, 1), (-1, -1), (1, -1) and (-1, 1), in this order.
    Returns (hidden, product): the outputs of the neurons, shape (N, 4), and a weighted sum of them that equals
    x[:, 0] * x[:, 1] for every pair, shape (N,).
    """
    directions = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=x.dtype)
    hidden = torch.relu(x @ directions.T) ** 2
    readout = torch.tensor([1, 1, -1, -1], dtype=x.dtype) / 4
    return hidden, hidden @ readout


def _pairs(n: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randn(n, 2, generator=generator),)


def _read(hidden: torch.Tensor, *readout: float) -> tuple[torch.Tensor, torch.Tensor]:
    return hidden, hidden @ torch.tensor(readout, dtype=hidden.dtype)


def _hidden(x: torch.Tensor) -> torch.Tensor:
    return four_neurons(x)[0]


def _all_directions(x: torch.Tensor) -> torch.Tensor:
    return x @ torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=x.dtype).T


def _column_by_column(x):
    a, b = x[:, 0], x[:, 1]
    columns = [torch.clamp(z, min=0) ** 2 for z in (a + b, -a - b, a - b, b - a)]
    return torch.stack(columns, dim=1), (columns[0] + columns[1] - columns[2] - columns[3]) / 4


def _with_half_of_the_neurons_twice(x):
    hidden = torch.relu(_all_directions(x)).square()
    return hidden, (hidden[:, :2].sum(dim=1) - hidden[:, 2:].sum(dim=1)) * 0.25


def shared_readout(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The factors with which copies of one PolyReLU add up to each rectified power.

    weight: r coefficients of P(x) = sum_p a_p max(x, 0)^p, highest power first, so weight[0] = a_r; shape (r,).
    scales: r different positive numbers s_j; shape (r,).
    Returns C, shape (r, r), with sum_j C[p - 1, j] P(scales[j] x) = max(x, 0)^p for p = 1..r and every x.
    """
    powers = torch.arange(1, len(weight) + 1)
    held = weight.flip(0)[:, None] * scales ** powers[:, None]  # held[q - 1, j]: how much of power q copy j holds
    return torch.linalg.inv(held).T


def _coefficients(order: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    stretch = 0.8 + 0.4 * torch.rand(order, generator=generator, dtype=torch.float64)
    return 0.3 + torch.rand(order, generator=generator, dtype=torch.float64), 0.5 ** torch.arange(order) * stretch


def _held(weight: torch.Tensor, scales: torch.Tensor, first: int = 1) -> torch.Tensor:
    powers = torch.arange(first, first + len(weight))
    return weight.flip(0)[:, None] * scales ** powers[:, None]


def _base_and_exponent_exchanged(weight, scales):
    powers = torch.arange(1, len(weight) + 1, dtype=scales.dtype)
    return torch.linalg.inv(weight.flip(0)[:, None] * powers[:, None] ** scales).T


def _by_solving_for_each_power(weight, scales):
    rows = [torch.linalg.solve(_held(weight, scales), target) for target in torch.eye(len(weight), dtype=weight.dtype)]
    return torch.stack(rows)


def _entry_by_entry(weight, scales):
    order = len(weight)
    held = torch.empty(order, order, dtype=weight.dtype)
    for power in range(1, order + 1):
        for copy in range(order):
            held[power - 1, copy] = weight[-power] * scales[copy] ** power
    return torch.linalg.solve(held, torch.eye(order, dtype=weight.dtype)).mT


def sawtooth_square(x: torch.Tensor, corrections: torch.Tensor) -> torch.Tensor:
    """The sawtooth approximation of x^2 on [0, 1].

    x: numbers between 0 and 1, shape (N,). corrections: 1/4, 1/16, ..., 1/4^m, shape (m,).
    Returns x - sum_k corrections[k] * (the tooth applied k + 1 times to x), shape (N,).
    """
    tooth, square = x, x
    for correction in corrections:
        tooth = 2 * torch.relu(tooth) - 4 * torch.relu(tooth - 0.5)
        square = square - correction * tooth
    return square


def _places(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    n, m = shape
    return torch.rand(n, generator=generator), 0.25 ** torch.arange(1, m + 1)


def _tooth(t: torch.Tensor) -> torch.Tensor:
    return 2 * torch.relu(t) - 4 * torch.relu(t - 0.5)


def _same_tooth_each_time(x, corrections):
    return x - corrections.sum() * _tooth(x)


def _corrections_added(x, corrections):
    return 2 * x - sawtooth_square(x, corrections)


def _corrections_alone(x, corrections):
    return x - sawtooth_square(x, corrections)


def _without_corrections(x, corrections):
    return sawtooth_square(x, torch.ones_like(corrections))


def _tooth_of_what_is_left(x, corrections):
    square = x
    for correction in corrections:
        square = square - correction * _tooth(square)
    return square


def _ramp_for_tooth(x, corrections):
    tooth, square = x, x
    for correction in corrections:
        tooth = 2 * torch.relu(tooth) - 2 * torch.relu(tooth - 0.5)
        square = square - correction * tooth
    return square


def _last_correction_left_out(x, corrections):
    return sawtooth_square(x, corrections[:-1])


def _corrections_backwards(x, corrections):
    return sawtooth_square(x, corrections.flip(0))


def _subtracting_in_place(x, corrections):
    tooth = square = x
    for correction in corrections:
        tooth = _tooth(tooth)
        square -= correction * tooth
    return square


def _with_a_tent(x, corrections):
    tooth, total = x, torch.zeros_like(x)
    for correction in corrections:
        tooth = 1 - (1 - 2 * tooth).abs()
        total = total + correction * tooth
    return x - total


def best_error(knots: torch.Tensor) -> torch.Tensor:
    """The smallest error that a function can have as an approximation of x^2 if it bends at the given places only.

    knots: places in rising order, the ends 0 and 1 among them, shape (N + 1,). Between two of them the function is a
    straight line. Returns the smallest possible value of max |function(x) - x^2| over [0, 1], shape ().
    """
    return knots.diff().max() ** 2 / 8


def _knots(n_pieces: int, generator: torch.Generator) -> tuple[torch.Tensor]:
    lengths = 0.2 + torch.rand(n_pieces, generator=generator, dtype=torch.float64)
    return (torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0) / lengths.sum()]),)


def _by_ends_and_middles(knots):
    a, b = knots[:-1], knots[1:]
    sag = (a**2 + b**2) / 2 - ((a + b) / 2) ** 2  # of the chord, in its middle
    return (sag / 2).amax()


def _piece_by_piece(knots):
    largest = knots.new_zeros(())
    for left, right in itertools.pairwise(knots):
        largest = torch.maximum(largest, (right - left) * (right - left) / 8)
    return largest


def patchwork(x: torch.Tensor, centres: torch.Tensor, taylor: torch.Tensor) -> torch.Tensor:
    """A function put together from Taylor polynomials, each on its own patch of [0, 1].

    x: places, shape (N,). centres: M = cells + 1 evenly spaced places, the ends 0 and 1 among them, shape (M,).
    taylor: taylor[m, k] = f^(k)(centres[m]) / k!, shape (M, n).
    Returns sum_m bump(3 cells (x - centres[m])) * (Taylor polynomial of centre m at x), shape (N,).
    """
    distance = x[:, None] - centres
    cells = len(centres) - 1
    bumps = (2 - (3 * cells * distance).abs()).clamp(0, 1)
    powers = torch.arange(taylor.shape[1])
    polynomials = (taylor * distance[:, :, None] ** powers).sum(dim=2)
    return (bumps * polynomials).sum(dim=1)


def _patches(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    n, cells, order = shape
    centres = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    x = torch.rand(n, generator=generator, dtype=torch.float64)
    return x, centres, torch.randn(cells + 1, order, generator=generator, dtype=torch.float64)


def _blend(x, centres, taylor, bump=None, cells=None, powers_of=None, sign=1.0):
    """`patchwork` with one part of it exchanged."""
    distance = sign * (x[:, None] - centres)
    cells = cells or len(centres) - 1
    bump = bump or (lambda t: (2 - t.abs()).clamp(0, 1))
    base = distance if powers_of is None else powers_of
    polynomials = sum(taylor[:, k] * base**k for k in range(taylor.shape[1]))
    return (bump(3 * cells * distance) * polynomials).sum(dim=1)


def _factorials(taylor: torch.Tensor) -> torch.Tensor:
    return torch.tensor([math.factorial(k) for k in range(taylor.shape[1])], dtype=taylor.dtype)


def _nearest_patch(x, centres, taylor):
    distance = x[:, None] - centres
    nearest = distance.abs().argmin(dim=1, keepdim=True)
    polynomials = sum(taylor[:, k] * distance**k for k in range(taylor.shape[1]))
    return polynomials.gather(1, nearest)[:, 0]


def _with_four_rectifiers(x, centres, taylor):
    t = 3 * (len(centres) - 1) * (x[:, None] - centres)
    bumps = torch.relu(t + 2) - torch.relu(t + 1) - torch.relu(t - 1) + torch.relu(t - 2)
    total = torch.zeros_like(x)
    for m, centre in enumerate(centres):
        total = total + bumps[:, m] * sum(c * (x - centre) ** k for k, c in enumerate(taylor[m]))
    return total


def _by_horner(x, centres, taylor):
    distance = x[:, None] - centres
    value = torch.zeros_like(distance)
    for column in reversed(range(taylor.shape[1])):
        value = value * distance + taylor[:, column]
    t = (3 * (len(centres) - 1) * distance).abs()
    return (torch.where(t < 1, 1, torch.where(t < 2, 2 - t, 0)) * value).sum(dim=1)


def rate_slope(sizes: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """The exponent r of a power law error ~ size^r, by a straight line through the logarithms (least squares).

    sizes, errors: positive numbers, shape (K,) each. Returns one number, shape ().
    """
    x, y = sizes.log(), errors.log()
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x * x).sum()


def _power_law(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    steps = 0.4 + torch.rand(n, generator=generator, dtype=torch.float64)
    x = steps.cumsum(0)
    noise = 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    exponent = 0.5 + 2 * torch.rand((), generator=generator, dtype=torch.float64)
    return 20 * x.exp(), (1 - exponent * x + noise).exp()


def _fit(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x * x).sum()


def _by_normal_equations(sizes, errors):
    design = torch.stack([sizes.log(), torch.ones_like(sizes)], dim=1)
    return torch.linalg.solve(design.T @ design, design.T @ errors.log())[0]


def _in_decimal_logarithms(sizes, errors):
    x, y = sizes.log10(), errors.log10()
    return torch.cov(torch.stack([x, y]))[0, 1] / x.var()


EXERCISES = (
    Exercise(
        name="four_neurons",
        notebook="03_expressivity",
        statement=r"""
            A neuron can square; can it multiply? The squares of a sum and of a difference,

            $$(x + y)^2 = x^2 + 2xy + y^2, \qquad (x - y)^2 = x^2 - 2xy + y^2,$$

            differ by the product, and each square takes two neurons, because $z^2 = \max(z, 0)^2 + \max(-z, 0)^2$.
            Build the hidden layer of four neurons $\max(v \cdot x, 0)^2$ that look along $v = (1, 1), (-1, -1), (1,
            -1), (-1, 1)$, and the weighted sum of them that is $x y$ everywhere.
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=four_neurons,
        cases=(
            *grid(_pairs, shapes=(5, 8), word="pairs:"),
            Case(
                label="float64 input",
                make=lambda: (torch.tensor([[0.5, -2.0], [3.0, 1.5], [-1.0, -1.0]], dtype=torch.float64),),
            ),
        ),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="squares cancel in the product, which costs float32 two of its digits")
        ),
        hints=(
            r"""
            Subtract the second line of the statement from the first. What stands in front of $xy$?
            """,
            """
            `directions` is a matrix with one row per neuron; `x @ directions.T` is what goes into the neurons, shape
            (N, 4). Rectify, then square. The first two neurons add up to (x + y)², the last two to (x - y)².
            """,
        ),
        explanation=r"""
            $(x + y)^2 - (x - y)^2 = 4xy$, so the readout is $(1, 1, -1, -1) / 4$. Of each pair of neurons only one
            speaks at a time: the one whose input is positive.

            Nothing here is an approximation. The same trick with $2^{k-1}$ sign patterns and the power $k$ multiplies
            $k$ numbers in one layer.
            """,
        bank=(
            WrongAnswer(
                answer=lambda x: _read(_all_directions(x) ** 2, 0.25, 0.25, -0.25, -0.25),
                misconception="squares without a rectifier",
                says=(
                    "These are exactly the squares without a rectifier in front, so each pair of neurons says the "
                    "same thing twice. Rectify first, then square: relu(z)², not z² and not relu(z²)."
                ),
            ),
            WrongAnswer(
                answer=lambda x: _read(torch.relu(_all_directions(x)), 0.25, 0.25, -0.25, -0.25),
                misconception="rectifier without a square",
                says="These are exactly the rectified inputs, not squared: this layer is plain ReLU.",
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), 1, 1, -1, -1),
                misconception="factor 1/4 left out",
                says="The neurons are right. This sum is exactly (x + y)² - (x - y)², which is 4xy.",
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), 0.5, 0.5, -0.5, -0.5),
                misconception="1/2 for 1/4",
                says=(
                    "The neurons are right, and this sum is exactly 2xy. Count once more: (x + y)² has 2xy, and "
                    "(x - y)² has -2xy."
                ),
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), 0.25, 0.25, 0.25, 0.25),
                misconception="added where the difference is meant",
                says=(
                    "The neurons are right. Added with equal signs they give exactly (x² + y²) / 2: the products "
                    "cancel."
                ),
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), 0.25, -0.25, 0.25, -0.25),
                misconception="signs alternate",
                says=(
                    "The neurons are right; the signs are exactly +, -, +, -. Neurons one and two are the two halves "
                    "of the same square, so they have the same sign."
                ),
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), -0.25, -0.25, 0.25, 0.25),
                misconception="difference the wrong way round",
                says="The neurons are right. This sum is exactly -xy: the square of the sum comes first.",
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x), 0.25, 0, -0.25, 0),
                misconception="two neurons for four",
                says=(
                    "The neurons are right, and this sum uses exactly the first and the third. Where x + y or x - y "
                    "is negative these are silent, and the other two have to speak."
                ),
            ),
            WrongAnswer(
                answer=lambda x: _read(_hidden(x)[:, [0, 2, 1, 3]], 0.25, -0.25, 0.25, -0.25),
                misconception="another order of the neurons",
                says=(
                    "The product is right. The neurons stand exactly in the order (1, 1), (1, -1), (-1, -1), (-1, 1); "
                    "asked for is each direction next to its opposite."
                ),
            ),
            WrongAnswer(
                answer=lambda x: (_hidden(x).T, _hidden(x) @ torch.tensor([1, 1, -1, -1], dtype=x.dtype) / 4),
                misconception="neurons in rows",
                says="The product is right. The neurons' outputs stand in rows; asked for is one row per pair, (N, 4).",
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda x: x[:, 0] * x[:, 1],
                misconception="the product without the neurons",
                says=(
                    "This is exactly x * y, computed by the multiplication that was to be built. Return what the four "
                    "neurons say, and their weighted sum."
                ),
                fails="kind of result",
            ),
        ),
        right=(_column_by_column, _with_half_of_the_neurons_twice),
    ),
    Exercise(
        name="shared_readout",
        notebook="03_expressivity",
        statement=r"""
            In the paper's language models all neurons of a layer share **one** coefficient vector, which is $(\tfrac13,
            \tfrac13, \tfrac13)$ at the start. So no neuron of theirs computes a pure square. Show that nothing is lost.

            A copy of $P(x) = \sum_p a_p \max(x, 0)^p$ that sees $s x$ instead of $x$, $s > 0$, gives $P(s x) = \sum_p
            a_p s^p \max(x, 0)^p$: the same powers, mixed differently. With as many copies as powers, the mixture can
            be undone. Find, for every power $p = 1 \ldots r$ at once, the factors

            $$\sum_{j} C_{pj}\, P(s_j x) = \max(x, 0)^p .$$

            Mind that `weight` holds the coefficients highest power first, as the paper's code does.
            """,
        difficulty=4,
        importance=4,
        minutes=15,
        reference=shared_readout,
        cases=(
            *grid(_coefficients, shapes=(2, 3), word="order"),
            Case(
                label="the language model's coefficients",
                make=lambda: (
                    torch.full((3,), 1 / 3, dtype=torch.float64),
                    torch.tensor([1, 0.5, 0.25], dtype=torch.float64),
                ),
            ),
        ),
        ladder=ladder(
            Values(
                rtol=1e-8,
                atol=1e-8,
                because="float64 carries sixteen digits, and the worst of these systems loses about four",
            )
        ),
        hints=(
            r"""
            Write down how much of each power each copy holds: $M_{qj} = a_q s_j^q$. What must the vector of factors
            $c$ do to $M$ so that only the power $p$ is left?
            """,
            r"""
            $M c = e_p$, the vector with a one in place $p$. So $c$ is column $p$ of $M^{-1}$, and asked for are the
            factors of power $p$ as a *row*. `weight.flip(0)` gives $a_1, a_2, \ldots, a_r$.
            """,
        ),
        explanation=r"""
            With $M_{qj} = a_q s_j^q$ the sum of copies is $\sum_q (M c)_q \max(x, 0)^q$, so $M c = e_p$, and all of
            them together are $C = (M^{-1})^\mathsf{T}$. $M$ is a Vandermonde matrix with its rows and columns scaled:
            it can be inverted if the scales differ and no coefficient is zero.

            For $a = (\tfrac13, \tfrac13, \tfrac13)$ and $s = (1, \tfrac12, \tfrac14)$ the rows are whole numbers: $(1,
            -12, 32)$, $(-6, 60, -96)$, $(8, -48, 64)$. They are large and of both signs. What that costs is measured
            next.
            """,
        bank=(
            WrongAnswer(
                answer=lambda weight, scales: torch.linalg.inv(_held(weight, scales)),
                misconception="transposed",
                says=(
                    "This is exactly the inverse itself, with the factors of a power in a column. Asked for is one "
                    "row per power."
                ),
            ),
            WrongAnswer(
                answer=lambda weight, scales: torch.linalg.inv(_held(weight.flip(0), scales)).T,
                misconception="coefficients read from the lowest power up",
                says=(
                    "This is exactly what comes out if weight[0] is taken for the coefficient of x. It is that of the "
                    "highest power: weight.flip(0) is a_1, a_2, ..., a_r."
                ),
            ),
            WrongAnswer(
                answer=lambda weight, scales: torch.linalg.inv(_held(weight, scales, first=0)).T,
                misconception="powers from 0",
                says="This is exactly the solution for powers 0, 1, ..., r - 1. PolyReLU's powers begin with 1.",
            ),
            WrongAnswer(
                answer=lambda weight, scales: torch.linalg.inv(_held(torch.ones_like(weight), scales)).T,
                misconception="coefficients left out",
                says="This is exactly the solution for coefficients that are all 1. A copy holds a_q s^q of power q.",
            ),
            WrongAnswer(
                answer=lambda weight, scales: _held(weight, scales),
                misconception="the system instead of its solution",
                says=(
                    "This is exactly how much of each power each copy holds, a_q s_j^q. The factors have to undo it: "
                    "invert."
                ),
            ),
            WrongAnswer(
                answer=lambda weight, scales: 1 / _held(weight, scales),
                misconception="inverted entry by entry",
                says=(
                    "This is exactly 1 / (a_q s_j^q), entry by entry. The powers have to cancel *across* copies: that "
                    "takes the inverse of the matrix."
                ),
            ),
            WrongAnswer(
                answer=lambda weight, scales: shared_readout(weight, scales).flip(0),
                misconception="rows from the highest power down",
                says="These are exactly the right rows in reverse: row 0 belongs to power 1, the last one to power r.",
            ),
            WrongAnswer(
                answer=_base_and_exponent_exchanged,
                misconception="base and exponent exchanged",
                says=(
                    "This is exactly the solution with q to the power s_j. A copy sees s_j x, so it holds s_j to the "
                    "power q."
                ),
            ),
            WrongAnswer(
                answer=lambda weight, scales: shared_readout(weight, scales).float(),
                misconception="always float32",
                says=(
                    "These are the right numbers in float32. The sums cancel, so every digit counts: keep float64 as "
                    "it comes."
                ),
                fails="dtype",
            ),
        ),
        right=(_by_solving_for_each_power, _entry_by_entry),
    ),
    Exercise(
        name="sawtooth_square",
        notebook="03_expressivity",
        statement=r"""
            ReLU has no square, so it has to be put together. One **tooth** takes two neurons,

            $$g(x) = 2 \max(x, 0) - 4 \max(x - \tfrac12, 0), \qquad 0 \le x \le 1,$$

            up from 0 to 1 at one half and down to 0 again. A tooth of a tooth has two peaks, the next one four. Start
            from the straight line $x$ and subtract teeth:

            $$f_m(x) = x - \sum_{k=1}^{m} \frac{1}{4^k}\, \underbrace{g(g(\ldots g}_{k \text{ times}}(x))).$$

            Write $f_m$. The numbers $4^{-k}$ are given as `corrections`.
            """,
        difficulty=3,
        importance=5,
        minutes=10,
        reference=sawtooth_square,
        cases=grid(_places, shapes=((40, 2), (60, 5)), word="shape (places, corrections)"),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="each tooth doubles the rounding errors of the one before"),
            Property(
                promise="f_3 meets x² at every eighth",
                cases=(
                    Case(
                        label="x = 0, 1/8, ..., 1",
                        make=lambda: (torch.arange(9) / 8, torch.tensor([1 / 4, 1 / 16, 1 / 64])),
                    ),
                ),
                holds=lambda results: close((torch.arange(9) / 8) ** 2, results[0], rtol=0, atol=1e-6),
            ),
        ),
        hints=(
            """
            Two running values: the latest tooth, and the approximation so far. Which of the two does the next tooth
            bend?
            """,
            """
            Begin with `tooth, square = x, x`. In the loop over `corrections`, put `tooth` through g, then subtract
            `correction * tooth` from `square`, without changing `x`.
            """,
        ),
        explanation=r"""
            Each tooth is the tooth of the tooth before, never of the sum. $f_m$ joins the points $(x, x^2)$ at the
            multiples of $2^{-m}$ by straight lines. The next tooth has its peaks in the middles between them, where a
            chord of width $h$ lies $h^2/4$ too high: with $h = 2^{-m}$ that is $4^{-m-1}$, its factor in the sum. So
            the error of $f_m$ is exactly $2^{-2m-2}$.

            As a network: two neurons for the next tooth in each layer, and one that carries the sum along.
            """,
        bank=(
            WrongAnswer(
                answer=_same_tooth_each_time,
                misconception="the first tooth again and again",
                says=(
                    "This is exactly what one and the same tooth, g(x), gives in every term. Tooth k is g of tooth k - "
                    "1."
                ),
            ),
            WrongAnswer(
                answer=_corrections_added,
                misconception="added where subtracted is meant",
                says="This is exactly x *plus* the teeth. x² lies below the line x on [0, 1], so they come off.",
            ),
            WrongAnswer(
                answer=_corrections_alone,
                misconception="without the line",
                says="This is exactly the sum of the teeth, x - x². Subtract it from x.",
            ),
            WrongAnswer(
                answer=_without_corrections,
                misconception="teeth not made smaller",
                says=(
                    "This is exactly what teeth of full height give. Each is multiplied by its correction, 1/4, 1/16, "
                    "..."
                ),
            ),
            WrongAnswer(
                answer=_tooth_of_what_is_left,
                misconception="tooth of the sum",
                says=(
                    "This is exactly what g of the *approximation so far* gives. The next tooth bends the last tooth; "
                    "keep the two apart."
                ),
            ),
            WrongAnswer(
                answer=_ramp_for_tooth,
                misconception="a ramp for a tooth",
                says=(
                    "This is exactly what 2 max(x, 0) - 2 max(x - 1/2, 0) gives: up, then level. To come down again "
                    "the second rectifier has to take 4."
                ),
            ),
            WrongAnswer(
                answer=_last_correction_left_out,
                misconception="one tooth too few",
                says="This is exactly the approximation without its last tooth. Look at where your loop ends.",
            ),
            WrongAnswer(
                answer=_corrections_backwards,
                misconception="corrections from the end",
                says="This is exactly what the corrections in reverse give. The first tooth takes the largest, 1/4.",
            ),
            WrongAnswer(
                answer=_subtracting_in_place,
                misconception="subtracts from the input",
                says=(
                    "`square -= ...` changes the tensor that `x` is a name for, too. `square = square - ...` makes a "
                    "new one."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_with_a_tent,),
    ),
    Exercise(
        name="best_error",
        notebook="03_expressivity",
        statement=r"""
            Now the other direction: how good can *any* ReLU network be? Whatever its weights, it is piecewise
            linear. So forget the network and look at its pieces: a function that may bend at the given places and
            nowhere else approximates $x^2$ on $[0, 1]$. What is the smallest largest error it can have?

            On one piece $[a, b]$ of length $h = b - a$ the chord from $(a, a^2)$ to $(b, b^2)$ is too high by $(x -
            a)(b - x)$, at most $h^2 / 4$ in the middle. Is the chord the best line?
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=best_error,
        cases=(
            *grid(_knots, shapes=(3, 6), word="pieces:"),
            Case(label="four equal pieces", make=lambda: (torch.linspace(0, 1, 5, dtype=torch.float64),)),
        ),
        ladder=ladder(
            Values(rtol=1e-9, atol=1e-12, because="float64 carries sixteen digits, and differences of places lose few")
        ),
        hints=(
            r"""
            The chord errs to one side only, between 0 and $h^2/4$. Move it down by half of that: how large is the
            error now, in the middle and at the ends?
            """,
            """
            On one piece the best line is off by h²/8. The error of the whole is that of its worst piece:
            `knots.diff()` gives all lengths.
            """,
        ),
        explanation=r"""
            The chord lowered by $h^2/8$ is off by $h^2/8$ at the ends and in the middle, in turns of sign, and no line
            can do better at all three. The whole is as bad as its longest piece: $h_{\max}^2 / 8$.

            $N$ pieces that fill $[0, 1]$ cannot all be shorter than $1/N$. So no function with $N$ pieces comes closer
            to $x^2$ than $1/(8 N^2)$, and equal pieces get there.
            """,
        bank=(
            WrongAnswer(
                answer=lambda knots: knots.diff().max() ** 2 / 4,
                misconception="the chord",
                says=(
                    "This is exactly the error of the chords, h²/4. They err to one side only; lower them by half of "
                    "it."
                ),
            ),
            WrongAnswer(
                answer=lambda knots: 1 / (8 * knots.new_tensor(len(knots) - 1) ** 2),
                misconception="equal pieces taken for granted",
                says=(
                    "This is exactly 1/(8N²), the error of N *equal* pieces. These are not equal: the longest one "
                    "counts."
                ),
            ),
            WrongAnswer(
                answer=lambda knots: 1 / (8 * knots.new_tensor(len(knots)) ** 2),
                misconception="places counted as pieces",
                says="This is exactly 1/(8M²) for M places. M places bound M - 1 pieces, and they are not equal.",
            ),
            WrongAnswer(
                answer=lambda knots: knots.diff().min() ** 2 / 8,
                misconception="the best piece",
                says="This is exactly the error on the shortest piece. The largest error is that of the longest.",
            ),
            WrongAnswer(
                answer=lambda knots: (knots.diff() ** 2 / 8).sum(),
                misconception="errors added up",
                says=(
                    "This is exactly the sum over the pieces. The largest error over [0, 1] is the largest of theirs: "
                    "at each x only one piece counts."
                ),
            ),
            WrongAnswer(
                answer=lambda knots: (knots.diff() ** 2 / 8).mean(),
                misconception="errors averaged",
                says="This is exactly the mean over the pieces. Asked for is the largest error, on the worst of them.",
            ),
            WrongAnswer(
                answer=lambda knots: knots.diff().max() / 8,
                misconception="length not squared",
                says=(
                    "This is exactly h/8 for the longest piece. The sag of a parabola grows with the square of the "
                    "length."
                ),
            ),
            WrongAnswer(
                answer=lambda knots: knots.diff().max() ** 2 / 16,
                misconception="halved once more",
                says="This is exactly h²/16. The chord's h²/4, shared between above and below, leaves h²/8.",
            ),
            WrongAnswer(
                answer=lambda knots: knots.diff() ** 2 / 8,
                misconception="one error per piece",
                says="These are exactly the errors piece by piece. The error of the whole is the largest of them.",
                fails="shape",
            ),
        ),
        right=(_by_ends_and_middles, _piece_by_piece),
    ),
    Exercise(
        name="relu_twin",
        notebook="03_expressivity",
        statement=r"""
            The second theorem says, as the reviews quote it, that imitating a PolyReLU network of depth $L$ and width
            $K$ to within $\varepsilon$ takes a ReLU network of size at least of the order $K L \ln
            \tfrac1\varepsilon$. A reviewer objected. Take this PolyReLU network: $L = 2$ hidden layers of $K = 8$
            neurons, whose layers have the coefficients $(a_1, a_2, a_3) = (1, 0, 0)$. With how many neurons does the
            *smallest ReLU network you can name* imitate it to within $10^{-6}$, whatever its other weights are?
            """,
        difficulty=2,
        importance=4,
        minutes=5,
        reference=16.0,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="it is a whole number")),
        imports="",
        solution="relu_twin = 2 * 8",
        hints=(
            """
            Write down the activation that these coefficients make. Have you seen it before?
            """,
            """
            It is the rectifier. So the network is already a ReLU network. How many neurons has it?
            """,
        ),
        explanation=r"""
            With $a = (1, 0, 0)$ PolyReLU *is* ReLU, so the network imitates itself: 16 neurons, no error at any
            $\varepsilon$. The formula would ask for $16 \ln 10^6 = 221$, up to a constant, and for more the smaller
            $\varepsilon$.

            So the lower bound cannot hold for every PolyReLU network. It has to be read as the worst case: *some*
            network of that size needs that many. Above you proved it for one of them, the square.
            """,
        bank=(
            WrongAnswer(
                answer=16 * math.log(1e6),
                misconception="the theorem applied",
                says=(
                    "221 is exactly what the theorem's formula gives, without its constant. But look at the "
                    "coefficients: which activation is this?"
                ),
            ),
            WrongAnswer(
                answer=48.0,
                misconception="three copies of each",
                says=(
                    "48 is three for each neuron. Three copies are needed to make a rectifier from *mixed* "
                    "coefficients; these are not mixed."
                ),
            ),
            WrongAnswer(
                answer=32.0,
                misconception="two signs for each",
                says="32 is two for each neuron. Two are needed for x on the whole line; max(x, 0) needs one.",
            ),
            WrongAnswer(
                answer=8.0,
                misconception="one layer",
                says="8 is the width. There are two such layers.",
            ),
            WrongAnswer(
                answer=16 * 26.0,
                misconception="a sawtooth for each neuron",
                says=(
                    "416 is a sawtooth of 26 neurons for each neuron. That is the price of a square, and these neurons "
                    "do not square."
                ),
            ),
            WrongAnswer(
                answer=0.0,
                misconception="none",
                says="Without neurons the network is a straight line. This one bends.",
            ),
        ),
        right=(16, 2 * 8),
    ),
    Exercise(
        name="patchwork",
        notebook="03_expressivity",
        statement=r"""
            The construction behind the rate, in one variable. Cut $[0, 1]$ into cells; around each of the centres $z_m
            = m / \text{cells}$ take the Taylor polynomial of the target, and blend them with bumps that add up to 1:

            $$f(x) = \sum_{m} \psi\bigl(3\,\text{cells}\,(x - z_m)\bigr) \sum_{k=0}^{n-1} c_{mk} (x - z_m)^k, \qquad
            \psi(t) = \min(1, \max(0,\, 2 - |t|)).$$

            $\psi$ is 1 up to $|t| = 1$, 0 from $|t| = 2$ on, straight in between: four rectifiers. The factorials are
            in $c_{mk} = f^{(k)}(z_m) / k!$ already.
            """,
        difficulty=4,
        importance=5,
        minutes=15,
        reference=patchwork,
        cases=(
            *grid(_patches, shapes=((30, 2, 3), (50, 5, 4)), word="shape (places, cells, coefficients)"),
            Case(label="values alone", make=lambda: _patches((20, 3, 1), torch.Generator().manual_seed(2))),
        ),
        ladder=ladder(
            Values(rtol=1e-9, atol=1e-11, because="float64 carries sixteen digits, and the sums have few terms")
        ),
        hints=(
            """
            Start with the table of all distances, `x[:, None] - centres`, shape (N, M). Bumps and polynomials are both
            tables of this shape; multiply them and sum over the centres.
            """,
            """
            `(2 - t.abs()).clamp(0, 1)` is ψ. There is one cell less than there are centres. The polynomials:
            `sum(taylor[:, k] * distance**k for k in range(taylor.shape[1]))`.
            """,
        ),
        explanation=r"""
            At each place at most two bumps are not zero, and they add up to 1: the value is a mean of two Taylor
            polynomials, each taken less than a cell from its centre. So the error is the remainder of Taylor's
            formula, of the order $\text{cells}^{-n}$.

            Every step is exact in a PolyReLU network: the bumps are rectifiers, the powers $(x - z_m)^k$ are gadgets,
            and so is the product of bump and polynomial.
            """,
        bank=(
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor, cells=len(centres)),
                misconception="centres counted as cells",
                says=(
                    "This is exactly what the number of centres in place of the number of cells gives. M centres "
                    "bound M - 1 cells; with M the bumps do not add up to 1."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(
                    x, centres, taylor, bump=lambda t: (2 - (t / 3).abs()).clamp(0, 1)
                ),
                misconception="factor 3 left out",
                says=(
                    "This is exactly what bumps three times as wide give, ψ(cells (x - z)). Then they overlap on their "
                    "level parts and add up to more than 1."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(
                    x, centres, taylor, bump=lambda t: (1 - (t / 3).abs()).clamp(0, 1)
                ),
                misconception="hats for trapezoids",
                says=(
                    "This is exactly what hats give, bumps without a level part. They add up to 1 as well and would "
                    "do, but asked for is ψ with its two bends on each side."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor, powers_of=x[:, None]),
                misconception="powers of x itself",
                says=(
                    "This is exactly what powers of x give. A Taylor polynomial is one in x - z, the distance from its "
                    "centre."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor, sign=-1.0),
                misconception="distances with the wrong sign",
                says="This is exactly what z - x gives in place of x - z: the odd powers change their sign.",
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor / _factorials(taylor)),
                misconception="factorials once more",
                says="This is exactly what dividing by k! gives. The coefficients have been divided already.",
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor, bump=torch.ones_like),
                misconception="polynomials without bumps",
                says=(
                    "This is exactly the sum of all Taylor polynomials, everywhere. Each is good near its own centre "
                    "only: the bump has to silence it elsewhere."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor.flip(1)),
                misconception="coefficients from the highest power down",
                says=(
                    "This is exactly what the reversed coefficients give. Here taylor[:, 0] is the value itself, power "
                    "0."
                ),
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor[:, :1]),
                misconception="values alone",
                says="This is exactly the blend of the values at the centres. The higher coefficients are missing.",
            ),
            WrongAnswer(
                answer=lambda x, centres, taylor: _blend(x, centres, taylor) / len(centres),
                misconception="mean for sum",
                says=(
                    "This is exactly the mean over the centres. The bumps add up to 1 already, so a sum is what makes "
                    "an average here."
                ),
            ),
            WrongAnswer(
                answer=_nearest_patch,
                misconception="nearest patch without blending",
                says=(
                    "This is exactly the polynomial of the nearest centre. It is as accurate, but it jumps between the "
                    "cells, and a network with rectifiers cannot."
                ),
            ),
        ),
        right=(_with_four_rectifiers, _by_horner),
    ),
    Exercise(
        name="rate_slope",
        notebook="03_expressivity",
        statement=r"""
            If the error falls like a power of the size, $\text{error} \approx c \cdot \text{size}^{r}$, the logarithms
            lie on a straight line, $\ln \text{error} = \ln c + r \ln \text{size}$, and the exponent is its slope. Fit
            the line by least squares to all points and return $r$:

            $$r = \frac{\sum_i (u_i - \bar u)(v_i - \bar v)}{\sum_i (u_i - \bar u)^2}, \qquad u = \ln \text{size},
            \quad v = \ln \text{error}.$$
            """,
        difficulty=2,
        importance=4,
        minutes=6,
        reference=rate_slope,
        cases=grid(_power_law, shapes=(4, 7), word="points:"),
        ladder=ladder(
            Values(rtol=1e-9, atol=1e-12, because="float64 carries sixteen digits, and the sums have few terms")
        ),
        hints=(
            """
            Take the logarithm of both, subtract from each its own mean, then sum products.
            """,
            """
            `x = sizes.log(); x = x - x.mean()`, and the same for the errors. The numerator is `(x * y).sum()`.
            """,
        ),
        explanation=r"""
            Any base of the logarithm will do, if it is the same for both. A slope of $-2$ says: twice the size, a
            quarter of the error. All points take part; a line through the first and the last would hang on two of
            them.
            """,
        bank=(
            WrongAnswer(
                answer=_fit,
                misconception="no logarithms",
                says=(
                    "This is exactly the slope of the errors over the sizes themselves. A power law is straight in "
                    "logarithms."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: _fit(sizes, errors.log()),
                misconception="logarithm of the errors alone",
                says=(
                    "This is exactly the slope of ln(error) over the size: an exponential law. Take the logarithm of "
                    "both."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: _fit(sizes.log(), errors),
                misconception="logarithm of the sizes alone",
                says="This is exactly the slope of the error over ln(size). Take the logarithm of both.",
            ),
            WrongAnswer(
                answer=lambda sizes, errors: _fit(errors.log(), sizes.log()),
                misconception="axes exchanged",
                says=(
                    "This is exactly the slope of ln(size) over ln(error). Asked for is how the error depends on the "
                    "size: divide by the spread of the sizes."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: 1 / _fit(errors.log(), sizes.log()),
                misconception="inverse of the exchanged fit",
                says=(
                    "This is exactly one over the slope with the axes exchanged. With scattered points that is another "
                    "line: it minimises distances in size, not in error."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: -rate_slope(sizes, errors),
                misconception="sign",
                says="This is exactly minus the slope. Errors fall as sizes grow, so the exponent is negative.",
            ),
            WrongAnswer(
                answer=lambda sizes, errors: (errors[-1] / errors[0]).log() / (sizes[-1] / sizes[0]).log(),
                misconception="first and last point alone",
                says="This is exactly the slope between the first point and the last. The ones between have a say too.",
            ),
            WrongAnswer(
                answer=lambda sizes, errors: (sizes.log() * errors.log()).sum() / (sizes.log() ** 2).sum(),
                misconception="means not subtracted",
                says=(
                    "This is exactly what comes out without subtracting the means: the line is then forced through "
                    "size 1, error 1."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: (errors.log().diff() / sizes.log().diff()).mean(),
                misconception="mean of the slopes between neighbours",
                says=(
                    "This is exactly the mean of the slopes between neighbours, in which close neighbours weigh as "
                    "much as distant ones. Least squares is asked for."
                ),
            ),
            WrongAnswer(
                answer=lambda sizes, errors: _fit(sizes.log10(), errors.log()),
                misconception="two kinds of logarithm",
                says="This is exactly what log10 for one axis and ln for the other give. Use the same for both.",
            ),
            WrongAnswer(
                answer=lambda sizes, errors: torch.corrcoef(torch.stack([sizes.log(), errors.log()]))[0, 1],
                misconception="correlation for slope",
                says="This is exactly the correlation. It says how straight the points lie, not how steep.",
            ),
        ),
        right=(_by_normal_equations, _in_decimal_logarithms),
    ),
)
