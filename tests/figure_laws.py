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
