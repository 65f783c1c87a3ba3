"""What an exercise is: one declaration, from its statement to the bank of wrong answers that it must tell apart.

An exercise file (`exercises/nbNN_name.py`) holds plain functions and one `Exercise(...)` for each task. The `reference`
is both what answers are compared with and the solution that a learner reads; the stub is made from its signature and
docstring, so that the three never drift apart.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Case:
    """One set of arguments. `make()` returns them as a tuple, fresh on every call and always the same."""

    label: str
    make: Callable[[], tuple]
    shape: str = ""
    seed: int | None = None


def grid(
    make: Callable[[Any, torch.Generator], tuple], shapes: tuple, seeds: tuple[int, ...] = (0, 1), word: str = "shape"
) -> tuple[Case, ...]:
    """Cases at every shape with every seed: `make(shape, generator)` returns the arguments."""

    def case(shape: Any, seed: int) -> Case:
        label = f"{word} {shape}"
        return Case(
            label=f"{label}, seed {seed}",
            make=lambda: make(shape, torch.Generator().manual_seed(seed)),
            shape=label,
            seed=seed,
        )

    return tuple(case(shape, seed) for shape in shapes for seed in seeds)


@dataclass(frozen=True, kw_only=True)
class WrongAnswer:
    """A typical wrong answer, the misconception it stands for, and the sentence for whoever gives it.

    `fails` names the check of the ladder that it must fail at. `says` completes "This is exactly what ... gives", so
    it states what the numbers are, which is known, and not what the learner was thinking, which is not.
    """

    answer: Any
    misconception: str
    says: str
    fails: str = "values"


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One task of the course.

    `reference` is a function, or a value (number, string, tensor) when the task asks for one; then `cases` stays empty.
    `statement`, `hints` and `explanation` are markdown. `stub` and `solution` are read off the reference unless given;
    `imports` stands above them, so that the cell runs on its own.
    Raises ValueError for marks outside 1..5, no minutes, fewer than two hints, four wrong answers or one right answer.
    """

    name: str
    notebook: str
    statement: str
    difficulty: int
    importance: int
    minutes: int
    reference: Any
    ladder: tuple
    explanation: str
    hints: tuple[str, ...]
    bank: tuple[WrongAnswer, ...]
    right: tuple[Any, ...]
    cases: tuple[Case, ...] = ()
    imports: str = "import torch"
    stub: str = ""
    solution: str = ""
    parameters: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self):
        object.__setattr__(self, "statement", inspect.cleandoc(self.statement))
        object.__setattr__(self, "explanation", inspect.cleandoc(self.explanation))
        object.__setattr__(self, "hints", tuple(inspect.cleandoc(hint) for hint in self.hints))
        for mark in ("difficulty", "importance"):
            if getattr(self, mark) not in range(1, 6):
                raise ValueError(
                    f"exercise {self.name!r}: {mark} is a whole number from 1 to 5; got {getattr(self, mark)!r}"
                )
        if self.minutes < 1:
            raise ValueError(
                f"exercise {self.name!r}: minutes says how long it takes, at least 1; got {self.minutes!r}"
            )
        for needed, things, least in (
            ("hints", self.hints, 2),
            ("wrong answers in its bank", self.bank, 4),
            ("differently written right answers", self.right, 1),
        ):
            if len(things) < least:
                raise ValueError(f"exercise {self.name!r} needs at least {least} {needed}; got {len(things)}")
        if self.asks_for_function:
            if not self.cases:
                raise ValueError(
                    f"exercise {self.name!r} asks for a function and needs cases to call it with; see grid()"
                )
            source = textwrap.dedent(inspect.getsource(self.reference))
            object.__setattr__(self, "parameters", tuple(inspect.signature(self.reference).parameters))
            object.__setattr__(self, "stub", self.stub or _stub(source))
            object.__setattr__(self, "solution", (self.solution or source).strip())
        else:
            object.__setattr__(self, "cases", (Case(label="your answer", make=tuple),))
            object.__setattr__(self, "stub", self.stub or f"{self.name} = ...")
            object.__setattr__(self, "solution", self.solution or f"{self.name} = {self.reference!r}")

    @property
    def asks_for_function(self) -> bool:
        return callable(self.reference)


def _stub(source: str) -> str:
    """The function's head and docstring with `...` as its body."""
    function = ast.parse(source).body[0]
    lines = source.splitlines()
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    head = lines[: first.end_lineno if documented else first.lineno - 1]
    return "\n".join([*head, "    ..."])
