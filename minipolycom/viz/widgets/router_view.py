"""Which expert reads which token of the learner's own text."""

import html
from pathlib import Path

import ipywidgets as widgets
import torch

from minipolycom.viz import recorded
from minipolycom.viz.theme import PALETTE
from minipolycom.viz.widgets.pieces import WIDE, columns, dropdown, live_figure, sentence

TEXT = "def area(width, height):\n    return width * height"


class RouterView(widgets.VBox):
    """See `router_view`. `text`, `layer` and `slot` are there to be set; `chosen` holds the experts of each token."""

    def __init__(self, run, text: str):
        self.run, self.model = run, run.model()
        self.layers = [n for n, block in enumerate(self.model.blocks) if hasattr(block.feed_forward, "chosen_BTS")]
        config = run.model_config
        self.text = widgets.Textarea(
            description="your text", value=text, continuous_update=False, rows=4, style=WIDE,
            layout=widgets.Layout(width="auto"),
        )  # fmt: skip
        self.layer = dropdown("layer", self.layers, self.layers[0])
        self.slot = dropdown("colour by", [(f"choice {n + 1}", n) for n in range(config.experts_per_token)], 0)
        self.shown, self.reading = widgets.HTML(), widgets.HTML()
        self.live = live_figure(recorded.expert_load(run.table("routers"), self.layer.value))
        for control in (self.text, self.layer, self.slot):
            control.observe(lambda _: self._redraw(), names="value")
        self._redraw()
        controls = columns([self.layer, self.slot])
        super().__init__([self.text, controls, self.shown, self.reading, self.live.widget])

    @torch.no_grad()
    def _route(self) -> tuple[list[str], list[list[int]]]:
        """The tokens of the text, as they are written, and the experts that each one is sent to."""
        tokenizer = self.run.tokenizer
        tokens = (tokenizer.encode(self.text.value) or [0])[: self.run.model_config.context]
        self.model(torch.tensor([tokens]))
        chosen_TS = self.model.blocks[self.layer.value].feed_forward.chosen_BTS[0]
        return [tokenizer.decode([token]) for token in tokens], chosen_TS.tolist()

    def _redraw(self) -> None:
        written, self.chosen = self._route()
        experts = [choices[self.slot.value] for choices in self.chosen]
        n_experts = self.run.model_config.n_experts
        self.shown.value = (
            '<p style="line-height:2; font-family:monospace; white-space:pre-wrap">'
            + "".join(_marked(token, expert) for token, expert in zip(written, experts, strict=True))
            + "</p><p>"
            + " &ensp; ".join(_marked(f"expert {expert}", expert) for expert in range(n_experts))
            + "</p>"
        )
        used = {expert for choices in self.chosen for expert in choices}
        idle = [str(expert) for expert in range(n_experts) if expert not in used]
        own = [row for row in self.run.table("routers") if row["layer"] == self.layer.value]
        dead = f" At the last recording, {own[-1]['dead']} of {n_experts} got nothing." if own else ""
        unread = f" Experts {', '.join(idle)} read none of it." if idle else " Every expert reads some of it."
        self.reading.value = sentence(f"{len(written)} tokens, layer {self.layer.value}.{unread}{dead}")
        self.live.update(recorded.expert_load(self.run.table("routers"), self.layer.value))


def _marked(token: str, expert: int) -> str:
    """A token underlined in its expert's colour and style, with the expert's number for those who see no colours."""
    colours = list(PALETTE.values())
    colour = colours[expert % len(colours)]
    line = ("solid", "double", "dashed", "dotted", "wavy")[expert // len(colours) % 5]
    shown = html.escape(token).replace("\n", "↵\n")
    return (
        f'<span title="expert {expert}" style="text-decoration: underline {line} {colour} 3px; '
        f'text-underline-offset: 4px">{shown}</span>'
        f'<sub style="color:{colour}; font-size:0.65em" aria-label="expert {expert}">{expert}</sub>'
    )


def router_view(run, text: str = TEXT) -> RouterView:
    """A text of the learner's, each token marked with the expert that reads it; below, the experts' load in training.

    `run` is a `Run` with experts, or its folder.

    Raises ValueError for a run without experts.
    """
    from minipolycom.runs import Run

    run = Run.load(run) if isinstance(run, str | Path) else run
    if not run.model_config.n_experts:
        raise ValueError(f"run {run.name!r} has no experts: train one with a preset such as tiny-moe")
    return RouterView(run, text)
