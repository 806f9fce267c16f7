# Everything that a newcomer or the CI runs. PORT=, HOST=, MOVQ_DATA_DIR=, MOVQ_MODEL_DIR= override.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

URL ?= http://127.0.0.1:8000
MINUTES ?= 0.5

.DEFAULT_GOAL := help
.PHONY: help up test lint demo-bundle fuzz fuzz-files audit chaos observe bench bench-gpu compose-trial hosts-trial clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

up: .venv/local.stamp ## start Redis, a worker a bundle and the service; Ctrl-C stops them
	@$(BIN)/python -m deploy.local

# Two files of tests at a time, each on one core: many of them wait for processes that they have started.
test: lint ## lint, types, import contracts, then every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: .venv/dev.stamp ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy movq_core movq_client movq_cli worker service deploy $(wildcard benchmarks/*.py)
	$(BIN)/lint-imports

demo-bundle: .venv/dev.stamp ## make models/emoji-64 from nothing: images, training, figures (hours; goes on where it was cut)
	test -d data/emoji-64 || $(BIN)/python -m movq_core.training.prepare_data
	$(BIN)/python -m movq_core.training.train_movq
	$(BIN)/python -m movq_core.training.export
	$(BIN)/python -m movq_core.training.train_movq --recipe emoji-64-decoder --init models/emoji-64 --out runs/movq-decoder
	$(BIN)/python -m movq_core.training.export --movq runs/movq-decoder/checkpoint.pt
	$(BIN)/python -m movq_core.training.encode_dataset
	$(BIN)/python -m movq_core.training.train_maskgit
	$(BIN)/python -m movq_core.training.export --movq runs/movq-decoder/checkpoint.pt --maskgit runs/maskgit/checkpoint.pt
	$(BIN)/python -m movq_core.training.report

fuzz: .venv/dev.stamp ## hold a running service to its OpenAPI, by thousands of requests; URL= names it (ten minutes)
	PYTHONPATH=. $(BIN)/schemathesis run $(URL)/openapi.json

chaos: .venv/dev.stamp ## every fault in turn, then ten minutes of faults at random; SEED= repeats a run (needs root: small disks)
	PYTHONPATH=. $(BIN)/python -m tests.chaos.table
	PYTHONPATH=. $(BIN)/python -m tests.chaos.storm --minutes 10 $(if $(SEED),--seed $(SEED))

observe: .venv/dev.stamp ## all panels and alerts against a real Prometheus and a running system, and a picture of it (as root; seven minutes)
	PYTHONPATH=. $(BIN)/python -m tests.observe

fuzz-files: .venv/fuzz.stamp ## hostile bytes against everything that reads others' files; MINUTES= for each of the seven targets
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

audit: .venv/dev.stamp ## known weaknesses of what constraints.txt pins; asks pypi.org, and fails where it knows nothing
	$(BIN)/pip-audit --strict -r constraints.txt --no-deps --disable-pip

bench: .venv/bench.stamp ## measure on this machine, each part beside its peers in one run (half an hour)
	@mkdir -p data
	$(BIN)/python -m benchmarks --json data/bench.json

bench-gpu: .venv/dev.stamp ## measure on a CUDA card: prior, decoder, sampler, host (ten minutes)
	@mkdir -p data
	$(BIN)/python -m benchmarks.gpu --json data/bench-gpu.json

compose-trial: .venv/dev.stamp ## docker compose from nothing: serves, is killed, scales, stops, loses nothing; COMPOSE_FILES= adds some (ten minutes)
	$(BIN)/python -m deploy.trials.compose $(COMPOSE_FILES)

hosts-trial: .venv/dev.stamp ## three services and workers, each in a network namespace, blobs on S3; one is cut off (as root; five minutes)
	$(BIN)/python -m deploy.trials.hosts

clean: ## remove the environment and the caches; data/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info build

.venv/bin/python:
	$(PYTHON) -m venv .venv || { echo "Is python3-venv installed?"; rm -rf .venv; exit 1; }

# A stamp is older than what it was installed from when that has changed.
.venv/local.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing movq into .venv (minutes, the first time)"
	$(INSTALL) -e '.[local]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing movq and its tools into .venv (minutes, the first time)"
	$(INSTALL) -e '.[dev]'
	@touch $@ .venv/local.stamp

.venv/fuzz.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing movq and its fuzzer into .venv (minutes, the first time)"
	$(INSTALL) -e '.[fuzz]'
	@touch $@ .venv/dev.stamp .venv/local.stamp

.venv/bench.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing movq and its peers into .venv (minutes, the first time)"
	$(INSTALL) -e '.[bench]'
	@touch $@ .venv/local.stamp
