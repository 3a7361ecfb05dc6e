#!/bin/sh
# Traces that the start has never seen, backward ("37=130-93; 130=100+30") and in words ("30 plus 100 is 130"): a part of them
# or all as hint, with the entropy filter and without. About 20 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
for wording in backward words; do
    "$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu "data.wording=$wording" \
        inpaint.ratio=null,1.0 filter.keep_fraction=0.2,1.0 "seed=range(5)" "hydra.sweep.dir=$runs/countdown_$wording"
    "$python" experiments/compare.py "$runs/countdown" "$runs/countdown_$wording" --into $here --results $wording \
        --budget compute --accuracy 0.5 0.7 --baseline "no hints" --name "*=none*=no hints" --name "*=partial*=traces as in SFT" \
        --name "*null*=0.2*=a part, tau 0.2" --name "*null*=1.0*=a part, tau 1" --name "*ratio=1.0*=0.2*=all, tau 0.2" \
        --name "*ratio=1.0*=1.0*=all, tau 1" --measure "hint/correct_share=right extra samples" \
        --title "Countdown, traces: $wording"
done
