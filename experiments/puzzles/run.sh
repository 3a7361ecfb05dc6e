#!/bin/sh
# Countdown from the embedded start, asked the problems of d1's test file. Both parts, or those named:
#     sh experiments/puzzles/run.sh [methods] [pass_at_k]
# IGPO_DATA_DIR must name the folder that holds countdown.test.jsonl (docs/data.md).
# About 30 minutes on one core; finished runs are skipped when it is started again.
set -eu
for part in ${*:-methods pass_at_k}; do
    sh "experiments/puzzles/$part.sh"
done
