"""What a setting may be, said the same way everywhere: each check raises ValueError with the rule and what it got."""

import sys
from collections.abc import Iterable
from dataclasses import fields

KINDS = {
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: (
        "a finite number",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        ),
    ),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a text", lambda value: isinstance(value, str)),
}
"""For each kind of setting, what it is called and how it is told. A bool is no number here, nor is NaN."""

LARGEST_SEED = 2**64 - 1
"""What torch's generators take."""


def check_kind(name: str, value: object, kind: type) -> None:
    called, holds = KINDS[kind]
    if not holds(value):
        raise ValueError(f"{name} is {called}; got {value!r}")


def check_at_least(name: str, value: int, least: int) -> None:
    check_kind(name, value, int)
    if value < least:
        raise ValueError(f"{name} is at least {least}; got {value}")


def check_kinds(config: object) -> None:
    """Each field of a dataclass against the kind of its annotation."""
    for field in fields(config):
        check_kind(field.name, getattr(config, field.name), field.type)


def check_seed(value: int) -> None:
    check_kind("seed", value, int)
    if not 0 <= value <= LARGEST_SEED:
        raise ValueError(f"seed is a whole number from 0 to 2**64 - 1; got {value}")


def check_known(what: str, value: object, known: Iterable[str]) -> None:
    if value not in (known := list(known)):
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
