"""What the project says about itself is true: README, pyproject.toml, environment.yml and Makefile agree and work."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()


def surroundings() -> dict[str, str]:
    """For a new environment that finds the packages of this one: what pip would download for minutes is there already.

    What a `make` around this test passes on to its children is left out.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    ours = {name: value for name, value in ours.items() if name not in ("VENV", "ARGS", "PYTHON")}
    share = Path(sys.prefix, "share", "jupyter")
    return ours | {
        "PYTHONPATH": str(Path(pytest.__file__).parents[1]),
        "JUPYTER_PATH": str(share),
        "JUPYTERLAB_DIR": str(share / "lab"),
    }


def names(requirements: list[str]) -> list[str]:
    return [re.match(r"[\w-]+", line)[0] for line in requirements]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(command, shell=True, cwd=folder, env=surroundings(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, fresh_copy: Callable[[Path], Path]) -> Path:
    return fresh_copy(tmp_path_factory.mktemp("clone") / "minipolycom")


# -- the same words everywhere ---------------------------------------------------------------------------------------


def test_the_readme_lists_the_packages_that_are_installed() -> None:
    said = re.search(r"What gets installed: (.*?)\.\n", README, re.DOTALL)[1]
    listed = re.findall(r"[\w-]+", said.replace("and for the course", "").replace(" and ", " "))
    assert listed == names(PYPROJECT["dependencies"]) + names(PYPROJECT["optional-dependencies"]["lab"])


def test_conda_installs_what_pip_does() -> None:
    """environment.yml takes its packages from pyproject.toml: there is one list, so there cannot be two."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PYPROJECT['requires-python']}", "pip"]
    assert pip == {"pip": ["-e .[lab]"]}
    assert f"conda activate {environment['name']}\n" in README


def test_the_floor_of_python_is_the_same_everywhere() -> None:
    floor = PYPROJECT["requires-python"].removeprefix(">=")
    assert f"Python {floor} or newer" in README
    makefile = (ROOT / "Makefile").read_text()
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in makefile
    assert f"needs Python {floor} or newer" in makefile
    from minipolycom.learn.doctor import PYTHON_FLOOR

    assert ".".join(map(str, PYTHON_FLOOR)) == floor
    assert f"Programming Language :: Python :: {floor}" in PYPROJECT["classifiers"]


def test_packages_have_floors_and_no_ceilings() -> None:
    for line in chain(PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"].values()):
        assert re.fullmatch(r"minipolycom\[\w+\]|[\w-]+(\[\w+\])?>=\d+(\.\d+)*(; [^;]+)?", line), line


def test_links_lead_to_files() -> None:
    for page in [ROOT / "README.md", *(ROOT / "course").glob("*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not re.match(r"https?://|#", link):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_nothing_names_a_place_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() or [str(file) for file in ROOT.rglob("*.py")]
    place = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|opt)/[\w.]")
    for name in files:
        if Path(name).suffix in {".py", ".md", ".toml", ".yml", ".ipynb", ".txt", ""} and (ROOT / name).is_file():
            assert not place.search((ROOT / name).read_text(errors="replace")), name


# -- every command of the README is run -------------------------------------------------------------------------------

EXECUTED = {
    "make learn": "test_make_learn_serves_the_course_behind_its_token",
    "make test": "test_make_test_runs_every_test",
    "python3 -m venv .venv": "test_the_pip_way_is_what_make_learn_does",
    ".venv/bin/python -m pip install -e '.[lab]'": "test_the_pip_way_is_what_make_learn_does",
    ".venv/bin/minipolycom lab": "test_the_pip_way_is_what_make_learn_does",
    "conda env create -f environment.yml": "test_conda_installs_what_pip_does",
    "conda activate minipolycom": "test_conda_installs_what_pip_does",
    "minipolycom lab": "test_the_pip_way_is_what_make_learn_does",
    "make wheel": "test_make_wheel_builds_one_beside_the_notebooks",
    ".venv/bin/minipolycom doctor": "test_the_commands_without_a_notebook_work",
    ".venv/bin/minipolycom train --preset tiny --activation polynorm --source stdlib --steps 200 --out runs/a": (
        "test_the_commands_without_a_notebook_work"
    ),
    '.venv/bin/minipolycom sample runs/a --prompt "def "': "test_the_commands_without_a_notebook_work",
    ".venv/bin/minipolycom ssl train --method rdm_simsiam_target --steps 100 --out runs/b": (
        "test_the_commands_without_a_notebook_work"
    ),
}


def test_every_command_of_the_readme_has_a_test() -> None:
    assert commands() == list(EXECUTED)
    assert set(EXECUTED.values()) <= set(globals())


def test_make_learn_serves_the_course_behind_its_token(clone: Path) -> None:
    """`make learn` in a fresh clone creates .venv, installs and serves: with the token 200, without it not."""
    log = clone.parent / "learn.log"
    command = ["make", "learn", f"PYTHON={sys.executable}", "ARGS=--no-browser --port 8899"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, cwd=clone, env=surroundings(), stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        address, token = wait_for_address(server, log)
        with urllib.request.urlopen(f"{address}lab?token={token}", timeout=30) as answer:
            assert answer.status == 200
            assert b"JupyterLab" in answer.read()
        contents = f"{address}api/contents/00_start_here.ipynb"
        with urllib.request.urlopen(f"{contents}?token={token}", timeout=30) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(contents, timeout=30)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert (clone / ".venv" / "bin" / "minipolycom").exists()
    again = shell(f"make --dry-run learn PYTHON={sys.executable}", clone)
    assert again.splitlines() == [".venv/bin/minipolycom lab "]  # a second call installs nothing


def wait_for_address(server: subprocess.Popen, log: Path) -> tuple[str, str]:
    """The address that JupyterLab prints, on loopback, and its token."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and server.poll() is None:
        if found := re.search(r"(http://127\.0\.0\.1:\d+/)lab\S*\?token=(\w{32,})", log.read_text()):
            return found[1], found[2]
        time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def test_make_test_runs_every_test(clone: Path) -> None:
    """The two calls leave nothing out, for the second runs what the first does not; this one runs inside the first."""
    calls = [line for line in shell("make --dry-run test VENV=new", clone).splitlines() if "pytest" in line]
    marks = [re.search(r'pytest -m "([^"]+)" ', line)[1] for line in calls]
    assert marks == ["not (timing or compile)", "timing or compile"]
    for line in calls:
        assert not re.search(r"-k|--ignore|--deselect|tests/", line), line


@pytest.mark.parametrize(("ci", "verdict"), [("", "1 skipped"), ("1", "1 error")])
def test_without_chromium_the_browser_tests_say_how_to_get_it(tmp_path: Path, ci: str, verdict: str) -> None:
    command = [sys.executable, "-m", "pytest", "-k", "failing_cell", "tests/browser", "-p", "no:cacheprovider"]
    env = os.environ | {"PATH": str(tmp_path), "MINIPOLYCOM_CI": ci}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert verdict in done.stdout.splitlines()[-1]
    assert "no Chromium on this machine. Debian: sudo apt install chromium" in done.stdout


def test_every_room_with_shapes_has_them_checked() -> None:
    package = ROOT / "minipolycom"
    shaped = {
        f"minipolycom.{file.relative_to(package).parts[0].removesuffix('.py')}"
        for file in package.rglob("*.py")
        if "from jaxtyping import" in file.read_text()
    }
    assert re.search(r"^SHAPED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split(",") == sorted(shaped)


def test_the_pip_way_is_what_make_learn_does(clone: Path) -> None:
    made = [line.strip() for line in shell("make --dry-run learn VENV=.venv-unmade", clone).splitlines()]
    made = [line.replace(".venv-unmade", ".venv") for line in made]
    for line in ("python3 -m venv .venv", ".venv/bin/python -m pip install -e '.[lab]'", ".venv/bin/minipolycom lab"):
        assert made.count(line) == 1, made


def test_make_wheel_builds_one_beside_the_notebooks(clone: Path) -> None:
    (clone / "course" / "minipolycom-0.0.1-py3-none-any.whl").touch()  # an old one has to go
    shell(f"make wheel VENV={sys.prefix}", clone)
    (wheel,) = (clone / "course").glob("*.whl")
    assert wheel.name == f"minipolycom-{PYPROJECT['version']}-py3-none-any.whl"
    inside = zipfile.ZipFile(wheel).namelist()
    ours = {str(file.relative_to(clone)) for file in (clone / "minipolycom").rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == ours


def test_the_commands_without_a_notebook_work(tmp_path: Path) -> None:
    said = {}
    for command in commands():
        if EXECUTED[command] == "test_the_commands_without_a_notebook_work":
            there = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
            said[command.split()[1]] = shell(there, tmp_path)
    assert "All that the course needs is here." in said["doctor"]
    loss, entropy = (re.search(rf"{what} ([\d.]+)", said["train"])[1] for what in ("loss", "entropy of the same text"))
    assert float(loss) < float(entropy) - 1
    assert said["sample"].startswith("def ")
    assert len(said["sample"]) > 100
    online, target = (float(re.search(rf"erank_{branch} ([\d.]+)", said["ssl"])[1]) for branch in ("online", "target"))
    assert target > online + 1


def test_the_lines_of_python_run(tmp_path: Path) -> None:
    (code,) = blocks("python")
    (tmp_path / "readme.py").write_text(code)
    said = shell(f"{sys.executable} readme.py", tmp_path)
    assert re.search(r"^5\.\d\d nats per token, [\d,]+ parameters$", said, re.MULTILINE)  # ln 256 is 5.55


def test_an_old_python_is_refused_in_one_line(clone: Path) -> None:
    old = clone.parent / "old_python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "learn", f"PYTHON={old}", "VENV=never"]
    done = subprocess.run(command, cwd=clone, env=surroundings(), capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == (
        f"minipolycom needs Python 3.11 or newer, and '{old}' is not. Name one that is: make learn PYTHON=python3.12\n"
    )
    assert not (clone / "never").exists()
