# `make` alone prints the targets. A fresh machine needs Python 3.11 and make; everything else is set up here.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
UV := .tools/bin/uv
BIN := $(VENV)/bin
OUT ?= runs/demo
JOBS ?= 2
# Which requirements: `cpu`, or `gpu` on a machine with one.
LOCK ?= cpu
UV_VERSION := 0.9
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

# With docker's or podman's compose; otherwise servers come by the environment (CONTRIBUTING.md).
COMPOSE ?= $(shell for engine in docker podman; do $$engine compose version >/dev/null 2>&1 && echo "$$engine compose --file docker/compose.yaml" && break; done)

# The first that works builds images.
BUILDER ?= $(shell for builder in docker podman buildah; do $$builder version >/dev/null 2>&1 && echo $$builder && break; done)
# Which images, by the lock that fills them; BASE and what else the builder is to be told.
IMAGES ?= services gpu
BASE ?=
BUILD_ARGS ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: help install demo test test-long test-servers test-charts test-cluster servers-up servers-down fidelity check format lock protos bench smoke-gpu images kind-up deploy clean

help:  ## Show the targets
	@awk 'BEGIN {FS = ":.*##"} /^[a-z-]+:.*##/ {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tracemend needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet "uv>=$(UV_VERSION)"

$(VENV)/.synced: requirements/$(LOCK).lock requirements/dev.lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python requirements/$(LOCK).lock requirements/dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

install: $(VENV)/.synced  ## Create .venv from the lock

demo: $(VENV)/.synced  ## Run the whole loop on the proving ground (OUT=DIR chooses the folder)
	$(BIN)/tracemend demo --out "$(OUT)"

test: $(VENV)/.synced  ## Run the tests (JOBS=2 at a time)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.synced  ## Run the tests that take minutes each and are not part of make test
	$(BIN)/pytest -m long

# Servers that the environment names go before those of compose.
test-servers: $(VENV)/.synced  ## Run the tests that need real servers, and fail where one is missing
	@if [ -z "$$KAFKA_BOOTSTRAP_SERVERS$$S3_ENDPOINT$$POSTGRES_DSN" ] && [ -n "$(COMPOSE)" ]; then \
		set -a; . docker/servers.env; set +a; fi; \
	TRACEMEND_REQUIRE="$${TRACEMEND_REQUIRE:+$$TRACEMEND_REQUIRE,}servers" $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m servers

test-charts: $(VENV)/.synced  ## Run the tests of chart and manifests (helm, kubectl and promtool in PATH or TRACEMEND_TOOLS)
	TRACEMEND_REQUIRE="$${TRACEMEND_REQUIRE:+$$TRACEMEND_REQUIRE,}helm,promtool" $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/charts

servers-up:  ## Start Kafka, MinIO and PostgreSQL on loopback, and wait until they answer
	@test -n "$(COMPOSE)" || { \
		echo "Neither docker nor podman has a compose that runs here. Start servers in another way and set:"; \
		sed -n 's/^\([A-Z0-9_]*\)=/  \1=   for example /p' docker/servers.env; exit 2; }
	$(COMPOSE) up --detach --build --wait
	@echo "They are up. For your shell: set -a; . docker/servers.env; set +a"

servers-down:  ## Stop them and remove their data
	@test -n "$(COMPOSE)" || { echo "No compose runs here, so make servers-up started none."; exit 2; }
	$(COMPOSE) down --volumes

# From a machine that has the tools which start a cluster of one real node (tests/cluster/chart/README.md).
test-cluster: export CLUSTER ?= $(wildcard $(CURDIR)/../shared/tools/cluster/cluster)
test-cluster: export TOOLS ?= $(wildcard $(CURDIR)/../shared/bin/unpack)
test-cluster: $(VENV)/.synced  ## Install, break, upgrade and remove the chart on a real node, from nothing
	tests/cluster/chart/run.sh

fidelity: $(VENV)/.synced  ## Run the papers' claims over five base seeds and write their pages
	$(BIN)/python -m benchmarks.fidelity --seeds 5 --prompts 100

check: $(VENV)/.synced  ## Format, lint, types, layers, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shared services
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/lint.py

format: $(VENV)/.synced  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python protos/lint.py --fix

protos: $(VENV)/.synced  ## Generate the protobuf code
	$(BIN)/python protos/generate.py

COMPILE = cd requirements && ../$(UV) pip compile --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: | $(UV)  ## Resolve the locks anew
	$(COMPILE) --override overrides.txt -o cpu.lock cpu.in
	$(COMPILE) --only-binary vllm -o gpu.lock gpu.in
	$(COMPILE) -c cpu.lock -c gpu.lock -o dev.lock dev.in
	$(COMPILE) -c cpu.lock -o services.lock services.in
	$(COMPILE) -o build.lock build.in

bench: $(VENV)/.synced  ## Measure the engines and the loop
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python -m benchmarks.loop

smoke-gpu: $(VENV)/.synced  ## 64 prompts end to end on real weights: make smoke-gpu MODEL=FOLDER (OUT=DIR, ARGS=--dry-run)
	@test -n "$(MODEL)" || { echo "usage: make smoke-gpu MODEL=FOLDER_OF_A_REASONING_MODEL"; exit 2; }
	$(BIN)/python -m benchmarks.smoke_gpu --model "$(MODEL)" $(if $(filter file,$(origin OUT)),,--out "$(OUT)") $(ARGS)

images:  ## Build the container images (IMAGES="services gpu cpu", BASE=…, BUILD_ARGS=…)
	@test -n "$(BUILDER)" || { echo "make images needs docker, podman or buildah"; exit 2; }
	@for lock in $(IMAGES); do \
	    $(BUILDER) build $(BUILD_ARGS) --file docker/Dockerfile --build-arg LOCK=$$lock $(if $(BASE),--build-arg BASE=$(BASE)) \
	        --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	        --tag $$(test $$lock = services && echo tracemend || echo tracemend-$$lock):$(VERSION) . || exit 1; \
	done

kind-up:  ## Start a kind cluster with a registry (k8s/kind; k8s/kind/up --down removes both)
	k8s/kind/up

deploy:  ## Build the images and install the chart there (ARGS=… for helm)
	k8s/kind/deploy $(ARGS)

clean:  ## Remove caches and builds, not runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
