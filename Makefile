# Everything sets itself up: `make run` and `make test` are all a fresh machine needs (Python 3.11 or later, on Linux or macOS).
PYTHON ?= python3
BIN := .venv/bin
TRACES ?= ../shared/traces

.PHONY: setup run test check format lint types layers tests bench prices clean

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
	$(BIN)/pytest -n auto

bench: setup
	$(BIN)/python -m tests.bench

# The price table from a looked-up API reference: make prices MODELS=path/to/models.json
prices: setup
	$(BIN)/python -m agentloop.data.refresh $(MODELS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .agentloop
