"""What the records say, as a page: course/RESULTS.md; and as statuses of the claims in the paper map."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from minipolycom.learn.paper_map import Claim
from minipolycom.studies.catalogue import STUDIES
from minipolycom.studies.leaderboard import label
from minipolycom.studies.records import Record, largest
from minipolycom.studies.statistics import Reached, median_steps
from minipolycom.studies.study import LEVEL, judge

HEAD = f"""# Results

What our studies say of what the papers claim or treat, and of our own questions: a sentence, a figure, a verdict.
Nothing here is at a paper's scale; how small it was stands with each study below. Generated from the records in
`reference/studies`; do not edit.

- **holds**: the figure's interval lies wholly where the sentence says.
- **fails**: it lies wholly on the other side.
- **undecided**: it reaches to both sides, or chance alone could have put it on one. That is not a no: a few seeds
  decide large differences only. *Alone* says how many comparisons would speak for the sentence, and how many against
  it, if each were the only one.

A figure is the mean over seeds with its {LEVEL:.0%} interval. Differences are paired, each run with the one of the
other arm that saw the same batches; p-values are adjusted for all comparisons of a study (Holm's method) and have to be
under {1 - LEVEL:.2f}. A sentence with several comparisons holds if all of them do and fails if one does; it stands here
with the least clear of them and the number that hold. Losses are in nats per token, on text that was not trained on; a
token is a byte of Python's library, or a word of a generated language whose lowest possible loss is known. Effective
ranks are in dimensions. Which cell of the course asks the same, and what is out of reach at this size, is in the
[paper map](PAPER_MAP.md); what surprised, in the [log](LOG.md)."""
"""What stands at the page's top."""

VERDICTS = ("holds", "fails", "undecided")

QUANTITIES = {
    "loss": "loss",
    "saved": "part of the training saved",
    "error": "relative error",
    "weight_rank": "effective rank of the feed-forward weights",
    "weight_rank_at_loss": "effective rank of the feed-forward weights, at equal loss",
    "similarity": "cosine similarity of the layers",
    "similarity_at_loss": "cosine similarity of the layers, at equal loss",
    "rank_gain": "effective rank that it adds",
    "gain_with_loss": "correlation of added rank and loss",
    "exponent": "exponent of the loss over the parameters",
    "lead_gained": "lead over SwiGLU at the largest size minus that at the smallest, in loss",
    "time_ratio": "time of forward and backward, relative to GELU's",
    "rank_difference": "effective rank of the target minus that of the online branch",
    "erank_projected": "effective rank of the outputs",
}
"""What is compared, in words."""

NAMES = {
    "relu": "ReLU", "squared_relu": "squared ReLU", "gelu": "GELU", "silu": "SiLU", "swiglu": "SwiGLU",
    "geglu": "GEGLU", "polyrelu": "PolyReLU", "polynorm": "PolyNorm", "polyprelu": "PolyPReLU",
    "polyrelunorm": "PolyReLUNorm", "sumnorm": "one norm of the sum", "all": "all activations",
    "variance start": "started so as to keep the mean square", "linear start": "started at the first power alone",
    "stdlib": "Python's library", "grammar": "generated language",
}  # fmt: skip
"""How papers write what is compared."""


def results(records: Iterable[Record], claims: Mapping[str, Claim] | None = None) -> str:
    """The page, of the largest tier of each study: first the verdicts, then every comparison.

    Raises ValueError where no record is of a tier whose numbers mean something.
    """
    records = largest(records)
    if not records:
        raise ValueError("there is no record to report: run a study with `minipolycom reproduce NAME --tier cpu`")
    papers = {key: place(claim.paper) for key, claim in (claims or {}).items()}
    judged = [(record, statement) for record in records for statement in record.statements]
    judged.sort(key=lambda each: VERDICTS.index(each[1]["verdict"]))
    lines = [HEAD]
    for title, ours in (("From the papers", False), ("Our own questions", True)):
        own = [(record, statement) for record, statement in judged if ours != bool(statement["claim"])]
        number = Counter(statement["verdict"] for _, statement in own)
        counts = ", ".join(f"{verdict} {number[verdict]}" for verdict in VERDICTS if number[verdict])
        lines += ["", f"## {title}: {counts or 'nothing'}", "", "| statement | our figure | verdict | study |"]
        lines += ["|---|---|---|---|"]
        for record, statement in own:
            text = statement["text"] + ("" if ours else f" ({papers.get(statement['claim'], 'a claim')})")
            study = f"[{record.study}](#{record.study})"
            lines.append(f"| {text} | {figure(deciding(statement))} | {verdict_of(statement)} | {study} |")
    for record in records:
        lines += ["", *section(record)]
    return "\n".join(lines) + "\n"


def deciding(statement: dict) -> dict:
    """The comparison on which a statement's verdict rests: one that fails, else the least certain."""
    return min(statement["comparisons"], key=clearness)


def place(paper: str) -> str:
    """The place in a paper, without what a claim says besides about it."""
    return re.split(r" \(|, (?:and|as|turned) ", paper.replace(" (ICLR 2023)", ""))[0]


def verdict_of(statement: dict) -> str:
    """A statement's verdict, with how many comparisons hold, and what they would say if each were the only one."""
    own = statement["comparisons"]
    holding = sum(line["verdict"] == "holds" for line in own)
    told = f"**{statement['verdict']}**" + (f", {holding} of {len(own)} hold" if len(own) > 1 else "")
    clear = [line["inside"] for line in own if line["p"] is not None and line["p"] < 1 - LEVEL]
    if statement["verdict"] != "undecided" or not clear:
        return told
    return f"{told}; alone {clear.count(True)} for, {clear.count(False)} against"


def section(record: Record) -> list[str]:
    """All that a record says, in lines of markdown."""
    hardware = {
        f"{place['gpu'] or place['machine']}, {place['cores']} cores"
        for place in (piece["environment"] for piece in record.pieces)
    }
    lines = [
        f"## {record.study}",
        "",
        f"{record.question} {'At ' + record.settings['scale'] + '. ' if record.settings['scale'] else ''}"
        f"{len(record.seeds)} seeds, {len(record.pieces)} runs, {record.seconds / 60:.0f} min in all, "
        f"on {'; '.join(sorted(hardware))}; "
        f"{record.recorded[:10]}, commit {', '.join(commit[:10] for commit in record.commits)}. "
        f"Again: `{command(record)}`.",
        "",
        "| comparison | ours | p, adjusted | verdict |",
        "|---|---|---|---|",
    ]
    for statement in record.statements:
        for line in statement["comparisons"]:
            lines.append(f"| {title(line)} | {number(line)} | {chance(line)} | {line['verdict']} |")
    lines += medians(record)
    edges = [group for group, found in record.rates.items() if found["edge"]]
    if edges:
        told = "; ".join(map(spoken, edges))
        lines += [
            "",
            f"The best learning rate lies at an edge of the grid, so that a better one may lie outside, for: {told}.",
        ]
    return lines


def medians(record: Record) -> list[str]:
    """A line for each text: the median over seeds of the steps to the loss that SwiGLU has at its end; none where no
    steps were counted."""
    reached: dict[str, dict[str, list[Reached]]] = {}
    for row in record.table("derived"):
        for name in row.keys() & {"steps_to_swiglu", "at_least"}:
            found = Reached(row[name], censored=name == "at_least")
            reached.setdefault(row["source"], {}).setdefault(row["arm"], []).append(found)
    lines = []
    for source, arms in reached.items():
        told = ", ".join(f"{spoken(arm)} {median_steps(runs)}" for arm, runs in arms.items())
        lines += ["", f"Median steps to the loss that SwiGLU has at its end, {spoken(source)}: {told}."]
    return lines


def clearness(line: dict) -> tuple[int, float]:
    """A key by which the comparison that decides a statement comes first: one that fails, else the least certain."""
    rank = {"fails": 0, "undecided": 1, "holds": 2}[line["verdict"]]
    return rank, -line.get("p_adjusted", 1.0)


def figure(line: dict) -> str:
    """A comparison with its mean and interval, as text."""
    return f"{title(line)}: {number(line)}"


def title(line: dict) -> str:
    """What a comparison compares, as text."""
    first, second = spoken(line["first"]), line["second"] and spoken(line["second"])
    sides = first + (f"{',' * (',' in first)} minus {second}" if second else "")
    where = [
        f"standard deviation {value:g}" if key == "scale" else spoken(value) for key, value in line["where"].items()
    ]
    return f"{QUANTITIES.get(line['measure'], line['measure'])}, {', '.join([sides, *where])}"


def spoken(arm: str) -> str:
    """An arm as papers write it; what follows a comma, such as an order, stays."""
    first, *rest = arm.split(", ")
    if rest and (same := re.fullmatch(r"(\w+), same inside", ", ".join(rest))):
        rest = [f"{same[1]} throughout"]
    return ", ".join([NAMES.get(first) or method(first), *(NAMES.get(each, each) for each in rest)])


def method(arm: str) -> str:
    """The name of a method without labels, or what is none as it stands."""
    try:
        return re.sub(r"\b(online|target)\b", r"\1 filter", label(arm))
    except ValueError:
        return arm


def number(line: dict) -> str:
    """A comparison's mean and interval, as text: to a tenth of the interval's width, or three digits of the mean."""
    if "estimate" not in line:
        return "too few runs finished"
    width = line["high"] - line["low"]
    places = [digits - math.floor(math.log10(abs(x))) for x, digits in ((width, 1), (line["estimate"], 2)) if x]
    mean, low, high = (f"{line[key]:z.{max(0, min(places, default=0))}f}" for key in ("estimate", "low", "high"))
    return f"{mean} ({low} to {high})"


def chance(line: dict) -> str:
    """A comparison's adjusted p-value, as text."""
    if line["p"] is None:
        return "–"
    return f"{line['p_adjusted']:.2g}" if line["p_adjusted"] >= 1e-4 else "< 0.0001"


def command(record: Record) -> str:
    return f"minipolycom reproduce {record.study} --tier {record.tier} --seeds {len(record.seeds)}"


def judged_again(record: Record) -> Record:
    """The record with what its study says today of its rows: a statement may have been worded otherwise, or tied to a
    claim, since the record was made. What was computed, and by which rule it is judged, is the record's own."""
    statements = judge(STUDIES[record.study].statements, record.rows, record.settings["scale"])
    return replace(record, statements=statements)


def recorded_claims(records: Iterable[Record], claims: dict[str, Claim]) -> dict[str, Claim]:
    """The claims that records test, each with the status, scale, tolerance and command that follow from its record.

    Raises ValueError for a record of a claim that is not declared.
    """
    tested = {}
    for record in largest(records):
        for statement in record.statements:
            key = statement["claim"]
            if not key:
                continue
            if key not in claims:
                raise ValueError(
                    f"the study {record.study} tests the claim {key!r}, which claims.toml does not declare"
                )
            tested[key] = replace(
                claims[key],
                status=statement["status"],
                scale=record.settings["scale"],
                tolerance=asked(statement, len(record.seeds)),
                command=command(record),
            )
    return tested


def asked(statement: dict, seeds: int) -> str:
    """What was asked of a record, and how clear its answer is."""
    own = statement["comparisons"]
    holding = sum(line["verdict"] == "holds" for line in own)
    count = f"{holding} of {len(own)} comparisons hold" if len(own) > 1 else f"ours: {number(own[0])}"
    return f"“{statement['text']}”, by {LEVEL:.0%} intervals over {seeds} seeds; {count}"
