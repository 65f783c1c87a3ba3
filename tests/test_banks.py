"""Every bank of wrong answers: each must fail at its own check with its own diagnosis, and nothing else may get one."""

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from minipolycom.learn import Exercise, grading
from minipolycom.learn.checks import Gradients, Property, Trial, Values
from minipolycom.learn.exercises import EXERCISES

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES.keys())


Grade = Callable[..., grading.Verdict]


def questions(exercise: Exercise) -> Iterator[tuple[str, Callable[[Grade], str]]]:
    """What is asked about the way an exercise is graded: a name, and a function of the grader that says what is wrong,
    nothing if all is well."""
    for number, answer in enumerate((exercise.reference, *exercise.right)):

        def accepted(grade: Grade, answer=answer) -> str:
            verdict = grade(answer)
            return "" if verdict.passed else f"a right answer is refused: {verdict}"

        yield f"right answer {number}", accepted
    for number, answer in enumerate((..., None, NotImplemented, *untouched(exercise))):

        def not_yet(grade: Grade, answer=answer) -> str:
            verdict = grade(answer)
            return "" if verdict.status == "not attempted" else f"{answer} counts as an attempt: {verdict}"

        yield f"no answer {number}", not_yet
    for entry in exercise.bank:

        def diagnosed(grade: Grade, entry=entry) -> str:
            verdict = grade(entry.answer)
            if (verdict.status, verdict.check, verdict.misconception) == ("wrong", entry.fails, entry.misconception):
                return ""
            return f"{entry.misconception!r} gets the wrong verdict: {verdict}"

        yield entry.misconception, diagnosed
    for name, answer, check, sentence in faults(exercise):

        def found(grade: Grade, name=name, answer=answer, check=check, sentence=sentence) -> str:
            verdict = grade(answer, seconds=0.3 if name == "endless" else None)
            if verdict.check != check or sentence not in verdict.seen:
                return f"the fault {name!r} should fail at {check!r} with {sentence!r}: {verdict}"
            return f"the fault {name!r} is blamed on {verdict.misconception!r}" if verdict.misconception else ""

        yield name, found


def problems(exercise: Exercise) -> list[str]:
    """What is wrong with the way an exercise is graded."""
    grade = functools.partial(grading.grade, exercise)
    return [problem for _, question in questions(exercise) if (problem := question(grade))]


def untouched(exercise: Exercise) -> list:
    """The stub and the other ways to say "not yet"."""
    if not exercise.asks_for_function:
        return []
    scope = {}
    exec(f"{exercise.imports}\n{exercise.stub}", scope)

    def not_implemented(*arguments):
        raise NotImplementedError

    return [scope[exercise.reference.__name__], not_implemented, lambda *arguments: ...]


def each_tensor(change: Callable[[Tensor], object], value: object) -> object:
    return tuple(each_tensor(change, entry) for entry in value) if isinstance(value, tuple) else change(value)


def faults(exercise: Exercise) -> Iterator[tuple[str, object, str, str]]:
    """(name, answer, check it fails at, part of what must be said): what can go wrong with any answer."""
    if not exercise.asks_for_function:
        yield "a function", lambda: exercise.reference, "value given", "A value is expected"
        yield "a list", [exercise.reference], "kind of result", "is expected; yours returned a list of 1"
        yield "far off", exercise.reference * 17.3, "values", "That is not it"
        yield "not quite", exercise.reference * 1.04, "values", "is within 5 % of it; allowed is"
        return
    right, cases = exercise.reference, exercise.cases

    def changed(change: Callable[[Tensor], object], **only: object) -> Callable:
        """The reference with `change` applied to every tensor of its result, on the case `only` or on all."""

        def answer(*arguments):
            result = right(*arguments)
            if "only" in only and not same(arguments, only["only"].make()):
                return result
            return each_tensor(change, result)

        return answer

    yield "no parameters", lambda: 1, "function", "It is called with"
    yield "its result", right(*cases[0].make()), "function", "A function is expected; received"
    yield "a class", type("Answer", (), {}), "function", "received the class `Answer`"
    yield "a module without forward", torch.nn.Module(), "runs", "raised"
    for case in cases:
        yield f"raises at {case.label}", changed(lambda leaf: leaf.nonsense, only=case), "runs", "nonsense"
        yield f"another value at {case.label}", changed(lambda leaf: leaf + 1.7, only=case), "values", "Wrong at"
    yield "no return", lambda *arguments: print(end=""), "kind of result", "returned None"
    yield "Python numbers", changed(lambda leaf: leaf.tolist()), "kind of result", "is expected"
    yield "an axis too many", changed(lambda leaf: leaf[None]), "shape", "expected is"
    yield "half precision", changed(lambda leaf: leaf.half()), "dtype", "is float16; expected is float"
    yield "NaN", changed(lambda leaf: leaf * torch.nan), "values", "NaN"
    check = next(check for check in exercise.ladder if isinstance(check, Values))
    off = 1 + 5 * check.rtol
    yield "not precise", changed(lambda leaf: leaf * off + 5 * check.atol), "values", "allowed is"
    yield "tripled", changed(lambda leaf: 3 * leaf), "values", "received is 3 times the expected value"
    yield "shifted", changed(lambda leaf: leaf + 1.7), "values", "received is the expected value plus 1.7"
    noise = changed(lambda leaf: leaf + torch.rand_like(leaf))
    yield "random", noise, "values", "Called a second time with the same arguments it gave another result"
    for name, touch in (("adds", lambda leaf: leaf.add_(1)), ("reshapes", lambda leaf: leaf.unsqueeze_(0))):

        def in_place(*arguments, touch=touch):
            result = each_tensor(torch.clone, right(*arguments))
            touch(next(leaf for leaf in flat(arguments) if isinstance(leaf, Tensor)).detach_())
            return result

        yield f"{name} in place", in_place, "inputs kept", "The call changed its input"
    first = right(*cases[0].make())
    shapes = {tuple(leaf.shape for leaf in flat(right(*case.make()))) for case in cases}
    yield "pasted", lambda *arguments: first, "values" if len(shapes) == 1 else "shape", "Right at"
    yield "cached by shape", cached(right), "values", "random seed 0"
    for check in exercise.ladder:
        if isinstance(check, Gradients):
            if not any(entry.fails == "gradients" for entry in exercise.bank):
                yield "cut off", changed(lambda leaf: leaf.detach()), "gradients", "no gradient flows back"
            more = 5 * check.rtol
            off = changed(lambda leaf, more=more: leaf + more * (leaf - leaf.detach()))
            yield "gradient not precise", off, "gradients", "the gradient with respect"
        if isinstance(check, Property):
            for case in check.cases:
                broken = changed(lambda leaf: leaf + 1.7, only=case)
                yield "broken promise", broken, "property", f"a promise is broken: {check.promise}"

    def endless(*arguments):
        while True:
            pass

    yield "endless", endless, "runs", "still running after 0.3 s and was stopped. It was at line"
    for entry in exercise.bank:
        if entry.fails == "values":
            yield f"only at first {entry.misconception}", halfway(exercise, entry.answer), "values", ""


def flat(value: object) -> list:
    return [leaf for entry in value for leaf in flat(entry)] if isinstance(value, tuple | list) else [value]


def same(one: object, other: object) -> bool:
    return len(flat(one)) == len(flat(other)) and all(
        a.shape == b.shape and torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(flat(one), flat(other), strict=True)
    )


def cached(function: Callable) -> Callable:
    """Remembers its first result for each shape of input."""
    known = {}

    def answer(*arguments):
        key = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in flat(arguments))
        return known.setdefault(key, function(*arguments))

    return answer


def halfway(exercise: Exercise, wrong: Callable) -> Callable:
    """A wrong answer of the bank on the first case that shows it, and something else on the other cases."""
    shows = next(
        case for case in exercise.cases if not same(flat(wrong(*case.make())), flat(exercise.reference(*case.make())))
    )

    def answer(*arguments):
        if same(arguments, shows.make()):
            return wrong(*arguments)
        return each_tensor(lambda leaf: leaf * 1.3 + 0.21, exercise.reference(*arguments))

    return answer


@each_exercise
def test_every_answer_gets_its_own_verdict(exercise):
    assert problems(exercise) == []


@each_exercise
def test_no_two_seeds_have_the_same_result(exercise):
    by_shape = {}
    for case in exercise.cases:
        if case.seed is not None:
            by_shape.setdefault(case.shape, []).append(exercise.reference(*case.make()))
    assert not any(same(flat(one), flat(other)) for one, other in by_shape.values())


@each_exercise
def test_wrong_answers_differ_from_the_reference_by_more_than_rounding(exercise):
    check = next(check for check in exercise.ladder if isinstance(check, Values))
    for entry in exercise.bank:
        if entry.fails != "values" or not exercise.asks_for_function:
            continue
        wrong, right = Trial(exercise, entry.answer), Trial(exercise, exercise.reference)
        largest = max(
            ((a - b).abs() / (check.atol + check.rtol * b.abs())).nan_to_num(torch.inf).max()
            for one, other in zip(wrong.outcomes, right.outcomes, strict=True)
            for a, b in zip(flat(one.ran.value), flat(other.ran.value), strict=True)
        )
        assert largest > 100, f"{entry.misconception} is hardly told from the right answer"


def test_the_course_has_its_exercises():
    wrong_answers = sum(len(exercise.bank) for exercise in EXERCISES.values())
    print(f"{len(EXERCISES)} exercises, {wrong_answers} wrong answers, each with its diagnosis")
    assert len(EXERCISES) >= 5
    assert all(len(exercise.bank) >= 4 for exercise in EXERCISES.values())


def test_no_piece_of_a_grader_can_be_taken_away_unnoticed():
    import mutate_graders  # imports this module

    alive, count = mutate_graders.survivors()
    print(f"{count - len(alive)} of {count} mutants killed")
    assert alive == []
    assert count >= 80
