# Two commands matter: `make demo` and `make test`. Both need only Rust, a C compiler and Python >= 3.11.
# PYTHON picks another interpreter; every interpreter has its own virtual environment in the project's folder.
PYTHON  ?= python3
PROFILE ?= release
TAG     := $(shell $(PYTHON) -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")))')
VENV    := .venv-$(TAG)
BIN     := $(VENV)/bin

.PHONY: build wheel load load-tls demo test test-core bench bench-quick bench-levels lint format types conformance suites clean

build: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --quiet --profile $(PROFILE)

$(VENV)/.tools: tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

# As fast as it gets: compiled with a profile of the hot paths. Needs llvm-profdata (rustup component add llvm-tools).
# MATURIN_PGO=1 has the other targets build like this too.
wheel: $(VENV)/.tools
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/maturin build --quiet --release --pgo --out target/wheels

# The other side of the demo, and of the benchmarks, which need its TLS as well.
load:
	cargo build --quiet --release -p ferrio-load
load-tls:
	cargo build --quiet --release -p ferrio-load --features tls

$(VENV)/.demo: $(VENV)/.tools examples/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r examples/requirements.txt
	touch $@

demo: build load $(VENV)/.demo
	$(BIN)/python examples/demo.py

$(VENV)/.bench: $(VENV)/.tools benches/requirements.txt benches/peers.txt examples/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	-grep -v '^#' benches/peers.txt | xargs -n 1 $(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all:
	touch $@

bench: build load-tls $(VENV)/.bench
	$(BIN)/python -m benches

# Some of the rows, in fewer and shorter rounds: at most three minutes.
bench-quick: build load-tls $(VENV)/.bench
	$(BIN)/python -m benches --quick

# What recording costs at each level, beside a build that cannot record.
WITHOUT := build/without-record
bench-levels: build load-tls $(VENV)/.bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/maturin build --quiet --profile $(PROFILE) --no-default-features --out $(WITHOUT)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(WITHOUT)/package $(WITHOUT)/*.whl
	FERRIO_WITHOUT_RECORD=$(WITHOUT)/package $(BIN)/python -m benches.levels

$(VENV)/.ecosystem: $(VENV)/.tools $(addsuffix /requirements.txt, tests/ecosystem benches examples)
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/ecosystem/requirements.txt
	touch $@

# TLS as it is where OpenSSL is out of reach.
TLS_WITHOUT_OPENSSL = FERRIO_OPENSSL=off $(BIN)/python -m pytest tests/behaviour/tls tests/loop/tls

test: build $(VENV)/.ecosystem
	cargo test --workspace --exclude ferrio-python
	$(BIN)/python -m pytest
	$(TLS_WITHOUT_OPENSSL)
	FERRIO_TEST_NATIVE=1 $(BIN)/python -m pytest tests/ecosystem

# The tests that need none of the ecosystem's packages.
test-core: build
	$(BIN)/python -m pytest --ignore tests/ecosystem
	$(TLS_WITHOUT_OPENSSL)

# CPython's own asyncio tests on ferrio's loop; OPTIONS="--only test_sock" runs a few (ci/conformance.sh: on all Pythons).
conformance: build
	$(BIN)/python tests/conformance/run.py $(OPTIONS)

# The libraries' own tests, on asyncio's loop and on ferrio's; OPTIONS="anyio janus" runs two of them. Needs a package index.
suites: build
	$(BIN)/python ci/suites.py $(OPTIONS)

# The checkers, beside what they check.
$(VENV)/.ci: $(VENV)/.tools ci/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r ci/requirements.txt
	touch $@

lint: $(VENV)/.ci
	PATH="$(CURDIR)/$(BIN):$$PATH" PYO3_PYTHON="$(CURDIR)/$(BIN)/python" ci/lint.sh

format: $(VENV)/.ci
	PATH="$(CURDIR)/$(BIN):$$PATH" ci/lint.sh --fix

types: build $(VENV)/.ci
	PATH="$(CURDIR)/$(BIN):$$PATH" ci/types.sh

clean:
	rm -rf target .venv-*
