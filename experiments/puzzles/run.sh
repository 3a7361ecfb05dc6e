#!/bin/sh
# Countdown and sudoku from the embedded starts, asked the problems of d1's test files. All parts, or those named:
#     sh experiments/puzzles/run.sh [methods] [sudoku] [pass_at_k] [strengths] [traces]
# IGPO_DATA_DIR must name the folder that holds countdown.test.jsonl and sudoku.test.jsonl (docs/data.md).
# About 210 minutes on one core; finished runs are skipped when it is started again.
set -eu
for part in ${*:-methods sudoku pass_at_k strengths traces}; do
    sh "experiments/puzzles/$part.sh"
done
