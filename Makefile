# `make help` lists the targets. PYTHON chooses the interpreter, VENV the place of its packages,
# JOBS the number of processes that run tests (auto: two for each core; 1: one after the other).

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests that should not run at the same time are one group: see tests/conftest.py. A process that
# dies ends the run: the tests of its groups are not given to another one, which would wait for them.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --max-worker-restart 0
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)

# Tests start hundreds of interpreters; without bytecode, each of them compiles the package.
unexport PYTHONDONTWRITEBYTECODE

# pip would take minutes to find out.
CHECK_VERSION := import sys; sys.version_info >= (3, 11) or sys.exit("OddJob needs Python 3.11 or \
newer, and $(PYTHON) is %d.%d; choose another one: make PYTHON=python3.13" % sys.version_info[:2])

.DEFAULT_GOAL := help
.PHONY: help demo test lint mypy pyright unit stress browser chaos chaos-redis django kill-loop bench bench-durable bench-redis wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(READY): pyproject.toml
	@$(PYTHON) -c '$(CHECK_VERSION)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Where `make test` has not installed everything, the demo needs rich alone, for bars that move.
DEMO := $(if $(wildcard $(READY)),$(VENV),$(VENV)-demo)

$(VENV)-demo/.ready:
	@$(PYTHON) -c '$(CHECK_VERSION)'
	@echo "Installing rich into $(VENV)-demo, once"
	@$(PYTHON) -m venv $(VENV)-demo
	@$(VENV)-demo/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 rich \
		|| echo "rich could not be installed: the demo prints plain lines"
	@touch $@

demo: $(DEMO)/.ready  ## see it work: three acts beside ThreadPoolExecutor, in less than 20 seconds
	@$(DEMO)/bin/python -m examples.demo

test: lint unit  ## everything that must pass: lint, types, tests (stress tests in short)

lint: $(READY)  ## ruff, mypy --strict and pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j2 $(SYNC) mypy pyright

mypy: $(READY)
	$(BIN)/mypy

pyright: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/typing/complete.py

unit: $(READY)  ## the tests alone, on all cores (JOBS=1: in one process)
	$(PYTEST)

# What `make test` tries in short: files with ODDJOB_STRESS_ROUNDS, tests.long or Hypothesis.
IN_SHORT = $(shell grep -rlE --include='test_*.py' 'ODDJOB_STRESS_ROUNDS|tests\.long|^from hypothesis' tests)

browser: $(READY)  ## the dashboard in Chromium: every screen, every click, accessibility
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	ODDJOB_BROWSER=1 $(BIN)/python -m pytest -n 0 --timeout 180 tests/browser

stress: $(READY)  ## tests that try many cases at random or kill processes, in full (ROUNDS=20)
	ODDJOB_STRESS_ROUNDS=$(or $(ROUNDS),20) $(PYTEST) $(IN_SHORT)

chaos: $(READY)  ## every kind of failure at once (SECONDS=600 SEEDS="1 2 3")
	$(BIN)/python -W ignore tests/stress/chaos.py --seconds $(or $(SECONDS),600) --seeds $(or $(SEEDS),1 2 3)

chaos-redis: $(READY)  ## the same around a Redis server: processes, the server, connections (SECONDS=600 SEEDS="1 2 3")
	$(BIN)/python -W ignore -m tests.stress.chaos_redis --seconds $(or $(SECONDS),600) --seeds $(or $(SEEDS),1 2 3)

kill-loop: $(READY)  ## kill -9 of programs with durable pools and of Redis, 200 times (ROUNDS=20); prints what was lost
	ODDJOB_STRESS_ROUNDS=$(or $(ROUNDS),20) $(BIN)/python -m pytest -s tests/process/test_durable_kill_loop.py

bench: $(READY)  ## benchmarks beside ThreadPoolExecutor and sched, in the same run
	@$(BIN)/python tests/bench/against_stdlib.py
	@$(BIN)/python tests/bench/lateness.py
	@$(BIN)/python tests/bench/timers.py
	@$(BIN)/python tests/bench/dashboard.py

bench-durable:  ## benchmarks of durable jobs beside huey, flexiq and taskito, in an environment of their own
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable . huey flexiq taskito
	@$(VENV)-bench/bin/python tests/bench/durable.py

bench-redis:  ## benchmarks of jobs on Redis beside dramatiq, RQ and huey, in an environment of their own
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[redis]' pytest dramatiq rq huey
	@$(VENV)-bench/bin/python -m tests.bench.durable_redis

django: $(READY)  ## Django's own tests of task backends against ours; needs the network, and Python 3.12
	@$(BIN)/python -c 'import sys; sys.version_info >= (3, 12) or sys.exit("make django needs Python 3.12 \
	or newer, as Django 6 does: make django PYTHON=python3.13 VENV=.venv313")'
	$(BIN)/python tests/contrib/suite_of_django.py

wheel: $(READY)  ## build the sdist and the wheel, check them, and use the wheel without the sources
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build check-wheel-contents twine
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd dist && venv/bin/python -W error ../tests/installed.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(VENV)-bench $(VENV)-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
