# make dev: set up .venv · demo: write demo.mp4 · test · check: everything a change must pass · bench · docs · pins
# test-gpu, bench-gpu: what the GPU at hand draws, and how much; without one they say so (status 77, which make reports)
PYTHON ?= python3
BIN := .venv/bin
DISTS := core $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml examples/*/pyproject.toml))
SOURCES := $(addsuffix /src,$(DISTS))
READY := .venv/.ready

.PHONY: dev demo test check bench test-gpu bench-gpu docs pins

dev: $(READY)

$(READY): requirements-dev.txt $(addsuffix /pyproject.toml,$(DISTS))
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("visavis needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "setting up .venv: a minute or two, once"
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ./,$(DISTS))
	@touch $@

demo: dev
	$(BIN)/visavis render assets/demo/hello.wav -o demo.mp4

test: dev
	$(BIN)/pytest

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: dev
	$(BIN)/python bench/speed.py
	$(BIN)/python bench/lipsync.py --speech bench/speech

test-gpu: dev
	$(BIN)/python bench/gpu.py parity

bench-gpu: dev
	$(BIN)/python bench/gpu.py capacity

docs: dev
	$(BIN)/python docs/options.py

pins: dev
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --output-file=requirements-dev.txt requirements-dev.in
