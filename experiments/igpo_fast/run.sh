#!/bin/sh
# igpo_fast against igpo_paper on the main job with ten seeds, and how far its drift can be pushed.
# About 45 minutes on one core; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_fast runs=runs/experiments
fast="experiment=igpo_fast model=tiny data=arithmetic trainer=cpu stage.eval_sampled=false"
"$python" -m igpo_lightning -m experiment=tiny stage.eval_sampled=false "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" -m igpo_lightning -m $fast "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" experiments/compare.py "$runs/main_job" --into $here --results main_job --budget compute \
    --baseline igpo_paper --name "*igpo_fast*=igpo_fast" --name "*=igpo_paper" \
    --measure "passes/rollout=passes of a step's rollouts" --measure "time/rollout=seconds of a step's rollouts" \
    --measure "time/update=seconds of its updates" --title "The main job, ten seeds"

# Drift: more and more tokens committed at once; the limit that would end this is off.
drift="$fast sampler.drift_joint_limit=null"
"$python" -m igpo_lightning -m $drift sampler.confidence_threshold=0.3,0.1,0.0 "seed=range(5)" "hydra.sweep.dir=$runs/drift"
"$python" -m igpo_lightning -m $drift sampler.confidence_threshold=0.0 sampler.block_length=48 sampler.cache_blocks=1 \
    "seed=range(5)" "hydra.sweep.dir=$runs/drift"
"$python" experiments/compare.py "$runs/drift" "$runs/main_job" --into $here --results drift --budget compute \
    --baseline "0.8: igpo_fast" --name "*experiment=tiny*=exact: igpo_paper" --name "*block_length=48*=0, one block of 48" \
    --name "*threshold=0.3*=0.3" --name "*threshold=0.1*=0.1" --name "*threshold=0.0*=0, blocks of 8" \
    --name "*=0.8: igpo_fast" --measure "rollout/drift_mean=drift of the cache" \
    --measure "rollout/drift_joint=joint drift" --measure "compute/rollout=tokens of a step's rollouts" \
    --title "Confidence threshold of the rollouts"

# Truncated importance weights, where blocks of 16 tokens are committed at once.
"$python" -m igpo_lightning -m $drift likelihood=trajectory likelihood.slices=3 objective.ratio=token \
    sampler.block_length=16 sampler.cache_blocks=3 sampler.confidence_threshold=0.0 "objective.rollout_is=null,token" \
    "seed=range(5)" "hydra.sweep.dir=$runs/weights"
"$python" experiments/compare.py "$runs/weights" --into $here --results weights --budget compute \
    --baseline "no weights" --name "*rollout_is=token*=token" --name "*=no weights" \
    --measure "rollout/drift_mean=drift of the cache" --measure "rollout/drift_joint=joint drift" \
    --measure "policy/sampler_weight_mean=weight" --measure "policy/sampler_ratio_truncated=truncated" \
    --title "Importance weights of policy and sampler"
