#!/bin/sh
# igpo_fast against igpo_paper on the main job with ten seeds, then igpo_fast with ever more drift, then with
# importance weights, and at last hard.sh. About 75 minutes on one core; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_fast runs=runs/experiments
fast="-m experiment=igpo_fast model=tiny data=arithmetic trainer=cpu stage.eval_sampled=false"

"$python" -m igpo_lightning -m experiment=tiny stage.eval_sampled=false "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" -m igpo_lightning $fast "seed=range(10)" "hydra.sweep.dir=$runs/main_job"
"$python" experiments/compare.py "$runs/main_job" --into $here --results main_job --budget compute \
    --baseline igpo_paper --name "*igpo_fast*=igpo_fast" --name "*=igpo_paper" \
    --measure "passes/rollout=passes of a step's rollouts" --measure "compute/rollout=tokens of its rollouts" \
    --measure "compute/update=tokens of its updates" --measure "rollout/drift_mean=drift of the cache" \
    --measure "rollout/drift_joint=joint drift" --title "The main job, ten seeds"

more="sampler.drift_limit=null sampler.drift_joint_limit=null"
"$python" -m igpo_lightning $fast $more "sampler.confidence_threshold=0.8,0.3,0.1,0.0" "seed=range(10)" \
    "hydra.sweep.dir=$runs/drift"
"$python" -m igpo_lightning $fast $more sampler.confidence_threshold=0.0 sampler.block_length=48 "seed=range(10)" \
    "hydra.sweep.dir=$runs/drift"
"$python" experiments/compare.py "$runs/drift" --into $here --results drift --budget compute \
    --baseline "threshold 0.8" --name "*block_length=48*=all 48 tokens in a step" --name "*threshold=0.8*=threshold 0.8" \
    --name "*threshold=0.3*=threshold 0.3" --name "*threshold=0.1*=threshold 0.1" --name "*=threshold 0: a block in a step" \
    --measure "compute/rollout=tokens of a step's rollouts" --measure "rollout/drift_mean=drift of the cache" \
    --measure "rollout/drift_joint=joint drift" --title "More and more drift"

more="$more likelihood.kind=trajectory likelihood.slices=3 objective.ratio=token sampler.confidence_threshold=0.0"
"$python" -m igpo_lightning $fast $more "objective.rollout_is=null,token,sequence" "seed=range(5)" \
    "hydra.sweep.dir=$runs/weights"
"$python" experiments/compare.py "$runs/weights" --into $here --results weights --budget compute \
    --baseline "no weights" --name "*rollout_is=token*=a weight for each token" \
    --name "*rollout_is=sequence*=a weight for each row" --name "*=no weights" \
    --measure "rollout/drift_mean=drift of the cache" --measure "rollout/drift_joint=joint drift" \
    --measure "policy/sampler_weight_mean=mean weight" --measure "policy/sampler_ratio_max=largest ratio" \
    --title "Importance weights at threshold 0"

PYTHON=$python sh $here/hard.sh
