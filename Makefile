# One command for each thing that people and CI do. `make` alone lists them.
# Everything runs in .venv, which is made on first use and brought up to date when its inputs change.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo learn test test-runners fuzz format setup bench wheel constraints clean

# The candidates for the interpreter, tried in this order; PYTHON=/path/to/python gives another.
PYTHON ?= python3.13 python3.12 python3.11 python3
TORCH_VERSION := 2.13.0

FITS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
FOUND = $(shell for candidate in $(PYTHON); do \
	if $$candidate -c '$(FITS)' >/dev/null 2>&1; then echo $$candidate; break; fi; done)
# One line, and a stop, before anything is made with an interpreter that cannot do it.
NEED_PYTHON = $(if $(FOUND),$(FOUND),$(error Python 3.11 or newer with its venv module is needed; \
	found none as: $(PYTHON). Install it or say where: make PYTHON=/path/to/python))

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEV_STAMP := $(VENV)/.dev-installed

help:  ## list the commands
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-13s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEV_STAMP)  ## build a small dataset from start to end, show it, and train a tiny model of it
	$(BIN)/flamingo demo

learn: $(DEV_STAMP)  ## train the tiny model until it tells what pictures show (twenty minutes)
	$(BIN)/python bench/learn.py

test: $(DEV_STAMP)  ## all that CI checks: ruff, mypy, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

RUNNERS_SOURCE ?= ../shared/corpus/books.warc.gz

test-runners: $(DEV_STAMP)  ## build on Prism and Flink too, and compare the shards (fetches the engines)
	@test -e $(RUNNERS_SOURCE) || $(BIN)/flamingo demo --only-site --out build/site
	$(BIN)/python tests/engines.py --build \
		$$(test -e $(RUNNERS_SOURCE) && echo $(RUNNERS_SOURCE) || echo build/site/site-36-0.warc.gz) prism flink

FUZZ_SECONDS ?= 3600

fuzz: $(DEV_STAMP)  ## spoil pages by lot for FUZZ_SECONDS, and write those that break a rule to build/fuzz/
	$(BIN)/python tests/test_fuzz.py --seconds $(FUZZ_SECONDS)

format: $(DEV_STAMP)  ## rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(DEV_STAMP)  ## the virtual environment with the package, torch and the tools

bench:  ## list what prints the figures in the README
	@for script in bench/*.py; do \
		if grep -qs __main__ "$$script"; then \
			printf '  $(BIN)/python %-28s' "$$script"; \
			sed -n '1s/^"""\([^"]*\).*/\1/p' "$$script"; \
		fi; \
	done

wheel: $(DEV_STAMP)  ## the package as dist/*.whl
	$(BIN)/python -m build --wheel

# uv resolves once for every platform and Python from 3.11 on, with a marker where they differ; pip reads the result.
constraints:  ## resolve constraints.txt anew, to the newest versions allowed
	@mkdir -p build
	$(NEED_PYTHON) -m venv build/resolver
	build/resolver/bin/python -m pip --quiet install uv
	printf '%s\n' 'torch==$(TORCH_VERSION)' > build/torch.txt
	rm -f build/resolved.txt
	build/resolver/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header \
		--no-annotate --constraint build/torch.txt --output-file build/resolved.txt pyproject.toml
	{ printf '%s\n' \
		'# What `make` and the Dockerfile install: every dependency and extra of pyproject.toml, resolved together' \
		'# for Python 3.11 and newer. Do not edit by hand: `make constraints` writes it anew.'; \
		cat build/resolved.txt; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:  ## remove what was built and every cache; .venv stays
	rm -rf build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment left half made, or made by a Python too old, is made again from nothing.
$(BIN)/python:
	$(NEED_PYTHON) -m venv --clear $(VENV)

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -c '$(FITS)' && $(BIN)/python -m pip --version >/dev/null || $(NEED_PYTHON) -m venv --clear $(VENV)
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@
