"""What recording costs: the arithmetic on made-up times, and the real figure, below the 3 % that is promised."""

import pytest

from minipolycom.bench import recording, table
from minipolycom.bench.recording import PERIOD, bench_recording


def test_a_recording_is_what_the_steps_around_it_take_longer(monkeypatch):
    now = [0.0]

    def made_up_fit(data, model, train, out, on_row, progress):
        assert train.record_every == PERIOD
        assert train.eval_every > train.steps < train.checkpoint_every
        for step in range(1, train.steps + 1):
            now[0] += 0.100 + (0.002 if step % PERIOD == 0 else 0)  # a step; a due one measures its gradient
            on_row({"step": step, "split": "train"})
            now[0] += 0.028 if step % PERIOD == 0 else 0  # the recording, after the row
        on_row({"step": train.steps, "split": "val"})

    monkeypatch.setattr(recording, "fit", made_up_fit)
    monkeypatch.setattr(recording.time, "thread_time", lambda: now[0])
    (row,) = bench_recording(presets=["tiny"], device="cpu", rounds=3, every=10)
    assert row["ms_step"] == pytest.approx(100)
    assert row["ms_added"] == pytest.approx(30)
    assert (row["ratio_low"], row["ratio"], row["ratio_high"]) == pytest.approx((1.03, 1.03, 1.03))
    assert "polynorm, recorded every 10 steps" in table([row])


@pytest.mark.timing
def test_recording_takes_less_than_three_percent():
    rows = bench_recording(presets=["tiny"], device="cpu", rounds=4)
    (row,) = rows
    # The time of this thread, so that a busy machine matters little: 1.013 on two cores with eight programs waiting.
    assert 1 < row["ratio"] < 1.03
    assert (row["device"], row["threads"], row["shape"]) == ("cpu", 1, "tiny")
    assert "added ms" in table(rows)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"presets": ["huge"]}, "unknown preset 'huge'; known: tiny, nano"),
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"rounds": 1}, "a spread needs at least two rounds; got 1"),
        ({"every": 0}, "every is a number of steps, at least 1; got 0"),
    ],
)
def test_settings_are_refused_before_anything_runs(setting, message):
    with pytest.raises(ValueError, match=message):
        bench_recording(**setting)
