# `make demo` runs wsgidb's example, `make quick` the checks that take less than a minute, `make test` all checks. Each
# creates the virtual environment .venv and installs the system packages that are missing (tools/system-packages).
# Variables: PYTHON (the interpreter for .venv), PORT (of the demo), WORKERS (processes that run tests).

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help demo guestbook quick test lint types pytest matrix mutants bench counts cluster docs dist clean

help:
	@echo "make demo    serves the example on 127.0.0.1:$(PORT); PORT, WSGIDB_URL and WSGIDB_STRATEGY change that"
	@echo "make guestbook serves a small complete application in Flask, likewise"
	@echo "make quick   runs lint, types and the tests that need no server, in under a minute once $(VENV) is made"
	@echo "make test    runs lint, types and all tests, with MariaDB and PostgreSQL servers that the tests start: twenty minutes"
	@echo "make matrix  tests the built wheel with every Python, each framework and the oldest drivers (tox): half an hour"
	@echo "make mutants changes the code in many small ways, and sees whether a test fails; MODULES='pool/backoff pool/leaks' for some"
	@echo "make bench   compares wsgidb with other pools in about 35 minutes; with BENCH_ARGS=--quick in six minutes"
	@echo "make counts  counts what a request costs in instructions and system calls, in five minutes"
	@echo "make cluster lets several servers fail under load, in ten minutes, and writes the table of docs/scale.md"
	@echo "make docs    builds the documentation as a site in build/docs, in ten seconds"
	@echo "make dist    builds the source distribution and the wheel in dist/, and checks them, in half a minute"
	@echo "make lint | types | pytest   run one part of make test"
	@echo "make clean   removes everything that these commands created"

demo: export WSGIDB_URL ?= sqlite:///build/demo/cities.sqlite3
# mysqlclient must be compiled, so it is installed only for a url that needs it.
demo: $(VENV)/demo.stamp $(if $(filter mysql+mysqldb:%,$(WSGIDB_URL)),$(VENV)/mysqlclient.stamp)
	@mkdir -p build/demo
	@exec $(BIN)/python examples/serve.py --port $(PORT)

guestbook: export WSGIDB_URL ?= sqlite:///$(CURDIR)/build/demo/guests.sqlite3
guestbook: $(VENV)/demo.stamp $(if $(filter mysql+mysqldb:%,$(WSGIDB_URL)),$(VENV)/mysqlclient.stamp)
	@mkdir -p build/demo
	@$(BIN)/flask --app examples/guestbook/guests init-db
	@exec $(BIN)/flask --app examples/guestbook/guests run --port $(PORT)

test:
	@echo "make test: lint, types and all tests, about twenty minutes on two cores; make quick takes less than one"
	@echo "1 of 3: ruff (1 s)"
	@$(MAKE) --no-print-directory lint
	@echo "2 of 3: mypy (10 s the first time, then 3 s)"
	@$(MAKE) --no-print-directory types
	@echo "3 of 3: pytest (twenty minutes); first it installs the servers that are missing"
	@$(MAKE) --no-print-directory pytest

lint: $(VENV)/test.stamp
	$(BIN)/ruff check

types: $(VENV)/test.stamp
	$(BIN)/mypy

# The tests choose their databases themselves, so the caller's WSGIDB_ variables are removed from their environment.
PYTEST = env $$(env | sed -n 's/^\(WSGIDB_[A-Z_]*\)=.*/-u \1/p') $(BIN)/pytest -n $(WORKERS)

# The directories whose tests are quick where they need no server, but for one file.
QUICK := config drivers lease observe pool transactions wsgi
quick: $(VENV)/test.stamp
	@echo "make quick: lint, types, and $(words $(QUICK)) directories of tests without a server; less than a minute on two cores"
	@echo "1 of 3: ruff (1 s)"
	@$(BIN)/ruff check
	@echo "2 of 3: mypy (10 s the first time, then 3 s)"
	@$(BIN)/mypy
	@echo "3 of 3: pytest (25 s)"
	@$(PYTEST) --quiet -m "not slow and not server" $(QUICK:%=tests/%) --ignore tests/wsgi/test_validate.py

pytest: $(VENV)/test.stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb postgresql strace apache browser cluster
	$(PYTEST)

matrix: $(VENV)/matrix.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler mariadb postgresql
	tools/matrix $(BIN)/tox

# If setup.cfg has changed, the dependencies may have too. Starting over leaves no package that is no longer required.
$(VENV)/base.stamp: setup.cfg pyproject.toml
	PYTHON="$(PYTHON)" tools/system-packages python
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@# The first pip that knows dependency groups; a Python may come with an older one.
	$(PIP_INSTALL) 'pip>=25.1'
	@touch $@

$(VENV)/demo.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) --editable . --group demo
	@touch $@

$(VENV)/docs.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) --editable . --group docs
	@touch $@

$(VENV)/mysqlclient.stamp: $(VENV)/base.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	$(PIP_INSTALL) --editable '.[mysqlclient]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/base.stamp
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	$(PIP_INSTALL) --editable . --group test --group test-frameworks --group frameworks --group lint --group demo --group dist --group docs
	@# Not from pip's cache: a cached uWSGI may be linked to another Python of the same version.
	$(PIP_INSTALL) --no-cache-dir --group servers
	@touch $@

$(VENV)/matrix.stamp: $(VENV)/base.stamp
	$(PIP_INSTALL) 'tox>=4.22'
	@touch $@

# See docs/testing.md. All modules take more than an hour, so continuous integration does not run this.
mutants: $(VENV)/test.stamp
	$(PIP_INSTALL) 'cosmic-ray>=8.3'
	$(BIN)/python tools/mutants $(MODULES)

# The pools to compare with have pinned versions, in an environment of their own.
bench: $(BENCH).stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb postgresql load
	$(BENCH)/bin/python benchmarks/bench.py $(BENCH_ARGS)

counts: $(BENCH).stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb counting
	$(BENCH)/bin/python benchmarks/instructions.py

cluster: $(VENV)/test.stamp
	PYTHON="$(PYTHON)" tools/system-packages python mariadb postgresql cluster
	$(BIN)/python benchmarks/failovers.py --write-docs

$(BENCH).stamp: benchmarks/requirements.txt setup.cfg
	PYTHON="$(PYTHON)" tools/system-packages python compiler
	rm -rf $(BENCH)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-cache-dir \
		--requirement benchmarks/requirements.txt --editable .
	@touch $@

# From nothing, so that no page of an earlier run is left, and each is checked. The doctrees are Sphinx's own files.
docs: $(VENV)/docs.stamp
	rm -rf build/docs
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going --doctree-dir build/doctrees docs build/docs
	@echo "open build/docs/index.html"

# setuptools keeps its intermediate files in build/lib, and a module that was deleted since would still be in the wheel.
dist: $(VENV)/test.stamp
	rm -rf build/lib dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf $(VENV) $(BENCH) $(BENCH).stamp build dist .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
