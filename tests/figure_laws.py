"""What holds of every figure of the course, asserted in the tests of each module of figures."""

from xml.etree import ElementTree

import numpy as np
from plotly.basedatatypes import BaseFigure

from minipolycom.viz.figures import alt, fold, static, table


def says_its_numbers(figure: BaseFigure) -> None:
    """Its alt text has numbers, it has a table and a fold, and its static twin says the same and places everything."""
    assert any(digit.isdigit() for digit in alt(figure))
    assert len(table(figure))
    assert alt(figure).split(":")[0] in fold(figure)
    picture = ElementTree.fromstring(static(figure))
    assert picture.get("aria-label") == alt(figure)
    numbers = [float(v) for e in picture.iter() for key in ("x", "y", "x1", "x2", "cx", "cy") if (v := e.get(key))]
    assert np.isfinite(numbers).all()
    assert "None" not in static(figure)


def looks_apart(figure: BaseFigure, by_colour_of_marks: bool = False) -> None:
    """No two entries of its legend look alike; marks differ by their shape, unless their colour may do."""
    named = [trace for trace in figure.data if trace.showlegend is not False]
    looks = [
        (trace.line.color, trace.line.dash, trace.marker.symbol, trace.mode, by_colour_of_marks and trace.marker.color)
        for trace in named
    ]
    assert len(set(looks)) == len(looks) > 1


def traces(figure: BaseFigure, name: str, axis: str = "x") -> list:
    """The traces of that name in one panel."""
    return [trace for trace in figure.data if trace.name == name and (trace.xaxis or "x") == axis]


def trace(figure: BaseFigure, name: str, axis: str = "x"):
    """The one trace of that name in one panel."""
    (found,) = traces(figure, name, axis)
    return found


def shown(figure: BaseFigure, name: str, axis: str = "x") -> list[tuple[list, list]]:
    """Of the traces of that name in one panel, both coordinates."""
    return [(list(trace.x), list(trace.y)) for trace in traces(figure, name, axis)]
