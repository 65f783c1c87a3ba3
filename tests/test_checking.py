"""The kinds of settings: what each admits, and the sentence that refuses the rest."""

import math
from dataclasses import dataclass

import pytest

from minipolycom.checking import LARGEST_SEED, check_at_least, check_kinds, check_known, check_seed


@dataclass(kw_only=True)
class Settings:
    count: int = 1
    rate: float = 0.5
    on: bool = False
    word: str = "a"


@pytest.mark.parametrize("fields", [{}, {"rate": 1}, {"rate": -1e308}, {"count": -3}, {"on": True}, {"word": ""}])
def test_values_of_the_right_kind_pass(fields):
    check_kinds(Settings(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 2.5}, "count is a whole number; got 2.5"),
        ({"count": 2.0}, "count is a whole number; got 2.0"),
        ({"count": True}, "count is a whole number; got True"),
        ({"count": "8"}, "count is a whole number; got '8'"),
        ({"count": None}, "count is a whole number; got None"),
        ({"rate": math.nan}, "rate is a finite number; got nan"),
        ({"rate": -math.inf}, "rate is a finite number; got -inf"),
        ({"rate": 10**400}, "rate is a finite number; got 1000"),
        ({"rate": False}, "rate is a finite number; got False"),
        ({"on": 1}, "on is True or False; got 1"),
        ({"word": 3}, "word is a text; got 3"),
    ],
)
def test_a_value_of_another_kind_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_kinds(Settings(**fields))


def test_seeds_are_those_that_torch_takes():
    import torch

    for seed in (0, LARGEST_SEED):
        check_seed(seed)
        torch.Generator().manual_seed(seed)
    for seed in (-1, LARGEST_SEED + 1, 1.5):
        with pytest.raises(ValueError, match="seed is a whole number"):
            check_seed(seed)


def test_a_count_has_a_least_value():
    check_at_least("rows", 1, 1)
    with pytest.raises(ValueError, match=r"^rows is at least 1; got 0$"):
        check_at_least("rows", 0, 1)
    with pytest.raises(ValueError, match="rows is a whole number; got True"):
        check_at_least("rows", True, 1)


def test_an_unknown_word_is_refused_with_the_known_ones():
    check_known("fruit", "apple", ("apple", "pear"))
    with pytest.raises(ValueError, match=r"^unknown fruit 'fig'; known: apple, pear$"):
        check_known("fruit", "fig", ("apple", "pear"))
