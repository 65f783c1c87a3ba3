"""Learning without labels, watched: the embedding, both spectra and the rank difference; and a filter by hand."""

import html
import tempfile
import threading
import time
from numbers import Real
from pathlib import Path

import ipywidgets as widgets
import plotly.graph_objects as go
import torch
import torch.nn.functional as F

from minipolycom.viz import branches
from minipolycom.viz.widgets.pieces import (
    button,
    columns,
    dropdown,
    live_figure,
    one_sentence,
    only_one_trains,
    rest,
    sentence,
    side_by_side,
    slider,
)

KEPT = 4
"""How many earlier runs stay in the picture of the ranks."""

SHOWN_IMAGES = 300


class CollapseExplorer(widgets.VBox):
    """See `collapse_explorer`. `method`, `kind`, `location`, `sigma` and `seed` are there to be set; `rows` holds the
    tables of the run that is shown, `earlier` those of the runs before it."""

    SECONDS_PER_REDRAW = 0.5

    def __init__(self, source: str, steps: int, batch_size: int, method: str):
        from minipolycom.ssl import METHODS
        from minipolycom.ssl.filters import GAINS, LOCATIONS
        from minipolycom.ssl.images import ViewData

        self.data = ViewData(source, batch_size=batch_size)
        self.steps = steps
        self.state, self.reason, self.error = "ready", "", ""
        self.superseded = False
        self.control, self.conductor, self.drawn_at = None, None, 0.0
        self.lock = threading.RLock()
        self.name = ""
        self.rows: dict[str, list[dict]] = {"ranks": [], "spectra": []}
        self.earlier: dict[str, list[dict]] = {}
        self.points, self.labels, self.classes = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), []

        self.start_button = button("Start", "play", self.start)
        self.stop_button = button("Stop", "stop", self.stop)
        self.method = dropdown("method", list(METHODS), method)
        self.final_norm = dropdown("last layer", [("normalises", True), ("does not", False)], True)
        self.kind = dropdown("filter", list(GAINS), "power")
        self.location = dropdown("on the branch", list(LOCATIONS), "online")
        self.sigma = slider("sigma", -2, 2, 1.0, step=0.1)
        self.filter_controls = columns([self.kind, self.location, self.sigma])
        self.sentence, self.reading = widgets.HTML(), widgets.HTML()
        self.panels = {name: live_figure(figure) for name, figure in self._drawn().items()}
        self.method.observe(lambda _: self._chosen(), names="value")
        self._chosen()
        self._show_state()
        grid = widgets.GridBox(
            [self.panels["embedding"].widget, self.panels["ranks"].widget],
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(26em, 1fr))", grid_gap="0 1em"),
        )
        super().__init__(
            [
                columns([self.method, self.final_norm]),
                self.filter_controls,
                side_by_side([self.start_button, self.stop_button]),
                self.sentence,
                grid,
                self.reading,
                self.panels["spectra"].widget,
            ]
        )

    # What a learner does, and a script can do in the same way

    def start(self) -> None:
        """Train the method that is set, from the beginning; the ranks of the last runs stay in the picture."""
        from minipolycom.control import Control

        if self.going:
            return
        self._join()
        only_one_trains(self)
        if self.rows["ranks"]:
            self.earlier[self._free_name()] = self.rows["ranks"]
            self.earlier = dict(list(self.earlier.items())[-KEPT:])
        self.rows = {"ranks": [], "spectra": []}
        self.control, self.reason, self.error, self.superseded = Control(), "", "", False
        self.name = self.setting
        self._enter("training")
        self.conductor = threading.Thread(target=self._train, name="collapse explorer", daemon=True)
        self.conductor.start()

    def stop(self, reason: str = "") -> None:
        """End after the current step."""
        with self.lock:
            if self.going:
                self.reason = reason
                self._enter("stopping")
                self.control.stop()

    def wait(self, timeout: Real | None = None) -> None:
        """Return when the training has ended, or `timeout` seconds are over; start it if nothing was started yet.

        Interrupting it (the notebook's stop button) stops the training after the current step.
        """
        if self.state == "ready":
            self.start()
        try:
            self._join(timeout)
        except KeyboardInterrupt:
            self.stop("interrupted")
            self._join()

    @property
    def going(self) -> bool:
        return self.state in ("training", "stopping")

    @property
    def setting(self) -> str:
        """The method as `SSLConfig` names it, with the filter that is set."""
        if not self._takes_filter():
            return self.method.value
        return f"{self.method.value}@{self.kind.value}:{self.location.value}:{self.sigma.value:g}"

    # The thread that trains

    def _train(self) -> None:
        from minipolycom.ssl.runs import SSLRun
        from minipolycom.ssl.train import SSLConfig, fit_ssl

        folder = Path(tempfile.mkdtemp(prefix="collapse-"))
        seen = 0

        def on_row(table: str, row: dict) -> None:
            nonlocal seen
            if table in self.rows:
                with self.lock:
                    self.rows[table].append(row)
            if time.monotonic() - self.drawn_at >= self.SECONDS_PER_REDRAW:
                saved = SSLRun.load(folder)
                if saved.saved_step > seen:
                    seen = saved.saved_step
                    self._embed(saved)
                self._redraw()

        run = None
        try:
            config = SSLConfig(
                method=self.name, final_norm=self.final_norm.value, steps=self.steps, probe_every=self.steps,
                measure_every=max(1, self.steps // 60), checkpoint_every=max(1, self.steps // 15), keep_checkpoints=1,
            )  # fmt: skip
            run = fit_ssl(self.data, config, out=folder, control=self.control, on_row=on_row, progress=False)
            self._embed(run)
            self.error = run.message if run.status == "diverged" else ""
            told = run.summary()
            self.result = ", ".join(
                f"{said} {told[key]:.2f}"
                for key, said in (("knn_augmented", "nearest neighbours find"), ("probe", "a linear probe"))
                if told[key] is not None
            )
        except Exception as error:  # shown in the widget: in a thread nobody would see it
            self.error = one_sentence(error)
        if self.superseded:
            self.state = "stopped"
            return
        self._enter("failed" if self.error else run.status)
        self._redraw()

    result = ""

    @torch.no_grad()
    def _embed(self, run) -> None:
        """Where the run's network sends test images: outputs of length one, in their two leading directions."""
        from minipolycom.ssl.probes import features_of

        images = self.data.test_images(SHOWN_IMAGES)
        rows_NZ = F.normalize(features_of(run.method(), images.clean)[1], dim=1)
        centred_NZ = rows_NZ - rows_NZ.mean(dim=0)
        _, _, directions = torch.linalg.svd(centred_NZ.double(), full_matrices=False)
        labels = images.labels if images.labels is not None else torch.zeros(len(rows_NZ), dtype=torch.int64)
        with self.lock:
            self.points, self.labels = (centred_NZ.double() @ directions[:2].mT).float(), labels
            self.classes = self.data.source.class_names or [str(n) for n in range(int(labels.max()) + 1)]

    def _join(self, timeout: Real | None = None) -> None:
        if self.conductor is not None:
            self.conductor.join(timeout)

    # What is seen

    def _drawn(self) -> dict[str, go.Figure]:
        with self.lock:
            rows = {name: list(own) for name, own in self.rows.items()}
            return {
                "embedding": branches.embedding(self.points, self.labels, self.classes, "Test images, embedded"),
                "ranks": branches.rank_through_training(rows["ranks"], self.earlier),
                "spectra": branches.branch_spectra(rows["spectra"]),
            }

    def _redraw(self) -> None:
        if self.superseded:
            return
        with self.lock:
            for name, figure in self._drawn().items():
                self.panels[name].update(figure)
            self.reading.value = sentence(html.escape(self._read()))
            self.drawn_at = time.monotonic()

    def _read(self) -> str:
        if not self.rows["ranks"]:
            return ""
        from minipolycom.ssl.measures import COLLAPSES

        last = self.rows["ranks"][-1]
        told = (
            f"{self.name}, step {last['step']} of {self.steps}: target rank minus online rank "
            f"{last['rank_difference']:+.1f}, feature std {last['feature_std']:.2f}"
        )
        verdict = COLLAPSES.get(last["collapse"], "no collapse")
        ended = f". {self.result}" if self.state == "finished" and self.result else ""
        return f"{told}; {verdict}{ended}."

    def _takes_filter(self) -> bool:
        from inspect import signature

        from minipolycom.ssl import METHODS

        return "filter" in signature(METHODS[self.method.value]).parameters

    def _chosen(self) -> None:
        from minipolycom.ssl import METHODS

        self.filter_controls.layout.display = None if self._takes_filter() else "none"
        if self._takes_filter():
            own = METHODS[self.method.value].keywords["filter"]
            self.kind.value, self.location.value, self.sigma.value = own.kind, own.location, own.sigma

    def _free_name(self) -> str:
        taken = (self.name, *(f"{self.name}, run {n}" for n in range(2, 1000)))
        return next(name for name in taken if name not in self.earlier)

    def _enter(self, state: str) -> None:
        with self.lock:
            self.state = state
            self._show_state()

    def _show_state(self) -> None:
        why = f" ({self.reason})" if self.reason else ""
        said = {
            "ready": f"Ready: {self.steps} steps on {self.data.settings['source']}. Choose a method and press Start.",
            "training": "Training.",
            "stopping": f"Stopping after the current step{why}.",
            "stopped": f"Stopped{why}. Start begins a new run; this one stays in the picture of the ranks.",
            "finished": "Finished. Change one thing and start again; this run stays in the picture of the ranks.",
            "failed": f"Ended: {self.error}",
        }[self.state]
        self.sentence.value = sentence(html.escape(said), strong=self.state == "failed")
        rest(self.start_button, self.going)
        rest(self.stop_button, self.state != "training")


class FilterPlayground(widgets.VBox):
    """See `filter_playground`. The controls are there to be set; `figure` is what they show."""

    def __init__(self):
        from minipolycom.ssl.dynamics import INVARIANCE
        from minipolycom.ssl.filters import GAINS, LOCATIONS

        self.n_modes = len(INVARIANCE)
        self.kind = dropdown("filter", [kind for kind in GAINS if kind != "log"], "power")
        self.location = dropdown("on the branch", list(LOCATIONS), "online")
        self.sigma = slider("sigma", -2, 2, 1.0, step=0.1)
        self.decay = slider("decay of the spectrum", 0, 3, 1.0, step=0.1)
        self.clean = slider("least clean mode, rho", 0.05, 1, 0.3, step=0.05)
        self.time = slider("time that passes", 0.1, 30, 5.0, step=0.1)
        self.reset = button("Reset", "undo", self.start_values)
        self.controls = (self.kind, self.location, self.sigma, self.decay, self.clean, self.time)
        self.first_values = [control.value for control in self.controls]
        self.reading = widgets.HTML()
        figure, told = self._drawn()
        self.live, self.reading.value = live_figure(figure), sentence(told)
        for control in self.controls:
            control.observe(lambda _: self._redraw(), names="value")
        super().__init__([columns([*self.controls, self.reset]), self.live.widget, self.reading])

    def start_values(self) -> None:
        """Put every control back where it was at first."""
        for control, value in zip(self.controls, self.first_values, strict=True):
            control.value = value

    @property
    def figure(self) -> go.Figure:
        return self.live.given

    def _drawn(self) -> tuple[go.Figure, str]:
        from minipolycom.spectral import effective_rank
        from minipolycom.ssl.dynamics import filter_gains, filtered, flow, growth_rates
        from minipolycom.ssl.filters import Filter

        modes = torch.arange(self.n_modes, dtype=torch.float64)
        spectrum = (modes + 1) ** -self.decay.value
        rho = 0.95 - (0.95 - min(0.95, self.clean.value)) * modes / (self.n_modes - 1)
        chosen = Filter(self.kind.value, self.location.value, round(self.sigma.value, 3))
        gains = filter_gains(chosen)
        online, target = gains(spectrum)
        later = flow(spectrum, rho, gains, torch.tensor([self.time.value]))[-1]
        gain = online if chosen.location == "online" else target
        figure = branches.filter_action(
            spectrum, gain, growth_rates(spectrum, rho, online, target), later, chosen.location
        )
        ranks = [float(effective_rank(s)) for s in (filtered(spectrum, online), filtered(spectrum, target), later)]
        grown = ranks[2] - float(effective_rank(spectrum))
        what = "rises" if grown > 0.01 else "falls" if grown < -0.01 else "stays"
        return figure, (
            f"Effective rank online {ranks[0]:.1f}, target {ranks[1]:.1f}, difference {ranks[1] - ranks[0]:+.1f}; "
            f"that of the features <b>{what}</b> from {ranks[2] - grown:.1f} to {ranks[2]:.1f}."
        )

    def _redraw(self) -> None:
        figure, told = self._drawn()
        self.live.update(figure)
        self.reading.value = sentence(told)


def collapse_explorer(
    source: str = "digits", steps: int = 300, batch_size: int = 256, method: str = "simsiam"
) -> CollapseExplorer:
    """Train a method without labels and watch where it sends images, both branches' ranks, their spectra and filter.

    Choose a method, or a control from which something is left out; those with a spectral filter take the kind, the
    branch and the strength that are set. `source` is a source of `ssl.images.ViewData`.

    Raises ValueError for an unknown source or method, before anything is trained.
    """
    from minipolycom.checking import check_known
    from minipolycom.ssl import METHODS

    check_known("method", method, METHODS)
    only_one_trains(None)
    return CollapseExplorer(source, steps, batch_size, method)


def filter_playground() -> FilterPlayground:
    """A spectral filter by hand: what it makes of a spectrum, which modes then grow, and where the spectrum goes.

    The sixteen modes have correlations rho between views from 0.95 down to the one that is set; rates and the later
    spectrum are those of `ssl.dynamics`, statement B.
    """
    return FilterPlayground()
