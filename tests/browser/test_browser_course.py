"""Every notebook of the course, opened and run in JupyterLab as a learner does."""

from collections.abc import Callable
from pathlib import Path

import pytest

COURSE = Path(__file__).parents[2] / "course"
NOTEBOOKS = sorted(file.name for file in COURSE.glob("[0-9]*.ipynb"))
BOARDS = {"Leaderboard": "soft, wrong sign", "Yours beside the record": "placebo"}
"""Boards that a reader's own entries fill as they are trained: their title, and one entry."""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_figures_move(open_notebook: Callable, name: str) -> None:
    notebook = open_notebook(name)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.executed() == notebook.code_cells
    assert notebook.warnings() == []
    assert notebook.unlabelled_controls() == []
    assert notebook.outside_requests == []
    assert notebook.page.locator(".js-plotly-plot .main-svg").count() > 0

    if any("activation_explorer(" in cell.source for cell in notebook.cells):
        before = notebook.curves()
        notebook.drag(notebook.slider("of x³"), 60)
        notebook.wait_until(lambda: notebook.curves() != before, "the mouse has moved a curve")

    if any("row_explorer(" in cell.source for cell in notebook.cells):
        before = notebook.curves()
        notebook.drag(notebook.slider("scale of the row"), 60)
        notebook.wait_until(lambda: notebook.curves() != before, "the mouse has moved the row")

    if any("filter_playground(" in cell.source for cell in notebook.cells):
        before = notebook.curves()
        notebook.drag(notebook.slider("sigma"), -60)
        notebook.wait_until(lambda: notebook.curves() != before, "the mouse has moved the spectra")

    if any("collapse_explorer(" in cell.source for cell in notebook.cells):
        notebook.page.get_by_label("method", exact=True).select_option("no_predictor")
        notebook.press("Start")
        notebook.wait_until(lambda: notebook.says("no_predictor, step"), "another method is trained", timeout=120)

    for title, last in BOARDS.items():
        if any(f'"{title}"' in cell.source for cell in notebook.cells):
            boards = notebook.page.locator(".js-plotly-plot", has_text=title)
            assert boards.filter(has_text=last).count() == 1  # drawn before that had entered


def test_the_course_has_notebooks() -> None:
    assert NOTEBOOKS[:1] == ["00_start_here.ipynb"]
