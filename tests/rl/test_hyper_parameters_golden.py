"""Hyper-parameters of the presets against those of the public code, from the folder's README."""

import re

import pytest
from golden_methods import FOLDER

from igpo_lightning.settings import Settings
from tests.composing import composed

pytestmark = pytest.mark.shared

SECTIONS = {  # preset -> how the heading of its section begins
    "igpo_paper": "igpo",
    "igpo_released": "igpo",
    "diffu_grpo": "diffu_grpo",
    "wd1": "wd1",
    "spg": "spg",
    "espo": "espo",
    "coupled_grpo": "coupled_grpo",
    "gdpo": "gdpo",
    "tracerl": "tracerl",
    "just_grpo": "justgrpo",
    "cj_grpo": "dare_cj_grpo",
    "bgpo": "dare_cj_grpo",
    "ebpo": "dare_cj_grpo",
}
NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
PATTERNS = {
    "lr": rf"\blr {NUMBER}",
    "betas": rf"\bbetas {NUMBER}/{NUMBER}",
    "weight decay": rf"\bwd {NUMBER}",
    "gradient norm": rf"\bgrad norm {NUMBER}",
    "mu": rf"\bmu {NUMBER}",
    "G": rf"\b(?:G|group|(?:prompts|tasks) x) {NUMBER}",
    "prompts": rf"{NUMBER} (?:groups a step|prompts a step|prompts x|tasks x)",
    "temperature": rf"\btemperature {NUMBER}",
    "C": rf"\bC {NUMBER}",
    "block": rf"\bblock {NUMBER}",
    "denoising steps": rf"\bC \d+(?:,| with)(?: block \d+,)? {NUMBER} steps",
    "epsilon": rf"\beps {NUMBER}",
    "KL": rf"\bbeta {NUMBER}",
}


def published(preset: str) -> dict[str, tuple[float, ...]]:
    """What the section's line of defaults says."""
    sections = re.split(r"^## ", (FOLDER / "README.md").read_text(encoding="utf-8"), flags=re.M)
    heading = SECTIONS[preset]
    section = next(s for s in sections if re.match(rf"{heading}\b", s))
    line = re.search(r"\bDefaults\b.*", section).group()
    matches = {name: re.search(pattern, line) for name, pattern in PATTERNS.items()}
    found = {n: tuple(map(float, m.groups())) for n, m in matches.items() if m is not None}
    if "no KL" in line:
        found["KL"] = (0.0,)
    if preset in ("bgpo", "ebpo"):  # of the three methods of the section
        longer = re.search(rf"BGPO and EBPO math {NUMBER}", line)
        found["C"] = (float(longer[1]),)
    if preset == "spg":  # has no KL: its beta is that of the upper bound
        del found["KL"]
    found["LoRA"] = (float("all weights" not in line),)
    return found


def own(preset: str) -> dict[str, tuple[float, ...]]:
    """The same of the preset."""
    config: Settings = composed(f"experiment={preset}")
    optimizer, stage, sampler = config.optimizer, config.stage, config.sampler
    objective = config.objective
    # JustGRPO bounds the sum over a GPU's prompts, of which the loss here is the mean.
    summed = stage.prompts_per_step / config.trainer.devices if preset == "just_grpo" else 1
    return {
        "lr": (optimizer.lr,),
        "betas": tuple(optimizer.betas),
        "weight decay": (optimizer.weight_decay,),
        "gradient norm": (optimizer.grad_norm * summed,),
        "mu": (stage.inner_updates,),
        "G": (stage.group_size,),
        "prompts": (stage.prompts_per_step,),
        "temperature": (sampler.temperature,),
        "C": (sampler.completion_length,),
        "block": (sampler.block_length,),
        "denoising steps": (sampler.steps,),
        "epsilon": (objective.clip_low,),
        "KL": (objective.beta,),
        "LoRA": (float(config.model.lora.enabled),),
    }


@pytest.mark.parametrize("preset", SECTIONS)
def test_a_preset_has_the_hyper_parameters_of_its_source(preset: str) -> None:
    """All that the line gives; what it leaves out is the base's, or the other sources'."""
    expected, found = published(preset), own(preset)
    assert {"lr", "G"} <= expected.keys()
    assert {name: found[name] for name in expected} == expected
