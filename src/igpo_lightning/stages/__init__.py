"""One file a stage, reading as the list of what it does; build.py turns config into objects."""

from importlib import import_module
from typing import Any

from omegaconf import DictConfig

_FILES = {
    "rl": "reinforce",
    "sft": "finetune",
    "sft_then_rl": "sft_then_rl",
    "eval": "evaluate",
    "generate": "generate",
    "inspect": "inspect",
    "tokenizer": "tokenizer",
}


def run(config: DictConfig) -> dict[str, Any] | None:
    """Run the configured stage; returns its headline numbers."""
    module = import_module(f"igpo_lightning.stages.{_FILES[config.stage.name]}")
    result: dict[str, Any] | None = module.run(config)
    return result
