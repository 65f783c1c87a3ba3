"""Exercises of 01_why_nonlinearity: what an activation does to a network."""

import itertools
import math

import torch

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid


def collapse_linear(weights: list[torch.Tensor], biases: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """One affine map that does what a stack of affine maps does.

    Layer l computes weights[l] @ x + biases[l]; layer 0 comes first. weights[l] has shape (out, in), biases[l] (out,).
    Returns (weight, bias) with weight @ x + bias equal to all layers in turn, for every x.
    """
    weight, bias = weights[0], biases[0]
    for layer_weight, layer_bias in zip(weights[1:], biases[1:], strict=True):
        weight, bias = layer_weight @ weight, layer_weight @ bias + layer_bias
    return weight, bias


def _stack(widths: tuple[int, ...], generator: torch.Generator) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    weights = [
        torch.randn(n_out, n_in, generator=generator) / math.sqrt(n_in) for n_in, n_out in itertools.pairwise(widths)
    ]
    return weights, [torch.randn(n_out, generator=generator) for n_out in widths[1:]]


def _product_reversed(weights, biases):
    weight, bias = weights[0], biases[0]
    for layer_weight, layer_bias in zip(weights[1:], biases[1:], strict=True):
        weight, bias = weight @ layer_weight, layer_weight @ bias + layer_bias
    return weight, bias


def _biases_added_up(weights, biases):
    return collapse_linear(weights, biases)[0], sum(biases[1:], biases[0])


def _last_bias_only(weights, biases):
    return collapse_linear(weights, biases)[0], biases[-1]


def _no_bias(weights, biases):
    return collapse_linear(weights, biases)[0], torch.zeros_like(biases[-1])


def _transposed(weights, biases):
    weight, bias = collapse_linear(weights, biases)
    return weight.T, bias


def _entry_by_entry(weights, biases):
    weight, bias = weights[0], biases[0]
    for layer_weight, layer_bias in zip(weights[1:], biases[1:], strict=True):
        weight, bias = layer_weight * weight, layer_weight @ bias + layer_bias
    return weight, bias


def _bias_added_before_its_layer(weights, biases):
    weight, bias = torch.eye(weights[0].shape[1]), torch.zeros(weights[0].shape[1])
    for layer_weight, layer_bias in zip(weights, biases, strict=True):
        weight, bias = layer_weight @ weight, layer_weight @ (bias + layer_bias)
    return weight, bias


def _bias_through_the_whole_product(weights, biases):
    weight, bias = weights[0], biases[0]
    for layer_weight, layer_bias in zip(weights[1:], biases[1:], strict=True):
        weight = layer_weight @ weight
        bias = weight @ bias + layer_bias
    return weight, bias


def _last_layer_left_out(weights, biases):
    return collapse_linear(weights[:-1] or weights, biases[:-1] or biases)


def _popping(weights, biases):
    weight, bias = weights.pop(0), biases.pop(0)
    while weights:
        layer_weight = weights.pop(0)
        weight, bias = layer_weight @ weight, layer_weight @ bias + biases.pop(0)
    return weight, bias


def _adding_in_place(weights, biases):
    weight, bias = weights[0], biases[0]
    for layer_weight, layer_bias in zip(weights[1:], biases[1:], strict=True):
        weight, bias = layer_weight @ weight, layer_bias.add_(layer_weight @ bias)
    return weight, bias


def _by_probing(weights, biases):
    x = torch.cat([torch.zeros(weights[0].shape[1], 1), torch.eye(weights[0].shape[1])], dim=1)
    for weight, bias in zip(weights, biases, strict=True):
        x = weight @ x + bias[:, None]
    return x[:, 1:] - x[:, :1], x[:, 0]


def _by_one_extra_coordinate(weights, biases):
    total = torch.eye(weights[0].shape[1] + 1)
    for weight, bias in zip(weights, biases, strict=True):
        bottom = torch.zeros(1, weight.shape[1] + 1)
        bottom[0, -1] = 1
        total = torch.cat([torch.cat([weight, bias[:, None]], dim=1), bottom]) @ total
    return total[:-1, :-1], total[:-1, -1]


def silu_derivative(x: torch.Tensor) -> torch.Tensor:
    """Derivative of SiLU, x * sigmoid(x), at every entry of x; shape and dtype of x."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _numbers(shape: tuple[int, ...], generator: torch.Generator) -> tuple[torch.Tensor]:
    return (2 * torch.randn(shape, generator=generator),)


def _with_quotients_of_exponentials(x):
    s = x.exp() / (1 + x.exp())
    return s * (1 + x * (1 - s))


def _by_autograd(x):
    with torch.enable_grad():
        y = x if x.requires_grad else x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(torch.nn.functional.silu(y).sum(), y, create_graph=x.requires_grad)
    return slope


def _with_tanh(x):
    t = torch.tanh(x / 2)
    return (1 + t) / 2 + x * (1 - t * t) / 4


def _in_single_precision(x):
    return silu_derivative(x.float())


def _cut_off_the_graph(x):
    return silu_derivative(x.detach())


def dead_fraction(z: torch.Tensor) -> torch.Tensor:
    """Fraction of hidden units that ReLU silences on every sample.

    z: pre-activations, shape (N, F): N samples, F hidden units. A unit is dead if relu(z) is 0 for all N samples.
    Returns one float32 number between 0 and 1, shape ().
    """
    return (z <= 0).all(dim=0).float().mean()


def _preactivations(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    shift = 2 * torch.randn(shape[1], generator=generator) - 0.5  # of each unit: a good part of them is dead
    return (torch.randn(shape, generator=generator) + shift,)


def _by_largest(z):
    return (z.amax(dim=0) <= 0).sum() / z.shape[1]


def _by_counting_the_living(z):
    return 1 - torch.relu(z).sum(dim=0).count_nonzero() / z.shape[1]


EXERCISES = (
    Exercise(
        name="collapse_linear",
        notebook="01_why_nonlinearity",
        statement=r"""
            Layers without an activation between them are one layer. Show it: given the weights and biases of a stack
            of affine maps $x \mapsto W_l x + b_l$, find the single $W, b$ that does the same,

            $$W_{L-1}(\cdots (W_1 (W_0 x + b_0) + b_1) \cdots) + b_{L-1} = W x + b \quad \text{for every } x.$$

            The layers may have different widths, so $W_l$ has shape (out, in) and need not be square.
            """,
        difficulty=2,
        importance=5,
        minutes=12,
        reference=collapse_linear,
        cases=(
            *grid(_stack, shapes=((4, 4, 4, 4), (3, 5, 2, 4)), word="widths"),
            Case(label="a single layer", make=lambda: _stack((3, 3), torch.Generator().manual_seed(2))),
        ),
        ladder=ladder(
            Values(rtol=1e-4, atol=1e-5, because="three float32 products in any order agree to about six digits"),
            Gradients(rtol=1e-4, atol=1e-5, because="they are products of the same matrices as the values"),
        ),
        hints=(
            r"""
            Do two layers on paper: put $W_0 x + b_0$ into $W_1 (\,\cdot\,) + b_1$ and multiply out. Which factor
            stands on the left?
            """,
            """
            Keep a running pair `weight, bias` for the layers so far. One more layer multiplies *both* from the left
            by its own weight, and then adds its own bias to the second.
            """,
        ),
        explanation=r"""
            One more layer on top of $W x + b$ gives $W_l (W x + b) + b_l = (W_l W)\, x + (W_l b + b_l)$. So the new
            weight goes on the *left*, and the bias collected so far is carried through the new layer as any other
            vector is.

            Fifty such layers can do nothing that one cannot; they only train differently. Whatever depth is to bring
            has to come from what stands between the layers.
            """,
        bank=(
            WrongAnswer(
                answer=_product_reversed,
                misconception="product in the wrong order",
                says=(
                    "This weight is exactly the product with the first layer on the left. The layer that acts last "
                    "stands on the left: W₁(W₀ x) = (W₁ W₀) x."
                ),
                fails="runs",
            ),
            WrongAnswer(
                answer=_biases_added_up,
                misconception="biases not carried through the later layers",
                says=(
                    "This bias is exactly the sum of all biases. An early bias passes through every later layer, so "
                    "it is multiplied by their weights."
                ),
                fails="runs",
            ),
            WrongAnswer(
                answer=_last_bias_only,
                misconception="only the last bias",
                says=(
                    "The weight is right, and this bias is exactly that of the last layer. The earlier biases reach "
                    "the output too, through the layers after them."
                ),
            ),
            WrongAnswer(
                answer=_no_bias,
                misconception="no bias",
                says=(
                    "The weight is right and the bias is zero. Put x = 0 through the stack: what comes out is the "
                    "bias that is missing."
                ),
            ),
            WrongAnswer(
                answer=_transposed,
                misconception="weight transposed",
                says=(
                    "This is exactly the right weight transposed. A weight has shape (out, in) here, as in "
                    "`torch.nn.Linear`, and acts from the left: weight @ x."
                ),
                fails="shape",
            ),
            WrongAnswer(
                answer=_entry_by_entry,
                misconception="product entry by entry",
                says=(
                    "This weight is exactly the product entry by entry, `*`. Applying one map after the other is the "
                    "matrix product, `@`."
                ),
                fails="runs",
            ),
            WrongAnswer(
                answer=_bias_through_the_whole_product,
                misconception="bias carried through the whole product",
                says=(
                    "This bias is exactly what comes out when the bias so far is multiplied by the product of all "
                    "weights so far. It stands behind the earlier layers already: only the new layer's weight "
                    "multiplies it."
                ),
                fails="runs",
            ),
            WrongAnswer(
                answer=_bias_added_before_its_layer,
                misconception="bias added before its own layer",
                says=(
                    "This bias is exactly what W (b + b_l) gives. A layer multiplies first and adds its bias "
                    "afterwards, so its own weight leaves b_l alone."
                ),
                fails="runs",
            ),
            WrongAnswer(
                answer=_last_layer_left_out,
                misconception="last layer left out",
                says="This is exactly the stack without its last layer. Look at where your loop ends.",
                fails="shape",
            ),
            WrongAnswer(
                answer=_popping,
                misconception="takes the caller's lists apart",
                says="The caller's lists are empty now, as `pop` leaves them. Loop over them, or copy them first.",
                fails="inputs kept",
            ),
            WrongAnswer(
                answer=_adding_in_place,
                misconception="adds into a given bias",
                says=(
                    "The layers' own biases now hold the running bias, as adding in place (`+=`, `add_`) leaves them. "
                    "`layer_weight @ bias + layer_bias` makes a new tensor."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_by_probing, _by_one_extra_coordinate),
    ),
    Exercise(
        name="silu_derivative",
        notebook="01_why_nonlinearity",
        statement=r"""
            What flows back through an activation is multiplied by its derivative, so the derivative is where
            vanishing gradients live. Find that of SiLU, $f(x) = x\,\sigma(x)$ with $\sigma(x) = 1/(1 + e^{-x})$, on
            paper, and write it down.

            Useful: $\sigma'(x) = \sigma(x)\,(1 - \sigma(x))$. Your function should work at $x = \pm 100$ too.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=silu_derivative,
        cases=(
            *grid(_numbers, shapes=((2, 5), (3, 7))),
            Case(label="float64 input", make=lambda: (torch.linspace(-3, 3, 7, dtype=torch.float64),)),
        ),
        ladder=ladder(
            Values(rtol=1e-5, atol=1e-6, because="float32 carries seven digits, and the formula loses at most one"),
            Gradients(
                rtol=1e-4, atol=1e-5, because="a second derivative in float32 loses one digit more than the first"
            ),
            Property(
                promise="far to the left the slope is 0 and far to the right it is 1, as for ReLU",
                cases=(Case(label="x = -100 and x = 100", make=lambda: (torch.tensor([-100.0, 100.0]),)),),
                holds=lambda results: close(torch.tensor([0.0, 1.0]), results[0], rtol=0, atol=1e-6),
            ),
        ),
        hints=(
            """
            It is a product of two functions of $x$, so the product rule has two terms: $(u v)' = u' v + u v'$. What
            are $u$ and $v$?
            """,
            r"""
            With $s = \sigma(x)$ the two terms are $1 \cdot s$ and $x \cdot s (1 - s)$. Check one value: at $x = 0$
            the slope is $\tfrac12$.
            """,
        ),
        explanation=r"""
            By the product rule $f'(x) = \sigma(x) + x\,\sigma(x)(1 - \sigma(x)) = s\,(1 + x (1 - s))$ with $s =
            \sigma(x)$. The first term is the slope of a rectifier with a soft corner; the second makes it dip below 0
            on the left (down to $-0.10$ near $x = -2.4$) and rise above 1 on the right.

            `torch.sigmoid` is written so that it overflows nowhere; `exp(x) / (1 + exp(x))` becomes `inf / inf`, NaN,
            beyond $x = 88$ in float32.
            """,
        bank=(
            WrongAnswer(
                answer=torch.sigmoid,
                misconception="only the first term of the product rule",
                says=(
                    "This is exactly σ(x), the first term of the product rule. The x in front is a factor, and σ "
                    "depends on x too: the second term is x σ'(x)."
                ),
            ),
            WrongAnswer(
                answer=lambda x: x * torch.sigmoid(x) * (1 - torch.sigmoid(x)),
                misconception="only the second term of the product rule",
                says="This is exactly x σ'(x), the second term of the product rule. The first, 1 · σ(x), is missing.",
            ),
            WrongAnswer(
                answer=lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)),
                misconception="product of the derivatives",
                says=(
                    "This is exactly σ'(x), the product of the two factors' derivatives, 1 · σ'(x). The derivative "
                    "of a product is u'v + uv'."
                ),
            ),
            WrongAnswer(
                answer=lambda x: torch.sigmoid(x) + x * (1 - torch.sigmoid(x)),
                misconception="derivative of the sigmoid without its first factor",
                says=(
                    "This is exactly σ + x (1 - σ). The derivative of σ has two factors, σ (1 - σ); the first is "
                    "missing in the second term."
                ),
            ),
            WrongAnswer(
                answer=lambda x: torch.sigmoid(x) * (1 + x),
                misconception="sigmoid as its own derivative",
                says=(
                    "This is exactly σ + x σ, what the product rule gives if σ were its own derivative. That holds "
                    "for exp; σ' is σ (1 - σ)."
                ),
            ),
            WrongAnswer(
                answer=lambda x: torch.sigmoid(x) * (1 - x * (1 - torch.sigmoid(x))),
                misconception="sign of the second term",
                says=(
                    "This is exactly σ - x σ (1 - σ): the second term has the wrong sign. σ rises everywhere, so σ' "
                    "is positive."
                ),
            ),
            WrongAnswer(
                answer=torch.nn.functional.silu,
                misconception="the function for its derivative",
                says="This is exactly SiLU itself, x σ(x). Asked for is its slope.",
            ),
            WrongAnswer(
                answer=lambda x: (x > 0).to(x.dtype),
                misconception="the slope of ReLU",
                says=(
                    "This is exactly the slope of ReLU: 0 on the left, 1 on the right. SiLU goes from one to the "
                    "other smoothly."
                ),
            ),
            WrongAnswer(
                answer=_in_single_precision,
                misconception="always float32",
                says=(
                    "This is what a conversion to float32 gives: the numbers are right, but an input in float64 "
                    "loses half of its digits. Leave the dtype as it comes."
                ),
                fails="dtype",
            ),
            WrongAnswer(
                answer=_cut_off_the_graph,
                misconception="cut off from the graph",
                says=(
                    "This is what `.detach()`, `.data` or `torch.no_grad()` give: right values that nothing can be "
                    "differentiated through."
                ),
                fails="gradients",
            ),
            WrongAnswer(
                answer=_with_quotients_of_exponentials,
                misconception="overflow of the exponential",
                says=(
                    "This is exactly what exp(x) / (1 + exp(x)) gives: beyond x = 88, exp(x) is infinite in float32 "
                    "and the quotient NaN. `torch.sigmoid` avoids it."
                ),
                fails="property",
            ),
        ),
        right=(_by_autograd, _with_tanh),
    ),
    Exercise(
        name="relu_gain",
        notebook="01_why_nonlinearity",
        statement=r"""
            Stack many layers $x \mapsto \mathrm{relu}(W x)$ with $n$ inputs each and independent weights of mean 0
            and standard deviation $g / \sqrt{n}$. For which **gain** $g$ does the mean square of the pre-activations
            stay the same from layer to layer?

            Work it out: what does a ReLU do to the mean square of a symmetric distribution? Give $g$ to three digits
            or as a formula.
            """,
        difficulty=3,
        importance=4,
        minutes=10,
        reference=math.sqrt(2),
        ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
        solution="relu_gain = 2**0.5",
        imports="",
        hints=(
            """
            Let $z$ be symmetric around 0 with mean square $q$. ReLU keeps the positive half as it is and puts the
            other half to 0. What is the mean square of relu(z)?
            """,
            r"""
            A sum of $n$ independent terms $w_i h_i$ has mean square $n \cdot \frac{g^2}{n} \cdot \overline{h^2}$. Put
            in $\overline{h^2} = q/2$ and ask for $q$.
            """,
        ),
        explanation=r"""
            A symmetric $z$ is negative half of the time, so $\overline{\mathrm{relu}(z)^2} = q/2$. The next
            pre-activation has mean square $n \cdot (g^2/n) \cdot q/2 = g^2 q/2$, which is $q$ for $g^2 = 2$, so $g =
            \sqrt 2 \approx 1.414$ (He et al., 2015). With $g = 1$ fifty layers leave $2^{-50}$ of it: about
            $10^{-15}$.
            """,
        bank=(
            WrongAnswer(
                answer=1.0,
                misconception="no gain",
                says=(
                    "1 keeps the mean square without an activation. With ReLU it halves in every layer: half of the "
                    "values become 0."
                ),
            ),
            WrongAnswer(
                answer=2.0,
                misconception="variance for standard deviation",
                says=(
                    "2 is the right factor for the variance of the weights. The gain multiplies their standard "
                    "deviation."
                ),
            ),
            WrongAnswer(
                answer=0.5,
                misconception="what ReLU leaves",
                says="0.5 is the share of the mean square that ReLU leaves. The gain has to make up for it.",
            ),
            WrongAnswer(
                answer=math.sqrt(0.5),
                misconception="what ReLU leaves, as a standard deviation",
                says=(
                    "0.707 is the root of the share that ReLU leaves. The gain has to make up for it, so it is "
                    "larger than 1."
                ),
            ),
            WrongAnswer(
                answer=1 / math.sqrt(0.5 - 1 / (2 * math.pi)),
                misconception="variance for mean square",
                says=(
                    "1.713 keeps the variance of relu(z) around its mean. The next layer sees the mean square, mean "
                    "included, because its weights have mean 0."
                ),
            ),
            WrongAnswer(
                answer=5 / 3,
                misconception="the gain of tanh",
                says=(
                    "5/3 is the gain customary for tanh. ReLU treats the mean square differently: work out by how much."
                ),
            ),
        ),
        right=(torch.tensor(2.0).sqrt(), 1.41),
    ),
    Exercise(
        name="dead_fraction",
        notebook="01_why_nonlinearity",
        statement="""
            A unit behind a ReLU is **dead** if it is silent on *every* sample: then its output is always 0, its
            own gradient too, and its weights stay as they are. Given the pre-activations `z` (what goes *into* the
            ReLU) of N samples and F units, which fraction of the units is dead?

            A unit that is silent on some samples is at work, not dead. At exactly 0 ReLU gives 0.
            """,
        difficulty=2,
        importance=4,
        minutes=8,
        reference=dead_fraction,
        cases=(
            *grid(_preactivations, shapes=((6, 37), (11, 64)), word="shape (samples, units)"),
            Case(
                label="a unit whose input is always 0",
                make=lambda: (torch.tensor([[0.0, 1.0, -1.0], [0.0, -2.0, -1.0]]),),
            ),
        ),
        ladder=ladder(
            Values(rtol=1e-6, atol=1e-6, because="a fraction of whole numbers is rounded once, in the seventh digit"),
        ),
        hints=(
            """
            Two questions, one after the other: is this unit silent on all samples? (one yes or no per unit), and:
            which fraction of the answers is yes?
            """,
            """
            Rows are samples, columns are units, so "on all samples" runs over `dim=0`. `(z <= 0)` says where ReLU is
            silent; `.all(dim=0)`, `.float()` and `.mean()` do the rest.
            """,
        ),
        explanation="""
            `z <= 0` is where ReLU gives 0, `.all(dim=0)` asks it of every sample and leaves one answer per unit, and
            the mean of zeros and ones is a fraction. The same number from the outputs: `(relu(z) == 0).all(dim=0)`.

            The measured fraction depends on the samples: a unit that is silent on 64 of them may still speak on the
            65th. More samples can only lower it.
            """,
        bank=(
            WrongAnswer(
                answer=lambda z: (z <= 0).float().mean(),
                misconception="fraction of silent entries",
                says=(
                    "This is exactly the fraction of all entries that ReLU silences. A working unit is silent on "
                    "many samples; dead means on all of them."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z <= 0).any(dim=0).float().mean(),
                misconception="any for all",
                says=(
                    "This is exactly the fraction of units that are silent on at least one sample. Dead means silent "
                    "on all: `.all`, not `.any`."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z <= 0).all(dim=1).float().mean(),
                misconception="wrong axis",
                says=(
                    "This is exactly the fraction of samples on which every unit is silent. Samples are rows: to ask "
                    "about units, run over `dim=0`."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z <= 0).all(dim=0).float().sum(),
                misconception="number for fraction",
                says="This is exactly the number of dead units. The fraction divides it by the number of units.",
            ),
            WrongAnswer(
                answer=lambda z: (z <= 0).all(dim=0).sum() / z.shape[0],
                misconception="divided by the number of samples",
                says=(
                    "This is exactly the number of dead units divided by the number of samples, `z.shape[0]`. Divide "
                    "by the number of units."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z > 0).any(dim=0).float().mean(),
                misconception="living for dead",
                says=(
                    "This is exactly the fraction of units that speak on at least one sample: the living ones. Asked "
                    "for is the rest."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z > 0).all(dim=0).float().mean(),
                misconception="units that never rest",
                says=(
                    "This is exactly the fraction of units that are positive on every sample. Those never rest; the "
                    "dead are never positive."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z < 0).all(dim=0).float().mean(),
                misconception="zero not counted as silent",
                says=(
                    "This is exactly what z < 0 gives. At z = 0 ReLU gives 0 and passes no gradient either, so that "
                    "unit is dead too: z <= 0."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z == 0).all(dim=0).float().mean(),
                misconception="outputs for inputs of the ReLU",
                says=(
                    "This is exactly the fraction of units whose pre-activation is 0 everywhere. z is what goes into "
                    "the ReLU; it comes out as 0 wherever z <= 0."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z.mean(dim=0) <= 0).float().mean(),
                misconception="negative on average",
                says=(
                    "This is exactly the fraction of units that are negative on average. One positive sample is "
                    "enough to keep a unit alive."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z[0] <= 0).float().mean(),
                misconception="first sample only",
                says=(
                    "This is exactly the fraction of units that are silent on the first sample. The others have a "
                    "say too."
                ),
            ),
            WrongAnswer(
                answer=lambda z: (z <= 0).all(dim=0),
                misconception="one answer per unit",
                says=(
                    "These are exactly the answers unit by unit: dead or not. The fraction is the mean of them as "
                    "numbers."
                ),
                fails="shape",
            ),
            WrongAnswer(
                answer=lambda z: z.clamp_(min=0).eq(0).all(dim=0).float().mean(),
                misconception="ReLU in place",
                says=(
                    "This is what a ReLU in place (`relu_`, `clamp_`, `z[z < 0] = 0`) does: the fraction is right, "
                    "and the caller's pre-activations are gone."
                ),
                fails="inputs kept",
            ),
        ),
        right=(_by_largest, _by_counting_the_living),
    ),
)
