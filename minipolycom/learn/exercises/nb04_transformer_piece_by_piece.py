"""Exercises of 04_transformer_piece_by_piece: the pieces of a block, the width of a gate, the scale of what arrives."""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange

from minipolycom.activations import polynorm
from minipolycom.learn.checks import Gradients, Property, Values, close, ladder, value_ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid

# -- RMSNorm -------------------------------------------------------------------------------------------------------


def rmsnorm(x_BTD: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
    """Each row divided by its root mean square, then multiplied by the weight: x / sqrt(mean(x^2) + 1e-6) * weight.

    A row is the last axis, the D entries of one token. weight_D has one entry for each of them.
    """
    mean_square = x_BTD.square().mean(dim=-1, keepdim=True)
    return x_BTD / (mean_square + 1e-6).sqrt() * weight_D


def _stream(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    size = torch.rand(*shape[:2], 1, generator=generator) + 0.5  # rows of different sizes, and not around zero
    x = size * (torch.randn(shape, generator=generator) + 0.5)
    return x, 1 + 0.3 * torch.randn(shape[2], generator=generator)


def _small_rows() -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = _stream((1, 3, 8), torch.Generator().manual_seed(5))
    return x * torch.tensor([0.0, 1e-4, 1e-3])[:, None], weight


def _louder(factor: float) -> Case:
    def make() -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = _stream((1, 2, 6), torch.Generator().manual_seed(6))
        return factor * x, weight

    return Case(label=f"rows times {factor:g}", make=make)


def _size(x: torch.Tensor, dim: int | tuple[int, ...] = -1) -> torch.Tensor:
    return (x.square().mean(dim=dim, keepdim=True) + 1e-6).sqrt()


def _size_cut_off(x_BTD, weight_D):
    return x_BTD / _size(x_BTD).detach() * weight_D


def _norm_in_place(x_BTD, weight_D):
    return x_BTD.div_(_size(x_BTD)) * weight_D


def _layer_norm(x_BTD, weight_D):
    centred = x_BTD - x_BTD.mean(dim=-1, keepdim=True)
    return centred / _size(centred) * weight_D


def _norm_with_rsqrt(x, weight):
    return weight * (x * torch.rsqrt(torch.linalg.vecdot(x, x)[..., None] / x.shape[-1] + 1e-6))


RMSNORM = Exercise(
    name="rmsnorm",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        Every sub-layer of the block reads the residual stream through a norm. Write it: each row (the $D$ entries of
        one token) is divided by its root mean square, then multiplied by a learnt weight, entry by entry,

        $$y_d = \frac{x_d}{\sqrt{\tfrac1D \sum_{e} x_e^2 + \varepsilon}}\; w_d, \qquad \varepsilon = 10^{-6}.$$

        No mean is subtracted. $\varepsilon$ keeps a row of zeros from becoming a row of NaN.
        """,
    difficulty=2,
    importance=5,
    minutes=6,
    reference=rmsnorm,
    cases=(
        *grid(_stream, shapes=((2, 3, 8), (3, 4, 5))),
        Case(label="rows of zeros, of 1e-4 and of 1e-3", make=_small_rows),
    ),
    ladder=ladder(
        Values(rtol=1e-5, atol=1e-6, because="float32 carries seven digits, and a mean over a short row loses one"),
        Gradients(rtol=1e-4, atol=2e-3, because="rows of 1e-4 have slopes of 1000, and these lose one digit more"),
        Property(
            promise="a row that is 1000 times as loud comes out the same",
            cases=(_louder(1), _louder(1000)),
            holds=lambda results: close(*results, rtol=1e-5, atol=1e-5),
        ),
    ),
    hints=(
        """
        Read the name backwards: square, mean, root. The mean runs over `dim=-1`, and there is one such number per row.
        """,
        """
        `x_BTD.square().mean(dim=-1, keepdim=True)` has the shape (B, T, 1), which broadcasts against (B, T, D). Add
        1e-6 to it *before* you take the root.
        """,
    ),
    explanation="""
        One number per row is taken out, its size; the direction stays. LayerNorm takes out the mean as well, which
        costs more and, as Zhang and Sennrich (2019) found, is not missed. The weight starts at 1, so that at
        initialisation every row leaves with a root mean square of 1. Section 8 lives on that.
        """,
    bank=(
        WrongAnswer(
            answer=lambda x, weight: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() * weight,
            misconception="length for root mean square",
            says=(
                "This is exactly x divided by its length, the root of the sum of squares. The mean of squares is "
                "asked for: its root is smaller by a factor of √D."
            ),
        ),
        WrongAnswer(
            answer=_layer_norm,
            misconception="LayerNorm",
            says="This is exactly LayerNorm: the mean was subtracted first. RMSNorm leaves it where it is.",
        ),
        WrongAnswer(
            answer=lambda x, weight: x / (x.var(-1, keepdim=True, correction=0) + 1e-6).sqrt() * weight,
            misconception="standard deviation for root mean square",
            says=(
                "This is exactly x divided by its standard deviation, which is measured from the row's mean. The root "
                "mean square is measured from zero."
            ),
        ),
        WrongAnswer(
            answer=lambda x, weight: x / _size(x, dim=1) * weight,
            misconception="wrong axis",
            says=(
                "This is exactly what the mean over time gives, `dim=1`. Each token is normalised by itself, over its "
                "own D entries: `dim=-1`."
            ),
        ),
        WrongAnswer(
            answer=lambda x, weight: x / _size(x, dim=(0, 1, 2)) * weight,
            misconception="one size for the whole tensor",
            says=(
                "This is exactly x divided by the root mean square of the whole tensor. Each row has its own: "
                "`mean(dim=-1, keepdim=True)`."
            ),
        ),
        WrongAnswer(
            answer=lambda x, weight: x / (x.square().mean(-1, keepdim=True) + 1e-6) * weight,
            misconception="root left out",
            says="This is exactly x divided by the mean square. Its root is still to be taken.",
        ),
        WrongAnswer(
            answer=lambda x, weight: x / (x.abs().mean(-1, keepdim=True) + 1e-6) * weight,
            misconception="mean of magnitudes",
            says="This is exactly x divided by the mean of |x| (plus 1e-6). Square, mean, root.",
        ),
        WrongAnswer(
            answer=lambda x, weight: x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6) * weight,
            misconception="ε added after the root",
            says=(
                "This is exactly x / (√mean + ε). With ε under the root a row of size 0.001 is halved in power; with "
                "ε outside it is not."
            ),
        ),
        WrongAnswer(
            answer=lambda x, weight: x / x.square().mean(-1, keepdim=True).sqrt() * weight,
            misconception="no ε",
            says="This is exactly the norm without ε: a row of zeros becomes 0 / 0, NaN.",
        ),
        WrongAnswer(
            answer=lambda x, weight: x / _size(x),
            misconception="weight left out",
            says="This is exactly the normalised row. The weight is still to be multiplied, entry by entry.",
        ),
        WrongAnswer(
            answer=lambda x, weight: x * weight / _size(x * weight),
            misconception="weight before the norm",
            says=(
                "This is exactly the norm of x · weight. The weight comes after the division, so that the norm "
                "cannot undo it."
            ),
        ),
        WrongAnswer(
            answer=_norm_in_place,
            misconception="divides in place",
            says=(
                "The caller's stream is normalised now, as `div_` or `/=` leave it. The block still needs it as it "
                "was, to add to it."
            ),
            fails="inputs kept",
        ),
        WrongAnswer(
            answer=_size_cut_off,
            misconception="size cut off from the graph",
            says=(
                "This is what a size under `.detach()` or `torch.no_grad()` gives: the right values, and gradients "
                "that do not know that the size depends on x."
            ),
            fails="gradients",
        ),
    ),
    right=(_norm_with_rsqrt, lambda x, weight: F.rms_norm(x, (x.shape[-1],), weight, eps=1e-6)),
)

# -- rotary positions ----------------------------------------------------------------------------------------------


def rotate(x_BHTK: torch.Tensor) -> torch.Tensor:
    """Rotary positions: at position t, entries i and i + K/2 turn together by the angle t / 10000^(2i/K).

    Positions count from 0 along T. A positive angle turns the first entry of a pair towards the second.
    """
    T, K = x_BHTK.shape[-2:]
    frequency_K = 10_000.0 ** (-torch.arange(0, K, 2) / K)  # one for each of the K/2 pairs
    angle_TK = torch.arange(T)[:, None] * frequency_K
    cos_TK, sin_TK = angle_TK.cos().to(x_BHTK.dtype), angle_TK.sin().to(x_BHTK.dtype)
    first_BHTK, second_BHTK = x_BHTK.chunk(2, dim=-1)
    return torch.cat([first_BHTK * cos_TK - second_BHTK * sin_TK, first_BHTK * sin_TK + second_BHTK * cos_TK], dim=-1)


def _heads(shape: tuple[int, int, int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    return (torch.randn(shape, generator=generator),)


def _same_vector_everywhere() -> tuple[torch.Tensor]:
    return (torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(7)).repeat(1, 1, 9, 1),)


def _depends_on_distance(results: list[torch.Tensor]) -> bool:
    score_TT = results[0][0, 0] @ results[0][0, 0].T
    return close(score_TT[:-1, :-1], score_TT[1:, 1:], rtol=1e-4, atol=1e-4)


def _turned(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """The pairs (i, i + K/2) turned by angles of any shape that fits."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], dim=-1)


def _angles(x: torch.Tensor, begin: int = 0) -> torch.Tensor:
    T, K = x.shape[-2:]
    return torch.arange(begin, begin + T)[:, None] * 10_000.0 ** (-torch.arange(0, K, 2) / K)


def _neighbours_paired(x):
    turned = _turned(rearrange(x, "... (i two) -> ... (two i)", two=2), _angles(x))
    return rearrange(turned, "... (two i) -> ... (i two)", two=2)


def _half_frequencies(x):
    T, K = x.shape[-2:]
    return _turned(x, torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(K // 2) / K))


def _one_frequency(x):
    return _turned(x, torch.arange(x.shape[-2])[:, None] * torch.ones(x.shape[-1] // 2))


def _frequencies_upside_down(x):
    T, K = x.shape[-2:]
    return _turned(x, torch.arange(T)[:, None] * 10_000.0 ** (torch.arange(0, K, 2) / K))


def _by_head(x):
    H, K = x.shape[1], x.shape[-1]
    return _turned(x, torch.arange(H)[:, None, None] * 10_000.0 ** (-torch.arange(0, K, 2) / K))


def _one_sign(x):
    cos, sin = _angles(x).cos().repeat(1, 2), _angles(x).sin().repeat(1, 2)
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


def _with_itself(x):
    cos, sin = _angles(x).cos().repeat(1, 2), _angles(x).sin().repeat(1, 2)
    return x * cos + x * sin


def _whole_turns(x):
    return _turned(x, 2 * math.pi * _angles(x))


def _rotate_in_place(x):
    first, second = x.chunk(2, dim=-1)
    turned = _turned(x, _angles(x)).chunk(2, dim=-1)
    first.copy_(turned[0])
    second.copy_(turned[1])
    return torch.cat(turned, dim=-1)


def _half_in_place(x):
    first, second = x.clone().chunk(2, dim=-1)
    cos, sin = _angles(x).cos(), _angles(x).sin()
    first = first * cos - second * sin
    second = first * sin + second * cos
    return torch.cat([first, second], dim=-1)


def _by_complex_numbers(x):
    first, second = x.chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.exp(1j * _angles(x))
    return torch.cat([turned.real, turned.imag], dim=-1)


def _by_rolling(x):
    cos, sin = _angles(x).cos(), _angles(x).sin()
    return x * torch.cat([cos, cos], -1) + x.roll(x.shape[-1] // 2, dims=-1) * torch.cat([-sin, sin], -1)


ROTATE = Exercise(
    name="rotate",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        Turn a vector by an angle that grows with its position. The $K$ entries of a head make $K/2$ pairs: entry $i$
        goes with entry $i + K/2$. At position $t$ pair $i$ turns by $\theta = t \cdot 10000^{-2i/K}$,

        $$\begin{pmatrix} y_i \\ y_{i+K/2} \end{pmatrix} =
        \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{pmatrix}
        \begin{pmatrix} x_i \\ x_{i+K/2} \end{pmatrix}, \qquad i = 0, \dots, K/2 - 1.$$

        Positions count from 0 along the axis $T$.
        """,
    difficulty=4,
    importance=4,
    minutes=12,
    reference=rotate,
    cases=grid(_heads, shapes=((2, 3, 5, 8), (1, 4, 7, 12)), word="shape (B, H, T, K)"),
    ladder=ladder(
        Values(rtol=1e-4, atol=1e-5, because="angles of a few turns keep six of float32's seven digits"),
        Gradients(rtol=1e-4, atol=1e-5, because="they are turned by the same angles, the other way"),
        Property(
            promise="the score of two tokens depends on their distance alone",
            cases=(Case(label="one vector at all positions", make=_same_vector_everywhere),),
            holds=_depends_on_distance,
        ),
    ),
    hints=(
        """
        Make the angles first: `torch.arange(T)[:, None]` times K/2 frequencies gives the shape (T, K/2). Then cut x in
        two halves, `x_BHTK.chunk(2, dim=-1)`: entry i of the one is the partner of entry i of the other.
        """,
        r"""
        The frequencies are `10_000.0 ** (-torch.arange(0, K, 2) / K)`. With `cos` and `sin` of the angles the result is
        `torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)`.
        """,
    ),
    explanation=r"""
        A rotation keeps lengths, so position changes no token's size. Turning $q$ by $t\theta$ and $k$ by $s\theta$
        leaves in their product only the difference of the angles, $(t - s)\,\theta$: that is the promise which was
        checked. The first pair turns by one radian per token, the last hardly at all, and so different pairs measure
        near and far (Su et al., 2021).

        Which entries are paired is a convention. The paper pairs neighbours, GPT-NeoX and this course pair halves. The
        two differ by a permutation of the entries, the same for $q$ and $k$, which a trained model does not notice;
        mixing them up between training and use ruins it.
        """,
    bank=(
        WrongAnswer(
            answer=_neighbours_paired,
            misconception="neighbours paired",
            says=(
                "This is exactly the rotation with entries 2i and 2i + 1 as pairs, as in the paper. Here, as in "
                "GPT-NeoX, entry i goes with entry i + K/2."
            ),
        ),
        WrongAnswer(
            answer=lambda x: _turned(x, -_angles(x)),
            misconception="turned the other way",
            says=(
                "This is exactly the rotation by -θ. Scores would not notice if q and k both did it; but then it is "
                "another convention than the package's. The minus stands in the first row."
            ),
        ),
        WrongAnswer(
            answer=lambda x: _turned(x, _angles(x, begin=1)),
            misconception="positions from 1",
            says="This is exactly the rotation with positions counted from 1. The first token stays as it is: t = 0.",
        ),
        WrongAnswer(
            answer=_half_frequencies,
            misconception="factor 2 in the exponent",
            says=(
                "This is exactly what the frequencies 10000^(-i/K) give. The exponent is 2i/K: it goes nearly to 1 "
                "while i goes to K/2."
            ),
        ),
        WrongAnswer(
            answer=_one_frequency,
            misconception="one frequency for all pairs",
            says="This is exactly every pair turned by t radians. Pair i is slower by 10000^(2i/K).",
        ),
        WrongAnswer(
            answer=_frequencies_upside_down,
            misconception="frequencies upside down",
            says=(
                "This is exactly what 10000^(+2i/K) gives: the later pairs spin faster and faster. They are to be "
                "slower: the exponent is negative."
            ),
        ),
        WrongAnswer(
            answer=_by_head,
            misconception="turned by the number of the head",
            says="This is exactly x turned by its head's index, axis 1. The position is axis 2.",
        ),
        WrongAnswer(
            answer=_one_sign,
            misconception="both signs plus",
            says=(
                "This is exactly x cos θ + (the other of the pair) sin θ in both rows. In the first row the sine has a "
                "minus; without it it is no rotation."
            ),
        ),
        WrongAnswer(
            answer=_with_itself,
            misconception="pairs not exchanged",
            says=(
                "This is exactly x (cos θ + sin θ): each entry was multiplied with itself in both places. The sine "
                "belongs to the other entry of the pair."
            ),
        ),
        WrongAnswer(
            answer=_whole_turns,
            misconception="turns for radians",
            says="This is exactly the rotation by 2πθ. The angles are radians already.",
        ),
        WrongAnswer(
            answer=lambda x: x + torch.cat([_angles(x).cos(), _angles(x).sin()], dim=-1),
            misconception="positions added",
            says=(
                "This is exactly x plus cosines and sines of the position, as in the first transformer. Rotary "
                "positions multiply: they turn what is there."
            ),
        ),
        WrongAnswer(
            answer=_half_in_place,
            misconception="first half overwritten too early",
            says=(
                "This is exactly what comes out when the new first entry is used for the second. Both need the old "
                "ones: compute both before you assign."
            ),
        ),
        WrongAnswer(
            answer=_rotate_in_place,
            misconception="turns its input",
            says=(
                "The result is right, and the caller's tensor is turned as well: the halves of `chunk` are views of "
                "it. Compute into something new."
            ),
            fails="inputs kept",
        ),
    ),
    right=(_by_complex_numbers, _by_rolling),
)

# -- attention -----------------------------------------------------------------------------------------------------


def causal_attention(q_BHTK: torch.Tensor, k_BHTK: torch.Tensor, v_BHTK: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(K)) v, in which each position sees itself and those before it, and none after it."""
    T, K = q_BHTK.shape[-2:]
    score_BHTT = q_BHTK @ k_BHTK.mT / K**0.5
    future_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
    return score_BHTT.masked_fill(future_TT, -torch.inf).softmax(dim=-1) @ v_BHTK


def _queries_keys_values(shape: tuple[int, int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(shape, generator=generator) for _ in range(3))


def _another_last_token(seed: int) -> Case:
    def make() -> tuple[torch.Tensor, ...]:
        tensors = _queries_keys_values((1, 2, 5, 4), torch.Generator().manual_seed(8))
        for tensor, other in zip(
            tensors, _queries_keys_values((1, 2, 1, 4), torch.Generator().manual_seed(seed)), strict=True
        ):
            tensor[..., -1:, :] = other
        return tensors

    return Case(label=f"last token {seed}", make=make)


def _scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.mT / q.shape[-1] ** 0.5


def _future(q: torch.Tensor, begin: int = 1) -> torch.Tensor:
    return torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(begin)


def _masked(score: torch.Tensor, mask: torch.Tensor, dim: int = -1) -> torch.Tensor:
    return score.masked_fill(mask, -torch.inf).softmax(dim)


def _scales_in_place(q, k, v):
    return _masked(q.div_(q.shape[-1] ** 0.5) @ k.mT, _future(q)) @ v


def _renormalised(q, k, v):
    weight = _scores(q, k).exp().tril()
    return weight / weight.sum(-1, keepdim=True) @ v


CAUSAL_ATTENTION = Exercise(
    name="causal_attention",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        Each position $t$ asks with its query $q_t$; each position $s$ answers with its key $k_s$. The scores become
        weights, and what comes out is the weighted mean of the values,

        $$y_t = \sum_{s \le t} w_{ts}\, v_s, \qquad
        w_{ts} = \frac{\exp(q_t \cdot k_s / \sqrt K)}{\sum_{r \le t} \exp(q_t \cdot k_r / \sqrt K)}.$$

        The sums end at $t$: nobody reads ahead. Write it for a batch and $H$ heads side by side, without
        `scaled_dot_product_attention`.
        """,
    difficulty=3,
    importance=5,
    minutes=10,
    reference=causal_attention,
    cases=grid(_queries_keys_values, shapes=((2, 3, 5, 4), (1, 2, 8, 6)), word="shape (B, H, T, K)"),
    ladder=ladder(
        Values(rtol=1e-4, atol=1e-5, because="a softmax in float32 keeps six digits in whatever order it is summed"),
        Gradients(rtol=1e-4, atol=1e-5, because="they pass through the same softmax as the values"),
        Property(
            promise="what stands at the last position changes nothing before it",
            cases=(_another_last_token(1), _another_last_token(2)),
            holds=lambda results: close(results[0][..., :-1, :], results[1][..., :-1, :], rtol=1e-5, atol=1e-6),
        ),
    ),
    hints=(
        """
        Four steps: scores (B, H, T, T) by one matrix product, divided by the root of K; the future masked; a softmax
        over the positions that are *looked at*, the last axis; one more matrix product, with the values.
        """,
        """
        `k_BHTK.mT` swaps the last two axes. `torch.ones(T, T, dtype=torch.bool).triu(1)` is True where the column lies
        after the row; `masked_fill(..., -torch.inf)` there makes the softmax give exactly 0.
        """,
    ),
    explanation=r"""
        $e^{-\infty} = 0$: a score of minus infinity takes no part in the sum, and the remaining weights add up to 1.
        Masking *after* the softmax would leave rows that do not. The division by $\sqrt K$ keeps the scores of random
        vectors at a standard deviation of 1; without it the softmax saturates as heads get wider (Vaswani et al.,
        2017).
        """,
    bank=(
        WrongAnswer(
            answer=lambda q, k, v: _scores(q, k).softmax(-1) @ v,
            misconception="no mask",
            says="This is exactly attention to all positions, the future included. Position t may look at s ≤ t only.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _scores(q, k).softmax(-1).tril() @ v,
            misconception="masked after the softmax",
            says=(
                "This is exactly the softmax over all positions with the future set to 0 afterwards: the weights of a "
                "row no longer add up to 1. Mask the scores, with minus infinity."
            ),
        ),
        WrongAnswer(
            answer=lambda q, k, v: _scores(q, k).masked_fill(_future(q), 0).softmax(-1) @ v,
            misconception="masked with zero",
            says=(
                "This is exactly what a score of 0 in the future gives; and exp(0) = 1 is a good weight. A score of "
                "minus infinity gives none."
            ),
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(_scores(q, k), _future(q).mT) @ v,
            misconception="the past masked",
            says="This is exactly attention to the present and the future. `triu(1)` is what has to be masked.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(_scores(q, k), _future(q, begin=0)) @ v,
            misconception="a position cannot see itself",
            says=(
                "This is exactly attention to s < t. The first position then sees nothing and becomes NaN; a position "
                "may see itself: `triu(1)`, not `triu(0)`."
            ),
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(q @ k.mT, _future(q)) @ v,
            misconception="no scale",
            says="This is exactly attention without the division by √K.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(q @ k.mT / q.shape[-1], _future(q)) @ v,
            misconception="divided by K",
            says="This is exactly what a division by K gives. The standard deviation of q · k grows with √K.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(q @ k.mT / q.shape[-2] ** 0.5, _future(q)) @ v,
            misconception="divided by the root of T",
            says="This is exactly what a division by √T gives. K is the last axis, the width of a head.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(q @ k.mT, _future(q)) / q.shape[-1] ** 0.5 @ v,
            misconception="scaled after the softmax",
            says="This is exactly the weights divided by √K. The scores are divided, before the softmax.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(_scores(q, k), _future(q), dim=-2) @ v,
            misconception="softmax over the wrong axis",
            says=(
                "This is exactly a softmax over the positions that look, `dim=-2`. Each of them shares out its own "
                "weight among those it looks at: `dim=-1`."
            ),
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(_scores(k, q), _future(q)) @ v,
            misconception="queries and keys exchanged",
            says="This is exactly k qᵀ: the keys ask and the queries answer. Rows belong to queries: q kᵀ.",
        ),
        WrongAnswer(
            answer=lambda q, k, v: _masked(_scores(q, k), _future(q)),
            misconception="weights without values",
            says="These are exactly the weights. They are still to be multiplied with the values.",
            fails="shape",
        ),
        WrongAnswer(
            answer=_scales_in_place,
            misconception="scales the queries in place",
            says="The caller's queries are divided by √K now, as `div_` or `/=` leave them.",
            fails="inputs kept",
        ),
    ),
    right=(
        _renormalised,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: (_scores(q, k) + torch.full(_future(q).shape, -torch.inf).triu(1)).softmax(-1) @ v,
    ),
)

# -- the gated feed-forward ----------------------------------------------------------------------------------------


def swiglu(x_BTD: torch.Tensor, gate_FD: torch.Tensor, up_FD: torch.Tensor, down_DF: torch.Tensor) -> torch.Tensor:
    """The gated feed-forward, down (silu(gate x) * (up x)), with matrices of shape (out, in) as in torch.nn.Linear."""
    gate_BTF, up_BTF = x_BTD @ gate_FD.T, x_BTD @ up_FD.T
    return (F.silu(gate_BTF) * up_BTF) @ down_DF.T


def _gated(shape: tuple[int, int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    B, T, D, W = shape
    draw = [torch.randn(size, generator=generator) for size in ((B, T, D), (W, D), (W, D), (D, W))]
    return draw[0], 2 * draw[1] / D**0.5, draw[2] / D**0.5, draw[3] / W**0.5


def _gate_first(x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x @ gate.T, x @ up.T


def _glu(combine):
    """An answer that combines the two branches in its own way."""

    def answer(x_BTD, gate_FD, up_FD, down_DF):
        return combine(*_gate_first(x_BTD, gate_FD, up_FD)) @ down_DF.T

    return answer


def _stacked(x, gate, up, down):
    g, u = F.linear(x, torch.cat([gate, up])).chunk(2, dim=-1)
    return F.linear(g * torch.sigmoid(g) * u, down)


SWIGLU = Exercise(
    name="swiglu",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        The feed-forward that most language models use today has a third matrix. One branch, the gate, goes through
        SiLU; the other, up, goes through nothing; their product goes through down,

        $$y = W_\text{down} \bigl( \mathrm{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x \bigr).$$

        $\odot$ multiplies entry by entry. Matrices have the shape (out, in), as in `torch.nn.Linear`.
        """,
    difficulty=2,
    importance=4,
    minutes=6,
    reference=swiglu,
    imports="import torch\nimport torch.nn.functional as F",
    cases=grid(_gated, shapes=((2, 3, 5, 7), (1, 4, 6, 9)), word="shape (B, T, D, F)"),
    ladder=ladder(
        Values(rtol=1e-4, atol=1e-5, because="three float32 products in any order agree to about six digits"),
        Gradients(rtol=1e-4, atol=2e-5, because="they are sums over all tokens of such products"),
    ),
    hints=(
        """
        A matrix of shape (out, in) acts on the last axis of x as `x @ W.T`. Make the two branches first and look at
        their shapes: both are (B, T, F).
        """,
        "`F.silu(x_BTD @ gate_FD.T)` is the gate. Multiply it with `x_BTD @ up_FD.T`, then apply `down_DF` likewise.",
    ),
    explanation="""
        Where the gate is strongly negative the unit is shut, where it is positive the unit passes up times the gate: a
        product of two projections. Shazeer (2020) tried several functions in the gate's place and found all of them
        better than none, without a theory ("divine benevolence"). PolyNorm and PolyReLU get their products from powers
        of *one* projection and save the matrix.
        """,
    bank=(
        WrongAnswer(
            answer=_glu(lambda gate, up: gate * F.silu(up)),
            misconception="SiLU on the other branch",
            says="This is exactly gate · silu(up). SiLU acts on the gate; up stays linear.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: F.silu(gate * up)),
            misconception="SiLU of the product",
            says="This is exactly silu(gate · up). SiLU comes before the product, on the gate alone.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: F.silu(gate) * F.silu(up)),
            misconception="SiLU on both branches",
            says="This is exactly silu(gate) · silu(up). The branch called up goes through no function.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: F.silu(gate) + up),
            misconception="sum of the branches",
            says="This is exactly the sum of the branches. A gate multiplies.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: torch.sigmoid(gate) * up),
            misconception="sigmoid for SiLU",
            says="This is exactly sigmoid(gate) · up, the first gated unit (GLU). SiLU is x · sigmoid(x).",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: F.gelu(gate) * up),
            misconception="GELU for SiLU",
            says="This is exactly gelu(gate) · up, which is called GeGLU.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: gate * up),
            misconception="no activation",
            says="This is exactly gate · up, a product of two linear maps. The gate goes through SiLU first.",
        ),
        WrongAnswer(
            answer=_glu(lambda gate, up: F.silu(up)),
            misconception="no gate",
            says="This is exactly down(silu(up x)), the feed-forward without a gate.",
        ),
        WrongAnswer(
            answer=lambda x, gate, up, down: swiglu(F.silu(x), gate, up, down),
            misconception="SiLU before the matrices too",
            says="This is exactly what comes out when x goes through SiLU first. Only the gate's output does.",
        ),
        WrongAnswer(
            answer=lambda x, gate, up, down: F.silu(x @ gate.T) * (x @ up.T),
            misconception="down left out",
            says="This is exactly the hidden row, before down. The stream is D wide, not F.",
            fails="shape",
        ),
    ),
    right=(_stacked, lambda x, gate, up, down: F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)),
)

GATED_WIDTH = Exercise(
    name="gated_width",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        In PolyCom's dense experiments the stream is $D = 2048$ wide, and a feed-forward *without* a gate has two
        matrices between 2048 and 8256. How wide is a gated one, which has **three** matrices, with the same number of
        parameters?
        """,
    difficulty=1,
    importance=4,
    minutes=3,
    reference=5504,
    ladder=value_ladder(Values(rtol=1e-3, atol=0.0, because="the width comes out as a whole number")),
    solution="gated_width = 8256 * 2 // 3",
    imports="",
    hints=(
        "Count the entries on both sides: two matrices of 2048 × 8256, three of 2048 × G. What is G?",
        "The 2048 drops out: $2 \\cdot 8256 = 3\\, G$.",
    ),
    explanation="""
        2 · 2048 · 8256 = 3 · 2048 · 5504. So a gate costs a third of the width. The authors went the other
        way, 5504 · 3 / 2 = 8256, and so the counts are exactly equal. The course starts from 4 D, rounds two thirds of
        it to a multiple of 8, and then the counts differ a little.
        """,
    bank=(
        WrongAnswer(
            answer=8256,
            misconception="the same width",
            says="At the same width the gated one has three matrices where the other has two: half as many again.",
        ),
        WrongAnswer(
            answer=4128,
            misconception="half the width",
            says="4128 is half. Three matrices instead of two are half as many again, not twice as many.",
        ),
        WrongAnswer(
            answer=2752,
            misconception="a third of the width",
            says="2752 is what is given up: a third of the width. What is left?",
        ),
        WrongAnswer(
            answer=12384,
            misconception="the ratio upside down",
            says="12384 is 3/2 of 8256. More matrices must be narrower, not wider.",
        ),
        WrongAnswer(
            answer=8192 * 2 / 3,
            misconception="four times D instead of 8256",
            says="5461.3 is two thirds of 4 · 2048 = 8192. Here the width without a gate is 8256, not 8192.",
        ),
    ),
    right=(torch.tensor(5504), 8256 * 2 / 3),
)

# -- the block -----------------------------------------------------------------------------------------------------


def transformer_block(
    x_BTD: torch.Tensor, attention: tuple[torch.Tensor, ...], feed_forward: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """x + attention(norm(x)), then x + feed_forward(norm(x)), with PolyNorm as activation.

    attention = (norm_D, qkv_3HKD, out_DHK): the norm's weight, the three projections of all heads, and the one back.
    feed_forward = (norm_D, up_FD, weight_P, bias, down_DF); weight_P and bias are PolyNorm's coefficients.
    """
    norm_D, qkv_3HKD, out_DHK = attention
    q, k, v = einsum(rmsnorm(x_BTD, norm_D), qkv_3HKD, "B T D, three H K D -> three B H T K")
    mixed_BHTK = causal_attention(rotate(q), rotate(k), v)
    x_BTD = x_BTD + einsum(mixed_BHTK, out_DHK, "B H T K, D H K -> B T D")

    norm_D, up_FD, weight_P, bias, down_DF = feed_forward
    hidden_BTF = polynorm(rmsnorm(x_BTD, norm_D) @ up_FD.T, weight_P, bias)
    return x_BTD + hidden_BTF @ down_DF.T


def _block_inputs(shape: tuple[int, int, int, int], generator: torch.Generator) -> tuple:
    B, T, H, K = shape
    D, W = H * K, 3 * H * K

    def draw(*size: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(size, generator=generator)

    attention = (1 + draw(D, scale=0.3), draw(3, H, K, D, scale=D**-0.5), draw(D, H, K, scale=D**-0.5))
    coefficients = (1 / 3 + draw(3, scale=0.1), draw(1, scale=0.1))
    feed_forward = (1 + draw(D, scale=0.3), draw(W, D, scale=D**-0.5), *coefficients, draw(D, W, scale=W**-0.5))
    return 0.7 * draw(B, T, D), attention, feed_forward


def _writing_nothing() -> tuple:
    """A block whose two matrices back to the stream are zero."""
    x, attention, feed_forward = _block_inputs((1, 4, 2, 4), torch.Generator().manual_seed(9))
    return x, (*attention[:-1], 0 * attention[-1]), (*feed_forward[:-1], 0 * feed_forward[-1])


def _attend(h: torch.Tensor, attention: tuple, turn=(rotate, rotate, lambda v: v), mix=causal_attention):
    """The attention of a block on h, normed or not, without the residual."""
    _, qkv, out = attention
    projected = einsum(h, qkv, "B T D, three H K D -> three B H T K")
    mixed = mix(*(one(tensor) for one, tensor in zip(turn, projected, strict=True)))
    return einsum(mixed, out, "B H T K, D H K -> B T D")


def _think(h: torch.Tensor, feed_forward: tuple) -> torch.Tensor:
    """The feed-forward of a block on h, normed or not, without the residual."""
    _, up, weight, bias, down = feed_forward
    return polynorm(h @ up.T, weight, bias) @ down.T


def _wired(wiring):
    """An answer that wires the sub-layers in its own way: wiring(x, a, f, attention, feed_forward).

    a(h) and f(h) are the sub-layers with their norm.
    """

    def answer(x_BTD, attention, feed_forward):
        def a(h):
            return _attend(rmsnorm(h, attention[0]), attention)

        def f(h):
            return _think(rmsnorm(h, feed_forward[0]), feed_forward)

        return wiring(x_BTD, a, f, attention, feed_forward)

    return answer


def _attention_with(turn=(rotate, rotate, lambda v: v), mix=causal_attention):
    """The right block, but for what is turned or how it is mixed."""

    def wiring(x, a, f, attention, feed_forward):
        x = x + _attend(rmsnorm(x, attention[0]), attention, turn, mix)
        return x + f(x)

    return _wired(wiring)


def _in_sequence(x, a, f, attention, feed_forward):
    x = x + a(x)
    return x + f(x)


def _residual_of_the_norm(x, a, f, attention, feed_forward):
    x = rmsnorm(x, attention[0]) + a(x)
    return x + f(x)


def _post_norm(x, a, f, attention, feed_forward):
    x = rmsnorm(x + _attend(x, attention), attention[0])
    return rmsnorm(x + _think(x, feed_forward), feed_forward[0])


def _feed_forward_without_norm(x, a, f, attention, feed_forward):
    x = x + a(x)
    return x + _think(x, feed_forward)


def _attention_without_norm(x, a, f, attention, feed_forward):
    x = x + _attend(x, attention)
    return x + f(x)


def _norms_exchanged(x, a, f, attention, feed_forward):
    x = x + _attend(rmsnorm(x, feed_forward[0]), attention)
    return x + _think(rmsnorm(x, attention[0]), feed_forward)


def _feed_forward_first(x, a, f, attention, feed_forward):
    x = x + f(x)
    return x + a(x)


def _adding_in_place(x, a, f, attention, feed_forward):
    x += a(x)
    return x + f(x)


def _nothing(tensor):
    return tensor


def _sub_layer_by_sub_layer(x_BTD, attention, feed_forward):
    q, k, v = (torch.einsum("btd,hkd->bhtk", rmsnorm(x_BTD, attention[0]), one) for one in attention[1])
    mixed = F.scaled_dot_product_attention(_by_rolling(q), _by_rolling(k), v, is_causal=True)
    x_BTD = x_BTD + rearrange(mixed, "b h t k -> b t (h k)") @ attention[2].flatten(1).T
    return x_BTD + _think(F.rms_norm(x_BTD, x_BTD.shape[-1:], feed_forward[0], eps=1e-6), feed_forward)


TRANSFORMER_BLOCK = Exercise(
    name="transformer_block",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        Put the pieces together. The stream $x$ is read twice through a norm, and twice something is added to it,

        $$x \leftarrow x + \mathrm{attention}(\mathrm{rmsnorm}(x)), \qquad
        x \leftarrow x + \mathrm{feed\_forward}(\mathrm{rmsnorm}(x)).$$

        Attention projects to $q, k, v$ for all heads, turns $q$ and $k$ (not $v$), mixes, and projects back. The
        feed-forward has no gate here and PolyNorm as its activation. All weights come in two tuples, in the order in
        which they are needed. `rmsnorm`, `rotate` and `causal_attention` are the course's own versions of what you have
        just written.
        """,
    difficulty=3,
    importance=5,
    minutes=12,
    reference=transformer_block,
    imports="""\
import torch
from einops import einsum

from minipolycom import polynorm
from minipolycom.learn import reference

rmsnorm, rotate, causal_attention = map(reference, ("rmsnorm", "rotate", "causal_attention"))""",
    cases=grid(_block_inputs, shapes=((2, 3, 2, 4), (1, 5, 3, 2)), word="shape (B, T, H, K)"),
    ladder=ladder(
        Values(rtol=1e-4, atol=2e-5, because="a dozen float32 operations in a row agree to about five digits"),
        Gradients(rtol=1e-3, atol=5e-4, because="the slope of a norm divides by its row, which costs another digit"),
        Property(
            promise="with both projections back at zero the stream passes through unchanged",
            cases=(Case(label="out_DHK = 0 and down_DF = 0", make=_writing_nothing),),
            holds=lambda results: close(_writing_nothing()[0], results[0], rtol=1e-6, atol=1e-6),
        ),
    ),
    hints=(
        """
        Two assignments, `x_BTD = x_BTD + ...`, one per sub-layer. The second one reads the stream *after* the first has
        added to it.
        """,
        """
        `q, k, v = einsum(rmsnorm(x_BTD, norm_D), qkv_3HKD, "B T D, three H K D -> three B H T K")` projects; then
        `causal_attention(rotate(q), rotate(k), v)`; back with `"B H T K, D H K -> B T D"`. The feed-forward is
        `polynorm(... @ up_FD.T, weight_P, bias) @ down_DF.T`.
        """,
    ),
    explanation="""
        The stream itself goes through nothing: no norm, no activation. What the sub-layers read is normed, what they
        write is added. So the gradient has a path from the last layer to the first that no weight can block, and the
        activation sees rows of one size however large the stream has grown. The first transformers normed *after*
        adding; that needs a careful warm-up to train at all (Xiong et al., 2020).
        """,
    bank=(
        WrongAnswer(
            answer=_wired(lambda x, a, f, attention, feed_forward: f(x + a(x))),
            misconception="no residual around the feed-forward",
            says="This is exactly what the feed-forward gives. It is to be added to the stream that it read.",
        ),
        WrongAnswer(
            answer=_wired(lambda x, a, f, attention, feed_forward: a(x) + f(a(x))),
            misconception="no residual around attention",
            says="This is exactly the block whose attention replaces the stream. It is to be added to x.",
        ),
        WrongAnswer(
            answer=_wired(lambda x, a, f, attention, feed_forward: x + a(x) + f(x)),
            misconception="both sub-layers read the same stream",
            says=(
                "This is exactly x + attention(norm(x)) + feed_forward(norm(x)): both side by side, as in GPT-J. Here "
                "the feed-forward reads what attention has added."
            ),
        ),
        WrongAnswer(
            answer=_wired(lambda x, a, f, attention, feed_forward: x + f(x + a(x))),
            misconception="attention not kept in the stream",
            says=(
                "This is exactly x + feed_forward(norm(x + attention)): the feed-forward has read the attention, and "
                "the stream has forgotten it. Assign to x after the first sub-layer."
            ),
        ),
        WrongAnswer(
            answer=_wired(_residual_of_the_norm),
            misconception="residual of the normed stream",
            says="This is exactly norm(x) + attention(norm(x)). The stream itself is what is added to, unnormed.",
        ),
        WrongAnswer(
            answer=_wired(_post_norm),
            misconception="norms after the addition",
            says="This is exactly norm(x + sub-layer(x)), the order of 2017. Here the norm comes before a sub-layer.",
        ),
        WrongAnswer(
            answer=_wired(_feed_forward_without_norm),
            misconception="no norm before the feed-forward",
            says="This is exactly the block without the norm before the feed-forward. Section 8 takes it out, too.",
        ),
        WrongAnswer(
            answer=_wired(_attention_without_norm),
            misconception="no norm before attention",
            says="This is exactly the block without the norm in front of attention.",
        ),
        WrongAnswer(
            answer=_wired(_norms_exchanged),
            misconception="norms exchanged",
            says="This is exactly the block with the weights of its two norms exchanged. Each tuple brings its own.",
        ),
        WrongAnswer(
            answer=_wired(_feed_forward_first),
            misconception="feed-forward first",
            says="This is exactly the block with the feed-forward in front of attention.",
        ),
        WrongAnswer(
            answer=_attention_with(turn=(_nothing,) * 3),
            misconception="nothing turned",
            says="This is exactly the block without positions. `rotate(q)` and `rotate(k)` go into attention.",
        ),
        WrongAnswer(
            answer=_attention_with(turn=(rotate,) * 3),
            misconception="values turned too",
            says="This is exactly what turning q, k and v gives. Positions decide who is looked at, not what is read.",
        ),
        WrongAnswer(
            answer=_attention_with(turn=(rotate, _nothing, _nothing)),
            misconception="only the queries turned",
            says=(
                "This is exactly what turning q alone gives: the angle is then that of the position, not of the "
                "distance. Turn k as well."
            ),
        ),
        WrongAnswer(
            answer=_attention_with(mix=F.scaled_dot_product_attention),
            misconception="attention without a mask",
            says="This is exactly the block whose attention reads ahead. Use `causal_attention`.",
        ),
        WrongAnswer(
            answer=_wired(_adding_in_place),
            misconception="adds in place",
            says="The caller's stream has the attention in it now, as `+=` leaves it. Write `x_BTD = x_BTD + ...`.",
            fails="inputs kept",
        ),
    ),
    right=(_wired(_in_sequence), _sub_layer_by_sub_layer),
)


# -- the scale of what arrives -------------------------------------------------------------------------------------

PREACTIVATION_STD = Exercise(
    name="preactivation_std",
    notebook="04_transformer_piece_by_piece",
    statement=r"""
        At initialisation the norm hands the feed-forward rows of $D$ entries with a root mean square of 1. Every weight
        of the matrix `up` is drawn from a normal distribution of mean 0 and **variance** $\frac{2}{5 D}$.

        What is the standard deviation of a pre-activation $z = \sum_{d} w_d\, x_d$, which is what goes into the
        activation? Three digits, or a formula. (Why doesn't $D$ appear in your answer?)
        """,
    difficulty=2,
    importance=5,
    minutes=5,
    reference=math.sqrt(2 / 5),
    ladder=value_ladder(Values(rtol=3.5e-3, atol=0.0, because="three digits are asked for")),
    solution="preactivation_std = (2 / 5) ** 0.5",
    imports="",
    hints=(
        "Variances of independent terms add up. What is the variance of one term, $w_d\\, x_d$, if $x_d$ is given?",
        "It is $x_d^2 \\cdot \\frac{2}{5D}$. Sum over $d$, and use that the mean of $x_d^2$ is 1: $\\sum_d x_d^2 = D$.",
    ),
    explanation=r"""
        $\mathrm{Var}(z) = \sum_d x_d^2 \cdot \frac{2}{5D} = D \cdot \frac{2}{5D} = \frac25$, so the standard deviation
        is $\sqrt{2/5} = 0.632$. The $D$ terms and the $1/D$ in the variance cancel: that is what the $1/D$ is for. The
        authors' dense models have it too: their code says 0.013975 for the standard deviation, and $0.013975 \cdot
        \sqrt{2048} = 0.632$. In their mixture of experts it says 0.02, and the inputs start at 0.905.
        """,
    bank=(
        WrongAnswer(
            answer=0.4,
            misconception="variance for standard deviation",
            says="0.4 is the variance. The standard deviation is its root.",
        ),
        WrongAnswer(
            answer=1.0,
            misconception="what goes in",
            says="1 is the root mean square of what the matrix reads. The weights make it smaller.",
        ),
        WrongAnswer(
            answer=math.sqrt(2 / (5 * 128)),
            misconception="one weight instead of the sum",
            says="0.0559 is the standard deviation of one weight at D = 128. A pre-activation is a sum over D of them.",
        ),
        WrongAnswer(
            answer=math.sqrt(1 / 5),
            misconception="half of it cut off",
            says="0.447 is the root mean square after a ReLU, which keeps half of the power. Asked for is before.",
        ),
        WrongAnswer(
            answer=0.4 * math.sqrt(128),
            misconception="root of D too many",
            says="4.53 grows with √D. D terms of variance 2/(5D) each have a sum whose variance knows no D.",
        ),
    ),
    right=(torch.tensor(0.4).sqrt(), 0.632),
)

EXERCISES = (RMSNORM, ROTATE, CAUSAL_ATTENTION, SWIGLU, GATED_WIDTH, TRANSFORMER_BLOCK, PREACTIVATION_STD)
