"""Experts: the layer against one token at a time, its two ways of multiplying, its losses, shapes and refusals."""

import copy

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minipolycom.activations import ACTIVATION_NAMES, GATED
from minipolycom.model import (
    GPT,
    PRESETS,
    Combine,
    Dispatch,
    FeedForward,
    GPTConfig,
    MoE,
    next_token_loss,
    sort_by_expert,
)
from minipolycom.train import LanguageModel, TrainConfig, parameter_groups

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 32, "context": 16, "vocab_size": 11, "n_experts": 6}


def layer(dtype: torch.dtype = torch.float64, **fields) -> MoE:
    """A layer with the initial weights of a model; coefficients differ from expert to expert, and none are equal."""
    moe = GPT(GPTConfig(**SHAPE | fields)).blocks[0].feed_forward.to(dtype)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for coefficient in moe.activation.parameters():
            coefficient.add_(torch.randn(coefficient.shape, generator=generator, dtype=dtype), alpha=0.1)
    return moe


def rows(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_token(moe: MoE, x_BTD: torch.Tensor) -> torch.Tensor:
    def function(hidden: torch.Tensor, expert: int) -> torch.Tensor:
        which = (torch.tensor([expert]),) if moe.per_expert else ()
        return moe.activation(hidden[None], *which)[0]

    y = reference.mixture_of_experts(
        x_BTD.flatten(0, 1), moe.router.weight, moe.up, moe.gate, moe.down, moe.per_token, function
    )
    y = y.view_as(x_BTD)
    return y if moe.shared is None else y + moe.shared(x_BTD)


def gradients(y: torch.Tensor, moe: MoE, x: torch.Tensor) -> dict[str, torch.Tensor]:
    inputs = {"x": x, **dict(moe.named_parameters())}
    weights = rows(*y.shape, dtype=y.dtype, seed=7)
    found = torch.autograd.grad((y * weights).sum(), list(inputs.values()))
    return dict(zip(inputs, found, strict=True))


CASES = [{"activation": name} for name in ACTIVATION_NAMES] + [
    {"activation": "polynorm", "coefficients": "per_expert"},
    {"activation": "polyrelu", "coefficients": "per_expert"},
    {"activation": "polynorm", "n_shared_experts": 1},
    {"activation": "swiglu", "n_shared_experts": 2},
    {"experts_per_token": 1},
    {"experts_per_token": 6},
    {"n_experts": 1, "experts_per_token": 1},
]


@pytest.mark.parametrize("fields", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_token_gets_the_sum_over_its_experts_in_values_and_gradients(fields, dtype):
    moe, x = layer(dtype, **fields), rows(3, 5, 32, dtype=dtype).requires_grad_()
    y, expected = moe(x), by_token(moe, x)
    # fp64 takes the plain product, fp32 the grouped one; the sums have another order than one token at a time
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 2e-5}
    torch.testing.assert_close(y, expected, **close)
    ours, theirs = gradients(y, moe, x), gradients(expected, moe, x)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], **close, msg=lambda m, name=name: f"{name}: {m}")


def test_the_derivatives_are_those_of_finite_differences():
    moe = layer(d_model=16, n_heads=2, n_experts=3, coefficients="per_expert")
    torch.autograd.gradcheck(moe, rows(1, 5, 16).requires_grad_())
    x, weight = rows(4, 3).requires_grad_(), rows(4, 2).requires_grad_()
    _, order, place, _ = sort_by_expert(torch.tensor([[0, 2], [2, 1], [1, 0], [2, 0]]), 3)
    torch.autograd.gradgradcheck(lambda x: Dispatch.apply(x, order, place), x)
    torch.autograd.gradgradcheck(lambda y, w: Combine.apply(y, w, order, place), (rows(8, 3).requires_grad_(), weight))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40), per_token=st.integers(1, 5), extra=st.integers(0, 4), seed=st.integers(0, 1000)
)  # fmt: skip
def test_no_slot_is_lost_and_places_undo_the_order(n, per_token, extra, seed):
    experts = per_token + extra
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.stack([torch.randperm(experts, generator=generator)[:per_token] for _ in range(n)])
    expert, order, place, count = sort_by_expert(chosen, experts)
    assert torch.equal(expert, chosen.flatten().sort().values)
    assert torch.equal(expert, chosen.flatten()[order])
    assert torch.equal(order[place].flatten(), torch.arange(n * per_token))
    assert torch.equal(count, torch.tensor([(chosen == e).sum() for e in range(experts)]))


def test_the_layer_holds_its_statistics_after_a_forward():
    moe, x = layer(), rows(3, 5, 32)
    moe(x)
    logits = x.flatten(0, 1) @ moe.router.weight.T
    probability = logits.softmax(-1)
    assert moe.load_E.sum().item() == pytest.approx(1)
    assert torch.equal(moe.chosen_BTS, logits.topk(2).indices.view(3, 5, 2))
    for expert in range(6):
        assert moe.load_E[expert].item() == pytest.approx((moe.chosen_BTS == expert).sum().item() / 30)
    torch.testing.assert_close(moe.balance_loss, reference.balance_loss(logits, 2))
    torch.testing.assert_close(moe.z_loss, reference.z_loss(logits))
    torch.testing.assert_close(moe.router_entropy, -(probability * probability.log()).sum(-1).mean())
    assert moe.router_entropy.grad_fn is None
    for loss in (moe.balance_loss, moe.z_loss):
        (gradient,) = torch.autograd.grad(loss, moe.router.weight, retain_graph=True)
        assert gradient.abs().max() > 0


def test_the_balance_loss_is_one_when_all_experts_are_alike_and_more_when_one_is_preferred():
    moe = layer(n_experts=4)
    with torch.no_grad():
        moe.router.weight.zero_()
    moe(rows(2, 8, 32))
    assert moe.balance_loss.item() == pytest.approx(1)
    assert moe.router_entropy.item() == pytest.approx(torch.tensor(4.0).log().item())
    with torch.no_grad():
        moe.router.weight[1] = 1.0
    moe(torch.ones(2, 8, 32, dtype=torch.float64))
    assert moe.balance_loss.item() == pytest.approx(2, rel=1e-3)  # half the slots, nearly all the probability


def test_the_losses_of_a_model_are_means_over_its_layers():
    gpt, tokens = GPT(GPTConfig(**SHAPE)), torch.randint(11, (2, 16), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="balance_loss of experts is known after a forward"):
        gpt.balance_loss()
    gpt(tokens)
    layers = [block.feed_forward for block in gpt.blocks]
    torch.testing.assert_close(gpt.balance_loss(), (layers[0].balance_loss + layers[1].balance_loss) / 2)
    torch.testing.assert_close(gpt.z_loss(), (layers[0].z_loss + layers[1].z_loss) / 2)
    dense = GPT(GPTConfig(**SHAPE | {"n_experts": 0}))
    assert dense.balance_loss() == dense.z_loss() == 0


def test_a_forward_that_fails_leaves_no_statistics_of_the_one_before():
    moe = layer()
    moe(rows(1, 4, 32))

    def stop(*_):
        raise KeyboardInterrupt("stop")

    moe.router.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        moe(rows(1, 4, 32))
    assert all(getattr(moe, name) is None for name in MoE.STATISTICS)


def test_a_layer_can_be_copied_after_a_forward():
    moe, x = layer(), rows(1, 4, 32)
    y = moe(x)
    other = copy.deepcopy(moe)
    assert other.load_E is None
    assert moe.load_E is not None
    assert torch.equal(other(x), y)


def test_hooks_on_the_activation_and_the_router_fire():
    moe, seen = layer(coefficients="per_expert"), []
    for module in (moe.activation, moe.router):
        module.register_forward_hook(lambda module, _, y: seen.append((type(module).__name__, tuple(y.shape))))
    moe(rows(2, 4, 32))
    assert seen == [("Router", (8, 6)), ("PolyNorm", (16, moe.up.shape[1]))]


def test_the_router_computes_in_fp32_where_the_rest_does_not():
    moe, x = layer(torch.float32), rows(2, 8, 32, dtype=torch.float32)
    moe(x)
    chosen, z_loss = moe.chosen_BTS, moe.z_loss
    with torch.autocast("cpu", torch.bfloat16):
        y = moe(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(moe.chosen_BTS, chosen)
    assert torch.equal(moe.z_loss, z_loss)
    torch.testing.assert_close(y.float(), moe(x), rtol=0.05, atol=0.05)  # bf16 has three digits
    half = moe.bfloat16()
    half(x.bfloat16())
    assert half.z_loss.dtype == torch.float32


def test_autocast_gives_gradients_to_every_weight():
    moe, x = layer(torch.float32, n_shared_experts=1), rows(4, 16, 32, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        moe(x).float().square().sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in moe.parameters())


def test_experts_follow_the_laws_of_the_initial_weights():
    config = GPTConfig(n_layers=8, d_model=256, n_experts=4, n_shared_experts=1, activation="swiglu")
    moe = GPT(config).blocks[3].feed_forward
    std = (2 / (5 * 256)) ** 0.5
    for weight, expected in (
        (moe.up, std),
        (moe.gate, std),
        (moe.down, std / 4),
        (moe.shared.up.weight, std),
        (moe.shared.down.weight, std / 4),
    ):
        assert weight.std().item() == pytest.approx(expected, rel=0.02)  # 60,000 draws or more
    assert moe.router.weight.std().item() == pytest.approx(std, rel=0.1)  # 1,024 draws
    again = GPT(config).blocks[3].feed_forward
    assert torch.equal(moe.up, again.up)
    assert not torch.equal(moe.up[0], moe.up[1])


@pytest.mark.parametrize("fields", CASES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_a_shape_with_experts_knows_its_numbers_of_parameters(fields, tied):
    config = GPTConfig(**SHAPE | fields, tied=tied)
    gpt = GPT(config)
    assert config.n_parameters == gpt.n_parameters
    idle = config.n_experts - config.experts_per_token
    unused = sum(
        p[:idle].numel()
        for block in gpt.blocks
        for name, p in block.feed_forward.named_parameters()
        if name in ("up", "gate", "down") or (p.ndim == 2 and name.startswith("activation"))
    )
    assert config.n_active_parameters == gpt.n_parameters - unused


@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("preset", [name for name in PRESETS if PRESETS[name].get("n_experts")])
def test_experts_are_as_wide_together_as_the_dense_feed_forward(preset, activation, shared):
    config = GPTConfig.preset(preset, activation=activation, n_shared_experts=shared)
    active = config.experts_per_token + shared
    assert abs(active * config.d_expert - config.d_ff) <= active * 4  # each rounded to a multiple of 8
    matrices = 3 if activation in GATED else 2
    with torch.device("meta"):
        dense = sum(p.numel() for p in FeedForward(config).parameters() if p.ndim == 2)
    router = config.n_experts * config.d_model
    assert abs(config._matrices(config.experts_per_token) - 4 * config.d_model**2 - router - dense) <= (
        active * 4 * matrices * config.d_model
    )


def test_the_shape_of_olmoe_is_known_without_its_memory():
    # OLMoE 1B-7B as PolyCom trains it: 64 experts of 3 x 2048 x 1024 or 2 x 2048 x 1536 entries, 8 per token
    for activation, width in (("swiglu", 1024), ("polynorm", 1536)):
        config = GPTConfig.preset("olmoe-1b-7b", activation=activation)
        assert config.d_expert == width
        assert (3 if activation == "swiglu" else 2) * config.d_model * config.d_expert == 6_291_456
        assert round(config.n_parameters / 1e9, 2) == 6.92
        assert round(config.n_active_parameters / 1e9, 2) == 1.28
        with torch.device("meta"):
            assert GPT(config).n_parameters == config.n_parameters


def test_the_operations_of_a_step_are_those_of_its_active_matrices():
    dense = GPTConfig(**SHAPE | {"n_experts": 0})
    by_hand = 6 * (2 * (4 * 32 * 32 + 2 * 32 * 128) + 11 * 32) + 12 * 2 * 32 * 16
    assert dense.flops_per_token == by_hand
    experts = GPTConfig(**SHAPE)
    assert experts.flops_per_token == by_hand + 6 * 2 * 6 * 32  # the router's matrix
    assert GPTConfig(**SHAPE | {"n_experts": 12}).flops_per_token == by_hand + 6 * 2 * 12 * 32
    assert GPTConfig(**SHAPE, tied=True).flops_per_token == experts.flops_per_token


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_experts": 4, "experts_per_token": 5}, "among n_experts=4: from 1 to 4; got 5"),
        ({"n_experts": 4, "experts_per_token": 0}, "among n_experts=4: from 1 to 4; got 0"),
        ({"n_experts": -1}, "n_experts is not negative; got -1"),
        ({"n_experts": 4, "n_shared_experts": -1}, "n_shared_experts is not negative; got -1"),
        ({"n_shared_experts": 1}, "n_shared_experts=1 is about experts, and n_experts=0 means .* give n_experts"),
        ({"coefficients": "per_expert"}, "coefficients='per_expert' is about experts, and n_experts=0"),
        ({"n_experts": 4, "coefficients": "own"}, "unknown coefficients 'own'; known: shared, per_expert"),
        (
            {"n_experts": 4, "coefficients": "per_expert", "activation": "swiglu"},
            "swiglu has no coefficients, .* or activation to polyrelu or polynorm",
        ),
        (
            {"n_experts": 64, "experts_per_token": 64},
            "64 active experts share out the width 128 .* at least 8 wide: widen d_model or take fewer",
        ),
        ({"expansion": 0.0}, "expansion times d_model is the feed-forward's width, at least 1; got 0.0"),
        ({"n_experts": True}, "n_experts is a whole number; got True"),
    ],
)
def test_experts_that_cannot_work_are_refused_when_they_are_made(fields, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{"d_model": 32, "n_heads": 2} | fields)


def test_training_balances_the_experts():
    """The balance loss alone, from a router that sends every token to the same two experts."""
    moe, x = layer(torch.float32), rows(1, 256, 32, dtype=torch.float32)
    x = x + 1  # a common direction, along which the router can prefer an expert
    with torch.no_grad():
        moe.router.weight[:2] += 0.2
    optimizer = torch.optim.Adam(moe.router.parameters(), lr=0.01)
    moe(x)
    before = moe.balance_loss.item()
    for _ in range(60):
        optimizer.zero_grad()
        moe.balance_loss.backward()
        optimizer.step()
        moe(x)
    assert before > 1.5
    assert moe.balance_loss.item() < 1.2
    assert moe.load_E.max() < 0.35


def test_training_minimises_the_losses_of_the_router_too():
    gpt = GPT(GPTConfig(**SHAPE))
    inputs, targets = torch.randint(11, (2, 2, 16), generator=torch.Generator().manual_seed(0))
    plain = next_token_loss(gpt(inputs), targets)
    minimised = LanguageModel(gpt, TrainConfig(balance_weight=0.5, z_weight=0.25)).with_expert_losses(plain)
    torch.testing.assert_close(minimised, plain + 0.5 * gpt.balance_loss() + 0.25 * gpt.z_loss())


def test_coefficients_of_experts_are_not_decayed_and_their_matrices_are():
    gpt = GPT(GPTConfig(**SHAPE, coefficients="per_expert"))
    decayed, kept = (
        {id(parameter) for parameter in group["params"]} for group in parameter_groups(gpt, weight_decay=0.1)
    )
    moe = gpt.blocks[0].feed_forward
    assert all(id(parameter) in kept for parameter in moe.activation.parameters())
    assert all(id(parameter) in decayed for parameter in (moe.up, moe.down, moe.router.weight))


@pytest.mark.compile
def test_a_compiled_layer_gives_the_same_numbers():
    moe, x = layer(torch.float32), rows(2, 8, 32, dtype=torch.float32)
    expected = moe(x)
    compiled = torch.compile(copy.deepcopy(moe), backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)  # another order of sums
    assert isinstance(compiled, nn.Module)
