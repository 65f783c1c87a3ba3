# %% [markdown] title="A transformer, piece by piece" minutes=85 hardware="2 CPU cores" prerequisites="01"
# **By the end you will have shown** that PolyReLU can stand in a transformer because two other pieces hold its input at
# one small size, the norm in front of it and the law of the initial weights, by writing all the pieces yourself and
# measuring what reaches the activation in every layer; and that the control, the same model without that norm, falls
# silent or overflows with PolyReLU, and goes on as before with PolyNorm.
#
# On the way you will
#
# - **write** the norm, the rotary positions, causal attention, the gated feed-forward and the block,
# - **check** that your five pieces and the weights of the course's GPT give its logits,
# - **count** parameters and operations, and watch a counter come to the same number,
# - **derive** the size of what goes into the activation, and measure it for eight activations,
# - and answer the question with which notebook 01 ended: what keeps PolyReLU from exploding?
#
# Nothing is trained here. Each cell takes a second or two.

# %% setup=true

# %% [markdown]
# ## 1 · The whole on one page
#
# A sentence goes in as whole numbers, one per byte. Each number picks a row of a table, the embedding, and these rows,
# one per token, are the **residual stream**. A transformer is a stack of blocks that read from this stream and add to
# it. This is one of them.

# %%
from minipolycom import GPTConfig
from minipolycom.viz import anatomy

config = GPTConfig.preset("tiny", activation="polynorm")
anatomy.block_diagram(config)

# %% [markdown]
# **Read the drawing.** The thick line is the stream. It goes through nothing. Twice something is read off it, worked
# on, and added back: *attention* moves information between tokens, the *feed-forward* works on each token by itself.
# The coloured box is what this course is about: one small function in the middle of the second detour.
#
# The letters are those of the course's code, and they stand at the end of each tensor's name, so that `x_BTD` says its
# own shape:
#
# | letter | axis | here |
# |---|---|---|
# | B | batch: texts side by side | |
# | T | time: positions in the text | |
# | D | width of the stream | 128 |
# | H, K | heads, width of a head; H K = D | 4, 32 |
# | F | width of the feed-forward | 512 |
# | V, L | vocabulary, layers | 256, 2 |
#
# Every tensor of a model can be had by name. Here are those on the way through the first block.

# %%
import torch

from minipolycom import GPT
from minipolycom.record import record

sentence = "the cat sat on the mat"
tokens_BT = torch.tensor([list(sentence.encode())])
gpt = GPT(config)
on_the_way = [
    "attention_norm", "attention.qkv", "attention.out",
    "feed_forward_norm", "feed_forward.up", "feed_forward.activation", "feed_forward.down",
]  # fmt: skip
names = ["embedding", *(f"blocks.0.{name}" for name in on_the_way), "blocks.0", "head"]
with torch.no_grad(), record(gpt, names) as tensors:
    gpt(tokens_BT)
print(f"{'tokens':33} {tuple(tokens_BT.shape)}  {sentence!r}")
for name in names:
    print(f"{name:33} {tuple(tensors[name].shape)}")

# %% [markdown]
# The last line holds the **logits**: at each position 256 numbers, one for each byte that could come next. (The matrix
# that makes them is called the head; it is no kin of the heads of attention.)
#
# You will now write the boxes from left to right. After each of them the notebook goes on with the course's own
# version, so nothing is lost if you leave one out.
#
# ## 2 · The norm
#
# Both detours begin with a norm. It looks like a formality, and in section 8 it will turn out to be what the activation
# owes its life to.

# %% exercise="rmsnorm"

# %% [markdown]
# From here on the *size* of something is its root mean square. Rows of the stream can be of any size. What does the
# norm make of a quiet one, and of a loud one? Not quite the same: under the root stands an $\varepsilon = 10^{-6}$.
# Predict where it begins to matter.

# %%
from minipolycom.viz.widgets import guess_number

half = guess_number("How quiet must a row be for the norm to give it only half of its usual size?", "", 1e-6, 1.0)
half

# %%
import torch
from torch import nn

from minipolycom.learn import reference
from minipolycom.record import rms
from minipolycom.viz import figures

D = 128
rows = torch.randn(1, 64, D, generator=torch.Generator().manual_seed(0))
rows = rows / rows.square().mean(-1, keepdim=True).sqrt()
before = (10 ** torch.linspace(-5, 3, 33)).tolist()
after = [rms(reference("rmsnorm")(size * rows, torch.ones(D))) for size in before]
figures.show(
    figures.lines(
        {"with the norm": after, "without": before},
        before,
        xlabel="size of the row (root mean square)",
        ylabel="size behind it",
        title="What a norm does to quiet and loud rows",
        log="xy",
    )
)
packaged = nn.RMSNorm(D, eps=1e-6)(rows)
print(
    f"largest difference to torch's own RMSNorm: {(reference('rmsnorm')(rows, torch.ones(D)) - packaged).abs().max():.1e}"
)
half.compare(1e-3 / 3**0.5)

# %% [markdown]
# **Read the figure.** From 0.01 up, over five powers of ten, everything leaves with size 1. Below 0.001 the line falls
# with the control: there $\varepsilon$ is the larger of the two under the root. Half of the size is reached at
# $10^{-3} / \sqrt 3 = 0.00058$. The stream of our models starts at $1/\sqrt D = 0.088$, well on the flat part.
#
# ## 3 · Where a token stands
#
# Attention compares tokens by products of vectors, and a product does not know which of the two came first. Positions
# have to be put in. Look at how it is done before it gets its name. A vector of 32 entries is taken apart into 16
# pairs, and each pair is a point in the plane. Here are four of them at the positions 0 to 23.

# %%
import torch

from minipolycom.model import Rotary
from minipolycom.viz import anatomy, figures

T, K = 24, 32
pointing_right = torch.cat([torch.ones(K // 2), torch.zeros(K // 2)])
turned_TK = Rotary(d_head=K, context=T, base=10_000.0)(pointing_right.repeat(1, 1, T, 1))[0, 0]
figures.show(anatomy.rotary_turns(turned_TK, pairs=[0, 2, 4, 8]))

# %% [markdown]
# **Read the figure.** Each position turns the pair by the same angle further. Pair 0 goes by one radian per token,
# nearly four times round in 24 tokens; each later pair is slower, and pair 8 hardly moves. They are the hands of a
# clock, and as on a clock the fast hand tells neighbours apart and the slow one tells morning from evening. The method
# is called **rotary positions** (RoPE).

# %% exercise="rotate"

# %% [markdown]
# What is gained by turning? Put *one* vector at all positions, as query and as key, and look at all scores. Beside it
# the control, in which position is not turned in but *added*, as cosines and sines of the same angles.

# %%
from minipolycom.viz.widgets import choose

moved = choose(
    "Query and key move 50 places to the right together. What happens to their score under rotary positions?",
    {
        "it falls": "It would if their distance grew. It did not.",
        "it stays": "Both turn by 50 more steps, and a product of two vectors does not change when both turn alike.",
        "it depends on the text": "The text decides the vectors. Moving them turns both by the same angles.",
    },
    right="it stays",
)
moved

# %%
import torch

from minipolycom.learn import reference
from minipolycom.viz import anatomy, figures

T, K = 24, 32
rotate = reference("rotate")
same_everywhere = torch.randn(1, 1, 1, K, generator=torch.Generator().manual_seed(0)).repeat(1, 1, T, 1)
angle_TK = torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(0, K, 2) / K)
placed = {
    "turned": rotate(same_everywhere)[0, 0],
    "added": same_everywhere[0, 0] + torch.cat([angle_TK.cos(), angle_TK.sin()], dim=-1),
}
scores = {name: x_TK @ x_TK.T / K**0.5 for name, x_TK in placed.items()}
figures.show(anatomy.attention_maps(scores, value="score"))
for name, score_TT in scores.items():
    spread = max(float(score_TT.diagonal(-d).max() - score_TT.diagonal(-d).min()) for d in range(T))
    print(f"{name:6}: along one distance the scores differ by up to {spread:.1g}")
moved.reveal()

# %% [markdown]
# **Read the figure.** On the left every diagonal has one colour: a score depends on how far apart two tokens are and on
# nothing else. On the right it depends on where they stand as well; a model must learn again at each place what "the
# token before" means.
#
# In symbols, with $R_t$ the turn at position $t$: $(R_t q) \cdot (R_s k) = q \cdot R_{s-t}\, k$.
#
# ## 4 · Attention
#
# Now the tokens may look at each other. Each makes three vectors of itself: a query, which says what it looks for; a
# key, by which it can be found; and a value, which it hands on. $H$ heads do this side by side, each with vectors of
# its own, $K$ entries wide.

# %% exercise="causal_attention"

# %% [markdown]
# Two patterns. On the left a head of our untrained model reads the sentence. On the right a head made by hand: all
# tokens have the *same* query and the *same* key, only that the key is turned one place ahead. Where will each token
# look? (To see the weights, put the identity matrix in the place of the values.)

# %%
import torch
from einops import rearrange

from minipolycom import GPT, GPTConfig
from minipolycom.learn import reference
from minipolycom.record import record
from minipolycom.viz import anatomy, figures

rotate, causal_attention = reference("rotate"), reference("causal_attention")
sentence = "the cat sat on the mat"
T, K = len(sentence), 32
gpt = GPT(GPTConfig.preset("tiny"))
with torch.no_grad(), record(gpt, "blocks.0.attention.qkv") as tensors:
    gpt(torch.tensor([list(sentence.encode())]))
q, k, _ = rearrange(tensors["blocks.0.attention.qkv"], "B T (three H K) -> three B H T K", three=3, H=4)
query = 3 * torch.cat([torch.ones(K // 2), torch.zeros(K // 2)]).repeat(1, 1, T, 1)
one_ahead = rotate(query)[:, :, 1:2].expand_as(query)  # what position 1 would make of it, at every position

identity = torch.eye(T)[None, None]
weights = {
    "head 0, untrained": causal_attention(rotate(q), rotate(k), identity.expand(1, 4, T, T))[0, 0],
    "made by hand": causal_attention(rotate(query), rotate(one_ahead), identity)[0, 0],
}
figures.show(anatomy.attention_maps(weights, labels=["␣" if letter == " " else letter for letter in sentence]))

# %% [markdown]
# **Read the figure.** Nothing lies above the diagonal: nobody reads ahead. The untrained head spreads its weight nearly
# evenly over the past, so the first rows are bright and the last ones dim. The head made by hand looks one place back,
# whatever the letters are: the product is greatest where query and key point the same way, and that is where the key's
# extra place makes up for the distance of one. Trained models have such heads, and build on them: who looks one place
# back can learn what usually comes after what.
#
# ### The control: without the mask
#
# Change one token, and see which outputs change. With the mask none before it may.

# %%
import torch
from torch.nn.functional import scaled_dot_product_attention

from minipolycom.learn import reference
from minipolycom.viz import anatomy, figures

T, K = 16, 32
generator = torch.Generator().manual_seed(0)
inputs = [torch.randn(1, 1, T, K, generator=generator) for _ in range(3)]
others = [torch.randn(1, 1, T, K, generator=generator) for _ in range(3)]


def influence(attend):
    """How far the output at each position (row) moves when the token at another (column) is replaced."""
    moves = []
    for s in range(T):
        here = (torch.arange(T) == s)[:, None]
        replaced = [torch.where(here, other, x) for x, other in zip(inputs, others, strict=True)]
        moves.append((attend(*replaced) - attend(*inputs)).norm(dim=-1)[0, 0])
    return torch.stack(moves, dim=1)


effects = {
    "with the mask": influence(reference("causal_attention")),
    "without": influence(scaled_dot_product_attention),
}
figures.show(anatomy.attention_maps(effects, value="change"))
for name, effect_TT in effects.items():
    print(f"{name:13}: largest change at an earlier position {effect_TT.triu(1).max():.2g}")

# %% [markdown]
# **Read the figure.** Rows are outputs, columns are the tokens that were replaced. With the mask the upper triangle is
# exactly zero. It has to be: the model is asked at every position for the next token, and without the mask it could
# read the answer off the page.
#
# ### What you have now
#
# - A norm that lets every row leave with size 1.
# - Positions as rotations: a score knows distances and nothing else.
# - Attention that mixes the past, and a control that shows what the mask is for.
#
# ## 5 · The feed-forward, and a fair comparison
#
# Attention only mixes. What bends is the feed-forward: up to a wider row, a function, and down again. The most common
# one today is gated and has a third matrix.

# %% exercise="swiglu"

# %% [markdown]
# At the same width the third matrix makes a feed-forward half as large again, and larger models are better models.
# Whoever compares activations must give all of them the same number of parameters, so the gated one has to be narrower.

# %% exercise="gated_width"

# %% [markdown]
# The same in the size of our smallest model. Area is parameters.

# %%
from minipolycom import GPTConfig
from minipolycom.viz import anatomy

anatomy.matrices_to_scale(GPTConfig.preset("tiny", activation=name) for name in ("polynorm", "swiglu"))

# %% [markdown]
# How fair is the paper's comparison by this measure? Its shapes can be counted without being built: 24 layers,
# $D = 2048$, 16 heads, a vocabulary of 32,000 (the authors' training script and tokenizer). Beside it the control, a
# gated feed-forward that was given the full width.

# %% claim="matched-parameters"
from minipolycom import GPTConfig
from minipolycom.viz import figures

published = dict(n_layers=24, n_heads=16, d_model=2048, context=4096, vocab_size=32_000)
counts = {
    name: GPTConfig(**published, activation=name, expansion=8256 / 2048).n_parameters
    for name in ("relu", "gelu", "polyrelu", "polynorm", "swiglu")
}
counts["swiglu, not narrowed"] = GPTConfig(**published, activation="swiglu", expansion=1.5 * 8256 / 2048).n_parameters
more = {name: count - counts["relu"] for name, count in counts.items()}
assert [more[name] for name in ("gelu", "swiglu", "polyrelu", "polynorm")] == [0, 0, 24 * 4, 24 * 4], more
figures.show(
    figures.bars(
        {name: count / 1e9 for name, count in counts.items()},
        xlabel="activation",
        ylabel="parameters, billions",
        title="The dense models of the PolyCom paper, counted",
    )
)
for name, count in counts.items():
    print(f"{name:20} {count:,} parameters, {more[name]:+,} beside relu")

# %% [markdown]
# **Read the figure.** All models of the comparison have 1.345 billion parameters. PolyReLU's and PolyNorm's have 96
# more, four coefficients in each of 24 layers. Without the narrowing SwiGLU would have 0.4 billion more, and nobody
# could say whether the gate or the size had won. On this point the published comparison is clean.
#
# Equal parameters are not equal time: a PolyNorm passes over its row more often than a ReLU does. That is another
# notebook (08).
#
# ## 6 · The block, and the whole model
#
# Two assignments make a block out of the pieces. (`einsum`, from einops, names all axes and sums over those that are
# missing on the right of the arrow.)

# %% exercise="transformer_block"

# %% [markdown]
# Is it the package's block? The test that counts: take the weights of the course's GPT, hand them to your pieces layer
# by layer, and compare the logits. As controls, four blocks that are wired slightly wrong, with the same weights. (The
# course's block stands in for yours. If you have written one, put it in the place of `reference("transformer_block")`.)

# %% claim="feed-forward"
import torch
from einops import rearrange

from minipolycom import GPT, GPTConfig
from minipolycom.learn import EXERCISES, reference
from minipolycom.viz import figures


def weights_of(block):
    """A block's weights in the two tuples that `transformer_block` takes."""
    attention, feed_forward = block.attention, block.feed_forward
    qkv_3HKD = rearrange(attention.qkv.weight, "(three H K) D -> three H K D", three=3, H=attention.n_heads)
    out_DHK = rearrange(attention.out.weight, "D (H K) -> D H K", H=attention.n_heads)
    coefficients = feed_forward.activation.weight, feed_forward.activation.bias
    return (
        (block.attention_norm.weight, qkv_3HKD, out_DHK),
        (block.feed_forward_norm.weight, feed_forward.up.weight, *coefficients, feed_forward.down.weight),
    )


def by_hand(gpt, tokens_BT, transformer_block):
    """A GPT's logits from your pieces: embedding, the blocks, one more norm, the head."""
    x_BTD = gpt.embedding.weight[tokens_BT]
    for block in gpt.blocks:
        x_BTD = transformer_block(x_BTD, *weights_of(block))
    return reference("rmsnorm")(x_BTD, gpt.norm.weight) @ gpt.head.weight.T


gpt = GPT(GPTConfig.preset("tiny", activation="polynorm"))
tokens_BT = torch.randint(0, 256, (2, 128), generator=torch.Generator().manual_seed(0))
wrong = {entry.misconception: entry.answer for entry in EXERCISES["transformer_block"].bank}
blocks = {
    "yours": reference("transformer_block"),
    "no positions": wrong["nothing turned"],
    "no mask": wrong["attention without a mask"],
    "side by side": wrong["both sub-layers read the same stream"],
    "norms after": wrong["norms after the addition"],
}
with torch.no_grad():
    logits = gpt(tokens_BT)
    off = {name: float((by_hand(gpt, tokens_BT, b) - logits).norm() / logits.norm()) for name, b in blocks.items()}
figures.show(
    figures.bars(
        off,
        xlabel="wiring",
        ylabel="difference of the logits, relative",
        title="Your pieces against the package's GPT, with its weights",
        log=True,
    )
)
assert off["yours"] < 1e-5 < 0.1 < min(value for name, value in off.items() if name != "yours"), off

# %% [markdown]
# **Read the figure.** Yours agrees to six or seven digits, which is all that float32 has. Each of the others is off by
# a tenth or more, and yet each of them runs, and no shape gives it away. That is why wiring has to be checked against
# numbers.
#
# While it is running, let a counter look over its shoulder: how many multiplications and additions does one token cost,
# in one step of training, forward and backward?

# %%
from torch.utils.flop_counter import FlopCounterMode

from minipolycom import next_token_loss

with FlopCounterMode(display=False) as counter:
    next_token_loss(by_hand(gpt, tokens_BT, reference("transformer_block")), tokens_BT).backward()
counted = counter.get_total_flops() / tokens_BT.numel()
print(f"counted: {counted:,.0f} per token;  GPTConfig.flops_per_token: {gpt.config.flops_per_token:,}")

# %% [markdown]
# ## 7 · Where the numbers come from
#
# The counter and the configuration agree to the last digit, and no model was needed for the second number. Here is how.
#
# **Parameters.** A block has four $D \times D$ matrices in attention ($q$, $k$, $v$, out) and two of $D \times 4D$ in
# the feed-forward: $4 D^2 + 8 D^2 = 12 D^2$. Norms and coefficients do not count beside them.
#
# **Operations.** Each entry of a matrix takes part in one multiplication and one addition per token forward, and in
# twice as many backward, once for the gradient of its input and once for its own: $6 N$ with $N$ the entries of all
# matrices. The embedding is looked up, not multiplied. To that come the scores and the mixing of values, which have no
# parameters: $12\,L\,D\,T$ (for the whole square of positions, masked or not).
#
# So what share of a GPT-2's parameters sits in the feed-forward, where the activation works?

# %%
from minipolycom.viz.widgets import guess_number

share = guess_number("Of the 124 million parameters of GPT-2, how many percent are in the feed-forwards?", "%", 0, 100)
share

# %%
from minipolycom import GPTConfig
from minipolycom.viz import figures

gpt2 = GPTConfig.preset("gpt2", activation="relu")
L, D = gpt2.n_layers, gpt2.d_model
parts = {
    "embedding = head": gpt2.vocab_size * D,
    "attention": L * 4 * D**2,
    "feed-forward": L * 2 * D * gpt2.d_ff,
    "norms": (2 * L + 1) * D,
}
assert sum(parts.values()) == gpt2.n_parameters, (parts, gpt2.n_parameters)
figures.show(
    figures.bars(
        {name: count / 1e6 for name, count in parts.items()},
        xlabel="part",
        ylabel="parameters, millions",
        title=f"A transformer of GPT-2's shape: {gpt2.n_parameters / 1e6:.1f} million",
    )
)
share.compare(round(100 * parts["feed-forward"] / gpt2.n_parameters))

# %% [markdown]
# **Read the figure.** The feed-forwards are the largest part, and two thirds of each block. (GPT-2 has one matrix for
# embedding and head, so it is counted once.) In larger models the embedding hardly counts and the two thirds are nearly
# the whole answer. All of these entries serve one function of a row; a better function makes them all worth more. That
# is the bet of this course's paper.
#
# And the operations? In each layer the feed-forward takes $48\,D^2$ per token, scores and mixing $12\,D\,T$: they draw
# level at a context of $T = 4D$, which for GPT-2 is 3072, three times its own. Nowhere in this account is there an
# activation: a few operations for each of $F$ entries are nothing beside the $4D$ that it takes to make and to use each
# of them. What an activation does cost is memory traffic, which operations do not show (notebook 08).
#
# ## 8 · What arrives at the activation
#
# Everything is in place for the question of notebook 01. A bare cubic overflowed after a few layers, and so did
# PolyReLU. In a transformer PolyReLU trains. What protects it?
#
# Everything depends on the **size of its input**, because a polynomial is a different function at different sizes. Here
# are PolyReLU's three terms for inputs of standard deviation 0.1, 0.632 and 3.

# %%
from minipolycom.viz import anatomy, figures

figures.show(anatomy.powers_at_scales([0.1, 0.632, 3]))

# %% [markdown]
# **Read the figure.** For quiet inputs PolyReLU is a ReLU: only the straight term counts. For loud ones it is a cube
# and nothing else. In the middle all three have a say, and only there it is worth its name. Unfold the numbers: at
# 0.632 the terms have sizes of 0.15, 0.16 and 0.23. A network that wants a polynomial must see to it that its input
# arrives at such a size, in every layer. Does it?

# %% exercise="preactivation_std"

# %% [markdown]
# Derived for one layer. Now measure, in all layers and for all eight activations, in a model that nobody has trained.

# %%
import torch

from minipolycom import ACTIVATION_NAMES, ACTIVATIONS, GPT, GPTConfig
from minipolycom.activations import GATED
from minipolycom.record import record, rms
from minipolycom.viz import figures

N_LAYERS = 12
tokens_BT = torch.randint(0, 256, (4, 128), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def sizes(gpt, name):
    """Root mean square of a tensor of each block, as `record` calls it, on random text."""
    with record(gpt, f"blocks.*{name}") as tensors:
        gpt(tokens_BT)
    return [rms(tensor) for tensor in tensors.values()]


models = {name: GPT(GPTConfig.preset("tiny", activation=name, n_layers=N_LAYERS)) for name in ACTIVATION_NAMES}
arrives = {name: sizes(gpt, ".feed_forward.activation.input") for name, gpt in models.items()}
figures.show(
    figures.lines(
        arrives,
        range(1, N_LAYERS + 1),
        xlabel="layer",
        ylabel="size of the activation's input",
        title="What arrives at the activation, untrained",
    )
)
for n_layers, d_model in ((2, 64), (24, 128), (4, 512)):
    other = GPT(GPTConfig(activation="polyrelu", n_layers=n_layers, d_model=d_model))
    (first, *_, last) = sizes(other, ".feed_forward.activation.input")
    print(f"{n_layers} layers, D = {d_model}: {first:.3f} in the first layer, {last:.3f} in the last")

leaves = {name: sizes(gpt, ".feed_forward.activation") for name, gpt in models.items()}
normal = torch.special.ndtri((torch.arange(2**14) + 0.5) / 2**14) * 0.4**0.5  # evenly spaced quantiles, s = 0.632
figures.show(
    figures.lines(
        leaves,
        range(1, N_LAYERS + 1),
        xlabel="layer",
        ylabel="size of the activation's output",
        title="What leaves the activation, untrained",
    )
)
for name, measured in leaves.items():
    expected = rms(ACTIVATIONS[GATED.get(name, name)]()(normal).detach())
    print(f"{name:12}  measured {sum(measured) / N_LAYERS:.3f}   for normal inputs {expected:.3f}")

# %% [markdown]
# **Read the figures.** Mind the axis of the first: it spans a few percent, the luck of random matrices. Every
# activation in every layer gets an input of size 0.63, as you derived. What *leaves* is different for each of them:
# flat lines, at the heights that a normal input of that size gives. PolyNorm is the loudest with 0.71, twice SiLU. Its
# 0.71 holds for normal inputs of *any* size: each power has size 1, the first and the third are correlated by
# $3 / \sqrt{15} = 0.775$, and $\sqrt{(3 + 2 \cdot 0.775)} / 3 = 0.711$. All the others change with the input's size.
# (For SwiGLU and GeGLU this is the gate, before the product.)
#
# ### The stream itself
#
# The detours write into the stream, so it grows. How fast? And what would it do without the $1/\sqrt{2L}$ by which our
# models shrink the two matrices that write into it, as GPT-2 does?

# %%
from minipolycom.viz.widgets import choose

growth = choose(
    "Each block adds something of the same size. How does the size (root mean square) of the stream grow with depth?",
    {
        "not at all": "Then what the blocks write would have to cancel what is there. Untrained weights know nothing of it.",
        "like the root of the depth": "What the blocks write is unrelated, so squares add up: the mean square grows in a "
        "straight line, and its root like the root of the depth.",
        "in proportion to the depth": "It would if all blocks wrote the same thing. They write unrelated things, and those "
        "add up like steps of a random walk.",
        "exponentially": "It would without the norms: then a louder stream would be answered by louder blocks.",
    },
    right="like the root of the depth",
)
growth

# %%
import math

streams = {}
for name, factor in {"with 1/√(2L)": 1.0, "without": math.sqrt(2 * N_LAYERS)}.items():
    gpt = GPT(GPTConfig.preset("tiny", activation="polynorm", n_layers=N_LAYERS))
    for block in gpt.blocks:
        block.attention.out.weight.data *= factor
        block.feed_forward.down.weight.data *= factor
    streams[name] = [size**2 for size in sizes(gpt, "")]
    (first, *_, last) = sizes(gpt, ".feed_forward.activation.input")
    print(f"{name}: the activation's input is {first:.3f} in the first layer and {last:.3f} in the last")
figures.show(
    figures.lines(
        streams,
        range(1, N_LAYERS + 1),
        xlabel="layer",
        ylabel="mean square of the stream",
        title="The residual stream, untrained, with PolyNorm",
        log="xy",
        markers=True,
    )
)
growth.reveal()

# %% [markdown]
# **Read the figure.** Both axes are logarithmic and both lines rise with slope 1: the *mean square* grows in proportion
# to the depth. With the factor it ends a little below a half, whatever $L$ is, for $2L$ contributions are divided by
# $2L$. Without it, it ends $2L$ times as high.
#
# And what reaches the activation? The same in both cases, as the two printed lines say, in the first layer and in the
# last. Between the growing stream and the activation stands the norm.
#
# ### The control: take the norm out
#
# Replace the norm in front of each feed-forward by nothing, and change nothing else.

# %%
from minipolycom.viz.widgets import choose

out = choose(
    "Without the norms before the feed-forwards, at this initialisation: what happens to PolyReLU's feed-forwards?",
    {
        "they overflow": "They would if their inputs were large. Whether a cube explodes or vanishes depends on which side of "
        "1 it is fed from.",
        "they nearly fall silent": "The embedding's rows have length one, so their 128 entries are about 0.09 each. What "
        "arrives at the activation is ten times smaller than before, and only the straight term notices it at all.",
        "nothing changes": "It does for PolyNorm, nearly. PolyReLU cannot know how large its input ought to be.",
    },
    right="they nearly fall silent",
)
out

# %%
import torch
from torch import nn

from minipolycom import GPT, GPTConfig
from minipolycom.record import record, rms
from minipolycom.viz import figures

tokens_BT = torch.randint(0, 256, (4, 128), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def written(activation, norm=True, embedding=None, up=1.0, n_layers=8):
    """Size of what the last feed-forward writes; NaN if it is not finite.

    `embedding`, if given, is the size that the embedding's entries are brought to; `up` multiplies the matrices up.
    """
    gpt = GPT(GPTConfig.preset("tiny", activation=activation, n_layers=n_layers))
    if embedding is not None:
        gpt.embedding.weight *= embedding / rms(gpt.embedding.weight)
    for block in gpt.blocks:
        block.feed_forward.up.weight *= up
        if not norm:
            block.feed_forward_norm = nn.Identity()
    with record(gpt, f"blocks.{n_layers - 1}.feed_forward") as tensors:
        gpt(tokens_BT)
    (y_BTD,) = tensors.values()
    return rms(y_BTD) if torch.isfinite(y_BTD).all() else float("nan")


for activation in ("polyrelu", "polynorm"):
    kept, gone = written(activation), written(activation, norm=False)
    print(
        f"{activation}: the last feed-forward writes {kept:.3f} with the norm, {gone:.4f} without ({kept / gone:.1f} times less)"
    )
out.reveal()

# %% [markdown]
# So the first surprise: no explosion. PolyReLU falls silent, because the stream is *quiet* at the start. But nothing
# says that it has to be. Torch's own `nn.Embedding` starts with entries of size 1, not 0.09, and training moves them
# too. So turn the knob: bring the embedding to different sizes, with the norms and without.

# %%
loudness = [0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, 30.0]
swept = {
    f"{activation}{', no norm' * (not norm)}": [written(activation, norm, embedding=size) for size in loudness]
    for activation in ("polyrelu", "polynorm")
    for norm in (True, False)
}
figures.show(
    figures.lines(
        swept,
        loudness,
        xlabel="size of the embedding's entries",
        ylabel="size of what the last feed-forward writes",
        title="A quiet or a loud stream, with and without the norm (8 layers)",
        log="xy",
        markers=True,
    )
)
dead = [size for size, value in zip(loudness, swept["polyrelu, no norm"], strict=True) if value != value]
print(f"PolyReLU without the norm is no longer a finite number from size {min(dead, default=None)} on")

# %% [markdown]
# **Read the figure.** With the norms both lines are flat over three and a half powers of ten: the feed-forward does not
# notice how loud the stream is. Without them PolyReLU has no size of its own. On the left it whispers, and on the right
# its line ends: each layer cubes what the one before has cubed, and after eight layers no number is left. Between the
# two lies a window around 1, less than a power of ten wide. PolyNorm's lines with and without the norm can hardly be
# told apart.
#
# ### The second guard
#
# The norm fixes what the matrix `up` *reads*. What it writes is up to its weights. Keep the norms, and multiply the
# initial weights of `up` by a factor.

# %%
factors = [0.1, 0.25, 0.5, 1, 2, 4, 8]
scaled = {name: [written(name, up=factor) for factor in factors] for name in ("relu", "gelu", "polyrelu", "polynorm")}
figures.show(
    figures.lines(
        scaled,
        factors,
        xlabel="factor on the initial weights of up",
        ylabel="size of what the last feed-forward writes",
        title="Louder weights, norms in place",
        log="xy",
        markers=True,
    )
)
for name in ("relu", "polyrelu", "polynorm"):
    print(f"{name}: from factor 4 to 8 it grows {scaled[name][-1] / scaled[name][-2]:.2f} times")

# %% [markdown]
# **Read the figure.** ReLU's line has slope 1: twice the weights, twice the output. PolyReLU's is a ReLU's on the left
# and bends up to slope 3 on the right, eight times the output for twice the weights. PolyNorm's is flat. (Nothing
# overflows here: the norm of the next layer catches it.)
#
# **So this is the answer to the question of notebook 01.** PolyReLU does not explode in a transformer because two other
# pieces see to its input: the norm, which makes it independent of the stream, and the $2/(5D)$ of the weights, which
# puts it at 0.63, where all three terms count. Take either away and it is another function. PolyNorm brings its own
# guard along and needs neither; what it pays for that, a gradient that shrinks as its input grows, is in notebook 02.
#
# Both guards stand at the *start*. Training moves the weights of `up` and those of the norm, and nothing holds PolyReLU's
# input at 0.63 then; its three coefficients, learnt as well, can follow. At the paper's scale that does well enough:
# after 250 billion tokens its published curves have PolyReLU at a training loss of 2.178, close behind PolyNorm's 2.171.
# How far the input wanders, every run records beside its losses: ask a run of notebook 05 for `run.table("norms")`,
# column `preactivation_rms`.
#
# ### What you have shown
#
# - A transformer is five short functions; with the package's weights they give its logits to the precision of float32.
# - At equal parameters a gate costs a third of the width; the published comparison keeps to that exactly.
# - Every activation of every layer starts with an input of size 0.63, at any depth and width.
# - Without the norm, or with louder weights, PolyReLU is a different function or none. PolyNorm does not notice.

# %% [markdown]
# ## Before you go
#
# <details>
# <summary>A model is made twice as wide (D, and all that hangs on it). What happens to the size of what arrives at the activation?</summary>
#
# Nothing. The variance of a weight is $2/(5D)$, and D of them are added up.
#
# </details>
#
# <details>
# <summary>Why are queries and keys turned, and values not?</summary>
#
# The score is to know the distance, and it is made of queries and keys. A value is what is handed on; if it came turned
# by its position, the reader would have to know that position to make sense of it.
#
# </details>
#
# <details>
# <summary>Somebody compares SwiGLU and PolyNorm, both with F = 4D, and SwiGLU wins. What do you ask?</summary>
#
# How the comparison goes with equal parameters. At equal width SwiGLU has three matrices against two, half as many
# parameters again in every feed-forward.
#
# </details>
#
# <details>
# <summary>The norm's weight is learnt. Suppose that it grows from 1 to 3 in some layer. What does PolyReLU become there, and PolyNorm?</summary>
#
# The input of the activation grows to 1.9. There PolyReLU's cubic term is 14 times the size of its linear one: it is
# nearly a cube. PolyNorm divides each power by its own size and stays what it was.
#
# </details>
#
# <details>
# <summary>A model of 12 layers is trained on texts of 128 tokens. Which costs more operations, its feed-forwards or its scores?</summary>
#
# The feed-forwards, by far, whatever the number of layers: 48 D² against 12 D T per layer, and T is much smaller than
# 4D in any usual model.
#
# </details>
#
# **Paper map.** Row *where PolyCom stands in the layer*, figure 2: reproduced (section 6). Row *SwiGLU and the other
# activations are compared at equal parameters*: reproduced, by counting
# (section 5).
#
# **Read on.** A. Vaswani et al., *Attention is all you need*, 2017; B. Zhang and R. Sennrich, *Root mean square layer
# normalization*, 2019; J. Su et al., *RoFormer*, 2021; N. Shazeer, *GLU variants improve transformer*, 2020; A.
# Chowdhery et al., *PaLM*, 2022 (appendix B: the operations). In the package all of this is one file,
# `minipolycom/model.py`.

# %%
from minipolycom.learn import progress_map

progress_map()
