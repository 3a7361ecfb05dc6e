#!/bin/sh
# igpo_fast against igpo_paper from the starts of hard_exploration, ten seeds, the two in turns and timed on one thread.
# About 45 minutes on one core; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/igpo_fast runs=runs/experiments
start="model.path='$runs/start/experiment=bare_answers,seed=\${seed}/export'"
"$python" -m igpo_lightning -m experiment=bare_answers "seed=range(10)" "hydra.sweep.dir=$runs/start"
for seed in 0 1 2 3 4 5 6 7 8 9; do
    "$python" experiments/timed.py "$runs/hard/igpo_paper_$seed" experiment=hard_exploration "seed=$seed"
    "$python" experiments/timed.py "$runs/hard/igpo_fast_$seed" experiment=igpo_fast model=tiny data=arithmetic \
        trainer=cpu stage.eval_sampled=false "$start" "seed=$seed"
done
"$python" experiments/compare.py "$runs/hard" --into $here --results hard --budget compute --baseline igpo_paper \
    --name "*igpo_fast*=igpo_fast" --name "*=igpo_paper" --seconds \
    --measure "passes/rollout=passes of a step's rollouts" --measure "compute/rollout=tokens of its rollouts" \
    --measure "compute/update=tokens of its updates" --measure "rollout/drift_mean=drift of the cache" \
    --measure "rollout/drift_joint=joint drift" --title "The starts of hard_exploration, ten seeds"
"$python" $here/curve.py
