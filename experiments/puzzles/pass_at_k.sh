#!/bin/sh
# What a policy can solve at all: pass@k of the start, and of what GRPO and IGPO made of it in methods.sh, with 16 samples at
# temperature 1 for each of the first 64 problems. About 10 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
sample() { # MODEL
    "$python" -m igpo_lightning -m stage=eval data=countdown "model.path='$1'" eval.samples=16 eval.temperature=1 \
        eval.limit=64 seed=0,1,2 "hydra.sweep.dir=$runs/countdown_pass_at_k"
}
trained="$runs/countdown/data=countdown,experiment=igpo_paper,inpaint=%s,model=tiny,seed=\${seed},trainer=cpu/export"
sample tiny_countdown
sample "$(printf "$trained" none)"
sample "$(printf "$trained" partial)"
"$python" experiments/compare.py "$runs/countdown_pass_at_k" --into $here --results pass_at_k --baseline start \
    --name "*tiny_countdown*=start" --name "*none*=GRPO" --name "*partial*=IGPO (paper)"
