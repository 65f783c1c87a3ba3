"""The page that opens the course: each notebook once, times that add up, and what it refuses."""

import pytest

from minipolycom.learn.course_page import course_page, hours

TITLES = {
    "00_start": {"title": "Start", "minutes": 45},
    "01_on": {"title": "On", "minutes": 90, "prerequisites": "00"},
}
DECLARED = """
[claims]
00_start = "it starts"
01_on = "it goes on"
[[ways]]
name = "Short"
about = "One of them."
notebooks = ["01"]
[[ways]]
name = "All"
about = "Both."
[[ways]]
name = "None"
about = "[Results](RESULTS.md)."
notebooks = []
"""


@pytest.fixture
def declared(tmp_path):
    file = tmp_path / "course.toml"
    file.write_text(DECLARED)
    return file


def test_each_notebook_has_a_row_and_each_way_its_time(declared):
    page = course_page(declared, TITLES, {"01_on": 6})
    assert "| [00 Start](00_start.ipynb) ([solutions](solutions/00_start.ipynb)) | it starts | 45 | 0 | – |" in page
    assert "| it goes on | 90 | 6 | 00 |" in page
    assert "**Short**, about 1.5 hours. One of them.\n\n[01](01_on.ipynb)\n" in page
    assert "**All**, about 2 hours. Both.\n\n[00](00_start.ipynb) → [01](01_on.ipynb)\n" in page
    assert page.endswith("**None**. [Results](RESULTS.md).\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('00_start = "it starts"', "", "each notebook has one line and each line a notebook, but for 00_start"),
        ("00_start =", "02_gone = 'gone'\n00_start =", "but for 02_gone"),
        ('["01"]', '["07"]', "way 'Short': there is no notebook 07"),
    ],
)
def test_what_is_missing_is_named(declared, old, new, message):
    declared.write_text(DECLARED.replace(old, new))
    with pytest.raises(ValueError, match=message):
        course_page(declared, TITLES, {})


def test_hours_are_rounded_to_halves():
    assert [hours(minutes) for minutes in (10, 60, 80, 225)] == [
        "about 0.5 hours", "about 1 hour", "about 1.5 hours", "about 4 hours",
    ]  # fmt: skip
