# Every target builds the environment that it needs first: `make demo` and `make test` work on a new
# machine. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A test that kills its process ends the run, which names it.
PARALLEL := -n auto --dist loadfile --max-worker-restart 0

.PHONY: help demo starter test test-fast test-slow check docs format counts release-check clean

help:
	@echo "make demo           a prediction by the starter model; all stages on phantoms, ending in an HTML report"
	@echo "make starter        train the starter model from CT-ICH (ICH3D_CT_ICH=folder) into the package"
	@echo "make test           every test except the slow ones"
	@echo "make test-fast      the tests that train and run no network: under a minute on two cores"
	@echo "make test-slow      notebooks, the documentation's commands, and longer training"
	@echo "make check          lint, format, types, import contracts, advisories"
	@echo "make docs           build the documentation into build/site; it opens without a network"
	@echo "make format         put the code in its standard format"
	@echo "make counts         lengths of files and functions, shares of documented names"
	@echo "make release-check  build source distribution and wheel, install in an empty environment, try it"
	@echo "make clean          remove the environment and caches; runs/ stays"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[imagenet]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/ich3d demo --config configs/demo.yaml

starter: $(VENV)/installed
	$(BIN)/python scripts/starter.py

test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not alone" $(PARALLEL)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "alone and not slow"

test-fast: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not trains" $(PARALLEL)

test-slow: $(VENV)/installed-test
	$(BIN)/pytest -m slow

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_advisories.py

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/site/index.html"

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

counts: $(VENV)/installed-test
	$(BIN)/python scripts/count_code.py

release-check:
	PYTHON=$(PYTHON) scripts/check_release.sh

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
