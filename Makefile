# `make demo` and `make test` work in a bare clone: they need Python 3.11+, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Test files side by side, one a CPU; each process takes up to 2 GB. ARGS comes later and wins: `make test ARGS='-n 0 -x'`.
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n logical --maxprocesses 4

.PHONY: setup demo test test-quick test-long test-ceph lint bench constraints clean

setup: $(STAMP)

# torch first: where only its CPU build is at hand, nothing then asks for the CUDA one.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cubescout needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: setup
	$(BIN)/cubescout demo

test: setup
	$(PYTEST) $(PARALLEL) $(ARGS)

# For the edit loop: what starts no server, no Ray and no browser, and is not slow.
test-quick: setup
	$(PYTEST) $(PARALLEL) -m 'not (ray or s3 or browser or slow or ceph or long)' $(ARGS)

# Tests that the default run leaves out, for the time that they take.
test-long: setup
	$(PYTEST) $(PARALLEL) -m long $(ARGS)

# The S3 tests once more, on a strict server: Ceph's RADOS gateway over a cluster in memory.
test-ceph: setup
	@PYTHONPATH=. $(BIN)/python -c 'import sys; from tests.ceph import why_not; sys.exit(why_not() or None)'
	$(PYTEST) -m ceph $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks

constraints: setup
	{ echo '# The versions that the tests pass with, on Python 3.11. Renew with `make constraints`.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
