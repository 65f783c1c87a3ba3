"""The page that opens the course, `course/README.md`: every notebook with its claim, and three ways through them.

What a notebook claims in one line, and the ways, are declared in `course/source/course.toml`:

    [claims]
    10_collapse = "a network asked only for agreement of two views ends in a point"

    [[ways]]
    name = "An afternoon"
    about = "The two ideas, each once by hand."
    notebooks = ["00", "10"]          # by number, in this order; left out: all of them

Title, minutes and prerequisites come from the notebooks' own first cells, so that they are said once.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

HEAD = """# The course

Every notebook with what you will have shown at its end, how long it takes, and what it builds on. Generated from the
notebooks' sources and `source/course.toml`; do not edit.
"""


def course_page(declared: Path, titles: Mapping[str, Mapping], exercises: Mapping[str, int]) -> str:
    """The page as markdown. `titles` has by notebook, in order, the marks of its first cell, `exercises` their number.

    Raises ValueError for a notebook without a claim, a claim without a notebook, and a way to one that is not there.
    """
    told = tomllib.loads(declared.read_text(encoding="utf-8"))
    apart = told["claims"].keys() ^ titles.keys()
    if apart:
        raise ValueError(
            f"{declared.name}, [claims]: each notebook has one line and each line a notebook, but for {min(apart)}"
        )
    by_number = {name.split("_")[0]: name for name in titles}
    rows = ["| notebook | what you will have shown | minutes | exercises | before this |", "|---|---|---|---|---|"]
    for number, name in by_number.items():
        marks = titles[name]
        link = f"[{number} {marks['title']}]({name}.ipynb) ([solutions](solutions/{name}.ipynb))"
        before = marks.get("prerequisites", "–")
        rows.append(f"| {link} | {told['claims'][name]} | {marks['minutes']} | {exercises.get(name, 0)} | {before} |")
    return "\n".join([HEAD, *rows, "", *ways(declared, told["ways"], by_number, titles)])


def ways(declared: Path, ways: list[dict], by_number: Mapping[str, str], titles: Mapping[str, Mapping]) -> list[str]:
    """A section for each way, with the time that its notebooks take together."""
    lines = ["## Ways through it", ""]
    for way in ways:
        numbers = way.get("notebooks", list(by_number))
        unknown = [number for number in numbers if number not in by_number]
        if unknown:
            raise ValueError(f"{declared.name}, way {way['name']!r}: there is no notebook {unknown[0]}")
        minutes = sum(titles[by_number[number]]["minutes"] for number in numbers)
        took = f", {hours(minutes)}" if minutes else ""
        path = " → ".join(f"[{number}]({by_number[number]}.ipynb)" for number in numbers)
        lines += [f"**{way['name']}**{took}. {way['about'].strip()}", "", *([path, ""] if path else [])]
    return lines


def hours(minutes: int) -> str:
    """Minutes to the nearest half hour, in words: 225 is "about 4 hours"."""
    halves = max(1, round(minutes / 30))
    return f"about {halves / 2:g} hour{'s' if halves != 2 else ''}"
