"""The first cell of every notebook: does nothing where the package is, installs it in Colab, says how elsewhere."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from minipolycom.learn import setup

ROOT = Path(__file__).parents[1]
COLAB = dict(
    line.split("==") for line in (ROOT / "tests" / "colab.txt").read_text().splitlines() if not line.startswith("#")
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, fresh_copy: Callable[[Path], Path]) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", folder, fresh_copy(folder / "project"))
    (built,) = folder.glob("minipolycom-*.whl")
    return built


def pip(*arguments: object, python: str | Path = sys.executable) -> None:
    done = subprocess.run([python, "-m", "pip", "-q", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Cell:
    """Runs the set-up cell in a kernel that has, or lacks, the package and Colab; remembers what it did.

    Its one shell command is really run, with a pip that only says what it was called with and fails on `failing`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, installed: bool, colab: bool, failing: str = "") -> None:
        self.commands: list[str] = []
        self.started: list[str] = []
        if not installed:
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        if colab:
            monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))

        def system(line: str) -> int:
            pip = (
                f"""pip() {{ echo pip "$@"; test -z '{failing}' || case "$*" in *'{failing}'*) return 1;; esac; }}\n"""
            )
            done = subprocess.run(["bash", "-c", pip + line], capture_output=True, text=True)
            self.commands += done.stdout.splitlines()
            return done.returncode

        monkeypatch.setattr(os, "system", system)
        monkeypatch.setattr("minipolycom.learn.start", self.started.append)

    def run(self, repository: str = "") -> None:
        exec(setup.setup_cell("00_start_here", repository), {})


def test_the_cell_is_short_and_names_its_notebook() -> None:
    for cell in (setup.setup_cell("07_spectra"), setup.setup_cell("07_spectra", "https://example.org/a/b")):
        assert len(cell.strip().splitlines()) <= 5
        assert cell.count("07_spectra") == 1
        compile(cell, "cell", "exec")
    assert max(map(len, setup.setup_cell("07_spectra").splitlines())) <= 140  # fits a notebook's page


def test_where_the_package_is_the_cell_only_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(monkeypatch, installed=True, colab=True)
    cell.run("https://example.org/a/b")
    assert cell.commands == []
    assert cell.started == ["00_start_here"]


def test_elsewhere_it_names_the_command_and_installs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "minipolycom-0.1.0-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    cell = Cell(monkeypatch, installed=False, colab=False)
    with pytest.raises(AssertionError, match="run `make learn`"):
        cell.run("https://example.org/a/b")
    assert cell.commands == []
    assert cell.started == []


def test_colab_takes_the_wheel_beside_the_notebook_and_none_of_its_dependencies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "minipolycom-0.1.0-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    cell = Cell(monkeypatch, installed=False, colab=True)
    cell.run()
    assert cell.commands == ["pip install -q --no-deps minipolycom-0.1.0-py3-none-any.whl"]
    assert cell.started == ["00_start_here"]


def test_colab_takes_the_repository_first_and_the_wheel_where_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "minipolycom-0.1.0-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    cell = Cell(monkeypatch, installed=False, colab=True)
    cell.run("https://example.org/a/b")
    assert cell.commands == ["pip install -q --no-deps git+https://example.org/a/b"]
    cell = Cell(monkeypatch, installed=False, colab=True, failing="git+")
    cell.run("https://example.org/a/b")
    assert cell.commands[1:] == ["pip install -q --no-deps minipolycom-0.1.0-py3-none-any.whl"]


def test_colab_without_a_wheel_asks_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="upload the wheel that `make wheel` builds"):
        Cell(monkeypatch, installed=False, colab=True, failing="*.whl").run()


def test_the_repository_is_read_from_one_place(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nname = "x"\n')
    assert setup.repository(pyproject) == ""
    pyproject.write_text('[project]\nname = "x"\n[project.urls]\nRepository = "https://example.org/a/b"\n')
    assert setup.repository(pyproject) == "https://example.org/a/b"
    with pytest.raises(ValueError, match=r"Repository must be an https:// address, not 'ssh://example.org'"):
        setup.setup_cell("00_start_here", "ssh://example.org")


def test_requirements_are_those_of_pyproject_without_the_extras() -> None:
    names = [re.match(r"[\w-]+", line)[0] for line in setup.requirements()]
    assert "torch" in names
    assert not {"jupyterlab", "pytest", "minipolycom"} & set(names)


def test_nothing_missing_asks_pip_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert setup.install_missing() == []


def test_the_missing_are_added_and_the_protected_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = setup.version, {}

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        seen["constraints"] = Path(command[command.index("-c") + 1]).read_text().splitlines()
        seen["wanted"] = command[command.index("-c") + 2 :]
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(setup, "version", lambda name: None if name in ("lightning", "matplotlib") else real(name))
    monkeypatch.setattr(subprocess, "run", run)
    assert setup.install_missing() == ["lightning"]
    assert seen["wanted"] == setup.requirements()
    assert seen["constraints"] == [f"{n}=={real(n)}" for n in setup.PROTECTED if n != "matplotlib" and real(n)]
    assert f"torch=={real('torch')}" in seen["constraints"]


def test_a_failing_pip_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = setup.version
    monkeypatch.setattr(setup, "version", lambda name: None if name == "lightning" else real(name))
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(RuntimeError, match=r"^pip could not add lightning: ERROR: no network$"):
        setup.install_missing()


def test_start_says_what_runs_and_how_the_cpu_is_set() -> None:
    import plotly.io as pio

    out = io.StringIO()
    with redirect_stdout(out):
        setup.start("00_start_here")
    first, second = out.getvalue().splitlines()[:2]
    assert second.startswith("CPU settings: ")
    assert first.startswith(f"00_start_here: minipolycom {setup.version('minipolycom')}, Python 3.")
    assert f"torch {setup.version('torch')}" in first
    assert re.search(r"; tier (smoke|cpu|gpu), ", first)
    assert pio.templates.default == "minipolycom"


def test_start_tunes_the_cpu_before_torch_is_imported() -> None:
    code = """if True:
        import sys
        import minipolycom.hardware
        from minipolycom.learn import start
        assert "torch" not in sys.modules, "importing minipolycom.learn imports torch"
        order = []
        minipolycom.hardware.tune_cpu = lambda: order.append("torch" in sys.modules)
        start("00_start_here")
        assert order == [False], order
        assert "torch" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_installation_keeps_every_package_of_colab(wheel: Path, tmp_path: Path) -> None:
    """pip, held to Colab's versions, finds a set that satisfies us: so there it has nothing to replace."""
    report = tmp_path / "report.json"
    torch = tmp_path / "torch.txt"
    torch.write_text(f"torch=={setup.version('torch').partition('+')[0]}\n")
    held = ("-c", ROOT / "tests" / "colab.txt", "-c", torch)
    pip("install", "--dry-run", "--ignore-installed", "--report", report, *held, wheel)
    chosen = {
        re.sub(r"[-_.]+", "-", one["metadata"]["name"]).lower(): one["metadata"]["version"]
        for one in json.loads(report.read_text())["install"]
    }
    assert {name: chosen[name] for name in COLAB if name in chosen} == {n: v for n, v in COLAB.items() if n in chosen}
    assert set(COLAB) >= {"numpy", "pandas", "plotly", "ipywidgets", "ipython", "ipykernel", "datasets"}
    assert {"numpy", "pandas", "plotly", "ipywidgets", "lightning", "jaxtyping"} <= set(chosen)
    assert "jupyterlab" not in chosen  # a second notebook server in Colab would be in the way


def test_the_cell_installs_a_real_wheel_in_a_colab_without_the_package(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment that sees this one's packages but not ours; the wheel lies beside the notebook."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "colab"], check=True)
    (notebooks := tmp_path / "content").mkdir()
    (notebooks / wheel.name).write_bytes(wheel.read_bytes())
    code = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    code += setup.setup_cell("00_start_here")
    code += "from minipolycom.studies.published import published; published('polycom-dense-training-loss')\n"
    code += "from minipolycom.studies.records import recorded; print(recorded('ssl-methods').name)\n"
    code += "import minipolycom; print(minipolycom.__file__)"
    env = dict(os.environ, PATH=f"{tmp_path / 'colab' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    env["PYTHONPATH"] = str(Path(pytest.__file__).parents[1])
    command = [tmp_path / "colab" / "bin" / "python", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=notebooks, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("00_start_here: minipolycom ")
    assert done.stdout.splitlines()[-2] == "ssl-methods-cpu"  # records come with the wheel
    assert str(tmp_path / "colab") in done.stdout.splitlines()[-1]
