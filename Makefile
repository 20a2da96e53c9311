# `make help` lists the targets. PYTHON chooses the interpreter, VENV the place of its packages,
# JOBS the number of processes that run tests (1: one after the other).

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests that should not run at the same time are one group: see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit stress chaos kill-loop bench bench-durable clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)  ## see it work: 200 requests through a limited pool; jobs that survive their process
	@$(BIN)/python examples/quickstart.py
	@$(BIN)/python examples/durable.py

test: lint unit  ## everything that must pass: lint, types, tests (stress tests in short)

lint: $(READY)  ## ruff, mypy --strict and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: $(READY)  ## the tests alone, on all cores (JOBS=1: in one process)
	$(PYTEST)

stress: $(READY)  ## the stress tests and the model tests of queue and store in full (ROUNDS=20)
	ODDJOB_STRESS_ROUNDS=$(or $(ROUNDS),20) $(PYTEST) tests/stress tests/unit/test_limited_queue_model.py \
		tests/durable/test_store_model.py tests/durable/test_sqlite_file.py \
		tests/durable/test_sqlite_processes.py tests/durable/test_power_loss.py

chaos: $(READY)  ## every kind of failure at once (SECONDS=600 SEEDS="1 2 3")
	$(BIN)/python -W ignore tests/stress/chaos.py --seconds $(or $(SECONDS),600) --seeds $(or $(SEEDS),1 2 3)

kill-loop: $(READY)  ## kill -9 of programs with durable pools, 200 times (ROUNDS=20); prints what was lost
	ODDJOB_STRESS_ROUNDS=$(or $(ROUNDS),20) $(BIN)/python -m pytest -s --timeout 3600 tests/process/test_durable_kill_loop.py

bench: $(READY)  ## benchmarks beside ThreadPoolExecutor and sched, in the same run
	@$(BIN)/python tests/bench/against_stdlib.py
	@$(BIN)/python tests/bench/lateness.py
	@$(BIN)/python tests/bench/timers.py

bench-durable:  ## benchmarks of durable jobs beside huey, flexiq and taskito, in an environment of their own
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable . huey flexiq taskito
	@$(VENV)-bench/bin/python tests/bench/durable.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(VENV)-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
