# %% [markdown] title="Four methods, one mechanism" minutes=90 hardware="2 CPU cores" prerequisites="10"
# **By the end you will have shown** that SimSiam, BYOL, SwAV and DINO, which have hardly a line in common, all keep the
# effective rank of their target above that of their online branch, from the first measurement to the last and with every
# seed; and that each of them collapses as soon as you take out a piece that keeps it there. Two controls stand beside them: a
# method without a difference, and one whose difference has the wrong sign.
#
# On the way you will
#
# - **write** the piece that matters of each method: predictor and stop-gradient, momentum update, Sinkhorn's algorithm,
#   centring and sharpening,
# - **take** each piece out again, and watch what is left,
# - **find** a training whose rank difference has the right sign at every step, and which collapses all the same,
# - **see** that SwAV and DINO need two pieces each, and die in two opposite ways without them,
# - **walk** from one branch to the other, one change at a time, and read off where each method hides its asymmetry.
#
# All ranks are effective ranks of eigenvalues, as in notebook 10. We have not read the body of the paper on the rank
# differential mechanism (RDM, ICLR 2023); what is said of it comes from its abstract and from those who cite it, and no
# number here is its.

# %% setup=true

# %% [markdown]
# ## 1 · One curve or two
#
# Notebook 10 ended with an observation: where a method collapses, the ranks of its two branches lie on each other; where it
# does not, they come apart. Here it is again, recorded with three seeds on digits of 8 × 8 pixels. The **online** branch is
# the one that learns. The **target** is the other side of the loss, what the online branch is pulled towards.
#
# *If you start in the middle of this notebook, run the set-up cell and the next one; then any section runs by itself.*

# %%
from minipolycom.spectral import erank_correlation
from minipolycom.ssl import METHODS, SSLConfig, ViewData, fit_ssl
from minipolycom.studies.records import recorded
from minipolycom.viz import figures, mechanism

ARMS = {
    "SimSiam": "simsiam",
    "BYOL": "byol",
    "SwAV": "swav",
    "DINO": "dino",
    "SymSimSiam": "symsimsiam",
    "wrong filter": "wrong_filter_target",
}
record = recorded("ssl-methods")
ranks = {name: [row for row in record.table("ranks") if row["arm"] == arm] for name, arm in ARMS.items()}
data = ViewData("digits", seed=3)  # the record has the seeds 0, 1 and 2; yours is 3
views = ViewData("digits", batch_size=1024, seed=3).batch(0).views
runs, ways = {}, {}  # what you will train, and what you will find in it


def rank_of(rows):
    """The effective rank of outputs as the loss sees them: rows of length one, no mean taken off."""
    return float(erank_correlation(rows, normalise=True))


first_two = {name: ranks[name] for name in ("SymSimSiam", "SimSiam")}
figures.show(mechanism.rank_panels(first_two, {}, "Two trainings, three seeds each"))

# %% [markdown]
# **Read the figure.** The band is the range over three seeds, the line their mean; the axis of ranks is logarithmic. On the
# left, **SymSimSiam** treats both branches alike, so there is one curve, and it falls to less than three directions of 64.
# On the right, **SimSiam**: two curves, apart from the first measurement on. The target's has stopped falling at about ten.
#
# (Both fall at first. A network that has learnt nothing has a high rank; see notebook 10.)
#
# The distance between the two curves is the number of this notebook.

# %% exercise="rank_difference"

# %% [markdown]
# So far one method. The paper on the rank differential mechanism says that BYOL, SwAV and DINO do the same: its abstract
# speaks of "a consistent rank difference in their dual-branch output features". But look at what they are made of:
#
# | | online branch | target branch |
# |---|---|---|
# | **SimSiam** | a small network more, the predictor | no gradient |
# | **BYOL** | a predictor | a moving average of the online network |
# | **SwAV** | shares of 64 prototypes, learned directions with which an output is compared | shares of the same prototypes, evened out by Sinkhorn's algorithm |
# | **DINO** | shares of 64 prototypes | those of a moving average, centred and sharpened |

# %%
from minipolycom.viz.widgets import choose

which = choose(
    "In BYOL, SwAV and DINO, which branch will have the higher effective rank?",
    {
        "the target, in all three": "Three different tricks, and each of them gives the target more directions.",
        "the target in BYOL, the online branch in the other two": "It would be so if evening out and sharpening took "
        "directions away. They give some; you will measure how many.",
        "the online branch, in all three": "It learns, but it is also what is damped: by a predictor, or by a softmax "
        "at a high temperature.",
        "it changes during training": "The ranks change a lot. Which is the higher one does not.",
    },
    right="the target, in all three",
)
which

# %% [markdown]
# You will answer that yourself. Of each method you write the piece that matters, train the method with a fourth seed, and
# train it once more *without* the piece.
#
# ### What you have now
#
# - A number for the asymmetry of two branches: the rank difference.
# - A prediction to be judged in section 6.
#
# ## 2 · SimSiam: a predictor, and no gradient
#
# SimSiam has one network. Its two branches differ by a **predictor** and a **stop-gradient**. Notebook 10 has shown that the
# stop-gradient alone changes nothing but the size of the steps. Now both.

# %% exercise="simsiam_loss"

# %% [markdown]
# The package's `SimSiam` does exactly this, with a small MLP in the place of `w`. The cell below trains it, and
# `no_predictor`, in which $p = z$: the stop-gradient stays.

# %% cost="simsiam_pair"
from minipolycom.learn import cost

steps = cost("simsiam_pair").steps
for method in ("simsiam", "no_predictor"):
    runs[method] = fit_ssl(data, SSLConfig(method=method, seed=3, steps=steps, probe_every=steps), progress=False)

# %%
import torch

arms = {"SimSiam": "simsiam", "without the predictor": "no_predictor"}
own = {name: runs[arm].table("ranks") for name, arm in arms.items()}
figures.show(mechanism.rank_panels({"SimSiam": ranks["SimSiam"]}, own, "SimSiam, and without its piece"))

network = runs["simsiam"].method().train()  # its batch norms as in training
with torch.no_grad():
    z_1, z_2 = (network.projector(network.encoder(view)) for view in views)
    ways["SimSiam"] = {
        "prediction": rank_of(network.predictor(z_1)),
        "without the predictor": rank_of(z_1),
        "the other view": rank_of(z_2),
    }
for change, rank in ways["SimSiam"].items():
    print(f"{change:>22}: effective rank {rank:4.1f}")

# %% [markdown]
# **Read the figure.** Marks are your runs. On the left they lie on three recorded ones; on the right is the control: no
# predictor, no difference, and a rank that goes where notebook 10 has seen it go.
#
# The lines under the figure go from the online branch to the target **by one change at a time**, in the trained network. All of the
# difference is made by the predictor, on the *online* side: it hands on fewer directions than it is given. The other view adds
# nothing, as it should: both views are drawn alike.
#
# ### What you have now
#
# - SimSiam's asymmetry is a filter on the online branch, and it was not put there by hand: it was learnt.
# - Without it no difference, and no rank.
#
# ## 3 · BYOL: a predictor, and the past
#
# BYOL has a predictor too. What it is known for is the other thing: its target is a **momentum network**, a moving average of
# the online one.

# %% exercise="momentum_update"

# %% exercise="target_age"

# %% [markdown]
# So BYOL has *two* asymmetries, a predictor on one side and the past on the other. Take the predictor away. The momentum
# network stays: two branches that are different networks at every step.

# %%
from minipolycom.viz.widgets import choose

past = choose(
    "BYOL without its predictor. What happens to the rank difference, and to the rank?",
    {
        "a difference, and it holds": "The two networks do differ. But one is where the other was, and is going where it goes.",
        "a difference, and it collapses": "The target is the past. While ranks fall, the past has the higher one: "
        "the difference has the right sign, follows the fall, and holds nothing.",
        "no difference, and it collapses": "That is SimSiam without its predictor. Here the branches are two networks.",
    },
    right="a difference, and it collapses",
)
past

# %% cost="byol_pair"
from minipolycom.learn import cost

steps = cost("byol_pair").steps
for method in ("byol", "byol_no_predictor"):
    runs[method] = fit_ssl(data, SSLConfig(method=method, seed=3, steps=steps, probe_every=steps), progress=False)

# %% claim="complete-collapse"
import torch

arms = {"BYOL": "byol", "without the predictor": "byol_no_predictor"}
own = {name: runs[arm].table("ranks") for name, arm in arms.items()}
figures.show(mechanism.rank_panels({"BYOL": ranks["BYOL"]}, own, "BYOL, and without its piece"))
control = own["without the predictor"]
smallest = min(control, key=lambda row: row["rank_difference"])
print(
    f"without the predictor: {len(control)} measurements, the smallest rank difference is "
    f"{smallest['rank_difference']:+.2f}, at step {smallest['step']}"
)
for name, rows in own.items():
    print(f"{name:>22}: feature std {rows[-1]['feature_std']:.2f}, collapse: {rows[-1]['collapse'] or 'none'}")
network = runs["byol"].method().train()
with torch.no_grad():
    z_1 = network.projector(network.encoder(views[0]))
    slow_1, slow_2 = (network.momentum_projector(network.momentum_encoder(view)) for view in views)
    ways["BYOL"] = {
        "prediction": rank_of(network.predictor(z_1)),
        "without the predictor": rank_of(z_1),
        "the momentum network": rank_of(slow_1),
        "the other view": rank_of(slow_2),
    }
for change, rank in ways["BYOL"].items():
    print(f"{change:>22}: effective rank {rank:4.1f}")

past.reveal()

# %% [markdown]
# **Read the figure.** On the right the target is above the online branch at *every* measurement, far above it at first. And
# both fall to one direction, and nearly to one point: no last normalisation stands behind BYOL's projector, so that the
# feature std of notebook 10, which would be 1, sees it. So a positive rank difference is not enough. It has to be made by
# something that goes on making it: this one is only a delay, and ends with the fall it has delayed.
#
# (This does not contradict the paper, whose argument is about filters, and a delay is none. But whoever takes "target above online"
# for a test of health should know it.)
#
# With the predictor, BYOL's online rank nearly follows that control for thirty steps, turns, and comes back. The lines under the
# figure say what makes the difference at the end: the predictor, again. The past adds little.
#
# ### What you have now
#
# - BYOL is SimSiam in this respect: its rank difference is made by the predictor.
# - A momentum network gives a difference of the right sign for free, and by itself it holds nothing.
#
# ## 4 · SwAV: evened out
#
# SwAV has one network and no predictor. Outputs are compared with 64 learned prototypes, and each view has to foretell the
# other view's **code**, its shares of the prototypes. The two branches differ by the arithmetic that makes shares of scores:
# online it is a softmax with the temperature 0.1, on the target Sinkhorn's algorithm with 0.05.

# %% exercise="sinkhorn_codes"

# %% [markdown]
# It is arithmetic, without a weight in it. So its effect on the rank can be measured before any training.

# %%
from minipolycom.viz.widgets import choose

evened = choose(
    "Sinkhorn's algorithm gives every prototype the same mass. What happens to the effective rank of the codes?",
    {
        "it rises": "What all images have in common is one large direction. Dividing the columns takes it away.",
        "it stays": "It would if the columns' sums were equal before. They are not.",
        "it falls": "To even something out sounds like losing differences. It is the prototypes that become alike in "
        "mass, not the images.",
    },
    right="it rises",
)
evened

# %% claim="target-high-pass"
import torch
import torch.nn.functional as F

from minipolycom.learn import reference
from minipolycom.ssl import NetworkConfig

torch.manual_seed(0)
untrained = METHODS["swav"](NetworkConfig())
with torch.no_grad():
    scores = untrained.prototypes(untrained.projector(untrained.encoder(views[0])))
before = {
    "softmax, T = 0.1: online": torch.softmax(scores / 0.1, dim=1),
    "softmax, T = 0.05": torch.softmax(scores / 0.05, dim=1),
    "Sinkhorn, T = 0.05: target": reference("sinkhorn_codes")(scores, 0.05, 3),
}
sizes = {name: torch.linalg.svdvals(F.normalize(rows, dim=1)) / len(rows) ** 0.5 for name, rows in before.items()}
figures.show(
    figures.lines(
        {name: s.tolist() for name, s in sizes.items()},
        range(1, 65),
        xlabel="direction, largest first",
        ylabel="singular value / √N",
        title="Codes of an untrained network",
        log="y",
    )
)
for name, rows in before.items():
    print(f"{name:>26}: largest singular value {float(sizes[name][0]):.2f} √N, effective rank {rank_of(rows):4.1f}")
assert sorted(before, key=lambda name: rank_of(before[name])) == list(before)  # each step raises the rank
evened.reveal()

# %% [markdown]
# **Read the figure.** (Rows have length one, so the squares of a curve sum to 1.) From online to target the large singular
# values come down and the small ones go up, once by the lower temperature, and once more by Sinkhorn's algorithm. Lowering what
# is large and raising what is small is what a **high-pass filter** does. This one stands on the *target*, and the rank
# difference is there before the first step of training.
#
# Two changes have raised the rank, so there are two controls: one without Sinkhorn's algorithm (rows alone are divided, a softmax
# with 0.05), one with it and a single temperature, 0.1, on both branches. For the package a method is an entry of the dictionary
# `METHODS`, and a new idea is a new entry. Which of the two can be left out? Make up your mind while they train.

# %% cost="swav_three"
from functools import partial

from minipolycom.learn import cost
from minipolycom.ssl.methods import SwAV

METHODS["swav_no_sinkhorn"] = partial(SwAV, iterations=0)
METHODS["swav_one_temperature"] = partial(SwAV, code_temperature=0.1)
steps = cost("swav_three").steps
for method in ("swav", "swav_no_sinkhorn", "swav_one_temperature"):
    runs[method] = fit_ssl(data, SSLConfig(method=method, seed=3, steps=steps, probe_every=steps), progress=False)

# %%
arms = {"SwAV": "swav", "without Sinkhorn": "swav_no_sinkhorn", "one temperature": "swav_one_temperature"}
own = {name: runs[arm].table("ranks") for name, arm in arms.items()}
figures.show(mechanism.rank_panels({"SwAV": ranks["SwAV"]}, own, "SwAV, and without its pieces"))

# %% [markdown]
# **Read the figure.** Neither can be left out. Without Sinkhorn it is over within the first measurements: one direction, on both
# branches. At one temperature Sinkhorn's algorithm makes hardly any rank difference by itself, and does not help either. With
# both, ranks fall for some thirty steps and then climb.
#
# The first control lies there with rank 1. Could Sinkhorn's algorithm, put in now, bring it back? Put the question to the
# algorithm itself first.

# %% exercise="collapsed_codes"

# %%
import torch

from minipolycom.ssl.losses import sinkhorn

scores = {}
for method in ("swav", "swav_no_sinkhorn"):
    network = runs[method].method().train()
    with torch.no_grad():
        scores[method] = [network.prototypes(network.projector(network.encoder(view))) for view in views]
codes = {
    "no Sinkhorn": torch.softmax(scores["swav_no_sinkhorn"][0] / 0.05, dim=1),
    "put in later": sinkhorn(scores["swav_no_sinkhorn"][0]),
    "SwAV": sinkhorn(scores["swav"][0]),
}
figures.show(mechanism.codes({name: rows[:32] for name, rows in codes.items()}, "What the prototypes are used for"))
for name, rows in codes.items():
    print(f"{name:>22}: effective rank {rank_of(rows):4.1f}")
s_1, s_2 = scores["swav"]
ways["SwAV"] = {
    "softmax, T = 0.1": rank_of(torch.softmax(s_1 / 0.1, dim=1)),
    "T = 0.05": rank_of(torch.softmax(s_1 / 0.05, dim=1)),
    "Sinkhorn": rank_of(sinkhorn(s_1)),
    "the other view": rank_of(sinkhorn(s_2)),
}
for change, rank in ways["SwAV"].items():
    print(f"{change:>22}: effective rank {rank:4.1f}")

# %% [markdown]
# **Read the figure.** A line is an image, a column a prototype. On the left a single prototype has nearly everything of every
# image. In the middle all prototypes have the same mass, as promised, and it is of no use: the images are too much alike, and
# so are their codes. On the right each image has prototypes of its own. A target filter enlarges the differences that it finds.
# It has to be there *before* they are gone.
#
# Now the lines at the end, the way from branch to branch in the network that was trained with all its pieces. The difference is
# made by the lower temperature. Sinkhorn's algorithm has hardly anything left to do: the prototypes are shared out. It is still
# what keeps them so, as the control without it shows. One piece *makes* the difference, the other keeps it *possible*.
#
# ### What you have now
#
# - SwAV's asymmetry is on the *target*: arithmetic without a weight, which raises the target's rank.
# - It needs two pieces, a lower temperature and evening out. Both raise the rank of an untrained network's codes; take either
#   away, and the training collapses.
#
# ## 5 · DINO: centred and sharpened
#
# DINO has prototypes like SwAV, a momentum network like BYOL, no predictor and no Sinkhorn. Two cheap operations stand in
# their place, and after section 4 you may see in them what they are.

# %% exercise="dino_codes"

# %% [markdown]
# Try the two on an untrained network, each alone and both together. As the centre take the mean of its scores.

# %%
import pandas as pd
import torch

from minipolycom.learn import reference
from minipolycom.ssl import NetworkConfig

torch.manual_seed(0)
untrained = METHODS["dino"](NetworkConfig())
with torch.no_grad():
    scores = untrained.momentum_prototypes(untrained.momentum_projector(untrained.momentum_encoder(views[0])))
nothing, centre = torch.zeros(64), scores.mean(dim=0)
table = {
    f"T = {temperature}": {
        said: rank_of(reference("dino_codes")(scores, taken, temperature))
        for said, taken in (("not centred", nothing), ("centred", centre))
    }
    for temperature in (0.1, 0.04)
}
pd.DataFrame(table).round(1).rename_axis("effective rank of the codes")

# %% [markdown]
# **Read the table.** Upper left, nothing is done: those are the shares of the online branch. Centring takes off the direction
# that all images share, sharpening lets each image decide. Each of them raises the rank, and both together raise it most.

# %%
from minipolycom.viz.widgets import choose

needed = choose(
    "Train DINO without centring, and without sharpening (T = 0.1 on both sides). Which of the two collapses?",
    {
        "without centring only": "In the table centring alone raises the rank, too. But that network has not been trained.",
        "without sharpening only": "In the table sharpening alone raises the rank, too. But that network has not been "
        "trained.",
        "both": "Centring alone pulls to equal shares, sharpening alone to one prototype for all. Each guards against "
        "what the other would end in.",
        "neither": "The momentum network is still there. But section 3 has shown what that is worth.",
    },
    right="both",
)
needed

# %% cost="dino_three"
from functools import partial

from minipolycom.learn import cost
from minipolycom.ssl.methods import DINO

METHODS["dino_no_centring"] = partial(DINO, centre_momentum=1.0)  # the centre stays where it begins, at zero
METHODS["dino_no_sharpening"] = partial(DINO, code_temperature=0.1)
steps = cost("dino_three").steps
for method in ("dino", "dino_no_centring", "dino_no_sharpening"):
    runs[method] = fit_ssl(data, SSLConfig(method=method, seed=3, steps=steps, probe_every=steps), progress=False)

# %%
arms = {"DINO": "dino", "without centring": "dino_no_centring", "without sharpening": "dino_no_sharpening"}
own = {name: runs[arm].table("ranks") for name, arm in arms.items()}
figures.show(mechanism.rank_panels({"DINO": ranks["DINO"]}, own, "DINO, and without its pieces"))
for name, rows in own.items():
    print(f"{name:>18}: the smallest rank difference is {min(row['rank_difference'] for row in rows):+.2f}")
needed.reveal()

# %% [markdown]
# **Read the figure.** Both controls collapse, and in both the target stays above the online branch while they do: the momentum
# network's delay again, as in section 3. Do they collapse in the same way? Look at their codes.

# %%
import torch

from minipolycom.ssl.losses import centred_codes


def target_codes(method):
    """The codes that the target of a trained DINO gives the first view."""
    network = runs[method].method().train()
    with torch.no_grad():
        slow = network.momentum_prototypes(network.momentum_projector(network.momentum_encoder(views[0])))
    temperature = 0.1 if method == "dino_no_sharpening" else 0.04
    return centred_codes(slow, network.centre_K, temperature)


last = {"no centring": "dino_no_centring", "no sharpening": "dino_no_sharpening", "DINO": "dino"}
figures.show(mechanism.codes({name: target_codes(arm)[:32] for name, arm in last.items()}, "Codes after training"))

network = runs["dino"].method().train()
with torch.no_grad():
    fast = network.prototypes(network.projector(network.encoder(views[0])))
    slow_1, slow_2 = (
        network.momentum_prototypes(network.momentum_projector(network.momentum_encoder(view))) for view in views
    )
ways["DINO"] = {
    "softmax, T = 0.1": rank_of(torch.softmax(fast / 0.1, dim=1)),
    "the momentum network": rank_of(torch.softmax(slow_1 / 0.1, dim=1)),
    "centred": rank_of(centred_codes(slow_1, network.centre_K, 0.1)),
    "sharpened, T = 0.04": rank_of(centred_codes(slow_1, network.centre_K, 0.04)),
    "the other view": rank_of(centred_codes(slow_2, network.centre_K, 0.04)),
}
for change, rank in ways["DINO"].items():
    print(f"{change:>22}: effective rank {rank:4.1f}")

# %% [markdown]
# **Read the figure.** Two opposite deaths. *Without centring* a few prototypes take nearly everything. *Without sharpening* every
# image has nearly equal shares of all prototypes. In both, images are no longer told apart. Each piece alone leads into one of
# them; together they hold the middle.
#
# And the lines: in the trained network the difference is made by the lower temperature again. Centring has little left to do.
#
# ### What you have now
#
# - DINO does with a subtraction and a division what SwAV does with Sinkhorn's algorithm and a division: it evens out, and it
#   sharpens.
# - The momentum network makes no lasting difference, here as in BYOL.
#
# ## 6 · One mechanism
#
# *This section draws what sections 2 to 5 have trained; what you have not run is left out.*
#
# First the answer to the question of section 1: four methods and two controls in one picture, three recorded seeds each, and
# your own runs on top. The last panel is SimSiam's network without a predictor, with a filter of the **wrong sign** on its
# target: it favours the target's *large* directions.

# %% claim="rank-difference"
from minipolycom.viz import figures, mechanism

own = {name: runs[arm].table("ranks") for name, arm in ARMS.items() if arm in runs}
figures.show(mechanism.rank_panels(ranks, own, "Four methods and two controls"))
for name, rows in ranks.items():
    differences = [row["rank_difference"] for row in rows]
    print(
        f"{name:>12}: rank difference from {min(differences):+6.2f} to {max(differences):+6.2f} "
        f"in {len(differences)} measurements of three seeds"
    )
which.reveal()

# %% [markdown]
# **Read the picture.** In the four methods the orange curve is above the blue one at every measurement and with every seed. In
# **SymSimSiam** there is one curve. With the **wrong filter** the order is turned around, and nothing but one direction is left.
#
# Those who cite the paper say more: as training goes on, the difference *raises* the rank of both branches. The random
# network's high rank falls first. What happens in the last two thirds?

# %% claim="ranks-rise"
from minipolycom.studies.statistics import mean_interval

moved = {}
for name in ("SimSiam", "BYOL", "SwAV", "DINO"):
    for branch in ("online", "target"):
        at = {(row["seed"], row["step"]): row[f"erank_{branch}"] for row in ranks[name]}
        moved[name, branch] = mean_interval([at[seed, 300] - at[seed, 100] for seed in record.seeds])
        found = moved[name, branch]
        print(
            f"{name:>8}, {branch}: {found.estimate:+5.1f} from step 100 to 300 ({found.low:+.1f} to {found.high:+.1f})"
        )
assert all(moved[name, "online"].low > 0 for name in ("BYOL", "SwAV", "DINO"))
assert moved["SwAV", "target"].low > 0 > moved["BYOL", "target"].high

# %% [markdown]
# **Read the numbers.** The online branch rises in three of the four; SwAV's target follows, BYOL's is still falling. 300
# steps are few, so this contradicts what is said of the paper for our trainings, and for longer ones says nothing.
#
# And where is it hidden? The same way through all four, from the online branch to the target:

# %%
from itertools import pairwise

import pandas as pd

from minipolycom.viz import figures, mechanism

figures.show(mechanism.ways(ways, "From the online branch to the target, one change at a time"))
hidden = {}
for method, way in ways.items():
    factors = [after / before for before, after in pairwise(way.values())]
    most = factors.index(max(factors))
    hidden[method] = {"largest change": list(way)[most + 1], "raises the rank": f"{factors[most]:.1f} times"}
pd.DataFrame(hidden).T

# %% [markdown]
# **Read the figure.** Each method makes most of its way in one step. In SimSiam and BYOL that is the predictor, which *takes*
# directions from the online branch. In SwAV and DINO it is the lower temperature of the target, which *gives* it some; Sinkhorn
# and centring do little in a trained network, and without them there would be none. The other view changes nothing in any of
# them. (The share of each change depends on the order in which they are made.)
#
# For the loss, a smaller online rank and a larger target rank are the same kind of thing. That is the idea of the paper:
# *one mechanism*, low-pass online or high-pass on the target. **Why** it keeps the rank up, and where the rank ends, is the
# next notebook.
#
# Two things that this picture does not say. Ranks of different panels should not be compared: SimSiam's are of 64 outputs,
# SwAV's and DINO's of shares of 64 prototypes. And a high rank is not the same as good features:

# %% claim="symmetric-features"
import pandas as pd

from minipolycom.studies.statistics import mean_interval, paired

ends = pd.DataFrame(record.table("end")).query("phase == 'main'").groupby("arm")
neighbours = {arm: dict(zip(rows["seed"], rows["knn_augmented"], strict=True)) for arm, rows in ends}
apart = mean_interval(paired(neighbours["simsiam"], neighbours["symsimsiam"]))
print(f"SimSiam minus SymSimSiam, 5-NN: {apart.estimate:.3f} ({apart.low:.3f} to {apart.high:.3f}, three seeds)")
columns = {"erank_projected": "effective rank of the outputs", "knn_augmented": "5-NN, altered test images"}
lowest, highest = (ends[list(columns)].agg(what).round(2) for what in ("min", "max"))
spread = lowest.astype(str) + " to " + highest.astype(str)
spread.loc[list(ARMS.values())].rename(index={arm: name for name, arm in ARMS.items()}, columns=columns)

# %% [markdown]
# **Read the table**, the range over three seeds. The wrong filter is the worst in both columns. But SymSimSiam, with fewer than
# three directions, recognises about as many digits as SimSiam with ten after these 300 steps, and SwAV more than BYOL with fewer
# directions. The rank tells you that nothing has died; it does not tell you what has been learnt.
#
# ### What you have now
#
# - Four methods, three seeds, every measurement: the target's rank is the higher one. Two controls: equal, and turned around.
# - Two hiding places: a predictor that takes from the online branch, and a lower temperature, kept from the corner by evening
#   out, that gives to the target.
# - Trainings whose difference has the right sign and which collapse: BYOL without its predictor, DINO without one of its pieces.
#   In what we have seen of methods that push nothing apart, the sign is necessary and not sufficient.
#
# ## Before you go
#
# <details>
# <summary>BYOL's momentum network is removed and the predictor kept. Which method is that?</summary>
#
# SimSiam, but for the last normalisation of its projector and the loss (2 − 2 cos instead of −cos, which has twice the gradient).
#
# </details>
#
# <details>
# <summary>You monitor the rank difference of a run. It has been positive for 200 steps. Is the run healthy?</summary>
#
# You do not know. If the target is a momentum network, the delay alone gives that while everything falls. Watch the ranks
# themselves as well.
#
# </details>
#
# <details>
# <summary>Why can Sinkhorn's algorithm not rescue a network that has collapsed completely?</summary>
#
# It treats equal rows equally, so equal scores give equal codes: rank 1. It has to act while images still differ.
#
# </details>
#
# <details>
# <summary>SimCLR treats both branches alike and keeps an effective rank of about ten in the same record. A contradiction?</summary>
#
# No. It keeps its rank by pushing other images away. The rank difference is about methods that push nothing.
#
# </details>
#
# <details>
# <summary>SwAV with Sinkhorn's algorithm, but one temperature on both branches, collapses. Is it not evened out?</summary>
#
# It is. Equal shares of all prototypes for every image are perfectly even, and tell nothing apart. Compare DINO without
# sharpening.
#
# </details>
#
# <details>
# <summary>Predictor, Sinkhorn, centring, sharpening: which of them has weights that are trained?</summary>
#
# The predictor alone. (The momentum network has some, but they are not trained, and by itself it prevents nothing.)
#
# </details>
#
# **Paper map.** Rows *the target's rank is above the online branch's*: scaled down (section 6, and the study `ssl-methods` in
# RESULTS.md); *ranks of both branches rise*: contradicted, in 300 steps (section 6); *complete collapse is alleviated, too*
# and *targets are filtered high-pass*: scaled down (sections 3 and 4); *the symmetric baseline has worse features*: undecided. The sign alone does not keep a training from collapse: sections 3 and 5.
#
# **Read on.** X. Chen and K. He, *Exploring simple Siamese representation learning*, 2021; J.-B. Grill et al., *Bootstrap your own
# latent*, 2020; M. Caron et al., *Unsupervised learning of visual features by contrasting cluster assignments*, 2020 (SwAV), and
# *Emerging properties in self-supervised vision transformers*, 2021 (DINO); Z. Zhuo et al., *Towards a unified theoretical
# understanding of non-contrastive learning via rank differential mechanism*, ICLR 2023. In the package each method is a class that
# can be read by itself: `minipolycom/ssl/methods.py`.

# %%
from minipolycom.learn import progress_map

progress_map()
