#!/bin/sh
# Do hints matter more the weaker the start? GRPO and IGPO from starts with a twelfth and a fifth of the shipped start's SFT.
# About 20 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
compare() { # NAME STEPS_OF_SFT
    start="$runs/countdown_start_$1"
    "$python" -m igpo_lightning experiment=countdown_sft trainer.threads=1 "stage.steps=$2" "hydra.run.dir=$start"
    "$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu inpaint=none,partial \
        "model.path=$start/export" "seed=range(5)" "hydra.sweep.dir=$runs/countdown_$1"
    "$python" experiments/compare.py "$runs/countdown_$1" --into $here --results "$1" --budget compute --accuracy 0 0.7 \
        --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO (paper)" --title "Countdown, the $1 start"
}
compare weakest 500
compare weaker 1200
