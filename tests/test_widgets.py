"""The widgets, without a browser: setting a control's value does what moving it on the page does."""

import threading
import time
from types import SimpleNamespace

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest

from minipolycom.viz import figures, widgets
from minipolycom.viz.widgets import LiveTraining, choose, choose_curve, guess_number, live_training, pieces

# -- a figure that changes in place --------------------------------------------------------------------------------


def a_figure(*values, names=("relu", "polynorm"), title="T"):
    return figures.lines(dict(zip(names, values, strict=False)), [0, 1, 2], "x", "y", title)


def test_a_live_figure_changes_in_place():
    live = widgets.live_figure(a_figure([1, 2, 3]))
    shown, trace = live.figure, live.figure.data[0]
    live.update(a_figure([4, 5, 6], title="new"))
    assert live.figure is shown
    assert live.figure.data[0] is trace
    assert list(trace.y) == [4, 5, 6]
    assert shown.layout.title.text == "new"
    assert "relu from 4 to 6" in live.frame.alt


def test_a_live_figure_takes_more_and_fewer_curves_and_drops_what_is_gone():
    live = widgets.live_figure(figures.training_curves([]))
    assert live.figure.layout.annotations[0].text == "no measurements yet"
    live.update(a_figure([1, 2, 3], [3, 2, 1]))
    assert [t.name for t in live.figure.data] == ["relu", "polynorm"]
    assert len(live.figure.layout.annotations) == 0
    live.update(a_figure([1, 2, 3]))
    assert [t.name for t in live.figure.data] == ["relu"]


def test_an_update_leaves_a_readers_zoom_alone():
    live = widgets.live_figure(a_figure([1, 2, 3]))
    live.figure.update_xaxes(range=[0.5, 1])  # what the page reports after a zoom
    live.update(a_figure([1, 2, 4]))
    assert tuple(live.figure.layout.xaxis.range) == (0.5, 1)


def test_a_live_figure_tells_the_page_what_curves_keep():
    live = widgets.live_figure(a_figure([1, 2, 3], [3, 2, 1]))
    told = []
    live.figure.observe(lambda change: told.append(change["new"]), "_py2js_update")
    one, two = a_figure([1, 2, 4], [3, 2, 1], title="new"), a_figure([1, 2, 5], [3, 2, 1])
    two.data[1].line.color = "red"
    live.update(one)
    live.update(two)
    of_the_first, of_the_second = (message["style_data"] for message in told if message)
    assert [list(values) for values in of_the_first["y"]] == [[1, 2, 4]]
    assert [list(values) for values in of_the_second["y"]] == [[1, 2, 5], [3, 2, 1]]
    assert [line["color"] for line in of_the_second["line"]] == [one.data[0].line.color, "red"]


def test_a_live_figure_may_hold_curves_and_bars():
    def drawn(curve, bars, colour):
        figure = go.Figure(layout_meta={"alt": "curve and bars"})
        return figure.add_scatter(y=curve, line=dict(color=colour)).add_bar(y=bars)

    live = widgets.live_figure(drawn([1, 2], [3, 4], "red"))
    told = []
    live.figure.observe(lambda change: told.append(change["new"]), "_py2js_update")
    live.update(drawn([1, 5], [3, 6], "blue"))
    (style,) = (message["style_data"] for message in told if message)
    assert [list(values) for values in style["y"]] == [[1, 5], [3, 6]]
    assert style["line"] == [{"color": "blue"}, None]


def test_in_colab_a_live_figure_is_a_picture(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    live = widgets.live_figure(a_figure([1, 2, 3]))
    assert isinstance(live.widget, ipywidgets.HTML)
    before = live.widget.value
    live.update(a_figure([3, 2, 1]))
    assert live.widget.value.startswith("<svg")
    assert live.widget.value != before
    assert "relu from 3 to 1" in live.widget.value


# -- the explorer --------------------------------------------------------------------------------------------------


@pytest.fixture
def explorer():
    return widgets.activation_explorer()


def heights(explorer):
    return {trace.name: np.array(trace.y) for trace in explorer.figure.data}


@pytest.mark.parametrize("slider", ["a3", "a2", "a1", "bias"])
def test_a_coefficient_moves_curve_and_panel(explorer, slider):
    before = heights(explorer)
    explorer.sliders[slider].value = 0.75
    after = heights(explorer)
    for name in ("polynorm, f(x)", "polynorm", "polyrelu"):
        assert not np.allclose(before[name], after[name]), name
    assert np.allclose(before["polynorm, slope"], after["polynorm, slope"]) is (slider == "bias")
    np.testing.assert_array_equal(before["at the start"], after["at the start"])


def test_one_other_entry_moves_polynorm_alone(explorer):
    before = heights(explorer)
    explorer.sliders["outlier"].value = 30
    after = heights(explorer)
    assert not np.allclose(before["polynorm"], after["polynorm"])
    np.testing.assert_array_equal(before["polyrelu"], after["polyrelu"])
    np.testing.assert_array_equal(before["polynorm, f(x)"], after["polynorm, f(x)"])
    assert "at 30, polynorm is" in explorer.reading.value


def test_the_scale_of_the_row_moves_polyrelu_alone(explorer):
    before = heights(explorer)
    explorer.sliders["scale"].value = 2
    after = heights(explorer)
    np.testing.assert_allclose(before["polynorm"], after["polynorm"], atol=1e-4)  # eps beside a mean square of 1
    assert not np.allclose(before["polyrelu"], after["polyrelu"])


def test_another_activation_and_the_way_back(explorer):
    before = heights(explorer)
    explorer.choice.value = "gelu"
    assert "gelu, f(x)" in heights(explorer)
    explorer.choice.value = "polynorm"
    for slider in explorer.sliders.values():
        slider.value = slider.max
    explorer.reset.click()
    for name, y in heights(explorer).items():
        np.testing.assert_array_equal(y, before[name])


def test_the_start_values_lie_on_the_sliders_grids(explorer):
    # A page rounds a slider's value to its grid; off the grid, what it shows is not what Python drew.
    for name, slider in explorer.sliders.items():
        steps = (slider.value - slider.min) / slider.step
        assert steps == pytest.approx(round(steps), abs=1e-9), name


@pytest.mark.timing
def test_a_slider_answers_at_once(explorer):
    times = []
    for value in range(1, 8):
        start = time.perf_counter()
        explorer.sliders["outlier"].value = value
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2  # 0.04 s on an idle core: the rest is for a busy machine


def test_every_control_has_a_description(explorer):
    for control in (explorer.choice, explorer.reset, *explorer.sliders.values()):
        assert control.description


def test_the_explorer_knows_its_activations():
    with pytest.raises(ValueError, match=r"unknown activation 'tanh'; known: relu, .*polynorm"):
        widgets.activation_explorer("tanh")


# -- the row explorer ----------------------------------------------------------------------------------------------

POLYNORM = "each power: PolyNorm"


@pytest.fixture
def row_explorer():
    return widgets.row_explorer()


def test_the_scale_of_a_row_moves_the_bare_polynomial_and_leaves_polynorm(row_explorer):
    moved = {}
    for place in (row_explorer.choice.value, POLYNORM):
        row_explorer.choice.value = place
        before = heights(row_explorer)
        row_explorer.sliders["scale"].value = 10
        moved[place] = not np.allclose(before["sizes, this row"], heights(row_explorer)["sizes, this row"], rtol=1e-3)
        row_explorer.reset.click()
    assert moved == {"nowhere": True, POLYNORM: False}


def test_another_place_and_one_loud_entry_are_drawn_and_said_and_taken_back(row_explorer):
    row_explorer.choice.value = POLYNORM
    before = heights(row_explorer)
    row_explorer.sliders["outlier"].value = 40
    assert "one entry at 40 times the scale" in row_explorer.reading.value
    assert "comes out as 15.6" in row_explorer.reading.value
    assert np.abs(heights(row_explorer)["this row"][:-1]).max() < np.abs(before["this row"]).max()
    row_explorer.reset.click()
    for name, y in heights(row_explorer).items():
        np.testing.assert_array_equal(y, before[name])


def test_the_row_explorer_starts_where_it_is_told_with_every_control_described():
    explorer = widgets.row_explorer(POLYNORM)
    assert POLYNORM in explorer.reading.value
    for control in (explorer.choice, explorer.reset, *explorer.sliders.values()):
        assert control.description
    with pytest.raises(ValueError, match="unknown place 'inside'; known: nowhere"):
        widgets.row_explorer("inside")


# -- live training -------------------------------------------------------------------------------------------------


class FakeTraining:
    """Jobs that honour a control as `fit` does, and notice when two of them work at the same time."""

    def __init__(self, *names, steps=20, seconds_per_step=0.002, fails=None, status="finished"):
        self.names, self.steps, self.seconds_per_step = names, steps, seconds_per_step
        self.fails, self.status = fails, status
        self.working, self.most_at_once, self.order = 0, 0, []

    def widget(self, **more):
        return LiveTraining({name: self.job(name) for name in self.names}, self.steps, **more)

    def job(self, name):
        def train(control, on_row):
            rows = []
            for step in range(1, self.steps + 1):
                self.working += 1
                self.most_at_once = max(self.most_at_once, self.working)
                time.sleep(self.seconds_per_step)
                if name == self.fails and step == 3:
                    self.working -= 1
                    raise RuntimeError("the loss\nfell off the table")
                self.order.append(name)
                self.working -= 1
                row = {
                    "run": name, "activation": name, "step": step, "tokens": 100 * step, "seconds": 0.01 * step,
                    "split": "train" if step % 5 else "val", "loss": 5 / step, "learning_rate": 1e-3,
                }  # fmt: skip
                rows.append(row)
                on_row(row)
                while control.paused:
                    time.sleep(0.002)
                if control.stopped:
                    return SimpleNamespace(rows=rows, status="stopped", message="")
            return SimpleNamespace(rows=rows, status=self.status, message="training diverged: lower the learning rate")

        return train


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def no_thread_is_left():
    return not [t for t in threading.enumerate() if t.name.startswith(("training ", "live training"))]


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(LiveTraining, "SECONDS_PER_REDRAW", 0.02)
    yield
    assert no_thread_is_left()


def test_runs_take_turns_and_end_with_a_verdict():
    fake = FakeTraining("relu", "polynorm")
    training = fake.widget(prepare=lambda: ("line", 1.5))
    assert "Ready: relu, polynorm, 20 steps each" in training.sentence.value
    verdict = training.wait(20)
    assert training.state == "finished"
    assert fake.most_at_once == 1
    assert fake.order[:6] == ["relu", "polynorm"] * 3
    assert list(verdict.index) == ["relu", "polynorm"]
    assert verdict.loc["relu"].to_dict() == {
        "status": "finished", "steps": 20, "validation loss": 0.25, "seconds": 0.2, "tokens per second": 10_000,
    }  # fmt: skip
    assert training.runs["polynorm"].status == "finished"
    assert {row["run"] for row in training.rows} == {"relu", "polynorm"}
    assert [trace.name for trace in training.figure.data] == [
        "relu, training", "relu", "polynorm, training", "polynorm", "line",
    ]  # fmt: skip
    assert list(training.figure.data[1].y) == [1.0, 0.5, 5 / 15, 0.25]
    assert training.bars["relu"].value == 20
    assert "step 20 of 20, validation loss 0.250, 10,000 tokens per second" in training.readings["relu"].value
    assert "relu and polynorm end level" in training.result.value
    assert "10,000" in training.result.value


def test_the_verdict_names_the_lower_loss():
    training = FakeTraining("relu", "polynorm").widget()
    training.rows = [
        {"run": n, "activation": n, "step": 9, "tokens": 9, "seconds": 1.0, "split": "val", "loss": loss}
        for n, loss in (("relu", 2.5), ("polynorm", 2.25))
    ]
    training.state = "finished"
    assert "<b>polynorm</b> ends lowest, at 2.250 nats per token, 0.250 below relu" in training._told()
    training.state = "stopped"  # perhaps at different steps: nothing to compare
    assert "lowest" not in training._told()


def test_pause_holds_and_resume_goes_on():
    training = FakeTraining("relu", "polynorm", steps=40).widget()
    training.start_button.click()
    until(lambda: len(training.rows) > 6)
    training.pause_button.click()
    assert training.state == "paused"
    assert "Paused" in training.sentence.value
    assert training.pause_button.description == "Resume"
    time.sleep(0.05)  # the steps under way end
    held = len(training.rows)
    time.sleep(0.15)
    assert len(training.rows) == held < 80
    training.pause_button.click()
    assert training.pause_button.description == "Pause"
    assert (training.wait(20)["status"] == "finished").all()
    assert len(training.rows) == 80


def test_stop_keeps_what_was_measured_and_start_begins_again():
    training = FakeTraining("relu", "polynorm", steps=400).widget()
    training.start()
    until(lambda: len(training.rows) > 6)
    training.stop_button.click()
    until(lambda: "Stopped. What was measured is kept" in training.sentence.value)
    assert set(training.verdict["status"]) == {"stopped"}
    assert 6 < len(training.rows) < 800
    assert training.start_button.description == "Start again"
    assert pieces.RESTING not in training.start_button._dom_classes
    assert pieces.RESTING in training.stop_button._dom_classes
    training.jobs = FakeTraining("relu", "polynorm", steps=5).widget().jobs
    training.start_button.click()
    training.wait(20)
    assert training.state == "finished"
    assert len(training.rows) == 10


def test_a_button_that_rests_keeps_the_focus_and_does_nothing():
    training = FakeTraining("relu", steps=400).widget()
    resting = [b for b in (training.pause_button, training.stop_button) if pieces.RESTING in b._dom_classes]
    for resting_button in resting:
        assert not resting_button.disabled
        resting_button.click()
    assert (len(resting), training.state) == (2, "ready")


def test_stop_works_while_paused_and_while_preparing():
    training = FakeTraining("relu", steps=400).widget()
    training.start()
    until(lambda: training.rows)
    training.pause()
    training.stop()
    training.wait(20)
    assert training.state == "stopped"

    gate = threading.Event()
    training = FakeTraining("relu").widget(prepare=lambda: gate.wait(10) and None)
    training.start()
    assert "Preparing the text" in training.sentence.value
    training.stop()
    gate.set()
    training.wait(20)
    assert training.rows == []
    assert training.verdict.loc["relu", "status"] == "stopped"


def test_another_training_stops_the_one_that_goes_on():
    first = FakeTraining("relu", steps=4000).widget()
    first.start()
    until(lambda: first.rows)
    second = FakeTraining("polynorm").widget()
    second.start()
    assert first.state == "stopped"
    assert "another one was begun" in first.sentence.value
    assert not first.conductor.is_alive()
    second.wait(20)
    assert second.state == "finished"


def test_what_goes_wrong_in_one_run_is_said_and_the_others_go_on():
    training = FakeTraining("relu", "polynorm", fails="relu").widget()
    verdict = training.wait(20)
    assert training.state == "failed"
    assert training.errors == {"relu": "RuntimeError: the loss fell off the table"}
    assert "relu: RuntimeError: the loss fell off the table" in training.sentence.value
    assert verdict["status"].to_dict() == {"relu": "failed", "polynorm": "finished"}


def test_a_diverged_run_is_said():
    training = FakeTraining("relu", status="diverged").widget()
    training.wait(20)
    assert "relu: training diverged: lower the learning rate" in training.sentence.value


def test_what_goes_wrong_before_training_is_said():
    def prepare():
        raise ValueError("the file words.txt is empty: <give> another")

    training = FakeTraining("relu").widget(prepare=prepare)
    training.wait(20)
    assert training.state == "failed"
    assert "the file words.txt is empty: &lt;give&gt; another" in training.sentence.value
    assert training.start_button.description == "Start again"


def test_what_goes_wrong_in_drawing_stops_the_runs(monkeypatch):
    training = FakeTraining("relu", steps=4000).widget()
    monkeypatch.setattr(training.live, "update", lambda figure: 1 / 0)
    training.start()
    training.conductor.join(10)
    assert "ZeroDivisionError" in training.errors["live training"]
    assert training.rows
    assert training.state == "failed"
    assert "ZeroDivisionError" in training.sentence.value


def test_wait_gives_up_waiting_when_told_to_and_the_training_goes_on():
    training = FakeTraining("relu", steps=4000).widget()
    assert training.wait(0.1).loc["relu", "status"] == "training"
    assert training.going
    training.stop()
    training.wait(20)


def test_interrupting_the_wait_stops_the_training(monkeypatch):
    training = FakeTraining("relu", steps=4000).widget()
    training.start()
    join, calls = training.conductor.join, []

    def interrupted_once(timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            until(lambda: training.rows)
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(training.conductor, "join", interrupted_once)
    assert training.wait().loc["relu", "status"] == "stopped"
    assert "Stopped (interrupted)" in training.sentence.value


def test_the_horizontal_axis_can_be_changed():
    training = FakeTraining("relu").widget()
    training.wait(20)
    assert tuple(training.figure.layout.xaxis.range) == (0, 20)
    training.axis.value = "seconds"
    assert training.figure.layout.xaxis.title.text == "seconds of training"
    assert training.figure.layout.xaxis.range is None
    assert list(training.figure.data[1].x) == [0.05, 0.1, 0.15, 0.2]


QUICK = {"steps": 4, "batch_size": 2, "eval_batches": 1}


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_CACHE", str(tmp_path / "cache"))
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_text(f"The mean of the squares, and its root: {name}. " * 200)
    return f"files:{tmp_path}/*.txt"


def test_two_real_trainings(text, tmp_path):
    training = live_training(("relu", "swiglu"), source=text, out=tmp_path / "runs", **QUICK)
    verdict = training.wait(60)
    assert f"Finished, and kept in {tmp_path / 'runs'}: delete it" in training.sentence.value
    assert not training.startable
    assert (verdict["status"] == "finished").all()
    assert training.floor[1] > 0
    assert training.runs["swiglu"].model_config.activation == "swiglu"
    assert (tmp_path / "runs" / "relu" / "config.json").is_file()
    assert {row["step"] for row in training.rows if row["split"] == "val"} == {0, 1, 2, 3, 4}
    again = live_training(("relu", "swiglu"), source=text, out=tmp_path / "runs", **QUICK)
    assert again.wait(60)["steps"].tolist() == [4, 4]
    assert again.rows == training.rows


def test_what_is_kept_goes_on_where_it_was_stopped(text, tmp_path):
    settings = QUICK | {"steps": 2000, "log_every": 1, "checkpoint_every": 1, "eval_every": 2000}
    training = live_training(("relu",), source=text, out=tmp_path / "runs", **settings)
    training.start()
    until(lambda: len(training.rows) > 2, 60)
    training.stop()
    training.wait(60)
    assert training.start_button.description == "Go on"
    assert "Go on takes up from there." in training.sentence.value
    before = training.rows
    training.start()
    until(lambda: len(training.rows) > 2, 60)
    training.stop()
    training.wait(60)
    assert training.rows[: len(before)] == before
    assert len(training.rows) > len(before)


def test_a_training_on_words_has_a_model_of_as_many_and_a_floor(text):
    training = live_training(("relu",), source="grammar", tokenizer="words", **QUICK)
    training.wait(60)
    assert training.runs["relu"].tokenizer.name == "words"
    assert training.runs["relu"].model_config.vocab_size == training.runs["relu"].tokenizer.vocab_size < 256
    assert training.floor[0] == "lowest possible loss"


def test_a_cell_run_again_stops_what_it_began(text):
    first = live_training(("relu",), source=text, **{**QUICK, "steps": 5000})
    first.start()
    until(lambda: first.rows, 60)
    second = live_training(("relu",), source=text, **QUICK)
    assert first.state == "stopped"
    assert second.state == "ready"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"activations": ("rleu",)}, "unknown activation 'rleu'; known: relu"),
        ({"preset": "huge"}, "unknown preset 'huge'; known: tiny"),
        ({"lerning_rate": 1}, "unknown setting lerning_rate; known: batch_size, tokenizer, .*learning_rate"),
        ({"learning_rate": -1.0}, "learning_rate is positive"),
    ],
)
def test_live_training_refuses_at_once_what_cannot_work(wish, message):
    with pytest.raises(ValueError, match=message):
        live_training(**wish)


# -- predictions ---------------------------------------------------------------------------------------------------

OPTIONS = {"relu": "It has no curvature.", "polynorm": "It multiplies its inputs.", "gelu": "A smooth bend."}


def test_a_choice_explains_the_wrong_and_the_right_option():
    asked = choose("Which ends lowest?", OPTIONS, right="polynorm")
    assert asked.value is None
    asked.value = "relu"
    assert asked.right is None
    said = asked.reveal().data
    assert "It has no curvature." in said
    assert "It multiplies its inputs." in said
    assert "A smooth bend." not in said
    assert asked.right is False
    assert asked.radio.disabled
    assert not asked.reveal_button.disabled  # it may have the focus, which would be lost
    asked.reveal_button.click()
    assert said == asked.explanation.value


def test_a_right_choice_is_said_to_be_right():
    asked = choose("Which ends lowest?", OPTIONS, right="polynorm")
    asked.radio.value = "polynorm"
    asked.reveal_button.click()
    assert asked.right is True
    assert "Right" in asked.explanation.value
    assert "no curvature" not in asked.explanation.value


def test_a_choice_not_made_is_said_not_to_be_made():
    asked = choose("Which ends lowest?", OPTIONS, right="polynorm")
    assert "No prediction was made. The answer: <b>polynorm</b>. It multiplies" in asked.reveal().data
    assert asked.right is None
    with pytest.raises(ValueError, match="'tanh' is not among the options: relu, polynorm, gelu"):
        choose("Which?", OPTIONS, right="tanh")


def test_a_guess_is_compared_as_a_difference_and_a_factor():
    guess = guess_number("How long?", "s", 0, 100)
    guess.value = 40
    assert "You said 40 s, measured: <b>25 s</b>. That is 15 too high, a factor of 1.6." in guess.compare(25).data
    assert guess.slider.disabled
    low = guess_number("How long?", "", 0, 100)
    low.slider.value = 10
    assert "That is 30 too low, a factor of 4." in low.compare(40).data
    zero = guess_number("How many?", "", 0, 100)
    zero.value = 10
    assert zero.compare(0).data.endswith("That is 10 too high.</p>")
    exact = guess_number("How many?", "", 0, 100)
    exact.value = 10
    assert "Exactly right." in exact.compare(10).data


def test_a_guess_at_the_middle_counts_and_none_is_said_to_be_none():
    guess = guess_number("How long?", "s", 0, 100)
    assert guess.value is None
    assert "No prediction was made. Measured: <b>25 s</b>" in guess.compare(25).data
    middle = guess_number("How long?", "s", 0, 100)
    middle.value = 50
    assert middle.value == 50


def test_a_guess_between_whole_numbers_is_a_whole_number():
    layers = guess_number("How many layers?", "layers", 1, 10)
    assert (layers.slider.value, layers.slider.step) == (5, 1)
    layers.slider.value = 7
    assert "You said 7 layers, measured: <b>6 layers</b>. That is 1 too high" in layers.compare(6).data
    many = guess_number("How many?", "", 1, 10_000)
    many.slider.value = 122.8
    assert many.value == 123
    assert many.slider.readout_format == ".0f"
    nats = guess_number("What loss?", "nats per byte", 0.0, 6.0)
    nats.value = 2.13
    assert nats.value == 2.13


def test_a_guess_says_whether_it_was_made():
    guess = guess_number("What loss?", "nats per byte", 0.0, 6.0)
    assert "No prediction yet" in guess.result.value
    guess.slider.value = 2.13
    assert "Your prediction: 2.13 nats per byte." in guess.result.value
    assert guess.slider.description == "I guess (nats per byte)"
    assert guess.slider.style.description_width == "initial"  # as wide as its words
    assert (guess.slider.step, guess.slider.readout_format) == (0.1, ".3g")
    said = guess.compare(2.5).data
    guess.slider.value = 2.1  # what the page makes of 2.13 can arrive after the comparison
    assert guess.result.value == said


def test_a_guess_over_decades_is_made_on_a_logarithmic_slider():
    guess = guess_number("How long?", "s", 1, 10_000)
    assert isinstance(guess.slider, ipywidgets.FloatLogSlider)
    guess.value = 1000
    assert "a factor of 10" in guess.compare(100).data
    with pytest.raises(ValueError, match="between a lower and a higher number; got low=3, high=3"):
        guess_number("How long?", "s", 3, 3)


def test_a_curve_is_chosen_before_the_truth_is_drawn():
    curves = {"stays": [1.0, 1.0, 1.0], "falls": [1.0, 0.5, 0.25]}
    asked = choose_curve("How does it go on?", curves, [0, 1, 2], right="falls", explanations={"stays": "It shrinks."})
    assert [t.name for t in asked.figure.data] == ["stays", "falls"]
    assert [t.opacity for t in asked.figure.data] == [None, None]
    assert "the truth" not in figures.alt(asked.figure)
    asked.value = "stays"
    said = asked.reveal([1.0, 0.52, 0.26]).data
    assert "Not <b>stays</b>. It shrinks." in said
    assert [(t.name, t.opacity) for t in asked.figure.data] == [("stays", 0.25), ("falls", None), ("measured", None)]
    assert list(asked.figure.data[2].y) == [1.0, 0.52, 0.26]
    assert "the truth is falls" in figures.alt(asked.figure)
    untouched = choose_curve("How does it go on?", curves, [0, 1, 2], right="falls")
    assert "No prediction was made" in untouched.reveal().data


def test_only_core_widgets_are_used():
    import inspect

    from minipolycom.viz.widgets import background, explorer, prediction, training

    used = "".join(inspect.getsource(module) for module in (pieces, explorer, background, training, prediction))
    for missing_or_different in (
        "Play(",
        "jslink",
        "jsdlink",
        "Accordion",
        "Stack(",
        "Tab(",
        "TagsInput",
        "ColorsInput",
    ):
        assert missing_or_different not in used
