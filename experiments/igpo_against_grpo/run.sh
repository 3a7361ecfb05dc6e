#!/bin/sh
# IGPO against GRPO and against resampling without hints, from two kinds of starting policy.
# About 20 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_against_grpo runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration inpaint=none,resample "seed=range(5)" \
    "hydra.sweep.dir=$runs/methods"
"$python" experiments/compare.py "$runs/methods" "$runs/igpo" --into $here --results rare \
    --baseline GRPO --name "*none*=GRPO" --name "*resample*=GRPO, resampled" --name "=IGPO" \
    --title "A policy whose samples hardly ever reason"

"$python" -m igpo_lightning -m inpaint=none,resample,partial "seed=range(5)" model.path=tiny "data.levels=[3,4,4]" \
    stage.eval_sampled=false "hydra.sweep.dir=$runs/methods_shipped"
"$python" experiments/compare.py "$runs/methods_shipped" --into $here --results often \
    --baseline GRPO --name "*none*=GRPO" --name "*resample*=GRPO, resampled" --name "*partial*=IGPO" \
    --title "The shipped policy, whose samples often reason"
