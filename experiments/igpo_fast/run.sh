#!/bin/sh
# igpo_fast against igpo_paper on the main job, with five seeds.
# About 10 minutes on one core; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_fast runs=runs/experiments
set -- stage.eval_sampled=false "seed=range(5)" "hydra.sweep.dir=$runs/main_job"
"$python" -m igpo_lightning -m experiment=tiny "$@"
"$python" -m igpo_lightning -m experiment=igpo_fast model=tiny data=arithmetic trainer=cpu "$@"
"$python" experiments/compare.py "$runs/main_job" --into $here --results main_job --budget compute \
    --baseline igpo_paper --name "*igpo_fast*=igpo_fast" --name "*=igpo_paper" \
    --measure "passes/rollout=passes of a step's rollouts" --measure "compute/rollout=tokens of its rollouts" \
    --measure "compute/update=tokens of its updates" --measure "rollout/drift_mean=drift of the cache" \
    --measure "rollout/drift_joint=joint drift" --title "The main job, five seeds"
