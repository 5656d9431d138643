# `make` alone prints what can be made.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 3

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-kafka test lint pytest parts bench format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Stamps keep repeated runs fast: pip is asked only when pyproject.toml has changed.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo

venv: $(VENV)/.dev ## create .venv with everything that development needs

demo: $(VENV)/.demo ## two PostgreSQL servers, a live workload, a migration, the proof
	$(BIN)/replicator demo $(ARGS)

demo-kafka: $(VENV)/.demo ## the same through a real Kafka (Java, Maven); CAPTURE=debezium fills it by Kafka Connect
	@$(BIN)/python -m replicator.demo.kafka_parts fetch
	$(BIN)/replicator demo --kafka $(or $(CAPTURE),capture) $(ARGS)

test: lint pytest ## every check: lint, format, types, import rules, tests

lint: $(VENV)/.dev ## the checks that need no database
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(VENV)/.dev ## the tests alone; ARGS="-k name" chooses
	@$(BIN)/python -m replicator.demo.kafka_parts fetch --if-possible
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

parts: $(VENV)/.demo ## fetch Kafka, Debezium and a registry (Maven, pip) into the user's cache
	@$(BIN)/python -m replicator.demo.kafka_parts fetch

bench: $(VENV)/.dev ## measure, and compare with native logical replication
	$(BIN)/pytest tests/benchmarks -m benchmark -s $(ARGS)

format: $(VENV)/.dev ## format, and mend what can be mended mechanically
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean: ## remove .venv and every cache
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
