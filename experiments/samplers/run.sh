#!/bin/sh
# Exact against cached and parallel sampling in the rollouts: what is saved, what is lost.
# About 20 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/samplers runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration sampler.cache=dual \
    sampler.confidence_threshold=null,0.9 "seed=range(5)" "hydra.sweep.dir=$runs/samplers"
"$python" -m igpo_lightning -m experiment=hard_exploration sampler.cache=none \
    sampler.confidence_threshold=0.9 "seed=range(5)" "hydra.sweep.dir=$runs/samplers"
set -- --baseline exact --name "*cache=dual*threshold=0.9*=dual cache, threshold 0.9" \
    --name "*threshold=0.9*=threshold 0.9" --name "*cache=dual*=dual cache" --name "*=exact"
"$python" experiments/compare.py "$runs/samplers" "$runs/igpo" --into $here --results rollouts \
    --budget compute "$@" --measure "compute/rollout=tokens of a step's rollouts" \
    --measure "passes/rollout=passes of a step" --measure "time/rollout=seconds of a step's rollouts" \
    --title "Samplers of the rollouts"

# The trained policies again, all with the exact sampler: what the rollouts' sampler did to learning.
prefix="$runs/samplers/experiment=hard_exploration,sampler.cache"
for run in "$runs/igpo/experiment=hard_exploration,seed=\${seed}" \
    "$prefix=none,sampler.confidence_threshold=0.9,seed=\${seed}" \
    "$prefix=dual,sampler.confidence_threshold=0.9,seed=\${seed}" \
    "$prefix=dual,sampler.confidence_threshold=null,seed=\${seed}"; do
    "$python" -m igpo_lightning -m stage=eval "data.levels=[3,4]" eval.limit=256 "seed=range(5)" \
        "model.path='$run/export'" "hydra.sweep.dir=$runs/samplers_exact"
done
"$python" experiments/compare.py "$runs/samplers_exact" --into $here --results exact "$@"
