"""The transformer: shapes, causality, matched sizes, laws of the initial weights, refusals, generation."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from minipolycom.activations import ACTIVATION_NAMES, GATED
from minipolycom.model import GPT, PRESETS, Attention, FeedForward, GPTConfig, Rotary, next_token_loss

SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 32, "context": 16, "vocab_size": 11}


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(SMALL["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_a_position_sees_the_past_only(activation):
    gpt = GPT(GPTConfig(**SMALL, activation=activation)).eval()
    before = tokens(1, 16)
    after = before.clone()
    after[0, 9] = (after[0, 9] + 1) % SMALL["vocab_size"]
    difference = (gpt(before) - gpt(after)).abs().amax(dim=-1)[0]
    assert difference[:9].max() == 0
    assert (difference[9:] > 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_activation_has_the_same_number_of_parameters(preset):
    shape = GPTConfig.preset(preset)
    with torch.device("meta"):
        blocks = {name: sum(p.numel() for p in FeedForward(GPTConfig.preset(preset, activation=name)).parameters())
                  for name in ACTIVATION_NAMES}  # fmt: skip
    target = 2 * shape.expansion * shape.d_model**2
    # A gated width is rounded to a multiple of 8, so it is off by at most 4 of three matrices' columns.
    rounding = 4 * 3 * shape.d_model
    for name, total in blocks.items():
        assert abs(total - target) <= (rounding if name in GATED else 4), (name, total)


def test_the_totals_of_two_presets():
    assert GPT(GPTConfig.preset("tiny", activation="relu")).n_parameters == 2 * 12 * 128**2 + 5 * 128 + 2 * 256 * 128
    with torch.device("meta"):
        gpt2 = GPTConfig.preset("gpt2", activation="gelu")
        blocks = 12 * sum(p.numel() for p in FeedForward(gpt2).parameters()) + 12 * 4 * 768**2 + 25 * 768
    assert round((blocks + 50304 * 768) / 1e6) == 124


def test_a_tied_head_is_the_embedding_and_counted_once():
    tied, untied = GPT(GPTConfig(**SMALL, tied=True)), GPT(GPTConfig(**SMALL))
    assert tied.head.weight is tied.embedding.weight
    assert untied.n_parameters - tied.n_parameters == SMALL["vocab_size"] * SMALL["d_model"]


def test_the_initial_weights_follow_their_laws():
    gpt = GPT(GPTConfig(n_layers=8, d_model=256))
    std = math.sqrt(2 / (5 * 256))
    block = gpt.blocks[3]
    # 65,536 draws or more: the sample deviation is within 1 % of the true one.
    assert block.feed_forward.up.weight.std().item() == pytest.approx(std, rel=0.02)
    assert block.attention.qkv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(std / 4, rel=0.02)
    assert block.attention.out.weight.std().item() == pytest.approx(std / 4, rel=0.02)
    assert gpt.embedding.weight.std().item() == pytest.approx(1 / 16, rel=0.02)


def test_pre_activations_start_at_the_same_scale_at_any_width():
    for d_model in (64, 256):
        layer = GPT(GPTConfig(d_model=d_model)).blocks[0].feed_forward
        x = torch.randn(2000, d_model, generator=torch.Generator().manual_seed(1))  # 0 would repeat the weights' draws
        assert layer.up(x).std().item() == pytest.approx(math.sqrt(2 / 5), rel=0.03)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    first = GPT(GPTConfig(**SMALL), seed=5)
    torch.manual_seed(2)
    again, other = GPT(GPTConfig(**SMALL), seed=5), GPT(GPTConfig(**SMALL), seed=6)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_two_gateless_activations_start_from_the_same_matrices():
    one, two = (GPT(GPTConfig(**SMALL, activation=name)) for name in ("relu", "polynorm"))
    assert torch.equal(one.head.weight, two.head.weight)
    assert torch.equal(one.blocks[1].feed_forward.down.weight, two.blocks[1].feed_forward.down.weight)


def test_rotary_positions_make_scores_depend_on_distance_only():
    rotary = Rotary(d_head=8, context=32, base=10_000.0)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned_q = rotary(q.expand(1, 1, 32, 8))[0, 0]
    turned_k = rotary(k.expand(1, 1, 32, 8))[0, 0]
    scores = turned_q @ turned_k.T
    for distance in (0, 1, 7):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)  # fp32 rounding
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(32))


def test_attention_equals_its_definition():
    config = GPTConfig(**SMALL)
    attention = Attention(config)
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.reshape(3, 7, 2, 16).transpose(1, 2) for part in attention.qkv(x).split(32, dim=-1))
    q, k = attention.rotary(q), attention.rotary(k)
    scores = q @ k.transpose(-1, -2) / 4
    scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    expected = attention.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(3, 7, 32))
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-6)  # another order of sums


def test_a_gated_feed_forward_multiplies_the_activated_gate_by_the_up_projection():
    layer = FeedForward(GPTConfig(**SMALL, activation="swiglu"))
    x = torch.randn(5, 3, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), layer.down(F.silu(layer.gate(x)) * layer.up(x)))


def test_the_loss_is_the_mean_negative_log_probability():
    logits = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    targets = tokens(2, 5)
    picked = logits.log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(next_token_loss(logits, targets), -picked.mean())
    assert next_token_loss(logits.bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 30, "n_heads": 4}, "30 is not divisible by n_heads=4"),
        ({"d_model": 12, "n_heads": 4}, "must be even"),
        ({"activation": "swish"}, "unknown activation 'swish'; known: relu, squared_relu"),
        ({"n_layers": 0}, "n_layers counts something"),
        ({"rope_base": 1.0}, "rope_base is greater than 1"),
        ({"rope_base": math.nan}, "rope_base is a finite number; got nan"),
        ({"n_heads": True}, "n_heads is a whole number; got True"),
    ],
)
def test_a_shape_that_cannot_work_is_refused_when_it_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**fields)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown preset 'huge'; known: tiny, nano, small, gpt2"):
        GPTConfig.preset("huge")
    with pytest.raises(ValueError, match="unknown field 'foo'; known: vocab_size, context, n_layers"):
        GPTConfig.preset("tiny", foo=1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_a_shape_knows_its_number_of_parameters(activation, tied):
    config = GPTConfig(**SMALL, activation=activation, tied=tied)
    assert config.n_parameters == GPT(config).n_parameters


def test_a_sequence_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="17 tokens is longer than the model's context of 16"):
        GPT(GPTConfig(**SMALL))(tokens(1, 17))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tokens(7), r"int64 or int32 of the shape \(batch, time\); got torch.int64 of the shape \(7,\)"),
        (tokens(1, 7).float(), r"int64 or int32 .* got torch.float32"),
        (tokens(1, 7) + 10, "token 20 is outside the vocabulary of 11"),
        (tokens(1, 7) - 20, "token -[0-9]+ is outside the vocabulary of 11"),
    ],
)
def test_tokens_that_are_none_are_refused(bad, message):
    forward = inspect.unwrap(GPT.forward)  # without jaxtyping's hook, as a user meets it
    with pytest.raises(ValueError, match=message):
        forward(GPT(GPTConfig(**SMALL)), bad)


def test_generation_is_a_function_of_its_seed_and_slides_past_the_context():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    first = gpt.generate([1, 2, 3], 40, seed=3)
    assert first == gpt.generate([1, 2, 3], 40, seed=3)
    assert first != gpt.generate([1, 2, 3], 40, seed=4)
    assert len(first) == 43
    assert first[:3] == [1, 2, 3]


def test_temperature_zero_and_top_one_take_the_likeliest_token():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    greedy = gpt.generate([1], 10, temperature=0)
    assert greedy == gpt.generate([1], 10, temperature=2.0, top_k=1, seed=9)
    assert greedy[1] == int(gpt(torch.tensor([[1]]))[0, -1].argmax())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": []}, "at least one token"),
        ({"tokens": [11]}, "token 11 is outside the vocabulary of 11"),
        ({"tokens": [1], "temperature": -1.0}, "temperature is not negative"),
        ({"tokens": [1], "top_k": -1}, "top_k is not negative"),
        ({"tokens": [1], "temperature": math.nan}, "temperature is a finite number"),
        ({"tokens": [1], "seed": 2**70}, "seed is a whole number from 0 to 2"),
    ],
)
def test_generation_refuses_what_it_cannot_continue(arguments, message):
    with pytest.raises(ValueError, match=message):
        GPT(GPTConfig(**SMALL)).stream(**{"n_new": 1} | arguments)  # at once, before the first token is asked for
