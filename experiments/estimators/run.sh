#!/bin/sh
# Likelihood estimators, and objectives, at equal compute.
# About 40 minutes on one core, after experiments/start.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/estimators runs=runs/experiments
sh experiments/start.sh
for sweep in likelihoods objectives; do
    "$python" -m igpo_lightning experiment=hard_exploration sweep=$sweep "hydra.sweep.dir=$runs/$sweep"
done
"$python" experiments/compare.py "$runs/likelihoods" $here --results likelihoods --budget compute \
    --baseline "mean field" --name likelihood=mean_field="mean field" \
    --name likelihood=elbo=ELBO --name likelihood=coupled=coupled --name likelihood=trajectory=trajectory \
    --measure "policy/grad_norm=gradient norm" --title "Estimators of the likelihood, objective of IGPO"
"$python" experiments/compare.py "$runs/objectives" $here --results objectives --budget compute \
    --baseline IGPO --name objective=igpo=IGPO --name objective=grpo="GRPO (token ratio)" \
    --name objective=dapo=DAPO --name objective=wd1=wd1 \
    --measure "policy/grad_norm=gradient norm" --title "Objectives, mean-field likelihood, hints for all"
