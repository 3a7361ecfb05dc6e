#!/bin/sh
# Exact against cached and parallel sampling in the rollouts: what is saved, what is lost.
# About 20 minutes on one core, after experiments/start.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/samplers runs=runs/experiments
sh experiments/start.sh
set -- --name "*cache=none*threshold=null*=exact" --name "*cache=none*threshold=0.9*=threshold 0.9" \
    --name "*cache=dual*threshold=null*=dual cache" --name "*cache=dual*threshold=0.9*=dual cache, threshold 0.9"
"$python" -m igpo_lightning experiment=hard_exploration sweep=samplers "hydra.sweep.dir=$runs/samplers"
"$python" experiments/compare.py "$runs/samplers" $here --results rollouts --budget compute \
    --baseline exact "$@" \
    --measure "compute/rollout=tokens of a step's rollouts" --measure "passes/rollout=passes of a step" \
    --measure "time/rollout=seconds of a step's rollouts" --title "Samplers of the rollouts"

# The trained policies again, all with the exact sampler: what the rollouts' sampler did to learning.
for cache in none dual; do
    for threshold in null 0.9; do
        run="experiment=hard_exploration,sampler.cache=$cache,sampler.confidence_threshold=$threshold"
        "$python" -m igpo_lightning -m stage=eval "data.levels=[3,4]" eval.limit=256 "seed=range(5)" \
            "model.path='$runs/samplers/$run,seed=\${seed},sweep=samplers/export'" \
            "hydra.sweep.dir=$runs/samplers_exact"
    done
done
"$python" experiments/compare.py "$runs/samplers_exact" $here --results exact --baseline exact "$@"
