"""The paper map: which claim of a paper was tested in which cell, at what scale, and with what result.

Claims are declared once, in `course/source/claims.toml`; a cell marked `claim="key"` is the one that tests it. From
the two, `course/PAPER_MAP.md` is generated. One claim:

    [relu-kills-units]
    claim = "A deep ReLU network has units that are silent on every sample"
    paper = "PolyCom, section 1"
    status = "scaled down"            # one of STATUSES
    scale = "8 layers of 64 units instead of 24 of 8256"
    tolerance = "at least 1 % of the units, in each of 5 seeds"
    command = "minipolycom train --preset small --activation relu"

Of a claim that a recorded study tests, status, scale, tolerance and command follow from the record, by rule, whatever
stands there (see `minipolycom.studies.results`); until there is a record it is "not attempted". A claim that is "out of
reach" says as its scale why, and what of it is tested instead. Every other claim needs a cell, a scale and a tolerance.

That no row gets lost, the file begins with an inventory: of each paper all places that we know something of, and the
claims that say what became of them. A claim's `paper` names its places.

    [places.PolyCom]
    "figure 1" = ["dense-loss", "dense-speed"]
"""

import re
import tomllib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nbformat

STATUSES = {
    "reproduced": "what the paper says came out here, and nothing about it depends on size",
    "scaled down": "it came out here, in something far smaller than the paper's; of a question: yes",
    "contradicted": "the opposite came out here, which may hold for our scale alone; of a question: no",
    "undecided": "we measured, and the interval does not say",
    "out of reach": "nothing of our size can test it; the row says why, and what of it is tested elsewhere",
    "not attempted": "neither a cell nor a record tests it",
}
"""What can become of a claim, with what the word means."""

HEAD = """# Paper map

Each claim, table and figure of the two papers that we know of: where it is tested, how far from the paper's scale, with
what result, and what was asked of the result. Generated from the marks in the notebooks' sources, the records and
`source/claims.toml`; do not edit.

We had the abstracts, reviews, code and vector plots of the papers and what others quote of them, not the full texts. A
row that says *asked here* tests a question of which we know that the paper treats it, not what it answers there. No row
prints an accuracy as the RDM paper's, since we could read none of its tables. What our studies say, in plain figures,
is in [RESULTS.md](RESULTS.md)."""
"""What stands at the page's top."""

PLACE = re.compile(r"\b(?:abstract|(?:equation|lemma|theorem|table|figure|section) \d+(?:\.\d+)*[a-z]?)\b")
"""What names a place in a paper by a word or a number, so that it can be told whether the inventory knows it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim or figure of a paper and what became of it here."""

    claim: str
    paper: str
    status: str
    scale: str = ""
    tolerance: str = ""
    command: str = ""

    def __post_init__(self):
        if self.status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}; got {self.status!r}")
        needed = {"not attempted": (), "out of reach": ("scale",)}.get(self.status, ("scale", "tolerance"))
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"a claim with status {self.status!r} says its {' and '.join(missing)}")


def read_claims(file: Path) -> dict[str, Claim]:
    """The declared claims by key; none where there is no such file.

    Raises ValueError for an unknown or missing field, an unknown status, and claims that differ from the inventory of
    places, where the file has one; naming file and claim.
    """
    if not file.exists():
        return {}
    declared = tomllib.loads(file.read_text(encoding="utf-8"))
    places = declared.pop("places", None)
    claims = {}
    for key, fields in declared.items():
        if not re.fullmatch(r"[a-z0-9-]+", key):
            raise ValueError(f"{file.name}, [{key}]: a claim's key is made of small letters, digits and hyphens")
        try:
            claims[key] = Claim(**fields)
        except (TypeError, ValueError) as error:
            problem = str(error).removeprefix("Claim.__init__() ")
            known = ", ".join(Claim.__dataclass_fields__)
            raise ValueError(f"{file.name}, [{key}]: {problem}. Fields: {known}") from None
    if places is not None and (problems := unaccounted(places, claims)):
        raise ValueError(f"{file.name}: " + "; ".join(problems))
    return claims


def unaccounted(places: dict[str, dict[str, list[str]]], claims: dict[str, Claim]) -> list[str]:
    """Where an inventory, the keys of claims by paper and place, and the claims themselves differ, in words.

    Each place has a claim, each claim a place, and both name each other.
    """
    problems, listed = [], {}
    for paper, of_paper in places.items():
        for place, keys in of_paper.items():
            if not keys:
                problems.append(f"{paper}, {place}: no claim says what became of it")
            for key in keys:
                listed.setdefault(key, set()).add(place)
                if key not in claims:
                    problems.append(f"{paper}, {place}: its claim {key!r} is not declared")
                elif not claims[key].paper.startswith(paper) or place not in claims[key].paper:
                    problems.append(f"[{key}]: stands under {paper}, {place}; its paper is {claims[key].paper!r}")
    for key, claim in claims.items():
        named = set(PLACE.findall(claim.paper))
        if key not in listed:
            problems.append(f"[{key}]: stands under no place; add it to [places], under {claim.paper!r}")
        elif missing := sorted(named - listed[key]):
            problems.append(f"[{key}]: names {', '.join(missing)}, under which it does not stand")
    return problems


def paper_map(claims: dict[str, Claim], cells: dict[str, tuple[str, str]], recorded: Collection[str] = ()) -> str:
    """The page as markdown, with a table for each paper. `cells` gives for each claim that a cell tests its notebook
    (file name) and cell id, `recorded` the keys of those that a recorded study tests.

    Raises ValueError when a claim's status contradicts what tests it.
    """
    tables: dict[str, list[str]] = {}
    for key, claim in claims.items():
        untested = claim.status in ("not attempted", "out of reach")
        if (key in cells or key in recorded) == untested:
            said = f"has status {claim.status!r}" + (
                " and yet a cell tests it" if key in cells else " but no cell tests it"
            )
            raise ValueError(f'claim {key!r} {said}; mark the cell with claim="{key}" or correct the status')
        paper, _, place = claim.paper.partition(", ")
        tables.setdefault(paper, []).append(_row(claim, place, cells.get(key), key in recorded))
    number = Counter(claim.status for claim in claims.values())
    meanings = [
        f"- **{status}** ({number[status]}): {meaning}" for status, meaning in STATUSES.items() if number[status]
    ]
    lines = [HEAD, "", f"{len(claims)} rows, by status:", "", *meanings]
    for paper, rows in tables.items():
        lines += ["", f"## {paper}", ""]
        lines += ["| claim or figure | in the paper | status | tested in | our scale | what was asked | full run |"]
        lines += ["|---|---|---|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(claim: Claim, place: str, cell: tuple[str, str] | None, recorded: bool) -> str:
    where = [f"[{cell[0].removesuffix('.ipynb')}]({cell[0]}#cell-id={cell[1]})"] if cell else []
    if recorded:
        where.append("[results](RESULTS.md)")
    columns = (
        claim.claim,
        place,
        f"**{claim.status}**",
        ", ".join(where) or "–",
        claim.scale or "–",
        claim.tolerance or "–",
        f"`{claim.command}`" if claim.command else "–",
    )
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"


def broken_links(file: Path) -> list[str]:
    """The links of a paper map that land on no cell, or on no file."""
    broken = []
    for target, cell in re.findall(r"\]\(([^)#]+)(?:#cell-id=([^)]+))?\)", file.read_text(encoding="utf-8")):
        linked = file.parent / target
        if not linked.exists():
            broken.append(f"{target}#cell-id={cell}" if cell else target)
        elif cell and cell not in {c.get("id") for c in nbformat.read(linked, as_version=4).cells}:
            broken.append(f"{target}#cell-id={cell}")
    return broken
