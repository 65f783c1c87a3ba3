"""What all tests share."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is first imported: idle threads sleep

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.register_assert_rewrite("figure_laws")  # so that what fails there is said as fully as here

ROOT = Path(__file__).parents[1]
# A shell starts what runs in its background with interrupts ignored, and processes inherit that; some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
collect_ignore = ["classic"]  # in an environment of its own, by `make classic`
MADE_HERE = (
    ".git", ".venv*", "build", "dist", "*.egg-info", "*.whl", "__pycache__", ".*_cache", ".hypothesis",
    ".ipynb_checkpoints", "runs", "lightning_logs",
)  # fmt: skip


@pytest.fixture(scope="session")
def fresh_copy() -> Callable[[Path], Path]:
    """Copies the project as a clone has it: without environments, builds and what a learner made."""

    def copy(target: Path) -> Path:
        return Path(shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE_HERE)))

    return copy
