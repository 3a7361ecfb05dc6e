#!/bin/sh
# How much of the trace to give: hint ratios 0 to 1, and the paper's U[0.2, 0.6].
# About 35 minutes on one core, after experiments/start.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/hint_fraction runs=runs/experiments
sh experiments/start.sh
"$python" -m igpo_lightning experiment=hard_exploration sweep=hint_ratio "hydra.sweep.dir=$runs/hint_ratio"
"$python" experiments/compare.py "$runs/hint_ratio" $here --baseline "0 (no hints)" \
    --name inpaint.ratio=0.0="0 (no hints)" --name "inpaint.ratio=0.2=0.2" --name "inpaint.ratio=0.4=0.4" \
    --name "inpaint.ratio=0.6=0.6" --name "inpaint.ratio=0.8=0.8" --name inpaint.ratio=1.0="1 (all but the answer)" \
    --name inpaint.ratio=null="U[0.2, 0.6]" --measure "hint/correct_share=right extra samples" \
    --title "How much of the trace to give (hint ratio)"
