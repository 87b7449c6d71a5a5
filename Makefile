# The words of this project. Each works on a new machine with Python 3.11 and nothing of ours.
#
#   make start              install what is missing, then open the app    PORT=… DATA_DIR=…
#   make test               install what is missing, then run all tests   ARGS="-k search"
#   make lint               style, format and types
#   make migrate            bring a database to this version's tables     DATA_DIR=…
#   make bench              the measurements of docs/measurements.md
#   make crash              200 kills, every torn index, and more    ARGS="--kills 20 --apps 2"
#   make load               20 people at once for ten minutes           ARGS="--minutes 1"
#   make weights            fetch missing model weights
#   make clean              remove .venv and caches; your data stays
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch's CPU-only build.

PORT ?=
DATA_DIR ?=
TORCH_INDEX ?=
ARGS ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)

VENV := .venv
BIN := $(VENV)/bin

.PHONY: start test lint migrate bench crash load weights clean

start: weights
	@exec $(BIN)/python companion_app.py $(if $(PORT),--port "$(PORT)") $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

test: weights
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@test -x $(BIN)/biome || echo "There is no biome for this system: the page's scripts and styles were not checked."
	@test ! -x $(BIN)/biome || $(BIN)/biome lint --error-on-warnings --config-path=.ci companion/ui/assets

migrate: $(VENV)/.installed
	$(BIN)/python -m companion migrate $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")

bench: weights
	$(BIN)/python -m tests.bench $(ARGS)

crash: weights
	$(BIN)/python -m tests.crash $(ARGS)

load: weights
	$(BIN)/python -m tests.load $(ARGS)

# Quick when nothing is missing.
weights: $(VENV)/.installed
	@$(BIN)/python -m companion.inference.weights

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is younger than requirements.txt exactly when everything in it is installed.
# --no-deps: the versions of what torch needs are ours, not those of another index.
$(VENV)/.installed: requirements.txt | $(BIN)/pip
	@echo "Installing the packages of requirements.txt; the first time takes some minutes."
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --no-deps --index-url "$(TORCH_INDEX)" "$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.txt)")
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

# pip is the last thing that a new environment gets, so a half-made one is made again.
$(BIN)/pip:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "LLM Companion needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || \
	  { rm -rf $(VENV); echo "Python could not make $(VENV); on Debian and Ubuntu install python3-venv." >&2; exit 1; }
