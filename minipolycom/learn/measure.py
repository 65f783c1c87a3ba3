"""What the heavy cells of the notebooks cost on this machine, measured by running them.

    python -m minipolycom.learn.measure --tier cpu           writes course/reference/costs-cpu.json
    python -m minipolycom.learn.measure --tier cpu 05 11     these notebooks alone; what stands there of others is kept

The record says where, and of each cell when, from which commit, and how busy the machine was; the minutes and gigabytes
in `tiers.COSTS` are held to it by a test.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import nbclient
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from minipolycom.checking import check_known
from minipolycom.learn.tiers import COSTS, TIERS
from minipolycom.runs import environment, write_json

PEAK = "import re\nprint(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 2**20)"
"""Prints the most memory that the kernel has had so far, in GB, as Linux keeps it. (The figure of the module `resource`
would include the process that started the kernel.)"""


def execute(file: Path, folder: Path, tier: str, progress: Path) -> tuple[NotebookNode, dict[str, dict[str, float]]]:
    """Run a notebook in `folder` at a tier; return it with its outputs, and each heavy cell's seconds and gigabytes.

    A widget trains in the background and the cell after it waits, so a heavy cell's time ends with the next code cell.
    Raises nbclient's CellExecutionError when a cell raises.
    """
    notebook = nbformat.read(file, as_version=4)
    heavy = _heavy_cells(notebook)
    for _, last in sorted(heavy.values(), key=lambda cells: -notebook.cells.index(cells[1])):
        notebook.cells.insert(notebook.cells.index(last) + 1, new_code_cell(PEAK))
    env = os.environ | {"MINIPOLYCOM_TIER": tier, "MINIPOLYCOM_PROGRESS": str(progress)}
    client = nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)
    costs = {}
    for name, (first, last) in heavy.items():
        begun = datetime.fromisoformat(first.metadata.execution["iopub.execute_input"])
        ended = datetime.fromisoformat(last.metadata.execution["shell.execute_reply"])
        peak = notebook.cells[notebook.cells.index(last) + 1].outputs[0].text
        costs[name] = {"seconds": round((ended - begun).total_seconds(), 1), "memory": round(float(peak), 2)}
    return notebook, costs


def record(course: Path, tier: str, numbers: Sequence[str] = ()) -> dict[str, dict]:
    """Run the solution notebooks that have heavy cells at a tier, those with these numbers or all; by cell what it
    costs, with its provenance.

    Raises ValueError for a number that no such notebook has.
    """
    files = {
        file.name.split("_")[0]: file
        for file in sorted((course / "solutions").glob("*.ipynb"))
        if _heavy_cells(nbformat.read(file, as_version=4))
    }
    for number in numbers:
        check_known("notebook with heavy cells", number, files)
    cells = {}
    for file in [files[number] for number in numbers or files]:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{file.name} ...", flush=True)
            measured = execute(file, Path(folder), tier, Path(folder, "progress.json"))[1]
        load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
        about = {"date": date.today().isoformat(), "commit": _commit(course), "load_average": load}
        for name, cost in measured.items():
            cells[name] = {"steps": COSTS[name][tier].steps, **cost, **about}
            print(f"  {name}: {cost['seconds']:g} s, {cost['memory']:g} GB", flush=True)
    return cells


def _heavy_cells(notebook: NotebookNode) -> dict[str, tuple[NotebookNode, NotebookNode]]:
    """Each heavy cell by the name of its cost, with the code cell after it (itself if it is the last)."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = {}
    for place, cell in enumerate(notebook.cells):
        if cell.id.startswith("cost-"):
            first = next(later for later in notebook.cells[place:] if later.cell_type == "code")
            found[cell.id.removeprefix("cost-")] = first, code[min(code.index(first) + 1, len(code) - 1)]
    return found


def _commit(folder: Path) -> str:
    if shutil.which("git") is None:
        return "unknown"
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m minipolycom.learn.measure", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), required=True)
    parser.add_argument("--course", type=Path, default=Path("course"), help="the folder that holds the notebooks")
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="numbers of notebooks; all if none is given")
    options = parser.parse_args(arguments)
    written = options.course / "reference" / f"costs-{options.tier}.json"
    written.parent.mkdir(exist_ok=True)
    before = json.loads(written.read_text(encoding="utf-8"))["cells"] if options.notebooks and written.exists() else {}
    cells = before | record(options.course, options.tier, options.notebooks)
    recorded = datetime.now(UTC).isoformat("T", "seconds")
    write_json(
        written,
        {"tier": options.tier, "recorded": recorded}
        | environment()
        | {"cells": {name: cells[name] for name in COSTS if name in cells}},
    )
    print(f"wrote {written}")


if __name__ == "__main__":
    main()
