#!/bin/sh
# Methods on Countdown at about as many tokens through the model as 20 steps of GRPO take. About 30 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
"$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu inpaint=none,partial \
    "seed=range(5)" "hydra.sweep.dir=$runs/countdown"
rl() { # METHOD STEPS STEPS_BETWEEN_EVALUATIONS [OVERRIDE]
    "$python" -m igpo_lightning -m "experiment=$1" "stage.steps=$2" "stage.eval_every=$3" ${4:-} model=tiny data=countdown \
        trainer=cpu "seed=range(5)" "hydra.sweep.dir=$runs/countdown_methods"
}
rl diffu_grpo 20 10
rl wd1 20 10
rl grpo_resample 16 8
rl spg 14 7
rl tracerl 14 7
rl igpo_released 14 7
rl espo 8 4
# A pass for each token: 8 of the 32 positions, drawn at random, are scored, which is unbiased.
rl just_grpo 7 4 likelihood.positions=8
rl igpo_just_grpo 6 3 likelihood.positions=8
set -- --name "*=none*=GRPO" --name "*grpo_resample*=GRPO, resampled" --name "*diffu_grpo*=diffu-GRPO" \
    --name "*wd1*=wd1" --name "*spg*=SPG" --name "*espo*=ESPO" --name "*tracerl*=TraceRL" --name "*=just_grpo*=JustGRPO" \
    --name "*=partial*=IGPO (paper)" --name "*igpo_released*=IGPO (released)" --name "*igpo_just_grpo*=IGPO on JustGRPO"
"$python" experiments/compare.py "$runs/countdown" "$runs/countdown_methods" --into $here --results countdown \
    --budget compute --accuracy 0.5 0.7 --baseline GRPO "$@" --title "Countdown, d1's test file"
"$python" experiments/countdown_answers.py "$runs/countdown" "$runs/countdown_methods" --into $here --results countdown-answers "$@"
