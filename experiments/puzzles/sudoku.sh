#!/bin/sh
# The methods on 4x4 sudoku at about as many tokens through the model as 16 steps of GRPO take, and GRPO and IGPO from
# weaker starts. Accuracy is that of the first 128 puzzles of d1's file. About 2 hours on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
rl() { # SWEEP METHOD STEPS STEPS_BETWEEN_EVALUATIONS [OVERRIDE ...]
    sweep=$1 method=$2 steps=$3 every=$4
    shift 4
    "$python" -m igpo_lightning -m "experiment=$method" "stage.steps=$steps" "stage.eval_every=$every" "$@" model=tiny \
        data=sudoku eval.limit=128 "seed=range(5)" "hydra.sweep.dir=$runs/$sweep"
}
rl sudoku igpo_paper 16 8 inpaint=none,partial
rl sudoku_methods diffu_grpo 16 8
rl sudoku_methods wd1 16 8
rl sudoku_methods igpo_released 14 7
rl sudoku_methods grpo_resample 13 7
rl sudoku_methods spg 12 6
rl sudoku_methods tracerl 9 5
rl sudoku_methods espo 8 4
# A pass for each token: 8 of the 64 positions, drawn at random, are scored, which is unbiased.
rl sudoku_methods just_grpo 8 4 likelihood.positions=8
rl sudoku_methods igpo_just_grpo 8 4 likelihood.positions=8
"$python" experiments/compare.py "$runs/sudoku" "$runs/sudoku_methods" --into $here --results sudoku --budget compute \
    --accuracy 0.4 0.75 --baseline GRPO --name "*none*=GRPO" --name "*grpo_resample*=GRPO, resampled" \
    --name "*diffu_grpo*=diffu-GRPO" --name "*wd1*=wd1" --name "*spg*=SPG" --name "*espo*=ESPO" --name "*tracerl*=TraceRL" \
    --name "*=just_grpo*=JustGRPO" --name "*=partial*=IGPO (paper)" --name "*igpo_released*=IGPO (released)" \
    --name "*igpo_just_grpo*=IGPO on JustGRPO" --title "4x4 sudoku, d1's test file"

weaker() { # NAME STEPS_OF_SFT
    "$python" -m igpo_lightning experiment=sudoku_sft trainer.threads=1 "stage.steps=$2" \
        "hydra.run.dir=$runs/sudoku_start_$1"
    rl "sudoku_$1" igpo_paper 16 8 inpaint=none,partial "model.path=$runs/sudoku_start_$1/export"
    "$python" experiments/compare.py "$runs/sudoku_$1" --into $here --results "sudoku_$1" --budget compute --accuracy 0 0.6 \
        --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO (paper)" --title "4x4 sudoku, the $1 start"
}
weaker weaker 600
weaker weakest 300
