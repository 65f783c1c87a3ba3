"""A page about an experiment of one's own: what was claimed, how it was tested, what came out, what would refute it."""

from collections.abc import Mapping, Sequence

from minipolycom.studies.statistics import Interval

SECTIONS = ("Claim", "Protocol", "Rule", "Result", "Verdict", "What would refute it", "What this does not say")
"""In this order; all are needed, since what is left out is what a reader would have asked."""


def write_up(title: str, sections: Mapping[str, str | Sequence[str] | Mapping[str, Interval]]) -> str:
    """The page as markdown. A section is a text, a list of points, or intervals by name, which become a table.

    Raises ValueError for sections that are missing, empty or unknown.
    """
    apart = set(SECTIONS) ^ set(sections)
    if apart:
        raise ValueError(
            f"a page has the sections {', '.join(SECTIONS)}; missing or unknown: {', '.join(sorted(apart))}"
        )
    empty = [name for name in SECTIONS if not sections[name]]
    if empty:
        raise ValueError(f"write something under {', '.join(empty)}")
    parts = [f"# {title}"]
    for name in SECTIONS:
        parts += [f"## {name}", _body(sections[name])]
    return "\n\n".join(parts) + "\n"


def _body(content: str | Sequence[str] | Mapping[str, Interval]) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Mapping):
        return "\n".join(f"- {point}" for point in content)
    rows = ["| difference | mean | low | high | seeds |", "|---|---|---|---|---|"]
    for name, found in content.items():
        rows.append(f"| {name} | {found.estimate:+.4f} | {found.low:+.4f} | {found.high:+.4f} | {found.n} |")
    levels = {found.level for found in content.values()}
    return "\n".join([*rows, "", f"Intervals of {', '.join(f'{level:.0%}' for level in sorted(levels))} over seeds."])
