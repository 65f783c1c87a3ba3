"""One training under the learner's hands: watch it, hold it, go back, change one thing, run on."""

import html
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path

import ipywidgets as widgets
import plotly.graph_objects as go

from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.control import Control
from minipolycom.viz import figures, recorded
from minipolycom.viz.widgets.background import BackgroundTraining, only_one_trains, train_config
from minipolycom.viz.widgets.pieces import button, columns, dropdown, live_figure, seed_field, sentence, side_by_side

RATES = {"a quarter": 0.25, "half": 0.5, "the same": 1.0, "twice": 2.0, "four times": 4.0}
"""By how much a branch may change the learning rate."""


class Cockpit(BackgroundTraining):
    """A training and its branches, drawn while they go on; see `cockpit`.

    `runs` are the runs by name as their folders have them, `focus` names the one that the panels show, `step` is where
    they show it. `train` and `branch` of the constructor begin or go on with a run: given a control and a function that
    takes each row, they return when it ends.
    """

    def __init__(
        self,
        folder: Path,
        activation: str,
        steps: int,
        train: Callable[..., object],
        branch: Callable[..., object],
        prepare: Callable[[], tuple[str, Real] | None] = lambda: None,
    ):
        super().__init__()
        self.folder, self.steps, self.train, self.begin_branch, self.prepare = folder, steps, train, branch, prepare
        self.floor = None
        self.runs: dict[str, object] = {}
        self._load_all()

        self.focus_choice = dropdown("run", list(self.runs) or [activation], next(reversed(self.runs), activation))
        self.slider = widgets.IntSlider(
            description="step", min=0, max=steps, value=0, layout=widgets.Layout(width="auto", flex="1 1 auto")
        )
        self.live_button = button("Newest", "fast-forward", self.follow)
        self.tensor = dropdown("spectrum of", [(said, name) for name, said in recorded.TENSORS.items()], "hidden")
        self.layer = dropdown("layer", [0], 0)
        self.activation = dropdown("activation", list(ACTIVATION_NAMES), activation)
        self.rate = dropdown("learning rate", list(RATES.items()), 1.0)
        self.seed = seed_field()
        self.branch_button = button("Branch here", "code-fork", self.branch)
        self.reading = widgets.HTML()
        self.following = True
        self.panels = {name: live_figure(figure) for name, figure in self._drawn().items()}
        self._show_state()

        self.focus_choice.observe(lambda _: self._refocus(), names="value")
        self.slider.observe(lambda _: self._scrubbed(), names="value")
        for choice in (self.tensor, self.layer):
            choice.observe(lambda _: self._redraw(), names="value")
        beside = ("rank", "spectrum", "coefficients", "shape", "experts")
        heading = widgets.HTML(sentence("<b>From this step on, change one thing:</b>", news=False))
        self.children = (
            side_by_side([self.start_button, self.pause_button, self.stop_button]),
            self.sentence,
            self.panels["losses"].widget,
            widgets.HBox([self.slider, self.live_button]),
            self.reading,
            columns([self.focus_choice, self.tensor, self.layer]),
            columns([self.panels[name].widget for name in beside], "26em", "1em"),
            heading,
            columns([self.activation, self.rate, self.seed, self.branch_button]),
        )

    # What a learner does, and a script can do in the same way

    def start(self) -> None:
        """Begin the run in focus, or go on with it where it was stopped."""
        if self.state == "paused":
            self.resume()
        elif self.startable:
            name = self.focus
            self._begin_run(name, lambda control, on_row: self.train(name, control, on_row))

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
        self._begin_run(
            name,
            lambda control, on_row: self.begin_branch(
                self.runs[parent], step, name=name, control=control, on_row=on_row, **changed
            ),
        )

    @property
    def startable(self) -> bool:
        return super().startable and not self._finished(self.focus)

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

    def _begin_run(self, name: str, work: Callable) -> None:
        self._begin("preparing")
        if name not in self.focus_choice.options:
            self.focus_choice.options = [*self.runs, name]
        self.following = True
        self.focus_choice.value = name
        self._in_background(f"cockpit {name}", self._train, name, work)

    def _train(self, name: str, work: Callable) -> str:
        def on_row(row: dict) -> None:
            self._prepared()
            if self._redraw_is_due:
                self._load(name)
                self._redraw()

        self.floor = self.prepare()
        run = work(self.control, on_row)
        self._load(name)
        self.error = run.message
        return run.status

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

    def _draw(self) -> None:
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

    def _sentences(self) -> dict[str, str]:
        return super()._sentences() | {
            "ready": f"Ready: {self.steps} steps, kept in {self.folder}. Press Start.",
            "preparing": "Preparing.",
            "training": "Training. Drag the step back at any time: it goes on behind you.",
            "stopped": f"Stopped{self._why}, with a checkpoint. Start goes on.",
            "finished": "Finished. Drag the step to where it should have gone otherwise, and branch.",
        }

    def _show_state(self) -> None:
        super()._show_state()
        known = self.runs.get(self.focus)
        self.start_button.description = "Go on" if known and known.rows and not known.finished else "Start"


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
    from minipolycom.model import GPTConfig
    from minipolycom.runs import Run
    from minipolycom.text import TokenData
    from minipolycom.train import PRESET_TRAINING, fit

    model = GPTConfig.preset(preset, activation=activation)
    suited = PRESET_TRAINING[preset] | {
        "log_every": max(1, steps // 60), "eval_every": max(1, steps // 12), "record_every": max(1, steps // 24),
        "checkpoint_every": max(1, steps // 6), "keep_checkpoints": 0, "steps": steps, **settings,
    }  # fmt: skip
    batch_size, tokenizer = suited.pop("batch_size"), suited.pop("tokenizer", "bytes")
    training = train_config(suited, "batch_size", "tokenizer")
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
