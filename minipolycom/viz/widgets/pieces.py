"""What the widgets are put together from: a figure that changes in place; buttons, sliders, sentences, rows."""

from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path

import anywidget
import ipywidgets as widgets
import numpy as np
import plotly
import plotly.graph_objects as go
import traitlets
from plotly.basedatatypes import Undefined

from minipolycom.viz import figures
from minipolycom.viz.theme import PAGE_CSS, RESTING

WIDE = {"description_width": "9.5em"}


def live_figure(figure: go.Figure) -> "FigureInPlace | FigureRedrawn":
    """The figure as a widget (`.widget`) that shows another one after `.update(figure)`.

    In JupyterLab, classic Notebook and VS Code it is plotly's own widget, whose curves move in place. Colab does not
    show that one reliably: there it is a static picture, drawn again each time.
    """
    return FigureRedrawn(figure) if figures.in_colab() else FigureInPlace(figure)


class Frame(anywidget.AnyWidget):
    """What a page must know of the figure beside it: its description, its theme, and when its room changes.

    A `FigureWidget` that is drawn before it has a place on the page takes a width of 700 pixels and keeps it until the
    window changes size; if Python has told it something before it had one, it keeps them for good.
    """

    _esm = """
    export default {
      render({ model, el }) {
        const describe = () => el.setAttribute("aria-label", model.get("alt"));
        const misfit = () => {
          const plot = el.closest(".widget-vbox")?.querySelector(".js-plotly-plot");
          return plot?.clientWidth && plot.layout?.width && plot.layout.width !== plot.clientWidth ? plot : null;
        };
        const resize = () => {
          delete misfit()?.layout.width;
          window.dispatchEvent(new Event("resize"));
        };
        el.setAttribute("role", "img");
        describe();
        model.on("change:alt", describe);
        model.on("change:alt", () => setTimeout(() => misfit() && resize(), 500));  // once the figure has changed, too
        const room = new ResizeObserver(resize);
        room.observe(el);
        document.addEventListener("plotlywidget-after-render", resize);
        return () => {
          room.disconnect();
          document.removeEventListener("plotlywidget-after-render", resize);
        };
      },
    };
    """
    _css = PAGE_CSS
    alt = traitlets.Unicode().tag(sync=True)


class PatientFigure(go.FigureWidget):
    """A `FigureWidget` that is drawn also where plotly's five megabytes of script take their time.

    anywidget waits two seconds for a widget's script and then drops whatever Python says to it, for good: on a busy
    machine the figure stays empty. So the script given to it is a short one, which loads the long one, keeps what
    arrives meanwhile, and hands it on. All figures of a page share the long one.
    """

    _esm = """
    const MESSAGES = ["addTraces", "deleteTraces", "moveTraces", "restyle", "relayout", "update", "animate",
      "removeLayoutProps", "removeTraceProps"].map(name => `_py2js_${name}`);
    export default () => {
      let plotly;
      return {
        initialize({ model }) {
          const early = [];
          const keepers = MESSAGES.map(name => [`change:${name}`, () => early.push([name, model.get(name)])]);
          keepers.forEach(([event, keep]) => model.on(event, keep));
          globalThis.minipolycomPlotly ??= import(
            URL.createObjectURL(new Blob([model.get("_script")], { type: "text/javascript" }))
          );
          plotly = globalThis.minipolycomPlotly.then(async module => {
            const figure = await module.default();
            keepers.forEach(([event, keep]) => model.off(event, keep));
            figure.initialize({ model });
            for (const [name, message] of early) model.set(name, message);
            return figure;
          });
        },
        async render(view) {
          return (await plotly).render(view);
        },
      };
    };
    """
    _script = traitlets.Unicode().tag(sync=True)

    def __init__(self, figure: go.Figure):
        super().__init__(figure)
        self._config = figures.CONFIG

    @traitlets.default("_script")
    def _plotly(self) -> str:
        script = Path(plotly.__file__).with_name("package_data") / "widgetbundle.js"
        return script.read_text(encoding="utf-8") if script.exists() else ""  # plotly 5 extends the front end

    def _send_update_msg(self, restyle_data, relayout_data, trace_indexes=None, source_view_id=None) -> None:
        """Tell the page of a change, of every curve in it what it has then.

        For curves that keep what others change plotly sends a mark that says so, and a page that has not drawn the
        figure yet takes it for what the curve has.
        """
        has = {}
        for name, values in restyle_data.items():
            for place, index in enumerate(trace_indexes if isinstance(values, list) else ()):
                if values[place] is Undefined:
                    has[index] = kept = has.get(index) or self.data[index].to_plotly_json()
                    for part in name.split("."):
                        kept = kept.get(part) if isinstance(kept, dict) else None
                    values[place] = kept  # None where it has no such property: a bar has no line
        super()._send_update_msg(restyle_data, relayout_data, trace_indexes, source_view_id)


class FigureInPlace:
    """One `FigureWidget`, made once and changed from then on."""

    def __init__(self, figure: go.Figure):
        self.figure, self.given = PatientFigure(figure), figure
        self.frame = Frame(alt=figures.alt(figure))
        self.widget = widgets.VBox([self.figure, self.frame])

    def update(self, figure: go.Figure) -> None:
        """Show another figure. The page is told only what differs from the last one, so a reader's zoom stays."""
        before, self.given = self.given, figure
        with self.figure.batch_update():
            self.figure.layout.update(_changes(before.layout, figure.layout), overwrite=True)
            if len(before.data) == len(figure.data):
                for shown, old, new in zip(self.figure.data, before.data, figure.data, strict=True):
                    shown.update(_changes(old, new), overwrite=True)
        if len(before.data) != len(figure.data):
            self.figure.data = ()
            self.figure.add_traces(figure.data)
        self.frame.alt = figures.alt(figure)


def _changes(old, new) -> dict:
    """The properties of `new` that are not as in `old`; None for those that are gone."""
    before, after = old.to_plotly_json(), new.to_plotly_json()
    return {key: after.get(key) for key in before | after if not np.array_equal(before.get(key), after.get(key))}


class FigureRedrawn:
    """The figure as a static picture."""

    def __init__(self, figure: go.Figure):
        self.widget = widgets.HTML()
        self.update(figure)

    def update(self, figure: go.Figure) -> None:
        self.figure = figure
        self.widget.value = figures.static(figure)


def button(label: str, icon: str, action: Callable[[], object]) -> widgets.Button:
    made = widgets.Button(description=label, icon=icon, layout=widgets.Layout(width="9em"))
    made.on_click(lambda _: action())
    return made


def rest(of: widgets.Button, resting: bool) -> None:
    """Show whether a button does nothing just now. It is not disabled: that takes the focus from whoever pressed it."""
    (of.add_class if resting else of.remove_class)(RESTING)


def slider(label: str, low: Real, high: Real, value: Real, step: Real = 1 / 60) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        description=label, min=low, max=high, value=value, step=step, readout_format=".2f" if step < 1 else ".0f",
        style=WIDE, layout=widgets.Layout(width="auto"),
    )  # fmt: skip


def seed_field() -> widgets.BoundedIntText:
    return widgets.BoundedIntText(
        description="seed", min=0, max=2**31 - 1, value=0, style=WIDE, layout=widgets.Layout(width="auto")
    )


def columns(children: Sequence[widgets.Widget], least: str = "20em", gap: str = "1.5em") -> widgets.GridBox:
    """In as many equal columns as the page has room for."""
    return widgets.GridBox(
        list(children),
        layout=widgets.Layout(grid_template_columns=f"repeat(auto-fit, minmax({least}, 1fr))", grid_gap=f"0 {gap}"),
    )


def side_by_side(children: Sequence[widgets.Widget]) -> widgets.Box:
    """In a row, and below each other where the page is narrow."""
    return widgets.Box(
        list(children), layout=widgets.Layout(display="flex", flex_flow="row wrap", align_items="center")
    )


def sentence(text: str, strong: bool = False, news: bool = True) -> str:
    """A line of HTML; screen readers say it by themselves when it changes, unless it is no `news`."""
    role, weight = ' role="status"' if news else "", 600 if strong else 400
    return f'<p{role} style="margin:0.2em 0; line-height:1.45; font-weight:{weight}">{text}</p>' if text else ""


def dropdown(label: str, options: Sequence, value) -> widgets.Dropdown:
    return widgets.Dropdown(
        description=label, options=options, value=value, style=WIDE, layout=widgets.Layout(width="auto")
    )


def one_sentence(error: Exception) -> str:
    """What an error says, in a line; with its type where it is not one of ours."""
    told = " ".join(str(error).split()) or "no message"
    return told if isinstance(error, ValueError) else f"{type(error).__name__}: {told}"
