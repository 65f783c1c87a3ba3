"""Exercises of 02_polynomial_compositions: two polynomials that can be trained, and the gradient of one of them."""

import math

import torch
import torch.nn.functional as F

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid

NOTEBOOK = "02_polynomial_compositions"


# -- PolyReLU


def my_polyrelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A polynomial of the rectified input, entry by entry.

    x: any shape. weight: shape (P,), the highest power first: weight[0] belongs to x^P, weight[P - 1] to x.
    bias: shape (1,), the constant term. Returns a tensor of x's shape and dtype.
    """
    u = torch.relu(x)
    order = len(weight)
    return bias + sum(weight[order - p] * u**p for p in range(1, order + 1))


def _polynomial(u: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    order = len(weight)
    return sum(weight[order - p] * u**p for p in range(1, order + 1))


def _coefficients(order: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(order, generator=generator), torch.randn(1, generator=generator)


def _row_and_coefficients(
    shape: tuple[int, ...], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(shape, generator=generator), *_coefficients(3, generator)


def _of_order(order: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(order)
    return torch.randn(2, 6, generator=generator), *_coefficients(order, generator)


def _named_coefficients(place: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.linspace(-3, 3, 13), F.one_hot(torch.tensor(place), 3).float(), torch.zeros(1)


def _relu_after_the_powers(x, weight, bias):
    order = len(weight)
    return bias + sum(weight[order - p] * torch.relu(x**p) for p in range(1, order + 1))


def _last_coefficient_as_constant(x, weight, bias):
    u, order = torch.relu(x), len(weight)
    return bias + sum(weight[order - p] * u ** (p - 1) for p in range(1, order + 1))


def _rectified_in_place(x, weight, bias):
    return bias + _polynomial(x.relu_(), weight)


def _three_powers_only(x, weight, bias):
    u, w = torch.relu(x), [*weight, 0.0, 0.0][:3]
    return w[0] * u**3 + w[1] * u**2 + w[2] * u + bias


def _by_horner(x, weight, bias):
    u = torch.relu(x)
    y = torch.zeros_like(u)
    for coefficient in weight:
        y = (y + coefficient) * u
    return y + bias


def _by_a_stack_of_powers(x, weight, bias):
    u = x.clamp(min=0)
    return torch.stack([u**p for p in range(len(weight), 0, -1)], dim=-1) @ weight + bias


# -- PolyNorm


def my_polynorm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A sum of powers, each divided by its own root mean square over the row.

    x: shape (*batch, F); a row is the last axis. weight: shape (P,), the highest power first. bias: shape (1,).
    1e-6 is added to each mean square, under the root. Returns a tensor of x's shape and dtype.
    """
    y, order = bias, len(weight)
    for p in range(1, order + 1):
        power = x**p
        y = y + weight[order - p] * power * torch.rsqrt(power.square().mean(dim=-1, keepdim=True) + 1e-6)
    return y


def _rows_of_size(
    shape: tuple[int, ...], generator: torch.Generator, order: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Entries of magnitude 1 and more: beside them ε disappears, so that an answer's other traits can be told."""
    x = torch.randn(shape, generator=generator)
    return x + x.sign(), *_coefficients(order, generator)


def _scaled_row(scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, weight, bias = _rows_of_size((2, 16), torch.Generator().manual_seed(4))
    return scale * x, weight, bias


def _small_row() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.001, -0.002, 0.0005, 0.003]])
    return rows, torch.tensor([0.2, 0.5, -0.7]), torch.tensor([0.1])


def _divided_by(size):
    """PolyNorm with another size of a power than its root mean square; `size` keeps the last axis."""

    def answer(x, weight, bias):
        order = len(weight)
        return bias + sum(weight[order - p] * x**p / size(x**p) for p in range(1, order + 1))

    return answer


def _rms(u: torch.Tensor) -> torch.Tensor:
    return (u.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


def _normalised_before_the_powers(x, weight, bias):
    return bias + _polynomial(x / _rms(x), weight)


def _normalised_after_the_sum(x, weight, bias):
    y = _polynomial(x, weight)
    return bias + y / _rms(y)


def _one_size_for_all(x, weight, bias):
    return bias + _polynomial(x, weight) / _rms(x)


def _mean_taken_off(x, weight, bias):
    order = len(weight)
    centred = [x**p - (x**p).mean(dim=-1, keepdim=True) for p in range(1, order + 1)]
    return bias + sum(weight[order - p] * c / _rms(c) for p, c in enumerate(centred, start=1))


def _power_in_place(x, weight, bias):
    y, power = bias, x
    for coefficient in weight.flip(0):
        y = y + coefficient * power / _rms(power)
        power *= x
    return y


def _statistics_as_constants(x, weight, bias):
    return _divided_by(lambda u: _rms(u).detach())(x, weight, bias)


def _by_the_layer_of_torch(x, weight, bias):
    powers = [x**p for p in range(len(weight), 0, -1)]
    return bias + sum(w * F.rms_norm(u, u.shape[-1:], eps=1e-6) for w, u in zip(weight, powers, strict=True))


def _as_a_polynomial_of_each_row(x, weight, bias):
    y = torch.zeros_like(x)
    for p, coefficient in zip(range(len(weight), 0, -1), weight, strict=True):
        y = (y + coefficient * torch.rsqrt((x ** (2 * p)).mean(dim=-1, keepdim=True) + 1e-6)) * x
    return y + bias


# -- the gradient of PolyNorm


def polynorm_backward(x: torch.Tensor, g: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The gradient of a loss with respect to PolyNorm's input, in closed form.

    x: shape (N, F), the rows that went in. g: shape (N, F), the gradient with respect to what came out.
    weight: shape (P,), the highest power first. eps: what is added to each mean square. Returns shape (N, F).
    """
    gradient, (order, width) = torch.zeros_like(x), (len(weight), x.shape[-1])
    for p in range(1, order + 1):
        r = torch.rsqrt((x ** (2 * p)).mean(dim=-1, keepdim=True) + eps)
        along = (g * x**p).sum(dim=-1, keepdim=True)
        gradient += weight[order - p] * p * r * (g * x ** (p - 1) - r**2 * along / width * x ** (2 * p - 1))
    return gradient


def _rows_and_gradients(
    shape: tuple[int, int], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    x, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, g, torch.randn(3, generator=generator, dtype=torch.float64), 1e-6


def _rows_for_the_promise() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    return *_rows_and_gradients((4, 6), torch.Generator().manual_seed(3))[:3], 0.0


def _small_rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    x, g, weight, eps = _rows_and_gradients((2, 5), torch.Generator().manual_seed(2))
    return 0.1 * x, g, weight, eps


def _backward_by(term):
    """A gradient that is a sum over the powers of `term(p, x, g, w, r, along, width)`."""

    def answer(x, g, weight, eps):
        total, order = torch.zeros_like(x), len(weight)
        for p in range(1, order + 1):
            r = torch.rsqrt((x ** (2 * p)).mean(dim=-1, keepdim=True) + eps)
            along = (g * x**p).sum(dim=-1, keepdim=True)
            total = total + term(p, x, g, weight[order - p], r, along, x.shape[-1])
        return total

    return answer


def _direct(p, x, g, w, r, along, width):
    return w * p * r * g * x ** (p - 1)


def _through_the_size(p, x, g, w, r, along, width):
    return -w * p * r**3 * along / width * x ** (2 * p - 1)


def _with_weights_reversed(x, g, weight, eps):
    return polynorm_backward(x, g, weight.flip(0), eps)


def _backward_by_autograd(x, g, weight, eps):
    with torch.enable_grad():
        leaf, y = x.detach().requires_grad_(), 0
        for p in range(1, len(weight) + 1):
            power = leaf**p
            y = y + weight[-p] * power * torch.rsqrt(power.square().mean(dim=-1, keepdim=True) + eps)
        return torch.autograd.grad((y * g).sum(), leaf)[0]


def _backward_as_a_projection(x, g, weight, eps):
    """Each power's share: g without its part along the power, scaled, then through the slope of the power."""
    total = 0
    for p in range(1, len(weight) + 1):
        power = x**p
        r = torch.rsqrt(power.square().mean(dim=-1, keepdim=True) + eps)
        unit = r * power
        total = total + weight[-p] * p * x ** (p - 1) * r * (g - unit * (g * unit).mean(dim=-1, keepdim=True))
    return total


GAUSSIAN_MEAN_SQUARE = (3 + 2 * 3 / math.sqrt(15)) / 9

EXERCISES = (
    Exercise(
        name="polyrelu",
        notebook=NOTEBOOK,
        statement=r"""
            Write PolyReLU, the type I composition with $\rho = \mathrm{ReLU}$, for any order $P$:

            $$y = b + \sum_{p=1}^{P} a_p \max(x, 0)^p, \qquad a_p = \texttt{weight}[P - p].$$

            The coefficients come with **the highest power first**, as in the authors' code: for $P = 3$, `weight[0]`
            belongs to the cube and `weight[2]` to $x$ itself.
            """,
        difficulty=1,
        importance=4,
        minutes=8,
        reference=my_polyrelu,
        cases=(
            *grid(_row_and_coefficients, shapes=((2, 5), (3, 7))),
            Case(label="order 5", make=lambda: _of_order(5)),
            Case(label="order 1", make=lambda: _of_order(1)),
        ),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="float32 powers added in any order agree to about six digits"),
            Gradients(rtol=1e-4, atol=1e-5, because="slopes of powers lose no more digits than the powers"),
            Property(
                promise="with the coefficients of x alone or of x² alone it is ReLU or squared ReLU, to the last bit",
                cases=(
                    Case(label="0, 0, 1", make=lambda: _named_coefficients(2)),
                    Case(label="0, 1, 0", make=lambda: _named_coefficients(1)),
                ),
                holds=lambda results: all(
                    torch.equal(result, torch.relu(_named_coefficients(2)[0]) ** power)
                    for power, result in enumerate(results, start=1)
                ),
            ),
        ),
        hints=(
            """
            Rectify first: `u = torch.relu(x)`. Everything after that is a polynomial of `u`. For order 3, write out
            the three terms and the bias; then look at which entry of `weight` goes with which power.
            """,
            """
            For any order: `sum(weight[order - p] * u**p for p in range(1, order + 1))`, with `order = len(weight)`.
            """,
        ),
        explanation=r"""
            The rectifier comes first, so on the left all powers are 0 and $b$ is left. With coefficients $(0, 0, 1)$
            this is ReLU itself and with $(0, 1, 0)$ squared ReLU: whoever trains PolyReLU may fall back on either.

            Powers can be had without `**`: Horner's form $((a_3 u + a_2) u + a_1) u + b$ needs three products and
            keeps no power in memory. That is what the package's fast version does.
            """,
        bank=(
            WrongAnswer(
                answer=lambda x, w, b: my_polyrelu(x, w.flip(0), b),
                misconception="coefficient order reversed",
                says=(
                    "This is exactly what the coefficients give in the other order. `weight[0]` belongs to the "
                    "highest power, as in the authors' code."
                ),
            ),
            WrongAnswer(
                answer=_relu_after_the_powers,
                misconception="powers first, then ReLU",
                says=(
                    "This is exactly the type II composition, ReLU(x^p). Even powers of negative numbers are positive "
                    "and pass it. Type I rectifies first."
                ),
            ),
            WrongAnswer(
                answer=lambda x, w, b: torch.relu(b + _polynomial(x, w)),
                misconception="ReLU of the whole polynomial",
                says="This is exactly ReLU(b + Σ aₚ xᵖ). PolyReLU rectifies x; the polynomial of it may be negative.",
            ),
            WrongAnswer(
                answer=lambda x, w, b: b + _polynomial(x, w),
                misconception="no ReLU",
                says="This is exactly the bare polynomial of x. The powers are taken of max(x, 0).",
            ),
            WrongAnswer(
                answer=lambda x, w, b: (b + _polynomial(x, w)) * (x > 0),
                misconception="bias switched off on the left",
                says=(
                    "The polynomial is right and the bias is missing wherever x is negative. Only x is rectified; "
                    "the constant term b stands everywhere."
                ),
            ),
            WrongAnswer(
                answer=lambda x, w, b: _polynomial(torch.relu(x), w),
                misconception="no bias",
                says="This is exactly PolyReLU without its bias.",
            ),
            WrongAnswer(
                answer=_last_coefficient_as_constant,
                misconception="last coefficient as the constant term",
                says=(
                    "This is exactly a polynomial whose last coefficient is the constant, as in `numpy.polyval`. Here "
                    "the last one belongs to x to the power 1, and the constant is `bias`."
                ),
            ),
            WrongAnswer(
                answer=_three_powers_only,
                misconception="always three powers",
                says=(
                    "This is what the first three entries of `weight` give as cube, square and x. The order is "
                    "`len(weight)`, and here it is not 3."
                ),
            ),
            WrongAnswer(
                answer=_rectified_in_place,
                misconception="rectifies the caller's tensor",
                says="The caller's x has lost its negative entries, as `relu_` does. `torch.relu` makes a new tensor.",
                fails="inputs kept",
            ),
        ),
        right=(_by_horner, _by_a_stack_of_powers),
    ),
    Exercise(
        name="polynorm",
        notebook=NOTEBOOK,
        statement=r"""
            Write PolyNorm, the type II composition whose $\rho$ divides by the root mean square of the row:

            $$y_i = b + \sum_{p=1}^{P} a_p \frac{x_i^p}{\sqrt{\frac1F \sum_{j=1}^{F} x_j^{2p} + \varepsilon}},
            \qquad a_p = \texttt{weight}[P - p], \quad \varepsilon = 10^{-6}.$$

            | | shape |
            |---|---|
            | `x` | (\*batch, F): any number of rows, each $F$ entries long |
            | mean square of a power | (\*batch, 1): one number per row and power |
            | `y` | as `x` |
            """,
        difficulty=2,
        importance=5,
        minutes=12,
        reference=my_polynorm,
        cases=(
            *grid(_rows_of_size, shapes=((2, 5), (3, 4, 6))),
            Case(label="order 2", make=lambda: _rows_of_size((2, 6), torch.Generator().manual_seed(2), order=2)),
        ),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="float32 means of sixth powers agree to about five digits"),
            Gradients(rtol=1e-3, atol=1e-4, because="slopes lose a digit more than the values they belong to"),
            Property(
                promise="ε stands under the root: a row of zeros comes out as b, and one of small numbers stays small",
                cases=(Case(label="a row of zeros, and one of small numbers", make=_small_row),),
                holds=lambda results: close(my_polynorm(*_small_row()), results[0], rtol=1e-4, atol=1e-5),
            ),
            Property(
                promise="the row times 100 gives the same as the row",
                cases=(
                    Case(label="the row", make=lambda: _scaled_row(1.0)),
                    Case(label="the row times 100", make=lambda: _scaled_row(100.0)),
                ),
                holds=lambda results: close(results[0], results[1], rtol=1e-4, atol=1e-4),
            ),
        ),
        hints=(
            """
            Do one power first: `power = x**p`, its mean square over the last axis, the root, the quotient. `keepdim=
            True` keeps an axis of length 1, so that the division finds its row.
            """,
            """
            Each power is squared *after* it is raised: `(x**p).square().mean(dim=-1, keepdim=True) + 1e-6`. Then add
            up `weight[order - p] * power * torch.rsqrt(...)` over p, and the bias.
            """,
        ),
        explanation=r"""
            Three powers, three sizes per row. $\varepsilon$ stands *under* the root, with the mean square, so that a
            row of zeros is divided by $10^{-3}$ and stays zero.

            Another way to see it: the row decides three numbers $c_p = a_p / \sqrt{\overline{x^{2p}} + \varepsilon}$,
            and then every entry of it goes through the *same* cubic $c_3 x^3 + c_2 x^2 + c_1 x + b$. PolyNorm is a
            polynomial that each row chooses for itself.
            """,
        bank=(
            WrongAnswer(
                answer=_divided_by(lambda u: (u.square().sum(dim=-1, keepdim=True) + 1e-6).sqrt()),
                misconception="L2 norm for root mean square",
                says=(
                    "This is exactly what the L2 norm gives, the root of the sum of squares, as the paper prints it. "
                    "The authors' code divides by the root of the mean, and so do we."
                ),
            ),
            WrongAnswer(
                answer=_normalised_before_the_powers,
                misconception="normalised before the powers",
                says=(
                    "This is exactly the type I composition: x divided by its size, and then the powers. Here each "
                    "power is divided by a size of its own."
                ),
            ),
            WrongAnswer(
                answer=_normalised_after_the_sum,
                misconception="normalised after the sum",
                says=(
                    "This is exactly the whole polynomial divided by its root mean square. Each power is divided "
                    "before they are added."
                ),
            ),
            WrongAnswer(
                answer=_one_size_for_all,
                misconception="one size for all powers",
                says="This is exactly what comes out when all powers are divided by the size of x. Each has its own.",
            ),
            WrongAnswer(
                answer=lambda x, w, b: my_polynorm(x, w.flip(0), b),
                misconception="coefficient order reversed",
                says=(
                    "This is exactly what the coefficients give in the other order. `weight[0]` belongs to the "
                    "highest power."
                ),
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: (u.square().mean(dim=0, keepdim=True) + 1e-6).sqrt()),
                misconception="wrong axis",
                says=(
                    "This is exactly what means over the first axis give. A row is the last axis: one token's "
                    "hidden units. The tokens of a batch have nothing to do with each other."
                ),
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: (u.square().mean() + 1e-6).sqrt()),
                misconception="one size for all rows",
                says=(
                    "This is exactly what means over the whole tensor give. Each row has its own sizes: `dim=-1, "
                    "keepdim=True`."
                ),
            ),
            WrongAnswer(
                answer=_mean_taken_off,
                misconception="mean taken off",
                says=(
                    "This is exactly a layer norm of each power: its mean was subtracted first. PolyNorm divides "
                    "and subtracts nothing."
                ),
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: u.std(dim=-1, keepdim=True)),
                misconception="standard deviation for root mean square",
                says=(
                    "This divides by the standard deviation, which is measured from the mean. Even powers have a "
                    "large mean, and PolyNorm counts it: mean of squares, from zero."
                ),
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: u.square().mean(dim=-1, keepdim=True) + 1e-6),
                misconception="mean square without the root",
                says="This is exactly what dividing by the mean square gives. The root is missing.",
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: u.abs().mean(dim=-1, keepdim=True) + 1e-6),
                misconception="mean magnitude for root mean square",
                says="This is exactly what the mean of |xᵖ| gives. Square, take the mean, then the root.",
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: u.square().mean(dim=-1, keepdim=True).sqrt() + 1e-6),
                misconception="ε outside the root",
                says=(
                    "This adds ε to the root mean square. It belongs under the root, to the mean square: there a row "
                    "of zeros is divided by a thousandth, here by a millionth."
                ),
                fails="property",
            ),
            WrongAnswer(
                answer=_divided_by(lambda u: u.square().mean(dim=-1, keepdim=True).sqrt()),
                misconception="no ε",
                says=(
                    "This is what comes out without ε: a row of zeros is 0/0, NaN, and small rows are blown up. "
                    "Add 1e-6 to the mean square."
                ),
                fails="property",
            ),
            WrongAnswer(
                answer=lambda x, w, b: my_polynorm(x, w, torch.zeros(1)),
                misconception="no bias",
                says="This is exactly PolyNorm without its bias.",
            ),
            WrongAnswer(
                answer=_power_in_place,
                misconception="multiplies into the caller's tensor",
                says=(
                    "`power = x` gives x a second name, and `power *= x` then changes both. `power = power * x` makes "
                    "a new tensor."
                ),
                fails="inputs kept",
            ),
            WrongAnswer(
                answer=_statistics_as_constants,
                misconception="sizes cut off from the graph",
                says=(
                    "This is the gradient with the sizes held constant, as `.detach()` or `torch.no_grad()` leave "
                    "them. An entry also changes the size of its row: that path carries gradient, too."
                ),
                fails="gradients",
            ),
        ),
        right=(_by_the_layer_of_torch, _as_a_polynomial_of_each_row),
    ),
    Exercise(
        name="l2_shrinks",
        notebook=NOTEBOOK,
        statement=r"""
            Somebody implements PolyNorm from the printed formula, with the L2 norm $\lVert u \rVert_2 = \sqrt{\sum_j
            u_j^2}$ in place of the root mean square $\sqrt{\frac1F \sum_j u_j^2}$. The rows are $F = 3072$ entries
            long, $\varepsilon$ and $b$ are 0. **How many times smaller** is everything that comes out?
            """,
        difficulty=1,
        importance=4,
        minutes=3,
        reference=math.sqrt(3072),
        ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
        solution="l2_shrinks = 3072**0.5",
        imports="",
        hints=(
            "Write the L2 norm as a number times the root mean square. Does that number depend on the row?",
            "It is the same number for every power, so it can be taken out of the sum.",
        ),
        explanation=r"""
            $\lVert u \rVert_2 = \sqrt{F} \cdot \mathrm{rms}(u)$ for every $u$, so each term is $\sqrt{3072} = 55.4$
            times smaller, and so is their sum. Nothing about the *shape* of the function differs. But its size does,
            with the width, and whoever keeps the learning rate and the initialisation of the next layer has changed
            the experiment.
            """,
        bank=(
            WrongAnswer(
                answer=3072.0,
                misconception="the width without the root",
                says="3072 is the quotient of the two squares. Both norms take a root at the end.",
            ),
            WrongAnswer(
                answer=1 / math.sqrt(3072),
                misconception="the wrong way round",
                says="1/55.4 is what the result is multiplied by. Asked is how many times smaller it is.",
            ),
            WrongAnswer(
                answer=3072**1.5,
                misconception="once for each power",
                says=(
                    "3072^1.5 is the factor to the third power, as if x were divided first and then cubed. The cube "
                    "is divided as a whole, once."
                ),
            ),
            WrongAnswer(
                answer=3 * math.sqrt(3072),
                misconception="added up over the powers",
                says="166 adds the factor up over three terms. A factor common to all terms of a sum is its factor.",
            ),
            WrongAnswer(
                answer=1.0,
                misconception="no difference",
                says="1 would mean that the two norms are the same. One has a sum under the root, the other a mean.",
            ),
        ),
        right=(math.sqrt(3072), 55.43, torch.tensor(55.4256)),
    ),
    Exercise(
        name="size_at_start",
        notebook=NOTEBOOK,
        statement=r"""
            Training starts with $a_1 = a_2 = a_3 = \tfrac13$ and $b = 0$. Let the row be long and its entries standard
            normal, so that sums over the row are expectations. What is the **root mean square** of PolyNorm's output?
            Three digits or a formula.

            The moments of the standard normal distribution: $\mathrm E\,x^2 = 1$, $\mathrm E\,x^4 = 3$, $\mathrm
            E\,x^6 = 15$, and all odd ones are 0.
            """,
        difficulty=3,
        importance=3,
        minutes=9,
        reference=math.sqrt(GAUSSIAN_MEAN_SQUARE),
        ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
        solution="size_at_start = ((3 + 2 * 3 / 15**0.5) / 9) ** 0.5",
        imports="",
        hints=(
            r"""
            With $n_p = x^p / \sqrt{\mathrm E\,x^{2p}}$ the output is $(n_1 + n_2 + n_3)/3$. Square it: three squares,
            each of mean 1, and three products. Which products have mean 0?
            """,
            r"""
            $\mathrm E\, n_1 n_3 = \mathrm E\,x^4 / \sqrt{\mathrm E\,x^2 \cdot \mathrm E\,x^6} = 3 / \sqrt{15}$. Count
            it twice, add the three squares, divide by 9, take the root.
            """,
        ),
        explanation=r"""
            $\mathrm E\,(n_1 + n_2 + n_3)^2 = 3 + 2\,\mathrm E\,n_1 n_3$, for $n_2$ is even and the other two are odd.
            With $3/\sqrt{15} = 0.775$ the mean square is $(3 + 1.549)/9 = 0.505$ and its root $0.711$: whatever the
            size of the input. One over it, 1.41, is the factor that makes a PolyNorm layer keep the size of a normal
            row, and `PolyNorm(start="variance")` starts there.
            """,
        bank=(
            WrongAnswer(
                answer=1 / math.sqrt(3),
                misconception="terms taken as uncorrelated",
                says=(
                    "0.577 is right for three terms of mean square 1 that have nothing in common. x and x³ have: "
                    "where x is large and positive, so is x³."
                ),
            ),
            WrongAnswer(
                answer=1.0,
                misconception="terms taken as identical",
                says="1 is right if the three terms were the same. Each has mean square 1, but they point apart.",
            ),
            WrongAnswer(
                answer=1 / 3,
                misconception="one term alone",
                says="1/3 is the root mean square of each term alone. There are three of them.",
            ),
            WrongAnswer(
                answer=GAUSSIAN_MEAN_SQUARE,
                misconception="mean square without the root",
                says="0.505 is the mean square. Its root is asked for.",
            ),
            WrongAnswer(
                answer=1 / (3 * math.sqrt(3)),
                misconception="mean for root mean square",
                says=(
                    "0.192 is the mean of the output: it comes from the square alone. The root mean square counts "
                    "what is around it, too."
                ),
            ),
            WrongAnswer(
                answer=math.sqrt(GAUSSIAN_MEAN_SQUARE - 1 / 27),
                misconception="standard deviation for root mean square",
                says="0.684 is the standard deviation, around the mean of 0.192. The mean square is taken around 0.",
            ),
            WrongAnswer(
                answer=math.sqrt((3 + 3 / math.sqrt(15)) / 9),
                misconception="the product counted once",
                says="0.652 counts the product of the first and the third term once. In a square it stands twice.",
            ),
        ),
        right=(math.sqrt(GAUSSIAN_MEAN_SQUARE), 0.711, torch.tensor(0.71096)),
    ),
    Exercise(
        name="effective_rate",
        notebook=NOTEBOOK,
        statement=r"""
            Somebody multiplies the matrix $W$ in front of a PolyNorm by 4. The network computes what it did before.
            By which **factor** must the learning rate of $W$ be multiplied, so that plain gradient descent, $W
            \leftarrow W - \eta\, \partial L/\partial W$, goes on as it would have gone: the same function after each
            step?
            """,
        difficulty=3,
        importance=5,
        minutes=6,
        reference=16.0,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="the factor is a whole number")),
        solution="effective_rate = 4**2",
        imports="",
        hints=(
            r"""
            Two things change. How large is the gradient with respect to $4W$, compared with that with respect to $W$?
            And how long must a step be that turns a matrix of four times the length by the same angle?
            """,
            r"""
            From $L(4W) = L(W)$ follows, by the chain rule, $4\,\nabla L(4W) = \nabla L(W)$. Ask for $4W - \eta'\,
            \nabla L(4W) = 4\,(W - \eta\,\nabla L(W))$ and solve for $\eta'$.
            """,
        ),
        explanation=r"""
            The gradient at $4W$ is a quarter of that at $W$, and the step has to be four times as long: $\eta' = 16\,
            \eta$. In general what counts is $\eta / \lVert W \rVert^2$. Under PolyNorm, learning rate and size of
            the weights are two names for one number, and a matrix that grows in training is a learning rate that
            falls.
            """,
        bank=(
            WrongAnswer(
                answer=4.0,
                misconception="one of two reasons",
                says=(
                    "4 takes account of one of two things. The gradient is 4 times smaller, and the matrix is 4 "
                    "times longer, so that the same turn needs a longer step."
                ),
            ),
            WrongAnswer(
                answer=1.0,
                misconception="no change",
                says=(
                    "1 would be right if gradient and matrix kept their ratio. The output is the same, but the "
                    "gradient with respect to 4W is not that with respect to W."
                ),
            ),
            WrongAnswer(
                answer=1 / 16,
                misconception="the wrong way round",
                says="1/16 is the factor for a matrix that was divided by 4.",
            ),
            WrongAnswer(
                answer=0.25,
                misconception="the gradient's factor for the learning rate's",
                says=(
                    "1/4 is what happens to the gradient. The learning rate has to make up for it, and for the longer "
                    "matrix."
                ),
            ),
            WrongAnswer(
                answer=2.0,
                misconception="a root for a square",
                says="2 is the root of 4. The factor comes in twice, so it is squared.",
            ),
            WrongAnswer(
                answer=64.0,
                misconception="the factor of a cube",
                says="64 is what a cube makes of a factor of 4. PolyNorm divides the cubes by their size again.",
            ),
        ),
        right=(16, 16.0, torch.tensor(16.0)),
    ),
    Exercise(
        name="polynorm_backward",
        notebook=NOTEBOOK,
        statement=r"""
            Find the gradient of PolyNorm by hand. Given are the rows $x$, the coefficients, and $g_i = \partial L /
            \partial y_i$; wanted is $\partial L / \partial x_j$. With

            $$r_p = \Big(\frac1F \sum_j x_j^{2p} + \varepsilon\Big)^{-1/2}, \qquad y_i = b + \sum_p a_p\, r_p\, x_i^p,$$

            $x_j$ reaches the loss on **two** paths: through its own power $x_j^p$, and through $r_p$, which every
            entry of the row is multiplied by. Find each path for one $p$, add them, and sum over the powers. (Autograd
            would pass, too. Then it has learnt something, and you have not.)
            """,
        difficulty=5,
        importance=4,
        minutes=18,
        reference=polynorm_backward,
        cases=(
            *grid(_rows_and_gradients, shapes=((2, 5), (3, 8))),
            Case(label="small entries", make=_small_rows),
        ),
        ladder=ladder(
            Values(rtol=1e-8, atol=1e-9, because="float64 carries sixteen digits, and fifth powers cost a few of them"),
            Property(
                promise="without ε the gradient is orthogonal to the row: the sum of x times gradient is 0",
                cases=(Case(label="ε = 0", make=_rows_for_the_promise),),
                holds=lambda results: close(
                    torch.zeros(4, dtype=torch.float64),
                    (results[0] * _rows_for_the_promise()[0]).sum(dim=-1),
                    rtol=0,
                    atol=1e-8,
                ),
            ),
        ),
        hints=(
            r"""
            First path, with $r_p$ held fixed: $a_p\, r_p\, p\, x_j^{p-1}\, g_j$. Second path: all $y_i$ change when
            $r_p$ does, so it begins with $a_p \sum_i g_i x_i^p$, times $\partial r_p / \partial x_j$.
            """,
            r"""
            $\partial r_p / \partial x_j = -\tfrac12\, r_p^3 \cdot \tfrac1F\, 2p\, x_j^{2p-1} = -\tfrac{p}{F}\, r_p^3\,
            x_j^{2p-1}$: the derivative of $m^{-1/2}$, times the derivative of the mean of the $2p$-th powers.
            """,
            r"""
            Together, for each $p$: $a_p\, p\, r_p \big( g_j\, x_j^{p-1} - \tfrac1F\, r_p^2\, S_p\, x_j^{2p-1} \big)$
            with $S_p = \sum_i g_i x_i^p$. $r_p$ and $S_p$ are one number per row: `keepdim=True`.
            """,
        ),
        explanation=r"""
            The two paths add up, for each power, to

            $$a_p\, p\, r_p \Big( g_j\, x_j^{p-1} - \frac{r_p^2\, S_p}{F}\, x_j^{2p-1} \Big), \qquad S_p = \sum_i g_i\,
            x_i^p.$$

            Multiply by $x_j$ and sum over $j$: the first part gives $S_p$, the second $r_p^2 S_p \cdot
            \overline{x^{2p}}$, which is $S_p$ again when $\varepsilon = 0$. They cancel. So the second path is what
            makes the gradient orthogonal to the row: it takes out exactly the part that would change its length.

            Read from the right it says what must be kept for the backward pass: $x$, and $r_p$ and $S_p$, which are
            one number per row each. Autograd keeps all the powers as well.
            """,
        bank=(
            WrongAnswer(
                answer=_backward_by(_direct),
                misconception="the sizes taken as constants",
                says=(
                    "This is exactly the first path, with r_p held fixed. Each entry also changes the size of its "
                    "row, and with it every output."
                ),
            ),
            WrongAnswer(
                answer=_backward_by(_through_the_size),
                misconception="the path through the size alone",
                says="This is exactly the second path, through r_p. The direct one, through x_j itself, is missing.",
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) - _through_the_size(*t)),
                misconception="sign of the second path",
                says=("The second path has the wrong sign: r_p is one over a size, so it falls when an entry grows."),
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) + t[-1] * _through_the_size(*t)),
                misconception="sum for mean",
                says=(
                    "The second path lacks its 1/F: the derivative of a mean over F entries is 1/F of that of the sum."
                ),
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) + _through_the_size(*t) / t[0]),
                misconception="power left out of the second path",
                says=(
                    "The second path lacks its factor p. It comes from the derivative of x^2p, after the ½ of the "
                    "root is cancelled against the 2."
                ),
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) + _through_the_size(*t) / t[4]),
                misconception="r squared for r cubed",
                says="The second path has r_p² where the derivative of m^(-1/2) gives m^(-3/2), r_p³.",
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) + 2 * _through_the_size(*t)),
                misconception="the half of the root left out",
                says="The second path is twice too large: the derivative of m^(-1/2) begins with ½.",
            ),
            WrongAnswer(
                answer=_backward_by(
                    lambda p, x, g, w, r, along, width: (
                        _direct(p, x, g, w, r, along, width) - w * p * r**3 / width * g * x ** (3 * p - 1)
                    )
                ),
                misconception="each output's own share of the second path",
                says=(
                    "The second path counts for each entry its own output alone, g_j x_j^p. The size changes all "
                    "outputs of the row: Σ_i g_i x_i^p."
                ),
            ),
            WrongAnswer(
                answer=_backward_by(
                    lambda p, x, g, w, r, along, width: (
                        _direct(p, x, g, w, r, along, width)
                        - w * p * r**3 / width * (x**p).sum(dim=-1, keepdim=True) * x ** (2 * p - 1)
                    )
                ),
                misconception="the incoming gradient left out of the second path",
                says="The second path holds Σ x_i^p where Σ g_i x_i^p belongs: each output counts by its own gradient.",
            ),
            WrongAnswer(
                answer=_backward_by(lambda *t: _direct(*t) / t[0] + _through_the_size(*t)),
                misconception="power left out of the first path",
                says="The first path lacks its factor p: the derivative of x^p is p x^(p-1).",
            ),
            WrongAnswer(
                answer=_with_weights_reversed,
                misconception="coefficient order reversed",
                says="This is exactly the gradient for the coefficients in the other order: `weight[0]` is the cube's.",
            ),
        ),
        right=(_backward_by_autograd, _backward_as_a_projection),
    ),
)
