"""stage=tokenizer: train a tokenizer on generated problems and lay out an untrained tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from igpo_lightning.data.generated import GENERATORS
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import render_prompt, render_trace
from igpo_lightning.data.sources import load_problems
from igpo_lightning.data.synthetic import arithmetic_sft_example
from igpo_lightning.models.tiny import TinyConfig
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.settings import Settings, TokenizerStage
from igpo_lightning.settings.data import WORDINGS


def run(config: Settings) -> dict[str, Any]:
    """Write tokenizer files and config.json to stage.output."""
    stage, prompt = config.stage, config.prompt
    assert isinstance(stage, TokenizerStage)
    texts: list[str] = []
    for problem in _examples(config, stage.examples):
        rendered = render_trace(problem, prompt.completion)
        assert rendered is not None
        texts += [render_prompt(problem.question, prompt.user), rendered[0]]
    tokenizer = train_tokenizer(texts, stage.vocab_size, stage.split_digits)
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


def _examples(config: Settings, count: int) -> list[Problem]:
    """Problems with traces: of the embedded task, or puzzles in every wording."""
    data = config.data
    if data.name in GENERATORS:
        wordings = (replace(data, wording=wording) for wording in WORDINGS[data.name])
        return [p for source in wordings for p in load_problems(source)[:count]]
    return [
        arithmetic_sft_example(
            i, seed=config.seed, levels=data.levels, terse_share=[], progress=1.0
        )
        for i in range(count)
    ]
