"""The widgets under a real mouse and a real keyboard, and proof that the harness sees what it is there to see."""

from collections.abc import Callable

EXPLORER = ["from minipolycom.viz.widgets import activation_explorer\nactivation_explorer()"]
ROW = ["from minipolycom.viz.widgets import row_explorer\nrow_explorer()"]
TRAINING = [
    "from pathlib import Path\n"
    "from minipolycom.viz.widgets import live_training\n"
    "Path('text.txt').write_text('The quick brown fox jumps over the lazy dog.\\n' * 5000)\n"
    "live_training(('relu', 'polynorm'), source='files:text.txt', steps=2000, log_every=2)"
]
CHOICE = [
    "from minipolycom.viz.widgets import choose\n"
    "asked = choose('Which?', {'left': 'Left is wrong because.', 'right': 'Right it is.'}, right='right')\n"
    "asked"
]
BOARD = [
    "from minipolycom.viz import ablations\n"
    "from minipolycom.viz.widgets import live_figure\n"
    "recorded, yours = {'polynorm': {0: 1.48, 1: 1.47, 2: 1.49}, 'swiglu': {0: 1.49, 1: 1.5, 2: 1.48}}, {}\n"
    "board = lambda: ablations.arms(recorded | yours, 'Board', own=yours)\n"
    "live = live_figure(board())\n"
    "display(live.widget)\n"
    "for name in ('placebo', 'mine'):\n"
    "    for seed in range(3):\n"
    "        yours.setdefault(name, {})[seed] = 1.46 + 0.01 * seed\n"
    "        live.update(board())"
]


def test_a_failing_cell_is_seen(open_notebook: Callable) -> None:
    # Jupyter leaves out the cells that the kernel has been told of when one fails, so it fails after they have arrived.
    notebook = open_notebook("failing.ipynb", ["1 + 1", "import time\ntime.sleep(3)\n1 / 0", "2 + 2"])
    notebook.run_all()
    assert notebook.executed() == 2
    (error,) = notebook.errors()
    assert "ZeroDivisionError" in error


def test_a_control_without_a_name_is_seen(open_notebook: Callable) -> None:
    cells = ["import ipywidgets\nipywidgets.FloatSlider()", "ipywidgets.FloatSlider(description='slope')"]
    notebook = open_notebook("unlabelled.ipynb", cells)
    notebook.run_all()
    assert len(notebook.unlabelled_controls()) == 1


def test_a_request_to_elsewhere_is_seen_and_refused(open_notebook: Callable) -> None:
    cell = 'from IPython.display import HTML\nHTML(\'<img alt="none" src="http://192.0.2.1/picture.png">\')'
    notebook = open_notebook("elsewhere.ipynb", [cell])
    notebook.run_all()
    assert set(notebook.outside_requests) == {"http://192.0.2.1/picture.png"}


def test_the_explorer_follows_the_mouse_and_the_keyboard(open_notebook: Callable) -> None:
    notebook = open_notebook("explorer.ipynb", EXPLORER)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []

    first = notebook.curves()
    notebook.drag(notebook.slider("of x³"), 60)
    notebook.wait_until(lambda: notebook.curves() != first, "the mouse has moved a curve")
    second = notebook.curves()
    notebook.slider("scale of the row").press("ArrowRight")
    notebook.wait_until(lambda: notebook.curves() != second, "the keyboard has moved a curve")
    notebook.wait_until_still()  # or the last word of the drag comes after Reset
    notebook.press("Reset")
    notebook.wait_until(lambda: notebook.curves() == first, "Reset has put every curve back")


def test_a_board_that_fills_at_once_shows_every_mark(open_notebook: Callable) -> None:
    notebook = open_notebook("board.ipynb", BOARD)
    notebook.run_all()
    # of the recorded and of the reader's arms the seeds and their means, each on the line of its name
    places = [[[3, 3, 3, 2, 2, 2], [3, 2], [1, 1, 1, 0, 0, 0], [1, 0]]]
    notebook.wait_until(lambda: notebook.curves() == places, "every mark is in its place")
    names = notebook.page.locator(".js-plotly-plot .ytick text").all_text_contents()
    assert names == ["mine", "placebo", "swiglu", "polynorm"]


def test_the_row_explorer_follows_mouse_keyboard_and_choice(open_notebook: Callable) -> None:
    notebook = open_notebook("row.ipynb", ROW)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []

    first = notebook.curves()
    notebook.drag(notebook.slider("scale of the row"), 60)
    notebook.wait_until(lambda: notebook.curves() != first, "the mouse has moved a curve")
    notebook.shoot("dragged")
    second = notebook.curves()
    notebook.slider("one entry of it").press("ArrowRight")
    notebook.wait_until(lambda: notebook.curves() != second, "the keyboard has moved a curve")
    notebook.page.get_by_label("divided", exact=True).select_option("each power: PolyNorm")
    notebook.wait_until(lambda: notebook.says("Divided: each power: PolyNorm"), "the place is said")
    notebook.page.get_by_label("divided", exact=True).select_option("nowhere")
    notebook.wait_until_still()  # or the last word of the drag comes after Reset
    notebook.press("Reset")
    notebook.wait_until(lambda: notebook.curves() == first, "Reset has put every curve back")


def test_a_live_training_is_started_paused_resumed_and_stopped(open_notebook: Callable) -> None:
    notebook = open_notebook("training.ipynb", TRAINING)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    empty = notebook.points()
    notebook.press("Start")
    notebook.wait_until(lambda: notebook.points() > empty + 4, "the curves have grown", timeout=120)
    notebook.press("Pause")
    notebook.wait_until(lambda: notebook.says("Paused. Resume goes on"), "it says that it is paused")
    notebook.page.wait_for_timeout(2000)  # a step that was under way ends
    held = notebook.points()
    notebook.page.wait_for_timeout(2000)
    assert notebook.points() == held
    notebook.press("Resume")
    notebook.wait_until(lambda: notebook.points() > held, "the curves grow again", timeout=60)
    notebook.press("Stop")
    notebook.wait_until(lambda: notebook.says("What was measured is kept"), "it says that it has stopped")
    assert notebook.points() > held


def test_a_prediction_is_made_and_explained(open_notebook: Callable) -> None:
    notebook = open_notebook("prediction.ipynb", CHOICE)
    notebook.run_all()
    assert notebook.unlabelled_controls() == []
    assert not notebook.says("Left is wrong because.")
    notebook.page.get_by_role("radio", name="left").check()
    notebook.press("Reveal")
    notebook.wait_until(lambda: notebook.says("Left is wrong because."), "the wrong answer is explained")
    assert notebook.says("Right it is.")


def test_a_figure_is_drawn_and_moves_also_where_its_script_takes_long(open_notebook: Callable) -> None:
    notebook = open_notebook("slow.ipynb", EXPLORER)
    # three seconds for whatever script is as long as plotly's: longer than anywidget's patience
    notebook.page.evaluate(
        """() => {
            const create = URL.createObjectURL.bind(URL);
            const delay = "await new Promise(done => setTimeout(done, 3000));";
            URL.createObjectURL = blob => create(blob.size < 1e6 ? blob : new Blob([delay, blob], { type: blob.type }));
        }"""
    )
    notebook.run_all()
    notebook.slider("scale of the row").press("ArrowRight")  # while the script may be on its way
    notebook.wait_until(
        lambda: any(len(curve) > 100 for figure in notebook.curves() for curve in figure), "it is drawn"
    )
    first = notebook.curves()
    notebook.slider("scale of the row").press("ArrowRight")
    notebook.wait_until(lambda: notebook.curves() != first, "the keyboard has moved a curve")
