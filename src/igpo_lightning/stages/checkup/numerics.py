"""Whether the device computes what a CPU computes, and the sampler what the plain loop does."""

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.paired_inputs import dense_layout, encode_noised, paired_layout
from igpo_lightning.diffusion.plain import keyed_draws, plain_denoise
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.loading import ARCHITECTURES, NATIVE, bundled_config
from igpo_lightning.models.masked_lm import TransformersBackbone, load_transformers
from igpo_lightning.models.special_tokens import token_ids
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.settings import SamplerConfig
from igpo_lightning.stages.checkup.finding import FAILED, OK, SKIPPED, Finding, Site

VOCAB = 97
# Sizes that stand in for those of a public config.json, under every name that one of them has.
SMALL = {
    **dict.fromkeys(("hidden_size", "d_model"), 64),
    **dict.fromkeys(("intermediate_size", "mlp_hidden_size"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_kv_heads"), 2),
    **dict.fromkeys(("vocab_size", "embedding_size"), VOCAB),
    **dict.fromkeys(("init_std", "initializer_range"), 0.2),
    **{"head_dim": 16, "moe_intermediate_size": 32},
    # All experts work on each token: bfloat16 would choose others than float32 in near ties.
    **{"num_experts": 4, "num_experts_per_tok": 4, "n_group": 1, "topk_group": 1},
}
TOKENS = {"mask_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
# Norm of the difference over the norm. float32 keeps 24 bits and bfloat16 8; TF32 would keep 11.
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 0.1}


def small_backbones() -> Iterator[tuple[str, BackboneModule]]:
    """A small random backbone of every native architecture whose config.json is bundled."""
    tiny: dict[str, Any] = TinyConfig().to_dict() | {"model_type": TinyConfig.model_type}
    raws = {"tiny": tiny} | {
        file.stem: bundled_config(file.stem) for file in sorted(ARCHITECTURES.glob("*.json"))
    }
    for name, raw in raws.items():
        small = raw | {key: size for key, size in SMALL.items() if key in raw} | TOKENS
        read, build = NATIVE[small["model_type"]]
        model = build(read(small), token_ids(name, {"config.json": small}), small)
        model.initialize(torch.Generator().manual_seed(0))
        yield name, model.eval()


def small_transformers() -> Iterator[tuple[str, BackboneModule]]:
    """Two random models that transformers computes: a masked LM, and GPT-2 with full attention."""
    depth = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    shared = {"vocab_size": VOCAB, "initializer_range": 0.2, **TOKENS}
    raws: tuple[dict[str, Any], ...] = (
        {"model_type": "bert", "hidden_size": 64, "max_position_embeddings": 32} | depth | shared,
        {"model_type": "gpt2", "n_embd": 64, "n_positions": 32, "n_layer": 2, "n_head": 4}
        | shared
        | {"bos_token_id": 1},
    )
    for raw in raws:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = load_transformers("", raw, torch.float32, True, False, "none")
        tokens = token_ids(raw["model_type"], {"config.json": raw})
        yield raw["model_type"], TransformersBackbone(body, raw, tokens, shifted=False).eval()


def _inputs(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Token ids and mask [3, 24]; the second row is padded."""
    ids = torch.randint(3, VOCAB, (3, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :5] = False
    return ids.to(device), mask.to(device)


@torch.no_grad()
def deviation(model: BackboneModule, device: torch.device, dtype: torch.dtype) -> float:
    """Of the logits on a device from those of the CPU in float64, relative to their norm."""
    ids, mask = _inputs()
    expected = copy.deepcopy(model).double()(ids, mask)[mask]
    moved = copy.deepcopy(model).to(device, dtype)
    given = moved(ids.to(device), mask.to(device)).cpu().double()[mask]
    return float((given - expected).norm() / expected.norm())


def logits(site: Site) -> Finding:
    """Every backbone in float32 and bfloat16 on the device, against the CPU in float64."""
    numbers: dict[str, float] = {}
    worst: dict[str, float] = {}
    wrong, models = [], 0
    for name, model in chain(small_backbones(), small_transformers()):
        models += 1
        for dtype, allowed in ALLOWED.items():
            kind = str(dtype).removeprefix("torch.")
            far = numbers[f"{name} {kind}"] = deviation(model, site.device, dtype)
            worst[kind] = max(worst.get(kind, 0.0), far)
            if not far <= allowed:
                wrong.append(f"{name} {kind} {far:.1e}")
    if wrong:
        fix = "update the driver and torch; leave TF32 off (torch.backends.cuda.matmul.allow_tf32)"
        return Finding(FAILED, f"too far from the CPU: {', '.join(wrong)}", fix, numbers)
    said = ", ".join(f"{far:.1e} in {kind}" for kind, far in worst.items())
    return Finding(OK, f"{models} architectures deviate by at most {said}", numbers=numbers)


def _noised_scores(model: BackboneModule, layout: Any, device: torch.device) -> tuple[Tensor, ...]:
    """Logits at every second token, masked, and the gradient of their sum of squares."""
    ids, mask = _inputs(device)
    noised = ids.clone()
    noised[:, ::2] = TOKENS["mask_token_id"]
    hidden = encode_noised(model, noised, ids, mask, layout(mask, model.block_size))
    logits = model.project(hidden)[mask]
    torch.autograd.backward(logits.float().square().mean())
    gradient = next(model.parameters()).grad
    assert gradient is not None
    return tuple(tensor.detach().cpu().double() for tensor in (logits, gradient))


def block_masks(site: Site) -> Finding:
    """Block-causal training on the device, FlexAttention on a GPU, against the CPU's dense mask."""
    numbers: dict[str, float] = {}
    for name, model in small_backbones():
        if getattr(model, "block_size", None) is None:
            continue
        expected = _noised_scores(copy.deepcopy(model).double(), dense_layout, torch.device("cpu"))
        moved = copy.deepcopy(model).to(site.device)
        given = _noised_scores(moved, paired_layout, site.device)
        far = (float((a - b).norm() / b.norm()) for a, b in zip(given, expected, strict=True))
        numbers[f"{name} logits"], numbers[f"{name} gradient"] = far
    worst = max(numbers.values())
    if not worst <= ALLOWED[torch.float32]:
        wrong = ", ".join(f"{name} {far:.1e}" for name, far in numbers.items())
        fix = "update torch and its triton; report it with doctor.json"
        return Finding(FAILED, f"too far from a dense mask: {wrong}", fix, numbers)
    said = f"{len(numbers) // 2} block-causal models deviate by at most {worst:.1e}, gradients too"
    return Finding(OK, said, numbers=numbers)


SAMPLER = SamplerConfig(completion_length=32, block_length=16, steps=16)


def sampler_model(device: torch.device) -> TinyBackbone:
    """Small, with logits so far apart that rounding decides nothing."""
    config = TinyConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=96,
        initializer_range=0.3,
    )
    model = TinyBackbone(config)
    model.initialize(torch.Generator().manual_seed(0))
    model.train(False)
    torch.nn.Module.to(model, device)  # that of transformers hides its arguments from type checks
    return model


def sampler(site: Site) -> Finding:
    """Tokens of the fast sampler against the published loop, greedy and drawn, on the device."""
    model, keys = sampler_model(site.device), row_keys([1, 2, 3], site.device)
    ids, mask = _inputs(site.device)
    equal = {}
    for temperature in (0.0, 1.0):
        config = replace(SAMPLER, temperature=temperature)
        ours = denoise(model, ids, config, prompt_mask=mask, keys=keys).completion_ids
        plain, _ = plain_denoise(
            model,
            ids,
            prompt_mask=mask,
            completion_length=config.completion_length,
            block_length=config.block_length,
            steps=config.steps,
            draws=keyed_draws(keys, config.completion_length),
            temperature=temperature,
        )
        equal[f"temperature {temperature:g}"] = float((ours == plain).float().mean())
    said = ", ".join(f"{share:.1%} at {name}" for name, share in equal.items())
    if min(equal.values()) < 1:
        fix = "report it: the tokens must be equal where no two scores tie to the last bit"
        return Finding(FAILED, f"equal tokens: {said}", fix, equal)
    return Finding(OK, f"tokens equal to the plain loop's: {said}", numbers=equal)


def _compiled(site: Site, choice: str) -> Finding:
    model = sampler_model(site.device)
    ids, mask = _inputs(site.device)
    plain, compiled = (
        denoise(model, ids, config, prompt_mask=mask).completion_ids
        for config in (SAMPLER, replace(SAMPLER, compile=choice))
    )
    equal = float((plain == compiled).float().mean())
    if equal < 1:
        fix = "set sampler.compile=none"
        return Finding(FAILED, f"{equal:.1%} of the tokens are equal", fix, {"equal": equal})
    return Finding(OK, "gives the same tokens", numbers={"equal": equal})


def compiling(site: Site) -> Finding:
    """sampler.compile=default gives the same tokens."""
    if not site.on_gpu and shutil.which("g++") is None and shutil.which("clang++") is None:
        return Finding(SKIPPED, "torch.compile needs a C++ compiler on CPUs, and there is none")
    return _compiled(site, "default")


def graphs(site: Site) -> Finding:
    """sampler.compile=cuda_graphs gives the same tokens."""
    if not site.on_gpu:
        return Finding(SKIPPED, "CUDA graphs need a GPU, and the checks run on the CPU")
    return _compiled(site, "cuda_graphs")
