# %% [markdown] title="Rank lens" minutes=80 hardware="2 CPU cores" prerequisites="05"
# **By the end you will have shown** that the effective rank of a feed-forward matrix says first of all how long it was
# trained, with which learning rate, and what shape it has, and only then which activation stood behind it; and that rank
# and loss fall together in one comparison, go opposite ways in another and their own ways in a third, so that the one
# does not explain the other. The controls: a matrix that nobody trained has a rank, too, and the law of large random
# matrices predicts it; one activation at three learning rates covers more ranks than eight activations do; and ranks
# dealt out to other activations say what luck can do.
#
# On the way you will
#
# - **write** three numbers that are all called rank, and find matrices about which they disagree,
# - **predict** the rank of a matrix that has learnt nothing, from its shape alone,
# - **train** six small models and look at two of them through the lens, at equal step and at equal loss,
# - **measure** a correlation within seeds, hold it against luck, and take a third thing out of it,
# - **judge** three claims about rank and likeness of layers, by the course's rule.

# %% setup=true

# %% [markdown]
# ## 1 · High at first
#
# A feed-forward layer has a matrix up and a matrix down. Take the singular values of each: how many directions does it
# really use? The **effective rank** answers with a number between 1 and its shorter side, here 128; you will write it in
# section 2. Five activations learn to predict Python's library.

# %%
from minipolycom.viz.widgets import choose

way = choose(
    "What does the effective rank of the feed-forward matrices do while the loss falls?",
    {
        "it rises": "What is learnt has to be put somewhere, but a matrix of random numbers uses nearly all directions "
        "already. There is little room above.",
        "it falls": "Each step adds to a few directions rather than to all alike. They become larger than the rest, and "
        "shares of singular values less equal.",
        "it rises with some activations and falls with others": "What they do to it alike is larger than what they do "
        "differently.",
    },
    right="it falls",
)
way

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

weights = {}
for row in recorded("rank").table("ranks"):
    weights.setdefault(row["arm"], {}).setdefault(row["seed"], {})[row["step"]] = row["weight_rank"]
figures.show(ranks.through_training(weights, "Effective rank of feed-forward matrices, 128 at most"))
for name, seeds in sorted(weights.items(), key=lambda item: -max(item[1][0].values())):
    last = [curve[max(curve)] for curve in seeds.values()]
    print(f"{name:9} starts at {seeds[0][0]:.1f}, ends between {min(last):.1f} and {max(last):.1f}")
way.reveal()

# %% [markdown]
# **Read the figure.** A line is the mean over layers, matrices and seeds, its band the range of the seeds. All fall, and
# in the end the five differ by little and their seeds by less.
#
# The PolyCom paper's figure 6 is said to show the highest ranks for PolyReLU and PolyNorm, and a reviewer reads off it
# that GELU and SwiGLU, which train better than ReLU, have a *lower* rank: so much for rank as an explanation. Before we
# ask our record for its opinion, two things in this figure have to be understood.
#
# - Look at the left edge. Not one step was made there, and one curve begins below the four others. Why? Section 3
#   predicts by how much, from the shapes and nothing else.
# - All curves fall. Then whoever is ahead at learning is ahead at falling, too. Section 4 takes care of that.
#
# ## 2 · Three rulers
#
# There is no one rank of a noisy matrix. (This section starts anew; all it needs is the set-up cell.)

# %% exercise="three_ranks"

# %% [markdown]
# Now change a matrix of independent normal numbers, and see which ruler notices: rotate it, multiply it by 1000,
# multiply one of its 512 rows by 10, or make its largest singular value three times as large and leave the other 127
# alone, a *spike*.

# %%
from minipolycom.viz.widgets import choose

spiked = choose(
    "The largest singular value becomes three times as large. Which rank keeps the smallest share of what it was?",
    {
        "effective rank": "It counts shares of s. One large s takes a share from the others, and leaves them equal.",
        "participation ratio": "It squares twice, so it falls a good deal. But one of the three measures everything in "
        "units of the largest.",
        "stable rank": "Its unit is the energy of the largest direction, and that has just been made nine times as "
        "large.",
        "all alike": "They agree on matrices of equal singular values. This is not one any more.",
    },
    right="stable rank",
)
spiked

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import figures

generator = torch.Generator().manual_seed(0)
noise = torch.randn(512, 128, dtype=torch.float64, generator=generator)
rotation = torch.linalg.qr(torch.randn(128, 128, dtype=torch.float64, generator=generator)).Q
left, values, right = torch.linalg.svd(noise, full_matrices=False)
spike = values[0] * torch.outer(left[:, 0], right[0])
one_row = torch.ones(512, 1, dtype=torch.float64)
one_row[0] = 10
hurt = {
    "as drawn": noise,
    "rotated": noise @ rotation,
    "times 1000": 1000 * noise,
    "one row times 10": one_row * noise,
    "with a spike": noise + 2 * spike,
}
for name, matrix in hurt.items():
    effective, participation, stable = reference("three_ranks")(matrix).tolist()
    print(
        f"{name:>16}: effective rank {effective:6.2f}, participation ratio {participation:6.2f}, "
        f"stable rank {stable:6.2f}"
    )

sizes = torch.linspace(1, 8, 29)
found = torch.stack([reference("three_ranks")(noise + (float(size) - 1) * spike) for size in sizes])
share = found / found[0]
names = ("effective rank", "participation ratio", "stable rank")
figures.show(
    figures.lines(
        {name: share[:, place] for place, name in enumerate(names)},
        sizes,
        "largest singular value, times what it was",
        "share of the rank that is left",
        "One direction grows",
    )
)
spiked.reveal()

# %% [markdown]
# **Read the figure.** 127 of 128 directions have not changed at all. The effective rank says so, nearly; the stable
# rank says that one direction outweighs them all. Both are right, they answer different questions. One loud row is as
# good as a spike. A rotation and a factor change none of the three, which is the control: what they measure is the
# spectrum.
#
# Does it matter in practice? Train ReLU, SwiGLU and PolyNorm shortly, and ask who has the highest rank, by each ruler.

# %% cost="lens_runs"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost

steps = cost("lens_runs").steps
library = TokenData("stdlib", context=128, batch_size=16)
settings = TrainConfig(
    steps=steps, eval_every=max(4, steps // 6), checkpoint_every=steps, record_every=max(4, steps // 6)
)
trained = {}
for name in ("relu", "swiglu", "polynorm"):
    model = GPTConfig.preset("tiny", activation=name, vocab_size=library.tokenizer.vocab_size)
    folder = f"runs/07_rank_lens/{steps} steps/{name}"
    trained[name] = fit(library, model, settings, name=name, out=folder, progress=False)

# %%
from statistics import fmean

from minipolycom.spectral import weight_spectra
from minipolycom.viz import figures

RULERS = ("effective_rank", "participation_ratio", "stable_rank")
spectra = {name: weight_spectra(run.model()) for name, run in trained.items()}
measured = {
    name: {ruler: fmean(row[ruler] for row in rows if row["tensor"] != "gate") for ruler in RULERS}
    for name, rows in spectra.items()
}
shown = {}
for name, rows in spectra.items():
    values = next(row["singular_values"] for row in rows if (row["layer"], row["tensor"]) == (1, "down"))
    shown[name] = [value / values[0] for value in values]
places = list(range(1, 129))
figures.show(
    figures.lines(shown, places, "index", "singular value / largest", "Matrix down of the second layer, trained")
)
orders = {}
for ruler in RULERS:
    orders[ruler] = sorted(measured, key=lambda name: -measured[name][ruler])
    print(f"{ruler:>19}: " + ", ".join(f"{name} {measured[name][ruler]:.1f}" for name in orders[ruler]))
print(f"{len({tuple(order) for order in orders.values()})} different orders by three rulers")

# %% [markdown]
# **Read the figure.** Each curve has a head, a few large values that training has made, and a long slope that looks as
# noise does. The effective rank is mostly about the slope, the stable rank about the height of the head, and they need
# not put the three models in one order. So "has the highest rank" is a statement about a ruler. From here on it is the
# effective rank of singular values, the course's reading of the paper's figure (we have not seen its text).
#
# ### What you have now
#
# - Three rulers, of which the first sees the body of a spectrum and the last its head.
# - In trained models they need not agree on an order.
#
# ## 3 · The rank of chance
#
# Most of a trained spectrum looks like noise. So what is the rank of noise? Not the full one: random columns are not
# orthogonal. In large matrices it depends on the shape alone.

# %% exercise="chance_rank"

# %% [markdown]
# Compare the law with what nobody trained: the recorded starts of ReLU (512 x 128) and SwiGLU (341 x 128), and a matrix
# of coins, +½ and -½, which are not normal at all. And with what was trained.

# %%
from statistics import fmean

import torch

from minipolycom.learn import reference
from minipolycom.spectral import effective_rank, singular_values
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

WIDTH, HIDDEN = 128, {"relu": 512, "swiglu": 341, "polynorm": 512}
through = {}
for row in recorded("rank").table("ranks"):
    through.setdefault(row["arm"], {}).setdefault(row["step"], []).append(row["weight_rank"])
points = {}
for name in ("relu", "swiglu"):
    points[f"{name}, start"] = (WIDTH / HIDDEN[name], fmean(through[name][0]) / WIDTH)
coins = torch.randint(2, (160, 128), generator=torch.Generator().manual_seed(0)).double() - 0.5
points["coins, 160 x 128"] = (0.8, float(effective_rank(singular_values(coins, centre=False))) / 128)
for name in HIDDEN:
    points[f"{name}, end"] = (WIDTH / HIDDEN[name], fmean(through[name][max(through[name])]) / WIDTH)
ratios = torch.linspace(0.05, 0.95, 91, dtype=torch.float64)
law = reference("chance_rank")(ratios)
figures.show(ranks.chance_law(ratios.tolist(), law.tolist(), points, "The rank of a matrix that has learnt nothing"))
for name, (ratio, share) in points.items():
    chance = float(reference("chance_rank")(torch.tensor([ratio], dtype=torch.float64)))
    print(f"{name:>16}: {128 * share:7.2f} of 128, the law for its shape says {128 * chance:.2f}")

# %% [markdown]
# **Read the figure.** The law has no free number in it and lands on the starts of both shapes. It does not ask whether
# the entries are normal: coins will do. Trained matrices lie below it. The distance *below the curve* is what training
# has done; the distance to 128 is that and the shape.
#
# So the ruler favours tall matrices. The non-gated models of the paper have matrices of 8256 x 2048, and SwiGLU's are
# 5504 x 2048, so that the parameters are equal (as its code has it). What does the law say about those, untrained?

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz.widgets import guess_number

shapes = torch.tensor([2048 / 8256, 2048 / 5504], dtype=torch.float64)
tall, gated = (2048 * reference("chance_rank")(shapes)).tolist()
handicap = guess_number(
    "By how many percent is the rank of SwiGLU's matrices below that of ReLU's, in the paper's shapes, before "
    "training?",
    unit="%",
    low=0.0,
    high=10.0,
)
handicap

# %%
import torch

from minipolycom.learn import reference
from minipolycom.studies.records import recorded
from minipolycom.studies.statistics import student_interval
from minipolycom.viz import dynamics, figures

CHANCE = dict.fromkeys(("swiglu", "geglu"), 128 / 341)
dense = recorded("dense")


def kept(text, of_chance):
    """Effective rank of the weights at the end, {arm: {seed: percent}}, of 128 or of the rank of chance."""
    found = {}
    for row in dense.table("ranks"):
        if row["group"] == f"{row['arm']}, {text}":  # rows come by step: the last one stays
            ratio = torch.tensor([CHANCE.get(row["arm"], 128 / 512)], dtype=torch.float64)
            unit = 128 * float(reference("chance_rank")(ratio)) if of_chance else 128
            found.setdefault(row["arm"], {})[row["seed"]] = 100 * row["weight_rank"] / unit
    return found


panels = {}
for title, of_chance in {"of 128": False, "of the rank of chance": True}.items():
    own = kept("stdlib", of_chance)
    panels[title] = {
        arm: student_interval([value - own["relu"][seed] for seed, value in seeds.items()])
        for arm, seeds in own.items()
        if arm != "relu"
    }
figures.show(dynamics.intervals(panels, "rank minus ReLU's, %", "Rank of weights on Python's library, 95 %"))
print(f"of chance, in the paper's shapes: ReLU's {tall:.0f}, SwiGLU's {gated:.0f} of 2048")
places = {}
for title, lines in panels.items():
    order = sorted(lines, key=lambda arm: -lines[arm].estimate)
    print(f"{title}: " + ", ".join(f"{arm} {lines[arm].estimate:+.2f}" for arm in order))
    for place, arm in enumerate(order, start=1):
        places.setdefault(arm, []).append(place)
for arm in CHANCE:
    print(f"{arm}: place {places[arm][0]} of {len(places)} in dimensions, {places[arm][1]} in units of chance")
handicap.compare(100 * (1 - gated / tall))

# %% [markdown]
# **Read the figure.** Each activation after training minus ReLU with the same seed: on the left in percent of 128 (*in
# dimensions*), on the right in percent of what chance gives for its shape (*in units of chance*). Only the two gated ones
# move, for only they have another shape, and the last lines say by how many places. The way they move is the number that
# you guessed; set it beside the distances that are left to explain. "SwiGLU has a low rank" is a statement about a
# narrower matrix first. And look where squared ReLU stands: it is one term of PolyReLU.
#
# One caution. Weight decay shrinks the first noise and steps write over it, so the longer a training, the less of it is
# left. Most of our spectra still looks like noise; what the paper's look like, after many more tokens for each weight, we
# do not know.
#
# ### What you have now
#
# - The rank of chance: the zero point of this ruler, from the shape alone.
# - In its units two kinds of matrices can be compared; in dimensions they cannot.
#
# ## 4 · Equal step, equal loss
#
# Ranks fall while losses fall. Then the run that is ahead has the lower rank for that reason alone. The cure is to
# compare where losses are equal. (Start here if you like: this section needs the set-up cell alone.)

# %% exercise="rank_at_loss"

# %%
import torch

from minipolycom.learn import reference
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

study = recorded("rank")
by_run = {}
for table, column in (("curve", "loss"), ("ranks", "weight_rank")):
    for row in study.table(table):
        by_run.setdefault((row["arm"], row["seed"]), {}).setdefault(column, {})[row["step"]] = row[column]
paths = {}
for (arm, seed), run in by_run.items():
    if seed == study.seeds[0]:
        paths[arm] = [(run["weight_rank"][step], run["loss"][step]) for step in sorted(run["loss"]) if step > 0]
title = "Five runs, from the first recording on"
figures.show(ranks.plane({"one seed": paths}, ["effective rank of the weights"], title, joined=["one seed"]))
target = max(min(run["loss"].values()) for run in by_run.values())
for arm in paths:
    own = [run for (name, _), run in by_run.items() if name == arm]
    losses, rank = (
        torch.tensor([[run[column][step] for step in sorted(run[column])] for run in own], dtype=torch.float64)
        for column in ("loss", "weight_rank")
    )
    equal = reference("rank_at_loss")(losses, rank, target)
    print(f"{arm:9} at the last step {rank[:, -1].mean():.2f}, at the loss {target:.3f} first {equal.mean():.2f}")

# %% [markdown]
# **Read the figure.** Each run comes from the upper right. *Within* a run a lower rank goes with a lower loss: both
# follow the steps. That is the first correlation of this notebook that explains nothing, and it has the opposite sign
# of the one that people look for. Near the end the curves drop straight down. The learning rate is small by then: the
# loss still gains from that, and the matrices hardly move. So at equal loss the ranks are nearly those of the end; the
# lines say how nearly.
#
# Now the claim, by the course's rule for all its studies: intervals of paired differences, and p-values adjusted for
# all comparisons of the study.

# %% claim="weight-rank"
from minipolycom.viz import figures, studies

for number, statement in enumerate(study.statements):
    if statement["claim"] == "weight-rank":
        figures.show(studies.intervals(study, statement=number))
    if "weight_rank" in statement["comparisons"][0]["measure"] and statement["claim"] != "rank-is-not-loss":
        signs = [line["estimate"] > 0 for line in statement["comparisons"]]
        told = f"{sum(signs)} of {len(signs)} mean differences are positive"
        print(f"{statement['verdict']:>9}: {statement['text']} ({told})")

# %% [markdown]
# **Read the figure.** Which way each difference points, and how surely, for the pairs that the claim names. An interval
# may lie clear of zero and its line be undecided all the same: the adjustment is for everything that the study asks.
# It is a claim about ranks in dimensions, so that part of each difference to SwiGLU is the shape. Section 3 has them
# without it, on the right.
#
# ### What you have now
#
# - Within a run rank and loss fall together; that is training, and no explanation.
# - Equal loss is the fairer comparison; when the learning rate has run down, it is nearly the same one.
#
# ## 5 · What moves a rank
#
# If the rank of weights told activations apart, it should not care much about anything else. So keep the activation,
# PolyNorm, and change the learning rate. (Set-up cell and go.)

# %%
from minipolycom.viz.widgets import choose

by_rate = choose(
    "PolyNorm at the learning rates 0.001, 0.004 and 0.016. What happens to rank and loss as the rate grows?",
    {
        "rank falls, loss falls": "From the first to the second. The largest rate is too large for the loss, and the "
        "rank goes on falling.",
        "rank falls, loss falls and rises again": "Larger steps move the matrices farther from noise, whether that "
        "helps or not.",
        "rank stays, loss falls and rises again": "That would make rank a mark of the activation.",
        "rank rises, loss falls and rises again": "Larger steps add up to something of few directions, not of many.",
    },
    right="rank falls, loss falls and rises again",
)
by_rate

# %% cost="rank_at_rates"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost

steps = cost("rank_at_rates").steps
library = TokenData("stdlib", context=128, batch_size=16)
model = GPTConfig.preset("tiny", activation="polynorm", vocab_size=library.tokenizer.vocab_size)
at_rate = {}
for rate in (0.001, 0.004, 0.016):
    settings = TrainConfig(
        steps=steps,
        learning_rate=rate,
        eval_every=max(4, steps // 6),
        checkpoint_every=steps,
        record_every=max(4, steps // 6),
    )
    name = f"polynorm at {rate:g}"
    folder = f"runs/07_rank_lens/{steps} steps/{name}"
    at_rate[rate] = fit(library, model, settings, name=name, out=folder, progress=False)

# %%
from statistics import fmean

from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

yours = []
for run in at_rate.values():
    rows = [row for row in run.table("spectra") if row["tensor"] in ("up", "down")]
    last = max(row["step"] for row in rows)
    yours.append((fmean(row["effective_rank"] for row in rows if row["step"] == last), run.losses("val")[-1]))
dense = recorded("dense")
loss_at_end = {
    (row["arm"], row["seed"]): row["loss"]
    for row in dense.table("end")
    if (row["phase"], row["source"]) == ("main", "stdlib")
}
rank_at_end = {
    (row["arm"], row["seed"]): row["weight_rank"]
    for row in dense.table("ranks")
    if row["group"] == f"{row['arm']}, stdlib"
}
eight = {}
for (arm, seed), loss in loss_at_end.items():
    eight.setdefault(arm, []).append((rank_at_end[arm, seed], loss))
panels = {"yours: PolyNorm, three rates": {"polynorm": yours}, "the record: eight activations": eight}
plane = ranks.plane(panels, ["effective rank of the weights"] * 2, "One activation, and eight", joined=list(panels)[:1])
lowest = min(rank for pairs in (yours, *eight.values()) for rank, _ in pairs)
figures.show(plane.update_xaxes(range=[lowest - 2, 128]))
for rate, (rank, loss) in zip(at_rate, yours, strict=True):
    print(f"rate {rate:g}: rank {rank:.1f}, loss {loss:.3f}")
means = {arm: fmean(rank for rank, _ in pairs) for arm, pairs in eight.items()}
span = max(rank for rank, _ in yours) - min(rank for rank, _ in yours)
among = max(means.values()) - min(means.values())
print(f"one activation at three rates: {span:.1f}; eight activations: {among:.1f}")
by_rate.reveal()

# %% [markdown]
# **Read the figure.** Both panels have the same axes. On the left one activation wanders, and its best loss lies in the
# middle: a higher rank is worse, and a lower one is worse, too. On the right eight activations huddle in a corner. (The
# record's runs are four times as long, so their losses are lower.)
#
# This is an experiment and not a correlation: *you* moved the rank. The handle was a clumsy one, for a learning rate
# moves much besides. So it does not show that a rank does nothing. It does show that a higher rank need not bring a
# lower loss, and that two ranks can be compared only where the rates are equal.
#
# Look through the lens at the two outer runs, layer by layer:
#
# 1. `compared at`: equal step. Which matrix has lost more rank, up or down? Change `of`.
# 2. `rank`: the stable rank. Is the difference between the two runs larger or smaller in this ruler?
# 3. `compared at`: equal validation loss, and pull `at`. The two runs are then at different steps. Are their ranks equal
#    anywhere but at the start?

# %%
from minipolycom.viz.widgets import rank_lens

lens = rank_lens(at_rate[0.001], at_rate[0.016])
lens

# %% [markdown]
# <details>
# <summary>What you will have seen</summary>
#
# The matrix down loses more than the matrix up, in both runs. The stable rank differs by a larger factor, since what a
# large rate makes is a head. And equal loss need not make ranks equal: the two have come to it by different ways.
#
# </details>
#
# ### What you have now
#
# - Rank moved on purpose, by much, and the loss did not go along with it.
# - A confounder by name. Whoever compares ranks compares steps, unless the rates are equal.
#
# ## 6 · Does rank explain loss?
#
# What is left is a correlation among activations, all else being equal. On Python's library each chose its rate from a
# grid, and all chose nearly the same, as the cell will say; in units of chance the shapes are equal, too. Let the idea
# have its best chance. (This section needs the set-up cell alone.)

# %% exercise="within_seed_correlation"

# %%
from minipolycom.viz.widgets import guess_number

strength = guess_number(
    "Correlation of rank and loss among eight activations on Python's library, rank in units of chance?",
    unit="",
    low=-1.0,
    high=1.0,
)
strength

# %%
import torch

from minipolycom.learn import reference
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

dense = recorded("dense")
arms = list(dict.fromkeys(row["arm"] for row in dense.table("end")))
chance = {
    arm: 128 * reference("chance_rank")(torch.tensor([128 / (341 if arm in ("swiglu", "geglu") else 512)]).double())
    for arm in arms
}


def at_the_end(text, table, column):
    """A column at the end of each compared run, shape (seeds, activations)."""
    last = {(row["arm"], row["seed"]): row.get(column) for row in dense.table(table) if row["group"].endswith(text)}
    return torch.tensor([[last[arm, seed] for arm in arms] for seed in dense.seeds], dtype=torch.float64)


unit = torch.cat([chance[arm] for arm in arms])
loss, rank = at_the_end("stdlib", "end", "loss"), at_the_end("stdlib", "ranks", "weight_rank")
rulers = {"in dimensions": rank, "in units of chance": rank / unit}
panels = {
    kind: {arm: list(zip(of[:, at].tolist(), loss[:, at].tolist(), strict=True)) for at, arm in enumerate(arms)}
    for kind, of in rulers.items()
}
figures.show(ranks.plane(panels, ["effective rank", "share of the rank of chance"], "Python's library, all runs"))
for kind, of in rulers.items():
    print(f"{kind:>18}: r = {reference('within_seed_correlation')(of, loss):+.2f}")
print(f"learning rates: {', '.join(f'{rate:g}' for rate in at_the_end('stdlib', 'end', 'learning_rate').unique())}")
strength.compare(float(reference("within_seed_correlation")(rank / unit, loss)))

# %% [markdown]
# **Read the figure.** On the left two of the eight are measured with another ruler; on the right all are on one scale. A
# negative correlation there says that activations which keep more of the rank of chance have lower losses. A notebook
# that had wanted to show "rank is not loss" would have stopped one step earlier, and one that had wanted the contrary
# would stop here. But the cloud is two heaps more than a line, the plain activations and those with powers or a gate, and
# two heaps are one difference. And we chose the unit with this cloud in view. So ask two more things: what luck can do,
# and what another text says.
#
# Luck first: give each activation the ranks of another one, and correlate again. The activation is what is shuffled, in
# all seeds alike, for five runs of PolyNorm are five times PolyNorm, and no five activations.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import figures, ranks

generator = torch.Generator().manual_seed(0)
orders = [torch.randperm(len(arms), generator=generator) for _ in range(2000)]
shuffled = {}
for kind, of in rulers.items():
    found = float(reference("within_seed_correlation")(of, loss))
    luck = [float(reference("within_seed_correlation")(of[:, order], loss)) for order in orders]
    shuffled[kind] = found, luck
    larger = sum(abs(r) >= abs(found) for r in luck)
    # The order that was found is one of those that could have been.
    print(f"{kind:>18}: r = {found:+.2f}, as large by luck in {(1 + larger) / (1 + len(luck)):.1%} of shuffles")
figures.show(ranks.shuffled(shuffled, "Ranks dealt out to other activations"))

# %% [markdown]
# **Read the figure.** The grey bars are the **control**: the same ranks and the same losses, with the wrong partners.
# With eight activations luck alone makes correlations of 0.5 and more. Where the line stands outside of the bars, the
# correlation is not luck. Is it rank, then?
#
# Ask the second text, the generated grammar. There the eight chose more than one learning rate from the grid, and section
# 5 has shown what a rate does to a rank.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import figures, ranks

grammar_rates = at_the_end("grammar", "end", "learning_rate")
grammar_loss, share = at_the_end("grammar", "end", "loss"), at_the_end("grammar", "ranks", "weight_rank") / unit
panels = {}
for seed, at in torch.cartesian_prod(torch.arange(len(dense.seeds)), torch.arange(len(arms))).tolist():
    marks = panels.setdefault(f"rate {grammar_rates[seed, at]:g}", {})
    marks.setdefault(arms[at], []).append((float(share[seed, at]), float(grammar_loss[seed, at])))
panels = {title: panels[title] for title in sorted(panels, key=lambda title: float(title.split()[1]))}
plane = ranks.plane(panels, ["share of the rank of chance"] * len(panels), "The grammar, by the rate chosen")
figures.show(plane.update_xaxes(range=[float(share.min()) - 0.01, float(share.max()) + 0.01]))
for title, marks in panels.items():
    own = [of for pairs in marks.values() for of, _ in pairs]
    print(f"{title}: {', '.join(marks)}; shares from {min(own):.3f} to {max(own):.3f}")
print(f"all runs: r = {reference('within_seed_correlation')(share, grammar_loss):+.2f}")

# %% [markdown]
# **Read the figure**, first across the panels, then within one. Who knows the rate of a run knows its rank better than
# who knows the activation, and the correlation over all runs has the sign that it had on the library. Within a panel, is
# there a line that falls, and how far apart are the runs of one activation? (The paper's dense models share one
# learning rate, as far as we know them, so this confounder is ours and not theirs. The shape is theirs, too.)
#
# Take the rate out.

# %% exercise="partial_correlation"

# %%
import torch

from minipolycom.learn import reference

apart = [values - values.mean(dim=1, keepdim=True) for values in (share, grammar_loss, grammar_rates.log())]
x, y, z = (values.flatten() for values in apart)
print(f"grammar, rank and loss: r = {torch.corrcoef(torch.stack([x, y]))[0, 1]:+.2f}")
print(f"rank and the logarithm of the rate: r = {torch.corrcoef(torch.stack([x, z]))[0, 1]:+.2f}")
print(f"rank and loss, the rate taken out: r = {reference('partial_correlation')(x, y, z):+.2f}")
for left_out in arms:
    others = torch.tensor([arm != left_out for arm in arms]).repeat(len(dense.seeds))
    r = reference("partial_correlation")(x[others], y[others], z[others])
    print(f"  without {left_out:13} {r:+.2f}")

# %% [markdown]
# **Read the numbers.** How much of the grammar's correlation was the learning rate's is the difference between the
# first line and the third; how much of the rest hangs on one activation, the list under it. A shuffle would not have
# told: it breaks the tie to the rate along with the tie to the loss. "Not luck" and "not rank" are two things. And a
# partial correlation takes out what you thought of. The rate was recorded, so it could be thought of.
#
# ### What the record decides
#
# The claim that the course tests is the reviewer's, about three activations: GELU and SwiGLU have a lower rank than
# ReLU, and a lower loss.

# %% claim="rank-is-not-loss"
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, ranks

study = recorded("rank")
last = {(row["arm"], row["seed"]): row["weight_rank"] for row in study.table("ranks")}  # rows come by step
end = {(row["arm"], row["seed"]): row["loss"] for row in study.table("curve")}
beside = {"relu": [(0.0, 0.0)]}
for arm in ("gelu", "swiglu"):
    beside[arm] = [(last[arm, seed] - last["relu", seed], end[arm, seed] - end["relu", seed]) for seed in study.seeds]
title = "Beside ReLU with the same seed"
plane = ranks.plane({"one mark for each seed": beside}, ["effective rank minus ReLU's"], title)
figures.show(plane.update_layout(yaxis_title="loss minus ReLU's"))
for statement in study.statements:
    if statement["claim"] == "rank-is-not-loss":
        print(f"{statement['verdict']}: {statement['text']}")
        for line in statement["comparisons"]:
            side = "as claimed" if line["estimate"] < 0 else "the other way round"
            print(f"  {line['title']}: {line['estimate']:+.3f} in the mean, {side}")

# %% [markdown]
# **Read the figure.** The claim would have all marks below ReLU's and to its left. Which of the two activations keeps
# to it? The verdict is for both together, by the rule. So what do we say of rank and loss?
#
# - *Between moments of a run* a lower rank goes with a lower loss. That is training.
# - *Between learning rates* the rank runs one way, and the loss down and up again.
# - *Between activations at one rate*, in units of chance, a higher rank goes with a lower loss on the library, and your
#   shuffles say how surely; on the grammar, your partial correlation says how much of it is left.
#
# If rank made the loss, it would do so in all three, unless something stronger worked against it each time, and that
# would have to be named. Something weaker may well be true: what makes an activation good also keeps its matrices noisy,
# for instance because it has to change less in them. Then rank is a symptom, on the library a telling one. Nothing here
# tests it; eight activations, one width and one length of training are what this is about. (Notebook 14 changes a rank
# and nothing else, that of what passes through the layer.)
#
# ### What you have now
#
# - A correlation that luck does not make, a text on which something else makes it, and an experiment in which rank moves
#   and the loss goes its own way.
#
# ## 7 · Layers that are alike
#
# The paper's figure 7 draws how alike the layers are; as a reviewer reads it, less alike with PolyNorm than with SwiGLU
# in the dense model, and not clearly so in the mixture of experts. Two rulers again. (This section needs the set-up
# cell alone.)

# %% exercise="two_similarities"

# %%
from minipolycom.viz.widgets import choose

bias = choose(
    "Two layers hold independent noise. Now one large vector is added to every row of both. What happens?",
    {
        "cosine rises, CKA stays": "All rows of both point the same way now, whatever the tokens are. CKA takes the "
        "mean row off.",
        "both rise": "CKA is computed after the mean row has been taken off, and the vector goes with it.",
        "both stay": "The cosine is taken of the rows as they are.",
        "cosine stays, CKA rises": "The other way round.",
    },
    right="cosine rises, CKA stays",
)
bias

# %%
import torch

from minipolycom.learn import reference

generator = torch.Generator().manual_seed(0)
tokens, other = torch.randn(2, 2000, 32, dtype=torch.float64, generator=generator)
rotation = torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64, generator=generator)).Q
common = 2 * torch.ones(32, dtype=torch.float64)
layers = {
    "the same": (tokens, tokens),
    "rotated": (tokens, tokens @ rotation),
    "with a step of its own size": (tokens, tokens + other),
    "independent": (tokens, other),
    "independent, one vector added to all": (tokens + common, other + common),
}
for name, (first, second) in layers.items():
    cosine, cka = reference("two_similarities")(first, second).tolist()
    print(f"{name:>37}: cosine {cosine:5.2f}, CKA {cka:5.2f}")
bias.reveal()

# %% [markdown]
# **Read the numbers.** A rotation hides likeness from the cosine, and a vector that all tokens share makes likeness
# where there is none. The third line is what a residual stream does: a layer *adds* to what is there. So two layers are
# alike by construction, and the zero point is again what an untrained model has. Here is the record, from the start to
# the end.

# %% claim="layer-similarity"
from statistics import fmean

from minipolycom.studies.records import recorded
from minipolycom.studies.statistics import student_interval
from minipolycom.viz import dynamics, figures

study = recorded("rank")
alike = {}
for row in study.table("ranks"):
    alike.setdefault(row["arm"], {}).setdefault(row["seed"], {})[row["step"]] = row["similarity"]
panels = {}
for title, of in {"start": min, "end": max}.items():
    panels[title] = {
        arm: student_interval([curve[of(curve)] - alike["swiglu"][seed][of(curve)] for seed, curve in seeds.items()])
        for arm, seeds in alike.items()
        if arm != "swiglu"
    }
figures.show(dynamics.intervals(panels, "cosine minus SwiGLU's", "How alike the two layers are, beside SwiGLU's, 95 %"))
for statement in study.statements:
    if "similarity" in statement["comparisons"][0]["measure"]:
        (line,) = statement["comparisons"]
        told = f"{line['estimate']:+.3f}, {line['low']:+.3f} to {line['high']:+.3f}"
        print(f"{statement['verdict']}: {statement['text']} ({told})")
for arm, seeds in alike.items():
    steps = sorted(set.intersection(*(set(curve) for curve in seeds.values())))
    means = {step: fmean(curve[step] for curve in seeds.values()) for step in steps}
    top = max(means, key=means.get)
    ends = f"{means[steps[0]]:.2f} at the start, {means[steps[-1]]:.2f} at the end"
    print(f"{arm:9} cosine {ends}; highest {means[top]:.2f}, at step {top}")

# %% [markdown]
# **Read the figure.** On the left no step was made. What differs there differs by the size of what a random layer adds,
# and no layer has learnt a thing. On the right is the claim's comparison, PolyNorm beside SwiGLU: the paper's heat maps
# would have it left of zero. The verdict stands under the figure, with the interval, and with both ends the way between
# them: the two layers first become *more* alike, and then less.
#
# A model of two layers has one pair of layers, and the paper's has 24 layers. What is contradicted or borne out here is
# so at this size.
#
# ### What you have now
#
# - Two rulers of likeness, each blind where the other sees, and a zero point that is not zero.
#
# ## 8 · What moves the ruler
#
# Everything that you have seen move an effective rank of weights, in one unit. (It takes your three rates from section
# 5.)

# %%
from statistics import fmean

from minipolycom.studies.records import recorded
from minipolycom.viz import figures

ends, falls = {}, []
for row in recorded("dense").table("ranks"):
    if row["group"] == f"{row['arm']}, stdlib":
        ends.setdefault(row["arm"], {}).setdefault(row["seed"], []).append(row["weight_rank"])
falls = [curve[0] - curve[-1] for seeds in ends.values() for curve in seeds.values()]
means = [fmean(curve[-1] for curve in seeds.values()) for seeds in ends.values()]
spreads = [
    max(curve[-1] for curve in seeds.values()) - min(curve[-1] for curve in seeds.values()) for seeds in ends.values()
]
moves = {
    "training": fmean(falls),
    "rate (yours)": max(rank for rank, _ in yours) - min(rank for rank, _ in yours),
    "activation": max(means) - min(means),
    "shape": fmean(seeds[0][0] for arm, seeds in ends.items() if arm not in ("swiglu", "geglu"))
    - fmean(ends[arm][0][0] for arm in ("swiglu", "geglu")),
    "seed": max(spreads),
}
figures.show(
    figures.bars(moves, "what is changed", "effective rank, of 128", "What moves the effective rank of weights")
)

# %% [markdown]
# **Read the figure.** *Training* is the mean way from the first step to the last, *rate* yours, *activation* the
# distance from the lowest to the highest mean of eight, *shape* that between the two kinds of matrices before training,
# *seed* the largest distance of two runs of one activation. The activation is seen above the seed. It is not what the
# number is mostly about.
#
# ### What you have shown
#
# - An effective rank of weights measures how far training has come from noise; shape and learning rate come before the
#   activation.
# - The law of chance gives the zero point; what a shape costs is no property of the activation.
# - Rank and loss go together within a run, the other way among activations on one text, and in an experiment the loss
#   went its own way. A rank is no explanation of a loss before steps, rate and shape are equal, and then it may be a
#   symptom.
# - The controls: rotation and factor change nothing; coins obey the law; one activation at three rates covers more than
#   eight; ranks dealt out to others.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A paper reports effective ranks of 900 and 850 in matrices of 1024 x 1024. What do you ask?</summary>
#
# What a square matrix of noise has, for a start: by the law it is well below 1024. Then whether learning rate, weight
# decay and steps were the same, and which rank it is.
#
# </details>
#
# <details>
# <summary>Can the stable rank rise while the effective rank falls?</summary>
#
# Yes. Let the largest singular value shrink towards the second, and let the small ones shrink, too. The head gets
# flatter and the body thinner.
#
# </details>
#
# <details>
# <summary>Five activations with 20 seeds each, r = 0.9. How small can the p-value of a shuffle be?</summary>
#
# There are 120 orders of five activations, so no smaller than 1/120, however many seeds there are. Seeds make the means
# surer; they do not make more activations.
#
# </details>
#
# <details>
# <summary>Within a run rank and loss fall together; across runs, high rank goes with low loss. A contradiction?</summary>
#
# No. A correlation belongs to a comparison: between moments, between rates, between activations. Pooling all three
# would give any sign you like.
#
# </details>
#
# <details>
# <summary>Two layers have a cosine similarity of 0.7. Is that much?</summary>
#
# In a residual stream, beside what an untrained model has, it may be nothing. Independent noise around one large common
# vector can have more.
#
# </details>
#
# **Paper map.** Rows *highest effective rank* (section 4), *lower rank and yet train better* (section 6) and *less
# alike* (section 7): what our record decides of each, at its scale, stands in the paper map and in `course/RESULTS.md`.
#
# **Read on.** Notebook 10 has the effective rank of features, where it is a matter of life and death, and 08 what the
# activations cost. O. Roy and M. Vetterli, *The effective rank*, 2007; V. Marchenko and L. Pastur, *Distribution of
# eigenvalues for some sets of random matrices*, 1967; C. Martin and M. Mahoney, *Implicit self-regularization in deep
# neural networks*, 2021 (spectra of weights beside the law of chance); S. Kornblith et al., *Similarity of neural
# network representations revisited*, 2019.

# %%
from minipolycom.learn import progress_map

progress_map()
