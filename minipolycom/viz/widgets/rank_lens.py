"""Two runs side by side: their spectra, ranks and layers, at equal step or at equal loss."""

from pathlib import Path

import ipywidgets as widgets
import plotly.graph_objects as go

from minipolycom.viz import recorded
from minipolycom.viz.widgets.pieces import WIDE, columns, dropdown, live_figure, sentence

EQUAL = {"equal step": "step", "equal validation loss": "loss"}
PLACES = 40
"""How many losses the slider offers between the start and what both runs reach."""


class RankLens(widgets.VBox):
    """See `rank_lens`. `steps` says where each run is shown; the controls are there to be set and read."""

    def __init__(self, runs: dict):
        self.runs = runs
        self.spectra = {name: run.table("spectra") for name, run in runs.items()}
        self.likeness = {name: run.table("similarity") for name, run in runs.items()}
        self.equal = dropdown("compared at", list(EQUAL.items()), "step")
        known = {row["tensor"] for rows in self.spectra.values() for row in rows}  # not every model has a matrix gate
        tensors = [(said, name) for name, said in recorded.TENSORS.items() if name in known]
        self.tensor = dropdown("of", tensors, "hidden")
        self.measure = dropdown("rank", [(said, name) for name, said in recorded.MEASURES.items()], "effective_rank")
        self.alike = dropdown("layers", [(said, name) for name, said in recorded.SIMILARITIES.items()], "cosine")
        self.place = widgets.SelectionSlider(
            description="at", options=self._places(), style=WIDE, layout=widgets.Layout(width="auto")
        )
        self.place.index = len(self.place.options) - 1
        self.reading = widgets.HTML()
        self.panels = {name: live_figure(figure) for name, figure in self._drawn().items()}
        self.equal.observe(lambda _: self._offer(), names="value")
        for control in (self.tensor, self.measure, self.alike, self.place):
            control.observe(lambda _: self._redraw(), names="value")
        self._redraw()
        controls = columns([self.equal, self.place, self.tensor, self.measure, self.alike])
        super().__init__([controls, self.reading, *(panel.widget for panel in self.panels.values())])

    @property
    def steps(self) -> dict[str, int]:
        """The step at which each run is shown."""
        if self.equal.value == "step":
            return dict.fromkeys(self.runs, self.place.value)
        return {name: recorded.step_at_loss(run.rows, self.place.value) for name, run in self.runs.items()}

    def _places(self) -> list[tuple[str, float]]:
        """What the slider offers: steps that both runs recorded, or losses that both reach."""
        if self.equal.value == "step":
            steps = set.intersection(*(set(recorded.steps_of(rows)) for rows in self.spectra.values()))
            return [(f"step {step}", step) for step in sorted(steps)]
        losses = [run.losses("val") for run in self.runs.values()]
        high, low = min(own[0] for own in losses), max(min(own) for own in losses)
        values = [high - (high - low) * k / PLACES for k in range(PLACES)] + [low]
        return [(f"{value:.3f} nats", value) for value in values]

    def _offer(self) -> None:
        places = self._places()
        self.place.options = places  # which chooses the first of them, and redraws
        self.place.index = len(places) - 1

    def _drawn(self) -> dict[str, go.Figure]:
        tensor = self.tensor.value
        return {
            "profile": recorded.rank_profile(self.spectra, self.steps, tensor, self.measure.value),
            "spectra": recorded.spectra_side_by_side(self.spectra, self.steps, tensor),
            "similarity": recorded.similarity(self.likeness, self.steps, self.alike.value),
        }

    def _redraw(self) -> None:
        for name, figure in self._drawn().items():
            self.panels[name].update(figure)
        told = []
        for name, step in self.steps.items():
            shown = recorded.at_step(self.spectra[name], step)
            val = [row for row in self.runs[name].rows if row["split"] == "val" and row["step"] <= step]
            told.append(f"<b>{name}</b>: validation loss {val[-1]['loss']:.3f}, recorded at step {shown[0]['step']}")
        self.reading.value = sentence("; ".join(told))


def rank_lens(first, second) -> RankLens:
    """Two recorded runs, layer by layer: singular values, a measure of rank, and how alike their layers are.

    They are compared at equal step or at equal validation loss: a run that learns faster has another rank at the same
    step for that reason alone. Each is a `Run` or its folder.

    Raises ValueError for a run that recorded no spectra, and for two of one name.
    """
    from minipolycom.runs import Run

    runs = {}
    for one in (first, second):
        run = Run.load(one) if isinstance(one, str | Path) else one
        if not run.table("spectra"):
            raise ValueError(f"run {run.name!r} recorded no spectra: train it with record_every above 0")
        if run.name in runs:
            raise ValueError(f"both runs are named {run.name!r}: give one of them another name")
        runs[run.name] = run
    return RankLens(runs)
