"""Predictions made before something is shown: one of several answers, one of several curves, a number."""

import math
from collections.abc import Mapping
from numbers import Real

import ipywidgets as widgets
import plotly.graph_objects as go
from IPython.display import HTML
from numpy.typing import ArrayLike
from plotly.basedatatypes import BaseFigure

from minipolycom.viz import figures
from minipolycom.viz.theme import NEUTRAL
from minipolycom.viz.widgets.pieces import button, live_figure, sentence


class Choice(widgets.VBox):
    """See `choose`. `value` is the chosen label or None; setting it chooses; `right` is known after `reveal()`."""

    def __init__(self, question: str, options: Mapping[str, str], right: str):
        if right not in options:
            raise ValueError(f"the right answer {right!r} is not among the options: {', '.join(options)}")
        self.options, self.answer = dict(options), right
        self.revealed = False
        self.radio = widgets.RadioButtons(
            options=list(options), value=None, description="I predict", layout=widgets.Layout(width="auto"),
            style={"description_width": "5em"},
        )  # fmt: skip
        self.reveal_button = button("Reveal", "eye", self.reveal)
        self.explanation = widgets.HTML()
        super().__init__(
            [
                widgets.HTML(sentence(question, strong=True, news=False)),
                self.radio,
                self.reveal_button,
                self.explanation,
            ]
        )

    @property
    def value(self) -> str | None:
        return self.radio.value

    @value.setter
    def value(self, label: str | None) -> None:
        self.radio.value = label

    @property
    def right(self) -> bool | None:
        """Whether the prediction was right; None while it is not revealed, or when none was made."""
        return self.value == self.answer if self.revealed and self.value is not None else None

    def reveal(self) -> HTML:
        """Say what is right and why, and why the chosen option is not; the choice is then fixed."""
        self.revealed = True
        self.radio.disabled = True
        self.reveal_button.description, self.reveal_button.icon = "Revealed", "check"  # enabled: it may have the focus
        answer = f"<b>{self.answer}</b>. {self.options[self.answer]}".strip()
        if self.value is None:
            said = f"No prediction was made. The answer: {answer}"
        elif self.right:
            said = f"✓ Right: {answer}"
        else:
            said = f"✗ Not <b>{self.value}</b>. {self.options[self.value]}<br>The answer: {answer}"
        self.explanation.value = sentence(said)
        return HTML(self.explanation.value)


def choose(question: str, options: Mapping[str, str], right: str) -> Choice:
    """Ask for a prediction before something is shown. `options` gives each label its explanation.

    "Reveal" (or `.reveal()`) shows the explanation of the chosen option and of the right one; without a choice it says
    that no prediction was made. Raises ValueError for a right answer that is not among the options.
    """
    return Choice(question, options, right)


class CurveChoice(Choice):
    """See `choose_curve`."""

    def __init__(self, question, curves, x, right, xlabel, ylabel, explanations):
        told = {label: (explanations or {}).get(label, "") for label in curves}
        super().__init__(question, told, right)
        self.curves, self.places, self.labels = dict(curves), x, (xlabel, ylabel)
        self.live = live_figure(self._drawn({}))
        heading, *others = self.children
        self.children = (heading, self.live.widget, *others)

    @property
    def figure(self) -> BaseFigure:
        return self.live.figure

    def _drawn(self, truth: Mapping[str, ArrayLike]) -> go.Figure:
        xlabel, ylabel = self.labels
        names = ", ".join(self.curves)
        told = f"; the truth is {self.answer}" if self.revealed else ""
        said = f"Curves to choose from: {names}{told}."
        figure = figures.lines({**self.curves, **truth}, self.places, xlabel, ylabel, title="", alt=said)
        for trace in figure.data if self.revealed else ():
            if trace.name in truth:
                trace.update(mode="markers", marker=dict(size=9, color=NEUTRAL))
            elif trace.name != self.answer:
                trace.opacity = 0.25
        return figure

    def reveal(self, truth: ArrayLike | None = None) -> HTML:
        """As `Choice.reveal`; the wrong curves fade, and `truth`, what was measured at the same places, is drawn."""
        said = super().reveal()
        self.live.update(self._drawn({} if truth is None else {"measured": truth}))
        return said


def choose_curve(
    question: str,
    curves: Mapping[str, ArrayLike],
    x: ArrayLike,
    right: str,
    xlabel: str = "x",
    ylabel: str = "y",
    explanations: Mapping[str, str] | None = None,
) -> CurveChoice:
    """Ask which of several drawn curves the truth will follow; `explanations` may say why each does or does not.

    Raises ValueError for a right answer that is not among the curves.
    """
    return CurveChoice(question, curves, x, right, xlabel, ylabel, explanations)


class Guess(widgets.VBox):
    """See `guess_number`. `value` is the guess, None as long as the slider was not moved."""

    def __init__(self, question: str, unit: str, low: Real, high: Real):
        if not low < high:
            raise ValueError(f"a guess lies between a lower and a higher number; got low={low}, high={high}")
        self.unit, self.touched = unit, False
        self.whole = isinstance(low, int) and isinstance(high, int)
        self.slider = self._slider(low, high)
        self.slider.observe(self._touch, names="value")
        invitation = "No prediction yet: move the handle, with the mouse or the arrow keys."
        self.result = widgets.HTML(sentence(invitation, news=False))
        super().__init__([widgets.HTML(sentence(question, strong=True, news=False)), self.slider, self.result])

    def _slider(self, low: Real, high: Real) -> widgets.Widget:
        look = dict(
            description=f"I guess ({self.unit})" if self.unit else "I guess",
            style={"description_width": "initial"}, layout=widgets.Layout(width="40em", max_width="100%"),
        )  # fmt: skip
        if low > 0 and high / low >= 100:
            lowest, highest = math.log10(low), math.log10(high)
            return widgets.FloatLogSlider(
                value=10 ** ((lowest + highest) / 2), min=lowest, max=highest, step=(highest - lowest) / 200,
                readout_format=".0f" if self.whole else ".3g", **look,
            )  # fmt: skip
        if self.whole:
            return widgets.IntSlider(value=(low + high) // 2, min=low, max=high, **look)
        step = 10 ** round(math.log10((high - low) / 100))  # a power of ten: between 32 and 316 steps
        middle = low + step * round((high - low) / 2 / step)
        return widgets.FloatSlider(value=middle, min=low, max=high, step=step, readout_format=".3g", **look)

    def _touch(self, _change=None) -> None:
        if self.slider.disabled:  # compared; the page may still send its own rounding of the last value
            return
        self.touched = True
        self.result.value = sentence(f"Your prediction: {self._told(self.value)}.", news=False)

    def _told(self, number: Real) -> str:
        return f"{number:.4g} {self.unit}".rstrip()

    @property
    def value(self) -> Real | None:
        if not self.touched:
            return None
        return round(self.slider.value) if self.whole else self.slider.value

    @value.setter
    def value(self, guess: Real) -> None:
        self.slider.value = guess
        self._touch()

    def compare(self, measured: Real) -> HTML:
        """Say how far the guess was from what was measured, as a difference and as a factor."""
        self.slider.disabled = True
        if self.value is None:
            said = f"No prediction was made. Measured: <b>{self._told(measured)}</b>."
        else:
            off = self.value - measured
            side = "too high" if off > 0 else "too low"
            factor = ""
            if self.value * measured > 0:
                ratio = self.value / measured
                factor = f", a factor of {max(ratio, 1 / ratio):.3g}"
            said = f"You said {self._told(self.value)}, measured: <b>{self._told(measured)}</b>. "
            said += f"That is {abs(off):.3g} {side}{factor}." if off else "Exactly right."
        self.result.value = sentence(said)
        return HTML(self.result.value)


def guess_number(question: str, unit: str, low: Real, high: Real) -> Guess:
    """Ask for a number between `low` and `high` before it is measured; between two `int`, for a whole one.

    Over two decades or more the slider is logarithmic. `.compare(measured)` says how far off the guess was; without
    one, that none was made. Raises ValueError unless low < high.
    """
    return Guess(question, unit, low, high)
