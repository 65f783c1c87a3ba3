"""The collapse explorer and the filter playground in a real page: what a learner presses and must then see."""

from collections.abc import Callable

import pytest

EXPLORER = [
    "from minipolycom.viz.widgets import collapse_explorer\n"
    "one = collapse_explorer('digits', steps=90, batch_size=64)\n"
    "one.SECONDS_PER_REDRAW = 0.2\n"
    "one"
]
PLAYGROUND = ["from minipolycom.viz.widgets import filter_playground\nfilter_playground()"]
NARROW = {"width": 620, "height": 1000}


def test_a_method_is_watched_stopped_and_another_one_is_seen_to_collapse(open_notebook: Callable) -> None:
    notebook = open_notebook("collapse.ipynb", EXPLORER)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []

    def points() -> list[int]:
        return [sum(len(curve) for curve in figure) for figure in notebook.curves()]

    notebook.press("Start")
    notebook.wait_until(lambda: len(points()) == 3 and min(points()) > 10, "every panel shows something", timeout=120)
    first = notebook.curves()
    notebook.wait_until(
        lambda: all(now != then for now, then in zip(notebook.curves(), first, strict=True)), "every panel moves", 60
    )
    notebook.press("Stop")
    notebook.wait_until(lambda: notebook.says("this one stays in the picture"), "it says that it has stopped")
    notebook.shoot("stopped")

    notebook.page.get_by_label("method", exact=True).select_option("wrong_filter_target")
    notebook.wait_until(lambda: notebook.slider("sigma").is_visible(), "the filter is offered")
    notebook.slider("sigma").press("ArrowLeft")
    notebook.wait_until(lambda: notebook.page.get_by_text("0.90").count() > 0, "the keyboard has moved the strength")
    assert notebook.unlabelled_controls() == []
    notebook.press("Start")
    notebook.wait_until(lambda: notebook.says("Finished."), "the second run has ended", timeout=240)
    assert notebook.says("dimensional collapse: images differ, but in hardly any direction")
    assert len(notebook.curves()[1]) == 3  # both branches, and the run before
    notebook.shoot("collapsed")
    notebook.page.set_viewport_size(NARROW)
    notebook.page.wait_for_timeout(1500)
    notebook.shoot("narrow")
    assert notebook.errors() == []


@pytest.mark.parametrize("width", [1200, 620])
def test_the_playground_follows_the_mouse_and_the_keyboard(open_notebook: Callable, width: int) -> None:
    notebook = open_notebook(f"playground-{width}.ipynb", PLAYGROUND)
    notebook.page.set_viewport_size({"width": width, "height": 1000})
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    first = notebook.curves()
    notebook.drag(notebook.slider("sigma"), -60)
    notebook.wait_until(lambda: notebook.curves() != first, "the mouse has moved the curves")
    second = notebook.curves()
    notebook.slider("spectral decay").press("ArrowRight")
    notebook.wait_until(lambda: notebook.curves() != second, "the keyboard has moved the curves")
    third = notebook.curves()
    notebook.page.get_by_label("on the branch", exact=True).select_option("target")
    notebook.wait_until(lambda: notebook.curves() != third, "the other branch is filtered")
    notebook.shoot("moved")
    notebook.wait_until_still()  # or the last word of the drag comes after Reset
    notebook.press("Reset")
    notebook.wait_until(lambda: notebook.curves() == first, "Reset has put every curve back")
