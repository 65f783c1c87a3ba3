"""The progress record and the compute tiers: what a learner's machine remembers and what it is trusted with."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from minipolycom.learn import (
    COSTS,
    EXERCISES,
    Cost,
    check,
    cost,
    export,
    hint,
    next_exercise,
    progress,
    progress_map,
    reference,
    solution,
    tier,
    tiers,
)

COURSE = Path(__file__).parents[1] / "course"


@pytest.fixture(autouse=True)
def record(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIPOLYCOM_PROGRESS", str(tmp_path / "mine" / "progress.json"))
    return tmp_path / "mine" / "progress.json"


def test_verdicts_hints_and_solutions_are_recorded(record):
    check("relu_gain", ...)
    assert progress.state("relu_gain") == "open"
    check("relu_gain", 1.0)
    check("relu_gain", 2.0)
    assert progress.state("relu_gain") == "tried"
    hint("relu_gain", 2)
    hint("relu_gain")
    solution("relu_gain")
    check("relu_gain", 2**0.5)
    check("relu_gain", 3.0)
    entry = json.loads(record.read_text())["exercises"]["relu_gain"]
    assert entry.pop("solved_at").endswith("+00:00")
    assert entry == {"status": "passed", "tries": 4, "hints": 2, "solution_seen": "before"}
    solution("relu_gain")
    assert progress.read()["relu_gain"]["solution_seen"] == "before"


def test_the_record_stands_in_the_users_own_folder_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIPOLYCOM_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert progress.path() == tmp_path / "minipolycom" / "progress.json"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert progress.path() == Path.home() / ".local/share/minipolycom/progress.json"


def count_up(name: str, times: int) -> None:
    for _ in range(times):
        progress.record(name, "wrong")


def test_two_notebooks_at_once_lose_nothing():
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=count_up, args=(name, 25)) for name in ("relu_gain", "relu_gain", "dead_fraction")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert progress.read()["relu_gain"]["tries"] == 50
    assert progress.read()["dead_fraction"]["tries"] == 25


def test_a_deleted_record_begins_anew(record):
    check("relu_gain", 2**0.5)
    record.unlink()
    assert progress.state("relu_gain") == "open"
    check("relu_gain", 1.0)
    assert progress.read()["relu_gain"]["tries"] == 1


@pytest.mark.parametrize("damage", ['{"exercises": {"relu_', "[]", '{"exercises": {"relu_gain": 3}}', "", "\ud800"])
def test_a_damaged_record_is_set_aside_and_said_so(record, capsys, damage):
    record.parent.mkdir()
    record.write_bytes(damage.encode(errors="surrogatepass"))
    assert "0 of 1" in str(progress_map())
    check("relu_gain", 2**0.5)
    (aside,) = record.parent.glob("progress.damaged-*.json")
    assert aside.read_bytes() == damage.encode(errors="surrogatepass")
    assert (
        capsys.readouterr().out
        == f"The progress record could not be read; it is kept as {aside} and a new one begun.\n"
    )
    assert progress.state("relu_gain") == "solved"


def test_a_record_that_cannot_be_written_stops_nobody(tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MINIPOLYCOM_PROGRESS", str(tmp_path / "a file" / "progress.json"))
    assert check("relu_gain", 2**0.5).passed
    assert capsys.readouterr().out.startswith("Progress is not recorded: ")


def test_a_lock_held_by_another_is_not_waited_for_long(record, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOCK_SECONDS", 0.1)
    record.parent.mkdir()
    with FileLock(f"{record}.lock"):
        assert check("relu_gain", 2**0.5).passed
    assert "another program has held its lock for 0.1 s" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_record(record, monkeypatch, capsys):
    check("relu_gain", 2**0.5)
    before = record.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    check("dead_fraction", reference("dead_fraction"))
    assert record.read_bytes() == before
    assert "Progress is not recorded" in capsys.readouterr().out


def test_the_map_shows_three_states_in_symbol_and_word():
    check("relu_gain", 2**0.5)
    check("dead_fraction", lambda z: z.mean())
    text, html = str(progress_map()), progress_map()._repr_html_()
    assert "01_why_nonlinearity      1 of 4" in text
    for line in ("✔ relu_gain (solved)", "◐ dead_fraction (tried)", "○ unigram_entropy (open)"):
        assert line in text
    assert "✔&nbsp;<code>relu_gain</code>&nbsp;(solved)" in html
    assert ">Your way through the course</caption>" in html
    assert '<th scope="row" style="text-align:left">01_why_nonlinearity</th>' in html
    assert text.splitlines()[-1] == "Next: unigram_entropy in 00_start_here.ipynb"


def test_the_next_exercise_follows_the_course_until_all_are_solved():
    assert (next_exercise().name, next_exercise().notebook) == ("unigram_entropy", "00_start_here")
    check("unigram_entropy", reference("unigram_entropy"))
    assert str(next_exercise()) == "Next: collapse_linear in 01_why_nonlinearity.ipynb"
    for name in EXERCISES:
        progress.record(name, "passed")
    assert str(next_exercise()) == "Every exercise is solved."


def test_export(tmp_path):
    with pytest.raises(
        ValueError, match=r"there is no progress to export yet; it will stand in .*progress\.json after"
    ):
        export(tmp_path / "copy.json")
    check("relu_gain", 2**0.5)
    assert export(tmp_path / "copy.json") == tmp_path / "copy.json"
    assert json.loads((tmp_path / "copy.json").read_text())["exercises"]["relu_gain"]["status"] == "passed"


def test_a_map_on_display_follows_the_verdicts_and_outlives_the_kernel(tmp_path):
    def run(*cells: str) -> list:
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
        return notebook.cells

    names = "from minipolycom.learn import check, progress_map"
    shown, verdict = run(f"{names}\nprogress_map()", 'check("relu_gain", 2 ** 0.5)')
    assert "✔ relu_gain (solved)" in shown.outputs[0]["data"]["text/plain"]
    assert "(solved)" in shown.outputs[0]["data"]["text/html"]
    assert "✔ passed" in verdict.outputs[0]["data"]["text/plain"]
    (again,) = run(f"{names}\nprogress_map()")
    assert "✔ relu_gain (solved)" in again.outputs[0]["data"]["text/plain"]
    assert nbformat.__version__


# --- tiers


@pytest.fixture
def no_choice(monkeypatch):
    monkeypatch.setattr(tiers, "_chosen", None)
    monkeypatch.delenv("MINIPOLYCOM_TIER", raising=False)


@pytest.mark.usefixtures("no_choice")
def test_the_tier_is_chosen_by_the_learner_then_the_environment_then_the_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (tier().name, tier().because) == ("cpu", "found no GPU")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A100")
    assert (tier().name, tier().because) == ("gpu", "found A100")
    monkeypatch.setenv("MINIPOLYCOM_TIER", "smoke")
    assert tier().name == "smoke"
    assert "MINIPOLYCOM_TIER says so" in str(tier())
    assert tier("cpu").name == "cpu"
    assert str(tier()) == 'tier cpu: sized for 2 CPU cores (you chose it); tier("smoke") or tier("gpu") changes it'


@pytest.mark.usefixtures("no_choice")
def test_an_unknown_tier_is_refused_with_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match=r"tier\(\) takes one of smoke, cpu, gpu; got 'tpu'"):
        tier("tpu")
    monkeypatch.setenv("MINIPOLYCOM_TIER", "huge")
    with pytest.raises(ValueError, match="MINIPOLYCOM_TIER takes one of smoke, cpu, gpu; got 'huge'"):
        tier()


@pytest.mark.usefixtures("no_choice")
def test_a_cost_is_that_of_the_tier_and_is_printed_first(monkeypatch, capsys):
    each = {name: Cost(steps=steps, minutes=0.5, memory=2) for name, steps in (("smoke", 2), ("cpu", 20), ("gpu", 90))}
    monkeypatch.setitem(COSTS, "sample", each)
    monkeypatch.setenv("MINIPOLYCOM_TIER", "smoke")
    assert cost("sample").steps == 2
    assert capsys.readouterr().out == "smoke: 2 steps, about 30 s, 2 GB of memory\n"
    with pytest.raises(ValueError, match=r"no cost is declared for 'nonsense'; known: .*sample. Add it to COSTS"):
        cost("nonsense")


def test_every_declared_cost_has_every_tier():
    for cell, declared in COSTS.items():
        assert declared.keys() == tiers.TIERS.keys(), cell
        assert all(each.steps > 0 for each in declared.values())
        for name in ("smoke", "cpu"):  # the tiers that a machine without a GPU can measure
            assert declared[name].minutes > 0
            assert declared[name].memory > 0


def test_looking_at_tiers_and_progress_imports_no_torch():
    code = "import sys; from minipolycom.learn import COSTS, Cost, export; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("no_choice")
def test_a_cost_that_nobody_measured_says_so(monkeypatch, capsys):
    measured = Cost(steps=2, minutes=0.1, memory=1)
    monkeypatch.setitem(COSTS, "unmeasured", {"smoke": measured, "cpu": measured, "gpu": Cost(steps=90)})
    monkeypatch.setenv("MINIPOLYCOM_TIER", "gpu")
    cost("unmeasured")
    assert capsys.readouterr().out == "gpu: 90 steps; time and memory were not measured yet\n"
    assert "| gpu | 90 | not measured | not measured |" in tiers.cost_table("unmeasured")


def test_declared_costs_are_those_of_the_record():
    """What the notebooks promise for two cores was measured on two cores; a minute or two is a rounded number."""
    record = json.loads((COURSE / "reference" / "costs-cpu.json").read_text())
    assert record["cores"] == 2
    assert record["cells"].keys() == COSTS.keys()
    for name, measured in record["cells"].items():
        declared = COSTS[name]["cpu"]
        assert declared.steps == measured["steps"]
        assert measured["seconds"] / 1.5 <= 60 * declared.minutes <= 1.5 * measured["seconds"], name
        assert measured["memory"] / 1.5 <= declared.memory <= 1.5 * measured["memory"], name
