# %% [markdown] title="Spectral filters" minutes=105 hardware="2 CPU cores" prerequisites="11"
# **By the end you will have shown** that a spectral filter between two branches decides which directions of the features
# grow, because under the cosine loss a direction grows exactly while $\rho h / g$, which is its own, lies above a threshold
# that all directions share; you will have **predicted** the effective rank at which a network ends, and then measured it;
# and the controls fail: the same filter with the opposite sign loses all directions but one, no filter loses nearly all,
# and the best possible predictor freezes the rank where it is.
#
# On the way you will
#
# - **write** the filter, and find out on which axes it acts,
# - **measure** whether what happens between the branches of four trained networks is a filter at all, against a baseline
#   that you would not expect,
# - **prove** in four lines whose rank a filter lowers,
# - **derive** which directions grow, and move a filter by hand until the rank *falls* under a filter of the right sign,
# - **predict** five numbers, and train a network to see how far off they are.
#
# All ranks in this notebook are effective ranks of *eigenvalues*, $\exp(-\sum_k p_k \ln p_k)$ with $p_k = \lambda_k /
# \sum_j \lambda_j$, as in the paper on the rank differential mechanism (RDM, ICLR 2023), as far as Huang et al. (LDReg, 2024)
# describe it. We have not read the body of that paper: what is said of it here comes from its abstract, its code, and those
# who cite it, and no number here is its.

# %% setup=true

# %% [markdown]
# ## 1 · One cloud, and its own axes
#
# A method with two branches compares two outputs of the same images: the **online** branch, which is trained, and the
# **target**, which is not differentiated. Each output is a batch of rows, a cloud of points. Real clouds live in 64
# columns or 2048; here is one in two.

# %%
import torch

from minipolycom.viz import figures, filters

generator = torch.Generator().manual_seed(0)
z = torch.randn(300, 2, generator=generator) @ torch.tensor([[1.5, 0.9], [0.0, 0.5]])
figures.show(filters.clouds({"one batch": z}, "300 rows of 2 columns"))

# %% [markdown]
# **Read the figure.** The cloud is long in one direction and short in the other, and neither is a column. The two lines are
# the eigenvectors of $C = \tfrac1N Z^\top Z$, called the **correlation matrix** in this literature: mean products of columns,
# here with no mean taken off. Each line is $2\sqrt\lambda$ long to both sides. In the coordinates along them,
# the columns are uncorrelated, and the two eigenvalues are all that is left to know about second moments.
#
# A **spectral filter** multiplies what lies along each axis by a gain that depends on how much lies there already. The gain
# of a *power filter* is $g = s^\sigma$ with $s = \sqrt\lambda$, so $\lambda$ becomes $g^2 \lambda = \lambda^{1 + \sigma}$.

# %%
from minipolycom.viz.widgets import choose

whitened = choose(
    "What does a power filter with σ = −1 make of that cloud?",
    {
        "a circle": "λ becomes λ⁰: all axes are alike. Along the columns or along the axes, a circle is a circle.",
        "a line": "That is the other end: for large positive σ the short axis disappears beside the long one.",
        "the same cloud, lying across": "That takes σ = −2: λ becomes 1/λ, and long and short are exchanged.",
    },
    right="a circle",
)
whitened

# %% exercise="filtered_rows"

# %% [markdown]
# The notebook goes on with the course's own version. Four exponents:

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import figures, filters

strengths = {"σ = 0": 0.0, "σ = 1": 1.0, "σ = −1": -1.0, "σ = −2": -2.0}
behind = {name: reference("filtered_rows")(z, sigma) for name, sigma in strengths.items()}
same_energy = {name: rows / rows.square().mean().sqrt() for name, rows in behind.items()}  # no loss here sees the scale
figures.show(filters.clouds(same_energy, "The cloud behind a power filter"))
whitened.reveal()

# %% [markdown]
# **Read the figure.** Only the lengths of the two lines change, not where they lie. (At $\sigma = -1$ they are equally long,
# and any pair of directions would do; at $\sigma = -2$ they have changed places, for the first axis is always the longer one.)
# At $\sigma = 1$ the long axis has become longer still, relative to the short one. That gain *rises* with the eigenvalue. It
# lets pass what there is much of and damps what there is little of, which is what **low-pass** means in this literature. A
# falling gain, as at $\sigma = -1$, we call **high-pass**.
#
# The paper's own variants put $g(x) = x$ on the online branch, or $h(x) = x^{-1}$ on the target (as the README of its code
# names them). Both make the target's cloud the rounder one.
#
# ### What you have now
#
# - A filter changes eigenvalues and leaves axes alone.
# - Low-pass online or high-pass on the target: either way the target is the branch of higher rank. Wait for the proof,
#   though; it has a catch.
#
# ## 2 · Is it a filter, in a real network?
#
# SimSiam has no filter in it. It has a **predictor**, a small network on the online branch, and the paper says that it *acts
# as* a low-pass filter (so Oh and Lee report it). That can be tested. A filter keeps axes. So the eigenvectors of the
# target's correlation matrix have to be eigenvectors of the online branch's, too.

# %% exercise="axis_alignment"

# %% [markdown]
# How large is large? A correlation matrix has no negative eigenvalue, so it turns *no* direction by more than a right angle,
# and every direction there is has a positive alignment. What do directions get that have nothing to do with the matrix?

# %%
import torch

from minipolycom.spectral import random_alignment

for name, exponent in (("flat", 0.0), ("1/√k", 0.5), ("1/k", 1.0), ("1/k²", 2.0)):
    c = torch.diag(torch.arange(1, 65) ** -exponent)
    print(f"eigenvalues {name:>4}: alignment of random directions {float(random_alignment(c)):.2f}")

# %% [markdown]
# Without a baseline an alignment of 0.8 would look like a discovery; for a spectrum like $1/\sqrt k$ it is less than what
# chance gives. From here on each alignment stands beside that of random directions. The second trap is at the other end: a
# matrix compared with *itself* has alignment 1. Two branches that are the same network, as in a method that collapses, score
# perfectly. A high alignment is not good or bad; it says that "filter" is the right word.
#
# The next cell trains four methods on digits: SimSiam with a linear predictor, SimSiam with its usual predictor, which is a
# small MLP with a bottleneck, SwAV, whose target goes through Sinkhorn's algorithm, and a method that *has* a filter,
# $\sigma = 1$ online, as a control. Rows are set to length one before anything is measured, as the loss does.

# %%
from minipolycom.viz.widgets import choose

is_filter = choose(
    "Between the branches of which network are the axes shared least?",
    {
        "SimSiam, linear predictor": "A matrix could turn axes, but the best one has no reason to: see section 6.",
        "SimSiam, MLP predictor": "A bottleneck and a ReLU are no matrix. They may bend, mix and cut off directions.",
        "SwAV": "Softmax and Sinkhorn are not linear either, but they treat every prototype alike.",
        "RDM, σ = 1 online": "Its filter is made of a batch's own axes. What is missing to 1 comes from the other view.",
    },
    right="SimSiam, MLP predictor",
)
is_filter

# %% cost="branch_filters"
import torch

from minipolycom.learn import cost
from minipolycom.ssl import SSLConfig, ViewData, fit_ssl

steps = cost("branch_filters").steps
methods = {
    "simsiam_linear": "SimSiam, linear predictor",
    "simsiam": "SimSiam, MLP predictor",
    "swav": "SwAV",
    "rdm_simsiam_online": "RDM, σ = 1 online",
}
data, many = ViewData("digits"), ViewData("digits", batch_size=1024)
trained = {}
for method, name in methods.items():
    config = SSLConfig(method=method, steps=steps, measure_every=steps, probe_every=steps)
    network = fit_ssl(data, config, progress=False).method().train()  # batch norms as the loss sees them
    with torch.no_grad():
        trained[name] = network(many.batch(0).views)

# %% claim="shared-axes"
from minipolycom.learn import reference
from minipolycom.spectral import correlation, correlation_eigenvalues, effective_rank, random_alignment
from minipolycom.ssl.measures import filter_curve

alignments, random, gains, leading = {}, {}, {}, {}
for name, outputs in trained.items():
    branches = outputs.online_NZ, outputs.target_NZ
    online, target = (correlation(rows, normalise=True, centre=False) for rows in branches)
    spectra = [correlation_eigenvalues(rows, normalise=True, centre=False) for rows in branches]
    leading[name] = int((spectra[1].cumsum(0) < 0.9 * spectra[1].sum()).sum()) + 1  # with 90 % of the energy
    alignments[name] = reference("axis_alignment")(online, target)
    random[name] = float(random_alignment(online))
    gains[name] = filter_curve(*branches)
    ranks = [float(effective_rank(spectrum)) for spectrum in spectra]
    mean = alignments[name][: leading[name]].mean()
    print(
        f"{name:>25}: rank online {ranks[0]:4.1f}, target {ranks[1]:4.1f}; {leading[name]:2} leading directions, "
        f"mean alignment {mean:.2f}, of random directions {random[name]:.2f}"
    )
is_filter.reveal()

# %% claim="predictor-low-pass"
from minipolycom.viz import figures, filters

figures.show(filters.alignment_and_gain(alignments, random, gains, leading))

# %% [markdown]
# **Read the figure**, first on the left, each curve against its own dotted line. Strong are the *leading* directions, which hold
# 90 % of the target's energy together; the rest is faint.
#
# - The **linear predictor** shares the axes in all of its few leading directions. There "filter" is the right word.
# - **SwAV** shares most of them, without a matrix anywhere between its branches.
# - **RDM** has a filter by construction, and yet its curve falls at the end. The target comes from the *other view*, and where
#   directions are mostly augmentation, or hardly differ in size, two views do not have the same axes. So this curve is
#   the yardstick: more than that cannot be asked.
# - The **MLP predictor** shares the first few. Then its curve sinks to the dotted line, in directions that do count. What
#   it does to them is not a filter.
#
# On the right, the gain: how much of each direction of the target is left in the online branch. In the strong part of every
# curve it falls. Nobody put a low-pass filter into three of these four networks, and there it is, at the head of the
# spectrum; in the faint tails it may rise again.
#
# So "the predictor acts as a low-pass filter" holds here for what is large. "Both branches have the same axes" holds for
# a linear predictor, and for the MLP in its first directions only. These are small networks (64 outputs, one seed);
# we have not seen large ones.
#
# ### What you have now
#
# - An alignment means something beside that of random directions, and beside one of a filter that is known to be one.
# - Four networks, four low-pass heads, and one predictor that is more than a filter. The theory below is about filters.
#
# ## 3 · Whose rank is lower
#
# Take axes as shared from here on. Then a pair of branches is a list of eigenvalues and two lists of gains, and the rest of
# this notebook needs no images. Sixteen directions, or **modes**, are enough.
#
# Section 1 said that a low-pass filter makes the online rank the lower one. Effective rank is an entropy, and entropies are
# not compared by looking. First a figure that does it without a logarithm.

# %% exercise="partial_sums"

# %%
import torch

from minipolycom.learn import reference
from minipolycom.ssl import Filter
from minipolycom.ssl.dynamics import filtered
from minipolycom.viz import figures, filters

spectrum = 1 / torch.arange(1, 17, dtype=torch.float64)
low_pass = filtered(spectrum, Filter("power", "online", 1.0).gain(spectrum.sqrt()))
high_pass = filtered(spectrum, Filter("power", "target", -0.5).gain(spectrum.sqrt()))
online, features, target = (reference("partial_sums")(own) for own in (low_pass, spectrum, high_pass))
figures.show(filters.concentration(online, features, target, "How concentrated each spectrum is"))

# %% [markdown]
# **Read the figure.** The features have the spectrum $1/k$; the online branch is drawn behind $\sigma = 1$, the target behind
# $\sigma = -0.5$. The curves do not cross: the online branch's lies above that of the features for every $k$, the target's
# below. Was that luck? No, and here is the whole proof. Let $\lambda_1 \ge \dots \ge \lambda_R$, and let the gain
# rise with the eigenvalue, so $g_1 \ge \dots \ge g_R$. Write $p_k = \lambda_k / \sum \lambda$ and $q_k = g_k^2 \lambda_k /
# \sum g^2 \lambda$.
#
# 1. $q_k / p_k = g_k^2 \cdot \text{const}$, which does not increase along $k$; and $q$ is sorted as $p$ is.
# 2. Both sum to 1, so the quotient cannot stay above 1 or below it: $q_k - p_k$ is first positive (or 0), and from some $k$
#    on negative (or 0).
# 3. It sums to 0. A sum that first climbs, then descends, and ends at 0 is never below 0: $\sum_{j \le k} q_j \ge \sum_{j
#    \le k} p_j$ for every $k$. That is the figure; one says that $q$ **majorises** $p$.
# 4. Entropy is Schur-concave: it does not grow under majorisation. So $\operatorname{erank}(q) \le
#    \operatorname{erank}(p)$, with equality only for a constant gain. $\blacksquare$
#
# Where did line 1 use that the gain *rises*? Twice: for the quotient, and for "sorted as $p$ is". Now the mirror: let the
# gain fall, and put it on the target. The quotient then does not decrease, and everything is turned around, *if* $q$ is
# still sorted as $p$ was. A falling gain may break that. Does it matter?

# %%
from minipolycom.viz.widgets import choose

mirror = choose(
    "10,000 random spectra, each behind a random falling gain. How often is the rank behind it lower than before?",
    {
        "never": "It is never lower as long as the gain keeps the order. A steep one turns the spectrum upside down.",
        "now and then": "More often than that: gains in this test are as wild as the spectra.",
        "about half of the time": "Where a falling gain does not have to keep the order, it may raise the rank or lower it.",
    },
    right="about half of the time",
)
mirror

# %% claim="filter-orders-ranks"
import torch

from minipolycom.spectral import effective_rank
from minipolycom.ssl.dynamics import filtered, majorises

generator = torch.Generator().manual_seed(0)
draws = torch.randn(2, 10_000, 16, dtype=torch.float64, generator=generator)
wild = 2 * torch.rand(2, 10_000, 1, dtype=torch.float64, generator=generator)
spectra, rising = (wild * draws).exp().sort(dim=-1, descending=True).values  # largest first, gains too
lower = {}
for name, gain in {
    "rising, any": rising,
    "falling, keeps the order (σ = −0.5)": spectra**-0.25,
    "falling, any": rising.flip(1),
    "falling, over-whitening (σ = −2)": 1 / spectra,
}.items():
    behind = filtered(spectra, gain)
    lower[name] = (effective_rank(behind) < effective_rank(spectra)).double().mean()
    ordered = majorises(behind, spectra).double().mean()
    print(f"{name:>35}: rank lower in {lower[name]:6.1%}, curve nowhere below in {ordered:6.1%}")
assert lower["rising, any"] == 1
assert lower["falling, keeps the order (σ = −0.5)"] == 0
mirror.reveal()

# %% [markdown]
# The theorem holds in ten thousand of ten thousand. Its mirror holds as long as the order is kept, which a power filter on
# the target does down to $\sigma = -1$; below that it **over-whitens**, the largest direction becomes the smallest, and the
# coin is tossed. That is the catch that section 1 announced.
#
# ### What you have now
#
# - A low-pass filter on the online branch gives it the lower rank, always: $\operatorname{erank}$ of target minus online,
#   the **rank difference**, is positive.
# - A high-pass filter on the target does so too, if it does not turn the order around.
# - Nothing was said yet about *training*. The features' rank has not moved.
#
# ## 4 · Which modes grow
#
# The paper's abstract says that the rank difference provably improves the effective dimensionality. Its theorems are not
# restated here. What follows is our own derivation, small enough to be checked line by line, and you do the central step. Its
# setting: both branches share their axes, the gains are constants of the step, no gradient flows through the target.
#
# Two views of an image agree in some directions better than in others. Let $\rho_k$ be the correlation of mode $k$ between
# two views: 1 for a direction that augmentation leaves alone, 0 for one that is all augmentation.

# %% exercise="mode_growth"

# %% [markdown]
# So for each mode there is one number, $\rho_k h_k / g_k$, and one threshold for all of them, $S / |p|^2$. Above it a mode
# grows, below it shrinks, and what one gains the others lose. Is that the gradient? The next cell asks automatic
# differentiation, with the stop-gradient where it belongs.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.ssl import Filter
from minipolycom.ssl.dynamics import INVARIANCE, filter_gains

spectrum = 1 / torch.arange(1, 17, dtype=torch.float64)
rho = torch.tensor(INVARIANCE, dtype=torch.float64)  # from 0.95 for the first mode down to 0.30
g, h = filter_gains(Filter("power", "online", 1.0))(spectrum)
amplitude = spectrum.sqrt().requires_grad_()
online, target = g * amplitude, h * amplitude.detach()
loss = -(rho * online * target).sum() / (online.norm() * target.norm())
(slope,) = torch.autograd.grad(loss, amplitude)
by_formula, by_machine = reference("mode_growth")(spectrum, rho, g, h), -2 * slope / amplitude.detach()
print(f"largest difference {float((by_formula - by_machine).abs().max()):.1e}")
print(f"energy won minus energy lost {float((spectrum * by_formula).sum()):.1e}")
print("growing modes:", ", ".join(str(k + 1) for k, rate in enumerate(by_formula.tolist()) if rate > 0))

# %% [markdown]
# With equal views, $\rho = 1$, the sign of the filter decides everything: a rising $g$ makes $1/g$ largest for the smallest
# mode, so small modes grow, large ones shrink, and the rank goes up. With noisy views there are two forces. The filter favours
# small modes; $\rho$ favours clean ones. Who wins?

# %%
from minipolycom.viz.widgets import choose

weak = choose(
    "Online filter, right sign, but weak: σ = 0.2. The target's rank is above the online one's. And the features' rank?",
    {
        "rises": "So the plain story would have it. But ρ pulls as well, and a weak filter pulls less.",
        "stays": "It would, if filter and noise were in balance. Here the noise wins.",
        "falls": "The differences in ρ outweigh a weak filter: the clean modes take over, whatever the rank difference is.",
    },
    right="falls",
)
weak

# %% [markdown]
# Find it by hand. On the left the two branches; in the middle the rates that you derived; on the right the spectrum now and
# after the time that you set.
#
# 1. Online, lower *sigma* from 1 in small steps. Where does **rises** turn into **falls**? It is not at 0. What is the
#    difference of the ranks there?
# 2. Raise *lowest rho* to 0.95, so that all modes are equally clean. Where is the turn now?
# 3. Set everything back. With sigma 0.5, let *time that passes* go from 5 to 30. What happens to the rank on its way?
# 4. Go to the target, sigma $-0.5$: **the right sign**. And $-0.6$?

# %%
from minipolycom.viz.widgets import filter_playground

filter_playground()

# %%
import torch

from minipolycom.spectral import effective_rank
from minipolycom.ssl import Filter
from minipolycom.ssl.dynamics import filter_gains, filtered, flow, unfiltered
from minipolycom.viz import figures, filters

times = torch.linspace(0, 60, 121, dtype=torch.float64)
flows = {
    "no filter": unfiltered,
    "online, σ = 0.2": filter_gains(Filter("power", "online", 0.2)),
    "online, σ = 1": filter_gains(Filter("power", "online", 1.0)),
    "target, σ = 1 (wrong)": filter_gains(Filter("power", "target", 1.0)),
}
spectra = {name: flow(spectrum, rho, gains, times, relative_error=1e-6) for name, gains in flows.items()}
for name, gains in flows.items():
    g, h = gains(spectrum)
    difference = effective_rank(filtered(spectrum, h)) - effective_rank(filtered(spectrum, g))
    ranks = effective_rank(spectra[name])
    print(f"{name:>22}: rank difference {difference:+5.2f} at first, features from {ranks[0]:.1f} to {ranks[-1]:.1f}")
figures.show(filters.modes_through_time(times, spectra, "Sixteen modes, from 1/k"))
weak.reveal()

# %% [markdown]
# **Read the figure.** Without a filter the cleanest mode, the first, takes all: each mode grows by how far its $\rho$ is
# above the average, which is how the fittest take over a population. That is **dimensional collapse**, and it is what
# alignment alone does. The wrong sign gets to the same place, faster. Under $\sigma = 1$ the curves draw together and come to
# rest. And under $\sigma = 0.2$ the rank difference is positive from the first moment, and the rank of the features falls
# all the same, though not to 1: there is a rest there as well, only lower.
#
# So the plain story, *a positive rank difference raises the rank*, is not true as it stands once views are noisy. What is
# true is better: **the filter chooses where the spectrum goes.** Without one it goes to a single mode. With one it goes to
# a place with a formula. (For the abstract's word *improves* read: compared with no filter. For the wording of the theorems,
# read them; ours holds for the flow above.)
#
# ### What you have now
#
# - A mode grows exactly if its $\rho h / g$ is above a threshold that is the same for all.
# - Equal views: the sign of the filter decides. Noisy views: sign and strength, and where the spectrum stands.
# - No filter, or the wrong sign: one mode is left.
#
# ## 5 · Where it ends
#
# At rest every mode's number equals the threshold. That is an equation for the eigenvalues, and you can solve it.

# %% exercise="resting_shares"

# %% exercise="break_even"

# %% [markdown]
# Now the test that this notebook was made for. A network: one square matrix, from 16 inputs to 16 outputs, trained by Adam on
# batches of noisy pairs with SimSiam's loss. It knows nothing of modes, flows or laws. Its inputs have the sixteen
# correlations $\rho$ of this notebook, and its weights start in a random position. Eight runs: five filters of the right
# sign, no filter, a wrong sign, and a learned predictor.
#
# Write down what you expect *before* it runs. For the five the law says it: *online 1* and *target −1* are to end at the same
# rank, and *online 0.5* is to end **below** the rank at which the network starts, 10.5. The controls have theories of their
# own: one mode, for no filter and for the wrong sign; and for the predictor, section 6 will argue, the rank that it starts
# with.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.spectral import effective_rank
from minipolycom.ssl import Filter
from minipolycom.ssl.dynamics import INVARIANCE

rho = torch.tensor(INVARIANCE, dtype=torch.float64)
right_sign = {"online 0.5": 0.5, "online 1": 1.0, "online 2": 2.0, "target −0.5": -0.5, "target −1": -1.0}
law = {name: reference("resting_shares")(rho, sigma) for name, sigma in right_sign.items()}
predicted = {name: float(effective_rank(shares)) for name, shares in law.items()}
for name, rank in predicted.items():
    print(f"{name:>12}: the law says an effective rank of {rank:.1f} of 16")

# %% cost="linear_filters" claim="difference-improves-rank"
from minipolycom.learn import cost
from minipolycom.ssl import Filter
from minipolycom.ssl.dynamics import train_linear
from minipolycom.viz import figures, filters

steps = cost("linear_filters").steps
settings = {
    name: {"filter": Filter("power", "online" if sigma > 0 else "target", sigma)} for name, sigma in right_sign.items()
}
settings |= {
    "no filter": {},
    "target +1": {"filter": Filter("power", "target", 1.0)},
    "predictor": {"predictor": True},
}
rows = {name: train_linear(steps=steps, **setting) for name, setting in settings.items()}
figures.show(
    figures.lines(
        {name: [row["effective_rank"] for row in own] for name, own in rows.items()},
        [row["step"] for row in rows["no filter"]],
        xlabel="optimizer steps",
        ylabel="effective rank of the outputs",
        title="A linear network under eight filters",
    )
)

# %%
start = rows["no filter"][0]["effective_rank"]
predicted |= {"no filter": 1.0, "target +1": 1.0, "predictor": start}
measured = {name: own[-1]["effective_rank"] for name, own in rows.items()}
figures.show(filters.predicted_and_measured(predicted, measured, start))
for name in predicted:
    print(f"{name:>12}: predicted {predicted[name]:5.2f}, measured {measured[name]:5.2f}")

# %% [markdown]
# **Read the figure.** The five diamonds sit in their rings: *online 0.5* and *target −0.5* have gone down from the start, the
# others up, each to its own place. The wrong sign has lost all modes but one. The predictor ends near to where it began.
#
# One control disagrees with its theory. *No filter* ought to end at 1 and stays above 2, where its line has been flat for most
# of the training. Notebook 10 met the reason: in the flow, $|p|$ is the length of a whole *batch*, and SimSiam's loss divides
# every *row* by its own. For a single mode, a row of length one is $+1$ or $-1$. Why are the five filters not troubled by it?

# %%
import torch

generator = torch.Generator().manual_seed(0)
shared, *noises = torch.randn(3, 100_000, 16, dtype=torch.float64, generator=generator)
views = [shared * rho.sqrt() + noise * (1 - rho).sqrt() for noise in noises]
for name, shares in {
    "the first mode alone": torch.eye(16, dtype=torch.float64)[0],
    "no filter, as it ended": torch.tensor(rows["no filter"][-1]["energies"]).double(),
    "online 1, as it ended": torch.tensor(rows["online 1"][-1]["energies"]).double(),
}.items():
    one, other = (view * shares.sqrt() for view in views)
    by_batch = torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    by_row = torch.cosine_similarity(one, other, dim=1).mean()
    print(f"{name:>22}: cosine of the whole batch {by_batch:.3f}, mean cosine of its rows {by_row:.3f}")

# %% [markdown]
# By the batch, one mode is the best there is, as the theory says. By rows, the few that the network kept are better: a second
# and third direction soften the blow when the sign of the first is wrong. With many modes, rows are all about equally long,
# and the two cosines nearly agree, which is why the five filters are not troubled by it. So alignment alone still collapses,
# but its loss holds on to a second dimension. That is a limit of this theory, and you have just seen where it lies.
#
# The rank is one number; the law says sixteen. On two logarithmic axes a power law is a straight line, and its slope is the
# exponent, $2/|\sigma|$: 4, 2 and 1.

# %%
names = ("online 0.5", "online 1", "online 2")
figures.show(
    filters.law_and_measurement(
        rho, {name: law[name] for name in names}, {name: rows[name][-1]["energies"] for name in names}
    )
)

# %% [markdown]
# **Read the figure.** Three filters, three straight lines, sixteen marks on each. It is a law of *modes*: a network of 256
# weights obeys it one by one. Where marks stray from their line they do so at its foot, where a mode holds little.
#
# ### What you have now
#
# - $\lambda_k \propto \rho_k^{2/|\sigma|}$, mode by mode. The strength of the filter, not its branch, sets the rank.
# - A right sign may lower the rank; what it does not do is to let it go to the bottom.
# - The theory is about batches, the loss about rows. With one or two modes left they differ.
#
# ## 6 · The predictor that freezes
#
# SimSiam and BYOL have no filter with a $\sigma$. Their predictor is trained to guess the target. What does the best linear one
# look like?

# %% exercise="best_gain"

# %% [markdown]
# The best linear predictor is **Wiener's filter**, $g_k = \rho_k$: it trusts each mode as far as it is clean. Where the large
# modes are the clean ones it is low-pass, and the online rank is the lower one. So the rank of the features should rise. Put
# it into your formula first.

# %%
from minipolycom.viz.widgets import choose

wiener = choose(
    "g = ρ and h = 1, in every mode. What is ρh/g, and what happens to the rank?",
    {
        "it rises": "The rank difference is positive, yet look at ρh/g: it is the same number in every mode.",
        "it freezes": "ρh/g = 1 in every mode, and the threshold S/|p|² = Σρ²λ / Σρ²λ is 1 as well: every rate is 0.",
        "it falls": "It does if the predictor is flatter than ρ. At g = ρ exactly, filter and noise cancel.",
    },
    right="it freezes",
)
wiener

# %%
import torch

from minipolycom.learn import reference
from minipolycom.spectral import effective_rank
from minipolycom.ssl.dynamics import INVARIANCE, flow
from minipolycom.viz import figures

spectrum, rho = 1 / torch.arange(1, 17, dtype=torch.float64), torch.tensor(INVARIANCE, dtype=torch.float64)
times = torch.linspace(0, 60, 121, dtype=torch.float64)
ranks = {}
for name, power in (("flatter, g = √ρ", 0.5), ("the best, g = ρ", 1.0), ("steeper, g = ρ²", 2.0)):
    gains = rho**power, torch.ones_like(rho)
    ranks[name] = effective_rank(flow(spectrum, rho, lambda _, gains=gains: gains, times)).tolist()
figures.show(
    figures.lines(
        ranks, times.tolist(), xlabel="time", ylabel="effective rank", title="Three predictors that stay as they are"
    )
)
print(f"largest growth rate at g = ρ: {float(reference('mode_growth')(spectrum, rho, rho, rho**0).abs().max()):.0e}")
for name in ("predictor", "no filter"):
    through = [row["effective_rank"] for row in rows[name]]
    print(
        f"the network of section 5, {name:>9}: rank {through[0]:.1f} at first, {min(through):.1f} at its lowest, "
        f"{through[-1]:.1f} at the end"
    )
wiener.reveal()

# %% [markdown]
# **Read the figure.** The best possible predictor does nothing at all. One that is flatter than $\rho$ lets the rank slide;
# one that is steeper raises it. *Low-pass is not enough: the filter has to be steeper than the noise.* But follow the steep
# one further. It does not stop where all modes are alike. It goes on, and hands the energy to the noisiest mode. A gain that
# stays as it is has no rest. A power filter follows the spectrum: where small modes have grown, their gain has grown, too. It
# rests when $g \propto \rho$, that is, **when it has become Wiener's filter**. The law of section 5 says nothing else.
#
# (DirectPred, by Tian, Chen and Ganguli, 2021, sets the predictor's gain to $\sqrt\lambda$, plus a small constant, instead of
# learning it: $\sigma = 1$ online has the same shape.)
#
# A learned predictor is not the best one at every step. The one of section 5 stays near to where it began, while the network
# without a predictor falls to the bottom (the last lines above). It is not quite frozen: for the first steps the predictor is
# no predictor yet, and later it is always a little late.
#
# Now back to section 2. Did SimSiam's linear predictor on digits become Wiener's filter? Take the axes of its features,
# the best gain along each, which is $\rho$, and the gain that was learned.

# %%
import torch

from minipolycom.learn import reference
from minipolycom.spectral import correlation
from minipolycom.viz import figures

outputs = trained["SimSiam, linear predictor"]
half = len(outputs.projected_NZ) // 2  # rows of the first view, then of the second
axes = torch.linalg.eigh(correlation(outputs.projected_NZ, normalise=False, centre=False)).eigenvectors.flip(1).float()
one, other, predicted_one = (
    rows @ axes for rows in (outputs.projected_NZ[:half], outputs.projected_NZ[half:], outputs.online_NZ[:half])
)
best, learned = reference("best_gain")(one, other), reference("best_gain")(one, predicted_one)
figures.show(
    figures.lines(
        {"the best gain, ρ": (best / best[0])[:12].tolist(), "the learned gain": (learned / learned[0])[:12].tolist()},
        range(1, 13),
        xlabel="direction of the features, largest first",
        ylabel="gain, in units of the first",
        title="Did the linear predictor become Wiener's filter?",
        markers=True,
    )
)

# %% [markdown]
# **Read the figure.** Both fall: the large directions are the clean ones, so the best predictor is low-pass, and the learned one
# is, too. But the learned gain falls *faster*. It is steeper than the best one, and by the rule above the rank is not frozen
# under it but rises. This is one network with one seed, and why training overshoots the best predictor is not answered here.
# (Two suspects: weight decay, which pulls at the predictor, and the loss, which looks at rows of length one.)
#
# That leaves the MLP, which is no filter in most directions, and works. The theory of this notebook does not reach it.
#
# ### What you have now
#
# - The best linear predictor is a low-pass filter with $g = \rho$, and at that gain the rank freezes, at any rank.
# - Rank rises under a filter that is steeper than $\rho$, until it is as steep as $\rho$.
#
# ## Before you go
#
# <details>
# <summary>Why does a spectral filter with a constant gain do nothing?</summary>
#
# It multiplies every direction by the same number, and neither the cosine nor the effective rank sees length. In the proof,
# $q = p$.
#
# </details>
#
# <details>
# <summary>Somebody reports a mean eigenspace alignment of 0.65 between two branches. What do you ask?</summary>
#
# What random directions get, for these spectra; over which directions the mean goes; and whether the two branches are more
# than one network compared with itself.
#
# </details>
#
# <details>
# <summary>All modes have ρ = 0.5. Where does the network end under σ = 0.1 online?</summary>
#
# All $\rho$ alike means equal shares, $\rho^{20}$ or not: rank 16. Weak filters lose to *differences* in $\rho$, not to
# noise as such. With $\sigma = 0$ nothing would move.
#
# </details>
#
# <details>
# <summary>You want the noisiest mode, ρ = 0.3, to keep a tenth of the energy of the cleanest, ρ = 0.95. Which |σ|?</summary>
#
# $(0.3/0.95)^{2/|\sigma|} = 0.1$, so $2/|\sigma| = \ln 0.1 / \ln(0.3/0.95) \approx 2.0$: $|\sigma| = 1$. That is the exponent
# of the paper's own $g(x) = x$ and $h(x) = x^{-1}$.
#
# </details>
#
# <details>
# <summary>Is a higher rank a better representation?</summary>
#
# Nothing here says so. Rank is bought by keeping noisy modes: at $|\sigma| \to \infty$ all sixteen are alike, and a mode
# that is nearly all augmentation has the same share as the cleanest. The next notebook looks at what it costs.
#
# </details>
#
# <details>
# <summary>How would you make the network without a filter collapse all the way?</summary>
#
# Give it the theory's loss: one cosine for the whole batch instead of one for each row. Then a single mode is the best there
# is. It takes three lines in a copy of `train_linear`; try it.
#
# </details>
#
# **Paper map.** *A low-pass filter gives the online branch the lower rank*: reproduced, with a proof (section 3). *The
# predictor acts as a low-pass filter*: scaled down, for the leading directions; *both branches share their axes*: undecided,
# yes for a linear predictor, hardly for the MLP (section 2). *The rank difference improves the effective dimensionality*:
# scaled down, with the correction of sections 4 and 5: it keeps the rank from the bottom and decides where it ends, which may
# be lower than where it began.
#
# **Read on.** Z. Zhuo et al., *Towards a unified theoretical understanding of non-contrastive learning via rank differential
# mechanism*, ICLR 2023; Y. Tian, X. Chen, S. Ganguli, *Understanding self-supervised learning dynamics without contrastive
# pairs*, 2021 (the linear setting, DirectPred); M. Halvagal, A. Laborieux, F. Zenke, *Implicit variance regularization in
# non-contrastive SSL*, 2023 (eigenvalues as learning rates); P. Richemond et al., *The edge of orthogonality*, 2023 (the best
# linear predictor); A. Marshall, I. Olkin, *Inequalities* (majorisation).

# %%
from minipolycom.learn import progress_map

progress_map()
