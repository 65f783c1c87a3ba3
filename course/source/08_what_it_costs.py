# %% [markdown] title="What it costs" minutes=85 hardware="2 CPU cores" prerequisites="02, 04"
# **By the end you will have shown** that an activation costs what it moves and not what it computes: its time follows the
# number of passes that its formula makes over memory, so that PolyNorm, rewritten with two passes forward and its input as
# the only tensor kept, is the same function at a fraction of the price; and that the control, the matrix product
# beside it, does not follow its passes at all: it costs what it computes.
#
# On the way you will
#
# - **count** the passes of a formula and the tensors that autograd keeps of it, and see a counter come to the same,
# - **write** PolyNorm's backward pass from three closed forms, in an order that survives rows of size $10^5$,
# - **trade** memory for time with checkpoints, and find out what a compiler does with the formula alone,
# - **place** an activation and a matrix product under the roofline of your own machine,
# - **halve** the bytes, and find out what float16 does to a cube without telling you.
#
# Times are of one CPU core, in turns and as ratios, so that other programs on your machine slow all of them alike. If you
# come back in the middle: run the set-up cell, then any section from its beginning.

# %% setup=true

# %% [markdown]
# ## 1 · A rounding error
#
# The first half of a feed-forward is a matrix product and an activation. Take 2048 tokens, a stream of $D = 512$ and a hidden
# width of $F = 2048$. Each entry of the product takes 512 multiplications and 512 additions. Each entry of PolyNorm, counted off
# its formula, takes 18 operations:
#
# | | operations per entry |
# |---|---|
# | $x^3$ and $x^2$ | 2 + 1 |
# | three norms: a square, an addition to the mean, a product | 3 · 3 |
# | three coefficients, three additions | 3 + 3 |
#
# That is 1.8 % of the product's 1024. A rounding error. Predict: how long does it take?

# %%
from minipolycom.viz.widgets import guess_number

share = guess_number("PolyNorm takes as long as this many percent of the product in front of it", "%", 0.1, 100.0)
share

# %%
import torch

from minipolycom.bench.activations import authors_polynorm
from minipolycom.bench.traffic import compare_times
from minipolycom.learn import tier
from minipolycom.viz import costs, figures

N, D, F = 256 if tier().name == "smoke" else 2048, 512, 2048
generator = torch.Generator().manual_seed(0)
rows, matrix = torch.randn(N, D, generator=generator), torch.randn(D, F, generator=generator) / D**0.5
x, weight, bias = rows @ matrix, torch.full((3,), 1 / 3), torch.zeros(1)
half_rows, half_matrix = rows[:, : D // 2].contiguous(), matrix[: D // 2]
times = compare_times(
    {
        "relu": lambda: torch.relu(x),
        "polynorm, as written": lambda: authors_polynorm(x, weight, bias),
        "the product, half as deep": lambda: half_rows @ half_matrix,
        "the product": lambda: rows @ matrix,
    },
    baseline="the product",
    rounds=9,
)
per_entry = {"relu": 1, "polynorm, as written": 18, "the product, half as deep": D, "the product": 2 * D}
figures.show(costs.work_and_time(per_entry, {name: t["ratio"] for name, t in times.items()}, unit="the product"))
share.compare(100 * times["polynorm, as written"]["ratio"])

# %% [markdown]
# **Read the figure.** In the two upper rows, the products, circle and diamond lie together: half of the
# operations, half of the time. There arithmetic is the price. In PolyNorm's row they lie far apart, and in ReLU's as
# well. One operation per entry cannot take that long, so something else does. (Every number of a figure stands in the fold
# under it.)
#
# ## 2 · Passes over memory
#
# A core multiplies and adds in registers, which hold a few hundred numbers. The tensors are in memory, far away, and come and
# go over a road of limited width. Torch runs one operation at a time: `x**3` fetches all of `x`, cubes it, and sends
# a whole new tensor back; the next operation fetches that one again. So count journeys instead of operations.

# %% exercise="plain_passes"

# %% [markdown]
# Torch itself can be asked. The course's counter listens to every operation and notes the bytes it reads and
# writes, in units of `x`:

# %%
import torch

from minipolycom.bench.activations import authors_polynorm
from minipolycom.bench.traffic import operations, passes

x, weight, bias = torch.randn(64, 2048), torch.full((3,), 1 / 3), torch.zeros(1)
for row in operations(authors_polynorm, x, weight, bias):
    if row["read"] > 0.01:  # what works on one number per row is left out here
        print(f"{row['operation']:6} reads {row['read']:.2f}, writes {row['written']:.2f}")
print(f"in all {passes(authors_polynorm, x, weight, bias):.1f} passes")

# %% [markdown]
# Is it passes, then, that the time follows? Seven jobs, each timed on the same hidden tensor. If so, all of them lie on one line
# through the origin: twice the passes, twice the time.

# %%
from minipolycom.viz.widgets import choose

off_the_line = choose(
    "Which of these lies far off the line of the others?",
    {
        "squared ReLU": "Two operations, a rectifier and a square, of two passes each: four passes, on the line.",
        "PolyNorm as written": "Most passes of all, and time to match. It is the best evidence for the line.",
        "the matrix product": "It has hardly any passes, and a thousand operations per entry. It costs what it computes.",
    },
    right="the matrix product",
)
off_the_line

# %%
import torch

from minipolycom.activations import rms_norm, squared_relu
from minipolycom.bench.activations import authors_polynorm, authors_polyrelu
from minipolycom.bench.traffic import compare_times, passes
from minipolycom.learn import tier
from minipolycom.viz import costs, figures

N, D, F = 256 if tier().name == "smoke" else 2048, 512, 2048
generator = torch.Generator().manual_seed(0)
rows, matrix = torch.randn(N, D, generator=generator), torch.randn(D, F, generator=generator) / D**0.5
weight, bias = torch.full((3,), 1 / 3), torch.zeros(1)
jobs = {
    "relu": torch.relu,
    "squared_relu": squared_relu,
    "rms norm": rms_norm,
    "polyrelu, as written": lambda x: authors_polyrelu(x, weight, bias),
    "polynorm, as written": lambda x: authors_polynorm(x, weight, bias),
    "gelu": torch.nn.functional.gelu,
    "the product": lambda x: rows @ matrix,
}
x = rows @ matrix
counted = {name: passes(job, x) for name, job in jobs.items()}
times = compare_times({name: lambda job=job: job(x) for name, job in jobs.items()}, baseline="relu", rounds=9)
figures.show(costs.time_over_passes(counted, {name: t["ratio"] for name, t in times.items()}, one_pass=1 / 2))
off_the_line.reveal()

# %% [markdown]
# **Read the figure.** Both axes are logarithmic. From ReLU with its 2 passes to PolyNorm with 33 the marks go up along the
# line: **time follows passes**. The control, the product, stands alone at the upper left. It moves next to nothing per entry and is slow
# for another reason. GELU lies above the line as well: its error function takes some dozens of operations, and on one
# CPU core that is enough to be seen.
#
# ### What you have now
#
# - An operation of torch costs a journey there and back, however little it does with the numbers.
# - The authors' formula makes 33 journeys where 2 would do: read $x$ once, write $y$ once.
# - The product does not follow passes. Two kinds of price, and section 7 will say which is due when.
#
# ## 3 · What is kept
#
# The second price is paid in bytes. To go back, autograd needs some of what the way forward has computed, and keeps it until
# then: in every layer, for every token.

# %% exercise="kept_units"

# %% [markdown]
# Again torch can be asked, this time with hooks that see what is stored away. Tensors of the size of $x$ get a letter each; a
# letter that comes again is the same piece of memory.

# %%
import torch

from minipolycom.activations import squared_relu
from minipolycom.bench.activations import authors_polynorm, authors_polyrelu
from minipolycom.bench.traffic import kept_tensors
from minipolycom.viz import figures

x, weight, bias = torch.randn(64, 2048), torch.full((3,), 1 / 3), torch.zeros(1)


def kept(function, x=x):
    """What autograd keeps of a function of x and the coefficients: each tensor of x's shape, and the units in all."""
    leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
    tensors = [tensor for tensor in kept_tensors(function, *leaves) if tensor.numel() > bias.numel()]
    whole = [tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.shape == x.shape]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return whole, sum(storages.values()) / x.nbytes


whole, _ = kept(authors_polynorm)
letters = {address: letter for letter, address in zip("ABCDEFGHIJ", dict.fromkeys(whole), strict=False)}
print(f"PolyNorm as written stores: {' '.join(letters[address] for address in whole)}")
units = {
    "relu": kept(lambda x, w, b: torch.relu(x))[1],
    "gelu": kept(lambda x, w, b: torch.nn.functional.gelu(x))[1],
    "squared_relu": kept(lambda x, w, b: squared_relu(x))[1],
    "polyrelu": kept(authors_polyrelu)[1],
    "polynorm": kept(authors_polynorm)[1],
    "polynorm, 16 bits": kept(authors_polynorm, x.bfloat16())[1],
}
figures.show(
    figures.bars(
        units,
        xlabel="activation",
        ylabel="kept, in tensors of the size of x",
        title="What autograd keeps for the way back",
    )
)

# %% [markdown]
# **Read the figure.** ReLU and GELU keep one tensor, PolyNorm as written six. The last bar is the same formula on 16-bit numbers,
# computed in fp32 inside: the six tensors are fp32, twice the size of what came in, and make **twelve**. (The authors' dense models
# compute in bfloat16 throughout, which makes six.) One layer of these models holds 8256 numbers per token, and there are 24 of them.
#
# Six is two for each power: the power itself, and what it is after its norm. So each order more should bring two.

# %% claim="order-cost"
from functools import partial


def divided(u):
    return u * torch.rsqrt(u.square().mean(-1, keepdim=True) + 1e-6)


def written(order, x, weight, bias):
    """PolyNorm of any order, one operation after the other, as the authors write order 3."""
    return bias + sum(weight[0] * divided(x if power == 1 else x**power) for power in range(1, order + 1))


by_order = {order: len(set(kept(partial(written, order))[0])) for order in (1, 2, 3, 4)}
print("tensors kept, by order: " + ", ".join(f"{count} at order {order}" for order, count in by_order.items()))
assert by_order == {1: 2, 2: 4, 3: 6, 4: 8}

# %% [markdown]
# ## 4 · The way back, in closed form
#
# Both prices come from taking the formula apart. Put it together again: with the three numbers $r_p = (\overline{x^{2p}} +
# \varepsilon)^{-1/2}$ of a row, PolyNorm is a cubic of each entry,
#
# $$y = b + \sum_p a_p\, x^p, \qquad a_p = w_p r_p.$$
#
# Read the row, form $r_1, r_2, r_3$, write the cubic: two passes, if the row stays close by in between. The way back has three
# parts. Let $g$ be the gradient that arrives, $n$ the length of the row.
#
# 1. **Bias**: $\mathrm db = \sum g$, over everything.
# 2. **Coefficients**: $w_p$ multiplies $r_p x^p$, so $\mathrm dw_p = \sum_{\text{rows}} t_p$ with $t_p = r_p \sum_i g_i x_i^p$.
# 3. **Input**: notebook 02 found two paths. Through $x^p$ comes $p\, a_p\, g\, x^{p-1}$. Through the size comes
#    $\partial r_p / \partial x_j = -p\, r_p^3 x_j^{2p-1} / n$, times $w_p \sum_i g_i x_i^p = w_p t_p / r_p$. Together
#
# $$\mathrm dx = \sum_p x^{p-1} \big( p\, a_p\, g - c_p\, x^p \big), \qquad c_p = p\, a_p \Big( r_p \frac{t_p}{n} \Big).$$
#
# | | shape | |
# |---|---|---|
# | $g$, $x$, $\mathrm dx$ | (N, F) | read, read, write: three passes |
# | $r_p$, $a_p$, $t_p$, $c_p$ | (N, 1) each | one number per row |
# | $w$, $\mathrm dw$; $b$, $\mathrm db$ | (3,); (1,) | |
#
# Nothing on the right asks for $x^2$, $x^3$ or a quotient to have been kept. The row itself is enough.

# %% exercise="fused_backward"

# %% [markdown]
# Now let a judge look at it that does not know the formula: `gradcheck` moves every input a little, in float64, and compares.
# Beside it stands a second version that differs in nothing but the order of multiplication: it forms $r_p^3$, as the
# derivative of a root suggests, and as autograd does. In float64 no judge can tell them apart.

# %%
import torch

from minipolycom.activations import polynorm
from minipolycom.learn import reference
from minipolycom.viz import figures

EPS = 1e-6


def sizes(x, order=3):
    """r_1 ... r_P of each row."""
    return torch.stack([((x ** (2 * p)).mean(dim=-1) + EPS).rsqrt() for p in range(1, order + 1)], dim=1)


def with_cubes(g, x, weight, stats):
    """The same gradients, with r_p³ formed on the way."""
    _, dw, db = reference("fused_backward")(g, x, weight, stats)
    order, dx = len(weight), torch.zeros_like(x)
    for p in range(1, order + 1):
        w, r = weight[order - p], stats[:, p - 1 : p]
        along = (g * x**p).sum(dim=-1, keepdim=True)
        dx += w * p * (r * g * x ** (p - 1) - r**3 * along / x.shape[-1] * x ** (2 * p - 1))
    return dx, dw, db


def with_backward(formula):
    """PolyNorm whose way back is the formula; kept are x and three numbers per row."""

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(context, x, weight, bias):
            context.save_for_backward(x, weight, sizes(x))
            return polynorm(x, weight, bias, EPS)

        @staticmethod
        def backward(context, g):
            return formula(g, *context.saved_tensors)

    return ByHand.apply


generator = torch.Generator().manual_seed(0)
leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 7), (3,), (1,))]
leaves = [leaf.requires_grad_() for leaf in leaves]
ways = {"r t / n first": with_backward(reference("fused_backward")), "r³ formed": with_backward(with_cubes)}
for name, function in ways.items():
    passed = torch.autograd.gradcheck(function, leaves, raise_exception=False)
    print(f"{name}: gradcheck in float64 {'passes' if passed else 'fails'}")

# %% [markdown]
# In float32 the judge is float64. Rows of growing size, and the gradients of both versions and of autograd:

# %%
import torch

from minipolycom.bench.activations import authors_polynorm
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(1)
row, pull = (torch.randn(8, 256, generator=generator, dtype=torch.float64) for _ in range(2))
weight, bias = torch.tensor([0.3, -0.5, 0.4], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
scales = [1e2, 1e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]
errors = {"r t / n first": [], "r³ formed": [], "autograd, as written": []}
for scale in scales:
    x, g, w = (scale * row).float(), pull.float(), weight.float()
    truth = reference("fused_backward")(pull, x.double(), weight, sizes(x.double()))[0]
    leaf = x.clone().requires_grad_()
    found = {
        "r t / n first": reference("fused_backward")(g, x, w, sizes(x))[0],
        "r³ formed": with_cubes(g, x, w, sizes(x))[0],
        "autograd, as written": torch.autograd.grad(authors_polynorm(leaf, w, bias.float()), leaf, g)[0],
    }
    for name, gradient in found.items():
        errors[name].append(float((gradient.double() - truth).norm() / truth.norm()))
figures.show(
    figures.lines(
        errors,
        scales,
        xlabel="size of the row",
        ylabel="relative error of dx",
        title="One formula, two orders of multiplication, float32",
        log="xy",
        markers=True,
    )
)

# %% [markdown]
# **Read the figure.** Up to a size of $10^4$ the three agree to the last digits that float32 has. There $r_3$ is near
# $3 \cdot 10^{-13}$, and its cube near $10^{-38}$, where float32 ends. From there on those that form $r_3^3$ lose digits, then the whole
# number, and with it the path through the size. Nothing is infinite and nothing warns. Towards a million $x^6$ itself passes the largest
# number of float32, and then every order is wrong.
#
# ### What you have now
#
# - A way back in three passes that keeps $x$ and three numbers per row, checked in float64.
# - The order of a product is part of an algorithm.
#
# ## 5 · Memory for time
#
# The authors solve the memory in another way. They wrap the activation in a **checkpoint**: keep the input alone, and when the way
# back arrives, run the formula again. Six tensors become one, for the price of a second way forward. The same can be done with
# whole pieces of a network.

# %% exercise="kept_at_peak"

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import figures

layers, inner = 36, 4
segments = torch.tensor([float(k) for k in range(1, layers + 1) if layers % k == 0])
at_peak = reference("kept_at_peak")(segments, layers, inner)
figures.show(
    figures.lines(
        {
            "at the worst moment": at_peak.tolist(),
            "inputs of segments": (layers / segments).tolist(),
            "the running segment": (inner * segments).tolist(),
        },
        segments.tolist(),
        xlabel="layers in a segment",
        ylabel="tensors in memory",
        title=f"{layers} layers of {inner} tensors each, with checkpoints",
        log="xy",
        markers=True,
    )
)
print(
    f"without checkpoints {layers * inner} tensors, with them {at_peak.min():.0f}, at {segments[at_peak.argmin()]:.0f} layers a segment"
)

# %% [markdown]
# **Read the figure.** Short segments have many inputs to keep, long ones much to run again. Where the two lines cross,
# at $\sqrt{L/m}$ layers, the sum is least. Whatever the length, the price in time is the same: one more way forward.
#
# So there are three ways to have PolyNorm: as written, checkpointed, and with the closed form, which the package calls its *eager* backend. That one works on
# blocks of rows small enough to stay in the core's cache; it still makes many small passes, but over a short road.
# Time and memory, forward and backward (a few seconds):

# %% claim="checkpoint-keeps-input"
from minipolycom.bench import bench_activations
from minipolycom.learn import tier
from minipolycom.viz import costs, figures

tokens, rounds = (256, 3) if tier().name == "smoke" else (2048, 7)
measured = {
    row["variant"]: row
    for row in bench_activations(((tokens, 2048),), (), ("float32",), device="cpu", rounds=rounds, compiler=False)
}
assert measured["polynorm: authors, checkpointed"]["saved_units"] < 1.01, measured["polynorm: authors, checkpointed"]
variants = {
    "relu": "relu",
    "gelu": "gelu",
    "polynorm, as written": "polynorm: authors",
    "polynorm, checkpointed": "polynorm: authors, checkpointed",
    "polynorm, closed form": "polynorm: ours, eager",
}
held = {name: measured[variant]["saved_units"] for name, variant in variants.items()}
both = {name: 1 / measured[variant]["speedup"] for name, variant in variants.items()}
figures.show(costs.time_over_memory(held, both, unit="relu"))
for name in variants:
    print(f"{name:24} keeps {held[name]:.2f}, takes {both[name] / both['relu']:5.1f} times a ReLU")

# %% [markdown]
# **Read the figure.** A checkpoint moves PolyNorm to the left, from six tensors to one, and *up*: it buys memory with time. The closed form
# moves it to the left and *down*. It is no trade at all, and it is what the activation in this course's models does.
#
# ## 6 · Leave it to a compiler
#
# Nobody has to write such a thing by hand, one would think. `torch.compile` reads the authors' formula and fuses its operations into
# loops that go over the row once. And what does it keep? It sees the ways forward and back as one graph, and may decide.

# %%
from minipolycom.viz.widgets import choose

compiled_keeps = choose(
    "torch.compile gets the formula exactly as the authors write it. For the way back it keeps",
    {
        "six tensors": "That is autograd, one operation at a time. The compiler looks at the whole graph.",
        "three tensors": "The powers? They are one multiplication away from x: cheaper to form again than to fetch.",
        "one tensor": "x and a few numbers per row. It finds that all the rest is cheaper to compute again than to fetch.",
    },
    right="one tensor",
)
compiled_keeps

# %% [markdown]
# What a compiler costs is time before the first step: it traces the formula, writes C++ and has that translated, here both ways. Torch keeps the
# result, so that a second run takes a few seconds. (The steps in the table are rounds of timing.) Where there is no C++ compiler, the cell says so and the notebook goes on.

# %% cost="compiled_polynorm"
import shutil
import time

import torch

from minipolycom import fused
from minipolycom.bench.activations import authors_polynorm
from minipolycom.bench.traffic import compare_times, kept_tensors
from minipolycom.learn import cost, tier
from minipolycom.viz import costs, figures

rounds = cost("compiled_polynorm").steps
g = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(0))
leaves = [g.flip(0).requires_grad_(), torch.full((3,), 1 / 3).requires_grad_(), torch.zeros(1).requires_grad_()]


def closed_form(x, weight, bias):
    return fused.polynorm(x, weight, bias, backend="eager")


def both_ways(function):
    """Forward and backward, as a function without arguments."""
    return lambda: torch.autograd.grad(function(*leaves), leaves, g, allow_unused=True)


def units(function):
    storages = {t.untyped_storage().data_ptr(): t.nbytes for t in kept_tensors(function, *leaves)}
    return sum(storages.values()) / g.nbytes


if tier().name == "smoke":
    print("The smoke tier compiles nothing.")
elif not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))):
    print("There is no C++ compiler here, so torch.compile has nothing to compile with: go on with section 7.")
else:
    compiled = torch.compile(authors_polynorm, dynamic=False)
    began = time.perf_counter()
    both_ways(compiled)()
    print(f"torch.compile took {time.perf_counter() - began:.0f} seconds for the first call")
    functions = {
        "relu": lambda x, w, b: torch.relu(x),
        "polynorm, as written": authors_polynorm,
        "polynorm, closed form": closed_form,
        "polynorm, compiled": compiled,
    }
    times = compare_times({name: both_ways(f) for name, f in functions.items()}, baseline="relu", rounds=rounds)
    figures.show(
        costs.time_over_memory(
            {name: units(f) for name, f in functions.items()},
            {name: t["ratio"] for name, t in times.items()},
            unit="relu",
        )
    )
compiled_keeps.reveal()

# %% [markdown]
# **Read the figure.** The compiled formula lies at the lower left: one tensor, and a time not far from that of the simplest activation. It found
# the memory of the closed form by itself. Two things it does not do. It takes the order of multiplication as it stands in
# the formula, $r_p^3$ included. And it has to be waited for, which is why the package compiles only large
# activations on a CPU; the whole gain is in the activation, so it compiles that and leaves the model alone.
#
# ## 7 · The roofline
#
# Why is the product so different? Divide what a job computes by what it moves: operations per byte, its **intensity**. A machine
# has two limits, and the intensity says which one is met first.

# %% exercise="matmul_roof"

# %% [markdown]
# The two limits of *your* core can be measured: copy something large, and multiply two large matrices. Beside them stands a published GPU:
# an H100 moves 3350 · 10⁹ bytes a second, and Liger-Kernel's benchmark of an expert layer gives 337 · 10¹² operations as 34 % of its peak in 16 bits.

# %%
import torch

from minipolycom import fused
from minipolycom.bench.activations import authors_polynorm
from minipolycom.bench.traffic import compare_times, passes
from minipolycom.learn import reference, tier
from minipolycom.viz import costs, figures

N, F = 256 if tier().name == "smoke" else 2048, 2048
generator = torch.Generator().manual_seed(0)
x, weight, bias = torch.randn(N, F, generator=generator), torch.full((3,), 1 / 3), torch.zeros(1)
large, square = torch.randn(8 * N, F, generator=generator), torch.randn(1024, 1024, generator=generator)
narrow, wide = ([torch.randn(N, d, generator=generator), torch.randn(d, 4 * d, generator=generator)] for d in (16, 512))
jobs = {
    "copy": lambda: large.clone(),
    "square product": lambda: square @ square,
    "relu": lambda: torch.relu(x),
    "polynorm, as written": lambda: authors_polynorm(x, weight, bias),
    "polynorm, closed form": lambda: fused.polynorm(x, weight, bias, backend="eager"),
    "product, D = 16": lambda: narrow[0] @ narrow[1],
    "product, D = 512": lambda: wide[0] @ wide[1],
}
seconds = {name: t["ms"] / 1e3 for name, t in compare_times(jobs, baseline="copy", rounds=7).items()}
peak, bandwidth = 2 * 1024**3 / seconds["square product"] / 1e9, 2 * large.nbytes / seconds["copy"] / 1e9
work = {  # operations, and the bytes that have to be moved
    "relu": (x.numel(), 2 * x.nbytes),
    "polynorm, as written": (18 * x.numel(), passes(authors_polynorm, x, weight, bias) * x.nbytes),
    "polynorm, closed form": (10 * x.numel(), 2 * x.nbytes),
    **{f"product, D = {d}": (8 * N * d * d, 4 * (5 * N * d + 4 * d * d)) for d in (16, 512)},
}
H100 = {"peak": 337e3 / 0.34, "bandwidth": 3350.0}
figures.show(
    costs.roofline(
        {name: (done / moved, done / seconds[name] / 1e9) for name, (done, moved) in work.items()},
        {"this core": (peak, bandwidth), "an H100, 16 bits": tuple(H100.values())},
    )
)
bends = [limits[0] / limits[1] for limits in ((peak, bandwidth), tuple(H100.values()))]
print(f"this core's roof bends at {bends[0]:.0f} operations per byte, the H100's at {bends[1]:.0f}")
per_entry = 2 * 2048 / reference("matmul_roof")(torch.tensor([2048.0]), 4096, 2, **H100).item()  # nanoseconds
for name, needed in (("as written", 33), ("in closed form", 2)):
    ratio = needed * 2 / H100["bandwidth"] / per_entry  # two bytes per pass
    print(f"D = 2048 on the H100: PolyNorm {name} takes at best {ratio:.1f} times the product in front of it")

# %% [markdown]
# **Read the figure.** Left of the bend of a roof time is bytes, right of it time is arithmetic. ReLU and PolyNorm as written
# lie at the far left, near the slope: whatever they compute is free. The wide product lies on the right, near the flat
# roof. The closed form computes ten operations on each number it fetches, and so lies farther to the right; it stays under its
# roof, because blocks in the cache are near, not free.
#
# Now look at the GPU. Its arithmetic has outgrown its memory, so its bend lies much farther to the right: **on a GPU passes
# matter more than here**. The last two lines printed say what that means for the paper's dense models, $D = 2048$: a
# rounding error in operations is several times the product in time, if the formula runs as written, and a fraction of it if it
# runs in two passes. These are bounds, not measurements. No GPU figure in this notebook is ours; published ones
# follow in section 9.
#
# ### What you have now
#
# - The intensity decides: products are paid in operations, activations in bytes.
# - An activation's share of the time falls like $1/D$, because the product grows with the width and the activation does not.
#
# ## 8 · Half the bytes
#
# If bytes are the price, take smaller numbers. float16 halves every pass and every kept tensor, and a GPU such as the T4 has no other
# format of 16 bits. So: PolyNorm's formula, every step in float16, on rows of standard deviation 2. Nothing unusual. Predict.

# %%
from minipolycom.viz.widgets import choose

in_half = choose(
    "PolyNorm of a row with standard deviation 2, every step in float16:",
    {
        "right to about three digits": "That is what 16 bits can give, and what comes out with fp32 inside.",
        "infinities or NaN": "One would hope so: that would be noticed. x³ itself overflows only beyond 40.",
        "wrong by half, all finite": "Its cubic term is zero, in every row with one entry beyond 6.35. Nothing says so.",
    },
    right="wrong by half, all finite",
)
in_half

# %%
import torch

from minipolycom.activations import polynorm
from minipolycom.viz import figures

row = torch.randn(64, 2048, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
scales = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0]


def coefficients(order, dtype):
    return torch.full((order,), 1 / order, dtype=dtype), torch.zeros(1, dtype=dtype)


def throughout(x, order=3):
    """PolyNorm with every step in the dtype of x."""
    weight, _ = coefficients(order, x.dtype)
    powers = [x**p for p in range(order, 0, -1)]
    return sum(
        w * u * torch.rsqrt(u.square().mean(-1, keepdim=True) + 1e-6) for w, u in zip(weight, powers, strict=True)
    )


def fp32_inside(x, order=3):
    return polynorm(x, *coefficients(order, torch.float32))


def error(function, dtype, scale, order=3):
    """Size of the difference to float64 relative to the size of the result; NaN where the result is not finite."""
    x = (scale * row).to(dtype)
    truth = polynorm(x.double(), *coefficients(order, torch.float64))
    return float((function(x, order).double() - truth).norm() / truth.norm())


errors = {
    "float16 throughout": [error(throughout, torch.float16, scale) for scale in scales],
    "bfloat16 throughout": [error(throughout, torch.bfloat16, scale) for scale in scales],
    "float16 outside, fp32 inside": [error(fp32_inside, torch.float16, scale) for scale in scales],
}
figures.show(
    figures.lines(
        errors,
        scales,
        xlabel="standard deviation of the row",
        ylabel="relative error",
        title="PolyNorm in 16 bits",
        log="xy",
        markers=True,
    )
)
y = throughout((2 * row).half())
print(
    f"standard deviation 2, float16 throughout: {errors['float16 throughout'][4]:.0%} off, all finite: {bool(y.isfinite().all())}"
)
in_half.reveal()

# %% [markdown]
# **Read the figure.** Up to a standard deviation near 1 float16 is the better one of the two: it has three more binary digits than bfloat16. Between
# 1 and 2 it climbs to a **half**, then on to two thirds, and the line ends only where the first NaN turns up. In
# between lies the dangerous part: finite numbers of a usual size that are wrong. bfloat16, which trades digits for range, does not
# care about scale, and with fp32 inside nothing happens at all.
#
# What happens between 1 and 2?

# %% exercise="sixth_power_limit"

# %% [markdown]
# So the largest entry of a row decides, and of 2048 normal numbers with standard deviation 2 some lie beyond 6.35 in nineteen rows of twenty. If that is the
# mechanism, then an order fewer must hold out longer and an order more must fall earlier. The paper's authors are said to have stopped at order 3 for such a reason:
# higher orders cost more and risk overflow in low precision.

# %% claim="higher-orders-overflow"
limits = {order: 65504 ** (1 / (2 * order)) for order in (1, 2, 3, 4)}
by_order = {f"order {order}": [error(throughout, torch.float16, scale, order) for scale in scales] for order in limits}
figures.show(
    figures.lines(
        by_order,
        scales,
        xlabel="standard deviation of the row",
        ylabel="relative error",
        title="PolyNorm in float16 throughout, by order",
        log="xy",
        markers=True,
    )
)
falls = {}
for order, limit in limits.items():
    falls[order] = next(
        (scale for scale, e in zip(scales, by_order[f"order {order}"], strict=True) if not e < 0.02), None
    )
    print(
        f"order {order}: x^{2 * order} overflows beyond |x| = {limit:6.1f}; 2 % wrong from standard deviation {falls[order] or 'none of these'}"
    )
assert falls[1] is None or falls[1] > falls[2] > falls[3] > falls[4], falls
large = (3 * row).half()
terms = [u * torch.rsqrt(u.square().mean(-1, keepdim=True)) for u in (large, large**2, large**3)]
told = ", ".join(f"{term.float().square().mean().sqrt():.2f}" for term in terms)
print(f"sizes of the three terms at standard deviation 3 (1 would be right): {told}")

# %% [markdown]
# **Read the figure.** Each order falls off at its own place, the higher the earlier, and the last line shows what is missing: at a standard
# deviation of 3 the cubic term is zero, exactly. The mean of $x^6$ is infinite, its inverse root is zero, and zero times the cube is zero. A loss curve
# would show a somewhat worse activation, and nobody would look for a reason.
#
# The study *precision* has this with three seeds, on 512 rows each. And what the others do: Liger's kernel for GPUs,
# when we ran it in an interpreter on a CPU, took the powers in the dtype of its input, so that float16 loses the cubic
# term there as well. Ours, and vLLM's after a review, compute in fp32 inside.

# %%
from minipolycom.studies.records import recorded

record = recorded("precision")
for statement in record.statements:
    print(f"{statement['verdict']}: {statement['text']}")
    for line in statement["comparisons"]:
        print(f"    {line['title']}: {line['estimate']:.2g}, interval {line['low']:.2g} to {line['high']:.2g}")

# %% [markdown]
# ## 9 · In a whole model
#
# In the end only the step counts. A small transformer, one batch, forward and backward, with the activation as the only
# difference; *formula* is the plain one of the package, *closed form* is what it uses. (Some seconds.)

# %%
import torch

from minipolycom import GPT, GPTConfig, TrainConfig, next_token_loss
from minipolycom.activations import PolyNorm
from minipolycom.bench.traffic import compare_times
from minipolycom.estimate import kept_bytes
from minipolycom.learn import tier
from minipolycom.text import TokenBatch
from minipolycom.viz import costs, figures

windows, rounds = (2, 3) if tier().name == "smoke" else (16, 7)
generator = torch.Generator().manual_seed(0)
batch = TokenBatch(*torch.randint(256, (2, windows, 128), generator=generator))
models = {
    name: GPT(GPTConfig.preset("tiny", activation=name), seed=0) for name in ("relu", "gelu", "swiglu", "polynorm")
}
models["polynorm, closed form"] = models.pop("polynorm")
models["polynorm, formula"] = GPT(GPTConfig.preset("tiny", activation="polynorm"), seed=0)
for module in models["polynorm, formula"].modules():
    if isinstance(module, PolyNorm):
        module.backend = "plain"


def step(model):
    return lambda: torch.autograd.grad(next_token_loss(model(batch.inputs), batch.targets), list(model.parameters()))


times = compare_times({name: step(model) for name, model in models.items()}, baseline="gelu", rounds=rounds)
kept_mb = {name: kept_bytes(model, batch, TrainConfig(accelerator="cpu")) / 1e6 for name, model in models.items()}
figures.show(
    costs.time_over_memory(
        kept_mb, {name: t["ratio"] for name, t in times.items()}, unit="gelu", memory="millions of bytes"
    )
)
for name, t in times.items():
    print(
        f"{name:22} {t['ratio']:.2f} ({t['ratio_low']:.2f} to {t['ratio_high']:.2f}) times GELU's step, {kept_mb[name]:.0f} MB kept"
    )

# %% [markdown]
# **Read the figure.** The formula's mark lies apart, at more time and clearly more memory. The closed form keeps *less* than GELU: it makes
# its output again for the product behind it, where GELU keeps input and output. (ReLU's output is enough for its own way back, so it
# keeps one tensor as well.) What it takes longer is printed below the figure; and this model is narrow, $D = 128$. By section 7 the
# difference shrinks as the width grows.
#
# The study *overhead* measures the same with several seeds:

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, studies

try:
    overhead = recorded("overhead")
except ValueError:
    print("Not recorded yet. On your machine: minipolycom reproduce overhead --tier cpu --seeds 3")
else:
    figures.show(studies.intervals(overhead))

# %% [markdown]
# On GPUs others have measured, the formula against a kernel: one program for the GPU that does all of it in one go. These are their numbers:
#
# | what | where | as written | one kernel |
# |---|---|---|---|
# | PolyNorm forward, 8192 × 4096, bfloat16 | B200, Liger-Kernel's benchmark data | 1188 µs (fp32 inside) | 45 µs |
# | PolyNorm backward, the same | the same | 2609 µs | 131 µs |
# | its memory | the same | 2048 MB | 256 MB |
# | PolyNorm forward, 4096 × 2048 | GPU not named, vLLM pull request 23414 | 1971 µs | 62 µs |
#
# Can our count foretell them? With 16 bits outside and fp32 inside, count the passes again:

# %%
import torch

from minipolycom.bench.activations import authors_polynorm
from minipolycom.bench.traffic import passes

x = torch.randn(64, 4096, dtype=torch.bfloat16)
counted = passes(authors_polynorm, x, torch.full((3,), 1 / 3), torch.zeros(1))
print(f"{counted:.0f} passes as written, 2 in one kernel: a factor of {counted / 2:.0f}")
print(f"measured by others: {1188 / 45:.0f} (Liger), {1971 / 62:.0f} (vLLM)")

# %% [markdown]
# Counting with a pencil came near what other people measured on machines that this notebook has never seen. It is a bound, reached only if both
# versions use the memory equally well.
#
# ### What you have now
#
# - The paper's question was which activation trains better per token. Per second and per byte the answer depends on how it is written: by a factor
#   of its passes.
# - Written well, PolyNorm keeps no more than a ReLU, and what it adds to the time of a step shrinks as the model gets wider.
#
# ## Before you go
#
# <details>
# <summary>Which has more passes, as written: PolyReLU of order 3 or PolyNorm of order 2? Guess, then count with <code>passes</code>.</summary>
#
# PolyReLU of order 3 has 20: one for each reading and writing of the ReLU, two powers, three products, two sums and the bias. PolyNorm of order 2
# has 2 for the square, 10 for two norms, 4 for two products, 3 for the sum and 2 for the bias: 21. Nearly the same.
#
# </details>
#
# <details>
# <summary>A kernel fuses PolyNorm with the product before it: the hidden tensor is normalised before it is ever written. What stands in the way?</summary>
#
# The sizes need the whole row, and a product makes its result in tiles. The partial sums of x², x⁴ and x⁶ have to be collected over the tiles
# first. PolyReLU has no such difficulty.
#
# </details>
#
# <details>
# <summary>Why does ReLU in place keep no less than ReLU?</summary>
#
# It keeps its output instead of its input: one tensor either way. But the output is needed by the product behind it, so that one tensor serves both.
#
# </details>
#
# <details>
# <summary>The feed-forward keeps x for the activation and y for the product behind it. Which of the two can be spared?</summary>
#
# y: it is a cubic of x, whose coefficients are known, and the way back fetches x anyway. `fused.feed_forward` does that, and keeps one
# tensor where a ReLU network keeps two.
#
# </details>
#
# <details>
# <summary>Loss scaling protects float16 training from gradients that are too small. Does it help against the lost cube?</summary>
#
# No. It multiplies the loss, so it acts on the way back. What overflows here is a square on the way forward.
#
# </details>
#
# <details>
# <summary>Your model is ten times as wide. Is PolyNorm's share of the step larger or smaller?</summary>
#
# Smaller, by nearly ten: operations of the product per entry grow with the width, passes of the activation do not.
#
# </details>
#
# **Paper map.** *Higher orders cost more*: reproduced, in tensors kept (section 3). *The checkpointed activation keeps only its
# input*: reproduced (section 5). *Higher orders risk overflow in low precision*:
# reproduced, with its mechanism (section 8).
#
# **Read on.** S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model*, 2009; T. Chen et al., *Training
# deep nets with sublinear memory cost*, 2016 (checkpoints); A. Ivanov et al., *Data movement is all you need*, 2021; P. Hsu et
# al., *Liger Kernel*, 2024. In the package: `fused`, whose first page is section 4, and `triton_kernels`, the same for GPUs; `minipolycom bench`
# compares them all on your machine.

# %%
from minipolycom.learn import progress_map

progress_map()
