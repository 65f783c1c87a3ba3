"""A learner in JupyterLab: predicts, gets it wrong, takes hints, passes, comes back; with and without a mouse."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

CELLS = [
    'from minipolycom.learn import check, hint, start\nstart("learning")',
    "from minipolycom.viz.widgets import choose\n"
    "asked = choose('Which?', {'left': 'Left is wrong because.', 'right': 'Right it is.'}, right='right')\n"
    "asked",
    "from minipolycom.viz.widgets import guess_number\n"
    "guess = guess_number('After how many layers does it end?', 'layers', 1, 10)\n"
    "guess",
    "guess.compare(6)",
    "def unigram_entropy(counts):\n"
    "    p = counts[counts > 0] / counts.sum()\n"
    "    return -(p * p.log2()).sum()\n"
    "\n"
    'check("unigram_entropy", unigram_entropy)',
    'hint("unigram_entropy")',
    'hint("unigram_entropy", 2)',
]
MAP, CHOICE, GUESS, COMPARISON, EXERCISE, HINT, SECOND_HINT = range(len(CELLS))
MISCONCEPTION = "bits for nats"

CONTROLS = [
    "from minipolycom.viz.widgets import activation_explorer, choose, guess_number, live_training\n"
    "from minipolycom.learn import doctor, start\n"
    "from minipolycom.viz import figures\n"
    "start()",
    "activation_explorer()",
    "live_training(('relu', 'polynorm'), steps=8)",
    "choose('Which?', {'left': '', 'right': ''}, right='right')",
    "guess_number('How long?', 's', 1, 1000)",
    "figures.show(figures.activation_curves(['relu']))",
    "doctor()",
]
CONTROL = ".jp-OutputArea-output :is(input, select, textarea, button, summary, [role=slider]):visible"


@pytest.fixture
def learner(lab: Any, open_notebook: Callable) -> Iterator[Any]:
    """A notebook with a choice, a guess and an exercise, open before someone who has solved nothing yet."""
    lab.progress.unlink(missing_ok=True)
    yield open_notebook("learning.ipynb", CELLS)
    lab.progress.unlink(missing_ok=True)


def run(notebook: Any, index: int) -> None:
    """Click into a cell and run it."""
    notebook.cell(index).locator(".cm-content").click()
    notebook.run_selected(index)


def mapped(notebook: Any, *texts: str) -> Callable[[], bool]:
    return lambda: all(text in notebook.output(MAP).replace("\xa0", " ") for text in texts)


def test_a_learner_predicts_errs_takes_hints_passes_and_comes_back(learner: Any) -> None:
    for index in (MAP, CHOICE, GUESS):
        run(learner, index)
    assert mapped(learner, "○ unigram_entropy (open)", "0 of 1", "Next: unigram_entropy in 00_start_here.ipynb")()

    learner.page.get_by_role("radio", name="left").check()
    learner.press("Reveal")
    learner.wait_until(lambda: learner.says("Left is wrong because."), "the wrong answer is explained")
    assert "The answer: right. Right it is." in learner.output(CHOICE)

    assert "No prediction yet" in learner.output(GUESS)
    assert "I guess (layers)" in learner.output(GUESS)
    learner.drag(learner.slider("I guess"), 90)
    learner.wait_until(lambda: "Your prediction: " in learner.output(GUESS), "the guess is noted")
    guessed = int(learner.slider("I guess").get_attribute("aria-valuetext"))
    assert guessed > 6
    run(learner, COMPARISON)
    assert f"You said {guessed} layers, measured: 6 layers. That is {guessed - 6} too high" in learner.output(GUESS)

    run(learner, EXERCISE)
    assert "✘ wrong: unigram_entropy" in learner.output(EXERCISE)
    assert f"Why: {MISCONCEPTION}." in learner.output(EXERCISE)
    learner.wait_until(mapped(learner, "◐ unigram_entropy (tried)"), "the map shows that it was tried")
    run(learner, HINT)
    run(learner, SECOND_HINT)
    assert "Hint 1 of 3." in learner.output(HINT)
    assert "Hint 2 of 3." in learner.output(SECOND_HINT)
    assert "torch.log is the natural logarithm" in learner.output(SECOND_HINT)

    learner.cell(EXERCISE).locator(".cm-line", has_text="log2").click()
    learner.page.keyboard.press("Home")
    learner.page.keyboard.press("Shift+End")
    learner.page.keyboard.insert_text("return -(p * p.log()).sum()")
    learner.run_selected(EXERCISE)
    assert "✔ passed: unigram_entropy" in learner.output(EXERCISE)
    solved = mapped(learner, "✔ unigram_entropy (solved)", "1 of 1", "Next: collapse_linear in 01_why_nonlinearity")
    learner.wait_until(solved, "the map, whose cell was not run again, shows that it is solved")
    learner.shoot()

    learner.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    learner.page.get_by_text("Restart Kernel and Clear Outputs of All Cells…", exact=True).click()
    learner.page.get_by_role("button", name="Confirm Kernel Restart").click()
    learner.wait_until(lambda: not learner.says("Your way through the course"), "the outputs are gone")
    learner.run_all()
    assert learner.errors() == []
    assert learner.executed() == len(CELLS)
    assert solved()
    assert "No prediction yet" not in learner.output(GUESS)  # compared: no prediction was made this time
    assert "No prediction was made. Measured: 6 layers." in learner.output(GUESS)


def test_the_same_by_keyboard_alone(learner: Any) -> None:
    press = learner.page.keyboard.press
    press("Escape")
    for index in (MAP, CHOICE, GUESS):
        learner.run_selected(index)

    learner.walk_to(CHOICE)
    learner.tab_to(learner.page.get_by_role("radio", name="left"))
    press("Space")
    learner.tab_to(learner.page.get_by_role("radio", name="right"))  # and back: a choice can be changed
    press("Space")
    press("Shift+Tab")
    press("Space")
    learner.tab_to(learner.page.get_by_role("button", name="Reveal"))
    press("Space")
    learner.wait_until(lambda: learner.says("Left is wrong because."), "the wrong answer is explained")

    learner.walk_to(GUESS)  # from the button: it still has the focus
    learner.tab_to(learner.slider("I guess"))
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        press(key)
    learner.wait_until(lambda: "Your prediction: 7 layers" in learner.output(GUESS), "the guess is noted")
    press("Shift+Tab")  # off the slider, which keeps the arrow keys to itself
    learner.walk_to(COMPARISON)
    learner.run_selected(COMPARISON)
    assert "You said 7 layers, measured: 6 layers. That is 1 too high" in learner.output(GUESS)

    for index in (EXERCISE, HINT, SECOND_HINT):
        learner.run_selected(index)
    assert f"Why: {MISCONCEPTION}." in learner.output(EXERCISE)
    assert "Hint 2 of 3." in learner.output(SECOND_HINT)

    learner.walk_to(EXERCISE)
    press("Enter")
    press("Control+Home")
    for key in ("ArrowDown", "ArrowDown", "End", *["ArrowLeft"] * len("()).sum()"), "Backspace", "Escape"):
        press(key)
    learner.run_selected(EXERCISE)
    assert "✔ passed: unigram_entropy" in learner.output(EXERCISE)
    solved = mapped(learner, "✔ unigram_entropy (solved)", "1 of 1", "Next: collapse_linear in 01_why_nonlinearity")
    learner.wait_until(solved, "the map, whose cell was not run again, shows that it is solved")

    press("0")
    press("0")
    learner.page.get_by_role("dialog").wait_for()
    press("Enter")
    learner.page.get_by_role("dialog").wait_for(state="detached")
    learner.page.get_by_text("| Idle").wait_for()
    learner.walk_to(MAP)
    learner.run_selected(MAP)
    assert solved()


def test_the_tab_key_reaches_every_control_and_the_focus_shows_and_stays(open_notebook: Callable) -> None:
    notebook = open_notebook("controls.ipynb", CONTROLS)
    notebook.run_all()
    assert notebook.errors() == []
    found = []
    for index in range(1, len(CONTROLS)):
        notebook.cell(index).locator(".jp-InputArea-prompt").click()
        notebook.page.keyboard.press("Escape")
        for control in notebook.cell(index).locator(CONTROL).all():
            notebook.tab_to(control)
            found.append(index)
    counts = [found.count(index) for index in range(1, len(CONTROLS))]
    assert counts == [8, 4, 3, 1, 1, 1]

    for name in ("Start", "Stop", "Reveal"):  # each has nothing left to do once it was pressed
        notebook.page.locator("button.jupyter-button", has_text=name).focus()
        notebook.page.keyboard.press("Space")
        notebook.page.wait_for_timeout(1000)
        assert notebook.selected() >= 0, name


def test_legend_title_and_panels_keep_apart(open_notebook: Callable) -> None:
    names = [f"activation number {i}, gain 1" for i in range(10)]
    cells = [
        "from minipolycom.viz import figures",
        "figures.show(figures.activation_curves(['relu', 'squared_relu', 'gelu', 'silu', 'polyrelu', 'swiglu']))",
        *[
            f"figures.show(figures.lines({ {name: [1, 2] for name in names[:n]} }, [0, 1], 'x', 'y', 'A title'))"
            for n in (2, 6, 10)
        ],
    ]
    parts = """figure => ['.gtitle', '.legend', '.annotation', '.draglayer .xy .nsewdrag'].map(part => {
        const box = figure.querySelector(part)?.getBoundingClientRect();
        return box && [box.top, box.bottom];
    }).filter(Boolean)"""
    notebook = open_notebook("legends.ipynb", cells)
    notebook.run_all()
    figures = notebook.page.locator(".js-plotly-plot").all()
    assert len(figures) == len(cells) - 1
    heights = []
    for width in (1200, 800):
        notebook.page.set_viewport_size({"width": width, "height": 1000})
        notebook.page.wait_for_timeout(1500)  # the figures are drawn again
        for figure in figures:
            boxes = figure.evaluate(parts)
            assert len(boxes) >= 3
            for (_, bottom), (top, _) in pairwise(boxes):
                assert bottom <= top + 1, (width, boxes)  # rounding
            heights.append(boxes[1][1] - boxes[1][0])
    assert heights[-1] > 3 * heights[1]  # a legend of several lines was among them
