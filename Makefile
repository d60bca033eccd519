# All that is needed besides python3 (3.11 or later, with its venv module) goes into .venv, as
# pyproject.toml lists it, and again whenever that file changes. `make` says what there is.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
TRIAL = -m twisted.trial

# For the command line: make run ARGS="-addr=:9000", make test TESTS=tests.test_names,
# make faults SOAK=600, make bench ARGS="--server original=http://127.0.0.1:8082,1234".
ARGS =
# All tests but those of tests/faults, which measure, and want a quiet machine.
TESTS = $(sort $(patsubst tests/%.py,tests.%,$(wildcard tests/test_*.py))) tests.clients \
	tests.conformance
SOAK = 1800
# The load generator, and the least that a server can do.
MEASURES = benchmarks/built/load benchmarks/built/floor

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: run
run: $(VENV)/run.stamp ## Serve on :8081; with options: make run ARGS="-addr=:9000"
	@$(BIN)/pinghub $(ARGS)

.PHONY: test
test: $(VENV)/test.stamp ## Run the tests; some of them: make test TESTS=tests.test_names
	$(BIN)/python $(TRIAL) -j 2 $(TESTS)

.PHONY: lint
lint: style types ## Check style and types

.PHONY: style
style: $(VENV)/lint.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: $(VENV)/lint.stamp
	$(BIN)/mypy

.PHONY: coverage
coverage: $(VENV)/test.stamp ## Run the tests, and find what they do not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run $(TRIAL) $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: mutants
mutants: $(VENV)/mutants.stamp ## Change the core in many small ways, and find what no test notices
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python -m tests.mutants

.PHONY: audit
audit: $(VENV)/audit.stamp ## Ask the advisory service about the resolved dependencies; needs internet
	$(BIN)/pip-audit --strict --progress-spinner off .

.PHONY: clients
clients: $(VENV)/test.stamp ## Run the tests with clients written by others
	@if command -v npm; then cd tests/clients/node && npm install; \
	else echo "no npm: install Node.js to run the tests of its clients as well"; fi
	$(BIN)/python $(TRIAL) tests.clients

.PHONY: faults
faults: $(VENV)/test.stamp ## Measure what hostile, slow and broken peers do, in full: make faults SOAK=1800
	PINGHUB_FAULTS=full PINGHUB_SOAK=$(SOAK) $(BIN)/python $(TRIAL) tests.faults

.PHONY: faults-short
faults-short: $(VENV)/test.stamp ## The same in a few minutes
	PINGHUB_FAULTS=short $(BIN)/python $(TRIAL) tests.faults

.PHONY: proxies
proxies: $(VENV)/browser.stamp ## Run the tests behind real proxies; needs nginx, haproxy, chromium
	$(BIN)/python $(TRIAL) -j 3 tests.proxies

.PHONY: javascript
javascript: $(VENV)/test.stamp ## Run the tests of the JavaScript client; needs npm
	cd tests/clients/node && npm install
	cd tests/javascript && npm install
	$(BIN)/python $(TRIAL) tests.test_javascript

.PHONY: browser
browser: $(VENV)/browser.stamp ## Run the tests of the console; needs chromium and npm
	cd tests/browser && npm install
	$(BIN)/python $(TRIAL) -j 2 tests.browser

.PHONY: monitoring
monitoring: $(VENV)/test.stamp ## Run the tests with Prometheus; needs prometheus
	$(BIN)/python $(TRIAL) tests.monitoring

.PHONY: publishing
publishing: $(VENV)/test.stamp ## Run the examples of docs/publishing.md in all languages that are there
	$(BIN)/python $(TRIAL) -j 2 tests.publishing

.PHONY: backplane
backplane: $(VENV)/backplane.stamp ## Run the tests with a real Redis; needs redis-server and nginx
	$(BIN)/python $(TRIAL) -j 3 tests.backplane

.PHONY: conformance
conformance: $(VENV)/run.stamp ## Run the Autobahn|Testsuite; needs Python 2.7 and a C compiler
	$(BIN)/python tests/conformance/install.py
	$(BIN)/python -m tests.conformance.run --groups all

.PHONY: conformance-short
conformance-short: $(VENV)/run.stamp ## Run its groups that concern the protocol itself
	$(BIN)/python tests/conformance/install.py
	$(BIN)/python -m tests.conformance.run --groups short

.PHONY: bench-order
bench-order: $(VENV)/run.stamp ## Check order and loss under load
	$(BIN)/python -m benchmarks.order

.PHONY: bench
bench: $(VENV)/bench.stamp $(MEASURES) ## Measure throughput, latency and memory beside other servers
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-quick
bench-quick: $(VENV)/bench.stamp $(MEASURES) ## The same in two minutes
	$(BIN)/python -m benchmarks --quick $(ARGS)

.PHONY: bench-scale
bench-scale: $(VENV)/bench.stamp $(MEASURES) ## Measure up to 100 000 idle subscribers; needs so many descriptors
	$(BIN)/python -m benchmarks.scale $(ARGS)

.PHONY: bench-processes
bench-processes: $(VENV)/bench.stamp $(MEASURES) ## Measure one, two and four processes behind nginx
	$(BIN)/python -m benchmarks.processes $(ARGS)

.PHONY: bench-backplane
bench-backplane: $(VENV)/bench.stamp $(MEASURES) ## Measure one channel on one, two and four servers; needs redis-server
	$(BIN)/python -m benchmarks.backplane $(ARGS)

.PHONY: package
package: $(VENV)/test.stamp ## Build sdist and wheel in dist, install them and try them
	rm -rf dist
	$(BIN)/python -m build
	PINGHUB_DIST=$(CURDIR)/dist $(BIN)/python $(TRIAL) tests.test_packaging

.PHONY: clean
clean: ## Remove all that these commands made
	rm -rf $(VENV) .conformance .hypothesis .mypy_cache .ruff_cache _trial_temp* dist mutants
	rm -rf .coverage* benchmarks/built tests/*/node_modules tests/clients/node/node_modules
	rm -rf twisted/plugins/dropin.cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# One environment: each step builds on the one before, so that no two of them ever install into
# it at the same time.

# pip 25.1 is the first that knows dependency groups.
$(VENV)/pip.stamp:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "pip>=25.1"
	@touch $@

$(VENV)/run.stamp: $(VENV)/pip.stamp pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(PIP) install --group test
	@touch $@

$(VENV)/browser.stamp: $(VENV)/test.stamp
	$(PIP) install --group browser
	@touch $@

$(VENV)/backplane.stamp: $(VENV)/browser.stamp
	$(PIP) install --group backplane
	@touch $@

$(VENV)/lint.stamp: $(VENV)/backplane.stamp
	$(PIP) install --group lint
	@touch $@

$(VENV)/mutants.stamp: $(VENV)/lint.stamp
	$(PIP) install --group mutants
	@touch $@

$(VENV)/audit.stamp: $(VENV)/mutants.stamp
	$(PIP) install --group audit
	@touch $@

$(VENV)/bench.stamp: $(VENV)/audit.stamp
	$(PIP) install --group bench
	@touch $@

benchmarks/built/%: benchmarks/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra -o $@ $<
