# %% [markdown] title="Mixture of experts" minutes=85 hardware="2 CPU cores" prerequisites="04, 05"
# **By the end you will have shown** that a layer of experts owes what it is worth to the *match* of token and expert,
# and not to its parameters. The control deals each token's choice out to another token. That touches no weight, no
# share of the work and no term of the loss, and the model ends behind a dense one that has little more than a third
# of its parameters. You will also have put the question of notebook 05 to experts: at equal *active* parameters, is
# PolyNorm ahead of SwiGLU, and do coefficients of each expert's own help?
#
# On the way you will
#
# - **write** a router, its dispatch, and the two losses that hold it, each checked against the package,
# - **count** what a capacity drops that a dropless layer keeps,
# - **starve** experts by leaving out one term of a loss, and see what that costs,
# - **train** four routers: one that learns, one that never does, one that is dealt out, and none,
# - **measure** in nats how much an expert's choice has to do with the token, and watch it on text of your own.
#
# Numbers here are of two layers of width 128 with eight experts, two for each token, on Python's standard library, in
# nats per byte. After a restart run the set-up cell, and go on at the first cell of any section.

# %% setup=true

# %% [markdown]
# ## 1 · Eight small ones in place of one
#
# A **mixture of experts** replaces the feed-forward of a block by eight, each half as wide. A small matrix, the
# router, sends every token through two of them. So a token meets as many multiplications as before, and the layer has
# four times the weights. These are recorded runs, each at the best of its learning rates, each beside the one with
# its seed.

# %%
from minipolycom.viz.widgets import choose

gain = choose(
    "What lowers the loss by more, after 600 steps: eight experts in place of a dense layer, or PolyNorm in place of "
    "SwiGLU?",
    {
        "eight experts": "At the same work for each token. It is the larger change by far in weights, too.",
        "PolyNorm": "In the dense runs its lead was hundredths of a nat.",
        "about the same": "One of the two is at least one and a half times the other.",
    },
    right="eight experts",
)
gain

# %%
from statistics import fmean

from minipolycom.studies.records import recorded
from minipolycom.viz import dynamics, figures

dense, moe = recorded("dense"), recorded("moe")
both = set(dense.seeds) & set(moe.seeds)
runs = {name: dynamics.runs_of(dense, "stdlib")[name] for name in ("swiglu", "polynorm")}
runs |= {f"{name}, experts": dynamics.runs_of(moe, "stdlib")[name] for name in ("swiglu", "polynorm")}
runs = {name: {seed: curve for seed, curve in seeds.items() if seed in both} for name, seeds in runs.items()}
shown = {
    name: {seed: {step: loss for step, loss in curve.items() if step > 0} for seed, curve in seeds.items()}
    for name, seeds in runs.items()
}
title = "Loss minus that of the dense SwiGLU, same seed"
figures.show(dynamics.differences({"": shown}, "swiglu", ["optimizer steps"], title))
for record, kind in ((dense, "dense"), (moe, "experts")):
    for row in record.table("end"):
        if (row["arm"], row["seed"], row["phase"], row["source"]) == ("polynorm", 0, "main", "stdlib"):
            print(f"PolyNorm, {kind:8} {row['parameters']:9,} parameters, {row['active_parameters']:,} for each token")


def at_end(runs):
    """The mean over seeds of the losses at the last step."""
    return fmean(curve[max(curve)] for curve in runs.values())


ends = {name: at_end(seeds) for name, seeds in runs.items()}
by_experts = fmean(ends[name] - ends[f"{name}, experts"] for name in ("swiglu", "polynorm"))
by_activation = fmean(ends[f"swiglu{kind}"] - ends[f"polynorm{kind}"] for kind in ("", ", experts"))
print(f"experts bring {by_experts:.3f} nats, PolyNorm for SwiGLU {by_activation:.3f}, each the mean of two comparisons")
gain.reveal()

# %% [markdown]
# **Read the figure.** At the end two curves are near zero, the dense ones, and two well below, those with experts.
# They do not start out in front: the gain has to be earned, while each expert learns from a quarter of the tokens.
#
# Why is there a gain? "More parameters" is what everybody says. It cannot be all: a token meets no more of them than
# before. Something decides *which* ones it meets. To find out what that is worth one has to be able to take it away,
# so we build the layer first.
#
# ## 2 · A layer, piece by piece
#
# A model that was never trained reads a line of Python. Which of the eight experts of its first layer does each
# character get?

# %%
import torch

from minipolycom import GPT, GPTConfig
from minipolycom.record import record
from minipolycom.viz import experts, figures

fresh = GPT(GPTConfig.preset("tiny-moe"))
line = "for line in lines: print(line)"
with record(fresh, "blocks.0.feed_forward.router") as tensors, torch.no_grad():
    fresh(torch.tensor([list(line.encode())]))
logits = tensors["blocks.0.feed_forward.router"]
chosen = torch.zeros_like(logits).scatter(-1, logits.topk(2).indices, logits.topk(2).values.softmax(-1))
figures.show(experts.gates(chosen, list(line.replace(" ", "␣")), "Two experts for each character, before any training"))

# %% [markdown]
# **Read the figure.** Each column has two cells, and they add up to 1. The matrix behind them is random, and yet it
# is no lottery: find the five `i`, the five `n` or the two `r`. Equal characters come with nearly equal inputs, and
# so they get nearly the same experts. A row may be crowded and another empty.
#
# Now write what made the figure.

# %% exercise="route"

# %% [markdown]
# The rest of the layer is bookkeeping, and bookkeeping is where such layers go wrong.
#
# | | shape | |
# |---|---|---|
# | $x$ | (N, D) | the tokens of the batch, one below the other |
# | $w$ | (N, E) | what `route` returns, two entries of each row above 0 |
# | $\mathrm{up}$, $\mathrm{down}$ | (E, F, D), (E, D, F) | a pair of matrices for each expert |

# %% exercise="mixture"

# %% [markdown]
# The package's layer, on rows of noise, beside your two functions (here the reference's, so that the notebook goes on
# in any case). Below, the time that four ways take, as a ratio to the dense feed-forward with as many active
# parameters.

# %%
import torch

from minipolycom import GPT, GPTConfig
from minipolycom.bench.traffic import compare_times
from minipolycom.learn import reference, tier
from minipolycom.viz import figures

route, mixture = reference("route"), reference("mixture")
layer = GPT(GPTConfig.preset("tiny-moe")).blocks[0].feed_forward
plain = GPT(GPTConfig.preset("tiny")).blocks[0].feed_forward
N = 256 if tier().name == "smoke" else 2048
x = torch.randn(N, 128, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    weight = route(layer.router(x), 2)
    apart = (mixture(x, weight, layer.up, layer.down, layer.activation) - layer(x[None])[0]).abs().max()
    print(f"largest difference from the package's layer: {apart:.1e}")
    every = torch.full_like(weight, 1 / 8)  # all experts for every token
    ways = {
        "dense": lambda: plain(x[None]),
        "the package's experts": lambda: layer(x[None]),
        "your two functions": lambda: mixture(x, route(layer.router(x), 2), layer.up, layer.down, layer.activation),
        "all experts for all": lambda: mixture(x, every, layer.up, layer.down, layer.activation),
    }
    times = compare_times(ways, baseline="dense", rounds=7)
ratios = {name: time["ratio"] for name, time in times.items()}
figures.show(figures.bars(ratios, "way", "time, dense = 1", "The same active parameters are not the same time"))

# %% [markdown]
# **Read the figure.** The first two do the same number of multiplications. What lies between them is the price of
# sorting: rows have to be gathered by expert and added back, and eight products of a few hundred rows run less
# smoothly than one of all. The last bar is what it would cost to have all weights at work. (The package sorts the
# rows by expert and calls one grouped product, `minipolycom.grouped`.)
#
# One trap belongs to PolyNorm. Its mean squares go over the hidden width of *one* expert, and tokens of different
# experts lie in one tensor. The authors' layer hands the activation blocks of 128 by 128 numbers; their code puts
# each row together again before it takes the mean, because a mean over a block would be another function.
#
# ### What you have now
#
# - The layer, equal to the package's to rounding.
# - A choice without a slope, and weights that have one.
# - Equal active parameters, and not equal time.
#
# ## 3 · When an expert is full
#
# Your `mixture` takes every token that comes. That is called **dropless**, and it is how the paper's experts work.
# Most systems before it gave each expert a fixed number of places. (This section needs the set-up cell alone.)

# %% exercise="within_capacity"

# %% [markdown]
# How many places? If all experts are equally busy, each gets $Nk/E$ choices. The **capacity factor** says how many
# times that many places there are.

# %%
from minipolycom.viz.widgets import guess_number

dropped = guess_number(
    "A model before training, with exactly as many places as choices (a capacity factor of 1): what share is dropped?",
    "%",
    0,
    100,
)
dropped

# %%
import torch

from minipolycom import GPT, GPTConfig, TokenData
from minipolycom.learn import reference
from minipolycom.record import record
from minipolycom.viz import figures

route, within_capacity = reference("route"), reference("within_capacity")
library, fresh = TokenData("stdlib", context=128, batch_size=16), GPT(GPTConfig.preset("tiny-moe"))
tokens = torch.tensor(library.val_tokens[: 16 * 128].astype("int64")).view(16, 128)
with record(fresh, "blocks.1.feed_forward.router") as tensors, torch.no_grad():
    fresh(tokens)
logits = tensors["blocks.1.feed_forward.router"]
N, E = logits.shape
in_turn = torch.eye(E).repeat(N // E, 1) + torch.eye(E).roll(1, dims=1).repeat(N // E, 1)
routers = {
    "in turn": in_turn,
    "before training": logits,
    "one favourite": logits + torch.tensor([9.0] + [0.0] * (E - 1)),
}
factors, missing = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0), {}
for name, own in routers.items():
    weight = route(own, 2)
    kept = [within_capacity(weight, int(factor * 2 * N / E)) for factor in factors]
    missing[name] = [100 * (1 - float((one > 0).sum() / (weight > 0).sum())) for one in kept]
title = "What a capacity drops"
figures.show(figures.lines(missing, factors, "capacity factor", "% of choices dropped", title, markers=True))
at_one = missing["before training"][factors.index(1.0)]
dropped.compare(at_one)

# %% [markdown]
# **Read the figure.** Only tokens that come *in turn* fit at a factor of 1, and they have not been routed, they have
# been handed out. A router that chooses pays for it in dropped tokens, or else in empty places: at a factor of 4
# nothing of a favourite's is dropped, and three quarters of all places stay empty. Dropless needs no such number. Its
# price is in time: whoever has the busiest expert makes the others wait. So under either system somebody has to see
# to it that the work is shared out.
#
# ### What you have now
#
# - Dropping depends on the company: the same token in another batch may be dropped or not.
# - Both systems want even loads. Nothing so far makes them even.
#
# ## 4 · Who gets the work
#
# Left alone, a router feeds itself. An expert that is chosen learns, one that is not chosen gets no gradient at all;
# the one that has learnt is the better choice next time. What holds against it is a term in the loss. (This section
# needs the set-up cell alone.)

# %% exercise="balance_loss"

# %% exercise="z_loss"

# %% [markdown]
# Both beside the package, and then the push that the first one gives: minus its gradient, summed over the tokens, for
# experts that are unevenly busy.

# %%
import torch

from minipolycom import GPT, GPTConfig
from minipolycom.learn import reference
from minipolycom.viz import figures

layer = GPT(GPTConfig.preset("tiny-moe")).blocks[0].feed_forward
generator = torch.Generator().manual_seed(0)
x = torch.randn(512, 128, generator=generator)
logits = layer.router(x).detach() + torch.linspace(-0.8, 0.8, 8)
logits.requires_grad_(True)
balance = reference("balance_loss")(logits, 2)
(push,) = torch.autograd.grad(-balance, logits)
load = (reference("route")(logits, 2) > 0).float().mean(0) / 2
layer(x[None])
plain = layer.router(x)
print(f"balance loss: {reference('balance_loss')(plain, 2):.4f}, the package's {layer.balance_loss:.4f}")
print(f"z-loss: {reference('z_loss')(plain):.4f}, the package's {layer.z_loss:.4f}")
order = load.argsort()
figures.show(
    figures.lines(
        {"push on the logit": (1000 * push.sum(0)[order]).tolist()},
        (100 * load[order]).tolist(),
        "load of the expert, % of all choices",
        "push, in thousandths",
        f"What a balance loss of {balance:.2f} does to eight experts",
        markers=True,
    )
)

# %% [markdown]
# **Read the figure.** An even load is 12.5 %. Whoever has less is pushed up, whoever has more is pushed down, and
# nobody has said which tokens to give away: that is left to the loss of the text. (1 is the value at even loads, and
# not a floor: a router can get a little below it, by being least sure where it is busiest.)
#
# Now two trainings of the same model from the same weights, one with both terms at the weights that are usual, 0.01
# and 0.001 as in the authors' code, one with neither.

# %%
from minipolycom.viz.widgets import choose

starved = choose(
    "Two trainings, with and without the two terms. What does leaving them out do?",
    {
        "experts die, and the loss is much higher": "Loads drift apart. What the loss pays for that "
        "within so few steps is little.",
        "loads drift apart, and the loss hardly notices": "Two busy experts and six idle ones "
        "are a dense model with spare parts: no worse than dense, and that is not far.",
        "nothing: the text asks for all experts": "The text asks for a low loss, one token at a "
        "time. No term of it looks at the shares.",
    },
    right="loads drift apart, and the loss hardly notices",
)
starved

# %% cost="balance_pair"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost

steps = cost("balance_pair").steps
library, model = TokenData("stdlib", context=128, batch_size=16), GPTConfig.preset("tiny-moe")
watch = max(2, steps // 10)
pair = {}
for name, terms in {"both terms": {}, "neither term": {"balance_weight": 0.0, "z_weight": 0.0}}.items():
    settings = TrainConfig(
        steps=steps, eval_every=2 * watch, eval_batches=16, checkpoint_every=steps, record_every=watch, **terms
    )
    folder = f"runs/06_mixture_of_experts/{steps} steps, {name}"
    pair[name] = fit(library, model, settings, name=name, out=folder, progress=False)

# %%
from minipolycom.viz import experts, figures

shares = {
    name: {row["step"]: row["load"] for row in run.table("routers") if row["layer"] == 1} for name, run in pair.items()
}
figures.show(experts.loads(shares, "Who gets the work, second layer"))
for name, run in pair.items():
    least = {layer: 100 * min(row["load"]) for row in run.table("routers") for layer in [row["layer"]]}
    told = ", ".join(f"{percent:.2f} % in layer {layer}" for layer, percent in least.items())
    print(f"{name:12} loss {run.losses('val')[-1]:.3f}; the idlest expert at the end has {told} (even: 12.5 %)")
starved.reveal()

# %% [markdown]
# **Read the figure.** On the left colours even out. On the right a few experts stay bright and others go dark; a
# cross marks a recording in which an expert had not one token. The router's two terms are there for the *shares*.
# What starved experts cost in loss stands in the lines under the figure, and after so short a training it is little.
# It grows with what the idle ones could have learnt.
#
# Try `experts_per_token=1` with the same router, and think before you look: the softmax over *one* chosen logit is 1,
# whatever the logit is. Which gradient does the router get from the text?
#
# <details>
# <summary>Which one</summary>
#
# None. A constant has no slope, so the balance loss is then the only teacher the router has, and without it the
# choice stays as it was drawn. Systems with one expert per token therefore take the softmax before choosing, over all
# logits.
#
# </details>
#
# ### What you have now
#
# - Two terms of a loss, equal to the package's, and what happens without them.
# - A load can be even and yet say nothing about *who* gets *what*.
#
# ## 5 · Is it the match?
#
# Now for the question of section 1. Take three routers with the same loads and the same weights behind them:
#
# - **learnt**: as in section 4,
# - **frozen**: the random matrix of the beginning, never trained. It sees the token and has no idea,
# - **dealt**: it learns, decides, and then its decisions are shuffled among the tokens of the batch. Each token is
#   served by two experts that another one chose. The shares of the work, the two terms and the number of weights do
#   not notice.
#
# The fourth is the dense model, with as many active parameters. Which order will they come in? (Set-up cell and go.)

# %%
from minipolycom.viz.widgets import choose

last = choose(
    "Four trainings of the same length: learnt, frozen, dealt, dense. Which one ends highest?",
    {
        "learnt": "It has all that the others have.",
        "frozen": "A random matrix is a poor teacher, but it always gives the same answer to the same question.",
        "dealt": "Every expert gets a bit of everything, so all of them have to learn the same, each from a quarter of the "
        "tokens. The parameters are there, and they are in the way.",
        "dense": "It has a third of the parameters, and each of them sees every token.",
    },
    right="dealt",
)
last

# %% cost="three_routers"
import torch
from torch.nn.modules.module import register_module_forward_hook

from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost
from minipolycom.model import Router


def learnt(module, inputs, logits):
    """The router as it is."""


def frozen(module, inputs, logits):
    """A router without a gradient, so that it stays what it was."""
    return logits.detach() if isinstance(module, Router) else None


def dealt(module, inputs, logits):
    """To each token the logits of another one."""
    return logits[torch.randperm(len(logits))] if isinstance(module, Router) else None


steps = cost("three_routers").steps
library, watch = TokenData("stdlib", context=128, batch_size=16), max(2, steps // 10)
settings = TrainConfig(steps=steps, eval_every=2 * watch, eval_batches=16, checkpoint_every=steps, record_every=watch)
arms = {"both terms": learnt, "frozen": frozen, "dealt": dealt, "dense": learnt}
four = {}
for name, hook in arms.items():
    model = GPTConfig.preset("tiny" if name == "dense" else "tiny-moe")
    folder = f"runs/06_mixture_of_experts/{steps} steps, {name}"
    torch.manual_seed(0)  # of the shuffling
    with register_module_forward_hook(hook):
        four["learnt" if name == "both terms" else name] = fit(
            library, model, settings, name=name, out=folder, progress=False
        )

# %%
from minipolycom.viz import dynamics, figures

curves = {
    name: {0: {row["step"]: row["loss"] for row in run.rows if row["split"] == "val" and row["step"] > 0}}
    for name, run in four.items()
}
title = "Loss minus that of the dense model, same batches"
figures.show(dynamics.differences({"": curves}, "dense", ["optimizer steps"], title))
for name, run in four.items():
    sizes, last_loss = run.model_config, run.losses("val")[-1]
    print(f"{name:7} loss {last_loss:.3f}, {sizes.n_parameters:9,} parameters, {sizes.n_active_parameters:,} active")
for name in ("learnt", "frozen", "dealt"):
    busiest = [100 * max(row["load"]) for row in four[name].table("routers")[-2:]]
    print(
        f"{name:7} the busiest expert has {busiest[0]:.0f} % of the choices in layer 0, {busiest[1]:.0f} % in layer 1"
    )
last.reveal()

# %% [markdown]
# **Read the figure.** *Dealt* is the control, and it is the one that is set apart. It has nearly three times the
# parameters of the dense model, as many at work on each token, and it is **worse than not having experts at all**. So
# the parameters by themselves are worth less than nothing. They pay only where an expert can rely on *what* it gets.
# (And what becomes of a router that cannot match? See its busiest expert: 50 % is the most there can be, since then
# every token has it among its two. To choose the same for all is the best that is left, and it does so against the
# balance loss.)
#
# And that is nearly all it needs, so early. The frozen router has never been told anything, and the lines under the
# figure say how far it is from the learnt one. A random matrix sends equal tokens to equal experts, and the experts
# do the learning. (S. Roller et al. found something like it at a larger scale, with a table drawn by lot in place of
# a router.) One seed, and a quarter of the record's training: the distance between *dealt* and the rest is a finding,
# the order of the rest is a draw. Most of what experts gain on a dense model is still to come at this step, as
# section 1 has shown.
#
# The same intervention can be made *after* training. Take the learnt model as it is, and deal the choices out in one
# layer, or in both.

# %%
import torch
from torch.nn.modules.module import register_module_forward_hook

from minipolycom.evaluate import evaluate
from minipolycom.learn import tier
from minipolycom.viz import figures

windows = 4 if tier().name == "smoke" else 64


def loss_when_dealt(run, layers):
    """The loss of a trained model whose routers in these layers give each token the choice of another."""
    torch.manual_seed(0)
    model = run.model()
    handles = [model.blocks[layer].feed_forward.router.register_forward_hook(dealt) for layer in layers]
    try:
        return evaluate(model, library, windows=windows, progress=False)["loss"]
    finally:
        for handle in handles:
            handle.remove()


places = {"as it is": (), "first layer": (0,), "second layer": (1,), "both": (0, 1)}
after = {
    f"{name}, {place}": loss_when_dealt(four[name], layers)
    for name in ("learnt", "dealt")
    for place, layers in places.items()
    if name == "learnt" or place in ("as it is", "both")
}
figures.show(
    figures.bars(after, "model, and where its choices are dealt out", "nats per byte", "Dealt out after training")
)
print(f"in both layers: {after['learnt, both'] - after['learnt, as it is']:+.3f} for the learnt model")

# %% [markdown]
# **Read the figure.** In one of the layers the wrong experts are a disaster for the learnt model: they are not eight
# copies of one another. For the model that was trained with dealt choices it hardly matters whether they are dealt or
# not, since its experts never had anything of their own. How high a bar rises is a measure of how far the experts of
# that layer have parted ways. Which layer is it, and what could its experts have divided among them? Section 6 asks.
#
# ### What you have now
#
# - The gain is in the match; the control has all the rest, and loses.
# - To be served by the *same* experts each time is most of the match. Being taught is the smaller part, so early.
#
# ## 6 · What does an expert read?
#
# Experts are often said to be specialists, for numbers, for verbs, for Python. Before anybody looks at examples: how
# much of a choice is explained by the simplest thing of all, the byte that stands there? (This section reads the
# models of section 5: run its training cell first. It keeps its runs in a folder, so a second time takes seconds.)

# %% exercise="choice_information"

# %%
import torch
from torch.nn.modules.module import register_module_forward_hook

from minipolycom.learn import reference
from minipolycom.viz import figures

read = torch.tensor(library.val_tokens[: 64 * 128].astype("int64")).view(64, 128)


@torch.no_grad()
def table_of_choices(run, layer, hook):
    """How often each byte had each expert as its first choice, shape (256, 8)."""
    torch.manual_seed(0)
    model = run.model()
    with register_module_forward_hook(hook):
        model(read)
    first = model.blocks[layer].feed_forward.chosen_BTS[..., 0]
    return torch.bincount(8 * read.flatten() + first.flatten(), minlength=256 * 8).view(256, 8).double()


known = {}
for name in ("learnt", "frozen", "dealt"):
    for layer in (0, 1):
        counts = table_of_choices(four[name], layer, arms["both terms" if name == "learnt" else name])
        known[f"{name}, layer {layer}"] = float(reference("choice_information")(counts))
title = "What the byte alone says of the first choice; ln 8 = 2.08 would be all"
figures.show(figures.bars(known, "router and layer", "nats", title))
n_kinds = int((torch.bincount(read.flatten(), minlength=256) > 0).sum())
print(
    f"{n_kinds} kinds of bytes, {read.numel():,} tokens: by chance about {(n_kinds - 1) * 7 / 2 / read.numel():.3f} nats"
)

# %% [markdown]
# **Read the figure.** *Dealt* is the zero of this ruler, and the printed number says how much of it is chance. In the
# first layer the learnt router has little freedom left once the byte is known: its "specialists" are a table of
# letters. Training has made them so, and not less so: the frozen one, which knows nothing, is less of a speller. In
# the second layer the byte says less, because there the router sees what attention has brought in. So before an
# expert that always gets digits is said to know numbers, it has to be shown that it does more than spell.
#
# That is also what the last bars of section 5 measured. The first layer's experts have parted ways by letter, and to
# each the wrong letters are foreign.
#
# Look for yourself. Each token is marked with its expert's number and colour.
#
# 1. `layer` 0: find a letter that occurs several times. Is its expert always the same? Then `layer` 1.
# 2. `colour by` choice 2: is the second expert as faithful as the first?
# 3. Type a word twice, once inside quotes. Then a line that is no Python at all.

# %%
from minipolycom.viz.widgets import router_view

view = router_view(four["learnt"])
view

# %% [markdown]
# <details>
# <summary>What you will have seen</summary>
#
# In layer 0 most letters keep their expert wherever they stand; a few have two. In layer 1 the same letter changes
# hands more often: after a space, inside a name, at the end of a line. The second choice is less faithful; it is
# where two logits lie close together. Text that is no Python is sorted just the same, since nothing here knows what
# Python is.
#
# </details>
#
# ### What you have now
#
# - A number for specialisation, with a control that has to be zero.
# - What looks like knowledge in one layer is spelling; it takes a control to see that.
#
# ## 7 · PolyNorm among experts
#
# The paper trains SwiGLU and PolyNorm as experts, too: 64 of them, eight for each token, 1 of 7 billion parameters
# active. A gate is a third matrix, so at equal active parameters an expert with a gate is narrower by a third. (This
# section needs the set-up cell alone.)

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz import dynamics
from minipolycom.viz.widgets import choose

moe, dense = recorded("moe"), recorded("dense")
moe_runs, dense_runs = dynamics.runs_of(moe, "stdlib"), dynamics.runs_of(dense, "stdlib")


def lead(runs):
    """By how much PolyNorm ends below SwiGLU, by seed."""
    apart = dynamics.minus(runs["polynorm"], runs["swiglu"])
    return {seed: -curve[max(curve)] for seed, curve in apart.items()}


here, there = (sum(lead(runs).values()) / len(lead(runs)) for runs in (moe_runs, dense_runs))
told = f"Among experts {here:+.3f} nats on the mean, in the dense model {there:+.3f}."
larger = choose(
    "PolyNorm's lead over SwiGLU after 600 steps: among experts, or in the dense model, where is it larger?",
    {"among experts": told, "in the dense model": told, "no more than 0.002 apart": told},
    right="no more than 0.002 apart"
    if abs(here - there) <= 0.002
    else "among experts"
    if here > there
    else "in the dense model",
)
larger

# %%
from minipolycom.viz import figures

# training losses, points of the authors' own vector plot: SwiGLU, PolyNorm at 50, 100, 150 and 200 billion tokens
swiglu = {50: 2.5106, 100: 2.4172, 150: 2.3754, 200: 2.3558}
polynorm = {50: 2.4901, 100: 2.4002, 150: 2.3599, 200: 2.3415}
panels = {}
for kind, own in {"ours, experts": moe_runs, "ours, dense": dense_runs}.items():
    panels[kind] = {
        name: {seed: {step: loss for step, loss in curve.items() if step > 0} for seed, curve in own[name].items()}
        for name in ("swiglu", "polyrelu", "polynorm")
    }
panels["the paper, experts, 7 billion"] = {"swiglu": {0: swiglu}, "polynorm": {0: polynorm}}
places = ["optimizer steps", "optimizer steps", "billions of tokens"]
figures.show(dynamics.differences(panels, "swiglu", places, "Loss minus SwiGLU's"))
for kind, own in {"experts": moe_runs, "dense": dense_runs}.items():
    print(
        f"{kind:8} PolyNorm ends lower by " + ", ".join(f"{value:+.4f}" for value in lead(own).values()) + ", by seed"
    )
print(
    f"the paper: {swiglu[50] - polynorm[50]:.4f} at 50 billion tokens, {swiglu[200] - polynorm[200]:.4f} at 200 billion"
)
active = {row["arm"]: row["active_parameters"] for row in moe.table("end")}
rates = {name: moe.rates[f"{name}, stdlib"]["rate"] for name in ("swiglu", "polyrelu", "polynorm")}
print("learning rates among experts: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()))
print(f"active parameters of an expert model: {active['swiglu']:,} with SwiGLU, {active['polynorm']:,} with PolyNorm")
larger.reveal()

# %% [markdown]
# **Read the figure.** All panels have one scale. The paper's lead, on the right, shrinks with training, as it does in
# its dense models. Ours in the dense model begins as a deficit and ends as a small lead with four seeds, and one seed
# that takes it all back. That seed is the fourth, and the experts have three: nobody knows what theirs would be. And
# early on, among our experts? Before you call that a likeness to the paper, read the rates under the figure: each arm
# has one of its own, and who has the smaller one starts more slowly, whatever its activation. The paper's two models
# had the same. How far seeds scatter the bands show; compare their width with the lead.
#
# What the record decides, by the course's rule (notebook 05: p-values of all comparisons of a study are adjusted
# together):

# %% claim="moe-loss"
from minipolycom.viz import figures, studies

for number, statement in enumerate(moe.statements):
    if statement["claim"] == "moe-loss":
        figures.show(studies.intervals(moe, statement=number))
        (line,) = statement["comparisons"]
        lower, seeds = sum(value < 0 for value in line["differences"]), len(line["differences"])
        print(f"{statement['verdict']}: {statement['text']}")
        print(f"lower with {lower} of {seeds} seeds; p {line['p']:.2f} alone, {line['p_adjusted']:.2f} adjusted")
edges = [group for group, rate in moe.rates.items() if rate["edge"]]
print(f"learning rates at an edge of their grid: {', '.join(edges) or 'none'}")

# %% [markdown]
# **Read the figure.** *Undecided* means that the interval and zero have not parted, with as many seeds as there are,
# and says nothing about which way the marks point. A learning rate at the edge of its grid may not be the best one:
# whoever has it may be better than it looks here.
#
# ## 8 · Whose coefficients?
#
# PolyNorm has four numbers per layer. In the authors' code all 64 experts of a layer **share** them. Motif-3, a later
# model with PolyNorm inside, as its ports to vLLM and tt-metal have it, gives **each expert its own**. It costs
# nothing: here 56 numbers in 1.25 million. And what is it worth? Experts that read different things could bend
# differently.

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz.widgets import choose

moe = recorded("moe")
asked = next(n for n, one in enumerate(moe.statements) if one["comparisons"][0]["first"] == "polynorm, per expert")
own_line = moe.statements[asked]["comparisons"][0]
by_seed = own_line["differences"]
told = (
    f"Own coefficients minus shared ones: {own_line['estimate']:+.4f} on the mean, "
    f"above zero with {sum(value > 0 for value in by_seed)} of {len(by_seed)} seeds."
)
own = choose(
    "Recorded: coefficients of each expert's own, beside shared ones. On the mean over seeds, who has the lower loss?",
    {
        "own coefficients": f"They contain the shared ones as a special case. {told}",
        "shared ones": f"Fewer numbers, each with the gradient of all tokens. {told}",
    },
    right="own coefficients" if own_line["estimate"] < 0 else "shared ones",
)
own

# %% cost="own_coefficients"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost

steps = cost("own_coefficients").steps
library = TokenData("stdlib", context=128, batch_size=16)
each_its_own = fit(
    library,
    GPTConfig.preset("tiny-moe", coefficients="per_expert"),
    TrainConfig(steps=steps, eval_every=steps, checkpoint_every=steps, record_every=max(2, steps // 10)),
    name="per expert",
    out=f"runs/06_mixture_of_experts/{steps} steps, per expert",
    progress=False,
)

# %%
from minipolycom.viz import figures
from minipolycom.viz import recorded as recorded_figures

rows = each_its_own.table("coefficients")
figures.show(recorded_figures.coefficients(rows, layer=0))
last_rows = [row for row in rows if row["step"] == rows[-1]["step"] and row["layer"] == 0]
for power in ("a1", "a2", "a3"):
    values = [row[power] for row in last_rows]
    mean = sum(values) / len(values)
    print(f"{power}: mean {mean:+.3f}, experts from {min(values):+.3f} to {max(values):+.3f}, start +0.333")

# %% [markdown]
# **Read the figure.** A thin line is an expert, a colour is a power. Do the experts part ways, or do they move as a
# bundle? The spread within a colour beside the way that the bundle has come says it. If they go together, eight sets
# of numbers have learnt what one could have. Now the record, with longer runs and its seeds:

# %% claim="shared-coefficients"
from minipolycom.viz import figures, studies

figures.show(studies.intervals(moe, statement=asked))
print(f"{moe.statements[asked]['verdict']}: {moe.statements[asked]['text']}")
print(f"p {own_line['p']:.3f} alone, {own_line['p_adjusted']:.3f} adjusted; {told}")
own.reveal()

# %% [markdown]
# **Read the figure.** That more freedom does not help would be no surprise. A *higher* loss would be one, since own
# coefficients could simply stay equal. If the record points that way, with whatever certainty, it is a matter of how
# they are learnt and not of what they can do: each has the gradient of a quarter of the tokens, and AdamW makes steps
# of the same size however noisy a gradient is. That is an explanation found afterwards. How would you test it?
#
# <details>
# <summary>One way</summary>
#
# Give the own coefficients a smaller learning rate, or average their gradients over experts for the first part of the
# training. If noise is the cause, the gap closes. A placebo belongs to it: own coefficients whose gradients are
# averaged all the time *are* shared ones, and must come out equal.
#
# </details>
#
# ## 9 · What moves the loss
#
# All of it in one unit. (This cell takes what sections 1, 4, 5, 7 and 8 have left.)

# %%
from minipolycom.viz import figures

loss = {name: run.losses("val")[-1] for name, run in four.items()}
summary = {
    "experts, record": by_experts,
    "PolyNorm, record": by_activation,
    "own coefficients, record": -own_line["estimate"],
    "both terms, yours": pair["neither term"].losses("val")[-1] - pair["both terms"].losses("val")[-1],
    "a taught router, yours": loss["frozen"] - loss["learnt"],
    "the match, yours": loss["dealt"] - loss["learnt"],
}
title = "By how much each lowers the loss"
figures.show(figures.bars(summary, "what is added", "nats per byte", title))

# %% [markdown]
# **Read the figure.** The bars of the record are means over seeds after 600 steps, yours one seed after fewer, so
# compare within each group. A bar below zero is something that did not help. The last one is the difference between
# having experts and having them for the right tokens.
#
# ### What you have shown
#
# - A mixture of experts earns its gain by the match of token and expert: without it, in the control, the same weights
#   are worse than a dense layer.
# - A router need not be clever to be useful, it has to be consistent. It does have to be held: two terms keep the
#   work shared out.
# - At equal active parameters the record's verdict on PolyNorm and SwiGLU among experts, and on own coefficients,
#   stand in sections 7 and 8, by a rule.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A paper gives its model four times the parameters at the same work per token, and the loss falls. Which control do you ask for?</summary>
#
# One that keeps the parameters and the work, and takes away the match: choices dealt out to other tokens, or a router
# that sees noise. If the loss stays as low, it was not the routing.
#
# </details>
#
# <details>
# <summary>Loads are perfectly even. Does the router work?</summary>
#
# That cannot be seen from loads. Handing the tokens out in turn gives perfectly even ones.
#
# </details>
#
# <details>
# <summary>Why can the balance loss not be made of loads alone?</summary>
#
# A load is a count. A small change of a logit changes no choice, so its derivative is zero. The probability beside it
# carries the gradient.
#
# </details>
#
# <details>
# <summary>You add 5 to all logits of a token. What do the choice, the weights, the balance loss and the z-loss do?</summary>
#
# The first three stay: top-k and softmax do not see a common shift. The z-loss does, and that is its whole purpose.
#
# </details>
#
# <details>
# <summary>An expert reads digits only. Has it specialised in numbers?</summary>
#
# A random router may do the same: digits have similar embeddings. Ask what happens to the loss on digits if they go
# elsewhere, and compare with a router that was never trained.
#
# </details>
#
# <details>
# <summary>PolyNorm in an expert divides by the root mean square over what?</summary>
#
# Over the hidden units of that expert for that token. Over a block of rows, or over the hidden units of all chosen
# experts, it would be another function.
#
# </details>
#
# **Paper map.** Rows *In a mixture of experts PolyNorm trains to a lower loss than SwiGLU* (section 7) and *would
# each expert's own be better?* (section 8): their status follows from the record, see the paper map and
# `course/RESULTS.md`. The paper's eleven validation texts and nine tasks are out of reach of models of this size.
#
# **Read on.** Notebook 07 asks whether rank explains a loss, 08 what an activation costs. W. Fedus et al., *Switch
# Transformers*, 2021 (capacity, the balance loss); B. Zoph et al., *ST-MoE*, 2022 (the z-loss); S. Roller et al.,
# *Hash layers for large sparse models*, 2021 (routing without learning); T. Gale et al., *MegaBlocks*, 2022
# (dropless); N. Muennighoff et al., *OLMoE*, 2024 (the model that the paper's experts are built on, with measures of
# specialisation).

# %%
from minipolycom.learn import progress_map

progress_map()
