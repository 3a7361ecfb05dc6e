"""Tokens and passes of block-causal sampling against the public samplers.

Every case, number and shape comes from the folder of reference values. Its sequences include the
prompt but for LLaDA 2's. The public samplers also write the last block's keys and values, which
nobody reads: ours makes one pass less.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.diffusion import SamplerConfig, denoise
from tests.golden_backbones import load_golden

pytestmark = pytest.mark.shared
Case = tuple[str, re.Match[str]]


@pytest.fixture
def root(shared_golden: Path) -> Path:
    return shared_golden / "backbones"


@cache
def load(root: Path, folder: str, block: str | int = "own", eos: int | None = None) -> Any:
    """The checkpoint, read once for all cases that set it up alike."""
    return load_golden(root, folder, block, eos)


def sampler_values(root: Path, folder: str) -> dict[str, torch.Tensor]:
    return load_file(root / folder / "sampler.safetensors")


def cases(values: dict[str, torch.Tensor], pattern: str) -> list[Case]:
    found = [(name, match) for name in values if (match := re.fullmatch(pattern, name))]
    assert found
    return found


def whole_blocks(length: int, block: int) -> int:
    return -(-length // block) * block


def sample(
    model: Any, prompts: torch.Tensor, total: int, part: int, steps: int, **options: Any
) -> tuple[torch.Tensor, list[int]]:
    """Tokens of all rows in one batch, and each row's passes when it is alone.

    The completion is the most whole parts that end within `total` tokens; `steps` is per part.
    """
    length = (total - prompts.shape[1]) // part * part
    config = SamplerConfig(
        completion_length=length, block_length=part, steps=length // part * steps, **options
    )
    alone = [denoise(model, row[None], config) for row in prompts]
    together = denoise(model, prompts, config)
    for i, row in enumerate(alone):
        assert torch.equal(row.completion_ids[0], together.completion_ids[i])
        assert torch.equal(row.unmask_step[0], together.unmask_step[i])
    return together.completion_ids, [row.forward_passes for row in alone]


def rule(match: re.Match[str]) -> dict[str, Any]:
    """The rule that a case's name says, with its threshold or bound."""
    name = match["rule"].removeprefix("low_confidence_")
    if name.startswith("entropy_bounded"):
        return {"entropy_bound": float(name.removeprefix("entropy_bounded"))}
    if name.startswith("dynamic"):
        return {"confidence_threshold": float(name.removeprefix("dynamic"))}
    return {"remasking": {"static": "low_confidence", "sequential": "sequential"}[name]}


RULE = r"(?P<rule>(?:low_confidence_)?(?:static|sequential|(?:dynamic|entropy_bounded)[\d.]+))"
SDAR = rf"(?P<ragged>ragged_)?{RULE}_?(?:_block)(?P<block>\d+)_steps(?P<steps>\d+)"


@pytest.mark.parametrize("folder", ["sdar", "sdar_moe"])
def test_sdar(root: Path, folder: str) -> None:
    values = sampler_values(root, folder)
    for name, match in cases(values, SDAR):
        expected, block = values[name], int(match["block"])
        prompts = values.get(f"{name}_prompts", values.get("prompts"))
        assert prompts is not None
        if match["ragged"]:
            prompts = prompts[:, : ragged_length(root)]
        model = load(root, folder, block)
        tokens, passes = sample(
            model, prompts, expected.shape[1], block, int(match["steps"]), **rule(match)
        )
        wanted = expected[:, prompts.shape[1] :][:, : tokens.shape[1]]
        assert torch.equal(tokens, wanted), name
        if f"{name}_nfe" in values:
            assert [n + 1 for n in passes] == values[f"{name}_nfe"].tolist(), name


def ragged_length(root: Path) -> int:
    """Tokens of a ragged prompt, which the README alone says."""
    match = re.search(r"`ragged_\*` uses `prompts\[:, :(\d+)\]`", (root / "README.md").read_text())
    assert match
    return int(match[1])


def test_sdar_stops_after_a_block_with_the_stop_token(root: Path) -> None:
    """What the public sampler leaves masked is EOS here."""
    values = sampler_values(root, "sdar")
    stop, expected = int(values["stop_id_row0"]), values["stop_row0"]
    prompt = values["prompts"][:1]
    model = load(root, "sdar", eos=stop)
    length = len(expected) - prompt.shape[1]
    block = model.block_size
    config = SamplerConfig(
        completion_length=length, block_length=block, steps=length, stop_after_eos=True
    )
    tokens = denoise(model, prompt, config).completion_ids[0]
    wanted = expected[prompt.shape[1] :]
    done = wanted != model.mask_token_id
    assert done.any()
    assert not done.all()
    assert torch.equal(tokens[done], wanted[done])
    assert tokens[~done].eq(stop).all()


def test_dreamreasoner(root: Path) -> None:
    values = sampler_values(root, "dreamreasoner")
    pattern = rf"prompt\d+_{RULE}_block(?P<block>\d+)_steps(?P<steps>\d+)"
    for name, match in cases(values, pattern):
        expected, prompts, block = values[name], values[f"{name}_prompts"], int(match["block"])
        model = load(root, "dreamreasoner", block)
        tokens, passes = sample(
            model, prompts, expected.shape[1], block, int(match["steps"]), **rule(match)
        )
        wanted = expected[:, prompts.shape[1] :][:, : tokens.shape[1]]
        assert torch.equal(tokens, wanted), name
        assert [n + 1 for n in passes] == values[f"{name}_nfe"].tolist(), name


def test_fast_dllm(root: Path) -> None:
    """The last token of a sequence is read in the pass that ours does not make.

    With the block cache the last pass over a block leaves what parts of it are run over.
    """
    values = sampler_values(root, "fast_dllm_v2")
    pattern = STOP_CASE.pattern + r"(?P<cached>_blockcache)?"
    for name, match in cases(values, pattern):
        expected, prompts, sub = values[name], values[f"{name}_prompts"], int(match["sub"])
        model = load(root, "fast_dllm_v2", int(match["block"]))
        options: dict[str, Any] = {"confidence_threshold": float(match["threshold"])}
        if match["cached"] and sub < model.block_size:
            options["cache"] = "dual"  # one part is the whole block, whose passes are the same
        tokens, passes = sample(model, prompts, expected.shape[1] - 1, sub, sub, **options)
        wanted = expected[:, prompts.shape[1] :][:, : tokens.shape[1]]
        assert torch.equal(tokens, wanted), name
        assert [n + 1 for n in passes] == values[f"{name}_nfe"].tolist(), name


def test_fast_dllm_stops_at_the_stop_token(root: Path) -> None:
    values = sampler_values(root, "fast_dllm_v2")
    for name, _ in cases(values, r"stop_row\d+"):
        expected, prompt = values[name], values[f"{name}_prompt"][None]
        found = fast_dllm_stopping(root, int(values[f"{name}_id"]), prompt, values)
        assert expected[prompt.shape[1] :].tolist() in found, name


def fast_dllm_stopping(
    root: Path, stop: int, prompt: torch.Tensor, values: dict[str, torch.Tensor]
) -> Iterator[list[int]]:
    """Completions of any of the cases: a name does not say which of them it is."""
    for match in {match.groups(): match for _, match in cases(values, STOP_CASE.pattern)}.values():
        model = load(root, "fast_dllm_v2", int(match["block"]), eos=stop)
        config = SamplerConfig(
            completion_length=4 * model.block_size,
            block_length=int(match["sub"]),
            steps=4 * model.block_size,
            confidence_threshold=float(match["threshold"]),
            stop_after_eos=True,
        )
        tokens = denoise(model, prompt, config).completion_ids[0].tolist()
        yield tokens[: tokens.index(stop) + 1] if stop in tokens else tokens


STOP_CASE = re.compile(
    r"prompt\d+_threshold(?P<threshold>[\d.]+)_block(?P<block>\d+)_sub(?P<sub>\d+)"
)


def test_llada2(root: Path) -> None:
    """Its own sampler keeps no cache: ours makes one pass more for the prompt and for each block
    but the last, and none of them runs more than a block or the prompt."""
    values = sampler_values(root, "llada2")
    pattern = r"(?:ragged_)?threshold(?P<threshold>[\d.]+)_block(?P<block>\d+)_steps(?P<steps>\d+)"
    for name, match in cases(values, pattern):
        expected, prompts, block = values[name], values[f"{name}_prompts"], int(match["block"])
        model = load(root, "llada2", block)
        options = {"confidence_threshold": float(match["threshold"])}
        total = prompts.shape[1] + expected.shape[1]
        tokens, passes = sample(model, prompts, total, block, int(match["steps"]), **options)
        assert torch.equal(tokens, expected[:, : tokens.shape[1]]), name
        prefix = prompts.shape[1] // block
        blocks = whole_blocks(total, block) // block - prefix
        extra = bool(prefix) + blocks - 1
        assert [n - extra for n in passes] == values[f"{name}_nfe"].tolist(), name


def test_llada2_stops_after_a_block_with_eos(root: Path) -> None:
    values = sampler_values(root, "llada2")
    pattern = r"threshold(?P<threshold>[\d.]+)_block(?P<block>\d+)_steps(?P<steps>\d+)"
    for name, _ in cases(values, r"eos_row\d+"):
        expected, prompt = values[name], values[f"{name}_prompt"][None]
        configs = []
        for key, match in cases(values, pattern):
            block, length = int(match["block"]), values[key].shape[1]
            steps = length // block * int(match["steps"])
            threshold = float(match["threshold"])
            configs.append(
                SamplerConfig(
                    *(length, block, steps), confidence_threshold=threshold, stop_after_eos=True
                )
            )
        found = llada2_stopping(root, int(values[f"{name}_id"]), prompt, configs)
        assert expected.tolist() in (tokens[: len(expected)] for tokens in found), name


def llada2_stopping(
    root: Path, eos: int, prompt: torch.Tensor, configs: list[SamplerConfig]
) -> Iterator[list[int]]:
    """Completions of any of the cases: a name does not say which of them it is."""
    for config in dict.fromkeys(configs):
        model = load(root, "llada2", config.block_length, eos=eos)
        yield denoise(model, prompt, config).completion_ids[0].tolist()


def test_llada2_edits_what_it_has_committed(root: Path) -> None:
    """LLaDA 2.1: one more pass for the prompt and each block but the last, as above."""
    values = load_file(root / "llada2" / "sampler_edit.safetensors")
    for name, match in cases(values, EDIT_CASE.pattern):
        expected, prompts, block = values[name], values[f"{name}_prompts"], int(match["block"])
        model = load(root, "llada2", block)
        total = prompts.shape[1] + expected.shape[1]
        tokens, passes = sample(model, prompts, total, block, block, **editing(match))
        assert torch.equal(tokens, expected[:, : tokens.shape[1]]), name
        extra = total // block - (prompts.shape[1] // block) - 1 + bool(prompts.shape[1] // block)
        extra += bool(total % block)
        assert [n - extra for n in passes] == values[f"{name}_nfe"].tolist(), name


def editing(match: re.Match[str]) -> dict[str, Any]:
    options = {
        "confidence_threshold": float(match["threshold"]),
        "edit_threshold": float(match["edit"]),
    }
    return options | ({"edit_passes": int(match["post"])} if match["post"] else {})


EDIT_CASE = re.compile(
    r"(?:ragged_)?threshold(?P<threshold>[\d.]+)_edit(?P<edit>[\d.]+)_block(?P<block>\d+)"
    r"(?:_post(?P<post>\d+))?"
)


def test_llada2_stops_after_an_edited_block_with_eos(root: Path) -> None:
    values = load_file(root / "llada2" / "sampler_edit.safetensors")
    for name, _ in cases(values, r"eos(?:_early)?_row\d+"):
        row = name.removeprefix("eos_early_").removeprefix("eos_")
        expected, prompt = values[name], values[f"eos_{row}_prompt"][None]
        configs = []
        for key, match in cases(values, EDIT_CASE.pattern):
            block, length = int(match["block"]), values[key].shape[1]
            config = SamplerConfig(length, block, length, stop_after_eos=True, **editing(match))
            configs.append(config)
        found = llada2_stopping(root, int(values[f"eos_{row}_id"]), prompt, configs)
        assert expected.tolist() in (tokens[: len(expected)] for tokens in found), name
