"""Mutilate the graders one piece at a time and see whether the bank test notices: prints kills over mutants.

    python tests/mutate_graders.py

A mutant that survives is a check, a case or a rule that no wrong answer needs. Left out are the pieces without which
the run would not end (the time limit) and those that only choose words.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parent))

from test_banks import questions

from minipolycom.learn import Exercise, checks, grading, running
from minipolycom.learn.exercises import EXERCISES


def mutilated(exercise: Exercise) -> Iterator[tuple[str, Exercise]]:
    """An exercise without one of its checks or cases, or with a check that allows a hundred times as much."""
    replace = dataclasses.replace
    for index, check in enumerate(exercise.ladder):
        rest = exercise.ladder[:index] + exercise.ladder[index + 1 :]
        yield f"without the check {check.name!r}", replace(exercise, ladder=rest)
        if hasattr(check, "rtol"):
            loose = replace(check, rtol=100 * check.rtol, atol=100 * check.atol)
            ladder = (*exercise.ladder[:index], loose, *exercise.ladder[index + 1 :])
            yield f"with loose {check.name!r}", replace(exercise, ladder=ladder)
    if not exercise.asks_for_function:
        return
    for index, case in enumerate(exercise.cases):
        yield f"without {case.label}", replace(exercise, cases=exercise.cases[:index] + exercise.cases[index + 1 :])
    first_seed = tuple(case for case in exercise.cases if case.seed in (None, exercise.cases[0].seed))
    first_shape = tuple(case for case in exercise.cases if case.shape in ("", exercise.cases[0].shape))
    yield "with one seed", replace(exercise, cases=first_seed)
    yield "with one shape", replace(exercise, cases=first_shape)


def broadcasting(expected: object, received: object, *, rtol: float, atol: float) -> bool:
    """`close` as torch.allclose would have it."""
    if isinstance(expected, torch.Tensor) and isinstance(received, torch.Tensor):
        with contextlib.suppress(RuntimeError):
            return torch.allclose(expected.double(), received.double(), rtol=rtol, atol=atol, equal_nan=True)
        return False
    if isinstance(expected, tuple | list):
        pairs = zip(expected, received, strict=False)
        return all(broadcasting(one, other, rtol=rtol, atol=atol) for one, other in pairs)
    return CLOSE(expected, received, rtol=rtol, atol=atol)


def first_case_only(exercise: Exercise, trial: checks.Trial, expected: checks.Trial, upto: int) -> object:
    """`diagnose` from one case that went wrong."""
    tolerance = grading._tolerance(exercise)
    if len(trial.outcomes) < len(exercise.cases):
        return None
    for mine, theirs in zip(trial.outcomes, expected.outcomes, strict=True):
        if mine.ran.returned and not SAME_OUTCOME(mine, theirs, tolerance):
            for entry in exercise.bank:
                other = checks.Trial(exercise, entry.answer).outcome(mine.case)
                if SAME_OUTCOME(mine, other, tolerance):
                    return entry
            return None
    return DIAGNOSE(exercise, trial, expected, upto)


def shared_arguments(trial: checks.Trial, case: object) -> checks.Outcome:
    """`Trial.outcome` that keeps no copy of the arguments."""
    arguments = case.make()
    ran = running.run(trial.answer, arguments, trial.seconds)
    return checks.Outcome(case=case, before=arguments, after=arguments, ran=ran)


CLOSE, DIAGNOSE, SAME_OUTCOME = checks.close, grading.diagnose, grading._same_outcome

PIECES: dict[str, tuple[object, str, Callable]] = {
    "the stub is graded": (grading, "is_untouched", lambda exercise, answer: False),
    "`...` and NotImplementedError are graded": (grading, "_is_unfinished", lambda ran: False),
    "any NotImplementedError counts as untouched": (grading, "raised_on_purpose", lambda error: True),
    "no diagnosis is made": (grading, "diagnose", lambda *arguments: None),
    "one case is enough for a diagnosis": (grading, "diagnose", first_case_only),
    "a diagnosis ignores what happened to the inputs": (
        grading,
        "_same_outcome",
        lambda one, other, tolerance: grading._same_ran(one.ran, other.ran, tolerance),
    ),
    "a diagnosis ignores the values": (
        grading,
        "_same_ran",
        lambda one, other, tolerance: one.returned == other.returned,
    ),
    "values are compared with broadcasting": (checks, "close", broadcasting),
    "the arguments are not copied": (checks.Trial, "outcome", shared_arguments),
    "where it is right is not said": (checks, "_where_right", lambda *arguments: ""),
    "a law between expected and received is not said": (checks, "_relation", lambda *arguments: ""),
    "the line that never ends is not said": (running, "_current_line", lambda thread: None),
}


ASKED = functools.cache(lambda name: tuple(questions(EXERCISES[name])))
NOTICED_BY: dict[str, str] = {}
"""By kind of mutant the question that noticed the last one: asked first of the next, it mostly spares all others."""


def mutants() -> Iterator[tuple[str, Callable[[], bool]]]:
    """Each mutant's name and a function that says whether the bank test notices it."""
    for exercise in EXERCISES.values():
        for name, mutant in mutilated(exercise):
            yield f"{exercise.name} {name}", functools.partial(is_noticed, name, exercise, mutant)
    for name, (where, what, instead) in PIECES.items():

        def noticed(name=name, where=where, what=what, instead=instead) -> bool:
            with mock.patch.object(where, what, instead):
                return any(is_noticed(name, exercise, exercise) for exercise in EXERCISES.values())

        yield name, noticed


def is_noticed(kind: str, exercise: Exercise, mutant: Exercise) -> bool:
    grade = functools.partial(grading.grade, mutant)
    first = NOTICED_BY.get(kind)
    for name, question in sorted(ASKED(exercise.name), key=lambda asked: asked[0] != first):
        try:
            problem = question(grade)
        except Exception:  # a mutant may break the grader altogether: noticed
            problem = "broken"
        if problem:
            NOTICED_BY[kind] = name
            return True
    return False


def survivors() -> tuple[list[str], int]:
    """The mutants that nobody notices, and how many there were."""
    results = {name: noticed() for name, noticed in mutants()}
    return [name for name, noticed in results.items() if not noticed], len(results)


if __name__ == "__main__":
    alive, count = survivors()
    print(f"{count - len(alive)} of {count} mutants killed")
    for name in alive:
        print(f"survived: {name}")
    sys.exit(bool(alive))
