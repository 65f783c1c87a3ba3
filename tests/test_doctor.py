"""The doctor: right about what is there, helpful about what is not, and never ill itself."""

import http.server
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from minipolycom.learn import setup
from minipolycom.learn.doctor import Finding, Report, doctor

HERE = sys.modules["minipolycom.learn.doctor"]


def finding(report: Report, topic: str) -> Finding:
    (found,) = [one for one in report.findings if one.topic == topic]
    return found


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    monkeypatch.setattr(HERE, "version", lambda name: versions[name] if name in versions else setup.version(name))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens at the port called discard


def test_a_machine_that_can_run_these_tests_is_healthy() -> None:
    report = doctor()
    assert report.healthy, str(report)
    assert report.verdict == "All that the course needs is here."
    assert finding(report, "torch").found == setup.version("torch")
    assert {one.topic for one in report.findings} >= {"Python", "processor", "memory", "disk", "GPU", "Chromium", "Hub"}


def test_the_package_offers_the_function_also_after_its_module_was_imported() -> None:
    code = "import minipolycom.learn.doctor; from minipolycom.learn import doctor; print(callable(doctor))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_missing_package_gets_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lightning=None)
    report = doctor()
    assert not report.healthy
    assert report.verdict == "To be fixed: lightning."
    assert finding(report, "lightning").found == "missing"
    assert "-m pip install 'lightning>=" in finding(report, "lightning").fix


@pytest.mark.parametrize(
    ("installed", "state"), [("5.9.0", "problem"), ("5.24", "ok"), ("5.24.1", "ok"), ("10.0rc1", "ok")]
)
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, installed: str, state: str) -> None:
    pretend(monkeypatch, plotly=installed)
    assert finding(doctor(), "plotly").state == state


def test_an_old_package_is_told_apart_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, plotly="5.9.0")
    assert finding(doctor(), "plotly").found == "5.9.0, and 5.24 or newer is needed"


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HERE, "PYTHON_FLOOR", (99, 0))
    assert finding(doctor(), "Python").fix == "install Python 99.0 or newer, then: make learn PYTHON=python99.0"


def test_without_compiler_chromium_jupyterlab_and_network_it_says_so_in_a_line_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    pretend(monkeypatch, jupyterlab=None)
    report = doctor()
    assert report.healthy  # none of the four stops the course
    for topic in ("C compiler", "Chromium", "JupyterLab", "Hub"):
        assert finding(report, topic).state == "note"
        assert finding(report, topic).fix
        assert "\n" not in finding(report, topic).found + finding(report, topic).fix
    assert "apt install chromium" in finding(report, "Chromium").fix


def test_a_hub_that_answers_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501 to everything
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        assert finding(doctor(), "Hub").state == "ok"
    finally:
        server.shutdown()
        server.server_close()


def test_the_hub_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert finding(doctor(), "Hub").found == "switched off by HF_HUB_OFFLINE"


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**20))
    assert finding(doctor(), "disk").state == "problem"


def test_a_look_that_fails_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise PermissionError("not for you")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    assert finding(doctor(), "disk").found == "could not be looked at (PermissionError: not for you)"


def test_the_table_escapes_what_it_shows_and_closes_what_it_opens() -> None:
    class Balance(HTMLParser):
        open_tags: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    html = Report((Finding(topic="a<b", state="problem", found="<script>", fix="x & y"),))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    parser = Balance()
    parser.open_tags = []
    parser.feed(html)
    assert parser.open_tags == []


def test_packages_are_folded_unless_one_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lightning=None)
    shown, _, folded = doctor()._repr_html_().partition("<details>")
    assert folded.startswith(f"<summary>{len(setup.requirements()) - 1} packages, as needed</summary>")
    assert "✘&nbsp;problem" in shown
    for topic, unfolded in (("lightning", True), ("memory", True), ("Hub", True), ("torch", False)):
        assert (f">{topic}</th>" in shown, f">{topic}</th>" in folded) == (unfolded, not unfolded)


def test_it_works_where_nothing_is_installed(tmp_path: Path) -> None:
    """A Python without site-packages: every requirement is missing, each has its fix, and there is no traceback."""
    root = str(Path(HERE.__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from minipolycom.learn.doctor import doctor; print(doctor())"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.count("problem  ") == len(setup.requirements())
    assert "To be fixed: torch, einops," in done.stdout
