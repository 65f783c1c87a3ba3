"""Every widget that draws, in classic Notebook with ipywidgets 7 and plotly 5: what a learner presses is then seen."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest
from browser.test_browser_cockpit import (
    test_the_cockpit_is_started_held_scrubbed_branched_and_stopped,
    test_the_rank_lens_and_the_router_view_follow_their_controls,
)
from browser.test_browser_widgets import TRAINING
from packaging.version import Version

__all__ = [  # the same tests as in JupyterLab
    "test_the_cockpit_is_started_held_scrubbed_branched_and_stopped",
    "test_the_rank_lens_and_the_router_view_follow_their_controls",
]

PINNED = dict(
    line.split("==")
    for line in Path(__file__).parents[1].joinpath("classic.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
)


def test_the_project_has_replaced_nothing() -> None:
    installed = {package: importlib.metadata.version(package) for package in PINNED}
    assert {name: version for name, version in installed.items() if Version(version) != Version(PINNED[name])} == {}


@pytest.mark.parametrize(
    ("widget", "slider"),
    [("activation_explorer", "scale of the row"), ("row_explorer", "scale of the row"), ("filter_playground", "sigma")],
)
def test_a_figure_follows_its_slider(open_notebook: Callable, widget: str, slider: str) -> None:
    notebook = open_notebook(f"{widget}.ipynb", [f"from minipolycom.viz.widgets import {widget}\n{widget}()"])
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    notebook.wait_until(lambda: notebook.points() > 0, "it is drawn")
    first = notebook.curves()
    notebook.drag(notebook.slider(slider), 60)
    notebook.wait_until(lambda: notebook.curves() != first, "the mouse has moved a curve")
    notebook.shoot("moved")
    notebook.wait_until_still()  # or the last word of the drag comes after Reset
    notebook.press("Reset")
    notebook.wait_until(lambda: notebook.curves() == first, "Reset has put every curve back")


@pytest.mark.parametrize(
    ("name", "cells", "stopped"),
    [
        ("training", TRAINING, "What was measured is kept"),
        ("collapse", ["from minipolycom.viz.widgets import collapse_explorer\ncollapse_explorer()"], "Stopped"),
    ],
)
def test_a_training_is_drawn_and_stopped(open_notebook: Callable, name: str, cells: list[str], stopped: str) -> None:
    notebook = open_notebook(f"{name}.ipynb", cells)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    empty = notebook.points()
    notebook.press("Start")
    notebook.wait_until(lambda: notebook.points() > empty + 20, "the curves have grown", timeout=120)
    notebook.press("Stop")
    notebook.wait_until(lambda: notebook.says(stopped), "it says that it has stopped", timeout=60)
    notebook.shoot("stopped")
    assert notebook.errors() == []
