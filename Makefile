# Two commands do all the set-up: `make run` opens the workstation, `make test` runs every test.
# Both make .venv first. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test bench lint format snapshots clean help

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run  ## open the workstation
	@exec $(BIN)/meshtui

test: $(VENV)/.dev  ## run all tests (real engines included)
	$(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.dev  ## measure, as ratios against what runs beside it, and print the tables
	$(BIN)/python -m pytest tests/bench -s $(ARGS)

lint: $(VENV)/.dev  ## layers, types and style
	$(BIN)/python -m pytest tests/unit/test_code_quality.py

format: $(VENV)/.dev  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

snapshots: $(VENV)/.dev  ## accept the screens as they are now
	MESHTUI_UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest tests/tui $(ARGS)

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# The environment is made anew when the dependencies change. pip compiles what it installs; our own
# code is compiled here, so that the first start is as fast as every other.
$(VENV)/.run: pyproject.toml setup.py
	@test -x $(BIN)/python || $(PYTHON) scripts/make_venv.py $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[uv]'
	@$(BIN)/python -m compileall -q meshtui screens themes config
	@touch $@

$(VENV)/.dev: pyproject.toml setup.py
	@test -x $(BIN)/python || $(PYTHON) scripts/make_venv.py $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.run
