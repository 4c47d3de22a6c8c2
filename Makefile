# One front door for every task; CI calls the same targets. Each sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TO ?= milvus-lite
MINUTES ?= 30
JOBS ?= 2
ARGS ?=

.PHONY: help setup lint types test model demo bench faults soak endurance fuzz protos lock clean
help:
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv with everything the other targets need

$(STAMP): requirements.lock pyproject.toml
	command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: setup ## style, layering, licences
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.licences

types: setup ## mypy, strict
	$(BIN)/mypy

# A file's tests share their engines, so a file stays with one worker. A process that crashes ends the run: what it had
# left to do would not be given to another.
test: setup ## unit, contract and flow tests over real engines (JOBS=2 files side by side)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

model: setup ## the protocol's models, every state (ARGS="--full")
	$(BIN)/python -m tests.models $(ARGS)

demo: setup ## a live migration, Qdrant -> Milvus (TO=milvus for the full server, ARGS="--json FILE --keep")
	$(BIN)/python -m examples.demo --to $(TO) $(ARGS)

bench: setup ## figures beside direct access, in one run (ARGS="--json FILE")
	$(BIN)/python -m bench $(ARGS)

faults: setup ## the fault matrix (an hour at most; ARGS="--json FILE --only PATTERN")
	$(BIN)/python -m tests.faults $(ARGS)

soak: setup ## a long load with faults and flips (MINUTES=30)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(ARGS)

endurance: setup ## a long load with clients that leave, upstreams that reset, reloads (MINUTES=30)
	$(BIN)/python -m tests.faults.endurance --minutes $(MINUTES) $(ARGS)

fuzz: setup ## fuzz what reads a peer's bytes (x86-64 Linux; ARGS="--seconds 60 http2_server")
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz $(ARGS)

protos: setup ## compile protos/ into the descriptor sets that the program loads
	$(BIN)/python -m tests.support.compile_protos

lock: setup ## renew requirements.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-emit-package crossfade -o requirements.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache dist
