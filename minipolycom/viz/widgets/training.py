"""Trainings side by side, drawn while they go on."""

import html
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from minipolycom.viz import figures
from minipolycom.viz.theme import style
from minipolycom.viz.widgets.background import BackgroundTraining, only_one_trains, train_config
from minipolycom.viz.widgets.pieces import WIDE, live_figure, one_sentence, sentence, side_by_side

LEVEL = 0.02
"""Nats per token within which two single runs are called level: about what another seed changes in a short run."""

TABLE_CSS = """<style>
.minipolycom { border-collapse: collapse; line-height: 1.6; }
.minipolycom th, .minipolycom td { padding: 0 0.9em; text-align: right; }
</style>"""


class Turns:
    """Trainings that share a machine and go on one at a time, so that each one's clock counts its own work only."""

    def __init__(self, names: Iterable[str]):
        self.waiting = deque(names)
        self.changed = threading.Condition()

    def take(self, name: str) -> None:
        """Wait until it is this one's turn."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting[0] == name)

    def hand_on(self, name: str) -> None:
        """Let the next one work, and wait for the next turn."""
        with self.changed:
            self.waiting.rotate(-1)
            self.changed.notify_all()
        self.take(name)

    def leave(self, name: str) -> None:
        with self.changed:
            self.waiting.remove(name)
            self.changed.notify_all()


class LiveTraining(BackgroundTraining):
    """Trainings side by side with start, pause and stop, drawn while they go on; see `live_training`.

    `jobs` gives each run's name the function that trains it: called with a `Control` and a function that takes each
    row as it is measured, it returns a `Run`. `prepare` is called once before them and returns the line to measure the
    losses by, (name, value), or None. `folder` is where the jobs keep their runs and take them up again, if they do.

    `rows` are all measurements so far, `runs` the runs that have ended, `errors` one sentence per run that failed.
    """

    def __init__(
        self,
        jobs: Mapping[str, Callable[[object, Callable[[dict], None]], object]],
        steps: int,
        prepare: Callable[[], tuple[str, Real] | None] = lambda: None,
        folder: Path | None = None,
    ):
        super().__init__()
        self.jobs, self.steps, self.prepare, self.floor = dict(jobs), steps, prepare, None
        self.folder = folder
        self.rows, self.runs, self.errors = [], {}, {}

        self.axis = widgets.Dropdown(
            options=[(label, x) for x, label in figures.AXES.items()], value="step", description="along",
            style={"description_width": "4em"}, layout=widgets.Layout(width="17em"),
        )  # fmt: skip
        self.axis.observe(lambda _: self._redraw(), names="value")
        self.bars = {
            name: widgets.IntProgress(max=steps, description=name, style=WIDE, layout=widgets.Layout(width="22em"))
            for name in self.jobs
        }
        for name, bar in self.bars.items():
            bar.style.bar_color = style(name)[0]
        self.readings = {name: widgets.HTML() for name in self.jobs}
        self.result = widgets.HTML()
        self.live = live_figure(self._drawn())
        self._show_state()
        progress = [side_by_side([bar, self.readings[name]]) for name, bar in self.bars.items()]
        controls = side_by_side([self.start_button, self.pause_button, self.stop_button, self.axis])
        self.children = (controls, self.sentence, *progress, self.live.widget, self.result)

    def start(self) -> None:
        """Begin; after an end begin again or, with a folder, go on. Whatever else trains in this process is stopped."""
        if self.startable:
            self._begin("preparing")
            self.rows, self.runs, self.errors = [], {}, {}
            self._in_background("live training", self._train_all)

    def wait(self, timeout: Real | None = None) -> pd.DataFrame:
        """As `BackgroundTraining.wait`; returns the verdict."""
        super().wait(timeout)
        return self.verdict

    @property
    def startable(self) -> bool:
        return super().startable and not (self.folder and self.state == "finished")

    @property
    def figure(self) -> BaseFigure:
        return self.live.figure

    @property
    def verdict(self) -> pd.DataFrame:
        """One line per run: how it ended, its last validation loss, its own seconds, its speed."""
        lines = {}
        for name in self.jobs:
            own = [row for row in self._rows_now() if row["run"] == name]
            val = [row for row in own if row["split"] == "val"]
            last = own[-1] if own else {"step": 0, "seconds": 0.0, "tokens": 0}
            lines[name] = {
                "status": self._status(name),
                "steps": last["step"],
                "validation loss": round(val[-1]["loss"], 4) if val else float("nan"),
                "seconds": round(last["seconds"], 2),
                "tokens per second": round(last["tokens"] / last["seconds"]) if last["seconds"] else float("nan"),
            }
        return pd.DataFrame.from_dict(lines, orient="index").rename_axis("run")

    # The threads: one that conducts, and one for each run

    def _train_all(self) -> str:
        self.floor = self.prepare()
        self._train_in_turns()
        return "failed" if self.errors else "stopped" if self.control.stopped else "finished"

    def _fail(self, told: str) -> None:
        self.errors["live training"] = told

    def _train_in_turns(self) -> None:
        turns = Turns(self.jobs)
        threads = [
            threading.Thread(target=self._train, args=(name, turns), name=f"training {name}", daemon=True)
            for name in self.jobs
        ]
        self._prepared()
        for thread in threads:
            thread.start()
        drawn = 0
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(self.SECONDS_PER_REDRAW)
                if len(self.rows) != drawn:
                    drawn = len(self.rows)
                    self._redraw()
        except Exception:
            self.control.stop()  # what cannot be shown does not go on unseen
            raise
        finally:
            for thread in threads:
                thread.join()

    def _train(self, name: str, turns: Turns) -> None:
        def on_row(row: dict) -> None:
            with self.lock:
                self.rows.append(row)
            turns.hand_on(name)

        turns.take(name)
        try:
            if not self.control.stopped:
                run = self.jobs[name](self.control, on_row)
                with self.lock:  # a run that was taken up again also has the rows from before
                    self.rows = [row for row in self.rows if row["run"] != name] + list(run.rows)
                    self.runs[name] = run
                if run.status == "diverged":
                    self.errors[name] = run.message
        except Exception as error:
            self.errors[name] = one_sentence(error)
        finally:
            turns.leave(name)

    # What is seen

    def _rows_now(self) -> list[dict]:
        with self.lock:
            return list(self.rows)

    def _drawn(self) -> go.Figure:
        x = self.axis.value
        return figures.training_curves(self._rows_now(), x, self.floor, end=self.steps if x == "step" else None)

    def _draw(self) -> None:
        self.live.update(self._drawn())
        for name, line in self.verdict.iterrows():
            self.bars[name].value = int(line["steps"])
            told = [f"step {line['steps']} of {self.steps}"]
            if not pd.isna(line["validation loss"]):
                told.append(f"validation loss {line['validation loss']:.3f}")
            if not pd.isna(line["tokens per second"]):
                told.append(f"{line['tokens per second']:,.0f} tokens per second")
            self.readings[name].value = ", ".join(told)

    def _sentences(self) -> dict[str, str]:
        return super()._sentences() | {
            "ready": f"Ready: {', '.join(self.jobs)}, {self.steps} steps each, in turns. Press Start.",
            "preparing": "Preparing the text.",
            "training": "Training, in turns of a few steps; each run's clock counts its own steps only.",
            "stopped": f"Stopped{self._why}. What was measured is kept; "
            + ("Go on takes up from there." if self.folder else "Start begins again."),
            "finished": f"Finished, and kept in {self.folder}: delete it and run the cell again to train anew."
            if self.folder
            else "Finished.",
            "failed": "Ended with an error. " + " ".join(f"{n}: {e}" for n, e in self.errors.items()),
        }

    def _show_state(self) -> None:
        super()._show_state()
        ended = not self.going and self.state != "ready"
        self.start_button.description = ("Go on" if self.folder else "Start again") if ended else "Start"
        self.result.value = self._told() if ended else ""

    def _status(self, name: str) -> str:
        if name in self.errors:
            return "failed"
        return self.runs[name].status if name in self.runs else self.state

    def _told(self) -> str:
        """The verdict in a sentence and a table."""
        verdict = self.verdict
        losses = verdict["validation loss"].dropna().sort_values()
        said = ""
        if len(losses) > 1 and (verdict["status"] == "finished").all():
            best, other = losses.index[:2]
            gap = losses[other] - losses[best]
            said = (
                f"<b>{html.escape(best)}</b> ends lowest, at {losses[best]:.3f} nats per token, "
                f"{gap:.3f} below {html.escape(other)}. One seed each: small gaps mean little."
                if gap >= LEVEL
                else f"{html.escape(best)} and {html.escape(other)} end level, {gap:.3f} nats per token apart."
            )
        numbers = {
            "validation loss": "{:.3f}".format, "seconds": "{:.1f}".format, "tokens per second": "{:,.0f}".format,
        }  # fmt: skip
        shown = verdict.rename_axis(None).to_html(border=0, na_rep="", formatters=numbers, classes="minipolycom")
        return TABLE_CSS + sentence(said) + shown


def live_training(
    activations: Sequence[str] = ("relu", "polynorm"),
    source: str = "stdlib",
    preset: str = "tiny",
    steps: int = 200,
    out: Path | str | None = None,
    **settings,
) -> LiveTraining:
    """Train one small transformer per activation, in turns, and watch their losses fall side by side.

    `source` is a source of `TokenData`, `preset` a size of `GPTConfig`. With `out`, each run keeps its folder there and
    goes on where it was stopped. `settings` are fields of `TrainConfig`, or `batch_size` and `tokenizer`; what is not
    given suits the preset. Running the cell again stops the training that its last run began.

    Raises ValueError for an unknown activation, preset or setting, before anything is trained.
    """
    from minipolycom.model import GPTConfig
    from minipolycom.text import TokenData
    from minipolycom.train import PRESET_TRAINING, fit

    models = {name: GPTConfig.preset(preset, activation=name) for name in activations}
    suited = PRESET_TRAINING[preset] | {
        "log_every": max(1, steps // 40), "eval_every": max(1, steps // 8), "steps": steps, **settings,
    }  # fmt: skip
    batch_size, tokenizer = suited.pop("batch_size"), suited.pop("tokenizer", "bytes")
    training = train_config(suited, "batch_size", "tokenizer")
    context = next(iter(models.values())).context

    def data() -> TokenData:
        return TokenData(source, context=context, batch_size=batch_size, tokenizer=tokenizer, seed=training.seed)

    def prepare() -> tuple[str, Real]:
        tokens = data()
        tokens.prepare_data()
        tokens.setup("fit")
        if tokens.floor is not None:
            return "lowest possible loss", tokens.floor
        return "entropy of single bytes", tokens.unigram_entropy

    def job(name: str) -> Callable:
        folder = Path(out) / name if out else None

        def train(control, on_row):
            tokens = data()
            model = replace(models[name], vocab_size=tokens.tokenizer.vocab_size)
            return fit(tokens, model, training, out=folder, name=name, control=control, on_row=on_row, progress=False)

        return train

    only_one_trains(None)
    return LiveTraining({name: job(name) for name in models}, steps, prepare, Path(out) if out else None)
