"""The generated language: its whole grammar. What follows from it exactly is worked out in `language`.

A rule is a function of features that yields its alternatives: (weight, first word, *rest). The features carry what
must be remembered: who acts (she, he, it, they), who has which key, what the numbers so far amount to. A word in the
rest is fixed by what came before, and its kind says how:

    choice      drawn by a rule, by its weights: all of the entropy is here
    form        fixed by the construction: "so the key of"
    agreement   number and gender of the one who acts: has or have, her or his, itself or themselves
    reference   a name or a colour that came before
    nesting     closes what was opened: "if ... then", "either ... or", as deep as chance has it (no limit, finite mean)
    product     "seven times eight mod ten is six": the answer needs products of its inputs
    sum         "seven plus eight mod ten is five": its control, alike in all but the operation
    end         the full stop, and the separator after it

Sentences are independent of each other. A product is the easier guess: whoever has missed one of two numbers guesses
their sum mod ten at 2.30 nats (ln 10), their product at 1.63 (five times anything is five or zero). So compare
activations on each of the two kinds, not the one kind with the other.
"""

from collections.abc import Callable, Iterator

from minipolycom.text.language import Language, Symbol, Word, rule

NAMES = {"anna": "she", "clara": "she", "emma": "she", "ben": "he", "david": "he", "felix": "he"}
ANIMALS = {"cat": "it", "dog": "it", "bird": "it", "cats": "they", "dogs": "they", "birds": "they"}
COLOURS = ("red", "green", "blue", "white")
VERBS = ("seen", "found", "heard", "followed")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOSERS = {"if": "then", "either": "or"}

HAS = {"she": "has", "he": "has", "it": "has", "they": "have"}
OWN = {"she": "her", "he": "his", "it": "its", "they": "their"}
SELF = {"she": "herself", "he": "himself", "it": "itself", "they": "themselves"}


def agreeing(forms: dict[str, str], who: str) -> Word:
    return Word(forms[who], "agreement", among=tuple(forms.values()))


def closing(opener: str) -> Word:
    return Word(CLOSERS[opener], "nesting", among=tuple(CLOSERS.values()))


@rule
def clause():
    """A statement; statements stand inside statements."""
    for opener in CLOSERS:
        yield 8, opener, clause(), closing(opener), clause()  # if ben has seen emma then ...
    yield from subjects(30, deed)
    yield 10, "since", helper()
    yield 10, "suppose", owner()
    for number, digit in enumerate(DIGITS):
        yield 4, digit, operation(number)


def subjects(weight: float, predicate: Callable[[str], Symbol]) -> Iterator[tuple]:
    """Alternatives in which somebody acts: the predicate, and the verb before it, agree with who it is."""
    for name, who in NAMES.items():
        yield weight * 0.5 / len(NAMES), name, agreeing(HAS, who), predicate(who)
    yield weight * 0.25, "the", animal(predicate)
    yield weight * 0.25, "those", relative(), agreeing(HAS, "they"), predicate("they")


@rule
def animal(predicate=None):
    for word, who in ANIMALS.items():
        yield 1, word, *([agreeing(HAS, who), predicate(who)] if predicate else [])


@rule
def relative():
    yield 3, "who", agreeing(HAS, "they"), deed("they")  # those who have seen ben [have ...]
    yield 2, "whom", actor()  # those whom anna has seen [have ...]


@rule
def actor():
    yield from subjects(1, verb)


@rule
def verb(who):
    for word in VERBS:
        yield 1, word


@rule
def deed(who):
    """What somebody has done, after has or have."""
    for word in VERBS:
        yield 3, word, someone()
    yield 4, "lost", agreeing(OWN, who), thing()  # the dogs have lost their ball
    yield 4, "hurt", agreeing(SELF, who)
    yield 2, "said", "that", clause()


@rule
def thing():
    for word in ("key", "ball", "book", "cup"):
        yield 1, word


@rule
def someone():
    for name in NAMES:
        yield 1, name
    yield 3, "the", animal()
    yield 1, "those", relative()


@rule
def helper():
    """Since anna has helped ben , ben has thanked anna: both names return."""
    for name, who in NAMES.items():
        yield 1, name, agreeing(HAS, who), "helped", helped(name)


@rule
def helped(helper):
    for name, who in NAMES.items():
        if name != helper:
            yield 1, name, ",", Word(name, "reference", tuple(NAMES)), agreeing(HAS, who), thanked(helper)


@rule
def thanked(helper):
    for word in ("thanked", "praised", "kissed"):
        yield 1, word, Word(helper, "reference", tuple(NAMES))


@rule
def owner(*first):
    """Suppose anna has a red key and ben has a blue key so the key of anna is red: which colour was whose?"""
    for name, who in NAMES.items():
        if name not in first:
            yield 1, name, agreeing(HAS, who), "a", colour(*first, name)


@rule
def colour(*so_far):
    for word in COLOURS:
        if word not in so_far:
            if len(so_far) == 1:
                yield 1, word, "key", "and", owner(*so_far, word)
            else:
                yield 1, word, "key", "so", "the", "key", "of", recall(*so_far, word)


@rule
def recall(name, its_colour, other_name, other_colour):
    yield 1, name, "is", Word(its_colour, "reference", COLOURS)
    yield 1, other_name, "is", Word(other_colour, "reference", COLOURS)


@rule
def operation(number):
    yield 1, "times", factor(number)
    yield 1, "plus", summand(number)


@rule
def factor(product):
    for number, digit in enumerate(DIGITS):
        yield 1, digit, result("product", "times", factor, product * number % 10)


@rule
def summand(total):
    for number, digit in enumerate(DIGITS):
        yield 1, digit, result("sum", "plus", summand, (total + number) % 10)


@rule
def result(kind, sign, another, value):
    yield 1, sign, another(value)
    yield 3, "mod", "ten", "is", Word(DIGITS[value], kind, DIGITS)


LANGUAGE = Language(clause())
