# wsgidb: `make demo` shows it, `make test` proves it. Each makes its own virtual environment in .venv and installs from
# the system what is missing (tools/system-packages). Variables: PYTHON (interpreter for .venv), PORT (of the demo).

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo test lint types pytest matrix mutants bench clean

help:
	@echo "make demo    serve the example on 127.0.0.1:$(PORT); PORT, WSGIDB_URL and WSGIDB_STRATEGY change it"
	@echo "make test    lint, types and all tests, with MariaDB and PostgreSQL servers of their own"
	@echo "make matrix  the built wheel under every Python, framework and oldest driver (tox)"
	@echo "make mutants changes the code in every small way, to see whether the tests notice; ROOMS='pool/backoff pool/leaks' for a few"
	@echo "make bench   wsgidb beside other pools, in under half an hour; BENCH_ARGS=--quick in four minutes"
	@echo "make lint | types | pytest   the parts of make test"
	@echo "make clean   remove everything that these commands made"

demo: export WSGIDB_URL ?= sqlite:///build/demo/cities.sqlite3
# mysqlclient is compiled, for those only who ask for it.
demo: $(VENV)/demo.stamp $(if $(filter mysql+mysqldb:%,$(WSGIDB_URL)),$(VENV)/mysqlclient.stamp)
	@mkdir -p build/demo
	@exec $(BIN)/python examples/serve.py --port $(PORT)

test: lint types pytest

lint: $(VENV)/test.stamp
	$(BIN)/ruff check

types: $(VENV)/test.stamp
	$(BIN)/mypy

# Tests choose their databases themselves; the caller's own settings must not reach them.
pytest: $(VENV)/test.stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb postgresql strace apache
	env $$(env | sed -n 's/^\(WSGIDB_[A-Z_]*\)=.*/-u \1/p') $(BIN)/pytest -n $(WORKERS)

matrix: $(VENV)/matrix.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler mariadb postgresql
	tools/matrix $(BIN)/tox

# A changed setup.cfg means changed dependencies: start over rather than keep what is no longer asked for.
$(VENV)/base.stamp: setup.cfg pyproject.toml
	PYTHON="$(PYTHON)" tools/system-packages python
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/mysqlclient.stamp: $(VENV)/base.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	$(PIP_INSTALL) --editable '.[mysqlclient]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/base.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	$(PIP_INSTALL) --editable '.[test,test-frameworks,frameworks,lint,demo]'
	@# Not from pip's cache: uWSGI is linked to the Python that compiled it, which may be another one of the same version.
	$(PIP_INSTALL) --no-cache-dir --editable '.[servers]'
	@touch $@

$(VENV)/matrix.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) 'tox>=4.21'
	@touch $@

# docs/testing.md; more than an hour for all rooms, so not in continuous integration.
mutants: $(VENV)/test.stamp
	$(PIP_INSTALL) 'cosmic-ray>=8.3'
	$(BIN)/python tools/mutants $(ROOMS)

# The peers are pinned, in an environment of their own.
bench: $(BENCH).stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb load
	$(BENCH)/bin/python benchmarks/bench.py $(BENCH_ARGS)

$(BENCH).stamp: benchmarks/requirements.txt setup.cfg
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	rm -rf $(BENCH)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir \
		--requirement benchmarks/requirements.txt --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(BENCH).stamp build dist .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
