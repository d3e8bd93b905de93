# `make demo` and `make test` work on a fresh machine: each makes the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
# Two processes of one thread each: small nets gain nothing from threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

DEVICE ?= cuda

.PHONY: demo gpu test checks test-fast test-clients test-skorch test-wheel release-check lint types imports report smoke house docs docs-blocks docs-site docs-look fuzz test-lowest clean

demo: $(STAMP)
	$(BIN)/python -m benchmarks uci --seeds 5 --out build/demo

# Everything that needs a GPU; MINUTES=9 does a part of it, and the same command goes on. DEVICE=cpu rehearses it.
gpu: $(STAMP)
	$(BIN)/python -m benchmarks gpu --device $(DEVICE) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

# The slow tests run what `make smoke` runs; those of clients are among them. The site is a check like others where what
# its pages show can be installed.
PAGES := --doctest-glob="*.rst" --ignore=docs/generated docs/*.rst docs/guide
IF_DOCS = $(shell test -x $(BIN)/sphinx-build && echo yes)
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 --output-sync checks
	$(PYTEST) sk_mixup benchmarks tests $(if $(IF_DOCS),$(PAGES))

# What takes one process each: the short ones first, then the longest.
checks: lint imports test-wheel types $(if $(IF_DOCS),docs-site) skorch-mixin skorch-estimators report

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

# Other people's tools on our estimators; those that are not installed are skipped by name.
test-clients: $(STAMP)
	$(PYTEST) tests/clients

# From the wheel, in an environment that holds nothing but what it needs: the README's blocks, the quick start
# and the doctests. The sdist must hold every file of the repository.
test-wheel: $(STAMP)
	rm -rf build/dist build/front-door
	$(BIN)/python -m hatchling build -d build/dist
	$(PYTHON) -m venv --without-pip build/front-door
	$(BIN)/python -m pip --python build/front-door/bin/python install --quiet --no-compile \
		-c constraints.txt build/dist/*.whl
	cd build/front-door && OMP_NUM_THREADS=1 bin/python -I -W error::UserWarning \
		../../tests/front_door.py ../../README.md ../../docs/start.rst
	tar tzf build/dist/*.tar.gz | cut -d/ -f2- | LC_ALL=C sort > build/dist/files
	! git ls-files | LC_ALL=C sort | LC_ALL=C comm -23 - build/dist/files | grep .

# Before a release: the wheel as above, what the index would say of both files, and the tests of the unpacked sdist.
release-check: test-wheel
	$(PIP_INSTALL) -e ".[release]"
	$(BIN)/python -m twine check --strict build/dist/*.whl build/dist/*.tar.gz
	tar xzf build/dist/*.tar.gz -C build/dist
	cd build/dist/sk_mixup-*/ && PYTHONPATH=$$PWD $(subst $(BIN),$(abspath $(BIN)),$(PYTEST)) $(ARGS)

# skorch's own tests on our classes.
test-skorch: skorch-mixin skorch-estimators

skorch-%: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.skorch_contract $*

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

smoke: $(STAMP)
	$(BIN)/python -m benchmarks smoke --out build/smoke

report: $(STAMP)
	$(BIN)/python -m benchmarks report --check

# One process installs, and all of them compile, half the time; of packages that one test imports nothing beforehand.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP_INSTALL) -e ".[benchmarks,clients,cluster,compare,docs,peers,test]" || { \
		echo "other people's tools cannot be installed here: their tests are skipped by name, the site is not built"; \
		$(PIP_INSTALL) -e ".[benchmarks,cluster,compare,peers,test]"; }
	$(BIN)/python -m compileall -qq -j 0 -x "/(tests|transformers|ray|mlflow|mne|timm|pip)/" $(VENV)/lib || true
	touch $@

# The site, into build/docs/html: its blocks are run, then it is built. Warnings are errors. Examples whose text has
# not changed are not run again.
docs: docs-blocks docs-site

docs-blocks: $(STAMP)
	$(PYTEST) -q $(PAGES)

docs-site: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html -d build/docs/doctrees docs build/docs/html

# Every page of the built site in a browser; needs node and chromium. SHOTS=DIR keeps screenshots.
docs-look:
	npm install --silent --no-save --prefix docs/look
	node docs/look/look.mjs build/docs/html

# How the package is built, in figures.
house: $(STAMP)
	$(BIN)/python tests/house.py

# More cases of the fuzz test than CI tries, some four minutes; fails if one does not come out right.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz 10000 10000

# The lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	.venv-lowest/bin/python -m pip install --quiet -c constraints-lowest.txt -e ".[test]"
	$(subst $(BIN),.venv-lowest/bin,$(PYTEST)) sk_mixup tests --ignore=tests/benchmarks

clean:
	rm -rf .venv .venv-lowest build docs/generated docs/look/node_modules
