#!/bin/sh
# How wrong traces may be: a tenth to half of the hint tokens replaced.
# About 15 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/noisy_traces runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration inpaint.noise=0.1,0.3,0.5 "seed=range(5)" \
    "hydra.sweep.dir=$runs/trace_noise"
"$python" experiments/compare.py "$runs/trace_noise" "$runs/igpo" --into $here --baseline "no noise" \
    --name "=no noise" --name "*=0.1=10 % noise" --name "*=0.3=30 % noise" --name "*=0.5=50 % noise" \
    --measure "hint/correct_share=right extra samples" --title "Noise in the hints: share of tokens replaced"
