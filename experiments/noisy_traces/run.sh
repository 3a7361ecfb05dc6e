#!/bin/sh
# How wrong traces may be: 0 to 50 % of the hint tokens replaced.
# About 20 minutes on one core, after experiments/start.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/noisy_traces runs=runs/experiments
sh experiments/start.sh
"$python" -m igpo_lightning experiment=hard_exploration sweep=trace_noise "hydra.sweep.dir=$runs/trace_noise"
"$python" experiments/compare.py "$runs/trace_noise" $here --baseline "no noise" \
    --name inpaint.noise=0.0="no noise" --name inpaint.noise=0.1="10 %" --name inpaint.noise=0.3="30 %" \
    --name inpaint.noise=0.5="50 %" --measure "hint/correct_share=right extra samples" \
    --title "Noise in the hints: share of tokens replaced"
