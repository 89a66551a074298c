# Two commands are all a newcomer needs: `make demo` and `make test`. Both set everything up first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint types check recheck bench-peers integrations clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub,train,worlds,serve,postgres,ray,llama-cpp]'
	$(BIN)/plaudit doctor --fix
	touch $@

demo: setup
	$(BIN)/plaudit demo --report report.html

# Two processes, whatever the machine has: each loads the embedded model. A file's tests stay together, so fixtures are made once.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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

# The programs that plaudit plugs into, each beside the packages of .venv: only what is pinned for it is its own.
INTEGRATIONS := $(patsubst tests/integrations/environments/%.txt,%,$(wildcard tests/integrations/environments/*.txt))
SITE := import sysconfig; print(sysconfig.get_path("purelib"))

integrations: setup $(INTEGRATIONS:%=.peers/integrations/%/.ready)

.peers/integrations/%/.ready: tests/integrations/environments/%.txt
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check --no-deps -r $<
	$(BIN)/python -c '$(SITE)' | sed "s/.*/import site; site.addsitedir('&')/" > "$$($(@D)/bin/python -c '$(SITE)')/plaudit.pth"
	touch $@

clean:
	rm -rf $(VENV) .peers
