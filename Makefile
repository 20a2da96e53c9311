# `make help` lists what there is. PYTHON chooses the interpreter, VENV where its packages go.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit stress chaos bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)  ## see it work: 200 requests through a limited pool, and without the limit
	@$(BIN)/python examples/quickstart.py

test: lint unit  ## everything that must pass: lint, types, tests

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: $(READY)  ## the tests alone
	$(BIN)/python -m pytest

stress: $(READY)  ## the stress tests, many rounds (ROUNDS=20)
	ODDJOB_STRESS_ROUNDS=$(or $(ROUNDS),20) $(BIN)/python -m pytest tests/stress

chaos: $(READY)  ## everything that can go wrong at once (SECONDS=600 SEEDS="1 2 3")
	$(BIN)/python -W ignore tests/stress/chaos.py --seconds $(or $(SECONDS),600) --seeds $(or $(SEEDS),1 2 3)

bench: $(READY)  ## figures against ThreadPoolExecutor, in the same run
	@$(BIN)/python tests/bench/against_stdlib.py
	@$(BIN)/python tests/bench/lateness.py
	@$(BIN)/python tests/bench/timers.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
