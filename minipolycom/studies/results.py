"""What the records say, as a page: course/RESULTS.md; and as statuses of the claims in the paper map."""

from collections.abc import Iterable
from dataclasses import replace

from minipolycom.learn.paper_map import Claim
from minipolycom.studies.records import Record, largest
from minipolycom.studies.statistics import Reached, median_steps
from minipolycom.studies.study import LEVEL

HEAD = f"""# Results

What our studies say of the papers' claims and of our own questions. Generated from the records in `reference/studies`;
do not edit. A figure is a mean over seeds with its {LEVEL:.0%} interval; differences are paired, each run with that of
the other arm that saw the same batches. A comparison holds or fails where its interval lies wholly on one side of what
is claimed and the p-value, adjusted by Holm's method for all comparisons of the study, is under {1 - LEVEL:.2f}. A
statement holds where all of its comparisons do, and fails where one of them does. Nothing here is at a paper's scale.
"""


def results(records: Iterable[Record]) -> str:
    """The page, of the largest tier of each study: first the verdicts, then every comparison.

    Raises ValueError where no record is of a tier whose numbers mean something.
    """
    records = largest(records)
    if not records:
        raise ValueError("there is no record to report: run a study with `minipolycom reproduce NAME --tier cpu`")
    lines = [HEAD, "| statement | least clear comparison | verdict | study |", "|---|---|---|---|"]
    for record in records:
        for statement in record.statements:
            own = statement["comparisons"]
            holding = sum(line["verdict"] == "holds" for line in own)
            least = min(own, key=clearness)
            count = f" ({holding} of {len(own)} comparisons hold)" if len(own) > 1 else ""
            verdict = statement["status"] or statement["verdict"]
            where = f"[{record.study}](#{record.study}), {record.tier}, {len(record.seeds)} seeds"
            lines.append(f"| {statement['text']} | {figure(least)} | **{verdict}**{count} | {where} |")
    for record in records:
        lines += ["", *section(record)]
    return "\n".join(lines) + "\n"


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
        f"{len(record.pieces)} runs, {record.seconds / 60:.0f} minutes in all, on {'; '.join(sorted(hardware))}; "
        f"{record.recorded[:10]}, commit {', '.join(commit[:10] for commit in record.commits)}. "
        f"Again: `{command(record)}`.",
        "",
        "| comparison | ours | p, adjusted | verdict |",
        "|---|---|---|---|",
    ]
    for statement in record.statements:
        for line in statement["comparisons"]:
            p = f"{line['p_adjusted']:.3g}" if line["p"] is not None else "–"
            lines.append(f"| {line['title']} | {number(line)} | {p} | {line['verdict']} |")
    lines += medians(record)
    edges = [group for group, found in record.rates.items() if found["edge"]]
    if edges:
        lines += ["", f"The best learning rate lies at an edge of the grid for: {'; '.join(edges)}."]
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
        told = ", ".join(f"{arm} {median_steps(runs)}" for arm, runs in arms.items())
        lines += ["", f"Median steps to the loss that SwiGLU has at its end, {source}: {told}."]
    return lines


def clearness(line: dict) -> tuple[int, float]:
    """A key by which the comparison that decides a statement comes first: one that fails, else the least certain."""
    rank = {"fails": 0, "undecided": 1, "holds": 2}[line["verdict"]]
    return rank, -line.get("p_adjusted", 1.0)


def figure(line: dict) -> str:
    return f"{line['title']}: {number(line)}"


def number(line: dict) -> str:
    """A comparison's mean and interval, as text."""
    if "estimate" not in line:
        return "too few runs finished"
    return f"{line['estimate']:.3g} ({line['low']:.3g} to {line['high']:.3g})"


def command(record: Record) -> str:
    return f"minipolycom reproduce {record.study} --tier {record.tier} --seeds {len(record.seeds)}"


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
                tolerance=f"{LEVEL:.0%} intervals over {len(record.seeds)} seeds, adjusted for several comparisons",
                command=command(record),
            )
    return tested
