#!/bin/sh
# SFT on rewritten traces against SFT on the original, long ones, then GRPO and IGPO from each.
# About 45 minutes on one core. Finished runs are skipped when it is started again.
set -eu
python=${PYTHON:-python} output=runs/experiments/rewriting
run="$python -m igpo_lightning"

if [ ! -f "$output/rewritten/train.jsonl" ]; then
    "$python" experiments/rewriting/make_long_traces.py "$output"
    $run stage=rewrite rewriter=extractive data=jsonl data.name=rewritten \
        "data.path=$output/original/train.jsonl" data.validation_share=0 data.overlap=ignore \
        stage.max_tokens=47 "stage.output=$output/rewrite"
    mkdir -p "$output/rewritten"
    cp "$output/original/test.jsonl" "$output/rewritten/test.jsonl"
    cp "$output/rewrite/rewritten.train.jsonl" "$output/rewritten/train.jsonl"
fi

# Equal steps, problems, seeds and starting policy; every trace fits whole into the 128 tokens of SFT.
$run -m experiment=length_aligned_sft model=tiny trainer=cpu data=jsonl data.name=rewritten,original \
    "data.path='$output/\${data.name}/{split}.jsonl'" prompt=none data.overlap=ignore \
    sampler.completion_length=48 sampler.block_length=8 sampler.steps=24 sampler.temperature=1.0 \
    stage.max_length=128 stage.padding=longest stage.eos_tail=6 stage.steps=300 stage.batch_size=64 \
    stage.train_batch_size=64 stage.val_every=300 optimizer.lr=1e-3 optimizer.warmup_steps=20 \
    optimizer.grad_norm=1.0 optimizer.decay_share=0.3 optimizer.weight_decay=0.01 "optimizer.betas=[0.9,0.99]" \
    stage.val_limit=256 eval.limit=null prompt.max_length=600 \
    "seed=range(5)" "hydra.sweep.dir=$output/sft" "hydra.sweep.subdir='\${data.name}_\${seed}'"
for traces in rewritten original; do
    policy="model.path='$output/sft/${traces}_\${seed}/export'"
    for length in 48 128; do
        $run -m stage=eval "$policy" "data.levels=[3]" eval.limit=256 "seed=range(5)" \
            sampler.completion_length=$length sampler.steps=$((length / 2)) \
            "hydra.sweep.dir=$output/evaluation"
    done
    $run -m experiment=hard_exploration "$policy" inpaint=none,partial "seed=range(5)" \
        "hydra.sweep.dir=$output/rl"
done

"$python" experiments/compare.py "$output/evaluation" --into experiments/rewriting --results sft \
    --baseline "original traces, 48 tokens" \
    --name "*rewritten_*=48*=rewritten traces, 48 tokens" \
    --name "*rewritten_*=128*=rewritten traces, 128 tokens" \
    --name "*original_*=48*=original traces, 48 tokens" \
    --name "*original_*=128*=original traces, 128 tokens"
"$python" experiments/compare.py "$output/rl" --into experiments/rewriting --results rl \
    --baseline "rewritten, GRPO" --title "RL after SFT on rewritten or original traces" \
    --name "*rewritten_*inpaint=none=rewritten, GRPO" \
    --name "*rewritten_*inpaint=partial=rewritten, IGPO" \
    --name "*original_*inpaint=none=original, GRPO" \
    --name "*original_*inpaint=partial=original, IGPO"
