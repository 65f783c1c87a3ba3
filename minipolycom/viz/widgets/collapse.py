"""Learning without labels, watched: the embedding, both spectra and the rank difference; and a filter by hand."""

import html
import tempfile
from inspect import signature

import ipywidgets as widgets
import plotly.graph_objects as go
import torch
import torch.nn.functional as F

from minipolycom.viz import branches
from minipolycom.viz.widgets.background import BackgroundTraining, only_one_trains
from minipolycom.viz.widgets.pieces import (
    button,
    columns,
    dropdown,
    live_figure,
    one_sentence,
    seed_field,
    sentence,
    side_by_side,
    slider,
)

KEPT = 4
"""How many earlier runs stay in the picture of the ranks."""

SHOWN_IMAGES = 300

FAINTEST = 1e-4
"""Share of the largest mode below which the playground's gains no longer change: such modes are out of the picture, and
a gain without a bound would make the flow so stiff that a slider no longer follows the hand."""

FLOW_ERROR = 1e-4
"""Relative error of a step of the playground's flow, far below the width of a line."""


class CollapseExplorer(BackgroundTraining):
    """See `collapse_explorer`. `method`, `final_norm`, `seed`, `kind`, `location` and `sigma` are there to be set;
    `rows` holds the tables of the run that is shown, `earlier` the ranks of the runs before it."""

    def __init__(self, data, steps: int, method: str):
        from minipolycom.ssl import METHODS
        from minipolycom.ssl.filters import GAINS, LOCATIONS

        super().__init__()
        self.data, self.steps, self.name, self.result = data, steps, "", ""
        self.rows: dict[str, list[dict]] = {"ranks": [], "spectra": []}
        self.earlier: dict[str, list[dict]] = {}
        self._forget_points()

        self.method = dropdown("method", list(METHODS), method)
        self.final_norm = dropdown("last layer", [("normalises", True), ("does not", False)], True)
        self.seed = seed_field()
        self.kind = dropdown("filter", list(GAINS), "power")
        self.location = dropdown("on the branch", list(LOCATIONS), "online")
        self.sigma = slider("sigma", -2, 2, 1.0, step=0.1)
        self.filter_controls = columns([self.kind, self.location, self.sigma])
        self.reading = widgets.HTML()
        self.panels = {name: live_figure(figure) for name, figure in self._drawn().items()}
        self.method.observe(lambda _: self._chosen(), names="value")
        self._chosen()
        self._show_state()
        self.children = (
            columns([self.method, self.final_norm, self.seed]),
            self.filter_controls,
            side_by_side([self.start_button, self.stop_button]),
            self.sentence,
            columns([self.panels["embedding"].widget, self.panels["ranks"].widget], "26em", "1em"),
            self.reading,
            self.panels["spectra"].widget,
        )

    # What a learner does, and a script can do in the same way

    def start(self) -> None:
        """Train the method that is set, from the beginning; the ranks of the last runs stay in the picture."""
        if not self.startable:
            return
        try:
            config = self._config()
        except ValueError as error:
            self.error = one_sentence(error)
            self._enter("refused")
            return
        self._begin("training")
        if self.rows["ranks"]:
            self.earlier[self._free_name()] = self.rows["ranks"]
            self.earlier = dict(list(self.earlier.items())[-KEPT:])
        self.rows = {"ranks": [], "spectra": []}
        self._forget_points()
        self.name, self.result = self.setting, ""
        self._redraw()
        self._in_background("collapse explorer", self._train, config)

    @property
    def setting(self) -> str:
        """What is set, in words: the method as `SSLConfig` names it, and what differs from the recipe."""
        said = [self._recipe()]
        if not self.final_norm.value:
            said.append("last layer does not normalise")
        if self.seed.value:
            said.append(f"seed {self.seed.value}")
        return ", ".join(said)

    def _recipe(self) -> str:
        if not self._takes("filter"):
            return self.method.value
        return f"{self.method.value}@{self.kind.value}:{self.location.value}:{self.sigma.value:g}"

    def _config(self):
        from minipolycom.ssl import SSLConfig

        return SSLConfig(
            method=self._recipe(), final_norm=self.final_norm.value, seed=self.seed.value, steps=self.steps,
            measure_every=max(1, self.steps // 60), checkpoint_every=max(1, self.steps // 15),
            probe_every=self.steps, keep_checkpoints=1,
        )  # fmt: skip

    # The thread that trains

    def _train(self, config) -> str:
        from minipolycom.ssl.runs import SSLRun
        from minipolycom.ssl.train import fit_ssl

        seen = 0

        def on_row(table: str, row: dict) -> None:
            nonlocal seen
            if table in self.rows:
                with self.lock:
                    self.rows[table].append(row)
            whole = table == "spectra"  # the last table of a measurement
            if whole and self._redraw_is_due:
                saved = SSLRun.load(folder)  # whose weights are those of its last checkpoint
                if saved.saved_step > seen:
                    seen = saved.saved_step
                    self._embed(saved)
                self._redraw()

        with tempfile.TemporaryDirectory(prefix="collapse-", ignore_cleanup_errors=True) as folder:
            run = fit_ssl(self.data, config, out=folder, control=self.control, on_row=on_row, progress=False)
            if run.saved_step:
                self._embed(run)
        self.error = run.message if run.status == "diverged" else ""
        told = run.summary()
        if told["probe"] is not None:
            self.result = (
                f"Nearest neighbours classify {told['knn_augmented']:.0%} of augmented test images, a linear probe "
                f"of the backbone {told['probe']:.0%} of clean ones."
            )
        return run.status

    @torch.no_grad()
    def _embed(self, run) -> None:
        """Where the run's network sends test images: outputs of length one, in their two leading directions.

        Directions are those of the second moments, not centred, as in all measures of rank here. In its plane the
        picture is turned to lie as the one before did, or signs of eigenvectors would make it jump.
        """
        images, method = self.data.test_images(SHOWN_IMAGES), run.method()
        method.train()  # as the loss sees them: early on, running averages are still far from a batch's own
        rows_NZ = F.normalize(method.projector(method.encoder(images.clean)).float(), dim=1)
        _, _, directions = torch.linalg.svd(rows_NZ.double(), full_matrices=False)
        points_N2 = (rows_NZ.double() @ directions[:2].mT).float()
        if len(self.points) == len(points_N2):
            left, _, right = torch.linalg.svd(points_N2.mT @ self.points)
            points_N2 = points_N2 @ left @ right
        labels = images.labels if images.labels is not None else torch.zeros(len(rows_NZ), dtype=torch.int64)
        with self.lock:
            self.points, self.labels = points_N2, labels
            self.classes = self.data.source.class_names or [str(n) for n in range(int(labels.max()) + 1)]

    def _forget_points(self) -> None:
        self.points, self.labels, self.classes = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), []

    # What is seen

    def _drawn(self) -> dict[str, go.Figure]:
        with self.lock:
            rows = {name: list(own) for name, own in self.rows.items()}
            return {
                "embedding": branches.embedding(self.points, self.labels, self.classes, "Outputs for test images"),
                "ranks": branches.rank_through_training(rows["ranks"], self.earlier, self.steps),
                "spectra": branches.branch_spectra(rows["spectra"]),
            }

    def _draw(self) -> None:
        for name, figure in self._drawn().items():
            self.panels[name].update(figure)
        self.reading.value = sentence(html.escape(self._read()), news=False)

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
        return f"{told}; {verdict}. {self.result}".rstrip()

    def _takes(self, setting: str) -> bool:
        from minipolycom.ssl import METHODS

        return setting in signature(METHODS[self.method.value]).parameters

    def _chosen(self) -> None:
        """Offer what the method has, as its recipe has it."""
        from minipolycom.ssl import METHODS

        self.filter_controls.layout.display = None if self._takes("filter") else "none"
        self.final_norm.layout.display = None if self._takes("final_norm") else "none"
        if not self._takes("final_norm"):
            self.final_norm.value = True
        if self._takes("filter"):
            own = METHODS[self.method.value].keywords["filter"]
            self.kind.value, self.location.value, self.sigma.value = own.kind, own.location, own.sigma

    def _free_name(self) -> str:
        taken = (self.name, *(f"{self.name}, run {n}" for n in range(2, 1000)))
        return next(name for name in taken if name not in self.earlier)

    def _sentences(self) -> dict[str, str]:
        return super()._sentences() | {
            "ready": f"Ready: {self.steps} steps on {self.data.settings['source']}. Choose a method and press Start.",
            "stopped": f"Stopped{self._why}. Start begins a new run; this one stays in the picture of the ranks.",
            "finished": "Finished. Change one thing and start again; this run stays in the picture of the ranks.",
            "refused": f"Not started: {self.error}",
        }


class FilterPlayground(widgets.VBox):
    """See `filter_playground`. The controls are there to be set; `figure` is what they show."""

    def __init__(self):
        from minipolycom.ssl.dynamics import INVARIANCE
        from minipolycom.ssl.filters import GAINS, LOCATIONS

        self.n_modes = len(INVARIANCE)
        self.kind = dropdown("filter", [kind for kind in GAINS if kind != "log"], "power")
        self.location = dropdown("on the branch", list(LOCATIONS), "online")
        self.sigma = slider("sigma", -2, 2, 1.0, step=0.1)
        self.decay = slider("spectral decay", 0, 3, 1.0, step=0.1)
        self.clean = slider("lowest rho", 0.05, 0.95, 0.3, step=0.05)
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
        from minipolycom.ssl.dynamics import INVARIANCE, filter_gains, filtered, flow, growth_rates
        from minipolycom.ssl.filters import Filter

        modes = torch.arange(self.n_modes, dtype=torch.float64)
        spectrum = (modes + 1) ** -self.decay.value
        rho = INVARIANCE[0] - (INVARIANCE[0] - self.clean.value) * modes / (self.n_modes - 1)
        chosen = Filter(self.kind.value, self.location.value, round(self.sigma.value, 3))
        unbounded = filter_gains(chosen)
        online, target = unbounded(spectrum)
        gain = online if chosen.location == "online" else target
        rates = growth_rates(spectrum, rho, online, target)
        now, of_online, of_target = (
            float(effective_rank(eigenvalues))
            for eigenvalues in (spectrum, filtered(spectrum, online), filtered(spectrum, target))
        )
        told = f"Effective rank online {of_online:.1f}, target {of_target:.1f}, difference {of_target - of_online:+.1f}"
        try:
            later = flow(
                spectrum, rho, lambda l_R: unbounded(l_R.clamp_min(FAINTEST * l_R.max())),
                torch.tensor([self.time.value]), FLOW_ERROR,
            )[-1]  # fmt: skip
        except ValueError as error:
            return branches.filter_action(spectrum, gain, rates, None, chosen.location), f"{told}; {error}."
        then = float(effective_rank(later))
        what = "rises" if then > now + 0.01 else "falls" if then < now - 0.01 else "stays"
        return branches.filter_action(spectrum, gain, rates, later, chosen.location), (
            f"{told}; that of the features <b>{what}</b> from {now:.1f} to {then:.1f}."
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
    branch and the strength that are set. `source` is a source of `ssl.images.ViewData`. Nothing is kept on disk.
    Running the cell again stops the training that its last run began.

    Raises ValueError for an unknown source or method, and for a size that cannot work, before anything is trained.
    """
    from minipolycom.checking import check_known
    from minipolycom.ssl import METHODS, SSLConfig, ViewData

    check_known("method", method, METHODS)
    SSLConfig(steps=steps)
    data = ViewData(source, batch_size=batch_size)
    data.setup()
    only_one_trains(None)
    return CollapseExplorer(data, steps, method)


def filter_playground() -> FilterPlayground:
    """A spectral filter by hand: what it makes of a spectrum, which modes then grow, and where the spectrum goes.

    The sixteen modes have correlations rho between views from 0.95 down to the one that is set; rates and the later
    spectrum are those of `ssl.dynamics`, statement B. A plain logarithm is not among the filters: its gain is negative
    for small singular values, and no strength but 1 is defined.
    """
    return FilterPlayground()
