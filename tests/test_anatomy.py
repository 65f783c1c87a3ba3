"""The transformer taken apart: drawings that carry their words and numbers, figures that show what they were given."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from minipolycom import GPT, GPTConfig
from minipolycom.activations import ACTIVATION_NAMES
from minipolycom.model import Rotary
from minipolycom.viz import anatomy
from minipolycom.viz.figures import alt, fold, static, table

# -- drawings ------------------------------------------------------------------------------------------------------


def tiny(activation: str = "polynorm") -> GPTConfig:
    return GPTConfig.preset("tiny", activation=activation)


def texts(drawing: anatomy.Drawing) -> list[str]:
    root = ElementTree.fromstring(drawing.svg)
    return [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]


def rectangles(drawing: anatomy.Drawing) -> list[dict[str, float]]:
    root = ElementTree.fromstring(drawing.svg)
    sides = ("x", "y", "width", "height")
    return [{s: float(node.get(s)) for s in sides} for node in root.iter("{http://www.w3.org/2000/svg}rect")]


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_the_numbers_of_the_block_are_those_of_the_model(activation):
    block = GPT(tiny(activation)).blocks[0]
    drawing = anatomy.block_diagram(tiny(activation))
    assert drawing.numbers["parameters"].sum() == sum(parameter.numel() for parameter in block.parameters())
    assert f"up {block.feed_forward.up.weight.numel():,}" in drawing.alt or block.feed_forward.gate is not None


def test_the_block_names_its_parts_in_order_and_marks_the_activation():
    drawing = anatomy.block_diagram(tiny("polyrelu"))
    named = [
        text for text in texts(drawing) if text in ("norm", "q, k, v", "rotate", "attend", "out", "up", "polyrelu")
    ]
    assert named == ["norm", "q, k, v", "rotate", "attend", "out", "norm", "up", "polyrelu"]
    assert "gate, up" in texts(anatomy.block_diagram(tiny("swiglu")))
    assert "silu" in texts(anatomy.block_diagram(tiny("swiglu")))


@pytest.mark.parametrize("activation", ["relu", "squared_relu", "swiglu"])
def test_the_boxes_of_the_block_stay_on_the_page_and_apart(activation):
    boxes = rectangles(anatomy.block_diagram(tiny(activation)))
    assert len(boxes) == 9
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= anatomy.WIDTH for box in boxes)
    ends = sorted((box["x"], box["x"] + box["width"]) for box in boxes)
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_a_block_with_experts_is_refused():
    with pytest.raises(ValueError, match="the drawing is of a dense block; make the configuration with n_experts=0"):
        anatomy.block_diagram(GPTConfig.preset("tiny-moe"))


def test_area_is_parameters():
    configs = [tiny("relu"), tiny("swiglu")]
    drawing = anatomy.matrices_to_scale(configs)
    area = [box["width"] * box["height"] for box in rectangles(drawing)]
    assert len(area) == 5
    counted = drawing.numbers["parameters"].tolist()
    assert counted == [2 * 128 * 512, 3 * 128 * 344]
    assert sum(area[2:]) / sum(area[:2]) == pytest.approx(counted[1] / counted[0], rel=2e-3)  # drawn to 0.1 of a unit


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="there is nothing to draw: give at least one configuration"):
        anatomy.matrices_to_scale([])


def test_a_drawing_shows_its_picture_its_words_and_its_table():
    drawing = anatomy.matrices_to_scale([tiny("relu")])
    page = drawing._repr_html_()
    assert page.startswith("<svg")
    assert f'role="img" aria-label="{drawing.alt}"' in page
    assert "131072" in page.split("<details>")[1]
    assert repr(drawing) == drawing.alt


# -- rotary turns --------------------------------------------------------------------------------------------------


def turned(T: int = 12, K: int = 8) -> torch.Tensor:
    pointing_right = torch.cat([torch.ones(K // 2), torch.zeros(K // 2)]).repeat(1, 1, T, 1)
    return Rotary(d_head=K, context=T, base=10_000.0)(pointing_right)[0, 0]


def test_the_turns_are_those_of_the_pairs():
    x_TK = turned()
    figure = anatomy.rotary_turns(x_TK, pairs=[0, 3])
    path = figure.data[2]
    assert np.array_equal(path.x, x_TK[:, 3].numpy())
    assert np.array_equal(path.y, x_TK[:, 7].numpy())
    angles = table(figure)
    assert angles.columns.tolist() == ["pair 0", "pair 3"]
    np.testing.assert_allclose(angles["pair 0"], np.arange(12), atol=1e-5)  # one radian a position, in fp32
    np.testing.assert_allclose(angles["pair 3"], np.arange(12) * 10_000.0 ** (-6 / 8), atol=1e-6)
    assert "pair 0 by 1.75" in alt(figure)  # 11 radians of 2 pi


def test_an_unknown_pair_is_refused():
    with pytest.raises(ValueError, match=r"a vector of 8 entries has the pairs 0 to 3; got 4"):
        anatomy.rotary_turns(turned(), pairs=[0, 4])


# -- attention maps ------------------------------------------------------------------------------------------------


def test_a_map_stands_the_right_way_up():
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.2, 0.3, 0.5]])
    figure = anatomy.attention_maps({"one": weight, "none": 0 * weight})
    heat = figure.data[0]
    assert list(heat.y) == ["2", "1", "0"]  # plotly draws the first name at the bottom
    assert np.array_equal(np.array(heat.z)[-1], [1.0, 0.0, 0.0])
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(0.0, 1.0)}
    assert [trace.showscale for trace in figure.data] == [False, True]
    assert static(figure).count("weight: dark 0, bright 1") == 2  # the static picture has one scale for both, too
    assert table(figure).loc["one: 1"].tolist() == [0.25, 0.75, 0.0]
    assert "one: weight 0 to 1, mean on the diagonal 0.75, after it 0" in alt(figure)


def test_positions_with_the_same_label_stay_apart():
    figure = anatomy.attention_maps({"one": torch.eye(3)}, labels=["a", "b", "a"])
    assert list(figure.data[0].x) == ["a 0", "b 1", "a 2"]
    assert list(figure.layout.xaxis.ticktext) == ["a", "b", "a"]
    picture = ElementTree.fromstring(static(figure))
    shown = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert shown.count("a") == 4  # twice along each axis


def test_maps_and_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"maps that stand side by side have one size; got \[\(2, 2\), \(3, 3\)\]"):
        anatomy.attention_maps({"a": torch.eye(2), "b": torch.eye(3)})
    with pytest.raises(ValueError, match="one label for each of 3 positions; got 2"):
        anatomy.attention_maps({"a": torch.eye(3)}, labels=["x", "y"])


# -- powers --------------------------------------------------------------------------------------------------------


def test_the_sizes_of_the_terms_are_those_of_normal_inputs():
    figure = anatomy.powers_at_scales([0.5, 2])
    x = torch.special.ndtri((torch.arange(2**18, dtype=torch.float64) + 0.5) / 2**18)
    for scale in (0.5, 2):
        for power, size in enumerate(table(figure)[f"s = {scale:g}"], start=1):
            measured = float(((scale * x).relu() ** power / 3).square().mean().sqrt())
            assert size == pytest.approx(measured, rel=1e-3)  # the quantiles leave out the outermost tail


def test_the_terms_are_drawn_as_they_are():
    figure = anatomy.powers_at_scales([0.5])
    cubic = next(trace for trace in figure.data if trace.name == "a₃ relu(x)³")
    assert cubic.y[-1] == pytest.approx(1.5**3 / 3)
    assert cubic.y[0] == 0


@pytest.mark.parametrize("scale", [0, -1.0, math.nan])
def test_a_scale_is_positive(scale):
    with pytest.raises(ValueError, match="a standard deviation is positive"):
        anatomy.powers_at_scales([scale])


# -- all -----------------------------------------------------------------------------------------------------------

FIGURES = {
    "rotary_turns": lambda: anatomy.rotary_turns(turned(), pairs=[0, 1]),
    "attention_maps": lambda: anatomy.attention_maps({"one": torch.eye(4), "two": torch.ones(4, 4)}),
    "powers_at_scales": lambda: anatomy.powers_at_scales([0.1, 1]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_and_gives_its_numbers_and_has_a_static_picture(name):
    figure = FIGURES[name]()
    assert len(alt(figure)) > 40
    assert isinstance(table(figure), pd.DataFrame)
    assert table(figure).notna().all(axis=None)
    assert "<table" in fold(figure)
    ElementTree.fromstring(static(figure))
    assert figure.to_json()  # as a notebook keeps it
