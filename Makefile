# Two commands are all a newcomer needs: `make demo` and `make test`. Both set everything up first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint types check recheck bench-peers clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub,train,worlds,serve,postgres,ray,llama-cpp]'
	$(BIN)/plaudit doctor --fix
	touch $@

demo: setup
	$(BIN)/plaudit demo --report report.html

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

recheck: setup
	$(BIN)/plaudit reproduce --recheck 2 --longest 150

check: lint types test

PEERS := verdict py-openjudge prometheus-eval trl lm-eval torchgfn

bench-peers: setup $(PEERS:%=.peers/%/.ready)
	$(BIN)/python -m benchmarks.runner_overhead

.peers/%/.ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	if [ -f benchmarks/peers/$*.no-deps.txt ]; then \
	  .peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers/$*.no-deps.txt; fi
	touch $@

clean:
	rm -rf $(VENV) .peers
