# Everything is set up by what needs it: `make demo` and `make test` work from a fresh clone.
# Needs python3 (3.11 or later), gcc and make; as root, Debian's prometheus and prometheus-alertmanager are installed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help venv tools debian demo serve stack test lint format types golden docs chart dashboards fleet mutants bench gridcost replay soak gpu lock image bases cleanroom dist version clean

help: ## Show the targets.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[daemon,grpc,kubernetes,systemd]'
	@touch $@

$(VENV)/.tests: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group dev --group frameworks
	@touch $@

venv: $(VENV)/.ready ## Make the virtual environment that Wattspan runs in.

tools: $(VENV)/.tests ## Put into it what tests and lint need.

debian: ## As root, install the Debian packages whose real programs the tests use; else say what is missing.
	@tests/debian-packages prometheus:promtool prometheus-alertmanager:amtool systemd:systemd-analyze

demo: venv ## Serve living metrics of simulated GPUs on port 9746; needs no GPU.
	$(BIN)/wattspan demo

serve: venv ## Meter this machine and serve on port 9746.
	$(BIN)/wattspan serve

stack: venv debian ## See it all: demo, Prometheus with rules, Alertmanager, and Grafana if there is one.
	$(BIN)/python -m dashboards.stack $(STACK)

test: tools debian ## Run lint, types and every test; what cannot be had here is skipped by name (in CI that fails).
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m 'not alone and not cleanroom'
	$(PYTEST) -m alone

lint: tools ## Check style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: tools ## Put the code into the house style.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

golden: tools ## Write the golden /metrics files anew; the diff is the review.
	$(PYTEST) tests/golden --regenerate

docs: tools ## Write the generated references in README.md anew.
	$(BIN)/python tests/docs/generate.py

chart: tools ## Write the chart's generated parts and the plain manifests anew; the diff is the review.
	$(BIN)/python -m tests.helm.generate

dashboards: tools ## Write the JSON of the dashboards anew; the diff is the review.
	$(BIN)/python -m dashboards

fleet: tools debian ## Time panels and rules on a synthetic fleet of 1,000 nodes x 8 GPUs.
	$(BIN)/python -m tests.fleet.big $(FLEET)

mutants: tools debian ## Change each threshold and comparison of the alerts: their tests must notice.
	$(BIN)/python -m tests.alerts.mutate

.venv-bench/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-bench/bin/python -m pip install --quiet --group bench
	@touch $@

bench: tools .venv-bench/.ready ## Ours beside nvitop-exporter and CodeCarbon on one fake of 8 GPUs x 8 processes (about 5 min).
	$(BIN)/python -m tests.bench --peer-python .venv-bench/bin/python

gridcost: tools ## What live carbon figures cost: the sampler's look-up, a dead source, memory.
	$(BIN)/python -m tests.bench.grid_cost

replay: tools ## 24 h of metering on the fake clock: energy exact to the microjoule, memory flat.
	$(BIN)/python -m tests.bench.replay_24h

soak: tools debian ## 100 x kill -9 at random moments under a 1 s scrape (about 3 min).
	$(PYTEST) -s tests/e2e/test_kill.py --kills 100

gpu: tools ## The tests that need a real NVIDIA GPU.
	$(PYTEST) -m gpu tests/gpu

# pyproject.toml says what is needed, the locks exactly which files; neither names where they come from.
.venv-lock/.ready:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet 'uv>=0.11'
	@touch $@

LOCK := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'

lock: .venv-lock/.ready ## Lock what the image installs, by hash; LOCK_FLAGS=--upgrade takes the newest of all.
	$(LOCK) $(LOCK_FLAGS) --extra daemon --extra grpc --extra kubernetes --output-file exporter/requirements.lock pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
		| $(LOCK) $(LOCK_FLAGS) --output-file exporter/build.lock -

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' exporter/wattspan/__init__.py)
IMAGE ?= wattspan:$(VERSION)
IMAGE_FLAGS ?= --load

bases: ## Pin the image's two bases to the digests of today; the diff is the review. Needs docker.
	exporter/pin-bases exporter/Dockerfile

image: ## Build the image with docker buildx as IMAGE=name:tag; IMAGE_FLAGS says for what and where to.
	docker buildx build --file exporter/Dockerfile --tag $(IMAGE) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION="$$(git rev-parse HEAD)" $(IMAGE_FLAGS) .

cleanroom: tools ## As root: the image's steps in a clean root, the unit under a real systemd (5 to 10 min).
	@tests/debian-packages mmdebstrap:mmdebstrap
	$(PYTEST) -m cleanroom -rP tests/image tests/systemd

.venv-dist/.ready: exporter/build.lock
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --no-deps --require-hashes --requirement exporter/build.lock
	@touch $@

dist: .venv-dist/.ready ## Build what PyPI gets: a wheel and the sources.
	.venv-dist/bin/hatchling build --directory dist

version: ## Print the version.
	@echo $(VERSION)

clean: ## Remove what make made.
	rm -rf $(VENV) .venv-bench .venv-lock .venv-dist build dist bench-results .mypy_cache .pytest_cache .ruff_cache .hypothesis
