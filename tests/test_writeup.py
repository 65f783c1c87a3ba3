"""The page about an experiment: all its sections, in their order, with the numbers."""

import pytest

from minipolycom.studies.statistics import student_interval
from minipolycom.studies.writeup import SECTIONS, write_up

CONTENT = {name: f"About {name.lower()}." for name in SECTIONS}


def test_a_page_has_every_section_in_order() -> None:
    page = write_up("Does it?", dict(reversed(CONTENT.items())))
    assert page.startswith("# Does it?\n\n## Claim\n\nAbout claim.\n\n## Protocol")
    places = [page.index(f"## {name}\n\nAbout") for name in SECTIONS]
    assert places == sorted(places)


def test_points_become_a_list_and_intervals_a_table() -> None:
    found = student_interval([0.1, 0.2, 0.3])
    page = write_up("Does it?", CONTENT | {"Protocol": ["three seeds", "in pairs"], "Result": {"a minus b": found}})
    assert "- three seeds\n- in pairs" in page
    assert f"| a minus b | +0.2000 | {found.low:+.4f} | {found.high:+.4f} | 3 |" in page
    assert "Intervals of 95% over seeds." in page


def test_what_is_missing_empty_or_unknown_is_named() -> None:
    with pytest.raises(ValueError, match="missing or unknown: Rule"):
        write_up("Does it?", {name: text for name, text in CONTENT.items() if name != "Rule"})
    with pytest.raises(ValueError, match="missing or unknown: Hope"):
        write_up("Does it?", CONTENT | {"Hope": "much"})
    with pytest.raises(ValueError, match="write something under Verdict"):
        write_up("Does it?", CONTENT | {"Verdict": ""})
