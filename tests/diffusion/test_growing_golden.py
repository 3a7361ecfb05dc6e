"""iLLaDA's generation, growing and whole, against the public sampler."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.diffusion import SamplerConfig, denoise
from tests.golden_backbones import load_golden

pytestmark = pytest.mark.shared


@pytest.fixture
def values(shared_golden: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_golden / "backbones" / "illada" / "sampler.safetensors")


def test_growing_and_whole_canvas(shared_golden: Path, values) -> None:
    """`var` cases count steps per block, `canvas` cases in all."""
    model, prompts = load_golden(shared_golden / "backbones", "illada"), values["prompts"]
    seen = set()
    for name, expected in values.items():
        match = re.fullmatch(r"(var|canvas)_steps(\d+)_block(\d+)", name)
        if not match:
            continue
        kind, steps, block = match[1], int(match[2]), int(match[3])
        seen.add(kind)
        length = expected.shape[1] - prompts.shape[1]
        if kind == "var":
            steps *= length // block
        canvas = "growing" if kind == "var" else "whole"
        config = SamplerConfig(length, block, steps, canvas=canvas)
        tokens = denoise(model, prompts, config).completion_ids
        assert torch.equal(tokens, expected[:, prompts.shape[1] :]), name
    assert seen == {"var", "canvas"}


def test_it_stops_after_the_block_with_the_stop_token(shared_golden: Path, values) -> None:
    names = [name for name in values if re.fullmatch(r"var_stop_row\d+", name)]
    assert names
    prompts = values["prompts"]
    cases = [re.fullmatch(r"var_steps(\d+)_block(\d+)", name) for name in values]
    for name in names:
        expected, row = values[name], int(name.removeprefix("var_stop_row"))
        stop, found = int(values[f"{name}_id"]), []
        for match in filter(None, cases):
            steps, block = int(match[1]), int(match[2])
            length = values[match[0]].shape[1] - prompts.shape[1]
            model = load_golden(shared_golden / "backbones", "illada", eos=stop)
            config = SamplerConfig(length, block, length // block * steps, canvas="growing")
            out = denoise(model, prompts[row : row + 1], config)
            kept = len(expected) - prompts.shape[1]
            tokens = out.completion_ids[0]
            if tokens[kept:].eq(stop).all():
                found.append(tokens[:kept].tolist())
        # The name does not say which of the cases it is.
        assert expected[prompts.shape[1] :].tolist() in found, name


def test_the_end_of_thinking_is_pushed(shared_golden: Path, values) -> None:
    model, prompts = load_golden(shared_golden / "backbones", "illada"), values["prompts"]
    pattern = r"var_think([\d-]+)_boost([\d.]+)_power([\d.]+)_steps(\d+)_block(\d+)"
    cases = [(name, match) for name in values if (match := re.fullmatch(pattern, name))]
    assert cases
    for name, match in cases:
        length, block = values[name].shape[1] - prompts.shape[1], int(match[5])
        config = SamplerConfig(
            length,
            block,
            int(match[4]) * length // block,
            canvas="growing",
            think_ids=tuple(int(token) for token in match[1].split("-")),
            think_boost=float(match[2]),
            think_power=float(match[3]),
        )
        tokens = denoise(model, prompts, config).completion_ids
        assert torch.equal(tokens, values[name][:, prompts.shape[1] :]), name
        plain = replace(config, think_ids=())
        assert not torch.equal(tokens, denoise(model, prompts, plain).completion_ids)
