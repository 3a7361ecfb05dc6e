#!/bin/sh
# GRPO and IGPO on 4x4 sudoku: the first 128 puzzles of d1's test file. About 10 minutes on one core.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
"$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=sudoku trainer=cpu inpaint=none,partial \
    stage.steps=10 stage.eval_every=5 eval.limit=128 seed=0,1,2 "hydra.sweep.dir=$runs/sudoku"
"$python" experiments/compare.py "$runs/sudoku" --into $here --results sudoku --budget compute --accuracy 0.4 0.7 \
    --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO (paper)" --title "4x4 sudoku, d1's test file"
