PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install train points test quick lint format clean

help:
	@echo "make train    the perceptron on MNIST (installs into $(VENV) first)"
	@echo "make points   the 2-4-1 network on points beside a line"
	@echo "make test     ruff, mypy, the order of imports, and the tests"
	@echo "make quick    ruff and the tests that take a moment: no processes, no long trainings"
	@echo "make format   ruff's formatter and its safe fixes"

# One stamp for the whole installation: it is made again only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "backlit needs Python >= 3.11, got " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

install: $(VENV)/.installed

train: install
	$(BIN)/backlit-train experiment=mnist_mlp

points: install
	$(BIN)/backlit-train experiment=points

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(BIN)/pytest --numprocesses=2 --dist=worksteal

quick: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest --numprocesses=2 --dist=worksteal -m 'not process and not slow and not soak and not slurm'

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
