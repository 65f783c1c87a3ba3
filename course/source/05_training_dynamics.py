# %% [markdown] title="Training dynamics" minutes=85 hardware="2 CPU cores" prerequisites="04"
# **By the end you will have shown** that "which activation trains best" has no answer until three things are said, the
# learning rate, the moment and the seeds, because each of them by itself can turn the order round; you will have put the
# question properly, each activation at a rate of its own and each run beside the one that read the same batches, to eight
# activations on two texts; and the control, an activation compared with itself, wins and loses like the others when the
# question is put badly.
#
# On the way you will
#
# - **see** the paper's own curves, as differences,
# - **write** a clock that knows what it did not see, and the distance of a model from the best that is possible,
# - **train** seven small models, and watch a learning rate make and break one,
# - **write** the interval that decides, and count the seeds it would take,
# - **hold** a training, go back, and let it take another way.

# %% setup=true

# %% [markdown]
# ## 1 · Five curves
#
# This is figure 1 of the PolyCom paper: five models of 1.3 billion parameters, one run each, all with the same settings.
# The numbers are the points of the authors' own vector plot.

# %%
from minipolycom.studies.published import published
from minipolycom.viz import dynamics, figures

paper = {name: {0: curve} for name, curve in published("polycom-dense-training-loss").items()}  # one run: seed 0
figures.show(dynamics.losses(paper, "billions of tokens", "The paper's dense models, training loss"))

# %% [markdown]
# **Read the figure.** Five lines that fall together, in the order that the paper reports: PolyNorm, PolyReLU, SwiGLU, GELU,
# ReLU. What they differ by is small beside what they have in common, so look at that alone: take SwiGLU's curve off all
# of them.

# %%
from minipolycom.viz.widgets import choose

gap = choose(
    "From 25 to 270 billion tokens, what happens to the distance between PolyNorm and SwiGLU?",
    {
        "it grows": "So it does between SwiGLU and ReLU. PolyNorm's lead does not.",
        "it stays": "The lines look parallel, because they are steep: what you judged by eye is their distance across, not "
        "down.",
        "it shrinks": "To little more than half. What is still to come of it nobody has seen.",
    },
    right="it shrinks",
)
gap

# %%
figures.show(dynamics.differences({"": paper}, "swiglu", ["billions of tokens"], "The same, minus SwiGLU"))


def lead(name, place):
    """Loss of a published curve minus SwiGLU's, averaged over 5 billion tokens to either side."""
    apart = dynamics.minus(paper[name], paper["swiglu"])[0]
    near = [value for x, value in apart.items() if abs(x - place) <= 5]
    return sum(near) / len(near)


for name in paper:
    print(f"{name:9} {lead(name, 30):+.3f} at 30 billion tokens, {lead(name, 250):+.3f} at 250 billion")
gap.reveal()

# %% [markdown]
# **Read the figure.** PolyNorm's lead melts from 0.034 to 0.019, while ReLU falls further behind. So a comparison at *one*
# moment says how far those moments are from each other, no more. A small experiment stops much earlier than this one: it
# would see the left end.
#
# A lead in nats can be told in tokens, too: how many does PolyNorm need for the loss that SwiGLU has in the end?

# %% exercise="steps_to_target"

# %%
from minipolycom.viz.widgets import guess_number

tokens = guess_number(
    "After how many billion tokens does PolyNorm have the loss that SwiGLU has after 250 billion?",
    "billion",
    25.0,
    250.0,
)
tokens

# %%
import torch

from minipolycom.learn import reference

last = next(loss for place, loss in sorted(paper["swiglu"][0].items()) if place >= 250)
arrived = {}
for name, seeds in paper.items():
    places, curve = zip(*sorted(seeds[0].items()), strict=True)
    arrived[name] = float(reference("steps_to_target")(torch.tensor(places), torch.tensor([curve]), last))
    told = f"after {arrived[name]:5.1f} billion tokens, {250 / arrived[name]:.2f} times as fast as 250"
    print(f"{name:9} reaches {last:.3f} {'never' if arrived[name] == float('inf') else told}")
tokens.compare(arrived["polynorm"])

# %% [markdown]
# **Read the numbers.** A lead of 0.019 nats is a third of the training: at that end the curves are nearly flat, so a small
# step down is a long way across. GELU and ReLU never arrive. To write 270 for them would be to make a finding of the length
# of the experiment.
#
# And the control: **SwiGLU beats itself**, by a few percent. It meets its own loss before 250 billion tokens, because the
# first time under a line is a lucky moment of a curve that jitters, even of one that looks smoothed. That much of every
# speed-up is nothing. (How *our* runs do by this clock stands in section 5.)
#
# ### What you have now
#
# - Differences instead of curves; a lead that shrinks.
# - A clock for which never is an answer, and which flatters whoever it looks at.
# - One run per curve. How far would a second run of SwiGLU be from the first? The figure cannot say.
#
# ## 2 · A floor to measure by
#
# Is a loss of 2.17 good? On real text nobody knows what the best would be. So we take a language whose law we wrote
# ourselves: a grammar with names, agreement, nesting, and arithmetic modulo ten. (This section starts anew; everything in
# it runs after the set-up cell alone.)

# %%
from minipolycom import TokenData

language = TokenData("grammar", context=128, batch_size=16, tokenizer="words")
print(language.tokenizer.decode(language.val_tokens[:120]).replace(".", ".\n"))
print(f"\nlowest possible loss on its validation text: {language.floor:.4f} nats per word")
print(f"a reader who knows how often each word comes, and no more: {language.unigram_entropy:.4f}")

# %% [markdown]
# Everything between the two numbers is grammar: what follows from what. No model can get under the first one, unless it
# has learnt the validation text by heart.

# %% exercise="above_floor"

# %% [markdown]
# Now train three activations, with the same weights to start from as far as their shapes allow, the same batches, the same
# learning rate. (A run goes on where it was stopped, even after a restart.) How near to the floor do they get?

# %%
from minipolycom.viz.widgets import guess_number

near = guess_number(
    "The best of GELU, SwiGLU and PolyNorm, after a minute of training: how far above the floor will it end?",
    unit="nats per word",
    low=0.0,
    high=3.0,
)
near

# %% cost="three_to_the_floor"
from minipolycom.learn import cost
from minipolycom.viz.widgets import live_training

steps = cost("three_to_the_floor").steps
live = live_training(
    ("gelu", "swiglu", "polynorm"),
    source="grammar",
    tokenizer="words",
    steps=steps,
    eval_every=max(4, steps // 8),
    out=f"runs/05_training_dynamics/{steps} steps",
)
live.start()
live

# %%
verdict = live.wait()
verdict.round(3)

# %% [markdown]
# The losses in the table are over a few windows. Here is the distance to the floor by the formula that you wrote, over more
# of them, and for each kind of word by itself.

# %%
from minipolycom.evaluate import evaluate
from minipolycom.learn import tier
from minipolycom.viz import figures

windows = 4 if tier().name == "smoke" else 64
found = {name: evaluate(run.model(), language, windows=windows, progress=False) for name, run in live.runs.items()}
for name, result in found.items():
    print(f"{name:9} loss {result['loss']:.3f}, {result['above_floor']:.3f} above the floor")
kinds = [row["kind"] for row in next(iter(found.values()))["kinds"]]
by_kind = figures.lines(
    {name: [row["above_floor"] for row in result["kinds"]] for name, result in found.items()},
    kinds,
    xlabel="kind of word",
    ylabel="nats above the floor",
    title="What is still missing, by kind of word",
    markers=True,
)
figures.show(by_kind.update_xaxes(dtick=1))
near.compare(min(result["above_floor"] for result in found.values()))

# %% [markdown]
# **Read the figure.** What is left to learn is not spread evenly. Words that are *chosen* are nearly as well predicted as
# they can be: their loss is high, and nearly all of it is floor. What is missing is in a few kinds: names and colours that
# have to be remembered, products, and above all sums. After a minute of training a sum modulo ten stands at $\ln 10 = 2.3$
# nats above its floor of zero, a blind guess among ten digits. One loss for all words hides that; a distance to the floor
# shows it.
#
# Which of the three won? One seed, one rate, one moment: hold that thought, with the number.
#
# ### What you have now
#
# - The loss of the law itself as a zero point. Losses on two texts can now be compared.
# - Three runs and an order among them. It is a fact about three runs.
#
# ## 3 · A learning rate of one's own
#
# All models of the paper were trained with the same settings, learning rate included, and its reviewers asked how much hangs
# on that. Try one activation, PolyReLU, at four rates, each four times the one before.

# %%
from minipolycom.viz.widgets import choose

sweep_guess = choose(
    "PolyReLU at the learning rates 0.0005, 0.002, 0.008 and 0.032, for 150 steps. Which ends lowest?",
    {
        "0.0005": "It falls smoothly and has not got far when training ends.",
        "one of the two in the middle": "Large enough to get somewhere, small enough to settle. Between these two there "
        "may be little to choose.",
        "0.032": "It is fast at first. Then its steps are too large to settle, though nothing blows up: the gradient is "
        "clipped and the rate decays.",
        "all alike": "AdamW makes steps of about the size of the rate, whatever the gradient is. The rate decides.",
    },
    right="one of the two in the middle",
)
sweep_guess

# %% cost="rate_sweep"
from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.learn import cost
from minipolycom.viz import figures

steps = cost("rate_sweep").steps
language = TokenData("grammar", context=128, batch_size=16, tokenizer="words")
model = GPTConfig.preset("tiny", activation="polyrelu", vocab_size=language.tokenizer.vocab_size)
swept = {}
for rate in (5e-4, 2e-3, 8e-3, 3.2e-2):
    settings = TrainConfig(
        steps=steps,
        learning_rate=rate,
        eval_every=max(4, steps // 8),
        eval_batches=8,
        checkpoint_every=steps,
        record_every=0,
    )
    folder = f"runs/05_training_dynamics/{steps} steps at {rate:g}"
    swept[rate] = fit(language, model, settings, name=f"rate {rate:g}", out=folder, progress=False)

# %%
rows = [row for run in swept.values() for row in run.rows]
ends = {rate: run.losses("val")[-1] for rate, run in swept.items()}
curves = figures.training_curves(rows, floor=("lowest possible loss", language.floor))
far = max(ends.values()) - language.floor  # of the worst; the curves' beginnings are far above
figures.show(curves.update_yaxes(range=[language.floor - 0.1 * far, language.floor + 2.5 * far]))
print(", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in ends.items()))
print(f"from the worst rate to the best: {max(ends.values()) - min(ends.values()):.3f} nats, one activation, one seed")
sweep_guess.reveal()

# %% [markdown]
# **Read the figure.** It is the same model on the same batches, four times. The two outer rates lose for opposite reasons,
# one too slow and one too restless. And look at the size of it: what you have just won by nothing but a number in
# `TrainConfig` is several times the distance between PolyNorm and SwiGLU in the paper. That is the **control** of this
# section. Give the four runs four names, and you have a paper on a new activation.
#
# So each activation gets a rate of its own, and the rule by which it is chosen has to be written down before.

# %% exercise="chosen_rate"

# %% [markdown]
# Sweeps like yours, for eight activations on two texts, are recorded with the course: four rates, 600 steps, the model that
# you have just trained. The rates were tried on a seed of their own, which no later comparison uses.
#
# Suppose that somebody compares all eight at *one* rate, as is usual. Who wins?

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz.widgets import choose

record = recorded("dense")
sweeps = {"stdlib": {}, "grammar": {}}
for group, found in record.rates.items():
    arm, text = group.split(", ")
    sweeps[text][arm] = {float(rate): loss for rate, loss in found["losses"].items()}


def winners(text):
    """At each rate of the grid, the activation with the lowest loss; a run that diverged has none."""
    grid = sorted(next(iter(sweeps[text].values())))
    return {rate: min(sweeps[text], key=lambda arm: sweeps[text][arm][rate] or float("inf")) for rate in grid}


n_winners = len(set(winners("grammar").values()))
one_rate = choose(
    "On the grammar, at the rates 0.001, 0.002, 0.004 and 0.008: how many different winners are there?",
    {str(n): f"The record has {n_winners}: {', '.join(winners('grammar').values())}." for n in (1, 2, 3, 4)},
    right=str(n_winners),
)
one_rate

# %% claim="one-rate"
from minipolycom.viz import dynamics, figures

assert all(len(set(winners(text).values())) > 1 for text in sweeps)
figures.show(dynamics.rates(sweeps, "Loss after 600 steps, by learning rate; the best of each is ringed"))
for text in sweeps:
    print(f"{text}: " + ", ".join(f"{arm} wins at {rate:g}" for rate, arm in winners(text).items()))
for text, arms in sweeps.items():
    best = {arm: min(loss for loss in losses.values() if loss is not None) for arm, losses in arms.items()}
    first, second = sorted(best, key=best.get)[:2]
    print(f"{text}, each at its own rate: {first} {best[first]:.3f}, then {second} {best[second]:.3f}")
for arm in ("polyrelu", "gelu"):
    losses = sweeps["grammar"]
    places = {rate: sum(other[rate] < losses[arm][rate] for other in losses.values()) + 1 for rate in losses[arm]}
    print(f"place of {arm} on the grammar: " + ", ".join(f"{place} at {rate:g}" for rate, place in places.items()))
one_rate.reveal()

# %% [markdown]
# **Read the figure.** The curves cross. Whoever fixes one rate for all has chosen the winner, and need not know it. On the
# grammar PolyReLU goes from the front to the back of the field as the rate grows, and GELU the other way.
#
# A ring at the edge of the grid would mean that the best rate had not been found. One seed stands behind each point: how
# much that is, is the next question.
#
# ### What you have now
#
# - A factor in the learning rate is worth more than a change of activation. Compare at the best rate of each.
# - A rule for choosing it, and a seed for choosing that is not used again.
#
# ## 4 · Seeds, in pairs
#
# The compared runs of the record: five seeds, each activation (in the language of studies, each *arm*) at its own rate.
# A seed decides the weights to start from, *and the batches*. All activations with seed 0 have read the same text in the
# same order. (This section needs the set-up cell alone.)

# %%
from minipolycom.studies.records import recorded

record = recorded("dense")
ends = {"stdlib": {}, "grammar": {}}
for row in record.table("end"):
    if row["phase"] == "main":
        ends[row["source"]].setdefault(row["arm"], {})[row["seed"]] = row["loss"]
for text, arms in ends.items():
    print(f"\n{text}: loss by seed")
    for arm, losses in sorted(arms.items(), key=lambda item: sum(item[1].values())):
        print(f"  {arm:13}" + "".join(f"{losses[seed]:9.3f}" for seed in sorted(losses)))

# %% [markdown]
# Look at the columns of the first table. If a seed's batches are hard for everybody, then they are in both losses, and a
# difference within a seed does not see them.

# %% exercise="paired_difference"

# %%
from minipolycom.viz.widgets import choose

pairing = choose(
    "The same losses, but each run paired with a run of another seed. What happens to the mean difference and its interval?",
    {
        "both stay": "The mean does, since the same numbers are added up. The interval does not.",
        "mean stays, interval changes": "It gets wider where two activations found the same batches hard: that no longer "
        "cancels. Where they had nothing in common, it was luck before and is luck after.",
        "mean moves, interval stays": "The mean is made of the same ten numbers, in whatever order.",
    },
    right="mean stays, interval changes",
)
pairing

# %%
import torch

from minipolycom.learn import reference
from minipolycom.studies.statistics import Interval
from minipolycom.viz import dynamics, figures


def against(text, shift=0, baseline="swiglu"):
    """Each arm minus the baseline, seed by seed; with a shift, each run beside that of another seed."""
    intervals = {}
    for arm, losses in ends[text].items():
        seeds = sorted(losses.keys() & ends[text][baseline].keys())
        first = torch.tensor([losses[seed] for seed in seeds], dtype=torch.float64)
        second = torch.tensor([ends[text][baseline][seed] for seed in seeds], dtype=torch.float64).roll(shift)
        if arm != baseline:
            mean, low, high = reference("paired_difference")(first, second).tolist()
            intervals[arm] = Interval(mean, low, high, 0.95, len(seeds), "Student")
    return intervals


panels = {"same seed": against("stdlib"), "another seed": against("stdlib", shift=1)}
figures.show(dynamics.intervals(panels, "loss minus SwiGLU's, nats", "stdlib: paired rightly and wrongly, 95 %"))
for arm, found in panels["same seed"].items():
    wrongly = panels["another seed"][arm]
    ratio = (wrongly.high - wrongly.low) / (found.high - found.low)
    print(f"{arm:13} with the wrong partner the interval is {ratio:.1f} times as wide")
pairing.reveal()

# %% [markdown]
# **Read the figure.** On the left are the differences as they should be taken, on the right the **control**: the same losses
# with the wrong partners. The means are the same to the last digit. Beside its relative GeGLU, SwiGLU has most of its luck
# in common, and with the wrong partners that interval is several times as wide. Beside ReLU it has little in common, and the
# pairs buy nothing.
#
# A diamond is an interval that holds zero. With five seeds the mean has to be one and a quarter times their scatter to leave
# it out; with three it would have to be two and a half times.

# %%
panels = {text: against(text) for text in ends}
figures.show(dynamics.intervals(panels, "loss minus SwiGLU's, nats", "Each activation at its own rate, minus SwiGLU"))
for text, arms in panels.items():
    clear = {arm: found for arm, found in arms.items() if found.low > 0 or found.high < 0}
    told = ", ".join(f"{arm} {'below' if found.high < 0 else 'above'}" for arm, found in clear.items())
    print(f"{text}: {len(clear)} of {len(arms)} intervals leave zero out{': ' + told if told else ''}")
    spread = {arm: max(losses.values()) - min(losses.values()) for arm, losses in ends[text].items()}
    widest = max(spread, key=spread.get)
    print(f"  farthest apart are two runs of {widest}: {spread[widest]:.3f} nats, by nothing but the seed")
    means = [sum(losses.values()) / len(losses) for losses in ends[text].values()]
    print(f"  from the lowest to the highest mean of eight activations: {max(means) - min(means):.3f} nats")

# %% [markdown]
# **Read the figure.** On Python's library the interval of PolyNorm has zero near its middle: beside SwiGLU there is no lead
# to speak of, in either direction, while GELU, ReLU and SiLU are clearly above. On the grammar another seed moves
# PolyNorm by more than lies between the lowest mean and the highest. Remember the rates: there each was chosen by one run,
# and one run is a draw from this. So was the order in which your three came out.
#
# ### What the record decides
#
# An interval on one side of zero is not enough when many are looked at, since one in twenty leaves zero out by luck. So the
# course judges its studies by one rule for all. Of each comparison it takes the p-value, the chance of a difference as large
# as this if there were none; those of a study are adjusted together (Holm's method); and a claim about an order holds if each of its comparisons does.

# %% claim="dense-loss"
from minipolycom.viz import figures, studies

for number, statement in enumerate(record.statements):
    if statement["claim"] == "dense-loss":
        figures.show(studies.intervals(record, statement=number))
    print(f"{statement['verdict']:>9}: {statement['text']}")
lines = [line for statement in record.statements for line in statement["comparisons"]]
alone, together = (sum(line[p] < 0.05 for line in lines if line["p"] is not None) for p in ("p", "p_adjusted"))
print(
    f"\n{len(lines)} comparisons of {len(record.seeds)} seeds: p < 0.05 for {alone} by themselves, for {together} together"
)

# %% [markdown]
# **Read the figure.** The paper's order among its five activations is the claim; the figure says for each pair which way
# ours points and how surely. A claim about an order needs all of them, so *undecided* stands over it as long as one is.
# "Undecided" is not "no". It is what a few seeds can say of so many comparisons at once, and it is what would have to stand
# under most small comparisons of activations.
#
# What would it take to decide, if only one comparison were made? The record had three seeds at first, and nothing in it was
# decided. So this was the question: how many more?

# %% exercise="seeds_needed"

# %%
import torch

from minipolycom.learn import reference


def apart(text, arm, seeds):
    """An activation's losses minus SwiGLU's, of these seeds."""
    return torch.tensor([ends[text][arm][seed] - ends[text]["swiglu"][seed] for seed in seeds], dtype=torch.float64)


pairs = [(text, arm) for text, arms in ends.items() for arm in arms if arm != "swiglu"]
planned = {pair: int(reference("seeds_needed")(apart(*pair, record.seeds[:3]))) for pair in pairs}
for (text, arm), needed in sorted(planned.items(), key=lambda item: item[1]):
    print(f"{text:8} {arm:13} beside swiglu: {needed} seeds, by the plan from the first three")

# %% [markdown]
# Then two more seeds were trained, for every activation. Of the comparisons that the plan wanted to settle with five or
# fewer, how many did five settle?

# %%
from minipolycom.viz.widgets import choose


def settled(text, arm):
    """Whether the interval of all seeds leaves zero out."""
    differences = apart(text, arm, record.seeds)
    _, low, high = reference("paired_difference")(differences, torch.zeros_like(differences))
    return bool(low > 0 or high < 0)


promised = [pair for pair, needed in planned.items() if needed <= len(record.seeds)]
kept = [pair for pair in promised if settled(*pair)]
told = f"{len(kept)} of {len(promised)}."
promise = choose(
    "How many of these promises were kept?",
    {
        "all but one or two": f"{told} The plan takes the scatter of three numbers for the truth.",
        "more than half": f"{told} It is near. Which ones were not?",
        "half or fewer": f"{told} The plan takes the scatter of three numbers for the truth.",
    },
    right="half or fewer"
    if 2 * len(kept) <= len(promised)
    else "all but one or two"
    if len(promised) - len(kept) <= 2
    else "more than half",
)
promise

# %%
for text, arm in sorted(pairs, key=planned.get):
    three, five = apart(text, arm, record.seeds[:3]).mean(), apart(text, arm, record.seeds).mean()
    print(
        f"{text:8} {arm:13} planned {planned[text, arm]:2}; three seeds {three:+.4f}, five {five:+.4f}: "
        f"{'settled' if settled(text, arm) else 'not settled'}"
    )
promise.reveal()

# %% [markdown]
# **Read the numbers.** What is far apart was settled as planned. Small differences with a small scatter were not: a plan
# that asked for two to four seeds because three of them happened to agree. The scatter of three numbers is less than half of
# the true one in one case of five, and whoever looks at fourteen comparisons will find those cases, and like them. PolyNorm's
# lead over SwiGLU on Python's library, there with each of the first three seeds, was gone with five.
#
# And this is a second look. Whoever adds seeds until a difference is clear will get one, some day, from nothing. Two looks,
# the second announced after the first, for all activations alike, is how it was done here; say so, as the course's
# [log](LOG.md) does.
#
# ### What you have now
#
# - Pairs take out what two runs of a seed have in common, however much or little that is.
# - A verdict by a rule, with *undecided* among the answers, the price of deciding, and what three numbers know of it.
#
# ## 5 · When one looks
#
# The third knob is the moment. The paper's curves begin after 25 billion tokens. Ours begin at the beginning.

# %%
from minipolycom.studies.records import recorded
from minipolycom.viz import dynamics
from minipolycom.viz.widgets import choose

record = recorded("dense")
ours = {text: dynamics.runs_of(record, text) for text in ("stdlib", "grammar")}


def at_step(step, text="stdlib"):
    """PolyNorm's loss minus SwiGLU's at a step, the mean over seeds."""
    apart = dynamics.minus(ours[text]["polynorm"], ours[text]["swiglu"])
    return sum(curve[step] for curve in apart.values()) / len(apart)


early = choose(
    "After a sixth of our training on Python's library, where is PolyNorm beside SwiGLU?",
    {
        "ahead": f"After 100 of 600 steps it is {at_step(100):+.3f} nats from SwiGLU.",
        "behind": f"After 100 of 600 steps it is {at_step(100):+.3f} nats from SwiGLU.",
        "level": f"After 100 of 600 steps it is {at_step(100):+.3f} nats from SwiGLU.",
    },
    right="behind" if at_step(100) > 0.005 else "ahead" if at_step(100) < -0.005 else "level",
)
early

# %% claim="dense-gap"
from minipolycom.studies.published import published
from minipolycom.studies.statistics import mean_interval
from minipolycom.viz import figures

paper = {name: {0: curve} for name, curve in published("polycom-dense-training-loss").items()}
compared = {"the paper, 1.3 billion parameters": paper}
for text, runs in ours.items():
    begun = {
        name: {seed: {step: curve[step] for step in curve if step > 0} for seed, curve in runs[name].items()}
        for name in paper
    }
    compared[f"ours, {text}"] = begun
places = ["billions of tokens", "optimizer steps", "optimizer steps"]
figures.show(dynamics.differences(compared, "swiglu", places, "Loss minus SwiGLU's: the paper's runs and ours"))
for text in ours:
    trace = ", ".join(f"{at_step(step, text):+.3f} at {step}" for step in (50, 100, 200, 300, 600))
    print(f"PolyNorm minus SwiGLU on {text}, by step: {trace}")
leads = dynamics.minus(ours["stdlib"]["swiglu"], ours["stdlib"]["polynorm"])
grown = mean_interval([curve[600] - curve[100] for curve in leads.values()])
print(f"its lead on stdlib has grown by {grown.estimate:.3f} nats since step 100 ({grown.low:.3f} to {grown.high:.3f})")
assert grown.low > 0  # where the paper's curves have it shrink
early.reveal()

# %% [markdown]
# **Read the figure.** All panels have one scale. Bands are the range over five seeds; the paper's single runs have none to
# show, and its differences are about as large as what another seed changes in ours.
#
# On Python's library PolyNorm begins *behind* SwiGLU and catches up. On the grammar it begins ahead and falls behind. Stop at
# step 50, and you would report a loser where there is a draw, and on the grammar the opposite of what you report at the end.
# The paper's lead shrinks with training, ours is a deficit that training makes good, and both are the same warning: a
# difference belongs to a moment. Models this small and this short do not say what happens after 250 billion tokens, in
# either direction.
#
# ### Steps or seconds
#
# Now the clock of section 1 for our runs, to two losses: the one that SwiGLU has at its end, and the one with which the
# slowest run of the three ends, which all of them reach. And one more unit: an activation may need fewer steps and more time
# for each. The record was made on shared cores, so its seconds say little; *your* machine has trained these three in turns
# in section 2, each on a clock of its own. Steps come from the record, seconds per step from you.

# %% claim="dense-speed"
from minipolycom.studies.statistics import Reached, crossing
from minipolycom.viz import dynamics, figures


def clock(curve, target, seconds_per_step=1.0):
    """When a curve of (step, loss) is first at a loss, on straight lines between its points; or that it never is."""
    place = crossing(curve, target)
    return Reached(round((place or curve[-1][0]) * seconds_per_step, 1), censored=place is None)


names = ("gelu", "swiglu", "polynorm")
per_step = {name: 16 * 128 / verdict.loc[name, "tokens per second"] for name in names}
runs = {name: [sorted(curve.items()) for curve in ours["stdlib"][name].values()] for name in names}
last = {name: [curve[-1][1] for curve in curves] for name, curves in runs.items()}
targets = {
    "SwiGLU's last loss": sum(last["swiglu"]) / len(last["swiglu"]),
    "the slowest's": max(map(max, last.values())),
}
clocks = {}
for name, curves in runs.items():
    for told, target in targets.items():
        clocks.setdefault(f"steps to {told}", {})[name] = [clock(curve, target) for curve in curves]
    timed = [clock(curve, targets["the slowest's"], per_step[name]) for curve in curves]
    clocks.setdefault("seconds to the slowest's, here", {})[name] = timed
    print(f"{name:9} {1000 * per_step[name]:5.0f} ms for a step on this machine")
figures.show(dynamics.times(clocks, "How long it takes, on Python's library; a triangle: not within the training"))

# %% [markdown]
# **Read the figure.** On the left there is little to save. The rate decays to the end, so the last steps fall steeply,
# and whoever wants to have SwiGLU's last loss has to go nearly all the way. The paper's third of a training is not seen
# here. In the middle, further up, the order comes out in steps; on the right, in time. A lead of a tenth in steps is gone
# if a step takes a tenth longer, and what a step costs depends on how it is programmed more than on the idea: notebook
# 08.
#
# ### What you have now
#
# - The sign of a difference can depend on when one looks.
# - Steps, tokens, seconds: three clocks, and a lead on one need not be one on the others.
#
# ## 6 · Hold it, go back, take another way
#
# All comparisons so far were between whole runs. The cockpit compares from the middle: train, drag the step back to where
# the run should have gone otherwise, and **branch**, with another rate or activation, from the same weights and with the same
# batches.
#
# 1. Press Start and let it finish (at the cpu tier half a minute or so). It keeps its runs in a folder and goes on there
#    after a restart.
# 2. Drag the step to about half, choose a quarter of the learning rate, press **Branch here**. The branch falls below its
#    parent at once. Is it still below at the end?
# 3. From the same step, branch with the same rate and *nothing* changed: the control. What do you expect?

# %%
from minipolycom.learn import tier
from minipolycom.viz.widgets import cockpit

steps = 12 if tier().name == "smoke" else 240
held = cockpit(
    "polynorm",
    source="grammar",
    tokenizer="words",
    steps=steps,
    learning_rate=8e-3,
    out=f"runs/05_training_dynamics/cockpit {steps} steps",
)
held

# %% [markdown]
# <details>
# <summary>What you will have seen</summary>
#
# A smaller rate lowers the loss *now*: the noise of the large steps dies down. What it costs is the way that the parent still
# makes, and under a schedule that decays anyway the parent gets its own calm at the end; in our trial it was in front again
# before the last quarter of the training was over. So the loss at a step says how high the rate is there, besides how good
# the model is. That is the catch in "reaches SwiGLU's last loss after 172 billion tokens": SwiGLU's last loss was taken with
# the rate run down, PolyNorm's with the rate still up. Of the two errors of that clock, this one is to PolyNorm's
# disadvantage, and the luck of the first crossing to its advantage.
#
# The branch with nothing changed repeats its parent to the last bit, on a CPU. Without that, no difference from a branch
# would mean anything.
#
# </details>
#
# ## 7 · What turns the order round
#
# All that you have measured, in one unit. (This cell takes what sections 1, 3, 4 and 5 have left.)

# %%
from minipolycom.viz import figures

all_sweeps = [losses for text in sweeps.values() for losses in text.values()]
finished = [[loss for loss in losses.values() if loss is not None] for losses in all_sweeps]
means = {arm: sum(losses.values()) / len(losses) for arm, losses in ends["stdlib"].items()}
summary = {
    "paper's lead": abs(lead("polynorm", 250)),
    "our lead": abs(means["polynorm"] - means["swiglu"]),
    "our lead, step 100": abs(at_step(100)),
    "another seed": max(max(own.values()) - min(own.values()) for arms in ends.values() for own in arms.values()),
    "another rate": max(max(losses) - min(losses) for losses in finished),
    "your rates": max(run.losses("val")[-1] for run in swept.values())
    - min(run.losses("val")[-1] for run in swept.values()),
}
figures.show(
    figures.bars(summary, "what is changed", "nats per token, in size", "An activation, and what else changes a loss")
)

# %% [markdown]
# **Read the figure.** The first two bars are what the question is about: PolyNorm beside SwiGLU, and the second is hardly to be
# seen. The others are what answers it instead, if one does not take care: the largest that the record has of each, for one
# activation, and yours.
#
# ### What you have shown
#
# - The rate, the moment and the seed can each turn the order of these activations round.
# - With a rate of its own for each and runs in pairs, five seeds settle differences of a few hundredths of a nat. Half of
#   what three had promised was kept. What the record says of the paper's order stands in section 4, by a rule.
# - The controls: an activation at two rates beats itself by more than it beats any other; with wrong partners the same
#   means get other intervals; SwiGLU reaches its own last loss early; a branch with nothing changed changes nothing.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A paper compares a new activation with GELU at GELU's usual learning rate, and the new one wins. What do you ask?</summary>
#
# Less than if it had lost: the rate favours the old one. Still, how many seeds? And if the new one lost, the comparison says
# nothing at all before its own rate was tried.
#
# </details>
#
# <details>
# <summary>Three seeds, differences of −0.010, −0.011 and −0.009. And −0.030, −0.001 and +0.001. The means are equal. Are the results?</summary>
#
# No. The first interval is about −0.0125 to −0.0075; the second holds zero easily. The mean is not the result, the interval is.
#
# </details>
#
# <details>
# <summary>Why is the learning rate chosen on a seed that no comparison uses?</summary>
#
# The rate with the lowest loss is partly the one with the luckiest run. Compared with that same run, it brings its luck
# along; on new seeds the luck is gone, for all arms alike.
#
# </details>
#
# <details>
# <summary>Two of five runs never reach the target. What is the median time to it? And the mean?</summary>
#
# The median is the third shortest, which is known. The mean is not known: it depends on how long the two would have taken.
#
# </details>
#
# <details>
# <summary>On the grammar a model is 0.05 nats above the floor. How much lower can a better activation bring its loss?</summary>
#
# By 0.05 at most. That is what a floor is for. On Python's library the same question has no known answer.
#
# </details>
#
# **Paper map.** Rows *PolyNorm trains to a lower loss, and PolyReLU comes second* (section 4) and *reaches SwiGLU's loss
# earlier* (sections 1 and 5): what our record decides of each, at its scale, stands in the paper map and in `course/RESULTS.md`.
# *One learning rate for all is fair*: contradicted (section 3). *The lead shrinks with training*: contradicted, at our scale
# (section 5).
#
# **Read on.** Notebook 06 asks the same of mixtures of experts, 07 whether rank explains a loss, 09 the same at several sizes.
# X. Bouthillier et al., *Accounting for variance in machine learning benchmarks*, 2021; D. Choi et al., *On empirical comparisons
# of optimizers for deep learning*, 2019 (the search space of the rates decides the winner there, too); R. Agarwal et al., *Deep
# reinforcement learning at the edge of the statistical precipice*, 2021. The published curves are from the authors'
# repository, [github.com/BryceZhuo/PolyCom](https://github.com/BryceZhuo/PolyCom).

# %%
from minipolycom.learn import progress_map

progress_map()
