"""The first cell of every notebook: the package is there, or Colab installs it, or it says how; then `start`.

Only the standard library is imported at the top: the cell runs before anything else is known to be installed.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

SETUP_CELL = """\
import importlib.util, os, sys
if importlib.util.find_spec("minipolycom") is None:  # Colab installs it here; elsewhere this says what to do
    assert "google.colab" in sys.modules, "minipolycom is not installed here: run `make learn` in its folder"
    assert os.system("{install}") == 0, "upload the wheel that `make wheel` builds, then run this again"
from minipolycom.learn import start; start("{notebook}")
"""
FROM_WHEEL = "pip install -q --no-deps minipolycom-*.whl"
FROM_REPOSITORY = "pip install -q --no-deps git+{repository}"

# Colab has these in use before the first cell runs, or has built them for its machines: never replaced.
PROTECTED = (
    "torch", "numpy", "pandas", "matplotlib", "ipywidgets", "plotly", "anywidget", "ipython", "ipykernel", "pyarrow",
    "datasets", "scikit-learn", "einops",
)  # fmt: skip


def setup_cell(notebook: str, repository: str = "") -> str:
    """The set-up cell of a notebook; with the repository's address, Colab tries that before a wheel.

    Raises ValueError for an address that is not https.
    """
    if repository and not re.fullmatch(r"https://[\w./~-]+", repository):
        raise ValueError(f"[project.urls] Repository must be an https:// address, not {repository!r}")
    ways = [FROM_REPOSITORY.format(repository=repository)] if repository else []
    return SETUP_CELL.format(notebook=notebook, install=" || ".join([*ways, FROM_WHEEL]))


def repository(pyproject: Path) -> str:
    """The public address of the project, from [project.urls] in pyproject.toml; "" as long as there is none."""
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"].get("urls", {}).get("Repository", "")


def requirements() -> list[str]:
    """What the package needs, as pip writes it: from the installed package, or from pyproject.toml of a checkout."""
    try:
        found = importlib.metadata.requires("minipolycom") or []
    except importlib.metadata.PackageNotFoundError:
        pyproject = Path(__file__).parents[2] / "pyproject.toml"
        found = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [line for line in found if "extra ==" not in line]


def version(package: str) -> str | None:
    """The installed version of a package, without importing it; None where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def in_colab() -> bool:
    """Whether this kernel runs in Google Colab."""
    return "google.colab" in sys.modules


def install_missing() -> list[str]:
    """Install the requirements that are missing, without replacing any package in PROTECTED; return their names.

    Raises RuntimeError with pip's last line where that cannot be done.
    """
    wanted = [line for line in requirements() if version(_name(line)) is None]
    if not wanted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "protected.txt")
        constraints.write_text("".join(f"{name}=={version(name)}\n" for name in PROTECTED if version(name)))
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints), *requirements()]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no word from pip").splitlines()[-1]
        raise RuntimeError(f"pip could not add {', '.join(map(_name, wanted))}: {reason}")
    importlib.invalidate_caches()
    return [_name(line) for line in wanted]


def start(notebook: str = "") -> None:
    """Make the kernel ready for a notebook: CPU settings, the look of figures, one line on what runs, the progress.

    In Colab the requirements that it lacks are installed first.
    """
    if in_colab() and (added := install_missing()):
        kept = ", ".join(PROTECTED[:6])
        print(f"Installed minipolycom from {_origin()}, added {', '.join(added)}; {kept} stay as they were.")

    from minipolycom.hardware import tune_cpu

    settings = tune_cpu()  # before torch is imported, which the next imports do
    import plotly.io as pio
    from IPython.display import display

    from minipolycom.learn.progress import progress_map
    from minipolycom.learn.tiers import tier
    from minipolycom.viz import theme  # noqa: F401  registers the template

    pio.templates.default = "minipolycom"
    where = f"{notebook}: " if notebook else ""
    what = f"minipolycom {version('minipolycom')}, Python {platform.python_version()}, torch {version('torch')}"
    print(f"{where}{what}, {_device()}; tier {tier().name}, {tier().because}")
    print(settings)
    display(progress_map())


def _name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0]


def _origin() -> str:
    """Where pip took the package from: a wheel's file name or an address."""
    record = importlib.metadata.distribution("minipolycom").read_text("direct_url.json")
    url = json.loads(record)["url"] if record else "the package index"
    return url.rsplit("/", 1)[-1] if url.startswith("file:") else url


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores"
