# %% [markdown] title="Why nonlinearity?" minutes=75 hardware="2 CPU cores" prerequisites="00"
# **By the end you will have shown** that depth buys nothing without an activation, because linear maps in a row are one
# linear map, and that the slope of the activation decides how far a gradient reaches; and that the control, the same
# network with the identity in the activation's place, fails at a task that a bend in each unit solves.
#
# On the way you will
#
# - **derive** what a stack of layers without activations amounts to,
# - **bend** six activations under sliders, and find out which of them looks at the whole row,
# - **compute** the slope of SiLU, and the gain that carries a signal through thirty ReLU layers,
# - **count** dead units,
# - and end with a question: if everybody bends with something else, why not with a polynomial?
#
# Nothing is trained here. Everything can be computed in seconds, and most of it exactly.

# %% setup=true

# %% [markdown]
# ## 1 · Depth without activation
#
# A layer multiplies by a matrix and adds a bias. Put a number of them on top of each other, with nothing in between. Here is
# such a stack, fifty layers deep: each turns, stretches and shifts the plane a little. What does it make of a circle?

# %%
import math

import torch

from minipolycom.viz import figures

generator = torch.Generator().manual_seed(0)
weights, biases = [], []
for _ in range(50):
    turn, stretch = 2 * math.pi * torch.rand((), generator=generator), 1.15 ** torch.randn((), generator=generator)
    rotation = torch.tensor([[turn.cos(), -turn.sin()], [turn.sin(), turn.cos()]])
    weights.append((rotation @ torch.diag(torch.stack([stretch, 1 / stretch]))).double())
    biases.append(0.2 * torch.randn(2, generator=generator).double())

angle = torch.linspace(0, 2 * math.pi, 101).double()
circle = torch.stack([angle.cos(), angle.sin()])  # one point per column
points, seen = circle, {0: circle}
for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
    points = weight @ points + bias[:, None]
    seen[depth] = points
figures.show(
    figures.lines(
        {f"after {depth} layers": (seen[depth][0] - seen[depth][0].mean()).tolist() for depth in (0, 1, 10, 50)},
        angle.tolist(),
        xlabel="place on the circle, radians",
        ylabel="first coordinate, centred",
        title="A circle on its way through fifty layers",
    )
)

# %% [markdown]
# **Read the figure.** Going around the circle, the first coordinate is a cosine. After fifty layers it is still a cosine: its
# height and its beginning have changed, its shape has not. That is what *one* linear map does to a circle, it makes an ellipse
# of it. Is that a coincidence? Multiply it out.

# %% exercise="collapse_linear"

# %% [markdown]
# The notebook goes on with the course's own version. Fifty layers against the one they collapse to, and as a control against
# the identity:

# %%
from minipolycom.learn import reference

weight, bias = reference("collapse_linear")(weights, biases)
spread = (points - points.mean(dim=1, keepdim=True)).norm()
for name, collapsed in (("one layer", weight @ circle + bias[:, None]), ("identity", circle + bias[:, None])):
    print(f"{name:>9}: off by {float((collapsed - points).norm() / spread):.1e} of the ellipse's size")

# %% [markdown]
# So fifty layers had 300 parameters and could do what six do. What happens between layers is not a detail of depth. It
# is the whole of it.
#
# ### A task that needs a bend
#
# Now the control of this notebook, and it comes first. Take one hidden layer with random weights, leave them as they are, and
# find only the weights of the output, by least squares: no training, no luck, the best there is. The task is a wave.
# The only thing that changes is what stands between the two layers.
#
# The candidates are ReLU, squared ReLU, GELU, SiLU and the two of this course: **PolyReLU**, the sum of the first three
# powers of the rectified input, and **PolyNorm**, the sum of three powers, each divided by its size over the row, that is
# over all hidden units, for one input. (Their coefficients are learnt; here each is a third. Notebook 02 has the formulas.)
#
# Predict: with the **identity** there, how does the error fall as the hidden layer grows from 1 to 256 units? (And while you
# are at it: one of the six activations will disappoint as well. Which?)

# %%
from minipolycom.viz.widgets import choose

falls = choose(
    "With the identity in place of an activation, how does the error of the best fit fall from 1 to 256 units?",
    {
        "as fast as with ReLU": "ReLU makes a new bend with each unit. The identity makes none.",
        "slowly": "Not even slowly: one unit already gives every line that 256 of them can give together.",
        "not at all": "Sums of lines are lines. The best line is found with one unit, and it is a bad fit to a wave.",
    },
    right="not at all",
)
falls

# %%
import torch
from torch import nn

from minipolycom.activations import ACTIVATIONS
from minipolycom.viz import figures

x = torch.linspace(-3, 3, 400, dtype=torch.float64)[:, None]
wave = torch.sin(3 * x) + 0.3 * x
units = [1, 2, 4, 8, 16, 32, 64, 128, 256]


class BareCubic(nn.Module):
    """A polynomial with nothing around it; section 6 comes back to it."""

    def forward(self, x):
        return (x + x**2 + x**3) / 3


errors = {}
for name, make in {"identity": nn.Identity, "bare cubic": BareCubic, **ACTIVATIONS}.items():
    errors[name] = []
    for width in units:
        tries = []
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            weight = 3 * torch.randn(1, width, generator=generator, dtype=torch.float64)
            bias = 6 * torch.rand(width, generator=generator, dtype=torch.float64) - 3
            hidden = make().double()(weight * (x - bias)).detach()
            design = torch.cat([hidden, torch.ones_like(x)], dim=1)
            best = torch.linalg.lstsq(design, wave, driver="gelsd").solution
            tries.append((design @ best - wave).square().mean().sqrt())
        errors[name].append(float(torch.stack(tries).median()))
figures.show(
    figures.lines(
        errors,
        units,
        xlabel="hidden units",
        ylabel="error of the best fit (RMS)",
        title="One hidden layer of random units, median of five draws",
        log="xy",
        markers=True,
    )
)
falls.reveal()

# %% [markdown]
# **Read the figure.** From 8 units on the identity is the worst, and a flat line: from 1 unit to 256 nothing is gained. ReLU,
# squared ReLU, GELU, SiLU and PolyReLU all fall, by three to eleven powers of ten. (Do not rank them by this figure. The best
# scale of the random weights differs from one to the next, and we gave all of them the same.)
#
# Two more lines stop, early and high up: the **bare cubic** and **PolyNorm**. Both bend; why do 256 of their units help no
# more than a handful? Ask how many *different* functions the hidden units make. If some are sums of others, they are worth
# nothing to the output layer. The number that are not is the rank of the matrix of hidden values.

# %% claim="equivalent-expressivity"
ranks = {}
for name, make in {"identity": nn.Identity, "bare cubic": BareCubic, **ACTIVATIONS}.items():
    ranks[name] = []
    for width in units:
        generator = torch.Generator().manual_seed(0)
        weight = 3 * torch.randn(1, width, generator=generator, dtype=torch.float64)
        bias = 6 * torch.rand(width, generator=generator, dtype=torch.float64) - 3
        hidden = make().double()(weight * (x - bias)).detach()
        singular = torch.linalg.svdvals(hidden)
        ranks[name].append(int((singular > 1e-10 * singular[0]).sum()))
assert ranks["polynorm"][4:] == [9, 9, 9, 9, 9], ranks["polynorm"]
figures.show(
    figures.lines(
        ranks,
        units,
        xlabel="hidden units",
        ylabel="different functions (numerical rank)",
        title="How many different functions the units make of one input",
        log="xy",
        markers=True,
    )
)

# %% [markdown]
# **Read the figure.** The identity makes 2, the bare cubic 4, PolyNorm **9**, at any width. These three can be counted
# beforehand. With $u = w (x - b)$ linear in $x$, every cubic of $u$ is a cubic polynomial of $x$, and of those there are
# only 4 different ones. A unit of PolyNorm adds up $u^3$, $u^2$ and $u$, each divided by a size that is the *same for all
# units* of the row: 4 + 3 + 2 = 9. ReLU and its relatives put a bend where the unit's own input is zero, a new place for
# each unit. The polynomials have no such place, and PolyNorm's bend is shared by the row. (The other lines go on growing.
# GELU's and SiLU's level off near 60 because they are so smooth that sixteen digits cannot tell more of them apart; that
# is a limit of the arithmetic, not of the functions.)
#
# For the bare cubic this is a theorem. A network of fixed depth can come as near as one likes to any continuous function, if it
# is wide enough, **if and only if its activation is not a polynomial** (Leshno, Lin, Pinkus and Schocken, 1993).
#
# In a transformer the input of this layer is not one number but 128 in our smallest model, and there are 366,145 different
# cubic polynomials of 128 variables; no width exhausts them. But keep it in mind when you read that PolyNorm and PolyReLU
# are equally expressive: with one input and one layer they are not.
#
# ### What you have now
#
# - Without an activation, depth is an expensive way to write one matrix.
# - The control fails: the identity does not get better with width.
# - A bend of each unit's own mends it. PolyNorm bends the row together, and in this toy that shows.

# %% [markdown]
# ## 2 · The zoo
#
# These are the activations of the course without a gate, each with its slope beside it. Look at the slopes: what flows back in
# training is multiplied by them.

# %%
from minipolycom.viz import figures

figures.show(figures.activation_curves(["relu", "squared_relu", "gelu", "silu", "polyrelu", "polynorm"]))

# %% [markdown]
# **Read the figure.** On the right, three families:
#
# - slopes that end at a constant: ReLU (a step), GELU and SiLU (the same step with round shoulders, a dip below 0 on
#   the left and a hump above 1 on the right);
# - slopes that keep growing with $x$: squared ReLU, a straight line, and PolyReLU, a parabola from $x = 0$ on;
# - PolyNorm, whose slope is a parabola in the middle of a row of usual size, on *both* sides of zero. It is the only one
#   that is not flat on the left.
#
# PolyNorm has no curve of its own: what it does to one entry depends on all the others in the row. The note under the
# figure says in which row it was drawn. Move the sliders to see what that means.

# %%
from minipolycom.viz.widgets import activation_explorer

activation_explorer("polynorm")

# %% [markdown]
# **What to look for.** First set *scale of the row* from 1 to 4. In the panel on the right PolyReLU's curve shoots up, as a cubic does.
# PolyNorm's does not move at all: dividing each power by its own size takes the scale out again. Then let *one other entry* grow
# and look at the panel on the right. PolyReLU acts on each entry alone and cannot notice. PolyNorm's curve flattens,
# everywhere: one loud entry turns the volume down for the whole row.
#
# That is a price and a protection.

# %% [markdown]
# ### A slope by hand
#
# SiLU, also called swish, is $x$ times the sigmoid of $x$: a gate that lets $x$ through by how large $x$ is.

# %% exercise="silu_derivative"

# %% [markdown]
# A slope that was found on paper can be checked by a machine in two ways, and here they agree: automatic differentiation, and
# the quotient of small differences.

# %%
import torch

from minipolycom.learn import reference

x = torch.tensor([-4.0, -2.4, -1.0, 0.0, 1.0, 2.4, 4.0], dtype=torch.float64)
by_hand = reference("silu_derivative")(x)
y = x.clone().requires_grad_()
(by_machine,) = torch.autograd.grad(torch.nn.functional.silu(y).sum(), y)
h = 1e-6
by_difference = (torch.nn.functional.silu(x + h) - torch.nn.functional.silu(x - h)) / (2 * h)
for row in zip(x.tolist(), by_hand.tolist(), by_machine.tolist(), by_difference.tolist(), strict=True):
    print("x = {:5.1f}   by hand {:8.5f}   automatic {:8.5f}   by differences {:8.5f}".format(*row))

# %% [markdown]
# ## 3 · How far a signal reaches
#
# One layer is not the problem. Thirty are. Each layer multiplies the size of what passes through it by some factor, and
# after thirty layers the factor stands to the power of thirty: $0.8^{30} = 0.001$, $1.2^{30} = 237$. For a signal to
# arrive, the factor has to be 1, and the activation has its part in it.
#
# Take layers of $n$ units whose weights are drawn from $N(0, g^2 / n)$, with a gain $g$. If the input
# has mean square $q$, then $Wx$ has mean square $g^2 q$. ReLU then throws away the negative half. So which $g$ keeps the
# mean square the same from layer to layer?

# %% exercise="relu_gain"

# %% [markdown]
# Now try it: thirty layers, 512 units each. A gain a little too small, the one that you found, one too large, and as a
# control the identity, whose right gain is 1.

# %%
import math

import torch
from torch import nn

from minipolycom.viz import figures

DEPTH, WIDTH = 30, 512


def through(activation, gain, seeds=5):
    """Mean square of the signal after each layer, from an input of mean square 1; median over the seeds."""
    sizes = torch.zeros(seeds, DEPTH + 1)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(64, WIDTH, generator=generator)
        sizes[seed, 0] = x.square().mean()
        for layer in range(1, DEPTH + 1):
            x = activation(x @ torch.randn(WIDTH, WIDTH, generator=generator) * gain / math.sqrt(WIDTH))
            sizes[seed, layer] = x.square().mean()
    return sizes.median(dim=0).values.tolist()


sizes = {
    "relu, gain 1": through(nn.ReLU(), 1.0),
    "relu, gain √2": through(nn.ReLU(), math.sqrt(2)),
    "relu, gain 2": through(nn.ReLU(), 2.0),
    "identity, gain 1": through(nn.Identity(), 1.0),
}
figures.show(
    figures.lines(
        sizes,
        range(DEPTH + 1),
        xlabel="layer",
        ylabel="mean square of the signal",
        title="A signal on its way through thirty layers",
        log="y",
    )
)

# %% [markdown]
# **Read the figure.** With gain 1 the signal halves in each layer, and $2^{-30}$ is a billionth. With gain 2 it doubles. Between
# them $\sqrt 2$ makes up for the half that ReLU throws away and holds the line (He et al., 2015): not exactly, for each layer's
# random weights miss by a little, and the misses add up to a random walk; in wider layers it is a shorter one. The identity needs
# no such help.
#
# The same factor rules the way back. A gradient is multiplied by the slope of the activation in each layer, so a slope that
# is small nearly everywhere is fatal. The old activations were like that: the sigmoid's slope is at most $\tfrac14$.


# %%
def back(activation, gain, seed=0):
    """Size of the gradient of a random readout with respect to each layer's input, relative to the last."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, WIDTH, generator=generator).requires_grad_()
    layers = [x]
    for _ in range(DEPTH):
        weight = torch.randn(WIDTH, WIDTH, generator=generator) * gain / math.sqrt(WIDTH)
        layers.append(activation(layers[-1] @ weight))
    readout = (layers[-1] * torch.randn(64, WIDTH, generator=generator)).sum()
    gradients = torch.autograd.grad(readout, layers)
    return [float(g.norm() / gradients[-1].norm()) for g in gradients]


from minipolycom.activations import PolyNorm

reach = {
    "sigmoid, gain 1": back(nn.Sigmoid(), 1.0),
    "sigmoid, gain 10": back(nn.Sigmoid(), 10.0),
    "tanh, gain 1": back(nn.Tanh(), 1.0),
    "relu, gain √2": back(nn.ReLU(), math.sqrt(2)),
    "identity, gain 1": back(nn.Identity(), 1.0),
    "polynorm, gain 1": back(PolyNorm(), 1.0),
    "polynorm, gain 10": back(PolyNorm(), 10.0),
}
figures.show(
    figures.lines(
        reach,
        range(DEPTH + 1),
        xlabel="layer",
        ylabel="gradient, relative to the last layer",
        title="A gradient on its way back through thirty layers",
        log="y",
    )
)

# %% [markdown]
# **Read the figure** from right to left, as the gradient travels. The sigmoid of gain 1 loses it within a few layers: with
# slopes of at most a quarter, thirty of them leave less than one part in $10^{18}$. That was one of the reasons why deep
# networks did not train (Hochreiter, 1991; Glorot and Bengio, 2010). A gain near 10 brings it back, at a price: most
# of the units are then saturated, and the few that are not carry it all. Tanh loses it slowly. ReLU with the right gain
# keeps it.
#
# PolyNorm's two lines are one line: it takes the size of the weights out of what passes, forwards and backwards, so **the gain
# does not matter**. But the line is not flat. The gradient *grows* on its way back, some 25-fold over thirty layers. Nobody
# builds a stack of bare PolyNorm layers, for this reason among others; transformers put a norm and a residual connection
# around each feed-forward, and these carry the signal past it.

# %% [markdown]
# ### What you have now
#
# - The factor per layer, to the power of the depth, decides what arrives. It has to be near 1 in both directions.
# - ReLU's factor can be made 1 by one number, $\sqrt 2$. The sigmoid's can too, but only by saturating nearly all of it.
# - PolyNorm does not see the gain at all.

# %% [markdown]
# ## 4 · Dead units
#
# ReLU has a slope of exactly zero on the left. A unit whose input is negative for every sample gets no gradient of its own.
# Only if the layers before it happen to move its inputs can it come back. How many are there?

# %% exercise="dead_fraction"

# %% [markdown]
# A unit dies when something pushes its input down: a large step of the optimizer, or a bias that has wandered off. Here the
# push is a bias, the same for all units. How much of the gradient still gets through? The measure is the mean of the squared
# slope over units and samples. GELU, which is never exactly flat, is the control.

# %%
import math

import torch
from torch import nn

from minipolycom.learn import reference
from minipolycom.viz import figures

push = torch.linspace(0, -6, 25)
inputs = torch.randn(256, 128, generator=torch.Generator().manual_seed(0))
first = torch.randn(128, 512, generator=torch.Generator().manual_seed(1)) / 128**0.5
shown = {"dead units, fraction": [], "relu": [], "gelu": []}
for bias in push:
    z = inputs @ first + bias
    shown["dead units, fraction"].append(float(reference("dead_fraction")(z)))
    for name, activation in (("relu", nn.ReLU()), ("gelu", nn.GELU())):
        leaf = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(activation(leaf).sum(), leaf)
        shown[name].append(float(slope.square().mean()))
figures.show(
    figures.lines(
        {name: [value or math.nan for value in values] for name, values in shown.items()},
        push.tolist(),
        xlabel="bias",
        ylabel="mean squared slope; fraction of units",
        title="Pushed to the left, ReLU units die",
        log="y",
    )
)

# %% [markdown]
# **Read the figure** from right to left. As long as the bias is smaller than the spread of the inputs, every unit speaks on
# some of the 256 samples and none is dead. From about $-2$ on units die in numbers. The mean squared slope of ReLU falls
# with them and at the end of the line is exactly zero, which a logarithmic axis cannot show. GELU's falls as well, and
# fast: on the left there is little slope in it either. But it does not end. A tiny gradient can be made up for by time, or
# by an optimizer that divides by its size, as Adam does; a zero cannot.

# %% [markdown]
# ## 5 · What each of them bought
#
# Since ReLU, three ideas have stayed.
#
# | | formula | what it changed |
# |---|---|---|
# | **GELU**, **SiLU** | $x\,\Phi(x)$, $x\,\sigma(x)$ | no corner and no dead side; slopes slightly above 1 and below 0 |
# | **squared ReLU** | $\max(x, 0)^2$ | a product: the output grows with the square, so a unit can multiply its input by itself; exact zeros stay |
# | **SwiGLU**, **GeGLU** | $\mathrm{SiLU}(W_g x) \cdot W_u x$ | a product of two *different* projections, at the price of a third matrix |
#
# Read the last column again: two of the three bring in a **product**. A network of rectifiers can only imitate
# multiplication; these do it in one step.
#
# What was it worth at scale? The next cell draws the training losses after 250 billion tokens, from the curves that the
# PolyCom paper published for a model of 1.3 billion parameters, as differences to SwiGLU. They are the paper's numbers, read off its figures, not
# ours: one run per activation, one learning rate for all, so there is no telling how much of it is chance.

# %%
from minipolycom.viz import figures

published = {"relu": 2.2156, "gelu": 2.2085, "swiglu": 2.1902, "polyrelu": 2.1779, "polynorm": 2.1712}
figures.show(
    figures.bars(
        {name: loss - published["swiglu"] for name, loss in published.items()},
        xlabel="activation",
        ylabel="training loss minus SwiGLU's, nats per token",
        title="As published: 1.3 billion parameters, 250 billion tokens, one run each",
    )
)

# %% [markdown]
# **Read the figure.** From the worst to the best it is 0.044 nats, two percent of the loss. Between activations we are
# looking for small effects, and small effects need seeds, equal parameters, and a learning rate chosen for each. One run each is none of these.

# %% [markdown]
# ## 6 · Why not a polynomial?
#
# If products are what helps, why go half way? A polynomial has nothing but products. By Weierstrass' theorem polynomials come as
# near to any continuous function on an interval as one likes, if their *degree* may grow; section 1 showed that width alone
# buys nothing at a fixed degree. In a network the degree grows with depth: three layers of cubics have degree 27. So take
# depth.
#
# Try it. As an activation take $\tfrac13 (x + x^2 + x^3)$, PolyNorm without the norm, and send a signal of mean square 1
# through ten layers.

# %%
from minipolycom.viz.widgets import guess_number

explodes = guess_number(
    "After how many layers does float32, which ends at 3.4 × 10³⁸, overflow?", unit="layers", low=1, high=10
)
explodes

# %%
import math

import torch

from minipolycom.activations import PolyNorm, PolyReLU
from minipolycom.viz import figures


def cubic(x):
    return (x + x**2 + x**3) / 3


def largest(activation, depth=10, width=512, seed=0):
    """Largest entry after each layer, in float32, up to the layer at which it is no longer a number."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, width, generator=generator)
    found = [float(x.abs().max())]
    for _ in range(depth):
        x = activation(x @ torch.randn(width, width, generator=generator) / math.sqrt(width)).detach()
        found.append(float(x.abs().max()))
    return [value if math.isfinite(value) else math.nan for value in found]


sizes = {"bare cubic": largest(cubic), "polyrelu": largest(PolyReLU()), "polynorm": largest(PolyNorm())}
figures.show(
    figures.lines(
        sizes,
        range(11),
        xlabel="layer",
        ylabel="largest entry",
        title="Powers through ten layers, in float32",
        log="y",
        markers=True,
    )
)
explodes.compare(next(layer for layer, value in enumerate(sizes["bare cubic"]) if math.isnan(value)))

# %% [markdown]
# **Read the figure.** The line of the bare cubic bends *upwards* on a logarithmic axis: each layer cubes the size, so after $L$
# layers it stands to the power of $3^L$. It is a polynomial of degree $3^L$, and such polynomials are small inside the unit
# interval and beyond all measure outside. PolyReLU, which is the same cubic on the right and zero on the left, does it
# too, and just as fast. PolyNorm does not.
#
# So here is the question that this notebook leaves you with. A polynomial has the products. It has the theorem. It
# explodes. Dividing each power by its size over the row stops that; a rectifier in front does not. And yet the paper
# reports that *both* train well inside a transformer. **What is it in a transformer that keeps PolyReLU from exploding, and
# what does the division cost PolyNorm?** Keep your guess: the course goes on from here.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A network has two hidden layers, the first with ReLU, the second without activation. How many layers is it worth?</summary>
#
# Two: one ReLU layer, and one affine map, into which the second layer and the output collapse.
#
# </details>
#
# <details>
# <summary>Batch norm in evaluation mode, a convolution, dropout switched off, a residual connection: which of them keep a stack linear?</summary>
#
# All of them are affine in their input. A deep stack of all four, without an activation, is still one affine map.
#
# </details>
#
# <details>
# <summary>Softmax attention has no activation in the sense of this notebook. Is a transformer without feed-forwards linear?</summary>
#
# No. The weights of the mixture depend on the input, through a softmax of products, and the norms divide by a size that does.
# But apart from that each token's *content* passes only through linear maps; what bends it is the feed-forward.
#
# </details>
#
# <details>
# <summary>Why is PolyNorm's slope at a point not a property of the function alone?</summary>
#
# Because the value depends on the mean of $x^2$, $x^4$ and $x^6$ over the row. Moving one entry moves these means a little,
# and with them every other entry's output.
#
# </details>
#
# **Paper map.** Row *PolyReLU and PolyNorm have equivalent expressivity*: contradicted, as far as one layer on one input
# goes (section 1). The published losses were drawn here, not tested.
#
# **Read on.** M. Leshno et al., *Multilayer feedforward networks with a nonpolynomial activation function can approximate any
# function*, 1993; K. He et al., *Delving deep into rectifiers*, 2015 (the gain); N. Shazeer, *GLU variants improve
# transformer*, 2020; D. So et al., *Primer*, 2021 (squared ReLU).

# %%
from minipolycom.learn import progress_map

progress_map()
