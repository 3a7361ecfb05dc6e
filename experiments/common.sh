#!/bin/sh
# What the experiments share: the policies that they start from, which can reason but have the habit of
# answering at once, and IGPO with the paper's choices from each. One of both for each of five seeds.
# About 12 minutes on one core; finished runs are skipped.
set -eu
python=${PYTHON:-python} runs=runs/experiments
"$python" -m igpo_lightning -m experiment=bare_answers "seed=range(5)" "hydra.sweep.dir=$runs/start"
"$python" -m igpo_lightning -m experiment=hard_exploration "seed=range(5)" "hydra.sweep.dir=$runs/igpo"
