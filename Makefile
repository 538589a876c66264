PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart lint test floors install install-dev

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,cluster]'
	touch $@

install: .venv/installed

install-dev: .venv/installed-dev

quickstart: .venv/installed
	$(BIN)/unify study experiments/studies/quickstart.yaml --jobs 2

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test: lint
	$(BIN)/pytest -m 'not slow and not floors' -n 2 --dist loadfile

floors: .venv/installed-dev
	$(BIN)/pytest -m floors
