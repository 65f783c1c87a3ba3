# %% [markdown] title="Start here" minutes=40 hardware="2 CPU cores are enough"
# **By the end you will have shown** that a small transformer predicts Python's own source code far better than letter
# frequencies allow, because it uses what came before, above all its *order*, and that the control, the same model on the
# same text with its characters shuffled, fails.
#
# On the way you will
#
# - **measure** how hard a text is for a reader who knows nothing but how often each byte occurs,
# - **predict** a number before you see it,
# - **train** two language models, and watch them, pause them, stop them,
# - **destroy** the one thing they live on, and see what is left.
#
# Nothing here asks you to believe anything. That is how the whole course works.

# %% [markdown]
# ## What the course is about
#
# Two papers, two ideas, both simple enough to be tested on the machine in front of you.
#
# **Polynomial composition activations** ([Zhuo et al., ICLR 2025](https://arxiv.org/abs/2411.03884)). The bend in a
# neural network is nearly always a rectifier or a smooth relative of it. The paper bends with powers instead:
# $x$, $x^2$ and $x^3$, tamed by a rectifier (PolyReLU) or by dividing each power by its size over the row, which is all
# hidden values of one token (PolyNorm). It proves that PolyReLU networks approximate smooth functions at the best possible
# rate, asserts the same of PolyNorm without a proof, and reports lower losses: in its curves for a model of 1.3 billion
# parameters, 2.171 nats with PolyNorm and 2.190 with SwiGLU, a usual choice today, after 250 billion tokens. One run each,
# with one learning rate for all. (A **nat** is the unit of a loss that is taken with the natural logarithm.)
#
# **The rank differential mechanism** (ICLR 2023). A network that learns by making two views of one image agree could
# give the same answer to everything. SimSiam, BYOL, SwAV and DINO do not collapse in that way, though nothing in their
# losses forbids it. The paper's explanation: each of them treats the two views differently, in a way that keeps the *rank*
# of one side, roughly the number of directions that its outputs use, above that of the other.
#
# What joins the two is a way of looking: at the spectrum of what a network computes. What keeps us honest is the same
# in both: several seeds, a control that must fail, and results that are kept when they disagree with the paper.

# %% setup=true

# %% [markdown]
# ## Is everything here?
#
# The doctor looks at what is installed, what this machine can do, and says how to mend what is missing. A warning about
# a GPU or the network is no reason to stop: this notebook needs neither.

# %%
from minipolycom.learn import doctor

doctor()

# %% [markdown]
# ## A text that is always there
#
# Python comes with its own library as readable source code: hundreds of files, millions of characters, written by many
# hands over thirty years. It is real text, it is on every machine that can run this notebook, and nothing has to be
# downloaded. Some of its files are set aside for **validation**: no model is trained on them.

# %%
from minipolycom import TokenData

data = TokenData("stdlib", context=128, batch_size=16)
print(data.description)
print()
print(data.tokenizer.decode(data.val_tokens[40_000:40_600]))

# %% [markdown]
# A language model reads **tokens**. Here a token is simply a byte, a number from 0 to 255; for plain English letters a
# byte is a character.

# %%
sentence = "def café():"
tokens = data.tokenizer.encode(sentence)
print(tokens)
print(f"{len(sentence)} characters, {len(tokens)} bytes: é takes two of them")
print(data.tokenizer.decode(tokens))

# %% [markdown]
# How often does each byte occur? Far from evenly.

# %%
import torch

from minipolycom.viz import figures

counts = torch.bincount(torch.from_numpy(data.val_tokens.astype("int64")), minlength=256)
share = counts / counts.sum()
most = share.argsort(descending=True)[:16].tolist()
names = {32: "space", 10: "line end"}
figures.show(
    figures.bars(
        {names.get(byte, chr(byte)): float(share[byte]) for byte in most},
        xlabel="byte",
        ylabel="share of the validation text",
        title="The sixteen most frequent bytes of Python's library",
    )
)

# %% [markdown]
# **Read the figure.** The space alone is more than a quarter of the text: Python is indented. After it come the letters that
# lead the tables of English. A reader who knew these bars, and nothing else, would already be far better off
# than one who thinks that every byte is equally likely. How much better off? That is a number, and computing it is
# the first exercise.

# %% [markdown]
# ## How exercises work
#
# Write your answer in the cell and run it. `check` says **passed**, **not attempted**, or **wrong**; a wrong answer is
# told what was expected and what came, and, where it is a mistake that we know, which one. `hint("unigram_entropy")`
# gives a hint, `hint("unigram_entropy", 2)` a larger one, `solution("unigram_entropy")` everything. You can get it
# wrong as often as you like. You can also leave it: everything below runs without it.
#
# Where does the formula come from? If a byte has probability $p$, learning that it came is worth $-\ln p$ nats of
# surprise: nothing if it was certain, much if it was rare. Averaged over a text in which bytes come as often as their
# probabilities say, that is the **entropy**. No reader who pays no heed to what came before can be less surprised than that.

# %% exercise="unigram_entropy"

# %% [markdown]
# The notebook goes on with the course's own version, so it does not matter here whether yours passed.

# %%
import math

from minipolycom.learn import reference

floor = float(reference("unigram_entropy")(counts))
print(f"every byte equally likely: {math.log(256):.3f} nats per byte")
print(f"knowing the frequencies:   {floor:.3f} nats per byte, as hard as {math.exp(floor):.0f} equally likely bytes")

# %% [markdown]
# ### What you have now
#
# - A text, cut into bytes, with some files held back for validation.
# - Two fixed points for every loss in this notebook: $\ln 256 = 5.545$ for no knowledge at all, and the entropy of single
#   bytes for knowledge of frequencies without order.
# - Whatever gets under the second line has learnt to use what came before. Nothing else can get there.

# %% [markdown]
# ## Predict, then train
#
# Next you train two transformers, for a minute or two. Both have two layers and 0.46 million parameters, and they start from
# the same matrices; one bends with GELU, the other with PolyNorm.
#
# First say what will happen. A prediction costs nothing and changes how you look at what follows. The loss of the
# better of the two, on text that neither has seen: will it be near 5.5? Just under the line of the frequencies? Near
# zero, as if it knew the files by heart?
#
# (Without a mouse: Tab reaches every control, Space presses and chooses, the arrow keys move a slider, Shift+Tab leads out of
# it.)

# %%
from minipolycom.viz.widgets import guess_number

guess = guess_number(
    "What will be the lower of the two validation losses after training?", unit="nats per byte", low=0.0, high=6.0
)
guess

# %% [markdown]
# The widget trains in the background, the two models in turns. Play with it while it does: **Pause** it, resume it, choose
# seconds instead of steps for the horizontal axis.

# %% cost="first_training"
from minipolycom.learn import cost
from minipolycom.viz.widgets import live_training

live = live_training(("gelu", "polynorm"), preset="tiny", steps=cost("first_training").steps)
live.start()
live

# %% [markdown]
# Run the next cell when you have seen enough of the curves growing: it waits until both are done, and while it waits the
# buttons above do nothing. The notebook's own stop button (■) ends the training after the current step and keeps what was
# measured.

# %%
verdict = live.wait()
verdict.round(3)

# %%
guess.compare(float(verdict["validation loss"].min()))

# %% [markdown]
# **Read the figure.** Thin lines are the loss on the text being read, dots the loss on the files held back. The first
# steps are steep and dull: the models learn the frequencies, down to the dashed line. Then they go through it, and from
# there on every bit of progress is context: that `d`, `e`, `f` is followed by a space, that brackets close, that four
# spaces begin a line.
#
# **Which activation won?** Look at the two losses in the table, and then resist. This was one seed, one learning rate and
# a minute or two. The same two models with another seed could come out the other way round. A difference without a spread is not
# a result.

# %% [markdown]
# What does a model with such a loss know? Let it write. `temperature` below 1 keeps it to what it finds likely.

# %%
run = live.runs["polynorm"]
prompt = "def "
written = run.model().generate(run.tokenizer.encode(prompt), n_new=300, temperature=0.7, seed=0)
print(run.tokenizer.decode(written))

# %% [markdown]
# Not a word of it runs, and yet nobody would take it for anything but Python: indentation, brackets, `self.`, words of about
# the right length. It is what two layers can learn in a minute.

# %% [markdown]
# ## The control: take away the order
#
# A claim is worth as much as its control. Ours is that the model goes under the line *because* it uses what came before. So
# make what came before worthless, and change nothing else: shuffle all the characters. Every frequency stays as it was.

# %%
import random
from pathlib import Path

text = data.tokenizer.decode(data.train_tokens).replace("\0", "\n")
characters = random.Random(0).sample(text, k=2_000_000)  # in random order, none of them twice
shuffled = Path("runs/shuffled.txt")
shuffled.parent.mkdir(exist_ok=True)
shuffled.write_text("".join(characters), encoding="utf-8")
control_data = TokenData(f"files:{shuffled}", context=128, batch_size=16)
print("".join(characters[:400]).replace("\n", "⏎"))
print(f"entropy of single bytes: {data.unigram_entropy:.3f} before, {control_data.unigram_entropy:.3f} shuffled")

# %% [markdown]
# The same model, the same learning rate, this text. Where will its validation loss end?

# %%
from minipolycom.viz.widgets import choose

where = choose(
    "The model reads the shuffled text for as many steps. Where does its validation loss end?",
    {
        "as low as before": "There is nothing to be learnt from what came before, and no time to learn a million "
        "characters by heart; knowing them by heart would not help with the validation part either.",
        "under the line, but less": "Under the line means knowing more than frequencies. In a shuffled text there is no "
        "more to know.",
        "at the line": "The frequencies are still there to be learnt, and they are all there is. The best possible "
        "guess is the same at every position, and its loss is the entropy of single bytes.",
        "far above the line": "The frequencies survive shuffling, and a model picks them up in its first steps, as "
        "the curves above show.",
    },
    right="at the line",
)
where

# %% cost="shuffled_control"
from minipolycom import GPTConfig, TrainConfig, fit
from minipolycom.learn import cost

steps = cost("shuffled_control").steps
control = fit(
    control_data,
    GPTConfig.preset("tiny", activation="polynorm"),
    TrainConfig(steps=steps, eval_every=max(1, steps // 10), log_every=max(1, steps // 20)),
    name="shuffled text",
)

# %%
real = [row | {"run": "real text"} for row in live.runs["polynorm"].rows]
figures.show(
    figures.training_curves(real + control.rows, floor=("entropy of single bytes", control_data.unigram_entropy))
)
for name, trained, tokens in (("real", live.runs["polynorm"], data), ("shuffled", control, control_data)):
    loss = trained.losses("val")[-1]
    print(f"{name} text: {loss:.3f}, {loss - tokens.unigram_entropy:+.3f} from the entropy of its single bytes")
where.reveal()

# %% [markdown]
# **Read the figure.** Until they reach the line the two runs do the same: frequencies are learnt from either text. There the
# shuffled one stops, within a hundredth of a nat or two of the line, on either side, because each dot is measured on sixteen
# thousand bytes and the line on all of them. The other goes on down. What lies between them is what context is
# worth, in nats.
#
# ### Is it order?
#
# Careful: shuffling took away more than order. In real text the frequencies change from place to place. One file is all
# digits, another all prose. A reader who only *counted* the bytes of its window, in whatever order they stand, could guess a
# little better than one who knows the frequencies of the whole library, and in the shuffled text it could not. How much
# of what we found is that? Such a reader is easy to build: it adds the counts of the window so far to the frequencies of
# the training text, which it trusts as much as so many bytes of its own.

# %%
import numpy as np

train_share = np.bincount(data.train_tokens, minlength=256) / len(data.train_tokens)
windows = data.val_tokens[: len(data.val_tokens) // 128 * 128].reshape(-1, 128)[::8].astype(int)
losses = {}
for trust in (30, 100, 300, 1000):
    seen = np.zeros((len(windows), 256)) + trust * train_share + 1e-6
    total = 0.0
    for column in windows.T:
        rows = np.arange(len(windows))
        total -= np.log(seen[rows, column] / seen.sum(axis=1)).mean()
        seen[rows, column] += 1
    losses[trust] = total / windows.shape[1]
best = min(losses, key=losses.get)
print(f"a reader who only counts its window: {losses[best]:.3f} nats per byte (trusting the library like {best} bytes)")
print(
    f"that is {data.unigram_entropy - losses[best]:.3f} under the line; the transformer is "
    f"{data.unigram_entropy - live.runs['polynorm'].losses('val')[-1]:.3f} under it"
)

# %% [markdown]
# Counting without order is worth a few hundredths of a nat. The transformer's lead is many times that. So it is order, for
# by far the most part, and now the sentence stands on a number.

# %% [markdown]
# ### What you have shown
#
# - A loss has a meaning only beside a fixed point. Ours was the entropy of single bytes, which you computed yourself.
# - The transformer went far below it on real text, and could not on shuffled text: it was the context, and counting
#   without order explains only a few hundredths of it.
# - Which of two activations is better, one run each cannot say.

# %% [markdown]
# ## Before you go
#
# Answer for yourself, then unfold.
#
# <details>
# <summary>A model on another text reaches a loss of 2.5 nats per byte. Is that good?</summary>
#
# It cannot be said without that text's own entropy. On a text of DNA letters, four of them equally frequent, guessing
# blindly costs $\ln 4 = 1.39$: there, 2.5 would be a disaster.
#
# </details>
#
# <details>
# <summary>Could the training loss on the shuffled text go under the line, if you trained for long enough?</summary>
#
# Yes: by learning the shuffled text by heart. The validation loss would then rise. That is why the dots, not the thin
# lines, are what we compare.
#
# </details>
#
# <details>
# <summary>We shuffled characters, not bytes. Does it matter?</summary>
#
# Hardly. Shuffled bytes would tear the few characters apart that take two or more bytes, and the file would no longer be
# valid text. Keeping them whole leaves a trace of order: the second byte of é is easy to guess. But of ten
# thousand bytes only two or three belong to such characters.
#
# </details>
#
# **Paper map.** This notebook settles no claim of either paper; it builds the ruler that the others measure with.
#
# **Read on.** Notebook 01 asks what an activation is for at all. The entropy of printed text is an old question:
# C. E. Shannon, *Prediction and Entropy of Printed English*, 1951.

# %%
from minipolycom.learn import progress_map

progress_map()
