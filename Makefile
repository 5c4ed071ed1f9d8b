# Everything a user or a developer types. `make demo` and `make test` need only
# Python 3.11 or newer; each sets up what it uses in .venv, from locked versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# What only computes runs on two cores at once; what starts processes has the machine alone.
PURE := tests/unit tests/property tests/simulation \
	$(patsubst %,tests/integration/monitor/test_%.py,automation backtest monitor_drift \
	monitor_performance monitor_replay monitor_slices)
ON_TWO_CORES := OPENBLAS_NUM_THREADS=1 $(PYTEST) -n 2
REST := $(PURE:%=--ignore=%)
CLIENTS := .venv-clients
PEERS := .venv-peers
MONITOR_PEERS := .venv-monitor-peers

.PHONY: help setup demo up test test-ci check bench bench-peers bench-monitor bench-delay locks clean

help:
	@echo "make demo     the whole story on real data: serve, drift, roll back, retrain"
	@echo "make up       gateway and monitor with the demo's model, left running"
	@echo "make test     every check and every test a change must pass"
	@echo "make test-ci  what is too long or too heavy for a first run"
	@echo "make bench    everything that is measured on this machine, in 20 minutes; QUICK=1: in 3"
	@echo "make bench-peers   cost per request beside Triton, MLServer, KServe, LitServe, BentoML"
	@echo "make bench-monitor  values per second that the monitor counts, beside Evidently and NannyML"
	@echo "make bench-delay  how soon a loss that rises is found, beside river's drift detectors"
	@echo "make check    formatting, types and import layers"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# KServe's SDK needs some 80 packages, so it gets an environment of its own.
$(CLIENTS): requirements/clients.lock
	$(PYTHON) -m venv --clear $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.demo: requirements/demo.lock requirements/build.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/build.lock -r requirements/demo.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.demo
	$(PIP) --require-hashes -r requirements/dev.lock
	@touch $@

setup: $(VENV)/.dev

demo: $(VENV)/.demo
	$(BIN)/driftgate demo --json

up: $(VENV)/.demo
	$(BIN)/driftgate up --with-demo-model

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: check
	$(ON_TWO_CORES) -m "not ci and not gpu" $(PURE)
	$(PYTEST) -m "not ci and not gpu" $(REST)

test-ci: export DRIFTGATE_TESTS_REQUIRE += kserve
test-ci: $(VENV)/.dev $(CLIENTS)
	$(ON_TWO_CORES) -m ci $(PURE)
	$(PYTEST) -m ci $(REST)

bench: $(VENV)/.demo
	$(BIN)/driftgate bench all $(if $(QUICK),--quick) $(if $(wildcard $(PEERS)),--envs $(PEERS))

bench-monitor: $(VENV)/.demo $(MONITOR_PEERS)/evidently/.made $(MONITOR_PEERS)/nannyml/.made
	$(BIN)/driftgate bench monitor --envs $(MONITOR_PEERS)

# Each of those that are measured beside it has requirements that no other can live with.
.venv-%/.made: requirements/%.lock
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

bench-peers: $(VENV)/.demo $(patsubst requirements/%.lock,.venv-%/.made,$(wildcard requirements/peers/*.lock))
	$(BIN)/driftgate bench peers --envs $(PEERS)

bench-delay: $(VENV)/.demo $(MONITOR_PEERS)/river/.made
	$(BIN)/driftgate bench delay --env $(MONITOR_PEERS)/river

# Needs uv; rewrites every lock.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
locks:
	$(COMPILE) --extra cpu pyproject.toml -o requirements/cpu.lock
	$(COMPILE) --extra gpu pyproject.toml -o requirements/gpu.lock
	$(COMPILE) --extra cpu --extra demo pyproject.toml -o requirements/demo.lock
	$(COMPILE) --extra cpu --extra demo --extra dev pyproject.toml -o requirements/dev.lock
	printf '%s\n' "kserve>=0.21,<0.22" "tritonclient[grpc,http]>=2.73" | \
		$(COMPILE) - -o requirements/clients.lock
	echo "setuptools>=77" | $(COMPILE) - -o requirements/build.lock
	for peer in "nvidia-pytriton>=0.7,<0.8=triton" "mlserver>=1.7,<1.8=mlserver" \
		"kserve>=0.21,<0.22=kserve" "litserve>=0.2.19,<0.3=litserve" "bentoml>=1.4.40,<1.5=bentoml"; do \
		printf '%s\n' "$${peer%=*}" "onnxruntime>=1.28" | \
			$(COMPILE) - -o "requirements/peers/$${peer##*=}.lock"; done
	echo "river>=0.26,<0.27" | $(COMPILE) - -o requirements/monitor-peers/river.lock
	printf '%s\n' "evidently>=0.7.23,<0.8" "pandas<3" | \
		$(COMPILE) - -o requirements/monitor-peers/evidently.lock
	printf '%s\n' "nannyml>=0.13.1,<0.14" "kaleido==0.2.1" "statsmodels" "pandas<3" | \
		$(COMPILE) - -o requirements/monitor-peers/nannyml.lock

clean:
	rm -rf $(VENV) $(CLIENTS) $(PEERS) $(MONITOR_PEERS) .driftgate demo-report
