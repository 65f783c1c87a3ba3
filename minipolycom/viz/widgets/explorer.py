"""An activation under sliders; a whole row under sliders."""

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from minipolycom.activations import ACTIVATIONS
from minipolycom.checking import check_known
from minipolycom.viz import compositions, figures
from minipolycom.viz.widgets.pieces import WIDE, button, columns, dropdown, live_figure, sentence, slider

QUESTION = (
    "<b>Which of these functions notices the rest of the row?</b> Scale the whole row, then let one "
    "<i>other</i> entry of it grow, and watch which curves move."
)


class Explorer(widgets.VBox):
    """A question, a dropdown and sliders, the figure that follows them, and what it says in words.

    A subclass makes `choice` and `sliders` (by name) and then calls this with the question; `_drawn` is its figure.
    """

    def __init__(self, question: str):
        self.at_first = {name: slider.value for name, slider in self.sliders.items()}
        self.reset = button("Reset", "undo", self.start_values)
        self.reading = widgets.HTML()
        self.live = live_figure(self._drawn())
        for control in (self.choice, *self.sliders.values()):
            control.observe(self._redraw, names="value")
        self._redraw()
        controls = columns([self.choice, *self.sliders.values(), self.reset])
        super().__init__([widgets.HTML(sentence(question, news=False)), controls, self.live.widget, self.reading])

    @property
    def figure(self) -> BaseFigure:
        return self.live.figure

    def _redraw(self, _change=None) -> None:
        figure = self._drawn()
        self.live.update(figure)
        self.reading.value = sentence(figures.alt(figure))

    def start_values(self) -> None:
        """Put every slider back where it was at first."""
        for name, value in self.at_first.items():
            self.sliders[name].value = value


class ActivationExplorer(Explorer):
    """See `activation_explorer`. `choice`, `sliders` (by name) and `figure` are there to be set and read."""

    def __init__(self, activation: str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        self.choice = widgets.Dropdown(
            options=list(ACTIVATIONS),
            value=activation,
            description="activation",
            style=WIDE,
            layout=widgets.Layout(width="auto"),
        )
        self.sliders = {
            "scale": slider("scale of the row", 0.25, 4, 1.0),
            "outlier": slider("one other entry", 0, 40, 0.0, step=1),
            "a3": slider("a₃, of x³", -1, 1, 1 / 3),
            "a2": slider("a₂, of x²", -1, 1, 1 / 3),
            "a1": slider("a₁, of x", -1, 1, 1 / 3),
            "bias": slider("bias b", -1, 1, 0.0),
        }
        super().__init__(QUESTION)

    def _drawn(self) -> go.Figure:
        value = {name: slider.value for name, slider in self.sliders.items()}
        weight = (value["a3"], value["a2"], value["a1"])
        return figures.activation_panels(self.choice.value, weight, value["bias"], value["scale"], value["outlier"])


def activation_explorer(activation: str = "polynorm") -> ActivationExplorer:
    """An activation, its slope, and what one outlier in the row does to PolyNorm and PolyReLU, under sliders.

    The sliders set the coefficients of the two polynomials (the third panel always shows both), the scale of the whole
    row, and the value of one other entry of the row. Raises ValueError for an unknown activation.
    """
    return ActivationExplorer(activation)


ROW_QUESTION = (
    "<b>Where must the division stand, so that all three powers stay at work at any scale, and no single entry "
    "runs away?</b> Choose a place, move the scale to both ends, then let one entry grow."
)


class RowExplorer(Explorer):
    """See `row_explorer`. `choice`, `sliders` (by name) and `figure` are there to be set and read."""

    def __init__(self, place: str):
        self.choice = dropdown("divided", list(compositions.PLACES), place)
        self.sliders = {
            "scale": widgets.FloatLogSlider(
                description="scale of the row", min=-2, max=2, step=0.05, value=1.0,
                readout_format=".3g", style=WIDE, layout=widgets.Layout(width="auto"),
            ),
            "outlier": slider("one entry of it", 0, 40, 0.0, step=1),
        }  # fmt: skip
        super().__init__(ROW_QUESTION)

    def _drawn(self) -> go.Figure:
        return compositions.row_panels(self.choice.value, self.sliders["scale"].value, self.sliders["outlier"].value)


def row_explorer(place: str = "nowhere") -> RowExplorer:
    """A whole row through a polynomial of order 3 that divides by a size in one of several places, under sliders.

    The dropdown chooses the place, a key of `compositions.PLACES`; the sliders set the scale of the row and one of its
    entries. Raises ValueError for an unknown place.
    """
    check_known("place", place, compositions.PLACES)
    return RowExplorer(place)
