#!/bin/sh
# What a policy can solve at all: pass@k of the start, and of what GRPO and IGPO made of it in methods.sh and sudoku.sh, with 16
# samples at temperature 1 for each of the first 64 problems. About 20 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
measure() { # DATA RESULTS FOLDER_OF_RUNS, with %s for what hints they had
    for model in "tiny_$1" "$runs/$1/$(printf "$3" none)/export" "$runs/$1/$(printf "$3" partial)/export"; do
        "$python" -m igpo_lightning -m stage=eval "data=$1" "model.path='$model'" eval.samples=16 eval.temperature=1 \
            eval.limit=64 seed=0,1,2 "hydra.sweep.dir=$runs/$1_pass_at_k"
    done
    "$python" experiments/compare.py "$runs/$1_pass_at_k" --into $here --results "$2" --baseline start \
        --name "*tiny_$1*=start" --name "*none*=GRPO" --name "*partial*=IGPO (paper)"
}
measure countdown pass_at_k "data=countdown,experiment=igpo_paper,inpaint=%s,model=tiny,seed=\${seed},trainer=cpu"
measure sudoku sudoku_pass_at_k \
    "data=sudoku,eval.limit=128,experiment=igpo_paper,inpaint=%s,model=tiny,seed=\${seed},stage.eval_every=8,stage.steps=16"
