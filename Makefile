# make lab: the lab and its notebooks.  make test: every check.  The others are in `make help`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
WORKERS ?= 2

.PHONY: help lab test test-long bench notebooks coverage-tr clean

help:
	@echo "make lab          install into $(VENV), start a simulated site, open JupyterLab on the first notebook"
	@echo "make test         every check: types, lint, tests, notebooks, browser (under 15 minutes)"
	@echo "make test-long    the exhaustive runs: every kill point, long fuzz"
	@echo "make bench        speed and memory, as ratios and counts"
	@echo "make notebooks    execute the notebooks anew and store them with their outputs"
	@echo "make coverage-tr  which rows of TR-4004 are shown by which test or notebook cell"
	@echo "make clean        remove $(VENV) and the caches"

$(VENV)/bin/python:
	@echo "== Making the environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 cannot make environments here: on Debian or Ubuntu run 'sudo apt install python3-venv' once"; exit 1; }

$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "== Installing smhvlab (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(TEST_STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "== Installing smhvlab with its test tools (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(STAMP) $@

lab: $(STAMP)
	@$(BIN)/smhvlab lab

test: $(TEST_STAMP)
	@$(BIN)/python tools/run_checks.py --workers $(WORKERS)

test-long: $(TEST_STAMP)
	@$(BIN)/python tools/run_checks.py --workers $(WORKERS) --long

bench: $(TEST_STAMP)
	@$(BIN)/python -m bench

notebooks: $(TEST_STAMP)
	@$(BIN)/python tools/execute_notebooks.py

coverage-tr: $(TEST_STAMP)
	@$(BIN)/python tools/coverage_tr.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
