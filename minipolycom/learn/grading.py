"""check, hint, solution: what a learner calls, and the verdict they read.

A verdict states what was seen. It names a misconception only when the answer behaves, on every case of the exercise,
exactly as one wrong answer of the bank does and as no other: then it is known what the numbers are.
"""

import difflib
import html
import inspect
import re
from dataclasses import dataclass
from typing import Any

from minipolycom.learn import progress
from minipolycom.learn.checks import Check, Failure, Outcome, Trial, Values, as_expected, close, describe
from minipolycom.learn.exercise import Exercise, WrongAnswer
from minipolycom.learn.running import Ran, is_empty, raised_on_purpose

SYMBOLS = {"passed": "✔", "not attempted": "○", "wrong": "✘"}
"""Each status has a symbol and a word; colour comes on top and carries nothing alone."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `check` found. `arguments` are those that it went wrong with: `my_function(*verdict.arguments)`."""

    exercise: str
    status: str
    steps: tuple[tuple[str, str], ...] = ()
    check: str | None = None
    seen: str = ""
    parameters: tuple[str, ...] = ()
    arguments: tuple = ()
    rows: tuple[tuple[str, str, str], ...] = ()
    misconception: str | None = None
    says: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def called_with(self) -> list[str]:
        return [f"{name} = {describe(value)}" for name, value in zip(self.parameters, self.arguments, strict=False)]

    def __str__(self) -> str:
        lines = [f"{SYMBOLS[self.status]} {self.status}: {self.exercise}"]
        if self.steps:
            lines.append("  " + "  ".join(f"{symbol} {name}" for symbol, name in self.steps))
        if self.seen:
            lines.append(f"  {self.seen}")
        if self.says:
            lines.append(f"  Why: {self.misconception}. {self.says}")
        lines += [f"  called with {argument}" for argument in self.called_with]
        if self.rows:
            table = [("where", "expected", "received"), *self.rows]
            widths = [max(len(row[column]) for row in table) for column in range(3)]
            lines += [
                "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                for row in table
            ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colour = {"passed": "#0072b2", "not attempted": "#808080", "wrong": "#d55e00"}[self.status]
        parts = [
            f"<p><strong>{SYMBOLS[self.status]} {self.status}</strong>: <code>{html.escape(self.exercise)}</code></p>"
        ]
        if self.steps:
            steps = " &nbsp; ".join(
                f"{symbol}&nbsp;{html.escape(name).replace(' ', '&nbsp;')}" for symbol, name in self.steps
            )
            parts.append(f"<p>{steps}</p>")
        if self.seen:
            parts.append(f"<p>{_inline(self.seen)}</p>")
        if self.says:
            parts.append(f"<p><strong>Why: {_inline(self.misconception)}.</strong> {_inline(self.says)}</p>")
        if self.called_with:
            items = "".join(f"<li><code>{html.escape(argument)}</code></li>" for argument in self.called_with)
            parts.append(f"<p>Called with</p><ul>{items}</ul>")
        if self.rows:
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
            )
            head = "".join(f'<th scope="col">{word}</th>' for word in ("where", "expected", "received"))
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        style = f"border-left: 4px solid {colour}; padding-left: 0.8em"
        marks = f'class="minipolycom-verdict" role="status" data-status="{self.status}"'
        return f'<div {marks} style="{style}">{"".join(parts)}</div>'


class Note(str):
    """Markdown that a notebook shows as such."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def check(name: str, answer: Any) -> Verdict:
    """Grade an answer to the exercise `name`, record the verdict in the progress file, and return it.

    Each call of the answer may take 10 seconds. Raises ValueError for a name that is no exercise.
    """
    exercise = find(name)
    verdict = grade(exercise, answer)
    progress.record(name, verdict.status)
    return verdict


def hint(name: str, number: int = 1) -> Note:
    """The first hint for an exercise, or the one asked for.

    Raises ValueError for a name that is no exercise and a number that is no hint.
    """
    exercise = find(name)
    count = len(exercise.hints)
    if number not in range(1, count + 1):
        raise ValueError(f"exercise {name!r} has hints 1 to {count}; got {number!r}")
    progress.record_hint(name, number)
    onward = f'`hint("{name}", {number + 1})` says more.' if number < count else f'`solution("{name}")` shows one.'
    return Note(f"**Hint {number} of {count}.** {exercise.hints[number - 1]}\n\n{onward}")


def solution(name: str) -> Note:
    """The solution of an exercise and why it is one; the progress record notes that it was looked at.

    Raises ValueError for a name that is no exercise.
    """
    exercise = find(name)
    progress.record_solution(name)
    return Note(f"```python\n{exercise.solution}\n```\n\n{exercise.explanation}")


def reference(name: str) -> Any:
    """The package's own answer to an exercise, with which a notebook goes on whether or not the learner solved it.

    Raises ValueError for a name that is no exercise.
    """
    return find(name).reference


def find(name: str) -> Exercise:
    from minipolycom.learn.exercises import EXERCISES

    if not isinstance(name, str):
        raise ValueError(
            f'the exercise\'s name comes first, as in check("{next(iter(EXERCISES))}", ...); got {describe(name)}'
        )
    if name not in EXERCISES:
        close_names = difflib.get_close_matches(name, EXERCISES, n=1)
        meant = f"; did you mean {close_names[0]!r}?" if close_names else ""
        raise ValueError(f"there is no exercise {name!r}{meant} Known: {', '.join(EXERCISES)}")
    return EXERCISES[name]


def grade(exercise: Exercise, answer: Any, seconds: float | None = None) -> Verdict:
    """Climb the ladder with an answer until a check fails; no record is made."""
    if is_untouched(exercise, answer):
        return Verdict(exercise=exercise.name, status="not attempted", seen=_invitation(exercise))
    trial, expected = Trial(exercise, answer, seconds), Trial(exercise, exercise.reference)
    for index, step in enumerate(exercise.ladder):
        failure = step.failure(trial, expected)
        if index == 0 and failure is None and _is_unfinished(trial.outcomes[0].ran):
            return Verdict(exercise=exercise.name, status="not attempted", seen=_invitation(exercise))
        if failure is not None:
            return _wrong(exercise, trial, expected, index, failure)
    return Verdict(
        exercise=exercise.name,
        status="passed",
        steps=tuple(("✔", step.name) for step in exercise.ladder),
        seen=f'`solution("{exercise.name}")` shows how we wrote it and says why it is right.',
    )


def is_untouched(exercise: Exercise, answer: Any) -> bool:
    """Whether this is the stub: `...`, None, an empty function, or the stub's own code."""
    if answer is None or answer is ... or answer is NotImplemented or is_empty(answer):
        return True
    if not inspect.isfunction(answer) or not exercise.asks_for_function:
        return False
    scope: dict[str, Any] = {}
    exec(f"{exercise.imports}\n{exercise.stub}", scope)
    stub = scope.get(exercise.reference.__name__)
    return inspect.isfunction(stub) and _code(stub) == _code(answer)


def diagnose(exercise: Exercise, trial: Trial, expected: Trial, upto: int) -> WrongAnswer | None:
    """The one entry of the bank whose behaviour, in all that the checks up to `upto` see, is this answer's.

    An exception is weak evidence, because many causes raise the same one: there must be a case that returned something
    other than the reference did, or a check that observed more than the outcomes.
    """
    steps = exercise.ladder[: upto + 1]
    tolerance = _tolerance(exercise)
    if len(trial.outcomes) < len(exercise.cases):  # stopped: its further behaviour is unknown
        return None
    observed = [step.observed(trial) for step in steps]
    if not any(observed) and not any(
        got.ran.returned and not _same_outcome(got, want, tolerance)
        for got, want in zip(trial.outcomes, expected.outcomes, strict=True)
    ):
        return None

    def behaves_like(entry: WrongAnswer) -> bool:
        other = Trial(exercise, entry.answer)
        return all(_same_outcome(mine, other.outcome(mine.case), tolerance) for mine in trial.outcomes) and all(
            _same_ran(mine, theirs, tolerance)
            for step, seen in zip(steps, observed, strict=True)
            for mine, theirs in zip(seen, step.observed(other), strict=True)
        )

    matching = [entry for entry in exercise.bank if behaves_like(entry)]
    return matching[0] if len(matching) == 1 else None


def _wrong(exercise: Exercise, trial: Trial, expected: Trial, index: int, failure: Failure) -> Verdict:
    names = [step.name for step in exercise.ladder]
    marks = ["✔"] * index + ["✘"] + ["–"] * (len(names) - index - 1)
    entry = diagnose(exercise, trial, expected, index) if index > 0 else None
    return Verdict(
        exercise=exercise.name,
        status="wrong",
        steps=tuple(zip(marks, names, strict=True)),
        check=names[index],
        seen=failure.seen,
        parameters=exercise.parameters,
        arguments=failure.arguments,
        rows=failure.rows,
        misconception=entry.misconception if entry else None,
        says=entry.says if entry else "",
    )


def _is_unfinished(ran: Ran) -> bool:
    """A `...` returned, or `raise NotImplementedError` reached: the learner's own way of saying "not yet"."""
    if isinstance(ran.error, NotImplementedError):
        return raised_on_purpose(ran.error)
    values = ran.value if isinstance(ran.value, tuple | list) else (ran.value,)
    return any(value is ... for value in values)


def _invitation(exercise: Exercise) -> str:
    where = (
        "Put your code in place of the `...`" if exercise.asks_for_function else "Put your answer in place of the `...`"
    )
    return f'{where} and run the cell again. `hint("{exercise.name}")` helps to begin.'


def _code(function: Any) -> tuple:
    code = function.__code__
    constants = tuple(constant for constant in code.co_consts if constant != function.__doc__)
    return code.co_code, code.co_names, repr(constants)


def _tolerance(exercise: Exercise) -> dict[str, float]:
    values = next((step for step in exercise.ladder if isinstance(step, Values)), None)
    return {"rtol": values.rtol, "atol": values.atol} if values else {"rtol": 0.0, "atol": 0.0}


def _same_outcome(one: Outcome, other: Outcome, tolerance: dict[str, float]) -> bool:
    return _same_ran(one.ran, other.ran, tolerance) and close(one.after, other.after, rtol=0, atol=0)


def _same_ran(one: Ran, other: Ran, tolerance: dict[str, float]) -> bool:
    if one.timed_out or other.timed_out:
        return False
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    return close(as_expected(other.value, one.value), as_expected(one.value, other.value), **tolerance)


def _inline(text: str) -> str:
    """Escaped text with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


__all__ = [
    "Check",
    "Note",
    "Verdict",
    "check",
    "diagnose",
    "find",
    "grade",
    "hint",
    "is_untouched",
    "reference",
    "solution",
]
