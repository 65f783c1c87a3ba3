"""Activations that only studies train: members of the family by order, start and composition, each one dict entry."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from torch import nn

from minipolycom.activations import ACTIVATIONS, COMPOSITIONS, START, PolyNorm, PolyReLU

ORDERS = (1, 2, 4, 5)
"""Orders other than the 3 that the members of the family have by default."""

STARTS = tuple(start for start in START if start != "uniform")
"""Starts other than the default."""

VARIANTS: dict[str, Callable[[], nn.Module]] = {
    **{f"polynorm, order {order}": partial(PolyNorm, order) for order in ORDERS},
    **{f"polynorm, {start} start": partial(PolyNorm, start=start) for start in STARTS},
    **{f"polyrelu, {start} start": partial(PolyReLU, start=start) for start in STARTS},
    **{name: COMPOSITIONS[name] for name in ("polynomial", "polyprelu", "polyrelunorm", "sumnorm")},
}
"""Each by its name; a call makes the module."""


@contextlib.contextmanager
def known_to_models() -> Iterator[None]:
    """Let models have these activations, too, while a study trains; also a decorator of functions that do."""
    ACTIVATIONS.update(VARIANTS)
    try:
        yield
    finally:
        for name in VARIANTS:
            del ACTIVATIONS[name]
