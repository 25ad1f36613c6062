# Everything a developer or a server runs. `make help` lists the targets.
# Needs Linux on x86-64, make, and Python 3.11, 3.12 or 3.13 with its venv module.
#
#   make demo                      install and run a digital study, from raw data to group report
#   make test                      install and run all tests but the long proofs
#   make PYTHON=python3.12 demo    with another Python
#   make ARGS="-k relaxometry" test
#   make WORKERS=8 test            on a machine with eight cores

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2
RESOLUTION ?= highest
ENGINE ?= docker

# No telemetry, no display, one thread per process: the same numbers everywhere.
export NO_ET := 1
export NIPYPE_NO_ET := 1
export MPLBACKEND := Agg
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

UV_COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --quiet

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

.PHONY: install
install: $(STAMP) ## make .venv with the locked packages and oxybold itself

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) tools/check_machine.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-build.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: demo
demo: install ## run a digital study of 3 participants; print truth against estimate
	$(BIN)/python tools/demo.py $(ARGS)

.PHONY: real-asl
real-asl: install ## download a real participant and compute cerebral blood flow
	$(BIN)/python tools/real_asl.py $(ARGS)

.PHONY: lint
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docstrings.py
	$(BIN)/codespell

.PHONY: check
check: lint ## the fast part, under 90 s: style, types, layers, unit tests
	$(BIN)/pytest -q --doctest-modules bids_app oxybold
	$(BIN)/pytest -q -m "not e2e and not prove and not network" -n $(WORKERS) --dist loadscope $(ARGS)

.PHONY: test
test: lint ## everything but the long proofs; what .ci/run calls
	$(BIN)/pytest -q --doctest-modules bids_app oxybold
	$(BIN)/pytest -m "not prove" -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: test-unlocked
test-unlocked: ## unit tests without the locks (needs uv); RESOLUTION=lowest-direct or highest
	# old packages warn of what newer ones changed, and new ones of what they will change
	uv venv --clear --python $(PYTHON) .venv-unlocked
	uv pip install --python .venv-unlocked --resolution $(RESOLUTION) --editable '.[test,dev]'
	.venv-unlocked/bin/pytest -q -W default -m "not e2e and not prove and not network" $(ARGS)

.PHONY: prove
prove: install ## the long proofs: full counts, study size
	$(BIN)/pytest -m prove $(ARGS)

.PHONY: docs
docs: install ## build the pages in docs/_build/html; a warning is an error
	$(BIN)/python tools/make_docs.py --check
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: reference
reference: install ## write the generated pages and the graph of the README anew
	$(BIN)/python tools/make_docs.py

.PHONY: bench
bench: install ## time and memory beside a peer or limit, into a page of the docs; ARGS=--quick
	$(BIN)/python tools/bench.py $(ARGS)
	$(BIN)/python tools/make_docs.py

.PHONY: format
format: install ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## refresh the locks (needs uv); UPGRADE=1 takes the newest versions
	$(UV_COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --all-extras --group build \
	  -o requirements.lock
	$(UV_COMPILE) -c <(grep == requirements.lock | sed 's/ \\$$//') pyproject.toml \
	  -o requirements-app.lock
	$(UV_COMPILE) -c <(grep == requirements.lock | sed 's/ \\$$//') --group build \
	  -o requirements-build.lock

.PHONY: image
image: ## build the container image oxybold; ENGINE=podman for Podman
	$(ENGINE) build --tag oxybold --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" .

.PHONY: release-check
release-check: install ## say what keeps this tree from being released
	$(BIN)/python tools/release_check.py

.PHONY: clean
clean: ## remove what the other targets made, .venv too
	rm -rf $(VENV) .venv-unlocked build dist demo real-asl docs/_build .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find bids_app oxybold tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
