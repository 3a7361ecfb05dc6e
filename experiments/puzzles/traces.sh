#!/bin/sh
# Traces in words that the start has never seen ("30 plus 100 is 130"): a part of them or all as hint, with the entropy filter
# and without. GRPO's runs are those of methods.sh: without hints the words of a trace do not matter. About 15 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
"$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu data.wording=words \
    inpaint.ratio=null,1.0 filter.keep_fraction=0.2,1.0 "seed=range(5)" "hydra.sweep.dir=$runs/countdown_words"
"$python" experiments/compare.py "$runs/countdown_words" --into $here --results traces --budget compute --accuracy 0 0.7 \
    --baseline "full, tau 0.2" --name "*=0.2*ratio=null*=part, tau 0.2" --name "*=1.0*ratio=null*=part, tau 1" \
    --name "*=0.2*ratio=1.0*=full, tau 0.2" --name "*=1.0*ratio=1.0*=full, tau 1" \
    --measure "hint/correct_share=right extra samples" --title "Countdown, traces in other words"
