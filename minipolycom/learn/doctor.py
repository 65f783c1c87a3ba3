"""What is installed, what is missing, what the machine can do, and the fix for each problem.

It is asked when things are broken, so it needs the standard library alone and every look at the machine may fail.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from .setup import requirements, version

State = Literal["ok", "note", "problem"]
SYMBOLS: dict[State, str] = {"ok": "✔", "note": "•", "problem": "✘"}
_GIB = 2**30
PYTHON_FLOOR = (3, 11)
_PATIENCE = 3  # seconds for the network to answer


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report. A note limits what can be done; a problem stops the course."""

    topic: str
    state: State
    found: str
    fix: str = ""
    package: bool = False


@dataclass(frozen=True)
class Report:
    """What the doctor found: a text with `print`, a table in a notebook, what is well with packages folded."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether the course can run here."""
        return all(finding.state != "problem" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The report in one sentence."""
        problems = [finding.topic for finding in self.findings if finding.state == "problem"]
        return f"To be fixed: {', '.join(problems)}." if problems else "All that the course needs is here."

    def __str__(self) -> str:
        width = max(len(finding.topic) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.state:7}  {finding.topic:{width}}  {finding.found}")
            if finding.fix:
                lines.append(f"{'':7}  {'':{width}}  -> {finding.fix}")
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        packages = [finding for finding in self.findings if finding.package and finding.state == "ok"]
        others = [finding for finding in self.findings if finding not in packages]
        folded = f"<details><summary>{len(packages)} packages, as needed</summary>{_table(packages)}</details>"
        return f"<p><strong>{escape(self.verdict)}</strong></p>{_table(others)}{folded if packages else ''}"


def _table(findings: list[Finding]) -> str:
    left = 'style="text-align:left"'
    head = "".join(f'<th scope="col" {left}>{word}</th>' for word in ("state", "what", "found"))
    rows = "".join(
        f"<tr><td {left}>{SYMBOLS[finding.state]}&nbsp;{finding.state}</td>"
        f'<th scope="row" {left}>{escape(finding.topic)}</th><td {left}>{escape(finding.found)}'
        + (f"<br/>→ {escape(finding.fix)}" if finding.fix else "")
        + "</td></tr>"
        for finding in findings
    )
    return f'<table style="margin-left:0"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def doctor() -> Report:
    """Look at the installation and the machine; takes a few seconds, most of them for importing torch."""
    looks = (_python, *(_Package(line) for line in requirements()), _jupyterlab, _processor, _memory, _disk, _gpu)
    return Report(tuple(_careful(look) for look in (*looks, _compiler, _chromium, _hub)))


def _careful(look: Callable[[], Finding]) -> Finding:
    """The finding, or a note that this could not be looked at: the doctor must not fall ill."""
    try:
        return look()
    except Exception as error:
        topic = getattr(look, "topic", look.__name__.strip("_") if hasattr(look, "__name__") else "?")
        return Finding(topic=topic, state="note", found=f"could not be looked at ({type(error).__name__}: {error})")


def _python() -> Finding:
    floor = ".".join(map(str, PYTHON_FLOOR))
    if sys.version_info >= PYTHON_FLOOR:
        return Finding(topic="Python", state="ok", found=f"{platform.python_version()} at {sys.executable}")
    fix = f"install Python {floor} or newer, then: make learn PYTHON=python{floor}"
    return Finding(topic="Python", state="problem", found=f"{platform.python_version()}, too old", fix=fix)


@dataclass(frozen=True)
class _Package:
    """Is this requirement met? Ours are all of the form name>=floor."""

    requirement: str

    @property
    def topic(self) -> str:
        return re.split(r"[\[>=<;\s]", self.requirement)[0]

    def __call__(self) -> Finding:
        floor = self.requirement.partition(">=")[2].strip()
        installed = version(self.topic)
        if installed is None:
            return self._problem("missing")
        if _release(installed) < _release(floor):
            return self._problem(f"{installed}, and {floor} or newer is needed")
        return Finding(topic=self.topic, state="ok", found=installed, package=True)

    def _problem(self, found: str) -> Finding:
        fix = f"{_shell_name(sys.executable)} -m pip install '{self.requirement}'"
        return Finding(topic=self.topic, state="problem", found=found, fix=fix, package=True)


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version, without zeros at the end: "2.10.0+cpu" -> (2, 10)."""
    numbers = [int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _shell_name(path: str) -> str:
    return f"'{path}'" if " " in path else path


def _jupyterlab() -> Finding:
    installed = version("jupyterlab")
    if installed:
        return Finding(topic="JupyterLab", state="ok", found=installed)
    fix = "pip install -e '.[lab]' in the project's folder, unless your notebooks run elsewhere (Colab, VS Code)"
    return Finding(topic="JupyterLab", state="note", found="missing", fix=fix)


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(topic="processor", state="ok", found=f"{cores} cores, {platform.machine()}, {platform.system()}")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    if total >= 4:
        return Finding(topic="memory", state="ok", found=f"{total:.0f} GiB")
    fix = "close other programs; keep to the preset 'tiny'"
    return Finding(topic="memory", state="note", found=f"{total:.1f} GiB", fix=fix)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    if free >= 1:
        return Finding(topic="disk", state="ok", found=f"{free:.0f} GiB free here")
    fix = "free 1 GiB here: runs and packed texts are written to this disk"
    return Finding(topic="disk", state="problem", found=f"{free:.2f} GiB free here", fix=fix)


def _gpu() -> Finding:
    if version("torch") is None:
        return Finding(topic="GPU", state="note", found="unknown without torch", fix="install torch first")
    import torch

    if not torch.cuda.is_available():
        fix = "an NVIDIA driver is here, but torch cannot use it: pytorch.org/get-started" if _has_driver() else ""
        return Finding(topic="GPU", state="note", found="none: the sizes for a CPU are used", fix=fix)
    memory = torch.cuda.get_device_properties(0).total_memory / _GIB
    bf16 = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "no bf16 of its own: fp16 is used"
    return Finding(topic="GPU", state="ok", found=f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, {bf16}")


def _has_driver() -> bool:
    return shutil.which("nvidia-smi") is not None


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang", "cl"))), None)
    if found:
        return Finding(topic="C compiler", state="ok", found=found)
    fix = "only torch.compile needs it; Debian, Ubuntu: sudo apt install build-essential; macOS: xcode-select --install"
    return Finding(topic="C compiler", state="note", found="none", fix=fix)


CHROMIUM_FIX = "Debian: sudo apt install chromium; elsewhere: install Chromium or Chrome, so that it is on the PATH"


def chromium() -> str | None:
    """The path of a Chromium or Chrome on this machine, which the browser tests drive; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def _chromium() -> Finding:
    path = chromium()
    if path is None:
        return Finding(topic="Chromium", state="note", found="none", fix=f"only the tests need it. {CHROMIUM_FIX}")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout.strip()
    return Finding(topic="Chromium", state="ok", found=said or path)


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        fix = "unset HF_HUB_OFFLINE to read data sets from the Hub"
        return Finding(topic="Hub", state="note", found="switched off by HF_HUB_OFFLINE", fix=fix)
    address, answers = os.environ.get("HF_ENDPOINT", "https://huggingface.co"), []
    # a thread, because no timeout of urllib ends a look-up of the name
    asking = threading.Thread(target=lambda: answers.append(_ask(address)), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    reason = answers[0] if answers else f"no answer in {_PATIENCE} s"
    if not reason:
        return Finding(topic="Hub", state="ok", found=f"{address} answers")
    fix = "only hub:NAME needs it; 'stdlib' and your own files work without a network"
    return Finding(topic="Hub", state="note", found=f"{address} not reached ({reason})", fix=fix)


def _ask(address: str) -> str:
    """Why an address does not answer; "" if it does."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        return ""  # an answer, if not a friendly one
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""
