"""The collapse explorer and the filter playground without a browser: what they train, keep, refuse and say."""

import itertools
import tempfile
import threading
import time

import numpy as np
import pytest
import torch

from minipolycom.spectral import effective_rank
from minipolycom.ssl import SSLConfig, ViewData, fit_ssl
from minipolycom.ssl.dynamics import INVARIANCE, filter_gains, flow, growth_rates
from minipolycom.ssl.filters import Filter
from minipolycom.viz.figures import alt
from minipolycom.viz.widgets import collapse_explorer, filter_playground, pieces

SMALL = dict(steps=6, batch_size=64)
LONG = dict(steps=600, batch_size=64)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def trained():
    one = collapse_explorer(**SMALL)
    one.wait(120)
    return one


def training_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "collapse explorer"]


def wait_for(condition, one, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, (one.state, one.error)
        assert one.state not in ("failed", "finished"), one.error
        time.sleep(0.02)


def test_a_method_is_drawn_to_its_end_and_nothing_is_left_behind(trained, tmp_path):
    assert (trained.state, trained.error) == ("finished", "")
    assert [row["step"] for row in trained.rows["ranks"]] == list(range(1, 7))
    assert "at step 6 online" in alt(trained.panels["ranks"].given)
    assert "step 6: the largest eigenvalue" in alt(trained.panels["spectra"].given)
    assert "300 images" in alt(trained.panels["embedding"].given)
    assert [trace.name for trace in trained.panels["embedding"].given.data] == [str(n) for n in range(10)]
    assert "of augmented test images, a linear probe of the backbone" in trained.reading.value
    assert not training_threads()
    assert not list(tmp_path.glob("collapse-*"))


def test_it_trains_what_fit_ssl_trains(trained):
    config = SSLConfig(method="simsiam", steps=6, measure_every=1, probe_every=6)
    run = fit_ssl(ViewData("digits", batch_size=64), config, progress=False)
    assert trained.rows == {"ranks": run.table("ranks"), "spectra": run.table("spectra")}


def test_started_again_the_ranks_of_the_run_before_stay(trained):
    first = trained.rows["ranks"]
    trained.method.value = "rdm_simsiam_target"
    trained.start()
    trained.wait(120)
    assert trained.state == "finished", trained.error
    assert trained.earlier == {"simsiam": first}
    shown = alt(trained.panels["ranks"].given)
    assert f"simsiam, target {first[-1]['erank_target']:.1f} at step 6" in shown
    trained.start()
    trained.wait(120)
    trained.seed.value = 3
    trained.start()
    trained.wait(120)
    name = "rdm_simsiam_target@power:target:-0.5"
    assert list(trained.earlier) == ["simsiam", name, f"{name}, run 2"]
    assert "seed 3" in trained.reading.value
    assert trained.earlier[name] == trained.earlier[f"{name}, run 2"] != trained.rows["ranks"]


def test_what_lies_in_the_picture_does_not_jump_between_two_checkpoints():
    one = collapse_explorer(**SMALL | {"steps": 15})
    seen, embed = [], one._embed

    def follow(run):
        embed(run)
        seen.append(one.points)

    one._embed, one.SECONDS_PER_REDRAW = follow, 0
    one.wait(120)
    assert one.state == "finished", one.error
    assert len(seen) >= 10
    for before, after in itertools.pairwise(seen):
        for axis in range(2):  # an eigenvector of the other sign would turn this product around
            assert float(before[:, axis] @ after[:, axis]) > 0
    assert all(float(points.norm(dim=1).max()) <= 1 + 1e-6 for points in seen)  # projections of rows of length one


def test_a_filter_of_the_wrong_sign_is_seen_to_collapse_and_one_of_the_right_sign_not_to():
    one = collapse_explorer(steps=40, batch_size=64, method="wrong_filter_target")
    one.wait(120)
    assert one.state == "finished", one.error
    assert one.setting == "wrong_filter_target@power:target:1"
    first, last = one.rows["ranks"][0], one.rows["ranks"][-1]
    assert last["collapse"] == "dimensional"
    assert "dimensional collapse: images differ, but in hardly any direction" in one.reading.value
    assert last["erank_target"] < 3 < 10 < first["erank_target"]
    one.sigma.value = -0.5  # the other sign, by hand
    one.start()
    one.wait(120)
    last = one.rows["ranks"][-1]
    assert last["rank_difference"] > 3
    assert last["erank_target"] > 10
    assert "no collapse" in one.reading.value


def test_a_stopped_training_ends_and_another_can_be_started(tmp_path):
    one = collapse_explorer(**LONG)
    one.start()
    wait_for(lambda: one.rows["ranks"], one)
    assert list(tmp_path.glob("collapse-*"))
    one.start()  # while one trains, nothing
    assert len(training_threads()) == 1
    one.stop()
    one.wait(60)
    assert one.state == "stopped"
    assert "this one stays in the picture" in one.sentence.value
    assert not training_threads()
    assert not list(tmp_path.glob("collapse-*"))
    one.method.value = "byol"
    one.start()
    wait_for(lambda: one.rows["ranks"], one)
    assert list(one.earlier) == ["simsiam"]
    one.stop()
    one.wait(60)


def test_interrupting_the_wait_stops_the_training(monkeypatch):
    one = collapse_explorer(**LONG)
    one.start()
    join = one.conductor.join
    calls = []

    def interrupted_once(timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(one.conductor, "join", interrupted_once)
    one.wait()
    assert "Stopped (interrupted)" in one.sentence.value
    assert not training_threads()


def test_a_second_explorer_stops_the_first(tmp_path):
    first = collapse_explorer(**LONG)
    first.start()
    wait_for(lambda: first.rows["ranks"], first)
    collapse_explorer(**SMALL)
    assert first.state == "stopped"
    assert "Stopped (another one was begun)" in first.sentence.value
    assert pieces.RESTING not in first.start_button._dom_classes
    assert not training_threads()
    assert not list(tmp_path.glob("collapse-*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"kind": "log", "sigma": 0.5},
            "Not started: a logarithm is negative for small singular values, so sigma is 0",
        ),
        ({"kind": "log", "sigma": -1}, "log1p takes any sigma"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_and_the_run_before_stays(trained, settings, said):
    shown = alt(trained.panels["ranks"].given)
    trained.method.value = "rdm_simsiam_online"
    for name, value in settings.items():
        getattr(trained, name).value = value
    trained.start()
    assert trained.state == "refused"
    assert said in trained.sentence.value
    assert not training_threads()
    assert alt(trained.panels["ranks"].given) == shown
    trained.sigma.value = 1
    trained.start()
    trained.wait(120)
    assert trained.state == "finished", trained.error


def test_what_happens_in_the_thread_is_said_in_the_widget(monkeypatch, tmp_path):
    one = collapse_explorer(**SMALL)
    monkeypatch.setattr(ViewData, "train_dataloader", lambda self: 1 / 0)
    one.wait(60)
    assert one.state == "failed"
    assert "Ended: ZeroDivisionError: division by zero" in one.sentence.value
    assert not list(tmp_path.glob("collapse-*"))


def test_only_what_a_method_has_is_offered():
    one = collapse_explorer(method="byol", **SMALL)
    assert (one.filter_controls.layout.display, one.final_norm.layout.display) == ("none", "none")
    one.method.value = "simsiam"
    assert (one.filter_controls.layout.display, one.final_norm.layout.display) == ("none", None)
    one.final_norm.value = False
    assert one.setting == "simsiam, last layer does not normalise"
    one.method.value = "wrong_filter_online"
    assert one.filter_controls.layout.display is None
    assert (one.kind.value, one.location.value, one.sigma.value) == ("power", "online", -0.5)
    one.method.value = "byol"
    assert one.setting == "byol"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"source": "nose"}, "unknown source 'nose'; known: digits, latents"),
        ({"method": "nose"}, "unknown method 'nose'; known: symsimsiam, simsiam"),
        ({"batch_size": 100_000}, "take a smaller batch_size"),
        ({"steps": 0}, "steps is at least 1; got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(wrong, said):
    with pytest.raises(ValueError, match=said):
        collapse_explorer(**wrong)


# -- the playground ------------------------------------------------------------------------------------------------


def set_all(play, **values) -> None:
    for name, value in values.items():
        getattr(play, name).value = value


@pytest.mark.parametrize(
    ("location", "sigma", "grows"),
    [("online", 1.0, True), ("target", -1.0, True), ("online", -0.5, False), ("target", 1.0, False)],
)
def test_the_sentence_says_what_the_dynamics_say(location, sigma, grows):
    play = filter_playground()
    set_all(play, location=location, sigma=sigma)
    spectrum = torch.arange(1, 17).double() ** -1.0
    rho = torch.tensor(INVARIANCE).double()
    gains = filter_gains(Filter("power", location, sigma))
    later = flow(spectrum, rho, gains, torch.tensor([5.0]))[-1]
    before, after = float(effective_rank(spectrum)), float(effective_rank(later))
    assert (after > before) == grows
    # the flow of the playground is coarser, and bounds gains earlier: less than what one decimal shows
    assert f"<b>{'rises' if grows else 'falls'}</b> from {before:.1f} to {after:.1f}" in play.reading.value
    rates = growth_rates(spectrum, rho, *gains(spectrum))
    growing = ", ".join(str(k + 1) for k in range(16) if rates[k] > 0)
    assert f"Growing modes: {growing} of 16." in alt(play.figure)


def test_a_filter_of_strength_0_is_none():
    play = filter_playground()
    set_all(play, sigma=0.0)
    assert "difference +0.0" in play.reading.value


def test_no_place_of_the_sliders_raises():
    play = filter_playground()
    ends = [(play.sigma, (-2, 2)), (play.decay, (0, 3)), (play.clean, (0.05, 0.95))]
    for kind, location in itertools.product(play.kind.options, play.location.options):
        set_all(play, kind=kind, location=location, time=30)
        for values in itertools.product(*(values for _, values in ends)):
            for (control, _), value in zip(ends, values, strict=True):
                control.value = value
            assert "Effective rank online" in play.reading.value
            assert "nan" not in play.reading.value
            assert "Growing modes" in alt(play.figure)


def test_a_flow_that_cannot_be_followed_is_said_and_the_rest_is_shown(monkeypatch):
    from minipolycom.ssl import dynamics

    def refuse(*_):
        raise ValueError("the flow could not be followed to time 5.0: too stiff")

    play = filter_playground()
    monkeypatch.setattr(dynamics, "flow", refuse)
    play.sigma.value = -1.5
    assert "could not be followed to time 5.0" in play.reading.value
    assert "later: not known" in alt(play.figure)
    assert np.isfinite([trace.y for trace in play.figure.data if trace.name == "growth rate"]).all()


def test_reset_puts_every_control_back():
    play = filter_playground()
    before = play.reading.value
    set_all(play, kind="log1p", location="target", sigma=-0.5, decay=2.0, clean=0.5, time=1.0)
    assert play.reading.value != before
    play.start_values()
    assert play.reading.value == before


@pytest.mark.timing
def test_a_slider_follows_the_hand():
    """A bound for a machine that does other things too; on a quiet one a change takes a third of it or less."""
    play = filter_playground()
    seconds = []
    for sigma in np.linspace(-0.9, 0.9, 10):
        started = time.perf_counter()
        play.sigma.value = float(sigma)
        seconds.append(time.perf_counter() - started)
    assert np.median(seconds) < 0.6, seconds
