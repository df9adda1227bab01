# Needs Python >= 3.11, g++ and make; everything else goes into .venv, CMake and Ninja too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra arguments: make search ARGS="--epochs 5", make test ARGS="-k mixed_op", make setup PIP_ARGS="..."
ARGS ?=
PIP_ARGS ?=
# Tests run in this many processes of one thread each; with WORKERS=0 in one, with all threads.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n > 8 ? 8 : n)))
PYTEST := $(if $(filter-out 0,$(WORKERS)),OMP_NUM_THREADS=1) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# OpenMP threads spin only shortly at a barrier, so that a busy machine does not stall them.
export GOMP_SPINCOUNT ?= 1000

CSRC := $(shell find csrc -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu')
SIMT := $(shell find tests/simt -name '*.h' -o -name '*.cpp' -o -name '*.cu')
DEFINITION := setup.py CMakeLists.txt csrc/CMakeLists.txt $(wildcard csrc/cmake/*.py)
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built

.PHONY: help setup search test test-all bench docs cuda-report lint format clean distclean

help:
	@echo "make search     search an architecture on handwritten digits, retrain it and a random one, write a report"
	@echo "make test       run the tests of everything at small sizes      make test-all   run every test"
	@echo "make bench      time the fused kernels beside plain PyTorch"
	@echo "make docs       the documentation pages, into build/docs"
	@echo "make cuda-report  registers, shared memory and spills of every CUDA kernel (needs the toolkit, no GPU)"
	@echo "make lint       ruff, clang-format, import-linter, mypy        make format   apply ruff and clang-format"
	@echo "make setup      .venv with pinned dependencies and the built extension (the others do it when needed)"
	@echo "make clean      remove what was built           make distclean   remove .venv too"

setup: $(BUILT)

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nasfast needs Python >= 3.11, got " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on $(PIP_ARGS) -r requirements-dev.txt
	@touch $@

$(BUILT): $(INSTALLED) $(DEFINITION) $(CSRC)
	@what=$$(test -d build && echo "what changed" || echo "from nothing"); start=$$(date +%s); \
	$(BIN)/python setup.py --quiet build_ext --inplace && \
	echo "nasfast: built $$what in $$(($$(date +%s) - start)) s"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $@

search: setup
	$(BIN)/nasfast search --data digits --measure-speed $(ARGS)

test: setup
	$(PYTEST) -m "not slow" $(ARGS)

test-all: setup
	$(PYTEST) $(ARGS)

bench: setup
	$(BIN)/python -m bench --quick $(ARGS)

docs: setup
	rm -rf docs/reference/generated
	$(BIN)/python -m sphinx -W --keep-going -E -b html docs build/docs $(ARGS)

cuda-report: $(INSTALLED)
	$(BIN)/python -m bench.cuda_report --json build/cuda-report.json $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CSRC) $(SIMT)
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CSRC) $(SIMT)

clean:
	rm -rf build dist *.egg-info nasfast/_C*.so $(BUILT) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
