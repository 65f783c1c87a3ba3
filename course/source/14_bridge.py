# %% [markdown] title="The bridge" minutes=80 hardware="2 CPU cores" prerequisites="02, 07, 12"
# **By the end you will have shown** that the effective rank of a hidden layer can be given *any* value without changing one
# prediction of the model, so that rank by itself explains no loss. You will have changed the rank of an activation *and
# nothing else*, in training, by a rule for the verdict that you wrote before. And the controls: a random rotation, which
# leaves every rank as it is and ruins a trained model; and eight losses dealt out at random, which say how strong a
# correlation has to be to mean anything.
#
# Two papers meet here. One says that polynomial activations train better; their weights have the highest effective rank
# in its figure 6, as a reviewer reads it (PolyCom, ICLR 2025). The other says that methods without labels work because one
# branch has a higher rank than the other (RDM, ICLR 2023). Neither says that a *language model* is better the more rank its
# activation makes. It is the sentence that one would like to write after reading both. Notebook 07 has asked it of
# *weights*; here it is asked of what passes through them, and by experiment.
#
# On the way you will
#
# - **write** Spearman's correlation, and find out what chance makes of eight points,
# - **predict** the rank behind $x$, $x^2$, $x^3$ and PolyNorm from one line of algebra,
# - **write** a filter for a hidden layer, and the matrix that takes it back,
# - **decide** by a rule, and leave with a page of your own.
#
# "Rank" means the effective rank: a number between 1 and the width that says how many directions the rows of a layer, one
# for each token, really use (notebook 10 derives it). Here it is that of singular values, the mean row taken off, as in the
# recorded studies. After a restart run the set-up cell, and go on at the first cell of any section.

# %% setup=true

# %% [markdown]
# ## 1 · Rank and loss, side by side
#
# Eight activations in one small language model, recorded with the course. On the left, a line goes from the rank of what
# enters the activation (dot) to that of what leaves it (diamond), after training. The best loss is on top.

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz.widgets import choose

record = recorded("bridge")
loss_of = {(row["arm"], row["seed"]): row["loss"] for row in record.table("end") if row["phase"] == "main"}
last = {(row["arm"], row["seed"]): row for row in record.table("ranks")}  # rows come in the order of steps
ranks, losses = {}, {}
for (arm, seed), row in last.items():
    ranks.setdefault(arm, []).append((row["rank_in"], row["rank_out"]))
    losses.setdefault(arm, []).append(loss_of[arm, seed])

story = next(statement for statement in record.statements if "Spearman" in statement["text"])
seen, unseen = "yes, clearly", "no: there is nothing to be seen, or the opposite"
sign = choose(
    "Every activation raises the rank. Do those that raise it more have the lower loss?",
    {
        seen: "It would be the sentence that joins the two papers.",
        unseen: "The points on the right do not fall.",
        "yes, but only those without a gate": "A gate makes the layer narrower. The lines below leave those two out.",
    },
    right=seen if story["verdict"] == "holds" else unseen,
)
sign

# %%
from minipolycom.viz import bridge, figures

steps_made = max(row["step"] for row in last.values())
figures.show(bridge.beside_loss(ranks, losses, f"{len(ranks)} activations, {steps_made} steps"))
sign.reveal()

# %% [markdown]
# **Read the figure.** On the left all diamonds lie to the right of their dots: a nonlinearity makes rank. On the right the hypothesis asks
# for a cloud that falls. How nearly does it?

# %% exercise="spearman"

# %%
from statistics import fmean

import torch

from minipolycom.learn import reference

added = torch.tensor([fmean(behind - before for before, behind in ranks[arm]) for arm in ranks]).double()
mean_loss = torch.tensor([fmean(losses[arm]) for arm in ranks]).double()
observed = float(reference("spearman")(added, mean_loss))
gateless = [place for place, arm in enumerate(ranks) if arm not in ("swiglu", "geglu")]
print(f"Spearman's correlation of added rank with loss, {len(ranks)} activations: {observed:+.2f}")
print(f"the {len(gateless)} without a gate: {float(reference('spearman')(added[gateless], mean_loss[gateless])):+.2f}")
(by_seed,) = story["comparisons"]
print(
    f"seed by seed, as recorded: {by_seed['estimate']:+.2f}, 95 % from {by_seed['low']:+.2f} to {by_seed['high']:+.2f}"
)
print(f"{story['verdict']}: {story['text']}")

# %% [markdown]
# Is that number large? The last interval says how the correlation scatters from seed to seed. But seeds are not what there
# is too little of: the same eight activations stand in all of them. A sentence about *activations* has eight points,
# however many seeds there are.

# %% exercise="shuffled_interval"

# %%
from minipolycom.viz.widgets import guess_number

strong = guess_number(
    "Between which bounds, ±, do 95 % of the correlations of eight shuffled points lie?", "", 0.0, 1.0
)
strong

# %%
import itertools

import torch

from minipolycom.learn import reference
from minipolycom.viz import bridge, figures

orders = torch.tensor(list(itertools.permutations(range(len(ranks)))))  # all of them: 8! = 40320
low, high = reference("shuffled_interval")(added, mean_loss, orders).tolist()
places = added.argsort().argsort().double()
places = (places - places.mean()) / places.std(correction=0)
chance = (places[orders] * places).mean(dim=1)
figures.show(bridge.shuffled(chance, observed, (low, high)))
inside = "is inside it" if low <= observed <= high else "is outside"
print(f"chance: {low:+.2f} to {high:+.2f}; the recorded {observed:+.2f} {inside}")
print(f"±0.6 or more comes of {(chance.abs() >= 0.6).double().mean():.0%} of the deals")
strong.compare(high)

# %% [markdown]
# **Read the figure.** Chance alone makes correlations that one would call strong. Among eight points nothing weaker than the
# two bounds could stand out. So from a correlation between them follows neither "rank helps" nor "rank hurts": *looking at
# eight activations cannot answer the question*. Two other things are wrong with it, too:
#
# - Activations differ in more than the rank. A gate makes the hidden layer narrower; the norm in PolyNorm changes the size.
# - The ruler has an end. The record measures 256 tokens, so that no rank above 255 can be seen.

# %%
import torch

from minipolycom import effective_rank, singular_values

generator = torch.Generator().manual_seed(0)
for width, where in (
    (128, "into the activation: the rank of a width of 128"),
    (512, "out of it"),
    (344, "with a gate"),
):
    noise = torch.randn(256, width, generator=generator)
    if width == 128:
        noise = noise @ torch.randn(width, 512, generator=generator)  # what a matrix of 512 x 128 can pass on
    end = effective_rank(singular_values(noise, centre=True))
    print(f"pure noise of 256 tokens, {where}: {end:.0f}")

# %% [markdown]
# ### What you have now
#
# - Whether added rank and loss go together, eight activations cannot show, unless it were almost without exception.
# - To learn more, one has to know where rank comes from, and then change it *alone*.
#
# ## 2 · Where the rank comes from
#
# Rank is made out of products. (This section needs the set-up cell alone.)

# %% exercise="rank_after"

# %% [markdown]
# Check it by brute force: Gaussian inputs with 8 directions, 512 units with weights of their own. Count singular values that
# are not rounding, beside the monomials of each degree.

# %%
from math import comb

import torch

from minipolycom import polynorm, singular_values

generator = torch.Generator().manual_seed(0)
weights = torch.randn(512, 8, dtype=torch.float64, generator=generator)
x = torch.randn(1024, 8, dtype=torch.float64, generator=generator) @ weights.T
thirds, zero = torch.full((3,), 1 / 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
of_degree = [comb(8 + p - 1, p) for p in (1, 2, 3)]
for name, hidden, monomials in (
    ("x", x, of_degree[0]), ("x²", x**2, of_degree[1]), ("x³", x**3, of_degree[2]),
    ("x + x² + x³", x + x**2 + x**3, sum(of_degree)), ("PolyNorm", polynorm(x, thirds, zero, 0.0), sum(of_degree)),
    ("ReLU", x.relu(), "no end of"),
):  # fmt: skip
    sizes = singular_values(hidden, centre=False)
    found = int((sizes > 1e-9 * sizes[0]).sum())
    print(f"{name:>12}: {found:3d} independent directions, {monomials} monomials")
    assert found == (512 if name == "ReLU" else monomials)

# %% [markdown]
# The count is right, for PolyNorm as well: its norms scale rows and add no columns. And ReLU, no polynomial, fills
# all 512. (Notebook 01 has the extreme case, one input.)
#
# A direction that exists may still be tiny. The *effective* rank weighs them by size, and that can be computed, too.

# %% exercise="hidden_covariance"

# %%
from minipolycom.viz.widgets import choose

most = choose(
    "64 directions enter 256 units. Behind which function is the effective rank the highest?",
    {
        "x²": "It has the fewest new directions of the three. But nothing of it goes into the old ones.",
        "x³": "It has by far the most directions. Three fifths of its energy lie in the 64 old ones.",
        "PolyNorm": "A third of each power: the linear one is in it, twice if the cube's share is counted.",
        "ReLU": "It has all directions, with sizes that fall quickly.",
    },
    right="x²",
)
most

# %%
import torch

from minipolycom import effective_rank, polynorm, singular_values
from minipolycom.learn import reference
from minipolycom.viz import bridge, figures

units, widths = 256, (2, 4, 8, 16, 32, 64, 128)
third, zero = 1 / 3, torch.zeros(1)
functions = {
    "x": lambda x: x, "x²": torch.square, "x³": lambda x: x**3, "polynorm": lambda x: polynorm(x, thirds.float(), zero),
    "relu": torch.relu,
}  # fmt: skip
polynomials = {"x": (1, 0, 0), "x²": (0, 1, 0), "x³": (0, 0, 1), "polynorm": (third, third / 3**0.5, third / 15**0.5)}
predicted, measured = {}, {}
generator = torch.Generator().manual_seed(0)
for r in widths:
    weights = torch.nn.functional.normalize(torch.randn(units, r, generator=generator), dim=1)
    x = torch.randn(4096, r, generator=generator) @ weights.T
    for name, function in functions.items():
        found = effective_rank(singular_values(function(x), centre=True))
        measured.setdefault(name, []).append(float(found))
    for name, coefficients in polynomials.items():
        covariance = reference("hidden_covariance")((weights @ weights.T).double(), torch.tensor(coefficients).double())
        sizes = torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt()
        predicted.setdefault(name, []).append(float(effective_rank(sizes)))
figures.show(bridge.growth(widths, predicted, measured))
off = {name: [m / p - 1 for m, p in zip(measured[name], predicted[name], strict=True)] for name in polynomials}
print(f"powers, measured beside predicted: at most {max(abs(o) for p in ('x', 'x²', 'x³') for o in off[p]):.1%} off")
print("PolyNorm: " + ", ".join(f"{o:+.1%} at r = {r}" for r, o in zip(widths, off["polynorm"], strict=True)))
print(
    "ahead: " + ", ".join(f"{max(('x²', 'x³'), key=lambda p: measured[p][i])} at r = {r}" for i, r in enumerate(widths))
)
beside_relu = [p / q - 1 for p, q in zip(measured["polynorm"], measured["relu"], strict=True)]
print("PolyNorm beside ReLU: " + ", ".join(f"{b:+.1%} at r = {r}" for r, b in zip(widths, beside_relu, strict=True)))
most.reveal()

# %% [markdown]
# **Read the figure**, and the lines under it. Curves are your formula, marks are measured on 4096 tokens. Of the powers, the
# cube is ahead as long as directions are few: then those it makes are what counts. Later there is room for no more, and
# what counts is how little is left in the old ones. Then the *square* leads, which has no linear part.
#
# PolyNorm is no polynomial. The formula gives each power one fixed size, the root of its mean square (1, 3 and 15), and
# PolyNorm divides by that of the token's own row. A row's mean square is $|z|^2 / r$ in the mean over units, which varies
# from token to token by a share of $\sqrt{2/r}$. So the formula is off where directions are few, and the second line says
# from how many on it is as good as for the powers.
#
# The last line is the sober one. With two or four directions ReLU makes far more rank than PolyNorm, since it has no ceiling;
# with many they come out nearly alike. **For such inputs there is nothing special about a polynomial as a maker of rank.**
#
# What does such a rank consist of? Look at one spectrum, with 16 directions, before and behind.

# %%
import torch

from minipolycom import polynorm, singular_values
from minipolycom.learn import reference
from minipolycom.viz import figures

generator, third = torch.Generator().manual_seed(0), 1 / 3
weights = torch.nn.functional.normalize(torch.randn(256, 16, generator=generator), dim=1)
x = torch.randn(4096, 16, generator=generator) @ weights.T
fixed = torch.tensor([third, third / 3**0.5, third / 15**0.5]).double()
covariance = reference("hidden_covariance")((weights @ weights.T).double(), fixed)
spectra = {
    "x": singular_values(x, centre=True),
    "PolyNorm, your formula": torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).sqrt(),
    "polynorm": singular_values(polynorm(x, torch.full((3,), third), torch.zeros(1)), centre=True),
    "relu": singular_values(x.relu(), centre=True),
}
shown = {name: (sizes / sizes[0]).where(sizes > 1e-5 * sizes[0], torch.nan) for name, sizes in spectra.items()}
figures.show(
    figures.lines(shown, range(1, 257), "direction", "size / largest", "A spectrum before and behind", log="y")
)
for name in ("polynorm", "relu"):
    sizes = ", ".join(f"{shown[name][k - 1]:.3f} at {k}" for k in (16, 17, 18, 145, 155, 256))
    print(f"{name:>8}: {sizes}")

# %% [markdown]
# **Read the figure.** Sixteen old directions stay on top, and behind each function there is a step down to the new ones.
# These are many, so they make up most of the *effective* rank; they are small, so a network has to turn them up before they
# do anything. So far ReLU and a polynomial draw the same picture, and then they differ twice. ReLU has a seventeenth on top:
# how loud the token is, which PolyNorm divides out. And near direction $152 = 16 + 136$, the old ones and the squares, ReLU
# steps down once more: it is $x/2 + |x|/2$, and neither half has a cube in it.
#
# Now the controls. Where must nothing happen?

# %%
import torch

from minipolycom import effective_rank, polynorm, singular_values
from minipolycom.viz import bridge, figures


def rank(rows):
    """Effective rank of centred singular values."""
    return float(effective_rank(singular_values(rows, centre=True)))


generator = torch.Generator().manual_seed(1)
thirds, zero = torch.full((3,), 1 / 3), torch.zeros(1)
weights = torch.nn.functional.normalize(torch.randn(256, 16, generator=generator), dim=1)
x = torch.randn(4096, 16, generator=generator) @ weights.T
white = torch.randn(4096, 256, generator=generator)
rotation = torch.linalg.qr(torch.randn(256, 256, generator=generator)).Q
loud = torch.randn(4096, 2, generator=generator).square().sum(1, keepdim=True).rsqrt()  # a few rows are very loud
controls = {
    "rotation": (rank(x), rank(x @ rotation)),
    "linear map": (rank(x), rank(x @ (rotation * torch.linspace(0.1, 2, 256)))),
    "cube": (rank(x), rank(x**3)),
    "cube, loud rows": (rank(loud * x), rank((loud * x) ** 3)),
    "PolyNorm": (rank(x), rank(polynorm(x, thirds, zero))),
    "PolyNorm, loud rows": (rank(loud * x), rank(polynorm(loud * x, thirds, zero))),
    "cube, full rank": (rank(white), rank(white**3)),
    "PolyNorm, full rank": (rank(white), rank(polynorm(white, thirds, zero))),
}
figures.show(bridge.arrows(controls, "Rank before and behind, 16 directions in 256 units"))
for name in ("cube", "PolyNorm"):
    quiet, louder = controls[name][1], controls[f"{name}, loud rows"][1]
    print(f"{name:>8}: rank {quiet:.0f} behind it, {louder:.0f} with loud rows")

# %% [markdown]
# **Read the figure.**
#
# - A rotation changes nothing; a linear map can lower the rank and never raise it above 16.
# - Behind a full rank there is nothing to gain: the diamond stays, or falls back. So "it raises the rank" is as much a
#   statement about the *input* as about the activation.
# - **Loud rows.** Give each token a size of its own, with a few very large ones. The cube then sees hardly more than these
#   few tokens, and nearly all of the rank that it made is gone. PolyNorm does not see the size of a row: its diamond is
#   where it was before. Here is something in which it differs from a bare power, and it is the norm. (In our transformer,
#   as in the paper's, an RMSNorm stands before the feed-forward layer, so that rows come in at nearly one loudness. Do not
#   expect as much there.)
#
# ### What you have now
#
# - A power makes $\binom{r+p-1}{p}$ directions; how large they are follows from $\rho$, $\rho^2$, $\rho^3$.
# - With many directions PolyNorm makes about as much rank as ReLU, and it keeps that where tokens differ in size.
#
# ## 3 · Rank without any consequence
#
# So take one trained model and change the rank of its hidden rows. A small one: 2 layers of width 64, GELU, bytes of
# Python's library. (This section needs the set-up cell alone.)

# %% cost="one_small_model"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost

small_steps = cost("one_small_model").steps
text = TokenData("stdlib", context=64, batch_size=16)
shape = GPTConfig(activation="gelu", d_model=64, n_layers=2, n_heads=4, context=64)
settings = TrainConfig(
    steps=small_steps,
    warmup_steps=min(20, small_steps),
    learning_rate=8e-3,
    eval_every=small_steps,
    checkpoint_every=small_steps,
    record_every=0,
)
small = fit(
    text, shape, settings, name="gelu", out=f"runs/14_bridge/small, {small_steps} steps", progress=False
).model()

# %% exercise="reshaping_matrix"

# %% [markdown]
# Put it between the activation and the matrix `down` behind it, in both layers. The model was not trained for that. (The rank
# shown is the first layer's: what enters the second is no longer what it was.)

# %%
import torch

from minipolycom.evaluate import evaluate
from minipolycom.learn import reference, tier
from minipolycom.record import fixed_tokens
from minipolycom.reshaping import hidden_ranks, hidden_rows, inserted

windows = 4 if tier().name == "smoke" else 64
tokens = fixed_tokens(text, 256)  # 2048 of them
covariances = [torch.cov(rows.double().T) for rows in hidden_rows(small, tokens)]
turns = [torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(k))).Q for k in (0, 1)]
maps = {
    f"σ = {sigma}": [reference("reshaping_matrix")(covariance, sigma) for covariance in covariances]
    for sigma in (1, 0.5, 0, -0.5, -1)
}


def tested(name, matrices, absorb):
    """The name, the rank of the first layer and the loss of the model with these matrices in it."""
    changed = inserted(small, matrices, absorb=absorb)
    return name, hidden_ranks(changed, tokens)[0], evaluate(changed, text, windows=windows, progress=False)["loss"]


left_as_it_is = [tested(name, matrices, False) for name, matrices in maps.items()]
for name, found, loss in left_as_it_is:
    print(f"{name:>9}: rank {found:5.1f}, loss {loss:.3f}")

# %%
from minipolycom.viz.widgets import choose

turned_loss = choose(
    "Now a random rotation in the same place. It leaves the rank of the layer exactly as it is. And the loss?",
    {
        "it stays": "It would, if the loss depended on the spectrum alone.",
        "it rises, by less than under the filters": "The filters keep each direction where it was. A rotation does not.",
        "it rises far more than under any filter": "The matrix behind it reads from directions that are gone.",
    },
    right="it rises far more than under any filter",
)
turned_loss

# %% [markdown]
# Before you see it: a filter can be taken back.

# %% exercise="absorbed"

# %%
from minipolycom.viz import bridge, figures

taken_back = [tested(name, matrices, True) for name, matrices in maps.items()]
rotated = [tested("not turned", maps["σ = 0"], False), tested("turned", turns, False)]
groups = {
    "filter, nothing else": left_as_it_is,
    "filter, taken back by the next matrix": taken_back,
    "rotation": rotated,
}
figures.show(bridge.plane(groups, "One trained model, its rank changed", "effective rank of the first layer's rows"))
found, same = [rank for _, rank, _ in taken_back], [loss for *_, loss in taken_back]
print(
    f"taken back: ranks from {min(found):.0f} to {max(found):.0f} of 256, losses {max(same) - min(same):.0e} nats apart"
)
back = tested("turned and turned back", turns, True)
print(f"rotation, taken back: rank {back[1]:.1f}, loss {back[2]:.3f}")
assert max(same) - min(same) < 1e-6
turned_loss.reveal()

# %% [markdown]
# **Read the figure.** All four cases are there:
#
# - rank changed, loss changed: the filter alone;
# - **rank changed, loss the same, to rounding**: the filter, taken back. A straight line from one end of the scale to the
#   other;
# - rank the same, loss ruined: the rotation. By the curve of the filters one might have said "the model sits at its best
#   rank"; this control says that *any* map that the rest does not expect does harm, and this one the most;
# - nothing changed: the rotation, taken back.
#
# So two models with the same predictions, down to the last digit that is shown, may have any effective rank in their hidden
# layer. Whoever explains the loss of a *trained* model by that rank explains it by a choice of coordinates. (The number of
# directions that exist, section 2, is not such a choice: it stays.)
#
# "But no network has such a matrix there!" Then without one. ReLU lets a positive factor through: multiply what goes into a
# unit by $c$, and divide what the next matrix reads from it by $c$. Give each unit a factor of its own, in a plain model
# that was never trained.

# %%
import torch

from minipolycom import GPT, GPTConfig, TokenData, effective_rank, singular_values
from minipolycom.record import fixed_tokens
from minipolycom.reshaping import hidden_ranks

tokens = fixed_tokens(TokenData("stdlib", context=64, batch_size=16), 256)
plain = GPT(GPTConfig(activation="relu", d_model=64, n_layers=2, n_heads=4, context=64)).double().requires_grad_(False)
first = plain.blocks[0].feed_forward


def first_ranks():
    """Effective ranks of the first layer: of its hidden rows, and of its matrices."""
    up, down = (float(effective_rank(singular_values(w, centre=False))) for w in (first.up.weight, first.down.weight))
    return f"hidden rows {hidden_ranks(plain, tokens)[0]:.0f}, matrix up {up:.0f}, matrix down {down:.0f}"


before = plain(tokens)
print(f"as drawn:     {first_ranks()}")
for layer in (block.feed_forward for block in plain.blocks):
    factors = torch.randn(256, generator=torch.Generator().manual_seed(0)).double().mul(2).exp()
    layer.up.weight *= factors[:, None]
    layer.down.weight /= factors
print(f"with factors: {first_ranks()}")
difference = (plain(tokens) - before).abs().max()
print(f"largest difference of any output: {difference:.0e}")
assert difference < 1e-9

# %% [markdown]
# Matrices of the same shapes, the same function, other ranks, also those of *weights*, which notebook 07 looked at. (Other
# activations have less of this freedom; a filter that is folded in asks nothing of the activation.)
#
# ### What you have now
#
# - The effective rank of a hidden layer is no property of what the network computes.
# - What is left is *training*: gradient descent does see coordinates. Also in the other paper it is training that a
#   filter acts on. There is the question.
#
# ## 4 · One activation, its rank changed, from the first step
#
# Four arms. *gelu* is as it is. Two have your filter behind the activation, σ = −0.5 (rank raised) and +0.5 (lowered), made
# anew every 5 steps from the tokens of *earlier* batches: from its own, a token would learn a little of what comes after
# it. The fourth is the **control of section 3**, a fixed random rotation. All four can compute exactly the same functions.
# (This section needs the set-up cell alone.)
#
# The protocol is written before the run, so here it is:
#
# 1. Each arm has a learning rate of its own, the best of three, tried on a seed that is not used afterwards.
# 2. Three seeds; a seed fixes initial weights and batches. Losses are compared in pairs.
# 3. 95 % intervals of the differences, against two controls: *gelu*, and the rotation.
# 4. The verdict follows from these by a rule. You write it now.

# %% exercise="decide"

# %%
from minipolycom.viz.widgets import guess_number

hunch = guess_number(
    "The rotation changes neither a rank nor what can be computed. How far apart will its loss and plain GELU's end, in the "
    "mean?",
    "nats per token",
    0.0,
    0.2,
)
hunch

# %% cost="reshaped_trainings"
from functools import partial

import torch
from torch import nn

from minipolycom import ACTIVATIONS, GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost
from minipolycom.reshaping import Reshaped, Then

turn = torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(0))).Q
ACTIVATIONS["rank raised"] = partial(Reshaped, nn.GELU(), 256, -0.5)
ACTIVATIONS["rank lowered"] = partial(Reshaped, nn.GELU(), 256, 0.5)
ACTIVATIONS["rotation"] = partial(Then, nn.GELU(), turn)
arms = ("gelu", "rotation", "rank raised", "rank lowered")
steps = cost("reshaped_trainings").steps


def train(arm, rate, seed):
    """A run of an arm, or the one that lies in its folder already."""
    data = TokenData("stdlib", context=64, batch_size=16, seed=seed)
    model = GPTConfig(activation=arm, d_model=64, n_layers=2, n_heads=4, context=64)
    settings = TrainConfig(
        steps=steps, learning_rate=rate, warmup_steps=min(10, steps), seed=seed, eval_every=steps, eval_batches=32,
        checkpoint_every=steps, record_every=0,
    )  # fmt: skip
    folder = f"runs/14_bridge/{steps} steps, {arm}, {rate:g}, seed {seed}"
    return fit(data, model, settings, name=arm, out=folder, progress=False)


chosen, finished = {}, {}
for arm in arms:
    tried = {rate: train(arm, rate, 100).losses("val")[-1] for rate in (4e-3, 8e-3, 1.6e-2)}
    chosen[arm] = min(tried, key=tried.get)
    print(f"{arm}: " + ", ".join(f"{loss:.3f} at {rate:g}" for rate, loss in tried.items()), flush=True)
    finished[arm] = [train(arm, chosen[arm], seed) for seed in (0, 1, 2)]

# %%
from statistics import fmean

import torch

from minipolycom import TokenData
from minipolycom.learn import reference
from minipolycom.record import fixed_tokens
from minipolycom.reshaping import folded, hidden_ranks
from minipolycom.studies.statistics import student_interval
from minipolycom.viz import bridge, figures

tokens = fixed_tokens(TokenData("stdlib", context=64, batch_size=16), 256)
ends = {arm: [run.losses("val")[-1] for run in runs] for arm, runs in finished.items()}
seen_and_bare = {
    arm: [tuple(fmean(hidden_ranks(model, tokens)) for model in (run.model(), folded(run.model()))) for run in runs]
    for arm, runs in finished.items()
}
assert all(abs(seen - bare) < 1e-3 * seen for seen, bare in seen_and_bare["rotation"])  # a turn leaves every rank


def apart(arm, control):
    """The interval of the loss of an arm minus that of a control, in pairs of seeds."""
    return student_interval([own - other for own, other in zip(ends[arm], ends[control], strict=True)])


def bounds(arm):
    """The same against both controls, as low and high, shape (1, 2, 2)."""
    found = [apart(arm, control) for control in ("gelu", "rotation")]
    return torch.tensor([[[one.low, one.high] for one in found]])


beside = {arm: apart(arm, "gelu") for arm in arms if arm != "gelu"}
figures.show(bridge.trained(seen_and_bare, {arm: (found.low, found.high) for arm, found in beside.items()}, "gelu"))
words = {1.0: "holds", 0.0: "undecided", -1.0: "refuted"}
verdict = words[float(reference("decide")(bounds("rank raised"), bounds("rank lowered")))]
print(f"verdict by the rule: {verdict}")
for arm in ("rank raised", "rank lowered"):
    against = apart(arm, "rotation")
    print(f"{arm} minus rotation: {against.estimate:+.3f} ({against.low:+.3f} to {against.high:+.3f})")
hunch.compare(abs(beside["rotation"].estimate))

# %% [markdown]
# **Read the figure**, from left to right. (At the smoke tier it means nothing.)
#
# - **Did the filters do what they are for?** The blue diamonds are the rank that the next matrix sees. If they do not lie
#   apart, the experiment has not asked its question, and nothing further should be read.
# - **The rotation** can compute what *gelu* can, and its diamonds lie in its circles: no turn changes a rank. Whatever lies
#   between it and zero on the right is what a mere change of coordinates does. Plain gradient descent would not notice the
#   turn; Adam gives each weight a step of its own, and a turn mixes what it keeps apart.
# - **Raised and lowered**: on which side of zero, and is it *further* from zero than the rotation?
# - **The empty circles.** Fold the filter into the matrix behind it, as in section 3: the same predictions, the same loss,
#   and another rank. So even where the arm with the raised rank ends lowest, the finished network *is* one whose
#   activation has the rank of the circle. What it had more of is not rank, but a training that went through it.
#
# And what does such a training do? Let $D$ be `down`, and $G$ the gradient that it would get without a filter. Through one it
# gets $G W$. Folded, $D W$ then takes the step $-\eta\, G W^2$: along a direction of size $s$ the step is multiplied by
# $s^{2\sigma}$, up to a constant. With $\sigma < 0$ small directions are learnt faster. A filter that changes nothing that can
# be computed is a **preconditioner**. (So it is for plain gradient descent; Adam takes some of it back. And the start
# differs: it is $D W$ in the place of $D$.)
#
# That is what the two papers have in common when all is told. In RDM, too, the filter is a constant of the step that decides
# along which directions a gradient is large; the features that are kept are those *without* it.

# %%
wrong_way = {"rank raised": 1, "rank lowered": -1}
print("What stays open, for your numbers:")
for arm, direction in wrong_way.items():
    for control in ("gelu", "rotation"):
        found = apart(arm, control)
        if found.low <= 0 <= found.high:
            print(f"- {arm} minus {control} reaches over zero: {found.low:+.3f} to {found.high:+.3f}.")
        elif direction * found.estimate > 0:
            print(f"- {arm} minus {control} lies on the wrong side: {found.low:+.3f} to {found.high:+.3f}.")
if verdict != "holds":
    print("- Double the seeds for these comparisons alone, and say beforehand that you will.")
print("- Is it the rank, or the preconditioner? An optimizer that scales the gradient of down by s^(2 sigma), with no")
print("  filter in the network, would be the next control.")
edges = [arm for arm, rate in chosen.items() if rate in (4e-3, 1.6e-2)]
print(f"- Learning rates at the edge of the grid: {', '.join(edges) or 'none'}. At an edge the best was not found.")
print(f"- {steps} steps, {len(ends['gelu'])} seeds, one size, one activation, one text.")

# %% [markdown]
# ### What you have now
#
# - An activation whose rank is changed and nothing else, two controls, and a verdict by a rule.
# - A reason why a better loss under a raised rank would still not be "because of the rank".
#
# ## 5 · Your page
#
# A result that stands in a notebook is soon gone. Here is a page with your numbers in it; the cell writes it to
# `runs/14_bridge/my_bridge.md`, anew each time that it runs. Change the sentences in the cell: they are ours, and the claim
# should be one that you would defend. (It takes what section 4 has left.)

# %%
from pathlib import Path
from statistics import fmean

import torch
from IPython.display import Markdown, display

import minipolycom
from minipolycom.studies.writeup import write_up

page = write_up(
    "Does the rank behind an activation decide how a language model trains?",
    {
        "Claim": "Raising the effective rank of the hidden rows, and nothing else, trains to a lower loss; lowering it "
        "to a higher one; and both by more than a map that leaves the rank as it is.",
        "Protocol": [
            f"2 layers of width 64, GELU, {steps} steps of 16 windows of 64 bytes of Python's library, AdamW "
            f"(minipolycom {minipolycom.__version__}, torch {torch.__version__})",
            "a filter behind the activation, sigma -0.5 or +0.5, from the covariance of earlier batches",
            "controls: no filter; a fixed random rotation",
            f"a rate of its own for each arm, of three, on seed 100: {', '.join(f'{a} {r:g}' for a, r in chosen.items())}",
            "seeds 0, 1 and 2, compared in pairs; measured: validation loss after the last step, in nats per byte",
            "rank that the next matrix sees at the end, mean over layers and seeds: "
            + ", ".join(f"{arm} {fmean(seen for seen, _ in pairs):.0f}" for arm, pairs in seen_and_bare.items()),
        ],
        "Rule": "It holds if against both controls the interval with a raised rank lies below 0 and that with a lowered "
        "one above; it is refuted if against both controls one of them lies on the wrong side; else it is undecided.",
        "Result": {
            f"loss, {arm} minus {control}": apart(arm, control)
            for arm in ("rank raised", "rank lowered")
            for control in ("gelu", "rotation")
        },
        "Verdict": f"{verdict.capitalize()}, with {len(ends['gelu'])} seeds.",
        "What would refute it": "A training in which the rank is raised and the gradient of the next matrix is scaled "
        "back, and the loss does not fall; or another optimizer under which the order turns round.",
        "What this does not say": "Anything about trained models: their rank can be given any value without changing a "
        "prediction. Anything about larger models, longer trainings, other texts or other activations.",
    },
)
Path("runs/14_bridge/my_bridge.md").write_text(page, encoding="utf-8")
display(Markdown(page))

# %% [markdown]
# ### Three experiments that nobody has made here
#
# | change | question |
# |---|---|
# | σ = −1 and −0.25 in section 4, under new names | is the effect in proportion to the rank, or is there a best one? |
# | `nn.GELU()` → `PolyNorm()` inside `Reshaped` | does an activation that makes more rank by itself gain less from a filter? |
# | fold after 100 steps, train on without a filter | is what the filter gave kept, or does it melt away? |
#
# Write your prediction on the page before you start.
#
# ## Before you go
#
# <details>
# <summary>Eight activations, a correlation of −0.6 between rank and loss. Is there a rank story?</summary>
#
# Not by that. Section 1 has printed how often chance alone makes ±0.6 of eight points. Nor would +0.6 be one against it.
#
# </details>
#
# <details>
# <summary>In section 2, let all weights have length 1. Then x + x² + x³ has 156 independent directions. Where are the other
# 8?</summary>
#
# With $\sum_i a_i^2 = 1$ the coefficient $a_k$ of $z_k$ equals $\sum_i a_k a_i^2$, a sum of coefficients of cubes. So the 8
# columns of degree 1 can be had from those of degree 3. (Try it: `torch.nn.functional.normalize(weights, dim=1)`.)
#
# </details>
#
# <details>
# <summary>Why does a cube of many directions have a lower effective rank than a square?</summary>
#
# $x^3 = (x^3 - 3x) + 3x$: three fifths of its variance are linear, in the directions of the input. $x^2$ has none there.
#
# </details>
#
# <details>
# <summary>Somebody measures that a better model has hidden layers of higher effective rank. What is the first thing to ask?</summary>
#
# In which coordinates. The matrix behind the activation can take any filter back, so the same model has every rank.
#
# </details>
#
# <details>
# <summary>Why is the filter made from earlier batches, and not from its own?</summary>
#
# Its own batch holds the tokens that are to be predicted. The covariance would carry a little of them to the tokens before.
#
# </details>
#
# <details>
# <summary>What is the rotation for, if it changes neither rank nor what can be computed?</summary>
#
# For exactly that. What it does to the loss is the effect of putting *something* there.
#
# </details>
#
# **Paper map.** No row: neither paper claims what was asked here. The record that section 1 reads is the study *bridge* in
# `course/RESULTS.md`; what our records say of the rank of *weights*, which PolyCom does show, stands there as the study
# *rank*.
#
# **Read on.** Z. Zhuo et al., *Polynomial composition activations*, ICLR 2025, and *Towards a unified theoretical understanding
# of non-contrastive learning via rank differential mechanism*, ICLR 2023; O. Roy and M. Vetterli, *The effective rank*, 2007;
# Q. Garrido et al., *RankMe*, 2023; B. Poole et al., *Exponential expressivity in deep neural networks through transient
# chaos*, 2016 (what a nonlinearity does to correlations, layer after layer); A. Daniely et al., *Toward deeper
# understanding of neural networks: the power of initialization and a dual view on expressivity*, 2016 (Hermite
# coefficients of activations). The set of all claims and where they are tested: `course/PAPER_MAP.md`.

# %%
from minipolycom.learn import progress_map

progress_map()
