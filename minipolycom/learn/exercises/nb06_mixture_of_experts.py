"""Exercises of 06_mixture_of_experts: router, dispatch, capacity, the two losses of a router, what a choice tells."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minipolycom.learn.checks import Gradients, Property, Values, close, ladder
from minipolycom.learn.exercise import Case, Exercise, WrongAnswer, grid

# -- the router ----------------------------------------------------------------------------------------------------


def route(logits_NE: torch.Tensor, k: int) -> torch.Tensor:
    """What each expert's answer counts for each token: the softmax over the token's k largest logits, 0 elsewhere.

    logits_NE: one row for each token, one column for each expert, shape (N, E). Returns shape (N, E).
    """
    largest_NK, chosen_NK = logits_NE.topk(k, dim=-1)
    return torch.zeros_like(logits_NE).scatter(-1, chosen_NK, largest_NK.softmax(-1))


def _logits(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, int]:
    n, experts, k = shape
    return 1.5 * torch.randn(n, experts, generator=generator), k


def _far_below_zero() -> tuple[torch.Tensor, int]:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(2)) - 200.0, 2


def _chosen(logits: torch.Tensor, k: int, dim: int = -1, largest: bool = True) -> torch.Tensor:
    """True where an expert is chosen."""
    places = logits.topk(k, dim=dim, largest=largest).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter(dim, places, True)


def _softmax_of(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return logits.masked_fill(~chosen, -torch.inf).softmax(-1)


def _before_choosing(logits, k):
    return logits.softmax(-1) * _chosen(logits, k)


def _everybody(logits, k):
    return logits.softmax(-1)


def _best_alone(logits, k):
    return _chosen(logits, 1).to(logits.dtype)


def _equal_shares(logits, k):
    return _chosen(logits, k).to(logits.dtype) / k


def _smallest(logits, k):
    return _softmax_of(logits, _chosen(logits, k, largest=False))


def _masked_by_zero(logits, k):
    return (logits * _chosen(logits, k)).softmax(-1)


def _experts_choose(logits, k):
    chosen = _chosen(logits, min(k, len(logits)), dim=0)
    return logits.masked_fill(~chosen, -torch.inf).softmax(0)


def _over_tokens(logits, k):
    return logits.masked_fill(~_chosen(logits, k), -torch.inf).softmax(0).nan_to_num(0.0)


def _shares_of_logits(logits, k):
    kept = logits * _chosen(logits, k)
    return kept / kept.sum(-1, keepdim=True)


def _naive_exponentials(logits, k):
    kept = logits.exp() * _chosen(logits, k)
    return kept / kept.sum(-1, keepdim=True)


def _weights_cut_off(logits, k):
    return route(logits.detach(), k) + 0 * logits


def _by_threshold(logits, k):
    least = logits.sort(dim=-1, descending=True).values[..., k - 1 : k]
    return _softmax_of(logits, logits >= least)


def _renormalised(logits, k):
    kept = logits.softmax(-1) * _chosen(logits, k)
    return kept / kept.sum(-1, keepdim=True)


ROUTE = Exercise(
    name="route",
    notebook="06_mixture_of_experts",
    statement=r"""
        Write the router's decision. A matrix has given each token a **logit** for each expert. The $k$ largest choose,
        and their softmax says how much each chosen expert counts:

        $$w_{ne} = \frac{e^{\ell_{ne}}}{\sum_{e' \in \text{top-}k} e^{\ell_{ne'}}}\ \text{ for the chosen},
        \qquad w_{ne} = 0\ \text{ for the others.}$$

        Each row has $k$ numbers that are not zero, and they add up to 1.
        """,
    difficulty=2,
    importance=5,
    minutes=8,
    reference=route,
    cases=(
        *grid(_logits, shapes=((5, 4, 2), (7, 6, 3)), word="N, E, k ="),
        Case(label="logits near -200", make=_far_below_zero),
    ),
    ladder=ladder(
        Values(rtol=1e-5, atol=1e-6, because="float32 carries seven digits"),
        Gradients(rtol=1e-4, atol=1e-5, because="float32, through one softmax"),
    ),
    hints=(
        "`logits.topk(k, dim=-1)` gives the k largest values and where they stand. The softmax is over these values.",
        """
        `torch.zeros_like(logits).scatter(-1, places, values)` puts values in their places, and leaves zeros elsewhere.
        Or set the others to minus infinity (`masked_fill`) before a softmax over the whole row.
        """,
    ),
    explanation=r"""
        The choice itself has no slope: move a logit a little and the same experts are chosen. All that the router
        learns from the loss it learns through the weights of those it *did* choose. An expert that is not chosen hears
        nothing and says nothing, which will matter in section 4. (Switch Transformer and OLMoE take the softmax over
        *all* experts, before choosing, so that their weights add up to less than 1. The package does as Mixtral does.)
        """,
    bank=(
        WrongAnswer(
            answer=_before_choosing,
            misconception="softmax before choosing",
            says=(
                "This is exactly the softmax over all experts with the others set to zero, as in Switch Transformer: "
                "rows add up to less than 1. Here the softmax is over the chosen ones."
            ),
        ),
        WrongAnswer(
            answer=_everybody,
            misconception="nobody left out",
            says="This is exactly the softmax over all experts. Only the k largest logits take part.",
        ),
        WrongAnswer(
            answer=_best_alone,
            misconception="the best alone",
            says="This is exactly 1 for the largest logit and 0 for the rest. k experts are chosen, by weight.",
        ),
        WrongAnswer(
            answer=_equal_shares,
            misconception="equal shares",
            says=(
                "This is exactly 1/k for each chosen expert. The logits say how much each counts, and without them the "
                "router gets no gradient at all."
            ),
        ),
        WrongAnswer(
            answer=_smallest,
            misconception="the smallest logits",
            says="This is exactly what the k smallest logits give.",
        ),
        WrongAnswer(
            answer=_masked_by_zero,
            misconception="zero for minus infinity",
            says=(
                "This is exactly the softmax of logits of which the others were set to 0. e⁰ is 1, and not nothing: "
                "set them to minus infinity."
            ),
        ),
        WrongAnswer(
            answer=_experts_choose,
            misconception="experts choose tokens",
            says=(
                "This is exactly what comes out when each expert chooses its k tokens, along dim 0. (That exists, as "
                "expert choice.) Here each token chooses its experts, along dim -1."
            ),
        ),
        WrongAnswer(
            answer=_over_tokens,
            misconception="softmax over tokens",
            says="The right experts, and exactly the softmax over tokens. Each token's weights add up to 1: dim=-1.",
        ),
        WrongAnswer(
            answer=_shares_of_logits,
            misconception="shares of logits",
            says="This is exactly each chosen logit divided by their sum. A logit may be negative; take the softmax.",
        ),
        WrongAnswer(
            answer=_naive_exponentials,
            misconception="exponentials of large numbers",
            says=(
                "This is exactly exp divided by the sum of exp. At logits near -200 all of them are 0 in float32, and "
                "0/0 is NaN. `softmax` takes the largest off first."
            ),
        ),
        WrongAnswer(
            answer=lambda logits, k: logits.topk(k, dim=-1).values.softmax(-1),
            misconception="k columns",
            says="These are exactly the weights of the chosen, side by side. Each belongs in its expert's column.",
            fails="shape",
        ),
        WrongAnswer(
            answer=_weights_cut_off,
            misconception="weights cut off from the graph",
            says=(
                "These are the right weights with no gradient: the router would never learn. `.detach()` or "
                "`torch.no_grad()` does that."
            ),
            fails="gradients",
        ),
    ),
    right=(_by_threshold, lambda logits, k: _softmax_of(logits, _chosen(logits, k))),
)

# -- dispatch ------------------------------------------------------------------------------------------------------


def mixture(
    x_ND: torch.Tensor,
    weight_NE: torch.Tensor,
    up_EFD: torch.Tensor,
    down_EDF: torch.Tensor,
    activation: Callable,
) -> torch.Tensor:
    """Each token through the experts whose weight is above 0, and only these: sum_e w_ne down_e activation(up_e x_n).

    x_ND: tokens, shape (N, D). weight_NE: as `route` returns it, shape (N, E). up_EFD, down_EDF: the two matrices of
    each expert. Returns shape (N, D).
    """
    y_ND = torch.zeros_like(x_ND)
    for weight_N, up_FD, down_DF in zip(weight_NE.T, up_EFD, down_EDF, strict=True):
        mine = weight_N.nonzero()[:, 0]  # the tokens of this expert
        out_MD = activation(x_ND[mine] @ up_FD.T) @ down_DF.T
        y_ND = y_ND.index_add(0, mine, weight_N[mine, None] * out_MD)
    return y_ND


def _tokens_and_experts(shape: tuple[int, int, int, int], generator: torch.Generator) -> tuple:
    n, d, experts, width = shape
    x, logits = torch.randn(n, d, generator=generator), torch.randn(n, experts, generator=generator)
    up = torch.randn(experts, width, d, generator=generator)
    down = torch.randn(experts, d, width, generator=generator) / width**0.5
    return x, route(logits, 2), up, down, F.gelu


def _roots() -> tuple:
    """Two experts whose activation takes roots: of the wrong tokens they are roots of negative numbers."""
    generator = torch.Generator().manual_seed(4)
    sign_N = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    x = sign_N[:, None] * (0.5 + torch.rand(5, 3, generator=generator))
    up = torch.tensor([1.0, -1.0])[:, None, None] * (0.5 + torch.rand(2, 4, 3, generator=generator))
    down = torch.randn(2, 3, 4, generator=generator)
    return x, torch.stack([(sign_N > 0).float(), (sign_N < 0).float()], dim=1), up, down, torch.sqrt


def _all_through_all(x, up, down, activation):
    """What every expert makes of every token, shape (E, N, D)."""
    return torch.stack([activation(x @ u.T) @ d.T for u, d in zip(up, down, strict=True)])


def _everything_computed(x, weight, up, down, activation):
    return (weight.T[:, :, None] * _all_through_all(x, up, down, activation)).sum(0)


def _own_rows(x, weight, up, down, activation, own):
    """`mixture` with another weight in place of each, of the same tokens."""
    return mixture(x, torch.where(weight > 0, own, 0.0), up, down, activation)


def _unweighted(x, weight, up, down, activation):
    return _own_rows(x, weight, up, down, activation, torch.ones_like(weight))


def _averaged(x, weight, up, down, activation):
    return _own_rows(x, weight, up, down, activation, 1 / (weight > 0).sum(-1, keepdim=True).expand_as(weight))


def _weighted_input(x, weight, up, down, activation):
    y = torch.zeros_like(x)
    for w, u, d in zip(weight.T, up, down, strict=True):
        mine = w.nonzero()[:, 0]
        y = y.index_add(0, mine, activation((w[mine, None] * x[mine]) @ u.T) @ d.T)
    return y


def _weighted_twice(x, weight, up, down, activation):
    return _own_rows(x, weight, up, down, activation, weight.square())


def _last_wins(x, weight, up, down, activation):
    y = torch.zeros_like(x)
    for w, u, d in zip(weight.T, up, down, strict=True):
        mine = w.nonzero()[:, 0]
        y = y.index_copy(0, mine, w[mine, None] * (activation(x[mine] @ u.T) @ d.T))
    return y


def _likeliest_alone(x, weight, up, down, activation):
    return mixture(x, weight * _chosen(weight, 1), up, down, activation)


def _without_activation(x, weight, up, down, activation):
    return mixture(x, weight, up, down, lambda hidden: hidden)


def _activation_last(x, weight, up, down, activation):
    y = torch.zeros_like(x)
    for w, u, d in zip(weight.T, up, down, strict=True):
        mine = w.nonzero()[:, 0]
        y = y.index_add(0, mine, w[mine, None] * activation(x[mine] @ u.T @ d.T))
    return y


def _with_the_stream(x, weight, up, down, activation):
    return x + mixture(x, weight, up, down, activation)


def _cut_off_weights(x, weight, up, down, activation):
    return mixture(x, weight.detach(), up, down, activation) + 0 * weight.sum()


def _slot_by_slot(x, weight, up, down, activation):
    rows = []
    for token, shares in zip(x, weight, strict=True):
        used = shares.nonzero()[:, 0].tolist()
        rows.append(sum(shares[e] * (down[e] @ activation(up[e] @ token)) for e in used))
    return torch.stack(rows)


def _in_the_order_of_experts(x, weight, up, down, activation):
    expert, token = weight.T.nonzero(as_tuple=True)
    sizes = (weight > 0).sum(0).tolist()
    pieces = [
        activation(rows @ u.T) @ d.T for rows, u, d in zip(x[token].split(sizes), up, down, strict=True) if len(rows)
    ]
    return torch.zeros_like(x).index_add(0, token, weight[token, expert, None] * torch.cat(pieces))


MIXTURE = Exercise(
    name="mixture",
    notebook="06_mixture_of_experts",
    statement=r"""
        Now the experts. Each is a small feed-forward of its own, $f_e(x) = \mathrm{down}_e\, \sigma(\mathrm{up}_e\,
        x)$, and the layer's output is

        $$y_n = \sum_{e\,:\,w_{ne} > 0} w_{ne}\, f_e(x_n).$$

        The sum goes over the **chosen** experts. Do not compute the others and multiply by zero: that would be the
        right sum at the price of all experts, and here it would even be wrong, since one of the cases has an activation
        that cannot take everybody's tokens. No token is dropped, however many choose the same expert.
        """,
    difficulty=3,
    importance=5,
    minutes=12,
    imports="from collections.abc import Callable\n\nimport torch",
    reference=mixture,
    cases=(
        *grid(_tokens_and_experts, shapes=((6, 3, 4, 5), (9, 4, 5, 3)), word="N, D, E, F ="),
        Case(label="experts that take roots, each of its own tokens", make=_roots),
    ),
    ladder=ladder(
        Values(rtol=1e-4, atol=1e-5, because="sums of a few float32 products, in any order"),
        Gradients(rtol=1e-3, atol=1e-4, because="float32, through two products and a sum over tokens"),
    ),
    hints=(
        """
        One expert after the other. `mine = weight_NE[:, e].nonzero()[:, 0]` are the tokens that chose expert e, and
        `x_ND[mine]` their rows.
        """,
        """
        A token has several experts, so their answers are *added* in its row: `y.index_add(0, mine, rows)` returns y
        with rows added at these places. Each row times its weight comes first.
        """,
    ),
    explanation=r"""
        The package sorts the rows by expert first. Then each expert has one block of rows, and all experts are one
        grouped product, without a loop. The arithmetic is the same.
        """,
    bank=(
        WrongAnswer(
            answer=_everything_computed,
            misconception="every expert computes every token",
            says=(
                "This is exactly what comes out when every expert computes every token and the weights put zeros in "
                "front. Zero times NaN is NaN; and it costs as much as if all experts were active."
            ),
        ),
        WrongAnswer(
            answer=_unweighted,
            misconception="weights left out",
            says="This is exactly the plain sum of the chosen experts' answers. Each is multiplied by its weight.",
        ),
        WrongAnswer(
            answer=_averaged,
            misconception="mean of the chosen",
            says="This is exactly the mean of the chosen experts' answers. The weights say how much each counts.",
        ),
        WrongAnswer(
            answer=_weighted_input,
            misconception="weight before the expert",
            says=(
                "This is exactly what the weight in front of the expert's *input* gives. It belongs to the answer. "
                "(With PolyNorm inside, which takes the size out of its input, it would be lost altogether.)"
            ),
        ),
        WrongAnswer(
            answer=_weighted_twice,
            misconception="weighted twice",
            says="This is exactly what squared weights give: each answer was multiplied twice.",
        ),
        WrongAnswer(
            answer=_last_wins,
            misconception="the last expert wins",
            says=(
                "These are exactly the answers of each token's last expert: they were assigned and not added. "
                "`y[mine] = ...` overwrites."
            ),
        ),
        WrongAnswer(
            answer=_likeliest_alone,
            misconception="the likeliest alone",
            says="This is exactly what each token's first expert gives, with its weight. All chosen ones are added.",
        ),
        WrongAnswer(
            answer=_without_activation,
            misconception="no activation",
            says="This is exactly down times up, without the activation in between.",
        ),
        WrongAnswer(
            answer=_activation_last,
            misconception="activation after both matrices",
            says="This is exactly what the activation gives after both matrices. It stands between them.",
        ),
        WrongAnswer(
            answer=_with_the_stream,
            misconception="the stream added",
            says="This is exactly x plus the mixture. The block adds it to the stream; the layer returns its part.",
        ),
        WrongAnswer(
            answer=_cut_off_weights,
            misconception="weights cut off from the graph",
            says=(
                "The right values, and no gradient to the weights, as `.detach()` or `.item()` leaves them. The router "
                "learns through the weights and through nothing else."
            ),
            fails="gradients",
        ),
    ),
    right=(_slot_by_slot, _in_the_order_of_experts),
)

# -- capacity ------------------------------------------------------------------------------------------------------


def within_capacity(weight_NE: torch.Tensor, capacity: int) -> torch.Tensor:
    """The weights of a router whose experts take `capacity` tokens each: those that come first; later ones get 0.

    weight_NE: above 0 where a token has chosen an expert, shape (N, E), tokens in the order in which they come.
    Returns shape (N, E).
    """
    place_NE = (weight_NE > 0).cumsum(dim=0)  # the how-manieth of its expert's tokens, from 1
    return weight_NE * (place_NE <= capacity)


def _crowded(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, int]:
    n, experts, capacity = shape
    favourite = torch.linspace(0.8, -0.4, experts)
    return route(favourite + torch.randn(n, experts, generator=generator), 2), capacity


def _one_too_few(weight, capacity):
    return weight * ((weight > 0).cumsum(0) < capacity)


def _largest_weights(weight, capacity):
    return weight * _chosen(weight, min(capacity, len(weight)), dim=0)


def _last_ones(weight, capacity):
    return within_capacity(weight.flip(0), capacity).flip(0)


def _along_experts(weight, capacity):
    return weight * ((weight > 0).cumsum(1) <= capacity)


def _first_rows(weight, capacity):
    return weight * (torch.arange(len(weight)) < capacity)[:, None]


def _full_experts_closed(weight, capacity):
    return weight * ((weight > 0).sum(0) <= capacity)


def _ones_for_weights(weight, capacity):
    return (within_capacity(weight, capacity) > 0).to(weight.dtype)


def _sharing_again(weight, capacity):
    kept = within_capacity(weight, capacity)
    return (kept / kept.sum(-1, keepdim=True)).nan_to_num(0.0)


def _all_or_nothing(weight, capacity):
    kept = within_capacity(weight, capacity)
    return kept * ((kept > 0) == (weight > 0)).all(-1, keepdim=True)


def _what_is_dropped(weight, capacity):
    return weight - within_capacity(weight, capacity)


def _by_counting(weight, capacity):
    kept, taken = torch.zeros_like(weight), [0] * weight.shape[1]
    for token, row in enumerate(weight):
        for expert in row.nonzero()[:, 0].tolist():
            if taken[expert] < capacity:
                kept[token, expert] = row[expert]
                taken[expert] += 1
    return kept


def _list_by_list(weight, capacity):
    kept = torch.zeros_like(weight)
    for expert in range(weight.shape[1]):
        mine = weight[:, expert].nonzero()[:capacity, 0]
        kept[mine, expert] = weight[mine, expert]
    return kept


WITHIN_CAPACITY = Exercise(
    name="within_capacity",
    notebook="06_mixture_of_experts",
    statement=r"""
        Many systems give each expert a fixed number of places, the **capacity**, because arrays of one size are easy
        to send about. Who comes late finds the expert full, and that part of the token's answer is missing. Write it:
        of the tokens that chose an expert the first `capacity` keep their weight, the others get 0. A token may lose
        one of its experts and keep the other. Nothing is shared out again.
        """,
    difficulty=2,
    importance=3,
    minutes=6,
    reference=within_capacity,
    cases=grid(_crowded, shapes=((9, 4, 3), (14, 5, 4)), word="N, E, capacity ="),
    ladder=ladder(
        Values(rtol=1e-6, atol=1e-7, because="a weight is kept or set to zero, not computed"),
    ),
    hints=(
        "Number the tokens of each expert: 1 for the first that chose it, 2 for the second, and so on.",
        "`(weight_NE > 0).cumsum(dim=0)` is that numbering, in every place where a token has chosen an expert.",
    ),
    explanation=r"""
        A dropped token is not lost: the residual stream carries it on, unchanged by this layer. It is treated worse
        because of who came before it in the batch. So the same text can get another answer in other company, and a
        loss that is measured under a capacity belongs to a batch size.
        """,
    bank=(
        WrongAnswer(
            answer=_one_too_few,
            misconception="one place too few",
            says="This is exactly what one place fewer gives: the token with the number `capacity` still fits.",
        ),
        WrongAnswer(
            answer=_largest_weights,
            misconception="the largest weights stay",
            says=(
                "This is exactly what comes out when each expert keeps the tokens that want it most. (That exists, as "
                "priority routing.) Here those stay that come first."
            ),
        ),
        WrongAnswer(
            answer=_last_ones,
            misconception="the last ones stay",
            says="This is exactly what comes out when the last tokens stay, and not the first.",
        ),
        WrongAnswer(
            answer=_along_experts,
            misconception="nothing dropped",
            says=(
                "These are exactly the weights as they came. A count along each token's experts, `dim=1`, does that: "
                "it never passes the capacity. Count along the tokens of an expert."
            ),
        ),
        WrongAnswer(
            answer=_first_rows,
            misconception="the first rows of the batch",
            says="This keeps exactly the first rows of the batch. Each expert counts the tokens that chose *it*.",
        ),
        WrongAnswer(
            answer=_full_experts_closed,
            misconception="an overrun expert closes",
            says="This is exactly what comes out when an expert with too many tokens takes none.",
        ),
        WrongAnswer(
            answer=_ones_for_weights,
            misconception="ones for weights",
            says="This is exactly 1 where a weight is kept. Keep the weight itself.",
        ),
        WrongAnswer(
            answer=_sharing_again,
            misconception="shared out again",
            says="This is exactly what comes out when what is left of each token's weights is scaled to add up to 1.",
        ),
        WrongAnswer(
            answer=_all_or_nothing,
            misconception="all or nothing",
            says="This is exactly what comes out when a token that finds one expert full loses the other one, too.",
        ),
        WrongAnswer(
            answer=_what_is_dropped,
            misconception="what is dropped",
            says="These are exactly the weights that are dropped. Asked for are those that stay.",
        ),
    ),
    right=(_by_counting, _list_by_list),
)

# -- the losses of a router ----------------------------------------------------------------------------------------


def balance_loss(logits_NE: torch.Tensor, k: int) -> torch.Tensor:
    """E sum_e load_e P_e: load_e the share of the N k choices that fell on e, P_e the mean probability of e.

    The probabilities are softmax over all E logits of a token. Returns a scalar tensor, shape ().
    """
    N, E = logits_NE.shape
    load_E = torch.zeros_like(logits_NE).scatter(-1, logits_NE.topk(k, dim=-1).indices, 1.0).sum(0) / (N * k)
    return E * (load_E * logits_NE.softmax(-1).mean(0)).sum()


def _uneven(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[torch.Tensor, int]:
    n, experts, k = shape
    return torch.linspace(1.5, -1.0, experts) + torch.randn(n, experts, generator=generator), k


def _one_expert_for_all() -> tuple[torch.Tensor, int]:
    logits = 0.1 * torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    return logits + torch.tensor([0.0, 30.0, 0.0, 0.0]), 1


def _loads(logits: torch.Tensor, k: int) -> torch.Tensor:
    return _chosen(logits, k).to(logits.dtype).mean(0) / k


def _without_count(logits, k):
    return balance_loss(logits, k) / logits.shape[1]


def _shares_of_tokens(logits, k):
    return k * balance_loss(logits, k)


def _soft_loads(logits, k):
    return logits.shape[1] * logits.softmax(-1).mean(0).square().sum()


def _hard_loads(logits, k):
    return logits.shape[1] * _loads(logits, k).square().sum() + 0 * logits.sum()


def _of_chosen_weights(logits, k):
    return logits.shape[1] * (_loads(logits, k) * route(logits, k).mean(0)).sum()


def _first_choice_only(logits, k):
    return balance_loss(logits, 1)


def _token_by_token(logits, k):
    return logits.shape[1] * (_chosen(logits, k) / k * logits.softmax(-1)).mean(0).sum()


def _of_mean_logits(logits, k):
    return logits.shape[1] * (_loads(logits, k) * logits.mean(0).softmax(-1)).sum()


def _variation_of_loads(logits, k):
    loads = _loads(logits, k)
    return (loads.std(correction=0) / loads.mean()).square() + 0 * logits.sum()


def _probability_cut_off(logits, k):
    return balance_loss(logits.detach(), k) + 0 * logits.sum()


def _by_bincount(logits, k):
    E = logits.shape[1]
    count = torch.bincount(logits.topk(k, dim=-1).indices.flatten(), minlength=E)
    return E * torch.dot((count / count.sum()).to(logits.dtype), logits.softmax(-1).mean(0))


BALANCE_LOSS = Exercise(
    name="balance_loss",
    notebook="06_mixture_of_experts",
    statement=r"""
        Two numbers for each expert: its **load**, the share of all choices that fell on it, and $P_e$, the probability
        that it has on average over the tokens,

        $$\mathrm{load}_e = \frac{\text{choices of } e}{N k}, \qquad
        P_e = \frac1N \sum_n \operatorname{softmax}(\ell_n)_e, \qquad
        \mathcal L_{\text{balance}} = E \sum_e \mathrm{load}_e\, P_e.$$

        The softmax is over *all* $E$ logits, not over the chosen ones. Where every expert has a load of $1/E$ the loss
        is 1; where one expert has everything, and is sure of it, it is $E$.
        """,
    difficulty=3,
    importance=5,
    minutes=10,
    reference=balance_loss,
    cases=(
        *grid(_uneven, shapes=((7, 4, 2), (12, 6, 3)), word="N, E, k ="),
        Case(label="one expert for all tokens", make=_one_expert_for_all),
    ),
    ladder=ladder(
        Values(rtol=1e-5, atol=1e-6, because="means of a few float32 numbers of size one"),
        Gradients(rtol=1e-3, atol=1e-5, because="float32, through a softmax and two means"),
    ),
    hints=(
        "Two vectors of length E, their product, its sum, times E. The loads are counts: they have no gradient.",
        "The counts: `torch.zeros_like(logits).scatter(-1, places, 1.0).sum(0)`, with the places that `topk` gives.",
    ),
    explanation=r"""
        The load is a count and has no slope; the probability has one. So the gradient of the loss with respect to
        $P_e$ is $E\,\mathrm{load}_e$: each expert's probability is pushed down in proportion to how *busy* it is, and
        since probabilities add up to 1, the idle ones rise. It is a negative feedback on what would be a positive one.
        """,
    bank=(
        WrongAnswer(
            answer=_without_count,
            misconception="factor E left out",
            says="This is exactly the sum without the factor E in front, which makes it 1 for even loads at any E.",
        ),
        WrongAnswer(
            answer=_shares_of_tokens,
            misconception="loads as shares of tokens",
            says=(
                "This is exactly k times the loss: the counts were divided by N. There are N k choices, and the loads "
                "add up to 1. (OLMoE's code has this factor.)"
            ),
        ),
        WrongAnswer(
            answer=_soft_loads,
            misconception="probability for load",
            says="This is exactly E times the sum of P². One of the two factors is the load, a count of choices.",
        ),
        WrongAnswer(
            answer=_hard_loads,
            misconception="load for probability",
            says="This is exactly E times the sum of loads squared: counts alone, which have no gradient.",
        ),
        WrongAnswer(
            answer=_of_chosen_weights,
            misconception="weights of the chosen for probabilities",
            says=(
                "This is exactly what comes out with the weights of `route` as probabilities. Take the softmax over "
                "all E logits, so that experts that were not chosen get a gradient, too."
            ),
        ),
        WrongAnswer(
            answer=_first_choice_only,
            misconception="first choice only",
            says="These are exactly the loads of each token's first choice. All k choices count.",
        ),
        WrongAnswer(
            answer=_token_by_token,
            misconception="multiplied before the mean",
            says=(
                "This is exactly what comes out when each token's own choices and probabilities are multiplied. That "
                "punishes being sure; the loss multiplies two *means*."
            ),
        ),
        WrongAnswer(
            answer=_of_mean_logits,
            misconception="softmax of mean logits",
            says="This is exactly what the softmax of the mean logits gives. Softmax first, then the mean.",
        ),
        WrongAnswer(
            answer=_variation_of_loads,
            misconception="squared variation of the loads",
            says=(
                "This is exactly the squared coefficient of variation of the loads. It measures balance, too, but it "
                "is made of counts, and a count has no gradient."
            ),
        ),
        WrongAnswer(
            answer=_probability_cut_off,
            misconception="probabilities cut off from the graph",
            says="The right number without a gradient, as under `torch.no_grad()`: it would measure and not balance.",
            fails="gradients",
        ),
    ),
    right=(_by_bincount, lambda logits, k: logits.shape[1] * (_loads(logits, k) @ logits.softmax(-1).mean(0))),
)


def z_loss(logits_NE: torch.Tensor) -> torch.Tensor:
    """The mean over tokens of logsumexp(logits)^2, with the sum over experts. Returns a scalar tensor, shape ()."""
    return logits_NE.logsumexp(dim=-1).square().mean()


def _any_logits(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    return (1.0 + 2 * torch.randn(shape, generator=generator),)


def _huge_logits() -> tuple[torch.Tensor]:
    return (150.0 + 10 * torch.randn(4, 3, generator=torch.Generator().manual_seed(6)),)


def _shifted(by: float) -> Case:
    def make() -> tuple[torch.Tensor]:
        return (torch.randn(3, 5, generator=torch.Generator().manual_seed(7)).log_softmax(-1) + by,)

    return Case(label=f"probabilities' own logits plus {by:g}", make=make)


def _sizes_cut_off(logits):
    return z_loss(logits.detach()) + 0 * logits.sum()


Z_LOSS = Exercise(
    name="z_loss",
    notebook="06_mixture_of_experts",
    statement=r"""
        The second loss of a router. A softmax does not change when all its logits grow by the same number, so nothing
        holds them: they can drift to sizes at which a rounding decides who is chosen. The **z-loss** holds them,

        $$\mathcal L_z = \frac1N \sum_n \Big( \ln \sum_e e^{\ell_{ne}} \Big)^2.$$
        """,
    difficulty=1,
    importance=3,
    minutes=4,
    reference=z_loss,
    cases=(
        *grid(_any_logits, shapes=((5, 4), (8, 6)), word="N, E ="),
        Case(label="logits near 150", make=_huge_logits),
    ),
    ladder=ladder(
        Values(rtol=1e-5, atol=1e-6, because="float32 carries seven digits"),
        Gradients(rtol=1e-4, atol=1e-5, because="float32, through a softmax"),
        Property(
            promise="0 where the logits are log-probabilities, 4 where they are 2 more",
            cases=(_shifted(0), _shifted(2)),
            holds=lambda results: (
                close(torch.tensor(0.0), results[0], rtol=0, atol=1e-5)
                and close(torch.tensor(4.0), results[1], rtol=1e-4, atol=0)
            ),
        ),
    ),
    hints=(
        "The bracket is one number for each token. It is squared, then averaged over tokens.",
        "`logits.logsumexp(dim=-1)` is ln Σ e^ℓ, and does not overflow.",
    ),
    explanation=r"""
        With the derivative of ln Σ eˡ, the softmax, the gradient with respect to $\ell_{ne}$ is $\tfrac2N z_n\,
        \operatorname{softmax}(\ell_n)_e$, where $z_n$ is the bracket: it moves the whole row, and the row's large
        entries most. The bracket is 0 where the logits are log-probabilities already.
        """,
    bank=(
        WrongAnswer(
            answer=lambda logits: logits.logsumexp(-1).mean().square(),
            misconception="mean before the square",
            says="This is exactly the square of the mean. Square each token's number first.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.square().mean(),
            misconception="mean of squared logits",
            says="This is exactly the mean of squared logits. The bracket joins a token's logits first.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.logsumexp(-1).mean(),
            misconception="square left out",
            says="This is exactly the mean of logsumexp. Without the square it has no lower end.",
        ),
        WrongAnswer(
            answer=lambda logits: (logits.logsumexp(-1) - math.log(logits.shape[-1])).square().mean(),
            misconception="mean of exponentials",
            says="This is exactly what the logarithm of the *mean* of exponentials gives. It is that of their sum.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.logsumexp(-1).square().sum(),
            misconception="sum over tokens",
            says="This is exactly the sum over tokens. Divide by N.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.logsumexp(0).square().mean(),
            misconception="sum over tokens in the bracket",
            says="This is exactly what the sum over tokens, `dim=0`, gives. The bracket sums over experts.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.amax(-1).square().mean(),
            misconception="largest logit",
            says="This is exactly the mean of each token's largest logit, squared: close, and not the same.",
        ),
        WrongAnswer(
            answer=lambda logits: logits.exp().sum(-1).log().square().mean(),
            misconception="exponentials of large numbers",
            says="This is exactly log(sum(exp)). At logits near 150 the exponentials overflow; `logsumexp` does not.",
        ),
        WrongAnswer(
            answer=_sizes_cut_off,
            misconception="cut off from the graph",
            says="The right number without a gradient, as under `torch.no_grad()`.",
            fails="gradients",
        ),
    ),
    right=(
        lambda logits: (logits - logits.log_softmax(-1))[:, 0].square().mean(),
        lambda logits: (logits.amax(-1) + (logits - logits.amax(-1, keepdim=True)).exp().sum(-1).log()).square().mean(),
    ),
)

# -- what a choice tells -------------------------------------------------------------------------------------------


def choice_information(count_VE: torch.Tensor) -> torch.Tensor:
    """How much of the choice of an expert is known once the token is known, in nats: sum p_ve ln(p_ve / (p_v p_e)).

    count_VE: how often a token of kind v went to expert e, shape (V, E); some counts are 0, and add nothing.
    Returns a scalar tensor, shape ().
    """
    p_VE = count_VE / count_VE.sum()
    p_V, p_E = p_VE.sum(1, keepdim=True), p_VE.sum(0, keepdim=True)
    seen = p_VE > 0
    return (p_VE[seen] * (p_VE / (p_V * p_E))[seen].log()).sum()


def _counts(shape: tuple[int, int], generator: torch.Generator) -> tuple[torch.Tensor]:
    kinds, experts = shape
    how_common = torch.linspace(60.0, 4.0, kinds)[:, None]
    prefers = (2 * torch.randn(kinds, experts, generator=generator)).softmax(-1)
    count = (how_common * prefers).round().double()
    count[: None if kinds < 10 else 1] += 1  # no expert without any token; of few kinds, no count of 0
    return (count,)


def _one_expert_per_kind() -> tuple[torch.Tensor]:
    return (torch.diag(torch.tensor([8.0, 8.0, 8.0, 8.0], dtype=torch.float64)),)


def _no_preference() -> tuple[torch.Tensor]:
    return (torch.tensor([30.0, 12.0, 6.0], dtype=torch.float64)[:, None] * torch.tensor([[1.0, 2.0, 3.0, 4.0]]),)


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(p).sum()


def _parts(count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    p = count / count.sum()
    return p, p.sum(1), p.sum(0)


def _without_zeros_left_out(count):
    p, kinds, experts = _parts(count)
    return (p * (p / (kinds[:, None] * experts)).log()).sum()


def _entropy_of_choices(count):
    return _entropy(_parts(count)[2])


def _entropy_of_tokens(count):
    return _entropy(_parts(count)[1])


def _entropy_left(count):
    p, kinds, _ = _parts(count)
    return _entropy(p) - _entropy(kinds)


def _joint_entropy(count):
    return _entropy(_parts(count)[0])


def _every_kind_alike(count):
    return choice_information(count / count.sum(1, keepdim=True))


def _share_of_the_entropy(count):
    return choice_information(count) / _entropy_of_choices(count)


def _against_even_loads(count):
    return math.log(count.shape[1]) - _entropy_left(count)


def _by_entropies(count):
    p, kinds, experts = _parts(count)
    return _entropy(kinds) + _entropy(experts) - _entropy(p)


def _kind_by_kind(count):
    experts = count.sum(0) / count.sum()
    total = torch.zeros((), dtype=count.dtype)
    for row in count:
        own = row / row.sum()
        total = total + row.sum() / count.sum() * torch.special.xlogy(own, own / experts).sum()
    return total


CHOICE_INFORMATION = Exercise(
    name="choice_information",
    notebook="06_mixture_of_experts",
    statement=r"""
        Do experts read different things? Count how often each kind of token $v$ (here: each byte) went to each expert
        $e$. The **mutual information** of the two says how much of the choice is known once the token is known:

        $$I = \sum_{v, e} p_{ve} \ln \frac{p_{ve}}{p_v\, p_e}, \qquad p_v = \sum_e p_{ve}, \quad p_e = \sum_v p_{ve}.$$

        It is 0 if the expert is drawn without a look at the token, and $\ln E$ if the token decides and all experts get
        the same share. Where a count is 0 the term is 0.
        """,
    difficulty=3,
    importance=3,
    minutes=10,
    reference=choice_information,
    cases=(
        *grid(_counts, shapes=((7, 4), (12, 5)), word="V, E ="),
        Case(label="four kinds, an expert for each", make=_one_expert_per_kind),
    ),
    ladder=ladder(
        Values(rtol=1e-8, atol=1e-10, because="a sum of a few float64 numbers"),
        Property(
            promise="0 where all kinds are shared out alike",
            cases=(Case(label="no preference", make=_no_preference),),
            holds=lambda results: abs(float(results[0])) < 1e-12,
        ),
    ),
    hints=(
        "Divide the counts by their sum first. The two margins are sums of that table, with `keepdim=True`.",
        "0 · ln 0 is NaN in torch. Take the places where p > 0 only; or `torch.special.xlogy(p, ratio)`, which knows.",
    ),
    explanation=r"""
        It is the distance, as a KL divergence, between what was counted and what would have been counted if token and
        expert had nothing to do with each other. A finite sample sees a little of it even where there is none, about
        $(V-1)(E-1)/2N$ for $N$ tokens. A control shows how much that is.
        """,
    bank=(
        WrongAnswer(
            answer=_without_zeros_left_out,
            misconception="0 ln 0",
            says="This is exactly the formula as written, where a count of 0 makes 0 times minus infinity: NaN.",
        ),
        WrongAnswer(
            answer=_entropy_of_choices,
            misconception="entropy of the choices",
            says="This is exactly the entropy of the experts' loads, without a look at the tokens.",
        ),
        WrongAnswer(
            answer=_entropy_of_tokens,
            misconception="entropy of the tokens",
            says="This is exactly the entropy of the tokens. The experts play no part in it.",
        ),
        WrongAnswer(
            answer=_entropy_left,
            misconception="what is still unknown",
            says=(
                "This is exactly the entropy of the choice that is *left* once the token is known. Asked for is what "
                "the token takes away."
            ),
        ),
        WrongAnswer(
            answer=_joint_entropy,
            misconception="joint entropy",
            says="This is exactly the entropy of token and expert together: -Σ p ln p, without the margins.",
        ),
        WrongAnswer(
            answer=_every_kind_alike,
            misconception="every kind counts alike",
            says="This is exactly what comes out when each row is normalised first. Common tokens count more.",
        ),
        WrongAnswer(
            answer=_share_of_the_entropy,
            misconception="share of the entropy",
            says="This is exactly the information divided by the entropy of the loads. Asked for are nats.",
        ),
        WrongAnswer(
            answer=_against_even_loads,
            misconception="even loads taken for granted",
            says="This is exactly ln E minus the entropy that is left. The loads are not even: p_e is measured.",
        ),
        WrongAnswer(
            answer=lambda count: choice_information(count) / math.log(2),
            misconception="bits for nats",
            says="This is exactly the information in bits. Nats are asked for: the natural logarithm, without log 2.",
        ),
    ),
    right=(_by_entropies, _kind_by_kind),
)

EXERCISES = (ROUTE, MIXTURE, WITHIN_CAPACITY, BALANCE_LOSS, Z_LOSS, CHOICE_INFORMATION)
