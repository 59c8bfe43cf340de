# Every target builds the environment it needs first. `make demo` and `make test` are all that a new machine takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow check format clean

help:
	@echo "make demo       the whole way on phantoms, ending in an HTML report"
	@echo "make test       every test but the slow ones"
	@echo "make test-slow  notebooks and longer training"
	@echo "make check      lint, format, types, import contracts"
	@echo "make format     put the code in its one format"
	@echo "make clean      remove the environment and caches; runs/ stays"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/ich3d demo --config configs/demo.yaml

test: $(VENV)/installed-test
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/installed-test
	$(BIN)/pytest -m slow

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
