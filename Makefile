# make learn   from nothing to JupyterLab at the course
# make test    from nothing to every test
#
# PYTHON names another Python, VENV another environment, ARGS goes to JupyterLab or pytest, JOBS tests run side by side;
# pip's own settings (PIP_CONSTRAINT, PIP_INDEX_URL, ...) are honoured. What is installed is remembered: a second call starts at once.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
JOBS   ?= 2
BIN    := $(VENV)/bin

# Some files take minutes and most take seconds: who is done takes over what the other has not begun.
PARALLEL := -n $(JOBS) --dist worksteal

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help learn test notebooks check-notebooks wheel lint format colab classic clean

help:
	@echo "make learn            open the course in JupyterLab (installs what it needs first)"
	@echo "make test             run every test, the browser tests included (installs what it needs first)"
	@echo "make notebooks        write course/*.ipynb from course/source/*.py"
	@echo "make check-notebooks  say whether the notebooks are what their sources give"
	@echo "make wheel            build the package beside the notebooks, to upload to Colab"
	@echo "make colab            run texts, figures, widgets and notebooks on the versions that Colab ships"
	@echo "make classic          run the widgets in classic Notebook 6, with ipywidgets 7 and plotly 5, in a browser"
	@echo "make lint             ruff: rules and formatting"
	@echo "make format           ruff: apply both"
	@echo "make clean            remove the environment and what was built"

learn: $(VENV)/.lab
	$(BIN)/minipolycom lab $(ARGS)

# The rooms whose signatures have shapes run with these checked, but for torch.compile, which cannot trace the checks, and
# for what compares times, which runs alone.
SHAPED := minipolycom.activations,minipolycom.approximation,minipolycom.bench,minipolycom.evaluate,minipolycom.fused,minipolycom.grouped,minipolycom.linear,minipolycom.model,minipolycom.record,minipolycom.reshaping,minipolycom.spectral,minipolycom.ssl,minipolycom.studies,minipolycom.text,minipolycom.viz

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not (timing or compile)" $(PARALLEL) --jaxtyping-packages=$(SHAPED),typechecker.checked $(ARGS)
	JAXTYPING_DISABLE=1 $(BIN)/python -m pytest -m "timing or compile" $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "minipolycom needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one that is: make learn PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e '.[lab]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e '.[test]'
	@touch $@ $(VENV)/.lab

notebooks: $(VENV)/.test
	$(BIN)/python -m minipolycom.learn.notebooks

check-notebooks: $(VENV)/.test
	$(BIN)/python -m minipolycom.learn.notebooks --check

# What an earlier build left behind would go into the wheel again.
wheel: | $(BIN)/python
	rm -rf build course/minipolycom-*.whl
	$(BIN)/python -m pip wheel --no-deps --wheel-dir course .

# Untouched and solved notebooks differ in the exercises alone: on other versions the solved ones say enough.
colab: $(VENV)-colab/.ready
	$(VENV)-colab/bin/python -m pytest $(patsubst %,tests/test_%.py,viz recorded branches anatomy compositions widgets cockpit collapse text course) $(wildcard tests/test_*_figures.py) $(PARALLEL) -k "not untouched" $(ARGS)

$(VENV)-colab/.ready: pyproject.toml tests/colab.txt
	$(PYTHON) -m venv --clear $(VENV)-colab
	$(VENV)-colab/bin/python -m pip install -c tests/colab.txt -e . pytest pytest-timeout pytest-xdist hypothesis nbclient
	@touch $@

classic: $(VENV)-classic/.ready
	$(VENV)-classic/bin/python -m pytest tests/classic $(ARGS)

$(VENV)-classic/.ready: pyproject.toml tests/classic.txt
	$(PYTHON) -m venv --clear $(VENV)-classic
	$(VENV)-classic/bin/python -m pip install -r tests/classic.txt -e . pytest pytest-timeout playwright
	@touch $@

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-colab $(VENV)-classic build course/minipolycom-*.whl
