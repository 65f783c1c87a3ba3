"""What a reader has entered into a comparison with records: a file of rows for each entry, under its name.

    write_rows(folder, "mine", rows)    takes the place of what stood under that name
    read_rows(folder, "mine")           its rows, none where nothing has entered under that name
    read_all(folder)                    the rows of every entry
    code_of(settings, numbers)          of what was trained: another function has another one, whatever it is called

Both boards keep what enters in this way, that of activations and that of spectral filters.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from minipolycom.runs import write_json


def write_rows(folder: Path | str, name: str, rows: Iterable[Mapping]) -> None:
    """Keep the rows of an entry."""
    write_json(_file(folder, name), list(rows))


def read_rows(folder: Path | str, name: str) -> list[dict]:
    """The rows of an entry."""
    file = _file(folder, name)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def read_all(folder: Path | str) -> list[dict]:
    """The rows of everything that has entered so far, in the order of the entries' names."""
    files = sorted(Path(folder).glob("*.json"))
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]


def code_of(settings: object, numbers: Iterable[float]) -> str:
    """Twelve characters that change with the settings, or with any number in one of its first six digits."""
    told = [settings, [f"{number:.6g}" for number in numbers]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _file(folder: Path | str, name: str) -> Path:
    return Path(folder) / (re.sub(r"[^\w.-]+", "_", name) + ".json")
