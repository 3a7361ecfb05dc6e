"""stage=tokenizer: train the embedded tokenizer and lay out the untrained embedded model."""

from pathlib import Path
from typing import Any

from igpo_lightning.data.prompts import render_prompt, render_trace
from igpo_lightning.data.synthetic import arithmetic_sft_example
from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import Settings, TokenizerStage


def run(config: Settings) -> dict[str, Any]:
    """Write tokenizer files and config.json to stage.output."""
    stage, prompt = config.stage, config.prompt
    assert isinstance(stage, TokenizerStage)
    texts: list[str] = []
    for i in range(stage.examples):
        problem = arithmetic_sft_example(
            i, seed=config.seed, levels=config.data.levels, terse_share=[], progress=1.0
        )
        rendered = render_trace(problem, prompt.completion)
        assert rendered is not None
        texts += [render_prompt(problem.question, prompt.user), rendered[0]]
    tokenizer = train_tokenizer(texts, stage.vocab_size)
    tokenizer.save_pretrained(stage.output)
    sizes = TinyConfig(
        # A multiple of 8 keeps the head's matrix product aligned.
        vocab_size=-(-len(tokenizer) // 8) * 8,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=stage.hidden_size,
        num_hidden_layers=stage.layers,
        num_attention_heads=stage.heads,
        intermediate_size=stage.intermediate_size,
        initializer_range=stage.initializer_range,
    )
    sizes.save_pretrained(stage.output)
    print(f"tokenizer with {len(tokenizer)} tokens and config.json in {Path(stage.output)}")
    return {"tokens": len(tokenizer)}
