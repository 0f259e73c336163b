# `make demo` and `make test` work in a fresh clone: they need Python 3.11 or newer, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Test files run side by side in up to 4 processes of up to 2 GB each: one per CPU, and one more where tests wait for Ray
# and servers. ARGS comes last and overrides: `make test ARGS='-n 0 -x'`.
PYTEST := $(BIN)/python -m pytest
CPUS := $(shell getconf _NPROCESSORS_ONLN)
PARALLEL := -n $(CPUS) --maxprocesses 4
WAITING := -n $(shell expr $(CPUS) + 1) --maxprocesses 4

# Where this is set, each process of each run compiles all sources anew, and pytest rewrites all its assertions.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-quick test-long test-ceph lint docs bench constraints clean

setup: $(STAMP)

# torch first: if the index has only its CPU build, the packages after it do not ask for the CUDA build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cubescout needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs,hats,test]'
	touch $@

demo: setup
	$(BIN)/cubescout demo

test: setup
	$(PYTEST) $(WAITING) $(ARGS)

# For the edit loop: all but slow tests and those that start a server, Ray or a browser.
test-quick: setup
	$(PYTEST) $(PARALLEL) -m 'not (ray or s3 or browser or slow or ceph or long)' $(ARGS)

# Tests that the default run leaves out because they take long. 50 kills of the whole pipeline take most of an hour:
# CUBESCOUT_KILLS=8 makes 8 of them, CUBESCOUT_SEED=1 others.
test-long: setup
	$(PYTEST) $(PARALLEL) -m long $(ARGS)

# The S3 tests again, on a stricter server: Ceph's RADOS gateway, with a cluster in memory.
test-ceph: setup
	@PYTHONPATH=. $(BIN)/python -c 'import sys; from tests.ceph import why_not; sys.exit(why_not() or None)'
	$(PYTEST) -m ceph $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/docs/html; warnings are errors. The first build simulates the survey of the notebook.
docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs/html

bench: setup
	$(BIN)/python -m benchmarks

constraints: setup
	{ echo '# The versions that the tests pass with, on Python 3.11. Renew with `make constraints`.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
