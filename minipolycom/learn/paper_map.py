"""The paper map: which claim of a paper was tested in which cell, at what scale, and with what result.

Claims are declared once, in `course/source/claims.toml`; a cell marked `claim="key"` is the one that tests it. From
the two, `course/PAPER_MAP.md` is generated. One claim:

    [relu-kills-units]
    claim = "A deep ReLU network has units that are silent on every sample"
    paper = "PolyCom, section 1"
    status = "scaled down"            # reproduced, scaled down, contradicted, undecided, not attempted
    scale = "8 layers of 64 units instead of 24 of 8256"
    tolerance = "at least 1 % of the units, in each of 5 seeds"
    command = "minipolycom train --preset small --activation relu"

A claim that neither a cell nor a study tests has status "not attempted", and needs neither scale nor tolerance; every
other claim needs both. Of a claim that a recorded study tests these fields follow from the record, by rule, whatever
stands there (see `minipolycom.studies.results`).
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nbformat

STATUSES = ("reproduced", "scaled down", "contradicted", "undecided", "not attempted")
HEAD = """# Paper map

Which claim is tested where, how far from the paper's scale, and with what result. Generated from the marks in the
notebooks' sources and `source/claims.toml`; do not edit.
"""


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
        if self.status != "not attempted":
            missing = [name for name in ("scale", "tolerance") if not getattr(self, name)]
            if missing:
                raise ValueError(f"a claim with status {self.status!r} says its {' and '.join(missing)}")


def read_claims(file: Path) -> dict[str, Claim]:
    """The declared claims by key; none where there is no such file.

    Raises ValueError for an unknown or missing field and an unknown status, naming file and claim.
    """
    if not file.exists():
        return {}
    claims = {}
    for key, fields in tomllib.loads(file.read_text(encoding="utf-8")).items():
        if not re.fullmatch(r"[a-z0-9-]+", key):
            raise ValueError(f"{file.name}, [{key}]: a claim's key is made of small letters, digits and hyphens")
        try:
            claims[key] = Claim(**fields)
        except (TypeError, ValueError) as error:
            problem = str(error).removeprefix("Claim.__init__() ")
            known = ", ".join(Claim.__dataclass_fields__)
            raise ValueError(f"{file.name}, [{key}]: {problem}. Fields: {known}") from None
    return claims


def paper_map(claims: dict[str, Claim], cells: dict[str, tuple[str, str]], recorded: Collection[str] = ()) -> str:
    """The table as markdown. `cells` gives for each claim that a cell tests its notebook (file name) and cell id,
    `recorded` the keys of those that a recorded study tests.

    Raises ValueError when a claim's status contradicts what tests it.
    """
    rows = []
    for key, claim in claims.items():
        if (key in cells or key in recorded) == (claim.status == "not attempted"):
            said = f"has status {claim.status!r}" + (
                " and yet a cell tests it" if key in cells else " but no cell tests it"
            )
            raise ValueError(f'claim {key!r} {said}; mark the cell with claim="{key}" or correct the status')
        where: list[str] = []
        if key in cells:
            where.append(f"[{cells[key][0].removesuffix('.ipynb')}]({cells[key][0]}#cell-id={cells[key][1]})")
        if key in recorded:
            where.append("[results](RESULTS.md)")
        command = f"`{claim.command}`" if claim.command else "–"
        row = (
            claim.claim,
            claim.paper,
            ", ".join(where) or "–",
            claim.scale or "–",
            claim.status,
            claim.tolerance or "–",
            command,
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    table = [
        "| claim or figure | paper | cell | our scale | status | tolerance | full run |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([HEAD, *table, *rows]) + "\n"


def broken_links(file: Path) -> list[str]:
    """The links of a paper map that land on no cell."""
    broken = []
    for notebook, cell in re.findall(r"\]\(([^)#]+)#cell-id=([^)]+)\)", file.read_text(encoding="utf-8")):
        target = file.parent / notebook
        if not target.exists() or cell not in {c.get("id") for c in nbformat.read(target, as_version=4).cells}:
            broken.append(f"{notebook}#cell-id={cell}")
    return broken
