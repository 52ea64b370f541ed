# Everything sets itself up: `make run` and `make test` are all a fresh machine needs (Python 3.11 or later, on Linux or macOS).
PYTHON ?= python3
BIN := .venv/bin
TRACES ?= ../shared/traces

.PHONY: setup run test check format lint types layers tests simulate bench e2e prices shapes clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: setup
	$(BIN)/agentloop run atlas

test: check

check: setup format lint types layers tests

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

tests: setup
	$(BIN)/pytest -n auto --dist worksteal

# Whole sessions, and workspaces with schedules, on a virtual clock, with seeded faults: make simulate SEEDS=100000
SEEDS ?= 20000
simulate: setup
	$(BIN)/python -m tests.simulator --seeds $(SEEDS)
	$(BIN)/python -m tests.simulator --schedules $(SEEDS)

bench: setup
	$(BIN)/python -m tests.bench

# Clients that we did not write, against the emulator: each prints its bill.
e2e: setup .e2e/ready
	$(BIN)/pytest -rs tests/e2e/test_clients.py tests/e2e/test_sdk.py

.e2e/ready: pyproject.toml
	$(PYTHON) -m venv .e2e/venv
	.e2e/venv/bin/python -m pip install --quiet --disable-pip-version-check '.[e2e]'
	if command -v npm >/dev/null; then npm install --no-fund --no-audit --prefix .e2e "@anthropic-ai/claude-code@^2.1"; fi
	touch $@

# The price table from a looked-up API reference: make prices MODELS=path/to/models.json
prices: setup
	$(BIN)/python -m agentloop.data.refresh $(MODELS)

# The shapes of requests, from the installed SDK.
shapes: setup
	$(BIN)/python -m agentloop.data.refresh_shapes

clean:
	rm -rf .venv .e2e .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .agentloop
