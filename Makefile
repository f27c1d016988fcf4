# Every verb first brings .venv up to date (tools/setup.sh); nothing else has to be installed or typed.
PYTHON ?= python3
PROFILE ?= quick
C ?=
J ?=
P ?=

BIN := .venv/bin
# Quiet tools, kernels of this .venv, and no progress-bar debris in a notebook.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export TQDM_DISABLE := 1
# The tests run in two processes; more threads than that only make them wait for each other.
test bench: export OMP_NUM_THREADS := 1
test bench: export MKL_NUM_THREADS := 1

.PHONY: help setup book pdf links test lint run chapter bench assignments grade clean
.DEFAULT_GOAL := help

help: ## print this list
	@echo "Verbs (each sets up what it needs; Python 3.11 or newer is enough):"
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run PROFILE=full C=noether-for-gradient-flow J=2 P=\"seed=3 device=cpu\""
	@echo "  make chapter C=conservation/noether-for-gradient-flow"

setup: ## bring .venv up to date
	@PYTHON="$(PYTHON)" tools/setup.sh

book: setup ## build the site from the executed notebooks into _build/html
	@$(BIN)/python -m tools.book

pdf: setup ## print the whole book into _build/symmetries.pdf (needs Chromium)
	@$(BIN)/python -m tools.pdf

links: setup ## ask for every address that leaves the site (needs the network; links inside are tested)
	@$(BIN)/python -m tools.links

test: lint book ## everything CI checks: lint, site, tests, notebooks, browser
	$(BIN)/pytest -q -n 2 --dist loadscope --no-loadscope-reorder --durations 15 --nbval-lax --nbval-current-env --nbval-cell-timeout 120 \
	    --nbval-sanitize-with tests/nbval.cfg tests $$($(BIN)/python -m tools.notebooks)

lint: setup ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

run: setup ## run chapters with papermill into _build/run/PROFILE (PROFILE=quick|full C=... J=... P="seed=3")
	@$(BIN)/python -m tools.run --profile "$(PROFILE)" --chapters "$(C)" --jobs "$(J)" --parameters "$(P)"

chapter: setup ## execute book/C.md and write the notebook beside it (C=part/chapter)
	@$(BIN)/python -m tools.chapter "$(C)"

bench: setup ## the benchmarks of tests/benchmarks
	$(BIN)/pytest -q -o python_files='bench_*.py' -p no:xdist tests/benchmarks

assignments: setup ## build the problem sets into _build/assignments: for students, for nbgrader, for instructors
	@$(BIN)/python -m tools.assignments build

grade: setup ## grade submissions into _build/grades/SET (SET=... SUBMITTED=folder or zip, SEED=..., UNSAFE=1)
	@$(BIN)/python -m tools.assignments grade "$(SET)" "$(SUBMITTED)" --seed "$(SEED)" $(if $(filter 1,$(UNSAFE)),--unsafe)

clean: ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
