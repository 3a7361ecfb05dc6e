# Set-up and the commands people need; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?= --multirun inpaint=none,partial

.DEFAULT_GOAL := help
.PHONY: help run test test-all lint format clean tiny-checkpoint puzzle-checkpoints tensorboard experiments docs real-size

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: $(INSTALLED)  ## set up and run the main job, GRPO and IGPO; ARGS="stage=eval data=gsm8k" for another
	$(BIN)/python -m igpo_lightning $(ARGS)

test: $(INSTALLED)  ## set up and run the fast tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"

test-all: $(INSTALLED)  ## run every test, the long ones too
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## let ruff lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tiny-checkpoint: $(INSTALLED)  ## train the embedded models again (under 30 minutes on 2 cores)
	$(BIN)/python -m igpo_lightning stage=tokenizer stage.output=runs/tiny_untrained
	$(BIN)/python -m igpo_lightning stage=sft model.path=runs/tiny_untrained model.init=random \
		hydra.run.dir=runs/tiny_checkpoint
	cp runs/tiny_checkpoint/export/* src/igpo_lightning/models/embedded/
	$(BIN)/python -m igpo_lightning experiment=bare_answers hydra.run.dir=runs/tiny_terse_checkpoint
	cp runs/tiny_terse_checkpoint/export/* src/igpo_lightning/models/embedded_terse/

puzzle-checkpoints: $(INSTALLED)  ## train the starts of RL on puzzles again (some 15 minutes on a core)
	$(BIN)/python -m igpo_lightning stage=tokenizer data=countdown stage.split_digits=false stage.vocab_size=560 \
		stage.output=src/igpo_lightning/models/embedded_countdown
	$(BIN)/python -m igpo_lightning stage=tokenizer data=sudoku stage.output=src/igpo_lightning/models/embedded_sudoku
	for task in countdown sudoku; do \
		$(BIN)/python -m igpo_lightning experiment=$${task}_sft trainer.threads=1 hydra.run.dir=runs/$${task}_checkpoint && \
		cp runs/$${task}_checkpoint/export/* src/igpo_lightning/models/embedded_$$task/ || exit 1; \
	done

experiments: $(INSTALLED)  ## remake experiments/*/results (about 4 hours; finished runs are kept)
	for run in experiments/*/run.sh; do PYTHON=$(BIN)/python sh $$run || exit 1; done

real-size: $(INSTALLED)  ## one RL step and the export of LLaDA-8B at random weights (24 GB, ten minutes)
	$(BIN)/python benchmarks/real_size.py

docs: $(INSTALLED)  ## build the pages of docs/ as a site with search, in site/
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

tensorboard: $(INSTALLED)  ## curves of all runs at http://localhost:6006
	$(BIN)/tensorboard --logdir runs

clean:  ## remove the environment, caches and build files; runs/ stays
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
