"""The transformer: shapes, causality, matched sizes, laws of the initial weights, refusals, generation."""

import inspect
import math

import pytest
import reference
import torch
import torch.nn.functional as F

from minipolycom import model
from minipolycom.activations import ACTIVATION_NAMES, GATED
from minipolycom.model import (
    GPT,
    PRESETS,
    Attention,
    FeedForward,
    GPTConfig,
    KVCache,
    Rotary,
    causal_attention,
    explicit_attention,
    likeliest,
    next_token_loss,
)

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


def test_rotary_positions_turn_pairs_by_their_angles():
    rotary = Rotary(d_head=8, context=32, base=100.0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pair = torch.complex(*x.chunk(2, dim=-1))
    angle = torch.arange(20, 25)[:, None] * 100.0 ** (-torch.arange(0, 8, 2) / 8)
    turned = pair * torch.polar(torch.ones(()), angle)
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rotary(x, start=20), expected, rtol=0, atol=5e-6)  # angles up to 24 in fp32


@pytest.mark.parametrize("shape", [(2, 3, 17, 8), (1, 1, 1, 4), (1, 2, 130, 16)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)])
def test_attention_written_out_equals_its_twin(shape, dtype, tolerance):
    """In bf16 the scores and weights are rounded to 8 bits: values of order one differ by some roundings of them."""
    q, k, v = (
        torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(dtype).requires_grad_() for i in range(3)
    )
    g = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    ours, twin = explicit_attention(q, k, v), causal_attention(q, k, v)
    torch.testing.assert_close(ours, twin, rtol=tolerance, atol=tolerance)
    gradients = (torch.autograd.grad(y, (q, k, v), g) for y in (ours, twin))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1, float(other.abs().max())))


def test_attention_is_written_out_in_bf16_on_a_cpu(monkeypatch):
    """And nowhere else: not in fp32, not where keys have been kept, not for long sequences."""
    called = []
    written_out = model.explicit_attention
    monkeypatch.setattr(model, "explicit_attention", lambda *qkv: called.append(1) or written_out(*qkv))
    gpt, tokens = GPT(GPTConfig(**SMALL)), torch.zeros(1, 4, dtype=torch.long)
    gpt(tokens)
    assert not called
    with torch.autocast("cpu", torch.bfloat16):
        gpt(tokens)
        assert len(called) == SMALL["n_layers"]
        cache = KVCache(gpt.config)
        gpt(tokens[:, :2], cache), gpt(tokens[:, 2:], cache)
        assert len(called) == 2 * SMALL["n_layers"]
        monkeypatch.setattr(model, "EXPLICIT_UP_TO", 3)
        gpt(tokens)
        assert len(called) == 2 * SMALL["n_layers"]


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


@pytest.mark.parametrize("activation", ["polynorm", "polyrelu"])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_the_fused_feed_forward_equals_its_modules(activation, eps):
    layer = FeedForward(GPTConfig(**SMALL, activation=activation))
    layer.activation.eps = eps
    x = torch.randn(5, 3, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted = [x, *layer.parameters()]
    fused, plain = layer(x), layer.down(layer.activation(layer.up(x)))
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)  # the same sums, perhaps in another order
    gradients = (torch.autograd.grad(y.pow(2).sum(), wanted) for y in (fused, plain))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_hooks_on_the_pieces_of_a_feed_forward_fire(monkeypatch):
    layer = FeedForward(GPTConfig(**SMALL))
    x = torch.randn(5, 3, 32, requires_grad=True)
    monkeypatch.setattr(layer.activation, "forward", lambda x: pytest.fail("the fused form was not taken"))
    layer(x)
    monkeypatch.undo()
    for piece in (layer.up, layer.activation, layer.down):
        for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
            fired = []
            hook = getattr(piece, f"register_{register}")(lambda *_, fired=fired: fired.append(1) and None)
            layer(x).sum().backward()
            assert fired == [1], register
            hook.remove()


def test_another_layer_in_the_place_of_one_is_called():
    layer = FeedForward(GPTConfig(**SMALL))
    layer.down = torch.nn.Linear(layer.down.in_features, 32)  # it has a bias, which the fused form would leave out
    x = torch.randn(2, 3, 32)
    assert torch.equal(layer(x), layer.down(layer.activation(layer.up(x))))


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


def test_attention_over_kept_keys_equals_its_definition():
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(2, 3, 9, 4, generator=generator) for _ in range(2))
    for n_new in (1, 4, 9):
        q = torch.randn(2, 3, n_new, 4, generator=generator)
        ours = causal_attention(q, k, v)
        for batch in range(2):
            for head in range(3):
                expected = reference.attention_by_position(q[batch, head], k[batch, head], v[batch, head])
                torch.testing.assert_close(ours[batch, head], expected, rtol=1e-5, atol=1e-6)  # order of sums


MODELS = [{"activation": name} for name in ACTIVATION_NAMES] + [
    {"n_experts": 6},
    {"n_experts": 4, "coefficients": "per_expert", "n_shared_experts": 1},
    {"n_experts": 4, "activation": "swiglu"},
]


@pytest.mark.parametrize("fields", MODELS, ids=str)
@pytest.mark.parametrize("pieces", [[16], [1] * 16, [5, 1, 7, 3]], ids=str)
@torch.no_grad()
def test_a_text_read_in_pieces_gives_the_logits_of_the_whole(fields, pieces):
    gpt, text = GPT(GPTConfig(**SMALL | fields)).eval(), tokens(3, 16)
    cache, read = KVCache(gpt.config), []
    for piece in text.split(pieces, dim=1):
        read.append(gpt(piece, cache))
    assert cache.length == 16
    # one position or sixteen at a time is another order of sums; logits are of size 1
    torch.testing.assert_close(torch.cat(read, dim=1), gpt(text), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_cache_refuses_more_than_the_context_and_another_batch():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    cache = KVCache(gpt.config)
    gpt(tokens(2, 10), cache)
    with pytest.raises(ValueError, match="17 tokens is longer than the model's context of 16"):
        gpt(tokens(2, 7), cache)
    with pytest.raises(ValueError, match="cache holds a batch of 2 texts, the tokens are of 3: make a new KVCache"):
        gpt(tokens(3, 1), cache)


@torch.no_grad()
def uncached(gpt: GPT, text: list[int], n_new: int) -> list[int]:
    """The likeliest continuation, with the whole window read for every token."""
    for _ in range(n_new):
        window = torch.tensor([text[-gpt.config.context :]])
        text = [*text, int(gpt(window)[0, -1].argmax())]
    return text


@pytest.mark.parametrize("fields", MODELS, ids=str)
def test_greedy_generation_gives_the_tokens_of_the_uncached_model_past_the_context_too(fields):
    gpt = GPT(GPTConfig(**SMALL | fields)).eval()
    for prompt in ([1, 2, 3], [*range(11), 0, 3, 1, 4, 1], [5] * 30):
        assert gpt.generate(prompt, 40, temperature=0) == uncached(gpt, prompt, 40)


def test_generation_reads_each_token_once_until_the_window_slides():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    read = []
    gpt.embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].shape[1]))
    gpt.generate([1, 2, 3], 16)
    assert read == [3] + [1] * 13 + [16] * 2


def test_generation_is_a_function_of_its_seed_and_slides_past_the_context():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    first = gpt.generate([1, 2, 3], 40, seed=3)
    assert first == gpt.generate([1, 2, 3], 40, seed=3)
    assert first == [1, 2, 3, *gpt.stream([1, 2, 3], 40, seed=3)]
    assert first != gpt.generate([1, 2, 3], 40, seed=4)
    assert len(first) == 43
    assert first[:3] == [1, 2, 3]


def test_temperature_zero_and_top_one_take_the_likeliest_token():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    greedy = gpt.generate([1], 10, temperature=0)
    assert greedy == gpt.generate([1], 10, temperature=2.0, top_k=1, seed=9)
    assert greedy == gpt.generate([1], 10, temperature=2.0, top_p=1e-9, seed=9)
    assert greedy[1] == int(gpt(torch.tensor([[1]]))[0, -1].argmax())


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_fewest_tokens_that_have_that_probability(top_p):
    for seed in range(20):
        logits = 2 * torch.randn(11, generator=torch.Generator().manual_seed(seed))
        kept = likeliest(logits, 0, top_p)
        assert kept.isfinite().nonzero().flatten().tolist() == reference.nucleus(logits.softmax(-1), top_p)
        assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])


def test_top_k_keeps_the_largest_and_top_p_counts_among_them():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert likeliest(logits, 2, 1.0).isfinite().tolist() == [True, True, False, False]
    assert likeliest(logits, 0, 0.65).isfinite().tolist() == [True, True, False, False]
    assert likeliest(logits, 2, 0.55).isfinite().tolist() == [True, False, False, False]  # 0.4 of 0.7
    assert likeliest(logits, 9, 1.0).isfinite().all()


def test_tokens_are_drawn_from_the_distribution_that_is_left():
    gpt = GPT(GPTConfig(**SMALL)).eval()
    with torch.no_grad():
        logits = gpt(torch.tensor([[1, 2]]))[0, -1]
    expected = likeliest(logits / 0.5, 6, 0.9).softmax(-1)
    drawn = [gpt.generate([1, 2], 1, temperature=0.5, top_k=6, top_p=0.9, seed=seed)[-1] for seed in range(300)]
    share = torch.bincount(torch.tensor(drawn), minlength=11) / len(drawn)
    assert share[expected == 0].sum() == 0
    # a share of 300 draws has a standard error of 0.03 at most; the seeds are fixed
    torch.testing.assert_close(share, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": []}, "at least one token"),
        ({"tokens": [11]}, "token 11 is outside the vocabulary of 11"),
        ({"tokens": [1], "temperature": -1.0}, "temperature is not negative"),
        ({"tokens": [1], "top_k": -1}, "top_k is not negative"),
        ({"tokens": [1], "temperature": math.nan}, "temperature is a finite number"),
        ({"tokens": [1], "top_p": 0.0}, "top_p is a probability greater than 0 and at most 1; got 0.0"),
        ({"tokens": [1], "top_p": 1.5}, "top_p is a probability greater than 0 and at most 1; got 1.5"),
        ({"tokens": [1], "seed": 2**70}, "seed is a whole number from 0 to 2"),
    ],
)
def test_generation_refuses_what_it_cannot_continue(arguments, message):
    with pytest.raises(ValueError, match=message):
        GPT(GPTConfig(**SMALL)).stream(**{"n_new": 1} | arguments)  # at once, before the first token is asked for
