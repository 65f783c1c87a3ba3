"""The ladder: the checks an answer climbs, from "can it be called" to what the mathematics promises.

A check looks at a `Trial` (the answer, tried on every case) beside the reference's trial and returns None or a
`Failure`, which states what was seen and nothing else. Why it came to that is `grading.diagnose`'s question. Most
checks judge the same outcomes; those that call the answer in their own way also say what they observed, so that a
diagnosis can compare that too.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from minipolycom.learn.exercise import Case, Exercise
from minipolycom.learn.running import TIME_LIMIT, Ran, run

ROWS = 5
"""Entries shown in the table of a wrong verdict."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one case came to: the arguments before and after the call, and the call's result."""

    case: Case
    before: tuple
    after: tuple
    ran: Ran


class Trial:
    """An answer tried on the cases of its exercise; after a call that had to be stopped no further one is made."""

    def __init__(self, exercise: Exercise, answer: Any, seconds: float | None = None):
        self.exercise, self.seconds = exercise, seconds
        if exercise.asks_for_function:
            self.answer = answer
        else:
            value = as_expected(exercise.reference, answer)
            self.answer = lambda: value

    @cached_property
    def outcomes(self) -> list[Outcome]:
        return self.outcomes_on(self.exercise.cases)

    def outcomes_on(self, cases: tuple[Case, ...]) -> list[Outcome]:
        found = []
        for case in cases:
            found.append(self.outcome(case))
            if found[-1].ran.timed_out:
                break
        return found

    def outcome(self, case: Case) -> Outcome:
        before, arguments = _make(case), _make(case)
        ran = run(self.answer, arguments, self.seconds)
        return Outcome(case=case, before=before, after=arguments, ran=ran)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a check saw. `rows` are (where, expected, received); `arguments` are those of the case it happened at."""

    seen: str
    arguments: tuple = ()
    rows: tuple[tuple[str, str, str], ...] = ()


class Check:
    """One step of the ladder. `name` is how a verdict calls it."""

    name: ClassVar[str]

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        raise NotImplementedError

    def observed(self, trial: Trial) -> list:
        """What this check sees of an answer beyond its outcomes on the cases."""
        return []


@dataclass(frozen=True)
class IsFunction(Check):
    """The answer is a function that takes the exercise's arguments."""

    name: ClassVar[str] = "function"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        exercise, answer = trial.exercise, trial.answer
        own = exercise.reference.__name__
        way_out = f"`check({exercise.name!r}, {own})`, without parentheses after the function's name"
        if isinstance(answer, type):
            return Failure(
                seen=f"A function is expected; received the class `{answer.__name__}`. Pass a function: {way_out}."
            )
        if not callable(answer):
            return Failure(
                seen=f"A function is expected; received {describe(answer)}. Pass the function itself: {way_out}."
            )
        try:
            signature = inspect.signature(answer)
        except (TypeError, ValueError):  # some functions written in C have none
            return None
        given = exercise.parameters
        try:
            signature.bind(*given)
        except TypeError:
            arguments = f"{len(given)} argument{'s' if len(given) > 1 else ''} ({', '.join(given)})"
            return Failure(seen=f"It is called with {arguments}; yours takes `{signature}`.")
        return None


@dataclass(frozen=True)
class IsValue(Check):
    """The answer is a value, one of `choices` if there are any."""

    choices: tuple = ()
    name: ClassVar[str] = "value given"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        answer = trial.answer()
        if callable(answer):
            return Failure(seen=f"A value is expected; received {describe(answer)}. Pass what it returns.")
        if self.choices and not any(close(choice, answer, rtol=0, atol=0) for choice in self.choices):
            known = ", ".join(repr(choice) for choice in self.choices)
            return Failure(seen=f"The answer is one of {known}; received {describe(answer)}.")
        return None


@dataclass(frozen=True)
class Runs(Check):
    """Every case returns: no exception, no call without end."""

    name: ClassVar[str] = "runs"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        return _first_stop(trial.outcomes, trial)


@dataclass(frozen=True)
class Returns(Check):
    """The result is of the kind the exercise asks for: a tensor, a number, a pair."""

    name: ClassVar[str] = "kind of result"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        for outcome, expected in zip(trial.outcomes, reference.outcomes, strict=False):
            want, got = expected.ran.value, outcome.ran.value
            if _kind(want) != _kind(as_expected(want, got)):
                value = _value_beside(want, got)
                seen = f"{_kind(want).capitalize()} is expected; yours returned {describe(got)}. {_about(got)}{value}"
                return Failure(seen=seen.strip(), arguments=outcome.before)
            for (where, a), (_, b) in zip(_leaves(want), _leaves(as_expected(want, got)), strict=True):
                if _kind(a) != _kind(b):
                    seen = f"{_kind(a).capitalize()} is expected at {where}; yours returned {describe(b)} there."
                    return Failure(seen=seen, arguments=outcome.before)
                if isinstance(a, Tensor) and a.device != b.device:
                    seen = f"The result is expected on the device of the input, {a.device}; yours is on {b.device}."
                    return Failure(seen=seen, arguments=outcome.before)
        return None


@dataclass(frozen=True)
class Shape(Check):
    """Every tensor of the result has the reference's shape; (3, 1) is not (3,)."""

    name: ClassVar[str] = "shape"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        return _first_unequal(trial, reference, self.name, lambda leaf: tuple(leaf.shape))


@dataclass(frozen=True)
class DType(Check):
    """Every tensor of the result has the reference's dtype."""

    name: ClassVar[str] = "dtype"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        return _first_unequal(trial, reference, self.name, lambda leaf: str(leaf.dtype).removeprefix("torch."))


@dataclass(frozen=True)
class KeepsInputs(Check):
    """The arguments are the same after the call as before."""

    name: ClassVar[str] = "inputs kept"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        for outcome in trial.outcomes:
            for name, before, after in zip(trial.exercise.parameters, outcome.before, outcome.after, strict=True):
                if not close(before, after, rtol=0, atol=0):
                    seen = (
                        f"The call changed its input `{name}`: it was {describe(before)} and is {describe(after)} "
                        "afterwards. Whoever called the function still needs it as it was; compute into something new."
                    )
                    return Failure(seen=seen, arguments=outcome.before)
        return None


@dataclass(frozen=True, kw_only=True)
class Values(Check):
    """Every entry equals the reference's within atol + rtol |expected|; `because` says why that much is allowed."""

    rtol: float
    atol: float
    because: str
    name: ClassVar[str] = "values"

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        right = [
            close(want.ran.value, as_expected(want.ran.value, got.ran.value), rtol=self.rtol, atol=self.atol)
            for want, got in zip(reference.outcomes, trial.outcomes, strict=True)
        ]
        if all(right):
            return None
        at = right.index(False)
        want, got = reference.outcomes[at], trial.outcomes[at]
        pairs = zip(_leaves(want.ran.value), _leaves(as_expected(want.ran.value, got.ran.value)), strict=True)
        where, a, b = next(
            (where, a, b) for (where, a), (_, b) in pairs if not close(a, b, rtol=self.rtol, atol=self.atol)
        )
        if not trial.exercise.asks_for_function:
            return Failure(seen=self._not_it(a, b))
        seen, rows = _compare_entries(a, b, where, self)
        again = trial.outcome(got.case)
        if not again.ran.returned or not close(got.ran.value, again.ran.value, rtol=self.rtol, atol=self.atol):
            seen += " Called a second time with the same arguments it gave another result."
        else:
            seen += _relation(reference.outcomes, trial.outcomes) + _where_right(right, trial.exercise.cases)
        return Failure(seen=seen, arguments=got.before, rows=rows)

    def _not_it(self, expected: Any, received: Any) -> str:
        """For a task that asks for a value: what is wrong, without giving the value away."""
        if _is_number(expected) and abs(received - expected) < 0.05 * abs(expected):
            return f"{number(received)} is within 5 % of it; allowed is {self.rtol:.2g} × the value: {self.because}."
        return f"Received {describe(received)}. That is not it."


@dataclass(frozen=True, kw_only=True)
class Gradients(Check):
    """Gradients with respect to every floating-point argument equal the reference's."""

    rtol: float
    atol: float
    because: str
    name: ClassVar[str] = "gradients"

    def observed(self, trial: Trial) -> list:
        arguments = [(trial.answer, case, trial.exercise.parameters) for case in trial.exercise.cases]
        return [run(_gradients, each, trial.seconds) for each in arguments]

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        for case, want, got in zip(trial.exercise.cases, self.observed(reference), self.observed(trial), strict=True):
            arguments = _make(case)
            if not got.returned:
                return Failure(
                    seen=f"Its values are right, but with inputs that ask for gradients: {_stopped(got, trial)}",
                    arguments=arguments,
                )
            if got.value is None:
                seen = (
                    "The values are right, but no gradient flows back from the result to the inputs. `.item()`, "
                    "`float()`, `.detach()`, `.data`, `.numpy()`, `torch.tensor(...)` and `torch.no_grad()` all cut it."
                )
                return Failure(seen=seen, arguments=arguments)
            for (name, a), (_, b) in zip(want.value, got.value, strict=True):
                if not close(a, b, rtol=self.rtol, atol=self.atol):
                    seen, rows = _compare_entries(a, b, f"the gradient with respect to {name}", self)
                    return Failure(seen=f"The values are right. {seen}", arguments=arguments, rows=rows)
        return None


@dataclass(frozen=True, kw_only=True)
class Property(Check):
    """Something the mathematics promises: `holds(results)` at these cases; `promise` says it in words."""

    promise: str
    cases: tuple[Case, ...]
    holds: Callable[[list], bool]
    name: ClassVar[str] = "property"

    def observed(self, trial: Trial) -> list:
        return [outcome.ran for outcome in trial.outcomes_on(self.cases)]

    def failure(self, trial: Trial, reference: Trial) -> Failure | None:
        outcomes = trial.outcomes_on(self.cases)
        stop = _first_stop(outcomes, trial)
        if stop is not None:
            return stop
        if self.holds([outcome.ran.value for outcome in outcomes]):
            return None
        expected = reference.outcomes_on(self.cases)
        rows = tuple(
            (outcome.case.label, describe(want.ran.value), describe(outcome.ran.value))
            for want, outcome in zip(expected, outcomes, strict=True)
        )
        return Failure(seen=f"The values are right, yet a promise is broken: {self.promise}.", rows=rows)


def ladder(*checks: Check) -> tuple[Check, ...]:
    """The ladder for a function: the six steps that every one climbs, then the given ones."""
    return (IsFunction(), Runs(), Returns(), Shape(), DType(), KeepsInputs(), *checks)


def value_ladder(*checks: Check, choices: tuple = ()) -> tuple[Check, ...]:
    """The ladder for a task whose answer is a value."""
    return (IsValue(choices), Returns(), *checks)


def close(expected: Any, received: Any, *, rtol: float, atol: float) -> bool:
    """Equal in kind, shape, dtype and, within the tolerances, in every entry; NaN equals NaN, nothing is broadcast."""
    if isinstance(expected, Tensor) and isinstance(received, Tensor):
        try:
            torch.testing.assert_close(received.detach(), expected.detach(), rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError:
            return False
        return True
    if isinstance(expected, tuple | list) and isinstance(received, tuple | list):
        return len(expected) == len(received) and all(
            close(a, b, rtol=rtol, atol=atol) for a, b in zip(expected, received, strict=True)
        )
    if _is_number(expected) and _is_number(received):
        both_nan = math.isnan(expected) and math.isnan(received)
        return both_nan or math.isclose(expected, received, rel_tol=0, abs_tol=atol + rtol * abs(expected))
    if isinstance(expected, str) and isinstance(received, str):
        return expected.strip().casefold() == received.strip().casefold()
    return type(expected) is type(received) and bool(np.all(expected == received))


def as_expected(expected: Any, received: Any) -> Any:
    """The received value, a one-number tensor or array as a number where a number is expected."""
    if _is_number(expected) and isinstance(received, Tensor | np.ndarray | np.generic) and received.ndim == 0:
        return received.item()
    return received


def describe(value: Any, entries: int = 6) -> str:
    """A value in a few words: its kind, shape, dtype and first entries."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        if _kind(value) != "a tensor" or value.is_meta:
            return f"{_kind(value)} of shape {tuple(value.shape)}, {dtype}, on {value.device}"
        flat = value.detach().flatten()
        shown = ", ".join(number(entry) for entry in flat[:entries].tolist())
        more = ", …" if flat.numel() > entries else ""
        return f"{'an' if dtype.startswith('i') else 'a'} {dtype} tensor of shape {tuple(value.shape)} [{shown}{more}]"
    if isinstance(value, tuple | list):
        shown = "; ".join(describe(entry, entries=3) for entry in value[:3])
        return f"a {type(value).__name__} of {len(value)} ({shown}{'; …' if len(value) > 3 else ''})"
    if value is None or isinstance(value, bool):
        return repr(value)
    if _is_number(value):
        return f"the number {number(value)}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {value.shape}"
    if inspect.isroutine(value):
        return f"the function `{getattr(value, '__name__', 'without a name')}`"
    return f"an object of type {type(value).__name__}"


def number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _make(case: Case) -> tuple:
    with torch.device("cpu"), torch.enable_grad():  # whatever the notebook has set as its default
        return case.make()


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a tensor" if value.layout == torch.strided else "a sparse tensor"
    if isinstance(value, tuple | list):
        return f"a tuple of {len(value)}"
    if _is_number(value):
        return "a number"
    return f"a value of type {type(value).__name__}"


def _about(received: Any) -> str:
    """What is worth knowing about a result of the wrong kind; facts only."""
    if received is None:
        return "A function returns None when no `return` with a value is reached. "
    if isinstance(received, tuple) and len(received) == 1:
        return "A comma at the end of a `return` line makes a tuple. "
    if isinstance(received, int | float):
        return "`.item()` and `float()` give Python numbers; a tensor keeps its dtype, its device and its gradient. "
    if inspect.isgenerator(received) or inspect.iscoroutine(received):
        return "A function with `yield` or `async` in it returns such an object instead of a result. "
    return ""


def _value_beside(expected: Any, received: Any) -> str:
    """Credit for the right numbers in the wrong wrapping."""
    if not isinstance(expected, Tensor):
        return ""
    try:
        plain = torch.as_tensor(received[0] if isinstance(received, tuple) and len(received) == 1 else received)
    except (TypeError, ValueError, RuntimeError):
        return ""
    if plain.shape == expected.shape and close(expected.double(), plain.double(), rtol=1e-4, atol=1e-6):
        return "The numbers in it are right."
    return ""


def _leaves(value: Any, where: str = "the result") -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for index, entry in enumerate(value):
            yield from _leaves(entry, f"entry {index} of {where}")
    else:
        yield where, value


def _first_unequal(trial: Trial, reference: Trial, what: str, of: Callable[[Tensor], Any]) -> Failure | None:
    """The first tensor whose shape or dtype is not the reference's."""

    def unequal(want: Outcome, got: Outcome) -> list[tuple[str, Any, Any]]:
        pairs = zip(_leaves(want.ran.value), _leaves(got.ran.value), strict=True)
        return [(where, of(a), of(b)) for (where, a), (_, b) in pairs if isinstance(a, Tensor) and of(a) != of(b)]

    found = [unequal(want, got) for want, got in zip(reference.outcomes, trial.outcomes, strict=True)]
    right = [not some for some in found]
    if all(right):
        return None
    at = right.index(False)
    where, want, got = found[at][0]
    seen = f"The {what} of {where} is {got}; expected is {want}."
    seen += _transposition(reference.outcomes, trial.outcomes) + _where_right(right, trial.exercise.cases)
    return Failure(seen=seen, arguments=trial.outcomes[at].before)


def _first_stop(outcomes: list[Outcome], trial: Trial) -> Failure | None:
    for index, outcome in enumerate(outcomes):
        if not outcome.ran.returned:
            ran_before = "; ".join(before.case.label for before in outcomes[:index])
            seen = _stopped(outcome.ran, trial) + (f" It ran at {ran_before}." if ran_before else "")
            return Failure(seen=seen, arguments=outcome.before)
    return None


def _stopped(ran: Ran, trial: Trial) -> str:
    at = f" It was at {ran.line}" if ran.line else ""
    if ran.timed_out:
        seconds = TIME_LIMIT if trial.seconds is None else trial.seconds
        end = (
            "and could not be stopped, so it goes on in the background; restart the kernel to free the machine"
            if ran.left_running
            else "and was stopped"
        )
        return f"The call was still running after {seconds:g} s {end}.{at}"
    message = " ".join(str(ran.error).split())
    message = message if len(message) <= 300 else message[:300] + " …"
    line = f" It was raised at {ran.line}" if ran.line else ""
    dots = " A `...` is still standing where a value is needed." if "ellipsis" in message else ""
    return f"Your code raised {type(ran.error).__name__}: {message.rstrip('.')}.{dots}{line}"


def _compare_entries(expected: Any, received: Any, where: str, check: "Values | Gradients") -> tuple[str, tuple]:
    """What differs between two leaves of one shape and how much may, with a table of the first entries that do."""
    capital = where[0].upper() + where[1:]
    if not isinstance(expected, Tensor) or not isinstance(received, Tensor):
        return f"{capital} is {describe(received)}; expected is {describe(expected)}.", ()
    a, b = expected.detach().double(), received.detach().double()
    wrong = ~torch.isclose(b, a, rtol=check.rtol, atol=check.atol, equal_nan=True)
    places = wrong.nonzero()
    rows = tuple(
        (str(place), number(expected[tuple(place)].item()), number(received[tuple(place)].item()))
        for place in places[:ROWS].tolist()
    )
    if expected.ndim == 0:
        sentence = f"{capital} is {rows[0][2]}; expected is {rows[0][1]}."
        rows = ()
    else:
        sentence = (
            f"{len(places)} of {expected.numel()} entries of {where} differ, the first at {rows[0][0]}."
            if len(places) < expected.numel()
            else f"All {expected.numel()} entries of {where} differ."
        )
    strange = [word for word, test in (("NaN", torch.isnan), ("infinite", torch.isinf)) if (test(b) & ~test(a)).any()]
    if strange:
        return f"{sentence} Some received are {' or '.join(strange)}.", rows
    largest = (a - b).abs()[torch.isfinite(a - b)].max().item()
    if largest > 0.01 * a[torch.isfinite(a)].abs().max():  # no question of precision
        return sentence, rows
    allowed = f"{check.atol:g} + {check.rtol:g} × |expected|"
    return f"{sentence} The largest difference is {largest:.3g}; allowed is {allowed}: {check.because}.", rows


def _where_right(right: list[bool], cases: tuple[Case, ...]) -> str:
    """ "Right at shape (2, 5); wrong at shape (3, 7)", by shape or by seed if that sorts them, else case by case."""
    if not any(right):
        return f" Wrong at all {len(right)} inputs tried."

    def sorted_by(label: Callable[[Case], str]) -> tuple[list[str], list[str]] | None:
        good = list(dict.fromkeys(label(case) for case, ok in zip(cases, right, strict=True) if ok))
        bad = list(dict.fromkeys(label(case) for case, ok in zip(cases, right, strict=True) if not ok))
        return None if set(good) & set(bad) else (good, bad)

    found = (
        sorted_by(lambda case: case.shape or case.label)
        or sorted_by(lambda case: case.label if case.seed is None else f"random seed {case.seed}")
        or sorted_by(lambda case: case.label)
    )
    good, bad = found
    return f" Right at {'; '.join(good)}. Wrong at {'; '.join(bad)}."


def _relation(expected: list[Outcome], received: list[Outcome]) -> str:
    """A simple law between all numbers expected and all received, if there is one: said as a fact."""
    pairs = [
        (a.detach().double().flatten(), b.detach().double().flatten())
        for want, got in zip(expected, received, strict=True)
        for (_, a), (_, b) in zip(_leaves(want.ran.value), _leaves(got.ran.value), strict=True)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
    ]
    if not pairs:
        return ""
    transposition = _transposition(expected, received)
    if transposition:
        return transposition
    a, b = (torch.cat(column) for column in zip(*pairs, strict=True))
    if not (torch.isfinite(a) & torch.isfinite(b)).all() or len(a.unique()) < 3:
        return ""
    large = a.abs() > 1e-3 * a.abs().max()
    ratio = (b[large] / a[large]).median()
    if ratio.abs() > 1e-6 and close(ratio * a, b, rtol=1e-4, atol=1e-6):
        factor = "minus" if abs(ratio + 1) < 1e-4 else f"{ratio:.6g} times"
        return f" In every case, received is {factor} the expected value."
    shift = (b - a).median()
    if close(a + shift, b, rtol=1e-4, atol=1e-6):
        return f" In every case, received is the expected value {'plus' if shift > 0 else 'minus'} {abs(shift):.6g}."
    return ""


def _transposition(expected: list[Outcome], received: list[Outcome]) -> str:
    """Whether every matrix is the expected one with its axes swapped, and one of them not symmetric."""
    pairs = [
        (a, b)
        for want, got in zip(expected, received, strict=True)
        for (_, a), (_, b) in zip(_leaves(want.ran.value), _leaves(got.ran.value), strict=True)
        if isinstance(a, Tensor) and a.ndim == 2
    ]
    swapped = all(close(a.mT, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    differ = not all(close(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
    return " In every case the matrix is the expected one with its two axes swapped." if swapped and differ else ""


def _gradients(answer: Callable, case: Case, names: tuple[str, ...]) -> list[tuple[str, Tensor]] | None:
    """The gradients of a fixed weighting of the results; None when the results carry none."""
    arguments = _make(case)
    leaves = [pair for name, value in zip(names, arguments, strict=True) for pair in _leaves(value, f"`{name}`")]
    inputs = [(where, leaf) for where, leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    for _, leaf in inputs:
        leaf.requires_grad_(True)
    results = [leaf for _, leaf in _leaves(answer(*arguments)) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not results:
        return None
    total = sum((torch.linspace(1, 2, leaf.numel(), dtype=leaf.dtype).view_as(leaf) * leaf).sum() for leaf in results)
    found = torch.autograd.grad(total, [leaf for _, leaf in inputs], allow_unused=True)
    return [
        (where, torch.zeros_like(leaf) if gradient is None else gradient)
        for (where, leaf), gradient in zip(inputs, found, strict=True)
    ]
