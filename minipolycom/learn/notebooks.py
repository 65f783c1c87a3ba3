"""From `course/source/NN_name.py` to `course/NN_name.ipynb` and `course/solutions/NN_name.ipynb`.

    python -m minipolycom.learn.notebooks            write the notebooks, course/README.md, PAPER_MAP.md, RESULTS.md
    python -m minipolycom.learn.notebooks --check    write nothing; name the files that differ and exit with 1

A source is a jupytext percent script. Marks stand on the line that opens a cell:

    # %% [markdown] title="Why nonlinearity?" minutes=60 hardware="2 CPU cores" prerequisites="00"
    # The first cell: what the reader will have shown by the end. Title, badge, time and hardware are put above it.

    # %% setup=true
    The set-up cell, the first code cell; its body is left empty and filled in.

    # %% exercise="dead_fraction"
    Left empty. Becomes the statement with its marks, a cell with the stub and its `check(...)`, and folded hints and
    solution; in the solutions notebook the cell holds the solution.

    # %% cost="first_training"
    run = fit(data, model, TrainConfig(steps=cost("first_training").steps))
    A heavy cell: its cost per tier stands in COSTS (learn/tiers.py), is shown above it, and gives its sizes.

    # %% claim="relu-kills-units"          (code or [markdown])
    The cell that tests a claim declared in course/source/claims.toml; goes together with cost="...".

Everything else is copied. What the course does not allow is refused with a ValueError that names the file, the cell
and the way out: see the `_check_...` functions. Cell ids come from marks and contents, so that the same source gives
the same bytes, and an edit changes the ids of the edited cells alone.
"""

import argparse
import ast
import hashlib
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minipolycom.learn.course_page import course_page
from minipolycom.learn.exercise import Exercise
from minipolycom.learn.exercises import EXERCISES
from minipolycom.learn.paper_map import Claim, paper_map, read_claims
from minipolycom.learn.progress import write_whole
from minipolycom.learn.setup import repository, setup_cell
from minipolycom.learn.tiers import COSTS, cost_table

MARKS = {
    "title": str, "minutes": int, "hardware": str, "prerequisites": str,
    "setup": bool, "exercise": str, "cost": str, "claim": str,
}  # fmt: skip
"""What may stand on the line that opens a cell, and of what type it is."""

HEAVY = ("fit", "fit_ssl", "train_linear", "live_training", "collapse_explorer", "enter", "Trainer")
"""Calls that train; a cell with one of them declares its cost."""

BARE_FIGURES = {
    "plotly.express": "px", "plotly.graph_objects": "go", "plotly.subplots": "make_subplots", "matplotlib": "plt",
    "seaborn": "sns",
}  # fmt: skip
"""Figure libraries that know no alt text; figures come from minipolycom.viz, where each carries its own."""


@dataclass
class _Source:
    """One source file while its two notebooks are made of it."""

    file: Path
    claims: dict
    address: str
    cells: list[NotebookNode] = field(default_factory=list)
    claimed: dict[str, str] = field(default_factory=dict)  # claim -> cell id
    ids: set[str] = field(default_factory=set)
    title: dict = field(default_factory=dict)  # the marks of the first cell

    @property
    def name(self) -> str:
        return self.file.stem


def build(course: Path, pyproject: Path) -> dict[Path, str]:
    """Every file that the sources of a course give, by its path, as text. Nothing is written.

    Raises ValueError, naming file and cell, for a source that breaks a rule of the course.
    """
    files: dict[Path, str] = {}
    claims, tested, titles = read_claims(course / "source" / "claims.toml"), {}, {}
    for file in sorted((course / "source").glob("[0-9]*.py")):
        for solved, folder in ((False, course), (True, course / "solutions")):
            source = _Source(file, claims, repository(pyproject) if pyproject.exists() else "")
            files[folder / f"{source.name}.ipynb"] = _notebook(source, solved)
        titles[source.name] = source.title
        for claim, cell in source.claimed.items():
            if claim in tested:
                raise ValueError(
                    f"{file.name}: claim {claim!r} is already tested in {tested[claim][0]}; one cell tests it"
                )
            tested[claim] = (f"{source.name}.ipynb", cell)
    if (declared := course / "source" / "course.toml").exists():
        number = Counter(exercise.notebook for exercise in EXERCISES.values())
        files[course / "README.md"] = course_page(declared, titles, number)
    recorded: dict[str, Claim] = {}
    if (course / "reference" / "studies").is_dir():
        from minipolycom.studies.records import read_records  # torch comes with it, for which nothing else here waits
        from minipolycom.studies.results import judged_again, recorded_claims, results

        found = read_records(course / "reference" / "studies")
        records = [judged_again(record) for record in found if record.tier != "smoke"]
        recorded = recorded_claims(records, claims)
        if records:
            files[course / "RESULTS.md"] = results(records, claims)
    if claims:
        files[course / "PAPER_MAP.md"] = paper_map(claims | recorded, tested, recorded)
    return files


def differing(course: Path, pyproject: Path) -> list[str]:
    """Generated files that are missing, differ from what the sources give, or have no source any more."""
    files = build(course, pyproject)
    pages = (course / name for name in ("README.md", "PAPER_MAP.md", "RESULTS.md"))
    there = {*course.glob("*.ipynb"), *(course / "solutions").glob("*.ipynb"), *filter(Path.exists, pages)}
    wrong = [file for file, text in files.items() if file not in there or file.read_bytes() != text.encode()]
    return sorted(str(file.relative_to(course)) for file in {*wrong, *(there - files.keys())})


def write(course: Path, pyproject: Path) -> list[Path]:
    """Write what `build` gives, each file in one piece, and return the paths of those that changed."""
    changed = []
    for file, text in build(course, pyproject).items():
        if file.exists() and file.read_bytes() == text.encode():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
        changed.append(file)
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m minipolycom.learn.notebooks", description="Generate the course's notebooks."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    parser.add_argument("--course", type=Path, default=Path("course"), help="the folder that holds source/")
    options = parser.parse_args(arguments)
    course, pyproject = options.course, options.course.resolve().parent / "pyproject.toml"
    if not (course / "source").is_dir():
        parser.error(
            f"{course}/source is no folder; run this at the top of the repository or name the course with --course"
        )
    try:
        if not options.check:
            for file in write(course, pyproject):
                print(f"wrote {file}")
            return 0
        wrong = differing(course, pyproject)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for file in wrong:
        print(f"{course / file} is not what its source gives", file=sys.stderr)
    if wrong:
        print("Edit course/source and run: python -m minipolycom.learn.notebooks", file=sys.stderr)
    return 1 if wrong else 0


def _notebook(source: _Source, solved: bool) -> str:
    cells = jupytext.reads(source.file.read_text(encoding="utf-8"), fmt="py:percent").cells
    _check_order(source, cells)
    for number, cell in enumerate(cells, start=1):
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's note on the blank lines after a function
        _check_marks(source, number, cell)
        _check_figures(source, number, cell)
        _check_cost(source, number, cell)
        _check_claim(source, number, cell)
        if "title" in cell.metadata:
            _add_title(source, cell, solved)
        elif "setup" in cell.metadata:
            _add(source, new_code_cell(setup_cell(source.name, source.address).rstrip()), "setup")
        elif "exercise" in cell.metadata:
            _add_exercise(source, EXERCISES[cell.metadata["exercise"]], solved)
        else:
            _add_copied(source, cell)
    metadata = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "minipolycom": {"generated_from": f"course/source/{source.file.name}"},
    }
    notebook = new_notebook(cells=source.cells, metadata=metadata)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _add(source: _Source, cell: NotebookNode, anchor: str = "") -> str:
    """Append a cell under a stable id: its mark, or the first digits of its content's hash."""
    wanted = anchor or hashlib.sha256(cell.source.encode()).hexdigest()[:10]
    cell["id"], again = wanted, 1
    while cell["id"] in source.ids:
        again += 1
        cell["id"] = f"{wanted}-{again}"
    source.ids.add(cell["id"])
    source.cells.append(cell)
    return cell["id"]


def _add_title(source: _Source, cell: NotebookNode, solved: bool) -> None:
    source.title = marks = dict(cell.metadata)
    number = source.name.split("_")[0]
    facts = [f"**Time** {marks['minutes']} minutes", f"**Hardware** {marks['hardware']}"]
    if marks.get("prerequisites"):
        facts.append(f"**Before this** {marks['prerequisites']}")
    head = [
        f"# {number} · {marks['title']}{' (solutions)' if solved else ''}",
        _badge(source, solved),
        " · ".join(facts),
        cell.source,
    ]
    _add(source, new_markdown_cell("\n\n".join(filter(None, head))), "title")


def _badge(source: _Source, solved: bool) -> str:
    on_github = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", source.address)
    if not on_github:
        return "To work in Colab, upload this notebook there, and the wheel that `make wheel` builds beside it."
    path = f"course/{'solutions/' if solved else ''}{source.name}.ipynb"
    link = f"https://colab.research.google.com/github/{on_github[1]}/blob/main/{path}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def _add_exercise(source: _Source, exercise: Exercise, solved: bool) -> None:
    name = exercise.name
    worth = f"Difficulty {_dots(exercise.difficulty)} · Importance {_dots(exercise.importance)}"
    _add(
        source,
        new_markdown_cell(
            f"### Exercise: `{name}`\n\n{worth} · about {exercise.minutes} minutes\n\n{exercise.statement}"
        ),
        f"{name}-task",
    )
    code = exercise.solution if solved else exercise.stub
    answer = exercise.reference.__name__ if exercise.asks_for_function else name
    imports = "\n\n".join(filter(None, [exercise.imports, "from minipolycom.learn import check, hint, solution"]))
    gap = "\n\n\n" if exercise.asks_for_function else "\n\n"
    _add(source, new_code_cell(f'{imports}{gap}{code}{gap}check("{name}", {answer})'), name)
    folds = [_fold(f"Hint {number}", hint) for number, hint in enumerate(exercise.hints, start=1)]
    folds.append(_fold("Solution", f"```python\n{exercise.solution}\n```\n\n{exercise.explanation}"))
    _add(source, new_markdown_cell("\n\n".join(folds)), f"{name}-help")


def _add_copied(source: _Source, cell: NotebookNode) -> None:
    marks, new = cell.metadata, new_markdown_cell if cell.cell_type == "markdown" else new_code_cell
    if "cost" in marks:
        work = "trains" if any(f"{call}(" in cell.source for call in HEAVY) else "takes its time"
        _add(
            source,
            new_markdown_cell(f"The next cell {work}. What it costs:\n\n{cost_table(marks['cost'])}"),
            f"cost-{marks['cost']}",
        )
    placed = _add(source, new(cell.source), f"claim-{marks['claim']}" if "claim" in marks else "")
    if "claim" in marks:
        source.claimed[marks["claim"]] = placed


def _dots(mark: int) -> str:
    return f"{'●' * mark}{'○' * (5 - mark)} ({mark} of 5)"


def _fold(summary: str, text: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n\n</details>"


def _check_order(source: _Source, cells: list[NotebookNode]) -> None:
    if not cells or "title" not in cells[0].metadata or cells[0].cell_type != "markdown":
        raise ValueError(
            f"{source.file.name}, cell 1: the first cell is the title: "
            '# %% [markdown] title="..." minutes=60 hardware="..."'
        )
    missing = [mark for mark in ("minutes", "hardware") if not cells[0].metadata.get(mark)]
    if missing:
        raise ValueError(
            f"{source.file.name}, cell 1: the title says its {' and '.join(missing)}: add {missing[0]}=..."
        )
    code = [cell for cell in cells if cell.cell_type == "code"]
    set_up = [cell for cell in code if cell.metadata.get("setup")]
    if not code or set_up != code[:1]:
        raise ValueError(f"{source.file.name}: the first code cell, and no other, is the set-up cell: # %% setup=true")
    named = [cell.metadata["exercise"] for cell in cells if "exercise" in cell.metadata]
    declared = [exercise.name for exercise in EXERCISES.values() if exercise.notebook == source.name]
    if all(name in EXERCISES for name in named) and named != declared:  # an unknown name is refused at its cell
        raise ValueError(
            f"{source.file.name}: its exercises are, in the order of learn/exercises, {', '.join(declared) or 'none'}; "
            f'in the source stand {", ".join(named) or "none"}. Each has one cell: # %% exercise="name"'
        )


def _check_marks(source: _Source, number: int, cell: NotebookNode) -> None:
    for mark, value in cell.metadata.items():
        if mark not in MARKS:
            _refuse(source, number, cell, f"unknown mark {mark!r}; known: {', '.join(MARKS)}")
        if not isinstance(value, MARKS[mark]) or value in ("", False):
            _refuse(
                source,
                number,
                cell,
                f"the mark {mark} takes {'text' if MARKS[mark] is str else MARKS[mark].__name__}; got {value!r}",
            )
    for mark in ("exercise", "setup"):
        if mark in cell.metadata and (cell.source.strip() or cell.cell_type != "code"):
            _refuse(
                source, number, cell, f"a cell with the mark {mark} is an empty code cell; its content is filled in"
            )
    name = cell.metadata.get("exercise")
    if name is not None and name not in EXERCISES:
        _refuse(
            source,
            number,
            cell,
            f"there is no exercise {name!r}; known: {', '.join(EXERCISES)}. Declare it in learn/exercises",
        )


def _check_figures(source: _Source, number: int, cell: NotebookNode) -> None:
    if cell.cell_type == "markdown":
        if re.search(r"!\[\s*\]\(", cell.source):
            _refuse(
                source,
                number,
                cell,
                "an image without alt text; say between the brackets what it shows: ![what it shows](...)",
            )
        for tag in re.findall(r"<img\b[^>]*>", cell.source, flags=re.IGNORECASE):
            if not re.search(r"""\balt\s*=\s*["']\s*[^\s"']""", tag):
                _refuse(source, number, cell, 'an <img> without alt text; add alt="what it shows"')
        return
    for node in ast.walk(_tree(source, number, cell)):
        bare = ""
        if isinstance(node, ast.Import):
            bare = next((alias.name for alias in node.names if _is_figure_library(alias.name)), "")
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            bare = next((name for name in [node.module or "", *names] if _is_figure_library(name)), "")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            bare = node.value.id if node.value.id in BARE_FIGURES.values() else ""
        if bare:
            _refuse(
                source,
                number,
                cell,
                f"{bare} draws figures without alt text; take a figure from minipolycom.viz.figures, which carries it",
            )


def _is_figure_library(module: str) -> bool:
    return any(module == library or module.startswith(f"{library}.") for library in BARE_FIGURES)


def _check_cost(source: _Source, number: int, cell: NotebookNode) -> None:
    if cell.cell_type != "code":
        if "cost" in cell.metadata:
            _refuse(source, number, cell, "a cost belongs to a code cell")
        return
    calls = [node for node in ast.walk(_tree(source, number, cell)) if isinstance(node, ast.Call)]
    heavy = sorted({_called(call) for call in calls} & set(HEAVY))
    mark = cell.metadata.get("cost")
    if heavy and mark is None:
        _refuse(
            source,
            number,
            cell,
            f'{heavy[0]}() trains, and no cost is declared; add cost="name" and its sizes to COSTS in learn/tiers.py',
        )
    if mark is None:
        return
    try:
        cost_table(mark)
    except ValueError as error:
        _refuse(source, number, cell, f"{error}; known: {', '.join(COSTS) or 'none'}")
    asked = [
        call for call in calls if _called(call) == "cost" and [getattr(a, "value", None) for a in call.args] == [mark]
    ]
    if not asked:
        _refuse(
            source,
            number,
            cell,
            f'the cell does not ask for its size; take it from cost("{mark}").steps, so that the tier decides',
        )


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _check_claim(source: _Source, number: int, cell: NotebookNode) -> None:
    claim = cell.metadata.get("claim")
    if claim is None:
        return
    if claim not in source.claims:
        known = ", ".join(source.claims) or "none"
        _refuse(
            source,
            number,
            cell,
            f"claim {claim!r} is not in the paper map; declare it in course/source/claims.toml (known: {known})",
        )
    if claim in source.claimed:
        _refuse(source, number, cell, f"claim {claim!r} is marked on an earlier cell already; one cell tests it")


def _tree(source: _Source, number: int, cell: NotebookNode) -> ast.Module:
    """The cell's syntax tree, without lines for IPython."""
    plain = "\n".join("pass" if re.match(r"\s*[%!?]", line) else line for line in cell.source.splitlines())
    try:
        return ast.parse(plain)
    except SyntaxError as error:
        _refuse(source, number, cell, f"line {error.lineno} is not Python: {error.msg}")


def _refuse(source: _Source, number: int, cell: NotebookNode, problem: str) -> None:
    first = (
        cell.source.strip().splitlines() or [" ".join(f"{mark}={value!r}" for mark, value in cell.metadata.items())]
    )[0]
    raise ValueError(f"{source.file.name}, cell {number} ({first[:60]}): {problem}")


if __name__ == "__main__":
    sys.exit(main())
