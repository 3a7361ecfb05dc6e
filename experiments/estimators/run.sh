#!/bin/sh
# Likelihood estimators, objectives, and left-to-right rollouts, at equal compute.
# About 65 minutes on one core, after experiments/common.sh; finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} here=experiments/estimators runs=runs/experiments
sh experiments/common.sh
"$python" -m igpo_lightning -m experiment=hard_exploration likelihood.kind=elbo,coupled,trajectory \
    likelihood.coupling=antithetic "seed=range(5)" "hydra.sweep.dir=$runs/likelihoods"
"$python" -m igpo_lightning -m experiment=hard_exploration likelihood.kind=elbo \
    likelihood.coupling=antithetic objective.kl=k2 "seed=range(5)" "hydra.sweep.dir=$runs/likelihoods_k2"
"$python" -m igpo_lightning -m experiment=hard_exploration objective=grpo,dapo,wd1 "seed=range(5)" \
    "hydra.sweep.dir=$runs/objectives"
"$python" -m igpo_lightning -m experiment=hard_left_to_right "seed=range(5)" "hydra.sweep.dir=$runs/left_to_right"
"$python" -m igpo_lightning -m experiment=hard_left_to_right inpaint=partial filter.kind=entropy "seed=range(5)" \
    "hydra.sweep.dir=$runs/left_to_right"
"$python" experiments/compare.py "$runs/likelihoods" "$runs/likelihoods_k2" "$runs/igpo" --into $here --results likelihoods \
    --budget compute --baseline "mean field" --name "=mean field" --name "*elbo*k2=ELBO, k2" --name "*elbo*=ELBO" \
    --name "*coupled*=coupled" --name "*trajectory*=trajectory" \
    --measure "policy/grad_norm=gradient norm" --title "Estimators of the likelihood, objective of IGPO"
"$python" experiments/compare.py "$runs/objectives" "$runs/igpo" --into $here --results objectives \
    --budget compute --baseline IGPO --name "=IGPO" --name "*=grpo=GRPO (token ratio)" \
    --name "*=dapo=DAPO" --name "*=wd1=wd1" \
    --measure "policy/grad_norm=gradient norm" --title "Objectives, mean-field likelihood, hints for all"
"$python" experiments/compare.py "$runs/igpo" "$runs/left_to_right" --into $here --results left_to_right \
    --budget compute --baseline IGPO --name "*hard_exploration*=IGPO" --name "*partial*=igpo_just_grpo" \
    --name "*hard_left*=just_grpo" --measure "policy/grad_norm=gradient norm" \
    --title "IGPO beside left-to-right rollouts with exact likelihoods"
