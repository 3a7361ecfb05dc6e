#!/bin/sh
# SFT on rewritten traces against SFT on the long ones: equal steps, data, model and seeds.
#   experiments/rewriting/run.sh [OUTPUT [STEPS [SEEDS]]]
# Prints one line a run; OUTPUT/KIND_SEED/summary.json holds it too.
set -eu
output=${1:-runs/rewriting} steps=${2:-3000} seeds=${3:-"0 1 2"}
python=${PYTHON:-python}

"$python" experiments/rewriting/make_long_traces.py "$output"
"$python" -m igpo_lightning stage=rewrite rewriter=extractive data=jsonl data.name=short \
    "data.path=$output/long/train.jsonl" data.validation_share=0 data.overlap=ignore \
    "model.path=$output/student" stage.max_tokens=32 "stage.output=$output/short"
mv "$output/short/short.train.jsonl" "$output/short/train.jsonl"
cp "$output/long/test.jsonl" "$output/short/test.jsonl"

for seed in $seeds; do
    for kind in short long; do
        # Long traces have at most 52 tokens: all of them fit, the answer included.
        "$python" -m igpo_lightning stage=sft data=jsonl "data.name=$kind" prompt=none \
            "data.path='$output/$kind/{split}.jsonl'" data.validation_share=0.02 data.overlap=ignore \
            "model.path=$output/student" model.init=random logger=csv "seed=$seed" \
            sampler.completion_length=56 sampler.block_length=56 sampler.steps=28 \
            "stage.steps=$steps" "stage.val_every=$steps" "stage.checkpoint_every=$steps" \
            optimizer.lr=3e-3 optimizer.warmup_steps=50 optimizer.decay_share=0.2 \
            optimizer.weight_decay=0.01 optimizer.grad_norm=1.0 eval.batch_size=256 \
            "hydra.run.dir=$output/${kind}_$seed"
        printf '%s seed %s: ' "$kind" "$seed"
        cat "$output/${kind}_$seed/summary.json"
    done
done
