"""What a learner reads: verdicts on answers that are right, untouched, broken or unforeseen; hints and solutions."""

import dataclasses
import math
import os
import re
import signal
import sys
import threading
import time

import pytest
import torch

from minipolycom.learn import (
    EXERCISES,
    Case,
    Exercise,
    Values,
    WrongAnswer,
    check,
    exercise_table,
    grid,
    hint,
    ladder,
    list_exercises,
    progress_map,
    reference,
    running,
    solution,
    value_ladder,
)
from minipolycom.learn.grading import Verdict, grade

entropy, silu = EXERCISES["unigram_entropy"], EXERCISES["silu_derivative"]


@pytest.fixture(autouse=True)
def own_record(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_PROGRESS", str(tmp_path / "progress.json"))


def double(x: torch.Tensor) -> torch.Tensor:
    """Twice x."""
    return 2 * x


def sample(**changes) -> Exercise:
    """A small exercise to try the machinery on."""
    fields = dict(
        name="double", notebook="00_start_here", statement="Double it.", difficulty=1, importance=1, minutes=1,
        reference=double, hints=("Add it to itself.", "2 * x"), explanation="Twice.", right=(lambda x: x + x,),
        cases=grid(lambda shape, generator: (torch.randn(shape, generator=generator),), shapes=((2, 3), (4, 1))),
        ladder=ladder(Values(rtol=1e-6, atol=1e-6, because="one product is rounded once")),
        bank=tuple(
            WrongAnswer(answer=lambda x, k=k: k * x, misconception=f"{k} times", says=f"This is {k} times x.")
            for k in (1, 3, 4, 5)
        ),
    )  # fmt: skip
    return Exercise(**fields | changes)


# --- not attempted


def stub_with_a_docstring(counts):
    """Only words."""


def scaffold(counts):
    p = ...
    return p


def not_yet(counts):
    raise NotImplementedError("later")


@pytest.mark.parametrize("answer", [None, ..., NotImplemented, stub_with_a_docstring, scaffold, not_yet])
def test_untouched_answers_are_not_wrong(answer):
    verdict = check("unigram_entropy", answer)
    assert verdict.status == "not attempted"
    assert "○ not attempted: unigram_entropy" in str(verdict)
    assert 'hint("unigram_entropy")' in str(verdict)


def test_a_stub_with_code_in_it_is_recognised():
    exercise = sample(stub="def double(x):\n    twice = x  # change this\n    return twice")
    scope = {}
    exec(exercise.stub, scope)
    assert grade(exercise, scope["double"]).status == "not attempted"
    assert grade(exercise, lambda x: x).misconception == "1 times"  # the same result by code of one's own is an answer


def test_a_library_that_is_not_implemented_is_not_an_untouched_stub():
    class Forgotten(torch.nn.Module):
        def forwards(self, x):
            return x

    verdict = grade(sample(), Forgotten())
    assert verdict.status == "wrong"
    assert "NotImplementedError" in verdict.seen


# --- what was seen


def test_a_wrong_value_is_shown_beside_the_expected_one_with_its_arguments():
    verdict = grade(silu, lambda x: torch.where(x > 3, 7.0, silu.reference(x).float()).to(x.dtype))
    assert verdict.check == "values"
    assert verdict.rows == (("[0, 0]", "1.08538", "7"),)
    assert "1 of 10 entries of the result differ, the first at [0, 0]." in verdict.seen
    assert "x = a float32 tensor of shape (2, 5) [3.08199, -0.586858" in str(verdict)
    assert torch.equal(verdict.arguments[0], silu.cases[0].make()[0])
    assert verdict.misconception is None
    assert "Why" not in str(verdict)


def test_where_an_answer_is_right_and_wrong_is_said_by_shape_and_by_seed():
    by_shape = grade(sample(), lambda x: 2 * x if x.shape == (2, 3) else x + 1)
    assert "Right at shape (2, 3). Wrong at shape (4, 1)." in by_shape.seen
    first = sample().cases[0].make()[0][0, 0]
    by_seed = grade(sample(cases=sample().cases[:2]), lambda x: 2 * x if x[0, 0] == first else x + 1)
    assert "Right at random seed 0. Wrong at random seed 1." in by_seed.seen


def test_shapes_are_never_broadcast_together():
    verdict = grade(sample(), lambda x: 2 * x[None])
    assert verdict.check == "shape"
    assert "The shape of the result is (1, 2, 3); expected is (2, 3)." in verdict.seen
    one_number = grade(entropy, lambda counts: entropy.reference(counts)[None])
    assert "is (1,); expected is ()." in one_number.seen


def test_swapped_axes_are_named_only_where_they_are_swapped():
    square = sample(cases=grid(lambda n, generator: (torch.randn(n, n, generator=generator),), shapes=(3, 4)))
    assert "with its two axes swapped" in grade(square, lambda x: 2 * x.T).seen
    assert "swapped" not in grade(square, lambda x: 2 * x.T + x).seen


def test_a_simple_law_between_expected_and_received_is_said():
    assert "received is 1.4427 times the expected value" in grade(entropy, entropy.bank[0].answer).seen
    assert "received is minus the expected value" in grade(sample(), lambda x: -2 * x).seen
    assert "In every case" not in grade(sample(), lambda x: 2 * x + x**2).seen


def test_precision_is_spoken_of_only_where_it_is_the_matter():
    assert (
        "allowed is 1e-06 + 1e-06 × |expected|: one product is rounded once"
        in grade(sample(), lambda x: 2.0001 * x).seen
    )
    assert "allowed" not in grade(sample(), lambda x: 2 * x.abs() + 1).seen


def test_dtype():
    assert "The dtype of the result is float64; expected is float32." in grade(sample(), lambda x: 2 * x.double()).seen


def test_an_input_changed_in_place_is_told_by_name():
    verdict = grade(sample(), lambda x: x.mul_(2))
    assert verdict.check == "inputs kept"
    assert "The call changed its input `x`: it was a float32 tensor" in verdict.seen


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: (2 * x,), "A comma at the end of a `return` line makes a tuple. The numbers in it are right."),
        (lambda x: (2 * x).tolist(), "yours returned a list of 2"),
        (lambda x: (2 * x).numpy(), "yours returned a numpy array of shape (2, 3). The numbers in it are right."),
        (lambda x: float(x.sum()), "`.item()` and `float()` give Python numbers"),
        (lambda x: print(end=""), "A function returns None when no `return` with a value is reached."),
        (lambda x: "2x", "yours returned the text '2x'"),
        (lambda x: (yield 2 * x), "A function with `yield` or `async` in it"),
        (lambda x: (2 * x).to_sparse(), "yours returned a sparse tensor of shape (2, 3)"),
        (lambda x: {"y": 2 * x}, "yours returned an object of type dict"),
        (lambda x: double, "yours returned the function `double`"),
    ],
)  # fmt: skip
def test_a_result_of_the_wrong_kind_has_its_own_sentence(answer, said):
    verdict = grade(sample(), answer)
    assert verdict.check == "kind of result"
    assert said in verdict.seen
    assert "A tensor is expected" in verdict.seen


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.ones(2), "A function is expected; received a float32 tensor of shape (2,) [1, 1]."),
        ("double", "A function is expected; received the text 'double'."),
        (3, "`check('double', double)`, without parentheses after the function's name"),
        (torch.nn.ReLU, "A function is expected; received the class `ReLU`."),
        (lambda: 1, "It is called with 1 argument (x); yours takes `()`."),
        (lambda x, y: x, "It is called with 1 argument (x); yours takes `(x, y)`."),
        (lambda *, x: x, "It is called with 1 argument (x); yours takes `(*, x)`."),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_fitting_function_has_its_own_sentence(answer, said):
    verdict = grade(sample(), answer)
    assert verdict.check == "function"
    assert said in verdict.seen


def test_a_module_is_as_good_as_a_function():
    class Double(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    assert grade(sample(), Double()).passed


# --- exceptions and endless calls


def raises(x):
    if x.shape[0] == 4:
        return x @ x
    return 2 * x


def test_an_exception_is_reported_with_its_line_and_its_arguments():
    verdict = grade(sample(), raises)
    assert verdict.check == "runs"
    assert "Your code raised RuntimeError: mat1 and mat2 shapes cannot be multiplied" in verdict.seen
    assert "of test_exercises.py: `return x @ x`" in verdict.seen
    assert "It ran at shape (2, 3), seed 0; shape (2, 3), seed 1." in verdict.seen
    assert verdict.arguments[0].shape == (4, 1)


def half_a_scaffold(counts):
    p = ...
    return -(p * p.log()).sum()


def test_dots_in_the_way_are_pointed_out():
    assert "A `...` is still standing where a value is needed." in grade(entropy, half_a_scaffold).seen


def swallows_everything(x):
    while True:
        try:  # noqa: SIM105  it is a learner's way of writing it
            sum(range(100))
        except BaseException:
            pass


def looping(x):
    while True:
        pass


def is_running(function) -> bool:
    return any(frame.f_code is function.__code__ for frame in sys._current_frames().values())


@pytest.mark.parametrize("answer", [looping, swallows_everything])
@pytest.mark.parametrize("in_main_thread", [True, False])
def test_an_endless_call_is_stopped(answer, in_main_thread):
    found = []
    work = threading.Thread(target=lambda: found.append(grade(sample(), answer, seconds=0.2)))
    if in_main_thread:
        work.run()
    else:
        work.start()
        work.join()
    assert found[0].check == "runs"
    assert "The call was still running after 0.2 s and was stopped. It was at line" in found[0].seen
    assert "test_exercises.py" in found[0].seen
    assert found[0].misconception is None
    assert not is_running(answer)


def test_one_long_operation_is_left_behind_and_said_so(monkeypatch):
    monkeypatch.setattr(running, "GRACE", 0.1)
    verdict = grade(sample(), lambda x: time.sleep(1.5), seconds=0.1)
    assert "could not be stopped, so it goes on in the background; restart the kernel" in verdict.seen


def test_interrupting_the_cell_ends_the_call_too():
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        grade(sample(), looping)
    interrupt.join()
    assert not is_running(looping)


def test_the_time_limit_is_what_the_docstring_says():
    assert running.TIME_LIMIT == 10
    assert "10 seconds" in check.__doc__


def test_an_answer_is_graded_the_same_inside_no_grad_and_inference_mode():
    with torch.no_grad():
        assert grade(silu, silu.reference).passed
    with torch.inference_mode():
        assert grade(silu, silu.reference).passed


# --- a cause is named only where it is established


def test_two_entries_that_behave_alike_are_both_kept_quiet():
    twins = (*sample().bank, WrongAnswer(answer=lambda x: 3 * x, misconception="a twin", says="This is three times x."))
    assert grade(sample(bank=twins), lambda x: 3 * x).misconception is None
    assert grade(sample(), lambda x: 3 * x).misconception == "3 times"


def test_a_wrong_answer_that_agrees_with_the_bank_on_some_cases_only_gets_no_cause():
    verdict = grade(sample(), lambda x: 3 * x if x.shape == (2, 3) else 3 * x + 1e-3)
    assert verdict.status == "wrong"
    assert verdict.misconception is None


def fails_on_tall(x):
    if x.shape[0] == 4:
        raise RuntimeError("too tall")
    return 2 * x


def test_an_exception_alone_establishes_no_cause():
    bank = (*sample().bank, WrongAnswer(answer=fails_on_tall, misconception="fear of heights", says="..."))
    assert grade(sample(bank=bank), fails_on_tall).misconception is None


def other_dtype(function):
    return lambda *arguments: function(*arguments).double()


UNFORESEEN = {
    "unigram_entropy": [
        lambda c: torch.tensor(3.2),
        lambda c: (c / c.sum()).sum(),
        lambda c: (c / c.sum()).square().sum(),
        lambda c: 1 - (c / c.sum()).square().sum(),
        lambda c: -(c / c.sum()).log().sum(),
        lambda c: -(c / c.sum()).amax().log(),
        lambda c: -(c / len(c) * (c / len(c) + 1e-9).log()).sum(),
        lambda c: -(c / c.sum() * (c / c.sum() + 1e-2).log()).sum(),
        lambda c: -(c / c.sum() * (c / c.sum() + 1e-9).log10()).sum(),
        lambda c: (c / c.sum()).std(correction=0),
        lambda c: torch.special.entr(c / c.max()).sum(),
        lambda c: c.float().log().mean(),
        lambda c: entropy.reference(c[1:]) if len(c) > 1 else entropy.reference(c),
        lambda c: entropy.reference(c).round(decimals=2),
        lambda c: entropy.reference(c) / math.log(256),
        lambda c: entropy.reference(c.float().sqrt()),
        other_dtype(entropy.reference),
    ],
    "collapse_linear": [
        lambda w, b: (w[-1], b[-1]),
        lambda w, b: (w[0], b[0]),
        lambda w, b: (torch.zeros(w[-1].shape[0], w[0].shape[1]), b[-1]),
        lambda w, b: reference("collapse_linear")(w[1:] or w, b[1:] or b),
        lambda w, b: reference("collapse_linear")(w, b)[0],
        lambda w, b: reference("collapse_linear")(w, b)[::-1],
        lambda w, b: (reference("collapse_linear")(w, b)[0], b[0]),
        lambda w, b: (-reference("collapse_linear")(w, b)[0], reference("collapse_linear")(w, b)[1]),
        lambda w, b: (reference("collapse_linear")(w, b)[0], reference("collapse_linear")(w, b)[1][:, None]),
        lambda w, b: tuple(torch.relu(part) for part in reference("collapse_linear")(w, b)),
        lambda w, b: sum(w),
    ],
    "silu_derivative": [
        torch.relu,
        torch.cos,
        lambda x: x,
        lambda x: torch.ones_like(x),
        lambda x: torch.sigmoid(x) ** 2,
        lambda x: torch.tanh(x),
        lambda x: torch.sigmoid(x) * (1 + x * torch.sigmoid(x)),
        lambda x: torch.sigmoid(-x) * (1 + x * (1 - torch.sigmoid(-x))),
        lambda x: torch.sigmoid(1.702 * x),
        lambda x: (torch.nn.functional.silu(x + 1e-2) - torch.nn.functional.silu(x)) / 1e-2,
        lambda x: silu.reference(x).clamp(0, 1),
        lambda x: torch.autograd.functional.jacobian(torch.nn.functional.silu, x),
        lambda x: silu.reference(x).sum(),
    ],
    "dead_fraction": [
        lambda z: (z <= 0).all().float(),
        lambda z: (z <= 0).any().float(),
        lambda z: (z[-1] <= 0).float().mean(),
        lambda z: (z.sum(dim=1) <= 0).float().mean(),
        lambda z: torch.relu(z).mean(),
        lambda z: (z.amin(dim=0) <= 0).sum() / z.shape[0],
        lambda z: (z <= 0).all(dim=0).float().std(),
        lambda z: (z <= 0).float().mean(dim=0),
        lambda z: (z <= 0).all(dim=0).sum() / z.numel(),
        lambda z: (z < 1e-1).all(dim=0).float().mean(),
        lambda z: (z <= 0).all(dim=0).float().mean() * 100,
    ],
    "relu_gain": [0, 3.0, -(2**0.5), math.e, math.pi, 1.5, 1.4, 1 / 3, math.nan, math.inf, "sqrt(2)", [1.414], True],
    "polyrelu": [
        lambda x, w, b: torch.relu(x) + b,
        lambda x, w, b: w.sum() * torch.relu(x) + b,
        lambda x, w, b: torch.relu(reference("polyrelu")(x, w, b)),
        lambda x, w, b: reference("polyrelu")(x, w, b).clamp(-10, 10) + 0.5 * x,
        lambda x, w, b: reference("polyrelu")(x.abs(), w, b),
        lambda x, w, b: reference("polyrelu")(-x, w, b),
        lambda x, w, b: reference("polyrelu")(x, w, -b),
        lambda x, w, b: reference("polyrelu")(torch.nn.functional.gelu(x), w, b),
        lambda x, w, b: reference("polynorm")(torch.relu(x), w, b),
        lambda x, w, b: reference("polyrelu")(x, w, b).sum(),
        other_dtype(lambda x, w, b: reference("polyrelu")(x, w, b)),
    ],
    "polynorm": [
        lambda x, w, b: x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6),
        lambda x, w, b: reference("polynorm")(x, w, b).abs(),
        lambda x, w, b: reference("polynorm")(torch.relu(x), w, b),
        lambda x, w, b: reference("polyrelu")(x, w, b),
        lambda x, w, b: reference("polynorm")(x, w.abs(), b),
        lambda x, w, b: reference("polynorm")(x, w / w.sum(), b),
        lambda x, w, b: reference("polynorm")(x, w, b) / len(w),
        lambda x, w, b: reference("polynorm")(x - x.mean(dim=-1, keepdim=True), w, b),
        lambda x, w, b: reference("polynorm")(x[..., :-1], w, b),
        lambda x, w, b: reference("polynorm")(x.mT, w, b),
        lambda x, w, b: reference("polynorm")(x, w, b).detach().round(decimals=1),
        lambda x, w, b: x / x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6) * w.sum() + b,
    ],
    "l2_shrinks": [0, 55, 3072**2, 8256**0.5, 1 / 3072, math.log(3072), -(3072**0.5), math.nan, "sqrt(3072)", True],
    "size_at_start": [0, 0.7, 0.775, 1.41, 15**0.5, (5 / 9) ** 0.5, 2 / 3, -0.711, math.inf, "0.711", [0.711]],
    "effective_rate": [0, 8, 3, 15, -16, 16**2, 1 / 2, math.nan, "16", "eta / 16", [16]],
    "polynorm_backward": [
        lambda x, g, w, eps: g,
        lambda x, g, w, eps: g * x,
        lambda x, g, w, eps: torch.zeros_like(x),
        lambda x, g, w, eps: reference("polynorm_backward")(x, torch.ones_like(g), w, eps),
        lambda x, g, w, eps: reference("polynorm_backward")(g, x, w, eps),
        lambda x, g, w, eps: reference("polynorm_backward")(x, g, w, 1e-2),
        lambda x, g, w, eps: reference("polynorm_backward")(x, g, w, eps).mean(dim=0),
        lambda x, g, w, eps: reference("polynorm_backward")(x, g, w.abs(), eps),
        lambda x, g, w, eps: g * reference("polynorm")(x, w, torch.zeros(1, dtype=x.dtype)),
        lambda x, g, w, eps: reference("polynorm_backward")(x, g, w, eps) - g.mean(dim=-1, keepdim=True) * x,
        lambda x, g, w, eps: reference("polynorm_backward")(x.float(), g.float(), w.float(), eps),
    ],
    "rmsnorm": [
        lambda x, w: x,
        lambda x, w: x * w,
        lambda x, w: w * torch.tanh(x),
        lambda x, w: x / x.abs().amax(-1, keepdim=True) * w,
        lambda x, w: reference("rmsnorm")(x, w) + 1e-3,
        lambda x, w: reference("rmsnorm")(x, w * w),
        lambda x, w: reference("rmsnorm")(reference("rmsnorm")(x, w), w),
        lambda x, w: torch.nn.functional.rms_norm(x, w.shape, w, eps=1e-3),
        lambda x, w: reference("rmsnorm")(x, w).double(),
    ],
    "rotate": [
        lambda x: x,
        lambda x: -x,
        lambda x: x.flip(-1),
        lambda x: reference("rotate")(x.flip(-1)),
        lambda x: reference("rotate")(reference("rotate")(x)),
        lambda x: reference("rotate")(x.flip(-2)).flip(-2),
        lambda x: torch.cat([reference("rotate")(x).chunk(2, -1)[0], x.chunk(2, -1)[1]], -1),
        lambda x: reference("rotate")(x).transpose(1, 2),
        lambda x: x * torch.arange(x.shape[-2])[:, None].cos(),
    ],
    "causal_attention": [
        lambda q, k, v: v,
        lambda q, k, v: v.cumsum(-2),
        lambda q, k, v: v.mean(-2, keepdim=True).expand_as(v),
        lambda q, k, v: reference("causal_attention")(q, q, v),
        lambda q, k, v: reference("causal_attention")(q, k, k),
        lambda q, k, v: reference("causal_attention")(q, k, v) + v,
        lambda q, k, v: reference("causal_attention")(2 * q, 2 * k, v),
        lambda q, k, v: (q @ k.mT).tril() @ v,
        lambda q, k, v: reference("causal_attention")(q, k, v).flatten(1),
    ],
    "swiglu": [
        lambda x, g, u, d: x,
        lambda x, g, u, d: reference("swiglu")(x, u, u, d),
        lambda x, g, u, d: reference("swiglu")(x, g, g, d),
        lambda x, g, u, d: x + reference("swiglu")(x, g, u, d),
        lambda x, g, u, d: (torch.relu(x @ g.T) * (x @ u.T)) @ d.T,
        lambda x, g, u, d: (torch.tanh(x @ g.T) * (x @ u.T)) @ d.T,
        lambda x, g, u, d: reference("swiglu")(x, -g, u, d),
        lambda x, g, u, d: reference("swiglu")(x, 1.702 * g, u, d),
        lambda x, g, u, d: reference("swiglu")(x, g, u, d).sum(0),
    ],
    "gated_width": [0, 5000, 5632, 6192, -5504, 11272192],
    "transformer_block": [
        lambda x, a, f: x,
        lambda x, a, f: 2 * x,
        lambda x, a, f: reference("transformer_block")(reference("transformer_block")(x, a, f), a, f),
        lambda x, a, f: reference("transformer_block")(x, a, f) - x,
        lambda x, a, f: reference("transformer_block")(x, (a[0], a[1].flip(0), a[2]), f),
        lambda x, a, f: reference("transformer_block")(x, a, (*f[:2], f[2].flip(0), *f[3:])),
        lambda x, a, f: reference("transformer_block")(x, a, (*f[:3], 0 * f[3], f[4])),
        lambda x, a, f: reference("rmsnorm")(reference("transformer_block")(x, a, f), f[0]),
        lambda x, a, f: reference("transformer_block")(x.double(), a, f),
    ],
    "preactivation_std": [0.6, 0.7, 0.711, 0.16, 2.5, -0.632],
    "four_neurons": [
        lambda x: (torch.zeros(len(x), 4), torch.zeros(len(x))),
        lambda x: (reference("four_neurons")(x)[0], x[:, 0] + x[:, 1]),
        lambda x: (reference("four_neurons")(x)[0], reference("four_neurons")(x)[1][:, None]),
        lambda x: (reference("four_neurons")(x)[0] ** 2, reference("four_neurons")(x)[1]),
        lambda x: (reference("four_neurons")(x)[0] + 1e-2, reference("four_neurons")(x)[1]),
        lambda x: reference("four_neurons")(x)[::-1],
        lambda x: tuple(part.double() + 1 for part in reference("four_neurons")(x)),
    ],
    "shared_readout": [
        lambda w, s: torch.eye(len(w), dtype=w.dtype),
        lambda w, s: torch.ones(len(w), len(w), dtype=w.dtype),
        lambda w, s: reference("shared_readout")(w, s) + 1,
        lambda w, s: -reference("shared_readout")(w, s),
        lambda w, s: reference("shared_readout")(w, s).abs(),
        lambda w, s: reference("shared_readout")(w, s)[0],
        lambda w, s: reference("shared_readout")(w, s).triu(),
        lambda w, s: reference("shared_readout")(w, s).round(decimals=1),
    ],
    "sawtooth_square": [
        lambda x, c: x,
        lambda x, c: x**3,
        lambda x, c: torch.zeros_like(x),
        lambda x, c: torch.relu(2 * x - 1),
        lambda x, c: reference("sawtooth_square")(x, c) ** 2,
        lambda x, c: reference("sawtooth_square")(x, c).sqrt(),
        lambda x, c: reference("sawtooth_square")(x, c).sum(),
        lambda x, c: reference("sawtooth_square")(x, c)[:, None],
        other_dtype(lambda x, c: reference("sawtooth_square")(x, c) + 1e-2),
    ],
    "best_error": [
        lambda k: torch.zeros((), dtype=k.dtype),
        lambda k: torch.ones((), dtype=k.dtype),
        lambda k: k.diff().max(),
        lambda k: k.diff().std() ** 2,
        lambda k: -reference("best_error")(k),
        lambda k: reference("best_error")(k).sqrt(),
        lambda k: 2 ** -torch.tensor(float(len(k)), dtype=k.dtype),
        lambda k: reference("best_error")(k)[None],
    ],
    "relu_twin": [-16, 17, 15.5, math.pi, math.nan, "16"],
    "patchwork": [
        lambda x, c, t: torch.zeros_like(x),
        lambda x, c, t: x,
        lambda x, c, t: reference("patchwork")(x, c, t) + 0.1,
        lambda x, c, t: -reference("patchwork")(x, c, t),
        lambda x, c, t: reference("patchwork")(1 - x, c, t),
        lambda x, c, t: reference("patchwork")(x, c, t.flip(0)),
        lambda x, c, t: reference("patchwork")(x, c, t) ** 2,
        lambda x, c, t: reference("patchwork")(x, c, t)[:, None],
        lambda x, c, t: reference("patchwork")(x, c, t).sum(),
    ],
    "rate_slope": [
        lambda n, e: torch.zeros((), dtype=n.dtype),
        lambda n, e: torch.tensor(-1.0, dtype=n.dtype),
        lambda n, e: reference("rate_slope")(n, e) + 0.1,
        lambda n, e: reference("rate_slope")(n, e) ** 2,
        lambda n, e: reference("rate_slope")(n, e).round(),
        lambda n, e: reference("rate_slope")(n, e.sqrt()),
        lambda n, e: reference("rate_slope")(n, e)[None],
        lambda n, e: e.log(),
    ],
    "steps_to_target": [
        lambda steps, losses, target: torch.zeros(len(losses)),
        lambda steps, losses, target: losses[:, -1],
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target) + 0.1,
        lambda steps, losses, target: -reference("steps_to_target")(steps, losses, target),
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target).flip(0),
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target)[:, None],
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target).min(),
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target + 0.3),
        lambda steps, losses, target: reference("steps_to_target")(steps, losses, target) ** 2,
    ],
    "above_floor": [
        lambda q, p, tokens: torch.zeros(()),
        lambda q, p, tokens: reference("above_floor")(q, p, tokens) + 0.1,
        lambda q, p, tokens: reference("above_floor")(p, q.flip(1), tokens),
        lambda q, p, tokens: reference("above_floor")(q, p, tokens).abs().sqrt() + 1,
        lambda q, p, tokens: reference("above_floor")(q, p, tokens)[None],
        lambda q, p, tokens: reference("above_floor")(q, p, tokens.flip(0)),
        lambda q, p, tokens: reference("above_floor")(q.exp(), p.exp(), tokens),
        lambda q, p, tokens: (q - p).square().mean(),
        lambda q, p, tokens: q,
    ],
    "chosen_rate": [
        lambda rates, losses: torch.zeros(()),
        lambda rates, losses: reference("chosen_rate")(rates, losses) + 0.1,
        lambda rates, losses: 2 * reference("chosen_rate")(rates, losses),
        lambda rates, losses: -reference("chosen_rate")(rates, losses),
        lambda rates, losses: reference("chosen_rate")(rates, losses).log(),
        lambda rates, losses: reference("chosen_rate")(rates, losses)[None],
        lambda rates, losses: rates.mean(),
        lambda rates, losses: rates,
    ],
    "paired_difference": [
        lambda a, b: torch.zeros(3, dtype=a.dtype),
        lambda a, b: reference("paired_difference")(a, b) + 0.1,
        lambda a, b: -2 * reference("paired_difference")(a, b),
        lambda a, b: reference("paired_difference")(a, b).abs() + 1,
        lambda a, b: reference("paired_difference")(a, b).flip(0),
        lambda a, b: reference("paired_difference")(a, b)[:2],
        lambda a, b: reference("paired_difference")(a, b)[:, None],
        lambda a, b: reference("paired_difference")(a, b).exp(),
        lambda a, b: a - b,
    ],
    "seeds_needed": [
        lambda d: torch.zeros((), dtype=d.dtype),
        lambda d: reference("seeds_needed")(d) + 1,
        lambda d: 2 * reference("seeds_needed")(d),
        lambda d: -reference("seeds_needed")(d),
        lambda d: reference("seeds_needed")(d).sqrt(),
        lambda d: reference("seeds_needed")(d)[None],
        lambda d: d,
        lambda d: torch.tensor(float(len(d)), dtype=d.dtype),
    ],
    "plain_passes": [0, 35, 40, 3.3, 66, math.nan, "33"],
    "kept_units": [0, 2, 4, 7, -6, math.nan, "6"],
    "fused_backward": [
        lambda g, x, w, r: (g, w, g.sum().reshape(1)),
        lambda g, x, w, r: tuple(torch.zeros_like(part) for part in reference("fused_backward")(g, x, w, r)),
        lambda g, x, w, r: tuple(part + 0.1 for part in reference("fused_backward")(g, x, w, r)),
        lambda g, x, w, r: tuple(-part for part in reference("fused_backward")(g, x, w, r)),
        lambda g, x, w, r: reference("fused_backward")(g, x, w, r)[0],
        lambda g, x, w, r: reference("fused_backward")(g, x, w, r)[::-1],
        lambda g, x, w, r: reference("fused_backward")(x, g, w, r),
        lambda g, x, w, r: reference("fused_backward")(g, x, w, r**2),
        lambda g, x, w, r: reference("fused_backward")(g, x.abs(), w, r),
        lambda g, x, w, r: reference("fused_backward")(g, x, w, torch.ones_like(r)),
    ],
    "kept_at_peak": [
        lambda k, n, m: torch.zeros_like(k),
        lambda k, n, m: k,
        lambda k, n, m: reference("kept_at_peak")(k, n, m) + 1,
        lambda k, n, m: reference("kept_at_peak")(k, n, m).sqrt(),
        lambda k, n, m: reference("kept_at_peak")(k, n, m).flip(0),
        lambda k, n, m: reference("kept_at_peak")(k, n, m).min(),
        lambda k, n, m: reference("kept_at_peak")(k, n, m)[:, None],
        lambda k, n, m: k / n + k * m,
    ],
    "matmul_roof": [
        lambda d, n, i, p, b: torch.zeros_like(d),
        lambda d, n, i, p, b: d,
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, p, b) + 1,
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, p, b) / 2,
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, p, b).flip(0),
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, p, b).max(),
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, p, b)[:, None],
        lambda d, n, i, p, b: reference("matmul_roof")(d, n, i, b, p),
    ],
    "sixth_power_limit": [0, 5.0, 6.0, 7.0, 635, math.nan, "6.35"],
    "alignment_loss": [
        lambda a, b: torch.tensor(-1.0),
        lambda a, b: torch.zeros(()),
        lambda a, b: reference("alignment_loss")(a, b) + 0.1,
        lambda a, b: reference("alignment_loss")(a, b) ** 3,
        lambda a, b: reference("alignment_loss")(a, b).exp(),
        lambda a, b: reference("alignment_loss")(a, b)[None],
        lambda a, b: reference("alignment_loss")(a, b.flip(0)),
        lambda a, b: reference("alignment_loss")(a.abs(), b.abs()),
        lambda a, b: a,
        lambda a, b: reference("alignment_loss")(a, b).round(decimals=1),
    ],
    "surviving_modes": [
        lambda e, rho, t: e,
        lambda e, rho, t: torch.zeros_like(e),
        lambda e, rho, t: reference("surviving_modes")(e, rho, t) + 0.1,
        lambda e, rho, t: reference("surviving_modes")(e, rho, t).flip(0),
        lambda e, rho, t: reference("surviving_modes")(e, rho, t).sqrt() + 1,
        lambda e, rho, t: reference("surviving_modes")(e, rho, t).sum(),
        lambda e, rho, t: reference("surviving_modes")(e, rho, t)[:, None],
        lambda e, rho, t: reference("surviving_modes")(e, rho, t) * rho,
    ],
    "rank_by_hand": [0, 7, -2, 2.5, 2.9, math.pi, math.nan, "2.83"],
    "effective_rank": [
        lambda e: torch.zeros(()),
        lambda e: reference("effective_rank")(e) + 1,
        lambda e: reference("effective_rank")(e) ** 2,
        lambda e: reference("effective_rank")(e).sqrt(),
        lambda e: -reference("effective_rank")(e),
        lambda e: reference("effective_rank")(e).round(),
        lambda e: reference("effective_rank")(e)[None],
        lambda e: reference("effective_rank")(e[1:]),
        lambda e: e,
        lambda e: reference("effective_rank")(e) / len(e),
    ],
    "feature_std": [
        lambda z: torch.zeros(()),
        lambda z: torch.ones(()),
        lambda z: reference("feature_std")(z) + 0.1,
        lambda z: -reference("feature_std")(z),
        lambda z: 1 - reference("feature_std")(z),
        lambda z: reference("feature_std")(z).sqrt() + 1,
        lambda z: reference("feature_std")(z)[None],
        lambda z: reference("feature_std")(z[1:]),
        lambda z: z,
        lambda z: reference("feature_std")(z.abs()),
    ],
    "stop_gradient": [3, 1.5, 0.7, math.nan, "0.5"],
    "rank_difference": [
        lambda a, b: torch.zeros(()),
        lambda a, b: reference("rank_difference")(a, b).abs() + 0.1,
        lambda a, b: reference("rank_difference")(a, b) ** 3,
        lambda a, b: reference("rank_difference")(a, b)[None],
        lambda a, b: reference("rank_difference")(a.T, b.T) + 0.5,
        lambda a, b: (torch.linalg.matrix_rank(b) - torch.linalg.matrix_rank(a)).float(),
        lambda a, b: b.std() - a.std(),
        lambda a, b: torch.linalg.svdvals(b)[0] - torch.linalg.svdvals(a)[0],
        other_dtype(lambda a, b: reference("rank_difference")(a, b)),
        lambda a, b: b,
    ],
    "simsiam_loss": [
        lambda a, b, w: torch.zeros(()),
        lambda a, b, w: reference("simsiam_loss")(a, b, w) + 1,
        lambda a, b, w: reference("simsiam_loss")(a, b, w) ** 3,
        lambda a, b, w: reference("simsiam_loss")(a, a, w),
        lambda a, b, w: reference("simsiam_loss")(a, b, w @ w),
        lambda a, b, w: reference("simsiam_loss")(a.T, b.T, torch.eye(len(a))),
        lambda a, b, w: reference("simsiam_loss")(a, b.roll(1, 0), w),
        lambda a, b, w: reference("simsiam_loss")(a, b, w).item(),
        lambda a, b, w: (a @ w - b.detach()).square().mean(),
        lambda a, b, w: reference("simsiam_loss")(a, b.detach(), w),
    ],
    "momentum_update": [
        lambda slow, fast, m: slow,
        lambda slow, fast, m: fast,
        lambda slow, fast, m: slow + fast,
        lambda slow, fast, m: m * (slow + fast),
        lambda slow, fast, m: (1 - m) * (slow + fast),
        lambda slow, fast, m: slow**m * fast ** (1 - m),
        lambda slow, fast, m: (m * slow + (1 - m) * fast).sum(),
        lambda slow, fast, m: (m * slow + (1 - m) * fast)[None],
        lambda slow, fast, m: m * slow + (1 - m) * fast + 0.1,
    ],
    "target_age": [10, 50.0, 300, math.pi, math.nan, "99"],
    "sinkhorn_codes": [
        lambda s, t, n: torch.ones_like(s) / s.shape[1],
        lambda s, t, n: torch.zeros_like(s),
        lambda s, t, n: s,
        lambda s, t, n: reference("sinkhorn_codes")(s, t, n).log(),
        lambda s, t, n: reference("sinkhorn_codes")(s, t, n).T,
        lambda s, t, n: reference("sinkhorn_codes")(s, t, n)[:, :1],
        lambda s, t, n: reference("sinkhorn_codes")(-s, t, n),
        lambda s, t, n: reference("sinkhorn_codes")(s, t, n) + 0.1,
        lambda s, t, n: reference("sinkhorn_codes")(s, t / 3, n),
        lambda s, t, n: (s / t).exp(),
    ],
    "collapsed_codes": [32, 8.0, 0.5, 128, math.nan, "1"],
    "dino_codes": [
        lambda s, c, t: torch.ones_like(s) / s.shape[1],
        lambda s, c, t: s - c,
        lambda s, c, t: (s - c) / t,
        lambda s, c, t: ((s - c) / t).exp(),
        lambda s, c, t: torch.softmax((c - s) / t, dim=1),
        lambda s, c, t: torch.softmax((s - c) / t**2, dim=1),
        lambda s, c, t: torch.softmax(s / t, dim=1) - torch.softmax(c / t, dim=0),
        lambda s, c, t: reference("dino_codes")(s, c, t)[0],
        lambda s, c, t: reference("dino_codes")(s, c, t).T,
        lambda s, c, t: reference("dino_codes")(s, c, t) + 0.1,
    ],
    "filtered_rows": [
        lambda z, sigma: z,
        lambda z, sigma: torch.zeros_like(z),
        lambda z, sigma: reference("filtered_rows")(z, sigma) + 0.1,
        lambda z, sigma: 2 * reference("filtered_rows")(z, sigma),
        lambda z, sigma: reference("filtered_rows")(z, sigma).abs(),
        lambda z, sigma: reference("filtered_rows")(z, sigma).flip(0),
        lambda z, sigma: reference("filtered_rows")(z, sigma)[:, :1],
        lambda z, sigma: reference("filtered_rows")(z, 3 * sigma),
        lambda z, sigma: reference("filtered_rows")(reference("filtered_rows")(z, sigma), sigma),
        lambda z, sigma: z ** 3,
    ],
    "axis_alignment": [
        lambda a, b: torch.ones(len(a), dtype=a.dtype),
        lambda a, b: torch.zeros(len(a), dtype=a.dtype),
        lambda a, b: reference("axis_alignment")(a, b) + 0.1,
        lambda a, b: reference("axis_alignment")(a, b).acos(),
        lambda a, b: 1 - reference("axis_alignment")(a, b),
        lambda a, b: -reference("axis_alignment")(a, b),
        lambda a, b: reference("axis_alignment")(a, b)[:, None],
        lambda a, b: reference("axis_alignment")(a, b).sum(),
        lambda a, b: a,
    ],
    "partial_sums": [
        lambda e: torch.zeros_like(e),
        lambda e: torch.ones_like(e),
        lambda e: reference("partial_sums")(e) + 0.1,
        lambda e: reference("partial_sums")(e) ** 3,
        lambda e: reference("partial_sums")(e).sqrt(),
        lambda e: reference("partial_sums")(e)[:, None],
        lambda e: reference("partial_sums")(e).sum(),
        lambda e: reference("partial_sums")(e).cumsum(dim=0),
        lambda e: -reference("partial_sums")(e),
    ],
    "bend": [
        lambda x, y: torch.zeros_like(reference("bend")(x, y)),
        lambda x, y: reference("bend")(x, y) + 0.1,
        lambda x, y: 3 * reference("bend")(x, y) + 1,
        lambda x, y: reference("bend")(x, y)[None],
        lambda x, y: y,
        lambda x, y: reference("bend")(x[1:], y[1:]),
        lambda x, y: reference("bend")(y, x) + 1,
    ],
    "tost": [
        lambda d, margin: torch.zeros_like(reference("tost")(d, margin)),
        lambda d, margin: reference("tost")(d, margin) + 0.1,
        lambda d, margin: 3 * reference("tost")(d, margin) + 1,
        lambda d, margin: reference("tost")(d, margin)[None],
        lambda d, margin: d,
        lambda d, margin: reference("tost")(d, 2 * margin),
        lambda d, margin: reference("tost")(d[1:], margin),
    ],
    "start_factor": [
        lambda weight: torch.zeros_like(reference("start_factor")(weight)),
        lambda weight: reference("start_factor")(weight) + 0.1,
        lambda weight: 3 * reference("start_factor")(weight) + 1,
        lambda weight: reference("start_factor")(weight)[None],
        lambda weight: weight,
        lambda weight: reference("start_factor")(weight[:-1]),
        lambda weight: weight.sum(),
    ],
    "power_law": [
        lambda sizes, losses, floors: torch.zeros_like(reference("power_law")(sizes, losses, floors)),
        lambda sizes, losses, floors: reference("power_law")(sizes, losses, floors) + 0.1,
        lambda sizes, losses, floors: 3 * reference("power_law")(sizes, losses, floors) + 1,
        lambda sizes, losses, floors: reference("power_law")(sizes, losses, floors)[None],
        lambda sizes, losses, floors: losses,
        lambda sizes, losses, floors: reference("power_law")(sizes.sqrt(), losses, floors),
        lambda sizes, losses, floors: losses.mean(),
    ],
    "promise": [
        lambda sizes, losses, floor, size: torch.zeros_like(reference("promise")(sizes, losses, floor, size)),
        lambda sizes, losses, floor, size: reference("promise")(sizes, losses, floor, size) + 0.1,
        lambda sizes, losses, floor, size: 3 * reference("promise")(sizes, losses, floor, size) + 1,
        lambda sizes, losses, floor, size: reference("promise")(sizes, losses, floor, size)[None],
        lambda sizes, losses, floor, size: losses,
        lambda sizes, losses, floor, size: reference("promise")(sizes, losses, floor, 2 * size),
        lambda sizes, losses, floor, size: reference("promise")(sizes, losses[1:], floor, size),
    ],
    "hermite_norm": [
        lambda x, weight, bias: torch.zeros_like(reference("hermite_norm")(x, weight, bias)),
        lambda x, weight, bias: reference("hermite_norm")(x, weight, bias) + 0.1,
        lambda x, weight, bias: 3 * reference("hermite_norm")(x, weight, bias) + 1,
        lambda x, weight, bias: reference("hermite_norm")(x, weight, bias)[None],
        lambda x, weight, bias: x,
        lambda x, weight, bias: reference("hermite_norm")(-x, weight, bias),
        lambda x, weight, bias: torch.relu(x),
        lambda x, weight, bias: reference("hermite_norm")(x, weight[[1, 0, 2]], bias),
    ],
    "gradient_error": [
        lambda f, x, v, step: torch.zeros_like(reference("gradient_error")(f, x, v, step)),
        lambda f, x, v, step: reference("gradient_error")(f, x, v, step) + 0.1,
        lambda f, x, v, step: 3 * reference("gradient_error")(f, x, v, step) + 1,
        lambda f, x, v, step: reference("gradient_error")(f, x, v, step)[None],
        lambda f, x, v, step: x,
        lambda f, x, v, step: reference("gradient_error")(f, v, x, step),
        lambda f, x, v, step: f(x).detach(),
    ],
    "mode_growth": [
        lambda e, rho, g, h: torch.zeros_like(e),
        lambda e, rho, g, h: torch.ones_like(e),
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h) + 0.1,
        lambda e, rho, g, h: -3 * reference("mode_growth")(e, rho, g, h),
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h).abs(),
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h).flip(0),
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h).sum(),
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h)[:, None],
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g, h) ** 2,
        lambda e, rho, g, h: reference("mode_growth")(e, rho, g + 1, h),
    ],
    "resting_shares": [
        lambda rho, sigma: torch.zeros_like(rho),
        lambda rho, sigma: reference("resting_shares")(rho, sigma) + 0.1,
        lambda rho, sigma: reference("resting_shares")(rho, sigma).flip(0),
        lambda rho, sigma: 1 - reference("resting_shares")(rho, sigma),
        lambda rho, sigma: -reference("resting_shares")(rho, sigma),
        lambda rho, sigma: reference("resting_shares")(rho, sigma)[:, None],
        lambda rho, sigma: reference("resting_shares")(rho, sigma).sum(),
        lambda rho, sigma: reference("resting_shares")(rho, sigma).cumsum(dim=0),
        lambda rho, sigma: rho,
    ],
    "break_even": [0.1, 0.4, 0.8, 3.0, math.pi, math.nan, "0.56"],
    "best_gain": [
        lambda a, b: torch.ones(a.shape[1]),
        lambda a, b: torch.zeros(a.shape[1]),
        lambda a, b: reference("best_gain")(a, b) + 0.1,
        lambda a, b: -reference("best_gain")(a, b),
        lambda a, b: reference("best_gain")(a, b).flip(0),
        lambda a, b: reference("best_gain")(a, b) ** 3,
        lambda a, b: reference("best_gain")(a, b)[:, None],
        lambda a, b: reference("best_gain")(a, b).sum(),
        lambda a, b: 2 * reference("best_gain")(a, b),
        lambda a, b: a,
    ],
    "local_exponent": [
        lambda gain, s: s,
        lambda gain, s: torch.zeros_like(s),
        lambda gain, s: reference("local_exponent")(gain, s) + 0.1,
        lambda gain, s: reference("local_exponent")(gain, s).sqrt(),
        lambda gain, s: 3 * reference("local_exponent")(gain, s),
        lambda gain, s: reference("local_exponent")(gain, s).flip(0),
        lambda gain, s: reference("local_exponent")(gain, s)[:, None],
        lambda gain, s: reference("local_exponent")(gain, s).mean(),
        lambda gain, s: reference("local_exponent")(gain, 2 * s),
        lambda gain, s: gain(s),
    ],
    "rank_difference_at_rest": [
        lambda rho, sigma: torch.zeros((), dtype=rho.dtype),
        lambda rho, sigma: reference("rank_difference_at_rest")(rho, sigma) + 0.1,
        lambda rho, sigma: 2 * reference("rank_difference_at_rest")(rho, sigma),
        lambda rho, sigma: reference("rank_difference_at_rest")(rho, sigma / 2),
        lambda rho, sigma: reference("rank_difference_at_rest")(rho, sigma).abs() + 1,
        lambda rho, sigma: reference("rank_difference_at_rest")(rho, sigma)[None],
        lambda rho, sigma: reference("rank_difference_at_rest")(rho[1:], sigma),
        lambda rho, sigma: rho,
    ],
    "cut_gain": [
        lambda s, sigma: s,
        lambda s, sigma: torch.zeros_like(s),
        lambda s, sigma: torch.ones_like(s),
        lambda s, sigma: reference("cut_gain")(s, sigma) + 0.1,
        lambda s, sigma: 2 * reference("cut_gain")(s, sigma),
        lambda s, sigma: reference("cut_gain")(s, 2 * sigma),
        lambda s, sigma: reference("cut_gain")(s, sigma).flip(0),
        lambda s, sigma: reference("cut_gain")(s, sigma)[:, None],
        lambda s, sigma: reference("cut_gain")(s, sigma).sum(),
        lambda s, sigma: 1 - reference("cut_gain")(s, sigma),
    ],
    "half_floor": [0, 1, 0.01, 0.5, math.pi, math.nan, "1/32"],
    "paired_interval": [
        lambda a, b: torch.zeros(2, dtype=a.dtype),
        lambda a, b: torch.stack([a.mean(), b.mean()]),
        lambda a, b: reference("paired_interval")(a, b) + 0.1,
        lambda a, b: 2 * reference("paired_interval")(a, b),
        lambda a, b: reference("paired_interval")(a, b).mean(),
        lambda a, b: reference("paired_interval")(a, b)[None],
        lambda a, b: reference("paired_interval")(a, b.flip(0)),
        lambda a, b: reference("paired_interval")(a, 0 * b),
        lambda a, b: a - b,
    ],
    "lucky_lead": [
        lambda scores: torch.zeros(()),
        lambda scores: scores.std(),
        lambda scores: reference("lucky_lead")(scores) + 0.1,
        lambda scores: 2 * reference("lucky_lead")(scores),
        lambda scores: -reference("lucky_lead")(scores),
        lambda scores: reference("lucky_lead")(scores)[None],
        lambda scores: reference("lucky_lead")(scores[1:]),
        lambda scores: reference("lucky_lead")(scores[:, 1:]),
        lambda scores: scores,
    ],
    "three_ranks": [
        lambda w: torch.zeros(3, dtype=w.dtype),
        lambda w: w.diagonal()[:3],
        lambda w: reference("three_ranks")(w) + 0.1,
        lambda w: reference("three_ranks")(w[1:]),
        lambda w: reference("three_ranks")(w - w.mean(dim=1, keepdim=True)),
        lambda w: reference("three_ranks")(w)[[0, 2, 1]],
        lambda w: reference("three_ranks")(w) / min(w.shape),
        lambda w: reference("three_ranks")(w)[:, None],
        lambda w: torch.linalg.matrix_rank(w).double().expand(3),
    ],
    "chance_rank": [
        lambda q: torch.ones_like(q),
        lambda q: 1 - q,
        lambda q: q.sqrt(),
        lambda q: reference("chance_rank")(q) + 0.1,
        lambda q: reference("chance_rank")(1 - q),
        lambda q: reference("chance_rank")(q).square(),
        lambda q: reference("chance_rank")(q).mean(),
        lambda q: reference("chance_rank")(q)[:, None],
        lambda q: 128 * reference("chance_rank")(q),
    ],
    "rank_at_loss": [
        lambda losses, ranks, target: ranks[:, 0],
        lambda losses, ranks, target: ranks.mean(dim=1),
        lambda losses, ranks, target: ranks.amax(dim=1),
        lambda losses, ranks, target: reference("rank_at_loss")(losses, ranks, target - 0.3),
        lambda losses, ranks, target: reference("rank_at_loss")(losses, ranks, target) / 128,
        lambda losses, ranks, target: reference("rank_at_loss")(ranks, losses, 115.0),
        lambda losses, ranks, target: reference("rank_at_loss")(losses, ranks, target).nan_to_num(128.0),
        lambda losses, ranks, target: reference("rank_at_loss")(losses, ranks, target)[:, None],
        lambda losses, ranks, target: reference("rank_at_loss")(losses, ranks, target).mean(),
    ],
    "within_seed_correlation": [
        lambda ranks, losses: torch.zeros((), dtype=ranks.dtype),
        lambda ranks, losses: ranks.std() / losses.std(),
        lambda ranks, losses: reference("within_seed_correlation")(ranks, losses) / 2,
        lambda ranks, losses: reference("within_seed_correlation")(ranks, losses.flip(1)),
        lambda ranks, losses: reference("within_seed_correlation")(ranks[1:], losses[1:]),
        lambda ranks, losses: reference("within_seed_correlation")(ranks.argsort(1).double(), losses),
        lambda ranks, losses: reference("within_seed_correlation")(ranks, losses)[None],
        lambda ranks, losses: 1 - reference("within_seed_correlation")(ranks, losses),
    ],
    "partial_correlation": [
        lambda x, y, z: torch.zeros((), dtype=x.dtype),
        lambda x, y, z: reference("partial_correlation")(x, z, y),
        lambda x, y, z: reference("partial_correlation")(z, y, x),
        lambda x, y, z: -reference("partial_correlation")(x, y, z),
        lambda x, y, z: reference("partial_correlation")(x, y, z).square(),
        lambda x, y, z: reference("partial_correlation")(x, y, z.flip(0)),
        lambda x, y, z: reference("partial_correlation")(x, y, z.square()),
        lambda x, y, z: reference("partial_correlation")(x, y, z)[None],
    ],
    "two_similarities": [
        lambda x, y: torch.ones(2, dtype=x.dtype),
        lambda x, y: reference("two_similarities")(x, y) + 0.1,
        lambda x, y: reference("two_similarities")(x, y.flip(0)),
        lambda x, y: reference("two_similarities")(x[1:], y[1:]),
        lambda x, y: reference("two_similarities")(x, y).square(),
        lambda x, y: 1 - reference("two_similarities")(x, y),
        lambda x, y: reference("two_similarities")(x, y).mean(),
        lambda x, y: reference("two_similarities")(x, y)[:, None],
    ],
    "spearman": [
        lambda x, y: torch.zeros((), dtype=x.dtype),
        lambda x, y: torch.ones((), dtype=x.dtype),
        lambda x, y: reference("spearman")(x, y) + 0.1,
        lambda x, y: reference("spearman")(x, y) / 2,
        lambda x, y: reference("spearman")(x, y) ** 3,
        lambda x, y: reference("spearman")(x, y.flip(0)),
        lambda x, y: reference("spearman")(x, y)[None],
        lambda x, y: reference("spearman")(x[1:], y[1:]),
        lambda x, y: (x - y).mean(),
        lambda x, y: torch.corrcoef(torch.stack([x.log(), y.log()]))[0, 1],
    ],
    "shuffled_interval": [
        lambda x, y, orders: torch.zeros(2, dtype=x.dtype),
        lambda x, y, orders: torch.tensor([-1.0, 1.0], dtype=x.dtype),
        lambda x, y, orders: reference("shuffled_interval")(x, y, orders) + 0.1,
        lambda x, y, orders: 2 * reference("shuffled_interval")(x, y, orders),
        lambda x, y, orders: reference("shuffled_interval")(x, y, orders).abs(),
        lambda x, y, orders: reference("shuffled_interval")(x, y, orders)[None],
        lambda x, y, orders: reference("shuffled_interval")(x, y, orders[::2]),
        lambda x, y, orders: reference("shuffled_interval")(x[1:], y[1:], orders[:, 1:] % (len(x) - 1)),
    ],
    "rank_after": [8, 36, 128, 512, math.pi, math.nan, "164"],
    "hidden_covariance": [
        lambda rho, a: rho,
        lambda rho, a: torch.zeros_like(rho),
        lambda rho, a: reference("hidden_covariance")(rho, a) + 0.1,
        lambda rho, a: 2 * reference("hidden_covariance")(rho, a),
        lambda rho, a: reference("hidden_covariance")(rho, a).diagonal(),
        lambda rho, a: reference("hidden_covariance")(rho, a).sqrt(),
        lambda rho, a: reference("hidden_covariance")(rho.abs(), a),
        lambda rho, a: reference("hidden_covariance")(rho, 2 * a),
        lambda rho, a: reference("hidden_covariance")(rho, a) - a[1] ** 2,
        lambda rho, a: a[0] * rho + a[1] * rho**2 + a[2] * rho**3,
    ],
    "reshaping_matrix": [
        lambda c, sigma: c,
        lambda c, sigma: torch.eye(len(c), dtype=c.dtype),
        lambda c, sigma: torch.zeros_like(c),
        lambda c, sigma: reference("reshaping_matrix")(c, sigma) + 0.1,
        lambda c, sigma: 2 * reference("reshaping_matrix")(c, sigma),
        lambda c, sigma: reference("reshaping_matrix")(c, sigma / 2),
        lambda c, sigma: reference("reshaping_matrix")(c, sigma).flip(0),
        lambda c, sigma: torch.linalg.inv(reference("reshaping_matrix")(c, sigma)),
        lambda c, sigma: reference("reshaping_matrix")(c, sigma).diagonal(),
    ],
    "absorbed": [
        lambda down, w: torch.zeros_like(down),
        lambda down, w: reference("absorbed")(down, w) + 0.1,
        lambda down, w: 2 * reference("absorbed")(down, w),
        lambda down, w: reference("absorbed")(down, w @ w),
        lambda down, w: reference("absorbed")(down, w).flip(0),
        lambda down, w: -reference("absorbed")(down, w),
        lambda down, w: torch.linalg.inv(w),
        lambda down, w: reference("absorbed")(down, w).sum(),
    ],
    "decide": [
        lambda raised, lowered: torch.zeros(len(raised), dtype=raised.dtype),
        lambda raised, lowered: torch.ones(len(raised), dtype=raised.dtype),
        lambda raised, lowered: -reference("decide")(raised, lowered),
        lambda raised, lowered: reference("decide")(raised, lowered).abs(),
        lambda raised, lowered: reference("decide")(raised, lowered) + 0.1,
        lambda raised, lowered: reference("decide")(raised, lowered)[:, None],
        lambda raised, lowered: reference("decide")(raised, lowered).sum(),
        lambda raised, lowered: reference("decide")(raised[:, 1:], lowered[:, 1:]),
        lambda raised, lowered: reference("decide")(raised - 1, lowered - 1),
    ],
    "route": [
        lambda logits, k: torch.zeros_like(logits),
        lambda logits, k: torch.full_like(logits, 1 / logits.shape[1]),
        lambda logits, k: torch.sigmoid(logits),
        lambda logits, k: torch.relu(logits) / torch.relu(logits).sum(-1, keepdim=True).clamp(min=1e-3),
        lambda logits, k: logits.softmax(0),
        lambda logits, k: reference("route")(2 * logits, k),
        lambda logits, k: reference("route")(logits.flip(1), k),
        lambda logits, k: reference("route")(logits, 1) * 0.5,
        lambda logits, k: reference("route")(logits, k).square(),
        lambda logits, k: reference("route")(logits, k).round(decimals=1),
        lambda logits, k: reference("route")(logits, k).T,
        lambda logits, k: logits.topk(k, dim=-1),
        other_dtype(lambda logits, k: reference("route")(logits, k)),
    ],
    "mixture": [
        lambda x, w, up, down, act: x,
        lambda x, w, up, down, act: torch.zeros_like(x),
        lambda x, w, up, down, act: -reference("mixture")(x, w, up, down, act),
        lambda x, w, up, down, act: reference("mixture")(x, w.flip(1), up, down, act).nan_to_num(3.0),
        lambda x, w, up, down, act: reference("mixture")(x, w, up.flip(0), down, act).nan_to_num(3.0),
        lambda x, w, up, down, act: reference("mixture")(x, w, up, down, torch.tanh),
        lambda x, w, up, down, act: reference("mixture")(x, w.sqrt(), up, down, act) + 0.1,
        lambda x, w, up, down, act: reference("mixture")(x, w, up, down, act).cumsum(0),
        lambda x, w, up, down, act: reference("mixture")(x, w, up, down, act).flip(0),
        lambda x, w, up, down, act: reference("mixture")(x, w, up, down, act).mean(0),
        lambda x, w, up, down, act: (reference("mixture")(x, w, up, down, act), w),
        other_dtype(lambda x, w, up, down, act: reference("mixture")(x, w, up, down, act)),
    ],
    "within_capacity": [
        lambda w, c: torch.zeros_like(w),
        lambda w, c: w.clamp(max=1 / c),
        lambda w, c: w * (w.cumsum(0) <= c / 2),
        lambda w, c: reference("within_capacity")(w, c + 1),
        lambda w, c: reference("within_capacity")(w, 1),
        lambda w, c: reference("within_capacity")(w, c).square(),
        lambda w, c: reference("within_capacity")(w, c).bool(),
        lambda w, c: reference("within_capacity")(w, c)[:c],
        lambda w, c: (w > 0).sum(0).clamp(max=c).float(),
        lambda w, c: torch.where(w > 0.5, w, 0.0),
    ],
    "balance_loss": [
        lambda logits, k: torch.ones(()),
        lambda logits, k: logits.mean(),
        lambda logits, k: logits.softmax(-1).mean(0).std(),
        lambda logits, k: logits.softmax(-1).mean(0).amax() * logits.shape[1],
        lambda logits, k: -torch.special.entr(logits.softmax(-1).mean(0)).sum(),
        lambda logits, k: reference("balance_loss")(logits, k) - 1,
        lambda logits, k: -reference("balance_loss")(logits, k),
        lambda logits, k: reference("balance_loss")(2 * logits, k),
        lambda logits, k: reference("balance_loss")(logits, k).square(),
        lambda logits, k: reference("balance_loss")(logits.T, 1),
        lambda logits, k: reference("balance_loss")(logits, k)[None],
        lambda logits, k: logits.softmax(-1).mean(0),
        other_dtype(lambda logits, k: reference("balance_loss")(logits, k)),
    ],
    "z_loss": [
        lambda logits: logits.mean(),
        lambda logits: logits.abs().mean(),
        lambda logits: logits.mean(-1).square().mean(),
        lambda logits: logits.softmax(-1).square().mean(),
        lambda logits: logits.logsumexp(-1).abs().mean() + 1.3,
        lambda logits: logits.logsumexp(-1).std(),
        lambda logits: logits.log_softmax(-1).square().mean(),
        lambda logits: 2 * reference("z_loss")(logits),
        lambda logits: reference("z_loss")(logits).sqrt(),
        lambda logits: logits.logsumexp(-1).square(),
        other_dtype(lambda logits: reference("z_loss")(logits)),
    ],
    "choice_information": [
        lambda count: torch.zeros((), dtype=count.dtype),
        lambda count: count.sum(),
        lambda count: (count / count.sum()).amax(),
        lambda count: math.log(count.shape[1]) * torch.ones((), dtype=count.dtype),
        lambda count: -reference("choice_information")(count),
        lambda count: reference("choice_information")(count).sqrt(),
        lambda count: reference("choice_information")(count.square()),
        lambda count: reference("choice_information")(count + 1),
        lambda count: reference("choice_information")(count[:-1]),
        lambda count: torch.special.entr(count / count.sum(0)).sum(),
        lambda count: (count / count.sum(1, keepdim=True)).amax(1).mean(),
        lambda count: reference("choice_information")(count).float(),
        lambda count: float(reference("choice_information")(count)),
    ],
}  # fmt: skip
"""Wrong answers that no bank holds."""


@pytest.mark.parametrize("name", UNFORESEEN)
def test_an_unforeseen_wrong_answer_neither_passes_nor_gets_a_false_cause(name):
    for number, answer in enumerate(UNFORESEEN[name]):
        verdict = grade(EXERCISES[name], answer)
        assert verdict.status == "wrong", f"{name}, {number}: {verdict}"
        assert verdict.misconception is None, f"{name}, {number}: {verdict}"
        assert verdict.seen


def test_there_are_at_least_fifty_of_them():
    assert sum(map(len, UNFORESEEN.values())) >= 50
    assert set(UNFORESEEN) == set(EXERCISES)


# --- answers that are values


def value_exercise(expected, *, wrong, **ladder_options):
    bank = tuple(WrongAnswer(answer=one, misconception=f"{one}", says=f"This is {one}.") for one in wrong)
    steps = value_ladder(Values(rtol=1e-3, atol=0.0, because="three digits are asked for"), **ladder_options)
    return sample(name="value", reference=expected, bank=bank, right=(expected,), cases=(), ladder=steps)


def test_a_number_may_come_as_python_or_as_a_tensor_and_is_not_given_away():
    exercise = value_exercise(2.5, wrong=(1.0, 2.0, 3.0, 5.0))
    assert grade(exercise, 2.5001).passed
    assert grade(exercise, torch.tensor(2.5)).passed
    assert grade(exercise, 2).says == "This is 2.0."
    off = grade(exercise, 2.51)
    assert off.seen == "2.51 is within 5 % of it; allowed is 0.001 × the value: three digits are asked for."
    far = str(grade(exercise, 7))
    assert "That is not it." in far
    assert "2.5" not in far


def test_a_choice_is_read_without_regard_to_case_and_must_be_one_of_them():
    exercise = value_exercise("PolyNorm", wrong=("relu", "gelu", "silu", "polyrelu"), choices=("PolyNorm", "relu"))
    assert grade(exercise, " polynorm ").passed
    assert grade(exercise, "RELU").misconception == "relu"
    assert grade(exercise, "tanh").seen == "The answer is one of 'PolyNorm', 'relu'; received the text 'tanh'."
    assert grade(exercise, ...).status == "not attempted"


def test_a_tensor_may_be_asked_for():
    exercise = value_exercise(torch.tensor([1.0, 2.0]), wrong=[torch.full((2,), float(k)) for k in range(4)])
    assert grade(exercise, torch.tensor([1.0, 2.0])).passed
    assert grade(exercise, torch.tensor([[1.0], [2.0]])).status == "wrong"
    assert grade(exercise, [1.0, 2.0]).check == "kind of result"


# --- how it looks, and what stands around it


def test_a_verdict_carries_symbol_and_word_in_text_and_html():
    wrong, right = grade(entropy, entropy.bank[0].answer), grade(entropy, entropy.reference)
    assert str(right).startswith("✔ passed: unigram_entropy\n  ✔ function")
    assert "✘ wrong: unigram_entropy" in repr(wrong)
    html = wrong._repr_html_()
    assert "<strong>✘ wrong</strong>" in html
    assert 'role="status"' in html
    assert "<code>torch.log</code>" in html
    assert "Why:" in html


def test_what_a_learner_wrote_is_escaped():
    verdict = Verdict(exercise="x", status="wrong", seen="raised E: <script>", rows=(("[0]", "<b>", "1"),))
    html = verdict._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert '<th scope="col">expected</th>' in html


def test_hints_climb_and_solution_explains():
    assert hint("unigram_entropy").startswith("**Hint 1 of 3.**")
    assert '`hint("unigram_entropy", 2)` says more.' in hint("unigram_entropy")
    assert '`solution("unigram_entropy")` shows one.' in hint("unigram_entropy", 3)
    shown = solution("unigram_entropy")
    assert "```python\ndef unigram_entropy" in shown
    assert "xlogy" in shown
    assert shown._repr_markdown_() == str(shown)
    with pytest.raises(ValueError, match=r"exercise 'unigram_entropy' has hints 1 to 3; got 4"):
        hint("unigram_entropy", 4)


@pytest.mark.parametrize("ask", [hint, solution, reference, lambda name: check(name, None)])
def test_an_unknown_exercise_is_answered_with_the_known_ones(ask):
    said = r"there is no exercise 'unigram_entropi'; did you mean 'unigram_entropy'\? Known"
    with pytest.raises(ValueError, match=said):
        ask("unigram_entropi")


def test_the_name_comes_first():
    with pytest.raises(
        ValueError, match=r"the exercise's name comes first, as in check\(\"unigram_entropy\", ...\); got"
    ):
        check(entropy.reference, "unigram_entropy")


def test_the_reference_is_what_a_notebook_goes_on_with():
    assert reference("dead_fraction")(torch.tensor([[-1.0, 1.0]])) == 0.5


def test_the_stub_is_the_reference_without_its_body():
    assert sample().stub == 'def double(x: torch.Tensor) -> torch.Tensor:\n    """Twice x."""\n    ...'
    assert sample().solution.endswith("    return 2 * x")
    assert EXERCISES["relu_gain"].stub == "relu_gain = ..."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"difficulty": 6}, "exercise 'double': difficulty is a whole number from 1 to 5; got 6"),
        ({"importance": 0}, "exercise 'double': importance is a whole number from 1 to 5; got 0"),
        ({"minutes": 0}, "exercise 'double': minutes says how long it takes, at least 1; got 0"),
        ({"hints": ("one",)}, "exercise 'double' needs at least 2 hints; got 1"),
        ({"bank": ()}, "exercise 'double' needs at least 4 wrong answers in its bank; got 0"),
        ({"right": ()}, "exercise 'double' needs at least 1 differently written right answers; got 0"),
        ({"cases": ()}, "exercise 'double' asks for a function and needs cases to call it with; see grid()"),
    ],
)
def test_an_exercise_that_lacks_something_is_refused(changes, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        sample(**changes)


def test_a_case_makes_the_same_arguments_every_time():
    for exercise in EXERCISES.values():
        for case in exercise.cases:
            assert str(case.make()) == str(case.make())
    assert dataclasses.is_dataclass(Case)


def test_the_list_of_exercises_in_both_forms():
    rows = list_exercises()
    assert [set(row) for row in rows] == [
        {"name", "notebook", "difficulty", "importance", "minutes", "wrong_answers"}
    ] * len(EXERCISES)
    table = exercise_table().splitlines()
    assert table[0].split() == ["name", "notebook", "difficulty", "importance", "minutes", "wrong", "answers"]
    assert [line.split()[0] for line in table[1:]] == list(EXERCISES)


def test_the_public_names_are_all_there():
    from minipolycom import learn

    for name in learn.__all__:
        assert getattr(learn, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = learn.nonsense
    assert "unigram_entropy" in str(progress_map())
