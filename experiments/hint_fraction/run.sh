#!/bin/sh
# How much of the trace to give: hint ratios 0 to 1, and the paper's U[0.2, 0.6].
# Once with traces in the policy's own words, once with the same traces in a teacher's.
# About 60 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/hint_fraction runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration inpaint.ratio=0.0,0.2,0.4,0.6,0.8,1.0 \
    "seed=range(5)" "hydra.sweep.dir=$runs/hint_ratio"
"$python" experiments/compare.py "$runs/hint_ratio" "$runs/igpo" --into $here --baseline "0 (no hints)" \
    --name "*=0.0 *=0 (no hints)" --name "*=0.2 *=0.2" --name "*=0.4 *=0.4" --name "*=0.6 *=0.6" \
    --name "*=0.8 *=0.8" --name "*=1.0 *=1 (all but the answer)" --name "=U[0.2, 0.6]" \
    --measure "hint/correct_share=right extra samples" --title "How much of the trace to give (hint ratio)"

"$python" -m igpo_lightning -m experiment=hard_exploration data.wording=values "seed=range(5)" \
    "hydra.sweep.dir=$runs/igpo_values"
"$python" -m igpo_lightning -m experiment=hard_exploration data.wording=values \
    inpaint.ratio=0.0,0.2,0.4,0.6,0.8,1.0 "seed=range(5)" "hydra.sweep.dir=$runs/hint_ratio_values"
"$python" experiments/compare.py "$runs/hint_ratio_values" "$runs/igpo_values" --into $here --results values \
    --baseline "1 (all but the answer)" \
    --name "*=0.0 *=0 (no hints)" --name "*=0.2 *=0.2" --name "*=0.4 *=0.4" --name "*=0.6 *=0.6" \
    --name "*=0.8 *=0.8" --name "*=1.0 *=1 (all but the answer)" --name "=U[0.2, 0.6]" \
    --measure "hint/correct_share=right extra samples" --measure "policy/kl_hint=KL on hints" \
    --title "How much of a trace in other words to give (hint ratio)"
