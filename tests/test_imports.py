"""Heavy things stay at the edge: what each room of the package may import, and how long the door takes to open."""

import statistics
import subprocess
import sys

import pytest

# A machine on which some packages are absent: Python's search of the path does not find them.
MACHINE = """
import sys
from importlib.machinery import PathFinder
class Machine(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Machine
"""
NOTEBOOK_STACK = {"ipywidgets", "plotly", "IPython", "anywidget", "ipykernel", "jupyterlab", "notebook", "matplotlib"}
TRAINING_STACK = {"lightning", "datasets", "tokenizers", "safetensors", "pandas", "pyarrow", "jsonargparse"}


def imports(statement: str, absent: set[str]) -> subprocess.CompletedProcess:
    code = MACHINE.format(absent=absent) + statement
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


CORE = """
import torch
import minipolycom, minipolycom.activations, minipolycom.model
from minipolycom import GPT, GPTConfig, PolyNorm
model = GPT(GPTConfig(d_model=16, n_heads=2, n_layers=1, context=8))
assert model(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 256)
"""


def test_the_transformer_works_with_torch_einops_and_jaxtyping_alone() -> None:
    done = imports(CORE, NOTEBOOK_STACK | TRAINING_STACK)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("needed", ["einops", "jaxtyping"])
def test_a_needed_package_is_missed_when_it_is_absent(needed: str) -> None:
    """The test above can fail: the same machine without one package that the transformer does need."""
    done = imports(CORE, NOTEBOOK_STACK | TRAINING_STACK | {needed})
    assert done.returncode != 0
    assert f"No module named '{needed}'" in done.stderr


def test_training_needs_no_notebook_stack() -> None:
    done = imports(
        "import minipolycom.text, minipolycom.train, minipolycom.runs, minipolycom.ssl.train", NOTEBOOK_STACK
    )
    assert done.returncode == 0, done.stderr


def test_a_notebook_package_is_missed_where_it_is_used() -> None:
    done = imports("import minipolycom.viz.figures", NOTEBOOK_STACK)
    assert "No module named 'plotly'" in done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys; import minipolycom; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "einops", *NOTEBOOK_STACK, *TRAINING_STACK} & set(done.stdout.split())


@pytest.mark.timing
def test_importing_the_package_costs_less_than_three_tenths_of_a_second_on_top_of_torch() -> None:
    code = """if True:
        import time, torch
        start = time.perf_counter()
        import minipolycom, minipolycom.activations, minipolycom.model
        print(time.perf_counter() - start)
    """
    command = [sys.executable, "-c", code]
    seconds = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(5)]
    assert statistics.median(seconds) < 0.3, seconds
