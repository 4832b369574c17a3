# make demo       compare methods with plain training on 100 of scikit-learn's digits, 20 seeds
# make test       the tests, but for those that take long
# make test-all   those: pages in a browser, runs in several processes, every method on every detector
# make docs       the documentation as pages for a browser, in docs/_build/html
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all docs lint bench tables networks clean

demo: .venv/.installed
	@$(BIN)/filtersmith compare --recipe demo --jobs 2 --out runs/demo

test: .venv/.installed
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadgroup -m "not long"

test-all: .venv/.installed
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadgroup -m long

docs: .venv/.installed
	@$(BIN)/python -m sphinx --quiet --write-all -W --keep-going --nitpicky docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

lint: .venv/.installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Cost and memory of the methods and speed of the data loader; times are ratios of paired runs.
bench: .venv/.installed
	@$(BIN)/python -m benchmarks

# Rewrite the tables in the Markdown files, and the pictures, from results/.
tables: .venv/.installed
	@$(BIN)/python scripts/update_tables.py && for draw in sizes audit growth; do $(BIN)/python scripts/draw_$$draw.py || exit; done

# Count the parameters and multiply-adds of the listed networks anew.
networks: .venv/.installed
	@$(BIN)/python scripts/count_networks.py

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the pinned versions need Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Installing into .venv (once; two to four minutes and 6 GB, most of it torch)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

clean:
	rm -rf .venv runs docs/_build docs/generated
