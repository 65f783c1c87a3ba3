"""Classic Notebook 6 and a Chromium that opens notebooks in it; `make classic` runs what is here, `make test` does not.

The packages of tests/classic.txt cannot share an environment with JupyterLab 4.
"""

from collections.abc import Callable, Iterator

import pytest
from browser.conftest import Lab, Notebook, browser, serving, write_notebook
from playwright.sync_api import Browser, Locator

__all__ = ["browser", "notebook_server", "open_notebook"]


class ClassicNotebook(Notebook):
    """A notebook open in classic Notebook, which marks up the same things in its own way."""

    SCROLLED = "#site"

    def choose_run_all(self) -> None:
        self.page.get_by_role("link", name="Cell", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All", exact=True).click()

    def _prompts(self) -> list[str]:
        return self.page.locator(".code_cell .input_prompt").all_inner_texts()

    def cell(self, index: int) -> Locator:
        return self.page.locator("#notebook .cell").nth(index)

    def errors(self) -> list[str]:
        return self.page.locator(".output_error").all_inner_texts()

    def warnings(self) -> list[str]:
        return self.page.locator(".output_stderr").all_inner_texts()

    def says(self, text: str) -> bool:
        return self.page.locator(".output_area", has_text=text).count() > 0

    def slider(self, description: str) -> Locator:
        label = self.page.locator(".widget-label", has_text=description)
        return self.page.locator(".widget-slider", has=label).locator(".ui-slider-handle")

    def shoot(self, label: str = "run") -> None:
        super().shoot(f"classic-{label}")


@pytest.fixture(scope="session")
def notebook_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("classic")
    folder = home / "notebooks"
    folder.mkdir()
    env = {"JUPYTER_DATA_DIR": str(home / "data"), "IPYTHONDIR": str(home / "ipython")}
    with serving("notebook", folder, home, env, [f"--notebook-dir={folder}"]) as served:
        yield served


@pytest.fixture
def open_notebook(browser: Browser, notebook_server: Lab) -> Iterator[Callable[[str, list[str]], ClassicNotebook]]:
    """Opens a notebook made of the given cells; its kernel ends with the test."""
    contexts = []

    def open_(name: str, cells: list[str]) -> ClassicNotebook:
        made = write_notebook(notebook_server.folder / name, cells)
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 1000}))
        page = contexts[-1].new_page()
        notebook = ClassicNotebook(page, name, made.cells)
        page.goto(notebook_server.url(f"/notebooks/{name}"))
        page.wait_for_function("() => globalThis.Jupyter?.notebook?.kernel?.is_connected()", timeout=90_000)
        page.wait_for_load_state("networkidle")
        return notebook

    yield open_
    for context in contexts:
        context.close()
    notebook_server.end_kernels()
