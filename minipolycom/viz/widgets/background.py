"""A training in a thread of its own, steered by buttons; of all such widgets in this process, one trains at a time."""

import html
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Real

import ipywidgets as widgets

from minipolycom.control import Control
from minipolycom.viz.widgets.pieces import button, one_sentence, rest, sentence

GOING = ("preparing", "training", "paused", "stopping")
"""The states between a start and an end; the others: ready, stopped, finished, failed, refused."""


class BackgroundTraining(widgets.VBox):
    """A training that is started, held and stopped by buttons or in Python, and says in a sentence how it stands.

    A subclass states what is its own: `start`, which calls `_begin` and then `_in_background` with the work; `_draw`,
    which shows what was measured so far; `_sentences`; and which of the buttons it offers. The work is steered by
    `control` and calls `_redraw` now and then. What it raises is told in the widget: in a thread nobody would see it.
    """

    SECONDS_PER_REDRAW = 0.5

    def __init__(self):
        super().__init__()
        self.state, self.reason, self.error = "ready", "", ""
        self.superseded = False  # its page may be gone already: plotly's script complains about figures without one
        self.control: Control | None = None
        self.conductor: threading.Thread | None = None
        self.lock, self.drawn_at = threading.RLock(), 0.0
        self.start_button = button("Start", "play", self.start)
        self.pause_button = button("Pause", "pause", lambda: self.resume() if self.state == "paused" else self.pause())
        self.stop_button = button("Stop", "stop", self.stop)
        self.sentence = widgets.HTML()

    # What a learner does, and a script can do in the same way

    def pause(self) -> None:
        """Hold after the current step."""
        with self.lock:
            if self.state == "training":
                self.control.pause()
                self._enter("paused")

    def resume(self) -> None:
        """Go on where it was held."""
        with self.lock:
            if self.state == "paused":
                self._enter("training")
                self.control.resume()

    def stop(self, reason: str = "") -> None:
        """End after the current step, keeping what was measured."""
        with self.lock:
            if self.going:
                self.reason = reason
                self._enter("stopping")
                self.control.stop()

    def wait(self, timeout: Real | None = None) -> None:
        """Start if need be, go on if paused, and return when all is done or `timeout` seconds are over.

        Interrupting it (the notebook's stop button) stops the training after the current step.
        """
        if self.state == "ready":
            self.start()
        self.resume()
        try:
            self._join(timeout)
        except KeyboardInterrupt:
            self.stop("interrupted")
            self._join()

    @property
    def going(self) -> bool:
        return self.state in GOING

    @property
    def startable(self) -> bool:
        return not self.going

    # The thread that trains

    def _begin(self, state: str) -> None:
        """Be the one widget that trains, in this state, as if it had not trained before."""
        self._join()
        only_one_trains(self)
        self.control, self.reason, self.error, self.superseded = Control(), "", "", False
        self._enter(state)

    def _in_background(self, name: str, work: Callable[..., str], *args) -> None:
        """Begin the work; it returns the status in which the training ends."""
        self.conductor = threading.Thread(target=self._conduct, args=(work, *args), name=name, daemon=True)
        self.conductor.start()

    def _conduct(self, work: Callable[..., str], *args) -> None:
        try:
            try:
                ended = work(*args)
            finally:
                self._redraw()
        except Exception as error:
            self._fail(one_sentence(error))
            ended = "failed"
        self._enter("failed" if ended == "diverged" else ended)

    def _fail(self, told: str) -> None:
        self.error = told

    def _prepared(self) -> None:
        """Training begins, unless it was stopped while it was prepared."""
        with self.lock:
            if self.state == "preparing":
                self._enter("training")

    def _join(self, timeout: Real | None = None) -> None:
        if self.conductor is not None and self.conductor is not threading.current_thread():
            self.conductor.join(timeout)

    # What is seen

    def _redraw(self) -> None:
        if not self.superseded:
            with self.lock:
                self._draw()
                self.drawn_at = time.monotonic()

    @property
    def _redraw_is_due(self) -> bool:
        return time.monotonic() - self.drawn_at >= self.SECONDS_PER_REDRAW

    def _enter(self, state: str) -> None:
        with self.lock:
            self.state = state
            self._show_state()

    def _sentences(self) -> dict[str, str]:
        """What is said in each state."""
        return {
            "training": "Training.",
            "paused": "Paused. Resume goes on from the same step.",
            "stopping": f"Stopping after the current step{self._why}.",
            "failed": f"Ended: {self.error}",
        }

    @property
    def _why(self) -> str:
        return f" ({self.reason})" if self.reason else ""

    def _show_state(self) -> None:
        self._say(self._sentences()[self.state], strong=self.state in ("failed", "refused"))
        rest(self.start_button, not self.startable)
        rest(self.pause_button, self.state not in ("training", "paused"))
        self.pause_button.description = "Resume" if self.state == "paused" else "Pause"
        self.pause_button.icon = "play" if self.state == "paused" else "pause"
        rest(self.stop_button, not self.going or self.state == "stopping")

    def _say(self, text: str, strong: bool = False) -> None:
        self.sentence.value = sentence(html.escape(text), strong=strong)


_training: BackgroundTraining | None = None


def only_one_trains(new: BackgroundTraining | None) -> None:
    """Stop the widget that trains in this process, if any, and wait for its last step; `new` takes its place."""
    global _training
    other, _training = _training, new
    if other is None or other is new:
        return
    if other.going:
        other.superseded = True
        other.stop("another one was begun")
    other._join()


def train_config(settings: Mapping, *others: str):
    """The `TrainConfig` with these settings; `others` are the settings that the caller knows besides.

    Raises ValueError for an unknown setting.
    """
    from minipolycom.train import TrainConfig

    known = sorted(field.name for field in fields(TrainConfig))
    if unknown := sorted(settings.keys() - set(known)):
        raise ValueError(f"unknown setting {', '.join(unknown)}; known: {', '.join([*others, *known])}")
    return TrainConfig(**settings)
