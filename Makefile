# Bare `make` prints this list; the sentence behind ## is the target's.
.DEFAULT_GOAL := help
# The first that runs: a version manager's stand-in for a version it does not have is on the PATH, too.
PYTHON ?= $(or $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c '' 2>/dev/null && command -v $$p && break; done),python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) sandbox/pyproject.toml cli/pyproject.toml
SOURCES := $(wildcard libs/*/src services/*/src) sandbox/src cli/src deploy bench/gateway.py conftest.py
TESTS := $(wildcard libs/*/tests services/*/tests sandbox/tests cli/tests tests/*)
PYTEST ?= $(BIN)/pytest
BENCHES := append replay tables dispatch cost views gateway

##@ On a fresh machine

.PHONY: help
help:  ## Print this list.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install  ## Start the whole platform here and play its main job step by step; ONCE=1 stops by itself.
	$(BIN)/bizos demo $(if $(ONCE),--once) $(ARGS)

.PHONY: test
test: install  ## Run every test against real servers.
	$(PYTEST) $(ARGS)

##@ While developing

.PHONY: install
install: .venv/installed  ## Make the environment in .venv from the lock, with hashes; done already: nothing.

.venv/installed: requirements.lock pyproject.toml $(MEMBERS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there). Name another: make PYTHON=..."; exit 1; }
	@# pip and not python: where venv fails for want of pip, it leaves a python behind.
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || $(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing about 200 packages from requirements.lock (some 400 MB the first time) ..."
	$(BIN)/uv pip sync --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps $(foreach member,$(MEMBERS),-e $(dir $(member)))
	@touch $@

.PHONY: check
check: install  ## Formatting, lint, types, import contracts, message schemas and deployment manifests.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)
	@# One run a member: tests of different members may have the same name.
	@for tests in $(TESTS); do $(BIN)/mypy $$tests || exit 1; done
	MYPYPATH=bench $(BIN)/mypy $(filter-out bench/gateway.py,$(wildcard bench/*.py))
	$(BIN)/lint-imports
	$(BIN)/bizos schemas check
	$(BIN)/python deploy/check.py

.PHONY: fix
fix: install  ## Format and repair what can be repaired by itself.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: e2e
e2e: install  ## Only the journeys through the whole platform.
	$(PYTEST) tests/e2e $(ARGS)

.PHONY: crash
crash: install  ## Kill processes and servers at random moments under load; SECONDS=60 says how long.
	BIZOS_CRASH_SECONDS=$(or $(SECONDS),60) $(PYTEST) -n 0 -q -s libs/events/tests/kill/test_crash.py $(ARGS)

.PHONY: bench
bench: install  ## Print the benchmark tables; each compares within one run.
	@for bench in $(BENCHES); do $(BIN)/python bench/$$bench.py || exit 1; echo; done

.PHONY: lock
lock: install  ## Renew requirements.lock: exact pins with hashes, and no host in it.
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --all-packages --all-extras --all-groups --no-emit-workspace --no-header --no-annotate -o requirements.lock

##@ Running it

.PHONY: up
up: install  ## Run the platform on this machine until Ctrl-C.
	$(BIN)/bizos up $(ARGS)

.PHONY: env
env: install  ## Write .env for docker compose, with fresh secrets.
	$(BIN)/python deploy/env.py

.PHONY: story
story: install  ## Play the main job against docker-compose.yml (needs a container engine and `make images`).
	$(BIN)/python deploy/story.py

.PHONY: images
images:  ## Build the image of every service (needs a container engine).
	@for service in $(notdir $(wildcard services/*)); do \
	  docker build --file deploy/docker/service.Dockerfile --build-arg SERVICE=$$service --tag bizosaas/$$service:$${TAG:-dev} $(DOCKER_ARGS) . || exit 1; done
