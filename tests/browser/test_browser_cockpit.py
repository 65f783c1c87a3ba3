"""The cockpit, the rank lens and the router view in a real page: what a learner presses, and what must then be seen.

tests/classic runs the same in classic Notebook.
"""

from collections.abc import Callable

COCKPIT = [
    "from pathlib import Path\n"
    "from minipolycom.viz.widgets import cockpit\n"
    "Path('text.txt').write_text('The quick brown fox jumps over the lazy dog.\\n' * 5000)\n"
    "one = cockpit(source='files:text.txt', steps=400, batch_size=4, log_every=2, out='cockpit-runs')\n"
    "one.SECONDS_PER_REDRAW = 0.2\n"
    "one"
]
LENS = [
    "from pathlib import Path\n"
    "from minipolycom import GPTConfig, TokenData, TrainConfig, fit\n"
    "from minipolycom.viz.widgets import rank_lens, router_view\n"
    "Path('text.txt').write_text('The quick brown fox jumps over the lazy dog.\\n' * 5000)\n"
    "data = TokenData('files:text.txt', context=32, batch_size=4)\n"
    "training = TrainConfig(steps=8, eval_every=2, record_every=4, checkpoint_every=8)\n"
    "models = [GPTConfig(context=32, d_model=32, activation=a, n_experts=n)\n"
    "          for a, n in [('relu', 0), ('polynorm', 4)]]\n"
    "runs = [fit(data, model, training, progress=False) for model in models]",
    "rank_lens(*runs)",
    "router_view(runs[1])",
]


def test_the_cockpit_is_started_held_scrubbed_branched_and_stopped(open_notebook: Callable) -> None:
    notebook = open_notebook("cockpit.ipynb", COCKPIT)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    notebook.wait_until(lambda: len(notebook.curves()) == 6, "six panels are drawn")
    notebook.page.evaluate(
        """() => {
            globalThis.updates = 0;
            const figure = document.querySelector('.js-plotly-plot');
            figure.on('plotly_afterplot', () => { globalThis.updates += 1; });
        }"""
    )
    notebook.press("Start")
    notebook.wait_until(
        lambda: notebook.page.evaluate("() => globalThis.updates") >= 50, "fifty updates are drawn", timeout=240
    )
    notebook.press("Pause")
    notebook.wait_until(lambda: notebook.says("Paused. Resume goes on"), "it says that it is paused")
    notebook.page.wait_for_timeout(2500)  # a step that was under way ends, and is drawn
    newest = notebook.curves()
    notebook.shoot("paused")

    notebook.drag(notebook.slider("step"), -150)
    notebook.wait_until(lambda: notebook.curves() != newest, "the panels follow the slider back")
    readout = notebook.page.locator(".widget-slider", has_text="step").locator(".widget-readout")

    def arrived() -> bool:
        at = int(readout.inner_text())
        return notebook.says(f"at step {at},") or notebook.says(f"at step {at - 1},")  # every second one is measured

    # The page holds a slider's last place back while the kernel is busy with an earlier one; a press would overtake it.
    notebook.wait_until(arrived, "the kernel has the place where the slider was left")
    at = int(readout.inner_text())
    notebook.page.get_by_label("activation", exact=True).select_option("relu")
    curves = len(notebook.curves()[0])
    notebook.press("Branch here")
    notebook.wait_until(lambda: len(notebook.curves()[0]) > curves, "the branch has curves of its own", timeout=120)
    notebook.wait_until(lambda: notebook.says("Training."), "the branch trains", timeout=60)
    run = notebook.page.get_by_label("run", exact=True).locator("option:checked").inner_text()
    said = run.replace("\N{NO-BREAK SPACE}", " ")  # ipywidgets 7 keeps spaces so
    assert said.startswith("relu from ")
    assert int(said.split()[-1]) <= at
    notebook.page.wait_for_timeout(3000)
    notebook.press("Stop")
    notebook.wait_until(lambda: notebook.says("with a checkpoint"), "it says that it has stopped", timeout=60)
    notebook.shoot("branched")
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []


def test_the_rank_lens_and_the_router_view_follow_their_controls(open_notebook: Callable) -> None:
    notebook = open_notebook("lens.ipynb", LENS)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.unlabelled_controls() == []
    notebook.wait_until(lambda: len(notebook.curves()) == 4, "four figures are drawn")
    first = notebook.curves()
    notebook.page.get_by_label("compared at", exact=True).select_option(index=1)  # equal validation loss
    notebook.wait_until(lambda: notebook.says("nats"), "the slider offers losses")
    notebook.drag(notebook.slider("at"), -200)
    notebook.wait_until(lambda: notebook.curves() != first, "the panels show other steps")
    text = notebook.page.locator(".jupyter-widgets textarea")
    text.fill("the fox")
    text.press("Tab")
    notebook.wait_until(lambda: notebook.says("7 tokens"), "the text of the learner is read")
    notebook.shoot("moved")
    assert notebook.errors() == []
