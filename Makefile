# The one command surface: `make help` lists it, and continuous integration runs exactly `make check`.
# Needs make and Python 3.11 or newer; uses uv where it is installed, and venv and pip where it is not.

.DEFAULT_GOAL := help
.PHONY: help run test verify check lint types docs docs-check walk bench mutate clean

VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE ?= examples/job_prep_release.yaml
# Two processes are no faster than one on one core, and worksteal evens out slow tests; `make test PYTEST_ARGS=-x` runs in one.
PYTEST_ARGS ?= -n auto --dist worksteal
BENCH_ARGS ?=
VERIFY_ARGS ?=
MUTATE_ARGS ?=

# An environment is as good as pyproject.toml, so its stamp carries that file's checksum: a second `make` installs nothing.
SUM := $(shell cksum < pyproject.toml | tr -d ' ')
RUNTIME := $(VENV)/.runtime-$(SUM)
DEVELOPMENT := $(VENV)/.development-$(SUM)
MUTATION := $(VENV)/.mutation-$(SUM)

help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: $(RUNTIME) ## run the sample job on this machine: two nodes, eight tasks, preparation and release
	$(BIN)/jobledger run $(SAMPLE)

test: $(DEVELOPMENT) ## run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

verify: $(DEVELOPMENT) ## look at every state of small worlds, which takes minutes; VERIFY_ARGS=--list lists them
	$(BIN)/python -m jobledger.testing.exhaustive $(VERIFY_ARGS)

check: lint types docs-check test ## all that has to be right before a change is merged

lint: $(DEVELOPMENT) ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPMENT) ## check types
	$(BIN)/mypy --strict

docs: $(DEVELOPMENT) ## write the pages that are made from code again
	$(BIN)/python -m jobledger.docsgen

docs-check: $(DEVELOPMENT) ## check that those pages say what the code does
	$(BIN)/python -m jobledger.docsgen --check

walk: $(DEVELOPMENT) ## walk and play many schedules, other ones each time; takes an hour
	JOBLEDGER_WALKS=nightly JOBLEDGER_SCHEDULES=20000 $(BIN)/python -m pytest $(PYTEST_ARGS) property_tests

bench: $(DEVELOPMENT) ## run the benchmarks
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

mutate: $(MUTATION) ## break the core thousands of times and see which tests notice; takes an hour of CPU time
	$(BIN)/python benchmarks/mutation.py $(MUTATE_ARGS)

clean: ## remove the environment, caches and builds; ledgers stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------------------------

# Names are tried, not only looked up: a name can be there and run an older Python, or none at all.
ifdef PYTHON
CANDIDATES := $(PYTHON)
else
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
endif

define find_python
found=; \
for candidate in $(CANDIDATES); do \
	if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
	echo "jobledger needs Python 3.11 or newer, and none of these is one: $(CANDIDATES)" >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	exit 1; \
fi
endef

define find_uv
uv=; if command -v uv > /dev/null 2>&1; then uv=uv; fi
endef

$(BIN)/python:
	@$(find_python); $(find_uv); \
	echo "making an environment in $(VENV) with $$found$${uv:+ and uv}"; \
	if [ -n "$$uv" ]; then uv venv --quiet --python "$$found" $(VENV); \
	elif ! "$$found" -m venv $(VENV); then \
		rm -rf $(VENV); \
		echo "This Python cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi

$(RUNTIME): $(BIN)/python
	@$(find_uv); \
	if [ -n "$$uv" ]; then uv pip install --quiet --python $(BIN)/python --editable .; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .; fi
	@rm -f $(VENV)/.runtime-*; touch $@

# pip reads dependency groups from 25.1 on, and a fresh environment may have an older one.
$(DEVELOPMENT): $(RUNTIME)
	@$(find_uv); \
	if [ -n "$$uv" ]; then uv pip install --quiet --python $(BIN)/python --group dev; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' && \
		$(BIN)/python -m pip install --quiet --group dev; \
	fi
	@rm -f $(VENV)/.development-*; touch $@

$(MUTATION): $(DEVELOPMENT)
	@$(find_uv); \
	if [ -n "$$uv" ]; then uv pip install --quiet --python $(BIN)/python --group mutation; \
	else $(BIN)/python -m pip install --quiet --group mutation; fi
	@rm -f $(VENV)/.mutation-*; touch $@
