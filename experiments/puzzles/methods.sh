#!/bin/sh
# Methods at about as many tokens through the model as 20 steps of GRPO take (1.4 million). About 25 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
"$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu inpaint=none,partial \
    "seed=range(5)" "hydra.sweep.dir=$runs/countdown"
rl() { # METHOD STEPS STEPS_BETWEEN_EVALUATIONS
    "$python" -m igpo_lightning -m "experiment=$1" "stage.steps=$2" "stage.eval_every=$3" model=tiny data=countdown \
        trainer=cpu seed=0,1,2 "hydra.sweep.dir=$runs/countdown_methods"
}
rl diffu_grpo 20 10
rl wd1 20 10
rl tracerl 14 7
rl igpo_released 14 7
"$python" experiments/compare.py "$runs/countdown" "$runs/countdown_methods" --into $here --results countdown \
    --budget compute --accuracy 0 0.45 --baseline GRPO --name "*=none*=GRPO" --name "*diffu_grpo*=diffu-GRPO" \
    --name "*wd1*=wd1" --name "*tracerl*=TraceRL" --name "*=partial*=IGPO (paper)" --name "*igpo_released*=IGPO (released)" \
    --title "Countdown, d1's test file"
