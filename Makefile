# `make demo` and `make test` need nothing but Python 3.11 or newer and a package index. TORCH=cpu or TORCH=cuda
# says which builds of PyTorch are installed; without it, CUDA's where there is an NVIDIA GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/demo_sare.py
ARGS ?=

.PHONY: demo test fuzz faults docs reproduce install install-dev demo-models lint clean

demo: install
	$(BIN)/python main.py --config $(CONFIG) $(ARGS)

test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Every reader of JSON under so many changes of a valid file, each, and what is made from saved results and
# answers; `make fuzz MUTANTS=50000` for longer, and `SEED=1` for other changes.
FUZZED := tests/faults/test_readers.py tests/faults/test_saved_results.py tests/faults/test_benchmark_answers.py
MUTANTS ?= 2500
SEED ?= 0
fuzz: install-dev
	SARE_FUZZ=$(MUTANTS) SARE_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest $(FUZZED) --timeout 0 $(ARGS)

# Kills runs at random moments and damages finished ones; every value must be that of a run left alone.
KILLS ?= 50
DAMAGES ?= 15
faults: install-dev
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults.kills --kills $(KILLS) --damages $(DAMAGES) $(ARGS)

# The pages of docs/ with a page of public names, as a site in build/site.
docs: install
	$(BIN)/python -m pip install --quiet --requirement requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

# The paper's tables and figures on the demo's world, in runs/demo_baselines/reproduce.
reproduce: install
	$(BIN)/python -m sare_jax.reproduce all $(ARGS)

demo-models: install
	$(BIN)/python -m sare_jax.demo.models

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the road needs, and with `install-dev` what tests and lint need besides.
install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.txt $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) requirements/install.py $(VENV) requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PYTHON) requirements/install.py $(VENV) requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .mypy_cache .jax_cache
