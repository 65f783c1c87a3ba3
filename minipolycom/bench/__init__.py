"""Benchmarks: what this machine takes for the activations, a training step, the experts and what is recorded.

All of them compare: the variants take turns in every round, so that a busy machine slows them alike, and what is
reported is the median ratio over the rounds with its quartiles. Milliseconds belong to the machine; ratios travel.
Rows are plain dictionaries; `table` prints those of any benchmark.
"""

from minipolycom.bench.activations import LAYERS, SHAPES, bench_activations
from minipolycom.bench.timing import table

__all__ = ["LAYERS", "SHAPES", "bench_activations", "table"]
