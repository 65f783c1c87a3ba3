"""Training without labels: settings, rows, stopping, going on bit for bit, collapse and what prevents it, speed."""

import itertools
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from minipolycom.control import Control
from minipolycom.ssl.compare import compare, over_seeds, run_folder, table
from minipolycom.ssl.encoders import NetworkConfig
from minipolycom.ssl.filters import Filter
from minipolycom.ssl.images import ViewData
from minipolycom.ssl.measures import COLLAPSES, DIMENSIONAL_RANK, collapse_seen, feature_std, filter_curve, rank_row
from minipolycom.ssl.methods import METHODS, Outputs
from minipolycom.ssl.runs import TABLES, SSLRun
from minipolycom.ssl.train import SSLConfig, fit_ssl, parse_filter

SMALL = NetworkConfig(width=4, projector_width=32, projection=16, predictor_width=8)
QUICK = {
    "steps": 12, "warmup_steps": 2, "log_every": 3, "measure_every": 4, "probe_every": 6, "checkpoint_every": 5,
    "accelerator": "cpu", "precision": "32-true",
}  # fmt: skip


def data(source: str = "latents", **more) -> ViewData:
    return ViewData(source, **{"batch_size": 32, **more})


def train(method: str = "simsiam", out: Path | None = None, source: str = "latents", **more) -> SSLRun:
    options = {key: more.pop(key) for key in ("control", "on_row") if key in more}
    config = SSLConfig(method=method, **QUICK | more)
    return fit_ssl(data(source, seed=config.seed), config, SMALL, out=out, progress=False, **options)


def without_time(run: SSLRun) -> dict[str, list[dict]]:
    return {
        name: [{key: value for key, value in row.items() if key != "seconds"} for row in run.table(name)]
        for name in TABLES
    }


def same_weights(one: SSLRun, two: SSLRun) -> bool:
    first, second = one.method().state_dict(), two.method().state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "simsam"}, "unknown method 'simsam'; known: symsimsiam, simsiam"),
        ({"method": "simsiam@power:online:1"}, "simsiam has no filter to replace; these do: rdm_simsiam_online"),
        (
            {"method": "rdm_simsiam_online@power"},
            "a filter is KIND:LOCATION:SIGMA, as in power:target:-0.5; got 'power'",
        ),
        ({"method": "rdm_simsiam_online@cube:online:1"}, "unknown kind of filter 'cube'"),
        ({"method": "byol", "final_norm": False}, "the projector of byol ends without normalisation"),
        ({"steps": 0}, "steps is at least 1; got 0"),
        ({"learning_rate": 0.0}, "learning_rate is positive; got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is a finite number"),
        ({"momentum": 1.0}, r"momentum lies in \[0, 1\); got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is not negative"),
        ({"min_learning_rate_ratio": 2.0}, "min_learning_rate_ratio lies in"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"accelerator": "tpu"}, "unknown accelerator 'tpu'"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        SSLConfig(**fields)


def test_a_filter_can_be_named_with_the_method():
    method = SSLConfig(method="rdm_byol_target@power:target:-0.7").make(SMALL)
    assert method.filter == Filter("power", "target", -0.7) == parse_filter("power:target:-0.7")
    assert SSLConfig(method="rdm_byol_target").make(SMALL).filter == Filter("power", "target", -0.5)


def test_initial_weights_follow_from_the_seed_and_touch_no_random_state():
    before = torch.get_rng_state()
    one, same, other = (SSLConfig(seed=seed).make(SMALL).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["encoder.layers.0.weight"], other["encoder.layers.0.weight"])


def test_a_batch_larger_than_the_images_is_refused():
    with pytest.raises(ValueError, match=r"1,437 training and 360 test images, and a batch needs 2000"):
        fit_ssl(data("digits", batch_size=2000), SSLConfig(**QUICK), progress=False)


def test_local_views_go_to_methods_that_take_them(tmp_path):
    from PIL import Image

    for i in range(20):
        Image.effect_noise((32, 32), 60 + i).save(tmp_path / f"{i}.png")
    crops = ViewData(f"files:{tmp_path}", batch_size=8, size=16, local_views=2)
    config = SSLConfig(method="swav", **QUICK)
    assert fit_ssl(crops, config, SMALL, progress=False).finished
    with pytest.raises(ValueError, match="SwAV and DINO take more"):
        fit_ssl(crops, SSLConfig(method="simsiam", **QUICK), SMALL, progress=False)


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_its_rows_say_so(method):
    run = train(method)
    assert run.finished
    assert [row["step"] for row in run.table("losses")] == [3, 6, 9, 12]
    assert [row["step"] for row in run.table("ranks")] == [4, 8, 12] == [row["step"] for row in run.table("spectra")]
    assert {row["step"] for row in run.table("probes")} == {6, 12}
    assert len(run.table("probes")) == 2 * 4  # backbone and projector, clean and augmented
    assert len(run.table("factors")) == 2 * 4 * 16
    for row in run.table("ranks"):
        assert row["rank_difference"] == pytest.approx(row["erank_target"] - row["erank_online"])
        assert 1 <= row["erank_projected"] <= 16
    widths = {len(row["online"]) for row in run.table("spectra")}
    assert widths == {16 if method not in ("swav", "dino") else 64}
    summary = run.summary()
    assert summary["method"] == method
    assert {"seed", "erank_online", "erank_target", "knn_augmented", "probe", "seconds"} <= summary.keys()


def test_rows_arrive_as_they_are_measured():
    seen = []
    run = train(on_row=lambda name, row: seen.append((name, row)))
    assert [row for name, row in seen if name == "ranks"] == run.table("ranks")
    assert {name for name, _ in seen} == set(TABLES)
    with pytest.raises(ValueError, match="unknown table 'rank'; known: losses, ranks"):
        run.table("rank")


def test_a_momentum_network_follows_after_every_step():
    method = train("byol").method()
    start = SSLConfig(method="byol").make(SMALL)
    own, following, first = (
        net.state_dict()["layers.0.weight"] for net in (method.encoder, method.momentum_encoder, start.encoder)
    )
    assert not torch.equal(following, first)
    assert (following - first).norm() < (own - first).norm()


# -- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "source"), [("byol", "digits"), ("dino", "latents"), ("rdm_simsiam_target", "digits")]
)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, method, source):
    """Bit for bit: weights, momentum network, centre, batches and views all follow from the seed and the step."""
    whole = train(method, source=source)
    control = Control()

    def stop_at_seven(name, row):
        if row["step"] == 6:
            control.stop()

    parts = train(method, tmp_path / "run", source, control=control, on_row=stop_at_seven)
    assert (parts.status, parts.step) == ("stopped", 6)
    gone_on = train(method, tmp_path / "run", source)
    assert gone_on.finished
    assert without_time(gone_on) == without_time(whole)
    assert same_weights(gone_on, whole)
    again = train(method, tmp_path / "run", source)  # returns at once
    assert without_time(again) == without_time(whole)
    assert without_time(SSLRun.load(tmp_path / "run")) == without_time(whole)


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    code = f"""if True:
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_ssl_train import train
        def kill(name, row):
            if row["step"] == 8:
                os.kill(os.getpid(), signal.SIGKILL)
        train("simsiam", {str(tmp_path / "run")!r}, on_row=kill)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [row["step"] for row in SSLRun.load(tmp_path / "run").table("losses")] == [3, 6]
    gone_on, whole = train(out=tmp_path / "run"), train()
    assert without_time(gone_on) == without_time(whole)
    assert same_weights(gone_on, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_training_with_a_checkpoint(tmp_path, number):
    def interrupt(name, row):
        if (name, row["step"]) == ("ranks", 4):
            os.kill(os.getpid(), number)

    run = train(out=tmp_path / "run", on_row=interrupt)
    assert (run.status, run.step, run.saved_step) == ("stopped", 4, 4)
    assert train(out=tmp_path / "run").finished


def test_a_training_can_be_paused_and_resumed_from_another_thread():
    control = Control()
    control.pause()
    runs = []
    thread = threading.Thread(target=lambda: runs.append(train(control=control)))
    thread.start()
    time.sleep(1.5)
    assert not runs
    assert thread.is_alive()
    control.resume()
    thread.join(timeout=60)
    assert runs[0].finished
    assert without_time(runs[0]) == without_time(train())


def test_a_folder_with_another_run_is_refused(tmp_path):
    train(out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another run \(train\.learning_rate: 0\.05 there, 0\.1 here\)"):
        train(out=tmp_path / "run", learning_rate=0.1)
    with pytest.raises(ValueError, match="name: 'simsiam' there, 'byol' here"):
        train("byol", tmp_path / "run")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        SSLRun.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run of another kind"):
        SSLRun.load(tmp_path)


def test_weights_that_blow_up_end_the_training_by_name():
    with pytest.warns(UserWarning, match="training stopped because it diverged"):
        run = train("simclr", learning_rate=1e30, warmup_steps=0)
    assert run.status == "diverged"
    assert "lower the learning rate" in run.message


def test_bf16_trains_without_numbers_that_are_not():
    run = train("rdm_simsiam_online", precision="bf16-mixed")
    assert run.finished
    assert all(math.isfinite(row["loss"]) for row in run.table("losses"))


# -- measures --------------------------------------------------------------------------------------------------------


def outputs(online, target=None, projected=None):
    target = online if target is None else target
    return Outputs(torch.tensor(0.0), online, target, online if projected is None else projected, online)


def test_ranks_of_outputs_of_known_spectrum():
    """Rows that are the axes, each as often as its eigenvalue says: the correlation matrix is diagonal."""
    eye = torch.eye(8)
    flat = eye.repeat(4, 1)
    steep = eye.repeat_interleave(torch.tensor([16, 8, 4, 2, 1, 1, 0, 0]), dim=0)
    row = rank_row(outputs(steep, flat))
    shares = torch.tensor([16, 8, 4, 2, 1, 1]) / 32
    assert row["erank_target"] == pytest.approx(8)
    assert row["erank_online"] == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))
    assert row["rank_difference"] == row["erank_target"] - row["erank_online"]
    assert row["alignment"] == pytest.approx(0.75)  # of eight axes, two have no energy online
    gain = filter_curve(torch.cat([steep, eye]), torch.cat([steep, eye * 1.0]))
    assert gain == pytest.approx(torch.ones(8), abs=1e-6)


def test_the_filter_curve_finds_the_filter():
    generator = torch.Generator().manual_seed(0)
    # Rows of length one before and after would change the curve: with as many sines as cosines lengths stay equal.
    angle = torch.rand(4000, 4, generator=generator, dtype=torch.float64) * 2 * math.pi
    z = torch.cat([angle.cos(), angle.sin()], dim=1) * torch.tensor([4.0, 3, 2, 1] * 2)
    online = Filter("power", "online", 1.0)(z)
    gain = filter_curve(online, z)
    expected = torch.tensor([4.0, 4, 3, 3, 2, 2, 1, 1]) / 4
    assert gain == pytest.approx(expected.double(), rel=0.02)  # 4000 draws: the axes' energies are known to about 1 %


def test_feature_std_is_one_for_spread_and_zero_for_constant_outputs():
    spread = torch.randn(4096, 32, generator=torch.Generator().manual_seed(0))
    assert float(feature_std(spread)) == pytest.approx(1, abs=0.01)  # one over sqrt(4096 * 32) is 0.3 %
    assert float(feature_std(torch.ones(16, 32))) == pytest.approx(0, abs=1e-6)
    assert float(feature_std(torch.zeros(16, 32))) == 0


def test_the_monitor_tells_the_two_collapses():
    assert collapse_seen(0.05, 1.0) == "complete"
    assert collapse_seen(0.95, 1.5) == "dimensional"
    assert collapse_seen(0.95, 12.0) == ""
    constant = rank_row(outputs(torch.ones(32, 8)))
    assert constant["collapse"] == "complete"
    line = torch.linspace(-1, 1, 32)[:, None] * torch.ones(8)
    assert rank_row(outputs(line))["collapse"] == "dimensional"
    assert rank_row(outputs(torch.zeros(32, 8)))["collapse"] == "complete"  # and no NaN in any row
    assert all(math.isfinite(v) for v in rank_row(outputs(torch.zeros(32, 8))).values() if not isinstance(v, str))


# -- collapse, and what prevents it ----------------------------------------------------------------------------------

SHORT = {
    "steps": 80, "warmup_steps": 8, "learning_rate": 0.1, "probe_every": 80, "log_every": 40, "checkpoint_every": 80,
    "accelerator": "cpu", "precision": "32-true",
}  # fmt: skip
KEPT = ("rdm_simsiam_online", "rdm_simsiam_target")
LOST = ("no_stop_gradient", "wrong_filter_online", "wrong_filter_target")


def short(method: str, seed: int, **more) -> SSLRun:
    config = SSLConfig(method=method, seed=seed, **SHORT | more)
    network = NetworkConfig(width=4, projector_width=64, projection=32)
    return fit_ssl(ViewData("digits", batch_size=64, seed=seed), config, network, progress=False)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_filters_and_no_stop_gradient_collapse_right_filters_do_not(seed):
    """With room between them: of 32 dimensions the right filters use twice what counts as collapsed, or more."""
    runs = {name: short(name, seed) for name in KEPT + LOST}
    ranks = {name: run.summary()["erank_projected"] for name, run in runs.items()}
    assert all(ranks[name] > 2 * DIMENSIONAL_RANK for name in KEPT), ranks
    assert all(ranks[name] < DIMENSIONAL_RANK for name in LOST), ranks
    for name in KEPT:
        assert runs[name].message == "", name
        assert all(row["rank_difference"] > 0 for row in runs[name].table("ranks")), name
    for name in LOST:
        assert runs[name].message.startswith(COLLAPSES["dimensional"]), name


def test_without_the_final_normalisation_a_collapse_is_complete():
    run = short("no_asymmetry", 0, final_norm=False)
    assert run.table("ranks")[-1]["collapse"] == "complete", run.table("ranks")[-1]
    assert run.message.startswith("complete collapse")


def test_a_training_stops_at_a_collapse_if_asked():
    run = short("no_asymmetry", 0, final_norm=False, steps=200, stop_on_collapse=True, measure_every=5)
    assert run.finished
    assert run.step < 200
    assert run.message.startswith("complete collapse: every image is sent to almost the same point (feature std 0.")
    assert [row["collapse"] != "" for row in run.table("ranks")][-5:] == [True] * 5


# -- comparisons -----------------------------------------------------------------------------------------------------


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    quick = QUICK | {"steps": 4, "probe_every": 4}
    control = Control()
    first = compare(
        ["simsiam", "byol"], "latents", [0, 1], out=tmp_path, batch_size=32, control=control, progress=False,
        on_run=lambda run: control.stop(), **quick,
    )  # fmt: skip
    assert [(row["method"], row["seed"]) for row in first] == [("simsiam", 0)]
    trained = []
    rows = compare(
        ["simsiam", "byol"], "latents", [0, 1], out=tmp_path, batch_size=32, progress=False,
        on_run=lambda run: trained.append(run.name), **quick,
    )  # fmt: skip
    assert [(row["method"], row["seed"]) for row in rows] == [("simsiam", 0), ("byol", 0), ("simsiam", 1), ("byol", 1)]
    assert rows[0] == first[0]  # to the second: it was read, not trained again
    frame = over_seeds(rows)
    assert list(frame["seeds"]) == [2, 2]
    lines = table(rows).splitlines()
    assert lines[0].split() == [
        "source", "method", "seeds", "collapsed", "erank_online", "erank_target", "rank_difference",
        "knn_augmented", "probe", "r2", "seconds",
    ]  # fmt: skip
    assert lines[1].startswith("latents  simsiam  2")


def test_folders_of_a_comparison_have_names_that_every_file_system_takes():
    config = SSLConfig(method="rdm_simsiam_target@power:target:-0.7", seed=3)
    assert run_folder("latents:0.9,0.5,0", config) == "latents_0.9_0.5_0-rdm_simsiam_target_power_target_-0.7-seed3"


def test_a_comparison_checks_its_settings_before_the_first_training(tmp_path):
    with pytest.raises(ValueError, match="unknown method 'simsam'"):
        compare(["simsiam", "simsam"], out=tmp_path)
    assert not list(tmp_path.iterdir())


# -- speed -----------------------------------------------------------------------------------------------------------


@pytest.mark.timing
def test_a_filter_costs_at_most_half_a_step_of_simsiam():
    """The networks of the course, 256 digits. Medians of steps in turn, so that what else runs slows both alike."""
    batch = ViewData("digits").batch(0)
    methods = {
        name: SSLConfig(method=name).make(NetworkConfig())
        for name in ("simsiam", "rdm_simsiam_online", "rdm_simsiam_target")
    }
    seconds = {name: [] for name in methods}
    for _, (name, method) in itertools.product(range(15), methods.items()):
        start = time.perf_counter()
        method(batch.views).loss.backward()
        seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    assert medians["rdm_simsiam_online"] < 1.5 * medians["simsiam"], medians
    assert medians["rdm_simsiam_target"] < 1.5 * medians["simsiam"], medians
