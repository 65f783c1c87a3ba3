"""Widgets: an activation under sliders, trainings that can be watched and steered, predictions made before looking.

They wrap the pure functions of `figures` and hold no arithmetic of their own. Core ipywidgets only, in the API that
versions 7.7 and 8 share. Setting a control's `.value` in plain Python does what moving it in the browser does.

    pieces        a figure that changes in place; buttons, sliders, sentences
    explorer      activation_explorer, row_explorer
    background    what the widgets that train share: a thread, buttons, states; that one trains at a time
    training      live_training
    cockpit       cockpit: one training that can be held, scrubbed and branched
    rank_lens     rank_lens: two runs layer by layer, at equal step or equal loss
    router_view   router_view: which expert reads which token
    collapse      collapse_explorer, filter_playground: learning without labels
    prediction    choose, choose_curve, guess_number
"""

from minipolycom.viz.widgets.cockpit import Cockpit, cockpit
from minipolycom.viz.widgets.collapse import collapse_explorer, filter_playground
from minipolycom.viz.widgets.explorer import activation_explorer, row_explorer
from minipolycom.viz.widgets.pieces import live_figure
from minipolycom.viz.widgets.prediction import choose, choose_curve, guess_number
from minipolycom.viz.widgets.rank_lens import rank_lens
from minipolycom.viz.widgets.router_view import router_view
from minipolycom.viz.widgets.training import LiveTraining, live_training

__all__ = [
    "Cockpit",
    "LiveTraining",
    "activation_explorer",
    "choose",
    "choose_curve",
    "cockpit",
    "collapse_explorer",
    "filter_playground",
    "guess_number",
    "live_figure",
    "live_training",
    "rank_lens",
    "router_view",
    "row_explorer",
]
