# Two commands: `make demo` and `make test`. Both set everything up first, and both are idempotent.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo experiments figures notebooks docs check fast test chaos fuzz gpu bench schema golden clean

help:
	@echo "make demo   set up, run the quickstart study, print where its report is"
	@echo "make experiments  run every experiment, or go on: about four hours on two cores; score the predictions"
	@echo "make figures      draw the figures again from the experiments' records"
	@echo "make docs         build the documentation site into site/, without a network"
	@echo "make notebooks    run every notebook from its .py and keep the outputs"
	@echo "make test   set up, then format, lint, types, floors and every test that needs no GPU"
	@echo "make fast   the quick part of it: make check and the quick tests, about three minutes on two cores"
	@echo "make check  the quickest: format, lint, types, floors"
	@echo "make chaos  every fault that docs/faults.md speaks of, dozens of kills, about 15 minutes"
	@echo "make fuzz   random studies, tables, data files and edited JSON, from a new seed, about 15 minutes"
	@echo "make gpu    the tests that need a CUDA device"
	@echo "make bench  measure everything against the usual ways on this machine, write docs/benchmarks.md"
	@echo "make setup  only create $(VENV) and install"

setup: $(STAMP)

# The demo needs the package alone; tests, notebooks and docs need the developers' tools as well.
$(PACKAGE): pyproject.toml constraints.txt tools/setup.py
	$(PYTHON) tools/setup.py $(VENV)
	@touch $(PACKAGE)

$(STAMP): pyproject.toml constraints.txt tools/setup.py
	$(PYTHON) tools/setup.py $(VENV) dev
	@touch $(PACKAGE) $(STAMP)

demo: $(PACKAGE)
	@echo "== windtunnel sweep experiments/quickstart/hparams.yaml"
	$(BIN)/windtunnel sweep experiments/quickstart/hparams.yaml
	@echo "== the report: $(CURDIR)/store/studies/quickstart/report.html"

experiments: setup
	$(BIN)/python experiments/run.py

figures: setup
	$(BIN)/python analysis/figures.py

notebooks: setup
	$(BIN)/python tools/run_notebooks.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "== the site: $(CURDIR)/site/index.html"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: check
	$(BIN)/pytest -n 2 -m "not medium and not slow and not ray and not gpu and not chaos"

test: check
	$(BIN)/pytest -n 3

chaos: export CHAOS_LOG := $(or $(TMPDIR),/tmp)/windtunnel-chaos.log
chaos: setup
	rm -f $(CHAOS_LOG)
	$(BIN)/pytest tests/chaos -m "chaos or not chaos"

fuzz: export FUZZ_CASES ?= 5000
fuzz: export FUZZ_SEED ?= $(shell date +%s)
fuzz: setup
	$(BIN)/pytest tests/fuzz -n 2 --timeout 3600

gpu: setup
	$(BIN)/pytest -m gpu

bench: setup
	$(BIN)/python experiments/benchmarks/page.py

schema: setup
	$(BIN)/python -m windtunnel.config.schema
	$(BIN)/python -m windtunnel.export.schema
	$(BIN)/python tools/study_reference.py
	$(BIN)/python tools/codes_page.py

golden: setup
	$(BIN)/python tests/train/test_golden.py
	$(BIN)/python tests/test_golden_commands.py

clean:
	rm -rf $(VENV) store site .pytest_cache .mypy_cache .ruff_cache
