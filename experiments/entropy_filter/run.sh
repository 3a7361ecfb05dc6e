#!/bin/sh
# Which share of the hint tokens, the most uncertain first, gets gradient (tau).
# With traces in the policy's own words, with the same traces in a teacher's, and with those in every group.
# About 40 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/entropy_filter runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration filter.keep_fraction=0.1,0.5,1.0 "seed=range(5)" \
    "hydra.sweep.dir=$runs/entropy_filter"
"$python" experiments/compare.py "$runs/entropy_filter" "$runs/igpo" --into $here --baseline "tau 0.2" \
    --name "*=0.1=tau 0.1" --name "=tau 0.2" --name "*=0.5=tau 0.5" --name "*=1.0=tau 1.0" \
    --measure "policy/grad_norm=gradient norm" --measure "policy/kl=KL" \
    --measure "policy/clip_fraction=clipped" --title "Entropy filter on hint tokens"

"$python" -m igpo_lightning -m experiment=hard_exploration data.wording=values "seed=range(5)" \
    "hydra.sweep.dir=$runs/igpo_values"
"$python" -m igpo_lightning -m experiment=hard_exploration data.wording=values \
    filter.keep_fraction=0.1,0.5,1.0 "seed=range(5)" "hydra.sweep.dir=$runs/entropy_filter_values"
"$python" experiments/compare.py "$runs/entropy_filter_values" "$runs/igpo_values" --into $here --results values \
    --baseline "tau 0.2" \
    --name "*=0.1=tau 0.1" --name "=tau 0.2" --name "*=0.5=tau 0.5" --name "*=1.0=tau 1.0" \
    --measure "policy/grad_norm=gradient norm" --measure "policy/kl=KL" --measure "policy/kl_hint=KL on hints" \
    --measure "policy/clip_fraction=clipped" --measure "hint/tokens_kept=hint tokens with gradient" \
    --title "Entropy filter on hint tokens in other words"

"$python" -m igpo_lightning -m experiment=hard_exploration data.wording=values inpaint.trigger=always \
    filter.keep_fraction=0.2,1.0 "seed=range(5)" "hydra.sweep.dir=$runs/entropy_filter_always"
"$python" experiments/compare.py "$runs/entropy_filter_always" --into $here --results always \
    --baseline "tau 0.2" --name "*=0.2=tau 0.2" --name "*=1.0=tau 1.0" \
    --measure "policy/grad_norm=gradient norm" --measure "policy/kl=KL" --measure "policy/kl_hint=KL on hints" \
    --measure "policy/clip_fraction=clipped" --measure "hint/tokens_kept=hint tokens with gradient" \
    --title "Entropy filter, hints in other words in every group"
