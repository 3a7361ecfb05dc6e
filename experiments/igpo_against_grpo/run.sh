#!/bin/sh
# IGPO against GRPO and against resampling without hints, from two starting policies.
# About 30 minutes on one core, after experiments/start.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_against_grpo runs=runs/experiments
sh experiments/start.sh
"$python" -m igpo_lightning experiment=hard_exploration sweep=methods "hydra.sweep.dir=$runs/methods"
"$python" experiments/compare.py "$runs/methods" $here --results rare --baseline GRPO \
    --name inpaint=none=GRPO --name inpaint=resample="GRPO, resampled" --name inpaint=partial=IGPO \
    --title "A policy whose samples hardly ever reason"

"$python" -m igpo_lightning sweep=methods stage.steps=20 stage.eval_every=5 eval.limit=256 \
    "hydra.sweep.dir=$runs/methods_shipped"
"$python" experiments/compare.py "$runs/methods_shipped" $here --results often --baseline GRPO \
    --name inpaint=none=GRPO --name inpaint=resample="GRPO, resampled" --name inpaint=partial=IGPO \
    --title "The shipped policy, whose samples often reason"
