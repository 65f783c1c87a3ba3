"""JupyterLab serving a copy of the course on this machine, and a Chromium that opens its notebooks as a reader does."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, sync_playwright

from minipolycom.learn.doctor import CHROMIUM_FIX, chromium

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SETTINGS = {
    # every cell stays in the page, also those that are scrolled out of sight
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
STDERR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'
LOOK = """e => (style => [style.outlineStyle === 'none' ? '' : style.outline, style.boxShadow, style.backgroundColor,
    style.borderColor].join())(getComputedStyle(e))"""
SHOTS = os.environ.get("MINIPOLYCOM_SHOTS")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass(frozen=True)
class Lab:
    """A running notebook server."""

    address: str
    token: str
    folder: Path

    def url(self, path: str) -> str:
        return f"{self.address}{path}?token={self.token}"

    @property
    def progress(self) -> Path:
        """The learner's record."""
        return self.folder.parent / "progress.json"

    def end_kernels(self) -> None:
        with urllib.request.urlopen(self.url("/api/sessions")) as answer:
            sessions = json.load(answer)
        for session in sessions:
            request = urllib.request.Request(self.url(f"/api/sessions/{session['id']}"), method="DELETE")
            urllib.request.urlopen(request).close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    folder = Path(shutil.copytree(ROOT / "course", home / "course"))
    for plugin, settings in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    env = {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "MINIPOLYCOM_TIER": "smoke",
        "MINIPOLYCOM_PROGRESS": str(home / "progress.json"),
    }
    with serving("jupyterlab", folder, home, env, [f"--ServerApp.root_dir={folder}"]) as served:
        yield served


@contextmanager
def serving(module: str, folder: Path, home: Path, env: Mapping[str, str], options: Sequence[str]) -> Iterator[Lab]:
    """A notebook server on this machine, with no settings but those in `home`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder)
    own = {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_TOKEN": found.token,
    }
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    log = home / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen([*command, *options], stdout=stream, stderr=stream, env=os.environ | own | env)
    try:
        _wait_for(found, server, log)
        yield found
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(lab: Lab, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(lab.url("/api"), timeout=2).close()
            return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"the notebook server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        said = f"no Chromium on this machine. {CHROMIUM_FIX}"
        pytest.fail(said) if os.environ.get("MINIPOLYCOM_CI") else pytest.skip(said)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Notebook:
    """A notebook open in JupyterLab."""

    page: Page
    name: str
    cells: list[nbformat.NotebookNode]
    outside_requests: list[str] = field(default_factory=list)

    SCROLLED = ".jp-NotebookPanel-notebook .jp-WindowedPanel-outer"

    def choose_run_all(self) -> None:
        """Choose this in the menu."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()

    def run_all(self, timeout: float = 300) -> None:
        """Run every cell as the menu does, and wait until none is running."""
        self.choose_run_all()
        self.wait_until(lambda: self.executed() > 0, "a cell has run", timeout)
        self.wait_until(lambda: "*" not in "".join(self._prompts()), "no cell is running", timeout)
        self.page.wait_for_timeout(1000)  # the last outputs are drawn
        self.shoot()

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> str:
        """What stands below a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea").inner_text()

    def run_selected(self, index: int, timeout: float = 60) -> None:
        """Run the selected cell, which is that one, by the keyboard; the next one is selected then."""
        prompt = self.cell(index).locator(".jp-InputArea-prompt")
        prompt.evaluate("e => e.textContent = ''")  # a new kernel counts from 1 again, so the number need not change
        self.page.keyboard.press("Shift+Enter")
        self.wait_until(lambda: any(c.isdigit() for c in prompt.inner_text()), f"cell {index} has run", timeout)

    def selected(self) -> int:
        """Which cell the keyboard is at."""
        script = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')]
            .findIndex(e => e.classList.contains('jp-mod-active') && e.contains(document.activeElement))"""
        return self.page.evaluate(script)

    def walk_to(self, index: int) -> None:
        """Select a cell with the arrow keys, from whichever one has the focus."""
        while (here := self.selected()) != index:
            assert here >= 0, "the focus is not in the notebook"
            self.page.keyboard.press("ArrowDown" if here < index else "ArrowUp")
            self.wait_until(lambda here=here: self.selected() != here, "another cell is selected", 5)

    def tab_to(self, control: Locator, most: int = 40) -> None:
        """Reach a control with the Tab key; whoever looks must see that it has the focus."""
        before = control.evaluate(LOOK)
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if control.evaluate("e => e === document.activeElement"):
                break
        else:
            pytest.fail(f"{most} times Tab do not lead to {control}")
        self.wait_until(lambda: control.evaluate(LOOK) != before, f"the focus of {control} can be seen", 5)

    def _prompts(self) -> list[str]:
        script = "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(e => e.textContent)"
        return self.page.evaluate(script)

    def executed(self) -> int:
        """How many cells have run to their end."""
        return sum(any(sign.isdigit() for sign in prompt) for prompt in self._prompts())

    @property
    def code_cells(self) -> int:
        return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in self.cells)

    def errors(self) -> list[str]:
        """The text of each traceback in the page."""
        # an error and what a cell writes to stderr share a type; only the first is coloured
        return self.page.locator(f"{STDERR}:has(.ansi-red-fg)").all_inner_texts()

    def warnings(self) -> list[str]:
        """What cells wrote to stderr: a red box in the page."""
        return self.page.locator(f"{STDERR}:not(:has(.ansi-red-fg))").all_inner_texts()

    def unlabelled_controls(self) -> list[str]:
        """Controls without a name that a screen reader can say."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll(
                    '.jupyter-widgets :is(input, select, textarea, button, [role=slider])')]
                .filter(e => e.offsetParent !== null && !e.closest('.js-plotly-plot'))
                .filter(e => {
                    const label = e.closest('.widget-inline-hbox, .jupyter-widgets')?.querySelector('.widget-label');
                    return ![e.getAttribute('aria-label'), e.title, e.textContent, e.labels?.[0]?.textContent,
                             label?.textContent].some(name => name?.trim());
                })
                .map(e => e.outerHTML.slice(0, 200))"""
        )

    def press(self, label: str) -> None:
        """Click a widget's button."""
        self.page.locator("button.jupyter-button", has_text=label).click()

    def says(self, text: str) -> bool:
        """Whether an output holds this text."""
        return self.page.locator(".jp-OutputArea-output", has_text=text).count() > 0

    def slider(self, description: str) -> Locator:
        """The handle of the slider with this description."""
        label = self.page.locator(".widget-label", has_text=description)
        return self.page.locator(".widget-slider", has=label).locator(".noUi-handle")

    def drag(self, handle: Locator, pixels: float) -> None:
        """Pull a slider's handle to the side with the mouse."""
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels, y, steps=5)
        self.page.mouse.up()

    def curves(self) -> list[list[list[float | None]]]:
        """The heights of every curve of every figure, as plotly has drawn them in the page."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].map(figure => (figure.calcdata ?? [])
                .map(curve => curve.map(point => typeof point.y === 'number' ? point.y : null)))"""
        )

    def points(self) -> int:
        """How many points the curves have together."""
        return sum(len(curve) for figure in self.curves() for curve in figure)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.shoot("stuck")
                pytest.fail(f"{self.name}: not within {timeout:g} s: {what}. Errors in the page: {self.errors()}")
            self.page.wait_for_timeout(100)

    def wait_until_still(self) -> None:
        """Until no figure has changed for a second: what a drag tells the kernel arrives late where it is busy."""
        seen: list = []

        def unchanged() -> bool:
            before, seen[:] = list(seen), self.curves()
            self.page.wait_for_timeout(1000)
            return before == seen == self.curves()

        self.wait_until(unchanged, "the figures stay as they are")

    def shoot(self, label: str = "run") -> None:
        """Leave pictures of the whole notebook in the folder that MINIPOLYCOM_SHOTS names, if it does."""
        if not SHOTS:
            return
        box = f"document.querySelector('{self.SCROLLED}')"
        height, view = self.page.evaluate(f"() => (e => [e.scrollHeight, e.clientHeight])({box})")
        for number, top in enumerate(range(0, height, view - 50)):
            self.page.evaluate(f"top => {box}.scrollTo(0, top)", top)
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(SHOTS, f"{Path(self.name).stem}-{label}-{number:02d}.png"))


def write_notebook(file: Path, cells: Sequence[str]) -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, file)
    return made


@pytest.fixture
def open_notebook(browser: Browser, lab: Lab) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook of the course by its path, or one made of the given cells; their kernels end with the test."""
    contexts = []

    def open_(name: str, cells: list[str] | None = None) -> Notebook:
        file = lab.folder / name
        if cells is not None:
            write_notebook(file, cells)
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 1000}))
        page = contexts[-1].new_page()
        notebook = Notebook(page, name, nbformat.read(file, as_version=4).cells)

        def refuse(route: Route) -> None:
            notebook.outside_requests.append(route.request.url)
            route.abort()

        page.route(lambda url: not url.startswith((lab.address, "data:", "blob:")), refuse)
        page.goto(lab.url(f"/lab/tree/{name}") + "&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.get_by_text("| Idle").wait_for(timeout=90_000)
        page.wait_for_load_state("networkidle")
        page.keyboard.press("Control+b")  # hides the list of files: room for the notebook
        return notebook

    yield open_
    for context in contexts:
        context.close()
    lab.end_kernels()
