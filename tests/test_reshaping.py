"""A filter behind an activation: it changes the rank and nothing else, and can be taken back."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from minipolycom import ACTIVATIONS, GPT, GPTConfig, TokenData, TrainConfig, fit
from minipolycom.reshaping import (
    FLOOR,
    Reshaped,
    Then,
    absorbed,
    folded,
    hidden_ranks,
    hidden_rows,
    inserted,
    matrix_of,
)
from minipolycom.spectral import effective_rank, singular_values

WIDTH = 64
SHAPE = dict(d_model=16, n_layers=2, n_heads=2, context=16, vocab_size=50)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rows() -> torch.Tensor:
    spectrum = torch.logspace(0, -1.5, WIDTH, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator())).Q
    return torch.randn(500, WIDTH, dtype=torch.float64, generator=generator(1)) * spectrum @ turn + 0.3


@pytest.fixture
def model() -> GPT:
    return GPT(GPTConfig(activation="gelu", **SHAPE), seed=3)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(50, (12, 16), generator=generator(2))


def rank(rows: torch.Tensor) -> float:
    return float(effective_rank(singular_values(rows, centre=True)))


def test_the_exponent_decides_the_rank_and_the_total_variance_stays(rows: torch.Tensor) -> None:
    covariance = torch.cov(rows.T)
    ranks = []
    for sigma in (1.0, 0.5, 0.0, -0.5, -1.0):
        behind = rows @ matrix_of(covariance, sigma)
        ranks.append(rank(behind))
        # float64 through an eigendecomposition of a well-conditioned matrix
        torch.testing.assert_close(torch.cov(behind.T).trace(), covariance.trace(), rtol=1e-9, atol=0)
    assert ranks == sorted(ranks)
    assert ranks[2] == pytest.approx(rank(rows), rel=1e-9)
    assert ranks[-1] == pytest.approx(WIDTH, rel=1e-9)  # none of these directions is under the floor


def test_the_matrix_is_symmetric_and_has_an_inverse_where_directions_are_missing(rows: torch.Tensor) -> None:
    flat = rows.clone()
    flat[:, -8:] = flat[:, :8]  # 8 directions hold nothing
    w = matrix_of(torch.cov(flat.T), -1.0)
    torch.testing.assert_close(w, w.mT, rtol=0, atol=1e-9 * float(w.abs().max()))
    sizes = torch.linalg.svdvals(w)
    assert sizes[0] / sizes[-1] == pytest.approx(1 / FLOOR, rel=1e-6)


def test_rows_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="rows that do not vary have no spectrum to reshape"):
        matrix_of(torch.zeros(3, 3), -0.5)


def test_the_next_matrix_takes_any_matrix_back(rows: torch.Tensor) -> None:
    w = torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH, generator=generator(4))  # not symmetric
    down = torch.randn(5, WIDTH, generator=generator(5))
    # an inverse of a condition number of some tens, in float64
    torch.testing.assert_close(rows @ w.double() @ absorbed(down, w).mT, rows @ down.double().mT, rtol=1e-9, atol=1e-9)


def test_inserted_and_taken_back_a_model_computes_the_same_with_another_rank(model: GPT, tokens: torch.Tensor) -> None:
    matrices = [matrix_of(torch.cov(rows.double().T), -1.0) for rows in hidden_rows(model, tokens)]
    before = copy.deepcopy(model).double()(tokens)
    same, other = (inserted(model, matrices, absorb=absorb) for absorb in (True, False))
    torch.testing.assert_close(same(tokens), before, rtol=0, atol=1e-8)  # the floor bounds the condition at 1000
    assert (other(tokens) - before).abs().max() > 1e-2
    assert hidden_ranks(same, tokens)[0] > 1.2 * hidden_ranks(model, tokens)[0]
    assert hidden_ranks(same, tokens)[0] == pytest.approx(hidden_ranks(other, tokens)[0], rel=1e-9)
    assert type(model.blocks[0].feed_forward.activation) is nn.GELU  # the model itself is as it was


def test_a_matrix_for_each_layer_is_needed(model: GPT) -> None:
    with pytest.raises(ValueError, match="one matrix for each layer: the model has 2; got 1"):
        inserted(model, [torch.eye(WIDTH)], absorb=False)


def test_folded_a_model_computes_the_same_and_shows_the_bare_activation(model: GPT, tokens: torch.Tensor) -> None:
    turn = torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH, generator=generator(6))
    filtered = inserted(model, [turn, turn], absorb=False)
    bare = folded(filtered)
    torch.testing.assert_close(bare(tokens), filtered(tokens), rtol=0, atol=1e-10)
    assert type(bare.blocks[0].feed_forward.activation) is nn.GELU
    assert type(filtered.blocks[0].feed_forward.activation) is Then
    torch.testing.assert_close(hidden_rows(bare, tokens)[0].float(), hidden_rows(model, tokens)[0])


@pytest.mark.parametrize(
    "make", [partial(Then, nn.GELU(), torch.eye(WIDTH)), partial(Reshaped, nn.GELU(), WIDTH, -0.5)]
)
def test_layers_made_from_one_activation_are_still_two(
    make, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIVATIONS, "made", make)
    model = GPT(GPTConfig(activation="made", **SHAPE), seed=3).eval()
    ranks = hidden_ranks(model, tokens)
    assert len(ranks) == len(model.blocks)
    assert hidden_ranks(folded(model), tokens) == pytest.approx(ranks, rel=1e-4)  # here the matrices are identities


def test_a_reshaped_activation_follows_the_spectrum_of_the_batches_before(rows: torch.Tensor) -> None:
    module, rows = Reshaped(nn.Identity(), WIDTH, -0.5, every=1), rows.float()
    assert torch.equal(module(rows), rows)  # of the first batch nothing is known
    second = module(rows)
    assert rank(second) > 1.2 * rank(rows)
    expected = matrix_of(torch.cov(rows.T, correction=0), -0.5)
    torch.testing.assert_close(second, rows @ expected.float(), rtol=1e-3, atol=1e-4)  # a covariance kept in float32


def test_outside_of_training_nothing_changes_and_no_token_sees_a_later_one(rows: torch.Tensor) -> None:
    module, rows = Reshaped(nn.Identity(), WIDTH, -0.5, every=1), rows.float()
    module(rows)
    kept = module.matrix.clone()
    alone, others = module(rows[:1]), module.eval()(rows)
    assert torch.equal(module.matrix, module.eval().matrix)
    module.eval()
    module(rows * 3)
    torch.testing.assert_close(others[:1], rows[:1] @ module.matrix)
    torch.testing.assert_close(alone, rows[:1] @ kept)


def test_the_matrix_is_made_anew_after_every_so_many_batches(rows: torch.Tensor) -> None:
    module, rows = Reshaped(nn.Identity(), WIDTH, -0.5, every=3), rows.float()
    seen = []
    for batch in range(5):
        module(rows[batch * 90 :])
        seen.append(module.matrix)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[2], seen[3])
    assert torch.equal(seen[3], seen[4])


def test_every_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="every"):
        Reshaped(nn.Identity(), 4, -0.5, every=0)


def test_the_matrix_is_a_constant_of_the_step(rows: torch.Tensor) -> None:
    module = Reshaped(nn.Identity(), WIDTH, -0.5, every=1)
    module(rows.float())
    used = module.matrix.clone()
    x = rows.float().requires_grad_()
    module(x).sum().backward()
    torch.testing.assert_close(x.grad, used.sum(1).expand_as(x), rtol=1e-5, atol=1e-5)


def test_a_fixed_matrix_is_kept_in_one_piece_as_files_of_weights_need_it() -> None:
    turn = torch.randn(4, 4, generator=generator()).mT
    assert not turn.is_contiguous()
    module = Then(nn.Identity(), turn)
    assert module.matrix.is_contiguous()
    assert torch.equal(module(torch.eye(4)), turn)


def test_it_trains_in_a_model_and_comes_back_from_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(ACTIVATIONS, "reshaped", lambda: Reshaped(nn.GELU(), WIDTH, -0.5))
    data = TokenData("grammar", context=16, batch_size=4, tokenizer="words")
    shape = GPTConfig(activation="reshaped", **{**SHAPE, "vocab_size": data.tokenizer.vocab_size})
    settings = TrainConfig(steps=7, warmup_steps=2, eval_every=7, eval_batches=2, checkpoint_every=7, record_every=0)
    run = fit(data, shape, settings, out=tmp_path / "run", progress=False)
    module = run.model().blocks[0].feed_forward.activation
    assert module.batches >= settings.steps  # before a checkpoint a training looks at its last batch once more
    assert not torch.equal(module.matrix, torch.eye(WIDTH))
