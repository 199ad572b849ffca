# Every habit of this repository. `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := uv==0.13.9
ROOMS  := features training serving genai_gateway actors app examples
KINDS  := unit properties contracts architecture integration scenarios
TESTS   = $(foreach kind,$(KINDS),$(wildcard tests/$(kind)))

# uv does not read pip's settings; where only those are given, they hold for it too.
PIP_SETTINGS = \
	index=$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null || true)}; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	if [ -n "$${PIP_EXTRA_INDEX_URL:-}" ]; then export UV_INDEX="$${UV_INDEX:-$$PIP_EXTRA_INDEX_URL}"; fi; \
	if [ -n "$${PIP_FIND_LINKS:-}" ]; then export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}"; fi; \
	export UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-300}"

.DEFAULT_GOAL := help
.PHONY: help setup check format test demo bench lock clean

help: ## list every target
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make the environment in .venv from requirements.lock (needs only Python >= 3.11)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Tondo needs Python 3.11 to 3.13. Hint: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(PIP_SETTINGS); export VIRTUAL_ENV=$(CURDIR)/$(VENV); set -x; \
		$(BIN)/uv pip install --quiet --require-hashes -r requirements.lock && \
		$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

check: setup ## formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(ROOMS)
	$(BIN)/lint-imports --no-cache

format: setup ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## all tests, those without Ray first (make test PYTEST="-k words" for some)
	$(BIN)/pytest $(PYTEST) $(TESTS)

demo: setup ## the whole loop on the real flights of 2013, with a report at the end
	$(BIN)/tondo demo

bench: setup ## every benchmark beside its baseline (make bench NAME=serving for one)
	$(BIN)/tondo bench $(NAME)

lock: setup ## resolve pyproject.toml into requirements.lock again
	@$(PIP_SETTINGS); $(BIN)/uv pip compile --quiet --universal --generate-hashes \
		--no-emit-index-url --no-header --python-version 3.11 --extra dev \
		pyproject.toml -o requirements.lock

clean: ## remove caches and builds; .venv and the state in .tondo stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
