#!/bin/sh
# Does hinting matter less the stronger the start? GRPO and IGPO from a start with a quarter of the shipped start's SFT, and
# from one with twice as much. About 40 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
compare() { # NAME STEPS_OF_SFT
    start="$runs/countdown_start_$1"
    "$python" -m igpo_lightning experiment=countdown_sft "stage.steps=$2" "hydra.run.dir=$start"
    "$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu inpaint=none,partial \
        "model.path=$start/export" "seed=range(5)" "hydra.sweep.dir=$runs/countdown_$1"
    "$python" experiments/compare.py "$runs/countdown_$1" --into $here --results "$1" --budget compute --accuracy 0 0.8 \
        --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO (paper)" --title "Countdown, the $1 start"
}
compare weaker 1500
compare stronger 12000
