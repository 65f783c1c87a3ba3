"""Exercises of 08_what_it_costs: passes over memory, bytes kept, a backward in closed form, checkpoints, a roofline."""

import torch

from minipolycom.learn.checks import Property, Values, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid

NOTEBOOK = "08_what_it_costs"


# -- the backward pass of PolyNorm ---------------------------------------------------------------------------------


def fused_backward(
    g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stats: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three gradients of PolyNorm from its input and a few numbers per row.

    g, x: shape (N, F), the gradient of what came out and the rows that went in. weight: shape (P,), highest power
    first. stats: shape (N, P), r_1 ... r_P of each row, r_p = 1 / sqrt(mean(x^2p) + eps).
    Returns dx of shape (N, F), dw of shape (P,), highest power first, and db of shape (1,).
    """
    order, width = len(weight), x.shape[-1]
    dx, dw = torch.zeros_like(x), []
    for p in range(1, order + 1):
        a, r = weight[order - p] * stats[:, p - 1 : p], stats[:, p - 1 : p]
        t = r * (g * x**p).sum(dim=-1, keepdim=True)
        c = p * a * (r * t / width)
        dx = dx + x ** (p - 1) * (p * a * g - c * x**p)
        dw.insert(0, t.sum())
    return dx, torch.stack(dw), g.sum().reshape(1)


def _statistics(x: torch.Tensor, order: int) -> torch.Tensor:
    wide = x.double()
    columns = [((wide ** (2 * p)).mean(dim=-1) + 1e-6).rsqrt() for p in range(1, order + 1)]
    return torch.stack(columns, dim=1).to(x.dtype)


def _rows(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    rows, width, order = shape
    g, x = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return g, x, torch.randn(order, generator=generator, dtype=torch.float64), _statistics(x, order)


def _large_rows() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    x, g = 1e5 * torch.randn(4, 64, generator=generator), torch.randn(4, 64, generator=generator)
    return g, x, torch.tensor([0.3, -0.5, 0.4]), _statistics(x, 3)


def _right_at_large_rows(results: list) -> bool:
    found, truth = results[0][0].double(), fused_backward(*(tensor.double() for tensor in _large_rows()))[0]
    return bool(((found - truth).norm(dim=-1) <= 1e-3 * truth.norm(dim=-1)).all())


def _with(*, slope=1, pull=1, sign=-1, divisor=None, reach=2, whole=False, order_of=None, rows_of=None):
    """The closed form with one of its parts replaced."""

    def answer(g, x, weight, stats):
        w = weight if order_of is None else order_of(weight)
        r_of = stats if rows_of is None else rows_of(stats)
        order, width = len(w), x.shape[-1] if divisor is None else divisor
        dx, dw = torch.zeros_like(x), []
        for p in range(1, order + 1):
            r = r_of[:, p - 1 : p]
            a = w[order - p] * r
            along = (g * x**p).sum(dim=-1, keepdim=True)
            t = r * (along.sum(dim=0, keepdim=True) if whole else along)
            c = p**pull * a * (r * t / width)
            dx = dx + p**slope * a * g * x ** (p - 1) + sign * c * x ** (reach * p - 1)
            dw.insert(0, (r * along).sum())
        return dx, torch.stack(dw), g.sum().reshape(1)

    return answer


def _cubed(g, x, weight, stats):
    order, width = len(weight), x.shape[-1]
    dx, dw = torch.zeros_like(x), []
    for p in range(1, order + 1):
        w, r = weight[order - p], stats[:, p - 1 : p]
        along = (g * x**p).sum(dim=-1, keepdim=True)
        dx = dx + w * p * (r * g * x ** (p - 1) - r**3 * along / width * x ** (2 * p - 1))
        dw.insert(0, (r * along).sum())
    return dx, torch.stack(dw), g.sum().reshape(1)


def _coefficients_without_sizes(g, x, weight, stats):
    dx, _, db = fused_backward(g, x, weight, stats)
    return dx, torch.stack([(g * x**p).sum() for p in range(len(weight), 0, -1)]), db


def _coefficients_upwards(g, x, weight, stats):
    dx, dw, db = fused_backward(g, x, weight, stats)
    return dx, dw.flip(0), db


def _coefficients_averaged(g, x, weight, stats):
    dx, dw, db = fused_backward(g, x, weight, stats)
    return dx, dw / len(x), db


def _coefficients_of_each_row(g, x, weight, stats):
    dx, _, db = fused_backward(g, x, weight, stats)
    powers = [stats[:, p - 1] * (g * x**p).sum(dim=-1) for p in range(len(weight), 0, -1)]
    return dx, torch.stack(powers, dim=1), db


def _bias_averaged(g, x, weight, stats):
    dx, dw, db = fused_backward(g, x, weight, stats)
    return dx, dw, db / g.numel()


def _bias_of_each_unit(g, x, weight, stats):
    return *fused_backward(g, x, weight, stats)[:2], g.sum(dim=0)


def _into_the_gradient(g, x, weight, stats):
    dx, dw, db = fused_backward(g, x, weight, stats)
    return g.copy_(dx), dw, db


def _by_horner(g, x, weight, stats):
    order, width = len(weight), x.shape[-1]
    a = weight.flip(0) * stats
    powers = torch.stack([x**p for p in range(1, order + 1)], dim=-1)
    t = stats * torch.einsum("nf,nfp->np", g, powers)
    exponents = torch.arange(1, order + 1, device=x.device)
    c = exponents * a * (stats * t / width)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for p in range(order - 1, -1, -1):
        first = first * x + (exponents * a)[:, p : p + 1]
        second = second * x * x + c[:, p : p + 1]
    return g * first - x * second, t.sum(dim=0).flip(0), g.sum().reshape(1)


def _by_autograd_in_double(g, x, weight, stats):
    with torch.enable_grad():
        u, w, b = x.detach().double(), weight.detach().double(), torch.zeros(1, dtype=torch.float64)
        leaves = [leaf.requires_grad_() for leaf in (u.clone(), w.clone(), b)]
        y = leaves[2]
        for p in range(1, len(w) + 1):
            mean = (leaves[0] ** (2 * p)).mean(dim=-1, keepdim=True)
            floor = (stats[:, p - 1 : p].double() ** -2 - mean).detach()
            y = y + leaves[1][len(w) - p] * leaves[0] ** p * (mean + floor).rsqrt()
        return tuple(leaf.to(x.dtype) for leaf in torch.autograd.grad(y, leaves, g.double()))


# -- checkpoints ---------------------------------------------------------------------------------------------------


def kept_at_peak(segment: torch.Tensor, n_layers: int, inner: int) -> torch.Tensor:
    """Tensors in memory at the worst moment of a backward pass with checkpoints.

    segment: lengths of a segment in layers, each a divisor of n_layers, any shape, float32. The input of every segment
    is kept; a segment whose turn it is runs again and keeps `inner` tensors for each of its layers.
    Returns one number of tensors for each length, shape and dtype of segment.
    """
    return n_layers / segment + segment * inner


def _segments(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor, int, int]:
    n_layers, inner = shape
    lengths = torch.tensor([length for length in range(1, n_layers + 1) if n_layers % length == 0])
    return lengths[torch.randperm(len(lengths), generator=generator)].float(), n_layers, inner


# -- the roofline --------------------------------------------------------------------------------------------------


def matmul_roof(width: torch.Tensor, n: int, itemsize: int, peak: float, bandwidth: float) -> torch.Tensor:
    """The rate that a machine can reach at most in the product of n rows of D entries with a matrix of D x 4D.

    width: values of D, any shape. itemsize: bytes of an entry. peak: the machine's arithmetic, in 10^9 operations per
    second; bandwidth: its memory, in 10^9 bytes per second. The rows and the matrix are read once, the result is
    written once. Returns 10^9 operations per second, shape and dtype of width.
    """
    operations = 2 * n * width * 4 * width
    moved = itemsize * (n * width + 4 * width**2 + n * 4 * width)
    return (bandwidth * operations / moved).clamp(max=peak)


def _machines(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, int, int, float, float]:
    count, n, itemsize = shape
    width = 8 * torch.randint(1, 80, (count,), generator=generator).double()
    width[0], width[1] = 8, 4096  # one on the slope and one under the flat roof
    return width, n, itemsize, 250.0, 10.0


def _roof_with(*, factor=2, rows=1, matrix=1, result=1, wider=4, each=None, joined=torch.minimum):
    """The roof with one of its parts replaced."""

    def answer(width, n, itemsize, peak, bandwidth):
        operations = factor * n * width * wider * width
        entries = rows * n * width + matrix * wider * width**2 + result * n * wider * width
        return joined(bandwidth * operations / ((each or itemsize) * entries), torch.full_like(width, peak))

    return answer


def _upside_down(width, n, itemsize, peak, bandwidth):
    moved = itemsize * (n * width + 4 * width**2 + n * 4 * width)
    return (bandwidth * moved / (2 * n * width * 4 * width)).clamp(max=peak)


def _by_times(width, n, itemsize, peak, bandwidth):
    operations = 8 * n * width**2
    moved = itemsize * (5 * n * width + 4 * width**2)
    return operations / torch.maximum(operations / peak, moved / bandwidth)


EXERCISES = (
    Exercise(
        name="plain_passes",
        notebook=NOTEBOOK,
        statement=r"""
            Count the passes over memory of PolyNorm's formula, run operation by operation:

            ```python
            def norm(u):
                return u * torch.rsqrt(u.pow(2).mean(-1, keepdim=True) + 1e-6)

            y = w[0] * norm(x**3) + w[1] * norm(x**2) + w[2] * norm(x) + b
            ```

            A **pass** reads or writes as many numbers as `x` has. `x**3` is two: it reads `x` and writes a new
            tensor. The sum of two tensors is three. What is as small as one number per row, or one number, costs
            nothing here. How many passes are there in all?
            """,
        difficulty=2,
        importance=5,
        minutes=8,
        reference=33,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="passes are whole")),
        solution="plain_passes = 2 + 2 + 3 * 5 + 3 * 2 + 2 * 3 + 2",
        imports="",
        hints=(
            "Take `norm` alone first: a square, a mean, a product with one number per row. Its mean reads "
            "everything and "
            "writes next to nothing.",
            "`norm` has 2 + 1 + 2 passes and is called three times. Add two powers, three products with a "
            "coefficient, two "
            "sums of tensors, and the bias.",
        ),
        explanation="""
            The powers: 2 + 2. Three norms of 5 each (square 2, mean 1, product 2): 15. Three products with a
            coefficient: 6. Two sums of two tensors: 6. The bias: 2. In all 33, where two would do: read $x$ once,
            write $y$ once.
            """,
        bank=(
            WrongAnswer(
                answer=2,
                misconception="what must be moved",
                says=(
                    "2 is what any implementation must move: read x, write y. Run as written, each operation reads "
                    "and writes."
                ),
            ),
            WrongAnswer(
                answer=18,
                misconception="operations for passes",
                says="18 is the number of multiplications and additions per entry. A pass is a reading or a writing.",
            ),
            WrongAnswer(
                answer=19, misconception="reads only", says="19 is the readings alone. Writing takes time, too."
            ),
            WrongAnswer(
                answer=14,
                misconception="writes only",
                says="14 is the writings alone. Their operands are read as well.",
            ),
            WrongAnswer(
                answer=27,
                misconception="coefficients for free",
                says=(
                    "27 leaves out `w[0] * ...`: one number, but it multiplies a whole tensor, which is read and "
                    "written."
                ),
            ),
            WrongAnswer(
                answer=31,
                misconception="bias left out",
                says="31 leaves out the bias: adding one number reads and writes the whole tensor.",
            ),
            WrongAnswer(
                answer=36,
                misconception="mean writes a whole tensor",
                says="36 lets each mean write a whole tensor. It writes one number per row.",
            ),
            WrongAnswer(
                answer=30,
                misconception="mean for free",
                says="30 leaves out what the three means read. They write little, but they read everything.",
            ),
            WrongAnswer(
                answer=29,
                misconception="powers left out",
                says="29 leaves out `x**3` and `x**2`, which stand in the arguments.",
            ),
        ),
        right=(torch.tensor(33), 33.0),
    ),
    Exercise(
        name="kept_units",
        notebook=NOTEBOOK,
        statement=r"""
            The backward pass needs some of what the forward pass computed, and until then autograd keeps it. Think
            through the same formula, `w[0] * norm(x**3) + w[1] * norm(x**2) + w[2] * norm(x) + b`, with the
            coefficients learnt. How many **different** tensors of the size of `x` are kept, `x` included?

            To go back through $u^k$ one needs $u$; through a product $u \cdot v$ both factors; through a sum nothing.
            What is needed twice is kept once.
            """,
        difficulty=3,
        importance=5,
        minutes=8,
        reference=6,
        ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="tensors are whole")),
        imports="",
        hints=(
            "Go through one term, `w[0] * norm(x**3)`. Its powers need x; inside `norm` the square needs u and "
            "the product "
            "needs u again. And the gradient of `w[0]`?",
            "The gradient of `w[0]` is a sum over g times norm(x**3), so each norm(...) is kept. The inputs of "
            "the norms "
            "are x, x**2 and x**3.",
        ),
        explanation=r"""
            Each of $x$, $x^2$, $x^3$ goes into a `norm`, which needs it for its square and for its product. Each
            $\mathrm{norm}(x^p)$ is kept for the gradient of its coefficient. Six tensors of the size of $x$; ReLU
            keeps one.
            """,
        bank=(
            WrongAnswer(
                answer=1,
                misconception="what is needed",
                says="1 is what a backward in closed form needs. Autograd goes back operation by operation, with more.",
            ),
            WrongAnswer(
                answer=3,
                misconception="powers only",
                says=(
                    "3 is x, x², x³. The gradient of a coefficient multiplies g by its normalised power: those are "
                    "kept, too."
                ),
            ),
            WrongAnswer(
                answer=5, misconception="x not counted", says="5 is what is kept beyond x itself. x is kept as well."
            ),
            WrongAnswer(
                answer=11,
                misconception="repetitions counted",
                says="11 counts each time that an operation asks for a tensor. What two operations need is kept once.",
            ),
            WrongAnswer(
                answer=14,
                misconception="everything written",
                says="14 is everything that is written. Back through a sum nothing is needed, so sums keep nothing.",
            ),
            WrongAnswer(
                answer=12,
                misconception="twice the size",
                says=(
                    "12 is what it comes to for 16-bit x when all is computed in fp32: tensors of twice the size. "
                    "Count tensors."
                ),
            ),
        ),
        right=(torch.tensor(6), 6.0),
    ),
    Exercise(
        name="fused_backward",
        notebook=NOTEBOOK,
        statement=r"""
            Write the backward pass from the three closed forms above. You get $g$, $x$, the coefficients, and $r_1,
            \dots, r_P$ of each row; no power of $x$ was kept, so form them again. ($\mathrm dx$ you know from notebook
            02, in another order of multiplication; new are $\mathrm dw$ and $\mathrm db$.)

            Multiply $c_p = p\, a_p \,(r_p t_p / n)$ in this order. The last step of the check has rows of size $10^5$
            in float32, where $r_3^3$ is below the smallest number that float32 has.
            """,
        difficulty=4,
        importance=5,
        minutes=15,
        reference=fused_backward,
        cases=grid(_rows, shapes=((2, 5, 3), (4, 9, 3), (3, 6, 2)), word="N, F, P ="),
        ladder=ladder(
            Values(rtol=1e-9, atol=1e-10, because="float64 carries sixteen digits; six may go where terms cancel"),
            Property(
                promise="rows of size 10⁵ in float32 get the gradient that float64 finds, within a thousandth",
                cases=(Case(label="rows of size 1e5", make=_large_rows),),
                holds=_right_at_large_rows,
            ),
        ),
        hints=(
            r"Loop over $p$ from 1 to $P$. `weight[P - p]` is $w_p$; `stats[:, p-1:p]` is $r_p$ as a column, so "
            r"that it "
            "multiplies whole rows.",
            r"Per power: `a = w * r`, `t = r * (g * x**p).sum(-1, keepdim=True)`, `c = p * a * (r * t / n)`. Add "
            "`x**(p-1) * (p * a * g - c * x**p)` to dx, and note `t.sum()` for dw.",
            "`dw` is stored from the highest power down: insert each at the front. `db` is the sum of all of g, "
            "shape (1,).",
        ),
        explanation=r"""
            Per row and power there are one sum over the row and two coefficients; the rest is a polynomial in $x$ with
            these coefficients. A kernel that holds the row reads $x$ and $g$ once and writes $dx$ once: three passes.

            $r_3$ of a row of size $10^5$ is about $10^{-16}$. Its cube is zero in float32, and the path through the
            size is lost without a warning; $r_p t_p / n$ is formed of a small and a large number first.
            """,
        bank=(
            WrongAnswer(
                answer=_with(sign=0),
                misconception="sizes as constants",
                says="This dx is exactly that of constant sizes. r_p depends on x: the term with c_p is missing.",
            ),
            WrongAnswer(
                answer=_with(sign=1),
                misconception="sign of the second path",
                says="This dx adds the term with c_p. A longer row makes every output smaller: it is subtracted.",
            ),
            WrongAnswer(
                answer=_with(slope=0),
                misconception="p missing in the first path",
                says="In this dx the first term lacks the factor p of the derivative of x^p.",
            ),
            WrongAnswer(
                answer=_with(pull=0),
                misconception="p missing in c",
                says="In this dx c_p lacks its factor p, from the derivative of x^2p under the mean.",
            ),
            WrongAnswer(
                answer=_with(divisor=1),
                misconception="sum for mean",
                says="In this dx c_p is not divided by n. The size holds a mean over the row, not a sum.",
            ),
            WrongAnswer(
                answer=_with(reach=1),
                misconception="power of the second path",
                says="In this dx c_p multiplies x^(p-1). It stands inside: x^(p-1) (... - c_p x^p), so x^(2p-1).",
            ),
            WrongAnswer(
                answer=_with(whole=True),
                misconception="sums over all rows",
                says="In this dx t_p is summed over all rows. Each row has its own size: sum over `dim=-1` alone.",
            ),
            WrongAnswer(
                answer=_with(order_of=lambda weight: weight.flip(0)),
                misconception="coefficients in ascending order",
                says=(
                    "This dx takes weight[0] for the first power. The highest power comes first: w_p is weight[P - p]."
                ),
            ),
            WrongAnswer(
                answer=_with(rows_of=lambda stats: stats.flip(1)),
                misconception="sizes in descending order",
                says="This takes stats[:, 0] for the highest power. stats starts with r_1.",
            ),
            WrongAnswer(
                answer=_coefficients_without_sizes,
                misconception="dw without the sizes",
                says=(
                    "dx and db are right; this dw is exactly the sum of g x^p. w_p multiplies r_p x^p: the r_p is "
                    "missing."
                ),
            ),
            WrongAnswer(
                answer=_coefficients_upwards,
                misconception="dw in ascending order",
                says=(
                    "dx and db are right; this dw starts with the first power. Like weight, it starts with the highest."
                ),
            ),
            WrongAnswer(
                answer=_coefficients_averaged,
                misconception="dw averaged over rows",
                says="dx and db are right; this dw is the mean over the rows. All rows share the coefficients: sum.",
            ),
            WrongAnswer(
                answer=_bias_averaged,
                misconception="db averaged",
                says="dx and dw are right; this db is the mean of g. One bias serves all entries: sum.",
            ),
            WrongAnswer(
                answer=_coefficients_of_each_row,
                misconception="dw of each row",
                says="This dw has one line per row. The rows share the coefficients: sum over them.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_bias_of_each_unit,
                misconception="db of each unit",
                says="This db has one entry per unit, as a Linear layer's would. PolyNorm has one bias in all.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_into_the_gradient,
                misconception="writes into g",
                says="dx was written into g. If g also flows into another branch, a residual say, that branch gets dx.",
                fails="inputs kept",
            ),
            WrongAnswer(
                answer=_cubed,
                misconception="the cube of r",
                says=(
                    "This is what forming r_p^3 gives: right at ordinary sizes, but for rows of size 10⁵ the cube "
                    "of r_3 is 0 "
                    "in float32, and the second path is gone."
                ),
                fails="property",
            ),
        ),
        right=(_by_horner, _by_autograd_in_double),
    ),
    Exercise(
        name="kept_at_peak",
        notebook=NOTEBOOK,
        statement=r"""
            A network of `n_layers` equal layers is cut into segments of `segment` layers. In the forward pass only
            the **input of each segment** is kept. In the backward pass the segments are taken from the last to the
            first: each runs forward again and keeps `inner` tensors for each of its layers until it is done.

            How many tensors are in memory at the worst moment? That is when the last segment has just been run again:
            nothing of the others has been freed yet.
            """,
        difficulty=2,
        importance=4,
        minutes=6,
        reference=kept_at_peak,
        cases=grid(_segments, shapes=((24, 6), (36, 2)), word="layers, inner ="),
        ladder=ladder(
            Values(
                rtol=1e-6, atol=1e-6, because="a quotient and a product are each rounded once, in the seventh digit"
            ),
        ),
        hints=(
            "Two kinds of tensors are there at once: the inputs of the segments, and what the one running segment "
            "keeps.",
            "There are n_layers / segment segments with one input each, and segment layers with inner tensors each.",
        ),
        explanation=r"""
            $L/k + k\,m$ with $L$ layers, $k$ in a segment, $m$ tensors a layer. The first part falls with $k$, the
            second rises; they meet at $k = \sqrt{L/m}$, and the sum there is $2\sqrt{L m}$ instead of $L m$ (Chen et
            al., 2016). The price is one more forward pass, whatever $k$ is.
            """,
        bank=(
            WrongAnswer(
                answer=lambda segment, n_layers, inner: n_layers / segment,
                misconception="inputs only",
                says="This is exactly the inputs of the segments. The segment that runs again keeps tensors, too.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: segment * inner,
                misconception="running segment only",
                says="This is exactly what the running segment keeps. The inputs of all segments are there as well.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: segment + n_layers / segment * inner,
                misconception="lengths and numbers exchanged",
                says=(
                    "This takes segment for the number of segments. It is the length of one; there are n_layers / "
                    "segment."
                ),
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: torch.full_like(segment, n_layers * inner),
                misconception="no checkpoints",
                says="This is exactly what is kept without checkpoints: every layer's tensors at once.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: torch.maximum(n_layers / segment, segment * inner),
                misconception="the larger of the two",
                says="This is exactly the larger of the two parts. Both are in memory at the same time: add them.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: n_layers / segment * segment * inner + n_layers / segment,
                misconception="all segments run again at once",
                says="This keeps the inner tensors of all segments. Only one segment is run again at a time.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: n_layers / segment + inner,
                misconception="one layer of the segment",
                says="This counts the inner tensors of one layer. The running segment has `segment` layers.",
            ),
            WrongAnswer(
                answer=lambda segment, n_layers, inner: n_layers + segment * inner,
                misconception="input of each layer",
                says="This keeps the input of every layer. Only the inputs of segments are kept.",
            ),
        ),
        right=(lambda segment, n_layers, inner: (n_layers + segment**2 * inner) / segment,),
    ),
    Exercise(
        name="matmul_roof",
        notebook=NOTEBOOK,
        statement=r"""
            A machine has two limits: it computes at most `peak` operations a second and moves at most `bandwidth`
            bytes. A job with $I$ operations per byte can therefore not run faster than $\min(\text{peak},\ I \cdot
            \text{bandwidth})$: that is the **roofline**.

            The job is the product in front of an activation: $n$ rows of $D$ entries times a matrix of $D \times 4D$.
            Each entry of the result takes $D$ multiplications and $D$ additions. Rows and matrix are read once, the
            result is written once, `itemsize` bytes per entry. Give the roof for each $D$ in `width`.
            """,
        difficulty=3,
        importance=4,
        minutes=10,
        reference=matmul_roof,
        cases=grid(_machines, shapes=((5, 64, 4), (7, 512, 8)), word="widths, n, itemsize ="),
        ladder=ladder(
            Values(rtol=1e-9, atol=1e-9, because="a handful of products in float64 keep fifteen digits"),
        ),
        hints=(
            r"Operations: the result has $n \cdot 4D$ entries, and each takes $2D$. Bytes: three tensors, of $nD$, "
            r"$4D^2$ and "
            r"$4nD$ entries.",
            "`intensity = operations / bytes`, then the smaller of `peak` and `bandwidth * intensity`, for "
            "example with "
            "`clamp(max=peak)`.",
        ),
        explanation=r"""
            $I = 8nD^2 / (\text{itemsize} \cdot (5nD + 4D^2))$. For many rows that is about $\tfrac{8}{5} D /
            \text{itemsize}$: it grows with the width, so wide products are bound by arithmetic. An activation has the
            same $I$ at every width.
            """,
        bank=(
            WrongAnswer(
                answer=_roof_with(joined=torch.maximum),
                misconception="the higher limit",
                says="This is exactly the larger of the two limits. Both hold, so the smaller one decides.",
            ),
            WrongAnswer(
                answer=_roof_with(joined=lambda slope, peak: slope),
                misconception="no flat roof",
                says="This is exactly bandwidth × intensity. From some width on that is more than `peak`.",
            ),
            WrongAnswer(
                answer=_roof_with(joined=lambda slope, peak: peak),
                misconception="peak only",
                says="This is exactly `peak` at every width. Narrow products wait for memory.",
            ),
            WrongAnswer(
                answer=_roof_with(joined=lambda slope, peak: 1 / (1 / slope + 1 / peak)),
                misconception="times added",
                says=(
                    "This is what comes out if computing and moving take turns. The roofline lets them overlap: the "
                    "minimum."
                ),
            ),
            WrongAnswer(
                answer=_roof_with(factor=1),
                misconception="a multiplication and an addition as one",
                says="This counts D operations per entry. D multiplications and D additions are 2 D.",
            ),
            WrongAnswer(
                answer=_roof_with(result=0),
                misconception="result not counted",
                says="This leaves out the result. Writing it moves n × 4D entries.",
            ),
            WrongAnswer(
                answer=_roof_with(matrix=0),
                misconception="matrix not counted",
                says="This leaves out the matrix. For few rows it is most of what is moved.",
            ),
            WrongAnswer(
                answer=_roof_with(rows=0),
                misconception="rows not counted",
                says="This leaves out the rows that go in, n × D entries.",
            ),
            WrongAnswer(
                answer=_roof_with(each=1),
                misconception="entries for bytes",
                says="This counts entries. Each takes `itemsize` bytes.",
            ),
            WrongAnswer(
                answer=_roof_with(wider=1),
                misconception="a square matrix",
                says="This takes a matrix of D × D. The one in front of an activation is D × 4D.",
            ),
            WrongAnswer(
                answer=_upside_down,
                misconception="bytes per operation",
                says="Here the intensity stands upside down: bytes per operation. It is operations per byte.",
            ),
        ),
        right=(_by_times,),
    ),
    Exercise(
        name="sixth_power_limit",
        notebook=NOTEBOOK,
        statement=r"""
            The largest number of float16 is 65504. To divide $x^3$ by its size, PolyNorm forms $(x^3)^2$. From which
            $|x|$ on is that infinite in float16? Give three digits or a formula.
            """,
        difficulty=1,
        importance=5,
        minutes=3,
        reference=65504 ** (1 / 6),
        ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
        solution="sixth_power_limit = 65504 ** (1 / 6)",
        imports="",
        hints=(
            "Which power of x is the square of its cube?",
            r"$|x|^6 = 65504$. Take the sixth root.",
        ),
        explanation=r"""
            $65504^{1/6} = 6.35$. The cube itself survives up to 40.3; it is the *measurement of its size* that
            overflows, and one entry of the row is enough: the mean is infinite, its inverse root is 0, and 0 times
            the cube is 0.
            """,
        bank=(
            WrongAnswer(
                answer=65504 ** (1 / 3),
                misconception="the cube alone",
                says="40.3 is where x³ overflows. Its square does so earlier.",
            ),
            WrongAnswer(
                answer=65504 ** (1 / 5),
                misconception="exponents added",
                says="9.19 is the fifth root: 3 + 2. Squaring a cube multiplies the exponents.",
            ),
            WrongAnswer(
                answer=65504 ** (1 / 4),
                misconception="the square's size",
                says="16.0 is where the size of the square overflows, (x²)². The cube's does so earlier.",
            ),
            WrongAnswer(
                answer=65504 ** (1 / 2),
                misconception="the square of x",
                says="256 is where x² overflows. Asked for is the square of x³.",
            ),
            WrongAnswer(
                answer=65504 / 6,
                misconception="division for a root",
                says="10917 is 65504 / 6. The inverse of a sixth power is a sixth root.",
            ),
            WrongAnswer(
                answer=torch.finfo(torch.float32).max ** (1 / 6),
                misconception="the limit of float32",
                says="2.6 million is the limit in float32. float16 ends at 65504.",
            ),
        ),
        right=(6.35, torch.tensor(65504.0) ** (1 / 6)),
    ),
)
