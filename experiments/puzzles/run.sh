#!/bin/sh
# GRPO and IGPO on countdown from the embedded start, five seeds each, asked the problems of d1's test file.
# IGPO_DATA_DIR must name the folder that holds countdown.test.jsonl (docs/data.md).
# About 15 minutes on one core; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/puzzles runs=runs/experiments
"$python" -m igpo_lightning -m experiment=igpo_paper model=tiny data=countdown trainer=cpu inpaint=none,partial \
    "seed=range(5)" "hydra.sweep.dir=$runs/countdown"
"$python" experiments/compare.py "$runs/countdown" --into $here --results countdown --budget compute \
    --baseline GRPO --name "*none*=GRPO" --name "*partial*=IGPO" --title "Countdown, d1's test file"
