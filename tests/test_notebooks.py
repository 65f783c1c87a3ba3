"""The generator: what it makes of a source, that it makes the same again, and everything it refuses."""

# ruff: noqa: E501  one message stands on one line

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from minipolycom.learn import COSTS, Cost, notebooks
from minipolycom.learn.notebooks import build, differing, main, write

TITLE = '# %% [markdown] title="Start here" minutes=30 hardware="2 CPU cores"\n# By the end you will have shown it.\n\n'
SETUP = "# %% setup=true\n\n"
EXERCISE = '# %% exercise="unigram_entropy"\n\n'
CLAIMS = """
[letters-suffice]
claim = "Letters | suffice"
paper = "A paper, figure 1"
status = "contradicted"
scale = "256 bytes"
tolerance = "0.1 nats"
command = "minipolycom train"

[rate]
claim = "The rate is optimal"
paper = "A paper, theorem 2"
status = "not attempted"
"""
COST = {"smoke": Cost(steps=2, minutes=0.1, memory=0.5), "cpu": Cost(steps=200, minutes=1.5, memory=1), "gpu": Cost(steps=900, minutes=2, memory=4)}  # fmt: skip


@pytest.fixture
def course(tmp_path):
    (tmp_path / "course" / "source").mkdir(parents=True)
    return tmp_path / "course"


def put(course: Path, body: str = "", *, name: str = "00_start_here", head: str = TITLE + SETUP + EXERCISE) -> Path:
    file = course / "source" / f"{name}.py"
    file.write_text(head + body, encoding="utf-8")
    return file


def cells(course: Path, folder: str = "", name: str = "00_start_here") -> list:
    text = build(course, course.parent / "pyproject.toml")[course / folder / f"{name}.ipynb"]
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def refused(course: Path) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        build(course, course.parent / "pyproject.toml")
    return str(error.value)


# --- what it makes


def test_the_title_carries_name_time_and_hardware(course):
    put(course)
    first = cells(course)[0]
    assert first.id == "title"
    assert first.source.startswith("# 00 · Start here\n\n")
    assert "**Time** 30 minutes · **Hardware** 2 CPU cores" in first.source
    assert first.source.endswith("By the end you will have shown it.")
    assert cells(course, "solutions")[0].source.startswith("# 00 · Start here (solutions)\n\n")


def test_the_badge_follows_the_address_in_pyproject_and_is_no_dead_link_without_one(course):
    put(course)
    assert "](" not in cells(course)[0].source
    assert "the wheel that `make wheel` builds" in cells(course)[0].source
    project = course.parent / "pyproject.toml"
    project.write_text('[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/someone/thing"\n')
    link = "https://colab.research.google.com/github/someone/thing/blob/main/course/{}00_start_here.ipynb"
    assert f"]({link.format('')})" in cells(course)[0].source
    assert f"]({link.format('solutions/')})" in cells(course, "solutions")[0].source
    assert "git+https://github.com/someone/thing" in cells(course)[1].source
    project.write_text('[project]\nname = "x"\n[project.urls]\nRepository = "https://git.example.org/thing"\n')
    assert "colab.research" not in cells(course)[0].source


def test_the_setup_cell_is_the_same_everywhere(course):
    put(course)
    put(course, name="07_other", head=TITLE + SETUP)
    one, other = cells(course)[1], cells(course, name="07_other")[1]
    assert one.id == other.id == "setup"
    assert len(one.source.splitlines()) <= 5
    assert one.source.replace("00_start_here", "07_other") == other.source


def test_an_exercise_becomes_statement_cell_and_folds(course):
    put(course)
    task, cell, folds = cells(course)[2:5]
    assert [task.id, cell.id, folds.id] == ["unigram_entropy-task", "unigram_entropy", "unigram_entropy-help"]
    assert task.source.startswith("### Exercise: `unigram_entropy`\n\nDifficulty ●●○○○ (2 of 5) · Importance ●●●●○")
    assert "about 10 minutes" in task.source
    assert cell.source.startswith(
        "import torch\n\nfrom minipolycom.learn import check, hint, solution\n\n\ndef unigram"
    )
    assert cell.source.endswith('    ...\n\n\ncheck("unigram_entropy", unigram_entropy)')
    assert folds.source.count("<details>") == folds.source.count("</details>") == 4
    assert "<summary>Hint 1</summary>\n\n" in folds.source
    assert "```python\ndef unigram_entropy" in folds.source


def test_only_the_exercise_cells_and_the_title_differ_between_the_two_versions(course):
    put(course, "# %%\nprint('hello')\n")
    learner, solved = cells(course), cells(course, "solutions")
    assert [cell.id for cell in learner] == [cell.id for cell in solved]
    unlike = [one.id for one, other in zip(learner, solved, strict=True) if one.source != other.source]
    assert unlike == ["title", "unigram_entropy"]
    assert "    return -(p * torch.log(p)).sum()\n\n\ncheck(" in solved[3].source


def test_metadata_is_what_jupyter_and_colab_read(course):
    put(course)
    notebook = json.loads(build(course, course / "none")[course / "00_start_here.ipynb"])
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"] == {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "minipolycom": {"generated_from": "course/source/00_start_here.py"},
    }
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])


def test_the_same_source_gives_the_same_bytes_and_an_edit_moves_no_other_id(course):
    body = "# %% [markdown]\n# same\n\n# %% [markdown]\n# same\n\n# %%\nx = 1\n"
    put(course, body)
    before = cells(course)
    assert build(course, course / "none") == build(course, course / "none")
    assert len({cell.id for cell in before}) == len(before)
    put(course, "# %%\nnew = 2\n\n" + body)
    after = [cell.id for cell in cells(course)]
    assert [cell for cell in after if cell in {c.id for c in before}] == [cell.id for cell in before]


def test_a_heavy_cell_shows_its_cost_before_it_runs(course, monkeypatch):
    monkeypatch.setitem(COSTS, "sample", COST)
    put(course, '# %% cost="sample"\nfit(steps=cost("sample").steps)\n')
    table, cell = cells(course)[-2:]
    assert table.id == "cost-sample"
    assert "| cpu | 200 | 1.5 min | 1 GB |" in table.source
    assert "| smoke | 2 | 6 s | 0.5 GB |" in table.source
    assert cell.source == 'fit(steps=cost("sample").steps)'


def test_ordinary_lines_for_ipython_pass(course):
    put(course, "# %%\n# %matplotlib inline\n# !ls\nx = 1\n")
    assert "x = 1" in cells(course)[-1].source


# --- writing and checking


def test_write_then_check_and_a_hand_edited_notebook_is_named(course, capsys):
    put(course)
    project = course.parent / "pyproject.toml"
    assert differing(course, project) == ["00_start_here.ipynb", "solutions/00_start_here.ipynb"]
    assert main(["--course", str(course)]) == 0
    assert capsys.readouterr().out.count("wrote ") == 2
    assert write(course, project) == []
    assert main(["--course", str(course), "--check"]) == 0
    file = course / "00_start_here.ipynb"
    file.write_text(file.read_text().replace("Start here", "Start there"))
    assert main(["--course", str(course), "--check"]) == 1
    said = capsys.readouterr().err
    assert f"{file} is not what its source gives" in said
    assert "solutions" not in said
    assert "python -m minipolycom.learn.notebooks" in said
    assert sorted(path.name for path in course.iterdir()) == ["00_start_here.ipynb", "solutions", "source"]


def test_a_notebook_without_a_source_is_named(course):
    put(course)
    write(course, course / "none")
    (course / "09_old.ipynb").write_text("{}")
    assert differing(course, course / "none") == ["09_old.ipynb"]


def test_a_refusal_on_the_command_line_is_one_line(course, capsys):
    put(course, "# %% nonsense=1\nx = 1\n")
    assert main(["--course", str(course)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("00_start_here.py, cell 4 (x = 1): unknown mark 'nonsense'")
    assert said.count("\n") == 1


def test_a_folder_without_sources_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "minipolycom.learn.notebooks", "--course", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "is no folder; run this at the top of the repository or name the course with --course" in done.stderr


# --- what it refuses

WITH_TITLE = "00_start_here.py, cell 1: "


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (SETUP + EXERCISE, f"{WITH_TITLE}the first cell is the title: # %% [markdown] title="),
        ('# %% [markdown] title="A" minutes=30\n# x\n\n' + SETUP, f"{WITH_TITLE}the title says its hardware: add hardware="),
        ('# %% [markdown] title="A"\n# x\n\n' + SETUP, f"{WITH_TITLE}the title says its minutes and hardware: add minutes="),
        (TITLE + EXERCISE, "00_start_here.py: the first code cell, and no other, is the set-up cell: # %% setup=true"),
        (TITLE + SETUP + SETUP + EXERCISE, "the first code cell, and no other, is the set-up cell"),
        (TITLE + SETUP, '00_start_here.py: its exercises are, in the order of learn/exercises, unigram_entropy; in the source stand none. Each has one cell: # %% exercise="name"'),
        (TITLE + SETUP + EXERCISE + EXERCISE, "in the source stand unigram_entropy, unigram_entropy."),
        (TITLE + SETUP + EXERCISE + '# %% exercise="relu_gain"\n', "in the source stand unigram_entropy, relu_gain."),
    ],
)  # fmt: skip
def test_the_frame_of_a_notebook(course, head, said):
    put(course, head=head)
    assert said in refused(course)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("# %% colour='red'\nx = 1\n", "cell 4 (x = 1): unknown mark 'colour'; known: title, minutes, hardware"),
        ("# %% exercise=3\n", "cell 4 (exercise=3): the mark exercise takes text; got 3"),
        ('# %% cost=""\nx = 1\n', "the mark cost takes text; got ''"),
        ('# %% exercise="nonsense"\n', "there is no exercise 'nonsense'; known: unigram_entropy"),
        ("# %% [markdown]\n# ![](curve.png)\n", "cell 4 (![](curve.png)): an image without alt text; say between the brackets what it shows"),
        ("# %% [markdown]\n# ![ ](curve.png)\n", "an image without alt text"),
        ("# %% [markdown]\n# <img src='a.png'>\n", 'an <img> without alt text; add alt="what it shows"'),
        ("# %% [markdown]\n# <img src='a.png' alt=''>\n", "an <img> without alt text"),
        ("# %%\nimport plotly.express as px\n", "cell 4 (import plotly.express as px): plotly.express draws figures without alt text; take a figure from minipolycom.viz.figures"),
        ("# %%\nfrom plotly import graph_objects\n", "plotly.graph_objects draws figures without alt text"),
        ("# %%\nimport matplotlib.pyplot as plot\n", "matplotlib.pyplot draws figures without alt text"),
        ("# %%\nfigure = go.Figure()\n", "go draws figures without alt text"),
        ("# %%\nplt.plot([1])\n", "plt draws figures without alt text"),
        ("# %%\nrun = fit(data, model)\n", 'cell 4 (run = fit(data, model)): fit() trains, and no cost is declared; add cost="name"'),
        ("# %%\nminipolycom.viz.live_training()\n", "live_training() trains, and no cost is declared"),
        ("# %%\nrun = fit_ssl(data)\n", "fit_ssl() trains, and no cost is declared"),
        ("# %%\ntrainer = Trainer()\n", "Trainer() trains, and no cost is declared"),
        ('# %% cost="nonsense"\nfit(steps=cost("nonsense").steps)\n', "no cost is declared for 'nonsense' at smoke, cpu, gpu; add it to COSTS in learn/tiers.py; known: "),
        ('# %% cost="sample"\nfit(steps=10)\n', 'the cell does not ask for its size; take it from cost("sample").steps, so that the tier decides'),
        ('# %% [markdown] cost="sample"\n# text\n', "a cost belongs to a code cell"),
        ('# %% claim="nonsense"\nx = 1\n', "claim 'nonsense' is not in the paper map; declare it in course/source/claims.toml (known: letters-suffice, rate)"),
        ("# %%\nx = = 1\n", "cell 4 (x = = 1): line 1 is not Python: invalid syntax"),
    ],
)  # fmt: skip
def test_what_the_course_does_not_allow(course, monkeypatch, body, said):
    monkeypatch.setitem(COSTS, "sample", COST)
    (course / "source" / "claims.toml").write_text(CLAIMS)
    put(course, body)
    message = refused(course)
    assert message.startswith("00_start_here.py, cell 4 (")
    assert said in message


def test_the_cell_of_an_exercise_is_left_empty(course):
    put(course, head=TITLE + SETUP + '# %% exercise="unigram_entropy"\nx = 1\n')
    assert "cell 3 (x = 1): a cell with the mark exercise is an empty code cell; its content is filled in" in refused(
        course
    )


def test_a_cost_has_every_tier(course, monkeypatch):
    monkeypatch.setitem(COSTS, "partial", {"smoke": COST["smoke"], "cpu": COST["cpu"]})
    put(course, '# %% cost="partial"\nfit(steps=cost("partial").steps)\n')
    assert "no cost is declared for 'partial' at gpu" in refused(course)


def test_a_claim_is_tested_by_one_cell(course):
    (course / "source" / "claims.toml").write_text(CLAIMS)
    cell = '# %% claim="letters-suffice"\nx = 1\n\n'
    put(course, cell + cell)
    assert "claim 'letters-suffice' is marked on an earlier cell already; one cell tests it" in refused(course)
    put(course, cell)
    put(course, cell, name="07_other", head=TITLE + SETUP)
    assert "07_other.py: claim 'letters-suffice' is already tested in 00_start_here.ipynb" in refused(course)


def test_everything_refused_above_is_allowed_when_done_right(course, monkeypatch):
    monkeypatch.setitem(COSTS, "sample", COST)
    (course / "source" / "claims.toml").write_text(CLAIMS)
    put(
        course,
        "# %% [markdown]\n# ![a curve that falls](curve.png) <img src='a.png' alt='a curve'>\n\n"
        '# %% cost="sample" claim="letters-suffice"\n'
        'run = fit(data, model, TrainConfig(steps=cost("sample").steps))\n\n'
        "# %%\nfrom minipolycom.viz import figures\n\nfigures.training_curves(run.rows)\n",
    )
    assert [cell.id for cell in cells(course)][-3:-1] == ["cost-sample", "claim-letters-suffice"]
    write(course, course / "none")
    assert "[00_start_here](00_start_here.ipynb#cell-id=claim-letters-suffice)" in (course / "PAPER_MAP.md").read_text()


def test_exercises_stand_in_the_order_in_which_the_progress_map_leads_through_them(course):
    names = ["silu_derivative", "collapse_linear", "relu_gain", "dead_fraction"]
    cells = "".join(f'# %% exercise="{name}"\n\n' for name in names)
    put(course, name="01_why_nonlinearity", head=TITLE + SETUP + cells)
    assert "in the order of learn/exercises, collapse_linear, silu_derivative" in refused(course)


# --- the notebooks at work


def run(file: Path, monkeypatch, folder: Path) -> tuple[str, dict]:
    """Run a notebook to its end; the text of its last output, and the progress it recorded."""
    record = folder / f"{file.parent.name}.json"
    monkeypatch.setenv("MINIPOLYCOM_PROGRESS", str(record))
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    outputs = next(cell for cell in notebook.cells if cell.id == "unigram_entropy").outputs
    return outputs[-1]["data"]["text/plain"], json.loads(record.read_text())["exercises"]


def test_a_learners_notebook_runs_to_its_end_and_the_solutions_pass(course, tmp_path, monkeypatch):
    put(course, "# %%\nprint('the end')\n")
    write(course, course / "none")
    said, record = run(course / "00_start_here.ipynb", monkeypatch, tmp_path)
    assert said.startswith("○ not attempted: unigram_entropy")
    assert record["unigram_entropy"] == {"status": "not attempted"}
    said, record = run(course / "solutions" / "00_start_here.ipynb", monkeypatch, tmp_path)
    assert said.startswith("✔ passed: unigram_entropy")
    assert record["unigram_entropy"]["status"] == "passed"


def test_the_courses_own_notebooks_are_what_their_sources_give():
    root = Path(__file__).parents[1]
    assert differing(root / "course", root / "pyproject.toml") == []
    assert list((root / "course" / "source").glob("[0-9]*.py"))


def test_the_module_says_how_a_source_is_written():
    for mark in notebooks.MARKS:
        assert mark in notebooks.__doc__
