# Two commands matter: `make demo` and `make test`. Both need only Rust, a C compiler and Python >= 3.11.
# PYTHON picks another interpreter; every interpreter has its own virtual environment in the project's folder.
PYTHON  ?= python3
PROFILE ?= release
TAG     := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV    := .venv-$(TAG)
BIN     := $(VENV)/bin

.PHONY: build demo test bench bench-quick lint conformance clean

build: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --quiet --profile $(PROFILE)

$(VENV)/.tools: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

demo: build
	$(BIN)/python examples/demo.py

test: build
	cargo test --workspace --exclude ferrio-python
	$(BIN)/python -m pytest

# CPython's own asyncio tests on ferrio's loop; OPTIONS="--only test_sock" runs a few (ci/conformance.sh: on all Pythons).
conformance: build
	$(BIN)/python tests/conformance/run.py $(OPTIONS)

clean:
	rm -rf target .venv-*
