#!/bin/sh
# igpo_fast against igpo_paper with ten seeds, and how far its drift can be pushed.
# About 60 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_fast runs=runs/experiments
seconds="time/rollout=seconds of a step's rollouts"
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=bare_answers "seed=range(5,10)" "hydra.sweep.dir=$runs/start"

# The main job: ten seeds from the start that ships.
"$python" -m igpo_lightning -m experiment=tiny stage.eval_sampled=false "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" -m igpo_lightning -m experiment=igpo_fast model=tiny data=arithmetic trainer=cpu stage.eval_sampled=false \
    "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" experiments/compare.py "$runs/main_job" --into $here --results main_job --budget compute \
    --baseline igpo_paper --name "*igpo_fast*=igpo_fast" --name "*=igpo_paper" \
    --measure "$seconds" --measure "time/update=seconds of its updates" --title "The main job, ten seeds"

# A start for each seed.
"$python" -m igpo_lightning -m experiment=hard_exploration "seed=range(5,10)" "hydra.sweep.dir=$runs/igpo_fast"
"$python" -m igpo_lightning -m experiment=hard_fast "seed=range(10)" "hydra.sweep.dir=$runs/igpo_fast"
"$python" experiments/compare.py "$runs/igpo_fast" "$runs/igpo" --into $here --results hard_exploration --budget compute \
    --baseline igpo_paper --name "*hard_fast=igpo_fast" --name "*=igpo_paper" \
    --measure "$seconds" --measure "time/update=seconds of its updates" --title "hard_exploration, ten seeds"

# Drift: more and more tokens committed at once; the limit that would end this is off.
"$python" -m igpo_lightning -m experiment=hard_fast sampler.confidence_threshold=0.3,0.1,0.0 \
    sampler.drift_joint_limit=null "seed=range(5)" "hydra.sweep.dir=$runs/drift"
"$python" -m igpo_lightning -m experiment=hard_fast sampler.confidence_threshold=0.0 sampler.block_length=48 \
    sampler.cache_blocks=1 sampler.drift_joint_limit=null "seed=range(5)" "hydra.sweep.dir=$runs/drift"
"$python" experiments/compare.py "$runs/drift" "$runs/igpo_fast" "$runs/igpo" --into $here --results drift --budget compute \
    --baseline "0.8 (igpo_fast)" --name "*hard_exploration=exact (igpo_paper)" --name "*hard_fast=0.8 (igpo_fast)" \
    --name "*block_length=48*=0, one block of 48" --name "*threshold=0.3*=0.3" --name "*threshold=0.1*=0.1" \
    --name "*threshold=0.0*=0, blocks of 8" \
    --measure "rollout/drift_mean=drift of the cache" --measure "rollout/drift_joint=joint drift" \
    --measure "compute/rollout=tokens of a step's rollouts" --title "Confidence threshold of the rollouts"

# Truncated importance weights, where whole blocks of 16 are committed at once.
"$python" -m igpo_lightning -m experiment=hard_fast likelihood=trajectory likelihood.slices=3 objective.ratio=token \
    sampler.block_length=16 sampler.cache_blocks=3 sampler.confidence_threshold=0.0 sampler.drift_joint_limit=null \
    "objective.rollout_is=null,token" "seed=range(5)" "hydra.sweep.dir=$runs/weights"
"$python" experiments/compare.py "$runs/weights" --into $here --results weights --budget compute \
    --baseline "no weights" --name "*rollout_is=token*=token weights" --name "*=no weights" \
    --measure "rollout/drift_mean=drift of the cache" --measure "rollout/drift_joint=joint drift" \
    --measure "policy/sampler_weight_mean=mean weight" --measure "policy/sampler_ratio_truncated=truncated" \
    --title "Importance weights of policy and sampler"
