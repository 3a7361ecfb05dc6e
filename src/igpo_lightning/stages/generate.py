"""stage=generate: one prompt in, text out, with the order of unmasking in colour."""

from typing import Any

import torch

from igpo_lightning.data.prompts import encode_chat
from igpo_lightning.diffusion.noise import row_keys, stable_seed
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.errors import ConfigError
from igpo_lightning.inpainting.hints import FREE
from igpo_lightning.reporting.unmasking import print_unmasking
from igpo_lightning.settings import GenerateStage, Settings
from igpo_lightning.stages import build


def hint_tensor(hint_ids: list[int], position: int, length: int) -> torch.Tensor:
    """Hints [1, C] with the given tokens at a position.

    Raises:
        ConfigError: They do not fit into the completion.
    """
    if position + len(hint_ids) > length:
        raise ConfigError(
            f"stage.hint has {len(hint_ids)} tokens: with stage.hint_position={position} it is "
            f"longer than the completion, sampler.completion_length={length}; shorten it"
        )
    hints = torch.full((1, length), FREE)
    hints[0, position : position + len(hint_ids)] = torch.tensor(hint_ids)
    return hints


def run(config: Settings) -> dict[str, Any]:
    """Print one completion; returns prompt and text."""
    build.quiet_libraries()
    stage, length = config.stage, config.sampler.completion_length
    assert isinstance(stage, GenerateStage)
    tokenizer = build.build_tokenizer(config)
    hints = None
    if stage.hint is not None:
        hint_ids = tokenizer(stage.hint, add_special_tokens=False)["input_ids"]
        hints = hint_tensor(hint_ids, stage.hint_position, length)
    prompt = config.prompt
    ids = encode_chat(stage.prompt, prompt.user, tokenizer, prompt.chat, prompt.prefill)
    prompt_ids = torch.tensor([ids])
    model = build.build_backbone(config)
    output = denoise(
        model,
        prompt_ids,
        config.evaluation_sampler,
        hint_ids=hints,
        keys=row_keys([stable_seed(config.seed, "generate", stage.prompt)]),
    )
    text = print_unmasking(output, tokenizer, model.eos_token_id)
    return {"prompt": stage.prompt, "text": text}
