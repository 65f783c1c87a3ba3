# %% [markdown] title="Collapse" minutes=90 hardware="2 CPU cores" prerequisites="00"
# **By the end you will have shown** that a network which is asked for nothing but the same output for two views of an image
# ends up seeing hardly anything, because agreement is largest where everything is put on whatever two views share most; that
# it ends in one point, or in a few directions if a last normalisation forbids the point; that the loss and the usual alarm
# do not see the second kind; and that the controls stand: views that share all alike, and a loss that also pushes other
# images away.
#
# On the way you will
#
# - **write** the loss, and find out what the laziest network does with it,
# - **derive** which direction outlives the others, and when none does,
# - **build** the effective rank, and catch its relatives being wrong about a case that you can count on your fingers,
# - **fold up** sixty-four dimensions under an alarm that says all is well,
# - **take** half of a gradient away, and find that nothing has happened.
#
# No label is used in any training here. All you need is notebook 00.

# %% setup=true

# %% [markdown]
# ## 1 · Two views of one picture
#
# Labels are dear, pictures are cheap. So learn from pictures alone: alter a picture in ways that leave its meaning as it is,
# twice, and ask the network to give both **views** the same output. What the two have in common is what the picture is
# about; what differs is what the network should learn to ignore.
#
# The pictures of this notebook are handwritten digits of 8 × 8 pixels that come with scikit-learn.

# %%
from minipolycom.ssl import ViewData
from minipolycom.viz import collapses, figures

data = ViewData("digits", batch_size=128)
data.setup()
batch = data.batch(0)
print(data.description)
first, second = (view[:8, 0] for view in batch.views)
figures.show(collapses.view_pairs(first, second, "Eight digits, each seen twice"))

# %% [markdown]
# **Read the figure.** The two views of a digit are turned, moved, scaled and slanted by chance; each has noise and other
# contrast, and in half of them a square is rubbed out. You still see the same digit twice. (No view is mirrored. Why would
# that be a bad idea for digits?)
#
# Shapes: a batch of $N$ images goes through an encoder, the network that is wanted in the end, and a **projector**, a
# small MLP behind it that is thrown away after training, and comes out as $N$ rows of $Z$ numbers, the **outputs**. For
# two views there are two such matrices, and row $n$ of both belongs to image $n$.

# %% exercise="alignment_loss"

# %% [markdown]
# The notebook goes on with the course's own version. What does a network that has learnt nothing make of it? Beside the
# positive pairs we ask about **wrong pairs**, for which the second view is that of another image.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.ssl import METHODS, NetworkConfig

torch.manual_seed(0)
untrained = METHODS["no_asymmetry"](NetworkConfig(), final_norm=False)
with torch.no_grad():
    first, second = (untrained.projector(untrained.encoder(view)) for view in batch.views)
alignment_loss_of = reference("alignment_loss")
print(f"outputs: {tuple(first.shape)}")
print(f"positive pairs: loss {alignment_loss_of(first, second):.3f}")
print(f"wrong pairs:    loss {alignment_loss_of(first, second.roll(1, dims=0)):.3f}")

# %% [markdown]
# Positive pairs agree better than wrong ones, already by the way a network is built: images that look alike get outputs that
# are alike. Training now pulls the positive pairs together. What happens to the wrong ones, the loss does not say.

# %%
from minipolycom.viz.widgets import choose

laziest = choose(
    "Gradient descent makes the loss of the positive pairs small, and nothing else is asked. What will the outputs be?",
    {
        "different for different digits": "That would be a perfect answer too: the loss is −1 for any outputs that "
        "agree in both views. But it is a hard one to reach, and nothing in the loss asks for it.",
        "different for different images, also of one digit": "Two images that are told apart in one view are easily "
        "confused in the next, where they are moved and slanted. That costs agreement.",
        "the same for every image": "A network that ignores its input agrees with itself perfectly. It is the "
        "shortest way down.",
    },
    right="the same for every image",
)
laziest

# %% [markdown]
# ### In two dimensions
#
# To see it, let the projector end in $Z = 2$ numbers, so that an output is a direction in the plane: a point on a circle.
# Three networks are trained, which begin with the same encoder:
#
# | | what is asked for | last layer |
# |---|---|---|
# | **free** | positive pairs agree | as it is |
# | **normalised** | positive pairs agree | a batch normalisation: both columns get mean 0 and variance 1 over the batch |
# | **pushed** | positive pairs agree, wrong pairs do not (SimCLR): the control | as it is |

# %% cost="two_dimensions"
from minipolycom.learn import cost
from minipolycom.ssl import SSLConfig, fit_ssl

steps = cost("two_dimensions").steps
variants = {
    "free": {"method": "no_asymmetry", "final_norm": False},
    "normalised": {"method": "no_asymmetry"},
    "pushed": {"method": "simclr"},
}
flat = {
    name: fit_ssl(data, SSLConfig(**variant, steps=steps), NetworkConfig(projection=2), name=name)
    for name, variant in variants.items()
}

# %% [markdown]
# Where do 150 test images go, before and after?

# %%
import torch
import torch.nn.functional as F

from minipolycom.viz import collapses, figures

shown = data.test_images(150).clean


@torch.no_grad()
def outputs(method):
    """Outputs of length one for the test images, normalised over them as a batch in training is."""
    method.train()
    return F.normalize(method.projector(method.encoder(shown)), dim=1)


moments = {
    name: {"before": outputs(run.train_config.make(run.network)), "after": outputs(run.method())}
    for name, run in flat.items()
}
figures.show(collapses.clouds(moments, "output 1", "output 2", "150 test images, before and after training"))
print(f"loss of the free network: {flat['free'].table('losses')[-1]['loss']:.4f}")
laziest.reveal()

# %% [markdown]
# **Read the figure.** Every output has length one, so every image lies on the circle; before training the images are spread
# around it. On the left, **free**, all of them end in *one point*: 150 images of ten digits, and the network gives one
# answer. That is **complete collapse**. The loss, which can go no lower than −1, could not be happier.
#
# In the middle is the usual cure: forbid it. The last layer subtracts the mean of the batch and divides by its spread, so
# each column is *made* to vary. The **normalised** network has not gone to one point; it could not. But most images crowd in
# one place and the others on the opposite side, along a line through the middle, so that the two numbers of an output say
# nearly the same thing. A plane has two dimensions, and not much more than one is in use. That is **dimensional collapse**.
#
# On the right the control, **pushed**: images all around the circle.
#
# One dimension of two is not much of a loss. In sixty-four it will be about sixty of them. But first: why?
#
# ### What you have now
#
# - Agreement of positive pairs is all that was asked for, and a constant gives it.
# - Normalising the last layer turns the point into something near a line.
# - Pushing wrong pairs apart prevents both. (It needs wrong pairs. The methods of the next notebooks do without.)
#
# ## 2 · What two views share most
#
# Strip everything away until it can be worked out on paper. An input has two numbers, $x_1$ and $x_2$, each of variance 1. A
# second view of it has $x'_1$ and $x'_2$. The first is **steady**: the two views of it have the correlation $\rho_1 = 0.9$.
# The second is **shaky**, $\rho_2 = 0.3$. The network has two weights, $z_k = w_k x_k$.
#
# And the loss? Once the squared distance of the two outputs, and once their cosine. Begin with the distance, because it can
# be solved by hand.

# %% exercise="surviving_modes"

# %% [markdown]
# For the cosine there is no such short solution, but the package can follow the flow numerically. (There, the cosine is that
# of the whole batch, $E[z \cdot z'] / \sqrt{E|z|^2\,E|z'|^2}$, with which the theory of this subject works; per row the
# formulas have no closed form.) Four panels: two losses, each with a steady and a shaky mode and, as the control of this
# section, with two modes that are **equally** steady.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.ssl.dynamics import flow, unfiltered
from minipolycom.viz import collapses, figures

times = torch.tensor([0.0, 1.0, 8.0])
start = torch.ones(2)
images = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
panels = {}
for said, rho in {"ρ = 0.9, 0.3": torch.tensor([0.9, 0.3]), "ρ = 0.6, 0.6": torch.tensor([0.6, 0.6])}.items():
    by_distance = [reference("surviving_modes")(start, rho, t) for t in times]
    by_cosine = flow(start, rho, unfiltered, 4 * times).float()
    for loss, spectra in (("distance", by_distance), ("cosine", by_cosine)):
        panels[f"{loss}, {said}"] = {
            moment: images * spectrum.sqrt()
            for moment, spectrum in zip(("first", "later", "last"), spectra, strict=True)
        }
figures.show(collapses.clouds(panels, "steady", "shaky", "What alignment makes of a round cloud"))

# %% [markdown]
# **Read the figure.** In the first panel the cloud shrinks. The shaky direction goes first, so on its way to a point the
# cloud is a line for a while; but it does end in the point. **Complete collapse.** In the second panel the loss is a cosine,
# which does not care for the size of outputs, so there is no shrinking. What is left is the first half of the story: the
# line. **Dimensional collapse.**
#
# In the control nothing is steadier than anything else. Under the distance the cloud shrinks and stays round; under the
# cosine it does not move at all.
#
# So the two collapses are one. Write down the *shares* $l_k / \sum_j l_j$ of your solution: of $l_k(t) = l_k(0)\, e^{-4(1 -
# \rho_k)t}$ the factor $e^{-4t}$ is common to all and drops out; what is left is $l_k(0)\,e^{4 \rho_k t}$. The cosine
# follows the same path by another clock:

# %%
rho = torch.tensor([0.9, 0.3])
for t in (0.5, 1.0, 2.0):
    distance = reference("surviving_modes")(start, rho, torch.tensor(t))
    cosine = flow(start, rho, unfiltered, torch.tensor([4 * t]))[0]
    print(f"share of the steady mode: {distance[0] / distance.sum():.4f} at t = {t:.1f} under the distance,", end=" ")
    print(
        f"{cosine[0] / cosine.sum():.4f} at t = {4 * t:.1f} under the cosine; sizes {distance.sum():.3f} and {cosine.sum():.3f}"
    )

# %% [markdown]
# ### It is not an accident
#
# Is this only the way that gradient descent happens to go? No. For outputs with the eigenvalues $l_k$ the cosine is
#
# $$\frac{E[z \cdot z']}{\sqrt{E|z|^2\,E|z'|^2}} = \frac{\sum_k \rho_k\, l_k}{\sum_k l_k},$$
#
# a weighted mean of the $\rho_k$. A mean is never larger than its largest member, and equal to it only if all the weight
# lies there. So **the most agreement is had by keeping nothing but the steadiest mode.** Dimensional collapse is no failure
# of the optimiser, it is the optimum. (And if all $\rho_k$ are equal, every spectrum is as good as any other. Hence the
# control.)
#
# Does a network trained in the usual way, on batches, by Adam, know about this? The next cell trains a square matrix on
# pairs of views with **sixty-four** modes. First with $\rho$ from 0.95 down to 0.30, then, as the control, with $\rho = 0.6$
# in all.

# %%
from minipolycom.viz.widgets import guess_number

survivors = guess_number(
    "Of the 64 modes, how many are in use after training with ρ from 0.95 to 0.30?", unit="modes", low=1, high=64
)
survivors

# %% cost="linear_sixty_four"
import torch

from minipolycom.learn import cost
from minipolycom.ssl.dynamics import train_linear
from minipolycom.viz import figures

steps = cost("linear_sixty_four").steps
views = {"ρ from 0.95 to 0.30": torch.linspace(0.95, 0.30, 64).tolist(), "control: ρ = 0.6 in all": [0.6] * 64}
linear = {name: train_linear(rho=rho, steps=steps, rows_every=max(1, steps // 40)) for name, rho in views.items()}
figures.show(
    figures.lines(
        {name: [row["effective_rank"] for row in rows] for name, rows in linear.items()},
        [row["step"] for row in linear["control: ρ = 0.6 in all"]],
        xlabel="optimizer steps",
        ylabel="modes in use (effective rank)",
        title="A matrix of 64 × 64 under alignment alone",
    )
)
survivors.compare(linear["ρ from 0.95 to 0.30"][-1]["effective_rank"])

# %% [markdown]
# **Read the figure.** Sixty-four modes, and a handful is left: the steadiest. The control gives some modes up in the first
# steps and wins them back.
#
# A handful, and not one, as the proof had it? The proof is about the cosine of the whole batch. The training, as all methods
# of this subject, takes the cosine of *each image's* two outputs, and then the mean. With one mode alone an output is a
# number, and of a number only the sign is left after dividing by its length. Signs are a coarse thing to agree in. How well
# do two views agree, image by image, if only the $k$ steadiest modes are kept?

# %%
generator = torch.Generator().manual_seed(0)
rho = torch.linspace(0.95, 0.30, 64)
shared, *noises = torch.randn(3, 20_000, 64, generator=generator)
one, other = (rho.sqrt() * shared + (1 - rho).sqrt() * noise for noise in noises)
for k in (1, 2, 3, 4, 6, 8, 16, 64):
    agreement = torch.cosine_similarity(one[:, :k], other[:, :k]).mean()
    print(f"{k:2d} modes: mean ρ {rho[:k].mean():.3f}, mean cosine of two views {agreement:.3f}")

# %% [markdown]
# The mean of $\rho$ falls from the first mode on; the cosine of rows rises up to four modes, and then falls as well. So it
# is still the optimum that training has found, and it lies at a handful of sixty-four. (By the same token equally steady
# modes are best kept all, because more of them make a finer angle. Hence the rising control.)
#
# The vertical axis of the figure has a name that we have not earned yet. How does one *count* directions that are used to
# different degrees?
#
# ### What you have now
#
# - Alignment multiplies what is steady and starves what is shaky.
# - With a loss that sees size, everything shrinks to a point. Take size away, by a cosine or by a normalisation, and the
#   line remains. The two collapses are the same force with and without its shrinking.
# - The control, equal steadiness, keeps its directions.
#
# ## 3 · Sixty-four dimensions
#
# Back to digits, and to outputs of $Z = 64$ numbers. Four networks and two seeds each: free, normalised, pushed, and one
# that we have not met. **SymSimSiam** is our version of the symmetric baseline that public summaries of the paper on the
# rank differential mechanism (notebook 00; *the rank difference paper* below) describe: the two outputs are aligned after
# the mean of the batch is taken from both, so that a constant gains nothing.
#
# Which of the four will still use many directions? Make up your mind while they train.

# %% cost="sixty_four" claim="symmetric-dimensional"
from minipolycom.learn import cost
from minipolycom.ssl import SSLConfig, ViewData, fit_ssl

steps = cost("sixty_four").steps
variants = {
    "free": {"method": "no_asymmetry", "final_norm": False},
    "normalised": {"method": "no_asymmetry"},
    "symsimsiam": {"method": "symsimsiam"},
    "pushed": {"method": "simclr"},
}
runs = {}
for seed in (0, 1):
    seen = ViewData("digits", batch_size=128, seed=seed)
    for name, variant in variants.items():
        config = SSLConfig(**variant, steps=steps, seed=seed, measure_every=5, probe_every=steps)
        runs[name, seed] = fit_ssl(seen, config, name=f"{name}, seed {seed}")
for seed in (0, 1):
    row = runs["symsimsiam", seed].summary()
    print(
        f"symsimsiam, seed {seed}: feature std {row['feature_std']:.2f}, {row['erank_projected']:.1f} of 64 directions in use"
    )

# %% [markdown]
# Sixty-four dimensions cannot be drawn, but sixty-four numbers can: one beside the other, as a line. Here are the outputs
# for twelve test images, a line for each. (The 64 places are sorted, in each panel by itself, so that a pattern that all
# images share becomes a smooth rise.)

# %%
from minipolycom.viz import collapses, figures

run = runs["normalised", 0]
drawn = {"before": outputs(run.train_config.make(run.network))}
drawn |= {name: outputs(runs[name, 0].method()) for name in variants}
figures.show(collapses.output_profiles(drawn, "Outputs of 64 numbers, a line for each of twelve test images"))

# %% [markdown]
# **Read the figure.**
#
# - **before**: a tangle. Every image has a line of its own.
# - **free**: twelve lines, and one to be seen. Complete collapse.
# - **normalised**: most lines are one and the same curve, and the others run against it, with some disorder. (The mean over
#   the batch is zero, so some have to.) Nearly a single direction, in which an image has little more than a sign.
# - **symsimsiam**: bands. Two or three such patterns, and each image has a sign in each of them.
# - **pushed**: still a tangle.
#
# ### How many directions is that?
#
# To count directions, ask how much of the outputs lies along each. For outputs $z$ of length one, let
#
# $$C = \frac1N \sum_n z_n z_n^\top \qquad (Z \times Z),$$
#
# which in the rank difference paper is called the **correlation matrix**; here no mean is taken off. Along its eigenvectors,
# outputs are uncorrelated, and the eigenvalue $l_k$ is the mean square of what lies along the $k$-th. Together they make
# $\sum_k l_k = 1$, the square of the length. So they are *shares*: $p_k = l_k$.

# %%
import numpy as np

from minipolycom.spectral import correlation_eigenvalues
from minipolycom.viz import figures

spectra = {name: correlation_eigenvalues(z, normalise=True, centre=False) for name, z in drawn.items()}
figures.show(
    figures.lines(
        {name: np.where(p > 1e-6, p, np.nan) for name, p in spectra.items()},
        range(1, 65),
        xlabel="direction, largest first",
        ylabel="share of all energy",
        title="How much of the outputs lies along each direction",
        log="y",
    )
)

# %% [markdown]
# **Read the figure.** Not one of the five has exactly one direction, or exactly 64. What lies along the last ones is small
# but never zero. Whoever counts the eigenvalues that are not zero counts to 64 every time. What should a better count do?
#
# 1. $R$ equal shares count as $R$.
# 2. Scale does not matter: only shares do.
# 3. A direction with a tiny share counts for next to nothing.
#
# You have met such a count. In notebook 00 the entropy of bytes was turned into "as hard as so many equally likely bytes".
# The same here: **as many as so many equally used directions.**
# (If you come from notebook 07, you have met the formula, on singular values of weights. Here it is earned, for eigenvalues;
# section 4 shows how much that changes.)

# %% exercise="rank_by_hand"

# %% exercise="effective_rank"

# %% [markdown]
# And now the five networks in one number each, with the course's own version, with both seeds.

# %%
from minipolycom.learn import reference

effective_rank_of = reference("effective_rank")
for name, p in spectra.items():
    other = [outputs(runs[name, 1].method())] if (name, 1) in runs else []
    ranks = [
        effective_rank_of(q) for q in (p, *(correlation_eigenvalues(z, normalise=True, centre=False) for z in other))
    ]
    print(f"{name:>10}: effective rank {' and '.join(f'{rank:.1f}' for rank in ranks)} of 64")

# %% [markdown]
# **Read the numbers.** They say what the tangles and the curves said. One thing is worth a second look: before any training,
# the effective rank is *higher* than after any of them, the control included. A random network keeps many directions, and
# has learnt nothing. A high rank is necessary for telling many things apart; it is not the same as having understood them.
#
# ### What you have now
#
# - A count of directions that you wrote yourself, in the same sense in which notebook 00 counted bytes.
# - Alignment alone in its symmetric form with a mean taken off: not constant, and two or three directions of 64.
#
# ## 4 · Alarms that do not ring
#
# Suppose that you had not looked. You train, and watch the numbers that everybody watches. The loss, of course. And since
# Chen and He (2021) a second one: the **feature std**.

# %% exercise="feature_std"

# %%
from minipolycom.viz import collapses, figures

watched = {
    name: {table: runs[name, 0].table(table) for table in ("losses", "ranks")}
    for name in ("free", "normalised", "symsimsiam")
}
figures.show(collapses.monitors(watched, "Three trainings that collapse, and what could be watched"))

# %% [markdown]
# **Read the figure** from left to right. The **loss** falls in all three, and furthest where the collapse is complete. It is
# the last thing to ask. The **feature std** sees complete collapse at once: it goes to 0. For the other two it stays near 1,
# *its highest value*, and says that outputs are spread evenly. The **effective rank** sees all three.
#
# (Its curve begins high, falls within a few dozen steps, and creeps on down. The early fall alone is no proof of collapse:
# methods that work have it too, and climb again.)
#
# ### Why it does not ring
#
# The feature std looks at columns, one by one. So try it on outputs that have *one* direction and nothing else, $z = \pm u$,
# and turn $u$ from one of the axes to the diagonal $(1, 1, \ldots, 1)/\sqrt{64}$:

# %%
import math

import torch

from minipolycom.learn import reference
from minipolycom.spectral import correlation_eigenvalues
from minipolycom.viz import figures

axis, diagonal = torch.eye(64)[0], torch.ones(64) / 8
sign = torch.tensor([1.0, -1.0]).repeat(50)[:, None]
turned = torch.linspace(0, 1, 21)
seen = {"feature std · √Z": [], "effective rank": []}
for part in turned:
    angle = part * math.acos(axis @ diagonal)
    across = diagonal - (diagonal @ axis) * axis
    direction = angle.cos() * axis + angle.sin() * across / across.norm()
    rows = sign * direction
    seen["feature std · √Z"].append(float(reference("feature_std")(rows)))
    seen["effective rank"].append(
        float(reference("effective_rank")(correlation_eigenvalues(rows, normalise=True, centre=False)))
    )
figures.show(
    figures.lines(
        seen,
        turned.tolist(),
        xlabel="u, from an axis (0) to the diagonal (1)",
        ylabel="what each measure says",
        title="One direction and nothing else, in 64 dimensions",
    )
)

# %% [markdown]
# **Read the figure.** These outputs are as collapsed as outputs with any difference can be, wherever $u$ points. The
# effective rank says 1 throughout. The feature std says anything from 0.125 to 1, depending on how $u$ lies to the *axes*,
# which mean nothing. On the diagonal it is 1, as for outputs that fill all dimensions. And a last normalisation, which gives
# every column the same variance, puts outputs of a single direction exactly there, but for signs.
#
# ### A case that you can count on your fingers
#
# So take a measure of rank. There are several, and the field calls more than one of them "the effective rank". Which one?
# Try them on data whose rank is known: $R$ directions of variance 1 in 64 dimensions, and on top of it all a little noise,
# of standard deviation 0.1, in every one of the 64. $R$ goes from 1 to 8. **RankMe** (Garrido et al., 2023) is the effective
# rank of *singular values* $s_k = \sqrt{N\,l_k}$ instead of eigenvalues.

# %%
from minipolycom.viz.widgets import choose

rising = choose(
    "The true rank rises from 1 to 8. What does RankMe do?",
    {
        "it rises by about 7": "It would without noise. But 56 directions of noise or more are there too, and roots make "
        "small numbers large.",
        "it stays near 64": "Nearly: it is far above 8. But it does not stay.",
        "it falls": "In singular values, noise of 0.1 in some 60 directions adds up to six times one signal of 1: at rank 1 "
        "nearly all the share is noise, evenly spread. Each further signal takes share away from it.",
    },
    right="it falls",
)
rising

# %%
from minipolycom.spectral import known_rank_table
from minipolycom.viz import figures

known = known_rank_table(range(1, 9), noise=0.1, seed=0)
names = {
    "rankme": "RankMe (singular values)",
    "erank_correlation": "effective rank (eigenvalues, rows of length one)",
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
    "rank": "the truth",
}
figures.show(
    figures.lines(
        {said: [row[name] for row in known] for name, said in names.items()},
        [row["rank"] for row in known],
        xlabel="true rank",
        ylabel="what each measure says",
        title="Known rank, noise of 0.1 in all of 64 dimensions",
        markers=True,
    )
)
first, last = known[0], known[-1]
print(f"RankMe:              {first['rankme']:.1f} -> {last['rankme']:.1f}")
print(f"effective rank:      {first['erank_correlation']:.1f} -> {last['erank_correlation']:.1f}")
print(f"participation ratio: {first['participation_ratio']:.1f} -> {last['participation_ratio']:.1f}")
rising.reveal()

# %% [markdown]
# **Read the figure.** The truth rises; RankMe *falls*, from the fifties to the thirties. The effective rank of eigenvalues
# is lower, but at rank 1 it is fooled as well, and falls before it rises: where an image has next to nothing in the one
# direction, its row is mostly noise, and dividing rows by their length blows that noise up. The **participation ratio**,
# $(\sum l)^2 / \sum l^2$, and the **stable rank**, $\sum l / l_1$, follow the truth.
#
# Is the participation ratio right, then, and the effective rank wrong? They ask different things. All four are counts of
# equal shares, and differ in how much a small share counts: most in RankMe, least in the stable rank. If the many small
# directions are noise, let them count for little. If they are the details that a later task will need, don't. **State
# which one a plot shows, and never compare two plots that show different ones.** In notebooks 10 to 13 ranks are
# effective ranks of eigenvalues, as in the rank difference paper (according to LDReg, Huang et al., 2024, appendix B). In
# those about language models, 07 and 14, they are of singular values, and say so.
#
# All of it on the four networks:

# %%
import pandas as pd
import torch

from minipolycom.learn import reference
from minipolycom.spectral import erank_correlation, participation_ratio, rankme, singular_values

rows = {}
for name in variants:
    z = outputs(runs[name, 0].method())
    rows[name] = {
        "loss": runs[name, 0].table("losses")[-1]["loss"],
        "feature std · √Z": float(reference("feature_std")(z)),
        "rank, counted": int(torch.linalg.matrix_rank(z)),
        "RankMe": float(rankme(z, eps=1e-7)),
        "effective rank": float(erank_correlation(z, normalise=True)),
        "participation ratio": float(participation_ratio(singular_values(z, centre=False))),
        "5-NN, altered test images": runs[name, 0].summary()["knn_augmented"],
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# **Read the table** down the columns. (The loss of the pushed network is another loss, and not comparable.) Loss and counted
# rank are blind. The feature std sees the first row alone. The three others tell the rows apart, each in its own units. The
# last column is what it is all about: the share of altered test images whose digit is the one of most of their five nearest
# training images, by the cosine of outputs. Guessing gives 0.10. The order is that of the ranks; but note how much is still
# there in one direction and a little disorder.
#
# ### What you have now
#
# - Three alarms: one that never rings, one that rings for complete collapse alone, one that rings for both.
# - A measure of rank is a choice of what small shares are worth. In noise, one that gives them much can fall as the truth
#   rises.
#
# ## 5 · What the last normalisation hides
#
# The normalised network did not collapse to a point. Or did it? Its last layer does this to every column $k$ of a batch:
#
# $$y_{nk} = \frac{x_{nk} - m_k}{\sqrt{v_k + 10^{-5}}},$$
#
# with the column's mean $m_k$ and variance $v_k$ over the $N$ images of the batch. In PyTorch it is `BatchNorm1d(Z,
# affine=False)`. Pack 500 outputs more and more tightly around one common vector, and ask the feature std, before and after
# that layer:

# %%
import torch
import torch.nn.functional as F

from minipolycom.learn import reference
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(0)
common, own = torch.randn(64, generator=generator), torch.randn(500, 64, generator=generator)
tightness = torch.logspace(0, -6, 25)
stds = {"before the last layer": [], "after the last layer": []}
for size in tightness:
    packed = common + size * own
    stds["before the last layer"].append(float(reference("feature_std")(packed)))
    stds["after the last layer"].append(
        float(reference("feature_std")(F.batch_norm(packed, None, None, training=True)))
    )
figures.show(
    figures.lines(
        stds,
        tightness.tolist(),
        xlabel="distance of an output from the common vector",
        ylabel="feature std · √Z",
        title="Outputs packed ever more tightly",
        log="xy",
    )
)

# %% [markdown]
# **Read the figure** from right to left. Before the last layer the outputs become the same for all images, to six digits,
# and the feature std says so. After it nothing has happened: the mean, which was all that was left, is taken off, and the
# last crumb of difference is blown up to full size. (Not even the $10^{-5}$ under the root helps, because the feature std
# divides rows by their length, whatever it is.)
#
# That was a made-up cloud. Now two trained networks: the free one, which collapsed completely, with such a layer put behind
# it afterwards; and the normalised one, in front of its last layer and behind it.

# %%
import pandas as pd
import torch
import torch.nn.functional as F

from minipolycom.learn import reference
from minipolycom.spectral import erank_correlation


@torch.no_grad()
def inside(method, layers):
    """What the projector's first layers make of the test images."""
    method.train()
    return method.projector.layers[:layers](method.encoder(shown))


collapsed, normalised = (runs[name, 0].method() for name in ("free", "normalised"))
places = {
    "free, at the output": inside(collapsed, None),
    "free, a normalisation appended": F.batch_norm(inside(collapsed, None), None, None, training=True),
    "normalised, before its last layer": inside(normalised, -1),
    "normalised, at the output": inside(normalised, None),
}
rows = {
    place: {
        "feature std · √Z": float(reference("feature_std")(z)),
        "effective rank": float(erank_correlation(z, normalise=True)),
    }
    for place, z in places.items()
}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# **Read the table.** The first two rows are one network, dead at its output. Put a normalisation behind it and not only is
# the feature std near 1 again: the *effective rank* rises as well: what is blown up are crumbs, and crumbs lie in many
# directions. No number that is computed behind such a layer can see complete collapse before it.
#
# The last two rows say what happens if the layer is there during training. In front of it the outputs do *not* collapse to a
# point: a constant is taken off again by the layer, so it earns nothing, and nothing pulls towards it. What goes on pulling
# is steadiness. The layer changes the end of training from the point to the line, and blinds the alarm that could have told
# you about the point.
#
# ### What you have now
#
# - A last normalisation removes the reason for complete collapse, and the sight of it.
# - It does nothing against dimensional collapse.
#
# ## 6 · Taking a gradient away
#
# The methods of the next notebooks, SimSiam and BYOL, do not collapse, and do without wrong pairs. One thing that they have
# in common is a **stop-gradient**: one of the two outputs is treated as a constant. It is natural to think that this is what
# saves them: if only one side moves, the two cannot run into each other's arms. Does it?

# %%
from minipolycom.viz.widgets import choose

alone = choose(
    "A stop-gradient on one side of each term and nothing else: one network for both views, no predictor. What changes?",
    {
        "it prevents collapse": "Each view is the constant in one term and moves in the other. Both still run towards "
        "each other, at half the speed.",
        "it makes collapse slower": "It does if the learning rate stays as it is. So would half the learning rate.",
        "it changes the size of the steps and nothing else": "Every weight gets exactly half of its gradient, always.",
    },
    right="it changes the size of the steps and nothing else",
)
alone

# %% exercise="stop_gradient"

# %% [markdown]
# If that is so, a stop-gradient with twice the learning rate must be the very same training, loss by loss. (The weight decay
# is halved in return: per step it takes off learning rate times decay.) In double precision, so that rounding does not blur
# the comparison:

# %% cost="stop_gradient_runs"
from minipolycom.learn import cost
from minipolycom.ssl import SSLConfig, fit_ssl

steps = cost("stop_gradient_runs").steps
shared = {"steps": steps, "measure_every": 4, "log_every": 4, "probe_every": steps, "precision": "64-true"}
stopping = {
    "both move": SSLConfig(method="no_asymmetry", learning_rate=0.05, weight_decay=5e-4, **shared),
    "stop-gradient": SSLConfig(method="no_predictor", learning_rate=0.05, weight_decay=5e-4, **shared),
    "stop-gradient, 2 × rate": SSLConfig(method="no_predictor", learning_rate=0.1, weight_decay=2.5e-4, **shared),
}
halved = {name: fit_ssl(data, config, name=name) for name, config in stopping.items()}

# %%
from minipolycom.viz import collapses, figures

figures.show(
    collapses.monitors(
        {name: {table: run.table(table) for table in ("losses", "ranks")} for name, run in halved.items()},
        "A stop-gradient and nothing else",
    )
)
both, twice = (halved[name].table("losses") for name in ("both move", "stop-gradient, 2 × rate"))
apart = max(abs(one["loss"] - other["loss"]) for one, other in zip(both, twice, strict=True))
print(f"largest difference of the two losses at any step: {apart:.1e}")
alone.reveal()

# %% [markdown]
# **Read the figure.** Two of the three lines lie on each other: to many digits, the two trainings are one. The third is the
# same training at half the speed. A stop-gradient alone has not kept anything from collapsing.
#
# So why does nobody leave it out? Because it is never alone. In SimSiam a small network, the predictor, stands on one side.
# Then the two sides are no longer the same, $D$ is no longer taken between equals, and your little proof breaks at "the same
# in both orders". Neither works without the other: that is for you to try.

# %% [markdown]
# ## 7 · Your turn
#
# The widget trains any method of the package, and shows where test images go (in their two leading directions), the ranks of
# the two sides of the loss, and their spectra. The line under the pictures says, too, how many digits are recognised: by five
# nearest neighbours, from the outputs, and by a *linear probe*, a linear classifier on what the encoder (the *backbone*) hands
# to the projector. It starts with `simsiam`. When it has ended:
#
# 1. take something away: `no_predictor`, then `no_stop_gradient`; press Start each time,
# 2. take both away (`no_asymmetry`), and set *last layer* to *does not*,
# 3. go back to `simsiam`, and take only its last normalisation away. Is it *that* which saves it from collapse?

# %% cost="collapse_explorer"
from minipolycom.learn import cost
from minipolycom.viz.widgets import collapse_explorer

explorer = collapse_explorer("digits", steps=cost("collapse_explorer").steps, batch_size=128)
explorer.start()
explorer

# %% [markdown]
# The next cell waits until the training has ended.

# %%
explorer.wait()
last = explorer.rows["ranks"][-1]
print(
    f"{explorer.name}: effective rank {last['erank_online']:.1f} on the predictor's side, {last['erank_target']:.1f} on the other"
)

# %% [markdown]
# **What to look for.** With `simsiam` the two curves of rank come apart, and the side with the predictor has the *smaller*
# rank. Where something is taken away they lie on each other, or nearly, and fall together. And the last normalisation is not
# what saves it. That is an observation about a handful of runs, no explanation. But it is the observation that a whole paper
# is about, and the next notebook starts from it.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A colleague shows you a training whose loss has reached −0.99 after one epoch. What do you ask for?</summary>
#
# For anything but the loss. The effective rank of the outputs first, then their feature std *before* any last normalisation.
#
# </details>
#
# <details>
# <summary>Views that are exact copies: ρ = 1 in every mode. Does alignment alone collapse?</summary>
#
# Nothing moves: any outputs agree with themselves, the loss is at its least from the beginning, and its gradient is zero. It
# is what augmentation takes away that starts the collapse.
#
# </details>
#
# <details>
# <summary>SymSimSiam takes the mean of the batch off before it aligns. Why is that not enough?</summary>
#
# It makes a constant worthless. It does not make a single direction worthless: outputs ±u have mean 0 and agree perfectly.
#
# </details>
#
# <details>
# <summary>The feature std of a network is 1.00. What do you know about its rank?</summary>
#
# That it is at least 1.
#
# </details>
#
# <details>
# <summary>RankMe of features rose from 35 to 53 after you changed something. Good news?</summary>
#
# Not by itself. In section 4 exactly this happened while the true rank went from 8 to 1.
#
# </details>
#
# <details>
# <summary>With Adam in the place of SGD: does a stop-gradient alone change even the size of the steps?</summary>
#
# No (but for Adam's small constant in the denominator). Adam divides a gradient by its own size, and the half drops out.
#
# </details>
#
# **Paper map.** Row *the symmetric baseline avoids complete collapse and collapses dimensionally*: scaled down (section 3).
#
# **Read on.** X. Chen and K. He, *Exploring simple Siamese representation learning*, 2021; L. Jing et al., *Understanding
# dimensional collapse in contrastive self-supervised learning*, 2022; O. Roy and M. Vetterli, *The effective rank*, 2007; Q.
# Garrido et al., *RankMe*, 2023; Z. Zhuo et al., *Towards a unified theoretical understanding of non-contrastive learning
# via rank differential mechanism*, 2023, from which the next notebooks start.

# %%
from minipolycom.learn import progress_map

progress_map()
