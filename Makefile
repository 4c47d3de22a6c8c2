# One front door for every task; CI calls the same targets. Each sets up what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TO ?= milvus-lite
MINUTES ?= 30
JOBS ?= 2
ARGS ?=
# Which form of the program a target runs: as it is written, or compiled.
FORM ?= written
COMPILED := dist/compiled
ifeq ($(FORM),compiled)
READY := $(COMPILED)/.built
RUN := CROSSFADE_FORM=compiled PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python
else ifeq ($(FORM),written)
READY := setup
RUN := $(BIN)/python
else
$(error FORM=$(FORM): expected "written" or "compiled")
endif

.PHONY: help setup lint types test model demo bench faults soak endurance compiled fuzz protos lock clean
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
test: $(READY) ## unit, contract and flow tests over real engines (JOBS=2 files side by side, FORM=compiled)
	$(RUN) -m pytest $(if $(filter compiled,$(FORM)),-o pythonpath= -p proxy) -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

model: setup ## the protocol's models, every state (ARGS="--full")
	$(BIN)/python -m tests.models $(ARGS)

demo: setup ## a live migration, Qdrant -> Milvus (TO=milvus for the full server, ARGS="--json FILE --keep")
	$(BIN)/python -m examples.demo --to $(TO) $(ARGS)

bench: $(READY) ## figures beside direct access, in one run (ARGS="--json FILE", FORM=compiled)
	$(RUN) -m bench $(ARGS)

faults: $(READY) ## the fault matrix (an hour at most; ARGS="--json FILE --only PATTERN", FORM=compiled)
	$(RUN) -m tests.faults $(ARGS)

soak: $(READY) ## a long load with faults and flips (MINUTES=30, FORM=compiled)
	$(RUN) -m tests.faults.soak --minutes $(MINUTES) $(ARGS)

endurance: $(READY) ## a long load with clients that leave, upstreams that reset, reloads (MINUTES=30, FORM=compiled)
	$(RUN) -m tests.faults.endurance --minutes $(MINUTES) $(ARGS)

compiled: $(COMPILED)/.built ## the compiled form, as a wheel in dist/ and to be run by FORM=compiled (needs a C compiler)

$(COMPILED)/.built: $(STAMP) $(shell find proxy -name '*.py' -o -name '*.binpb')
	rm -rf $(COMPILED) dist/*.whl
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(COMPILED) dist/*.whl
	@touch $@

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
