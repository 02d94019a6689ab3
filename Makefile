# Everything runs in .venv inside the clone; nothing is assumed but Python >= 3.11, Node >= 20
# and the package registries. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
SEED ?=
ROUNDS ?= 1
.PHONY: help setup demo test test-docker test-fast test-faults check format lock bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed node_modules/.installed ## make .venv and node_modules from the lock files

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (the first time takes a minute: downloads)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wabridge needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

node_modules/.installed: package.json package-lock.json
	@npm install --no-save --silent --no-audit --no-fund --no-progress
	@touch $@

demo: $(VENV)/.installed ## start the whole product on this machine, and say what to try
	@exec $(BIN)/wabridge sandbox

test: setup check ## everything: static checks, then every test (needs no Docker)
	@echo "Not run here: tests marked docker (they need a Docker engine: make test-docker)"
	@echo "and tests marked hosted (they need a project: see tests/integration/stack/conftest.py)."
	$(BIN)/pytest -m "not docker and not hosted" -n 2 --dist loadfile

test-docker: setup ## the image and the migrations on Supabase's own PostgreSQL; needs Docker
	$(BIN)/pytest -m docker tests/containers

test-fast: $(VENV)/.installed ## unit tests only, in about a minute
	$(BIN)/pytest tests/unit -q

test-faults: $(VENV)/.installed ## every fault of docs/faults.md, one table (SEED=7 ROUNDS=3)
	$(BIN)/python -m tests.faults --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

check: $(VENV)/.installed ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --extra sandbox --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

bench: setup ## figures of this machine as JSON (see docs/operations.md)
	$(BIN)/python -m bench main_job
	$(BIN)/python -m bench durability

docs: $(VENV)/.installed ## write docs/schema.md again from the comments in the migrations
	$(BIN)/python -m tests.database.schema_page --write

clean: ## remove what make and the sandbox made
	rm -rf $(VENV) node_modules .sandbox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
