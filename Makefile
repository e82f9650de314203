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

.PHONY: help install demo test fidelity check format lock protos bench smoke-gpu clean

help:  ## Show the targets
	@awk 'BEGIN {FS = ":.*##"} /^[a-z-]+:.*##/ {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tracemend needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet "uv>=$(UV_VERSION)"

$(VENV)/.synced: requirements/$(LOCK).lock pyproject.toml | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python requirements/$(LOCK).lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

install: $(VENV)/.synced  ## Create .venv from the lock

demo: $(VENV)/.synced  ## Run the whole loop on the proving ground (OUT=DIR chooses the folder)
	$(BIN)/tracemend demo --out "$(OUT)"

test: $(VENV)/.synced  ## Run the tests (JOBS=2 at a time)
	$(BIN)/pytest -n $(JOBS) --dist loadfile

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

lock: | $(UV)  ## Resolve the locks anew
	cd requirements && ../$(UV) pip compile --upgrade --python-version 3.11 --override overrides.txt --generate-hashes --no-emit-index-url --no-header -o cpu.lock cpu.in dev.in
	cd requirements && ../$(UV) pip compile --upgrade --python-version 3.11 --only-binary vllm --generate-hashes --no-emit-index-url --no-header -o gpu.lock gpu.in dev.in

bench: $(VENV)/.synced  ## Measure the engines and the loop
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python -m benchmarks.loop

smoke-gpu: $(VENV)/.synced  ## 64 prompts end to end on real weights: make smoke-gpu MODEL=FOLDER (OUT=DIR, ARGS=--dry-run)
	@test -n "$(MODEL)" || { echo "usage: make smoke-gpu MODEL=FOLDER_OF_A_REASONING_MODEL"; exit 2; }
	$(BIN)/python -m benchmarks.smoke_gpu --model "$(MODEL)" $(if $(filter file,$(origin OUT)),,--out "$(OUT)") $(ARGS)

clean:  ## Remove caches and builds, not runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
