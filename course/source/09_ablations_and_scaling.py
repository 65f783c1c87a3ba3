# %% [markdown] title="Ablations and scaling" minutes=105 hardware="2 CPU cores" prerequisites="05"
# **By the end you will have shown** how little three seeds say of the choices behind "PolyNorm, order 3, coefficients
# 1/3", because *alike* has to be shown just as *different* has, and most pairs are neither. You will have found **before
# any training**, with a row and a straight line, what the two expensive choices have in common. And you will have put an
# **activation of your own**, registered by one dict entry, beside the recorded runs. The control, PolyNorm under another
# name, must not be told apart from PolyNorm, or nothing here can be believed.
#
# On the way you will
#
# - **write** the test by which two things are *shown* to be alike,
# - **compute** the start that keeps the size of a row,
# - **fit** a power law with a floor, and see what it promises of sizes that nobody trained,
# - **check** the gradient of a new activation in a second, before it trains for minutes.
#
# The paper's ablations are its section 4.3: orders, compositions, variants of ReLU, one run each. Numbers here are ours,
# from models of half a million parameters on Python's standard library, in nats per byte, unless something else is said.
# Each section needs the set-up cell alone: after a restart run that, and go on at the first cell of any section.

# %% setup=true

# %% [markdown]
# ## 1 · Five orders
#
# PolyNorm of order $P$ is $\sum_{p=1}^P a_p N(x^p) + b$, with $N$ the division of a row by its root mean square. Here are
# the recorded trainings of orders 1 to 5: each at the best of three learning rates, each with the same seeds, so with the
# same initial matrices and the same batches. From one order to the next they differ by one number a layer.

# %%
from minipolycom.studies.ablations import ORDERS, losses_of
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.records import recorded
from minipolycom.viz import ablations, figures

record = recorded("order")
losses = losses_of(record.rows)
orders = {order: losses[name] for order, name in ORDERS.items()}
figures.show(ablations.arms(orders, "Orders of PolyNorm", baseline="order 3", margin=ALIKE))
means = {name: sum(own.values()) / len(own) for name, own in orders.items()}
rest = [means[f"order {order}"] for order in (2, 3, 4, 5)]
print(f"{len(record.seeds)} seeds; the lowest mean is that of {min(means, key=means.get)}")
print(f"order 1 is {means['order 1'] - max(rest):.3f} behind the next; orders 2 to 5 span {max(rest) - min(rest):.3f}")

# %% [markdown]
# **Read the figure.** One of the five stands alone. The others share a strip, and the dashed lines in it say what this
# course calls *alike*: within 0.01 nats of order 3, half of what separates PolyNorm from SwiGLU at the end of the paper's
# dense runs. Which order has the lowest mean stands in the line above. The paper's reason for 3 was not that more is worse:
# summaries of it name the cost of higher orders, and their overflow in half precision (notebook 08). And order 1 is not a
# broken model: it has the norm, a learnt coefficient, a learnt bias, and all the matrices.

# %%
from minipolycom.viz.widgets import choose

why = choose(
    "Why does order 1 lose by so much more than any order from 2 on?",
    {
        "it has too few coefficients": "Two numbers a layer instead of four. GELU has none, and trains well.",
        "its output has another size": "It has a mean square of 1, and the coefficients are learnt.",
        "within a row it is a straight line": "It divides a row by one number. Rows are bent against each other, entries "
        "of one row are not.",
    },
    right="within a row it is a straight line",
)
why

# %% exercise="bend"

# %%
from minipolycom.learn import reference
from minipolycom.studies.ablations import ORDERS, start_of
from minipolycom.viz import figures

curves = {}
for order, name in ORDERS.items():
    x, y = start_of(name)
    print(f"{order}: bend {float(reference('bend')(x, y)):.2f} before training")
    curves[order] = y[64:-64:16]  # without the outermost entries, which would set the scale
title = "What each order makes of a normal row, before training"
figures.show(figures.lines(curves, x[64:-64:16], "entry of the row", "entry after PolyNorm", title))
why.reveal()

# %% [markdown]
# **Read the figure.** Order 1 is a line, and training cannot change that: its coefficient is the line's slope. Matrix,
# line, matrix is one matrix, as in notebook 01; all that is left is that each row is divided by its own size. The others
# bend, each by its own measure (printed above the figure).
#
# **Careful.** A number that explains one gap, and was made for it, is an explanation *found afterwards*. Section 3 has a
# case where it must prove itself, and the last figure of this notebook puts it against every recorded arm.
#
# ### What you have now
#
# - Order 1 is a norm, not an activation.
# - From order 2 on the means are close. Which of *those* differences are real?
#
# ## 2 · Alike is a claim, too
#
# The paper is reported to find that orders 3 and 4 converge alike. Somebody with our record could argue: "paired over
# three seeds, orders 3 and 4 are not significantly different; so they are alike." By that rule, the fewer seeds, the more
# things are alike.

# %% exercise="tost"

# %% [markdown]
# So a pair of arms has **three** verdicts. *Different*: the usual test refutes a mean of zero. *Alike*: your test refutes
# everything outside the margin. *Undecided*: neither. Five orders make ten pairs, so twenty p-values, and some of twenty
# are small by luck: they are adjusted together (Holm), as in the recorded studies.

# %%
from minipolycom.viz.widgets import guess_number

sure = guess_number("Of the ten pairs of orders, how many will be decided, different or alike?", "pairs", 0, 10)
sure

# %% claim="order-three"
from itertools import combinations

import torch

from minipolycom.learn import reference
from minipolycom.studies.ablations import ORDERS, apart, losses_of, says
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.records import recorded
from minipolycom.viz import ablations, figures

record = recorded("order")
losses = losses_of(record.rows)
orders = {order: losses[name] for order, name in ORDERS.items()}
differences = {pair: apart(orders, *pair) for pair in combinations(orders, 2)}
said = says(differences)
figures.show(ablations.pairs(said, list(orders), f"Every two orders, {len(record.seeds)} seeds, margin {ALIKE}"))
own = torch.tensor(differences["order 3", "order 4"], dtype=torch.float64)
print("orders 3 and 4, by seed:", ", ".join(f"{value:+.4f}" for value in own.tolist()))
p = float(reference("tost")(own, ALIKE))
print(f"p of your test: {p:.3f} by itself; verdict, adjusted with all the others: {said['order 3', 'order 4']}")
sure.compare(sum(word != "undecided" for word in said.values()))

# %% [markdown]
# **Read the figure.** How many orders can be told apart? The diamonds say it. *Undecided* is not a failure of the runs, it
# is their answer: this was not enough. The paper's sentence on orders 3 and 4 has the verdict that is printed above, and one
# run each, as in the paper, could not have had any. (The paper map judges it in its own study by a stricter rule, for which
# p counts twice.)
#
# How many seeds would it take? Suppose that two orders are *exactly equal*, and that their differences scatter as those of
# orders 2 to 5 do.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.studies.catalogue import ALIKE
from minipolycom.viz import figures

near = [differences[pair] for pair in differences if "order 1" not in pair]
spread = float(torch.tensor(near, dtype=torch.float64).var(dim=1).mean().sqrt())
generator, numbers = torch.Generator().manual_seed(0), (2, 3, 4, 5, 7, 10, 14, 20)
shown = {}
for true in (0.0, ALIKE / 2, ALIKE):
    draws = [true + spread * torch.randn(500, n, generator=generator, dtype=torch.float64) for n in numbers]
    shown[f"true difference {true:g}"] = [
        sum(float(reference("tost")(row, ALIKE)) < 0.05 for row in drawn) / len(drawn) for drawn in draws
    ]
title = f"How often two orders are shown to be alike (spread of a paired difference {spread:.4f})"
figures.show(figures.lines(shown, numbers, "seeds", "share of studies", title, log="x", markers=True))
equal = dict(zip(numbers, shown["true difference 0"], strict=True))
enough = [n for n, share in equal.items() if share >= 0.8]
print(f"two equal orders are shown to be alike by {equal[3]:.0%} of studies with three seeds;", end=" ")
print(f"four of five studies show it from {enough[0]} seeds on" if enough else "20 seeds are too few for four of five")

# %% [markdown]
# **Read the figure.** Two *equal* orders, and how few studies of three seeds can say so stands in the line under it. The
# lowest curve is the **control**: a true difference as large as the margin is called alike in about one of twenty studies at
# most, however many seeds there are, and that is what 5 % means. In between it depends.
#
# ### What you have now
#
# - Different, alike, undecided. "No significant difference" is the third, not the second.
# - The margin has to be said before, and for a reason. Ours is half of a lead that a paper was written about.
#
# ## 3 · Where the coefficients start
#
# The authors start all three coefficients at 1/3. Two other starts were recorded: the same, scaled so that a row keeps its
# mean square, as is usual for weights (*variance start* in the figures), and one at which only the *first* power has a
# coefficient (*linear start*), so that training begins from the plain function and may bend it as it likes. First the scale: the
# size at the start that you counted in notebook 02, now turned into a factor.

# %% exercise="start_factor"

# %%
import torch

from minipolycom import PolyNorm
from minipolycom.learn import reference
from minipolycom.viz.widgets import choose

third = torch.full((3,), 1 / 3, dtype=torch.float64)
print(f"by the formula {float(reference('start_factor')(third)):.4f}")
print(f"in the package {PolyNorm(start='variance').weight[0].item() * 3:.4f}")
costly = choose(
    "Other starts, after 600 steps and at a learning rate of their own: which costs most?",
    {
        "PolyNorm, scaled": "A factor of 1.41 on three numbers that are learnt anyway.",
        "PolyNorm, first power only": "That is order 1 at the start, a straight line, with two coefficients at zero.",
        "PolyReLU, scaled": "The same for PolyReLU. It has no norm, so its size matters more; still they are learnt.",
        "PolyReLU, first power only": "That is a ReLU at the start, which trains by itself.",
    },
    right="PolyNorm, first power only",
)
costly

# %%
from minipolycom.learn import reference
from minipolycom.studies.ablations import apart, losses_of, says, start_of
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.records import recorded
from minipolycom.studies.statistics import mean_interval
from minipolycom.viz import ablations, figures

record = recorded("start")
losses = losses_of(record.rows)
starts = [name for name in losses if "start" in name]
differences = {name: apart(losses, name, name.split(",")[0]) for name in starts}
found = {name: mean_interval(values) for name, values in differences.items()}
intervals = {name: (own.estimate, own.low, own.high) for name, own in found.items()}
title = f"Other starts, minus the usual one, {len(record.seeds)} seeds"
apart_by = "difference in loss, with its 95 % interval"
figures.show(ablations.margins(intervals, says(differences), ALIKE, title, apart_by))
for name, values in differences.items():
    print(f"{name:25} higher with {sum(value > 0 for value in values)} of {len(values)} seeds")
for name in ("polynorm", "polyrelu", *starts):
    x, y = start_of(name)
    edge = " (its rate is at the edge of the grid)" if record.rates[f"{name}, stdlib"]["edge"] else ""
    print(f"{name:25} bend {float(reference('bend')(x, y)):.2f} before training{edge}")
costly.reveal()

# %% [markdown]
# **Read the figure and the lines under it.** Your `bend` has met its test: it was made for order 1, and it singles out the
# start that costs most. PolyNorm that starts from its first power bends nothing. PolyReLU that starts there *is* a ReLU,
# bends, and pays less. The scaled starts bend exactly as the usual ones do. (An interval is that of one difference by
# itself. The verdict is adjusted for all questions of the figure, two for each line, so that an interval may leave zero
# far out and the verdict still be *undecided*: that all seeds say the same, each by another amount, is not much with three.)
#
# But is a start a fate? The coefficients are learnt. Look through the training.

# %%
from minipolycom.viz import dynamics, figures

runs = dynamics.runs_of(record, "stdlib")
shown = {name: runs[name] for name in ("polynorm", "polynorm, variance start", "polynorm, linear start")}
shown["polynorm, order 1"] = dynamics.runs_of(recorded("order"), "stdlib")["polynorm, order 1"]
title = "Loss through training, minus PolyNorm with the usual start"
figures.show(dynamics.differences({"": shown}, "polynorm", ["optimizer steps"], title))

# %% [markdown]
# **Read the figure.** The linear start follows order 1 for a while, and then leaves it: it learns to bend. By the end it has
# made up part of the way. So the start costs *time*, and what it costs in the end depends on when the end is. Its rate
# lies at the upper edge of the grid, if the line above says so; then some of the gap may be the grid's.
#
# ### What you have now
#
# - A straight line at the start costs more than any scale of the coefficients does. How little the scale costs, three
#   seeds leave open.
# - A formula for a start, and its test: the package's own number.
#
# ## 4 · Which composition
#
# The paper compares the first four of these. The next two are controls of ours, one for the place of the norm and one for
# its being there; ReLU stands for what has no powers.
#
# | name | formula, $p = 1, 2, 3$ |
# |---|---|
# | PolyReLU, PolyPReLU | $\sum_p a_p\,\mathrm{ReLU}(x)^p$, $\;\sum_p a_p\,\mathrm{PReLU}(x)^p$ |
# | PolyNorm, PolyReLUNorm | $\sum_p a_p\,N(x^p)$, $\;\sum_p a_p\,N(\mathrm{ReLU}(x)^p)$ |
# | *sumnorm* | $N\bigl(\sum_p a_p\,x^p\bigr)$: one norm, **after** the sum |
# | *polynomial* | $\sum_p a_p\,x^p$: no norm, no function |
#
# Before the record, what is to be expected of one norm after the sum? Without training: give each composition rows of
# several sizes. A norm of each power cannot see the size (notebook 02), the others can.

# %%
from minipolycom.learn import reference
from minipolycom.studies.ablations import start_of
from minipolycom.viz import figures

sizes = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
names = ("polynorm", "sumnorm", "polyrelunorm", "polyrelu", "polyprelu", "polynomial")
bends = {name: [float(reference("bend")(*start_of(name, sigma))) for sigma in sizes] for name in names}
title = "Bend of each composition, by the size of its input"
figures.show(figures.lines(bends, sizes, "standard deviation of the row", "bend", title, log="x", markers=True))

# %% [markdown]
# **Read the figure.** The two with a norm of each power are flat: a row bends as much, whatever its size. (But for the last
# of it: under 0.2 the $10^{-6}$ in the root begins to count.) The others give small rows their first power alone, a line or
# a ReLU, and large rows the cube. *sumnorm* is one of these, and its curve is that of *polynomial* exactly, because one
# division of the whole row changes no shape. It only keeps the output from exploding.
#
# So there is a reason for a norm of each power. Is there a gain?

# %%
from minipolycom.studies.ablations import apart, losses_of, says
from minipolycom.studies.records import recorded
from minipolycom.viz.widgets import choose

record = recorded("composition")
losses = losses_of(record.rows)
differences = {name: apart(losses, name, "polynorm") for name in losses if name != "polynorm"}
said = says(differences)
mean = sum(differences["sumnorm"]) / len(differences["sumnorm"])
by_sign = "it loses" if mean > 0 else "it wins"
norm = choose(
    "sumnorm beside PolyNorm, each at a rate of its own, seed by seed: what will the record say?",
    {
        "it loses": "The last figure suggests it: small rows are lines.",
        "it wins": "One norm has less to disturb, and the matrix before it can choose the size.",
        "it is alike": "To be shown to lie within 0.01 takes more than a small mean.",
        "it is not told apart": f"Neither different nor alike. The mean difference, {mean:+.4f}, decides nothing.",
    },
    right={"undecided": "it is not told apart", "alike": "it is alike"}.get(said["sumnorm"], by_sign),
)
norm

# %% claim="compositions"
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.statistics import mean_interval
from minipolycom.viz import ablations, figures

found = {name: mean_interval(values) for name, values in differences.items()}
intervals = {name: (of.estimate, of.low, of.high) for name, of in found.items()}
title, apart_by = f"Minus PolyNorm, {len(record.seeds)} seeds", "difference in loss, with its 95 % interval"
figures.show(ablations.margins(intervals, said, ALIKE, title, apart_by))
means = {name: sum(by_seed.values()) / len(by_seed) for name, by_seed in losses.items()}
lowest = sorted(means, key=means.get)[:3]
print("the three lowest means:", ", ".join(f"{name} {means[name]:.3f}" for name in lowest))
for statement in record.statements:
    print(f"{statement['verdict']}: {statement['text']}")
norm.reveal()

# %% [markdown]
# **Read the figure and the lines under it.** Where do *sumnorm* and the bare *polynomial* stand? A story that fits the idea
# is easily told before a measurement, and the measurement need not know it. That the matrix before the activation learns
# the size at which it bends well would be another story, and as untested as the first.
#
# And what the bare polynomial risks is not in this figure: two layers, 600 steps, clipped gradients, float32. Notebook 02
# shows what happens to it with larger rows, notebook 08 in half precision.
#
# ### What you have now
#
# - Where the norm stands decides what the size of the input can do. That this decides the loss is another claim.
# - A family of compositions asked all at once has to pay for each question. Lowest mean and *different* are two things.
#
# ## 5 · Widths, and what a curve promises
#
# Every comparison so far had one size. Would its outcome hold at ten times the size? The usual answer is a **power law**:
# train a few sizes, fit, extrapolate. To see what such a fit is worth one needs losses whose law is *known*. So here the
# law is ours: a floor of 1, and above it $0.5\,(s/s_0)^{-0.3}$, with seeds that scatter by 2 % of what is above the floor.

# %% exercise="power_law"

# %%
import torch

from minipolycom.viz.widgets import guess_number

sizes = torch.logspace(5, 6, 4, dtype=torch.float64)
generator = torch.Generator().manual_seed(1)
law = 1 + 0.5 * (sizes / sizes[0]) ** -0.3
losses = 1 + (law - 1) * (1 + 0.02 * torch.randn(3, 4, dtype=torch.float64, generator=generator))
for size, of_size in zip(sizes.tolist(), losses.T.tolist(), strict=True):
    print(f"{size:9,.0f} parameters: " + ", ".join(f"{loss:.3f}" for loss in of_size))
floor_guess = guess_number("Three seeds, each with a fitted floor: how far apart will the floors be?", "nats", 0, 1.5)
floor_guess

# %%
import torch

from minipolycom.learn import reference

floors = torch.linspace(0.0, float(losses.min()) - 0.005, 400, dtype=torch.float64)
fits = [reference("power_law")(sizes, own, floors) for own in losses]
for seed, (floor, scale, exponent) in enumerate(torch.stack(fits).tolist()):
    print(f"seed {seed}: floor {floor:.2f}, scale {scale:.2f}, exponent {exponent:.2f}   (the truth: 1, 0.5, 0.3)")
known = [float(reference("power_law")(sizes, own, torch.ones(1).double())[2]) for own in losses]
print("with the floor known, the exponents are", ", ".join(f"{value:.3f}" for value in known))
floor_guess.compare(max(float(fit[0]) for fit in fits) - min(float(fit[0]) for fit in fits))

# %% [markdown]
# The sizes span a factor of ten and the seeds scatter by 2 %, and still the floor of a fit is nearly free (0 is the lowest
# that was tried): a higher floor takes a steeper law, and goes through the same points. With a **known floor** that freedom
# is gone, as the last line shows. On the language of notebook 05 it is known.

# %% exercise="promise"

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import ablations, figures

beyond = torch.logspace(5, 8, 40, dtype=torch.float64)
known = torch.stack([reference("promise")(sizes, losses, 1.0, float(size)) for size in beyond])
laws = {"truth": 1 + 0.5 * (beyond / sizes[0]) ** -0.3, "floor known": known[:, 0]}
for seed, (floor, scale, exponent) in enumerate(torch.stack(fits).tolist()):
    laws[f"floor fitted, seed {seed}"] = floor + scale * (beyond / sizes[0]) ** -exponent
bands = {"floor known": (known[:, 1], known[:, 2])}
figures.show(ablations.promises(sizes, losses, beyond, laws, "What four sizes promise of larger ones", bands))
for at in (len(beyond) * 2 // 3, -1):
    apart_there = [float(curve[at]) for name, curve in laws.items() if "fitted" in name]
    low, high = known[at, 1:].tolist()
    print(f"at {float(beyond[at]):,.0f}: floor known {low:.3f} to {high:.3f};", end=" ")
    print(f"floor fitted, from {min(apart_there):.3f} to {max(apart_there):.3f}; truth {float(laws['truth'][at]):.3f}")

# %% [markdown]
# **Read the figure.** On the left of the dashed line, where models were trained, all laws are one. On the right, with the
# floor fitted, each seed has a future of its own. With the floor known the band is narrow, and it still says nothing of what
# the law does not know: a learning rate that stops fitting, data that run out, a law that bends.
#
# Now the record: SwiGLU and PolyNorm at four widths, 300 steps each, on the language of known entropy, where neither need
# be in front (notebook 05).
#
# ### What the record says of widths

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz import figures
from minipolycom.viz.studies import scaling

record = recorded("scaling")
figures.show(scaling(record))
for statement in record.statements:
    print(f"{statement['verdict']}: {statement['text']}")
for arm in ("swiglu", "polynorm"):
    chosen = [(group.split(", ")[2], of) for group, of in record.rates.items() if group.startswith(arm)]
    told = [f"{width}: {of['rate']:g}{' (edge of the grid)' * of['edge']}" for width, of in chosen]
    print(f"learning rates of {arm}, {', '.join(told)}")

# %% [markdown]
# **Read the figure and the lines under it.** Marks are means over the seeds, with their range; the exponents in the legend
# have an interval, from seeds drawn again and again with replacement. Is one of them steeper, and by more than the intervals are wide? Then the rates:
# narrow models were best with other ones than wide models. One rate for all sizes would have bent both lines, and a rate at
# the edge of its grid, if one is marked, may still do so.
#
# Two lines so near each other are read as differences, size by size, and then as promises.

# %%
from minipolycom.learn import reference
from minipolycom.studies.ablations import apart, ladder, losses_by_width, says
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.statistics import mean_interval
from minipolycom.viz import ablations

by_width = losses_by_width(record.rows)
differences = {f"width {width}": apart(own, "polynorm", "swiglu") for width, own in by_width.items()}
found = {width: mean_interval(values) for width, values in differences.items()}
intervals = {width: (of.estimate, of.low, of.high) for width, of in found.items()}
title, apart_by = f"PolyNorm minus SwiGLU, {len(record.seeds)} seeds", "difference in loss, with its 95 % interval"
figures.show(ablations.margins(intervals, says(differences), ALIKE, title, apart_by))
ends = []
for arm in ("swiglu", "polynorm"):
    sizes, above = ladder(record, arm)
    for size in (float(sizes[-1]), 10 * float(sizes[-1])):
        middle, low, high = reference("promise")(sizes, above, 0.0, size).tolist()
        print(f"{arm:8} at {size:10,.0f} parameters: {middle:.3f} above the floor, from {low:.3f} to {high:.3f}")
    ends.append((low, high))
overlap = max(low for low, _ in ends) < min(high for _, high in ends)
print(f"at ten times the size the two intervals {'overlap' if overlap else 'lie apart'}")

# %% [markdown]
# **Read the figure and the lines under it.** Does the difference go one way as the width grows? For the largest trained size
# the lines say what the *law* has there; the mark in the figure before says what was found. At ten times that size, two
# intervals that overlap promise neither arm a lead. The control that would settle it is the larger size itself, and that
# costs money.
#
# ### What you have now
#
# - Floor and exponent trade against each other; four sizes do not separate them.
# - An interval over seeds holds the seeds' error alone.
#
# ## 6 · Your activation
#
# Now the other way round: not which of these, but one of yours. Here is one to begin with, and it is yours to change. The
# exercise on starts has the idea in it: PolyNorm's first and third term say nearly the same of a normal row. Take
# polynomials that do not.

# %% exercise="hermite_norm"

# %% exercise="gradient_error"

# %%
import torch

from minipolycom.learn import reference

generator = torch.Generator().manual_seed(0)
x, v, weights = torch.randn(3, 64, dtype=torch.float64, generator=generator)
coefficients, no_bias = torch.full((3,), 3**-0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)


def size_held(x, weight, bias):
    """The slip: a row is divided by its size, and the gradient does not know."""
    u = x * (x.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt().detach()
    return weight[0] * (u**3 - 3 * u) / 6**0.5 + weight[1] * (u**2 - 1) / 2**0.5 + weight[2] * u + bias


for name, function in {"hermite_norm": reference("hermite_norm"), "with a .detach() in it": size_held}.items():

    def weighted(row, function=function):
        return (weights * function(row, coefficients, no_bias)).sum()

    error = reference("gradient_error")(weighted, x, v, 1e-5)
    print(f"{name:22} value {float(weighted(x)):.12f}, error of the gradient along a direction: {float(error):.1e}")

# %% [markdown]
# The two have the same *values*. Only the gradient of the second is wrong, and only a check of the gradient sees it. It
# would train all the same, and whatever came out would be said of the idea.
#
# ### Two entries
#
# One line registers an activation. `Learnt` is a module with your function, the coefficients at which it starts, and a
# bias. The **placebo** is PolyNorm of three times the row, which is PolyNorm (notebook 02: it cannot see the size), so that
# nothing but rounding is different.

# %%
from functools import partial

from minipolycom.activations import ACTIVATIONS
from minipolycom.fused import polynorm  # PolyNorm with a backward pass of its own (notebook 08), twice as fast
from minipolycom.learn import reference
from minipolycom.studies.ablations import Learnt, start_of


def mine(x, weight, bias):
    """Change me: rows in, rows out. What differs from the line before is another activation, and is trained anew."""
    return reference("hermite_norm")(x, weight, bias)


def placebo(x, weight, bias):
    """PolyNorm, which cannot see that its row is three times as large."""
    return polynorm(3 * x, weight, bias)


ACTIVATIONS["mine"] = partial(Learnt, mine, (3**-0.5, 3**-0.5, 3**-0.5))
ACTIVATIONS["placebo"] = partial(Learnt, placebo, (1 / 3, 1 / 3, 1 / 3))
for name in ("polynorm", "placebo", "mine"):
    x, y = start_of(name)
    print(f"{name:9} bend {float(reference('bend')(x, y)):.3f}, mean square {float(y.square().mean()):.3f}")

# %%
from minipolycom.viz.widgets import choose

verdict = choose(
    "Terms that are not related, a start that keeps the mean square: what will three seeds say, beside PolyNorm?",
    {
        "different, and lower": "Each coefficient has a job of its own. Whether that is worth anything is open.",
        "different, and higher": "The constant inside the square and the single norm are new, and the rate is PolyNorm's.",
        "undecided": "The same powers in another basis. The recorded differences of that kind are small, and three seeds few.",
        "alike": "It would have to lie within 0.01 with every likely mean. Section 2 says how rare that is with three seeds.",
    },
    right="undecided",
)
verdict

# %% [markdown]
# The protocol is that of the record: its text, model, 600 steps, and three seeds, so that each of your runs has a recorded
# one with the same initial matrices and the same batches. One thing is cheaper, and it is not to your advantage: both
# entries get **PolyNorm's learning rate**. That is the placebo's own, and a guess for yours; with `rate=None` three rates
# are tried on a seed that is used for nothing else, as in the record, and it takes three trainings more.
#
# Each training that is finished is kept, and one that is stopped (■) goes on from its last step when the cell is run again.

# %% cost="own_activation"
from IPython.display import HTML, display

from minipolycom.learn import cost, tier
from minipolycom.studies.ablations import enter, losses_of, recorded_losses
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.records import recorded
from minipolycom.viz import ablations, figures
from minipolycom.viz.widgets import live_figure

cost("own_activation")
rate, rows = recorded("order").rates["polynorm, stdlib"]["rate"], []


def board():
    yours, everyone = losses_of(rows), recorded_losses()
    chosen = {name: everyone[name] for name in ("polynorm", "polyrelu", "swiglu", "gelu", "relu")}
    return ablations.arms(chosen | yours, "Yours beside the record", baseline="polynorm", margin=ALIKE, own=yours)


def show(row):
    rows.append(row)
    live.update(board())
    print(f"{row['arm']}, seed {row['seed']}: {row.get('loss', float('nan')):.4f}, {row['seconds']:.0f} s of training")


live = live_figure(board())
display(live.widget)
for name in ("placebo", "mine"):
    enter(name, tier().name, rate=rate, on_row=show)
display(HTML(figures.fold(board())))

# %%
from minipolycom.learn import tier
from minipolycom.studies.ablations import apart, entered, losses_of, recorded_losses, says
from minipolycom.studies.catalogue import ALIKE
from minipolycom.studies.statistics import mean_interval
from minipolycom.viz import ablations, figures

yours = losses_of(entered())
everyone = recorded_losses() | yours
beside = [*sorted(yours, reverse=True), "polynorm, order 4", "polynorm, order 5", "polyrelu", "swiglu", "gelu", "relu"]
differences = {name: apart(everyone, name, "polynorm") for name in beside}
differences = {name: values for name, values in differences.items() if len(values) > 1}
found = {name: mean_interval(values) for name, values in differences.items()}
intervals = {name: (of.estimate, of.low, of.high) for name, of in found.items()}
own = {name: values for name, values in differences.items() if name in yours}  # asked before you looked: by themselves
said = says(differences) | says(own)
title, apart_by = "Minus PolyNorm, seed by seed", "difference in loss, with its 95 % interval"
figures.show(ablations.margins(intervals, said, ALIKE, title, apart_by, own=list(yours)))
print(f"placebo: {said.get('placebo', 'not trained')}. Yours: {said.get('mine', 'not trained')}.")
if tier().name == "smoke":
    print("At the smoke tier the trainings have a few steps on another text: these verdicts mean nothing.")
verdict.reveal()

# %% [markdown]
# **Read the figure**, your own names in bold, **the placebo first**. Its differences are what rounding and your machine do to
# a training in 600 steps: two runs with one seed and no difference. The width of its interval is a length to measure the
# others by. If it said *different*, nothing else in the figure could be believed.
#
# Then yours. (The prediction's answer is that of the function as it stands here, on our machine; your runs decide.) In ours it
# had the lowest mean of the whole board, and owed it to two of the three seeds: that is what *undecided* looks like from
# near, and a single run of either of the two would have made a headline. Whatever yours says, it was one idea, on one text,
# at one size, at PolyNorm's rate, and each further idea that you try raises the bar (the luckiest of several, notebook 13).
#
# ### One number before training, against every arm
#
# Last, the promise of section 1: does the bend before training say what an activation is worth?

# %%
from scipy.stats import spearmanr

from minipolycom.learn import reference
from minipolycom.studies.ablations import drawable, entered, losses_of, recorded_losses, start_of
from minipolycom.viz import ablations, figures

yours = losses_of(entered())
everyone = recorded_losses() | yours
points = {}
for name, own in everyone.items():
    if drawable(name):  # gates take two rows
        points[name] = (float(reference("bend")(*start_of(name))), sum(own.values()) / len(own))
lines = [name for name, (bent, _) in points.items() if bent < 0.01]
title = "Bend before training, and loss after it"
bent = {name: point for name, point in points.items() if name not in lines and name not in yours}
groups = {"a line before training": {name: points[name] for name in lines}, "bent": bent}
groups["yours"] = {name: points[name] for name in yours}
figures.show(ablations.against_loss(groups, "bend before training", title))
correlation = spearmanr(*zip(*bent.values(), strict=True)).statistic
print(f"no bend at all: {', '.join(lines)}")
print(f"among the {len(bent)} recorded that do bend, the rank correlation of bend and loss is {correlation:+.2f}")

# %% [markdown]
# **Read the figure.** Without a bend there is a price, and a high one. Among those that bend, look at the last line: a
# number near +1 or −1 would mean that more or less bend is better; what it is here you can see. To have *some* nonlinearity
# is needed. How much of it there is before training does not make a recipe.
#
# ### Your turn
#
# Change `mine`, and write the prediction next to it first. A few that nobody has tried here:
#
# | activation | question |
# |---|---|
# | `hermite_norm` started at `(0, 0, 1)` | a line at the start, in a basis without relations: does it learn to bend sooner? |
# | `polynorm(torch.tanh(x), weight, bias)` | powers that cannot have outliers |
# | `polynorm(x, weight, bias) * torch.sigmoid(x)` | a gate that costs no third matrix |
# | `polynorm(x.abs() * x, weight, bias)` | powers 2, 4 and 6, the first and the last with their sign |
# | `polynorm(torch.relu(x), weight * weight.new_tensor([0, 0, 1]), bias)` | ReLU and a norm: is it the powers, or the norm? |
#
# ## Before you go
#
# <details>
# <summary>An ablation says "no significant difference (p = 0.4), so we removed it". What do you ask?</summary>
#
# How large a difference would have mattered, and whether one of that size is refuted. With few seeds p = 0.4 goes together
# with large differences.
#
# </details>
#
# <details>
# <summary>Five orders, ten pairs, the best order has p = 0.03 against the second. Is it the best?</summary>
#
# Ten pairs were looked at, and the best was chosen after looking. Adjusted for ten, 0.03 is 0.3.
#
# </details>
#
# <details>
# <summary>Why is PolyNorm of order 1 no activation, though x / rms(x) is not linear?</summary>
#
# It divides all entries of a row by one number, so that within the row it is a line. What is not linear is only the size of
# the row, one number in 512.
#
# </details>
#
# <details>
# <summary>Two power laws fit four sizes equally well. One has a floor of 1.0, the other of 1.2. Which promises more?</summary>
#
# The one with the lower floor, far out; it also has the smaller exponent. Nothing in the four sizes decides between them.
#
# </details>
#
# <details>
# <summary>Your activation has the right values and a wrong gradient. Which of our checks would have seen it?</summary>
#
# The gradient check alone. The values are right, the training runs, and the loss is plausible.
#
# </details>
#
# <details>
# <summary>The placebo's interval is −0.006 to 0.004, and your activation's −0.005 to 0.003. What do you write?</summary>
#
# That the two are not told apart from PolyNorm, and that differences of this size are what nothing at all makes.
#
# </details>
#
# **Paper map.** *Orders 3 and 4 converge alike* (section 2) and the comparison of four compositions (section 4): the verdicts
# of the recorded studies stand in the paper map and, with those of the starts and widths, in `course/RESULTS.md`. Reviewers of
# the paper asked for smaller models; section 5 has four sizes of ours.
#
# **Read on.** Z. Zhuo et al., *Polynomial composition activations*, ICLR 2025, section 4.3; D. Schuirmann, *A comparison of
# the two one-sided tests procedure*, 1987; D. Lakens, *Equivalence tests*, 2017; J. Kaplan et al., *Scaling laws for neural
# language models*, 2020, and J. Hoffmann et al., *Training compute-optimal large language models*, 2022, whose law has a
# floor; T. Besiroglu et al., *Chinchilla scaling: a replication attempt*, 2024 (on the intervals of such a fit).

# %%
from minipolycom.learn import progress_map

progress_map()
