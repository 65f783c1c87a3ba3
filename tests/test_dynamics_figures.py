"""Figures of trainings compared: they draw the numbers they are given, say them, and keep them in a table."""

import pytest
from figure_laws import says_its_numbers, trace

from minipolycom.studies.published import published, read_curves
from minipolycom.studies.records import recorded
from minipolycom.studies.statistics import Interval, Reached
from minipolycom.viz import dynamics
from minipolycom.viz.figures import alt, table
from minipolycom.viz.theme import STYLE

RUNS = {
    "swiglu": {0: {0: 5.0, 50: 3.0, 100: 2.0}, 1: {0: 5.5, 50: 3.5, 100: 2.5}},
    "gelu": {0: {0: 5.0, 50: 3.25, 100: 2.5}, 1: {0: 5.5, 50: 3.5, 100: 2.75}},
}
ONE_EACH = {"swiglu": {0: {1.0: 2.5, 2.0: 2.25}}, "relu": {0: {1.0: 2.75, 2.0: 2.5, 3.0: 2.25}}}
BOTH = {"ours": RUNS, "theirs": ONE_EACH}
SWEEPS = {"a text": {"gelu": {1e-3: 2.0, 4e-3: 1.5, 8e-3: None}, "relu": {1e-3: 1.75, 4e-3: 1.625, 8e-3: 1.5}}}
LINES = {
    kind: {
        "gelu": Interval(0.5, 0.5 - half, 0.5 + half, 0.95, 3, "Student"),
        "relu": Interval(0.0, -1.0, 1.0, 0.95, 3, "Student"),
    }
    for kind, half in {"pairs": 0.25, "none": 1.0}.items()
}
REACHED = {"steps": {"gelu": [Reached(50), Reached(100, censored=True)], "relu": [Reached(100), Reached(150)]}}

FIGURES = {
    "losses": lambda: dynamics.losses(RUNS, "steps", "Losses"),
    "differences": lambda: dynamics.differences(BOTH, "swiglu", ["steps", "tokens"], "Differences"),
    "rates": lambda: dynamics.rates({**SWEEPS, "another": SWEEPS["a text"]}, "Rates"),
    "intervals": lambda: dynamics.intervals(LINES, "difference", "Intervals"),
    "times": lambda: dynamics.times({**REACHED, "seconds": REACHED["steps"]}, "Times"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_its_numbers_has_a_table_and_a_static_twin(name: str) -> None:
    says_its_numbers(FIGURES[name]())


def test_losses_are_means_over_seeds_within_their_range() -> None:
    figure = FIGURES["losses"]()
    assert list(trace(figure, "gelu").y) == [5.25, 3.375, 2.625]
    assert list(trace(figure, "gelu, lowest").y) == [5.0, 3.25, 2.5]
    assert list(trace(figure, "gelu, highest").y) == [5.5, 3.5, 2.75]
    assert trace(figure, "gelu, highest").fill == "tonexty"
    assert [one.name for one in figure.data if one.showlegend is not False] == ["swiglu", "gelu"]
    assert "gelu from 5.250 to 2.625" in alt(figure)


def test_a_difference_is_taken_within_a_seed_and_one_run_has_no_band() -> None:
    figure = FIGURES["differences"]()
    assert list(trace(figure, "gelu").y) == [0.0, 0.125, 0.375]
    assert list(trace(figure, "gelu, highest").y) == [0.0, 0.25, 0.5]  # not 2.75 - 2.0
    assert list(trace(figure, "swiglu").y) == [0.0, 0.0, 0.0]
    assert list(trace(figure, "relu", "x2").y) == [0.25, 0.25]  # at 3.0 the baseline was not measured
    assert not [one for one in figure.data if one.xaxis == "x2" and "lowest" in one.name]
    assert figure.layout.yaxis2.matches == "y"
    assert (figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text) == ("steps", "tokens")


def test_a_panel_without_the_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="'ours' has no runs of 'relu' to compare with; it has swiglu, gelu"):
        dynamics.differences({"ours": RUNS}, "relu", ["steps"], "Losses")


def test_minus_keeps_what_both_have() -> None:
    assert dynamics.minus({0: {1: 3.0, 2: 2.0}, 7: {1: 1.0}}, {0: {1: 2.5}, 1: {1: 0.0}}) == {0: {1: 0.5}}


def test_rates_ring_the_lowest_loss_and_leave_out_what_diverged() -> None:
    figure = FIGURES["rates"]()
    assert list(trace(figure, "gelu").x) == [1e-3, 4e-3]
    ring = trace(figure, "gelu, lowest", "x2")
    assert (list(ring.x), list(ring.y)) == ([4e-3], [1.5])
    assert list(figure.layout.xaxis.ticktext) == ["0.001", "0.004", "0.008"]
    assert trace(figure, "relu").line.color == STYLE["relu"][0]
    assert "a text: lowest gelu 1.500 at 0.004, relu 1.500 at 0.008" in alt(figure)


def test_an_interval_that_holds_zero_has_another_mark() -> None:
    figure = FIGURES["intervals"]()
    clear, unclear = trace(figure, "gelu, pairs"), trace(figure, "gelu, none", "x2")
    assert (clear.marker.symbol, unclear.marker.symbol) == ("circle", "diamond")
    assert (clear.error_x.array, clear.error_x.arrayminus) == ((0.25,), (0.25,))
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range
    assert table(figure).loc["gelu", ["panel", "lowest", "highest"]].to_numpy().tolist() == [
        ["pairs", 0.25, 0.75],
        ["none", -0.5, 1.5],
    ]


def test_a_run_that_never_arrives_is_a_triangle_at_its_last_step() -> None:
    figure = FIGURES["times"]()
    never, reached = trace(figure, "gelu, never"), trace(figure, "gelu, reached")
    assert (list(never.x), never.marker.symbol) == ([100], "triangle-up")
    assert (list(reached.x), reached.marker.symbol) == ([50], "circle")
    assert table(figure)["runs"].tolist() == ["50, > 100", "100, 150"] * 2
    assert "gelu: 50, > 100 steps" in alt(figure)


def test_the_runs_of_a_record_are_those_that_are_compared() -> None:
    record = recorded("dense")
    runs = dynamics.runs_of(record, "grammar")
    assert set(runs) == {row["arm"] for row in record.table("end")}
    assert set(runs["polynorm"]) == set(record.seeds)
    last = record.settings["train"]["steps"]
    assert all(max(curve) == last for seeds in runs.values() for curve in seeds.values())
    assert dynamics.runs_of(record, "a text that it has not") == {}


def test_the_published_curves_are_the_ones_of_the_paper() -> None:
    curves = published("polycom-dense-training-loss")
    assert list(curves) == ["swiglu", "gelu", "relu", "polyrelu", "polynorm"]
    last = {name: min((abs(place - 250), loss) for place, loss in curve.items())[1] for name, curve in curves.items()}
    # The smoothed curves as read off at 250 billion tokens, to what they jitter by from one point to the next.
    assert last == pytest.approx(
        {"swiglu": 2.1902, "gelu": 2.2085, "relu": 2.2156, "polyrelu": 2.1779, "polynorm": 2.1712}, abs=2e-3
    )


def test_curves_are_read_without_their_notes(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("# where from\nactivation,billions,loss\nrelu,1,2.5\nrelu,2,2.25\ngelu,1,2.0\n")
    assert read_curves(tmp_path / "a.csv") == {"relu": {1.0: 2.5, 2.0: 2.25}, "gelu": {1.0: 2.0}}


def test_curves_that_do_not_come_with_the_course_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no curves nothing\.csv in .*papers"):
        published("nothing")
