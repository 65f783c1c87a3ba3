# %% [markdown] title="Polynomial compositions" minutes=90 hardware="2 CPU cores" prerequisites="01"
# **By the end you will have shown** that dividing each power by its own size over the row makes a polynomial that does not
# know how large its input is, because every size cancels: it cannot explode, its gradient is orthogonal to the row, and the
# size of the weights before it becomes a learning rate; and that the control, the same polynomial behind a rectifier instead of
# a division, has none of the three properties.
#
# On the way you will
#
# - **measure** in which narrow window a bare polynomial is a polynomial at all,
# - **write** PolyReLU and PolyNorm, and find out what a single wrong norm does,
# - **look for** the one place in the formula where the division can stand,
# - **derive** the gradient of PolyNorm, and have a machine check it that does not know the answer.
#
# Nothing here takes longer than a few seconds. The only thing that is trained is one matrix.

# %% setup=true

# %% [markdown]
# ## 1 · What a bare polynomial does
#
# Take four numbers and raise them to powers.

# %%
import torch

row = torch.tensor([0.1, 1.0, 10.0, 41.0])
for dtype in (torch.float32, torch.float16):
    for p in (1, 2, 3):
        print(f"{dtype}, x^{p}: " + "".join(f"{v:10.4g}" for v in (row.to(dtype) ** p).tolist()))

# %% [markdown]
# Below 1 powers vanish, above 1 they run away, and in float16, which ends at 65504, the cube of 41 is already infinite.
# What an activation gets is a **row**: all hidden values of one sample, or of one token. Its *scale* is the size of a typical
# entry, measured as the root of the mean square (RMS). So here is a row of 4096 normal numbers times a scale, through $\tfrac13(x + x^2 +
# x^3)$. How large is each of the three terms?
#
# Predict: at which scale has the cubic term become a **hundred** times as large as the linear one?

# %%
from minipolycom.viz.widgets import guess_number

hundred = guess_number("The cubic term is 100 times the linear one at a scale of", unit="", low=1.0, high=100.0)
hundred

# %%
import torch

from minipolycom.viz import figures

normal = torch.randn(4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
scales = torch.logspace(-2, 2, 41, dtype=torch.float64)
powers = {"x": 1, "x²": 2, "x³": 3}
sizes = {name: [float(((s * normal) ** p / 3).square().mean().sqrt()) for s in scales] for name, p in powers.items()}
figures.show(
    figures.lines(
        sizes,
        scales.tolist(),
        xlabel="scale of the row",
        ylabel="root mean square of the term",
        title="The three terms of a bare cubic",
        log="xy",
    )
)
ratio = (normal**6).mean().sqrt() / normal.square().mean().sqrt()  # of the cubic to the linear term at scale 1
hundred.compare(float((100 / ratio).sqrt()))

# %% [markdown]
# **Read the figure.** On logarithmic axes the three terms are three straight lines of slopes 1, 2 and 3, and they cross
# near a scale of one half. Left of the crossing only the linear term counts, and the layer is linear; right of it only
# the cube, and it explodes. The three work together only in between, in about one decade of scale. Nothing in the
# polynomial keeps a row there.
#
# The paper tames the powers by putting a second function around them.
#
# ## 2 · Two ways to put powers and a function together
#
# Let $\rho$ be any function. The paper composes it with a polynomial of order $r$ in two orders:
#
# $$\text{type I:}\quad x \mapsto \sum_{i=0}^{r} a_i\, \rho(x)^i \qquad\qquad
# \text{type II:}\quad x \mapsto \sum_{i=0}^{r} a_i\, \rho(x^i)$$
#
# Type I calls the function first, type II takes the powers first. The coefficients are learnt, **one set per layer**, shared by all its
# units; in the authors' code they start at $a_i = \tfrac1r$ for $i \ge 1$ and $a_0 = 0$. $a_0$ is the bias $b$ of the code.
#
# Predict: with $\rho = \mathrm{ReLU}$ and order 3, are the two types the same function?

# %%
from minipolycom.viz.widgets import choose

types = choose(
    "PolyReLU of type I, Σ aᵢ ReLU(x)ⁱ, and of type II, Σ aᵢ ReLU(xⁱ), with the same coefficients:",
    {
        "the same everywhere": "They agree where x is positive, and odd powers of negative numbers are rectified in both.",
        "different on the left": "x² is positive on both sides. Type I has cut the left off before squaring, type II cannot.",
        "different on the right": "On the right ReLU changes neither x nor any power of it, so both are the bare cubic.",
    },
    right="different on the left",
)
types

# %% claim="types-equivalent"
from functools import partial

import torch

from minipolycom.activations import compose
from minipolycom.viz import figures

thirds, nothing = torch.full((3,), 1 / 3), torch.zeros(1)
curves = {  # `compose` calls inner before the powers, outer after them
    "type I": partial(compose, weight=thirds, bias=nothing, inner=torch.relu),
    "type II": partial(compose, weight=thirds, bias=nothing, outer=torch.relu),
    "bare cubic": partial(compose, weight=thirds, bias=nothing),
}
figures.show(figures.activation_curves(curves, x_range=(-2, 2)))
x = torch.linspace(-2, 2, 401)
apart = curves["type II"](x) - curves["type I"](x)
second = compose(-x, torch.tensor([0, 1 / 3, 0]), nothing, inner=torch.relu)  # a unit of type I that looks left
missing = [float(gap.abs().max()) for gap in (apart, apart - second)]
print(f"type II minus type I: up to {missing[0]:.2f}; minus a second unit of type I: up to {missing[1]:.0e}")
assert missing[1] < 1e-6 < 1 < missing[0]
types.reveal()

# %% [markdown]
# **Read the figure.** On the right all three are one curve. On the left type I is zero, and type II keeps a parabola: the
# square cannot be rectified away. The paper asserts, without a proof, that both types have the same expressivity for any
# nonlinear $\rho$, since powers are symmetric under composition. As functions they are not the same: with ReLU odd powers may be exchanged
# with it, even ones may not. As networks they may be, for two units of type I make up the difference: $x^2 = \mathrm{ReLU}(x)^2 +
# \mathrm{ReLU}(-x)^2$.
#
# From here on the names stand for what the paper trains: **PolyReLU** is type I with ReLU, **PolyNorm** type II with a
# normalisation.

# %% exercise="polyrelu"

# %% [markdown]
# The course's own version goes on. ReLU and squared ReLU are special cases of PolyReLU (the paper's first lemma): with the
# right coefficients the difference is not small, it is zero.

# %%
import torch

from minipolycom.activations import polyrelu, squared_relu

x = torch.linspace(-100, 100, 2001)
zero = torch.zeros(1)
for name, weight, function in (("ReLU", (0, 0, 1), torch.relu), ("squared ReLU", (0, 1, 0), squared_relu)):
    off = (polyrelu(x, torch.tensor(weight, dtype=torch.float32), zero) - function(x)).abs().max()
    print(f"PolyReLU with coefficients {weight} against {name}: largest difference {off:g}")

# %% [markdown]
# ### What you have now
#
# - As long as nobody knows the scale of a row, nobody knows which of its terms a polynomial consists of.
# - Type I and type II are two different functions wherever $\rho(x^i) \ne \rho(x)^i$.
# - PolyReLU contains ReLU and squared ReLU exactly.
#
# ## 3 · Where to divide
#
# PolyReLU still has its slopes of 1, 2 and 3 on the right: give it ten times the row, and the cubic term is a thousand
# times as large. That it trains at all is the merit of what stands around it. A transformer normalises what goes into
# each feed-forward (the MLP in each of its blocks), so that the scale of the row is set by the matrix in front, and that
# starts small: with the initialisation of the authors' dense models, a standard deviation of $\sqrt{2/(5d)}$ for $d$
# inputs, the row has a scale of $\sqrt{2/5} = 0.63$ (notebook 04 derives it). It may grow from there.
#
# The other remedy divides by the size of the row. But where in the formula? Here are five answers. Move the
# sliders and find out what is wrong with four of them.

# %%
from minipolycom.viz.widgets import row_explorer

row_explorer()

# %% [markdown]
# **What to look for.**
#
# - *Nowhere*: at scale 0.01 each part is dwarfed by the one before it, at scale 100 by the one after it.
# - *The whole sum*: the size of the output stays near 1, so nothing explodes. But look at the parts: the division came too late. At a small scale the
#   sum is the linear part, at a large one the cube; the mixture was lost before it was divided.
# - *Before the powers*: all three parts stay at work at any scale. Now let one entry grow. It is cubed *after* the
#   division, and comes out at over a thousand: of $F$ entries one is at most $\sqrt F$ after the division, and its cube
#   at most $F^{3/2}$.
# - *Each power: PolyNorm*: the parts stay equal, and no entry comes out larger than $\sqrt{256} = 16$: a power
#   divided by its size has a mean square of 1, and if all of it sits in one of $F$ entries, that entry is $\sqrt F$. The price is that a loud entry quiets all the others.
# - *Each power, by the L2 norm*: the same curve, pressed flat. Section 4 is about it.
# - At scale 0.01 look at PolyNorm's parts once more: the cube has nearly gone. That is $\varepsilon$, a small number that
#   is added under each root so that nobody divides by zero. Section 6 comes back to it.
#
# So it is each power, and by the root mean square. By hand, on a row of three:

# %%
import torch

row = torch.tensor([-2.0, 1.0, 3.0])
for p in (1, 2, 3):
    power = row**p
    size = power.square().mean().sqrt()
    shown = ", ".join(f"{v:5.2f}" for v in power / size)
    print(f"x^{p} = {power.tolist()},  root mean square {size:5.2f},  divided [{shown}]")

# %% exercise="polynorm"

# %% [markdown]
# Now the claim of this notebook in numbers: the same row at five scales, through the course's PolyNorm and PolyReLU.

# %%
import torch

from minipolycom.activations import polynorm, polyrelu

row = torch.tensor([-2.0, -0.5, 0.1, 1.0, 3.0])
thirds, zero = torch.full((3,), 1 / 3), torch.zeros(1)
for f in (polynorm, polyrelu):
    for scale in (0.5, 1, 2, 10, 1000):
        print(
            f"{f.__name__}, scale {scale:6g}: " + "".join(f"{v:12.4g}" for v in f(scale * row, thirds, zero).tolist())
        )

# %% [markdown]
# PolyNorm's row stays what it was, in every digit shown; the control's does not. (In the digits not shown it does change a
# little: $\varepsilon$ stays where it is while the mean squares are scaled.)
#
# ## 4 · One word in the formula
#
# The paper prints PolyNorm with an L2 norm, $x^i / \lVert x^i \rVert_2$. The authors' code divides by the root mean
# square. It sounds like the same thing.

# %% exercise="l2_shrinks"

# %% claim="l2-norm"
import math

import torch

from minipolycom.activations import polynorm
from minipolycom.viz import figures

thirds, zero = torch.full((3,), 1 / 3), torch.zeros(1)
widths = [16, 64, 256, 1024, 3072, 8256]


def polynorm_as_printed(x):
    return sum(torch.nn.functional.normalize(x**p, dim=-1) for p in (1, 2, 3)) / 3


def size(y):
    return float(y.square().mean().sqrt())


rows = {width: torch.randn(64, width, generator=torch.Generator().manual_seed(0)) for width in widths}
outputs = {
    "divided by the RMS": [size(polynorm(x, thirds, zero)) for x in rows.values()],
    "divided by the L2 norm": [size(polynorm_as_printed(x)) for x in rows.values()],
}
figures.show(
    figures.lines(
        outputs,
        widths,
        xlabel="width of the row",
        ylabel="root mean square of the output",
        title="PolyNorm as coded and as printed",
        log="xy",
        markers=True,
    )
)
for width, coded, printed in zip(widths, *outputs.values(), strict=True):
    assert abs(coded / printed / math.sqrt(width) - 1) < 1e-3, (width, coded, printed)
    print(f"width {width:5}: {coded:.4f} as coded, {printed:.4f} as printed, {coded / printed:.1f} times smaller")

# %% [markdown]
# **Read the figure.** As coded, the output has one size at every width; as printed it shrinks with the root of the width. In
# the paper's dense models, 8256 units wide, that is a factor of 91, in the output and in the gradient that goes back through it. We follow the code.
#
# Is it a quibble? One public re-implementation (BlaGPT, 124 million parameters) took the formula as printed, at width 3072, and
# reports a *higher* loss with PolyNorm than with its tuned baseline. Its activation gave out numbers 55 times too small, at an unchanged learning
# rate. Learnt coefficients could make up for that, but they start where they start and move by the learning rate. So its result says little about
# PolyNorm.
#
# **Whoever compares activations compares their sizes, too, unless they take care.**
#
# ## 5 · Orders and coefficients
#
# Why three powers, and why start at a third each? First look at what each order looks like, with all coefficients equal.

# %%
from minipolycom.activations import PolyNorm
from minipolycom.viz import figures

figures.show(figures.activation_curves({f"order {order}": PolyNorm(order) for order in (1, 2, 3, 4)}))

# %% [markdown]
# **Read the figure.** Order 1 is a line: PolyNorm without powers is a plain normalisation. The highest power decides the ends: the even
# orders turn up on the left, the odd ones go down. In the middle, where most of a normal row is, orders 3 and 4 differ little.
#
# To see what a power adds, think of the powers of a row as directions. After division all have the
# same length, so what is left to ask is the angle between them. For normal entries the cosine is a moment, $\mathrm E\,x^{p+q} /
# \sqrt{\mathrm E\,x^{2p}\, \mathrm E\,x^{2q}}$.
#
# Predict: which two of $x$, $x^2$, $x^3$ point in nearly the same direction?

# %%
from minipolycom.viz.widgets import choose

alike = choose(
    "Over a long row of standard normal entries, the cosine is largest between",
    {
        "x and x²": "One is odd, the other even: what they have in common on the right they lose on the left. Exactly 0.",
        "x² and x³": "The exponents are neighbours, but again one is even and one is odd. Exactly 0.",
        "x and x³": "Both are odd, and both are large where |x| is. Their cosine is 3/√15 = 0.77.",
    },
    right="x and x³",
)
alike

# %%
import numpy as np

from minipolycom.viz import figures

# 32 points and weights whose sums are exact for the moments of a normal distribution up to the 63rd
points, weights = np.polynomial.hermite_e.hermegauss(32)
orders = range(1, 7)
columns = np.stack([np.sqrt(weights / weights.sum()) * points**p for p in range(7)], axis=1)
columns /= np.linalg.norm(columns, axis=0)
cosines = (columns.T @ columns)[1:, 1:].round(12)
names = [f"x{p}" for p in "¹²³⁴⁵⁶"]
figures.show(
    figures.heat(
        cosines,
        names,
        names,
        xlabel="power",
        ylabel="power",
        title="How nearly two powers of a normal row point the same way",
        value="cosine",
    )
)
alike.reveal()

# %% [markdown]
# **Read the figure.** A chessboard: odd powers have nothing to do with even ones. Among their own kind neighbours are alike, the more so the
# higher they are: $x^3$ and $x^5$ are nearer to one direction than $x$ and $x^3$. So what does a further power bring that the lower
# ones have not brought yet? Take out of each power all that lower ones (and the bias) could make of it, and measure what is left.
# Beside it stands what a high power is mostly made of: its largest entries.

# %%
import torch

new = np.abs(np.diag(np.linalg.qr(columns)[1]))[1:] ** 2  # the part of each column outside the span of those before it
rows = torch.randn(64, 8256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
loudest = []
for p in orders:
    energy = (rows**p).square().sort(dim=-1, descending=True).values
    loudest.append(float(energy[:, : rows.shape[1] // 100].sum() / energy.sum()))
figures.show(
    figures.lines(
        {"new: not made of lower powers": new.tolist(), "held by the largest 1 % of entries": loudest},
        list(orders),
        xlabel="power",
        ylabel="share of the power's energy",
        title="What one more power brings",
        markers=True,
    )
)
for p, share, loud in zip(orders, new, loudest, strict=True):
    print(f"x^{p}: {share:4.0%} new, {loud:4.0%} in the largest 1 %")

# %% [markdown]
# **Read the figure.** What is new falls, what is owed to a few loud entries rises, and the two lines cross between the second and the third
# power. From the fourth on a power is mostly old news, and most of its energy sits in one entry of a hundred; and each further power costs more
# passes over memory and, in half precision, another chance to overflow. That makes three a sensible choice. It does not
# make it right: trained rows need not be normal, and whether orders 3 and 4 train alike, as the paper reports, is for notebook 09 to measure.
#
# Now the start. With a third each, how large is what comes out?

# %% exercise="size_at_start"

# %%
import torch

from minipolycom.activations import PolyNorm
from minipolycom.learn import reference

x = torch.randn(64, 8256, generator=torch.Generator().manual_seed(2))
print(f"by the moments: {reference('size_at_start'):.4f}")
for start in ("uniform", "variance", "linear"):
    activation = PolyNorm(start=start)
    y = activation(x).detach()
    print(
        f"start={start!r:10}  coefficients {[round(w, 3) for w in activation.weight.tolist()]} (highest first)   "
        f"RMS {y.square().mean().sqrt():.4f}   mean {y.mean():.4f}"
    )

# %% [markdown]
# Three ways to begin: a third each, as the authors do; the same scaled up so that a normal row keeps its size; or the identity
# alone, from which training has to find the powers by itself. Mind the mean, too: the square is never negative, so every
# output is shifted by the same amount, and the next matrix sees a constant direction. ReLU does that as well.
#
# ### What you have now
#
# - To keep all powers at work at every scale, each needs its own division; dividing before lets outliers through, dividing
#   after comes too late. Whether a *training* needs it is another question: notebook 09 has our record.
# - L2 for RMS keeps the shape and ruins the size: $\sqrt F$.
# - Each further power brings less that is new, and more that belongs to a few entries.
#
# ## 6 · A function of direction alone
#
# A row of two numbers has a length and an angle. Turn it once around at length 1, and again at length 2.

# %%
import math

import torch

from minipolycom.activations import polynorm, polyrelu
from minipolycom.viz import figures

thirds, zero = torch.full((3,), 1 / 3), torch.zeros(1)
angle = torch.linspace(0, 2 * math.pi, 121)
circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
figures.show(
    figures.lines(
        {
            f"{f.__name__}, length {length}": f(length * circle, thirds, zero)[:, 0].tolist()
            for f in (polynorm, polyrelu)
            for length in (1, 2)
        },
        angle.tolist(),
        xlabel="angle of the row (x₁, x₂), radians",
        ylabel="first entry of the output",
        title="A row of two numbers, turned around",
    )
)

# %% [markdown]
# **Read the figure.** PolyNorm's two lines are one line: it reads the angle and not the length. PolyReLU reads both.
#
# A function that does not change when you walk outward has no slope in that direction. That is all there is to it, but write
# it down: for every $c > 0$, $f(cx) = f(x)$. Take the derivative with respect to $c$ at $c = 1$, and for any loss $L$ on top of $f$
#
# $$\sum_j x_j \frac{\partial L}{\partial x_j} = 0: \qquad \textbf{the gradient is orthogonal to the row.}$$
#
# Take the derivative with respect to $x$ instead: $c\, \nabla L(cx) = \nabla L(x)$.
#
# Predict, from the last line: the row is multiplied by 10. What happens to the gradient with respect to it?

# %%
from minipolycom.viz.widgets import choose

tenfold = choose(
    "PolyNorm's input is multiplied by 10. The gradient with respect to that input becomes",
    {
        "10 times larger": "That would be a function that grows with the square of its input.",
        "the same": "The output is the same. But an input ten times as long has to move ten times as far for the same turn.",
        "10 times smaller": "c ∇L(cx) = ∇L(x) with c = 10: the same turn needs a way ten times as long, so the slope is a tenth.",
        "100 times smaller": "One factor comes from the length of the row. There is no second one here.",
    },
    right="10 times smaller",
)
tenfold

# %%
import torch

from minipolycom.activations import polynorm, polyrelu
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(0)
row = torch.randn(1024, generator=generator, dtype=torch.float64)
pull = row + torch.randn(1024, generator=generator, dtype=torch.float64)  # from above; it points along the row, too
thirds, zero = torch.full((3,), 1 / 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
scales = torch.logspace(-3, 2, 51, dtype=torch.float64)
length, cosine = {}, {}
for f in (polynorm, polyrelu):
    length[f.__name__], cosine[f.__name__] = [], []
    for scale in scales:
        x = (scale * row).requires_grad_()
        (gradient,) = torch.autograd.grad((f(x, thirds, zero) * pull).sum(), x)
        length[f.__name__].append(float(gradient.square().mean().sqrt()))
        cosine[f.__name__].append(float((gradient @ row).abs() / gradient.norm() / row.norm()))
figures.show(
    figures.lines(
        length,
        scales.tolist(),
        xlabel="scale of the row",
        ylabel="root mean square of the gradient",
        title="How large the gradient is",
        log="xy",
    )
)
figures.show(
    figures.lines(
        cosine,
        scales.tolist(),
        xlabel="scale of the row",
        ylabel="|cosine| between gradient and row",
        title="How much of the gradient points along the row",
        log="xy",
    )
)
print(f"|cosine| at scale 1: polynorm {cosine['polynorm'][30]:.1e}, polyrelu {cosine['polyrelu'][30]:.1e}")
tenfold.reveal()

# %% [markdown]
# **Read the figures.** Above: from a scale of a tenth on, PolyNorm's gradient falls as one over the scale, a straight line of
# slope $-1$, while PolyReLU's ends up growing with the square of the scale. Below: PolyNorm's gradient is orthogonal to the row, to ever more digits as the
# row grows. PolyReLU's, the control, is not, at any scale.
#
# At small scales neither holds. That is $\varepsilon$: it stands beside the mean of $x^2$, of $x^4$ and of $x^6$ alike. At scale $s$ these are $s^2$, $3 s^4$ and
# $15 s^6$, and each reaches $10^{-6}$ at another scale. So as a row shrinks, it loses its cube first, then its square:

# %%
import torch

from minipolycom.activations import rms_norm
from minipolycom.viz import figures

kept = {f"x{'¹²³'[p - 1]}": [float(rms_norm((s * row) ** p).square().mean().sqrt()) for s in scales] for p in (1, 2, 3)}
figures.show(
    figures.lines(
        kept,
        scales.tolist(),
        xlabel="scale of the row",
        ylabel="root mean square after division",
        title="What ε = 10⁻⁶ leaves of each power",
        log="x",
    )
)
for p in (1, 2, 3):
    moment = {1: 1, 2: 3, 3: 15}[p]
    print(f"x^{p}: mean square reaches ε at scale {(1e-6 / moment) ** (1 / (2 * p)):.3f}")

# %% [markdown]
# **Read the figure.** Above a scale of 0.1 all three powers are there, nearly whole. Near 0.03 the cube has all but gone, below 0.01
# the square, too, and PolyNorm is linear. Rows of scale 0.63, where the authors start, are safe.
#
# ## 7 · A learning rate in disguise
#
# The row is $x = W h$, so $W$ has the same freedom: $f(cWh) = f(Wh)$. One direction in the space of all weights, $W$ itself, changes
# nothing. But it changes what a step does.

# %% exercise="effective_rate"

# %% [markdown]
# Try it: a matrix of $128 \times 16$, PolyNorm, and a fixed readout learn the outputs of another such network. Only the matrix is trained, by plain
# gradient descent on all 256 samples, so that there is no chance in it (a second or two). Four times the matrix, with the same learning rate and with 16 times that;
# and as a control PolyReLU, where the matrix is halved and the rate goes down with the square of that (the other way it would fly off).

# %%
import torch

from minipolycom.activations import polynorm, polyrelu
from minipolycom.learn import reference
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(256, 16, generator=generator, dtype=torch.float64)
first, teacher = (torch.randn(128, 16, generator=generator, dtype=torch.float64) / 4 for _ in range(2))
readout = torch.randn(128, generator=generator, dtype=torch.float64) / 128**0.5
thirds, zero = torch.full((3,), 1 / 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)


def descend(activation, start, rate, steps=300):
    """Loss before each step of gradient descent on one matrix, and the squared size of that matrix."""
    wanted = activation(inputs @ teacher.T, thirds, zero) @ readout
    weight, losses, squares = start.clone().requires_grad_(), [], []
    for _ in range(steps):
        loss = (activation(inputs @ weight.T, thirds, zero) @ readout - wanted).square().mean()
        losses.append(loss.item())
        squares.append(weight.square().sum().item())
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = (weight - rate * gradient).detach().requires_grad_()
    return losses, squares


rate, factor = 0.5, reference("effective_rate")
runs = {
    "polynorm, W, rate η": descend(polynorm, first, rate),
    "polynorm, 4W, rate η": descend(polynorm, 4 * first, rate),
    "polynorm, 4W, rate 16η": descend(polynorm, 4 * first, factor * rate),
    "polyrelu, W, rate η": descend(polyrelu, first, rate),
    "polyrelu, W/2, rate η/4": descend(polyrelu, first / 2, rate / 4),
}
figures.show(
    figures.lines(
        {name: losses for name, (losses, _) in runs.items()},
        range(300),
        xlabel="step",
        ylabel="loss",
        title="Another size of the matrix, another learning rate",
        log="y",
    )
)
apart = [abs(a - b) / a for a, b in zip(runs["polynorm, W, rate η"][0], runs["polynorm, 4W, rate 16η"][0], strict=True)]
print(f"polynorm, W with η against 4W with 16η: losses differ by at most {max(apart):.0e} of themselves")

# %% [markdown]
# **Read the figure.** The first and the third line are one line: 300 steps, and no loss differs by more than rounding and $\varepsilon$.
# The second is the same run at a sixteenth of the speed. PolyReLU's two lines begin at different losses and have nothing to do with
# each other: its network is another one when the matrix is halved, and no learning rate repairs that.
#
# So under PolyNorm only $\eta / \lVert W \rVert^2$ counts, the **effective learning rate** (van Laarhoven, 2017, found it behind
# batch norm, where each unit has such a free direction; here it is one for the whole matrix). And who sets
# $\lVert W \rVert$? Predict:

# %%
from minipolycom.viz.widgets import choose

grows = choose(
    "Plain gradient descent without weight decay, PolyNorm above the matrix W. In the course of training ‖W‖",
    {
        "falls": "To fall, a step would need a part that points inward along W. The gradient has none.",
        "stays": "For infinitely small steps, yes. A step of any length leaves the circle along its tangent, outward.",
        "can only grow": "W and the step form a right angle, so ‖W‖² grows by exactly the step's length squared.",
        "depends on the data": "That is so for PolyReLU. Under PolyNorm the gradient is orthogonal to W for any data.",
    },
    right="can only grow",
)
grows

# %%
import itertools

from minipolycom.viz import figures

rates = {
    "polynorm, rate η": runs["polynorm, W, rate η"],
    "polynorm, rate 4η": descend(polynorm, first, 4 * rate),
    "polynorm, rate 16η": descend(polynorm, first, 16 * rate),
    "polyrelu, rate η": runs["polyrelu, W, rate η"],
}
figures.show(
    figures.lines(
        {name: [square / squares[0] for square in squares] for name, (_, squares) in rates.items()},
        range(300),
        xlabel="step",
        ylabel="‖W‖², relative to the start",
        title="The size of the matrix through training",
        log="y",
    )
)
for name, (losses, squares) in {**rates, "polyrelu, rate 2η": descend(polyrelu, first, 2 * rate)}.items():
    falls = sum(later < earlier for earlier, later in itertools.pairwise(squares))
    print(f"{name:18}: last loss {losses[-1]:8.2g}, ‖W‖² falls in {falls:3} of 299 steps")
grows.reveal()

# %% [markdown]
# **Read the figure.** Under PolyNorm $\lVert W \rVert$ never falls: by Pythagoras $\lVert W_{t+1} \rVert^2 = \lVert W_t \rVert^2 + \eta^2
# \lVert \nabla L \rVert^2$. And the larger the step, the harder the brake: with 16 times the learning rate the matrix grows
# at once, and thereby lowers its own effective rate until the steps fit. PolyReLU has no such brake: its matrix grows and shrinks as the data want
# it, and at twice the learning rate it ends in NaN.
#
# Three things follow for the rest of the course:
#
# - **Weight decay under PolyNorm does not make the function simpler.** It shrinks $W$, which changes nothing, and so raises the effective
#   learning rate.
# - **Adam** divides the gradient by its size, so its step has a given length; what counts is then $\eta / \lVert W \rVert$.
# - **One learning rate for all activations is not a fair comparison.** The same number means a different thing to PolyNorm
#   and to PolyReLU. In notebook 05 each gets its own.
#
# ## 8 · The gradient by hand
#
# Autograd finds the gradient of PolyNorm, and to do so it keeps every intermediate result: three powers, three
# quotients. A formula keeps the row. So the fast versions of PolyNorm, the package's among them, all have its gradient
# written out, and so that you can read them, derive it once.
#
# Start with the smallest case: $P = 1$, so $y_i = r\, x_i$ with $r = 1/\mathrm{rms}(x)$. If you change $x_j$, its own output follows
# with slope $r$. But the row also gets longer, and *all* outputs shrink: $\partial r/\partial x_j = -r^3 x_j / F$. Together
#
# $$\frac{\partial L}{\partial x_j} = r\, g_j - \frac{r^3}{F} \Big(\sum_i g_i x_i\Big)\, x_j
# = r \Big( g_j - \underbrace{\tfrac1F \sum_i g_i n_i}_{\text{how much } g \text{ points along the row}} n_j \Big), \qquad n = r x:$$
#
# the incoming gradient, without its part along the row. A figure of that, for a row of 40 numbers, sorted:

# %%
import torch

from minipolycom.activations import rms_norm
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(3)
row = torch.randn(40, generator=generator, dtype=torch.float64).sort().values
pull = row + torch.randn(40, generator=generator, dtype=torch.float64)  # it points along the row, among other things
normed = rms_norm(row, eps=0.0)
along = (pull * normed).mean() * normed
leaf = row.clone().requires_grad_()
(gradient,) = torch.autograd.grad((rms_norm(leaf, eps=0.0) * pull).sum(), leaf)
figures.show(
    figures.lines(
        {"incoming": pull.tolist(), "its part along the row": along.tolist(), "what is left": (pull - along).tolist()},
        row.tolist(),
        xlabel="entry of the row",
        ylabel="gradient of that entry",
        title="What a normalisation takes out of a gradient",
        markers=True,
    )
)
off = (gradient * row.square().mean().sqrt() - (pull - along)).abs().max()
print(f"autograd's gradient times the size of the row, and what is left: at most {off:.0e} apart")

# %% [markdown]
# **Read the figure.** The incoming gradient rises with the row. Its part along the row is the straight line through the origin that fits it best, and
# what is left has no slope: it rises and falls, but with the row it has nothing in common.
#
# Now with powers. The two paths are the same two; only the inner derivatives of $x^p$ and of the mean of $x^{2p}$ come in.

# %% exercise="polynorm_backward"

# %% [markdown]
# Is it right? `torch.autograd.gradcheck` answers without knowing the answer: it moves every input a little, in float64, and
# compares the quotients of differences with what the function claims to be its gradient. To ask it about a formula, the formula has to stand as a
# backward pass. As the control stands there a second one, without the path through the size.

# %%
import torch

from minipolycom.activations import polynorm
from minipolycom.learn import reference


def first_path_only(x, g, weight, eps):
    """The gradient if the sizes were constants."""
    order = len(weight)
    sizes = [torch.rsqrt((x ** (2 * p)).mean(dim=-1, keepdim=True) + eps) for p in range(1, order + 1)]
    return sum(weight[order - p] * p * sizes[p - 1] * g * x ** (p - 1) for p in range(1, order + 1))


def with_backward(formula):
    """PolyNorm with order-3 coefficients of 1/3 whose backward pass is `formula`."""
    weight, bias = torch.full((3,), 1 / 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)  # the row is all that is kept
            return polynorm(x, weight, bias)

        @staticmethod
        def backward(context, g):
            return formula(*context.saved_tensors, g, weight, 1e-6)

    return ByHand.apply


x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
for name, formula in (("both paths", reference("polynorm_backward")), ("the first path only", first_path_only)):
    passed = torch.autograd.gradcheck(with_backward(formula), x, raise_exception=False)
    print(f"{name}: gradcheck {'passes' if passed else 'fails'}")

# %% [markdown]
# The package's fast PolyNorm has the same formula in its backward pass, for $x$, for the coefficients and for the bias. The same
# test, and then the count of what autograd keeps for the way back:

# %%
import torch

from minipolycom import fused

weight = torch.randn(3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
passed = torch.autograd.gradcheck(
    lambda *a: fused.polynorm(*a, backend="eager"), (x, weight, bias), raise_exception=False
)
print(f"the package's: gradcheck {'passes' if passed else 'fails'}")


def kept(backend):
    """Bytes per entry of the row that autograd keeps for the backward pass, counting each tensor once."""
    seen = {}

    def note(tensor):
        seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    rows = torch.randn(64, 1024, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = fused.polynorm(rows, weight.float(), bias.float(), backend=backend)
    return sum(seen.values()) / y.numel()


for backend in ("plain", "eager"):
    print(f"backend {backend!r}: {kept(backend):.1f} bytes kept per entry; the row itself has 4")

# %% [markdown]
# What that saves in time and memory on a real model is the matter of notebook 08.
#
# ### What you have now
#
# - Scale invariance, the orthogonal gradient, and a learning rate hidden in the weights are one fact, read three times. PolyReLU
#   has none of the three.
# - The gradient has two paths. Leave out the one through the size, and it is the gradient of something else.
# - Whatever keeps $x$ and a few numbers per row can do without all the powers.
#
# ## Before you go
#
# <details>
# <summary>A composition of type I with ρ = the normalisation: is it scale-invariant, too? What is wrong with it?</summary>
#
# It is: $\rho(cx) = \rho(x)$, and the powers of the same are the same. But the powers come after the division: an entry may come out as large as
# $F^{3/2}$ times its coefficient, where PolyNorm's bound is $\sqrt F$. Section 3's explorer shows it.
#
# </details>
#
# <details>
# <summary>The derivation needed c > 0. What does PolyNorm make of −x?</summary>
#
# Something else: the odd parts change their sign and the even one does not, so it is neither $y$ nor $-y$.
#
# </details>
#
# <details>
# <summary>The hidden width is split over two GPUs, and each normalises its half of the row. Is that the same function?</summary>
#
# No: the mean runs over the whole row. The three mean squares have to be averaged over the GPUs first, three numbers per token.
#
# </details>
#
# <details>
# <summary>Does PolyNorm's gradient stay orthogonal to the row when the bias and the coefficients are learnt?</summary>
#
# Yes. It follows from invariance, and the function is invariant for any coefficients and any bias.
#
# </details>
#
# <details>
# <summary>A gated form multiplies PolyNorm(g) by a second projection u. Is the product invariant under scaling of both?</summary>
#
# No. It is invariant in $g$ and linear in $u$, so the matrix of $g$ has a free direction and that of $u$ does not.
#
# </details>
#
# <details>
# <summary>Notebook 01 asked what the division costs PolyNorm. What do you say now?</summary>
#
# It cannot see how large its row is, one loud entry quiets all others, and it reads the whole row before it can write the first
# entry.
#
# </details>
#
# **Paper map.** Row *both types have equivalent expressivity*: scaled down, for ReLU at order 3, with two units for one (section 2).
# Row *PolyNorm divides each power by its L2 norm*: contradicted by the paper's own code (section 4). That
# ReLU and squared ReLU are special cases of PolyReLU (section 2) is a row of notebook 03.
#
# **Read on.** Z. Zhuo et al., *Polynomial composition activations*, 2025, section 3; T. van Laarhoven, *L2 regularization
# versus batch and weight normalization*, 2017 (the effective learning rate); B. Zhang and R. Sennrich, *Root mean square
# layer normalization*, 2019; D. So et al., *Primer*, 2021 (squared ReLU). In the package: `activations.compose`, the
# family in one formula, and `fused`, the formula of section 8 at work.

# %%
from minipolycom.learn import progress_map

progress_map()
