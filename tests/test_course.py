"""Both versions of every notebook run from top to bottom: the learner's untouched, the solved one with every pass."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from minipolycom.learn import COSTS, EXERCISES
from minipolycom.learn.measure import execute

COURSE = Path(__file__).parents[1] / "course"
NOTEBOOKS = sorted(file.name for file in COURSE.glob("[0-9]*.ipynb"))
VERDICT = re.compile(r"^\S (passed|not attempted|wrong): (\w+)", re.MULTILINE)


def run(file: Path, folder: Path) -> tuple[nbformat.NotebookNode, dict[str, dict[str, float]]]:
    """The notebook with its outputs, and what its heavy cells cost; a cell that raises fails the test."""
    return execute(file, folder, "smoke", folder / "progress.json")


def verdicts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What `check` said of each exercise."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return {name: status for text in said for status, name in VERDICT.findall(text)}


def red_boxes(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.text for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize(
    ("folder", "status"),
    [pytest.param(".", "not attempted", id="untouched"), pytest.param("solutions", "passed", id="solved")],
)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_to_its_end(name: str, folder: str, status: str, tmp_path: Path) -> None:
    notebook, costs = run(COURSE / folder / name, tmp_path)
    exercises = [one.name for one in EXERCISES.values() if f"{one.notebook}.ipynb" == name]
    assert verdicts(notebook) == dict.fromkeys(exercises, status)
    assert exercises
    assert red_boxes(notebook) == []
    for cell, measured in costs.items():
        declared = COSTS[cell]["smoke"]
        # Others may use these cores, at times both: five times the seconds is no surprise, more is a wrong promise.
        assert measured["seconds"] <= 5 * 60 * declared.minutes, cell
        assert measured["memory"] <= 1.25 * declared.memory, cell


def test_every_notebook_has_its_solutions() -> None:
    assert NOTEBOOKS
    assert sorted(file.name for file in (COURSE / "solutions").glob("*.ipynb")) == NOTEBOOKS
    assert {f"{one.notebook}.ipynb" for one in EXERCISES.values()} <= set(NOTEBOOKS)


def test_a_cell_that_raises_and_a_wrong_answer_are_seen(tmp_path: Path) -> None:
    """The test above can fail."""
    name = next(iter(EXERCISES))
    cells = [f"from minipolycom.learn import check\ncheck({name!r}, 'surely not')", "1 / 0"]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbformat.write(made, tmp_path / "raises.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        run(tmp_path / "raises.ipynb", tmp_path)
    made.cells.pop()
    nbformat.write(made, tmp_path / "wrong.ipynb")
    assert verdicts(run(tmp_path / "wrong.ipynb", tmp_path)[0]) == {name: "wrong"}
