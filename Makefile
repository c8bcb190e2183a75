# Two commands set up a fresh machine: `make demo` and `make test`. Both use the same .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
METADATA := pyproject.toml setup.cfg constraints.txt
PYTEST_ARGS ?=

.PHONY: help demo test test-slow lint format bench docs clean

help:
	@echo "make demo       set up .venv and run the whole job on a simulated sample"
	@echo "make test       set up .venv for testing and run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make lint       ruff, mypy and the import contracts"
	@echo "make bench      comparisons with other tools; tables go to benchmarks/results/"
	@echo "make docs       build the documentation site into site/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "On Debian and Ubuntu, first: sudo apt install python3-venv"; exit 1; }

# A stamp per set of extras: a second call installs nothing.
$(VENV)/.with-%: $(METADATA) | $(BIN)/python
	$(INSTALL) -e ".[$(subst +,$(comma),$*)]"
	@touch $@
comma := ,

demo: $(VENV)/.with-gui
	$(BIN)/napari-unet demo --output demo-output

# Side by side, then those that measure time alone; 5 means that PYTEST_ARGS chose none of a kind.
test: $(VENV)/.with-gui+test
	OMP_NUM_THREADS=1 .ci/virtual-screen $(BIN)/python -m pytest -m "not slow and not timed" \
	  --numprocesses logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]
	.ci/virtual-screen $(BIN)/python -m pytest -m "timed and not slow" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-slow: $(VENV)/.with-gui+test
	.ci/virtual-screen $(BIN)/python -m pytest -m slow --timeout 1800 $(PYTEST_ARGS)

lint: $(VENV)/.with-gui+test+lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.with-gui+test+lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.with-gui+bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.with-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
