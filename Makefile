# Two commands to begin with, each does its own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The simulation (docs/testing.md)
SEEDS ?= 20
FIRST ?= 1
SIZE ?= standard
PYTHONS ?= python3.11
SIM := PYTHONPATH=tests $(BIN)/python -m sim

.PHONY: help demo test check lab identity sim sim-digest sim-cost mutants study bench format clean

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

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

identity: $(VENV)/.installed  ## do mail servers send the same octets again? as root on Debian (docs/peers/retries.md)
	PYTHONPATH=tests $(BIN)/python -m lab.identity

sim: $(VENV)/.installed  ## gateways in a simulated network that breaks: SEEDS=200; SEED=17 TRACE=1 replays one (docs/testing.md)
	$(if $(SEED),,$(if $(MESSAGE)$(ID)$(TRACE),$(error MESSAGE, ID and TRACE are about one seed: give SEED=, too)))$(SIM) $(if $(SEED),replay $(SEED) $(if $(TRACE),--trace) $(if $(MESSAGE),--message=$(MESSAGE)) \
		$(if $(ID),--id=$(ID)),run --seeds=$(SEEDS) --first=$(FIRST) $(if $(JOBS),--jobs=$(JOBS)) \
		$(if $(FIGURES),--figures=$(FIGURES))) --size=$(SIZE)

sim-digest: $(VENV)/.installed  ## is one seed one run, in other processes and with other PYTHONS="python3.11 python3.12"?
	@interpreters=; \
	for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
			|| { echo "$$python is not there: left out"; continue; }; \
		venv=$(VENV); \
		if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$$version" ]; then \
			venv=.venv-python$$version; \
			$(MAKE) --no-print-directory VENV=$$venv PYTHON=$$python $$venv/.installed || exit 1; \
		fi; \
		interpreters="$$interpreters $$venv/bin/python"; \
	done; \
	if [ -z "$$interpreters" ]; then echo 'none of them is there'; exit 1; fi; \
	PYTHONPATH=tests $(BIN)/python -m sim repeat --size=$(SIZE) $(or $(SEED),1) $$interpreters

sim-cost: $(VENV)/.installed  ## what a delivery costs in the simulation, in CPU, against the goal
	$(SIM) cost

mutants: $(VENV)/.installed  ## faults planted in the gateway: do the simulation's checkers notice each of them?
	$(SIM) mutants $(if $(JOBS),--jobs=$(JOBS))

study: $(VENV)/.installed  ## how mailgate and other designs compare when parts of a network fail: writes docs/availability.md
	PYTHONPATH=tests $(BIN)/python -m sim.study $(if $(JOBS),--jobs=$(JOBS))

bench: $(VENV)/.installed  ## what routing and health decisions cost per recipient, against the goal
	$(BIN)/python tests/bench/decisions.py

format: $(VENV)/.installed  ## format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis
