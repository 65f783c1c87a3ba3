"""One training under the learner's hands: watch it, hold it, go back, change one thing, run on."""

import html
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from numbers import Real
from pathlib import Path

import ipywidgets as widgets
import plotly.graph_objects as go

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.viz import figures, recorded
from minipolycom.viz.widgets.pieces import (
    WIDE,
    button,
    columns,
    dropdown,
    live_figure,
    one_sentence,
    only_one_trains,
    rest,
    sentence,
    side_by_side,
)

RATES = {"a quarter": 0.25, "half": 0.5, "the same": 1.0, "twice": 2.0, "four times": 4.0}
"""By how much a branch may change the learning rate."""

GOING = ("preparing", "training", "paused", "stopping")
"""The states between a start and an end; the others: ready, stopped, finished, failed."""


class Cockpit(widgets.VBox):
    """A training and its branches, drawn while they go on; see `cockpit`.

    `runs` are the runs by name as their folders have them, `focus` names the one that the panels show, `step` is where
    they show it. `train` and `branch` of the constructor begin or go on with a run: given a control and a function that
    takes each row, they return when it ends.
    """

    SECONDS_PER_REDRAW = 0.5

    def __init__(
        self,
        folder: Path,
        activation: str,
        steps: int,
        train: Callable[..., object],
        branch: Callable[..., object],
        prepare: Callable[[], tuple[str, Real] | None] = lambda: None,
    ):
        self.folder, self.steps, self.train, self.begin_branch, self.prepare = folder, steps, train, branch, prepare
        self.state, self.reason, self.error, self.floor = "ready", "", "", None
        self.superseded = False
        self.control, self.conductor, self.drawn_at = None, None, 0.0
        self.lock = threading.RLock()
        self.runs: dict[str, object] = {}
        self._load_all()

        self.start_button = button("Start", "play", self.start)
        self.pause_button = button("Pause", "pause", lambda: self.resume() if self.state == "paused" else self.pause())
        self.stop_button = button("Stop", "stop", self.stop)
        self.focus_choice = dropdown("run", list(self.runs) or [activation], next(reversed(self.runs), activation))
        self.slider = widgets.IntSlider(
            description="step", min=0, max=steps, value=0, layout=widgets.Layout(width="auto", flex="1 1 auto")
        )
        self.live_button = button("Newest", "fast-forward", self.follow)
        self.tensor = dropdown("spectrum of", [(said, name) for name, said in recorded.TENSORS.items()], "hidden")
        self.layer = dropdown("layer", [0], 0)
        self.activation = dropdown("activation", list(ACTIVATION_NAMES), activation)
        self.rate = dropdown("learning rate", list(RATES.items()), 1.0)
        self.seed = widgets.BoundedIntText(
            description="seed", min=0, max=2**31 - 1, value=0, style=WIDE,
            layout=widgets.Layout(width="auto"),
        )  # fmt: skip
        self.branch_button = button("Branch here", "code-fork", self.branch)
        self.sentence, self.reading = widgets.HTML(), widgets.HTML()
        self.following = True
        self.panels = {name: live_figure(figure) for name, figure in self._drawn().items()}
        self._show_state()

        self.focus_choice.observe(lambda _: self._refocus(), names="value")
        self.slider.observe(lambda _: self._scrubbed(), names="value")
        for choice in (self.tensor, self.layer):
            choice.observe(lambda _: self._redraw(), names="value")
        grid = widgets.GridBox(
            [self.panels[name].widget for name in ("rank", "spectrum", "coefficients", "shape", "experts")],
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(26em, 1fr))", grid_gap="0 1em"),
        )
        heading = widgets.HTML(sentence("<b>From this step on, change one thing:</b>", news=False))
        super().__init__(
            [
                side_by_side([self.start_button, self.pause_button, self.stop_button]),
                self.sentence,
                self.panels["losses"].widget,
                widgets.HBox([self.slider, self.live_button]),
                self.reading,
                columns([self.focus_choice, self.tensor, self.layer]),
                grid,
                heading,
                columns([self.activation, self.rate, self.seed, self.branch_button]),
            ]
        )

    # What a learner does, and a script can do in the same way

    def start(self) -> None:
        """Begin the run in focus, or go on with it where it was stopped."""
        if self.state == "paused":
            self.resume()
        elif not self.going and not self._finished(self.focus):
            name = self.focus
            self._conduct(name, lambda control, on_row: self.train(name, control, on_row))

    def pause(self) -> None:
        """Hold after the current step."""
        with self.lock:
            if self.state == "training":
                self.control.pause()
                self._enter("paused")
        self._redraw()

    def resume(self) -> None:
        """Go on where it was held."""
        with self.lock:
            if self.state == "paused":
                self._enter("training")
                self.control.resume()

    def stop(self, reason: str = "") -> None:
        """End after the current step, with a checkpoint from which Start goes on."""
        with self.lock:
            if self.going:
                self.reason = reason
                self._enter("stopping")
                if self.control:
                    self.control.stop()

    def scrub(self, step: int) -> None:
        """Show every panel as it was at `step`."""
        self.slider.value = step

    def follow(self) -> None:
        """Show the newest step, and go on doing so."""
        self.following = True
        self._redraw()

    def branch(self) -> None:
        """From the step that is shown, go on as a new run with the activation, learning rate and seed that are set.

        What goes on just now is stopped first, with a checkpoint: Start goes on with it later.
        """
        parent, step = self.focus, self.step
        if parent not in self.runs or not step:
            self._say("There is nothing to branch from yet: start, and let a few steps pass.", strong=True)
            return
        self.stop("a branch was begun")
        self._join()
        self._load(parent)
        config = self.runs[parent].model_config
        changed = {}
        if self.activation.value != config.activation:
            changed["activation"] = self.activation.value
        if self.rate.value != 1:
            changed["learning_rate"] = self.runs[parent].train_config.learning_rate * self.rate.value
        if self.seed.value:
            changed["seed"] = self.seed.value
        name = self._new_name(parent, step, changed)
        self._conduct(
            name,
            lambda control, on_row: self.begin_branch(
                self.runs[parent], step, name=name, control=control, on_row=on_row, **changed
            ),
        )

    def wait(self, timeout: Real | None = None) -> None:
        """Return when the training has ended, or `timeout` seconds are over; start it if need be, go on if paused.

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
    def focus(self) -> str:
        return self.focus_choice.value

    @property
    def step(self) -> int:
        """The last measured step of the run in focus, up to the slider."""
        run = self.runs.get(self.focus)
        steps = recorded.steps_of(run.rows) if run else []
        return max((step for step in steps if step <= self.slider.value), default=0)

    # The thread that trains

    def _conduct(self, name: str, work: Callable) -> None:
        from minipolycom.control import Control

        self._join()
        only_one_trains(self)
        self.control, self.reason, self.error, self.superseded = Control(), "", "", False
        with self.lock:
            if name not in self.focus_choice.options:
                self.focus_choice.options = [*self.runs, name]
            self.following = True
            self._enter("preparing")
        self.focus_choice.value = name
        self.conductor = threading.Thread(target=self._train, args=(name, work), name=f"cockpit {name}", daemon=True)
        self.conductor.start()

    def _train(self, name: str, work: Callable) -> None:
        def on_row(row: dict) -> None:
            with self.lock:
                if self.state == "preparing":
                    self._enter("training")
            if time.monotonic() - self.drawn_at >= self.SECONDS_PER_REDRAW:
                self._load(name)
                self._redraw()

        run = None
        try:
            self.floor = self.prepare()
            run = work(self.control, on_row)
            self._load(name)
            self.error = run.message
        except Exception as error:  # shown in the widget: in a thread nobody would see it
            self.error = one_sentence(error)
        if not self.superseded:
            self._enter("failed" if run is None or run.status == "diverged" else run.status)
            self._redraw()
        else:
            self.state = "stopped"

    def _join(self, timeout: Real | None = None) -> None:
        if self.conductor is not None and self.conductor is not threading.current_thread():
            self.conductor.join(timeout)

    # What the folder holds

    def _load_all(self) -> None:
        for config in sorted(self.folder.glob("*/config.json"), key=lambda file: file.stat().st_mtime):
            self._load(config.parent.name)

    def _load(self, name: str) -> None:
        """Read a run as its folder has it now; it may be written meanwhile."""
        from minipolycom.runs import Run

        if (self.folder / name / "config.json").is_file():
            run = Run.load(self.folder / name)
            with self.lock:
                self.runs[name] = run

    def _finished(self, name: str) -> bool:
        return name in self.runs and self.runs[name].finished

    def _new_name(self, parent: str, step: int, changed: Mapping) -> str:
        """Named by what it changes and where; numbered where that name is taken."""
        parts = []
        if "activation" in changed:
            parts.append(str(changed["activation"]))
        if "learning_rate" in changed:
            parts.append(f"rate {changed['learning_rate']:.3g}")
        if "seed" in changed:
            parts.append(f"seed {changed['seed']}")
        name = f"{' '.join(parts) or parent + ' again'} from {step}"
        taken = set(self.runs) | {path.name for path in self.folder.glob("*")}
        numbered = (name, *(f"{name}, {n}" for n in range(2, 1000)))
        return next(free for free in numbered if free not in taken)

    # What is seen

    def _drawn(self) -> dict[str, go.Figure]:
        with self.lock:
            runs = dict(self.runs)
        rows = [row for run in runs.values() for row in _own_rows(run)]
        losses = figures.training_curves(rows, "step", self.floor, end=self.steps)
        run = runs.get(self.focus)
        at = self.slider.value
        if run and run.rows:
            losses.add_vline(x=at, line=dict(color=recorded.NEUTRAL, width=1.5, dash="3px,3px"))
        table = run.table if run else lambda name: []
        activation = run.model_config.activation if run else self.activation.value
        layer = self.layer.value or 0
        return {
            "losses": losses,
            "rank": recorded.rank_over_steps(table("spectra"), self.tensor.value, step=at),
            "spectrum": recorded.spectrum(table("spectra"), self.tensor.value, at),
            "coefficients": recorded.coefficients(table("coefficients"), layer, at),
            "shape": recorded.activation_shapes(table("coefficients"), activation, at),
            "experts": recorded.expert_load(table("routers"), layer),
        }

    def _redraw(self) -> None:
        if self.superseded:
            return
        with self.lock:
            run = self.runs.get(self.focus)
            steps = recorded.steps_of(run.rows) if run else []
            if run:
                self._offer_layers(run.model_config.n_layers)
            if self.following and steps:
                self._moving = True
                self.slider.value = steps[-1]
                self._moving = False
            for name, figure in self._drawn().items():
                self.panels[name].update(figure)
            dense = not run or not run.model_config.n_experts
            self.panels["experts"].widget.layout.display = "none" if dense else None
            self.reading.value = sentence(html.escape(self._read(run)), news=False)
            self.drawn_at = time.monotonic()

    def _read(self, run) -> str:
        """What was measured at the step that is shown, in a line."""
        if not run or not run.rows:
            return ""
        rows = [row for row in run.rows if row["step"] <= self.slider.value]
        told = [f"{run.name} at step {self.step}"]
        for split, said in (("val", "validation loss"), ("train", "training loss")):
            last = next((row for row in reversed(rows) if row["split"] == split), None)
            if last:
                told.append(f"{said} {last['loss']:.3f}")
        if self.floor:
            told.append(f"{self.floor[0]} {self.floor[1]:.3f}")
        return ", ".join(told)

    def _offer_layers(self, n_layers: int) -> None:
        if list(self.layer.options) != list(range(n_layers)):
            self.layer.options = list(range(n_layers))
            self.layer.value = 0

    _moving = False  # whether the slider moves by itself

    def _scrubbed(self) -> None:
        if not self._moving:
            self.following = False
            self._redraw()

    def _refocus(self) -> None:
        run = self.runs.get(self.focus)
        if run:
            self.activation.value = run.model_config.activation
        self._redraw()
        self._show_state()

    def _enter(self, state: str) -> None:
        with self.lock:
            self.state = state
            self._show_state()

    def _show_state(self) -> None:
        why = f" ({self.reason})" if self.reason else ""
        finished = self._finished(self.focus)
        said = {
            "ready": f"Ready: {self.steps} steps, kept in {self.folder}. Press Start.",
            "preparing": "Preparing.",
            "training": "Training. Drag the step back at any time: it goes on behind you.",
            "paused": "Paused. Resume goes on from the same step.",
            "stopping": f"Stopping after the current step{why}.",
            "stopped": f"Stopped{why}, with a checkpoint. Start goes on.",
            "finished": "Finished. Drag the step to where it should have gone otherwise, and branch.",
            "failed": f"Ended: {self.error}",
        }[self.state]
        self._say(said, strong=self.state == "failed")
        rest(self.start_button, self.going or finished)
        known = self.runs.get(self.focus)
        self.start_button.description = "Go on" if known and known.rows and not finished else "Start"
        rest(self.pause_button, self.state not in ("training", "paused"))
        self.pause_button.description = "Resume" if self.state == "paused" else "Pause"
        self.pause_button.icon = "play" if self.state == "paused" else "pause"
        rest(self.stop_button, self.state not in ("preparing", "training", "paused"))

    def _say(self, text: str, strong: bool = False) -> None:
        self.sentence.value = sentence(html.escape(text), strong=strong)


def cockpit(
    activation: str = "polynorm",
    source: str = "stdlib",
    preset: str = "tiny",
    steps: int = 300,
    out: Path | str | None = None,
    **settings,
) -> Cockpit:
    """Train one small transformer, watch loss, spectra, coefficients and the activation's shape; hold, scrub, branch.

    Drag the step back and every panel shows the run as it was there; Branch here goes on from that step as a run of
    its own, with another activation, learning rate or order of batches, and both curves stay. A branch that changes
    nothing repeats the original to the last bit on a CPU.

    `source` is a source of `TokenData`, `preset` a size of `GPTConfig`. `out` is the folder that keeps the runs, each
    in a folder of its own: what is there already is shown, and goes on where it was stopped; without `out`, a temporary
    folder. `settings` are fields of `TrainConfig`, or `batch_size` and `tokenizer`. Running the cell again stops, with
    a checkpoint, the training that its last run began.

    Raises ValueError for an unknown activation, preset or setting, before anything is trained.
    """
    from minipolycom.branch import branch
    from minipolycom.control import Control
    from minipolycom.model import GPTConfig
    from minipolycom.runs import Run
    from minipolycom.text import TokenData
    from minipolycom.train import PRESET_TRAINING, TrainConfig, fit

    model = GPTConfig.preset(preset, activation=activation)
    suited = PRESET_TRAINING[preset] | {
        "log_every": max(1, steps // 60), "eval_every": max(1, steps // 12), "record_every": max(1, steps // 24),
        "checkpoint_every": max(1, steps // 6), "keep_checkpoints": 0, "steps": steps, **settings,
    }  # fmt: skip
    batch_size, tokenizer = suited.pop("batch_size"), suited.pop("tokenizer", "bytes")
    known = {field.name for field in fields(TrainConfig)}
    if unknown := sorted(suited.keys() - known):
        raise ValueError(
            f"unknown setting {', '.join(unknown)}; known: batch_size, tokenizer, {', '.join(sorted(known))}"
        )
    training = TrainConfig(**suited)
    only_one_trains(None)
    folder = Path(out) if out else Path(tempfile.mkdtemp(prefix="cockpit-"))
    data = TokenData(source, context=model.context, batch_size=batch_size, tokenizer=tokenizer, seed=training.seed)
    shape = {}  # of the model, once the tokenizer is known

    def prepare() -> tuple[str, Real]:
        data.prepare_data()
        data.setup("fit")
        shape["model"] = replace(model, vocab_size=data.tokenizer.vocab_size)
        if data.floor is not None:
            return "lowest possible loss", data.floor
        return "entropy of single tokens", data.unigram_entropy

    def branched(parent: Run, step: int, **changes) -> Run:
        return branch(data, parent, step, out=folder / changes["name"], progress=False, **changes)

    def trained(name: str, control: Control, on_row: Callable) -> Run:
        held = Run.load(folder / name) if (folder / name / "config.json").is_file() else None
        if held and held.parent:
            changes = {key: change["to"] for key, change in held.parent["changed"].items()}
            parent = Run.load(folder / held.parent["name"])
            return branched(parent, held.parent["step"], name=name, control=control, on_row=on_row, **changes)
        return fit(
            data, shape["model"], training, out=folder / name, name=name, control=control, on_row=on_row, progress=False
        )

    return Cockpit(folder, activation, steps, trained, branched, prepare)


def _own_rows(run) -> list[dict]:
    """The losses of a run since it left its parent, if it has one: what came before is drawn as the parent's."""
    return [row for row in run.rows if not run.parent or row["step"] >= run.parent["step"]]
