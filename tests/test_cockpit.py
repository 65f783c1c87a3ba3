"""The cockpit, the rank lens and the router view without a browser: what they do to runs, and what they refuse."""

import threading
import time

import pytest

from minipolycom import GPTConfig, TokenData, TrainConfig, fit
from minipolycom.runs import Run
from minipolycom.viz.figures import alt
from minipolycom.viz.widgets import Cockpit, cockpit, pieces, rank_lens, router_view

SMALL = dict(steps=8, batch_size=2, log_every=1, eval_every=4, record_every=2, checkpoint_every=4, eval_batches=1)


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("The quick brown fox jumps over the lazy dog.\n" * 500)
    return f"files:{file}"


@pytest.fixture
def flown(text, tmp_path) -> Cockpit:
    one = cockpit(source=text, out=tmp_path / "runs", **SMALL)
    one.wait(120)
    return one


def measured(run: Run, table: str = "losses") -> list[dict]:
    """The rows of a table without names and clocks."""
    return [{k: v for k, v in row.items() if k not in ("run", "seconds")} for row in run.table(table)]


def training_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cockpit ")]


def test_a_run_is_drawn_to_its_end(flown):
    assert (flown.state, flown.error, flown.step) == ("finished", "", 8)
    assert list(flown.runs) == ["polynorm"]
    assert "polynorm: validation loss" in alt(flown.panels["losses"].given)
    assert "layer 1" in alt(flown.panels["rank"].given)
    assert "step 8" in alt(flown.panels["coefficients"].given)
    assert not training_threads()


def test_every_panel_follows_the_slider(flown):
    flown.scrub(5)
    assert flown.step == 5
    assert "step 5" in flown.reading.value
    for panel in ("spectrum", "coefficients", "shape"):
        assert "step 4" in alt(flown.panels[panel].given), panel  # the last recording up to step 5
    flown.follow()
    assert flown.step == 8


def test_a_branch_without_a_change_repeats_the_run_to_the_last_bit(flown):
    flown.scrub(5)  # no checkpoint is there: it is trained again from step 4
    flown.branch()
    flown.wait(120)
    assert flown.state == "finished", flown.error
    original, again = flown.runs["polynorm"], flown.runs["polynorm again from 5"]
    for table in ("losses", "spectra", "coefficients", "norms", "similarity"):
        assert measured(again, table) == measured(original, table), table
    theirs = original.model().state_dict()
    assert all(weight.equal(theirs[name]) for name, weight in again.model().state_dict().items())


def test_a_branch_with_another_activation_is_a_run_of_its_own_and_keeps_both_curves(flown):
    before = measured(flown.runs["polynorm"])
    flown.scrub(4)
    flown.activation.value, flown.rate.value = "relu", 0.5
    flown.branch()
    flown.wait(120)
    assert flown.state == "finished", flown.error
    name = flown.focus
    assert name == "relu rate 0.002 from 4"
    run = flown.runs[name]
    assert run.model_config.activation == "relu"
    assert run.train_config.learning_rate == pytest.approx(flown.runs["polynorm"].train_config.learning_rate / 2)
    assert measured(flown.runs["polynorm"]) == before
    shown = alt(flown.panels["losses"].given)
    assert "polynorm" in shown
    assert name in shown or "relu" in shown
    assert "relu has no coefficients" in alt(flown.panels["shape"].given)


def test_a_stopped_run_goes_on_also_in_another_cockpit(text, tmp_path, flown):
    one = cockpit(source=text, out=tmp_path / "other", **(SMALL | {"steps": 60, "checkpoint_every": 20}))
    one.start()
    wait_for(lambda: one.state == "training" and one.runs, one)
    one.stop()
    one.wait(60)
    assert one.state == "stopped"
    reached = one.runs["polynorm"].step
    assert 0 < reached < 60
    other = cockpit(source=text, out=tmp_path / "other", **(SMALL | {"steps": 60, "checkpoint_every": 20}))
    assert other.runs["polynorm"].step == reached  # shown before anything is trained
    assert other.start_button.description == "Go on"
    other.wait(120)
    assert other.state == "finished"
    assert [row["step"] for row in other.runs["polynorm"].rows if row["split"] == "train"] == list(range(1, 61))


def test_a_second_cockpit_stops_the_first_with_a_checkpoint(text, tmp_path):
    settings = SMALL | {"steps": 500}
    first = cockpit(source=text, out=tmp_path / "first", **settings)
    first.start()
    wait_for(lambda: first.state == "training", first)
    cockpit(source=text, out=tmp_path / "second", **settings)
    assert not training_threads()
    assert "Stopped (another one was begun), with a checkpoint" in first.sentence.value
    assert pieces.RESTING not in first.start_button._dom_classes
    held = Run.load(tmp_path / "first" / "polynorm")
    assert held.status == "stopped"
    assert held.saved_step == held.step > 0


def test_paused_it_waits_and_resumed_it_goes_on(text, tmp_path):
    one = cockpit(source=text, out=tmp_path / "runs", **(SMALL | {"steps": 80}))
    one.start()
    wait_for(lambda: one.state == "training", one)
    one.pause()
    assert one.state == "paused"
    time.sleep(1.0)  # a step that was under way ends
    held = Run.load(tmp_path / "runs" / "polynorm").rows
    time.sleep(0.5)
    assert Run.load(tmp_path / "runs" / "polynorm").rows == held
    one.wait(120)
    assert one.state == "finished"


def test_a_run_of_other_settings_is_refused_in_the_widget(text, tmp_path, flown):
    other = cockpit(source=text, out=tmp_path / "runs", **(SMALL | {"learning_rate": 1e-3}))
    other.focus_choice.value = "polynorm"
    assert other.runs["polynorm"].finished  # shown, and nothing to go on with
    longer = cockpit(source=text, out=tmp_path / "runs", activation="relu", **(SMALL | {"steps": 9}))
    longer.focus_choice.options = ["polynorm", "relu"]
    longer.focus_choice.value = "relu"
    longer.start()
    longer.wait(120)
    assert longer.state == "finished"


def test_there_is_nothing_to_branch_from_before_the_start(text, tmp_path):
    one = cockpit(source=text, out=tmp_path / "runs", **SMALL)
    one.branch()
    assert "nothing to branch from" in one.sentence.value
    assert not training_threads()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"activation": "nose"}, "unknown activation 'nose'"),
        ({"preset": "nose"}, "unknown preset 'nose'"),
        ({"nose": 1}, "unknown setting nose; known: batch_size, tokenizer"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(text, wrong, said):
    with pytest.raises(ValueError, match=said):
        cockpit(source=text, **wrong)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    file = tmp_path_factory.mktemp("pair") / "text.txt"
    file.write_text("The quick brown fox jumps over the lazy dog.\n" * 500)
    data = TokenData(f"files:{file}", context=32, batch_size=4)
    training = TrainConfig(steps=8, eval_every=2, record_every=4, checkpoint_every=8)
    models = [GPTConfig(context=32, d_model=32, activation=a, n_experts=n) for a, n in (("relu", 0), ("polynorm", 4))]
    return [fit(data, model, training, progress=False) for model in models]


def test_the_rank_lens_compares_at_equal_step_and_at_equal_loss(pair):
    lens = rank_lens(*pair)
    assert lens.steps == {"relu": 8, "polynorm": 8}
    assert [name for _, name in lens.tensor.options] == ["up", "down", "preactivation", "hidden"]  # none has a gate
    lens.equal.value = "loss"
    lens.place.index = 0
    for run in pair:
        step = lens.steps[run.name]
        losses = {row["step"]: row["loss"] for row in run.rows if row["split"] == "val"}
        assert losses[step] <= lens.place.value
        assert all(loss > lens.place.value for earlier, loss in losses.items() if earlier < step)
    assert "relu, step" in alt(lens.panels["profile"].given)


def test_the_rank_lens_needs_two_recorded_runs_of_two_names(pair):
    with pytest.raises(ValueError, match="both runs are named 'relu'"):
        rank_lens(pair[0], pair[0])


def test_the_router_view_reads_the_text_it_is_given(pair):
    view = router_view(pair[1], "the fox")
    assert len(view.chosen) == 7
    assert all(len(set(experts)) == 2 for experts in view.chosen)
    before = view.chosen
    view.layer.value = 1
    assert "layer 1" in view.reading.value
    view.layer.value = 0
    assert view.chosen == before
    view.text.value = "<b>"
    assert "&lt;" in view.shown.value
    assert "<b>" not in view.shown.value


def test_a_dense_run_has_no_routers_to_view(pair):
    with pytest.raises(ValueError, match="run 'relu' has no experts: train one with a preset such as tiny-moe"):
        router_view(pair[0])


def wait_for(condition, one: Cockpit, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, (one.state, one.error)
        assert one.state not in ("failed", "finished"), one.error
        time.sleep(0.02)
