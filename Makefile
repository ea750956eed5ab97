# Two commands to begin with, each does its own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test check lab bench format clean

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("mailgate needs Python 3.11 or later; this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## two gateways and scripted mail servers on loopback, broken one after another
	$(BIN)/mailgate demo

test: $(VENV)/.installed  ## all tests, on all cores
	$(BIN)/pytest -q -n auto

check: $(VENV)/.installed  ## formatting, lint, structured-concurrency lint, types, then all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/flake8-async --disable ASYNC910,ASYNC911,ASYNC912,ASYNC913 --startable-in-context-manager run,_machine,_capture,_serve,_serve_crowd \
		$$(find mailgate tests -name '*.py')
	$(BIN)/mypy
	$(MAKE) test

lab: $(VENV)/.installed  ## real mail servers in a virtual network, as root on Debian; ONLY=... for a part
	PYTHONPATH=tests $(BIN)/python -m lab $(if $(ONLY),--only='$(ONLY)',--results=docs/results.md)

bench: $(VENV)/.installed  ## what routing and health decisions cost per recipient, against the goal
	$(BIN)/python tests/bench/decisions.py

format: $(VENV)/.installed  ## format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
