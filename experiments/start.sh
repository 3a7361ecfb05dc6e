#!/bin/sh
# The policies that the experiments start from, one for each seed: they can reason, but have the habit
# of answering at once. About 8 minutes on one core; finished runs are skipped.
set -eu
"${PYTHON:-python}" -m igpo_lightning -m experiment=bare_answers "seed=range(5)" \
    hydra.sweep.dir=runs/experiments/start
