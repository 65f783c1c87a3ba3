"""A study: a question, the runs that answer it, and the rule by which they do.

Runs come in pieces, each a plain configuration that is computed by itself. A statement holds, fails or stays undecided
by its comparisons: the interval of a difference, paired over seeds, against the range in which the claim says it lies.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from minipolycom.checking import check_at_least, check_known
from minipolycom.studies.statistics import holm, mean_interval, p_value, paired

LEVEL = 0.95
"""Level of every interval; its complement is the chance that a study's comparisons are wrong about any of them."""

TUNING_SEED = 1000
"""The first seed on which learning rates are chosen: far from those of the runs that are compared."""

MEASURED = ("end", "derived")
"""The tables of rows with the measures that are compared: of one run each, and computed from several."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One run of a study, as plain values from which it can be made again."""

    kind: str
    """What computes it: a key of `pieces.KINDS`."""
    arm: str
    """Which of the compared things it is a run of."""
    seed: int
    group: str
    """The runs that share a learning rate: an arm on a text, or at a size."""
    phase: str = "main"
    """rate, to choose the learning rate, or main, to compare."""
    settings: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name for its files; other settings have another one."""
        code = zlib.crc32(json.dumps(asdict(self), sort_keys=True).encode())
        return f"{self.phase}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', self.group)}-seed{self.seed}-{code:08x}"

    @property
    def label(self) -> dict:
        """What each of its rows says about where it is from."""
        return {"arm": self.arm, "group": self.group, "phase": self.phase, "seed": self.seed}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A claim about one number: the measure of the first arm, minus that of the second, lies between low and high."""

    measure: str
    first: str
    second: str = ""
    """Without a second arm the measure itself is compared."""
    low: float = -math.inf
    high: float = math.inf
    where: Mapping = field(default_factory=dict)
    """What the compared rows say besides, such as the text that they were trained on."""

    @property
    def title(self) -> str:
        what = f"{self.measure} of {self.first}" + (f" - {self.second}" if self.second else "")
        return ", ".join([what, *map(str, self.where.values())])


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a study decides: it holds where all of its comparisons do, and fails where one of them does."""

    text: str
    comparisons: tuple[Comparison, ...]
    claim: str = ""
    """Key of the claim of a paper, in course/source/claims.toml; none where the question is our own."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question with the runs that answer it at each tier, and the statements that they decide."""

    name: str
    question: str
    tiers: Mapping[str, dict]
    """By tier, the settings that `make` takes; "scale" says in words how they differ from the paper's, "" if not."""
    make: Callable[[dict, Sequence[int], Mapping[str, float]], list[Piece]]
    """The pieces that are compared, from the settings, the seeds and the learning rate of each group."""
    statements: tuple[Statement, ...]
    tune: Callable[[dict], list[Piece]] | None = None
    """The pieces that choose the learning rate of each group, where there is one to choose."""
    derive: Callable[[list[dict]], list[dict]] | None = None
    """Rows of the table "derived", from the rows of all runs."""
    baseline: str = ""
    """The arm from which curves are drawn as differences."""

    def settings(self, tier: str) -> dict:
        """The settings at a tier. Raises ValueError for a tier that is none."""
        check_known("tier", tier, self.tiers)
        return self.tiers[tier]


def seeds_of(number: int) -> list[int]:
    """The seeds of the compared runs. Raises ValueError for fewer than two, which have no spread."""
    check_at_least("the number of seeds", number, 2)
    return list(range(number))


def chosen_rates(rows: Iterable[Mapping]) -> dict[str, dict]:
    """The learning rate of each group with the lowest mean loss over the tuning seeds, and whether it is at an edge of
    the grid: {"rate", "edge", "losses"}, the losses by rate, None where a run diverged.

    Raises ValueError for a group in which every rate diverged.
    """
    grids: dict[str, dict[float, list]] = {}
    for row in rows:
        if row["table"] == "end" and row["phase"] == "rate":
            grids.setdefault(row["group"], {}).setdefault(row["learning_rate"], []).append(row.get("loss"))
    chosen = {}
    for group, grid in grids.items():
        means = {rate: None if None in losses else sum(losses) / len(losses) for rate, losses in sorted(grid.items())}
        finished = {rate: loss for rate, loss in means.items() if loss is not None}
        if not finished:
            raise ValueError(f"{group} diverged at every learning rate of the grid ({', '.join(map(str, means))})")
        rate = min(finished, key=finished.__getitem__)
        edge = len(means) > 1 and rate in (min(means), max(means))
        chosen[group] = {"rate": rate, "edge": edge, "losses": {str(key): loss for key, loss in means.items()}}
    return chosen


def values_of(rows: Iterable[Mapping], measure: str, arm: str, where: Mapping) -> dict[int, float]:
    """A measure of an arm by seed, of the compared runs."""
    return {
        row["seed"]: row[measure]
        for row in rows
        if row["table"] in MEASURED and row["phase"] == "main" and row["arm"] == arm and row.get(measure) is not None
        if all(row.get(key) == value for key, value in where.items())
    }


def judge(statements: Iterable[Statement], rows: list[dict], scale: str) -> list[dict]:
    """What the rows say of each statement, by rule.

    A comparison "holds" where the interval of its difference lies within the claimed range, "fails" where it lies
    outside, each only where the p-value is under 1 - LEVEL when adjusted (Holm) for all comparisons of the study; else
    it is "undecided". A statement's status is that of the paper map: reproduced or, where `scale` has something to say,
    scaled down; contradicted; or undecided. One that tests no claim has its verdict alone.
    """
    statements = list(statements)
    compared = [[_compare(comparison, rows) for comparison in statement.comparisons] for statement in statements]
    decidable = [line for lines in compared for line in lines if line["p"] is not None]
    for line, adjusted in zip(decidable, holm([line["p"] for line in decidable]), strict=True):
        line["p_adjusted"] = adjusted
        line["verdict"] = _verdict(line)
    judged = []
    for statement, lines in zip(statements, compared, strict=True):
        verdicts = {line["verdict"] for line in lines}
        verdict = "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"
        status = {"fails": "contradicted", "holds": "scaled down" if scale else "reproduced", "undecided": "undecided"}
        judged.append(
            {
                "text": statement.text,
                "claim": statement.claim,
                "verdict": verdict,
                "status": status[verdict] if statement.claim else "",
                "comparisons": lines,
            }
        )
    return judged


def _compare(comparison: Comparison, rows: list[dict]) -> dict:
    """The difference with its interval; without one where fewer than two seeds have both arms."""
    first = values_of(rows, comparison.measure, comparison.first, comparison.where)
    second = values_of(rows, comparison.measure, comparison.second, comparison.where) if comparison.second else None
    differences = [first[seed] for seed in sorted(first)] if second is None else paired(first, second)
    line = {
        "title": comparison.title,
        "measure": comparison.measure,
        "first": comparison.first,
        "second": comparison.second,
        "where": dict(comparison.where),
        "claimed": [None if math.isinf(bound) else bound for bound in (comparison.low, comparison.high)],
        "differences": differences,
        "verdict": "undecided",
        "p": None,
    }
    if len(differences) < 2:
        return line
    interval = mean_interval(differences, LEVEL)
    p, inside = p_value(differences, comparison.low, comparison.high)
    return line | asdict(interval) | {"p": p, "inside": inside}


def _verdict(line: dict) -> str:
    low, high = (
        bound if bound is not None else sign * math.inf for sign, bound in zip((-1, 1), line["claimed"], strict=True)
    )
    if line["p_adjusted"] >= 1 - LEVEL:
        return "undecided"
    if line["inside"]:
        return "holds" if low <= line["low"] and line["high"] <= high else "undecided"
    return "fails" if line["high"] < low or high < line["low"] else "undecided"
