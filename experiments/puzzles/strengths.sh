#!/bin/sh
# Do hints matter more the weaker the start? GRPO and IGPO from starts with a fifth and a twelfth of the shipped start's SFT,
# and from the weakest three times as many steps. About 25 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
train() { # NAME STEPS_OF_SFT
    "$python" -m igpo_lightning experiment=countdown_sft trainer.threads=1 "stage.steps=$2" \
        "hydra.run.dir=$runs/countdown_start_$1"
}
rl() { # START SWEEP OVERRIDE ...
    start=$1 sweep=$2
    shift 2
    "$python" -m igpo_lightning -m "$@" model=tiny data=countdown trainer=cpu \
        "model.path=$runs/countdown_start_$start/export" "hydra.sweep.dir=$runs/countdown_$sweep"
}
compare() { # NAME LOWEST HIGHEST
    "$python" experiments/compare.py "$runs/countdown_$1" --into $here --results "$1" --budget compute --accuracy "$2" "$3" \
        --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO (paper)" --name "*released*=IGPO (released)" \
        --title "Countdown, the ${1%_long} start"
}
train weaker 1200
train weakest 500
for start in weaker weakest; do
    rl $start $start experiment=igpo_paper inpaint=none,partial "seed=range(5)"
    rl $start $start experiment=igpo_released stage.steps=14 stage.eval_every=7 "seed=range(5)"
done
rl weakest weakest_long experiment=igpo_paper inpaint=none,partial stage.steps=60 stage.eval_every=20 seed=0,1,2
compare weaker 0 0.45
compare weakest 0 0.2
compare weakest_long 0 0.2
