.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev
CHROMIUM ?= /usr/bin/chromium

.PHONY: help setup quickstart bench test test-data test-slow test-web torture web-screenshots lint format clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.installed  ## Make .venv and install the package into it (once)

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e ".[$(EXTRAS)]"
	touch $@

quickstart: setup  ## All stages on rendered shapes, from tags to a segmentation network: 8 to 10 minutes
	$(BIN)/cti quickstart

test: setup  ## The fast tests: under two minutes
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test-data: setup  ## The tests on a few real photos (skipped where they are absent)
	$(BIN)/python -m pytest -m data || test $$? -eq 5  # 5: there is no such test

test-slow: setup  ## The slow tests
	$(BIN)/python -m pytest -m slow

test-web: setup  ## The web page in a headless Chromium, which is installed if it is absent
	$(BIN)/python -c "import gradio, playwright" 2>/dev/null || $(BIN)/python -m pip install --quiet -e ".[web-test]"
	test -x $(CHROMIUM) || { apt-get update -q && apt-get install -y -q chromium; }
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m web

bench: setup  ## Measure speed and memory against the plain reference: about 12 quiet minutes
	$(BIN)/python -m benchmarks

torture: setup  ## Mutated inputs, damaged files and killed runs, as figures: half an hour; TORTURE="--inputs 500 ..."
	$(BIN)/python -m benchmarks.torture $(TORTURE)

web-screenshots:  ## Retake docs/web-*.png: RUN=runs/... PHOTOS=folder [TAGS="cat sofa"], after make test-web
	CHROMIUM=$(CHROMIUM) $(BIN)/python tests/apps/web/screenshots.py $(RUN) $(PHOTOS) $(if $(TAGS),--tags $(TAGS))

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove caches and environments
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
