# The menu: `make` prints it. The first target that needs it builds the environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
DOCS_STAMP := $(VENV)/installed-docs
WORKERS ?= 2
# such small nets lose more than they gain by threads, above all when the cores are shared
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test attack lint types notebooks docs bench clean

help:  ## print this menu
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

install: $(STAMP)  ## build the environment in .venv (PYTHON=python3.12 chooses the Python, 3.11 or newer)

# Written last: an installation that was interrupted starts again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ppl_vae needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## train a VAE on the bundled digits and judge it, about a minute: see runs/demo-<date>
	$(ONE_THREAD) $(BIN)/ppl-vae train --config demo.yaml --run_dir runs/demo-$$(date +%Y%m%d-%H%M%S)
	@echo "try next:"
	@echo "  $(BIN)/ppl-vae train --data patches --pair.net conv --epochs 20       other data and nets, and a report of them"
	@echo "  $(BIN)/ppl-vae compare --epochs 5 --estimators '[ELBO, IWAE, DReG]'    which bound, with error bars"
	@echo "  notebooks/01_first_vae.ipynb, 04_write_your_own_pair.ipynb            the two programs, and yours"

test: $(STAMP)  ## run the tests (ARGS=... goes to pytest; ARGS="-m ''" runs the grids too)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

attack: $(STAMP)  ## attack the library at length, about an hour (PPL_VAE_ATTACK=0.2 for a fifth): benchmarks/results/attack.json
	$(ONE_THREAD) PPL_VAE_ATTACK=$(or $(PPL_VAE_ATTACK),1) $(BIN)/python -m pytest tests/attacks -s -q $(ARGS)

lint: $(STAMP)  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## check the type annotations
	$(BIN)/mypy

notebooks: $(STAMP)  ## run the notebooks
	$(ONE_THREAD) $(BIN)/python -m pytest --nbmake -n $(WORKERS) notebooks

# Only who builds the site installs what builds it.
$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	@touch $@

# The examples first; then every warning is an error: a broken link, a formula cut off, a name that is not there.
docs: $(DOCS_STAMP)  ## build the site: build/docs/index.html
	$(ONE_THREAD) $(BIN)/python -m pytest -q tests/test_docs.py tests/test_doctests.py tests/test_readme.py
	rm -rf build/docs
	$(ONE_THREAD) $(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/docs

bench: $(STAMP)  ## train on MNIST beside a hand-written loop (needs the data, takes minutes)
	$(BIN)/python benchmarks/mnist.py

clean:  ## remove caches and builds; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
