PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.dev-ready

# The tests start hundreds of processes, which need not compile the same modules each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test test-kill bench-quota bench-quota-small bench-dedupe bench-speed \
  bench-speed-small bench-start bench-memory bench-memory-small bench-search bench-search-small bench-report bench-report-small \
  lock-peers lock-readers lint types check lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY)  ## Install what running needs into .venv, from the lock file

install-dev: $(DEV_READY)  ## Install what tests, checks and docs need as well

# uv where there is one, since it is several times as fast; otherwise, or if it fails, pip.
UV := $(shell command -v uv 2>/dev/null)
UV_INSTALL = $(UV) pip install --quiet --python $(BIN)/python
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# Install the packages of the lock file $(1), and then the checkout itself.
define install_lock
	$(if $(UV),$(UV_INSTALL) --no-deps --require-hashes -r $(1) 2>/dev/null ||) \
	  $(PIP_INSTALL) --no-deps --require-hashes -r $(1)
	$(PIP_INSTALL) --no-build-isolation --no-deps -e .
endef

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || { echo "$(PYTHON) does not start. Install Python 3.11, 3.12 or 3.13, or \
	name one that is installed: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and \
	  f"bulkembed needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12")'
	@echo "Installing into $(VENV), once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(call install_lock,requirements.lock)
	@touch $@

$(DEV_READY): requirements-dev.lock $(READY)
	@echo "Installing the tools for tests, checks and docs into $(VENV), once ..."
	@$(call install_lock,requirements-dev.lock)
	@touch $@

run: $(READY)  ## Embed the standard library's docstrings, or INPUT='...' OUTPUT=dir ARGS='...'
	@$(BIN)/python -m bulkembed.pipeline.demo

test: $(DEV_READY)  ## Run the tests
	timeout 900 $(BIN)/python -m pytest -n 5 tests

.PHONY: test-faults
test-faults: $(DEV_READY)  ## Run longer jobs: batch mode, damaged files, lost workers, a failing service: 7 minutes
	timeout 1500 $(BIN)/python -m pytest -n 3 -m faults tests

.PHONY: test-docs
test-docs: $(DEV_READY)  ## Run the commands of README and docs in their order: 1 minute
	timeout 600 $(BIN)/python -m pytest -n 2 -m docs tests/runner

test-kill: $(DEV_READY)  ## Kill jobs, nights and compactions at each step and at random, some 250 times: 6 minutes
	timeout 1500 $(BIN)/python -m pytest -n 2 --dist loadfile -m kill tests/kill

HISTORIES ?= 200
export START := $(or $(START),$(shell date +%s))
export SEED SHRINK

.PHONY: test-chaos
test-chaos: $(DEV_READY)  ## Play 200 random histories against a model, or HISTORIES=20, or SEED=123 again: 20 minutes
	HISTORIES=$(HISTORIES) timeout 3600 $(BIN)/python -m pytest -n $(if $(SEED),0 -s,2) -m chaos tests/chaos

STORES := .stores
FAKE_GCS := github.com/fsouza/fake-gcs-server@v1.56.1
AZURITE := azurite@3.35.0

$(STORES)/.ready:
	@mkdir -p $(STORES)
	if command -v go; then GOBIN=$(abspath $(STORES)) timeout 600 go install $(FAKE_GCS); fi
	if command -v npm; then timeout 300 npm install --silent --prefix $(STORES) $(AZURITE); fi
	@touch $@

.PHONY: test-nights
test-nights: $(DEV_READY) $(STORES)/.ready  ## Play the nights of a catalogue that changes, with kills
	timeout 3000 $(BIN)/python -m pytest -n 2 -m nights tests/nights

.PHONY: test-runners
test-runners: $(DEV_READY)  ## Run the job on Prism, Flink and Spark, and up to Dataflow: 15 minutes
	timeout 2100 $(BIN)/python -m pytest -m runners -s tests/engines

.PHONY: test-stores
test-stores: $(DEV_READY) $(STORES)/.ready  ## Run the job on S3, and Google's and Azure's stores where Go and Node.js are: 8 minutes
	timeout 1500 $(BIN)/python -m pytest -n 2 --dist loadscope -m stores tests/stores

.PHONY: test-browser
test-browser: $(DEV_READY)  ## Look at a report in headless Chromium, which root gets by apt-get where there is none
	@which chromium chromium-browser google-chrome | grep -q . || if [ "$$(id -u)" = 0 ] && which apt-get; then \
	  echo "no Chromium here: installing Debian's"; timeout 250 sh -c "apt-get update -qq && apt-get install -y -qq chromium"; fi
	timeout 200 $(BIN)/python -m pytest -m browser tests/browser

EXAMPLES := retrieval clustering classification vector_database similarity code_retrieval image_search

.PHONY: examples
examples: $(DEV_READY)  ## Run the examples of docs/examples.md; pictures in out/examples: 2 minutes
	@for name in $(EXAMPLES); do \
	  echo "== $$name"; timeout 300 $(BIN)/python -m examples.$$name || exit 1; done

.PHONY: test-examples
test-examples: $(DEV_READY)  ## Test what the examples claim: 2 minutes
	timeout 600 $(BIN)/python -m pytest -m examples tests/examples

READERS := .venv-readers

$(READERS)/.ready: tests/readers/readers.lock
	$(PYTHON) -m venv $(READERS)
	timeout 900 $(READERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.PHONY: test-readers
test-readers: $(DEV_READY) $(READERS)/.ready  ## Open the output in Spark, LanceDB and datasets, and the pages' DAG in Airflow: 2 minutes
	READERS=$(abspath $(READERS))/bin/python timeout 600 $(BIN)/python -m pytest -m readers tests/readers

bench-quota: $(DEV_READY)  ## Measure the quota engine against the emulator: 12 minutes
	timeout 1500 $(BIN)/python -m benchmarks.quota

bench-quota-small: $(DEV_READY)  ## The same with fewer windows: 7 minutes
	timeout 900 $(BIN)/python -m benchmarks.quota --small

bench-dedupe: $(DEV_READY)  ## Measure the search for texts that repeat, over a million rows: 2 minutes
	timeout 600 $(BIN)/python -m benchmarks.dedupe

.PHONY: bench-index bench-index-small
bench-index: $(DEV_READY)  ## Measure the index over 10,000,000 texts, and a search of 50,000,000: 15 minutes
	timeout 3600 $(BIN)/python -m benchmarks.index

bench-index-small: $(DEV_READY)  ## The same with a twentieth of the texts: 1 minute
	timeout 400 $(BIN)/python -m benchmarks.index --small

PEERS := .venv-peers

$(PEERS)/.ready: benchmarks/peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

bench-speed: $(DEV_READY) $(PEERS)/.ready  ## Compare rows a second, CPU and memory with others: 30 minutes
	timeout 3600 $(BIN)/python -m benchmarks.speed --repeat 3 --peers $(PEERS)/bin/python
	timeout 600 $(BIN)/python -m benchmarks.slots

bench-speed-small: $(DEV_READY)  ## The same at 3,072 dims, without LlamaIndex: 4 minutes
	timeout 600 $(BIN)/python -m benchmarks.speed --small
	timeout 200 $(BIN)/python -m benchmarks.slots --small

.PHONY: bench-wire bench-wire-small
bench-wire: $(DEV_READY)  ## Compare compressed answers, JSON and protobuf, on loopback and 100 Mbit/s: 15 minutes
	timeout 3600 $(BIN)/python -m benchmarks.wire --repeat 3

bench-wire-small: $(DEV_READY)  ## The same over fewer rows, once: 3 minutes
	timeout 900 $(BIN)/python -m benchmarks.wire --small

bench-start: $(DEV_READY)  ## Measure what the command takes beside the rows: 2 minutes
	timeout 400 $(BIN)/python -m benchmarks.start

bench-memory: $(DEV_READY)  ## Measure peak memory over 100,000 and 1,000,000 rows: 30 minutes
	timeout 3600 $(BIN)/python -m benchmarks.memory

bench-memory-small: $(DEV_READY)  ## The same over 30,000 and 120,000 rows: 2 minutes
	timeout 400 $(BIN)/python -m benchmarks.memory --small

bench-search: $(DEV_READY)  ## Measure a search over 1,000,000 rows of 768 numbers: 5 minutes
	timeout 1200 $(BIN)/python -m benchmarks.search

bench-search-small: $(DEV_READY)  ## The same over 100,000 rows: 1 minute
	timeout 300 $(BIN)/python -m benchmarks.search --small

bench-report: $(DEV_READY)  ## Measure what a report takes beside a run, over 10,000,000 rows: 10 minutes
	timeout 2400 $(BIN)/python -m benchmarks.report

bench-report-small: $(DEV_READY)  ## The same over 100,000 rows: 1 minute
	timeout 400 $(BIN)/python -m benchmarks.report --small

.PHONY: bench-nightly bench-nightly-small bench-nightly-store
bench-nightly: $(DEV_READY)  ## Measure nights over 10,000,000 rows of which 1 % change, two kinds: 1 to 2 hours
	timeout 7200 $(BIN)/python -m benchmarks.nightly --ready --sync
	timeout 7200 $(BIN)/python -m benchmarks.nightly --ready

bench-nightly-small: $(DEV_READY)  ## The same over 300,000 rows, one kind: 2 minutes
	timeout 900 $(BIN)/python -m benchmarks.nightly --small --ready --sync

bench-nightly-store: $(DEV_READY)  ## Count the requests to a store in nights over 200,000 rows, two kinds: 10 minutes
	timeout 1800 $(BIN)/python -m benchmarks.nightly --rows 200000 --unit-rows 500 --ready --store --sync
	timeout 1800 $(BIN)/python -m benchmarks.nightly --rows 200000 --unit-rows 500 --ready --store

.PHONY: bench-scale bench-scale-small
bench-scale: $(DEV_READY)  ## Measure jobs over 2,000 small files, and over 50,000,000 rows: 2 hours
	timeout 21600 $(BIN)/python -m benchmarks.scale

bench-scale-small: $(DEV_READY)  ## The same over 400 files, and 300,000 rows: 3 minutes
	timeout 600 $(BIN)/python -m benchmarks.scale --small

.PHONY: bench-media bench-media-small
bench-media: $(DEV_READY)  ## Measure a job over 20,000 images of 200 kB, in each form of input: 30 minutes
	timeout 5400 $(BIN)/python -m benchmarks.media

bench-media-small: $(DEV_READY)  ## The same over 2,000 images: 3 minutes
	timeout 900 $(BIN)/python -m benchmarks.media --small

.PHONY: bench-batch bench-batch-small
bench-batch: $(DEV_READY)  ## Compare batch mode with online requests over 200,000 rows: 3 minutes
	timeout 3600 $(BIN)/python -m benchmarks.batch

bench-batch-small: $(DEV_READY)  ## The same over 10,000 rows: 1 minute
	timeout 600 $(BIN)/python -m benchmarks.batch --small

.PHONY: dataflow-package
dataflow-package: $(DEV_READY)  ## Make what a flex template of Dataflow is built from, in dist/dataflow
	timeout 200 $(BIN)/python -m dataflow.package

# A page at the end of each run is no part of what is measured.
bench-%: export BULKEMBED_RUN_REPORT = 0

lock-peers: $(DEV_READY)  ## Renew benchmarks/peers.lock from benchmarks/peers.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate benchmarks/peers.in --output-file benchmarks/peers.lock

.PHONY: flags
flags: $(DEV_READY)  ## Renew docs/flags.md from the commands
	$(BIN)/python -m bulkembed.pipeline.cli.flags_page > docs/flags.md

.PHONY: docs
docs: $(DEV_READY)  ## Build the site, in build/site
	NO_MKDOCS_2_WARNING=1 timeout 120 $(BIN)/mkdocs build --quiet --strict

lock-readers: $(DEV_READY)  ## Renew tests/readers/readers.lock from readers.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate tests/readers/readers.in --output-file tests/readers/readers.lock

lint: $(DEV_READY)  ## Check style and format
	timeout 120 $(BIN)/ruff check .
	timeout 120 $(BIN)/ruff format --check .

types: $(DEV_READY)  ## Check types
	timeout 300 $(BIN)/mypy
	timeout 300 $(BIN)/mypy --config-file tests/mypy.ini --cache-dir .mypy_cache/tests

check: lint types test  ## All of the above

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: $(DEV_READY)  ## Renew the lock files from pyproject.toml
	$(COMPILE) --extra emulator --extra media --extra report --group build pyproject.toml --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --extra emulator --extra media --extra report --group dev --group examples \
	  --group bench --group docs pyproject.toml --output-file requirements-dev.lock

clean:  ## Remove what was made, but no dataset
	rm -rf $(VENV) $(PEERS) $(READERS) .engines $(STORES) corpus build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
