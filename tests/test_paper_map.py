"""The paper map: claims and cells joined in one table, and every link on a cell."""

# ruff: noqa: E501  one message stands on one line

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minipolycom.learn.paper_map import STATUSES, Claim, broken_links, paper_map, read_claims

TESTED = Claim(
    claim="It | works", paper="A paper, figure 2", status="reproduced", scale="tiny", tolerance="5 %", command="make it"
)
OPEN = Claim(claim="It is optimal", paper="A paper, theorem 1", status="not attempted")  # fmt: skip


def test_the_table_has_a_row_for_each_claim():
    text = paper_map({"works": TESTED, "optimal": OPEN}, {"works": ("03_rates.ipynb", "claim-works")})
    rows = [line for line in text.splitlines() if line.startswith("| It")]
    link = "[03_rates](03_rates.ipynb#cell-id=claim-works)"
    assert rows == [
        f"| It \\| works | A paper, figure 2 | {link} | tiny | reproduced | 5 % | `make it` |",
        "| It is optimal | A paper, theorem 1 | – | – | not attempted | – | – |",
    ]
    assert "do not edit" in text


def test_a_status_and_a_cell_must_agree():
    with pytest.raises(
        ValueError, match="claim 'works' has status 'reproduced' but no cell tests it; mark the cell with"
    ):
        paper_map({"works": TESTED}, {})
    with pytest.raises(ValueError, match="claim 'optimal' has status 'not attempted' and yet a cell tests it"):
        paper_map({"optimal": OPEN}, {"optimal": ("a.ipynb", "x")})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[a-b]\nclaim = "x"\npaper = "p"\nstatus = "proved"\n', r"claims.toml, \[a-b\]: status is one of reproduced, scaled down"),
        ('[a-b]\nclaim = "x"\npaper = "p"\nstatus = "reproduced"\n', r"\[a-b\]: a claim with status 'reproduced' says its scale and tolerance"),
        ('[a-b]\nclaim = "x"\nstatus = "not attempted"\n', r"\[a-b\]: missing 1 required keyword-only argument: 'paper'. Fields: claim, paper"),
        ('[a-b]\nclaims = "x"\n', r"\[a-b\]: got an unexpected keyword argument 'claims'. Fields: claim, paper, status"),
        ('[A_b]\nclaim = "x"\n', r"\[A_b\]: a claim's key is made of small letters, digits and hyphens"),
    ],
)  # fmt: skip
def test_a_claim_that_lacks_something_is_refused(tmp_path, text, said):
    file = tmp_path / "claims.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_claims(file)


def test_no_claims_file_is_no_claims(tmp_path):
    assert read_claims(tmp_path / "claims.toml") == {}


def test_a_link_lands_on_a_cell_or_is_named(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("x", id="claim-works")]), tmp_path / "03_rates.ipynb")
    file = tmp_path / "PAPER_MAP.md"
    file.write_text(paper_map({"works": TESTED}, {"works": ("03_rates.ipynb", "claim-works")}))
    assert broken_links(file) == []
    for cell in (("03_rates.ipynb", "claim-gone"), ("04_gone.ipynb", "claim-works")):
        file.write_text(paper_map({"works": TESTED}, {"works": cell}))
        assert broken_links(file) == ["#cell-id=".join(cell)]


def test_the_courses_own_map_lands_on_its_cells():
    course = Path(__file__).parents[1] / "course"
    text = (course / "PAPER_MAP.md").read_text(encoding="utf-8")
    assert broken_links(course / "PAPER_MAP.md") == []
    assert "#cell-id=" in text
    assert all(any(f"| {status} |" in line for status in STATUSES) for line in text.splitlines()[7:])
