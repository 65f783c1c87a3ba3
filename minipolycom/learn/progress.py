"""What a learner has solved: one JSON file on their machine, no account.

It stands in the user's own data folder rather than beside the notebooks: a fresh clone, a cleaned folder or a second
copy of the course then costs nobody their record, and Git never sees it. MINIPOLYCOM_PROGRESS names another place.
Two notebooks may write at once: each change is read, merged and replaced under a lock. A record that cannot be read is
set aside under another name and a new one begun; one that cannot be written is said so in one line and stops nobody.
"""

import html
import json
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

ENVIRONMENT = "MINIPOLYCOM_PROGRESS"
LOCK_SECONDS = 5
WORDS = {"solved": "✔", "tried": "◐", "open": "○"}
"""The three states of an exercise on the map, each a symbol and a word."""

_shown: list[str] = []  # the maps on display in this kernel, which a new verdict refreshes


def path() -> Path:
    """Where the record stands."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT]).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "minipolycom" / "progress.json"


def read() -> dict[str, dict[str, Any]]:
    """The record of each exercise that was touched, by name; empty if there is none or it is damaged."""
    try:
        return _parse(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def record(name: str, status: str) -> None:
    """Count a verdict. What was passed once stays solved; a stub left as it was is not a try."""

    def add(entry: dict[str, Any]) -> None:
        if status == "not attempted":
            entry.setdefault("status", status)
            return
        entry["tries"] = entry.get("tries", 0) + 1
        if status == "passed" or entry.get("status") != "passed":
            entry["status"] = status
        if status == "passed":
            entry.setdefault("solved_at", _now())

    _change(name, add)


def record_hint(name: str, number: int) -> None:
    """Note that a hint was read."""
    _change(name, lambda entry: entry.update(hints=max(number, entry.get("hints", 0))))


def record_solution(name: str) -> None:
    """Note that the solution was looked at, and whether that was before solving it."""
    _change(
        name, lambda entry: entry.setdefault("solution_seen", "after" if entry.get("status") == "passed" else "before")
    )


def state(name: str, entries: dict[str, dict[str, Any]] | None = None) -> str:
    """solved, tried or open."""
    entry = (read() if entries is None else entries).get(name, {})
    if entry.get("status") == "passed":
        return "solved"
    return "tried" if entry.get("tries") else "open"


def next_exercise() -> "NextExercise":
    """The first exercise, in the order of the course, that is not solved yet."""
    from minipolycom.learn.exercises import EXERCISES

    entries = read()
    todo = next((exercise for exercise in EXERCISES.values() if state(exercise.name, entries) != "solved"), None)
    if todo is None:
        return NextExercise(name=None, notebook=None)
    return NextExercise(name=todo.name, notebook=todo.notebook)


def export(to: str | Path) -> Path:
    """Copy the record to a file of your choice and return its path.

    Raises ValueError when there is no record yet.
    """
    entries = read()
    if not entries:
        raise ValueError(f"there is no progress to export yet; it will stand in {path()} after the first check()")
    to = Path(to).expanduser()
    _write(to, entries)
    return to


def progress_map() -> "ProgressMap":
    """The course as a small map: what is solved, tried and open, and what comes next; it keeps itself up to date."""
    return ProgressMap()


class NextExercise:
    """Where to go on: `name` and `notebook`, both None when everything is solved."""

    def __init__(self, *, name: str | None, notebook: str | None):
        self.name, self.notebook = name, notebook

    def __str__(self) -> str:
        return "Every exercise is solved." if self.name is None else f"Next: {self.name} in {self.notebook}.ipynb"

    __repr__ = __str__


class ProgressMap:
    """Reads the record whenever it is shown."""

    def rows(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Per notebook the exercises and their states."""
        from minipolycom.learn.exercises import EXERCISES

        entries, notebooks = read(), {}
        for exercise in EXERCISES.values():
            notebooks.setdefault(exercise.notebook, []).append((exercise.name, state(exercise.name, entries)))
        return list(notebooks.items())

    def __str__(self) -> str:
        lines = [f"{notebook:24} {_count(found)}\n" + _listed(found) for notebook, found in self.rows()]
        return "\n".join([*lines, str(next_exercise())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        body = "".join(
            f'<tr><th scope="row" {left}>{html.escape(notebook)}</th><td {left}>{_count(found)}</td><td {left}>'
            + " &nbsp; ".join(
                f"{WORDS[word]}&nbsp;<code>{html.escape(name)}</code>&nbsp;({word})" for name, word in found
            )
            + "</td></tr>"
            for notebook, found in self.rows()
        )
        head = "".join(f'<th scope="col" {left}>{word}</th>' for word in ("notebook", "solved", "exercises"))
        return (
            '<div class="minipolycom-progress"><table style="margin-left:0">'
            f"<caption {left}>Your way through the course</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            f"</table><p>{html.escape(str(next_exercise()))}</p></div>"
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        _shown.append(uuid.uuid4().hex)
        display(self._bundle(), raw=True, display_id=_shown[-1])

    def _bundle(self) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def _count(found: list[tuple[str, str]]) -> str:
    return f"{sum(word == 'solved' for _, word in found)} of {len(found)}"


def _listed(found: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {WORDS[word]} {name} ({word})" for name, word in found)


def _refresh() -> None:
    if not _shown:
        return
    from IPython.display import update_display

    for shown in _shown:
        update_display(ProgressMap()._bundle(), raw=True, display_id=shown)


def _change(name: str, how: Callable[[dict[str, Any]], Any]) -> None:
    """Read the record, change one exercise's entry and replace the file, all under the lock."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=LOCK_SECONDS):
            entries = _read_or_set_aside(file)
            how(entries.setdefault(name, {}))
            _write(file, entries)
    except (OSError, Timeout) as error:
        reason = (
            f"another program has held its lock for {LOCK_SECONDS} s" if isinstance(error, Timeout) else error.strerror
        )
        print(f"Progress is not recorded: {file}: {reason}.")
    else:
        _refresh()


def _read_or_set_aside(file: Path) -> dict[str, dict[str, Any]]:
    if not file.exists():
        return {}
    try:
        return _parse(file.read_text(encoding="utf-8"))
    except ValueError:
        aside = file.with_name(f"{file.stem}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}{file.suffix}")
        file.replace(aside)
        print(f"The progress record could not be read; it is kept as {aside} and a new one begun.")
        return {}


def _parse(text: str) -> dict[str, dict[str, Any]]:
    """The entries of a record. Raises ValueError for anything that is not one."""
    found = json.loads(text)
    entries = found.get("exercises") if isinstance(found, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError("not a progress record")
    return entries


def _write(file: Path, entries: dict[str, dict[str, Any]]) -> None:
    text = json.dumps({"format": 1, "exercises": entries}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_whole(file, text)


def write_whole(file: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never a part."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(text.encode())
    partial.replace(file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
