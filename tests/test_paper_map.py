"""The paper map: claims and cells joined in one page, every place of the papers accounted for, every link on a cell."""

# ruff: noqa: E501  one message stands on one line

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minipolycom.learn.paper_map import STATUSES, Claim, broken_links, paper_map, read_claims, unaccounted

COURSE = Path(__file__).parents[1] / "course"

TESTED = Claim(
    claim="It | works", paper="A paper, figure 2", status="reproduced", scale="tiny", tolerance="5 %", command="make it"
)
OPEN = Claim(claim="It is optimal", paper="A paper, theorem 1", status="not attempted")
FAR = Claim(claim="It sees", paper="Another, table 3", status="out of reach", scale="a telescope; see [here](LOG.md)")


def test_the_page_has_a_table_for_each_paper_with_a_row_for_each_claim():
    cells = {"works": ("03_rates.ipynb", "claim-works")}
    text = paper_map({"works": TESTED, "sees": FAR, "optimal": OPEN}, cells)
    rows = [line for line in text.splitlines() if re.match(r"## |\| It", line)]
    link = "[03_rates](03_rates.ipynb#cell-id=claim-works)"
    assert rows == [
        "## A paper",
        f"| It \\| works | figure 2 | **reproduced** | {link} | tiny | 5 % | `make it` |",
        "| It is optimal | theorem 1 | **not attempted** | – | – | – | – |",
        "## Another",
        "| It sees | table 3 | **out of reach** | – | a telescope; see [here](LOG.md) | – | – |",
    ]
    assert "do not edit" in text


def test_the_page_explains_each_status_that_it_uses_and_counts_it():
    text = paper_map({"far": FAR, "farther": FAR, "optimal": OPEN}, {})
    assert [line for line in text.splitlines() if line.startswith("- **")] == [
        f"- **out of reach** (2): {STATUSES['out of reach']}",
        f"- **not attempted** (1): {STATUSES['not attempted']}",
    ]


def test_a_status_and_a_cell_must_agree():
    with pytest.raises(
        ValueError, match="claim 'works' has status 'reproduced' but no cell tests it; mark the cell with"
    ):
        paper_map({"works": TESTED}, {})
    for claim in (OPEN, FAR):
        with pytest.raises(ValueError, match=f"claim 'x' has status '{claim.status}' and yet a cell tests it"):
            paper_map({"x": claim}, {"x": ("a.ipynb", "x")})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[a-b]\nclaim = "x"\npaper = "p"\nstatus = "proved"\n', r"claims.toml, \[a-b\]: status is one of reproduced, scaled down"),
        ('[a-b]\nclaim = "x"\npaper = "p"\nstatus = "reproduced"\n', r"\[a-b\]: a claim with status 'reproduced' says its scale and tolerance"),
        ('[a-b]\nclaim = "x"\npaper = "p"\nstatus = "out of reach"\n', r"\[a-b\]: a claim with status 'out of reach' says its scale\."),
        ('[a-b]\nclaim = "x"\nstatus = "not attempted"\n', r"\[a-b\]: missing 1 required keyword-only argument: 'paper'. Fields: claim, paper"),
        ('[a-b]\nclaims = "x"\n', r"\[a-b\]: got an unexpected keyword argument 'claims'. Fields: claim, paper, status"),
        ('[A_b]\nclaim = "x"\n', r"\[A_b\]: a claim's key is made of small letters, digits and hyphens"),
        ('[places.P]\n"figure 1" = ["gone"]\n', r"claims.toml: P, figure 1: its claim 'gone' is not declared"),
    ],
)  # fmt: skip
def test_a_claim_that_lacks_something_is_refused(tmp_path, text, said):
    file = tmp_path / "claims.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_claims(file)


def test_no_claims_file_is_no_claims(tmp_path):
    assert read_claims(tmp_path / "claims.toml") == {}


def test_places_and_claims_name_each_other():
    claims = {"a": replace(OPEN, paper="P, figure 1 and table 2"), "b": replace(OPEN, paper="P, its code")}
    places = {"P": {"figure 1": ["a"], "table 2": ["a"], "its code": ["b"]}}
    assert unaccounted(places, claims) == []
    assert unaccounted({"P": places["P"] | {"lemma 4": []}}, claims) == ["P, lemma 4: no claim says what became of it"]
    without = {"P": {place: keys for place, keys in places["P"].items() if place != "table 2"}}
    assert unaccounted(without, claims) == ["[a]: names table 2, under which it does not stand"]
    (problem,) = unaccounted(places, claims | {"c": replace(OPEN, paper="P, section 4.3")})
    assert problem == "[c]: stands under no place; add it to [places], under 'P, section 4.3'"
    (problem,) = unaccounted(places, claims | {"b": replace(OPEN, paper="Q, its code")})
    assert problem == "[b]: stands under P, its code; its paper is 'Q, its code'"


def test_a_link_lands_on_a_cell_or_is_named(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("x", id="claim-works")]), tmp_path / "03_rates.ipynb")
    (tmp_path / "RESULTS.md").touch()
    file = tmp_path / "PAPER_MAP.md"
    file.write_text(paper_map({"works": TESTED}, {"works": ("03_rates.ipynb", "claim-works")}))
    assert broken_links(file) == []
    for cell in (("03_rates.ipynb", "claim-gone"), ("04_gone.ipynb", "claim-works")):
        file.write_text(paper_map({"works": TESTED}, {"works": cell}))
        assert broken_links(file) == ["#cell-id=".join(cell)]
    file.write_text(paper_map({"far": FAR}, {}))
    assert broken_links(file) == ["LOG.md"]


def test_the_courses_own_map_lands_on_its_cells():
    assert broken_links(COURSE / "PAPER_MAP.md") == []
    assert "#cell-id=" in (COURSE / "PAPER_MAP.md").read_text(encoding="utf-8")


def test_the_courses_own_map_has_every_place_of_both_papers_and_nothing_left_to_do():
    claims = read_claims(COURSE / "source" / "claims.toml")
    places = tomllib.loads((COURSE / "source" / "claims.toml").read_text(encoding="utf-8"))["places"]
    assert list(places) == ["PolyCom", "RDM"]
    assert unaccounted(places, claims) == []
    for key in claims:  # no row can be dropped, and none added, without the inventory's knowing
        assert unaccounted(places, {other: claim for other, claim in claims.items() if other != key})
        assert unaccounted(places, claims | {"new": claims[key]})
    text = (COURSE / "PAPER_MAP.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if "| **" in line]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [claim.claim for claim in claims.values()]
    statuses = {re.search(r"\| \*\*(.+?)\*\* \|", row)[1] for row in rows}
    assert statuses <= STATUSES.keys() - {"not attempted"}
